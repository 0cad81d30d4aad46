#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Everything that happens to mailboxes, replicated with sync_client -m.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Scenarios qw(run_all);
use CBTest::Site;
use Test::More;

my $site = CBTest::Site->new(users => [qw(alice frank)]);
run_all($site, 'mailboxes', 'alice', 'frank');
done_testing;
