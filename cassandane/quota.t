#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# What belongs to users beside mail and scripts: quotas, subscriptions, seen state. What is told is
# listed as it was told, so that a client has nothing to say a second time.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Talk qw(lit);
use Test::More;

my $t = CBTest::Talk->new;

sub header
{
    my ($uniqueid, $mboxname, $more) = @_;
    return "UNIQUEID $uniqueid MBOXNAME $mboxname SYNC_CRC 0 SYNC_CRC_ANNOT 12345678 LAST_UID 0 HIGHESTMODSEQ 1 RECENTUID 0"
        . ' RECENTTIME 0 LAST_APPENDDATE 0 POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 UIDVALIDITY 5 PARTITION default'
        . " ACL \"joe\tlrs\t\" OPTIONS P" . ($more // '');
}

# ---- quota ------------------------------------------------------------------------------------

my @forms = ('LIMIT 4294967295', 'LIMIT 4294967295 MODSEQ 1', 'LIMIT 100000 STORAGE 100000',
    'LIMIT 100000 STORAGE 100000 MESSAGE 5000 MODSEQ 18446744073709551615', 'LIMIT 0 STORAGE 0 MESSAGE 0',
    'LIMIT 7 STORAGE 7 MESSAGE 8 X-ANNOTATION-STORAGE 9 X-NUM-FOLDERS 10 MODSEQ 11',
    'LIMIT 7 STORAGE 7 MESSAGE 8 X-ANNOTATION-STORAGE 9 X-NUM-FOLDERS 10 ANNOTATION-STORAGE 9 MAILBOX 10 MODSEQ 12',
    'LIMIT 4294967295 X-FUTURE 5 MODSEQ 13', 'LIMIT 4294967295 X-LIST (1 %(A 2))');
for my $form (@forms) {
    $t->says("QUOTA $form", "APPLY QUOTA %(ROOT user.joe $form)");
    $t->says('listed', 'GET USER joe', "* QUOTA %(ROOT user.joe $form)");
    $t->says('asked for', 'GET QUOTA user.joe', "* QUOTA %(ROOT user.joe $form)");
}
$t->says('META has no quota', 'GET META joe');
$t->says('one below', 'APPLY QUOTA %(ROOT user.joe.Work LIMIT 5 STORAGE 5)');
$t->says('keys in another order', 'APPLY QUOTA %(MODSEQ 1 STORAGE 6 LIMIT 6 ROOT user.joe.Work)');
my @both = ("* QUOTA %(ROOT user.joe $forms[-1])", '* QUOTA %(MODSEQ 1 STORAGE 6 LIMIT 6 ROOT user.joe.Work)');
$t->says('both', 'GET USER joe', @both);
my $size = length $t->text('joe');
$t->says('said twice', 'APPLY QUOTA %(MODSEQ 1 STORAGE 6 LIMIT 6 ROOT user.joe.Work)');
is(length $t->text('joe'), $size, 'written once');
$t->rebuild('joe');
$t->says('from the data file alone', 'GET USER joe', @both);
$t->says('UNQUOTA', 'APPLY UNQUOTA user.joe');
$t->says('UNQUOTA of one that is not there', 'APPLY UNQUOTA user.joe');
$t->says('one is left', 'GET USER joe', $both[1]);
is_deeply([map { $_->{root} } @{ $t->state('joe')->{quota} }], ['user.joe.Work'], 'stored');
$t->says("QUOTA $_ never fails", "APPLY QUOTA $_") for '%()', 'x', '()', 'NIL', '%(ROOT (x) LIMIT 1)', '%(ROOT NIL LIMIT 1)',
    '%(LIMIT 1)', '%(ROOT user. LIMIT 1)';
$t->says("UNQUOTA $_ never fails", "APPLY UNQUOTA $_") for '%()', '()', 'NIL', 'nosuch', 'user.nobody', '""', '"user."';
$t->says('nothing came of it', 'GET USER joe', $both[1]);
is($t->{site}->data_file('nobody'), undef, 'and no backup');
$t->restart;

# A quota of a whole domain governs mailboxes of users, and belongs to nobody. It is listed with
# each of them, for that is where clients look, and with nobody else.
my ($ann, $bob) = map { header("$_-uid", "example.org!user.$_", $_ eq 'ann' ? ' QUOTAROOT example.org!' : '') } qw(ann bob);
my $root = '* QUOTA %(ROOT example.org! LIMIT 50 STORAGE 50 MODSEQ 4)';
$t->says('QUOTA of a domain', 'APPLY QUOTA %(ROOT example.org! LIMIT 50 STORAGE 50 MODSEQ 4)');
$t->says('USER ann', 'GET USER ann@example.org');
$t->says('her mailbox', "APPLY MAILBOX %($ann RECORD ())");
$t->says('one of her own', 'APPLY QUOTA %(ROOT example.org!user.ann.Work LIMIT 9 STORAGE 9)');
$t->says('USER bob', 'GET USER bob@example.org');
$t->says('his mailbox', "APPLY MAILBOX %($bob RECORD ())");
$t->ends;
my $own = '* QUOTA %(ROOT example.org!user.ann.Work LIMIT 9 STORAGE 9)';
$t->says('listed with those it governs', 'GET USER ann@example.org', "* MAILBOX %($ann)", $own, $root);
my $other = $t->{site}->backup_csync;
is($other->command('APPLY QUOTA %(ROOT example.org! LIMIT 51 STORAGE 51 MODSEQ 5)')->{text}, 'OK Success',
    'looking it up takes no lock');
$root =~ s/LIMIT 50 STORAGE 50 MODSEQ 4/LIMIT 51 STORAGE 51 MODSEQ 5/;
$t->says('as it is by now, locked or not', 'GET USER ann@example.org', "* MAILBOX %($ann)", $own, $root);
is($other->command('EXIT')->{text}, 'OK Finished', 'done');
$t->says('not with others', 'GET USER bob@example.org', "* MAILBOX %($bob)");
$t->says('not with the question for a mailbox', 'GET MAILBOXES (example.org!user.ann)', "* MAILBOX %($ann)");
$t->says('asked for', 'GET QUOTA example.org!', $root);
$t->says('UNQUOTA of the domain', 'APPLY UNQUOTA example.org!');
$t->says('listed no longer', 'GET USER ann@example.org', "* MAILBOX %($ann)", $own);
$t->says('no such quota', 'GET QUOTA example.org!', 'NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox');
$t->restart;

# ---- subscriptions -------------------------------------------------------------------------------

my %names = ('user.sue' => 'user.sue', 'user.jim.Shared' => 'user.jim.Shared', '"user.sue.My Folder"' => '"user.sue.My Folder"',
    'user.sue.Caf&AOk-' => 'user.sue.Caf&AOk-', lit('user.sue.100%', '+') => lit('user.sue.100%'), 'example.org!team' => 'example.org!team',
    lit("user.sue.\xc3\xa9", '+') => lit("user.sue.\xc3\xa9"), '"NIL"' => '"NIL"', lit('user.sue.' . 'x' x 1100, '+') => lit('user.sue.' . 'x' x 1100));
my $bytes = sub { return $_[0] =~ s/^\{\d+\+?\}\r\n//r =~ s/^"(.*)"$/$1/r };
my @sorted = sort { $bytes->($a) cmp $bytes->($b) } keys %names;
$t->says('SUB', "APPLY SUB %(USERID sue MBOXNAME $_)") for @sorted, $sorted[0];
my $all = '* LSUB (' . join(' ', @names{@sorted}) . ')';
$t->says('all of them, once', 'GET META sue', $all);
$t->says('USER', 'GET USER sue', $all);
$t->rebuild('sue');
$t->says('from the data file alone', 'GET META sue', $all);
$t->says('UNSUB', "APPLY UNSUB %(USERID sue MBOXNAME $sorted[1])");
$t->says('UNSUB of one that is not', 'APPLY UNSUB %(USERID sue MBOXNAME user.sue.Nosuch)');
my @left = @names{ @sorted[0, 2 .. $#sorted] };
$t->says('one fewer', 'GET META sue', '* LSUB (' . join(' ', @left) . ')');
is_deeply($t->state('sue')->{subscriptions}, [map { $bytes->($_) } @left], 'stored');
$t->says('UNSUB', "APPLY UNSUB %(USERID sue MBOXNAME $_)") for @sorted;
$t->says('none', 'GET META sue');
my $BAD = 'NO IMAP_PROTOCOL_BAD_PARAMETERS Bad parameters';
$t->says("SUB $_", "APPLY SUB $_", $BAD) for '%()', '%(USERID sue)', '%(MBOXNAME user.sue)', '%(USERID NIL MBOXNAME user.sue)', 'x';
$t->restart;

# ---- seen ------------------------------------------------------------------------------------------

my $long = join ',', map { 2 * $_ . ':' . (2 * $_) } 1 .. 3000;
my %seen = (strange0000000000000001 => ['1:3', '1:3'], '6c1d4b5e-7a34-4e4c-9b44-0f3c7a0d9b11' => ['""', '""'],
    zlong => [lit($long, '+'), lit($long)]);
my @ids = sort keys %seen;
$t->says("SEEN of $_", "APPLY SEEN %(USERID eve UNIQUEID $_ LASTREAD 1795305655 LASTUID 9 LASTCHANGE 1795305644 SEENUIDS $seen{$_}[0])")
    for reverse @ids;
my @lines = map { "* SEEN %(UNIQUEID $_ LASTREAD 1795305655 LASTUID 9 LASTCHANGE 1795305644 SEENUIDS $seen{$_}[1])" } @ids;
$t->says('of mailboxes never seen', 'GET META eve', @lines);
$t->says('USER', 'GET USER eve', @lines);
$size = length $t->text('eve');
$t->says('the same', "APPLY SEEN %(USERID eve UNIQUEID $ids[1] LASTREAD 1795305655 LASTUID 9 LASTCHANGE 1795305644 SEENUIDS 1:3)");
is(length $t->text('eve'), $size, 'written once');
$t->says('NIL for none', "APPLY SEEN %(USERID eve UNIQUEID $ids[1] LASTREAD 0 LASTUID 4294967295 LASTCHANGE 18446744073709551615 SEENUIDS NIL)");
$lines[1] = "* SEEN %(UNIQUEID $ids[1] LASTREAD 0 LASTUID 4294967295 LASTCHANGE 18446744073709551615 SEENUIDS \"\")";
$t->says('changed, with a date before 1970', 'GET META eve', @lines);
$t->rebuild('eve');
$t->says('from the data file alone', 'GET META eve', @lines);
is($t->state('eve')->{seen}[2]{seenuids}, $long, 'stored');
$t->says("SEEN $_", "APPLY SEEN $_", $BAD) for '%()', '%(USERID eve UNIQUEID x LASTREAD 1 LASTUID 1 LASTCHANGE 1)',
    '%(USERID eve UNIQUEID x LASTREAD x LASTUID 1 LASTCHANGE 1 SEENUIDS 1)';
$t->says('nothing came of it', 'GET META eve', @lines);
$t->ends;
done_testing;
