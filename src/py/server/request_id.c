/*
 * request_id.c -- names of requests: taken from a trusted proxy, or made.
 *
 * Layer: py/server.  A name that is made is a random UUID (RFC 9562, version 4).  One that is taken
 * has 1 to 128 characters that mean nothing in a log, a field or a URL; others are replaced.
 */
#include "py/server/request_id.h"

#include <errno.h>
#include <sys/random.h>

#include "http/headers.h"
#include "py/server/native_int.h"
#include "py/support/exc.h"

enum { UUID_BYTES = 16, UUID_TEXT = 36, RANDOM = 64 * UUID_BYTES };

struct ta_request_ids {
    PyObject *field;    /* owned bytes: that names come in, or NULL */
    PyObject *trusts;   /* owned: callable, or NULL: nobody is trusted */
    PyObject *response; /* owned bytes: field of the response, or NULL */
    unsigned char random[RANDOM];
    size_t left; /* bytes of it that were not used */
};

/* -- names ------------------------------------------------------------------------------------ */

static bool is_name(ta_str text)
{
    if (text.len == 0 || text.len > TA_REQUEST_ID_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i], lower = ta_ascii_lower(c);
        if (!((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') ||
              (c != '\0' && strchr("-_.:=+/@~", c) != NULL)))
            return false;
    }
    return true;
}

/* 0, or -1: the system has no random bytes for us. */
static int fill(ta_request_ids *ids)
{
    size_t n = 0;
    while (n < RANDOM) {
        ssize_t got = getrandom(ids->random + n, RANDOM - n, 0);
        if (got < 0 && errno != EINTR)
            return -1;
        n += got > 0 ? (size_t)got : 0;
    }
    ids->left = RANDOM;
    return 0;
}

static void keep(ta_req *req, const char *text, size_t len)
{
    req->notes.id = PyMem_Malloc(len);
    if (req->notes.id == NULL)
        return;
    memcpy(req->notes.id, text, len);
    req->notes.id_len = (uint8_t)len;
}

static void make(ta_request_ids *ids, ta_req *req)
{
    char text[UUID_TEXT], *out = text;
    if (ids->left == 0 && fill(ids) < 0)
        return;
    unsigned char *bytes = ids->random + RANDOM - ids->left;
    ids->left -= UUID_BYTES;
    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
    for (unsigned i = 0; i < UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = "0123456789abcdef"[bytes[i] >> 4];
        *out++ = "0123456789abcdef"[bytes[i] & 15];
    }
    keep(req, text, sizeof text);
}

/* Whether what the peer says is believed. */
static bool is_trusted(const ta_request_ids *ids, ta_native_exchange *native)
{
    ta_str host = {NULL, 0};
    uint16_t port;
    ta_req_peer(native->req, &host, &port);
    ta_loop_state_enter(native->base.ls);
    PyObject *text = host.len ? ta_scope_text(host) : Py_NewRef(Py_None);
    PyObject *res = text ? PyObject_CallOneArg(ids->trusts, text) : NULL;
    ta_loop_state_leave(native->base.ls);
    if (res == NULL)
        ta_exc_report(native->st, NULL, "Exception while a proxy was looked up");
    bool trusted = res == Py_True;
    Py_XDECREF(text);
    Py_XDECREF(res);
    return trusted;
}

static ta_str text_of(PyObject *bytes)
{
    return ta_str_of(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

void ta_request_ids_give(ta_request_ids *ids, ta_native_exchange *native)
{
    ta_str given;
    TA_ASSERT(native->req->notes.id == NULL);
    if (ids->field != NULL && ids->trusts != NULL &&
        ta_exchange_header(&native->base, PyBytes_AS_STRING(ids->field),
                           (size_t)PyBytes_GET_SIZE(ids->field), &given) &&
        is_name(given) && is_trusted(ids, native))
        keep(native->req, given.ptr, given.len);
    else
        make(ids, native->req);
}

ta_str ta_request_id(const ta_native_exchange *native)
{
    const ta_req *req = native->req;
    return req != NULL && req->notes.id != NULL ? ta_str_of(req->notes.id, req->notes.id_len)
                                                : ta_str_of(NULL, 0);
}

/* -- responses -------------------------------------------------------------------------------- */

void ta_request_ids_answer(const ta_request_ids *ids, const ta_native_exchange *native,
                           ta_fields *fields, ta_response_head *head)
{
    ta_str id = ta_request_id(native), value;
    uint32_t at = 0;
    if (ids->response == NULL || id.len == 0)
        return;
    bool own = head->nfields == 0 || head->fields == fields->places;
    if (!own && ta_fields_copy(fields, head) != TA_OK)
        return; /* no memory: the response goes without */
    fields->status = head->status;
    unsigned flags = head->flags;
    ta_str reason = head->reason;
    if (!ta_fields_find(fields, text_of(ids->response), &at, &value))
        (void)!ta_fields_add(fields, text_of(ids->response), id);
    *head = ta_fields_head(fields);
    head->flags |= flags;
    head->reason = reason;
}

/* -- life ------------------------------------------------------------------------------------- */

int ta_request_ids_traverse(ta_request_ids *ids, visitproc visit, void *arg)
{
    if (ids != NULL)
        Py_VISIT(ids->trusts);
    return 0;
}

void ta_request_ids_free(ta_request_ids *ids)
{
    if (ids == NULL)
        return;
    Py_CLEAR(ids->field);
    Py_CLEAR(ids->trusts);
    Py_CLEAR(ids->response);
    PyMem_Free(ids);
}

static PyObject *bytes_or_null(PyObject *obj)
{
    if (Py_IsNone(obj))
        return NULL;
    if (PyBytes_Check(obj) && PyBytes_GET_SIZE(obj) > 0)
        return Py_NewRef(obj);
    PyErr_SetString(PyExc_TypeError, "the name of a field must be bytes");
    return NULL;
}

ta_request_ids *ta_request_ids_new(PyObject *spec)
{
    PyObject *field, *trusts, *response;
    if (!PyTuple_Check(spec)) {
        PyErr_SetString(PyExc_TypeError, "request_ids must be a tuple");
        return NULL;
    }
    if (!PyArg_ParseTuple(spec, "OOO", &field, &trusts, &response))
        return NULL;
    ta_request_ids *ids = PyMem_Calloc(1, sizeof *ids);
    if (ids == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    ids->field = bytes_or_null(field);
    ids->response = bytes_or_null(response);
    ids->trusts = Py_IsNone(trusts) ? NULL : Py_NewRef(trusts);
    if (PyErr_Occurred()) {
        ta_request_ids_free(ids);
        return NULL;
    }
    return ids;
}
