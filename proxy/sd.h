/* SPDX-License-Identifier: ISC */
/* The two conversations with systemd: sd_notify(3) and sd_listen_fds(3). */
#ifndef PROXY_SD_H
#define PROXY_SD_H

#include <stdbool.h>
#include <stdint.h>

#define SD_NAME_MAX 256 /* with the NUL */

/* Each sends one datagram to $NOTIFY_SOCKET and returns whether it went out; without
 * the variable nothing happens. Main thread. */
bool sd_ready(void);
bool sd_reloading(void);
bool sd_stopping(void);
bool sd_alive(void);
/* One line for a person, in `systemctl status`. */
bool sd_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How soon after READY=1 or sd_alive() the next sd_alive() is missed, in microseconds; 0: never. */
int64_t sd_watchdog_us(void);

/* A socket that was passed in. */
struct sd_socket {
    int fd;                 /* close-on-exec; the caller's */
    char name[SD_NAME_MAX]; /* FileDescriptorName=, or "unknown" */
};

/* Take the sockets that were passed to this process, at most `max`; those beyond
 * are closed. The variables are removed, so that children do not take them too.
 * Returns the number. Before any thread is started. */
unsigned sd_sockets(struct sd_socket *sockets, unsigned max);

#endif
