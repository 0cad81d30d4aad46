#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Fifty users over one connection, and nobody's mail in another's file.
# sync_client -A and -u never say RESTART between users, and the content of a new mailbox
# comes before anything says whose it is.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences foreign_mail);
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Scenarios qw(memory_ok no_differences unwanted);
use CBTest::Site;
use Test::More;

my @users = map { sprintf 'user%02d', $_ } 1 .. 50;
my $site = CBTest::Site->new(users => \@users, options => { imap => { maxlogins_per_user => 100 } });
my $admin = $site->admin;

$admin->must(create => 'shared');
$admin->must(setacl => 'shared', 'admin', 'lrswipkxtecda');
my $to_all = CBTest::Imap::message(subject => 'to all of you');
for my $user (@users) {
    $site->deliver($user, CBTest::Imap::message(subject => "for $user alone"),
        CBTest::Imap::message(body => CBTest::Imap::noise(2000 + 100 * substr($user, -2), substr $user, -2)));
    $admin->must(create => "user.$user.Sub.folder");
    $admin->append("user.$user.Sub.folder", $to_all);
    $admin->append("user.$user.Sub.folder", CBTest::Imap::message(subject => "also for $user"));
}
$admin->append('shared', $to_all);
$admin->append('shared', CBTest::Imap::message(subject => 'shared'));

# Sync, then every user's backup holds that user's mail and no other; some are compared in full.
sub check
{
    my ($name, $whom, @how) = @_;
    subtest $name => sub {
        my $r = $site->sync('proxy', @how);
        is($r->{rc}, 0, 'sync') or diag("$r->{out}$r->{err}");
        is(scalar(grep { $_->{line} =~ /^AUTHENTICATE/ } @{ $r->{commands} }), 1, 'one connection did it all');
        my @refused = grep { ($_->{reply} // '') !~ /^OK / } @{ $r->{commands} };
        ok(!@refused, 'every command is answered OK')
            or diag(CBTest::Relay::excerpt(@refused[0 .. ($#refused > 4 ? 4 : $#refused)]));
        my @foreign = map { my $u = $_; my @f = eval { foreign_mail($site, $u) }; (@f, $@ ? $@ : ()) }
            @users, '%SHARED';
        no_differences("nobody's mail in another's file", @foreign);
        my @d;
        for my $user (@{$whom}, '%SHARED') {
            push @d, map { "$user: $_" } eval { differences($site, $user) };
            push @d, "$user: $@" if $@;
            delete $site->{clients}{$user};
        }
        no_differences('both sides equal', @d);
        my $again = $site->sync('proxy', @how);
        my @unwanted = unwanted(@{ $again->{commands} });
        ok(!@unwanted, 'second sync sends nothing') or diag(CBTest::Relay::excerpt(@unwanted[0 .. ($#unwanted > 4 ? 4 : $#unwanted)]));
    };
    return;
}

check('first sync with -A', \@users, '-A');
for my $user (@users) {
    $site->deliver($user, CBTest::Imap::message(subject => "second for $user"));
    $admin->must(create => "user.$user.New");
    $admin->append("user.$user.New", $to_all);
    $admin->append("user.$user.New", CBTest::Imap::message(subject => "new for $user"));
}
$admin->append('shared', CBTest::Imap::message(subject => 'shared again'));
check('again, half of it new mailboxes', [@users[7, 23, 49]], '-A');
for my $user (@users) {
    $admin->append("user.$user.Sub.folder", CBTest::Imap::message(subject => "third for $user"));
}
subtest 'many mailboxes of many users with one -m' => sub {
    my $r = $site->sync('proxy', '-m', map { "user.$_.Sub.folder" } @users);
    is($r->{rc}, 0, 'sync') or diag("$r->{out}$r->{err}");
};
check('a list of users with -u', [@users[0, 24, 42]], '-u', @users);
memory_ok($site);
done_testing;
