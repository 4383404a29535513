/* SPDX-License-Identifier: ISC */
/* Whether people look at what is printed, and how wide their terminal is. */
#ifndef TOOLS_TERMINAL_H
#define TOOLS_TERMINAL_H

#include <stdbool.h>

#define TERMINAL_COLUMNS 80 /* when it is a terminal and does not say */
#define TERMINAL_LINES 24

struct terminal_size {
    unsigned columns;
    unsigned lines;
};

/* False, and 0 columns, when the descriptor is no terminal: then nothing is cut or set off. */
bool terminal_size(int fd, struct terminal_size *size);

/* Whether text on it may be set off: not with NO_COLOR, nor on a dumb terminal. */
bool terminal_has_style(int fd);

#endif
