/*
 * asgi_extensions.c -- trailers and early hints: ASGI's extensions http.response.trailers and
 * http.response.early_hint.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "http/headers.h"

PyObject *ta_asgi_extensions_new(const ta_names_state *names)
{
    return Py_BuildValue("{O{},O{}}", names->http_response_trailers,
                         names->http_response_early_hint);
}

PyObject *ta_asgi_extensions_of(const ta_native_exchange *native)
{
    const ta_names_state *names = &native->st->names;
    PyObject *empty = NULL;
    PyObject *offer = native->in.version == TA_HTTP_1_0
                          ? PyDict_New()
                          : PyDict_Copy(native->server->blank_extensions);
    if (offer == NULL || !native->app->pathsend)
        return offer;
    empty = PyDict_New();
    if (empty == NULL || PyDict_SetItem(offer, names->turboapi_pathsend, empty) < 0)
        Py_CLEAR(offer);
    Py_XDECREF(empty);
    return offer;
}

/* Whether the client accepts trailers (RFC 9110 10.1.4). */
static bool wants_trailers(const ta_native_exchange *native)
{
    ta_str te;
    return ta_exchange_header(&native->base, "te", 2, &te) && ta_list_has(te, TA_STR("trailers"));
}

/* message[key] as a truth value; absent: false.  -1 with an exception. */
static int flag_of(PyObject *message, PyObject *key)
{
    PyObject *value = NULL;
    int rc = ta_asgi_io_get_item(message, key, &value);
    if (rc > 0)
        rc = PyObject_IsTrue(value);
    Py_XDECREF(value);
    return rc;
}

int ta_asgi_extensions_start(ta_native_exchange *native, PyObject *message)
{
    int rc = flag_of(message, native->st->names.trailers);
    if (rc > 0)
        native->out.trailers = TA_TRAILERS_AHEAD;
    return rc < 0 ? -1 : 0;
}

/* Fields that say where a message ends or what becomes of it are none (RFC 9110 6.5.1). */
static int check_trailers(const ta_fields *fields)
{
    static const ta_str refused[] = {{"content-length", 14}, {"host", 4}, {"trailer", 7}};
    ta_str value;
    for (size_t i = 0; i < TA_COUNTOF(refused); i++) {
        uint32_t at = 0;
        if (ta_fields_find(fields, refused[i], &at, &value)) {
            PyErr_Format(PyExc_RuntimeError, "'%s' cannot be a trailer field.", refused[i].ptr);
            return -1;
        }
    }
    return 0;
}

ta_outcome ta_asgi_extensions_trailers(ta_native_exchange *native, PyObject *message)
{
    const ta_names_state *names = &native->st->names;
    PyObject *headers = NULL;
    ta_fields *fields = &native->out.head;
    int more = flag_of(message, names->more_trailers);
    if (more < 0 || ta_asgi_io_get_item(message, names->headers, &headers) < 0)
        return TA_FAILED;
    int rc = headers ? ta_response_head_add(fields, headers) : 0;
    Py_XDECREF(headers);
    if (rc < 0 || check_trailers(fields) < 0)
        return TA_FAILED;
    if (more)
        return TA_DONE;
    if (!wants_trailers(native))
        ta_fields_clear(fields);
    return ta_response_trailers(native);
}

/* A link field of each.  0 or -1. */
static int add_links(ta_fields *fields, PyObject *links)
{
    PyObject *link, *it = PyObject_GetIter(links);
    int rc = it ? 0 : -1;
    while (rc == 0 && (link = PyIter_Next(it)) != NULL) {
        PyObject *pair = Py_BuildValue("((yO))", "link", link);
        rc = pair ? ta_response_head_add(fields, pair) : -1;
        Py_XDECREF(pair);
        Py_DECREF(link);
    }
    Py_XDECREF(it);
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}

ta_outcome ta_asgi_extensions_hint(ta_native_exchange *native, PyObject *message)
{
    PyObject *links = ta_asgi_io_need_item(message, native->st->names.links);
    ta_outcome outcome = TA_FAILED;
    ta_fields fields;
    ta_fields_init(&fields);
    fields.status = 103;
    if (links != NULL && add_links(&fields, links) == 0) {
        ta_response_head head = ta_fields_head(&fields);
        outcome = TA_DONE;
        if (head.nfields > 0 && native->req != NULL)
            outcome = ta_response_interim(native, &head);
    }
    ta_fields_free(&fields);
    Py_XDECREF(links);
    return outcome;
}
