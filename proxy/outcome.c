/* SPDX-License-Identifier: ISC */
#include "proxy/outcome.h"

#include "cache/check.h"

static const struct outcome_row rows[OUTCOME_COUNT] = {
#define OUTCOME_ROW(symbol, word, status, code, text) [symbol] = {word, status, code, text},
    OUTCOME_TABLE(OUTCOME_ROW)
#undef OUTCOME_ROW
};

const struct outcome_row *outcome_row(enum outcome o)
{
    CHECK((unsigned)o < OUTCOME_COUNT);
    return &rows[o];
}

bool outcome_is_error(enum outcome o)
{
    return outcome_row(o)->status != 0;
}
