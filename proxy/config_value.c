/* SPDX-License-Identifier: ISC */
/* How each type of value is read, kept, written and freed. */
#include "proxy/config_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/name.h"

#define TEXT_MAX 150 /* it fits a line of inih */

struct unit {
    const char *name;
    int64_t factor;
};

/* Largest first: the dump writes the first that divides the value. The second
 * names are read only. */
static const struct unit size_units[] = {
    {"TiB", TIB}, {"GiB", GIB}, {"MiB", MIB}, {"KiB", KIB}, {"B", 1},
    {"T", TIB},   {"G", GIB},   {"M", MIB},   {"K", KIB},   {NULL, 0},
};
static const struct unit time_units[] = {
    {"d", DAY}, {"h", HOUR}, {"m", 60 * SECOND}, {"s", SECOND}, {"ms", 1}, {NULL, 0},
};

static int number_read(const char *text, const struct unit *units, int64_t *value, char *why)
{
    const char *digits_end = text + strspn(text, "0123456789");
    size_t digits = (size_t)(digits_end - text);
    if (digits == 0)
        return refuse(why, "is not a number", text);
    int64_t n = 0;
    for (size_t i = 0; i < digits; i++) {
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, text[i] - '0', &n))
            return refuse(why, "is too large", text);
    }
    const char *suffix = digits_end + strspn(digits_end, " \t");
    int64_t factor = units == NULL || n == 0 ? 1 : 0;
    for (const struct unit *u = units; u != NULL && u->name != NULL; u++) {
        if (strcmp(u->name, suffix) == 0)
            factor = u->factor;
    }
    if (*suffix == '\0' && factor == 0)
        return refuse(why, "has no unit", text);
    if (factor == 0 || (units == NULL && *suffix != '\0'))
        return refuse(why, units == NULL ? "is not a number" : "has an unknown unit", text);
    if (__builtin_mul_overflow(n, factor, value))
        return refuse(why, "is too large", text);
    return 0;
}

static int set_number(const struct option_row *row, int64_t *field, const char *text, char *why)
{
    const struct unit *units = NULL;
    if (row->type == OPTION_SIZE)
        units = size_units;
    else if (row->type == OPTION_MS || row->type == OPTION_SECONDS)
        units = time_units;
    int64_t value = 0;
    int err = number_read(text, units, &value, why);
    if (err != 0)
        return err;
    if (row->type == OPTION_SECONDS) {
        if (value % SECOND != 0)
            return refuse(why, "is not in whole seconds", text);
        value /= SECOND;
    }
    if (value < row->min)
        return refuse(why, "is too small", text);
    if (value > row->max)
        return refuse(why, "is too large", text);
    *field = value;
    return 0;
}

/* Whole percents from `min` to `max`, with the sign. */
static int set_percent(const struct option_row *row, unsigned *field, const char *text, char *why)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 3 || strcmp(text + digits, "%") != 0)
        return refuse(why, "is not a percentage", text);
    long percent = strtol(text, NULL, 10);
    if (percent < row->min || percent > row->max)
        return refuse(why, percent < row->min ? "is too small" : "is too large", text);
    *field = (unsigned)percent;
    return 0;
}

static int set_amount(const struct option_row *row, struct room_amount *field, const char *text,
                      char *why)
{
    struct room_amount value = {0};
    int64_t bytes = 0;
    int err = strchr(text, '%') != NULL ? set_percent(row, &value.percent, text, why)
                                        : number_read(text, size_units, &bytes, why);
    if (err != 0)
        return err;
    value.bytes = (uint64_t)bytes;
    *field = value;
    return 0;
}

static int set_bool(bool *field, const char *text, char *why)
{
    if (strcmp(text, "yes") == 0)
        *field = true;
    else if (strcmp(text, "no") == 0)
        *field = false;
    else
        return refuse(why, "is neither yes nor no", text);
    return 0;
}

static int set_word(const struct option_row *row, int *field, const char *text, char *why)
{
    for (int i = 0; row->words[i] != NULL; i++) {
        if (strcmp(row->words[i], text) == 0) {
            *field = i;
            return 0;
        }
    }
    return refuse(why, "is not one of the words", text);
}

static void replace(char **field, char *value)
{
    free(*field);
    *field = value;
}

static int set_path(const struct option_row *row, char **field, const char *text, char *why)
{
    bool must_be = row->doc.value[0] != '\0';
    if (*text == '\0' && must_be)
        return refuse(why, "is empty", text);
    bool none = row->type == OPTION_SOCKET && strcmp(text, "none") == 0;
    if (*text != '\0' && *text != '/' && !none)
        return refuse(why, "is not an absolute path", text);
    if (row->type == OPTION_SOCKET && strlen(text) > SOCKET_PATH_MAX)
        return refuse(why, "is longer than the 107 characters of a socket's path", text);
    replace(field, *text == '\0' ? NULL : mem_copy(text, strlen(text)));
    return 0;
}

static int set_username(char **field, const char *text, char *why)
{
    if (strchr(text, ':') != NULL)
        return refuse(why, "has a colon", text);
    replace(field, *text == '\0' ? NULL : mem_copy(text, strlen(text)));
    return 0;
}

static int set_text(char **field, const char *text, char *why)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e)
            return refuse(why, "has a character that is not printable ASCII", text);
    }
    if (len > TEXT_MAX)
        return refuse(why, "is longer than 150 characters", text);
    replace(field, len == 0 ? NULL : mem_copy(text, len));
    return 0;
}

static int set_canonical(char **field, const char *text, char *why,
                         int (*read)(const char *text, char **value, char why[WHY_SIZE]))
{
    char *value = NULL;
    if (*text != '\0' && read(text, &value, why) != 0)
        return ERR_INVALID;
    replace(field, value);
    return 0;
}

static int set_registry(char **field, const char *text, char *why)
{
    char registry[NAME_MAX_SIZE];
    if (name_set_registry(registry, text, strlen(text)) != 0)
        return refuse(why, "is not a registry host", text);
    replace(field, mem_copy(registry, strlen(registry)));
    return 0;
}

struct list_type {
    unsigned max;
    int (*read)(const char *text, char **value, char why[WHY_SIZE]);
};

static struct list_type list_type(enum option_type type)
{
    if (type == OPTION_URL)
        return (struct list_type){CONFIG_URLS_MAX, read_url};
    if (type == OPTION_HOSTS)
        return (struct list_type){CONFIG_HOSTS_MAX, read_host};
    if (type == OPTION_NAMES)
        return (struct list_type){CONFIG_HOSTS_MAX, read_name};
    if (type == OPTION_RANGES)
        return (struct list_type){CONFIG_RANGES_MAX, read_range};
    if (type == OPTION_USERS)
        return (struct list_type){CONFIG_USERS_MAX, read_user};
    if (type == OPTION_REFERENCES)
        return (struct list_type){CONFIG_REFERENCES_MAX, read_reference};
    if (type == OPTION_PLATFORMS)
        return (struct list_type){CONFIG_PLATFORMS_MAX, read_platform};
    if (type == OPTION_PATTERNS)
        return (struct list_type){CONFIG_PATTERNS_MAX, read_pattern};
    CHECK(type == OPTION_ADDRESS);
    return (struct list_type){CONFIG_ADDRESSES_MAX, read_address};
}

static int list_add(const struct option_row *row, void *base, const char *text, char *why)
{
    char **list = (char **)((char *)base + row->offset);
    unsigned *count = (unsigned *)((char *)base + row->count_offset);
    struct list_type type = list_type(row->type);
    char *value = NULL;
    int err = type.read(text, &value, why);
    if (err != 0)
        return err;
    for (unsigned i = 0; i < *count; i++) {
        if (strcmp(list[i], value) == 0) {
            free(value);
            return refuse(why, "is there twice", text);
        }
    }
    if (*count == type.max) {
        free(value);
        snprintf(why, WHY_SIZE, "\"%.100s\" is one too many: a list has at most %u", text,
                 type.max);
        return ERR_INVALID;
    }
    list[(*count)++] = value;
    return 0;
}

static int flag_add(const struct option_row *row, void *base, const char *text, char *why)
{
    unsigned *flags = (unsigned *)((char *)base + row->offset);
    for (unsigned i = 0; row->words[i] != NULL; i++) {
        if (strcmp(row->words[i], text) != 0)
            continue;
        if (*flags & 1u << i)
            return refuse(why, "is there twice", text);
        *flags |= 1u << i;
        return 0;
    }
    return refuse(why, "is not one of the words", text);
}

static int set_list(const struct option_row *row, void *base, const char *text, char *why)
{
    static const char separators[] = ", \t";
    int err = 0;
    for (const char *p = text + strspn(text, separators); *p != '\0' && err == 0;) {
        size_t len = strcspn(p, separators);
        char *one = mem_copy(p, len);
        err = row->type == OPTION_FLAGS ? flag_add(row, base, one, why)
                                        : list_add(row, base, one, why);
        free(one);
        p += len;
        p += strspn(p, separators);
    }
    return err;
}

static int set_rate(struct rate *field, const char *text, char *why)
{
    const char *what;
    return rate_add(field, text, &what) == 0 ? 0 : refuse(why, what, text);
}

static int set_schedule(struct schedule *field, const char *text, char *why)
{
    struct schedule value;
    const char *what;
    if (schedule_parse(&value, text, &what) != 0)
        return refuse(why, what, text);
    *field = value;
    return 0;
}

bool option_adds_up(const struct option_row *row)
{
    return row->count_offset != 0 || row->type == OPTION_RATE || row->type == OPTION_FLAGS;
}

int option_set(const struct option_row *row, void *base, const char *text, char why[WHY_SIZE])
{
    void *field = (char *)base + row->offset;
    switch (row->type) {
    case OPTION_PATH:
    case OPTION_SOCKET:
        return set_path(row, field, text, why);
    case OPTION_REGISTRY:
        return set_registry(field, text, why);
    case OPTION_USERNAME:
        return set_username(field, text, why);
    case OPTION_TEXT:
        return set_text(field, text, why);
    case OPTION_REALM:
        return set_canonical(field, text, why, read_realm);
    case OPTION_PROXY:
        return set_canonical(field, text, why, read_proxy);
    case OPTION_SIZE:
    case OPTION_MS:
    case OPTION_SECONDS:
    case OPTION_COUNT:
        return set_number(row, field, text, why);
    case OPTION_AMOUNT:
        return set_amount(row, field, text, why);
    case OPTION_PERCENT:
        return set_percent(row, field, text, why);
    case OPTION_BOOL:
        return set_bool(field, text, why);
    case OPTION_WORD:
        return set_word(row, field, text, why);
    case OPTION_ADDRESS:
    case OPTION_URL:
    case OPTION_HOSTS:
    case OPTION_NAMES:
    case OPTION_RANGES:
    case OPTION_USERS:
    case OPTION_PATTERNS:
    case OPTION_REFERENCES:
    case OPTION_PLATFORMS:
    case OPTION_FLAGS:
        return set_list(row, base, text, why);
    case OPTION_RATE:
        return set_rate(field, text, why);
    case OPTION_SCHEDULE:
        return set_schedule(field, text, why);
    case OPTION_ZONE:
        return set_canonical(field, text, why, read_zone);
    }
    return ERR_INVALID;
}

void option_clear(const struct option_row *row, void *base)
{
    void *field = (char *)base + row->offset;
    switch (row->type) {
    case OPTION_PATH:
    case OPTION_SOCKET:
    case OPTION_REGISTRY:
    case OPTION_USERNAME:
    case OPTION_TEXT:
    case OPTION_REALM:
    case OPTION_PROXY:
    case OPTION_ZONE:
        replace(field, NULL);
        break;
    case OPTION_ADDRESS:
    case OPTION_URL:
    case OPTION_HOSTS:
    case OPTION_NAMES:
    case OPTION_RANGES:
    case OPTION_USERS:
    case OPTION_PATTERNS:
    case OPTION_REFERENCES:
    case OPTION_PLATFORMS: {
        char **list = field;
        unsigned *count = (unsigned *)((char *)base + row->count_offset);
        while (*count > 0)
            replace(&list[--*count], NULL);
        break;
    }
    case OPTION_FLAGS:
        *(unsigned *)field = 0;
        break;
    case OPTION_RATE:
        *(struct rate *)field = (struct rate){.count = 0};
        break;
    case OPTION_SIZE:
    case OPTION_AMOUNT:
    case OPTION_PERCENT:
    case OPTION_MS:
    case OPTION_SECONDS:
    case OPTION_COUNT:
    case OPTION_BOOL:
    case OPTION_WORD:
    case OPTION_SCHEDULE:
        break;
    }
}

static void write_number(const char *name, int64_t value, const struct unit *units, FILE *out)
{
    const struct unit *u = units;
    while (u != NULL && u->name != NULL && value % u->factor != 0)
        u++;
    if (u == NULL || value == 0)
        fprintf(out, "%s = %" PRId64 "\n", name, value);
    else
        fprintf(out, "%s = %" PRId64 "%s\n", name, value / u->factor, u->name);
}

/* Without spaces when it is long, as a line that was read must fit when it is read
 * again, and before a semicolon, which after a space begins a comment. */
static void write_text(const char *name, const char *value, FILE *out)
{
    bool is_tight = strlen(value) > 150 || *value == ';';
    fprintf(out, "%s%s%s\n", name, is_tight ? "=" : " = ", value);
}

static void write_list(const struct option_row *row, const void *base, FILE *out)
{
    char *const *list = (char *const *)((const char *)base + row->offset);
    const unsigned *count = (const unsigned *)((const char *)base + row->count_offset);
    for (unsigned i = 0; i < *count; i++)
        write_text(row->doc.name, list[i], out);
    /* Nothing in place of what is shipped. */
    if (*count == 0 &&
        (row->type == OPTION_HOSTS || row->type == OPTION_RANGES || row->type == OPTION_PATTERNS))
        fprintf(out, "%s =\n", row->doc.name);
}

static void write_flags(const struct option_row *row, unsigned flags, FILE *out)
{
    fprintf(out, "%s =", row->doc.name);
    for (unsigned i = 0; row->words[i] != NULL; i++) {
        if (flags & 1u << i)
            fprintf(out, " %s", row->words[i]);
    }
    fputc('\n', out);
}

static void write_rate(const char *name, const struct rate *rate, FILE *out)
{
    for (unsigned i = 0; i < rate->count; i++) {
        char text[RATE_CLAUSE_SIZE];
        rate_clause_format(&rate->clauses[i], text);
        write_text(name, text, out);
    }
}

static void write_percent(const char *name, unsigned percent, FILE *out)
{
    fprintf(out, "%s = %u%%\n", name, percent);
}

static void write_amount(const char *name, const struct room_amount *amount, FILE *out)
{
    if (amount->percent > 0)
        write_percent(name, amount->percent, out);
    else
        write_number(name, (int64_t)amount->bytes, size_units, out);
}

static void write_schedule(const char *name, const struct schedule *schedule, FILE *out)
{
    char text[SCHEDULE_TEXT_SIZE];
    schedule_text(schedule, text);
    write_text(name, text, out);
}

void option_write(const struct option_row *row, const void *base, FILE *out)
{
    const void *field = (const char *)base + row->offset;
    const char *name = row->doc.name;
    switch (row->type) {
    case OPTION_PATH:
    case OPTION_SOCKET:
    case OPTION_REGISTRY:
    case OPTION_USERNAME:
    case OPTION_TEXT:
    case OPTION_REALM:
    case OPTION_PROXY:
    case OPTION_ZONE:
        if (*(char *const *)field != NULL)
            write_text(name, *(char *const *)field, out);
        else if (row->type == OPTION_SOCKET)
            write_text(name, "none", out);
        break;
    case OPTION_SIZE:
        write_number(name, *(const int64_t *)field, size_units, out);
        break;
    case OPTION_AMOUNT:
        write_amount(name, field, out);
        break;
    case OPTION_PERCENT:
        write_percent(name, *(const unsigned *)field, out);
        break;
    case OPTION_MS:
        write_number(name, *(const int64_t *)field, time_units, out);
        break;
    case OPTION_SECONDS:
        write_number(name, *(const int64_t *)field * SECOND, time_units, out);
        break;
    case OPTION_COUNT:
        write_number(name, *(const int64_t *)field, NULL, out);
        break;
    case OPTION_BOOL:
        write_text(name, *(const bool *)field ? "yes" : "no", out);
        break;
    case OPTION_WORD:
        write_text(name, row->words[*(const int *)field], out);
        break;
    case OPTION_ADDRESS:
    case OPTION_URL:
    case OPTION_HOSTS:
    case OPTION_NAMES:
    case OPTION_RANGES:
    case OPTION_USERS:
    case OPTION_PATTERNS:
    case OPTION_REFERENCES:
    case OPTION_PLATFORMS:
        write_list(row, base, out);
        break;
    case OPTION_FLAGS:
        write_flags(row, *(const unsigned *)field, out);
        break;
    case OPTION_RATE:
        write_rate(name, field, out);
        break;
    case OPTION_SCHEDULE:
        write_schedule(name, field, out);
        break;
    }
}
