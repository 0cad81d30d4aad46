# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Dave - the backup of user dave, of which every byte is known: it is written here, in the format
# of Cyrus 3.x and without an index, so all times in it are known; and cyr_backup, run on it.
package CBTest::Dave;
use strict;
use warnings;
use CBTest::Util qw(as_cyrus run_cmd spew program);
use Compress::Zlib qw(memGzip);
use Digest::SHA qw(sha1_hex);
use Exporter 'import';
use File::Temp qw(tempdir);
use Test::More;
our @EXPORT = qw($DEBIAN $PROGRAM $dir $T @message @guid $INBOX $WORK $ODD $ODD_NAME $DELETED $data $conf
    chunk message record mailbox write_backup owned run output fails);

our $DEBIAN = '/usr/lib/cyrus/bin';
our $PROGRAM = program('cyr_backup');
our $dir = tempdir('cyr_backup.XXXXXX', TMPDIR => 1, CLEANUP => 1);
our $T = 1_763_760_000; # 2025-11-21 21:20:00 UTC
$ENV{TZ} = 'UTC';
delete @ENV{qw(CYRUS_USER CYRUS_GROUP CYRUS_PREFIX)};

# ---- the backup -----------------------------------------------------------------------------

our @message = (
    "From: a\@x\r\nTo: b\@x,\r\n  c\@x\r\nSubject: one\r\nReceived: r1\r\nReceived: r2\r\n"
        . "X-Bad: \xff\xfe\r\nX-UTF8: \xc3\xa4\r\nSUBJECT: up\r\n\r\n"
        . "From here\r\n>From there\r\n>>From far\r\nFromage\r\n> From\r\nFrom\r\n\r\nbody\r\n",
    "Subject: nul\r\n\r\na\0b\r\nbare \r cr\r\nno end",
    "Subject: three\r\n\r\n\xe4\xf6 8bit\r\n",
    "Subject: last\r\n\r\nFrom  \r\r\n\r\n",
);
our @guid = map { sha1_hex($_) } @message;
our $INBOX = 'x83hvn1hegt83h0l5ua8mkhw';
our $WORK = '9o9iyaolq0dqwm65zf2rz5at';
our $ODD = '0123456789abcdefghijklmn';
our $ODD_NAME = "user.dave.b\xe4d";
our $DELETED = 'DELETED.user.dave.Caf&AOk-.6B023050';

sub chunk { return memGzip(join '', "# cyrus backup: chunk start\r\n", @_) }

sub message
{
    my ($time, $n) = @_;
    return "$time APPLY MESSAGE (%{default $guid[$n] " . length($message[$n])
        . "}\r\n$message[$n])\r\n";
}

sub record
{
    my ($uid, $modseq, $n, $flags, $extra) = @_;
    return "%(UID $uid MODSEQ $modseq LAST_UPDATED " . ($T + $modseq) . " FLAGS ($flags)"
        . " INTERNALDATE " . (1_763_700_000 + $uid) . ' SIZE ' . length($message[$n])
        . " GUID $guid[$n]" . ($extra // '') . ')';
}

sub mailbox
{
    my ($time, $uniqueid, $name, $last_uid, $modseq, $extra, @records) = @_;
    my $appended = @records ? $time - 5 : 0;
    return "$time APPLY MAILBOX %(UNIQUEID $uniqueid MBOXNAME $name SYNC_CRC 1234"
        . " SYNC_CRC_ANNOT 99 LAST_UID $last_uid HIGHESTMODSEQ $modseq RECENTUID $last_uid"
        . " RECENTTIME 0 LAST_APPENDDATE $appended POP3_LAST_LOGIN 0 UIDVALIDITY 1447"
        . " PARTITION default ACL \"dave\tlrswipkxtecdan\t\" OPTIONS P$extra"
        . " RECORD (@records))\r\n";
}

# PLAIN: without the chunks that hold literals, which Debian's programs cannot read.
sub write_backup
{
    my ($path, $plain) = @_;
    my $t = $T;
    my $annotations = ' ANNOTATIONS (%(ENTRY /z USERID dave VALUE 1)'
        . ' %(ENTRY /comment USERID NIL VALUE "hello world"))';
    my $note = " ANNOTATIONS (%(ENTRY /note USERID dave MODSEQ 9 VALUE {4}\r\n\xe4\r\nb))";
    spew($path, join '',
        chunk(message($t, 0), message($t + 1, 1),
            mailbox($t + 1, $INBOX, 'user.dave', 2, 10, '', record(1, 5, 0, ''),
                record(2, 6, 1, '\Seen'))),
        chunk(message($t + 100, 2),
            mailbox($t + 101, $INBOX, 'user.dave', 3, 20, $annotations,
                record(2, 12, 1, '\Expunged \Seen'), record(3, 20, 2, '\Flagged $Label1')),
            "@{[$t + 102]} APPLY SUB %(USERID dave MBOXNAME user.dave)\r\n",
            "@{[$t + 102]} APPLY SUB %(USERID dave MBOXNAME user.gone)\r\n",
            "@{[$t + 103]} APPLY UNSUB %(USERID dave MBOXNAME user.gone)\r\n",
            "@{[$t + 103]} APPLY SEEN %(USERID dave UNIQUEID $INBOX LASTREAD 5 LASTUID 3"
                . " LASTCHANGE 6 SEENUIDS 1:3)\r\n"),
        chunk(message($t + 150, 3),
            mailbox($t + 151, $WORK, 'user.dave.Caf&AOk-', 1, 30, '', record(1, 30, 3, '')),
            "@{[$t + 160]} APPLY RENAME %(OLDMBOXNAME user.dave.Caf&AOk- NEWMBOXNAME $DELETED"
                . " PARTITION default UIDVALIDITY 1447)\r\n",
            "@{[$t + 170]} APPLY UNMAILBOX $DELETED\r\n"),
        $plain ? () : chunk(mailbox($t + 200, $INBOX, 'user.dave', 3, 21, $annotations,
                record(3, 21, 2, '\Flagged $Label1', $note))),
        $plain ? () : chunk("@{[$t + 300]} APPLY SIEVE %(USERID dave FILENAME a.script"
                . " LAST_UPDATE 7 CONTENT {6}\r\nkeep;\n)\r\n",
            "@{[$t + 301]} APPLY ACTIVATE_SIEVE %(USERID dave FILENAME a.bc)\r\n",
            "@{[$t + 302]} APPLY QUOTA %(ROOT user.dave STORAGE 1000 X \"a b\")\r\n",
            "@{[$t + 303]} APPLY ANNOTATION %(MBOXNAME \"\" ENTRY /motd USERID NIL VALUE hi)\r\n",
            mailbox($t + 304, $ODD, '{' . length($ODD_NAME) . "}\r\n$ODD_NAME", 0, 1,
                ' MBOXTYPE c QUOTAROOT user.dave')));
    return;
}

# ---- running --------------------------------------------------------------------------------

our $data = "$dir/data/d/dave_abc123";
our $conf = "$dir/imapd.conf";
sub owned { return system('chown', '-R', 'cyrus:mail', $dir) == 0 || $> != 0 || die "chown: $?" }

sub run
{
    my (@args) = @_;
    my $o = ref $args[0] ? shift @args : {};
    return run_cmd(tmp => $dir, %{$o},
        cmd => [as_cyrus($o->{program} // $PROGRAM, '-C', $o->{conf} // $conf, @args)]);
}

# stdout of a run that must succeed and say nothing else.
sub output
{
    my (@args) = @_;
    my $r = run(@args);
    is($r->{rc}, 0, "@args: exit code");
    is($r->{err}, '', "@args: nothing on stderr");
    return $r->{out};
}

sub fails
{
    my ($what, $code, $reason, @args) = @_;
    my $r = run(@args);
    is($r->{rc}, $code, "$what: exit code");
    like($r->{err}, $reason, "$what: reason");
    is($r->{out}, '', "$what: nothing on stdout");
    return;
}

mkdir $_ for map { "$dir/$_" } qw(conf data data/d debian);
chmod 0755, $dir;
spew($conf, <<"END");
configdirectory: $dir/conf
backuppartition-default: $dir/data
backup_staging_path: $dir/staging
partition-default: $dir/spool
defaultpartition: default
unixhierarchysep: yes
END
write_backup($data);
write_backup("$dir/debian/$_", 1) for qw(theirs ours);
owned();
run_cmd(tmp => $dir, cmd => [as_cyrus("$DEBIAN/cyr_dbtool", '-n', "$dir/conf/backups.db",
    'twoskip', 'set', 'dave', $data)])->{rc} == 0 or die "backups.db: cyr_dbtool failed\n";

1;
