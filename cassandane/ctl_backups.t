#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# ctl_backups list and stat: backups made by a stock sync_client, by our backupd and by Debian's of the
# same mail server, seen by our program and by Debian's with the same arguments, line by line;
# then what each number is, from the data files themselves; modes and their order; exit codes; JSON; ages;
# damaged and missing files; and that nothing is locked, read or made on the way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Holder;
use CBTest::Master;
use CBTest::Scenarios qw(memory_ok);
use CBTest::Site;
use CBTest::Util qw(as_cyrus program run_cmd slurp spew);
use Compress::Zlib qw(memGzip);
use File::Copy qw(copy);
use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use JSON::PP;
use POSIX qw(strftime);
use Test::More;

my $DEBIAN = '/usr/lib/cyrus/bin';
my $OLD = 1_763_760_000; # 2025-11-21 21:20:00 UTC
$ENV{TZ} = 'Europe/Vienna';

# ---- two backup servers -----------------------------------------------------------------------

my $theirs = CBTest::Master->new(options => {
    'backuppartition-default' => '%', backup_db => 'twoskip', backup_retention => '7d',
    admins => 'admin', allowplaintext => 'yes', unixhierarchysep => 'no', altnamespace => 'no' });
$theirs->configure('backuppartition-default' => "$theirs->{dir}/part",
    backup_db_path => "$theirs->{dir}/conf/backups.db", backup_staging_path => "$theirs->{dir}/tmp");
$theirs->start(['backupd', 'backupd', "$theirs->{dir}/conf/backupd.sock", 'prefork=0']);

my @users = qw(alice bob carol);
my $site = CBTest::Site->new(users => \@users,
    options => { imap => { debian_sync_host => "$theirs->{dir}/conf/backupd.sock" } });
$site->admin->must(create => 'news');
$site->admin->must(setacl => 'news', 'admin', 'lrswipkxtecdan');
for my $user (@users) {
    $site->imap_as($user)->append('INBOX', "Subject: $user $_\r\n\r\n" . "some text\r\n" x (40 * $_)) for 1 .. 3;
}
$site->admin->append('news', "Subject: news\r\n\r\nnews\r\n");
for my $channel (qw(tcp debian)) {
    is($site->sync($channel, '-A')->{rc}, 0, "sync_client -A to $channel");
}
$site->imap_as('bob')->append('INBOX', "Subject: late\r\n\r\nlate\r\n");
is($site->sync($_, '-u', 'bob')->{rc}, 0, "once more to $_") for qw(tcp debian);

# name => [configuration, program, cyr_backup]
my %side = (
    ours => [$site->{backup}->conf, program('ctl_backups'), program('cyr_backup')],
    theirs => [$theirs->conf, "$DEBIAN/ctl_backups", "$DEBIAN/cyr_backup"],
);

sub run
{
    my ($side, @args) = @_;
    my ($conf, $program) = @{ $side{$side} };
    return run_cmd(cmd => [as_cyrus($program, '-C', $conf, @args)], timeout => 60);
}

sub db
{
    my ($side, @words) = @_;
    my $dir = $side{$side}[0] =~ s{/imapd.conf$}{}r;
    my $r = run_cmd(cmd => [as_cyrus("$DEBIAN/cyr_dbtool", '-C', $side{$side}[0],
        "$dir/conf/backups.db", 'twoskip', @words)]);
    die $r->{err} if $r->{rc};
    return $r->{out};
}

sub data_file
{
    my ($side, $user) = @_;
    chomp(my $path = db($side, 'get', $user));
    return $path;
}

# As cyrus, so that the programs may read it.
sub as_cyrus_do
{
    my $r = run_cmd(cmd => [as_cyrus(@_)]);
    die "@_: $r->{err}" if $r->{rc};
    return;
}

# More names, and an old one, on both sides.
for my $side (sort keys %side) {
    my $alice = data_file($side, 'alice');
    my $dir = $alice =~ s{/[^/]*$}{}r;
    for my $name ('dave@example.org', 'alice@example.org', 'eve@example.com', 'alan', 'bo') {
        for my $part ('', '.index') {
            as_cyrus_do('cp', "$alice$part", "$dir/${name}_AAAAAA$part");
        }
        db($side, 'set', $name, "$dir/${name}_AAAAAA");
    }
    my $old = "$dir/old_AAAAAA";
    spew($old, memGzip("# cyrus backup: chunk start\r\n$OLD APPLY SUB %(USERID old MBOXNAME user.old)\r\n"
        . ($OLD + 60) . " APPLY SUB %(USERID old MBOXNAME user.old.x)\r\n"));
    chown((getpwnam 'cyrus')[2], -1, $old) if $> == 0;
    db($side, 'set', 'old', $old);
    my $r = $side eq 'ours'
        ? run_cmd(cmd => [as_cyrus($side{ours}[2], '-C', $side{ours}[0], '-f', $old, 'list', 'chunks')])
        : run($side, 'reindex', '-f', $old);
    is($r->{rc}, 0, "$side: an old file is indexed") or diag($r->{err});
}
my @all = sort('%SHARED', @users, 'dave@example.org', 'alice@example.org', 'eve@example.com',
    qw(alan bo old));

# ---- side by side -----------------------------------------------------------------------------

# Sizes, times and random parts of names are no matter; whatever else is must be the same.
sub normal
{
    my ($text) = @_;
    $text =~ s/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b/TIME/g;
    $text =~ s/ *\b\d+\.\d%/ RATIO%/g;
    $text =~ s{/\S+/([^/\s]+)_[A-Za-z0-9]{6}\b}{PATH/$1}g;
    $text =~ s/(?<=\t)\d+(?=\t)/N/g;
    $text =~ s/(?<=: )\d+(?:\.\d+)?(?=,?$)/N/mg;
    return $text;
}

sub same
{
    my ($label, @args) = @_;
    my %r;
    for my $side (qw(ours theirs)) {
        my @a = map { ref $_ ? data_file($side, ${$_}) : $_ } @args;
        $r{$side} = run($side, @a);
        $r{$side}{$_} = normal($r{$side}{$_}) for qw(out err);
    }
    my $name = join ' ', map { ref $_ ? "FILE(${$_})" : $_ } @args;
    is($r{ours}{out}, $r{theirs}{out}, "$name: stdout ($label)");
    is($r{ours}{err}, $r{theirs}{err}, "$name: stderr ($label)");
    is($r{ours}{rc}, $r{theirs}{rc}, "$name: exit ($label)");
    return $r{ours};
}

for my $verb (qw(list stat)) {
    same('all', '-A', $verb);
    same('all, options behind', $verb, '-A');
    same('none', $verb);
    same('by name', $verb, 'bob', 'alice', 'bob');
    same('with -u', $verb, '-u', 'bob');
    same('nothing with -u', '-u', $verb);
    same('shared', $verb, '%SHARED');
    same('files', $verb, '-f', \'bob', \'alice');
    same('mailboxes', $verb, '-m', 'user.bob', 'user.alice');
    same('prefix', $verb, '-P', 'al');
    same('prefixes', $verb, '-P', 'bo', 'al', 'bo');
    same('empty prefix', $verb, '-P', '');
    same('domain', $verb, '-D', 'example.org');
    same('domains', $verb, '-D', 'example.com', 'example.org');
    same('default domain', $verb, '-D', 'internal');
    same('unknown prefix', $verb, '-P', 'zzz');
    same('unknown domain', $verb, '-D', 'zzz');
    same('unknown name last', $verb, 'alice', 'nosuch');
    same('only an unknown name', $verb, 'nosuch');
    same('options that do nothing', '-F', '-V', '-w', '-c', $verb, 'alice');
}
same('shared by mailbox', $_, '-m', 'news', 'user.alice') for qw(list stat);
same('an old one', 'list', '-t', '24');
same('an old one by short option', 'list', '-t24', 'old', 'alice');
same('nothing so old', 'list', '-t', '999999999');
for my $side (qw(ours theirs)) {
    is(run($side, 'list', '-t')->{out}, run($side, '-t', '24', 'list')->{out}, "$side: -t as the last word is 24");
}

# Columns, to the byte.
is(run('ours', 'stat', 'alice')->{out} =~ tr/\t//, 7, 'stat has 8 columns');
like(run('ours', 'list', 'alice')->{out}, qr{^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\t\d+\talice\t/\S+/alice_\w{6}\n\z},
    'a line of list');
like(run('ours', 'stat', 'alice')->{out},
    qr{^alice\t\d+\t\d+\t\d+\t[ \d]{3}\d\.\d%\t[ \d]{3}\d\.\d%\t  [-\d]{10} [:\d]{8}\t[-\d]{10} [:\d]{8}\n\z},
    'a line of stat');

# ---- the numbers ------------------------------------------------------------------------------

# What the data file itself says: times of the last member, length of the text.
sub facts
{
    my ($path) = @_;
    my $data = slurp($path);
    my ($at, $text, @member) = (0, '');
    while ($at < length $data) {
        my $rest = substr $data, $at;
        my $z = IO::Uncompress::Gunzip->new(\$rest, MultiStream => 0) or die $GunzipError;
        my $piece = do { local $/; <$z> };
        $at += length($rest) - length($z->trailingData // '');
        push @member, $piece;
        $text .= $piece;
    }
    my @times = $member[-1] =~ /^(\d{10}) APPLY /mg;
    return { size => length $data, text => length $text, start => $times[0], end => $times[-1],
        messages => [$text =~ /\(%\{\S+ [0-9a-f]{40} (\d+)\}\r\n/g] };
}

sub local_time { return strftime('%Y-%m-%d %H:%M:%S', localtime $_[0]) }

for my $user (@users, '%SHARED', 'old') {
    my $path = data_file('ours', $user);
    my $f = facts($path);
    is(run('ours', 'list', $user)->{out}, local_time($f->{end}) . "\t$f->{size}\t$user\t$path\n",
        "$user: list says what the file says");
    my @columns = split /\t/, run('ours', 'stat', $user)->{out} =~ s/\n//r;
    is(join(' ', @columns[0 .. 2]), "$user $f->{size} $f->{text}", "$user: stat's sizes");
    is($columns[4], sprintf('%6.1f%%', 100 * $f->{size} / $f->{text}), "$user: ratio");
    is($columns[5], sprintf('%6.1f%%', 100 * $columns[3] / $f->{text}), "$user: utilisation");
    is($columns[6], sprintf('%21s', local_time($f->{start})), "$user: start");
    is($columns[7], local_time($f->{end}), "$user: end");
    my $bytes = 0;
    $bytes += $_ for @{ $f->{messages} };
    cmp_ok($columns[3], '>=', $bytes, "$user: compaction leaves the messages, all of them are alive");
    cmp_ok($columns[3], '<=', $f->{text}, "$user: and not more than there is");
}

# ---- times ------------------------------------------------------------------------------------

like(run('ours', 'list', '--utc', 'old')->{out}, qr/^2025-11-21 21:21:00\t/, '--utc');
like(run('ours', 'list', 'old')->{out}, qr/^2025-11-21 22:21:00\t/, 'local time');
like(run('ours', 'list', '--iso', 'old')->{out}, qr/^2025-11-21T22:21:00\+01:00\t/, '--iso');
like(run('ours', 'list', '--iso', '--utc', 'old')->{out}, qr/^2025-11-21T21:21:00Z\t/, '--iso --utc');
like(run('ours', 'stat', '--iso', '--utc', 'old')->{out}, qr/\t 2025-11-21T21:20:00Z\t2025-11-21T21:21:00Z\n\z/,
    'stat --iso --utc');

# ---- exit codes -------------------------------------------------------------------------------

sub outcome
{
    my ($side, @args) = @_;
    my $r = run($side, @args);
    my @users = map { (split /\t/)[$args[0] eq 'stat' ? 0 : 2] } split /\n/, $r->{out};
    return join ' ', @users, "exit $r->{rc}";
}
my @unknown = (
    # arguments, Debian's exit (and ours with --legacy-status), ours
    ['list nosuch alice', 'alice exit 0', 'alice exit 75'],
    ['list alice nosuch', 'alice exit 75', 'alice exit 75'],
    ['list -S nosuch alice', 'alice exit 0', 'alice exit 75'],
    ['stat nosuch alice', 'alice exit 0', 'alice exit 75'],
    ['stat -m user.nosuch user.alice', 'alice exit 0', 'alice exit 75'],
);
for my $row (@unknown) {
    my ($words, $old, $new) = @{$row};
    my @args = split ' ', $words;
    is(outcome('theirs', @args), $old, "Debian's: $words");
    is(outcome('ours', @args), $new, "ours: $words");
    is(outcome('ours', @args, '--legacy-status'), $old, "ours, --legacy-status: $words");
}
is(run('ours', 'list', 'nosuch', 'alice', 'neither')->{err},
    "nosuch: not found in backups.db\nneither: not found in backups.db\n", 'unknown names');
is(outcome('ours', 'list', '--stale', '--fail-if-any', 'alice'), 'exit 0', '--fail-if-any, and none is');
is(outcome('ours', 'list', '--stale', '--fail-if-any'), 'old exit 75', '--fail-if-any, and one is');
is(outcome('ours', 'list', '--stale'), 'old exit 0', '--stale alone');
is(outcome('ours', 'list', '--stale=999999999', '--fail-if-any'), 'exit 0', 'not so old');
is(outcome('ours', 'list', '--sort', 'bob', 'alice'), 'alice bob exit 0', '--sort');
is(outcome('ours', 'list', 'Alice@internal', 'alice@internal'), 'alice exit 75',
    'the default domain may be there');

# ---- JSON -------------------------------------------------------------------------------------

# Keys in the order in which they stand.
sub keys_of
{
    my ($text) = @_;
    return join ' ', $text =~ /^  "(\w+)":/mg;
}

for my $verb (qw(list stat)) {
    my %r = map { $_ => run($_, '-j', $verb, 'alice') } qw(ours theirs);
    my $theirs = keys_of($r{theirs}{out});
    like(keys_of($r{ours}{out}), qr/^\Q$theirs\E /, "$verb -j: their keys, in their order, then ours");
    my $mine = keys_of($r{ours}{out});
    is(keys_of(run('ours', '--json', $verb, 'alice')->{out}), $mine, "$verb --json is the same");
    my @one = map { keys_of(run($_, '-j', $verb, '-f', data_file($_, 'alice'))->{out}) } qw(theirs ours);
    like($one[1], qr/^\Q$one[0]\E /, "$verb -j -f: the same");
    unlike($one[1], qr/userid/, "$verb -j -f: no userid");
    my @streams = map { normal(run($_, '-j', $verb, '-A')->{out}) } qw(theirs ours);
    s/,\n  "\w+_(?:epoch|iso)": [^,\n]*//g for @streams;
    is($streams[1], $streams[0], "$verb -j -A: but for keys that are new, the same text");
    my $array = run('ours', '--json=array', $verb, '-A');
    is_deeply([map { $_->{userid} } @{ decode_json($array->{out}) }], \@all, "$verb --json=array is one array");
    is(run('ours', '--json=array', $verb, '-P', 'zzz')->{out}, "[]\n", "$verb --json=array of nothing");
    is(run('ours', '-j', $verb, '-P', 'zzz')->{out}, '', "$verb -j of nothing");
    my $bad = run('ours', '-j', $verb, 'nosuch', 'alice');
    is("$bad->{rc} $bad->{err}", "75 nosuch: not found in backups.db\n", "$verb -j: errors are text on stderr");
}
{
    my $f = facts(data_file('ours', 'alice'));
    my $j = decode_json(run('ours', '-j', 'stat', 'alice')->{out});
    is("$j->{compressed} $j->{uncompressed}", "$f->{size} $f->{text}", 'stat -j: numbers');
    is($j->{compression_ratio}, 100 * $f->{size} / $f->{text}, 'stat -j: ratio');
    is($j->{last_end_time}, local_time($f->{end}), 'stat -j: time');
    is($j->{last_end_time_epoch}, $f->{end}, 'stat -j: epoch');
    is($j->{last_start_time_iso}, strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $f->{start}), 'stat -j: ISO 8601');
    $j = decode_json(run('ours', '-j', 'list', 'alice')->{out});
    is("$j->{timestamp} $j->{timestamp_epoch} $j->{compressed}", local_time($f->{end}) . " $f->{end} $f->{size}",
        'list -j');
}

# ---- an empty one -----------------------------------------------------------------------------

is(run('ours', 'lock', '-c', 'empty')->{out}, "* Trying to obtain lock on empty...\nOK locked\n", 'a new backup');
my $empty = data_file('ours', 'empty');
is(run('ours', 'list', 'empty')->{out}, "[unknown]\t0\tempty\t$empty\n", 'list of an empty one');
is(run('ours', 'stat', 'empty')->{out},
    "empty\t0\t0\t0\t   0.0%\t   0.0%\t            [unknown]\t[unknown]\n", 'stat of an empty one');
is(outcome('ours', 'list', '--stale'), 'empty old exit 0', 'it counts as old');
is(keys_of(run('ours', '-j', 'stat', 'empty')->{out}),
    'userid fname compressed uncompressed compactable last_start_time last_end_time', 'stat -j: no ratios');

# ---- nothing is locked, read, made or mended ---------------------------------------------------

{
    my $path = data_file('ours', 'carol');
    my @before = map { join ' ', (stat $_)[1, 7, 9, 10] } $path, "$path.index";
    my $holder = CBTest::Holder->new($path);
    is(outcome('ours', 'list', 'carol'), 'carol exit 0', 'list of a locked one');
    is(outcome('ours', 'stat', 'carol'), 'carol exit 0', 'stat of a locked one');
    undef $holder;
    is_deeply([map { join ' ', (stat $_)[1, 7, 9, 10] } $path, "$path.index"], \@before, 'nothing was changed');
    my $trace = "$site->{dir}/trace";
    # who looks for leaks cannot be traced
    local $ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (), 'detect_leaks=0';
    my $r = run_cmd(cmd => [as_cyrus('strace', '-f', '-e', 'trace=openat,open', '-o', $trace,
        program('ctl_backups'), '-C', $side{ours}[0], 'list', 'carol', 'alice')]);
    is($r->{rc}, 0, 'under strace');
    like(slurp($trace), qr{"\Q$path.index\E"}, 'the index is opened');
    unlike(slurp($trace), qr{"\Q$path\E"}, 'the data file is not');
}

# ---- damage -----------------------------------------------------------------------------------

# Each on a fresh copy of alice: what happens to it, what list and stat then say.
my $INVALID = 'Mailbox has an invalid format';
my %damage = (
    'index missing' => [sub { unlink "$_[0].index" }, qr/^X: \Q$INVALID\E \(/],
    'index empty' => [sub { truncate "$_[0].index", 0 }, qr/^X: \Q$INVALID\E \(/],
    'index garbage' => [sub { spew("$_[0].index", 'garbage' x 1000) }, qr/^X: \Q$INVALID\E \(/],
    "index of Cyrus 3.x" => [sub { copy(data_file('theirs', 'alice') . '.index', "$_[0].index") },
        qr/^X: \Q$INVALID\E \(/],
    'data missing' => [sub { unlink $_[0] }, qr/^X: Mailbox does not exist(?:: \S+ is not there; is its partition mounted\?)?$/],
    'both missing' => [sub { unlink $_[0], "$_[0].index" }, qr/^X: Mailbox does not exist(?:: \S+ is not there; is its partition mounted\?)?$/],
    'data empty' => [sub { truncate $_[0], 0 }, qr/^X: \Q$INVALID\E \(/],
    'data cut' => [sub { truncate $_[0], (-s $_[0]) - 100 }, qr/^X: \Q$INVALID\E \(/],
    'bit in the middle' => [sub { flip($_[0]) }, undef],
    'junk behind' => [sub { spew($_[0], slurp($_[0]) . 'junk' x 50) }, undef],
);

sub flip
{
    my ($path) = @_;
    my $data = slurp($path);
    substr($data, length($data) / 2, 1) ^= "\x10";
    spew($path, $data);
    return;
}

my $copy = data_file('ours', 'alice') =~ s{/alice_[^/]*$}{/hurt_BBBBBB}r;
db('ours', 'set', 'hurt', $copy);
for my $what (sort keys %damage) {
    my ($do, $expected) = @{ $damage{$what} };
    as_cyrus_do('rm', '-f', $copy, map { "$copy.index$_" } '', qw(-wal -shm -journal));
    as_cyrus_do('cp', data_file('ours', 'alice') . $_, "$copy$_") for '', '.index';
    $do->($copy);
    run_cmd(cmd => ['chown', 'cyrus', grep { -e } $copy, "$copy.index"]) if $> == 0 && -e $copy;
    for my $verb (qw(list stat)) {
        for my $how (['hurt'], ['-f', $copy]) {
            my $r = run('ours', $verb, @{$how});
            my $name = $how->[-1];
            if ($expected) {
                my $pattern = $expected =~ s/X/\Q$name\E/r;
                like($r->{err}, qr/$pattern/m, "$what: $verb @{$how}");
                is("$r->{rc} $r->{out}", '75 ', "$what: $verb, nothing on stdout, exit 75");
            } else {
                is("$r->{rc} $r->{err}", '0 ', "$what: $verb @{$how}");
            }
        }
    }
    ok(!-e "$copy.index.old", "$what: nothing was set aside");
    is(outcome('ours', 'list', 'hurt', 'bob'), $expected ? 'bob exit 75' : 'hurt bob exit 0', "$what: the next is listed");
    is(outcome('ours', 'list', '-S', 'hurt', 'bob'), $expected ? 'exit 75' : 'hurt bob exit 0', "$what: with -S not");
    is(outcome('ours', 'stat', '--legacy-status', 'hurt', 'bob'), $expected ? 'bob exit 0' : 'hurt bob exit 0',
        "$what: stat as in Cyrus 3.x");
    is(outcome('ours', 'stat', '-S', '--legacy-status', 'hurt', 'bob'),
        $expected ? 'exit 75' : 'hurt bob exit 0', "$what: stat -S as in Cyrus 3.x");
}

# backups.db itself
{
    my $db = "$site->{backup}{dir}/conf/backups.db";
    my $good = slurp($db);
    spew($db, 'no database at all' x 100);
    my $r = run('ours', 'list');
    is($r->{rc}, 75, 'backups.db is garbage: exit 75');
    like($r->{err}, qr/^ctl_backups: \S.*backups\.db/, 'and it says so');
    is($r->{out}, '', 'nothing on stdout');
    spew($db, $good);
    is(run('ours', 'list', 'alice')->{rc}, 0, 'it is well again');
}

# A full stdout
{
    my $r = run_cmd(cmd => [as_cyrus('sh', '-c', "exec $side{ours}[1] -C $side{ours}[0] list >/dev/full")]);
    is($r->{rc}, 75, 'what cannot be printed is a failure');
    like($r->{err}, qr/^ctl_backups: cannot write the result: No space left/, 'and it says so');
}
memory_ok($site);
done_testing;
