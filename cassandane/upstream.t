#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# What the programs of Cyrus 3.6.1 make of our files. A copy of a data file, without its
# index, is accepted by their reindex, which then finds every message, record and script
# (see CBTest::Upstream; other themes than Basic are in upstream-*.t).
# On live files their compact fails and changes nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(backup_state);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Scenarios::Basic;
use CBTest::Site;
use CBTest::Upstream qw(compare_file %DEFECTS);
use CBTest::Util qw(as_cyrus run_cmd sha1_hex slurp);
use DBI;
use Test::More;

my $site = CBTest::Site->new(users => [qw(alice frank)]);
my $c = CBTest::Case->new(site => $site, user => 'alice', reader => 'frank');
for my $step (CBTest::Scenarios::Basic::steps()) {
    $step->[1]->($c);
    my $r = $site->sync('unix', '-A');
    is($r->{rc}, 0, "sync of: $step->[0]") or diag("$r->{out}$r->{err}");
}
# A chunk without a literal at the end: else their programs but reindex refuse the file (doc/format.md).
$c->{imap}->append('INBOX', CBTest::Imap::message());
$site->imap_as('frank')->append('INBOX', CBTest::Imap::message());
$c->{admin}->append('shared.team', CBTest::Imap::message());
is($site->sync('unix', '-A')->{rc}, 0, 'and a last sync');
my $copies = "$site->{dir}/backup/copies";
run_cmd(cmd => [as_cyrus('mkdir', $copies)]);

# All rows of a table of Debian's index, as hashes.
sub rows
{
    my ($file, $sql) = @_;
    my $db = DBI->connect("dbi:SQLite:uri=file:$file.index?mode=ro", '', '', { RaiseError => 1 });
    return @{ $db->selectall_arrayref($sql, { Slice => {} }) };
}

sub mode_f { return $site->{backup}->tool({ timeout => 100 }, @_) }

my %seen;
compare_file($site, $site->data_file($_), \%seen) for qw(alice frank %SHARED);
note("$seen{$_} times: $DEFECTS{$_}") for sort keys %seen;
is(join(' ', sort keys %seen), 'twice', 'defects of theirs that show');

for my $user (qw(alice frank %SHARED)) {
    subtest "a copy of the backup of $user" => sub {
        my $live = $site->data_file($user);
        ok($live, 'has a data file') or return;
        my $state = eval { backup_state($site, $user) };
        ok($state, 'our own view of it') or diag($@);
        (my $copy = "$copies/$user") =~ s/%//;
        run_cmd(cmd => [as_cyrus('cp', $live, $copy)]);

        my $r = mode_f('ctl_backups', 'reindex', '-f', $copy);
        is($r->{rc}, 0, 'reindex accepts it') or diag("$r->{out}$r->{err}");
        like($r->{out}, qr/: ok$/m, 'reindex says ok');
        is($r->{err}, '', 'reindex has no complaint');

        my @d;
        my %guid = map { $_->{guid} => 1 } rows($copy, 'select guid from message');
        my %records = map { ("$_->{uniqueid} $_->{uid}" => $_) } rows($copy, 'select b.uniqueid, r.uid, '
            . 'm.guid, r.modseq, r.expunged from mailbox_message r join mailbox b on b.id = r.mailbox_id '
            . 'join message m on m.id = r.message_id');
        my %names = map { $_->{uniqueid} => $_ } rows($copy, 'select * from mailbox');
        for my $m (grep { ($_->{mboxtype} // '') !~ /i/ } @{ $state->{mailboxes} }) {
            my $theirs = $names{ $m->{uniqueid} };
            if (!$theirs) {
                push @d, "mailbox $m->{mboxname} not found";
                next;
            }
            for my $key (qw(mboxname last_uid highestmodseq uidvalidity acl sync_crc)) {
                push @d, "$m->{mboxname} $key: $theirs->{$key} instead of $m->{$key}" if $theirs->{$key} ne $m->{$key};
            }
            my (%uids, %twice);
            push @{ $uids{ $_->{guid} } }, $_->{uid} for @{ $m->{records} };
            for my $record (grep { !$_->{expunged} } @{ $m->{records} }) {
                push @d, "message $record->{guid} not found" unless $guid{ $record->{guid} };
                # their index has room for only one record of the same message in a mailbox
                next if @{ $uids{ $record->{guid} } } > 1;
                my $row = $records{"$m->{uniqueid} $record->{uid}"};
                push @d, "$m->{mboxname} uid $record->{uid} not found" unless $row && $row->{guid} eq $record->{guid};
            }
        }
        no_differences('every message and record found', @d);
        my $scripts = sub { return join ' ', sort @_ };
        is($scripts->(map { "$_->{filename}:$_->{guid}" } rows($copy, 'select filename, guid from sieve where deleted is null')),
            $scripts->(map { "$_->{filename}:$_->{guid}" } @{ $state->{sieve} }), 'every script found');
        is(join(' ', sort map { $_->{mboxname} } rows($copy, 'select mboxname from subscription where unsubscribed is null')),
            join(' ', sort @{ $state->{subscriptions} }), 'every subscription found');
        for my $record (grep { !$_->{expunged} } map { @{ $_->{records} } } @{ $state->{mailboxes} }) {
            my $dump = mode_f('cyr_backup', '-f', $copy, 'dump', 'message', $record->{guid});
            if (sha1_hex($dump->{out}) ne $record->{guid}) {
                # a chunk with a literal fails the quick check at opening, if it is the last one
                fail("dump of $record->{guid}") if $dump->{err} !~ /mismatch|Unknown code|Level|out of range/;
            }
            last;
        }
    };
}

# What our index answers to everything, in a fixed order.
sub index_dump
{
    my ($file) = @_;
    my $db = DBI->connect("dbi:SQLite:uri=file:$file?mode=ro", '', '', { RaiseError => 1 });
    my @tables = map { $_->[0] } @{ $db->selectall_arrayref(
        q(select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%' order by name)) };
    my $text = join "\n", map { $_->[0] // '' } @{ $db->selectall_arrayref('select sql from sqlite_master order by name') };
    for my $table (@tables) {
        my @rows = map { join '|', map { $_ // 'NULL' } @{$_} } @{ $db->selectall_arrayref(qq(select * from "$table")) };
        $text .= join "\n", "== $table", sort(@rows), '';
    }
    utf8::encode($text) if utf8::is_utf8($text);
    return sha1_hex($text);
}

for my $user (qw(alice %SHARED)) {
    subtest "their compact on the live backup of $user" => sub {
        my $file = $site->data_file($user);
        my $view = sub {
            return (sha1_hex(slurp($file)), index_dump("$file.index"),
                sha1_hex($site->cyr_backup($user, 'json', 'all')->{out}));
        };
        my @before = $view->();
        my %there = map { $_ => 1 } glob "$site->{backup}{dir}/part/*/*";
        my $r = mode_f('ctl_backups', '-F', 'compact', '-f', $file);
        isnt($r->{rc}, 0, 'fails') or diag("$r->{out}$r->{err}");
        my @after = $view->();
        is($after[0], $before[0], 'the data file is as it was');
        is($after[1], $before[1], 'the index answers as before');
        is($after[2], $before[2], 'cyr_backup answers as before');
        note("left behind: $_") for grep { !$there{$_} } glob "$site->{backup}{dir}/part/*/*";
        my $next = $site->sync('unix', '-u', 'alice');
        is($next->{rc}, 0, 'and the next sync works') or diag("$next->{out}$next->{err}");
    };
}
memory_ok($site);
done_testing;
