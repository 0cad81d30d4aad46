#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Files that the backupd of Cyrus 3.6.1 (Debian's) has left behind, with literals in its form ({n+}),
# which its own compact and reindex lose, and with unfinished chunks in the middle, for which
# its reindex gives up all that follows. Ours compacts them, indexes them anew and verifies them, before
# any sync has gone over them: what they held is held. Then a real sync_client goes on, and both sides
# are equal inside the retention period and when all is old.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state);
use CBTest::Foreign qw(members);
use CBTest::Loss qw(message unzipped);
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(sha1_hex slurp wait_until);
use Test::More;

my $DAY = 86400;
$ENV{PEER} = 'debian';
my $site = CBTest::Site->new(clock => 1, options => { backup => { backup_retention => '7d' } });
my @cases = map { CBTest::Loss->new($site) } 1 .. 3;

# One life for all three: what each is for comes later.
sub sync_debian
{
    my ($c) = @_;
    my $r;
    wait_until('a sync that works', sub {    # files of a killed process are free in a moment
        $r = $site->sync('unix', '-u', $c->{user});
        return $r->{rc} == 0;
    }, 30);
    return;
}

my $script = "# lines\r\nkeep;\r\n";
my $note = sprintf "{%d+}\r\n%s", 10, "two\r\nlines";
for my $c (@cases) {
    my $kills = 0;
    $c->create('Noted', 'Gone', 'Name');
    $c->append($_, map { message() } 1 .. 3) for '', 'Noted', 'Gone', 'Name';
    sync_debian($c);
    my $sieve = $site->sieve_as($c->{user});
    $sieve->put($_, "# $_\r\n$script") for qw(one two);
    undef $sieve;
    $c->{imap}->raw('SETMETADATA', $c->own('Noted') . " (/shared/comment $note)");
    $c->append('Noted', message());
    sync_debian($c);
    for my $n (1 .. 6) {
        $c->append('', map { message(body => CBTest::Imap::noise(4000, $_)) } 1 .. 4);
        $site->{relay}->set_trip(900 + 1500 * $n, $site->{backup}{pid}, 0);
        $site->sync('proxy', '-u', $c->{user});
        $kills++ unless $site->{relay}->clear_trip;
        $c->{clock}->advance(600);
        sync_debian($c);
    }
    $c->{imap}->must(delete => $c->own('Gone'));
    $c->{imap}->must(rename => $c->own('Name'), $c->own('Renamed'));
    $c->expunge('', '2');
    sync_debian($c);
    cmp_ok($kills, '>', 2, "$c->{user}: backupd was killed in $kills syncs");
    my $data = slurp($c->file);
    cmp_ok(scalar(grep { !$_->[1] } members($data)), '>', 0, 'unfinished chunks were left');
}
$site->{backup}->stop;
$ENV{PEER} = '';
$site->{backup}->write_config;
$site->{backup}->start;

# What cyr_backup says of everything that a user sees; marks and the like may change.
sub view
{
    my ($c) = @_;
    my $state = backup_state($site, $c->{user});
    my %view = map { ($_ => $state->{$_}) } qw(subscriptions sieve);
    for my $m (@{ $state->{mailboxes} }) {
        $view{mailboxes}{ $m->{mboxname} } = {
            (map { ($_ => $m->{$_}) } qw(uniqueid uidvalidity last_uid acl annotations)),
            records => { map { ($_->{uid} => [@{$_}{qw(guid flags internaldate annotations)}]) } grep { !$_->{expunged} } @{ $m->{records} } },
        };
    }
    return \%view;
}

# GUIDs of living records whose content is not to be had.
sub unreadable
{
    my ($c) = @_;
    my %guids = map { $_->{guid} => 1 } grep { !$_->{expunged} } map { @{ $_->{records} } }
        @{ backup_state($site, $c->{user})->{mailboxes} };
    return grep { sha1_hex($site->cyr_backup($c->{user}, 'dump', 'message', $_)->{out}) ne $_ } sort keys %guids;
}

# Status words and codes of damage are the affair of others; here it counts that nothing is lost.
my %first = (compacted => ['-F', 'compact'], 'indexed anew' => ['reindex'], verified => ['verify']);
for my $what (sort keys %first) {
    my $c = shift @cases;
    subtest "$what, before any sync" => sub {
        my $before = view($c);
        my @lacks = unreadable($c);
        my $r = $c->ctl(@{ $first{$what} });
        note("exit $r->{rc}: $r->{out}$r->{err}");
        like($r->{out}, qr/^\w+ \Q$c->{user}\E: (?:ok|failed \(.*damage)/m, 'it says what it has done');
        is_deeply(view($c), $before, 'all is there that was there');
        no_differences('and its content', grep { my $g = $_; !grep { $_ eq $g } @lacks } unreadable($c));
        is((() = ($before->{sieve} ? @{ $before->{sieve} } : ())) > 1 ? 1 : 0, 1, 'the scripts among it');
        ok(eval { unzipped($c->file); 1 }, 'zcat reads all of it') or diag($@) if $what eq 'compacted';
        $c->sync;
        $c->{contents} = 'dump';    # zcat stops at the first unfinished chunk
        $c->equal('after the next sync');
        delete $c->{contents};      # and then there are none
        $c->maintained('inside the retention period');
        $c->{clock}->advance(9 * $DAY);
        $c->append('', message());
        $c->sync;
        $c->maintained('when it is old');
    };
}
memory_ok($site);
done_testing;
