/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What every unit test file needs: CUnit, and a private scratch directory. */
#ifndef CUNIT_UNIT_H
#define CUNIT_UNIT_H

#include <CUnit/CUnit.h>

/* Register a suite of the NULL-terminated table TESTS under NAME. */
struct unit_test {
    const char *name;
    void (*fn)(void);
};
void unit_suite(const char *name, const struct unit_test *tests);

/* Absolute path of an empty directory that is this test's alone; removed when the run ends. */
const char *unit_tmpdir(void);

/* As CU_ASSERT_STRING_EQUAL, but shows both strings when they differ. */
#define UNIT_STR(actual, expected) unit_str((actual), (expected), __FILE__, __LINE__)
void unit_str(const char *actual, const char *expected, const char *file, int line);

#endif
