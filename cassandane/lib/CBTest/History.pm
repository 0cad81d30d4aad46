# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::History - lives of users (CBTest::Life), backed up as they go on, with maintenance of the
# backups thrown in; what the backup says of the past is compared with what the mail server said
# then (CBTest::Snapshot, CBTest::Timeline). What timetravel*.t are made of.
package CBTest::History;
use strict;
use warnings;
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Life;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Server qw(by_imap);
use CBTest::Site;
use CBTest::Snapshot;
use CBTest::Timeline;
use CBTest::Util qw(sha1_hex);
use Test::More;

my $DAY = 86400;
my $RETENTION = 3 * $DAY;
my $TIMES = 50;    # seconds that are looked at before and after each step of maintenance

# Runs with the seeds FIRST .. on one site. Keys: first, runs, immediate (the server deletes at once).
sub run
{
    my (%o) = @_;
    my $first = $ENV{HISTORY_SEED} // $o{first};
    my $runs = $ENV{HISTORY_RUNS} // ($ENV{CYRUS_BACKUPS_LONG} ? 10 * $o{runs} : $o{runs});
    my $mode = $o{immediate} ? 'immediate' : 'delayed';
    my $site = CBTest::Site->new(clock => 1, options => {
        imap => { delete_mode => $mode, expunge_mode => $mode },
        backup => { backup_retention => '3d', 'backuppartition-second' => '%dir%/part2',
            backup_chunk_size => '16K', backup_compact_minsize => 8, backup_compact_maxsize => 64 } });
    for my $seed ($first .. $first + $runs - 1) {
        subtest "HISTORY_SEED=$seed" => sub { one($site, $seed, $o{immediate}) };
    }
    memory_ok($site);
    $site->stop;
    return;
}

sub one
{
    my ($site, $seed, $immediate) = @_;
    srand $seed;
    my $user = "s$seed";
    $site->add_user($user);
    $site->create_mailboxes($user);
    my $h = bless {
        site => $site, user => $user, clock => $site->{clock}, map({ ($_ => 0) } qw(synced killed compacted cut)),
        life => CBTest::Life->new(site => $site, user => $user, at_once => $immediate),
        snapshot => CBTest::Snapshot->new($site, $user),
        timeline => CBTest::Timeline->new(site => $site, user => $user),
    }, __PACKAGE__;
    my $ok = eval { $h->live($ENV{HISTORY_OPS} // 200); $h->last_look; 1 };
    ok($ok, 'everything could be done') or diag($@);
    diag(join "\n", "what happened to $user:", @{ $h->{life}{did} }) unless Test::More->builder->is_passing;
    delete $site->{clients}{$user};
    return;
}

sub did { my ($h, $what) = @_; push @{ $h->{life}{did} }, sprintf '== %d: %s', $h->{clock}->now, $what; return }

# ---- changes and syncs -----------------------------------------------------------------------

# At least two seconds, so that it is clear what came before and what after.
sub time_passes
{
    my ($h) = @_;
    my $dice = rand;
    $h->{clock}->advance(2 + int rand($dice < 0.6 ? 900 : $dice < 0.85 ? $DAY / 3 : 1.3 * $DAY));
    return;
}

sub live
{
    my ($h, $operations) = @_;
    my @maintenance = $h->maintenance_plan;
    my $every = int($operations / (@maintenance + 1));
    $h->{life}->act for 1 .. 5;
    $h->sync;
    for (my $done = 5; $done < $operations;) {
        my $n = rand() < 0.3 ? 1 : 2 + int rand 4;
        $h->{life}->act for 1 .. $n;
        $done += $n;
        $h->time_passes;
        $h->sync;
        $h->full_look if rand() < 0.05;
        while (@maintenance && $done >= $every * ($#{ $h->{plan} } + 2 - @maintenance)) {
            $h->maintain(shift @maintenance);
        }
    }
    $h->maintain($_) for @maintenance;
    return;
}

# What the server has is in the backup after this.
sub sync
{
    my ($h) = @_;
    my ($site, $timeline) = @{$h}{qw(site timeline)};
    $timeline->begins;
    $h->killed_sync if $h->{synced} && rand() < 0.12;
    my $r = $site->sync('unix', '-u', $h->{user});
    die "sync: exit $r->{rc}: $r->{out}$r->{err}\n" if $r->{rc} != 0;
    $h->{synced}++;
    $timeline->ended($h->{snapshot}->take($h->{life}));
    $h->did('synced, state ' . $#{ $timeline->{states} });
    return;
}

# A sync that is interrupted by SIGKILL for backupd, if it lasts so long.
sub killed_sync
{
    my ($h) = @_;
    my $site = $h->{site};
    $site->{relay}->set_trip(1 + int rand 5000, $site->{backup}{pid}, rand() < 0.3 ? rand 0.03 : 0, 'server');
    $site->sync('proxy', '-u', $h->{user});
    my $hit = !$site->{relay}->clear_trip;
    $h->{killed} += $hit;
    $h->did($hit ? 'backupd killed in a sync' : 'sync before it could be killed');
    $h->{clock}->advance(2 + int rand 100) if rand() < 0.5;
    return;
}

# The cheap snapshot is what a full one says.
sub full_look
{
    my ($h) = @_;
    is_deeply($h->{timeline}->current, by_imap($h->{site}, $h->{user}), 'bookkeeping is right')
        or die "snapshots are wrong\n";
    return;
}

# ---- maintenance -------------------------------------------------------------------------------

my %STEPS = (
    compact => sub { my ($h) = @_; return $h->compact },
    'compact -F' => sub { my ($h) = @_; return $h->compact('-F') },
    'compact killed' => sub {
        my ($h) = @_;
        $h->{cut} += !!$h->{site}->killed_ctl_backups(0.005 + rand 0.06, '-F', 'compact', $h->{user});
        return;
    },
    verify => sub { my ($h) = @_; return $h->ctl('verify') },
    reindex => sub { my ($h) = @_; return $h->ctl('reindex') },
    move => sub {
        my ($h) = @_;
        my $to = $h->{site}->data_file($h->{user}) =~ m{/part2/} ? 'default' : 'second';
        my $where = $to eq 'second' ? qr{/part2/} : qr{/part/};
        return ($h->ctl("--to=$to", 'move'),
            $h->{site}->data_file($h->{user}) =~ $where ? () : "the data file is not in partition $to");
    },
    'index deleted' => sub {
        my ($h) = @_;
        my @files = glob $h->{site}->data_file($h->{user}) . '.index*';
        return unlink(@files) == @files ? () : "cannot remove @files";
    },
    'backups.db deleted' => sub {
        my ($h) = @_;
        unlink "$h->{site}{backup}{dir}/conf/backups.db" or return "backups.db: $!";
        my $r = $h->{site}->ctl_backups('reconstruct');
        return $r->{rc} == 0 ? () : "reconstruct: exit $r->{rc}: $r->{out}$r->{err}";
    },
);

# A forced compaction, and five of the others, in any order; and at last, when much has become old,
# another compaction.
sub maintenance_plan
{
    my ($h) = @_;
    my @names = grep { $_ ne 'compact -F' } sort keys %STEPS;
    my @plan = ('compact -F', splice @{ shuffled(@names) }, 0, 5);
    $h->{plan} = [grep { $_ =~ ($ENV{HISTORY_STEPS} // '.') } @{ shuffled(@plan) }, 'compact -F'];
    return @{ $h->{plan} };
}

sub shuffled { return [map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [rand, $_] } @_] }

sub ctl
{
    my ($h, @args) = @_;
    my $r = $h->{site}->ctl_backups(@args, $h->{user});
    return $r->{rc} == 0 && $r->{out} =~ /: ok$/m ? () : "@args: exit $r->{rc}: $r->{out}$r->{err}";
}

# Without -F it may say that it is not worth while.
sub compact
{
    my ($h, @force) = @_;
    my $begun = $h->{clock}->now;
    my $r = $h->{site}->ctl_backups(@force, 'compact', $h->{user});
    my $word = $r->{out} =~ /: (ok|skipped)\b/ ? $1 : '';
    $h->did("compact @force: $word");
    return "compact @force: exit $r->{rc}: $r->{out}$r->{err}" unless $word eq 'ok' ? $r->{rc} == 0 : $word && !@force;
    $h->{compacted}++ if $word eq 'ok';
    return $word eq 'ok' ? $h->{timeline}->window_differences($begun, $RETENTION) : ();
}

# One step; what as-of says of the window is right before and after.
sub maintain
{
    my ($h, $name) = @_;
    my ($site, $timeline) = @{$h}{qw(site timeline)};
    my @times = $timeline->seconds($h->{clock}->now - $RETENTION, $TIMES);
    no_differences("$name: all is right before", $timeline->differences(@times), $h->outside);
    $h->did($name);
    no_differences("$name: done", $STEPS{$name}->($h));
    # the window may have moved on by the time that it took
    @times = grep { $_ >= $h->{clock}->now - $RETENTION } @times;
    no_differences("$name: all is right after", $timeline->differences(@times), $h->outside);
    $h->idle_sync($name) if rand() < 0.5;
    return;
}

# Seconds before the window and before everything: the truth, or that it is not known any more.
sub outside
{
    my ($h) = @_;
    my $timeline = $h->{timeline};
    my $window = $h->{clock}->now - $RETENTION;
    my @times = grep { $_ < $window } $timeline->seconds(0, 10);
    my %once = map { $_ => 1 } @times, $timeline->{begun} - 1000;
    my $said = $timeline->ask(sort keys %once);
    my @d;
    for my $t (sort keys %once) {
        my $s = $said->{$t};
        if ($s->{rc} != 0) {
            push @d, "at $t, not known any more: exit $s->{rc}: $s->{out}$s->{err}"
                unless $s->{rc} == 75 && $s->{out} eq '' && $s->{err} =~ /\bhistory\b/;
        } elsif ($t < $timeline->{begun}) {
            push @d, "at $t, before everything: " . substr $s->{out}, 0, 200;
        } else {
            push @d, $timeline->differs($t, $s);
        }
    }
    return @d;
}

# Nothing has changed, so nothing is sent and nothing written.
sub idle_sync
{
    my ($h, $after) = @_;
    $h->time_passes;
    my $file = $h->{site}->data_file($h->{user});
    my $size = -s $file;
    $h->{timeline}->begins;
    my $r = $h->{site}->sync('unix', '-u', $h->{user});
    $h->{timeline}->ended($h->{snapshot}->take($h->{life}));
    is("exit $r->{rc}, " . (-s $file) . ' bytes', "exit 0, $size bytes", "$after: the next sync has nothing to say");
    return;
}

# At last the present state in every respect, and that there is nothing of anybody else.
sub last_look
{
    my ($h) = @_;
    my ($site, $user) = @{$h}{qw(site user)};
    $h->full_look;
    no_differences('both sides equal', differences($site, $user, contents => 'datafile', compacted => 1));
    my %sent = map { (sha1_hex($_) => 1) } @{ $h->{life}{sent} };
    no_differences('nothing but what this user got', grep { !$sent{$_} } sort keys %{ $h->{timeline}->contents });
    no_differences('verify', $h->ctl('verify'));
    note(sprintf '%s: %d syncs, %d killed, %d compactions, %d killed', $user, $h->{synced}, $h->{killed},
        $h->{compacted}, $h->{cut});
    return;
}

1;
