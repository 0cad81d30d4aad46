#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# The past stays what it was: after each of many things that happen to mailboxes it is noted what
# the mail server has, and when. In the end --as-of must say of each of these moments what IMAP and
# csync said then, and what the backup itself said then, to the byte; and diff of two moments, what
# IMAP's answers differed in.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Moments qw(moment then_and_now differences_between);
use CBTest::Scenarios qw(run_step no_differences);
use CBTest::Site;
use Test::More;

sub moments_of
{
    my ($c, $theme) = @_;
    my $pick = $ENV{STEPS} // '.';
    my @moments;
    for my $step (CBTest::Scenarios::steps_of($theme)) {
        next unless $step->[0] =~ /$pick/ || $step->[0] =~ /^first/;
        my $ok = run_step($c, 'user', @{$step});
        next if !$ok || $c->{fails}; # then both sides differ
        push @moments, { %{ moment($c->{site}, $c->{user}, $step->[0]) },
            kept => { %{ $c->{kept} // {} } } };
    }
    return @moments;
}


my %options = (Quota => { sieve_maxscripts => 20, sieve_maxscriptsize => 1024 });
my %least = (Basic => 25, Folders => 15, Flags => 12, Notes => 15, Quota => 12);
my $themes = $ENV{THEMES} // '.';
for my $theme (grep { /$themes/ } sort keys %least) {
    subtest $theme => sub {
        my $site = CBTest::Site->new(users => [qw(alice frank)], clock => 1,
            options => { imap => $options{$theme} // {} });
        my $c = CBTest::Case->new(site => $site, user => 'alice', reader => 'frank');
        my @moments;
        subtest 'things happen' => sub {
            @moments = moments_of($c, $theme);
        };
        cmp_ok(scalar @moments, '>=', $ENV{STEPS} ? 1 : $least{$theme}, 'moments');
        for my $m (@moments) {
            my @d = eval { then_and_now($site, $m, kept => $m->{kept}) };
            no_differences("$m->{name}: as it was then", @d, $@ || ());
        }
        my $told = 0;
        for my $i (1 .. $#moments) {
            my ($n, @d) = eval { differences_between($site, @moments[$i - 1, $i]) };
            no_differences("diff to '$moments[$i]{name}'", @d, $@ || ());
            $told += $n // 0;
        }
        for my $pair (map { [$_, $#moments - $_] } 0 .. $#moments / 2 - 1) {
            my ($n, @d) = eval { differences_between($site, @moments[@{$pair}]) };
            no_differences("diff of '$moments[$pair->[0]]{name}' and '$moments[$pair->[1]]{name}'", @d, $@ || ());
        }
        cmp_ok($told, '>=', scalar @moments, 'lines of diff');
        my $first = $site->cyr_backup('alice', qw(json all --as-of), '@' . ($moments[0]{at} - 86_400 * 2));
        is($first->{rc}, 75, 'before the beginning: exit code');
        like($first->{err}, qr/^alice: there is no history of .*: it begins at /m, 'before the beginning: reason');
        $site->stop;
    };
}
done_testing;
