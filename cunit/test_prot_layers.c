/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* Tests of the compression layer, and of streams on real descriptors: peers that dribble or vanish,
 * timeouts, ticks. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zlib.h>

#include "cunit/unit.h"
#include "lib/buf.h"
#include "lib/prot_layer.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* A connection within this process: a reads what b writes and so on. */
struct pair {
    int fd[2];
    struct protstream *ain, *aout, *bin, *bout;
};

static void open_pair(struct pair *p)
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, p->fd) < 0)
        CU_FAIL_FATAL("socketpair");
    p->ain = prot_new(p->fd[0], 0);
    p->aout = prot_new(p->fd[0], 1);
    p->bin = prot_new(p->fd[1], 0);
    p->bout = prot_new(p->fd[1], 1);
}

static void close_pair(struct pair *p)
{
    prot_free(&p->ain);
    prot_free(&p->aout);
    prot_free(&p->bin);
    prot_free(&p->bout);
    close(p->fd[0]);
    close(p->fd[1]);
}

/* S gives exactly TEXT next. */
static void expect(struct protstream *s, const char *text)
{
    char got[256] = "";
    size_t n = strlen(text);
    CU_ASSERT_FATAL(n < sizeof(got));
    CU_ASSERT_EQUAL(prot_readall(s, got, n), 0);
    UNIT_STR(got, text);
}

static void test_socket(void)
{
    struct pair p;
    open_pair(&p);
    CU_ASSERT_EQUAL(prot_ready(p.ain), 0);
    prot_puts(p.bout, "hello\r\nmore");
    CU_ASSERT_EQUAL(prot_ready(p.ain), 0);
    prot_flush(p.bout);
    CU_ASSERT_EQUAL(prot_ready(p.ain), 1);
    expect(p.ain, "hello\r\n");
    CU_ASSERT_EQUAL(prot_bytes(p.ain), 7);
    CU_ASSERT_EQUAL(prot_discard(p.ain), 1);
    CU_ASSERT_EQUAL(prot_discard(p.ain), 0);
    CU_ASSERT_EQUAL(prot_ready(p.ain), 0);
    shutdown(p.fd[1], SHUT_WR);
    CU_ASSERT_EQUAL(prot_getc(p.ain), -1);
    CU_ASSERT_EQUAL(prot_eof(p.ain), 1);
    CU_ASSERT_EQUAL(prot_error(p.ain), 0);
    close_pair(&p);
}

/* Writing to a peer that is gone is an error and no signal. */
static void test_gone(void)
{
    struct pair p;
    open_pair(&p);
    shutdown(p.fd[1], SHUT_RDWR);
    prot_puts(p.aout, "anybody?");
    CU_ASSERT_EQUAL(prot_flush(p.aout), -EPIPE);
    CU_ASSERT_EQUAL(prot_error(p.aout), -EPIPE);
    close_pair(&p);
}

static void test_timeout(void)
{
    struct pair p;
    open_pair(&p);
    prot_setdeadline(p.ain, 20);
    CU_ASSERT_EQUAL(prot_getc(p.ain), -1);
    CU_ASSERT_EQUAL(prot_error(p.ain), XERR_TIMEOUT);
    CU_ASSERT_EQUAL(prot_eof(p.ain), 0);
    /* Nobody reads: the socket's buffer fills. */
    char *zero = xzmalloc(1 << 20);
    prot_setdeadline(p.bout, 20);
    int r = 0;
    for (int i = 0; i < 64 && !r; i++)
        r = prot_write(p.bout, zero, 1 << 20);
    CU_ASSERT_EQUAL(r, XERR_TIMEOUT);
    free(zero);
    close_pair(&p);
    open_pair(&p);
    prot_settimeout(p.ain, 1);
    CU_ASSERT_EQUAL(prot_getc(p.ain), -1);
    CU_ASSERT_EQUAL(prot_error(p.ain), XERR_TIMEOUT);
    close_pair(&p);
}

struct ticks {
    struct pair *p;
    int count;
    int until;
    int stop;
};

/* Answers what the other side is waiting for at the N-th tick, or ends the wait. */
static int on_tick(void *rock)
{
    struct ticks *t = rock;
    if (++t->count < t->until)
        return 0;
    if (t->stop)
        return 1;
    prot_puts(t->p->bout, "late");
    prot_flush(t->p->bout);
    return 0;
}

static void test_wait(void)
{
    struct pair p;
    open_pair(&p);
    struct ticks t = {&p, 0, 3, 0};
    prot_puts(p.aout, "question");
    prot_setwait(p.ain, p.aout, 1, on_tick, &t);
    expect(p.ain, "late");
    CU_ASSERT_EQUAL(t.count, 3);
    expect(p.bin, "question"); /* was flushed before waiting */
    t = (struct ticks){&p, 0, 2, 1};
    CU_ASSERT_EQUAL(prot_getc(p.ain), -1);
    CU_ASSERT_EQUAL(prot_error(p.ain), XERR_SIGNAL);
    CU_ASSERT_EQUAL(t.count, 2);
    close_pair(&p);
}

static void test_pipe(void)
{
    int fd[2];
    CU_ASSERT_EQUAL_FATAL(pipe(fd), 0);
    struct protstream *in = prot_new(fd[0], 0), *out = prot_new(fd[1], 1);
    char *p = xzmalloc(1 << 20);
    prot_printf(out, "%s", "through a pipe");
    CU_ASSERT_EQUAL(prot_flush(out), 0);
    expect(in, "through a pipe");
    prot_setdeadline(out, 20);
    CU_ASSERT_EQUAL(prot_write(out, p, 1 << 20), XERR_TIMEOUT);
    prot_free(&in);
    prot_free(&out);
    close(fd[0]);
    close(fd[1]);
    free(p);
}

/* Telemetry. */
static void test_log(void)
{
    struct pair p;
    int log[2];
    char text[256];
    open_pair(&p);
    CU_ASSERT_EQUAL_FATAL(pipe(log), 0);
    prot_puts(p.aout, "secret");
    prot_setlog(p.aout, log[1]);
    prot_setlog(p.ain, log[1]);
    prot_puts(p.aout, "shown");
    prot_flush(p.aout);
    prot_puts(p.bout, "reply");
    prot_flush(p.bout);
    expect(p.ain, "reply");
    prot_setlog(p.ain, -1);
    ssize_t n = read(log[0], text, sizeof(text) - 1);
    CU_ASSERT_FATAL(n > 0);
    text[n] = '\0';
    CU_ASSERT_EQUAL(text[0], '>');
    CU_ASSERT_PTR_NOT_NULL(strstr(text, ">shown<"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "<reply"));
    CU_ASSERT_PTR_NULL(strstr(text, "secret"));
    close(log[0]);
    close(log[1]);
    close_pair(&p);
}

/* Compression */

static void compress_pair(struct pair *p)
{
    CU_ASSERT_EQUAL_FATAL(prot_setcompress(p->ain, p->aout), 0);
    CU_ASSERT_EQUAL_FATAL(prot_setcompress(p->bin, p->bout), 0);
}

static void test_deflate(void)
{
    struct pair p;
    open_pair(&p);
    CU_ASSERT_PTR_NULL(prot_compression(p.ain));
    compress_pair(&p);
    UNIT_STR(prot_compression(p.ain), "DEFLATE");
    UNIT_STR(prot_compression(p.aout), "DEFLATE");
    for (int i = 0; i < 50; i++) {
        prot_printf(p.aout, "line %d\r\n", i);
        CU_ASSERT_EQUAL(prot_flush(p.aout), 0);
        CU_ASSERT_EQUAL(prot_flush(p.aout), 0);
        char line[32];
        snprintf(line, sizeof(line), "line %d\r\n", i);
        expect(p.bin, line);
    }
    CU_ASSERT_EQUAL(prot_setcompress(p.ain, p.aout), XERR_PARAM);
    prot_puts(p.bout, "back");
    CU_ASSERT_EQUAL(prot_flush(p.bout), 0);
    expect(p.ain, "back");
    close_pair(&p);
}

/* A flush without new bytes sends nothing. */
static void test_deflate_flush(void)
{
    struct pair p;
    char raw[64];
    open_pair(&p);
    CU_ASSERT_EQUAL_FATAL(prot_setcompress(p.ain, p.aout), 0);
    CU_ASSERT_EQUAL(prot_flush(p.aout), 0);
    CU_ASSERT_EQUAL(recv(p.fd[1], raw, sizeof(raw), MSG_DONTWAIT), -1);
    prot_puts(p.aout, "x");
    CU_ASSERT_EQUAL(prot_flush(p.aout), 0);
    CU_ASSERT(recv(p.fd[1], raw, sizeof(raw), MSG_DONTWAIT) > 0);
    CU_ASSERT_EQUAL(prot_flush(p.aout), 0);
    CU_ASSERT_EQUAL(recv(p.fd[1], raw, sizeof(raw), MSG_DONTWAIT), -1);
    close_pair(&p);
}

/* N bytes that hardly compress. */
static unsigned char *noise(size_t n)
{
    unsigned char *p = xmalloc(n);
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (unsigned char)(x >> 32);
    }
    return p;
}

/* Ends the child with a status that tells whether the peer's part went well. */
static pid_t start_child(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        CU_FAIL_FATAL("fork");
    return pid;
}

static int child_ok(pid_t pid)
{
    int status = 0;
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_deflate_large(void)
{
    size_t n = 3000001;
    unsigned char *p = noise(n), *q = xmalloc(n);
    struct pair c;
    open_pair(&c);
    memset(p + 1000000, 'a', 1000000);
    pid_t pid = start_child();
    if (!pid) {
        int r = prot_setcompress(c.bin, c.bout);
        r = r ? r : prot_write(c.bout, p, n);
        r = r ? r : prot_flush(c.bout);
        _exit(r ? 1 : 0);
    }
    CU_ASSERT_EQUAL(prot_setcompress(c.ain, c.aout), 0);
    CU_ASSERT_EQUAL(prot_getc(c.ain), p[0]);
    q[0] = p[0];
    CU_ASSERT_EQUAL(prot_readall(c.ain, q + 1, n - 1), 0);
    CU_ASSERT_EQUAL(memcmp(p, q, n), 0);
    CU_ASSERT_EQUAL(prot_bytes(c.ain), n);
    CU_ASSERT(child_ok(pid));
    close_pair(&c);
    free(p);
    free(q);
}

/* What was received behind the command that begins compression is compressed. */
static void test_deflate_pipelined(void)
{
    struct pair p;
    char raw[256];
    open_pair(&p);
    compress_pair(&p);
    prot_puts(p.bout, "NOOP\r\nEXIT\r\n");
    prot_flush(p.bout);
    ssize_t n = recv(p.fd[0], raw, sizeof(raw), 0);
    CU_ASSERT_FATAL(n > 0);
    close_pair(&p);
    open_pair(&p);
    prot_puts(p.bout, "COMPRESS DEFLATE\r\n");
    prot_write(p.bout, raw, (size_t)n);
    prot_flush(p.bout);
    expect(p.ain, "COMPRESS DEFLATE\r\n");
    CU_ASSERT_EQUAL(prot_bytes(p.ain), 18);
    CU_ASSERT_EQUAL(prot_setcompress(p.ain, p.aout), 0);
    CU_ASSERT_EQUAL(prot_bytes(p.ain), 18);
    expect(p.ain, "NOOP\r\nEXIT\r\n");
    CU_ASSERT_EQUAL(prot_bytes(p.ain), 30);
    close_pair(&p);
}

struct dribble {
    const unsigned char *p;
    size_t left;
};

static ssize_t dribble_read(void *rock, void *p, size_t n)
{
    struct dribble *d = rock;
    if (!d->left || !n)
        return 0;
    *(unsigned char *)p = *d->p++;
    d->left--;
    return 1;
}

static int collect(void *rock, const void *p, size_t n)
{
    buf_appendmap(rock, p, n);
    return 0;
}

static void test_deflate_dribble(void)
{
    struct buf raw = BUF_INITIALIZER, none = BUF_INITIALIZER;
    struct protstream *empty = prot_readfn(dribble_read, &(struct dribble){NULL, 0});
    struct protstream *out = prot_writefn(collect, &raw), *dummy = prot_writefn(collect, &none);
    CU_ASSERT_EQUAL(prot_setcompress(empty, out), 0);
    prot_puts(out, "one byte at a time");
    prot_flush(out);
    size_t cut = raw.len;
    prot_puts(out, ", and then cut off");
    prot_flush(out);
    struct dribble d = {(const unsigned char *)raw.s, cut + 5};
    struct protstream *in = prot_readfn(dribble_read, &d);
    CU_ASSERT_EQUAL(prot_setcompress(in, dummy), 0);
    expect(in, "one byte at a time");
    char rest[64];
    CU_ASSERT_EQUAL(prot_readall(in, rest, sizeof(rest)), XERR_EOF);
    CU_ASSERT_EQUAL(prot_eof(in), 1);
    prot_free(&in);
    prot_free(&out);
    prot_free(&dummy);
    prot_free(&empty);
    buf_free(&raw);
    buf_free(&none);
}

static void test_deflate_garbage(void)
{
    struct pair p;
    open_pair(&p);
    CU_ASSERT_EQUAL(prot_setcompress(p.ain, p.aout), 0);
    prot_puts(p.bout, "\xff\xff not deflate");
    prot_flush(p.bout);
    CU_ASSERT_EQUAL(prot_getc(p.ain), -1);
    CU_ASSERT_EQUAL(prot_error(p.ain), XERR_FORMAT);
    close_pair(&p);
}

/* The peer may end its stream properly. */
static void test_deflate_finish(void)
{
    unsigned char raw[128];
    z_stream z = {0};
    struct buf none = BUF_INITIALIZER;
    CU_ASSERT_EQUAL_FATAL(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, 0), Z_OK);
    z.next_in = (unsigned char *)"bye";
    z.avail_in = 3;
    z.next_out = raw;
    z.avail_out = sizeof(raw);
    CU_ASSERT_EQUAL(deflate(&z, Z_FINISH), Z_STREAM_END);
    struct dribble d = {raw, sizeof(raw) - z.avail_out};
    deflateEnd(&z);
    struct protstream *in = prot_readfn(dribble_read, &d), *out = prot_writefn(collect, &none);
    CU_ASSERT_EQUAL(prot_setcompress(in, out), 0);
    expect(in, "bye");
    CU_ASSERT_EQUAL(prot_getc(in), -1);
    CU_ASSERT_EQUAL(prot_error(in), 0);
    prot_free(&in);
    prot_free(&out);
    buf_free(&none);
}

/* Memory has no layers. */
static void test_no_layers(void)
{
    struct buf none = BUF_INITIALIZER;
    struct protstream *in = prot_readmem("x", 1), *out = prot_writefn(collect, &none);
    CU_ASSERT_EQUAL(prot_setcompress(in, out), XERR_PARAM);
    CU_ASSERT_EQUAL(prot_getc(in), 'x');
    prot_puts(out, "plain");
    prot_flush(out);
    UNIT_STR(buf_cstring(&none), "plain");
    prot_free(&in);
    prot_free(&out);
    buf_free(&none);
}

/* A layer such as SASL's, begun below compression: it gets the raw bytes that compression has not
 * used; bytes which were decoded already are refused. */
struct fake {
    struct prot_layer l;
    size_t preloaded;
    int *freed;
};

static ssize_t fake_read(struct prot_layer *l, void *p, size_t n)
{
    return l->below->read(l->below, p, n);
}

static void fake_preload(struct prot_layer *l, const void *p, size_t n)
{
    (void)p;
    ((struct fake *)l)->preloaded = n;
}

static void fake_free(struct prot_layer *l)
{
    ++*((struct fake *)l)->freed;
    free(l);
}

static struct fake *fake_layer(enum prot_rank rank, int *freed)
{
    struct fake *f = xzmalloc(sizeof(*f));
    f->l.rank = rank;
    f->l.read = fake_read;
    f->l.preload = fake_preload;
    f->l.free = fake_free;
    f->freed = freed;
    return f;
}

static void test_late_layer(void)
{
    struct pair p;
    int freed = 0;
    open_pair(&p);
    compress_pair(&p);
    prot_puts(p.bout, "AUTHENTICATE\r\nsmuggled\r\n");
    prot_flush(p.bout);
    expect(p.ain, "AUTHENTICATE\r\n");
    CU_ASSERT_EQUAL(prot_addlayer(p.ain, &fake_layer(PROT_RANK_SASL, &freed)->l), XERR_FORMAT);
    CU_ASSERT_EQUAL(freed, 1);
    expect(p.ain, "smuggled\r\n");
    CU_ASSERT_EQUAL(prot_addlayer(p.ain, &fake_layer(PROT_RANK_SASL, &freed)->l), 0);
    CU_ASSERT_EQUAL(prot_addlayer(p.ain, &fake_layer(PROT_RANK_SASL, &freed)->l), XERR_PARAM);
    CU_ASSERT_EQUAL(freed, 2);
    CU_ASSERT_EQUAL(prot_under(p.ain, PROT_RANK_DEFLATE)->rank, PROT_RANK_SASL);
    CU_ASSERT_EQUAL(prot_under(p.ain, PROT_RANK_TLS)->rank, PROT_RANK_SOURCE);
    prot_puts(p.bout, "through both");
    prot_flush(p.bout);
    expect(p.ain, "through both");
    close_pair(&p);
    CU_ASSERT_EQUAL(freed, 3);
    /* Without compression the buffer's rest is what the new layer reads. */
    open_pair(&p);
    prot_puts(p.bout, "line\nrest");
    prot_flush(p.bout);
    expect(p.ain, "line\n");
    struct fake *f = fake_layer(PROT_RANK_SASL, &freed);
    CU_ASSERT_EQUAL(prot_addlayer(p.ain, &f->l), 0);
    CU_ASSERT_EQUAL(f->preloaded, 4);
    CU_ASSERT_EQUAL(prot_bytes(p.ain), 5);
    close_pair(&p);
}

void suite_prot_layers(void);
void suite_prot_layers(void)
{
    static const struct unit_test tests[] = {
        {"socket", test_socket},
        {"gone", test_gone},
        {"timeout", test_timeout},
        {"wait", test_wait},
        {"pipe", test_pipe},
        {"log", test_log},
        {"deflate", test_deflate},
        {"deflate_flush", test_deflate_flush},
        {"deflate_large", test_deflate_large},
        {"deflate_pipelined", test_deflate_pipelined},
        {"deflate_dribble", test_deflate_dribble},
        {"deflate_garbage", test_deflate_garbage},
        {"deflate_finish", test_deflate_finish},
        {"no_layers", test_no_layers},
        {"late_layer", test_late_layer},
        {NULL, NULL},
    };
    unit_suite("prot_layers", tests);
}
