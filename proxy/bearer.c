/* SPDX-License-Identifier: ISC */
#include "proxy/bearer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/json_list.h"
#include "cache/signature.h"
#include "proxy/base64.h"
#include "proxy/guarded.h"
#include "proxy/right.h"
#include "proxy/span.h"

#define KEY_FILE_MAX (64u * 1024)

/* --- the key --- */

int bearer_key_read(struct signature_key **key, const char *path, char *why, size_t why_size)
{
    char fault[128];
    int fd;
    int err = guarded_open(path, GUARD_TRUSTED, &fd, why, why_size);

    if (err != 0)
        return err;
    FILE *in = fdopen(fd, "r");
    CHECK(in != NULL);
    char *text = mem_new(KEY_FILE_MAX + 1);
    size_t len = fread(text, 1, KEY_FILE_MAX + 1, in);
    if (ferror(in)) {
        snprintf(why, why_size, "%s cannot be read", path);
        err = ERR_IO;
    } else if (len > KEY_FILE_MAX) {
        snprintf(why, why_size, "%s is larger than %u bytes", path, KEY_FILE_MAX);
        err = ERR_TOO_LARGE;
    } else {
        err = signature_key_parse(key, text, len, fault, sizeof fault);
        if (err != 0)
            snprintf(why, why_size, "%s %s", path, fault);
    }
    fclose(in);
    free(text);
    return err;
}

/* --- claims --- */

static int refuse(const char **why, const char *what)
{
    *why = what;
    return ERR_INVALID;
}

static unsigned rights_of(const struct json_t *access)
{
    static const struct {
        const char *action;
        unsigned rights;
    } actions[] = {
        {"pull", RIGHT_PULL}, {"push", RIGHT_PUSH}, {"delete", RIGHT_DELETE}, {"*", RIGHTS_ALL}};
    unsigned rights = 0;

    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (json_member_has_text(access, "actions", actions[i].action))
            rights |= actions[i].rights;
    }
    return rights;
}

/* Upstreams' may be pulled from, whatever a token server thinks. */
static unsigned limit_rights(unsigned rights, const struct name *repository)
{
    return repository == NULL || !name_is_local(repository) ? rights & RIGHT_PULL : rights;
}

/* What a claim of access is looked through for. */
struct wanted {
    const char *type, *name;
    unsigned grants;
};

static void take_access(void *arg, const struct json_t *access)
{
    struct wanted *w = arg;
    const char *type = json_member_text(access, "type");
    const char *name = json_member_text(access, "name");

    if (type != NULL && name != NULL && strcmp(type, w->type) == 0 && strcmp(name, w->name) == 0)
        w->grants |= rights_of(access);
}

static unsigned grants_of(const struct json_t *claims, const struct name *repository)
{
    char text[NAME_MAX_SIZE] = "catalog";
    struct wanted w = {.type = repository != NULL ? "repository" : "registry", .name = text};

    if (repository != NULL)
        name_text(repository, text);
    json_member_walk(claims, "access", take_access, &w);
    return limit_rights(w.grants, repository);
}

/* For the log; what is not of visible ASCII shows as '?'. */
static void take_subject(const struct json_t *claims, char out[BEARER_SUBJECT_SIZE])
{
    const char *subject = json_member_text(claims, "sub");

    snprintf(out, BEARER_SUBJECT_SIZE, "%s", subject != NULL ? subject : "");
    for (char *p = out; *p != '\0'; p++)
        *p = *p < 0x20 || *p > 0x7e ? '?' : *p;
}

/* RFC 7519 section 4.1.4 to 4.1.6 */
static int check_times(const struct json_t *claims, int64_t now_s, const char **why)
{
    int64_t expires_s, begins_s = 0, issued_s = 0;
    int begins_err = json_member_time(claims, "nbf", &begins_s);
    int issued_err = json_member_time(claims, "iat", &issued_s);

    if (json_member_time(claims, "exp", &expires_s) != 0)
        return refuse(why, "the token does not say when it expires");
    if (begins_err == ERR_INVALID || issued_err == ERR_INVALID)
        return refuse(why, "the token has a time that is none");
    if (now_s - BEARER_LEEWAY_S >= expires_s)
        return refuse(why, "the token has expired");
    if (now_s + BEARER_LEEWAY_S < begins_s || now_s + BEARER_LEEWAY_S < issued_s)
        return refuse(why, "the token is not valid yet");
    return 0;
}

static int check_claims(const struct bearer_policy *p, const struct json_t *claims, int64_t now_s,
                        const char **why)
{
    const char *issuer = json_member_text(claims, "iss");

    if (issuer == NULL || strcmp(issuer, p->issuer) != 0)
        return refuse(why, "the token is of another issuer");
    if (!json_member_has_text(claims, "aud", p->service))
        return refuse(why, "the token is for another service");
    return check_times(claims, now_s, why);
}

/* The claims, once they are good; to be wiped. */
static int open_claims(const struct bearer_policy *p, const char *json, size_t len, int64_t now_s,
                       struct json_t **claims, const char **why)
{
    char unsaid[256]; /* it may quote the token */

    if (json_parse(claims, json, len, unsaid, sizeof unsaid) != 0)
        return refuse(why, "the token's claims are not a JSON object");
    int err = check_claims(p, *claims, now_s, why);
    if (err != 0)
        json_wipe(claims);
    return err;
}

static void take_claims(struct json_t *claims, const struct name *repository, struct bearer *b)
{
    take_subject(claims, b->subject);
    b->grants = grants_of(claims, repository);
    json_wipe(&claims);
}

int bearer_read_claims(const struct bearer_policy *p, const char *json, size_t len, int64_t now_s,
                       const struct name *repository, struct bearer *b, const char **why)
{
    struct json_t *claims;

    *b = (struct bearer){.grants = 0};
    int err = open_claims(p, json, len, now_s, &claims, why);
    if (err == 0)
        take_claims(claims, repository, b);
    return err;
}

/* --- the token --- */

/* The three parts, RFC 7515 section 3.1; a signature has no dot. */
struct parts {
    struct span head, claims, signature;
    struct span is_signed; /* head, dot, claims */
};

static bool cut(struct parts *p, const char *token, size_t len)
{
    struct span rest = {token, len};

    p->head = span_cut(&rest, '.');
    if (rest.p == NULL)
        return false;
    p->claims = span_cut(&rest, '.');
    p->signature = rest;
    p->is_signed = (struct span){token, rest.p == NULL ? len : (size_t)(rest.p - token) - 1};
    return rest.p != NULL;
}

/* The bytes of a part, owned by the caller; NULL when it is not in base64. */
static uint8_t *decode(struct span part, size_t *len)
{
    uint8_t *out = mem_new(BASE64_BYTES_MAX(part.len));

    if (base64_decode(BASE64_URL, part.p, part.len, out, len) == 0)
        return out;
    free(out);
    return NULL;
}

/* The algorithm is not the token's to choose: it must name the one that the key is for. A
 * key in the head ("jwk", "x5c") counts for nothing, nor does the name of one ("kid"). */
static int check_head(const struct bearer_policy *p, struct span part, const char **why)
{
    struct json_t *head;
    char unsaid[256];
    size_t len;
    uint8_t *text = decode(part, &len);
    int err = text == NULL ? ERR_INVALID : json_parse(&head, text, len, unsaid, sizeof unsaid);

    free(text);
    if (err != 0)
        return refuse(why, "it is not a JSON Web Token");
    const char *algorithm = json_member_text(head, "alg");
    if (algorithm == NULL || strcmp(algorithm, signature_algorithm(p->key)) != 0)
        err = refuse(why, "the token is not signed with the algorithm of the key");
    else if (json_has_member(head, "crit"))
        err = refuse(why, "the token has critical extensions");
    json_wipe(&head);
    return err;
}

static bool is_signed_by(const struct bearer_policy *p, const struct parts *parts)
{
    size_t len;
    uint8_t *signature = decode(parts->signature, &len);
    bool is = signature != NULL &&
              signature_matches(p->key, parts->is_signed.p, parts->is_signed.len, signature, len);

    free(signature);
    return is;
}

static int open_token(const struct bearer_policy *p, const char *token, size_t len, int64_t now_s,
                      struct json_t **claims, const char **why)
{
    struct parts parts;
    size_t text_len;

    if (len > BEARER_TEXT_MAX)
        return refuse(why, "the token is longer than 16 KiB");
    if (!cut(&parts, token, len))
        return refuse(why, "it is not a JSON Web Token");
    int err = check_head(p, parts.head, why);
    if (err != 0)
        return err;
    if (!is_signed_by(p, &parts))
        return refuse(why, "the token's signature is not of the key");
    uint8_t *text = decode(parts.claims, &text_len);
    if (text == NULL)
        return refuse(why, "it is not a JSON Web Token");
    err = open_claims(p, (const char *)text, text_len, now_s, claims, why);
    explicit_bzero(text, text_len);
    free(text);
    return err;
}

int bearer_check(const struct bearer_policy *p, const char *token, size_t len, int64_t now_s,
                 const struct name *repository, struct bearer *b, const char **why)
{
    struct json_t *claims;

    *b = (struct bearer){.grants = 0};
    int err = open_token(p, token, len, now_s, &claims, why);
    if (err == 0)
        take_claims(claims, repository, b);
    return err;
}

/* --- all that it grants --- */

struct grant {
    char *name;
    unsigned rights;
};

/* By name; those of one name side by side. */
struct bearer_grants {
    size_t count, size;
    struct grant *rows;
};

static void add_grant(void *arg, const struct json_t *access)
{
    struct bearer_grants *g = arg;
    const char *type = json_member_text(access, "type");
    const char *name = json_member_text(access, "name");

    if (type == NULL || name == NULL || strcmp(type, "repository") != 0)
        return;
    if (g->count == g->size) {
        g->size = 2 * g->size + 8;
        g->rows = mem_resize(g->rows, g->size * sizeof *g->rows);
    }
    g->rows[g->count++] = (struct grant){mem_copy(name, strlen(name)), rights_of(access)};
}

static int compare_grants(const void *a, const void *b)
{
    return strcmp(((const struct grant *)a)->name, ((const struct grant *)b)->name);
}

int bearer_grants_read(const struct bearer_policy *p, const char *token, size_t len, int64_t now_s,
                       struct bearer_grants **g, const char **why)
{
    struct json_t *claims;

    int err = open_token(p, token, len, now_s, &claims, why);
    if (err != 0)
        return err;
    *g = mem_new(sizeof **g);
    json_member_walk(claims, "access", add_grant, *g);
    json_wipe(&claims);
    if ((*g)->count > 0)
        qsort((*g)->rows, (*g)->count, sizeof *(*g)->rows, compare_grants);
    return 0;
}

/* The first row whose name is not less. */
static size_t first_row(const struct bearer_grants *g, const char *name)
{
    size_t from = 0, to = g->count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (strcmp(g->rows[middle].name, name) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

unsigned bearer_grants_for(const struct bearer_grants *g, const struct name *repository)
{
    char name[NAME_MAX_SIZE];
    unsigned rights = 0;

    name_text(repository, name);
    for (size_t i = first_row(g, name); i < g->count && strcmp(g->rows[i].name, name) == 0; i++)
        rights |= g->rows[i].rights;
    return limit_rights(rights, repository);
}

void bearer_grants_free(struct bearer_grants **gp)
{
    struct bearer_grants *g = *gp;

    if (g == NULL)
        return;
    *gp = NULL;
    for (size_t i = 0; i < g->count; i++)
        free(g->rows[i].name);
    free(g->rows);
    free(g);
}
