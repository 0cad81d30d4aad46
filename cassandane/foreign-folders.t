#!/usr/bin/perl
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# Files of Debian's backupd, of folders and users that came, went and changed hands: see
# CBTest::Foreign.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CBTest::Foreign qw(run_foreign steps_from);
use Test::More;

# sync_client itself has no order for renames that form a circle. Debian's backupd renames all mailboxes
# of a name, those that are deleted too; when it has, the client can find none either.
run_foreign('Folders', fails => ['names changed with each other'],
    may => [steps_from('Folders', 'renamed to what the deleted one was called')]);

# That a shared mailbox was given to a user is a RENAME which Debian's backupd has never been told of: the
# question before it, about mailboxes of two owners, was refused. No client asks for the old name again,
# so it stays.
my $given = qr/^%SHARED: (?:mailbox|csync) shared: only in the backup$/;
run_foreign('Users',
    refuses => { 'mailboxes of several users in one question' => qr/GET MAILBOXES \(.* -> NO IMAP_PROTOCOL_BAD_PARAMETERS/ },
    lacks => { 'that a shared mailbox was given to a user' => $given },
    left => { 'that a shared mailbox was given to a user' => $given });

run_foreign('Immediate', refuses => { 'EXPUNGE' => qr/APPLY EXPUNGE .* -> NO IMAP_PROTOCOL_ERROR/ });
done_testing;
