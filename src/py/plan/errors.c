/*
 * errors.c -- what answers for an exception that leaves a route.
 *
 * It is the application's handler for it, found and called as Starlette's
 * wrap_app_handling_exceptions does.  Every application has handlers of the framework's for
 * HTTPException and RequestValidationError; their answers are made here without a call, a Request
 * or a Response, unless somebody has replaced a function that would take part
 * (hooks.is_default_handler, hooks.answers_invalid).
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

#include "base/buf.h"
#include "http/headers.h"
#include "http/status.h"
#include "py/json/encode.h"
#include "py/loop/call_stats.h"
#include "py/loop/thread_pool.h"

enum { PLAIN_DEPTH = 32 };

/* -- answers ---------------------------------------------------------------------------------- */

static bool is_plain(PyObject *value, int depth);

static bool has_plain_items_lock_held(PyObject *dict, int depth)
{
    Py_ssize_t pos = 0;
    PyObject *key, *item;
    while (PyDict_Next(dict, &pos, &key, &item)) {
        if (!PyUnicode_CheckExact(key) || PyUnicode_GET_LENGTH(key) == 0 ||
            PyUnicode_READ_CHAR(key, 0) == '_' || !is_plain(item, depth))
            return false;
    }
    return true;
}

/* json.dumps(value) is what the encoder makes of it, which knows more types and hides some keys. */
static bool is_plain(PyObject *value, int depth)
{
    if (PyUnicode_CheckExact(value) || PyLong_CheckExact(value) || PyBool_Check(value) ||
        value == Py_None || PyFloat_CheckExact(value))
        return true;
    if (depth == 0)
        return false;
    if (PyList_CheckExact(value)) {
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(value); i++) {
            if (!is_plain(PyList_GET_ITEM(value, i), depth - 1))
                return false;
        }
        return true;
    }
    bool plain = false;
    if (PyDict_CheckExact(value)) {
        Py_BEGIN_CRITICAL_SECTION(value);
        plain = has_plain_items_lock_held(value, depth - 1);
        Py_END_CRITICAL_SECTION();
    }
    return plain;
}

/* Appends {"detail": detail}.  As ta_encode_value. */
static int encode_detail(ta_plan_run *run, PyObject *detail, ta_buf *buf)
{
    PyObject *content = PyDict_New();
    if (content == NULL)
        return -1;
    int rc = PyDict_SetItem(content, run->plan->st->names.detail, detail);
    if (rc == 0)
        rc = ta_encode_value(ta_json_objects_of(run->plan->st), content, buf);
    Py_DECREF(content);
    return rc;
}

/* Appends a pair of bytes, the name in lower case.  1; 0: it is not a field of plain text. */
static int add_field(PyObject *list, PyObject *name, PyObject *value)
{
    if (!PyUnicode_CheckExact(name) || !PyUnicode_CheckExact(value) || !PyUnicode_IS_ASCII(name) ||
        !PyUnicode_IS_ASCII(value))
        return 0;
    PyObject *pair = NULL;
    PyObject *key = PyBytes_FromStringAndSize(NULL, PyUnicode_GET_LENGTH(name));
    PyObject *text = PyUnicode_AsASCIIString(value);
    if (key != NULL && text != NULL) {
        const char *from = (const char *)PyUnicode_1BYTE_DATA(name);
        char *to = PyBytes_AS_STRING(key);
        for (Py_ssize_t i = 0; i < PyBytes_GET_SIZE(key); i++)
            to[i] = ta_ascii_lower(from[i]);
        pair = PyTuple_Pack(2, key, text);
    }
    int rc = pair ? PyList_Append(list, pair) : -1;
    Py_XDECREF(key);
    Py_XDECREF(text);
    Py_XDECREF(pair);
    return rc < 0 ? -1 : 1;
}

static bool is_named(PyObject *pair, const char *name, size_t len)
{
    PyObject *key = PyTuple_GET_ITEM(pair, 0);
    return (size_t)PyBytes_GET_SIZE(key) == len && memcmp(PyBytes_AS_STRING(key), name, len) == 0;
}

/* The fields that JSONResponse makes of the exception's headers.  1: *list (new); 0: not here. */
static int make_fields(PyObject *headers, size_t body_len, PyObject **list)
{
    char text[24];
    bool has_length = false, has_type = false;
    Py_ssize_t pos = 0;
    PyObject *name, *value;
    if (!PyDict_CheckExact(headers))
        return 0;
    *list = PyList_New(0);
    if (*list == NULL)
        return -1;
    int rc = 1;
    while (rc == 1 && PyDict_Next(headers, &pos, &name, &value)) {
        rc = add_field(*list, name, value);
        if (rc == 1) {
            PyObject *pair = PyList_GET_ITEM(*list, PyList_GET_SIZE(*list) - 1);
            has_length |= is_named(pair, "content-length", 14);
            has_type |= is_named(pair, "content-type", 12);
        }
    }
    PyOS_snprintf(text, sizeof text, "%zu", body_len);
    for (int i = 0; rc == 1 && i < 2; i++) {
        if (i == 0 ? has_length : has_type)
            continue;
        PyObject *pair = i == 0 ? Py_BuildValue("(yy)", "content-length", text)
                                : Py_BuildValue("(yy)", "content-type", "application/json");
        if (pair == NULL || PyList_Append(*list, pair) < 0)
            rc = -1;
        Py_XDECREF(pair);
    }
    if (rc != 1)
        Py_CLEAR(*list);
    return rc;
}

/* Sends {"detail": detail}.  1: *next is the run's next state; 0: not here; -1. */
static int send_detail(ta_plan_run *run, long status, PyObject *detail, PyObject *headers,
                       ta_plan_run_state *next)
{
    ta_buf buf;
    PyObject *list = NULL, *awaitable = NULL;
    ta_buf_init(&buf);
    int rc = encode_detail(run, detail, &buf);
    if (rc == 1 && headers != NULL)
        rc = make_fields(headers, buf.len, &list);
    if (rc == 1) {
        ta_response_head head = ta_reply_json_head(status);
        ta_piece body = ta_piece_buf(&buf);
        ta_outcome sent = run->x->ops->respond(run->x, &head, list, &body, &awaitable);
        *next = ta_reply_responded(run, sent, awaitable);
    }
    Py_XDECREF(list);
    ta_buf_free(&buf);
    return rc;
}

/* 1: the hook says True; 0: False, or there is none; -1. */
static int ask(ta_plan_run *run, int which, PyObject *about)
{
    PyObject *hook = run->plan->hook[which];
    PyObject *answer = hook ? PyObject_CallOneArg(hook, about) : Py_NewRef(Py_False);
    if (answer == NULL)
        return -1;
    int rc = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return rc;
}

/* The answer of the framework's handler for an HTTPException.  As send_detail. */
static int answer_http(ta_plan_run *run, PyObject *exc, PyObject *handler, ta_plan_run_state *next)
{
    ta_names_state *names = &run->plan->st->names;
    PyObject *status = NULL, *detail = NULL, *headers = NULL;
    int rc = ask(run, H_is_default_handler, handler);
    if (rc != 1)
        return rc;
    rc = -1;
    if (PyObject_GetOptionalAttr(exc, names->headers, &headers) < 0 ||
        (status = PyObject_GetAttr(exc, names->status_code)) == NULL ||
        (detail = PyObject_GetAttr(exc, names->detail)) == NULL)
        goto done;
    rc = 0;
    if (!PyLong_CheckExact(status) || !is_plain(detail, PLAIN_DEPTH))
        goto done;
    int overflow;
    long code = PyLong_AsLongAndOverflow(status, &overflow);
    if (overflow != 0 || code < 200 || code > 999 || !ta_status_has_content((int)code))
        goto done;
    rc = send_detail(run, code, detail, headers == Py_None ? NULL : headers, next);
done:
    Py_XDECREF(status);
    Py_XDECREF(detail);
    Py_XDECREF(headers);
    return rc;
}

/* -- handlers --------------------------------------------------------------------------------- */

/* Stores the application's handlers (new references), by class and by status.  1; 0: hooks must
 * find them; -1. */
static int take_handlers(ta_plan_run *run, PyObject **by_class, PyObject **by_status)
{
    PyObject *pair;
    int rc = ta_exchange_handlers(run->x, run->plan->st->names.exception_handlers, &pair);
    if (rc <= 0)
        return rc;
    rc = 0;
    if (PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2 &&
        PyDict_CheckExact(PyTuple_GET_ITEM(pair, 0)) &&
        PyDict_CheckExact(PyTuple_GET_ITEM(pair, 1))) {
        *by_class = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
        *by_status = Py_NewRef(PyTuple_GET_ITEM(pair, 1));
        rc = 1;
    }
    Py_DECREF(pair);
    return rc;
}

/* 1: *handler (new) is what the application has for it; 0: hooks must find it; -1. */
static int find_handler(ta_plan_run *run, PyObject *exc, PyObject **handler)
{
    PyObject *by_class, *by_status;
    int rc = take_handlers(run, &by_class, &by_status);
    if (rc <= 0)
        return rc;
    rc = 0;
    if (PyObject_TypeCheck(exc,
                           (PyTypeObject *)ta_plan_objects_of(run->plan->st)->http_exception)) {
        PyObject *status = PyObject_GetAttr(exc, run->plan->st->names.status_code);
        rc = status ? PyDict_GetItemRef(by_status, status, handler) : -1;
        Py_XDECREF(status);
    }
    PyObject *mro = Py_TYPE(exc)->tp_mro;
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(mro); i++)
        rc = PyDict_GetItemRef(by_class, PyTuple_GET_ITEM(mro, i), handler);
    Py_DECREF(by_class);
    Py_DECREF(by_status);
    return rc;
}

/* Whether it is a function of Python's without marks, so that its flags tell what a call gives. */
static bool is_function(PyObject *handler)
{
    if (!PyFunction_Check(handler))
        return false;
    PyObject *marks = ((PyFunctionObject *)handler)->func_dict;
    return marks == NULL || PyDict_GET_SIZE(marks) == 0;
}

/* Calls a handler with the request and the exception.  As ta_dependencies_call. */
static ta_outcome call_handler(ta_plan_run *run, PyObject *exc, PyObject *handler, PyObject **out)
{
    PyObject *request = ta_plan_run_request(run);
    if (request == NULL)
        return TA_FAILED;
    PyObject *args[] = {NULL, request, exc};
    ta_outcome outcome;
    if (((PyCodeObject *)PyFunction_GET_CODE(handler))->co_flags & CO_COROUTINE) {
        *out = PyObject_Vectorcall(handler, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        outcome = *out ? TA_WAITS : TA_FAILED;
    } else {
        ta_callstat *stat = ta_call_stats_get(run->x->ls, handler);
        outcome =
            ta_thread_pool_call(run->x->ls, stat, TA_RUN_AUTO, handler, args + 1, 2, NULL, out);
    }
    Py_DECREF(request);
    return outcome;
}

/* hooks.handle_error finds and calls it.  NULL: nobody wants the exception (it is set), or another
 * one is. */
static PyObject *ask_hook(ta_plan_run *run, PyObject *exc)
{
    PyObject *request = ta_plan_run_request(run);
    PyObject *aw = NULL;
    if (request != NULL) {
        PyObject *args[] = {NULL, request, exc, run->x->response_started ? Py_True : Py_False};
        aw = PyObject_Vectorcall(run->plan->hook[H_handle_error], args + 1,
                                 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(request);
    }
    if (aw == Py_None) {
        Py_CLEAR(aw);
        PyErr_SetRaisedException(Py_NewRef(exc));
    }
    return aw;
}

/* The handler is called; the run goes on with its response. */
static ta_plan_run_state handle(ta_plan_run *run, PyObject *exc, PyObject *handler)
{
    PyObject *out = NULL;
    ta_outcome outcome;
    ta_coroutine_handle(&run->co, exc); /* to the end: handlers log sys.exc_info() */
    if (handler != NULL && is_function(handler) && run->x->ls != NULL) {
        Py_XSETREF(run->handling, Py_NewRef(exc));
        outcome = call_handler(run, exc, handler, &out);
    } else {
        out = ask_hook(run, exc);
        outcome = out ? TA_WAITS : TA_FAILED;
    }
    return ta_plan_run_go_on(run, outcome, out, ST_HANDLED);
}

ta_plan_run_state ta_errors_answer(ta_plan_run *run)
{
    PyObject *handler = NULL;
    ta_plan_run_state next = ST_FAILED;
    if (run->plan->hook[H_handle_error] == NULL || run->handled || run->co.closing ||
        run->mode == MODE_RESPOND || run->mode == MODE_SOLVE ||
        !PyErr_ExceptionMatches(PyExc_Exception))
        return ST_FAILED;
    run->handled = true;
    PyObject *exc = PyErr_GetRaisedException();
    int rc = 0;
    if (run->plan->hook[H_is_default_handler] != NULL && !run->x->response_started) {
        rc = find_handler(run, exc, &handler);
        if (rc == 1 && PyObject_TypeCheck(
                           exc, (PyTypeObject *)ta_plan_objects_of(run->plan->st)->http_exception))
            rc = answer_http(run, exc, handler, &next);
        else if (rc == 1)
            rc = 0;
    }
    if (rc == 0)
        next = handle(run, exc, handler);
    else if (rc == 1) /* an exception that is raised again and again would keep every traceback */
        PyException_SetTraceback(exc, Py_None);
    Py_XDECREF(handler);
    Py_DECREF(exc);
    return next;
}

ta_plan_run_state ta_errors_handled(ta_plan_run *run, PyObject *response)
{
    if (run->handling != NULL) {
        PyException_SetTraceback(run->handling, Py_None); /* as above */
        Py_CLEAR(run->handling);
    }
    if (response != Py_None)
        return ta_plan_run_give(run, response, ST_RESPONSE);
    Py_DECREF(response);
    return ST_CLOSE;
}

/* -- validation errors ------------------------------------------------------------------------ */

/*
 * Whether nobody sees the exception but the framework's handler, so that it need not be raised.
 * At the ASGI door telemetry may be round the application.
 */
static int is_answered_here(ta_plan_run *run)
{
    PyObject *by_class, *by_status;
    if (run->plan->hook[H_answers_invalid] == NULL || run->mode != MODE_NATIVE || run->co.closing ||
        run->x->response_started || run->plan->hook[H_observe] != NULL ||
        ta_exit_stack_pending(run, SCOPE_FUNCTION) || ta_exit_stack_pending(run, SCOPE_REQUEST))
        return 0;
    int rc = take_handlers(run, &by_class, &by_status);
    if (rc <= 0)
        return rc;
    rc = ask(run, H_answers_invalid, by_class);
    Py_DECREF(by_class);
    Py_DECREF(by_status);
    return rc;
}

ta_plan_run_state ta_errors_invalid(ta_plan_run *run)
{
    ta_plan_run_state next = ST_FAILED;
    int rc = is_answered_here(run);
    if (rc == 1)
        rc = send_detail(run, 422, run->errors, NULL, &next);
    if (rc == 1)
        return next;
    if (rc < 0)
        return ST_FAILED;
    PyObject *hook = ta_plan_hook(run->plan, H_validation_error);
    PyObject *body = hook ? ta_body_parsed(run) : NULL;
    PyObject *request = body ? ta_plan_run_request(run) : NULL;
    PyObject *exc = NULL;
    if (request != NULL) {
        PyObject *args[] = {NULL, run->errors, body, request};
        exc = PyObject_Vectorcall(hook, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(body);
    Py_XDECREF(request);
    if (exc != NULL && !PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "hook validation_error must return an exception");
    } else if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    }
    Py_XDECREF(exc);
    return ST_FAILED;
}
