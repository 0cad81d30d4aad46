# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Moments - what a user's mailboxes were at several moments, as the mail server said at that
# moment by IMAP and by csync; and whether the backup says the same of these moments later.
package CBTest::Moments;
use strict;
use warnings;
use CBTest::Compare;
use CBTest::Server qw(by_imap by_csync);
use CBTest::Util qw(wait_until);
use Exporter 'import';
our @EXPORT_OK = qw(moment then_and_now differences_between said);

# What is held against what it said then.
our @COMMANDS = ([qw(json all)], [qw(json mailboxes)], [qw(json messages)]);

# What is so now. The second ends before this returns, so that what follows is later.
sub moment
{
    my ($site, $user, $name) = @_;
    my $at = clock($site);
    my %m = (at => $at, name => $name, user => $user, imap => by_imap($site, $user),
        csync => by_csync($site, $user), said => [map { said($site, $user, @{$_}) } @COMMANDS]);
    if ($site->{clock}) {
        $site->{clock}->advance(86_400);
    } else {
        wait_until('the next second', sub { time > $at });
    }
    return \%m;
}

# The time on the backup host.
sub clock
{
    my ($site) = @_;
    return $site->{clock} ? $site->{clock}->now : time;
}

# What the backup says, without what is about the present only.
sub said
{
    my ($site, $user, @args) = @_;
    my $r = $site->cyr_backup($user, @args);
    die "cyr_backup $user @args: exit $r->{rc}: $r->{err}\n" if $r->{rc} != 0;
    return $r->{out} =~ s/^ +"mark": \d+,\n//mgr;
}

# Differences between the moment as it was noted and the backup's account of it now.
sub then_and_now
{
    my ($site, $m, %o) = @_;
    my @as_of = ('--as-of', "\@$m->{at}");
    my $now = CBTest::Compare::backup_json($site, $m->{user}, 'all', @as_of);
    my @d = CBTest::Compare::imap_differences($site->names, $m->{user}, $m->{imap}, $now, %o);
    push @d, CBTest::Compare::csync_differences($m->{csync}, $now, %o);
    push @d, CBTest::Compare::crc_differences($now);
    @d = grep { !(/ (\S.*): only in the backup\z/ && ($o{kept} // {})->{ $1 =~ s/.* //r }) } @d;
    for my $i (0 .. $#COMMANDS) {
        push @d, "@{ $COMMANDS[$i] } says something else"
            if said($site, $m->{user}, @{ $COMMANDS[$i] }, @as_of) ne $m->{said}[$i];
    }
    return @d;
}

# ---- what differs between two moments --------------------------------------------------------

# As IMAP (names subscribed to: csync, as LSUB keeps silent about what does not exist) would tell it,
# one line each: what one moment has and the other has not.
sub by_server
{
    my ($site, $m, $n) = @_;
    my %was = boxes($site, $m);
    my %is = boxes($site, $n);
    my @lines;
    for my $id (sort keys %{ { %was, %is } }) {
        my ($a, $b) = ($was{$id}, $is{$id});
        push @lines, "mailbox-deleted $a->{name}" if !$b;
        push @lines, "mailbox-created $b->{name}" if !$a;
        push @lines, "mailbox-renamed $b->{name} from $a->{name}" if $a && $b && $a->{name} ne $b->{name};
        push @lines, messages(($b // $a)->{name}, map { records($m, $_) } $a, $b);
    }
    push @lines, sets('subscribed', 'unsubscribed', map { { map { $_ => 1 } map { @{$_} }
        @{ $_->{csync}{LSUB} // [] } } } $m, $n);
    push @lines, seen(map { $_->{csync}{SEEN} } $m, $n) unless $m->{all};
    push @lines, scripts($m->{imap}{sieve}, $n->{imap}{sieve});
    push @lines, quotas(map { $_->{imap}{quota} } $m, $n);
    return sort @lines;
}

# The messages of a mailbox. \Seen in one of nobody's (seen => 0) is the affair of who has asked.
sub records
{
    my ($m, $box) = @_;
    my $all = $box->{records} // {};
    return $all if $m->{seen} // 1;
    return { map { ($_ => { %{ $all->{$_} }, flags => [grep { $_ ne '\\Seen' } @{ $all->{$_}{flags} }] }) } keys %{$all} };
}

# Mailboxes by UNIQUEID, those that were deleted aside.
sub boxes
{
    my ($site, $m) = @_;
    my $all = $m->{imap}{mailboxes};
    return map { ($all->{$_}{uniqueid} => { name => $_, records => $all->{$_}{records} }) }
        grep { !/(?:^|!)DELETED\./ } keys %{$all};
}

# Flags as sorted words.
sub flags { return join ' ', sort @{ $_[0] // [] } }

sub messages
{
    my ($name, $was, $is) = @_;
    my @lines;
    for my $uid (keys %{ { %{$was}, %{$is} } }) {
        my ($a, $b) = ($was->{$uid}, $is->{$uid});
        push @lines, "gone $name $uid $a->{sha1}" if !$b;
        push @lines, "arrived $name $uid $b->{sha1} (" . flags($b->{flags}) . ')' if !$a;
        next if !$a || !$b;
        my %a = map { $_ => 1 } @{ $a->{flags} // [] };
        my %b = map { $_ => 1 } @{ $b->{flags} // [] };
        my @set = grep { !$a{$_} } keys %b;
        my @cleared = grep { !$b{$_} } keys %a;
        push @lines, "flags $name $uid +(" . flags(\@set) . ') -(' . flags(\@cleared) . ')'
            if @set || @cleared;
    }
    return @lines;
}

sub sets
{
    my ($came, $went, $was, $is) = @_;
    return ((map { "$came $_" } grep { !$was->{$_} } keys %{$is}),
        (map { "$went $_" } grep { !$is->{$_} } keys %{$was}));
}

# What has been read of others' mailboxes. (Whoever has {all} has no csync to compare it with.)
sub seen
{
    my ($was, $is) = map { my $list = $_; +{ map { ($_->{UNIQUEID} => "$_->{LASTUID} $_->{SEENUIDS}") } @{ $list // [] } } } @_;
    return ((map { "seen-removed $_" } grep { !defined $is->{$_} } keys %{$was}),
        (map { "seen $_ $is->{$_}" } grep { ($was->{$_} // '') ne $is->{$_} } keys %{$is}));
}

sub scripts
{
    my ($was, $is) = @_;
    my @lines = sets('script-uploaded', 'script-deleted', $was, $is);
    push @lines, map { "script-changed $_" }
        grep { $was->{$_} && $was->{$_}{content} ne $is->{$_}{content} } keys %{$is};
    my ($a, $b) = map { my $s = $_; (grep { $s->{$_}{active} } keys %{$s})[0] // '' } $was, $is;
    push @lines, "script-activated $b" if $b ne '' && $a ne $b;
    push @lines, "script-deactivated $a" if $a ne '' && $b eq '';
    return @lines;
}

sub quotas
{
    my @sides = map {
        my $quota = $_;
        my %text = map {
            my $q = $quota->{$_};
            ($_ => join ' ', sort map { "$_=$q->{$_}" } grep { $q->{$_} != -1 } keys %{$q});
        } keys %{$quota};
        delete @text{ grep { $text{$_} eq '' } keys %text }; # without a limit it is none
        \%text;
    } @_;
    my ($was, $is) = @sides;
    return ((map { "quota-removed $_" } grep { !defined $is->{$_} } keys %{$was}),
        (map { "quota-set $_ $is->{$_}" } grep { ($was->{$_} // '') ne $is->{$_} } keys %{$is}));
}

# The same from cyr_backup. Intermediate mailboxes, which IMAP does not show, do not count; nor do
# those of the server's own that IMAP has no names for.
sub by_backup
{
    my ($m, $n, $said) = @_;
    my @lines;
    my %unseen = map { $_ => 1 } map { unseen($_) } $m, $n;
    for my $e (@{$said}) {
        my ($kind, $item) = @{$e}{qw(kind item)};
        next if $unseen{ $e->{uniqueid} // '' } || $kind =~ /^mailbox-changed|annotated$/;
        next if $kind =~ /^seen/ && $m->{all};
        push @lines,
            $kind eq 'mailbox-renamed' ? "$kind $item from $e->{from}"
            : $kind eq 'gone' ? "$kind $item $e->{uid} $e->{guid}"
            : $kind eq 'arrived' ? "$kind $item $e->{uid} $e->{guid} (" . flags($e->{flags}) . ')'
            : $kind eq 'flags' ? "$kind $item $e->{uid} +(" . flags($e->{set}) . ') -(' . flags($e->{cleared}) . ')'
            : $kind =~ /^quota/ ? quota_line($e)
            : $kind eq 'seen' ? "$kind $item $e->{lastuid} $e->{seenuids}"
            : "$kind $item";
    }
    return sort @lines;
}

sub quota_line
{
    my ($e) = @_;
    my ($was, $is) = map { join ' ', sort grep { !/=-1$/ } @{ $_ // [] } } @{$e}{qw(was is)};
    return if $was eq $is;
    return $is eq '' ? "quota-removed $e->{item}" : "quota-set $e->{item} $is";
}

sub unseen
{
    my ($m) = @_;
    my $all = $m->{all} // CBTest::Compare::decode($m->{said}[0]);
    return map { $_->{uniqueid} }
        grep { ($_->{mboxtype} // '') =~ /[if]/ || !$m->{imap}{mailboxes}{ $_->{mboxname} } } @{ $all->{mailboxes} };
}

# Lines that only one of both has.
sub differences_between
{
    my ($site, $m, $n) = @_;
    return differences_of($site, $m, $n,
        CBTest::Compare::backup_json($site, $m->{user}, 'diff', "\@$m->{at}", "\@$n->{at}"));
}

# The same when cyr_backup's answer is there.
sub differences_of
{
    my ($site, $m, $n, $said) = @_;
    my %count;
    $count{$_}++ for by_server($site, $m, $n);
    my $lines = keys %count;
    $count{$_}-- for by_backup($m, $n, $said);
    return ($lines, map { ($count{$_} > 0 ? 'server only: ' : 'backup only: ') . $_ } grep { $count{$_} } sort keys %count);
}

1;
