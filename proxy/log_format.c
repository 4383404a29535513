/* SPDX-License-Identifier: ISC */
/*
 * No snprintf: an access line is made for every request.
 *
 * Text: a bare word escapes what would end or hide it (space, quote, backslash and
 * all that is not visible ASCII) as \xNN; a message or a quoted word may have
 * spaces. JSON: \u00NN, so that bytes from a peer that are not UTF-8 still give
 * valid JSON.
 */
#include "proxy/log_format.h"

#include <string.h>
#include <time.h>

enum escape { ESCAPE_WORD = 1, ESCAPE_QUOTED = 2, ESCAPE_MESSAGE = 4, ESCAPE_JSON = 8 };

#define ESCAPE_ALWAYS (ESCAPE_WORD | ESCAPE_QUOTED | ESCAPE_MESSAGE | ESCAPE_JSON)

/* Which kinds of strings escape a byte. */
static const uint8_t escaped_in[256] = {
    [0 ... 0x1f] = ESCAPE_ALWAYS,
    [' '] = ESCAPE_WORD,
    ['"'] = ESCAPE_ALWAYS & ~ESCAPE_MESSAGE,
    ['\\'] = ESCAPE_ALWAYS,
    [0x7f ... 0xff] = ESCAPE_ALWAYS,
};

static const char hex[] = "0123456789abcdef";

static const struct {
    const char *word;
    char priority; /* of syslog */
} levels[] = {
    [LOG_ERROR] = {"error", '3'},
    [LOG_WARN] = {"warn", '4'},
    [LOG_INFO] = {"info", '6'},
    [LOG_DEBUG] = {"debug", '7'},
};

static char *put(char *p, const char *text, size_t len)
{
    memcpy(p, text, len);
    return p + len;
}

#define PUT(p, literal) put(p, literal, sizeof(literal) - 1)

static char *put_number(char *p, uint64_t n)
{
    char digits[20];
    size_t i = sizeof digits;
    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return put(p, digits + i, sizeof digits - i);
}

static char *put_three(char *p, unsigned n)
{
    *p++ = (char)('0' + n / 100 % 10);
    *p++ = (char)('0' + n / 10 % 10);
    *p++ = (char)('0' + n % 10);
    return p;
}

static char *put_time(char *p, struct log_clock *clock, int64_t time_ms)
{
    int64_t time_s = time_ms / 1000;
    if (clock->time_s != time_s || clock->text[0] == '\0') {
        struct tm tm = {0};
        time_t t = (time_t)time_s;
        gmtime_r(&t, &tm);
        strftime(clock->text, sizeof clock->text, "%Y-%m-%dT%H:%M:%S", &tm);
        clock->time_s = time_s;
    }
    p = put(p, clock->text, strlen(clock->text));
    *p++ = '.';
    p = put_three(p, (unsigned)(time_ms % 1000));
    *p++ = 'Z';
    return p;
}

static char *put_escape(char *p, unsigned char c, enum escape how)
{
    *p++ = '\\';
    if ((c == '"' || c == '\\') && how != ESCAPE_WORD) {
        *p++ = (char)c;
        return p;
    }
    if (how == ESCAPE_JSON)
        p = PUT(p, "u00");
    else
        *p++ = 'x';
    *p++ = hex[c >> 4];
    *p++ = hex[c & 15];
    return p;
}

/* Bytes from the front that need no escape; by fours, for most need none. */
static size_t plain_length(const char *text, size_t len, enum escape how)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0;
    while (len - i >= 4 && ((escaped_in[p[i]] | escaped_in[p[i + 1]] | escaped_in[p[i + 2]] |
                             escaped_in[p[i + 3]]) &
                            how) == 0)
        i += 4;
    while (i < len && (escaped_in[p[i]] & how) == 0)
        i++;
    return i;
}

/* At most `max` bytes of the text; "..." says that there were more. */
static char *put_escaped(char *p, const char *text, size_t max, enum escape how)
{
    const char *end = text + strnlen(text, max);
    for (;;) {
        size_t len = plain_length(text, (size_t)(end - text), how);
        p = put(p, text, len);
        text += len;
        if (text == end)
            break;
        p = put_escape(p, (unsigned char)*text++, how);
    }
    return *end == '\0' ? p : PUT(p, "...");
}

static char *put_priority(char *p, struct log_shape shape, enum log_level level)
{
    if (!shape.priorities || shape.json)
        return p;
    *p++ = '<';
    *p++ = levels[level].priority;
    *p++ = '>';
    return p;
}

size_t log_format_event(char *out, struct log_shape shape, struct log_clock *clock, int64_t time_ms,
                        enum log_level level, const char *message, bool cut)
{
    const char *word = levels[level].word;
    char *p = put_priority(out, shape, level);
    if (shape.json)
        p = PUT(p, "{\"time\":\"");
    p = put_time(p, clock, time_ms);
    if (shape.json)
        p = PUT(p, "\",\"type\":\"event\",\"level\":\"");
    else
        *p++ = ' ';
    p = put(p, word, strlen(word));
    if (shape.json)
        p = PUT(p, "\",\"message\":\"");
    else
        *p++ = ' ';
    p = put_escaped(p, message, strlen(message), shape.json ? ESCAPE_JSON : ESCAPE_MESSAGE);
    if (cut)
        p = PUT(p, "...");
    if (shape.json)
        p = PUT(p, "\"}");
    *p++ = '\n';
    return (size_t)(p - out);
}

static bool is_absent(const char *text)
{
    return text == NULL || *text == '\0';
}

static char *put_word(char *p, const char *text)
{
    if (is_absent(text))
        return PUT(p, "- ");
    p = put_escaped(p, text, LOG_FIELD_MAX, ESCAPE_WORD);
    *p++ = ' ';
    return p;
}

static char *put_milliseconds(char *p, uint64_t duration_us)
{
    p = put_number(p, duration_us / 1000);
    *p++ = '.';
    return put_three(p, (unsigned)(duration_us % 1000));
}

static char *put_text_access(char *p, const struct access_line *line)
{
    p = PUT(p, " access ");
    p = put_word(p, line->client);
    p = put_word(p, line->user);
    p = put_word(p, line->method);
    p = put_word(p, line->door);
    p = put_word(p, line->registry);
    p = put_word(p, line->repository);
    p = put_word(p, line->reference);
    p = put_three(p, (unsigned)line->status);
    *p++ = ' ';
    p = put_number(p, line->body_bytes);
    *p++ = ' ';
    p = put_word(p, line->outcome);
    p = put_milliseconds(p, line->duration_us);
    p = PUT(p, " \"");
    if (is_absent(line->user_agent))
        *p++ = '-';
    else
        p = put_escaped(p, line->user_agent, LOG_FIELD_MAX, ESCAPE_QUOTED);
    *p++ = '"';
    return p;
}

/* `key` with its punctuation: ",\"client\":\"". */
static char *put_pair(char *p, const char *key, const char *text)
{
    if (is_absent(text))
        return p;
    p = put(p, key, strlen(key));
    p = put_escaped(p, text, LOG_FIELD_MAX, ESCAPE_JSON);
    *p++ = '"';
    return p;
}

static char *put_json_access(char *p, const struct access_line *line)
{
    p = PUT(p, "\",\"type\":\"access\"");
    p = put_pair(p, ",\"client\":\"", line->client);
    p = put_pair(p, ",\"user\":\"", line->user);
    p = put_pair(p, ",\"method\":\"", line->method);
    p = put_pair(p, ",\"door\":\"", line->door);
    p = put_pair(p, ",\"registry\":\"", line->registry);
    p = put_pair(p, ",\"repository\":\"", line->repository);
    p = put_pair(p, ",\"reference\":\"", line->reference);
    p = PUT(p, ",\"status\":");
    p = put_number(p, (uint64_t)line->status);
    p = PUT(p, ",\"bytes\":");
    p = put_number(p, line->body_bytes);
    p = put_pair(p, ",\"outcome\":\"", line->outcome);
    p = PUT(p, ",\"ms\":");
    p = put_milliseconds(p, line->duration_us);
    p = put_pair(p, ",\"user_agent\":\"", line->user_agent);
    *p++ = '}';
    return p;
}

size_t log_format_access(char *out, struct log_shape shape, struct log_clock *clock,
                         const struct access_line *line)
{
    char *p = put_priority(out, shape, LOG_INFO);
    if (shape.json)
        p = PUT(p, "{\"time\":\"");
    p = put_time(p, clock, line->time_ms);
    p = shape.json ? put_json_access(p, line) : put_text_access(p, line);
    *p++ = '\n';
    return (size_t)(p - out);
}
