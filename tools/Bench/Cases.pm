# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Bench::Cases - what tools/bench measures. A case is one entry of the table @CASES:
#
#   name    what --case and the results call it
#   group   ingest, maintenance or restore
#   text    one line for people
#   run     code, called with the side (Bench::Side) and the corpora (Bench::Corpus) once for each
#           run and side; returns the figures of this run: cpu_s, wall_s, rss_kib, written_bytes,
#           data_bytes, and any others
#   floor   code that returns CPU seconds that the work takes at the least; may be missing
#   peer    0 if there is nothing to compare with
#   at_most what of our figures may be at the most; peer_cpu: of the other side's CPU time
#   note    code that returns what is to be said of the result in words, for people
#   peer_runs  how often the other side runs at the most, where that takes minutes
package Bench::Cases;
use strict;
use warnings;
use Bench::Maintenance qw(compacted_size);
use CBTest::Util qw(run_cmd builddir sha1_hex);
use Exporter 'import';
use JSON;
our @EXPORT_OK = qw(@CASES);

# ---- ingest --------------------------------------------------------------------

# Replicate a whole corpus into an empty server, over one connection.
sub first_sync
{
    my ($side, $corpora, $corpus, @how) = @_;
    $side->fresh;
    my $cost = $side->measure(sub { $side->load(@how, $corpora->path($corpus)) });
    my $sent = delete $cost->{sent};
    die "$side->{name}: not everything was sent\n" if $sent->{messages} != $corpora->count($corpus);
    @{$cost}{qw(messages mail_bytes)} = @{$sent}{qw(messages bytes)};
    $cost->{index_bytes_per_message} = $cost->{index_bytes} / $sent->{messages};
    check_count($side, $sent->{messages}, users(@how)) unless $side->{checked}{$corpus}++;
    return $cost;
}

# The users that csync-load makes, with these options.
sub users
{
    my (%o) = @_;
    return 'bench' unless $o{'--users'};
    return map { sprintf 'bench%04d', $_ } 1 .. $o{'--users'};
}

# A server that lost mail was not fast.
sub check_count
{
    my ($side, $expected, @users) = @_;
    my $n = $side->message_count(@users);
    die "$side->{name}: $n messages are in the backup, $expected were sent\n" if $n != $expected;
    return;
}

# A backup that has grown as they do: one first sync, and some later ones. MESSAGES of corpus base.
sub grown
{
    my ($side, $corpora, $messages) = @_;
    my ($base, $singles) = map { $corpora->path($_) } qw(base singles);
    my $half = $corpora->count('singles') / 2;
    my $cost = $side->base("base $messages", ["$base:$messages"],
        ['--singly', $half, "$base:$messages", "$singles:$half"]);
    return $cost;
}

# How many messages of corpus base make a data file of so many megabytes.
sub base_size
{
    my ($corpora, $megabytes) = @_;
    return $corpora->count('base') * $megabytes / 400;
}

# Messages that arrive one by one, each over a connection of its own.
sub one_message
{
    my ($side, $corpora, $megabytes) = @_;
    my $n = base_size($corpora, $megabytes);
    my $prepared = grown($side, $corpora, $n);
    my $all = $corpora->count('singles');
    my ($base, $singles) = map { $corpora->path($_) } qw(base singles);
    return each_sync($side, $prepared, '--singly', $all / 2, "$base:$n", "$singles:$all");
}

# One run of csync-load that makes many connections: figures for each of them.
sub each_sync
{
    my ($side, $prepared, @load) = @_;
    my $cost = $side->measure(sub { $side->load(@load) });
    my $n = (delete $cost->{sent})->{connections};
    $cost->{$_} /= $n for qw(cpu_s wall_s written_bytes);
    $cost->{syncs} = $n;
    $cost->{prepare_rss_kib} = $prepared->{rss_kib};
    $cost->{prepare_cpu_s} = $prepared->{cpu_s};
    return $cost;
}

# The other side refuses a message somewhere between 200,000 and 1,000,000 of them in one unit, and
# takes 3 KB of memory for each.
my $PEER_RECORDS_MAX = 200_000;

# One flag in a mailbox of RECORDS, again and again.
sub flag_change
{
    my ($side, $corpora, $records) = @_;
    my $tiny = $corpora->path('tiny');
    $records = $PEER_RECORDS_MAX if $side->is_peer && $records > $PEER_RECORDS_MAX;
    my $prepared = $side->base("flags $records", ["$tiny:$records"]);
    my $n = $corpora->{quick} ? 3 : 20;
    my $cost = each_sync($side, $prepared, '--changes', $n, '--singly', $n, "$tiny:$records");
    return { %{$cost}, records => $records };
}

# SHA-1 and compression, and nothing else.
sub floor_of
{
    my ($corpora, $name) = @_;
    my $r = run_cmd(cmd => [builddir() . '/tools/measure', 'floor', $corpora->path($name)],
        timeout => 600);
    return $r->{rc} == 0 ? decode_json($r->{out})->{cpu_s} : undef;
}

# ---- maintenance ---------------------------------------------------------------

# The index is gone. Ours is built again by whatever opens the backup next.
sub rebuild
{
    my ($side, $corpora) = @_;
    grown($side, $corpora, base_size($corpora, 100));
    $side->{site}{backup}->stop;
    my $before = $side->message_count('bench');
    my ($data) = $side->{site}->all_data_files;
    unlink glob "$data.index*";
    my $cost = $side->tool($side->is_peer ? qw(ctl_backups reindex bench)
        : qw(cyr_backup bench list chunks));
    check_count($side, $before, 'bench');
    return { %{$cost}, %{ $side->sizes } };
}

# ---- restore -------------------------------------------------------------------

# A message out of a large backup: the first, one in the middle, the last. Figures are those of
# the one that took longest.
sub dump_message
{
    my ($side, $corpora) = @_;
    my $n = base_size($corpora, 400);
    grown($side, $corpora, $n);
    my @base = $corpora->guids('base');
    my @guids = (@base[0, $n / 2], ($corpora->guids('singles'))[$corpora->count('singles') / 2 - 1]);
    my (%worst, %sum);
    for my $guid (@guids) {
        my @args = ('bench', 'dump', 'message', $guid);
        my $text = $side->output('cyr_backup', @args);
        die "$side->{name}: $guid is another message\n" if sha1_hex($text) ne $guid;
        my $cost = $side->tool('cyr_backup', @args);
        for my $key (keys %{$cost}) {
            $worst{$key} = $cost->{$key} if $cost->{$key} > ($worst{$key} // -1);
            $sum{$key} += $cost->{$key};
        }
    }
    return { %worst, cpu_sum_s => $sum{cpu_s}, wall_sum_s => $sum{wall_s}, %{ $side->sizes } };
}

# ---- the table -----------------------------------------------------------------

our @CASES = (
    {
        name => 'first-sync-large', group => 'ingest',
        text => 'first sync of 2,000 messages, 103 MB, one user',
        run => sub { return first_sync(@_, 'large') },
        floor => sub { return floor_of($_[0], 'large') },
    },
    {
        name => 'first-sync-small', group => 'ingest',
        text => 'first sync of 10,000 messages of 2 KiB, one user',
        run => sub { return first_sync(@_, 'small') },
        floor => sub { return floor_of($_[0], 'small') },
    },
    (map {
        my $megabytes = $_;
        {
            name => "one-message-${megabytes}mb", group => 'ingest',
            text => "one message of 2 KiB, new connection, data file of $megabytes MB (each)",
            run => sub { return one_message(@_, $megabytes) },
        };
    } 10, 100, 400),
    {
        name => 'many-users', group => 'ingest', peer_runs => 1,
        text => 'first sync of 80 users with 20 messages each, 66 MB, over one connection',
        run => sub {
            my ($side, $corpora) = @_;
            return first_sync($side, $corpora, 'users', '--users', $corpora->{quick} ? 5 : 80);
        },
        floor => sub { return floor_of($_[0], 'users') },
    },
    {
        name => 'many-folders', group => 'ingest',
        text => 'first sync of 500 folders with 2 messages of 2 KiB each, one user',
        run => sub {
            my ($side, $corpora) = @_;
            my $cost = first_sync($side, $corpora, 'folders', '--folders', $corpora->{quick} ? 10 : 500);
            return $cost if $side->is_peer;
            return { %{$cost}, %{ compacted_size($side, users()) } };
        },
        at_most => { peer_data => 1 },
        floor => sub { return floor_of($_[0], 'folders') },
    },
    {
        name => 'flag-change-1k', group => 'ingest',
        text => 'one flag, new connection, mailbox of 1,000 messages (each)',
        run => sub { return flag_change(@_, $_[1]{quick} ? 50 : 1_000) },
    },
    {
        name => 'flag-change-1m', group => 'ingest',
        text => 'one flag, new connection, mailbox of 1,000,000 (peer: 200,000) messages (each)',
        run => sub { return flag_change(@_, $_[1]{quick} ? 1_000 : 1_000_000) },
    },
    {
        name => 'rebuild', group => 'maintenance',
        text => 'the index of a backup of 100 MB is made again',
        run => \&rebuild,
    },
    @Bench::Maintenance::CASES,
    {
        name => 'dump-message', group => 'restore',
        text => 'a message out of a backup of 400 MB (the slowest of three)',
        run => \&dump_message,
    },
);

1;
