#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# ctl_backups with many backups, made by real syncs: list with what it remembers, against the same without
# it, after every kind of change; several at a time; parts of them verified, those first that were
# verified longest ago; the progress line, on a terminal and only there; long names of options; and as an
# event of Debian's master: once at a time, to be ended by a signal, with its lines in syslog.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Holder;
use CBTest::Imap;
use CBTest::Master;
use CBTest::Scenarios qw(no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus processes_of program run_cmd slurp spew start_cmd wait_until);
use Compress::Raw::Zlib qw(WANT_GZIP Z_SYNC_FLUSH);
use JSON::PP;
use Test::More;

$ENV{TZ} = 'UTC';
my @users = map { sprintf 'u%02d', $_ } 1 .. 18;
my $site = CBTest::Site->new(users => [@users], clock => 1, options => { imap => { maxlogins_per_user => 100 } });
my ($clock, $backup) = @{$site}{qw(clock backup)};
my $dir = $backup->{dir};
run_cmd(cmd => [as_cyrus('mkdir', '-p', "$dir/part2")]);
$backup->stop;
$backup->{options}{'backuppartition-two'} = "$dir/part2";
$backup->{options}{partition_select_exclude} = 'two';
$backup->write_config;
$backup->start;
sub deliver { $site->deliver($_, CBTest::Imap::message(subject => "for $_")) for @_; return }
deliver(@users);
is($site->sync('unix', '-A')->{rc}, 0, 'sync_client -A');

sub ctl { return $site->ctl_backups(@_) }

# What backups.db says: [user, path] in its order.
sub records
{
    my $r = run_cmd(cmd => [as_cyrus('/usr/lib/cyrus/bin/cyr_dbtool', '-C', $backup->conf, "$dir/conf/backups.db",
        'twoskip', 'show')]);
    return map { [split /\t/] } split /\n/, $r->{out};
}
sub path_of { my ($user) = @_; return (map { $_->[1] } grep { $_->[0] eq $user } records())[0] }

# ---- list remembers ----------------------------------------------------------------------------

# Few names are looked up one by one.
sub list_few
{
    my @names = map { $_->[0] } records();
    my %all = (out => '', err => '', rc => 0);
    while (my @some = splice @names, 0, 7) {
        my $r = ctl('list', @some);
        $all{$_} .= $r->{$_} for qw(out err);
        $all{rc} ||= $r->{rc};
    }
    return \%all;
}

sub list_all { $clock->advance(60); return ctl('list', @_) }

# How many indexes a list of all opens.
sub indexes_opened
{
    $clock->advance(60);
    my $trace = "$site->{dir}/trace";
    my $env = $backup->env;
    # who looks for leaks cannot be traced
    local $env->{ASAN_OPTIONS} = join ':', $env->{ASAN_OPTIONS} // (), 'detect_leaks=0';
    my $r = run_cmd(cmd => [as_cyrus('strace', '-f', '-e', 'trace=openat,open', '-o', $trace, program('ctl_backups'), '-C',
        $backup->conf, 'list')], env => $env);
    return scalar(() = slurp($trace) =~ /_[A-Za-z0-9]{6}\.index"/g);
}

my $cache = "$dir/conf/backups.db.list";
list_all();
ok(-s $cache, 'what list found is kept');
is(indexes_opened(), 0, 'and then no index is opened');

# Other files take the place of a pair.
sub put_in_place
{
    my ($user, %from) = @_;
    my $path = path_of($user);
    unlink map { "$path$_" } '', '.index', '.index-wal', '.index-shm';
    for my $part (keys %from) {
        spew("$path$part.tmp", $from{$part});
        run_cmd(cmd => ['chown', 'cyrus:mail', "$path$part.tmp"]) if $> == 0;
        rename "$path$part.tmp", "$path$part" or die;
    }
    return;
}
my @changes = (
    ['a sync' => sub { deliver('u01'); is($site->sync('unix', '-u', 'u01')->{rc}, 0, 'sync') }],
    ['a new user' => sub { $site->add_user('v01'); $site->create_mailboxes('v01'); deliver('v01');
        is($site->sync('unix', '-u', 'v01')->{rc}, 0, 'sync') }],
    ['compaction' => sub { like(ctl('--force', 'compact', 'u02')->{out}, qr/: ok$/, 'ok') }],
    ['a move' => sub { like(ctl('move', '--to=two', 'u03')->{out}, qr/: ok$/, 'ok') }],
    ['a rename' => sub { like(ctl('rename', 'u04', 'x04')->{out}, qr/: ok$/, 'ok') }],
    ['a new index' => sub { like(ctl('reindex', 'u05')->{out}, qr/: ok$/, 'ok') }],
    ['a deletion' => sub { like(ctl('delete', 'u06')->{out}, qr/: ok/, 'ok') }],
    ['a deletion undone' => sub { like(ctl('undelete', 'u06')->{out}, qr/: ok/, 'ok') }],
    ['a copy from before' => sub {
        my $path = path_of('u07');
        my %pair = ('' => slurp($path), '.index' => slurp("$path.index"));
        deliver('u07');
        is($site->sync('unix', '-u', 'u07')->{rc}, 0, 'sync');
        list_all();
        put_in_place('u07', %pair);
    }],
    ["somebody else's files" => sub { my $path = path_of('u01'); put_in_place('u08', '' => slurp($path)) }, 75],
    ['the same size' => sub {
        my $path = path_of('u09');
        my @times = (stat $path)[8, 9];
        my $bytes = slurp($path);
        substr($bytes, length($bytes) / 2, 1) ^= "\1";
        spew($path, $bytes);
        utime @times, $path or die;
    }],
    ['the index is gone' => sub { unlink path_of('u10') . '.index' or die }, 75],
    ['the index is garbage' => sub { spew(path_of('u11') . '.index', 'x' x 5000) }, 75],
    ['the data file is gone' => sub { unlink path_of('u12') or die }, 75],
    ['the data file is cut' => sub { truncate path_of('u13'), 10 or die }, 75],
    ['the end is damaged' => sub {
        my $path = path_of('u14');
        my $bytes = slurp($path);
        substr($bytes, -9, 1) ^= "\1";
        spew($path, $bytes);
        my $r = ctl('reindex', 'u14');
        my $size = length $bytes;
        is("$r->{rc} $r->{out}", "75 reindex u14: failed (data damaged: the last $size bytes cannot be read: they were set aside)\n",
            'reindex says so');
        is(scalar(() = glob "$path.tail.*"), 1, 'and where they are');
        is($site->sync('unix', '-u', 'u14')->{rc}, 0, 'sync');
        no_differences('both sides equal', eval { differences($site, 'u14') }, $@ || ());
        spew($path, slurp($path) . 'what a crash leaves');
        is(ctl('reindex', 'u14')->{out}, "reindex u14: ok (the last 19 bytes cannot be read: they were set aside)\n",
            'that is no damage');
    }, 75],
    ['all are mended' => sub {
        ctl('reindex', "u$_") for qw(08 09 10 11 13);
        like(ctl('--force', 'delete', 'u12')->{out}, qr/: ok/, 'a record without a file goes');
        is($site->sync('unix', '-u', "u$_")->{rc}, 0, "u$_: sync") for qw(09 12 13);
        is(ctl('--force', 'compact', 'u09')->{rc}, 75, 'what could not be read is set aside');
    }],
);
for my $row (@changes) {
    my ($what, $do, $rc) = @{$row};
    $do->();
    $clock->advance(60);
    my ($few, $all) = (list_few(), list_all());
    is($all->{out}, $few->{out}, "$what: list says the same with what it remembers");
    is($all->{err}, $few->{err}, "$what: and complains of the same");
    is($all->{rc}, $few->{rc}, "$what: exit code");
    is($all->{rc}, $rc, "$what: exit code $rc") if $rc;
    is(list_all()->{out}, $all->{out}, "$what: and once more");
}
is(join("\n", grep { !/^\S+ \S+\t\d+\t\S+\t\S+$/ } split /\n/, list_all()->{out}), '', 'all lines are whole');
spew($cache, 'garbage' x 100);
is(list_all()->{out}, list_few()->{out}, 'what is remembered is garbage: the same');
is(list_all('--stale=1')->{out}, '', '--stale: none is');
$clock->advance(7200);
is(ctl('list', '--stale=1')->{out}, ctl('list')->{out}, '--stale: now all are');
my @all = map { $_->[0] } records();
cmp_ok(scalar @all, '>=', 16, 'backups');

# list finds the local time of a quarter of an hour and counts from there; stat asks for each time.
{
    for my $user (qw(u15 u16 u17 u18)) {
        $clock->advance(50);
        deliver($user);
        is($site->sync('unix', '-u', $user)->{rc}, 0, "$user: sync");
    }
    my @epochs = map { $_->{timestamp_epoch} } @{ decode_json(ctl('--json=array', 'list', 'u15', 'u18')->{out}) };
    my @change = gmtime(($epochs[0] + $epochs[1]) / 2);
    my $summer = sprintf 'AAA0BBB-2,%d/%d:%02d:%02d,%d', @change[7, 2, 1, 0], $change[7] < 300 ? 364 : 0;
    for my $zone ('UTC', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'right/Europe/Berlin', 'ODD-1:07:13', $summer) {
        local $ENV{TZ} = $zone;
        for my $form ([], ['--iso'], ['--utc'], ['--utc', '--iso']) {
            my %list = map { reverse /^(.*?)\t\d+\t(\S+)\t/ } split /\n/, ctl(@{$form}, 'list')->{out};
            my %stat = map { /^(\S+)\t.*\t(.*)$/ } split /\n/, ctl(@{$form}, 'stat', '-A')->{out};
            is_deeply(\%list, \%stat, "@{$form} times in $zone: those of stat") or diag(explain(\%list, \%stat));
        }
    }
}

# A file of Cyrus 3.x whose writer was killed, and which was looked at before: its last chunk gets an end.
{
    my $loose = "$dir/part/loose_ABCDEF";
    my $line = sub { time . " APPLY SUB %(USERID loose MBOXNAME user.loose.$_[0])\r\n" };
    my ($z) = Compress::Raw::Zlib::Deflate->new(-WindowBits => WANT_GZIP, -AppendOutput => 1);
    my $bytes = '';
    for my $piece ("# cyrus backup: chunk start\r\n" . $line->('one'), $line->('two'), substr($line->('three'), 0, -30)) {
        $z->deflate($piece, $bytes);
        $z->flush($bytes, Z_SYNC_FLUSH);
    }
    spew($loose, $bytes);
    run_cmd(cmd => ['chown', 'cyrus:mail', $loose]) if $> == 0;
    like($site->cyr_backup('-f', $loose, 'json', 'all')->{out}, qr/user\.loose\.two/, 'an unfinished chunk');
    is(ctl('reindex', '-f', $loose)->{rc}, 0, 'is no damage');
    is(ctl('verify', '-f', $loose)->{out}, "verify $loose: ok\n", 'and is finished');
    unlink glob "$loose*";
}

# ---- several at a time -------------------------------------------------------------------------

sub lines { return join '', sort $_[0] =~ /^(.*\n)/mg }
for my $verb (['verify'], ['reindex'], ['-F', 'compact']) {
    my $r = ctl('-j', 3, @{$verb}, '-A');
    is(lines($r->{out}), join('', map { "$verb->[-1] $_: ok\n" } @all), "-j 3 @{$verb}: each once");
    is("$r->{rc}$r->{err}", '0', 'successfully');
}
{
    my $r = ctl('--jobs=2', '--json=array', 'move', '--to=two', @all[0 .. 5]);
    my $told = decode_json($r->{out});
    is(join(' ', sort map { $_->{userid} } @{$told}), join(' ', sort @all[0 .. 5]), '--jobs=2 move: each once');
    is($_->{new_fname} // $_->{fname}, path_of($_->{userid}), "$_->{userid}: is where it says") for @{$told};
    like(path_of($_), qr{^\Q$dir\E/part2/}, "$_: on the other partition") for @all[0 .. 5];
}

# ---- JSON --------------------------------------------------------------------------------------

{
    # The manual lists the keys of each command in order, and the program prints these, in this order.
    my ($section) = slurp("$FindBin::Bin/../man/ctl_backups.8") =~ /^\.Ss JSON\n(.*?)^\.Ss /ms;
    my %keys;
    for my $item (split /^\.It /m, $section) {
        my ($who, @line) = split /\n/, $item;
        my $verb = $who =~ /^others/ ? 'others' : $who =~ /Fl -deleted/ ? 'deleted' : $who =~ /^Cm (\w+)$/ ? $1 : next;
        for my $line (@line) {
            $verb = $1 if $line =~ /^\.Cm (\w+)/;
            push @{ $keys{$verb} }, $1 =~ /\w+/g if $line =~ /^\.Li (.*)/;
        }
    }
    my @row = (
        ['list', 'list', 'u01'], ['stat', 'stat', 'u01'], ['verify', 'verify', 'u01'], ['reindex', 'reindex', 'u01'],
        ['compact', '-F', 'compact', 'u01'], ['move', 'move', '--to=default', 'u01'], ['delete', 'delete', 'u14'],
        ['deleted', 'list', '--deleted', 'u14'], ['undelete', 'undelete', 'u14'], ['rename', 'rename', 'u14', 'u99'],
        ['rename', 'rename', 'u99', 'u14'], ['reconstruct', 'reconstruct'],
    );
    for my $row (@row) {
        my ($what, @args) = @{$row};
        my $r = ctl('-j', @args);
        my ($object) = $r->{out} =~ /\A(\{\n.*?^\}\n)/ms;
        my @printed = ($object // '') =~ /^  "(\w+)":/mg;
        my @listed = @{ $keys{$what} // [] };
        @listed = (@{ $keys{others} }, @listed) unless $what =~ /^(?:list|stat|deleted|reconstruct)$/;
        # "these two again with _epoch and _iso"
        push @listed, map { my $key = $_; map { "${key}_$_" } 'epoch', 'iso' }
            $what eq 'stat' ? qw(last_start_time last_end_time) : $what eq 'deleted' ? qw(deleted due) : ();
        my %place = map { $listed[$_] => $_ } reverse 0 .. $#listed;
        is(join(' ', grep { !defined $place{$_} } @printed), '', "$what -j: all keys are in the manual");
        my @known = grep { defined $place{$_} } @printed;
        is(join(' ', @known), join(' ', sort { $place{$a} <=> $place{$b} } @known), "$what -j: in this order");
        cmp_ok(scalar @printed, '>=', 4, "$what -j: an object") or diag($r->{out}, $r->{err});
    }
}

# ---- parts -------------------------------------------------------------------------------------

sub verified { return $_[0]{out} =~ /^verify (\S+): ok$/mg }
my %part;
for my $n (1 .. 4) {
    push @{ $part{$_} }, $n for verified(ctl('verify', '-A', "--subset=$n/4"));
}
is_deeply([sort keys %part], [sort @all], '--subset=N/T: together all');
is(scalar(grep { @{$_} != 1 } values %part), 0, 'none twice');
my @nights;
for my $night (1 .. 8) {
    $clock->advance(86_400);
    push @nights, [verified(ctl('verify', '--all', '--subset=25%'))];
}
my $quarter = int((@all + 3) / 4);
is(join(' ', map { scalar @{$_} } @nights), join(' ', ($quarter) x 8), '--subset=25%: so many each night');
{
    # Each night those that were verified longest ago.
    my %last = map { $_ => 0 } @all;
    my $begun = 0;
    for my $night (0 .. $#nights) {
        my @tonight = @{ $nights[$night] };
        my ($latest) = sort { $b <=> $a } map { $last{$_} } @tonight;
        my %tonight = map { $_ => 1 } @tonight;
        my @earlier = grep { !$tonight{$_} && $last{$_} < $latest } @all;
        is("@earlier", '', "night @{[$night + 1]}: none was left out that had waited longer") if $begun++ >= 4;
        $last{$_} = $night + 1 for @tonight;
    }
    is(scalar(grep { !$_ } values %last), 0, 'in some nights all');
    $clock->advance(86_400);
    deliver('u01');
    $site->add_user('w01');
    $site->create_mailboxes('w01');
    deliver('w01');
    is($site->sync('unix', '-u', $_)->{rc}, 0, "$_: sync") for qw(u01 w01);
    is((verified(ctl('verify', '-A', '--subset=1%')))[0], 'w01', 'one that was never verified is the first');
}

# ---- a terminal --------------------------------------------------------------------------------

{
    my @command = (program('ctl_backups'), '-C', $backup->conf, 'verify', '-A');
    my $r = run_cmd(cmd => [as_cyrus('script', '-qec', join(' ', @command), '/dev/null')], env => $backup->env, timeout => 60);
    is($r->{rc}, 0, 'on a terminal');
    like($r->{out}, qr{\r0 of \d+ backups, 0 of \d+ MiB, 0\.0 MiB/s}, 'there is a line of progress');
    my $rest = $r->{out} =~ s/\r\d+ of \d+ backups, [^\r]*(\r +\r)?//gr;
    is(scalar(() = $rest =~ /^verify \S+: ok\r?$/mg), scalar(records()), 'that is gone before a result is printed');
    like($r->{out}, qr/\r {20,}\r/, 'over blanks');
    $r = run_cmd(cmd => [as_cyrus('script', '-qec', join(' ', @command, '2>/dev/null'), '/dev/null')], env => $backup->env,
        timeout => 60);
    unlike($r->{out}, qr/ of \d+ backups/, 'stderr is no terminal: none');
    is(run_cmd(cmd => [as_cyrus(@command)], env => $backup->env)->{err}, '', 'in a pipe: none');
}

# ---- long names ----------------------------------------------------------------------------------

is(ctl(@{ $_->[0] })->{out}, ctl(@{ $_->[1] })->{out}, "@{ $_->[0] }") for
    [['list', '--all'], ['list', '-A']],
    [['list', '--domains', 'internal'], ['list', '-D', 'internal']],
    [['list', '--prefixes', 'u0'], ['list', '-P', 'u0']],
    [['list', '--filenames', path_of('u01')], ['list', '-f', path_of('u01')]],
    [['list', '--mailboxes', 'user/u01'], ['list', '-m', 'user/u01']],
    [['list', '--userids', 'u01'], ['list', '-u', 'u01']],
    [['list', '--no-verify', 'u01'], ['list', '-V', 'u01']],
    [['verify', '--stop-on-error', '--filenames', '/nowhere/a', path_of('u01')],
        ['verify', '-S', '-f', '/nowhere/a', path_of('u01')]],
    [['verify', '--verbose', 'u01'], ['verify', '-v', 'u01']],
    [['reindex', '--wait-for-locks', 'u01'], ['reindex', '-w', 'u01']],
    [['lock', '--execute=echo $ctl_backups_lock_data_fname', 'u01'], ['lock', '-x', 'echo $ctl_backups_lock_data_fname', 'u01']];
is(ctl({ input => '' }, 'lock', '--pause', 'u01')->{out}, ctl({ input => '' }, 'lock', '-p', 'u01')->{out}, 'lock --pause');
is(ctl({ input => "select 6*7;\n" }, 'lock', '--sqlite3', 'u01')->{out}, "42\n", 'lock --sqlite3');
like(ctl({ input => '' }, 'lock', '--create', 'new')->{out}, qr/^OK locked$/m, 'lock --create');
ok(path_of('new'), 'and it is there');
is(ctl('delete', '--now', '--force', 'new')->{rc}, 0, 'and removed');
is($site->cyr_backup('--verbose', 'u01', qw(list messages))->{err}, $site->cyr_backup('-v', 'u01', qw(list messages))->{err},
    'cyr_backup --verbose');

# ---- an event of master ------------------------------------------------------------------------

my $log = "$dir/events.log";
my $master = CBTest::Master->new;
run_cmd(cmd => [as_cyrus('touch', $log)]);
$master->configure;

sub event
{
    my ($words) = @_;
    return run_events("START {\n}\nSERVICES {\n}\nEVENTS {\n  it cmd=\"" . program('ctl_backups_logged')
        . ' -C ' . $backup->conf . " $words\" period=1440\n}\n");
}

sub run_events
{
    my ($text) = @_;
    spew($log, '');
    spew("$master->{dir}/cyrus.conf", $text);
    $master->{pid} = start_cmd(cmd => [as_cyrus('/usr/lib/cyrus/bin/master', '-D', '-C', $master->conf, '-M',
        "$master->{dir}/cyrus.conf", '-p', "$master->{dir}/master.pid")], out => "$master->{dir}/master.out",
        err => "$master->{dir}/master.err", env => { %{ $master->env }, %{ $backup->env }, PROBE_LOG => $log },
        session => 1);
    wait_until('master', sub { (slurp("$master->{dir}/master.pid") // '') =~ /^$master->{pid}\b/ });
    return;
}
sub children
{
    return grep { (slurp("/proc/$_/stat") // '') =~ /^\d+ \((?:lt-)?ctl_backups[^)]*\) \S $master->{pid} / } processes_of($site->{dir}),
        processes_of($master->{dir});
}
sub logged { my ($pattern) = @_; return wait_until("$pattern", sub { slurp($log) =~ /$pattern/m }) }

for my $words ('compact -F -w -A', 'move -w --to=two -A', 'verify -A --subset=50%') {
    my ($verb) = $words =~ /^(\w+)/;
    # One is in use, so that the event lasts; verify does not wait, and just ends.
    my ($user) = $verb eq 'move' ? grep { path_of($_) !~ /part2/ } map { $_->[0] } records() : 'u01';
    my $holder = $verb eq 'verify' ? undef : CBTest::Holder->new(path_of($user));
    event($words);
    if ($holder) {
        my ($pid) = wait_until("$verb: the event waits", sub { my ($p) = children(); $p });
        wait_until("$verb: for the lock, with a new file", sub { my @new = glob "$dir/part{,2}/*/${user}_*.new"; scalar @new });
        $master->signal('HUP'); # which runs all events again
        ok(logged("^<6> $verb: already running\$"), "$verb: the same event again does nothing, and says so");
        my ($first) = children();
        kill TERM => $first;
        ok(logged("^<6> $verb: \\d+ backups: .* not begun|^<6> $verb: \\d+ backups: .*, 1 failed"), "$verb: TERM ends the event");
        like(slurp($log), qr/^<3> $verb $user: failed \(interrupted\)$/m, "$verb: and what was not done is in syslog");
        $holder->release;
        spew($log, '');
        $master->signal('HUP');
    }
    ok(logged("^<6> $verb: \\d+ backups: \\d+ ok, \\d+ skipped, 0 locked, 0 failed"), "$verb: an event does its work")
        or diag(slurp($log));
    unlike(slurp($log), qr/^<3>/m, "$verb: and nothing failed");
    $master->stop_master;
}

# What the manual and the guide say to put into cyrus.conf, only that it runs at once.
for my $text (map { slurp("$FindBin::Bin/../$_") } 'man/ctl_backups.8', 'doc/guide.md') {
    my ($events) = $text =~ /^(EVENTS \{\n.*?ctl_backups.*?^\}\n)/ms;
    $events =~ s{/usr/local/sbin/ctl_backups}{program('ctl_backups_logged') . ' -C ' . $backup->conf}ge;
    like($events, qr/ at=\d{4}$/m, 'at a time of the day');
    run_events("START {\n}\nSERVICES {\n}\n" . $events); # master takes it as it is
    $master->stop_master;
    unlike(slurp("$master->{dir}/master.err") . slurp("$master->{dir}/master.out"), qr/error|invalid|unable/i, 'taken as it is');
    run_events("START {\n}\nSERVICES {\n}\n" . $events =~ s/at=\d{4}/period=1440/gr);
    ok(logged("^<6> $_: \\d+ backups: \\d+ ok, \\d+ skipped, \\d+ locked, 0 failed"), "$_: runs")
        for qw(compact verify);
    $master->stop_master;
}
$master->stop;
done_testing;
