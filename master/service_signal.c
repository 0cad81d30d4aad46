/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* service_signal - what signals mean to a service.
 *
 * Handlers only take notes; the process looks at them at defined points: before it waits for a
 * client, and whenever the daemon asks service_signals(). No handler restarts system calls, so a
 * daemon that waits in poll() comes back at once.
 *
 * HUP: finish this client. TERM, QUIT, INT: finish this command. ALRM: idle for too long. USR1
 * turns debug messages on and off. USR2 once cancelled operations and must not kill. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/xlog.h"
#include "master/service_private.h"

/* A handler can reach nothing but static storage. */
static struct {
    volatile sig_atomic_t stop;
    volatile sig_atomic_t sender;
    volatile sig_atomic_t hup;
    volatile sig_atomic_t alarm;
    volatile sig_atomic_t usr1;
    volatile sig_atomic_t waiting;
    int debug;
    int logged;
} noted;

static const int handled[] = {SIGHUP, SIGTERM, SIGQUIT, SIGINT, SIGALRM, SIGUSR1};
enum { NHANDLED = sizeof(handled) / sizeof(handled[0]) };

static void note(int sig, siginfo_t *info, void *context)
{
    (void)context;
    switch (sig) {
    case SIGHUP:
        noted.hup = 1;
        break;
    case SIGALRM:
        noted.alarm = 1;
        break;
    case SIGUSR1:
        noted.usr1 = 1;
        break;
    default:
        noted.sender = info->si_pid;
        noted.stop = sig;
    }
    if (noted.waiting && sig != SIGUSR1)
        alarm(1);
}

void service_signal_install(void)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof(sa));
    sigemptyset(&sa.sa_mask);
    sa.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &sa, NULL);
    sigaction(SIGUSR2, &sa, NULL);
    sa.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &sa, NULL);
    sa.sa_sigaction = note;
    sa.sa_flags = SA_SIGINFO;
    for (int i = 0; i < NHANDLED; i++)
        sigaction(handled[i], &sa, NULL);
    /* Some versions of master start children with signals blocked. */
    sigprocmask(SIG_SETMASK, &sa.sa_mask, NULL);
}

void service_signal_set(sigset_t *set)
{
    sigemptyset(set);
    for (int i = 0; i < NHANDLED; i++)
        sigaddset(set, handled[i]);
}

void service_signal_waiting(int waiting)
{
    noted.waiting = waiting;
}

int service_signal_rang(void)
{
    return noted.alarm;
}

void service_signal_alarm(int seconds)
{
    alarm(0);
    noted.alarm = 0;
    if (seconds > 0)
        alarm((unsigned)seconds);
}

static void toggle_debug(const struct service *s)
{
    noted.usr1 = 0;
    noted.debug = !noted.debug;
    int debug = noted.debug ^ config_getswitch(s->config, IMAPOPT_DEBUG);
    service_openlog(s->config, s->ident, debug);
    xlog_info("debug messages are %s", debug ? "on" : "off");
}

enum service_stop service_signals(const struct service *s)
{
    if (noted.usr1)
        toggle_debug(s);
    if (noted.stop)
        return SERVICE_STOP;
    return noted.hup ? SERVICE_RECYCLE : SERVICE_GO;
}

/* Words of the command line of process PID; a '?' if it cannot be read. */
static void command_line(pid_t pid, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%ld/cmdline", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0) {
        snprintf(out, size, "?");
        return;
    }
    out[n] = '\0';
    while (n > 0 && !out[n - 1])
        n--;
    for (ssize_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < ' ')
            out[i] = ' ';
}

void service_signal_logstop(void)
{
    if (!noted.stop || noted.logged)
        return;
    noted.logged = 1;
    pid_t sender = noted.sender;
    if (sender == getppid()) {
        xlog_info("graceful shutdown");
        return;
    }
    char words[256];
    command_line(sender, words, sizeof(words));
    xlog_info("graceful shutdown initiated by unexpected process %ld (%s)", (long)sender, words);
}
