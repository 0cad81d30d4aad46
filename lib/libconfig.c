/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* libconfig - imapd.conf as a context.
 *
 * Opening goes in steps, and each may refuse the file: entries are read (config_parse); each is
 * sorted to the option it sets, plainly or for our ident alone, or to the overflow; deprecated
 * names hand their values on; the environment has its say; defaults fill the gaps; paths are
 * expanded; and what would only hurt later is checked now. Afterwards nothing changes any more, so
 * every getter is a look into a table. */
#include "config.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/config_options.h"
#include "lib/config_parse.h"
#include "lib/hash.h"
#include "lib/libconfig.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xmalloc.h"

/* Who set a value; a later one wins over an earlier one. */
enum layer { LAYER_NONE, LAYER_DEFAULT, LAYER_PLAIN, LAYER_IDENT, LAYER_ENV };

struct value {
    enum layer layer;
    char *text;
    int64_t n;
    const struct config_entry *entry; /* NULL: default or environment */
};

struct config {
    char *file;
    char *ident;
    char *ident_lower; /* as it stands before an option: "backupd_" */
    char *servername;
    struct config_entries entries;
    struct value values[IMAPOPT_LAST];
    struct hash *overflow; /* key -> struct config_entry */
    struct strarray warnings;
};

static void lower(char *s)
{
    for (; *s; s++)
        if (*s >= 'A' && *s <= 'Z')
            *s = (char)(*s - 'A' + 'a');
}

static void set_value(struct config *c, enum imapopt opt, enum layer layer, const char *text,
                      int64_t n, const struct config_entry *entry)
{
    struct value *v = &c->values[opt];
    char *copy = xstrdup(text); /* TEXT may be v->text */
    free(v->text);
    *v = (struct value){.layer = layer, .text = copy, .n = n, .entry = entry};
}

/* Which option does E set for us, and is it written for our ident alone? An option's own name comes
 * first: restore_authname is that option even for the program "restore". */
static enum imapopt classify(const struct config *c, const struct config_entry *e,
                             enum layer *layer)
{
    size_t n = strlen(c->ident_lower);
    *layer = LAYER_PLAIN;
    enum imapopt opt = config_optionbyname(e->key);
    if (!opt && n && !strncmp(e->key, c->ident_lower, n)) {
        *layer = LAYER_IDENT;
        opt = config_optionbyname(e->key + n);
    }
    return opt;
}

static int complain_entry(const struct config_entry *e, const char *why, struct buf *err)
{
    buf_printf(err, "%s, line %u: option '%s' is '%.64s', but must be %s", e->file, e->line, e->key,
               e->value, why);
    return XERR_CONFIG;
}

static int complain_value(const struct config *c, enum imapopt opt, const char *why,
                          struct buf *err)
{
    const struct value *v = &c->values[opt];
    if (v->entry)
        return complain_entry(v->entry, why, err);
    buf_printf(err, "%s: option '%s' is '%.64s', but must be %s", c->file, config_options[opt].name,
               v->text, why);
    return XERR_CONFIG;
}

/* A value is looked at even if another one overrides it: a mistake should show at once, not when
 * the override goes. */
static int read_entry(struct config *c, struct config_entry *e, struct buf *err)
{
    struct buf why = BUF_INITIALIZER;
    enum layer layer;
    int64_t n;
    enum imapopt opt = classify(c, e, &layer);
    if (!opt) {
        hash_insert(c->overflow, e->key, e);
        return 0;
    }
    int r = config_parsevalue(&config_options[opt], e->value, &n, &why);
    if (r)
        r = complain_entry(e, buf_cstring(&why), err);
    else if (layer > c->values[opt].layer)
        set_value(c, opt, layer, e->value, n, e);
    buf_free(&why);
    return r;
}

/* Warn of deprecated names; their values go to the successors that are not set themselves. */
static void hand_on_deprecated(struct config *c)
{
    for (const struct config_deprecation *d = config_deprecations; d->old; d++) {
        const struct value *v = &c->values[d->old];
        if (!v->layer)
            continue;
        struct buf text = BUF_INITIALIZER;
        buf_printf(&text, "Option '%s' is deprecated in version %s.", config_options[d->old].name,
                   d->since);
        if (d->use)
            buf_printf(&text, " Use '%s' instead.", config_options[d->use].name);
        strarray_append(&c->warnings, buf_cstring(&text));
        buf_free(&text);
        if (d->use && !c->values[d->use].layer)
            set_value(c, d->use, v->layer, v->text, v->n, v->entry);
    }
}

static void obey_environment(struct config *c)
{
    static const struct {
        const char *variable;
        enum imapopt opt;
    } vars[] = {
        {"CYRUS_SYSLOG_PREFIX", IMAPOPT_SYSLOG_PREFIX},
        {"CYRUS_USER", IMAPOPT_CYRUS_USER},
        {"CYRUS_GROUP", IMAPOPT_CYRUS_GROUP},
    };
    for (size_t i = 0; i < sizeof(vars) / sizeof(*vars); i++) {
        const char *s = getenv(vars[i].variable);
        if (s && *s)
            set_value(c, vars[i].opt, LAYER_ENV, s, 0, NULL);
    }
}

static int fill_defaults(struct config *c, struct buf *err)
{
    for (int i = IMAPOPT_ZERO + 1; i < IMAPOPT_LAST; i++) {
        int64_t n;
        const struct config_option *o = &config_options[i];
        if (c->values[i].layer || !o->def)
            continue;
        if (config_parsevalue(o, o->def, &n, err))
            return XERR_INTERNAL;
        set_value(c, (enum imapopt)i, LAYER_DEFAULT, o->def, n, NULL);
    }
    return 0;
}

/* Put the configuration directory in place of the token that a path may begin with. */
static void expand_paths(struct config *c)
{
    static const char token[] = "{configdirectory}";
    const char *dir = c->values[IMAPOPT_CONFIGDIRECTORY].text;
    for (int i = IMAPOPT_ZERO + 1; i < IMAPOPT_LAST; i++) {
        struct value *v = &c->values[i];
        if (config_options[i].type != CONFIG_STRING || !v->text ||
            strncasecmp(v->text, token, sizeof(token) - 1))
            continue;
        const char *rest = v->text + sizeof(token) - 1;
        if (*rest && *rest != '/')
            continue;
        char *path = xasprintf("%s%s", dir, rest);
        free(v->text);
        v->text = path;
    }
}

static int is_proper_path(const char *s)
{
    return *s == '/' && s[strspn(s, "/")];
}

static int check_paths(const struct config *c, struct buf *err)
{
    static const char why[] = "an absolute path, and not /";
    if (!is_proper_path(c->values[IMAPOPT_CONFIGDIRECTORY].text))
        return complain_value(c, IMAPOPT_CONFIGDIRECTORY, why, err);
    if (!is_proper_path(c->values[IMAPOPT_PROC_PATH].text))
        return complain_value(c, IMAPOPT_PROC_PATH, why, err);
    const char *s = c->values[IMAPOPT_DEFAULTPARTITION].text;
    for (; s && *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9')))
            return complain_value(c, IMAPOPT_DEFAULTPARTITION, "letters and digits only", err);
    return 0;
}

/* Our own options have bounds: memory and time depend on them. */
static int check_bounds(const struct config *c, struct buf *err)
{
    static const struct {
        enum imapopt opt;
        int64_t min, max;
        const char *why;
    } bounds[] = {
        {IMAPOPT_BACKUP_CHUNK_SIZE, 16 << 10, 16 << 20, "between 16K and 16M"},
        {IMAPOPT_BACKUP_COMPRESSION_LEVEL, 1, 12, "between 1 and 12"},
        {IMAPOPT_BACKUP_MAX_DLIST, 64 << 10, 1 << 30, "between 64K and 1G"},
        {IMAPOPT_BACKUP_LOCK_WAIT, 0, 86400, "between 0 and 1d"},
        {IMAPOPT_BACKUP_MAINTENANCE_WAIT, 0, 86400, "between 0 and 1d"},
        {IMAPOPT_BACKUP_ERROR_PAUSE, 0, 3600, "between 0 and 1h"},
        {IMAPOPT_BACKUP_INDEX_CHECKPOINT, 64 << 10, 1 << 30, "between 64K and 1G"},
    };
    for (size_t i = 0; i < sizeof(bounds) / sizeof(*bounds); i++) {
        int64_t n = c->values[bounds[i].opt].n;
        if (n < bounds[i].min || n > bounds[i].max)
            return complain_value(c, bounds[i].opt, bounds[i].why, err);
    }
    return 0;
}

static int apply_umask(const struct config *c, struct buf *err)
{
    const char *s = c->values[IMAPOPT_UMASK].text;
    size_t n = strlen(s);
    if (strspn(s, "01234567") != n || n > 4)
        return complain_value(c, IMAPOPT_UMASK, "an octal number such as 077", err);
    umask((mode_t)(strtoul(s, NULL, 8) & 0777));
    return 0;
}

static void find_servername(struct config *c)
{
    char host[HOST_NAME_MAX + 1] = "";
    const char *name = c->values[IMAPOPT_SERVERNAME].text;
    if (!name && (gethostname(host, sizeof(host)) < 0 || !*host))
        name = "localhost";
    host[sizeof(host) - 1] = '\0';
    c->servername = xstrdup(name ? name : host);
}

static int interpret(struct config *c, struct buf *err)
{
    for (size_t i = 0; i < c->entries.count; i++) {
        int r = read_entry(c, &c->entries.data[i], err);
        if (r)
            return r;
    }
    if (!c->values[IMAPOPT_CONFIGDIRECTORY].layer) {
        buf_printf(err, "%s: option 'configdirectory' is not set; every program needs it", c->file);
        return XERR_CONFIG;
    }
    hand_on_deprecated(c);
    obey_environment(c);
    int r = fill_defaults(c, err);
    if (r)
        return r;
    expand_paths(c);
    find_servername(c);
    r = check_paths(c, err);
    if (!r)
        r = check_bounds(c, err);
    return r ? r : apply_umask(c, err);
}

int config_open(const char *file, const char *ident, struct config **out, struct buf *err)
{
    struct config *c = xzmalloc(sizeof(*c));
    c->file = xstrdup(file ? file : SYSCONF_DIR "/imapd.conf");
    c->ident = xstrdup(ident ? ident : "");
    c->ident_lower = *c->ident ? xasprintf("%s_", c->ident) : xstrdup("");
    lower(c->ident_lower);
    c->overflow = hash_new();
    *out = NULL;
    int r = config_parse(c->file, &c->entries, err);
    if (!r)
        r = interpret(c, err);
    if (r)
        config_free(&c);
    *out = c;
    return r;
}

void config_free(struct config **cp)
{
    struct config *c = *cp;
    *cp = NULL;
    if (!c)
        return;
    for (int i = 0; i < IMAPOPT_LAST; i++)
        free(c->values[i].text);
    hash_free(&c->overflow, NULL);
    config_entries_fini(&c->entries);
    strarray_fini(&c->warnings);
    free(c->file);
    free(c->ident);
    free(c->ident_lower);
    free(c->servername);
    free(c);
}

static const struct value *get(const struct config *c, enum imapopt opt)
{
    assert(opt > IMAPOPT_ZERO && opt < IMAPOPT_LAST);
    return &c->values[opt];
}

static int64_t get_number(const struct config *c, enum imapopt opt, enum config_type type)
{
    assert(config_options[opt].type == type);
    (void)type;
    return get(c, opt)->n;
}

const char *config_getstring(const struct config *c, enum imapopt opt)
{
    return get(c, opt)->text;
}

int config_getint(const struct config *c, enum imapopt opt)
{
    return (int)get_number(c, opt, CONFIG_INT);
}

int config_getswitch(const struct config *c, enum imapopt opt)
{
    return (int)get_number(c, opt, CONFIG_SWITCH);
}

int config_getenum(const struct config *c, enum imapopt opt)
{
    assert(config_options[opt].words);
    return (int)get(c, opt)->n;
}

int64_t config_getduration(const struct config *c, enum imapopt opt)
{
    return get_number(c, opt, CONFIG_DURATION);
}

int64_t config_getbytesize(const struct config *c, enum imapopt opt)
{
    return get_number(c, opt, CONFIG_BYTESIZE);
}

int config_isset(const struct config *c, enum imapopt opt)
{
    return get(c, opt)->layer > LAYER_DEFAULT;
}

const char *config_getoverflowstring(const struct config *c, const char *key, const char *def)
{
    struct buf name = BUF_INITIALIZER;
    buf_printf(&name, "%s%s", c->ident_lower, key);
    buf_cstring(&name);
    lower(name.s);
    const struct config_entry *e = hash_lookup(c->overflow, name.s);
    if (!e)
        e = hash_lookup(c->overflow, name.s + strlen(c->ident_lower));
    buf_free(&name);
    return e ? e->value : def;
}

struct overflow_rock {
    void (*fn)(const char *key, const char *value, void *rock);
    void *rock;
};

static int each_overflow(const char *key, size_t n, void *data, void *rock)
{
    const struct overflow_rock *o = rock;
    const struct config_entry *e = data;
    (void)n;
    o->fn(key, e->value, o->rock);
    return 0;
}

void config_foreachoverflow(const struct config *c,
                            void (*fn)(const char *key, const char *value, void *rock), void *rock)
{
    struct overflow_rock o = {fn, rock};
    hash_enumerate(c->overflow, each_overflow, &o);
}

const char *config_ident(const struct config *c)
{
    return c->ident;
}

const char *config_file(const struct config *c)
{
    return c->file;
}

const char *config_servername(const struct config *c)
{
    return c->servername;
}

void config_foreachwarning(const struct config *c, void (*fn)(const char *text, void *rock),
                           void *rock)
{
    for (int i = 0; i < c->warnings.count; i++)
        fn(strarray_nth(&c->warnings, i), rock);
}
