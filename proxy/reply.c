/* SPDX-License-Identifier: ISC */
#include "proxy/reply.h"

#include <stdio.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/http.h"

struct status_row {
    int status;
    const char *line;
    size_t len;
};

#define STATUS(status, reason)                                                                     \
    {                                                                                              \
        status, "HTTP/1.1 " reason "\r\n", sizeof("HTTP/1.1 " reason "\r\n") - 1                   \
    }

static const struct status_row status_rows[] = {
    STATUS(200, "200 OK"),
    STATUS(201, "201 Created"),
    STATUS(202, "202 Accepted"),
    STATUS(204, "204 No Content"),
    STATUS(206, "206 Partial Content"),
    STATUS(303, "303 See Other"),
    STATUS(304, "304 Not Modified"),
    STATUS(400, "400 Bad Request"),
    STATUS(401, "401 Unauthorized"),
    STATUS(403, "403 Forbidden"),
    STATUS(404, "404 Not Found"),
    STATUS(405, "405 Method Not Allowed"),
    STATUS(409, "409 Conflict"),
    STATUS(413, "413 Content Too Large"),
    STATUS(414, "414 URI Too Long"),
    STATUS(416, "416 Range Not Satisfiable"),
    STATUS(421, "421 Misdirected Request"),
    STATUS(429, "429 Too Many Requests"),
    STATUS(431, "431 Request Header Fields Too Large"),
    STATUS(502, "502 Bad Gateway"),
    STATUS(503, "503 Service Unavailable"),
    STATUS(504, "504 Gateway Timeout"),
    STATUS(507, "507 Insufficient Storage"),
    STATUS(508, "508 Loop Detected"),
    STATUS(505, "505 HTTP Version Not Supported"),
};

static const struct status_row *status_row(int status)
{
    for (size_t i = 0; i < sizeof status_rows / sizeof *status_rows; i++)
        if (status_rows[i].status == status)
            return &status_rows[i];
    CHECK(!"a status without a row");
    return NULL;
}

static void append(struct reply *r, const char *text, size_t len)
{
    memcpy(r->text + r->len, text, len);
    r->len += len;
}

/* What reply_length writes at most, and reply_end. */
#define LENGTH_ROOM (sizeof "Content-Length: 18446744073709551615\r\n" - 1)
#define END_ROOM (sizeof "Connection: keep-alive\r\n\r\n" - 1)

static void append_field(struct reply *r, const char *name, const char *value, size_t value_len)
{
    append(r, name, strlen(name));
    append(r, ": ", 2);
    append(r, value, value_len);
    append(r, "\r\n", 2);
}

void reply_begin(struct reply *r, int status, const char *date)
{
    const struct status_row *row = status_row(status);

    r->len = 0;
    append(r, row->line, row->len);
    append(r, "Date: ", 6);
    append(r, date, HTTP_DATE_SIZE - 1);
    append(r, "\r\nDocker-Distribution-Api-Version: registry/2.0\r\n", 49);
}

void reply_field(struct reply *r, const char *name, const char *value)
{
    size_t name_len = strlen(name);
    size_t value_len = strcspn(value, "\r\n");

    CHECK(value[value_len] == '\0');
    if (name_len + value_len + 4 + LENGTH_ROOM + END_ROOM <= REPLY_HEAD_MAX - r->len)
        append_field(r, name, value, value_len);
}

void reply_length(struct reply *r, uint64_t size_bytes)
{
    char text[24];
    char *p = text + sizeof text;

    *--p = '\0';
    do
        *--p = (char)('0' + size_bytes % 10);
    while ((size_bytes /= 10) != 0);
    CHECK(r->len + LENGTH_ROOM + END_ROOM <= REPLY_HEAD_MAX);
    append_field(r, "Content-Length", p, strlen(p));
}

void reply_end(struct reply *r, bool keep_alive, bool is_old)
{
    CHECK(r->len + END_ROOM <= REPLY_HEAD_MAX);
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
