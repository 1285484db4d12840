/*
 * params.c -- path, query, header and cookie parameters of a node: from the exchange's bytes to
 * arguments.
 *
 * Plain text is taken straight from the request's bytes; everything else is handled as Starlette
 * and pydantic would, so that the results are theirs.
 */
#include "py/plan/run_int.h"

#include "http/url.h"
#include "py/plan/param_text.h"

#define MAX_QUERY 32 /* query parameters looked up in one pass over the query string */

/* -- validation ------------------------------------------------------------------------------- */

int ta_params_try(ta_state *st, PyObject *validator, PyObject *value, PyObject **out)
{
    const ta_plan_objects *objects = ta_plan_objects_of(st);
    PyObject *args[] = {NULL, value, Py_True};
    *out = PyObject_Vectorcall(validator, args + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                               objects->kw_from_attributes);
    if (*out != NULL)
        return 1;
    return PyErr_ExceptionMatches(objects->validation_error) ? 0 : -1;
}

/* The run gets the errors (a list); the values of its node are not all there. */
static int add_errors(ta_plan_run *run, PyObject *errors)
{
    run->bad[run->node] = 1;
    if (run->errors == NULL) {
        run->errors = Py_NewRef(errors);
        return 0;
    }
    return PyList_SetSlice(run->errors, PY_SSIZE_T_MAX, PY_SSIZE_T_MAX, errors);
}

/* An error of pydantic's gets its place in the request. */
static int relocate(ta_state *st, PyObject *error, PyObject *loc)
{
    PyObject *inner;
    int rc = PyDict_Check(error) ? PyDict_GetItemRef(error, st->names.loc, &inner) : -1;
    if (rc < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "ValidationError.errors() must give dicts");
        return -1;
    }
    PyObject *whole = inner ? PySequence_Concat(loc, inner) : Py_NewRef(loc);
    rc = whole ? PyDict_SetItem(error, st->names.loc, whole) : -1;
    Py_XDECREF(whole);
    Py_XDECREF(inner);
    return rc;
}

int ta_params_reject(ta_plan_run *run, PyObject *loc)
{
    ta_state *st = run->plan->st;
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *args[] = {exc, Py_False};
    PyObject *errors =
        PyObject_VectorcallMethod(st->names.errors, args, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                  ta_plan_objects_of(st)->kw_include_url);
    Py_DECREF(exc);
    if (errors == NULL)
        return -1;
    int rc = PyList_CheckExact(errors) ? 0 : -1;
    if (rc < 0)
        PyErr_SetString(PyExc_TypeError, "ValidationError.errors() must give a list");
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(errors); i++)
        rc = relocate(st, PyList_GET_ITEM(errors, i), loc);
    if (rc == 0)
        rc = add_errors(run, errors);
    Py_DECREF(errors);
    return rc;
}

int ta_params_take_pair(ta_plan_run *run, PyObject *pair, PyObject **out)
{
    if (pair == NULL)
        return -1;
    int rc = -1;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_TypeError,
                        "a plan's validate and extract must return (value, errors)");
        goto done;
    }
    PyObject *errors = PyTuple_GET_ITEM(pair, 1);
    int some = PyObject_IsTrue(errors);
    if (some < 0)
        goto done;
    if (some) {
        if (run->errors == NULL && (run->errors = PyList_New(0)) == NULL)
            goto done;
        PyObject *none =
            PyObject_CallMethodOneArg(run->errors, run->plan->st->names.extend, errors);
        if (none == NULL)
            goto done;
        Py_DECREF(none);
        run->bad[run->node] = 1;
        rc = 0;
        goto done;
    }
    *out = Py_NewRef(PyTuple_GET_ITEM(pair, 0));
    rc = 1;
done:
    Py_DECREF(pair);
    return rc;
}

static int call_pair(ta_plan_run *run, PyObject *func, PyObject *value, PyObject **out)
{
    PyObject *values = PyDict_New();
    if (values == NULL)
        return -1;
    PyObject *args[] = {NULL, value, values};
    PyObject *pair = PyObject_Vectorcall(func, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(values);
    return ta_params_take_pair(run, pair, out);
}

/* Stores a value (steals) where the call will find it. */
static void store(ta_plan_run *r, const ta_node *n, const ta_param *p, PyObject *value)
{
    Py_XSETREF(r->values[n->first + p->slot], value);
}

static int absent(ta_plan_run *run, const ta_node *node, const ta_param *param)
{
    PyObject *value = NULL;
    if (param->dflt != NULL) {
        store(run, node, param, Py_NewRef(param->dflt));
        return 0;
    }
    int rc = call_pair(run, param->validate, ta_plan_objects_of(run->plan->st)->missing, &value);
    if (rc == 1)
        store(run, node, param, value);
    return rc < 0 ? -1 : 0;
}

/* raw is borrowed. */
static int from_object(ta_plan_run *run, const ta_node *node, const ta_param *param, PyObject *raw)
{
    PyObject *value = NULL;
    int rc = 0;
    if (param->conv == CONV_STR && PyUnicode_CheckExact(raw)) {
        store(run, node, param, Py_NewRef(raw));
        return 0;
    }
    if (param->conv > CONV_STR && PyUnicode_CheckExact(raw) && PyUnicode_IS_ASCII(raw)) {
        ta_str text =
            ta_str_of((const char *)PyUnicode_1BYTE_DATA(raw), (size_t)PyUnicode_GET_LENGTH(raw));
        value = ta_param_plain(param->conv, text);
        if (value == NULL && PyErr_Occurred())
            return -1;
        rc = value != NULL;
    }
    if (rc == 0 && param->validator != NULL) {
        rc = ta_params_try(run->plan->st, param->validator, raw, &value);
        if (rc == 0 && param->loc != NULL)
            return ta_params_reject(run, param->loc);
        if (rc == 0)
            PyErr_Clear();
    }
    if (rc == 0)
        rc = call_pair(run, param->validate, raw, &value);
    if (rc == 1)
        store(run, node, param, value);
    return rc < 0 ? -1 : 0;
}

static int from_text(ta_plan_run *run, const ta_node *node, const ta_param *param, ta_str text,
                     ta_encoding enc)
{
    if (param->conv > CONV_STR) { /* most need no str at all */
        PyObject *value = ta_param_plain(param->conv, text);
        if (value != NULL) {
            store(run, node, param, value);
            return 0;
        }
        if (PyErr_Occurred())
            return -1;
    }
    PyObject *raw = ta_param_decode(text, enc);
    if (raw == NULL)
        return -1;
    int rc = from_object(run, node, param, raw);
    Py_DECREF(raw);
    return rc;
}

/* -- containers: request.query_params and the like -------------------------------------------- */

static PyObject *container(ta_plan_run *run, uint8_t source)
{
    const ta_names_state *names = &run->plan->st->names;
    PyObject *const attrs[] = {names->path_params, names->query_params, names->headers,
                               names->cookies}; /* by ta_source */
    PyObject *request = ta_plan_run_request(run);
    if (request == NULL)
        return NULL;
    PyObject *c = PyObject_GetAttr(request, attrs[source]);
    Py_DECREF(request);
    return c;
}

/* values.get(alias): None means absent, as in FastAPI. */
static int from_mapping(ta_plan_run *run, const ta_node *node, const ta_param *param,
                        PyObject *mapping)
{
    PyObject *raw;
    if (PyDict_CheckExact(mapping)) {
        int rc = PyDict_GetItemRef(mapping, param->alias_obj, &raw);
        if (rc < 0)
            return -1;
        if (rc == 0)
            return absent(run, node, param);
    } else {
        raw = PyObject_CallMethodOneArg(mapping, run->plan->st->names.get, param->alias_obj);
        if (raw == NULL)
            return -1;
    }
    int rc = raw == Py_None ? absent(run, node, param) : from_object(run, node, param, raw);
    Py_DECREF(raw);
    return rc;
}

static int from_container(ta_plan_run *run, const ta_node *node, const ta_param *param)
{
    PyObject *c = container(run, param->source);
    if (c == NULL)
        return -1;
    int rc;
    if (param->extract != NULL) {
        PyObject *value = NULL;
        rc = call_pair(run, param->extract, c, &value);
        if (rc == 1)
            store(run, node, param, value);
        rc = rc < 0 ? -1 : 0;
    } else {
        rc = from_mapping(run, node, param, c);
    }
    Py_DECREF(c);
    return rc;
}

/* -- the four sources ------------------------------------------------------------------------- */

static int path_param(ta_plan_run *run, const ta_node *node, const ta_param *param)
{
    ta_exchange *exchange = run->x;
    if (exchange->path_params == NULL && param->index >= 0 &&
        (uint32_t)param->index < exchange->nparams)
        return from_text(run, node, param, exchange->param_values[param->index], ENC_UTF8);
    PyObject *params = exchange->ops->path_params(exchange);
    if (params == NULL)
        return -1;
    int rc = from_mapping(run, node, param, params);
    Py_DECREF(params);
    return rc;
}

static int header_param(ta_plan_run *r, const ta_node *n, const ta_param *p)
{
    ta_str value;
    if (ta_exchange_header(r->x, p->alias, p->alias_len, &value))
        return from_text(r, n, p, value, ENC_LATIN1);
    return absent(r, n, p);
}

/* Whether a query key means the parameter. -1: exception. */
static int key_matches(const ta_qs_pair *pair, const ta_param *param)
{
    ta_str key = pair->name;
    if (!pair->name_quoted && ta_param_is_ascii(key))
        return ta_str_eq(key, ta_str_of(param->alias, param->alias_len));
    PyObject *text = ta_param_decode(key, ENC_QUERY);
    if (text == NULL)
        return -1;
    int equal = PyUnicode_Compare(text, param->alias_obj) == 0;
    Py_DECREF(text);
    return equal;
}

/* params[from..to) are all query parameters without `extract`, at most MAX_QUERY. */
static int query_params(ta_plan_run *run, const ta_node *node, uint16_t from, uint16_t to)
{
    ta_str found[MAX_QUERY];
    ta_str rest = run->x->query;
    ta_qs_pair pair;
    for (uint16_t k = from; k < to; k++)
        found[k - from].ptr = NULL;
    while (ta_qs_next(&rest, &pair)) {
        for (uint16_t k = from; k < to; k++) {
            int rc = key_matches(&pair, &node->params[k]);
            if (rc < 0)
                return -1;
            if (rc) { /* the last one wins */
                found[k - from] = pair.value;
                if (pair.value.ptr == NULL)
                    found[k - from].ptr = "";
            }
        }
    }
    for (uint16_t k = from; k < to; k++) {
        const ta_param *param = &node->params[k];
        int rc = found[k - from].ptr ? from_text(run, node, param, found[k - from], ENC_QUERY)
                                     : absent(run, node, param);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int append(PyObject *list, ta_str text, ta_encoding enc)
{
    PyObject *value = ta_param_decode(text.ptr ? text : TA_STR(""), enc);
    int rc = value ? PyList_Append(list, value) : -1;
    Py_XDECREF(value);
    return rc;
}

/* All values of the alias, in order. */
static int collect(const ta_exchange *exchange, const ta_param *param, PyObject *list)
{
    if (param->source == SRC_QUERY) {
        ta_str rest = exchange->query;
        ta_qs_pair pair;
        while (ta_qs_next(&rest, &pair)) {
            int rc = key_matches(&pair, param);
            if (rc < 0 || (rc && append(list, pair.value, ENC_QUERY) < 0))
                return -1;
        }
        return 0;
    }
    for (uint32_t i = 0; i < exchange->nheaders; i++) {
        const ta_header *h = &exchange->headers[i];
        if (ta_str_eq(h->name, ta_str_of(param->alias, param->alias_len)) &&
            append(list, h->value, ENC_LATIN1) < 0)
            return -1;
    }
    return 0;
}

static int many_param(ta_plan_run *run, const ta_node *node, const ta_param *param)
{
    PyObject *list = PyList_New(0);
    if (list == NULL)
        return -1;
    int rc = collect(run->x, param, list);
    if (rc == 0)
        rc = PyList_GET_SIZE(list) > 0 ? from_object(run, node, param, list)
                                       : absent(run, node, param);
    Py_DECREF(list);
    return rc;
}

/* 1: *value; 0: no such cookie; -1: quoted, or its name is beyond ASCII: Starlette's parser
 * decides. */
static int find_cookie(const ta_exchange *exchange, const ta_param *param, ta_str *value)
{
    int found = 0;
    if (!ta_param_is_ascii(ta_str_of(param->alias, param->alias_len)))
        return -1;
    for (uint32_t h = 0; h < exchange->nheaders; h++) {
        if (!ta_str_eq(exchange->headers[h].name, TA_STR("cookie")))
            continue;
        ta_str rest = exchange->headers[h].value;
        ta_cookie_pair pair;
        while (ta_cookie_next(&rest, &pair)) {
            if (!ta_str_eq(pair.name, ta_str_of(param->alias, param->alias_len)))
                continue;
            if (pair.quoted)
                return -1;
            *value = pair.value; /* the last one wins */
            found = 1;
        }
    }
    return found;
}

static int cookie_param(ta_plan_run *run, const ta_node *node, const ta_param *param)
{
    ta_str value;
    switch (find_cookie(run->x, param, &value)) {
    case 1:
        return from_text(run, node, param, value, ENC_LATIN1);
    case 0:
        return absent(run, node, param);
    default:
        return from_container(run, node, param);
    }
}

static int query_model(ta_plan_run *run, const ta_node *node, const ta_param *param)
{
    PyObject *value, *content = ta_param_models_content(run, param);
    if (content == NULL)
        return -1;
    int rc = ta_params_try(run->plan->st, param->validator, content, &value);
    Py_DECREF(content);
    if (rc == 0)
        return ta_params_reject(run, param->loc);
    if (rc == 1)
        store(run, node, param, value);
    return rc < 0 ? -1 : 0;
}

int ta_params_extract(ta_plan_run *run, uint32_t index)
{
    const ta_node *node = &run->plan->nodes[index];
    uint16_t i = 0;
    while (i < node->nparams) {
        const ta_param *param = &node->params[i];
        int rc;
        if (param->many && !run->x->custom_request) {
            rc = many_param(run, node, param);
        } else if (param->model != NULL && !run->x->custom_request) {
            rc = query_model(run, node, param);
        } else if (param->extract != NULL || run->x->custom_request) {
            rc = from_container(run, node, param);
        } else if (param->source == SRC_QUERY) {
            uint16_t to = (uint16_t)(i + 1);
            while (to < node->nparams && to - i < MAX_QUERY &&
                   node->params[to].source == SRC_QUERY && node->params[to].extract == NULL)
                to++;
            if (query_params(run, node, i, to) < 0)
                return -1;
            i = to;
            continue;
        } else if (param->source == SRC_PATH) {
            rc = path_param(run, node, param);
        } else if (param->source == SRC_HEADER) {
            rc = header_param(run, node, param);
        } else {
            rc = cookie_param(run, node, param);
        }
        if (rc < 0)
            return -1;
        i++;
    }
    return 0;
}
