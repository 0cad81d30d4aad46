#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# The command line of ctl_backups, ours and Debian's: the same arguments are accepted or refused by both
# (64: usage; 78: the arguments are good, but there is no such configuration file), what is
# refused leaves stdout empty, and what is new in ours is refused by Debian's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Util qw(run_cmd program);
use Test::More;

my $OURS = program('ctl_backups');
my $DEBIAN = '/usr/lib/cyrus/bin/ctl_backups';
my $NOWHERE = '/nonexistent/imapd.conf';
delete @ENV{qw(CYRUS_USER CYRUS_GROUP CYRUS_PREFIX)};

sub outcome
{
    my ($program, @args) = @_;
    my $r = run_cmd(cmd => [$program, @args]);
    my $what = $r->{rc} == 64 && $r->{err} =~ /usage/i ? 'usage'
        : $r->{rc} == 78 && $r->{err} =~ /^fatal error: can't open configuration file \Q$NOWHERE\E: No such file or directory$/m
        ? 'good' : "exit $r->{rc}: $r->{err}";
    return $r->{out} eq '' ? $what : "$what, and on stdout: $r->{out}";
}

# Words behind -C FILE, in one string; what both make of them.
my @table = (
    [usage => ''],
    [usage => 'nosuch'],
    [usage => '-h'],
    [usage => 'list -h'],
    [usage => '-Q list'],
    [usage => 'list --nosuch'],
    [usage => '-A'],
    # modes
    (map { [good => "$_ alice"], [good => "$_ alice bob alice"], [good => "alice $_" =~ s/(\w+) (\w+)/$2 $1/r],
        [good => "$_ -u alice"], [good => "-f $_ /x"], [good => "-m $_ user.x"], [good => "$_ -A"],
        [good => "-D $_ dom"], [good => "$_ pre -P"], [usage => "$_ -A -u"], [usage => "-D -P $_ x"],
        [usage => "-f -m $_ x"], [usage => "$_ -A alice"], [usage => "-A $_ alice"], [good => "$_ -u"],
        [good => $_], [good => "-v $_"], [good => "-vvv $_ x"], [good => "-j $_"], [good => "-FSVw $_ x"],
        [usage => "-j -v $_"], [usage => "-v $_ x -j"], [good => "-c $_"], [good => "-t 5 $_"],
        [usage => "-p $_ x"], [usage => "$_ -s x"], [usage => "$_ -x true x"],
        [good => "-- $_ x"], [good => "$_ -- -x"] } qw(list stat compact verify reindex)),
    [usage => 'compact -p x'],
    [usage => 'verify -x true x'],
    # list -t
    [good => 'list -t'],
    [usage => 'list -t alice'],
    [good => '-t 24 list'],
    [good => 'list -t24 -A'],
    [good => 'list -t 24 alice bob'],
    [usage => 'list -t 0'],
    [usage => 'list -t x'],
    # lock
    [good => 'lock'],
    [good => 'lock alice'],
    [good => 'lock -p alice'],
    [good => 'lock -s alice'],
    [good => 'lock -x true alice'],
    [good => 'lock -c -f /x'],
    [good => 'lock -m user.alice'],
    [good => 'lock -w alice'],
    [good => 'lock -j alice'],
    [usage => 'lock alice bob'],
    [usage => 'lock -A'],
    [usage => 'lock -D dom'],
    [usage => 'lock -P a'],
    [usage => 'lock -p -s alice'],
    [usage => 'lock -s -x true alice'],
    [usage => 'lock -x true -p alice'],
    [usage => 'lock -p -p alice'],
    [usage => 'lock alice -x'],
    [usage => '-j -v lock alice'],
);
for my $row (@table) {
    my ($expected, $words) = @{$row};
    my @args = ('-C', $NOWHERE, split ' ', $words);
    is(outcome($OURS, @args), $expected, "ours: $words");
    is(outcome($DEBIAN, @args), $expected, "Debian's: $words");
}

# What is wrong is the last thing that ours says.
for my $row (
    ['', 'the command is missing'],
    ['nosuch', 'nosuch: there is no such command'],
    ['-Q list', '-Q: there is no such option'],
    ['list --nosuch', '--nosuch: there is no such option'],
    ['list --utc=3', '--utc=3: it takes no value'],
    ['list --jobs', '--jobs: a value is missing'],
    ['list -t 0', '0: this value is not possible'],
    ['-j 0 list', '0: this value is not possible'],
    ['verify --subset=x', '--subset=x: this value is not possible'],
    ['list --json=tree', '--json=tree: only "array" is known'],
    ['list -A alice', '-A is all of them: no names can be given with it'],
    ['-f -m list x', 'only one of -A, -D, -P, -f, -m and -u can be given'],
    ['lock -p -s alice', 'only one of -p, -s and -x can be given'],
    ['-j -v list', '-j and -v cannot be given together'],
    ['stat --dry-run alice', 'stat does not know one of these options'],
    ['lock -D dom', 'lock works on those that are named: not with -D'],
    ['lock alice bob', 'lock works on one backup'],
    ['reconstruct alice', 'reconstruct takes 0 words'],
    ['reconstruct -A', 'reconstruct does not know -A'],
    )
{
    my ($words, $reason) = @{$row};
    my $err = run_cmd(cmd => [$OURS, '-C', $NOWHERE, split ' ', $words])->{err};
    is([split /\n/, $err]->[-1], "ctl_backups: $reason", "why: $words");
}

# Ours only.
my @new = (
    ['-j 2 list', 'good'], ['list --jobs=2', 'good'], ['list --jobs=0', 'usage'],
    ['--json list', 'good'], ['--json=array list', 'good'], ['--json=tree list', 'usage'],
    ['list --stale', 'good'], ['list --stale=12', 'good'], ['list --stale alice', 'good'],
    ['list --fail-if-any --stale', 'good'], ['stat --fail-if-any', 'usage'],
    ['list --utc --iso --sort --legacy-status', 'good'],
    ['list --dry-run', 'usage'], ['stat --dry-run alice', 'usage'], ['lock --dry-run alice', 'usage'],
    ['compact --dry-run -A', 'good'], ['verify --subset=1/7 -A', 'good'], ['compact -j 2 -A', 'usage'],
    ['-j 2 compact -A', 'good'], ['--jobs=2 verify -A', 'good'], ['compact --expire-previous -A', 'good'],
    ['stat --subset=1/7', 'usage'], ['stat --expire-previous', 'usage'], ['verify --to=x a', 'usage'],
    ['--all list', 'good'], ['--domains stat dom', 'good'], ['stat --prefixes a', 'good'],
    ['--filenames stat /x', 'good'], ['stat --mailboxes user.x', 'good'], ['--userids stat x', 'good'],
    ['--verbose --force --stop-on-error --no-verify --wait-for-locks stat x', 'good'],
    ['lock --create --pause alice', 'good'], ['lock --sqlite3 alice', 'good'],
    ['lock --execute=true alice', 'good'],
);
for my $row (@new) {
    my ($words, $expected) = @{$row};
    my @args = ('-C', $NOWHERE, split ' ', $words);
    is(outcome($OURS, @args), $expected, "ours: $words");
    is(outcome($DEBIAN, @args), 'usage', "not Debian's: $words");
}

done_testing;
