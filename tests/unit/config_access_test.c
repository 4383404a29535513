/* SPDX-License-Identifier: ISC */
/* The sections [access NAME] and [auth], and the files that they name. */
#include "proxy/config.h"
#include "proxy/password.h"

#include <sys/stat.h>

#include "tests/unit/config_text.h"
#include "tests/unit/jwt_bed.h"
#include "tests/unit/scratch.h"

#define HASH "$2y$04$QoUjnTvCW5X96pHY6ejQAuPGzVIq0nmh34GEdqwY.79KiUI5RiQoa"
#define TOKEN_OPTIONS                                                                              \
    "token-realm = https://auth.example/token/\ntoken-service = a \"b\" c\ntoken-issuer = me\n"

static void the_defaults_are_for_pulls(void **state)
{
    (void)state;
    struct config *c = load_good("\n");

    assert_int_equal(c->upload_ttl_s, 86400);
    assert_null(c->auth.password_file);
    assert_string_equal(c->auth.realm, "cachalot");
    assert_null(c->auth.token_key);
    assert_null(c->auth.token_realm);
    assert_int_equal(c->access_count, 1);
    assert_string_equal(c->access[0].name, "everybody");
    assert_int_equal(c->access[0].address_count, 1);
    assert_string_equal(c->access[0].addresses[0], "private");
    assert_int_equal(c->access[0].user_count, 0);
    assert_int_equal(c->access[0].repository_count, 1);
    assert_string_equal(c->access[0].repositories[0], "**");
    assert_int_equal(c->access[0].allow, RIGHT_PULL);
    config_unref(&c);
}

static void options_are_taken(void **state)
{
    (void)state;
    struct config *c = load_good(
        "[cache]\nupload-ttl = 90m\n"
        "[auth]\npassword-file = /etc/htpasswd\nrealm = the house\ntoken-key = "
        "/k.pem\n" TOKEN_OPTIONS "[access team.a]\naddresses = 10.0.0.0/8\naddresses = fd00::/8\n"
        "users = alice, bob\nusers = *\nrepositories = team/** Docker.IO/acme/*\n"
        "allow = pull, push\nallow = delete\n"
        "[access b]\nallow = push\n");

    assert_int_equal(c->upload_ttl_s, 5400);
    assert_string_equal(c->auth.password_file, "/etc/htpasswd");
    assert_string_equal(c->auth.realm, "the house");
    assert_string_equal(c->auth.token_key, "/k.pem");
    assert_string_equal(c->auth.token_realm, "https://auth.example/token/");
    assert_string_equal(c->auth.token_service, "a \"b\" c");
    assert_string_equal(c->auth.token_issuer, "me");
    /* From a stream no file is opened. */
    assert_null(c->auth.passwords);
    assert_null(c->auth.key);
    assert_int_equal(c->access_count, 2);
    const struct config_access *a = &c->access[0];
    assert_int_equal(a->address_count, 2);
    assert_int_equal(a->user_count, 3);
    assert_string_equal(a->users[1], "bob");
    assert_int_equal(a->repository_count, 2);
    assert_string_equal(a->repositories[1], "docker.io/acme/*");
    assert_int_equal(a->allow, RIGHTS_ALL);
    assert_int_equal(c->access[1].allow, RIGHT_PUSH);
    char *text = dump(c);
    struct config *again = load_good(text);
    char *twice = dump(again);
    assert_string_equal(text, twice);
    assert_non_null(strstr(text, "[access team.a]\n"));
    assert_non_null(strstr(text, "allow = pull push delete\n"));
    free(twice);
    free(text);
    config_unref(&again);
    config_unref(&c);
}

static void empty_lists_are_kept(void **state)
{
    (void)state;
    struct config *c = load_good("[access a]\naddresses =\nrepositories =\nallow =\n");
    char *text = dump(c);
    struct config *again = load_good(text);

    assert_int_equal(again->access[0].address_count, 0);
    assert_int_equal(again->access[0].repository_count, 0);
    assert_int_equal(again->access[0].allow, 0);
    free(text);
    config_unref(&again);
    config_unref(&c);
}

static void errors_name_the_remedy(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"[access]\n", "[access ]: not a name for a rule of access; accepted: [access NAME]"},
        {"[access a b]\n", "not a name for a rule of access"},
        {"[auth x]\n", "[auth x]: unknown section"},
        {"[access a]\nusers = alice\n",
         "t.ini:1: access.users: [access a] has users, and [auth] no password-file; accepted: "
         "users together with password-file in [auth]"},
        {"[access a]\nusers = a:b\n", "\"a:b\" has a colon"},
        {"[access a]\nusers = al*\n", "\"al*\" is neither a name nor * alone"},
        {"[access a]\nusers = a a\n", "\"a\" is there twice"},
        {"[access a]\naddresses = lan\n", "\"lan\" is not an address or a range"},
        {"[access a]\nallow = read\n", "\"read\" is not one of the words; accepted: list of pull, "
                                       "push and delete"},
        {"[access a]\nallow = pull pull\n", "\"pull\" is there twice"},
        {"[access a]\nrepositories = Team/app\n", "\"Team/app\" is not a pattern of repositories"},
        {"[access a]\nrepositories = /team\n", "is not a pattern of repositories"},
        {"[access a]\nrepositories = team/\n", "is not a pattern of repositories"},
        {"[access a]\nrepositories = team//app\n", "is not a pattern of repositories"},
        {"[access a]\nrepositories = team/a?p\n", "is not a pattern of repositories"},
        {"[access a]\nrepositories = team/../app@x\n", "is not a pattern of repositories"},
        {"[access a]\nrepositories = docker.io\n", "HOST/** is all that it has"},
        {"[access a]\nrepositories = docker.io/\n", "is not a pattern of repositories"},
        {"[access a]\nrepositories = https://docker.io/**\n", "does not begin with a registry"},
        {"[access a]\nrepositories = **.example.com/**\n", "does not begin with a registry host"},
        {"[access a]\nrepositories = docker.*/**\n", "does not begin with a registry host"},
        {"[access a]\nrepositories = *.[::1]:5000/**\n", "does not begin with a registry host"},
        {"[cache]\nupload-ttl = 0s\n", "\"0s\" is too small"},
        {"[cache]\nupload-ttl = 31d\n", "\"31d\" is too large"},
        {"[auth]\npassword-file = htpasswd\n", "is not an absolute path"},
        {"[auth]\nrealm = caf\xc3\xa9\n", "has a character that is not printable ASCII"},
        {"[auth]\ntoken-realm = auth.example\n", "does not begin with http:// or https://"},
        {"[auth]\ntoken-realm = https://a/t?x=1\n", "has a user, a query or a fragment"},
        {"[auth]\ntoken-key = /k\n", "auth.token-key: [auth] has no token-issuer; accepted: "
                                     "token-key, token-realm, token-service and token-issuer"},
        {"[auth]\n" TOKEN_OPTIONS, "[auth] has no token-key"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_errors(cases[i].text, strlen(cases[i].text), cases[i].expected);
    char text[400] = "[auth]\nrealm = ";
    memset(text + strlen(text), 'x', 151);
    check_errors(text, strlen(text), "is longer than 150 characters");
    strcpy(text, "[access a]\nusers = ");
    memset(text + strlen(text), 'x', 128);
    text[147] = '\0';
    check_errors(text, strlen(text), "is longer than 127 characters");
}

/* Load files in `dir`; the errors, owned by the caller, in `*errors`. */
static struct config *load_file(const char *dir, const char *text, char **errors)
{
    struct config *c;
    size_t len;
    FILE *out = open_memstream(errors, &len);

    scratch_file(dir, "c.ini", text, strlen(text));
    int err = config_load(&c, scratch_path(dir, "c.ini"), out);
    fclose(out);
    assert_int_equal(err == 0, c != NULL);
    assert_int_equal(err == 0, len == 0);
    return c;
}

static void files_of_no_use_are_errors(void **state)
{
    (void)state;
    char dir[64], *errors;

    scratch_dir(dir);
    char *text = mem_format("[auth]\npassword-file = %s/htpasswd\ntoken-key = %s/key.pem\n%s", dir,
                            dir, TOKEN_OPTIONS);
    assert_null(load_file(dir, text, &errors));
    assert_non_null(strstr(errors, "c.ini:1: auth.password-file: "));
    assert_non_null(strstr(errors, "/htpasswd cannot be read: No such file"));
    assert_non_null(strstr(errors, "accepted: a file as htpasswd -B makes it"));
    assert_non_null(strstr(errors, "auth.token-key: "));
    assert_non_null(strstr(errors, "/key.pem cannot be read: No such file"));
    free(errors);
    scratch_file(dir, "htpasswd", "a:{SHA}x\n", 9);
    scratch_file(dir, "key.pem", "x\n", 2);
    assert_null(load_file(dir, text, &errors));
    assert_non_null(strstr(errors, "/htpasswd:1: the hash is SHA-1; only bcrypt is taken"));
    assert_non_null(strstr(errors, "/key.pem has no public key"));
    free(errors);
    scratch_file(dir, "htpasswd", "a:" HASH "\n", 63);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    char *pem = jwt_public_pem(key);
    scratch_file(dir, "key.pem", pem, strlen(pem));
    assert_int_equal(chmod(scratch_path(dir, "key.pem"), 0646), 0);
    assert_null(load_file(dir, text, &errors));
    assert_non_null(strstr(errors, "/key.pem can be written to by every user"));
    assert_null(strstr(errors, "htpasswd"));
    free(errors);
    assert_int_equal(chmod(scratch_path(dir, "key.pem"), 0644), 0);
    struct config *c = load_file(dir, text, &errors);
    if (c == NULL)
        fail_msg("%s", errors);
    bool is_user;
    (void)passwords_find(c->auth.passwords, "a", &is_user);
    assert_true(is_user);
    assert_non_null(c->auth.key);
    config_unref(&c);
    free(errors);
    free(pem);
    EVP_PKEY_free(key);
    free(text);
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_for_pulls), cmocka_unit_test(options_are_taken),
        cmocka_unit_test(empty_lists_are_kept),       cmocka_unit_test(errors_name_the_remedy),
        cmocka_unit_test(files_of_no_use_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
