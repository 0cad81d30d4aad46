# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Dav - calendars, address books and files, written by CalDAV, CardDAV and
# WebDAV, and mailboxes of such types made by IMAP.
package CBTest::Scenarios::Dav;
use strict;
use warnings;
use CBTest::Dav;

my $cal = '/calendars/user/{user}';
my $book = '/addressbooks/user/{user}';

sub dav { my ($c) = @_; return CBTest::Dav->new(port => $c->{site}{port}{http}, user => $c->{user}) }

my @steps = (
    ['first use of a calendar and an address book', sub {
        my ($c) = @_;
        my $dav = dav($c);
        $dav->request(PROPFIND => "$_/", 'text/xml', undef, Depth => 1) for $cal, $book;
    }],
    ['events and cards', sub {
        my ($c) = @_;
        my $dav = dav($c);
        $dav->put_event("$cal/Default/e$_.ics", "e$_", "event $_") for 1 .. 10;
        $dav->put_card("$book/Default/c$_.vcf", "c$_", "Person $_") for 1 .. 10;
        $dav->put_event("$cal/Default/odd%20name.ics", 'odd', "Gr\xc3\xbc\xc3\x9fe\\, 100% \"quoted\"");
    }],
    ['changed', sub {
        my ($c) = @_;
        my $dav = dav($c);
        $dav->put_event("$cal/Default/e$_.ics", "e$_", "event $_, later") for 1 .. 3;
        $dav->put_card("$book/Default/c2.vcf", 'c2', 'Other Name');
    }],
    ['deleted', sub {
        my ($c) = @_;
        my $dav = dav($c);
        $dav->request(DELETE => "$cal/Default/e$_.ics") for 4, 5;
        $dav->request(DELETE => "$book/Default/c3.vcf");
    }],
    ['more calendars', sub {
        my ($c) = @_;
        my $dav = dav($c);
        $dav->request(MKCALENDAR => "$cal/work/");
        $dav->request(MKCALENDAR => "$cal/home/", 'text/xml', <<'END');
<?xml version="1.0" encoding="utf-8"?>
<C:mkcalendar xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:set><D:prop>
<D:displayname>At &quot;home&quot; 100% ä</D:displayname>
<C:calendar-description>two
lines</C:calendar-description>
</D:prop></D:set></C:mkcalendar>
END
        $dav->put_event("$cal/work/w$_.ics", "w$_", "work $_") for 1 .. 3;
    }],
    ['events with everything', sub {
        my ($c) = @_;
        my $dav = dav($c);
        $dav->put_event("$cal/home/r.ics", 'r', 'again and again', ['RRULE:FREQ=WEEKLY;COUNT=10',
            'BEGIN:VALARM', 'ACTION:DISPLAY', 'DESCRIPTION:soon', 'TRIGGER:-PT15M', 'END:VALARM']);
        $dav->put_event("$cal/home/big.ics", 'big', 'x' x 60_000);
    }],
    ['event moved to another calendar', sub {
        my ($c) = @_;
        my $dav = dav($c);
        (my $to = "$dav->{base}$cal/home/w1.ics") =~ s/\{user\}/$c->{user}/;
        $dav->request(MOVE => "$cal/work/w1.ics", undef, undef, Destination => $to);
    }],
    ['properties changed', sub {
        my ($c) = @_;
        dav($c)->request(PROPPATCH => "$cal/work/", 'text/xml', <<'END');
<?xml version="1.0" encoding="utf-8"?>
<D:propertyupdate xmlns:D="DAV:" xmlns:A="http://apple.com/ns/ical/"><D:set><D:prop>
<D:displayname>Work</D:displayname><A:calendar-color>#ff0000</A:calendar-color>
</D:prop></D:set></D:propertyupdate>
END
    }],
    ['calendar deleted', sub {
        my ($c) = @_;
        dav($c)->request(DELETE => "$cal/work/");
    }],
    ['typed mailboxes made by IMAP', sub {
        my ($c) = @_;
        $c->{imap}->raw('CREATE', $c->own('Cal') . ' (TYPE CALENDAR)');
        $c->{imap}->raw('CREATE', $c->own('Book') . ' (TYPE ADDRESSBOOK)');
    }],
    ['typed mailbox deleted', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => $c->own('Cal'));
    }],
    ['files', sub {
        my ($c) = @_;
        my $dav = dav($c);
        $dav->request(PROPFIND => '/drive/user/{user}/', 'text/xml', undef, Depth => 1);
        $dav->request(PUT => '/drive/user/{user}/note.txt', 'text/plain', "Gr\xc3\xbc\xc3\x9fe\r\n");
        $dav->request(PUT => '/drive/user/{user}/data.bin', 'application/octet-stream',
            join '', map { chr } 0 .. 255);
    }],
);

sub steps { return @steps }

1;
