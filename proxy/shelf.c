/* SPDX-License-Identifier: ISC */
#include "proxy/shelf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

/* A digest is uniform: its first bytes are as good a hash as any. */
#define HASH_FUNCTION(key, len, out)                                                               \
    do {                                                                                           \
        uint32_t first;                                                                            \
                                                                                                   \
        memcpy(&first, ((const struct digest *)(const void *)(key))->bytes, sizeof first);         \
        (out) = first;                                                                             \
    } while (0)
#include <uthash.h>

#include "cache/blob.h"
#include "cache/err.h"

#define SHELF_BODIES_MAX_BYTES (16u * 1024 * 1024)

/* On the shelf from its making until it is dropped; dropped ones live on while
 * they are held. */
struct copy {
    struct held held; /* first: shelf_return finds the copy from it */
    unsigned takers;
    bool is_on_shelf;
    UT_hash_handle hh;
    TAILQ_ENTRY(copy) link; /* most recently taken first */
};

struct shelf {
    struct store *store;
    unsigned files_max;
    unsigned files;
    uint64_t body_bytes;
    struct copy *copies;
    TAILQ_HEAD(copy_list, copy) recent;
};

struct shelf *shelf_new(struct store *s, unsigned files)
{
    struct shelf *sh = mem_new(sizeof *sh);

    sh->store = s;
    sh->files_max = files;
    TAILQ_INIT(&sh->recent);
    return sh;
}

static void copy_free(struct copy *c)
{
    if (c->held.fd >= 0)
        close(c->held.fd);
    free((void *)c->held.body);
    free(c);
}

static void shelf_drop(struct shelf *sh, struct copy *c)
{
    /* The analyzer knows neither that `c` is in the table nor what TAILQ_REMOVE does. */
    HASH_DEL(sh->copies, c); /* NOLINT(clang-analyzer-core.NullDereference) */
    TAILQ_REMOVE(&sh->recent, c, link);
    c->is_on_shelf = false;
    if (c->held.fd >= 0)
        sh->files--;
    else
        sh->body_bytes -= c->held.size_bytes;
    if (c->takers == 0)
        copy_free(c);
}

void shelf_free(struct shelf **shp)
{
    struct shelf *sh = *shp;
    struct copy *c;

    if (!sh)
        return;
    *shp = NULL;
    while ((c = TAILQ_FIRST(&sh->recent))) {
        CHECK(c->takers == 0);
        shelf_drop(sh, c);
    }
    free(sh);
}

static void make_room(struct shelf *sh)
{
    while (sh->files > sh->files_max || sh->body_bytes > SHELF_BODIES_MAX_BYTES)
        shelf_drop(sh, TAILQ_LAST(&sh->recent, copy_list)); /* NOLINT(clang-analyzer-unix.Malloc) */
}

static int read_whole(int fd, void *out, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)out + done, len - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_from_errno(errno) : ERR_MISMATCH;
        done += (size_t)n;
    }
    return 0;
}

/* Read the body, check it against the digest, close the file. */
static int copy_read(struct copy *c)
{
    size_t len = (size_t)c->held.size_bytes;
    void *body = mem_new(len + 1);
    struct digest found;
    int err = read_whole(c->held.fd, body, len);

    if (err == 0) {
        digest_of(c->held.digest.alg, body, len, &found);
        if (!digest_equal(&found, &c->held.digest))
            err = ERR_MISMATCH;
    }
    c->held.body = body;
    close(c->held.fd);
    c->held.fd = -1;
    return err;
}

static int copy_new(struct shelf *sh, const struct digest *d, uint64_t size_bytes, bool in_memory,
                    struct copy **out)
{
    struct copy *c;
    int fd;
    int err = blob_open(sh->store, d, size_bytes, &fd);

    if (err)
        return err;
    c = mem_new(sizeof *c);
    c->held.digest = *d;
    c->held.fd = fd;
    c->held.size_bytes = size_bytes;
    c->held.etag[0] = '"';
    digest_text(d, c->held.etag + 1);
    strcat(c->held.etag, "\"");
    if (in_memory && size_bytes <= SHELF_BODY_MAX)
        err = copy_read(c);
    if (err) {
        copy_free(c);
        return err;
    }
    *out = c;
    return 0;
}

/* A body in memory cannot change; a file can be cut or unlinked by others, or go into
 * quarantine (quarantine.h), where it has no read permission. */
static bool copy_is_sound(const struct copy *c, uint64_t size_bytes)
{
    struct stat st;

    if (c->held.size_bytes != size_bytes)
        return false;
    if (c->held.fd < 0)
        return true;
    return fstat(c->held.fd, &st) == 0 && st.st_nlink > 0 && (st.st_mode & S_IRUSR) != 0 &&
           (uint64_t)st.st_size == size_bytes;
}

static void shelf_lend(struct shelf *sh, struct copy *c)
{
    if (c != TAILQ_FIRST(&sh->recent)) {
        TAILQ_REMOVE(&sh->recent, c, link);
        TAILQ_INSERT_HEAD(&sh->recent, c, link);
    }
    c->takers++;
}

const struct held *shelf_take_body(struct shelf *sh, const struct digest *d)
{
    struct copy *c;

    HASH_FIND(hh, sh->copies, d, sizeof *d, c);
    if (!c || !c->held.body)
        return NULL;
    shelf_lend(sh, c);
    return &c->held;
}

static void shelf_add(struct shelf *sh, struct copy *c)
{
    HASH_ADD(hh, sh->copies, held.digest, sizeof c->held.digest, c);
    TAILQ_INSERT_HEAD(&sh->recent, c, link);
    c->is_on_shelf = true;
    if (c->held.fd >= 0)
        sh->files++;
    else
        sh->body_bytes += c->held.size_bytes;
}

int shelf_take(struct shelf *sh, const struct digest *d, const struct blob_record *record,
               bool in_memory, const struct held **held)
{
    struct copy *c;

    HASH_FIND(hh, sh->copies, d, sizeof *d, c);
    if (c && !copy_is_sound(c, record->size_bytes)) {
        shelf_drop(sh, c);
        c = NULL;
    }
    if (!c) {
        int err = copy_new(sh, d, record->size_bytes, in_memory, &c);

        if (err)
            return err;
        shelf_add(sh, c);
    }
    c->held.origin = record->origin;
    c->held.used_at_s = record->used_at_s;
    shelf_lend(sh, c);
    make_room(sh);
    *held = &c->held;
    return 0;
}

void shelf_forget(struct shelf *sh, const struct digest *d)
{
    struct copy *c;

    HASH_FIND(hh, sh->copies, d, sizeof *d, c);
    if (c)
        shelf_drop(sh, c);
}

void shelf_used(const struct held *held, const struct in6_addr *client, int64_t used_at_s)
{
    struct copy *c = (struct copy *)held;

    c->held.used_by = *client;
    c->held.used_at_s = used_at_s;
}

void shelf_return(const struct held **held)
{
    struct copy *c = (struct copy *)*held;

    if (!c)
        return;
    *held = NULL;
    CHECK(c->takers > 0);
    c->takers--;
    if (c->takers == 0 && !c->is_on_shelf)
        copy_free(c);
}
