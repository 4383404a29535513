/* SPDX-License-Identifier: ISC */
#include "proxy/behalf.h"

#include <stdlib.h>
#include <string.h>

#include "cache/check.h"
#include "proxy/secret.h"

struct behalf behalf_copy(const struct behalf *b)
{
    return (struct behalf){
        .authorization =
            b->authorization ? mem_copy(b->authorization, strlen(b->authorization)) : NULL,
        .loop = b->loop ? mem_format("%s", b->loop) : NULL,
    };
}

void behalf_clear(struct behalf *b)
{
    secret_free((char *)b->authorization);
    free((char *)b->loop);
    *b = (struct behalf){0};
}
