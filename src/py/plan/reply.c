/*
 * reply.c -- from what the endpoint returned to the response that is sent, then its background
 * tasks.
 */
#include "py/plan/run_int.h"

#include "base/buf.h"
#include "http/status.h"
#include "py/json/encode.h"
#include "py/json/shape.h"
#include "py/loop/loop_state.h"

ta_response_head ta_reply_json_head(long status)
{
    static const ta_field type = TA_FIELD_FIRST("content-type", "application/json");
    return (ta_response_head){.status = (int)status,
                              .fields = &type,
                              .nfields = 1,
                              .text = TA_STR("content-type: application/json\r\n"),
                              .length = -1};
}

static bool is_response(const ta_plan_run *r, PyObject *value)
{
    return PyObject_TypeCheck(value,
                              (PyTypeObject *)ta_plan_objects_of(r->plan->st)->response_type);
}

/*
 * The status: that of the injected response when it was set, else the route's, else `fallback`.
 * -1: exception.
 */
static long final_status(ta_plan_run *run, long fallback)
{
    long status = run->plan->status ? run->plan->status : fallback;
    if (run->response == NULL)
        return status;
    PyObject *own = PyObject_GetAttr(run->response, run->plan->st->names.status_code);
    if (own == NULL)
        return -1;
    if (own != Py_None) {
        long n = PyLong_AsLong(own);
        if (n == -1 && PyErr_Occurred())
            status = -1;
        else if (n != 0)
            status = n;
    }
    Py_DECREF(own);
    return status;
}

/* -- sending ------------------------------------------------------------------------------- */

/* After the exchange's `respond`. */
ta_plan_run_state ta_reply_responded(ta_plan_run *r, ta_outcome outcome, PyObject *awaitable)
{
    TA_ASSERT((outcome == TA_WAITS) == (awaitable != NULL));
    if (outcome == TA_WAITS)
        return ta_plan_run_await(r, awaitable, ST_SENT);
    return outcome == TA_DONE ? ST_SENT : ST_FAILED;
}

ta_plan_run_state ta_reply_sent(ta_plan_run *run, PyObject *value)
{
    PyObject *background = run->own_background;
    Py_XDECREF(value);
    if (TA_LIKELY(background == NULL))
        return ST_ANSWERED;
    run->own_background = NULL;
    if (run->x->ops->flush != NULL)
        run->x->ops->flush(run->x);
    ta_plan_run_state next = ta_background_begin(run, background);
    Py_DECREF(background);
    return next;
}

/* New tuple (name, value) of bytes, or NULL. */
static PyObject *header_pair(const char *name, const char *value)
{
    return Py_BuildValue("(yy)", name, value);
}

/* The list of header pairs of a response with that content type and the injected ones (NULL:
 * none), as Response would make it. */
static PyObject *headers_with_injected(PyObject *injected, const char *content_type, long status,
                                       size_t body_len)
{
    char length[24];
    PyObject *list = PyList_New(0);
    PyObject *pair = NULL, *type = NULL;
    if (list == NULL)
        return NULL;
    if (ta_status_adds_length((int)status)) {
        PyOS_snprintf(length, sizeof length, "%zu", body_len);
        pair = header_pair("content-length", length);
        if (pair == NULL || PyList_Append(list, pair) < 0)
            goto error;
    }
    type = header_pair("content-type", content_type);
    if (type == NULL || PyList_Append(list, type) < 0 ||
        (injected != NULL &&
         PyList_SetSlice(list, PyList_GET_SIZE(list), PyList_GET_SIZE(list), injected) < 0))
        goto error;
    Py_DECREF(type);
    Py_XDECREF(pair);
    return list;
error:
    Py_XDECREF(type);
    Py_XDECREF(pair);
    Py_DECREF(list);
    return NULL;
}

/* The fields of the injected response: as in FastAPI those of `headers`, which was made before the
 * endpoint got it; what `raw_headers` is set to afterwards is lost.  New, or NULL. */
static PyObject *injected_fields(const ta_plan_run *run)
{
    const ta_names_state *names = &run->plan->st->names;
    PyObject *headers, *list = NULL;
    if (PyObject_GetOptionalAttr(run->response, names->_headers, &headers) < 0)
        return NULL;
    if (headers != NULL) {
        int rc = PyObject_GetOptionalAttr(headers, names->_list, &list);
        Py_DECREF(headers);
        if (rc != 0)
            return list;
    }
    return PyObject_GetAttr(run->response, names->raw_headers);
}

/* Sends a body with the route's status and the injected headers; `content_type` NULL: JSON. */
static ta_plan_run_state send_body(ta_plan_run *run, ta_piece body, const char *content_type)
{
    PyObject *injected = NULL, *headers = NULL, *awaitable = NULL;
    ta_plan_run_state next = ST_FAILED;
    long status = final_status(run, 200);
    if (status < 0)
        return ST_FAILED;
    if (!ta_status_has_content((int)status))
        body.data.len = 0;
    if (run->response != NULL) {
        injected = injected_fields(run);
        if (injected == NULL)
            return ST_FAILED;
        if (PyList_Check(injected) && PyList_GET_SIZE(injected) == 0)
            Py_CLEAR(injected);
    }
    if (injected != NULL || content_type != NULL) {
        headers = headers_with_injected(injected, content_type ? content_type : "application/json",
                                        status, body.data.len);
        if (headers == NULL)
            goto done;
    }
    if (run->background != NULL)
        Py_XSETREF(run->own_background, Py_NewRef(run->background));
    if (TA_UNLIKELY(ta_exit_stack_pending(run, SCOPE_FUNCTION))) {
        TA_ASSERT(run->pending == NULL);
        run->pending = Py_BuildValue("(lOy#)", status, headers ? headers : Py_None, body.data.ptr,
                                     (Py_ssize_t)body.data.len);
        if (run->pending != NULL)
            next = ta_exit_stack_leave(run, SCOPE_FUNCTION);
        goto done;
    }
    ta_response_head head = ta_reply_json_head(status);
    ta_outcome sent = run->x->ops->respond(run->x, &head, headers, &body, &awaitable);
    next = ta_reply_responded(run, sent, awaitable);
done:
    Py_XDECREF(headers);
    Py_XDECREF(injected);
    return next;
}

static ta_plan_run_state send_json(ta_plan_run *run, ta_piece body)
{
    return send_body(run, body, NULL);
}

/* Passes its parts straight to the exchange when Response.__call__ would do just that.  1, 0 (call
 * it), -1. */
static int send_parts(ta_plan_run *run, PyObject *response, ta_plan_run_state *next)
{
    ta_state *st = run->plan->st;
    PyObject *status = NULL, *headers = NULL, *body = NULL, *background = NULL, *awaitable = NULL;
    int rc = -1;
    PyObject *call = PyObject_GetAttr((PyObject *)Py_TYPE(response), st->names.dunder_call);
    if (call == NULL)
        return -1;
    bool plain = call == ta_plan_objects_of(st)->response_call;
    Py_DECREF(call);
    if (!plain)
        return 0;
    if ((status = PyObject_GetAttr(response, st->names.status_code)) == NULL ||
        (headers = PyObject_GetAttr(response, st->names.raw_headers)) == NULL ||
        (body = PyObject_GetAttr(response, st->names.body)) == NULL ||
        (background = PyObject_GetAttr(response, st->names.background)) == NULL)
        goto done;
    rc = 0;
    if (!PyLong_Check(status) || !PyList_Check(headers) || !PyBytes_Check(body))
        goto done; /* memoryview bodies and other rare things: its own code */
    long code = PyLong_AsLong(status);
    if (code < 100 || code > 999) {
        PyErr_Clear();
        goto done;
    }
    if (background != Py_None)
        Py_XSETREF(run->own_background, Py_NewRef(background));
    ta_piece piece = ta_piece_bytes(body);
    ta_response_head head = ta_head_bare((int)code);
    ta_outcome sent = run->x->ops->respond(run->x, &head, headers, &piece, &awaitable);
    *next = ta_reply_responded(run, sent, awaitable);
    rc = 1;
done:
    Py_XDECREF(status);
    Py_XDECREF(headers);
    Py_XDECREF(body);
    Py_XDECREF(background);
    return rc;
}

/* Lets the exchange send a file.  1, 0 (another way), -1. */
static int send_file(ta_plan_run *run, PyObject *response, ta_plan_run_state *next)
{
    int rc = run->x->ops->send_file(run->x, response);
    if (rc <= 0)
        return rc;
    PyObject *background = PyObject_GetAttr(response, run->plan->st->names.background);
    if (background == NULL)
        return -1;
    if (Py_IsNone(background))
        Py_DECREF(background);
    else
        Py_XSETREF(run->own_background, background);
    *next = ST_SENT;
    return 1;
}

/* Sends any Response (steals). */
static ta_plan_run_state send_response(ta_plan_run *run, PyObject *response)
{
    ta_exchange *exchange = run->x;
    ta_plan_run_state next = ST_FAILED;
    int rc = is_response(run, response) ? send_parts(run, response, &next) : 0;
    if (rc == 0 && exchange->ops->send_file != NULL)
        rc = send_file(run, response, &next);
    if (rc != 0) {
        Py_DECREF(response);
        return rc < 0 ? ST_FAILED : next;
    }
    PyObject *aw =
        exchange->ops->deliver != NULL ? exchange->ops->deliver(exchange, response) : NULL;
    if (aw == NULL && !PyErr_Occurred())
        aw = ta_exchange_call(run->plan->st, exchange, response);
    Py_DECREF(response);
    return aw ? ta_plan_run_await(run, aw, ST_SENT) : ST_FAILED;
}

ta_plan_run_state ta_reply_response(ta_plan_run *run, PyObject *response)
{
    if (run->mode == MODE_RESPOND || run->mode == MODE_RETURN) {
        Py_XSETREF(run->co.result, response);
        return ST_CLOSE;
    }
    if (TA_UNLIKELY(ta_exit_stack_pending(run, SCOPE_FUNCTION))) {
        Py_XSETREF(run->pending, response);
        return ta_exit_stack_leave(run, SCOPE_FUNCTION);
    }
    return send_response(run, response);
}

/* r->pending is a Response, or (status, headers or None, JSON bytes). */
ta_plan_run_state ta_reply_pending(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    PyObject *pending = run->pending;
    TA_ASSERT(pending != NULL);
    run->pending = NULL;
    if (!PyTuple_CheckExact(pending))
        return send_response(run, pending);
    PyObject *headers = PyTuple_GET_ITEM(pending, 1);
    ta_piece body = ta_piece_bytes(PyTuple_GET_ITEM(pending, 2));
    PyObject *awaitable = NULL;
    ta_response_head head = ta_reply_json_head(PyLong_AsLong(PyTuple_GET_ITEM(pending, 0)));
    ta_outcome sent =
        run->x->ops->respond(run->x, &head, headers == Py_None ? NULL : headers, &body, &awaitable);
    Py_DECREF(pending);
    return ta_reply_responded(run, sent, awaitable);
}

/* -- making ----------------------------------------------------------------------------------- */

/* Sends a Response that the endpoint returned. */
static ta_plan_run_state own_response(ta_plan_run *run, PyObject *response)
{
    if (run->background != NULL) {
        PyObject *name = run->plan->st->names.background;
        PyObject *old = PyObject_GetAttr(response, name);
        if (old == NULL ||
            (old == Py_None && PyObject_SetAttr(response, name, run->background) < 0)) {
            Py_XDECREF(old);
            Py_DECREF(response);
            return ST_FAILED;
        }
        Py_DECREF(old);
    }
    return ta_plan_run_give(run, response, ST_RESPONSE);
}

/* Does the caller need a Response?  One that is kept has no place for background tasks. */
static bool must_make_response(const ta_plan_run *run)
{
    return run->mode == MODE_RESPOND || (run->mode == MODE_RETURN && run->background != NULL);
}

/* Sends a str by a class whose responses have it as it is.  1: *next is the next state; 0: the
 * class must be called; -1. */
static int send_text(ta_plan_run *run, PyObject *value, ta_plan_run_state *next)
{
    const ta_plan *plan = run->plan;
    PyObject *hook = plan->hook[H_is_plain_response];
    if (plan->resp_text_type == NULL || hook == NULL || !PyUnicode_CheckExact(value))
        return 0;
    PyObject *answer = PyObject_CallNoArgs(hook);
    int plain = answer ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    if (plain <= 0)
        return plain;
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(value, &len);
    if (text == NULL) { /* a lone surrogate: the class raises its own error */
        PyErr_Clear();
        return 0;
    }
    ta_piece body = {ta_str_of(text, (size_t)len), value, NULL};
    if (ta_plan_run_leave_operation(run) < 0)
        return -1;
    *next = send_body(run, body, PyBytes_AS_STRING(plan->resp_text_type));
    return 1;
}

/* hooks.make_response: any class of response, and every one that must be an object. */
static ta_plan_run_state make_response(ta_plan_run *run, PyObject *value)
{
    ta_plan_run_state next = ST_FAILED;
    int rc = must_make_response(run) ? 0 : send_text(run, value, &next);
    if (rc != 0) {
        Py_DECREF(value);
        return next;
    }
    PyObject *hook = ta_plan_hook(run->plan, H_make_response);
    PyObject *request = hook ? ta_plan_run_request(run) : NULL;
    PyObject *status = NULL, *made = NULL;
    if (request != NULL) {
        long code = final_status(run, 0);
        if (code >= 0)
            status = code ? PyLong_FromLong(code) : Py_NewRef(Py_None);
    }
    if (status != NULL) {
        PyObject *args[] = {NULL,    value,
                            status,  run->background ? run->background : Py_None,
                            request, run->plan->is_coroutine ? Py_True : Py_False};
        made = PyObject_Vectorcall(hook, args + 1, 5 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(status);
    Py_XDECREF(request);
    Py_DECREF(value);
    if (made == NULL)
        return ST_FAILED;
    if (is_response(run, made))
        return ta_plan_run_give(run, made, ST_MADE);
    return ta_plan_run_await(run, made, ST_MADE);
}

ta_plan_run_state ta_reply_made(ta_plan_run *run, PyObject *response)
{
    ta_state *st = run->plan->st;
    PyObject *status = PyObject_GetAttr(response, st->names.status_code);
    if (status == NULL)
        goto error;
    long code = PyLong_AsLong(status);
    Py_DECREF(status);
    if (code == -1 && PyErr_Occurred())
        goto error;
    if (!ta_status_has_content((int)code)) {
        PyObject *empty = PyBytes_FromStringAndSize(NULL, 0);
        if (empty == NULL || PyObject_SetAttr(response, st->names.body, empty) < 0) {
            Py_XDECREF(empty);
            goto error;
        }
        Py_DECREF(empty);
    }
    if (run->response != NULL) {
        PyObject *from = injected_fields(run);
        PyObject *to = from ? PyObject_GetAttr(response, st->names.raw_headers) : NULL;
        PyObject *none = to ? PyObject_CallMethodOneArg(to, st->names.extend, from) : NULL;
        Py_XDECREF(from);
        Py_XDECREF(to);
        if (none == NULL)
            goto error;
        Py_DECREF(none);
    }
    return ta_plan_run_give(run, response, ST_RESPONSE);
error:
    Py_DECREF(response);
    return ST_FAILED;
}

/* -- content ---------------------------------------------------------------------------------- */

ta_plan_run_state ta_reply_content(ta_plan_run *run, PyObject *bytes)
{
    if (!PyBytes_Check(bytes)) {
        PyErr_Format(PyExc_TypeError, "the response's serializer must give bytes, not %.100s",
                     Py_TYPE(bytes)->tp_name);
        Py_DECREF(bytes);
        return ST_FAILED;
    }
    if (ta_plan_run_leave_operation(run) < 0) {
        Py_DECREF(bytes);
        return ST_FAILED;
    }
    ta_plan_run_state next = send_json(run, ta_piece_bytes(bytes));
    Py_DECREF(bytes);
    return next;
}

enum { MOST_SPARE = 4096 }; /* bytes of memory that a loop keeps for the next response */

/* Memory to encode into: the loop's, unless an encoder is using it, or none yet. */
static ta_buf take_buf(const ta_plan_run *run)
{
    ta_buf buf = {0};
    ta_loop_state *ls = run->x->ls;
    if (ls != NULL) {
        buf = ls->encoded;
        ta_buf_init(&ls->encoded);
    }
    return buf;
}

static void give_buf(ta_loop_state *ls, ta_buf *buf)
{
    if (ls == NULL || ls->loop == NULL || ls->encoded.data != NULL || buf->cap > MOST_SPARE) {
        ta_buf_free(buf);
        return;
    }
    ta_buf_clear(buf);
    ls->encoded = *buf;
}

/* JSON that an encoder of ours made: rc is its result, 1 or -1. Takes the buffer. */
static ta_plan_run_state send_encoded(ta_plan_run *r, int rc, ta_buf *buf)
{
    ta_plan_run_state next = ST_FAILED;
    ta_loop_state *ls = r->x->ls;
    if (rc > 0 && ta_plan_run_leave_operation(r) == 0)
        next = send_json(r, ta_piece_buf(buf));
    give_buf(ls, buf);
    return next;
}

static ta_plan_run_state encode(ta_plan_run *run, PyObject *value)
{
    ta_buf buf = take_buf(run);
    int rc = ta_encode_value(ta_json_objects_of(run->plan->st), value, &buf);
    if (rc != 0) {
        Py_DECREF(value);
        return send_encoded(run, rc, &buf);
    }
    give_buf(run->x->ls, &buf);
    PyObject *hook = ta_plan_hook(run->plan, H_encode_json);
    PyObject *bytes = hook ? PyObject_CallOneArg(hook, value) : NULL;
    Py_DECREF(value);
    return bytes ? ta_plan_run_give(run, bytes, ST_CONTENT) : ST_FAILED;
}

/* Replaces the ValidationError that is set by what hooks.response_error makes of it.  The value is
 * not validated again for that: it may be an iterator, which has come to its end. */
static void refuse(ta_plan_run *run, PyObject *value)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *hook = ta_plan_hook(run->plan, H_response_error);
    PyObject *request = hook ? ta_plan_run_request(run) : NULL;
    PyObject *exc = NULL;
    if (request != NULL) {
        PyObject *args[] = {NULL, error, value, request};
        exc = PyObject_Vectorcall(hook, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(request);
    Py_DECREF(error);
    if (exc != NULL && !PyExceptionInstance_Check(exc))
        PyErr_SetString(PyExc_TypeError, "hook response_error must return an exception");
    else if (exc != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_XDECREF(exc);
}

/* Lets pydantic validate and dump the value: bytes or an awaitable of them, new, or NULL. */
static PyObject *dump(ta_plan_run *run, PyObject *value)
{
    ta_plan *plan = run->plan;
    if (plan->resp_validator != NULL) {
        PyObject *valid;
        int rc = ta_params_try(plan->st, plan->resp_validator, value, &valid);
        if (rc == 0)
            refuse(run, value);
        if (rc <= 0)
            return NULL;
        PyObject *bytes = PyObject_CallOneArg(plan->resp_to_json, valid);
        Py_DECREF(valid);
        return bytes;
    }
    PyObject *hook = ta_plan_hook(plan, H_serialize_field);
    PyObject *request = hook ? ta_plan_run_request(run) : NULL;
    if (request == NULL)
        return NULL;
    PyObject *args[] = {NULL, value, request};
    PyObject *bytes = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(request);
    return bytes;
}

static ta_plan_run_state serialize(ta_plan_run *run, PyObject *value)
{
    ta_plan *plan = run->plan;
    if (plan->resp_shape != NULL) {
        ta_buf buf = take_buf(run);
        int rc =
            ta_shape_encode(plan->resp_shape, ta_json_objects_of(plan->st), value, false, &buf);
        if (rc != 0) {
            Py_DECREF(value);
            return send_encoded(run, rc, &buf);
        }
        give_buf(run->x->ls, &buf);
    }
    PyObject *bytes = dump(run, value);
    Py_DECREF(value);
    if (bytes == NULL)
        return ST_FAILED;
    if (PyBytes_Check(bytes))
        return ta_plan_run_give(run, bytes, ST_CONTENT);
    return ta_plan_run_await(run, bytes, ST_CONTENT);
}

ta_plan_run_state ta_reply_endpoint(ta_plan_run *run, PyObject *value)
{
    if (ta_plan_run_leave_operation(run) < 0) {
        Py_DECREF(value);
        return ST_FAILED;
    }
    if (is_response(run, value))
        return own_response(run, value);
    if (ta_plan_run_enter_operation(run, run->plan->st->names.serialization) < 0) {
        Py_DECREF(value);
        return ST_FAILED;
    }
    if (must_make_response(run) || run->plan->resp == RESP_CLASS)
        return make_response(run, value);
    return run->plan->resp == RESP_FIELD ? serialize(run, value) : encode(run, value);
}
