# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Bench::Side - one of the two that are compared: our backup server, or Debian's. It runs under
# Debian's master in directories of its own, with one process that serves all connections, and
# what that process takes is read from /proc.
package Bench::Side;
use strict;
use warnings;
use CBTest::Site;
use CBTest::Util qw(as_cyrus run_cmd slurp wait_until program builddir);
use DBI;
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use JSON;
use Time::HiRes qw(sleep time);

# NAME: ours or peer (Debian's).
sub new
{
    my ($class, $name) = @_;
    my $staging = tempdir('cyrus-backups-bench-XXXXXX', DIR => '/dev/shm', CLEANUP => 1);
    chmod 0755, $staging;
    run_cmd(cmd => ['chown', 'cyrus:mail', $staging]) if $> == 0;
    return bless { name => $name, staging => $staging, bases => {} }, $class;
}

sub is_peer { return $_[0]{name} eq 'peer' }

# Run code for which the test library must know whose programs are meant.
sub with
{
    my ($self, $code) = @_;
    local $ENV{PEER} = $self->is_peer ? 'debian' : '';
    return $code->();
}

# ---- servers ---------------------------------------------------------------

# A server that has no backups, in place of the last one (unless that is a base). Keys: options, more
# of imapd.conf; clock, seconds by which its clock is ahead.
sub fresh
{
    my ($self, %o) = @_;
    $self->done;
    $self->{site} = $self->with(sub {
        CBTest::Site->new(roles => ['backup'], maxchild => 1, clock => defined $o{clock},
            options => { backup => { backup_staging_path => $self->{staging}, %{ $o{options} // {} } } });
    });
    $self->{site}{clock}->advance($o{clock}) if $o{clock};
    return;
}

# End the present server; a base stays on disk for the next time.
sub done
{
    my ($self) = @_;
    my $site = delete $self->{site} // return;
    if (grep { $_ == $site } values %{ $self->{bases} }) {
        $site->{backup}->stop;
    } else {
        $site->stop;
    }
    return;
}

# A server that has a certain backup to begin with. It is prepared at the first time, by csync-load
# with each of the lists of arguments in turn, and every later time is as it was then. What may come
# before the lists: a hash with keys of fresh, then (the clock before the last list), and after
# (arguments of ctl_backups, to be run at last), crowd (what it cost is not told).
sub base
{
    my ($self, $name, @loads) = @_;
    my %o = ref $loads[0] eq 'HASH' ? %{ shift @loads } : ();
    $self->done;
    if (my $site = $self->{bases}{$name}) {
        $self->{site} = $site;
        my $dir = "$site->{dir}/backup";
        $self->must('rm', '-rf', "$dir/part", "$dir/conf/backups.db");
        $self->must('cp', '-a', "$dir/base/part", $dir);
        $self->must('cp', '-a', "$dir/base/backups.db", "$dir/conf");
    } else {
        $self->fresh(%o);
        my $start = time;
        my @last = defined $o{then} ? pop @loads : ();
        my $load = sub { $self->load(@{$_}) for @loads };
        my $cost = $o{crowd} ? {} : $self->measure($load);
        $load->() if $o{crowd}; # after some hundred connections another process serves
        $self->{site}{clock}->advance($o{then} - $self->{site}{clock}{offset}) if @last;
        $self->load(@{$_}) for @last;
        @{$cost}{qw(prepare_s rss_kib)} = (time - $start, $cost->{rss_kib} // 0);
        $site = $self->{site};
        $self->{bases}{$name} = $site;
        $site->{base_cost} = $cost;
        $site->{backup}->stop;
        $self->output('ctl_backups', @{ $o{after} }) if $o{after};
        my $dir = "$site->{dir}/backup";
        $self->must('mkdir', "$dir/base");
        $self->must('cp', '-a', "$dir/part", "$dir/conf/backups.db", "$dir/base");
    }
    $self->with(sub { $self->{site}{backup}->start });
    return $self->{site}{base_cost};
}

# Bases take much room; forget one.
sub drop_base
{
    my ($self, $name) = @_;
    my $site = delete $self->{bases}{$name} // return;
    delete $self->{site} if $self->{site} && $self->{site} == $site;
    $site->stop;
    return;
}

sub must
{
    my ($self, @cmd) = @_;
    my $r = run_cmd(cmd => \@cmd, timeout => 600);
    die "@cmd: exit $r->{rc}: $r->{err}" if $r->{rc} != 0;
    return $r->{out};
}

# ---- work --------------------------------------------------------------------

# csync-load, told where the server is. Returns what it says of itself.
sub load
{
    my ($self, @args) = @_;
    my @options;
    while (@args && $args[0] =~ /^--/) {
        push @options, shift @args;
        push @options, shift @args if $options[-1] !~ /^--(?:empty|apart)$/;
    }
    my $r = run_cmd(timeout => 3600, cmd => [builddir() . '/tools/csync-load', @options,
        "$self->{site}{backup}{dir}/conf/backupd.sock", @args]);
    die "$self->{name}: $r->{err}" if $r->{rc} != 0;
    return decode_json($r->{out});
}

# One of the backup's own programs; returns what it cost. Dies unless it exits 0 (of the other side's
# ctl_backups also 75, which is what it says when it skips something).
sub tool
{
    my ($self, $name, @args) = @_;
    my $path = $self->is_peer ? "/usr/lib/cyrus/bin/$name" : program($name);
    my $site = $self->{site};
    my $r = run_cmd(timeout => 3600, env => $site->env, tmp => $site->{dir},
        cmd => [builddir() . '/tools/measure', 'run', $path, '-C', $site->{backup}->conf, @args]);
    my $cost = eval { decode_json($r->{out}) } // { exit => 127 };
    my $good = $self->is_peer && $name eq 'ctl_backups' ? qr/^(?:0|75)$/ : qr/^0$/;
    die "$path @args: exit $cost->{exit}: $r->{err}" if $r->{rc} != 0 || $cost->{exit} !~ $good;
    delete $cost->{exit};
    return $cost;
}

# The same, to see its output.
sub output
{
    my ($self, $name, @args) = @_;
    return $self->with(sub {
        my $r = $self->{site}{backup}->tool({ timeout => 600 },
            $self->is_peer ? $name : program($name), @args);
        die "$name @args: exit $r->{rc}: $r->{err}" if $r->{rc} != 0;
        return $r->{out};
    });
}

# How many messages the backups of users have.
sub message_count
{
    my ($self, @users) = @_;
    my %seen;
    for my $user (@users) {
        $seen{$_} = 1 for grep { /^[0-9a-f]{40}\b/ }
            map { s/^\s+//r } split /\n/, $self->output('cyr_backup', $user, 'list', 'messages');
    }
    return scalar keys %seen;
}

# ---- what it costs -----------------------------------------------------------

# What a process has taken until now: CPU in seconds, from the scheduler's own count, which is not
# rounded to ticks; peak memory; bytes made dirty in files on disks (not on tmpfs).
sub counters
{
    my ($pid) = @_;
    my $ns = 0;
    for my $task (glob "/proc/$pid/task/[0-9]*/schedstat") {
        my ($own) = (slurp($task) // '') =~ /^(\d+) / or die "$task cannot be read\n";
        $ns += $own;
    }
    my ($hwm) = (slurp("/proc/$pid/status") // '') =~ /^VmHWM:\s+(\d+) kB/m
        or die "process $pid has ended\n";
    my ($written) = (slurp("/proc/$pid/io") // '') =~ /^write_bytes: (\d+)/m;
    my ($state) = (slurp("/proc/$pid/stat") // '') =~ /\) (\S) /;
    return { cpu_s => $ns / 1e9, rss_kib => $hwm, written_bytes => $written, state => $state };
}

# The processes that serve the UNIX socket: master hands it to them as descriptor 4.
sub servers
{
    my ($self) = @_;
    my ($inode) = (slurp('/proc/net/unix') // '')
        =~ m{^\S+ \S+ \S+ 00010000 \S+ \S+ +(\d+) \Q$self->{site}{backup}{dir}\E/conf/backupd\.sock$}m
        or die "nobody listens for $self->{name}\n";
    return grep { (readlink("/proc/$_/fd/4") // '') eq "socket:[$inode]" }
        $self->{site}{backup}->children('backupd');
}

# Wait until the servers have nothing more to do; returns their counters.
sub settled
{
    my ($self) = @_;
    my $last = '';
    my $now;
    wait_until("$self->{name} to be idle", sub {
        sleep 0.05;
        $now = { map { $_ => counters($_) } $self->servers };
        my $text = join ' ', map { "$_=$now->{$_}{cpu_s}$now->{$_}{state}" } sort keys %{$now};
        my $quiet = $text eq $last && $text !~ /[RD](?: |$)/;
        $last = $text;
        return $quiet;
    }, 300);
    return $now;
}

# Run code, and say what the server took for it. One connection without commands comes before, so
# that starting the process does not count.
sub measure
{
    my ($self, $code) = @_;
    $self->load('--empty');
    my $before = $self->settled;
    my $said = $code->();
    my $after = $self->settled;
    my %cost = (cpu_s => 0, written_bytes => 0, rss_kib => 0);
    for my $pid (keys %{$before}) {
        my ($b, $a) = ($before->{$pid}, $after->{$pid});
        die "$self->{name}: the server's process has changed\n" unless $a;
        $cost{$_} += $a->{$_} - $b->{$_} for qw(cpu_s written_bytes);
        $cost{rss_kib} = $a->{rss_kib} if $a->{rss_kib} > $cost{rss_kib};
    }
    die "$self->{name}: another process served\n" if grep { !$before->{$_} } keys %{$after};
    if (ref $said eq 'HASH') {
        $cost{wall_s} = $said->{wall_s};
        $cost{sent} = $said;
    }
    return { %cost, %{ $self->sizes } };
}

# Data files and indexes on disk. An index counts with what still waits in its log. Of a crowd of
# backups, for which nobody asks, nothing is said.
sub sizes
{
    my ($self) = @_;
    my %size = (data_bytes => 0, index_bytes => 0);
    return {} if $self->{site}->all_data_files > 1000;
    for my $file ($self->{site}->all_data_files) {
        $size{data_bytes} += -s $file;
        # a copy, because looking into the file itself would leave traces beside it
        my $copy = tempdir('cyrus-backups-bench-XXXXXX', DIR => '/tmp', CLEANUP => 1);
        $self->must('cp', $_, $copy . substr $_, rindex $_, '/')
            for grep { -f } "$file.index", "$file.index-wal";
        my $db = DBI->connect('dbi:SQLite:' . (glob "$copy/*.index")[0], '', '', { RaiseError => 1 });
        my ($pages) = $db->selectrow_array('PRAGMA page_count');
        my ($bytes) = $db->selectrow_array('PRAGMA page_size');
        $size{index_bytes} += $pages * $bytes;
        $db->disconnect;
        remove_tree($copy);
    }
    return \%size;
}

# The end of everything.
sub finish
{
    my ($self) = @_;
    $self->done;
    $self->drop_base($_) for keys %{ $self->{bases} };
    return;
}

1;
