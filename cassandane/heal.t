#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Damage heals: a chunk with messages, one with records, one with everything else, or the index is
# damaged; verify names what is lost, and the next run of a stock sync_client, as -u or as the rolling
# daemon, sends again what is missing and nothing else. Then both sides are equal, verify is content,
# and so is an index that is made anew.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(backup_state differences);
use CBTest::Damage;
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Scenarios qw(no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus run_cmd);
use JSON;
use Test::More;

# bob has an INBOX and nothing else: there is no other mailbox for the client to ask with.
my $site = CBTest::Site->new(users => ['alice', 'bob']);
my %case = map { $_ => CBTest::Case->new(site => $site, user => $_) } qw(alice bob);
my $serial = 0;

sub append
{
    my ($user, $folder, $n) = @_;
    $case{$user}{imap}->append($folder, CBTest::Imap::message(subject => 'number ' . ++$serial,
        body => CBTest::Imap::noise(3000))) for 1 .. $n;
    return;
}

sub sync_ok
{
    my (@how) = @_;
    my $r = $site->sync('proxy', @how);
    is($r->{rc}, 0, "sync @how") or diag("$r->{out}$r->{err}");
    return $r;
}

# ---- histories in which each kind has chunks of its own -----------------------------------------

append('alice', 'INBOX', 4);
$case{alice}{imap}->must(create => 'INBOX.Work');
append('alice', 'INBOX.Work', 2);
append('bob', 'INBOX', 3);
sync_ok('-u', $_) for qw(alice bob);
append('alice', 'INBOX.Work', 3);    # in a chunk of their own, with their records
append('bob', 'INBOX', 3);
sync_ok('-u', $_) for qw(alice bob);
$case{alice}{imap}->must(select => 'INBOX');    # records only
$case{alice}{imap}->must(store => '2', '+flags', '(\\Flagged)');
sync_ok('-u', 'alice');
$case{alice}{imap}->must(subscribe => 'INBOX.Work');    # neither
my $sieve = $site->sieve_as('alice');
$sieve->put('main', "keep;\r\nstop;\r\n");
$sieve->activate('main');
sync_ok('-u', 'alice');
$case{alice}{imap}->must(create => 'INBOX.Gone');
append('alice', 'INBOX.Gone', 1);
sync_ok('-u', 'alice');
$case{alice}{imap}->must(delete => 'INBOX.Gone');
append('alice', 'INBOX', 1);
append('bob', 'INBOX', 1);
sync_ok('-u', $_) for qw(alice bob);

# ---- tools --------------------------------------------------------------------------------------

my %damage = map { $_ => CBTest::Damage->new($site, $_) } qw(alice bob);

sub sql
{
    my ($user, $query) = @_;
    my $r = run_cmd(cmd => [as_cyrus('sqlite3', $damage{$user}{file} . '.index', $query)]);
    is($r->{rc}, 0, 'sqlite3') or diag($r->{err});
    return split /\n/, $r->{out};
}

sub verify
{
    my ($user, @more) = @_;
    my $r = $site->ctl_backups('-j', 'verify', @more, $user);
    my $said = eval { decode_json($r->{out}) } // {};
    return ($r->{rc}, $said, $r->{err});
}

# The chunk that has (or of several: the last that has) what the query names.
sub member_of
{
    my ($user, $query) = @_;
    my ($seq) = sql($user, $query);
    my ($m) = grep { $_->{seq} == $seq } @{ $damage{$user}{members} };
    return $m;
}

sub spoil
{
    my ($user, $m) = @_;
    $damage{$user}->flip($damage{$user}{file}, int(($m->{at} + 40 + $m->{end}) / 2));
    return;
}

# What came again must be exactly this.
sub uploads_are
{
    my ($what, $commands, @want) = @_;
    my %sent = CBTest::Relay::uploaded(@{$commands});
    is(join(' ', map { "$_ x $sent{$_}" } sort keys %sent), join(' ', map { "$_ x 1" } sort @want),
        "$what: what was lost was sent, and nothing else")
        or diag(CBTest::Relay::excerpt(@{$commands}));
    return;
}

sub mailboxes_sent
{
    my ($commands) = @_;
    my %seen;
    $seen{$_}++ for map { $_->{line} =~ /^APPLY MAILBOX .*?MBOXNAME (\S+)/ ? $1 : () } @{$commands};
    return join ' ', sort keys %seen;
}

sub content_ok
{
    my ($what, $user) = @_;
    no_differences("$what: both sides equal", differences($site, $user, full => 1));
    my ($rc, $said, $err) = verify($user);
    is($rc, 0, "$what: verify is content") or diag(JSON->new->pretty->encode($said), $err);
    is($said->{status}, 'ok', "$what: and says ok");
    is($said->{"$_"}, 0, "$what: $_") for qw(data_findings index_findings messages_awaited);
    my $r = $site->ctl_backups('reindex', $user);
    is($r->{rc}, 0, "$what: reindex") or diag("$r->{out}$r->{err}");
    ($rc, $said) = verify($user);
    is($said->{status}, 'ok', "$what: verify is content with what reindex made");
    no_differences("$what: both sides equal after reindex", differences($site, $user, full => 1));
    return;
}

# As the rolling daemon: it must be told that something happened to the mailboxes.
sub heal_rolling
{
    my ($user, @folders) = @_;
    $site->{relay}->clear;
    my $daemon = $site->start_rolling('proxy');
    my %imap = map { $_ => $case{$user}{imap} } @folders;
    for my $folder (@folders) {
        $imap{$folder}->must(select => $folder);
        $imap{$folder}->must(store => '1', '+flags', '(rolled' . ++$serial . ')');
    }
    $site->wait_rolling($daemon);
    is($site->stop_rolling($daemon), 0, 'the rolling daemon ended well');
    return { commands => [$site->{relay}->commands] };
}

my @guids;

# ---- messages ------------------------------------------------------------------------------------

for my $user (qw(alice bob)) {
    for my $how ('-u', '-A', 'rolling') {
        subtest "$user: a chunk with messages, healed by $how" => sub {
            my $folder = $user eq 'alice' ? 'user.alice.Work' : 'user.bob';
            my $name = $user eq 'alice' ? 'INBOX.Work' : 'INBOX';
            $damage{$user} = CBTest::Damage->new($site, $user);
            my $m = member_of($user, 'SELECT c.chunk FROM records r JOIN contents c ON c.id=r.content JOIN'
                . " folder_states s ON s.folder=r.folder AND s.until IS NULL WHERE s.mboxname='$folder' AND"
                . ' r.until IS NULL ORDER BY r.uid DESC LIMIT 1 OFFSET 1');
            my @lost = sql($user, "SELECT lower(hex(guid)) FROM contents WHERE chunk=$m->{seq}");
            ok(@lost, 'messages in the chunk: ' . @lost);
            spoil($user, $m);
            my ($rc, $said, $err) = verify($user, '--dry-run');
            is($rc, 75, 'verify has found it');
            like($said->{status}, qr/^failed \(data damaged/, 'and calls it damage of the data');
            ok((grep { $_->{kind} eq 'chunk' && $_->{offset} == $m->{at} } @{ $said->{data_damage} }),
                "names the chunk at $m->{at}");
            my %named = map { $_->{guid} => $_ } grep { $_->{kind} eq 'message' } @{ $said->{data_damage} };
            is(join(' ', sort keys %named), join(' ', sort @lost), 'and each message');
            is(join(' ', map { $named{$_}{mboxname} // '' } @lost), join(' ', ($folder) x @lost), 'where it is');
            ok(!(grep { !$named{$_}{uid} } @lost), 'and its UID');
            is(scalar @{ $said->{index_damage} }, 0, 'the index is not blamed');
            ($rc, $said, $err) = verify($user);
            like($said->{status}, qr/will be asked for again/, 'verify has mended what it can')
                or diag($err);
            ($rc, $said, $err) = verify($user);
            is($said->{messages_awaited}, scalar @lost, 'messages are awaited');
            my $r = $how eq 'rolling' ? heal_rolling($user, $name) : sync_ok($how, $how eq '-u' ? $user : ());
            uploads_are($how, $r->{commands}, @lost);
            is(mailboxes_sent($r->{commands}), $folder, 'no other mailbox was sent');
            content_ok($how, $user);
        };
    }
}

# ---- records, and the rest -------------------------------------------------------------------------

sub state_of { return JSON->new->canonical->pretty->encode(backup_state($site, $_[0])) }

for my $kind (
    ['records', "SELECT r.since>>24 FROM records r WHERE r.until IS NULL AND CAST(r.flags AS TEXT) LIKE '%Flagged%'"],
    ['a subscription', 'SELECT since>>24 FROM subs ORDER BY since DESC'],
    ['a script', 'SELECT since>>24 FROM scripts WHERE until IS NULL'],
    ['a deleted mailbox', "SELECT min(s.since)>>24 FROM folder_states s WHERE s.mboxname LIKE '%Gone%'"],
    ) {
    my ($what, $query) = @{$kind};
    subtest "a chunk with $what" => sub {
        $damage{alice} = CBTest::Damage->new($site, 'alice');
        my $m = member_of('alice', $query);
        my @lost = sql('alice', "SELECT lower(hex(c.guid)) FROM contents c JOIN records r ON r.content=c.id AND"
            . " r.until IS NULL AND r.expunged=0 JOIN folder_states s ON s.folder=r.folder AND s.until IS NULL"
            . " WHERE c.chunk=$m->{seq}");
        my $before = state_of('alice');
        spoil('alice', $m);
        my ($rc, $said, $err) = verify('alice');
        is($rc, 75, 'verify has found it');
        like($said->{status}, qr/^failed \(data damaged/, 'and calls it damage of the data');
        ok((grep { $_->{kind} eq 'chunk' && $_->{offset} == $m->{at} } @{ $said->{data_damage} }), 'names the chunk');
        ok((grep { $_->{kind} ne 'chunk' } @{ $said->{data_damage} }), 'and what was in it')
            or diag(JSON->new->pretty->encode($said));
        my $r = sync_ok('-u', 'alice');
        uploads_are($what, $r->{commands}, @lost);
        content_ok($what, 'alice');
    };
}

# ---- the index -------------------------------------------------------------------------------------

subtest 'the index' => sub {
    my %change = (
        'flags' => "UPDATE records SET flags=x'287929' WHERE id=(SELECT max(id) FROM records)",
        'a place' => 'UPDATE contents SET start=start+1 WHERE id=1',
        'a record' => 'DELETE FROM records WHERE id=(SELECT min(id) FROM records WHERE until IS NULL)',
    );
    for my $what (sort keys %change) {
        sql('alice', $change{$what});
        my ($rc, $said, $err) = verify('alice', '--dry-run');
        is($rc, 75, "$what: verify has found it");
        like($said->{status}, qr/^failed \(index damaged/, 'it is the index') or diag($err);
        is($said->{data_findings}, 0, 'no data are lost');
        ($rc, $said, $err) = verify('alice');
        is($rc, 0, 'nothing is lost');
        like($said->{status}, qr/^ok \(index damaged.*made anew/, 'it was made anew');
        my $r = sync_ok('-u', 'alice');
        uploads_are($what, $r->{commands});
        is(mailboxes_sent($r->{commands}), '', 'nothing was asked for');
        content_ok($what, 'alice');
    }
    unlink map { "$damage{alice}{file}.index$_" } '', '-wal', '-shm';
    my ($rc, $said, $err) = verify('alice');
    like($said->{status}, qr/^ok \(index damaged/, 'a missing one') or diag($err);
    content_ok('a missing one', 'alice');
};
done_testing();
