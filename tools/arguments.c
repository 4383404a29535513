/* SPDX-License-Identifier: ISC */
#include "tools/arguments.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 32
/* What getopt_long answers for a long option: this and its number. */
#define LONG_BASE 256

/* The rows of tables in the form that getopt_long wants. */
struct syntax {
    size_t count;
    const struct command_option *rows[OPTIONS_MAX];
    struct option longs[OPTIONS_MAX + 1];
    char letters[2 + 2 * OPTIONS_MAX + 1];
};

static void syntax_add(struct syntax *s, const struct command_option *rows)
{
    char *letters = s->letters + strlen(s->letters);
    for (; rows != NULL && rows->name != NULL; rows++) {
        CHECK(s->count < OPTIONS_MAX);
        s->rows[s->count] = rows;
        s->longs[s->count] =
            (struct option){rows->name, rows->argument != NULL ? required_argument : no_argument,
                            NULL, LONG_BASE + (int)s->count};
        s->count++;
        if (rows->letter == 0)
            continue;
        CHECK(strchr(s->letters, rows->letter) == NULL);
        *letters++ = rows->letter;
        if (rows->argument != NULL)
            *letters++ = ':';
    }
}

static const struct command_option *find_row(const struct syntax *s, int answer)
{
    if (answer >= LONG_BASE)
        return s->rows[answer - LONG_BASE];
    for (size_t i = 0; i < s->count; i++) {
        if (s->rows[i]->letter == answer)
            return s->rows[i];
    }
    return NULL;
}

static enum exit_code take_format(struct options *o, const char *text)
{
    if (strcmp(text, "json") != 0 && strcmp(text, "table") != 0)
        return complain(EXIT_USAGE, "there is no format %s; take table or json", text);
    o->format = *text == 'j' ? FORMAT_JSON : FORMAT_TABLE;
    return EXIT_DONE;
}

/* A command's own options are kept for option_text; those of all have fields. */
static enum exit_code take(struct arguments *a, const struct command_option *row, char *argument)
{
    struct options *o = &a->options;
    if (row->is_global) {
        switch (row->letter) {
        case 'c':
            o->config_path = argument;
            return EXIT_DONE;
        case 'C':
            o->cache_path = argument;
            return EXIT_DONE;
        case 'S':
            o->socket_path = argument;
            return EXIT_DONE;
        case 'q':
            o->quiet = true;
            return EXIT_DONE;
        case 'h':
            a->wants_help = true;
            return EXIT_DONE;
        case 'V':
            a->wants_version = true;
            return EXIT_DONE;
        default:
            return take_format(o, argument);
        }
    }
    o->given = mem_resize(o->given, (o->given_count + 1) * sizeof o->given[0]);
    o->given[o->given_count++] = (struct given_option){row, argument};
    return EXIT_DONE;
}

/* `where` ends the sentences with where the options are listed. */
static enum exit_code parse(struct arguments *a, const struct syntax *s, int argc, char **argv,
                            const char *where)
{
    int answer;
    optind = 0; /* getopt_long starts anew, with other options */
    opterr = 0;
    while ((answer = getopt_long(argc, argv, s->letters, s->longs, NULL)) != -1) {
        const struct command_option *row =
            answer == '?' || answer == ':' ? NULL : find_row(s, answer);
        const char *word = argv[optind - 1];
        if (row == NULL && optopt > 0 && optopt < LONG_BASE && answer == '?')
            return complain(EXIT_USAGE, "there is no option -%c; \"cachalot help%s\" lists them",
                            optopt, where);
        if (row == NULL)
            return complain(EXIT_USAGE, "the option %s %s; \"cachalot help%s\" lists them", word,
                            answer == ':' ? "lacks its argument"
                            : optopt != 0 ? "takes no argument"
                                          : "is unknown, or may mean several",
                            where);
        enum exit_code code = take(a, row, optarg);
        if (code != EXIT_DONE)
            return code;
    }
    return EXIT_DONE;
}

enum exit_code arguments_parse(struct arguments *a, int argc, char **argv)
{
    struct syntax before = {.letters = "+:"};
    struct syntax after = {.letters = ":"};
    *a = (struct arguments){0};
    syntax_add(&before, command_options());
    enum exit_code code = parse(a, &before, argc, argv, "");
    if (code != EXIT_DONE || optind >= argc)
        return code;
    int first = optind;
    a->command = command_find(argv[first]);
    if (a->command == NULL)
        return complain(EXIT_USAGE, "there is no command %s; \"cachalot help\" lists them",
                        argv[first]);
    char *where = mem_format(" %s", a->command->name);
    syntax_add(&after, command_options());
    syntax_add(&after, a->command->options);
    code = parse(a, &after, argc - first, argv + first, where);
    free(where);
    a->count = argc - first - optind;
    a->values = argv + first + optind;
    return code;
}

void arguments_free(struct arguments *a)
{
    free(a->options.given);
    *a = (struct arguments){0};
}
