/* SPDX-License-Identifier: ISC */
#include "cache/tar_read.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/tar_format.h"

#define BUFFER_BYTES (1024u * 1024)
/* Of a pax or GNU header: attributes of files can be long, names not. */
#define EXTENSION_MAX (64u * 1024)
/* Tapes are written in records, filled up with zeros. */
#define TRAILER_MAX (16u * 1024 * 1024)

struct tar_reader {
    int fd;
    unsigned char *buf;
    size_t start, end; /* of what is in the buffer and not taken */
    uint64_t position;
    uint64_t left_bytes;    /* of the entry's content */
    uint64_t padding_bytes; /* after it */
    unsigned number;        /* of the entry, from 1 on */
    char name[TAR_NAME_MAX + 1];
    char why[TAR_NAME_MAX + 128];
};

/* What a pax or GNU header said of the entry that follows. */
struct extension {
    bool has_name;
    bool has_size;
    uint64_t size_bytes;
    char name[TAR_NAME_MAX + 1];
};

struct tar_reader *tar_reader_new(int fd)
{
    struct tar_reader *r = mem_new(sizeof *r);

    r->fd = fd;
    r->buf = mem_resize(NULL, BUFFER_BYTES);
    return r;
}

void tar_reader_free(struct tar_reader **r)
{
    if (*r == NULL)
        return;
    free((*r)->buf);
    free(*r);
    *r = NULL;
}

const char *tar_why(const struct tar_reader *r)
{
    return r->why;
}

uint64_t tar_position(const struct tar_reader *r)
{
    return r->position;
}

static int __attribute__((format(printf, 2, 3)))
refuse(struct tar_reader *r, const char *format, ...)
{
    va_list args;
    int len = snprintf(r->why, sizeof r->why, "entry %u%s%s%s ", r->number,
                       r->name[0] != '\0' ? " (" : "", r->name, r->name[0] != '\0' ? ")" : "");

    va_start(args, format);
    vsnprintf(r->why + len, sizeof r->why - (size_t)len, format, args);
    va_end(args);
    return ERR_INVALID;
}

/* --- bytes --- */

/* Read until there are `wanted` bytes in the buffer, or the end has come. */
static int fill(struct tar_reader *r, size_t wanted)
{
    if (r->start > 0 && r->end - r->start < wanted) {
        memmove(r->buf, r->buf + r->start, r->end - r->start);
        r->end -= r->start;
        r->start = 0;
    }
    while (r->end - r->start < wanted) {
        ssize_t n = read(r->fd, r->buf + r->end, BUFFER_BYTES - r->end);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            snprintf(r->why, sizeof r->why, "it cannot be read: %s", strerror(errno));
            return ERR_IO;
        }
        if (n == 0)
            break;
        r->end += (size_t)n;
        r->position += (uint64_t)n;
    }
    return 0;
}

/* The next bytes in place; they stay until the next call. */
static int take(struct tar_reader *r, size_t len, const void **data)
{
    int err = fill(r, len);

    if (err != 0)
        return err;
    if (r->end - r->start < len)
        return refuse(r, "is cut short: the archive ends in it");
    *data = r->buf + r->start;
    r->start += len;
    return 0;
}

static bool is_zero(const unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

static uint64_t padding_of(uint64_t size_bytes)
{
    return -size_bytes % TAR_BLOCK_BYTES;
}

/* --- fields --- */

/* Octal digits between blanks, with a blank or a NUL after them; or, with the first bit
 * set, GNU's big-endian number. */
static bool read_number(const char *field, size_t size, uint64_t *value)
{
    size_t i = 0;

    *value = 0;
    if ((field[0] & 0x80) != 0) {
        /* The second bit is the sign. */
        if ((unsigned char)field[0] != 0x80 || size <= 8 ||
            !is_zero((const unsigned char *)field + 1, size - 9))
            return false;
        for (i = size - 8; i < size; i++)
            *value = *value << 8 | (unsigned char)field[i];
        return *value <= INT64_MAX;
    }
    while (i < size && field[i] == ' ')
        i++;
    size_t digits = i;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        *value = *value << 3 | (uint64_t)(field[i] - '0');
    if (i == digits)
        return false;
    for (; i < size; i++)
        if (field[i] != ' ' && field[i] != '\0')
            return false;
    return true;
}

/* Some old programs summed up signed characters. */
static bool has_checksum(const struct tar_header *h)
{
    const signed char *bytes = (const signed char *)h;
    uint64_t said;
    int sum = 0;

    if (!read_number(h->checksum, sizeof h->checksum, &said))
        return false;
    if (said == tar_checksum(h))
        return true;
    for (size_t i = 0; i < sizeof *h; i++) {
        bool own = &bytes[i] >= (const signed char *)h->checksum &&
                   &bytes[i] < (const signed char *)h->checksum + sizeof h->checksum;
        sum += own ? ' ' : bytes[i];
    }
    return sum >= 0 && said == (uint64_t)sum;
}

/* --- names --- */

static bool is_printable(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text < ' ' || *text > '~')
            return false;
    return true;
}

/* Leave what of the name can be shown. */
static void show_name(struct tar_reader *r, const char *name)
{
    size_t len = strnlen(name, sizeof r->name - 1);

    memcpy(r->name, name, len);
    r->name[len] = '\0';
    for (char *c = r->name; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
}

static bool has_odd_component(const char *name)
{
    while (*name != '\0') {
        size_t len = strcspn(name, "/");

        if (len == 0 || (len == 1 && name[0] == '.') || (len == 2 && memcmp(name, "..", 2) == 0))
            return true;
        name += len;
        if (*name == '/')
            name++;
    }
    return false;
}

/* Bring the name into its one form, or refuse it. "./" alone becomes "". */
static int take_name(struct tar_reader *r, const char *name, bool is_dir, char *out)
{
    show_name(r, name);
    if (!is_printable(name) || *name == '\0')
        return refuse(r, "has a name that is empty or not ASCII");
    if (*name == '/' || strchr(name, '\\') != NULL)
        return refuse(r, "has a name that is absolute, or has backslashes");
    while (strncmp(name, "./", 2) == 0)
        name += 2;
    size_t len = strlen(name);
    if (is_dir && len > 0 && name[len - 1] == '/')
        len--;
    if (len > TAR_NAME_MAX)
        return refuse(r, "has a name of more than %d characters", TAR_NAME_MAX);
    memcpy(out, name, len);
    out[len] = '\0';
    if (len > 0 && (has_odd_component(out) || out[len - 1] == '/'))
        return refuse(r, "has a name with \"..\", \".\" or nothing between its slashes");
    if (len == 0 && !is_dir)
        return refuse(r, "has no name");
    return 0;
}

/* --- extensions --- */

static int take_pax_size(struct tar_reader *r, struct extension *x, const char *value, size_t len)
{
    uint64_t size = 0;

    if (len == 0 || len > 19)
        return refuse(r, "has a pax size that is no number");
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return refuse(r, "has a pax size that is no number");
        size = size * 10 + (uint64_t)(value[i] - '0');
    }
    if (size > INT64_MAX)
        return refuse(r, "has a pax size that is too large");
    x->has_size = true;
    x->size_bytes = size;
    return 0;
}

static int take_long_name(struct tar_reader *r, struct extension *x, const char *name, size_t len)
{
    if (x->has_name)
        return refuse(r, "is named twice before its header");
    if (len > TAR_NAME_MAX || memchr(name, '\0', len) != NULL)
        return refuse(r, "has a name of more than %d characters, or a NUL in it", TAR_NAME_MAX);
    memcpy(x->name, name, len);
    x->name[len] = '\0';
    x->has_name = true;
    show_name(r, x->name);
    return 0;
}

static bool is_key(const char *key, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(key, wanted, len) == 0;
}

/* What is said of owners, times and attributes does not matter here. */
static int take_pax_field(struct tar_reader *r, struct extension *x, bool is_global,
                          const char *field, size_t len)
{
    const char *equals = memchr(field, '=', len);

    if (equals == NULL)
        return refuse(r, "has a pax header without sense");
    size_t key_len = (size_t)(equals - field);
    const char *value = equals + 1;
    size_t value_len = len - key_len - 1;
    bool is_name = is_key(field, key_len, "path");
    bool is_size = is_key(field, key_len, "size");

    if ((is_name || is_size) && is_global)
        return refuse(r, "sets a name or a size for all entries");
    if (is_name)
        return take_long_name(r, x, value, value_len);
    if (is_size)
        return x->has_size ? refuse(r, "has two pax sizes") : take_pax_size(r, x, value, value_len);
    if (is_key(field, key_len, "linkpath"))
        return refuse(r, "is a link whose target a pax header sets");
    if (key_len >= 11 && memcmp(field, "GNU.sparse.", 11) == 0)
        return refuse(r, "is a sparse file");
    return 0;
}

/* "LENGTH KEY=VALUE\n", one after the other. */
static int take_pax(struct tar_reader *r, struct extension *x, bool is_global, const char *text,
                    size_t size)
{
    int err = 0;

    while (err == 0 && size > 0) {
        size_t len = 0;
        size_t i = 0;

        for (; i < size && i < 8 && text[i] >= '0' && text[i] <= '9'; i++)
            len = len * 10 + (size_t)(text[i] - '0');
        if (i == 0 || i >= size || text[i] != ' ' || len <= i + 1 || len > size ||
            text[len - 1] != '\n')
            return refuse(r, "has a pax header without sense");
        err = take_pax_field(r, x, is_global, text + i + 1, len - i - 2);
        text += len;
        size -= len;
    }
    return err;
}

static int take_extension(struct tar_reader *r, struct extension *x, char type, uint64_t size)
{
    const void *data = "";

    if (size > EXTENSION_MAX)
        return refuse(r, "has a header of more than %u KiB", EXTENSION_MAX / 1024);
    int err = take(r, (size_t)(size + padding_of(size)), &data);
    if (err != 0)
        return err;
    if (type != TAR_TYPE_LONG_NAME)
        return take_pax(r, x, type == TAR_TYPE_PAX_GLOBAL, data, (size_t)size);
    /* It counts the NUL. */
    size_t len = (size_t)size;
    return take_long_name(r, x, data, len - (len > 0 && ((const char *)data)[len - 1] == '\0'));
}

/* --- entries --- */

static const char *kind_text(char type)
{
    switch (type) {
    case '1':
        return "a hard link";
    case '3':
    case '4':
        return "a device";
    case '6':
        return "a fifo";
    case 'S':
        return "a sparse file";
    case 'K':
        return "a link with a long target";
    default:
        return "of a kind that image archives do not have";
    }
}

/* The name in the header itself. */
static void header_name(const struct tar_header *h, char out[TAR_NAME_MAX + 2])
{
    size_t prefix = strnlen(h->prefix, sizeof h->prefix);
    size_t name = strnlen(h->name, sizeof h->name);
    /* Before POSIX, and in GNU's own form, there is no prefix. */
    bool has_prefix = memcmp(h->magic, "ustar\0", 6) == 0 && prefix > 0;

    snprintf(out, TAR_NAME_MAX + 2, "%.*s%s%.*s", has_prefix ? (int)prefix : 0, h->prefix,
             has_prefix ? "/" : "", (int)name, h->name);
}

/* An extension may say only what the header cannot: a reader that does not know it must
 * not see another archive. */
static int check_extension(struct tar_reader *r, const struct extension *x, const char *own_name,
                           uint64_t own_size)
{
    if (x->has_name && strlen(x->name) <= TAR_SHORT_NAME_MAX && is_printable(x->name) &&
        strcmp(x->name, own_name) != 0)
        return refuse(r, "has another name in its header, \"%.40s\"",
                      is_printable(own_name) ? own_name : "?");
    if (x->has_size && x->size_bytes <= TAR_OCTAL_SIZE_MAX && x->size_bytes != own_size)
        return refuse(r, "has another size in its header");
    return 0;
}

static int take_entry(struct tar_reader *r, const struct tar_header *h, const struct extension *x,
                      uint64_t size, struct tar_entry *e)
{
    char own_name[TAR_NAME_MAX + 2];
    char link[sizeof h->link + 1] = "";

    header_name(h, own_name);
    if (!x->has_name)
        show_name(r, own_name);
    int err = check_extension(r, x, own_name, size);
    if (err == 0)
        err = take_name(r, x->has_name ? x->name : own_name, h->type == TAR_TYPE_DIR, e->name);
    if (err != 0)
        return err;
    switch (h->type) {
    case TAR_TYPE_FILE:
    case TAR_TYPE_FILE_OLD:
        e->kind = TAR_FILE;
        e->size_bytes = x->has_size ? x->size_bytes : size;
        r->left_bytes = e->size_bytes;
        r->padding_bytes = padding_of(e->size_bytes);
        return 0;
    case TAR_TYPE_DIR:
        e->kind = TAR_DIR;
        break;
    case TAR_TYPE_SYMLINK:
        e->kind = TAR_SYMLINK;
        memcpy(link, h->link, sizeof h->link);
        if (!is_printable(link))
            return refuse(r, "is a link to what is not ASCII");
        memcpy(e->link, link, sizeof link);
        break;
    default:
        return refuse(r, "is %s", kind_text(h->type));
    }
    return size == 0 && !x->has_size ? 0 : refuse(r, "has a size, and is no file");
}

/* Nothing but zeros may follow. */
static int check_trailer(struct tar_reader *r)
{
    uint64_t zeros = 0;

    for (;;) {
        int err = fill(r, TAR_BLOCK_BYTES);

        if (err != 0)
            return err;
        size_t len = r->end - r->start;
        if (zeros == 0 && len < TAR_BLOCK_BYTES)
            return refuse(r, "is the last, and the archive's end is cut short");
        if (len == 0)
            return ERR_NOT_FOUND;
        zeros += len;
        if (!is_zero(r->buf + r->start, len) || zeros > TRAILER_MAX)
            return refuse(r, "is the last, and something follows the archive's end");
        r->start = r->end;
    }
}

static int skip_content(struct tar_reader *r)
{
    const void *data;
    size_t len;
    int err;

    do {
        err = tar_read(r, &data, &len);
    } while (err == 0 && len > 0);
    return err;
}

/* What people give by mistake is told apart. */
static int refuse_header(struct tar_reader *r, const struct tar_header *h)
{
    static const char gzip[] = "\x1f\x8b";
    static const char zstd[] = "\x28\xb5\x2f\xfd";
    bool is_compressed = r->number == 1 && (memcmp(h, gzip, sizeof gzip - 1) == 0 ||
                                            memcmp(h, zstd, sizeof zstd - 1) == 0);

    return is_compressed
               ? refuse(r, "is none: the archive is compressed; unpack that, as zcat does, first")
               : refuse(r, "has a header whose checksum is wrong: this is no tar, or damaged");
}

int tar_next(struct tar_reader *r, struct tar_entry *e)
{
    struct extension x = {0};
    struct tar_header h;
    uint64_t size;
    bool is_begun = false;
    int err = skip_content(r);

    *e = (struct tar_entry){0};
    while (err == 0) {
        err = fill(r, sizeof h);
        if (err == 0 && r->end - r->start < sizeof h)
            return refuse(r, "is the last, and the archive's end is missing: it was cut short");
        if (err != 0)
            break;
        memcpy(&h, r->buf + r->start, sizeof h);
        r->start += sizeof h;
        if (is_zero((const unsigned char *)&h, sizeof h))
            return x.has_name || x.has_size ? refuse(r, "is named, and does not follow")
                                            : check_trailer(r);
        if (!is_begun) {
            r->number++;
            r->name[0] = '\0';
            is_begun = true;
        }
        if (!has_checksum(&h))
            return refuse_header(r, &h);
        if (!read_number(h.size, sizeof h.size, &size))
            return refuse(r, "has a size that is below zero or no number");
        if (h.type != TAR_TYPE_PAX && h.type != TAR_TYPE_PAX_GLOBAL && h.type != TAR_TYPE_LONG_NAME)
            return take_entry(r, &h, &x, size, e);
        err = take_extension(r, &x, h.type, size);
    }
    return err;
}

int tar_read(struct tar_reader *r, const void **data, size_t *len)
{
    int err;

    *len = 0;
    if (r->left_bytes == 0) {
        err = take(r, (size_t)r->padding_bytes, data);
        r->padding_bytes = 0;
        return err;
    }
    err = fill(r, 1);
    if (err != 0)
        return err;
    size_t there = r->end - r->start;
    if (there == 0)
        return refuse(r, "is cut short: the archive ends in it");
    if (there > r->left_bytes)
        there = (size_t)r->left_bytes;
    *data = r->buf + r->start;
    *len = there;
    r->start += there;
    r->left_bytes -= there;
    return 0;
}
