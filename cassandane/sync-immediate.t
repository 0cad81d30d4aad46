#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# A server that deletes at once, for single users and from the rolling log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Scenarios qw(run_theme);
use Test::More;

run_theme('Immediate', modes => [qw(user rolling)],
    options => { delete_mode => 'immediate', expunge_mode => 'immediate' });
done_testing;
