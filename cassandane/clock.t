#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# The clock of the tests that let weeks pass (CBTest::Clock): what it says is what stands in
# the backup; it moves while a backupd runs; nobody else's moves. A clock that is put back does
# not take the backup's times back with it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Server;
use CBTest::Site;
use CBTest::Util qw(clock_files);
use Test::More;

my $DAY = 86400;
my $site = CBTest::Site->new(users => ['alice'], clock => 1);
my $clock = $site->{clock};
my $imap = $site->imap_as('alice');

# Times of all lines of the data file.
sub line_times
{
    my $file = $site->data_file('alice');
    open my $z, '-|', 'zcat', $file or die "zcat: $!";
    my @t = map { /^(\d+) APPLY / ? $1 : () } <$z>;
    close $z or die "zcat $file: $?\n";
    return @t;
}

# One message more, in the backup; the times of the lines that came of it are within those before
# and after.
sub one_more
{
    my ($what) = @_;
    my $before = $clock->now;
    my $known = $site->data_file('alice') ? scalar line_times() : 0;
    $imap->append('INBOX', CBTest::Imap::message());
    my $r = $site->sync('unix', '-u', 'alice');
    is($r->{rc}, 0, "$what: synced") or diag("$r->{out}$r->{err}");
    my $after = $clock->now;
    my @new = line_times();
    splice @new, 0, $known;
    cmp_ok(scalar @new, '>', 0, "$what: something was written");
    return ($before, $after, @new);
}

sub at_their_time
{
    my ($what) = @_;
    my ($before, $after, @new) = one_more($what);
    is(join(' ', grep { $_ < $before || $_ > $after } @new), '', "$what: at the time of the clock");
    return;
}

at_their_time('now');
my %pids = map { $_ => 1 } $site->{backup}->children('backupd');
for my $step ([3600, 'an hour'], [3 * $DAY, 'three days'], [400 * $DAY, 'a year']) {
    $clock->advance($step->[0]);
    at_their_time("$step->[1] later");
}
ok((grep { $pids{$_} } $site->{backup}->children('backupd')), 'the same process all the time');

my $latest = (line_times())[-1];
$clock->advance(-$DAY);
my (undef, undef, @new) = one_more('a day back');
is(join(' ', grep { $_ != $latest } @new), '', 'a day back: the latest time counts on');

$imap->must(select => 'INBOX');
my @ages = map { abs(CBTest::Server::epoch($_->{internaldate}) - time) }
    values %{ $imap->must(fetch => '1:*', '(INTERNALDATE)') };
is(scalar(grep { $_ > 600 } @ages), 0, "the mail server's clock has not moved");
$imap->must('unselect');

$clock->advance(2 * $DAY);
at_their_time('and forward again');

no_differences('both sides equal', differences($site, 'alice'));
memory_ok($site);
my @files = clock_files($site->{dir});
is(scalar(grep { -e } @files), 2, 'there are files in /dev/shm');
$site->stop;
is(scalar(grep { -e } @files), 0, 'they go with the site');
done_testing;
