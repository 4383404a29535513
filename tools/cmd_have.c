/* SPDX-License-Identifier: ISC */
/* cachalot have: the receipt of what is held, for who sends bundles. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/receipt.h"
#include "tools/command.h"
#include "tools/files.h"
#include "tools/output.h"

#define KEY_SIZE_MAX (64u * 1024)

static enum exit_code sign(const struct options *o, char **text, size_t *len)
{
    const char *path = option_text(o, "sign");
    uint8_t signature[BUNDLE_SIGNATURE_BYTES];
    char *key;
    size_t key_len;
    if (path == NULL)
        return EXIT_DONE;
    enum exit_code code = file_read(path, KEY_SIZE_MAX, &key, &key_len);
    if (code != EXIT_DONE)
        return code;
    if (bundle_sign(key, key_len, *text, *len, signature) == 0)
        receipt_add_signature(text, len, signature);
    else
        code = complain(EXIT_USAGE,
                        "%s has no private Ed25519 key in PEM; \"openssl genpkey -algorithm "
                        "ed25519\" makes one",
                        path);
    explicit_bzero(key, key_len);
    free(key);
    return code;
}

static enum exit_code write_file(const char *path, const char *text, size_t len)
{
    struct output_file file;
    enum exit_code code = output_file_open(&file, path);
    if (code != EXIT_DONE)
        return code;
    int err = file_write_all(file.fd, text, len);
    if (err == 0)
        return output_file_finish(&file);
    output_file_discard(&file);
    return complain(EXIT_FAILED, "%s cannot be written: %s", path, strerror(err));
}

static enum exit_code report(const struct options *o, const char *path, uint64_t count)
{
    if (o->quiet)
        return EXIT_DONE;
    if (o->format == FORMAT_JSON)
        json_print(json_pack("{ss sI}", "file", path, "blobs", (json_int_t)count));
    else
        printf("%s: a receipt for %" PRIu64 " blobs; give it to \"cachalot export --have\"\n", path,
               count);
    return output_end();
}

enum exit_code cmd_have(const struct options *o, int argc, char **argv)
{
    const char *path = option_text(o, "output");
    struct cache cache;
    char *text;
    size_t len;
    uint64_t count;
    (void)argc, (void)argv;
    enum exit_code code = cache_open(&cache, o);
    if (code != EXIT_DONE)
        return code;
    int err = receipt_make(cache.store, cache.txn, (int64_t)time(NULL), &text, &len, &count);
    cache_close(&cache);
    if (err != 0)
        return cache_complain(o, err);
    code = sign(o, &text, &len);
    if (code == EXIT_DONE && path != NULL && strcmp(path, "-") != 0) {
        code = write_file(path, text, len);
        if (code == EXIT_DONE)
            code = report(o, path, count);
    } else if (code == EXIT_DONE) {
        fwrite(text, 1, len, stdout);
        code = output_end();
    }
    free(text);
    return code;
}
