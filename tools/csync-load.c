/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* csync-load - replicate mailboxes to a backup server, as sync_client does, without a mail server.
 *
 * The mailboxes are made of corpora and of nothing else, so every server that is given the same
 * options gets the same bytes. How long it took, and how much was sent, is printed as one line of
 * JSON. Any answer that is not the expected one ends the run with exit code 1. */
#include "config.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "lib/xerr.h"
#include "lib/xmalloc.h"
#include "tools/load.h"

struct run {
    const char *socket;
    const char *user;
    size_t users, folders, singly;
    struct load_later later;
    int empty, apart;
    struct corpus *corpora;
    size_t ncorpora;
    struct corpus_message *messages; /* of all corpora, as many as asked for */
    size_t nmessages;
    char **names; /* of the users */
    struct load_mailbox *mailboxes; /* user by user */
    struct load_count count;
};

static void usage(FILE *out)
{
    fputs("usage: csync-load [options] SOCKET [CORPUS[:COUNT]]...\n"
          "\n"
          "Replicates mailboxes that hold the messages of corpora (the first COUNT of each) to the\n"
          "backup server at a UNIX socket. What the server has already is not sent again.\n"
          "  --user NAME    whose mailboxes (default bench)\n"
          "  --users N      N users, NAME0001 and so on, each with an equal share of the messages,\n"
          "                 over one connection\n"
          "  --apart        each of them over a new connection\n"
          "  --folders N    each user has N mailboxes, each with an equal share\n"
          "  --changes N    flags of N messages were changed after all had arrived\n"
          "  --expunge N    each N-th message was expunged after that\n"
          "  --singly N     the last N events (a message that arrives, is changed or expunged) are\n"
          "                 replicated one by one, each over a new connection; all before them must\n"
          "                 have been replicated by an earlier run; one user with one mailbox only\n"
          "  --empty        connect and leave\n",
          out);
}

/* CORPUS or CORPUS:COUNT. */
static int add_corpus(struct run *r, const char *arg)
{
    struct corpus *c = &r->corpora[r->ncorpora];
    char *path = xstrdup(arg), *colon = strrchr(path, ':');
    size_t count = SIZE_MAX;
    if (colon && strspn(colon + 1, "0123456789") == strlen(colon + 1)) {
        *colon = '\0';
        count = strtoull(colon + 1, NULL, 10);
    }
    int e = corpus_open(c, path);
    if (e) {
        fprintf(stderr, "csync-load: %s: %s\n", path, e == XERR_FORMAT ? "not a corpus" : strerror(-e));
    } else if (count != SIZE_MAX && count > c->count) {
        fprintf(stderr, "csync-load: %s has only %zu messages\n", path, c->count);
        corpus_close(c);
        e = -1;
    } else {
        r->ncorpora++;
        count = count < c->count ? count : c->count;
        r->messages = xrealloc(r->messages, (r->nmessages + count + 1) * sizeof(*r->messages));
        memcpy(r->messages + r->nmessages, c->messages, count * sizeof(*r->messages));
        r->nmessages += count;
    }
    free(path);
    return e ? -1 : 0;
}

/* Deal out the messages in order. */
static void make_mailboxes(struct run *r)
{
    size_t all = r->users * r->folders;
    r->names = xcalloc(r->users, sizeof(*r->names));
    r->mailboxes = xcalloc(all, sizeof(*r->mailboxes));
    for (size_t i = 0; i < all; i++) {
        size_t u = i / r->folders;
        if (!r->names[u])
            r->names[u] = r->users > 1 ? xasprintf("%s%04zu", r->user, u + 1) : xstrdup(r->user);
        size_t from = r->nmessages * i / all, to = r->nmessages * (i + 1) / all;
        load_mailbox_init(&r->mailboxes[i], r->names[u], i % r->folders, i, r->messages + from,
                          to - from, &r->later);
    }
}

static void run_free(struct run *r)
{
    for (size_t i = 0; r->mailboxes && i < r->users * r->folders; i++)
        load_mailbox_fini(&r->mailboxes[i]);
    for (size_t i = 0; r->names && i < r->users; i++)
        free(r->names[i]);
    for (size_t i = 0; i < r->ncorpora; i++)
        corpus_close(&r->corpora[i]);
    free(r->mailboxes);
    free(r->names);
    free(r->corpora);
    free(r->messages);
}

/* Users FROM to TO over one connection. */
static int replicate_some(struct run *r, size_t from, size_t to)
{
    struct load_session *s;
    if (load_session_open(&s, r->socket, &r->count))
        return -1;
    for (size_t u = from; u < to && !r->empty; u++) {
        if (load_session_user(s, r->mailboxes + u * r->folders, r->folders)) {
            load_session_abort(&s);
            return -1;
        }
    }
    return load_session_close(&s);
}

static int replicate(struct run *r)
{
    int e = 0;
    if (!r->apart)
        return replicate_some(r, 0, r->users);
    for (size_t u = 0; u < r->users && !e; u++)
        e = replicate_some(r, u, u + 1);
    return e;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The last events one by one, or everything at once. */
static int run(struct run *r, double *spent)
{
    int e = 0;
    if (r->empty)
        return replicate(r);
    for (size_t i = 0; i < r->users * r->folders; i++)
        load_mailbox_goto(&r->mailboxes[i], load_mailbox_events(&r->mailboxes[i]) - r->singly);
    double start = seconds();
    if (!r->singly)
        e = replicate(r);
    for (size_t i = r->singly; i > 0 && !e; i--) {
        load_mailbox_goto(r->mailboxes, load_mailbox_events(r->mailboxes) - i + 1);
        e = replicate(r);
    }
    *spent = seconds() - start;
    return e;
}

static int plausible(const struct run *r)
{
    if (r->empty)
        return !r->ncorpora;
    if (!r->users || !r->folders || !r->nmessages || r->nmessages < r->users * r->folders)
        return 0;
    if (r->users * r->folders > 1 && (r->later.changes || r->later.expunge || r->singly))
        return 0;
    return r->singly <= r->nmessages + r->later.changes +
                            (r->later.expunge ? r->nmessages / r->later.expunge : 0);
}

static size_t *number_of(struct run *r, int option)
{
    switch (option) {
    case 'U':
        return &r->users;
    case 'f':
        return &r->folders;
    case 'c':
        return &r->later.changes;
    case 'x':
        return &r->later.expunge;
    case 's':
        return &r->singly;
    }
    return NULL;
}

static int parse(struct run *r, int argc, char **argv)
{
    static const struct option options[] = {
        {"user", required_argument, NULL, 'u'},    {"users", required_argument, NULL, 'U'},
        {"folders", required_argument, NULL, 'f'}, {"changes", required_argument, NULL, 'c'},
        {"singly", required_argument, NULL, 's'},  {"empty", no_argument, NULL, 'e'},
        {"expunge", required_argument, NULL, 'x'}, {"apart", no_argument, NULL, 'a'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
        size_t *number = number_of(r, c);
        if (number)
            *number = strtoull(optarg, NULL, 10);
        else if (c == 'a')
            r->apart = 1;
        else if (c == 'u')
            r->user = optarg;
        else if (c == 'e')
            r->empty = 1;
        else
            return c == 'h' ? -2 : -1;
    }
    if (optind == argc)
        return -1;
    r->socket = argv[optind++];
    r->corpora = xcalloc((size_t)(argc - optind) + 1, sizeof(*r->corpora));
    for (; optind < argc; optind++)
        if (add_corpus(r, argv[optind]))
            return -3;
    return plausible(r) ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct run r = {.user = "bench", .users = 1, .folders = 1};
    double spent = 0;
    signal(SIGPIPE, SIG_IGN);
    int e = parse(&r, argc, argv);
    if (e) {
        if (e > -3)
            usage(e == -2 ? stdout : stderr);
        run_free(&r);
        return e == -2 ? 0 : e == -1 ? EX_USAGE : EX_NOINPUT;
    }
    if (!r.empty)
        make_mailboxes(&r);
    e = run(&r, &spent);
    if (!e)
        printf("{\"connections\": %zu, \"mailboxes\": %zu, \"records\": %zu, \"messages\": %zu, "
               "\"bytes\": %zu, \"wall_s\": %.6f}\n",
               r.count.connections, r.count.mailboxes, r.count.records, r.count.messages,
               r.count.bytes, spent);
    run_free(&r);
    return e ? 1 : 0;
}
