/* SPDX-License-Identifier: ISC */
/* The table of options, and how each type of value is read and written. */
#include "proxy/config_private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cache/err.h"
#include "cache/name.h"

#define KIB INT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)
#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

/* LMDB maps the whole index: what the address space has room for. */
#if SIZE_MAX > UINT32_MAX
#define INDEX_SIZE "8GiB"
#define INDEX_SIZE_MAX (16 * TIB)
#else
#define INDEX_SIZE "1GiB"
#define INDEX_SIZE_MAX (2 * GIB - MIB)
#endif

static const char *const role_words[] = {
    [ROLE_REGISTRY] = "registry", [ROLE_MIRROR] = "mirror", NULL};
static const char *const format_words[] = {[LOG_TEXT] = "text", [LOG_JSON] = "json", NULL};
static const char *const level_words[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug", NULL};

static const char *const section_names[SECTION_COUNT] = {
    [SECTION_CACHE] = "cache",       [SECTION_LOG] = "log",           [SECTION_ADMIN] = "admin",
    [SECTION_LISTENER] = "listener", [SECTION_UPSTREAM] = "upstream",
};

/* clang-format off */
#define CACHE(field) .section = SECTION_CACHE, .offset = offsetof(struct config, field)
#define LOG(field) .section = SECTION_LOG, .offset = offsetof(struct config, field)
#define ADMIN(field) .section = SECTION_ADMIN, .offset = offsetof(struct config, field)
#define LISTENER(field) .section = SECTION_LISTENER, .offset = offsetof(struct config_listener, field)
#define UPSTREAM(field) .section = SECTION_UPSTREAM, .offset = offsetof(struct config_upstream, field)

static const struct option_row rows[] = {
    {{"cache", "path", "/var/lib/cachalot", "absolute path",
      "The directory where everything is kept; it is a valid OCI image layout."},
     CACHE(path), .type = OPTION_PATH},
    {{"cache", "index-size", INDEX_SIZE, "size, e.g. 8GiB, at least 1MiB",
      "The room that the index may take at most; it costs address space, and disk only as it fills."},
     CACHE(index_size_bytes), .type = OPTION_SIZE, .min = MIB, .max = INDEX_SIZE_MAX},
    {{"cache", "workers", "0", "number from 0 to 256",
      "Threads that serve clients; 0 is one for each processor."},
     CACHE(workers), .type = OPTION_COUNT, .min = 0, .max = 256},
    {{"cache", "drain-timeout", "30s", "time, e.g. 30s, at most 1h",
      "How long requests under way may take to end when the daemon is told to stop."},
     CACHE(drain_timeout_ms), .type = OPTION_MS, .min = 0, .max = HOUR},

    {{"log", "file", "", "absolute path, or empty for standard error",
      "Where the log goes; SIGHUP opens the file again after a rotation."},
     LOG(log_file), .type = OPTION_PATH},
    {{"log", "format", "text", "text or json", "One line of text or one JSON object an event."},
     LOG(log_format), .type = OPTION_WORD, .words = format_words},
    {{"log", "level", "info", "error, warn, info or debug", "The least important events that are logged."},
     LOG(log_level), .type = OPTION_WORD, .words = level_words},
    {{"log", "access", "yes", "yes or no", "Whether each request gets a line, whatever the level."},
     LOG(log_access), .type = OPTION_BOOL},

    {{"admin", "socket", "", "absolute path, empty for cachalot.sock in the cache directory, or none",
      "The Unix socket through which the cachalot command asks the running daemon."},
     ADMIN(admin_socket), .type = OPTION_SOCKET},

    {{"listener", "role", "registry", "registry or mirror",
      "A registry takes names with their registry host or with ?ns=; a mirror serves one upstream."},
     LISTENER(role), .type = OPTION_WORD, .words = role_words},
    {{"listener", "upstream", "docker.io", "registry host[:port] with a section [upstream HOST]",
      "The registry that a mirror serves; only for the role mirror."},
     LISTENER(mirror_of), .type = OPTION_REGISTRY},
    {{"listener", "address", "", "list of PORT, IPV4:PORT, [IPV6]:PORT or unix:/PATH",
      "Where clients connect; a port alone is all IPv4 and IPv6 addresses; several lines add up."},
     LISTENER(addresses), .type = OPTION_ADDRESS,
     .count_offset = offsetof(struct config_listener, address_count)},
    {{"listener", "head-timeout", "10s", "time, e.g. 10s, from 10ms to 1h",
      "How long a client may take to send the head of a request."},
     LISTENER(head_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"listener", "idle-timeout", "90s", "time, e.g. 90s, from 10ms to 1h",
      "How long a connection may stay open without a request."},
     LISTENER(idle_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"listener", "stall-timeout", "60s", "time, e.g. 60s, from 10ms to 1h",
      "How long a client may take no bytes of an answer before it is disconnected."},
     LISTENER(stall_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"listener", "max-connections", "0", "number from 0 to 1000000",
      "Connections open at once; 0 is as many as the limit of open files allows."},
     LISTENER(max_connections), .type = OPTION_COUNT, .min = 0, .max = 1000000},

    {{"upstream", "url", "", "list of http://HOST[:PORT][/PATH] or https://..., or empty for https://HOST",
      "Where the registry is asked, in this order; several lines add up."},
     UPSTREAM(urls), .type = OPTION_URL,
     .count_offset = offsetof(struct config_upstream, url_count)},
    {{"upstream", "tag-ttl", "60s", "time in whole seconds, e.g. 60s, at most 30d",
      "How long a tag is served without asking the upstream whether it has moved."},
     UPSTREAM(tag_ttl_s), .type = OPTION_SECONDS, .min = 0, .max = 30 * DAY / SECOND},
    {{"upstream", "connect-timeout", "10s", "time, e.g. 10s, from 10ms to 5m",
      "How long a connection to the upstream may take to be made, TLS included."},
     UPSTREAM(connect_timeout_ms), .type = OPTION_MS, .min = 10, .max = 300 * SECOND},
    {{"upstream", "stall-timeout", "30s", "time, e.g. 30s, from 10ms to 1h",
      "How long the upstream may send nothing before the connection is given up."},
     UPSTREAM(stall_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"upstream", "retries", "5", "number from 0 to 100",
      "How often a failed request is tried again, and a broken download continued."},
     UPSTREAM(retries), .type = OPTION_COUNT, .min = 0, .max = 100},
    {{"upstream", "ca-file", "", "absolute path, or empty for the system's certificates",
      "PEM file of the certificate authorities that are trusted for this upstream."},
     UPSTREAM(ca_file), .type = OPTION_PATH},
};
/* clang-format on */

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))
_Static_assert(ROW_COUNT <= OPTION_ROWS_MAX, "OPTION_ROWS_MAX must hold the table");

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

const struct option_row *option_rows(size_t *count)
{
    *count = ROW_COUNT;
    return rows;
}

const struct config_option *config_option_at(size_t i)
{
    return i < ROW_COUNT ? &rows[i].doc : NULL;
}

const char *section_name(enum section s)
{
    return section_names[s];
}

static int fail(char why[WHY_SIZE], const char *what, const char *text)
{
    snprintf(why, WHY_SIZE, "\"%.100s\" %s", text, what);
    return ERR_INVALID;
}

static int number_read(const char *text, const struct unit *units, int64_t *value, char *why)
{
    const char *digits_end = text + strspn(text, "0123456789");
    size_t digits = (size_t)(digits_end - text);
    if (digits == 0)
        return fail(why, "is not a number", text);
    int64_t n = 0;
    for (size_t i = 0; i < digits; i++) {
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, text[i] - '0', &n))
            return fail(why, "is too large", text);
    }
    const char *suffix = digits_end + strspn(digits_end, " \t");
    int64_t factor = units == NULL || n == 0 ? 1 : 0;
    for (const struct unit *u = units; u != NULL && u->name != NULL; u++) {
        if (strcmp(u->name, suffix) == 0)
            factor = u->factor;
    }
    if (*suffix == '\0' && factor == 0)
        return fail(why, "has no unit", text);
    if (factor == 0 || (units == NULL && *suffix != '\0'))
        return fail(why, units == NULL ? "is not a number" : "has an unknown unit", text);
    if (__builtin_mul_overflow(n, factor, value))
        return fail(why, "is too large", text);
    return 0;
}

static int set_number(const struct option_row *row, int64_t *field, const char *text, char *why)
{
    const struct unit *units = NULL;
    if (row->type == OPTION_SIZE)
        units = size_units;
    else if (row->type == OPTION_MS || row->type == OPTION_SECONDS)
        units = time_units;
    int64_t value;
    int err = number_read(text, units, &value, why);
    if (err != 0)
        return err;
    if (row->type == OPTION_SECONDS) {
        if (value % SECOND != 0)
            return fail(why, "is not in whole seconds", text);
        value /= SECOND;
    }
    if (value < row->min)
        return fail(why, "is too small", text);
    if (value > row->max)
        return fail(why, "is too large", text);
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
        return fail(why, "is neither yes nor no", text);
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
    return fail(why, "is not one of the words", text);
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
        return fail(why, "is empty", text);
    bool none = row->type == OPTION_SOCKET && strcmp(text, "none") == 0;
    if (*text != '\0' && *text != '/' && !none)
        return fail(why, "is not an absolute path", text);
    if (row->type == OPTION_SOCKET && strlen(text) > SOCKET_PATH_MAX)
        return fail(why, "is longer than the 107 characters of a socket's path", text);
    replace(field, *text == '\0' ? NULL : mem_copy(text, strlen(text)));
    return 0;
}

static int set_registry(char **field, const char *text, char *why)
{
    char registry[NAME_MAX_SIZE];
    if (name_set_registry(registry, text, strlen(text)) != 0)
        return fail(why, "is not a registry host", text);
    replace(field, mem_copy(registry, strlen(registry)));
    return 0;
}

static bool is_port(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > 5 || strspn(text, "0123456789") != len || text[0] == '0')
        return false;
    return strtol(text, NULL, 10) <= 65535;
}

/* The canonical form of an IP address and port, owned by the caller, or NULL. */
static char *ip_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || !is_port(colon + 1))
        return NULL;
    bool v6 = *text == '[' && colon > text + 1 && colon[-1] == ']';
    const char *host = v6 ? text + 1 : text;
    size_t host_len = (size_t)(colon - host) - (v6 ? 1 : 0);
    char buf[INET6_ADDRSTRLEN];
    if (host_len >= sizeof(buf))
        return NULL;
    memcpy(buf, host, host_len);
    buf[host_len] = '\0';
    struct in6_addr addr; /* large enough for both families */
    int family = v6 ? AF_INET6 : AF_INET;
    if (inet_pton(family, buf, &addr) != 1)
        return NULL;
    CHECK(inet_ntop(family, &addr, buf, sizeof(buf)) != NULL);
    return v6 ? mem_format("[%s]%s", buf, colon) : mem_format("%s%s", buf, colon);
}

static int read_address(const char *text, char **value, char *why)
{
    if (strncmp(text, "unix:", 5) == 0) {
        if (text[5] != '/')
            return fail(why, "is not an absolute path", text);
        if (strlen(text + 5) > SOCKET_PATH_MAX)
            return fail(why, "is longer than the 107 characters of a socket's path", text);
        *value = mem_copy(text, strlen(text));
    } else if (is_port(text)) {
        *value = mem_copy(text, strlen(text));
    } else {
        *value = ip_address(text);
    }
    return *value != NULL ? 0 : fail(why, "is not an address to listen on", text);
}

/* "5000" binds all addresses of both families. */
bool address_overlaps(const char *a, const char *b)
{
    if (strcmp(a, b) == 0)
        return true;
    const char *a_colon = strrchr(a, ':');
    const char *b_colon = strrchr(b, ':');
    if (*a == 'u' || *b == 'u' ||
        strcmp(a_colon == NULL ? a : a_colon + 1, b_colon == NULL ? b : b_colon + 1) != 0)
        return false;
    if (a_colon == NULL || b_colon == NULL)
        return true;
    bool same_family = (*a == '[') == (*b == '[');
    const char *any = *a == '[' ? "[::]:" : "0.0.0.0:";
    return same_family && (strncmp(a, any, strlen(any)) == 0 || strncmp(b, any, strlen(any)) == 0);
}

static int read_url(const char *text, char **value, char *why)
{
    const char *rest = NULL;
    if (strncmp(text, "http://", 7) == 0)
        rest = text + 7;
    else if (strncmp(text, "https://", 8) == 0)
        rest = text + 8;
    if (rest == NULL)
        return fail(why, "does not begin with http:// or https://", text);
    if (strpbrk(rest, "@?#") != NULL)
        return fail(why, "has a user, a query or a fragment, which are not taken", text);
    size_t host_len = strcspn(rest, "/");
    if (!name_is_registry(rest, host_len))
        return fail(why, "has no valid host", text);
    for (const char *p = rest + host_len; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("/-._~%!$&'()*+:=", *p) == NULL)
            return fail(why, "has a character that is not of a url", text);
    }
    size_t len = strlen(text);
    while (text[len - 1] == '/')
        len--;
    *value = mem_copy(text, len);
    return 0;
}

static int list_add(const struct option_row *row, void *base, const char *text, char *why)
{
    char **list = (char **)((char *)base + row->offset);
    unsigned *count = (unsigned *)((char *)base + row->count_offset);
    unsigned max = row->type == OPTION_URL ? CONFIG_URLS_MAX : CONFIG_ADDRESSES_MAX;
    char *value = NULL;
    int err =
        row->type == OPTION_URL ? read_url(text, &value, why) : read_address(text, &value, why);
    if (err != 0)
        return err;
    for (unsigned i = 0; i < *count; i++) {
        if (strcmp(list[i], value) == 0) {
            free(value);
            return fail(why, "is there twice", text);
        }
    }
    if (*count == max) {
        free(value);
        return fail(why, "is one too many: a list has at most 8", text);
    }
    list[(*count)++] = value;
    return 0;
}

_Static_assert(CONFIG_URLS_MAX == 8 && CONFIG_ADDRESSES_MAX == 8, "list_add names the limit");

static int set_list(const struct option_row *row, void *base, const char *text, char *why)
{
    static const char separators[] = ", \t";
    int err = 0;
    for (const char *p = text + strspn(text, separators); *p != '\0' && err == 0;) {
        size_t len = strcspn(p, separators);
        char *one = mem_copy(p, len);
        err = list_add(row, base, one, why);
        free(one);
        p += len;
        p += strspn(p, separators);
    }
    return err;
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
    case OPTION_SIZE:
    case OPTION_MS:
    case OPTION_SECONDS:
    case OPTION_COUNT:
        return set_number(row, field, text, why);
    case OPTION_BOOL:
        return set_bool(field, text, why);
    case OPTION_WORD:
        return set_word(row, field, text, why);
    case OPTION_ADDRESS:
    case OPTION_URL:
        return set_list(row, base, text, why);
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
        replace(field, NULL);
        break;
    case OPTION_ADDRESS:
    case OPTION_URL: {
        char **list = field;
        unsigned *count = (unsigned *)((char *)base + row->count_offset);
        while (*count > 0)
            replace(&list[--*count], NULL);
        break;
    }
    case OPTION_SIZE:
    case OPTION_MS:
    case OPTION_SECONDS:
    case OPTION_COUNT:
    case OPTION_BOOL:
    case OPTION_WORD:
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

/* Without spaces when it is long: a line that was read must fit when it is read
 * again. */
static void write_text(const char *name, const char *value, FILE *out)
{
    fprintf(out, "%s%s%s\n", name, strlen(value) > 150 ? "=" : " = ", value);
}

static void write_list(const struct option_row *row, const void *base, FILE *out)
{
    char *const *list = (char *const *)((const char *)base + row->offset);
    const unsigned *count = (const unsigned *)((const char *)base + row->count_offset);
    for (unsigned i = 0; i < *count; i++)
        write_text(row->doc.name, list[i], out);
}

void option_write(const struct option_row *row, const void *base, FILE *out)
{
    const void *field = (const char *)base + row->offset;
    const char *name = row->doc.name;
    switch (row->type) {
    case OPTION_PATH:
    case OPTION_SOCKET:
    case OPTION_REGISTRY:
        if (*(char *const *)field != NULL)
            write_text(name, *(char *const *)field, out);
        else if (row->type == OPTION_SOCKET)
            write_text(name, "none", out);
        break;
    case OPTION_SIZE:
        write_number(name, *(const int64_t *)field, size_units, out);
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
        write_list(row, base, out);
        break;
    }
}
