/* engine.c -- the engine's part of the module's state: types, names, what it needs of others. */
#include "py/plan/plan_int.h"

#include "py/loop/loop_state.h"

static const char *const name_texts[S_COUNT] = {
#define X(name) #name,
    TA_ENGINE_NAMES(X)
#undef X
        "content-type",
    "http.request",
    "http.disconnect",
    "http.response.start",
    "http.response.body",
};

ta_engine_state *ta_engine_of(PyTypeObject *type)
{
    ta_state *st = ta_state_of(type);
    return st ? &st->engine : NULL;
}

static struct ta_loopstate *running_loop(ta_engine_state *es)
{
    return ta_ls_running(TA_CONTAINER_OF(es, ta_state, engine));
}

static int import_all(ta_engine_state *es)
{
    const struct {
        PyObject **place;
        const char *module, *attr;
    } wanted[] = {
        {&es->validation_error, "pydantic_core", "ValidationError"},
        {&es->missing, "pydantic_core", "PydanticUndefined"},
        {&es->http_exception, "starlette.exceptions", "HTTPException"},
        {&es->client_disconnect, "starlette.requests", "ClientDisconnect"},
        {&es->async_manager, "contextlib", "asynccontextmanager"},
        {&es->sync_manager, "contextlib", "contextmanager"},
        {&es->json_decode_error, "json", "JSONDecodeError"},
        {&es->response_type, "starlette.responses", "Response"},
        {&es->request_type, "starlette.requests", "Request"},
        {&es->websocket_type, "starlette.websockets", "WebSocket"},
    };
    for (size_t i = 0; i < TA_COUNTOF(wanted); i++) {
        *wanted[i].place = ta_import_attr(wanted[i].module, wanted[i].attr);
        if (*wanted[i].place == NULL)
            return -1;
    }
    if (!PyType_Check(es->response_type)) {
        PyErr_SetString(PyExc_TypeError, "starlette.responses.Response is not a class");
        return -1;
    }
    es->response_call = PyObject_GetAttrString(es->response_type, "__call__");
    es->request_body = PyObject_GetAttrString(es->request_type, "body");
    es->request_json = PyObject_GetAttrString(es->request_type, "json");
    if (es->request_body == NULL || es->request_json == NULL)
        return -1;
    es->kw_from_attributes = Py_BuildValue("(s)", "from_attributes");
    return es->response_call && es->kw_from_attributes ? 0 : -1;
}

int ta_engine_init(PyObject *module, ta_state *st)
{
    ta_engine_state *es = &st->engine;
    for (int i = 0; i < S_COUNT; i++) {
        es->str[i] = PyUnicode_InternFromString(name_texts[i]);
        if (es->str[i] == NULL)
            return -1;
    }
    if (import_all(es) < 0 || ta_add_type(module, &ta_plan_spec, "Plan", &es->plan_type) < 0 ||
        ta_add_type(module, &ta_solved_spec, "Solved", &es->solved_type) < 0 ||
        ta_add_type(module, &ta_run_spec, NULL, &es->run_type) < 0 ||
        ta_add_type(module, &ta_xch_asgi_spec, NULL, &es->xch_type) < 0 ||
        ta_add_type(module, &ta_asgi_body_spec, NULL, &es->body_type) < 0 ||
        ta_add_type(module, &ta_asgi_respond_spec, NULL, &es->respond_type) < 0 ||
        ta_add_type(module, &ta_asgi_send_spec, NULL, &es->send_type) < 0)
        return -1;
    es->json = &st->o.json;
    es->running_loop = running_loop;
    return PyModule_AddObjectRef(module, "MISSING", es->missing);
}

int ta_engine_traverse(ta_engine_state *es, visitproc visit, void *arg)
{
    Py_VISIT(es->plan_type);
    Py_VISIT(es->run_type);
    Py_VISIT(es->solved_type);
    Py_VISIT(es->xch_type);
    Py_VISIT(es->body_type);
    Py_VISIT(es->respond_type);
    Py_VISIT(es->send_type);
    Py_VISIT(es->validation_error);
    Py_VISIT(es->missing);
    Py_VISIT(es->http_exception);
    Py_VISIT(es->client_disconnect);
    Py_VISIT(es->json_decode_error);
    Py_VISIT(es->response_type);
    Py_VISIT(es->response_call);
    Py_VISIT(es->async_manager);
    Py_VISIT(es->sync_manager);
    Py_VISIT(es->request_type);
    Py_VISIT(es->request_body);
    Py_VISIT(es->request_json);
    Py_VISIT(es->websocket_type);
    return 0;
}

void ta_engine_clear(ta_engine_state *es)
{
    Py_CLEAR(es->plan_type);
    Py_CLEAR(es->run_type); /* from here on released runs are freed */
    while (es->nfree > 0)
        PyObject_GC_Del(es->freelist[--es->nfree]);
    Py_CLEAR(es->solved_type);
    Py_CLEAR(es->xch_type);
    Py_CLEAR(es->body_type);
    Py_CLEAR(es->respond_type);
    Py_CLEAR(es->send_type);
    Py_CLEAR(es->validation_error);
    Py_CLEAR(es->missing);
    Py_CLEAR(es->http_exception);
    Py_CLEAR(es->client_disconnect);
    Py_CLEAR(es->json_decode_error);
    Py_CLEAR(es->response_type);
    Py_CLEAR(es->response_call);
    Py_CLEAR(es->async_manager);
    Py_CLEAR(es->sync_manager);
    Py_CLEAR(es->request_type);
    Py_CLEAR(es->request_body);
    Py_CLEAR(es->request_json);
    Py_CLEAR(es->websocket_type);
    Py_CLEAR(es->kw_from_attributes);
    for (int i = 0; i < S_COUNT; i++)
        Py_CLEAR(es->str[i]);
}
