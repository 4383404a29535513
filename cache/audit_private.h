/* SPDX-License-Identifier: ISC */
/* Audits, between audit.c (the blobs), audit_index.c (the records) and audit_partial.c (what
 * is under way, or left over). */
#ifndef CACHE_AUDIT_PRIVATE_H
#define CACHE_AUDIT_PRIVATE_H

#include "cache/audit.h"

struct auditor {
    struct audit *audit;
    struct store *store;
    struct db_reader *reader;
    const struct audit_options *options;
};

/* Add a finding of this kind, zero otherwise; valid until the next. */
struct finding *audit_add(struct audit *a, enum audit_kind kind);
/* The same of a record that cannot be read. */
void audit_add_record(struct audit *a, enum db_table table, struct db_value key);

MUST_CHECK int audit_index(struct auditor *x);
MUST_CHECK int audit_partials(struct auditor *x);

#endif
