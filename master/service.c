/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* service - the life of a service process under Cyrus master.
 *
 * master binds the sockets, forks, and hands over two descriptors: 4 is the listening socket, 3 the
 * writing end of a pipe. All workers of a service share both. A fresh worker counts as ready; from
 * then on it tells master by eight bytes on the pipe (code and process id, as ints of this machine)
 * when it took a connection (2), serves it (3), and is free again (1). master forks another worker
 * when a connection waits and no worker is ready, so nothing may be sent at other times: a wrong
 * count would stop or flood the forking.
 *
 * Workers do not race for connections: the one that holds the accept lock, an fcntl lock on
 * <configdirectory>/socket/<service>-<id>.lock, waits for the next; the others wait for the lock.
 *
 * A worker ends with status 0 when master restarts (TERM) or reloads (HUP), after -U connections,
 * when it was idle for -T seconds after its first client, and when its own program file was
 * replaced; always between two clients, except for TERM, which the daemon obeys between two
 * commands. Any other status, given while the worker counts as ready, is a failure to master, and
 * five of them in a row disable the service.
 *
 *   start -> options -> environment -> imapd.conf -> init -> [ lock -> wait -> accept -> 2 3 ->
 *   serve -> 1 ] ... -> done
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/cyrususer.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "master/service_private.h"

enum status { STATUS_AVAILABLE = 1, STATUS_UNAVAILABLE = 2, STATUS_CONNECTION = 3 };

/* Everything about the process. */
struct worker {
    struct service service;
    const struct service_ops *ops;
    struct service_options options;
    struct service_listener listener;
    char exe[PATH_MAX]; /* own program file, "" if it cannot be watched */
    struct stat exe_st;
    int lock; /* accept lock, -1: do without */
    int uses;
};

/* What a step of the life of the process says. */
enum { GO_ON = -1 }; /* otherwise an exit code */

/* A start that failed: somebody may be looking at the terminal, or at syslog. */
static int refuse(const struct worker *w, int code, const char *text)
{
    xlog_fatalx("%s", text);
    fprintf(stderr, "fatal error: %s: %s\n", w->ops->program, text);
    return code;
}

/* ---- Start ---- */

void service_openlog(const struct config *config, const char *ident, int debug)
{
    const char *prefix = getenv("CYRUS_SYSLOG_PREFIX");
    if (!prefix || !*prefix)
        prefix = config_getstring(config, IMAPOPT_SYSLOG_PREFIX);
    xlog_open(ident, prefix, config_getstring(config, IMAPOPT_SYSLOG_FACILITY), debug);
}

/* Nothing that is opened later may become 0, 1 or 2. */
static int occupy_standard(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

static int identify(struct worker *w)
{
    const char *name = getenv("CYRUS_SERVICE"), *id = getenv("CYRUS_ID");
    int interactive = w->options.interactive;
    if (!interactive && (!name || !*name))
        return refuse(w, EX_SOFTWARE, "could not getenv(CYRUS_SERVICE): not started by master");
    if (!interactive && (!id || !*id))
        return refuse(w, EX_SOFTWARE, "could not getenv(CYRUS_ID): not started by master");
    w->service.ident = name && *name ? name : w->ops->program;
    w->service.id = id ? atoi(id) : 0;
    if (strchr(w->service.ident, '/'))
        return refuse(w, EX_SOFTWARE, "CYRUS_SERVICE is not a plain name");
    return GO_ON;
}

static void warn_deprecated(const char *text, void *rock)
{
    (void)rock;
    xlog_warnx("%s", text);
}

/* Without it, what is there would seem not to be: better no service at all. */
static int check_configdirectory(struct worker *w)
{
    const char *dir = config_getstring(w->service.config, IMAPOPT_CONFIGDIRECTORY);
    struct buf text = BUF_INITIALIZER;
    struct stat st;
    int code = GO_ON;
    if (!dir) {
        buf_setcstr(&text, "configdirectory is not set in imapd.conf");
    } else if (stat(dir, &st)) {
        int error = errno;
        buf_printf(&text, "configdirectory %s: %s", dir, error_message(-error));
    }
    if (text.len)
        code = refuse(w, EX_CONFIG, buf_cstring(&text));
    buf_free(&text);
    return code;
}

static int configure(struct worker *w)
{
    struct buf text = BUF_INITIALIZER;
    int code = GO_ON;
    if (config_open(w->options.configfile, w->service.ident, &w->service.config, &text))
        code = refuse(w, EX_CONFIG, buf_cstring(&text));
    if (code != GO_ON)
        goto out;
    const struct config *config = w->service.config;
    service_openlog(config, w->service.ident, config_getswitch(config, IMAPOPT_DEBUG));
    config_foreachwarning(config, warn_deprecated, NULL);
    code = check_configdirectory(w);
    if (code == GO_ON && service_procdir(config, &text))
        code = refuse(w, EX_CONFIG, "proc_path must be an absolute path, and not /");
out:
    buf_free(&text);
    return code;
}

/* Services never run as root. Started by hand (-X), root changes over; master does it itself. */
static int become_user(struct worker *w)
{
    if (!w->options.interactive)
        return geteuid() ? GO_ON : refuse(w, EX_USAGE, "must not run as root");
    struct buf text = BUF_INITIALIZER;
    int r = cyrususer_become(w->service.config, &text);
    int code = r ? refuse(w, EX_USAGE, buf_cstring(&text)) : GO_ON;
    buf_free(&text);
    return code;
}

static int open_listener(struct worker *w)
{
    if (w->options.interactive)
        return GO_ON;
    int r = service_listener_open(&w->listener, LISTEN_FD);
    if (!r && fcntl(STATUS_FD, F_SETFD, FD_CLOEXEC) < 0)
        r = -errno;
    if (r)
        return refuse(w, EX_SOFTWARE, "descriptors 3 and 4 are not what master gives a service");
    w->service.listen_unix = w->listener.family == AF_UNIX;
    return GO_ON;
}

/* Which file are we? argv[0] is what cyrus.conf says, looked up as master looks it up. */
static void find_program(struct worker *w, const char *argv0)
{
    static const char *const dirs[] = {LIBEXEC_DIR "/", SBIN_DIR "/", NULL};
    if (argv0[0] == '/') {
        snprintf(w->exe, sizeof(w->exe), "%s", argv0);
        if (!stat(w->exe, &w->exe_st))
            return;
    } else if (!strchr(argv0, '/')) {
        for (int i = 0; dirs[i]; i++) {
            snprintf(w->exe, sizeof(w->exe), "%s%s", dirs[i], argv0);
            if (!stat(w->exe, &w->exe_st))
                return;
        }
    }
    ssize_t n = readlink("/proc/self/exe", w->exe, sizeof(w->exe) - 1);
    w->exe[n > 0 ? n : 0] = '\0';
    if (w->exe[0] && stat(w->exe, &w->exe_st) < 0)
        w->exe[0] = '\0';
    if (!w->exe[0])
        xlog_warnx("cannot find my own program file: replacing it will go unnoticed");
}

static int program_changed(const struct worker *w)
{
    struct stat st;
    if (!w->exe[0])
        return 0;
    if (stat(w->exe, &st) < 0) {
        xlog_warn("cannot stat %s", w->exe);
        return 1;
    }
    const struct stat *old = &w->exe_st;
    if (st.st_ino == old->st_ino && st.st_size == old->st_size &&
        st.st_mtim.tv_sec == old->st_mtim.tv_sec && st.st_mtim.tv_nsec == old->st_mtim.tv_nsec)
        return 0;
    xlog_info("process file has changed");
    return 1;
}

/* Run debug_command, in which %s is argv[0], %d the process id, and the next %s the service. */
static void run_debugger(const struct worker *w, const char *argv0)
{
    const char *command = config_getstring(w->service.config, IMAPOPT_DEBUG_COMMAND);
    if (!w->options.debugger || !command)
        return;
    struct buf line = BUF_INITIALIZER;
    const char *names[] = {argv0, w->service.ident};
    unsigned next = 0;
    for (const char *p = command; *p; p++) {
        if (p[0] == '%' && p[1] == 's' && next < 2)
            buf_appendcstr(&line, names[next++]);
        else if (p[0] == '%' && p[1] == 'd')
            buf_printf(&line, "%ld", (long)getpid());
        else if (p[0] == '%' && p[1] == '%')
            buf_putc(&line, '%');
        else {
            buf_putc(&line, *p);
            continue;
        }
        p++;
    }
    xlog_info("running external debugger: %s", buf_cstring(&line));
    if (system(buf_cstring(&line)) != 0)
        xlog_warnx("debug_command failed");
    buf_free(&line);
}

/* ---- Waiting for a client ---- */

static void open_lock(struct worker *w)
{
    struct buf path = BUF_INITIALIZER;
    buf_printf(&path, "%s/socket/%s-%d.lock",
               config_getstring(w->service.config, IMAPOPT_CONFIGDIRECTORY), w->service.ident,
               w->service.id);
    w->lock = open(buf_cstring(&path), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (w->lock < 0)
        xlog_error("cannot open %s, going on without accept lock", buf_cstring(&path));
    buf_free(&path);
}

/* Should the process end now, between two clients? */
static int is_over(const struct worker *w)
{
    if (service_signals(&w->service) != SERVICE_GO) {
        service_signal_logstop();
        return 1;
    }
    if (service_signal_rang()) {
        xlog_debug("idle for too long");
        return 1;
    }
    return 0;
}

/* The kernel's queue for the lock is used, not lib/filelock's polling: a worker may well wait here
 * for hours. A POSIX lock, as in other Cyrus services; this process opens the file only once. */
static int take_lock(const struct worker *w)
{
    struct flock fl;
    memset(&fl, 0, sizeof(fl));
    fl.l_type = F_WRLCK;
    fl.l_whence = SEEK_SET;
    if (w->lock < 0)
        return 0;
    int r = 0;
    service_signal_waiting(1);
    while (!is_over(w) && fcntl(w->lock, F_SETLKW, &fl) < 0)
        if (errno != EINTR) {
            r = -errno;
            break;
        }
    service_signal_waiting(0);
    return r;
}

static void drop_lock(const struct worker *w)
{
    struct flock fl;
    memset(&fl, 0, sizeof(fl));
    fl.l_type = F_UNLCK;
    fl.l_whence = SEEK_SET;
    if (w->lock >= 0 && fcntl(w->lock, F_SETLK, &fl) < 0)
        xlog_error("cannot release the accept lock");
}

/* Signals are let in only while ppoll waits: one that comes just before is not lost. */
static int wait_readable(const struct worker *w)
{
    struct pollfd pfd = {w->listener.fd, POLLIN, 0};
    sigset_t block, old;
    int r = -EINTR;
    service_signal_set(&block);
    sigprocmask(SIG_BLOCK, &block, &old);
    while (r == -EINTR && !is_over(w))
        r = ppoll(&pfd, 1, NULL, &old) < 0 ? -errno : 0;
    sigprocmask(SIG_SETMASK, &old, NULL);
    return r;
}

/* The machine, not the service, is in trouble: leaving would only make it worse. */
static int is_shortage(int r)
{
    return r == -EMFILE || r == -ENFILE || r == -ENOBUFS || r == -ENOMEM;
}

static int accept_one(const struct worker *w, int *fd)
{
    static struct xlog_limit limit;
    for (;;) {
        if (program_changed(w))
            return EX_OK;
        int r = wait_readable(w);
        /* Again: an idle worker must leave the next client to the new program. */
        if (is_over(w) || program_changed(w))
            return EX_OK;
        if (!r)
            r = service_accept(&w->listener);
        if (r >= 0) {
            *fd = r;
            return GO_ON;
        }
        if (r == -EAGAIN)
            continue;
        errno = -r;
        if (!is_shortage(r)) {
            xlog_error("accept failed");
            return EX_OSERR;
        }
        if (xlog_allowed(&limit, 60))
            xlog_error("accept failed, trying again");
        poll(NULL, 0, 1000);
    }
}

/* The next connection to *FD: GO_ON, or the exit code. */
static int next_client(struct worker *w, int *fd)
{
    service_signal_alarm(w->uses ? w->options.idle : 0);
    int r = take_lock(w);
    if (r < 0) {
        errno = -r;
        xlog_error("accept lock failed, going on without it");
        close(w->lock);
        w->lock = -1;
    }
    int code = is_over(w) ? EX_OK : accept_one(w, fd);
    drop_lock(w);
    service_signal_alarm(0);
    return code;
}

/* ---- Serving ---- */

/* Tell master. What it makes of it only concerns the forking of others: errors are no reason to
 * end. */
static void tell(enum status status)
{
    struct {
        int code;
        pid_t pid;
    } message = {(int)status, getpid()};
    ssize_t n;
    do
        n = write(STATUS_FD, &message, sizeof(message));
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(message))
        xlog_error("cannot tell master of status %d", (int)status);
}

/* Back to /dev/null. Descriptor 2 was never the client's: it stays where master put it. */
static void detach_client(void)
{
    shutdown(0, SHUT_RD);
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    dup2(fd, 0);
    dup2(fd, 1);
    close(fd);
}

static void serve_one(struct worker *w, int fd)
{
    struct service *s = &w->service;
    tell(STATUS_UNAVAILABLE);
    if (w->listener.family != AF_UNIX && w->listener.type == SOCK_STREAM)
        service_keepalive(s->config, fd);
    service_addresses(s, &w->listener, fd);
    dup2(fd, 0);
    dup2(fd, 1);
    close(fd);
    tell(STATUS_CONNECTION);
    w->uses++;
    service_setproc(s, NULL, NULL, NULL);
    w->ops->serve(s, 0, 1);
    service_clearproc(s);
    detach_client();
}

static int serve_all(struct worker *w)
{
    open_lock(w);
    for (;;) {
        int fd = -1, code = next_client(w, &fd);
        if (code != GO_ON)
            return code;
        serve_one(w, fd);
        if (is_over(w) || w->uses >= w->options.max_uses)
            return EX_OK;
        tell(STATUS_AVAILABLE);
    }
}

/* -X: whoever is at the terminal is the only client. */
static int serve_terminal(struct worker *w)
{
    struct service *s = &w->service;
    snprintf(s->clienthost, sizeof(s->clienthost), "[stdin]");
    service_setproc(s, NULL, NULL, NULL);
    w->ops->serve(s, 0, 1);
    service_clearproc(s);
    service_signal_logstop();
    return EX_OK;
}

/* ---- The whole ---- */

static int start(struct worker *w, const char *argv0)
{
    int code = identify(w);
    if (code == GO_ON)
        code = configure(w);
    if (code == GO_ON)
        code = open_listener(w);
    if (code == GO_ON)
        code = become_user(w);
    if (code != GO_ON)
        return code;
    service_signal_install();
    run_debugger(w, argv0);
    find_program(w, argv0);
    code = 0;
    if (w->ops->init)
        code = w->ops->init(&w->service, w->options.argc, w->options.argv);
    return code ? code : GO_ON;
}

int service_run(int argc, char **argv, const struct service_ops *ops)
{
    struct worker w;
    struct buf text = BUF_INITIALIZER;
    memset(&w, 0, sizeof(w));
    w.ops = ops;
    w.lock = -1;
    if (occupy_standard() < 0)
        return EX_OSERR;
    xlog_open(ops->program, NULL, NULL, 0);
    int code = service_options_parse(&w.options, argc, argv, ops->options, &text);
    code = code ? refuse(&w, code, buf_cstring(&text)) : start(&w, argv[0]);
    if (code == GO_ON) {
        code = w.options.interactive ? serve_terminal(&w) : serve_all(&w);
        if (ops->done)
            ops->done(&w.service);
    }
    if (w.lock >= 0)
        close(w.lock);
    service_options_fini(&w.options);
    config_free(&w.service.config);
    buf_free(&text);
    xlog_close();
    return code;
}
