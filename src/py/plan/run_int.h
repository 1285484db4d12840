/*
 * run_int.h -- a run: one request on its way through a plan.
 *
 * Layer: py/plan; nobody else includes it.
 *
 * The machine.  Each state has one step, a function of the table in plan_run.c, which calls it and
 * goes over to the state that it returns.  Steps never call each other.  The step of a state with a
 * star is given a value: that of an awaitable that the run has waited for, or one that the step
 * before had at hand.
 *
 *   START
 *     |
 *   BODY -----> BODY_BYTES* ----> BODY_JSON*
 *     |   \---> BODY_WHOLE* |         |
 *     |     \-> BODY_FORM*  |         |        what they raise: BODY_FAILED -> FAILED
 *     |             |       |         |
 *   DEPENDENCIES <--+-------+---------+
 *     |
 *   NODE <----> NODE_BODY*, NODE_VALUE*        once for each node
 *     |
 *   SOLVED -------------------------------------------------> CLOSE   (solve)
 *     |     \---------------------------\
 *   RETURNED* --> MADE* ------------> RESPONSE* ------------> CLOSE   (respond)
 *     |                                |     \
 *     |---> CONTENT* ---\              |      LEAVE <-> EXIT*         (scope "function")
 *     |                 |              |       |
 *     \-----------------+--------------+--> PENDING
 *                       |              |       |
 *                     SENT* <----------+-------/
 *                       |  \
 *                       | BACKGROUND*         once for each task
 *                       |  /
 *                     ANSWERED*                after the background tasks
 *                       |
 *                     LEAVE <-> EXIT*          (scope "request"); EXIT_FAILED -> LEAVE
 *                       |
 *                     CLOSE* <-> CLOSE_FAILED -> DONE, RAISED
 *
 * An exception leads from any other state to FAILED, and from there to LEAVE (what was entered is
 * left with it), to HANDLED* (handle_error was asked; its response goes to RESPONSE) or to CLOSE.
 */
#ifndef TA_PY_PLAN_RUN_INT_H
#define TA_PY_PLAN_RUN_INT_H

#include "py/plan/plan_int.h"
#include "py/support/coroutine.h"

/* RETURN: as ASGI, but the response is not sent: it is the run's result, or the exchange keeps it.
 */
typedef enum ta_mode { MODE_NATIVE, MODE_ASGI, MODE_RESPOND, MODE_SOLVE, MODE_RETURN } ta_mode;

typedef enum ta_plan_run_state {
    ST_START,
    ST_BODY,         /* begins to read the body */
    ST_BODY_BYTES,   /* the body's bytes are here */
    ST_BODY_JSON,    /* a custom request's json() has returned */
    ST_BODY_WHOLE,   /* the bytes of a small form are here */
    ST_BODY_FORM,    /* read_form has returned */
    ST_BODY_FAILED,  /* an exception of the four above is set: FastAPI gives it another form */
    ST_DEPENDENCIES, /* begins with the nodes */
    ST_NODE,         /* extracts the arguments of node `node` and calls it */
    ST_NODE_BODY,    /* its body has been extracted */
    ST_NODE_VALUE,   /* it has returned */
    ST_SOLVED,       /* the endpoint has all its arguments: calls it */
    ST_RETURNED,     /* the endpoint has returned */
    ST_CONTENT,      /* serialize_field has returned bytes */
    ST_MADE,         /* make_response has returned a response */
    ST_RESPONSE,     /* there is a response to be sent */
    ST_PENDING,      /* sends `pending`: all of the scope "function" are left */
    ST_SENT,         /* the response is sent: runs its background */
    ST_BACKGROUND,   /* runs the next of the background tasks */
    ST_ANSWERED,     /* the background is done, too */
    ST_LEAVE,        /* leaves what was entered in the scope `leaving` */
    ST_EXIT,         /* an exit has returned */
    ST_EXIT_FAILED,  /* an exit's exception is set */
    ST_FAILED,       /* an exception is set */
    ST_HANDLED,      /* handle_error has returned a response, or None */
    ST_CLOSE,        /* closes stacks and the form; ends with `exc`, or the result */
    ST_CLOSE_FAILED, /* a close() has raised the exception that is set */
    ST_DONE,         /* the end: co.result is set, or NULL */
    ST_RAISED,       /* the end: an exception is set */
    ST_COUNT
} ta_plan_run_state;

#define TA_RUN_ROOM 256

typedef struct ta_plan_run {
    ta_coroutine co;
    ta_plan *plan;                   /* borrowed: kept by ... */
    PyObject *holder;                /* ... this, which is owned: shared_refs.h */
    ta_exchange *x;                  /* owned */
    PyObject **values;               /* in `block`: nslots owned objects */
    uint16_t *exit_kinds;            /* in `block` */
    uint8_t *bad;                    /* in `block`: a flag a node */
    char *block;                     /* inline_block, or allocated */
    PyObject *given;                 /* owned: the next step's value; NULL during a step */
    PyObject *body;                  /* owned: the parsed body, or NULL */
    PyObject *raw_body;              /* owned: its bytes, when the parsed one was not needed yet */
    PyObject *fast_value;            /* owned: what json_validator made of raw_body */
    PyObject *errors;                /* owned list or NULL */
    PyObject *background, *response; /* owned or NULL: the injected ones */
    PyObject *own_background;        /* owned: of the response that was sent */
    PyObject *tasks;                 /* owned list: its background tasks, while they run */
    Py_ssize_t next_task;            /* among them */
    PyObject *form;                  /* owned: to be closed at the end */
    PyObject *cm;                    /* owned: the operation that was entered */
    PyObject *entering;              /* owned: the context manager of a generator */
    PyObject *cleanup;               /* owned: the shield of exits */
    PyObject *stacks[3];             /* owned or NULL: what hooks.open_stacks gave */
    PyObject *pending;               /* owned: to be sent after exits, see reply.c */
    PyObject *exc;      /* owned: the exception to raise at the end, or being handled */
    PyObject *handling; /* owned: the one that a handler of the application is called for */
    uint32_t node;
    uint16_t nexits[2], entering_kind;
    uint8_t state, mode, leaving;
    bool handled;    /* handle_error was asked */
    bool in_flight;  /* an exception was on its way when the exits began */
    bool awaited;    /* the response and its background are done */
    bool overridden; /* its plan is one of overrides */
    bool whole_form; /* `body` is a form that no Request has read */
    _Alignas(max_align_t) char inline_block[TA_RUN_ROOM];
} ta_plan_run;

/*
 * A step.  `value` is stolen; NULL for the states without a star.  ST_FAILED: an exception is set,
 * which the table may send elsewhere.
 */
typedef ta_plan_run_state ta_plan_run_step(ta_plan_run *r, PyObject *value);

/* -- ways to go on ------------------------------------------------------------------------- */

/* Waits for `awaitable` (steals); the step of `state` gets its value. */
static inline ta_plan_run_state ta_plan_run_await(ta_plan_run *r, PyObject *awaitable,
                                                  ta_plan_run_state state)
{
    return ta_coroutine_await(&r->co, awaitable) == TA_WAITS ? state : ST_FAILED;
}

/* The step of `state` gets `value` (steals) at once. */
static inline ta_plan_run_state ta_plan_run_give(ta_plan_run *r, PyObject *value,
                                                 ta_plan_run_state state)
{
    TA_ASSERT(value != NULL && r->given == NULL && r->co.delegate == NULL);
    r->given = value;
    return state;
}

/* Goes on with what a call gave: a value at hand, or an awaitable of it (steals `out`). */
static inline ta_plan_run_state ta_plan_run_go_on(ta_plan_run *r, ta_outcome outcome, PyObject *out,
                                                  ta_plan_run_state state)
{
    if (outcome == TA_FAILED)
        return ST_FAILED;
    return outcome == TA_WAITS ? ta_plan_run_await(r, out, state) : ta_plan_run_give(r, out, state);
}

/* -- run_values.c: what a run holds -------------------------------------------------------- */

/* Gives a run that has none the value block of `plan`, of which it takes a reference.  0, or -1
 * with an exception. */
TA_MUST_CHECK int ta_plan_run_use_plan(ta_plan_run *run, ta_plan *plan);
void ta_plan_run_drop_values(ta_plan_run *run);
/* The arguments of a node that was called are no longer needed. */
void ta_plan_run_drop_args(ta_plan_run *run, const ta_node *node);
PyObject *ta_plan_run_values(ta_plan_run *run,
                             const ta_node *node); /* new dict of a node's arguments, or NULL */
/* A new reference to *place, which the hook `which` makes when it is NULL. */
PyObject *ta_plan_run_lazy(ta_plan_run *run, PyObject **place, int which);
PyObject *
ta_plan_run_request(ta_plan_run *run); /* new reference to the Request or WebSocket, or NULL */
/* Enters hooks.operation(name, call) if there is one.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_plan_run_enter_operation(ta_plan_run *run, PyObject *name);
/*
 * Leaves what was entered, with the exception that is set, which stays set.  -1: the manager's own
 * exception is set instead.
 */
TA_MUST_CHECK int ta_plan_run_leave_operation(ta_plan_run *run);
/* Tells hooks.observe, if there is one.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_plan_run_observe(ta_plan_run *run, PyObject *what, PyObject *value);

/* -- the steps, and what their files offer besides ----------------------------------------- */

/* body.c */
ta_plan_run_step ta_body_begin, ta_body_bytes, ta_body_json, ta_body_whole, ta_body_form,
    ta_body_failed;
PyObject *
ta_body_parsed(ta_plan_run *run); /* new reference; None: there was no body; NULL: failed */

/* params.c: the parameters of a node into its arguments.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_params_extract(ta_plan_run *run, uint32_t node);
/* Calls validator(value, from_attributes=True).  1: *out; 0: a ValidationError is set; -1: another
 * exception. */
TA_MUST_CHECK int ta_params_try(ta_state *st, PyObject *validator, PyObject *value, PyObject **out);
/* The run gets the errors of the ValidationError that is set, located below `loc`.  0, or -1 with
 * an exception. */
TA_MUST_CHECK int ta_params_reject(ta_plan_run *run, PyObject *loc);
/* Takes (value, errors) apart (steals pair).  1: *out; 0: errors were added to the run's; -1. */
TA_MUST_CHECK int ta_params_take_pair(ta_plan_run *run, PyObject *pair, PyObject **out);

/* param_models.c: what a model of query parameters is validated from: a new dict, or NULL. */
PyObject *ta_param_models_content(const ta_plan_run *run, const ta_param *param);

/* credentials.c: a node with a credential.  1: *out (new) is its value; 0: call it; -1. */
TA_MUST_CHECK int ta_credentials_take(ta_plan_run *run, const ta_node *node, PyObject **out);

/*
 * overrides.c: node r->node is the first whose turn begins: goes over to another plan if
 * dependency_overrides says so.  0, or -1 with an exception.
 */
TA_MUST_CHECK int ta_overrides_follow(ta_plan_run *run);

/* dependencies.c */
ta_plan_run_step ta_dependencies_begin, ta_dependencies_node, ta_dependencies_body,
    ta_dependencies_value;
/* Calls a node that has its arguments.  TA_DONE: *out is its value; TA_WAITS: to be awaited. */
ta_outcome ta_dependencies_call(ta_plan_run *run, const ta_node *node, PyObject **out);

/* endpoint.c */
ta_plan_run_step ta_endpoint_call;

/* solved.c */
PyObject *ta_solved_new(ta_plan_run *run); /* new Solved, or NULL */
extern PyType_Spec ta_solved_type_spec;

/* reply.c */
ta_plan_run_step ta_reply_endpoint, ta_reply_content, ta_reply_made, ta_reply_response;
ta_plan_run_step ta_reply_pending, ta_reply_sent;
/* The head of a JSON response without further fields; lives forever. */
ta_response_head ta_reply_json_head(long status);
/* The state after the exchange's `respond`, given its result. */
ta_plan_run_state ta_reply_responded(ta_plan_run *run, ta_outcome outcome, PyObject *awaitable);

/* background.c */
/* The response is sent: runs its background. */
ta_plan_run_state ta_background_begin(ta_plan_run *run, PyObject *background);
ta_plan_run_step ta_background_next;

/* errors.c */
/*
 * Lets the application answer for the exception that is set: SENT (done), HANDLED (its handler was
 * called), or FAILED with that exception, which nobody wanted, or another one.
 */
ta_plan_run_state ta_errors_answer(ta_plan_run *run);
ta_plan_run_step ta_errors_handled;
/* The run has validation errors: answers them (SENT), or raises the exception that has them
 * (FAILED). */
ta_plan_run_state ta_errors_invalid(ta_plan_run *run);

/* exit_stack.c */
enum { SCOPE_FUNCTION, SCOPE_REQUEST, SCOPE_ALL };
/* Enters a generator.  TA_DONE: *out is its value; TA_WAITS: *out is to be awaited, then
 * ta_exit_stack_entered. */
ta_outcome ta_exit_stack_enter(ta_plan_run *run, const ta_node *node, PyObject **out);
void ta_exit_stack_entered(ta_plan_run *run);
/* The application gets the Request: hooks.open_stacks, if there, is asked.  0 or -1. */
TA_MUST_CHECK int ta_exit_stack_offer(ta_plan_run *run, PyObject *request);
bool ta_exit_stack_pending(const ta_plan_run *run, int scope);
/* The state that leaves all of a scope, with r->exc or without. */
ta_plan_run_state ta_exit_stack_leave(ta_plan_run *run, int scope);
ta_plan_run_step ta_exit_stack_next, ta_exit_stack_answer, ta_exit_stack_failed;

/* -- plan_run.c ---------------------------------------------------------------------------- */

/* A new run, at ST_START.  Takes new references to plan and x.  NULL with an exception. */
ta_plan_run *ta_plan_run_new(ta_state *st, ta_plan *plan, ta_exchange *exchange, ta_mode mode);
extern PyType_Spec ta_plan_run_type_spec;

#endif
