/* SPDX-License-Identifier: ISC */
/* index.json: what is read from it are names, tags and digests that are valid, whatever it holds;
 * and it is read to its end. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/check.h"
#include "cache/layout.h"
#include "cache/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct store *open_store(void)
{
    static struct store *store;
    static char dir[] = "/tmp/cachalot-fuzz-XXXXXX";
    char why[512];

    if (store == NULL) {
        CHECK(mkdtemp(dir) != NULL);
        CHECK(store_open(&store, dir, STORE_OWN, 4u << 20, why, sizeof why) == 0);
    }
    return store;
}

static int visit(void *arg, const struct layout_entry *e)
{
    char text[NAME_MAX_SIZE];
    struct name again;

    CHECK(name_text(&e->name, text) > 0);
    CHECK(name_is_local(&e->name)
              ? name_set_local(&again, e->name.repository, strlen(e->name.repository)) == 0
              : name_set(&again, e->name.registry, strlen(e->name.registry), e->name.repository,
                         strlen(e->name.repository)) == 0);
    CHECK(name_equal(&again, &e->name));
    CHECK(e->tag[0] == '\0' ? name_is_local(&e->name) : name_is_tag(e->tag, strlen(e->tag)));
    CHECK(digest_size(&e->digest) >= 32 && e->size_bytes <= INT64_MAX);
    CHECK(strlen(e->media_type) < MEDIA_TYPE_MAX);
    CHECK(e->is_pinned == (e->pinned_by != NULL));
    ++*(unsigned *)arg;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store *s = open_store();
    unsigned count = 0;
    int64_t written_at_s;
    int fd = openat(store_root_fd(s), "index.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    CHECK(layout_read_index(s, &written_at_s, visit, &count) == 0);
    CHECK(count <= size);
    return 0;
}
