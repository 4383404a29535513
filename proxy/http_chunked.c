/* SPDX-License-Identifier: ISC */
/*
 * The chunked transfer coding. A byte at a time but for the content:
 *
 *   SIZE -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE ...
 *              \ (size 0)
 *               -> TRAILER -> TRAILER_NAME -> TRAILER_VALUE -> TRAILER_LF -> TRAILER ...
 *                     \ (empty line)
 *                      -> END_LF -> ENDED
 *
 * Any state but ENDED goes to BROKEN, which it never leaves.
 */
#include "proxy/http.h"

/* 60 bits: no sum of a chunk and an offset wraps. */
#define SIZE_DIGITS_MAX 15
#define TRAILER_BYTES_MAX 4096

static void chunked_enter(struct chunked *c, enum chunked_state state)
{
    if (state == CHUNKED_SIZE) {
        c->left = 0;
        c->line_len = 0;
    } else if (state == CHUNKED_TRAILER && c->state == CHUNKED_SIZE_LF) {
        c->line_len = 0;
    }
    c->state = state;
}

void chunked_init(struct chunked *c)
{
    chunked_enter(c, CHUNKED_SIZE);
}

static int hex_value(char b)
{
    if (b >= '0' && b <= '9')
        return b - '0';
    b |= 0x20;
    return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

/* A byte of the line with the size: digits and nothing else, so no extension. */
static void take_size(struct chunked *c, char b)
{
    int v = hex_value(b);
    if (v >= 0 && c->line_len < SIZE_DIGITS_MAX) {
        c->left = c->left << 4 | (unsigned)v;
        c->line_len++;
    } else {
        chunked_enter(c, b == '\r' && c->line_len > 0 ? CHUNKED_SIZE_LF : CHUNKED_BROKEN);
    }
}

static enum chunked_state after_trailer_byte(enum chunked_state state, char b)
{
    switch (state) {
    case CHUNKED_TRAILER:
        if (b == '\r')
            return CHUNKED_END_LF;
        return http_is_token_char(b) ? CHUNKED_TRAILER_NAME : CHUNKED_BROKEN;
    case CHUNKED_TRAILER_NAME:
        if (b == ':')
            return CHUNKED_TRAILER_VALUE;
        return http_is_token_char(b) ? CHUNKED_TRAILER_NAME : CHUNKED_BROKEN;
    case CHUNKED_TRAILER_VALUE:
        if (b == '\r')
            return CHUNKED_TRAILER_LF;
        return http_is_value_char(b) ? CHUNKED_TRAILER_VALUE : CHUNKED_BROKEN;
    case CHUNKED_TRAILER_LF:
        return b == '\n' ? CHUNKED_TRAILER : CHUNKED_BROKEN;
    case CHUNKED_END_LF:
        return b == '\n' ? CHUNKED_ENDED : CHUNKED_BROKEN;
    case CHUNKED_SIZE:
    case CHUNKED_SIZE_LF:
    case CHUNKED_DATA:
    case CHUNKED_DATA_CR:
    case CHUNKED_DATA_LF:
    case CHUNKED_ENDED:
    case CHUNKED_BROKEN:
        break;
    }
    return CHUNKED_BROKEN;
}

/* One byte that is not content. */
static void take_byte(struct chunked *c, char b)
{
    switch (c->state) {
    case CHUNKED_SIZE:
        take_size(c, b);
        break;
    case CHUNKED_SIZE_LF:
        if (b != '\n')
            chunked_enter(c, CHUNKED_BROKEN);
        else
            chunked_enter(c, c->left > 0 ? CHUNKED_DATA : CHUNKED_TRAILER);
        break;
    case CHUNKED_DATA_CR:
        chunked_enter(c, b == '\r' ? CHUNKED_DATA_LF : CHUNKED_BROKEN);
        break;
    case CHUNKED_DATA_LF:
        chunked_enter(c, b == '\n' ? CHUNKED_SIZE : CHUNKED_BROKEN);
        break;
    case CHUNKED_TRAILER:
    case CHUNKED_TRAILER_NAME:
    case CHUNKED_TRAILER_VALUE:
    case CHUNKED_TRAILER_LF:
    case CHUNKED_END_LF:
        c->line_len++;
        chunked_enter(c, c->line_len > TRAILER_BYTES_MAX ? CHUNKED_BROKEN
                                                         : after_trailer_byte(c->state, b));
        break;
    case CHUNKED_DATA:
    case CHUNKED_ENDED:
    case CHUNKED_BROKEN:
        break;
    }
}

enum http_result chunked_decode(struct chunked *c, const char *in, size_t len, size_t *used,
                                struct span *out)
{
    size_t at = 0;
    *out = (struct span){in, 0};
    while (at < len && c->state != CHUNKED_DATA && c->state != CHUNKED_ENDED &&
           c->state != CHUNKED_BROKEN) {
        take_byte(c, in[at]);
        at++;
    }
    if (at < len && c->state == CHUNKED_DATA) {
        size_t n = c->left < len - at ? (size_t)c->left : len - at;
        *out = (struct span){in + at, n};
        at += n;
        c->left -= n;
        if (c->left == 0)
            chunked_enter(c, CHUNKED_DATA_CR);
    }
    *used = at;
    if (c->state == CHUNKED_BROKEN)
        return HTTP_BAD;
    return c->state == CHUNKED_ENDED ? HTTP_DONE : HTTP_MORE;
}
