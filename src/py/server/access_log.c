/*
 * access_log.c -- a line for each request.
 *
 * Layer: py (L4).  Two ways.  The general one calls a logger's method with uvicorn's format and
 * arguments. When nobody could tell the difference (python/turboapi/_serving/access.py decides),
 * the lines of a batch are made here and given to a thread that writes them (base/line_writer.h),
 * or where the stream is no descriptor written with one call.  Loggers may be changed at any time:
 * a byte that Python counts up tells of it, so that a look at each request is enough; what nobody
 * counts is looked at after a while.
 *
 * Lines in uvicorn's form are made when the response begins, those in a format that the user chose
 * when the request is over: they tell how long it took.
 *
 * What a client has sent can't forge a line: quotation marks, spaces, controls and all that is not
 * ASCII are percent-encoded, in both ways.
 */
#include "py/server/native_int.h"

#include "http/resp.h"
#include "py/server/access_format.h"
#include "py/server/log_writer.h"
#include "py/support/exc.h"

enum {
    FIRST_STATUS = 100,
    LAST_STATUS = 999,
    MAX_LINES = 65536,
    CHECK_MS = 50 /* between lines and the next look at what nobody counts */
};

/* As in _serving/access.py. */
typedef enum access_mode { MODE_GENERAL = 0, MODE_QUICK = 1, MODE_SILENT = 2 } access_mode;

struct ta_access_log {
    ta_server *server;  /* borrowed: it owns this */
    PyObject *writer;   /* owned: prefix, opening, closing, outcome(status), write(text), mode() */
    Py_buffer changes;  /* owned: one byte */
    unsigned char seen; /* what it was when mode() was asked */
    uint8_t mode;       /* access_mode */
    ta_access_format *format; /* owned; NULL: uvicorn's lines */
    PyObject *sink_owner;     /* owned: a LogWriter, or NULL: writer.write() */
    ta_line_writer *sink;     /* borrowed from sink_owner */
    ta_timer check;
    PyObject *prefix, *opening, *closing;               /* owned str */
    PyObject *outcomes[LAST_STATUS - FIRST_STATUS + 1]; /* owned str, made when first needed */
    ta_buf lines;
    ta_buf single; /* the line of a request, for the general way */
    ta_defer flush;
};

/* -- text of clients -------------------------------------------------------------------------- */

/* Writes at most 3 * s.len bytes; returns where they end. */
static char *put_escaped(char *out, ta_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (TA_LIKELY(c > 0x20 && c < 0x7f && c != '"')) {
            *out++ = (char)c;
        } else {
            *out++ = '%';
            *out++ = "0123456789ABCDEF"[c >> 4];
            *out++ = "0123456789ABCDEF"[c & 15];
        }
    }
    return out;
}

/* The path and, if there is one, the query; new str. */
static PyObject *target_text(ta_native_exchange *native)
{
    char small[512], *text = small;
    size_t bound = 3 * (native->in.raw_path.len + native->base.query.len) + 1;
    if (bound > sizeof small && (text = PyMem_Malloc(bound)) == NULL)
        return PyErr_NoMemory();
    char *end = put_escaped(text, native->in.raw_path);
    if (native->base.query.len > 0) {
        *end++ = '?';
        end = put_escaped(end, native->base.query);
    }
    PyObject *res = PyUnicode_FromStringAndSize(text, end - text);
    if (text != small)
        PyMem_Free(text);
    return res;
}

/* Returns the client's address, as a proxy may have given it; new str, ASCII. */
static PyObject *client_text(ta_native_exchange *native)
{
    PyObject *client = ta_scope_client(native), *res = NULL;
    Py_ssize_t len;
    const char *utf8 = client ? PyUnicode_AsUTF8AndSize(client, &len) : NULL;
    char *text = utf8 ? PyMem_Malloc(3 * (size_t)len + 1) : NULL;
    if (text != NULL) {
        char *end = put_escaped(text, ta_str_of(utf8, (size_t)len));
        res = PyUnicode_FromStringAndSize(text, end - text);
        PyMem_Free(text);
    } else if (!PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    Py_XDECREF(client);
    return res;
}

/* -- the general way -------------------------------------------------------------------------- */

/* {"extra": {"access_line": ...}}: for our formatter, which shows that line.  New, or NULL. */
static PyObject *extra_of(ta_access_log *log, ta_native_exchange *native, int status,
                          PyObject *client)
{
    Py_ssize_t len;
    const char *utf8 = PyUnicode_AsUTF8AndSize(client, &len);
    if (utf8 == NULL)
        return NULL;
    ta_buf_clear(&log->single);
    if (!ta_access_format_put(log->format, &log->single, native, status,
                              ta_str_of(utf8, (size_t)len))) {
        PyErr_NoMemory();
        return NULL;
    }
    ta_str line = ta_buf_str(&log->single);
    return Py_BuildValue("{s:{s:s#}}", "extra", "access_line", line.ptr, (Py_ssize_t)line.len);
}

static void call_logger(ta_native_exchange *native, int status)
{
    ta_server *server = native->server;
    ta_access_log *log = server->access_log;
    PyObject *res = NULL, *args = NULL, *extra = NULL;
    PyObject *client = client_text(native);
    PyObject *method = ta_scope_text(native->base.method);
    PyObject *target = target_text(native);
    ta_str version = ta_http_version_text(native->in.version);
    if (client && method && target)
        args = Py_BuildValue("OOOOs#i", server->access_format, client, method, target, version.ptr,
                             (Py_ssize_t)version.len, status);
    if (args != NULL && log != NULL && log->format != NULL)
        extra = extra_of(log, native, status, client);
    if (args != NULL && !PyErr_Occurred()) {
        ta_loop_state_enter(server->ls);
        res = PyObject_Call(server->access, args, extra);
        ta_loop_state_leave(server->ls);
    }
    if (res == NULL)
        ta_exc_report(native->st, NULL, "Exception in the access log");
    Py_XDECREF(res);
    Py_XDECREF(args);
    Py_XDECREF(extra);
    Py_XDECREF(client);
    Py_XDECREF(method);
    Py_XDECREF(target);
}

/* -- the quick way ---------------------------------------------------------------------------- */

static inline unsigned char changes_of(const ta_access_log *log)
{
    return __atomic_load_n((const unsigned char *)log->changes.buf, __ATOMIC_RELAXED);
}

/* The mode will be asked for before the next line. */
static void doubt(ta_access_log *log)
{
    log->seen = (unsigned char)(changes_of(log) + 1);
}

/* Tells how many lines were dropped, once what reads them is there again. */
static void tell_dropped(ta_access_log *log)
{
    uint64_t lost = ta_line_writer_untold(log->sink);
    if (TA_UNLIKELY(lost > 0))
        ta_log_printf(&log->server->log, TA_LOG_WARNING,
                      "%llu lines of the access log were dropped, as its reader was too slow",
                      (unsigned long long)lost);
}

/* After some lines: is still nobody there who could tell the difference?  What the application has
 * printed meanwhile is flushed, as it is when a logger writes. */
static void check_later(ta_timer *timer)
{
    ta_access_log *log = TA_CONTAINER_OF(timer, ta_access_log, check);
    ta_server *server = log->server;
    ta_loop_state_enter(server->ls);
    PyObject *res = PyObject_CallMethod(log->writer, "check", NULL);
    ta_loop_state_leave(server->ls);
    if (res == NULL)
        ta_exc_report(server->st, NULL, "Exception in the access log");
    if (res == NULL || Py_IsFalse(res))
        doubt(log);
    Py_XDECREF(res);
    tell_dropped(log);
}

/* Gives what has been gathered to the thread. */
static void put_lines(ta_access_log *log)
{
    ta_loop *loop = log->server->ls->loop;
    ta_line_writer_put(log->sink, ta_buf_str(&log->lines));
    ta_buf_clear(&log->lines);
    if (loop != NULL && !ta_timer_armed(&log->check))
        ta_loop_set_timer(loop, &log->check, CHECK_MS);
}

/* Writes what has been gathered. */
static void write_lines(ta_access_log *log)
{
    ta_server *server = log->server;
    ta_str all = ta_buf_str(&log->lines);
    if (all.len == 0)
        return;
    if (log->sink != NULL) {
        put_lines(log);
        return;
    }
    PyObject *text = PyUnicode_DecodeUTF8(all.ptr, (Py_ssize_t)all.len, "replace");
    ta_buf_clear(&log->lines);
    PyObject *res = NULL;
    ta_loop_state_enter(server->ls);
    if (text != NULL)
        res = PyObject_CallMethodOneArg(log->writer, server->st->names.write, text);
    ta_loop_state_leave(server->ls);
    Py_XDECREF(text);
    if (res == NULL)
        ta_exc_report(server->st, NULL, "Exception in the access log");
    if (res == NULL || Py_IsFalse(res))
        doubt(log);
    Py_XDECREF(res);
}

static void flush_lines(ta_defer *defer)
{
    write_lines(TA_CONTAINER_OF(defer, ta_access_log, flush));
}

static PyObject *outcome(ta_access_log *log, int status) /* borrowed */
{
    PyObject **slot = &log->outcomes[status - FIRST_STATUS];
    if (*slot == NULL) {
        ta_loop_state_enter(log->server->ls);
        *slot = PyObject_CallMethod(log->writer, "outcome", "i", status);
        ta_loop_state_leave(log->server->ls);
        if (*slot == NULL || !PyUnicode_Check(*slot)) {
            PyErr_Clear();
            Py_XSETREF(*slot, PyUnicode_FromFormat("%d", status));
        }
    }
    return *slot;
}

static ta_str utf8_of(PyObject *text)
{
    Py_ssize_t len = 0;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &len);
    if (utf8 == NULL)
        PyErr_Clear();
    return ta_str_of(utf8, utf8 ? (size_t)len : 0);
}

static inline char *put(char *out, ta_str s)
{
    if (s.len > 0)
        memcpy(out, s.ptr, s.len);
    return out + s.len;
}

/* Bytes of an IP address, a colon and a port. */
enum { ADDRESS_MAX = 64 + 8 };

/* The address of the connection: at most ADDRESS_MAX bytes. */
static char *put_peer(char *out, ta_native_exchange *native)
{
    ta_str host = {NULL, 0};
    uint16_t port = 0;
    if (native->req != NULL)
        ta_req_peer(native->req, &host, &port);
    if (host.len == 0 || host.len > 64)
        return out;
    out = put(out, host);
    *out++ = ':';
    return ta_resp_put_uint(out, port);
}

static bool put_line(ta_access_log *log, ta_native_exchange *native, int status)
{
    PyObject *end_text = outcome(log, status), *client = NULL;
    if (end_text == NULL)
        return false;
    if (native->base.scope_dict != NULL && (client = client_text(native)) == NULL)
        return false;
    ta_str parts[] = {utf8_of(log->prefix), utf8_of(log->opening), utf8_of(log->closing),
                      utf8_of(end_text), client ? utf8_of(client) : (ta_str){NULL, ADDRESS_MAX}};
    size_t bound =
        64 + native->base.method.len + 3 * (native->in.raw_path.len + native->base.query.len);
    for (size_t i = 0; i < TA_COUNTOF(parts); i++)
        bound += parts[i].len;
    char *out = ta_buf_reserve(&log->lines, bound), *p = out;
    if (out != NULL) {
        p = put(p, parts[0]);
        p = client ? put(p, parts[4]) : put_peer(p, native);
        p = put(p, TA_STR(" - \""));
        p = put(p, parts[1]);
        p = put(p, native->base.method);
        *p++ = ' ';
        p = put_escaped(p, native->in.raw_path);
        if (native->base.query.len > 0) {
            *p++ = '?';
            p = put_escaped(p, native->base.query);
        }
        p = put(p, TA_STR(" HTTP/"));
        p = put(p, ta_http_version_text(native->in.version));
        p = put(p, parts[2]);
        p = put(p, TA_STR("\" "));
        p = put(p, parts[3]);
        *p++ = '\n';
        TA_ASSERT((size_t)(p - out) <= bound);
        ta_buf_commit(&log->lines, (size_t)(p - out));
    }
    Py_XDECREF(client);
    return out != NULL;
}

static void ask_mode(ta_access_log *log);

/* Makes the scope if a proxy may have given the client's address; without one it is the peer's. */
static void ask_proxy(ta_native_exchange *native)
{
    if (TA_LIKELY(native->base.scope_dict != NULL || !ta_scope_is_proxied(native)))
        return;
    PyObject *scope = native->base.ops->scope(&native->base);
    if (scope == NULL)
        PyErr_Clear();
    Py_XDECREF(scope);
}

/* A line in the format that the user chose.  False: no memory, or an exception. */
static bool put_formatted(ta_access_log *log, ta_native_exchange *native, int status)
{
    if (TA_LIKELY(!ta_scope_is_proxied(native)))
        return ta_access_format_put(log->format, &log->lines, native, status, TA_STR(""));
    PyObject *client = client_text(native);
    bool done = client != NULL &&
                ta_access_format_put(log->format, &log->lines, native, status, utf8_of(client));
    Py_XDECREF(client);
    return done;
}

static void make_line(ta_native_exchange *native, int status)
{
    ta_server *server = native->server;
    ta_access_log *log = server->access_log;
    if (log != NULL) {
        if (TA_UNLIKELY(log->seen != changes_of(log)))
            ask_mode(log);
        if (log->mode == MODE_SILENT)
            return;
    }
    if (log == NULL && server->access == NULL)
        return;
    ask_proxy(native);
    if (log == NULL || log->mode == MODE_GENERAL || status < FIRST_STATUS || status > LAST_STATUS) {
        if (server->access != NULL)
            call_logger(native, status);
        return;
    }
    if (!(log->format ? put_formatted(log, native, status) : put_line(log, native, status))) {
        PyErr_Clear(); /* no memory */
        return;
    }
    if (log->lines.len >= MAX_LINES)
        write_lines(log);
    else if (server->ls->loop != NULL)
        ta_loop_defer_last(server->ls->loop, &log->flush);
}

void ta_access_log_note(ta_native_exchange *native, int status)
{
    if (native->server->access_log == NULL || native->server->access_log->format == NULL)
        make_line(native, status);
}

void ta_access_log_end(ta_native_exchange *native, int status)
{
    TA_ASSERT(native->req != NULL && native->server->access_log != NULL);
    if (native->server->access_log->format == NULL)
        return;
    PyObject *exc = PyErr_GetRaisedException();
    make_line(native, status);
    ta_exc_restore(exc);
}

uint64_t ta_access_log_dropped(const ta_access_log *log)
{
    return log != NULL && log->sink != NULL ? ta_line_writer_dropped(log->sink) : 0;
}

bool ta_access_log_is_timed(const ta_access_log *log)
{
    return log != NULL && log->format != NULL;
}

/* Decides how lines are made from now on; lines that were gathered before are written first. */
static void ask_mode(ta_access_log *log)
{
    ta_server *server = log->server;
    write_lines(log);
    log->seen = changes_of(log);
    ta_loop_state_enter(server->ls);
    PyObject *res = PyObject_CallMethod(log->writer, "mode", NULL);
    ta_loop_state_leave(server->ls);
    long mode = res ? PyLong_AsLong(res) : -1;
    Py_XDECREF(res);
    if (mode < MODE_GENERAL || mode > MODE_SILENT) {
        ta_exc_report(server->st, NULL, "Exception in the access log");
        mode = MODE_GENERAL;
    }
    log->mode = (uint8_t)mode;
}

/* -- life ------------------------------------------------------------------------------------- */

void ta_access_log_flush(ta_access_log *log)
{
    PyObject *exc = PyErr_GetRaisedException();
    write_lines(log);
    if (log->sink != NULL)
        tell_dropped(log);
    ta_exc_restore(exc);
}

int ta_access_log_traverse(ta_access_log *log, visitproc visit, void *arg)
{
    if (log == NULL)
        return 0;
    Py_VISIT(log->writer);
    Py_VISIT(log->changes.obj);
    return 0;
}

void ta_access_log_free(ta_access_log *log)
{
    if (log == NULL)
        return;
    if (log->server->ls->loop != NULL) {
        ta_loop_undefer(log->server->ls->loop, &log->flush);
        ta_timer_cancel(ta_loop_timers(log->server->ls->loop), &log->check);
    }
    PyBuffer_Release(&log->changes);
    Py_CLEAR(log->writer);
    Py_CLEAR(log->prefix);
    Py_CLEAR(log->opening);
    Py_CLEAR(log->closing);
    for (size_t i = 0; i < TA_COUNTOF(log->outcomes); i++)
        Py_CLEAR(log->outcomes[i]);
    ta_buf_free(&log->lines);
    ta_buf_free(&log->single);
    ta_access_format_free(log->format);
    Py_CLEAR(log->sink_owner);
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

/* The byte of changes, and how lines are made at first. */
static int take_mode(ta_access_log *log)
{
    PyObject *changes = PyObject_GetAttrString(log->writer, "changes");
    int rc = changes ? PyObject_GetBuffer(changes, &log->changes, PyBUF_SIMPLE) : -1;
    Py_XDECREF(changes);
    if (rc < 0)
        return -1;
    if (log->changes.len != 1) {
        PyErr_SetString(PyExc_ValueError, "access_writer.changes must be one byte");
        return -1;
    }
    ask_mode(log);
    return 0;
}

/* An attribute that may be missing or None: new reference, or NULL, maybe with an exception. */
static PyObject *optional(PyObject *obj, const char *name)
{
    PyObject *value = PyObject_GetAttrString(obj, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Clear();
    if (value == Py_None)
        Py_CLEAR(value);
    return value;
}

/* The format and the sink, if there are any.  0, or -1 with an exception. */
static int take_form(ta_access_log *log)
{
    PyObject *format = optional(log->writer, "format");
    if (format != NULL)
        log->format = ta_access_format_new(format);
    Py_XDECREF(format);
    if (PyErr_Occurred())
        return -1;
    log->sink_owner = optional(log->writer, "sink");
    if (log->sink_owner != NULL)
        log->sink = ta_log_writer_of(log->server->st, log->sink_owner);
    return PyErr_Occurred() ? -1 : 0;
}

ta_access_log *ta_access_log_new(ta_server *server, PyObject *writer)
{
    ta_access_log *log = PyMem_Calloc(1, sizeof *log);
    if (log == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    log->server = server;
    log->flush.fn = flush_lines;
    log->check.on_expire = check_later;
    log->writer = Py_NewRef(writer);
    if ((log->prefix = text_attr(writer, "prefix")) == NULL ||
        (log->opening = text_attr(writer, "opening")) == NULL ||
        (log->closing = text_attr(writer, "closing")) == NULL || take_form(log) < 0 ||
        take_mode(log) < 0) {
        ta_access_log_free(log);
        return NULL;
    }
    return log;
}
