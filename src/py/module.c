/*
 * module.c -- the definition of turboapi._core: multi-phase init, traverse, clear.
 *
 * Layer: py (L4).  Each file's own part is made by its init function, see state.h.
 */
#include "py/support/state.h"

#include "py/json/shape.h"
#include "py/loop/evloop.h"
#include "py/loop/future.h"
#include "py/loop/prefetch.h"
#include "py/loop/selector.h"
#include "py/loop/task_pool.h"
#include "py/loop/thread_pool.h"
#include "py/server/app.h"
#include "py/server/native_int.h"
#include "py/support/exc.h"
#include "py/support/in_context.h"

typedef int (*init_fn)(PyObject *module, ta_state *st);

/* In this order; an entry may use what those before it made. */
static const init_fn inits[] = {
    ta_exc_init,
    ta_evloop_init,
    ta_selector_init,
    ta_waiter_init,
    ta_task_init,
    ta_pool_init,
    ta_ahead_init,
    ta_json_init,
    ta_shape_init,
    ta_router_init,
    ta_engine_init,
    ta_app_init,
    ta_filters_init,
    ta_native_init,
    ta_request_body_init,
    ta_asgi_io_init,
    ta_streaming_response_init,
    ta_ws_init,
    ta_server_init,
    ta_in_context_init,
};

/* -- helpers for the init functions ----------------------------------------------------------- */

int ta_add_type(PyObject *module, PyType_Spec *spec, const char *name, PyTypeObject **out)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL)
        return -1;
    *out = (PyTypeObject *)type;
    if (name != NULL && PyModule_AddObjectRef(module, name, type) < 0)
        return -1; /* *out is owned by the state, which is cleared */
    return 0;
}

PyObject *ta_import_attr(const char *module, const char *attr)
{
    PyObject *mod = PyImport_ImportModule(module);
    if (mod == NULL)
        return NULL;
    PyObject *res = PyObject_GetAttrString(mod, attr);
    Py_DECREF(mod);
    return res;
}

int ta_import_optional(const char *module, const char *attr, PyObject **out)
{
    *out = ta_import_attr(module, attr);
    if (*out != NULL)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_ImportError) && !PyErr_ExceptionMatches(PyExc_AttributeError))
        return -1;
    PyErr_Clear();
    return 0;
}

/* -- the module ------------------------------------------------------------------------------- */

static int init_names(ta_names_state *names)
{
#define TA_NAME(id) TA_NAME2(id, #id)
#define TA_NAME2(id, text)                                                                         \
    if ((names->id = PyUnicode_InternFromString(text)) == NULL)                                    \
        return -1;
    TA_NAMES(TA_NAME, TA_NAME2)
#undef TA_NAME
#undef TA_NAME2
    return 0;
}

static int module_exec(PyObject *module)
{
    ta_state *st = ta_state_of_module(module);
    if (init_names(&st->o.names) < 0)
        return -1;
    for (size_t i = 0; i < TA_COUNTOF(inits); i++) {
        if (inits[i](module, st) < 0)
            return -1;
    }
    return 0;
}

/* ta_objects is an array of object pointers of two static types: read as bytes, no aliasing. */
enum { NOBJECTS = sizeof(ta_objects) / sizeof(PyObject *) };
_Static_assert(sizeof(PyObject *) == sizeof(PyTypeObject *), "object pointers differ");

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    ta_state *st = ta_state_of_module(module);
    if (st == NULL)
        return 0;
    for (size_t i = 0; i < NOBJECTS; i++) {
        PyObject *obj;
        memcpy(&obj, (char *)&st->o + i * sizeof obj, sizeof obj);
        Py_VISIT(obj);
    }
    return ta_engine_traverse(&st->engine, visit, arg);
}

static int module_clear(PyObject *module)
{
    ta_state *st = ta_state_of_module(module);
    if (st == NULL)
        return 0;
    for (size_t i = 0; i < NOBJECTS; i++) {
        PyObject *obj, *none = NULL;
        memcpy(&obj, (char *)&st->o + i * sizeof obj, sizeof obj);
        memcpy((char *)&st->o + i * sizeof obj, &none, sizeof none);
        Py_XDECREF(obj);
    }
    ta_engine_clear(&st->engine);
    return 0;
}

static void module_free(void *module)
{
    (void)module_clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    TA_MODULE_SLOTS{0, NULL},
};

struct PyModuleDef ta_module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "turboapi._core",
    .m_doc = "The C core: server, event loop hosting, routing, plans.",
    .m_size = sizeof(ta_state),
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&ta_module_def);
}
