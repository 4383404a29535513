/* SPDX-License-Identifier: ISC */
#include "cache/name.h"

#include <arpa/inet.h>
#include <string.h>

#include "cache/err.h"

#define HOST_LABEL_MAX 63
#define PORT_MAX 65535

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_alnum(char c)
{
    return is_digit(c) || is_lower(c) || is_upper(c);
}

static char fold(char c)
{
    return is_upper(c) ? (char)(c - 'A' + 'a') : c;
}

/* The length of the separator at the front of the text, 0 when there is none:
 * one '.', one or two '_', or any number of '-'. */
static size_t separator_len(const char *text, size_t len)
{
    size_t run = 0;

    while (run < len && text[run] == text[0])
        run++;
    switch (text[0]) {
    case '.':
        return run == 1 ? run : 0;
    case '_':
        return run <= 2 ? run : 0;
    case '-':
        return run;
    default:
        return 0;
    }
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* */
static bool is_component(const char *text, size_t len)
{
    size_t i = 0;

    for (;;) {
        size_t start = i;

        while (i < len && (is_lower(text[i]) || is_digit(text[i])))
            i++;
        if (i == start)
            return false;
        if (i == len)
            return true;
        size_t separator = separator_len(text + i, len - i);

        if (separator == 0)
            return false;
        i += separator;
    }
}

/* Room is left for the slash that a local name's key begins with. */
bool name_is_repository(const char *text, size_t len)
{
    if (len + 1 >= NAME_MAX_SIZE)
        return false;
    for (;;) {
        const char *slash = memchr(text, '/', len);
        size_t component = slash != NULL ? (size_t)(slash - text) : len;

        if (!is_component(text, component))
            return false;
        if (slash == NULL)
            return true;
        text += component + 1;
        len -= component + 1;
    }
}

bool name_is_tag(const char *text, size_t len)
{
    if (len == 0 || len >= NAME_TAG_MAX_SIZE || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alnum(text[i]) && text[i] != '_' && text[i] != '.' && text[i] != '-')
            return false;
    return true;
}

/* RFC 1123 section 2.1; no trailing dot, so that a host has one spelling. */
static bool is_dns_name(const char *text, size_t len)
{
    size_t label = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '.') {
            if (label == 0 || text[i - 1] == '-')
                return false;
            label = 0;
            continue;
        }
        if (!is_alnum(text[i]) && !(text[i] == '-' && label > 0))
            return false;
        if (++label > HOST_LABEL_MAX)
            return false;
    }
    return label > 0 && text[len - 1] != '-';
}

static bool is_ipv6(const char *text, size_t len)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr parsed;

    if (len >= sizeof address || memchr(text, '\0', len) != NULL)
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    return inet_pton(AF_INET6, address, &parsed) == 1;
}

/* Decimal, 1 to 65535, no leading zero. */
static bool is_port(const char *text, size_t len)
{
    unsigned port = 0;

    if (len == 0 || len > 5 || text[0] == '0')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(text[i]))
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= PORT_MAX;
}

bool name_is_registry(const char *text, size_t len)
{
    size_t host;

    if (len == 0 || len >= NAME_MAX_SIZE)
        return false;
    if (text[0] == '[') {
        const char *close = memchr(text, ']', len);

        if (close == NULL || !is_ipv6(text + 1, (size_t)(close - text) - 1))
            return false;
        host = (size_t)(close - text) + 1;
    } else {
        const char *colon = memchr(text, ':', len);

        host = colon != NULL ? (size_t)(colon - text) : len;
        if (!is_dns_name(text, host))
            return false;
    }
    return host == len || (text[host] == ':' && is_port(text + host + 1, len - host - 1));
}

bool name_looks_like_registry(const char *text, size_t len)
{
    static const char localhost[] = "localhost";
    const char *slash = memchr(text, '/', len);
    size_t first = slash != NULL ? (size_t)(slash - text) : len;

    return memchr(text, '.', first) != NULL || memchr(text, ':', first) != NULL ||
           (first == sizeof localhost - 1 && memcmp(text, localhost, first) == 0);
}

static bool is_docker_hub(const char *registry)
{
    return strcmp(registry, "docker.io") == 0;
}

int name_set_registry(char out[NAME_MAX_SIZE], const char *text, size_t len)
{
    if (!name_is_registry(text, len))
        return ERR_INVALID;
    for (size_t i = 0; i < len; i++)
        out[i] = fold(text[i]);
    out[len] = '\0';
    if (strcmp(out, "index.docker.io") == 0 || strcmp(out, "registry-1.docker.io") == 0)
        memcpy(out, "docker.io", sizeof("docker.io"));
    return 0;
}

int name_set(struct name *n, const char *registry, size_t registry_len, const char *repository,
             size_t repository_len)
{
    static const char library[] = "library/";
    size_t prefix = 0;

    if (!name_is_repository(repository, repository_len) ||
        name_set_registry(n->registry, registry, registry_len) != 0)
        return ERR_INVALID;
    if (is_docker_hub(n->registry) && memchr(repository, '/', repository_len) == NULL)
        prefix = sizeof library - 1;
    if (strlen(n->registry) + 1 + prefix + repository_len >= NAME_MAX_SIZE)
        return ERR_INVALID;
    memcpy(n->repository, library, prefix);
    memcpy(n->repository + prefix, repository, repository_len);
    n->repository[prefix + repository_len] = '\0';
    return 0;
}

int name_set_local(struct name *n, const char *repository, size_t len)
{
    if (!name_is_repository(repository, len) || name_looks_like_registry(repository, len))
        return ERR_INVALID;
    n->registry[0] = '\0';
    memcpy(n->repository, repository, len);
    n->repository[len] = '\0';
    return 0;
}

bool name_is_local(const struct name *n)
{
    return n->registry[0] == '\0';
}

size_t name_text(const struct name *n, char out[NAME_MAX_SIZE])
{
    size_t len = name_key(n, out);

    if (!name_is_local(n))
        return len;
    memmove(out, out + 1, len);
    return len - 1;
}

size_t name_key(const struct name *n, char out[NAME_MAX_SIZE])
{
    size_t registry = strlen(n->registry);
    size_t repository = strlen(n->repository);

    CHECK(registry + 1 + repository < NAME_MAX_SIZE);
    memcpy(out, n->registry, registry);
    out[registry] = '/';
    memcpy(out + registry + 1, n->repository, repository + 1);
    return registry + 1 + repository;
}

int name_from_key(struct name *n, const char *key, size_t len)
{
    const char *slash = memchr(key, '/', len);

    if (slash == NULL)
        return ERR_INVALID;
    size_t registry = (size_t)(slash - key);
    size_t repository = len - registry - 1;

    return registry == 0 ? name_set_local(n, slash + 1, repository)
                         : name_set(n, key, registry, slash + 1, repository);
}

bool name_equal(const struct name *a, const struct name *b)
{
    return strcmp(a->registry, b->registry) == 0 && strcmp(a->repository, b->repository) == 0;
}
