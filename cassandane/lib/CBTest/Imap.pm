# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Imap - an IMAP connection that dies when a command fails, because in a test
# a failed preparation must never pass for a result.
package CBTest::Imap;
use strict;
use warnings;
use Mail::IMAPTalk;
use Socket qw(IPPROTO_TCP TCP_NODELAY);

# Keys: port, user, password (default: the user's name followed by "pw").
sub new
{
    my ($class, %o) = @_;
    my $talk = Mail::IMAPTalk->new(
        Server => '127.0.0.1', Port => $o{port}, Username => $o{user},
        Password => $o{password} // "$o{user}pw", Uid => 1, UseBlocking => 1,
    ) or die "IMAP login of $o{user}: $@\n";
    # else the end of each literal waits 40 ms
    setsockopt $talk->{Socket}, IPPROTO_TCP, TCP_NODELAY, 1 or die "TCP_NODELAY: $!\n";
    return bless { talk => $talk, user => $o{user} }, $class;
}

sub talk { return $_[0]{talk} }

# Any method of Mail::IMAPTalk; dies unless the server says OK.
sub must
{
    my ($self, $method, @args) = @_;
    my $r = $self->{talk}->$method(@args);
    die "IMAP $self->{user} $method @args: " . ($self->{talk}->get_last_error // '?') . "\n"
        unless defined $r;
    return $r;
}

# A command as plain text, without tag: raw('SETMETADATA', 'INBOX (/shared/comment "x")').
sub raw
{
    my ($self, $verb, $rest, @responses) = @_;
    my $r = $self->{talk}->_imap_cmd(lc $verb, 0, $responses[0] // '', \$rest);
    return $r if defined $r;
    die "IMAP $self->{user} $verb $rest: " . ($self->{talk}->get_last_error // '?') . "\n";
}

# The same message gets the same bytes everywhere: CRLF line ends, a From and a Date.
my $serial = 0;

sub message
{
    my (%o) = @_;
    my $n = ++$serial;
    my $subject = $o{subject} // "message $n";
    my $body = $o{body} // "This is message number $n.\r\n";
    return "From: sender\@example.org\r\nTo: rcpt\@example.org\r\nSubject: $subject\r\n"
        . "Date: Mon, 5 Oct 2026 10:00:00 +0000\r\nMessage-ID: <$n.$$\@example.org>\r\n"
        . ($o{headers} // '') . "\r\n$body";
}

# Lines of printable noise, so that neither compression nor equal content helps.
sub noise
{
    my ($bytes, $seed) = @_;
    my @c = ('A' .. 'Z', 'a' .. 'z', 0 .. 9, '+', '/');
    my $x = $seed // 1;
    my $block = '';
    for (1 .. 53) {
        $block .= join('', map { $x = ($x * 1103515245 + 12345) & 0x7fffffff; $c[$x >> 16 & 63] } 1 .. 76)
            . "\r\n";
    }
    my $text = '';
    for (my $i = 0; length $text < $bytes; $i++) {
        my $cut = 78 * (($i * 7 + ($seed // 0)) % 53);
        $text .= sprintf("%08x%08x\r\n", $i, $seed // 0) . substr($block, $cut) . substr($block, 0, $cut);
    }
    $text = substr $text, 0, $bytes - 2;
    $text =~ s/\r\z/x/;
    return "$text\r\n";
}

# APPEND with optional flags and date; returns nothing, dies on failure.
sub append
{
    my ($self, $folder, $msg, %o) = @_;
    my @args = ($folder);
    push @args, [@{ $o{flags} }] if $o{flags};
    push @args, $o{date} if $o{date};
    push @args, { Literal => $msg };
    $self->must(append => @args);
    return;
}

# Mail::IMAPTalk's own destructor would wait for the server to say something.
sub DESTROY
{
    my ($self) = @_;
    local ($@, $!, $?);
    my $sock = $self->{talk} && $self->{talk}->release_socket(1);
    if ($sock) {
        local $SIG{PIPE} = 'IGNORE';
        syswrite $sock, "Z LOGOUT\r\n";
        close $sock;
    }
    return;
}

1;
