/* SPDX-License-Identifier: ISC */
#include "proxy/privileges.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cache/err.h"

#define DEFAULT_USER "cachalot"
#define RIGHT(capability) (UINT64_C(1) << (capability))

/* The sanitizers' look for leaks at the end is that of a debugger. */
#if defined(__SANITIZE_ADDRESS__)
#define IS_LOOKED_INTO true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_LOOKED_INTO true
#endif
#endif
#ifndef IS_LOOKED_INTO
#define IS_LOOKED_INTO false
#endif

struct account {
    uid_t uid;
    gid_t gid;
    char *name; /* NULL: of a number that has none */
    char *home;
};

/* Where a refusal leaves its sentence. */
struct why {
    char *text;
    size_t size;
};

static int __attribute__((format(printf, 2, 3)))
refuse(const struct why *why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, why->size, format, args);
    va_end(args);
    return ERR_DENIED;
}

/* --- whom --- */

static void account_set(struct account *a, const struct passwd *entry)
{
    free(a->name);
    free(a->home);
    a->uid = entry->pw_uid;
    a->gid = entry->pw_gid;
    a->name = mem_format("%s", entry->pw_name);
    a->home = mem_format("%s", entry->pw_dir);
}

static void account_clear(struct account *a)
{
    free(a->name);
    free(a->home);
}

/* Nothing in it but what mkfs leaves. */
static bool is_empty(const char *path)
{
    const struct dirent *entry;
    DIR *dir = opendir(path);
    bool empty = dir != NULL;

    while (empty && (entry = readdir(dir)) != NULL)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, "lost+found") == 0;
    if (dir != NULL)
        closedir(dir);
    return empty;
}

/* Without a word of the settings. `st` is that of the directory, NULL when there is none. */
static void choose(struct account *a, const char *path, const struct stat *st)
{
    const struct passwd *entry = NULL;

    if (st != NULL && st->st_uid != 0) {
        a->uid = st->st_uid;
        a->gid = st->st_gid;
        /* cppcheck-suppress getpwuidCalled; there are no threads yet */
        entry = getpwuid(st->st_uid);
    } else if (st == NULL || is_empty(path)) {
        /* cppcheck-suppress getpwnamCalled; the same */
        entry = getpwnam(DEFAULT_USER);
    }
    if (entry != NULL)
        account_set(a, entry);
}

/* A directory that nobody has used yet becomes that of the account; store_open judges the
 * rest. */
static int give_directory(const struct account *a, const char *path, const struct stat *st,
                          const struct why *why)
{
    struct stat now = {0};

    if (st == NULL && mkdir(path, 0700) != 0)
        return refuse(why, "cannot create the cache directory %s: %s", path, strerror(errno));
    if (a->uid == 0 || (st != NULL && (st->st_uid != 0 || !S_ISDIR(st->st_mode))) ||
        !is_empty(path))
        return 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &now) == 0 && now.st_uid != 0)
        errno = EPERM; /* it became somebody's */
    if (fd < 0 || now.st_uid != 0 || fchown(fd, a->uid, a->gid) != 0) {
        refuse(why, "cannot give the cache directory %s to user %lu: %s", path,
               (unsigned long)a->uid, strerror(errno));
        if (fd >= 0)
            close(fd);
        return ERR_DENIED;
    }
    close(fd);
    return 0;
}

/* --- rights --- */

/* Keep these of what this thread has; nothing is inherited by whom it executes. */
static bool keep_rights(uint64_t kept)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct now[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &head, now) != 0)
        return false;
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        now[i].permitted &= (uint32_t)(kept >> (32 * i));
        now[i].effective = now[i].permitted;
        now[i].inheritable = 0;
    }
    return syscall(SYS_capset, &head, now) == 0;
}

/* What no program that is executed can have either; a container may forbid this. */
static void close_bounds(void)
{
    for (unsigned long c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
        (void)prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
}

/* Files of the superuser's cache may lie where only he gets by. */
static uint64_t last_rights(void)
{
    return geteuid() == 0 ? RIGHT(CAP_DAC_OVERRIDE) : 0;
}

/* The groups of root go; those that the account was put into are for its work. */
static int become(const struct account *a, const struct why *why)
{
    if ((a->name != NULL ? initgroups(a->name, a->gid) : setgroups(0, NULL)) != 0)
        return refuse(why, "cannot take the groups of user %lu: %s", (unsigned long)a->uid,
                      strerror(errno));
    close_bounds();
    /* A container may forbid any of this, too. */
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || setresgid(a->gid, a->gid, a->gid) != 0 ||
        setresuid(a->uid, a->uid, a->uid) != 0 || !keep_rights(RIGHT(CAP_NET_BIND_SERVICE)) ||
        prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0)
        return refuse(why, "cannot become user %lu: %s", (unsigned long)a->uid, strerror(errno));
    CHECK(a->home == NULL || setenv("HOME", a->home, 1) == 0);
    return 0;
}

/* A container may forbid any of this. */
static void stay_root(void)
{
    (void)setgroups(0, NULL);
    close_bounds();
    (void)keep_rights(RIGHT(CAP_NET_BIND_SERVICE) | last_rights());
}

/* --- the steps --- */

static int find_user(struct account *a, const char *user, const struct why *why)
{
    /* cppcheck-suppress getpwnamCalled; there are no threads yet */
    const struct passwd *entry = getpwnam(user);

    if (entry == NULL)
        return refuse(why, "there is no user %s on this machine", user);
    account_set(a, entry);
    if (geteuid() == 0 || geteuid() == a->uid)
        return 0;
    return refuse(why, "this runs as user %lu and cannot become %s; start it as root, or as %s",
                  (unsigned long)geteuid(), user, user);
}

int privileges_take(struct privileges *p, const char *user, const char *cache_path, char *why_text,
                    size_t why_size)
{
    const struct why why = {why_text, why_size};
    struct account a = {0};
    struct stat st;

    p->began_as_root = geteuid() == 0;
    p->changed_user = false;
    int err = user != NULL ? find_user(&a, user, &why) : 0;
    if (err == 0 && p->began_as_root) {
        const struct stat *found = lstat(cache_path, &st) == 0 ? &st : NULL;
        if (user == NULL)
            choose(&a, cache_path, found);
        p->changed_user = a.uid != 0;
        err = give_directory(&a, cache_path, found, &why);
        if (err == 0 && p->changed_user)
            err = become(&a, &why);
        else if (err == 0)
            stay_root();
    }
    account_clear(&a);
    return err;
}

int privileges_drop(const struct privileges *p, bool *is_root, char *why_text, size_t why_size)
{
    const struct why why = {why_text, why_size};

    *is_root = geteuid() == 0;
    if (p->began_as_root && !keep_rights(last_rights()) && !*is_root)
        return refuse(&why, "cannot give up the rights of root: %s", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return refuse(&why, "cannot give up new rights: %s", strerror(errno));
    if (prctl(PR_SET_DUMPABLE, IS_LOOKED_INTO, 0, 0, 0) != 0)
        return refuse(&why, "cannot close the memory to others: %s", strerror(errno));
    return 0;
}
