/* SPDX-License-Identifier: ISC */
#include "cache/setup.h"

#include <stdlib.h>
#include <string.h>

/* --- for people --- */

static const char *const titles[SETUP_CLIENT_COUNT] = {
    [SETUP_DOCKER] = "Docker",
    [SETUP_CONTAINERD] = "containerd and Kubernetes",
    [SETUP_PODMAN] = "podman, buildah, skopeo and CRI-O",
    [SETUP_K3S] = "k3s and RKE2",
    [SETUP_PROXY] = "the proxy, for any client on Linux",
    [SETUP_WINDOWS] = "Docker on Windows",
};

/* Each line of the text as a comment. */
static void write_comment(FILE *out, const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");

        fprintf(out, "#%s%.*s\n", len > 0 ? " " : "", (int)len, text);
        text += len + (text[len] == '\n');
    }
}

void setup_write_text(FILE *out, const struct setup_plan *p, const struct setup_facts *f)
{
    fprintf(out, "# %s, by way of cachalot at %s\n#\n", titles[p->client], f->host);
    write_comment(out, p->notes);
    for (size_t i = 0; i < p->count; i++) {
        const struct setup_item *item = &p->items[i];

        fprintf(out, "\n# --- %s%s ---\n%s", item->path,
                item->kind == SETUP_MERGE ? ", to be merged into what is there" : "",
                item->content);
    }
    if (p->commands[0] != '\0')
        fprintf(out, "\n# --- then, as root ---\n%s", p->commands);
}

/* --- for a shell --- */

static const char script_options[] =
    "set -eu\n"
    "umask 022\n"
    "root=${DESTDIR-} # a folder that stands for /, for a look at what would be written\n"
    "failed=0\n"
    "mode=put\n"
    "\n"
    "say() { echo \"cachalot: $*\" >&2; }\n"
    "\n"
    "is_ours() { head -n 1 \"$1\" | grep -q '^" SETUP_MARK "'; }\n"
    "\n"
    "# put FILE: write it from standard input, or take it away.\n"
    "put() {\n"
    "    file=$root$1\n"
    "    if [ -e \"$file\" ] && ! is_ours \"$file\"; then\n"
    "        say \"$1 is not one of cachalot's files: left as it is\"\n"
    "        cat >/dev/null\n"
    "        failed=1\n"
    "    elif [ $mode = undo ]; then\n"
    "        cat >/dev/null\n"
    "        [ ! -e \"$file\" ] || say \"removed $1\"\n"
    "        rm -f \"$file\"\n"
    "        case $1 in\n"
    "        */certs.d/*/* | *.service.d/*) rmdir \"${file%/*}\" 2>/dev/null || : ;;\n"
    "        esac\n"
    "    else\n"
    "        mkdir -p \"${file%/*}\"\n"
    "        cat >\"$file.cachalot-new\"\n"
    "        mv \"$file.cachalot-new\" \"$file\"\n"
    "        say \"wrote $1\"\n"
    "    fi\n"
    "}\n"
    "\n";

/* What was merged is kept beside the file, as the command keeps it, so that either can
 * undo what the other did. */
static const char script_merge[] =
    "# merge FILE: a JSON object from standard input into that of the file, or out of it.\n"
    "merge() {\n"
    "    file=$root$1\n"
    "    object=$(cat)\n"
    "    if command -v python3 >/dev/null; then\n"
    "        python3 -c \"$program\" $mode \"$file\" \"$object\" || failed=1\n"
    "    elif [ $mode = undo ] && [ ! -e \"$file.cachalot-set\" ]; then\n"
    "        :\n"
    "    elif [ -s \"$file\" ] && ! cmp -s \"$file\" \"$file.cachalot-set\"; then\n"
    "        say \"without python3 this is for you to change in $1:\"\n"
    "        echo \"$object\" >&2\n"
    "        failed=1\n"
    "    elif [ $mode = undo ]; then\n"
    "        rm -f \"$file\" \"$file.cachalot-set\"\n"
    "        say \"removed $1\"\n"
    "    else\n"
    "        mkdir -p \"${file%/*}\"\n"
    "        echo \"$object\" >\"$file\"\n"
    "        echo \"$object\" >\"$file.cachalot-set\"\n"
    "        say \"wrote $1\"\n"
    "    fi\n"
    "}\n"
    "\n"
    "program='\n"
    "import json, os, shutil, sys\n"
    "\n"
    "mode, path, text = sys.argv[1:]\n"
    "backup, record = path + \".cachalot-bak\", path + \".cachalot-set\"\n"
    "\n"
    "def read(name):\n"
    "    text = open(name, encoding=\"utf-8\").read() if os.path.exists(name) else \"\"\n"
    "    value = json.loads(text) if text.strip() else {}\n"
    "    if not isinstance(value, dict):\n"
    "        raise ValueError(\"it is not an object\")\n"
    "    return value\n"
    "\n"
    "def merge(into, new, where=\"\"):\n"
    "    for key, value in new.items():\n"
    "        old = into.get(key)\n"
    "        if key not in into:\n"
    "            into[key] = value\n"
    "        elif isinstance(old, dict) and isinstance(value, dict):\n"
    "            merge(old, value, where + key + \".\")\n"
    "        elif isinstance(old, list) and isinstance(value, list):\n"
    "            into[key] = [x for x in value if x not in old] + old\n"
    "        elif old != value:\n"
    "            raise ValueError(where + key + \" is set to something else\")\n"
    "\n"
    "def unmerge(into, new, before):\n"
    "    for key, value in new.items():\n"
    "        old, was = into.get(key), before.get(key)\n"
    "        if isinstance(old, dict) and isinstance(value, dict):\n"
    "            unmerge(old, value, was if isinstance(was, dict) else {})\n"
    "        elif isinstance(old, list) and isinstance(value, list):\n"
    "            kept = was if isinstance(was, list) else []\n"
    "            into[key] = [x for x in old if x not in value or x in kept]\n"
    "        elif key not in before and old == value:\n"
    "            del into[key]\n"
    "        if key not in before and into.get(key) in ({}, []):\n"
    "            del into[key]\n"
    "\n"
    "def write(name, value):\n"
    "    with open(name + \".cachalot-new\", \"w\", encoding=\"utf-8\") as out:\n"
    "        out.write(json.dumps(value, indent=4, ensure_ascii=False) + \"\\n\")\n"
    "    if os.path.exists(name):\n"
    "        shutil.copystat(name, name + \".cachalot-new\")\n"
    "    os.replace(name + \".cachalot-new\", name)\n"
    "\n"
    "try:\n"
    "    path = os.path.realpath(path)\n"
    "    now, before, new = read(path), read(backup), json.loads(text)\n"
    "    unmerge(now, read(record), before)\n"
    "    if mode == \"put\":\n"
    "        if os.path.exists(path) and not os.path.exists(record):\n"
    "            shutil.copy2(path, backup)\n"
    "        merge(now, new)\n"
    "        os.makedirs(os.path.dirname(path), exist_ok=True)\n"
    "        write(record, new)\n"
    "        write(path, now)\n"
    "        print(\"cachalot: changed \" + path, file=sys.stderr)\n"
    "    elif os.path.exists(record):\n"
    "        if os.path.exists(backup) and now == before:\n"
    "            os.replace(backup, path)\n"
    "        elif not now and not os.path.exists(backup):\n"
    "            os.remove(path)\n"
    "        else:\n"
    "            write(path, now)\n"
    "        for name in (record, backup):\n"
    "            if os.path.exists(name):\n"
    "                os.remove(name)\n"
    "        print(\"cachalot: took back what was set in \" + path, file=sys.stderr)\n"
    "except (OSError, ValueError) as error:\n"
    "    sys.exit(f\"cachalot: {path}: {error}: left as it is\")\n"
    "'\n"
    "\n";

static const char script_end[] = "main() {\n"
                                 "    for word in \"$@\"; do\n"
                                 "        case $word in\n"
                                 "        --undo) mode=undo ;;\n"
                                 "        *) say \"the only argument is --undo\"; exit 2 ;;\n"
                                 "        esac\n"
                                 "    done\n"
                                 "    if [ -z \"$root\" ] && [ \"$(id -u)\" != 0 ]; then\n"
                                 "        say \"run this as root\"\n"
                                 "        exit 1\n"
                                 "    fi\n"
                                 "    files\n";

static const char script_last[] = "    exit $failed\n"
                                  "}\n"
                                  "\n"
                                  "main \"$@\"\n";

static bool has(const struct setup_plan *p, enum setup_kind kind)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->items[i].kind == kind)
            return true;
    }
    return false;
}

static void write_files(FILE *out, const struct setup_plan *p)
{
    fputs("files() {\n", out);
    if (has(p, SETUP_ANCHOR))
        fprintf(out,
                "    anchor=%s\n"
                "    other=%s\n"
                "    [ ! -d \"$root${other%%/*}\" ] || anchor=$other\n",
                SETUP_ANCHOR_DEBIAN, SETUP_ANCHOR_RED_HAT);
    for (size_t i = 0; i < p->count; i++) {
        const struct setup_item *item = &p->items[i];
        const char *word = item->kind == SETUP_MERGE ? "merge" : "put";
        const char *path = item->kind == SETUP_ANCHOR ? "$anchor" : item->path;

        fprintf(out, "    %s \"%s\" <<'END'\n%sEND\n", word, path, item->content);
    }
    fputs("}\n\n", out);
}

/* Only what disturbs nobody is done at once. */
static void write_commands(FILE *out, const struct setup_plan *p)
{
    if (p->client == SETUP_K3S)
        fprintf(out, "    say \"now: %.*s\"\n", (int)strcspn(p->commands, "\n"), p->commands);
    else if (p->client == SETUP_DOCKER)
        fputs("    if [ -z \"$root\" ] && systemctl is-active --quiet docker 2>/dev/null; then\n"
              "        systemctl reload docker && say \"docker was reloaded\"\n"
              "    fi\n",
              out);
    else if (p->client == SETUP_PROXY)
        fputs("    if [ -z \"$root\" ]; then\n"
              "        if command -v update-ca-certificates; then\n"
              "            update-ca-certificates --fresh\n"
              "        else\n"
              "            update-ca-trust\n"
              "        fi >/dev/null || failed=1\n"
              "        ! command -v systemctl >/dev/null || systemctl daemon-reload || failed=1\n"
              "    fi\n"
              "    say \"now: systemctl try-restart containerd docker\"\n",
              out);
}

void setup_write_script(FILE *out, const struct setup_plan *p, const struct setup_facts *f)
{
    fprintf(out, "#!/bin/sh\n# %s, by way of cachalot at %s. As root:\n", titles[p->client],
            f->host);
    fputs("#   sh THIS-FILE           sets this machine up\n"
          "#   sh THIS-FILE --undo    takes that back\n#\n",
          out);
    write_comment(out, p->notes);
    fputs(script_options, out);
    if (has(p, SETUP_MERGE))
        fputs(script_merge, out);
    write_files(out, p);
    fputs(script_end, out);
    write_commands(out, p);
    fputs(script_last, out);
}
