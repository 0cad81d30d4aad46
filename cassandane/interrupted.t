#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A test of the tests: one that is interrupted, whatever the signal, leaves no server, no relay
# and no directory.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Util qw(processes_of reap slurp start_cmd wait_until);
use File::Temp qw(tempdir);
use Test::More;

my $tmp = tempdir(CLEANUP => 1);
my $code = <<'END';
use CBTest::Site;
$| = 1;
my $site = CBTest::Site->new(roles => ['backup']);
print "$site->{dir} $site->{relay}{pid}\n";
sleep 600;
END

for my $signal (qw(TERM INT HUP KILL)) {
    my $pid = start_cmd(cmd => [$^X, "-I$FindBin::Bin/lib", '-e', $code], out => "$tmp/out");
    my ($dir, $relay) = @{ wait_until('the site', sub {
        (slurp("$tmp/out") // '') =~ /^(\S+) (\d+)\n/ ? [$1, $2] : undef;
    }, 60) };
    my @servers = processes_of($dir);
    ok(@servers && -d $dir, 'a site is up');
    kill $signal => $pid;
    reap($pid, 60);
    ok(eval { wait_until('the servers to end', sub { !processes_of($dir) }, 60) },
        "SIG$signal: its servers end");
    ok(eval { wait_until('the directory to go', sub { !-e $dir }, 60) }, 'its directory goes');
    ok(eval { wait_until('the relay to end', sub { !kill 0 => $relay }, 60) }, 'its relay ends');
    unlink "$tmp/out";
}
done_testing;
