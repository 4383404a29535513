/* SPDX-License-Identifier: ISC */
/*
 * Preloaded into a program under test: the Nth call that touches its files fails, once or from
 * then on, or kills the program, or does half of what it was asked; its clock is set; and a record
 * of what was done to the files, from which tests make every state that a power cut could leave.
 *
 *   FAULTS_ROOT     only calls on files under this directory count
 *   FAULTS_LOG      and writes to this file, wherever it is
 *   FAULTS_CONTROL  a file of struct control, mapped; the test arms it when its scenario begins
 *   FAULTS_RECORD   a file to append the record to (see powercut.py)
 *
 * Calls go straight to the kernel. What the C library does within itself (stdio, its allocator) is
 * not seen.
 */
#ifndef FAULTS_SHIM_H
#define FAULTS_SHIM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum kind {
    WRITE = 1 << 0,
    SYNC = 1 << 1,
    RENAME = 1 << 2, /* link as well */
    SPACE = 1 << 3,  /* fallocate, ftruncate */
    MAKE = 1 << 4,   /* a new file or directory */
    OPEN = 1 << 5,   /* what is there */
    REMOVE = 1 << 6,
    MAP = 1 << 7,
    READ = 1 << 8,
    MEMORY = 1 << 9, /* allocations, whoever makes them */
    LOG = 1 << 10,   /* writes to the log */
};

/* The program under test must not find these by name. */
#pragma GCC visibility push(hidden)

/* --- shim.c: what fails --- */

/* syscall() of the C library: ours is in its place, for those calls that have no other name. */
long (*kernel(void))(long number, ...);
#define to_kernel(...) kernel()(__VA_ARGS__)

/* Whether the call is to return without being done, errno being set. */
bool fails(enum kind kind, const char *name);
/* The same for a call that moves bytes, which may be told to move less. */
bool fails_bytes(enum kind kind, const char *name, size_t *len);
/* The same for a call that writes: to the log, or to one of the files. */
bool write_fails(int fd, const char *name, size_t *len);

/* Whether a file is one of those that count, and somebody counts or records. */
bool is_ours(int fd);
bool is_ours_at(int dir, const char *name);
/* The path of such a name. */
bool at_path(int dir, const char *name, char path[PATH_MAX]);

/* --- record.c: "WORD INODE NUMBER LENGTH\n" and that many bytes --- */

void record_open(const char *path);
bool record_is_open(void);
/* What is recorded is done under one lock, of all programs that record into the same file, so that
 * the record has the order of what was done. False: it is not recorded, and not to be ended. */
bool record_begin(bool wanted);
void record_end(void);
void record(const char *word, uint64_t inode, int64_t number, const void *data, size_t len);
void record_written(int fd, const struct iovec *parts, int count, off_t offset, ssize_t done);
/* One name, or two: `to` may be NULL. */
void record_names(const char *word, int64_t number, int from_dir, const char *from, int to_dir,
                  const char *to);
uint64_t inode_of(int fd);

#pragma GCC visibility pop

#endif
