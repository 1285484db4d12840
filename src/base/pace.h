/*
 * pace.h -- patience with a peer that is slow.
 *
 * Layer: base.  Time in which a peer is waited for is taken from its patience; bytes that it moves
 * give time back: as much as they take at the least rate that is accepted.  So a pause of the whole
 * patience is allowed, and any average above the rate; a peer that drips bytes for ever is not.
 * Pure: the caller has the clock.
 */
#ifndef TA_BASE_PACE_H
#define TA_BASE_PACE_H

#include "base/ta_base.h"

typedef struct ta_pace {
    uint64_t since; /* ms; accounted for up to then */
    uint32_t left;  /* ms of patience */
} ta_pace;

static inline void ta_pace_begin(ta_pace *pace, uint64_t now, uint32_t patience)
{
    *pace = (ta_pace){now, patience};
}

/* Waiting begins, or goes on after a time in which it was not the peer's turn. */
static inline void ta_pace_resume(ta_pace *pace, uint64_t now)
{
    pace->since = now;
}

/* `bytes` were moved since; rate: bytes a second, 0: any byte gives back all of the patience (ms).
 * What is left of it. */
static inline uint32_t ta_pace_account(ta_pace *pace, uint64_t now, uint64_t bytes,
                                       uint32_t patience, uint32_t rate)
{
    uint64_t passed = now - pace->since, enough = passed + patience, left = pace->left;
    if (bytes)
        left +=
            rate && bytes / rate < enough / 1000 + 1 ? TA_MIN(bytes * 1000 / rate, enough) : enough;
    left = left > passed ? TA_MIN(left - passed, (uint64_t)patience) : 0;
    *pace = (ta_pace){now, (uint32_t)left};
    return pace->left;
}

#endif
