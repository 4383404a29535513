/* SPDX-License-Identifier: ISC */
/* Who used a blob: the latest of them, and not for longer than the blob is there. */
#include "cache/clients.h"

#include "cache/blob.h"
#include "cache/err.h"
#include "tests/unit/scratch.h"

struct bed {
    struct scratch *scratch;
    struct db_txn *txn;
    struct digest held;
};

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);
    static const struct blob_record r = {.size_bytes = 1, .origin = BLOB_PUBLIC};

    assert_non_null(b);
    assert_int_equal(scratch_setup((void **)&b->scratch), 0);
    b->txn = scratch_write(b->scratch);
    b->held = scratch_digest("held");
    assert_int_equal(blob_put(b->txn, &b->held, &r), 0);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    db_abort(&b->txn);
    assert_int_equal(scratch_teardown((void **)&b->scratch), 0);
    free(b);
    return 0;
}

static struct in6_addr address(const char *text)
{
    struct in6_addr a;

    assert_int_equal(inet_pton(AF_INET6, text, &a), 1);
    return a;
}

static void note(struct bed *b, const char *text, int64_t now_s)
{
    struct in6_addr a = address(text);

    assert_int_equal(clients_note(b->txn, &b->held, &a, 1, now_s), 0);
}

static void expect(const struct clients *c, size_t i, const char *text, int64_t used_at_s)
{
    char found[INET6_ADDRSTRLEN];

    assert_true(i < c->count);
    assert_string_equal(client_text(&c->list[i], found), text);
    assert_int_equal(c->list[i].used_at_s, used_at_s);
}

static void test_the_latest_is_the_first(void **state)
{
    struct bed *b = *state;
    struct clients c;

    assert_int_equal(clients_get(b->txn, &b->held, &c), ERR_NOT_FOUND);
    note(b, "::ffff:192.0.2.7", 10);
    note(b, "2001:db8::1", 20);
    note(b, "::ffff:192.0.2.7", 30);
    assert_int_equal(clients_get(b->txn, &b->held, &c), 0);
    assert_int_equal(c.count, 2);
    expect(&c, 0, "192.0.2.7", 30);
    expect(&c, 1, "2001:db8::1", 20);
}

static void test_no_more_than_there_is_room_for(void **state)
{
    struct bed *b = *state;
    char text[INET6_ADDRSTRLEN];
    struct clients c;

    for (int i = 1; i <= CLIENTS_MAX + 2; i++) {
        snprintf(text, sizeof text, "2001:db8::%d", i);
        note(b, text, i);
    }
    assert_int_equal(clients_get(b->txn, &b->held, &c), 0);
    assert_int_equal(c.count, CLIENTS_MAX);
    expect(&c, 0, "2001:db8::10", CLIENTS_MAX + 2);
    expect(&c, CLIENTS_MAX - 1, "2001:db8::3", 3);
}

static void test_many_at_once(void **state)
{
    struct bed *b = *state;
    struct in6_addr many[CLIENTS_MAX + 1];
    struct clients c;

    note(b, "2001:db8:1::1", 1);
    for (size_t i = 0; i <= CLIENTS_MAX; i++) {
        many[i] = address("2001:db8::");
        many[i].s6_addr[15] = (uint8_t)i;
    }
    assert_int_equal(clients_note(b->txn, &b->held, many, CLIENTS_MAX + 1, 2), 0);
    assert_int_equal(clients_get(b->txn, &b->held, &c), 0);
    assert_int_equal(c.count, CLIENTS_MAX);
    expect(&c, CLIENTS_MAX - 1, "2001:db8::7", 2);
    assert_int_equal(clients_note(b->txn, &b->held, many, 0, 3), 0);
}

static void test_they_go_with_the_blob(void **state)
{
    struct bed *b = *state;
    struct digest unknown = scratch_digest("unknown");
    struct in6_addr a = address("2001:db8::1");
    uint64_t count;

    note(b, "::ffff:192.0.2.7", 10);
    assert_int_equal(blob_forget(b->txn, &b->held), 0);
    note(b, "::ffff:192.0.2.7", 20);
    assert_int_equal(clients_note(b->txn, &unknown, &a, 1, 1), 0);
    assert_int_equal(db_count(b->txn, DB_CLIENTS, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(clients_forget(b->txn, &b->held), 0);
}

static void put_raw(struct bed *b, const void *bytes, size_t len)
{
    uint8_t key[DIGEST_KEY_MAX];

    assert_int_equal(db_put(b->txn, DB_CLIENTS, key, digest_to_key(&b->held, key), bytes, len), 0);
}

static void test_damage_is_begun_anew(void **state)
{
    struct bed *b = *state;
    struct clients c;
    uint8_t twice[2 + 2 * 24] = {1, 2};
    uint8_t many[2 + (CLIENTS_MAX + 1) * 24] = {1, CLIENTS_MAX + 1};

    put_raw(b, twice, sizeof twice);
    assert_int_equal(clients_get(b->txn, &b->held, &c), ERR_DAMAGED);
    put_raw(b, twice, sizeof twice - 1);
    assert_int_equal(clients_get(b->txn, &b->held, &c), ERR_DAMAGED);
    put_raw(b, "\2\0", 2);
    assert_int_equal(clients_get(b->txn, &b->held, &c), ERR_DAMAGED);
    for (uint8_t i = 0; i <= CLIENTS_MAX; i++)
        many[2 + i * 24] = i;
    put_raw(b, many, sizeof many);
    assert_int_equal(clients_get(b->txn, &b->held, &c), ERR_DAMAGED);
    note(b, "2001:db8::1", 5);
    assert_int_equal(clients_get(b->txn, &b->held, &c), 0);
    assert_int_equal(c.count, 1);
    expect(&c, 0, "2001:db8::1", 5);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(test_the_latest_is_the_first),
        T(test_no_more_than_there_is_room_for),
        T(test_many_at_once),
        T(test_they_go_with_the_blob),
        T(test_damage_is_begun_anew),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
