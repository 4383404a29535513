/* SPDX-License-Identifier: ISC */
/* A request, from its parsed head to its access line. Runs in the worker's thread. */
#ifndef PROXY_REQUEST_H
#define PROXY_REQUEST_H

#include "proxy/conn.h"

/* For worker_parts: what connections ask of requests. */
extern const struct request_calls request_calls;

#endif
