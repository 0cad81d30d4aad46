# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Dav - calendars and address books of the mail server, as clients put things there:
# a small CalDAV and CardDAV client.
package CBTest::Dav;
use strict;
use warnings;
use HTTP::Tiny;
use MIME::Base64 qw(encode_base64);

# Keys: port, user.
sub new
{
    my ($class, %o) = @_;
    return bless {
        base => "http://127.0.0.1:$o{port}/dav", user => $o{user}, http => HTTP::Tiny->new(timeout => 30),
        auth => 'Basic ' . encode_base64("$o{user}:$o{user}pw", ''),
    }, $class;
}

# One request; dies unless the status is below 300. {user} in a path stands for the user.
sub request
{
    my ($self, $method, $path, $type, $content, %headers) = @_;
    $path =~ s/\{user\}/$self->{user}/;
    my $r = $self->{http}->request($method, "$self->{base}$path", {
        headers => { Authorization => $self->{auth}, $type ? ('Content-Type' => $type) : (), %headers },
        defined $content ? (content => $content) : (),
    });
    die "$method $path: $r->{status} $r->{reason} $r->{content}\n" if $r->{status} >= 300;
    return $r;
}

sub event
{
    my ($uid, $summary, $more) = @_;
    return join "\r\n", 'BEGIN:VCALENDAR', 'VERSION:2.0', 'PRODID:-//test//EN', 'BEGIN:VEVENT', "UID:$uid",
        'DTSTAMP:20261001T080000Z', 'DTSTART:20261101T100000Z', 'DTEND:20261101T110000Z',
        "SUMMARY:$summary", @{ $more // [] }, 'END:VEVENT', 'END:VCALENDAR', '';
}

sub card
{
    my ($uid, $name) = @_;
    return join "\r\n", 'BEGIN:VCARD', 'VERSION:3.0', "UID:$uid", "N:$name;;;;", "FN:$name",
        "EMAIL:$uid\@example.org", 'END:VCARD', '';
}

sub put_event { my ($s, $path, @what) = @_; return $s->request(PUT => $path, 'text/calendar', event(@what)) }
sub put_card { my ($s, $path, @what) = @_; return $s->request(PUT => $path, 'text/vcard', card(@what)) }

1;
