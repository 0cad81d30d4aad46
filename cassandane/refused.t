#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# backupd and commands that are well-formed but wrong, odd, or cut off: each is refused whole or
# done whole, and what a client does next works.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Compare qw(backup_state);
use CBTest::Feed qw(message file_item record_text);
use CBTest::Holder;
use CBTest::Sentry;
use CBTest::Util qw(sha1_hex wait_until slurp);
use Test::More;
use Time::HiRes qw(time);

my $s = CBTest::Sentry->new;
my $site = $s->{site};
my $PARAMETERS = 'NO IMAP_PROTOCOL_BAD_PARAMETERS Bad parameters';
my $CHECKSUM = 'NO IMAP_SYNC_CHECKSUM Checksum Failure';
my $CHANGED = 'NO IMAP_SYNC_CHANGED Changed since last sync';
my $LOCKED = 'NO IMAP_MAILBOX_LOCKED Mailbox locked';
my $NONE = 'NO IMAP_MAILBOX_NONEXISTENT No Such Mailbox';

sub says
{
    my ($label, $command, $expected) = @_;
    my $r = eval { $s->{c}->command($command) } // { text => "none: $@", lines => [] };
    is($r->{text}, $expected, $label);
    return $r;
}

# Other bytes in the middle of a file.
sub patch
{
    my ($file, $at, $bytes) = @_;
    open my $fh, '+<:raw', $file or die "$file: $!\n";
    seek $fh, $at, 0;
    print {$fh} $bytes;
    close $fh or die "$file: $!\n";
    return;
}

# The mailbox as it is in the backup, from cyr_backup.
sub stored_box
{
    my ($box) = @_;
    my ($user) = $box->{mboxname} =~ /^user\.([^.]+)/;
    my $state = backup_state($site, $user // '%SHARED');
    my ($found) = grep { $_->{uniqueid} eq $box->{uniqueid} } @{ $state->{mailboxes} };
    return $found;
}

sub stored_uids
{
    my ($box) = @_;
    my $m = stored_box($box) // return 'no mailbox';
    return join ' ', map { $_->{uid} . ($_->{expunged} ? 'x' : '') } @{ $m->{records} };
}

# What GET lists of a mailbox, or undef.
sub listed
{
    my ($box) = @_;
    my $got = $s->{c}->get("MAILBOXES ($box->{mboxname})");
    return $got->{MAILBOX} ? $got->{MAILBOX}[0] : undef;
}

# ---- MAILBOX ------------------------------------------------------------------

my $alice = $s->{box};
{
    my @r = map { record_text($_) } @{ $alice->{records} };
    my $zero = record_text({ %{ $alice->{records}[0] }, uid => 0 });
    my %wrong = (
        'UID 0' => [$zero, @r],
        'UID beyond 32 bits' => [$r[0] =~ s/UID 1/UID 99999999999999999999/r],
        'UID is no number' => [$r[0] =~ s/UID 1/UID one/r],
        'UID is a list' => [$r[0] =~ s/UID 1/UID (1)/r],
        'record is an atom' => [@r, 'x'],
        'record is NIL' => [@r, 'NIL'],
        'record is a list' => [@r, '(UID 9)'],
        'record is empty' => [@r, '%()'],
        'record without GUID' => [$r[0] =~ s/GUID \w+//r],
        'GUID is none' => [$r[0] =~ s/GUID \w+/GUID xyz/r],
        'FLAGS is no list' => [$r[0] =~ s/FLAGS \([^)]*\)/FLAGS x/r],
        'flag is a list' => [$r[0] =~ s/FLAGS \([^)]*\)/FLAGS ((x))/r],
        'ANNOTATIONS is no list' => [$r[0] =~ s/\)$/ ANNOTATIONS x)/r],
        'record with a file' => [$r[0] =~ s/\)$/ X %{default 0123456789012345678901234567890123456789 5}\r\nEXIT\n)/r],
        map { ("record without $_" => [$r[0] =~ s/\b$_ \d+ //r]) }
            qw(UID MODSEQ LAST_UPDATED INTERNALDATE),
    );
    for my $what (sort keys %wrong) {
        $s->answers($what, $alice->apply(records => $wrong{$what}), qr/^(?:NO|BAD) IMAP_PROTOCOL_/);
    }
    for my $key (qw(uniqueid mboxname last_uid highestmodseq uidvalidity partition acl options)) {
        $s->answers("header without $key", $alice->apply($key => undef), $PARAMETERS);
        $s->answers("header with $key NIL", $alice->apply($key => 'NIL'), $PARAMETERS);
        $s->answers("header with $key a list", $alice->apply($key => '(x)'), $PARAMETERS);
    }
    for my $key (qw(last_uid highestmodseq uidvalidity sync_crc)) {
        $s->answers("header with $key no number", $alice->apply($key => 'x'), $PARAMETERS);
    }
    $s->answers('empty UNIQUEID', $alice->apply(uniqueid => '""'), $PARAMETERS);
    $s->answers('empty MBOXNAME', $alice->apply(mboxname => '""'), qr/^NO /);
    $s->answers('header with a file', 'APPLY MAILBOX %(' . $alice->header(x =>
        "%{default 0123456789012345678901234567890123456789 6}\r\nEXIT\r\n") . ' RECORD ())', $PARAMETERS);
    $s->answers('MAILBOX without RECORD', 'APPLY MAILBOX %(' . $alice->header . ')', $PARAMETERS);
    $s->answers('RECORD NIL', 'APPLY MAILBOX %(' . $alice->header . ' RECORD NIL)', qr/^(?:NO|BAD) /);
    $s->answers('more behind it', $alice->apply . ' x', qr/^BAD Unexpected extra arguments/);
    my $new = CBTest::Feed->new(mboxname => 'user.alice.New');
    $s->answers('a new mailbox with more behind it', $new->apply . " {4+}\r\nEXIT", qr/^BAD /);
    # broken in the middle of many: whole batches were read by then
    $new->append(message("new $_")) for 1 .. 300;
    $s->{c}->command($new->upload);
    my @many = map { record_text($_) } @{ $new->{records} };
    $s->answers('broken after 300 records', $new->apply(records => [@many, '%(UID )']), qr/^(?:BAD|NO) /);
    $s->answers('an atom after 300 records', $new->apply(records => [@many, 'x']), qr/^(?:BAD|NO) /);
}

# ---- MESSAGE ------------------------------------------------------------------

{
    my $box = CBTest::Feed->new(mboxname => 'user.bob');
    $box->append(message("bob $_")) for 1 .. 3;
    my @items = map { file_item($box->{bodies}{ $_->{guid} }) } @{ $box->{records} };
    says('GET USER bob', 'GET USER bob', 'OK Success');
    says('empty MESSAGE', 'APPLY MESSAGE ()', 'OK Success');
    says('NIL only', 'APPLY MESSAGE (NIL NIL)', 'OK Success');
    says('NIL between files, and one twice', "APPLY MESSAGE (NIL @items[0, 1] NIL $items[0] NIL)", 'OK Success');
    says('the same file again', "APPLY MESSAGE ($items[0])", 'OK Success');
    says('another content under a known GUID', 'APPLY MESSAGE (' .
        file_item('x' x $box->{records}[0]{size}, $box->{records}[0]{guid}) . ')', 'OK Success');
    says('empty file', 'APPLY MESSAGE (' . file_item('') . ')', 'OK Success');
    says('content of one record missing', $box->apply, 'OK Success');
    is(stored_uids($box), '1 2 3', 'all records are there');
    for my $i (0 .. 2) {
        my $r = $box->{records}[$i];
        my $got = $s->{c}->command("GET FETCH %(MBOXNAME user.bob PARTITION default UNIQUEID"
            . " $box->{uniqueid} GUID $r->{guid} UID $r->{uid})");
        is("@{ $got->{lines} }$got->{text}", $i < 2
            ? "MESSAGE %{default $r->{guid} $r->{size}}\r\n$box->{bodies}{ $r->{guid} }OK Success" : $NONE,
            'content of UID ' . ($i + 1));
    }
    is(listed($box)->{HIGHESTMODSEQ}, $box->{modseq}, 'the mailbox is complete, as far as can be');
    $s->sound('odd MESSAGEs');
}

# ---- a message of 60 MB ----------------------------------------------------------

{
    my $box = CBTest::Feed->new(mboxname => 'user.carol');
    my $r = $box->append(message('sixty', 60_000_000));
    $box->sync($s->{c});
    is(stored_uids($box), '1', '60 MB: record is there');
    my $dump = $site->cyr_backup('carol', 'dump', 'message', $r->{guid});
    is(sha1_hex($dump->{out}), $r->{guid}, '60 MB: content is there');
    says('GET USER several', 'GET MAILBOXES (user.carol user.dave)', 'OK Success');
    my $dave = CBTest::Feed->new(mboxname => 'user.dave');
    $dave->append(message('sixty again', 60_000_000));
    says('60 MB, owner unknown', $dave->upload, 'OK Success');
    says('60 MB, then known', $dave->apply, 'OK Success');
    is(stored_uids($dave), '1', '60 MB by the spool: record is there');
    $s->sound('60 MB');

    # It breaks while it is being sent, when there is no other way left to say so.
    my ($data) = $site->data_file('carol');
    my $whole = slurp($data);
    my $c = CBTest::CSync->new(path => "$site->{backup}{dir}/conf/backupd.sock", patience => 20);
    $c->send_raw("GET FETCH %(MBOXNAME user.carol PARTITION default UNIQUEID $box->{uniqueid}"
        . " GUID $r->{guid} UID 1)\r\n");
    read $c->{sock}, my $got, 1000;
    like($got, qr/^\* MESSAGE %\{default $r->{guid} 60000000\}\r\n/, 'damaged on its way: it begins');
    patch($data, int(length($whole) / 2), "\0" x int(length($whole) / 2 - 100));
    local $SIG{ALRM} = sub { die "the connection stays\n" };
    my $closed = eval {
        alarm 60;
        while (read $c->{sock}, my $more, 1 << 20) {
            $got .= $more;
        }
        1;
    };
    alarm 0;
    ok($closed, 'the connection ends');
    cmp_ok(length $got, '<', 60_000_000, 'it ends too early');
    unlike($got, qr/\n(?:OK|NO|BAD)[^\n]*\r\n\z/, 'with the connection, not with a reply');
    patch($data, 0, $whole);
    $s->sound('damaged on its way');
}

# ---- cut off -----------------------------------------------------------------------

{
    my $box = CBTest::Feed->new(mboxname => 'user.erin');
    $box->append(message("erin $_", 20_000)) for 1 .. 5;
    $box->sync($s->{c});
    $s->{c}->command('RESTART');
    my $before = backup_state($site, 'erin');
    my $modseq = $box->{modseq};
    $box->append(message("erin later $_", 3_000_000)) for 1 .. 2;
    $box->set_flags(2, '\\Flagged');
    my ($upload, $apply) = ($box->upload($modseq), $box->apply(since => $modseq));
    my %cut = (
        'in a verb' => 'APPL',
        'behind a verb' => 'APPLY ',
        'in a literal' => "APPLY SIEVE %(USERID erin FILENAME a.script LAST_UPDATE 1 CONTENT {5000+}\r\nkeep;",
        'in a literal\'s header' => "APPLY SUB %(USERID erin MBOXNAME {50",
        'in a file' => substr($upload, 0, 1_500_000),
        'in a file\'s header' => substr($upload, 0, 30),
        'between files' => substr($upload, 0, 3_000_040),
        'before the end of MESSAGE' => substr($upload, 0, -1),
        'behind MESSAGE' => "$upload\r\n",
        'in the header of MAILBOX' => "$upload\r\n" . substr($apply, 0, 100),
        'in the records of MAILBOX' => "$upload\r\n" . substr($apply, 0, -50),
        'before the end of MAILBOX' => "$upload\r\n" . substr($apply, 0, -1),
        'before the line end of MAILBOX' => "$upload\r\n$apply",
        'before the line end of SUB' => 'APPLY SUB %(USERID erin MBOXNAME user.erin)',
    );
    for my $where (sort keys %cut) {
        for my $known (0, 1) {
            my $c = $site->backup_csync;
            $c->command('GET USER erin') if $known;
            $c->send_raw($cut{$where});
            undef $c;
            # the lock of erin is free again when it is over
            wait_until('the other connection to end', sub { 1 == (() = glob "$site->{backup}{dir}/conf/proc/[0-9]*") });
            is_deeply(backup_state($site, 'erin'), $before, "cut off $where: nothing of it is kept");
        }
    }
    $box->sync($s->{c});
    is(stored_uids($box), '1 2 3 4 5 6 7', 'the next sync is fine');
    is(stored_box($box)->{computed_sync_crc}, $box->crc, 'and its checksum');
    $s->sound('cut off');
}

# ---- GET ---------------------------------------------------------------------------

{
    my $before = join "\n", $s->files;
    for my $what ('USER nobody', 'META nobody', 'MAILBOXES (user.nobody user.nobody2.x shared)',
        'FULLMAILBOX user.nobody', 'FETCH %(MBOXNAME user.nobody PARTITION default UNIQUEID x GUID '
            . '0' x 40 . ' UID 1)', 'ANNOTATION user.nobody', 'QUOTA user.nobody',
        'FETCH_SIEVE %(USERID nobody FILENAME x.script)', 'UNIQUEIDS (x y)', 'ANNOTATION ""') {
        my $r = $s->{c}->command("GET $what");
        like("@{ $r->{lines} }$r->{text}", qr/^(?:OK Success|\Q$NONE\E)$/, "GET $what, unknown");
    }
    for my $what ('UNUSER nobody', 'UNMAILBOX user.nobody', 'UNSUB %(USERID nobody MBOXNAME x)',
        'UNSIEVE %(USERID nobody FILENAME x.script)', 'UNACTIVATE_SIEVE %(USERID nobody)',
        'UNQUOTA user.nobody', 'UNANNOTATION %(MBOXNAME user.nobody ENTRY /x USERID "")',
        'EXPUNGE %(MBOXNAME user.nobody UNIQUEID x UID (1))', 'RESERVE %(PARTITION p MBOXNAME () GUID ())',
        'RENAME %(OLDMBOXNAME user.nobody NEWMBOXNAME user.nobody2 PARTITION default UIDVALIDITY 1)') {
        my $r = $s->{c}->command("APPLY $what");
        like($r->{text}, qr/^(?:OK Success|\Q$NONE\E)$/, "APPLY $what, unknown");
    }
    is(join("\n", $s->files), $before, 'no file came of it');
}
{
    my @boxes = map { CBTest::Feed->new(mboxname => $_) }
        qw(user.frank user.grace user.grace.Work team team.Old);
    for my $box (@boxes) {
        $box->append(message($box->{mboxname}));
        $box->sync($s->{c});
    }
    my @names = map { $_->{mboxname} } @boxes;
    my $got = $s->{c}->get("MAILBOXES (@names user.grace team user.nosuch DELETED.user.frank.x.5)");
    is_deeply([sort map { $_->{MBOXNAME} } @{ $got->{MAILBOX} }], [sort @names],
        'mailboxes of several users and of nobody, each once');
    my $shared = backup_state($site, '%SHARED');
    is_deeply([sort map { $_->{mboxname} } @{ $shared->{mailboxes} }], [qw(team team.Old)],
        'the shared ones have a backup of their own');
    # uploads that may be anybody's end in the right backup only
    my $box = $boxes[1];
    my $modseq = $box->{modseq};
    my $r = $box->append(message('for grace alone'));
    says('upload to several', $box->upload($modseq), 'OK Success');
    says('mailbox of one', $box->apply(since => $modseq), 'OK Success');
    is_deeply([map { m{([^/]+)_[^_]*$} } $s->stored('for grace alone')], ['grace'],
        'content in one backup only');
    $s->sound('several users');
}

# ---- RESERVE -----------------------------------------------------------------------

{
    my @guids = map { sha1_hex("nothing $_") } 1 .. 8190;
    my @have = map { $_->{guid} } @{ $alice->{records} }[0 .. 2];
    $s->listing;
    my $r = says('RESERVE of 8193 GUIDs', "APPLY RESERVE %(PARTITION default MBOXNAME (user.alice) GUID"
        . " (@have @guids))", 'OK Success');
    is("@{ $r->{lines} }", "MISSING (@guids)", 'those that are not there are missing');
    $r = says('RESERVE of what is there', "APPLY RESERVE %(PARTITION default MBOXNAME (user.alice) GUID"
        . " (@have))", 'OK Success');
    is("@{ $r->{lines} }", '', 'nothing is missing');
    $s->sound('RESERVE');
}

# ---- SINCE, checksums ----------------------------------------------------------------

{
    my $box = CBTest::Feed->new(mboxname => 'user.heidi');
    $box->append(message("heidi $_")) for 1 .. 3;
    $box->sync($s->{c});
    my ($modseq, $crc) = ($box->{modseq}, $box->crc);
    $box->set_flags(1, '\\Answered');
    my %delta = (since => $modseq, since_modseq => $modseq, since_crc => $crc, since_crc_annot => 12345678);
    my $before = backup_state($site, 'heidi');
    says('SINCE_MODSEQ too low', $box->apply(%delta, since_modseq => $modseq - 1), $CHANGED);
    says('SINCE_MODSEQ too high', $box->apply(%delta, since_modseq => $modseq + 1), $CHANGED);
    says('SINCE_CRC is another', $box->apply(%delta, since_crc => $crc ^ 1), $CHANGED);
    says('SINCE_CRC_ANNOT is another', $box->apply(%delta, since_crc_annot => 12345679), $CHANGED);
    says('SINCE_MODSEQ is no number', $box->apply(%delta, since_modseq => 'x'), $PARAMETERS);
    says('SINCE of an unknown mailbox', CBTest::Feed->new(mboxname => 'user.heidi.New')
        ->apply(since_modseq => 5, since_crc => 1), $CHANGED);
    is_deeply(backup_state($site, 'heidi'), $before, 'nothing was applied');
    says('SINCE is right', $box->apply(%delta, since_crc_annot => 0), 'OK Success');
    is(stored_box($box)->{computed_sync_crc}, $box->crc, 'and the change is there');

    # a delta with the wrong checksum
    $before = backup_state($site, 'heidi');
    $modseq = $box->{modseq};
    $box->set_flags(2, '\\Flagged');
    $s->{c}->get('USER heidi');
    says('delta with a wrong checksum', $box->apply(since => $modseq, sync_crc => 4711), $CHECKSUM);
    my $after = backup_state($site, 'heidi');
    $_->{mailboxes}[0]{mark} = 'any' for $before, $after;
    is_deeply($after, $before, 'nothing was applied');
    my $got = listed($box);
    is("$got->{HIGHESTMODSEQ} $got->{LAST_UID} $got->{SYNC_CRC}", '0 3 0', 'all records are asked for');
    says('all records', $box->apply, 'OK Success');
    is(listed($box)->{HIGHESTMODSEQ}, $box->{modseq}, 'and all is well');

    # a stale number at the master is accepted once, and does not make every delta a full one
    $s->{c}->get('USER heidi');
    my ($stale, $seen) = (4711, $box->{modseq});
    my $old = $box->crc;
    $box->set_flags(3, '\\Draft');
    $s->{c}->command($box->apply(since => $seen, sync_crc => $stale));
    listed($box);
    says('all records, stale checksum', $box->apply(sync_crc => $stale), 'OK Success');
    $seen = $box->{modseq};
    my $was = $box->crc;
    $box->set_flags(3);
    my $differs = $was ^ $stale;
    says('a delta with the same difference', $box->apply(since => $seen, sync_crc => $box->crc ^ $differs),
        'OK Success');
    $seen = $box->{modseq};
    $box->set_flags(1, '\\Seen');
    says('a delta with another difference', $box->apply(since => $seen, sync_crc => $box->crc), $CHECKSUM);
    listed($box);
    says('all records again', $box->apply, 'OK Success');
    is(stored_uids($box), '1 2 3', 'all there');
    is(stored_box($box)->{computed_sync_crc}, $box->crc, 'with the right checksum');

    # as 3.0 and 3.2 send it in batches: without a checksum
    my $batched = CBTest::Feed->new(mboxname => 'user.heidi.Batched');
    $batched->append(message("batched $_")) for 1 .. 2;
    my @none = (sync_crc => 0, sync_crc_annot => undef);
    $s->{c}->get('USER heidi');
    says('content of the first batch', $batched->upload, 'OK Success');
    says('first batch', $batched->apply(@none), 'OK Success');
    $seen = $batched->{modseq};
    $batched->append(message('batched 3'));
    says('content of the second batch', $batched->upload($seen), 'OK Success');
    says('second batch', $batched->apply(since => $seen, @none), 'OK Success');
    says('the same with checksums', $batched->apply(since => $batched->{modseq}), 'OK Success');
    is(stored_uids($batched), '1 2 3', 'all there');

    # older than what we have, and another content under a known UID
    for my $odd ([last_uid => 2], [highestmodseq => 2], [uidvalidity => 1]) {
        says("$odd->[0] goes back", $box->apply(since => $box->{modseq}, @{$odd}), $CHECKSUM);
        is(listed($box), undef, 'the mailbox is not listed');
        says('all of it', $box->apply, 'OK Success');
        is(listed($box)->{HIGHESTMODSEQ}, $box->{modseq}, 'and is again');
    }
    my $impostor = record_text({ %{ $box->{records}[0] }, guid => sha1_hex('x'), modseq => 99 });
    says('another content under a UID', $box->apply(records => [$impostor], highestmodseq => 99), $CHECKSUM);
    is(listed($box), undef, 'the mailbox is not listed');
    says('all of it', $box->apply, 'OK Success');
    $s->sound('checksums');
}

# ---- two connections --------------------------------------------------------------------

{
    my $other = $site->backup_csync;
    $s->{c}->command('RESTART');
    my $holder = CBTest::Holder->new($site->data_file('alice'));
    my $start = time;
    is($other->command('GET USER alice')->{text}, $LOCKED, 'what another program has locked is locked');
    cmp_ok(time - $start, '>=', 0.9, 'after waiting');
    is($other->command($alice->apply)->{text}, $LOCKED, 'MAILBOX too');
    is($other->command('APPLY SUB %(USERID alice MBOXNAME x)')->{text}, $LOCKED, 'SUB too');
    is($other->command('APPLY UNUSER alice')->{text}, $LOCKED, 'UNUSER too');
    is($other->command('APPLY MESSAGE (' . file_item(message('locked')) . ')')->{text}, $LOCKED,
        'MESSAGE too, and its content is skipped');
    is($other->command('NOOP')->{text}, 'OK Noop completed', 'it is in step');
    is($other->command('GET USER bob')->{text}, 'OK Success', 'and others are free');
    $holder->release;
    is($other->command('GET USER alice')->{text}, 'OK Success', 'now it is free');
    is($other->command('EXIT')->{text}, 'OK Finished', 'done');
    undef $other;
    # one that waits gets it as soon as it is free
    $other = $site->backup_csync;
    $s->listing;
    $other->send_raw("GET USER alice\r\n");
    $s->{c}->command('RESTART');
    is($other->answer->{text}, 'OK Success', 'who waits gets the lock when it is free');
    $other->command('EXIT');
    $s->sound('two connections');
}

# ---- small things -----------------------------------------------------------------------

{
    my $r = says('FORCE', 'APPLY FORCE %()', 'OK Success');
    is("@{ $r->{lines} }", '', 'says no more');
    $r = says('CAPABILITIES', 'APPLY CAPABILITIES (SIEVE-MAILBOX REPLICATION-ARCHIVE)', 'OK Success');
    is("@{ $r->{lines} }", 'ENABLED ()', 'nothing is enabled');
    my $box = CBTest::Feed->new(mboxname => 'user.ivan');
    $box->append(message('ivan'));
    says('GET USER ivan', 'GET USER ivan', 'OK Success');
    says('MESSAGE', $box->upload, 'OK Success');
    says('LOCAL_MAILBOX', $box->apply =~ s/APPLY MAILBOX/APPLY LOCAL_MAILBOX/r, 'OK Success');
    is(stored_uids($box), '1', 'is a MAILBOX');
    says('LOCAL_RENAME', 'APPLY LOCAL_RENAME %(OLDMBOXNAME user.ivan NEWMBOXNAME user.ivan.x PARTITION'
        . ' default UIDVALIDITY 7)', 'OK Success');
    $box->{mboxname} = 'user.ivan.x';
    is(listed($box)->{UIDVALIDITY}, 7, 'is a RENAME');
    says('LOCAL_UNMAILBOX', 'APPLY LOCAL_UNMAILBOX user.ivan.x', 'OK Success');
    is(listed($box), undef, 'is an UNMAILBOX');
    says('LOCAL_UNUSER', 'APPLY LOCAL_UNUSER ivan', 'OK Success');
    says('intermediate', 'APPLY MAILBOX %(UNIQUEID feedx MBOXNAME user.alice.I MBOXTYPE i'
        . ' HIGHESTMODSEQ 12 CREATEDMODSEQ 12 FOLDERMODSEQ 12)', 'OK Success');
    for my $never ('QUOTA x', 'QUOTA %()', 'UNQUOTA ()', 'ANNOTATION %(MBOXNAME user.nosuch ENTRY /x)',
        'UNANNOTATION %()') {
        says("$never must not fail", "APPLY $never", 'OK Success');
    }
    $s->sound('small things');
}

$s->modest;
done_testing;
