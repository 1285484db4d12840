/*
 * param_models.c -- a model of query parameters: the dict of its fields and of whatever else the
 * query has, as turboapi.dependencies._extract makes it of request.query_params.
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

#include "http/url.h"
#include "py/plan/param_text.h"

/* New dict: the list of the values of each name, in the order of their first occurrence. */
static PyObject *group(ta_str query)
{
    PyObject *all = PyDict_New();
    ta_qs_pair pair;
    while (all != NULL && ta_qs_next(&query, &pair)) {
        PyObject *name = ta_param_decode(pair.name, ENC_QUERY), *values = NULL;
        PyObject *value =
            name ? ta_param_decode(pair.value.ptr ? pair.value : TA_STR(""), ENC_QUERY) : NULL;
        int rc = value ? PyDict_GetItemRef(all, name, &values) : -1;
        if (rc == 0 && ((values = PyList_New(0)) == NULL || PyDict_SetItem(all, name, values) < 0))
            rc = -1;
        if (rc < 0 || PyList_Append(values, value) < 0)
            Py_CLEAR(all);
        Py_XDECREF(name);
        Py_XDECREF(value);
        Py_XDECREF(values);
    }
    return all;
}

/* Adds a field's value, if the query has it. */
static int add_field(PyObject *content, PyObject *all, PyObject *name, bool is_list)
{
    PyObject *values;
    int rc = PyDict_GetItemRef(all, name, &values);
    if (rc <= 0)
        return rc;
    PyObject *last = PyList_GET_ITEM(values, PyList_GET_SIZE(values) - 1);
    rc = PyDict_SetItem(content, name, is_list ? values : last);
    Py_DECREF(values);
    return rc < 0 ? -1 : PyDict_DelItem(all, name);
}

/* Adds what is left: a list for what came several times. */
static int add_extras(PyObject *content, PyObject *all)
{
    Py_ssize_t pos = 0;
    PyObject *name, *values;
    int rc = 0;
    while (rc == 0 && PyDict_Next(all, &pos, &name, &values))
        rc = PyDict_SetItem(content, name,
                            PyList_GET_SIZE(values) == 1 ? PyList_GET_ITEM(values, 0) : values);
    return rc;
}

PyObject *ta_param_models_content(const ta_plan_run *run, const ta_param *param)
{
    PyObject *content = PyDict_New();
    PyObject *all = content ? group(run->x->query) : NULL;
    int rc = all ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(param->model); i++) {
        PyObject *field = PyTuple_GET_ITEM(param->model, i); /* (name, is_list) */
        rc = add_field(content, all, PyTuple_GET_ITEM(field, 0),
                       PyTuple_GET_ITEM(field, 1) == Py_True);
    }
    if (rc == 0)
        rc = add_extras(content, all);
    Py_XDECREF(all);
    if (rc < 0)
        Py_CLEAR(content);
    return content;
}
