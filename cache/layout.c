/* SPDX-License-Identifier: ISC */
#include "cache/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/json.h"
#include "cache/manifest.h"
#include "cache/tag.h"
#include "cache/tempfile.h"

struct index_writer {
    struct db_txn *txn;
    FILE *file;
    unsigned count;
};

/* The media type is a peer's text and is quoted; digest, name and tag are valid by
 * grammars without a character that JSON escapes. */
static int write_tag(void *arg, const struct name *n, const char *tag, const struct tag_record *r)
{
    struct index_writer *w = arg;
    struct manifest_record manifest;
    char digest[DIGEST_TEXT_MAX];
    char name[NAME_MAX_SIZE];
    int err = manifest_get_in(w->txn, n, &r->digest, &manifest);

    if (err == ERR_NOT_FOUND || err == ERR_DAMAGED)
        return 0;
    if (err != 0)
        return err;
    char *media_type = json_quote(manifest.media_type);

    if (media_type == NULL)
        return 0;
    name_text(n, name);
    fprintf(w->file,
            "%s{\"mediaType\":%s,\"digest\":\"%s\",\"size\":%" PRIu64 ",\"annotations\":"
            "{\"org.opencontainers.image.ref.name\":\"%s:%s\","
            "\"io.containerd.image.name\":\"%s:%s\"}}",
            w->count > 0 ? ",\n" : "\n", media_type, digest_text(&r->digest, digest),
            manifest.size_bytes, name, tag, name, tag);
    free(media_type);
    w->count++;
    return 0;
}

static int write_index(FILE *file, struct db_txn *txn)
{
    struct index_writer w = {.txn = txn, .file = file};

    fputs("{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","
          "\"manifests\":[",
          file);
    int err = tag_walk(txn, write_tag, &w);

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
