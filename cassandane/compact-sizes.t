#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# backup_compact_minsize, _maxsize and _work_threshold mean what they mean to Cyrus 3.x: its ctl_backups
# and ours compact the same file with the same settings, and cut it into the same chunks, message by
# message. What differs is said here: ours collects the state at the beginning of the window into a chunk
# of its own, behind the messages (so what stays of a chunk before is smaller), and fills chunks up to
# backup_chunk_size where Cyrus leaves them alone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Dave;
use CBTest::Imap;
use CBTest::Master;
use CBTest::Site;
use CBTest::Util qw(as_cyrus program run_cmd slurp spew wait_until);
use Compress::Zlib qw(memGzip);
use Digest::SHA qw(sha1_hex);
use IO::Uncompress::Gunzip qw($GunzipError);
use Test::More;

my %program = (theirs => "$DEBIAN/ctl_backups", ours => program('ctl_backups'));

# The messages in each chunk of a file, "1,2 3" for chunks of two and one, by the numbers of %number;
# chunks without any are left out, but counted.
my %number;
sub groups
{
    my ($path) = @_;
    my ($data, $at, @group, $others) = (slurp($path), 0);
    while ($at < length $data) {
        my $rest = substr $data, $at;
        my $z = IO::Uncompress::Gunzip->new(\$rest, MultiStream => 0) or die $GunzipError;
        my $text = do { local $/; <$z> };
        $at += length($rest) - length($z->trailingData // '');
        my @n = map { $number{$_} // '?' } $text =~ /APPLY MESSAGE \(%\{\S+ ([0-9a-f]{40}) /g;
        @n ? push @group, join(',', @n) : $others++;
    }
    return (join(' ', @group), $others // 0);
}

# One run on a fresh copy of $bytes: [exit, what was said, groups, other chunks].
sub compacted
{
    my ($side, $bytes, $options, @args) = @_;
    unlink glob "$dir/data/d/*";
    spew($data, $bytes);
    spew("$dir/$side.conf", slurp($conf) . join '', map { "backup_$_: $options->{$_}\n" } sort keys %{$options});
    owned();
    run_cmd(tmp => $dir, cmd => [as_cyrus("$DEBIAN/cyr_dbtool", '-n', "$dir/conf/backups.db", 'twoskip', 'set',
        'dave', $data)]);
    my @run = ($program{$side}, '-C', "$dir/$side.conf");
    my $r = run_cmd(tmp => $dir, cmd => [as_cyrus(@run, 'reindex', 'dave')]);
    is($r->{out}, "reindex dave: ok\n", "$side: indexed") or diag($r->{err});
    $r = run_cmd(tmp => $dir, cmd => [as_cyrus(@run, @args, 'compact', 'dave')]);
    is($r->{err}, '', "$side: nothing on stderr") unless grep { /^-v/ } @args;
    my ($file) = grep { /_[A-Za-z0-9]{6}$/ } glob "$dir/data/d/*";
    return [$r->{rc}, $r->{out}, groups($file)];
}

sub both
{
    my ($bytes, $row) = @_;
    my ($min, $max, $threshold, $force, $want, $ours) = @{$row};
    my %options = (retention => '7d', compact_minsize => $min, compact_maxsize => $max,
        compact_work_threshold => $threshold);
    my @args = $force ? '-F' : ();
    my $label = "min $min, max $max, threshold $threshold" . ($force ? ', forced' : '');
    my %r = map { $_ => compacted($_, $bytes, \%options, @args, $_ eq 'ours' ? '--legacy-status' : ()) } keys %program;
    is("$r{ours}[0] $r{ours}[1]", "$r{theirs}[0] $r{theirs}[1]", "$label: the same result, the same exit code");
    like($r{ours}[1], $want eq 'skipped' ? qr/: skipped$/ : qr/: ok$/, "$label: result");
    return if $want eq 'skipped';
    is($r{theirs}[2], $want, "$label: Debian's chunks");
    is($r{ours}[2], $ours // $r{theirs}[2], "$label: ours");
    is($r{ours}[3], $min || $max ? 1 : 0, "$label: and one with the state of things, unless all is filled up");
    return;
}

# ---- three chunks of which every byte is known -------------------------------------------------

my @text = map { "Subject: $_\r\n\r\n" . "$_ and so on\r\n" x 22 } 'one  ', 'two  ', 'three';
@message = @text;
@guid = map { sha1_hex($_) } @text;
%number = map { $guid[$_] => $_ + 1 } 0 .. 2;
my @record = map { record($_ + 1, $_ + 1, $_, '') } 0 .. 2;
my @chunk = map { "# cyrus backup: chunk start\r\n" . message($T + 10 * $_, $_)
    . mailbox($T + 10 * $_ + 1, $INBOX, 'user.dave', $_ + 1, $_ + 1, '', @record[0 .. $_]) } 0 .. 2;
is(join(' ', map { length } @chunk), '929 1059 1189', 'three chunks, about 1 KiB each');
my $three = join '', map { memGzip($_) } @chunk;
both($three, $_) for
    # KiB, threshold, forced: chunks, or that nothing is done; ours, if it is another matter
    [2, 0, 1, 0, '1,2,3'],
    [1, 0, 1, 0, '1,2,3'],
    [1, 2, 1, 0, '1,2 3'],
    [1, 3, 1, 0, '1,2,3'],
    [2, 4, 1, 0, '1,2,3'],
    [0, 1, 1, 0, '1 2 3'],
    [2, 1, 1, 0, 'skipped'],
    [2, 2, 1, 0, 'skipped'],
    [0, 0, 1, 0, 'skipped'],
    [2, 0, 4, 0, 'skipped'],
    [2, 0, 4, 1, '1,2,3'],
    [1, 2, 1, 1, '1,2 3'],
    [0, 1, 1, 1, '1 2 3'],
    [2, 1, 1, 1, '1 2 3'],
    [0, 0, 1, 1, '1 2 3', '1,2,3'];

# What is said with -v.
for my $side (qw(theirs ours)) {
    my $r = compacted($side, $three, { retention => '7d', compact_minsize => 2 }, '-v');
    like($r->[1], qr/^keeping 3 chunks:\n 1 2 3\ncombining chunks 1 and 2\ncombining chunks 2 and 3\n(?:dave: .*\n)*compact dave: ok\n\z/,
        "$side: -v");
}
is(compacted('theirs', $three, { retention => '7d' }, '-v')->[1], "compact dave: skipped\n", 'Debian\'s: -v, skipped');
like(compacted('ours', $three, { retention => '7d' }, '-v')->[1], qr/^(?:dave: .*\n)+compact dave: skipped\n\z/, 'ours: and why');
is(compacted('ours', $three, { retention => '7d' })->[0], 0, 'skipped is no failure, unless that is asked for');
is(compacted('ours', $three, { compact_minsize => '2K', compact_maxsize => '4096B' })->[2], '1,2,3', 'ours: units');

# ---- a file that Debian's backupd made of real syncs -------------------------------------------

my $theirs = CBTest::Master->new(options => {
    'backuppartition-default' => '%', backup_db => 'twoskip', admins => 'admin', allowplaintext => 'yes' });
$theirs->configure('backuppartition-default' => "$theirs->{dir}/part",
    backup_db_path => "$theirs->{dir}/conf/backups.db", backup_staging_path => "$theirs->{dir}/tmp");
$theirs->start(['backupd', 'backupd', "$theirs->{dir}/conf/backupd.sock", 'prefork=0']);
my $site = CBTest::Site->new(users => ['dave'],
    options => { imap => { debian_sync_host => "$theirs->{dir}/conf/backupd.sock" } });
for my $n (1 .. 6) {
    $site->imap_as('dave')->append('INBOX', CBTest::Imap::message(subject => "number $n", body => CBTest::Imap::noise(3000, $n)));
    is($site->sync('debian', '-u', 'dave')->{rc}, 0, "sync $n");
}
my ($made) = glob "$theirs->{dir}/part/d/dave_??????";
my $six = slurp($made);
%number = ();
for my $guid (run_cmd(cmd => ['zcat'], input => $six)->{out} =~ /APPLY MESSAGE \(%\{\S+ ([0-9a-f]{40}) /g) {
    my $n = 1 + keys %number;
    $number{$guid} = $n;
}
is(scalar keys %number, 6, 'six messages');
my $last = time;
wait_until('the syncs are out of the window', sub { time > $last + 3 });
for my $row ([8, 0, 1], [6, 0, 1], [0, 4, 1], [6, 9, 1], [5, 13, 1], [8, 16, 1], [9, 8, 1], [0, 0, 1], [1, 100, 1],
    [8, 0, 7]) {
    my ($min, $max, $threshold) = @{$row};
    my %options = (retention => '1s', compact_minsize => $min, compact_maxsize => $max,
        compact_work_threshold => $threshold);
    my %r = map { $_ => compacted($_, $six, \%options, $_ eq 'ours' ? '--legacy-status' : ()) } keys %program;
    is("$r{ours}[0] $r{ours}[1]", "$r{theirs}[0] $r{theirs}[1]", "min $min, max $max, threshold $threshold: the same result");
    is($r{ours}[2], $r{theirs}[2], "min $min, max $max, threshold $threshold: the same messages in each chunk");
}
$theirs->stop;
done_testing;
