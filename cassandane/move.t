#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Backups go to another partition, while a rolling sync_client writes to them: nothing is lost.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(slurp);
use JSON;
use Test::More;

my @users = qw(alice bob);
my $site = CBTest::Site->new(users => \@users, options => { backup => { 'backuppartition-two' => '%dir%/part2',
    partition_select_exclude => 'two' } });
my $dir = $site->{backup}{dir};

for my $user (@users) {
    $site->imap_as($user)->append('INBOX', CBTest::Imap::message()) for 1 .. 10;
    my $r = $site->sync('unix', '-u', $user);
    is($r->{rc}, 0, "$user: synced") or diag("$r->{out}$r->{err}");
}

sub ctl
{
    my ($rc, $out, @args) = @_;
    my $r = $site->ctl_backups(@args);
    is($r->{rc}, $rc, "@args: exit") or diag("$r->{out}$r->{err}");
    ref $out ? like($r->{out}, $out, "@args: what it says") : is($r->{out}, $out, "@args: what it says")
        if defined $out;
    return $r;
}

sub files { my ($user) = @_; return join ' ', map { s{^\Q$dir\E/}{}r } glob "$dir/part{,2}/*/${user}_*" }

subtest 'move one' => sub {
    my $bytes = slurp($site->data_file('alice'));
    ctl(64, '', 'move', 'alice');
    ctl(64, '', 'move', '--to=nowhere', 'alice');
    ctl(75, '', 'move', '--to=two', 'nobody');
    ctl(0, "move alice: skipped (dry run)\n", 'move', '--to=two', '--dry-run', 'alice');
    like($site->data_file('alice'), qr{/part/a/}, 'a dry run');
    ctl(0, "move alice: ok\n", 'move', '--to=two', 'alice');
    my $file = $site->data_file('alice');
    like($file, qr{/part2/a/alice_}, 'it is there');
    is(slurp($file), $bytes, 'byte for byte');
    like(files('alice'), qr{\Apart2/a/alice_\w{6} part2/a/alice_\w{6}\.index\S*(?: \S+\.index-\w+)*\z},
        'and nowhere else');
    ctl(0, "move alice: skipped (is there already)\n", 'move', '--to=two', 'alice');
    no_differences('both sides equal', differences($site, 'alice'));
    my $r = $site->sync('proxy', '-u', 'alice');
    my @unwanted = CBTest::Scenarios::unwanted(@{ $r->{commands} });
    ok(!@unwanted, 'nothing has to be sent') or diag(CBTest::Relay::excerpt(@unwanted));
    $r = ctl(0, undef, 'move', '-j', '--to=default', 'alice');
    my $object = JSON->new->decode($r->{out});
    is($object->{status}, 'ok', 'and back, as JSON');
    is($object->{fname}, $file, 'from where');
    is($object->{new_fname}, $site->data_file('alice'), 'to where');
    is($site->ctl_backups('reconstruct')->{rc}, 0, 'the records are right');
};

subtest 'while it is written to' => sub {
    my $daemon = $site->start_rolling('tcp');
    my @to = qw(two default);
    for my $round (1 .. 6) {
        $site->imap_as($_)->append('INBOX', CBTest::Imap::message()) for (@users) x 3;
        my $to = $to[($round + 1) % 2];
        my $r = $site->ctl_backups('-w', 'move', '-A', "--to=$to");
        is($r->{rc}, 0, "round $round: all to $to") or diag("$r->{out}$r->{err}");
        is(scalar(() = $r->{out} =~ /^move \w+: ok$/mg), 2, 'both') or diag($r->{out});
        $site->imap_as('alice')->must(select => 'INBOX');
        $site->imap_as('alice')->must(store => $round, '+FLAGS', '(\\Flagged)');
        $site->imap_as('alice')->must('unselect');
    }
    $site->wait_rolling($daemon);
    is($site->stop_rolling($daemon), 0, 'the daemon ends when asked to');
    no_differences("$_: both sides equal", differences($site, $_, full => 1)) for @users;
    my @files = $site->all_data_files;
    is(scalar @files, 2, 'two data files are left') or diag("@files");
    is($site->ctl_backups('reconstruct')->{rc}, 0, 'the records are right');
    my $r = $site->sync('proxy', '-A');
    my @unwanted = CBTest::Scenarios::unwanted(@{ $r->{commands} });
    ok(!@unwanted, 'nothing has to be sent') or diag(CBTest::Relay::excerpt(@unwanted));
};

subtest 'it cannot be' => sub {
    my $before = files('bob');
    my ($to, $part) = $before =~ m{^part/} ? qw(two part2) : qw(default part);
    chmod 0500, glob("$dir/$part/*"), "$dir/$part" or die "chmod: $!";
    my $r = $site->ctl_backups('move', "--to=$to", 'bob');
    chmod 0700, "$dir/$part", glob "$dir/$part/*";
    is($r->{rc}, 75, 'no permission');
    like($r->{out}, qr/^move bob: failed \(Permission denied\)$/, 'so it says');
    is(files('bob'), $before, 'nothing has changed');
    no_differences('both sides equal', differences($site, 'bob'));
    ctl(75, "move $dir/part/x: failed (not found by user id)\n", 'move', '-f', "--to=$to", "$dir/part/x");
};

subtest 'balance' => sub {
    my $r = ctl(0, '', 'move', '-A');
    is($r->{err}, '', 'one file system: nothing to do');
    $r = $site->ctl_backups('move', '-A', '--dry-run');
    like($r->{err}, qr/^default: [0-9.]+% \(\d+ KiB\) free now, [0-9.]+% \(\d+ KiB\) afterwards$/m, 'how it is');
};
memory_ok($site);
done_testing;
