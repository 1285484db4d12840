/*
 * selector_lag.c -- Selector.lag(): does the loop still answer?  For other threads.
 *
 * Layer: py (L4).  The loop's thread pays a plain store per batch (ta_loop_held).  A loop that only
 * watches our descriptor (uvloop) reveals nothing while it is outside of a batch: it is woken, and
 * the next call sees whether it woke up.
 */
#include "base/clock.h"
#include "py/loop/selector_int.h"

/* With the mutex held.  Returns for how many milliseconds the loop has not answered its wake-up,
 * and wakes it again when it has. */
static uint64_t asked(ta_loop_state *ls)
{
    uint64_t now = ta_clock_ms();
    if (ls->lag.asked != 0 && ta_loop_last(ls->loop) < ls->lag.asked)
        return now - ls->lag.asked;
    ls->lag.asked = now;
    ta_wake_kick(ls->wake);
    return 0;
}

PyObject *ta_selector_lag(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    ta_loop_state *ls = &((ta_selector *)obj)->ls;
    uint64_t ms = 0;
    pthread_mutex_lock(&ls->lag.mutex);
    if (!ls->lag.closed)
        ms = ta_loop_held(ls->loop);
    if (ls->lag.open && ls->lag.nested) {
        uint64_t waiting = asked(ls);
        ms = TA_MAX(ms, waiting);
    }
    pthread_mutex_unlock(&ls->lag.mutex);
    return PyFloat_FromDouble((double)ms / 1000.0);
}

PyObject *ta_selector_highest_lag(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    ta_loop_state *ls = &((ta_selector *)obj)->ls;
    uint64_t ms = 0;
    pthread_mutex_lock(&ls->lag.mutex);
    if (!ls->lag.closed) {
        uint64_t highest = ta_loop_highest(ls->loop), now = ta_loop_held(ls->loop);
        ms = TA_MAX(highest, now);
    }
    pthread_mutex_unlock(&ls->lag.mutex);
    return PyFloat_FromDouble((double)ms / 1000.0);
}

void ta_selector_lag_set(ta_loop_state *ls, bool open, bool nested)
{
    pthread_mutex_lock(&ls->lag.mutex);
    ls->lag.open = open;
    ls->lag.closed |= !open;
    ls->lag.nested = nested;
    ls->lag.asked = 0;
    pthread_mutex_unlock(&ls->lag.mutex);
}

bool ta_selector_lag_kick(ta_state *st, PyObject *selector)
{
    if (!Py_IS_TYPE(selector, ta_loop_objects_of(st)->selector.type))
        return false;
    ta_loop_state *ls = &((ta_selector *)selector)->ls;
    pthread_mutex_lock(&ls->lag.mutex);
    bool open = !ls->lag.closed;
    if (open)
        ta_wake_notice(ls->wake);
    pthread_mutex_unlock(&ls->lag.mutex);
    return open;
}
