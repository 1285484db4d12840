/*
 * inline_promotion.c -- the proof that a `def` function is quick, and what happens when it stops
 * being so.
 *
 * Layer: py (L4).  A function that waits for another request must never run on the loop's thread,
 * where it would wait forever.  It therefore runs there only after many calls in a row that were
 * short and never gave up the processor voluntarily.
 */
#include "py/loop/inline_promotion.h"

#include <sys/resource.h>
#include <time.h>

#include "py/loop/gc_time.h"
#include "py/support/exc.h"
#include "py/support/types.h"

enum {
    QUICK_CALLS = 50,       /* in a row */
    QUICK_NS = 100 * 1000,  /* each shorter than this */
    STALL_NS = 1000 * 1000, /* inline: longer is a stall */
    /* A function that waited this long is reported; it stays in threads for DEMOTED_NS if it waited
     * for BLOCKED_NS or used the processor for BUSY_NS, which is serious.  Code that runs for the
     * first time, or a busy machine, can cause less. */
    TOLD_NS = 10 * 1000 * 1000,
    BLOCKED_NS = 250 * 1000 * 1000,
    BUSY_NS = 500 * 1000 * 1000,
    SERIOUS = 2,  /* demoted for good */
    STALLS = 2,   /* any, none FORGOTTEN_NS after another: demoted for DEMOTED_NS */
    DOUBTFUL = 8, /* stalls that other threads may have caused: count as one */
    /* A thread that waits for the GIL wakes every 5 ms to request it again: one that waited longer
     * than LONG_NS with fewer switches than one per SWITCH_NS waited for something else. */
    LONG_NS = 30 * 1000 * 1000,
    SWITCH_NS = 15 * 1000 * 1000,
};
static const int64_t DEMOTED_NS = 600 * (int64_t)1000000000;
/* On a machine that is shared with others, each function is held up by them now and then: what
 * counts is how often. */
static const int64_t FORGOTTEN_NS = 60 * (int64_t)1000000000;

ta_callstat *ta_callstat_new(void)
{
    ta_callstat *stat = PyMem_RawCalloc(1, sizeof *stat);
    if (stat != NULL)
        stat->refs = 1;
    return stat;
}

void ta_callstat_unref(ta_callstat *stat)
{
    if (stat != NULL && atomic_fetch_sub_explicit(&stat->refs, 1, memory_order_acq_rel) == 1)
        PyMem_RawFree(stat);
}

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Processor time of this thread.  Not getrusage's, which is only updated once per tick, so that a
 * difference of two may be milliseconds off. */
static int64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void ta_inline_promotion_begin(ta_call_watch *watch)
{
    struct rusage ru;
    (void)getrusage(RUSAGE_THREAD, &ru);
    watch->switches = ru.ru_nvcsw;
    watch->cpu_ns = cpu_ns();
    watch->start_ns = now_ns();
}

bool ta_inline_promotion_end(const ta_call_watch *watch, ta_callstat *stat, bool stays)
{
    if (stat == NULL ||
        atomic_load_explicit(&stat->state, memory_order_relaxed) != TA_CALL_LEARNING)
        return false;
    if (stays) {
        atomic_store_explicit(&stat->state, TA_CALL_NEVER, memory_order_relaxed);
        return false;
    }
    struct rusage ru;
    int64_t took = now_ns() - watch->start_ns;
    if (getrusage(RUSAGE_THREAD, &ru) < 0 || ru.ru_nvcsw != watch->switches ||
        cpu_ns() - watch->cpu_ns >= QUICK_NS) {
        atomic_store_explicit(&stat->quick, 0, memory_order_relaxed);
        return false;
    }
    if (took >= QUICK_NS)
        return false; /* a busy machine took the processor away, which tells nothing about the
                         function */
    uint32_t n = atomic_fetch_add_explicit(&stat->quick, 1, memory_order_relaxed) + 1;
    int64_t not_before = atomic_load_explicit(&stat->not_before, memory_order_relaxed);
    return n >= QUICK_CALLS && (not_before == 0 || now_ns() >= not_before) &&
           atomic_exchange_explicit(&stat->state, TA_CALL_INLINE, memory_order_relaxed) !=
               TA_CALL_INLINE;
}

/* The log is told (turboapi._serving.watchdog); no exception is set before or after. */
static void tell(ta_loop_state *ls, PyObject *func, int64_t took, const char *how_long)
{
    PyObject *report = ta_types_import("turboapi._serving.watchdog", "demoted"), *res = NULL;
    ta_loop_state_enter(ls);
    if (report != NULL)
        res = PyObject_CallFunction(report, "Ods", func, (double)took / 1e9, how_long);
    ta_loop_state_leave(ls);
    if (res == NULL)
        ta_exc_report(ls->st, NULL, "Exception while a slow function was reported");
    Py_XDECREF(report);
    Py_XDECREF(res);
}

/* Returns whether the thread may have waited for the GIL (without one: for a lock inside the
 * interpreter) while threads of ours had it. */
static bool is_doubtful(ta_loop_state *ls, int64_t took, long switches)
{
    if (switches == 0)
        return false;
#ifdef Py_GIL_DISABLED
    bool others = PyDict_Size(ta_loop_objects_of(ls->st)->selector.by_loop) > 1;
    return took < LONG_NS && (others || ta_thread_pool_active(ls) > 0);
#else
    return ta_thread_pool_active(ls) > 0 && (took < LONG_NS || switches >= took / SWITCH_NS);
#endif
}

/* Counts a stall; returns the sum of those that are not forgotten. */
static unsigned count(ta_callstat *stat, int64_t now, unsigned weight)
{
    int64_t last = atomic_exchange_explicit(&stat->stalled_at, now, memory_order_relaxed);
    unsigned sum = atomic_load_explicit(&stat->stalls, memory_order_relaxed);
    if (now - last >= FORGOTTEN_NS)
        sum = 0;
    sum = TA_MIN((unsigned)UINT8_MAX, sum + weight);
    atomic_store_explicit(&stat->stalls, (uint8_t)sum, memory_order_relaxed);
    return sum;
}

/*
 * A call took long by the clock: returns whether the function is to blame.  It certainly is when
 * the thread gave up the processor voluntarily, or when more processor time was used since the
 * snapshot than can have passed before the call.  If neither is true, the system took the processor
 * away, which tells nothing.
 */
static void stalled(ta_loop_state *ls, ta_callstat *stat, PyObject *func, int64_t start,
                    int64_t took, int64_t collected)
{
    struct rusage ru;
    if (getrusage(RUSAGE_THREAD, &ru) < 0)
        return;
    long switches = ru.ru_nvcsw - ls->watch.switches;
    int64_t used = cpu_ns() - ls->watch.cpu_ns - (start - ls->watch.start_ns) - collected;
    ls->watch.batch = 0; /* the snapshot is used up */
    took -= collected;
    if (took <= STALL_NS || (switches == 0 && used < STALL_NS))
        return;
    int64_t now = now_ns(), waited = switches > 0 ? took - TA_MAX(used, (int64_t)0) : 0;
    bool doubtful = is_doubtful(ls, took, switches);
    unsigned sum = count(stat, now, doubtful ? 1 : DOUBTFUL);
    if (sum % DOUBTFUL != 0 && doubtful)
        return;
    bool serious = took >= BUSY_NS || waited >= BLOCKED_NS;
    bool for_good =
        serious &&
        atomic_fetch_add_explicit(&stat->serious, 1, memory_order_relaxed) + 1 >= SERIOUS;
    bool for_long = serious || sum >= STALLS * DOUBTFUL;
    atomic_store_explicit(&stat->quick, 0, memory_order_relaxed);
    if (for_long) {
        atomic_store_explicit(&stat->stalls, 0, memory_order_relaxed);
        atomic_store_explicit(&stat->not_before, now + DEMOTED_NS, memory_order_relaxed);
    }
    if (atomic_exchange_explicit(&stat->state, for_good ? TA_CALL_NEVER : TA_CALL_LEARNING,
                                 memory_order_relaxed) == TA_CALL_INLINE)
        ta_thread_pool_demoted(ls);
    if (serious || waited >= TOLD_NS || (for_long && took >= TOLD_NS))
        tell(ls, func, took, for_good ? "from now on" : for_long ? "for ten minutes" : "for now");
}

PyObject *ta_inline_promotion_call(ta_loop_state *ls, ta_callstat *stat, PyObject *func,
                                   PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *context = ta_loop_state_copy_context(ls);
    if (context == NULL || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return NULL;
    }
    int64_t start = now_ns(), collected = ta_gc_time_until(ls->gc_time, start);
    if (ls->watch.batch != ls->batch) { /* once per batch: it costs a system call */
        struct rusage ru;
        (void)getrusage(RUSAGE_THREAD, &ru);
        ls->watch.batch = ls->batch;
        ls->watch.start_ns = start;
        ls->watch.cpu_ns = cpu_ns();
        ls->watch.switches = ru.ru_nvcsw;
    }
    ta_loop_state_enter(ls);
    PyObject *res = PyObject_Vectorcall(func, args, nargsf, kwnames);
    ta_loop_state_leave(ls);
    int64_t end = now_ns();
    PyObject *exc = res ? NULL : PyErr_GetRaisedException();
    if (TA_UNLIKELY(end - start > STALL_NS))
        stalled(ls, stat, func, start, end - start, ta_gc_time_until(ls->gc_time, end) - collected);
    if (PyContext_Exit(context) < 0)
        PyErr_Clear();
    Py_DECREF(context);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return res;
}
