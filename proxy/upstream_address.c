/* SPDX-License-Identifier: ISC */
/*
 * Where a redirect must not lead: an upstream that is out of our control names
 * the host, and what it names must not be reached from inside our network with
 * cachalot's standing there.
 */
#include "proxy/upstream_hop.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

struct block {
    uint8_t prefix[16];
    unsigned bits;
    enum address_kind kind;
};

/* IANA special-purpose registries, RFC 6890 and its updates; the first that fits. */
static const struct block blocks_v4[] = {
    {{0}, 8, ADDRESS_RESERVED},          /* "this network" */
    {{10}, 8, ADDRESS_PRIVATE},          /* RFC 1918 */
    {{100, 64}, 10, ADDRESS_RESERVED},   /* shared, RFC 6598: some clouds keep metadata there */
    {{127}, 8, ADDRESS_RESERVED},        /* loopback */
    {{169, 254}, 16, ADDRESS_RESERVED},  /* link-local, metadata */
    {{172, 16}, 12, ADDRESS_PRIVATE},    /* RFC 1918 */
    {{192, 0, 0}, 24, ADDRESS_RESERVED}, /* protocol assignments */
    {{192, 168}, 16, ADDRESS_PRIVATE},   /* RFC 1918 */
    {{198, 18}, 15, ADDRESS_RESERVED},   /* benchmarks */
    {{224}, 3, ADDRESS_RESERVED},        /* multicast, reserved, broadcast */
};

static const struct block blocks_v6[] = {
    {{0}, 96, ADDRESS_RESERVED},                      /* unspecified, loopback, v4-compatible */
    {{0xfd, 0x00, 0x0e, 0xc2}, 32, ADDRESS_RESERVED}, /* metadata of a cloud */
    {{0xfc}, 7, ADDRESS_PRIVATE},                     /* unique local, RFC 4193 */
    {{0xfe, 0x80}, 9, ADDRESS_RESERVED},              /* link-local and site-local */
    {{0xff}, 8, ADDRESS_RESERVED},                    /* multicast */
};

/* IPv6 addresses that stand for an IPv4 address, and where it is in them. */
static const struct {
    struct block block;
    unsigned at;
} embedded[] = {
    {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, 0}, 12}, /* v4-mapped */
    {{{0x00, 0x64, 0xff, 0x9b}, 96, 0}, 12},                   /* NAT64, RFC 6052 */
    {{{0x20, 0x02}, 16, 0}, 2},                                /* 6to4, RFC 3056 */
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static bool is_in(const uint8_t *address, const struct block *b)
{
    unsigned whole = b->bits / 8, rest = b->bits % 8;

    if (memcmp(address, b->prefix, whole) != 0)
        return false;
    return rest == 0 || (address[whole] ^ b->prefix[whole]) >> (8 - rest) == 0;
}

static enum address_kind kind_in(const uint8_t *address, const struct block *blocks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_in(address, &blocks[i]))
            return blocks[i].kind;
    }
    return ADDRESS_PUBLIC;
}

static enum address_kind kind_v4(const uint8_t *address)
{
    return kind_in(address, blocks_v4, COUNT(blocks_v4));
}

static enum address_kind kind_v6(const uint8_t *address)
{
    for (size_t i = 0; i < COUNT(embedded); i++) {
        if (is_in(address, &embedded[i].block))
            return kind_v4(address + embedded[i].at);
    }
    return kind_in(address, blocks_v6, COUNT(blocks_v6));
}

enum address_kind address_kind(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        return kind_v4((const uint8_t *)&in.sin_addr);
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        return kind_v6(in6.sin6_addr.s6_addr);
    }
    return ADDRESS_RESERVED;
}

bool address_is_public(const struct sockaddr *sa)
{
    return address_kind(sa) == ADDRESS_PUBLIC;
}

bool address_text_is_public(const char *text)
{
    uint8_t address[16];

    if (inet_pton(AF_INET, text, address) == 1)
        return kind_v4(address) == ADDRESS_PUBLIC;
    return inet_pton(AF_INET6, text, address) == 1 && kind_v6(address) == ADDRESS_PUBLIC;
}
