/*
 * gc_time.h -- how long the garbage collector has run in this interpreter.
 *
 * Layer: py/loop.  A collection holds up whichever function it happens to run in (without the GIL,
 * the functions of every thread), which says nothing about the function.
 */
#ifndef TA_PY_LOOP_GC_TIME_H
#define TA_PY_LOOP_GC_TIME_H

#include <stdatomic.h>
#include <stdint.h>

#include "py/loop/loop_objects.h"

typedef struct ta_gc_time {
    _Atomic int64_t begun; /* ns, CLOCK_MONOTONIC: of the collection that runs, or 0 */
    _Atomic int64_t total; /* ns: of those that have ended */
} ta_gc_time;

int ta_gc_time_init(PyObject *module, ta_state *st);
/* Borrowed: the module's state has it. */
ta_gc_time *ta_gc_time_of(ta_state *st);

/* Nanoseconds until `now`. */
static inline int64_t ta_gc_time_until(const ta_gc_time *time, int64_t now)
{
    int64_t total = atomic_load_explicit(&time->total, memory_order_acquire);
    int64_t begun = atomic_load_explicit(&time->begun, memory_order_acquire);
    return begun == 0 || begun > now ? total : total + now - begun;
}

#endif
