/*
 * inner_gzip.c -- what Starlette's GZip does to the messages of a response, where other middleware
 * is outside of it: send() as the application inside has it.
 *
 * Layer: py (L4).  As IdentityResponder and GZipResponder of Starlette's, step by step: the message
 * that begins the response waits for the first piece of the body.  From the first unusual message
 * on (fields that are no list of pairs of bytes, a body that is not bytes), a responder of
 * Starlette's has the rest of them, which `_take_over` makes and which packs with `pack`.
 */
#include "py/server/inner_filter_int.h"

#include <structmember.h>

#include "py/support/spares.h"
#include "py/support/types.h"
#include "json/num.h"

enum { SHORT = 4096 }; /* below it, giving up the GIL costs more than it gives */

typedef enum stream_state {
    STREAM_NONE, /* nothing was packed yet */
    STREAM_HERE,
    STREAM_AWAY, /* a thread packs */
    STREAM_ENDED
} stream_state;

typedef struct gzip_send {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    inner_filter *owner; /* owned */
    PyObject *send;      /* owned */
    PyObject *initial;   /* owned dict, or NULL: the message that begins the response */
    PyObject *other;     /* owned, or NULL: has the messages from now on */
    ta_packer *packer;   /* owned; NULL unless STREAM_HERE */
    stream_state stream;
    bool packs;      /* the client takes gzip */
    bool left_alone; /* the response: as it is */
    bool started;    /* its first piece was there */
} gzip_send;

typedef enum sending_state {
    SENDING_NEW,
    SENDING_PACKING, /* a thread packs */
    SENDING_INITIAL, /* the message that was held back is sent */
    SENDING_LAST     /* and the message itself, or whatever deals with it */
} sending_state;

/* One call of it. */
typedef struct gzip_sending {
    ta_coroutine co;
    gzip_send *gzip;         /* owned, until the end */
    PyObject *message, *job; /* owned, or NULL */
    sending_state state;
    bool first, more; /* of the piece */
} gzip_sending;

static const filter *rule_of(const gzip_send *gzip)
{
    return &gzip->owner->filters->items[0];
}

static const ta_names_state *names_of(const gzip_sending *run)
{
    return &run->gzip->owner->st->names;
}

/* -- the stream ------------------------------------------------------------------------------- */

static ta_packer *new_stream(gzip_send *gzip)
{
    ta_packer *packer = atomic_exchange(&gzip->owner->packer, NULL);
    if (packer == NULL)
        packer = ta_packer_new(TA_CODING_GZIP, rule_of(gzip)->levels[0]);
    if (packer == NULL)
        PyErr_NoMemory();
    return packer;
}

/* It is for another response now. */
static void give_stream(inner_filter *owner, ta_packer *packer)
{
    ta_packer *none = NULL;
    if (packer != NULL &&
        !(ta_packer_reset(packer) && atomic_compare_exchange_strong(&owner->packer, &none, packer)))
        ta_packer_free(packer);
}

static void raise_ended(void)
{
    PyObject *error = ta_types_import("zlib", "error");
    if (error != NULL) /* what zlib says */
        PyErr_SetString(error, "Error -2 while compressing data: inconsistent stream state");
    Py_XDECREF(error);
}

/* Takes the stream away from the response; NULL with an exception. */
static ta_packer *take_stream(gzip_send *gzip)
{
    ta_packer *packer = NULL;
    switch (gzip->stream) {
    case STREAM_NONE:
        packer = new_stream(gzip);
        break;
    case STREAM_HERE:
        packer = gzip->packer;
        break;
    case STREAM_AWAY:
        /* There are two sends at once, or one after a cancelled one. */
        PyErr_SetString(PyExc_RuntimeError, "A piece of the response is still being compressed.");
        break;
    case STREAM_ENDED:
        raise_ended();
        break;
    }
    if (packer != NULL) {
        gzip->packer = NULL;
        gzip->stream = STREAM_AWAY;
    }
    return packer;
}

/* A piece was packed with it. */
static void put_stream(gzip_send *gzip, ta_packer *packer, bool more)
{
    gzip->stream = more ? STREAM_HERE : STREAM_ENDED;
    if (more)
        gzip->packer = packer;
    else
        give_stream(gzip->owner, packer);
}

/* The piece, packed: new bytes, or NULL with an exception. */
static PyObject *pack(gzip_send *gzip, ta_str data, bool more)
{
    int rc;
    ta_buf out;
    PyObject *packed = NULL;
    ta_packer *packer = take_stream(gzip);
    ta_pack_end end = more ? TA_PACK_FLUSH : TA_PACK_FINISH;
    if (packer == NULL)
        return NULL;
    ta_buf_init(&out);
    if (data.len < SHORT) {
        rc = ta_packer_write(packer, data, end, &out);
    } else {
        Py_BEGIN_ALLOW_THREADS
        rc = ta_packer_write(packer, data, end, &out);
        Py_END_ALLOW_THREADS
    }
    put_stream(gzip, packer, more && rc == TA_OK);
    if (rc != TA_OK)
        PyErr_NoMemory();
    else
        packed = PyBytes_FromStringAndSize(ta_buf_str(&out).ptr, (Py_ssize_t)out.len);
    ta_buf_free(&out);
    return packed;
}

static PyObject *gzip_pack(PyObject *self, PyObject *args)
{
    Py_buffer data;
    int more;
    if (!PyArg_ParseTuple(args, "y*p:pack", &data, &more))
        return NULL;
    PyObject *packed = NULL;
    if (((gzip_send *)self)->owner != NULL)
        packed = pack((gzip_send *)self, ta_str_of(data.buf, (size_t)data.len), more);
    else
        PyErr_SetString(PyExc_RuntimeError, "the middleware is gone");
    PyBuffer_Release(&data);
    return packed;
}

/* -- messages --------------------------------------------------------------------------------- */

typedef enum kind {
    KIND_START,
    KIND_BODY,
    KIND_PATH,
    KIND_ASIDE, /* passes through */
    KIND_OTHER  /* is not passed on */
} kind;

static kind kind_of(const ta_names_state *names, PyObject *type)
{
    if (ta_asgi_io_same_text(type, names->http_response_start))
        return KIND_START;
    if (ta_asgi_io_same_text(type, names->http_response_body))
        return KIND_BODY;
    if (ta_asgi_io_same_text(type, names->http_response_pathsend))
        return KIND_PATH;
    return ta_asgi_io_same_text(type, names->http_response_early_hint) ||
                   ta_asgi_io_same_text(type, names->http_response_trailers)
               ? KIND_ASIDE
               : KIND_OTHER;
}

/* message.get(name, False) as a truth value: 1, 0, or -1 with an exception. */
static int is_true(PyObject *message, PyObject *name)
{
    PyObject *value = NULL;
    int rc = PyDict_GetItemRef(message, name, &value);
    if (rc > 0)
        rc = PyObject_IsTrue(value);
    Py_XDECREF(value);
    return rc;
}

/* Waits for `awaitable` (steals, may be NULL with an exception) in that state. */
static ta_outcome wait_in(gzip_sending *run, sending_state state, PyObject *awaitable)
{
    if (awaitable == NULL)
        return TA_FAILED;
    run->state = state;
    return ta_coroutine_await(&run->co, awaitable);
}

static ta_outcome send_message(gzip_sending *run)
{
    return wait_in(run, SENDING_LAST, PyObject_CallOneArg(run->gzip->send, run->message));
}

static ta_outcome send_both(gzip_sending *run)
{
    const gzip_send *gzip = run->gzip;
    return wait_in(run, SENDING_INITIAL, PyObject_CallOneArg(gzip->send, gzip->initial));
}

/* Starlette's responder has this message and those that follow. */
static ta_outcome take_over(gzip_sending *run)
{
    gzip_send *gzip = run->gzip;
    PyErr_Clear();
    if (gzip->other == NULL)
        gzip->other = PyObject_CallMethod(
            (PyObject *)gzip->owner, "_take_over", "OOOOOO", (PyObject *)gzip, gzip->send,
            gzip->packs ? Py_True : Py_False, gzip->initial ? gzip->initial : Py_None,
            gzip->left_alone ? Py_True : Py_False, gzip->started ? Py_True : Py_False);
    if (gzip->other == NULL)
        return TA_FAILED;
    return wait_in(run, SENDING_LAST, PyObject_CallOneArg(gzip->other, run->message));
}

/* Whether a response with these fields is left alone: 1, 0, or -1: they are unusual. */
static int excludes(const filter *rule, PyObject *headers)
{
    PyObject *value = NULL;
    int rc = ta_inner_fields_find(headers, TA_STR("content-encoding"), &value);
    Py_CLEAR(value);
    if (rc == 0 && (rc = ta_inner_fields_find(headers, TA_STR("content-type"), &value)) >= 0)
        rc = ta_pack_filter_excludes(rule, value ? ta_filters_str(value) : TA_STR(""));
    Py_XDECREF(value);
    return rc;
}

/* Whether a response that begins with the message is left alone; -1: it is an unusual one, and
 * an exception may be set. */
static int look_at(const gzip_sending *run)
{
    const ta_names_state *names = names_of(run);
    PyObject *headers = NULL, *status = NULL;
    int rc = PyDict_GetItemRef(run->message, names->headers, &headers);
    if (rc == 0 && (headers = PyList_New(0)) != NULL)
        rc = PyDict_SetItem(run->message, names->headers, headers);
    if (rc >= 0 && PyDict_GetItemRef(run->message, names->status, &status) > 0 &&
        PyLong_Check(status)) {
        bool partial = PyLong_AsLong(status) == 206;
        rc = excludes(rule_of(run->gzip), headers);
        if (rc == 0)
            rc = partial;
    } else {
        rc = -1;
    }
    Py_XDECREF(status);
    Py_XDECREF(headers);
    return rc;
}

static ta_outcome begin(gzip_sending *run)
{
    gzip_send *gzip = run->gzip;
    int left_alone = look_at(run);
    if (left_alone < 0 || PyErr_Occurred())
        return take_over(run);
    Py_XSETREF(gzip->initial, Py_NewRef(run->message));
    gzip->left_alone = left_alone;
    return left_alone ? send_message(run) : TA_DONE;
}

/* -- pieces of the body ----------------------------------------------------------------------- */

/* The fields of a packed response; length: -1 when it is not told.  0, or -1 with an exception. */
static int change_packed(PyObject *list, int64_t length)
{
    char text[TA_JSON_INT_MAX];
    ta_str name = TA_STR("content-length");
    if (ta_inner_fields_set(list, TA_STR("content-encoding"), TA_STR("gzip")) < 0)
        return -1;
    if (length < 0)
        return ta_inner_fields_remove(list, name);
    size_t n = (size_t)(ta_json_write_i64(text, length) - text);
    return ta_inner_fields_set(list, name, ta_str_of(text, n));
}

/* What the middleware does to the fields of the message that waits; length: of a whole body that
 * was packed, or -1.  0, or -1 with an exception. */
static int change_initial(const gzip_sending *run, Py_ssize_t length)
{
    const gzip_send *gzip = run->gzip;
    PyObject *headers = NULL, *list = NULL;
    int rc = -1, trailers = is_true(gzip->initial, names_of(run)->trailers);
    if (trailers < 0 || PyDict_GetItemRef(gzip->initial, names_of(run)->headers, &headers) < 0)
        return -1;
    if (headers != NULL && PyList_CheckExact(headers))
        list = ta_inner_fields_copy(headers);
    if (list == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "the fields of the response are no pairs of bytes");
    } else if (ta_inner_fields_add_vary(list, TA_STR("Accept-Encoding")) == 0 &&
               (!gzip->packs || change_packed(list, trailers ? -1 : length) == 0)) {
        rc = PyList_SetSlice(headers, 0, PY_SSIZE_T_MAX, list); /* the list is the message's */
    }
    Py_XDECREF(list);
    Py_XDECREF(headers);
    return rc;
}

/* The piece was packed (steals, may be NULL with an exception). */
static ta_outcome send_packed(gzip_sending *run, PyObject *packed)
{
    bool done =
        packed != NULL &&
        (!run->first || change_initial(run, run->more ? -1 : PyBytes_GET_SIZE(packed)) == 0) &&
        PyDict_SetItem(run->message, names_of(run)->body, packed) == 0;
    Py_XDECREF(packed);
    if (!done)
        return TA_FAILED;
    return run->first ? send_both(run) : send_message(run);
}

/* Has a thread pack the bytes. */
static ta_outcome offload(gzip_sending *run, PyObject *body)
{
    gzip_send *gzip = run->gzip;
    ta_piece piece = ta_piece_bytes(body);
    ta_packer *packer = take_stream(gzip);
    if (packer == NULL)
        return TA_FAILED;
    run->job = ta_pack_job_new(gzip->owner->st, &packer, &piece, run->more);
    if (run->job == NULL) {
        put_stream(gzip, packer, true);
        return TA_FAILED;
    }
    return wait_in(run, SENDING_PACKING, PyObject_CallOneArg(rule_of(gzip)->offload, run->job));
}

static ta_outcome packed_by_thread(gzip_sending *run)
{
    ta_packer *packer;
    ta_str packed;
    if (!ta_pack_job_take(run->job, &packer, &packed))
        return TA_FAILED;
    put_stream(run->gzip, packer, run->more);
    return send_packed(run, PyBytes_FromStringAndSize(packed.ptr, (Py_ssize_t)packed.len));
}

static ta_outcome pack_piece(gzip_sending *run, PyObject *body)
{
    if (PyBytes_GET_SIZE(body) >= rule_of(run->gzip)->thread_minimum)
        return offload(run, body);
    return send_packed(run, pack(run->gzip, ta_filters_str(body), run->more));
}

static ta_outcome first_piece(gzip_sending *run, PyObject *body /* NULL: it has none */)
{
    gzip_send *gzip = run->gzip;
    Py_ssize_t length = body ? PyBytes_GET_SIZE(body) : 0;
    bool small = length < rule_of(gzip)->minimum && !run->more;
    if (gzip->initial == NULL || (body == NULL && !small))
        return take_over(run); /* it fails there */
    gzip->started = run->first = true;
    if (small)
        return send_both(run);
    if (gzip->packs)
        return pack_piece(run, body);
    return change_initial(run, -1) < 0 ? TA_FAILED : send_both(run);
}

static ta_outcome next_piece(gzip_sending *run, PyObject *body /* NULL: it has none */)
{
    ta_outcome outcome = TA_FAILED;
    PyObject *bytes = body ? Py_NewRef(body) : PyBytes_FromStringAndSize(NULL, 0);
    if (bytes == NULL)
        return TA_FAILED;
    if (run->gzip->packs)
        outcome = pack_piece(run, bytes);
    else if (PyDict_SetItem(run->message, names_of(run)->body, bytes) == 0)
        outcome = send_message(run);
    Py_DECREF(bytes);
    return outcome;
}

static ta_outcome take_piece(gzip_sending *run)
{
    gzip_send *gzip = run->gzip;
    PyObject *body = NULL;
    ta_outcome outcome;
    int more = is_true(run->message, names_of(run)->more_body);
    if (more < 0 || PyDict_GetItemRef(run->message, names_of(run)->body, &body) < 0 ||
        (body != NULL && !PyBytes_CheckExact(body))) {
        outcome = take_over(run);
    } else {
        run->more = more;
        outcome = gzip->started ? next_piece(run, body) : first_piece(run, body);
    }
    Py_XDECREF(body);
    return outcome;
}

/* -- a call ----------------------------------------------------------------------------------- */

static ta_outcome take_message(gzip_sending *run)
{
    gzip_send *gzip = run->gzip;
    PyObject *type = NULL;
    if (gzip->other != NULL || !PyDict_CheckExact(run->message) ||
        PyDict_GetItemRef(run->message, names_of(run)->type, &type) <= 0)
        return take_over(run);
    kind what = kind_of(names_of(run), type);
    Py_DECREF(type);
    switch (what) {
    case KIND_START:
        return begin(run);
    case KIND_BODY:
        return gzip->left_alone ? send_message(run) : take_piece(run);
    case KIND_PATH:
        if (gzip->left_alone)
            return send_message(run);
        return gzip->initial ? send_both(run) : take_over(run);
    case KIND_ASIDE:
        return send_message(run);
    case KIND_OTHER:
        break;
    }
    return TA_DONE;
}

static ta_outcome go_on(gzip_sending *run)
{
    switch (run->state) {
    case SENDING_NEW:
        return take_message(run);
    case SENDING_PACKING:
        return packed_by_thread(run);
    case SENDING_INITIAL:
        return send_message(run);
    case SENDING_LAST:
        break;
    }
    return TA_DONE;
}

static void sending_drop(gzip_sending *run)
{
    Py_CLEAR(run->gzip);
    Py_CLEAR(run->message);
    Py_CLEAR(run->job);
}

static ta_outcome sending_advance(ta_coroutine *co, PyObject *value)
{
    gzip_sending *run = (gzip_sending *)co;
    TA_ASSERT(run->gzip != NULL); /* not after its end */
    ta_outcome outcome = TA_FAILED;
    if (value != NULL || !PyErr_Occurred())
        outcome = go_on(run);
    Py_XDECREF(value);
    if (outcome != TA_WAITS)
        sending_drop(run);
    return outcome;
}

static PyObject *new_sending(PyObject *self, PyObject *message)
{
    gzip_send *gzip = (gzip_send *)self;
    if (gzip->owner == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the middleware is gone");
        return NULL;
    }
    gzip_sending *run = (gzip_sending *)ta_spares_take(
        ta_server_objects_of(gzip->owner->st)->server.spare_gzip_sendings);
    if (run == NULL)
        return NULL;
    ta_coroutine_init(&run->co, sending_advance);
    run->gzip = (gzip_send *)Py_NewRef(self);
    run->message = Py_NewRef(message);
    run->job = NULL;
    run->state = SENDING_NEW;
    run->first = run->more = false;
    PyObject_GC_Track((PyObject *)run);
    return (PyObject *)run;
}

static int sending_traverse(PyObject *self, visitproc visit, void *arg)
{
    gzip_sending *run = (gzip_sending *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)run->gzip);
    Py_VISIT(run->message);
    return ta_coroutine_traverse(&run->co, visit, arg);
}

static int sending_clear(PyObject *self)
{
    gzip_sending *run = (gzip_sending *)self;
    run->co.finished = true;
    ta_coroutine_clear(&run->co);
    sending_drop(run);
    return 0;
}

static void sending_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)sending_clear(self);
    ta_spares_give(ta_server_objects_of(ta_state_of_class(type))->server.spare_gzip_sendings, self);
    Py_DECREF(type);
}

/* -- send() ----------------------------------------------------------------------------------- */

/* With other arguments than one by position. */
static PyObject *send_other(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"message", NULL};
    PyObject *message;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:send", keywords, &message))
        return NULL;
    return new_sending(self, message);
}

static PyObject *send_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf,
                                 PyObject *kwnames)
{
    if (TA_LIKELY(PyVectorcall_NARGS(nargsf) == 1 && kwnames == NULL))
        return new_sending(self, args[0]);
    return ta_types_call_by_tuple(send_other, self, args, nargsf, kwnames);
}

PyObject *ta_inner_gzip_send_new(inner_filter *owner, PyObject *send, bool packs)
{
    gzip_send *gzip =
        PyObject_GC_New(gzip_send, ta_server_objects_of(owner->st)->server.gzip_send_type);
    if (gzip == NULL)
        return NULL;
    gzip->vectorcall = send_vectorcall;
    gzip->owner = (inner_filter *)Py_NewRef((PyObject *)owner);
    gzip->send = Py_NewRef(send);
    gzip->initial = gzip->other = NULL;
    gzip->packer = NULL;
    gzip->stream = STREAM_NONE;
    gzip->packs = packs;
    gzip->left_alone = gzip->started = false;
    PyObject_GC_Track((PyObject *)gzip);
    return (PyObject *)gzip;
}

static int send_traverse(PyObject *self, visitproc visit, void *arg)
{
    gzip_send *gzip = (gzip_send *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)gzip->owner);
    Py_VISIT(gzip->send);
    Py_VISIT(gzip->initial);
    Py_VISIT(gzip->other);
    return 0;
}

static int send_clear(PyObject *self)
{
    gzip_send *gzip = (gzip_send *)self;
    if (gzip->owner != NULL)
        give_stream(gzip->owner, gzip->packer);
    gzip->packer = NULL;
    Py_CLEAR(gzip->owner);
    Py_CLEAR(gzip->send);
    Py_CLEAR(gzip->initial);
    Py_CLEAR(gzip->other);
    return 0;
}

static void send_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)send_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* -- the types -------------------------------------------------------------------------------- */

static PyMethodDef send_methods[] = {
    {"pack", gzip_pack, METH_VARARGS,
     "pack($self, data, more, /)\n--\n\nThe next piece of the response's stream."},
    {NULL},
};

static PyMemberDef send_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(gzip_send, vectorcall), READONLY, NULL},
    {NULL},
};

static PyType_Slot send_slots[] = {
    {Py_tp_doc, "send() inside of GZip."}, {Py_tp_call, PyVectorcall_Call},
    {Py_tp_methods, send_methods},         {Py_tp_members, send_members},
    {Py_tp_traverse, send_traverse},       {Py_tp_clear, send_clear},
    {Py_tp_dealloc, send_dealloc},         {0, NULL},
};

static PyType_Spec send_spec = {
    .name = "turboapi._core.GZipSend",
    .basicsize = sizeof(gzip_send),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = send_slots,
};

static PyObject *sending_name(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyUnicode_FromString("send");
}

static PyMethodDef sending_methods[] = {TA_COROUTINE_METHODS, {NULL}};
static PyGetSetDef sending_getset[] = {TA_COROUTINE_GETSET,
                                       {"__name__", sending_name, NULL, NULL, NULL},
                                       {"__qualname__", sending_name, NULL, NULL, NULL},
                                       {NULL}};

static PyType_Slot sending_slots[] = {
    TA_COROUTINE_SLOTS,
    {Py_tp_methods, sending_methods},
    {Py_tp_getset, sending_getset},
    {Py_tp_traverse, sending_traverse},
    {Py_tp_clear, sending_clear},
    {Py_tp_dealloc, sending_dealloc},
    {0, NULL},
};

static PyType_Spec sending_spec = {
    .name = "turboapi._core.GZipSending",
    .basicsize = sizeof(gzip_sending),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sending_slots,
};

int ta_inner_gzip_init(PyObject *module, ta_state *st)
{
    ta_server_types *types = &ta_server_objects_of(st)->server;
    if (ta_types_add(module, &send_spec, NULL, &types->gzip_send_type) < 0 ||
        ta_types_add(module, &sending_spec, NULL, &types->gzip_sending_type) < 0)
        return -1;
    types->spare_gzip_sendings = ta_spares_new(st, types->gzip_sending_type);
    return types->spare_gzip_sendings ? 0 : -1;
}
