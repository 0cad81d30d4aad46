# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Wire - a connection to backupd byte by byte: what is sent is exactly what the test says,
# under any pile of layers (TLS below SASL below DEFLATE), none of them the server's own code: TLS
# is IO::Socket::SSL, SASL is Authen::SASL, DEFLATE is Compress::Raw::Zlib.
#
# Every function takes the connection first and is a method too; those of CBTest::CSync (command,
# answer, get) work as well.
package CBTest::Wire;
use strict;
use warnings;
use Authen::SASL qw(Perl);
use CBTest::CSync;
use CBTest::Feed qw(message);
use CBTest::Util qw(as_cyrus run_cmd program sha1_hex);
use Compress::Raw::Zlib;
use Exporter 'import';
use IO::Socket::SSL;
use MIME::Base64 qw(encode_base64 decode_base64);
use Test::More;
our @EXPORT_OK = qw(dial greeting expect read_more line closed put ask hang_up plain login
    start_tls start_deflate sasl_login offered works);

our @ISA = qw(CBTest::CSync);
our $WAIT = 30;    # seconds that any answer may take

# Connect to where a service of CBTest::Master listens, and read the greeting into {greeting}.
sub dial
{
    my ($m, $where) = @_;
    my $c = bless { sock => $m->connect($where), in => '' }, __PACKAGE__;
    return greeting($c);
}

sub greeting
{
    my ($c) = @_;
    $c->{greeting} = [];
    while (defined(my $line = line($c))) {
        push @{ $c->{greeting} }, $line;
        last if $line =~ /^\* OK/;
    }
    return $c;
}

# ---- bytes ----------------------------------------------------------------

# More plain bytes to {in}. Number of bytes from the network, 0 at the end.
sub read_more
{
    my ($c) = @_;
    local $SIG{ALRM} = sub { die "no answer, have [$c->{in}]\n" };
    alarm $WAIT;
    my $n = sysread $c->{sock}, my $bytes, 65536;
    alarm 0;
    return 0 unless $n;
    $bytes = unwrap($c, $bytes) if $c->{sasl};
    if ($c->{inflate}) {
        $c->{inflate}->inflate($bytes, my $plain) == Z_OK or die "inflate failed\n" if length $bytes;
        $bytes = $plain // '';
    }
    $c->{in} .= $bytes;
    return $n;
}

# Whole packets of the SASL layer, decoded; the rest is kept.
sub unwrap
{
    my ($c, $bytes) = @_;
    my $plain = '';
    $c->{packets} .= $bytes;
    while (length $c->{packets} >= 4) {
        my $n = unpack 'N', $c->{packets};
        last if length $c->{packets} < 4 + $n;
        substr $c->{packets}, 0, 4, '';
        $plain .= $c->{sasl}->decode(substr($c->{packets}, 0, $n, ''), $n) // die "bad packet\n";
        $c->{count}++;
    }
    return $plain;
}

# Send; false when the peer does not want it any more.
sub put
{
    my ($c, $bytes) = @_;
    if ($c->{deflate}) {
        $c->{deflate}->deflate($bytes, my $out) == Z_OK or die;
        $c->{deflate}->flush(my $rest, Z_SYNC_FLUSH) == Z_OK or die;
        $bytes = $out . $rest;
    }
    if ($c->{sasl}) {
        $bytes = join '', map { pack 'N/a*', $c->{sasl}->encode($_) } unpack '(a4000)*', $bytes;
    }
    while (length $bytes) {
        my $n = syswrite $c->{sock}, $bytes;
        return 0 unless defined $n;
        substr $bytes, 0, $n, '';
    }
    return 1;
}

*send_raw = \&put;

# Everything up to a match, and what was before; dies at the end of input or the deadline.
sub expect
{
    my ($c, $re) = @_;
    until ($c->{in} =~ $re) {
        die "connection closed, have [$c->{in}]\n" unless read_more($c);
    }
    $c->{in} =~ s/^(.*?$re)//s;
    return $1;
}

# The next line without its end; undef at the end of input.
sub line
{
    my ($c) = @_;
    my $line = eval { expect($c, qr/\n/) };
    if (!defined $line) {
        die $@ if $@ !~ /^connection closed, have \[\]/;
        return undef;
    }
    $line =~ s/\r\n\z// or die "bare line end: $line\n";
    return $line;
}

# One command, one line of answer.
sub ask
{
    my ($c, $command) = @_;
    put($c, "$command\r\n");
    return line($c);
}

# Has the server closed, without another word?
sub closed { my ($c) = @_; return $c->{in} eq '' && !read_more($c) }

sub hang_up { my ($c) = @_; close $c->{sock}; return }

# ---- layers ---------------------------------------------------------------

# STARTTLS and the handshake; the next greeting is read. Keys: more (bytes sent in one piece with the
# command), and those of IO::Socket::SSL. False, with the reason in {error}, when there is no TLS.
sub start_tls
{
    my ($c, %o) = @_;
    put($c, "STARTTLS\r\n" . (delete $o{more} // ''));
    my $answer = line($c) // '';
    if ($answer ne 'OK Begin TLS negotiation now') {
        $c->{error} = $answer;
        return 0;
    }
    local $SIG{ALRM} = sub { die "no handshake\n" };
    alarm $WAIT;
    my $ok = IO::Socket::SSL->start_SSL($c->{sock},
        SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(), SSL_hostname => '', %o);
    alarm 0;
    $c->{error} = $ok ? '' : "$IO::Socket::SSL::SSL_ERROR";
    # With TLS 1.3 the server's objection to a certificate comes after the client's handshake.
    return 0 unless $ok;
    eval { greeting($c); 1 } or $c->{error} = $@;
    return @{ $c->{greeting} } ? 1 : 0;
}

# COMPRESS; the answer.
sub start_deflate
{
    my ($c, $name) = @_;
    my $answer = ask($c, 'COMPRESS ' . ($name // 'DEFLATE'));
    if ($answer =~ /^OK/) {
        $c->{inflate} = Compress::Raw::Zlib::Inflate->new(-WindowBits => -15);
        $c->{deflate} = Compress::Raw::Zlib::Deflate->new(-WindowBits => -15, -AppendOutput => 1);
    }
    return $answer;
}

# Mechanisms of the greeting, in the order of the alphabet.
sub offered
{
    my ($c) = @_;
    my ($list) = map { /^\* SASL (.*)/ ? $1 : () } @{ $c->{greeting} };
    return join ' ', sort split / /, $list // '';
}

# ---- login ----------------------------------------------------------------

sub plain
{
    my ($user, $password, $authzid) = @_;
    return encode_base64(join("\0", $authzid // '', $user, $password), '');
}

# By PLAIN, in one line; the answer.
sub login
{
    my ($c, @who) = @_;
    return ask($c, 'AUTHENTICATE PLAIN ' . plain(@who ? @who : qw(admin adminpw)));
}

# By a mechanism of Authen::SASL, and its security layer if it has one; the answer. Keys: user, pass,
# authzid, minssf, maxssf (of the layer, none by default), more (bytes sent in one piece with
# a response that is empty, the last of DIGEST-MD5).
sub sasl_login
{
    my ($c, $mech, %o) = @_;
    my $conn = Authen::SASL->new(mechanism => $mech, callback => {
        user => $o{user} // 'admin', pass => $o{pass} // 'adminpw', authname => $o{authzid},
    })->client_new('csync', 'localhost');
    $conn->property(minssf => $o{minssf} // 0, maxssf => $o{maxssf} // 0, externalssf => 0);
    my $initial = $conn->client_start;
    my $command = "AUTHENTICATE $mech";
    if (defined $initial && length $initial) {
        $command .= ' ' . encode_base64($initial, '');
    } elsif ($mech eq 'EXTERNAL') {
        $command .= ' =';
    }
    my $answer = ask($c, $command);
    while (defined $answer && $answer =~ s/^\+ //) {
        my $response = $conn->client_step(decode_base64($answer)) // '';
        put($c, encode_base64($response, '') . "\r\n" . ($response eq '' ? $o{more} // '' : ''));
        $answer = line($c);
    }
    if (($answer // '') =~ /^OK/ && ($conn->property('ssf') // 0) > 0) {
        @{$c}{qw(sasl packets count)} = ($conn, '', 0);
    }
    return $answer;
}

# ---- work -----------------------------------------------------------------

# Is a connection to a service of $m good for work: large content up, and a long answer down? One
# test.
my $serial = 0;
sub works
{
    my ($m, $c, $label) = @_;
    my $user = 'user' . ++$serial;
    my $box = CBTest::Feed->new(mboxname => "user.$user");
    $box->append(message("small $serial", $_)) for 100 .. 400;
    my $large = message("large $serial", 600_000);
    my $noise = join '', map { chr(1 + (($_ * $_ * 7919 + $_ / 13 + $serial) % 255)) } 1 .. 200_000;
    $box->append($_) for $large, $noise;
    my @wrong;
    eval { $box->sync($c); 1 } or push @wrong, $@;
    my $got = eval { $c->get("USER $user") } // {};
    my ($listed) = @{ $got->{MAILBOX} // [] };
    push @wrong, 'listing is another' if ($listed->{SYNC_CRC} // '') ne $box->crc;
    for my $body ($large, $noise) {
        my $r = run_cmd(cmd => [as_cyrus(program('cyr_backup'), '-C', $m->conf, $user, 'dump', 'message',
            sha1_hex($body))]);
        push @wrong, "message: $r->{err}" if $r->{out} ne $body;
    }
    my $unknown = join ' ', map { sha1_hex("$serial $_") } 1 .. 10_000;
    my $r = $c->command("APPLY RESERVE %(PARTITION default MBOXNAME (user.$user) GUID ($unknown))");
    push @wrong, $r->{text} if $r->{status} ne 'OK';
    push @wrong, 'not all of the long answer came' if "@{ $r->{lines} }" ne "MISSING ($unknown)";
    ok(!@wrong, $label) or diag(map { "$_\n" } @wrong);
    return;
}

1;
