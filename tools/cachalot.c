/* SPDX-License-Identifier: ISC */
/* cachalot: the command. One row a command; the help is the table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/err.h"
#include "tools/arguments.h"
#include "tools/command.h"
#include "tools/output.h"
#include "tools/settings.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unversioned"
#endif

#define DEFAULT_CACHE "/var/lib/cachalot"
#define DEFAULT_CONFIG "/etc/cachalot/cachalot.ini"
#define ARGUMENTS_MAX 65536
#define CA_ARGUMENTS_MAX 4096
#define REFERENCES_MAX 65536
/* Room for the names of an option in the help, and for a command with its arguments. */
#define USAGE_WIDTH 18
#define OPTION_WIDTH 24

static enum exit_code cmd_help(const struct options *o, int argc, char **argv);
static enum exit_code cmd_version(const struct options *o, int argc, char **argv);

static const struct command_option setup_options[] = {
    {0, "host", "NAME",
     "what clients call cachalot; with :PORT, of the listener\n"
     "to ask for its settings",
     false},
    {0, "write", NULL, "do it on this machine", false},
    {0, "undo", NULL, "take back exactly what --write did", false},
    {0, "check", NULL, "ask for an image as the client would: which door, a hit?", false},
    {0, "dry-run", NULL, "say what --write or --undo would do", false},
    {0, "image", "REF", "the image for --check; default hello-world of docker.io", false},
    {0, "root", "DIR", "a folder that stands for / of the client", false},
    {0, NULL, NULL, NULL, false},
};

static const struct command_option fetch_options[] = {
    {0, "platform", "PLATFORM",
     "of an image for several, this one alone; may be repeated:\n"
     "linux/arm64, windows/amd64:10.0.20348 for all its builds",
     false},
    {'d', "detach", NULL, "do not wait: order them, and leave", false},
    {0, NULL, NULL, NULL, false},
};

static const struct command_option ls_options[] = {
    {0, "names", NULL, "print nothing but the references", false},
    {0, NULL, NULL, NULL, false},
};

static const struct command_option export_options[] = {
    {'o', "output", "FILE", "a file, a folder for parts (DIR/), or - for standard\noutput", false},
    {'a', "all", NULL, "all tags that are held, of an index what is held whole", false},
    {'f', "file", "LIST", "a file of references, one a line; # begins a comment", false},
    {'p', "platform", "PLATFORM",
     "os/arch[/variant][:os.version] to take of an index, or\n"
     "held for those that are held whole; may be repeated",
     false},
    {0, "no-referrers", NULL, "leave out signatures, SBOMs and what else refers to them", false},
    {0, "fetch", NULL, "have cachalotd ask for the tags and fetch what is missing", false},
    {0, "have", "RECEIPT", "leave out what the receiver has by its receipt", false},
    {0, "part-size", "SIZE", "cut the bundle into parts of at most that, e.g. 4095MiB", false},
    {0, "part", "NUMBER", "write only this part", false},
    {0, "like", "PART", "of the bundle that this file is another part of", false},
    {0, "sign", "KEY", "sign with this Ed25519 key, a PEM file", false},
    {0, "verify", "KEY", "the receipt must be signed with this public key", false},
    {0, NULL, NULL, NULL, false},
};

static const struct command_option have_options[] = {
    {'o', "output", "FILE", "write it there, not to standard output", false},
    {0, "sign", "KEY", "sign with this Ed25519 key, a PEM file", false},
    {0, NULL, NULL, NULL, false},
};

static const struct command_option import_options[] = {
    {0, "verify-only", NULL, "check archives, or single parts, and change nothing", false},
    {0, "verify", "KEY", "the bundle must be signed with this public key", false},
    {0, "as", "REF", "the image's name, when the archive has one image", false},
    {0, NULL, NULL, NULL, false},
};

static const struct command_option check_options[] = {
    {0, "fix", NULL, "repair what can be repaired", false},
    {0, "rebuild", NULL, "make the index anew from the files first; without cachalotd", false},
    {0, "quick", NULL, "read no files: compare names and sizes alone", false},
    {0, NULL, NULL, NULL, false},
};

static const struct command_option gc_options[] = {
    {0, "dry-run", NULL, "only say what would go, and why", false},
    {0, "now", NULL, "what stays for push-grace goes, too", false},
    {0, NULL, NULL, NULL, false},
};

static const struct command commands[] = {
    {"status", "",
     "Show what is held, what crossed the line and what was saved.\n"
     "Asks the running cachalotd for what goes on now; works without it, too.\n"
     "With -q nothing is printed: the exit code is 0 if cachalotd answers, else 1.",
     0, 0, cmd_status, NULL},
    {"top", "",
     "Show what goes on, anew every second, until q or Ctrl-C.\n"
     "The sums of status and what a second adds to them, downloads and upstreams.",
     0, 0, cmd_top, NULL},
    {"ls", "[PATTERN]",
     "List the tags that are held, and how much room they take.\n"
     "Own is what no other tag's image has; shared is the rest of its size.\n"
     "PATTERN is matched against registry/repository:tag; * and ? are wildcards,\n"
     "without any it may stand anywhere. Exits with 5 when nothing matches.",
     0, 1, cmd_ls, ls_options},
    {"inspect", "REF|DIGEST",
     "Show an image as a tree, from its index to its layers.\n"
     "Of each whether it is held, its size, when it was last used and where it came\n"
     "from or can be fetched from. A digest may be cut short to 8 digits or more.",
     1, 1, cmd_inspect, NULL},
    {"why", "DIGEST|REF",
     "Show why a content is held: what leads to it.\n"
     "Also where it came from, when it was last used, and what pins it.",
     1, 1, cmd_why, NULL},
    {"fetch", "REF...",
     "Fetch whole images, so that nobody waits for them later.\n"
     "The running cachalotd does it, one after the other, and goes on when this is ended.\n"
     "Of an image for several platforms all are fetched, but with --platform; an image for\n"
     "one is fetched whatever that is. A name without a registry is docker.io's. Exits with\n"
     "3 when some failed, with 5 when none was found.",
     1, REFERENCES_MAX, cmd_fetch, fetch_options},
    {"pin", "[REF]...",
     "Keep images whatever room is wanted; or list what is pinned.\n"
     "The pin of a tag goes with the tag when it moves; that of name@digest stays.\n"
     "A name without a registry is a local repository's if there is one, else docker.io's.",
     0, REFERENCES_MAX, cmd_pin, NULL},
    {"unpin", "REF...", "Take pins away.", 1, REFERENCES_MAX, cmd_unpin, NULL},
    {"rm", "REF|DIGEST...",
     "Take names of images away: a tag, or all names of a manifest.\n"
     "What is pinned stays. The bytes that nothing else needs go, too; without a running\n"
     "cachalotd gc removes them. What an upstream has comes back with the next pull.",
     1, REFERENCES_MAX, cmd_rm, NULL},
    {"gc", "",
     "Remove what nothing leads to, and say what it was.\n"
     "The running cachalotd does so by itself, before long; this does not wait for it. What\n"
     "was pushed, or left by a manifest that was deleted, stays for push-grace after its\n"
     "last use, as a push under way may count on it; --now frees that, too.\n"
     "Exits with 3 when some of it stayed.",
     0, 0, cmd_gc, gc_options},
    {"duplicates", "",
     "List layers that are kept twice, compressed differently.\n"
     "Shows each content with the digests that it is kept under, how much room that\n"
     "wastes, and which images have it. Such layers come from clients that compress\n"
     "them anew when they push; what was pulled through cachalot keeps its digests.",
     0, 0, cmd_duplicates, NULL},
    {"check", "",
     "Check that what is held is whole, and that the index says so.\n"
     "Reads every file and compares its digest, which takes long; with --quick names and\n"
     "sizes alone. Works beside a running cachalotd and without it. Of each finding it says\n"
     "what it means, and what --fix would do about it. Exits with 4 when there is damage\n"
     "that was not repaired.",
     0, 0, cmd_check, check_options},
    {"ca", "init|show|cert|rotate [NAME]...",
     "Make, show, print (cert) or rotate the certificate authority.\n"
     "init [NAME]... makes one, which cachalotd does at its start, too, if it needs one;\n"
     "show says what it is; cert prints its certificate, which clients must trust;\n"
     "rotate [NAME]... makes a new one, which clients must trust, too, and keeps the old.\n"
     "It can vouch for each NAME only: a host, an address, or \"*.example.com\" for what\n"
     "is below; without any, for those that the settings of cachalotd make it serve by TLS.",
     1, CA_ARGUMENTS_MAX, cmd_ca, NULL},
    {"setup", "docker|containerd|podman|k3s|windows|proxy",
     "Tell a client of this machine of cachalot, or take it back.\n"
     "Prints the files that the client needs and where they go; with --write makes them,\n"
     "without replacing anything that is not cachalot's. proxy is for whatever runs on Linux\n"
     "and goes by names that do not change; windows prints a script for PowerShell.\n"
     "The cachalotd that is asked for its ports and its authority is that of --host, or the\n"
     "one of this machine. It has the same texts for others under /-/setup/.",
     1, 1, cmd_setup, setup_options},
    {"completion", "bash|zsh",
     "Print what a shell needs to complete command lines.\n"
     "For this bash alone: source <(cachalot completion bash). It completes commands,\n"
     "options, and the references that are held.",
     1, 1, cmd_completion, NULL},
    {"export", "[REF]...",
     "Write images into a file, for a cache that no line leads to.\n"
     "What each REF names must be held whole; of an index all platforms, unless --platform\n"
     "says which. The file is a plain tar, an OCI image layout that podman, docker, ctr and\n"
     "skopeo load, too. \"cachalot import\" takes it in at the other end.",
     0, ARGUMENTS_MAX, cmd_export, export_options},
    {"have", "",
     "Write the receipt of what is held, for who exports.\n"
     "\"cachalot export --have\" at the sender's leaves out what is in it. It is a text\n"
     "with a digest a line.",
     0, 0, cmd_have, have_options},
    {"import", "FILE|DIR|-...",
     "Take in the images of archives, of export or other programs.\n"
     "skopeo, docker, podman and ctr write such archives, too.\n"
     "Every byte is verified before anything of it can be seen; then all of it can be pulled\n"
     "by its names. Parts of a bundle are given together, or the folder that they are in.\n"
     "May be interrupted and run again: what was verified is not written twice.",
     1, ARGUMENTS_MAX, cmd_import, import_options},
    {"help", "[COMMAND]", "Show this, or what a command does.", 0, 1, cmd_help, NULL},
    {"version", "", "Show the version.", 0, 0, cmd_version, NULL},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const struct command_option options[] = {
    {'c', "config", "FILE",
     "settings of cachalotd, which say where things are;\n"
     "default " DEFAULT_CONFIG " when it is there",
     true},
    {'C', "cache", "DIR",
     "the cache directory; default $CACHALOT_CACHE, else that\n"
     "of the settings, else " DEFAULT_CACHE,
     true},
    {'S', "socket", "FILE",
     "the socket of cachalotd; default that of the settings,\n"
     "else cachalot.sock in the cache directory",
     true},
    {0, "format", "FORMAT", "table (default) or json", true},
    {'q', "quiet", NULL, "print nothing but errors", true},
    {'h', "help", NULL, "show this, or what the command does", true},
    {'V', "version", NULL, "show the version", true},
    {0, NULL, NULL, NULL, false},
};

const struct command *command_table(size_t *count)
{
    *count = COMMAND_COUNT;
    return commands;
}

const struct command_option *command_options(void)
{
    return options;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static void print_options(FILE *out, const struct command_option *rows)
{
    for (; rows->name != NULL; rows++) {
        char *names = mem_format(
            "%c%c%c --%s%s%s", rows->letter == 0 ? ' ' : '-',
            rows->letter == 0 ? ' ' : rows->letter, rows->letter == 0 ? ' ' : ',', rows->name,
            rows->argument != NULL ? " " : "", rows->argument != NULL ? rows->argument : "");
        fprintf(out, "  %-*s", OPTION_WIDTH, names);
        free(names);
        fputc(' ', out);
        print_wrapped(out, rows->help, OPTION_WIDTH + 3);
    }
}

static void print_help(FILE *out)
{
    fputs("usage: cachalot [OPTION]... COMMAND [ARGUMENT]...\n\ncommands:\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *c = &commands[i];
        int width = fprintf(out, "  %s %s", c->name, c->usage);
        /* What is too long for its column has a line of its own. */
        bool is_long = width >= USAGE_WIDTH;
        fprintf(out, "%s%*s%.*s\n", is_long ? "\n" : "",
                is_long ? USAGE_WIDTH : USAGE_WIDTH - width, "", (int)strcspn(c->help, "\n"),
                c->help);
    }
    fputs("\noptions:\n", out);
    print_options(out, options);
    fputs("\nexit codes: 0 done, 1 failed, 2 usage or configuration, 3 some items failed,\n"
          "4 integrity, 5 not found\n",
          out);
}

static void print_command_help(const struct command *c)
{
    const char *rest = strchr(c->help, '\n');
    printf("usage: cachalot [OPTION]... %s%s%s\n\n%.*s\n", c->name, *c->usage == '\0' ? "" : " ",
           c->usage, (int)strcspn(c->help, "\n"), c->help);
    if (rest != NULL)
        print_wrapped(stdout, rest + 1, 0);
    if (c->options != NULL) {
        puts("\noptions of this command, after it:");
        print_options(stdout, c->options);
    }
}

static enum exit_code cmd_help(const struct options *o, int argc, char **argv)
{
    (void)o;
    if (argc == 0) {
        print_help(stdout);
        return output_end();
    }
    const struct command *c = command_find(argv[0]);
    if (c == NULL)
        return complain(EXIT_USAGE, "there is no command %s; \"cachalot help\" lists them",
                        argv[0]);
    print_command_help(c);
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

static enum exit_code run(const struct arguments *a)
{
    const struct command *c = a->command;
    if (c == NULL) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (a->count < c->min || a->count > c->max)
        return complain(EXIT_USAGE, "%s takes %s; \"cachalot help %s\" says more", c->name,
                        *c->usage == '\0' ? "no argument" : c->usage, c->name);
    return c->run(&a->options, a->count, a->values);
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
    o->import_key_path = s->import_key_path;
    o->size = s->size;
    o->min_free = s->min_free;
    o->evict_to = s->evict_to;
    o->evict_local = s->evict_local;
    o->push_grace = s->push_grace;
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    struct arguments a;
    struct settings s = {0};
    enum exit_code code = arguments_parse(&a, argc, argv);
    if (code == EXIT_DONE && a.wants_version) {
        code = cmd_version(&a.options, 0, NULL);
    } else if (code == EXIT_DONE && a.wants_help) {
        char *name = a.command != NULL ? (char *)a.command->name : NULL;
        code = cmd_help(&a.options, name != NULL, &name);
    } else if (code == EXIT_DONE) {
        code = find_places(&a, &s);
        if (code == EXIT_DONE)
            code = run(&a);
    }
    settings_free(&s);
    arguments_free(&a);
    return (int)code;
}
