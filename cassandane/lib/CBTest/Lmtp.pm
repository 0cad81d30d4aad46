# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Lmtp - deliver mail as a mail transport would, over the server's UNIX socket.
package CBTest::Lmtp;
use strict;
use warnings;
use IO::Socket::UNIX;

sub new
{
    my ($class, $path) = @_;
    my $sock = IO::Socket::UNIX->new(Peer => $path) or die "lmtp $path: $!\n";
    my $self = bless { sock => $sock }, $class;
    $self->expect(220);
    $self->say('LHLO localhost', 250);
    return $self;
}

sub expect
{
    my ($self, $code) = @_;
    my $line;
    do { $line = readline $self->{sock} // die "lmtp: closed\n" } while $line =~ /^\d+-/;
    die "lmtp: expected $code: $line" if $line !~ /^$code/;
    return;
}

sub say
{
    my ($self, $line, $code) = @_;
    print { $self->{sock} } "$line\r\n";
    $self->expect($code);
    return;
}

# Deliver each message to the user's INBOX (or "user+folder").
sub deliver
{
    my ($self, $rcpt, @messages) = @_;
    for my $msg (@messages) {
        $self->say('MAIL FROM:<sender@example.org>', 250);
        $self->say("RCPT TO:<$rcpt>", 250);
        $self->say('DATA', 354);
        (my $dotted = $msg) =~ s/^\./../mg;
        print { $self->{sock} } $dotted;
        $self->say('.', 250);
    }
    return;
}

1;
