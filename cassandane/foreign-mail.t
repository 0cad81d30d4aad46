#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Files of Debian's backupd, of flags, annotations, limits, scripts and what an administrator's
# tools do: see CBTest::Foreign.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Foreign qw(run_foreign steps_from);
use Test::More;

# Debian's backupd dies of a keyword that is called NIL, with the record in its data file. All syncs
# end there from then on.
run_foreign('Flags',
    refuses => { 'a keyword NIL' => qr/APPLY MAILBOX .* MBOXNAME user\.alice\.Odd .* NIL .* -> $/s },
    fails => [steps_from('Flags', 'all hundred on one message, odd names')],
    lacks => { 'what the client would have sent after it' => qr/^alice: seen / });

run_foreign('Quota', lacks => { quota => qr/^alice: (?:listed QUOTA|quota of)/ });
run_foreign('Notes', refuses => { 'annotations of the server' => qr/GET ANNOTATION "" -> NO IMAP_PROTOCOL_ERROR/ });

# EXPUNGE is how the client says that records have been forgotten.
my $folder = qr/user\.alice\.(?:One|Three)/;
my $below = qr/^alice: DELETED\.user\.alice\.Two\.\w+: sync_crc/;
run_foreign('Expire',
    refuses => { 'EXPUNGE' => qr/APPLY EXPUNGE .* -> NO IMAP_PROTOCOL_ERROR/ },
    lacks => {
        'which messages the server has forgotten' =>
            qr/^alice: (?:mailbox|csync) $folder uid \d+: (?:only in the backup|alive in the backup only)$/,
        'the same in a folder deleted since' => $below,
        'new modseqs after the loss of an index' => qr/^alice:\x20(?:mailbox|csync)\x20user\.alice\.Three\x20uid\x20\d+\x20
            (?:modseq|last_updated|annotation\x20\S+(?:createdmodseq|savedate)\x20of\x20):
            |^alice:\x20listing\x20of\x20user\.alice\.Three\x20FOLDERMODSEQ/x,
        'so the sums differ' => qr/^alice: $folder: sync_crc/,
        'and the mailbox is to be sent again' =>
            qr/^alice: listing of $folder (?:HIGHESTMODSEQ|SYNC_CRC|SYNC_CRC_ANNOT): .* backup has '0'$/,
    },
    left => { 'what was forgotten in a folder that has gone' => $below });

done_testing;
