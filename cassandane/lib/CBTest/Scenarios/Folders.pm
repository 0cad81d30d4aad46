# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Folders - trees of folders that are renamed, moved, deleted and made again,
# and messages that move between them.
package CBTest::Scenarios::Folders;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

my @steps = (
    ['first a tree of folders', sub {
        my ($c) = @_;
        for my $path (qw(Tree Tree.a Tree.a.b Tree.a.b.c Tree.d Forest One Two Three Side)) {
            $c->{imap}->must(create => $c->own($path));
            $c->fill($path, map { message(subject => "$path $_") } 1 .. 3);
        }
    }],
    ['message moved away', sub {
        my ($c) = @_;
        $c->in_folder('One', sub { $_[0]->raw('UID MOVE', '2 ' . $c->own('Side')) });
    }],
    ['message moved back', sub {
        my ($c) = @_;
        $c->in_folder('Side', sub { $_[0]->raw('UID MOVE', '4 ' . $c->own('One')) });
    }],
    ['moved away and back between two syncs', sub {
        my ($c) = @_;
        $c->in_folder('One', sub { $_[0]->raw('UID MOVE', '1:* ' . $c->own('Side')) });
        $c->in_folder('Side', sub { $_[0]->raw('UID MOVE', '5:* ' . $c->own('One')) });
    }],
    ['tree renamed', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Tree'), $c->own('Wood'));
    }],
    ['tree put below another', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Wood'), $c->own('Forest.Wood'));
        $c->fill('Forest.Wood.a.b.c', message());
    }],
    ['branch cut off and put elsewhere', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Forest.Wood.a.b'), $c->own('Branch'));
        $c->{imap}->must(create => $c->own('Forest.Wood.a.b'));
        $c->fill('Forest.Wood.a.b', message());
    }],
    ['renamed in a row: each takes the name of the next', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Three'), $c->own('Four'));
        $c->{imap}->must(rename => $c->own('Two'), $c->own('Three'));
        $c->{imap}->must(rename => $c->own('One'), $c->own('Two'));
    }],
    # 3.6.1 cannot bring renames that go round in a circle into an order, and gives up before it
    # has sent anything; it can as soon as one of the names is another.
    ['names changed with each other', sub {
        my ($c, $mode) = @_;
        $c->{imap}->must(rename => $c->own('Two'), $c->own('between'));
        $c->{imap}->must(rename => $c->own('Three'), $c->own('Two'));
        $c->{imap}->must(rename => $c->own('between'), $c->own('Three'));
        $c->{fails} = 'it has no order for renames that form a circle';
    }],
    ['circle broken', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Three'), $c->own('Fourth'));
    }],
    ['renamed to what the deleted one was called', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => $c->own('Fourth'));
        $c->{imap}->must(rename => $c->own('Four'), $c->own('Fourth'));
    }],
    ['same name deleted and made again, twice', sub {
        my ($c) = @_;
        for my $round (1, 2) {
            $c->next_second;
            $c->{imap}->must(delete => $c->own('Two'));
            $c->{imap}->must(create => $c->own('Two'));
            $c->fill('Two', map { message(subject => "round $round") } 1 .. $round);
        }
    }],
    ['deleted and made again, as empty as before', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('Empty'));
        $c->{imap}->must(delete => $c->own('Empty'));
        $c->{imap}->must(create => $c->own('Empty'));
    }],
    ['and once more', sub {
        my ($c) = @_;
        $c->next_second;
        $c->{imap}->must(delete => $c->own('Empty'));
        $c->{imap}->must(create => $c->own('Empty'));
    }],
    ['tree deleted', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => $c->own("Forest.Wood$_")) for '.a.b', '.a', '.d', '';
    }],
    ['deleted folder brought back', sub {
        my ($c) = @_;
        my $names = $c->{site}->names;
        my ($gone) = grep { /DELETED\..*\.Forest\.Wood\.d\./ }
            CBTest::Server::mailbox_names($c->{site}, $c->{user});
        $c->{admin}->must(rename => $names->for_admin($gone), $c->adm('Back'));
        $c->fill('Back', message());
    }],
    # That of 3.6.1 ends in the middle of this, after it has made the new folder.
    ['INBOX renamed: imapd ends', sub {
        my ($c) = @_;
        $c->{site}->deliver($c->{user}, map { message() } 1 .. 4);
        eval { $c->{imap}->must(rename => 'INBOX', $c->own('Old mail')) };
        $c->login;
        $c->{site}->deliver($c->{user}, message());
    }],
    ['every other message gone, new ones there, folder renamed', sub {
        my ($c) = @_;
        $c->expunge('Back', '1,3');
        $c->fill('Back', message(), message());
        $c->{imap}->must(rename => $c->own('Back'), $c->own('Forth'));
        $c->fill('Forth', message());
    }],
    ['rights given, taken, denied', sub {
        my ($c) = @_;
        my @set = ([$c->{reader}, 'lrswit'], ['anyone', 'lr'], ['-anyone', 'x'], ["-$c->{reader}", 'e'],
            ['group:staff', 'lrs'], ['some body', 'l']);
        $c->{admin}->must(setacl => $c->adm('Branch'), @{$_}) for @set;
        $c->{admin}->must(setacl => $c->adm('Forest'), "user$_", 'lrs') for 1 .. 100;
    }],
    ['rights changed and removed', sub {
        my ($c) = @_;
        $c->{admin}->must(setacl => $c->adm('Branch'), $c->{reader}, 'lr');
        $c->{admin}->must(deleteacl => $c->adm('Branch'), 'anyone');
        $c->{admin}->must(deleteacl => $c->adm('Forest'), "user$_") for 1 .. 99;
    }],
    ['long names', sub {
        my ($c) = @_;
        my $deep = join '.', map { "level$_" } 1 .. 40;
        $c->{imap}->must(create => $c->own($_)) for 'x' x 240, join('.', ('long' x 25) x 4), $deep;
        $c->fill($_, message()) for 'x' x 240, $deep;
        $c->{imap}->must(rename => $c->own('x' x 240), $c->own('y' x 240));
    }],
);

sub steps { return @steps }

1;
