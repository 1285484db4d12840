/*
 * inline_promotion.h -- which `def` functions have proved quick enough to run on the loop's thread.
 *
 * Layer: py (L4).  Rules in docs/loop.md.
 */
#ifndef TA_PY_LOOP_INLINE_PROMOTION_H
#define TA_PY_LOOP_INLINE_PROMOTION_H

#include <stdatomic.h>

#include "py/loop/thread_pool.h"

struct ta_callstat {
    _Atomic uint32_t refs;
    _Atomic uint32_t quick;     /* quick calls in a row in the pool */
    _Atomic uint8_t state;      /* TA_CALL_* */
    _Atomic uint8_t stalls;     /* weighted count of the loop's stalls, until none for a while */
    _Atomic uint8_t serious;    /* those that kept it in threads for a long time, ever */
    _Atomic int64_t stalled_at; /* ns: the last one, or 0 */
    _Atomic int64_t not_before; /* ns: when it may be promoted again */
};

static inline ta_callstat *ta_callstat_ref(ta_callstat *stat) /* NULL allowed */
{
    if (stat != NULL)
        atomic_fetch_add_explicit(&stat->refs, 1, memory_order_relaxed);
    return stat;
}

/* Taken before and after a call in a worker thread. */
typedef struct ta_call_watch {
    int64_t start_ns;
    int64_t cpu_ns; /* of this thread */
    long switches;  /* voluntary ones of this thread */
} ta_call_watch;

void ta_inline_promotion_begin(ta_call_watch *watch);
/* stat may be NULL.  `stays`: the function used what only a worker thread has.  True: it has been
 * promoted by this call. */
bool ta_inline_promotion_end(const ta_call_watch *watch, ta_callstat *stat, bool stays);

enum { TA_CALL_LEARNING = 0, TA_CALL_INLINE = 1, TA_CALL_NEVER = 2 };

static inline bool ta_inline_promotion_is_inline(const ta_callstat *stat)
{
    return stat != NULL &&
           atomic_load_explicit(&stat->state, memory_order_relaxed) == TA_CALL_INLINE;
}

/* Calls the function here, in a copy of the current context, and demotes it if it stalls the loop.
 */
PyObject *ta_inline_promotion_call(ta_loop_state *ls, ta_callstat *stat, PyObject *func,
                                   PyObject *const *args, size_t nargsf, PyObject *kwnames);

#endif
