/*
 * socket_transport_type.c -- the type `_core.SocketTransport`: making, attributes, memory.
 *
 * Layer: py/loop.  A subclass of asyncio.Transport, whose slots stay empty; what asyncio's own
 * transport keeps under private names that its event loop, or a program, reads has the same names
 * here.
 */
#include "py/loop/socket_transport_int.h"

#include <structmember.h>

#include "py/loop/selector.h"
#include "py/support/types.h"

/* -- making --------------------------------------------------------------------------------------
 */

static void set_protocol(ta_socket_transport *t, PyObject *protocol, bool buffered)
{
    Py_XSETREF(t->protocol, Py_NewRef(protocol));
    t->buffered = buffered;
    t->connected = true;
}

static int is_buffered(ta_state *st, PyObject *protocol)
{
    return PyObject_IsInstance(protocol, ta_loop_objects_of(st)->evloop.buffered_protocol);
}

/* The Selector of a loop of ours (a new reference); NULL with TypeError when it has another one. */
static PyObject *selector_of(ta_state *st, PyObject *loop)
{
    PyObject *selector = PyObject_GetAttr(loop, st->names._selector);
    if (selector != NULL && ta_selector_state_of(st, selector) == NULL)
        Py_CLEAR(selector);
    return selector;
}

/* SocketTransport(loop, sock, protocol, extra, server): it does not begin to read. */
static PyObject *transport_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"loop", "sock", "protocol", "extra", "server", "context", NULL};
    PyObject *loop, *sock, *protocol, *extra, *server, *context = Py_None;
    ta_state *st = ta_state_of(type);
    if (st == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO!O|O:SocketTransport", keywords, &loop,
                                     &sock, &protocol, &PyDict_Type, &extra, &server, &context))
        return NULL;
    ta_evloop *evloop = ta_evloop_of(st, loop);
    if (evloop == NULL) {
        PyErr_SetString(PyExc_TypeError, "the loop must be a turboapi EventLoop");
        return NULL;
    }
    int buffered = is_buffered(st, protocol);
    PyObject *fileno = buffered < 0 ? NULL : PyObject_GetAttr(sock, st->names.fileno);
    PyObject *selector = fileno ? selector_of(st, loop) : NULL;
    PyObject *self = selector ? type->tp_alloc(type, 0) : NULL; /* zeroed */
    if (self == NULL) {
        Py_XDECREF(fileno);
        Py_XDECREF(selector);
        return NULL;
    }
    ta_socket_transport *t = ta_socket_transport_of(self);
    t->self = self;
    t->st = st;
    t->loop = (ta_evloop *)Py_NewRef(loop);
    t->selector = selector;
    t->ls = ta_selector_state_of(st, selector);
    t->guest.ops = &ta_socket_transport_guest_ops;
    t->fileno = fileno;
    t->high = 64 * 1024;
    t->low = t->high / 4;
    t->extra = Py_NewRef(extra);
    set_protocol(t, protocol, buffered > 0);
    t->fd = ta_socket_transport_fd(t);
    if (t->fd < 0) {
        ta_socket_transport_set_errno();
        Py_DECREF(self);
        return NULL;
    }
    /* From here on the socket is ours to close. */
    t->sock = Py_NewRef(sock);
    t->server = Py_IsNone(server) ? NULL : Py_NewRef(server);
    t->context = Py_IsNone(context) ? NULL : Py_NewRef(context);
    return self;
}

/* tp_new has done it; asyncio's __init__ would set slots that we have in C. */
static int nothing_to_init(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args),
                           PyObject *Py_UNUSED(kwargs))
{
    return 0;
}

/* -- memory --------------------------------------------------------------------------------------
 */

static int transport_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)t->loop);
    Py_VISIT(t->selector);
    Py_VISIT(t->sock);
    Py_VISIT(t->fileno);
    Py_VISIT(t->protocol);
    Py_VISIT(t->extra);
    Py_VISIT(t->server);
    Py_VISIT(t->context);
    Py_VISIT(t->reader);
    Py_VISIT(t->writer);
    Py_VISIT(t->empty_waiter);
    Py_VISIT(t->dict);
    return 0;
}

static int transport_clear(PyObject *self)
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    ta_socket_transport_stop_reading(t);
    ta_socket_transport_stop_writing(t);
    ta_socket_transport_drop(t);
    t->closing = true;
    Py_CLEAR(t->sock);
    Py_CLEAR(t->fileno);
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->extra);
    Py_CLEAR(t->server);
    Py_CLEAR(t->context);
    Py_CLEAR(t->empty_waiter);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->loop);
    Py_CLEAR(t->selector);
    return 0;
}

/* __del__(): nobody has closed it. */
static void transport_finalize(PyObject *self)
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (t->sock == NULL)
        return;
    PyObject *exc = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(self, 1, "unclosed transport %R", self) < 0)
        PyErr_WriteUnraisable(self);
    ta_socket_transport_stop_reading(t);
    ta_socket_transport_stop_writing(t);
    if (t->sock != NULL && ta_socket_transport_abandon(t) < 0)
        PyErr_WriteUnraisable(self);
    ta_exc_restore(exc);
}

static void transport_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return; /* somebody has it again */
    PyObject_GC_UnTrack(self);
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (t->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    TA_ASSERT(!t->watched); /* the loop would hold a reference */
    (void)transport_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* -- methods -------------------------------------------------------------------------------------
 */

static PyObject *none_or_null(int rc)
{
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *get_extra_info(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"name", "default", NULL};
    PyObject *name, *value = Py_None, *found;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get_extra_info", keywords, &name, &value))
        return NULL;
    int rc = PyDict_GetItemRef(ta_socket_transport_of(self)->extra, name, &found);
    return rc == 0 ? Py_NewRef(value) : found;
}

static PyObject *transport_set_protocol(PyObject *self, PyObject *protocol)
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    int buffered = is_buffered(t->st, protocol);
    if (buffered < 0)
        return NULL;
    set_protocol(t, protocol, buffered > 0);
    Py_RETURN_NONE;
}

static PyObject *or_none(PyObject *value)
{
    return Py_NewRef(value ? value : Py_None);
}

static PyObject *get_protocol(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return or_none(ta_socket_transport_of(self)->protocol);
}

static PyObject *is_closing(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(ta_socket_transport_of(self)->closing);
}

static PyObject *is_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(ta_socket_transport_is_reading(ta_socket_transport_of(self)));
}

static PyObject *pause_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (ta_socket_transport_is_reading(t)) {
        t->paused = true;
        ta_socket_transport_stop_reading(t);
    }
    Py_RETURN_NONE;
}

static PyObject *resume_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (t->closing || !t->paused)
        Py_RETURN_NONE;
    t->paused = false;
    return none_or_null(ta_socket_transport_start_reading(t));
}

/* What the loop calls after connection_made(). */
static PyObject *start_reading(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (!ta_socket_transport_is_reading(t))
        Py_RETURN_NONE;
    return none_or_null(ta_socket_transport_start_reading(t));
}

static PyObject *transport_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_or_null(ta_socket_transport_close(ta_socket_transport_of(self)));
}

static PyObject *transport_abort(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return none_or_null(ta_socket_transport_force_close(ta_socket_transport_of(self), Py_None));
}

static PyObject *force_close(PyObject *self, PyObject *exc)
{
    return none_or_null(ta_socket_transport_force_close(ta_socket_transport_of(self), exc));
}

static PyObject *fatal_error(PyObject *self, PyObject *args)
{
    PyObject *exc;
    const char *message = "Fatal error on transport";
    if (!PyArg_ParseTuple(args, "O|s:_fatal_error", &exc, &message))
        return NULL;
    if (!PyExceptionInstance_Check(exc)) {
        PyErr_SetString(PyExc_TypeError, "an exception is needed");
        return NULL;
    }
    PyErr_SetRaisedException(Py_NewRef(exc));
    return ta_socket_transport_fail(ta_socket_transport_of(self), message);
}

static PyObject *call_connection_lost(PyObject *self, PyObject *exc)
{
    return none_or_null(ta_socket_transport_end(ta_socket_transport_of(self), exc));
}

static PyObject *can_write_eof(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

static PyObject *get_write_buffer_size(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(ta_socket_transport_of(self)->size);
}

static PyObject *get_write_buffer_limits(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    return Py_BuildValue("(nn)", t->low, t->high);
}

/* A mark of the buffer, or -1 with an exception; what is too large for a size is infinite. */
static Py_ssize_t mark(PyObject *value)
{
    Py_ssize_t n = PyNumber_AsSsize_t(value, NULL);
    if (n < 0 && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "a limit of the write buffer must not be negative: %R",
                     value);
    return n;
}

static PyObject *set_write_buffer_limits(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"high", "low", NULL};
    ta_socket_transport *t = ta_socket_transport_of(self);
    PyObject *high_obj = Py_None, *low_obj = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:set_write_buffer_limits", keywords,
                                     &high_obj, &low_obj))
        return NULL;
    Py_ssize_t low = Py_IsNone(low_obj) ? 0 : mark(low_obj);
    if (low < 0)
        return NULL;
    Py_ssize_t high = 64 * 1024;
    if (!Py_IsNone(high_obj))
        high = mark(high_obj);
    else if (!Py_IsNone(low_obj))
        high = low > PY_SSIZE_T_MAX / 4 ? PY_SSIZE_T_MAX : 4 * low;
    if (high < 0)
        return NULL;
    if (Py_IsNone(low_obj))
        low = high / 4;
    if (high < low) {
        PyErr_Format(PyExc_ValueError, "high (%zd) must be >= low (%zd) must be >= 0", high, low);
        return NULL;
    }
    t->high = high;
    t->low = low;
    return none_or_null(ta_socket_transport_maybe_pause(t));
}

/* For loop.sendfile(): a future that is done when all is written. */
static PyObject *make_empty_waiter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    if (t->empty_waiter != NULL || t->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        t->loop ? "Empty waiter is already set" : "the transport is closed");
        return NULL;
    }
    PyObject *waiter = PyObject_CallMethod((PyObject *)t->loop, "create_future", NULL);
    PyObject *res = NULL;
    if (waiter != NULL)
        res = ta_socket_transport_is_empty(t)
                  ? PyObject_CallMethod(waiter, "set_result", "O", Py_None)
                  : Py_NewRef(Py_None);
    if (res == NULL) {
        Py_XDECREF(waiter);
        return NULL;
    }
    Py_DECREF(res);
    Py_XSETREF(t->empty_waiter, Py_NewRef(waiter));
    return waiter;
}

static PyObject *reset_empty_waiter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(ta_socket_transport_of(self)->empty_waiter);
    Py_RETURN_NONE;
}

/* -- attributes, for asyncio's loop and for whoever looks ----------------------------------------
 */

static PyObject *transport_repr(PyObject *self)
{
    ta_socket_transport *t = ta_socket_transport_of(self);
    const char *state = t->sock == NULL ? "closed " : t->closing ? "closing " : "";
    if (t->loop == NULL || t->loop->closed)
        return PyUnicode_FromFormat("<SocketTransport %sfd=%d>", state, t->fd);
    return PyUnicode_FromFormat("<SocketTransport %sfd=%d read=%s write=<%s, bufsize=%zd>>", state,
                                t->fd, t->reader ? "polling" : "idle",
                                t->writer ? "polling" : "idle", t->size);
}

/* Getters of members that are objects, or NULL for None. */
#define OBJECT_GETTER(name, member)                                                                \
    static PyObject *name(PyObject *self, void *Py_UNUSED(closure))                                \
    {                                                                                              \
        return or_none((PyObject *)ta_socket_transport_of(self)->member);                          \
    }
OBJECT_GETTER(get_loop, loop)
OBJECT_GETTER(get_sock, sock)
OBJECT_GETTER(get_protocol_attr, protocol)
OBJECT_GETTER(get_extra, extra)
OBJECT_GETTER(get_server, server)
OBJECT_GETTER(get_empty_waiter, empty_waiter)

#define BOOL_GETTER(name, member)                                                                  \
    static PyObject *name(PyObject *self, void *Py_UNUSED(closure))                                \
    {                                                                                              \
        return PyBool_FromLong(ta_socket_transport_of(self)->member);                              \
    }
BOOL_GETTER(get_closing, closing)
BOOL_GETTER(get_paused, paused)
BOOL_GETTER(get_eof, eof)
BOOL_GETTER(get_protocol_paused, protocol_paused)

static PyObject *get_high(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(ta_socket_transport_of(self)->high);
}

static PyObject *get_low(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(ta_socket_transport_of(self)->low);
}

static PyObject *get_fd(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(ta_socket_transport_of(self)->fd);
}

static PyObject *get_lost(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(ta_socket_transport_of(self)->lost);
}

static PyObject *get_max_size(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyLong_FromLong(TA_SOCKET_MAX_READ);
}

static PyObject *get_true(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    Py_RETURN_TRUE;
}

static PyObject *get_sendfile_mode(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *module = ta_loop_objects_of(ta_socket_transport_of(self)->st)->evloop.selector_events;
    PyObject *theirs = PyObject_GetAttrString(module, "_SelectorSocketTransport");
    PyObject *mode = theirs ? PyObject_GetAttrString(theirs, "_sendfile_compatible") : NULL;
    Py_XDECREF(theirs);
    return mode;
}

static PyGetSetDef getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict},
    {"_loop", get_loop},
    {"_sock", get_sock},
    {"_sock_fd", get_fd},
    {"_protocol", get_protocol_attr},
    {"_protocol_paused", get_protocol_paused},
    {"_high_water", get_high},
    {"_low_water", get_low},
    {"_extra", get_extra},
    {"_server", get_server},
    {"_empty_waiter", get_empty_waiter},
    {"_closing", get_closing},
    {"_conn_lost", get_lost},
    {"_paused", get_paused},
    {"_eof", get_eof},
    {"max_size", get_max_size},
    {"_start_tls_compatible", get_true},
    {"_sendfile_compatible", get_sendfile_mode},
    {NULL},
};

#define NOARGS(name, function, doc) {name, function, METH_NOARGS, doc}
#define KEYWORDS(name, function, doc)                                                              \
    {name, (PyCFunction)(void (*)(void))function, METH_VARARGS | METH_KEYWORDS, doc}

static PyMethodDef methods[] = {
    KEYWORDS("get_extra_info", get_extra_info, "See asyncio.BaseTransport.get_extra_info."),
    {"set_protocol", transport_set_protocol, METH_O, "See asyncio.BaseTransport.set_protocol."},
    NOARGS("get_protocol", get_protocol, "See asyncio.BaseTransport.get_protocol."),
    NOARGS("is_closing", is_closing, "See asyncio.BaseTransport.is_closing."),
    NOARGS("close", transport_close, "See asyncio.BaseTransport.close."),
    NOARGS("is_reading", is_reading, "See asyncio.ReadTransport.is_reading."),
    NOARGS("pause_reading", pause_reading, "See asyncio.ReadTransport.pause_reading."),
    NOARGS("resume_reading", resume_reading, "See asyncio.ReadTransport.resume_reading."),
    NOARGS("abort", transport_abort, "See asyncio.WriteTransport.abort."),
    NOARGS("can_write_eof", can_write_eof, "See asyncio.WriteTransport.can_write_eof."),
    NOARGS("get_write_buffer_size", get_write_buffer_size,
           "See asyncio.WriteTransport.get_write_buffer_size."),
    NOARGS("get_write_buffer_limits", get_write_buffer_limits,
           "See asyncio.WriteTransport.get_write_buffer_limits."),
    KEYWORDS("set_write_buffer_limits", set_write_buffer_limits,
             "See asyncio.WriteTransport.set_write_buffer_limits."),
    {"write", ta_socket_transport_write, METH_O, "See asyncio.WriteTransport.write."},
    {"writelines", ta_socket_transport_writelines, METH_O,
     "See asyncio.WriteTransport.writelines."},
    NOARGS("write_eof", ta_socket_transport_write_eof, "See asyncio.WriteTransport.write_eof."),
    NOARGS("_start_reading", start_reading, NULL),
    NOARGS("_read_ready", ta_socket_transport_read, NULL),
    NOARGS("_write_ready", ta_socket_transport_flush, NULL),
    NOARGS("_make_empty_waiter", make_empty_waiter, NULL),
    NOARGS("_reset_empty_waiter", reset_empty_waiter, NULL),
    {"_force_close", force_close, METH_O, NULL},
    {"_fatal_error", fatal_error, METH_VARARGS, NULL},
    {"_call_connection_lost", call_connection_lost, METH_O, NULL},
    {NULL},
};

/* -- the type ------------------------------------------------------------------------------------
 */

int ta_socket_transport_init(PyObject *module, ta_state *st)
{
    ta_evloop_state *objects = &ta_loop_objects_of(st)->evloop;
    PyObject *base = NULL;
    /* The class that loop.sendfile() asks for, where there is one: itself an asyncio.Transport. */
    int found = ta_types_import_optional("asyncio.transports", "_FlowControlMixin", &base);
    if (found < 0 || (found == 0 && (base = ta_types_import("asyncio", "Transport")) == NULL))
        return -1;
    Py_ssize_t ours = ((PyTypeObject *)base)->tp_basicsize;
    PyMemberDef members[] = {
        {"__dictoffset__", T_PYSSIZET, ours + (Py_ssize_t)offsetof(ta_socket_transport, dict),
         READONLY, NULL},
        {"__weaklistoffset__", T_PYSSIZET,
         ours + (Py_ssize_t)offsetof(ta_socket_transport, weakrefs), READONLY, NULL},
        {NULL},
    };
    PyType_Slot slots[] = {
        {Py_tp_doc, "A stream socket on turboapi.loop.EventLoop; see asyncio.Transport."},
        {Py_tp_new, transport_new},
        {Py_tp_init, nothing_to_init},
        {Py_tp_methods, methods},
        {Py_tp_getset, getset},
        {Py_tp_members, members},
        {Py_tp_repr, transport_repr},
        {Py_tp_traverse, transport_traverse},
        {Py_tp_clear, transport_clear},
        {Py_tp_finalize, transport_finalize},
        {Py_tp_dealloc, transport_dealloc},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = "turboapi._core.SocketTransport",
        .basicsize = (int)ours + (int)sizeof(ta_socket_transport),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    objects->transport_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, base);
    Py_DECREF(base);
    if (objects->transport_type == NULL || PyModule_AddType(module, objects->transport_type) < 0)
        return -1;
    if ((objects->buffered_protocol = ta_types_import("asyncio", "BufferedProtocol")) == NULL)
        return -1;
    objects->selector_events = PyImport_ImportModule("asyncio.selector_events");
    return objects->selector_events ? ta_socket_transport_stream_init(objects) : -1;
}
