/* SPDX-License-Identifier: ISC */
/* What is told to whom: fetches, images, events; and that it is JSON whatever is in it. */
#include "proxy/report.h"

#include <jansson.h>

#include "cache/blob.h"
#include "cache/pin.h"
#include "cache/repository.h"
#include "cache/tag.h"
#include "tests/unit/config_text.h"
#include "tests/unit/scratch.h"

#define HEX "0000000000000000000000000000000000000000000000000000000000000000"
#define MEDIA_TYPE "application/vnd.oci.image.manifest.v1+json"

/* Everybody may pull team/open, ann alone team/closed; what paid.test gives to the configured
 * credentials is for ann. */
#define SETTINGS                                                                                   \
    "[auth]\npassword-file = /x\n[upstream docker.io]\n"                                           \
    "[upstream paid.test]\nvisibility = private\nusername = x\npassword-file = /x\n"               \
    "[access all]\nrepositories = team/open\naddresses = any\n"                                    \
    "[access ann]\nrepositories = ** paid.test/**\nusers = ann\naddresses = any\n"

struct bed {
    struct scratch *scratch;
    struct config *config;
    struct db_reader *reader;
};

static void put_tag(struct db_txn *txn, const struct name *n, const char *tag, int64_t used_at_s)
{
    struct digest d = scratch_digest(tag);
    struct tag_record r = {
        .digest = d, .size_bytes = 10, .media_type = MEDIA_TYPE, .checked_at_s = 5};
    struct blob_record b = {
        .size_bytes = 10, .origin = BLOB_PUBLIC, .stored_at_s = 1, .used_at_s = used_at_s};

    assert_int_equal(tag_put(txn, n, tag, &r), 0);
    assert_int_equal(blob_put(txn, &d, &b), 0);
}

static void put_repository(struct db_txn *txn, struct name n, enum repository_visibility visibility)
{
    struct repository_record r = {.visibility = visibility, .checked_at_s = 1};

    assert_int_equal(repository_put(txn, &n, &r), 0);
}

static void fill(struct db_txn *txn)
{
    struct name open = scratch_local("team/open"), closed = scratch_local("team/closed");
    struct name hub = scratch_name("docker.io", "app"), secret = scratch_name("docker.io", "me/x");
    struct name paid = scratch_name("paid.test", "app"), gone = scratch_name("gone.test", "app");
    struct name unknown = scratch_name("docker.io", "me/unknown");

    put_repository(txn, hub, REPOSITORY_PUBLIC);
    put_repository(txn, secret, REPOSITORY_PRIVATE);
    put_repository(txn, paid, REPOSITORY_PUBLIC);
    put_repository(txn, gone, REPOSITORY_PUBLIC);
    put_tag(txn, &open, "o", 40);
    put_tag(txn, &closed, "c", 50);
    put_tag(txn, &hub, "a", 10);
    put_tag(txn, &hub, "b", 30);
    put_tag(txn, &hub, "z", 20);
    put_tag(txn, &secret, "s", 60);
    put_tag(txn, &paid, "p", 70);
    put_tag(txn, &gone, "g", 80);
    put_tag(txn, &unknown, "u", 90);
}

static int setup(void **state)
{
    struct bed *b = calloc(1, sizeof *b);

    b->scratch = scratch_new();
    b->config = load_good(SETTINGS);
    struct db_txn *txn = scratch_write(b->scratch);
    fill(txn);
    assert_int_equal(db_commit(&txn), 0);
    b->reader = scratch_reader(b->scratch);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bed *b = *state;

    db_reader_free(&b->reader);
    config_unref(&b->config);
    scratch_free(b->scratch);
    free(b);
    return 0;
}

static struct viewer viewer(struct bed *b, const char *user)
{
    return (struct viewer){
        .config = config_ref(b->config),
        .peer = mem_copy("192.168.1.2", 11),
        .user = user ? mem_copy(user, strlen(user)) : NULL,
    };
}

static json_t *parse(char *text, size_t len)
{
    json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

    assert_int_equal(len, strlen(text));
    if (!json)
        fail_msg("no JSON: %s", text);
    free(text);
    return json;
}

/* --- images --- */

/* The references, one after the other, as "a b c". */
static char *references(struct bed *b, struct viewer *v, const struct report_search *q,
                        json_int_t *total)
{
    struct db_txn *txn;
    char *text, *all = mem_copy("", 0);
    size_t len, i;
    json_t *row;

    assert_int_equal(db_read(b->reader, &txn), 0);
    assert_int_equal(report_images(v, txn, q, &text, &len), 0);
    db_read_end(b->reader);
    json_t *json = parse(text, len);
    *total = json_integer_value(json_object_get(json, "total"));
    json_array_foreach (json_object_get(json, "images"), i, row) {
        char *longer = mem_format("%s%s%s", all, i > 0 ? " " : "",
                                  json_string_value(json_object_get(row, "reference")));
        free(all);
        all = longer;
    }
    json_decref(json);
    return all;
}

static void expect_images(struct bed *b, struct viewer v, struct report_search q, json_int_t total,
                          const char *expected)
{
    json_int_t got_total;
    char *got = references(b, &v, &q, &got_total);

    assert_string_equal(got, expected);
    assert_int_equal(got_total, total);
    free(got);
    viewer_clear(&v);
}

#define APP "docker.io/library/app"
#define ALL ((struct report_search){.count = 50})

static void test_who_sees_which_images(void **state)
{
    struct bed *b = *state;
    struct viewer v;

    expect_images(b, viewer(b, NULL), ALL, 4, "team/open:o " APP ":a " APP ":b " APP ":z");
    expect_images(b, viewer(b, "ann"), ALL, 6,
                  "team/closed:c team/open:o " APP ":a " APP ":b " APP ":z paid.test/app:p");
    v = viewer(b, NULL);
    v.is_operator = true;
    expect_images(b, v, ALL, 9,
                  "team/closed:c team/open:o " APP ":a " APP ":b " APP ":z docker.io/me/unknown:u "
                  "docker.io/me/x:s gone.test/app:g paid.test/app:p");
    v = viewer(b, "ann");
    v.mirror_of = mem_copy("docker.io", 9);
    expect_images(b, v, ALL, 3, APP ":a " APP ":b " APP ":z");
    /* A token that grants nothing is not helped by rules for everybody. */
    v = viewer(b, "ann");
    v.has_token = true;
    expect_images(b, v, ALL, 3, APP ":a " APP ":b " APP ":z");
}

static void test_search_order_and_pages(void **state)
{
    struct bed *b = *state;
    struct report_search q = ALL;

    q.order = REPORT_BY_USE;
    expect_images(b, viewer(b, NULL), q, 4, "team/open:o " APP ":b " APP ":z " APP ":a");
    q.count = 2;
    expect_images(b, viewer(b, NULL), q, 4, "team/open:o " APP ":b");
    q.offset = 2;
    expect_images(b, viewer(b, NULL), q, 4, APP ":z " APP ":a");
    q.offset = 3;
    q.order = REPORT_BY_NAME;
    expect_images(b, viewer(b, NULL), q, 4, APP ":z");
    q.offset = 4;
    expect_images(b, viewer(b, NULL), q, 4, "");
    q.count = 0;
    q.offset = 0;
    expect_images(b, viewer(b, NULL), q, 4, "");
    q = ALL;
    strcpy(q.text, "LIBRARY/app:Z");
    expect_images(b, viewer(b, NULL), q, 1, APP ":z");
    strcpy(q.text, "me/x");
    expect_images(b, viewer(b, NULL), q, 0, "");
    strcpy(q.text, "<script>%\"");
    expect_images(b, viewer(b, NULL), q, 0, "");
}

/* As many as there may be before the rest is thrown away again and again. */
static void test_the_last_used_of_many(void **state)
{
    struct bed *b = *state;
    struct name many = scratch_local("team/open");
    struct report_search q = {.count = 3, .order = REPORT_BY_USE};
    struct db_txn *txn = scratch_write(b->scratch);
    char tag[32];

    for (int i = 0; i < 200; i++) {
        snprintf(tag, sizeof tag, "t%d", i);
        put_tag(txn, &many, tag, 1000 + i * 37 % 200);
    }
    assert_int_equal(db_commit(&txn), 0);
    /* i * 37 % 200 is 199, 198, 197 for these. */
    expect_images(b, viewer(b, NULL), q, 204, "team/open:t27 team/open:t54 team/open:t81");
}

static void test_a_row(void **state)
{
    struct bed *b = *state;
    struct report_search q = {.count = 50, .text = "team/open"};
    struct viewer v = viewer(b, NULL);
    struct pin pin = {.reference = {.name = scratch_local("team/open"), .tag = "o"}};
    struct db_txn *txn = scratch_write(b->scratch);
    char *text;
    size_t len;

    assert_int_equal(pin_put(txn, &pin), 0);
    assert_int_equal(db_commit(&txn), 0);
    assert_int_equal(db_read(b->reader, &txn), 0);
    assert_int_equal(report_images(&v, txn, &q, &text, &len), 0);
    db_read_end(b->reader);
    viewer_clear(&v);
    json_t *json = parse(text, len);
    json_t *row = json_array_get(json_object_get(json, "images"), 0);
    assert_true(json_is_true(json_object_get(row, "pinned")));
    assert_true(json_is_true(json_object_get(row, "local")));
    assert_true(json_is_false(json_object_get(row, "complete")));
    assert_true(json_is_null(json_object_get(row, "checked_at")));
    assert_int_equal(json_integer_value(json_object_get(row, "used_at")), 40);
    json_decref(json);
}

/* --- fetches --- */

static void expect_fetches(struct bed *b, struct viewer v, struct fetch_table *t, int64_t now_ms,
                           const char *text)
{
    struct db_txn *txn;
    size_t len;

    assert_int_equal(db_read(b->reader, &txn), 0);
    char *got = report_fetches(&v, txn, t, now_ms, &len);
    db_read_end(b->reader);
    assert_string_equal(got, text);
    json_decref(parse(got, len));
    viewer_clear(&v);
}

#define FETCH                                                                                      \
    "{\"fetches\":[\n{\"digest\":\"sha256:" HEX "\",\"name\":\"docker.io/library/app\",\"state\":"

static void test_fetches(void **state)
{
    static const struct digest digest = {.alg = DIGEST_SHA256};
    struct bed *b = *state;
    struct fetch_table *t = fetch_table_new();
    struct name n = scratch_name("docker.io", "app"), secret = scratch_name("docker.io", "me/x");
    bool created;
    int fd = open("/dev/null", O_RDONLY);

    expect_fetches(b, viewer(b, NULL), t, 5, "{\"fetches\":[],\"hidden\":0}\n");
    struct fetch *f = fetch_join(t, &digest, NULL, &created);
    /* It is not said yet what it is of. */
    expect_fetches(b, viewer(b, NULL), t, 5, "{\"fetches\":[],\"hidden\":1}\n");
    fetch_describe(f, &secret, 1000);
    expect_fetches(b, viewer(b, "ann"), t, 5, "{\"fetches\":[],\"hidden\":1}\n");
    fetch_describe(f, &n, 1000);
    expect_fetches(b, viewer(b, NULL), t, 1500,
                   FETCH "\"asking\",\"size_bytes\":null,\"done_bytes\":0,\"kept_bytes\":0,"
                         "\"readers\":0,\"elapsed_ms\":500,\"bytes_per_second\":0,"
                         "\"eta_seconds\":null}],\"hidden\":0}\n");
    assert_int_equal(fetch_begin(f, fd, 1000000, 200000), 0);
    fetch_advance(f, 700000);
    fetch_add_reader(f);
    fetch_add_reader(f);
    fetch_drop_reader(f);
    expect_fetches(b, viewer(b, NULL), t, 3000,
                   FETCH "\"streaming\",\"size_bytes\":1000000,\"done_bytes\":700000,"
                         "\"kept_bytes\":200000,\"readers\":1,\"elapsed_ms\":2000,"
                         "\"bytes_per_second\":250000,\"eta_seconds\":1}],\"hidden\":0}\n");
    fetch_retire(t, f);
    fetch_unref(&f);
    fetch_table_free(&t);
    close(fd);
}

/* --- events, upstreams, status --- */

static void test_events(void **state)
{
    struct bed *b = *state;
    struct name secret = scratch_name("docker.io", "me/x"), hub = scratch_name("docker.io", "app");
    struct log_recent *r = log_recent_new();
    struct viewer v = viewer(b, NULL);
    struct db_txn *txn;
    size_t len, i;
    json_t *e;
    static const char *const seen[] = {"</script><b>\"\\", NULL, NULL, "of the app"};

    log_recent_add(r, 1000, LOG_WARN, LOG_FOR_READERS, &hub, "of the app");
    log_recent_add(r, 2000, LOG_ERROR, LOG_FOR_READERS, &secret, "of me/x");
    log_recent_add(r, 3000, LOG_ERROR, LOG_FOR_OPERATOR, NULL, "of anything");
    log_recent_add(r, 4000, LOG_ERROR, LOG_FOR_ALL, NULL, "</script><b>\"\\");
    assert_int_equal(db_read(b->reader, &txn), 0);
    char *text = report_events(&v, txn, r, &len);
    db_read_end(b->reader);
    assert_null(strstr(text, "me/x"));
    json_t *json = parse(text, len);
    json_array_foreach (json_object_get(json, "events"), i, e) {
        const char *said = json_string_value(json_object_get(e, "text"));
        assert_int_equal(json_integer_value(json_object_get(e, "last_at")), 4 - (json_int_t)i);
        if (seen[i])
            assert_string_equal(said, seen[i]);
        else
            assert_null(said);
    }
    assert_int_equal(i, 4);
    json_decref(json);
    viewer_clear(&v);
    log_recent_free(&r);
}

static void test_upstreams(void **state)
{
    struct bed *b = *state;
    struct stats *s = mem_new(sizeof *s);
    struct viewer v = viewer(b, NULL);
    size_t len;

    struct registry_stats *hub = stats_add_registry(s, "docker.io");
    stats_add_registry(s, "gone.test");
    hub->ratelimit_remaining = 7;
    stats_note_failure(hub, OUT_UPSTREAM_TIMEOUT, 99);
    char *text = report_upstreams(&v, s, &len);
    json_t *json = parse(text, len);
    json_t *list = json_object_get(json, "upstreams");
    json_t *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_integer_value(json_object_get(first, "ratelimit_remaining")), 7);
    assert_true(json_is_null(json_object_get(first, "ratelimit_limit")));
    json_t *failure = json_object_get(first, "failure");
    assert_int_equal(json_integer_value(json_object_get(failure, "at")), 99);
    assert_string_equal(json_string_value(json_object_get(failure, "result")), "upstream-timeout");
    assert_true(json_is_true(json_object_get(first, "configured")));
    assert_true(json_is_false(json_object_get(second, "configured")));
    assert_true(json_is_null(json_object_get(second, "failure")));
    json_decref(json);
    viewer_clear(&v);
    free(s);
}

static void test_status(void **state)
{
    struct bed *b = *state;
    struct stats *s = mem_new(sizeof *s);
    struct watch_view *view = mem_new(sizeof *view);
    struct viewer v = viewer(b, "ann");
    size_t len;

    view->now_s = 1000;
    view->sums.day = 20513;
    view->sums.all = view->sums.days[1] =
        (struct ledger_record){.line_bytes = 10, .lan_bytes = 30, .lan_requests = 4, .hits = 3};
    view->sample_count = 3;
    view->samples[1] = (struct watch_sample){2000, 500, 4000};
    view->samples[2] = (struct watch_sample){4000, 500, 8000};
    char *text = report_status(&v, view, s, "it \"is\" so", &len);
    json_t *json = parse(text, len);
    json_t *all = json_object_get(json, "all"), *days = json_object_get(json, "days");
    json_t *rates = json_object_get(json, "rates");
    assert_false(json_is_true(json_object_get(json, "ready")));
    assert_string_equal(json_string_value(json_object_get(json, "reason")), "it \"is\" so");
    assert_int_equal(json_integer_value(json_object_get(all, "saved_bytes")), 20);
    assert_true(json_real_value(json_object_get(all, "hit_ratio")) == 0.75);
    assert_true(json_is_null(json_object_get(json_object_get(json, "today"), "hit_ratio")));
    assert_int_equal(json_array_size(days), TALLY_DAYS);
    assert_string_equal(
        json_string_value(json_object_get(json_array_get(days, TALLY_DAYS - 1), "day")),
        "2026-03-01");
    assert_int_equal(
        json_integer_value(json_object_get(json_array_get(days, TALLY_DAYS - 2), "lan_bytes")), 30);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(rates, "line"), 0)), 250);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(rates, "lan"), 1)), 2000);
    assert_true(json_is_null(json_object_get(json, "disk")));
    assert_true(json_is_integer(json_object_get(json_object_get(json, "stats"), "connections")));
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "viewer"), "user")),
                        "ann");
    json_decref(json);
    viewer_clear(&v);
    free(view);
    free(s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_who_sees_which_images),
        TEST(test_search_order_and_pages),
        TEST(test_the_last_used_of_many),
        TEST(test_a_row),
        TEST(test_fetches),
        TEST(test_events),
        TEST(test_upstreams),
        TEST(test_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
