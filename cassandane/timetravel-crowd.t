#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# As timetravel.t, with several users and shared mailboxes in one connection, synchronised as a whole
# (sync_client -A), from the rolling log, by single runs and by the daemon, mailbox by mailbox (-m), and
# user by user (-u).
#
#     HISTORY_MODE=rolling    # one of all, rolling, mailboxes, user
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::History;
use Test::More;

CBTest::History::run_crowds(runs => 4, first => 21);
done_testing;
