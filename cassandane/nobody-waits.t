#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# While a backup of 400 MB is compacted and verified, small syncs of the same backup go on and none of
# them waits for more than two seconds. (Making an index anew is another matter: there is none then.)
# Runs with CYRUS_BACKUPS_LONG=1 only, as it takes long; WAIT_MB is another size.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare;
use CBTest::Imap;
use CBTest::Scenarios qw(no_differences);
use CBTest::Server qw(by_csync);
use CBTest::Site;
use CBTest::Util qw(as_cyrus program start_cmd slurp);
use MIME::Base64 qw(encode_base64);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'takes long: set CYRUS_BACKUPS_LONG=1' unless $ENV{CYRUS_BACKUPS_LONG};
my $MB = $ENV{WAIT_MB} // 400;
my $LIMIT = 2;    # seconds
my $DAY = 86400;

my $site = CBTest::Site->new(users => ['alice'], clock => 1, options => { backup => { backup_retention => '7d' } });
my $admin = $site->admin;
$admin->must(create => $_), $admin->must(setacl => $_, 'admin', 'lrswipkxtecdan') for 'big', 'small';

# Compaction has something to do: a tenth of it is expunged, and that is old.
subtest "$MB MB of shared mail" => sub {
    for my $mb (1 .. $MB) {
        open my $random, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
        read $random, my $bytes, 3 << 18;    # that is 1 MB in Base64, and does not compress below that
        $admin->append('big', CBTest::Imap::message(body => encode_base64($bytes, "\r\n")));
    }
    is($site->sync('unix', { timeout => 600 }, '-A')->{rc}, 0, 'synchronised');
    $admin->must(select => 'big');
    $admin->must(store => join(',', map { 10 * $_ } 1 .. $MB / 10), '+FLAGS', '(\\Deleted)');
    $admin->must('expunge');
    $admin->must('unselect');
    is($site->sync('unix', '-A')->{rc}, 0, 'and again');
    $site->{clock}->advance(9 * $DAY);
    cmp_ok(-s $site->data_file('%SHARED'), '>', $MB * 700_000, 'the file is as large as it should be');
};

# The seconds that a sync of one small message takes.
sub small_sync
{
    $admin->append('small', CBTest::Imap::message());
    my $begun = time;
    my $r = $site->sync('unix', '-m', 'small');
    my $took = time - $begun;
    die "sync: exit $r->{rc}: $r->{out}$r->{err}\n" if $r->{rc} != 0;
    return $took;
}

# All but the messages themselves by csync, as IMAP would need to hold them; those from the data file.
sub differ
{
    my $source = by_csync($site, '%SHARED');
    my $backup = CBTest::Compare::backup_state($site, '%SHARED');
    my $stored = CBTest::Compare::stored_messages($site, '%SHARED');
    my %living = map { $_->{guid} => 1 } grep { !$_->{expunged} } map { @{ $_->{records} } } @{ $backup->{mailboxes} };
    return (CBTest::Compare::crc_differences($backup),
        CBTest::Compare::csync_differences($source, $backup, compacted => 1),
        map { "content of $_" } grep { ($stored->{$_} // '') ne $_ } sort keys %living);
}

sub longest { my ($most) = sort { $b <=> $a } @_; return $most }

my @idle = map { small_sync() } 1 .. 20;
note(sprintf 'with nothing else going on a sync takes up to %.2f s', longest(@idle));

for my $work (['-F', 'compact'], ['verify']) {
    subtest "@{$work}" => sub {
        my $before = -s $site->data_file('%SHARED');
        my ($out, $err) = map { "$site->{dir}/worker.$_" } qw(out err);
        my $begun = time;
        my $pid = start_cmd(env => $site->{backup}->env, out => $out, err => $err,
            cmd => [as_cyrus(program('ctl_backups'), '-C', $site->{backup}->conf, @{$work}, '%SHARED')]);
        my @took;
        while (waitpid($pid, POSIX::WNOHANG()) == 0) {
            push @took, small_sync();
        }
        my $status = $? >> 8;
        note(sprintf '%d syncs in %.1f s, the longest took %.2f s', scalar @took, time - $begun, longest(@took));
        is($status, 0, 'it succeeds') or diag(slurp($out), slurp($err));
        cmp_ok(scalar @took, '>', 2, 'it took long enough to see something');
        cmp_ok(longest(@took), '<', $LIMIT, "no sync waited for $LIMIT s");
        if ($work->[-1] eq 'compact') {
            cmp_ok(-s $site->data_file('%SHARED'), '<', 0.95 * $before, 'and what was dead is gone');
        }
        no_differences('both sides equal', differ());
    };
}
done_testing;
