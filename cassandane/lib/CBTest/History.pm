# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::History - lives of users (CBTest::Life), backed up as they go on, with maintenance of the
# backups thrown in (CBTest::Upkeep); what the backup says of the past is compared with what the
# mail server said then (CBTest::Snapshot, CBTest::Timeline, CBTest::Story). What timetravel*.t are
# made of.
package CBTest::History;
use strict;
use warnings;
use CBTest::Compare qw(differences);
use CBTest::Life;
use CBTest::LifeShared;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Server qw(by_imap is_shared mailbox_names);
use CBTest::Site;
use CBTest::Snapshot;
use CBTest::Timeline;
use CBTest::Upkeep qw(ctl plan_upkeep upkeep);
use CBTest::Util qw(sha1_hex);
use Test::More;

my $DAY = 86400;
my $RETENTION = 3 * $DAY;

# How changes are brought to the backup: what sync_client is started with, one run after the other;
# shared: mailboxes of nobody, too; without: what is not told this way, or not always; again: how often it
# may have to be run, as the rolling log of a run that failed is worked off by a run of its own; partly: only what
# has changed is compared; former: what becomes of the backup of a user who has another name now; daemon: for
# part of the time sync_client runs as a daemon.
my %MODES = (
    user => { how => sub { my ($h) = @_; return ['-u', users($h)] }, former => 'kept' },
    # -m never tells that a mailbox is gone, but for its new name when the deleted are kept
    mailboxes => { how => sub { my ($h) = @_; return (['-m', all_names($h)], ['-s', users($h)]) }, shared => 1,
        without => { quota => 1 }, delayed => 1 },
    # nor does -A of those of nobody
    all => { how => sub { return ['-A'] }, shared => 'delayed', former => 'kept' },
    # UNMAILBOX in the log is passed over if there is another mailbox of that name: so one that was renamed
    # before is not told to be gone, under its old name
    rolling => { how => sub { return ['-R', '-1'] }, shared => 1, channel => 'proxy', again => 3,
        without => { quota => 1, renamed => 1 },
        partly => 1, former => 'gone', daemon => 1 },
);

# Runs with the seeds FIRST .. on one site. Keys: first, runs, immediate (the server deletes at once).
sub run
{
    my (%o) = @_;
    my @seeds = seeds(%o);
    my $site = site($o{immediate});
    for my $seed (@seeds) {
        subtest "HISTORY_SEED=$seed" => sub { one($site, $seed, mode => 'user', users => ["s$seed"], %o) };
    }
    memory_ok($site);
    $site->stop;
    return;
}

# The same with several users and shared mailboxes, in all modes in turn, first with a server that deletes
# at once, then with one that does not. A site for each, as shared mailboxes stay.
sub run_crowds
{
    my (%o) = @_;
    for my $seed (seeds(%o)) {
        my $mode = $ENV{HISTORY_MODE} // (qw(all rolling mailboxes user))[$seed % 4];
        my $immediate = $seed / 4 % 2 && !$MODES{$mode}{delayed};
        subtest "HISTORY_SEED=$seed, $mode" . ($immediate ? ', immediate' : '') => sub {
            my $site = site($immediate);
            one($site, $seed, mode => $mode, users => ["a$seed", "b$seed"], immediate => $immediate);
            memory_ok($site);
            $site->stop;
        };
    }
    return;
}

sub seeds
{
    my (%o) = @_;
    my $first = $ENV{HISTORY_SEED} // $o{first};
    my $runs = $ENV{HISTORY_RUNS} // ($ENV{CYRUS_BACKUPS_LONG} ? 10 * $o{runs} : $o{runs});
    return $first .. $first + $runs - 1;
}

sub site
{
    my ($immediate) = @_;
    my $how = $immediate ? 'immediate' : 'delayed';
    return CBTest::Site->new(clock => 1, options => {
        imap => { delete_mode => $how, expunge_mode => $how },
        backup => { backup_retention => '3d', 'backuppartition-second' => '%dir%/part2',
            backup_chunk_size => '16K', backup_compact_minsize => 8, backup_compact_maxsize => 64 } });
}

sub one
{
    my ($site, $seed, %o) = @_;
    srand $seed;
    my $mode = $MODES{ $o{mode} };
    my $h = bless { site => $site, clock => $site->{clock}, retention => $RETENTION, mode => $mode, did => [],
        people => [], former => [], map({ ($_ => 0) } qw(synced rolled killed compacted cut)) }, __PACKAGE__;
    for my $user (@{ $o{users} }) {
        $site->add_user($user);
        $site->create_mailboxes($user);
        $h->person(CBTest::Life->new(site => $site, user => $user, at_once => $o{immediate}, without => $mode->{without}));
    }
    $h->person(CBTest::LifeShared->new(site => $site, at_once => $o{immediate}, without => $mode->{without}))
        if ($mode->{shared} // '') eq 'delayed' ? !$o{immediate} : $mode->{shared};
    my $ok = eval { $h->live($ENV{HISTORY_OPS} // 200); $h->last_look; 1 };
    ok($ok, 'everything could be done') or diag($@);
    $site->kill_rolling($h->{daemon}) if $h->{daemon};
    diag(join "\n", 'what happened:', @{ $h->{did} }) unless Test::More->builder->is_passing;
    delete @{ $site->{clients} }{ @{ $o{users} } };
    return;
}

# Somebody who has a backup.
sub person
{
    my ($h, $life) = @_;
    my ($site, $user) = ($h->{site}, $life->{user});
    push @{ $h->{people} }, { user => $user, life => $life, snapshot => CBTest::Snapshot->new($site, $user),
        timeline => CBTest::Timeline->new(site => $site, user => $user) };
    return;
}

sub did { my ($h, $what) = @_; push @{ $h->{did} }, sprintf '== %d: %s', $h->{clock}->now, $what; return }

# ---- changes and syncs -----------------------------------------------------------------------

# At least two seconds, so that it is clear what came before and what after.
sub time_passes
{
    my ($h) = @_;
    my $dice = rand;
    $h->{clock}->advance(2 + int rand($dice < 0.6 ? 900 : $dice < 0.85 ? $DAY / 3 : 1.3 * $DAY));
    return;
}

# So many changes, of anybody.
sub act
{
    my ($h, $n) = @_;
    for (1 .. $n) {
        my $p = $h->anybody;
        push @{ $h->{did} }, (@{ $h->{people} } > 1 ? "$p->{user}: " : '') . $p->{life}->act;
    }
    return;
}

# A user gets another name. The past stays where it is, in the backup of the old one.
sub rename_user
{
    my ($h) = @_;
    my $site = $h->{site};
    my ($p) = grep { !is_shared($_->{user}) } @{ $h->{people} };
    my ($from, $to) = ($p->{user}, "$p->{user}x");
    $site->add_user($to);
    delete $site->{clients}{$from};
    $site->admin->must(rename => map { $site->names->for_admin($site->names->inbox($_)) } $from, $to);
    push @{ $h->{former} }, $p;
    $h->{people} = [grep { $_ != $p } @{ $h->{people} }];
    $h->person($p->{life});
    $p->{life}{user} = $to;
    $p->{life}->login;
    $p->{life}{renamed} = { %{ $p->{life}{folders} } };
    $h->{people}[-1]{user} = $to;
    $h->{people}[-1]{$_}{user} = $to for qw(snapshot timeline);
    $h->did("$from is called $to now");
    return;
}

# What the backup of somebody under a former name has to say now: the log tells of the end of the user,
# and with him goes what he had deleted.
sub former_state
{
    my ($h, $p) = @_;
    return $p->{timeline}->current if $h->{mode}{former} eq 'kept';    # nobody told it
    return { mailboxes => {}, subscriptions => [], visible => {}, quota => {}, sieve => {} };
}

sub anybody { my ($h) = @_; return $h->{people}[rand @{ $h->{people} }] }

sub live
{
    my ($h, $operations) = @_;
    my @upkeep = plan_upkeep();
    my ($steps, $done) = (scalar @upkeep, 5 * @{ $h->{people} });
    $h->act($done);
    $h->sync(0);
    my $renamed = @{ $h->{people} } == 1 || !$h->{mode}{former};
    while ($done < $operations) {
        $h->daemon_or_not if $h->{mode}{daemon};
        $h->time_passes if $h->{daemon};
        $h->sync_begins if $h->{daemon};
        $h->rename_user if !$renamed && $done > $operations / 2 && ++$renamed;
        my $n = $h->{daemon} ? 8 + int rand 16 : rand() < 0.3 ? 1 : 2 + int rand 4;
        $h->set_trip if $h->{daemon} && rand() < 0.25;
        $h->act($n);
        $done += $n;
        $h->time_passes unless $h->{daemon};
        $h->sync(0.12);
        $h->full_look($h->anybody) if rand() < 0.05;
        while (@upkeep && $done >= int($operations / ($steps + 1)) * ($steps + 1 - @upkeep)) {
            upkeep($h, $h->anybody, shift @upkeep);
        }
    }
    upkeep($h, $h->anybody, $_) for @upkeep;
    upkeep($h, $_, 'compact -F') for grep { $_->{damaged} } @{ $h->{people} };
    return;
}

# What the server has is in the backup after this. A chance that it is tried before, and killed; WHOLE: everything
# must be compared.
sub sync
{
    my ($h, $chance, $whole) = @_;
    my ($site, $mode) = @{$h}{qw(site mode)};
    $h->sync_begins;
    my @how = ($h->{daemon} ? () : $mode->{how}->($h), $whole && $mode->{partly} ? ['-A'] : ());
    $h->wait_daemon if $h->{daemon};
    $h->killed_sync(@how) if !$h->{daemon} && $h->{synced} && rand() < $chance;
    for my $how (@how) {
        my $r;
        for (1 .. $mode->{again} // 1) {
            $r = $site->sync($mode->{channel} // 'unix', @{$how});
            last unless $mode->{again} && CBTest::Scenarios::log_left($site);
        }
        die "sync @{$how}: exit $r->{rc}: $r->{out}$r->{err}\n" if $r->{rc} != 0;
    }
    $h->{synced}++;
    for my $p (@{ $h->{people} }) {
        $p->{timeline}->ended($p->{snapshot}->take($p->{life}), $h->{daemon});
        $p->{life}{renamed} = {};
    }
    $_->{timeline}->ended($h->former_state($_), $h->{daemon}) for @{ $h->{former} };
    $h->did('synced, state ' . $#{ $h->{people}[0]{timeline}{states} });
    return;
}

# What is changed from now on may come to the backup.
sub sync_begins { my ($h) = @_; $_->{timeline}->begins for @{ $h->{people} }, @{ $h->{former} }; return }

# Some bytes from now on backupd is killed.
sub set_trip
{
    my ($h) = @_;
    my $site = $h->{site};
    $site->{relay}->set_trip(1 + int rand 5000, $site->{backup}{pid}, rand() < 0.3 ? rand 0.03 : 0, 'server');
    $h->{trip} = 1;
    return;
}

# A sync that is interrupted by SIGKILL for backupd, if it lasts so long.
sub killed_sync
{
    my ($h, $how) = @_;
    my $site = $h->{site};
    $h->set_trip;
    delete $h->{trip};
    $site->sync('proxy', @{$how});
    my $hit = !$site->{relay}->clear_trip;
    $h->{killed} += $hit;
    $h->did($hit ? 'backupd killed in a sync' : 'sync before it could be killed');
    $h->{clock}->advance(2 + int rand 100) if rand() < 0.5;
    return;
}

# sync_client -r is there for some syncs: what is changed then is synchronised while that goes on.
sub daemon_or_not
{
    my ($h) = @_;
    my $site = $h->{site};
    return if rand() > ($h->{daemon} ? 0.25 : 0.15);
    if ($h->{daemon}) {
        my $rc = $site->stop_rolling(delete $h->{daemon});
        die "sync_client -r: exit $rc\n" if $rc != 0;
    } else {
        $h->{daemon} = $site->start_rolling($h->{mode}{channel});
    }
    $h->did('sync_client -r ' . ($h->{daemon} ? 'begins' : 'ends'));
    return;
}

# Until it has told everything. If backupd was killed beneath it, it would wait for a long time before it
# tries again; another one in its place does that at once.
sub wait_daemon
{
    my ($h) = @_;
    my ($site, $daemon) = @{$h}{qw(site daemon)};
    if (delete $h->{trip}) {
        CBTest::Util::wait_until('the daemon', sub { $site->{relay}->is_tripped || $site->is_rolled($daemon) }, 60);
        my $hit = !$site->{relay}->clear_trip;
        $h->{killed} += $hit;
        $h->did($hit ? 'backupd killed under sync_client -r' : 'sync_client -r had nothing more to say before');
        if ($hit) {
            $site->kill_rolling($daemon);
            $daemon = $h->{daemon} = $site->start_rolling($daemon->{channel});
        }
    }
    $site->wait_rolling($daemon);
    $h->{rolled}++;
    return;
}

sub users { my ($h) = @_; return grep { !is_shared($_) } map { $_->{user} } @{ $h->{people} } }

# As -m wants them: what is there, and what was there at the last sync.
sub all_names
{
    my ($h) = @_;
    my ($site, %names) = ($h->{site});
    for my $p (@{ $h->{people} }) {
        my $last = $p->{timeline}{states}[-1];
        $names{$_} = 1 for mailbox_names($site, $p->{user}), keys %{ $last ? $last->{state}{mailboxes} : {} };
    }
    return map { $site->names->for_admin($_) } sort keys %names;
}

# The cheap snapshot is what a full one says.
sub full_look
{
    my ($h, $p) = @_;
    is_deeply($p->{timeline}->current, by_imap($h->{site}, $p->{user}), 'bookkeeping is right')
        or die "snapshots are wrong\n";
    return;
}

# ---- the end -------------------------------------------------------------------------------------

# At last the present state in every respect, and that there is nothing of anybody else.
sub last_look
{
    my ($h) = @_;
    for my $p (@{ $h->{people} }) {
        my $user = $p->{user};
        $h->full_look($p);
        no_differences("$user: both sides equal", differences($h->{site}, $user, contents => 'datafile', compacted => 1,
            skip => $h->{mode}{without} // {}));
        my %sent = map { (sha1_hex($_) => 1) } @{ $p->{life}{sent} };
        no_differences("$user: nothing but what this user got",
            grep { !$sent{$_} } sort keys %{ $p->{timeline}->contents });
        no_differences("$user: verify", ctl($h, $p, 'verify'));
        no_differences("$user: list, show and dump", map { CBTest::Story::shown_otherwise($p->{timeline}, $_) }
            $p->{timeline}->seconds($h->{clock}->now - $h->{retention}, 3));
    }
    note(sprintf '%s: %d syncs, %d of a daemon, %d killed, %d compactions, %d other runs killed',
        join(', ', map { $_->{user} } @{ $h->{people} }), @{$h}{qw(synced rolled killed compacted cut)});
    return;
}

1;
