/*
 * shape_scalar.c -- single values of a shape: what a validator lets through unchanged, as pydantic
 * writes it.
 *
 * Layer: py/json.
 */
#include "py/json/shape_int.h"

#include <datetime.h>
#include <math.h>

int ta_shape_double(ta_shape_walk *walk, double v)
{
    /* Out of this range pydantic's notation is not Python's. */
    double size = fabs(v);
    if (!((size >= 1e-4 && size < 1e15) || v == 0))
        return 0;
    if (ta_writer_room(&walk->o, TA_JSON_DOUBLE_MAX) < 0)
        return -1;
    walk->o.at = ta_json_write_double(walk->o.at, v);
    return 1;
}

int ta_shape_str(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v, bool trusted)
{
    if (!PyUnicode_CheckExact(v) || !ta_shape_fits(node, PyUnicode_GET_LENGTH(v), trusted))
        return 0;
    return ta_writer_str(&walk->o, v);
}

int ta_shape_int(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v, bool trusted)
{
    long long n;
    if (!PyLong_CheckExact(v) || !ta_writer_small_int(v, &n))
        return 0;
    if (node->limited && !trusted && (n < node->low || n > node->high))
        return 0;
    if (ta_writer_room(&walk->o, TA_JSON_INT_MAX) < 0)
        return -1;
    walk->o.at = ta_json_write_i64(walk->o.at, n);
    return 1;
}

int ta_shape_float(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v, bool trusted)
{
    double x;
    if (PyFloat_CheckExact(v)) {
        x = PyFloat_AS_DOUBLE(v);
    } else {
        /* Where a float is expected an int becomes one. */
        long long n;
        if (trusted || !PyLong_CheckExact(v) || !ta_writer_small_int(v, &n) ||
            llabs(n) >= 1000000000000000)
            return 0;
        x = (double)n;
    }
    if (node->limited && !trusted && !(x >= node->float_low && x <= node->float_high))
        return 0;
    return ta_shape_double(walk, x);
}

int ta_shape_bool(ta_shape_walk *walk, const ta_shape_node *Py_UNUSED(node), PyObject *v,
                  bool Py_UNUSED(trusted))
{
    if (v == Py_True)
        return ta_writer_text(&walk->o, "true", 4);
    return v == Py_False ? ta_writer_text(&walk->o, "false", 5) : 0;
}

int ta_shape_none(ta_shape_walk *walk, const ta_shape_node *Py_UNUSED(node), PyObject *v,
                  bool Py_UNUSED(trusted))
{
    return v == Py_None ? ta_shape_put_null(walk) : 0;
}

int ta_shape_uuid(ta_shape_walk *walk, const ta_shape_node *Py_UNUSED(node), PyObject *v,
                  bool Py_UNUSED(trusted))
{
    return Py_IS_TYPE(v, walk->js->uuid_type) ? ta_writer_uuid(&walk->o, walk->js, v) : 0;
}

/* A datetime whose offset from UTC is fixed. */
static int put_with_offset(ta_shape_walk *walk, PyObject *v)
{
    (void)PyDateTimeAPI; /* the header's own copy stays unused: state belongs to the module */
    const ta_json_objects *js = walk->js;
    if (!Py_IS_TYPE(v, js->datetime_type) ||
        !Py_IS_TYPE(PyDateTime_DATE_GET_TZINFO(v), Py_TYPE(js->utc)))
        return 0;
    PyObject *text = PyObject_CallMethodNoArgs(v, js->str_isoformat);
    if (text == NULL)
        return ta_writer_refuse();
    /* Not all have whole minutes, and there are names for zero. */
    Py_ssize_t n = PyUnicode_GET_LENGTH(text);
    const char *end = (const char *)PyUnicode_DATA(text) + n;
    bool plain = n > 6 && (end[-6] == '+' || end[-6] == '-') && memcmp(end - 5, "00:00", 5) != 0;
    int rc = plain ? ta_writer_str(&walk->o, text) : 0;
    Py_DECREF(text);
    return rc;
}

int ta_shape_moment(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v,
                    bool Py_UNUSED(trusted))
{
    const ta_json_objects *js = walk->js;
    PyTypeObject *expected = node->kind == K_DATE   ? js->date_type
                             : node->kind == K_TIME ? js->time_type
                                                    : js->datetime_type;
    int rc = Py_IS_TYPE(v, expected) ? ta_writer_moment(&walk->o, js, v, "Z") : 0;
    return rc == 2 ? put_with_offset(walk, v) : rc;
}

static char *put_part(char *p, int64_t n, char unit)
{
    if (n == 0)
        return p;
    p = ta_json_write_i64(p, n);
    *p++ = unit;
    return p;
}

/* ISO 8601, with years of 365 days. */
int ta_shape_timedelta(ta_shape_walk *walk, const ta_shape_node *Py_UNUSED(node), PyObject *v,
                       bool Py_UNUSED(trusted))
{
    if (!Py_IS_TYPE(v, walk->js->timedelta_type))
        return 0;
    /* "-P2739726Y364DT23H59M59.999999S" */
    if (ta_writer_room(&walk->o, 64) < 0)
        return -1;
    const int64_t day = INT64_C(86400) * 1000000;
    int64_t days = PyDateTime_DELTA_GET_DAYS(v);
    int64_t rest =
        PyDateTime_DELTA_GET_SECONDS(v) * INT64_C(1000000) + PyDateTime_DELTA_GET_MICROSECONDS(v);
    char *p = walk->o.at;
    *p++ = '"';
    if (days < 0) { /* the rest is not negative */
        *p++ = '-';
        days = -days;
        if (rest > 0) {
            days--;
            rest = day - rest;
        }
    }
    *p++ = 'P';
    p = put_part(put_part(p, days / 365, 'Y'), days % 365, 'D');
    if (rest != 0 || days == 0) {
        *p++ = 'T';
        int64_t seconds = rest / 1000000, us = rest % 1000000;
        p = put_part(put_part(p, seconds / 3600, 'H'), seconds / 60 % 60, 'M');
        if (us != 0) {
            p = ta_json_write_i64(p, seconds % 60);
            *p++ = '.';
            for (int64_t unit = 100000; us != 0; us %= unit, unit /= 10)
                *p++ = (char)('0' + us / unit);
            *p++ = 'S';
        } else {
            p = rest == 0 ? ta_json_write_i64(p, 0) : put_part(p, seconds % 60, 'S');
            if (rest == 0)
                *p++ = 'S';
        }
    }
    *p++ = '"';
    walk->o.at = p;
    return 1;
}

int ta_shape_decimal(ta_shape_walk *walk, const ta_shape_node *Py_UNUSED(node), PyObject *v,
                     bool Py_UNUSED(trusted))
{
    if (!Py_IS_TYPE(v, walk->js->decimal_type))
        return 0;
    PyObject *text = PyObject_Str(v);
    if (text == NULL)
        return ta_writer_refuse();
    /* "NaN", "-Infinity" and the like are validated. */
    Py_UCS4 last = PyUnicode_READ_CHAR(text, PyUnicode_GET_LENGTH(text) - 1);
    int rc = last >= '0' && last <= '9' ? ta_writer_str(&walk->o, text) : 0;
    Py_DECREF(text);
    return rc;
}

/* Whether v is exactly such a str or int. */
static bool equals_raw(PyObject *v, PyObject *raw)
{
    if (v == raw)
        return true;
    if (Py_TYPE(v) != Py_TYPE(raw))
        return false;
    if (PyUnicode_CheckExact(v))
        return PyUnicode_Compare(v, raw) == 0;
    long long a, b;
    return PyLong_CheckExact(v) && ta_writer_small_int(v, &a) && ta_writer_small_int(raw, &b) &&
           a == b;
}

int ta_shape_choose(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v, bool trusted)
{
    for (Py_ssize_t i = 0; i < node->n; i++) {
        const ta_shape_choice *choice = &node->choices[i];
        if (v == choice->value)
            return ta_shape_put(walk, choice->text);
        /* A validator makes a member of an enum of its value. */
        bool same = choice->raw != NULL && (!trusted || choice->raw == choice->value);
        if (same && equals_raw(v, choice->raw))
            return ta_shape_put(walk, choice->text);
    }
    return 0;
}
