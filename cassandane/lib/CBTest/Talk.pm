# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Talk - conversations with a backup server, checked byte by byte: what is said, and
# exactly the lines that must be answered.
#
#     my $t = CBTest::Talk->new(options => {...});
#     $t->says('label', 'GET USER joe', '* LSUB (user.joe)');    # untagged lines; then OK Success
#     $t->says('label', 'GET NONSENSE', 'NO IMAP_PROTOCOL_ERROR Protocol error');
#     $t->ends;                                                  # EXIT; the next says() connects anew
package CBTest::Talk;
use strict;
use warnings;
use CBTest::Compare qw(backup_state);
use CBTest::Sentry;
use CBTest::Site;
use CBTest::Util qw(sha1_hex);
use Compress::Zlib qw(crc32);
use Exporter 'import';
use Test::More;
our @EXPORT_OK = qw(lit annotation annotations record annot_crc $M1 $M2 $G1 $G2);

# The two messages of doc/protocol.md.
our $M1 = join '', map { "$_\r\n" } 'From: a@example.org', 'To: b@example.org', 'Subject: hello', '',
    'Hello, world.';
our $M2 = join '', map { "$_\r\n" } 'From: b@example.org', 'To: a@example.org', 'Subject: re: hello', '',
    'Hi.';
our ($G1, $G2) = map { sha1_hex($_) } $M1, $M2;

sub new
{
    my ($class, %o) = @_;
    my $site = CBTest::Site->new(roles => ['backup'], options => {
        backup => { backup_lock_wait => '1s', backup_error_pause => '0', %{ $o{options} // {} } },
    });
    return bless { site => $site }, $class;
}

sub c
{
    my ($self) = @_;
    return $self->{c} //= $self->{site}->backup_csync;
}

# One test. The last expected line is the final one if it does not begin with "* ". In which order the
# mailboxes of a GET MAILBOXES are listed does not matter.
sub says
{
    my ($self, $label, $command, @expected) = @_;
    push @expected, 'OK Success' if !@expected || $expected[-1] =~ /^\* /;
    my $r = eval { $self->c->command($command) } // { text => "none: $@", lines => [] };
    delete $self->{c} if $r->{text} =~ /^none/;
    my $final = pop @expected;
    my @got = map { "* $_" } @{ $r->{lines} };
    if ($command =~ /^GET MAILBOXES/) {
        @got = sort @got;
        @expected = sort @expected;
    }
    is(join("\n", @got, $r->{text}), join("\n", @expected, $final), $label);
    return $r;
}

# One test: RESTART.
sub restart
{
    my ($self) = @_;
    return $self->says('RESTART', 'RESTART', 'OK Restarting');
}

sub ends
{
    my ($self) = @_;
    $self->says('EXIT', 'EXIT', 'OK Finished');
    delete $self->{c};
    return;
}

sub upload
{
    my ($self, $label, @bodies) = @_;
    return $self->says($label, 'APPLY MESSAGE (' . join(' ', map {
        sprintf "%%{default %s %d}\r\n%s", sha1_hex($_), length $_, $_ } @bodies) . ')');
}

# What is stored of a user, from cyr_backup; of one mailbox.
sub state
{
    my ($self, $user) = @_;
    delete $self->{c};
    return backup_state($self->{site}, $user);
}

sub box
{
    my ($self, $user, $mboxname) = @_;
    my ($m) = grep { $_->{mboxname} eq $mboxname } @{ $self->state($user)->{mailboxes} };
    return $m;
}

# "1 2x 3": UIDs, expunged ones with an x.
sub uids
{
    my ($self, $user, $mboxname) = @_;
    my $m = $self->box($user, $mboxname) // return 'none';
    return join ' ', map { $_->{uid} . ($_->{expunged} ? 'x' : '') } @{ $m->{records} };
}

# The text of a user's data file.
sub text
{
    my ($self, $user) = @_;
    my $file = $self->{site}->data_file($user) // return '';
    return CBTest::Sentry::unzipped($file);
}

# Forget the index, and answer from the data file alone.
sub rebuild
{
    my ($self, $user) = @_;
    delete $self->{c};
    my $file = $self->{site}->data_file($user);
    unlink map { "$file.index$_" } '', qw(-wal -shm);
    return;
}

# ---- pieces of commands -----------------------------------------------------------------

# A literal as clients print it, and as servers do.
sub lit { my ($bytes, $plus) = @_; return sprintf "{%d%s}\r\n%s", length $bytes, $plus // '', $bytes }

sub annotation
{
    my ($entry, $user, $value, $modseq) = @_;
    $user = '""' if defined $user && $user eq '';
    return "%(ENTRY $entry USERID " . ($user // 'NIL')
        . (defined $modseq ? " MODSEQ $modseq" : '') . " VALUE $value)";
}

sub annotations { return ' ANNOTATIONS (' . join(' ', @_) . ')' }

# A record as text and what it adds to SYNC_CRC: (text, crc).
sub record
{
    my ($uid, $modseq, $updated, $flags, $date, $body, $more) = @_;
    my ($guid, $size) = (sha1_hex($body), length $body);
    my $text = "%(UID $uid MODSEQ $modseq LAST_UPDATED $updated FLAGS ($flags) INTERNALDATE $date"
        . " SIZE $size GUID $guid" . ($more // '') . ')';
    return ($text, 0) if $flags =~ /\\Expunged/;
    my $f = 0;
    $f ^= crc32(lc $_) for split ' ', $flags;
    return ($text, crc32("$uid $modseq $updated ($f) $date $guid"));
}

# SYNC_CRC_ANNOT from its start and [uid, entry, userid, value]...
sub annot_crc
{
    my ($start, @items) = @_;
    $start ^= crc32("$_->[0] $_->[1] $_->[2] $_->[3]") for @items;
    return $start;
}

1;
