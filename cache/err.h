/* SPDX-License-Identifier: ISC */
/* Errors of cache/: a function that can fail returns 0 or one of these. */
#ifndef CACHE_ERR_H
#define CACHE_ERR_H

/* One row an error: name, value, what it says to a person. */
#define ERR_TABLE(ROW)                                                                             \
    ROW(ERR_NOT_FOUND, -1, "not found")                                                            \
    ROW(ERR_INVALID, -2, "not valid")                                                              \
    ROW(ERR_TOO_LARGE, -3, "too large")                                                            \
    ROW(ERR_MISMATCH, -4, "digest or size does not match")                                         \
    ROW(ERR_IO, -5, "input/output error")                                                          \
    ROW(ERR_NO_SPACE, -6, "no space left on the disk")                                             \
    ROW(ERR_DENIED, -7, "permission denied")                                                       \
    ROW(ERR_BUSY, -8, "in use by another process")                                                 \
    ROW(ERR_VERSION, -9, "written by another version")                                             \
    ROW(ERR_DAMAGED, -10, "damaged")                                                               \
    ROW(ERR_FULL, -11, "index is full")

enum err {
#define ERR_ENUM(name, value, text) name = (value),
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

/* The row's text; "no error" for 0. Never NULL. */
const char *err_text(int err);

/* The error that fits an errno of a file operation (ENOSPC and EDQUOT are
 * ERR_NO_SPACE, ENOENT is ERR_NOT_FOUND, EACCES, EPERM and EROFS are
 * ERR_DENIED, all others ERR_IO). */
int err_from_errno(int errnum);

#endif
