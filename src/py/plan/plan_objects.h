/*
 * plan_objects.h -- the Python objects that layer plan keeps in the module's state; see
 * support/state.h.
 *
 * Layer: py/plan.
 */
#ifndef TA_PY_PLAN_PLAN_OBJECTS_H
#define TA_PY_PLAN_PLAN_OBJECTS_H

#include "py/exchange/exchange_objects.h"

/* Owned object pointers only. */
typedef struct ta_plan_objects {
    PyTypeObject *plan_type, *run_type, *solved_type, *router_type;
    PyTypeObject *innermost_type, *innermost_run_type;
    PyObject *spare_runs, *spare_innermost_runs; /* spares.h */
    PyTypeObject *http_middleware_type, *http_middleware_run_type, *http_level_type;
    PyTypeObject *call_next_type, *call_next_run_type, *inside_endpoint_type;
    PyTypeObject *passed_response_type, *header_fields_type;
    PyObject *validation_error;             /* pydantic_core.ValidationError */
    PyObject *missing;                      /* pydantic_core.PydanticUndefined */
    PyObject *http_exception;               /* starlette.exceptions.HTTPException */
    PyObject *json_decode_error;            /* json.JSONDecodeError */
    PyObject *response_type;                /* starlette.responses.Response */
    PyObject *response_call;                /* its __call__ */
    PyObject *request_body, *request_json;  /* Request's body and json as Starlette made them */
    PyObject *async_manager, *sync_manager; /* contextlib.(async)contextmanager */
    PyObject *kw_from_attributes;           /* ("from_attributes",) */
    PyObject *kw_include_url;               /* ("include_url",) */
} ta_plan_objects;

/* The state as this layer sees it. */
typedef struct ta_plan_module_state {
    ta_exchange_module_state below;
    ta_plan_objects objects;
} ta_plan_module_state;

static inline ta_plan_objects *ta_plan_objects_of(ta_state *st)
{
    return &((ta_plan_module_state *)st)->objects;
}

/* Fills the objects; adds Plan, Solved and MISSING to the module.  0, or -1 with an exception. */
int ta_plan_objects_init(PyObject *module, ta_state *st);

#endif
