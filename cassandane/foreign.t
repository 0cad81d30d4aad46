#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Backups that Debian's backupd (Cyrus 3.6.1) wrote, through the whole life of a user and with
# that backupd killed in the middle of syncs, are opened by ours. What they hold is what IMAP says;
# what upstream does not keep is listed here by name. Then a stock sync_client goes on with our
# backupd: one sync makes both sides equal and uploads what was missing and nothing else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(differences);
use CBTest::Foreign qw(members);
use CBTest::Relay;
use CBTest::Scenarios qw(synced_ok unwanted no_differences memory_ok);
use CBTest::Scenarios::Basic;
use CBTest::Server qw(by_csync);
use CBTest::Site;
use CBTest::Util qw(sha1_hex slurp wait_until);
use DBI;
use Test::More;

$ENV{PEER} = 'debian';
my $site = CBTest::Site->new(users => [qw(alice frank)]);
my $c = CBTest::Case->new(site => $site, user => 'alice', reader => 'frank');
my @users = qw(alice frank %SHARED);

# ---- Debian's backupd, now and then killed ---------------------------------

my @modes = (['-A'], ['-A'], ['-u', 'alice', 'frank'], ['-A']);
my ($steps, $kills) = (0, 0);
for my $step (CBTest::Scenarios::Basic::steps()) {
    my $done = eval { $step->[1]->($c, 'all'); 1 };
    ok($done, "done: $step->[0]") or diag($@);
    if ($steps++ % 2 == 0) {
        $site->{relay}->set_trip(1500 + 1700 * ($steps % 5), $site->{backup}{pid}, 0.02);
        $kills++ if $site->sync('proxy', '-A')->{rc} != 0;
        $site->{relay}->clear_trip;
    }
    my $r;
    wait_until('a sync that works', sub {    # files of a killed process are free again at once
        $r = $site->sync('unix', @{ $modes[$steps % @modes] });
        return $r->{rc} == 0;
    }, 30);
}
# and at last twice with no sync that works in between: once while messages arrive,
$site->deliver('alice', map { CBTest::Imap::message(body => CBTest::Imap::noise(30_000, 40 + $_)) } 1 .. 12);
$site->{relay}->set_trip(150_000, $site->{backup}{pid}, 0);
isnt($site->sync('proxy', '-u', 'alice')->{rc}, 0, 'the last sync was killed');
# and once when some have been confirmed
my %confirmed = map { (sha1_hex($_) => $_) } map { CBTest::Imap::message(body => CBTest::Imap::noise(4000, 30 + $_)) } 1 .. 6;
$c->{imap}->append('INBOX', $_) for values %confirmed;
{
    my $csync = $site->backup_csync;
    is($csync->command($_)->{status}, 'OK', (split)[0] . ' is answered') for 'GET USER alice',
        'APPLY RESERVE %(PARTITION default MBOXNAME (user.alice) GUID (' . join(' ', sort keys %confirmed) . '))',
        map { "APPLY MESSAGE (%{default $_ " . length($confirmed{$_}) . "}\r\n$confirmed{$_})" } sort keys %confirmed;
    kill KILL => $site->{backup}->children('backupd');
}
$site->{relay}->clear_trip;
$site->{backup}->stop;
ok($kills > 3, "backupd was killed in $kills syncs");

my %before = map { $_ => slurp($site->data_file($_)) } @users;
my @unfinished = grep { !$_->[1] } map { members($before{$_}) } @users;
my @last = members($before{alice});
ok(@unfinished > 3, scalar(@unfinished) . ' chunks were left unfinished');
ok(!$last[-1][1], "the last one of alice's is");

# ---- ours instead ------------------------------------------------------------

$ENV{PEER} = '';
my $db = slurp("$site->{dir}/backup/conf/backups.db");
$site->{backup}->write_config;
$site->{backup}->start;
is(slurp("$site->{dir}/backup/conf/backups.db"), $db, 'backups.db is taken over as it is');

# What upstream does not keep, or keeps wrongly, and how that shows.
my %lacks = (
    'quota' => qr/\bquota\b/i,
    'the active script' => qr/^script .* active:/,
    'the state of folders since the last sync' => qr/^(?:listing of|mailbox|csync) user\.alice (?:highestmodseq|HIGHESTMODSEQ|last_uid|LAST_UID|recentuid|RECENTUID|recenttime|RECENTTIME|sync_crc|SYNC_CRC|last_appenddate|LAST_APPENDDATE)\w*:/,
    'messages since the last sync' => qr/^(?:mailbox|csync) user\.alice uid \d+: not in the backup|^dump of \w+ \(user\.alice\)/,
    'keys that only a listing has' => qr/^listing of .* (?:FOLDERMODSEQ|CREATEDMODSEQ|XCONVMODSEQ|POP3_\w+|QUOTAROOT)/,
);
my %lost;    # guids that it has not, by user
for my $user (@users) {
    my $source = by_csync($site, $user);
    my %have = map { $_ => 1 } split /\n/, $site->cyr_backup($user, 'list', 'messages')->{out};
    my $readable = sub {    # what no mailbox names yet is not listed
        my $r = $site->cyr_backup($user, 'dump', 'message', $_[0]);
        return $r->{rc} == 0 && sha1_hex($r->{out}) eq $_[0];
    };
    for my $m (values %{ $source->{MAILBOX} }) {
        for my $r (values %{ $m->{RECORD} }) {
            $lost{$user}{ $r->{GUID} } = 1 unless $have{ $r->{GUID} } || $readable->($r->{GUID});
        }
    }
    my @d = eval { differences($site, $user, full => 1) };
    push @d, $@ if $@;
    my %seen;
    my @unknown;
    for my $d (@d) {
        my @why = grep { $d =~ $lacks{$_} } sort keys %lacks;
        $seen{ $why[0] }++ if @why;
        push @unknown, $d unless @why;
    }
    note("$user: $seen{$_} differences because upstream lacks: $_") for sort keys %seen;
    no_differences("$user: what upstream kept is what IMAP says", @unknown);
    my $file = $site->data_file($user);
    is(substr(slurp($file), 0, 10_000), substr($before{$user}, 0, 10_000), "$user: the file begins as it did");
    ok(-s "$file.index.old", "$user: upstream's index was set aside");
}
note("$_: " . scalar(keys %{ $lost{$_} // {} }) . ' messages are missing') for @users;
no_differences('messages that were confirmed before a kill are there', grep { $lost{alice}{$_} } sort keys %confirmed);

my @results = $site->sync('proxy', '-A');
synced_ok('the next sync', @results);
my %uploaded = CBTest::Relay::uploaded(map { @{ $_->{commands} } } @results);
my %missing = map { $_ => 1 } map { keys %{ $lost{$_} // {} } } @users;
no_differences('what was missing was uploaded, nothing else',
    (map { "$_ was uploaded" } grep { !$missing{$_} } sort keys %uploaded),
    (map { "$_ was not uploaded" } grep { !$uploaded{$_} } sort keys %missing));
ok(keys %uploaded == 12, scalar(keys %uploaded) . ' messages were uploaded');
my ($salvaged) = map { $_->selectrow_array('select count(*) from contents where chunk in (select seq from pieces)') }
    DBI->connect('dbi:SQLite:uri=file:' . $site->data_file('alice') . '.index?mode=ro', '', '', { RaiseError => 1 });
note("$salvaged messages are read from unfinished chunks in the middle");
for my $user (@users) {
    my @d = eval { differences($site, $user, full => 1, classic => 1) };
    no_differences("$user: both sides equal", @d, $@ ? $@ : ());
}
my @again = $site->sync('proxy', '-A');
synced_ok('once more', @again);
my @unwanted = unwanted(map { @{ $_->{commands} } } @again);
no_differences('it sends nothing', map { $_->{line} } @unwanted);

# Everything again from the files alone.
$site->{backup}->stop;
unlink "$_.index", "$_.index-wal", "$_.index-shm" for $site->all_data_files;
$site->{backup}->start;
for my $user (@users) {
    my @d = eval { differences($site, $user, full => 1) };
    no_differences("$user: after a rebuild too", @d, $@ ? $@ : ());
}
my @tail = members(slurp($site->data_file('alice')));
ok($tail[-1][1], 'the chunk that was last is whole now');
is(scalar(grep { !$_->[1] } @tail), scalar(grep { !$_->[1] } @last) - 1, 'and of the others none has gone');
memory_ok($site);
done_testing;
