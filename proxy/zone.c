/* SPDX-License-Identifier: ISC */
#include "proxy/zone.h"

#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "proxy/zone_private.h"

#define HEADER_SIZE 44
#define TYPE_SIZE 6
/* RFC 9636 section 3.2: "between -25 and 26 hours". */
#define OFFSET_MIN (-89999)
#define OFFSET_MAX 93599

struct change {
    int64_t at_s;
    int32_t offset_s; /* from then on */
};

struct zone {
    int32_t first_s; /* offset before the first change */
    struct change *changes;
    size_t change_count;
    bool has_rule; /* for what is after the last */
    struct zone_rule rule;
};

/* --- the file --- */

struct input {
    const uint8_t *at, *end;
};

/* The counts of a header, RFC 9636 section 3.1. */
struct counts {
    uint8_t version;
    uint32_t ut, standard, leap, time, type, character;
};

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t get_time(const uint8_t *p, size_t size)
{
    if (size == 4)
        return (int32_t)get_u32(p);
    return (int64_t)((uint64_t)get_u32(p) << 32 | get_u32(p + 4));
}

/* The next bytes, NULL when there are not so many. */
static const uint8_t *take(struct input *in, size_t len)
{
    const uint8_t *p = in->at;

    if ((size_t)(in->end - in->at) < len)
        return NULL;
    in->at += len;
    return p;
}

static int take_counts(struct input *in, struct counts *c)
{
    const uint8_t *p = take(in, HEADER_SIZE);

    if (!p || memcmp(p, "TZif", 4) != 0)
        return ERR_INVALID;
    *c = (struct counts){
        .version = p[4],
        .ut = get_u32(p + 20),
        .standard = get_u32(p + 24),
        .leap = get_u32(p + 28),
        .time = get_u32(p + 32),
        .type = get_u32(p + 36),
        .character = get_u32(p + 40),
    };
    bool good = c->type > 0 && c->type <= 256 && c->leap == 0 && c->time <= ZONE_FILE_MAX &&
                c->character <= ZONE_FILE_MAX && c->standard <= c->type && c->ut <= c->type;
    return good ? 0 : ERR_INVALID;
}

/* The rest of a block says what local times are called, and how they were set. */
static bool skip_rest(struct input *in, const struct counts *c)
{
    return take(in, (size_t)c->character + c->standard + c->ut) != NULL;
}

static int read_offset(const uint8_t *types, uint32_t i, int32_t *offset_s)
{
    *offset_s = (int32_t)get_u32(types + (size_t)i * TYPE_SIZE);
    return *offset_s >= OFFSET_MIN && *offset_s <= OFFSET_MAX ? 0 : ERR_INVALID;
}

static int take_block(struct zone *z, struct input *in, const struct counts *c, size_t time_size)
{
    const uint8_t *times = take(in, c->time * time_size);
    const uint8_t *which = times ? take(in, c->time) : NULL;
    const uint8_t *types = which ? take(in, (size_t)c->type * TYPE_SIZE) : NULL;

    if (!types || !skip_rest(in, c))
        return ERR_INVALID;
    int err = read_offset(types, 0, &z->first_s);

    z->changes = c->time > 0 ? mem_new(c->time * sizeof z->changes[0]) : NULL;
    z->change_count = c->time;
    for (uint32_t i = 0; err == 0 && i < c->time; i++) {
        struct change *change = &z->changes[i];

        change->at_s = get_time(times + i * time_size, time_size);
        bool good = which[i] < c->type && (i == 0 || change->at_s > change[-1].at_s);
        err = good ? read_offset(types, which[i], &change->offset_s) : ERR_INVALID;
    }
    return err;
}

/* A line with the rule, or an empty one. */
static int take_footer(struct zone *z, struct input *in)
{
    size_t left = (size_t)(in->end - in->at);
    const uint8_t *line = take(in, 1);
    const uint8_t *end = line && *line == '\n' ? memchr(line + 1, '\n', left - 1) : NULL;

    if (!end)
        return ERR_INVALID;
    z->has_rule = end > line + 1;
    return z->has_rule ? rule_parse(&z->rule, (const char *)line + 1, (size_t)(end - line - 1)) : 0;
}

static int read_file(struct zone *z, struct input *in)
{
    struct counts c;
    int err = take_counts(in, &c);

    if (err != 0 || c.version == 0)
        return err != 0 ? err : take_block(z, in, &c, 4);
    /* The first block is for those who know that version alone. */
    if (!take(in, (size_t)c.time * (4 + 1) + (size_t)c.type * TYPE_SIZE) || !skip_rest(in, &c))
        return ERR_INVALID;
    err = take_counts(in, &c);
    if (err == 0)
        err = take_block(z, in, &c, 8);
    return err == 0 ? take_footer(z, in) : err;
}

int zone_read(struct zone **zp, const void *data, size_t len)
{
    struct input in = {data, (const uint8_t *)data + len};
    struct zone *z = mem_new(sizeof *z);
    int err = len <= ZONE_FILE_MAX ? read_file(z, &in) : ERR_INVALID;

    if (err != 0)
        zone_free(&z);
    *zp = z;
    return err;
}

int zone_read_rule(struct zone **zp, const char *text)
{
    struct zone *z = mem_new(sizeof *z);
    int err = rule_parse(&z->rule, text, strlen(text));

    z->has_rule = true;
    if (err != 0)
        zone_free(&z);
    *zp = z;
    return err;
}

void zone_free(struct zone **zp)
{
    struct zone *z = *zp;

    *zp = NULL;
    if (!z)
        return;
    free(z->changes);
    free(z);
}

/* --- moments --- */

int64_t zone_offset_s(const struct zone *z, int64_t at_s)
{
    size_t low = 0, high = z->change_count;

    if (z->has_rule && (high == 0 || at_s >= z->changes[high - 1].at_s))
        return rule_offset_s(&z->rule, at_s);
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (z->changes[middle].at_s <= at_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? z->changes[low - 1].offset_s : z->first_s;
}

int64_t zone_moment_s(const struct zone *z, int64_t local_s)
{
    /* Offsets of the day before and of the day after: clocks change once between. */
    int64_t before_s = zone_offset_s(z, local_s - ZONE_DAY_S);
    int64_t after_s = zone_offset_s(z, local_s + ZONE_DAY_S);

    /* The larger offset gives the earlier moment. */
    int64_t early_s = local_s - (before_s > after_s ? before_s : after_s);
    int64_t late_s = local_s - (before_s > after_s ? after_s : before_s);

    if (early_s + zone_offset_s(z, early_s) == local_s)
        return early_s;
    if (late_s + zone_offset_s(z, late_s) == local_s)
        return late_s;
    return local_s - before_s;
}
