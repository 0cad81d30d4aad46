#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# cyr_expire, unexpunge, reconstruct and an archive, in every mode of sync_client.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Scenarios qw(run_theme);
use Test::More;

run_theme('Expire', options => {
    'partition-other' => '%dir%/other', archive_enabled => 'yes', archive_days => 1,
    'archivepartition-default' => '%dir%/archive', 'archivepartition-other' => '%dir%/archive-other' });
done_testing;
