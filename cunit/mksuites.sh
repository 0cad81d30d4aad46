#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
# Print the table of test suites whose names are the arguments.
for s in "$@"; do echo "void suite_$s(void);"; done
echo '#define SUITES \'
for s in "$@"; do echo "    suite_$s, \\"; done
echo '    NULL'
