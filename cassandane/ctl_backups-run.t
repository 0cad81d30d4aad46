#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# How ctl_backups works on many backups: order, result lines, exit codes, -S, JSON, processes, one of
# them killed, output of any size, signals, the run lock; and as an event of Debian's master, which starts
# it with signals blocked. The verbs are those of ctl_backups_probe, which do as the name says.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Holder;
use CBTest::Master;
use CBTest::Util qw(as_cyrus program processes_of reap run_cmd slurp spew start_cmd wait_until);
use Compress::Zlib qw(memGzip);
use JSON::PP;
use POSIX qw(SIG_BLOCK SIGCHLD SIGINT SIGQUIT SIGTERM);
use Test::More;

my $PROBE = program('ctl_backups_probe');
my $master = CBTest::Master->new;
my $dir = $master->{dir};
my $log = "$dir/probe.log";
my $gate = "$dir/gate";
$master->configure(backup_db_path => "$dir/conf/backups.db", 'backuppartition-default' => "$dir/part",
    backup_staging_path => "$dir/tmp");
run_cmd(cmd => [as_cyrus('touch', $gate, $log)]);
my %env = (%{ $master->env }, PROBE_LOG => $log, PROBE_GATE => $gate);

sub command { return as_cyrus($PROBE, '-C', $master->conf, @_) }

sub run
{
    spew($log, '');
    return run_cmd(cmd => [command(@_)], env => \%env);
}

sub start
{
    my ($name, @args) = @_;
    return start_cmd(cmd => [command(@args)], env => \%env, out => "$dir/$name.out", err => "$dir/$name.err");
}

sub running { return scalar grep { (slurp("/proc/$_/comm") // '') =~ /^ctl_backups|^lt-ctl_backups/ } processes_of($dir) }
sub nobody_left { return wait_until('the end of all processes', sub { !running() }) }

# ---- one process ------------------------------------------------------------------------------

my $r = run('probe', qw(ok-1 skip-1 locked-1 fail-1 ok-1 why));
is($r->{out}, <<'END', 'result lines, in order');
probe ok-1: ok
probe skip-1: skipped
probe locked-1: locked
probe fail-1: failed (damaged or foreign data)
probe ok-1: ok
probe why: ok (because)
END
is($r->{err}, '', 'stderr is empty: it is no terminal, and there was no -v');
is($r->{rc}, 75, 'exit 75');
is(join('', grep { !/ in \d/ } slurp($log) =~ /^(.*\n)/mg), "<6> probe locked-1: locked\n<3> probe fail-1: failed (damaged or foreign data)\n",
    'failures are in syslog');
like(slurp($log), qr/^<6> probe: 6 backups: 3 ok, 1 skipped, 1 locked, 1 failed; 6\.0 MiB in \d+\.\d s$/m,
    'and a summary');

my @codes = (
    # names, exit, last line; the same with --legacy-status
    ['ok-1 ok-2', 0, 'ok-2', 0, 'ok-2'],
    ['ok-1 skip-1 ok-2', 0, 'ok-2', 75, 'ok-2'],
    ['locked-1 ok-2', 75, 'ok-2', 75, 'ok-2'],
    ['fail-1 ok-2', 75, 'ok-2', 75, 'ok-2'],
    ['-S fail-1 ok-2', 75, 'fail-1', 75, 'fail-1'],
    ['-S locked-1 ok-2', 75, 'ok-2', 75, 'ok-2'],
    ['-S skip-1 ok-2', 0, 'ok-2', 75, 'skip-1'],
    ['--', 0, ''],
);
for my $row (@codes) {
    my ($words, @expected) = @{$row};
    for my $legacy ([], ['--legacy-status']) {
        my ($rc, $last) = splice @expected, 0, 2 or next;
        my $got = run(@{$legacy}, 'probe', split ' ', $words);
        my ($line) = $got->{out} =~ /^probe (\S+): .*\n\z/m;
        is("$got->{rc} " . ($line // ''), "$rc $last", "@{$legacy} $words");
    }
}
$r = run('-v', 'probe', '-S', qw(ok-1 fail-1 ok-2 ok-3));
like($r->{err}, qr/^probe: 4 backups: 1 ok, 0 skipped, 0 locked, 1 failed, 2 not begun; 2\.0 MiB in \d+\.\d s$/m,
    '-v: a summary on stderr');
is($r->{out}, "probe ok-1: ok\nprobe fail-1: failed (damaged or foreign data)\n", 'and not on stdout');

$r = run('probe', 'lines-3', 'ok');
is($r->{out}, "lines-3 1 of 3\nlines-3 2 of 3\nlines-3 3 of 3\nprobe lines-3: ok\nprobe ok: ok\n",
    'lines come before the result');

# ---- a process that dies ----------------------------------------------------------------------

for my $jobs (1, 2) {
    $r = run("--jobs=$jobs", 'probe', qw(ok-1 crash-1 crash-2 ok-2 ok-3));
    is(join('', sort $r->{out} =~ /^(.*\n)/mg), <<'END', "$jobs jobs: a killed process is one failure");
probe crash-1: failed (its process was ended by signal 9)
probe crash-2: failed (its process was ended by signal 9)
probe ok-1: ok
probe ok-2: ok
probe ok-3: ok
END
    is($r->{rc}, 75, "$jobs jobs: exit 75");
}

# ---- JSON -------------------------------------------------------------------------------------

$r = run('-j', 'probe', 'lines-2', 'fail-1');
like($r->{out}, qr/^\{\n  "command": "probe",\n  "userid": "lines-2",\n  "status": "ok",\n  "errors": \[\n    "lines-2 1 of 2",\n    "lines-2 2 of 2"\n  \],\n  "pid": \d+,\n  "path": "none"\n\}\n\{\n  "command": "probe",\n  "userid": "fail-1",\n  "status": "failed \(damaged or foreign data\)",\n  "pid": \d+,\n  "path": "none"\n\}\n\z/,
    'JSON: objects, their keys in order');
is($r->{err}, "lines-2 1 of 2\nlines-2 2 of 2\n", 'JSON: lines go to stderr');
is($r->{rc}, 75, 'JSON: exit code');
$r = run('-j', 'probe', '-f', '/x/y');
like($r->{out}, qr/^\{\n  "command": "probe",\n  "fname": "\/x\/y",\n  "status": "ok",/, 'JSON: a file has no userid');
is(run('probe', '-f', '/x/y')->{out}, "probe /x/y: ok\n", 'and its path is its name');
is(scalar @{ decode_json(run('--json=array', 'probe', qw(a b c))->{out}) }, 3, 'JSON: one array');

# ---- several processes ------------------------------------------------------------------------

my @many = map { "ok-$_" } 1 .. 60;
$r = run('--json=array', '--jobs=3', 'probe', @many);
my $results = decode_json($r->{out});
is_deeply([sort map { $_->{userid} } @{$results}], [sort @many], '3 jobs: each backup once');
my %pids = map { $_->{pid} => 1 } @{$results};
cmp_ok(scalar keys %pids, '<=', 3, 'in no more than three processes');
{
    # two at the gate, and a third that is not kept by them
    my $holder = CBTest::Holder->new($gate);
    my $pid = start('three', '--jobs=3', 'probe', qw(wait-1 wait-2 ok-1 ok-2));
    wait_until('ok-2', sub { (slurp("$dir/three.out") // q()) =~ /ok-2/ });
    is(slurp("$dir/three.out"), "probe ok-1: ok\nprobe ok-2: ok\n", '3 jobs: two wait, the third goes on');
    $holder->release;
    is(reap($pid), 0, '3 jobs: all ends well');
    is(join('', sort(slurp("$dir/three.out") =~ /^(.*\n)/mg)),
        "probe ok-1: ok\nprobe ok-2: ok\nprobe wait-1: ok\nprobe wait-2: ok\n", '3 jobs: all lines');
}

# Lines of one backup stand together, however many there are.
my @long = map { "lines$_-3000" } 1 .. 6;
$r = run('--jobs=4', 'probe', @long);
my (%count, $now, @broken);
for my $line (split /\n/, $r->{out}) {
    my ($name, $n) = $line =~ /^(\S+) (\d+) of 3000$/;
    if (defined $name) {
        push @broken, $line if $n != ($count{$name} // 0) + 1 || (defined $now && $now ne $name);
        ($now, $count{$name}) = ($name, $n);
    } elsif ($line =~ /^probe (\S+): ok$/) {
        push @broken, $line if ($count{$1} // 0) != 3000 || $now ne $1;
        undef $now;
    }
}
is("@broken", '', '4 jobs: lines do not mix');
is(join(' ', map { $count{$_} // 0 } @long), '3000 ' x 5 . '3000', '4 jobs: none is missing');
$r = run('probe', 'lines-200000');
is($r->{out} =~ tr/\n//, 200_001, '1 job: any number of lines');
$r = run('--jobs=2', 'probe', 'lines-300000', 'ok');
like($r->{out}, qr/^\(\d+ more bytes are not shown\)\nprobe lines-300000: ok$/m, '2 jobs: what is too much is left out, and said');
cmp_ok(length $r->{out}, '<', 6 << 20, 'and not much is held');

# ---- signals ----------------------------------------------------------------------------------

for my $signal (qw(TERM INT QUIT HUP)) {
    for my $jobs (1, 2) {
        my $holder = CBTest::Holder->new($gate);
        spew($log, '');
        my $pid = start('stopped', "--jobs=$jobs", 'probe', 'ok-1', 'wait-1', 'ok-2', 'wait-2', 'ok-3', 'wait-3');
        wait_until('some work', sub { running() == $jobs + 1 && (slurp("$dir/stopped.out") // q()) =~ /ok-$jobs/ });
        kill $signal => $pid;
        is(reap($pid, 20), 75, "SIG$signal, $jobs jobs: exit 75");
        my $out = slurp("$dir/stopped.out");
        my $waiting = join '', map { "probe wait-$_: failed (interrupted)\n" } 1 .. $jobs;
        is(join('', sort $out =~ /^(.*wait.*\n)/mg), $waiting, "SIG$signal, $jobs jobs: what waited was given up");
        unlike($out, qr/ok-3|wait-3/, "SIG$signal, $jobs jobs: nothing more is begun");
        like(slurp($log), qr/^<6> probe: 6 backups: .*, $jobs failed, [24] not begun/m,
            "SIG$signal, $jobs jobs: syslog says so");
        ok(nobody_left(), "SIG$signal, $jobs jobs: nobody is left");
    }
}
{
    my $holder = CBTest::Holder->new($gate);
    my $pid = start('killed', '--jobs=2', 'probe', qw(wait-1 wait-2 wait-3));
    wait_until('two at work', sub { running() == 3 });
    kill KILL => $pid;
    reap($pid);
    ok(nobody_left(), 'SIGKILL of the first: the others end, too');
}
{
    # a reader that goes away
    my $r = run_cmd(cmd => [as_cyrus('sh', '-c', "$PROBE -C " . $master->conf . ' probe ok-1 ok-2 >/dev/full')],
        env => \%env);
    is($r->{rc}, 75, 'stdout is full: exit 75');
    like($r->{err}, qr/^ctl_backups: cannot write the result: No space left on device$/m, 'and it says so');
}

# ---- the run lock -----------------------------------------------------------------------------

for my $name (qw(wait-a ok-b)) {
    my $r = run_cmd(cmd => [as_cyrus('/usr/lib/cyrus/bin/cyr_dbtool', '-n', '-C', $master->conf,
        "$dir/conf/backups.db", 'twoskip', 'set', $name, "$dir/part/$name")]);
    is($r->{rc}, 0, "$name is registered") or diag($r->{err});
}
{
    my $holder = CBTest::Holder->new($gate);
    my $pid = start('first', 'guard', '-A');
    wait_until('the first at work', sub { running() == 2 });
    $r = run('guard', '-A');
    is("$r->{rc} $r->{out}", '0 ', 'a second run over all: exit 0, nothing done');
    is($r->{err}, "guard: already running\n", 'it says why on stderr');
    is(slurp($log), "<6> guard: already running\n", 'and in syslog');
    $r = run('guard', 'ok-b');
    is("$r->{rc} $r->{out}", "0 guard ok-b: ok\n", 'one by name goes on');
    $r = run('--dry-run', 'guard', '-P', 'ok');
    is("$r->{rc} $r->{out}", "0 guard ok-b: ok\n", 'so does one by prefix');
    # The lock is that of the workers, too.
    kill KILL => $pid;
    reap($pid);
    nobody_left();
    $holder->release;
    $r = run('guard', '-A');
    is("$r->{rc} $r->{out}", "0 guard ok-b: ok\nguard wait-a: ok\n", 'then it can be run again');
}

# ---- with signals blocked, as an event --------------------------------------------------------

{
    my $holder = CBTest::Holder->new($gate);
    my $set = POSIX::SigSet->new(SIGINT, SIGQUIT, SIGTERM, SIGCHLD);
    my $old = POSIX::SigSet->new;
    POSIX::sigprocmask(SIG_BLOCK, $set, $old);
    my $pid = start('blocked', 'probe', 'wait-1');
    POSIX::sigprocmask(POSIX::SIG_SETMASK(), $old);
    wait_until('it works', sub { running() == 2 });
    kill TERM => $pid;
    is(reap($pid, 20), 75, 'TERM ends it though it was blocked at the start');
}

# Debian's master: at its start it runs an event with a period.
spew($log, '');
my $holder = CBTest::Holder->new($gate);
spew("$dir/cyrus.conf", "START {\n}\nSERVICES {\n}\nEVENTS {\n  guard cmd=\"$PROBE -C " . $master->conf
    . " guard -A\" period=1440\n}\n");
$master->{pid} = start_cmd(cmd => [as_cyrus('/usr/lib/cyrus/bin/master', '-D', '-C', $master->conf, '-M',
    "$dir/cyrus.conf", '-p', "$dir/master.pid")], out => "$dir/master.out", err => "$dir/master.err",
    env => \%env, session => 1);
wait_until('the event', sub { running() == 2 });
my ($parent) = grep { (slurp("/proc/$_/stat") // '') =~ /^\d+ \(\S+\) \S $master->{pid} / } processes_of($dir);
ok($parent, 'the event is a child of master');
# Master runs it again at SIGHUP, whether it has ended or not.
$master->signal('HUP');
wait_until('the second', sub { slurp($log) =~ /already running/ });
is(slurp($log) =~ s/^<7>.*\n//mgr, "<6> guard: already running\n", 'an event that comes again leaves the first alone');
kill TERM => $parent;
wait_until('its summary', sub { slurp($log) =~ /guard: 2 backups/ });
like(slurp($log), qr/^<3> guard wait-a: failed \(interrupted\)$/m, 'TERM ends it: syslog has what was not done');
ok(nobody_left(), 'and no process is left');
$holder->release;
spew($log, '');
$master->signal('HUP');
wait_until('the third', sub { slurp($log) =~ /guard: 2 backups/ });
like(slurp($log), qr/^<6> guard: 2 backups: 2 ok, 0 skipped, 0 locked, 0 failed;/m, 'the next does its work');
$master->stop_master;

# ---- the program itself as an event -----------------------------------------------------------

my @cyrus_db = ('/usr/lib/cyrus/bin/cyr_dbtool', '-C', $master->conf, "$dir/conf/backups.db", 'twoskip');
my $t = time - 100 * 86400;
my $old = "$dir/part/joe_AAAAAA";
spew($old, memGzip("# cyrus backup: chunk start\r\n$t APPLY SUB %(USERID joe MBOXNAME user.joe)\r\n"
    . "$t APPLY SUB %(USERID joe MBOXNAME user.joe.x)\r\n$t APPLY UNSUB %(USERID joe MBOXNAME user.joe.x)\r\n"));
chown((getpwnam 'cyrus')[2], -1, $old) if $> == 0;
for my $words ("delete wait-a", "delete ok-b", "set joe $old") {
    is(run_cmd(cmd => [as_cyrus(@cyrus_db, split ' ', $words)])->{rc}, 0, "backups.db: $words");
}
spew("$dir/cyrus.conf", "START {\n}\nSERVICES {\n}\nEVENTS {\n  compact cmd=\"" . program('ctl_backups') . ' -C '
    . $master->conf . " -F compact -A\" period=1440\n}\n");
$master->{pid} = start_cmd(cmd => [as_cyrus('/usr/lib/cyrus/bin/master', '-D', '-C', $master->conf, '-M',
    "$dir/cyrus.conf", '-p', "$dir/master.pid")], out => "$dir/master.out", err => "$dir/master.err",
    env => \%env, session => 1);
my $new = wait_until('compaction by an event of master', sub {
    my $r = run_cmd(cmd => [as_cyrus(@cyrus_db, 'get', 'joe')]);
    return $r->{out} =~ /^(\S+)$/ && $1 ne $old ? $1 : undef;
});
ok(nobody_left(), 'the event has ended');
ok(-s $new && !-e $old, 'the backup is in a new file, the old one is gone');
$r = run_cmd(cmd => [as_cyrus(program('ctl_backups'), '-C', $master->conf, 'list')]);
like($r->{out}, qr/^\S+ \S+\t\d+\tjoe\t\Q$new\E\n\z/, 'which list shows');
$master->stop;
done_testing;
