#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# cyr_backup about the past of a known backup: --as-of, log and diff, against texts.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Dave;
use CBTest::Util qw(slurp spew);
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use POSIX ();
use Test::More;

my $show_work = <<"END";
mboxname: $DELETED
uniqueid: $WORK
deleted:  2025-11-21 21:22:50
messages:
       uid  expunged time        guid
         1                       $guid[3]

END
my $quoted = $message[0] =~ s/\r\n/\n/gr =~ s/^(>*From )/>$1/mgr;

# ---- the past -------------------------------------------------------------------------------

my @at = map { ['--as-of', '@' . ($T + $_)] } 0 .. 400;
is(output('dave', @{ $at[1] }, qw(show mailboxes user.dave)), <<"END", 'as of: before the expunge');
mboxname: user.dave
uniqueid: $INBOX
messages:
       uid  expunged time        guid
         1                       $guid[0]
         2                       $guid[1]

END
is(output('dave', @{ $at[155] }, qw(show mailboxes user.dave.Caf&AOk-)),
    $show_work =~ s/\Q$DELETED/user.dave.Caf&AOk-/r =~ s/deleted:.*\n//r, 'as of: under its old name');
is(output('dave', @{ $at[165] }, qw(show mailboxes), $WORK), $show_work =~ s/deleted:.*\n//r,
    'as of: renamed, not yet deleted');
is(output('dave', @{ $at[155] }, qw(show mailboxes), $DELETED), '', 'as of: a name to come');
is(output('dave', @{ $at[170] }, qw(show mailboxes), $WORK), $show_work, 'as of: deleted by then');
is(output(qw(dave list mailboxes), @{ $at[155] }), <<"END", 'as of: list mailboxes');
uniqueid                              last append date     mboxname
$INBOX  2025-11-21 21:21:36  user.dave
$WORK  2025-11-21 21:22:26  user.dave.Caf&AOk-
END
is(output(qw(dave list messages), @{ $at[0] }), '', 'as of: a message that no mailbox has yet');
is(output(qw(dave list messages), @{ $at[150] }), join('', map { "$_\n" } @guid[0 .. 2]),
    'as of: list messages');
is(run(qw(dave list all), @{ $at[150] })->{err}, "listing mailboxes:\n\nlisting messages:\n",
    'as of: list all has no chunks');
is(output('dave', @{ $at[155] }, qw(show messages), $guid[3]), <<"END", 'as of: show messages');
guid:\t$guid[3]
mailboxes:
\t$WORK\tuser.dave.Caf&AOk-
headers:
Subject: last\r

END
is(output('dave', @{ $at[150] }, qw(json headers), $guid[3]), "{}\n", 'as of: json headers');
is(output('dave', @{ $at[155] }, qw(dump message), $guid[3]), $message[3], 'as of: dump message');
is(output('dave', @{ $at[1] }, qw(dump mailbox user.dave)) =~ s/^From MAILER.*\n//mgr,
    "$quoted\nSubject: nul\n\na\0b\nbare \r cr\nno end\n\n", 'as of: dump mailbox');
is(output('dave', @{ $at[400] }, @{$_}), output('dave', @{$_}), "as of the end: @{$_}") for
    [qw(json all)], [qw(json mailboxes)], [qw(json messages)], [qw(list mailboxes)];
{
    my $then = decode_json(output('dave', @{ $at[102] }, qw(json all)));
    is_deeply($then->{subscriptions}, ['user.dave', 'user.gone'], 'as of: subscriptions');
    is_deeply([map { scalar @{ $then->{$_} } } qw(mailboxes seen sieve quota annotations)],
        [1, 0, 0, 0, 0], 'as of: what came later is not there');
    is_deeply([map { [$_->{flags}, $_->{modseq}] } @{ $then->{mailboxes}[0]{records} }],
        [[[], 5], [['\Seen'], 12], [['\Flagged', '$Label1'], 20]], 'as of: flags');
    my $scripts = sub {
        return decode_json(output('dave', @{ $at[$_[0]] }, qw(json all)))->{sieve};
    };
    is_deeply([map { $scripts->($_)->[0]{active} } 300, 301], [JSON::PP::false, JSON::PP::true],
        'as of: the active script');
    is_deeply($scripts->(299), [], 'as of: no script yet');
}
for my $time ('2025-11-21 21:22:35', '2025-11-21T21:22:35Z', '2025-11-22 02:52:35+05:30', $T + 155) {
    is(output('dave', 'list', 'mailboxes', "--as-of=$time"),
        output(qw(dave list mailboxes), @{ $at[155] }), "as of $time");
}
is(output({ env => { TZ => 'XST-05:30' } }, qw(dave list messages --as-of), '2025-11-22 02:52:30'),
    output(qw(dave list messages), @{ $at[150] }), 'as of: local time');
is(output(qw(dave list messages --as-of -1m)), join('', map { "$_\n" } @guid), 'as of -1m');
fails('as of: before the beginning', 75,
    qr/^dave: there is no history of 2025-11-21 21:19:59: it begins at 2025-11-21 21:20:00$/m,
    qw(dave list messages --as-of 2025-11-21T21:19:59));
fails("as of: $_", 64, qr/^cyr_backup: --as-of: ".*" is not understood as a time/,
    qw(dave list messages --as-of), $_) for 'yesterday', '', '20251121', '-3';
fails('as of: no such day', 64, qr/^cyr_backup: --as-of: "2025-11-31": there is no such time/,
    qw(dave list messages --as-of 2025-11-31));
fails("as of: @{$_}", 64, qr/^usage: /, 'dave', @{$_}, '--as-of', 'now') for
    [qw(list chunks)], [qw(show chunks 1)], [qw(dump chunk 1)], [qw(json chunks)];
fails('as of: what?', 64, qr/^usage: /m, qw(dave list messages --as-of));

# A message that had come by then, and one that had not.
is(output('dave', 'dump', 'message', $guid[1], '--as-of', '@' . ($T + 50)), $message[1], 'dump message as of');
fails('dump message as of before it came', 75, qr/^dave: Item does not exist/m, 'dave', 'dump', 'message', $guid[2],
    '--as-of', '@' . ($T + 50));

# ---- what happened ---------------------------------------------------------------------------

# The backup's lines as they are told: seconds after $T, kind, item, details.
my $told = join '', map { my ($t, @f) = @{$_}; POSIX::strftime('%Y-%m-%d %H:%M:%S', gmtime $T + $t)
        . "\t" . join("\t", @f) . "\n" }
    [1, 'mailbox-created', 'user.dave'],
    [1, 'arrived', 'user.dave', "uid=1 guid=$guid[0] size=" . length $message[0]],
    [1, 'arrived', 'user.dave', "uid=2 guid=$guid[1] size=" . length($message[1]) . ' flags=(\Seen)'],
    [101, 'mailbox-annotated', 'user.dave', 'entry=/comment user="" is="hello world"'],
    [101, 'mailbox-annotated', 'user.dave', 'entry=/z user=dave is=1'],
    [101, 'expunged', 'user.dave', "uid=2 guid=$guid[1]"],
    [101, 'arrived', 'user.dave', "uid=3 guid=$guid[2] size=" . length($message[2])
        . ' flags=(\Flagged $Label1)'],
    [102, 'subscribed', 'user.dave'],
    [102, 'subscribed', 'user.gone'],
    [103, 'unsubscribed', 'user.gone'],
    [103, 'seen', $INBOX, 'lastuid=3 seenuids=1:3'],
    [151, 'mailbox-created', 'user.dave.Caf&AOk-'],
    [151, 'arrived', 'user.dave.Caf&AOk-', "uid=1 guid=$guid[3] size=" . length $message[3]],
    [160, 'mailbox-deleted', 'user.dave.Caf&AOk-', "to=$DELETED"],
    [170, 'mailbox-purged', $DELETED],
    [200, 'annotated', 'user.dave', "uid=3 guid=$guid[2] entry=/note user=dave is=\xe4??b"],
    [300, 'script-uploaded', 'a', 'size=6'],
    [301, 'script-activated', 'a'],
    [302, 'quota-set', 'user.dave', 'is=(STORAGE=1000 X=a b)'],
    [303, 'server-annotated', '/motd', 'user="" is=hi'],
    [304, 'mailbox-created', $ODD_NAME];
is(output(qw(dave log)), $told, 'log');
is(output(qw(dave log --since), '@' . ($T + 102), '--until', '@' . ($T + 103)),
    join('', ($told =~ /^(.*21:43\t.*\n|.*21:42\t.*\n)/mg)), 'log: a range');
is(output(qw(dave log), $WORK), join('', $told =~ /^(.*(?:Caf|$DELETED).*\n)/mg), 'log: a mailbox');
is(output(qw(dave log), uc $guid[2]), join('', $told =~ /^(.*guid=$guid[2].*\n)/mg), 'log: a message');
is(output(qw(dave log --since -1h)), '', 'log: nothing lately');
{
    my $events = decode_json(output(qw(dave json log)));
    is(scalar @{$events}, ($told =~ tr/\n//), 'json log: as many');
    is_deeply($events->[5], { time => '2025-11-21 21:21:41', epoch => $T + 101, kind => 'expunged',
        item => 'user.dave', uniqueid => $INBOX, uid => 2, guid => $guid[1] }, 'json log: an event');
    is_deeply($events->[6]{flags}, ['\Flagged', '$Label1'], 'json log: a list');
    is_deeply([@{ $events->[15] }{qw(is is_base64)}], ["\x{fffd}\r\nb", encode_base64("\xe4\r\nb", '')],
        'json log: bytes');
    is(output(qw(dave json log --since now)), "[]\n", 'json log: nothing');
}
my ($t1, $t2) = map { '@' . ($T + $_) } 1, 250;
my $diff = <<"END";
mailbox-annotated\tuser.dave\tentry=/comment user="" is="hello world"
mailbox-annotated\tuser.dave\tentry=/z user=dave is=1
gone\tuser.dave\tuid=2 guid=$guid[1]
arrived\tuser.dave\tuid=3 guid=$guid[2] size=@{[length $message[2]]} flags=(\\Flagged \$Label1)
END
my $others = "subscribed\tuser.dave\nseen\t$INBOX\tlastuid=3 seenuids=1:3\n";
is(output(qw(dave diff), $t1, $t2), $diff . $others, 'diff');
is(output(qw(dave diff), $t1, $t2, 'user.dave'), $diff, 'diff: a mailbox');
is(output(qw(dave diff), $t1, $t2, 'user/dave', $INBOX), $diff . $diff, 'diff: two');
is(output(qw(dave diff), '@' . ($T + 155)), output(qw(dave diff), '@' . ($T + 155), 'now'), 'diff: to now');
is(output(qw(dave diff), '@' . ($T + 155), $T + 165), <<"END", 'diff: deleted, but kept');
mailbox-deleted\tuser.dave.Caf&AOk-
gone\tuser.dave.Caf&AOk-\tuid=1 guid=$guid[3]
END
is(output(qw(dave diff -1h)), '', 'diff: a time that looks like an option');
is(output(qw(-u dave diff -2h -1h)), '', 'diff: two of them');
is(output(qw(dave diff -- -1h)), '', 'diff: behind --');
is_deeply(decode_json(output(qw(dave json diff), $t1, $t2, 'user.dave'))->[2],
    { kind => 'gone', item => 'user.dave', uniqueid => $INBOX, uid => 2, guid => $guid[1] }, 'json diff');
fails("usage: @{$_}", 64, qr/^usage: /m, @{$_}) for
    [qw(dave diff)], [qw(dave json diff)], [qw(dave log a b)], [qw(dave json log a b)],
    [qw(dave diff now --as-of now)], [qw(dave diff now --since now)], [qw(dave list messages --since now)],
    [qw(dave json all --until now)];
fails("diff: @{$_}", 64, qr/^cyr_backup: diff: /, 'dave', 'diff', @{$_}) for
    ['yesterday'], ['user.dave'], ['now', '2026-02-30'], ['now', '-1h'];
fails('log: bad time', 64, qr/^cyr_backup: --since: "x" is not understood/, qw(dave log --since x));
fails('log: nothing can be in between', 64, qr/^cyr_backup: --until is before --since$/m,
    qw(dave log --since -1h --until -2h));
fails('log: unknown item', 75, qr/^dave: Item does not exist \(nosuch\)/m, qw(dave log nosuch));
fails('diff: unknown mailbox', 75, qr/^dave: Item does not exist \(mailbox nosuch\)/m,
    qw(dave diff), $t1, 'nosuch');
fails('diff: before the beginning', 75, qr/^dave: there is no history of /m,
    qw(dave diff), '@' . ($T - 1));
fails('log: all before the beginning', 75, qr/^dave: there is no history of /m,
    qw(dave log --until), '@' . ($T - 1));

# ---- the file as it was ------------------------------------------------------------------------

# Cut off where a chunk ends, the file says of itself what --as-of says of that time.
my @chunks = @{ decode_json(output(qw(dave json chunks))) };
my @last = (1, 103, 170, 200, 304);
for my $i (0 .. $#chunks) {
    my $part = "$dir/part$i";
    my $end = $i < $#chunks ? $chunks[$i + 1]{offset} : -s $data;
    spew($part, substr slurp($data), 0, $end);
    owned();
    for my $command ([qw(json all)], [qw(json mailboxes)], [qw(json messages)], [qw(list mailboxes)],
        [qw(list messages)], ['show', 'mailboxes', $INBOX, $WORK], [qw(json log)],
        [qw(dump mailbox), 'user.dave'], ['diff', "\@$T"]) {
        my @as_of = $command->[0] eq 'diff' ? '@' . ($T + $last[$i]) : ('--as-of', '@' . ($T + $last[$i]));
        my ($then, $now) = map { s/^ +"mark": \d+,\n//mgr } output('-f', $part, @{$command}),
            output('-f', $data, @{$command}, @as_of);
        is($now, $then, "after chunk $chunks[$i]{id}: @{$command}");
    }
}

done_testing;
