/*
 * plan_objects.c -- the plan's types and what it needs of other packages.
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

#include "py/support/spares.h"
#include "py/support/types.h"

static int import_all(ta_plan_objects *objects)
{
    const struct {
        PyObject **place;
        const char *module, *attr;
    } wanted[] = {
        {&objects->validation_error, "pydantic_core", "ValidationError"},
        {&objects->missing, "pydantic_core", "PydanticUndefined"},
        {&objects->http_exception, "starlette.exceptions", "HTTPException"},
        {&objects->async_manager, "contextlib", "asynccontextmanager"},
        {&objects->sync_manager, "contextlib", "contextmanager"},
        {&objects->json_decode_error, "json", "JSONDecodeError"},
        {&objects->response_type, "starlette.responses", "Response"},
    };
    for (size_t i = 0; i < TA_COUNTOF(wanted); i++) {
        *wanted[i].place = ta_types_import(wanted[i].module, wanted[i].attr);
        if (*wanted[i].place == NULL)
            return -1;
    }
    if (!PyType_Check(objects->response_type)) {
        PyErr_SetString(PyExc_TypeError, "starlette.responses.Response is not a class");
        return -1;
    }
    objects->response_call = PyObject_GetAttrString(objects->response_type, "__call__");
    objects->kw_from_attributes = Py_BuildValue("(s)", "from_attributes");
    objects->kw_include_url = Py_BuildValue("(s)", "include_url");
    return objects->response_call && objects->kw_from_attributes && objects->kw_include_url ? 0
                                                                                            : -1;
}

int ta_plan_objects_init(PyObject *module, ta_state *st)
{
    ta_plan_objects *objects = ta_plan_objects_of(st);
    PyObject *request_type = ta_exchange_objects_of(st)->request_type;
    if (import_all(objects) < 0 ||
        ta_types_add(module, &ta_plan_type_spec, "Plan", &objects->plan_type) < 0 ||
        ta_types_add(module, &ta_solved_type_spec, "Solved", &objects->solved_type) < 0 ||
        ta_types_add(module, &ta_plan_run_type_spec, NULL, &objects->run_type) < 0 ||
        (objects->spare_runs = ta_spares_new(st, objects->run_type)) == NULL)
        return -1;
    objects->request_body = PyObject_GetAttrString(request_type, "body");
    objects->request_json = PyObject_GetAttrString(request_type, "json");
    if (objects->request_body == NULL || objects->request_json == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "MISSING", objects->missing);
}
