# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Master - Debian's master in a private directory with services of the test's own
# choice, and a way to run one service without any master: with a pipe on descriptor 3 and
# a listening socket on descriptor 4.
package CBTest::Master;
use strict;
use warnings;
use CBTest::Util qw(as_cyrus run_cmd start_cmd reap wait_until slurp spew processes_of guard_dir
    unguard_dir free_port scratch);
use Fcntl qw(F_DUPFD);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Time::HiRes qw(sleep time);

my $MASTER = '/usr/lib/cyrus/bin/master';
my %living;

# A private directory with an imapd.conf. Keys: options (more lines of imapd.conf).
sub new
{
    my ($class, %o) = @_;
    my $dir = tempdir('cbtest-XXXXXX', DIR => scratch());
    chmod 0755, $dir;
    my $self = bless { dir => $dir, owner => $$, pids => [] }, $class;
    $living{$dir} = $self;
    $self->{guard} = guard_dir($dir);
    run_cmd(cmd => ['chown', 'cyrus:mail', $dir]) if $> == 0;
    my @dirs = map { "$dir/conf$_" } '', '/socket', '/proc', '/log', '/db';
    run_cmd(cmd => [as_cyrus('mkdir', '-p', @dirs, "$dir/part", "$dir/tmp")])->{rc} == 0
        or die "mkdir failed\n";
    $self->configure(%{ $o{options} // {} });
    return $self;
}

sub conf { return "$_[0]{dir}/imapd.conf" }
sub confdir { return "$_[0]{dir}/conf" }

# Write imapd.conf; the options given stay for later calls.
sub configure
{
    my ($self, %options) = @_;
    %{ $self->{options} } = (
        configdirectory => "$self->{dir}/conf",
        defaultpartition => 'default',
        'partition-default' => "$self->{dir}/part",
        %{ $self->{options} // {} }, %options);
    my $o = $self->{options};
    spew($self->conf, join '', map { "$_: $o->{$_}\n" } grep { defined $o->{$_} } sort keys %{$o});
    return;
}

sub env
{
    my ($self) = @_;
    return {
        CBTEST_DIR => $self->{dir},
        $> == 0 ? () : (CYRUS_USER => scalar getpwuid $>),
    };
}

# Start master with service entries: [name, command, listen, rest of the line].
sub start
{
    my ($self, @services) = @_;
    $self->write_services(@services);
    $self->{pid} = start_cmd(
        cmd => [as_cyrus($MASTER, '-D', '-C', $self->conf, '-M', "$self->{dir}/cyrus.conf", '-p',
            "$self->{dir}/master.pid")],
        out => "$self->{dir}/master.out", err => "$self->{dir}/master.err",
        env => $self->env, session => 1);
    wait_until('master', sub { (slurp("$self->{dir}/master.pid") // '') =~ /^\d+\n/ });
    return $self;
}

sub write_services
{
    my ($self, @services) = @_;
    my $text = "START {\n}\nSERVICES {\n";
    for my $s (@services) {
        my ($program, @args) = split / /, $s->[1];
        my $cmd = join ' ', $program, '-C', $self->conf, @args;
        $text .= qq(  $s->[0] cmd="$cmd" listen="$s->[2]" $s->[3]\n);
    }
    spew("$self->{dir}/cyrus.conf", "$text}\nEVENTS {\n}\n");
    return;
}

# Pids of the living workers of a service.
sub workers
{
    my ($self, $service) = @_;
    return grep {
        my $env = slurp("/proc/$_/environ") // '';
        grep { $_ eq "CYRUS_SERVICE=$service" } split /\0/, $env;
    } processes_of($self->{dir});
}

sub signal
{
    my ($self, $sig) = @_;
    kill $sig => $self->{pid} or die "master is gone\n";
    return;
}

# Stop master; its exit code.
sub stop_master
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill TERM => $pid;
    return reap($pid, 20);
}

# A connected socket; waits until somebody listens.
sub connect
{
    my ($self, $where) = @_;
    return wait_until("a connection to $where", sub {
        $where =~ m{^/}
            ? IO::Socket::UNIX->new(Peer => $where)
            : IO::Socket::INET->new(PeerAddr => $where, Proto => 'tcp');
    });
}

# Run a service alone. Keys: cmd (array), service (CYRUS_SERVICE, undef: not set), listener
# (socket), status (write handle of a pipe), as_root, env. Returns the pid; stderr goes to
# $dir/err.
sub run_alone
{
    my ($self, %o) = @_;
    my @cmd = $o{as_root} ? @{ $o{cmd} } : as_cyrus(@{ $o{cmd} });
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        my @from = map { fcntl($_, F_DUPFD, 20) } $o{status}, $o{listener};
        POSIX::dup2($from[$_], 3 + $_) for 0, 1;
        POSIX::close($_) for @from;
        delete @ENV{qw(CYRUS_SERVICE CYRUS_ID)};
        %ENV = (%ENV, %{ $self->env }, %{ $o{env} // {} });
        @ENV{qw(CYRUS_SERVICE CYRUS_ID)} = ($o{service}, 0) if defined $o{service};
        POSIX::dup2(POSIX::open('/dev/null', POSIX::O_RDWR()), $_) for 0, 1;
        POSIX::dup2(POSIX::open("$self->{dir}/err", POSIX::O_WRONLY() | POSIX::O_CREAT()
            | POSIX::O_TRUNC(), 0644), 2);
        { no warnings 'exec'; exec { $cmd[0] } @cmd; }
        POSIX::_exit(127);
    }
    push @{ $self->{pids} }, $pid;
    return $pid;
}

sub stderr
{
    my ($self) = @_;
    return slurp("$self->{dir}/err") // '';
}

sub stop
{
    my ($self) = @_;
    return if $self->{owner} != $$ || !delete $living{ $self->{dir} };
    $self->stop_master;
    my $end = time + 5;
    while (my @left = processes_of($self->{dir})) {
        kill +(time > $end ? 'KILL' : 'TERM') => @left;
        waitpid $_, POSIX::WNOHANG() for @left;
        sleep 0.02;
    }
    unguard_dir($self->{guard});
    remove_tree($self->{dir}) unless $ENV{KEEP};
    return;
}

sub DESTROY
{
    my ($self) = @_;
    local ($?, $@, $!);
    $self->stop;
    return;
}

for my $sig (qw(INT TERM HUP)) {
    $SIG{$sig} = sub { exit 130 };
}

END {
    local ($?, $@, $!);
    $_->stop for values %living;
}

1;
