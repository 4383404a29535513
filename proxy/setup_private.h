/* SPDX-License-Identifier: ISC */
/* Between setup.c (which page) and setup_doctor.c (pages of the daemon's own). */
#ifndef PROXY_SETUP_PRIVATE_H
#define PROXY_SETUP_PRIVATE_H

#include <stdio.h>

#include "cache/setup.h"
#include "proxy/setup.h"

/* What clients are to be told, as far as the one who asks sees it. */
void setup_facts_take(struct setup_facts *f, const struct setup_visit *v);
void setup_facts_release(struct setup_facts *f);

/* HTML: what there is below /-/setup/. */
void setup_write_index(FILE *out, const struct setup_visit *v, const struct setup_facts *f);
/* The same for programs: {"clients": [{"title", "page", "command"}], "ca_sha256"}. */
void setup_write_index_json(FILE *out, const struct setup_visit *v, const struct setup_facts *f);
/* By which door the client has come, and what that is good for; as text or JSON. */
void setup_write_doctor(FILE *out, const struct setup_visit *v, const struct setup_facts *f);
void setup_write_doctor_json(FILE *out, const struct setup_visit *v, const struct setup_facts *f);

#endif
