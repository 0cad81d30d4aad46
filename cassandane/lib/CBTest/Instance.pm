# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Instance - one running Cyrus: its directories, its two configuration files
# and its master process.
package CBTest::Instance;
use strict;
use warnings;
use CBTest::Config;
use CBTest::Util qw(all_pids as_cyrus children_of run_cmd start_cmd wait_until slurp spew);
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Time::HiRes qw(sleep time);

my $BIN = '/usr/lib/cyrus/bin';

# Keys: site, name (imap, backup, replica), options (imapd.conf, on top of the role's own).
sub new
{
    my ($class, %o) = @_;
    my $self = bless { %o, dir => "$o{site}{dir}/$o{name}" }, $class;
    $self->make_dirs;
    $self->write_config;
    return $self;
}

sub conf { return "$_[0]{dir}/imapd.conf" }

# The environment of its processes. Time may pass on the backup host only (CBTest::Clock).
sub env
{
    my ($self) = @_;
    my $clock = $self->{name} eq 'backup' ? $self->{site}{clock} : undef;
    return { %{ $self->{site}->env }, $clock ? %{ $clock->env } : () };
}

sub make_dirs
{
    my ($self) = @_;
    my @dirs = map { "$self->{dir}$_" } '', qw(/tmp /spool /spool/stage. /sieve /part /part2 /staging),
        map { "/conf$_" } '', map { "/$_" } qw(db socket proc log msg quota user lock sync);
    run_cmd(cmd => [as_cyrus('mkdir', '-p', @dirs)])->{rc} == 0 or die "mkdir failed\n";
    return;
}

sub write_config
{
    my ($self) = @_;
    my ($imapd, $cyrus) = CBTest::Config::texts($self);
    spew($self->conf, $imapd);
    spew("$self->{dir}/cyrus.conf", $cyrus);
    $self->{listen} = [$cyrus =~ /listen="([^"]+)"/g];
    return;
}

# Start master and wait until every listener accepts.
sub start
{
    my ($self) = @_;
    die "$self->{name} runs already\n" if $self->{pid};
    $self->{pid} = start_cmd(
        cmd => [as_cyrus("$BIN/master", '-D', '-C', $self->conf, '-M', "$self->{dir}/cyrus.conf",
            '-p', "$self->{dir}/master.pid")],
        out => "$self->{dir}/master.out", err => "$self->{dir}/master.err",
        env => $self->env, session => 1);
    for my $where (@{ $self->{listen} }) {
        wait_until("$self->{name} at $where", sub {
            die "master of $self->{name} ended: " . (slurp("$self->{dir}/master.err") // '')
                if waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid};
            return connect_to($where);
        }, 30);
    }
    return $self;
}

# Connect to host:port or to a path; undef when refused.
sub connect_to
{
    my ($where) = @_;
    return $where =~ m{^/}
        ? IO::Socket::UNIX->new(Peer => $where)
        : IO::Socket::INET->new(PeerAddr => $where, Proto => 'tcp');
}

# Stop master and see that every process of its session has gone. Debian's master sometimes
# waits for ever: for a child that missed its signal while it was being started, or, spinning,
# for one that has long ended.
sub stop
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    my $start = time;
    kill TERM => $pid;
    while (1) {
        sleep 0.02;
        waitpid $pid, POSIX::WNOHANG();
        my @left = $self->session($pid) or last;
        my $age = time - $start;
        my $alone = @left == 1 && $left[0] == $pid;
        kill KILL => @left if $age > ($alone ? 1 : 10);
        kill TERM => grep { $_ != $pid } @left if $age > 0.3;
    }
    return;
}

# All processes whose session is that of our master.
sub session
{
    my ($self, $sid) = @_;
    my @pids;
    for my $stat (map { slurp("/proc/$_/stat") } all_pids()) {
        next unless defined $stat and $stat =~ /^(\d+) \(.*\) (\S) \d+ \d+ (\d+) /s;
        push @pids, $1 if $3 == $sid && $2 ne 'Z';
    }
    return @pids;
}

# Children of the master whose program has this name (all of them without a name).
sub children
{
    my ($self, $name) = @_;
    my $master = $self->{pid} // return;
    return map { $_->[0] }
        grep { !defined $name || $_->[1] =~ /^(?:lt-)?\Q$name\E/ } children_of($master);
}

# Run one of Debian's programs with this instance's configuration.
sub tool
{
    my ($self, @args) = @_;
    my %o = ref $args[0] ? %{ shift @args } : ();
    my $name = shift @args;
    my $path = $name =~ m{/} ? $name : "$BIN/$name";
    return run_cmd(%o, cmd => [as_cyrus($path, '-C', $self->conf, @args)],
        env => $self->env, tmp => $self->{site}{dir});
}

1;
