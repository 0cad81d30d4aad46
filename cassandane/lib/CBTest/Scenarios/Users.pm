# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Users - users that are renamed, deleted and made again, and folders that go
# from one user to another.
package CBTest::Scenarios::Users;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

# Give a folder to another user, who gets the rights an owner has; or put it among the shared ones.
sub give
{
    my ($c, $from, $to, $owner) = @_;
    my ($imap, $names) = ($c->{admin}, $c->{site}->names);
    $imap->must(rename => $from, $to);
    my @all = map { $_->[2] } map { @{ $imap->must(list => '', $_) } } $to;
    my $below = $imap->must(list => '', $names->for_admin($names->from_admin($to) . '.*'));
    push @all, map { $_->[2] } @{$below} if ref $below;
    for my $name (@all) {
        $imap->must(setacl => $name, 'admin', 'lrswipkxtecdan');
        $imap->must(setacl => $name, $owner, 'lrswipkxtecdan') if $owner;
    }
    return;
}

my @steps = (
    ['first two users with folders', sub {
        my ($c) = @_;
        for my $path (qw(Project Project.plans Project.deeds Staying)) {
            $c->{imap}->must(create => $c->own($path));
            $c->fill($path, map { message(subject => "$path $_") } 1 .. 4);
        }
        $c->{site}->deliver($_, message(subject => 'to both'), message()) for @{$c}{qw(user reader)};
        $c->{imap}->must(subscribe => $c->own($_)) for qw(Project Staying);
        $c->{admin}->must(setacl => $c->adm('Staying'), $c->{reader}, 'lrs');
        $c->{site}->sieve_as($c->{user})->put(main => "keep;\r\n");
    }],
    ['tree of folders given to another user', sub {
        my ($c) = @_;
        give($c, $c->adm('Project'), $c->of_user($c->{reader}, 'Project'), $c->{reader});
    }],
    ['the other works with it', sub {
        my ($c) = @_;
        $c->{admin}->append($c->of_user($c->{reader}, 'Project'), message());
        $c->{admin}->must(select => $c->of_user($c->{reader}, 'Project'));
        $c->{admin}->must(store => '1:2', '+FLAGS', '(\\Flagged)');
        $c->{admin}->must('unselect');
    }],
    ['and gives it back', sub {
        my ($c) = @_;
        give($c, $c->of_user($c->{reader}, 'Project'), $c->adm('Project'), $c->{user});
    }],
    ['to the other and back between two syncs', sub {
        my ($c) = @_;
        $c->{admin}->must(rename => $c->adm('Project.plans'), $c->of_user($c->{reader}, 'Plans'));
        $c->{admin}->must(rename => $c->of_user($c->{reader}, 'Plans'), $c->adm('Project.plots'));
    }],
    ['one folder goes, another comes', sub {
        my ($c) = @_;
        my $reader = $c->{site}->imap_as($c->{reader});
        my $theirs = $c->{site}->names->for_user($c->{reader},
            $c->{site}->names->folder($c->{reader}, 'Theirs'));
        $reader->must(create => $theirs);
        $reader->append($theirs, message());
        give($c, $c->of_user($c->{reader}, 'Theirs'), $c->adm('Got'), $c->{user});
        give($c, $c->adm('Project.deeds'), $c->of_user($c->{reader}, 'Deeds'), $c->{reader});
    }],
    ['folder becomes a shared one', sub {
        my ($c) = @_;
        give($c, $c->adm('Got'), $c->shared(''));
        $c->{admin}->append($c->shared(''), message());
    }],
    ['shared folder becomes a user\'s', sub {
        my ($c) = @_;
        give($c, $c->shared(''), $c->adm('Got.back'), $c->{user});
    }],
    ['copies between users', sub {
        my ($c) = @_;
        $c->{admin}->must(setacl => $c->of_user($c->{reader}, ''), $c->{user}, 'lrswipte');
        $c->{imap}->must(select => 'INBOX');
        my $names = $c->{site}->names;
        $c->{imap}->must(copy => '1:*', $names->for_user($c->{user}, $names->inbox($c->{reader})));
        $c->{imap}->must('unselect');
    }],
    # The client says nothing of what has gone, except from the rolling log.
    ['user renamed', sub {
        my ($c) = @_;
        my $old = $c->{user};
        $c->{site}->add_user('alicia');
        $c->{admin}->must(rename => $c->adm(''), $c->of_user('alicia', ''));
        $c->{user} = 'alicia';
        push @{ $c->{gone} }, $old;
        $c->login;
    }],
    ['renamed user gets mail', sub {
        my ($c) = @_;
        $c->{site}->deliver($c->{user}, message());
        $c->fill('Staying', message());
        $c->{site}->sieve_as($c->{user})->put(more => "discard;\r\n");
    }],
    ['a new user with the old name', sub {
        my ($c) = @_;
        $c->{site}->create_mailboxes('alice');
        $c->{site}->deliver('alice', message(subject => 'to the new one'));
        push @{ $c->{others} }, 'alice';
        @{ $c->{gone} } = grep { $_ ne 'alice' } @{ $c->{gone} };
    }],
    ['user deleted', sub {
        my ($c) = @_;
        $c->{admin}->must(delete => $c->of_user('alice', ''));
        push @{ $c->{gone} }, 'alice';
        @{ $c->{others} } = ();
    }],
    ['deleted user made again', sub {
        my ($c) = @_;
        $c->next_second;
        $c->{site}->create_mailboxes('alice');
        $c->{site}->deliver('alice', map { message() } 1 .. 3);
        @{ $c->{others} } = ('alice');
        $c->login;
        @{ $c->{gone} } = ();
        $c->{unlogged} = 'the folders in DELETED of the user that was';
    }],
    ['user with many folders deleted', sub {
        my ($c) = @_;
        $c->{admin}->must(delete => $c->adm(''));
        push @{ $c->{gone} }, $c->{user};
        $c->{user} = 'alice';
        @{ $c->{others} } = ();
        $c->login;
    }],
);

sub steps { return @steps }

1;
