#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Defects of the earlier backup programs that no other test file is about; doc/upstream.md says
# which defect is shown to be absent by which test.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state);
use CBTest::Feed qw(message file_item);
use CBTest::Sentry;
use CBTest::Util qw(run_cmd sha1_hex slurp wait_until);
use Compress::Raw::Zlib qw(WANT_GZIP Z_STREAM_END);
use Fcntl qw(F_GETLK F_WRLCK F_UNLCK SEEK_SET O_RDWR);
use File::Find;
use Test::More;

my $s = CBTest::Sentry->new(options => { backup_lock_wait => '0s' });
my $site = $s->{site};
my $staging = "$site->{backup}{dir}/staging";

# The lengths of all gzip members of a file, uncompressed.
sub member_lengths
{
    my ($file) = @_;
    my $bytes = slurp($file);
    my @lengths;
    while (length $bytes) {
        my ($inflate) = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP);
        my $status = $inflate->inflate($bytes, my $text);
        die "$file: inflate: $status\n" if $status != Z_STREAM_END;
        push @lengths, length $text;
    }
    return @lengths;
}

# Could somebody else have the lock of a data file now? Asks the kernel, takes nothing.
sub is_locked
{
    my ($file) = @_;
    sysopen my $handle, $file, O_RDWR or die "$file: $!\n";
    my $lock = pack 's s x4 q q l x4', F_WRLCK, SEEK_SET, 0, 0, 0;
    fcntl $handle, F_GETLK, $lock or die "F_GETLK: $!\n";
    return (unpack 's', $lock)[0] != F_UNLCK;
}

sub files_below
{
    my ($dir) = @_;
    my @found;
    find(sub { push @found, $File::Find::name if !-d }, $dir);
    return sort @found;
}

sub all_bytes
{
    return join "\n", map { "$_ " . sha1_hex(slurp($_)) } $site->all_data_files;
}

subtest 'asking writes nothing' => sub {
    $s->{c}->command('RESTART');
    my $before = all_bytes();
    for my $round (1 .. 3) {
        my $c = $site->backup_csync;
        is($c->command($_)->{status}, 'OK', $_) for 'GET USER alice', 'GET META alice',
            'GET MAILBOXES (user.alice user.alice.x user.nobody)', 'GET USER nobody',
            "APPLY RESERVE %(PARTITION default MBOXNAME (user.alice) GUID ($s->{box}{records}[0]{guid}))",
            'GET UNIQUEIDS (x)', 'RESTART', 'EXIT';
    }
    is(all_bytes(), $before, 'the data files are as they were, and there is none more');
};

subtest 'a delta of nothing adds nothing but its header' => sub {
    my $file = $site->data_file('alice');
    my $before = -s $file;
    $s->{c}->get('USER alice');
    is($s->{c}->command($s->{box}->apply(records => []))->{text}, 'OK Success', 'MAILBOX without records');
    $s->{c}->command('RESTART');
    cmp_ok(-s $file, '<', $before + 1024, 'the file has hardly grown');
    $s->acknowledged;
};

subtest 'who else was asked about is not told to a backup' => sub {
    my @boxes = map { CBTest::Feed->new(mboxname => "user.$_") } qw(secret1 secret2);
    for my $box (@boxes) {
        $box->append(message("first of $box->{mboxname}"));
        $box->sync($s->{c});
    }
    my $r = $boxes[0]->append(message('for the first of both'));
    $s->{c}->get('MAILBOXES (user.secret1 user.secret2)');
    is($s->{c}->command("APPLY RESERVE %(PARTITION default MBOXNAME (user.secret1 user.secret2)"
        . " GUID ($r->{guid}))")->{text}, 'OK Success', 'RESERVE for both');
    is($s->{c}->command($boxes[0]->upload($r->{modseq} - 1))->{text}, 'OK Success', 'MESSAGE');
    is($s->{c}->command($boxes[0]->apply(since => $r->{modseq} - 1))->{text}, 'OK Success', 'MAILBOX');
    $s->{c}->command('RESTART');
    for my $n (0, 1) {
        my $text = CBTest::Sentry::unzipped($site->data_file('secret' . ($n + 1)));
        my $other = 'secret' . (2 - $n);
        like($text, qr/MBOXNAME user\.secret/, 'the file is what it should be');
        unlike($text, qr/\Q$other\E/, "nothing of $other in it");
        unlike($text, qr/APPLY RESERVE/, 'and no RESERVE');
    }
};

subtest 'EXIT and RESTART are answered when the lock is free again' => sub {
    my $file = $site->data_file('alice');
    for my $round (1 .. 20) {
        my $verb = $round % 2 ? 'EXIT' : 'RESTART';
        my $c = $site->backup_csync;
        $c->get('USER alice');
        my $was = is_locked($file);
        my $reply = $c->command($verb)->{status};
        my $is = is_locked($file);
        next if $was && $reply eq 'OK' && !$is;
        return fail("$verb, round $round: before " . ($was ? 'locked' : 'free') . ", then $reply, "
            . ($is ? 'locked' : 'free'));
    }
    pass('twenty times');
};

subtest 'the synchronising form of a literal' => sub {
    for my $command ("APPLY SUB %(USERID {5}\r\nalice MBOXNAME {12}\r\nuser.alice.x)",
        "APPLY UNSUB %(USERID {5}\r\nalice MBOXNAME {12}\r\nuser.alice.x)") {
        my $r = $s->{c}->command($command);
        is($r->{text}, 'OK Success', 'is understood, no continuation is asked for');
    }
    $s->sound('the synchronising form of a literal');
};

subtest 'chunks are bounded' => sub {
    my $box = CBTest::Feed->new(mboxname => 'user.bounded');
    $box->append(message("number $_", 40_000)) for 1 .. 200;
    $box->sync($s->{c});
    $s->{c}->command('RESTART');
    my @lengths = member_lengths($site->data_file('bounded'));
    cmp_ok(scalar @lengths, '>=', 8, 'eight megabytes are ' . @lengths . ' chunks');
    is(scalar(grep { $_ > 2 << 20 } @lengths), 0, 'none is larger than 2 MiB');
    is(scalar(grep { $_ <= 29 } @lengths), 0, 'and none is empty');
};

subtest 'no file stays in the staging folder' => sub {
    my @boxes = map { CBTest::Feed->new(mboxname => "user.stage$_") } 1, 2;
    my $c = $site->backup_csync;
    $c->get('MAILBOXES (user.stage1 user.stage2)');
    for my $box (@boxes) {
        $box->append(message("spooled $box->{mboxname} $_", 100_000)) for 1 .. 10;
        is($c->command($box->upload)->{text}, 'OK Success', "MESSAGE for $box->{mboxname}");
    }
    $c->send_raw('APPLY MESSAGE (%{default ' . '0' x 40 . " 5000000}\r\n" . 'x' x 3_000_000);
    my @names = files_below($staging);
    is("@names", '', 'none has a name while they are in use');
    undef $c; # cut off in the middle
    wait_until('the other connection to end', sub { 1 == (() = glob "$site->{backup}{dir}/conf/proc/[0-9]*") });
    is(join(' ', files_below($staging)), '', 'nor afterwards');
};

subtest 'looking into a backup needs no staging and writes nothing' => sub {
    my $mode = (stat $staging)[2] & 07777;
    chmod 0, $staging or die "chmod: $!";
    my $before = all_bytes();
    for my $r (@{ $s->{box}{records} }) {
        my $got = $site->cyr_backup('alice', 'dump', 'message', $r->{guid});
        is($got->{rc}, 0, "dump: $r->{size} bytes");
        is(sha1_hex($got->{out}), $r->{guid}, 'it is the message');
    }
    chmod $mode, $staging or die "chmod: $!";
    is(all_bytes(), $before, 'the data files are as they were');
};

subtest 'a script of several lines is read back from the file' => sub {
    my $script = "require [\"fileinto\"];\r\nif header :is \"a\" \"b\" {\r\n  keep;\r\n}\r\n# \xc3\xa9\r\n";
    my $text = sprintf "{%d+}\r\n%s", length $script, $script;
    is($s->{c}->command("APPLY SIEVE %(USERID alice FILENAME long.script LAST_UPDATE 1700000000 CONTENT $text)")
        ->{text}, 'OK Success', 'SIEVE');
    is($s->{c}->command('APPLY SUB %(USERID alice MBOXNAME user.alice.behind)')->{text}, 'OK Success',
        'another line behind it');
    $s->{c}->command('RESTART');
    my $live = backup_state($site, 'alice');
    unlink "$_" or die "$_: $!" for glob $site->data_file('alice') . '.index*';
    is_deeply(backup_state($site, 'alice'), $live, 'a rebuilt index says the same');
    my ($listed) = grep { $_->{FILENAME} eq 'long.script' } @{ $s->{c}->get('USER alice')->{SIEVE} // [] };
    is($listed->{GUID}, sha1_hex($script), 'the script is listed with its checksum');
    my ($sub) = grep { /behind/ } map { ref $_ ? @{$_} : $_ } @{ $s->{c}->get('USER alice')->{LSUB} // [] };
    ok($sub, 'and what was behind it is there');
};

$s->modest;
done_testing;
