/* SPDX-License-Identifier: ISC */
/* The whole terminal, drawn again and again, and the keys that are pressed meanwhile. */
#ifndef TOOLS_SCREEN_H
#define TOOLS_SCREEN_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/terminal.h"

struct screen;

/* Monotonic. */
int64_t screen_clock_ms(void);

/* Take over standard output, which is a terminal; what was on it comes back with
 * screen_close. SIGINT, SIGTERM and SIGHUP end the wait of screen_wait from now on. */
struct screen *screen_open(void);
/* NULL is legal; leaves NULL. */
void screen_close(struct screen **s);

/* Draw the text: as many of its lines as there is room for. False when the terminal is
 * gone. */
bool screen_draw(const struct screen *s, const char *text);

enum screen_event {
    SCREEN_TIMEOUT,
    SCREEN_RESIZED,
    SCREEN_END, /* q was pressed, or a signal came */
};
enum screen_event screen_wait(const struct screen *s, int64_t timeout_ms);

/* What is drawn for a text on a terminal of that size: no line longer or further down than
 * it has room for. Owned by the caller. */
char *screen_frame(const char *text, const struct terminal_size *size);

#endif
