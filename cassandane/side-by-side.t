#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# What scripts rely on: a mail server that is backed up by our backupd and by Debian's, and every command
# of ctl_backups on both with the same arguments, what they print compared character by character. What
# differs on purpose is taken out by rules that are written down here, one by one. (list, stat, lock and
# the command line are compared further in ctl_backups.t, ctl_backups-lock.t, ctl_backups-args.t, the sizes
# of chunks in compact-sizes.t, cyr_backup in cyr_backup.t.) Then the fourteen promises to scripts, each a
# subtest with its number.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Holder;
use CBTest::Imap;
use CBTest::Sides;
use CBTest::Util qw(as_cyrus run_cmd slurp spew);
use Digest::SHA qw(sha1_hex);
use JSON::PP;
use Test::More;

$ENV{TZ} = 'Europe/Vienna';
my @users = qw(alice bob);
my $s = CBTest::Sides->new(users => [@users], ours => ['--legacy-status'],
    backup => { backup_maintenance_wait => '1s' });
my $site = $s->{site};
$site->admin->must(create => 'news');
$site->admin->must(setacl => 'news', 'admin', 'lrswipkxtecdan');
$site->admin->append('news', "Subject: news\r\n\r\nnews\r\n");
my %message = map { my $n = $_; $n => CBTest::Imap::message(subject => "number $n") } 1 .. 3;
for my $n (1 .. 3) {
    $site->imap_as($_)->append('INBOX', $message{$n}) for @users;
    $s->sync('-A');
}

# ---- what may differ ---------------------------------------------------------------------------

# On both sides: places, sizes, times, ratios. On one: what the other does not say, and why.
sub normal
{
    my ($text, $side) = @_;
    $text =~ s/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b/TIME/g;
    $text =~ s/ *\b\d+\.\d%/ RATIO%/g;
    $text =~ s{/\S+/([^/\s]+)_[A-Za-z0-9]{6}\b}{PATH/$1}g;
    $text =~ s/(?<=\t)\d+(?=\t)/N/g;
    $text =~ s/(?<=at offset )\d+/N/g;
    if ($side eq 'theirs') {
        # The end of the file is no chunk.
        $text =~ s/\nfound chunk at offset N\n\nreached end/reached end/g;
    } else {
        # -v says more: how many there were, on stderr, and what compaction found.
        $text =~ s/^\w+: \d+ backups: .*\n//mg;
        $text =~ s/^[\w%]+: (?:all states|messages:|states of|chunks:|\d+ bytes became).*\n//mg;
        # JSON: new keys, behind the old ones.
        $text =~ s/^(  "status": "[^"]*"),\n(?:  .*\n)*\}/$1\n}/mg;
        $text =~ s/,\n  "\w+_(?:epoch|iso)": [^,\n]*//g;
    }
    $text =~ s/(?<=": )\d+(?:\.\d+)?(?=,?$)/N/mg;
    return $text;
}

sub same { return $s->same(shift, \&normal, @_) }

# ---- every command, with everything that names backups and every old option ---------------------

my @names = (
    ['a user', 'alice'], ['users, one twice', qw(bob alice bob)], ['shared', '%SHARED'],
    ['-u', '-u', 'bob'], ['-m', '-m', 'user.bob', 'user.alice'], ['-m shared', '-m', 'news'],
    ['-f', '-f', \'alice'], ['a file that is not there', '-f', '/nowhere/x'],
    ['-A', '-A'], ['-P', '-P', 'al'], ['-P none', '-P', 'zzz'], ['-D', '-D', 'internal'], ['-D none', '-D', 'zzz'],
    ['nobody'], ['unknown, first', 'nosuch', 'alice'], ['unknown, last', 'alice', 'nosuch'],
    ['unknown, -m', '-m', 'user.nosuch'], ['unknown, -S', '-S', 'nosuch', 'alice'],
    ['options that mean nothing here', '-V', '-w', '-c', 'alice'],
    ['options behind', 'alice', '-u', '-w'], ['--', '--', 'alice'],
    ['-j', '-j', 'alice', 'bob'], ['-j -f', '-j', '-f', \'alice'], ['-j nobody', '-j', '-P', 'zzz'],
    ['-j unknown', '-j', 'nosuch'], ['-j missing', '-j', '-f', '/nowhere/x'],
);
for my $verb (qw(verify reindex compact list stat)) {
    for my $row (@names) {
        my ($label, @args) = @{$row};
        # Both of a mailbox that all share by its path; the path of a file that is missing is all that is known.
        same($label, $verb, @args);
    }
}
same('-v', '-v', 'verify', 'alice', 'bob');
same('-vv', '-vv', 'verify', 'alice');
same('-vvv', 'verify', '-v', '-vv', 'alice');
same('-v', '-v', 'reindex', 'alice', 'bob');
same('-vv', 'reindex', '-vv', 'alice');
same('-v', '-v', $_, 'alice') for qw(list stat);
same('-v, skipped', '-v', 'compact', 'alice');
same('-S, skipped', '-S', 'compact', 'alice', 'bob');

# An index that is not there, or of no use, is made.
for my $how (['is missing', sub { unlink $_[0] }], ['is empty', sub { truncate $_[0], 0 }],
    ['is garbage', sub { spew($_[0], 'garbage' x 1000) }])
{
    for my $side ($s->sides) {
        my $index = $s->data_file($side, 'bob') . '.index';
        unlink "$index-wal", "$index-shm";
        $how->[1]->($index);
        run_cmd(cmd => ['chown', 'cyrus', $index]) if $> == 0 && -e $index;
    }
    same("an index that $how->[0]", 'reindex', 'bob');
    same('and then', 'verify', 'bob');
}
# In use by another.
{
    my @held = map { CBTest::Holder->new($s->data_file($_, 'alice')) } $s->sides;
    # Ours waits, as long as it was told, which is much less than it would by itself.
    my $long = { timeout => 50 };
    same('in use', $long, 'reindex', 'alice', 'bob');
    same('in use, -S', $long, '-S', 'reindex', 'alice', 'bob');
    same('in use, -j', $long, '-j', 'reindex', 'alice');
    same('in use', 'lock', 'alice');
}
# Forced; both become one chunk each, ours by itself, theirs when told to.
same('forced', '-F', 'compact', 'alice');
same('forced, the file', '-F', 'compact', '-f', \'bob');
same('forced, -j', '-j', 'compact', '-F', '%SHARED');
same('after it', 'verify', '-A');
{
    # The first of the two is damaged: both say so in a line, and go on, or stop with -S.
    my %good;
    for my $side ($s->sides) {
        my $path = $s->data_file($side, 'alice');
        $good{$path} = slurp($path);
        truncate $path, 100;
    }
    my $failed = sub { return normal(@_) =~ s/failed \(.*\)$/failed (...)/mgr =~ s/^(?!verify |compact |reindex ).*\n//mgr };
    for my $row (['verify', '--dry-run'], ['verify', '--dry-run', '-S']) {
        my ($verb, $dry, @more) = @{$row};
        my %r = map { $_ => $s->run($_, $verb, $_ eq 'ours' ? $dry : (), @more, 'alice', 'bob') } $s->sides;
        is($failed->($r{ours}{out}, 'ours'), $failed->($r{theirs}{out}, 'theirs'), "damaged: $verb @more");
        is($r{ours}{rc}, $r{theirs}{rc}, "damaged: $verb @more: exit code");
    }
    spew($_, $good{$_}) for keys %good;
    same('well again', 'verify', 'alice');
}

# ---- the promises ------------------------------------------------------------------------------

sub cyr { return $s->run($_[0], { name => 'cyr_backup' }, @_[1 .. $#_]) }

# How many columns the lines have.
sub columns { return join ' ', map { scalar split /\t/, $_, -1 } split /\n/, $_[0] }

subtest '1: stdout and stderr are split as ever' => sub {
    my %args = (list => ['list', 'nosuch', 'alice'], lock => ['lock', '-x', 'echo x', 'alice'],
        stat => ['stat', '-f', '/nowhere/x'], verify => ['verify', 'nosuch']);
    my %r = map { $_ => $s->both(\&normal, @{ $args{$_} }) } sort keys %args;
    like($r{list}{ours}{err}, qr/^nosuch: not found/, 'errors: stderr');
    like($r{list}{ours}{out}, qr/\talice\t/, 'results: stdout');
    is($r{lock}{ours}{out}, "x\n", 'lock -x: stdout is the command\'s');
    is($r{lock}{ours}{err}, "trying to obtain lock on alice...\n", 'and ours is stderr');
    is($r{$_}{ours}{err}, $r{$_}{theirs}{err}, "$_: the same on stderr") for sort keys %r;
    my $usage = $s->run('ours', 'list', '--nosuch');
    is($usage->{out}, '', 'usage: nothing on stdout');
    like($usage->{err}, qr/^usage: /, 'but on stderr');
};
subtest '2: columns of list and stat' => sub {
    for my $side ($s->sides) {
        is(columns($s->run($side, 'list')->{out}), '4 4 4', "$side: list");
        is(columns($s->run($side, 'stat', '-A')->{out}), '8 8 8', "$side: stat");
        like($s->run($side, 'list', 'alice')->{out}, qr/^\S+ \S+\t/, "$side: one blank in a time");
    }
};
subtest '3: result lines' => sub {
    my $out = join '', map { $s->run('ours', @{$_})->{out} } ['verify', 'alice'], ['reindex', '-f', '/nowhere/x'],
        ['compact', 'alice'];
    is($out, "verify alice: ok\nreindex /nowhere/x: failed (Mailbox does not exist)\ncompact alice: skipped\n",
        'command name: status');
    my $held = CBTest::Holder->new($s->data_file('ours', 'alice'));
    like($s->run('ours', 'reindex', 'alice')->{out}, qr/: locked$/, 'locked');
};
subtest '4: lock -p' => sub {
    my $r = $s->run('ours', { input => '' }, 'lock', '-p', 'alice');
    is($r->{out}, "* Trying to obtain lock on alice...\nOK locked\n", 'the end of stdin ends it');
    is($s->run('ours', 'lock', '-p', '-f', '/nowhere/x')->{out} =~ s/.*\n//r, "NO failed (Mailbox does not exist)\n", 'NO');
};
subtest '5: names in the environment' => sub {
    my $path = $s->data_file('ours', 'alice');
    my $r = $s->run('ours', 'lock', '-x', 'echo $ctl_backups_lock_data_fname $ctl_backups_lock_index_fname', 'alice');
    is($r->{out}, "$path $path.index\n", 'of both files');
};
subtest '6: exit codes' => sub {
    my @runs = (['list', 'alice'], ['list', '--nosuch'], ['list', 'nosuch'], ['lock', '-x', 'exit 3', 'alice'],
        ['lock', '-x', 'kill -9 $$', 'alice'], ['-S', 'verify', '-f', '/nowhere/x'], ['move', '--to=nosuch', 'alice'],
        ['rename', 'nosuch', 'other'], ['delete', 'nosuch'], ['undelete', 'nosuch'], ['verify', '--subset=x', 'alice']);
    is(join(' ', map { $s->run('ours', @{$_})->{rc} } @runs), '0 64 75 75 75 75 64 75 75 75 64', 'ctl_backups');
    is(run_cmd(cmd => [as_cyrus($s->program_of('ours', $_), '-C', '/nowhere/imapd.conf',
        $_ eq 'cyr_backup' ? ('alice', 'list', 'all') : 'list')])->{rc}, 78, "$_: no configuration")
        for qw(ctl_backups cyr_backup);
    is(join(' ', map { cyr('ours', @{$_})->{rc} } [qw(alice list all)], [qw(alice list)], [qw(nosuch list all)],
        ['alice', 'dump', 'message', 'f' x 40], [qw(alice dump chunk 999)], [qw(alice log --since x)]),
        '0 64 75 75 75 64', 'cyr_backup');
};
subtest '7: letters' => sub {
    # Behind each letter what it may need; the rest is a command line that both accept without it.
    for my $name (qw(ctl_backups cyr_backup)) {
        my @command = $name eq 'cyr_backup' ? qw(alice list messages) : 'stat';
        for my $letter ('a' .. 'z', 'A' .. 'Z', 0 .. 9) {
            next if $letter eq 'C';
            my %accepted;
            for my $side ($s->sides) {
                my $r = run_cmd(cmd => [$s->program_of($side, $name), '-C', '/nowhere/imapd.conf', @command,
                    "-$letter" . ($letter eq 't' ? 5 : '')]);
                $accepted{$side} = $r->{rc} == 78 ? 1 : 0;
            }
            is($accepted{ours}, $accepted{theirs}, "$name -$letter") if $accepted{ours} != $accepted{theirs};
        }
    }
    pass('all letters were tried');
};
subtest '8: options may stand anywhere' => sub {
    my $out = $s->run('ours', '-u', 'list', 'alice')->{out};
    is($s->run('ours', @{$_})->{out}, $out, "@{$_}") for ['list', 'alice', '-u'], ['list', '-u', 'alice'];
    $out = cyr('ours', qw(-u alice list messages))->{out};
    is(cyr('ours', @{$_})->{out}, $out, "@{$_}") for [qw(alice list messages -u)], [qw(alice -u list messages)];
};
subtest '9: no names' => sub {
    is($s->run('ours', 'list')->{out}, $s->run('ours', 'list', '-A')->{out}, 'list: all');
    for my $verb (qw(stat verify compact reindex lock)) {
        my $r = $s->run('ours', $verb);
        is("$r->{rc}$r->{out}$r->{err}", '0', "$verb: nothing, successfully");
    }
};
subtest '10: %SHARED' => sub {
    like($s->run('ours', 'list', '%SHARED')->{out}, qr/\t%SHARED\t/, 'list');
    is($s->run('ours', 'verify', '%SHARED')->{out}, "verify %SHARED: ok\n", 'verify');
    like(cyr('ours', '%SHARED', 'list', 'mailboxes')->{out}, qr/ news$/m, 'cyr_backup');
};
subtest '11: keys of JSON' => sub {
    my $keys = sub { join ' ', $_[0] =~ /^ *"([\w ]+)":/mg };
    for my $args (['list', 'alice'], ['stat', 'alice'], ['verify', 'alice'], ['reindex', 'alice'], ['compact', 'alice'],
        ['verify', '-f', \'alice'])
    {
        my %r = map { my $side = $_; $side => $s->run($side, '-j', map { ref $_ ? $s->data_file($side, ${$_}) : $_ } @{$args}) }
            $s->sides;
        like($keys->($r{ours}{out}) . ' ', qr/^\Q@{[$keys->($r{theirs}{out})]}\E /, "$args->[0]: new ones at the end");
    }
    for my $item (qw(chunks mailboxes messages)) {
        my %r = map { $_ => $keys->(cyr($_, 'bob', 'json', $item)->{out}) } $s->sides;
        my %once = map { my %seen; $_ => join ' ', grep { !$seen{$_}++ } split / (?!time)/, $r{$_} } keys %r;
        is($once{ours}, $once{theirs}, "cyr_backup json $item");
    }
};
subtest '12: GUIDs and UNIQUEIDs are known by their shape' => sub {
    my ($uniqueid) = cyr('ours', qw(alice list mailboxes))->{out} =~ /^(\S+) .* user\.alice$/m;
    my ($guid) = cyr('ours', qw(alice list messages))->{out} =~ /^([0-9a-f]{40})$/m;
    my $shown = cyr('ours', qw(alice show mailboxes user.alice))->{out};
    like($shown, qr/^mboxname: user\.alice$/m, 'a name');
    is(cyr('ours', qw(alice show mailboxes), $uniqueid)->{out}, $shown, 'a UNIQUEID');
    like(cyr('ours', qw(alice log), $guid)->{out}, qr/^[^\t]+\tarrived\t.* guid=$guid /m, 'a GUID');
    is(cyr('ours', qw(alice log), uc $guid)->{out}, cyr('ours', qw(alice log), $guid)->{out}, 'in capitals');
};
subtest '13: titles of list all' => sub {
    for my $side ($s->sides) {
        my $all = cyr($side, qw(bob list all));
        is($all->{out}, join('', map { cyr($side, 'bob', 'list', $_)->{out} } qw(chunks mailboxes messages)),
            "$side: stdout is the lists");
        is($all->{err}, "listing chunks:\n\nlisting mailboxes:\n\nlisting messages:\n", "$side: titles on stderr");
    }
};
subtest '14: dump' => sub {
    my @guids = split /\n/, cyr('ours', qw(bob list messages))->{out};
    is(scalar @guids, 3, 'messages');
    for my $guid (@guids) {
        my $r = cyr('ours', qw(bob dump message), $guid);
        is(sha1_hex($r->{out}), $guid, 'every byte, and nothing else');
        is(cyr('ours', qw(-v bob dump message), $guid)->{out}, $r->{out}, 'with -v, too');
        is(cyr('theirs', qw(bob dump message), $guid)->{out}, $r->{out}, 'and as Debian\'s has it');
    }
    like(cyr('ours', qw(bob dump chunk 1))->{out}, qr/\A# cyrus backup: chunk start\r\n\d+ APPLY /, 'a chunk');
};
$s->stop;
done_testing;
