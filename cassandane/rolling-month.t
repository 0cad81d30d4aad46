#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A month of mail, 20 messages a day, each synchronised as it comes. When it is over, and compacted,
# the backup is hardly larger than if all had come in one sync, which is what a second user gets.
# What is inside the retention period can be had as of each moment of it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Snapshot;
use CBTest::Timeline;
use Test::More;

my ($DAYS, $A_DAY) = (30, 20);
my $DAY = 86400;
my $RETENTION = 7 * $DAY;
my $site = CBTest::Site->new(users => [qw(drop wave)], clock => 1,
    options => { backup => { backup_retention => '7d', backup_compact_minsize => 512, backup_compact_maxsize => 1024 } });
my $clock = $site->{clock};

my $timeline = CBTest::Timeline->new(site => $site, user => 'drop');
my $snapshot = CBTest::Snapshot->new($site, 'drop');
my $inbox = $site->names->inbox('drop');
my $failed = 0;

# One message for both; the first user's is synchronised at once.
sub message_comes
{
    my ($n, $looked_at) = @_;
    my $text = CBTest::Imap::message(body => CBTest::Imap::noise(2000, $n));
    $site->imap_as($_)->append('INBOX', $text) for qw(drop wave);
    $clock->advance($DAY / $A_DAY - 2);
    $timeline->begins if $looked_at;
    $failed++ if $site->sync('unix', '-u', 'drop')->{rc} != 0;
    $timeline->ended($snapshot->take({ touched => { $inbox => 1 } })) if $looked_at;
    return;
}

sub size { my ($user) = @_; return -s $site->data_file($user) }

# ctl_backups for a user; the word in its result.
sub ctl
{
    my ($user, @args) = @_;
    my $r = $site->ctl_backups(@args, $user);
    my ($word) = $r->{out} =~ /: (\w+)/;
    note("@args $user: exit $r->{rc}, $r->{out}$r->{err}");
    return $word // "exit $r->{rc}: $r->{err}";
}

# Moments of the window at which as-of is right, and that there is enough mail at stake.
sub window_ok
{
    my ($what) = @_;
    my @times = grep { $_ >= $timeline->{begun} } $timeline->seconds($clock->now - $RETENTION, 100);
    cmp_ok(scalar @times, '>', 0, "$what: there are moments to look at");
    no_differences("$what: each moment of the window is right", $timeline->differences(@times));
    return;
}

for my $n (1 .. $DAYS * $A_DAY) {
    message_comes($n, $n > ($DAYS - 8) * $A_DAY);
}
is($failed, 0, 'all syncs succeeded');
my $r = $site->sync('unix', '-u', 'wave');
is($r->{rc}, 0, 'the sync of everything at once') or diag($r->{err});
note(sprintf 'before: %d bytes in %d chunks, at once: %d', size('drop'),
    -1 + split(/^/, $site->cyr_backup('drop', 'list', 'chunks')->{out}), size('wave'));
no_differences('both sides equal', differences($site, 'drop', contents => 'datafile'));
window_ok('before');

is(ctl('drop', '-F', 'compact'), 'ok', 'compacted');
my $ratio = size('drop') / size('wave');
cmp_ok($ratio, '<=', 1.10, sprintf '%d bytes, %.3f of what came at once', size('drop'), $ratio);
no_differences('both sides equal after it', differences($site, 'drop', contents => 'datafile', full => 1));
window_ok('after');
is(ctl('drop', 'compact'), 'skipped', 'a second time there is nothing to do');

$clock->advance($RETENTION + $DAY);
message_comes($DAYS * $A_DAY + 1, 0);
is(ctl('drop', '-F', 'compact'), 'ok', 'compacted when all of it has become old');
$ratio = size('drop') / size('wave');
cmp_ok($ratio, '<=', 1.05, sprintf '%d bytes then, %.3f of what came at once', size('drop'), $ratio);
no_differences('both sides equal then', differences($site, 'drop', contents => 'datafile', full => 1));
is(ctl('drop', 'compact'), 'skipped', 'and then there is nothing to do');
memory_ok($site);
done_testing;
