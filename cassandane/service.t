#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# The service runtime (master/service*.c), seen through a line echo: alone with a pipe on
# descriptor 3 and a socket on descriptor 4, then under Debian's master.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Master;
use CBTest::Util qw(builddir reap run_cmd as_cyrus wait_until free_port slurp spew processes_of);
use File::Copy qw(copy);
use IO::Socket::INET;
use Test::More;

my $ECHO = builddir() . '/master/service_echo';
die "$ECHO has not been built\n" unless -x $ECHO;
$SIG{PIPE} = 'IGNORE';

sub line
{
    my ($sock) = @_;
    local $SIG{ALRM} = sub { die "no answer\n" };
    alarm 30;
    my $line = readline $sock;
    alarm 0;
    chomp $line if defined $line;
    return $line;
}

# Greeting: pid, number of the connection in that process, -w word, service, client host.
sub greeting
{
    my ($sock) = @_;
    my $line = line($sock) // return;
    my ($pid, $n, $word, $service, $host) = $line =~ /^\* (\d+) (\d+) (\S+) (\S+) (.*)$/
        or die "odd greeting: $line\n";
    return { pid => $pid, n => $n, word => $word, service => $service, host => $host };
}

sub talk
{
    my ($sock, $text) = @_;
    print {$sock} "$text\n";
    return line($sock);
}

sub quit
{
    my ($sock) = @_;
    print {$sock} "quit\n";
    my $end = line($sock);
    close $sock;
    return $end;
}

sub gone { my ($pid) = @_; return !kill 0 => $pid }

# ---- alone ----------------------------------------------------------------

my $m = CBTest::Master->new;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 32)
    or die "listen: $!";
my $where = '127.0.0.1:' . $listener->sockport;

sub alone
{
    my ($o, @args) = @_;
    pipe my $r, my $w or die "pipe: $!";
    my $pid = $m->run_alone(service => 'echo', listener => $listener, status => $w, %{$o},
        cmd => [$o->{program} // $ECHO, '-C', $o->{conf} // $m->conf, @args]);
    close $w;
    return ($pid, $r);
}

# Everything on the pipe once the process has ended, as codes; dies on a foreign pid.
sub codes
{
    my ($pipe, $pid) = @_;
    local $/;
    my @n = unpack 'l*', readline($pipe) // '';
    my @codes;
    while (my ($code, $from) = splice @n, 0, 2) {
        die "message from $from\n" if $from != $pid;
        push @codes, $code;
    }
    return "@codes";
}

sub ends_at_start
{
    my ($what, $expected, $reason, $o, @args) = @_;
    my ($pid, $pipe) = alone($o, @args);
    is(reap($pid, 20), $expected, "$what: exit code");
    like($m->stderr, $reason, "$what: reason on stderr");
    is(codes($pipe, $pid), '', "$what: no status message");
    return;
}

ends_at_start('no environment', 70, qr/CYRUS_SERVICE/, { service => undef });
ends_at_start('glued option', 64, qr/MUST be separated by whitespace: -U5/, {}, '-U5');
ends_at_start('glued option of the daemon', 64, qr/separated by whitespace/, {}, '-wx');
ends_at_start('unknown option', 64, qr/unknown option: -q/, {}, '-q');
ends_at_start('option without argument', 64, qr/needs an argument/, {}, '-U');
ends_at_start('odd number', 64, qr/not a usable number: 5x/, {}, '-U', '5x');
ends_at_start('stray argument', 64, qr/unexpected argument: x/, {}, 'x');
ends_at_start('no imapd.conf', 78, qr/\Q$m->{dir}\E\/none\b/, { conf => "$m->{dir}/none" });
spew("$m->{dir}/nodir.conf", "servername: x\n");
ends_at_start('no configdirectory', 78, qr/configdirectory/, { conf => "$m->{dir}/nodir.conf" });
spew("$m->{dir}/proc.conf", "configdirectory: $m->{dir}/conf\nproc_path: here\n");
ends_at_start('relative proc_path', 78, qr/proc_path/, { conf => "$m->{dir}/proc.conf" });
ends_at_start('root', 64, qr/root/, { as_root => 1 }) if $> == 0;
ends_at_start('init refused', 69, qr/^/, {}, '-w', 'fail');

# One life of three clients, message by message.
{
    my ($pid, $pipe) = alone({}, '-U', 3, '-w', 'hello');
    my $proc = $m->confdir . "/proc/$pid";
    for my $n (1 .. 3) {
        my $sock = $m->connect($where);
        my $g = greeting($sock);
        is_deeply($g, { pid => $pid, n => $n, word => 'hello', service => 'echo',
            host => $g->{host} }, "client $n is greeted");
        like($g->{host}, qr/^(?:\S+ )?\[127\.0\.0\.1\]$/, "client $n is named");
        is(slurp($proc), "echo\t$g->{host}\t\t\t\n", "client $n: proc file");
        is(talk($sock, 'x'), 'x', "client $n: echo");
        is(slurp($proc), "echo\t$g->{host}\tuser\t\tx\n", "client $n: proc file rewritten");
        my $mode = (stat $proc)[2] & 0777;
        is($mode, 0600, "client $n: proc file is private");
        is(quit($sock), undef, "client $n: closed");
        wait_until('proc file to go', sub { !-e $proc });
    }
    is(reap($pid, 20), 0, '-U 3: exit 0 after the third');
    local $/;
    is(unpack('H*', readline $pipe),
        join('', map { unpack 'H*', pack 'll', $_, $pid } qw(2 3 1 2 3 1 2 3)),
        'status messages, byte for byte');
    my $lock = $m->confdir . '/socket/echo-0.lock';
    is((stat $lock)[2] & 07777, 0600, 'accept lock');
}

# Signals while waiting.
for my $sig (qw(HUP TERM INT QUIT)) {
    my ($pid, $pipe) = alone({});
    quit($m->connect($where));
    sysread($pipe, my $buf, 8) == 8 or die for 1 .. 3;
    kill $sig => $pid;
    is(reap($pid, 20), 0, "$sig while waiting: exit 0");
    is(codes($pipe, $pid), '', "$sig while waiting: no message");
}

# Signals while serving.
{
    my ($pid, $pipe) = alone({});
    my $sock = $m->connect($where);
    greeting($sock);
    kill HUP => $pid;
    is(talk($sock, "line $_"), "line $_", 'HUP: client is served on') for 1 .. 5;
    quit($sock);
    is(reap($pid, 20), 0, 'HUP: exit 0 after the client');
    is(codes($pipe, $pid), '2 3', 'HUP: not available again');
}
{
    my ($pid, $pipe) = alone({});
    my $sock = $m->connect($where);
    greeting($sock);
    kill TERM => $pid;
    is(line($sock), undef, 'TERM: client loses the connection');
    is(reap($pid, 20), 0, 'TERM: exit 0');
    ok(!-e $m->confdir . "/proc/$pid", 'TERM: no proc file left');
}
{
    my ($pid, $pipe) = alone({});
    my $sock = $m->connect($where);
    greeting($sock);
    kill $_ => $pid for qw(USR1 USR2 PIPE);
    is(talk($sock, 'x'), 'x', 'USR1, USR2 and PIPE do not kill');
    kill TERM => $pid;
    reap($pid, 20);
}

# Idle time begins with the first client.
{
    my ($pid, $pipe) = alone({}, '-T', 1);
    quit($m->connect($where));
    is(reap($pid, 20), 0, '-T 1: exit 0');
    is(codes($pipe, $pid), '2 3 1', '-T 1: was available');
}

# Two workers on one socket: the second waits for the lock, and hears signals there.
{
    my ($first) = alone({}, '-U', 1);
    my $s1 = $m->connect($where);
    greeting($s1);
    my ($second) = alone({});
    my $s2 = $m->connect($where);
    is(greeting($s2)->{pid}, $second, 'second worker takes the second client');
    quit($s2);
    my ($third) = alone({});
    wait_until('the third worker to wait', sub {
        return (slurp("/proc/$third/stat") // '') =~ /\) S /
            && grep { (readlink // '') =~ /echo-0\.lock$/ } glob "/proc/$third/fd/*";
    });
    kill TERM => $third;
    is(reap($third, 20), 0, 'TERM while waiting for the lock: exit 0');
    quit($s1);
    is(reap($first, 20), 0, 'first worker ends after its client');
    kill TERM => $second;
    is(reap($second, 20), 0, 'second worker ends');
}

# No directory for the lock: served all the same.
{
    rename $m->confdir . '/socket', $m->confdir . '/elsewhere' or die;
    my ($pid) = alone({}, '-U', 0);
    is(greeting(my $s = $m->connect($where))->{pid}, $pid, 'no accept lock: served');
    quit($s);
    is(reap($pid, 20), 0, 'negative or zero -U: one client');
    rename $m->confdir . '/elsewhere', $m->confdir . '/socket' or die;
}

# Program replaced or removed.
sub install_copy
{
    my ($to) = @_;
    copy($ECHO, "$to.new") or die "copy: $!";
    chmod 0755, "$to.new";
    rename "$to.new", $to or die "rename: $!";
    return;
}
{
    my $program = "$m->{dir}/echo";
    install_copy($program);
    my ($pid, $pipe) = alone({ program => $program });
    my $sock = $m->connect($where);
    greeting($sock);
    install_copy($program);
    is(talk($sock, 'still here'), 'still here', 'changed program: client is served on');
    quit($sock);
    is(reap($pid, 20), 0, 'changed program: exit 0');
    is(codes($pipe, $pid), '2 3 1', 'changed program: noticed before the next client');
}

# -X: no sockets, standard input and output, one client.
{
    my $r = run_cmd(cmd => [$ECHO, '-X', '-C', $m->conf], input => "one\ntwo\nquit\nno\n",
        env => $m->env);
    is($r->{rc}, 0, '-X: exit 0');
    like($r->{out}, qr/^\* \d+ 1 - service_echo \[stdin\]\none\ntwo\n$/, '-X: served on stdin');
}

# ---- under master ---------------------------------------------------------

my %port = map { $_ => free_port() } qw(none two one many copy idle);
my %at = map { $_ => "127.0.0.1:$port{$_}" } keys %port;
my $path = "$m->{dir}/echo.sock";
my $copy = "$m->{dir}/echo";
my @services = (
    ['none', "$ECHO -w none", $at{none}, 'prefork=0'],
    ['two', "$ECHO -w two", $at{two}, 'prefork=2'],
    ['one', "$ECHO -U 1", $at{one}, 'prefork=0 maxchild=1'],
    ['many', "$ECHO -U 3", $at{many}, 'prefork=4'],
    ['copy', $copy, $at{copy}, 'prefork=1'],
    ['idle', "$ECHO -T 1", $at{idle}, 'prefork=0'],
    ['unix', $ECHO, $path, 'prefork=1'],
);
$m->start(@services);

wait_until('two prefork workers', sub { $m->workers('two') == 2 });
wait_until('four prefork workers', sub { $m->workers('many') == 4 });
is($m->workers('none'), 0, 'prefork=0: no worker before the first client');
{
    my $sock = $m->connect($at{none});
    my $g = greeting($sock);
    is_deeply([$m->workers('none')], [$g->{pid}], 'prefork=0: a worker for the first client');
    is($g->{word}, 'none', 'option of the daemon is passed on');
    quit($sock);
    # (master may start another one before it has heard that the first is free again)
    wait_until('a worker to be used again', sub {
        my $n = greeting($sock = $m->connect($at{none}))->{n};
        quit($sock) if $n < 2;
        return $n >= 2;
    });
    pass('the worker is used again');
    quit($sock);
}
{
    my $sock = $m->connect($path);
    my $g = greeting($sock);
    is($g->{host}, '[unix socket]', 'UNIX socket');
    is(slurp($m->confdir . "/proc/$g->{pid}"), "unix\t[unix socket]\t\t\t\n",
        'UNIX socket: proc file');
    my $r = run_cmd(cmd => [as_cyrus('/usr/lib/cyrus/bin/cyr_info', '-C', $m->conf, 'proc')]);
    like($r->{out}, qr/^$g->{pid} unix \[unix socket\]/m, 'Debian\'s cyr_info proc shows it');
    quit($sock);
}
{
    my @socks = map { $m->connect($at{one}) } 1 .. 3;
    my %pids;
    for my $sock (@socks) {
        my $g = greeting($sock);
        is($m->workers('one'), 1, 'maxchild=1: one worker at a time');
        is($g->{n}, 1, '-U 1: a fresh process');
        $pids{ $g->{pid} } = 1;
        quit($sock);
    }
    is(keys %pids, 3, '-U 1: three clients, three processes');
}
{
    my $sock = $m->connect($at{idle});
    my $pid = greeting($sock)->{pid};
    quit($sock);
    wait_until('the idle worker to end', sub { gone($pid) });
    pass('-T: idle worker ended under master');
}
{
    my (%seen, $total);
    for my $round (1 .. 4) {
        my @socks = map { $m->connect($at{many}) } 1 .. 15;
        for my $sock (@socks) {
            my $g = greeting($sock);
            $seen{"$g->{pid} $g->{n}"}++;
            is(talk($sock, "n$_"), "n$_", 'echo') for 1 .. 2;
            $total++;
        }
        quit($_) for @socks;
    }
    is($total, 60, 'sixty connections served');
    is(keys %seen, 60, 'no connection served twice, none lost');
}
{
    my $sock = $m->connect($at{copy});
    my $old = greeting($sock)->{pid};
    quit($sock);
    install_copy($copy);
    my $new = greeting($sock = $m->connect($at{copy}))->{pid};
    isnt($new, $old, 'new program serves the next client');
    wait_until('the old program to end', sub { gone($old) });
    quit($sock);
}
{
    my $sock = $m->connect($at{two});
    my $held = greeting($sock)->{pid};
    wait_until('a third worker', sub { $m->workers('two') == 3 });
    my %old = map { $_ => 1 } $m->workers('two');
    $m->signal('HUP');
    wait_until('idle workers to be replaced', sub {
        my @now = $m->workers('two');
        return @now == 3 && 1 == grep { $old{$_} } @now;
    });
    is(talk($sock, 'still'), 'still', 'HUP to master: busy worker goes on');
    quit($sock);
    wait_until('the busy worker to be replaced', sub { gone($held) });
    ok(!(grep { $old{$_} } $m->workers('two')), 'HUP to master: every worker replaced');
}
{
    my @socks = map { $m->connect($_) } $at{two}, $at{none}, $path;
    greeting($_) for @socks;
    is($m->stop_master, 0, 'TERM: master ends');
    is(line($_), undef, 'TERM: client loses its connection') for @socks;
    wait_until('all processes to end', sub { !processes_of($m->{dir}) });
    is_deeply([glob $m->confdir . '/proc/*'], [], 'no proc file left');
}
$m->stop;
done_testing;
