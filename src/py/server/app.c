/*
 * app.c -- the App type: a router, an ASGI application, and how they are renewed.
 *
 * Layer: py (L4).
 */
#include "py/server/app.h"

#include "base/clock.h"

#include "py/support/types.h"

static int app_traverse(PyObject *self, visitproc visit, void *arg)
{
    ta_app *app = (ta_app *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(app->asgi);
    Py_VISIT(app->router);
    Py_VISIT(app->stack);
    Py_VISIT(app->error_app);
    Py_VISIT(app->rebuild);
    Py_VISIT(app->scope_items);
    int rc = ta_guards_traverse(app->guards, visit, arg);
    return rc ? rc : ta_filters_traverse(app->filters, visit, arg);
}

static int app_clear(PyObject *self)
{
    ta_app *app = (ta_app *)self;
    Py_CLEAR(app->asgi);
    Py_CLEAR(app->router);
    Py_CLEAR(app->stack);
    Py_CLEAR(app->error_app);
    Py_CLEAR(app->rebuild);
    Py_CLEAR(app->scope_items);
    return 0;
}

static void app_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)app_clear(self);
    ta_filters_free(((ta_app *)self)->filters); /* immutable: still used by what clears the cycle */
    ta_guards_free(((ta_app *)self)->guards);
    Py_CLEAR(((ta_app *)self)->root_path);
    Py_CLEAR(((ta_app *)self)->prefix);
    type->tp_free(self);
    Py_DECREF(type);
}

static bool is_none(PyObject *obj)
{
    return obj == NULL || Py_IsNone(obj);
}

static int check(ta_state *st, PyObject *asgi, PyObject *router, PyObject *stack, PyObject *items,
                 int direct)
{
    if (!PyCallable_Check(asgi)) {
        PyErr_SetString(PyExc_TypeError, "asgi must be callable");
        return -1;
    }
    if (!is_none(router) && !Py_IS_TYPE(router, ta_plan_objects_of(st)->router_type)) {
        PyErr_Format(PyExc_TypeError, "router must be a Router, not %.100s",
                     Py_TYPE(router)->tp_name);
        return -1;
    }
    if (!is_none(stack) && !PyCallable_Check(stack)) {
        PyErr_SetString(PyExc_TypeError, "stack must be callable");
        return -1;
    }
    if (!is_none(items) && !PyDict_Check(items)) {
        PyErr_SetString(PyExc_TypeError, "scope_items must be a dict");
        return -1;
    }
    if (direct && is_none(router)) {
        PyErr_SetString(PyExc_ValueError, "direct needs a router");
        return -1;
    }
    return 0;
}

/* The names of what is answered in C. */
static int read_answers(ta_app *app, PyObject *names)
{
    const struct {
        const char *name;
        bool *place;
    } known[] = {
        {"not_found", &app->not_found},
        {"not_allowed", &app->not_allowed},
        {"redirect_slashes", &app->redirect_slashes},
    };
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        size_t k = 0;
        while (k < TA_COUNTOF(known) && !(PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(
                                                                       name, known[k].name) == 0))
            k++;
        if (k == TA_COUNTOF(known)) {
            PyErr_Format(PyExc_ValueError, "answers: unknown answer %R", name);
            return -1;
        }
        *known[k].place = true;
    }
    return 0;
}

static PyObject *keep(PyObject *obj)
{
    return is_none(obj) ? NULL : Py_NewRef(obj);
}

static int take_root(ta_app *app, PyObject *root)
{
    Py_ssize_t len;
    app->root_path = root ? Py_NewRef(root) : PyUnicode_FromString("");
    const char *utf8 = app->root_path ? PyUnicode_AsUTF8AndSize(app->root_path, &len) : NULL;
    if (utf8 == NULL)
        return -1;
    app->root = utf8;
    app->root_len = (size_t)len;
    return 0;
}

static PyObject *app_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"asgi",        "router",    "direct",  "error_app", "rebuild",
                               "scope_items", "root_path", "filters", "pathsend",  "answers",
                               "stack",       "guards",    "prefix",  "packs",     NULL};
    PyObject *asgi, *router = NULL, *error_app = NULL, *rebuild = NULL, *items = NULL, *root = NULL;
    PyObject *filters = NULL, *answers = NULL, *stack = NULL, *guards = NULL;
    PyObject *prefix = NULL;
    int direct = 0, pathsend = 0, packs = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OpOOOUO!pO!OO!Up:App", keywords, &asgi,
                                     &router, &direct, &error_app, &rebuild, &items, &root,
                                     &PyTuple_Type, &filters, &pathsend, &PyTuple_Type, &answers,
                                     &stack, &PyTuple_Type, &guards, &prefix, &packs))
        return NULL;
    ta_state *st = ta_state_of(type);
    if (st == NULL || check(st, asgi, router, stack, items, direct) < 0)
        return NULL;
    ta_app *app = (ta_app *)type->tp_alloc(type, 0);
    if (app == NULL)
        return NULL;
    app->asgi = Py_NewRef(asgi);
    app->router = keep(router);
    app->stack = keep(stack);
    app->error_app = keep(error_app);
    app->rebuild = keep(rebuild);
    app->prefix = keep(prefix);
    app->made = ta_clock_ns();
    app->direct = direct != 0;
    app->pathsend = pathsend != 0;
    app->packs = packs != 0;
    if (answers != NULL && read_answers(app, answers) < 0)
        goto error;
    if (take_root(app, root) < 0)
        goto error;
    if (filters != NULL && PyTuple_GET_SIZE(filters) > 0 &&
        (app->filters = ta_filters_new(filters)) == NULL)
        goto error;
    if (guards != NULL && (app->guards = ta_guards_new(guards)) == NULL)
        goto error;
    /* Copied: it is merged into scopes by any thread. */
    if (!is_none(items) && (app->scope_items = PyDict_Copy(items)) == NULL)
        goto error;
    return (PyObject *)app;
error:
    Py_DECREF(app);
    return NULL;
}

static PyObject *app_invalidate(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    atomic_store(&((ta_app *)self)->stale, true);
    Py_RETURN_NONE;
}

static PyObject *app_get(PyObject *self, void *closure)
{
    PyObject *obj = *(PyObject **)(void *)((char *)self + (size_t)(uintptr_t)closure);
    return Py_NewRef(obj ? obj : Py_None);
}

static PyObject *app_get_direct(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((ta_app *)self)->direct);
}

static PyMethodDef methods[] = {
    {"invalidate", app_invalidate, METH_NOARGS,
     "invalidate($self, /)\n--\n\n"
     "Routes, handlers or middleware have changed: the next request is served by rebuild()."},
    {NULL},
};

#define AT(member) ((void *)(uintptr_t)offsetof(ta_app, member))
static PyGetSetDef getset[] = {
    {"asgi", app_get, NULL, "The ASGI application.", AT(asgi)},
    {"router", app_get, NULL, "The Router, or None.", AT(router)},
    {"error_app", app_get, NULL, "Answers for an exception of a plan, or None.", AT(error_app)},
    {"direct", app_get_direct, NULL, "Matched plans run without the ASGI application.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "App(asgi, *, router=None, direct=False, error_app=None, rebuild=None, scope_items=None,\n"
     "    root_path='', filters=(), pathsend=False, answers=(), stack=None, guards=(),\n"
     "    prefix='', packs=False)\n--\n\n"
     "What the native server serves; see docs/engine.md, App."},
    {Py_tp_new, app_new},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_traverse, app_traverse},
    {Py_tp_clear, app_clear},
    {Py_tp_dealloc, app_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.App",
    .basicsize = sizeof(ta_app),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int ta_app_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &spec, "App", &ta_server_objects_of(st)->server.app_type);
}
