/* SPDX-License-Identifier: ISC */
/* What an audit has found, for people and programs. */
#ifndef TOOLS_FINDINGS_H
#define TOOLS_FINDINGS_H

#include <stdbool.h>

#include "cache/audit.h"
#include "tools/command.h"

/* Print all, with what each means and what --fix would do about it, or has done; those that
 * are about a blob with the images that it breaks. No read is open before and after. */
void findings_print(const struct options *o, struct cache *cache, const struct audit *a);

/* Whether anything is left that is damage, and not repaired. */
bool findings_are_damage(const struct audit *a);

#endif
