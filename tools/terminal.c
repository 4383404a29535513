/* SPDX-License-Identifier: ISC */
#include "tools/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool terminal_size(int fd, struct terminal_size *size)
{
    struct winsize w = {0};
    *size = (struct terminal_size){0};
    if (!isatty(fd))
        return false;
    if (ioctl(fd, TIOCGWINSZ, &w) != 0)
        w = (struct winsize){0};
    size->columns = w.ws_col > 0 ? w.ws_col : TERMINAL_COLUMNS;
    size->lines = w.ws_row > 0 ? w.ws_row : TERMINAL_LINES;
    return true;
}

bool terminal_has_style(int fd)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return isatty(fd) && (no_color == NULL || *no_color == '\0') && term != NULL && *term != '\0' &&
           strcmp(term, "dumb") != 0;
}
