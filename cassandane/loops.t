#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# No sequence of events makes a client ask for ever, and what comes out is what the master has.
# A model of a mail server is changed at random and replicated by a model of sync_client, of every
# version and in every mode, with connections cut and indexes lost on the way. After each burst of
# changes the client must come to rest within a few passes, and the backup must equal the model.
#
#     MODEL_SEED=17 MODEL_RUNS=1 prove loops.t      # one run again; a failing run says its seed
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state crc_differences);
use CBTest::Feed qw(message);
use CBTest::Model;
use CBTest::ModelClient;
use CBTest::Site;
use CBTest::Util qw(sha1_hex wait_until);
use Test::More;

my $RUNS = $ENV{MODEL_RUNS} // ($ENV{CYRUS_BACKUPS_LONG} ? 400 : 28);
my $SEED = $ENV{MODEL_SEED} // 1;
my $BURSTS = $ENV{MODEL_BURSTS} // 5;
my $PASSES = 6;    # to come to rest; one of them finds nothing to do
my @VERSIONS = (30, 32, 34, 36, 310, 312, 400);

my $site = CBTest::Site->new(roles => ['backup'], options => { backup => {
    backup_lock_wait => '5s', backup_error_pause => '1s' } });

# ---- one run --------------------------------------------------------------

sub pick { return $_[rand @_] }

sub start
{
    my ($seed) = @_;
    srand $seed;
    my $version = $VERSIONS[$seed % @VERSIONS];
    my @users = map { "s$seed$_" } qw(joe jim);
    my $m = CBTest::Model->new(prefix => "s${seed}x");
    my $run = { seed => $seed, version => $version, m => $m, users => \@users, count => 0, did => [],
        shared => ["s${seed}team", "s${seed}team.Old"], snapshots => {} };
    $run->{client} = CBTest::ModelClient->new(model => $m, version => $version,
        batch => $seed % 3 ? 0 : 4, connect => sub { $site->backup_csync });
    $m->create("user.$_") for @users;
    $m->create("user.$users[0].$_") for qw(Work Work.Deep Sent);
    $m->create("user.$users[1].Own");
    $m->create($_) for @{ $run->{shared} };
    append($run, $_, 1 + int rand 4) for $m->sorted;
    return $run;
}

sub append
{
    my ($run, $box, $n) = @_;
    for (1 .. $n) {
        my $r = $run->{m}->append($box, message("$run->{seed} " . ++$run->{count}, rand 3000),
            rand() < 0.3 ? '\\Seen' : ());
        if (rand() < 0.06) {
            $r->{missing} = 1;
            did($run, "$box->{name}: file of uid $r->{uid} is missing");
        }
    }
    did($run, "$box->{name}: $n more");
    return;
}

sub did { my ($run, $what) = @_; push @{ $run->{did} }, $what; return }

sub ordinary    # a mailbox that may be renamed and deleted
{
    my ($run) = @_;
    my @b = grep { $_->{name} =~ /^user\.[^.]+\../ } $run->{m}->sorted;
    return @b ? pick(@b) : undef;
}

sub new_name { my ($run) = @_; return 'user.' . pick(@{ $run->{users} }) . '.N' . int rand 5 }

my %events = (
    append => [8, sub { my ($run, $box) = @_; append($run, $box, 1 + int rand 4) }],
    copy => [2, sub {
        my ($run, $box) = @_;
        my @from = map { CBTest::Model::live($_) } $run->{m}->sorted or return;
        my $r = pick(grep { !$_->{missing} } @from) or return;
        $run->{m}->append($box, $run->{m}{bodies}{ $r->{guid} });
        did($run, "$box->{name}: copy of $r->{guid}");
    }],
    flags => [5, sub {
        my ($run, $box) = @_;
        for my $r (grep { rand() < 0.4 } CBTest::Model::live($box)) {
            $run->{m}->set_flags($box, $r, grep { rand() < 0.5 } qw(\\Seen \\Flagged $Label));
        }
        did($run, "$box->{name}: flags");
    }],
    expunge => [5, sub {
        my ($run, $box) = @_;
        $run->{m}->expunge($box, $_) for grep { rand() < 0.4 } CBTest::Model::live($box);
        did($run, "$box->{name}: expunge");
    }],
    forget => [4, sub {
        my ($run, $box) = @_;
        $run->{m}->forget($box);
        did($run, "$box->{name}: forget");
    }],
    rename => [4, sub {
        my ($run) = @_;
        my ($box, $to) = (ordinary($run) // return, new_name($run));
        return if $run->{m}->named($to);
        did($run, "$box->{name}: renamed to $to");
        $run->{m}->rename($box, $to);
    }],
    chain => [1, sub {    # B to C, A to B
        my ($run) = @_;
        my ($one, $two, $to) = (ordinary($run) // return, ordinary($run), new_name($run));
        return if $one == $two || $run->{m}->named($to);
        my $name = $one->{name};
        did($run, "$name to $to, $two->{name} to $name");
        $run->{m}->rename($one, $to);
        $run->{m}->rename($two, $name);
    }],
    swap => [1, sub {
        my ($run) = @_;
        my ($one, $two) = (ordinary($run) // return, ordinary($run));
        return if $one == $two || $run->{version} < 312;    # older ones cannot order it
        my @names = map { $_->{name} } $one, $two;
        did($run, "@names: swapped");
        $run->{m}->rename($one, "$names[0]tmp");
        $run->{m}->rename($two, $names[0]);
        $run->{m}->rename($one, $names[1]);
    }],
    delay => [2, sub {    # delayed deletion
        my ($run) = @_;
        my $box = ordinary($run) // return;
        did($run, "$box->{name}: to DELETED");
        $run->{m}->rename($box, sprintf 'DELETED.%s.%08X', $box->{name}, 1_700_000_000 + $run->{count}++);
    }],
    undelete => [1, sub {
        my ($run) = @_;
        my @gone = grep { $_->{name} =~ /^DELETED/ } $run->{m}->sorted or return;
        my ($box, $to) = (pick(@gone), new_name($run));
        return if $run->{m}->named($to);
        did($run, "$box->{name}: back as $to");
        $run->{m}->rename($box, $to);
    }],
    remove => [2, sub {
        my ($run) = @_;
        my @gone = grep { $_->{name} =~ /^DELETED/ } $run->{m}->sorted;
        my $box = pick(grep { defined } ordinary($run), @gone) // return;
        did($run, "$box->{name}: removed");
        $run->{m}->remove($box);
    }],
    recreate => [2, sub {
        my ($run) = @_;
        my $box = ordinary($run) // return;
        did($run, "$box->{name}: made anew");
        $run->{m}->remove($box);
        append($run, $run->{m}->create($box->{name}), 1 + int rand 3);
    }],
    create => [2, sub {
        my ($run) = @_;
        my $name = new_name($run);
        return if $run->{m}->named($name);
        did($run, "$name: made");
        append($run, $run->{m}->create($name), int rand 4);
    }],
    partition => [1, sub {
        my ($run, $box) = @_;
        $run->{m}->move($box, pick(qw(default ssd)));
        did($run, "$box->{name}: to partition $box->{partition}");
    }],
    snapshot => [3, sub {
        my ($run, $box) = @_;
        $run->{snapshots}{ $box->{uniqueid} } = CBTest::Model::snapshot($box);
        did($run, "$box->{name}: snapshot");
    }],
    restore => [2, sub {
        my ($run) = @_;
        my @ids = grep { $run->{m}{boxes}{$_} } sort keys %{ $run->{snapshots} } or return;
        my $id = pick(@ids);
        $run->{m}->restore($run->{m}{boxes}{$id}, $run->{snapshots}{$id});
        did($run, "$run->{m}{boxes}{$id}{name}: as it was");
        append($run, $run->{m}{boxes}{$id}, int rand 6) if rand() < 0.6;
    }],
    uidvalidity => [1, sub {
        my ($run, $box) = @_;
        $box->{uidvalidity} += pick(-3, 5, 7);
        $run->{m}->bump($box);
        did($run, "$box->{name}: UIDVALIDITY $box->{uidvalidity}");
    }],
    lose => [1, sub {
        my ($run, $box) = @_;
        my @live = CBTest::Model::live($box) or return;
        my $r = pick(@live);
        $r->{missing} = 1;
        did($run, "$box->{name}: file of uid $r->{uid} lost");
    }],
    stale => [1, sub {
        my ($run, $box) = @_;
        @{$box}{qw(crc_error stubborn)} = (1 + int rand 9999, rand() < 0.5);
        $run->{m}->bump($box);
        did($run, "$box->{name}: wrong checksum, " . ($box->{stubborn} ? 'for ever' : 'once'));
    }],
    rival => [2, sub {    # another master that has a mailbox of this name, or even the same one
        my ($run) = @_;
        my $box = ordinary($run) // return;
        my $other = CBTest::Model->new(prefix => "r$run->{seed}x");
        my $theirs = $other->create($box->{name});
        if (rand() < 0.4) {
            delete $other->{boxes}{ $theirs->{uniqueid} };
            $theirs = CBTest::Model::snapshot($box);
            $other->{boxes}{ $theirs->{uniqueid} } = $theirs;
            $other->{bodies} = { %{ $run->{m}{bodies} } };
        }
        $other->append($theirs, message("rival $run->{seed} " . ++$run->{count})) for 0 .. rand 3;
        my $client = CBTest::ModelClient->new(model => $other, version => pick(@VERSIONS),
            connect => sub { $site->backup_csync });
        delete $run->{client}{csync};    # one at a time
        $client->pass('mailboxes', $box->{name}) for 1 .. 2;
        $run->{client}{model}->note(MAILBOX => $box->{name});
        push @{ $run->{harm} }, @{ $client->{harm} };
        did($run, "$box->{name}: a rival " . ($theirs->{uniqueid} eq $box->{uniqueid} ? '(twin)' : ''));
    }],
    index => [2, sub {
        my ($run) = @_;
        delete $run->{client}{csync};
        my $owner = pick(@{ $run->{users} }, '%SHARED');
        my $file = $site->data_file($owner) // return;
        # whoever has it open is done with it first
        wait_until('connections to end', sub { !(() = glob "$site->{backup}{dir}/conf/proc/[0-9]*") });
        unlink map { "$file.index$_" } '', '-wal', '-shm';
        did($run, "index of $owner removed");
    }],
    cut => [3, sub {
        my ($run) = @_;
        @{ $run->{client} }{qw(cut cut_at)} = (1 + int rand 12, rand);
        did($run, "connection will be cut at command $run->{client}{cut}");
    }],
    sync => [3, sub {    # some of it is told at once, without waiting for quiet
        my ($run) = @_;
        one_pass($run, mode($run));
    }],
);
my @urn = map { ($_) x $events{$_}[0] } sort keys %events;

sub mode { my ($run) = @_; return pick(qw(user user mailboxes rolling rolling)) }

sub one_pass
{
    my ($run, $mode) = @_;
    my $c = $run->{client};
    my @names = map { $_->{name} } $run->{m}->sorted;
    my $ok = $c->pass($mode, $mode eq 'user' ? @{ $run->{users} } : $mode eq 'mailboxes' ? @names : ());
    $ok &= $c->pass('mailboxes', $_) & !@{ $c->{applied} } for $mode eq 'user' ? @{ $run->{shared} } : ();
    did($run, "pass $mode: " . ($ok ? 'ok' : 'failed'));
    return $ok && !@{ $c->{applied} };
}

# To rest in this mode: the number of passes, or 0.
sub to_rest
{
    my ($run, $mode) = @_;
    for my $n (1 .. $PASSES) {
        my $applied = 0;
        my $c = $run->{client};
        my @jobs = $mode eq 'user' ? (['user', @{ $run->{users} }], map { ['mailboxes', $_] } @{ $run->{shared} })
            : $mode eq 'mailboxes' ? (['mailboxes', map { $_->{name} } $run->{m}->sorted]) : (['rolling']);
        my $ok = 1;
        for my $job (@jobs) {
            $ok &= $c->pass(@{$job});
            $applied += @{ $c->{applied} };
        }
        did($run, "pass $mode: " . ($ok ? 'ok' : "failed: $c->{why}") . ", $applied applied") if !$ok || $applied;
        return $n if $ok && !$applied && !@{ $run->{m}{log} } || $ok && !$applied && $mode ne 'rolling';
    }
    return 0;
}

# ---- comparison ------------------------------------------------------------

sub stored
{
    my ($box) = @_;
    return ("name $box->{mboxname}", "uidvalidity $box->{uidvalidity}", "last_uid $box->{last_uid}",
        "highestmodseq $box->{highestmodseq}", "partition $box->{partition}",
        map { "uid $_->{uid} $_->{modseq} $_->{guid} (" . join(' ', sort @{ $_->{flags} }) . ')' }
        grep { !$_->{expunged} } @{ $box->{records} });
}

sub compare
{
    my ($run) = @_;
    my $m = $run->{m};
    my @d = @{ $run->{harm} // [] };
    push @d, @{ $run->{client}{harm} };
    my $csync = $site->backup_csync;
    for my $owner (@{ $run->{users} }, '%SHARED') {
        my $state = backup_state($site, $owner);
        my %is = map { $_->{uniqueid} => $_ } @{ $state->{mailboxes} };
        for my $box (grep { (CBTest::Model::owner_of($_->{name}) // '%SHARED') eq $owner } $m->sorted) {
            my $b = delete $is{ $box->{uniqueid} };
            my $want = join "\n", CBTest::Model::content($box);
            my $got = $b ? join "\n", stored($b) : 'nothing';
            push @d, "$box->{name} ($box->{uniqueid}):\nmaster has\n$want\nbackup has\n$got" if $got ne $want;
            push @d, "$box->{name}: mark $b->{mark}" if $b && $b->{mark};
            push @d, contents($m, $csync, $box);
            push @d, crc_differences({ mailboxes => [$b] }) if $b && !$box->{crc_error};
        }
        # what went to somebody else may live on where nobody said so
        push @d, map { "$_->{mboxname} of $owner is alive in the backup only" }
            grep { $owner ne '%SHARED' && !$m->{boxes}{ $_->{uniqueid} } } values %is;
    }
    return @d;
}

# Every message by the wire, and one by cyr_backup.
sub contents
{
    my ($m, $csync, $box) = @_;
    my @d;
    my @live = grep { !$_->{missing} } CBTest::Model::live($box);
    for my $r (@live) {
        my $got = $csync->command("GET FETCH %(MBOXNAME $box->{name} PARTITION default UNIQUEID"
            . " $box->{uniqueid} GUID $r->{guid} UID $r->{uid})");
        my $want = "MESSAGE %{default $r->{guid} $r->{size}}\r\n$m->{bodies}{ $r->{guid} }";
        push @d, "$box->{name}: content of uid $r->{uid} $r->{guid}: $got->{text}"
            if "@{ $got->{lines} }" ne $want;
    }
    my $owner = CBTest::Model::owner_of($box->{name}) // '%SHARED';
    if (@live && rand() < 0.1) {
        my $r = pick(@live);
        my $dump = $site->cyr_backup($owner, 'dump', 'message', $r->{guid});
        push @d, "dump of $r->{guid} in $box->{name}" if sha1_hex($dump->{out}) ne $r->{guid};
    }
    return @d;
}

# ---- all of it -----------------------------------------------------------------

my %most;
for my $seed ($SEED .. $SEED + $RUNS - 1) {
    my $run = start($seed);
    my @wrong;
    for my $burst (1 .. $BURSTS) {
        did($run, "---- burst $burst");
        if ($burst > 1) {
            for (1 .. 1 + int rand 7) {
                my @boxes = $run->{m}->sorted;
                $events{ pick(@urn) }[1]->($run, pick(@boxes));
            }
        }
        delete $run->{client}{cut} if $burst == 1;
        my $mode = mode($run);
        my $n = to_rest($run, $mode);
        push @wrong, "no rest in mode $mode" if !$n;
        $most{$mode} = $n if $n > ($most{$mode} // 0);
        # only units of USER and the log say what has gone
        if ($mode ne 'user') {
            $n = to_rest($run, 'user');
            push @wrong, "no rest in mode user after $mode" if !$n;
            $most{'then user'} = $n if $n > ($most{'then user'} // 0);
        }
        push @wrong, compare($run) if !@wrong;
        last if @wrong;
    }
    ok(!@wrong, "seed $seed, version $run->{version}") or diag(map { "$_\n" } @wrong, @{ $run->{did} },
        $ENV{MODEL_TRACE} ? @{ $run->{client}{trace} } : 'MODEL_TRACE=1 shows the conversation');
}
note("most passes to rest in mode $_: $most{$_}") for sort keys %most;
done_testing;
