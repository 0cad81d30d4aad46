#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# backupd and bytes that are no proper commands: unknown words, broken syntax, sizes beyond reason,
# names that look like paths. Each has one clear answer, and the next command is found.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Feed qw(message file_item);
use CBTest::Sentry;
use CBTest::Util qw(sha1_hex peak_memory);
use Test::More;

my $s = CBTest::Sentry->new(options => { backup_max_dlist => '1M' });
my $BAD = qr/^BAD IMAP_PROTOCOL_ERROR /;
my $PARAMETERS = qr/^NO IMAP_PROTOCOL_BAD_PARAMETERS /;
my $ERROR = qr/^(?:BAD|NO) IMAP_PROTOCOL_\w+ /;
my $TOOBIG = qr/^NO IMAP_PROTOCOL_ERROR /;

# Commands which, if they were executed, would show: as a body they must not be.
my $TRAP = join '', map { "$_\r\n" } 'APPLY UNUSER alice', 'APPLY UNMAILBOX user.alice',
    'APPLY SUB %(USERID alice MBOXNAME user.trap)', 'EXIT';
my $LEN = length $TRAP;

# ---- unknown words ----------------------------------------------------------

$s->answers('unknown verb', 'FROBNICATE alice', 'BAD IMAP_PROTOCOL_ERROR Unrecognized command');
$s->answers('unknown verb with bodies', "FROB {$LEN+}\r\n$TRAP %{a b $LEN}\r\n$TRAP",
    'BAD IMAP_PROTOCOL_ERROR Unrecognized command');
for my $command ('GET FROB alice', 'APPLY FROB %(USERID alice)', 'apply sub %(USERID alice)',
    'APPLY NOTE %(A B)', "APPLY FROB (%{default x $LEN}\r\n$TRAP)", "GET FROB {$LEN+}\r\n$TRAP") {
    my $expected = $command =~ /^apply/ ? $ERROR : 'NO IMAP_PROTOCOL_ERROR Protocol error';
    $s->answers("unknown name: " . substr($command, 0, 30) =~ s/\r.*//sr, $command, $expected);
}

# ---- an argument is missing --------------------------------------------------

for my $command ('APPLY', 'APPLY ', 'GET', 'GET   ', 'APPLY FOO', 'APPLY MAILBOX', 'APPLY MESSAGE',
    'APPLY RESERVE ', 'APPLY SUB', 'APPLY FORCE', 'APPLY CAPABILITIES', 'GET USER', 'GET USER ',
    'GET MAILBOXES', 'GET META', 'GET FULLMAILBOX', 'GET FETCH', 'GET ANNOTATION', 'GET QUOTA',
    'GET UNIQUEIDS', 'GET FETCH_SIEVE', 'GET FOO') {
    $s->answers("[$command]", $command, qr/^(?:BAD|NO) /);
}

# ---- text that cannot be parsed -----------------------------------------------

my @broken = (
    'APPLY SUB %x', 'APPLY SUB )', 'APPLY SUB %', 'APPLY SUB %(USERID "x',
    'APPLY SUB %(USERID alice MBOXNAME "user.alice)', 'APPLY SUB %(USERID alice MBOXNAME)',
    'APPLY SUB %(USERID alice MBOXNAME user.alice) x', 'APPLY SUB %(USERID alice %(A B) x)',
    'APPLY SUB "', 'APPLY SUB %(USERID alice MBOXNAME user.alice))', 'GET USER (alice', 'GET USER )',
    'GET MAILBOXES user.alice)', 'GET MAILBOXES %(A user.alice)',
    'APPLY MESSAGE (%{default zz 3})', 'APPLY MESSAGE (%{default})', 'APPLY MESSAGE (%{)',
    'APPLY MESSAGE %(A B)', 'APPLY MESSAGE (x)', 'APPLY MESSAGE ((NIL))', 'APPLY MAILBOX (A B)',
    'APPLY MAILBOX %(UNIQUEID x RECORD y)', 'APPLY RESERVE (a b)', 'APPLY RESERVE %(GUID x)',
    'APPLY RESERVE %(PARTITION default MBOXNAME () GUID (xyz))', 'APPLY UNMAILBOX (user.alice)',
    'APPLY UNMAILBOX NIL', 'APPLY UNUSER ()', 'APPLY SEEN %(USERID alice)', 'APPLY SIEVE x',
    'APPLY SIEVE %(USERID alice FILENAME x)', 'APPLY RENAME user.alice',
    'APPLY RENAME %(OLDMBOXNAME user.alice)', 'APPLY EXPUNGE %(MBOXNAME user.alice UID (x))',
    'APPLY EXPUNGE %(MBOXNAME user.alice UID (99999999999999999999))', 'GET FETCH %(GUID x)',
);
for my $command (@broken) {
    $s->answers("broken: $command", $command, qr/^(?:BAD|NO) /);
}
for my $head ("APPLY SUB %(USERID )x {$LEN+}", "APPLY SUB ) {$LEN}", "GET USER ( ) {$LEN+}",
    "APPLY MESSAGE (zz %{default " . '0' x 40 . " $LEN}", "APPLY MESSAGE %(%{default x $LEN}",
    "APPLY MAILBOX %(UNIQUEID x RECORD (() {$LEN+}", "APPLY SUB %(USERID alice x{$LEN+}") {
    $s->answers("body behind what is broken: $head", "$head\r\n$TRAP)", qr/^(?:BAD|NO) /);
    $s->answers("two bodies: $head", "$head\r\n$TRAP {$LEN+}\r\n$TRAP", qr/^(?:BAD|NO) /);
}
is(scalar $s->stored('alice, larger'), 1, 'what is stored is found');
is(scalar $s->stored('user.trap'), 0, 'no body was executed');

# ---- content and GUID ----------------------------------------------------------

{
    my ($good, $other) = map { message("$_ for the GUID", 500) } qw(good other);
    my $wrong = sha1_hex($good);
    $s->answers('content is another than its GUID says',
        'APPLY MESSAGE (' . file_item($other, $wrong) . ' ' . file_item($good) . ')',
        qr/^NO IMAP_PROTOCOL_ERROR .*GUID/);
    $s->{c}->command('RESTART');
    is(scalar $s->stored('other for the GUID'), 0, 'nothing of it is stored');
    my $large = message('large and wrong', 4_000_000);
    $s->answers('large content is another than its GUID says',
        'APPLY MESSAGE (' . file_item($large, $wrong) . ')', qr/^NO IMAP_PROTOCOL_ERROR .*GUID/);
    $s->{c}->command('RESTART');
    is(scalar $s->stored('large and wrong'), 0, 'nothing of it is stored');
    $s->answers('content that looks like commands',
        'APPLY MESSAGE (' . file_item($TRAP, $wrong) . ')', qr/^NO IMAP_PROTOCOL_ERROR .*GUID/);
    my $r = $s->{c}->command("APPLY RESERVE %(PARTITION default MBOXNAME () GUID ($wrong))");
    is("@{ $r->{lines} }", "MISSING ($wrong)", 'the server does not think that it has it');
}

# ---- sizes ------------------------------------------------------------------

for my $size ('99999999999', '9223372036854775808', '18446744073709551616', '4000000000', '9' x 5000) {
    for my $what ("APPLY SUB %(USERID {$size+}\r\n", "GET USER {$size+}\r\n",
        'APPLY MESSAGE (%{default ' . '0' x 40 . " $size}\r\n", "FROB {$size+}\r\n",
        "APPLY MAILBOX %(UNIQUEID {$size+}\r\n") {
        $s->{c}->send_raw($what);
        eval { $s->{c}->send_raw('x' x 1_000_000); };    # may be refused at once
        my $label = substr($what, 0, 12) . ' ... {' . substr($size, 0, 22) . '+}';
        cmp_ok(peak_memory($s->{pid}) // 0, '<=', $CBTest::Sentry::MEMORY_MAX,
            "$label: memory");
        $s->connect;
        $s->sound($label);
    }
}
my $million = 'x' x 1_000_000;
for my $n (2, 60) {
    my $bytes = $n * length $million;
    my @body = ($million) x $n;
    $s->answers("a literal of $n MB is drained", ["APPLY SUB %(USERID alice MBOXNAME {$bytes+}\r\n",
        @body, ')'], $TOOBIG);
    $s->answers("script of $n MB", ["APPLY SIEVE %(USERID alice FILENAME a.script LAST_UPDATE 1"
        . " CONTENT {$bytes+}\r\n", @body, ')'], $TOOBIG);
    $s->answers("key of $n MB", ["APPLY MAILBOX %({$bytes+}\r\n", @body, ' x)'], $TOOBIG);
}
my @hundred = ($million) x 100;
$s->answers('an atom of 100 MB', ['APPLY SUB %(USERID ', @hundred, ')'], $TOOBIG);
$s->answers('a user id of 100 MB', ['GET USER ', @hundred], $TOOBIG);
$s->answers('a verb of 100 MB', [@hundred], $BAD);
$s->answers('a name of 100 MB', ['APPLY ', @hundred, ' x'], qr/^(?:BAD|NO) IMAP_PROTOCOL_ERROR /);
$s->answers('a quoted string of 100 MB', ['APPLY SUB %(USERID "', @hundred, '")'], $TOOBIG);
$s->answers('a quoted string without an end', ['APPLY SUB %(USERID "', @hundred], $TOOBIG);
$s->answers('a record of 100 MB', ['APPLY MAILBOX %(' . $s->{box}->header . ' RECORD (%(UID 1 X ',
    @hundred, ')))'], $TOOBIG);
$s->answers('annotations of 100 MB', ['APPLY MAILBOX %(' . $s->{box}->header
    . ' RECORD (%(UID 1 ANNOTATIONS (', map({ ($_, ' ') } map { substr $_, 0, 100_000 } (@hundred) x 10),
    '))))'], $TOOBIG);
$s->answers('keys of 100 MB', ['APPLY MAILBOX %(' . $s->{box}->header,
    (' KEY' . '1 v KEY' x 100_000 . '2 v') x 90, ' RECORD ())'], $TOOBIG);
for my $head ('APPLY SUB ', 'APPLY MESSAGE ', 'APPLY MAILBOX ', 'APPLY RESERVE ', 'GET MAILBOXES ',
    'APPLY CAPABILITIES ', 'APPLY FORCE ', 'GET UNIQUEIDS ', 'FROB ') {
    my ($open, $close) = map { $_ x 100_000 } '(', ')';
    $s->answers("nested 100,000 deep: $head", "$head$open$close", qr/^(?:BAD|NO|OK) /);
    # What is skipped unseen may go on in the next line, as every list may.
    $s->answers("nested 100,000 deep, never closed: $head", "$head$open", qr/^(?:BAD|NO) /)
        if $head !~ /FORCE|CAPABILITIES|UNIQUEIDS/;
    ($open, $close) = ('%(A ' x 100_000, ')' x 100_000);
    $s->answers("keys nested 100,000 deep: $head", "$head${open}x$close", qr/^(?:BAD|NO|OK) /);
}

# ---- NUL bytes ----------------------------------------------------------------

for my $command ("APPLY SUB %(USERID al\0ice MBOXNAME user.alice)",
    "APPLY SUB %(USERID \"al\0ice\" MBOXNAME user.alice)",
    "APPLY SUB %(USERID {6+}\r\nal\0ice MBOXNAME user.alice)",
    "APPLY SUB %(USERID alice MBOXNAME {7+}\r\nuser.\0x)", "GET USER al\0ice",
    "GET USER {6+}\r\nal\0ice", "GET MAILBOXES ({10+}\r\nuser.al\0ic)",
    "APPLY UNMAILBOX {12+}\r\nuser.alice\0x", "APPLY UNUSER {7+}\r\nalice\0x",
    "APPLY MAILBOX %({9+}\r\nUNIQUE\0ID x)", "AP\0PLY SUB x", "APPLY SU\0B x", "\0",
    $s->{box}->apply(uniqueid => "{6+}\r\nabc\0de"), $s->{box}->apply(mboxname => "{12+}\r\nuser.alice\0x"),
    "APPLY RENAME %(OLDMBOXNAME {12+}\r\nuser.alice\0x NEWMBOXNAME user.alice.x)") {
    my $expected = $command =~ /^GET MAILBOXES/ ? qr/^(?:OK|NO) / : qr/^(?:BAD|NO) /;
    $s->answers('NUL: ' . $command =~ s/[^ -~]+/?/gr, $command, $expected);
}

# ---- names that look like paths -------------------------------------------------

my @names = ('../../../evil', '..', '.', '/', '/etc/evil', 'a/../../evil', '../evil', "ev\nil", '%SHARED',
    'evil' . 'x' x 5000, '*', '~evil', ' ', "evil\x80\xff", 'evil@../..', 'evil@', '@', '!', 'evil!evil');
my %before = map { $_ => 1 } $s->files;
for my $name (@names) {
    my $label = substr($name, 0, 20) =~ s/[^ -~]/?/gr;
    my $lit = sub { my ($t) = @_; return sprintf "{%d+}\r\n%s", length $t, $t };
    my @commands = (
        'GET USER ' . $lit->($name),
        'GET META ' . $lit->($name),
        'GET MAILBOXES (' . join(' ', map { $lit->($_) } $name, "user.$name", "user.$name.x") . ')',
        'GET FULLMAILBOX ' . $lit->("user.$name"),
        'APPLY SUB %(USERID ' . $lit->($name) . ' MBOXNAME user.x)',
        'APPLY SUB %(USERID bob MBOXNAME ' . $lit->($name) . ')',
        'APPLY SEEN %(USERID ' . $lit->($name) . ' UNIQUEID x LASTREAD 1 LASTUID 1 LASTCHANGE 1 SEENUIDS 1)',
        'APPLY SIEVE %(USERID ' . $lit->($name) . ' FILENAME a.script LAST_UPDATE 1 CONTENT keep;)',
        'APPLY SIEVE %(USERID bob FILENAME ' . $lit->("$name.script") . ' LAST_UPDATE 1 CONTENT keep;)',
        'APPLY UNUSER ' . $lit->($name eq '%SHARED' ? 'nosuch' : $name),
        'APPLY RENAME %(OLDMBOXNAME ' . $lit->("user.$name.x") . ' NEWMBOXNAME user.bob.x PARTITION default UIDVALIDITY 1)',
        'APPLY RENAME %(OLDMBOXNAME user.bob.x NEWMBOXNAME ' . $lit->("user.$name.x") . ' PARTITION default UIDVALIDITY 1)',
        'APPLY QUOTA %(ROOT ' . $lit->("user.$name") . ' LIMIT 1)',
    );
    for my $what ("user.$name", $name, "user.bob.$name", "DELETED.user.$name.x.6B023050") {
        my $box = CBTest::Feed->new(mboxname => $lit->($what));
        push @commands, $box->apply, 'APPLY UNMAILBOX ' . $lit->($what);
    }
    my @odd;
    for my $command (@commands) {
        my $text = eval { $s->{c}->command($command)->{text} } // "no answer: $@";
        push @odd, "$command: $text" unless $text =~ /^(?:OK|NO|BAD) /;
    }
    ok(!@odd, "the name $label: answered") or diag(@odd);
    $s->sound("the name $label");
}
{
    my $dir = $s->{site}{backup}{dir};
    my @new = grep { !$before{$_} } $s->files;
    my @outside = grep { !m{^\Q$dir\E/part/[A-Za-z]/[^/]+$} && !m{^\Q$dir\E/part/[A-Za-z]$} } @new;
    is_deeply(\@outside, [], 'no file outside the partition');
    is_deeply([grep { -e } '/tmp/evil', '/etc/evil', "$dir/evil", "$s->{site}{dir}/evil"], [],
        'nor anywhere else');
}

$s->modest;
done_testing;
