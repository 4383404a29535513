/* SPDX-License-Identifier: ISC */
/* Between the files of report*.c: pieces of JSON. */
#ifndef PROXY_REPORT_PRIVATE_H
#define PROXY_REPORT_PRIVATE_H

#include <stdbool.h>
#include <stdio.h>

#include "proxy/report.h"

const char *report_bool(bool b);
/* Quoted; "null" for NULL, and for what is not UTF-8. */
void report_text(FILE *out, const char *text);

#endif
