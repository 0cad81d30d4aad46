#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# STARTTLS: versions, ciphers, keys, what is forgotten on the way, certificates of clients, and
# login, security layers and compression inside. Clients are IO::Socket::SSL, synctest and
# sync_client.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Master;
use CBTest::Site;
use CBTest::Util qw(run_cmd as_cyrus wait_until free_port slurp spew program);
use CBTest::Wire qw(dial expect line closed put ask hang_up plain login start_tls start_deflate
    sasl_login offered works);
use Test::More;

my $SYNCTEST = '/usr/lib/cyrus/bin/synctest';
my @SCRAM = qw(SCRAM-SHA-1 SCRAM-SHA-256);
my $INSIDE = qr/^OK Success \(tls protection\)$/;
my $STARTTLS = 'OK Begin TLS negotiation now';
$SIG{PIPE} = 'IGNORE';

# ---- certificates ---------------------------------------------------------

my $m = CBTest::Master->new;
my $pki = "$m->{dir}/pki";

sub openssl
{
    my (@args) = @_;
    my $r = run_cmd(cmd => [as_cyrus('openssl', @args)]);
    die "openssl @args: $r->{err}" if $r->{rc} != 0;
    return;
}

# NAME.key and NAME.pem for a subject. Keys: ca (whose certificate signs; none: itself), key (of whom;
# none: a new one), days, ext (lines), serial, rsa.
my $serials = 100;
sub issue
{
    my ($name, $subject, %o) = @_;
    my ($key, $pem, $cnf) = map { "$pki/$name.$_" } qw(key pem cnf);
    if ($o{key}) {
        link "$pki/$o{key}.key", $key or die "link: $!";
    } else {
        openssl(qw(genpkey -algorithm), $o{rsa} ? qw(RSA -pkeyopt rsa_keygen_bits:2048)
            : qw(EC -pkeyopt ec_paramgen_curve:prime256v1), '-out', $key);
    }
    my @ca = $o{ca} ? ('-CA', "$pki/$o{ca}.pem", '-CAkey', "$pki/$o{ca}.key") : ();
    spew($cnf, "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\n"
        . ($o{ext} // "basicConstraints=CA:FALSE\n"));
    my @make = ('req', '-config', $cnf, '-new', '-utf8', '-subj', $subject, '-key', $key);
    my @how = ('-days', $o{days} // 2, '-set_serial', $o{serial} // $serials++, @ca, '-out', $pem);
    if (($o{days} // 0) >= 0) {
        openssl(@make, '-x509', @how);
    } else {
        openssl(@make, '-out', "$pem.csr");
        openssl('x509', '-req', '-in', "$pem.csr", @how);
    }
    return;
}

run_cmd(cmd => [as_cyrus('mkdir', $pki, "$pki/dir", "$pki/dir/more")]);
my $CA = "basicConstraints=critical,CA:TRUE\n";
issue('ca', '/CN=Test CA', ext => $CA);
issue('othercA', '/CN=Test CA', ext => $CA);
issue('server', '/CN=localhost', ca => 'ca', rsa => 1);
issue('between', '/CN=Test CA between', ca => 'ca', ext => $CA);
my %clients = (
    admin => ['/CN=admin', ca => 'ca'],
    capital => ['/CN=ADMIN', ca => 'ca'],
    nobody => ['/CN=nobody', ca => 'ca'],
    expired => ['/CN=admin', ca => 'ca', days => -1],
    revoked => ['/CN=admin', ca => 'ca', serial => 7],
    foreign => ['/CN=admin', ca => 'othercA'],
    self => ['/CN=admin'],
    serverside => ['/CN=admin', ca => 'ca', ext => "extendedKeyUsage=serverAuth\n"],
    clientside => ['/CN=admin', ca => 'ca', ext => "extendedKeyUsage=clientAuth\n"],
    chained => ['/CN=admin', ca => 'between'],
    notca => ['/CN=admin', ca => 'nobody'],
    blank => ['/CN= admin', ca => 'ca'],
    behind => ['/CN=admin ', ca => 'ca'],
    empty => ['/O=admin', ca => 'ca'],
    twice => ['/CN=admin/CN=nobody', ca => 'ca'],
    again => ['/CN=nobody/CN=admin', ca => 'ca'],
    percent => ['/CN=admin%x', ca => 'ca'],
    tab => ["/CN=admin\tx", ca => 'ca'],
    eight => ["/CN=admi\xc3\xb1", ca => 'ca'],
    anyone => ['/CN=anyone', ca => 'ca'],
    slash => ['/CN=..\/admin', ca => 'ca'],
    mail => ['/CN=admin@example.org', ca => 'ca'],
);
issue('client', '/CN=client');
issue($_, @{ $clients{$_} }, key => 'client') for 'nobody', grep { $_ ne 'nobody' } sort keys %clients;
for my $name (keys %clients) {
    my $chain = $name eq 'chained' ? 'between' : $name eq 'notca' ? 'nobody' : undef;
    spew("$pki/$name.both", join '', map { slurp($_) } "$pki/$name.key", "$pki/$name.pem",
        $chain ? "$pki/$chain.pem" : ());
}
spew("$pki/index.txt", "R\t400101000000Z\t200101000000Z\t07\tunknown\t/CN=admin\n");
spew("$pki/ca.cnf", "[ca]\ndefault_ca=x\n[x]\ndatabase=$pki/index.txt\ndefault_md=sha256\n");
openssl('ca', '-config', "$pki/ca.cnf", '-gencrl', '-crldays', 2, '-keyfile', "$pki/ca.key", '-cert',
    "$pki/ca.pem", '-out', "$pki/crl.pem");
openssl(qw(genpkey -genparam -algorithm DH -pkeyopt group:ffdhe2048 -out), "$pki/dh.pem");
run_cmd(cmd => [as_cyrus('cp', "$pki/ca.pem", "$pki/dir/")]);
run_cmd(cmd => [as_cyrus('openssl', 'rehash', "$pki/dir")]);
spew("$pki/dir/README", "not a certificate\n");
symlink "$pki/gone", "$pki/dir/dangling";
spew("$pki/both.pem", slurp("$pki/server.pem") . slurp("$pki/server.key"));
spew("$pki/text.pem", "no certificate\n");
run_cmd(cmd => [as_cyrus('install', '-m', '0', "$pki/server.key", "$pki/closed.key")]);

# ---- the server -----------------------------------------------------------

for my $user (qw(admin nobody)) {
    run_cmd(cmd => [as_cyrus(qw(saslpasswd2 -p -c -f), "$m->{dir}/sasldb2", qw(-u localhost), $user)],
        input => "${user}pw\n")->{rc} == 0 or die "saslpasswd2\n";
}
my $OLD = 'DEFAULT:@SECLEVEL=0';
my ($GCM128, $GCM256) = qw(ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384);
my %ca = (tls_client_ca_file => "$pki/ca.pem");
my %special = (
    tls => {},
    v12 => { tls_versions => 'tls1_2' },
    v13 => { tls_versions => 'tls1_3' },
    default => { tls_ciphers => $OLD },
    old => { tls_ciphers => $OLD, tls_versions => 'tls1_0 tls1_1 tls1_2 tls1_3' },
    ciphers => { tls_ciphers => $GCM128 },
    server => { tls_ciphers => "$GCM256:$GCM128", tls_prefer_server_ciphers => 'yes' },
    client => { tls_ciphers => "$GCM256:$GCM128" },
    curve => { tls_eccurve => 'secp384r1' },
    curves => { tls_eccurve => 'secp521r1, X25519' },
    dh => { tls_server_dhparam => "$pki/dh.pem" },
    inside => { tls_server_cert => "$pki/both.pem", tls_server_key => undef },
    required => { tls_required => 'yes', allowplaintext => 'yes' },
    outside => { tls_required => 'yes' },
    layers => { sasl_maximum_layer => 1000 },
    off => { %ca, tls_client_certs => 'off' },
    optional => { %ca },
    require => { %ca, tls_client_certs => 'require' },
    nofile => { tls_client_certs => 'require' },
    crl => { %ca, tls_crl_file => "$pki/crl.pem" },
    dir => { tls_client_ca_dir => "$pki/dir" },
    noext => { %ca, sasl_mech_list => 'PLAIN' },
    domains => { %ca, virtdomains => 'userid', defaultdomain => 'example.net' },
    mydomain => { %ca, virtdomains => 'userid', defaultdomain => 'example.org' },
    missing => { tls_server_cert => "$pki/none.pem" },
    mismatch => { tls_server_key => "$pki/admin.key" },
    closed => { tls_server_key => "$pki/closed.key" },
    text => { tls_server_cert => "$pki/text.pem" },
    broken => { tls_server_key => "$pki/none.key", tls_required => 'yes', allowplaintext => 'yes' },
    disabled => { tls_server_cert => 'disabled' },
    unwanted => { allowstarttls => 'no' },
);
my %args = (outside => '-p 128');
my %own;
for my $name (keys %special) {
    my %o = (tls_server_cert => "$pki/server.pem", tls_server_key => "$pki/server.key",
        %{ $special{$name} });
    $own{"${name}_$_"} = $o{$_} for grep { defined $o{$_} } keys %o;
}
$m->configure(
    servername => 'localhost',
    admins => 'cyrus admin',
    'backuppartition-default' => "$m->{dir}/part",
    backup_staging_path => "$m->{dir}/tmp",
    sasl_mech_list => "PLAIN DIGEST-MD5 EXTERNAL @SCRAM",
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

sub has
{
    my ($c, $capability) = @_;
    return scalar grep { $_ eq "* $capability" } @{ $c->{greeting} };
}

# A connection to NAME under TLS; undef when there is none.
sub tls
{
    my ($name, %o) = @_;
    my $c = at($name);
    return start_tls($c, %o) ? $c : undef;
}

sub version { my ($c) = @_; return $c ? $c->{sock}->get_sslversion : 'none' }
sub cipher { my ($c) = @_; return $c ? $c->{sock}->get_cipher : 'none' }

# ---- what is offered, and trouble with keys ---------------------------------

for my $name (qw(tls inside required layers off optional require crl dir)) {
    my $c = at($name);
    ok(has($c, 'STARTTLS'), "$name: STARTTLS is offered");
    like(offered($c), $name eq 'required' ? qr/^$/ : qr/^DIGEST-MD5 SCRAM-SHA-1 SCRAM-SHA-256$/,
        "$name: but no PLAIN");
}
for my $name (qw(missing mismatch closed text nofile)) {
    my $c = at($name);
    ok(!has($c, 'STARTTLS'), "$name: no STARTTLS");
    is(ask($c, 'STARTTLS'), 'NO Error initializing TLS', "$name: nor by asking");
    like(login($c), qr/^NO /, "$name: so no PLAIN");
    like(sasl_login($c, 'DIGEST-MD5'), qr/^OK/, "$name: what needs no TLS works");
}
for my $name (qw(disabled unwanted)) {
    my $c = at($name);
    ok(!has($c, 'STARTTLS'), "$name: no STARTTLS");
    is(ask($c, 'STARTTLS'), 'BAD IMAP_PROTOCOL_ERROR Unrecognized command', "$name: nor by asking");
}
{
    my $c = at('broken');
    is(login($c), 'NO Please use STARTTLS first', 'tls_required and no key: nobody comes in');
    is(sasl_login($c, 'DIGEST-MD5'), 'NO Please use STARTTLS first', 'by no mechanism');
    $c = at('required');
    is(sasl_login($c, 'DIGEST-MD5'), 'NO Please use STARTTLS first', 'tls_required: before');
    ok(start_tls($c), 'tls_required: STARTTLS');
    like(login($c), $INSIDE, 'tls_required: after');
    like(login(at('outside')), qr/^OK/, 'tls_required: -p 128 will do');
}

# ---- versions, ciphers, groups --------------------------------------------

{
    my %versions = (
        tls => 'TLSv1_3', v12 => 'TLSv1_2', v13 => 'TLSv1_3', default => 'TLSv1_3', old => 'TLSv1_3',
    );
    is(version(tls($_)), $versions{$_}, "$_: version") for sort keys %versions;
    my @cases = (
        [tls => 'TLSv12', 'TLSv1_2'], [tls => 'TLSv13', 'TLSv1_3'], [v12 => 'TLSv13', 'none'],
        [v13 => 'TLSv12', 'none'], [default => 'TLSv1', 'none'], [default => 'TLSv11', 'none'],
        [default => 'TLSv12', 'TLSv1_2'], [old => 'TLSv1', 'TLSv1'], [old => 'TLSv11', 'TLSv1_1'],
    );
    for my $case (@cases) {
        my ($name, $version, $expected) = @{$case};
        is(version(tls($name, SSL_version => $version, SSL_cipher_list => $OLD)), $expected,
            "$name: only $version");
    }
    my %v12 = (SSL_version => 'TLSv12');
    is(cipher(tls('ciphers', %v12)), $GCM128, 'tls_ciphers');
    is(cipher(tls('ciphers', %v12, SSL_cipher_list => $GCM256)), 'none', 'tls_ciphers: no other');
    like(cipher(tls('ciphers', SSL_version => 'TLSv13')), qr/^TLS_/, 'tls_ciphers: not for TLS 1.3');
    my $order = "$GCM128:$GCM256";
    is(cipher(tls('client', %v12, SSL_cipher_list => $order)), $GCM128, 'the client chooses');
    is(cipher(tls('server', %v12, SSL_cipher_list => $order)), $GCM256, 'tls_prefer_server_ciphers');
    my $dhe = 'DHE-RSA-AES128-GCM-SHA256';
    is(cipher(tls($_, %v12, SSL_cipher_list => $dhe)), $dhe, "$_: Diffie-Hellman") for qw(tls dh);
    my %groups = (
        tls => { X25519 => 1, prime256v1 => 1, secp384r1 => 0 },
        curve => { X25519 => 0, prime256v1 => 0, secp384r1 => 1 },
        curves => { X25519 => 1, prime256v1 => 0, secp521r1 => 1 },
    );
    for my $name (sort keys %groups) {
        for my $group (sort keys %{ $groups{$name} }) {
            my $c = tls($name, SSL_ecdh_curve => $group, SSL_version => 'TLSv13');
            is($c ? 1 : 0, $groups{$name}{$group}, "$name: group $group");
        }
    }
}

# ---- the command ----------------------------------------------------------

for my $version (qw(TLSv12 TLSv13)) {
    my $c = at('tls');
    is(ask($c, 'NOOP'), 'OK Noop completed', "$version: something before");
    like(sasl_login($c, 'DIGEST-MD5', pass => 'wrong'), qr/^NO/, "$version: a login that fails before");
    ok(start_tls($c, SSL_version => $version,
        more => 'AUTHENTICATE PLAIN ' . plain(qw(admin adminpw)) . "\r\nNOOP\r\nAPPLY MESSAGE (%{x y 99"),
        "$version: plain text behind STARTTLS does no harm");
    my @greeting = @{ $c->{greeting} };
    like($greeting[-1], qr/^\* OK localhost Cyrus backup server /, "$version: greeting again");
    is(@greeting, 2, "$version: without STARTTLS and COMPRESS");
    like(offered($c), qr/^DIGEST-MD5 PLAIN (?:SCRAM-SHA-\d+(?:-PLUS)? ?){4}$/, "$version: more mechanisms");
    is(ask($c, 'GET USER admin'), 'NO Please authenticate first', "$version: and has no effect");
    is(ask($c, 'STARTTLS'), 'BAD Already did a successful Starttls', "$version: again");
    is(ask($c, 'AUTHENTICATE EXTERNAL ='), 'NO no mechanism available', "$version: no certificate");
    like(login($c), $INSIDE, "$version: login");
    is(ask($c, 'STARTTLS'), 'BAD Already did a successful Starttls', "$version: after login");
    is(ask($c, 'GET MAILBOXES (user.' . 'a' x 200_000 . ')'), 'OK Success', "$version: maxword holds");
    works($m, $c, "$version: works");
    like(start_deflate($c), qr/^OK/, "$version: COMPRESS");
    is(ask($c, 'COMPRESS DEFLATE'), 'NO Compression already active: DEFLATE', "$version: again");
    works($m, $c, "$version: works, compressed");
    is(ask($c, 'EXIT'), 'OK Finished', "$version: EXIT");
    ok(closed($c), "$version: the end");
}
for my $maxssf (1, 128) {
    for my $when ($maxssf == 1 ? 'never' : 'before', 'after') {
        my $label = "layer $maxssf in TLS, COMPRESS $when";
        my $c = tls('layers');
        start_deflate($c) if $when eq 'before';
        my $text = $maxssf == 1 ? 'integrity' : 'privacy';
        is(sasl_login($c, 'DIGEST-MD5', maxssf => $maxssf), "OK Success (tls plus $text protection)", $label);
        start_deflate($c) if $when eq 'after';
        works($m, $c, "$label: works");
    }
}
{
    my $c = at('tls');
    like(start_deflate($c), qr/^OK/, 'COMPRESS first');
    is(ask($c, 'STARTTLS'), "BAD Can't Starttls after Compress", 'then no STARTTLS');
    is(ask($c, 'NOOP'), 'OK Noop completed', 'and it goes on');
    $c = at('tls');
    sasl_login($c, 'DIGEST-MD5');
    is(ask($c, 'STARTTLS'), "BAD Can't Starttls after authentication", 'no STARTTLS after login');
    is(ask($c, 'RESTART'), 'OK Restarting', 'and it goes on');
    for my $junk ("GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x00\x05hello", "\x16\x03\x01", "\x80\x2e\x01\x03", '') {
        $c = at('tls');
        is(ask($c, 'starttls'), $STARTTLS, 'STARTTLS');
        put($c, $junk);
        shutdown $c->{sock}, 1;
        eval { expect($c, qr/NO Starttls failed\r\n/) };
        is($@, '', 'what is no handshake fails');
        ok(closed($c), 'and ends the connection');
    }
    $c = at('tls');
    ask($c, 'STARTTLS');
    my ($pid) = map { m{/(\d+)$} } grep { slurp($_) =~ /^tls\t/ } glob $m->confdir . '/proc/*';
    kill TERM => $pid;
    eval { expect($c, qr/NO Starttls failed\r\n/) };
    is($@, '', 'TERM ends a handshake that does not go on');
    wait_until('the worker to end', sub { !kill 0 => $pid });
}

# ---- certificates of clients ----------------------------------------------

# What becomes of a client with this certificate: "none" (no TLS), or the answer to EXTERNAL.
sub external
{
    my ($name, $cert, %o) = @_;
    my $c = tls($name, %o, $cert ? (SSL_use_cert => 1, SSL_cert_file => "$pki/$cert.both",
        SSL_key_file => "$pki/$cert.key") : ()) or return 'none';
    my $answer = ask($c, 'AUTHENTICATE EXTERNAL =') // 'none';
    my $in = ask($c, 'GET USER nouser');
    die "$name, $cert: $answer, but $in\n" if ($answer =~ /^OK/) != ($in =~ /^OK/);
    die "$name, $cert: offered, but $answer\n" if $answer =~ /no mech/ && offered($c) =~ /EXTERNAL/;
    return $answer;
}
{
    my ($none, $unknown, $denied) = ('none', 'NO no mechanism available', 'NO Permission denied');
    my $impossible = qr/^NO /;
    my @cases = (
        (map { [$_, 'admin', $INSIDE], [$_, 'foreign', $none] } qw(optional require crl dir)),
        (map { [$_, 'nobody', $denied], [$_, 'self', $none], [$_, 'expired', $none] } qw(optional require)),
        (map { [$_, undef, $unknown] } qw(optional crl dir tls off)),
        [require => undef, $none],
        [tls => 'admin', $unknown], [off => 'admin', $unknown], [off => 'self', $unknown],
        [noext => 'admin', $unknown],
        [optional => 'revoked', $INSIDE], [crl => 'revoked', $none],
        [optional => 'capital', $INSIDE], [optional => 'clientside', $INSIDE],
        [optional => 'serverside', $none], [optional => 'chained', $INSIDE], [optional => 'notca', $none],
        [optional => 'empty', $unknown], [optional => 'twice', $unknown], [optional => 'again', $unknown],
        (map { [optional => $_, $impossible] } qw(blank behind percent tab eight anyone slash)),
        [optional => 'mail', $impossible], [domains => 'mail', $denied], [mydomain => 'mail', $INSIDE],
    );
    for my $case (@cases) {
        my ($name, $cert, $expected) = @{$case};
        for my $version (qw(TLSv12 TLSv13)) {
            my $label = "$name: " . ($cert // 'no') . " certificate, $version";
            my $answer = external($name, $cert, SSL_version => $version);
            ref $expected ? like($answer, $expected, $label) : is($answer, $expected, $label);
        }
    }
    my %admin = (SSL_use_cert => 1, SSL_cert_file => "$pki/admin.both", SSL_key_file => "$pki/admin.key");
    my $c = tls('optional', %admin);
    is(offered($c) =~ /EXTERNAL/ ? 1 : 0, 1, 'EXTERNAL is offered');
    is(ask($c, 'AUTHENTICATE EXTERNAL ' . 'bm9ib2R5'), $denied, 'the certificate of admin, for nobody');
    is(ask($c, 'AUTHENTICATE EXTERNAL'), '+ ', 'EXTERNAL without initial response');
    like(ask($c, ''), $INSIDE, 'and an empty one');
    $c = tls('optional', SSL_use_cert => 1, SSL_cert_file => "$pki/nobody.both", SSL_key_file => "$pki/nobody.key");
    like(ask($c, 'AUTHENTICATE EXTERNAL ' . 'YWRtaW4='), qr/^NO authorization failure/, 'nobody, for admin');
    like(login($c), $INSIDE, 'a certificate does not stand in the way of a password');
}

# ---- Debian's synctest ----------------------------------------------------

{
    my $input = "$m->{dir}/input";
    spew($input, "NOOP\nGET USER nouser\n");
    my @cases = (
        (map { my $name = $_; map { [$name, '', '-m', $_] } 'PLAIN', 'DIGEST-MD5', @SCRAM, map { "$_-PLUS" } @SCRAM }
            qw(v12 v13)),
        [v12 => ''], [v13 => ''],
        (map { [$_, "$pki/admin.both", qw(-m EXTERNAL)] } qw(optional require)),
        ['v13', '', '-q', '-m', 'PLAIN'],
    );
    for my $case (@cases) {
        my ($name, $cert, @how) = @{$case};
        my ($host, $port) = split /:/, $at{$name};
        my $r = run_cmd(timeout => 30, cmd => [$SYNCTEST, '-f', $input, '-t', $cert,
            qw(-a admin -u admin -w adminpw), @how, '-p', $port, $host]);
        like($r->{out} . $r->{err}, qr/OK Success \(tls protection\).*OK Noop completed.*OK Success.*OK Finished/s,
            "synctest, $name: @how");
    }
}
$m->stop;

# ---- sync_client, which starts TLS when it is offered no mechanism without ---

{
    my $site = CBTest::Site->new(users => ['alice']);
    my $imap = $site->imap_as('alice');
    my $backup = $site->{backup};
    my ($cert, $key) = map { "$site->{dir}/$_.pem" } qw(cert key);
    run_cmd(cmd => [as_cyrus(qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes
        -days 2 -subj /CN=localhost), '-keyout', $key, '-out', $cert)])->{rc} == 0 or die "no certificate\n";
    my @ways = map { my $v = $_; map { ["$v, $_->{sasl_mech_list}", { tls_versions => $v, %{$_} }] } (
        { sasl_mech_list => 'PLAIN', allowplaintext => 'no' },
        { sasl_mech_list => "@SCRAM", tls_required => 'yes' },
        { sasl_mech_list => 'DIGEST-MD5', tls_required => 'yes', sasl_maximum_layer => 1000 },
    ) } qw(tls1_2 tls1_3);
    for my $way (@ways) {
        my ($label, $options) = @{$way};
        $backup->stop;
        $backup->{options} = { failedloginpause => '0s', tls_server_cert => $cert, tls_server_key => $key,
            %{$options} };
        $backup->write_config;
        $backup->start;
        $imap->append('INBOX', CBTest::Imap::message(body => CBTest::Imap::noise($_, length $label)))
            for 500, 700_000;
        my $r = $site->sync('tcp', { timeout => 30 }, '-u', 'alice');
        is($r->{rc}, 0, "sync_client: $label") or diag($r->{err});
        is_deeply([differences($site, 'alice')], [], "sync_client: $label: the backup is equal");
    }
    $site->stop;
}
done_testing;
