/* SPDX-License-Identifier: ISC */
/* etc/cachalot.ini and its manual list exactly the options of the table, with their
 * defaults. */
#include "proxy/config.h"
#include "proxy/config_option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *read_source(const char *name)
{
    const char *srcdir = getenv("srcdir");
    char *path = mem_format("%s/%s", srcdir == NULL ? "." : srcdir, name);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        fail_msg("%s cannot be opened", path);
    char *text = NULL;
    size_t size = 0;
    assert_true(getdelim(&text, &size, '\0', in) > 0);
    fclose(in);
    free(path);
    return text;
}

static char *dump(struct config *c)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    config_dump(c, out);
    fclose(out);
    config_unref(&c);
    return text;
}

static void check_is_default(char *ini)
{
    struct config *c;
    assert_int_equal(config_load(&c, NULL, stderr), 0);
    char *expected = dump(c);
    FILE *in = fmemopen(ini, strlen(ini), "r");
    assert_int_equal(config_load_stream(&c, "cachalot.ini", in, stderr), 0);
    fclose(in);
    char *got = dump(c);
    assert_string_equal(got, expected);
    free(got);
    free(expected);
}

/* The shipped file with each "#name = value" made a setting. */
static char *read_ini_with_all_set(void)
{
    char *ini = read_source("etc/cachalot.ini");
    char *to = ini;
    for (const char *from = ini; *from != '\0'; from++) {
        bool begins = from == ini || from[-1] == '\n';
        const char *name_end = from + 1 + strspn(from + 1, "abcdefghijklmnopqrstuvwxyz-");
        if (!begins || *from != '#' || name_end == from + 1 || strncmp(name_end, " =", 2) != 0)
            *to++ = *from;
    }
    *to = '\0';
    return ini;
}

static void the_shipped_file_is_the_defaults(void **state)
{
    (void)state;
    char *ini = read_source("etc/cachalot.ini");
    check_is_default(ini);
    free(ini);
    ini = read_ini_with_all_set();
    check_is_default(ini);
    free(ini);
}

static void the_shipped_file_has_every_option(void **state)
{
    (void)state;
    char *ini = read_ini_with_all_set();
    const struct config_option *option;
    for (size_t i = 0; (option = config_option_at(i)) != NULL; i++) {
        char *heading = mem_format("\n[%s", option->section);
        char *line = mem_format("\n%s =%s%s", option->name, *option->value == '\0' ? "" : " ",
                                option->value);
        bool found = false;
        for (const char *p = strstr(ini, heading); p != NULL && !found;
             p = strstr(p + 1, heading)) {
            const char *end = strstr(p + 1, "\n[");
            const char *at = strstr(p, line);
            found = at != NULL && (end == NULL || at < end);
        }
        if (!found)
            fail_msg("etc/cachalot.ini has no \"%s\" in a section %s]", line + 1, heading + 1);
        free(heading);
        free(line);
    }
    free(ini);
}

/* Lines as one text, so that a sentence is found wherever it is broken. */
static char *joined(const char *text, size_t len)
{
    char *copy = mem_copy(text, len);
    for (char *p = copy; *p != '\0'; p++) {
        if (*p == '\n')
            *p = ' ';
    }
    return copy;
}

static void check_option(const char *section, const char *item, const char *end, size_t i)
{
    const struct config_option *option = config_option_at(i);
    if (option == NULL)
        fail_msg("the manual has more options than the table: %.40s", item);
    char *first = mem_format(".It Cm %s%s%s\n", option->name, *option->value == '\0' ? "" : " = ",
                             option->value);
    if (strncmp(section, option->section, strlen(option->section)) != 0 ||
        strncmp(item, first, strlen(first)) != 0)
        fail_msg("the manual should have, in [%s], %s, and has %.60s", option->section, first,
                 item);
    char *text = joined(item, (size_t)(end - item));
    if (strstr(text, option->help) == NULL)
        fail_msg("the manual does not say of %s: %s", option->name, option->help);
    free(text);
    free(first);
}

static void the_manual_has_the_options_in_order(void **state)
{
    (void)state;
    char *manual = read_source("etc/cachalot.ini.5");
    size_t i = 0;
    static const char heading[] = "\n.Ss [";
    for (const char *ss = strstr(manual, heading); ss != NULL; ss = strstr(ss + 1, heading)) {
        const char *section_end = strstr(ss + 1, "\n.El\n"); /* of its one list */
        assert_non_null(section_end);
        for (const char *it = strstr(ss, "\n.It "); it != NULL && it < section_end; i++) {
            const char *next = strstr(it + 1, "\n.It ");
            check_option(ss + strlen(heading), it + 1,
                         next != NULL && next < section_end ? next : section_end, i);
            it = next;
        }
    }
    if (config_option_at(i) != NULL)
        fail_msg("the manual does not have %s", config_option_at(i)->name);
    free(manual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shipped_file_is_the_defaults),
        cmocka_unit_test(the_shipped_file_has_every_option),
        cmocka_unit_test(the_manual_has_the_options_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
