/*
 * http_levels.c -- what one middleware has inside of it, for one request, and the request itself.
 *
 * Layer: py/plan.  The Python subclasses (middleware/_inside_task.py) have the methods for what
 * still runs when its middleware is done; most levels have nothing of that kind.
 */
#include "py/plan/http_middleware_int.h"

#include <structmember.h>

#include "py/support/types.h"

static ta_http_level *cast(PyObject *obj)
{
    return (ta_http_level *)obj;
}

/*
 * A new request, as its class's __init__ makes it: what that sets to False and None are attributes
 * of the class.  NULL with an exception.
 */
static PyObject *new_request(const ta_http_middleware *mw, PyObject *scope, PyObject *receive,
                             PyObject *send)
{
    const ta_names_state *names = &mw->st->names;
    PyTypeObject *type = mw->kit.request_type;
    PyObject *request = type->tp_alloc(type, 0);
    if (request != NULL && (PyObject_GenericSetAttr(request, names->scope, scope) < 0 ||
                            PyObject_GenericSetAttr(request, names->private_receive, receive) < 0 ||
                            PyObject_GenericSetAttr(request, names->private_send, send) < 0))
        Py_CLEAR(request);
    return request;
}

ta_http_level *ta_http_level_new(const ta_http_middleware *mw, ta_http_level *parent,
                                 PyObject *scope, PyObject *receive, PyObject *send)
{
    PyTypeObject *type = parent ? mw->kit.level_type : mw->kit.flight_type;
    ta_http_level *level = cast(type->tp_alloc(type, 0));
    if (level == NULL)
        return NULL;
    level->parent = (ta_http_level *)Py_XNewRef((PyObject *)parent);
    level->request = new_request(mw, scope, receive, send);
    if (level->request == NULL) {
        Py_DECREF((PyObject *)level);
        return NULL;
    }
    return level;
}

static bool is_empty(PyObject *list)
{
    return list == NULL || (PyList_Check(list) && PyList_GET_SIZE(list) == 0);
}

bool ta_http_level_is_idle(const ta_http_level *level)
{
    return is_empty(level->running) && is_empty(level->responses) && is_empty(level->waiting);
}

PyObject *ta_http_level_receive(const ta_http_middleware *mw, ta_http_level *level)
{
    if (level->parent == NULL)
        return PyMethod_New(mw->kit.receive_inside, (PyObject *)level);
    return PyObject_GetAttr(level->request, mw->st->names.wrapped_receive);
}

/* -- the type --------------------------------------------------------------------------------- */

/* A list that is made when somebody asks for it. */
static PyObject *get_list(PyObject *self, void *offset)
{
    PyObject **place = (PyObject **)(void *)((char *)self + (uintptr_t)offset);
    if (*place == NULL)
        *place = PyList_New(0);
    return Py_XNewRef(*place);
}

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_http_level *level = cast(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT((PyObject *)level->parent);
    Py_VISIT(level->running);
    Py_VISIT(level->responses);
    Py_VISIT(level->waiting);
    Py_VISIT(level->request);
    return 0;
}

static int clear(PyObject *self)
{
    ta_http_level *level = cast(self);
    Py_CLEAR(level->parent);
    Py_CLEAR(level->running);
    Py_CLEAR(level->responses);
    Py_CLEAR(level->waiting);
    Py_CLEAR(level->request);
    return 0;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"_parent", T_OBJECT, offsetof(ta_http_level, parent), READONLY, NULL},
    {"request", T_OBJECT, offsetof(ta_http_level, request), READONLY, NULL},
    {"_left", T_BOOL, offsetof(ta_http_level, left), 0, NULL},
    {"answered", T_BOOL, offsetof(ta_http_level, answered), 0, NULL},
    {NULL},
};

/* clang-format off */
#define LIST(name, field) \
    {name, get_list, NULL, NULL, (void *)(uintptr_t)offsetof(ta_http_level, field)}
/* clang-format on */

static PyGetSetDef getset[] = {
    LIST("_running", running),
    LIST("_responses", responses),
    LIST("_waiting", waiting),
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "What one middleware has inside of it, for one request."},
    {Py_tp_members, members},
    {Py_tp_getset, getset},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.HTTPLevel",
    .basicsize = sizeof(ta_http_level),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int ta_http_levels_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &spec, "HTTPLevel", &ta_plan_objects_of(st)->http_level_type);
}
