#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# What Cyrus 3.6.1 makes of our files, when folders and users came, went and changed hands: see
# CBTest::Upstream.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Upstream qw(run_upstream);
use Test::More;

run_upstream('Folders', qw(again since twice));
run_upstream('Users', qw(named user));
run_upstream('Immediate', qw(named));
done_testing;
