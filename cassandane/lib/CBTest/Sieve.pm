# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Sieve - a ManageSieve client (RFC 5804), as much of it as tests need.
package CBTest::Sieve;
use strict;
use warnings;
use IO::Socket::INET;
use MIME::Base64 qw(encode_base64);

sub new
{
    my ($class, %o) = @_;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $o{port}, Proto => 'tcp')
        or die "sieve: $!\n";
    my $self = bless { sock => $sock }, $class;
    $self->answer('greeting');
    $self->command('AUTHENTICATE "PLAIN" "' . encode_base64("\0$o{user}\0$o{user}pw", '') . '"');
    return $self;
}

# Read up to OK; returns the lines before it, literals as strings of their own.
sub answer
{
    my ($self, $what) = @_;
    my @got;
    while (defined(my $line = readline $self->{sock})) {
        $line =~ s/\r?\n\z//;
        if ($line =~ /^\{(\d+)\+?\}$/) {
            my ($want, $text) = ($1, '');
            while (length $text < $want) {
                read $self->{sock}, $text, $want - length $text, length $text or die "sieve: closed\n";
            }
            push @got, $text;
            next;
        }
        return @got if $line =~ /^OK/i;
        die "sieve $what: $line\n" if $line =~ /^(?:NO|BYE)/i;
        push @got, $line;
    }
    die "sieve $what: connection closed\n";
}

sub command
{
    my ($self, $cmd) = @_;
    print { $self->{sock} } "$cmd\r\n";
    return $self->answer($cmd);
}

sub put
{
    my ($self, $name, $text) = @_;
    return $self->command(sprintf "PUTSCRIPT \"%s\" {%d+}\r\n%s", $name, length $text, $text);
}

sub activate { return $_[0]->command(qq(SETACTIVE "$_[1]")) }
sub delete   { return $_[0]->command(qq(DELETESCRIPT "$_[1]")) }
sub get      { return ($_[0]->command(qq(GETSCRIPT "$_[1]")))[0] }

# ( { name => active or not } )
sub list
{
    my ($self) = @_;
    return map { /^"([^"]*)"( ACTIVE)?/i ? ($1 => $2 ? 1 : 0) : () } $self->command('LISTSCRIPTS');
}

1;
