/* SPDX-License-Identifier: ISC */
/* Password files: what is taken, what is refused and why, and whether a password is right. */
#include "proxy/password.h"

#include "tests/unit/scratch.h"

#include "cache/err.h"

/* Of the password "open sesame" by htpasswd -nbBC 4. */
#define SESAME "$2y$04$QoUjnTvCW5X96pHY6ejQAuPGzVIq0nmh34GEdqwY.79KiUI5RiQoa"
/* Something of the form alone. */
#define SALT53 "QoUjnTvCW5X96pHY6ejQAuPGzVIq0nmh34GEdqwY.79KiUI5RiQoa"

static int read_text(const char *text, size_t len, struct passwords **p, char why[256])
{
    char dir[64];

    *p = NULL;
    why[0] = '\0';
    scratch_dir(dir);
    scratch_file(dir, "htpasswd", text, len);
    int err = passwords_read(p, scratch_path(dir, "htpasswd"), why, 256);
    assert_int_equal(err == 0, *p != NULL);
    assert_int_equal(err == 0, why[0] == '\0');
    scratch_remove(dir);
    return err;
}

static struct passwords *read_good(const char *text)
{
    struct passwords *p;
    char why[256];

    if (read_text(text, strlen(text), &p, why) != 0)
        fail_msg("%s", why);
    return p;
}

static void check_refused(const char *text, size_t len, const char *expected)
{
    struct passwords *p;
    char why[256];

    assert_int_not_equal(read_text(text, len, &p, why), 0);
    if (strstr(why, expected) == NULL)
        fail_msg("no \"%s\" in: %s", expected, why);
    /* Nothing of a hash is shown. */
    assert_null(strstr(why, "QoUjn"));
    assert_null(strstr(why, "hunter"));
}

static void users_are_found(void **state)
{
    (void)state;
    struct passwords *p = read_good("# users of the house\n\nzoe:" SESAME "\r\n"
                                    "alice:$2b$05$" SALT53 "\n"
                                    "caf\xc3\xa9 con leche:$2a$06$" SALT53);
    bool is_user;

    assert_string_equal(passwords_find(p, "zoe", &is_user), SESAME);
    assert_true(is_user);
    assert_string_equal(passwords_find(p, "alice", &is_user), "$2b$05$" SALT53);
    assert_true(is_user);
    assert_string_equal(passwords_find(p, "caf\xc3\xa9 con leche", &is_user), "$2a$06$" SALT53);
    assert_true(is_user);
    passwords_free(&p);
    assert_null(p);
    passwords_free(&p);
}

/* A stranger is checked against the hash of somebody, always the same, so that the costs that
 * a file has cannot tell who is in it. */
static void strangers_get_a_hash_too(void **state)
{
    (void)state;
    static const char *const names[] = {"", "a", "aaron", "bob", "zzz", "Alice", "alice ", "\xff"};
    struct passwords *p = read_good("zoe:" SESAME "\nalice:$2b$05$" SALT53 "\n");
    unsigned low = 0;
    bool is_user;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        is_user = true;
        const char *hash = passwords_find(p, names[i], &is_user);
        assert_false(is_user);
        assert_ptr_equal(passwords_find(p, names[i], &is_user), hash);
        low += strcmp(hash, SESAME) == 0;
    }
    assert_in_range(low, 1, sizeof names / sizeof names[0] - 1);
    passwords_free(&p);
}

static void right_passwords_match(void **state)
{
    (void)state;
    assert_true(password_matches(SESAME, "open sesame"));
    assert_false(password_matches(SESAME, "open sesam"));
    assert_false(password_matches(SESAME, "open sesame "));
    assert_false(password_matches(SESAME, ""));
    assert_false(password_matches("$2y$04$short", "open sesame"));
    assert_false(password_matches("*0", "open sesame"));
    char longest[PASSWORD_MAX + 1];
    memset(longest, 'x', PASSWORD_MAX);
    longest[PASSWORD_MAX] = '\0';
    assert_false(password_matches(SESAME, longest));
}

static void other_hashes_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } rows[] = {
        {"a:$apr1$x$hunter2\n", ":1: the hash is MD5 as Apache has it; only bcrypt is taken"},
        {"a:{SHA}hunter\n", "SHA-1; only bcrypt is taken, as of htpasswd -B"},
        {"a:$5$hunter\n", "SHA-256"},
        {"a:$6$hunter\n", "SHA-512"},
        {"a:$y$j9T$hunter\n", "yescrypt"},
        {"a:$1$hunter\n", "the hash is MD5;"},
        {"a:hunterhunter1\n", "DES"},
        {"a:hunter2\n", "no hash that is known"},
        {"a:\n", "no hash that is known"},
        {"a:$2x$04$" SALT53 "\n", "a bcrypt with a defect"},
        {"a:$2y$04$" SALT53 "x\n", "a broken bcrypt"},
        {"a:$2y$04$!oUjnTvCW5X96pHY6ejQAuPGzVIq0nmh34GEdqwY.79KiUI5RiQoa\n", "a broken bcrypt"},
        {"a:$2y$4$1" SALT53 "\n", "a broken bcrypt"},
        {"a:$2y$03$" SALT53 "\n", "the cost of the hash is 3; 4 to 14"},
        {"a:$2y$15$" SALT53 "\n", "the cost of the hash is 15; 4 to 14 are taken"},
        {"a:" SESAME "\nb:" SESAME "\na:" SESAME "\n", ":3: the name is that of line 1 too"},
        {"a:" SESAME "\nnobody\n", ":2: it is not NAME:HASH"},
        {":" SESAME "\n", "the name is empty"},
        {"a:" SESAME ":x\n", "broken"},
        {"", "has no users"},
        {"# nobody\n\n", "has no users"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_refused(rows[i].text, strlen(rows[i].text), rows[i].expected);
    static const char nul[] = "a:" SESAME "\0b\n";
    check_refused(nul, sizeof nul - 1, "it is not NAME:HASH");
    char name[300];
    memset(name, 'n', 128);
    strcpy(name + 128, ":" SESAME);
    check_refused(name, strlen(name), "longer than 127 bytes");
    struct passwords *p = read_good(name + 1);
    passwords_free(&p);
}

static void a_file_has_limits(void **state)
{
    (void)state;
    char *text, dir[64], why[256];
    size_t len;
    struct passwords *p;
    FILE *out = open_memstream(&text, &len);

    for (int i = 0; i < PASSWORD_USERS_MAX; i++)
        fprintf(out, "user%d:" SESAME "\n", PASSWORD_USERS_MAX - i);
    fclose(out);
    p = read_good(text);
    bool is_user;
    for (int i = 0; i <= PASSWORD_USERS_MAX + 1; i += 7) {
        char name[16];
        snprintf(name, sizeof name, "user%d", i);
        (void)passwords_find(p, name, &is_user);
        assert_int_equal(is_user, i > 0 && i <= PASSWORD_USERS_MAX);
    }
    passwords_free(&p);
    char *more = mem_format("%sone:" SESAME "\n", text);
    check_refused(more, strlen(more), ":10001: there are more than 10000 users");
    free(more);
    free(text);

    scratch_dir(dir);
    scratch_file(dir, "large", "", 0);
    assert_int_equal(truncate(scratch_path(dir, "large"), 5 << 20), 0);
    assert_int_equal(passwords_read(&p, scratch_path(dir, "large"), why, sizeof why),
                     ERR_TOO_LARGE);
    assert_int_equal(passwords_read(&p, scratch_path(dir, "none"), why, sizeof why), ERR_NOT_FOUND);
    assert_int_equal(passwords_read(&p, dir, why, sizeof why), ERR_DENIED);
    scratch_file(dir, "open", "a:" SESAME "\n", 63);
    assert_int_equal(chmod(scratch_path(dir, "open"), 0644), 0);
    assert_int_equal(passwords_read(&p, scratch_path(dir, "open"), why, sizeof why), ERR_DENIED);
    assert_non_null(strstr(why, "chmod o-rw"));
    scratch_remove(dir);
}

/* What the real program writes. */
static void a_file_of_htpasswd_is_taken(void **state)
{
    (void)state;
    char dir[64], why[256];
    struct passwords *p;
    bool is_user;

    if (system("command -v htpasswd >/dev/null") != 0)
        skip();
    scratch_dir(dir);
    const char *path = scratch_path(dir, "htpasswd");
    char *command = mem_format("umask 077; htpasswd -Bbc '%s' alice 'open sesame' 2>/dev/null && "
                               "htpasswd -BbC 7 '%s' bob 'p:a ss' 2>/dev/null",
                               path, path);
    assert_int_equal(system(command), 0);
    free(command);
    if (passwords_read(&p, path, why, sizeof why) != 0)
        fail_msg("%s", why);
    const char *alice = passwords_find(p, "alice", &is_user);
    assert_true(is_user);
    assert_true(password_matches(alice, "open sesame"));
    const char *bob = passwords_find(p, "bob", &is_user);
    assert_true(is_user);
    assert_true(password_matches(bob, "p:a ss"));
    assert_false(password_matches(bob, "open sesame"));
    passwords_free(&p);
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_are_found),       cmocka_unit_test(strangers_get_a_hash_too),
        cmocka_unit_test(right_passwords_match), cmocka_unit_test(other_hashes_are_refused_by_name),
        cmocka_unit_test(a_file_has_limits),     cmocka_unit_test(a_file_of_htpasswd_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
