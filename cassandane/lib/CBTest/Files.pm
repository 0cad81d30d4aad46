# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Files - all files below some directories, and some files, as they were at a moment; they can be
# made so again, thousands of times, without another process. Sockets and such are left alone.
package CBTest::Files;
use strict;
use warnings;
use CBTest::Util qw(slurp spew);

# Directories and files; those that are missing now will be removed by restore().
sub new
{
    my ($class, @paths) = @_;
    my $self = bless { paths => [@paths], kept => {} }, $class;
    for my $path ($self->all) {
        my @st = stat $path;
        $self->{kept}{$path} = { bytes => slurp($path), mode => $st[2] & 07777, uid => $st[4], gid => $st[5] };
    }
    return $self;
}

# Paths of all that is there now.
sub all
{
    my ($self) = @_;
    my @found;
    my @todo = @{ $self->{paths} };
    while (defined(my $path = shift @todo)) {
        if (-d $path && !-l $path) {
            opendir my $dh, $path or die "$path: $!\n";
            push @todo, map { "$path/$_" } grep { !/^\.\.?$/ } readdir $dh;
        } elsif (-f $path || -l $path) {
            push @found, $path;
        }
    }
    return sort @found;
}

sub restore
{
    my ($self) = @_;
    unlink $self->all;
    for my $path (sort keys %{ $self->{kept} }) {
        my $f = $self->{kept}{$path};
        spew($path, $f->{bytes});
        chown $f->{uid}, $f->{gid}, $path or die "$path: $!\n" if $> == 0;
        chmod $f->{mode}, $path or die "$path: $!\n";
    }
    return;
}

1;
