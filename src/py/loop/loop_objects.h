/*
 * loop_objects.h -- the Python objects that layer loop keeps in the module's state; see
 * support/state.h.
 *
 * Layer: py/loop.
 */
#ifndef TA_PY_LOOP_LOOP_OBJECTS_H
#define TA_PY_LOOP_LOOP_OBJECTS_H

#include "py/json/json_objects.h"

/* selector.c */
typedef struct ta_selector_state {
    PyTypeObject *type;
    PyTypeObject *map_type;
    PyObject *selector_key;     /* selectors.SelectorKey */
    PyObject *get_running_loop; /* asyncio._get_running_loop */
    PyObject *by_loop;          /* dict: asyncio loop -> its Selector, while attached */
    PyObject *last_loop,
        *last; /* what was found in it last, or NULL; not on free-threaded builds */
} ta_selector_state;

/* evloop.c, evloop_queue.c, handle.c, socket_transport_type.c */
typedef struct ta_evloop_state {
    PyTypeObject *type, *handle_type, *timer_type, *view_type;
    PyObject *base_class;     /* asyncio.BaseEventLoop */
    PyObject *process_events; /* BaseSelectorEventLoop._process_events; NULL: none of that name */
    PyObject *write_to_self;  /* the same of _write_to_self */
    PyObject *shared_handle;  /* asyncio.events._ThreadSafeHandle; NULL before Python 3.14 */
    PyObject *deque;          /* collections.deque */
    PyObject *futures_module; /* asyncio.futures, and its dict */
    PyObject *futures_dict;
    PyObject *tasks_module; /* asyncio.tasks */
    PyObject *loop_kwname;  /* ("loop",) */
    PyObject *task_kwnames; /* ("loop", "name", "context") */
    PyObject *future_type;  /* asyncio.Future, and its methods cancelled and set_result */
    PyObject *future_cancelled;
    PyObject *future_set_result;
    PyObject *set_result_unless_cancelled; /* asyncio.futures._...; NULL: none of that name */
    PyTypeObject *transport_type;          /* socket_transport_type.c */
    PyObject *buffered_protocol;           /* asyncio.BufferedProtocol */
    PyObject *selector_events;             /* asyncio.selector_events */
    PyObject *stream_protocol;             /* asyncio.StreamReaderProtocol, StreamReader, and ... */
    PyObject *stream_reader;
    PyObject *stream_functions; /* ... a tuple of their functions; NULL: others than we know */
} ta_evloop_state;

/* future.c, task_pool.c */
typedef struct ta_task_pool_state {
    PyTypeObject *future_type;
    PyTypeObject *trampoline_type;
    PyObject *task_class;      /* asyncio.Task */
    PyObject *invalid_state;   /* asyncio.InvalidStateError */
    PyObject *context_kwnames; /* ("context",) */
    /* Private names of asyncio: NULL when it has none of that name, and then Tasks aren't pooled.
     */
    PyObject *register_task;   /* asyncio.tasks._register_task */
    PyObject *unregister_task; /* asyncio.tasks._unregister_task */
    PyObject *callbacks;       /* asyncio.Task._callbacks, ._must_cancel: descriptors */
    PyObject *must_cancel;
    PyObject *all_set; /* asyncio's WeakSet of Tasks, taken apart; NULL: not as known */
    PyObject *all_data, *all_pending, *all_iterating;
    PyObject *all_forget;     /* the callback of weak references in it */
    PyObject *task_kwnames;   /* ("loop", "name", "context"[, "eager_start"]) */
    PyObject *create_kwnames; /* ("name", "context") */
    PyObject *eager_factory;  /* asyncio.eager_task_factory, NULL on 3.11 */
    PyObject *get_name;       /* asyncio.Task.get_name, .cancelling: descriptors */
    PyObject *cancelling;
    PyObject *future_blocking; /* asyncio.Future._asyncio_future_blocking, and methods */
    PyObject *future_done;
    PyObject *future_remove_callback;
} ta_task_pool_state;

/* thread_pool.c */
typedef struct ta_thread_pool_state {
    PyObject *gc_time; /* a capsule: gc_time.c */
    PyTypeObject *job_type;
    PyTypeObject *worker_type;
    PyTypeObject *token_type;
    PyTypeObject *prefetch_type; /* prefetch.c */
    PyObject *thread_class;      /* threading.Thread */
    PyObject *threadlocals;      /* anyio's thread-local state of worker threads, or None */
    PyObject *anyio_run_sync;    /* anyio.to_thread.run_sync, or None */
} ta_thread_pool_state;

/* call_queue.c, idle_threads.c, evloop_executor.c */
typedef struct ta_call_state {
    PyTypeObject *call_type;
    PyTypeObject *queue_type;
    PyTypeObject *idle_type;
    PyObject *empty;                /* queue.Empty */
    PyObject *convert_exc;          /* asyncio.futures._convert_future_exc; NULL: none */
    PyObject *cancelled, *invalid;  /* concurrent.futures.CancelledError, .InvalidStateError */
    PyObject *current_cancel_scope; /* the name of it in anyio's thread-locals */
    PyObject *deque_pop;            /* collections.deque.pop */
    PyObject *executor_globals;     /* the dict of concurrent.futures.thread */
} ta_call_state;

typedef struct ta_loop_objects {
    ta_selector_state selector;
    ta_evloop_state evloop;
    ta_task_pool_state task;
    ta_thread_pool_state pool;
    ta_call_state call;
} ta_loop_objects;

/* The state as this layer sees it. */
typedef struct ta_loop_module_state {
    ta_json_module_state below;
    ta_loop_objects objects;
} ta_loop_module_state;

static inline ta_loop_objects *ta_loop_objects_of(ta_state *st)
{
    return &((ta_loop_module_state *)st)->objects;
}

#endif
