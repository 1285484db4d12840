/*
 * engine.h -- what the rest of the binding sees of the plan executor.  Layer: py.
 *
 * The engine keeps its types and interned names in a struct of its own, embedded in the module's
 * state as `engine`; module.c calls ta_engine_init/traverse/clear.
 */
#ifndef TA_PY_PLAN_ENGINE_H
#define TA_PY_PLAN_ENGINE_H

#include "py/exchange/exchange.h"
#include "py/json/encode.h"

#define TA_ENGINE_NSTR 64

typedef struct ta_engine_state {
    /* owned heap types */
    PyTypeObject *plan_type, *run_type, *solved_type;
    PyTypeObject *xch_type, *body_type, *respond_type, *send_type;
    /* owned objects of other modules, imported by exec */
    PyObject *validation_error;             /* pydantic_core.ValidationError */
    PyObject *missing;                      /* pydantic_core.PydanticUndefined */
    PyObject *http_exception;               /* starlette.exceptions.HTTPException */
    PyObject *client_disconnect;            /* starlette.requests.ClientDisconnect */
    PyObject *json_decode_error;            /* json.JSONDecodeError */
    PyObject *response_type;                /* starlette.responses.Response */
    PyObject *response_call;                /* its __call__ */
    PyObject *request_type;                 /* starlette.requests.Request */
    PyObject *request_body, *request_json;  /* its body and json as Starlette made them */
    PyObject *websocket_type;               /* starlette.websockets.WebSocket */
    PyObject *async_manager, *sync_manager; /* contextlib.(async)contextmanager */
    PyObject *kw_from_attributes;           /* ("from_attributes",) */
    PyObject *str[TA_ENGINE_NSTR];          /* interned names, see plan_int.h */
    const ta_json_state *json; /* borrowed: the module's; NULL: hooks.encode_json encodes all */
    /* Our loop that runs in this thread, or NULL; set by init (so that tests may do without). */
    struct ta_loopstate *(*running_loop)(struct ta_engine_state *es);
    void *freelist[32]; /* released runs; unused in free-threaded builds */
    unsigned nfree;
} ta_engine_state;

struct ta_state;
int ta_engine_init(PyObject *module,
                   struct ta_state *st); /* adds Plan, Solved and MISSING to the module */
int ta_engine_traverse(ta_engine_state *es, visitproc visit, void *arg);
void ta_engine_clear(ta_engine_state *es);

/*
 * Runs `plan` (a _core.Plan, borrowed) on x.  1: the whole exchange was answered without waiting;
 * 0: *run is a new coroutine-like object to be run by a Task (ta_task_start); -1: exception.
 */
int ta_plan_run(ta_engine_state *es, PyObject *plan, ta_xch *x, PyObject **run);
/* True for a _core.Plan, which may be given to ta_plan_run. */
bool ta_plan_is_native(ta_engine_state *es, PyObject *obj);

#endif
