#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# What cyr_backup says of a past of which some was lost through damage, and of a time that is yet to come:
# the answer is the same and so is the exit code, but standard error says what to think of it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare;
use CBTest::Damage;
use CBTest::Imap;
use CBTest::Site;
use POSIX qw(strftime);
use Test::More;

$ENV{TZ} = 'UTC';
my $DAY = 86_400;
my $site = CBTest::Site->new(users => ['alice'], clock => 1);
my $clock = $site->{clock};
my $c = CBTest::Case->new(site => $site, user => 'alice');

# Five days, a message and a chunk each.
my @times;
for my $day (0 .. 4) {
    $clock->advance($DAY);
    $c->{imap}->append('INBOX', CBTest::Imap::message(subject => "day $day"));
    is($site->sync('proxy', '-u', 'alice')->{rc}, 0, "day $day: sync");
    push @times, $clock->now;
}
sub at { my ($day) = @_; return '@' . ($times[$day] + $DAY / 2) }    # long after what happened on it

# What is asked at which times, and in which cases it is incomplete once the chunk of day 2 is lost.
my @asked = (
    (map { my $day = $_; map { [$day >= 2 ? 'shown' : undef, "--as-of=" . at($day), @{$_}] }
        ['list', 'mailboxes'], ['list', 'messages'], ['show', 'mailboxes', 'user.alice'],
        ['dump', 'mailbox', 'user.alice'], ['json', 'all'], ['json', 'mailboxes'] } 0, 2, 3),
    (map { [undef, @{$_}] } ['list', 'messages'], ['json', 'all'], ['--as-of=now', 'list', 'messages'],
        ['list', 'chunks'], ['show', 'mailboxes', 'user.alice']),
    ['told', 'log'], ['told', 'json', 'log'], ['told', 'log', 'user.alice'],
    ['told', 'log', '--since', at(1)], ['told', 'log', '--until', at(2)], ['told', 'log', '--as-of', at(2)],
    ['told', 'log', '--since', at(1), '--until', at(2)],
    [undef, 'log', '--until', at(0)], [undef, 'log', '--since', at(3)],
    ['told', 'diff', at(0), at(2)], ['told', 'diff', at(2)], ['told', 'json', 'diff', at(2), at(3)],
    [undef, 'diff', '@' . $times[0], at(0)], [undef, 'diff', 'now'],
);

sub ask { my ($words) = @_; my (undef, @words) = @{$words}; return $site->cyr_backup('alice', @words) }

for my $words (@asked) {
    my $r = ask($words);
    is("$r->{rc} $r->{err}", '0 ', "nothing is lost: @{$words}[1 .. $#{$words}]");
}

# ---- the chunk of day 2 ------------------------------------------------------------------------

# The GUID of what came on a day.
sub newest
{
    my ($day) = @_;
    my $log = CBTest::Compare::backup_json($site, 'alice', 'log', '--since', '@' . ($times[$day] - $DAY / 2), '--until', at($day));
    my ($arrived) = grep { $_->{kind} eq 'arrived' } @{$log};
    return $arrived->{guid};
}

my $d = CBTest::Damage->new($site, 'alice');
my ($member) = grep { $_->{seq} == $d->{chunk_of}{ newest(2) } } @{ $d->{members} };

# The times of the last line before it and the first behind it.
my $chunks = CBTest::Compare::backup_json($site, 'alice', 'chunks');
my ($before) = map { $_->{'end time'} } grep { $_->{offset} + 0 < $member->{at} } reverse @{$chunks};
my ($behind) = map { $_->{'start time'} } grep { $_->{offset} >= $member->{end} } @{$chunks};
ok($before lt $behind, 'there is a chunk before it, and one behind it');

$d->flip($d->{file}, int(($member->{at} + 40 + $member->{end}) / 2));
for my $words (@asked) {
    my $r = ask($words);
    next if $words->[1] =~ /^--as-of/ && $words->[2] eq 'dump'; # it has a message in it
    is("$r->{rc} $r->{err}", '0 ', "the index still knows it: @{$words}[1 .. $#{$words}]");
}
$site->ctl_backups('verify', 'alice');
is($site->sync('unix', '-u', 'alice')->{rc}, 0, 'healed');
is($site->ctl_backups('verify', 'alice')->{rc}, 0, 'verify is content');

sub as_told
{
    my ($what) = @_;
    for my $words (@asked) {
        my $r = ask($words);
        my $say = $words->[0] ? "alice: part of the history between $before and $behind was lost through damage;"
            . " what is $words->[0] may be incomplete\n" : '';
        is("$r->{rc} $r->{err}", "0 $say", "$what: @{$words}[1 .. $#{$words}]");
    }
    return;
}
as_told('lost');
unlink glob "$d->{file}.index*";
$site->cyr_backup('alice', 'list', 'chunks'); # makes one
as_told('with a new index');
is($site->cyr_backup('alice', 'list', 'messages', '--as-of=' . at(2))->{out} =~ tr/\n//, 2, 'it is incomplete');
my $compacted = $site->ctl_backups('compact', '-F', 'alice');
is($compacted->{rc}, 75, 'a compaction sets it aside');
is(scalar(() = glob "$d->{part}/a/alice_*.damaged.*"), 1, 'and keeps it');

# ---- the future --------------------------------------------------------------------------------

my $soon = $clock->now + $DAY;
my $text = strftime('%Y-%m-%d %H:%M:%S', gmtime $soon);
for my $words (['list', 'messages', "--as-of=\@$soon"], ['json', 'all', "--as-of=\@$soon"], ['log', "--as-of=\@$soon"],
    ['diff', at(3), "\@$soon"]) {
    my $r = $site->cyr_backup('alice', @{$words});
    is("$r->{rc} $r->{err}", "0 alice: $text lies in the future: this is the present state\n", "@{$words}");
    my $now = $site->cyr_backup('alice', $words->[0] eq 'diff' ? @{$words}[0, 1] : @{$words}[0 .. $#{$words} - 1]);
    is($r->{out} =~ s/^ +"mark": \d+,\n//mgr, $now->{out} =~ s/^ +"mark": \d+,\n//mgr, 'it is what is there now');
}
is($site->cyr_backup('alice', 'log', "--until=\@$soon")->{err}, '', 'a range may go beyond');
$site->stop;
done_testing;
