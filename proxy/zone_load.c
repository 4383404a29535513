/* SPDX-License-Identifier: ISC */
#include "proxy/zone_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"

#define ZONES "/usr/share/zoneinfo"
#define LOCAL "/etc/localtime"
#define UTC "UTC0"

bool zone_is_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "_+-";

    for (;;) {
        size_t len = strspn(name, allowed);

        if (len == 0 || (name[len] != '/' && name[len] != '\0'))
            return false;
        if (name[len] == '\0')
            return true;
        name += len + 1;
    }
}

/* The whole file; its length, or -1 with errno. */
static ssize_t read_whole(const char *path, uint8_t *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = -1;

    if (fd < 0)
        return -1;
    do {
        n = read(fd, buf + len, size - len);
        if (n > 0)
            len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    int errnum = errno;
    close(fd);
    errno = errnum;
    return n < 0 ? -1 : (ssize_t)len;
}

static int load_file(struct zone **z, const char *path, char *why, size_t why_size)
{
    uint8_t *buf = mem_new(ZONE_FILE_MAX + 1);
    ssize_t len = read_whole(path, buf, ZONE_FILE_MAX + 1);
    int err = len < 0 ? err_from_errno(errno) : zone_read(z, buf, (size_t)len);

    if (len < 0)
        snprintf(why, why_size, "%s: %s", path, strerror(errno));
    else if (err != 0)
        snprintf(why, why_size, "%s is no file of a time zone without leap seconds", path);
    free(buf);
    return err;
}

static int load_named(struct zone **z, const char *name, char *why, size_t why_size)
{
    char *path = mem_format("%s/%s", ZONES, name);
    int err = load_file(z, path, why, why_size);

    if (err == ERR_NOT_FOUND)
        snprintf(why, why_size, "there is no %s: is it spelled so, and is tzdata installed?", path);
    free(path);
    return err == 0 ? 0 : ERR_INVALID;
}

/* tzset(3): ":" and a name or a path, which may lack the colon, or a rule. */
static int load_as_tz_says(struct zone **z, const char *tz, char *why, size_t why_size)
{
    const char *name = *tz == ':' ? tz + 1 : tz;

    if (*name == '/')
        return load_file(z, name, why, why_size) == 0 ? 0 : ERR_INVALID;
    if (*tz != ':' && zone_read_rule(z, tz) == 0)
        return 0;
    if (zone_is_name(name))
        return load_named(z, name, why, why_size);
    snprintf(why, why_size, "TZ in the environment, \"%.80s\", is no time zone", tz);
    return ERR_INVALID;
}

int zone_load(struct zone **z, const char *name, char *why, size_t why_size)
{
    const char *tz = getenv("TZ");

    *z = NULL;
    if (name)
        return load_named(z, name, why, why_size);
    if (tz && *tz)
        return load_as_tz_says(z, tz, why, why_size);
    int err = load_file(z, LOCAL, why, why_size);

    if (err == ERR_NOT_FOUND)
        return zone_read_rule(z, UTC);
    return err == 0 ? 0 : ERR_INVALID;
}
