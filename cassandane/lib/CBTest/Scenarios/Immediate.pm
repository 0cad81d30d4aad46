# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Immediate - a server that really deletes what is deleted: folders with
# delete_mode immediate, messages with expunge_mode immediate.
package CBTest::Scenarios::Immediate;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

my @steps = (
    ['first folders', sub {
        my ($c) = @_;
        for my $path (qw(One One.below Two Three Four)) {
            $c->{imap}->must(create => $c->own($path));
            $c->fill($path, map { message(subject => "$path $_") } 1 .. 6);
        }
        $c->{site}->deliver($c->{user}, map { message() } 1 .. 3);
    }],
    ['messages expunged', sub {
        my ($c) = @_;
        $c->expunge('One', '2:3');
        $c->expunge('', '1:*');
    }],
    ['the last message expunged, a new one there', sub {
        my ($c) = @_;
        $c->expunge('One', '6');
        $c->fill('One', message());
        $c->expunge('One', '7');
    }],
    ['folder deleted', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => $c->own('Two'));
    }],
    ['deleted and made again', sub {
        my ($c) = @_;
        for my $n (1, 2) {
            $c->{imap}->must(delete => $c->own('Three'));
            $c->{imap}->must(create => $c->own('Three'));
            $c->fill('Three', message(subject => "again $n"));
        }
    }],
    ['deleted one made again', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('Two'));
        $c->fill('Two', message());
    }],
    ['tree deleted, another takes its name', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => $c->own($_)) for 'One.below', 'One';
        $c->{imap}->must(rename => $c->own('Two'), $c->own('One'));
    }],
    ['made and deleted between two syncs', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('Short'));
        $c->fill('Short', message());
        $c->{imap}->must(delete => $c->own('Short'));
    }],
    ['shared folder deleted', sub {
        my ($c) = @_;
        $c->{admin}->must(create => $c->shared($_)) for '', 'one';
        $c->{admin}->must(setacl => $c->shared('one'), 'admin', 'lrswipkxtecdan');
        $c->{admin}->append($c->shared('one'), message());
    }],
    ['shared folder deleted, indeed', sub {
        my ($c) = @_;
        $c->{admin}->must(delete => $c->shared('one'));
    }],
    ['user deleted', sub {
        my ($c) = @_;
        push @{ $c->{gone} }, $c->{user};
        $c->{admin}->must(delete => $c->adm(''));
        $c->{user} = $c->{reader};
        $c->{site}->deliver($c->{reader}, message());
        $c->login;
    }],
    ['deleted user made again', sub {
        my ($c) = @_;
        $c->{user} = pop @{ $c->{gone} };
        $c->{site}->create_mailboxes($c->{user});
        $c->{site}->deliver($c->{user}, message());
        $c->login;
    }],
);

sub steps { return @steps }

1;
