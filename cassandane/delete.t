#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Whole backups are deleted, come back, and go for good when their time has passed; and the user
# whom the backup knows by a former name is the same one.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences backup_state);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus run_cmd slurp);
use JSON;
use POSIX ();
use Test::More;

my $DAY = 86400;
my $site = CBTest::Site->new(users => [qw(alice bob old)], clock => 1,
    options => { backup => { backup_delete_delay => '10d' } });
my $clock = $site->{clock};

for my $user (qw(alice bob old)) {
    $site->imap_as($user)->append('INBOX', CBTest::Imap::message()) for 1 .. 4;
    synced($user);
}

sub synced
{
    my ($user, $channel) = @_;
    my $r = $site->sync($channel // 'unix', '-u', $user);
    is($r->{rc}, 0, "$user: synced") or diag("$r->{out}$r->{err}");
    return $r;
}

sub ctl
{
    my ($rc, $out, @args) = @_;
    my $r = $site->ctl_backups(@args);
    is($r->{rc}, $rc, "@args: exit") or diag("$r->{out}$r->{err}");
    ref $out ? like($r->{out}, $out, "@args: what it says") : is($r->{out}, $out, "@args: what it says")
        if defined $out;
    return $r;
}

subtest 'delete and undelete' => sub {
    my $file = $site->data_file('alice');
    my $bytes = slurp($file);
    ctl(75, '', 'delete', 'nobody');
    ctl(64, '', 'delete', '-A');
    ctl(64, '', 'delete', '--now', 'alice');
    ctl(0, "delete alice: ok\n", 'delete', 'alice');
    ok(!-e $file, 'its file is gone');
    ctl(0, qr/\A[^\t]+\t\d+\tbob\t.*\n[^\t]+\t\d+\told\t.*\n\z/, 'list');
    my $r = ctl(0, qr/\A[-0-9]{10} [:0-9]{8}\t\d+\talice\t\Q$file\E\.deleted\.\d+\t[-0-9]{10} [:0-9]{8}\n\z/,
        'list', '--deleted');
    my ($kept) = $r->{out} =~ /\t(\/\S+)\t/;
    is(slurp($kept), $bytes, 'and is kept as it was');
    $r = ctl(0, undef, 'list', '--deleted', '-j');
    my $object = JSON->new->decode($r->{out});
    is(join(' ', sort keys %{$object}),
        'compressed deleted deleted_epoch deleted_iso due due_epoch due_iso fname userid', 'the same as JSON');
    is($object->{due_epoch} - $object->{deleted_epoch}, 10 * $DAY, 'when it goes');
    ctl(0, '', 'list', '--deleted', 'bob');
    ctl(75, "undelete bob: failed (no deleted backup is there)\n", 'undelete', '-F', 'bob');
    ctl(0, "undelete alice: ok\n", 'undelete', 'alice');
    is(slurp($file), $bytes, 'it is back');
    ctl(0, '', 'list', '--deleted');
    my $sync = synced('alice', 'proxy');
    my @unwanted = CBTest::Scenarios::unwanted(@{ $sync->{commands} });
    ok(!@unwanted, 'nothing had to be sent') or diag(CBTest::Relay::excerpt(@unwanted));
    no_differences('both sides equal', differences($site, 'alice'));
};

subtest 'the user lives on' => sub {
    my $first = $site->data_file('alice');
    ctl(0, "delete alice: ok\n", 'delete', 'alice');
    $clock->advance(60);
    $site->imap_as('alice')->append('INBOX', CBTest::Imap::message());
    synced('alice');
    my $second = $site->data_file('alice');
    isnt($second, $first, 'a new backup');
    no_differences('both sides equal', differences($site, 'alice', full => 1));
    ctl(75, "undelete alice: failed (the user has a backup; with -F that one is deleted)\n", 'undelete', 'alice');
    ctl(0, "undelete alice: ok\n", 'undelete', '-F', 'alice');
    is($site->data_file('alice'), $first, 'the first one again');
    ctl(0, qr/\A[^\t]*\t\d+\talice\t\Q$second\E\.deleted/, 'list', '--deleted');
    synced('alice');
    no_differences('and what it had missed', differences($site, 'alice', full => 1));
};

subtest 'their time passes' => sub {
    ctl(0, "delete bob: ok\n", 'delete', 'bob');
    my ($bob) = glob "$site->{backup}{dir}/part/b/bob_*.deleted.*";
    $clock->advance(9 * $DAY);
    ctl(0, '', 'delete', '--expired');
    ctl(64, '', 'delete', '--expired', 'bob');
    ok(-e $bob, 'nine days later it is there');
    $clock->advance(1 * $DAY + 60);
    ctl(0, qr/^delete \Q$bob\E: skipped \(dry run\)$/m, 'delete', '--expired', '--dry-run');
    ok(-e $bob, 'a dry run');
    my $r = ctl(0, undef, 'delete', '--expired', '--json=array');
    is(join(' ', sort map { "$_->{userid} $_->{status}" } @{ JSON->new->decode($r->{out}) }), 'alice ok bob ok',
        'after ten days it goes');
    is(join(' ', glob "$site->{backup}{dir}/part/*/*.deleted.*"), '', 'nothing is left');
    ctl(75, qr/^undelete bob: failed/, 'undelete', 'bob');
};

subtest 'a nightly run removes them, too' => sub {
    synced('bob');
    ctl(0, "delete bob: ok\n", 'delete', 'bob');
    $clock->advance(9 * $DAY);
    ctl(0, undef, 'compact', '-A');
    is(scalar(my @kept = glob "$site->{backup}{dir}/part/b/bob_*.deleted.*[0-9]"), 1, 'nine days later it is there');
    $clock->advance(1 * $DAY + 60);
    ctl(0, undef, 'compact', '-A');
    is(join(' ', glob "$site->{backup}{dir}/part/b/*"), '', 'after ten days it goes');
};

# What the server says when an account is removed for good.
subtest 'a user is gone, and so is the retention' => sub {
    synced('bob');
    my $c = $site->backup_csync;
    is($c->command('APPLY UNUSER bob')->{status}, 'OK', 'gone');
    is($c->command('EXIT')->{status}, 'OK', 'said');
    ctl(0, undef, 'compact', '-A');
    ok($site->data_file('bob'), 'the backup stays');
    $clock->advance(8 * $DAY);
    my $r = ctl(0, undef, 'compact', '-A');
    is($site->data_file('bob'), undef, 'until the retention has passed') or diag($r->{out});
    ctl(0, qr/\A[^\t]*\t\d+\tbob\t/, 'list', '--deleted', 'bob');
    ctl(0, "undelete bob: ok\n", 'undelete', 'bob');
};

# Ten years pass in a moment: nothing goes, neither a deleted backup nor history.
subtest 'the clock leaps' => sub {
    synced('bob');
    my $imap = $site->imap_as('alice');
    my $moment = do {
        my $epoch = $clock->now;
        $clock->advance(5);
        $imap->must(select => 'INBOX');
        $imap->must(store => '1:*', '+FLAGS', '(\\Deleted)');
        $imap->must('expunge');
        synced('alice');
        $clock->advance(5);
        POSIX::strftime('%Y-%m-%d %H:%M:%S', localtime $epoch);
    };
    my $list = sub { return $site->cyr_backup('alice', 'list', 'messages', "--as-of=$moment")->{out} };
    my $was = $list->();
    like($was, qr/[0-9a-f]{40}/, 'messages of a moment ago');
    ctl(0, "delete bob: ok\n", 'delete', 'bob');
    ctl(0, undef, 'compact', '-A');
    $clock->advance(3650 * $DAY);
    for my $command (['-F', 'compact', '-A'], ['delete', '--expired'], ['-F', 'compact', 'alice']) {
        my $r = ctl(75, undef, @$command);
        like($r->{err}, qr/the clock leapt by 36(?:49|50) days since the last run/, "@$command: said");
    }
    is(scalar(my @kept = glob "$site->{backup}{dir}/part/b/bob_*.deleted.*[0-9]"), 1, 'the deleted backup is there');
    is($list->(), $was, 'and so is history');
    $clock->advance(-3650 * $DAY);
    ctl(0, undef, '-F', 'compact', '-A');
    is($list->(), $was, 'after the clock was corrected, too');
    $clock->advance(50 * $DAY); # the host was out of use
    ctl(75, undef, '-F', 'compact', '-A');
    is($list->(), $was, 'fifty days later, for the time being');
    $clock->advance($DAY + 60);
    ctl(0, undef, '-F', 'compact', '-A');
    is(join(' ', glob "$site->{backup}{dir}/part/b/*"), '', 'a day later the deleted backup goes');
    isnt($list->(), $was, 'and so does history');
};

subtest 'at once' => sub {
    synced('bob');
    ctl(0, "delete bob: ok\n", 'delete', '-F', '--now', 'bob');
    is(join(' ', glob "$site->{backup}{dir}/part/b/*"), '', 'nothing is left');
    synced('bob');
    no_differences('both sides equal', differences($site, 'bob', full => 1));
};

subtest 'by path' => sub {
    my $file = $site->data_file('bob');
    (my $copy = $file) =~ s/_\w+$/_ZZZZZZ/;
    my $notes = "$site->{backup}{dir}/my_backup";
    is(run_cmd(cmd => [as_cyrus('cp', $site->{backup}->conf, $notes)])->{rc}, 0, 'another file');
    ctl(75, "delete $_: failed (it is no data file of a backup, called <userid>_XXXXXX)\n", 'delete', '-f', $_)
        for $notes, "$file.index";
    ok(-e $notes && -e "$file.index", 'they stay');
    ctl(75, "delete $file: failed (it is in backups.db: name its user instead)\n", 'delete', '-f', $file);
    is(run_cmd(cmd => [as_cyrus('cp', $file, $copy)])->{rc}, 0, 'a copy');
    ctl(0, "delete $copy: ok\n", 'delete', '-f', $copy);
    ok(!-e $copy && glob("$copy.deleted.*"), 'is set aside');
};

subtest 'the file is gone' => sub {
    my $file = $site->data_file('bob');
    unlink glob "$file*";
    ctl(75, qr/^delete bob: failed \(.*with -F its record is removed\)$/, 'delete', 'bob');
    ctl(0, "delete bob: ok\n", 'delete', '-F', 'bob');
    synced('bob');
    no_differences('both sides equal', differences($site, 'bob', full => 1));
};

# The server renames a user, and the log that would have told it is lost.
subtest 'a user is renamed' => sub {
    my $admin = $site->admin;
    my $before = backup_state($site, 'old');
    my %ids = map { $_->{mboxname} => $_->{uniqueid} } @{ $before->{mailboxes} };
    $site->add_user('new');
    $admin->must(rename => 'user.old', 'user.new');
    $admin->must(setacl => 'user.new', 'admin', 'lrswipkxtecdan');
    unlink glob "$site->{imap}{dir}/conf/sync/*/log*";
    ctl(64, '', 'rename', 'old');
    ctl(75, "rename nobody: failed (not found in backups.db)\n", 'rename', 'nobody', 'new');
    ctl(75, "rename old: failed (the new user has a backup)\n", 'rename', 'old', 'alice');
    my $j = ctl(75, undef, 'rename', '-j', 'old', 'alice');
    is(JSON->new->canonical->encode(JSON->new->decode($j->{out})), '{"command":"rename","new_userid":"alice",'
        . '"status":"failed (the new user has a backup)","userid":"old"}', 'the same as JSON');
    ctl(0, "rename old: ok\n", 'rename', 'old', 'new');
    my $file = $site->data_file('new');
    ok($file, 'the file has the new name');
    is($site->data_file('old'), undef, 'and not the old one');
    my $size = -s $file;
    my $state = backup_state($site, 'new');
    is(join(' ', map { "$_->{mboxname} $_->{uniqueid}" } @{ $state->{mailboxes} }),
        "user.new $ids{'user.old'}", 'its mailbox is called so, and is the same one');
    my $r = synced('new', 'proxy');
    no_differences('both sides equal', differences($site, 'new'));
    my $sent = join "\n", map { ref $_ eq 'HASH' ? $_->{text} // $_->{line} // '' : $_ } @{ $r->{commands} };
    note($sent);
    unlike($sent, qr/APPLY MESSAGE/, 'no message was sent again');
    is($site->data_file('new'), $file, 'it is the same file');
    $r = synced('new', 'proxy');
    my @unwanted = CBTest::Scenarios::unwanted(@{ $r->{commands} });
    ok(!@unwanted, 'then nothing more') or diag(CBTest::Relay::excerpt(@unwanted));
    ctl(75, '', 'list', 'old');
    is(scalar(grep { $_->{guid} } map { @{ $_->{records} } } @{ backup_state($site, 'new')->{mailboxes} }), 4,
        'all four messages are there');
};
memory_ok($site);
done_testing;
