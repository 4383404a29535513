/* SPDX-License-Identifier: ISC */
#include "proxy/behalf.h"

#include <stdlib.h>
#include <string.h>

#include "cache/check.h"

struct behalf behalf_copy(const struct behalf *b)
{
    return (struct behalf){
        .authorization = b->authorization ? mem_format("%s", b->authorization) : NULL,
        .loop = b->loop ? mem_format("%s", b->loop) : NULL,
    };
}

void behalf_clear(struct behalf *b)
{
    if (b->authorization)
        explicit_bzero((char *)b->authorization, strlen(b->authorization));
    free((char *)b->authorization);
    free((char *)b->loop);
    *b = (struct behalf){0};
}
