/* SPDX-License-Identifier: ISC */
/* Settings of a client's own that an object is merged into: see client_files.h. */
#ifndef TOOLS_CLIENT_MERGE_H
#define TOOLS_CLIENT_MERGE_H

#include <stddef.h>

#include "cache/check.h"
#include "tools/client_change.h"

/* Make the JSON object in the file hold that of `content`, in place of what was merged into
 * it before. FILE_KEPT, FILE_CREATED or FILE_MERGED; FILE_CONFLICT or FILE_FAILED with a
 * sentence in `why`, and then nothing has changed. */
MUST_CHECK enum file_change merge_into_file(const char *path, const char *content,
                                            enum file_action action, char *why, size_t why_size);

/* Take out what was merged: FILE_RESTORED, or FILE_REMOVED when nothing else is in a
 * file that was not there before. FILE_KEPT when nothing was merged. */
MUST_CHECK enum file_change merge_out_of_file(const char *path, enum file_action action, char *why,
                                              size_t why_size);

#endif
