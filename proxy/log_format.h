/* SPDX-License-Identifier: ISC */
/* How a line of the log looks. Pure, and bounded by construction: every string is
 * cut at LOG_FIELD_MAX bytes, and every byte becomes at most LOG_ESCAPED_MAX. */
#ifndef PROXY_LOG_FORMAT_H
#define PROXY_LOG_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/log.h"

#define LOG_FIELD_MAX 512 /* bytes of one string of an access line, before escaping */
#define LOG_ESCAPED_MAX 6 /* "\u00ff" */
#define LOG_FIXED_MAX 512 /* of a line: names, time, numbers, marks of cut strings */
#define LOG_ACCESS_STRINGS 9
#define LOG_ACCESS_MAX (LOG_FIXED_MAX + LOG_ACCESS_STRINGS * LOG_FIELD_MAX * LOG_ESCAPED_MAX)
#define LOG_EVENT_MAX(message_max) (LOG_FIXED_MAX + (message_max)*LOG_ESCAPED_MAX)

struct log_shape {
    bool json;
    bool priorities; /* "<N>" before each line, sd-daemon(3) */
};

/* The text of the last second that was written; zeroed at first. */
struct log_clock {
    int64_t time_s;
    char text[20]; /* "2026-11-24T05:53:41"; empty at first */
};

/* Write one line with its newline, no NUL; returns its length.
 *
 *   TIME LEVEL message
 *   TIME access CLIENT USER METHOD DOOR REGISTRY REPOSITORY REFERENCE STATUS BYTES OUTCOME MS
 *        "AGENT"
 */
size_t log_format_event(char *out, struct log_shape shape, struct log_clock *clock, int64_t time_ms,
                        enum log_level level, const char *message, bool cut);
size_t log_format_access(char *out, struct log_shape shape, struct log_clock *clock,
                         const struct access_line *line);

#endif
