/* SPDX-License-Identifier: ISC */
/* cachalot completion: what a shell needs to complete command lines, made of the tables of
 * commands and options. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tools/command.h"
#include "tools/output.h"

/* Before the tables: what the cases call. `cur` is the word that is completed, `prev` the
 * one before it, `command` the command if there is one yet, `global` the options before it,
 * which say whose references are asked for. Words of bash end at colons, too, so that they
 * are taken apart again. */
static const char bash_start[] =
    "# bash completion of cachalot; made by \"cachalot completion bash\"\n"
    "_cachalot_words() {\n"
    "    local before=\n"
    "    [[ $COMP_WORDBREAKS == *:* && $cur == *:* ]] && before=${cur%\"${cur##*:}\"}\n"
    "    local IFS=$'\\n' w\n"
    "    for w in \"$@\"; do\n"
    "        [[ $w == \"$cur\"* ]] && COMPREPLY+=(\"${w#\"$before\"}\")\n"
    "    done\n"
    "}\n"
    "_cachalot_files() {\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    local IFS=$'\\n'\n"
    "    COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
    "}\n"
    "_cachalot_references() {\n"
    "    local -a found\n"
    "    mapfile -t found < <(\"${words[0]}\" \"${global[@]}\" ls --names 2>/dev/null)\n"
    "    _cachalot_words \"${found[@]}\"\n"
    "}\n"
    "_cachalot() {\n"
    "    local line=${COMP_LINE:0:COMP_POINT} cur prev command= i\n"
    "    local -a words global\n"
    "    COMPREPLY=()\n"
    "    read -ra words <<<\"$line\"\n"
    "    [[ $line == *[[:space:]] ]] && words+=(\"\")\n"
    "    cur=${words[${#words[@]} - 1]}\n"
    "    prev=${words[${#words[@]} - 2]}\n"
    "    for ((i = 1; i < ${#words[@]} - 1; i++)); do\n"
    "        case ${words[i]} in\n";

static const char bash_middle[] = "            global+=(\"${words[i]}\" \"${words[i + 1]}\")\n"
                                  "            ((i++))\n"
                                  "            ;;\n"
                                  "        -*) ;;\n"
                                  "        *)\n"
                                  "            [[ -z $command ]] && command=${words[i]}\n"
                                  "            ;;\n"
                                  "        esac\n"
                                  "    done\n";

static const char bash_end[] = "}\n"
                               "complete -F _cachalot cachalot\n";

static const char zsh_start[] =
    "#compdef cachalot\n"
    "# zsh completion of cachalot; made by \"cachalot completion zsh\"\n"
    "_cachalot_words() { compadd -- \"$@\" }\n"
    "_cachalot_files() { _files }\n"
    "_cachalot_references() {\n"
    "    compadd -- ${(f)\"$(\"${words[1]}\" \"${global[@]}\" ls --names 2>/dev/null)\"}\n"
    "}\n"
    "_cachalot() {\n"
    "    local cur=${words[CURRENT]} prev=${words[CURRENT-1]} command= i\n"
    "    local -a global\n"
    "    for ((i = 2; i < CURRENT; i++)); do\n"
    "        case ${words[i]} in\n";

static const char zsh_middle[] = "            global+=(\"${words[i]}\" \"${words[i + 1]}\")\n"
                                 "            ((i++))\n"
                                 "            ;;\n"
                                 "        -*) ;;\n"
                                 "        *)\n"
                                 "            [[ -z $command ]] && command=${words[i]}\n"
                                 "            ;;\n"
                                 "        esac\n"
                                 "    done\n";

static const char zsh_end[] = "}\n"
                              "_cachalot \"$@\"\n";

/* Whether the word for an argument is that of something in the file system. */
static bool is_file(const char *argument)
{
    static const char *const words[] = {"FILE", "DIR", "LIST", "KEY", "PART", "RECEIPT"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(argument, words[i]) != NULL)
            return true;
    }
    return false;
}

static void print_names(const struct command_option *row, const char *between)
{
    if (row->letter != 0)
        printf("-%c%s", row->letter, between);
    printf("--%s", row->name);
}

static void print_all_names(const struct command_option *rows)
{
    for (; rows != NULL && rows->name != NULL; rows++) {
        putchar(' ');
        print_names(rows, " ");
    }
}

/* "-c | --config | ...)": the options of all commands that take an argument, which is the
 * next word. */
static void print_pattern_of_arguments(void)
{
    const char *between = "        ";
    for (const struct command_option *row = command_options(); row->name != NULL; row++) {
        if (row->argument == NULL)
            continue;
        fputs(between, stdout);
        print_names(row, " | ");
        between = " | ";
    }
    puts(")");
}

/* Cases for the word after each option that takes an argument. */
static void print_argument_cases(const struct command_option *rows, const char *indent)
{
    for (; rows != NULL && rows->name != NULL; rows++) {
        if (rows->argument == NULL)
            continue;
        fputs(indent, stdout);
        print_names(rows, " | ");
        puts(")");
        if (strcmp(rows->argument, "FORMAT") == 0)
            printf("%s    _cachalot_words table json\n", indent);
        else if (is_file(rows->argument))
            printf("%s    _cachalot_files\n", indent);
        printf("%s    return\n%s    ;;\n", indent, indent);
    }
}

static void print_commands(void)
{
    size_t count;
    const struct command *commands = command_table(&count);
    for (size_t i = 0; i < count; i++)
        printf(" %s", commands[i].name);
}

/* What the usage has in small letters is to be typed so. False when there is none. */
static bool print_literals(const char *usage)
{
    bool any = false;
    for (const char *p = usage; *p != '\0';) {
        size_t len = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789-");
        bool is_word = len > 1 && islower((unsigned char)*p);
        if (is_word)
            printf("%s %.*s", any ? "" : "            _cachalot_words", (int)len, p);
        any = any || is_word;
        p += len > 0 ? len : 1;
    }
    if (any)
        putchar('\n');
    return any;
}

static void print_command_case(const struct command *c)
{
    printf("    %s)\n", c->name);
    if (c->options != NULL) {
        puts("        case $prev in");
        print_argument_cases(c->options, "        ");
        puts("        esac");
    }
    fputs("        case $cur in\n"
          "        -*)\n"
          "            _cachalot_words",
          stdout);
    print_all_names(c->options);
    print_all_names(command_options());
    puts("\n            ;;\n"
         "        *)");
    print_literals(c->usage);
    if (strstr(c->usage, "REF") != NULL || strstr(c->usage, "PATTERN") != NULL)
        puts("            _cachalot_references");
    if (strstr(c->usage, "COMMAND") != NULL) {
        fputs("            _cachalot_words", stdout);
        print_commands();
        putchar('\n');
    }
    if (is_file(c->usage))
        puts("            _cachalot_files");
    puts("            ;;\n"
         "        esac\n"
         "        ;;");
}

/* The same for both shells. */
static void print_tables(void)
{
    size_t count;
    const struct command *commands = command_table(&count);
    puts("    case $prev in");
    print_argument_cases(command_options(), "    ");
    puts("    esac\n"
         "    case $command in\n"
         "    \"\")");
    fputs("        _cachalot_words", stdout);
    print_commands();
    print_all_names(command_options());
    puts("\n        ;;");
    for (size_t i = 0; i < count; i++)
        print_command_case(&commands[i]);
    puts("    esac");
}

enum exit_code cmd_completion(const struct options *o, int argc, char **argv)
{
    bool is_bash = strcmp(argv[0], "bash") == 0;
    (void)o;
    (void)argc;
    if (!is_bash && strcmp(argv[0], "zsh") != 0)
        return complain(EXIT_USAGE, "there is no completion for %s; take bash or zsh", argv[0]);
    fputs(is_bash ? bash_start : zsh_start, stdout);
    print_pattern_of_arguments();
    fputs(is_bash ? bash_middle : zsh_middle, stdout);
    print_tables();
    fputs(is_bash ? bash_end : zsh_end, stdout);
    return output_end();
}
