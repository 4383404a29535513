/* SPDX-License-Identifier: ISC */
/*
 * The files of a client on this machine: making them what a plan says, and taking that back.
 *
 * Files of ours are known by their first line; one that lacks it is never touched. Settings
 * of the client's own are merged into: beside them stay what they were before
 * (*.cachalot-bak) and what was merged (*.cachalot-set), by which exactly that is taken back
 * again, even when they were changed since.
 */
#ifndef TOOLS_CLIENT_FILES_H
#define TOOLS_CLIENT_FILES_H

#include <stddef.h>

#include "cache/check.h"
#include "cache/setup.h"
#include "tools/client_change.h"

/* "kept", "created", ... */
const char *file_change_name(enum file_change c);

struct file_row {
    enum file_change change;
    char *path; /* without the root */
    char *why;  /* of the last three, with what to do; else NULL */
};

struct file_report {
    struct file_row *rows;
    size_t count;
    size_t failures; /* rows of the last three */
    size_t changes;  /* rows of neither those nor FILE_KEPT */
};

/* `root` is put before each path; "" for this machine. The report is to be cleared. */
void files_write(struct file_report *r, const struct setup_plan *p, const char *root,
                 enum file_action action);
void files_undo(struct file_report *r, enum setup_client client, const char *root,
                enum file_action action);
void file_report_clear(struct file_report *r);

/* Where an item is, below the root; owned by the caller. */
char *files_path(const struct setup_item *item, const char *root);

#endif
