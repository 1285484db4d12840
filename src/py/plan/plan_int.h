/*
 * plan_int.h -- the compiled plan and its run, shared by plan.c params.c dependencies.c
 * overrides.c body.c reply.c plan_run.c and plan_objects.c.  Layer: py/plan; nobody else includes
 * it.
 */
#ifndef TA_PY_PLAN_INT_H
#define TA_PY_PLAN_INT_H

#include "py/plan/plan.h"
#include "py/support/coroutine.h"
#include "py/support/py_compat.h"

/* -- hooks --------------------------------------------------------------------------------- */

/* clang-format off */
#define TA_ENGINE_HOOKS(X)                                                                         \
    X(load_json) X(is_json) X(json_invalid) X(body_error) X(read_form) X(validation_error)         \
    X(solve_generator) X(solve_limited) X(run_sync) X(encode_json) X(make_response)                \
    X(serialize_field) X(new_request) X(new_response) X(new_background) X(endpoint_response)       \
    X(handle_error) X(overrides) X(override_plan) X(operation) X(observe) X(open_generator)        \
    X(cleanup_scope) X(swallowed) X(open_stacks)
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
     * needs_stacks: respond and solve need exit stacks in the scope; direct: may be answered
     * without a Task; isolate: code besides `def` functions that get contexts of their own (not
     * with run="inline") may set context variables.
     */
    bool strict_content_type, needs_stacks, direct, isolate, is_coroutine;
    PyObject *resp_validator, *resp_to_json; /* owned or NULL */
    PyObject *resp_shape;                    /* owned or NULL: tried before those two */
} ta_plan;

/* plan_read.c: fills a zeroed plan.  0, or -1 with an exception that names the key. */
int ta_plan_read(ta_plan *plan, PyObject *spec);
/* The hook; NULL with RuntimeError when the plan's hooks lack it.  Borrowed. */
PyObject *ta_plan_hook(ta_plan *plan, int which);

/* -- the run ------------------------------------------------------------------------------- */

typedef enum ta_mode { MODE_NATIVE, MODE_ASGI, MODE_RESPOND, MODE_SOLVE } ta_mode;

typedef enum ta_run_state {
    ST_START,
    ST_BODY_BYTES, /* waits for the body's bytes */
    ST_BODY_JSON,  /* waits for a custom request's json() */
    ST_BODY_FORM,  /* waits for read_form */
    ST_NODE,       /* extracts and calls node `node` */
    ST_NODE_BODY,  /* waits for its body extraction */
    ST_NODE_CALL,  /* waits for its value */
    ST_ENDPOINT,   /* waits for the endpoint's value */
    ST_PYTHON,     /* waits for endpoint_response */
    ST_CONTENT,    /* waits for serialize_field's bytes */
    ST_MAKE,       /* waits for make_response */
    ST_EXIT,       /* waits for the exit of a dependency */
    ST_LEFT,       /* all are left, with an exception */
    ST_SENT,       /* waits for the response to be sent */
    ST_BACKGROUND, /* waits for the background tasks */
    ST_HANDLER,    /* waits for handle_error */
    ST_CLOSE_FORM, /* waits for close() of a form or stack, with the outcome in exc */
    ST_FINISHED
} ta_run_state;

#define TA_RUN_ROOM 256

typedef struct ta_run {
    ta_co co;
    ta_plan *plan;                   /* owned */
    ta_xch *x;                       /* owned */
    PyObject **values;               /* in `block`: nslots owned objects */
    uint16_t *exit_kinds;            /* in `block` */
    uint8_t *bad;                    /* in `block`: a flag a node */
    char *block;                     /* inline_block, or allocated */
    PyObject *body;                  /* owned: the parsed body, or NULL */
    PyObject *raw_body;              /* owned: its bytes, when the parsed one was not needed yet */
    PyObject *fast_value;            /* owned: what json_validator made of raw_body */
    PyObject *errors;                /* owned list or NULL */
    PyObject *background, *response; /* owned or NULL: the injected ones */
    PyObject *own_background;        /* owned: of the response that was sent */
    PyObject *form;                  /* owned: to be closed at the end */
    PyObject *cm;                    /* owned: the operation that was entered */
    PyObject *entering;              /* owned: the context manager of a generator */
    PyObject *cleanup;               /* owned: the shield of exits */
    PyObject *stacks[3];             /* owned or NULL: what hooks.open_stacks gave */
    PyObject *pending;               /* owned: to be sent after exits, see reply.c */
    PyObject *exc; /* owned: the exception to raise at the end, or being handled */
    uint32_t node;
    uint16_t nexits[2], entering_kind;
    uint8_t state, mode, leaving;
    bool handled;    /* handle_error was asked */
    bool in_flight;  /* an exception was on its way when the exits began */
    bool awaited;    /* the response and its background are done */
    bool overridden; /* its plan is one of overrides */
    _Alignas(max_align_t) char inline_block[TA_RUN_ROOM];
} ta_run;

/* A new run, at ST_START.  Takes new references to plan and x. */
ta_run *ta_run_new(ta_state *st, ta_plan *plan, ta_xch *x, ta_mode mode);
/* Gives the run the value block of `plan`.  0 or -1. */
int ta_run_use_plan(ta_run *r, ta_plan *plan);
void ta_run_drop_values(ta_run *r);
ta_outcome ta_run_advance(ta_co *co, PyObject *value);

/* Steps of the machine: each returns GO (r->state was set), or an outcome. */
#define PLAN_GO ((ta_outcome)2)

ta_outcome ta_body_begin(ta_run *r);                  /* body.c */
ta_outcome ta_body_bytes(ta_run *r, PyObject *bytes); /* steals, as all below */
ta_outcome ta_body_json(ta_run *r, PyObject *value);
ta_outcome ta_body_form(ta_run *r, PyObject *form);
void ta_body_failed(ta_run *r);      /* maps the exception that is set */
PyObject *ta_body_parsed(ta_run *r); /* new reference; None: there was no body; NULL: failed */
ta_outcome ta_deps_node(ta_run *r);  /* dependencies.c: from r->node on */
ta_outcome ta_deps_body(ta_run *r, PyObject *pair);
ta_outcome ta_deps_value(ta_run *r, PyObject *value);
PyObject *ta_deps_values(ta_run *r, const ta_node *n); /* new dict of a node's arguments */
PyObject *ta_deps_solved(ta_run *r);                   /* new Solved */
PyObject *ta_deps_request(ta_run *r);                  /* new reference to Request or WebSocket */
ta_outcome ta_reply_endpoint(ta_run *r, PyObject *value); /* reply.c */
ta_outcome ta_reply_content(ta_run *r, PyObject *bytes);
ta_outcome ta_reply_made(ta_run *r, PyObject *response);
ta_outcome ta_reply_send(ta_run *r, PyObject *response);
ta_outcome ta_reply_sent(ta_run *r);
ta_outcome ta_run_complete(ta_run *r); /* plan_run.c: the response and its background are done */
ta_outcome ta_run_finish(ta_run *r);   /* plan_run.c: the end without an exception */

/* exit_stack.c */
enum { SCOPE_FUNCTION, SCOPE_REQUEST, SCOPE_ALL };
/* Enters a generator.  TA_DONE: *out is its value; TA_WAITS: *out is to be awaited, then
 * ta_exits_entered. */
ta_outcome ta_exits_enter(ta_run *r, const ta_node *n, PyObject **out);
/* The application gets the Request: hooks.open_stacks, if there, is asked.  0 or -1. */
int ta_exits_offer(ta_run *r, PyObject *request);
void ta_exits_entered(ta_run *r);
bool ta_exits_pending(const ta_run *r, int scope);
/* Leaves all of a scope with r->exc or without; goes on to what follows. */
ta_outcome ta_exits_leave(ta_run *r, int scope);
ta_outcome ta_exits_answer(ta_run *r, PyObject *answer); /* steals */
ta_outcome ta_exits_failed(ta_run *r);
ta_outcome ta_reply_pending(ta_run *r); /* reply.c: sends r->pending */

/*
 * overrides.c: node r->node is the first whose turn begins: goes over to another plan if
 * dependency_overrides says so.  0, or -1 with an exception.
 */
int ta_overrides_follow(ta_run *r);

/* params.c: the parameters of a node into its arguments.  0, or -1 with an exception. */
int ta_params_extract(ta_run *r, uint32_t node);
/* Calls validator(value, from_attributes=True).  1: *out; 0: ValidationError (cleared); -1. */
int ta_validate(ta_state *st, PyObject *validator, PyObject *value, PyObject **out);
/* Takes (value, errors) apart (steals pair).  1: *out; 0: errors were added to the run's; -1. */
int ta_take_pair(ta_run *r, PyObject *pair, PyObject **out);

/* Enters hooks.operation(name, call) if there is one; leaves what was entered. */
int ta_operation_enter(ta_run *r, PyObject *name);
int ta_operation_leave(ta_run *r);
/* Tells hooks.observe, if there is one. */
int ta_observe(ta_run *r, PyObject *what, PyObject *value);

/* The types, made by plan_objects.c. */
extern PyType_Spec ta_plan_spec, ta_run_spec, ta_solved_spec;

/* dependencies.c */
typedef struct ta_solved {
    PyObject_HEAD
    /* owned */
    PyObject *values, *errors, *background_tasks, *response, *dependency_cache, *body;
} ta_solved;

#endif
