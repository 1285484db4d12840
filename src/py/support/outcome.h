/*
 * outcome.h -- what a function that may have to wait returns.
 *
 * Layer: py/support.
 *
 * Every such function of the binding returns one of these three, and its contract says what the
 * caller gets with each of them: most often a value with TA_DONE, and a new awaitable of it with
 * TA_WAITS.  A function that never waits returns 0, or -1 with an exception.
 */
#ifndef TA_PY_SUPPORT_OUTCOME_H
#define TA_PY_SUPPORT_OUTCOME_H

typedef enum ta_outcome {
    TA_FAILED = -1, /* an exception is set */
    TA_WAITS = 0,   /* not done yet: something has to be waited for */
    TA_DONE = 1
} ta_outcome;

#endif
