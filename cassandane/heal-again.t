#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Damage heals, even if it comes again before all is well: chunks of a backup are damaged; it is repaired
# (by reindex, compact, verify, a rebuild of the index, or by nobody but backupd); the mailboxes go on to
# change; a real sync_client begins to heal it, and is killed on the way, or the server is; the same or
# other chunks are damaged, and it is repaired once more. Then a sync_client that is left alone makes both
# sides equal, verify is content, whatever is made of the file anew says the same, and nothing was uploaded
# that could be read in the data file.
#
# HEAL_SEED repeats a run; CYRUS_BACKUPS_LONG=1: more rounds.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(backup_state differences);
use CBTest::Damage;
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Scenarios qw(no_differences);
use CBTest::Site;
use CBTest::Util qw(slurp);
use IO::Uncompress::Gunzip qw(gunzip);
use JSON;
use Test::More;

my $seed = $ENV{HEAL_SEED} // time;
srand $seed;
note("HEAL_SEED=$seed");
my $rounds = $ENV{CYRUS_BACKUPS_LONG} ? 40 : 8;

my $site = CBTest::Site->new(users => ['alice'], options => { backup => { backup_error_pause => '0' } });
my $case = CBTest::Case->new(site => $site, user => 'alice');
my $imap = $case->{imap};
my @folders = qw(INBOX INBOX.Work INBOX.Old);
my $serial = 0;
my %seen = (interrupted => 0, healed => 0);    # what must have happened; the first round sees to it
my %lost;

sub one_of { return $_[rand @_] }

# ---- what happens to the mailboxes ----------------------------------------------------------------------

sub append
{
    my ($folder, $n) = @_;
    $imap->append($folder, CBTest::Imap::message(subject => 'number ' . ++$serial,
        body => CBTest::Imap::noise(400 + int rand 4000, $serial))) for 1 .. $n;
    return;
}

# Do something with the messages of a folder, if it has any.
sub with_messages
{
    my ($folder, $code) = @_;
    $imap->must(select => $folder);
    $code->() if $imap->talk->get_response_code('exists');
    $imap->must('unselect');
    return;
}

sub expunge
{
    my ($which) = @_;
    $imap->must(store => $which, '+flags', '(\\Deleted)');
    $imap->must('expunge');
    return;
}

my %change = (
    append => sub { append(one_of(@folders), 1 + int rand 3) },
    copy => sub {
        my $to = one_of(@folders);
        with_messages(one_of(@folders), sub { $imap->must(copy => one_of('1', '*'), $to) });
    },
    move => sub {
        my $to = one_of(@folders);
        with_messages(one_of(@folders), sub { $imap->must(copy => '*', $to); expunge('*') });
    },
    expunge => sub { with_messages(one_of(@folders), sub { expunge('1') }) },
    flags => sub {
        with_messages(one_of(@folders), sub { $imap->must(store => '1:*', '+flags', '(flag' . ++$serial . ')') });
    },
    rename => sub {
        my $i = 1 + int rand $#folders;
        my $name = 'INBOX.Name' . ++$serial;
        $imap->must(rename => $folders[$i], $name);
        $folders[$i] = $name;
    },
    recreate => sub {
        my $folder = $folders[1 + int rand $#folders];
        $case->next_second;
        $imap->must(delete => $folder);
        $imap->must(create => $folder);
        append($folder, 1);
    },
);

sub change
{
    my ($n) = @_;
    for my $what (map { one_of(sort keys %change) } 1 .. $n) {
        note("the mailboxes: $what");
        $change{$what}->();
    }
    return;
}

# ---- the data file ---------------------------------------------------------------------------------------

# Of each member: where it is, the GUIDs of its messages, and whether it can be read. Headers are left alone
# here. What was not committed does not count, nor does the last group if its end cannot be read.
sub members
{
    my $bytes = slurp($site->data_file('alice'));
    my (@found, @group);
    for my $m (CBTest::Damage::members($bytes)) {
        my $text = '';
        my $member = substr $bytes, $m->{at}, $m->{end} - $m->{at};
        my $whole = $m->{end} <= length $bytes && gunzip(\$member, \$text, Strict => 1);
        push @group, { %{$m}, whole => $whole, guids => [$whole ? $text =~ /%\{\S+ ([0-9a-f]{40}) \d+\}/g : ()] };
        next unless $m->{commit} && $whole;
        push @found, @group;
        @group = ();
    }
    return @found;
}

# N chunks, or if LAST the youngest one, that can be read and have messages.
sub spoil
{
    my ($n, $last) = @_;
    my $file = $site->data_file('alice');
    for (1 .. $n) {
        my @can = grep { $_->{whole} && @{ $_->{guids} } } members() or return fail('nothing to be damaged');
        my $m = $last ? $can[-1] : one_of(@can);
        CBTest::Damage->flip($file, int(($m->{at} + 40 + $m->{end}) / 2));
        note('damaged: member ' . "$m->{seq}, messages: " . @{ $m->{guids} });
        @lost{ @{ $m->{guids} } } = ();
    }
    return;
}

# ---- repair, and the client -------------------------------------------------------------------------------

sub said { return map { substr("$_->{out}$_->{err}", 0, 1500) } @_ }

sub remove_index { return unlink glob $site->data_file('alice') . '.index*' }

my %repair = (
    reindex => sub { return $site->ctl_backups('reindex', 'alice') },
    compact => sub { return $site->ctl_backups('-F', 'compact', 'alice') },
    verify => sub { return $site->ctl_backups('verify', 'alice') },
    'the index is lost' => sub { remove_index(); return },
    'the index is lost, then reindex' => sub { remove_index(); return $site->ctl_backups('reindex', 'alice') },
    'the index is lost, then verify' => sub { remove_index(); return $site->ctl_backups('verify', 'alice') },
    nobody => sub { return },
);

sub repair
{
    my $how = one_of(sort keys %repair);
    note("repair: $how");
    my $r = $repair{$how}->() or return;
    ok($r->{rc} == 0 || ($r->{rc} == 75 && $r->{out} =~ /data damaged|not all could be read/), "$how repairs it")
        or diag("exit $r->{rc}: ", said($r));
    return;
}

# A sync, of which nothing may be uploaded that could be read before.
sub synced
{
    my ($what) = @_;
    my %readable = map { $_ => 1 } map { @{ $_->{guids} } } members();
    my $r = $site->sync('proxy', '-u', 'alice');
    my %sent = CBTest::Relay::uploaded(@{ $r->{commands} });
    is(join(' ', grep { $readable{$_} || $sent{$_} > 1 } sort keys %sent), '',
        "$what: nothing was uploaded that was not missing") or diag(CBTest::Relay::excerpt(@{ $r->{commands} }));
    $seen{healed} += grep { exists $lost{$_} } keys %sent;
    return $r->{rc};
}

# The client, or the process that serves it, is killed on the way: after so many bytes, if there are so many.
sub interrupted
{
    my ($most) = @_;
    my $whom = one_of('server', 'client');
    my $at = 1 + int rand $most;
    $site->{relay}->set_trip($at, $site->{backup}{pid}, one_of(0, 0, rand 0.03), $whom);
    my $rc = synced('interrupted');
    return if $site->{relay}->clear_trip;
    note("killed after $at bytes: the $whom, exit $rc");
    $seen{interrupted}++;
    return;
}

sub heal
{
    my ($what) = @_;
    my $rc;
    for (1 .. 3) {
        $rc = synced($what);
        last if $rc == 0;
    }
    is($rc, 0, "$what: a sync");
    return;
}

sub verify
{
    my $r = $site->ctl_backups('-j', 'verify', 'alice');
    return ($r, eval { decode_json($r->{out}) } // {});
}

sub is_well
{
    my ($what, %how) = @_;
    my ($r, $said) = verify();
    is("$r->{rc} " . ($said->{status} // ''), '0 ok', "$what: verify is content") or diag(said($r));
    is($said->{messages_awaited}, 0, "$what: nothing is waited for");
    no_differences("$what: both sides are equal", eval { differences($site, 'alice', %how) }, $@ || ());
    return JSON->new->canonical->encode(backup_state($site, 'alice'));
}

# ---- rounds ------------------------------------------------------------------------------------------------

$imap->must(create => $_) for @folders[1 .. $#folders];
append($_, 2) for @folders;
heal('at first');

for my $round (1 .. $rounds) {
    subtest "round $round" => sub {
        for (1 .. 2) {
            append(one_of(@folders), 1 + int rand 3);
            change(1 + int rand 2) if $round > 1;
            heal('before');
        }
        $round == 1 ? spoil(1, 1) : spoil(1 + int rand 2);
        repair();
        change(int rand 3) if $round > 1;
        interrupted($round == 1 ? 60 : one_of(600, 8000));
        if (rand 3 < 2) {
            spoil(1, rand 2 < 1);
            repair();
            change(int rand 2);
            interrupted(8000) if rand 2 < 1;
        }
        heal('left alone');
        # What no client asked about, only reading all of it finds.
        my ($r, $said) = verify();
        ok($r->{rc} == 0 || $said->{status} =~ /data damaged/, 'verify') or diag(said($r));
        heal('after verify');
        my $state = is_well('in the end', full => 1);
        $r = $site->ctl_backups('reindex', 'alice');
        is($r->{rc}, 0, 'reindex') or diag(said($r));
        is(is_well('with what reindex made'), $state, 'which says the same');
    };
}
cmp_ok($seen{$_}, '>', 0, "$_: $seen{$_}") for sort keys %seen;
done_testing;
