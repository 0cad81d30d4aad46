/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* ctl_backups_stat - sizes of backups: what is on the disk, what that is uncompressed, and how much of
 * that compaction would leave.
 *
 * Text and JSON are those of ctl_backups in Cyrus 3.0 - 3.10, except that a backup without text has
 * ratios of 0.0 % (and, as ever, none in JSON); keys that are new come last. */
#include "config.h"

#include <stdio.h>
#include <sysexits.h>

#include "backup/ctl_backups.h"
#include "backup/lcb_summary.h"
#include "lib/xerr.h"

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

static void stat_text(struct ctl *ctl, const struct ctl_target *t, const struct lcb_summary *s)
{
    char start[32], end[32];
    printf("%s\t%llu\t%llu\t%llu\t%6.1f%%\t%6.1f%%\t%21s\t%s\n", t->name,
           (unsigned long long)s->size, (unsigned long long)s->text_length,
           (unsigned long long)s->live, percent(s->size, s->text_length),
           percent(s->live, s->text_length), ctl_time(ctl->opt, s->start, start),
           ctl_time(ctl->opt, s->end, end));
}

static json_t *stat_object(struct ctl *ctl, const struct ctl_target *t, const struct lcb_summary *s)
{
    json_t *j = json_object();
    char start[32], end[32];
    if (t->shown)
        json_object_set_new(j, "userid", ctl_json_cstring(t->shown));
    json_object_set_new(j, "fname", ctl_json_cstring(t->path));
    json_object_set_new(j, "compressed", json_integer((json_int_t)s->size));
    json_object_set_new(j, "uncompressed", json_integer((json_int_t)s->text_length));
    json_object_set_new(j, "compactable", json_integer((json_int_t)s->live));
    if (s->text_length) {
        json_object_set_new(j, "compression_ratio", json_real(percent(s->size, s->text_length)));
        json_object_set_new(j, "utilisation_ratio", json_real(percent(s->live, s->text_length)));
    }
    json_object_set_new(j, "last_start_time", json_string(ctl_time(ctl->opt, s->start, start)));
    json_object_set_new(j, "last_end_time", json_string(ctl_time(ctl->opt, s->end, end)));
    ctl_json_time(j, "last_start_time", s->start);
    ctl_json_time(j, "last_end_time", s->end);
    return j;
}

int ctl_stat(struct ctl *ctl)
{
    struct ctl_targets targets;
    struct ctl_json json;
    if (ctl_targets_open(ctl, &targets))
        return EX_TEMPFAIL;
    if (ctl->opt->json)
        ctl_json_begin(&json, ctl->opt);
    for (size_t i = 0; i < targets.count; i++) {
        struct ctl_target *t = &targets.list[i];
        struct lcb_summary s;
        int r = lcb_summary_read(ctl->store, t->path, 1, &s);
        while (r && ctl_target_moved(ctl, &targets, t))
            r = lcb_summary_read(ctl->store, t->path, 1, &s);
        if (r) {
            if (ctl_target_failed(ctl, &targets, t, r))
                break;
        } else if (ctl->opt->json) {
            ctl_json_item(&json, stat_object(ctl, t, &s));
        } else {
            stat_text(ctl, t, &s);
        }
    }
    if (ctl->opt->json)
        ctl_json_end(&json);
    return ctl_targets_close(ctl, &targets);
}
