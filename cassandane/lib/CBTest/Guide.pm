# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Guide - commands of the administrators' guide, taken from the text and run.
# A block that begins with ```sh is run; others only show something.
package CBTest::Guide;
use strict;
use warnings;
use CBTest::Scenarios qw(no_differences);
use CBTest::Util qw(as_cyrus run_cmd slurp spew);
use FindBin;
use Test::More;

# Keys: dir; env; chapters: numbers; paths: path of the guide => path here; programs: name => command
# line; said: section => regex of the lines on stderr that the guide speaks of.
sub new
{
    my ($class, %o) = @_;
    my $self = bless { %o, block => {}, ran => {} }, $class;
    my $guide = slurp("$FindBin::Bin/../doc/guide.md");
    for my $chapter (@{ $o{chapters} }) {
        my ($text) = $guide =~ /^(## \Q$chapter\E\. .*?)(?=^## |\z)/ms;
        ok($text, "the guide has chapter $chapter") or BAIL_OUT('guide.md');
        for my $section (split /^(?=### )/m, $text) {
            my ($number) = $section =~ /^### ([\d.]+)/ ? $1 : $chapter;
            push @{ $self->{block}{$number} }, $1 while $section =~ /^```sh\n(.*?)^```$/gms;
        }
    }
    mkdir "$self->{dir}/bin" or die "mkdir: $!";
    for my $name (sort keys %{ $o{programs} }) {
        spew("$self->{dir}/bin/$name", "#!/bin/sh\nexec $o{programs}{$name} \"\$@\"\n");
        chmod 0755, "$self->{dir}/bin/$name" or die "chmod: $!";
    }
    return $self;
}

# The commands of a section, or some blocks of it (from 0), as the user cyrus; what they print.
sub follow
{
    my ($self, $section, @which) = @_;
    my @blocks = @{ $self->{block}{$section} // [] };
    ok(@blocks, "$section has commands");
    @which = 0 .. $#blocks unless @which;
    my $out = '';
    for my $n (@which) {
        my $mapped = $blocks[$n];
        for my $path (sort { length $b <=> length $a } keys %{ $self->{paths} }) {
            $mapped =~ s/\Q$path\E(?![\w-])/$self->{paths}{$path}/g;
        }
        my $r = run_cmd(cmd => [as_cyrus('/bin/bash', '-euo', 'pipefail', '-c', $mapped)], timeout => 100,
            env => { %{ $self->{env} }, PATH => "$self->{dir}/bin:$ENV{PATH}", LC_ALL => 'C' },
            tmp => $self->{dir});
        is($r->{rc}, 0, "$section works") or diag("$mapped\n$r->{out}$r->{err}");
        my $said = $self->{said}{$section};
        my @complaints = grep { !$said || !/$said/ } grep { length } split /\n/, $r->{err};
        no_differences("$section has no complaint", @complaints);
        $out .= $r->{out};
        $self->{ran}{"$section $n"} = 1;
    }
    return $out;
}

sub all_were_run
{
    my ($self) = @_;
    my $block = $self->{block};
    my @all = map { my $s = $_; map { "$s $_" } 0 .. $#{ $block->{$s} } } keys %{$block};
    is(join(', ', sort keys %{ $self->{ran} }), join(', ', sort @all), 'no commands were left out');
    return;
}

1;
