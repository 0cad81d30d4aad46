#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# When both sides have gone apart: the master was restored, content is missing on one side or the
# other, marks outlive sessions, and FULLMAILBOX must do no harm. For each version: what it is asked
# for, that it is not asked for the same again, and that the history stays.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state);
use CBTest::Dlist qw(parse_dlist);
use CBTest::Feed qw(message record_text file_item);
use CBTest::Dialogue qw($OK $CHECKSUM $CHANGED $NONE @VERSIONS);
use CBTest::Util qw(wait_until);
use Test::More;

my $t = CBTest::Dialogue->new;

sub filled
{
    my ($name, $n) = @_;
    my $box = CBTest::Feed->new(mboxname => $name);
    $box->append(message("$name $_", 300)) for 1 .. $n;
    return $box;
}

sub user { my ($what, $version) = @_; return $what . $version =~ s/\W//gr }

sub first_sync
{
    my ($version, $box) = @_;
    $t->says('GET', 'GET USER ' . CBTest::Dialogue::owner($box));
    $t->says('content', $box->upload);
    $t->says('all', $box->apply(CBTest::Dialogue::header($version)));
    $t->says('RESTART', 'RESTART', 'OK Restarting');
    return;
}

sub copy_of
{
    my ($box, %o) = @_;
    return bless { %{$box}, records => [map { { %{$_} } } @{ $box->{records} }], bodies => { %{ $box->{bodies} } }, %o }, ref $box;
}

# After a CHECKSUM that says: everything again. Every version gets there without another error than
# those of its own repair, and then nothing is left to say.
sub all_again
{
    my ($version, $box, $listed, $label) = @_;
    is($t->stored($box)->{mark}, 2, "$label: marked");
    if (!CBTest::Dialogue::asks_again($version)) {
        # 3.2 tries once more relative to the same listing; both then ask for FULLMAILBOX
        $t->says("$label: again", $box->apply(CBTest::Dialogue::delta($version, $listed, 1)), $CHECKSUM) if $version eq '3.2';
        harmless($box, $label);
        $t->says("$label: after the repair", $box->apply(CBTest::Dialogue::delta($version, $listed, 1)), $CHECKSUM);
        $t->says('RESTART', 'RESTART', 'OK Restarting');
        is_deeply($t->listing('USER ' . CBTest::Dialogue::owner($box)), {}, "$label: not listed the next time");
    } else {
        is($t->listed($box), undef, "$label: not listed at once");
    }
    $t->says("$label: content", $box->upload);
    $t->says("$label: all of it", $box->apply(CBTest::Dialogue::header($version)));
    settled($box, $label);
    return;
}

sub settled
{
    my ($box, $label) = @_;
    my $l = $t->listed($box);
    is(join(' ', map { $l->{$_} } qw(LAST_UID HIGHESTMODSEQ UIDVALIDITY SYNC_CRC)),
        "$box->{last_uid} $box->{modseq} $box->{uidvalidity} " . $box->crc, "$label: listed as the master has it");
    my $m = $t->stored($box);
    is(join(' ', map { "$_->{uid} $_->{modseq} $_->{guid}" } grep { !$_->{expunged} } @{ $m->{records} }),
        join(' ', map { "$_->{uid} $_->{modseq} $_->{guid}" } grep { "@{ $_->{flags} }" !~ /Expunged/ } @{ $box->{records} }),
        "$label: the records are the master's");
    is("$m->{mark} $m->{computed_sync_crc}", '0 ' . $box->crc, "$label: no mark, right checksum");
    return;
}

# The answer to FULLMAILBOX has nothing in it that a master would take over.
sub harmless
{
    my ($box, $label) = @_;
    my $r = $t->says("$label: GET FULLMAILBOX", "GET FULLMAILBOX $box->{mboxname}");
    is(scalar @{ $r->{lines} }, 1, "$label: one line");
    my ($name, $v) = parse_dlist($r->{lines}[0]);
    is("$name $v->{UNIQUEID} $v->{MBOXNAME}", "MAILBOX $box->{uniqueid} $box->{mboxname}", "$label: of this mailbox");
    is("$v->{LAST_UID} $v->{HIGHESTMODSEQ} $v->{UIDVALIDITY}", '0 0 0', "$label: nothing is higher than anything");
    is_deeply($v->{RECORD}, [], "$label: no records");
    is(join(' ', grep { exists $v->{$_} } qw(SYNC_CRC SYNC_CRC_ANNOT XCONVMODSEQ FOLDERMODSEQ RACLMODSEQ ANNOTATIONS)), '',
        "$label: nothing else to be taken over");
    return;
}

for my $version (@VERSIONS) {
    subtest "a master restored from an older state ($version)" => sub {
        my $box = filled('user.' . user('res', $version), 3);
        first_sync($version, $box);
        my $old = copy_of($box);
        my $last = $box->append(message("$box->{mboxname} newest", 300));
        my $l = $t->listed($box);
        $t->says('content', $box->upload($l->{HIGHESTMODSEQ}));
        $t->says('delta', $box->apply(CBTest::Dialogue::delta($version, $l)));
        my $then = time;
        wait_until('the next second', sub { time > $then });
        $t->says('RESTART', 'RESTART', 'OK Restarting');

        # UIDs and modseqs are used again, for other messages
        $l = $t->listed($old);
        $t->says('older: a delta', $old->apply(CBTest::Dialogue::delta($version, $l)), $CHECKSUM);
        is($t->uids($old), '1 2 3 4', 'nothing of it was applied');
        all_again($version, $old, $l, 'older');
        is($t->uids($old), '1 2 3 4x', 'what is newer than that is expunged');
        my @log = map { /UID 4 MODSEQ (\d+) .*? GUID (\w+)/ ? "$1 $2" : () } $t->file(CBTest::Dialogue::owner($old));
        is($log[0], "$last->{modseq} $last->{guid}", 'and in the history');
        ok($t->has_content($box, $last), 'with its content');
        $t->says('RESTART', 'RESTART', 'OK Restarting');

        # then it goes on: the same UID is another message
        $l = $t->listed($old);
        $old->append(message("$box->{mboxname} other", 300));
        $t->says('goes on: content', $old->upload($l->{HIGHESTMODSEQ}));
        $t->says('goes on: delta', $old->apply(CBTest::Dialogue::delta($version, $l)));
        settled($old, 'goes on');
        $t->says('RESTART', 'RESTART', 'OK Restarting');

        for my $back (['LAST_UID', sub { pop @{ $_[0]{records} }; $_[0]{last_uid}--; $_[0]{modseq} += 2 }],
            ['UIDVALIDITY', sub { $_[0]{uidvalidity} -= 5; $_[0]{modseq}++ }]) {
            $l = $t->listed($old);
            $back->[1]->($old);
            $t->says("lower $back->[0]", $old->apply(CBTest::Dialogue::delta($version, $l)), $CHECKSUM);
            all_again($version, $old, $l, "lower $back->[0]");
            $t->says('RESTART', 'RESTART', 'OK Restarting');
        }
        # restored, and so far ahead again that only the content of a UID tells
        $l = $t->listed($old);
        @{ $old->{records}[1] }{qw(guid size)} = do {
            my $body = message('split', 200);
            $old->{bodies}{ CBTest::Util::sha1_hex($body) } = $body;
            (CBTest::Util::sha1_hex($body), length $body);
        };
        $old->{records}[1]{modseq} = ++$old->{modseq};
        $t->says('another GUID', $old->apply(CBTest::Dialogue::delta($version, $l)), $CHECKSUM);
        all_again($version, $old, $l, 'another GUID');
        $t->rebuild(CBTest::Dialogue::owner($old));
        settled($old, 'rebuilt');
    };

    subtest "the master forgot what it expunged ($version)" => sub {
        my $box = filled('user.' . user('full', $version), 5);
        first_sync($version, $box);
        my $l = $t->listed($box);
        splice @{ $box->{records} }, 1, 2;    # 2 and 3: expunged and forgotten
        $box->{modseq} += 4;
        $box->set_flags(4, '\\Seen');
        harmless($box, 'case B');
        is($t->stored($box)->{mark}, 1, 'in doubt');
        if (!CBTest::Dialogue::asks_again($version)) {
            # relative to the listing from before FULLMAILBOX: taken, but the doubt stays
            $t->says('a delta to the first listing', $box->apply(CBTest::Dialogue::delta($version, $l, 1)));
            is($t->stored($box)->{mark}, 1, 'still in doubt');
            is($t->uids($box), '1 2 3 4 5', 'what it does not say is not known yet');
            $t->says('RESTART', 'RESTART', 'OK Restarting');
            if ($version eq '3.2') {    # it may also survive the loss of the index
                $t->rebuild(CBTest::Dialogue::owner($box));
            }
            $l = $t->listed($box);
            is("$l->{HIGHESTMODSEQ} $l->{LAST_UID}", '0 5', 'the next time all records are wanted');
            harmless($box, 'case B again');
        } else {
            $l = $t->listed($box);
            is("$l->{HIGHESTMODSEQ} $l->{LAST_UID}", '0 5', 'all records are wanted at once');
        }
        $t->says('all records', $box->apply(CBTest::Dialogue::header($version)));
        is($t->uids($box), '1 2x 3x 4 5', 'what was forgotten is expunged');
        settled($box, 'case B');
        my ($gone) = grep { /UID 2 .*\\Expunged/ } $t->file(CBTest::Dialogue::owner($box));
        ok($gone, 'and the data file says so by itself');
    };

    subtest "content that the master has not ($version)" => sub {
        my $box = filled('user.' . user('nil', $version), 3);
        my $u = CBTest::Dialogue::owner($box);
        my @items = map { $_ == 1 ? 'NIL' : file_item($box->{bodies}{ $box->{records}[$_]{guid} }) } 0 .. 2;
        $t->says('GET', "GET USER $u");
        $t->says('content, one NIL', "APPLY MESSAGE (@items)");
        $t->says('all: taken', $box->apply(CBTest::Dialogue::header($version)));
        settled($box, 'missing');
        is(join('', map { $t->has_content($box, $_) ? 1 : 0 } @{ $box->{records} }), '101', 'as much as there is');
        $t->says('RESTART', 'RESTART', 'OK Restarting');
        # what is known to be missing is not asked for at each change
        for my $flag ('\\Seen', '\\Flagged') {
            my $l = $t->listed($box);
            $box->set_flags(2, $flag);
            $t->says("$flag on it", $box->apply(CBTest::Dialogue::delta($version, $l)));
            $t->rebuild($u);
        }
        settled($box, 'flags');
        # the delta names a message below LAST_UID that was never here: everything again, once
        my $l = $t->listed($box);
        my $r = { %{ $box->{records}[2] }, uid => 2, modseq => ++$box->{modseq} };
        my $never = message('never sent', 99);
        @{$r}{qw(guid size)} = (CBTest::Util::sha1_hex($never), length $never);
        $box->{records}[1] = $r;
        $box->{bodies}{ $r->{guid} } = $never;
        $t->says('another message under that UID', $box->apply(CBTest::Dialogue::delta($version, $l)), $CHECKSUM);
        all_again($version, $box, $l, 'another message');
        ok($t->has_content($box, $r), 'it is there now');
    };

    subtest "content that was promised and cannot be read ($version)" => sub {
        my $box = filled('user.' . user('rot', $version), 3);
        my $other = filled($box->{mboxname} . '.Other', 1);
        my $u = CBTest::Dialogue::owner($box);
        first_sync($version, $_) for $box, $other;
        delete $t->{c};
        $t->alone;
        damage($t->{site}->data_file($u), 1);
        $t->again;
        my $copy = filled("user.$u.Copy", 0);
        $copy->append($box->{bodies}{ $_->{guid} }) for @{ $box->{records} };
        my @guids = map { $_->{guid} } @{ $copy->{records} };
        my $reserve = "APPLY RESERVE %(PARTITION default MBOXNAME ($box->{mboxname}) GUID (@guids))";
        $t->says('GET', "GET USER $u");
        my $r = $t->says('RESERVE', $reserve);
        is("@{ $r->{lines} }", '', 'all is said to be here');
        $t->says('a copy in another mailbox', $copy->apply(CBTest::Dialogue::header($version)), $CHECKSUM);
        is($t->stored($copy), undef, 'not taken');
        is($t->stored($box)->{mark}, 3, 'where it is lost, it is asked for again');
        is($t->stored($other)->{mark}, 0, 'and only there');
        is($t->listed($copy), undef, 'not listed') if CBTest::Dialogue::asks_again($version);
        $t->says('RESTART', 'RESTART', 'OK Restarting');
        my $l = $t->listing("USER $u");
        is(join(' ', sort keys %{$l}), join(' ', sort map { $_->{uniqueid} } $box, $other), 'both are listed');
        is(join(' ', map { $l->{ $box->{uniqueid} }{$_} } qw(LAST_UID HIGHESTMODSEQ)), '0 0',
            'one such that its content comes again');
        is($l->{ $other->{uniqueid} }{LAST_UID}, 1, 'the whole one as it is');
        $r = $t->says('RESERVE', $reserve);
        is("@{ $r->{lines} }", "MISSING (@guids)", 'it is known to be missing now');
        $t->says('content', $copy->upload);
        $t->says('the copy', $copy->apply(CBTest::Dialogue::header($version)));
        $t->says('the first', $box->apply(CBTest::Dialogue::header($version)));
        settled($_, 'healed') for $copy, $box;
        is(scalar(grep { $t->has_content($box, $_) } @{ $box->{records} }), 3, 'all of it can be read');
        # the index is lost, and the damage seen by its rebuild
        $t->rebuild($u);
        is(join(' ', sort keys %{ $t->listing("USER $u") }), join(' ', sort map { $_->{uniqueid} } $other, $copy),
            'after a rebuild what no damage speaks of is believed');
        for my $m ($box, $other, $copy) {
            $t->says('content', $m->upload);
            $t->says('all', $m->apply(CBTest::Dialogue::header($version)));
            settled($m, 'healed again');
        }
    };

    subtest "marks outlive sessions ($version)" => sub {
        my $box = filled('user.' . user('mark', $version), 3);
        my $u = CBTest::Dialogue::owner($box);
        first_sync($version, $box);
        $t->says('FULLMAILBOX: doubt', "GET FULLMAILBOX $box->{mboxname}");
        for my $how ('RESTART', 'another session', 'another process') {
            $t->says('RESTART', 'RESTART', 'OK Restarting') if $how eq 'RESTART';
            $t->again if $how =~ /^another/;
            if ($how =~ /process/) {
                $t->{site}{backup}->stop;
                $t->{site}{backup}->start;
                $t->again;
            }
            is($t->listed($box)->{HIGHESTMODSEQ}, 0, "in doubt after $how");
        }
        # lost with the index: what was in doubt without reason is as good as before
        $t->rebuild($u);
        is($t->listed($box)->{HIGHESTMODSEQ}, $box->{modseq}, 'nothing differs: no doubt after a rebuild');
        # RESEND
        my $l = $t->listed($box);
        my $old = copy_of($box, last_uid => 2, modseq => $box->{modseq} - 1);
        pop @{ $old->{records} };
        $t->says('older', $old->apply(CBTest::Dialogue::delta($version, $l)), $CHECKSUM);
        $t->again;
        is($t->listed($old), undef, 'not listed in another session');
        $t->rebuild($u);
        $l = $t->listed($old);
        is($l && $l->{HIGHESTMODSEQ}, $box->{modseq}, 'listed again after a rebuild');
        $t->says('older: found out again', $old->apply(CBTest::Dialogue::delta($version, $l)), $CHECKSUM);
        all_again($version, $old, $l, 'lost mark');
    };
}

# Turn bytes in the middle of the N-th member around. Those behind it stay intact.
sub damage
{
    my ($file, $n) = @_;
    my $bytes = CBTest::Util::slurp($file);
    my $at = 0;
    my @starts;
    while (($at = index $bytes, "\x1f\x8b\x08", $at) >= 0) {
        push @starts, $at++;
    }
    my ($from, $to) = @starts[$n - 1, $n];
    open my $fh, '+<:raw', $file or die "$file: $!";
    seek $fh, ($from + $to) / 2, 0;
    print {$fh} "\xff\x00\xff\x00\xff\x00";
    close $fh or die "$file: $!";
    return;
}

done_testing;
