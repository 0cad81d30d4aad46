#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# The same thing said in many ways: keys known and unknown in any order, records in any order,
# mailboxes in parts and names without mailboxes, values in every notation, commands that are none.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Feed qw(message file_item record_text);
use CBTest::Talk qw(lit annotation annotations record $M1 $M2 $G1 $G2);
use CBTest::Util qw(sha1_hex);
use Test::More;

my $t = CBTest::Talk->new;
my $BAD = 'NO IMAP_PROTOCOL_BAD_PARAMETERS Bad parameters';
my $ERROR = 'NO IMAP_PROTOCOL_ERROR Protocol error';
my $NONE = 'NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox';
my $CHECKSUM = 'NO IMAP_SYNC_CHECKSUM Checksum Failure';

# ---- keys of the header -----------------------------------------------------------------------

my %key = (UNIQUEID => 'keys01', MBOXNAME => 'user.keys', SYNC_CRC => 0, SYNC_CRC_ANNOT => 12345678, LAST_UID => 0,
    HIGHESTMODSEQ => 1, RECENTUID => 0, RECENTTIME => 0, LAST_APPENDDATE => 0, POP3_LAST_LOGIN => 0, UIDVALIDITY => 5,
    PARTITION => 'default', ACL => qq("keys\tlrs\t"), OPTIONS => '""');
my @order = sort { reverse($a) cmp reverse($b) } keys %key;
my $plain = join ' ', map { "$_ $key{$_}" } @order;

sub keys_are
{
    my ($label, $said, $listed, $behind) = @_;
    $t->says("$label: MAILBOX", "APPLY MAILBOX %($said RECORD ()" . ($behind // '') . ')');
    $t->says("$label: listed", 'GET MAILBOXES (user.keys)', "* MAILBOX %($listed)");
    $t->rebuild('keys');
    $t->says("$label: from the data file alone", 'GET USER keys', "* MAILBOX %($listed)");
    return;
}

$t->says('USER', 'GET USER keys');
keys_are('in an order of their own', $plain, $plain);
my %unknown = ('a word' => 'word', 'a number' => 18446744073709551616, 'nothing' => 'NIL', 'the word NIL' => '"NIL"',
    'empty' => '""', 'quoted' => qq("a b\tc(d)"), 'a list' => '(a b "c d" () NIL)', 'keys and values' => '%(A 1 B (2 %(C 3)) D NIL)',
    'a flag' => '\\Flag', 'flags' => '(\\Seen $Label1)', 'empty ones' => '%()');
for my $what (sort keys %unknown) {
    keys_are("unknown key, $what", "X-FIRST 1 $plain X-$what" =~ s/X-$what/X-KEY $unknown{$what}/r,
        "X-FIRST 1 $plain X-KEY $unknown{$what}");
}
for my $bytes ("gr\xc3\xbc\xc3\x9fe", '100%', "a\0b", "1\r\n2", 'x' x 1024, "{3}\r\nabc", 'say "hi"') {
    keys_are('unknown key, literal', "$plain X-KEY " . lit($bytes, '+') . ' X-LAST (' . lit($bytes, '+') . ')',
        "$plain X-KEY " . lit($bytes) . ' X-LAST (' . lit($bytes) . ')');
}
keys_are('other notations of the same', ($plain =~ s/MBOXNAME user.keys/MBOXNAME "user.keys"/r
    =~ s/UNIQUEID keys01/UNIQUEID {6}\r\nkeys01/r =~ s/LAST_UID 0/"LAST_UID" "0"/r), $plain);
keys_are('line ends between keys', ($plain =~ s/ RECENT/\r\n  \tRECENT/gr), $plain);
keys_are('a key twice: the first counts', "$plain LAST_UID 7 X 1 X 2", "$plain LAST_UID 7 X 1 X 2");
my $less = $plain =~ s/SYNC_CRC 0 //r;
keys_are('keys behind RECORD', $less, $less . ' SYNC_CRC 0 X-KEY (1 2)',
    ' SYNC_CRC 0 X-KEY (1 2) LAST_UID 9 RECORD (x)');
$t->says('what is mandatory, behind RECORD', 'APPLY MAILBOX %(' . ($plain =~ s/ ?LAST_UID 0//r) . ' RECORD () LAST_UID 0)', $BAD);
$t->says('SINCE, behind RECORD', "APPLY MAILBOX %($plain RECORD () SINCE_MODSEQ 1)", $BAD);
$t->says('and all is well', 'GET MAILBOXES (user.keys)', "* MAILBOX %($less SYNC_CRC 0 X-KEY (1 2))");
keys_are("options $_", ($plain =~ s/OPTIONS ""/OPTIONS $_/r), ($plain =~ s/OPTIONS ""/OPTIONS $_/r)) for qw(P S D A PSDA Z);
keys_are("type $_", "$plain MBOXTYPE $_", "$plain MBOXTYPE $_") for qw(NIL ""), qw(r n c b a s p e f j cm el);
$t->ends;

# ---- records ----------------------------------------------------------------------------------

sub box { return CBTest::Feed->new(mboxname => shift) }

{
    my $b = box('user.rec');
    $b->append(message("rec $_"), '\\Seen') for 1 .. 5;
    $b->{records}[1]{flags} = [qw(\\Expunged)];
    $t->says('USER', 'GET USER rec');
    $t->says('content', $b->upload);
    my @odd = map { my @k = ($_ =~ /^%\((.*)\)$/)[0] =~ /(\w+ (?:\([^)]*\)|\S+))/g; '%(X-ODD (1 2) ' . join(' ', reverse @k) . ')' }
        map { record_text($_) } @{ $b->{records} };
    $t->says('keys of records in another order, and unknown ones', $b->apply(records => \@odd));
    is($t->uids('rec', 'user.rec'), '1 2x 3 4 5', 'all there');
    is($t->box('rec', 'user.rec')->{computed_sync_crc}, $b->crc, 'and right');
    like($t->text('rec'), qr/GUID \w{40} X-ODD \(1 2\)\)/, 'what is unknown is kept');

    # out of order: as a delta, and as all there is; what is not among it is gone
    $t->says('USER', 'GET USER rec', '* MAILBOX %(' . $b->header . ')');
    my $seen = $b->{modseq};
    $b->append(message("rec $_")) for 6 .. 9;
    $b->set_flags(1, '\\Flagged');
    $t->says('more content', $b->upload($seen));
    my @r = map { record_text($_) } @{ $b->{records} };
    $t->says('a delta, backwards', $b->apply(records => [reverse @r[0, 5 .. 8]]));
    is($t->uids('rec', 'user.rec'), '1 2x 3 4 5 6 7 8 9', 'all there');
    $t->restart;
    my @keep = grep { $_->{uid} != 4 && $_->{uid} != 8 } @{ $b->{records} };
    my @texts = map { record_text($_) } @keep;
    $b->{records} = [@keep];
    $t->says('all there is, without 4 and 8, in disorder', $b->apply(records => [@texts[6, 0, 5, 2, 1, 4, 3]]));
    is($t->uids('rec', 'user.rec'), '1 2x 3 4x 5 6 7 8x 9', 'those that are not there are gone, no others');
    is($t->box('rec', 'user.rec')->{computed_sync_crc}, $b->crc, 'and right');
    $t->rebuild('rec');
    is($t->uids('rec', 'user.rec'), '1 2x 3 4x 5 6 7 8x 9', 'the same from the data file alone');
    $t->says('and listed as always', 'GET USER rec', '* MAILBOX %(' . $b->header . ')');

    # one UID twice
    $seen = $b->{modseq};
    my $early = record_text({ %{ $b->{records}[0] }, flags => ['\\Draft'], modseq => 90 });
    $b->set_flags(1, '\\Answered');
    my $late = record_text($b->{records}[0]);
    $t->says('one UID twice: the last counts', $b->apply(records => [$early, $late, $late]));
    is($t->box('rec', 'user.rec')->{computed_sync_crc}, $b->crc, 'it does');
    $t->ends;
}
{
    my $b = box('user.reverse');
    my $r = $b->append(message('one for all'));
    $t->says('USER', 'GET USER reverse');
    $t->says('content', $b->upload);
    push @{ $b->{records} }, { %{$r}, uid => $_, modseq => $_ + 1 } for 2 .. 30_000;
    @{$b}{qw(last_uid modseq)} = (30_000, 30_001);
    my @r = map { record_text($_) } reverse @{ $b->{records} };
    $t->says('30,000 records, backwards', $b->apply(records => \@r));
    $t->restart;
    $t->says('once more: all there is', $b->apply(records => \@r));
    my $max = $ENV{MAX_RSS} // 32 * 1024;
    cmp_ok($t->{site}->note_memory, '<=', $max, "no more than $max KiB of memory");
    is($t->box('reverse', 'user.reverse')->{computed_sync_crc}, $b->crc, 'all of them');
}

# ---- names without mailboxes --------------------------------------------------------------------

{
    my @short = ('MBOXTYPE i HIGHESTMODSEQ 12 CREATEDMODSEQ 12 FOLDERMODSEQ 12', 'MBOXTYPE ei HIGHESTMODSEQ 12', 'MBOXTYPE ed HIGHESTMODSEQ 12',
        'MBOXTYPE d', 'MBOXTYPE di PARTITION default', 'MBOXTYPE ei PARTITION NIL ACL NIL', 'MBOXTYPE ei RECORD ()',
        'MBOXTYPE ei RECORD (%(UID 1 MODSEQ 2 LAST_UPDATED 3 FLAGS () INTERNALDATE 4 SIZE 73 GUID ' . $G1 . ') X 1)' =~ s/ X 1//r,
        'MBOXTYPE ei RECORD () X (1 2)');
    $t->says("intermediate, $_", "APPLY MAILBOX %(UNIQUEID int1 MBOXNAME user.int.A $_)") for @short;
    $t->says('with JMAPID first', "APPLY MAILBOX %(JMAPID J1 UNIQUEID int1 MBOXNAME user.int.A $short[0])");
    $t->says('LOCAL_', "APPLY LOCAL_MAILBOX %(UNIQUEID int1 MBOXNAME user.int.A $short[0])");
    $t->says('nothing is listed', 'GET USER int');
    $t->says('nor by name', 'GET MAILBOXES (user.int.A)');
    is($t->{site}->data_file('int'), undef, 'nor stored');
    my $same = 'UNIQUEID int1 ' . ($plain =~ s/UNIQUEID keys01//r =~ s/user\.keys/user.int.A/r =~ s/  / /r);
    $same =~ s/ ?$//;
    $t->says('a mailbox of that UNIQUEID', "APPLY MAILBOX %($same RECORD ())");
    $t->says('is listed', 'GET USER int', "* MAILBOX %($same)");
    $t->says('a name again', "APPLY MAILBOX %(UNIQUEID int1 MBOXNAME user.int.A $short[1])");
    $t->says('does not change it', 'GET USER int', "* MAILBOX %($same)");
    my $other = $same =~ s/int1/int2/r;
    $t->says('a mailbox of another UNIQUEID', "APPLY MAILBOX %($other RECORD ())");
    $t->says('takes its place', 'GET USER int', "* MAILBOX %($other)");
    $t->says('neither short nor long', 'APPLY MAILBOX %(UNIQUEID int3 MBOXNAME user.int.B HIGHESTMODSEQ 12)', $BAD);
    $t->ends;
}

# ---- large mailboxes in parts, as of 3.0 and 3.2 ---------------------------------------------------

# The part of BOX up to UID: counters between, modseqs of the records not above MODSEQ.
sub part
{
    my ($b, $after, $upto, $modseq, %o) = @_;
    my @r = map { record_text({ %{$_}, modseq => $_->{modseq} > $modseq ? $modseq : $_->{modseq} }) }
        grep { $_->{uid} > $after && $_->{uid} <= $upto } @{ $b->{records} };
    return $b->apply(records => \@r, sync_crc => 0, sync_crc_annot => undef, last_uid => $upto, highestmodseq => $modseq, %o);
}

sub part_header
{
    my ($b, $upto, $modseq) = @_;
    return '* MAILBOX %(' . $b->header(sync_crc => 0, sync_crc_annot => undef, last_uid => $upto, highestmodseq => $modseq) . ')';
}

sub bodies { my ($b, @uids) = @_; return map { $b->{bodies}{ $b->{records}[$_ - 1]{guid} } } @uids }
sub guids { my ($b, @uids) = @_; return join ' ', map { $b->{records}[$_ - 1]{guid} } @uids }

for my $since (0, 1) {
    my $v = $since ? '3.2' : '3.0';
    my $user = $since ? 'parts32' : 'parts30';
    my $b = box("user.$user");
    $b->append(message("$user $_")) for 1 .. 8;
    $b->set_flags(2, '\\Seen');    # modseq 10, above those of later records
    my @none = map { $since ? [since_modseq => $_, since_crc => 0, since_crc_annot => 0] : [] } 4, 7;
    $t->says("$v: nothing yet", "GET MAILBOXES (user.$user)");
    $t->upload("$v: content of the first part", bodies($b, 1 .. 3));
    $t->says("$v: first part", part($b, 0, 3, 4));
    $t->restart;
    $t->says("$v: listed as told", "GET MAILBOXES (user.$user)", part_header($b, 3, 4));
    $t->says("$v: RESERVE", "APPLY RESERVE %(PARTITION default MBOXNAME (user.$user) GUID (" . guids($b, 4 .. 6) . '))',
        '* MISSING (' . guids($b, 4 .. 6) . ')');
    $t->upload("$v: content of the second part", bodies($b, 4 .. 6));
    my $second = record_text({ %{ $b->{records}[1] }, modseq => 7 });
    my @rest = map { record_text($_) } @{ $b->{records} }[3 .. 5];
    $t->says("$v: second part, with a flag from before", $b->apply(records => [$second, @rest], sync_crc => 0,
        sync_crc_annot => undef, last_uid => 6, highestmodseq => 7, @{ $none[0] }));
    $t->ends;
    is($t->uids($user, "user.$user"), '1 2 3 4 5 6', "$v: so much is there");
    is($t->box($user, "user.$user")->{mark}, 0, "$v: and in no doubt");
    $t->says("$v: on the next connection", "GET USER $user", part_header($b, 6, 7));
    $t->upload("$v: the rest of the content", bodies($b, 7, 8));
    my @last = map { record_text($_) } @{ $b->{records} }[1, 6, 7];
    $t->says("$v: the rest, with checksums and true modseqs", $b->apply(records => \@last, @{ $none[1] }));
    $t->says("$v: done", "GET MAILBOXES (user.$user)", '* MAILBOX %(' . $b->header . ')');
    $t->ends;
    is($t->box($user, "user.$user")->{computed_sync_crc}, $b->crc, "$v: all is there, and right");
}
{
    # all modseqs are 1, so that nothing lies between: parts are listed with HIGHESTMODSEQ 0
    my $b = box('user.ones');
    $b->append(message("ones $_")) for 1 .. 5;
    $_->{modseq} = 1 for @{ $b->{records} };
    $b->{modseq} = 1;
    $t->says('modseqs 1: nothing yet', 'GET MAILBOXES (user.ones)');
    $t->upload('modseqs 1: content', bodies($b, 1 .. 3));
    $t->says('modseqs 1: first part', part($b, 0, 3, 0));
    $t->says('modseqs 1: listed', 'GET MAILBOXES (user.ones)', part_header($b, 3, 0));
    $t->upload('modseqs 1: more content', bodies($b, 4, 5));
    $t->says('modseqs 1: all of it', $b->apply);
    $t->says('modseqs 1: done', 'GET MAILBOXES (user.ones)', '* MAILBOX %(' . $b->header . ')');
    $t->ends;
    is($t->uids('ones', 'user.ones') . ' ' . $t->box('ones', 'user.ones')->{computed_sync_crc}, '1 2 3 4 5 ' . $b->crc, 'modseqs 1: right');
}
{
    # a mailbox that must come again as a whole comes in parts: what lies behind a part stays
    my $b = box('user.again');
    $b->append(message("again $_")) for 1 .. 7;
    $b->sync($t->c);
    my $odd = record_text({ %{ $b->{records}[0] }, guid => sha1_hex('x'), modseq => 99 });
    $t->says('again: listed', 'GET USER again', '* MAILBOX %(' . $b->header . ')');
    $t->says('again: makes no sense', $b->apply(records => [$odd], highestmodseq => 99), $CHECKSUM);
    $t->says('again: not listed', 'GET USER again');
    my @gone = splice @{ $b->{records} }, 1, 1;
    $b->{modseq} += 2;
    $t->upload('again: content', map { $b->{bodies}{ $_->{guid} } } @{ $b->{records} }[0, 1]);
    $t->says('again: first part, without 2', part($b, 0, 3, 4));
    $t->ends;
    is($t->uids('again', 'user.again'), '1 2x 3 4 5 6 7', 'again: what lies behind it stays, what was forgotten goes');
    $t->says('again: listed as told', 'GET USER again', part_header($b, 3, 4));
    $t->says('again: RESERVE', 'APPLY RESERVE %(PARTITION default MBOXNAME (user.again) GUID ('
        . join(' ', map { $_->{guid} } @{ $b->{records} }[2 .. 5]) . '))');
    $t->says('again: the rest', $b->apply(since => 4));
    $t->says('again: done', 'GET USER again', '* MAILBOX %(' . $b->header . ')');
    $t->ends;
    is($t->box('again', 'user.again')->{computed_sync_crc}, $b->crc, 'again: right');
}

# ---- RESERVE, MESSAGE -------------------------------------------------------------------------------

{
    my $b = box('user.res');
    $b->append(message("res $_")) for 1 .. 3;
    $b->sync($t->c);
    my @all = ((map { sha1_hex("none $_") } 1 .. 20_000), map { $_->{guid} } @{ $b->{records} });
    my @batch;
    push @batch, [splice @all, 0, 8193] while @all;
    is(scalar @batch, 3, 'more than 8,193 hashes');
    $t->says('MAILBOXES', 'GET MAILBOXES (user.res)', '* MAILBOX %(' . $b->header . ')');
    for my $i (0 .. 2) {
        my @missing = grep { my $g = $_; !grep { $_->{guid} eq $g } @{ $b->{records} } } @{ $batch[$i] };
        $t->says("RESERVE $i", "APPLY RESERVE %(PARTITION default MBOXNAME (user.res) GUID (@{ $batch[$i] }))", "* MISSING (@missing)");
    }
    $t->says('of nothing', 'APPLY RESERVE %(PARTITION default MBOXNAME (user.res) GUID ())');
    $t->says('keys in another order', "APPLY RESERVE %(GUID ($G2) MBOXNAME (user.res user.res.nothing) PARTITION p)", "* MISSING ($G2)");
    $t->says('of what is there', "APPLY RESERVE %(PARTITION default MBOXNAME (user.res) GUID ($b->{records}[1]{guid}))");
    $t->says('NILs only', 'APPLY MESSAGE (NIL NIL)');
    $t->says('nothing at all', 'APPLY MESSAGE ()');
    my $new = $b->append($M1);
    $t->says('NILs around', 'APPLY MESSAGE (NIL ' . file_item($M1) . ' NIL)');
    $t->says('a record for it', $b->apply(since => $b->{modseq} - 1));
    my $lost = $b->append(message('lost on the master'));
    $t->says('NIL in place of it', 'APPLY MESSAGE (NIL)');
    $t->says('its record all the same', $b->apply(since => $b->{modseq} - 1));
    $t->says('is not asked for again', 'GET MAILBOXES (user.res)', '* MAILBOX %(' . $b->header . ')');
    $t->ends;
    is($t->uids('res', 'user.res'), '1 2 3 4 5', 'all records');
    $t->says('partition by a name of its own', "GET MAILBOXES (user.res)", '* MAILBOX %(' . $b->header . ')');
    $t->says('partition as a literal', "APPLY MESSAGE (%{{4+}\r\na%b( $G2 67}\r\n$M2)");
    $b->append($M2);
    $t->says('its record', $b->apply(since => $b->{modseq} - 1));
    $t->says('is there', "GET FETCH %(MBOXNAME user.res PARTITION \"a b\" UNIQUEID x GUID $G2 UID 6)", "* MESSAGE %{\"a b\" $G2 67}\r\n$M2");
    $t->ends;
}

# ---- EXPUNGE ---------------------------------------------------------------------------------------

{
    my $b = box('user.exp');
    $b->append(message("exp $_")) for 1 .. 6;
    $b->sync($t->c);
    my $say = "APPLY EXPUNGE %(MBOXNAME user.exp UNIQUEID $b->{uniqueid} UID";
    $t->says('EXPUNGE', "$say (4 2 77))");
    $t->says('once more', "$say (4))");
    $t->says('of none', "$say ())");
    $t->says('of another mailbox that had this name', 'APPLY EXPUNGE %(MBOXNAME user.exp UNIQUEID other UID (1))', $NONE);
    $t->says('of no mailbox', 'APPLY EXPUNGE %(MBOXNAME user.exp.x UNIQUEID other UID (1))', $NONE);
    $t->says("EXPUNGE $_", "APPLY EXPUNGE $_", $BAD) for '%()', 'x', '%(MBOXNAME user.exp UID 1)', '%(MBOXNAME user.exp UID (x))';
    $t->ends;
    is($t->uids('exp', 'user.exp'), '1 2x 3 4x 5 6', 'as expunged');
    unlike($t->text('exp'), qr/APPLY EXPUNGE/, 'never by its own name');
    like($t->text('exp'), qr/FLAGS \(\\Expunged\)/, 'but as records');
}

# ---- notations of commands ---------------------------------------------------------------------------

{
    my $head = $plain =~ s/keys01/lf01/r =~ s/user\.keys/user.lf/r;
    my $c = $t->c;
    my $raw = sub { my ($label, $bytes, $expected) = @_; $c->send_raw($bytes); is($c->answer->{text}, $expected // 'OK Success', $label) };
    $raw->('LF', "GET USER lf\n");
    $raw->('LF in all places', 'APPLY SIEVE %(USERID lf FILENAME a.script LAST_UPDATE 1 CONTENT {5}' . "\nkeep;)\n");
    $raw->('LF behind the header of a file', "APPLY MESSAGE (%{default $G1 73}\n$M1)\n");
    $raw->('LF behind a mailbox', "APPLY MAILBOX %($head RECORD ())\n");
    $raw->('names in lower case', "get mailboxes (user.lf)\r\n");
    $raw->('verbs in any case', "ApPlY FORCE %()\n");
    $raw->('but not the names of changes', "APPLY force %()\r\n", $ERROR);
    $raw->('blanks', "APPLY   SUB   %(USERID  lf   MBOXNAME\tuser.lf )\r\n");
    $t->says('all that was understood', 'GET META lf', '* LSUB (user.lf)',
        '* SIEVE %(FILENAME a.script LAST_UPDATE 1 GUID ' . sha1_hex('keep;') . ' ISACTIVE 0)');
    $t->says('strings by other notations', 'APPLY SUB %("USERID" {2+}' . "\r\nlf MBOXNAME {7}\r\nuser.x()");
    $t->says('are the same', 'GET META "lf"', '* LSUB (user.lf "user.x(")',
        '* SIEVE %(FILENAME a.script LAST_UPDATE 1 GUID ' . sha1_hex('keep;') . ' ISACTIVE 0)');
    $t->says('a name as a literal', "GET USER {2+}\r\nlf", "* MAILBOX %($head)", '* LSUB (user.lf "user.x(")',
        '* SIEVE %(FILENAME a.script LAST_UPDATE 1 GUID ' . sha1_hex('keep;') . ' ISACTIVE 0)');
    $t->says('names as literals', "GET MAILBOXES ({7+}\r\nuser.lf \"user.lf\" {4}\r\n100%)", "* MAILBOX %($head)");
}

# ---- commands that are none ---------------------------------------------------------------------------

{
    my $EXTRA = 'BAD Unexpected extra arguments to';
    my @said = (
        ['APPLY NOTE %(A 1)', $ERROR], ['APPLY NONSENSE x', $ERROR], ["APPLY NONSENSE {10+}\r\nEXIT\r\nEXIT more", $ERROR],
        ["APPLY NONSENSE (%{p $G1 6}\r\nEXIT\r\n)", $ERROR], ['GET NONSENSE x', $ERROR], ['GET', 'BAD Missing required argument to Get'],
        ['APPLY', 'BAD Missing required argument to Apply'], ['', 'BAD Null command'], ['FROB x', 'BAD IMAP_PROTOCOL_ERROR Unrecognized command'],
        ['GET USER', 'BAD IMAP_PROTOCOL_ERROR Failed to parse GET line'], ['GET USER (x)', 'BAD IMAP_PROTOCOL_ERROR Failed to parse GET line'],
        ['GET MAILBOXES user.x', 'BAD IMAP_PROTOCOL_ERROR Failed to parse GET line'], ['GET USER lf x', "$EXTRA Get"],
        ['APPLY SUB', 'BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line'], ['APPLY SUB %(USERID lf MBOXNAME x', undef],
        ['APPLY SUB %(USERID lf MBOXNAME y) z', "$EXTRA Apply"], ['APPLY FORCE %() x', "$EXTRA Apply"],
        ['APPLY CAPABILITIES () x', "$EXTRA Apply"], ["APPLY SUB %{5+}\r\nabcde", 'BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line'],
        ["APPLY SIEVE %(USERID lf FILENAME x.script LAST_UPDATE 1 CONTENT {6+}\r\nkeep;\n) {20+}\r\nAPPLY UNUSER lf\r\n.....", "$EXTRA Apply"],
        ['RESTORE MAILBOX %(MBOXNAME x RECORD ())', 'BAD IMAP_PROTOCOL_ERROR Unrecognized command'],
        ['GET FULLMAILBOX user.lf x', "$EXTRA Get"], ['GET MAILBOXES (user.lf) x', "$EXTRA Get"],
    );
    for my $s (grep { defined $_->[1] } @said) {
        $t->says("[$s->[0]]" =~ s/[\r\n]+/ /gr, @{$s});
        $t->says('in step', 'NOOP', 'OK Noop completed');
    }
    is($t->box('lf', 'user.lf')->{mark}, 0, 'no mark was set');
    $t->says('nothing came of them', 'GET META lf', '* LSUB (user.lf "user.x(")',
        '* SIEVE %(FILENAME a.script LAST_UPDATE 1 GUID ' . sha1_hex('keep;') . ' ISACTIVE 0)');
    $t->says('GET UNIQUEIDS', 'GET UNIQUEIDS (a b c)');
    $t->says("GET $_", "GET $_", $NONE) for 'FULLMAILBOX user.lf.Nosuch', 'QUOTA user.lf', 'FETCH_SIEVE %(USERID lf FILENAME no.script)',
        "FETCH %(MBOXNAME user.lf PARTITION p UNIQUEID x GUID $G2 UID 1)";
    $t->says("GET $_", "GET $_", $BAD) for 'FETCH %()', 'FETCH_SIEVE %()', 'FETCH x';
    $t->ends;
}
done_testing;
