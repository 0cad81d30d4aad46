#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# twoskip.t - one database, two programs: ours (cunit/twoskip_tool) and stock cyr_dbtool.
#
# In each round one of the two, drawn at random, changes the database, or dies while doing so. Then
# both have to show the expected records, in either order, and both have to find it consistent. From
# time to time the file is parsed here, to see that both lay out records in the same way.
#
#   BUILDDIR    where the programs were built (default: ..)
#   CYRUS_BIN   where stock Cyrus programs are (default: /usr/lib/cyrus/bin)
#   SEED        repeats a run (default: a fixed one)
#   ROUNDS      (default: 200)
use strict;
use warnings;
use Compress::Zlib ();
use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use POSIX ();
use Test::More;

my $builddir = $ENV{BUILDDIR} // '..';
my $stock = ($ENV{CYRUS_BIN} // '/usr/lib/cyrus/bin') . '/cyr_dbtool';
my $built = "$builddir/cunit/twoskip_tool";
my $seed = $ENV{SEED} // 20261122;
my $rounds = $ENV{ROUNDS} // 200;
my $FILLER = " BLANK\x07\xa0";

-x $stock or BAIL_OUT("$stock is needed (Debian: apt-get install cyrus-admin cyrus-common)");
-x $built or BAIL_OUT("$built is needed (make check builds it)");
diag("SEED=$seed ROUNDS=$rounds");
srand($seed);

# A private directory; stock programs refuse to run as root.
my @as = $> == 0 ? qw(setpriv --reuid cyrus --regid mail --init-groups) : ();
my $dir = abs_path(tempdir('cyrus-twoskip-XXXXXX', TMPDIR => 1, CLEANUP => 1));
my ($db, $ours) = ("$dir/t.db", "$dir/twoskip_tool");
mkdir "$dir/conf" or die "mkdir: $!";
write_file("$dir/imapd.conf", "configdirectory: $dir/conf\ndefaultpartition: default\n"
    . "partition-default: $dir/spool\n");
copy($built, $ours) or die "copy: $!";
chmod 0755, $ours;
if ($> == 0) {
    my ($uid, $gid) = ((getpwnam('cyrus'))[2], (getgrnam('mail'))[2]);
    chown $uid, $gid, $dir, "$dir/conf" or die "chown: $!";
}

sub write_file
{
    my ($path, $text) = @_;
    open my $fh, '>:raw', $path or die "$path: $!";
    print $fh $text;
    close $fh or die "$path: $!";
}

sub read_file
{
    my ($path) = @_;
    open my $fh, '<:raw', $path or die "$path: $!";
    local $/;
    return scalar <$fh>;
}

# Run a program with $input; returns its wait status and what it printed.
sub run
{
    my ($input, @cmd) = @_;
    write_file("$dir/in", $input);
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        open STDIN, '<', "$dir/in" or POSIX::_exit(126);
        open STDOUT, '>', "$dir/out" or POSIX::_exit(126);
        open STDERR, '>', "$dir/err" or POSIX::_exit(126);
        { no warnings; exec @as, @cmd; }
        POSIX::_exit(127);
    }
    waitpid $pid, 0;
    my $status = $?;
    return ($status, read_file("$dir/out"));
}

sub run_ours { my ($in, @args) = @_; return run($in, $ours, $db, @args); }
sub run_stock { my ($in, @args) = @_; return run($in, $stock, '-C', "$dir/imapd.conf", '-n', $db, 'twoskip', @args); }

# ---- the database as it should be ----

my %want;
my %done;

sub expected { return join '', map { "$_\t$want{$_}\n" } sort keys %want; }
sub any_key { my @k = sort keys %want; return @k ? $k[rand @k] : undef; }
sub new_key { return rand() < 0.05 ? '%SHARED' : sprintf('%s%02d%s', (qw(user u User x.y))[rand 4], rand 40, (qw(@example.com @ex), '', '')[rand 4]); }
sub new_value { return '/srv/backup/' . join('', map { ('a' .. 'z', 0 .. 9)[rand 36] } 0 .. rand(rand() < 0.2 ? 900 : 40)); }

# Changes for one transaction, as [key, value or undef], and the records afterwards.
sub changes
{
    my ($n) = @_;
    my %state = %want;
    my @list;
    for (1 .. $n) {
        my @k = sort keys %state;
        if (@k && rand() < 0.35) {
            my $k = $k[rand @k];
            push @list, [$k, undef];
            delete $state{$k};
        } else {
            my $k = @k && rand() < 0.4 ? $k[rand @k] : new_key();
            my $v = new_value();
            push @list, [$k, $v];
            $state{$k} = $v;
        }
    }
    return (\@list, \%state);
}

sub script
{
    my ($set, $delete, $list) = @_;
    return join '', map { defined $_->[1] ? "$set $_->[0] $_->[1]\n" : "$delete $_->[0]\n" } @$list;
}

# ---- the file itself ----

sub header_of
{
    my ($f) = @_;
    my %h;
    @h{qw(magic version generation records repack size flags crc)} = unpack 'a20 N Q> Q> Q> Q> N N', $f;
    return \%h;
}

sub put_header
{
    my ($size, $records, $flags) = @_;
    my $f = read_file($db);
    my $h = header_of($f);
    my $new = pack 'a20 N Q> Q> Q> Q> N', @{$h}{qw(magic version generation)}, $records, $h->{repack}, $size, $flags;
    substr($f, 0, 64) = $new . pack('N', Compress::Zlib::crc32($new));
    open my $fh, '+<:raw', $db or die "$db: $!";
    print $fh $f;
    close $fh or die "$db: $!";
}

# Parse records in file order. Returns what is wrong, or '' ; counts fillers.
sub layout_errors
{
    my $f = read_file($db);
    my $h = header_of($f);
    my ($at, $fillers, $before) = (64, 0, 64);
    return 'size' if $h->{size} != length $f;
    while ($at < length $f) {
        if (substr($f, $at, 8) eq $FILLER) {
            $fillers++;
            $at += 8;
            next;
        }
        my ($type, $level, $kl, $vl) = unpack 'a C n N', substr($f, $at, 8);
        return "type at $at" if $type !~ /^[=+\$-]$/;
        my $head = 8 + 8 * ($level + 1) + 8;
        my $tail = ($kl + $vl + 7) & ~7;
        my ($headcrc, $tailcrc) = unpack 'N N', substr($f, $at + $head - 8, 8);
        return "head checksum at $at" if $headcrc != Compress::Zlib::crc32(substr($f, $at, $head - 8));
        return "tail checksum at $at" if $tailcrc != ($tail ? Compress::Zlib::crc32(substr($f, $at + $head, $tail)) : 0);
        my $end = $before;
        $end += 8 while ($end + 8) % 512 > ($end - 8 + $head) % 512;
        return "fillers before $at" if $end != $at;
        $at += $head + $tail;
        $before = $at;
    }
    $done{'fillers seen'} += $fillers;
    return $at == length $f ? '' : 'end';
}

# ---- what may happen in a round ----

my %actions = (
    'ours sets' => sub {
        my ($list, $state) = changes(1);
        my ($k, $v) = @{$list->[0]};
        my ($r) = run_ours('', defined $v ? ('set', $k, $v) : ('delete', $k));
        %want = %$state;
        return $r == 0;
    },
    'stock sets' => sub {
        my ($list, $state) = changes(1);
        my ($k, $v) = @{$list->[0]};
        my ($r) = run_stock('', defined $v ? ('set', $k, $v) : ('delete', $k));
        %want = %$state;
        return $r == 0;
    },
    'ours commits' => sub {
        my ($list, $state) = changes(1 + rand 12);
        my ($r) = run_ours(script('set', 'delete', $list) . "commit\n", 'txn');
        %want = %$state;
        return $r == 0;
    },
    'stock commits' => sub {
        my ($list, $state) = changes(1 + rand 12);
        my ($r) = run_stock("BEGIN\n" . script('SET', 'DELETE', $list) . "COMMIT\n", 'batch');
        %want = %$state;
        return $r == 0;
    },
    'ours aborts' => sub {
        my ($list) = changes(1 + rand 12);
        my ($r) = run_ours(script('set', 'delete', $list) . "abort\n", 'txn');
        return $r == 0;
    },
    'stock aborts' => sub {
        my ($list) = changes(1 + rand 12);
        my ($r) = run_stock("BEGIN\n" . script('SET', 'DELETE', $list) . "ABORT\n", 'batch');
        return $r == 0;
    },
    'ours dies' => sub {
        my ($list) = changes(1 + rand 12);
        my ($r) = run_ours(script('set', 'delete', $list) . "damage\n", 'txn');
        my $h = header_of(read_file($db));
        return $r == POSIX::SIGKILL() && ($h->{flags} & 1 || -s $db == $h->{size});
    },
    'ours dies in a replace' => sub {
        my ($r) = run_ours('', 'damage', any_key() // 'x', 'never');
        return $r == POSIX::SIGKILL() && header_of(read_file($db))->{flags} & 1;
    },
    'stock dies' => sub {
        my ($r) = run_stock('', 'damage', any_key() // 'x');
        return $r != 0 && header_of(read_file($db))->{flags} & 1;
    },
    # All is written but the header; then part of the tail is lost.
    'commit cut short' => sub {
        my $old = header_of(read_file($db));
        my ($list) = changes(2 + rand 6);
        my $by_ours = rand() < 0.5;
        my ($r) = $by_ours ? run_ours(script('set', 'delete', $list) . "commit\n", 'txn')
            : run_stock("BEGIN\n" . script('SET', 'DELETE', $list) . "COMMIT\n", 'batch');
        my $new = header_of(read_file($db));
        if ($new->{generation} != $old->{generation}) { # a checkpoint came: it is committed
            my ($r2, $out) = run_ours('', 'show');
            %want = map { split /\t/ } split /\n/, $out;
            return $r == 0 && $r2 == 0;
        }
        put_header($old->{size}, $old->{records}, 1);
        my $size = $new->{size};
        $size -= rand() < 0.5 ? 1 + int rand 24 : int rand($size - $old->{size});
        truncate $db, $size if $size > $old->{size};
        return $r == 0;
    },
    'ours checkpoints' => sub { return (run_ours('', 'checkpoint'))[0] == 0; },
    'stock checkpoints' => sub { return (run_stock('', 'repack'))[0] == 0; },
);
# Checkpoints on demand are rare, so that those that are due happen too.
my @names = ('ours checkpoints', 'stock checkpoints', (grep { !/checkpoints/ } sort keys %actions) x 3,
    ('ours sets', 'stock sets', 'ours commits', 'stock commits') x 6);

# ---- the rounds ----

my %readers = (
    ours => sub {
        my ($r, $out) = run_ours('', 'show');
        my ($c) = run_ours('', 'consistent');
        return $r || $c ? "status $r, consistent $c: " . read_file("$dir/err") : $out;
    },
    stock => sub {
        my ($r, $out) = run_stock('', 'show');
        my ($c, $text) = run_stock('', 'consistent');
        return $r || $c || $text !~ /^Yes/ ? "status $r, consistent $c $text: " . read_file("$dir/err") : $out;
    },
);

is((run_stock('', 'set', 'first', 'value'))[0], 0, 'stock makes the database');
$want{first} = 'value';
for my $round (1 .. $rounds) {
    my $name = $names[rand @names];
    my $ok = $actions{$name}->();
    my @order = rand() < 0.5 ? qw(ours stock) : qw(stock ours);
    my $expected = expected();
    my @got = map { $readers{$_}->() } @order;
    my $good = $ok && $got[0] eq $expected && $got[1] eq $expected;
    my $layout = layout_errors();
    ok($good && !$layout, "round $round: $name, read by $order[0] first");
    $done{$name}++;
    next if $good && !$layout;
    diag("result: ", $ok ? 'ok' : 'failed', "; layout: $layout; last error: ", read_file("$dir/err"));
    is($got[$_], $expected, "as $order[$_] shows it") for 0, 1;
    copy($db, my $kept = "/tmp/twoskip-failed-$$.db");
    diag("the file is kept as $kept");
    last;
}
is((run_ours('', 'count'))[1], keys(%want) . "\n", 'our count');
ok($done{$_}, "happened: $_") for sort keys %actions;
ok($done{'fillers seen'}, 'fillers were written');

# Each alone, until a checkpoint is due; the other one has to be at home in the new file.
for my $who (qw(ours stock)) {
    my $generation = header_of(read_file($db))->{generation};
    my $n = 0;
    while ($n < 200 && header_of(read_file($db))->{generation} == $generation) {
        last if !$actions{"$who commits"}->();
        $n++;
    }
    my $h = header_of(read_file($db));
    is($h->{generation}, $generation + 1, "$who: a checkpoint came when it was due");
    ok($h->{size} - $h->{repack} < 1024, "$who: nothing but a commit behind it");
    is($readers{$_}->(), expected(), "$who: $_ shows it") for qw(stock ours);
    is(layout_errors(), '', "$who: layout");
}
done_testing();
