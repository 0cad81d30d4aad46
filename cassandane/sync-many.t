#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A user with 500 folders, for a single user and from the rolling log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Scenarios qw(run_theme);
use Test::More;

run_theme('Many', modes => [qw(user rolling)]);
done_testing;
