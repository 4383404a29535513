/* SPDX-License-Identifier: ISC */
/* The store, between store.c (the directory) and store_index.c (the index in it). */
#ifndef CACHE_STORE_PRIVATE_H
#define CACHE_STORE_PRIVATE_H

#include "cache/store.h"

struct store {
    char *path;
    enum store_mode mode;
    unsigned found_mode, root_mode; /* as of chmod */
    int root_fd;
    int lock_fd;
    int sha256_fd;
    int sha512_fd;
    int partial_fd;
    struct db *db;
    struct room *room;
};

#define STORE_DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* Where a refusal leaves its sentence. */
struct why {
    char *text;
    size_t size;
};

/* Both return the error. */
int store_refuse(const struct why *why, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
int store_refuse_errno(const struct why *why, const char *doing, const char *path,
                       const char *name);

/* Open a folder in the store, which the daemon makes when it is missing. */
MUST_CHECK int store_dir_open(const struct store *s, int parent_fd, const char *name, int *fd,
                              const struct why *why);

#endif
