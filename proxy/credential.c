/* SPDX-License-Identifier: ISC */
#include "proxy/credential.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/json.h"
#include "proxy/guarded.h"
#include "proxy/secret.h"

void credential_free(struct credential **cp)
{
    struct credential *c = *cp;

    if (c == NULL)
        return;
    *cp = NULL;
    secret_free(c->username);
    secret_free(c->secret);
    free(c);
}

bool credential_equal(const struct credential *a, const struct credential *b)
{
    return a->is_identity == b->is_identity && strcmp(a->username, b->username) == 0 &&
           strcmp(a->secret, b->secret) == 0;
}

/* RFC 7617 section 2 */
static bool has_control_characters(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return true;
    }
    return false;
}

/* `whence` begins the sentence. */
static int credential_new(struct credential **c, const char *username, const char *secret,
                          const char *whence, char *why, size_t why_size)
{
    bool is_identity = strcmp(username, "<token>") == 0;
    const char *wrong = NULL;

    if (username[0] == '\0')
        wrong = "has no user name";
    else if (strlen(username) > CREDENTIAL_USERNAME_MAX)
        wrong = "has a user name that is too long";
    else if (has_control_characters(username) || strchr(username, ':') != NULL)
        wrong = "has a user name with a colon or control characters";
    else if (secret[0] == '\0')
        wrong = "has no secret";
    else if (strlen(secret) > CREDENTIAL_SECRET_MAX)
        wrong = "has a secret that is too long";
    else if (has_control_characters(secret))
        wrong = "has a secret with control characters";
    if (wrong != NULL) {
        snprintf(why, why_size, "%s %s", whence, wrong);
        return ERR_INVALID;
    }
    *c = mem_new(sizeof **c);
    (*c)->is_identity = is_identity;
    (*c)->username = is_identity ? mem_copy("", 0) : mem_copy(username, strlen(username));
    (*c)->secret = mem_copy(secret, strlen(secret));
    return 0;
}

/* --- from a file --- */

/* Without what ends the line: a second one is a mistake. */
static int take_line(char *text, size_t len, const char *path, char *why, size_t why_size)
{
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    text[len] = '\0';
    if (memchr(text, '\n', len) != NULL)
        snprintf(why, why_size,
                 "%s has several lines; of a JSON key, registries take the base64 form", path);
    else if (strlen(text) != len)
        snprintf(why, why_size, "%s has a NUL in it", path);
    else
        return 0;
    return ERR_INVALID;
}

static int read_line(int fd, char *text, size_t size, const char *path, char *why, size_t why_size)
{
    size_t len = 0;
    ssize_t n;

    while (len < size && (n = read(fd, text + len, size - len)) != 0) {
        if (n < 0 && errno != EINTR) {
            snprintf(why, why_size, "%s cannot be read: %s", path, strerror(errno));
            return ERR_IO;
        }
        len += n > 0 ? (size_t)n : 0;
    }
    if (len < size)
        return take_line(text, len, path, why, why_size);
    snprintf(why, why_size, "%s is larger than %u bytes", path, CREDENTIAL_SECRET_MAX);
    return ERR_TOO_LARGE;
}

int credential_read(struct credential **c, const char *username, const char *path, char *why,
                    size_t why_size)
{
    size_t size = CREDENTIAL_SECRET_MAX + 3; /* a line end and the NUL */
    char *text = mem_new(size);
    int fd;
    int err = guarded_open(path, GUARD_SECRET, &fd, why, why_size);

    if (err == 0)
        err = read_line(fd, text, size, path, why, why_size);
    if (err == 0)
        err = credential_new(c, username, text, path, why, why_size);
    if (fd >= 0)
        close(fd);
    explicit_bzero(text, size);
    free(text);
    return err;
}

/* --- from a helper --- */

int credential_parse(struct credential **c, const void *answer, size_t len, char *why,
                     size_t why_size)
{
    struct json_t *json;
    char parser_why[256]; /* may quote the answer */
    int err = ERR_INVALID;

    if (json_parse(&json, answer, len, parser_why, sizeof parser_why) != 0) {
        explicit_bzero(parser_why, sizeof parser_why);
        snprintf(why, why_size, "the helper's answer is not a JSON object");
        return ERR_INVALID;
    }
    const char *username = json_member_text(json, "Username");
    const char *secret = json_member_text(json, "Secret");
    if (username != NULL && secret != NULL)
        err = credential_new(c, username, secret, "the credential", why, why_size);
    else
        snprintf(why, why_size, "the helper's answer has no Username or no Secret");
    json_wipe(&json);
    return err;
}

const char *credential_server(const char *registry)
{
    return strcmp(registry, "docker.io") == 0 ? "https://index.docker.io/v1/" : registry;
}
