/* SPDX-License-Identifier: ISC */
#include "proxy/access.h"

#include <stdio.h>
#include <string.h>

#include "proxy/config_match.h"

/* Whether a rule is for this, whoever asks. */
static bool is_about(const struct config_access *a, const char *peer, const struct name *repository,
                     enum right right)
{
    if ((a->allow & right) == 0 || (right != RIGHT_PULL && !name_is_local(repository)))
        return false;
    return config_address_matches(a->addresses, a->address_count, peer) &&
           config_repository_matches(a->repositories, a->repository_count, repository);
}

static bool is_for(const struct config_access *a, const char *user)
{
    if (a->user_count == 0)
        return true;
    for (unsigned i = 0; user != NULL && i < a->user_count; i++) {
        if (strcmp(a->users[i], "*") == 0 || strcmp(a->users[i], user) == 0)
            return true;
    }
    return false;
}

bool access_allows(const struct config *c, const char *peer, const char *user,
                   const struct name *repository, enum right right)
{
    for (unsigned i = 0; i < c->access_count; i++) {
        const struct config_access *a = &c->access[i];
        if (is_for(a, user) && is_about(a, peer, repository, right))
            return true;
    }
    return false;
}

bool access_any_user_could(const struct config *c, const char *peer, const struct name *repository,
                           enum right right)
{
    if (right != RIGHT_PULL && !name_is_local(repository))
        return false;
    if (c->auth.token_key != NULL)
        return true;
    for (unsigned i = 0; i < c->access_count; i++) {
        if (c->access[i].user_count > 0 && is_about(&c->access[i], peer, repository, right))
            return true;
    }
    return false;
}

bool access_wants_users(const struct config *c, const char *peer)
{
    if (c->auth.token_key != NULL)
        return true;
    for (unsigned i = 0; i < c->access_count; i++) {
        const struct config_access *a = &c->access[i];
        if (a->user_count > 0 && a->allow != 0 &&
            config_address_matches(a->addresses, a->address_count, peer))
            return true;
    }
    return false;
}

/* --- for people --- */

static bool has_address(const struct config_access *a, const char *word)
{
    for (unsigned i = 0; i < a->address_count; i++) {
        if (strcmp(a->addresses[i], word) == 0)
            return true;
    }
    return false;
}

/* The most that a rule, or all of them, opens. */
enum reach { REACH_NOBODY, REACH_USERS, REACH_SOME, REACH_PRIVATE, REACH_ANY };

static enum reach reach_of(const struct config_access *a, enum right right)
{
    if ((a->allow & right) == 0 || a->address_count == 0 || a->repository_count == 0)
        return REACH_NOBODY;
    if (a->user_count > 0)
        return REACH_USERS;
    if (has_address(a, "any"))
        return REACH_ANY;
    return has_address(a, "private") ? REACH_PRIVATE : REACH_SOME;
}

static const char *reach_words(const struct config *c, enum right right)
{
    static const char *const words[] = {
        [REACH_NOBODY] = "nobody",
        [REACH_USERS] = "users with a password",
        [REACH_SOME] = "everybody at some addresses",
        [REACH_PRIVATE] = "everybody at private addresses",
        [REACH_ANY] = "everybody at any address",
    };
    enum reach most = REACH_NOBODY;

    for (unsigned i = 0; i < c->access_count; i++) {
        enum reach reach = reach_of(&c->access[i], right);
        most = reach > most ? reach : most;
    }
    return words[most];
}

char *access_describe(const struct config *c, char out[ACCESS_SENTENCE_SIZE])
{
    snprintf(
        out, ACCESS_SENTENCE_SIZE,
        "local repositories: %s may pull, %s may push, %s may delete%s; sections [access NAME] "
        "with addresses, users, repositories and allow = pull push delete change that",
        reach_words(c, RIGHT_PULL), reach_words(c, RIGHT_PUSH), reach_words(c, RIGHT_DELETE),
        c->auth.token_key != NULL ? ", and who has a token what it grants" : "");
    return out;
}
