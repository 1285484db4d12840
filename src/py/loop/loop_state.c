/*
 * loop_state.c -- what a loop does with exceptions that have no caller, and with its guests.
 *
 * Layer: py/loop.
 */
#include "py/loop/loop_state.h"

#include "py/support/exc.h"

void ta_loop_state_unhandled(ta_loop_state *ls, const char *message)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (exc == NULL)
        return;
    if (ta_exc_is_fatal(exc)) {
        if (ls->fatal == NULL)
            ls->fatal = exc;
        else
            Py_DECREF(exc);
        return;
    }
    PyErr_SetRaisedException(exc);
    ta_loop_state_enter(ls);
    ta_exc_report(ls->st, ls->aioloop, message);
    ta_loop_state_leave(ls);
}

static ta_guest *guest_of(ta_list_node *node)
{
    return TA_CONTAINER_OF(node, ta_guest, node);
}

void ta_loop_state_shut_guests(ta_loop_state *ls)
{
    while (!ta_list_empty(&ls->guests)) {
        ta_guest *guest = guest_of(ls->guests.next);
        guest->ops->shut(guest);
    }
}

int ta_loop_state_traverse_guests(ta_loop_state *ls, visitproc visit, void *arg)
{
    for (ta_list_node *node = ls->guests.next; node != &ls->guests; node = node->next) {
        int rc = guest_of(node)->ops->traverse(guest_of(node), visit, arg);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void ta_loop_state_check_debug(ta_loop_state *ls)
{
    PyObject *debug = PyObject_CallMethodNoArgs(ls->aioloop, ls->st->names.get_debug);
    if (debug == NULL)
        PyErr_Clear();
    ls->debug = debug == Py_True;
    Py_XDECREF(debug);
}
