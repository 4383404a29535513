/* SPDX-License-Identifier: ISC */
#include "proxy/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cache/err.h"
#include "proxy/socket.h"

#define ACCEPTS_MAX 64 /* in one callback */
/* Descriptors that are not for connections: store, index, upstreams, fetches. */
#define RESERVED_FILES 512

struct listener {
    SLIST_ENTRY(listener) link;
    struct listeners *all;
    struct config *config;
    const struct config_listener *settings;
    char *address; /* as configured: by it a reload knows what it has */
    int fd;
    struct event *event;
    struct load *load;
    bool is_paused;
};

SLIST_HEAD(listener_list, listener);

struct listeners {
    struct event_base *base;
    struct log *log;
    struct listeners_calls calls;
    void *arg;
    struct listener_list list;
    struct event *resume; /* accepting goes on when it fires */
    int reserve_fd;       /* given up when there are no others, for the admin socket; or -1 */
    struct config_listener admin;
};

/* --- accepting --- */

static void set_accepting(struct listener *l, bool on)
{
    l->is_paused = !on;
    CHECK((on ? event_add(l->event, NULL) : event_del(l->event)) == 0);
}

static void keep_reserve(struct listeners *ls)
{
    if (ls->reserve_fd < 0)
        ls->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Whether there is one descriptor more for this listener now. */
static bool use_reserve(struct listener *l)
{
    struct listeners *ls = l->all;

    if (errno != EMFILE || l->settings != &ls->admin || ls->reserve_fd < 0)
        return false;
    close(ls->reserve_fd);
    ls->reserve_fd = -1;
    return true;
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    struct listeners *ls = arg;
    struct listener *l;

    (void)fd;
    (void)what;
    keep_reserve(ls);
    SLIST_FOREACH (l, &ls->list, link) {
        if (l->is_paused)
            set_accepting(l, true);
    }
}

/* A listening socket stays readable, so that going on at once would spin. */
static void pause_accepting(struct listener *l, const char *why)
{
    static const struct timeval delay = {.tv_usec = 100000};

    if (!l->is_paused)
        log_event_about(l->all->log, LOG_WARN, NULL,
                        "not accepting connections on %s for the moment: %s", l->address, why);
    set_accepting(l, false);
    if (!event_pending(l->all->resume, EV_TIMEOUT, NULL))
        CHECK(event_add(l->all->resume, &delay) == 0);
}

/* Connections of all listeners that the limit of open files has room for. */
static unsigned connections_max(void)
{
    struct rlimit files = {.rlim_cur = 1024};

    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur > 4 * RESERVED_FILES)
        return (unsigned)(files.rlim_cur - RESERVED_FILES);
    return (unsigned)(files.rlim_cur / 2);
}

/* Whether this listener may take no more. The admin socket always may: it is how one
 * finds out why. */
static bool is_full(const struct listener *l)
{
    struct listeners *ls = l->all;
    int64_t max = l->settings->max_connections;

    if (l->settings == &ls->admin)
        return false;
    return (max > 0 && load_count(l->load) >= (uint64_t)max) ||
           ls->calls.open_connections(ls->arg) >= connections_max();
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
    struct listener *l = arg;
    struct listeners *ls = l->all;

    (void)what;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        char peer[SOCKET_PEER_MAX];

        if (is_full(l)) {
            pause_accepting(l, "as many are open as the limit allows");
            return;
        }
        int taken = socket_accept(fd, peer);
        if (taken < 0 && use_reserve(l))
            taken = socket_accept(fd, peer);
        if (taken >= 0) {
            load_enter(l->load);
            ls->calls.accepted(ls->arg, taken, l->config, l->settings, l->load, peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            pause_accepting(l, strerror(errno));
            return;
        } else if (errno == EAGAIN) {
            return;
        }
        /* Other errors are of the one connection that was lost. */
    }
}

/* --- life --- */

struct listeners *listeners_new(struct event_base *base, struct log *log,
                                const struct listeners_calls *calls, void *arg)
{
    struct listeners *ls = mem_new(sizeof *ls);

    ls->base = base;
    ls->log = log;
    ls->calls = *calls;
    ls->arg = arg;
    SLIST_INIT(&ls->list);
    ls->reserve_fd = -1;
    keep_reserve(ls);
    ls->resume = evtimer_new(base, on_resume, ls);
    CHECK(ls->resume);
    ls->admin = (struct config_listener){
        .name = (char *)"admin",
        .role = ROLE_REGISTRY,
        .is_admin = true,
        .head_timeout_ms = 10000,
        .idle_timeout_ms = 90000,
        .stall_timeout_ms = 60000,
    };
    return ls;
}

static void listener_free(struct listener *l)
{
    if (l->event)
        event_free(l->event);
    if (l->fd >= 0)
        close(l->fd);
    load_release(&l->load);
    /* A Unix socket's name is left to whoever binds it next: removing it here could
     * remove another daemon's. */
    config_unref(&l->config);
    free(l->address);
    free(l);
}

static void list_free(struct listener_list *list)
{
    struct listener *l;

    while ((l = SLIST_FIRST(list))) {
        SLIST_REMOVE_HEAD(list, link);
        listener_free(l);
    }
}

void listeners_free(struct listeners **lsp)
{
    struct listeners *ls = *lsp;

    if (!ls)
        return;
    *lsp = NULL;
    list_free(&ls->list);
    event_free(ls->resume);
    if (ls->reserve_fd >= 0)
        close(ls->reserve_fd);
    free(ls);
}

void listeners_close(struct listeners *ls)
{
    list_free(&ls->list);
    event_del(ls->resume);
}

/* --- opening --- */

static struct listener *find_address(struct listener_list *list, const char *address)
{
    struct listener *l;

    SLIST_FOREACH (l, list, link)
        if (strcmp(l->address, address) == 0)
            return l;
    return NULL;
}

/* The passed socket that stands in for the address, or -1. Taken ones are marked
 * by -1 in `fds`. */
static int find_passed(const struct sd_socket *passed, unsigned count, int *fds,
                       const struct config_listener *settings, const char *address)
{
    for (unsigned i = 0; i < count; i++) {
        int fd = fds[i];

        if (fd >= 0 &&
            (strcmp(passed[i].name, settings->name) == 0 || socket_has_port_of(fd, address))) {
            fds[i] = -1;
            return fd;
        }
    }
    return -1;
}

static struct listener *listener_new(struct listeners *ls, struct config *c,
                                     const struct config_listener *settings, const char *address,
                                     int fd)
{
    struct listener *l = mem_new(sizeof *l);

    l->all = ls;
    l->config = config_ref(c);
    l->settings = settings;
    l->address = mem_format("%s", address);
    l->fd = fd;
    l->event = event_new(ls->base, fd, EV_READ | EV_PERSIST, on_acceptable, l);
    CHECK(l->event);
    l->load = load_new();
    return l;
}

struct opening {
    struct listeners *all;
    struct config *config;
    const struct sd_socket *passed;
    unsigned passed_count;
    int *passed_fds;
    struct listener_list fresh;
    char *why;
    size_t why_size;
};

/* Bind one address unless it is listened on already. */
static int open_address(struct opening *o, const struct config_listener *settings,
                        const char *address)
{
    int fd;

    if (find_address(&o->all->list, address))
        return 0;
    fd = find_passed(o->passed, o->passed_count, o->passed_fds, settings, address);
    if (fd < 0)
        fd = socket_listen(address, o->why, o->why_size);
    if (fd < 0)
        return ERR_IO;
    struct listener *l = listener_new(o->all, o->config, settings, address, fd);
    SLIST_INSERT_HEAD(&o->fresh, l, link);
    return 0;
}

/* Of those that are there, keep what the config still names, under its settings. */
static void keep_address(struct opening *o, const struct config_listener *settings,
                         const char *address, struct listener_list *kept)
{
    struct listener *l = find_address(&o->all->list, address);

    if (!l)
        return;
    SLIST_REMOVE(&o->all->list, l, listener, link);
    SLIST_INSERT_HEAD(kept, l, link);
    struct config *old = l->config;
    l->config = config_ref(o->config);
    l->settings = settings;
    config_unref(&old);
}

typedef void each_address(struct opening *o, const struct config_listener *settings,
                          const char *address, void *arg);

static void for_each_address(struct opening *o, each_address *call, void *arg)
{
    const struct config *c = o->config;
    char admin[128];

    for (unsigned i = 0; i < c->listener_count; i++)
        for (unsigned j = 0; j < c->listeners[i].address_count; j++)
            call(o, &c->listeners[i], c->listeners[i].addresses[j], arg);
    if (c->admin_socket) {
        snprintf(admin, sizeof admin, "unix:%s", c->admin_socket);
        call(o, &o->all->admin, admin, arg);
    }
}

static void call_open(struct opening *o, const struct config_listener *settings,
                      const char *address, void *arg)
{
    int *err = arg;

    if (*err == 0)
        *err = open_address(o, settings, address);
}

static void call_keep(struct opening *o, const struct config_listener *settings,
                      const char *address, void *arg)
{
    keep_address(o, settings, address, arg);
}

/* Passed sockets that nothing wants are closed: left open they would take
 * connections that nobody accepts. */
static void close_unclaimed(const struct opening *o)
{
    for (unsigned i = 0; i < o->passed_count; i++) {
        if (o->passed_fds[i] < 0)
            continue;
        log_event_about(o->all->log, LOG_WARN, NULL,
                        "the passed socket %s fits no listener by name or port; closed",
                        o->passed[i].name);
        close(o->passed_fds[i]);
    }
}

int listeners_open(struct listeners *ls, struct config *c, const struct sd_socket *passed,
                   unsigned passed_count, char *why, size_t why_size)
{
    struct opening o = {
        .all = ls,
        .config = c,
        .passed = passed,
        .passed_count = passed_count,
        .passed_fds = mem_new((passed_count + 1) * sizeof(int)),
        .fresh = SLIST_HEAD_INITIALIZER(o.fresh),
        .why = why,
        .why_size = why_size,
    };
    struct listener_list kept = SLIST_HEAD_INITIALIZER(kept);
    struct listener *l;
    int err = 0;

    for (unsigned i = 0; i < passed_count; i++)
        o.passed_fds[i] = passed[i].fd;
    for_each_address(&o, call_open, &err);
    close_unclaimed(&o);
    free(o.passed_fds);
    if (err) {
        list_free(&o.fresh);
        return err;
    }
    for_each_address(&o, call_keep, &kept);
    list_free(&ls->list);
    while ((l = SLIST_FIRST(&o.fresh))) {
        SLIST_REMOVE_HEAD(&o.fresh, link);
        SLIST_INSERT_HEAD(&kept, l, link);
    }
    ls->list = kept;
    SLIST_FOREACH (l, &ls->list, link) {
        if (!l->is_paused)
            set_accepting(l, true);
    }
    return 0;
}
