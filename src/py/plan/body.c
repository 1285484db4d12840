/*
 * body.c -- the first stage of a run: the request's body, read and parsed as FastAPI's
 * get_request_handler does, with the same errors.
 */
#include "py/plan/run_int.h"

#include "http/headers.h"

enum { SMALL_FORM = 1 << 20 }; /* bytes of one that is parsed in a piece */

static ta_plan_run_state have_body(ta_plan_run *r, PyObject *value);

/* A custom Request, or one whose body may have been read already, is called itself. */
static bool ask_request(const ta_plan_run *r)
{
    return r->x->request != NULL && (r->x->custom_request || r->mode == MODE_RESPOND);
}

/*
 * If Request.body or .json was replaced, as instrumentation does, the replacement is called.  0, or
 * -1 with an exception.
 */
static int respect_patches(ta_plan_run *run)
{
    ta_state *st = run->plan->st;
    const ta_plan_objects *objects = ta_plan_objects_of(st);
    PyObject *request_type = ta_exchange_objects_of(st)->request_type;
    PyObject *body = PyObject_GetAttr(request_type, st->names.body);
    PyObject *json = body ? PyObject_GetAttr(request_type, st->names.json) : NULL;
    int rc = json ? 0 : -1;
    if (rc == 0 && (body != objects->request_body || json != objects->request_json)) {
        PyObject *request = ta_plan_run_request(run);
        rc = request ? 0 : -1;
        run->x->custom_request = true;
        Py_XDECREF(request);
    }
    Py_XDECREF(body);
    Py_XDECREF(json);
    return rc;
}

/* Calls request.body() or .json() and waits for it. */
static ta_plan_run_state await_method(ta_plan_run *r, PyObject *name, ta_plan_run_state state)
{
    PyObject *aw = PyObject_CallMethodNoArgs(r->x->request, name);
    return aw ? ta_plan_run_await(r, aw, state) : ST_FAILED;
}

static ta_plan_run_state read_form(ta_plan_run *r)
{
    PyObject *hook = ta_plan_hook(r->plan, H_read_form);
    PyObject *request = hook ? ta_plan_run_request(r) : NULL;
    PyObject *aw = request ? PyObject_CallOneArg(hook, request) : NULL;
    Py_XDECREF(request);
    return aw ? ta_plan_run_await(r, aw, ST_BODY_FORM) : ST_FAILED;
}

static bool is_multipart(ta_str type)
{
    return type.len > 0 && (type.ptr[0] | 0x20) == 'm';
}

/*
 * Whether all of a form may be parsed at once: nobody has a Request of it who could have begun to
 * read it, and it is small.
 */
static bool is_small_form(const ta_plan_run *r)
{
    static const char multipart[] = "multipart/form-data;";
    static const char urlencoded[] = "application/x-www-form-urlencoded";
    ta_str type, length;
    int64_t n;
    if (r->mode != MODE_NATIVE || r->x->request != NULL || r->plan->hook[H_parse_form] == NULL ||
        !ta_exchange_header(r->x, "content-type", 12, &type) ||
        !ta_exchange_header(r->x, "content-length", 14, &length))
        return false;
    size_t m = sizeof multipart - 1, u = sizeof urlencoded - 1;
    return ta_length_of(length, &n) && n <= SMALL_FORM &&
           ((type.len > m && memcmp(type.ptr, multipart, m) == 0) ||
            (type.len >= u && memcmp(type.ptr, urlencoded, u) == 0));
}

/* Parses the bytes, or lets a Request do it. */
ta_plan_run_state ta_body_whole(ta_plan_run *run, PyObject *bytes)
{
    ta_exchange *exchange = run->x;
    ta_str type = TA_STR("");
    (void)ta_exchange_header(exchange, "content-type", 12, &type);
    PyObject *text = PyBytes_FromStringAndSize(type.ptr, (Py_ssize_t)type.len), *form = NULL;
    if (exchange->body_bytes == NULL)
        exchange->body_bytes = Py_NewRef(bytes);
    if (text != NULL) {
        PyObject *args[] = {NULL, bytes, text};
        form = PyObject_Vectorcall(run->plan->hook[H_parse_form], args + 1,
                                   2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(text);
    Py_DECREF(bytes);
    if (form == NULL)
        return ST_FAILED;
    if (Py_IsNone(form)) {
        Py_DECREF(form);
        return read_form(run);
    }
    run->whole_form = true;
    if (is_multipart(type)) { /* there may be files */
        Py_XSETREF(run->form, Py_NewRef(form));
        Py_CLEAR(exchange->body_bytes); /* as of a stream that has been read */
    }
    return have_body(run, form);
}

ta_plan_run_state ta_body_begin(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    ta_plan *plan = run->plan;
    if (plan->body == PLAN_BODY_NONE || run->mode == MODE_SOLVE)
        return ST_DEPENDENCIES;
    run->x->max_body = plan->max_body;
    if (plan->body == PLAN_BODY_FORM) {
        if (!is_small_form(run))
            return read_form(run);
        PyObject *whole = NULL;
        ta_outcome outcome = run->x->ops->body(run->x, &whole);
        return ta_plan_run_go_on(run, outcome, whole, ST_BODY_WHOLE);
    }
    if (respect_patches(run) < 0)
        return ST_FAILED;
    if (ask_request(run))
        return await_method(run, plan->st->names.body, ST_BODY_BYTES);
    PyObject *out = NULL;
    ta_outcome outcome = run->x->ops->body(run->x, &out);
    return ta_plan_run_go_on(run, outcome, out, ST_BODY_BYTES);
}

/* -- content type -------------------------------------------------------------------------- */

/* 1: JSON, 0: not, -1: exception.  `text` is the header's value. */
static int is_json_text(ta_plan_run *run, PyObject *text)
{
    PyObject *hook = ta_plan_hook(run->plan, H_is_json);
    PyObject *res = hook ? PyObject_CallOneArg(hook, text) : NULL;
    if (res == NULL)
        return -1;
    int rc = PyObject_IsTrue(res);
    Py_DECREF(res);
    return rc;
}

static int is_json(ta_plan_run *run)
{
    static const char plain[] = "application/json";
    ta_str type;
    if (ask_request(run) && run->x->custom_request) {
        PyObject *headers = PyObject_GetAttr(run->x->request, run->plan->st->names.headers);
        if (headers == NULL)
            return -1;
        PyObject *text = PyObject_CallMethodOneArg(headers, run->plan->st->names.get,
                                                   run->plan->st->names.content_type);
        Py_DECREF(headers);
        if (text == NULL)
            return -1;
        int some = PyObject_IsTrue(text);
        int rc = some > 0   ? is_json_text(run, text)
                 : some < 0 ? -1
                            : !run->plan->strict_content_type;
        Py_DECREF(text);
        return rc;
    }
    if (!ta_exchange_header(run->x, "content-type", 12, &type) || type.len == 0)
        return !run->plan->strict_content_type;
    if (type.len >= sizeof plain - 1 && memcmp(type.ptr, plain, sizeof plain - 1) == 0 &&
        (type.len == sizeof plain - 1 || type.ptr[sizeof plain - 1] == ';'))
        return 1;
    PyObject *text = PyUnicode_DecodeLatin1(type.ptr, (Py_ssize_t)type.len, NULL);
    if (text == NULL)
        return -1;
    int rc = is_json_text(run, text);
    Py_DECREF(text);
    return rc;
}

/* -- bytes to value --------------------------------------------------------------------------- */

static ta_plan_run_state have_body(ta_plan_run *r, PyObject *value /* steals */)
{
    Py_XSETREF(r->body, value);
    return ta_plan_run_observe(r, r->plan->st->names.body, value) < 0 ? ST_FAILED : ST_DEPENDENCIES;
}

static PyObject *load_json(ta_plan_run *r, PyObject *bytes)
{
    PyObject *hook = ta_plan_hook(r->plan, H_load_json);
    return hook ? PyObject_CallOneArg(hook, bytes) : NULL;
}

enum { LONG_NUMBER = 309 }; /* digits of an integer that a double may be unable to hold */

/*
 * Returns whether there is a run of LONG_NUMBER digits.  pydantic reads such a number as infinity
 * where json.loads and a float field fail.  Every such run covers a multiple of its length, so only
 * these positions are checked.
 */
static bool has_long_number(const char *data, size_t len)
{
    for (size_t at = LONG_NUMBER - 1; at < len; at += LONG_NUMBER) {
        if (data[at] < '0' || data[at] > '9')
            continue;
        size_t from = at;
        size_t to = at + 1;
        while (from > 0 && data[from - 1] >= '0' && data[from - 1] <= '9')
            from--;
        while (to < len && data[to] >= '0' && data[to] <= '9')
            to++;
        if (to - from >= LONG_NUMBER)
            return true;
        at = to - 1; /* no run of that length begins before `to` */
    }
    return false;
}

/*
 * Passes the raw bytes to the validator of the only body parameter.  Every result but success is
 * left to load_json and the slow path, so that order and text of errors remain FastAPI's: a
 * malformed body fails before any dependency runs, an invalid one in the node's turn. 1: done, 0:
 * not, -1: exception.
 */
static int try_fast(ta_plan_run *run, PyObject *bytes)
{
    ta_plan *plan = run->plan;
    if (plan->fast_body < 0 ||
        has_long_number(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)))
        return 0;
    PyObject *value = PyObject_CallOneArg(plan->nodes[plan->fast_body].body_json_validator, bytes);
    if (value == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return -1;
        PyErr_Clear(); /* a validator's own exception is raised again, at its place */
        return 0;
    }
    Py_XSETREF(run->fast_value, value);
    Py_XSETREF(run->raw_body, Py_NewRef(bytes));
    return 1;
}

ta_plan_run_state ta_body_bytes(ta_plan_run *run, PyObject *bytes)
{
    ta_exchange *exchange = run->x;
    if (exchange->body_bytes == NULL)
        exchange->body_bytes = Py_NewRef(bytes);
    if (exchange->request != NULL && !ask_request(run) &&
        PyObject_SetAttr(exchange->request, run->plan->st->names._body, bytes) < 0)
        goto error;
    int some = PyObject_IsTrue(bytes);
    if (some < 0)
        goto error;
    if (!some) {
        Py_DECREF(bytes);
        return ta_plan_run_observe(run, run->plan->st->names.body, Py_None) < 0 ? ST_FAILED
                                                                                : ST_DEPENDENCIES;
    }
    int json = is_json(run);
    if (json < 0)
        goto error;
    if (!json)
        return have_body(run, bytes);
    if (ask_request(run) && exchange->custom_request) {
        Py_DECREF(bytes);
        return await_method(run, run->plan->st->names.json, ST_BODY_JSON);
    }
    int fast = PyBytes_Check(bytes) ? try_fast(run, bytes) : 0;
    if (fast < 0)
        goto error;
    if (fast) {
        Py_DECREF(bytes);
        return ST_DEPENDENCIES;
    }
    PyObject *value = load_json(run, bytes);
    Py_DECREF(bytes);
    return value ? have_body(run, value) : ST_FAILED;
error:
    Py_DECREF(bytes);
    return ST_FAILED;
}

ta_plan_run_state ta_body_json(ta_plan_run *r, PyObject *value)
{
    return have_body(r, value);
}

ta_plan_run_state ta_body_form(ta_plan_run *r, PyObject *form)
{
    if (r->mode != MODE_RESPOND)
        Py_XSETREF(r->form, Py_NewRef(form));
    return have_body(r, form);
}

PyObject *ta_body_parsed(ta_plan_run *r)
{
    if (r->body == NULL && r->raw_body != NULL)
        r->body = load_json(r, r->raw_body);
    else if (r->body == NULL)
        return Py_NewRef(Py_None);
    return Py_XNewRef(r->body);
}

/* -- errors ----------------------------------------------------------------------------------- */

/* Returns what the hook makes of an error (borrowed); json_invalid also gets the request. */
static PyObject *ask(ta_plan_run *run, int which, PyObject *error)
{
    PyObject *hook = ta_plan_hook(run->plan, which);
    if (hook == NULL || which != H_json_invalid)
        return hook ? PyObject_CallOneArg(hook, error) : NULL;
    PyObject *request = ta_plan_run_request(run);
    if (request == NULL)
        return NULL;
    PyObject *args[] = {NULL, error, request};
    PyObject *exc = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(request);
    return exc;
}

/* Replaces the exception that is set by what the hook makes of it, `raise new from old`. */
static void raise_from(ta_plan_run *run, int which)
{
    PyObject *old = PyErr_GetRaisedException();
    PyObject *exc = ask(run, which, old);
    if (exc == NULL) {
        PyObject *failure = PyErr_GetRaisedException();
        PyException_SetContext(failure, old); /* steals */
        PyErr_SetRaisedException(failure);
        return;
    }
    if (exc == old) {
        Py_DECREF(old);
        PyErr_SetRaisedException(exc);
        return;
    }
    if (!PyExceptionInstance_Check(exc)) {
        PyErr_Format(PyExc_TypeError, "hook %s must return an exception",
                     which == H_json_invalid ? "json_invalid" : "body_error");
        Py_DECREF(exc);
        Py_DECREF(old);
        return;
    }
    PyException_SetContext(exc, Py_NewRef(old));
    PyException_SetCause(exc, old);
    PyErr_SetRaisedException(exc);
}

ta_plan_run_state ta_body_failed(ta_plan_run *run, PyObject *Py_UNUSED(value))
{
    const ta_plan_objects *objects = ta_plan_objects_of(run->plan->st);
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_GeneratorExit))
        return ST_FAILED;
    if (PyErr_ExceptionMatches(objects->json_decode_error))
        raise_from(run, H_json_invalid);
    else if (!PyErr_ExceptionMatches(objects->http_exception))
        raise_from(run, H_body_error);
    return ST_FAILED;
}
