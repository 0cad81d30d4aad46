# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Dlist - read the data syntax of csync into Perl values:
# NIL -> undef, text -> string, (...) -> array, %(...) -> hash, %{...} -> { FILE => [...] }.
# Independent of the C reader on purpose: it judges it.
package CBTest::Dlist;
use strict;
use warnings;
use Exporter 'import';
our @EXPORT_OK = qw(parse_dlist);
our $literals = 0;    # string literals read so far

# Parse one value at pos() of the string behind the reference.
sub parse_value
{
    my ($s) = @_;
    # first what it can be: an expression that fails may look through all of the rest of a long text
    my $start = substr ${$s}, pos ${$s} // 0, 2;
    if ($start eq '%(' && ${$s} =~ /\G%\(/gc) {
        my %kv;
        until (${$s} =~ /\G *\)/gc) {
            ${$s} =~ /\G */gc;
            my $key = parse_value($s) // die "NIL as a key\n";
            ${$s} =~ /\G +/gc or die at($s, 'blank expected');
            $kv{$key} = parse_value($s);
        }
        return \%kv;
    }
    if ($start =~ /^\(/ && ${$s} =~ /\G\(/gc) {
        my @list;
        until (${$s} =~ /\G *\)/gc) {
            ${$s} =~ /\G */gc;
            push @list, parse_value($s);
        }
        return \@list;
    }
    if ($start eq '%{' && ${$s} =~ /\G%\{(\S+) ([0-9a-f]+) (\d+)\}\r?\n/gc) {
        my ($partition, $guid, $size) = ($1, $2, $3);
        return { FILE => [$partition, $guid, take($s, $size)] };
    }
    if ($start =~ /^\{/ && ${$s} =~ /\G\{(\d+)\+?\}\r?\n/gc) {
        $literals++;
        return take($s, $1);
    }
    return $1 if $start =~ /^"/ && ${$s} =~ /\G"([^"]*)"/gc;
    if (${$s} =~ /\G([^ ()"\r\n{%][^ ()"\r\n]*)/gc) {
        return $1 eq 'NIL' ? undef : $1;
    }
    die at($s, 'value expected');
}

sub at
{
    my ($s, $what) = @_;
    my $pos = pos(${$s}) // 0;
    return "dlist: $what at byte $pos: " . substr(${$s}, $pos, 60) . "\n";
}

sub take
{
    my ($s, $n) = @_;
    my $pos = pos ${$s};
    die at($s, 'literal cut short') if length(${$s}) - $pos < $n;
    pos(${$s}) = $pos + $n;
    return substr ${$s}, $pos, $n;
}

# "NAME value" -> (name, value)
sub parse_dlist
{
    my ($text) = @_;
    $text =~ /\G(\S+) /gc or die "dlist: no name\n";
    my $name = $1;
    my $value = parse_value(\$text);
    $text =~ /\G *\r?\n?\z/gc or die at(\$text, 'more than one value');
    return ($name, $value);
}

1;
