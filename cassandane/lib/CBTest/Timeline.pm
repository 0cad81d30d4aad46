# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Timeline - what a user had at which second of the backup host's clock, as the mail
# server said it then, and whether `cyr_backup --as-of` says the same.
#
# A state holds from the end of the sync that brought it to the second before the next sync begins.
# What a backup has in the middle of a sync nobody can know.
package CBTest::Timeline;
use strict;
use warnings;
use CBTest::Compare;
use CBTest::Util qw(as_cyrus run_cmd program slurp spew sha1_hex);

# Keys: site (with a clock), user.
sub new
{
    my ($class, %o) = @_;
    return bless { %o, states => [], judged => {}, gaps => [], lost => {} }, $class;
}

# A sync begins now; it has ended, and STATE (see by_imap()) is what the server had. LIVELY: it went on
# while changes were made, so that the backup may know of what lived in between only.
sub begins
{
    my ($self) = @_;
    my $now = $self->{site}{clock}->now;
    $self->{begun} //= $now;
    my $last = $self->{states}[-1];
    $last->{until} //= $now - 1 if $last;
    return;
}

sub ended
{
    my ($self, $state, $lively) = @_;
    my ($now, $last) = ($self->{site}{clock}->now, $self->{states}[-1]);
    push @{ $self->{states} }, { number => scalar @{ $self->{states} }, from => $now, state => $state,
        $lively && $last ? (lively => $last->{until}) : () };
    return;
}

# Did what came to the backup at T come in a lively sync that ended in the window?
sub is_lively
{
    my ($self, $t, $window) = @_;
    return scalar grep { defined $_->{lively} && $_->{lively} < $t && $t <= $_->{from} && $_->{from} >= $window }
        @{ $self->{states} };
}

sub now { return $_[0]{site}{clock}->now }

sub current { return $_[0]{states}[-1]{state} }

# The last second at which a state is known to hold.
sub last_second { my ($self, $s) = @_; return $s->{until} // $self->now }

# The state at T; undef if that is in the middle of a sync, or before everything, or not known any more.
sub at
{
    my ($self, $t) = @_;
    return undef if $self->gap($t, $t);
    my ($s) = grep { $_->{from} <= $t && $t <= $self->last_second($_) } @{ $self->{states} };
    return $s;
}

# What a chunk of the data file said is lost: the times (as our messages write them) from its first
# line on cannot be known any more, until it has been mended; and TEXT is what it said.
sub lose
{
    my ($self, $from, $text) = @_;
    push @{ $self->{gaps} }, [$from, undef, $self->now];
    $self->{lost}{$1} = 1 while $text =~ /%\{\S+ ([0-9a-f]{40}) \d+\}/g;
    return;
}

sub mended { my ($self) = @_; $self->{gaps}[-1][1] = $self->now; return }

# Is there a time between these that cannot be known?
sub gap
{
    my ($self, $from, $to) = @_;
    return scalar grep { $_->[0] <= $to && $from <= ($_->[1] // $to) } @{ $self->{gaps} };
}

# Can a state be known of any second from FROM on? (What had it, only a lost chunk may have said.)
sub known
{
    my ($self, $s, $from) = @_;
    my $first = $s->{from} < $from ? $from : $s->{from};
    return !grep { $_->[0] <= $first && $self->last_second($s) <= ($_->[1] // $self->now) } @{ $self->{gaps} };
}

# The first second of which something is known: later than the first sync, if what that brought is lost.
sub first_known
{
    my ($self) = @_;
    my @begins = ((map { $_->{from} } @{ $self->{states} }), map { $_->[1] + 1 } grep { defined $_->[1] } @{ $self->{gaps} });
    my ($first) = grep { $self->at($_) } sort { $a <=> $b } @begins;
    return $first // $self->now;
}

# The last second of which something is known.
sub last_known { my ($self) = @_; return grep { $self->at($_) } $self->last_second($self->{states}[-1]) }

# The states that hold at some second at or after T, that which may still hold then included.
sub since
{
    my ($self, $t) = @_;
    my $states = $self->{states};
    return grep {
        my $next = $states->[ $_->{number} + 1 ];
        !$next || $next->{from} > $t;
    } @{$states};
}

# N seconds from FROM to now, at which the state is known: the edges of states as often as what is
# between, and each state as likely as any other. (The next sync may begin in the second in which one has
# ended: such a state holds at no second.)
sub seconds
{
    my ($self, $from, $n) = @_;
    my @states = grep { $self->last_second($_) >= ($_->{from} > $from ? $_->{from} : $from) } @{ $self->{states} };
    return grep { !$self->gap($_, $_) } map {
        my $s = $states[ rand @states ];
        my ($first, $last) = ($s->{from} < $from ? $from : $s->{from}, $self->last_second($s));
        (sub { $first }, sub { $last }, sub { $first + int rand $last - $first + 1 })[ rand 3 ]->();
    } 1 .. (@states ? $n : 0);
}

# cyr_backup for each list of words, one after the other in one shell: ( { rc, out, err }, ... ). The
# present does not matter to what is asked, so the processes get no clock, which would cost as
# much as they do.
sub run
{
    my ($self, @commands) = @_;
    my ($site, $user) = @{$self}{qw(site user)};
    my $dir = "$site->{dir}/as-of";
    mkdir $dir or chmod 0777, $dir or die "$dir: $!\n";
    chmod 0777, $dir;
    my $cyr = program('cyr_backup') . ' -C ' . $site->{backup}->conf . " '$user'";
    my $script = join '', map { "$cyr @{ $commands[$_] } >$dir/$_.out 2>$dir/$_.err; echo \$? >$dir/$_.rc\n" } 0 .. $#commands;
    my $r = run_cmd(cmd => [as_cyrus('/bin/sh', '-c', $script)], env => $site->env, tmp => $site->{dir}, timeout => 300);
    die "cyr_backup: exit $r->{rc}: $r->{out}$r->{err}\n" if $r->{rc} != 0;
    my @said;
    for my $i (0 .. $#commands) {
        my ($rc, $out, $err) = map { slurp("$dir/$i.$_") // '' } qw(rc out err);
        push @said, { rc => $rc + 0, out => $out, err => $err };
        unlink map { "$dir/$i.$_" } qw(rc out err);
    }
    return @said;
}

# Everything as of some times: { time => { rc, out, err } }
sub ask
{
    my ($self, @times) = @_;
    my @said = $self->run(map { ["--as-of=\@$_", 'json', 'all'] } @times);
    return { map { ($times[$_] => $said[$_]) } 0 .. $#times };
}

# What cyr_backup says of the seconds @TIMES and the server had said otherwise.
sub differences
{
    my ($self, @times) = @_;
    my %once = map { $_ => 1 } @times;
    my @seconds = sort { $a <=> $b } keys %once;
    my $said = $self->ask(@seconds);
    return map { $self->differs($_, $said->{$_}) } @seconds;
}

sub differs
{
    my ($self, $t, $said) = @_;
    my $s = $self->at($t) // die "no state at $t\n";
    my $where = sprintf 'at %d, %d s ago, state %d of %d', $t, $self->now - $t, $s->{number},
        $#{ $self->{states} };
    return "$where: exit $said->{rc}: $said->{err}" if $said->{rc} != 0;
    # the same answer to the same question needs to be looked at once only
    my $d = $self->{judged}{ $s->{number} . ' ' . sha1_hex($said->{out}) }
        //= [$self->judge($s->{state}, CBTest::Compare::decode($said->{out}))];
    return map { "$where: $_" } @{$d};
}

# The differences between a state and what the backup says of it.
sub judge
{
    my ($self, $state, $backup) = @_;
    my @d = CBTest::Compare::imap_differences($self->{site}->names, $self->{user}, $state, $backup);
    push @d, CBTest::Compare::crc_differences($backup);
    # comments that the server has no more
    for my $m (@{ $backup->{mailboxes} }) {
        my $server = $state->{mailboxes}{ $m->{mboxname} } // next;
        push @d, map { "$m->{mboxname}: only the backup has a comment of '$_->{userid}'" }
            grep { !defined $server->{annotations}{"/comment\0$_->{userid}"} }
            grep { $_->{entry} eq '/comment' && ($_->{userid} eq '' || $_->{userid} eq ($server->{own} // '')) }
            @{ $m->{annotations} };
    }
    return @d;
}

# { GUID => 1 } of the living messages of some states.
sub guids
{
    my (@states) = @_;
    my %guids;
    for my $s (@states) {
        for my $m (values %{ $s->{state}{mailboxes} }) {
            $guids{ $_->{sha1} } = 1 for values %{ $m->{records} };
        }
    }
    return \%guids;
}

# What is in the data file: { GUID => time of the line with its content }; the bytes are looked at.
sub contents
{
    my ($self) = @_;
    my %time;
    my $file = $self->{site}->data_file($self->{user}) // die "no data file\n";
    open my $z, '-|', 'zcat', $file or die "zcat: $!";
    binmode $z;
    while (my $line = readline $z) {
        $line =~ /^(\d+) APPLY MESSAGE \(%\{\S+ ([0-9a-f]{40}) (\d+)\}\r?\n\z/ or next;
        my ($t, $guid, $size) = ($1, $2, $3);
        read($z, my $bytes, $size) == $size or die "zcat $file: message $guid is cut short\n";
        die "zcat $file: message $guid has other bytes\n" if sha1_hex($bytes) ne $guid;
        $time{$guid} = $t;
    }
    close $z or die "zcat $file: exit " . ($? >> 8) . "\n";
    return \%time;
}

# After a compaction that began at BEGUN: what lived in the window of RETENTION seconds is there,
# and nothing of what was dead when the window began. (A repair in the window has said once more what a lost
# chunk told of mailboxes that had gone in the window of the repair; so they stay as if they had gone then.)
sub window_differences
{
    my ($self, $begun, $retention) = @_;
    my $window = $begun - $retention;
    my $there = $self->contents;
    my ($mended) = sort { $a <=> $b } grep { $_ >= $window } map { $_->[2] } @{ $self->{gaps} };
    my $alive = guids($self->since(defined $mended ? $mended - $retention : $window));
    my $alive_now = guids($self->{states}[-1]);
    my $ever = guids(@{ $self->{states} });
    # the window moved while the compaction waited for its second
    my $from = $window + ($self->now - $begun) + 1;
    my $must = guids(grep { $self->known($_, $from) } $self->since($from));
    # what a lost chunk held, and the server had no more
    delete @{$must}{ grep { !$alive_now->{$_} } keys %{ $self->{lost} } };
    my @d = map { "$_ is not in the data file" } grep { !defined $there->{$_} } sort keys %{$must};
    for my $guid (grep { !$alive->{$_} } sort keys %{$there}) {
        # what no mailbox ever had when somebody looked may stay for a day
        next if !$ever->{$guid} && $there->{$guid} > $begun - 86400;
        next if !$ever->{$guid} && $self->is_lively($there->{$guid}, $window);
        push @d, "$guid of $there->{$guid} is in the data file, and was dead at $window";
    }
    return @d;
}

1;
