#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Everything that happens to mailboxes, replicated from the rolling log: step by step,
# and then by the daemon sync_client -r while things happen.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences run_all);
use CBTest::Site;
use Test::More;

my $site = CBTest::Site->new(users => [qw(alice frank)]);
run_all($site, 'rolling', 'alice', 'frank');

subtest 'sync_client -r at work' => sub {
    my $daemon = $site->start_rolling('tcp');
    my $imap = $site->imap_as('frank');
    for my $round (1 .. 4) {
        $imap->must(create => "INBOX.r$round");
        $imap->must(subscribe => "INBOX.r$round");
        $site->deliver('frank', map { CBTest::Imap::message() } 1 .. 10);
        $imap->must(select => 'INBOX');
        $imap->must(store => '1:5', $round % 2 ? '+FLAGS' : '-FLAGS', '(\\Flagged)');
        $imap->must(copy => '1:3', "INBOX.r$round");
        $imap->must('unselect');
        $site->wait_rolling($daemon);
    }
    $imap->must(rename => 'INBOX.r1', 'INBOX.r5');
    $imap->must(delete => 'INBOX.r2');
    $site->wait_rolling($daemon);
    is($site->stop_rolling($daemon), 0, 'it ends when asked to');
    for my $user (qw(alice frank)) {
        my @d = eval { differences($site, $user) };
        no_differences("$user: both sides equal", @d, $@ ? $@ : ());
    }
    my $r = $site->sync('proxy', '-A');
    my @unwanted = CBTest::Scenarios::unwanted(@{ $r->{commands} });
    ok(!@unwanted, 'nothing was left to send') or diag(CBTest::Relay::excerpt(@unwanted));
};
memory_ok($site);
done_testing;
