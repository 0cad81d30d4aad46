# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Many - a user with 500 folders.
package CBTest::Scenarios::Many;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

sub path { return sprintf 'year%d.week%02d', 2000 + int($_[0] / 50), $_[0] % 50 }

my @steps = (
    ['first sync of 500 folders', sub {
        my ($c) = @_;
        for my $n (0 .. 499) {
            $c->{imap}->must(create => $c->own(path($n)));
            $c->fill(path($n), message(subject => "in folder $n")) if $n % 10 == 0;
        }
    }],
    ['something in fifty of them', sub {
        my ($c) = @_;
        $c->fill(path($_ * 10 + 3), message()) for 0 .. 49;
        $c->{imap}->must(rename => $c->own('year2003'), $c->own('archive.2003'));
        $c->{imap}->must(delete => $c->own(path(499 - $_))) for 0 .. 19;
    }],
);

sub steps { return @steps }

1;
