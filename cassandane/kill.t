#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Twenty times SIGKILL for backupd in the middle of a real sync: what was
# acknowledged is there, and the next sync makes both sides equal.
# The moment is a random number of bytes from the client, now and then a moment later.
# KILL_SEED repeats a run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state differences);
use CBTest::Dlist qw(parse_dlist);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(sha1_hex);
use Test::More;
use Time::HiRes qw(sleep);

my $seed = $ENV{KILL_SEED} // time;
srand $seed;
note("KILL_SEED=$seed");

my @folders = qw(INBOX INBOX.a INBOX.a.b INBOX.c);
my $site = CBTest::Site->new(users => ['alice']);
my $imap = $site->imap_as('alice');
$imap->must(create => $_) for @folders[1 .. $#folders];

# Some mail, some flags, an expunge; returns about how many bytes this will be on the wire.
sub change
{
    my ($round) = @_;
    my $bytes = 2000;
    for my $i (1 .. 14) {
        my $msg = CBTest::Imap::message(body => CBTest::Imap::noise(500 + int rand 25_000, $round * 100 + $i));
        $imap->append($folders[$i % @folders], $msg);
        $bytes += 600 + length $msg;
    }
    $imap->must(create => "INBOX.round$round");
    $imap->append("INBOX.round$round", CBTest::Imap::message());
    $imap->must(select => $folders[$round % @folders]);
    $imap->must(store => '1:5', $round % 2 ? '+FLAGS' : '-FLAGS', '(\\Flagged $kept)');
    $imap->must(store => $round, '+FLAGS', '(\\Deleted)');
    $imap->must('expunge');
    $imap->must('unselect');
    $imap->must($round % 3 ? 'subscribe' : 'unsubscribe' => $folders[ $round % @folders ]);
    return $bytes;
}

# What acknowledged APPLY lines promised and the backup does not have.
sub broken_promises
{
    my ($state, @commands) = @_;
    my %mailbox = map { $_->{uniqueid} => $_ } @{ $state->{mailboxes} };
    my %subscribed = map { $_ => 1 } @{ $state->{subscriptions} };
    my (@broken, %last, %sub);
    for my $c (grep { ($_->{reply} // '') =~ /^OK / } @commands) {
        if ($c->{line} =~ s/^APPLY (?=MAILBOX )//) {
            my (undef, $m) = parse_dlist($c->{line});
            my $had = $last{ $m->{UNIQUEID} } // {};
            $last{ $m->{UNIQUEID} } = { %{$m}, UIDS => { %{ $had->{UIDS} // {} }, map { $_->{UID} => $_ } @{ $m->{RECORD} } } };
        } elsif ($c->{line} =~ /^APPLY (SUB|UNSUB) %\(USERID \S+ MBOXNAME (\S+)\)$/) {
            $sub{$2} = $1 eq 'SUB';
        }
    }
    for my $m (values %last) {
        my $b = $mailbox{ $m->{UNIQUEID} };
        if (!$b) {
            push @broken, "$m->{MBOXNAME} is missing";
            next;
        }
        push @broken, "$m->{MBOXNAME}: highestmodseq $m->{HIGHESTMODSEQ} acknowledged, $b->{highestmodseq} kept"
            if $b->{highestmodseq} < $m->{HIGHESTMODSEQ};
        my %kept = map { $_->{uid} => $_ } @{ $b->{records} };
        for my $r (values %{ $m->{UIDS} }) {
            my $k = $kept{ $r->{UID} };
            if (!$k) {
                push @broken, "$m->{MBOXNAME} uid $r->{UID} is missing";
                next;
            }
            push @broken, "$m->{MBOXNAME} uid $r->{UID}: other content" if $k->{guid} ne $r->{GUID};
            push @broken, "$m->{MBOXNAME} uid $r->{UID}: modseq $r->{MODSEQ} acknowledged, $k->{modseq} kept"
                if $k->{modseq} < $r->{MODSEQ};
            next if $k->{expunged} || $site->{dumped}{alice}{ $r->{GUID} };
            my $dump = $site->cyr_backup('alice', 'dump', 'message', $r->{GUID});
            push @broken, "$m->{MBOXNAME} uid $r->{UID}: content of $r->{GUID} cannot be read"
                if sha1_hex($dump->{out}) ne $r->{GUID};
            $site->{dumped}{alice}{ $r->{GUID} } = 1;
        }
    }
    for my $name (keys %sub) {
        push @broken, "subscription of $name" if $sub{$name} != ($subscribed{$name} // 0);
    }
    return @broken;
}

my $hit = 0;
for my $round (1 .. 20) {
    subtest "round $round" => sub {
        my $bytes = change($round);
        my $at = 1 + int rand $bytes;
        my $delay = $round % 4 ? 0 : rand 0.03;
        $site->{relay}->set_trip($at, $site->{backup}{pid}, $delay);
        my $r = $site->sync('proxy', '-u', 'alice');
        $hit++ unless $site->{relay}->clear_trip;
        note(sprintf 'killed after %d of about %d bytes, exit %d', $at, $bytes, $r->{rc});
        if ($site->data_file('alice')) {
            my $state = eval { backup_state($site, 'alice') };
            # killed before the user's backup came into being there is nothing to ask for
            my @acked = grep { $_->{line} =~ /^APPLY MAILBOX/ && ($_->{reply} // '') =~ /^OK / } @{ $r->{commands} };
            $state //= { mailboxes => [], subscriptions => [] } if $round == 1 && !@acked;
            ok($state, 'the backup opens') or diag($@);
            no_differences('everything acknowledged is there', broken_promises($state, @{ $r->{commands} }))
                if $state;
        }
        my $next = $site->sync('proxy', '-u', 'alice');
        is($next->{rc}, 0, 'the next sync succeeds')
            or diag("$next->{out}$next->{err}", CBTest::Relay::excerpt(grep { ($_->{reply} // '') !~ /^OK/ } @{ $next->{commands} }));
        my @d = eval { differences($site, 'alice', full => $round == 20) };
        no_differences('both sides equal', @d, $@ ? $@ : ());
    };
}
ok($hit >= 15, "a sync was really hit ($hit of 20 times)");
memory_ok($site);
done_testing;
