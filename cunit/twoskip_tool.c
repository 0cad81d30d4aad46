/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* twoskip_tool - lib/twoskip from the command line, for tests against other programs.
 *
 *   twoskip_tool FILE show [PREFIX]      each record as key TAB value
 *   twoskip_tool FILE get KEY
 *   twoskip_tool FILE set KEY VALUE
 *   twoskip_tool FILE delete KEY
 *   twoskip_tool FILE txn                changes from standard input in one transaction:
 *                                        "set KEY VALUE", "delete KEY", "commit", "abort", or
 *                                        "damage" (die with the transaction open), each on a line
 *   twoskip_tool FILE damage KEY VALUE   store, then die by SIGKILL before the commit
 *   twoskip_tool FILE consistent | checkpoint | count
 *
 * The file is created if missing. Exit status: 0, 1 not found, 2 any other error. */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/twoskip.h"
#include "lib/xerr.h"

static int show_one(void *rock, const char *key, size_t keylen, const char *value, size_t vallen)
{
    (void)rock;
    fwrite(key, 1, keylen, stdout);
    putchar('\t');
    fwrite(value, 1, vallen, stdout);
    putchar('\n');
    return 0;
}

/* As a crash of the process: no destructor, no handler runs. */
static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static int run_txn(struct twoskip *ts)
{
    struct twoskip_txn *txn;
    char line[65536];
    int r = twoskip_begin(ts, &txn);
    while (!r && fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        char *rest = line, *verb = strsep(&rest, " "), *key = strsep(&rest, " ");
        if (!strcmp(verb, "set") && key && rest)
            r = twoskip_store(ts, txn, key, strlen(key), rest, strlen(rest));
        else if (!strcmp(verb, "delete") && key)
            r = twoskip_delete(ts, txn, key, strlen(key));
        else if (!strcmp(verb, "commit"))
            return twoskip_commit(&txn);
        else if (!strcmp(verb, "damage"))
            die();
        else
            break;
        if (r == XERR_NOTFOUND)
            r = 0;
    }
    if (txn)
        twoskip_abort(&txn);
    return r;
}

static int run_damage(struct twoskip *ts, const char *key, const char *value)
{
    struct twoskip_txn *txn;
    int r = twoskip_begin(ts, &txn);
    if (!r)
        r = twoskip_store(ts, txn, key, strlen(key), value, strlen(value));
    if (!r)
        die();
    return r;
}

static int run(struct twoskip *ts, const char *verb, const char *a, const char *b)
{
    struct buf value = BUF_INITIALIZER;
    uint64_t count = 0;
    int r = XERR_PARAM;
    if (!strcmp(verb, "show")) {
        r = twoskip_foreach(ts, NULL, a ? a : "", a ? strlen(a) : 0, show_one, NULL);
    } else if (!strcmp(verb, "get") && a) {
        r = twoskip_fetch(ts, NULL, a, strlen(a), &value);
        if (!r)
            printf("%s\n", buf_cstring(&value));
    } else if (!strcmp(verb, "set") && b) {
        r = twoskip_store(ts, NULL, a, strlen(a), b, strlen(b));
    } else if (!strcmp(verb, "delete") && a) {
        r = twoskip_delete(ts, NULL, a, strlen(a));
    } else if (!strcmp(verb, "txn")) {
        r = run_txn(ts);
    } else if (!strcmp(verb, "damage") && b) {
        r = run_damage(ts, a, b);
    } else if (!strcmp(verb, "consistent")) {
        r = twoskip_consistent(ts);
    } else if (!strcmp(verb, "checkpoint")) {
        r = twoskip_checkpoint(ts);
    } else if (!strcmp(verb, "count")) {
        r = twoskip_count(ts, &count);
        printf("%llu\n", (unsigned long long)count);
    }
    buf_free(&value);
    return r;
}

int main(int argc, char **argv)
{
    struct twoskip *ts = NULL;
    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: twoskip_tool FILE VERB [KEY [VALUE]]\n");
        return 2;
    }
    int r = twoskip_open(vfs_system(), argv[1], TWOSKIP_CREATE, &ts);
    if (!r)
        r = run(ts, argv[2], argc > 3 ? argv[3] : NULL, argc > 4 ? argv[4] : NULL);
    twoskip_close(&ts);
    if (r && r != XERR_NOTFOUND)
        fprintf(stderr, "twoskip_tool: %s: %s\n", argv[1], error_message(r));
    return r == 0 ? 0 : r == XERR_NOTFOUND ? 1 : 2;
}
