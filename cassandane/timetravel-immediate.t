#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# As timetravel.t, with a mail server on which deleted folders and expunged messages are gone at once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::History;
use Test::More;

CBTest::History::run(runs => 8, first => 11, immediate => 1);
done_testing;
