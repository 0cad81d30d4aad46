# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Flags - flags, a hundred keywords, \Recent, and \Seen of several people in
# shared mailboxes.
package CBTest::Scenarios::Flags;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

# A reader marks messages; the state is written when the mailbox is left.
sub reads
{
    my ($c, $user, $mailbox, @stores) = @_;
    my $imap = $c->{site}->imap_as($user);
    $imap->must(select => $mailbox);
    $imap->must(store => @{$_}) for @stores;
    $imap->must('unselect');
    $imap->must('noop');
    return;
}

my @steps = (
    ['first a folder of messages', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own($_)) for qw(Flags Other Odd);
        $c->fill('Flags', map { message() } 1 .. 30);
        $c->fill('Other', map { message() } 1 .. 5);
        $c->fill('Odd', map { message() } 1 .. 3);
    }],
    ['a hundred keywords', sub {
        my ($c) = @_;
        $c->in_folder('Flags', sub {
            my ($imap) = @_;
            for my $n (0 .. 9) {
                my $list = join ' ', map { "keyword-$_" } $n * 10 .. $n * 10 + 9;
                $imap->must(store => ($n + 1) . ':30', '+FLAGS', "($list)");
            }
        });
    }],
    ['all hundred on one message, odd names', sub {
        my ($c) = @_;
        $c->in_folder('Flags', sub {
            my ($imap) = @_;
            $imap->must(store => '1', '+FLAGS', '(' . join(' ', map { "keyword-$_" } 0 .. 99) . ')');
        });
        $c->in_folder('Odd', sub {
            my ($imap) = @_;
            $imap->must(store => '1:2', '+FLAGS', "($_)")
                for '$MDNSent', 'k' x 200, 'a:b', '[x', 'a.b/c', '&AOk-', '~', '!#\'+,-', 'NIL', '$', '1';
        });
    }],
    ['one message appended with many flags', sub {
        my ($c) = @_;
        $c->{imap}->append($c->own('Flags'), message(),
            flags => ['\\Seen', '\\Answered', '\\Flagged', '\\Deleted', '\\Draft', map { "keyword-$_" } 0 .. 99]);
    }],
    ['keywords taken away, all flags replaced', sub {
        my ($c) = @_;
        $c->in_folder('Flags', sub {
            my ($imap) = @_;
            $imap->must(store => '1:10', '-FLAGS', '(' . join(' ', map { "keyword-$_" } 10 .. 99) . ')');
            $imap->must(store => '11:20', 'FLAGS', '(\\Seen KEYWORD-1)');
            $imap->must(store => '21:25', 'FLAGS', '()');
        });
    }],
    ['the same flag set and cleared between two syncs', sub {
        my ($c) = @_;
        $c->in_folder('Flags', sub {
            my ($imap) = @_;
            $imap->must(store => '1:30', $_, '(\\Flagged)') for '+FLAGS', '-FLAGS';
        });
    }],
    ['flags of copies', sub {
        my ($c) = @_;
        $c->in_folder('Flags', sub {
            $_[0]->must(copy => '1:15', $c->own('Other'));
            $_[0]->must(store => '1:5', '+FLAGS', '(\\Seen)');
        });
    }],
    ['new mail seen, not read', sub {
        my ($c) = @_;
        $c->{site}->deliver($c->{user}, map { message() } 1 .. 10);
        $c->in_folder('', sub { $_[0]->must(noop => ()) });
    }],
    ['examined, which leaves \\Recent', sub {
        my ($c) = @_;
        $c->{site}->deliver($c->{user}, message());
        $c->{imap}->must(examine => 'INBOX');
        $c->{imap}->must(fetch => '1:*', '(FLAGS)');
        $c->{imap}->must('unselect');
    }],
    ['read one after the other', sub {
        my ($c) = @_;
        $c->in_folder('', sub {
            my ($imap) = @_;
            $imap->must(fetch => $_, '(BODY[])') for 1, 3, 5, 7;
        });
    }],
    ['marked unread again', sub {
        my ($c) = @_;
        $c->in_folder('', sub { $_[0]->must(store => '3', '-FLAGS', '(\\Seen)') });
    }],
    ['another user reads', sub {
        my ($c) = @_;
        $c->{admin}->must(setacl => $c->adm('Other'), $c->{reader}, 'lrswi');
        reads($c, $c->{reader}, $c->theirs('Other'), ['1:3,5', '+FLAGS', '(\\Seen)']);
    }],
    ['the other user marks unread', sub {
        my ($c) = @_;
        reads($c, $c->{reader}, $c->theirs('Other'), ['2', '-FLAGS', '(\\Seen)'],
            ['4', '+FLAGS', '(\\Flagged theirs)']);
    }],
    ['owner and reader at once', sub {
        my ($c) = @_;
        reads($c, $c->{reader}, $c->theirs('Other'), ['1:*', '+FLAGS', '(\\Seen)']);
        $c->in_folder('Other', sub { $_[0]->must(store => '1', '+FLAGS', '(\\Seen mine)') });
        $c->expunge('Other', '3');
    }],
    ['renamed while others have read it', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Other'), $c->own('Another'));
        reads($c, $c->{reader}, $c->theirs('Another'), ['6:7', '-FLAGS', '(\\Seen)']);
    }],
    ['everybody reads what is nobody\'s', sub {
        my ($c) = @_;
        my $board = $c->shared('board');
        $c->{admin}->must(create => $board);
        $c->{admin}->must(setacl => $board, 'admin', 'lrswipkxtecda');
        $c->{admin}->must(setacl => $board, 'anyone', 'lrs');
        $c->{admin}->append($board, message()) for 1 .. 9;
        my $names = $c->{site}->names;
        my $n = 0;
        for my $user ($c->{user}, $c->{reader}) {
            reads($c, $user, $names->for_user($user, $names->from_admin($board)),
                [$n++ ? '2:4' : '1,3,5', '+FLAGS', '(\\Seen)']);
        }
    }],
);

sub steps { return @steps }

1;
