#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# backupd and what is large and yet in order: a million records in one command, values just below
# the limit, many of them at once. Memory stays where it is.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Feed qw(message file_item record_text record_crc);
use CBTest::Sentry;
use CBTest::Util qw(sha1_hex peak_memory);
use Test::More;

my $s = CBTest::Sentry->new;
my $site = $s->{site};
my $OK = 'OK Success';
$s->{c}{patience} = 90;

sub says
{
    my ($label, $bytes, $expected) = @_;
    my $r = eval {
        $s->{c}->send_raw($_) for ref $bytes ? @{$bytes} : $bytes;
        $s->{c}->send_raw("\r\n");
        $s->{c}->answer;
    } // { text => "none: $@", lines => [] };
    ref $expected ? like($r->{text}, $expected, $label) : is($r->{text}, $expected, $label);
    cmp_ok(peak_memory($s->{pid}) // 0, '<=', $CBTest::Sentry::MEMORY_MAX, "$label: memory");
    $s->connect if $r->{text} =~ /^none/;
    return $r;
}

# ---- values just below backup_max_dlist (2 MiB) --------------------------------------------

{
    my $text = join '', map { sprintf "%07d\n", $_ } 1 .. 230_000;
    my $lit = sprintf "{%d+}\r\n%s", length $text, $text;
    says('a script of 1.8 MB', "APPLY SIEVE %(USERID bob FILENAME a.script LAST_UPDATE 1 CONTENT $lit)", $OK);
    my $r = says('GET FETCH_SIEVE', 'GET FETCH_SIEVE %(USERID bob FILENAME a.script)', $OK);
    like($r->{lines}[0], qr/\Q$text\E\)$/, 'it comes back');
    my $box = CBTest::Feed->new(mboxname => 'user.bob');
    my $note = "(%(ENTRY /comment USERID \"\" MODSEQ 0 VALUE $lit))";
    says('a mailbox annotation of 1.8 MB', $box->apply(annotations => $note), $OK);
    $r = says('GET USER', 'GET USER bob', $OK);
    cmp_ok(length $r->{lines}[0], '>', 1_800_000, 'it comes back');
    says('a server annotation of 1.8 MB', "APPLY ANNOTATION %(MBOXNAME \"\" ENTRY /x USERID \"\" VALUE $lit)", $OK);
    says('GET ANNOTATION', 'GET ANNOTATION ""', $OK);
    says('a subscription of 1.8 MB', "APPLY SUB %(USERID bob MBOXNAME $lit)", qr/^(?:OK|NO) /);
    says('GET META', 'GET META bob', $OK);
    my $m = $box->append(message('bob'));
    says('its content', $box->upload, $OK);
    my @records = map { record_text({ %{$m}, uid => $_ }) =~ s/\)$/ ANNOTATIONS $note)/r } 1 .. 100;
    says('100 records with 1.8 MB of annotations each', ['APPLY MAILBOX %(' . $box->header(last_uid => 100, sync_crc => 0,
        sync_crc_annot => undef) . ' RECORD (', (map { ("$_ ") } @records), '))'], $OK);
    says('100 records with 1.8 MB of something each', ['APPLY MAILBOX %(' . $box->header(last_uid => 200, sync_crc => 0,
        sync_crc_annot => undef) . ' RECORD (',
        (map { s/UID (\d+)/'UID ' . ($1 + 100)/re =~ s/ANNOTATIONS/OTHER/r . ' ' } @records), '))'], $OK);
    says('200 mailbox names of 1 MB', ['GET MAILBOXES (user.bob', (' ' . sprintf("{%d+}\r\nuser.%s", 1_000_000, 'x' x 999_995)) x 200, ')'],
        qr/^NO IMAP_PROTOCOL_ERROR /);
    says('100,000 mailbox names', 'GET MAILBOXES (' . join(' ', map { "user.nobody$_" } 1 .. 100_000) . ')', $OK);
    for my $part (1 .. 4) {
        my @names = map { sprintf "{%d+}\r\nx.%d.%s", 1_000_000, $part * 10 + $_, 'x' x 999_995 } 1 .. 7;
        says("7 other names of 1 MB, part $part", 'GET MAILBOXES (' . join(' ', @names) . ')', $OK);
    }
    my @long = map { CBTest::Feed->new(mboxname => "user.bob.$_." . 'x' x 120_000) } 1 .. 100;
    my @refused = grep { $_ ne $OK } map { $s->{c}->command($_->apply)->{text} } @long;
    is("@refused", '', '100 mailboxes with names of 120 kB');
    $r = says('GET USER', 'GET USER bob', $OK);
    is(scalar(grep { /^MAILBOX / } @{ $r->{lines} }), 1 + 100, 'they are there');
    says('RESTART', 'RESTART', 'OK Restarting');
    says('80,000 hashes', 'APPLY RESERVE %(PARTITION default MBOXNAME () GUID (' . join(' ', map { sha1_hex($_) } 1 .. 80_000) . '))', $OK);
    says('110,000 hashes', 'APPLY RESERVE %(PARTITION default MBOXNAME () GUID (' . join(' ', map { sha1_hex($_) } 1 .. 110_000) . '))',
        qr/^NO IMAP_PROTOCOL_ERROR /);
    $s->sound('values just below the limit');
}

# ---- many uploads ------------------------------------------------------------------------

for my $names ('user.bob', 'user.bob user.carol') {
    says("GET MAILBOXES ($names)", "GET MAILBOXES ($names)", $OK);
    for my $part (1 .. 20) {
        my @items = map { file_item("$names $part $_") } 1 .. 10_000;
        my $r = $s->{c}->command('APPLY MESSAGE (' . join(' ', @items) . ')');
        is($r->{text}, $OK, "$names: $part times 10,000 small messages") if $part == 20 || $r->{text} ne $OK;
    }
    says('memory', 'NOOP', 'OK Noop completed');
}
$s->sound('many uploads');

# ---- a million records -----------------------------------------------------------------

# A mailbox of COUNT records that all have the same content. Its methods change nothing but text.
sub crowd
{
    my ($user, $count) = @_;
    my $box = CBTest::Feed->new(mboxname => "user.$user");
    my $r = { %{ $box->append(message("one for all of $user")) } };
    $s->{c}->get("USER $user");
    says('their content', $box->upload, $OK);
    return { user => $user, count => $count, box => $box, record => $r };
}

sub crowd_crc
{
    my ($crowd) = @_;
    my ($crc, $r) = (0, { %{ $crowd->{record} } });
    for my $uid (1 .. $crowd->{count}) {
        @{$r}{qw(uid modseq)} = ($uid, $uid + 1);
        $crc ^= record_crc($r);
    }
    return $crc;
}

sub crowd_header
{
    my ($crowd, $modseq, $crc) = @_;
    return (last_uid => $crowd->{count}, highestmodseq => $modseq, sync_crc => $crc);
}

# All records in one command.
sub send_crowd
{
    my ($crowd, $modseq, $crc, $expected) = @_;
    my ($text, $r) = ('', { %{ $crowd->{record} } });
    $s->{c}->send_raw('APPLY MAILBOX %('
        . $crowd->{box}->header(crowd_header($crowd, $modseq, $crc)) . ' RECORD (');
    for my $uid (1 .. $crowd->{count}) {
        @{$r}{qw(uid modseq)} = ($uid, $uid + 1);
        $text .= record_text($r) . ' ';
        next if $uid % 1000 && $uid < $crowd->{count};
        $s->{c}->send_raw($text);
        $text = '';
    }
    return says("$crowd->{count} records", '))', $expected // $OK);
}

sub crowd_listed
{
    my ($crowd) = @_;
    return $s->{c}->get("USER $crowd->{user}")->{MAILBOX}[0];
}

my $CHECKSUM = 'NO IMAP_SYNC_CHECKSUM Checksum Failure';
{
    my $count = 1_000_000;
    my $crowd = crowd('mike', $count);
    my $crc = crowd_crc($crowd);
    send_crowd($crowd, $count + 1, $crc);
    is(crowd_listed($crowd)->{HIGHESTMODSEQ}, $count + 1, 'they are there');
    my $delta = record_text({ %{ $crowd->{record} }, uid => 7, modseq => $count + 2, flags => ['\\Seen'] });
    says('a delta with a wrong checksum', $crowd->{box}->apply(records => [$delta],
        crowd_header($crowd, $count + 2, 4711)), $CHECKSUM);
    my $m = crowd_listed($crowd);
    is("$m->{HIGHESTMODSEQ} $m->{LAST_UID}", "0 $count", 'all records are asked for');
    send_crowd($crowd, $count + 2, $crc);
    is(crowd_listed($crowd)->{HIGHESTMODSEQ}, $count + 2, 'and accepted');
    $s->sound("$count records");
}
{
    # every record becomes another, so all of what is there must come back when the command fails
    my $count = 200_000;
    my $crowd = crowd('nina', $count);
    send_crowd($crowd, $count + 1, crowd_crc($crowd));
    is(crowd_listed($crowd)->{HIGHESTMODSEQ}, $count + 1, 'they are there');
    $crowd->{record}{last_updated}++;
    send_crowd($crowd, $count + 2, 4711, $CHECKSUM);
    is(crowd_listed($crowd)->{HIGHESTMODSEQ}, 0, 'all records are asked for');
    my $crc = crowd_crc($crowd);
    send_crowd($crowd, $count + 2, $crc);
    is(crowd_listed($crowd)->{SYNC_CRC}, $crc, "$count changed records");
    $s->sound("$count changed records");
}

$s->modest;
done_testing;
