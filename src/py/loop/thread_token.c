/*
 * thread_token.c -- what anyio.from_thread needs in a worker thread.
 *
 * Layer: py/loop.
 */
#include "py/loop/thread_token.h"

#include "py/support/types.h"

static PyObject *token_backend(PyObject *self, void *Py_UNUSED(closure))
{
    ((ta_thread_token *)self)->used = true;
    return Py_NewRef(((ta_thread_token *)self)->backend);
}

static PyObject *token_native(PyObject *self, void *Py_UNUSED(closure))
{
    ((ta_thread_token *)self)->used = true;
    return Py_NewRef(((ta_thread_token *)self)->loop);
}

static void token_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_CLEAR(((ta_thread_token *)self)->backend);
    Py_CLEAR(((ta_thread_token *)self)->loop);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyGetSetDef token_getset[] = {
    {"backend_class", token_backend, NULL, NULL, NULL},
    {"native_token", token_native, NULL, NULL, NULL},
    {NULL},
};

static PyType_Slot token_slots[] = {
    {Py_tp_doc, "The event loop that a worker thread belongs to (anyio.lowlevel.EventLoopToken)."},
    {Py_tp_getset, token_getset},
    {Py_tp_dealloc, token_dealloc},
    {0, NULL},
};

static PyType_Spec token_spec = {
    .name = "turboapi._core.ThreadToken",
    .basicsize = sizeof(ta_thread_token),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = token_slots,
};

ta_thread_token *ta_thread_token_new(ta_state *st, PyObject *aioloop)
{
    PyObject *locals = ta_loop_objects_of(st)->pool.threadlocals;
    if (Py_IsNone(locals))
        return NULL;
    PyTypeObject *type = ta_loop_objects_of(st)->pool.token_type;
    ta_thread_token *token = (ta_thread_token *)type->tp_alloc(type, 0);
    if (token == NULL)
        goto error;
    /* Not kept in the state: to import it takes long, and an application without threads needs it
     * for nothing. */
    int found =
        ta_types_import_optional("anyio._backends._asyncio", "AsyncIOBackend", &token->backend);
    if (found < 0)
        goto error;
    if (found == 0)
        token->backend = Py_NewRef(Py_None);
    token->loop = Py_NewRef(aioloop);
    if (PyObject_SetAttrString(locals, "current_token", (PyObject *)token) < 0 ||
        PyObject_SetAttrString(locals, "current_cancel_scope", Py_None) < 0)
        goto error;
    return token;
error:
    PyErr_FormatUnraisable("Exception ignored while a worker thread started");
    Py_XDECREF(token);
    return NULL;
}

int ta_thread_token_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &token_spec, NULL, &ta_loop_objects_of(st)->pool.token_type);
}
