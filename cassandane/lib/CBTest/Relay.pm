# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Relay - a process between sync_client and backupd that writes down what both say.
# It takes the COMPRESS offer out of the greeting, so that there is something to read.
#
# The recording is one file of frames "conn dir length\n" + bytes, dir one of
# C (from the client), S (from the server), X (connection over). commands() turns it back
# into commands with their answers: csync allows one command at a time.
#
# A trip wire can be set: after so many bytes from the client the relay sends SIGKILL to the
# server's process, to the client, or to the server's master and all its children, which is how a
# test kills them in the middle of something.
#
# It can be told to hold back the next APPLY: the client has its listing then, and what a test does
# before it lets go happens between question and change.
package CBTest::Relay;
use strict;
use warnings;
use CBTest::Util qw(all_pids children_of slurp spew wait_until);
use Digest::SHA qw(sha1_hex);
use IO::Select;
use IO::Socket::INET;
use POSIX ();

sub new
{
    my ($class, $site) = @_;
    return bless {
        port => $site->{port}{relay}, to => $site->{port}{backup},
        file => "$site->{dir}/relay.log", trip => "$site->{dir}/relay.trip",
        hold => "$site->{dir}/relay.hold", owner => $$,
    }, $class;
}

sub start
{
    my ($self) = @_;
    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port},
        Proto => 'tcp', Listen => 20, ReuseAddr => 1)
        or die "relay: port $self->{port}: $!\n";
    spew($self->{file}, '');
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
        $SIG{PIPE} = 'IGNORE';
        eval { $self->serve($listen) };
        POSIX::_exit(0);
    }
    close $listen;
    $self->{pid} = $pid;
    return $self;
}

sub stop
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill TERM => $pid;
    waitpid $pid, 0;
    return;
}

# ---- the relaying process ------------------------------------------------

sub serve
{
    my ($self, $listen) = @_;
    open my $log, '>>:raw', $self->{file} or die;
    $log->autoflush(1);
    my $select = IO::Select->new($listen);
    my (%conn, $count);
    while (getppid == $self->{owner}) {    # a test that was killed cannot stop us
        for my $fh ($select->can_read(1)) {
            if ($fh == $listen) {
                my $client = $listen->accept or next;
                my $server = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                    PeerPort => $self->{to}, Proto => 'tcp');
                if (!$server) {
                    close $client;
                    next;
                }
                my $id = ++$count;
                $conn{$client} = { id => $id, dir => 'C', peer => $server };
                $conn{$server} = { id => $id, dir => 'S', peer => $client, greeting => '' };
                $select->add($client, $server);
                next;
            }
            my $c = $conn{$fh} // next;
            my $n = sysread $fh, my $buf, 65536;
            $buf = greeting($c, $buf) if $n && defined $c->{greeting};
            if ($n) {
                $self->hold_back if $c->{dir} eq 'C' && $buf =~ /^APPLY /;
                record($log, $c->{id}, $c->{dir}, $buf);
                send_all($c->{peer}, $buf);
                $self->check_trip(length $buf, $fh, $c->{peer}) if $c->{dir} eq 'C';
                next;
            }
            record($log, $c->{id}, 'X', '');
            $select->remove($fh, $c->{peer});
            delete @conn{ $fh, $c->{peer} };
            close $c->{peer};
            close $fh;
        }
    }
    return;
}

# Collect the greeting up to its last line and take COMPRESS out of it.
sub greeting
{
    my ($c, $buf) = @_;
    $c->{greeting} .= $buf;
    return '' if $c->{greeting} !~ /^\* (?:OK|BYE|NO|Fatal)[^\n]*\n/m;
    my $text = delete $c->{greeting};
    $text =~ s/^\* COMPRESS[^\n]*\n//mg;
    return $text;
}

sub record
{
    my ($log, $id, $dir, $buf) = @_;
    my $frame = sprintf("%d %s %d\n", $id, $dir, length $buf) . $buf;
    send_all($log, $frame);
    return;
}

sub send_all
{
    my ($fh, $buf) = @_;
    while (length $buf) {
        my $n = syswrite $fh, $buf;
        return unless defined $n;
        substr $buf, 0, $n, '';
    }
    return;
}

sub hold_back
{
    my ($self) = @_;
    return unless -e $self->{hold};
    spew("$self->{hold}ing", '');
    my $ok = eval { wait_until('the test to let go', sub { !-e $self->{hold} }, 60) };
    unlink $self->{hold}, "$self->{hold}ing";
    return $ok;
}

sub check_trip
{
    my ($self, $n, $client, $server) = @_;
    if (!-e $self->{trip}) {
        delete $self->{left};
        return;
    }
    ($self->{left}) = split ' ', slurp($self->{trip}) unless defined $self->{left};
    $self->{left} -= $n;
    return if $self->{left} > 0;
    my ($bytes, $master, $delay, $whom) = split ' ', slurp($self->{trip});
    select undef, undef, undef, $delay if $delay;
    kill KILL => $_ for $whom eq 'client' ? holding($client->peerport, $self->{port})
        : $whom eq 'master' ? ($master, children($master))
        : serving($master, $self->{to}, $server->sockport);
    unlink $self->{trip};
    delete $self->{left};
    return;
}

sub children
{
    my ($master) = @_;
    return map { $_->[0] } children_of($master);
}

# The processes that hold one end of a connection, from this port to another.
sub holding
{
    my ($port, $peer, @among) = @_;
    my $want = sprintf ':%04X [0-9A-F]+:%04X ', $port, $peer;
    my ($inode) = slurp('/proc/net/tcp') =~ /^\s*\d+: [0-9A-F]+$want(?:\S+\s+){6}(\d+) /m or return;
    @among = all_pids() unless @among;
    return grep {
        my $pid = $_;
        $pid != $$ && grep { (readlink // '') eq "socket:[$inode]" } glob "/proc/$pid/fd/*";
    } @among;
}

# The children of a master that hold the server's end of a connection, from one port to the other.
# Idle ones stay: stock master gives up a service whose waiting processes die.
sub serving
{
    my ($master, $port, $peer) = @_;
    my @children = children($master);
    return @children ? holding($port, $peer, @children) : ();
}

# ---- for the test --------------------------------------------------------

# After that many bytes from clients (and a delay in seconds), kill WHOM: the "server" process that
# serves them, a child of this master; the "client"; or the "master" with all its children.
sub set_trip
{
    my ($self, $bytes, $master, $delay, $whom) = @_;
    spew("$self->{trip}.new", join(' ', $bytes, $master, $delay // 0, $whom // 'server') . "\n");
    rename "$self->{trip}.new", $self->{trip} or die "rename: $!";
    return;
}

# Has it been touched?
sub is_tripped { my ($self) = @_; return !-e $self->{trip} }

# True if the trip wire was still waiting; it is taken away.
sub clear_trip
{
    my ($self) = @_;
    return unlink $self->{trip};
}

# Hold back the next APPLY of a client; wait until one is held back; let it go.
sub hold
{
    my ($self) = @_;
    spew($self->{hold}, '');
    return;
}

sub wait_held
{
    my ($self) = @_;
    return wait_until('an APPLY to be held back', sub { -e "$self->{hold}ing" });
}

sub let_go
{
    my ($self) = @_;
    return unlink $self->{hold};
}

# Forget what was recorded. No connection may be open.
sub clear
{
    my ($self) = @_;
    truncate $self->{file}, 0 or die "$self->{file}: $!";
    return;
}

# The recording per connection: ( { C => bytes, S => bytes }, ... ), all of them closed.
sub conversations
{
    my ($self) = @_;
    my (%conv, %open);
    wait_until('the relay to see the end of all connections', sub {
        my $raw = slurp($self->{file});
        (%conv, %open) = ();
        my $pos = 0;
        while ($raw =~ /\G(\d+) ([CSX]) (\d+)\n/gc) {
            my ($id, $dir, $len) = ($1, $2, $3);
            my $at = pos $raw;
            return 0 if length($raw) - $at < $len;
            $open{$id} = $dir ne 'X';
            if ($dir ne 'X') {
                $conv{$id}{$dir} //= '';
                $conv{$id}{$dir} .= substr $raw, $at, $len;
            }
            pos($raw) = $at + $len;
        }
        return !grep { $_ } values %open;
    }, 10);
    return map { $conv{$_} } sort { $a <=> $b } keys %conv;
}

# All commands since clear(): ( { line, size, reply, untagged => [...] }, ... ).
# Contents of files in line are replaced by their SHA-1; literals are kept.
# reply is undef for a command that was never answered.
sub commands
{
    my ($self) = @_;
    my @all;
    for my $c ($self->conversations) {
        my @cmds = split_lines($c->{C} // '');
        my @lines = split_lines($c->{S} // '');
        while (@lines) {    # the greeting
            last if (shift @lines)->{line} =~ /^\* OK/i;
        }
        for my $cmd (@cmds) {
            my @untagged;
            while (@lines and $lines[0]{line} =~ /^\* /) {
                push @untagged, (shift @lines)->{line};
            }
            my $reply = @lines ? (shift @lines)->{line} : undef;
            push @all, { %{$cmd}, reply => $reply, untagged => \@untagged };
        }
    }
    return @all;
}

# Cut a byte stream into commands: a line end counts unless it follows a literal's length.
sub split_lines
{
    my ($s) = @_;
    my (@out, $cur);
    my ($pos, $start) = (0, 0);
    while (1) {
        my $nl = index $s, "\n", $pos;
        last if $nl < 0;
        my $part = substr $s, $pos, $nl + 1 - $pos;
        $cur //= '';
        if ($part =~ /(%?)\{(?:\S+ \S+ )?(\d+)\+?\}\r?\n\z/ && length($s) >= $nl + 1 + $2) {
            my ($file, $len) = ($1, $2);
            my $data = substr $s, $nl + 1, $len;
            $cur .= $part . ($file ? '<' . sha1_hex($data) . '>' : $data);
            $pos = $nl + 1 + $len;
            next;
        }
        $part =~ s/\r?\n\z//;
        push @out, { line => $cur . $part, size => $nl + 1 - $start };
        ($pos, $start, $cur) = ($nl + 1, $nl + 1, undef);
    }
    return @out;
}

# The GUIDs of all content in these commands, each with how often it was sent.
sub uploaded
{
    my %times;
    for my $command (grep { $_->{line} =~ /^APPLY MESSAGE / } @_) {
        $times{$1}++ while $command->{line} =~ /%\{\S+ ([0-9a-f]{40}) \d+\}/g;
    }
    return %times;
}

# A readable excerpt of commands, for a failing test.
sub excerpt
{
    my (@commands) = @_;
    my $short = sub {
        my ($t) = @_;
        $t =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ge;
        return length $t > 700 ? substr($t, 0, 500) . ' ... ' . substr($t, -180) : $t;
    };
    my @out;
    for my $c (@commands) {
        push @out, 'C: ' . $short->($c->{line});
        push @out, map { 'S: ' . $short->($_) } @{ $c->{untagged} };
        push @out, 'S: ' . $short->($c->{reply} // '(no answer)');
    }
    return join "\n", @out;
}

1;
