/* SPDX-License-Identifier: ISC */
#include "proxy/password.h"

#include <crypt.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "cache/err.h"
#include "proxy/guarded.h"

/* "$2y$10$", 22 characters of salt, 31 of hash. */
#define BCRYPT_LEN 60
#define BCRYPT_SALT_AT 7
#define FILE_MAX (4L * 1024 * 1024)

struct user {
    char name[PASSWORD_USER_SIZE];
    char hash[PASSWORD_HASH_SIZE];
    unsigned line;
};

struct passwords {
    unsigned count;     /* at least one */
    struct user *users; /* by name */
};

void passwords_free(struct passwords **pp)
{
    struct passwords *p = *pp;

    if (p == NULL)
        return;
    *pp = NULL;
    if (p->users != NULL)
        explicit_bzero(p->users, p->count * sizeof p->users[0]);
    free(p->users);
    free(p);
}

/* --- lines --- */

/* What a hash is when it is not bcrypt's, crypt(5) and htpasswd(1). */
static const char *kind_of(const char *hash)
{
    static const struct {
        const char *prefix, *kind;
    } kinds[] = {
        {"$apr1$", "MD5 as Apache has it"},
        {"{SHA}", "SHA-1"},
        {"$1$", "MD5"},
        {"$5$", "SHA-256"},
        {"$6$", "SHA-512"},
        {"$y$", "yescrypt"},
        {"$gy$", "gost-yescrypt"},
        {"$7$", "scrypt"},
        {"$argon2", "argon2"},
        {"$2x$", "a bcrypt with a defect"},
        {"$2", "a broken bcrypt"},
    };

    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strncmp(hash, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
            return kinds[i].kind;
    }
    return strlen(hash) == 13 ? "DES, or no hash at all" : "no hash that is known";
}

static unsigned cost_of(const char *hash)
{
    return (unsigned)(hash[4] - '0') * 10 + (unsigned)(hash[5] - '0');
}

static bool is_bcrypt(const char *hash)
{
    static const char digits[] = "0123456789";
    static const char radix64[] =
        "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    return strlen(hash) == BCRYPT_LEN && strncmp(hash, "$2", 2) == 0 &&
           strchr("aby", hash[2]) != NULL && hash[3] == '$' && strspn(hash + 4, digits) == 2 &&
           hash[6] == '$' && strspn(hash + BCRYPT_SALT_AT, radix64) == BCRYPT_LEN - BCRYPT_SALT_AT;
}

/* A line, cut at its colon, becomes a user; `why` has no room for the hash. */
static int take_user(struct user *u, const char *name, const char *hash, char *why, size_t why_size)
{
    if (name[0] == '\0' || strlen(name) >= sizeof u->name) {
        snprintf(why, why_size, "the name is empty, or longer than %d bytes",
                 PASSWORD_USER_SIZE - 1);
        return ERR_INVALID;
    }
    if (!is_bcrypt(hash)) {
        snprintf(why, why_size, "the hash is %s; only bcrypt is taken, as of htpasswd -B",
                 kind_of(hash));
        return ERR_INVALID;
    }
    unsigned cost = cost_of(hash);
    if (cost < 4 || cost > PASSWORD_COST_MAX) {
        snprintf(why, why_size, "the cost of the hash is %u; 4 to %d are taken (htpasswd -C)", cost,
                 PASSWORD_COST_MAX);
        return ERR_INVALID;
    }
    memcpy(u->name, name, strlen(name) + 1);
    memcpy(u->hash, hash, strlen(hash) + 1);
    return 0;
}

/* One line; empty ones and comments are passed over. */
static int take_line(struct passwords *p, char *line, size_t len, unsigned number, char *why,
                     size_t why_size)
{
    while (len > 0 && strchr("\r\n \t", line[len - 1]) != NULL && line[len - 1] != '\0')
        line[--len] = '\0';
    if (len == 0 || line[0] == '#')
        return 0;
    char *colon = strchr(line, ':');
    if (strlen(line) != len || colon == NULL) {
        snprintf(why, why_size, "it is not NAME:HASH");
        return ERR_INVALID;
    }
    if (p->count == PASSWORD_USERS_MAX) {
        snprintf(why, why_size, "there are more than %d users", PASSWORD_USERS_MAX);
        return ERR_TOO_LARGE;
    }
    *colon = '\0';
    struct user *u = &p->users[p->count];
    int err = take_user(u, line, colon + 1, why, why_size);
    if (err != 0)
        return err;
    u->line = number;
    p->count++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct user *)a)->name, ((const struct user *)b)->name);
}

/* In order, each once. */
static int put_in_order(struct passwords *p, const char *path, char *why, size_t why_size)
{
    if (p->count == 0) {
        snprintf(why, why_size, "%s has no users", path);
        return ERR_INVALID;
    }
    qsort(p->users, p->count, sizeof p->users[0], by_name);
    for (unsigned i = 1; i < p->count; i++) {
        if (strcmp(p->users[i - 1].name, p->users[i].name) != 0)
            continue;
        unsigned a = p->users[i - 1].line, b = p->users[i].line;
        snprintf(why, why_size, "%s:%u: the name is that of line %u too", path, a > b ? a : b,
                 a > b ? b : a);
        return ERR_INVALID;
    }
    return 0;
}

static int read_lines(struct passwords *p, FILE *in, const char *path, char *why, size_t why_size)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    char fault[128];
    int err = 0;

    for (unsigned number = 1; err == 0 && (len = getline(&line, &size, in)) >= 0; number++) {
        err = take_line(p, line, (size_t)len, number, fault, sizeof fault);
        if (err != 0)
            snprintf(why, why_size, "%s:%u: %s", path, number, fault);
    }
    if (err == 0 && ferror(in)) {
        snprintf(why, why_size, "%s cannot be read: %s", path, strerror(errno));
        err = ERR_IO;
    }
    if (line != NULL)
        explicit_bzero(line, size);
    free(line);
    return err == 0 ? put_in_order(p, path, why, why_size) : err;
}

int passwords_read(struct passwords **p, const char *path, char *why, size_t why_size)
{
    int fd;
    int err = guarded_open(path, GUARD_SECRET, &fd, why, why_size);

    if (err != 0)
        return err;
    if (lseek(fd, 0, SEEK_END) > FILE_MAX || lseek(fd, 0, SEEK_SET) != 0) {
        snprintf(why, why_size, "%s is larger than %ld bytes", path, FILE_MAX);
        close(fd);
        return ERR_TOO_LARGE;
    }
    FILE *in = fdopen(fd, "r");
    CHECK(in != NULL);
    struct passwords *read = mem_new(sizeof *read);
    read->users = mem_new(PASSWORD_USERS_MAX * sizeof read->users[0]);
    err = read_lines(read, in, path, why, why_size);
    fclose(in);
    if (err != 0)
        passwords_free(&read);
    else
        *p = read;
    return err;
}

/* --- checks --- */

const char *passwords_find(const struct passwords *p, const char *user, bool *is_user)
{
    unsigned low = 0, high = p->count;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (strcmp(p->users[middle].name, user) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *is_user = low < p->count && strcmp(p->users[low].name, user) == 0;
    /* The next one in order stands in: of a file with several costs, strangers then show as
     * many of each as users do. */
    return p->users[low < p->count ? low : 0].hash;
}

/* In a time that does not tell where they differ. */
static bool is_same(const char *a, const char *b, size_t len)
{
    unsigned char differs = 0;

    for (size_t i = 0; i < len; i++)
        differs |= (unsigned char)(a[i] ^ b[i]);
    return differs == 0;
}

bool password_matches(const char *hash, const char *password)
{
    struct crypt_data *data = mem_new(sizeof *data);
    const char *made = crypt_r(password, hash, data);
    bool matches = made != NULL && strlen(made) == BCRYPT_LEN && is_same(made, hash, BCRYPT_LEN);

    explicit_bzero(data, sizeof *data);
    free(data);
    return matches;
}
