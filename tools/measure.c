/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* measure - what a command costs, and what the work that cannot be avoided costs.
 *
 *   measure run COMMAND...   run it; its output is dropped. One line of JSON: CPU seconds (user and
 *                            system), wall clock seconds, peak memory, bytes written to disks.
 *   measure floor CORPUS     SHA-1 of each message, and libdeflate over all of them in pieces of the
 *                            default chunk size at the default level: what any backup of such mail
 *                            must do. CPU seconds, and what the bytes were compressed to. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

#include "lib/config_options.h"
#include "lib/sha1crc.h"
#include "lib/xmalloc.h"
#include "tools/corpus.h"

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- run ---- */

/* The number behind NAME in /proc/PID/io; the process has ended and was not waited for. */
static long long io_counter(pid_t pid, const char *name)
{
    char path[64], line[128];
    long long value = -1;
    snprintf(path, sizeof(path), "/proc/%ld/io", (long)pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    while (fgets(line, sizeof(line), file))
        if (!strncmp(line, name, strlen(name)))
            value = strtoll(line + strlen(name), NULL, 10);
    fclose(file);
    return value;
}

static void child(char **argv)
{
    int fd = open("/dev/null", O_RDWR);
    if (fd >= 0) {
        dup2(fd, 0);
        dup2(fd, 1);
    }
    execvp(argv[0], argv);
    fprintf(stderr, "measure: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int run(char **argv)
{
    struct rusage usage;
    siginfo_t info;
    int status;
    double start = seconds(CLOCK_MONOTONIC);
    pid_t pid = fork();
    if (!pid)
        child(argv);
    if (pid < 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT)) {
        perror("measure");
        return EX_OSERR;
    }
    double wall = seconds(CLOCK_MONOTONIC) - start;
    long long written = io_counter(pid, "write_bytes: ");
    if (wait4(pid, &status, 0, &usage) != pid) {
        perror("measure");
        return EX_OSERR;
    }
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"cpu_s\": %.6f, \"wall_s\": %.6f, \"rss_kib\": %ld, \"written_bytes\": %lld, "
           "\"exit\": %d}\n",
           cpu, wall, usage.ru_maxrss, written,
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}

/* ---- floor ---- */

#ifdef HAVE_LIBDEFLATE
static int64_t default_of(enum imapopt option)
{
    int64_t value = 0;
    struct buf why = BUF_INITIALIZER;
    const struct config_option *o = &config_options[option];
    config_parsevalue(o, o->def, &value, &why);
    buf_free(&why);
    return value;
}

/* CPU seconds of hashing and compressing C; *SIZE: of the compressed bytes. */
static double work(const struct corpus *c, size_t chunk, int level, size_t *size)
{
    struct libdeflate_compressor *z = libdeflate_alloc_compressor(level);
    struct buf text = BUF_INITIALIZER;
    size_t most = 0;
    unsigned char hash[SHA1_LEN];
    for (size_t i = 0; i < c->count; i++)
        most = c->messages[i].size > most ? c->messages[i].size : most;
    size_t room = libdeflate_gzip_compress_bound(z, chunk + most);
    char *out = xmalloc(room);
    *size = 0;
    double start = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; i < c->count; i++) {
        const struct corpus_message *m = &c->messages[i];
        sha1_once(m->text, m->size, hash);
        buf_appendmap(&text, m->text, m->size);
        if (text.len < chunk && i + 1 < c->count)
            continue;
        *size += libdeflate_gzip_compress(z, text.s, text.len, out, room);
        buf_reset(&text);
    }
    double spent = seconds(CLOCK_PROCESS_CPUTIME_ID) - start;
    libdeflate_free_compressor(z);
    buf_free(&text);
    free(out);
    return spent;
}

static int floor_of(const char *path)
{
    struct corpus c;
    size_t size, touched = 0;
    int e = corpus_open(&c, path);
    if (e) {
        fprintf(stderr, "measure: %s: cannot be read\n", path);
        return EX_NOINPUT;
    }
    for (size_t i = 0; i < c.map_len; i += 4096) /* so that no page fault is counted */
        touched += ((const unsigned char *)c.map)[i];
    int level = (int)default_of(IMAPOPT_BACKUP_COMPRESSION_LEVEL);
    size_t chunk = (size_t)default_of(IMAPOPT_BACKUP_CHUNK_SIZE);
    double cpu = work(&c, chunk, level, &size);
    printf("{\"cpu_s\": %.6f, \"bytes\": %zu, \"compressed_bytes\": %zu, \"level\": %d, "
           "\"chunk_size\": %zu}\n", cpu, c.bytes, size, level, chunk);
    corpus_close(&c);
    return touched ? 0 : EX_DATAERR;
}
#else
static int floor_of(const char *path)
{
    fprintf(stderr, "measure: %s: built without libdeflate\n", path);
    return EX_UNAVAILABLE;
}
#endif

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "run"))
        return run(argv + 2);
    if (argc == 3 && !strcmp(argv[1], "floor"))
        return floor_of(argv[2]);
    fputs("usage: measure run COMMAND [ARGUMENT]...\n       measure floor CORPUS\n", stderr);
    return EX_USAGE;
}
