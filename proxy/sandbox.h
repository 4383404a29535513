/* SPDX-License-Identifier: ISC */
/* What of the file system the daemon can get at, by Landlock, landlock(7). */
#ifndef PROXY_SANDBOX_H
#define PROXY_SANDBOX_H

#include "cache/check.h"
#include "proxy/config.h"

/* From here on this thread, and each that it starts, can write only in the cache directory
 * and in those of the authority, the log file and the Unix sockets; read, besides these, only
 * what the system's libraries read (/usr and /etc, and to where resolv.conf leads), the
 * directories of the files that the settings name and that of `config_path` (NULL: none); and
 * execute nothing. With a credential helper, whose needs are its own, it can read and execute
 * all, and write in the home directory and in /tmp: a helper is in the sandbox, too.
 * What is open stays so. Main thread, after privileges_drop, before there is any other.
 * ERR_NOT_FOUND when the kernel has no Landlock, or one that would forbid us to move a
 * file from one directory to another (before Linux 5.19); ERR_* when it refused. */
MUST_CHECK int sandbox_enter(const struct config *c, const char *config_path);

/* Whether there is a credential helper, and there was none in the settings which it was entered
 * with: it could not be run. */
bool sandbox_is_outgrown(const struct config *entered, const struct config *now);

#endif
