#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Login without TLS: every mechanism that Debian's packages have, their security layers, who is an
# administrator and under which names, and everything that can go wrong on the way. Clients are
# Authen::SASL, synctest and sync_client.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Feed qw(message file_item);
use CBTest::Imap;
use CBTest::Master;
use CBTest::Site;
use CBTest::Util qw(run_cmd as_cyrus wait_until free_port slurp spew peak_memory program);
use CBTest::Wire qw(dial expect line closed put ask hang_up plain login start_deflate sasl_login
    offered works);
use MIME::Base64 qw(encode_base64 decode_base64);
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my $SYNCTEST = '/usr/lib/cyrus/bin/synctest';
my @MECHS = qw(PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256);
my ($DENIED, $FAILED) = ('NO Permission denied', 'NO authentication failure');
my $UNAUTHORIZED = 'NO authorization failure';
$SIG{PIPE} = 'IGNORE';

# ---- the server -----------------------------------------------------------

my $m = CBTest::Master->new;
my @users = (
    (map { [$_, 'localhost', "${_}pw"] } qw(admin admin2 cyrus nobody proxy Admin)),
    ['admin', 'other.org', 'otherpw'], ['boss', 'other.org', 'bosspw'],
    ['admin', 'good.org', 'goodpw'], ['boss', 'good.org', 'bosspw'],
);
for my $u (@users) {
    my ($name, $realm, $password) = @{$u};
    run_cmd(cmd => [as_cyrus(qw(saslpasswd2 -p -c -f), "$m->{dir}/sasldb2", '-u', $realm, $name)],
        input => "$password\n")->{rc} == 0 or die "saslpasswd2\n";
}
my %special = (
    all => {},
    noplain => { allowplaintext => 'no' },
    one => { sasl_mech_list => 'CRAM-MD5' },
    minimum => { sasl_minimum_layer => 2 },
    middle => { sasl_maximum_layer => 1 },
    none => { sasl_maximum_layer => 0 },
    userid => { virtdomains => 'userid', defaultdomain => 'example.org',
        admins => 'admin boss@other.org' },
    realms => { loginrealms => 'good.org better.org', admins => 'admin boss@good.org' },
    mixed => { username_tolower => 'no' },
    proxied => { proxyservers => 'proxy' },
    groups => { admins => 'boss group:mail' },
    nogroups => { admins => 'boss group:mail', unix_group_enable => 'no' },
    anyone => { admins => 'anyone' },
    nobodies => { admins => undef },
    slow => { failedloginpause => '2s' },
    stuck => { failedloginpause => '1h' },
    integrity => { allowplaintext => 'no' },
    privacy => { allowplaintext => 'no' },
    session => { telemetry_bysessionid => 'yes' },
);
my %args = (integrity => '-p 1', privacy => '-p 128');
my %own;
for my $name (keys %special) {
    my %o = (admins => "cyrus\tadmin admin2", %{ $special{$name} });
    $own{"${name}_$_"} = $o{$_} for grep { defined $o{$_} } keys %o;
}
$m->configure(
    servername => 'localhost',
    'backuppartition-default' => "$m->{dir}/part",
    backup_staging_path => "$m->{dir}/tmp",
    allowplaintext => 'yes',
    sasl_mech_list => "@MECHS EXTERNAL",
    sasl_pwcheck_method => 'auxprop',
    sasl_auxprop_plugin => 'sasldb',
    sasl_sasldb_path => "$m->{dir}/sasldb2",
    failedloginpause => '0s',
    maxword => '300000',
    %own,
);
my %at = map { $_ => '127.0.0.1:' . free_port() } sort keys %special;
$m->start(map { [$_, join(' ', program('backupd'), $args{$_} // ()), $at{$_}, 'prefork=0'] }
    sort keys %at);

sub at { my ($name) = @_; return dial($m, $at{$name}) }

# ---- what is offered ------------------------------------------------------

{
    my $no_plain = 'CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256';
    my %expected = (
        all => "CRAM-MD5 DIGEST-MD5 LOGIN PLAIN SCRAM-SHA-1 SCRAM-SHA-256",
        noplain => $no_plain,
        integrity => $no_plain,
        privacy => "CRAM-MD5 DIGEST-MD5 LOGIN PLAIN SCRAM-SHA-1 SCRAM-SHA-256",
        one => 'CRAM-MD5',
        minimum => 'DIGEST-MD5',
    );
    for my $name (sort keys %expected) {
        is(offered(at($name)), $expected{$name}, "$name: mechanisms");
    }
    for my $name (qw(noplain integrity)) {
        my $c = at($name);
        like(ask($c, 'AUTHENTICATE PLAIN ' . plain(qw(admin adminpw))), qr/^NO encryption needed/,
            "$name: PLAIN refused");
        put($c, "AUTHENTICATE LOGIN\r\n");
        like(line($c), qr/^NO encryption needed/, "$name: LOGIN refused");
        like(sasl_login($c, 'DIGEST-MD5'), qr/^OK/, "$name: DIGEST-MD5");
    }
    my $c = at('one');
    is(login($c), 'NO no mechanism available', 'one: PLAIN is not in the list');
    like(sasl_login($c, 'CRAM-MD5'), qr/^OK/, 'one: what is in the list');
    $c = at('minimum');
    like(sasl_login($c, 'CRAM-MD5'), qr/^NO /, 'minimum: CRAM-MD5 is too weak');
    like(login($c), qr/^NO /, 'minimum: PLAIN is too weak');
    put($c, "AUTHENTICATE DIGEST-MD5\r\n");
    like(decode_base64((split ' ', line($c))[1]), qr/qop="auth-conf"/, 'minimum: only with secrecy');
    is(ask($c, '*'), 'BAD Client canceled authentication', 'minimum: canceled');
    is(sasl_login($c, 'DIGEST-MD5', maxssf => 128), 'OK Success (privacy protection)', 'minimum: layer');
    works($m, $c, 'minimum: works');
    $c = at('all');
    is(ask($c, 'AUTHENTICATE EXTERNAL ='), 'NO no mechanism available', 'EXTERNAL without TLS');
    is(ask($c, 'AUTHENTICATE ANONYMOUS ='), 'NO no mechanism available', 'ANONYMOUS');
    is(ask($c, 'AUTHENTICATE GSSAPI ='), 'NO no mechanism available', 'GSSAPI is not there');
}

# ---- mechanisms and layers ------------------------------------------------

for my $mech (qw(PLAIN LOGIN CRAM-MD5 DIGEST-MD5)) {
    my $c = at('all');
    is(sasl_login($c, $mech, pass => 'wrong'), $FAILED, "$mech: wrong password");
    is(sasl_login($c, $mech, user => 'nosuch'), $FAILED, "$mech: nobody of that name");
    is(sasl_login($c, $mech, user => 'nobody', pass => 'nobodypw'), $DENIED, "$mech: no administrator");
    is(sasl_login($c, $mech), 'OK Success (no protection)', "$mech: login");
    works($m, $c, "$mech: works");
}
{
    my @layers = (
        [all => 1, 'integrity protection'],
        [all => 128, 'privacy protection'],
        [middle => 128, 'integrity protection'],
        [none => 128, 'no protection'],
    );
    for my $l (@layers) {
        my ($name, $maxssf, $text) = @{$l};
        for my $when (qw(never before after)) {
            my $label = "$name, $maxssf, COMPRESS $when";
            my $c = at($name);
            like(start_deflate($c), qr/^OK/, "$label: COMPRESS") if $when eq 'before';
            is(sasl_login($c, 'DIGEST-MD5', maxssf => $maxssf), "OK Success ($text)", $label);
            like(start_deflate($c), qr/^OK/, "$label: COMPRESS") if $when eq 'after';
            works($m, $c, "$label: works");
            is(ask($c, 'COMPRESS DEFLATE'), 'NO Compression already active: DEFLATE',
                "$label: COMPRESS again") if $when ne 'never';
            cmp_ok($c->{count}, '>', 3, "$label: in packets") if $text ne 'no protection';
            is(ask($c, 'EXIT'), 'OK Finished', "$label: EXIT");
            ok(closed($c), "$label: the end");
        }
    }
}

# What is not in the layer, though it should be, is nobody's command.
{
    my $c = at('all');
    my $answer = sasl_login($c, 'DIGEST-MD5', maxssf => 128, more => "NOOP\r\nEXIT\r\n");
    like($answer, qr/^OK/, 'plain text behind the login');
    is(eval { line($c) } // 'none', 'none', 'gets no answer');
    for my $change (0 .. 2) {
        $c = at('all');
        sasl_login($c, 'DIGEST-MD5', maxssf => $change ? 128 : 1);
        is(ask($c, 'NOOP'), 'OK Noop completed', 'a good packet');
        my $packet = pack 'N/a*', $c->{sasl}->encode("APPLY SUB %(USERID changed MBOXNAME y)\r\n");
        substr($packet, $change == 2 ? 3 : 10, 1) ^= "\x40";
        syswrite $c->{sock}, $packet;
        shutdown $c->{sock}, 1;
        is(line($c), undef, 'a changed packet ends the session');
    }
    is_deeply([glob "$m->{dir}/part/*/changed_*"], [], 'and had no effect');
}

# ---- Debian's synctest ----------------------------------------------------

{
    my $input = "$m->{dir}/input";
    spew($input, "NOOP\nGET USER nouser\n");
    my @cases = (
        (map { [$_, 'no', ['-m', $_]] } grep { $_ ne 'DIGEST-MD5' } @MECHS),
        ['DIGEST-MD5', 'no', [qw(-m DIGEST-MD5 -l 0)]],
        ['DIGEST-MD5', 'integrity', [qw(-m DIGEST-MD5 -l 1)]],
        ['DIGEST-MD5', 'privacy', [qw(-m DIGEST-MD5 -l 128)]],
        ['DIGEST-MD5', 'privacy', [qw(-m DIGEST-MD5 -k 56 -l 256)]],
    );
    my ($host, $port) = split /:/, $at{all};
    for my $case (@cases) {
        my ($mech, $text, $how) = @{$case};
        for my $compress ([], ['-q']) {
            my $r = run_cmd(timeout => 30, cmd => [$SYNCTEST, '-f', $input,
                qw(-a admin -u admin -w adminpw), @{$how}, @{$compress}, '-p', $port, $host]);
            like($r->{out}, qr/OK Success \($text protection\).*OK Noop completed.*OK Success.*OK Finished/s,
                "synctest @{$how} @{$compress}");
        }
    }
    my $r = run_cmd(timeout => 30, cmd => [$SYNCTEST, '-f', $input, qw(-a admin -u admin -w wrong),
        qw(-m SCRAM-SHA-256), '-p', $port, $host]);
    like($r->{out}, qr/NO authentication failure.*NO Please authenticate first/s,
        'synctest: SCRAM with a wrong password');
}

# ---- who is an administrator ----------------------------------------------

# Each: service, user, password, authzid, answer. By PLAIN, and by DIGEST-MD5 where the user has no
# realm of his own.
my @who = (
    ['all', 'admin', 'adminpw', '', 'OK'],
    ['all', 'admin2', 'admin2pw', '', 'OK'],
    ['all', 'cyrus', 'cyruspw', '', 'OK'],
    ['all', 'ADMIN', 'adminpw', '', 'OK'],
    ['all', 'Admin', 'adminpw', 'aDMIN', 'OK'],
    ['all', 'Admin', 'Adminpw', '', $FAILED],
    ['all', 'nobody', 'nobodypw', '', $DENIED],
    ['all', 'nobody', 'nobodypw', 'admin', $UNAUTHORIZED],
    ['all', 'proxy', 'proxypw', 'admin', $UNAUTHORIZED],
    ['all', 'admin', 'adminpw', 'nobody', $DENIED],
    ['all', 'admin', 'adminpw', 'admin2', $DENIED],
    ['all', 'cyrus', 'cyruspw', 'admin', $DENIED],
    ['proxied', 'proxy', 'proxypw', 'admin', $DENIED],
    ['proxied', 'proxy', 'proxypw', '', $DENIED],
    ['proxied', 'nobody', 'nobodypw', 'admin', $UNAUTHORIZED],
    ['mixed', 'Admin', 'Adminpw', '', $DENIED],
    ['mixed', 'admin', 'adminpw', '', 'OK'],
    ['mixed', 'admin', 'adminpw', 'Admin', $DENIED],
    ['groups', 'cyrus', 'cyruspw', '', 'OK'],
    ['groups', 'admin', 'adminpw', '', $DENIED],
    ['groups', 'nobody', 'nobodypw', '', $DENIED],
    ['nogroups', 'cyrus', 'cyruspw', '', $DENIED],
    ['anyone', 'nobody', 'nobodypw', '', 'OK'],
    ['nobodies', 'admin', 'adminpw', '', $DENIED],
    ['nobodies', 'cyrus', 'cyruspw', '', $DENIED],
    ['userid', 'admin', 'adminpw', '', 'OK'],
    ['userid', 'admin@example.org', 'adminpw', '', 'OK'],
    ['userid', 'admin@EXAMPLE.org', 'adminpw', 'admin', 'OK'],
    ['userid', 'admin%example.org', 'adminpw', '', 'OK'],
    ['userid', 'admin@other.org', 'otherpw', '', $DENIED],
    ['userid', 'admin%other.org', 'otherpw', '', $DENIED],
    ['userid', 'admin@other.org', 'adminpw', '', $FAILED],
    ['userid', 'admin@other.org', 'otherpw', 'admin', $UNAUTHORIZED],
    ['userid', 'boss@other.org', 'bosspw', '', 'OK'],
    ['userid', 'boss@other.org', 'bosspw', 'admin', $DENIED],
    ['userid', 'boss@good.org', 'bosspw', '', $DENIED],
    ['userid', 'admin@nowhere.org', 'adminpw', '', $FAILED],
    ['realms', 'admin', 'adminpw', '', 'OK'],
    ['realms', 'boss@good.org', 'bosspw', '', 'OK'],
    ['realms', 'admin@good.org', 'goodpw', '', $DENIED],
    ['realms', 'boss@other.org', 'bosspw', '', $UNAUTHORIZED],
    ['realms', 'admin@other.org', 'otherpw', '', $UNAUTHORIZED],
    ['all', 'boss@good.org', 'bosspw', '', $UNAUTHORIZED],
    ['all', 'admin@localhost', 'adminpw', '', $UNAUTHORIZED],
);
for my $w (@who) {
    my ($name, $user, $password, $authzid, $expected) = @{$w};
    my $label = "$name: $user" . ($authzid ne '' ? " for $authzid" : '');
    my $c = at($name);
    like(login($c, $user, $password, $authzid), qr/^\Q$expected\E/, "$label: PLAIN");
    if ($expected eq 'OK') {
        is(ask($c, 'RESTART'), 'OK Restarting', "$label: in");
    } else {
        is(ask($c, "GET USER $user"), 'NO Please authenticate first', "$label: not in");
    }
    next if $user =~ /[@%]/ || $user ne lc $user;
    $c = at($name);
    like(sasl_login($c, 'DIGEST-MD5', user => $user, pass => $password, $authzid ne '' ? (authzid => $authzid) : ()),
        qr/^\Q$expected\E/, "$label: DIGEST-MD5");
}

# ---- ids that cannot be ---------------------------------------------------

{
    my $c = at('all');
    my @odd = ("\x01admin", "admin\r\n", "ad\tmin", "admin\x7f", "admi\xc3\xb1", "\xff\xfe", ' admin',
        'admin ', 'a' x 81, 'a' x 4000, 'admin%x', 'admin/x', 'admin*', 'admin?', 'admin:', 'a&b', '%',
        '@', 'anyone', 'anonymous', 'anybody', ' ');
    for my $id (@odd) {
        (my $shown = substr $id, 0, 20) =~ s/[^ -~]/?/g;
        like(login($c, $id, 'adminpw'), qr/^NO /, "impossible id '$shown'");
        like(login($c, 'admin', 'adminpw', $id), qr/^NO /, "impossible authorization id '$shown'");
    }
    for my $raw ('', "\0", "\0\0", "\0admin", "\0admin\0", "admin\0adminpw", "\0admin\0adminpw\0x",
        "\0admin\0adminpw\0", "\0\0adminpw", "admin\0admin\0adminpw\0\0\0") {
        (my $shown = $raw) =~ s/\0/\\0/g;
        like(ask($c, 'AUTHENTICATE PLAIN ' . (encode_base64($raw, '') || '=')), qr/^NO /,
            "PLAIN '$shown'");
    }
    like(login($c), qr/^OK/, 'after all this: login');
    is(ask($c, 'RESTART'), 'OK Restarting', 'and in');
}

# ---- what can be said instead of an answer --------------------------------

{
    my $c = at('all');
    for my $mech (@MECHS) {
        put($c, "AUTHENTICATE $mech\r\n");
        expect($c, qr/^\+ .*\r\n/);
        is(ask($c, '*'), 'BAD Client canceled authentication', "$mech: canceled");
        put($c, "AUTHENTICATE $mech\r\n");
        expect($c, qr/^\+ .*\r\n/);
        like(ask($c, '!"#$'), qr/^NO bad protocol/, "$mech: no base64");
        put($c, "AUTHENTICATE $mech\r\n");
        expect($c, qr/^\+ .*\r\n/);
        like(ask($c, '****'), qr/^NO bad protocol/, "$mech: more stars than one");
        put($c, "AUTHENTICATE $mech\r\n");
        expect($c, qr/^\+ .*\r\n/);
        my $answer = ask($c, encode_base64("\0\xff" x 5000, ''));
        $answer = ask($c, encode_base64("\0\xff" x 5000, '')) while $answer =~ /^\+ /;
        like($answer, qr/^NO /, "$mech: nonsense of 10 kB");
    }
    my @initial = (['=', qr/^NO /], ['==', qr/^NO bad protocol/], ['A', qr/^NO /], ['AB=C', qr/^NO /],
        ['""', qr/^NO /], ['"x', qr/^(?:BAD|NO) /], ['{5+}' . "\r\n=====", qr/^NO bad protocol/],
        ['A' x 65536, qr/^NO /], ['A' x 65537, qr/^NO /]);
    for my $i (@initial) {
        like(ask($c, "AUTHENTICATE PLAIN $i->[0]"), $i->[1], 'initial response ' . substr $i->[0], 0, 8);
    }
    is(ask($c, 'AUTHENTICATE PLAIN "' . plain(qw(admin adminpw)) . '"'), 'OK Success (no protection)',
        'initial response in quotes');
}
{
    my $c = at('all');
    put($c, join "\r\n", 'NOOP', 'AUTHENTICATE PLAIN ' . plain(qw(admin wrong)), 'GET USER admin',
        'AUTHENTICATE PLAIN', plain(qw(admin adminpw)), 'NOOP', 'AUTHENTICATE LOGIN', 'RESTART', 'EXIT', '');
    is_deeply([map { line($c) } 1 .. 10],
        ['OK Noop completed', $FAILED, 'NO Please authenticate first', '+ ', 'OK Success (no protection)',
            'OK Noop completed', 'BAD Already authenticated', 'OK Restarting', 'OK Finished', undef],
        'everything in one piece');
}
{
    my $c = at('all');
    my ($pid) = map { m{/(\d+)$} } grep { slurp($_) =~ /^all\t/ } glob $m->confdir . '/proc/*';
    login($c, 'admin', 'wrong') for 1 .. 20;
    my $before = peak_memory($pid);
    put($c, ('AUTHENTICATE PLAIN ' . plain(qw(admin wrong)) . "\r\n") x 100
        . ('AUTHENTICATE PLAIN ' . plain(qw(nobody nobodypw)) . "\r\n") x 100
        . ("AUTHENTICATE DIGEST-MD5\r\n*\r\n") x 100) for 1 .. 3;
    my %got;
    $got{ line($c) =~ s/^\+ .*/+/r }++ for 1 .. 3 * 400;
    is_deeply(\%got, { $FAILED => 300, $DENIED => 300, '+' => 300,
        'BAD Client canceled authentication' => 300 }, '900 logins that fail');
    cmp_ok(peak_memory($pid) - $before, '<', 4096, 'take no memory') unless $ENV{MAX_RSS};
    like(login($c), qr/^OK/, 'the next succeeds');
}

# ---- before login, everything is read and nothing happens -------------------

{
    my $c = at('all');
    my $please = 'NO Please authenticate first';
    my $box = CBTest::Feed->new(mboxname => 'user.early');
    $box->append(message('early', 3_000_000));
    for my $command ($box->upload, $box->apply, 'GET MAILBOXES ({8+}' . "\r\nEXIT\r\n\r\n)",
        'APPLY RESERVE %(', "APPLY X {100000+}\r\n" . "EXIT\r\n\r\n" x 12_500, 'APPLY', 'GET', 'RESTORE X',
        'APPLY MESSAGE (' . join(' ', map { file_item("EXIT $_\r\n") } 1 .. 1000) . ')') {
        is(ask($c, $command), $please, 'before login: ' . substr($command, 0, 20) =~ s/[\r\n]+/ /gr);
    }
    is(ask($c, 'GET ' . 'x' x 250_000), $please, 'before login: a long word');
    is(ask($c, 'NOOP'), 'OK Noop completed', 'in step');
    is_deeply([glob("$m->{dir}/tmp/*"), glob("$m->{dir}/part/e/*")], [], 'nothing was kept');
    hang_up($c);
}

# ---- the pause ------------------------------------------------------------

sub seconds
{
    my ($code) = @_;
    my $start = clock_gettime(CLOCK_MONOTONIC);
    $code->();
    return clock_gettime(CLOCK_MONOTONIC) - $start;
}

{
    my $c = at('slow');
    for my $who (['admin', 'wrong'], ['nobody', 'nobodypw']) {
        cmp_ok(seconds(sub { like(login($c, @{$who}), qr/^NO/, "slow: @{$who}") }), '>=', 2,
            'after the pause');
    }
    like(login($c), qr/^OK/, 'slow: login');
    $c = at('stuck');
    is(ask($c, 'AUTHENTICATE PLAIN'), '+ ', 'stuck: challenge');
    put($c, plain(qw(admin wrong)) . "\r\n");
    my ($pid) = map { m{/(\d+)$} } grep { slurp($_) =~ /^stuck\t/ } glob $m->confdir . '/proc/*';
    kill TERM => $pid;
    is(line($c), $FAILED, 'TERM before or in the pause');
    is(line($c), 'BYE shutting down', 'ends it, and the session');
    wait_until('the worker to end', sub { !kill 0 => $pid });
}

# ---- telemetry ------------------------------------------------------------

{
    run_cmd(cmd => [as_cyrus('mkdir', $m->confdir . '/log/admin2')]);
    my %user = (user => 'admin2', pass => 'admin2pw');
    my $c = at('session');
    sasl_login($c, 'DIGEST-MD5', %user, maxssf => 128);
    start_deflate($c);
    is(ask($c, 'NOOP'), 'OK Noop completed', 'telemetry: first session');
    $c = at('session');
    sasl_login($c, 'DIGEST-MD5', %user, maxssf => 1);
    is(ask($c, 'RESTART'), 'OK Restarting', 'telemetry: second session');
    hang_up($c);
    my @logs = glob $m->confdir . '/log/admin2/session-*';
    is(@logs, 2, 'a file for each session');
    my $text = join '', map { slurp($_) } @logs;
    like($text, qr/<NOOP\r\n>\d+>OK Noop completed\r\n/, 'in it: what the layers carry');
    like($text, qr/<RESTART\r\n>\d+>OK Restarting\r\n/, 'in the other too');
    unlike($text, qr/AUTHENTICATE|admin2pw|rspauth/, 'but not the login');
    is((stat $logs[0])[2] & 0777, 0600, 'for nobody else to read');
}
$m->stop;

# ---- sync_client ----------------------------------------------------------

{
    my $site = CBTest::Site->new(users => ['alice']);
    my $imap = $site->imap_as('alice');
    my @ways = (
        ['DIGEST-MD5, privacy', { sasl_mech_list => 'DIGEST-MD5' }],
        ['DIGEST-MD5, integrity', { sasl_mech_list => 'DIGEST-MD5', sasl_maximum_layer => 1 }],
        ['DIGEST-MD5, no layer', { sasl_mech_list => 'DIGEST-MD5', sasl_maximum_layer => 0 }],
        (map { [$_, { sasl_mech_list => $_ }] } qw(SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 LOGIN)),
    );
    my $backup = $site->{backup};
    my %before = %{ $backup->{options} // {} };
    for my $way (@ways) {
        my ($label, $options) = @{$way};
        $backup->stop;
        $backup->{options} = { %before, failedloginpause => '0s', %{$options} };
        $backup->write_config;
        $backup->start;
        $imap->append('INBOX', CBTest::Imap::message(body => CBTest::Imap::noise($_, length $label)))
            for 500, 5_000, 700_000;
        my $r = $site->sync('tcp', '-u', 'alice');
        is($r->{rc}, 0, "sync_client: $label") or diag($r->{err});
        is_deeply([differences($site, 'alice')], [], "sync_client: $label: the backup is equal");
    }
    $site->stop;
}
done_testing;
