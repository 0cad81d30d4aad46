# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Crowd - 20,000 messages in one folder, or as many as CROWD says.
# They are put there as files, which reconstruct finds: by IMAP it would take minutes.
package CBTest::Scenarios::Crowd;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

my $COUNT = $ENV{CROWD} // 20_000;

my @steps = (
    ['first sync of very many messages', sub {
        my ($c) = @_;
        $c->{contents} = 'datafile';
        $c->{imap}->must(create => $c->own('Crowd'));
        $c->put_files('Crowd', map { ["$_.", message(subject => "one of many, number $_")] } 1 .. $COUNT);
        $c->tool({ timeout => 120 }, 'reconstruct', $c->adm('Crowd'));
        my $st = $c->{imap}->must(status => $c->own('Crowd'), '(MESSAGES)');
        die "$st->{messages} messages\n" if $st->{messages} != $COUNT;
    }],
    ['flags on all of them, one more, folder renamed', sub {
        my ($c) = @_;
        $c->in_folder('Crowd', sub {
            my ($imap) = @_;
            $imap->must(store => '1:*', '+FLAGS.SILENT', '(\\Seen many)');
        });
        $c->fill('Crowd', message());
        $c->{imap}->must(rename => $c->own('Crowd'), $c->own('Mob'));
    }],
    ['half of them expunged, some copied, one changed', sub {
        my ($c) = @_;
        $c->in_folder('Mob', sub {
            my ($imap) = @_;
            $imap->must(copy => sprintf('%d:%d', $COUNT - 600, $COUNT - 100), 'INBOX');
            $imap->must(store => '777', '+FLAGS', '(\\Flagged)');
        });
        $c->expunge('Mob', sprintf '%d:%d', $COUNT / 4 + 1, $COUNT * 3 / 4);
    }],
);

sub steps { return @steps }

1;
