#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# When a delta cannot say everything: the master has forgotten what it expunged, or the backup asks
# for records or for whole mailboxes again. The master's own mail must stay as it is throughout.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(differences backup_state);
use CBTest::Imap;
use CBTest::Scenarios qw(memory_ok no_differences synced_ok unwanted);
use CBTest::Site;
use CBTest::Util qw(as_cyrus run_cmd);
use Test::More;

my $site = CBTest::Site->new(users => ['alice']);
my $imap = $site->imap_as('alice');

sub lines { return map { $_->{line} } @{ $_[0]{commands} } }

# UIDs and flags as a mail program sees them.
sub seen_by_mail_program
{
    my $got = $imap->must(select => 'INBOX') && $imap->must(fetch => '1:*', '(UID FLAGS RFC822.SIZE)');
    return join ' ', map { "$_:" . ($got->{$_}{uid} // '') . ':' . $got->{$_}{'rfc822.size'} }
        sort { $a <=> $b } keys %$got;
}

sub set_mark
{
    my ($mark) = @_;
    my $index = $site->data_file('alice') . '.index';
    my $r = run_cmd(cmd => [as_cyrus('sqlite3', $index, "UPDATE folders SET mark=$mark")]);
    is($r->{rc}, 0, "mark $mark set") or diag($r->{err});
    return;
}

# Both sides equal, nothing more to say, nothing changed on the master.
sub settled
{
    my ($before, @how) = @_;
    is(seen_by_mail_program(), $before, 'the master has the same messages under the same UIDs');
    no_differences('both sides equal', differences($site, 'alice', full => 1));
    my $again = $site->sync('proxy', @how);
    my @more = unwanted(@{ $again->{commands} });
    is(scalar @more, 0, 'a second sync sends nothing') or diag(map { "$_->{line}\n" } @more);
    return;
}

$imap->append('INBOX', CBTest::Imap::message(subject => "first $_")) for 1 .. 6;
synced_ok('first sync', $site->sync('proxy', '-u', 'alice'));

my $round = 0;
for my $how (['-u', 'alice'], ['-m', 'user.alice']) {
    subtest "the master has forgotten expunged messages (@$how)" => sub {
        my $uid = 1 + 2 * $round++;
        $imap->must(select => 'INBOX');
        $imap->must(store => $uid, '+flags', '(\\Deleted)');
        $imap->must('expunge');
        $imap->append('INBOX', CBTest::Imap::message(subject => "later $round"));
        my $r = $site->{imap}->tool('cyr_expire', '-E', '1', '-X', '0');
        is($r->{rc}, 0, 'cyr_expire') or diag($r->{err});
        my $before = seen_by_mail_program();
        my $sync = $site->sync('proxy', @$how);
        synced_ok('sync', $sync);
        ok((grep { /^GET FULLMAILBOX / } lines($sync)), 'the client could build no delta');
        settled($before, @$how);
        my ($inbox) = grep { $_->{mboxname} eq 'user.alice' } @{ backup_state($site, 'alice')->{mailboxes} };
        ok((grep { $_->{expunged} } @{ $inbox->{records} }) >= $round,
            'what the master has forgotten is kept as expunged');
    };
    for my $mark (1, 2) {
        subtest "the backup asks again, mark $mark (@$how)" => sub {
            set_mark($mark);
            $imap->must(select => 'INBOX');
            $imap->must(store => '1', ($mark == 1 ? '+flags' : '-flags'), '(\\Flagged)');
            my $before = seen_by_mail_program();
            my $sync = $site->sync('proxy', @$how);
            synced_ok('sync', $sync);
            ok((grep { /^APPLY MAILBOX .* RECORD \(%\(UID .* %\(UID / } lines($sync)), 'all records came');
            ok((grep { /^APPLY MAILBOX / && !/ SINCE_MODSEQ / } lines($sync)), 'and not as a delta');
            settled($before, @$how);
            my @marks = map { $_->{mark} } grep { $_->{mboxname} eq 'user.alice' }
                @{ backup_state($site, 'alice')->{mailboxes} };
            is("@marks", '0', 'the mark is gone');
        };
    }
}
memory_ok($site);
done_testing();
