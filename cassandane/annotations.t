#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Annotations of mailboxes and of the server, as commands of their own and in headers: they never
# fail, and what a client is shown afterwards is what it has.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Talk qw(lit annotation $M1);
use Test::More;

my $t = CBTest::Talk->new(options => { backup_max_dlist => '128K' });
my $OK = 'OK Success';
my $HEAD = 'UNIQUEID annot0000000000000000001 MBOXNAME user.ann SYNC_CRC 0 SYNC_CRC_ANNOT 12345678 LAST_UID 0'
    . ' HIGHESTMODSEQ 1 RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0'
    . " UIDVALIDITY 5 PARTITION default ACL \"ann\tlrs\t\" OPTIONS P CREATEDMODSEQ 1 FOLDERMODSEQ 1";

sub apply { my ($e, $u, $v) = @_; return 'APPLY ANNOTATION %(MBOXNAME user.ann ENTRY ' . "$e USERID $u VALUE $v)" }
sub unapply { my ($e, $u) = @_; return "APPLY UNANNOTATION %(MBOXNAME user.ann ENTRY $e USERID $u)" }

# The header with these annotations, as it must be listed; and as GET ANNOTATION answers.
sub shows
{
    my ($label, @items) = @_;
    my $list = @items ? ' ANNOTATIONS (' . join(' ', map { annotation(@{$_}, 0) } @items) . ')' : '';
    $t->says("$label: in the header", 'GET MAILBOXES (user.ann)', "* MAILBOX %($HEAD$list)");
    $t->says("$label: GET ANNOTATION", 'GET ANNOTATION user.ann', map { '* ANNOTATION %(MBOXNAME user.ann '
        . annotation(@{$_}, 0) =~ s/^%\(//r } @items);
    return;
}

# ---- before there is anything -----------------------------------------------------------

$t->says('nobody\'s mailbox', 'APPLY ANNOTATION %(MBOXNAME user.ann ENTRY /comment USERID "" VALUE x)');
$t->says('nobody\'s mailbox', 'APPLY UNANNOTATION %(MBOXNAME user.ann ENTRY /comment USERID "")');
$t->says('nobody\'s mailbox', 'GET ANNOTATION user.ann');
$t->says('the server', 'GET ANNOTATION ""');
$t->says('the server', 'APPLY UNANNOTATION %(MBOXNAME "" ENTRY /comment USERID "")');
is_deeply([$t->{site}->all_data_files], [], 'no backup came of it');

# ---- of a mailbox -----------------------------------------------------------------------

$t->says('USER', 'GET USER ann');
$t->says('mailbox', "APPLY MAILBOX %($HEAD RECORD ())");
shows('none');
$t->says('shared', apply('/comment', '""', '"shared comment"'));
$t->says('private', apply('/comment', 'ann', 'mine'));
shows('two', ['/comment', '', '"shared comment"'], ['/comment', 'ann', 'mine']);
$t->says('in front', apply('/a', 'zoe', '1'));
$t->says('between', apply('/comment', 'a.b', '2'));
$t->says('behind', apply('/vendor/x', '""', '""'));
my @five = (['/a', 'zoe', '1'], ['/comment', '', '"shared comment"'], ['/comment', 'a.b', '2'],
    ['/comment', 'ann', 'mine'], ['/vendor/x', '', '""']);
shows('each in its place', @five);
$t->says('another value', apply('/comment', 'ann', 'ours'));
$five[3][2] = 'ours';
shows('replaced in its place', @five);
$t->says('the same value', apply('/comment', 'ann', 'ours'));
$t->says('one fewer', unapply('/comment', '""'));
$t->says('one that is not there', unapply('/comment', 'nobody'));
$t->says('NIL is no value', apply('/vendor/x', '""', 'NIL'));
splice @five, 4, 1;
splice @five, 1, 1;
shows('removed', @five);
is(() = $t->text('ann') =~ /APPLY ANNOTATION .*VALUE ours/g, 1, 'what says nothing new is not written down');
$t->rebuild('ann');
shows('from the data file alone', @five);
$t->says('removed', unapply(@{$_}[0, 1])) for @five;
shows('none again');

# ---- values ------------------------------------------------------------------------------

my %values = ('8-bit' => "gr\xc3\xbc\xc3\x9fe", 'percent' => '50 %', 'backslash' => '\\Seen', 'a flag\'s look' => '\\x',
    'NUL' => "a\0b", 'only NUL' => "\0", 'lines' => "1\r\n2\n", 'the word NIL' => 'NIL', 'quote' => '"',
    '1023 bytes' => 'x' x 1023, '1024 bytes' => 'x' x 1024, '20000 bytes' => "0123456789\n" x 2000,
    'what looks like a literal' => "{5}\r\nEXIT", 'what looks like a command' => "x\r\nAPPLY UNUSER ann\r\n");
for my $what (sort keys %values) {
    my $v = $values{$what};
    my $plain = $v =~ /^(?:[a-z0-9]{1,1023})$/;
    $t->says("$what: APPLY", apply('/x', 'ann', $plain ? $v : lit($v, '+')));
    my $listed = $what eq 'the word NIL' ? '"NIL"' : $plain ? $v : lit($v);
    shows($what, ['/x', 'ann', $listed]);
    my ($a) = @{ $t->box('ann', 'user.ann')->{annotations} };
    is($a->{value}, $v, "$what: stored byte by byte");
    $t->rebuild('ann');
    shows("$what, from the data file alone", ['/x', 'ann', $listed]);
}
$t->says('raw, as no client prints it', apply('/x', 'ann', '\\flag'));
shows('a flag is a string', ['/x', 'ann', lit('\\flag')]);
$t->says('removed', unapply('/x', 'ann'));

# ---- in headers ---------------------------------------------------------------------------

my $with = "$HEAD ANNOTATIONS (%(ENTRY /old USERID \"\" VALUE 1) %(ENTRY /old USERID ann MODSEQ 7 VALUE 2))";
$t->says('as of 3.0, and with a modseq', "APPLY MAILBOX %($with RECORD ())");
$t->says('an item without MODSEQ gets one', 'GET MAILBOXES (user.ann)',
    '* MAILBOX %(' . ($with =~ s/"" VALUE/"" MODSEQ 0 VALUE/r) . ')');
$t->says('GET FULLMAILBOX says nothing of them', 'GET FULLMAILBOX user.ann', '* MAILBOX %(' . ($HEAD
    =~ s/SYNC_CRC \d+ SYNC_CRC_ANNOT \d+ //r =~ s/HIGHESTMODSEQ 1/HIGHESTMODSEQ 0/r =~ s/ FOLDERMODSEQ 1//r) . ' RECORD ())');
$t->restart;
$t->says('the header replaces them all', "APPLY MAILBOX %($HEAD RECORD ())");
shows('none');
$t->says('an edit does not make a listed state stale', apply('/y', '""', '1'));
my $delta = $HEAD =~ s/HIGHESTMODSEQ 1/HIGHESTMODSEQ 2/r;
$t->says('a delta relative to what was listed before', "APPLY MAILBOX %($delta RECORD ())");
$HEAD = $delta;
shows('none');

# ---- they never fail, and never spoil the listing --------------------------------------------

for my $odd ('%()', 'x', '()', 'NIL', '%(MBOXNAME user.ann)', '%(MBOXNAME user.ann ENTRY /x USERID ann)',
    '%(MBOXNAME user.ann ENTRY (x) USERID ann VALUE 1)', '%(MBOXNAME (user.ann) ENTRY /x USERID ann VALUE 1)',
    '%(MBOXNAME user.ann ENTRY /x USERID ann VALUE (1 2))', '%(MBOXNAME user. ENTRY /x USERID ann VALUE 1)',
    '%(MBOXNAME user.nobody ENTRY /x USERID ann VALUE 1)', '%(MBOXNAME user.ann.Nosuch ENTRY /x USERID ann VALUE 1)') {
    $t->says("ANNOTATION $odd", "APPLY ANNOTATION $odd");
    $t->says("UNANNOTATION $odd", "APPLY UNANNOTATION $odd");
}
$t->says("GET ANNOTATION $_", "GET ANNOTATION $_") for qw(user.nobody user. user.ann.Nosuch nosuch NIL);
shows('nothing came of it');
is($t->{site}->data_file('nobody'), undef, 'and no backup');
my $large = lit("0123456789\n" x 20_000, '+');
$t->says('larger than the limit', apply('/x', 'ann', $large));
$t->says('and behind it all is well', 'NOOP', 'OK Noop completed');
$t->says('of the server, larger than the limit', "APPLY ANNOTATION %(MBOXNAME \"\" ENTRY /x USERID \"\" VALUE $large)");
$t->says('QUOTA, larger than the limit', "APPLY QUOTA %(ROOT user.ann LIMIT $large)");
my @many;
for my $i (1 .. 40) {
    push @many, my $e = sprintf '/many%02d', $i;
    $t->c->command(apply($e, '""', lit(sprintf('%05d', $i) x 2000, '+')))->{text} eq $OK or fail("number $i");
}
my $got = $t->c->get('MAILBOXES (user.ann)');
my @kept = map { $_->{ENTRY} } @{ $got->{MAILBOX}[0]{ANNOTATIONS} };
cmp_ok(scalar @kept, '>=', 5, 'many of 10,000 bytes each: some are kept');
cmp_ok(scalar @kept, '<', 40, 'and some are not');
is("@kept", "@many[0 .. $#kept]", 'those that came first');
$t->says('what is there can still be changed', apply('/many01', '""', 'short'));
$t->says('and removed', unapply($_, '""')) for @kept[1 .. $#kept];
shows('one is left', ['/many01', '', 'short']);
$t->says('a base with annotations', "APPLY MAILBOX %($HEAD SINCE_MODSEQ 2 SINCE_CRC 0 SINCE_CRC_ANNOT 12345678 RECORD ())");

# a header that is as large as one may be is a base all the same
my $wide = "$HEAD ANNOTATIONS (" . join(' ', map { annotation("/wide$_", '', lit('w' x 15_000, '+'), 0) } 1 .. 4) . ')';
$t->says('a header of 60,000 bytes', "APPLY MAILBOX %($wide RECORD ())");
my $wider = $wide =~ s/HIGHESTMODSEQ 2/HIGHESTMODSEQ 3/r;
$t->says('is a base for the next', "APPLY MAILBOX %($wider SINCE_MODSEQ 2 SINCE_CRC 0 SINCE_CRC_ANNOT 12345678 RECORD ())");
is($t->c->get('MAILBOXES (user.ann)')->{MAILBOX}[0]{HIGHESTMODSEQ}, 3, 'and listed');

# ---- of the server -------------------------------------------------------------------------

sub server
{
    my ($label, @items) = @_;
    return $t->says($label, 'GET ANNOTATION ""', map { '* ANNOTATION %(MBOXNAME "" ' . annotation(@{$_}) =~ s/^%\(//r } @items);
}
server('none');
$t->says('shared', 'APPLY ANNOTATION %(MBOXNAME "" ENTRY /motd USERID "" VALUE "be nice")');
$t->says('private, with a NUL', 'APPLY ANNOTATION %(MBOXNAME "" ENTRY /admin USERID ann VALUE ' . lit("a\0b", '+') . ')');
server('both', ['/admin', 'ann', lit("a\0b")], ['/motd', '', '"be nice"']);
$t->says('another value', 'APPLY ANNOTATION %(MBOXNAME "" ENTRY /motd USERID "" VALUE hi)');
$t->says('removed', 'APPLY UNANNOTATION %(MBOXNAME "" ENTRY /admin USERID ann)');
server('one', ['/motd', '', 'hi']);
is_deeply([map { "$_->{entry} $_->{userid} $_->{value}" } @{ $t->state('%SHARED')->{annotations} }], ['/motd  hi'], 'stored');
$t->rebuild('%SHARED');
server('from the data file alone', ['/motd', '', 'hi']);

# ---- of a shared mailbox --------------------------------------------------------------------

my $shared = $HEAD =~ s/annot\d+/annotshared/r =~ s/user\.ann/team.all/r;
$t->says('a shared mailbox', "APPLY MAILBOX %($shared RECORD ())");
$t->says('its annotation', 'APPLY ANNOTATION %(MBOXNAME team.all ENTRY /comment USERID ann VALUE 1)');
$t->says('is listed', 'GET MAILBOXES (team.all)',
    "* MAILBOX %($shared ANNOTATIONS (" . annotation('/comment', 'ann', 1, 0) . '))');
$t->ends;
done_testing;
