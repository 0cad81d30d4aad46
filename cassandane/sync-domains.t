#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Odd names on a server with domains, and with the other form of names.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Scenarios qw(run_theme);
use Test::More;

run_theme('Names', modes => [qw(user rolling)],
    user => 'j.doe@two.example', reader => 'frank@two.example', others => ['alice', 'bob@one.example', 'frank@one.example'],
    options => { virtdomains => 'userid', unixhierarchysep => 'yes', altnamespace => 'yes',
        conversations => 'yes', conversations_db => 'twoskip' });
done_testing;
