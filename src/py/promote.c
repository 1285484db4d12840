/*
 * promote.c -- the proof that a `def` function is quick, and what happens when it stops being so.
 *
 * Layer: py (L4).  A function that waits for another request must never run on the loop's thread:
 * it would wait for ever.  So it runs there only after many calls in a row that were short and
 * never gave up the processor of themselves.
 */
#include "py/promote.h"

#include <sys/resource.h>
#include <time.h>

enum {
    QUICK_CALLS = 50,       /* in a row */
    QUICK_NS = 100 * 1000,  /* each shorter than this */
    STALL_NS = 1000 * 1000, /* inline: longer is a stall */
    STALLS = 2,             /* demoted for good */
    DOUBTFUL = 8            /* stalls that other threads may have caused: count as one */
};

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

/* Processor time of this thread.  Not getrusage's: that is brought up to date once a tick only, so
 * a difference of two may be milliseconds off. */
static int64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void ta_promote_begin(ta_call_watch *watch)
{
    struct rusage ru;
    (void)getrusage(RUSAGE_THREAD, &ru);
    watch->switches = ru.ru_nvcsw;
    watch->cpu_ns = cpu_ns();
    watch->start_ns = now_ns();
}

void ta_promote_end(const ta_call_watch *watch, ta_callstat *stat, bool stays)
{
    if (stat == NULL ||
        atomic_load_explicit(&stat->state, memory_order_relaxed) != TA_CALL_LEARNING)
        return;
    if (stays) {
        atomic_store_explicit(&stat->state, TA_CALL_NEVER, memory_order_relaxed);
        return;
    }
    struct rusage ru;
    int64_t took = now_ns() - watch->start_ns;
    if (getrusage(RUSAGE_THREAD, &ru) < 0 || ru.ru_nvcsw != watch->switches ||
        cpu_ns() - watch->cpu_ns >= QUICK_NS) {
        atomic_store_explicit(&stat->quick, 0, memory_order_relaxed);
        return;
    }
    if (took >= QUICK_NS)
        return; /* a busy machine took the processor away: that says nothing of the function */
    uint32_t n = atomic_fetch_add_explicit(&stat->quick, 1, memory_order_relaxed) + 1;
    if (n >= QUICK_CALLS)
        atomic_store_explicit(&stat->state, TA_CALL_INLINE, memory_order_relaxed);
}

/*
 * A call took long by the clock.  Was it the function?  Certain, when the thread gave up the
 * processor of itself, or when more processor time was used since the snapshot than can have gone
 * before the call; neither: the system took the processor away, which says nothing.
 */
static void stalled(ta_loopstate *ls, ta_callstat *stat, int64_t start)
{
    struct rusage ru;
    if (getrusage(RUSAGE_THREAD, &ru) < 0)
        return;
    bool waited = ru.ru_nvcsw != ls->watch.switches;
    int64_t used = cpu_ns() - ls->watch.cpu_ns - (start - ls->watch.start_ns);
    ls->watch.batch = 0; /* the snapshot is used up */
    if (!waited && used < STALL_NS)
        return;
    /* Threads that run Python code make this one wait for the GIL: then it is doubtful. */
    uint8_t weight = waited && ta_pool_active(ls) > 0 ? 1 : DOUBTFUL;
    uint8_t sum = (uint8_t)TA_MIN(
        UINT8_MAX, atomic_load_explicit(&stat->demoted, memory_order_relaxed) + weight);
    atomic_store_explicit(&stat->demoted, sum, memory_order_relaxed);
    if (sum % DOUBTFUL != 0 && weight == 1)
        return;
    atomic_store_explicit(&stat->quick, 0, memory_order_relaxed);
    atomic_store_explicit(&stat->state, sum >= STALLS * DOUBTFUL ? TA_CALL_NEVER : TA_CALL_LEARNING,
                          memory_order_relaxed);
}

PyObject *ta_promote_call(ta_loopstate *ls, ta_callstat *stat, PyObject *func,
                          PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *context = ta_ls_copy_context(ls);
    if (context == NULL || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return NULL;
    }
    int64_t start = now_ns();
    if (ls->watch.batch != ls->batch) { /* once a batch: it costs a system call */
        struct rusage ru;
        (void)getrusage(RUSAGE_THREAD, &ru);
        ls->watch.batch = ls->batch;
        ls->watch.start_ns = start;
        ls->watch.cpu_ns = cpu_ns();
        ls->watch.switches = ru.ru_nvcsw;
    }
    ta_ls_enter(ls);
    PyObject *res = PyObject_Vectorcall(func, args, nargsf, kwnames);
    ta_ls_leave(ls);
    int64_t end = now_ns();
    PyObject *exc = res ? NULL : PyErr_GetRaisedException();
    if (TA_UNLIKELY(end - start > STALL_NS))
        stalled(ls, stat, start);
    if (PyContext_Exit(context) < 0)
        PyErr_Clear();
    Py_DECREF(context);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return res;
}
