/* SPDX-License-Identifier: ISC */
/* cachalot: the command. One row a command; the help is the table. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "tools/command.h"
#include "tools/output.h"
#include "tools/settings.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unversioned"
#endif

#define DEFAULT_CACHE "/var/lib/cachalot"
#define DEFAULT_CONFIG "/etc/cachalot/cachalot.ini"
#define CA_ARGUMENTS_MAX 4096

static enum exit_code cmd_help(const struct options *o, int argc, char **argv);
static enum exit_code cmd_version(const struct options *o, int argc, char **argv);

static const struct command commands[] = {
    {"status", "",
     "Show what is held, what crossed the line and what was saved.\n"
     "Asks the running cachalotd for what goes on now; works without it, too.\n"
     "With -q nothing is printed: the exit code is 0 if cachalotd answers, else 1.",
     0, 0, cmd_status},
    {"ls", "[PATTERN]",
     "List the tags that are held, one a line.\n"
     "PATTERN is matched against registry/repository:tag; * and ? are wildcards,\n"
     "without any it may stand anywhere. Exits with 5 when nothing matches.",
     0, 1, cmd_ls},
    {"duplicates", "",
     "List layers that are kept more than once, compressed differently.\n"
     "Shows each content with the digests that it is kept under, how much room that\n"
     "wastes, and which images have it. Such layers come from clients that compress\n"
     "them anew when they push; what was pulled through cachalot keeps its digests.",
     0, 0, cmd_duplicates},
    {"ca", "ACTION [NAME]...",
     "Make (init), show, print (cert) or rotate the certificate authority.\n"
     "init [NAME]... makes one, which cachalotd does at its start, too, if it needs one;\n"
     "show says what it is; cert prints its certificate, which clients must trust;\n"
     "rotate [NAME]... makes a new one, which clients must trust, too, and keeps the old.\n"
     "It can vouch for each NAME only: a host, an address, or \"*.example.com\" for what\n"
     "is below; without any, for those that the settings of cachalotd make it serve by TLS.",
     1, CA_ARGUMENTS_MAX, cmd_ca},
    {"help", "[COMMAND]", "Show this, or what a command does.", 0, 1, cmd_help},
    {"version", "", "Show the version.", 0, 0, cmd_version},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static void print_help(FILE *out)
{
    fputs("usage: cachalot [OPTION]... COMMAND [ARGUMENT]...\n\ncommands:\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *c = &commands[i];
        int width = fprintf(out, "  %s %s", c->name, c->usage);
        fprintf(out, "%*s%.*s\n", width < 20 ? 20 - width : 1, "", (int)strcspn(c->help, "\n"),
                c->help);
    }
    fputs("\noptions:\n"
          "  -c, --config FILE    the settings of cachalotd, which say where things are;\n"
          "                       default " DEFAULT_CONFIG " when it is there\n"
          "  -C, --cache DIR      the cache directory; default $CACHALOT_CACHE, else that of\n"
          "                       the settings, else " DEFAULT_CACHE "\n"
          "  -S, --socket FILE    the socket of cachalotd; default that of the settings,\n"
          "                       else cachalot.sock in the cache directory\n"
          "      --format FORMAT  table (default) or json\n"
          "  -q, --quiet          print nothing but errors\n"
          "  -h, --help           show this\n"
          "  -V, --version        show the version\n"
          "\n"
          "exit codes: 0 done, 1 failed, 2 usage or configuration, 3 some items failed,\n"
          "4 integrity, 5 not found\n",
          out);
}

static enum exit_code cmd_help(const struct options *o, int argc, char **argv)
{
    (void)o;
    if (argc == 0) {
        print_help(stdout);
        return output_end();
    }
    const struct command *c = find_command(argv[0]);
    if (c == NULL)
        return complain(EXIT_USAGE, "there is no command %s; \"cachalot help\" lists them",
                        argv[0]);
    printf("usage: cachalot [OPTION]... %s %s\n\n%s\n", c->name, c->usage, c->help);
    return output_end();
}

static enum exit_code cmd_version(const struct options *o, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    if (o->format == FORMAT_JSON)
        json_print(json_pack("{ss}", "version", PACKAGE_VERSION));
    else
        puts("cachalot " PACKAGE_VERSION);
    return output_end();
}

static enum exit_code run(const struct options *o, int argc, char **argv)
{
    if (argc == 0) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    const struct command *c = find_command(argv[0]);
    if (c == NULL)
        return complain(EXIT_USAGE, "there is no command %s; \"cachalot help\" lists them",
                        argv[0]);
    int count = argc - 1;
    if (count < c->min || count > c->max)
        return complain(EXIT_USAGE, "%s takes %s; \"cachalot help %s\" says more", c->name,
                        *c->usage == '\0' ? "no argument" : c->usage, c->name);
    return c->run(o, count, argv + 1);
}

enum long_option { OPTION_FORMAT = 256 };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'}, {"cache", required_argument, NULL, 'C'},
    {"socket", required_argument, NULL, 'S'}, {"format", required_argument, NULL, OPTION_FORMAT},
    {"quiet", no_argument, NULL, 'q'},        {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},      {0},
};

/* What the command line says: NULL where it says nothing. */
struct arguments {
    struct options options;
    const struct command *instead; /* of the command: by -h and -V */
};

/* Options may stand before and after the command. */
static enum exit_code parse_options(struct arguments *a, int argc, char **argv)
{
    int c;
    while ((c = getopt_long(argc, argv, "c:C:S:qhV", long_options, NULL)) != -1) {
        switch (c) {
        case 'c':
            a->options.config_path = optarg;
            break;
        case 'C':
            a->options.cache_path = optarg;
            break;
        case 'S':
            a->options.socket_path = optarg;
            break;
        case OPTION_FORMAT:
            if (strcmp(optarg, "json") != 0 && strcmp(optarg, "table") != 0)
                return complain(EXIT_USAGE, "there is no format %s; take table or json", optarg);
            a->options.format = *optarg == 'j' ? FORMAT_JSON : FORMAT_TABLE;
            break;
        case 'q':
            a->options.quiet = true;
            break;
        case 'h':
            a->instead = find_command("help");
            break;
        case 'V':
            a->instead = find_command("version");
            break;
        default:
            return complain(EXIT_USAGE, "\"cachalot help\" lists the options");
        }
    }
    return EXIT_DONE;
}

/* Fill in what the command line left open; `s` owns what is taken from it. */
static enum exit_code find_places(struct arguments *a, struct settings *s)
{
    struct options *o = &a->options;
    const char *path = o->config_path != NULL ? o->config_path : DEFAULT_CONFIG;
    if (o->cache_path == NULL)
        o->cache_path = getenv("CACHALOT_CACHE");
    /* A cache that was named has its own socket. */
    bool named = o->cache_path != NULL && *o->cache_path != '\0' && o->config_path == NULL;
    int err = named ? ERR_NOT_FOUND : settings_read(s, path);
    if (err != 0 && o->config_path != NULL)
        return complain(EXIT_USAGE, "%s cannot be read: %s; name another with -c FILE", path,
                        err_text(err));
    if (o->cache_path == NULL || *o->cache_path == '\0')
        o->cache_path = s->cache_path != NULL ? s->cache_path : DEFAULT_CACHE;
    if (o->socket_path == NULL)
        o->socket_path = s->socket_path;
    o->ca_path = s->ca_path;
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    struct arguments a = {0};
    struct settings s = {0};
    enum exit_code code = parse_options(&a, argc, argv);
    if (code != EXIT_DONE)
        return (int)code;
    if (a.instead != NULL)
        return (int)a.instead->run(&a.options, 0, NULL);
    code = find_places(&a, &s);
    if (code == EXIT_DONE)
        code = run(&a.options, argc - optind, argv + optind);
    settings_free(&s);
    return (int)code;
}
