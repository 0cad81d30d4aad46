#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Damage heals wherever it is: a byte of each part of each file (gzip header, our field in it, text,
# trailer of the first, a middle and the last member; the header of the index, its schema, the tree of
# each table, each kind of byte of its WAL; header, records and pointers of backups.db), and several of
# these at once. Then verify says what is wrong, a real sync_client comes once more, and verify is content
# and the backup what IMAP says; and so is what a rebuild of the index makes of it.
#
# By default some places, chosen by HEAL_SEED; HEAL_PLACE: those whose names match; CYRUS_BACKUPS_LONG=1: all,
# and many at once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state differences);
use CBTest::Damage;
use CBTest::Imap;
use CBTest::Scenarios qw(no_differences);
use CBTest::Util qw(as_cyrus run_cmd slurp);
use JSON;
use Test::More;

my $long = $ENV{CYRUS_BACKUPS_LONG};
my $seed = $ENV{HEAL_SEED} // time;
srand $seed;
note("HEAL_SEED=$seed");

my ($site, $c) = CBTest::Damage::small_site();

# What is in the WAL hides what is in the index. So the latter is damaged where all of it is in its file.
fold();
$c->{imap}->append('INBOX', CBTest::Imap::message(subject => 'five'));
is($site->sync('unix', '-u', 'alice')->{rc}, 0, 'sync');
my $with_wal = CBTest::Damage->new($site, 'alice');
my $index = "$with_wal->{file}.index";
my $wal = length $with_wal->{kept}{kept}{"$index-wal"}{bytes};
cmp_ok($wal, '>', 2000, 'there is a WAL');
fold();
my $d = CBTest::Damage->new($site, 'alice');
my $good = state_of();

sub fold
{
    my $file = $site->data_file('alice') . '.index';
    my $r = run_cmd(cmd => [as_cyrus('sqlite3', $file, 'PRAGMA wal_checkpoint(TRUNCATE)')]);
    is("$r->{rc} " . (-s "$file-wal" // 0), '0 0', 'the index is in one file');
    return;
}

sub state_of
{
    my $state = eval { backup_state($site, 'alice') } // return "no state: $@";
    return JSON->new->canonical->encode($state);
}

# ---- the places -----------------------------------------------------------------------------------------

my %place;    # what it is => [file, offset]
my @members = @{ $d->{members} };
for my $m ($members[0], $members[@members / 2], $members[-1]) {
    my $which = "member $m->{seq}";
    my %in = (magic => 0, flags => 3, 'name of the field' => 12, version => 16, 'commit flag' => 17, length => 18,
        id => 26, number => 32, 'sum of the field' => 37, 'first of the text' => 40);
    $place{"$which: $_"} = [$d->{file}, $m->{at} + $in{$_}] for keys %in;
    $place{"$which: text"} = [$d->{file}, int(($m->{at} + 40 + $m->{end}) / 2)];
    $place{"$which: checksum"} = [$d->{file}, $m->{end} - 6];
    $place{"$which: length of the text"} = [$d->{file}, $m->{end} - 2];
}
$place{"member $_->{seq}: text, too"} = [$d->{file}, $_->{end} - 20] for @members;

# A place within each tree, of what is in its root page.
my $roots = run_cmd(cmd => [as_cyrus('sqlite3', $index, 'SELECT name, rootpage FROM sqlite_master WHERE rootpage>0;'
    . ' PRAGMA page_size')])->{out};
my ($page) = $roots =~ /^(\d+)$/m;
my $folded = -s $index;
for my $line (grep { /\|/ } split /\n/, $roots) {
    my ($name, $root) = split /\|/, $line;
    next if $root * $page > $folded;
    $place{"index: $name, head"} = [$index, ($root - 1) * $page];
    $place{"index: $name, a row"} = [$index, $root * $page - 8];
}
$place{"index: header, $_"} = [$index, $_] for 3, 16, 18, 28, 44, 59, 60, 69, 92;
$place{'index: schema'} = [$index, $page - 60];
$place{"WAL: $_->[0]"} = ["$index-wal", $_->[1]] for ['magic', 0], ['salt', 17], ['sum', 25],
    ['frame', 33], ['page of a frame', 100], ['last frame', $wal - 30];
my $size = -s $d->{db};
$place{"backups.db: $_"} = [$d->{db}, $_] for grep { $_ < $size } 0, 20, 30, 45, 60, 68, 80, 100, 200, $size - 30, $size - 5;

# ---- damage, and what becomes of it ---------------------------------------------------------------------

sub said { return map { substr("$_->{out}$_->{err}", 0, 1500) } @_ }

sub sync_until_well
{
    my ($where) = @_;
    my $r;
    for (1 .. 3) {
        $r = $site->sync('unix', '-u', 'alice');
        last if $r->{rc} == 0;
    }
    is($r->{rc}, 0, "$where: a sync") or diag(said($r));
    return;
}

# WHEN: what comes first, the client or the administrator.
sub heals
{
    my ($when, @what) = @_;
    my $where = join(' + ', @what) . ", $when first";
    my $data = grep { $place{$_}[0] eq $d->{file} } @what;
    ((grep { $place{$_}[0] eq "$index-wal" } @what) ? $with_wal : $d)->restore;
    $d->flip(@{ $place{$_} }) for @what;
    if (grep { $place{$_}[0] eq $d->{db} } @what) {
        my $r = $site->ctl_backups('reconstruct');
        is($r->{rc}, 0, "$where: reconstruct") or diag(said($r));
    }
    sync_until_well($where) if $when eq 'client';
    my $r = $site->ctl_backups('verify', '--dry-run', 'alice');
    if ($r->{rc} == 0 && $when ne 'client') {
        is(state_of(), $good, "$where: verify says nothing, and nothing has changed");
    } else {
        ok($r->{rc} == 0 || $r->{rc} == 75, "$where: verify") or diag(said($r));
        like("$r->{out}$r->{err}", qr/damaged|error|index|chunk/, "$where: it says what it is") if $r->{rc};
        like($r->{out}, $data ? qr/failed \(data damaged/ : qr/failed \(index damaged/, "$where: and whose fault")
            if $when ne 'client' && (!$data || $data == @what);
    }
    $r = $site->ctl_backups('verify', 'alice');
    ok($r->{rc} == 0 || ($r->{rc} == 75 && $r->{out} =~ /data damaged/), "$where: verify mends it") or diag(said($r));
    sync_until_well($where);
    $r = $site->ctl_backups('verify', 'alice');
    is($r->{rc}, 0, "$where: after that verify is content") or diag(said($r));
    like($r->{out}, qr/: ok$/m, "$where: and has found nothing");
    no_differences("$where: both sides are equal", eval { differences($site, 'alice', full => 1) }, $@ || ());
    my $state = state_of();
    $r = $site->ctl_backups('reindex', 'alice');
    is($r->{rc}, 0, "$where: reindex") or diag(said($r));
    is(state_of(), $state, "$where: which says the same");
    return;
}

my @names = sort keys %place;
my @bytes = grep { !/backups/ } @names;

sub some { my ($n, @of) = @_; return map { splice @of, int rand @of, 1 } 1 .. ($n < @of ? $n : @of) }

if (my $only = $ENV{HEAL_PLACE}) {
    heals($_->[0], $_->[1]) for map { my $n = $_; map { [$_, $n] } qw(verify client) } grep { /$only/ } @names;
} elsif ($long) {
    for my $name (@names) {
        for my $when (qw(verify client)) {
            subtest "$name, $when first" => sub { heals($when, $name) };
        }
    }
    subtest 'several' => sub { heals('verify', some(2 + $_ % 3, @names)) } for 1 .. 60;
} else {
    my %kind;
    push @{ $kind{ /^(\w+)/ ? $1 : '' } }, $_ for @names;
    for my $kind (sort keys %kind) {
        subtest "in $kind" => sub { heals(('verify', 'client')[rand 2], some(1, @{ $kind{$kind} })) };
    }
    # What verify cannot use, but whoever opens it for writing would.
    subtest 'chunks' => sub { heals('verify', 'index: chunks, head') };
    subtest 'two' => sub { heals('verify', some(2, @bytes)) };
    subtest 'four' => sub { heals('client', some(4, @names)) };
}
done_testing;
