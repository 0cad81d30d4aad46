# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Model - a mail server that exists only in a test: mailboxes, their records and files, and
# everything that can happen to them there. CBTest::ModelClient replicates it.
#
#     my $m = CBTest::Model->new(users => ['joe', 'jim'], prefix => 'x');
#     $m->create('user.joe');
#     $m->append($box, 'body');  $m->expunge($box, 1);  $m->forget($box); ...
package CBTest::Model;
use strict;
use warnings;
use CBTest::Feed qw(record_crc);
use CBTest::Util qw(sha1_hex);

my $TIME = 1_700_000_000;
my $made = 0;

# Keys: prefix (of UNIQUEIDs).
sub new
{
    my ($class, %o) = @_;
    return bless {
        boxes => {},         # UNIQUEID -> mailbox
        bodies => {},        # GUID -> content
        dead_names => {},    # tombstones
        dead_ids => {},
        former => {},        # UNIQUEID -> names it had
        log => [],           # what a rolling client would read: [MAILBOX|UNMAILBOX|USER, name, ...]
        %o,
    }, $class;
}

sub owner_of
{
    my ($name) = @_;
    return $name =~ /^(?:DELETED\.)?user\.([^.]+)/ ? $1 : undef;
}

sub sorted { my ($self) = @_; return sort { $a->{name} cmp $b->{name} } values %{ $self->{boxes} } }
sub of_user { my ($self, $u) = @_; return grep { (owner_of($_->{name}) // '') eq $u } $self->sorted }
sub named { my ($self, $name) = @_; return (grep { $_->{name} eq $name } $self->sorted)[0] }
sub note { my ($self, @entry) = @_; push @{ $self->{log} }, [@entry]; return }

# ---- mailboxes ------------------------------------------------------------

sub create
{
    my ($self, $name) = @_;
    $made++;
    my $box = {
        uniqueid => sprintf('%s%020d', $self->{prefix} // 'mdl', $made), name => $name,
        uidvalidity => $TIME + $made, last_uid => 0, hms => 1, gone_modseq => 0, records => {},
        partition => 'default', foldermodseq => 1, crc_error => 0,
    };
    $self->{boxes}{ $box->{uniqueid} } = $box;
    delete $self->{dead_names}{$name};
    $self->note(MAILBOX => $name);
    return $box;
}

sub bump { my ($self, $box) = @_; $self->note(MAILBOX => $box->{name}); return ++$box->{hms} }

sub rename
{
    my ($self, $box, $to) = @_;
    push @{ $self->{former}{ $box->{uniqueid} } }, $box->{name};
    $self->{dead_names}{ $box->{name} } = 1;
    delete $self->{dead_names}{$to};
    my $from = $box->{name};
    $box->{name} = $to;
    $box->{foldermodseq} = ++$box->{hms};
    $self->note(MAILBOX => $from, $to);
    return $box;
}

sub move
{
    my ($self, $box, $partition) = @_;
    $box->{partition} = $partition;
    $self->bump($box);
    return;
}

# For good, at once.
sub remove
{
    my ($self, $box) = @_;
    delete $self->{boxes}{ $box->{uniqueid} };
    $self->{dead_names}{ $box->{name} } = 1;
    $self->{dead_ids}{ $box->{uniqueid} } = 1;
    $self->note(UNMAILBOX => $box->{name});
    return;
}

# ---- messages ---------------------------------------------------------------

sub append
{
    my ($self, $box, $body, @flags) = @_;
    my $guid = sha1_hex($body);
    $self->{bodies}{$guid} = $body;
    my $r = {
        uid => ++$box->{last_uid}, modseq => $self->bump($box), last_updated => $TIME + $box->{hms},
        internaldate => $TIME, flags => [@flags], guid => $guid, size => length $body,
    };
    $box->{records}{ $r->{uid} } = $r;
    return $r;
}

sub live
{
    my ($box) = @_;
    return grep { !expunged($_) } map { $box->{records}{$_} } sort { $a <=> $b } keys %{ $box->{records} };
}

sub expunged { return scalar grep { $_ eq '\\Expunged' } @{ $_[0]{flags} } }

sub set_flags
{
    my ($self, $box, $r, @flags) = @_;
    $box->{records}{ $r->{uid} } = { %{$r}, flags => [@flags], modseq => $self->bump($box),
        last_updated => $TIME + $box->{hms} };
    return;
}

sub expunge { my ($self, $box, $r) = @_; return $self->set_flags($box, $r, @{ $r->{flags} }, '\\Expunged') }

# Expiry: what was expunged is no longer known.
sub forget
{
    my ($self, $box) = @_;
    for my $r (grep { expunged($_) } values %{ $box->{records} }) {
        $box->{gone_modseq} = $r->{modseq} if $r->{modseq} > $box->{gone_modseq};
        delete $box->{records}{ $r->{uid} };
    }
    return;
}

# ---- misfortune ---------------------------------------------------------------

sub snapshot
{
    my ($box) = @_;
    return { %{$box}, records => { map { $_ => { %{ $box->{records}{$_} } } } keys %{ $box->{records} } } };
}

# The mailbox is again as it was; its name and identity stay.
sub restore
{
    my ($self, $box, $old) = @_;
    my $was = snapshot($old);
    delete @{$was}{qw(name uniqueid partition)};
    @{$box}{ keys %{$was} } = values %{$was};
    $self->note(MAILBOX => $box->{name});
    return;
}

# ---- as replication sees it -----------------------------------------------------

sub crc
{
    my ($box) = @_;
    my $crc = 0;
    $crc ^= record_crc($_) for values %{ $box->{records} };
    return $crc ^ $box->{crc_error};
}

# The whole of it as comparable text, one line for each thing that can be wrong.
sub content
{
    my ($box) = @_;
    return ("name $box->{name}", "uidvalidity $box->{uidvalidity}", "last_uid $box->{last_uid}",
        "highestmodseq $box->{hms}", "partition $box->{partition}",
        map { "uid $_->{uid} $_->{modseq} $_->{guid} (" . join(' ', sort @{ $_->{flags} }) . ')' } live($box));
}

1;
