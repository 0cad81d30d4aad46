#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A byte of a backup is wrong, or a file ends too early: of the data file, the index, backups.db; at
# places all over each. Every program ends by itself, with an exit code that is documented, says what
# is wrong, and gives out what is not; a real sync_client can go on; and after verify and a sync the
# backup is what IMAP says. What the library does with each single byte is cunit/test_lcb_damage*.c.
# DAMAGE_SEED moves the places. CYRUS_BACKUPS_LONG=1: four times as many of them, and of the data file and
# backups.db every byte with those programs that read all; K/N: the Kth of N parts of these bytes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state differences);
use CBTest::Damage;
use CBTest::Scenarios qw(no_differences);
use CBTest::Util qw(slurp);
use JSON;
use Test::More;

my $long = $ENV{CYRUS_BACKUPS_LONG};
my ($part, $parts) = ($long // '') =~ m{^(\d+)/(\d+)$} ? ($1, $2) : (1, 1);
my $seed = $ENV{DAMAGE_SEED} // time;
note("DAMAGE_SEED=$seed");
my ($site, $c) = CBTest::Damage::small_site();
my $d = CBTest::Damage->new($site, 'alice');
my @members = @{ $d->{members} };
my $index = "$d->{file}.index";
ok(@members >= 6, @members . ' members in ' . length($d->{data}) . ' bytes');
is(join(' ', values %{ $d->messages }), join(' ', ('whole') x keys %{ $d->{chunk_of} }), 'all can be read');
my $good = canonical(backup_state($site, 'alice'));

sub canonical { return JSON->new->canonical->encode($_[0]) }

# ---- what must be true of every program ----------------------------------------------------------

my @readers = (
    (map { ['cyr_backup', 'alice', @{$_}] } ['list', 'all'], ['show', 'mailboxes', 'user.alice'],
        ['dump', 'mailbox', 'user.alice'], ['json', 'all'], ['json', 'chunks'],
        ['json', 'headers', keys %{ $d->{chunk_of} }], ['list', 'mailboxes', '--as-of=-1m'], ['log']),
    (map { ['ctl_backups', @{$_}] } ['list', 'alice'], ['stat', 'alice'], ['-j', 'list'], ['-j', 'stat', 'alice'],
        ['verify', '--dry-run', 'alice'], ['-j', 'verify', '--dry-run', 'alice'],
        ['reconstruct', '--dry-run'], ['lock', '-x', 'true', 'alice']),
);
my @menders = map { ['ctl_backups', @{$_}] } ['reindex', 'alice'], ['compact', '-F', 'alice'];

# What is wrong with how it ended.
sub unfit
{
    my ($r, @words) = @_;
    my @wrong;
    push @wrong, "exit code $r->{rc}" if $r->{rc} != 0 && $r->{rc} != 75;
    push @wrong, 'silent failure' if $r->{rc} == 75 && "$r->{out}$r->{err}" !~ /\S/;
    push @wrong, "says $1" if $r->{err} =~ /(Unknown code|Success|Internal Error)/;
    if (grep { /^(?:json|-j)$/ } @words) {
        my $json = JSON->new->utf8;
        push @wrong, "no JSON: $@" unless eval { $json->incr_parse($r->{out}); 1 while $json->incr_parse; 1 };
    }
    return map { "@words: $_\n$r->{out}$r->{err}" } @wrong;
}

my (%codes, %named);

# Run it; the result.
sub check
{
    my ($where, @words) = @_;
    my $r = $d->tool(@words);
    my @wrong = unfit($r, @words);
    ok(!@wrong, "$where: @words[0 .. 2]") or diag(@wrong) if @wrong;
    $codes{ join ' ', @words[0 .. ($words[0] eq 'ctl_backups' ? 1 : 2)] }{ $r->{rc} }++;
    return $r;
}

sub positions
{
    my ($size, $number, @more) = @_;
    my $by = int($size / ($number * ($long ? 4 : 1))) || 1;
    my %at = map { $_ => 1 } @more, map { $_ * $by + $seed % $by } 0 .. ($size - 1 - $seed % $by) / $by;
    return sort { $a <=> $b } keys %at;
}

# IMAP has it, and so has the backup.
sub healed
{
    my ($where) = @_;
    is($site->sync('unix', '-u', 'alice')->{rc}, 0, "$where: a sync");
    my $r = $d->tool('ctl_backups', 'verify', 'alice');
    is($r->{rc}, 0, "$where: after that verify is content") or diag("$r->{out}$r->{err}");
    no_differences("$where: and both sides are equal", eval { differences($site, 'alice', full => 1) }, $@ || ());
    return;
}

# ---- the data file ---------------------------------------------------------------------------------

# Messages that do not come out although nothing of theirs is damaged, or come out wrong.
sub lost
{
    my (@damaged) = @_;
    my %damaged = map { $_->{seq} => 1 } @damaged;
    my $got = $d->messages;
    return map { "$_: $got->{$_}" } grep {
        $got->{$_} eq 'wrong' || ($got->{$_} ne 'whole' && !$damaged{ $d->{chunk_of}{$_} }) } sort keys %{$got};
}

# Who mends an index that speaks of more than there is, says so: nobody can tell afterwards.
sub lacks_end
{
    my ($where, $at) = @_;
    my $gone = length($d->{data}) - $at;
    for my $words (@menders, ['cyr_backup', 'alice', 'list', 'all']) {
        $d->restore;
        $d->cut($d->{file}, $at);
        my $r = check($where, @{$words});
        like("$r->{out}$r->{err}", qr/the last $gone bytes are gone|cannot be opened: damaged/,
            "$where: @{$words} says what is gone");
        is($r->{rc}, 75, "$where: @{$words}: exit code") if $words->[0] eq 'ctl_backups';
    }
    $d->restore;
    return;
}

sub damage_data
{
    my ($how, $at, $heal) = @_;
    my $where = "data file, $how at $at";
    my ($member, @group) = $d->group($at);
    my @gone = $how eq 'cut' ? grep { $_->{end} > $group[0]{at} } @members
        : $group[-1] == $members[-1] ? @group : ($member);
    $d->restore;
    $d->$how($d->{file}, $at);
    my $damaged = slurp($d->{file});
    check($where, @{$_}) for @readers;
    no_differences("$where: what is whole comes out", lost(@gone));
    is(slurp($d->{file}), $damaged, "$where: reading changed nothing");
    if ($heal) {
        my $r = check($where, 'ctl_backups', 'verify', 'alice');
        healed($where);
    } else {
        is($site->sync('unix', '-u', 'alice')->{rc}, 0, "$where: a sync");
        for my $words (@menders) {
            my $r = check($where, @{$words});
            $named{ $words->[1] }++ if "$r->{out}$r->{err}" =~ /error reading chunk|damaged|cannot be read/;
        }
        no_differences("$where: after that, too", grep { /: wrong$/ } lost(@gone));
    }
    lacks_end($where, $at) if $how eq 'cut';
    return;
}

# Of each kind one: header, mailbox line, message, script, the last member and its trailer.
my %sample = map { $_ => 1 } $members[1]{at} + 20, $members[-1]{at} + 3, $members[-1]{end} - 3,
    map { int(($_->{at} + $_->{end}) / 2) } @members[0 .. 3, -1];
damage_data('flip', $_, $sample{$_}) for positions(length $d->{data}, 12, keys %sample);
%sample = map { $_ => 1 } $members[2]{at} + 60, $members[-1]{at}, $members[-1]{end} - 1;
damage_data('cut', $_, $sample{$_}) for grep { $_ < length $d->{data} } positions(length $d->{data}, 4, keys %sample);

# Each byte, in a hurry: who reads all of it, and who mends it.
sub each_byte_of_data
{
    for (my $at = $part - 1; $at < length $d->{data}; $at += $parts) {
        my $where = "data file, byte $at";
        my ($member, @group) = $d->group($at);
        my @gone = $group[-1] == $members[-1] ? @group : ($member);
        $d->restore;
        $d->flip($d->{file}, $at);
        my $damaged = slurp($d->{file});
        check($where, @{$_}) for ['cyr_backup', 'alice', 'json', 'all'], ['ctl_backups', 'stat', 'alice'];
        my $r = check($where, 'ctl_backups', 'verify', '--dry-run', 'alice');
        my $silent = $r->{rc} == 0;
        my $mended = check($where, 'ctl_backups', ('verify', 'reindex', 'compact')[$at % 3], $at % 3 == 2 ? '-F' : (),
            'alice');
        my @lost = lost($silent ? () : @gone);
        ok(!@lost, "$where: what is whole comes out") or diag(@lost) if @lost;
        my $in = $at - $member->{at};    # time, origin, the name of the field, bits behind the end of the text
        my $harmless = ($in >= 4 && $in < 10) || $in == 12 || $in == 13 || $at == $member->{end} - 9;
        ok(!$silent || $harmless, "$where: verify says so") if $silent;
    }
    return;
}
each_byte_of_data() if $long;

# ---- the index ---------------------------------------------------------------------------------------

sub damage_index
{
    my ($how, $at, $heal) = @_;
    my $where = "index, $how at $at";
    $d->restore;
    unlink "$index-wal", "$index-shm";
    $d->$how($index, $at);
    check($where, @{$_}) for @readers;
    no_differences("$where: no wrong message", grep { /: wrong$/ } lost());
    is(slurp($d->{file}), $d->{data}, "$where: the data file is as it was");
    check($where, 'ctl_backups', 'verify', 'alice');
    is($d->tool('ctl_backups', 'verify', 'alice')->{rc}, 0, "$where: verify mends it");
    is(canonical(backup_state($site, 'alice')), $good, "$where: it says what it said");
    healed($where) if $heal;
    return;
}

$d->restore;
$d->shell('sqlite3 "$0" "PRAGMA wal_checkpoint(TRUNCATE)" > /dev/null', $index);
$d = CBTest::Damage->new($site, 'alice');
my $size = -s $index;
damage_index('flip', $_, $_ == 18 || $_ > $size * 0.9) for positions($size, 16, 18, 100, int $size * 0.95);
damage_index('cut', $_, $_ == 1) for positions($size, 3, 1);

# ---- backups.db --------------------------------------------------------------------------------------

sub damage_db
{
    my ($how, $at, $heal) = @_;
    my $where = "backups.db, $how at $at";
    $d->restore;
    $d->$how($d->{db}, $at);
    check($where, @{$_}) for @readers;
    my $files = join ' ', $site->all_data_files;
    my $r = $site->sync('unix', '-u', 'alice');
    is(join(' ', $site->all_data_files), $files, "$where: no second backup is begun");
    $r = check($where, 'ctl_backups', 'reconstruct');
    is($r->{rc}, 0, "$where: reconstruct mends it") or diag("$r->{out}$r->{err}");
    $r = $d->tool('ctl_backups', 'list', 'alice');
    like($r->{out}, qr/\talice\t\Q$d->{file}\E$/, "$where: the backup is found");
    healed($where) if $heal;
    return;
}

$size = -s $d->{db};
damage_db('flip', $_, $_ == 70) for positions($size, 12, 70);
damage_db("cut", $_, $_ == 1) for grep { $_ } positions($size, 3, 1);

sub each_byte_of_db
{
    for (my $at = $part - 1; $at < $size; $at += $parts) {
        my $where = "backups.db, byte $at";
        $d->restore;
        $d->flip($d->{db}, $at);
        check($where, @{$_}) for ['ctl_backups', 'list'], ['ctl_backups', 'list', 'alice'],
            ['cyr_backup', 'alice', 'list', 'all'], ['ctl_backups', 'reconstruct', '--dry-run'];
        my $r = check($where, 'ctl_backups', 'reconstruct');
        is($r->{rc}, 0, "$where: reconstruct mends it") or diag("$r->{out}$r->{err}") if $r->{rc};
        $r = $d->tool('ctl_backups', 'list', 'alice');
        my $found = $r->{out} =~ /\talice\t\Q$d->{file}\E$/;
        ok($found, "$where: the backup is found") or diag($r->{out}) if !$found;
    }
    return;
}
each_byte_of_db() if $long;

# ---- all the same, somebody must have complained ---------------------------------------------------------

ok($codes{$_}{75}, "$_ has failed") for 'cyr_backup alice dump', 'ctl_backups verify', 'ctl_backups stat',
    'ctl_backups reindex', 'ctl_backups compact';
ok($named{$_}, "$_ has named damage") for 'reindex', 'compact';
note(map { my $k = $_; "$k: " . join(', ', map { "$_ x $codes{$k}{$_}" } sort keys %{ $codes{$k} }) . "\n" } sort keys %codes);
done_testing;
