# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Upkeep - what is done to backups between the syncs of a CBTest::History: compactions,
# moves, new indexes, damage and its repair, and so on; and that before and after each of them
# everything is told of the past as it was.
package CBTest::Upkeep;
use strict;
use warnings;
use CBTest::Damage;
use CBTest::Scenarios qw(no_differences);
use CBTest::Server qw(is_shared);
use CBTest::Story;
use CBTest::Util qw(slurp);
use Exporter 'import';
use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use Test::More;
our @EXPORT_OK = qw(plan_upkeep upkeep ctl);

# How a member begins that does not continue a line: with a comment, and the time of its first line.
my $FIRST_LINE = qr/\A# [^\n]*\n(\d+) /;
my $TIMES = 50;    # seconds that are looked at before and after each step

# Each gets the history and the person whose backup it is, and returns what went wrong.
my %STEPS = (
    compact => sub { return compact(@_) },
    'compact -F' => sub { return compact(@_, '-F') },
    killed => sub {
        my ($h, $p) = @_;
        my $verb = ([qw(-F compact)], [qw(-F compact)], ['verify'], ['reindex'],
            [$h->{site}->data_file($p->{user}) =~ m{/part2/} ? '--to=default' : '--to=second', 'move'])[rand 5];
        my $alive = $h->{site}->killed_ctl_backups(0.005 + rand 0.06, @{$verb}, $p->{user});
        $h->{cut} += !!$alive;
        $h->did("@{$verb} $p->{user}: " . ($alive ? 'killed' : 'done before it could be killed'));
        return;
    },
    verify => sub { return ctl(@_, 'verify') },
    reindex => sub { return ctl(@_, 'reindex') },
    move => sub {
        my ($h, $p) = @_;
        my $file = sub { return $h->{site}->data_file($p->{user}) };
        my ($to, $where) = $file->() =~ m{/part2/} ? ('default', qr{/part/}) : ('second', qr{/part2/});
        return (ctl($h, $p, "--to=$to", 'move'),
            $file->() =~ $where ? () : "the data file is not in partition $to");
    },
    'index deleted' => sub {
        my ($h, $p) = @_;
        my @files = glob $h->{site}->data_file($p->{user}) . '.index*';
        return unlink(@files) == @files ? () : "cannot remove @files";
    },
    'backups.db deleted' => sub {
        my ($h) = @_;
        unlink "$h->{site}{backup}{dir}/conf/backups.db" or return "backups.db: $!";
        my $alive = $h->{site}->killed_ctl_backups(0.005 + rand 0.04, 'reconstruct');
        $h->{cut} += !!$alive;
        $h->did('reconstruct: ' . ($alive ? 'killed' : 'done before it could be killed'));
        my $r = $h->{site}->ctl_backups('reconstruct');
        return $r->{rc} == 0 ? () : "reconstruct: exit $r->{rc}: $r->{out}$r->{err}";
    },
    'deleted and brought back' => sub {
        my ($h, $p) = @_;
        return (ctl($h, $p, 'delete'),
            $h->{site}->data_file($p->{user}) ? 'the data file is still there' : (), ctl($h, $p, 'undelete'));
    },
    'renamed and back' => sub {
        my ($h, $p) = @_;
        my ($user, $timeline) = @{$p}{qw(user timeline)};
        return if is_shared($user);
        $h->{clock}->advance(2);
        $timeline->begins;    # it is another's for a moment
        my @d = map {
            my $r = $h->{site}->ctl_backups('rename', @{$_});
            $r->{rc} == 0 ? () : "rename @{$_}: exit $r->{rc}: $r->{out}$r->{err}";
        } [$user, "$user-later"], ["$user-later", $user];
        $timeline->ended($timeline->current);
        return @d;
    },
    damaged => sub { return damaged(@_) },
);

# Names of a forced compaction and five of the others, in any order; and at last, when much has
# become old, of another compaction.
sub plan_upkeep
{
    my @names = grep { $_ ne 'compact -F' } sort keys %STEPS;
    my @plan = ('compact -F', splice @{ shuffled(@names) }, 0, 5);
    return ((grep { $_ =~ ($ENV{HISTORY_STEPS} // '.') } @{ shuffled(@plan) }), 'compact -F');
}

sub shuffled { return [map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [rand, $_] } @_] }

sub ctl
{
    my ($h, $p, @args) = @_;
    my $r = $h->{site}->ctl_backups(@args, $p->{user});
    # a damaged place is still there when all is well again
    my $ok = $p->{damaged} ? qr/: ok(?: \(\d+ places cannot be read\))?$/m : qr/: ok$/m;
    return $r->{rc} == 0 && $r->{out} =~ $ok ? () : "@args: exit $r->{rc}: $r->{out}$r->{err}";
}

# Without -F it may say that it is not worth while.
sub compact
{
    my ($h, $p, @force) = @_;
    my $begun = $h->{clock}->now;
    my $r = $h->{site}->ctl_backups(@force, 'compact', $p->{user});
    my $word = $r->{out} =~ /: (ok|skipped)\b/ ? $1 : '';
    # what verify has found unreadable is left behind, and told to be somewhere else
    ($word, $r->{rc}) = ('ok', 0) if delete $p->{damaged} && $r->{rc} == 75
        && $r->{out} =~ /: failed \(compacted, but not all could be read: see (\S+)\)$/m && -s $1;
    $h->did("compact @force $p->{user}: $word");
    return "compact @force: exit $r->{rc}: $r->{out}$r->{err}" unless $word eq 'ok' ? $r->{rc} == 0 : $word && !@force;
    $h->{compacted}++ if $word eq 'ok';
    # when nothing is left of a user who is gone, the backup goes
    return map { "$p->{user}: the backup is gone, and state $_->{number} is in the window" }
        grep { %{ $_->{state}{mailboxes} } } $p->{timeline}->since($begun - $h->{retention})
        if !$h->{site}->data_file($p->{user});
    return $word eq 'ok' ? $p->{timeline}->window_differences($begun, $h->{retention}) : ();
}

# A byte of the data file is another one. verify finds that, the next sync brings what the server
# still has, and then all is well again, but for what only the lost chunk said of what has passed
# since: that is not known any more.
sub damaged
{
    my ($h, $p) = @_;
    my ($site, $timeline) = ($h->{site}, $p->{timeline});
    my $file = $site->data_file($p->{user});
    my ($m, $text) = some_member($file);
    my ($first) = $text =~ $FIRST_LINE;
    $timeline->lose($first, $text);
    CBTest::Damage->flip($file, $m->{at} + 40 + int rand($m->{end} - $m->{at} - 40));
    $h->did("$p->{user}: chunk of $first damaged");
    my $r = $site->ctl_backups('verify', $p->{user});
    my @d = $r->{rc} == 75 && $r->{out} =~ /: failed \(data damaged/ ? ()
        : "verify of damage: exit $r->{rc}: $r->{out}$r->{err}";
    $h->sync(0, 'whole');
    $timeline->mended;
    $p->{damaged} = 1;    # until it is compacted
    return (@d, ctl($h, $p, 'verify'));
}

# A member of a data file that does not begin in the middle of a line, and its text.
sub some_member
{
    my ($file) = @_;
    my $bytes = slurp($file);
    my @members = CBTest::Damage::members($bytes);
    while (@members) {
        my $m = splice @members, rand @members, 1;
        my $member = substr $bytes, $m->{at}, $m->{end} - $m->{at};
        gunzip(\$member, \my $text) or die "$file: $GunzipError\n";
        return ($m, $text) if $text =~ $FIRST_LINE;
    }
    die "$file: no line\n";
}

# One step for the backup of a person; what is told of the window is right before and after. What
# happened in it is told as before.
sub upkeep
{
    my ($h, $p, $name) = @_;
    my $timeline = $p->{timeline};
    my $label = @{ $h->{people} } > 1 ? "$name, $p->{user}" : $name;
    my @times = $timeline->seconds($h->{clock}->now - $h->{retention}, $TIMES);
    my $story = CBTest::Story->new(timeline => $timeline, from => $h->{clock}->now - $h->{retention});
    no_differences("$label: all is right before", $timeline->differences(@times), outside($h, $p),
        $story->differences);
    $h->did("$name $p->{user}");
    no_differences("$label: done", $STEPS{$name}->($h, $p));
    # the window may have moved on by the time that it took, and what was damaged is not known
    my $window = $h->{clock}->now - $h->{retention};
    @times = grep { $_ >= $window && $timeline->at($_) } @times;
    no_differences("$label: all is right after", $timeline->differences(@times), outside($h, $p),
        $name eq 'damaged' ? () : $story->told_otherwise($window));
    look_at_former($h, $_, $name) for @{ $h->{former} };
    idle_sync($h, $label) if rand() < 0.5;
    return;
}

# Of users under a former name the past is known, too. (When it is out of the window, all may be gone.)
sub look_at_former
{
    my ($h, $p, $name) = @_;
    return unless $h->{site}->data_file($p->{user});
    no_differences("$name, $p->{user}: done", compact($h, $p, '-F')) if $name eq 'compact -F';
    return unless $h->{site}->data_file($p->{user});
    my @times = $p->{timeline}->seconds($h->{clock}->now - $h->{retention}, 10);
    no_differences("$name, $p->{user}: the past is in the backup of the former name", $p->{timeline}->differences(@times));
    return;
}

# Seconds before the window and before everything: the truth, or that it is not known any more, and
# from when on something is.
sub outside
{
    my ($h, $p) = @_;
    my $timeline = $p->{timeline};
    my $window = $h->{clock}->now - $h->{retention};
    my @times = grep { $_ < $window } $timeline->seconds(0, 4);
    my %once = map { $_ => 1 } @times, $timeline->{begun} - 1000;
    my $said = $timeline->ask(sort keys %once);
    my (@d, %begins);
    for my $t (sort keys %once) {
        my $s = $said->{$t};
        if ($s->{rc} != 0) {
            my ($begin) = $s->{err} =~ /^\Q$p->{user}\E: there is no history of .*: it begins at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)$/m;
            push @d, "at $t, not known any more: exit $s->{rc}: $s->{out}$s->{err}"
                unless $s->{rc} == 75 && $s->{out} eq '' && defined $begin;
            $begins{$begin // ''} = 1;
        } elsif ($t < $timeline->{begun}) {
            push @d, "at $t, before everything: " . substr $s->{out}, 0, 200;
        } else {
            push @d, $timeline->differs($t, $s);
        }
    }
    push @d, 'history begins at several times: ' . join ', ', sort keys %begins if keys %begins > 1;
    # at the time that it names there is history, and not a second before
    for my $begin (keys %begins == 1 ? keys %begins : ()) {
        my $t = CBTest::Story::seconds_of($begin);
        push @d, "history begins at $begin, after the window does" if $t > $window && $t > $timeline->first_known;
        my $at = $timeline->ask($t - 1, $t);
        push @d, "at $begin: exit $at->{$t}{rc}" if $at->{$t}{rc} != 0;
        push @d, "a second before $begin: exit $at->{ $t - 1 }{rc}" if $at->{ $t - 1 }{rc} != 75;
    }
    return @d;
}

# Nothing has changed, so nothing is sent and nothing written.
sub idle_sync
{
    my ($h, $after) = @_;
    $h->time_passes;
    my $sizes = sub {
        return join ', ', map { "$_->{user}: " . (-s $h->{site}->data_file($_->{user})) . ' bytes' } @{ $h->{people} };
    };
    my $before = $sizes->();
    $h->sync(0);
    is($sizes->(), $before, "$after: the next sync has nothing to say");
    return;
}

1;
