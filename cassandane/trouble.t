#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# backupd in bad surroundings: no room, no permission, no partition, no configuration. Clients are
# told IMAP_MAILBOX_LOCKED, which makes them come again; nothing that was acknowledged is lost; and
# when the cause is gone, the next sync works.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state);
use CBTest::Feed qw(message file_item);
use CBTest::Master;
use CBTest::Sentry;
use CBTest::Util qw(as_cyrus run_cmd start_cmd reap wait_until free_port slurp spew sha1_hex program);
use IO::Socket::UNIX;
use Test::More;
use Time::HiRes qw(time);

my $LOCKED = 'NO IMAP_MAILBOX_LOCKED Mailbox locked';
my $OK = 'OK Success';
my $TRAP = join '', map { "$_\r\n" } ('APPLY UNUSER alice', 'APPLY UNMAILBOX user.alice', 'EXIT') x 100_000;

# ---- a small file system ------------------------------------------------------

my @mounted;

# A file system of its own at DIR. Without the right to mount, none.
sub mount_small
{
    my ($dir, $size) = @_;
    my ($uid, $gid) = (getpwnam 'cyrus')[2, 3];
    my $options = "size=$size,uid=$uid,gid=$gid,mode=0755";
    run_cmd(cmd => [qw(mount -t tmpfs -o), $options, 'cbtest', $dir])->{rc} == 0
        or die "cannot mount a file system at $dir: run this as root\n";
    push @mounted, $dir;
    return;
}

sub unmount_all
{
    run_cmd(cmd => ['umount', '-l', $_]) for reverse splice @mounted;
    return;
}

END { local $?; unmount_all() }

# Another value of an option of the backup server, from now on.
sub set_option
{
    my ($s, $key, $value) = @_;
    delete $s->{c};
    my $backup = $s->{site}{backup};
    $backup->stop;
    $backup->{options}{$key} = $value;
    $backup->write_config;
    $backup->start;
    $s->connect;
    return;
}

sub says
{
    my ($s, $label, $bytes, $expected) = @_;
    my $r = eval { $s->{c}->command($bytes) } // { text => "none: $@" };
    ref $expected ? like($r->{text}, $expected, $label) : is($r->{text}, $expected, $label);
    return $r;
}

# ---- staging ----------------------------------------------------------------------

# No owner is known, so uploads go to the spool.
sub staging_is_of_no_use
{
    my ($s, $why) = @_;
    $s->connect;
    my $large = message('large', 4_000_000);
    my $start = time;
    says($s, "$why: 4 MB", 'APPLY MESSAGE (' . file_item($large) . ')', $LOCKED);
    cmp_ok(time - $start, '>=', 0.9, "$why: after a pause");
    $s->sound("$why: 4 MB");
    $s->{c}->command('RESTART');
    $s->connect;
    says($s, "$why: commands in a file", 'APPLY MESSAGE (' . file_item($TRAP) . ' ' . file_item($TRAP) . ')', $LOCKED);
    says($s, "$why: still in step", 'NOOP', 'OK Noop completed');
    $s->sound("$why: commands in a file");
    my $box = CBTest::Feed->new(mboxname => 'user.alice.Large');
    $box->append($large);
    says($s, "$why: 4 MB for alice", $box->upload, $LOCKED);
    $s->sound("$why: 4 MB for alice");
    return $box;
}

{
    my $s = CBTest::Sentry->new;
    my $staging = "$s->{site}{backup}{dir}/staging";
    mount_small($staging, '1m');
    my $box = staging_is_of_no_use($s, 'staging is full');
    unmount_all();
    chmod 0, $staging or die;
    staging_is_of_no_use($s, 'staging without permission');
    rmdir $staging or die "rmdir $staging: $!";
    spew($staging, 'x');
    staging_is_of_no_use($s, 'staging is a file');
    unlink $staging;
    $box->sync($s->{c});
    my $state = backup_state($s->{site}, 'alice');
    is((grep { $_->{uniqueid} eq $box->{uniqueid} } @{ $state->{mailboxes} }), 1,
        'staging is made when it is missing, and the sync works');
    $s->modest;
    $s->{site}->stop;
}

# ---- partition ----------------------------------------------------------------------

sub new_user_is_told
{
    my ($s, $why, $user) = @_;
    my $box = CBTest::Feed->new(mboxname => "user.$user");
    $box->append(message("hello $user", 3000));
    says($s, "$why: GET USER", "GET USER $user", $OK);
    my $start = time;
    says($s, "$why: MESSAGE", $box->upload, $LOCKED);
    cmp_ok(time - $start, '>=', 0.9, "$why: after a pause");
    says($s, "$why: MAILBOX", $box->apply, $LOCKED);
    says($s, "$why: SUB", "APPLY SUB %(USERID $user MBOXNAME x)", $LOCKED);
    says($s, "$why: still in step", 'NOOP', 'OK Noop completed');
    return $box;
}

{
    my $s = CBTest::Sentry->new;
    my $part = "$s->{site}{backup}{dir}/part";
    my @dirs = glob "$part/*";
    my %mode = map { $_ => (stat)[2] & 07777 } $part, @dirs;
    chmod 0555, $part, @dirs;
    my $box = new_user_is_told($s, 'partition is read-only', 'bob');
    $s->sound('partition is read-only');
    chmod 0, $part;
    new_user_is_told($s, 'partition without permission', 'bob');
    says($s, 'alice, too', 'GET USER alice', $LOCKED);
    says($s, 'a new connection, too', 'GET USER alice', $LOCKED) if $s->connect;
    chmod $mode{$_}, $_ for $part, @dirs;
    $s->sound('permission is back');
    $box->sync($s->{c});
    is(backup_state($s->{site}, 'bob')->{mailboxes}[0]{last_uid}, 1, 'the next sync works');

    my ($file) = $s->{site}->data_file('alice');
    $s->connect;
    chmod 0444, $file;
    says($s, 'the data file is read-only', 'GET USER alice', $LOCKED);
    chmod 0600, $file;
    $s->sound('it is not any more');
    $s->connect;
    rename $file, "$file.away";
    says($s, 'the data file is gone', 'GET USER alice', $LOCKED);
    says($s, 'and not made anew', 'APPLY SUB %(USERID alice MBOXNAME x)', $LOCKED);
    ok(!-e $file, 'there is no other in its place');
    rename "$file.away", $file;
    $s->sound('it is there again');

    # backups.db
    my $db = "$s->{site}{backup}{dir}/conf/backups.db";
    my $good = slurp($db);
    for my $bad (['garbage', 'x' x 5000], ['empty', ''], ['half of it', substr $good, 0, length($good) / 2],
        ['text', "alice\t$file\n"]) {
        my ($what, $bytes) = @{$bad};
        delete $s->{c};
        spew("$db.new", $bytes);
        rename "$db.new", $db;
        run_cmd(cmd => ['chown', 'cyrus:mail', $db]);
        my $c = eval { $s->{site}->backup_csync };
        my $r = eval { $c->command('APPLY SUB %(USERID alice MBOXNAME y)') } // { text => "none: $@" };
        like($r->{text}, $what eq 'empty' ? qr/^(?:OK|NO IMAP_MAILBOX_LOCKED)/ : qr/^\Q$LOCKED\E$/,
            "backups.db is $what: a clear answer");
        undef $c;
        is(slurp($db), $bytes, "backups.db is $what: it is left alone") unless $what eq 'empty';
        spew("$db.new", $good);
        rename "$db.new", $db;
        run_cmd(cmd => ['chown', 'cyrus:mail', $db]);
        $s->connect;
        $s->sound("backups.db was $what");
    }
    delete $s->{c};
    chmod 0, $db;
    says($s, 'backups.db without permission', 'GET USER alice', $LOCKED) if $s->connect;
    chmod 0600, $db;
    says($s, 'and the same connection, when it is back', 'GET USER alice', $OK);
    $s->sound('backups.db has its permission back');

    # A partition that is not mounted. Who is known is not begun anew, and neither is anybody else.
    rename $part, "$part.away" or die;
    run_cmd(cmd => [as_cyrus('mkdir', $part)]);
    $s->connect;
    new_user_is_told($s, 'the partition is not mounted', 'carol');
    says($s, 'alice, too', 'GET USER alice', $LOCKED);
    is_deeply([glob "$part/*"], [], 'nothing was made in the empty directory');
    my $r = $s->{site}->ctl_backups('reconstruct');
    like($r->{out}, qr/^reconstruct alice: wrong \(.*: the data file is gone/m, 'reconstruct says so');
    like($s->{site}->ctl_backups('verify', 'alice')->{out},
        qr/^verify alice: failed \(.*is its partition mounted\?\)$/, 'verify, too');
    rmdir $part or die;
    $r = $s->{site}->ctl_backups('reconstruct');
    is($r->{rc}, 75, 'not even the mount point is there');
    like($r->{out}, qr/unreadable \(\Q$part\E: cannot be read: No such file or directory\)/, 'and that is said');
    rename "$part.away", $part or die;
    $s->sound('the partition is mounted');
    $s->modest;
    $s->{site}->stop;
}
{
    my $s = CBTest::Sentry->new;
    my $site = $s->{site};
    set_option($s, 'backuppartition-default', undef);
    new_user_is_told($s, 'no partition is configured', 'bob');
    $s->sound('no partition is configured');
    set_option($s, 'backuppartition-default', 'relative/path');
    new_user_is_told($s, 'the partition is no absolute path', 'bob');
    $s->sound('the partition is no absolute path');
    $site->stop;
}

# ---- the disk is full ---------------------------------------------------------------

{
    my $s = CBTest::Sentry->new;
    my $site = $s->{site};
    my $dir = "$site->{backup}{dir}/small";
    mkdir $dir or die;
    mount_small($dir, '2m');
    set_option($s, 'backuppartition-default', $dir);
    my $box = CBTest::Feed->new(mboxname => 'user.bob');
    my ($synced, $why) = (0);
    while (!$why && $synced < 100) {
        # text that does not compress
        my $text = message('bob ' . ++$synced) . join '', map { sha1_hex("$synced $_") . "\r\n" } 1 .. 3000;
        $box->append($text);
        # After a failure the index is opened anew, which makes a little room: its log is folded in.
        $why = '';
        eval { $box->sync($s->{c}); 1 } or eval { $box->sync($s->{c}); 1 } or $why = $@;
    }
    $synced--;
    cmp_ok($synced, '>', 3, "$synced syncs had room");
    is($why, "user.bob: $LOCKED\n", 'the next one had none');
    my $file = (grep { /bob_[^.]+$/ } glob "$dir/*/*")[0];
    my $whole = sub {
        my $state = backup_state($site, 'bob');
        return join ' ', map { $_->{uid} } @{ $state->{mailboxes}[0]{records} };
    };
    is($whole->(), join(' ', 1 .. $synced), 'all that was acknowledged is there');
    is(run_cmd(cmd => ['zcat', $file], timeout => 20)->{rc}, 0, 'and the file is valid');
    says($s, 'still in step', 'NOOP', 'OK Noop completed');
    for my $try (1, 2) {
        eval { $box->sync($s->{c}); 1 } and fail('no room, and OK all the same');
        is($@, "user.bob: $LOCKED\n", 'LOCKED again');
    }
    says($s, 'RESTART', 'RESTART', 'OK Restarting');
    $s->sound('the disk is full');
    $s->connect;
    is(eval { $s->{c}->get('USER bob')->{MAILBOX}[0]{LAST_UID} } // $@, $synced, 'it can still be listed');
    run_cmd(cmd => ['mount', '-o', 'remount,size=20m', $dir])->{rc} == 0 or die;
    $box->sync($s->{c});
    is($whole->(), join(' ', 1 .. $synced + 1), 'there is room again: the next sync works');
    is(run_cmd(cmd => ['zcat', $file], timeout => 20)->{rc}, 0, 'and the file is valid');
    for my $r (@{ $box->{records} }) {
        my $got = $site->cyr_backup('bob', 'dump', 'message', $r->{guid});
        next if sha1_hex($got->{out}) eq $r->{guid};
        fail("content of UID $r->{uid}");
    }
    # A commit that fails takes with it what was uploaded before; who relies on it all the same is told.
    my $since = $box->{modseq};
    $box->append(message('bob again') . join '', map { sha1_hex("again $_") . "\r\n" } 1 .. 3000);
    $s->{c}->get('USER bob');
    says($s, 'an upload', $box->upload($since), 'OK Success');
    run_cmd(cmd => ['dd', 'if=/dev/zero', "of=$dir/filler", 'bs=64k'])->{rc} != 0 or fail('the disk is not full');
    says($s, 'no room to commit', $box->apply(since => $since), $LOCKED);
    unlink "$dir/filler" or die;
    says($s, 'the same without the upload', $box->apply(since => $since),
        'NO IMAP_SYNC_CHECKSUM Checksum Failure');
    $box->sync($s->{c});
    is($whole->(), join(' ', 1 .. $synced + 2), 'it is there');
    is(sha1_hex($site->cyr_backup('bob', 'dump', 'message', $box->{records}[-1]{guid})->{out}),
        $box->{records}[-1]{guid}, 'with its content');
    $s->sound('the disk is full no more');
    $s->modest;
    unmount_all();
    $site->stop;
}

# ---- the configuration ------------------------------------------------------------------

# Starts backupd as master would; its exit code and what it said.
sub start_alone
{
    my ($m) = @_;
    my $listener = IO::Socket::UNIX->new(Local => "$m->{dir}/alone.sock", Listen => 1) or die;
    pipe my $r, my $w or die;
    my $pid = $m->run_alone(cmd => [program('backupd'), '-C', $m->conf], service => 'backupd',
        listener => $listener, status => $w);
    my $rc = reap($pid, 20);
    unlink "$m->{dir}/alone.sock";
    return ($rc, $m->stderr);
}

{
    my $m = CBTest::Master->new;
    $m->configure(configdirectory => "$m->{dir}/nosuch");
    my ($rc, $err) = start_alone($m);
    is($rc, 78, 'configdirectory does not exist: exit code');
    like($err, qr{configdirectory \Q$m->{dir}\E/nosuch: No such file}, 'and the reason');
    $m->configure(configdirectory => undef);
    ($rc, $err) = start_alone($m);
    is($rc, 78, 'configdirectory is not set: exit code');
    like($err, qr/configdirectory/, 'and the reason');
    $m->configure(configdirectory => $m->confdir, backup_db => 'skiplist');
    ($rc, $err) = start_alone($m);
    is($rc, 78, 'a kind of database that is not supported: exit code');
    like($err, qr/backup_db: skiplist is not supported/, 'and the reason');
    $m->configure(backup_db => undef, backup_db_path => 'no/path');
    ($rc, $err) = start_alone($m);
    is($rc, 78, 'backup_db_path is not absolute: exit code');
    like($err, qr{backup_db_path: no/path}, 'and the reason');
    $m->configure(backup_db_path => undef);
    chmod 0, $m->conf;
    ($rc, $err) = start_alone($m);
    is($rc, 78, 'imapd.conf cannot be read: exit code');
    like($err, qr/imapd\.conf.*Permission denied/, 'and the reason');
    unlink $m->conf;
    ($rc, $err) = start_alone($m);
    is($rc, 78, 'imapd.conf is missing: exit code');
    like($err, qr/imapd\.conf.*No such file/, 'and the reason');
    spew($m->conf, "configdirectory: " . $m->confdir . "\nthis is no option\n\0\xff\n");
    ($rc, $err) = start_alone($m);
    is($rc, 78, 'imapd.conf is nonsense: exit code');
    like($err, qr/imapd\.conf.*\b2\b/, 'and the reason, with the line');
    $m->stop;
}
done_testing;
