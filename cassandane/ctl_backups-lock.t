#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# ctl_backups lock: its protocol as a co-process over pipes, commands, sqlite3, waiting, making
# backups; that the lock is the one that backupd and stock programs take; that what is damaged
# can be locked; and the same words as Debian's program where the two agree.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::CSync;
use CBTest::Holder;
use CBTest::Master;
use CBTest::Site;
use CBTest::Util qw(as_cyrus program reap run_cmd slurp spew start_cmd wait_until);
use Fcntl qw(LOCK_EX LOCK_UN);
use IPC::Open3;
use IO::Select;
use Test::More;

my $DEBIAN = '/usr/lib/cyrus/bin';

my $theirs = CBTest::Master->new(options => { backup_db => 'twoskip', admins => 'admin',
    allowplaintext => 'yes', unixhierarchysep => 'no' });
$theirs->configure('backuppartition-default' => "$theirs->{dir}/part",
    backup_db_path => "$theirs->{dir}/conf/backups.db", backup_staging_path => "$theirs->{dir}/tmp");
$theirs->start(['backupd', 'backupd', "$theirs->{dir}/conf/backupd.sock", 'prefork=0']);
my $site = CBTest::Site->new(users => [qw(alice bob)], options => {
    imap => { debian_sync_host => "$theirs->{dir}/conf/backupd.sock" },
    backup => { backup_lock_wait => '0s', unixhierarchysep => 'no' } });
for my $user (qw(alice bob)) {
    $site->imap_as($user)->append('INBOX', "Subject: $user\r\n\r\ntext\r\n");
    is($site->sync($_, '-u', $user)->{rc}, 0, "$user to $_") for qw(tcp debian);
}
my %side = (
    ours => [$site->{backup}->conf, program('ctl_backups')],
    theirs => [$theirs->conf, "$DEBIAN/ctl_backups"],
);

sub command
{
    my ($side, @args) = @_;
    return as_cyrus($side{$side}[1], '-C', $side{$side}[0], @args);
}

sub run
{
    my ($side, @args) = @_;
    my %o = ref $args[0] ? %{ shift @args } : ();
    return run_cmd(cmd => [command($side, @args)], timeout => 60, %o);
}

sub data_file
{
    my ($side, $user) = @_;
    my $dir = $side{$side}[0] =~ s{/imapd.conf$}{}r;
    my $r = run_cmd(cmd => [as_cyrus("$DEBIAN/cyr_dbtool", '-C', $side{$side}[0],
        "$dir/conf/backups.db", 'twoskip', 'get', $user)]);
    return $r->{out} =~ s/\n//r;
}
my $alice = data_file('ours', 'alice');

# ---- the same words as Debian's ---------------------------------------------------------------

my @rows = (
    # arguments (FILE: the data file of alice; _ in a command: a blank), stdin
    ['lock alice', ''],
    ['lock -p alice', "any\nthing\n"],
    ['lock -m user.alice', ''],
    ['lock -u bob', ''],
    ['lock -f FILE', ''],
    ['lock nosuch', ''],
    ['lock -m user.nosuch', ''],
    ['lock -x true nosuch', ''],
    ['lock -f /nowhere/at/all', ''],
    ['lock -x true -f /nowhere/at/all', ''],
    ['lock -x cat alice', "to the command\n"],
    ['lock -x false alice', ''],
    ['lock alice -x exit_3', ''],
    ['lock -x kill_-9_$$ alice', ''],
    ['lock -x echo_out;echo_err_>&2 alice', ''],
    ['lock -x test_"$ctl_backups_lock_data_fname"_=_FILE_&&_test_"$ctl_backups_lock_index_fname"_=_FILE.index alice', ''],
    ['lock -s -f FILE', ".mode csv\nselect 1+1;\n"],
    ['lock', ''],
    ['lock -c -f FILE', ''],
    ['lock -x true -c -f FILE', ''],
);
sub both
{
    my ($row, $label, $before) = @_;
    my ($words, $stdin) = @{$row};
    my %r;
    for my $side (qw(ours theirs)) {
        my $file = data_file($side, 'alice');
        my @args = map { s/_(?!lock|data|index|fname|backups)/ /gr } split ' ', $words;
        s/FILE/$file/g for @args;
        my $held = $before ? $before->($file) : undef;
        my $r = $r{$side} = run($side, { input => $stdin }, @args);
        s/\Q$file\E/FILE/g for @{$r}{qw(out err)};
    }
    is($r{ours}{$_}, $r{theirs}{$_}, "$label$words: $_") for qw(out err rc);
    return $r{ours};
}
for my $row (@rows) {
    both($row, '');
}
# taken by another
both($_, 'taken: ', sub { CBTest::Holder->new($_[0]) })
    for ['lock alice', ''], ['lock -p -f FILE', ''], ['lock -x true alice', ''], ['lock -s alice', ''];

# ---- a co-process -----------------------------------------------------------------------------

# A line from a pipe, within reasonable time.
sub line_of
{
    my ($fh) = @_;
    my $line = '';
    while ($line !~ /\n\z/) {
        return "$line(nothing came)" unless IO::Select->new($fh)->can_read(30);
        sysread($fh, my $byte, 1) or return "$line(end)";
        $line .= $byte;
    }
    return $line;
}

sub coprocess
{
    my $pid = open3(my $to, my $from, undef, command('ours', @_));
    return { pid => $pid, to => $to, from => $from };
}

sub finish
{
    my ($c) = @_;
    close $c->{to} if $c->{to};
    my $rest = do { local $/; my $fh = $c->{from}; <$fh> };
    return reap($c->{pid}) . ($rest // '');
}

{
    my $c = coprocess('lock', '-p', 'alice');
    is(line_of($c->{from}), "* Trying to obtain lock on alice...\n", 'the first line can be read at once');
    is(line_of($c->{from}), "OK locked\n", 'and the second');
    ok(!CBTest::Holder::is_free($alice), 'now the data file is locked');
    my $r = $site->sync('tcp', '-u', 'alice');
    isnt($r->{rc}, 0, 'backupd finds it locked');
    is($site->sync('tcp', '-u', 'bob')->{rc}, 0, 'other users are backed up');
    is(run('ours', 'lock', 'alice')->{out}, "* Trying to obtain lock on alice...\nNO failed (Mailbox is locked)\n",
        'so does another of us');
    is(run('theirs', 'lock', '-f', $alice)->{out} =~ s/\Q$alice\E/X/r,
        "* Trying to obtain lock on X...\nNO failed (Mailbox is locked)\n", 'and a stock program');
    syswrite $c->{to}, "something\n" x 1000;
    ok(!CBTest::Holder::is_free($alice), 'what is written to it changes nothing');

    my $waiting = coprocess('lock', '-w', 'alice');
    is(line_of($waiting->{from}), "* Trying to obtain lock on alice...\n", 'with -w another waits');
    ok(!IO::Select->new($waiting->{from})->can_read(0), 'and has nothing to say');
    is(finish($c), '0', 'the end of stdin ends it, exit 0');
    is(line_of($waiting->{from}), "OK locked\n", 'then the other has it');
    kill KILL => $waiting->{pid};
    reap($waiting->{pid});
    ok(CBTest::Holder::is_free($alice), 'its death frees the lock');
    is($site->sync('tcp', '-u', 'alice')->{rc}, 0, 'backupd can work again');
}
{
    my $c = coprocess('lock', 'alice');
    line_of($c->{from}) for 1 .. 2;
    kill TERM => $c->{pid};
    reap($c->{pid});
    ok(CBTest::Holder::is_free($alice), 'TERM ends it, too');
}

# ---- the lock of those who work on the whole of it --------------------------------------------

# Somebody else is at it; reindex without -w says so, and with -w waits.
{
    my @verbs = (['-F', 'compact'], ['verify'], ['reindex'], ['delete']);
    open my $other, '<', $alice or die "$alice: $!\n";
    flock $other, LOCK_EX or die "flock: $!\n";
    for my $verb (@verbs) {
        my $r = run('ours', @{$verb}, 'alice');
        is("$r->{rc} $r->{out}$r->{err}", "75 $verb->[-1] alice: locked\n", "@{$verb}: locked");
    }
    is($site->sync('tcp', '-u', 'alice')->{rc}, 0, 'backupd does not mind');
    for my $verb (@verbs[0 .. 2]) {
        flock $other, LOCK_EX or die "flock: $!\n";
        my $c = coprocess('-w', @{$verb}, 'alice');
        is(line_of($c->{from}), "alice: waiting for lock\n", "-w @{$verb}: it says that it waits");
        ok(!IO::Select->new($c->{from})->can_read(0), 'and does');
        flock $other, LOCK_UN or die "flock: $!\n";
        is(finish($c), "0$verb->[-1] alice: ok\n", 'then it is done');
        $alice = (grep { !/\.(?:index|new)/ } glob $alice =~ s/_[^_]*$/_??????/r)[0];
        open $other, '<', $alice or die "$alice: $!\n";
    }
    # the lock of writers, waited for at the end
    my $holder = CBTest::Holder->new($alice);
    my $c = coprocess('-w', 'reindex', 'alice');
    is(line_of($c->{from}), "alice: waiting for lock\n", 'a writer is waited for, too');
    $holder->release;
    is(finish($c), "0reindex alice: ok\n", 'then it is done');
}

# ---- commands ---------------------------------------------------------------------------------

{
    my $r = run('ours', 'lock', '-x', "perl -e 'use lib \"$FindBin::Bin/lib\"; use CBTest::Holder;"
        . " print CBTest::Holder::is_free(shift) ? q(free) : q(locked)' \"\$ctl_backups_lock_data_fname\"", 'alice');
    is($r->{out}, 'locked', 'while the command runs the file is locked');
    # what the command leaves behind does not hold it
    $r = run('ours', 'lock', '-x', "sleep 1000 >/dev/null 2>&1 & echo \$! >$site->{dir}/backup/left", 'alice');
    my ($left) = (slurp("$site->{dir}/backup/left") // '') =~ /(\d+)/;
    ok($left && kill(0, $left), 'a command left a process');
    ok(CBTest::Holder::is_free($alice), 'which does not hold the lock');
    kill TERM => $left if $left;
    $r = run('ours', { input => "select count(*)>0 from chunks;\n" }, 'lock', '-s', 'alice');
    is("$r->{rc} $r->{out}", "0 1\n", 'sqlite3 on the index');
    is($r->{err}, "trying to obtain lock on alice...\nexeclp: sqlite3 $alice.index\n", 'and what is said');
    local $ENV{PATH} = '/nowhere';
    $r = run_cmd(cmd => [$side{ours}[1], '-C', $side{ours}[0], 'lock', '-s', 'alice']);
    is($r->{rc}, 75, 'no sqlite3: exit 75');
}

# ---- making backups ---------------------------------------------------------------------------

my $r = run('ours', 'lock', '-c', 'newuser');
is("$r->{rc} $r->{out}", "0 * Trying to obtain lock on newuser...\nOK locked\n", '-c makes a backup');
my $new = data_file('ours', 'newuser');
ok(-e $new && -z $new && -s "$new.index", 'with data file and index, in backups.db');
$r = run('ours', 'lock', '-c', 'newuser');
is("$r->{rc} $r->{out}", "75 * Trying to obtain lock on newuser...\nNO failed (Mailbox already exists)\n",
    'but not twice');
$r = run('ours', 'lock', '-c', '-x', 'true', 'alice');
is("$r->{rc} $r->{err}", "75 trying to obtain lock on alice...\nunable to lock alice: Mailbox already exists\n",
    'nor over another');
is(run('ours', 'lock', 'other')->{rc}, 75, 'without -c it must be there');
is(data_file('ours', 'other'), '', 'and is not made');
run('ours', 'lock', '-c', 'Third@internal');
is(data_file('ours', 'Third@internal'), '', 'a name is written as backupd would: the default domain goes');
ok(data_file('ours', 'Third'), 'and the rest stays');
for my $bad ('', '../../x', "a/../../b", '.hidden') {
    my $r = run('ours', 'lock', '-c', $bad);
    is($r->{rc}, 75, "'$bad' is no user id");
}
ok(!glob("$site->{dir}/backup/x*"), 'nothing was made elsewhere');
my $loose = "$site->{backup}{dir}/part/loose";
$r = run('ours', 'lock', '-c', '-f', $loose);
is("$r->{rc} $r->{out}", "0 * Trying to obtain lock on $loose...\nOK locked\n", '-c -f makes a file');
ok(-e $loose && -s "$loose.index", 'data and index');
is(run('ours', 'list', '-f', $loose)->{out}, "[unknown]\t0\t[unknown]\t$loose\n", 'that can be listed');
is(run('ours', 'list')->{out} =~ /loose/, '', 'but is not registered');
like(run('ours', 'lock', '-c', '-f', $loose)->{out}, qr/^NO failed \(Mailbox already exists\)$/m, 'not twice');
like(run('ours', 'lock', '-c', '-f', '/nowhere/x')->{out}, qr/^NO failed \(Mailbox does not exist\)$/m,
    'nor where there is no directory');
# A mail server can go on with it.
$site->add_user('newuser');
$site->create_mailboxes('newuser');
$site->imap_as('newuser')->append('INBOX', "Subject: new\r\n\r\nnew\r\n");
is($site->sync('tcp', '-u', 'newuser')->{rc}, 0, 'backupd writes to the new one');
ok(-s $new, 'the same file');

# ---- damaged ones -----------------------------------------------------------------------------

my $bob = data_file('ours', 'bob');
my $good = slurp($bob);
my $owner = (getpwnam 'cyrus')[2];
for my $damage (
    ['data garbage', sub { spew($bob, 'garbage' x 1000) }],
    ['data cut', sub { truncate $bob, length($good) / 2 }],
    ['data empty', sub { truncate $bob, 0 }],
    ['index garbage', sub { spew("$bob.index", 'garbage' x 1000) }],
    ['no index', sub { unlink "$bob.index", "$bob.index-wal", "$bob.index-shm" }])
{
    my ($what, $do) = @{$damage};
    $do->();
    my @before = (slurp($bob), slurp("$bob.index"));
    is(run('ours', 'lock', 'bob')->{out}, "* Trying to obtain lock on bob...\nOK locked\n", "$what: it can be locked");
    is_deeply([slurp($bob), slurp("$bob.index")], \@before, "$what: and stays as it is");
    spew($bob, $good);
}
unlink $bob;
is(run('ours', 'lock', 'bob')->{out}, "* Trying to obtain lock on bob...\nNO failed (Mailbox does not exist)\n",
    'what is gone cannot be locked');
done_testing;
