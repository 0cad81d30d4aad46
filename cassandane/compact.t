#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Compaction of what real servers sent: within the window everything is as IMAP had it, both sides
# agree, nothing has to be sent again, and the file is one that zcat and Cyrus read. Compaction
# while a rolling client is at work loses nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Case;
use CBTest::Compare qw(differences);
use CBTest::Imap;
use CBTest::Moments qw(moment);
use CBTest::Scenarios qw(memory_ok no_differences run_step);
use CBTest::Site;
use CBTest::Upstream qw(compare_file);
use CBTest::Util qw(as_cyrus run_cmd sha1_hex slurp);
use JSON;
use Test::More;

sub ctl
{
    my ($site, $rc, $out, @args) = @_;
    my $r = $site->ctl_backups(@args);
    is($r->{rc}, $rc, "@args: exit") or diag("$r->{out}$r->{err}");
    ref $out ? like($r->{out}, $out, "@args: what it says") : is($r->{out}, $out, "@args: what it says")
        if defined $out;
    return $r;
}

sub nothing_to_send
{
    my ($site, @how) = @_;
    my $r = $site->sync('proxy', @how);
    my @unwanted = CBTest::Scenarios::unwanted(@{ $r->{commands} });
    ok(!@unwanted, 'nothing has to be sent') or diag(CBTest::Relay::excerpt(@unwanted));
    return;
}

# Both sides, but for messages that are expunged on either: compaction drops these records.
sub equal
{
    my ($what, $site, $user) = @_;
    my $of = CBTest::Compare::backup_json($site, $user, 'all')->{mailboxes};
    my %live = map { my $m = $_; map { ("$m->{mboxname} uid $_->{uid}" => 1) } grep { !$_->{expunged} }
        @{ $m->{records} } } @{$of};
    return no_differences($what, grep { !/^csync (.* uid \d+): not in the backup$/ || $live{$1} }
        differences($site, $user, full => 1));
}

# What IMAP and csync had at moment M, and the backup says of it now.
sub as_it_was
{
    my ($site, $m, $kept) = @_;
    my $now = CBTest::Compare::backup_json($site, $m->{user}, 'all', '--as-of', "\@$m->{at}");
    my @d = (CBTest::Compare::imap_differences($site->names, $m->{user}, $m->{imap}, $now, kept => $kept),
        CBTest::Compare::crc_differences($now));
    return grep { !(/ (\S.*): only in the backup\z/ && $kept->{ $1 =~ s/.* //r }) } @d;
}

my $days = 12;
for my $theme (split ' ', $ENV{THEMES} // 'Basic Folders') {
    subtest "what happens to mailboxes: $theme" => sub {
        my $site = CBTest::Site->new(users => [qw(alice frank)], clock => 1,
            options => { backup => { backup_retention => "${days}d" } });
        my $c = CBTest::Case->new(site => $site, user => 'alice', reader => 'frank');
        my @moments;
        for my $step (CBTest::Scenarios::steps_of($theme)) {
            my $ok = run_step($c, 'user', @{$step});
            next if !$ok || $c->{fails};
            push @moments, { %{ moment($site, 'alice', $step->[0]) }, kept => { %{ $c->{kept} // {} } } };
            next unless @moments == 10; # and once more at the end
            ctl($site, 0, "compact alice: ok\n", qw(-F compact alice));
            equal('compacted once', $site, 'alice');
        }
        cmp_ok(scalar @moments, '>', $days, 'moments');
        my $old = $site->data_file('alice');
        my ($size, $text) = (-s $old, sha1_hex(slurp($old)));
        my $r = ctl($site, 0, qr/^alice: messages: \d+ of \d+ go/m, qw(compact --dry-run alice));
        is(sha1_hex(slurp($site->data_file('alice'))), $text, 'a dry run');
        $r = ctl($site, 0, undef, qw(-F compact -j alice));
        my $object = JSON->new->decode($r->{out});
        is($object->{status}, 'ok', 'compacted, as JSON');
        my $file = $site->data_file('alice');
        isnt($file, $old, 'another file');
        ok(!-e $old && !-e "$old.index", 'the old pair is gone');
        is($object->{new_size}, -s $file, 'its size');
        cmp_ok(-s $file, '<', $size, 'smaller');
        my $tested = 0;
        for my $m (grep { $_->{at} > $site->{clock}->now - $days * 86_400 } @moments) {
            my @d = eval { as_it_was($site, $m, $m->{kept}) };
            no_differences("$m->{name}: as it was then", @d, $@ || ());
            $tested++;
        }
        cmp_ok($tested, '>=', $days - 2, 'moments within the window');
        is($site->cyr_backup('alice', qw(json all --as-of), "\@$moments[0]{at}")->{rc}, 75,
            'before the window nothing is claimed');
        equal('both sides equal', $site, 'alice');
        nothing_to_send($site, '-u', 'alice');
        is(run_cmd(cmd => ['gzip', '-t'], input => slurp($file))->{rc}, 0, 'gzip -t');
        my %seen;
        compare_file($site, $file, \%seen);
        ctl($site, 0, "compact alice: skipped\n", qw(compact alice));
        is($site->data_file('alice'), $file, 'nothing to do');
        # and a new index says the same
        my $said = $site->cyr_backup(qw(alice json all))->{out};
        unlink glob "$file.index*";
        is($site->cyr_backup(qw(alice json all))->{out}, $said, 'with a new index');
        memory_ok($site);
        $site->stop;
    };
}

subtest 'a file by its path, the previous pair kept' => sub {
    my $site = CBTest::Site->new(users => ['alice'],
        options => { backup => { backup_retention => '1s', backup_keep_previous => 'yes' } });
    $site->imap_as('alice')->append('INBOX', CBTest::Imap::message()) for 1 .. 4;
    is($site->sync('tcp', '-u', 'alice')->{rc}, 0, 'synchronised');
    my $loose = "$site->{backup}{dir}/part/loose";
    run_cmd(cmd => [as_cyrus('cp', $site->data_file('alice'), $loose)]);
    my $said = $site->cyr_backup('-f', $loose, qw(json all))->{out};
    my $was = slurp($loose);
    ctl($site, 0, "compact $loose: ok\n", qw(-F compact -f), $loose);
    isnt(slurp($loose), $was, 'it is another one now');
    my @kept = glob "$loose.{,index.}1?????????";
    is(scalar @kept, 2, 'data file and index are kept');
    is($kept[1] =~ s/\.index//r, $kept[0], 'under one time');
    is(slurp($kept[0]), $was, 'the one as it was');
    my $n = run_cmd(cmd => [as_cyrus('sqlite3', $kept[1], 'PRAGMA integrity_check; SELECT count(*) FROM records')]);
    is($n->{out}, "ok\n4\n", 'and so the other');
    is($site->cyr_backup('-f', $kept[0], qw(json all))->{out}, $said, 'they can be used');
    is($site->cyr_backup('-f', $loose, qw(json all))->{out}, $said, 'as can the new ones');
    ctl($site, 0, undef, qw(compact --expire-previous=0 -f), $loose);
    is(join(' ', glob "$loose.*[0-9]*"), '', 'and be expired');
    ok(-s $loose && -s "$loose.index", 'but nothing else');
    $site->stop;
};

subtest 'while a rolling client is at work' => sub {
    my @users = qw(alice bob);
    my $site = CBTest::Site->new(users => \@users,
        options => { backup => { backup_retention => '1s', backup_keep_previous => 'yes' } });
    my $daemon = $site->start_rolling('tcp');
    for my $round (1 .. 8) {
        for my $user (@users) {
            my $imap = $site->imap_as($user);
            $imap->append('INBOX', CBTest::Imap::message()) for 1 .. 4;
            $imap->must(select => 'INBOX');
            $imap->must(store => $round, '+FLAGS', '(\\Flagged)');
            $imap->must(store => $round + 1, '+FLAGS', '(\\Deleted)') if $round % 2;
            $imap->must('expunge');
            $imap->must('unselect');
        }
        $site->wait_rolling($daemon) if $round == 1; # then both have a backup
        ctl($site, 0, undef, qw(-w -F compact), @users);
    }
    $site->wait_rolling($daemon);
    is($site->stop_rolling($daemon), 0, 'the daemon ends when asked to');
    equal("$_: both sides equal", $site, $_) for @users;
    nothing_to_send($site, '-A');
    ctl($site, 0, undef, qw(-F compact), @users);    # what came last: so that there is nothing to do then
    my @kept = glob "$site->{backup}{dir}/part/*/*_??????.??????????";
    cmp_ok(scalar @kept, '>=', 7, 'old files were kept');
    my @data = $site->all_data_files;
    ctl($site, 0, undef, qw(compact --expire-previous), @users);
    is(scalar(() = glob "$site->{backup}{dir}/part/*/*_??????.??????????"), scalar @kept, 'for a week');
    ctl($site, 0, undef, qw(compact --expire-previous=0), @users);
    is(scalar(() = glob "$site->{backup}{dir}/part/*/*_??????.*[0-9]"), 0, 'and then no longer');
    is(join(' ', $site->all_data_files), "@data", 'but nothing else') if @data;
    is($site->ctl_backups('reconstruct')->{rc}, 0, 'the records are right');
    memory_ok($site);
};
done_testing;
