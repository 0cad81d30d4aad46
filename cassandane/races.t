#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Two clients and one mailbox. What a client sends is relative to what it was told, and others may
# have been there since: nothing is lost and nothing comes back, whatever the order.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state differences crc_differences);
use CBTest::Dlist qw(parse_dlist);
use CBTest::Feed qw(file_item message);
use CBTest::Imap;
use CBTest::Relay;
use CBTest::Scenarios qw(memory_ok no_differences);
use CBTest::Site;
use CBTest::Util qw(as_cyrus reap start_cmd);
use Test::More;

my $CHECKSUM = 'NO IMAP_SYNC_CHECKSUM Checksum Failure';
my $CHANGED = 'NO IMAP_SYNC_CHANGED Changed since last sync';
my $NONE = 'NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox';
my $OK = 'OK Success';
my $site = CBTest::Site->new(users => ['alice']);
my ($A, $B) = map { $site->backup_csync } 1 .. 2;
my ($serial, $user, $box) = (0);

sub says
{
    my ($c, $label, $command, $expected) = @_;
    is($c->command($command)->{text}, $expected, $label);
    return;
}

# What a connection is told of the box; it lets go of the lock then, but the unit goes on.
sub lists
{
    my ($c, $what) = @_;
    my $got = $c->get($what // "USER $user");
    $c->get('META nobody');
    my ($m) = grep { $_->{UNIQUEID} eq $box->{uniqueid} } @{ $got->{MAILBOX} // [] };
    return $m;
}

# The live UIDs of the box, as they are in the backup.
sub stored
{
    my $state = backup_state($site, $user);
    my @d = crc_differences($state);
    my ($m) = grep { $_->{uniqueid} eq $box->{uniqueid} } @{ $state->{mailboxes} };
    return 'not there' unless $m;
    return join ' ', @d, map { $_->{uid} } grep { !$_->{expunged} } @{ $m->{records} };
}

# A command, then the lock is let go of.
sub does
{
    my ($c, @what) = @_;
    says($c, @what);
    $c->get('META nobody');
    return;
}

# A user with a mailbox of N messages; with SYNCED it is in the backup.
sub fresh
{
    my ($n, $synced) = @_;
    $user = 'racer' . ++$serial;
    $box = CBTest::Feed->new(mboxname => "user.$user");
    $box->append(message("$user $_")) for 1 .. $n;
    return unless $synced;
    $box->sync($B);
    $B->command('RESTART');
    return;
}

# The master as it was when A looked at it: what A sends. The box itself goes on.
sub as_of_now
{
    my ($since) = @_;
    return ($box->upload($since), $box->apply(since => $since));
}

subtest 'both find nothing, the older one comes last' => sub {
    fresh(2);
    is(lists($A), undef, 'A: not listed');
    is(lists($B), undef, 'B: not listed');
    my ($upload, $apply) = as_of_now(0);
    $box->append(message("$user 3"));
    does($B, 'B: content', $box->upload(0), $OK);
    does($B, 'B: three messages', $box->apply, $OK);
    does($A, 'A: content', $upload, $OK);
    does($A, 'A: two messages, which are not all any more', $apply, $CHECKSUM);
    is(stored(), '1 2 3', 'three are there');
    is(lists($A, "MAILBOXES ($box->{mboxname})")->{HIGHESTMODSEQ}, $box->{modseq}, 'A asks again: it is listed');
    $box->append(message("$user 4"));
    does($A, 'A: content', $box->upload($box->{modseq} - 1), $OK);
    does($A, 'A: the fourth', $box->apply(since => $box->{modseq} - 1), $OK);
    is(stored(), '1 2 3 4', 'four are there');
    $box->append(message("$user 5"));
    does($A, 'A: content', $box->upload($box->{modseq} - 1), $OK);
    does($A, 'A: the fifth, relative to its own', $box->apply(since => $box->{modseq} - 1), $OK);
};

subtest 'a difference to an old listing' => sub {
    fresh(3, 1);
    my $since = lists($A)->{HIGHESTMODSEQ};
    lists($B);
    $box->set_flags(1, '\\Seen');
    my (undef, $apply) = as_of_now($since);
    $box->append(message("$user 4"));
    does($B, 'B: content', $box->upload($since), $OK);
    does($B, 'B: a flag and a message', $box->apply(since => $since), $OK);
    does($A, 'A: a flag only', $apply, $CHECKSUM);
    is(stored(), '1 2 3 4', 'the message is there');
    my $header = lists($A, "MAILBOXES ($box->{mboxname})");
    is($header->{SYNC_CRC}, $box->crc, 'A asks again: nothing to do');
    my $stale = $box->apply(since => $box->{modseq}, since_modseq => $since);
    does($A, 'with SINCE_MODSEQ it is told otherwise', $stale, $CHANGED);
};

subtest 'records in doubt, and both send all of them' => sub {
    fresh(3, 1);
    says($A, 'GET FULLMAILBOX', "GET FULLMAILBOX $box->{mboxname}", $OK);
    is(lists($A)->{HIGHESTMODSEQ}, 0, 'A: listed without HIGHESTMODSEQ');
    is(lists($B)->{HIGHESTMODSEQ}, 0, 'B: the same');
    my (undef, $apply) = as_of_now(0);
    $box->append(message("$user 4"));
    does($B, 'B: content', $box->upload($box->{modseq} - 1), $OK);
    does($B, 'B: four records', $box->apply, $OK);
    does($A, 'A: three records', $apply, $CHECKSUM);
    is(stored(), '1 2 3 4', 'four are there');
    is(lists($A, "MAILBOXES ($box->{mboxname})")->{SYNC_CRC}, $box->crc, 'A asks again: nothing to do');
};

subtest 'the same again by both does no harm' => sub {
    fresh(3, 1);
    says($A, 'GET FULLMAILBOX', "GET FULLMAILBOX $box->{mboxname}", $OK);
    lists($_) for $A, $B;
    does($B, 'B: all records', $box->apply, $OK);
    does($A, 'A: all records, nothing else having come', $box->apply, $OK);
    is(lists($A, "MAILBOXES ($box->{mboxname})")->{SYNC_CRC}, $box->crc, 'nothing more to do');
    is(stored(), '1 2 3', 'three are there');
};

subtest 'not listed because all of it is wanted' => sub {
    fresh(3, 1);
    my $since = lists($A)->{HIGHESTMODSEQ};
    does($A, 'the master goes back', $box->apply(since => $since, highestmodseq => 2), $CHECKSUM);
    is(lists($_), undef, 'not listed') for $A, $B;
    my ($upload, $apply) = as_of_now(0);
    $box->append(message("$user 4"));
    does($B, 'B: content', $box->upload(0), $OK);
    does($B, 'B: four messages', $box->apply, $OK);
    does($A, 'A: content', $upload, $OK);
    does($A, 'A: three messages', $apply, $CHECKSUM);
    is(stored(), '1 2 3 4', 'four are there');
};

subtest 'it was deleted meanwhile' => sub {
    fresh(3, 1);
    my $since = lists($A)->{HIGHESTMODSEQ};
    does($B, 'B: UNMAILBOX', "APPLY UNMAILBOX $box->{mboxname}", $OK);
    $box->set_flags(2, '\\Flagged');
    does($A, 'A: a flag', $box->apply(since => $since), $CHECKSUM);
    is(stored(), 'not there', 'it does not come back');
    is(lists($A, "MAILBOXES ($box->{mboxname})"), undef, 'A asks again: not listed');
    does($A, 'A: content', $box->upload(0), $OK);
    does($A, 'A: all of it, if the master has it', $box->apply, $OK);
    is(stored(), '1 2 3', 'it is there');

    fresh(2);
    lists($A);
    my ($upload, $apply) = as_of_now(0);
    $box->sync($B);
    does($B, 'B: made and deleted', "APPLY UNMAILBOX $box->{mboxname}", $OK);
    does($A, 'A: content', $upload, $OK);
    does($A, 'A: as it was before', $apply, $CHECKSUM);
    is(stored(), 'not there', 'it does not come back');
};

subtest 'another mailbox has taken the name' => sub {
    for my $way ('UNMAILBOX', 'RENAME', 'RENAME to another user') {
        fresh(2, 1);
        my $old = $box;
        lists($A);
        $box = CBTest::Feed->new(mboxname => "user.$user");
        $box->append(message("$user new"));
        lists($B);
        does($B, 'B: content', $box->upload(0), $OK);
        does($B, 'B: the new one', $box->apply, $OK);
        $way eq 'UNMAILBOX'
            ? does($A, 'A: UNMAILBOX of the old one', "APPLY UNMAILBOX user.$user", $NONE)
            : does($A, "A: $way of the old one", "APPLY RENAME %(OLDMBOXNAME user.$user NEWMBOXNAME"
                . ($way eq 'RENAME' ? " user.$user.x" : ' user.else') . " PARTITION default UIDVALIDITY $old->{uidvalidity})", $NONE);
        is(stored(), '1', 'the new one is there');
        is(lists($A)->{MBOXNAME}, "user.$user", 'under its name');
        does($A, 'now A knows it', "APPLY UNMAILBOX user.$user", $OK);
        is(stored(), 'not there', 'so that it can end it');
    }
};

subtest 'two mailboxes have changed names' => sub {
    fresh(2, 1);
    my ($one, $two) = ($box, CBTest::Feed->new(mboxname => "user.$user.two"));
    $two->append(message("$user two"));
    $two->sync($B);
    $B->command('RESTART');
    my $rename = sub {
        my ($from, $to) = @_;
        does($B, "B: $from is now $to", "APPLY RENAME %(OLDMBOXNAME $from NEWMBOXNAME $to"
            . ' PARTITION default UIDVALIDITY 1700000000)', $OK);
    };
    lists($_) for $A, $B;
    $rename->("user.$user", "user.$user.tmp");
    $rename->("user.$user.two", "user.$user");
    $rename->("user.$user.tmp", "user.$user.two");
    does($A, 'A: UNMAILBOX of what had the name before', "APPLY UNMAILBOX user.$user.two", $NONE);
    is(stored(), '1 2', 'the other one, that has it now, is there');
    lists($A);
    does($A, 'now A knows', "APPLY UNMAILBOX user.$user.two", $OK);
    is(stored(), 'not there', 'so that it can end it');
};

subtest 'each brings another mailbox under one name' => sub {
    fresh(1);
    my $old = $box;
    lists($A);
    $box = CBTest::Feed->new(mboxname => "user.$user");
    $box->append(message("$user new"));
    $box->sync($B);
    $B->command('RESTART');
    does($A, 'A: content', $old->upload(0), $OK);
    does($A, 'A: which had not been there when it asked', $old->apply, $CHECKSUM);
    is(stored(), '1', 'that of B is there');
    is($A->get("MAILBOXES (user.$user)")->{MAILBOX}[0]{UNIQUEID}, $box->{uniqueid}, 'A asks again, and is told of it');
    does($A, 'A: content', $old->upload(0), $OK);
    does($A, 'A: its own all the same', $old->apply, $OK);
    is(stored(), 'not there', 'that of B has ended');
};

# One client: its mailbox has another name by now, which it asks for later, and another has its name.
subtest 'a mailbox that was replaced, and found elsewhere' => sub {
    for my $at_once (0, 1) {
        fresh(2, 1);
        my $new = CBTest::Feed->new(mboxname => $box->{mboxname});
        $new->append(message("$user new"));
        my $name = "user.$user.elsewhere";
        is(lists($A, "MAILBOXES ($box->{mboxname}" . ($at_once ? " $name)" : ')'))->{LAST_UID}, 2, 'listed');
        does($A, 'content of the new one', $new->upload(0), $OK);
        does($A, 'the new one', $new->apply, $OK);
        is(stored(), 'not there', 'it takes the place of the old one');
        $box->{mboxname} = $name;
        does($A, 'the old one, while the client believes that we have it', $box->apply, $CHECKSUM);
        is(lists($A, "MAILBOXES ($name)"), undef, 'it asks: not listed');
        does($A, 'content of the old one', $box->upload(0), $OK);
        does($A, 'all of the old one', $box->apply, $OK);
        is(stored(), '1 2', 'it is there');
        $A->command('RESTART');
    }
};

subtest 'what a client did itself is no news to it' => sub {
    fresh(2, 1);
    my $since = lists($A)->{HIGHESTMODSEQ};
    my $rename = sub {
        my ($to) = @_;
        my $from = $box->{mboxname};
        $box->{mboxname} = $to;
        return "APPLY RENAME %(OLDMBOXNAME $from NEWMBOXNAME $to PARTITION default"
            . " UIDVALIDITY $box->{uidvalidity})";
    };
    does($A, 'RENAME', $rename->("user.$user.x"), $OK);
    $box->append(message("$user 3"));
    does($A, 'content', $box->upload($since), $OK);
    does($A, 'a difference', $box->apply(since => $since), $OK);
    does($A, 'ANNOTATION', "APPLY ANNOTATION %(MBOXNAME $box->{mboxname} ENTRY /comment USERID \"\" VALUE x)", $OK);
    $since = $box->{modseq};
    $box->set_flags(1, '\\Seen');
    does($A, 'another', $box->apply(since => $since), $OK);
    # but it does not hide what another did
    $since = lists($A)->{HIGHESTMODSEQ};
    lists($B);
    $box->set_flags(2, '\\Flagged');
    my $flag = $box->apply(since => $since);
    $box->append(message("$user 4"));
    does($B, 'B: content', $box->upload($since), $OK);
    does($B, 'B: a flag and a message', $box->apply(since => $since), $OK);
    does($A, 'A: RENAME', $rename->("user.$user.y"), $OK);
    $flag =~ s/MBOXNAME \S+/MBOXNAME $box->{mboxname}/;
    does($A, 'A: a flag only', $flag, $CHECKSUM);
    is(stored(), '1 2 3 4', 'the message is there');
};

# ---- real clients ---------------------------------------------------------------------------

# A sync_client is stopped between its GET and its first APPLY, and what it is about to send is
# brought by another client; then it goes on.
my @messages;

sub overtaken
{
    my ($what, $new, %expected) = @_;
    for (1 .. $new) {
        push @messages, CBTest::Imap::message();
        $site->imap_as('alice')->append('INBOX', $messages[-1]);
    }
    my $source = $site->source_csync;
    my $name = 'user.alice';
    my $m = $source->command("GET FULLMAILBOX $name")->{lines}[0];
    my (undef, $header) = parse_dlist($m);
    undef $source;

    $site->{relay}->clear;
    $site->{relay}->hold;
    my $pid = start_cmd(env => $site->env, cmd => [as_cyrus('/usr/lib/cyrus/bin/sync_client', '-C',
        $site->{imap}->conf, '-o', '-n', 'proxy', '-u', 'alice')]);
    $site->{relay}->wait_held;
    my $c = $site->backup_csync;
    my $listed = (grep { $_->{MBOXNAME} eq $name } @{ $c->get('USER alice')->{MAILBOX} // [] })[0];
    is($c->command('APPLY MESSAGE (' . join(' ', map { file_item($_) } @messages) . ')')->{text}, $OK,
        'the other client brings the messages');
    $m =~ s/^MAILBOX //;
    is($c->command("APPLY MAILBOX $m")->{text}, $expected{other}, 'and the mailbox') if !$listed;
    if ($listed) {
        my @new = grep { /MODSEQ (\d+)/ && $1 > $listed->{HIGHESTMODSEQ} }
            $m =~ /(%\(UID (?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))/g;
        $m =~ s/ RECORD \(.*/ RECORD (@new))/s;
        is($c->command("APPLY MAILBOX $m")->{text}, $expected{other}, 'and the difference');
    }
    $c->command('EXIT');
    $site->{relay}->let_go;
    my $rc = reap($pid);
    my @commands = $site->{relay}->commands;
    my ($apply) = grep { $_->{line} =~ /^APPLY MAILBOX/ } @commands;
    is($apply->{reply}, $expected{client}, "$what: the client is told")
        or diag(CBTest::Relay::excerpt(@commands));
    my $r = $site->sync('proxy', '-u', 'alice');
    is($r->{rc}, 0, 'its next run succeeds');
    ok(!(grep { $_->{line} =~ /^APPLY MAILBOX/ } @{ $r->{commands} }), 'and has nothing to send')
        or diag(CBTest::Relay::excerpt(@{ $r->{commands} }));
    my @d = eval { differences($site, 'alice') };
    no_differences('both sides equal', @d, $@ ? $@ : ());
    note("exit code $rc");
    return $rc;
}

subtest 'a sync_client is overtaken' => sub {
    is(overtaken('a new mailbox', 3, other => $OK, client => $CHECKSUM), 0, 'it heals at once');
    overtaken('a difference', 1, other => $OK, client => $CHANGED);
};
memory_ok($site);
done_testing;
