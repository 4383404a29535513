/* SPDX-License-Identifier: ISC */
#include "proxy/reply.h"

#include <stdio.h>
#include <string.h>

#include "cache/check.h"

struct status_row {
    int status;
    const char *line;
};

static const struct status_row status_rows[] = {
    {200, "HTTP/1.1 200 OK\r\n"},
    {206, "HTTP/1.1 206 Partial Content\r\n"},
    {304, "HTTP/1.1 304 Not Modified\r\n"},
    {400, "HTTP/1.1 400 Bad Request\r\n"},
    {401, "HTTP/1.1 401 Unauthorized\r\n"},
    {403, "HTTP/1.1 403 Forbidden\r\n"},
    {404, "HTTP/1.1 404 Not Found\r\n"},
    {405, "HTTP/1.1 405 Method Not Allowed\r\n"},
    {413, "HTTP/1.1 413 Content Too Large\r\n"},
    {414, "HTTP/1.1 414 URI Too Long\r\n"},
    {416, "HTTP/1.1 416 Range Not Satisfiable\r\n"},
    {429, "HTTP/1.1 429 Too Many Requests\r\n"},
    {431, "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
    {502, "HTTP/1.1 502 Bad Gateway\r\n"},
    {503, "HTTP/1.1 503 Service Unavailable\r\n"},
    {504, "HTTP/1.1 504 Gateway Timeout\r\n"},
    {508, "HTTP/1.1 508 Loop Detected\r\n"},
    {505, "HTTP/1.1 505 HTTP Version Not Supported\r\n"},
};

static const char *status_line(int status)
{
    for (size_t i = 0; i < sizeof status_rows / sizeof *status_rows; i++)
        if (status_rows[i].status == status)
            return status_rows[i].line;
    CHECK(!"a status without a row");
    return NULL;
}

static void append(struct reply *r, const char *text, size_t len)
{
    memcpy(r->text + r->len, text, len);
    r->len += len;
}

/* Room is kept for what reply_end writes. */
static bool has_room(const struct reply *r, size_t len)
{
    return len + 32 <= REPLY_HEAD_MAX - r->len;
}

void reply_begin(struct reply *r, int status, const char *date)
{
    const char *line = status_line(status);

    r->len = 0;
    append(r, line, strlen(line));
    append(r, "Date: ", 6);
    append(r, date, strlen(date));
    append(r, "\r\nDocker-Distribution-Api-Version: registry/2.0\r\n", 49);
}

void reply_field(struct reply *r, const char *name, const char *value)
{
    size_t name_len = strlen(name);
    size_t value_len = strcspn(value, "\r\n");

    CHECK(value[value_len] == '\0');
    if (!has_room(r, name_len + value_len + 4))
        return;
    append(r, name, name_len);
    append(r, ": ", 2);
    append(r, value, value_len);
    append(r, "\r\n", 2);
}

void reply_field_number(struct reply *r, const char *name, uint64_t value)
{
    char text[24];
    char *p = text + sizeof text;

    *--p = '\0';
    do
        *--p = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    reply_field(r, name, p);
}

void reply_end(struct reply *r, bool keep_alive, bool is_old)
{
    if (!keep_alive)
        append(r, "Connection: close\r\n", 19);
    else if (is_old)
        append(r, "Connection: keep-alive\r\n", 24);
    append(r, "\r\n", 2);
}

/* Append `text` as the inside of a JSON string; bytes that are not printable
 * ASCII are escaped one by one, so that whatever an upstream said is valid JSON. */
static size_t append_json(char *out, size_t room, const char *text)
{
    size_t len = 0;

    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        char piece[8];
        int n;

        if (*p == '"' || *p == '\\')
            n = snprintf(piece, sizeof piece, "\\%c", *p);
        else if (*p < 0x20 || *p >= 0x7f)
            n = snprintf(piece, sizeof piece, "\\u%04x", *p);
        else
            n = snprintf(piece, sizeof piece, "%c", *p);
        if (len + (size_t)n > room)
            break;
        memcpy(out + len, piece, (size_t)n);
        len += (size_t)n;
    }
    return len;
}

size_t reply_error_body(char out[REPLY_ERROR_MAX], enum outcome o, const char *detail)
{
    const struct outcome_row *row = outcome_row(o);
    const char *tail = "\"}]}\n";
    int len = snprintf(out, REPLY_ERROR_MAX,
                       "{\"errors\":[{\"code\":\"%s\",\"message\":\"%s\",\"detail\":\"", row->code,
                       row->text);

    CHECK(len > 0 && (size_t)len < REPLY_ERROR_MAX - 16);
    size_t used = (size_t)len;
    if (detail)
        used += append_json(out + used, REPLY_ERROR_MAX - 8 - used, detail);
    memcpy(out + used, tail, strlen(tail));
    return used + strlen(tail);
}
