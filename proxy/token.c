/* SPDX-License-Identifier: ISC */
#include "proxy/token.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "cache/err.h"
#include "cache/json.h"
#include "proxy/secret.h"

#define LIFE_DEFAULT_S 60
#define LIFE_MIN_S 60
#define LIFE_MAX_S (12 * 3600)
#define TOKENS_MAX 512

/* Held in the order of their coming. */
struct entry {
    char *key;
    struct token token;
    UT_hash_handle hh;
};

struct token_cache {
    struct entry *entries;
};

/* --- the answer --- */

static bool is_fit_for_field(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= 0x20 || *text >= 0x7f)
            return false;
    }
    return true;
}

static int64_t life_of(const struct json_t *answer)
{
    int64_t life_s;

    if (!json_member_number(answer, "expires_in", &life_s))
        life_s = LIFE_DEFAULT_S;
    if (life_s < LIFE_MIN_S)
        life_s = LIFE_MIN_S;
    if (life_s > LIFE_MAX_S)
        life_s = LIFE_MAX_S;
    return life_s * 1000;
}

int token_parse(struct token *t, const void *answer, size_t len, int64_t asked_ms, char *why,
                size_t why_size)
{
    struct json_t *json;
    char parser_why[256]; /* may quote the answer */
    int err = ERR_INVALID;

    if (json_parse(&json, answer, len, parser_why, sizeof parser_why) != 0) {
        explicit_bzero(parser_why, sizeof parser_why);
        snprintf(why, why_size, "the answer is not a JSON object");
        return ERR_INVALID;
    }
    const char *text = json_member_text(json, "token");
    if (text == NULL || *text == '\0')
        text = json_member_text(json, "access_token");
    if (text == NULL || *text == '\0') {
        snprintf(why, why_size, "the answer has no token");
    } else if (strlen(text) > TOKEN_TEXT_MAX) {
        snprintf(why, why_size, "the token is longer than %u bytes", TOKEN_TEXT_MAX);
    } else if (!is_fit_for_field(text)) {
        snprintf(why, why_size, "the token has characters that none may have");
    } else {
        *t = (struct token){mem_copy(text, strlen(text)), asked_ms, life_of(json)};
        err = 0;
    }
    json_wipe(&json);
    return err;
}

void token_clear(struct token *t)
{
    secret_free(t->text);
    *t = (struct token){.text = NULL};
}

bool token_is_due(const struct token *t, int64_t now_ms)
{
    return now_ms - t->got_ms >= t->life_ms / 5 * 4;
}

/* --- the question --- */

/* Parameters as application/x-www-form-urlencoded, which a query may be too. */
struct params {
    char *at;
    char separator; /* before the next one */
};

static void put_text(struct params *p, const char *text)
{
    p->at = stpcpy(p->at, text);
}

static void put_param(struct params *p, const char *name, const char *value, size_t len)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    static const char hex[] = "0123456789ABCDEF";

    if (len == 0)
        return;
    *p->at++ = p->separator;
    p->separator = '&';
    put_text(p, name);
    *p->at++ = '=';
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if (strchr(plain, c) != NULL) {
            *p->at++ = (char)c;
        } else {
            *p->at++ = '%';
            *p->at++ = hex[c >> 4];
            *p->at++ = hex[c & 15];
        }
    }
}

/* The most that a parameter takes: each byte three, and each word its name. */
static size_t param_room(const char *name, const char *value)
{
    size_t words = 1;

    for (const char *p = value; *p != '\0'; p++)
        words += *p == ' ';
    return 3 * strlen(value) + words * (strlen(name) + 2);
}

static void put_scope(struct params *p, const char *scope)
{
    while (*scope != '\0') {
        size_t word = strcspn(scope, " ");
        put_param(p, "scope", scope, word);
        scope += word + strspn(scope + word, " ");
    }
}

char *token_url(const char *realm, const char *service, const char *scope, const char *account)
{
    char *url =
        mem_new(strlen(realm) + param_room("service", service) + param_room("scope", scope) +
                param_room("account", account != NULL ? account : "") + 1);
    struct params p = {url, strchr(realm, '?') == NULL ? '?' : '&'};

    put_text(&p, realm);
    put_param(&p, "service", service, strlen(service));
    put_scope(&p, scope);
    if (account != NULL)
        put_param(&p, "account", account, strlen(account));
    return url;
}

char *token_form(const char *service, const char *scope, const char *refresh_token)
{
    static const char first[] = "grant_type=refresh_token&client_id=cachalot";
    char *form = mem_new(sizeof first + param_room("service", service) +
                         param_room("scope", scope) + param_room("refresh_token", refresh_token));
    struct params p = {form, '&'};

    put_text(&p, first);
    put_param(&p, "service", service, strlen(service));
    put_param(&p, "scope", scope, strlen(scope));
    put_param(&p, "refresh_token", refresh_token, strlen(refresh_token));
    return form;
}

/* --- those that are held --- */

/* No value has a newline: a challenge's have no control characters. */
static char *key_text(const struct token_key *k)
{
    return mem_format("%s\n%" PRIu64 "\n%s\n%s\n%s", k->registry, k->credential, k->realm,
                      k->service, k->scope);
}

static struct entry *find(struct token_cache *c, const struct token_key *key)
{
    char *text = key_text(key);
    struct entry *e;

    HASH_FIND_STR(c->entries, text, e);
    free(text);
    return e;
}

static void drop(struct token_cache *c, struct entry *e)
{
    HASH_DEL(c->entries, e);
    token_clear(&e->token);
    free(e->key);
    free(e);
}

struct token_cache *token_cache_new(void)
{
    return mem_new(sizeof(struct token_cache));
}

void token_cache_free(struct token_cache **cp)
{
    struct token_cache *c = *cp;

    if (c == NULL)
        return;
    *cp = NULL;
    while (c->entries != NULL)
        drop(c, c->entries);
    free(c);
}

const struct token *token_cache_find(struct token_cache *c, const struct token_key *key,
                                     int64_t now_ms)
{
    struct entry *e = find(c, key);

    if (e == NULL)
        return NULL;
    if (now_ms - e->token.got_ms < e->token.life_ms)
        return &e->token;
    drop(c, e);
    return NULL;
}

void token_cache_put(struct token_cache *c, const struct token_key *key, struct token *t)
{
    struct entry *e = find(c, key);

    if (e != NULL)
        drop(c, e);
    /* The first of the list came first. */
    if (HASH_COUNT(c->entries) >= TOKENS_MAX)
        drop(c, c->entries);
    e = mem_new(sizeof *e);
    e->key = key_text(key);
    e->token = *t;
    *t = (struct token){.text = NULL};
    HASH_ADD_KEYPTR(hh, c->entries, e->key, strlen(e->key), e);
}

void token_cache_drop(struct token_cache *c, const struct token_key *key, const char *text)
{
    struct entry *e = find(c, key);

    if (e != NULL && strcmp(e->token.text, text) == 0)
        drop(c, e);
}
