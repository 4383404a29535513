/* SPDX-License-Identifier: ISC */
/* No text is a pass of ours that we have not written, and what is read of one is what was
 * written. A line before the first newline is a user. */
#include "proxy/pass.h"

#include <string.h>

#include "cache/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t key[PASS_KEY_BYTES] = "which no input was made with";

static void check_written(const char *user, size_t len, const char *hash)
{
    struct pass p = {.until_s = len * UINT64_C(0x123456789abcdef)}, read;
    char text[PASS_TEXT_SIZE];

    memcpy(p.user, user, len);
    pass_write(&p, key, hash, text);
    size_t text_len = strlen(text);
    CHECK(pass_read(&read, text, text_len) == 0);
    CHECK(strcmp(read.user, p.user) == 0 && read.until_s == p.until_s);
    CHECK(pass_is_genuine(&read, text, text_len, key, hash));
    CHECK(!pass_is_genuine(&read, text, text_len, key, "another"));
    CHECK(!pass_is_genuine(&read, text, text_len - 1, key, hash));
    read.until_s++;
    CHECK(!pass_is_genuine(&read, text, text_len, key, hash));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *line = size > 0 ? memchr(text, '\n', size) : NULL;
    size_t len = line != NULL ? (size_t)(line - text) : 0;
    struct pass p;

    if (size > 0) {
        int err = pass_read(&p, text, size);
        CHECK(err == 0 || err == ERR_INVALID);
        CHECK(memchr(p.user, '\0', sizeof p.user) != NULL);
        CHECK(err != 0 || !pass_is_genuine(&p, text, size, key, ""));
    }
    if (line != NULL && len < CONFIG_USER_SIZE && memchr(text, '\0', len) == NULL) {
        check_written(text, len, "");
        check_written(text, len, "$2y$05$abc");
    }
    return 0;
}
