/* plan_spec.c -- reading a plan's spec, with errors that name the key.  See plan_spec.h. */
#include "py/plan/plan_spec.h"

void ta_plan_spec_bad_type(const ta_plan_spec *rd, const char *key, const char *expected)
{
    PyErr_Format(PyExc_TypeError, "Plan spec: %s%s must be %s", rd->where, key, expected);
}

void ta_plan_spec_bad_value(const ta_plan_spec *rd, const char *key, const char *why)
{
    PyErr_Format(PyExc_ValueError, "Plan spec: %s%s %s", rd->where, key, why);
}

/* 1: *out is borrowed; 0: absent or None; -1: exception. */
int ta_plan_spec_get(const ta_plan_spec *rd, const char *key, PyObject **out)
{
    PyObject *name = PyUnicode_FromString(key);
    if (name == NULL)
        return -1;
    PyObject *value = PyDict_GetItemWithError(rd->dict, name);
    Py_DECREF(name);
    *out = NULL;
    if (value == NULL)
        return PyErr_Occurred() ? -1 : 0;
    if (value == Py_None)
        return 0;
    *out = value;
    return 1;
}

int ta_plan_spec_need(const ta_plan_spec *rd, const char *key, PyObject **out)
{
    int rc = ta_plan_spec_get(rd, key, out);
    if (rc == 0)
        PyErr_Format(PyExc_TypeError, "Plan spec: %s%s is missing", rd->where, key);
    return rc == 1 ? 0 : -1;
}

int ta_plan_spec_callable(const ta_plan_spec *rd, const char *key, PyObject **out /* owned */)
{
    PyObject *value;
    int rc = ta_plan_spec_get(rd, key, &value);
    if (rc <= 0)
        return rc;
    if (!PyCallable_Check(value)) {
        ta_plan_spec_bad_type(rd, key, "callable or None");
        return -1;
    }
    *out = Py_NewRef(value);
    return 0;
}

int ta_plan_spec_bool(const ta_plan_spec *rd, const char *key, bool dflt, bool *out)
{
    PyObject *value;
    int rc = ta_plan_spec_get(rd, key, &value);
    if (rc < 0)
        return -1;
    if (rc == 0) {
        *out = dflt;
        return 0;
    }
    if (!PyBool_Check(value)) {
        ta_plan_spec_bad_type(rd, key, "a bool");
        return -1;
    }
    *out = value == Py_True;
    return 0;
}

int ta_plan_spec_int(const ta_plan_spec *rd, const char *key, long dflt, long lo, long hi,
                     long *out)
{
    PyObject *value;
    int rc = ta_plan_spec_get(rd, key, &value);
    if (rc < 0)
        return -1;
    if (rc == 0) {
        *out = dflt;
        return 0;
    }
    if (!PyLong_Check(value)) {
        ta_plan_spec_bad_type(rd, key, "an int");
        return -1;
    }
    long n = PyLong_AsLong(value);
    if (n == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        n = lo - 1;
    }
    if (n < lo || n > hi) {
        ta_plan_spec_bad_value(rd, key, "is out of range");
        return -1;
    }
    *out = n;
    return 0;
}

int ta_plan_spec_choose(const ta_plan_spec *rd, const char *key, PyObject *value,
                        const char *const *names, int count, int *out)
{
    if (!PyUnicode_Check(value)) {
        ta_plan_spec_bad_type(rd, key, "a str");
        return -1;
    }
    for (int i = 0; i < count; i++) {
        if (PyUnicode_CompareWithASCIIString(value, names[i]) == 0) {
            *out = i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "Plan spec: %s%s is unknown: %R", rd->where, key, value);
    return -1;
}

int ta_plan_spec_choice(const ta_plan_spec *rd, const char *key, const char *const *names,
                        int count, int dflt, int *out)
{
    PyObject *value;
    int rc = ta_plan_spec_get(rd, key, &value);
    if (rc < 0)
        return -1;
    if (rc == 0) {
        if (dflt < 0) {
            PyErr_Format(PyExc_TypeError, "Plan spec: %s%s is missing", rd->where, key);
            return -1;
        }
        *out = dflt;
        return 0;
    }
    return ta_plan_spec_choose(rd, key, value, names, count, out);
}

int ta_plan_spec_check_keys(const ta_plan_spec *rd, const char *const *known)
{
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    while (PyDict_Next(rd->dict, &pos, &key, &value)) {
        if (!PyUnicode_Check(key)) {
            ta_plan_spec_bad_type(rd, "(a key)", "a str");
            return -1;
        }
        const char *const *k = known;
        while (*k != NULL && PyUnicode_CompareWithASCIIString(key, *k) != 0)
            k++;
        if (*k == NULL) {
            PyErr_Format(PyExc_TypeError, "Plan spec: %s%U is not a known key", rd->where, key);
            return -1;
        }
    }
    return 0;
}

/* The key's value as a new list or tuple (empty when absent): *fast to be released. */
int ta_plan_spec_seq(const ta_plan_spec *rd, const char *key, PyObject **fast)
{
    PyObject *value;
    int rc = ta_plan_spec_get(rd, key, &value);
    if (rc < 0)
        return -1;
    if (rc == 0) {
        *fast = PyTuple_New(0);
    } else if (!PyList_Check(value) && !PyTuple_Check(value)) {
        ta_plan_spec_bad_type(rd, key, "a list");
        return -1;
    } else {
        *fast = PySequence_Tuple(value);
    }
    if (*fast != NULL && PyTuple_GET_SIZE(*fast) > 4096) {
        ta_plan_spec_bad_value(rd, key, "has too many items");
        Py_CLEAR(*fast);
    }
    return *fast ? 0 : -1;
}

int ta_plan_spec_open(ta_plan_spec *rd, PyObject *obj, const char *format, const char *outer,
                      int index)
{
    PyOS_snprintf(rd->where, sizeof rd->where, format, outer, index);
    rd->dict = obj;
    if (!PyDict_Check(obj)) {
        size_t n = strlen(rd->where);
        if (n > 0)
            rd->where[n - 1] = '\0'; /* the trailing dot */
        PyErr_Format(PyExc_TypeError, "Plan spec: %s must be a dict", rd->where);
        return -1;
    }
    return 0;
}
