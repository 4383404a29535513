/* SPDX-License-Identifier: ISC */
#include "proxy/span.h"

#include <string.h>

static bool char_equal_fold(char a, char b)
{
    char lower = (char)(a | 0x20);
    return a == b || ((a ^ b) == 0x20 && lower >= 'a' && lower <= 'z');
}

bool span_equal_fold(struct span s, const char *text)
{
    for (size_t i = 0; i < s.len; i++)
        if (text[i] == '\0' || !char_equal_fold(s.p[i], text[i]))
            return false;
    return text[s.len] == '\0';
}

struct span span_cut(struct span *s, char at)
{
    struct span head = *s;
    const char *found = memchr(s->p, at, s->len);
    if (found == NULL) {
        *s = (struct span){NULL, 0};
        return head;
    }
    head.len = (size_t)(found - head.p);
    *s = span_from(*s, head.len + 1);
    return head;
}
