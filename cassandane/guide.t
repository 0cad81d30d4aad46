#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Chapter 10 of the administrators' guide, "Coming from Cyrus 3.0 - 3.10", does what it says: its
# commands are taken from the text and run, one block after the other, in a private
# environment whose backups Debian's Cyrus wrote, one of them with a chunk that a killed process left.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(differences);
use CBTest::Guide;
use CBTest::Scenarios qw(no_differences);
use CBTest::Scenarios::Basic;
use CBTest::Server qw(by_imap);
use CBTest::Site;
use CBTest::Util qw(program sha1_hex slurp spew);
use Test::More;

# ---- backups of old ------------------------------------------------------------

$ENV{PEER} = 'debian';
my $site = CBTest::Site->new(users => [qw(alice frank)]);
my $c = CBTest::Case->new(site => $site, user => 'alice', reader => 'frank');
my @steps = CBTest::Scenarios::Basic::steps();
for my $step (@steps[0, 1, 4, 5, 7], grep { $_->[0] =~
        /^(?:the same message|folder created|Sieve scripts$|subscriptions|ACL|shared folders$|quota$)/ } @steps) {
    ok(eval { $step->[1]->($c); 1 }, "done: $step->[0]") or diag($@);
    next if $site->sync('unix', '-A')->{rc} == 0;
    fail("sync of: $step->[0]");
}
$site->deliver('frank', CBTest::Imap::message());
my $body = CBTest::Imap::message(body => CBTest::Imap::noise(5000, 3));
my $guid = sha1_hex($body);
{    # killed when a message was confirmed; the next process goes on behind it
    my $csync = $site->backup_csync;
    is($csync->command($_)->{status}, 'OK', 'old server: ' . (split)[1]) for 'GET USER alice',
        "APPLY RESERVE %(PARTITION default MBOXNAME (user.alice) GUID ($guid))",
        "APPLY MESSAGE (%{default $guid " . length($body) . "}\r\n$body)";
    kill KILL => $site->{backup}->children('backupd');
}
$c->{imap}->append('INBOX', $body);
$site->{backup}->stop;
$site->{backup}->start;
is($site->sync('unix', '-A')->{rc}, 0, 'old server: the last sync');

# ---- the chapter -------------------------------------------------------------------

my $dir = $site->{dir};
my %path = (
    '/var/lib/cyrus/backups.db' => "$dir/backup/conf/backups.db",
    '/srv/backup.before' => "$dir/before",
    '/srv/new-backup' => "$dir/new",
    '/srv/backup' => "$dir/backup/part",
);
my %program = (
    cyr_backup => program('cyr_backup') . ' -C ' . $site->{backup}->conf,
    cyr_dbtool => '/usr/lib/cyrus/bin/cyr_dbtool -C ' . $site->{backup}->conf,
    ctl_backups => '/usr/lib/cyrus/bin/ctl_backups -C ' . $site->{backup}->conf,
    sync_client => '/usr/lib/cyrus/bin/sync_client -C ' . $site->{imap}->conf,
);
spew($site->{imap}->conf, slurp($site->{imap}->conf) . "backup_sync_host: $dir/backup/conf/backupd.sock\n");

my $guide = CBTest::Guide->new(
    dir => $dir, env => $site->env, chapters => ['10'], paths => \%path, programs => \%program,
    said => { # by commands of the chapter, as it says
        '10.3' => qr/\.index: not an index of ours or damaged: setting it aside as \S+\.index\.old and rebuilding it$/,
        '10.8' => qr/^didn't parse dlist, error -1$/,
    });
sub follow { return $guide->follow(@_) }

$site->{backup}->stop;
$ENV{PEER} = '';
$site->{backup}->write_config;
my $file = $site->data_file('alice');
my $before = slurp($file);

follow('10.1');
(my $copy = $file) =~ s{^\Q$dir\E/backup/part}{$dir/before};
is(slurp($copy), $before, '10.1: the copy is one');

is(follow('10.3'), '', '10.3: every backup opens');
ok(-s "$_.index.old", "10.3: $_ has its old index aside") for $site->all_data_files;
is(slurp($file), $before, '10.3: the data file is as it was');
my $r = $site->cyr_backup('alice', 'dump', 'message', $guid);
is(sha1_hex($r->{out}), $guid, '10.3: a message from before the kill is there');

$site->{backup}->start;
follow('10.4');
for my $user (qw(alice frank %SHARED)) {
    my @d = eval { differences($site, $user, full => 1) };
    no_differences("10.4: $user: both sides equal", @d, $@ ? $@ : ());
}

my $counts = follow('10.5');
like($counts, qr/^alice: [1-9]\d* messages$/m, '10.5: alice is counted');
like($counts, qr/^%SHARED: [1-9]\d* messages$/m, '10.5: the shared folders too');
is(scalar(() = glob "$dir/backup/part/*/*.index.old*"), 0, '10.5: old indexes are gone');
ok(!-e "$dir/before", '10.5: and the copy');

my $old = $site->data_file('frank');
follow('10.6');
ok(-s "$old.until-today", '10.6: the old file is kept');
is($site->sync('unix', '-u', 'frank')->{rc}, 0, '10.6: the next sync of frank');
isnt($site->data_file('frank'), $old, '10.6: makes another file');
delete $site->{dumped};
no_differences('10.6: which has everything', eval { differences($site, 'frank', full => 1) }, $@ || ());
is($site->cyr_backup('-f', "$old.until-today", 'list', 'mailboxes')->{rc}, 0, '10.6: the old file can be read');

my $registered = follow('10.7');
like($registered, qr/^\Q$_\E\t\Q$dir\E\/new\//m, "10.7: $_ is registered there") for qw(alice frank %SHARED);

$site->{backup}->stop;
my $listed = follow('10.8');
like($listed, qr/\balice\b/, '10.8: the old program lists it');
my $imap = by_imap($site, 'alice');
my @lost;
my %want = map { $_->{sha1} => 1 } map { values %{ $_->{records} } } values %{ $imap->{mailboxes} };
for my $sha1 (sort keys %want) {
    my $dump = $site->{backup}->tool('cyr_backup', 'alice', 'dump', 'message', $sha1);
    push @lost, "$sha1: $dump->{err}" if sha1_hex($dump->{out}) ne $sha1;
}
ok(keys %want > 10, scalar(keys %want) . ' messages to find');
no_differences('10.8: and finds every message', @lost);

$guide->all_were_run;
done_testing;
