# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::CSync - a small csync client written by hand: one command out, its answer in.
package CBTest::CSync;
use strict;
use warnings;
use CBTest::Dlist qw(parse_dlist);
use IO::Socket::INET;
use IO::Socket::UNIX;
use MIME::Base64 qw(encode_base64);

# path => UNIX socket (no login needed) or port => TCP port, user and password.
sub new
{
    my ($class, %o) = @_;
    my $self = bless {%o}, $class;
    $self->{sock} = $o{path}
        ? IO::Socket::UNIX->new(Peer => $o{path})
        : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $o{port}, Proto => 'tcp');
    die 'csync connect: ' . ($o{path} // $o{port}) . ": $!\n" unless $self->{sock};
    $self->{greeting} = [];
    while (1) {
        my $line = $self->line;
        push @{ $self->{greeting} }, $line;
        last if $line =~ /^\* OK/i;
        die "csync greeting: $line\n" if $line !~ /^\* /;
    }
    $self->login($o{user}, $o{password} // "$o{user}pw") if $o{user};
    return $self;
}

sub login
{
    my ($self, $user, $password) = @_;
    my $r = $self->command('AUTHENTICATE PLAIN ' . encode_base64("\0$user\0$password", ''));
    die "csync login: $r->{text}\n" if $r->{status} ne 'OK';
    return;
}

sub send_raw
{
    my ($self, $bytes) = @_;
    while (length $bytes) {
        my $n = syswrite $self->{sock}, $bytes;
        die "csync write: $!\n" unless defined $n;
        substr $bytes, 0, $n, '';
    }
    return;
}

# One line without its line end; literals inside are taken along.
sub line
{
    my ($self) = @_;
    local $SIG{ALRM} = sub { die "csync: no answer\n" };
    alarm($self->{patience} // 60);
    my $line = '';
    while (1) {
        my $part = readline $self->{sock};
        if (!defined $part) {
            alarm 0;
            die "csync: connection closed\n";
        }
        $line .= $part;
        last if $part !~ /\{(?:(?:"[^"]*"|\S+) \S+ )?(\d+)\+?\}\r?\n\z/;
        my $left = $1;
        while ($left) {
            my $n = read($self->{sock}, my $buf, $left);
            die "csync: connection closed\n" unless $n;
            $line .= $buf;
            $left -= $n;
        }
    }
    alarm 0;
    $line =~ s/\r?\n\z//;
    return $line;
}

# Read one whole answer: { status, text, lines }.
sub answer
{
    my ($self) = @_;
    my @lines;
    while (1) {
        my $line = $self->line;
        if ($line =~ /^\* (?!BYE)(?!Fatal)/) {
            push @lines, substr $line, 2;
            next;
        }
        my ($status) = $line =~ /^(OK|NO|BAD|\+)/;
        return { status => $status // 'ODD', text => $line, lines => \@lines };
    }
}

sub command
{
    my ($self, $cmd) = @_;
    $self->send_raw("$cmd\r\n");
    return $self->answer;
}

# GET and parse: returns { MAILBOX => [hash...], LSUB => ..., ... } or dies.
sub get
{
    my ($self, $what) = @_;
    my $r = $self->command("GET $what");
    die "GET $what: $r->{text}\n" if $r->{status} ne 'OK';
    my %got;
    for my $line (@{ $r->{lines} }) {
        my ($name, $value) = parse_dlist($line);
        push @{ $got{$name} }, $value;
    }
    return \%got;
}

sub DESTROY
{
    my ($self) = @_;
    local $SIG{PIPE} = 'IGNORE';
    close $self->{sock} if $self->{sock};
    return;
}

1;
