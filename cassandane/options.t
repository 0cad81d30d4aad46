#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# The options of ctl_backups and cyr_backup: what the programs accept, what --help prints and what the
# manuals describe is the same, each letter and each long name; and each option, with each command that
# the manual's synopsis shows it with, is used in a test that runs the program on backups. (Tests that
# only look at the command line do not count.)
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Util qw(program run_cmd slurp);
use Test::More;

my $NOWHERE = '/nonexistent/imapd.conf';
delete @ENV{qw(CYRUS_USER CYRUS_GROUP CYRUS_PREFIX)};
my $top = "$FindBin::Bin/..";
my %source = (ctl_backups => 'ctl_backups_options.c', cyr_backup => 'cyr_backup.c');
# A command line that is complete, and what some options need behind them.
my %complete = (ctl_backups => ['stat'], cyr_backup => [qw(alice list messages)]);
my %value = (C => $NOWHERE, t => 5, x => 'true', execute => 'true', jobs => 2, subset => '1/2', to => 'x',
    'as-of' => 'now', since => 'now', until => 'now');
# With these it has to be another one.
my %command = (
    (map { $_ => ['lock', 'alice'] } qw(p s x c pause sqlite3 execute create)),
    (map { $_ => ['compact', 'alice'] } qw(dry-run expire-previous)),
    (map { $_ => ['list'] } qw(deleted fail-if-any stale t)),
    'to' => ['move', 'alice'], subset => ['verify', 'alice'], expired => ['delete'], now => ['delete', 'alice'],
    since => [qw(alice log)], until => [qw(alice log)],
);

# 1 if the program takes it: then it finds that there is no configuration.
sub accepts
{
    my ($name, $option) = @_;
    my $value = $value{$option};
    my @words = length $option == 1 ? ("-$option", $value // ()) : ("--$option" . (defined $value ? "=$value" : ''));
    my $r = run_cmd(cmd => [program($name), '-C', $NOWHERE, @{ $command{$option} // $complete{$name} }, @words]);
    return $r->{rc} == 78 || (grep { $_ eq $option } qw(h help)) && $r->{rc} == 64;
}

sub sorted { my %seen; return join ' ', sort grep { !$seen{$_}++ } @_ }

# Words behind a Fl of the manual: "Fl F , Fl -force", "Fl p | s | x Ar command".
sub flags
{
    my ($text) = @_;
    my @found;
    while ($text =~ /\bFl ((?:-?[A-Za-z0-9][\w-]*)(?: \| [A-Za-z]\b)*)/g) {
        push @found, map { s/^-//r } split / \| /, $1;
    }
    return @found;
}

my (%manual, %synopsis, %general);
for my $name (sort keys %source) {
    my $text = slurp("$top/man/$name.8");
    my ($synopsis) = $text =~ /^\.Sh SYNOPSIS\n(.*?)^\.Sh /ms;
    $manual{$name} = [flags($text)];
    $synopsis{$name} = $synopsis;
    # The letters are those that are there; the long names are those of the source and of the manual.
    my @letters = grep { accepts($name, $_) } 'a' .. 'z', 'A' .. 'Z', 0 .. 9;
    my @long = slurp("$top/backup/$source{$name}") =~ /^ *\{"([a-z][\w-]+)", (?:no|required|optional)_argument/mg;
    push @long, slurp("$top/backup/$source{$name}") =~ /\}, *\{"([a-z][\w-]+)", (?:no|required|optional)_argument/g;
    cmp_ok(scalar @long, '>', 5, "$name: long options");
    is(sorted(@letters, @long), sorted(@{ $manual{$name} }), "$name: the manual describes what the program accepts");
    my $help = run_cmd(cmd => [program($name), '--help'])->{err};
    is(sorted($help =~ /(?<![\w-])--?([A-Za-z][\w-]*)/g), sorted(@letters, @long), "$name: so does --help");
    is(join(' ', grep { !accepts($name, $_) } @{ $manual{$name} }), '', "$name: all of the manual is accepted");
}

# ---- each is used in a test --------------------------------------------------------------------

# Statements of all tests that run the programs, with the name of the file.
my @statement;
for my $path (glob("$FindBin::Bin/*.t"), glob("$FindBin::Bin/lib/CBTest/*.pm")) {
    my ($file) = $path =~ m{([^/]+)$};
    next if $file =~ /^(?:ctl_backups-args|options)\.t$/;
    my $text = slurp($path);
    push @statement, map { [$file, $_] } split /;\n/, $text if $text =~ /ctl_backups|cyr_backup/;
}

sub used
{
    my ($option, @words) = @_;
    my $long = length $option > 1;
    # "-F", "-vF", "-t24"; but not within another word
    my $flag = $long ? qr/(?<![\w-])--\Q$option\E(?![\w-])/ : qr/(?<![\w-])-[A-Za-z]*\Q$option\E\d*(?![\w-])/;
    for my $s (@statement) {
        return $s->[0] if $s->[1] =~ $flag && !grep { $s->[1] !~ /(?<![\w.-])\Q$_\E(?![\w-])/ } @words;
    }
    return;
}

my (@unused, %by);
for my $name (sort keys %source) {
    my %shown;
    for my $form (split /^\.Nm\n/m, $synopsis{$name}) {
        my @flags = flags($form);
        for my $verb ($form =~ /^\.(?:Op )?Cm ([a-z]+(?: [a-z]+)?)/mg) {
            $shown{$_}++, push @{ $by{$name}{$verb} }, $_ for @flags;
        }
    }
    for my $verb (sort keys %{ $by{$name} }) {
        for my $option (@{ $by{$name}{$verb} }) {
            my $file = used($option, split ' ', $verb);
            note("$name $verb $option: ", $file // 'nowhere');
            push @unused, "$name $verb $option" unless $file;
        }
    }
    for my $option (split ' ', sorted(@{ $manual{$name} })) {
        next if $option =~ /^(?:h|help)$/; # in tests of the command line
        push @unused, "$name $option" unless used($option);
    }
}
# The synopsis does not say it: the past of everything but chunks, and what happened when.
my @past = ((map { ("list $_", "json $_") } qw(mailboxes messages all)), 'show mailboxes', 'show messages', 'dump mailbox',
    'dump message', 'json headers', 'log', 'json log');
my @asked = ((map { [$_, 'as-of'] } @past), map { (["log", $_], ["json log", $_]) } qw(since until));
for my $row (@asked) {
    my $file = used($row->[1], split ' ', $row->[0]);
    note("cyr_backup $row->[0] $row->[1]: ", $file // 'nowhere');
    push @unused, "cyr_backup $row->[0] $row->[1]" unless $file;
}
is(join("\n", @unused), '', 'each option is used in a test, with each command that has it');
done_testing;
