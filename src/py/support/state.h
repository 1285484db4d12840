/*
 * state.h -- the module's state: the only place where the extension keeps Python objects.
 *
 * Layer: py (L4).  No mutable globals: what C needs to remember between calls lives in a
 * ta_state (one per interpreter) or in an object.
 *
 * How a file takes part:
 *   1. it gets a struct in ta_objects below, of *owned object pointers only* (PyObject * or
 *      PyTypeObject *, NULL until its init): module.c visits and clears them all, as one array.
 *      What keeps other things besides (engine.h) has a struct in ta_state and functions of its
 * own;
 *   2. `int ta_<file>_init(PyObject *module, ta_state *st)` fills it (0, or -1 with an exception)
 *      and adds its public types to the module; one line in module.c's table calls it.
 *
 * How code reaches the state:
 *   - from a slot or a plain method: ta_state_of(Py_TYPE(self))  (walks the bases: not for the
 *     hottest paths; objects there keep a `ta_state *st`, borrowed: their type keeps the module);
 *   - from a METH_METHOD method: ta_state_of_class(defining_class), one load;
 *   - from a module function: ta_state_of_module(module).
 */
#ifndef TA_PY_SUPPORT_STATE_H
#define TA_PY_SUPPORT_STATE_H

#include "py/json/encode.h"
#include "py/plan/engine.h"
#include "py/plan/router.h"
#include "py/support/names.h"
#include "py/support/py_compat.h"

/* Interned names, see names.h. */
typedef struct ta_names_state {
#define TA_NAME(id)        PyObject *id;
#define TA_NAME2(id, text) PyObject *id;
    TA_NAMES(TA_NAME, TA_NAME2)
#undef TA_NAME
#undef TA_NAME2
} ta_names_state;

/* exc.c */
typedef struct ta_exc_state {
    PyObject *cancelled_error; /* asyncio.CancelledError */
    PyObject *error_logger;    /* logging.getLogger("turboapi.error") */
} ta_exc_state;

/* selector.c */
typedef struct ta_selector_state {
    PyTypeObject *type;
    PyTypeObject *map_type;
    PyObject *selector_key;     /* selectors.SelectorKey */
    PyObject *get_running_loop; /* asyncio._get_running_loop */
    PyObject *by_loop;          /* dict: asyncio loop -> its Selector, while attached */
} ta_selector_state;

/* evloop.c, evloop_queue.c, handle.c */
typedef struct ta_evloop_state {
    PyTypeObject *type, *handle_type, *timer_type, *view_type;
    PyObject *base_class;     /* asyncio.BaseEventLoop */
    PyObject *process_events; /* BaseSelectorEventLoop._process_events; NULL: none of that name */
    PyObject *write_to_self;  /* the same of _write_to_self */
    PyObject *deque;          /* collections.deque */
    PyObject *futures_module; /* asyncio.futures */
    PyObject *tasks_module;   /* asyncio.tasks */
    PyObject *loop_kwname;    /* ("loop",) */
    PyObject *task_kwnames;   /* ("loop", "name", "context") */
    PyObject *future_type;    /* asyncio.Future, and its methods cancelled and set_result */
    PyObject *future_cancelled;
    PyObject *future_set_result;
    PyObject *set_result_unless_cancelled; /* asyncio.futures._...; NULL: none of that name */
} ta_evloop_state;

/* future.c, task_pool.c */
typedef struct ta_task_state {
    PyTypeObject *waiter_type;
    PyTypeObject *tramp_type;
    PyObject *task_class; /* asyncio.Task */
    PyTypeObject *park_type;
    PyObject *invalid_state;   /* asyncio.InvalidStateError */
    PyObject *context_kwnames; /* ("context",) */
    /* Private names of asyncio: NULL when it has none of that name, and then Tasks aren't pooled.
     */
    PyObject *register_task;   /* asyncio.tasks._register_task */
    PyObject *unregister_task; /* asyncio.tasks._unregister_task */
    PyObject *callbacks;       /* asyncio.Task._callbacks, ._must_cancel: descriptors */
    PyObject *must_cancel;
    PyObject *all_data; /* asyncio's WeakSet of Tasks, taken apart; NULL: not as known */
    PyObject *all_pending;
    PyObject *all_remove;
    PyObject *task_kwnames;   /* ("loop", "name", "context"[, "eager_start"]) */
    PyObject *create_kwnames; /* ("name", "context") */
    PyObject *eager_factory;  /* asyncio.eager_task_factory, NULL on 3.11 */
    PyObject *get_name;       /* asyncio.Task.get_name, .cancelling: descriptors */
    PyObject *cancelling;
} ta_task_state;

/* thread_pool.c */
typedef struct ta_pool_state {
    PyTypeObject *job_type;
    PyTypeObject *worker_type;
    PyTypeObject *token_type;
    PyTypeObject *ahead_type; /* prefetch.c */
    PyObject *thread_class;   /* threading.Thread */
    PyObject *threadlocals;   /* anyio's thread-local state of worker threads, or None */
    PyObject *anyio_backend;  /* anyio's asyncio backend class, or None */
    PyObject *anyio_run_sync; /* anyio.to_thread.run_sync, or None */
} ta_pool_state;

/* native_exchange.c */
typedef struct ta_xch_native_state {
    PyTypeObject *type;
    PyTypeObject *body_type, *receive_type, *send_type;
    PyObject *file_call; /* starlette.responses.FileResponse.__call__ */
} ta_xch_native_state;

/* streaming_response.c */
typedef struct ta_streamer_state {
    PyTypeObject *type;
    PyObject *response_type; /* starlette.responses.StreamingResponse, and its functions */
    PyObject *call, *stream_response, *listen_for_disconnect;
    PyObject *current_task;  /* asyncio.current_task */
    PyObject *in_threadpool; /* the code of starlette.concurrency.iterate_in_threadpool */
} ta_streamer_state;

/* websocket.c */
typedef struct ta_ws_state {
    PyObject *client_disconnected; /* the exception class */
} ta_ws_state;

/* in_context.c */
typedef struct ta_in_context_state {
    PyTypeObject *type;
} ta_in_context_state;

/* app.c, server.c */
typedef struct ta_server_state {
    PyTypeObject *app_type;
    PyTypeObject *server_type;
    PyTypeObject *gzip_job_type; /* filters.c */
} ta_server_state;

/* Object pointers only: visited and cleared as an array. */
typedef struct ta_objects {
    ta_names_state names;
    ta_exc_state exc;
    ta_selector_state selector;
    ta_evloop_state evloop;
    ta_task_state task;
    ta_pool_state pool;
    ta_xch_native_state xch_native;
    ta_streamer_state stream;
    ta_ws_state ws;
    ta_in_context_state in_context;
    ta_server_state server;
    ta_json_state json;
    ta_router_state router;
} ta_objects;

typedef struct ta_state {
    ta_objects o;
    ta_engine_state engine;
} ta_state;

extern struct PyModuleDef ta_module_def; /* module.c; constant after load */

static inline ta_state *ta_state_of_module(PyObject *module)
{
    return (ta_state *)PyModule_GetState(module);
}

static inline ta_state *ta_state_of_class(PyTypeObject *defining_class)
{
    return (ta_state *)PyType_GetModuleState(defining_class);
}

/* `type` is one of ours or a subclass of one. */
static inline ta_state *ta_state_of(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &ta_module_def); /* borrowed */
    return module ? (ta_state *)PyModule_GetState(module) : NULL;
}

/* Makes a heap type of the module and, with `name`, adds it there.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_add_type(PyObject *module, PyType_Spec *spec, const char *name,
                              PyTypeObject **out);
/* module.attr[.attr ...]: a new reference, or NULL with an exception. */
PyObject *ta_import_attr(const char *module, const char *attr);
/* The same of what need not be there: 1 and *out; 0: no such module or attribute; -1. */
TA_MUST_CHECK int ta_import_optional(const char *module, const char *attr, PyObject **out);

#endif
