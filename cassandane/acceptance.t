#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Seven tests, each on a site of its own, of what the earlier backup program was tested for:
# a mailbox, several folders, a shared mailbox, a deleted mailbox, locks, and XBACKUP (imapd as
# the client) of a user and of a shared mailbox.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_json differences);
use CBTest::Holder;
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Server qw(by_imap);
use CBTest::Site;
use CBTest::Util qw(sha1_hex);
use Test::More;

sub site
{
    return CBTest::Site->new(users => ['cassandane'],
        options => { imap => { xbackup_enabled => 'yes' }, backup => { backup_lock_wait => '1s' } });
}

sub synced
{
    my ($site, @how) = @_;
    my $r = $site->sync('tcp', @how);
    is($r->{rc}, 0, "sync_client @how") or diag($r->{err});
    return;
}

sub equal
{
    my ($site, @whom) = @_;
    for my $user (@whom) {
        my @d = eval { differences($site, $user) };
        no_differences("$user: the backup has what IMAP shows", @d, $@ ? $@ : ());
    }
    memory_ok($site);
    return;
}

# Delivery would add header fields.
sub append
{
    my ($site, @messages) = @_;
    $site->imap_as('cassandane')->append('INBOX', $_) for @messages;
    return;
}

# Names of the mailboxes in a backup, from `list mailboxes`.
sub listed
{
    my ($site, $user) = @_;
    my $r = $site->cyr_backup($user, 'list', 'mailboxes');
    is($r->{rc}, 0, "cyr_backup $user list mailboxes") or diag($r->{err});
    my (undef, @lines) = split /\n/, $r->{out};    # the first one is a heading
    return join ' ', sort map { (split ' ')[-1] } @lines;
}

# A mailbox from `json mailboxes`.
sub mailbox
{
    my ($site, $user, $name) = @_;
    my ($m) = grep { $_->{mboxname} eq $name } @{ backup_json($site, $user, 'mailboxes') };
    return $m // {};
}

# A message, as the backup has it, is the one that was delivered.
sub dumped
{
    my ($site, $user, $label, $message) = @_;
    my $r = $site->cyr_backup($user, 'dump', 'message', sha1_hex($message));
    is($r->{out}, $message, $label);
    return;
}

subtest 'basic' => sub {
    my $site = site();
    my $message = CBTest::Imap::message();
    append($site, $message);
    synced($site, '-u', 'cassandane');
    is(listed($site, 'cassandane'), 'user.cassandane', 'the INBOX');
    my $inbox = mailbox($site, 'cassandane', 'user.cassandane');
    is(scalar @{ $inbox->{messages} }, 1, 'one message in it');
    is($inbox->{messages}[0]{guid}, sha1_hex($message), 'which is the one that was delivered');
    dumped($site, 'cassandane', 'byte for byte', $message);
    equal($site, 'cassandane');
};

subtest 'messages' => sub {
    my $site = site();
    my $imap = $site->imap_as('cassandane');
    my %in;
    for my $folder ('INBOX', 'INBOX.foo', 'INBOX.foo.bar', 'INBOX.baz') {
        $imap->must(create => $folder) if $folder ne 'INBOX';
        for my $n (1 .. 5) {
            my $m = CBTest::Imap::message(body => CBTest::Imap::noise(100 * $n * $n * $n, $n));
            $imap->append($folder, $m);
            push @{ $in{$folder} }, $m;
        }
    }
    synced($site, '-u', 'cassandane');
    for my $folder (sort keys %in) {
        dumped($site, 'cassandane', "message $_ of $folder", $in{$folder}[ $_ - 1 ]) for 1 .. 5;
        (my $name = $folder) =~ s/^INBOX/user.cassandane/;
        my $m = mailbox($site, 'cassandane', $name);
        is(join(' ', map { $_->{guid} } @{ $m->{messages} }), join(' ', map { sha1_hex($_) } @{ $in{$folder} }),
            "$folder has all of them, in order");
    }
    my %all = map { $_->{guid} => 1 } @{ backup_json($site, 'cassandane', 'messages') };
    is(scalar keys %all, 20, 'twenty messages in all');
    equal($site, 'cassandane');
};

# A shared folder, and others which must not come into its backup.
sub share
{
    my ($site) = @_;
    my $admin = $site->admin;
    $admin->must(create => $_) for 'foo', 'foo.bar', 'other';
    $admin->must(setacl => $_, 'admin', 'lrswipkxtecda') for 'foo', 'foo.bar', 'other';
    my %message = map { $_ => CBTest::Imap::message(subject => $_) } 'foo', 'foo.bar', 'other';
    $admin->append($_, $message{$_}) for sort keys %message;
    return \%message;
}

subtest 'shared mailbox' => sub {
    my $site = site();
    my $message = share($site);
    synced($site, '-m', 'foo');
    is(listed($site, '%SHARED'), 'foo', 'only what was synced');
    dumped($site, '%SHARED', 'its message', $message->{foo});
    isnt($site->cyr_backup('%SHARED', 'dump', 'message', sha1_hex($message->{other}))->{rc}, 0, 'no other');
    synced($site, '-m', 'foo', 'foo.bar', 'other', 'user.cassandane');
    is(listed($site, '%SHARED'), 'foo foo.bar other', 'all, one user\'s mailbox among them');
    is(listed($site, 'cassandane'), 'user.cassandane', 'which is in a backup of its own');
    equal($site, '%SHARED', 'cassandane');
};

subtest 'deleted mailbox' => sub {
    my $site = site();
    my $imap = $site->imap_as('cassandane');
    my $message = CBTest::Imap::message();
    $imap->must(create => 'INBOX.foo');
    $imap->append('INBOX.foo', $message);
    synced($site, '-u', 'cassandane');
    $imap->must(delete => 'INBOX.foo');
    synced($site, '-u', 'cassandane');
    like(listed($site, 'cassandane'), qr/^DELETED\.user\.cassandane\.foo\.[0-9A-F]{8} user\.cassandane$/,
        'it is among the deleted ones');
    equal($site, 'cassandane');
    dumped($site, 'cassandane', 'its message', $message);
    # for good: of which sync_client 3.6 says nothing, so the backup goes on having it
    my $gone = $site->{imap}->tool('cyr_expire', '-D', '0', '-E', '1000', '-X', '1000');
    is($gone->{rc}, 0, 'cyr_expire') or diag($gone->{err});
    is(scalar keys %{ by_imap($site, 'cassandane')->{mailboxes} }, 1, 'gone from the server');
    is($site->sync_log_once('tcp')->{rc}, 0, 'rolling');
    synced($site, '-u', 'cassandane');
    dumped($site, 'cassandane', 'its message is still in the backup', $message);
    $imap->must(create => 'INBOX.foo');
    my $second = CBTest::Imap::message();
    $imap->append('INBOX.foo', $second);
    synced($site, '-u', 'cassandane');
    my @d = grep { !/ DELETED\.\S+ only in the backup$/ } differences($site, 'cassandane');
    no_differences('another of its name: the backup has what IMAP shows', @d);
    dumped($site, 'cassandane', 'and its message', $second);
    dumped($site, 'cassandane', 'and still the old one', $message);
};

subtest 'locks' => sub {
    my $site = site();
    append($site, CBTest::Imap::message());
    synced($site, '-u', 'cassandane');
    my $holder = CBTest::Holder->new($site->data_file('cassandane'));
    my $c = $site->backup_csync;
    is($c->command('GET USER cassandane')->{text}, 'NO IMAP_MAILBOX_LOCKED Mailbox locked', 'locked by another');
    my $second = CBTest::Imap::message();
    append($site, $second);
    isnt($site->sync('tcp', '-u', 'cassandane')->{rc}, 0, 'sync_client fails');
    is(listed($site, 'cassandane'), 'user.cassandane', 'reading needs no lock');
    $holder->release;
    is($c->command('GET USER cassandane')->{text}, 'OK Success', 'and when it is free, we have it');
    ok(!CBTest::Holder::is_free($site->data_file('cassandane')), 'and no other can');
    is($c->command('EXIT')->{text}, 'OK Finished', 'until we end');
    ok(CBTest::Holder::is_free($site->data_file('cassandane')), 'then it is free');
    synced($site, '-u', 'cassandane');
    dumped($site, 'cassandane', 'nothing is lost', $second);
    equal($site, 'cassandane');
};

# XBACKUP; returns what it said: [ "OK USER x", ... ].
sub xbackup
{
    my ($site, $pattern) = @_;
    my @said;
    my $imap = CBTest::Imap->new(port => $site->{port}{imap}, user => 'admin');
    my $sock = $imap->talk->release_socket(1);
    print {$sock} "x1 XBACKUP $pattern tcp\r\n";
    while (defined(my $line = readline $sock)) {
        push @said, $1 if $line =~ /^\* (\S.*?)\r?$/;
        last if $line =~ /^x1 (\S.*?)\r?$/ && push @said, $1;
    }
    note(join "\n", @said);
    print {$sock} "x2 LOGOUT\r\n";
    return \@said;
}

subtest 'XBACKUP of a user' => sub {
    my $site = site();
    my $imap = $site->imap_as('cassandane');
    my $message = CBTest::Imap::message();
    append($site, $message);
    $imap->must(create => 'INBOX.foo');
    $imap->append('INBOX.foo', CBTest::Imap::message(), flags => ['\\Flagged']);
    $imap->must(subscribe => 'INBOX.foo');
    my $said = xbackup($site, 'user.cassandane');
    is($said->[-1] =~ /^(\S+)/ && $1, 'OK', 'done') or diag("@{$said}");
    ok((grep { /^OK USER cassandane/ } @{$said}), 'it names the user');
    is(listed($site, 'cassandane'), 'user.cassandane user.cassandane.foo', 'both mailboxes');
    dumped($site, 'cassandane', 'the message', $message);
    equal($site, 'cassandane');
    append($site, CBTest::Imap::message());
    xbackup($site, 'user.*');
    equal($site, 'cassandane');
    ok(CBTest::Holder::is_free($site->data_file('cassandane')), 'and nothing stays locked');
};

subtest 'XBACKUP of a shared mailbox' => sub {
    my $site = site();
    my $message = share($site);
    my $said = xbackup($site, 'foo');
    like($said->[-1], qr/^OK /, 'done') or diag("@{$said}");
    is(listed($site, '%SHARED'), 'foo', 'only what was asked for');
    dumped($site, '%SHARED', 'its message', $message->{foo});
    $said = xbackup($site, '*');
    like($said->[-1], qr/^OK /, 'all of it') or diag("@{$said}");
    is(listed($site, '%SHARED'), 'foo foo.bar other', 'all shared mailboxes');
    equal($site, '%SHARED', 'cassandane');
};
done_testing;
