/*
 * asgi_io.c -- the callables receive and send, and the coroutines that they return.
 *
 * Layer: py (L4).  The coroutines are objects of C (coroutine.h), so that create_task(receive())
 * works as with an `async def`; most of them finish without waiting.
 */
#include "py/server/native_int.h"

#include "py/support/spares.h"
#include "py/support/types.h"

/* -- the coroutines -----------------------------------------------------------------------------
 */

static ta_outcome advance_anywhere(ta_coroutine *co, PyObject *value);

static PyObject *spares_of(const PyTypeObject *type, ta_state *st)
{
    const ta_native_exchange_state *objects = &ta_server_objects_of(st)->native_exchange;
    return type == objects->send_type ? objects->spare_sends : objects->spare_receives;
}

static ta_asgi_io *new_io(ta_native_exchange *native, PyObject *spares, PyObject *message,
                          ta_outcome (*advance)(ta_coroutine *, PyObject *))
{
    ta_asgi_io *io = (ta_asgi_io *)ta_spares_take(spares);
    if (io == NULL)
        return NULL;
    ta_coroutine_init(&io->co, advance_anywhere);
    io->x = (ta_native_exchange *)Py_NewRef((PyObject *)native);
    io->message = Py_XNewRef(message);
    io->job = NULL;
    io->offloaded = io->elsewhere = false;
    io->advance = advance;
    PyObject_GC_Track((PyObject *)io);
    return io;
}

ta_asgi_io *ta_asgi_io_receiving(ta_native_exchange *native,
                                 ta_outcome (*advance)(ta_coroutine *, PyObject *))
{
    return new_io(native, ta_server_objects_of(native->st)->native_exchange.spare_receives, NULL,
                  advance);
}

ta_asgi_io *ta_asgi_io_sending(ta_native_exchange *native, PyObject *message,
                               ta_outcome (*advance)(ta_coroutine *, PyObject *))
{
    return new_io(native, ta_server_objects_of(native->st)->native_exchange.spare_sends, message,
                  advance);
}

/* -- calls from other threads -------------------------------------------------------------------
 */

/* Whether this thread runs the event loop that the connection belongs to. */
static bool is_here(const ta_native_exchange *native)
{
    unsigned long owner = atomic_load_explicit(&native->base.ls->owner, memory_order_relaxed);
    return TA_LIKELY(owner == PyThread_get_thread_ident());
}

/* Has the connection's thread run the call; waits for its result. */
static ta_outcome run_there(ta_asgi_io *io)
{
    ta_native_exchange *native = io->x;
    PyObject *run = ta_types_import("turboapi._serving.other_loop", "run_there");
    ta_asgi_io *call = NULL;
    PyObject *awaitable = NULL;
    if (run != NULL)
        call = new_io(native, spares_of(Py_TYPE(io), native->st), io->message, io->advance);
    if (call != NULL) {
        call->job = Py_XNewRef(io->job);
        awaitable =
            PyObject_CallFunctionObjArgs(run, native->base.ls->aioloop, (PyObject *)call, NULL);
    }
    Py_XDECREF(run);
    Py_XDECREF((PyObject *)call);
    return awaitable ? ta_coroutine_await(&io->co, awaitable) : TA_FAILED;
}

static ta_outcome advance_anywhere(ta_coroutine *co, PyObject *value)
{
    ta_asgi_io *io = (ta_asgi_io *)co;
    ta_outcome outcome = TA_FAILED;
    TA_ASSERT(io->x != NULL); /* not after its end */
    if (is_here(io->x) && !io->elsewhere)
        return io->advance(co, value);
    if (io->elsewhere) {
        co->result = value;
        outcome = value ? TA_DONE : TA_FAILED;
    } else if (value != NULL || !PyErr_Occurred()) {
        Py_XDECREF(value);
        io->elsewhere = true;
        outcome = run_there(io);
    }
    if (outcome != TA_WAITS) {
        Py_CLEAR(io->message);
        Py_CLEAR(io->job);
        Py_CLEAR(io->x);
    }
    return outcome;
}

/* -- items of messages ------------------------------------------------------------------------- */

int ta_asgi_io_get_item(PyObject *mapping, PyObject *key, PyObject **out)
{
    if (PyDict_CheckExact(mapping))
        return PyDict_GetItemRef(mapping, key, out);
    *out = PyObject_GetItem(mapping, key);
    if (*out != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_KeyError))
        return -1;
    PyErr_Clear();
    return 0;
}

PyObject *ta_asgi_io_need_item(PyObject *mapping, PyObject *key)
{
    PyObject *value;
    if (ta_asgi_io_get_item(mapping, key, &value) == 0)
        PyErr_SetObject(PyExc_KeyError, key);
    return value;
}

bool ta_asgi_io_same_text(PyObject *a, PyObject *b)
{
    return a == b || (PyUnicode_Check(a) && PyUnicode_Compare(a, b) == 0);
}

/* As ta_asgi_message_read, of a dict; false: there is something else in it. */
static bool read_members(const ta_names_state *names, PyObject *dict, ta_asgi_message *out)
{
    PyObject *const known[TA_MEMBERS] = {names->type, names->status, names->headers, names->body,
                                         names->more_body};
    PyObject *key, *value;
    for (Py_ssize_t pos = 0; PyDict_Next(dict, &pos, &key, &value);) {
        size_t i = 0;
        while (i < TA_MEMBERS && key != known[i])
            i++;
        if (i == TA_MEMBERS) /* perhaps an equal text that is another object */
            return false;
        out->members[i] = Py_NewRef(value);
    }
    return true;
}

void ta_asgi_message_read(const ta_names_state *names, PyObject *object, ta_asgi_message *out)
{
    *out = (ta_asgi_message){.object = object};
    if (!PyDict_CheckExact(object))
        return;
    Py_BEGIN_CRITICAL_SECTION(object);
    if (PyDict_GET_SIZE(object) <= TA_MEMBERS)
        out->is_read = read_members(names, object, out);
    Py_END_CRITICAL_SECTION();
    if (!out->is_read)
        ta_asgi_message_drop(out);
}

void ta_asgi_message_drop(ta_asgi_message *message)
{
    for (size_t i = 0; i < TA_MEMBERS; i++)
        Py_CLEAR(message->members[i]);
}

/* -- the callables ---------------------------------------------------------------------------- */

static PyObject *receive_call(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ta_native_exchange *x = (ta_native_exchange *)self;
    if (x->ws != NULL)
        return ta_websocket_receive(x);
    return ta_asgi_receive_new(x);
}

static PyObject *send_call(PyObject *self, PyObject *message)
{
    ta_native_exchange *x = (ta_native_exchange *)self;
    if (x->ws != NULL)
        return ta_websocket_send(x, message);
    return ta_asgi_send_new(x, message);
}

static PyMethodDef receive_def = {"receive", receive_call, METH_NOARGS,
                                  "receive()\n--\n\nAwaits the next ASGI message."};
const PyMethodDef ta_asgi_io_send_def = {
    "send", send_call, METH_O, "send(message, /)\n--\n\nSends an ASGI message; await it."};

bool ta_asgi_io_may_respond(const ta_exchange *exchange)
{
    const ta_native_exchange *x = (const ta_native_exchange *)exchange;
    return x->ws == NULL && !exchange->response_started && x->req != NULL &&
           x->peer == TA_PEER_HERE && is_here(x);
}

/*
 * The exchange and its callables own each other until it is closed, and the collector knows none
 * of them (ta_native_exchange_new); then it lets them go.
 */
static PyObject *callable(ta_native_exchange *native, PyObject **own, const PyMethodDef *def)
{
    if (*own != NULL)
        return Py_NewRef(*own);
    PyObject *made = PyCFunction_NewEx((PyMethodDef *)def, (PyObject *)native, NULL);
    if (made != NULL && native->req != NULL) {
        PyObject_GC_UnTrack(made);
        *own = Py_NewRef(made);
    }
    return made;
}

PyObject *ta_asgi_io_receive(ta_exchange *x)
{
    ta_native_exchange *native = ta_native_exchange_of(x);
    return callable(native, &native->asgi.receive, &receive_def);
}

PyObject *ta_asgi_io_send(ta_exchange *x)
{
    ta_native_exchange *native = ta_native_exchange_of(x);
    return callable(native, &native->asgi.send, &ta_asgi_io_send_def);
}

static Py_ssize_t is_ours_alone(PyObject *own)
{
    return own != NULL && Py_REFCNT(own) == 1;
}

Py_ssize_t ta_asgi_io_own_references(const ta_native_exchange *native)
{
    return is_ours_alone(native->asgi.receive) + is_ours_alone(native->asgi.send);
}

static void let_go(PyObject **own)
{
    if (*own != NULL && Py_REFCNT(*own) > 1)
        PyObject_GC_Track(*own);
    Py_CLEAR(*own);
}

void ta_asgi_io_let_go(ta_native_exchange *native)
{
    TA_ASSERT(native->req == NULL); /* no more are made */
    let_go(&native->asgi.receive);
    let_go(&native->asgi.send);
}

/* -- types ------------------------------------------------------------------------------------ */

static int io_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_asgi_io *io = (ta_asgi_io *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)io->x);
    Py_VISIT(io->message);
    Py_VISIT(io->job);
    return ta_coroutine_traverse(&io->co, visit, arg);
}

static int io_clear(PyObject *self)
{
    ta_asgi_io *io = (ta_asgi_io *)self;
    io->co.finished = true;
    ta_coroutine_clear(&io->co);
    Py_CLEAR(io->x);
    Py_CLEAR(io->message);
    Py_CLEAR(io->job);
    return 0;
}

static void io_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)io_clear(self);
    ta_spares_give(spares_of(type, ta_state_of_class(type)), self);
    Py_DECREF(type);
}

static PyObject *io_name(PyObject *Py_UNUSED(self), void *closure)
{
    return PyUnicode_FromString(closure);
}

static PyMethodDef co_methods[] = {TA_COROUTINE_METHODS, {NULL}};
static PyGetSetDef receive_getset[] = {TA_COROUTINE_GETSET,
                                       {"__name__", io_name, NULL, NULL, "receive"},
                                       {"__qualname__", io_name, NULL, NULL, "receive"},
                                       {NULL}};
static PyGetSetDef send_getset[] = {TA_COROUTINE_GETSET,
                                    {"__name__", io_name, NULL, NULL, "send"},
                                    {"__qualname__", io_name, NULL, NULL, "send"},
                                    {NULL}};

#define IO_SLOTS(getset)                                                                           \
    TA_COROUTINE_SLOTS, {Py_tp_methods, co_methods}, {Py_tp_getset, getset},                       \
        {Py_tp_traverse, io_traverse}, {Py_tp_clear, io_clear}, {Py_tp_dealloc, io_dealloc},       \
    {                                                                                              \
        0, NULL                                                                                    \
    }

static PyType_Slot receive_slots[] = {IO_SLOTS(receive_getset)};
static PyType_Slot send_slots[] = {IO_SLOTS(send_getset)};

static PyType_Spec receive_spec = {
    .name = "turboapi._core.Receive",
    .basicsize = sizeof(ta_asgi_io),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = receive_slots,
};

static PyType_Spec send_spec = {
    .name = "turboapi._core.Send",
    .basicsize = sizeof(ta_asgi_io),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = send_slots,
};

int ta_asgi_io_init(PyObject *module, ta_state *st)
{
    ta_native_exchange_state *objects = &ta_server_objects_of(st)->native_exchange;
    if (ta_types_add(module, &receive_spec, NULL, &objects->receive_type) < 0 ||
        ta_types_add(module, &send_spec, NULL, &objects->send_type) < 0)
        return -1;
    objects->spare_receives = ta_spares_new(st, objects->receive_type);
    objects->spare_sends = ta_spares_new(st, objects->send_type);
    return objects->spare_receives && objects->spare_sends ? 0 : -1;
}
