/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* lcbtest_file - a data file of which every member is known, to be damaged. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backup/lcb_int.h"
#include "cunit/lcbtest.h"
#include "cunit/unit.h"
#include "lib/xmalloc.h"

static void make_group(struct lcbtest_file *f, struct lcb *b, unsigned n)
{
    const char *records[2] = {NULL, NULL};
    struct buf text = BUF_INITIALIZER;
    struct message_guid guid;
    char id[16], name[32], hex[41];
    f->start[n][0] = b->df.end;
    lcbtest_message(n * 3 + 100, &text, &guid);
    message_guid_encode(&guid, hex);
    CU_ASSERT_EQUAL(lcbtest_upload(b, n * 3 + 100, 1), 0);
    f->start[n][1] = b->df.end;
    CU_ASSERT_EQUAL(lcbtest_upload(b, n * 3 + 101, 1), 0);
    f->start[n][2] = b->df.end;
    snprintf(id, sizeof(id), "u%u", n);
    snprintf(name, sizeof(name), "user.joe.f%u", n);
    records[0] = lcbtest_record(1, 5, "\\Seen", hex);
    CU_ASSERT_EQUAL(lcbtest_mailbox(b, lcbtest_header(id, name, 1, 5, ""), records, NULL), 0);
    CU_ASSERT_EQUAL_FATAL(lcb_commit(b), 0);
    f->start[n][3] = b->df.end;
    lcbtest_settime(lcbtest_time() + 1);
    buf_free(&text);
}

static void keep_index(struct lcbtest_file *f, unsigned n)
{
    lcbtest_int(f->path, "PRAGMA wal_checkpoint(TRUNCATE)");
    lcbtest_saveindex(f->path, &f->index[n]);
    lcbtest_dump(f->path, &f->dump[n]);
}

void lcbtest_makefile(struct lcbtest_file *f)
{
    memset(f, 0, sizeof(*f));
    lcbtest_init(&f->t, "");
    lcbtest_open(&f->t, NULL);
    struct lcb *b = lcbtest_joe(&f->t);
    f->path = xstrdup(lcb_path(b));
    keep_index(f, 0);
    for (unsigned n = 0; n < LCBTEST_GROUPS; n++) {
        make_group(f, b, n);
        keep_index(f, n + 1);
    }
    lcb_close(&b);
    lcbtest_read(f->path, &f->data);
}

void lcbtest_freefile(struct lcbtest_file *f)
{
    free(f->path);
    buf_free(&f->data);
    for (int i = 0; i <= LCBTEST_GROUPS; i++) {
        buf_free(&f->dump[i]);
        lcbtest_freeindex(&f->index[i]);
    }
    lcbtest_fini(&f->t);
}

void lcbtest_openfile(struct lcbtest_file *f)
{
    struct lcb *b = NULL;
    struct stat st;
    CU_ASSERT_EQUAL_FATAL(lcb_open_file(f->t.store, f->path, LCB_WRITE, 0, &b), 0);
    CU_ASSERT_EQUAL(stat(f->path, &st), 0);
    CU_ASSERT_EQUAL(st.st_size, b->df.end);
    lcb_close(&b);
}
