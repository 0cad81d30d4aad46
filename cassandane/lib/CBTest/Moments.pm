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
our @EXPORT_OK = qw(moment then_and_now said);

# All that --as-of is for.
our @COMMANDS = ([qw(json all)], [qw(json mailboxes)], [qw(json messages)], [qw(list mailboxes)],
    [qw(list messages)]);

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

1;
