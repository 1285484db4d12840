/*
 * pace.h -- patience with a peer that is slow.
 *
 * Layer: base.  The time spent waiting for a peer is taken from the patience with it; the bytes
 * that it moves give time back, as much as they take at the lowest accepted rate.  A pause of the
 * whole patience is therefore allowed, and so is any average above the rate, but not a peer that
 * drips bytes forever.  Pure: the caller has the clock.
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

/* Starts to wait, or resumes after a time in which it was not the peer's turn. */
static inline void ta_pace_resume(ta_pace *pace, uint64_t now)
{
    pace->since = now;
}

/* Accounts for `bytes` moved since; rate: bytes per second, 0: any byte restores all of the
 * patience (ms).  Returns what is left of it. */
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
