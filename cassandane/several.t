#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Many clients at once: sync_clients side by side, two rolling channels while users do whatever
# comes to their minds, imapd itself as a client ("right now"), and a hundred connections that
# just sit there. SEVERAL_SEED repeats the random part, CYRUS_BACKUPS_LONG=1 makes it ten minutes.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences foreign_mail);
use CBTest::Holder;
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Server qw(mailbox_names);
use CBTest::Site;
use CBTest::Util qw(as_cyrus peak_memory reap slurp start_cmd wait_until);
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{SEVERAL_SEED} // time;
srand $seed;
note("SEVERAL_SEED=$seed");

my @users = map { "user$_" } 1 .. 8;
my $idle = 100;
my $site = CBTest::Site->new(users => \@users, maxchild => $idle + 30);

sub equal
{
    my (@whom) = @_;
    for my $user (@whom) {
        my @d = eval { differences($site, $user) };
        push @d, $@ if $@;
        push @d, eval { foreign_mail($site, $user) };
        no_differences("$user: both sides equal", @d);
    }
    return;
}

subtest 'eight sync_clients, eight users' => sub {
    my $n = 0;
    for my $user (@users) {
        $site->deliver($user, map { CBTest::Imap::message(body => CBTest::Imap::noise(2000 * $_, ++$n)) } 1 .. 10);
        my $imap = $site->imap_as($user);
        $imap->must(create => "INBOX.$_") for 'a', 'b';
        $imap->append("INBOX.$_", CBTest::Imap::message()) for 'a', 'b';
    }
    my %pid = map {
        $_ => start_cmd(env => $site->env, err => "$site->{dir}/$_.err", cmd => [as_cyrus(
            '/usr/lib/cyrus/bin/sync_client', '-C', $site->{imap}->conf, '-o', '-v', '-n',
            $_ =~ /[1-4]$/ ? 'tcp' : 'unix', '-u', $_)]);
    } @users;
    for my $user (@users) {
        is(reap($pid{$user}), 0, "sync of $user") or diag(slurp("$site->{dir}/$user.err"));
    }
    equal(@users);
};

# ---- users at work --------------------------------------------------------------------------

sub pick { return $_[ rand @_ ] }

my $made = 0;
my @deeds = (
    [8, sub { my ($u, $f) = @_; $site->deliver($u, map { CBTest::Imap::message() } 0 .. rand 3) }],
    [4, sub { my ($u, $f, $i) = @_; $i->append($f, CBTest::Imap::message(body => CBTest::Imap::noise(rand 60_000, ++$made))) }],
    [8, sub {
        my ($u, $f, $i) = @_;
        with_some($i, $f, sub {
            $i->must(store => $_[0], pick('+FLAGS', '-FLAGS'), pick('(\\Seen)', '(\\Flagged $x)', '(\\Answered)'));
        });
    }],
    [3, sub {
        my ($u, $f, $i) = @_;
        with_some($i, $f, sub { $i->must(store => $_[0], '+FLAGS', '(\\Deleted)'); $i->must('expunge') });
    }],
    [3, sub {
        my ($u, $f, $i, @all) = @_;
        my $to = pick(@all);
        with_some($i, $f, sub { $i->must(copy => $_[0], $to) });
    }],
    [2, sub { my ($u, $f, $i) = @_; $i->must(create => 'INBOX.new' . ++$made) }],
    [1, sub { my ($u, $f, $i) = @_; $i->must(rename => $f, 'INBOX.moved' . ++$made) if $f ne 'INBOX' }],
    [1, sub { my ($u, $f, $i) = @_; $i->must(delete => $f) if $f ne 'INBOX' }],
    [1, sub { my ($u, $f, $i) = @_; $i->must(pick('subscribe', 'unsubscribe') => $f) }],
    [1, sub { my ($u, $f, $i) = @_; $i->must(setmetadata => $f, '/private/comment', "c$made") }],
    # what concerns two users, or none
    [1, sub {
        my ($u, $f) = @_;
        return if $f eq 'INBOX';
        (my $from = $f) =~ s/^INBOX/user.$u/;
        $site->admin->must(setacl => $from, 'admin', 'lrswipkxtecdan');
        $site->admin->must(rename => $from, 'user.' . pick(@users[0 .. 3]) . '.given' . ++$made);
    }],
    [1, sub { $site->admin->must(create => "shared$made" . ++$made); }],
    [2, sub {
        my ($shared) = grep { /^shared/ } mailbox_names($site, '%SHARED') or return;
        $site->admin->must(setacl => $shared, 'admin', 'lrswipkxtecda');
        $site->admin->append($shared, CBTest::Imap::message());
    }],
    [1, sub {
        my ($u, $f, $i) = @_;
        (my $name = $f) =~ s/^INBOX/user.$u/;
        $i->must(setacl => $f, pick(@users[0 .. 3]), pick('lrs', 'lrswip'));
    }],
);
my @chances = map { my $d = $_; ($d->[1]) x $d->[0] } @deeds;

# A sequence of messages of a folder, if there are any.
sub with_some
{
    my ($imap, $folder, $do) = @_;
    $imap->must(select => $folder);
    my $uids = $imap->must(search => 'all');
    if (ref $uids && @{$uids}) {
        my %set = map { pick(@{$uids}) => 1 } 1 .. 3;
        $do->(join ',', sort { $a <=> $b } keys %set);
    }
    $imap->must('unselect');
    return;
}

sub folders
{
    my ($imap) = @_;
    return map { $_->[2] } grep { $_->[2] =~ /^INBOX/ && !grep { /^\\no/i } @{ $_->[0] } }
        @{ $imap->must(list => '', '*') };
}

subtest 'two rolling channels, users at work' => sub {
    $site->sync_log_once($_) for qw(tcp unix);
    my @daemons = map { $site->start_rolling($_) } qw(tcp unix);
    my $end = time + ($ENV{CYRUS_BACKUPS_LONG} ? 600 : 15);
    my $n = 0;
    while (time < $end) {
        my $user = pick(@users[0 .. 3]);
        my $imap = $site->imap_as($user);
        my @all = folders($imap);
        my $done = eval { pick(@chances)->($user, pick(@all), $imap, @all); 1 };
        if (!$done) {
            fail("deed $n");
            diag($@);
            last;
        }
        $n++;
    }
    note("$n deeds");
    cmp_ok($n, '>', 20, 'they did something');
    $site->wait_rolling($_, 100) for @daemons;
    is($site->stop_rolling($_), 0, "channel $_->{channel} ends when asked to") for @daemons;
    # What sync_client does not tell when it rolls, it tells here.
    is($site->sync('tcp', '-A')->{rc}, 0, 'sync_client -A');
    equal(@users[0 .. 3], '%SHARED');
};

subtest 'a hundred idle connections' => sub {
    my @names = map { sprintf 'idle%03d', $_ } 1 .. $idle;
    my @c;
    for my $name (@names, $users[0]) {
        my $c = CBTest::CSync->new(port => $site->{port}{backup}, user => 'admin');
        my $r = $c->command("APPLY SUB %(USERID $name MBOXNAME user.$name)");
        is($r->{text}, 'OK Success', "$name: touched") if $r->{text} ne 'OK Success';
        push @c, $c;
    }
    my @pids = $site->{backup}->children('backupd');
    cmp_ok(scalar @pids, '>=', $idle, 'as many processes');
    my ($most) = sort { $b <=> $a } map { peak_memory($_) // 0 } @pids;
    cmp_ok($most, '<', 32 * 1024, 'none of them large') unless $ENV{MAX_RSS};
    note("largest: $most KiB");
    $site->deliver($users[0], CBTest::Imap::message());
    my $r = $site->sync('proxy', '-u', $users[0]);
    is($r->{rc}, 0, 'one more client, for a user whom one of them has touched, is served');
    my @locked = grep { ($_->{reply} // '') !~ /^OK/ } @{ $r->{commands} };
    ok(!@locked, 'and told OK') or diag(CBTest::Relay::excerpt(@locked));
    my $free = eval {
        wait_until('all locks', sub {
            !grep { !CBTest::Holder::is_free($_) } $site->all_data_files;
        }, 20);
    };
    ok($free, 'after a moment none of them has anything locked');
    my @bad = grep { $_->command('NOOP')->{text} ne 'OK Noop completed' } @c;
    ok(!@bad, 'all are still there');
    $_->command('EXIT') for @c;
    equal($users[0]);
};

subtest 'imapd as the client' => sub {
    $site->{imap}->stop;
    delete $site->{admin};
    delete $site->{clients};
    $site->{imap}{options}{sync_rightnow_channel} = 'unix';
    $site->{imap}->write_config;
    $site->{imap}->start;
    my $user = $users[7];
    my @imaps = map { CBTest::Imap->new(port => $site->{port}{imap}, user => $user) } 1 .. 10;
    my @sent;
    for my $round (1 .. 3) {
        for my $i (0 .. $#imaps) {
            $imaps[$i]->must(create => "INBOX.box$i") if $round == 1;
            push @sent, CBTest::Imap::message();
            $imaps[$i]->append("INBOX.box$i", $sent[-1]);
            $imaps[$i]->append('INBOX', CBTest::Imap::message());
        }
    }
    my $have = () = grep { $site->cyr_backup($user, 'dump', 'message', CBTest::Util::sha1_hex($_))->{out} eq $_ } @sent;
    is($have, scalar @sent, 'each message is in the backup when its APPEND is answered');
    cmp_ok(scalar $site->{backup}->children('backupd'), '>=', 10, 'each imapd has a connection of its own');
    equal($user);
    undef @imaps;
};
memory_ok($site);
done_testing;
