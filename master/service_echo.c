/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* service_echo - a small service to test the runtime with: it greets with its process id, the number
 * of the connection and the client's name, then echoes lines until "quit". */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "master/service.h"

struct echo {
    int served;
    const char *word; /* option -w */
};

static int echo_init(struct service *s, int argc, char **argv)
{
    static struct echo echo;
    int c;
    echo.word = "-";
    while ((c = getopt(argc, argv, "w:f")) != -1)
        if (c == 'w')
            echo.word = optarg;
    s->rock = &echo;
    return strcmp(echo.word, "fail") ? 0 : EX_UNAVAILABLE;
}

/* One line without its end to LINE; 0 at the end of input or when asked to stop. */
static int read_line(struct service *s, int fd, char *line, size_t size)
{
    size_t n = 0;
    while (n < size - 1) {
        struct pollfd pfd = {fd, POLLIN, 0};
        if (service_signals(s) == SERVICE_STOP)
            return 0;
        int r = poll(&pfd, 1, 100);
        if (r == 0 || (r < 0 && errno == EINTR))
            continue;
        if (read(fd, line + n, 1) != 1)
            return 0;
        if (line[n] == '\n')
            break;
        n++;
    }
    line[n] = '\0';
    return 1;
}

static void echo_serve(struct service *s, int fdin, int fdout)
{
    struct echo *echo = s->rock;
    char line[256];
    dprintf(fdout, "* %ld %d %s %s %s\n", (long)getpid(), ++echo->served, echo->word, s->ident,
            s->clienthost);
    while (read_line(s, fdin, line, sizeof(line)) && strcmp(line, "quit")) {
        service_setproc(s, "user", NULL, line);
        dprintf(fdout, "%s\n", line);
    }
}

int main(int argc, char **argv)
{
    static const struct service_ops ops = {
        .program = "service_echo",
        .options = "w:f",
        .init = echo_init,
        .serve = echo_serve,
    };
    return service_run(argc, argv, &ops);
}
