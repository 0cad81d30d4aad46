#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# tools/bench, with tiny input: every case runs on both sides and gives every figure, and both
# servers were sent the same mail. What the figures say is not judged here. Also its parts:
# mkcorpus makes the same bytes again, and csync-load does not bear a server that answers
# otherwise than it should.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Site;
use CBTest::Util qw(run_cmd slurp spew sha1_hex builddir);
use File::Temp qw(tempdir);
use IO::Uncompress::Gunzip qw($GunzipError);
use JSON;
use Test::More;

my $bench = "$FindBin::Bin/../tools/bench";
my $tools = builddir() . '/tools';
my $dir = tempdir('cbtest-bench-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;

sub bench { return run_cmd(timeout => 300, cmd => [$bench, '--builddir', builddir(), @_]) }

# ---- what is in a data file ------------------------------------------------------

# { messages => { guid => 1 }, records => { "mailbox uid" => text } } of all data files in a
# directory, read with zlib and regular expressions alone.
sub contents
{
    my ($where, $add) = @_;
    my %got = (messages => {}, records => {});
    for my $file (glob "$where/*") {
        my $z = IO::Uncompress::Gunzip->new($file, MultiStream => 1) or die "$file: $GunzipError";
        local $/;
        my $text = readline $z;
        my $rest = '';
        my $from = 0;
        while ($text =~ /%\{\S+ ([0-9a-f]{40}) (\d+)\}\r?\n/g) {
            my ($guid, $size, $at) = ($1, $2, pos $text);
            is(sha1_hex(substr $text, $at, $size), $guid, "$file: content of $guid") or return \%got
                if sha1_hex(substr $text, $at, $size) ne $guid;
            $got{messages}{$guid} = 1;
            $rest .= substr $text, $from, $-[0] - $from;
            $from = pos($text) = $at + $size;
        }
        $rest .= substr $text, $from;
        while ($rest =~ /^\d+ APPLY MAILBOX %\((.*)$/mg) {
            my $line = $1;
            my ($name) = $line =~ /MBOXNAME (\S+)/ or die "no name: $line\n";
            while ($line =~ /%\(UID (\d+) (MODSEQ \d+ .*? SIZE \d+ GUID [0-9a-f]{40})/g) {
                my ($uid, $record) = ($1, $2);
                $got{records}{"$name $uid"} = $record;
            }
        }
    }
    return \%got;
}

# ---- the whole -------------------------------------------------------------------

my $json = "$dir/all.json";
my $r = bench('all', '--quick', '--runs', 1, '--json', $json, '--keep-data', "$dir/data");
is($r->{rc}, 0, 'bench all --quick') or diag($r->{out}, $r->{err});
my $results = eval { decode_json(slurp($json)) } // [];
my @names = map { (split)[1] } split /\n/, bench('--list')->{out};
cmp_ok(scalar @names, '>', 10, 'there are cases');
is_deeply([map { $_->{case} } @{$results}], \@names, 'each case has a result');
my %alone = map { $_ => 1 } qw(jobs verify-1gb compact-1gb as-of-100000); # nothing to compare with
for my $case (@{$results}) {
    for my $side (qw(ours peer)) {
        next if $side eq 'peer' && $alone{ $case->{case} } && !defined $case->{peer};
        my @bad = grep { !defined $case->{$side}{$_} || $case->{$side}{$_} !~ /^[\d.e+-]+$/
            || ($case->{$side}{$_} <= 0 && $_ ne 'written_bytes') }
            qw(cpu_s wall_s rss_kib written_bytes data_bytes);
        is("@bad", '', "$case->{case}: figures of $side");
    }
    ok($case->{floor} > 0, "$case->{case}: floor") if exists $case->{floor};
    my $row = quotemeta $case->{case};
    like($r->{out}, qr/^$row +\d/m, "$case->{case}: is in the table");
}

for my $case (grep { $_->{group} eq 'ingest' } @{$results}) {
    my ($ours, $peer) = map { contents("$dir/data/$case->{case}/$_") } qw(ours peer);
    my $n = keys %{ $ours->{messages} };
    cmp_ok($n, '>', 5, "$case->{case}: there are messages");
    is_deeply($peer->{messages}, $ours->{messages}, "$case->{case}: both have the same $n messages");
    is_deeply($peer->{records}, $ours->{records}, "$case->{case}: and the same records");
    is($n, $case->{ours}{messages}, "$case->{case}: as many as were sent") if $case->{ours}{messages};
}

# ---- options ---------------------------------------------------------------------

$r = bench('ingest', '--quick', '--runs', 1, '--case', 'first-sync-small', '--json', $json);
is($r->{rc}, 0, 'one case alone');
is_deeply([map { $_->{case} } @{ decode_json(slurp($json)) }], ['first-sync-small'], 'replaces the file');
$r = bench('ingest', '--quick', '--runs', 1, '--case', 'first-sync-small', '--only-ours', '--json', $json);
is($r->{rc}, 0, 'without the other side');
ok(exists $_->{peer} && !defined $_->{peer} && $_->{ours}{cpu_s} > 0, 'its results are null')
    for @{ decode_json(slurp($json)) };
is(bench('ingest', '--case', 'no-such-case')->{rc}, 64, 'a case that does not exist');
is(bench('something')->{rc}, 64, 'a group that does not exist');
is(bench()->{rc}, 64, 'no group');
like(bench('--help')->{out}, qr/--json FILE .*replaced/, '--help');

# ---- its parts -------------------------------------------------------------------

sub corpus
{
    my ($name, @options) = @_;
    my $c = run_cmd(cmd => ["$tools/mkcorpus", '--messages', 20, '--mean', 9000, @options, "$dir/$name"]);
    is($c->{rc}, 0, "corpus $name") or diag($c->{err});
    return "$dir/$name";
}

my ($one, $same, $other) = (corpus('one'), corpus('same'), corpus('other', '--seed', 2));
is(sha1_hex(slurp($one)), sha1_hex(slurp($same)), 'the same options give the same bytes');
isnt(sha1_hex(slurp($one)), sha1_hex(slurp($other)), 'another seed gives others');
spew("$dir/cut", substr slurp($one), 0, -1);

my $site = CBTest::Site->new(roles => ['backup']);

sub load
{
    my @options = @_;
    my @files = grep { m{^/} } @options;
    return run_cmd(cmd => ["$tools/csync-load", (grep { !m{^/} } @options),
        "$site->{backup}{dir}/conf/backupd.sock", @files]);
}

sub refuses
{
    my ($label, $expected, @load) = @_;
    my $l = load(@load);
    isnt($l->{rc}, 0, "csync-load: $label");
    like($l->{err}, $expected, "csync-load: $label: says so");
    return;
}

my $l = load("$one:15");
is($l->{rc}, 0, 'csync-load: first sync') or diag($l->{err});
is(decode_json($l->{out})->{messages}, 15, 'and what it sent');
$l = load("$one:15");
is(decode_json($l->{out})->{mailboxes}, 0, 'nothing is sent again');
$l = load('--singly', 2, "$one:17");
is($l->{rc}, 0, 'csync-load: two more, one by one') or diag($l->{err});
my $sent = decode_json($l->{out});
is("@{$sent}{qw(connections messages records)}", '2 2 2', 'with two connections');
$l = load('--changes', 3, "$one:20");
is(decode_json($l->{out})->{messages}, 3, 'csync-load: messages and changes together') or diag($l->{err});
my @state = map { $site->backup_csync->get("USER bench")->{MAILBOX}[0]{$_} } qw(LAST_UID HIGHESTMODSEQ);
is("@state", '20 24', 'the server has it all');
refuses('other mail than before', qr/a listed CRC is not what was sent/, '--changes', 4, $other);
refuses('less than before', qr/the listing is not what was sent/, "$one:3");
refuses('half a corpus', qr/not a corpus/, "$dir/cut");
refuses('more messages than there are', qr/only 20 messages/, "$one:21");
refuses('more folders than before', qr/a mailbox is listed that does not exist|not what was sent/, '--folders', 4, $one);
$site->{backup}->stop;
refuses('no server', qr/cannot connect/, $one);
done_testing;
