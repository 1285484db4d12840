/*
 * filters_read.c -- ta_filters made from what middleware/_filters.py found in the objects.
 *
 * Layer: py (L4).  See filters.h.
 */
#include "py/server/filters_int.h"

#include "base/mem.h"

static int check_texts(PyObject *tuple)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        if (!PyBytes_Check(PyTuple_GET_ITEM(tuple, i))) {
            PyErr_SetString(PyExc_TypeError, "filters: bytes expected");
            return -1;
        }
    }
    return 0;
}

static int check_fields(PyObject *tuple)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *pair = PyTuple_GET_ITEM(tuple, i);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || check_texts(pair) < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "filters: pairs of bytes expected");
            return -1;
        }
    }
    return 0;
}

static PyObject *or_null(PyObject *obj)
{
    return Py_IsNone(obj) ? NULL : Py_NewRef(obj);
}

static int read_cors(filter *rule, PyObject *spec)
{
    const char *kind;
    PyObject *origins, *fullmatch, *fields;
    int credentials;
    if (!PyArg_ParseTuple(spec, "sOOpO!", &kind, &origins, &fullmatch, &credentials, &PyTuple_Type,
                          &fields) ||
        check_fields(fields) < 0)
        return -1;
    rule->kind = FILTER_CORS;
    rule->origins = or_null(origins);
    rule->fullmatch = or_null(fullmatch);
    rule->credentials = credentials != 0;
    rule->fields = Py_NewRef(fields);
    return 0;
}

static int read_gzip(filter *rule, PyObject *spec)
{
    const char *kind;
    PyObject *texts, *offload;
    if (!PyArg_ParseTuple(spec, "sninO!O", &kind, &rule->minimum, &rule->levels[0],
                          &rule->thread_minimum, &PyTuple_Type, &texts, &offload) ||
        check_texts(texts) < 0)
        return -1;
    if (rule->levels[0] < -1 || rule->levels[0] > 9) {
        PyErr_SetString(PyExc_ValueError, "filters: a level of -1 to 9 expected");
        return -1;
    }
    rule->kind = FILTER_PACK;
    rule->codings[0] = TA_CODING_GZIP;
    rule->ncodings = 1;
    rule->texts = Py_NewRef(texts);
    rule->offload = Py_NewRef(offload);
    return 0;
}

/* Pairs (name, level). */
static int read_codings(filter *rule, PyObject *pairs)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(pairs); i++) {
        const char *name;
        int level, lowest, highest;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(pairs, i), "si", &name, &level))
            return -1;
        ta_coding coding = ta_coding_of(ta_str_of(name, strlen(name)));
        if (coding >= TA_CODINGS || rule->ncodings >= TA_CODINGS ||
            !ta_packer_levels(coding, &lowest, &highest) || level < lowest || level > highest) {
            PyErr_Format(PyExc_ValueError, "filters: no coding %s of level %d here", name, level);
            return -1;
        }
        rule->codings[rule->ncodings] = coding;
        rule->levels[rule->ncodings++] = level;
    }
    return 0;
}

static int read_compress(filter *rule, PyObject *spec)
{
    const char *kind;
    PyObject *texts, *codings, *offload;
    if (!PyArg_ParseTuple(spec, "snO!nO!O", &kind, &rule->minimum, &PyTuple_Type, &codings,
                          &rule->thread_minimum, &PyTuple_Type, &texts, &offload) ||
        check_texts(texts) < 0 || read_codings(rule, codings) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(texts); i++) {
        if (PyBytes_GET_SIZE(PyTuple_GET_ITEM(texts, i)) == 0) {
            PyErr_SetString(PyExc_ValueError, "filters: an empty media type");
            return -1;
        }
    }
    rule->kind = FILTER_PACK;
    rule->chooses = true;
    rule->texts = Py_NewRef(texts);
    rule->offload = Py_NewRef(offload);
    return 0;
}

static int read_hosts(filter *rule, PyObject *spec)
{
    const char *kind;
    PyObject *texts;
    if (!PyArg_ParseTuple(spec, "sO!", &kind, &PyTuple_Type, &texts) || check_texts(texts) < 0)
        return -1;
    rule->kind = FILTER_HOSTS;
    rule->texts = Py_NewRef(texts);
    return 0;
}

static int read_session(filter *rule, PyObject *spec)
{
    const char *kind;
    PyObject *texts, *type, *load, *save;
    if (!PyArg_ParseTuple(spec, "sO!O!OO", &kind, &PyTuple_Type, &texts, &PyType_Type, &type, &load,
                          &save) ||
        check_texts(texts) < 0)
        return -1;
    if (PyTuple_GET_SIZE(texts) != 1) {
        PyErr_SetString(PyExc_ValueError, "filters: the name of one cookie expected");
        return -1;
    }
    rule->kind = FILTER_SESSION;
    rule->texts = Py_NewRef(texts);
    rule->session_type = Py_NewRef(type);
    rule->load = Py_NewRef(load);
    rule->save = Py_NewRef(save);
    return 0;
}

static int read_filter(filter *rule, PyObject *spec)
{
    const char *kind = NULL;
    if (!PyTuple_Check(spec) || PyTuple_GET_SIZE(spec) == 0 ||
        (kind = PyUnicode_AsUTF8(PyTuple_GET_ITEM(spec, 0))) == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "filters: tuples that begin with a kind expected");
        return -1;
    }
    if (strcmp(kind, "cors") == 0)
        return read_cors(rule, spec);
    if (strcmp(kind, "gzip") == 0)
        return read_gzip(rule, spec);
    if (strcmp(kind, "compress") == 0)
        return read_compress(rule, spec);
    if (strcmp(kind, "hosts") == 0)
        return read_hosts(rule, spec);
    if (strcmp(kind, "session") == 0)
        return read_session(rule, spec);
    if (strcmp(kind, "https") == 0) {
        rule->kind = FILTER_HTTPS;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "filters: unknown kind %s", kind);
    return -1;
}

ta_filters *ta_filters_new(PyObject *spec)
{
    size_t n = (size_t)PyTuple_GET_SIZE(spec);
    ta_filters *filters = ta_calloc(1, sizeof *filters + n * sizeof *filters->items);
    if (filters == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    filters->n = n;
    bool gzip = false, session = false;
    for (size_t i = 0; i < n; i++) {
        if (read_filter(&filters->items[i], PyTuple_GET_ITEM(spec, (Py_ssize_t)i)) < 0)
            goto error;
        bool is_gzip = filters->items[i].kind == FILTER_PACK;
        bool is_session = filters->items[i].kind == FILTER_SESSION;
        if ((is_gzip && gzip) || (is_session && session)) {
            PyErr_SetString(PyExc_ValueError, "filters: more than one that compresses, or session");
            goto error;
        }
        gzip = gzip || is_gzip;
        session = session || is_session;
    }
    return filters;
error:
    ta_filters_free(filters);
    return NULL;
}

void ta_filters_free(ta_filters *filters)
{
    if (filters == NULL)
        return;
    for (size_t i = 0; i < filters->n; i++) {
        Py_XDECREF(filters->items[i].origins);
        Py_XDECREF(filters->items[i].fullmatch);
        Py_XDECREF(filters->items[i].fields);
        Py_XDECREF(filters->items[i].offload);
        Py_XDECREF(filters->items[i].texts);
        Py_XDECREF(filters->items[i].session_type);
        Py_XDECREF(filters->items[i].load);
        Py_XDECREF(filters->items[i].save);
    }
    ta_free(filters);
}

int ta_filters_traverse(const ta_filters *filters, visitproc visit, void *arg)
{
    for (size_t i = 0; filters != NULL && i < filters->n; i++) {
        Py_VISIT(filters->items[i].origins);
        Py_VISIT(filters->items[i].fullmatch);
        Py_VISIT(filters->items[i].fields);
        Py_VISIT(filters->items[i].offload);
        Py_VISIT(filters->items[i].texts);
        Py_VISIT(filters->items[i].session_type);
        Py_VISIT(filters->items[i].load);
        Py_VISIT(filters->items[i].save);
    }
    return 0;
}
