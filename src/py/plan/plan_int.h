/*
 * plan_int.h -- the compiled plan: what plan_read.c makes of a spec, and what a run only reads.
 *
 * Layer: py/plan; nobody else includes it.
 */
#ifndef TA_PY_PLAN_INT_H
#define TA_PY_PLAN_INT_H

#include "py/plan/plan.h"
#include "py/support/py_compat.h"

/* -- hooks --------------------------------------------------------------------------------- */

/* clang-format off */
#define TA_ENGINE_HOOKS(X)                                                                         \
    X(load_json) X(is_json) X(json_invalid) X(body_error) X(read_form) X(validation_error)         \
    X(solve_generator) X(solve_limited) X(run_sync) X(encode_json) X(make_response)                \
    X(serialize_field) X(response_error) X(new_request) X(new_response) X(new_background) X(endpoint_response)       \
    X(handle_error) X(overrides) X(override_plan) X(operation) X(observe) X(open_generator)        \
    X(cleanup_scope) X(swallowed) X(open_stacks) X(is_default_handler) X(answers_invalid) \
    X(task_call) X(tasks_call) X(background_call) X(is_plain_response) X(parse_form)
/* clang-format on */

enum {
#define X(name) H_##name,
    TA_ENGINE_HOOKS(X)
#undef X
        H_COUNT
};

/* -- the plan ------------------------------------------------------------------------------ */

typedef enum ta_source { SRC_PATH, SRC_QUERY, SRC_HEADER, SRC_COOKIE } ta_source;
typedef enum ta_conv { CONV_NONE, CONV_STR, CONV_INT, CONV_FLOAT, CONV_BOOL } ta_conv;
typedef enum ta_kind { KIND_ASYNC, KIND_SYNC, KIND_INLINE, KIND_GEN, KIND_ASYNCGEN } ta_kind;
typedef enum ta_run_mode { RUN_AUTO, RUN_INLINE, RUN_THREAD } ta_run_mode;
typedef enum ta_inject_what {
    INJECT_REQUEST,
    INJECT_WEBSOCKET,
    INJECT_CONNECTION,
    INJECT_RESPONSE,
    INJECT_BACKGROUND,
    INJECT_CONST
} ta_inject_what;
typedef enum ta_body_use { BODY_NONE, BODY_SINGLE, BODY_EXTRACT } ta_body_use;
typedef enum ta_body_kind { PLAN_BODY_NONE, PLAN_BODY_JSON, PLAN_BODY_FORM } ta_body_kind;
typedef enum ta_resp_kind { RESP_JSON, RESP_FIELD, RESP_CLASS, RESP_PYTHON } ta_resp_kind;

typedef struct ta_param {
    PyObject *alias_obj; /* owned str */
    const char *alias;   /* borrowed from alias_obj: UTF-8 */
    size_t alias_len;
    uint8_t source, conv; /* ta_source, ta_conv */
    int16_t index;        /* path: place among the route's parameters, or -1 */
    uint16_t slot;        /* place among the node's arguments */
    bool many;            /* query, header: all values in a list; `extract` for custom requests */
    /* owned, or NULL when the spec has none */
    PyObject *dflt, *validator, *validate, *extract;
    PyObject *loc;   /* owned tuple, or NULL: where the validator's errors are */
    PyObject *model; /* owned tuple of (name, is_list), or NULL: of the fields of a query model */
} ta_param;

typedef struct ta_inject {
    uint16_t slot;
    uint8_t what;
    PyObject *obj; /* owned: INJECT_CONST */
} ta_inject;

typedef struct ta_node {
    PyObject *call;    /* owned, or NULL */
    PyObject *kwnames; /* owned tuple, or NULL: all arguments are positional */
    PyObject **names;  /* owned array of nargs owned str, in FastAPI's order */
    uint16_t *slots;   /* owned array: the slot of names[i] */
    ta_param *params;  /* owned array */
    ta_inject *injects;
    uint16_t nargs, npos, nparams, ninjects;
    uint32_t first; /* of its arguments among the run's values; one spare value stands before */
    int32_t parent; /* index of the node that uses this one, -1: the endpoint */
    int32_t into;   /* where the value goes among the run's values, -1: nowhere */
    int32_t cache;  /* cache slot, -1 */
    uint8_t kind, run_mode, body_use;
    bool use_cache, limited, function_scope;
    PyObject *enter; /* owned: (async)contextmanager(call) of a generator, or NULL */
    /* body */
    uint16_t body_first, nbody; /* slots index: names[body_first .. +nbody) */
    PyObject *body_validator, *body_json_validator, *body_validate, *body_extract; /* owned */
    PyObject *credential;      /* owned bytes, or NULL: the header field whose value this is */
    PyObject *credential_call; /* owned: what a call of `call` must mean for that */
    PyObject
        *credential_make; /* owned: makes the value of a dict of scheme and credentials, or NULL */
    bool is_bearer;       /* the value without its scheme, "Bearer" */
    PyObject *body_loc;   /* owned tuple or NULL, as that of a parameter */
    struct ta_callstat *stat; /* owned by the pool's functions: how quick the sync call is */
} ta_node;

typedef struct ta_plan {
    PyObject_HEAD
    ta_state *st;            /* borrowed: the type keeps the module */
    PyObject *spec;          /* owned dict */
    PyObject *hooks_obj;     /* owned */
    PyObject *hook[H_COUNT]; /* owned; NULL: absent or None */
    ta_node *nodes;          /* owned array */
    uint32_t nnodes, nvalues, ncache, ngen;
    uint32_t nslots; /* all objects of a run's block: arguments, cache slots, exits */
    size_t block;    /* bytes of a run's values, cache slots and flags */
    uint64_t max_body;
    int status; /* 0: none given */
    uint8_t body, resp;
    int32_t fast_body; /* the node whose json_validator may take the raw bytes, or -1 */
    /*
     * needs_stacks: respond and solve need exit stacks in the scope; offers_stacks: the user's code
     * finds some there, and may push exits; direct: may be answered without a Task; isolate: code
     * besides `def` functions that get contexts of their own (not with run="inline") may set
     * context variables.
     */
    bool strict_content_type, needs_stacks, offers_stacks, direct, isolate, is_coroutine;
    PyObject *resp_validator, *resp_to_json; /* owned or NULL */
    PyObject *resp_shape;                    /* owned or NULL: tried before those two */
    PyObject *resp_text_type; /* owned bytes or NULL: the content type of a class for texts */
} ta_plan;

/* node_read.c: fills nodes[index] from specs[index].  0, or -1 with an exception that names the
 * key.
 */
TA_MUST_CHECK int ta_node_read(ta_plan *plan, PyObject *specs, uint32_t index);
/* plan_read.c: fills a zeroed plan.  0, or -1 with an exception that names the key. */
TA_MUST_CHECK int ta_plan_read(ta_plan *plan, PyObject *spec);
/* Returns the hook (borrowed); NULL with RuntimeError when the plan's hooks lack it. */
PyObject *ta_plan_hook(ta_plan *plan, int which);

extern PyType_Spec ta_plan_type_spec; /* plan.c */

#endif
