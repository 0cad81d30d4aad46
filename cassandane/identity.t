#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# What a mailbox is: its UNIQUEID, in one backup, under one name. GET MAILBOXES over several owners,
# SINCE_*, checksums, names that change hands.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Feed qw(message record_text file_item);
use CBTest::Dialogue qw($OK $CHECKSUM $CHANGED $NONE @VERSIONS);
use Test::More;

my $t = CBTest::Dialogue->new;

sub filled
{
    my ($name, $n, %o) = @_;
    my $box = CBTest::Feed->new(mboxname => $name, %o);
    $box->append(message("$name $_")) for 1 .. $n;
    return $box;
}

# ---- GET MAILBOXES --------------------------------------------------------

subtest 'mailboxes of several owners in one answer' => sub {
    my @boxes = map { filled($_, 2) } qw(user.ann user.ann.Work DELETED.user.ann.Old.6553F3A0
        user.ben user.ben.a^b team team.Old DELETED.team.X.6553F3A0);
    $_->sync($t->{c}) for @boxes;
    $t->again;
    my @names = map { $_->{mboxname} } @boxes;
    my $r = $t->says('GET MAILBOXES', 'GET MAILBOXES (' . join(' ', 'user.ann', reverse(@names), 'user.none.x',
        'none', 'team', 'user', 'user.', '""', 'DELETED.user.none.x.1', 'user.ben', '.') . ')');
    my @listed = sort map { /MBOXNAME (\S+)/ } @{ $r->{lines} };
    is("@listed", join(' ', sort @names), 'each once, by name, whoever has it');
    for my $box (@boxes) {
        my ($line) = grep { /UNIQUEID $box->{uniqueid} / } @{ $r->{lines} };
        is($line, 'MAILBOX %(' . $box->header . ')', "$box->{mboxname}: the header as it came");
    }
    is_deeply([sort map { $_->{MBOXNAME} } values %{ $t->listing('USER ann') }],
        [sort grep { /\bann\b/ } @names], 'GET USER: the live ones and the deleted ones of that user');
    # changes to all of them in one unit
    $t->listing("MAILBOXES (@names)");
    for my $box (@boxes) {
        my $since = $box->{modseq};
        $box->append(message("$box->{mboxname} later"));
        $t->says("$box->{mboxname}: content", $box->upload($since));
        $t->says("$box->{mboxname}: delta", $box->apply(since => $since));
        is($t->uids($box), '1 2 3', 'is complete');
        ok($t->has_content($box, $box->{records}[2]), 'content is there');
    }
};

# The same UNIQUEID in the backups of two users: one of them was not told.
for my $newer (0, 1) {
    subtest 'one UNIQUEID in two backups, ' . ($newer ? 'the second' : 'the first') . ' is newer' => sub {
        my $id = "twin$newer" . 'x' x 10;
        my @box = map { filled("user.tw$newer$_.X", 2, uniqueid => $id, uidvalidity => 7) } 0, 1;
        $box[$newer]->set_flags(1, '\\Seen');
        $_->sync($t->{c}) for @box;
        for my $order ([0, 1], [1, 0]) {
            my $names = join ' ', map { $box[$_]{mboxname} } @{$order};
            my $r = $t->says('GET MAILBOXES', "GET MAILBOXES ($names)");
            is(scalar @{ $r->{lines} }, 1, 'named once');
            is((parse($r))[0]{MBOXNAME}, $box[$newer]{mboxname}, "the newer one, asked for $names");
        }
        # the client says which of them it is; the other ends, and nothing is mixed up
        my ($old, $new) = ($box[$newer], $box[1 - $newer]);
        my $before = $t->uids($old);
        $t->says('RENAME to the other', "APPLY RENAME %(OLDMBOXNAME $old->{mboxname} NEWMBOXNAME"
            . " $new->{mboxname} PARTITION default UIDVALIDITY 7)");
        $new->append(message("$id later")) for 1 .. 3;
        my $since = $old->{modseq};
        $t->says('content for a delta to what was shown', $new->upload($since));
        $t->says('a delta to what was shown of the other', $new->apply(since => $since), $CHECKSUM);
        my $l = $t->listing("MAILBOXES ($old->{mboxname} $new->{mboxname})")->{$id};
        is($l->{MBOXNAME}, $new->{mboxname}, 'now the other is listed');
        $t->says('content', $new->upload($l->{HIGHESTMODSEQ}));
        $t->says('a delta to that', $new->apply(since => $l->{HIGHESTMODSEQ}));
        is($t->uids($new), '1 2 3 4 5', 'is complete');
        is($t->stored($old, CBTest::Dialogue::owner($old)), undef, 'the other has ended');
        $t->says('RESTART', 'RESTART', 'OK Restarting');
    };
}

sub parse { my ($r) = @_; return map { (CBTest::Dlist::parse_dlist($_))[1] } @{ $r->{lines} } }

# With equal HIGHESTMODSEQ the one that was told last is listed.
subtest 'one UNIQUEID in two backups, equally new' => sub {
    my @box = map { filled("user.eq$_.X", 2, uniqueid => 'equalequal', uidvalidity => 7) } 0, 1;
    $box[1]->sync($t->{c});
    my $later = time + 1;
    CBTest::Util::wait_until('the next second', sub { time > $later });
    $box[0]->sync($t->{c});
    my $l = $t->listing('MAILBOXES (user.eq1.X user.eq0.X)');
    is($l->{equalequal}{MBOXNAME}, 'user.eq0.X', 'told last');
};

# ---- SINCE_* ----------------------------------------------------------------

for my $version (grep { $_ ne '3.0' } @VERSIONS) {
    subtest "SINCE_* must name our state ($version)" => sub {
        my $box = filled("user.since" . $version =~ s/\W//gr, 3);
        $t->says('GET', 'GET USER ' . CBTest::Dialogue::owner($box));
        $t->says('content', $box->upload);
        $t->says('all', $box->apply(CBTest::Dialogue::header($version)));
        my $l = $t->listed($box);
        $box->set_flags(2, '\\Flagged');
        my %delta = CBTest::Dialogue::delta($version, $l);
        my $before = [$t->file(CBTest::Dialogue::owner($box))];
        for my $wrong ([since_modseq => $l->{HIGHESTMODSEQ} - 1], [since_modseq => $l->{HIGHESTMODSEQ} + 1],
            [since_modseq => 0], [since_crc => $l->{SYNC_CRC} ^ 1], [since_crc_annot => 1]) {
            $t->says("@{$wrong}", $box->apply(%delta, @{$wrong}), $CHANGED);
        }
        $t->says('an unknown mailbox', filled('user.since.New', 0)->apply(%delta), $CHANGED);
        is_deeply([$t->file(CBTest::Dialogue::owner($box))], $before, 'nothing of it is in the data file');
        # a mailbox that is to be sent again takes no delta, not even the right one
        $t->says('FULLMAILBOX: now in doubt', "GET FULLMAILBOX $box->{mboxname}");
        $t->says('a cached delta to one in doubt', $box->apply(%delta), $CHANGED);
        $t->again;
        $t->says('nor in a new session', $box->apply(%delta), $CHANGED);
        is($t->listed($box)->{HIGHESTMODSEQ}, 0, 'it is asked for');
        $t->says('all records', $box->apply(CBTest::Dialogue::header($version)));
        $box->set_flags(3, '\\Flagged');
        $l = $t->listed($box);
        $t->says('then a delta again', $box->apply(CBTest::Dialogue::delta($version, $l)));
        $t->says('another with the state of before', $box->apply(CBTest::Dialogue::delta($version, $l)), $CHANGED);
        is($t->stored($box)->{computed_sync_crc}, $box->crc, 'the backup is right');
    };
}

# ---- checksums -----------------------------------------------------------------

for my $version (@VERSIONS) {
    subtest "a checksum that does not fit ($version)" => sub {
        my $owner = 'crc' . $version =~ s/\W//gr;
        my $box = filled("user.$owner", 3);
        my @head = CBTest::Dialogue::header($version);
        $t->says('GET', "GET USER $owner");
        $t->says('content', $box->upload);
        $t->says('all', $box->apply(@head));
        $t->says('RESTART', 'RESTART', 'OK Restarting');
        # the master's number is wrong for good
        my $l = $t->listed($box);
        my $wrong = 4711;
        my $crc = sub { return $box->crc ^ $wrong };
        $box->set_flags(1, '\\Seen');
        my $before = [$t->file($owner)];
        $t->says('a delta with another difference', $box->apply(CBTest::Dialogue::delta($version, $l), sync_crc => $crc->()), $CHECKSUM);
        is_deeply([$t->file($owner)], $before, 'is not kept');
        if (CBTest::Dialogue::asks_again($version)) {
            $l = $t->listed($box);
            is("$l->{HIGHESTMODSEQ} $l->{LAST_UID} $l->{SYNC_CRC}", '0 3 0', 'all records are wanted, at once');
        } else {
            $t->says('once more: taken', $box->apply(CBTest::Dialogue::delta($version, $l, 1), sync_crc => $crc->()));
            is($t->stored($box)->{mark}, 1, 'but the doubt stays');
            $t->again;
            $l = $t->listed($box);
            is("$l->{HIGHESTMODSEQ} $l->{LAST_UID} $l->{SYNC_CRC}", '0 3 0', 'all records are wanted, the next time');
        }
        $t->says('all records, still with that difference: accepted', $box->apply(@head, sync_crc => $crc->()));
        is($t->stored($box)->{mark}, 0, 'and settled');
        for my $how ('as it was', 'in a new session', 'after a rebuild and a full resend') {
            $t->again if $how =~ /session/;
            if ($how =~ /rebuild/) {
                $t->rebuild($owner);
                is($t->listed($box)->{HIGHESTMODSEQ}, 0, 'all records once more');
                $t->says('all records', $box->apply(@head, sync_crc => $crc->()));
            }
            $l = $t->listed($box);
            is($l->{SYNC_CRC}, $crc->(), 'the number of the master is listed');
            $box->set_flags(2, ('\\Answered', '$Label' . length $how));
            $t->says("a delta with the same difference, $how", $box->apply(CBTest::Dialogue::delta($version, $l), sync_crc => $crc->()));
        }
        $l = $t->listed($box);
        $box->set_flags(2);
        $t->says('0 with SYNC_CRC_ANNOT is a number like others',
            $box->apply(CBTest::Dialogue::delta($version, $l), sync_crc => 0, sync_crc_annot => 12345678), $CHECKSUM);
        $t->again;
        $l = $t->listed($box);
        $t->says('all records, with the right checksum', $box->apply(@head));
        $l = $t->listed($box);
        $box->set_flags(3, '\\Draft');
        $t->says('0 without it is none', $box->apply(CBTest::Dialogue::delta($version, $l), sync_crc => 0, sync_crc_annot => undef));
        is($t->stored($box)->{computed_sync_crc}, $box->crc, 'the records are right');
        $t->says('RESTART', 'RESTART', 'OK Restarting');
    };
}

# ---- names that change hands ------------------------------------------------------

subtest 'two masters with a mailbox of one name' => sub {
    my @box = map { filled('user.duo', 2) } 0, 1;
    for my $round (0 .. 5) {
        my $box = $box[$round % 2];
        $box->append(message("duo $round"));
        $t->again;
        is($t->listed($box), undef, 'it is not listed') if $round;
        $t->says("round $round: content", $box->upload);
        $t->says("round $round: all", $box->apply);
        is($t->uids($box), join(' ', 1 .. $box->{last_uid}), 'is complete');
        is(scalar(keys %{ $t->listing('USER duo') }), 1, 'one mailbox of that name');
        $t->rebuild('duo') if $round == 3;
    }
    is(scalar(grep { $_ eq 'UNMAILBOX user.duo' } $t->file('duo')), 5, 'each change is in the data file');
    is(scalar(grep { !$_->{deleted} } @{ $t->state('duo')->{mailboxes} }), 1, 'and one is current');
};

subtest 'EXPUNGE names a mailbox by both name and UNIQUEID' => sub {
    my $box = filled('user.exp', 3);
    $box->sync($t->{c});
    my $expunge = 'APPLY EXPUNGE %%(MBOXNAME user.exp UNIQUEID %s UID (2 9))';
    $t->says('of another UNIQUEID', sprintf($expunge, 'other'), $NONE);
    is($t->uids($box), '1 2 3', 'nothing happened');
    $t->says('a UID beyond 32 bits', $expunge =~ s/%%/%/r =~ s/%s/$box->{uniqueid}/r =~ s/2 9/4294967298/r,
        'NO IMAP_PROTOCOL_BAD_PARAMETERS Bad parameters');
    is($t->uids($box), '1 2 3', 'nothing happened');
    $t->says('of this one', sprintf $expunge, $box->{uniqueid});
    is($t->uids($box), '1 2x 3', 'expunged');
};

done_testing;
