/* SPDX-License-Identifier: ISC */
/* Small texts on the disk. */
#ifndef TOOLS_TEXT_FILE_H
#define TOOLS_TEXT_FILE_H

#include "cache/check.h"

#define TEXT_FILE_MAX (1u << 20)

/* All of the file, owned by the caller. ERR_NOT_FOUND, ERR_TOO_LARGE, ERR_INVALID when it holds
 * a NUL, or the error of a file operation. */
MUST_CHECK int text_read(const char *path, char **text);

/* Make the file hold this text, whole or not at all, and the folders above it. One that is
 * there keeps its mode and its owner, and a symbolic link to it stays one. */
MUST_CHECK int text_write(const char *path, const char *text);

/* Remove the file if it is there. */
MUST_CHECK int text_remove(const char *path);

#endif
