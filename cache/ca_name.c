/* SPDX-License-Identifier: ISC */
#include "cache/ca_private.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "cache/name.h"

#define V4_LEN 4
#define V6_LEN 16

/* --- from text --- */

static bool parse_address(struct ca_name *n, const char *text)
{
    struct in6_addr v6;

    if (inet_pton(AF_INET, text, n->address) == 1) {
        n->address_len = V4_LEN;
        return true;
    }
    /* Some verifiers take ::ffff:a.b.c.d for a.b.c.d, others do not: no name for either. */
    if (inet_pton(AF_INET6, text, &v6) != 1 || IN6_IS_ADDR_V4MAPPED(&v6))
        return false;
    memcpy(n->address, &v6, sizeof v6);
    n->address_len = V6_LEN;
    return true;
}

/* A last label of digits only would be read as an address by some. */
static bool is_host(const char *text)
{
    const char *last = strrchr(text, '.');

    last = last != NULL ? last + 1 : text;
    return strchr(text, ':') == NULL && strchr(text, '[') == NULL &&
           name_is_registry(text, strlen(text)) && last[strspn(last, "0123456789")] != '\0';
}

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

int ca_name_parse(struct ca_name *n, const char *text)
{
    size_t len = strlen(text);

    memset(n, 0, sizeof *n);
    if (len >= sizeof n->text)
        return ERR_INVALID;
    if (parse_address(n, text))
        return 0;
    if (!is_host(strncmp(text, "*.", 2) == 0 ? text + 2 : text))
        return ERR_INVALID;
    for (size_t i = 0; i < len; i++)
        n->text[i] = to_lower(text[i]);
    return 0;
}

bool ca_name_is_wildcard(const struct ca_name *n)
{
    return n->text[0] == '*';
}

/* --- into certificates --- */

static void set_general(GENERAL_NAME *g, int type, const void *data, size_t len)
{
    ASN1_STRING *s =
        ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);

    CHECK(s != NULL && ASN1_STRING_set(s, data, (int)len) == 1);
    GENERAL_NAME_set0_value(g, type, s);
}

void ca_names_add_to(X509 *x, const struct ca_name *names, size_t count)
{
    GENERAL_NAMES *list = GENERAL_NAMES_new();

    CHECK(list != NULL);
    for (size_t i = 0; i < count; i++) {
        const struct ca_name *n = &names[i];
        GENERAL_NAME *g = GENERAL_NAME_new();

        CHECK(g != NULL);
        if (n->address_len > 0)
            set_general(g, GEN_IPADD, n->address, n->address_len);
        else
            set_general(g, GEN_DNS, n->text, strlen(n->text));
        CHECK(sk_GENERAL_NAME_push(list, g) > 0);
    }
    CHECK(X509_add1_ext_i2d(x, NID_subject_alt_name, list, 0, X509V3_ADD_DEFAULT) == 1);
    GENERAL_NAMES_free(list);
}

static void add_subtree(STACK_OF(GENERAL_SUBTREE) * *list, int type, const void *data, size_t len)
{
    GENERAL_SUBTREE *subtree = GENERAL_SUBTREE_new();

    if (*list == NULL)
        *list = sk_GENERAL_SUBTREE_new_null();
    CHECK(*list != NULL && subtree != NULL);
    set_general(subtree->base, type, data, len);
    CHECK(sk_GENERAL_SUBTREE_push(*list, subtree) > 0);
}

/* One address, or with `any` all addresses of its kind. */
static void add_range(STACK_OF(GENERAL_SUBTREE) * *list, const uint8_t *address, size_t len,
                      bool any)
{
    uint8_t range[2 * V6_LEN] = {0};

    if (!any) {
        memcpy(range, address, len);
        memset(range + len, 0xff, len);
    }
    add_subtree(list, GEN_IPADD, range, 2 * len);
}

/* Whether a name has an address of this length; 0: is a DNS name. */
static bool any_has_length(const struct ca_name *names, size_t count, size_t address_len)
{
    for (size_t i = 0; i < count; i++)
        if (names[i].address_len == address_len)
            return true;
    return false;
}

/* A kind of name of which some are permitted needs no exclusion: verifiers deny the rest, and an
 * exclusion would win over what is permitted. Of mail addresses and URIs none is wanted, but an
 * exclusion of all has no one spelling that all verifiers understand: permit those at a host that
 * never exists (RFC 6761 section 6.4). */
void ca_names_limit(X509 *x, const struct ca_name *names, size_t count)
{
    static const char nowhere[] = "invalid";
    NAME_CONSTRAINTS *limits = NAME_CONSTRAINTS_new();

    CHECK(limits != NULL);
    for (size_t i = 0; i < count; i++) {
        const struct ca_name *n = &names[i];
        const char *base = ca_name_is_wildcard(n) ? n->text + 1 : n->text;

        if (n->address_len > 0)
            add_range(&limits->permittedSubtrees, n->address, n->address_len, false);
        else
            add_subtree(&limits->permittedSubtrees, GEN_DNS, base, strlen(base));
    }
    add_subtree(&limits->permittedSubtrees, GEN_EMAIL, nowhere, strlen(nowhere));
    add_subtree(&limits->permittedSubtrees, GEN_URI, nowhere, strlen(nowhere));
    if (!any_has_length(names, count, 0))
        add_subtree(&limits->excludedSubtrees, GEN_DNS, "", 0);
    if (!any_has_length(names, count, V4_LEN))
        add_range(&limits->excludedSubtrees, NULL, V4_LEN, true);
    if (!any_has_length(names, count, V6_LEN))
        add_range(&limits->excludedSubtrees, NULL, V6_LEN, true);
    CHECK(X509_add1_ext_i2d(x, NID_name_constraints, limits, 1, X509V3_ADD_DEFAULT) == 1);
    NAME_CONSTRAINTS_free(limits);
}

/* --- out of them --- */

/* NULL for what ca_names_limit does not write. */
static char *range_text(const ASN1_STRING *range)
{
    char text[INET6_ADDRSTRLEN];
    const uint8_t *bytes = ASN1_STRING_get0_data(range);
    int len = ASN1_STRING_length(range) / 2;

    if (len != V4_LEN && len != V6_LEN)
        return NULL;
    for (int i = len; i < 2 * len; i++)
        if (bytes[i] != 0xff)
            return NULL;
    CHECK(inet_ntop(len == V4_LEN ? AF_INET : AF_INET6, bytes, text, sizeof text) != NULL);
    return mem_copy(text, strlen(text));
}

static char *subtree_text(const GENERAL_SUBTREE *subtree)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(subtree->base, &type);

    if (type == GEN_IPADD)
        return range_text(value);
    if (type != GEN_DNS)
        return NULL;
    const char *base = (const char *)ASN1_STRING_get0_data(value);
    int len = ASN1_STRING_length(value);

    return mem_format("%s%.*s", len > 0 && base[0] == '.' ? "*" : "", len, base);
}

void ca_names_list(struct ca *ca)
{
    const STACK_OF(GENERAL_SUBTREE) *permitted = ca->limits->permittedSubtrees;
    int count = permitted != NULL ? sk_GENERAL_SUBTREE_num(permitted) : 0;

    ca->names = mem_new((size_t)count * sizeof ca->names[0]);
    for (int i = 0; i < count; i++) {
        char *text = subtree_text(sk_GENERAL_SUBTREE_value(permitted, i));

        if (text != NULL)
            ca->names[ca->name_count++] = text;
    }
}
