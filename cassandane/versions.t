#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# One conversation with a client of each kind there is, from 3.0 to the development version, as it
# would be if that client were at hand: what it says in its order of keys, and the answers it
# must get, byte by byte.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Talk qw(lit annotation annotations record annot_crc $M1 $M2 $G1 $G2);
use Test::More;

my $t = CBTest::Talk->new;
my $PREFIX = '/vendor/cmu/cyrus-imapd';
my $CHECKSUM = 'NO IMAP_SYNC_CHECKSUM Checksum Failure';
my $CHANGED = 'NO IMAP_SYNC_CHANGED Changed since last sync';
my $NONE = 'NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox';

# All keys of a header in the order in which clients print them.
my @KEYS = qw(JMAPID UNIQUEID MBOXNAME MBOXTYPE SYNC_CRC SYNC_CRC_ANNOT LAST_UID HIGHESTMODSEQ
    RECENTUID RECENTTIME LAST_APPENDDATE POP3_LAST_LOGIN POP3_SHOW_AFTER XCONVMODSEQ
    COMPACT_EMAILIDS RACLMODSEQ USERGROUPS VERSION UIDVALIDITY PARTITION ACL OPTIONS QUOTAROOT
    CREATEDMODSEQ FOLDERMODSEQ DELETEDMODSEQ ANNOTATIONS USERFLAGS);
my %DEFAULT = (SYNC_CRC => 0, SYNC_CRC_ANNOT => 12345678, LAST_UID => 0, HIGHESTMODSEQ => 1,
    RECENTUID => 0, RECENTTIME => 0, LAST_APPENDDATE => 0, POP3_LAST_LOGIN => 0, POP3_SHOW_AFTER => 0,
    UIDVALIDITY => 1699990000, PARTITION => 'default', OPTIONS => 'P');

sub header
{
    my (%h) = @_;
    my ($user) = $h{MBOXNAME} =~ /user\.([^.]+)/;
    %h = (%DEFAULT, ACL => '"' . ($user // 'anyone') . qq(\tlrswipkxtecdan\t"), %h);
    my $text = join ' ', map { "$_ $h{$_}" } grep { defined $h{$_} } @KEYS;
    delete @h{@KEYS};
    die 'unknown keys: ', join ' ', keys %h if %h;
    return $text;
}

sub listed { return map { "* MAILBOX %($_)" } @_ }

sub mailbox
{
    my ($header, $records, $since) = @_;
    return "APPLY MAILBOX %($header" . ($since // '') . ' RECORD (' . join(' ', @{$records}) . '))';
}

sub since { my ($modseq, $crc, $annot) = @_; return " SINCE_MODSEQ $modseq SINCE_CRC $crc SINCE_CRC_ANNOT $annot" }

sub virtual { my ($name, $value) = @_; return annotation("$PREFIX/$name", '', $value, 0) }

# ---- 3.0 ----------------------------------------------------------------------------------

{
    my ($inbox, $old) = map { "v30uniqueid0000000000000$_" } 1, 2;
    my ($r1, $c1) = record(1, 2, 1700000100, '\\Seen $Label1', 1700000000, $M1,
        annotations(annotation("$PREFIX/thrid", undef, '0f1e2d3c4b5a6978')));
    my $note = annotation('/comment', '', '"shared comment"');
    my %inbox = (UNIQUEID => $inbox, MBOXNAME => 'user.v30', SYNC_CRC => $c1, LAST_UID => 1,
        SYNC_CRC_ANNOT => annot_crc(0, [1, "$PREFIX/thrid", '', 'f1e2d3c4b5a6978']), HIGHESTMODSEQ => 2,
        LAST_APPENDDATE => 1700000000, ANNOTATIONS => "($note)");
    is($c1, 1626628245, 'the checksum that is known of this record');
    my $h = header(%inbox);
    my $o = header(UNIQUEID => $old, MBOXNAME => 'user.v30.Old', SYNC_CRC_ANNOT => 0, OPTIONS => '""');
    $t->says('3.0: a user who is not known', 'GET USER v30');
    $t->upload('3.0: content, without a question', $M1);
    $t->says('3.0: mailbox', mailbox($h, [$r1]));
    $t->says('3.0: empty mailbox', mailbox($o, []));
    $t->says('3.0: quota without MODSEQ', 'APPLY QUOTA %(ROOT user.v30 LIMIT 4294967295)');
    $t->says('3.0: subscription', 'APPLY SUB %(USERID v30 MBOXNAME user.v30)');
    $t->says('3.0: script', 'APPLY SIEVE %(USERID v30 FILENAME main.script LAST_UPDATE 1700000010 CONTENT '
        . lit("require [\"fileinto\"];\nkeep;\n", '+') . ')');
    $t->says('3.0: it is active', 'APPLY ACTIVATE_SIEVE %(USERID v30 FILENAME main.bc)');
    $t->says('3.0: seen', "APPLY SEEN %(USERID v30 UNIQUEID $inbox LASTREAD 0 LASTUID 1 LASTCHANGE 5 SEENUIDS 1)");
    $t->ends;
    my $shown = $h =~ s/USERID "" VALUE/USERID "" MODSEQ 0 VALUE/r;
    my @meta = ("* SEEN %(UNIQUEID $inbox LASTREAD 0 LASTUID 1 LASTCHANGE 5 SEENUIDS 1)",
        '* LSUB (user.v30)',
        '* SIEVE %(FILENAME main.script LAST_UPDATE 1700000010 GUID 23d69f81749b8d81cee9ae78255490d0fb87ec7b ISACTIVE 0)',
        '* SIEVE %(FILENAME main.bc LAST_UPDATE 1700000010 ISACTIVE 1)');
    my $quota = '* QUOTA %(ROOT user.v30 LIMIT 4294967295)';
    $t->says('3.0: the second run has nothing to say', 'GET USER v30', listed($shown, $o), $quota, @meta);
    $t->says('3.0: -s', 'GET META v30', @meta);

    # rename and go on without asking again, relative to what was listed; then a flag, an expunge
    $t->says('3.0: RENAME', 'APPLY RENAME %(OLDMBOXNAME user.v30.Old NEWMBOXNAME user.v30.New PARTITION ssd'
        . ' UIDVALIDITY 1699990000)');
    my $n = header(UNIQUEID => $old, MBOXNAME => 'user.v30.New', SYNC_CRC_ANNOT => 0, OPTIONS => 'SD', PARTITION => 'ssd',
        HIGHESTMODSEQ => 2);
    $t->says('3.0: the mailbox under its new name', mailbox($n, []));
    my ($r1f, $c1f) = record(1, 3, 1700000300, '\\Flagged \\Seen', 1700000000, $M1);
    my $hf = header(%inbox, SYNC_CRC => $c1f, SYNC_CRC_ANNOT => 0, HIGHESTMODSEQ => 3);
    $t->says('3.0: RESERVE', "APPLY RESERVE %(PARTITION default MBOXNAME (user.v30 user.v30.Old) GUID ($G1))");
    $t->says('3.0: a flag', mailbox($hf, [$r1f]));
    my ($r1x) = record(1, 4, 1700000310, '\\Deleted \\Expunged \\Seen', 1700000000, $M1);
    my $hx = header(%inbox, SYNC_CRC => 0, SYNC_CRC_ANNOT => 0, HIGHESTMODSEQ => 4);
    $t->says('3.0: an expunge, relative to what we just had', mailbox($hx, [$r1x]));
    $t->says('3.0: surplus is deleted', 'APPLY UNMAILBOX user.v30.New');
    $t->says('3.0: and once more', 'APPLY UNMAILBOX user.v30.New', $NONE);
    $shown = $hx =~ s/USERID "" VALUE/USERID "" MODSEQ 0 VALUE/r;
    $t->says('3.0: the result', 'GET USER v30', listed($shown), $quota, @meta);
    $t->ends;
    is($t->uids('v30', 'user.v30'), '1x', '3.0: stored as expunged');
    unlike($t->text('v30'), qr/APPLY EXPUNGE/, '3.0: never by a line EXPUNGE');
    $t->rebuild('v30');
    $t->says('3.0: the same from the data file alone', 'GET USER v30', listed($shown), $quota, @meta);

    # rolling: quota, annotation, seen, sub first, without a GET; then mailboxes of all users mixed
    $t->restart;
    $t->says('3.0 rolling: QUOTA', 'APPLY QUOTA %(ROOT user.v30 LIMIT 100 STORAGE 100)');
    $t->says('3.0 rolling: GET ANNOTATION', 'GET ANNOTATION user.v30',
        '* ANNOTATION %(MBOXNAME user.v30 ENTRY /comment USERID "" VALUE "shared comment")');
    $t->says('3.0 rolling: ANNOTATION', 'APPLY ANNOTATION %(MBOXNAME user.v30 ENTRY /comment USERID "" VALUE other)');
    $t->says('3.0 rolling: SEEN', "APPLY SEEN %(USERID v30b UNIQUEID $inbox LASTREAD 9 LASTUID 1 LASTCHANGE 9 SEENUIDS \"\")");
    $t->says('3.0 rolling: UNSUB', 'APPLY UNSUB %(USERID v30 MBOXNAME user.v30)');
    my ($hb, $hs) = (header(UNIQUEID => 'v30b', MBOXNAME => 'user.v30b', SYNC_CRC_ANNOT => 0),
        header(UNIQUEID => 'v30s', MBOXNAME => 'v30shared', SYNC_CRC_ANNOT => 0));
    $shown =~ s/"shared comment"/other/;
    $t->says('3.0 rolling: names of several users and of nobody', 'GET MAILBOXES (user.v30b v30shared user.v30 user.v30.New)',
        listed($shown));
    $t->says('3.0 rolling: their mailboxes', mailbox($_, [])) for $hb, $hs;
    $t->restart;
    $t->says('3.0 rolling: they are there', 'GET MAILBOXES (v30shared user.v30b)', listed($hs, $hb));
    $t->says('3.0 rolling: META', 'GET META v30b', "* SEEN %(UNIQUEID $inbox LASTREAD 9 LASTUID 1 LASTCHANGE 9 SEENUIDS \"\")");
    $t->says('3.0: UNUSER when there is no INBOX', 'APPLY UNUSER v30');
    $t->says('3.0: nothing of him is listed', 'GET USER v30');
    $t->says('3.0: UNUSER of nobody', 'APPLY UNUSER v30nobody');
    $t->ends;
    like($t->text('v30'), qr/\r\n\d+ APPLY UNUSER v30\r\n/, '3.0: it is written down');
    is($t->{site}->data_file('v30nobody'), undef, '3.0: nothing came of asking');
}

# ---- 3.2 ----------------------------------------------------------------------------------

# Two records with what 3.2 to 3.12 send beside.
my ($R1, $C1) = record(1, 2, 1700000100, '\\Seen $Label1', 1700000000, $M1,
    annotations(virtual('savedate', 1700000000), virtual('createdmodseq', 2)));
my ($R2, $C2) = record(2, 4, 1700000200, '', 1700000150, $M2,
    annotations(annotation('/comment', 'joe', '"private note"', 4), virtual('savedate', 1700000150),
    virtual('createdmodseq', 3)));
my @A1 = ([1, "$PREFIX/savedate", '', 1700000000], [1, "$PREFIX/createdmodseq", '', 2]);
my @A2 = ([2, '/comment', 'joe', 'private note'], [2, "$PREFIX/savedate", '', 1700000150],
    [2, "$PREFIX/createdmodseq", '', 3]);
my ($N1, $N2) = (annot_crc(12345678, @A1), annot_crc(12345678, @A1, @A2));
is("$N1 $N2 " . ($C1 ^ $C2), '3220837215 3919117322 3087944773', 'the checksums that are known of both records');

# First sync, nothing to do, one new message: what all of 3.2 to 3.12 have in common. Returns the
# header now.
sub grow
{
    my ($v, $user, %more) = @_;
    my %h = (UNIQUEID => "${user}uniqueid", MBOXNAME => "user.$user", CREATEDMODSEQ => 1, FOLDERMODSEQ => 1,
        LAST_APPENDDATE => 1700000000, %more);
    my $h1 = header(%h, SYNC_CRC => $C1, SYNC_CRC_ANNOT => $N1, LAST_UID => 1, HIGHESTMODSEQ => 2);
    $t->says("$v: a user who is not known", "GET USER $user");
    $t->upload("$v: content", $M1);
    $t->says("$v: mailbox", mailbox($h1, [$R1]));
    $t->ends;
    $t->says("$v: nothing to do", "GET USER $user", listed($h1));
    $t->ends;
    $t->says("$v: -m", "GET MAILBOXES (user.$user)", listed($h1));
    $t->says("$v: RESERVE", "APPLY RESERVE %(PARTITION default MBOXNAME (user.$user) GUID ($G2))", "* MISSING ($G2)");
    $t->upload("$v: new content", $M2);
    my $h2 = header(%h, SYNC_CRC => $C1 ^ $C2, SYNC_CRC_ANNOT => $N2, LAST_UID => 2, HIGHESTMODSEQ => 4, RECENTUID => 1,
        RECENTTIME => 1700000120);
    $t->says("$v: new record", mailbox($h2, [$R2], since(2, $C1, $N1)));
    $t->ends;
    $t->says("$v: it is there", "GET MAILBOXES (user.$user)", listed($h2));
    $t->ends;
    is($t->box($user, "user.$user")->{computed_sync_crc}, $C1 ^ $C2, "$v: all of it");
    like($t->text($user), qr/ANNOTATIONS \(%\(ENTRY \/comment USERID joe MODSEQ 4 VALUE "private note"\)/,
        "$v: message annotations as they came");
    return $h2;
}

{
    my $h = grow('3.2', 'v32', OPTIONS => 'PSDA', RACLMODSEQ => 17, XCONVMODSEQ => 4);
    my $i = 'UNIQUEID v32intermediate MBOXNAME user.v32.A MBOXTYPE i HIGHESTMODSEQ 12 CREATEDMODSEQ 12 FOLDERMODSEQ 12';
    my $sub = header(UNIQUEID => 'v32sub', MBOXNAME => 'user.v32.A.B', MBOXTYPE => 'c', CREATEDMODSEQ => 1, FOLDERMODSEQ => 1);
    $t->says('3.2: USER', 'GET USER v32', listed($h));
    $t->says('3.2: intermediate first', "APPLY MAILBOX %($i)");
    $t->says('3.2: RENAME within the partition', 'APPLY RENAME %(OLDMBOXNAME user.v32 NEWMBOXNAME user.v32 PARTITION other'
        . ' UIDVALIDITY 1699990000)');
    $t->says('3.2: and its calendar', mailbox($sub, []));
    $h =~ s/PARTITION default/PARTITION other/;
    $t->says('3.2: QUOTA', 'APPLY QUOTA %(ROOT user.v32 LIMIT 100000 STORAGE 100000 MESSAGE 5000 X-ANNOTATION-STORAGE 7'
        . ' X-NUM-FOLDERS 9 MODSEQ 7)');
    $t->ends;
    $t->says('3.2: what is listed', 'GET USER v32', listed($h, $sub), '* QUOTA %(ROOT user.v32 LIMIT 100000'
        . ' STORAGE 100000 MESSAGE 5000 X-ANNOTATION-STORAGE 7 X-NUM-FOLDERS 9 MODSEQ 7)');
    $t->says('3.2: the intermediate comes each time', "APPLY MAILBOX %($i)");
    my $real = header(UNIQUEID => 'v32intermediate', MBOXNAME => 'user.v32.A', CREATEDMODSEQ => 12, FOLDERMODSEQ => 13);
    $t->says('3.2: and becomes a mailbox', mailbox($real, []));
    $t->says('3.2: which is listed', 'GET MAILBOXES (user.v32.A)', listed($real));
    $t->says('3.2: a base that is not ours', mailbox($real, [], since(5, 0, 0)), $CHANGED);
    $t->ends;
}

# ---- 3.4 ----------------------------------------------------------------------------------

{
    my $h = grow('3.4', 'v34');
    my $d = header(UNIQUEID => 'v34drafts', MBOXNAME => 'user.v34.Drafts', CREATEDMODSEQ => 1, FOLDERMODSEQ => 1);
    $t->says('3.4: USER', 'GET USER v34', listed($h));
    $t->says('3.4: Drafts', mailbox($d, []));
    $t->says('3.4: RENAME', 'APPLY RENAME %(OLDMBOXNAME user.v34.Drafts NEWMBOXNAME user.v34.Concepts PARTITION p2'
        . ' UIDVALIDITY 1699990009)');
    my $e = $d =~ s/Drafts/Concepts/r =~ s/PARTITION default/PARTITION p2/r =~ s/1699990000/1699990009/r;
    $t->says('3.4: asks again and finds name and partition', 'GET USER v34', listed($h, $e));
    my $e2 = $e =~ s/FOLDERMODSEQ 1/FOLDERMODSEQ 3/r =~ s/HIGHESTMODSEQ 1/HIGHESTMODSEQ 3/r;
    $t->says('3.4: new modseqs', mailbox($e2, [], since(1, 0, 12345678)));
    $t->says('3.4: delayed delete', 'APPLY RENAME %(OLDMBOXNAME user.v34.Concepts NEWMBOXNAME'
        . ' DELETED.user.v34.Concepts.6553F3A0 PARTITION p2 UIDVALIDITY 1699990009)');
    my $e3 = $e2 =~ s/MBOXNAME \S+/MBOXNAME DELETED.user.v34.Concepts.6553F3A0/r;
    $t->says('3.4: deleted mailboxes are listed with their user', 'GET USER v34', listed($e3, $h));
    $t->says('3.4: purged', 'APPLY UNMAILBOX DELETED.user.v34.Concepts.6553F3A0');
    $t->ends;

    # a cache in place of the question
    my ($r1, $c1) = record(1, 5, 1700000300, '\\Flagged \\Seen $Label1', 1700000000, $M1);
    my ($r2, $c2) = record(2, 6, 1700000310, '\\Deleted \\Expunged', 1700000150, $M2);
    my $h2 = $h =~ s/HIGHESTMODSEQ 4/HIGHESTMODSEQ 6/r =~ s/SYNC_CRC \d+/SYNC_CRC $c1/r;
    $t->says('3.4: cached, but of another state', mailbox($h2, [$r1, $r2], since(3, $C1 ^ $C2, $N2)), $CHANGED);
    $t->says('3.4: cached', mailbox($h2, [$r1, $r2], since(4, $C1 ^ $C2, $N2)));
    $t->restart;

    # a copy that is not right heals within the unit
    my ($r3, $c3) = record(1, 7, 1700000400, '\\Seen', 1700000000, $M1);
    my $h3 = $h2 =~ s/HIGHESTMODSEQ 6/HIGHESTMODSEQ 7/r =~ s/SYNC_CRC \d+/SYNC_CRC 4711/r;
    $t->says('3.4: MAILBOXES', 'GET MAILBOXES (user.v34)', listed($h2));
    $t->says('3.4: other checksum', mailbox($h3, [$r3], since(6, $c1, $N2)), $CHECKSUM);
    my $doubt = $h2 =~ s/HIGHESTMODSEQ 6/HIGHESTMODSEQ 0/r =~ s/SYNC_CRC \d+/SYNC_CRC 0/r =~ s/SYNC_CRC_ANNOT \d+/SYNC_CRC_ANNOT 0/r;
    $t->says('3.4: asks again', 'GET MAILBOXES (user.v34)', listed($doubt));
    $h3 =~ s/SYNC_CRC 4711/SYNC_CRC $c3/;
    $t->says('3.4: all records', mailbox($h3, [$r3, $r2]));
    $t->ends;
    is($t->uids('v34', 'user.v34'), '1 2x', '3.4: stored');
    is($t->box('v34', 'user.v34')->{computed_sync_crc}, $c3, '3.4: and right');

    # the master has forgotten what it expunged
    $t->says('3.4: MAILBOXES', 'GET MAILBOXES (user.v34)', listed($h3));
    my $full = $h3 =~ s/SYNC_CRC \d+ SYNC_CRC_ANNOT \d+ LAST_UID 2 HIGHESTMODSEQ 7/LAST_UID 0 HIGHESTMODSEQ 0/r
        =~ s/ FOLDERMODSEQ 1//r;
    $t->says('3.4: FULLMAILBOX', 'GET FULLMAILBOX user.v34', "* MAILBOX %($full RECORD ())");
    $doubt = $h3 =~ s/HIGHESTMODSEQ 7/HIGHESTMODSEQ 0/r =~ s/SYNC_CRC \d+/SYNC_CRC 0/r =~ s/SYNC_CRC_ANNOT \d+/SYNC_CRC_ANNOT 0/r;
    $t->says('3.4: asks again', 'GET MAILBOXES (user.v34)', listed($doubt));
    $t->says('3.4: all it has', mailbox($h3, [$r3]));
    $t->says('3.4: done', 'GET MAILBOXES (user.v34)', listed($h3));
    $t->says('3.4: FETCH, if it ever comes', "GET FETCH %(MBOXNAME user.v34 PARTITION p9 UNIQUEID v34uniqueid GUID $G1 UID 1)",
        "* MESSAGE %{p9 $G1 73}\r\n$M1");
    $t->ends;
}

# ---- 3.6 ----------------------------------------------------------------------------------

{
    $t->says('3.6: CAPABILITIES, though none were offered', 'APPLY CAPABILITIES (SIEVE-MAILBOX)', '* ENABLED ()');
    $t->says('3.6: -O', 'APPLY FORCE %()');
    my $h = grow('3.6', 'v36');
    $t->says('3.6: USER', 'GET USER v36', listed($h));
    $t->says('3.6: intermediate', 'APPLY MAILBOX %(UNIQUEID 6c1d4b5e-7a34-4e4c-9b44-0f3c7a0d9b11 MBOXNAME user.v36.Archive'
        . ' MBOXTYPE ei HIGHESTMODSEQ 12 CREATEDMODSEQ 12 FOLDERMODSEQ 12)');
    my @types;
    for my $type (qw(e n b c a s p j f)) {
        push @types, header(UNIQUEID => "v36$type", MBOXNAME => "user.v36.type$type", MBOXTYPE => $type);
        $t->says("3.6: a mailbox of type $type", mailbox($types[-1], []));
    }
    $t->ends;
    $t->says('3.6: types as they came', 'GET USER v36', listed(sort { ($a =~ /MBOXNAME (\S+)/)[0] cmp ($b =~ /MBOXNAME (\S+)/)[0] } $h, @types));
    # rolling: with former names, then META in front of Sieve
    $t->says('3.6 rolling: with former names', 'GET MAILBOXES (user.v36 user.v36.Former DELETED.user.v36.Former.6553F3A0 user.v36)',
        listed($h));
    $t->says('3.6 rolling: META', 'GET META v36');
    $t->says('3.6 rolling: SIEVE', 'APPLY SIEVE %(USERID v36 FILENAME a.script LAST_UPDATE 5 CONTENT keep;)');
    $t->says('3.6 rolling: META again', 'GET META v36',
        '* SIEVE %(FILENAME a.script LAST_UPDATE 5 GUID ' . CBTest::Util::sha1_hex('keep;') . ' ISACTIVE 0)');
    $t->says('3.6 rolling: UNSIEVE', 'APPLY UNSIEVE %(USERID v36 FILENAME a.script)');
    $t->says('3.6 rolling: server annotations', 'GET ANNOTATION ""');
    $t->restart;
    $t->ends;
}

# ---- 3.8, 3.10 ----------------------------------------------------------------------------

{
    $t->says('3.10: CAPABILITIES with archive', 'APPLY CAPABILITIES (SIEVE-MAILBOX REPLICATION-ARCHIVE)', '* ENABLED ()');
    my $h = grow('3.10', 'v310', ACL => '""', OPTIONS => '""', QUOTAROOT => 'user.v310');
    my $q = '%(ROOT user.v310 LIMIT 100000 STORAGE 100000 MESSAGE 5000 X-ANNOTATION-STORAGE 7 X-NUM-FOLDERS 9'
        . ' ANNOTATION-STORAGE 7 MAILBOX 9 MODSEQ 7)';
    $t->says('3.10: QUOTA by both names', "APPLY QUOTA $q");
    $t->says('3.10: is listed by both', 'GET USER v310', listed($h), "* QUOTA $q");
    $t->says('3.10: UNQUOTA', 'APPLY UNQUOTA user.v310');
    $t->says('3.10: is listed no longer', 'GET USER v310', listed($h));
    $t->ends;
}

# ---- 3.12 ---------------------------------------------------------------------------------

{
    my $h = grow('3.12', 'v312', USERGROUPS => qq("group:staff\tgroup:all"), USERFLAGS => '($Label1 has:attachment)');
    my $e = header(UNIQUEID => 'v312empty', MBOXNAME => 'user.v312.Empty', CREATEDMODSEQ => 1, FOLDERMODSEQ => 1, USERFLAGS => '()');
    my $d = header(UNIQUEID => 'v312del', MBOXNAME => 'DELETED.user.v312.Gone.6553F3A0', CREATEDMODSEQ => 1, FOLDERMODSEQ => 1, USERFLAGS => '()');
    $t->says('3.12: USER', 'GET USER v312', listed($h));
    $t->says('3.12: then all names it ever had', 'GET MAILBOXES (user.v312 user.v312.Empty user.v312.Former user.v312nobody.X'
        . ' DELETED.user.v312.Gone.6553F3A0)', listed($h));
    $t->says('3.12: tombstone', 'APPLY MAILBOX %(UNIQUEID v312tomb MBOXNAME user.v312.Tomb MBOXTYPE ed HIGHESTMODSEQ 3'
        . ' CREATEDMODSEQ 1 FOLDERMODSEQ 3)');
    $t->says('3.12: intermediate', 'APPLY MAILBOX %(UNIQUEID v312int MBOXNAME user.v312.Int MBOXTYPE ei HIGHESTMODSEQ 3'
        . ' CREATEDMODSEQ 1 FOLDERMODSEQ 3)');
    $t->says('3.12: empty mailboxes', mailbox($_, [])) for $e, $d;
    $t->says('3.12: another mailbox in the place of the tombstone', mailbox(header(UNIQUEID => 'v312tomb2',
        MBOXNAME => 'user.v312.Tomb', USERFLAGS => '()'), []));
    $t->says('3.12: it is deleted', 'APPLY UNMAILBOX user.v312.Tomb');
    $t->says('3.12: USER', 'GET USER v312', listed($d, $h, $e));
    $t->says('3.12: MAILBOXES', 'GET MAILBOXES (user.v312.Former user.v312.Tomb user.v312.Int user.v312.Empty user.v312'
        . ' DELETED.user.v312.Gone.6553F3A0 user.v312.Empty user.v36 user.v312nobody)', listed($e, $h, $d),
        listed(grep { /user\.v36 / } map { /^MAILBOX %\((.*)\)$/s } @{ $t->c->command('GET MAILBOXES (user.v36)')->{lines} }));
    $t->ends;
    is($t->{site}->data_file('v312nobody'), undef, '3.12: nothing came of asking');
}

# ---- the development version ----------------------------------------------------------------

{
    my ($r, $c) = record(1, 2, 1700000100, '\\Seen $Label1', 1700000000, $M1, annotations(
        virtual('internaldate.nsec', 123456789), virtual('basethrid', '0f1e2d3c4b5a6978'), virtual('createdmodseq', 2),
        virtual('savedate', 1700000000), virtual('thrid', '0f1e2d3c4b5a6978')));
    my $annot = annot_crc(12345678, [1, "$PREFIX/internaldate.nsec", '', 123456789], [1, "$PREFIX/createdmodseq", '', 2],
        [1, "$PREFIX/savedate", '', 1700000000], [1, "$PREFIX/thrid", '', '0f1e2d3c4b5a6978']);
    is($annot, 1798274677, 'the annotation checksum that is known of it, but for basethrid');
    my %h = (JMAPID => 'P0001', UNIQUEID => '2f6b0b1e-0c52-4b52-9f7e-0c7f1a2b3c4d', MBOXNAME => 'user.head', SYNC_CRC => $c,
        SYNC_CRC_ANNOT => $annot, LAST_UID => 1, HIGHESTMODSEQ => 2, LAST_APPENDDATE => 1700000000, XCONVMODSEQ => 2,
        COMPACT_EMAILIDS => 1, USERGROUPS => qq("group:staff\tgroup:all"), VERSION => 20, CREATEDMODSEQ => 1,
        FOLDERMODSEQ => 1, DELETEDMODSEQ => 1, ANNOTATIONS => '(' . annotation('/comment', '', 'x', 5) . ')',
        USERFLAGS => '($Label1)');
    my $h = header(%h);
    like($h, qr/^JMAPID P0001 UNIQUEID /, 'JMAPID comes first');
    $t->says('head: USER', 'GET USER head');
    $t->says('head: MAILBOXES', 'GET MAILBOXES (user.head)');
    $t->upload('head: content', $M1);
    $t->says('head: mailbox', mailbox($h, [$r]));
    $t->says('head: intermediate, JMAPID first', 'APPLY MAILBOX %(JMAPID P0002 UNIQUEID headint MBOXNAME user.head.I MBOXTYPE ei'
        . ' HIGHESTMODSEQ 12 CREATEDMODSEQ 12 FOLDERMODSEQ 12)');
    $t->ends;
    $t->says('head: verbatim', 'GET USER head', listed($h));
    my $large = 5_000_000_000;
    my $h2 = header(%h, HIGHESTMODSEQ => '18446744073709551615', DELETEDMODSEQ => 9, SYNC_CRC => 0, SYNC_CRC_ANNOT => 12345678);
    $t->says('head: sizes of 64 bits, modseqs of 64 bits', mailbox($h2, [(record(1, '18446744073709551615', 1700000100,
        '\\Expunged', 1700000000, $M1))[0] =~ s/SIZE 73/SIZE $large/r], since(2, $c, $annot)));
    $t->says('head: verbatim', 'GET USER head', listed($h2));
    $t->ends;
    is($t->box('head', 'user.head')->{records}[0]{size}, $large, 'head: stored');
    $t->rebuild('head');
    $t->says('head: verbatim from the data file alone', 'GET USER head', listed($h2));
    $t->ends;
}

# ---- one master, upgraded ------------------------------------------------------------------

{
    my $u = 'upgraded';
    my %h = (UNIQUEID => 'upgradeduniqueid', MBOXNAME => "user.$u", LAST_UID => 1, SYNC_CRC => $C1, LAST_APPENDDATE => 1700000000);
    my $h30 = header(%h, SYNC_CRC_ANNOT => 0, HIGHESTMODSEQ => 2);
    $t->says('3.0', "GET USER $u");
    $t->upload('content', $M1);
    $t->says('3.0: mailbox', mailbox($h30, [$R1 =~ s/ ANNOTATIONS .*\)\)\)$/)/r]));
    $t->ends;
    my $h32 = header(%h, SYNC_CRC_ANNOT => $N1, HIGHESTMODSEQ => 3, CREATEDMODSEQ => 1, FOLDERMODSEQ => 3);
    $t->says('3.2 sees what 3.0 left', "GET USER $u", listed($h30));
    $t->says('and says it again its own way', mailbox($h32, [], since(2, $C1, 0)));
    $t->says('to find it so', "GET USER $u", listed($h32));
    $t->ends;
    my $h312 = header(%h, SYNC_CRC_ANNOT => $N1, HIGHESTMODSEQ => 3, CREATEDMODSEQ => 1, FOLDERMODSEQ => 3, USERFLAGS => '($Label1)');
    $t->says('3.12 sees what 3.2 left', "GET USER $u", listed($h32));
    $t->says('and may add to it', mailbox($h312, [], since(3, $C1, $N1)));
    $t->says('to find it so', "GET USER $u", listed($h312));
    $t->ends;
    is($t->box($u, "user.$u")->{computed_sync_crc}, $C1, 'the record is the same');
}

done_testing;
