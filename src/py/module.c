/*
 * module.c -- the definition of turboapi._core: multi-phase init, traverse, clear.
 *
 * Layer: py, above all others.  Each file's own part is made by its init function, see state.h.
 */
#include "py/exchange/asgi_exchange.h"
#include "py/json/encode.h"
#include "py/json/shape.h"
#include "py/loop/call_queue.h"
#include "py/loop/evloop.h"
#include "py/loop/future.h"
#include "py/loop/gc_time.h"
#include "py/loop/idle_threads.h"
#include "py/loop/prefetch.h"
#include "py/loop/selector.h"
#include "py/loop/socket_transport.h"
#include "py/loop/task_pool.h"
#include "py/loop/thread_pool.h"
#include "py/plan/forms.h"
#include "py/plan/header_fields.h"
#include "py/plan/http_middleware.h"
#include "py/plan/innermost.h"
#include "py/plan/passed_response.h"
#include "py/plan/plan_objects.h"
#include "py/plan/router.h"
#include "py/server/server_objects.h"
#include "py/support/attributes.h"
#include "py/support/exc.h"
#include "py/support/in_context.h"
#include "py/support/pending.h"
#include "py/support/spares.h"

typedef int (*init_fn)(PyObject *module, ta_state *st);

/* In this order, layer by layer; an entry may use what those before it made. */
static const init_fn inits[] = {
    /* support */
    ta_exc_init,
    ta_in_context_init,
    ta_pending_init,
    ta_spares_init,
    ta_attributes_init,
    /* json */
    ta_encode_init,
    ta_shape_init,
    /* loop */
    ta_evloop_init,
    ta_socket_transport_init,
    ta_selector_init,
    ta_future_init,
    ta_task_pool_init,
    ta_gc_time_init,
    ta_thread_pool_init,
    ta_call_queue_init,
    ta_idle_threads_init,
    ta_prefetch_init,
    /* exchange */
    ta_asgi_exchange_init,
    /* plan */
    ta_router_init,
    ta_plan_objects_init,
    ta_innermost_init,
    ta_header_fields_init,
    ta_passed_response_init,
    ta_http_middleware_init,
    ta_forms_init,
    /* server */
    ta_app_init,
    ta_pack_filter_init,
    ta_packer_init,
    ta_unpacker_init,
    ta_native_exchange_init,
    ta_file_reply_init,
    ta_file_response_init,
    ta_path_text_init,
    ta_response_init_init,
    ta_static_files_init,
    ta_request_body_init,
    ta_streaming_response_init,
    ta_asgi_io_init,
    ta_websocket_init,
    ta_tls_object_init,
    ta_log_writer_init,
    ta_stats_object_init,
    ta_inner_filter_init,
    ta_server_init,
};

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
    if (init_names(&st->names) < 0)
        return -1;
    for (size_t i = 0; i < TA_COUNTOF(inits); i++) {
        if (inits[i](module, st) < 0)
            return -1;
    }
    return 0;
}

/*
 * The whole state is the server's, the highest layer's: owned object pointers of two static types,
 * an array, which is read as bytes because of the rules of aliasing.
 */
enum { NOBJECTS = sizeof(ta_server_module_state) / sizeof(PyObject *) };
_Static_assert(sizeof(PyObject *) == sizeof(PyTypeObject *), "object pointers differ");

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    const char *state = PyModule_GetState(module);
    for (size_t i = 0; state != NULL && i < NOBJECTS; i++) {
        PyObject *obj;
        memcpy(&obj, state + i * sizeof obj, sizeof obj);
        Py_VISIT(obj);
    }
    return 0;
}

static int module_clear(PyObject *module)
{
    char *state = PyModule_GetState(module);
    if (state == NULL)
        return 0;
    for (size_t i = 0; i < NOBJECTS; i++) {
        PyObject *obj, *none = NULL;
        memcpy(&obj, state + i * sizeof obj, sizeof obj);
        memcpy(state + i * sizeof obj, &none, sizeof none);
        Py_XDECREF(obj);
    }
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
    .m_size = sizeof(ta_server_module_state),
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
