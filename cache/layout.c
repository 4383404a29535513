/* SPDX-License-Identifier: ISC */
#include "cache/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/digest_map.h"
#include "cache/err.h"
#include "cache/json.h"
#include "cache/json_list.h"
#include "cache/link.h"
#include "cache/pin.h"
#include "cache/reference.h"
#include "cache/repository.h"
#include "cache/tag.h"
#include "cache/tempfile.h"

struct index_writer {
    struct db_txn *txn;
    FILE *file;
    unsigned count;
    struct digest_map *tagged; /* in the repository at hand */
};

/* The media type is a peer's text and is quoted; digest and name are valid by grammars
 * without a character that JSON escapes. Nothing is written of what is not held. */
static int begin_entry(struct index_writer *w, const struct name *n, const struct digest *d,
                       bool *begun)
{
    struct manifest_record manifest;
    char digest[DIGEST_TEXT_MAX];
    int err = manifest_get_in(w->txn, n, d, &manifest);

    *begun = false;
    if (err == ERR_NOT_FOUND || err == ERR_DAMAGED)
        return 0;
    if (err != 0)
        return err;
    char *media_type = json_quote(manifest.media_type);

    if (media_type == NULL)
        return 0;
    fprintf(w->file, "%s{\"mediaType\":%s,\"digest\":\"%s\",\"size\":%" PRIu64 ",\"annotations\":{",
            w->count > 0 ? ",\n" : "\n", media_type, digest_text(d, digest), manifest.size_bytes);
    free(media_type);
    w->count++;
    *begun = true;
    return 0;
}

static void write_pin(struct index_writer *w, const struct name *n, const char *tag)
{
    struct reference r = {.name = *n};
    struct pin pin;

    memcpy(r.tag, tag, strlen(tag) + 1);
    char *owner = pin_get(w->txn, &r, &pin) == 0 ? json_quote(pin.owner) : NULL;

    if (owner != NULL)
        fprintf(w->file, ",\"" LAYOUT_PINNED "\":%s", owner);
    free(owner);
}

static int write_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct index_writer *w = arg;
    char name[NAME_MAX_SIZE];
    bool begun;
    int err = begin_entry(w, n, &r->digest, &begun);

    if (err != 0 || !begun)
        return err;
    name_text(n, name);
    fprintf(w->file,
            "\"org.opencontainers.image.ref.name\":\"%s:%s\","
            "\"io.containerd.image.name\":\"%s:%s\"",
            name, tag, name, tag);
    write_pin(w, n, tag);
    fputs("}}", w->file);
    return 0;
}

/* --- manifests of local repositories that have no tag --- */

static int keep_tagged(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    size_t number;

    (void)n, (void)tag;
    digest_map_add(arg, &r->digest, &number);
    return 0;
}

struct repository_writer {
    struct index_writer *w;
    const struct name *name;
};

static int write_untagged(void *arg, const struct digest *d, int64_t seen_at_s)
{
    const struct repository_writer *r = arg;
    char name[NAME_MAX_SIZE];
    bool begun;

    (void)seen_at_s;
    if (digest_map_find(r->w->tagged, d, NULL))
        return 0;
    int err = begin_entry(r->w, r->name, d, &begun);

    if (err != 0 || !begun)
        return err;
    name_text(r->name, name);
    fprintf(r->w->file, "\"" LAYOUT_REPOSITORY "\":\"%s\"}}", name);
    return 0;
}

static int write_repository(void *arg, const struct name *n)
{
    struct index_writer *w = arg;
    struct repository_writer r = {w, n};

    w->tagged = digest_map_new();
    int err = tag_walk_repository(w->txn, n, NULL, keep_tagged, w->tagged);

    if (err == 0)
        err = link_walk(w->txn, n, write_untagged, &r);
    digest_map_free(&w->tagged);
    return err;
}

static int write_index(FILE *file, struct db_txn *txn)
{
    struct index_writer w = {.txn = txn, .file = file};

    fputs("{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","
          "\"manifests\":[",
          file);
    int err = tag_walk(txn, write_tag, &w);

    if (err == 0)
        err = repository_walk_local(txn, NULL, write_repository, &w);
    fputs("\n]}\n", file);
    if (err == 0 && (fflush(file) != 0 || ferror(file)))
        err = err_from_errno(errno);
    return err;
}

int layout_write_index(struct store *s, struct db_txn *txn)
{
    struct tempfile t;
    int err = tempfile_open(&t, store_partial_fd(s));

    if (err != 0)
        return err;
    int fd = fcntl(t.fd, F_DUPFD_CLOEXEC, 0);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;

    if (file == NULL) {
        err = err_from_errno(errno);
        if (fd >= 0)
            close(fd);
        tempfile_discard(&t);
        return err;
    }
    err = write_index(file, txn);
    if (fclose(file) != 0 && err == 0)
        err = err_from_errno(errno);
    if (err != 0) {
        tempfile_discard(&t);
        return err;
    }
    return tempfile_publish(&t, store_root_fd(s), "index.json");
}

/* --- reading --- */

static bool read_tagged(const struct json_t *annotations, struct layout_entry *e)
{
    const char *name = json_member_text(annotations, "org.opencontainers.image.ref.name");
    const char *same = json_member_text(annotations, "io.containerd.image.name");
    struct reference r;

    /* Layouts of others have one of them, or other things in them. */
    if (name == NULL || same == NULL || strcmp(name, same) != 0 ||
        reference_parse(&r, name, NULL) != 0 || r.by_digest)
        return false;
    e->name = r.name;
    memcpy(e->tag, r.tag, sizeof e->tag);
    return true;
}

static bool read_untagged(const struct json_t *annotations, struct layout_entry *e)
{
    const char *name = json_member_text(annotations, LAYOUT_REPOSITORY);

    e->tag[0] = '\0';
    return name != NULL && name_set_local(&e->name, name, strlen(name)) == 0;
}

static bool read_entry(const struct json_t *json, struct layout_entry *e)
{
    const struct json_t *annotations = json_member_object(json, "annotations");
    const char *digest = json_member_text(json, "digest");
    const char *type = json_member_text(json, "mediaType");
    int64_t size_bytes;

    if (annotations == NULL || digest == NULL || type == NULL || strlen(type) >= MEDIA_TYPE_MAX ||
        digest_parse(&e->digest, digest, strlen(digest)) != 0 ||
        !json_member_number(json, "size", &size_bytes) || size_bytes < 0)
        return false;
    memcpy(e->media_type, type, strlen(type) + 1);
    e->size_bytes = (uint64_t)size_bytes;
    e->pinned_by = json_member_text(annotations, LAYOUT_PINNED);
    e->is_pinned = e->pinned_by != NULL;
    return read_tagged(annotations, e) || read_untagged(annotations, e);
}

/* An entry is a line, with a comma behind it unless it is the last. */
static int read_line(char *line, size_t len, layout_visit *visit, void *arg)
{
    struct layout_entry e;
    struct json_t *json;
    char why[256];
    int err = 0;

    while (len > 0 && strchr(",\r\n", line[len - 1]) != NULL)
        len--;
    if (len == 0 || json_parse(&json, line, len, why, sizeof why) != 0)
        return 0;
    if (read_entry(json, &e))
        err = visit(arg, &e);
    json_wipe(&json);
    return err;
}

int layout_read_index(struct store *s, int64_t *written_at_s, layout_visit *visit, void *arg)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    struct stat st;
    int err = 0;
    int fd = openat(store_root_fd(s), "index.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;

    if (file == NULL || fstat(fd, &st) != 0) {
        err = err_from_errno(errno);
        if (file != NULL)
            fclose(file);
        else if (fd >= 0)
            close(fd);
        return err;
    }
    *written_at_s = st.st_mtim.tv_sec;
    while (err == 0 && (len = getline(&line, &room, file)) >= 0)
        err = read_line(line, (size_t)len, visit, arg);
    if (err == 0 && ferror(file))
        err = ERR_IO;
    free(line);
    fclose(file);
    return err;
}
