# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Feed - a mailbox that exists only in a test, and the csync commands that would
# replicate it: every byte of them is the test's own choice.
#
#     my $box = CBTest::Feed->new(mboxname => 'user.alice');
#     $box->append("Subject: x\r\n\r\nbody\r\n");
#     $box->sync($csync);                      # GET USER, MESSAGE, MAILBOX; dies unless OK
#     $csync->command($box->apply(sync_crc => 1));
package CBTest::Feed;
use strict;
use warnings;
use CBTest::Util qw(sha1_hex);
use Compress::Zlib qw(crc32);
use Exporter 'import';
our @EXPORT_OK = qw(record_text record_crc file_item message);

my $TIME = 1_700_000_000;
my $boxes = 0;

# Keys: mboxname, uniqueid (default: a new one).
sub new
{
    my ($class, %o) = @_;
    $boxes++;
    return bless {
        uniqueid => sprintf('feed%020d', $boxes),
        uidvalidity => 1_700_000_000 + $boxes,
        last_uid => 0,
        modseq => 1,
        records => [],
        bodies => {},
        %o,
    }, $class;
}

# A message of some size, different for each NAME.
sub message
{
    my ($name, $size) = @_;
    my $text = "From: a\@example.org\r\nSubject: $name\r\n\r\n$name\r\n";
    my $line = 'abcdefghijklmnopqrstuvwxyz 0123456789 ' . $name . "\r\n";
    my $left = ($size // 0) - length $text;
    return $left > 0 ? $text . substr($line x (1 + $left / length $line), 0, $left) : $text;
}

# ---- changes on the master ------------------------------------------------

sub append
{
    my ($self, $body, @flags) = @_;
    my $r = {
        uid => ++$self->{last_uid},
        modseq => ++$self->{modseq},
        last_updated => $TIME,
        internaldate => $TIME,
        flags => [@flags],
        guid => sha1_hex($body),
        size => length $body,
    };
    push @{ $self->{records} }, $r;
    $self->{bodies}{ $r->{guid} } = $body;
    return $r;
}

sub set_flags
{
    my ($self, $uid, @flags) = @_;
    my ($r) = grep { $_->{uid} == $uid } @{ $self->{records} };
    @{$r}{qw(flags modseq)} = ([@flags], ++$self->{modseq});
    return $r;
}

# ---- as text --------------------------------------------------------------

sub record_text
{
    my ($r) = @_;
    return "%(UID $r->{uid} MODSEQ $r->{modseq} LAST_UPDATED $r->{last_updated}"
        . " FLAGS (@{ $r->{flags} }) INTERNALDATE $r->{internaldate} SIZE $r->{size}"
        . " GUID $r->{guid})";
}

# What a record adds to SYNC_CRC.
sub record_crc
{
    my ($r) = @_;
    my $flags = 0;
    for my $flag (map { lc } @{ $r->{flags} }) {
        return 0 if $flag eq '\\expunged';
        $flags ^= crc32($flag);
    }
    return crc32("$r->{uid} $r->{modseq} $r->{last_updated} ($flags) $r->{internaldate} $r->{guid}");
}

sub crc
{
    my ($self) = @_;
    my $crc = 0;
    $crc ^= record_crc($_) for @{ $self->{records} };
    return $crc;
}

sub file_item
{
    my ($body, $guid, $size) = @_;
    return sprintf "%%{default %s %s}\r\n%s", $guid // sha1_hex($body), $size // length $body,
        $body;
}

# The header as key and value, in order. Any key can be given another value, or none (undef).
sub header
{
    my ($self, %other) = @_;
    my @h = (
        uniqueid => $self->{uniqueid},
        mboxname => $self->{mboxname},
        sync_crc => $self->crc,
        sync_crc_annot => 12345678,
        last_uid => $self->{last_uid},
        highestmodseq => $self->{modseq},
        recentuid => 0,
        recenttime => 0,
        last_appenddate => 0,
        pop3_last_login => 0,
        pop3_show_after => 0,
        uidvalidity => $self->{uidvalidity},
        partition => 'default',
        acl => qq("nobody\tlrs\t"),
        options => '""',
    );
    my @got;
    while (my ($key, $value) = splice @h, 0, 2) {
        $value = delete $other{$key} if exists $other{$key};
        push @got, uc $key, $value if defined $value;
    }
    push @got, map { (uc $_, $other{$_}) } grep { defined $other{$_} } sort keys %other;
    return "@got";
}

# APPLY MAILBOX. Keys: since => N (only records above that modseq), records => [text, ...] (these
# instead), and keys of the header.
sub apply
{
    my ($self, %o) = @_;
    my $since = delete $o{since} // 0;
    my $records = delete $o{records}
        // [map { record_text($_) } grep { $_->{modseq} > $since } @{ $self->{records} }];
    return 'APPLY MAILBOX %(' . $self->header(%o) . " RECORD (@{$records}))";
}

# APPLY MESSAGE with the content of all records above a modseq.
sub upload
{
    my ($self, $since) = @_;
    my %once;
    my @guids = grep { !$once{$_}++ }
        map { $_->{guid} } grep { $_->{modseq} > ($since // 0) } @{ $self->{records} };
    return 'APPLY MESSAGE (' . join(' ', map { file_item($self->{bodies}{$_}) } @guids) . ')';
}

# ---- a unit of work -------------------------------------------------------

# Replicate as a client would. Dies when an answer is not OK.
sub sync
{
    my ($self, $c) = @_;
    my ($user) = $self->{mboxname} =~ /^user\.([^.]+)/;
    my $got = $c->get(defined $user ? "USER $user" : "MAILBOXES ($self->{mboxname})");
    my ($listed) = grep { $_->{UNIQUEID} eq $self->{uniqueid} } @{ $got->{MAILBOX} // [] };
    my $since = $listed ? $listed->{HIGHESTMODSEQ} : 0;
    for my $command ($self->upload($since), $self->apply(since => $since)) {
        my $r = $c->command($command);
        die "$self->{mboxname}: $r->{text}\n" if $r->{status} ne 'OK';
    }
    return;
}

1;
