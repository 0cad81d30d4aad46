/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* cyr_backup_time - moments that are asked for, and what has to be said of them: that they are before
 * all history, that they are yet to come, that some of what happened then is not known any more. */
#include "config.h"

#include <time.h>

#include "backup/cyr_backup.h"
#include "backup/lcb_history.h"
#include "lib/output.h"
#include "lib/xerr.h"

int cyr_backup_position(struct cyr_backup *cb, int64_t time, int64_t *at)
{
    int64_t pos, begin;
    int r = lcb_history_at(cb->backup, time, at);
    if (r != XERR_NOTFOUND)
        return r;
    r = lcb_history_begin(cb->backup, &pos, &begin);
    if (r == XERR_NOTFOUND) {
        cyr_backup_say(cb, "there is no history yet");
    } else if (!r) {
        char asked[20], first[20];
        output_time(time, asked);
        output_time(begin, first);
        cyr_backup_say(cb, "there is no history of %s: it begins at %s", asked, first);
    }
    return r ? r : XERR_NOTFOUND;
}

void cyr_backup_warn_future(const struct cyr_backup *cb, int64_t asked, int64_t at)
{
    char text[20];
    if (at != LCB_NOW || asked <= (int64_t)time(NULL))
        return;
    output_time(asked, text);
    cyr_backup_say(cb, "%s lies in the future: this is the present state", text);
}

static void say_lost(const struct cyr_backup *cb, const struct lcb_lost *lost, const char *what)
{
    static const char then[] = "was lost through damage; what is";
    char from[20], to[20];
    output_time(lost->from, from);
    output_time(lost->to, to);
    if (lost->from && lost->to != LCB_NOW)
        cyr_backup_say(cb, "part of the history between %s and %s %s %s may be incomplete", from, to,
                       then, what);
    else
        cyr_backup_say(cb, "part of the history %s %s %s %s may be incomplete",
                       lost->from ? "after" : "before", lost->from ? from : to, then, what);
}

int cyr_backup_warn_lost(const struct cyr_backup *cb, int64_t from, int64_t to, const char *what)
{
    struct lcb_lost lost;
    int r = lcb_history_lost(cb->backup, from, to, &lost);
    if (!r && lost.places)
        say_lost(cb, &lost, what);
    return r;
}
