# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Bench::Maintenance - the cases of tools/bench about ctl_backups. What an entry of the table has, see
# Bench::Cases.
#
# Each side works on backups of the same mail that it has made itself: one large first sync and then 200
# messages that arrive one by one, so that the other side's file has 202 chunks. Its verify and reindex
# take longer with each of them.
package Bench::Maintenance;
use strict;
use warnings;
use CBTest::Util qw(builddir);
use Exporter 'import';
use List::Util qw(max);
our @EXPORT_OK = qw(@CASES compacted_size);

# Messages of corpus base that make a data file of so many megabytes; at least a few.
sub base_messages
{
    my ($corpora, $megabytes) = @_;
    return max(20, int($corpora->count('base') * $megabytes / 400));
}

# What csync-load is told to make such a backup. DEAD: each so-manieth message is expunged at last.
sub loads
{
    my ($corpora, $messages, $dead) = @_;
    my $enough = $messages > $corpora->count('base') ? 'giga' : 'base';
    my ($base, $rolling) = map { $corpora->path($_) } $enough, 'rolling';
    my $n = $corpora->count('rolling');
    my @all = ("$base:$messages", $rolling);
    return (["$base:$messages"], ['--singly', $n, @all], $dead ? ['--expunge', $dead, @all] : ());
}

# A backup of MEGABYTES. %o: dead, and options of imapd.conf.
sub kept
{
    my ($side, $corpora, $megabytes, %o) = @_;
    my $n = base_messages($corpora, $megabytes);
    my $dead = delete $o{dead} // 0;
    my $after = delete $o{after};
    $side->base(join(' ', 'kept', $n, $dead, $after ? 'after' : (), %o), { after => $after, options => \%o },
        loads($corpora, $n, $dead));
    $side->{site}{backup}->stop;
    return $n + $corpora->count('rolling');
}

# How one command of ctl_backups does on all that is there.
sub ctl
{
    my ($side, @args) = @_;
    my $cost = $side->tool('ctl_backups', @args);
    return { %{$cost}, %{ $side->sizes } };
}

# The line of result for a single backup, from a run that is not measured.
sub said
{
    my ($side, @args) = @_;
    my ($word) = $side->output('ctl_backups', @args) =~ /^\w+ \S+: (.*)$/m;
    return $word // '';
}

sub expect
{
    my ($side, $what, $got, $want) = @_;
    die "$side->{name}: $what: $got instead of $want\n" if $got ne $want;
    return;
}

sub verify
{
    my ($side, $corpora, $megabytes) = @_;
    kept($side, $corpora, $megabytes);
    return ctl($side, 'verify', 'bench');
}

sub reindex
{
    my ($side, $corpora) = @_;
    my $n = kept($side, $corpora, 100);
    my ($data) = $side->{site}->all_data_files;
    unlink glob "$data.index*";
    my $cost = ctl($side, 'reindex', 'bench');
    expect($side, 'messages after reindex', $side->message_count('bench'), $n);
    return $cost;
}

# Everything is as compaction leaves it, and there is nothing new. Ours sees that, and must say so. The
# other side skips, too, unless it is told to work (what it then costs has a name of its own); this is
# about what keeping a backup without dead content compact takes, and it has no other way but -F. The
# second time ours remembers (again_cpu_s).
sub compact_nothing
{
    my ($side, $corpora) = @_;
    kept($side, $corpora, 100, after => ['-F', 'compact', 'bench']);
    my $cost = ctl($side, 'compact', 'bench');
    return { %{ ctl($side, '-F', 'compact', 'bench') }, skipped_cpu_s => $cost->{cpu_s} } if $side->is_peer;
    expect($side, 'compact', said($side, 'compact', 'bench') =~ s/ .*//r, 'skipped');
    return { %{$cost}, again_cpu_s => ctl($side, 'compact', 'bench')->{cpu_s} };
}

# What the figures of compact_nothing are.
sub about_nothing
{
    my ($r) = @_;
    my ($ours, $peer) = @{$r}{qw(ours peer)};
    my $again = sprintf 'again, the next night: %.5f s', $ours->{again_cpu_s};
    return $again unless $peer;
    return ($again, sprintf 'peer: ctl_backups -F compact, the baseline; without -F it skips, too (for'
        . ' information): %.5f s, of which ours is %.2f', $peer->{skipped_cpu_s},
        $ours->{cpu_s} / $peer->{skipped_cpu_s});
}

# A tenth of the messages, here and there in all chunks, has been expunged, and nobody wants them.
sub compact_all
{
    my ($side, $corpora, $megabytes) = @_;
    my $n = kept($side, $corpora, $megabytes, dead => 10, backup_retention => '1s');
    sleep 2;
    my $cost = ctl($side, '-F', 'compact', 'bench');
    expect($side, 'messages after compact', $side->message_count('bench'), $n - int($n / 10));
    return $cost;
}

# Many backups, of users with one message of the corpus each.
sub list
{
    my ($corpus, $side, $corpora) = @_;
    my $n = $corpora->{quick} ? 20 : 10_000;
    my $path = $corpora->path($corpus);
    $side->base("crowd $corpus", { crowd => 1 }, ['--users', $n, '--apart', "$path:$n"]);
    $side->{site}{backup}->stop;
    my $lines = () = $side->output('ctl_backups', 'list') =~ /^.*bench\d+.*$/mg;
    expect($side, 'lines of list', $lines, $n);
    # ours takes some milliseconds, which vary by half: the median of five
    my @costs = sort { $a->{cpu_s} <=> $b->{cpu_s} } map { $side->tool('ctl_backups', 'list') } 1 .. 5;
    return { %{ $costs[2] }, %{ $side->sizes }, backups => $n };
}

# Eight backups, verified by one process after the other, and by two at a time.
sub jobs
{
    my ($side, $corpora) = @_;
    my $n = base_messages($corpora, 200);
    my $base = $corpora->path('base');
    $side->base("jobs $n", {}, ['--users', 8, '--apart', "$base:$n"]);
    $side->{site}{backup}->stop;
    my $one = $side->tool('ctl_backups', '-j', 1, 'verify', '-A');
    my $two = $side->tool('ctl_backups', '-j', 2, 'verify', '-A');
    return { %{$two}, %{ $side->sizes }, jobs1_cpu_s => $one->{cpu_s}, jobs1_wall_s => $one->{wall_s},
        cpu_ratio => $two->{cpu_s} / $one->{cpu_s}, wall_ratio => $two->{wall_s} / $one->{wall_s} };
}

# The same with 1 GB as with 10 MB: how often it costs as much.
sub scaled
{
    my ($run, $side, $corpora) = @_;
    my $small = $run->($side, $corpora, 10);
    $side->done;
    my $large = $run->($side, $corpora, $corpora->{quick} ? 20 : 1000);
    return { %{$large}, small_cpu_s => $small->{cpu_s}, small_data_bytes => $small->{data_bytes},
        cpu_ratio => $large->{cpu_s} / $small->{cpu_s} };
}

# A mailbox that was filled ten days ago, and has changed since, as it was a week ago.
sub as_of
{
    my ($side, $corpora) = @_;
    my $n = $corpora->{quick} ? 500 : 100_000;
    my $tiny = $corpora->path('tiny');
    $side->base("as of $n", { clock => -10 * 86_400, then => 0 }, ["$tiny:$n"],
        ['--expunge', 10, "$tiny:$n"]);
    $side->{site}{backup}->stop;
    my @list = ('bench', 'show', 'mailboxes', 'user.bench');
    my $now = $side->tool('cyr_backup', @list);
    my $then = $side->tool('cyr_backup', '--as-of', '-7d', @list);
    my ($was, $is) = map { $side->output('cyr_backup', @{$_}, @list) } ['--as-of', '-7d'], [];
    my $lines = () = $was =~ /^/mg;
    die "ours: a week ago it was as it is now, or there are not $n messages\n" if $was eq $is || $lines < $n;
    return { %{$then}, %{ $side->sizes }, now_cpu_s => $now->{cpu_s}, now_wall_s => $now->{wall_s},
        cpu_ratio => $then->{cpu_s} / $now->{cpu_s} };
}

# What our data files are when the servers's are compacted, all of them; the server is stopped.
sub compacted_size
{
    my ($side, @users) = @_;
    $side->{site}{backup}->stop;
    my $cost = $side->tool('ctl_backups', '-F', 'compact', @users);
    return { compacted_data_bytes => $side->sizes->{data_bytes}, compact_cpu_s => $cost->{cpu_s} };
}

our @CASES = (
    {
        name => 'verify', group => 'maintenance', at_most => { peer_cpu => 1 / 15, rss_kib => 65_536 },
        text => 'verify a backup of 100 MB, 200 of its messages came one by one',
        run => sub { return verify(@_, 100) },
    },
    {
        name => 'reindex', group => 'maintenance', at_most => { peer_cpu => 1 / 12, rss_kib => 65_536 },
        text => 'its index is made again',
        run => \&reindex,
    },
    {
        name => 'compact-nothing-dead', group => 'maintenance',
        at_most => { peer_cpu => 1 / 50, rss_kib => 65_536 },
        text => 'compact it, when it has just been compacted (peer: -F compact)',
        run => \&compact_nothing, note => \&about_nothing,
    },
    {
        name => 'compact-all', group => 'maintenance',
        at_most => { peer_cpu => 1 / 4, rss_kib => 65_536 },
        text => 'compact it, when each tenth message is to go',
        run => sub { return compact_all(@_, 100) },
    },
    {
        name => 'list-10000', group => 'maintenance',
        at_most => { peer_cpu => 1 / 100, rss_kib => 65_536 },
        text => 'list 10,000 backups with one message each, 51 KB on average',
        run => sub { return list('base', @_) },
    },
    {
        # what is left of the other side's cost if it has hardly anything to read
        name => 'list-10000-tiny', group => 'maintenance', at_most => { rss_kib => 65_536 },
        text => 'list 10,000 backups with one message of 300 bytes each',
        run => sub { return list('tiny', @_) },
    },
    {
        name => 'jobs', group => 'maintenance', peer => 0,
        at_most => { cpu_ratio => 1.1, rss_kib => 65_536 },
        text => 'verify eight backups, 200 MB, with -j 2; cpu_ratio: to -j 1',
        run => \&jobs,
    },
    {
        name => 'verify-1gb', group => 'maintenance', peer => 0,
        at_most => { cpu_ratio => 120, rss_kib => 65_536 },
        text => 'verify a backup of 1 GB; cpu_ratio: to one of 10 MB',
        run => sub { return scaled(\&verify, @_) },
    },
    {
        name => 'compact-1gb', group => 'maintenance', peer => 0,
        at_most => { cpu_ratio => 120, rss_kib => 65_536 },
        text => 'compact a backup of 1 GB, each tenth message goes; cpu_ratio: to one of 10 MB',
        run => sub { return scaled(\&compact_all, @_) },
    },
    {
        name => 'as-of-100000', group => 'maintenance', peer => 0, at_most => { cpu_ratio => 3 },
        text => 'show a mailbox of 100,000 messages as of last week; cpu_ratio: to as of now',
        run => \&as_of,
    },
);

1;
