#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# ctl_backups and cyr_backup where nothing can be written: a partition that is full to the last byte, and
# one that is read-only. What only reads, verify among it, says what it said before; what has to write
# fails, says why, and has changed nothing; and from a full partition a backup can be moved away. The
# indexes are without the -shm that SQLite would make for a reader, as move leaves them, or a copy.
# (trouble.t is about backupd in such surroundings.)
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Scenarios qw(no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus run_cmd);
use Test::More;

my @users = ('alice', 'b#b');
my @backups = (@users, '%SHARED');
my $site = CBTest::Site->new(users => [@users, 'eve'], options => { backup => {
    'backuppartition-small' => '%dir%/small', partition_select_exclude => 'small' } });
my $dir = "$site->{backup}{dir}/small";
my ($uid, $gid) = (getpwnam 'cyrus')[2, 3];
run_cmd(cmd => [as_cyrus('mkdir', '-p', $dir)]);
run_cmd(cmd => [qw(mount -t tmpfs -o), "size=1m,uid=$uid,gid=$gid,mode=0755", 'cbtest', $dir])->{rc} == 0
    or die "cannot mount a file system at $dir: run this as root\n";
END { local $?; run_cmd(cmd => ['umount', '-l', $dir]) if $dir }

sub remount
{
    my ($how) = @_;
    is(run_cmd(cmd => ['mount', '-o', "remount,$how", $dir])->{rc}, 0, "remounted $how");
    return;
}

for my $user (@users) {
    my $imap = $site->imap_as($user);
    $imap->append('INBOX', CBTest::Imap::message()) for 1 .. 5;
    is($site->sync('unix', '-u', $user)->{rc}, 0, "$user: synced");
    $imap->must(create => 'INBOX.Work');
    is($site->sync('unix', '-u', $user)->{rc}, 0, "$user: and once more");
}

$site->admin->must(create => 'news');
is($site->sync('unix', '-m', 'news')->{rc}, 0, 'shared: synced') for 1, 2;

sub ctl { return $site->ctl_backups(@_) }
sub files { return join ' ', map { "$_:" . -s } sort grep { !m{/filler\d?$|-(?:shm|wal)$} } glob "$dir/*/*" }

# Neither a WAL nor what goes with it.
sub bare { return !grep { /-(?:shm|wal)$/ } glob "$dir/*/*" }

my @questions = (
    (map { my $user = $_; map { ['cyr_backup', $user, @{$_}] } ['list', 'all'], ['json', 'all'], ['log'],
        ['list', 'mailboxes', '--as-of=now'], ['dump', 'mailbox', 'user.alice'] } @backups),
    (map { ['ctl_backups', @{$_}] } ['list'], ['stat', '-A'], ['-j', 'stat', '-A'], ['list', '-f', glob "$dir/*/*_??????"],
        ['verify', '-A'], ['compact', '--dry-run', '-A']));

# Asked while nobody else is at it.
sub answers
{
    return { map { my ($program, @args) = @{$_}; my $r = $site->$program(@args);
        ("@{$_}" =~ s{/\S+/small/\S+}{FILE}gr => "exit $r->{rc}: $r->{out}$r->{err}" =~ s{/\S+/(?:small|part)/\S+}{FILE}gr) }
        @questions };
}

sub moved_in
{
    is(ctl('move', "--to=small", $_)->{out}, "move $_: ok\n", "$_: moved to the small partition") for @backups;
    ok(bare(), 'its index stands alone');
    return;
}

my $said = answers();
like($said->{'ctl_backups verify -A'}, qr/^exit 0: .*^verify alice: ok$/ms, 'all is well at first');

subtest 'a full partition' => sub {
    moved_in();
    isnt(run_cmd(cmd => ['dd', 'if=/dev/zero', "of=$dir/filler", 'bs=1k'])->{rc}, 0, 'filled');
    # room for a reader to begin with a WAL, and not for what belongs to it
    truncate "$dir/filler", (-s "$dir/filler") - 16384 or die "filler: $!";
    my $before = files();
    is_deeply(answers(), $said, 'the answers are those of before');
    run_cmd(cmd => ['dd', 'if=/dev/zero', "of=$dir/filler2", 'bs=1k']);
    is_deeply(answers(), $said, 'and when there is no byte left');
    for my $user (@backups) {
        my $r = ctl('-F', 'compact', $user);
        # somebody else could be at it, for all one can know of an index that is used alone
        like($r->{out}, qr/^compact \Q$user\E: (?:failed \(No space left on device\)|locked)$/, "compact $user");
        is($r->{rc}, 75, "compact $user: exit code");
        is(ctl('reindex', $user)->{out}, "reindex $user: failed (database error, see syslog)\n", "reindex $user");
    }
    is(files(), $before, 'nothing has changed');
    $site->imap_as('alice')->append('INBOX', CBTest::Imap::message());
    isnt($site->sync('unix', '-u', 'alice')->{rc}, 0, 'backupd has the client come again');
    is_deeply(answers(), $said, 'the answers are the same after that');
    is(ctl('move', '--to=default', $_)->{out}, "move $_: ok\n", "$_ can be moved away")
        for reverse @backups; # the one whose index has a WAL as soon as there is room again
    is_deeply(answers(), $said, 'and that is all that has changed');
    is(files(), '', 'nothing is left on it');
    unlink "$dir/filler", "$dir/filler2";
};

subtest 'a read-only partition' => sub {
    moved_in();
    answers(); # from now on each has a WAL
    for my $index (glob "$dir/*/*.index") { # as whoever copies it would leave it
        is(run_cmd(cmd => [as_cyrus('sqlite3', $index, 'PRAGMA wal_checkpoint(TRUNCATE)')])->{rc}, 0, 'with nothing in it');
        is(-s "$index-wal" // 0, 0, 'really');
        unlink "$index-wal", "$index-shm";
    }
    remount('ro');
    my $before = files();
    is_deeply(answers(), $said, 'the answers are those of before');
    for my $user (@backups) {
        is(ctl(@{$_}, $user)->{out}, "$_->[0] $user: failed (Read-only file system)\n", "@{$_} $user")
            for ['compact', '-F'], ['reindex'], ['move', '--to=default'], ['delete'];
    }
    is(ctl('rename', 'alice', 'eve')->{out}, "rename alice: failed (Read-only file system)\n", 'rename');
    is(files(), $before, 'nothing has changed');
    is_deeply(answers(), $said, 'nor do the answers');
    remount('rw');
    is($site->sync('unix', '-u', $_)->{rc}, 0, "$_: a sync works again") for @users;
    no_differences("$_: both sides equal", differences($site, $_)) for @users;
};
done_testing;
