/*
 * tls_object.c -- the settings of TLS as a Python object, and what a scope tells of a connection.
 *
 * Layer: py/server.  turboapi/_serving/tls.py makes the objects of a server's settings.
 */
#include "py/server/tls_object.h"

#include "base/mem.h"
#include "py/server/native_int.h"
#include "py/support/types.h"

typedef struct tls_object {
    PyObject_HEAD
    ta_tls *tls; /* owned */
} tls_object;

/* -- the type --------------------------------------------------------------------------------- */

/* Borrowed from obj, a str; NULL with an exception unless it is None. */
static int text_or_none(PyObject *obj, const char **out)
{
    *out = NULL;
    if (obj == NULL || Py_IsNone(obj))
        return 0;
    *out = PyUnicode_AsUTF8(obj);
    return *out ? 0 : -1;
}

/* [(certfile, keyfile or None), ...]: new array of slices of the texts. */
static ta_tls_pair *read_pairs(PyObject *list)
{
    Py_ssize_t n = PyList_GET_SIZE(list);
    ta_tls_pair *pairs = n > 0 ? PyMem_Calloc((size_t)n, sizeof(*pairs)) : NULL;
    if (n == 0)
        PyErr_SetString(PyExc_ValueError, "at least one certificate is needed");
    for (Py_ssize_t i = 0; pairs && i < n; i++) {
        PyObject *key, *pair = PyList_GET_ITEM(list, i);
        if (!PyTuple_Check(pair))
            PyErr_SetString(PyExc_TypeError, "a pair must be a tuple: (certfile, keyfile or None)");
        if (!PyTuple_Check(pair) || !PyArg_ParseTuple(pair, "sO", &pairs[i].certfile, &key) ||
            text_or_none(key, &pairs[i].keyfile) < 0) {
            PyMem_Free(pairs);
            return NULL;
        }
    }
    return pairs;
}

typedef struct tls_args {
    PyObject *pairs, *password, *ca_certs, *crl, *ciphers;
    const char *secret, *alpn;
    Py_ssize_t secret_len, alpn_len;
    int verify, tls13_only;
} tls_args;

static int read_cfg(const tls_args *a, ta_tls_cfg *cfg)
{
    *cfg = (ta_tls_cfg){
        .npairs = (size_t)PyList_GET_SIZE(a->pairs),
        .verify = (ta_tls_verify)a->verify,
        .tls13_only = a->tls13_only,
        .alpn = ta_str_of(a->alpn, (size_t)a->alpn_len),
        .secret = (const unsigned char *)a->secret,
    };
    if (a->secret && a->secret_len != TA_TLS_SECRET) {
        PyErr_Format(PyExc_ValueError, "the secret must have %d bytes", TA_TLS_SECRET);
        return -1;
    }
    if (text_or_none(a->password, &cfg->password) < 0 ||
        text_or_none(a->ca_certs, &cfg->ca_certs) < 0 || text_or_none(a->crl, &cfg->crl) < 0 ||
        text_or_none(a->ciphers, &cfg->ciphers) < 0)
        return -1;
    cfg->pairs = read_pairs(a->pairs);
    return cfg->pairs ? 0 : -1;
}

static PyObject *tls_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"pairs",   "password",   "ca_certs", "crl",    "verify",
                               "ciphers", "tls13_only", "alpn",     "secret", NULL};
    tls_args a = {0};
    ta_tls_cfg cfg;
    ta_tls_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|$OOOiOpy#z#:TLS", keywords, &PyList_Type,
                                     &a.pairs, &a.password, &a.ca_certs, &a.crl, &a.verify,
                                     &a.ciphers, &a.tls13_only, &a.alpn, &a.alpn_len, &a.secret,
                                     &a.secret_len) ||
        read_cfg(&a, &cfg) < 0)
        return NULL;
    ta_tls *tls;
    Py_BEGIN_ALLOW_THREADS /* it reads files */
    tls = ta_tls_new(&cfg, &error);
    Py_END_ALLOW_THREADS
    PyMem_Free((void *)cfg.pairs);
    if (tls == NULL) {
        PyObject *why = error.setting ? Py_BuildValue("(ss)", error.setting, error.why) : NULL;
        if (why != NULL)
            PyErr_SetObject(PyExc_ValueError, why);
        else if (!PyErr_Occurred())
            PyErr_NoMemory();
        Py_XDECREF(why);
        return NULL;
    }
    tls_object *self = (tls_object *)type->tp_alloc(type, 0);
    if (self == NULL)
        ta_tls_unref(tls);
    else
        self->tls = tls;
    return (PyObject *)self;
}

static void tls_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ta_tls_unref(((tls_object *)self)->tls);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *tls_expires(PyObject *self, PyObject *pair)
{
    size_t i = PyLong_AsSize_t(pair);
    const ta_tls *tls = ((tls_object *)self)->tls;
    if (i == (size_t)-1 && PyErr_Occurred())
        return NULL;
    int64_t at;
    if (!ta_tls_expires(tls, i, &at)) {
        PyErr_SetString(PyExc_IndexError, "there is no such pair");
        return NULL;
    }
    return PyLong_FromLongLong(at);
}

ta_tls *ta_tls_object_get(ta_state *st, PyObject *obj)
{
    PyTypeObject *type = ta_server_objects_of(st)->server.tls_type;
    if (PyObject_TypeCheck(obj, type))
        return ta_tls_ref(((tls_object *)obj)->tls);
    PyErr_Format(PyExc_TypeError, "a TLS is wanted, not %s", Py_TYPE(obj)->tp_name);
    return NULL;
}

/* -- the scope -------------------------------------------------------------------------------- */

static bool add_certificate(void *list, ta_str pem)
{
    PyObject *text = PyUnicode_FromStringAndSize(pem.ptr, (Py_ssize_t)pem.len);
    bool ok = text != NULL && PyList_Append(list, text) == 0;
    Py_XDECREF(text);
    return ok;
}

static PyObject *client_name(const ta_transport *t)
{
    char name[1024];
    if (!ta_tls_client_name(t, name, sizeof(name)))
        return Py_NewRef(Py_None);
    return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
}

/* The dict of a connection; new reference. */
static PyObject *describe(const ta_transport *t)
{
    ta_tls_info info;
    if (!ta_tls_info_of(t, &info))
        return NULL;
    ta_str own = ta_tls_server_certificate(t);
    PyObject *chain = PyList_New(0), *result = NULL;
    PyObject *name = chain ? client_name(t) : NULL;
    if (name != NULL && ta_tls_client_certificates(t, add_certificate, chain))
        result = Py_BuildValue("{s:s#,s:O,s:O,s:O,s:i,s:i}", "server_cert", own.ptr,
                               (Py_ssize_t)own.len, "client_cert_chain", chain, "client_cert_name",
                               name, "client_cert_error", Py_None, "tls_version", (int)info.version,
                               "cipher_suite", (int)info.cipher);
    else if (!PyErr_Occurred())
        PyErr_NoMemory();
    Py_XDECREF(chain);
    Py_XDECREF(name);
    return result;
}

int ta_tls_object_scope(ta_native_exchange *native, PyObject *scope)
{
    ta_tls_info info;
    PyObject *extensions;
    if (native->req == NULL || !native->in.secure ||
        !ta_tls_info_of(ta_req_transport(native->req), &info))
        return 0;
    int rc = PyDict_GetItemRef(scope, native->st->names.extensions, &extensions);
    if (rc == 0) {
        extensions = PyDict_New();
        rc = extensions ? PyDict_SetItem(scope, native->st->names.extensions, extensions) : -1;
    }
    PyObject *tls = rc < 0 ? NULL : describe(ta_req_transport(native->req));
    rc = tls ? PyDict_SetItemString(extensions, "tls", tls) : -1;
    Py_XDECREF(tls);
    Py_XDECREF(extensions);
    return rc;
}

/* -- init ------------------------------------------------------------------------------------- */

static PyMethodDef tls_methods[] = {
    {"expires", tls_expires, METH_O,
     "expires($self, pair, /)\n--\n\n"
     "Returns when the certificate of a pair ends, in seconds since the epoch."},
    {NULL},
};

static PyType_Slot tls_slots[] = {
    {Py_tp_doc, "The settings of TLS: certificates, keys, versions, who is let in.  Immutable.\n\n"
                "Raises ValueError(setting, why)."},
    {Py_tp_new, tls_new},
    {Py_tp_dealloc, tls_dealloc},
    {Py_tp_methods, tls_methods},
    {0, NULL},
};

static PyType_Spec tls_spec = {
    .name = "turboapi._core.TLS",
    .basicsize = sizeof(tls_object),
    .flags = TA_TYPE_FLAGS,
    .slots = tls_slots,
};

int ta_tls_object_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &tls_spec, "TLS", &ta_server_objects_of(st)->server.tls_type);
}
