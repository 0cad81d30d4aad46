# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Huge - a message of 60 MB.
package CBTest::Scenarios::Huge;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;
*noise = \&CBTest::Imap::noise;

my @steps = (
    ['first a small message', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('Huge'));
        $c->fill('Huge', message());
    }],
    ['message of 60 MB', sub {
        my ($c) = @_;
        $c->fill('Huge', message(body => noise(60 * 1024 * 1024, 3)), message());
    }],
    ['copied, the original expunged', sub {
        my ($c) = @_;
        $c->in_folder('Huge', sub { $_[0]->must(copy => '2', 'INBOX') });
        $c->expunge('Huge', '2');
    }],
);

sub steps { return @steps }

1;
