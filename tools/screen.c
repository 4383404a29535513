/* SPDX-License-Identifier: ISC */
#include "tools/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cache/check.h"

/* ECMA-48, and xterm's other screen. */
#define OTHER_SCREEN "\033[?1049h\033[?25l"
#define FIRST_SCREEN "\033[?25h\033[?1049l"
#define HOME "\033[H"
#define CLEAR_LINE "\033[K"
#define CLEAR_BELOW "\033[J"
#define PLAIN "\033[0m"

struct screen {
    int signal_fd;
    sigset_t mask; /* of before */
    struct termios termios;
    bool has_keys; /* standard input is a terminal, too */
};

static bool write_all(const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

/* Keys come at once and are not shown; one cannot stop the program half way. */
static bool take_keys(struct termios *before)
{
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, before) != 0)
        return false;
    struct termios raw = *before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    raw.c_cc[VSUSP] = _POSIX_VDISABLE;
    return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

struct screen *screen_open(void)
{
    struct screen *s = mem_new(sizeof *s);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGWINCH);
    CHECK(sigprocmask(SIG_BLOCK, &set, &s->mask) == 0);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    CHECK(s->signal_fd >= 0);
    s->has_keys = take_keys(&s->termios);
    write_all(OTHER_SCREEN, strlen(OTHER_SCREEN));
    return s;
}

void screen_close(struct screen **sp)
{
    struct screen *s = *sp;
    if (s == NULL)
        return;
    *sp = NULL;
    write_all(FIRST_SCREEN, strlen(FIRST_SCREEN));
    if (s->has_keys)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &s->termios);
    close(s->signal_fd);
    sigprocmask(SIG_SETMASK, &s->mask, NULL);
    free(s);
}

/* The bytes of the line that are shown in so many columns: escapes take none. */
static size_t shown_len(const char *line, size_t len, unsigned columns)
{
    size_t i = 0;
    while (i < len) {
        if (line[i] == '\033') {
            i += strcspn(line + i, "m") + 1;
            continue;
        }
        if (columns-- == 0)
            return i;
        i++;
    }
    return len;
}

char *screen_frame(const char *text, const struct terminal_size *size)
{
    char *frame = NULL;
    size_t frame_len;
    FILE *out = open_memstream(&frame, &frame_len);
    CHECK(out != NULL);
    fputs(HOME, out);
    for (unsigned i = 0; i < size->lines && *text != '\0'; i++) {
        size_t len = strcspn(text, "\n");
        size_t shown = shown_len(text, len, size->columns);
        /* No new line after the last one: the terminal would scroll. */
        fprintf(out, "%s%.*s%s" CLEAR_LINE, i > 0 ? "\r\n" : "", (int)shown, text,
                shown < len ? PLAIN : "");
        text += len + (text[len] == '\n');
    }
    fputs(CLEAR_BELOW, out);
    CHECK(fclose(out) == 0);
    return frame;
}

bool screen_draw(const struct screen *s, const char *text)
{
    struct terminal_size size;
    (void)s;
    if (!terminal_size(STDOUT_FILENO, &size))
        return false;
    char *frame = screen_frame(text, &size);
    bool done = write_all(frame, strlen(frame));
    free(frame);
    return done;
}

static enum screen_event read_signal(const struct screen *s)
{
    struct signalfd_siginfo info;
    ssize_t n = read(s->signal_fd, &info, sizeof info);
    return n == (ssize_t)sizeof info && info.ssi_signo == SIGWINCH ? SCREEN_RESIZED : SCREEN_END;
}

/* Whether a key ends it; other keys do nothing. */
static bool read_key(void)
{
    char keys[64];
    ssize_t n = read(STDIN_FILENO, keys, sizeof keys);
    return n <= 0 || memchr(keys, 'q', (size_t)n) != NULL || memchr(keys, 'Q', (size_t)n) != NULL;
}

int64_t screen_clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

enum screen_event screen_wait(const struct screen *s, int64_t timeout_ms)
{
    struct pollfd fds[] = {{s->signal_fd, POLLIN, 0}, {s->has_keys ? STDIN_FILENO : -1, POLLIN, 0}};
    int64_t end_ms = screen_clock_ms() + timeout_ms;
    for (;;) {
        int64_t left_ms = end_ms - screen_clock_ms();
        int n = poll(fds, 2, left_ms > 0 ? (int)left_ms : 0);
        if (n == 0)
            return SCREEN_TIMEOUT;
        if (n > 0 && fds[0].revents != 0)
            return read_signal(s);
        if (n > 0 && fds[1].revents != 0 && read_key())
            return SCREEN_END;
    }
}
