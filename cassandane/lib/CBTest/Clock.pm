# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Clock - makes time pass on one host of a site: its processes run with libfaketime,
# which adds to the real time what a file says, and reads that file at every question. So the
# clock goes on by itself, and is put forward (or back) at any moment while servers run.
# Intervals, which programs measure with the monotonic clock, stay real, and so do the times of
# files: those of old files would else move with the clock.
#
# Site->new(clock => 1) gives the backup host such a clock: $site->{clock}.
#
# The library keeps a semaphore and a piece of memory in /dev/shm, made by the first process and
# removed when that one ends, whoever still needs them. A killed process leaves them there, and
# a later one of the same pid may stumble over them. So here they are made by a process that is
# then killed, get names of this site, and are removed with it.
package CBTest::Clock;
use strict;
use warnings;
use CBTest::Util qw(as_cyrus run_cmd spew clock_files);
use Time::HiRes ();

# DIR is the site's.
sub new
{
    my ($class, $dir) = @_;
    my ($library) = glob '/usr/lib/*/faketime/libfaketime.so.1';
    die "libfaketime is missing: the package is faketime\n" unless $library;
    my $self = bless { file => "$dir/clock", dir => $dir, offset => 0 }, $class;
    $self->{env} = {
        LD_PRELOAD => $library,
        FAKETIME_TIMESTAMP_FILE => $self->{file},
        FAKETIME_NO_CACHE => 1,
        FAKETIME_DONT_FAKE_MONOTONIC => 1,
        NO_FAKE_STAT => 1,
        # a library in front of that of the sanitizers is no harm here
        ASAN_OPTIONS => join(':', grep { defined } $ENV{ASAN_OPTIONS}, 'verify_asan_link_order=0'),
    };
    $self->write;
    $self->share;
    return $self;
}

sub share
{
    my ($self) = @_;
    my $r = run_cmd(cmd => [as_cyrus('/bin/sh', '-c', 'echo "$FAKETIME_SHARED"; kill -9 $$')],
        env => $self->{env}, tmp => $self->{dir});
    my ($pid) = $r->{out} =~ m{^/faketime_sem_(\d+) /faketime_shm_\g1$}
        or die "libfaketime: $r->{out}$r->{err}\n";
    my ($semaphore, $memory) = clock_files($self->{dir});
    rename "/dev/shm/sem.faketime_sem_$pid", $semaphore or die "$semaphore: $!\n";
    rename "/dev/shm/faketime_shm_$pid", $memory or die "$memory: $!\n";
    s{^/dev/shm(/)(?:sem\.)?}{$1} for $semaphore, $memory;
    $self->{env}{FAKETIME_SHARED} = "$semaphore $memory";
    return;
}

# What a process needs in its environment.
sub env { return $_[0]{env} }

# The time there, as time() says it.
sub now { return CORE::time() + $_[0]{offset} }

# The same with fractions.
sub exact { return Time::HiRes::time() + $_[0]{offset} }

# Put it forward by so many seconds; back if negative. Who asks afterwards sees it.
sub advance
{
    my ($self, $seconds) = @_;
    $self->{offset} += $seconds;
    $self->write;
    return $self->now;
}

# In one step, as somebody may be reading.
sub write
{
    my ($self) = @_;
    spew("$self->{file}.new", sprintf "%+d\n", $self->{offset});
    chmod 0644, "$self->{file}.new";
    rename "$self->{file}.new", $self->{file} or die "$self->{file}: $!\n";
    return;
}

1;
