#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# What Cyrus 3.6.1 makes of our files, of calendars and odd names: see CBTest::Upstream.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Upstream qw(run_upstream);
use Test::More;

run_upstream('Dav');
run_upstream('Names');
done_testing;
