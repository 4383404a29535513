/* SPDX-License-Identifier: ISC */
#include "tools/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/output.h"
#include "tools/terminal.h"

#define REDRAW_MS 100
/* What stands beside the bar, at its longest. */
#define BESIDE 60
#define BAR_WIDEST 30

static int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

char *progress_line(const struct progress *p, int64_t now_ms, unsigned width,
                    char out[PROGRESS_LINE_MAX])
{
    char done[TEXT_MAX], total[TEXT_MAX], rate[TEXT_MAX], left[TEXT_MAX];
    char bar[BAR_MAX] = "", end[64] = "";
    double passed_s = (double)(now_ms - p->began_ms) / 1000;
    double speed = passed_s > 0 ? (double)p->done_bytes / passed_s : 0;
    uint64_t rest = p->total_bytes > p->done_bytes ? p->total_bytes - p->done_bytes : 0;
    bool is_known = p->total_bytes > 0;
    if (is_known && width > BESIDE + 10)
        bar_text(bar, width - BESIDE < BAR_WIDEST ? width - BESIDE : BAR_WIDEST, p->done_bytes,
                 p->total_bytes);
    if (is_known && speed > 0 && passed_s >= 1)
        snprintf(end, sizeof end, "  %s left", age_text(left, (int64_t)((double)rest / speed)));
    snprintf(out, PROGRESS_LINE_MAX, "%s %s%s%s%s%s  %s/s%s", p->what, bar, *bar != '\0' ? " " : "",
             size_text(done, p->done_bytes), is_known ? " of " : "",
             is_known ? size_text(total, p->total_bytes) : "", size_text(rate, (uint64_t)speed),
             end);
    if (width > 0 && width < PROGRESS_LINE_MAX)
        out[width - 1] = '\0';
    return out;
}

/* A carriage return, and blanks over what was longer: every terminal knows these. */
static void draw(struct progress *p, int64_t now_ms)
{
    char line[PROGRESS_LINE_MAX];
    struct terminal_size size;
    unsigned columns = terminal_size(STDERR_FILENO, &size) ? size.columns : TERMINAL_COLUMNS;
    progress_line(p, now_ms, columns, line);
    int width = (int)strlen(line);
    fprintf(stderr, "\r%s%*s", line, p->width > width ? p->width - width : 0, "");
    fflush(stderr);
    p->width = width;
    p->drawn_ms = now_ms;
}

void progress_begin(struct progress *p, const struct options *o, const char *what,
                    uint64_t total_bytes)
{
    *p = (struct progress){.what = what, .total_bytes = total_bytes, .began_ms = clock_ms()};
    p->is_shown = !o->quiet && o->format == FORMAT_TABLE && isatty(STDERR_FILENO);
    p->drawn_ms = p->began_ms;
}

void progress_add(struct progress *p, uint64_t bytes)
{
    p->done_bytes += bytes;
    if (!p->is_shown)
        return;
    int64_t now_ms = clock_ms();
    if (now_ms - p->drawn_ms >= REDRAW_MS)
        draw(p, now_ms);
}

void progress_end(struct progress *p)
{
    if (p->is_shown && p->width > 0)
        fprintf(stderr, "\r%*s\r", p->width, "");
    p->is_shown = false;
}
