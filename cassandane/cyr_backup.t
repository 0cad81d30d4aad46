#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# cyr_backup: what it prints about a known backup, against texts and against Debian's own program;
# its options, exit codes and errors.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Dave;
use CBTest::Util qw(as_cyrus run_cmd start_cmd reap wait_until slurp spew program peak_memory);
use Digest::SHA qw(sha1_hex);
use Fcntl qw(F_SETLK F_WRLCK SEEK_SET);
use File::Copy qw(copy);
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use Test::More;

# ---- texts ----------------------------------------------------------------------------------

ok(!-e "$data.index", 'there is no index');
is(output(qw(dave list messages)), join('', map { "$_\n" } @guid), 'list messages');
ok(-s "$data.index", 'the index was built');

my $mailboxes = <<"END";
uniqueid                              last append date     mboxname
$WORK  2025-11-21 21:22:26  $DELETED
$INBOX  2025-11-21 21:23:15  user.dave
$ODD  1970-01-01 00:00:00  $ODD_NAME
END
is(output(qw(dave list mailboxes)), $mailboxes, 'list mailboxes');
is(output({ env => { TZ => 'XST-05:30' } }, qw(dave list mailboxes)),
    $mailboxes =~ s/2025-11-21 21:22:26/2025-11-22 02:52:26/r
        =~ s/2025-11-21 21:23:15/2025-11-22 02:53:15/r =~ s/ 00:00:00/ 05:30:00/r,
    'times are local');

my $chunks = output(qw(dave list chunks));
like($chunks, qr/\A {5}id offset\tlength\tratio%\tstart time {11}end time\n/, 'list chunks: head');
my $when = qr/2025-11-21 21:\d\d:\d\d/;
is(() = $chunks =~ /^ {6}\d \d+\t\d+\t {1,3}\d+\.\d\t$when  $when$/mg, 5,
    'list chunks: five rows');
my ($second) = $chunks =~ /^( {6}2 .*\n)/m;
like($second, qr/\t2025-11-21 21:21:40  2025-11-21 21:21:43$/, 'list chunks: times');
my ($head) = $chunks =~ /\A(.*\n)/;
is(output(qw(dave show chunks 2 77 2 x)), $head . $second, 'show chunks');

my $all = run(qw(dave list all));
is($all->{rc}, 0, 'list all');
is($all->{out}, $chunks . $mailboxes . join('', map { "$_\n" } @guid), 'list all: stdout');
is($all->{err}, "listing chunks:\n\nlisting mailboxes:\n\nlisting messages:\n", 'list all: titles');

my $show_inbox = <<"END";
mboxname: user.dave
uniqueid: $INBOX
messages:
       uid  expunged time        guid
         1                       $guid[0]
         2  2025-11-21 21:21:41  $guid[1]
         3                       $guid[2]

END
my $show_work = <<"END";
mboxname: $DELETED
uniqueid: $WORK
deleted:  2025-11-21 21:22:50
messages:
       uid  expunged time        guid
         1                       $guid[3]

END
is(output('dave', qw(show mailboxes user.dave)), $show_inbox, 'show mailboxes: internal name');
is(output(qw(dave show mailboxes nosuch), $WORK, 'user/dave'), $show_work . $show_inbox,
    'show mailboxes: uniqueid, external name, unknown');
is(output(qw(dave show mailboxes), $DELETED), $show_work, 'show mailboxes: deleted, by name');
is(output(qw(dave show mailboxes), 'DELETED/user/dave/Caf&AOk-/6B023050'), $show_work,
    'show mailboxes: deleted, by external name');
is(output(qw(dave show mailboxes), $ODD_NAME), <<"END", 'show mailboxes: empty, 8-bit name');
mboxname: $ODD_NAME
uniqueid: $ODD
messages:
       uid  expunged time        guid

END
is(output(qw(dave show messages), uc $guid[2], '0' x 40, 'x', $guid[3]), <<"END", 'show messages');
guid:\t$guid[2]
mailboxes:
\t$INBOX\tuser.dave
headers:
Subject: three\r

guid:\t$guid[3]
mailboxes:
\t$WORK\t$DELETED
headers:
Subject: last\r

END

is(output(qw(dave dump message), $guid[$_]), $message[$_], "dump message $_") for 0 .. $#message;
is(output(qw(dave dump chunk 1)), "# cyrus backup: chunk start\r\n" . message($T, 0)
    . message($T + 1, 1) . mailbox($T + 1, $INBOX, 'user.dave', 2, 10, '', record(1, 5, 0, ''),
    record(2, 6, 1, '\Seen')), 'dump chunk');

# mboxrd, to the byte, and back.
my $mbox = output(qw(dave dump mailbox user.dave));
my $quoted = $message[0] =~ s/\r\n/\n/gr =~ s/^(>*From )/>$1/mgr;
is($mbox, "From MAILER-DAEMON Fri Nov 21 04:40:01 2025\n$quoted\n"
    . "From MAILER-DAEMON Fri Nov 21 04:40:03 2025\nSubject: three\n\n\xe4\xf6 8bit\n\n",
    'dump mailbox');
is(output(qw(dave dump mailbox), $WORK),
    "From MAILER-DAEMON Fri Nov 21 04:40:01 2025\nSubject: last\n\n>From  \r\n\n\n",
    'dump mailbox: deleted one, odd line ends');

# ---- JSON -----------------------------------------------------------------------------------

is(output(qw(dave json mailboxes)), <<"END", 'json mailboxes');
[
  {
    "uniqueid": "$WORK",
    "mboxname": "$DELETED",
    "last_appenddate": "2025-11-21 21:22:26",
    "messages": [
      {
        "uid": 1,
        "guid": "$guid[3]"
      }
    ]
  },
  {
    "uniqueid": "$INBOX",
    "mboxname": "user.dave",
    "last_appenddate": "2025-11-21 21:23:15",
    "messages": [
      {
        "uid": 1,
        "guid": "$guid[0]"
      },
      {
        "uid": 2,
        "guid": "$guid[1]",
        "expunged": "2025-11-21 21:21:41"
      },
      {
        "uid": 3,
        "guid": "$guid[2]"
      }
    ]
  },
  {
    "uniqueid": "$ODD",
    "mboxname": "user.dave.b\xef\xbf\xbdd",
    "last_appenddate": "1970-01-01 00:00:00"
  }
]
END
my $json = output(qw(dave json messages));
is(substr($json, 0, index($json, "},\n")), <<"END" . '  ', 'json messages');
[
  {
    "guid": "$guid[0]",
    "mailboxes": [
      {
        "uniqueid": "$INBOX",
        "mboxname": "user.dave"
      }
    ]
END
is(scalar @{ decode_json($json) }, 4, 'json messages: all');
$json = output(qw(dave json chunks));
is(substr($json, 0, index($json, "},\n")) =~ s/: [\d.]+,/: N,/gr, <<"END" . '  ', 'json chunks');
[
  {
    "id": N,
    "offset": N,
    "length": N,
    "ratio": N,
    "start time": "2025-11-21 21:20:00",
    "end time": "2025-11-21 21:20:01"
END
is(scalar @{ decode_json($json) }, 5, 'json chunks: all');
is_deeply(decode_json(output(qw(dave json headers), @guid[0, 2], '0' x 40, uc $guid[0])), {
    $guid[0] => { From => ['a@x'], To => ['b@x,  c@x'], Subject => ['one'], SUBJECT => ['up'],
        Received => ['r1', 'r2'], 'X-Bad' => [], 'X-UTF8' => ["\xe4"] },
    $guid[2] => { Subject => ['three'] },
}, 'json headers');
is(output(qw(dave json headers x)), "{}\n", 'json headers: nothing known');

my $state = decode_json(output(qw(dave json all)));
my @crc = map { delete $_->{computed_sync_crc} } @{ $state->{mailboxes} };
like($crc[0], qr/^[1-9]\d+$/, 'json all: our own CRC');
is($crc[1], 0, 'json all: that of no records');
my $content = "keep;\n";
is_deeply($state, {
    userid => 'dave',
    mailboxes => [{
        uniqueid => $INBOX, mboxname => 'user.dave', mboxtype => undef, partition => 'default',
        uidvalidity => 1447, last_uid => 3, highestmodseq => 21, recentuid => 3,
        acl => "dave\tlrswipkxtecdan\t", options => 'P', quotaroot => undef, sync_crc => 1234,
        sync_crc_annot => 99, mark => 1, # SYNC_CRC is made up, so the records are in doubt
        annotations => [{ entry => '/comment', userid => '', value => 'hello world' },
            { entry => '/z', userid => 'dave', value => '1' }],
        records => [
            { uid => 1, modseq => 5, last_updated => $T + 5, internaldate => 1_763_700_001,
              size => length $message[0], guid => $guid[0], flags => [], annotations => [],
              expunged => JSON::PP::false },
            { uid => 2, modseq => 12, last_updated => $T + 12, internaldate => 1_763_700_002,
              size => length $message[1], guid => $guid[1], flags => ['\Seen'],
              annotations => [], expunged => JSON::PP::true },
            { uid => 3, modseq => 21, last_updated => $T + 21, internaldate => 1_763_700_003,
              size => length $message[2], guid => $guid[2], flags => ['\Flagged', '$Label1'],
              annotations => [{ entry => '/note', userid => 'dave', value => "\x{fffd}\r\nb",
                  value_base64 => encode_base64("\xe4\r\nb", '') }],
              expunged => JSON::PP::false },
        ],
    }, {
        uniqueid => $ODD, mboxname => "user.dave.b\x{fffd}d",
        mboxname_base64 => encode_base64($ODD_NAME, ''), mboxtype => 'c',
        partition => 'default', uidvalidity => 1447, last_uid => 0, highestmodseq => 1,
        recentuid => 0, acl => "dave\tlrswipkxtecdan\t", options => 'P',
        quotaroot => 'user.dave', sync_crc => 1234, sync_crc_annot => 99, mark => 1,
        annotations => [], records => [],
    }],
    subscriptions => ['user.dave'],
    seen => [{ uniqueid => $INBOX, lastread => 5, lastuid => 3, lastchange => 6,
        seenuids => '1:3' }],
    sieve => [{ filename => 'a.script', last_update => 7, guid => sha1_hex($content),
        active => JSON::PP::true, content => $content }],
    quota => [{ root => 'user.dave', limits => { STORAGE => 1000, X => 'a b' } }],
    annotations => [{ entry => '/motd', userid => '', value => 'hi' }],
}, 'json all');

# ---- which backup, options --------------------------------------------------------------------

my $ids = join '', map { "$_\n" } @guid;
is(output(@{$_}), $ids, "@{$_}") for
    ['-u', 'dave', 'list', 'messages'],
    ['--userid', 'dave', 'list', 'messages'],
    ['dave', 'list', 'messages', '-u'],
    ['dave@internal', 'list', 'messages'],
    ['-m', 'user/dave/Work', 'list', 'messages'],
    ['--mailbox', 'user.dave', 'list', 'messages'],
    ['-f', $data, 'list', 'messages'],
    ['--filename', '--', $data, 'list', 'messages'],
    [$data, 'list', '-f', 'messages'];
is(decode_json(output('-f', $data, 'json', 'all'))->{userid}, '', 'by file: no user id');

my $verbose = run('-v', 'dave', 'json', 'headers', 'x');
is($verbose->{out}, "{}\n", '-v: stdout is the result');
is($verbose->{err}, "dave: data file $data\ndave: x: not in this backup\n", '-v: stderr');

fails("usage: @{$_}", 64, qr/^usage: cyr_backup .*^Commands:/ms, @{$_}) for
    [], ['-h'], ['--help'], ['--nosuch'], ['-j', 'dave', 'list', 'messages'], ['dave'],
    ['dave', 'list'], ['dave', 'list', 'nosuch'], ['dave', 'nosuch', 'chunks'],
    ['', 'list', 'chunks'], ['dave', 'list', 'chunks', '1'], ['dave', 'json', 'all', 'x'],
    ['dave', 'show', 'messages'], ['dave', 'show', 'chunks'], ['dave', 'show', 'all', 'x'],
    ['dave', 'json', 'headers'], ['dave', 'dump', 'message'], ['dave', 'dump', 'chunk', '1', '2'],
    ['-u', '-f', 'dave', 'list', 'chunks'], ['-m', '-m', 'dave', 'list', 'chunks'];
like(run('-j', 'dave', 'list', 'all')->{err}, qr/\A\S*cyr_backup: invalid option -- 'j'\n/,
    'unknown option: named first');
{
    my $none = { conf => "$dir/none.conf" };
    fails('usage comes before configuration', 64, qr/^usage/m, $none, 'dave');
    fails('no configuration', 78, qr/^fatal error: .*\Q$dir\E\/none\.conf/, $none,
        qw(dave list all));
    spew("$dir/bad.conf", "configdirectory: $dir/conf\nbackup_db: skiplist\n");
    fails('foreign backups.db', 78, qr/backup_db/, { conf => "$dir/bad.conf" }, qw(dave list all));
}
fails('unknown user', 75, qr/^nosuch: not found in backups\.db$/m, qw(nosuch list chunks));
fails('unknown owner', 75, qr{^user/nosuch/x: not found in backups\.db$}m,
    qw(-m user/nosuch/x list chunks));
fails('unknown file', 75, qr{^\Q$dir\E/nosuch: .*No such file}m, '-f', "$dir/nosuch",
    qw(list chunks));
ok(!-e "$dir/nosuch" && !-e "$dir/nosuch.index", 'unknown file: none was made');
fails('unknown message', 75, qr/^dave: Item does not exist/, qw(dave dump message), '0' x 40);
fails('no guid', 75, qr/^dave: Item does not exist/, qw(dave dump message x));
fails('unknown chunk', 75, qr/^dave: Item does not exist/, qw(dave dump chunk 99));
fails('no chunk', 75, qr/^dave: Item does not exist/, qw(dave dump chunk -- -1));
fails('unknown mailbox', 75, qr/^dave: Item does not exist/, qw(dave dump mailbox nosuch));

# ---- stdout that does not work -----------------------------------------------------------------

for my $end ('>/dev/full', '>&-') {
    for my $command ('json all', 'list mailboxes', "dump message $guid[0]",
        'dump mailbox user.dave') {
        my $r = run_cmd(tmp => $dir, cmd => [as_cyrus('sh', '-c',
            "exec \"\$0\" -C $conf dave $command $end", $PROGRAM)]);
        is($r->{rc}, 75, "$command $end: exit code");
        like($r->{err}, qr/^dave: cannot write the result: /m, "$command $end: reason");
    }
}
is(output(qw(dave list messages)), $ids, 'the index is unharmed');

# ---- locks, users, damage -----------------------------------------------------------------------

{
    open my $fh, '+<', $data or die "$data: $!";
    my $lock = pack 's s l! l! i', F_WRLCK, SEEK_SET, 0, 0, 0;
    fcntl $fh, F_SETLK, $lock or die "lock: $!";
    is(output(qw(dave list messages)), $ids, 'locked: readable');
    rename "$data.index", "$data.kept" or die "rename: $!";
    rename "$data.index-wal", "$data.kept-wal";
    rename "$data.index-shm", "$data.kept-shm";
    fails('locked, without an index', 75, qr/^dave: .*locked/, qw(dave list messages));
    close $fh;
    is(output(qw(dave list messages)), $ids, 'without an index: built');
}
unlink glob "$data.index*";
spew("$data.index", 'garbage' x 1000);
owned();
my $mended = run(qw(dave list messages));
is($mended->{rc}, 0, 'garbage for an index: exit code');
is($mended->{out}, $ids, 'garbage for an index: mended');

if ($> == 0) {
    unlink glob "$data.index*";
    my $r = run_cmd(tmp => $dir, cmd => [$PROGRAM, '-C', $conf, qw(dave list messages)]);
    is($r->{out}, $ids, 'started by root');
    is((getpwuid((stat "$data.index")[4]))[0], 'cyrus', 'started by root: works as cyrus');
    $r = run_cmd(tmp => $dir, cmd => [qw(setpriv --reuid nobody --regid nogroup --clear-groups),
        $PROGRAM, '-C', $conf, qw(dave list messages)]);
    is($r->{rc}, 64, 'started by another user: exit code');
    like($r->{err}, qr/must run as the Cyrus user cyrus/, 'started by another user: reason');
    $r = run_cmd(tmp => $dir, env => { CYRUS_USER => 'nosuchuser' },
        cmd => [$PROGRAM, '-C', $conf, qw(dave list messages)]);
    is($r->{rc}, 78, 'no such user: exit code');
}

# Reading changes no data file: neither one that is none, nor one that ends amid a chunk.
for my $case (['no backup', "hello world\n", 75],
    ['torn', slurp($data) . substr(slurp($data), 0, 200), 0]) {
    my ($what, $bytes, $code) = @{$case};
    my $file = "$dir/data/odd";
    unlink glob "$file*";
    spew($file, $bytes);
    owned();
    for my $time ('first', 'second') {
        my $r = run('-f', $file, qw(list messages));
        is($r->{rc}, $code, "$what, $time time: exit code");
        is($r->{out}, $code ? '' : $ids, "$what, $time time: stdout");
        like($r->{err}, $code ? qr/^\Q$file\E: .*damaged or foreign data$/m : qr/\A\z/,
            "$what, $time time: stderr");
    }
    is(slurp($file), $bytes, "$what: unchanged");
    is_deeply([glob "$file*"], $code ? [$file] : [map { "$file$_" } '', '.index', '.index-shm',
        '.index-wal'], "$what: what is beside it");
}

# A message that cannot be read does not hide the others.
{
    my $bad = "$dir/damaged";
    copy($data, $bad);
    my ($offset) = $second =~ /^ +2 (\d+)\t/;
    owned();
    is(output('-f', $bad, qw(list messages)), $ids, 'before the damage');
    open my $fh, '+<:raw', $bad or die "$bad: $!";
    seek $fh, $offset + 60, 0;
    print {$fh} "\xff" x 40;
    close $fh;
    my $r = run('-f', $bad, qw(show messages), @guid);
    is($r->{rc}, 75, 'damage: exit code');
    is(() = $r->{out} =~ /^Subject: (?:one|nul|last)\r$/mg, 3, 'damage: the others are shown');
    like($r->{err}, qr/^\Q$bad: $guid[2]\E: /m, 'damage: named');
    $r = run('-f', $bad, qw(dump mailbox user.dave));
    is($r->{rc}, 75, 'damage: exit code of dump');
    like($r->{out}, qr/^Subject: one$/m, 'damage: what can be read is dumped');
    $r = run('-f', $bad, qw(json headers), @guid);
    is($r->{rc}, 75, 'damage: exit code of json');
    is(scalar keys %{ decode_json($r->{out}) }, 3, 'damage: JSON is whole');
}

# ---- against Debian's program --------------------------------------------------------------------

{
    my $copy = "$dir/debian/theirs";
    is(run_cmd(tmp => $dir, cmd => [as_cyrus("$DEBIAN/ctl_backups", '-C', $conf, 'reindex', '-f',
        $copy)])->{rc}, 0, 'Debian indexes a copy');
    for my $command (['list', 'mailboxes'], ['list', 'messages'], ['show', 'messages', @guid],
        ['show', 'mailboxes', 'user/dave'], ['show', 'mailboxes', $WORK],
        ['dump', 'chunk', 2], ['dump', 'chunk', 3], ['dump', 'message', $guid[2]],
        ['json', 'mailboxes'], ['json', 'messages'], ['json', 'headers', @guid],
        ['list', 'chunks'], ['json', 'chunks']) {
        my $theirs = run({ program => "$DEBIAN/cyr_backup" }, '-f', $copy, @{$command});
        my $ours = run('-f', "$dir/debian/ours", @{$command});
        is(join(' ', map { $_->{rc} } $theirs, $ours), '0 0', "@{$command}[0, 1]: both work");
        my ($got, $expected) = map { $_->{out} } $ours, $theirs;
        if ("@{$command}" eq 'list mailboxes') {
            ($got, $expected) = map { join '', sort split /^/ } $got, $expected;
        } elsif ("@{$command}" eq 'json mailboxes') {
            ($got, $expected) = map { JSON::PP->new->canonical->encode(
                [sort { $a->{uniqueid} cmp $b->{uniqueid} } @{ decode_json($_) }]) }
                $got, $expected;
        }
        is($got, $expected, "@{$command}[0, 1]: as Debian's");
    }
}

# ---- a large mailbox in little memory ---------------------------------------------------------

{
    my $count = $ENV{CYRUS_BACKUPS_LONG} ? 1_000_000 : 60_000;
    my $big = "$dir/big";
    open my $out, '>:raw', $big or die "$big: $!";
    for (my $uid = 1; $uid <= $count; $uid += 1000) {
        print {$out} chunk(mailbox($T, $INBOX, 'user.big', $count, $count, '',
            map { record($_, $_, 0, '\Seen $Label1') } $uid .. $uid + 999));
    }
    close $out;
    owned();
    is(output('-f', $big, qw(list messages)), '', 'large mailbox: indexed');
    my $asan = slurp($PROGRAM) =~ /__asan_init/;
    local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':quarantine_size_mb=1';
    my $pid = open my $in, '-|', as_cyrus($PROGRAM, '-C', $conf, '-f', $big, qw(json all));
    my ($records, $peak, $size) = (0, 0, 0);
    while (my $line = <$in>) {
        $records++ if $line =~ /^ {10}"uid": /;
        $size += length $line;
        next if $records % 1000;
        my $now = peak_memory($pid) // 0;
        $peak = $now if $now > $peak;
    }
    close $in;
    is($?, 0, 'large mailbox: exit code');
    is($records, $count, 'large mailbox: every record');
    cmp_ok($peak, '>', 0, 'large mailbox: memory was measured');
    cmp_ok($peak, '<=', ($asan ? 4 : 1) * 32 * 1024, "large mailbox: memory (KiB), $size bytes");
}

done_testing();
