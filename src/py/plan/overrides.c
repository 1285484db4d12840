/*
 * overrides.c -- dependency_overrides, looked up when a dependency's turn comes.
 *
 * FastAPI looks up the override of a dependency before it solves what that one depends on; a run
 * does so, too, whenever the turn of the next node begins.  An override that an earlier dependency
 * of the same request has installed counts.  The answer is a plan that has the same nodes as far as
 * the run has come, and the same nodes above those: the run moves to it with its whole state.
 */
#include "py/plan/run_int.h"

/* Moves the arguments that a node has so far to the same node of another plan. */
static int move_args(ta_plan_run *run, PyObject **from, const ta_plan *old, uint32_t a, uint32_t b)
{
    const ta_node *node = &old->nodes[a], *m = &run->plan->nodes[b];
    if (node->nargs != m->nargs)
        return -1;
    for (uint16_t i = 0; i < node->nargs; i++) {
        run->values[m->first + i] = from[node->first + i];
        from[node->first + i] = NULL;
    }
    return 0;
}

/* All that the run has in `from`, the block of its old plan; its new one is r->plan.  0 or -1. */
static int move_all(ta_plan_run *run, const ta_plan *old, char *block)
{
    const ta_plan *plan = run->plan;
    PyObject **from = (PyObject **)(void *)block;
    uint32_t nexits = old->nslots - old->nvalues - old->ncache;
    const uint16_t *kinds = (const uint16_t *)(void *)(from + old->nslots);
    const uint8_t *bad = (const uint8_t *)(kinds + nexits);
    memcpy(run->bad, bad, run->node);
    if (run->node > 0) {
        int32_t a = (int32_t)run->node - 1, b = a;
        for (;;) {
            a = old->nodes[a].parent;
            b = plan->nodes[b].parent;
            if (a < 0 || b < 0)
                break;
            if (move_args(run, from, old, (uint32_t)a, (uint32_t)b) < 0)
                return -1;
            run->bad[b] = bad[a];
        }
        if (a >= 0 || b >= 0)
            return -1;
    }
    for (uint32_t i = 0; i < old->ncache && i < plan->ncache; i++) {
        run->values[plan->nvalues + i] = from[old->nvalues + i];
        from[old->nvalues + i] = NULL;
    }
    for (int scope = 0; scope < 2; scope++) {
        uint32_t a = scope == SCOPE_REQUEST ? old->ngen : 0;
        uint32_t b = scope == SCOPE_REQUEST ? plan->ngen : 0;
        if (run->nexits[scope] > plan->ngen + (uint32_t)(scope == SCOPE_REQUEST))
            return -1;
        for (uint32_t i = 0; i < run->nexits[scope]; i++) {
            PyObject **place = &from[old->nvalues + old->ncache + a + i];
            run->values[plan->nvalues + plan->ncache + b + i] = *place;
            *place = NULL;
            run->exit_kinds[b + i] = kinds[a + i];
        }
    }
    return 0;
}

/* 0, or -1 with an exception: the run can't continue then, and has nothing left to exit. */
static int go_over(ta_plan_run *run, ta_plan *to)
{
    ta_plan *old = (ta_plan *)Py_NewRef(run->plan);
    char *block = PyMem_Malloc(old->block);
    int rc = -1;
    TA_ASSERT(run->block != NULL && run->entering == NULL);
    if (block == NULL) {
        Py_DECREF(old);
        PyErr_NoMemory();
        return -1;
    }
    memcpy(block, run->block, old->block);
    if (run->block != run->inline_block)
        PyMem_Free(run->block);
    run->block = NULL;
    run->values = NULL;
    if (ta_plan_run_use_plan(run, to) == 0) {
        rc = move_all(run, old, block);
        if (rc < 0)
            PyErr_SetString(PyExc_SystemError, "a plan of overrides has another beginning");
    }
    if (rc < 0)
        run->nexits[SCOPE_FUNCTION] = run->nexits[SCOPE_REQUEST] = 0;
    for (uint32_t i = 0; i < old->nslots; i++)
        Py_CLEAR(((PyObject **)(void *)block)[i]);
    PyMem_Free(block);
    Py_DECREF(old);
    if (rc == 0 && run->fast_value != NULL) {
        /* made for a node that may not be there now: each one validates the parsed body */
        Py_CLEAR(run->fast_value);
        PyObject *body = ta_body_parsed(run);
        rc = body ? 0 : -1;
        Py_XDECREF(body);
    }
    return rc;
}

int ta_overrides_follow(ta_plan_run *run)
{
    ta_plan *plan = run->plan;
    PyObject *mapping =
        PyObject_GetAttr(plan->hook[H_overrides], plan->st->names.dependency_overrides);
    if (mapping == NULL)
        return -1;
    int some = PyDict_CheckExact(mapping) ? PyDict_GET_SIZE(mapping) > 0 : PyObject_IsTrue(mapping);
    int rc = some < 0 ? -1 : 0;
    if (some > 0 || (some == 0 && run->overridden)) {
        PyObject *hook = ta_plan_hook(plan, H_override_plan);
        PyObject *other = hook ? PyObject_CallFunction(hook, "OI", mapping, run->node) : NULL;
        if (other != NULL && other != Py_None &&
            !Py_IS_TYPE(other, ta_plan_objects_of(plan->st)->plan_type)) {
            PyErr_SetString(PyExc_TypeError, "hook override_plan must return a Plan or None");
            Py_CLEAR(other);
        }
        rc = other ? 0 : -1;
        if (other != NULL && other != Py_None && other != (PyObject *)plan) {
            run->overridden = true;
            rc = go_over(run, (ta_plan *)other);
        }
        Py_XDECREF(other);
    }
    Py_DECREF(mapping);
    return rc;
}
