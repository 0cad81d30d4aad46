#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Twenty times SIGKILL in the middle of a real sync (200 times with CYRUS_BACKUPS_LONG=1): for
# backupd, for its master with everything that runs under it, or for sync_client, while all that
# happens to mailboxes goes on. What was acknowledged is there, the next sync makes both sides
# equal, and an index that is made anew says the same as the one that was there.
# The moment is a random number of bytes from the client, now and then a moment later.
# KILL_SEED repeats a run.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(backup_state differences);
use CBTest::Dlist qw(parse_dlist);
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Server qw(mailbox_names);
use CBTest::Site;
use CBTest::Util qw(sha1_hex);
use Test::More;

my $seed = $ENV{KILL_SEED} // time;
srand $seed;
note("KILL_SEED=$seed");

my @folders = qw(INBOX INBOX.kill.a INBOX.kill.b);
my ($site, $case);

# Some mail, flags, an expunge, besides the steps of a scenario; returns about how many bytes this
# will be on the wire.
sub change
{
    my ($round) = @_;
    my $bytes = 2000;
    my $imap = $case->{imap};
    for my $i (1 .. 10) {
        my $msg = CBTest::Imap::message(body => CBTest::Imap::noise(500 + int rand 15_000, $round * 100 + $i));
        $imap->append($folders[$i % @folders], $msg);
        $bytes += 600 + length $msg;
    }
    $imap->must(create => "INBOX.kill.round$round");
    $imap->append("INBOX.kill.round$round", CBTest::Imap::message());
    $imap->must(select => $folders[$round % @folders]);
    $imap->must(store => '1:3', $round % 2 ? '+FLAGS' : '-FLAGS', '(\\Flagged $kept)');
    $imap->must(store => '4', '+FLAGS', '(\\Deleted)');
    $imap->must('expunge');
    $imap->must('unselect');
    $imap->must($round % 3 ? 'subscribe' : 'unsubscribe' => $folders[ $round % @folders ]);
    return $bytes;
}

sub people { return grep { $site->data_file($_) } $case->users, '%SHARED' }

# What acknowledged APPLY lines promised: { uniqueid => header with UIDS }, { "user name" => subscribed }.
sub promises
{
    my (%last, %sub);
    for my $c (grep { ($_->{reply} // '') =~ /^OK / } @_) {
        if ($c->{line} =~ s/^APPLY (?=MAILBOX )//) {
            my (undef, $m) = parse_dlist($c->{line});
            next unless $m->{RECORD};    # an intermediate name
            my $had = $last{ $m->{UNIQUEID} } // {};
            $last{ $m->{UNIQUEID} } = { %{$m}, UIDS => { %{ $had->{UIDS} // {} }, map { $_->{UID} => $_ } @{ $m->{RECORD} } } };
        } elsif ($c->{line} =~ /^APPLY UNMAILBOX (\S+)/) {
            my $name = $1;
            delete @last{ grep { $last{$_}{MBOXNAME} eq $name } keys %last };
        } elsif ($c->{line} =~ /^APPLY (SUB|UNSUB) %\(USERID (\S+) MBOXNAME (\S+)\)$/) {
            $sub{"$2 $3"} = $1 eq 'SUB';
        }
    }
    return (\%last, \%sub);
}

# Those of them that the backups do not keep.
sub broken_promises
{
    my ($states, @commands) = @_;
    my (%mailbox, %subscribed, @broken);
    for my $user (keys %{$states}) {
        $mailbox{ $_->{uniqueid} } = [$user, $_] for @{ $states->{$user}{mailboxes} };
        $subscribed{"$user $_"} = 1 for @{ $states->{$user}{subscriptions} };
    }
    my ($last, $sub) = promises(@commands);
    for my $m (values %{$last}) {
        my ($user, $b) = @{ $mailbox{ $m->{UNIQUEID} } // [] };
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
            next if $k->{expunged} || $site->{dumped}{$user}{ $r->{GUID} };
            my $dump = $site->cyr_backup($user, 'dump', 'message', $r->{GUID});
            push @broken, "$m->{MBOXNAME} uid $r->{UID}: content of $r->{GUID} cannot be read"
                if sha1_hex($dump->{out}) ne $r->{GUID};
            $site->{dumped}{$user}{ $r->{GUID} } = 1;
        }
    }
    for my $key (keys %{$sub}) {
        push @broken, "subscription: $key" if $sub->{$key} != ($subscribed{$key} // 0);
    }
    return @broken;
}

# Everything cyr_backup can say of a user, and some content.
sub answers
{
    my ($user) = @_;
    my %said;
    for my $what ([qw(json all)], [qw(json mailboxes)], [qw(json messages)], [qw(list all)]) {
        my $r = $site->cyr_backup($user, @{$what});
        $said{"@{$what}"} = "exit $r->{rc}\n$r->{out}";
    }
    my @guids = $said{'json messages'} =~ /"guid": *"([0-9a-f]{40})"/g;
    for my $guid (map { $guids[ rand @guids ] } 1 .. (@guids ? 5 : 0)) {
        $said{"dump of $guid"} //= $site->cyr_backup($user, 'dump', 'message', $guid)->{out};
    }
    return \%said;
}

# The same once more without the index, which is made anew then.
sub rebuilt_differs
{
    my ($user) = @_;
    my $live = answers($user);
    my $file = $site->data_file($user);
    unlink glob "$file.index*";
    my @d = -e "$file.index" ? "$file.index cannot be removed" : ();
    my $anew = answers($user);
    for my $guid (map { /^dump of (.*)/ } grep { !exists $anew->{$_} } keys %{$live}) {
        $anew->{"dump of $guid"} = $site->cyr_backup($user, 'dump', 'message', $guid)->{out};
    }
    push @d, map { "$user, $_: another answer" } grep { $live->{$_} ne $anew->{$_} } sort keys %{$live};
    push @d, "$user: no index" unless -s "$file.index";
    return @d;
}

my ($hit, $rounds) = (0, 0);

# One kill after some steps of a scenario.
sub round
{
    my ($whom, $last, @steps) = @_;
    my $round = ++$rounds;
    for my $step (@steps) {
        delete $case->{fails};
        my $done = eval { $step->[1]->($case, 'all'); 1 };
        ok($done, "done: $step->[0]") or diag($@);
    }
    my $bytes = change($round);
    my $at = $round % 3 ? 1 + int rand $bytes : 1 + int rand 6000;
    my $delay = $round % 4 ? 0 : rand 0.03;
    $site->{relay}->set_trip($at, $site->{backup}{pid}, $delay, $whom);
    # without a server sync_client would try for long
    my $r = $site->sync('proxy', $whom eq 'master' ? { timeout => 5 } : {}, '-A');
    my $this = !$site->{relay}->clear_trip;
    $hit++ if $this;
    note(sprintf '%s killed after %d bytes, exit %d', $whom, $at, $r->{rc}) if $this;
    if ($whom eq 'master' && $this) {
        $site->{backup}->stop;
        $site->{backup}->start;
    }
    my %states;
    for my $user (people()) {
        $states{$user} = eval { backup_state($site, $user) };
        # Killed before the user's backup came into being there is nothing to ask for; if anything
        # in it was acknowledged, the promise is broken.
        delete $states{$user} if $site->{untouched} && !$states{$user};
        ok($states{$user}, "the backup of $user opens") or diag($@) if exists $states{$user};
        $states{$user} //= { mailboxes => [], subscriptions => [] };
    }
    no_differences('everything acknowledged is there', broken_promises(\%states, @{ $r->{commands} }));

    $site->{untouched} = 0;
    my $next = $site->sync('proxy', '-A');
    is($next->{rc}, 0, 'the next sync succeeds')
        or diag("$next->{out}$next->{err}", CBTest::Relay::excerpt(grep { ($_->{reply} // '') !~ /^OK/ } @{ $next->{commands} }));
    # everybody's backup opens and is asked each time; these take longer
    my @whom = $last || $round % 4 == 0 ? ($case->users, '%SHARED') : $case->{user};
    for my $user (@whom) {
        next if $user eq '%SHARED' && !mailbox_names($site, $user);
        my @d = eval { differences($site, $user, contents => $case->{contents}) };
        no_differences("$user: both sides equal", @d, $@ ? $@ : ());
    }
    no_differences('an index made anew says the same', map { rebuilt_differs($_) }
        $last ? people() : (people())[$round % people()]);
    return;
}

# All steps of a theme, in ROUNDS kills, on a site of its own.
sub theme
{
    my ($theme, $n, $whom, %options) = @_;
    $site = CBTest::Site->new(users => [qw(alice frank)], options => { imap => \%options });
    $case = CBTest::Case->new(site => $site, user => 'alice', reader => 'frank');
    $site->{untouched} = 1;
    $case->{imap}->must(create => $_) for @folders[1 .. $#folders];
    my @steps = @{ [CBTest::Scenarios::steps_of($theme)] };
    my $total = @steps;
    for my $i (1 .. $n) {
        my @some = splice @steps, 0, int($total * $i / $n) - ($total - @steps);
        subtest "$theme, round $i" => sub { round($whom->[ $i % @{$whom} ], $i == $n, @some) };
    }
    memory_ok($site);
    $site->stop;
    return;
}

my @mostly = qw(server server master server client server server);
if ($ENV{CYRUS_BACKUPS_LONG}) {
    for my $pass (1 .. 2) {
        theme('Basic', 35, $_) for \@mostly, [qw(client master)];
        theme('Flags', 15, \@mostly);
        theme('Notes', 15, \@mostly);
    }
} else {
    theme('Basic', 20, \@mostly);
}
cmp_ok($hit, '>=', 0.6 * $rounds, "a sync was really hit ($hit of $rounds times)");
done_testing;
