# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Basic - a bit of everything, as it happens to anybody's mailboxes.
package CBTest::Scenarios::Basic;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;
*noise = \&CBTest::Imap::noise;

my @steps = (
    ['first sync of nested folders', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $_) for $c->own('Work'), $c->own('Work.2025'), $c->own('Work.2026'),
            $c->own('Deep.er.and.deeper'), $c->own('Caf&AOk-'), $c->own('My old Folder'), $c->own('Sent');
        $c->{site}->deliver($c->{user}, map { message() } 1 .. 5);
        $c->{imap}->append($c->own('Work.2026'), message(body => noise(20_000, 7)), flags => ['\\Flagged']);
        $c->{imap}->append($c->own('Work.2026'), message(), date => ' 1-Jan-2001 00:00:01 -0800');
        $c->{imap}->append($c->own('Deep.er.and.deeper'), message());
        $c->{imap}->append($c->own('Caf&AOk-'), message(body => "Gr\xc3\xbc\xc3\x9fe\r\n"));
        $c->{imap}->append($c->own('My old Folder'), message(body => "{5+}\r\nAPPLY SUB (\r\n"));
        $c->{imap}->append($c->own('Work.2025'), message()) for 1 .. 3;
    }],
    ['append', sub {
        my ($c) = @_;
        $c->{site}->deliver($c->{user}, message(), message(body => noise(3000, 3)));
        $c->{imap}->append($c->own('Work'), message(), flags => ['\\Seen', '\\Draft', 'NonJunk']);
        $c->{imap}->append($c->own('Work'), message(body => ''));
    }],
    ['message of 1.5 MB', sub {
        my ($c) = @_;
        $c->{imap}->append($c->own('Work'), message(body => noise(1_500_000, 11)));
    }],
    ['nobody touched anything', sub { }],
    ['reading: \\Recent and \\Seen', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must(fetch => '1:2', '(BODY[])');
        $c->{imap}->must('unselect');
    }],
    ['flags and keywords set', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must(store => '1', '+FLAGS', '(\\Flagged \\Answered $Forwarded)');
        $c->{imap}->must(store => '2:4', '+FLAGS', '(\\Deleted Some-Keyword has:attachment)');
        $c->{imap}->must('unselect');
    }],
    ['flags and keywords cleared', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must(store => '1', 'FLAGS', '()');
        $c->{imap}->must(store => '2:3', '-FLAGS', '(\\Deleted Some-Keyword)');
        $c->{imap}->must('unselect');
    }],
    ['expunge', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must('expunge');
        $c->{imap}->must(store => '2', '+FLAGS', '(\\Deleted)');
        $c->{imap}->must('expunge');
        $c->{imap}->must('unselect');
    }],
    ['delivered and expunged between two syncs', sub {
        my ($c) = @_;
        $c->{imap}->append($c->own('Sent'), message()) for 1 .. 3;
        $c->{imap}->must(select => $c->own('Sent'));
        $c->{imap}->must(store => '2', '+FLAGS', '(\\Deleted)');
        $c->{imap}->must('expunge');
        $c->{imap}->must('unselect');
    }],
    ['copy', sub {
        my ($c) = @_;
        $c->{imap}->must(select => 'INBOX');
        $c->{imap}->must(copy => '1:*', $c->own('Work'));
        $c->{imap}->must('unselect');
    }],
    ['move and back again', sub {
        my ($c) = @_;
        for my $way ([$c->own('Work.2025'), $c->own('Sent')], [$c->own('Sent'), $c->own('Work.2025')]) {
            $c->{imap}->must(select => $way->[0]);
            $c->{imap}->must(copy => '1:2', $way->[1]);
            $c->{imap}->must(store => '1:2', '+FLAGS', '(\\Deleted)');
            $c->{imap}->must('expunge');
            $c->{imap}->must('unselect');
        }
    }],
    ['the same message twice in one folder', sub {
        my ($c) = @_;
        my $msg = message(subject => 'again and again');
        $c->{imap}->append($c->own('Work.2026'), $msg, flags => $_) for [], ['\\Seen'], ['$x'];
    }],
    ['one of the same messages expunged', sub {
        my ($c) = @_;
        $c->{imap}->must(select => $c->own('Work.2026'));
        my $uids = $c->{imap}->must(search => 'subject', 'again and again');
        $c->{imap}->must(store => $uids->[0], '+FLAGS', '(\\Deleted)');
        $c->{imap}->must('expunge');
        $c->{imap}->must('unselect');
    }],
    ['folder created and renamed', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('New'));
        $c->{imap}->must(rename => $c->own('New'), $c->own('Newer'));
        $c->{imap}->must(rename => $c->own('Work'), $c->own('Job'));
    }],
    ['folder deleted (delayed)', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => $c->own('Sent'));
    }],
    ['folder of the same name again', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('Sent'));
        $c->{imap}->append($c->own('Sent'), message());
    }],
    ['renamed one after the other', sub {
        my ($c) = @_;
        $c->{imap}->must(rename => $c->own('Sent'), $c->own('Sent-old'));
        $c->{imap}->must(rename => $c->own('Newer'), $c->own('Sent'));
        $c->{imap}->must(create => $c->own('Newer'));
    }],
    ['intermediate folders', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('Inter.mediate.child'));
        $c->{imap}->append($c->own('Inter.mediate.child'), message());
        make_intermediate($c, $c->name($_)) for 'Inter', 'Inter.mediate';
    }],
    ['subscriptions', sub {
        my ($c) = @_;
        $c->{imap}->must(subscribe => $_) for $c->own('Job'), $c->own('Job.2026'), $c->own('Caf&AOk-');
    }],
    ['subscription dropped', sub {
        my ($c) = @_;
        $c->{imap}->must(unsubscribe => $c->own('Job.2026'));
    }],
    ['Sieve scripts', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->put(main => "require [\"fileinto\"];\r\nif header :is \"x\" \"y\" {\r\n  fileinto \"INBOX.Job\";\r\n}\r\n");
        $sieve->put(other => "# Gr\xc3\xbc\xc3\x9fe, 100% \\ \"\r\nkeep;\r\n");
        $sieve->activate('main');
    }],
    ['Sieve script changed, another active', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->put(main => "discard;\r\n");
        $sieve->activate('other');
    }],
    ['Sieve script deleted', sub {
        my ($c) = @_;
        my $sieve = $c->{site}->sieve_as($c->{user});
        $sieve->activate('');
        $sieve->delete('main');
    }],
    ['quota', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => $c->adm(''), '(STORAGE 100000 MESSAGE 5000)');
    }],
    ['quota changed', sub {
        my ($c) = @_;
        $c->{admin}->must(setquota => $c->adm(''), '(STORAGE 200000)');
    }],
    ['mailbox annotations', sub {
        my ($c) = @_;
        $c->{imap}->must(setmetadata => $c->own('Job'), '/shared/comment', 'shared comment');
        $c->{imap}->must(setmetadata => $c->own('Job'), '/private/comment',
            { Literal => "two \"lines\"\r\nof \\ text, Gr\xc3\xbc\xc3\x9fe" });
        $c->{imap}->must(setmetadata => $c->own('Newer'), '/private/specialuse', '\\Archive');
        $c->{admin}->must(setmetadata => $c->adm('Job'), '/shared/vendor/cmu/cyrus-imapd/expire', '7');
    }],
    ['mailbox annotation removed', sub {
        my ($c) = @_;
        $c->{imap}->must(setmetadata => $c->own('Job'), '/shared/comment', undef);
    }],
    ['message annotations', sub {
        my ($c) = @_;
        $c->{imap}->must(select => $c->own('Job'));
        $c->{imap}->raw('UID STORE', '1 ANNOTATION (/comment (value.shared "shared note" value.priv "private note"))');
        $c->{imap}->raw('UID STORE', '2 ANNOTATION (/comment (value.priv "only mine"))');
        $c->{imap}->must('unselect');
    }],
    ['message annotation removed', sub {
        my ($c) = @_;
        $c->{imap}->must(select => $c->own('Job'));
        $c->{imap}->raw('UID STORE', '1 ANNOTATION (/comment (value.priv NIL))');
        $c->{imap}->must('unselect');
    }],
    ['ACL', sub {
        my ($c) = @_;
        $c->{admin}->must(setacl => $c->adm('Job'), $c->{reader}, 'lrs');
        $c->{admin}->must(setacl => $c->adm('Newer'), 'anyone', 'lr');
    }],
    ['another user reads', sub {
        my ($c) = @_;
        my $imap = $c->{site}->imap_as($c->{reader});
        $imap->must(select => $c->theirs('Job'));
        $imap->must(store => '1:3', '+FLAGS', '(\\Seen)');
        $imap->must('unselect');
        # the seen database is written when the mailbox is left; a new connection sees to it
        $imap->must('noop');
    }],
    ['shared folders', sub {
        my ($c) = @_;
        for my $name ($c->shared(''), $c->shared('team'), $c->shared('team.plans')) {
            $c->{admin}->must(create => $name);
            $c->{admin}->must(setacl => $name, 'admin', 'lrswipkxtecda');
            $c->{admin}->must(setacl => $name, 'anyone', 'lrs');
        }
        $c->{admin}->append($c->shared('team'), message(), flags => ['\\Flagged']);
        $c->{admin}->append($c->shared('team.plans'), message(body => noise(5000, 5)));
    }],
    ['shared folder renamed, another deleted', sub {
        my ($c) = @_;
        $c->{admin}->must(rename => $c->shared('team.plans'), $c->shared('team.deeds'));
        $c->{admin}->append($c->shared('team.deeds'), message());
        $c->{admin}->must(create => $c->shared('gone'));
        $c->{admin}->must(delete => $c->shared('gone'));
    }],
    ['everything at once', sub {
        my ($c) = @_;
        $c->{imap}->must(create => $c->own('Last'));
        $c->{imap}->must(select => $c->own('Job'));
        $c->{imap}->must(copy => '1:4', $c->own('Last'));
        $c->{imap}->must(store => '1:2', '+FLAGS', '(\\Deleted $gone)');
        $c->{imap}->must('expunge');
        $c->{imap}->must('unselect');
        $c->{imap}->must(rename => $c->own('Job.2026'), $c->own('Last.2026'));
        $c->{site}->deliver($c->{user}, message());
        $c->{imap}->must(delete => $c->own('Sent-old'));
    }],
);

sub steps { return @steps }

# Debian's 3.6.1 makes no new intermediate mailboxes, but servers with a past have them:
# a name without a mailbox, there only because it has children.
sub make_intermediate
{
    my ($c, $name) = @_;
    my $imap = $c->{site}{imap};
    my @db = ("$imap->{dir}/conf/mailboxes.db", 'twoskip');
    (my $key = $name) =~ tr/./\x1f/;
    my $old = $imap->tool('cyr_dbtool', @db, 'get', "N$key")->{out};
    my ($id) = $old =~ / I (\S+) / or die "cyr_dbtool: $old\n";
    for my $set (["N$key", "I $id"], ["I$id", "N $key"]) {
        my $r = $imap->tool('cyr_dbtool', @db, 'set', $set->[0], "%(T ei $set->[1] C 1 F 1 M 1)");
        die "cyr_dbtool: $r->{err}\n" if $r->{rc} != 0;
    }
    $c->{intermediate}{$name} = 1;
    return;
}

1;
