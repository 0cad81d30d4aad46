#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A message of 60 MB, with little memory.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Scenarios qw(run_theme);
use Test::More;

run_theme('Huge', modes => [qw(user rolling)]);
done_testing;
