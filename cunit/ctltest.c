/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctltest - parts of ctl_backups in a process of their own. The child opens a store of its own, as
 * main would, and prints to files, which the test reads when it has ended. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cunit/ctltest.h"
#include "cunit/unit.h"
#include "lib/strarray.h"
#include "lib/xmalloc.h"

/* The program's, where it stands beside main. */
void ctl_exit(int code)
{
    _exit(code);
}

void ctltest_init(struct ctltest *c, const char *extra, const char *users)
{
    struct strarray names = STRARRAY_INITIALIZER;
    memset(c, 0, sizeof(*c));
    lcbtest_init(&c->t, extra);
    lcbtest_open(&c->t, NULL);
    strarray_split(&names, users, " ");
    for (int i = 0; i < names.count; i++)
        CU_ASSERT_EQUAL(lcb_create(c->t.store, names.data[i], NULL), 0);
    strarray_fini(&names);
    c->opt.jobs = 1;
    c->opt.expire_age = -1;
}

void ctltest_fini(struct ctltest *c)
{
    lcbtest_fini(&c->t);
    buf_free(&c->out);
    buf_free(&c->err);
}

static void print_to(int fd, const char *path)
{
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (to < 0 || dup2(to, fd) < 0)
        _exit(99);
    close(to);
}

static void child(struct ctltest *c, const struct strarray *words, const char *out, const char *err,
                  int (*fn)(struct ctl *))
{
    struct ctl ctl = {.config = c->t.config, .opt = &c->opt, .argv = words->data, .argc = words->count};
    struct buf why = BUF_INITIALIZER;
    print_to(STDOUT_FILENO, out);
    print_to(STDERR_FILENO, err);
    if (ctl.argc && *ctl.argv[0] == '-') {
        ctl.argv++;
        ctl.argc--;
    }
    /* Neither SQLite nor locks may cross a fork. */
    if (lcb_store_open(c->t.config, NULL, &ctl.store, &why))
        _exit(98);
    int code = fn(&ctl);
    lcb_store_close(&ctl.store);
    fflush(NULL);
    _exit(code);
}

int ctltest_call(struct ctltest *c, const struct ctl_verb *verb, const char *line,
                 int (*fn)(struct ctl *))
{
    struct strarray words = STRARRAY_INITIALIZER;
    char *out = xasprintf("%s/stdout", c->t.dir), *err = xasprintf("%s/stderr", c->t.dir);
    int status = 0;
    strarray_split(&words, line, " ");
    c->opt.verb = verb;
    c->opt.mode = words.count && *words.data[0] == '-' ? words.data[0][1] : '\0';
    fflush(NULL);
    pid_t pid = fork();
    if (!pid)
        child(c, &words, out, err, fn);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    lcbtest_read(out, &c->out);
    lcbtest_read(err, &c->err);
    strarray_fini(&words);
    free(out);
    free(err);
    return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}
