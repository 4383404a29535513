/* SPDX-License-Identifier: ISC */
/* Below /-/setup/: what is answered to those who set up clients. */
#include <stdlib.h>

#include "proxy/http.h"
#include "proxy/http_forward.h"
#include "proxy/request_intercept.h"
#include "proxy/setup.h"

/* No page loads anything, and none is another page's to show. */
static const struct reply_extra fields[] = {
    {"Cache-Control", "no-store"},
    {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {NULL, NULL},
};

void request_setup(struct request *r, const struct http_head *h)
{
    struct setup_page page;
    struct setup_visit visit = {
        .page = r->target.tag,
        .config = r->worker->config,
        .listener = conn_listener(r->conn),
        .client = conn_peer(r->conn),
        .host = h->host,
        .opened = conn_host(r->conn),
        .is_relayed = http_target_authority(h->target).p != NULL,
    };

    setup_make(&page, &visit);
    if (page.outcome == OUT_LOCAL)
        request_text_with(r, page.media_type, page.text, page.len, fields);
    else
        request_error(r, page.outcome, page.why, 0);
    free(page.text);
}
