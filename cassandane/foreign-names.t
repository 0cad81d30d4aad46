#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Files of Debian's backupd, of calendars and odd names: see CBTest::Foreign.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Foreign qw(run_foreign);
use Test::More;

run_foreign('Dav');
run_foreign('Names', lacks => { quota => qr/: (?:listed QUOTA|quota of)/ });
done_testing;
