/* SPDX-License-Identifier: ISC */
/* Logins, a password file, a token server's key, and a queue for the answers. */
#ifndef TESTS_UNIT_LOGIN_BED_H
#define TESTS_UNIT_LOGIN_BED_H

#include <crypt.h>

#include "proxy/login.h"
#include "proxy/secret.h"
#include "proxy/thread.h"
#include "tests/unit/jwt_bed.h"
#include "tests/unit/scratch.h"

#define DEADLINE_MS 20000
#define THREADS 2

/* A hash of this cost, owned by the caller. */
static inline char *hash_of(const char *password, unsigned cost)
{
    struct crypt_data data = {0};
    char setting[64];

    assert_non_null(
        crypt_gensalt_rn("$2y$", cost, "0123456789abcdef", 16, setting, sizeof setting));
    const char *made = crypt_rn(password, setting, &data, sizeof data);
    assert_non_null(made);
    return mem_copy(made, strlen(made));
}

struct bed {
    char dir[64];
    struct config *config;
    struct logins *logins;
    struct queue *queue;
    EVP_PKEY *pair;
    struct login_check *check; /* the last one, while it waits */
    unsigned answers;
    struct login last;
};

static inline struct config *bed_load(struct bed *b, const char *text)
{
    struct config *c;

    scratch_file(b->dir, "c.ini", text, strlen(text));
    if (config_load(&c, scratch_path(b->dir, "c.ini"), stderr) != 0)
        fail_msg("the configuration was refused");
    return c;
}

static inline void write_users(struct bed *b, const char *alice, unsigned alice_cost)
{
    char *of_alice = hash_of(alice, alice_cost);
    char *of_bob = hash_of("b:o b", 5);
    char *lines = mem_format("alice:%s\nbob:%s\n", of_alice, of_bob);

    scratch_file(b->dir, "htpasswd", lines, strlen(lines));
    free(lines);
    free(of_bob);
    free(of_alice);
}

static inline struct config *load_passwords(struct bed *b)
{
    char *text = mem_format("[auth]\npassword-file = %s/htpasswd\n[access everybody]\n"
                            "[access team]\nusers = alice\nallow = pull push\n",
                            b->dir);
    struct config *c = bed_load(b, text);

    free(text);
    return c;
}

static inline int bed_setup(void **state)
{
    struct bed *b = mem_new(sizeof *b);

    scratch_dir(b->dir);
    b->pair = EVP_EC_gen("P-256");
    b->queue = queue_new();
    b->logins = logins_start(THREADS);
    write_users(b, "sesame", 4);
    b->config = load_passwords(b);
    *state = b;
    return 0;
}

static inline int bed_teardown(void **state)
{
    struct bed *b = *state;

    login_cancel(&b->check);
    logins_stop(&b->logins);
    queue_run(b->queue, NULL);
    queue_free(&b->queue);
    config_unref(&b->config);
    EVP_PKEY_free(b->pair);
    scratch_remove(b->dir);
    free(b);
    return 0;
}

static inline void done(void *arg, const struct login *l)
{
    struct bed *b = arg;

    b->check = NULL;
    b->answers++;
    b->last = *l;
}

static const struct name app = {"", "team/app"};

static inline struct login_check *begin_at(struct bed *b, const char *peer, const char *field,
                                           struct login *now)
{
    struct login_order o = {
        .config = b->config,
        .authorization = field,
        .peer = peer,
        .repository = &app,
        .answers = b->queue,
        .done = done,
        .arg = b,
    };
    struct login_check *c = login_begin(b->logins, &o, now);

    assert_int_equal(c != NULL, now->result == LOGIN_PENDING);
    return c;
}

static inline struct login_check *begin_user(struct bed *b, const char *peer, const char *user,
                                             const char *password, struct login *now)
{
    char *field = secret_basic(user, password);
    struct login_check *c = begin_at(b, peer, field, now);

    secret_free(field);
    return c;
}

static inline void await_answers(struct bed *b, unsigned count)
{
    int64_t end_ms = clock_now_ms() + DEADLINE_MS;

    while (b->answers < count) {
        if (clock_now_ms() > end_ms)
            fail_msg("%u answers of %u", b->answers, count);
        queue_wait(b->queue, 100);
        queue_run(b->queue, NULL);
    }
}

/* The whole way of one password. */
static inline struct login try(struct bed *b, const char *peer, const char *user,
                               const char *password)
{
    struct login now;

    b->answers = 0;
    b->check = begin_user(b, peer, user, password, &now);
    if (b->check == NULL)
        return now;
    await_answers(b, 1);
    assert_null(b->check);
    return b->last;
}

static inline struct login try_field(struct bed *b, const char *field)
{
    struct login now;

    assert_null(begin_at(b, "10.0.0.1", field, &now));
    return now;
}

#endif
