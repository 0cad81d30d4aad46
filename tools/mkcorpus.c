/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* mkcorpus - make the mail of a benchmark: the same bytes for the same options, on any machine.
 *
 * Sizes are log-normal with a median of 8 KiB, or all the same. They are not drawn at random but
 * taken at equal steps of the distribution and then shuffled, so that a corpus of any size has
 * the mean that was asked for, and the first part of a corpus resembles the whole. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "lib/xmalloc.h"
#include "tools/corpus.h"

enum { MEDIAN = 8192 };

enum profile { MIXED, EQUAL, TINY };

static void usage(FILE *out)
{
    fputs("usage: mkcorpus [options] FILE\n"
          "\n"
          "Makes synthetic mail for benchmarks; always the same for the same options.\n"
          "  --messages N      how many (default 2000)\n"
          "  --mean BYTES      average size of a message (default 51500)\n"
          "  --profile mixed   sizes log-normal, median 8 KiB; text, HTML, attachments (default)\n"
          "            equal   text, all of the average size\n"
          "            tiny    some 100 bytes each\n"
          "  --seed N          another corpus of the same kind\n",
          out);
}

/* The number that a share P of normally distributed ones lies below (Abramowitz and Stegun,
 * 26.2.23). */
static double normal_quantile(double p)
{
    double q = p < 0.5 ? p : 1 - p;
    double t = sqrt(-2 * log(q));
    double x = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) /
                       (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
    return p < 0.5 ? -x : x;
}

static size_t *make_sizes(size_t count, double mean, enum profile profile, struct corpus_random *r)
{
    size_t *sizes = xcalloc(count + 1, sizeof(*sizes));
    double sigma = mean > MEDIAN ? sqrt(2 * log(mean / MEDIAN)) : 0, sum = 0;
    for (size_t i = 0; i < count; i++) {
        double size = mean;
        if (profile == MIXED)
            size = MEDIAN * exp(sigma * normal_quantile(((double)i + 0.5) / (double)count));
        sizes[i] = (size_t)size;
        sum += size;
    }
    for (size_t i = count; i > 1; i--) {
        size_t k = (size_t)(corpus_random(r) % i), swap = sizes[i - 1];
        sizes[i - 1] = sizes[k];
        sizes[k] = swap;
    }
    if (sum > 0)
        for (size_t i = 0; i < count; i++)
            sizes[i] = (size_t)((double)sizes[i] * mean * (double)count / sum);
    return sizes;
}

static int make(const char *path, size_t count, double mean, enum profile profile, uint64_t seed)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return -errno;
    struct corpus_random r = {seed};
    struct corpus_words *words = corpus_words_new(4711);
    size_t *sizes = make_sizes(count, mean, profile, &r);
    struct buf text = BUF_INITIALIZER;
    int e = 0;
    for (size_t i = 0; i < count && !e; i++) {
        buf_reset(&text);
        if (profile == TINY)
            corpus_make_tiny((unsigned long)(seed * 100000000 + i), &text);
        else
            corpus_make(words, &r, (unsigned long)i, sizes[i], &text);
        e = corpus_write(file, text.s, text.len);
    }
    buf_free(&text);
    free(sizes);
    corpus_words_free(&words);
    if (fclose(file) && !e)
        e = -errno;
    return e;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"messages", required_argument, NULL, 'n'}, {"mean", required_argument, NULL, 'm'},
        {"profile", required_argument, NULL, 'p'},  {"seed", required_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
    };
    static const char *const profiles[] = {"mixed", "equal", "tiny"};
    size_t count = 2000;
    double mean = 51500;
    uint64_t seed = 1;
    int profile = MIXED, c;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
        switch (c) {
        case 'n':
            count = strtoull(optarg, NULL, 10);
            break;
        case 'm':
            mean = strtod(optarg, NULL);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 10);
            break;
        case 'p':
            for (profile = MIXED; profile <= TINY && strcmp(profiles[profile], optarg) != 0;)
                profile++;
            if (profile <= TINY)
                break;
            /* fall through */
        default:
            usage(c == 'h' ? stdout : stderr);
            return c == 'h' ? 0 : EX_USAGE;
        }
    }
    if (optind != argc - 1) {
        usage(stderr);
        return EX_USAGE;
    }
    int e = make(argv[optind], count, mean, (enum profile)profile, seed);
    if (e) {
        fprintf(stderr, "mkcorpus: %s: %s\n", argv[optind], strerror(-e));
        return EX_IOERR;
    }
    return 0;
}
