# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Bench::Corpus - the mail that the cases are about. Each corpus is made when it is first needed.
package Bench::Corpus;
use strict;
use warnings;
use CBTest::Util qw(run_cmd builddir);

# name => options of mkcorpus; `messages' is [in full, with --quick].
my %corpora = (
    large => { profile => 'mixed', messages => [2_000, 40], mean => 51_459, seed => 1 },
    small => { profile => 'equal', messages => [10_000, 200], mean => 2_048, seed => 2 },
    users => { profile => 'mixed', messages => [1_600, 20], mean => 41_250, seed => 3 },
    folders => { profile => 'equal', messages => [1_000, 20], mean => 2_048, seed => 4 },
    base => { profile => 'mixed', messages => [14_000, 40], mean => 51_459, seed => 5 },
    rolling => { profile => 'equal', messages => [200, 6], mean => 2_048, seed => 8 },
    giga => { profile => 'mixed', messages => [35_000, 40], mean => 51_459, seed => 9 },
    singles => { profile => 'equal', messages => [40, 6], mean => 2_048, seed => 6 },
    tiny => { profile => 'tiny', messages => [1_000_000, 1_000], mean => 100, seed => 7 },
);

# DIR: where the files go; quick: small ones.
sub new
{
    my ($class, %o) = @_;
    return bless {%o}, $class;
}

# Number of messages.
sub count
{
    my ($self, $name) = @_;
    return $corpora{$name}{messages}[$self->{quick} ? 1 : 0];
}

# Path of the file.
sub path
{
    my ($self, $name) = @_;
    my $file = "$self->{dir}/$name";
    return $file if $self->{made}{$name};
    my $o = $corpora{$name} or die "no corpus $name\n";
    my $r = run_cmd(timeout => 600, cmd => [builddir() . '/tools/mkcorpus', '--profile', $o->{profile},
        '--messages', $self->count($name), '--mean', $o->{mean}, '--seed', $o->{seed}, $file]);
    die "mkcorpus: $r->{err}\n" if $r->{rc} != 0;
    $self->{made}{$name} = 1;
    return $file;
}

# GUIDs of all messages, in order.
sub guids
{
    my ($self, $name) = @_;
    return map { $_->[0] } @{ $self->headers($name) };
}

sub bytes
{
    my ($self, $name) = @_;
    my $sum = 0;
    $sum += $_->[1] for @{ $self->headers($name) };
    return $sum;
}

sub headers
{
    my ($self, $name) = @_;
    return $self->{headers}{$name} //= do {
        my @all;
        open my $fh, '<:raw', $self->path($name) or die "$name: $!\n";
        while (defined(my $line = readline $fh)) {
            my ($guid, $size) = $line =~ /^([0-9a-f]{40}) (\d+)\n\z/ or die "$name: not a corpus\n";
            push @all, [$guid, $size];
            seek $fh, $size, 1 or die "$name: $!\n";
        }
        \@all;
    };
}

1;
