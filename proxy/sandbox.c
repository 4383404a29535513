/* SPDX-License-Identifier: ISC */
/*
 * Rules are of directories: a file that is replaced, as resolv.conf is, is another one, of
 * which a rule of the first says nothing.
 */
#include "proxy/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cache/err.h"

/* What the headers of Debian 12 do not have. */
#define ACCESS_TRUNCATE (UINT64_C(1) << 14)
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15)
#define SCOPE_SIGNAL (UINT64_C(1) << 1)

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define EXECUTE LANDLOCK_ACCESS_FS_EXECUTE
#define WRITE                                                                                      \
    (READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                        \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |  \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER | ACCESS_TRUNCATE)
#define LOG (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG)
#define SOCKET (LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)
/* Those that can be had of what is no directory. */
#define OF_FILES                                                                                   \
    (EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE |    \
     ACCESS_IOCTL_DEV)
/* Everything that an ABI can forbid, bit by bit since the first. */
#define HANDLED_1 ((UINT64_C(1) << 13) - 1)

/* The second can allow a file to be moved to another directory; the first forbids it. */
#define ABI_MIN 2
#define ABI_TRUNCATE 3
#define ABI_IOCTL_DEV 5
#define ABI_SCOPE 6

/* struct landlock_ruleset_attr of ABI 6; a kernel minds only what it does not know and is
 * not zero. */
struct ruleset {
    uint64_t handled_fs;
    uint64_t handled_net;
    uint64_t scoped;
};

struct rules {
    const struct config *config;
    int fd;
    int error; /* errno of the first that was refused */
    uint64_t handled;
};

static const char *const system_paths[] = {
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/proc/self", /* our own alone; the sanitizers' */
    "/sys/devices/system/cpu",
};

/* What is not there needs no rule. */
static void allow(struct rules *r, const char *path, uint64_t rights)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = rights & r->handled};
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) != 0) {
        if (fd >= 0)
            close(fd);
        return;
    }
    if (!S_ISDIR(st.st_mode))
        rule.allowed_access &= OF_FILES;
    rule.parent_fd = fd;
    if (syscall(SYS_landlock_add_rule, r->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0 &&
        r->error == 0)
        r->error = errno;
    close(fd);
}

static void allow_folder_of(struct rules *r, const char *path, uint64_t rights)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? mem_format(".")
                                 : mem_copy(path, slash == path ? 1 : (size_t)(slash - path));

    allow(r, folder, rights);
    free(folder);
}

/* Files to read are named; of what is ours it is not the folder around it that matters. */
static void allow_named(void *arg, const char *path)
{
    struct rules *r = arg;
    const struct config *c = r->config;

    if (path != c->path && path != c->ca_path && path != c->log_file)
        allow_folder_of(r, path, READ);
}

static void allow_target(struct rules *r, const char *path)
{
    char target[PATH_MAX];

    if (realpath(path, target) != NULL)
        allow_folder_of(r, target, READ);
}

static bool has_helper(const struct config *c)
{
    for (unsigned i = 0; i < c->upstream_count; i++)
        if (c->upstreams[i].credential_helper != NULL)
            return true;
    return false;
}

static void allow_sockets(struct rules *r, const struct config *c)
{
    static const char prefix[] = "unix:";

    if (c->admin_socket != NULL)
        allow_folder_of(r, c->admin_socket, SOCKET);
    for (unsigned i = 0; i < c->listener_count; i++) {
        const struct config_listener *l = &c->listeners[i];
        for (unsigned a = 0; a < l->address_count; a++)
            if (strncmp(l->addresses[a], prefix, strlen(prefix)) == 0)
                allow_folder_of(r, l->addresses[a] + strlen(prefix), SOCKET);
    }
}

static void allow_all(struct rules *r, const struct config *c, const char *config_path)
{
    const char *home = getenv("HOME");

    for (size_t i = 0; i < sizeof system_paths / sizeof system_paths[0]; i++)
        allow(r, system_paths[i], READ);
    allow_target(r, "/etc/resolv.conf");
    allow_target(r, "/etc/localtime");
    allow(r, "/dev/urandom", READ);
    allow(r, "/dev/null", READ | LANDLOCK_ACCESS_FS_WRITE_FILE);
    if (config_path != NULL)
        allow_folder_of(r, config_path, READ);
    config_each_path(c, allow_named, r);
    if (has_helper(c)) {
        allow(r, "/", READ | EXECUTE);
        allow(r, "/tmp", WRITE);
        if (home != NULL && strcmp(home, "/") != 0)
            allow(r, home, WRITE);
    }
    allow(r, c->path, WRITE);
    allow(r, c->ca_path, WRITE);
    if (c->log_file != NULL)
        allow_folder_of(r, c->log_file, LOG);
    allow_sockets(r, c);
}

/* The ABI of the kernel's Landlock, 0 when there is none. */
static long version(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    return abi < 0 ? 0 : abi;
}

int sandbox_enter(const struct config *c, const char *config_path)
{
    long abi = version();
    struct ruleset set = {
        .handled_fs = HANDLED_1 | LANDLOCK_ACCESS_FS_REFER |
                      (abi >= ABI_TRUNCATE ? ACCESS_TRUNCATE : 0) |
                      (abi >= ABI_IOCTL_DEV ? ACCESS_IOCTL_DEV : 0),
        .scoped = abi >= ABI_SCOPE ? SCOPE_SIGNAL : 0,
    };
    struct rules r = {.config = c, .handled = set.handled_fs};

    if (abi < ABI_MIN)
        return ERR_NOT_FOUND;
    r.fd = (int)syscall(SYS_landlock_create_ruleset, &set, sizeof set, 0);
    if (r.fd < 0)
        return err_from_errno(errno);
    allow_all(&r, c, config_path);
    if (r.error == 0 && syscall(SYS_landlock_restrict_self, r.fd, 0) != 0)
        r.error = errno;
    close(r.fd);
    return r.error == 0 ? 0 : err_from_errno(r.error);
}

bool sandbox_is_outgrown(const struct config *entered, const struct config *now)
{
    return has_helper(now) && !has_helper(entered);
}
