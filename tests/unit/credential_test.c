/* SPDX-License-Identifier: ISC */
/* Credentials from files and from the answers of helpers. */
#include "proxy/credential.h"

#include "tests/unit/scratch.h"

#include "cache/err.h"

static int read_secret(const char *dir, const char *content, size_t len, int mode,
                       struct credential **c, char why[256])
{
    *c = NULL;
    why[0] = '\0';
    scratch_file(dir, "secret", content, len);
    assert_int_equal(chmod(scratch_path(dir, "secret"), (mode_t)mode), 0);
    return credential_read(c, "user", scratch_path(dir, "secret"), why, 256);
}

struct file_row {
    const char *content;
    const char *secret; /* NULL: refused */
};

static const struct file_row files[] = {
    {"hunter2", "hunter2"},
    {"hunter2\n", "hunter2"},
    {"hunter2\r\n", "hunter2"},
    {"hunter2\n\n\n", "hunter2"},
    {" two words \n", " two words "},
    {"p\xc3\xa4ss:w\"rd\\", "p\xc3\xa4ss:w\"rd\\"},
    {"", NULL},
    {"\n", NULL},
    {"one\ntwo\n", NULL},
    {"{\n  \"type\": \"service_account\"\n}\n", NULL},
    {"\nhunter2", NULL},
    {"a\tb", NULL},
    {"a\x7f", NULL},
};

static void a_file_holds_one_line(void **state)
{
    (void)state;
    char dir[64], why[256];
    struct credential *c;

    scratch_dir(dir);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const struct file_row *r = &files[i];
        int err = read_secret(dir, r->content, strlen(r->content), 0600, &c, why);
        if (err != (r->secret ? 0 : ERR_INVALID))
            fail_msg("%s: %d, %s", r->content, err, why);
        assert_int_equal(err == 0, why[0] == '\0');
        assert_true(err == 0 || strstr(why, dir));
        if (err == 0) {
            assert_string_equal(c->username, "user");
            assert_string_equal(c->secret, r->secret);
            assert_false(c->is_identity);
        }
        credential_free(&c);
        assert_null(c);
    }
    assert_int_equal(read_secret(dir, "a\0b", 3, 0600, &c, why), ERR_INVALID);
    scratch_remove(dir);
}

static void a_file_has_a_limit(void **state)
{
    (void)state;
    static char text[CREDENTIAL_SECRET_MAX + 100];
    char dir[64], why[256];
    struct credential *c;

    scratch_dir(dir);
    memset(text, 'x', sizeof text);
    assert_int_equal(read_secret(dir, text, CREDENTIAL_SECRET_MAX, 0600, &c, why), 0);
    credential_free(&c);
    assert_int_not_equal(read_secret(dir, text, CREDENTIAL_SECRET_MAX + 1, 0600, &c, why), 0);
    assert_int_equal(read_secret(dir, text, sizeof text, 0600, &c, why), ERR_TOO_LARGE);
    scratch_remove(dir);
}

static void a_file_must_be_private(void **state)
{
    (void)state;
    static const struct {
        int mode, err;
    } rows[] = {{0400, 0},          {0600, 0},          {0640, 0},          {0660, 0},
                {0604, ERR_DENIED}, {0602, ERR_DENIED}, {0644, ERR_DENIED}, {0666, ERR_DENIED}};
    char dir[64], why[256];
    struct credential *c;

    scratch_dir(dir);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(read_secret(dir, "x", 1, rows[i].mode, &c, why), rows[i].err);
        if (rows[i].err != 0)
            assert_non_null(strstr(why, "chmod o-rw"));
        credential_free(&c);
    }
    assert_int_equal(credential_read(&c, "user", scratch_path(dir, "none"), why, sizeof why),
                     ERR_NOT_FOUND);
    assert_non_null(strstr(why, "No such file"));
    assert_int_equal(credential_read(&c, "user", dir, why, sizeof why), ERR_DENIED);
    assert_int_equal(mkfifo(scratch_path(dir, "fifo"), 0600), 0);
    assert_int_equal(credential_read(&c, "user", scratch_path(dir, "fifo"), why, sizeof why),
                     ERR_DENIED);
    assert_int_equal(credential_read(&c, "us:er", scratch_path(dir, "secret"), why, sizeof why),
                     ERR_DENIED);
    assert_int_equal(chmod(scratch_path(dir, "secret"), 0600), 0);
    assert_int_equal(credential_read(&c, "us:er", scratch_path(dir, "secret"), why, sizeof why),
                     ERR_INVALID);
    scratch_remove(dir);
}

struct answer_row {
    const char *answer;
    const char *username; /* NULL: refused */
    const char *secret;
    bool is_identity;
};

static const struct answer_row answers[] = {
    {"{\"ServerURL\":\"1234.dkr.ecr.eu-west-2.amazonaws.com\",\"Username\":\"AWS\",\"Secret\":"
     "\"eyJ=\"}\n",
     "AWS", "eyJ=", false},
    {"{\"ServerURL\":\"r.azurecr.io\",\"Username\":\"<token>\",\"Secret\":\"a.b.c\"}", "", "a.b.c",
     true},
    {"{\"Username\":\"me\",\"Secret\":\"x\"}", "me", "x", false},
    {"{\"Username\":\"\",\"Secret\":\"x\"}", NULL, NULL, false},
    {"{\"Username\":\"me\",\"Secret\":\"\"}", NULL, NULL, false},
    {"{\"Username\":\"me\"}", NULL, NULL, false},
    {"{\"Secret\":\"hunter2\"}", NULL, NULL, false},
    {"{\"Username\":\"me\",\"Secret\":7}", NULL, NULL, false},
    {"{\"Username\":\"m:e\",\"Secret\":\"hunter2\"}", NULL, NULL, false},
    {"{\"Username\":\"me\\r\\nX: y\",\"Secret\":\"hunter2\"}", NULL, NULL, false},
    {"{\"Username\":\"me\",\"Secret\":\"hunter2\\n\"}", NULL, NULL, false},
    {"{\"Username\":\"me\",\"Secret\":\"hunter2\"} hunter2", NULL, NULL, false},
    {"{\"Username\":\"me\",\"Secret\":\"hunter2\"", NULL, NULL, false},
    {"hunter2", NULL, NULL, false},
    {"", NULL, NULL, false},
};

static void answers_of_helpers_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const struct answer_row *r = &answers[i];
        struct credential *c = NULL;
        char why[256] = "";
        int err = credential_parse(&c, r->answer, strlen(r->answer), why, sizeof why);
        if (err != (r->username ? 0 : ERR_INVALID))
            fail_msg("%s: %d, %s", r->answer, err, why);
        assert_int_equal(err == 0, why[0] == '\0');
        assert_null(strstr(why, "hunter2"));
        if (err == 0) {
            assert_string_equal(c->username, r->username);
            assert_string_equal(c->secret, r->secret);
            assert_int_equal(c->is_identity, r->is_identity);
        }
        credential_free(&c);
    }
}

static void the_hub_has_its_old_name(void **state)
{
    (void)state;
    assert_string_equal(credential_server("docker.io"), "https://index.docker.io/v1/");
    assert_string_equal(credential_server("ghcr.io"), "ghcr.io");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_holds_one_line),    cmocka_unit_test(a_file_has_a_limit),
        cmocka_unit_test(a_file_must_be_private),   cmocka_unit_test(answers_of_helpers_are_read),
        cmocka_unit_test(the_hub_has_its_old_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
