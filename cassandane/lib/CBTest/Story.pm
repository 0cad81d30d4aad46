# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Story - whether `cyr_backup log` and `diff` tell what happened. States of the past, which
# CBTest::Timeline holds against what the mail server said then, are the measure: one state and
# what log tells of the time up to another give that other, no event more and none less; diff tells
# what IMAP shows to be different (CBTest::Moments).
package CBTest::Story;
use strict;
use warnings;
use CBTest::Compare;
use CBTest::Moments;
use CBTest::Server qw(is_shared);
use CBTest::Util qw(sha1_hex);
use POSIX ();

# Keys: timeline, from (a second).
sub new
{
    my ($class, %o) = @_;
    my $self = bless {%o}, $class;
    my $t = $self->{timeline};
    # the first and the last known second of what has no gap, and two in between
    my @times = sort { $a <=> $b } $t->seconds($self->{from}, 2), $t->seconds($self->{from}, 1), $t->last_known;
    my %once = map { $_ => 1 } grep { !$t->gap($_, $times[-1]) } @times;
    $self->{times} = [sort { $a <=> $b } keys %once];
    return $self;
}

# The time that a message of ours names, in seconds.
sub seconds_of
{
    my ($text) = @_;
    my ($y, $mon, $d, $h, $min, $s) = $text =~ /^(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)$/ or die "$text: no time\n";
    return POSIX::mktime($s, $min, $h, $d, $mon - 1, $y - 1900, 0, 0, -1);
}

# What log and diff say wrongly of the time from FROM to now.
sub differences
{
    my ($self) = @_;
    my $t = $self->{timeline};
    my @times = @{ $self->{times} } or return;
    my @pairs = map { [@times[$_ - 1, $_]] } 1 .. $#times;
    my ($same) = @times;
    my @log = map { ['json', 'log', '--since', '@' . ($_->[0] + 1), '--until', "\@$_->[1]"] } @pairs;
    my @diff = map { ['json', 'diff', map { "\@$_" } @{$_}] } @pairs, [$same, $same];
    $self->{asked} = $t->now;
    my @said = $t->run((map { ["--as-of=\@$_", 'json', 'all'] } @times), @log, @diff,
        ['json', 'log', '--since', "\@$self->{from}"]);
    my @bad = map { "exit $_->{rc}: $_->{err}" } grep { $_->{rc} != 0 } @said;
    return @bad if @bad;
    my @states = map { $_->{out} } splice @said, 0, scalar @times;
    my @events = map { CBTest::Compare::decode($_->{out}) } @said;
    $self->{told} = pop @events;
    my @d = ((map { 'diff of a time and itself: ' . $_->{kind} } @{ pop @events }), $self->of_one_otherwise);
    for my $i (0 .. $#pairs) {
        my $where = sprintf '%d to %d, states %d to %d: ', @{ $pairs[$i] }, map { $t->at($_)->{number} } @{ $pairs[$i] };
        my ($was, $is) = map { CBTest::Compare::decode($_) } @states[$i, $i + 1];
        push @d, map { "log from $where$_" } replay($was, $is, @{ $events[$i] });
        push @d, map { "diff from $where$_" }
            $self->diff_differences($pairs[$i], [@states[$i, $i + 1]], $events[ @pairs + $i ]);
    }
    return @d;
}

# ---- list, show, dump --------------------------------------------------------------------------

# What these say otherwise of a second T than the server did: names, what is in a mailbox, and the
# bytes of a message.
sub shown_otherwise
{
    my ($timeline, $t) = @_;
    my $state = $timeline->at($t)->{state};
    my @names = sort keys %{ $state->{mailboxes} } or return;
    my @full = grep { %{ $state->{mailboxes}{$_}{records} } } @names;
    my $name = @full ? $full[rand @full] : $names[0];
    my @live = sort { $a <=> $b } keys %{ $state->{mailboxes}{$name}{records} };
    my @guids = sort keys %{ CBTest::Timeline::guids({ state => $state }) };
    my @as_of = ("--as-of=\@$t");
    my @said = $timeline->run([@as_of, 'list', 'mailboxes'], [@as_of, 'list', 'messages'],
        [@as_of, 'show', 'mailboxes', $state->{mailboxes}{$name}{uniqueid}],
        @live ? [@as_of, 'dump', 'message', $state->{mailboxes}{$name}{records}{ $live[-1] }{sha1}] : ());
    my @d = map { "exit $_->{rc}: $_->{err}" } grep { $_->{rc} != 0 } @said;
    my @listed = $said[0]{out} =~ /^\S{20,} +[-\d]+ [:\d]+ +(\S+)$/mg;
    # what had been deleted by then is listed, too
    my %there = map { $_ => 1 } @listed, split /\n/, $said[1]{out};
    push @d, map { "$_ is not listed" } grep { !$there{$_} } @names, @guids;
    my %shown = $said[2]{out} =~ /^ +(\d+) {10,}([0-9a-f]{40})$/mg;
    push @d, CBTest::Compare::differ("show mailboxes $name", map { my $r = $_; join ' ', map { "$_:$r->{$_}" } sort { $a <=> $b } keys %{$r} }
        { map { ($_ => $state->{mailboxes}{$name}{records}{$_}{sha1}) } @live }, \%shown);
    push @d, CBTest::Compare::differ('dump message', $state->{mailboxes}{$name}{records}{ $live[-1] }{sha1}, sha1_hex($said[3]{out})) if @live;
    return map { "at $t: $_" } @d;
}

# ---- log ---------------------------------------------------------------------------------------

# What log says otherwise than when differences() asked, of the time from WINDOW on. (Near its
# beginning, where a message came from may have been forgotten.)
sub told_otherwise
{
    my ($self, $window) = @_;
    my $told = $self->{told} // return 'nothing was told before';
    my ($said) = $self->{timeline}->run(['json', 'log', '--since', '@' . $window, '--until', "\@$self->{asked}"]);
    return "log: exit $said->{rc}: $said->{err}" if $said->{rc} != 0;
    my (%count, @d);
    $count{ line($_, $window) }++ for grep { $_->{epoch} >= $window } @{$told};
    $count{ line($_, $window) }-- for @{ CBTest::Compare::decode($said->{out}) };
    return map { ($count{$_} > 0 ? 'not told any more: ' : 'was not told before: ') . $_ } grep { $count{$_} } sort keys %count;
}

sub line
{
    my ($e, $window) = @_;
    my %e = %{$e};
    if ($e{epoch} <= $window + 300) {
        $e{kind} =~ s/^(?:copied|moved)\z/arrived/;
        delete @e{qw(from from_uid to to_uid)} if defined $e{uid};
    }
    return join ' ', map { "$_=" . (ref $e{$_} ? '(' . join(' ', @{ $e{$_} }) . ')' : $e{$_}) } sort keys %e;
}

# Of one mailbox and of one message log tells what it tells of all, as far as it is about these.
sub of_one_otherwise
{
    my ($self) = @_;
    my @some = grep { defined $_->{guid} } @{ $self->{told} } or return;
    my $one = $some[rand @some];
    my @of = map { [$_, $one->{$_}] } qw(uniqueid guid);
    my @range = ('--since', "\@$self->{from}", '--until', "\@$self->{asked}");
    my @said = $self->{timeline}->run(map { ['json', 'log', $_->[1], @range] } @of);
    return map {
        my ($key, $value) = @{ $of[$_] };
        my $want = join '; ', map { line($_, 0) } grep { ($_->{$key} // '') eq $value } @{ $self->{told} };
        my $got = $said[$_]{rc} ? "exit $said[$_]{rc}: $said[$_]{err}"
            : join '; ', map { line($_, 0) } @{ CBTest::Compare::decode($said[$_]{out}) };
        CBTest::Compare::differ("log of $value", $want, $got);
    } 0, 1;
}

# A `json all` as one hash of texts, as far as log tells of it.
sub flat
{
    my ($all) = @_;
    my %f;
    for my $m (@{ $all->{mailboxes} }) {
        my $id = $m->{uniqueid};
        $f{"mailbox $id"} = $m->{mboxname};
        $f{"acl $id"} = $m->{acl};
        $f{"note $id $_->{entry} " . ($_->{userid} // '')} = $_->{value} for @{ $m->{annotations} };
        for my $r (grep { !$_->{expunged} } @{ $m->{records} }) {
            $f{"message $id $r->{uid}"} = "$r->{guid} " . CBTest::Moments::flags($r->{flags});
            $f{"note $id $r->{uid} $_->{entry} " . ($_->{userid} // '')} = $_->{value} for @{ $r->{annotations} };
        }
    }
    $f{"sub $_"} = 1 for @{ $all->{subscriptions} };
    for my $s (@{ $all->{sieve} }) {
        (my $name = $s->{filename}) =~ s/\.script\z//;
        $f{"script $name"} = 1;
        $f{'active script'} = $name if $s->{active};
    }
    $f{"quota $_->{root}"} = limits(map { my $l = $_->{limits}; map { "$_=$l->{$_}" } keys %{$l} } $_) for @{ $all->{quota} };
    return \%f;
}

sub limits { return join ' ', sort grep { !/^MODSEQ=/ } @_ }

# What each kind of event does to such a hash. Expunged ones are kept under another name.
my %DOES = (
    (map { $_ => sub { my ($f, $e) = @_; $f->{"mailbox $e->{uniqueid}"} = $e->{item} } }
        qw(mailbox-created mailbox-renamed mailbox-restored)),
    'mailbox-deleted' => sub {
        my ($f, $e) = @_;
        return $f->{"mailbox $e->{uniqueid}"} = $e->{to} if defined $e->{to};
        ended($f, $e->{uniqueid});
    },
    'mailbox-purged' => sub { my ($f, $e) = @_; ended($f, $e->{uniqueid}) },
    'mailbox-changed' => sub {
        my ($f, $e) = @_;
        $f->{"acl $e->{uniqueid}"} = $e->{is} if $e->{key} eq 'ACL';
    },
    'mailbox-annotated' => sub { my ($f, $e) = @_; note($f, "note $e->{uniqueid}", $e) },
    annotated => sub { my ($f, $e) = @_; note($f, "note $e->{uniqueid} $e->{uid}", $e) },
    (map { $_ => sub {
        my ($f, $e) = @_;
        $f->{"message $e->{uniqueid} $e->{uid}"} = "$e->{guid} " . CBTest::Moments::flags($e->{flags});
    } } qw(arrived copied moved)),
    flags => sub {
        my ($f, $e) = @_;
        my ($live, $dead) = map { "$_ $e->{uniqueid} $e->{uid}" } qw(message expunged);
        for my $key (grep { defined $f->{$_} } $live, $dead) {
            my ($guid, @flags) = split ' ', $f->{$key};
            my %flags = map { $_ => 1 } @flags, @{ $e->{set} // [] };
            delete @flags{ @{ $e->{cleared} // [] } };
            $f->{$key} = "$guid " . CBTest::Moments::flags([keys %flags]);
        }
    },
    expunged => sub {
        my ($f, $e) = @_;
        my $was = delete $f->{"message $e->{uniqueid} $e->{uid}"};
        delete @{$f}{ grep { /^note \Q$e->{uniqueid} $e->{uid}\E / } keys %{$f} };
        $f->{"expunged $e->{uniqueid} $e->{uid}"} = $was // 'nothing, and it was expunged';
    },
    restored => sub {
        my ($f, $e) = @_;
        $f->{"message $e->{uniqueid} $e->{uid}"} = delete $f->{"expunged $e->{uniqueid} $e->{uid}"} // 'restored';
    },
    subscribed => sub { my ($f, $e) = @_; $f->{"sub $e->{item}"} = 1 },
    unsubscribed => sub { my ($f, $e) = @_; delete $f->{"sub $e->{item}"} // wrong($f, $e) },
    'script-uploaded' => sub { my ($f, $e) = @_; $f->{"script $e->{item}"} = 1 },
    'script-changed' => sub { my ($f, $e) = @_; $f->{"script $e->{item}"} // wrong($f, $e) },
    'script-deleted' => sub { my ($f, $e) = @_; delete $f->{"script $e->{item}"} // wrong($f, $e) },
    'script-activated' => sub { my ($f, $e) = @_; $f->{'active script'} = $e->{item} },
    'script-deactivated' => sub {
        my ($f, $e) = @_;
        delete $f->{'active script'} if ($f->{'active script'} // '') eq $e->{item};
    },
    'quota-set' => sub { my ($f, $e) = @_; $f->{"quota $e->{item}"} = limits(@{ $e->{is} }) },
    'quota-removed' => sub { my ($f, $e) = @_; delete $f->{"quota $e->{item}"} // wrong($f, $e) },
    (map { $_ => sub { } } qw(seen seen-removed server-annotated)),
);

sub wrong { my ($f, $e) = @_; $f->{"wrong $e->{kind}"} = $e->{item}; return }

sub note
{
    my ($f, $what, $e) = @_;
    my $key = "$what $e->{entry} $e->{user}";
    return defined $e->{is} ? $f->{$key} = $e->{is} : delete $f->{$key} // wrong($f, $e);
}

# All of a mailbox goes with it.
sub ended
{
    my ($f, $id) = @_;
    delete @{$f}{ "mailbox $id", grep { /^(?:acl|note|message|expunged) \Q$id\E(?: |\z)/ } keys %{$f} };
    return;
}

# Without what nobody is told of: of deleted mailboxes, where they are.
sub without_deleted
{
    my ($f) = @_;
    my %gone = map { (s/^mailbox //r => 1) } grep { /^mailbox / && $f->{$_} =~ /^(?:[^!]+!)?DELETED\./ } keys %{$f};
    return { map { ($_ => $f->{$_}) } grep { !/^expunged / && !(/^(?:acl|note|message) (\S+)/ && $gone{$1}) } keys %{$f} };
}

# WAS and the events give IS? (With what rights and notes something came, is not told.)
sub replay
{
    my ($was, $is, @events) = @_;
    my $f = flat($was);
    my %new;
    for my $e (@events) {
        my $does = $DOES{ $e->{kind} } // return "what does $e->{kind} mean?";
        $does->($f, $e);
        $new{ $e->{uniqueid} } = 1 if $e->{kind} eq 'mailbox-created';
        $new{"$e->{uniqueid} $e->{uid}"} = 1 if $e->{kind} =~ /^(?:arrived|copied|moved|restored)\z/;
    }
    my ($got, $want) = map { without_deleted($_) } $f, flat($is);
    for my $side ($got, $want) {
        delete @{$side}{ grep { /^(?:acl|note) (\S+)(?: (\d+) )?/ && ($new{$1} || defined $2 && $new{"$1 $2"}) } keys %{$side} };
    }
    return map { "$_ is " . ($want->{$_} // '(none)') . ', as told it would be ' . ($got->{$_} // '(none)') }
        grep { ($want->{$_} // '(none)') ne ($got->{$_} // '(none)') } sort keys %{ { %{$got}, %{$want} } };
}

# ---- diff --------------------------------------------------------------------------------------

# Two states in the form of CBTest::Moments.
sub diff_differences
{
    my ($self, $times, $texts, $said) = @_;
    my ($site, $user) = @{ $self->{timeline} }{qw(site user)};
    my @moments = map {
        my $all = CBTest::Compare::decode($texts->[$_]);
        { user => $user, at => $times->[$_], all => $all, imap => $self->{timeline}->at($times->[$_])->{state},
            csync => { LSUB => [$all->{subscriptions} // []] }, seen => !is_shared($user) };
    } 0, 1;
    my ($lines, @d) = CBTest::Moments::differences_of($site, @moments, $said);
    return @d;
}

1;
