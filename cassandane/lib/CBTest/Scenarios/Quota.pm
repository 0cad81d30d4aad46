# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Quota - limits of several resources, set, changed and removed, on a user, on
# folders below and on shared folders; and what Sieve scripts go through.
package CBTest::Scenarios::Quota;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

my @steps = (
    ['first folders', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own($_)) for qw(Limited Limited.below Free);
        $c->fill('Limited.below', message());
    }],
    ['limit for messages', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => $c->adm(''), '(MESSAGE 5000)');
    }],
    ['limits for everything', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => $c->adm(''),
            '(STORAGE 100000 MESSAGE 4000 X-ANNOTATION-STORAGE 500 X-NUM-FOLDERS 50)');
    }],
    ['limits of folders below', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => $c->adm('Limited'), '(STORAGE 2000)');
        $c->{admin}->must(setquota => $c->adm('Limited.below'), '(STORAGE 1000 MESSAGE 10)');
    }],
    ['limits changed, one resource dropped', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => $c->adm('Limited.below'), '(MESSAGE 20)');
        $c->{admin}->must(setquota => $c->adm('Limited'), '(STORAGE 2147483647)');
        $c->{admin}->must(setquota => $c->adm(''), '(STORAGE 0)');
    }],
    ['no limit any more', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => $c->adm(''), '()');
    }],
    ['folder with a limit renamed', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Limited.below'), $c->own('Free.below'));
    }],
    ['folder with a limit deleted', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => $c->adm('Free'), '(MESSAGE 7)');
        $c->{imap}->must(delete => $c->own('Limited'));
        $c->{unlogged} = 'that limits of a deleted folder go with it';
    }],
    ['limit of a shared folder', sub {
        my ($c) = @_;
        for my $name ($c->shared(''), $c->shared('limited')) {
            $c->{admin}->must(create => $name);
            $c->{admin}->must(setacl => $name, 'admin', 'lrswipkxtecda');
        }
        $c->{admin}->must(setquota => $c->shared('limited'), '(STORAGE 1234 MESSAGE 12)');
        $c->{admin}->append($c->shared('limited'), message());
    }],
    ['scripts', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->put("script $_", "# number $_\r\nkeep;\r\n") for 1 .. 5;
        $sieve->put('50% (of it)', "discard;\r\n");
        $sieve->put('long', join('', map { "# line $_ \"\\\\\" 100%\r\n" } 1 .. 5000) . "keep;\r\n");
        $sieve->activate('long');
    }],
    ['active script changed', sub {
        my ($c) = @_;
        $c->{site}->sieve_as($c->{user})->put('long', "stop;\r\n");
    }],
    ['another is active', sub {
        my ($c) = @_;
        $c->{site}->sieve_as($c->{user})->activate('50% (of it)');
    }],
    ['none is active, some deleted', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->activate('');
        $sieve->delete($_) for 'long', 'script 2';
    }],
    ['script renamed', sub {
        my ($c) = @_;
        $c->{site}->sieve_as($c->{user})->command('RENAMESCRIPT "script 3" "script three"');
    }],
    ['same text under two names', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->put($_, "keep;\r\n") for 'script 1', 'script 4', 'new';
        $sieve->activate('script 4');
    }],
    ['all scripts deleted', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->activate('');
        my %scripts = $sieve->list;
        $sieve->delete($_) for sort keys %scripts;
    }],
);

sub steps { return @steps }

1;
