/* SPDX-License-Identifier: ISC */
/* Addresses, urls and hosts: one text made canonical. */
#include "proxy/config_private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "cache/err.h"
#include "cache/name.h"
#include "proxy/config_match.h"

int refuse(char why[WHY_SIZE], const char *what, const char *text)
{
    snprintf(why, WHY_SIZE, "\"%.100s\" %s", text, what);
    return ERR_INVALID;
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
    if (host_len >= sizeof buf)
        return NULL;
    memcpy(buf, host, host_len);
    buf[host_len] = '\0';
    struct in6_addr addr; /* large enough for both families */
    int family = v6 ? AF_INET6 : AF_INET;
    if (inet_pton(family, buf, &addr) != 1)
        return NULL;
    CHECK(inet_ntop(family, &addr, buf, sizeof buf) != NULL);
    return v6 ? mem_format("[%s]%s", buf, colon) : mem_format("%s%s", buf, colon);
}

int read_address(const char *text, char **value, char why[WHY_SIZE])
{
    if (strncmp(text, "unix:", 5) == 0) {
        if (text[5] != '/')
            return refuse(why, "is not an absolute path", text);
        if (strlen(text + 5) > SOCKET_PATH_MAX)
            return refuse(why, "is longer than the 107 characters of a socket's path", text);
        *value = mem_copy(text, strlen(text));
    } else if (is_port(text)) {
        *value = mem_copy(text, strlen(text));
    } else {
        *value = ip_address(text);
    }
    return *value != NULL ? 0 : refuse(why, "is not an address to listen on", text);
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

static int check_url(const char *text, char why[WHY_SIZE])
{
    const char *rest = NULL;
    if (strncmp(text, "http://", 7) == 0)
        rest = text + 7;
    else if (strncmp(text, "https://", 8) == 0)
        rest = text + 8;
    if (rest == NULL)
        return refuse(why, "does not begin with http:// or https://", text);
    if (strpbrk(rest, "@?#") != NULL)
        return refuse(why, "has a user, a query or a fragment, which are not taken", text);
    size_t host_len = strcspn(rest, "/");
    if (!name_is_registry(rest, host_len))
        return refuse(why, "has no valid host", text);
    for (const char *p = rest + host_len; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("/-._~%!$&'()*+:=", *p) == NULL)
            return refuse(why, "has a character that is not of a url", text);
    }
    return 0;
}

/* Paths are added to it: it does not end in a slash. */
int read_url(const char *text, char **value, char why[WHY_SIZE])
{
    int err = check_url(text, why);
    if (err != 0)
        return err;
    size_t len = strlen(text);
    while (text[len - 1] == '/')
        len--;
    *value = mem_copy(text, len);
    return 0;
}

int read_realm(const char *text, char **value, char why[WHY_SIZE])
{
    int err = check_url(text, why);
    if (err == 0)
        *value = mem_copy(text, strlen(text));
    return err;
}

/* The ":PORT" at the end of a host, or NULL. */
static const char *port_of(const char *host)
{
    const char *colon = strrchr(host, ':');
    return colon != NULL && strchr(colon, ']') == NULL ? colon : NULL;
}

int read_proxy(const char *text, char **value, char why[WHY_SIZE])
{
    static const char scheme[] = "http://";
    if (strncmp(text, scheme, strlen(scheme)) != 0)
        return refuse(why, "does not begin with http://", text);
    const char *host = text + strlen(scheme);
    size_t len = strlen(host);
    if (len > 0 && host[len - 1] == '/')
        len--;
    if (memchr(host, '@', len) != NULL)
        return refuse(why, "has a user, which has an option of its own", text);
    if (!name_is_registry(host, len) || port_of(host) == NULL)
        return refuse(why, "is not a host and a port", text);
    *value = mem_copy(text, strlen(scheme) + len);
    return 0;
}

int read_host(const char *text, char **value, char why[WHY_SIZE])
{
    bool is_domain = strncmp(text, "*.", 2) == 0;
    const char *name = is_domain ? text + 2 : text;
    if (!name_is_registry(name, strlen(name)) || (is_domain && *name == '['))
        return refuse(why, "is not a host", text);
    *value = mem_copy(text, strlen(text));
    for (char *p = *value; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return 0;
}

int read_name(const char *text, char **value, char why[WHY_SIZE])
{
    uint8_t address[16];

    if (inet_pton(AF_INET6, text, address) == 1) {
        *value = mem_copy(text, strlen(text));
        return 0;
    }
    if (port_of(text) != NULL || *text == '[' || *text == '*')
        return refuse(why, "is not a name or an address without a port", text);
    return read_host(text, value, why);
}

/* --- ranges of addresses --- */

struct address_range {
    uint8_t prefix[16]; /* IPv4 mapped into IPv6 */
    unsigned bits;
};

/* "private": what has no way in from elsewhere. Clouds and carriers use 100.64.0.0/10
 * inside, RFC 6598. */
static const char *const private_ranges[] = {
    "127.0.0.0/8",   "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
    "100.64.0.0/10", "::1",        "fc00::/7",      "fe80::/10",
};

static bool read_ip(const char *text, uint8_t out[16], bool *is_v4)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    *is_v4 = inet_pton(AF_INET, text, out + 12) == 1;
    if (*is_v4)
        memcpy(out, mapped, sizeof mapped);
    return *is_v4 || inet_pton(AF_INET6, text, out) == 1;
}

static bool range_parse(const char *text, struct address_range *r)
{
    char address[INET6_ADDRSTRLEN];
    size_t len = strcspn(text, "/");
    bool is_v4;

    if (len >= sizeof address)
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    if (!read_ip(address, r->prefix, &is_v4))
        return false;
    unsigned most = is_v4 ? 32 : 128, bits = most;
    if (text[len] == '/') {
        const char *digits = text + len + 1;
        size_t count = strlen(digits);
        if (count == 0 || count > 3 || strspn(digits, "0123456789") != count)
            return false;
        bits = (unsigned)strtoul(digits, NULL, 10);
    }
    r->bits = bits + (128 - most);
    return bits <= most;
}

static bool range_has(const struct address_range *r, const uint8_t address[16])
{
    unsigned whole = r->bits / 8, rest = r->bits % 8;

    if (memcmp(r->prefix, address, whole) != 0)
        return false;
    return rest == 0 || (r->prefix[whole] ^ address[whole]) >> (8 - rest) == 0;
}

int read_range(const char *text, char **value, char why[WHY_SIZE])
{
    struct address_range r;

    if (strcmp(text, "private") != 0 && strcmp(text, "any") != 0 && !range_parse(text, &r))
        return refuse(why, "is not an address or a range of addresses", text);
    *value = mem_copy(text, strlen(text));
    return 0;
}

static bool text_has(const char *text, const uint8_t address[16])
{
    struct address_range r;

    if (strcmp(text, "any") == 0)
        return true;
    if (strcmp(text, "private") != 0)
        return range_parse(text, &r) && range_has(&r, address);
    for (size_t i = 0; i < sizeof private_ranges / sizeof private_ranges[0]; i++) {
        if (text_has(private_ranges[i], address))
            return true;
    }
    return false;
}

bool config_address_matches(char *const *ranges, unsigned count, const char *address)
{
    uint8_t bytes[16];
    bool is_v4;

    if (!read_ip(address, bytes, &is_v4))
        return strcmp(address, "unix") == 0;
    for (unsigned i = 0; i < count; i++) {
        if (text_has(ranges[i], bytes))
            return true;
    }
    return false;
}

static bool pattern_matches(const char *pattern, const char *host)
{
    const char *port = port_of(pattern);
    const char *host_port = port_of(host);
    if (port != NULL && (host_port == NULL || strcmp(port, host_port) != 0))
        return false;
    const char *name = *pattern == '*' ? pattern + 1 : pattern;
    size_t len = port == NULL ? strlen(name) : (size_t)(port - name);
    size_t host_len = host_port == NULL ? strlen(host) : (size_t)(host_port - host);
    if (*pattern == '*' ? host_len <= len : host_len != len)
        return false;
    return strncasecmp(host + host_len - len, name, len) == 0;
}

bool config_host_matches(char *const *patterns, unsigned count, const char *host)
{
    if (!name_is_registry(host, strlen(host)))
        return false;
    for (unsigned i = 0; i < count; i++) {
        if (pattern_matches(patterns[i], host))
            return true;
    }
    return false;
}
