/* SPDX-License-Identifier: ISC */
/* What is done about what an audit has found. */
#ifndef CACHE_REPAIR_H
#define CACHE_REPAIR_H

#include "cache/audit.h"
#include "cache/check.h"
#include "cache/store.h"

/* Repair what can be, as audit_row says, a few findings in one commit, and mark them
 * `is_repaired`. Whatever has changed since the audit is left as it is. The store is open
 * for writing; `now_s` is Unix time. An error is one of the index; what was repaired before
 * stays so. */
MUST_CHECK int audit_repair(struct audit *a, struct store *s, int64_t now_s);

#endif
