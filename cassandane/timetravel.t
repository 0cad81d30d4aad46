#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Any second of the retention period can be had back, whatever has happened since.
#
# A user's mailboxes are changed at random (CBTest::Life) and synchronised by a real sync_client
# as it happens, while days pass on the backup host (CBTest::Clock). After each sync the mail
# server is asked by IMAP what there is. In between the backup is compacted, indexed anew, moved,
# its index deleted, backups.db deleted and reconstructed, backupd killed in the middle of a sync.
# Before and after each of these, `cyr_backup --as-of T json all` must say for random seconds T what
# the server had then; and what was dead when the window began must be gone from the data file.
#
#     HISTORY_SEED=17 HISTORY_RUNS=1 prove timetravel.t     # one run again; its number is in its name
#     HISTORY_OPS=1000                                      # longer ones
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::History;
use Test::More;

CBTest::History::run(runs => 8, first => 1);
done_testing;
