/* SPDX-License-Identifier: ISC */
/* What may happen to a file of a client: see client_files.h. */
#ifndef TOOLS_CLIENT_CHANGE_H
#define TOOLS_CLIENT_CHANGE_H

/* What was found, or done. */
enum file_change {
    FILE_KEPT, /* it was as it should be */
    FILE_CREATED,
    FILE_REPLACED,
    FILE_MERGED,
    FILE_REMOVED,
    FILE_RESTORED, /* what was merged was taken out again */
    FILE_FOREIGN,  /* it is not ours */
    FILE_CONFLICT, /* a key has another value */
    FILE_FAILED,
};

enum file_action {
    FILES_LOOK, /* say what FILES_WRITE or FILES_UNDO would do */
    FILES_DO,
};

#endif
