# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Snapshot - CBTest::Server::by_imap() again and again, asking only about what may have
# changed: mailboxes that are new, were touched, or have another STATUS than before, and in those
# only messages with a new modseq. Snapshots share what they have in common and must not be changed.
package CBTest::Snapshot;
use strict;
use warnings;
use CBTest::Server qw(is_shared mailbox_names);

sub new
{
    my ($class, $site, $user) = @_;
    return bless { site => $site, user => $user, known => {} }, $class;
}

# The state now, in the form of by_imap(). LIFE (CBTest::Life) knows what has been touched, and begins
# anew; without, everything is asked for.
sub take
{
    my ($self, $life) = @_;
    my ($site, $user) = @{$self}{qw(site user)};
    my $all = !$life;
    my $state = $self->mailboxes($all ? undef : $life->{touched});
    my %mailboxes = %{ $state->{mailboxes} };
    # by what they are: another mailbox of a name may have another quota root
    my $names = join ' ', map { "$_ $mailboxes{$_}{uniqueid}" } sort keys %mailboxes;
    my $others = $names ne ($self->{names} // '');
    $self->{names} = $names;
    if (is_shared($user)) {
        $life->{touched} = {} if $life;
        return $state;
    }
    $self->{quota} = CBTest::Server::quota($site, sort keys %mailboxes) if $all || $others || $life->{quotas};
    $self->{sieve} = CBTest::Server::sieve($site, $user) if $all || !$self->{sieve} || $life->{scripts};
    my $imap = $site->imap_as($user);
    my ($lsub, $list) = map { $imap->must($_ => '', '*') } qw(lsub list);
    @{$life}{qw(touched quotas scripts)} = ({}, 0, 0) if $life;
    return {
        %{$state},
        subscriptions => [sort map { $site->names->from_user($user, $_->[2]) } ref $lsub ? @{$lsub} : ()],
        visible => { map { $site->names->from_user($user, $_->[2]) => 1 } ref $list ? @{$list} : () },
        quota => $self->{quota},
        sieve => $self->{sieve},
    };
}

# The mailboxes alone; those that have been touched are asked for in any case, all without TOUCHED.
sub mailboxes
{
    my ($self, $touched) = @_;
    my %mailboxes = map { $_ => $self->mailbox($_, !$touched || $touched->{$_}) } mailbox_names(@{$self}{qw(site user)});
    $self->{known} = { %mailboxes };
    $self->{by_id} = { map { $_->{uniqueid} => $_ } values %mailboxes };
    return { mailboxes => \%mailboxes };
}

sub mailbox
{
    my ($self, $name, $again) = @_;
    my ($site, $user) = @{$self}{qw(site user)};
    my $known = $self->{known}{$name};
    my $own = ($site->names->owner($name) // '') eq $user;
    my $deleted = $name =~ /^(?:[^!]+!)?DELETED\./;
    return $known if $known && $deleted && !$again;
    my $imap = $own ? $site->imap_as($user) : $site->admin;
    my $outward = $own ? $site->names->for_user($user, $name) : $site->names->for_admin($name);
    if ($known && !$again) {
        my $st = $imap->must(status => $outward, '(UIDVALIDITY HIGHESTMODSEQ UIDNEXT)');
        return $known if "@{$st}{qw(uidvalidity highestmodseq uidnext)}"
            eq join ' ', @{$known}{qw(uidvalidity highestmodseq)}, $known->{last_uid} + 1;
    }
    my $m = CBTest::Server::header($site, $imap, $outward, $name, $own);
    my $before = $self->{by_id}{ $m->{uniqueid} };
    # \Seen and private notes are those of the reader
    my %records = $before && !$deleted && $before->{uidvalidity} == $m->{uidvalidity} ? %{ $before->{records} } : ();
    if (delete $m->{messages}) {
        $imap->must(examine => $outward);
        my $changed = CBTest::Server::messages($imap, %records ? $before->{highestmodseq} : ());
        my $all = $imap->must(fetch => '1:*', '(UID)');    # SEARCH finds nothing in deleted ones
        $imap->must('unselect');
        $m->{records} = { map { $_ => $changed->{$_} // $records{$_} } keys %{$all} };
    }
    return $m;
}

1;
