/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The Cyrus Backups authors */
/* What deleting and bringing back (lcb_delete.c, lcb_undelete.c) share. */
#ifndef BACKUP_LCB_DELETE_INT_H
#define BACKUP_LCB_DELETE_INT_H

#include "backup/lcb_hold.h"
#include "backup/lcb_walk.h"

/* 1 if a record names PATH, 0 if none does, or an error. */
int lcb_path_registered(struct lcb_store *, const char *path);
/* Begin to give a held data file the name of a deleted one: N->to is for the caller to free. */
int lcb_deleted_name(struct lcb_hold *, struct lcb_newname *n);
/* The path that the deleted file at PATH, named N, had; the caller frees it. */
char *lcb_deleted_livepath(const char *path, const struct lcb_name *n);

#endif
