/*
 * exc.c -- the only place that maps ta_err to Python exceptions.
 *
 * Layer: py (L4).
 */
#include "py/support/exc.h"

#include "base/err.h"
#include "py/support/types.h"

int ta_exc_init(PyObject *module, ta_state *st)
{
    (void)module;
    st->exc.cancelled_error = ta_types_import("asyncio", "CancelledError");
    if (st->exc.cancelled_error == NULL)
        return -1;
    PyObject *get_logger = ta_types_import("logging", "getLogger");
    if (get_logger == NULL)
        return -1;
    st->exc.error_logger = PyObject_CallFunction(get_logger, "s", "turboapi.error");
    Py_DECREF(get_logger);
    return st->exc.error_logger ? 0 : -1;
}

PyObject *ta_exc_set(int err, const char *what)
{
    switch (err) {
    case TA_ENOMEM:
        return PyErr_NoMemory();
    case TA_ESYS:
        return PyErr_SetFromErrno(PyExc_OSError);
    case TA_ETIMEOUT:
        PyErr_Format(PyExc_TimeoutError, "%s: %s", what, ta_err_text(err));
        return NULL;
    case TA_ECLOSED:
        PyErr_Format(PyExc_ConnectionResetError, "%s: %s", what, ta_err_text(err));
        return NULL;
    case TA_EINVAL:
    case TA_EBAD:
    case TA_ETOOLARGE:
        PyErr_Format(PyExc_ValueError, "%s: %s", what, ta_err_text(err));
        return NULL;
    case TA_ENOTFOUND:
        PyErr_Format(PyExc_LookupError, "%s: %s", what, ta_err_text(err));
        return NULL;
    case TA_EUPCALL:
        if (PyErr_Occurred())
            return NULL;
        break;
    default:
        break;
    }
    PyErr_Format(PyExc_RuntimeError, "%s: %s", what, ta_err_text(err));
    return NULL;
}

void ta_exc_report(ta_state *st, PyObject *aioloop, const char *message)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (exc == NULL)
        return;
    PyObject *res = NULL;
    if (aioloop != NULL) {
        PyObject *context = Py_BuildValue("{s:s,s:O}", "message", message, "exception", exc);
        if (context != NULL) {
            res = PyObject_CallMethodOneArg(aioloop, st->names.call_exception_handler, context);
            Py_DECREF(context);
        }
    }
    if (res == NULL) {
        if (aioloop != NULL)
            PyErr_FormatUnraisable("Exception ignored in the event loop's exception handler");
        PyErr_SetRaisedException(Py_NewRef(exc));
        PyErr_FormatUnraisable("Exception ignored: %s", message);
    }
    Py_XDECREF(res);
    Py_DECREF(exc);
}

bool ta_exc_is_ctrl_c(PyObject *exc)
{
    if (!PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt))
        return false;
    PyObject *other = PyErr_GetRaisedException();
    PyObject *decide = ta_types_import("turboapi._serving.signals", "is_ctrl_c");
    PyObject *res = decide ? PyObject_CallOneArg(decide, exc) : NULL;
    bool yes = res == NULL || !Py_IsFalse(res); /* in doubt the process must end */
    Py_XDECREF(res);
    Py_XDECREF(decide);
    PyErr_Clear();
    if (other != NULL)
        PyErr_SetRaisedException(other);
    return yes;
}

void ta_exc_log(ta_state *st, const char *message, PyObject *exc)
{
    PyObject *args = NULL, *kwargs = NULL, *method = NULL, *res = NULL;
    method = PyObject_GetAttrString(st->exc.error_logger, "error");
    if (method != NULL)
        args = Py_BuildValue("(s)", message);
    if (args != NULL)
        kwargs = Py_BuildValue("{s:O}", "exc_info", exc ? exc : Py_None);
    if (kwargs != NULL)
        res = PyObject_Call(method, args, kwargs);
    if (res == NULL)
        PyErr_FormatUnraisable("Exception ignored while logging: %s", message);
    Py_XDECREF(res);
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    Py_XDECREF(method);
}
