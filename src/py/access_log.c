/*
 * access_log.c -- a line for each request.
 *
 * Layer: py (L4).  Two ways.  The general one calls a logger's method with uvicorn's format and
 * arguments. When nobody could tell the difference (python/turboapi/_access.py decides), the lines
 * of a batch are made here and written with one call.
 */
#include "py/native_int.h"

#include "py/exc.h"

enum { FIRST_STATUS = 100, LAST_STATUS = 999, MAX_LINES = 65536 };

struct ta_access {
    ta_server *server; /* borrowed: it owns this */
    PyObject *writer;  /* owned: prefix, opening, closing, outcome(status), write(text) */
    PyObject *prefix, *opening, *closing;               /* owned str */
    PyObject *outcomes[LAST_STATUS - FIRST_STATUS + 1]; /* owned str, made when first needed */
    ta_buf lines;
    ta_defer flush;
};

/* -- the general way -------------------------------------------------------------------------- */

static void call_logger(ta_native *x, int status)
{
    ta_server *server = x->server;
    PyObject *res = NULL;
    PyObject *client = ta_native_client_text(x);
    PyObject *method = ta_native_text(x->base.method);
    PyObject *path = ta_native_text(x->raw_path);
    PyObject *query = ta_native_text(x->base.query);
    if (client && method && path && query) {
        if (x->base.query.len > 0)
            Py_SETREF(path, PyUnicode_FromFormat("%U?%U", path, query));
        if (path != NULL) {
            server->ls->running++;
            res = PyObject_CallFunction(server->access, "OOOOsi", server->access_format, client,
                                        method, path, x->version_minor ? "1.1" : "1.0", status);
            server->ls->running--;
        }
    }
    if (res == NULL)
        ta_exc_report(x->st, NULL, "Exception in the access log");
    Py_XDECREF(res);
    Py_XDECREF(client);
    Py_XDECREF(method);
    Py_XDECREF(path);
    Py_XDECREF(query);
}

/* -- the quick way ---------------------------------------------------------------------------- */

/* Writes what has been gathered.  A writer that gives False wants no more: the general way is left.
 */
static void write_lines(ta_access *log)
{
    ta_server *server = log->server;
    ta_str all = ta_buf_str(&log->lines);
    if (all.len == 0)
        return;
    PyObject *text = PyUnicode_DecodeUTF8(all.ptr, (Py_ssize_t)all.len, "replace");
    ta_buf_clear(&log->lines);
    PyObject *res = NULL;
    server->ls->running++;
    if (text != NULL)
        res = PyObject_CallMethodOneArg(log->writer, server->st->o.names.write, text);
    server->ls->running--;
    Py_XDECREF(text);
    if (res == NULL)
        ta_exc_report(server->st, NULL, "Exception in the access log");
    if (res == NULL || Py_IsFalse(res))
        server->access_quick = false;
    Py_XDECREF(res);
}

static void flush_lines(ta_defer *defer)
{
    write_lines(TA_CONTAINER_OF(defer, ta_access, flush));
}

static bool put_str(ta_buf *buf, ta_str s)
{
    return ta_buf_append(buf, s.ptr, s.len) == TA_OK;
}

static bool put_text(ta_buf *buf, PyObject *text)
{
    Py_ssize_t len;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &len);
    if (utf8 == NULL) {
        PyErr_Clear();
        return false;
    }
    return ta_buf_append(buf, utf8, (size_t)len) == TA_OK;
}

static PyObject *outcome(ta_access *log, int status) /* borrowed */
{
    PyObject **slot = &log->outcomes[status - FIRST_STATUS];
    if (*slot == NULL) {
        *slot = PyObject_CallMethod(log->writer, "outcome", "i", status);
        if (*slot == NULL || !PyUnicode_Check(*slot)) {
            PyErr_Clear();
            Py_XSETREF(*slot, PyUnicode_FromFormat("%d", status));
        }
    }
    return *slot;
}

static bool put_client(ta_native *x, ta_buf *buf)
{
    if (x->base.scope_dict == NULL) {
        ta_str host = {NULL, 0};
        uint16_t port = 0;
        if (x->req != NULL)
            ta_req_peer(x->req, &host, &port);
        if (host.len == 0)
            return true;
        char text[8];
        int n = PyOS_snprintf(text, sizeof text, ":%u", (unsigned)port);
        return put_str(buf, host) && put_str(buf, ta_str_of(text, (size_t)n));
    }
    PyObject *client = ta_native_client_text(x); /* maybe corrected by a proxy's word */
    bool ok = client != NULL && put_text(buf, client);
    Py_XDECREF(client);
    PyErr_Clear();
    return ok;
}

static bool put_line(ta_access *log, ta_native *x, int status)
{
    ta_buf *buf = &log->lines;
    PyObject *end = outcome(log, status);
    return end != NULL && put_text(buf, log->prefix) && put_client(x, buf) &&
           put_str(buf, TA_STR(" - \"")) && put_text(buf, log->opening) &&
           put_str(buf, x->base.method) && put_str(buf, TA_STR(" ")) && put_str(buf, x->raw_path) &&
           (x->base.query.len == 0 || (put_str(buf, TA_STR("?")) && put_str(buf, x->base.query))) &&
           put_str(buf, x->version_minor ? TA_STR(" HTTP/1.1") : TA_STR(" HTTP/1.0")) &&
           put_text(buf, log->closing) && put_str(buf, TA_STR("\" ")) && put_text(buf, end) &&
           put_str(buf, TA_STR("\n"));
}

void ta_access_note(ta_native *x, int status)
{
    ta_server *server = x->server;
    ta_access *log = server->access_log;
    if (log == NULL || !server->access_quick || status < FIRST_STATUS || status > LAST_STATUS) {
        if (server->access != NULL)
            call_logger(x, status);
        return;
    }
    size_t before = log->lines.len;
    if (!put_line(log, x, status)) {
        log->lines.len = before; /* no memory: half a line is of no use */
        PyErr_Clear();
        return;
    }
    if (log->lines.len >= MAX_LINES)
        write_lines(log);
    else if (server->ls->loop != NULL)
        ta_loop_defer(server->ls->loop, &log->flush);
}

/* -- life ------------------------------------------------------------------------------------- */

void ta_access_free(ta_access *log)
{
    if (log == NULL)
        return;
    if (log->server->ls->loop != NULL)
        ta_loop_undefer(log->server->ls->loop, &log->flush);
    write_lines(log);
    Py_CLEAR(log->writer);
    Py_CLEAR(log->prefix);
    Py_CLEAR(log->opening);
    Py_CLEAR(log->closing);
    for (size_t i = 0; i < TA_COUNTOF(log->outcomes); i++)
        Py_CLEAR(log->outcomes[i]);
    ta_buf_free(&log->lines);
    PyMem_Free(log);
}

static PyObject *text_attr(PyObject *obj, const char *name)
{
    PyObject *text = PyObject_GetAttrString(obj, name);
    if (text != NULL && !PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "access_writer.%s must be a str", name);
        Py_CLEAR(text);
    }
    return text;
}

ta_access *ta_access_new(ta_server *server, PyObject *writer)
{
    ta_access *log = PyMem_Calloc(1, sizeof *log);
    if (log == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    log->server = server;
    log->flush.fn = flush_lines;
    log->writer = Py_NewRef(writer);
    if ((log->prefix = text_attr(writer, "prefix")) == NULL ||
        (log->opening = text_attr(writer, "opening")) == NULL ||
        (log->closing = text_attr(writer, "closing")) == NULL) {
        ta_access_free(log);
        return NULL;
    }
    return log;
}
