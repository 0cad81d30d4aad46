#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# What Cyrus 3.6.1 makes of our files, of flags, annotations, limits, scripts, calendars, odd names and
# what an administrator's tools do: see CBTest::Upstream.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Upstream qw(run_upstream);
use Test::More;

run_upstream('Flags');
run_upstream('Notes');
run_upstream('Quota', options => { sieve_maxscripts => 20, sieve_maxscriptsize => 1024 });
run_upstream('Expire', defects => [qw(again since twice)], options => {
    'partition-other' => '%dir%/other', archive_enabled => 'yes', archive_days => 1,
    'archivepartition-default' => '%dir%/archive', 'archivepartition-other' => '%dir%/archive-other' });
run_upstream('Dav', options => { httpmodules => 'caldav carddav webdav', caldav_realm => 'test',
    conversations => 'yes', sievedir => '%dir%/sieve' });
run_upstream('Names', user => 'j.doe@two.example', reader => 'frank@two.example',
    others => ['alice', 'bob@one.example', 'frank@one.example'],
    options => { virtdomains => 'userid', unixhierarchysep => 'yes', altnamespace => 'yes',
        conversations => 'yes', conversations_db => 'twoskip' });
done_testing;
