# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Util - the small things every module of the test library needs:
# running commands as the user cyrus with a deadline, waiting for a condition,
# finding a free port, and knowing which processes are ours.
#
# Every process that a site starts carries CBTEST_DIR=<directory of the site> in
# its environment, so that daemons which fork, change their process group or
# outlive their master are still found, by pid, and nobody else's ever are.
package CBTest::Util;
use strict;
use warnings;
use Exporter 'import';
use Digest::SHA qw(sha1_hex);
use File::Path ();
use File::Spec;
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw(time sleep alarm);

our @EXPORT_OK = qw(as_cyrus run_cmd start_cmd reap wait_until free_port slurp spew
    sha1_hex processes_of guard_dir unguard_dir clock_files peak_memory builddir program peer
    is_debian scratch all_pids children_of);

# Where the programs under test lie.
sub builddir
{
    return File::Spec->rel2abs($ENV{BUILDDIR} // '..');
}

# Path of a built program, e.g. program('backupd').
sub program
{
    my ($name) = @_;
    return builddir() . "/backup/$name";
}

# Where directories of tests are made: TMPDIR if it is set. On a file system in memory nobody waits for
# a disk: what is written is looked at after processes were killed, never after a power failure.
sub scratch
{
    return File::Spec->rel2abs($ENV{TMPDIR} // '/tmp');
}

# PEER=debian runs Debian's own backup programs instead of ours: a test of the tests.
sub is_debian
{
    return ($ENV{PEER} // '') eq 'debian';
}

# Prefix a command so that it runs as the user cyrus.
my @as_cyrus = qw(setpriv --reuid cyrus --regid mail --init-groups);

sub as_cyrus
{
    my @cmd = @_;
    return $> == 0 ? (@as_cyrus, @cmd) : @cmd;
}

# Become the user cyrus for good, as setpriv would, but without another program.
sub become_cyrus
{
    my ($uid, $gid) = (getpwnam 'cyrus')[2, 3] or die "no user cyrus\n";
    my @groups = ($gid);
    setgrent;
    while (my @g = getgrent) {
        push @groups, $g[2] if $g[2] != $gid && grep { $_ eq 'cyrus' } split ' ', $g[3];
    }
    local $! = 0;
    $( = $gid;
    $) = "$gid @groups";
    POSIX::setuid($uid);
    die "cannot become cyrus: $!\n" if $> != $uid || $< != $uid;
    return;
}

sub slurp
{
    my ($file) = @_;
    open my $fh, '<:raw', $file or return undef;
    local $/;
    return scalar <$fh>;
}

sub spew
{
    my ($file, $text) = @_;
    open my $fh, '>:raw', $file or die "$file: $!";
    print {$fh} $text;
    close $fh or die "$file: $!";
    return;
}

# Poll until the condition is true; die at the deadline.
sub wait_until
{
    my ($what, $cond, $seconds) = @_;
    my $end = time + ($seconds // 30);
    while (1) {
        my $got = $cond->();
        return $got if $got;
        die "gave up waiting for $what\n" if time > $end;
        sleep 0.02;
    }
}

# A port nobody listens on, below the range the kernel hands out by itself; never the same twice. It may
# be long until a server takes it, so a UDP socket of the same number, which nobody needs, keeps other
# tests off as long as this one runs.
my (%given, @held);

sub free_port
{
    for (1 .. 200) {
        my $port = 12000 + int rand 20000;
        next if $given{$port}++;
        my @at = (LocalAddr => '127.0.0.1', LocalPort => $port);
        my $held = IO::Socket::INET->new(@at, Proto => 'udp') or next;
        my $s = IO::Socket::INET->new(@at, Proto => 'tcp', Listen => 1) or next;
        close $s;
        push @held, $held;
        return $port;
    }
    die "no free port\n";
}

# Start a command in the background; stdin is /dev/null, output goes to files.
# Keys: cmd (array), in, out, err (files, default /dev/null), env (hash), session (bool).
sub start_cmd
{
    my (%o) = @_;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    POSIX::setsid() if $o{session};
    $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE CHLD);
    %ENV = (%ENV, %{ $o{env} // {} });
    open STDIN, '<', $o{in} // '/dev/null';
    open STDOUT, '>', $o{out} // '/dev/null';
    open STDERR, '>', $o{err} // '/dev/null';
    my @cmd = @{ $o{cmd} };
    if ("@cmd" =~ /^\Q@as_cyrus\E /) {
        splice @cmd, 0, scalar @as_cyrus;
        eval { become_cyrus(); 1 } or do { print STDERR $@; POSIX::_exit(126) };
    }
    { no warnings 'exec'; exec { $cmd[0] } @cmd; }
    POSIX::_exit(127);
}

# Wait for a child until the deadline, then kill it. Returns the exit code;
# 128 + signal when killed, -1 when it had to be killed here.
sub reap
{
    my ($pid, $seconds) = @_;
    my $got = eval {
        local $SIG{ALRM} = sub { die "late\n" };
        alarm($seconds // 60);
        my $w = waitpid $pid, 0;
        alarm 0;
        $w;
    };
    if (!defined $got) {
        alarm 0;
        kill KILL => $pid;
        waitpid $pid, 0;
        return -1;
    }
    return -1 if $got != $pid;
    return ($? & 127) ? 128 + ($? & 127) : $? >> 8;
}

# Run a command to its end. Returns { rc, out, err, secs }.
sub run_cmd
{
    my (%o) = @_;
    my $tmp = $o{tmp} // scratch();
    my ($out, $err) = map { sprintf '%s/cbtest.%d.%s', $tmp, $$, $_ } qw(out err);
    my $in;
    if (defined $o{input}) {
        $in = sprintf '%s/cbtest.%d.in', $tmp, $$;
        spew($in, $o{input});
    }
    my $t0 = time;
    my $pid = start_cmd(%o, out => $out, err => $err, $in ? (in => $in) : ());
    my $rc = reap($pid, $o{timeout} // 60);
    my $res = { rc => $rc, secs => time - $t0, out => slurp($out) // '', err => slurp($err) // '' };
    unlink grep { defined } $out, $err, $in;
    return $res;
}

# All pids. (Not by glob(), which asks about each name again.)
sub all_pids
{
    opendir my $d, '/proc' or return;
    return grep { /^\d+\z/ } readdir $d;
}

# The children of a process, [pid, name] each; those that have ended are left out. The kernel has a
# list of them, where it is built with it.
sub children_of
{
    my ($parent) = @_;
    my $list = slurp("/proc/$parent/task/$parent/children");
    my @found;
    for my $stat (map { slurp("/proc/$_/stat") } defined $list ? split(' ', $list) : all_pids()) {
        next unless defined $stat and $stat =~ /^(\d+) \((.*)\) (\S) (\d+) /s;
        push @found, [$1, $2] if $4 == $parent && $3 ne 'Z';
    }
    return @found;
}

# Pids of all living processes which a site in this directory started.
sub processes_of
{
    my ($dir) = @_;
    my @found;
    for my $pid (all_pids()) {
        next if $pid == $$;
        my $env = slurp("/proc/$pid/environ") // next;
        next unless "\0$env" =~ /\0CBTEST_DIR=\Q$dir\E(?:\0|\z)/;
        my $stat = slurp("/proc/$pid/stat") // next;
        next if $stat =~ /\) Z /;
        push @found, $pid;
    }
    return @found;
}

# End all processes of a site, by pid, and remove its directory.
sub clear_away
{
    my ($dir) = @_;
    my $end = time + 5;
    while (my @left = processes_of($dir)) {
        kill +(time > $end ? 'KILL' : 'TERM') => @left;
        waitpid $_, POSIX::WNOHANG() for @left;
        sleep 0.05;
    }
    unlink clock_files($dir);
    File::Path::remove_tree($dir) unless $ENV{KEEP};
    return;
}

# What CBTest::Clock has outside of the directory of a site.
sub clock_files
{
    my ($dir) = @_;
    my ($name) = $dir =~ m{([^/]+)\z};
    return ("/dev/shm/sem.$name-clock", "/dev/shm/$name-clock");
}

# A process that clears a site away if this one ends without having done so, by SIGKILL say.
# Returns its pid, for unguard_dir().
sub guard_dir
{
    my ($dir) = @_;
    my $parent = $$;
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    POSIX::setsid();
    $SIG{$_} = 'IGNORE' for qw(INT TERM HUP PIPE);
    # whoever reads what the test prints waits until nobody can print any more
    POSIX::close($_) for 0 .. 255;
    POSIX::open('/dev/null', POSIX::O_RDWR()) for 0 .. 2;
    sleep 0.5 while getppid == $parent;
    eval { clear_away($dir) };
    POSIX::_exit(0);
}

sub unguard_dir
{
    my ($pid) = @_;
    kill KILL => $pid;
    waitpid $pid, 0;
    return;
}

# Peak resident size of a process in KiB, undef when it has gone.
sub peak_memory
{
    my ($pid) = @_;
    my $status = slurp("/proc/$pid/status") // return undef;
    return $status =~ /^VmHWM:\s+(\d+) kB/m ? $1 : undef;
}

1;
