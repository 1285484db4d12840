/*
 * http_middleware_int.h -- what http_middleware.c, http_levels.c and call_next.c share.
 *
 * Layer: py/plan.  Nobody else includes it.
 */
#ifndef TA_PY_PLAN_HTTP_MIDDLEWARE_INT_H
#define TA_PY_PLAN_HTTP_MIDDLEWARE_INT_H

#include "py/plan/http_middleware.h"
#include "py/support/coroutine.h"

/* What the Python half gives: owned, and NULL before _prepare(). */
typedef struct ta_http_kit {
    PyTypeObject *request_type, *level_type, *flight_type, *response_type;
    PyObject *exit_type;      /* of what a task returns in place of raising what ends the loop */
    PyObject *start;          /* (loop, coroutine, context) -> Task, its first step made */
    PyObject *receive_inside; /* function: receive() of what is inside of a Flight */
    PyObject *eager_kwnames;  /* ("loop", "context", "eager_start"), or None: call `start` */
} ta_http_kit;

typedef struct ta_http_level ta_http_level;
typedef struct ta_http_middleware ta_http_middleware;

/*
 * An upcall: a new coroutine that returns the response of the middleware, for the one outside of
 * it, whose level that is; NULL with an exception.
 */
typedef PyObject *ta_http_respond(ta_http_middleware *mw, PyObject *scope, PyObject *receive,
                                  PyObject *send, ta_http_level *outer, PyObject *context);

struct ta_http_middleware {
    PyObject_HEAD
    ta_state *st;              /* borrowed: the type keeps the module; NULL until prepared */
    PyObject *dispatch;        /* owned: (request, call_next) -> awaitable of a response */
    PyObject *innermost;       /* owned: the Innermost that is inside of all */
    ta_http_middleware *inner; /* owned: the next middleware inside, or NULL */
    ta_http_respond *respond;
    ta_http_kit kit;
};

/* What one middleware has inside of it, for one request: _inside_task.Level, and Flight. */
struct ta_http_level {
    PyObject_HEAD
    ta_http_level *parent; /* owned, or NULL: a Flight */
    PyObject *running;     /* owned list of Tasks, or NULL */
    PyObject *responses;   /* owned list of responses to be finished, or NULL */
    PyObject *waiting;     /* owned list of Futures, or NULL */
    PyObject *request;     /* owned: the request that the middleware gets */
    char left, answered;
};

/* -- http_levels.c ---------------------------------------------------------------------------- */

/* A new level inside of `parent` (NULL: a Flight), with its request; NULL with an exception. */
ta_http_level *ta_http_level_new(const ta_http_middleware *mw, ta_http_level *parent,
                                 PyObject *scope, PyObject *receive, PyObject *send);
/* Is nothing left to be done for what was inside? */
bool ta_http_level_is_idle(const ta_http_level *level);
/* New reference to the receive() of what is inside, or NULL with an exception. */
PyObject *ta_http_level_receive(const ta_http_middleware *mw, ta_http_level *level);
int ta_http_levels_init(PyObject *module, ta_state *st);

/* -- call_next.c ------------------------------------------------------------------------------ */

/* A new call_next for the middleware, or NULL with an exception. */
PyObject *ta_call_next_new(ta_http_middleware *mw, ta_http_level *level, PyObject *send);
/*
 * For the coroutine of a Task: what would end the loop becomes its result.  TA_DONE with the
 * result, or TA_FAILED with the exception that is set, or another one.
 */
ta_outcome ta_call_next_guard(const ta_http_middleware *mw, ta_coroutine *co);
int ta_call_next_init(PyObject *module, ta_state *st);

#endif
