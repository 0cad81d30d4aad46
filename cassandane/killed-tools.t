#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# ctl_backups is killed, with all its processes, before a system call that changes something on the disk:
# each pwrite, ftruncate, fsync, rename, link, unlink of compact, reindex, move, move -A, delete, undelete,
# rename, reconstruct and of a verify that mends, those of SQLite among them. Afterwards there is the old state or
# the new one, and nothing is lost; the next run does what the first was to do, leaves nothing
# behind, verify is content, and at the end the backup is what IMAP says.
# (What a machine that stops makes of unsynced writes is cunit/test_lcb_*crash.c.)
#
# By default some calls of each, chosen by KILL_SEED; CYRUS_BACKUPS_LONG=1: every one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(backup_state differences);
use CBTest::Damage;
use CBTest::Files;
use CBTest::Imap;
use CBTest::Scenarios qw(no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus program run_cmd slurp spew);
use JSON;
use Test::More;

my $each = $ENV{CYRUS_BACKUPS_LONG} ? 1_000_000 : 8;    # calls that are tried, of each command
my $seed = $ENV{KILL_SEED} // time;
srand $seed;
note("KILL_SEED=$seed");

my $site = CBTest::Site->new(users => ['alice'], options => { backup => { backup_retention => '1s',
    'backuppartition-two' => '%dir%/part2', partition_select_exclude => 'two' } });
my $dir = $site->{backup}{dir};
my $c = CBTest::Case->new(site => $site, user => 'alice');
my $conf = $site->{backup}->conf;

# ---- a small backup of which much is dead ----------------------------------------------------------

my @script = ('main', "keep;\r\nstop;\r\n");
for my $step (
    sub { $c->{imap}->append('INBOX', CBTest::Imap::message(subject => $_)) for qw(one two) },
    sub { $c->{imap}->must(create => 'INBOX.Work'); $c->{imap}->must(subscribe => 'INBOX.Work') },
    sub { $c->{imap}->append('INBOX.Work', CBTest::Imap::message(subject => $_)) for qw(three four) },
    sub { $c->expunge('Work', 1) },
    sub { my $s = $site->sieve_as('alice'); $s->put(@script); $s->activate('main') },
    sub { $c->{imap}->must(select => 'INBOX'); $c->{imap}->must(store => '1', '+flags', '(\\Flagged)') },
    )
{
    $step->();
    is($site->sync('unix', '-u', 'alice')->{rc}, 0, 'sync');
}
my @places = ("$dir/part", "$dir/part2", "$dir/conf/backups.db");
my $first = CBTest::Files->new(@places);

sub ctl { return $site->ctl_backups(@_) }

# What compaction may forget is left out.
sub state_of
{
    my ($user) = @_;
    my $state = eval { backup_state($site, $user) } // return "no state: $@";
    $_->{records} = [grep { !$_->{expunged} } @{ $_->{records} }] for @{ $state->{mailboxes} };
    return JSON->new->canonical->encode($state);
}

# Names below the partitions, the random part left out.
sub names
{
    return join ' ', sort map { s{^\Q$dir\E/}{}r =~ s/_\w{6}\b/_XXXXXX/r =~ s/\d{9,}/TIME/r =~ s/-(?:shm|wal)\z//r }
        grep { !/-(?:shm|wal)\z/ } CBTest::Files->new("$dir/part", "$dir/part2")->all;
}

# ---- killing --------------------------------------------------------------------------------------------

my @calls = qw(pwrite64 pwritev ftruncate fallocate fsync fdatasync rename renameat renameat2 link linkat
    unlink unlinkat mkdir);
my $set = join ',', map { "?$_" } @calls;
my $trace = "$site->{dir}/trace";

# Run it under strace, killed before call K of that name. All calls that the process made that made most
# of them: [name, number].
sub traced
{
    my ($call, @words) = @_;
    # who looks for leaks cannot be traced
    local $ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (), 'detect_leaks=0';
    my @inject = $call ? ('-e', "inject=$call->[0]:signal=KILL:when=$call->[1]") : ();
    my $r = run_cmd(tmp => $site->{dir}, env => $site->env, timeout => 60, cmd => [as_cyrus('strace', '-f', '-q',
        '-e', "trace=$set", @inject, '-o', $trace, program('ctl_backups'), '-C', $conf, @words)]);
    my (%by, %count);
    for (split /\n/, slurp($trace) // '') {
        push @{ $by{$1} }, [$2, ++$count{"$1 $2"}] if /^(\d+) +(\w+)\(/;
        $r->{killed}++ if /\+\+\+ killed by SIGKILL/;
    }
    $r->{calls} = (sort { @{$b} <=> @{$a} } values %by)[0] // [];
    return $r;
}

sub chosen
{
    my @all = @_;
    my @picked;
    push @picked, splice @all, int rand @all, 1 while @all && @picked < $each;
    return @picked;
}

# One that is wrong is said; all that are right are one test.
my $bad;

sub must
{
    my ($where, $ok, @why) = @_;
    return if $ok;
    $bad++;
    fail($where);
    diag(map { substr $_, 0, 500 } @why);
    return;
}

# before: what to do first. run: the words. after: what must be so then. again: what an administrator
# does next (always: without a kill, too). rc, verify: exit codes at the end. litter: a file may be left.
my %user = (rename => 'zoe');

sub try_all
{
    my ($name, %case) = @_;
    my $user = $user{$name} // 'alice';
    $first->restore;
    $case{before}->() if $case{before};
    my $start = CBTest::Files->new(@places);
    my $old = state_of('alice');
    my $r = traced(undef, @{ $case{run} });
    my @calls = @{ $r->{calls} };
    is($r->{rc}, $case{rc} // 0, "$name: without a kill") or diag("$r->{out}$r->{err}");
    $case{again}->() if $case{always};
    my ($new, $names) = (state_of($user), names());
    unlike($new, qr/^no state/, "$name: what comes of it") or diag($new);
    my @k = chosen(@calls);
    my $killed = $bad = 0;
    for my $k (@k) {
        my $where = "$name, killed before @{$k}";
        $start->restore;
        $r = traced($k, @{ $case{run} });
        $killed += ($r->{killed} // 0) > 0;
        $case{after}->($where, $old, $new) if $case{after};
        $case{again}->($where);
        must("$where: the state in the end", state_of($user) eq $new, 'got ', state_of($user), "\nwanted ", $new);
        must("$where: files", names() eq $names, names(), "\nwanted $names\n$r->{out}$r->{err}") if !$case{litter};
        my $v = ctl('verify', '--dry-run', $user);
        must("$where: verify", $v->{rc} == ($case{verify} // 0), "$v->{out}$v->{err}");
    }
    # How many there are is not always the same, so the last of them may not come.
    ok($killed > 0.5 * @k, "$name: " . @calls . " calls, killed before $killed of " . @k);
    ok(!$bad, "$name: nothing was lost");
    return;
}

sub again_ok
{
    my ($where, @words) = @_;
    my $r = ctl(@words);
    must(($where // 'again') . ": @words again", $r->{rc} == 0, "$r->{out}$r->{err}");
    return;
}

# The same before and after.
sub unchanged
{
    my ($where, $old) = @_;
    my $is = state_of('alice');
    must("$where: the state", $is eq $old, 'got ', $is, "\nwanted ", $old);
    return;
}

sub finish
{
    my ($name) = @_;
    is($site->sync('unix', '-u', 'alice')->{rc}, 0, "$name: a sync");
    no_differences("$name: both sides equal", eval { differences($site, 'alice', full => 1, compacted => 1) }, $@ || ());
    return;
}

try_all('compact', run => ['compact', '-F', 'alice'], after => \&unchanged,
    again => sub { again_ok($_[0], 'compact', '-F', 'alice') });
finish('compact');
try_all('reindex', run => ['reindex', 'alice'], after => \&unchanged,
    again => sub { again_ok($_[0], 'reindex', 'alice') });
finish('reindex');
try_all('move', run => ['move', '--to=two', 'alice'], after => \&unchanged,
    again => sub { again_ok($_[0], 'move', '--to=two', 'alice') });
finish('move');

# ---- records of backups.db ------------------------------------------------------------------------------

# Deleted or not, and in no way both; then it comes back.
sub bring_back
{
    my ($where) = @_;
    my $list = ctl('list', '--deleted');
    if (state_of('alice') =~ /^no state/) {
        must(($where // '') . ': it is among the deleted', $list->{out} =~ /alice/, $list->{out}, $list->{err});
        again_ok($where, 'undelete', 'alice');
    } else {
        must(($where // '') . ': it is not among the deleted', $list->{out} !~ /alice/, $list->{out});
    }
    again_ok($where, 'delete', 'alice');
    again_ok($where, 'undelete', 'alice');
    again_ok($where, 'delete', '--expired');    # what was left goes
    return;
}
try_all('delete', run => ['delete', 'alice'], always => 1, again => \&bring_back);
finish('delete');
try_all('undelete', before => sub { ctl('delete', 'alice') }, run => ['undelete', 'alice'], again => \&bring_back);
finish('undelete');
# Another name of the same file, or an empty file, may be left, which reconstruct tells of.
try_all('rename', litter => 1, run => ['rename', 'alice', 'zoe'], again => sub {
    my ($where) = @_;
    my $is = state_of('zoe');
    again_ok($where, 'rename', 'alice', 'zoe') if $is =~ /^no state/;
});
try_all('reconstruct', before => sub { unlink "$dir/conf/backups.db" }, run => ['reconstruct'],
    again => sub { again_ok($_[0], 'reconstruct') });
finish('reconstruct');

# ---- a verify that mends --------------------------------------------------------------------------------

$first->restore;
my $d = CBTest::Damage->new($site, 'alice');
my ($m) = grep { $_->{commit} } @{ $d->{members} };
try_all('verify', run => ['verify', 'alice'], rc => 75, verify => 75,
    before => sub { $d->flip($d->{file}, int(($m->{at} + $m->{end}) / 2)) },
    again => sub { my $r = ctl('verify', 'alice'); must("$_[0]: again", $r->{rc} == 75, $r->{out}) });
finish('verify');
is(ctl('verify', 'alice')->{rc}, 0, 'after which verify is content');

# ---- partitions that are made alike ---------------------------------------------------------------------

# Two is a disk of its own, so small that what lies on it goes to the other.
my ($uid, $gid) = (getpwnam 'cyrus')[2, 3];
mkdir "$dir/part2";
run_cmd(cmd => [qw(mount -t tmpfs -o), "size=8m,uid=$uid,gid=$gid,mode=0755", 'cbtest', "$dir/part2"])->{rc} == 0
    or die "cannot mount a file system at $dir/part2: run this as root\n";
END { local $?; run_cmd(cmd => ['umount', '-l', "$dir/part2"]) if $dir }
try_all('balance', run => ['move', '-A'], after => \&unchanged,
    before => sub {
        again_ok('balance', 'move', '--to=two', 'alice');
        delete $site->{backup}{options}{partition_select_exclude};
        $site->{backup}->write_config;
    },
    # Where it is by then is no matter of balance, so what was left of it waits for the nightly run.
    again => sub { again_ok($_[0], @{$_}) for ['move', '-A'], ['compact', 'alice'] });
unlike(names(), qr/part2/, 'balance: nothing is on the small one any more');
finish('balance');
done_testing;
