#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A data file copied with cp while it is written, without its index and without any lock,
# opens at its last commit.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state crc_differences);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus run_cmd start_cmd reap sha1_hex slurp);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep);

my $folders = 40;
my $site = CBTest::Site->new(users => ['alice']);
my $imap = $site->imap_as('alice');
for my $f (1 .. $folders) {
    $imap->must(create => "INBOX.f$f");
    $imap->append("INBOX.f$f", CBTest::Imap::message(body => CBTest::Imap::noise(20_000 + 500 * $_, $f * 100 + $_)))
        for 1 .. 10;
}
my $copies = "$site->{dir}/backup/copies";
run_cmd(cmd => [as_cyrus('mkdir', $copies)]);

# Run a sync and copy the data file again and again meanwhile; returns the copies, one per size.
my $serial = 0;
sub copy_during_sync
{
    my (@how) = @_;
    my $pid = start_cmd(env => $site->env,
        cmd => [as_cyrus('/usr/lib/cyrus/bin/sync_client', '-C', $site->{imap}->conf, '-o', '-n', @how)]);
    my (%size, $rc);
    while (1) {
        last if waitpid($pid, POSIX::WNOHANG()) == $pid;
        my $file = $site->data_file('alice');
        if (!$file) {
            sleep 0.001;
            next;
        }
        my $copy = sprintf '%s/copy%d', $copies, ++$serial;
        run_cmd(cmd => [as_cyrus('cp', $file, $copy)], tmp => $site->{dir});
        $size{ -s $copy // 0 } = $copy;
    }
    $rc = $? >> 8;
    is($rc, 0, 'the sync itself succeeds');
    $site->note_memory;
    return map { $size{$_} } sort { $a <=> $b } keys %size;
}

# Every mailbox of a copy is as the client sent it, and no record is other than in the end.
sub check_copies
{
    my ($what, @files) = @_;
    my $final = backup_state($site, 'alice');
    my %last = map { $_->{uniqueid} => $_ } @{ $final->{mailboxes} };
    my $n = @files < 15 ? @files : 15;
    my @picked = map { $files[ int($_ * @files / $n) ] } 0 .. $n - 1;
    my %states;
    for my $copy (@picked) {
        subtest "$what, copy of " . (-s $copy) . ' bytes' => sub {
            my $r = $site->cyr_backup('-f', $copy, 'json', 'all');
            is($r->{rc}, 0, 'opens') or diag($r->{err});
            my $state = eval { CBTest::Compare::decode($r->{out}) };
            ok($state, 'JSON') or diag($@);
            my @d = crc_differences($state // {});
            my $guid;
            for my $m (@{ $state->{mailboxes} // [] }) {
                my %now = map { $_->{uid} => $_ } @{ $last{ $m->{uniqueid} }{records} };
                for my $rec (@{ $m->{records} }) {
                    $guid = $rec->{guid};
                    push @d, "$m->{mboxname} uid $rec->{uid}: never was like this"
                        if !$now{ $rec->{uid} } || $now{ $rec->{uid} }{guid} ne $guid;
                }
                my $uids = @{ $m->{records} };
                push @d, "$m->{mboxname}: $uids records up to uid $m->{last_uid}" if $uids != $m->{last_uid};
            }
            if ($guid) {
                my $dump = $site->cyr_backup('-f', $copy, 'dump', 'message', $guid);
                push @d, "content of $guid cannot be read: $dump->{err}" if sha1_hex($dump->{out}) ne $guid;
            }
            no_differences('the state is one that was committed', @d);
            $states{ scalar @{ $state->{mailboxes} // [] } } = 1;
        };
    }
    note("$what: " . @files . ' sizes seen, mailboxes in them: ' . join ' ', sort { $a <=> $b } keys %states);
    return scalar keys %states;
}

my @first = copy_during_sync('unix', '-u', 'alice');
my $different = check_copies('first sync', @first);
ok($different > 1, 'the copies caught different states');

for my $f (1 .. $folders) {
    $imap->must(select => "INBOX.f$f");
    $imap->must(store => '1:10', '+FLAGS', '(\\Seen $touched)');
    $imap->must('unselect');
    $imap->append("INBOX.f$f", CBTest::Imap::message(body => CBTest::Imap::noise(30_000, $f)));
}
my @second = copy_during_sync('proxy', '-u', 'alice');
check_copies('changes', @second);
memory_ok($site);
done_testing;
