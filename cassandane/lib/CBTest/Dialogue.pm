# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Dialogue - conversations with backupd, sentence by sentence, and three independent looks at
# what came of them: what it lists (csync), what the data file says (zcat), what the index says
# (cyr_backup).
package CBTest::Dialogue;
use strict;
use warnings;
use CBTest::Compare qw(backup_state);
use CBTest::Sentry;
use CBTest::Site;
use CBTest::Util qw(wait_until);
use Exporter 'import';
use Test::More;
our @EXPORT_OK = qw($OK $CHECKSUM $CHANGED $LOCKED $NONE @VERSIONS);

our $OK = 'OK Success';
our $CHECKSUM = 'NO IMAP_SYNC_CHECKSUM Checksum Failure';
our $CHANGED = 'NO IMAP_SYNC_CHANGED Changed since last sync';
our $LOCKED = 'NO IMAP_MAILBOX_LOCKED Mailbox locked';
our $NONE = 'NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox';
our @VERSIONS = qw(3.0 3.2 3.4 3.6 3.10 3.12 HEAD);

sub new
{
    my ($class) = @_;
    my $site = CBTest::Site->new(roles => ['backup'], options => {
        backup => { backup_lock_wait => '1s', backup_error_pause => '1s' } });
    my $self = bless { site => $site }, $class;
    $self->again;
    return $self;
}

# A new connection instead of the present one, once that has let go of everything.
sub again
{
    my ($self) = @_;
    delete $self->{c};
    $self->alone;
    $self->{c} = $self->{site}->backup_csync;
    return;
}

sub alone
{
    my ($self) = @_;
    wait_until('connections to end', sub { !(() = glob "$self->{site}{backup}{dir}/conf/proc/[0-9]*") });
    return;
}

# One command; one test of its final line. Returns the answer.
sub says
{
    my ($self, $label, $command, $expected) = @_;
    my $r = eval { $self->{c}->command($command) } // { text => "none: $@", lines => [] };
    is($r->{text}, $expected // $OK, $label);
    return $r;
}

# What a GET lists: UNIQUEID -> header.
sub listing
{
    my ($self, $what) = @_;
    my $got = $self->{c}->get($what);
    return { map { $_->{UNIQUEID} => $_ } @{ $got->{MAILBOX} // [] } };
}

# A mailbox's listing, by GET MAILBOXES of its name; undef if it is not listed.
sub listed { my ($self, $box) = @_; return $self->listing("MAILBOXES ($box->{mboxname})")->{ $box->{uniqueid} } }

sub owner { my ($box) = @_; return $box->{mboxname} =~ /^(?:DELETED\.)?user\.([^.]+)/ ? $1 : '%SHARED' }

sub state { my ($self, $owner) = @_; return backup_state($self->{site}, $owner) }

# The mailbox in its (or another) owner's backup; undef if it is not there any more.
sub stored
{
    my ($self, $box, $owner) = @_;
    my $state = $self->state($owner // owner($box));
    return (grep { $_->{uniqueid} eq $box->{uniqueid} } @{ $state->{mailboxes} })[0];
}

# "1 2x 3": UIDs, x behind what is expunged.
sub uids
{
    my ($self, $box, $owner) = @_;
    my $m = $self->stored($box, $owner) // return 'no mailbox';
    return join ' ', map { $_->{uid} . ($_->{expunged} ? 'x' : '') } @{ $m->{records} };
}

# Lines of the data file without their time, bodies left out.
sub file
{
    my ($self, $owner) = @_;
    my $text = CBTest::Sentry::unzipped($self->{site}->data_file($owner));
    return grep { s/^\d+ APPLY // } split /\r\n/, $text;
}

# The index is made anew at the next opening. Closes the connection and opens another.
sub rebuild
{
    my ($self, $owner) = @_;
    delete $self->{c};
    $self->alone;
    my $file = $self->{site}->data_file($owner);
    unlink map { "$file.index$_" } '', '-wal', '-shm';
    $self->again;
    return;
}

# Content by the wire.
sub has_content
{
    my ($self, $box, $r) = @_;
    my $got = $self->{c}->command("GET FETCH %(MBOXNAME $box->{mboxname} PARTITION default UNIQUEID"
        . " $box->{uniqueid} GUID $r->{guid} UID $r->{uid})");
    return "@{ $got->{lines} }" eq "MESSAGE %{default $r->{guid} $r->{size}}\r\n$box->{bodies}{ $r->{guid} }";
}

# Keys of a delta as a version sends it: SINCE_* from 3.2 on, if the listing had them.
sub delta
{
    my ($version, $listed, $again) = @_;
    return (since => $listed->{HIGHESTMODSEQ}, header($version),
        $again || $version eq '3.0' || !$listed->{HIGHESTMODSEQ} ? () : (since_modseq => $listed->{HIGHESTMODSEQ},
            since_crc => $listed->{SYNC_CRC}, since_crc_annot => $listed->{SYNC_CRC_ANNOT} // 0));
}

# Keys of the header that versions have of their own.
sub header
{
    my ($version) = @_;
    return $version eq '3.0' ? (sync_crc_annot => 0)
        : (createdmodseq => 1, foldermodseq => 1, $version eq 'HEAD' ? (jmapid => 'J1', version => 20) : ());
}

sub asks_again { my ($version) = @_; return $version !~ /^3\.[02]$/ }

1;
