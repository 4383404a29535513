/* SPDX-License-Identifier: ISC */
#include "proxy/request_api.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/platform.h"
#include "cache/reference.h"
#include "proxy/orders.h"
#include "proxy/prefetch.h"
#include "proxy/request_private.h"
#include "proxy/request_room.h"

#define HUB "docker.io"
#define VALUE_MAX (REFERENCE_TEXT_MAX + 1)

struct parameters {
    bool has_reference, has_id, is_now, is_cancel, has_bytes;
    uint64_t bytes;
    struct reference reference;
    uint64_t id;
    struct platform platforms[ORDER_PLATFORMS_MAX];
    unsigned platform_count;
    const char *why; /* what is wrong with them */
};

static void refuse(struct parameters *p, const char *why)
{
    if (!p->why)
        p->why = why;
}

static void take_reference(struct parameters *p, const char *text)
{
    if (p->has_reference || reference_parse(&p->reference, text, HUB) != 0)
        refuse(p, "the reference is not one");
    p->has_reference = true;
}

static void take_platform(struct parameters *p, const char *text)
{
    if (p->platform_count == ORDER_PLATFORMS_MAX)
        refuse(p, "there are more than 16 platforms");
    else if (platform_parse(&p->platforms[p->platform_count], text) != 0)
        refuse(p, "a platform is not of the form OS/ARCH[/VARIANT][:OS.VERSION]");
    else
        p->platform_count++;
}

static uint64_t take_number(struct parameters *p, const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || number > INT64_MAX)
        refuse(p, "a number is not one");
    return number;
}

static void take_id(struct parameters *p, const char *text)
{
    p->id = take_number(p, text);
    p->has_id = true;
}

static void take_bytes(struct parameters *p, const char *text)
{
    p->bytes = take_number(p, text);
    p->has_bytes = true;
}

static void take_parameters(struct parameters *p, struct span target)
{
    struct span query = http_target_origin(target);

    *p = (struct parameters){0};
    span_cut(&query, '?');
    while (query.p) {
        char text[VALUE_MAX];
        struct span value = span_cut(&query, '&');
        struct span key = span_cut(&value, '=');
        int len = value.p ? route_decode(value, text, sizeof text - 1) : 0;

        if (len < 0 || memchr(text, '\0', (size_t)len)) {
            refuse(p, "a parameter is broken or too long");
            return;
        }
        text[len] = '\0';
        if (span_equal(key, "reference"))
            take_reference(p, text);
        else if (span_equal(key, "platform"))
            take_platform(p, text);
        else if (span_equal(key, "id"))
            take_id(p, text);
        else if (span_equal(key, "cancel"))
            p->is_cancel = true;
        else if (span_equal(key, "bytes"))
            take_bytes(p, text);
        else if (span_equal(key, "now"))
            p->is_now = true;
    }
}

static void send_text(struct request *r, char *text, size_t len)
{
    request_text(r, "application/json", text, len);
    free(text);
}

static void send_order(struct request *r, const struct parameters *p)
{
    size_t len;
    char *text = p->has_id ? orders_format(r->worker->parts.orders, p->id, &len) : NULL;

    if (text)
        send_text(r, text, len);
    else
        request_error(r, OUT_NO_ROUTE, "there is no such order", 0);
}

static void cancel_order(struct request *r, const struct parameters *p)
{
    static const char answer[] = "{}\n";

    if (p->has_id && orders_cancel(r->worker->parts.orders, p->id))
        request_text(r, "application/json", answer, sizeof answer - 1);
    else
        request_error(r, OUT_NO_ROUTE, "there is no such order", 0);
}

static void take_order(struct request *r, const struct parameters *p)
{
    const struct config *c = r->worker->config;
    char detail[2 * NAME_MAX_SIZE + 128];

    if (!p->has_reference) {
        request_error(r, OUT_BAD_REQUEST, "there is no reference", 0);
        return;
    }
    if (!config_find_upstream(c, p->reference.name.registry)) {
        snprintf(detail, sizeof detail,
                 "registry %s is not configured; add a section [upstream %s] to cachalot.ini and "
                 "reload",
                 p->reference.name.registry, p->reference.name.registry);
        request_error(r, OUT_NAME_UNKNOWN, detail, 0);
        return;
    }
    uint64_t id =
        orders_add(r->worker->parts.orders, &p->reference, p->platforms, p->platform_count);
    if (id == 0) {
        request_error(r, OUT_OVERLOADED, "too many images wait to be fetched", 60);
        return;
    }
    char *text = mem_format("{\"id\":%" PRIu64 "}\n", id);
    send_text(r, text, strlen(text));
}

static void send_prefetches(struct request *r)
{
    size_t len;
    char *text = prefetch_format(r->worker->parts.prefetch, &len);

    send_text(r, text, len);
}

/* It is done beside; the index says when. */
static void collect(struct request *r, const struct parameters *p)
{
    static const char answer[] = "{}\n";

    storage_collect(r->worker->parts.storage, p->is_now);
    request_text(r, "application/json", answer, sizeof answer - 1);
}

void request_api(struct request *r, const struct http_head *h)
{
    bool is_order = r->target.endpoint == ENDPOINT_ORDERS;
    struct parameters p;

    if (!conn_listener(r->conn)->is_admin) {
        request_error(r, OUT_NO_ROUTE, "only the socket of the cachalot command has this", 0);
        return;
    }
    take_parameters(&p, h->target);
    if (p.why)
        request_error(r, OUT_BAD_REQUEST, p.why, 0);
    else if (is_order && r->method == HTTP_POST && p.is_cancel)
        cancel_order(r, &p);
    else if (is_order && r->method == HTTP_POST)
        take_order(r, &p);
    else if (r->target.endpoint == ENDPOINT_COLLECT && r->method == HTTP_POST)
        collect(r, &p);
    else if (r->target.endpoint == ENDPOINT_ROOM && r->method == HTTP_POST && p.has_bytes)
        request_room(r, p.bytes);
    else if (r->method != HTTP_GET && r->method != HTTP_HEAD)
        request_error(r, OUT_METHOD, NULL, 0);
    else if (is_order)
        send_order(r, &p);
    else if (r->target.endpoint == ENDPOINT_COLLECT || r->target.endpoint == ENDPOINT_ROOM)
        request_error(r, OUT_METHOD, NULL, 0);
    else
        send_prefetches(r);
}
