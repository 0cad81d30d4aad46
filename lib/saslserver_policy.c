/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* saslserver_policy - canonical user ids, administrators, and who may act for whom.
 *
 * The rules are those that Cyrus servers apply, so that the same imapd.conf means the same here:
 *   - virtual domains: the part behind the last '@' (or '%') is the domain; the default domain is
 *     dropped; with "virtdomains: on" an id without a domain gets that of the local address;
 *   - without virtual domains, the realm of an id must be in loginrealms;
 *   - the user denial list keeps people out, but no administrators;
 *   - administrators and proxyservers may act for others. Who acts for another has the rights of
 *     that other, so an administrator who does is none (saslserver sees to that).
 *
 * The denial list is read in the "flat" form only: lines of user, TAB, "2", TAB, services, TAB,
 * text. SERVICES are comma-separated shell patterns of which the last that fits decides; a leading
 * '!' exempts. */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "lib/saslserver_policy.h"
#include "lib/strarray.h"
#include "lib/xerr.h"
#include "lib/xlog.h"
#include "lib/xmalloc.h"

enum virtdomains { VIRT_OFF, VIRT_USERID, VIRT_ON }; /* order of the option's words */

/* Canonical ids */

static int is_allowed(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && !strchr("\"%&()*,/:;<>?\\", c);
}

/* The SASL library takes these away after we have looked: another name would result. */
static int has_outer_blank(const char *id)
{
    return *id == ' ' || id[strlen(id) - 1] == ' ';
}

static int is_reserved(const char *id)
{
    return !strcasecmp(id, "anyone") || !strcasecmp(id, "anybody") || !strcasecmp(id, "anonymous");
}

/* Domain of the host's name for LOCAL ("addr;port"): "" if there is none. */
static void local_domain(const char *local, char *domain, size_t size)
{
    char addr[128], host[NI_MAXHOST];
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *ai = NULL;
    *domain = '\0';
    if (!local || snprintf(addr, sizeof(addr), "%s", local) >= (int)sizeof(addr))
        return;
    char *semicolon = strrchr(addr, ';');
    if (semicolon)
        *semicolon = '\0';
    if (getaddrinfo(addr, NULL, &hints, &ai))
        return;
    if (!getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof(host), NULL, 0, NI_NAMEREQD)) {
        const char *dot = strchr(host, '.');
        if (dot && strlen(dot + 1) < size)
            memcpy(domain, dot + 1, strlen(dot + 1) + 1);
    }
    freeaddrinfo(ai);
}

/* Apply the rules of virtual domains to ID in place. */
static int set_domain(const struct config *config, const char *local, char *id, size_t size)
{
    const char *defdomain = config_getstring(config, IMAPOPT_DEFAULTDOMAIN);
    int mode = config_getenum(config, IMAPOPT_VIRTDOMAINS);
    if (mode == VIRT_OFF)
        return 0;
    char *at = strrchr(id, '@');
    if (!at)
        at = strrchr(id, '%');
    if (at) {
        *at = '@';
        if (!at[1] || (defdomain && !strcasecmp(at + 1, defdomain)))
            *at = '\0';
        return 0;
    }
    char domain[256] = "";
    if (mode == VIRT_ON)
        local_domain(local, domain, sizeof(domain));
    if (!*domain || (defdomain && !strcasecmp(domain, defdomain)))
        return 0;
    size_t used = strlen(id);
    if (used + 1 + strlen(domain) >= size)
        return XERR_TOOBIG;
    snprintf(id + used, size - used, "@%s", domain);
    return 0;
}

int sasl_policy_canonify(const struct config *config, const char *local, const char *in,
                         size_t len, char *out, size_t size)
{
    char id[SASL_POLICY_MAXUSER + 1];
    if (len > SASL_POLICY_MAXUSER)
        return XERR_TOOBIG;
    memcpy(id, in, len);
    id[len] = '\0';
    if (!len || strlen(id) != len)
        return XERR_SYNTAX;
    int r = set_domain(config, local, id, sizeof(id));
    if (r)
        return r;
    int lower = config_getswitch(config, IMAPOPT_USERNAME_TOLOWER);
    for (char *p = id; *p; p++) {
        if (!is_allowed((unsigned char)*p))
            return XERR_SYNTAX;
        if (lower)
            *p = (char)tolower((unsigned char)*p);
    }
    if (!*id || *id == '@' || has_outer_blank(id) || is_reserved(id))
        return XERR_SYNTAX;
    len = strlen(id);
    if (len >= size)
        return XERR_TOOBIG;
    memcpy(out, id, len + 1);
    return (int)len;
}

/* Membership */

static int in_group(const char *name, const char *userid)
{
    const struct passwd *pw = getpwnam(userid);
    int primary = pw != NULL;
    gid_t gid = pw ? pw->pw_gid : 0;
    const struct group *gr = getgrnam(name);
    if (!gr)
        return 0;
    if (primary && gr->gr_gid == gid)
        return 1;
    for (char **m = gr->gr_mem; m && *m; m++)
        if (!strcmp(*m, userid))
            return 1;
    return 0;
}

int sasl_policy_isin(const struct config *config, enum imapopt list, const char *userid)
{
    const char *value = config_getstring(config, list);
    struct strarray words = STRARRAY_INITIALIZER;
    int found = 0;
    strarray_split(&words, value ? value : "", " \t");
    for (int i = 0; i < words.count && !found; i++) {
        const char *w = words.data[i];
        if (!strncmp(w, "group:", 6))
            found = config_getswitch(config, IMAPOPT_UNIX_GROUP_ENABLE) && in_group(w + 6, userid);
        else
            found = !strcmp(w, userid) || !strcmp(w, "anyone");
    }
    strarray_fini(&words);
    return found;
}

/* Denial */

/* 1 if the comma-separated patterns of LIST cover SERVICE. Changes LIST. */
static int covers(char *list, const char *service)
{
    for (;;) {
        char *comma = strrchr(list, ',');
        const char *pattern = comma ? comma + 1 : list;
        int not = *pattern == '!';
        if (!fnmatch(pattern + not, service, 0))
            return !not;
        if (!comma)
            return 0;
        *comma = '\0';
    }
}

/* 1 if LINE of the list denies USERID the service of our name. Changes LINE. */
static int line_denies(char *line, const char *userid, const char *service)
{
    char *save = NULL;
    const char *user = strtok_r(line, "\t", &save);
    const char *version = user && !strcmp(user, userid) ? strtok_r(NULL, "\t", &save) : NULL;
    if (!version)
        return 0;
    char *services = strtok_r(NULL, "\t", &save);
    if (strcmp(version, "2") || !services) {
        xlog_warnx("user denial list: entry of %s is not understood, taken as denied", userid);
        return 1;
    }
    return covers(services, service);
}

static int is_denied(const struct config *config, const char *userid)
{
    const char *path = config_getstring(config, IMAPOPT_USERDENY_DB_PATH);
    const char *type = config_getstring(config, IMAPOPT_USERDENY_DB);
    FILE *f = path && *path ? fopen(path, "re") : NULL;
    if (!f) {
        if (!path || !*path || errno == ENOENT)
            return 0;
        xlog_error("cannot read the user denial list %s, nobody but administrators may log in",
                   path);
        return 1;
    }
    char *line = NULL;
    size_t alloc = 0;
    int denied = 0;
    if (type && strcmp(type, "flat")) {
        xlog_errorx("userdeny_db: only 'flat' is supported, nobody but administrators may log in");
        denied = 1;
    }
    while (!denied && getline(&line, &alloc, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        denied = line_denies(line, userid, config_ident(config));
    }
    free(line);
    fclose(f);
    return denied;
}

/* Permission */

/* 1 if the realm of AUTHID, if it has one, may log in. */
static int realm_allowed(const struct config *config, const char *authid)
{
    const char *at = strchr(authid, '@');
    if (!at || config_getenum(config, IMAPOPT_VIRTDOMAINS) != VIRT_OFF)
        return 1;
    const char *value = config_getstring(config, IMAPOPT_LOGINREALMS);
    struct strarray realms = STRARRAY_INITIALIZER;
    int found = 0;
    strarray_split(&realms, value ? value : "", " \t");
    for (int i = 0; i < realms.count && !found; i++)
        found = !strcasecmp(realms.data[i], at + 1);
    strarray_fini(&realms);
    return found;
}

int sasl_policy_authorize(const struct config *config, const char *authid, const char *authzid,
                          struct buf *why)
{
    if (!realm_allowed(config, authid)) {
        buf_printf(why, "cross-realm login %s denied", authid);
        return XERR_DENIED;
    }
    if (sasl_policy_isin(config, IMAPOPT_ADMINS, authid))
        return 0;
    if (is_denied(config, authid)) {
        buf_printf(why, "user %s denied access to service %s", authid, config_ident(config));
        return XERR_DENIED;
    }
    if (!strcmp(authid, authzid) || sasl_policy_isin(config, IMAPOPT_PROXYSERVERS, authid))
        return 0;
    buf_printf(why, "user %s is not allowed to act for %s", authid, authzid);
    return XERR_DENIED;
}
