#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Very many messages in one folder, with little memory.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Scenarios qw(run_theme);
use Test::More;

run_theme('Crowd', modes => ['user']);
done_testing;
