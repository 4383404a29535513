/* SPDX-License-Identifier: ISC */
/* The table of options as people see it. */
#ifndef PROXY_CONFIG_OPTION_H
#define PROXY_CONFIG_OPTION_H

#include <stddef.h>

/* One row an option: for the dump, and for the check of the documents. */
struct config_option {
    const char *section; /* "cache", "listener", "upstream", ... */
    const char *name;
    const char *value; /* default, as text; empty when none */
    const char *form;  /* accepted form, for people: "size, e.g. 8GiB" */
    const char *help;
};
/* Row `i` of the table; NULL past its end. */
const struct config_option *config_option_at(size_t i);

#endif
