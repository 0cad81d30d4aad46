#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# All at once, on the same backups: clients that write, compact, verify, reindex, move, delete and
# undelete, rename, and readers. In the end every message that was acknowledged is in a data file, as zcat
# shows it; in that of its user, unless that is what was deleted or renamed; and all is in order.
# Some seconds; STRESS_SECONDS is another time, and CYRUS_BACKUPS_LONG=1 makes it two minutes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare;
use CBTest::Feed;
use CBTest::Site;
use CBTest::Util qw(run_cmd slurp);
use Digest::SHA qw(sha1_hex);
use IO::Handle;
use Test::More;
use Time::HiRes qw(sleep time);

my $SECONDS = $ENV{STRESS_SECONDS} // ($ENV{CYRUS_BACKUPS_LONG} ? 120 : 8);
my $SEED = $ENV{STRESS_SEED} // time ^ $$;
my @STEADY = qw(anna bert);
my $site = CBTest::Site->new(roles => ['backup'], options => { backup => { backup_retention => '1s',
    backup_compact_work_threshold => 1, 'backuppartition-two' => '%dir%/part2' } });
note("STRESS_SEED=$SEED");
my $end = time + $SECONDS;
my %child;

# CODE in a process of its own, which writes what is to be known in the end to a file.
sub in_background
{
    my ($name, $code) = @_;
    my $file = "$site->{dir}/$name.said";
    my $pid = fork // die "fork: $!\n";
    if (!$pid) {
        srand($SEED + unpack '%32C*', $name);
        open my $out, '>', $file or POSIX::_exit(1);
        $out->autoflush(1);
        eval { $code->($out); 1 } or print $out "DIED $@";
        close $out;
        POSIX::_exit(0);
    }
    $child{$pid} = $file;
    return $file;
}

# ---- clients ----------------------------------------------------------------------------------

# Try until it is acknowledged: a client that is told LOCKED comes again, and one that lost the connection
# makes another.
sub replicate
{
    my ($c, $box, $out) = @_;
    my $give_up = time + 60;
    while (time < $give_up) {
        ${$c} //= $site->backup_csync;
        return if eval { $box->sync(${$c}); 1 };
        die $@ if $@ !~ /IMAP_MAILBOX_LOCKED|CHECKSUM/;
        ${$c}->command('RESTART');
    }
    die "not acknowledged: $@";
}

sub client
{
    my ($user) = @_;
    return in_background("client-$user", sub {
        my ($out) = @_;
        my ($c, @boxes);
        for (my $i = 1; time < $end; $i++) {
            my $old = @boxes && rand() < 0.4 ? $boxes[rand @boxes] : undef;
            my $box = $old // CBTest::Feed->new(mboxname => "user.$user.m$i", uniqueid => "$user-$$-$i");
            my $text = CBTest::Feed::message("$user $i " . rand, 500 + int rand 20_000);
            $box->append($text, rand() < 0.5 ? '\\Seen' : ());
            replicate(\$c, $box, $out);
            print $out 'OK ', sha1_hex($text), "\n";
            push @boxes, $box unless $old;
            $c->command('RESTART') if rand() < 0.5;
            sleep rand 0.05;
        }
    });
}

# ---- tools ------------------------------------------------------------------------------------

# What it says must be that it was done, or that somebody else was at it.
sub tool
{
    my ($out, @args) = @_;
    my $r = $site->ctl_backups(@args);
    print $out "@args: exit $r->{rc}: $r->{out}$r->{err}\n"
        if $r->{rc} != 0 && ($r->{rc} != 75 || $r->{out} !~ /: locked/);
    print $out "DID $args[0]\n" if $r->{rc} == 0;
    return $r->{rc} == 0;
}

sub maintainer
{
    my ($name) = @_;
    return in_background("tools-$name", sub {
        my ($out) = @_;
        while (time < $end) {
            my $user = $STEADY[rand @STEADY];
            my @verb = (['compact', '-F'], ['verify'], ['reindex'],
                ['move', rand() < 0.5 ? '--to=two' : '--to=default'])[rand 4];
            tool($out, @{ $verb[0] }, (rand() < 0.5 ? '-w' : ()), $user);
        }
    });
}

sub wait_for_backup
{
    my ($user) = @_;
    sleep 0.05 while !$site->data_file($user) && time < $end;
    return;
}

# ---- all at once ------------------------------------------------------------------------------

my %acked = map { $_ => client($_) } @STEADY, qw(gone name);
wait_for_backup($_) for keys %acked;
my @tools = map { maintainer($_) } 1 .. 3;
push @tools, in_background('delete', sub {
    my ($out) = @_;
    while (time < $end) {
        tool($out, 'delete', '-w', 'gone') or next;
        sleep rand 0.3;
        my $r = $site->ctl_backups('undelete', '-w', 'gone');
        next if $r->{rc} == 0;
        # its client has made another one meanwhile
        print $out "undelete: exit $r->{rc}: $r->{out}$r->{err}\n" if $r->{out} !~ /exist|has a backup/;
        wait_for_backup('gone');
    }
});
push @tools, in_background('rename', sub {
    my ($out) = @_;
    for (my $i = 1; time < $end; $i++) {
        wait_for_backup('name');
        tool($out, 'rename', '-w', 'name', "name$i");
        sleep rand 0.5;
    }
});
push @tools, in_background('reader', sub {
    my ($out) = @_;
    while (time < $end) {
        my $user = $STEADY[rand @STEADY];
        for my $args (['cyr_backup', $user, 'json', 'mailboxes'], ['ctl_backups', 'list', $user],
            ['ctl_backups', 'stat', $user])
        {
            my ($method, @args) = @{$args};
            my $r = $site->$method(@args);
            print $out "@{$args}: exit $r->{rc}: $r->{err}\n" if $r->{rc} != 0;
        }
    }
});
for my $pid (keys %child) {
    waitpid $pid, 0;
    is($?, 0, $child{$pid} =~ s{.*/|\.said$}{}gr . ' has come to its end');
}

# ---- afterwards -------------------------------------------------------------------------------

my %did;
for my $file (@tools) {
    my @wrong = grep { !(/^DID (\S+)$/ && ++$did{$1}) } split /\n/, slurp($file) // 'nothing was said';
    ok(!@wrong, 'nothing but done or locked: ' . $file =~ s{.*/|\.said$}{}gr) or diag("@wrong");
}
ok($did{$_}, "$_ has been done" . ($did{$_} ? " $did{$_} times" : '')) for qw(compact verify reindex move delete rename);

# The GUIDs of the messages in a data file, each held against its content.
sub content_of
{
    my ($file) = @_;
    my $text = run_cmd(cmd => ['zcat', $file])->{out};
    my %guid;
    while ($text =~ /%\{default ([0-9a-f]{40}) (\d+)\}\r\n/g) {
        my ($guid, $size, $at) = ($1, $2, pos $text);
        $guid{$guid} = 1 if sha1_hex(substr $text, $at, $size) eq $guid;
    }
    return \%guid;
}

my (%where, %all);
for my $file (grep { /_[^.\/]{6}(?:\.deleted\.\d+)?$/ } glob "$site->{backup}{dir}/part{,2}/*/*") {
    $where{$file} = content_of($file);
    $all{$_} = 1 for keys %{ $where{$file} };
}
for my $user (sort keys %acked) {
    my @said = split /\n/, slurp($acked{$user}) // '';
    my @guids = map { /^OK (\w+)$/ ? $1 : () } @said;
    is(join(' ', grep { !/^OK / } @said), '', "$user: the client had no trouble");
    cmp_ok(scalar @guids, '>', 3, "$user: messages were acknowledged: " . @guids);
    my @lost = grep { !$all{$_} } @guids;
    ok(!@lost, "$user: none of them is lost") or diag("@lost");
    next if !grep { $_ eq $user } @STEADY;
    my $mine = $where{ $site->data_file($user) } // {};
    ok(!(grep { !$mine->{$_} } @guids), "$user: all are in the data file");
    my %has = map { $_->{guid} => 1 } map { @{ $_->{records} } }
        @{ CBTest::Compare::backup_json($site, $user, 'all')->{mailboxes} };
    ok(!(grep { !$has{$_} } @guids), "$user: and in the index");
}
my $r = $site->ctl_backups('verify', '-A');
is($r->{rc}, 0, 'verify finds nothing') or diag("$r->{out}$r->{err}");
$r = $site->ctl_backups('reconstruct', '--dry-run');
is($r->{rc}, 0, 'the records are right') or diag("$r->{out}$r->{err}");
$r = $site->ctl_backups('compact', '-A', '-F');
is($r->{rc}, 0, 'and all can be compacted') or diag("$r->{out}$r->{err}");
is(join(' ', grep { /\.new|\.old|\.tail/ } glob "$site->{backup}{dir}/part{,2}/*/*"), '', 'nothing is left over');
done_testing;
