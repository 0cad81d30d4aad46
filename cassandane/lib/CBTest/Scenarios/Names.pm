# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Scenarios::Names - every character that imapd allows in the name of a folder, users of
# several domains, shared folders of domains. (It allows neither % nor " nor \ nor { in names.)
package CBTest::Scenarios::Names;
use strict;
use warnings;
use CBTest::Imap;

*message = \&CBTest::Imap::message;

my @odd = ('a b', 's*t', '*', 'l(p)', ')(', '[b]', ']', 'q?', 'ha#sh', 'do$l', '~', '+-=_,', "it's", '`', '<>',
    '^', 'x|y', 'NIL', 'nil', 'UPPER', 'upper', 'INBOX', 'user', 'DELETED', '65000000', 'Caf&AOk-',
    'gr&AOQ-&APY-&APw-&AN8-', '&ZeVnLIqe-', '&2D3eAA-', '&-', '&AN8-.&AN8-', '(', ' ', '  two  blanks');

# Domains have it, too; in the default domain an @ in a name means another domain to the admin.
sub odd
{
    my ($c) = @_;
    return (@odd, $c->{user} =~ /\@/ ? ('a@b', '@') : ());
}

sub try_create
{
    my ($c, @paths) = @_;
    my @made;
    for my $path (@paths) {
        push @made, $path if eval { $c->{imap}->must(create => $c->own($path)); 1 };
    }
    return @made;
}

my @steps = (
    ['first folders of odd names', sub {
        my ($c) = @_;
        my @made = try_create($c, odd($c));
        $c->{odd} = \@made;
        die "imapd refused nearly all of them: @made\n" if @made < 25;
        $c->fill($_, message(subject => "in $_")) for @made;
    }],
    ['again', sub {
        my ($c) = @_;
        for my $path (@{ $c->{odd} }) {
            $c->fill($path, message());
            $c->{imap}->must(subscribe => $c->own($path));
        }
    }],
    ['renamed to other odd names', sub {
        my ($c) = @_;
        my %child = map { /^(.*)\.[^.]*$/ ? ($_ => $1) : () } @{ $c->{odd} };
        my %parent = reverse %child;
        my @plain = grep { !$child{$_} && !$parent{$_} && !/^\d+$|^(?:INBOX|user|DELETED)$/ } @{ $c->{odd} };
        $c->{imap}->must(rename => $c->own($_), $c->own("moved.$_")) for @plain;
        $c->{odd} = [map { "moved.$_" } @plain];
    }],
    ['annotated, given rights to, limited', sub {
        my ($c) = @_;
        my $limited = 0;
        for my $path (@{ $c->{odd} }) {
            $c->{imap}->must(setmetadata => $c->own($path), '/shared/comment', "this is $path");
            $c->{admin}->must(setacl => $c->adm($path), $c->{reader}, 'lrs');
            $limited += eval { $c->{admin}->must(setquota => $c->adm($path), '(STORAGE 1000)'); 1 } // 0;
        }
        die "imapd limits hardly any: $limited\n" if $limited < 10;
    }],
    ['others look at them', sub {
        my ($c) = @_;
        my $reader = $c->{site}->imap_as($c->{reader});
        for my $path (@{ $c->{odd} }) {
            $reader->must(select => $c->theirs($path));
            $reader->must(store => '1', '+FLAGS', '(\\Seen)');
            $reader->must('unselect');
            $reader->must(subscribe => $c->theirs($path));
        }
        $reader->must('noop');
    }],
    ['deleted', sub {
        my ($c) = @_;
        $c->{imap}->must(delete => $c->own($_)) for @{ $c->{odd} }[0 .. 9];
        $c->{unlogged} = 'that limits of a deleted folder go with it';
    }],
    ['mail for everybody', sub {
        my ($c) = @_;
        $c->{site}->deliver($_, message(subject => "for $_"), message()) for $c->users;
    }],
    ['users of all domains have folders of one name', sub {
        my ($c) = @_;
        my $names = $c->{site}->names;
        for my $user ($c->users) {
            my $imap = $c->{site}->imap_as($user);
            my $folder = $names->for_user($user, $names->folder($user, 'Common'));
            $imap->must(create => $folder);
            $imap->must(subscribe => $folder);
            $imap->append($folder, message(subject => "of $user"));
            $c->{site}->sieve_as($user)->put(main => "# of $user\r\nkeep;\r\n");
            $c->{admin}->must(setquota => $c->of_user($user, ''), '(STORAGE 50000)');
        }
    }],
    ['shared folders of every domain', sub {
        my ($c) = @_;
        my $names = $c->{site}->names;
        my %domains = map { ($names->parts($names->inbox($_)))[0] => 1 } $c->users;
        for my $domain (sort keys %domains) {
            for my $path ('common', 'common.below', 'common.odd name') {
                my $name = $names->for_admin(($domain eq '' ? '' : "$domain!") . $path);
                $c->{admin}->must(create => $name);
                $c->{admin}->must(setacl => $name, 'admin', 'lrswipkxtecdan');
                $c->{admin}->must(setacl => $name, 'anyone', 'lrs');
                $c->{admin}->append($name, message(subject => "of $domain"));
            }
        }
    }],
);

sub steps { return @steps }

1;
