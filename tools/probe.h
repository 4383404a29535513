/* SPDX-License-Identifier: ISC */
/* Asking cachalot for an image as a client would that is set up. */
#ifndef TOOLS_PROBE_H
#define TOOLS_PROBE_H

#include <jansson.h>

#include "cache/check.h"
#include "cache/reference.h"
#include "cache/setup.h"
#include "tools/command.h"

struct probe {
    char *url;          /* of the door */
    json_t *door;       /* what the doctor says there */
    int status;         /* of the manifest's answer */
    char *cache_status; /* its field; NULL: it has none */
    char *error;        /* what it says when it is an error, or NULL */
    bool is_hit;
};

/* Ask by the door that the client goes by; certificates are checked as it does, `root` is put
 * before the paths of its files. EXIT_DONE, also for a manifest that was answered with an error,
 * or the code of a failure that was complained of. To be cleared in each case. */
MUST_CHECK enum exit_code probe_run(struct probe *p, enum setup_client client,
                                    const struct setup_facts *f, const struct reference *image,
                                    const char *root);
void probe_clear(struct probe *p);

#endif
