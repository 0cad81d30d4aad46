#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Who has a backup locked, for how long, and who waits for it: by hand, with the real
# sync_client, with the lock of another program, and with readers, who never wait.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state differences);
use CBTest::Feed qw(message);
use CBTest::Holder;
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus is_debian program run_cmd reap slurp start_cmd wait_until);
use Fcntl qw(O_RDONLY O_NONBLOCK);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $LOCKED = 'NO IMAP_MAILBOX_LOCKED Mailbox locked';
my @users = qw(alice bob carol);
my $wait = 4;    # seconds; longer than an idle client keeps a lock
my $site = CBTest::Site->new(users => \@users, options => { backup => { backup_lock_wait => "${wait}s" } });
my %box;
for my $user (@users) {
    $site->deliver($user, map { CBTest::Imap::message() } 1 .. 3);
    my $r = $site->sync('tcp', '-u', $user);
    is($r->{rc}, 0, "first sync of $user") or diag($r->{err});
}

sub file { return $site->data_file($_[0]) }
sub is_free { return CBTest::Holder::is_free(file($_[0])) }

# Wait until the lock can be had; far longer than it should take, and far shorter than five minutes.
sub becomes_free
{
    my ($user, $what) = @_;
    my $ok = eval { wait_until("the lock of $user", sub { is_free($user) }, 20) };
    ok($ok, $what);
    return;
}

sub says
{
    my ($c, $command, $expected, $label) = @_;
    my $r = eval { $c->command($command) } // { text => "none: $@" };
    like($r->{text}, $expected, $label // $command);
    return $r;
}

# Send a command whose answer will have to wait.
sub sent
{
    my ($c, $command) = @_;
    $c->send_raw("$command\r\n");
    return;
}

sub answered
{
    my ($c) = @_;
    my $bits = '';
    vec($bits, fileno $c->{sock}, 1) = 1;
    return select($bits, undef, undef, 0) > 0;
}

subtest 'who has finished with a user lets go' => sub {
    my $c = $site->backup_csync;
    my $take = sub {
        says($c, 'GET USER alice', qr/^OK /);
        ok(!is_free('alice'), 'alice is locked');
    };
    $take->();
    says($c, 'RESTART', qr/^OK /);
    ok(is_free('alice'), 'not after RESTART');
    $take->();
    says($c, 'GET USER bob', qr/^OK /);
    ok(is_free('alice'), 'not after GET USER of another');
    ok(!is_free('bob'), 'who is locked now');
    $take->();
    ok(is_free('bob'), 'and no longer');
    says($c, 'GET USER nobody', qr/^OK /);
    ok(is_free('alice'), 'not after GET USER of one who has no backup');
    $take->();
    says($c, 'GET META bob', qr/^OK /);
    ok(is_free('alice'), 'not after GET META of another');
    $take->();
    says($c, 'EXIT', qr/^OK /);
    ok(is_free('alice'), 'not after EXIT');
    $c = $site->backup_csync;
    $take->();
    undef $c;
    becomes_free('alice', 'not when the connection is cut');
};

subtest 'who just sits there lets go' => sub {
    my $c = $site->backup_csync;
    says($c, 'GET MAILBOXES (user.alice user.bob user.carol)', qr/^OK /);
    ok(!is_free($_), "$_ is locked") for @users;
    becomes_free($_, "$_ is not when the client is silent for a while") for @users;
    says($c, 'GET USER alice', qr/^OK /, 'the connection is as good as before');

    # in the middle of a command, too, if it does not concern them
    says($c, 'GET MAILBOXES (user.bob user.carol)', qr/^OK /);
    $c->send_raw('APPLY SUB %(USERID alice MBOXNAME {10+}' . "\r\nuser.");
    becomes_free($_, "$_ is free while a command for alice is slow to come") for qw(bob carol);
    $c->send_raw("alice)\r\n");
    like($c->answer->{text}, qr/^OK /, 'which is done in the end');

    # what was uploaded is not lost with the lock
    my $box = $box{alice} = CBTest::Feed->new(mboxname => 'user.alice.Feed');
    $box->append(message('kept'));
    says($c, 'GET USER alice', qr/^OK /);
    says($c, $box->upload, qr/^OK /, 'an upload');
    ok(!is_free('alice'), 'alice is locked');
    becomes_free('alice', 'and not for ever');
    says($c, $box->apply, qr/^OK /, 'the mailbox that it was for comes after a while');
    my ($m) = grep { $_->{mboxname} eq $box->{mboxname} } @{ backup_state($site, 'alice')->{mailboxes} };
    is($m->{records}[0]{guid}, $box->{records}[0]{guid}, 'and has its message');
    is($site->cyr_backup('alice', 'dump', 'message', $box->{records}[0]{guid})->{out}, message('kept'),
        'every byte of it');
    says($c, 'APPLY UNMAILBOX user.alice.Feed', qr/^OK /);
};

subtest 'who works on others lets go' => sub {
    my ($c, $d) = ($site->backup_csync, $site->backup_csync);
    says($c, 'GET MAILBOXES (user.alice user.bob)', qr/^OK /);
    my $free = wait_until('the lock of alice', sub {
        return 'no answer' if $c->command('APPLY SUB %(USERID bob MBOXNAME user.bob)')->{text} !~ /^OK /;
        return is_free('alice') ? 'yes' : undef;
    }, 20);
    is($free, 'yes', 'alice is free while a connection is busy with bob');
    ok(!is_free('bob'), 'who is locked');
    says($c, 'RESTART', qr/^OK /);
};

subtest 'two who want what the other has' => sub {
    my ($c, $d) = ($site->backup_csync, $site->backup_csync);
    for my $round (1 .. 3) {
        says($c, 'GET USER alice', qr/^OK /);
        says($d, 'GET USER bob', qr/^OK /);
        sent($c, 'GET MAILBOXES (user.alice user.bob)');
        sent($d, 'GET MAILBOXES (user.bob user.alice)');
        for my $both ([$c, 'the first'], [$d, 'the second']) {
            my $r = $both->[0]->answer;
            like($r->{text}, qr/^OK /, "$both->[1] is answered");
            is(scalar(grep { /^MAILBOX / } @{ $r->{lines} }), 2, 'about both mailboxes');
        }
        $_->command('RESTART') for $c, $d;
    }
};

subtest 'a lock of another program' => sub {
    my $holder = CBTest::Holder->new(file('alice'));
    my ($c, $d) = ($site->backup_csync, $site->backup_csync);
    my $start = time;
    sent($c, 'GET USER alice');
    says($d, 'GET USER bob', qr/^OK /, 'others are not concerned');
    says($d, 'RESTART', qr/^OK /);
    is($c->answer->{text}, $LOCKED, 'in the end the client is told');
    my $waited = time - $start;
    cmp_ok($waited, '>=', $wait - 0.1, 'after as long as is configured');
    sent($c, 'GET USER alice');
    ok(!answered($c), 'again it waits');
    $holder->release;
    like($c->answer->{text}, qr/^OK /, 'until the lock is free');
    # which was ours before
    ok(!is_free('alice'), 'now the other program would have to wait');

    # wait for several at once: not the time of each
    my @holders = map { CBTest::Holder->new(file($_)) } qw(bob carol);
    $start = time;
    is($d->command('GET MAILBOXES (user.bob user.carol)')->{text}, $LOCKED, 'two are locked');
    cmp_ok(time - $start, '<', 1.9 * $wait, 'the wait is for a command, not for each backup it needs');
    $_->release for @holders;
    $_->command('RESTART') for $c, $d;
};

subtest 'sync_client and a locked backup' => sub {
    $site->deliver('alice', CBTest::Imap::message());
    my $holder = CBTest::Holder->new(file('alice'));
    my $r = $site->sync('proxy', '-u', 'alice', 'bob');
    isnt($r->{rc}, 0, '-u alice bob: an error');
    is((grep { $_->{line} eq 'GET USER alice' } @{ $r->{commands} })[0]{reply}, $LOCKED, 'alice is locked');
    my ($bob) = grep { $_->{line} eq 'GET USER bob' } @{ $r->{commands} };
    is($bob->{reply}, 'OK Success', 'bob is not');
    $r = $site->sync('proxy', '-A');
    is($r->{rc}, 0, '-A skips who is locked');
    $r = $site->sync_log_once('proxy');
    my $log = join '', map { slurp($_) } glob "$site->{imap}{dir}/conf/sync/proxy/log*";
    like($log, qr/alice/, 'rolling: put off');

    # one who waits and gets it
    my $pid = start_cmd(env => $site->env, cmd => [as_cyrus('/usr/lib/cyrus/bin/sync_client',
        '-C', $site->{imap}->conf, '-o', '-n', 'unix', '-u', 'alice')]);
    wait_until('sync_client to be served', sub {
        grep { (slurp($_) // '') =~ /^backupdu\t/ } glob "$site->{backup}{dir}/conf/proc/*";
    });
    $holder->release;
    is(reap($pid), 0, '-u waits and succeeds');
    $r = $site->sync_log_once('proxy');
    is($r->{rc}, 0, 'rolling: what was put off is done');
    my @d = eval { differences($site, 'alice', skip => {}) };
    no_differences('both sides equal', @d, $@ ? $@ : ());
};

subtest 'two sync_clients at the same user' => sub {
    $site->deliver('alice', map { CBTest::Imap::message(body => CBTest::Imap::noise(20_000, $_)) } 1 .. 20);
    my @pids = map {
        start_cmd(env => $site->env, cmd => [as_cyrus('/usr/lib/cyrus/bin/sync_client', '-C',
            $site->{imap}->conf, '-o', '-n', $_, '-u', 'alice')]);
    } qw(tcp unix);
    is(reap($_), 0, 'succeeds') for @pids;
    my @d = eval { differences($site, 'alice') };
    no_differences('both sides equal', @d, $@ ? $@ : ());
};

subtest 'readers neither wait nor keep anybody waiting' => sub {
    my $c = $site->backup_csync;
    says($c, 'GET USER alice', qr/^OK /);
    my $before = backup_state($site, 'alice');
    pass('json all while the backup is locked');
    my $holder = CBTest::Holder->new(file('bob'));
    my $r = $site->cyr_backup('bob', 'list', 'messages');
    is($r->{rc}, 0, 'list messages while another program has it locked');
    $holder->release;
    $c->command('RESTART');

    # a reader in the middle of a long answer: nobody takes what it writes
    my $fifo = "$site->{dir}/backup/fifo";
    run_cmd(cmd => [as_cyrus('mkfifo', $fifo)]);
    sysopen my $out, $fifo, O_RDONLY | O_NONBLOCK or die "$fifo: $!";
    my $pid = start_cmd(out => $fifo, env => $site->env,
        cmd => [as_cyrus(program('cyr_backup'), '-C', $site->{backup}->conf, 'alice', 'json', 'all')]);
    fcntl $out, 1031, 4096 or die "F_SETPIPE_SZ: $!";
    wait_until('the reader to fill its pipe', sub {
        my $there = pack 'i', 0;
        ioctl $out, 0x541b, $there or die "FIONREAD: $!";
        return unpack('i', $there) == 4096;
    });
    $site->deliver('alice', CBTest::Imap::message());
    $r = $site->sync('proxy', '-u', 'alice');
    is($r->{rc}, 0, 'a sync meanwhile');
    my ($get) = grep { $_->{line} eq 'GET USER alice' } @{ $r->{commands} };
    is($get->{reply}, 'OK Success', 'is not told to wait');
    ok(kill(0 => $pid), 'the reader is still at it');
    my $text = '';
    while (1) {
        my $n = sysread $out, $text, 65536, length $text;
        last if defined $n && !$n;
        next if defined $n;
        my $bits = '';
        vec($bits, fileno $out, 1) = 1;
        select $bits, undef, undef, 10 or last;
    }
    is(reap($pid), 0, 'and ends well');
    is_deeply(CBTest::Compare::decode($text), $before, 'with the state it began with');
    my @d = eval { differences($site, 'alice') };
    no_differences('both sides equal', @d, $@ ? $@ : ());
};

subtest 'a wait ends with the server' => sub {
    my $holder = CBTest::Holder->new(file('carol'));
    $site->{backup}->stop;
    $site->{backup}{options}{backup_lock_wait} = '100s';
    $site->{backup}->write_config;
    $site->{backup}->start;
    my $c = $site->backup_csync;
    sent($c, 'GET USER carol');
    # it has the data file open while it waits for its lock
    my $file = file('carol');
    my $pid = wait_until('it to wait for the lock', sub {
        my ($found) = map { m{^/proc/(\d+)/} } grep { (readlink // '') eq $file }
            map { glob "/proc/$_/fd/*" } $site->{backup}->children('backupd');
        return $found;
    });
    ok(!answered($c), 'it waits');
    kill TERM => $pid;
    is($c->answer->{text}, $LOCKED, 'then it is to end, and gives up');
    like(eval { $c->line } // $@, qr/^BYE /, 'and says so');
    ok(!eval { $c->line }, 'and is gone');
    $holder->release;
};
memory_ok($site);
done_testing;
