#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A client that remembers what the server had (sync_cache_db_path) does not ask about it again. So what
# it uploads may be for somebody whom no GET has named: it gets there, and nowhere else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences foreign_mail);
use CBTest::Feed qw(message);
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use File::Temp qw(tempdir);
use Test::More;

my $OK = 'OK Success';
my $CHECKSUM = 'NO IMAP_SYNC_CHECKSUM Checksum Failure';
my $dir = tempdir('cbtest-cache-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0777, $dir or die;
my $site = CBTest::Site->new(users => ['alice', 'bob'],
    options => { imap => { sync_cache_db_path => "$dir/cache.db" } });

sub synced
{
    my ($label, $asked, @args) = @_;
    my $r = $site->sync('proxy', @args);
    is($r->{rc}, 0, $label);
    my @lines = map { $_->{line} } @{ $r->{commands} };
    is_deeply([map { /^GET (.*)/ ? $1 : () } @lines], $asked, 'it asked for no more than it had to')
        or diag(CBTest::Relay::excerpt(@{ $r->{commands} }));
    is(scalar(grep { $_->{line} =~ /^APPLY MAILBOX/ && $_->{reply} ne $OK } @{ $r->{commands} }), 0,
        'nothing was refused');
    for my $user ('alice', 'bob', '%SHARED') {
        my @d = eval { (differences($site, $user), foreign_mail($site, $user)) };
        no_differences("$user: both sides equal, and no mail of others", @d, $@ ? $@ : ());
    }
    return;
}

sub arrives
{
    my (@users) = @_;
    for my $user (@users) {
        if ($user =~ /shared/) {
            $site->admin->append($user, CBTest::Imap::message());
        } else {
            $site->deliver($user, CBTest::Imap::message());
        }
    }
    return;
}

for my $name ('ashared', 'zshared') {
    $site->admin->must(create => $name);
    $site->admin->must(setacl => $name, 'admin', 'lrswipkxtecda');
}

subtest 'all of a server' => sub {
    arrives('alice', 'bob', 'ashared', 'zshared');
    synced('for the first time', ['MAILBOXES (ashared)', 'USER alice', 'USER bob', 'MAILBOXES (zshared)'], '-A');
    arrives('alice', 'bob', 'ashared', 'zshared');
    synced('and again', ['USER alice', 'USER bob'], '-A');
};

subtest 'mailboxes of two users' => sub {
    arrives('alice', 'bob');
    $site->imap_as('bob')->must(create => 'INBOX.new');
    $site->imap_as('bob')->append('INBOX.new', CBTest::Imap::message());
    synced('one of them is new', ['MAILBOXES (user.bob.new)'], '-m', 'user.alice', 'user.bob.new', 'user.bob');
    arrives('alice', 'bob', 'zshared');
    synced('none is new', [], '-m', 'user.bob', 'user.alice', 'zshared', 'user.bob.new');
};

# A client that does not even say so in RESERVE: then its upload cannot have been meant for whom it
# was taken, and it has to begin anew.
subtest 'an upload that went elsewhere' => sub {
    my ($c, $d) = map { $site->backup_csync } 1 .. 2;
    my $box = CBTest::Feed->new(mboxname => 'user.carol');
    $box->append(message('first'));
    $box->sync($c);
    $c->command('RESTART');
    my $since = $box->{modseq};
    $box->append(message('second'));
    my @delta = (since => $since, since_modseq => $since, since_crc => 0, since_crc_annot => 0);
    $c->get('USER dave');
    is($c->command($box->upload($since))->{text}, $OK, 'content, while dave is the only one asked for');
    is($c->command($box->apply(@delta))->{text}, $CHECKSUM, 'a mailbox of carol refers to it');
    is($c->get('MAILBOXES (user.carol)')->{MAILBOX}, undef, 'carol is not listed');
    $c->command('RESTART');
    $c->get('MAILBOXES (user.carol)');
    is($c->command($box->upload(0))->{text}, $OK, 'all content');
    is($c->command($box->apply)->{text}, $OK, 'all records');
    is_deeply([sort split /\n/, $site->cyr_backup('carol', 'list', 'messages')->{out}],
        [sort keys %{ $box->{bodies} }], 'both messages are there');
    is($d->get('USER carol')->{MAILBOX}[0]{SYNC_CRC}, $box->crc, 'it is listed as it is');
};
memory_ok($site);
done_testing;
