#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Sieve scripts: as commands of every version, as messages of a mailbox, and from one to the other.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Talk qw(lit annotations annotation record $M1);
use CBTest::Util qw(sha1_hex);
use MIME::Base64 qw(decode_base64);
use Test::More;

my $t = CBTest::Talk->new;
my %script;    # name => [date, content]
my $active;

sub put
{
    my ($label, $name, $date, $content) = @_;
    $script{$name} = [$date, $content];
    return $t->says("$label: SIEVE", "APPLY SIEVE %(USERID joe FILENAME $name LAST_UPDATE $date CONTENT "
        . lit($content, '+') . ')');
}

# What must be listed now, by GET META and GET USER, and what is stored.
sub shows
{
    my ($label) = @_;
    my @lines;
    for my $name (sort keys %script) {
        my ($date, $content) = @{ $script{$name} };
        push @lines, "* SIEVE %(FILENAME $name LAST_UPDATE $date GUID " . sha1_hex($content) . ' ISACTIVE 0)';
        push @lines, "* SIEVE %(FILENAME $active LAST_UPDATE $date ISACTIVE 1)"
            if $active && $active eq $name =~ s/script$/bc/r;
    }
    $t->says("$label: META", 'GET META joe', @lines);
    $t->says("$label: USER", 'GET USER joe', @lines);
    $t->restart;
    my %stored = map { $_->{filename} => [$_->{last_update}, defined $_->{content_base64}
        ? decode_base64($_->{content_base64}) : $_->{content}, $_->{active}] } @{ $t->state('joe')->{sieve} };
    my %expected = map { $_ => [@{ $script{$_} }, $active && $active eq s/script$/bc/r ? 1 : 0] } keys %script;
    $_->[2] = $_->[2] ? 1 : 0 for values %stored;
    is_deeply(\%stored, \%expected, "$label: stored");
    return;
}

sub says_of_all
{
    my ($label) = @_;
    shows($label);
    $t->rebuild('joe');
    shows("$label, from the data file alone");
    return;
}

# ---- as commands -------------------------------------------------------------------------

$t->says('a user without any', 'GET META joe');
$t->says('UNSIEVE of nothing', 'APPLY UNSIEVE %(USERID joe FILENAME main.script)');
$t->says('UNACTIVATE of nothing', 'APPLY UNACTIVATE_SIEVE %(USERID joe)');
is($t->{site}->data_file('joe'), undef, 'no backup came of it');

put('upload', 'main.script', 10, "require [\"fileinto\"];\nkeep;\n");
is($script{'main.script'} && sha1_hex($script{'main.script'}[1]), '23d69f81749b8d81cee9ae78255490d0fb87ec7b', 'its hash is known');
put('another', 'other.script', 11, 'stop;');
shows('none active');
$t->says('ACTIVATE', 'APPLY ACTIVATE_SIEVE %(USERID joe FILENAME main.bc)');
$active = 'main.bc';
says_of_all('one active');
my $size = length $t->text('joe');
put('the same once more', 'main.script', 10, $script{'main.script'}[1]);
$t->says('the same once more: ACTIVATE', 'APPLY ACTIVATE_SIEVE %(USERID joe FILENAME main.bc)');
is(length $t->text('joe'), $size, 'what says nothing new is not written down');
put('changed', 'main.script', 12, "keep;\r\n");
shows('changed');
put('touched', 'main.script', 13, "keep;\r\n");
shows('touched');
$t->says('another is active', 'APPLY ACTIVATE_SIEVE %(USERID joe FILENAME other.bc)');
$active = 'other.bc';
shows('another is active');
$t->says('none is active', 'APPLY UNACTIVATE_SIEVE %(USERID joe)');
undef $active;
says_of_all('none is active');

# A script that goes is active no longer, and not again if it comes back.
$t->says('ACTIVATE', 'APPLY ACTIVATE_SIEVE %(USERID joe FILENAME main.bc)');
$t->says('UNSIEVE of the active one', 'APPLY UNSIEVE %(USERID joe FILENAME main.script)');
my $main = delete $script{'main.script'};
shows('it is gone');
put('it comes back', 'main.script', @{$main});
says_of_all('but not as the active one');
$t->says('its bytecode goes, too, as some clients say', 'APPLY UNSIEVE %(USERID joe FILENAME main.bc)');
$t->says('UNSIEVE of a bytecode alone: ACTIVATE', 'APPLY ACTIVATE_SIEVE %(USERID joe FILENAME main.bc)');
$active = 'main.bc';
shows('it is active');
$t->says('UNSIEVE of a bytecode', 'APPLY UNSIEVE %(USERID joe FILENAME main.bc)');
undef $active;
says_of_all('the script stays, not active');

# Masters of 3.0 and 3.2 list both files of each script. What they do when they compare that with
# ours: scripts and bytecode are looked for by name; bytecode is never uploaded.
$t->says('3.0: ACTIVATE', 'APPLY ACTIVATE_SIEVE %(USERID joe FILENAME other.bc)');
$active = 'other.bc';
my $got = $t->c->get('META joe')->{SIEVE};
my %has = map { $_->{FILENAME} => $_ } @{$got};
my @master = map { ("$_.script", "$_.bc") } qw(main other);
my (@upload) = grep { !$has{$_} && !/\.bc$/ } @master;
my (@delete) = grep { my $f = $_; !grep { $_ eq $f } @master } sort keys %has;
is("@upload|@delete|" . join(' ', grep { $has{$_}{ISACTIVE} } sort keys %has), '||other.bc', '3.0 has nothing to do');

# ---- content -----------------------------------------------------------------------------

my %content = ('8-bit' => "# gr\xc3\xbc\xc3\x9fe \xff\xfe\nkeep;", 'NUL' => "keep;\0stop;", 'empty' => '', 'one word' => 'keep;',
    'line ends' => "a\r\nb\nc\rd", 'backslashes and quotes' => "if header \"x\\\"\" \"y\" { }\n",
    'a literal in it' => "{7+}\r\nGET USER joe\r\n", 'a message in it' => "%{default " . 'a' x 40 . " 9}\r\n");
for my $what (sort keys %content) {
    put($what, 'odd.script', 20, $content{$what});
    says_of_all($what);
    $t->says("$what: FETCH_SIEVE", 'GET FETCH_SIEVE %(USERID joe FILENAME odd.script)',
        '* SIEVE %(USERID joe FILENAME odd.script LAST_UPDATE 20 CONTENT '
        . ($content{$what} eq '' ? '""' : $content{$what} =~ /^[a-z;]+$/ ? $content{$what} : lit($content{$what})) . ')');
}
my $megabyte = join '', map { sprintf "# %05d %s\n", $_, 'x' x 55 } 1 .. 16_384;
cmp_ok(length $megabyte, '>=', 1 << 20, 'a megabyte');
put('1 MB', 'odd.script', 30, $megabyte);
says_of_all('1 MB');
for my $form ('keep;', '"keep; stop;"', '""', "{5}\r\nkeep;") {
    my ($content) = $form =~ /^(?:\{5\}\r\n)?"?(.*?)"?$/s;
    $t->says("CONTENT as $form", "APPLY SIEVE %(USERID joe FILENAME odd.script LAST_UPDATE 40 CONTENT $form)");
    $script{'odd.script'} = [40, $content];
    shows("CONTENT as $form");
}
for my $name ("na\xc3\xafve", 'my script', 'a"b') {
    my ($in, $out) = map { $name =~ /^[\x20-\x7f]+$/ && $name !~ /"/ ? "\"$name.script\"" : lit("$name.script", $_) } '+', '';
    $t->says("name $name", "APPLY SIEVE %(USERID jim FILENAME $in LAST_UPDATE 1 CONTENT keep;)");
    $t->says("name $name: listed", 'GET META jim', "* SIEVE %(FILENAME $out LAST_UPDATE 1 GUID " . sha1_hex('keep;') . ' ISACTIVE 0)');
    $t->says("name $name: gone", "APPLY UNSIEVE %(USERID jim FILENAME $in)");
}
$t->says('dates before 1970', 'APPLY SIEVE %(USERID jim FILENAME old.script LAST_UPDATE 18446744073709551615 CONTENT keep;)');
$t->says('as they came', 'GET META jim', '* SIEVE %(FILENAME old.script LAST_UPDATE 18446744073709551615 GUID '
    . sha1_hex('keep;') . ' ISACTIVE 0)');
my $BAD = 'NO IMAP_PROTOCOL_BAD_PARAMETERS Bad parameters';
$t->says("SIEVE $_", "APPLY SIEVE $_", $BAD) for '%(USERID joe FILENAME x.script LAST_UPDATE 1)',
    '%(USERID joe LAST_UPDATE 1 CONTENT x)', '%(USERID joe FILENAME x.script LAST_UPDATE x CONTENT x)', '%()', 'x';
$t->says('no such script', 'GET FETCH_SIEVE %(USERID joe FILENAME x.script)', 'NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox');
shows('nothing came of it');

# ---- as messages of a mailbox ----------------------------------------------------------------

# From 3.6 on a master has them in #sieve. That mailbox is sent only to a server that offers
# SIEVE-MAILBOX, and we do not; but if it is sent, it is a mailbox.
like(join("\n", @{ CBTest::CSync->new(path => "$t->{site}{backup}{dir}/conf/backupd.sock")->{greeting} }),
    qr/^\* OK [^\n]*\z/, 'SIEVE-MAILBOX is not offered');
$t->says('CAPABILITIES all the same', 'APPLY CAPABILITIES (SIEVE-MAILBOX)', '* ENABLED ()');
my $body = "Subject: main\r\nContent-Type: application/sieve\r\nContent-Disposition: attachment;\r\n"
    . "\tfilename=\"7c.sieve\"\r\n\r\nkeep;\r\n";
my ($r, $crc) = record(1, 2, 50, '\\Flagged', 50, $body);
my $header = "UNIQUEID sievebox MBOXNAME user.joe.#sieve MBOXTYPE f SYNC_CRC $crc SYNC_CRC_ANNOT 12345678 LAST_UID 1 HIGHESTMODSEQ 2"
    . ' RECENTUID 0 RECENTTIME 0 LAST_APPENDDATE 50 POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 UIDVALIDITY 5 PARTITION default'
    . " ACL \"joe\tlrs\t\" OPTIONS P CREATEDMODSEQ 1 FOLDERMODSEQ 1";
my @lines = grep { /^SIEVE/ } @{ $t->c->command('GET USER joe')->{lines} };
is(scalar @lines, 4, 'scripts and the active one');
$t->says('the mailbox is asked for', 'GET MAILBOXES (user.joe.#sieve)');
$t->upload('its message', $body);
$t->says('the mailbox', "APPLY MAILBOX %($header RECORD ($r))");
$t->ends;
$t->says('both are listed', 'GET USER joe', "* MAILBOX %($header)", map { "* $_" } @lines);
is($t->uids('joe', 'user.joe.#sieve'), '1', 'the mailbox is stored');
shows_scripts('and so are the scripts');
# a master that sends commands again, with the mailbox still here: 3.6 leaves the name out
$t->says('MAILBOXES without it', 'GET MAILBOXES (user.joe)');
$t->says('META', 'GET META joe', map { "* $_" } @lines);
put('a new script', 'main.script', 60, 'discard;');
$t->says('the mailbox is as it was', 'GET MAILBOXES (user.joe.#sieve)', "* MAILBOX %($header)");
# an older master has no such mailbox
$t->says('it is deleted', 'APPLY UNMAILBOX user.joe.#sieve');
shows('only scripts are left');
$t->ends;

sub shows_scripts
{
    my ($label) = @_;
    my @names = sort map { $_->{filename} } @{ $t->state('joe')->{sieve} };
    is("@names", join(' ', sort keys %script), $label);
    return;
}
done_testing;
