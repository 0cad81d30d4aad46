#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Two hundred users and a few shared folders with sync_client -A: one connection for all of them.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences foreign_mail);
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Scenarios qw(memory_ok no_differences synced_ok unwanted);
use CBTest::Site;
use Test::More;

my @some = map { sprintf 'user%03d', $_ } 1, 77, 200;
my @users = map { sprintf 'user%03d', $_ } 1 .. 200;
my $site = CBTest::Site->new(users => \@some);
my $admin = $site->admin;
my %some = map { $_ => 1 } @some;
for my $user (grep { !$some{$_} } @users) {    # nobody logs in as one of these
    $site->create_mailboxes($user);
}
for my $user (@users) {
    $site->deliver($user, CBTest::Imap::message(subject => "for $user"));
    $admin->append("user.$user", CBTest::Imap::message(subject => "more for $user"));
}
for my $name (qw(shared shared.one shared.two)) {
    $admin->must(create => $name);
    $admin->must(setacl => $name, 'admin', 'lrswipkxtecda');
    $admin->append($name, CBTest::Imap::message(subject => "in $name"));
}

sub check
{
    my ($what, $whom) = @_;
    my $r = $site->sync('proxy', '-A');
    synced_ok($what, $r);
    is(scalar(grep { $_->{line} =~ /^AUTHENTICATE/ } @{ $r->{commands} }), 1, 'over one connection');
    my %asked = map { $_->{line} =~ /^GET USER (\S+)/ ? ($1 => 1) : () } @{ $r->{commands} };
    is(scalar(grep { !$asked{$_} } @users), 0, 'every user is asked for');
    no_differences("nobody's mail in another's file",
        map { my $u = $_; my @f = eval { foreign_mail($site, $u) }; (@f, $@ ? $@ : ()) } @{$whom}, '%SHARED');
    for my $user (@some, '%SHARED') {
        my @d = eval { differences($site, $user) };
        no_differences("$user: both sides equal", @d, $@ ? $@ : ());
    }
    my $again = $site->sync('proxy', '-A');
    my @unwanted = unwanted(@{ $again->{commands} });
    ok(!@unwanted, 'second sync sends nothing') or diag(CBTest::Relay::excerpt(@unwanted));
    return;
}

check('first sync of everybody', \@users);
for my $user (@some, 'user100') {
    $site->deliver($user, CBTest::Imap::message(subject => "new for $user"));
}
$admin->append('shared.two', CBTest::Imap::message());
check('four of them got mail', [@some, 'user100', 'user101']);
memory_ok($site);
done_testing;
