#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# backups.db is lost, damaged or wrong: reconstruct makes it again from the data files, and the
# next sync_client has nothing to send.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus run_cmd slurp spew);
use JSON;
use Test::More;

my @users = qw(alice bob carol);
my $site = CBTest::Site->new(users => \@users, options => { backup => { 'backuppartition-two' => '%dir%/part2',
    partition_select_mode => 'random' } });
my $db = "$site->{backup}{dir}/conf/backups.db";

for my $user (@users) {
    my $imap = $site->imap_as($user);
    $imap->append('INBOX', CBTest::Imap::message()) for 1 .. 3;
    $imap->must(create => 'INBOX.sub');
    $imap->must(subscribe => 'INBOX.sub');
}
$site->admin->must(create => 'shared');
sync_all('first');

sub sync_all
{
    my ($what) = @_;
    my $r = $site->sync('proxy', '-A');
    is($r->{rc}, 0, "$what: synced") or diag("$r->{out}$r->{err}");
    my $s = $site->sync('proxy', '-m', 'shared');
    is($s->{rc}, 0, "$what: the shared mailbox, too") or diag("$s->{out}$s->{err}");
    return (@{ $r->{commands} }, @{ $s->{commands} });
}

# Nothing but questions: the backups are the old ones.
sub nothing_to_send
{
    my ($what) = @_;
    my @unwanted = CBTest::Scenarios::unwanted(sync_all($what));
    ok(!@unwanted, "$what: nothing was sent") or diag(CBTest::Relay::excerpt(@unwanted));
    return;
}

sub records
{
    return $site->{backup}->tool('cyr_dbtool', $db, 'twoskip', 'show')->{out};
}

sub away
{
    my (@files) = @_;
    my $r = run_cmd(cmd => [as_cyrus('rm', '-f', @files)], tmp => $site->{dir});
    is($r->{rc}, 0, 'removed') or diag($r->{err});
    return;
}

my $before = records();
is(scalar(() = $before =~ /\n/g), 4, 'four backups') or diag($before);
my %sums = map { $_ => slurp($_) } $site->all_data_files;

# Nobody gets a second backup: clients are told to come again.
sub refused
{
    my ($what, @who) = @_;
    my $files = join ' ', sort map { glob "$site->{backup}{dir}/$_/*/*" } qw(part part2);
    for my $user (@who) {
        my $r = $site->sync('unix', '-u', $user);
        isnt($r->{rc}, 0, "$what lost: $user is refused");
    }
    is(join(' ', sort map { glob "$site->{backup}{dir}/$_/*/*" } qw(part part2)), $files, 'no new file');
    return;
}

subtest 'lost' => sub {
    $site->{backup}->stop;
    away($db);
    my $r = $site->ctl_backups('reconstruct', '--dry-run');
    is($r->{rc}, 0, 'a dry run');
    is(scalar(() = $r->{out} =~ /^reconstruct \S+: added \(/mg), 4, 'it would add all') or diag($r->{out});
    ok(!-e $db, 'and changes nothing');
    $site->{backup}->start;
    refused('all', @users[0, 1], 'dave');
    for my $command (['list', '-A'], ['stat', 'bob'], ['compact', '-A']) {
        $r = $site->ctl_backups(@$command);
        is($r->{rc}, 75, "$command->[0] fails");
        like($r->{err}, qr/backups\.db is missing or empty, but there is .*ctl_backups reconstruct/,
            'and says what to do');
    }
    $r = $site->cyr_backup('-u', 'bob', 'list', 'all');
    like($r->{err}, qr/backups\.db is missing or empty, but there is .*ctl_backups reconstruct/, 'cyr_backup, too');
    $site->{backup}->stop;
    $r = $site->ctl_backups('reconstruct');
    is($r->{rc}, 0, 'reconstruct') or diag($r->{err});
    is(scalar(() = $r->{out} =~ /^reconstruct \S+: added \(/mg), 4, 'all were added') or diag($r->{out});
    like($r->{err}, qr/^reconstruct: 4 added(?:, \d+ \w+)*$/m, 'a summary');
    is(records(), $before, 'the records are as they were');
    $site->{backup}->start;
    nothing_to_send('afterwards');
    no_differences("$_: both sides equal", differences($site, $_)) for @users;
    $r = $site->ctl_backups('reconstruct');
    is($r->{rc}, 0, 'once more');
    is($r->{out}, '', 'there is nothing to say');
};

subtest 'damaged, and the indexes are gone, too' => sub {
    $site->{backup}->stop;
    away(map { glob "$_.index*" } $site->all_data_files);
    my $r = run_cmd(cmd => [as_cyrus('/bin/sh', '-c', "echo garbage, and more of it than a header has, which >$db")],
        tmp => $site->{dir});
    is($r->{rc}, 0, 'garbage in its place');
    $r = $site->ctl_backups('list');
    is($r->{rc}, 75, 'list fails');
    $r = $site->ctl_backups('reconstruct', '-j');
    is($r->{rc}, 0, 'reconstruct') or diag($r->{err});
    like($r->{err}, qr/a damaged backups\.db was set aside as \Q$db\E\.damaged\.\d+/, 'the damaged one is kept');
    my @found = JSON->new->incr_parse($r->{out});
    is(join(' ', sort map { $_->{userid} } grep { $_->{status} eq 'added' } @found), '%SHARED alice bob carol',
        'the same as JSON');
    is(join(' ', sort { $a cmp $b } keys %{ $found[0] }), 'command fname status userid', 'its keys');
    is(records(), $before, 'the records are as they were');
    $site->{backup}->start;
    nothing_to_send('afterwards');
    no_differences("$_: both sides equal", differences($site, $_)) for @users;
};

# backups.db came back from a tape, and does not know all.
subtest 'an older one' => sub {
    my $file = $site->data_file('alice');
    my $tool = sub {
        my $r = $site->{backup}->tool('cyr_dbtool', $db, 'twoskip', @_);
        is($r->{rc}, 0, "cyr_dbtool @_");
    };
    $tool->('delete', 'alice');
    refused('alice', 'alice');
    is($site->sync('unix', '-u', 'bob')->{rc}, 0, 'bob is not concerned');
    my $r = $site->ctl_backups('reconstruct');
    is($r->{rc}, 0, 'reconstruct') or diag($r->{err});
    is(records(), $before, 'the records are as they were');
    nothing_to_send('afterwards');
};

subtest 'a record is wrong' => sub {
    my $file = $site->data_file('carol');
    my $tool = sub {
        my $r = $site->{backup}->tool('cyr_dbtool', $db, 'twoskip', @_);
        is($r->{rc}, 0, "cyr_dbtool @_");
    };
    $tool->('set', 'carol', "$site->{backup}{dir}/part/c/carol_000000");
    $tool->('delete', 'alice');
    my $r = $site->ctl_backups('reconstruct');
    is($r->{rc}, 75, 'somebody has to look at that');
    like($r->{out}, qr/^reconstruct alice: added \(/m, 'the missing one is added');
    like($r->{out}, qr/^reconstruct carol: wrong \(.*the data file is gone.*reconstruct -F takes \Q$file\E/m,
        'the wrong one is told');
    isnt(records(), $before, 'and left alone');
    $r = $site->ctl_backups('reconstruct', '-F');
    is($r->{rc}, 0, 'with -F');
    like($r->{out}, qr/^reconstruct carol: replaced \(\Q$file\E/m, 'it is corrected');
    is(records(), $before, 'the records are as they were');
    nothing_to_send('afterwards');
};

subtest 'another file of a user' => sub {
    my $file = $site->data_file('alice');
    my ($copy) = $file =~ m{^(.*_)};
    $copy .= 'ZZZZZZ';
    my $r = run_cmd(cmd => [as_cyrus('cp', $file, $copy)], tmp => $site->{dir});
    is($r->{rc}, 0, 'a copy');
    $site->imap_as('alice')->append('INBOX', CBTest::Imap::message());
    $site->sync('unix', '-u', 'alice');
    $r = $site->ctl_backups('reconstruct');
    is($r->{rc}, 75, 'somebody has to look at that');
    like($r->{out}, qr/^reconstruct alice: duplicate \(\Q$copy\E: a second data file of this user, (?:older|no newer)/m,
        'which one is told');
    $r = $site->ctl_backups('delete', '-f', $file);
    is($r->{rc}, 75, 'the registered one is not deleted by its path');
    $r = $site->ctl_backups('delete', '-f', $copy);
    is("$r->{rc} $r->{out}", "0 delete $copy: ok\n", 'the other one is');
    $r = $site->ctl_backups('reconstruct');
    is($r->{rc}, 0, 'then all is well');
    no_differences('both sides equal', differences($site, 'alice'));
};

subtest 'usage' => sub {
    is($site->ctl_backups('reconstruct', 'alice')->{rc}, 64, 'no names');
    is($site->ctl_backups('reconstruct', '-A')->{rc}, 64, 'no mode');
    is($site->ctl_backups('reconstruct', '--to=two')->{rc}, 64, 'options of others');
};
is(join(' ', grep { index(slurp($_), $sums{$_}) } sort keys %sums), '', 'no data file was touched, but for what was added');
memory_ok($site);
done_testing;
