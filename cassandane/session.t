#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A connection to backupd: greeting, login by every way, TLS, compression, errors, limits,
# signals. Runs backupd if it has been built, otherwise the one without a store; nothing here
# depends on what GET and APPLY do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Master;
use CBTest::Util qw(builddir run_cmd as_cyrus wait_until free_port slurp peak_memory);
use CBTest::Wire qw(dial expect read_more line put ask hang_up plain login start_deflate);
use Test::More;

my ($PROGRAM) = grep { -x } map { builddir() . "/backup/$_" } qw(backupd backupd_stub);
die "neither backupd nor backupd_stub has been built\n" unless $PROGRAM;
my $SYNCTEST = '/usr/lib/cyrus/bin/synctest';
my $WAIT = 30;
$SIG{PIPE} = 'IGNORE';

# ---- the server -----------------------------------------------------------

my $m = CBTest::Master->new;
my ($cert, $key) = map { "$m->{dir}/$_.pem" } qw(cert key);
run_cmd(cmd => [as_cyrus(qw(openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost),
    '-keyout', $key, '-out', $cert)])->{rc} == 0 or die "no certificate\n";
for my $user (qw(admin nobody)) {
    run_cmd(cmd => [as_cyrus(qw(saslpasswd2 -p -c -f), "$m->{dir}/sasldb2", qw(-u localhost),
        $user)], input => "${user}pw\n")->{rc} == 0 or die "saslpasswd2\n";
}
$m->configure(
    servername => 'localhost',
    admins => 'cyrus admin',
    'backuppartition-default' => "$m->{dir}/part",
    backup_staging_path => "$m->{dir}/tmp",
    sasl_mech_list => 'PLAIN',
    sasl_pwcheck_method => 'auxprop',
    sasl_auxprop_plugin => 'sasldb',
    sasl_sasldb_path => "$m->{dir}/sasldb2",
    failedloginpause => '0s',
    tls_server_cert => $cert,
    tls_server_key => $key,
    plain_allowplaintext => 'yes',
    notls_allowstarttls => 'no',
    required_allowplaintext => 'yes',
    required_tls_required => 'yes',
    badcert_tls_server_cert => "$m->{dir}/none.pem",
    digest_sasl_mech_list => 'PLAIN DIGEST-MD5',
    short_sync_timeout => '3s',
);
my @names = qw(backupd plain notls required layer badcert digest short);
my %at = map { $_ => '127.0.0.1:' . free_port() } @names;
my $path = "$m->{dir}/backupd.sock";
my %args = (layer => '-p 128 -f');
$m->start((map { [$_, join(' ', $PROGRAM, $args{$_} // ()), $at{$_}, 'prefork=0'] } @names),
    ['unix', $PROGRAM, $path, 'prefork=0']);

sub synctest
{
    my ($where, $input, @args) = @_;
    my $file = "$m->{dir}/input";
    CBTest::Util::spew($file, $input);
    my ($host, $port) = split /:/, $where;
    my $r = run_cmd(cmd => [$SYNCTEST, '-f', $file, @args, '-p', $port, $host], timeout => $WAIT);
    return $r->{out} . $r->{err};
}

my @WHO = qw(-a admin -u admin -w adminpw -m PLAIN);

# ---- greeting -------------------------------------------------------------

my $OK = qr/^\* OK localhost Cyrus backup server \S+$/;
{
    my %expected = (
        backupd => ['* STARTTLS', '* COMPRESS DEFLATE'],
        plain => ['* SASL PLAIN', '* STARTTLS', '* COMPRESS DEFLATE'],
        notls => ['* COMPRESS DEFLATE'],
        required => ['* STARTTLS', '* COMPRESS DEFLATE'],
        layer => ['* SASL PLAIN', '* STARTTLS', '* COMPRESS DEFLATE'],
        badcert => ['* COMPRESS DEFLATE'],
        digest => ['* SASL DIGEST-MD5', '* STARTTLS', '* COMPRESS DEFLATE'],
    );
    for my $name (sort keys %expected) {
        my $c = dial($m, $at{$name});
        my @got = @{ $c->{greeting} };
        like(pop @got, $OK, "$name: greeting ends");
        is_deeply(\@got, $expected{$name}, "$name: capabilities");
        is(ask($c, 'EXIT'), 'OK Finished', "$name: EXIT");
        is(line($c), undef, "$name: closed");
    }
    my $c = dial($m, $path);
    is(@{ $c->{greeting} }, 1, 'UNIX socket: no capabilities');
    like($c->{greeting}[0], $OK, 'UNIX socket: greeting');
    hang_up($c);
}

# ---- synctest -------------------------------------------------------------

{
    my $out = synctest($at{backupd}, "NOOP\nRESTART\nGET USER nouser\n", '-t', '', @WHO);
    like($out, qr/TLS connection established: TLSv1\.3/, 'synctest: STARTTLS');
    like($out, qr/OK Success \(tls protection\)/, 'synctest: PLAIN over TLS');
    like($out, qr/OK Noop completed.*OK Restarting.*OK Success.*OK Finished/s,
        'synctest: commands over TLS');
    my ($after) = $out =~ /TLS connection established(.*)AUTHENTICATE/s;
    like($after, qr/\* SASL PLAIN\r?\n.*\* OK localhost/s, 'greeting again after STARTTLS');
    unlike($after, qr/STARTTLS|COMPRESS/, 'without STARTTLS and COMPRESS');
}
{
    my $out = synctest($at{plain}, "NOOP\nGET USER nouser\n", '-q', @WHO);
    like($out, qr/OK DEFLATE active.*OK Noop completed.*OK Success.*OK Finished/s,
        'synctest: COMPRESS');
}
{
    my $out = synctest($at{digest}, "NOOP\nGET USER nouser\n",
        qw(-a admin -u admin -w adminpw -m DIGEST-MD5));
    like($out, qr/OK Success \((?:integrity|privacy) protection\)/, 'synctest: DIGEST-MD5');
    like($out, qr/OK Noop completed.*OK Success.*OK Finished/s, 'commands in a SASL layer');
}
{
    my $out = synctest($at{required}, "NOOP\n", '-t', '', @WHO);
    like($out, qr/OK Success \(tls protection\).*OK Noop completed/s, 'tls_required: with TLS');
}

# ---- AUTHENTICATE, by hand ------------------------------------------------

{
    my $c = dial($m, $at{plain});
    my @refused = (
        ['AUTHENTICATE', 'BAD Missing required argument to Authenticate'],
        ['AUTHENTICATE (x)', 'BAD Invalid mechanism'],
        ['AUTHENTICATE PL@IN', 'BAD Invalid mechanism'],
        ['AUTHENTICATE ' . 'X' x 100_000, 'BAD Invalid mechanism'],
        ["AUTHENTICATE {12+}\r\nNOOP\r\nNOOP\r\n", 'BAD Invalid mechanism'],
        ['AUTHENTICATE PLAIN x y', 'BAD Unexpected extra arguments to Authenticate'],
        ['AUTHENTICATE PLAIN ' . 'A' x 200_000,
            'NO Error reading client response: initial response is unusable'],
        ['AUTHENTICATE NONE', 'NO no mechanism available'],
        ['AUTHENTICATE PLAIN ' . plain('admin', 'wrong'), 'NO authentication failure'],
        ['AUTHENTICATE PLAIN ' . plain('nosuch', 'wrong'), 'NO authentication failure'],
        ['AUTHENTICATE PLAIN ' . plain('nobody', 'nobodypw'), 'NO Permission denied'],
        ['AUTHENTICATE PLAIN ' . plain('admin', 'adminpw', 'nobody'), 'NO Permission denied'],
        ["AUTHENTICATE PLAIN\r\n*", 'BAD Client canceled authentication'],
        ['GET USER admin', 'NO Please authenticate first'],
        ["APPLY X ({7+}\r\nEXIT\r\n\n %{a b 6}\r\nEXIT\r\n)", 'NO Please authenticate first'],
        ['RESTORE X %()', 'NO Please authenticate first'],
    );
    for my $r (@refused) {
        my ($command, $answer) = @{$r};
        put($c, "$command\r\n");
        expect($c, qr/^\+ \r\n/) if $command =~ /\*$/;
        is(line($c), $answer, substr($command, 0, 40) =~ s/[\r\n]+/ /gr);
    }
    is(ask($c, 'NOOP'), 'OK Noop completed', 'NOOP before login');
    is(ask($c, 'RESTART'), 'OK Restarting', 'RESTART before login');
    put($c, "authenticate plain\r\n");
    is(expect($c, qr/\n/), "+ \r\n", 'empty challenge has its blank');
    put($c, plain('admin', 'adminpw') . "\n");
    is(line($c), 'OK Success (no protection)', 'response in a line of its own');
    is(login($c), 'BAD Already authenticated', 'second login');
    is(ask($c, 'STARTTLS'), "BAD Can't Starttls after authentication", 'STARTTLS after login');
    like(ask($c, 'RESTORE X %()'), qr/^BAD IMAP_PROTOCOL_ERROR /, 'RESTORE after login');
    hang_up($c);
}
{
    my $c = dial($m, $at{backupd});
    is(login($c), 'NO encryption needed to use mechanism', 'no PLAIN without a layer');
    hang_up($c);
    $c = dial($m, $at{required});
    is(login($c), 'NO Please use STARTTLS first', 'tls_required');
    hang_up($c);
    $c = dial($m, $at{layer});
    like(login($c), qr/^OK Success/, '-p 128: PLAIN');
    hang_up($c);
    $c = dial($m, $path);
    is(login($c), 'BAD Already authenticated', 'UNIX socket: logged in from the start');
    is(ask($c, 'STARTTLS'), "BAD Can't Starttls after authentication", 'UNIX socket: STARTTLS');
    hang_up($c);
    $c = dial($m, $at{plain});
    put($c, "AUTHENTICATE PLAIN\r\n" . 'A' x 30_000 . "\r\n");
    expect($c, qr/^\+ \r\n/);
    like(line($c), qr/^NO Error reading client response: /, 'response too long');
    is(line($c), undef, 'and closed');
}

# ---- STARTTLS -------------------------------------------------------------

{
    my $c = dial($m, $at{notls});
    is(ask($c, 'STARTTLS'), 'BAD IMAP_PROTOCOL_ERROR Unrecognized command',
        'allowstarttls: no');
    hang_up($c);
    $c = dial($m, $at{badcert});
    is(ask($c, 'STARTTLS'), 'NO Error initializing TLS', 'certificate missing');
    is(ask($c, 'NOOP'), 'OK Noop completed', 'goes on without');
    hang_up($c);
    $c = dial($m, $at{backupd});
    is(ask($c, 'STARTTLS now'), 'BAD Unexpected extra arguments to Starttls', 'argument');
    put($c, "STARTTLS\r\nNOOP\r\nEXIT\r\n");
    is(line($c), 'OK Begin TLS negotiation now', 'STARTTLS');
    put($c, "this is no handshake\r\n");
    my @rest;
    while (defined(my $n = read_more($c))) {
        last unless $n;
    }
    unlike($c->{in}, qr/OK Noop|OK Finished/, 'what came with STARTTLS is forgotten');
}

# ---- COMPRESS -------------------------------------------------------------

{
    my $c = dial($m, $at{plain});
    is(ask($c, 'COMPRESS'), 'BAD Missing required argument to Compress', 'COMPRESS alone');
    is(ask($c, 'COMPRESS LZ4'), 'NO Unknown compression algorithm: LZ4', 'COMPRESS LZ4');
    is(ask($c, 'COMPRESS DEFLATE x'), 'BAD Unexpected extra arguments to Compress', 'COMPRESS x');
    is(start_deflate($c, 'deflate'), 'OK deflate active', 'COMPRESS');
    is(ask($c, 'NOOP'), 'OK Noop completed', 'compressed NOOP');
    is(ask($c, 'COMPRESS DEFLATE'), 'NO Compression already active: DEFLATE', 'COMPRESS again');
    like(login($c), qr/^OK Success/, 'compressed login');
    put($c, "NOOP\r\n" x 1000);
    is(join(' ', map { line($c) } 1 .. 1000), join(' ', ('OK Noop completed') x 1000),
        'compressed and pipelined');
    is(ask($c, 'EXIT'), 'OK Finished', 'compressed EXIT');
    is(line($c), undef, 'compressed end');
}

# ---- lines ----------------------------------------------------------------

{
    my $c = dial($m, $at{plain});
    put($c, "C01 CAPABILITY\r\n");
    is(line($c), 'C01 BAD Unrecognized command', 'IMAP probe gets its tag back');
    put($c, "Q01 LOGOUT\r\n");
    like(line($c), qr/^\* BYE /, 'IMAP probe: BYE');
    like(line($c), qr/^Q01 OK /, 'IMAP probe: LOGOUT answered');
    is(line($c), undef, 'IMAP probe: closed');
}
for my $name (qw(plain unix)) {
    my $c = dial($m, $at{$name} // $path);
    my $bad = 'BAD IMAP_PROTOCOL_ERROR Unrecognized command';
    my @script = (
        ["\r\n", 'BAD Null command'],
        ["\n", 'BAD Null command'],
        ["   \r\n", 'BAD Null command'],
        ["noop\n", 'OK Noop completed'],
        ["NoOp\r\n", 'OK Noop completed'],
        [" NOOP \r\n", 'OK Noop completed'],
        ["NOOP x\r\n", 'BAD Unexpected extra arguments to Noop'],
        ["RESTART x\r\n", 'BAD Unexpected extra arguments to Restart'],
        ["EXIT {6+}\r\nEXIT\r\n\r\n", 'BAD Unexpected extra arguments to Exit'],
        ["NOOPS\r\n", $bad],
        ["(((\r\n", $bad],
        ["\"NOOP\"\r\n", $bad],
        ["\0\0\0\r\n", $bad],
        ["\xff\xfe NOOP\r\n", $bad],
        ["FOO {6+}\r\nEXIT\r\n{6+}\r\nNOOP\r\n\r\n", $bad],
        ["FOO %{p g 6}\r\nEXIT\r\n)\r\n", $bad],
        ["tag CAPABILITY {6+}\r\nEXIT\r\n x\r\n", 'tag BAD Unrecognized command'],
    );
    put($c, join '', map { $_->[0] } @script);
    for my $s (@script) {
        is(line($c), $s->[1], "$name: " . $s->[0] =~ s/[^ -~]/?/gr);
    }
    hang_up($c);
}
{
    my $c = dial($m, $path);
    is(ask($c, 'GET'), 'BAD Missing required argument to Get', 'GET alone');
    is(ask($c, 'APPLY '), 'BAD Missing required argument to Apply', 'APPLY alone');
    like(ask($c, 'APPLY X %x'), qr/^(?:BAD|NO) IMAP_PROTOCOL_ERROR /, 'APPLY broken');
    like(ask($c, 'GET MAILBOXES )'), qr/^(?:BAD|NO) IMAP_PROTOCOL_ERROR /, 'GET broken');
    is(ask($c, 'NOOP'), 'OK Noop completed', 'still in step');
    hang_up($c);
}
{
    my $c = dial($m, $at{plain});
    my ($pid) = map { m{/(\d+)$} } grep { slurp($_) =~ /^plain\t/ } glob $m->confdir . '/proc/*';
    is(ask($c, 'NOOP'), 'OK Noop completed', 'before the long verb');
    my $before = peak_memory($pid);
    my $piece = 'A' x 1_048_576;
    put($c, $piece) for 1 .. 100;
    is(ask($c, ''), 'BAD IMAP_PROTOCOL_ERROR Unrecognized command', 'a verb of 100 MiB');
    cmp_ok(peak_memory($pid) - $before, '<', 8192, 'takes no memory');
    is(ask($c, 'NOOP'), 'OK Noop completed', 'after the long verb');
    hang_up($c);
}

# ---- proc file, telemetry, timeout, signals -------------------------------

{
    run_cmd(cmd => [as_cyrus('mkdir', $m->confdir . '/log/admin')]);
    my $c = dial($m, $at{plain});
    login($c);
    my ($proc) = grep { slurp($_) =~ /^plain\t.*\tadmin\t\t\n$/ } glob $m->confdir . '/proc/*';
    ok($proc, 'proc file names the user');
    is(ask($c, 'RESTART'), 'OK Restarting', 'RESTART');
    is(ask($c, 'EXIT'), 'OK Finished', 'EXIT');
    wait_until('the proc file to go', sub { !-e $proc });
    my ($pid) = $proc =~ /(\d+)$/;
    my $log = slurp($m->confdir . "/log/admin/plain-$pid") // '';
    like($log, qr/^---------- admin .*\n\n<\d+<RESTART\r\n>\d+>OK Restarting\r\n<\d+<EXIT\r\n/,
        'telemetry');
    unlike($log, qr/AUTHENTICATE|SASL/, 'telemetry begins after login');
}
{
    my $c = dial($m, $at{short});
    is(line($c), undef, 'sync_timeout ends an idle session');
}

sub worker
{
    my ($name) = @_;
    my ($pid) = map { m{/(\d+)$} } grep { slurp($_) =~ /^$name\t/ } glob $m->confdir . '/proc/*';
    return $pid;
}
{
    my $c = dial($m, $at{plain});
    login($c);
    my $pid = worker('plain');
    kill HUP => $pid;
    is(ask($c, 'NOOP'), 'OK Noop completed', 'HUP: session goes on');
    is(ask($c, 'EXIT'), 'OK Finished', 'HUP: to its end');
    wait_until('the worker to end', sub { !kill 0 => $pid });
}
{
    my $c = dial($m, $at{plain});
    login($c);
    my $pid = worker('plain');
    kill TERM => $pid;
    is(line($c), 'BYE shutting down', 'TERM: said while idle');
    is(line($c), undef, 'TERM: closed');
    wait_until('the worker to end', sub { !kill 0 => $pid });
}
{
    my $c = dial($m, $at{plain});
    login($c);
    my $pid = worker('plain');
    put($c, 'GET USER ');
    wait_until('half a command to arrive', sub { slurp("/proc/$pid/stat") =~ /\) S / });
    kill TERM => $pid;
    put($c, "nouser\r\n");
    like(expect($c, qr/^(?:OK|BAD|NO) .*\n/m), qr/^OK Success/m, 'TERM: command is finished');
    is(line($c), 'BYE shutting down', 'TERM: then the end');
    wait_until('the worker to end', sub { !kill 0 => $pid });
}
{
    my $c = dial($m, $path);
    my $pid = worker('unix');
    put($c, 'APPLY RESERVE %(');
    kill TERM => $pid;
    my $rest = '';
    while (read_more($c)) {
        $rest = $c->{in};
    }
    unlike($rest, qr/^OK/m, 'TERM: a command that does not end is given up');
    wait_until('the worker to end', sub { !kill 0 => $pid });
}
{
    my $c = dial($m, $path);
    ask($c, 'NOOP');
    is($m->stop_master, 0, 'master ends, with a client connected');
    is(line($c), 'BYE shutting down', 'client is told');
}
$m->stop;
done_testing;
