/*
 * exc.h -- from a ta_err to a Python exception, and where exceptions without a caller go.
 *
 * Layer: py (L4).
 */
#ifndef TA_PY_SUPPORT_EXC_H
#define TA_PY_SUPPORT_EXC_H

#include "py/support/state.h"

int ta_exc_init(PyObject *module, ta_state *st);

/* Sets the exception that `err` stands for; always returns NULL. `what` says what was tried. */
PyObject *ta_exc_set(int err, const char *what);

/*
 * Reports an exception that no caller can take: calls aioloop.call_exception_handler({message,
 * exception}), or writes it as unraisable when there is no loop or that fails, too.  Clears the
 * exception; does nothing without one.
 */
void ta_exc_report(ta_state *st, PyObject *aioloop /* borrowed, may be NULL */,
                   const char *message);

/* logging.getLogger("turboapi.error").error(message, exc_info=exc); never raises. `exc` may be
 * NULL. */
void ta_exc_log(ta_state *st, const char *message, PyObject *exc);

/*
 * Is it the user's Ctrl+C, and not a KeyboardInterrupt that somebody's code raised?  The second is
 * an error as any other (turboapi._serving.signals.is_ctrl_c).  Never raises.
 */
bool ta_exc_is_ctrl_c(PyObject *exc /* borrowed */);

/* True for exceptions that end the process: Ctrl+C, SystemExit. */
static inline bool ta_exc_is_fatal(PyObject *exc)
{
    return PyErr_GivenExceptionMatches(exc, PyExc_SystemExit) || ta_exc_is_ctrl_c(exc);
}

#endif
