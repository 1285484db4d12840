/*
 * background.c -- background tasks, once the response is sent.
 *
 * Starlette's BackgroundTask and BackgroundTasks are run here, task by task, without a coroutine
 * for each; `def` functions go through the thread pool and may prove quick, as those of endpoints
 * do (inline_promotion.c).  Any other object, or one whose __call__ was replaced, is called.
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

#include "py/loop/call_stats.h"
#include "py/loop/thread_pool.h"

enum { MAX_ARGS = 16 };

/* Whether a call of the object means that hook's function: 1, 0, or -1 with an exception. */
static int is_called_by(const ta_plan_run *run, PyObject *object, int which)
{
    PyObject *known = run->plan->hook[which];
    if (known == NULL)
        return 0;
    PyObject *call =
        PyObject_GetAttr((PyObject *)Py_TYPE(object), run->plan->st->names.dunder_call);
    Py_XDECREF(call); /* the type has it */
    return call == NULL ? -1 : call == known;
}

/* A function that is given functions does what they do, so that it never proves quick. */
static bool may_prove_quick(PyObject *const *args, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        if (PyCallable_Check(args[i]))
            return false;
    }
    return true;
}

/* Calls func(*args, **kwargs) through the thread pool.  As ta_thread_pool_call. */
static ta_outcome call_sync(ta_loop_state *ls, PyObject *func, PyObject *args, PyObject *kwargs,
                            PyObject **out)
{
    PyObject *values[MAX_ARGS], *name, *value, *names = NULL;
    Py_ssize_t n = PyTuple_GET_SIZE(args), nkw = PyDict_GET_SIZE(kwargs), pos = 0, k = 0;
    TA_ASSERT(n + nkw <= MAX_ARGS);
    for (Py_ssize_t i = 0; i < n; i++)
        values[i] = PyTuple_GET_ITEM(args, i);
    if (nkw > 0 && (names = PyTuple_New(nkw)) == NULL)
        return TA_FAILED;
    while (k < nkw && PyDict_Next(kwargs, &pos, &name, &value)) {
        PyTuple_SET_ITEM(names, k, Py_NewRef(name));
        values[n + k++] = value;
    }
    TA_ASSERT(k == nkw);
    ta_callstat *stat = may_prove_quick(values, n + nkw) ? ta_call_stats_get(ls, func) : NULL;
    ta_outcome outcome =
        ta_thread_pool_call(ls, stat, TA_RUN_AUTO, func, values, (size_t)n, names, out);
    Py_XDECREF(names);
    return outcome;
}

/* What a BackgroundTask calls. */
typedef struct task_call {
    PyObject *func, *args, *kwargs, *is_async; /* owned */
} task_call;

static void drop_call(task_call *call)
{
    Py_XDECREF(call->func);
    Py_XDECREF(call->args);
    Py_XDECREF(call->kwargs);
    Py_XDECREF(call->is_async);
}

/* 1: *call is filled; 0: the task has something unusual in it; -1 with an exception. */
static int read_call(const ta_plan_run *run, PyObject *task, task_call *call)
{
    const ta_names_state *names = &run->plan->st->names;
    if (PyObject_GetOptionalAttr(task, names->func, &call->func) < 0 ||
        PyObject_GetOptionalAttr(task, names->args, &call->args) < 0 ||
        PyObject_GetOptionalAttr(task, names->kwargs, &call->kwargs) < 0 ||
        PyObject_GetOptionalAttr(task, names->is_async, &call->is_async) < 0)
        return -1;
    return call->func != NULL && call->args != NULL && PyTuple_CheckExact(call->args) &&
           call->kwargs != NULL && PyDict_CheckExact(call->kwargs) && call->is_async != NULL &&
           PyBool_Check(call->is_async) &&
           PyTuple_GET_SIZE(call->args) + PyDict_GET_SIZE(call->kwargs) <= MAX_ARGS;
}

/* Runs one task.  TA_DONE: *out is a value that nobody wants; TA_WAITS: to be awaited. */
static ta_outcome run_task(ta_plan_run *run, PyObject *task, PyObject **out)
{
    ta_loop_state *ls = run->x->ls;
    task_call call = {NULL, NULL, NULL, NULL};
    ta_outcome outcome = TA_FAILED;
    int known = ls != NULL ? is_called_by(run, task, H_task_call) : 0;
    if (known == 1)
        known = read_call(run, task, &call);
    if (known < 0)
        goto done;
    if (known == 1 && call.is_async == Py_False) {
        outcome = call_sync(ls, call.func, call.args, call.kwargs, out);
        goto done;
    }
    *out =
        known == 1 ? PyObject_Call(call.func, call.args, call.kwargs) : PyObject_CallNoArgs(task);
    outcome = *out ? TA_WAITS : TA_FAILED;
done:
    drop_call(&call);
    return outcome;
}

/* 1: *tasks (new) is the list that a call of the object would run; 0: it has to be called; -1. */
static int tasks_of(const ta_plan_run *run, PyObject *background, PyObject **tasks)
{
    int known = is_called_by(run, background, H_tasks_call);
    /* the framework's own makes spans, for which only a run at this door is known to need none */
    if (known == 0 && run->mode == MODE_NATIVE && run->plan->hook[H_operation] == NULL)
        known = is_called_by(run, background, H_background_call);
    if (known <= 0)
        return known;
    *tasks = PyObject_GetAttr(background, run->plan->st->names.tasks);
    if (*tasks == NULL)
        return -1;
    if (PyList_CheckExact(*tasks))
        return 1;
    Py_CLEAR(*tasks);
    return 0;
}

ta_plan_run_state ta_background_begin(ta_plan_run *run, PyObject *background)
{
    PyObject *tasks = NULL, *out = NULL;
    int rc = tasks_of(run, background, &tasks);
    if (rc == 1) {
        run->tasks = tasks;
        run->next_task = 0;
        return ST_BACKGROUND;
    }
    ta_outcome outcome = rc == 0 ? run_task(run, background, &out) : TA_FAILED;
    return ta_plan_run_go_on(run, outcome, out, ST_ANSWERED);
}

ta_plan_run_state ta_background_next(ta_plan_run *run, PyObject *value)
{
    Py_XDECREF(value);
    while (run->next_task < PyList_GET_SIZE(run->tasks)) { /* a task may add others */
        PyObject *out, *task = PyList_GetItemRef(run->tasks, run->next_task++);
        if (task == NULL)
            return ST_FAILED;
        ta_outcome outcome = run_task(run, task, &out);
        Py_DECREF(task);
        if (outcome == TA_FAILED)
            return ST_FAILED;
        if (outcome == TA_WAITS)
            return ta_plan_run_await(run, out, ST_BACKGROUND);
        Py_DECREF(out);
    }
    Py_CLEAR(run->tasks);
    return ST_ANSWERED;
}
