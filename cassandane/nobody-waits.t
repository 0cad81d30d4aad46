#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# While a backup of 400 MB is compacted, verified, indexed anew and moved, a rolling sync_client goes on
# with it, and no message comes into it more than two seconds later than it would otherwise.
# When one is there is seen in the data file itself: its GUID in a committed MAILBOX line.
# Runs with CYRUS_BACKUPS_LONG=1 only, as it takes long; WAIT_MB is another size.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare;
use CBTest::Imap;
use CBTest::Scenarios qw(no_differences);
use CBTest::Server qw(by_csync);
use CBTest::Site;
use CBTest::Util qw(as_cyrus program slurp start_cmd);
use Compress::Raw::Zlib qw(WANT_GZIP Z_STREAM_END);
use Digest::SHA qw(sha1_hex);
use MIME::Base64 qw(encode_base64);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'takes long: set CYRUS_BACKUPS_LONG=1' unless $ENV{CYRUS_BACKUPS_LONG};
my $MB = $ENV{WAIT_MB} // 400;
my $LIMIT = 2;        # seconds
my $EVERY = 0.25;     # one message
my $TAIL = 1 << 18;   # of the file: all that comes in in the meantime is in there
my $DAY = 86400;

my $site = CBTest::Site->new(users => ['alice'], clock => 1, options => { backup => { backup_retention => '7d',
    'backuppartition-two' => '%dir%/part2', partition_select_exclude => 'two' } });
my $admin = $site->admin;
$admin->must(create => $_), $admin->must(setacl => $_, 'admin', 'lrswipkxtecdan') for 'big', 'small';

# Compaction has something to do: a tenth of it is expunged, and that is old.
subtest "$MB MB of shared mail" => sub {
    for my $mb (1 .. $MB) {
        open my $random, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
        read $random, my $bytes, 3 << 18;    # that is 1 MB in Base64, and does not compress below that
        $admin->append('big', CBTest::Imap::message(body => encode_base64($bytes, "\r\n")));
    }
    is($site->sync('unix', { timeout => 600 }, '-A')->{rc}, 0, 'synchronised');
    $admin->must(select => 'big');
    $admin->must(store => join(',', map { 10 * $_ } 1 .. $MB / 10), '+FLAGS', '(\\Deleted)');
    $admin->must('expunge');
    $admin->must('unselect');
    is($site->sync('unix', '-A')->{rc}, 0, 'and again');
    $site->{clock}->advance(9 * $DAY);
    cmp_ok(-s $site->data_file('%SHARED'), '>', $MB * 700_000, 'the file is as large as it should be');
};

# ---- the feed ---------------------------------------------------------------------------------

my (%sent, %size_of, @took);

sub send_one
{
    my $message = CBTest::Imap::message();
    $sent{ sha1_hex($message) } = time;
    $admin->append('small', $message);
    return;
}

# The text of all whole members in the last bytes of a file.
sub tail_text
{
    my ($file) = @_;
    open(my $fh, '<:raw', $file) or return '';
    my $size = -s $fh;
    seek $fh, $size > $TAIL ? $size - $TAIL : 0, 0;
    read($fh, my $bytes, $TAIL);
    my $text = '';
    while ($bytes =~ /\x1f\x8b\x08\x04/g) {
        my $rest = substr $bytes, $-[0];
        my $inflate = Compress::Raw::Zlib::Inflate->new(-WindowBits => WANT_GZIP);
        my $status = $inflate->inflate($rest, my $out);
        $text .= $out if $status == Z_STREAM_END;
    }
    return $text;
}

sub look_for_them
{
    for my $file (grep { m{/%SHARED_[^./]{6}$} } glob "$site->{backup}{dir}/part{,2}/*/*") {
        my @st = stat $file;
        next if !@st || ($size_of{"$st[1]"} // -1) == $st[7];
        $size_of{"$st[1]"} = $st[7];
        my $lines = join "\n", grep { / APPLY MAILBOX / } split /\r\n/, tail_text($file);
        for my $guid (grep { index($lines, $_) >= 0 } keys %sent) {
            push @took, time - delete $sent{$guid};
        }
    }
    return;
}

# Messages, until DONE says so (then until the last is there): how long each took.
sub feed
{
    my ($done) = @_;
    my $next = time;
    @took = ();
    while (!$done->()) {
        send_one(), $next += $EVERY if time >= $next;
        look_for_them();
        sleep 0.02;
    }
    my $end = time + 60;
    look_for_them(), sleep 0.02 while %sent && time < $end;
    ok(!%sent, 'all have come');
    %sent = ();
    return @took;
}

sub longest { my ($most) = sort { $b <=> $a } @_; return $most // 0 }
sub middle { my @s = sort { $a <=> $b } @_; return $s[@s / 2] // 0 }

# All but the messages themselves by csync, as IMAP would need to hold them; those from the data file.
sub differ
{
    my $source = by_csync($site, '%SHARED');
    my $backup = CBTest::Compare::backup_state($site, '%SHARED');
    my $stored = CBTest::Compare::stored_messages($site, '%SHARED');
    my %living = map { $_->{guid} => 1 } grep { !$_->{expunged} } map { @{ $_->{records} } } @{ $backup->{mailboxes} };
    return (CBTest::Compare::crc_differences($backup),
        CBTest::Compare::csync_differences($source, $backup, compacted => 1),
        map { "content of $_" } grep { ($stored->{$_} // '') ne $_ } sort keys %living);
}

my $daemon = $site->start_rolling('tcp');
$site->wait_rolling($daemon, 300);
my $idle;
subtest 'nothing else going on' => sub {
    my $until = time + 15;
    my @idle = feed(sub { time > $until });
    $idle = longest(@idle);
    note(sprintf '%d messages, %.2f s as a rule, %.2f s at the most', scalar @idle, middle(@idle), $idle);
};

for my $work (['-F', 'compact'], ['verify'], ['reindex'], ['--to=two', 'move']) {
    subtest "@{$work}" => sub {
        my $was = $site->data_file('%SHARED');
        my ($before, $index) = (-s $was, (stat "$was.index")[1]);
        my ($out, $err) = map { "$site->{dir}/worker.$_" } qw(out err);
        my $begun = time;
        my $pid = start_cmd(env => $site->{backup}->env, out => $out, err => $err,
            cmd => [as_cyrus(program('ctl_backups'), '-C', $site->{backup}->conf, @{$work}, '%SHARED')]);
        my ($status, $seconds);
        my @work = feed(sub {
            return 0 if waitpid($pid, POSIX::WNOHANG()) == 0;
            ($status, $seconds) = ($? >> 8, time - $begun);
            return 1;
        });
        note(sprintf '%.1f s; %d messages, %.2f s as a rule, %.2f s at the most', $seconds, scalar @work,
            middle(@work), longest(@work));
        is($status, 0, 'it succeeds') or diag(slurp($out), slurp($err));
        cmp_ok(scalar @work, '>', 2, 'it took long enough to see something');
        cmp_ok(longest(@work), '<', $idle + $LIMIT, "no message was delayed by $LIMIT s");
        my $is = $site->data_file('%SHARED');
        my %done = (
            compact => sub { -s $is < 0.95 * $before },
            verify => sub { slurp($out) =~ /^verify \S+: ok$/m },
            reindex => sub { $is eq $was && (stat "$is.index")[1] != $index },
            move => sub { $is =~ m{/part2/} },
        );
        ok($done{ $work->[-1] }->(), 'and did what it should');
        $site->wait_rolling($daemon);
        no_differences('both sides equal', differ());
    };
}
is($site->stop_rolling($daemon), 0, 'the daemon ends when asked to');
done_testing;
