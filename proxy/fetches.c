/* SPDX-License-Identifier: ISC */
#include "proxy/fetches.h"

#include <inttypes.h>
#include <stdio.h>

#include "cache/check.h"

struct listing {
    FILE *out;
    int64_t now_ms;
    unsigned count;
};

static const char *state_name(enum fetch_state state)
{
    switch (state) {
    case FETCH_ASKING:
        return "asking";
    case FETCH_STREAMING:
        return "streaming";
    case FETCH_VERIFIED:
        return "verified";
    case FETCH_FAILED:
        return "failed";
    }
    return "";
}

/* Digests and names are valid by grammars without a character that JSON escapes. */
static void list_fetch(void *arg, const struct fetch_progress *p)
{
    struct listing *l = arg;
    char digest[DIGEST_TEXT_MAX], name[NAME_MAX_SIZE];

    name_text(&p->name, name);
    fprintf(l->out, "%s\n{\"digest\":\"%s\",\"name\":\"%s\",\"state\":\"%s\",\"size_bytes\":",
            l->count++ > 0 ? "," : "", digest_text(&p->digest, digest), name, state_name(p->state));
    if (p->state == FETCH_STREAMING || p->state == FETCH_VERIFIED)
        fprintf(l->out, "%" PRIu64, p->size_bytes);
    else
        fputs("null", l->out);
    fprintf(l->out,
            ",\"done_bytes\":%" PRIu64 ",\"kept_bytes\":%" PRIu64 ",\"elapsed_ms\":%" PRId64 "}",
            p->avail_bytes, p->kept_bytes, l->now_ms - p->started_ms);
}

char *fetches_format(struct fetch_table *t, int64_t now_ms, size_t *len)
{
    char *text = NULL;
    struct listing l = {.out = open_memstream(&text, len), .now_ms = now_ms};

    CHECK(l.out != NULL);
    fputs("{\"fetches\":[", l.out);
    fetch_table_walk(t, list_fetch, &l);
    fputs("]}\n", l.out);
    CHECK(fclose(l.out) == 0);
    return text;
}
