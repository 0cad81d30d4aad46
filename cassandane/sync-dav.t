#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Calendars, address books and files, for single users and from the rolling log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Scenarios qw(run_theme);
use Test::More;

run_theme('Dav', modes => [qw(user rolling)],
    options => { httpmodules => 'caldav carddav webdav', caldav_realm => 'test', conversations => 'yes', 'sievedir' => '%dir%/sieve' });
done_testing;
