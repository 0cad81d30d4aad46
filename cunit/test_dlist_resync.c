/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of imap/dlist_read: finding the end of commands that are broken. */
#include "config.h"

#include <string.h>

#include "cunit/unit.h"
#include "imap/dlist.h"
#include "imap/sync_record.h"
#include "lib/xerr.h"

#define GUID1 "00a1a6bfe5dee6a06f1c70f78eb26150f42e2b08"

/* Where the command ended and the next begins: a line that no list can swallow, because it breaks
 * off in a quoted string, and one to be found. */
#define FENCE "\"\r\n"
#define SENTINEL "SENTINEL\r\n"

/* A stream that hands out its bytes in pieces of 1 to STEP. */
struct dribble {
    const char *p;
    size_t left, step;
    unsigned seed;
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static ssize_t dribble_read(void *rock, void *p, size_t n)
{
    struct dribble *d = rock;
    size_t piece = 1 + next_random(&d->seed) % d->step;
    if (piece > d->left)
        piece = d->left;
    if (piece > n)
        piece = n;
    memcpy(p, d->p, piece);
    d->p += piece;
    d->left -= piece;
    return (ssize_t)piece;
}

/* ---- A server in small: reads one command as a backup server would ---- */

static int read_files(struct dlist_reader *r)
{
    char body[7];
    struct dlist *d;
    int e = dlist_reader_enter(r, 0);
    while (!e && (e = dlist_reader_more(r)) > 0) {
        if ((e = dlist_reader_value(r, &d)))
            return e;
        if (d->type != DL_FILE)
            return XERR_PARAM;
        ssize_t n;
        while ((n = dlist_reader_body(r, body, sizeof(body))) > 0)
            ;
        e = (int)n;
    }
    return e;
}

static int read_records(struct dlist_reader *r)
{
    struct sync_record rec = {0};
    int e = dlist_reader_enter(r, 0);
    while (!e && (e = dlist_reader_more(r)) > 0)
        e = sync_record_read(&rec, r, 1000);
    sync_record_fini(&rec);
    return e;
}

static int read_mailbox(struct dlist_reader *r)
{
    struct buf key = BUF_INITIALIZER, text = BUF_INITIALIZER;
    int e = dlist_reader_enter(r, 1);
    while (!e && (e = dlist_reader_more(r)) > 0) {
        if ((e = dlist_reader_key(r, &key)))
            break;
        if (!strcmp(buf_cstring(&key), "RECORD"))
            e = read_records(r);
        else
            e = dlist_reader_copy(r, &text, 1000);
        buf_reset(&text);
    }
    buf_free(&key);
    buf_free(&text);
    return e;
}

static int read_command(struct dlist_reader *r)
{
    struct buf verb = BUF_INITIALIZER, name = BUF_INITIALIZER;
    struct dlist *d;
    int e = dlist_reader_word(r, &verb, 32);
    if (!e)
        e = dlist_reader_word(r, &name, 32);
    if (!e && !strcmp(buf_cstring(&name), "MESSAGE"))
        e = read_files(r);
    else if (!e && !strcmp(buf_cstring(&name), "MAILBOX"))
        e = read_mailbox(r);
    else if (!e && !strcmp(buf_cstring(&name), "SKIP"))
        e = dlist_reader_skip(r);
    else if (!e)
        e = dlist_reader_value(r, &d);
    if (!e)
        e = dlist_reader_eol(r);
    buf_free(&verb);
    buf_free(&name);
    return e;
}

/* Serve one command of N bytes at TEXT, resynchronise if it was bad, and append what the stream
 * holds then (that is, what the next commands would be) to REST. Returns the error of the command.
 */
static int serve(const char *text, size_t n, size_t step, unsigned seed, struct buf *rest)
{
    struct dribble d = {text, n, step, seed};
    struct protstream *in = prot_readfn(dribble_read, &d);
    struct dlist_pool *pool = dlist_pool_new(20000);
    struct dlist_reader r;
    char piece[100];
    ssize_t got;
    dlist_reader_init(&r, in, pool);
    int e = read_command(&r);
    if (e && e != XERR_EOF) {
        int resync = dlist_reader_resync(&r);
        CU_ASSERT(resync == 0 || resync == XERR_EOF);
        CU_ASSERT_EQUAL(r.depth, 0);
        if (!resync)
            CU_ASSERT_EQUAL(r.skip, 0);
    }
    while ((got = prot_read(in, piece, sizeof(piece))) > 0)
        buf_appendmap(rest, piece, (size_t)got);
    CU_ASSERT_EQUAL(got, 0);
    prot_free(&in);
    dlist_pool_free(&pool);
    return e;
}

/* The command fails with ERROR, and the next is found. */
static void check(const char *text, size_t n, int error)
{
    static const size_t steps[] = {1, 3, 100, 100000};
    struct buf all = BUF_INITIALIZER, rest = BUF_INITIALIZER;
    buf_appendmap(&all, text, n);
    buf_appendcstr(&all, SENTINEL);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        buf_reset(&rest);
        int e = serve(all.s, all.len, steps[i], 1, &rest);
        CU_ASSERT_EQUAL(e, error);
        if (e != error)
            printf("\n  [%s] gave %d\n", text, e);
        UNIT_STR(buf_cstring(&rest), SENTINEL);
    }
    buf_free(&all);
    buf_free(&rest);
}
#define CHECK(text, error) check(text, sizeof(text) - 1, error)

#define LIT "{19+}\r\nNOOP\r\n{5}\r\n) \"(\r\n.."
#define FILE1 "%{default " GUID1 " 19}\r\nNOOP\r\n{5}\r\n) \"(\r\n.."
#define FILES "(" FILE1 " " FILE1 ")\r\n"

static void test_good(void)
{
    CHECK("APPLY X %(A " LIT " B " LIT ")\r\n", 0);
    CHECK("APPLY X " LIT "\n", 0);
    CHECK("APPLY SKIP %(A " LIT " B (" FILE1 ") C ((((())))))) \r\n", XERR_SYNTAX);
    CHECK("APPLY SKIP %(A " LIT " B (" FILE1 ") C ((((())))))\r\n", 0);
    CHECK("APPLY MESSAGE " FILES, 0);
}

static void test_line_end(void)
{
    CHECK("\r\n", XERR_SYNTAX);
    CHECK("APPLY\r\n", XERR_SYNTAX);
    CHECK("APPLY X\r\n", XERR_SYNTAX);
    CHECK("APPLY X \r\n", XERR_SYNTAX);
    CHECK("APPLY X\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE\r\n", XERR_SYNTAX);
    CHECK("APPLY MAILBOX \r\n", XERR_SYNTAX);
    CHECK("APPLY X a b\r\n", XERR_SYNTAX);
    CHECK("APPLY X (a b) \r\n", XERR_SYNTAX);
    CHECK("APPLY X (a b)\r\r\n", XERR_SYNTAX);
}

static void test_literals(void)
{
    CHECK("APPLY X ) " LIT " B " LIT ")\r\n", XERR_SYNTAX);
    CHECK("APPLY X \"unterminated " LIT "\r\n", XERR_SYNTAX);
    CHECK("APPLY X %(A " LIT " B \"unterminated)\r\n", XERR_SYNTAX);
    CHECK("APPLY X \"nul \0 \" " LIT "\r\n", XERR_SYNTAX);
    CHECK("APPLY X (nul\0 " LIT ")\r\n", XERR_SYNTAX);
    CHECK("APPLY X " LIT " " LIT "\r\n", XERR_SYNTAX);
    CHECK("APPLY X x" LIT "\r\n", XERR_SYNTAX);
    CHECK("APPLY X (x" LIT ")\r\n", XERR_SYNTAX);
    CHECK("APPLY X %(x" LIT " y)\r\n", XERR_SYNTAX);
    CHECK("APPLY X {5 x " LIT "\r\n", XERR_SYNTAX);
    CHECK("APPLY X ({5 " LIT ")\r\n", XERR_SYNTAX);
    CHECK("APPLY X ({5}" LIT ")\r\n", XERR_SYNTAX);
    CHECK("APPLY X ({5}x)\r\n", XERR_SYNTAX);
    CHECK("APPLY X ({5}\rx)\r\n", XERR_SYNTAX);
    CHECK("APPLY X ({+}\r\n", XERR_SYNTAX);
    CHECK("APPLY X {0}\r\n " LIT "\r\n", XERR_SYNTAX);
    CHECK("APPLY X {0}\r\n{0+}\r\n\r\n", XERR_SYNTAX);
    CHECK("APPLYTHATISMUCHTOOLONGFORACOMMANDWORD " LIT "\r\n", XERR_TOOBIG);
}

static void test_files(void)
{
    CHECK("APPLY X " FILES, XERR_SYNTAX);
    CHECK("APPLY X %{default " GUID1 " 4}\r\n\r\n\r\n\r\n", XERR_SYNTAX);
    CHECK("APPLY MAILBOX %(A " FILES, XERR_SYNTAX);
    CHECK("APPLY MAILBOX %(RECORD (%(UID 1 GUID " FILES, XERR_PARAM);
    CHECK("APPLY MAILBOX %(RECORD (%(UID 1 UID " FILE1 " %x)))\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE ) " FILES, XERR_SYNTAX);
    CHECK("APPLY MESSAGE x" FILES, XERR_SYNTAX);
    CHECK("APPLY MESSAGE (" FILE1 " x" FILE1 ")\r\n", XERR_PARAM);
    CHECK("APPLY MESSAGE (" FILE1 " \"" FILE1 ")\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (" FILE1 " {3+}\r\nabc " FILE1 ")\r\n", XERR_PARAM);
    CHECK("APPLY MESSAGE (%{default tooshort 3}\r\nab\n " FILE1 ")\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (%{default " GUID1 "x 3}\r\nab\n " FILE1 ")\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (%{a b c d 3}\r\nab\n " FILE1 ")\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (%{{7+}\r\n\r\n\r\n\r\n) " GUID1 " 3}\r\nab\n x)\r\n", XERR_PARAM);
    CHECK("APPLY MESSAGE (%{{7+}\r\n\r\n\r\n\r\n) bad 3}\r\nab\n x)\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (%{{3+}\r\na\0b " GUID1 " 3}\r\nab\n x)\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (%{default " GUID1 " x3}\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (%{\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (%\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (% {3}\r\nab\n)\r\n", XERR_SYNTAX);
    CHECK("APPLY MESSAGE (" FILE1 ") " FILES, XERR_SYNTAX);
}

/* A literal that is over the limit is jumped over, however it was met. */
static void test_too_big(void)
{
    static const char *const heads[] = {"APPLY X ", "APPLY X (a %(B ", "APPLY MAILBOX %(A ",
                                        "APPLY MAILBOX %(RECORD (%(UID "};
    struct buf b = BUF_INITIALIZER;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        buf_setcstr(&b, heads[i]);
        buf_appendcstr(&b, "{30000+}\r\n");
        for (int k = 0; k < 5000; k++)
            buf_appendcstr(&b, "NOOP\r\n");
        buf_appendcstr(&b, " " LIT ")))\r\n");
        check(b.s, b.len, XERR_TOOBIG);
    }
    buf_free(&b);
}

static void test_endless_literal(void)
{
    static const char text[] = "APPLY X {99999999999999999999}\r\nNOOP\r\n" SENTINEL;
    struct buf rest = BUF_INITIALIZER;
    CU_ASSERT_EQUAL(serve(text, sizeof(text) - 1, 100, 1, &rest), XERR_TOOBIG);
    CU_ASSERT_EQUAL(rest.len, 0);
    buf_free(&rest);
}

/* The caller gives up in the middle of a file body. */
static void test_half_read_body(void)
{
    static const char text[] = "(" FILE1 " " FILE1 ")\r\n" SENTINEL;
    for (size_t n = 0; n <= 19; n++) {
        struct protstream *in = prot_readmem(text, sizeof(text) - 1);
        struct dlist_pool *pool = dlist_pool_new(20000);
        struct dlist_reader r;
        struct dlist *d;
        char body[19];
        struct buf word = BUF_INITIALIZER;
        dlist_reader_init(&r, in, pool);
        CU_ASSERT_EQUAL(dlist_reader_enter(&r, 0), 0);
        CU_ASSERT_EQUAL(dlist_reader_more(&r), 1);
        CU_ASSERT_EQUAL(dlist_reader_value(&r, &d), 0);
        CU_ASSERT_EQUAL(dlist_reader_body(&r, body, n), (ssize_t)n);
        CU_ASSERT_EQUAL(dlist_reader_resync(&r), 0);
        CU_ASSERT_EQUAL(dlist_reader_word(&r, &word, 20), 0);
        UNIT_STR(buf_cstring(&word), "SENTINEL");
        buf_free(&word);
        prot_free(&in);
        dlist_pool_free(&pool);
    }
}

/* ---- Random damage ---- */

/* Length of the first command of the N bytes at P by the rule of line ends alone, written down as
 * plainly as possible; 0 if it does not end. */
static size_t command_length(const char *p, size_t n)
{
    size_t at = 0, start = 0;
    int file_seen = 0;
    for (;;) {
        const char *lf = memchr(p + at, '\n', n - at);
        if (!lf)
            return 0;
        size_t end = (size_t)(lf - p), next = end + 1, digits = 0;
        for (size_t i = start; i + 1 < end; i++)
            file_seen |= p[i] == '%' && p[i + 1] == '{';
        if (end > start && p[end - 1] == '\r')
            end--;
        if (end == start || p[--end] != '}')
            return next;
        int plus = end > start && p[end - 1] == '+';
        end -= (size_t)plus;
        uint64_t size = 0, scale = 1;
        for (; end > start && p[end - 1] >= '0' && p[end - 1] <= '9'; end--, digits++) {
            size += scale * (uint64_t)(p[end - 1] - '0');
            scale *= 10;
        }
        char before = end > start ? p[end - 1] : '\0';
        int literal = before == '{', file = file_seen && !plus && (before == ' ' || before == '\t');
        if (!digits || (!literal && !file))
            return next;
        if (digits > 15 || size > n - next)
            return 0;
        if (file)
            file_seen = 0;
        at = start = next + size;
    }
}

static void mutate(struct buf *b, unsigned *seed)
{
    static const char bytes[] = "\r\n\t \"\\%{}()+0123456789aZ\x80\x01\0";
    size_t at = next_random(seed) % b->len;
    char c = bytes[next_random(seed) % sizeof(bytes)];
    switch (next_random(seed) % 4) {
    case 0:
        b->s[at] = c;
        break;
    case 1: /* insert */
        buf_ensure(b, 1);
        memmove(b->s + at + 1, b->s + at, b->len - at);
        b->s[at] = c;
        b->len++;
        break;
    case 2: /* delete */
        memmove(b->s + at, b->s + at + 1, b->len - at - 1);
        b->len--;
        break;
    default: /* flip a bit */
        b->s[at] = (char)(b->s[at] ^ (1 << next_random(seed) % 8));
    }
}

static const char *const commands[] = {
    "APPLY MESSAGE " FILES,
    "APPLY MESSAGE (%{\"a b\" " GUID1 " 12}\r\n(\r\n{99}\r\n\"\r\n)\r\n",
    "APPLY MAILBOX %(UNIQUEID u MBOXNAME " LIT " ACL \"a\tb\\\"\t\" OPTIONS \"\" ANNOTATIONS "
    "(%(ENTRY /comment USERID \"\" MODSEQ 0 VALUE " LIT ")) RECORD (%(UID 1 MODSEQ 2 LAST_UPDATED "
    "3 FLAGS (\\Seen $a " LIT ") INTERNALDATE 4 SIZE 5 GUID " GUID1 " ANNOTATIONS (" LIT "))"
    " %(UID 2 MODSEQ 2 LAST_UPDATED 3 FLAGS () INTERNALDATE 4 SIZE 5 GUID " GUID1 " X y)))\r\n",
    "APPLY SIEVE %(USERID joe FILENAME \"my script\" LAST_UPDATE 5 CONTENT " LIT ")\r\n",
    "APPLY SKIP %(A " LIT " B (" FILE1 ") C ((((())))))\r\n",
    "APPLY RESERVE %(PARTITION default MBOXNAME (user.joe user.jane " LIT ") GUID (" GUID1 "))\r\n",
    "APPLY UNMAILBOX user.joe.a\n",
    "GET MAILBOXES (a " LIT "\n \"b c\" NIL)\r\n",
};

static void test_random(void)
{
    enum { ROUNDS = 40000, NCOMMANDS = sizeof(commands) / sizeof(commands[0]) };
    struct buf b = BUF_INITIALIZER, rest = BUF_INITIALIZER;
    unsigned seed = 20240229, kept = 0, failed = 0;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned before = seed;
        buf_setcstr(&b, commands[next_random(&seed) % NCOMMANDS]);
        for (unsigned k = next_random(&seed) % 4; k != UINT32_MAX; k--)
            mutate(&b, &seed);
        size_t len = b.len;
        buf_appendcstr(&b, FENCE SENTINEL);
        int whole = command_length(b.s, b.len) == len;
        buf_reset(&rest);
        int e = serve(b.s, b.len, 1 + next_random(&seed) % 300, seed, &rest);
        if (!whole)
            continue;
        kept++;
        failed += e != 0;
        const char *left = buf_cstring(&rest);
        int found = !strcmp(left, FENCE SENTINEL) || !strcmp(left, SENTINEL);
        CU_ASSERT(found);
        if (!found) {
            b.len = len;
            printf("\nseed %u error %d\n  command [%s]\n  left [%s]\n", before, e, buf_cstring(&b),
                   left);
            break;
        }
    }
    CU_ASSERT(kept > ROUNDS / 3);
    CU_ASSERT(failed > ROUNDS / 10);
    buf_free(&b);
    buf_free(&rest);
}

void suite_dlist_resync(void);
void suite_dlist_resync(void)
{
    static const struct unit_test tests[] = {
        {"good commands", test_good},
        {"line end instead of a value", test_line_end},
        {"literals", test_literals},
        {"files", test_files},
        {"too big", test_too_big},
        {"longer than any stream", test_endless_literal},
        {"half read body", test_half_read_body},
        {"random damage", test_random},
        {NULL, NULL},
    };
    unit_suite("dlist_resync", tests);
}
