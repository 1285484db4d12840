/*
 * json_enc.c -- see json_enc.h.
 *
 * The order of the checks is jsonable_encoder's wherever two of them could both apply: model,
 * dataclass, enum, then the plain types.  The exact built-in types are none of the former, so
 * they are tried first.  A container's items are held by a strong reference while they are
 * encoded, as a model's serializer may run any code, and on free-threaded builds other threads do.
 */
#include "py/json_enc.h"

#include <datetime.h>
#include <math.h>

#include "py/state.h"
#include "json/escape.h"
#include "json/num.h"

/*
 * Deeper values are left to Python, whose own recursion limit (1000 frames, three of them a level
 * at worst) decides.  Circular ones end here too.
 */
enum { MAX_DEPTH = 200 };

/* Strings up to here are written in one go. */
enum { SHORT_STRING = 512 };

typedef struct enc {
    const ta_json_state *js; /* borrowed */
    ta_buf *out;             /* borrowed */
    char *from, *at, *end;   /* written from..at, not committed to `out` yet; room up to end */
    int depth;
} enc;

static int encode(enc *e, PyObject *v);

/* -- output ------------------------------------------------------------------------------------ */

/* Makes what was written known to `out`. */
static inline void commit(enc *e)
{
    ta_buf_commit(e->out, (size_t)(e->at - e->from));
    e->from = e->at;
}

/* Takes up writing behind what `out` holds. */
static inline void resume(enc *e)
{
    ta_buf *out = e->out;
    e->from = e->at = out->data ? out->data + out->off + out->len : NULL;
    e->end = out->data ? out->data + out->cap : NULL;
}

static int grow(enc *e, size_t n)
{
    commit(e);
    char *p = ta_buf_reserve(e->out, n);
    resume(e);
    if (!p) {
        PyErr_NoMemory();
        return -1;
    }
    return 1;
}

/* Room for n bytes at e->at; 1, or -1 with an exception. */
static inline int room(enc *e, size_t n)
{
    if (TA_LIKELY((size_t)(e->end - e->at) >= n))
        return 1;
    return grow(e, n);
}

static inline int put(enc *e, char c)
{
    if (room(e, 1) < 0)
        return -1;
    *e->at++ = c;
    return 1;
}

static inline int put_text(enc *e, const char *text, size_t n)
{
    if (room(e, n) < 0)
        return -1;
    memcpy(e->at, text, n);
    e->at += n;
    return 1;
}

/* A failed call: memory and interrupts go up, anything else is raised again by Python's own run. */
static int refuse(void)
{
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

/* -- scalars ----------------------------------------------------------------------------------- */

/* A string that need not fit into the room at hand. */
static int encode_long_str(enc *e, PyObject *s, size_t len)
{
    const void *data = PyUnicode_DATA(s);
    int err;
    commit(e);
    if (PyUnicode_IS_ASCII(s))
        err = ta_json_string_utf8(e->out, data, len);
    else if (PyUnicode_KIND(s) == PyUnicode_1BYTE_KIND)
        err = ta_json_string_latin1(e->out, data, len);
    else if (PyUnicode_KIND(s) == PyUnicode_2BYTE_KIND)
        err = ta_json_string_ucs2(e->out, data, len);
    else
        err = ta_json_string_ucs4(e->out, data, len);
    resume(e);
    if (TA_LIKELY(err == TA_OK))
        return 1;
    if (err == TA_ENOMEM) {
        PyErr_NoMemory();
        return -1;
    }
    return 0; /* a lone surrogate */
}

static inline int encode_str(enc *e, PyObject *s)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(s) < 0)
        return -1;
#endif
    size_t len = (size_t)PyUnicode_GET_LENGTH(s);
    if (TA_UNLIKELY(len > SHORT_STRING || PyUnicode_KIND(s) != PyUnicode_1BYTE_KIND))
        return encode_long_str(e, s, len);
    if (room(e, TA_JSON_STRING_ROOM(len)) < 0)
        return -1;
    if (TA_LIKELY(PyUnicode_IS_ASCII(s)))
        e->at = ta_json_write_utf8(e->at, (const char *)PyUnicode_DATA(s), len);
    else
        e->at = ta_json_write_latin1(e->at, (const uint8_t *)PyUnicode_DATA(s), len);
    return 1;
}

/* Any exact int, without quotation marks. */
static int encode_int(enc *e, PyObject *v)
{
    int overflow = 0;
    long long n;
#if PY_VERSION_HEX >= 0x030c0000
    if (TA_LIKELY(PyUnstable_Long_IsCompact((PyLongObject *)v)))
        n = PyUnstable_Long_CompactValue((PyLongObject *)v);
    else
#endif
        n = PyLong_AsLongLongAndOverflow(v, &overflow);
    if (TA_LIKELY(!overflow)) {
        if (room(e, TA_JSON_INT_MAX) < 0)
            return -1;
        e->at = ta_json_write_i64(e->at, n);
        return 1;
    }
    PyObject *text = PyObject_Repr(v);
    if (!text) /* more digits than sys.get_int_max_str_digits() */
        return refuse();
    Py_ssize_t len;
    const char *s = PyUnicode_AsUTF8AndSize(text, &len);
    int rc = s ? put_text(e, s, (size_t)len) : -1;
    Py_DECREF(text);
    return rc;
}

static int encode_double(enc *e, double v)
{
    if (TA_UNLIKELY(!isfinite(v)))
        return 0;
    if (room(e, TA_JSON_DOUBLE_MAX) < 0)
        return -1;
    e->at = ta_json_write_double(e->at, v);
    return 1;
}

/* The plain values; 2 when it is none of them. */
static inline int encode_scalar(enc *e, PyObject *v)
{
    PyTypeObject *type = Py_TYPE(v);
    if (type == &PyUnicode_Type)
        return encode_str(e, v);
    if (type == &PyLong_Type)
        return encode_int(e, v);
    if (v == Py_None)
        return put_text(e, "null", 4);
    if (v == Py_True)
        return put_text(e, "true", 4);
    if (v == Py_False)
        return put_text(e, "false", 5);
    if (type == &PyFloat_Type)
        return encode_double(e, PyFloat_AS_DOUBLE(v));
    return 2;
}

/* Steals text (may be NULL: a failed call); encodes it when it is a plain value. */
static int encode_result(enc *e, PyObject *text)
{
    if (!text)
        return refuse();
    int rc = encode_scalar(e, text);
    Py_DECREF(text);
    return rc == 2 ? 0 : rc;
}

/* -- containers -------------------------------------------------------------------------------- */

/* jsonable_encoder drops keys that begin so (SQLAlchemy keeps its state under them). */
static bool is_hidden_key(PyObject *key)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(key) < 0) {
        PyErr_Clear(); /* encode_str meets it again */
        return false;
    }
#endif
    if (PyUnicode_GET_LENGTH(key) < 3)
        return false;
    int kind = (int)PyUnicode_KIND(key);
    const void *data = PyUnicode_DATA(key);
    return PyUnicode_READ(kind, data, 0) == '_' && PyUnicode_READ(kind, data, 1) == 's' &&
           PyUnicode_READ(kind, data, 2) == 'a';
}

/* The key and its colon.  Only keys that jsonable_encoder leaves as they are: no two of them become
 * one. */
static int encode_key(enc *e, PyObject *key)
{
    int rc;
    if (TA_LIKELY(PyUnicode_CheckExact(key))) {
        rc = encode_str(e, key);
    } else {
        if (put(e, '"') < 0)
            return -1;
        rc = encode_scalar(e, key);
        if (rc == 2)
            return 0;
        if (rc == 1)
            rc = put(e, '"');
    }
    return rc == 1 ? put(e, ':') : rc;
}

static int encode_dict_locked(enc *e, PyObject *dict)
{
    Py_ssize_t pos = 0;
    Py_ssize_t size = PyDict_GET_SIZE(dict);
    PyObject *key;
    PyObject *value;
    char before = '{';

    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (PyUnicode_CheckExact(key) && TA_UNLIKELY(is_hidden_key(key)))
            continue;
        Py_INCREF(key);
        Py_INCREF(value);
        int rc = put(e, before);
        if (rc == 1)
            rc = encode_key(e, key);
        if (rc == 1)
            rc = encode(e, value);
        Py_DECREF(key);
        Py_DECREF(value);
        if (rc != 1)
            return rc;
        if (TA_UNLIKELY(PyDict_GET_SIZE(dict) != size))
            return 0; /* changed under us */
        before = ',';
    }
    if (before == '{' && put(e, '{') < 0)
        return -1;
    return put(e, '}');
}

static int encode_dict(enc *e, PyObject *dict)
{
    int rc;
#ifdef Py_GIL_DISABLED
    Py_BEGIN_CRITICAL_SECTION(dict);
    rc = encode_dict_locked(e, dict);
    Py_END_CRITICAL_SECTION();
#else
    rc = encode_dict_locked(e, dict);
#endif
    return rc;
}

static int encode_list(enc *e, PyObject *list)
{
    if (put(e, '[') < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (i > 0 && put(e, ',') < 0)
            return -1;
#ifdef Py_GIL_DISABLED
        PyObject *item = PyList_GetItemRef(list, i);
        if (!item) { /* shortened by another thread since the check */
            PyErr_Clear();
            return 0;
        }
#else
        PyObject *item = Py_NewRef(PyList_GET_ITEM(list, i));
#endif
        int rc = encode(e, item);
        Py_DECREF(item);
        if (rc != 1)
            return rc;
    }
    return put(e, ']');
}

static int encode_tuple(enc *e, PyObject *tuple)
{
    if (put(e, '[') < 0)
        return -1;
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (i > 0 && put(e, ',') < 0)
            return -1;
        int rc = encode(e, PyTuple_GET_ITEM(tuple, i)); /* the caller holds the tuple */
        if (rc != 1)
            return rc;
    }
    return put(e, ']');
}

/* set, frozenset, deque: in the order of their iterators. */
static int encode_iterable(enc *e, PyObject *v)
{
    PyObject *iter = PyObject_GetIter(v);
    if (!iter)
        return refuse();
    char before = '[';
    PyObject *item;
    int rc = 1;
    while (rc == 1 && (item = PyIter_Next(iter)) != NULL) {
        rc = put(e, before);
        if (rc == 1)
            rc = encode(e, item);
        Py_DECREF(item);
        before = ',';
    }
    Py_DECREF(iter);
    if (rc != 1)
        return rc;
    if (PyErr_Occurred())
        return refuse(); /* changed while iterated over */
    if (before == '[' && put(e, '[') < 0)
        return -1;
    return put(e, ']');
}

/* -- types of the standard library ---------------------------------------------------------------
 */

static char *two(char *p, int v)
{
    p[0] = (char)('0' + v / 10);
    p[1] = (char)('0' + v % 10);
    return p + 2;
}

static char *write_date(char *p, int year, int month, int day)
{
    p = two(two(p, year / 100), year % 100);
    *p++ = '-';
    p = two(p, month);
    *p++ = '-';
    return two(p, day);
}

static char *write_time(char *p, int hour, int minute, int second, int us)
{
    p = two(p, hour);
    *p++ = ':';
    p = two(p, minute);
    *p++ = ':';
    p = two(p, second);
    if (us) {
        *p++ = '.';
        p = two(two(two(p, us / 10000), us / 100 % 100), us % 100);
    }
    return p;
}

/* date, time and datetime; what has a time zone other than UTC asks Python's isoformat. */
static int encode_moment(enc *e, PyObject *v, PyTypeObject *type)
{
    const ta_json_state *js = e->js;
    char text[40];
    char *p = text;
    PyObject *tz = Py_None;
    *p++ = '"';
    if (type == js->date_type) {
        p = write_date(p, PyDateTime_GET_YEAR(v), PyDateTime_GET_MONTH(v), PyDateTime_GET_DAY(v));
    } else if (type == js->datetime_type) {
        tz = PyDateTime_DATE_GET_TZINFO(v);
        p = write_date(p, PyDateTime_GET_YEAR(v), PyDateTime_GET_MONTH(v), PyDateTime_GET_DAY(v));
        *p++ = 'T';
        p = write_time(p, PyDateTime_DATE_GET_HOUR(v), PyDateTime_DATE_GET_MINUTE(v),
                       PyDateTime_DATE_GET_SECOND(v), PyDateTime_DATE_GET_MICROSECOND(v));
    } else {
        tz = PyDateTime_TIME_GET_TZINFO(v);
        p = write_time(p, PyDateTime_TIME_GET_HOUR(v), PyDateTime_TIME_GET_MINUTE(v),
                       PyDateTime_TIME_GET_SECOND(v), PyDateTime_TIME_GET_MICROSECOND(v));
    }
    if (tz == js->utc) {
        memcpy(p, "+00:00", 6);
        p += 6;
    } else if (tz != Py_None) {
        return encode_result(e, PyObject_CallMethodNoArgs(v, js->str_isoformat));
    }
    *p++ = '"';
    return put_text(e, text, (size_t)(p - text));
}

/* total_seconds(): whole microseconds over a million, rounded once. */
static int encode_timedelta(enc *e, PyObject *v)
{
    int64_t us = ((int64_t)PyDateTime_DELTA_GET_DAYS(v) * 86400 + PyDateTime_DELTA_GET_SECONDS(v));
    const int64_t exact = INT64_C(1) << 53; /* a double holds every integer up to here */
    if (us < exact / 1000000 && us > -exact / 1000000) {
        us = us * 1000000 + PyDateTime_DELTA_GET_MICROSECONDS(v);
        return encode_double(e, (double)us / 1e6);
    }
    return encode_result(e, PyObject_CallMethodNoArgs(v, e->js->str_total_seconds));
}

/* The number's 16 bytes, or 0 when it is not what a UUID keeps there. */
static int uuid_bytes(PyObject *number, unsigned char raw[16])
{
    if (!PyLong_CheckExact(number))
        return 0;
#if PY_VERSION_HEX >= 0x030d0000
    Py_ssize_t n = PyLong_AsNativeBytes(
        number, raw, 16, Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER);
    if (n < 0)
        return refuse();
    return n <= 16;
#else
    return _PyLong_AsByteArray((PyLongObject *)number, raw, 16, 0, 0) < 0 ? refuse() : 1;
#endif
}

static int encode_uuid(enc *e, PyObject *v)
{
    PyObject *number = PyObject_GetAttr(v, e->js->str_int);
    if (!number)
        return refuse();
    unsigned char raw[16];
    int rc = uuid_bytes(number, raw);
    Py_DECREF(number);
    if (rc != 1)
        return rc;
    static const char hex[16] = "0123456789abcdef";
    char text[38];
    char *p = text;
    *p++ = '"';
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[raw[i] >> 4];
        *p++ = hex[raw[i] & 15];
    }
    *p = '"';
    return put_text(e, text, sizeof text);
}

/* An int when there is no fraction in its notation, else a float. */
static int encode_decimal(enc *e, PyObject *v)
{
    PyObject *parts = PyObject_CallMethodNoArgs(v, e->js->str_as_tuple);
    if (!parts)
        return refuse();
    PyObject *exponent = PyObject_GetAttr(parts, e->js->str_exponent);
    Py_DECREF(parts);
    if (!exponent)
        return refuse();
    bool whole = false;
    if (PyLong_Check(exponent)) {
        int overflow;
        long n = PyLong_AsLongAndOverflow(exponent, &overflow);
        if (overflow || n > 100000) { /* the int would be huge, and refused in the end */
            Py_DECREF(exponent);
            return 0;
        }
        whole = n >= 0;
    }
    Py_DECREF(exponent);
    return encode_result(e, whole ? PyNumber_Long(v) : PyNumber_Float(v));
}

static int encode_bytes(enc *e, PyObject *v)
{
    return encode_result(e, PyUnicode_DecodeUTF8(PyBytes_AS_STRING(v), PyBytes_GET_SIZE(v), NULL));
}

/* -- types of the application --------------------------------------------------------------------
 */

/* Steals v; NULL with an exception: that is what Python's run would raise as well. */
static int encode_converted(enc *e, PyObject *v)
{
    if (!v)
        return -1;
    int rc = encode(e, v);
    Py_DECREF(v);
    return rc;
}

static int encode_model(enc *e, PyObject *v)
{
    const ta_json_state *js = e->js;
    /* self, mode, include, exclude, by_alias, exclude_unset, exclude_none, exclude_defaults */
    PyObject *args[8] = {v, js->dump_mode, Py_None, Py_None, Py_True, Py_False, Py_False, Py_False};
    return encode_converted(
        e, PyObject_VectorcallMethod(js->str_model_dump, args, 1, js->dump_kwnames));
}

static int encode_foreign(enc *e, PyObject *v, PyTypeObject *type)
{
    const ta_json_state *js = e->js;
    if (js->model_type && PyType_IsSubtype(type, js->model_type))
        return encode_model(e, v);

    PyObject *fields;
    int dataclass = PyObject_GetOptionalAttr((PyObject *)type, js->str_dataclass_fields, &fields);
    if (dataclass < 0)
        return refuse();
    Py_XDECREF(fields);
    if (dataclass)
        return encode_converted(e, PyObject_CallOneArg(js->asdict, v));

    /* An enum's value goes to json.dumps as it is: only what that knows. */
    if (PyType_IsSubtype(Py_TYPE(type), js->enum_meta))
        return encode_result(e, PyObject_GetAttr(v, js->str_value));
    return 0;
}

/* Everything but containers of the language. */
static int encode_other(enc *e, PyObject *v, PyTypeObject *type)
{
    const ta_json_state *js = e->js;
    if (type == js->datetime_type || type == js->date_type || type == js->time_type)
        return encode_moment(e, v, type);
    if (type == js->uuid_type)
        return encode_uuid(e, v);
    if (type == js->decimal_type)
        return encode_decimal(e, v);
    if (type == js->timedelta_type)
        return encode_timedelta(e, v);
    if (type == &PyBytes_Type)
        return encode_bytes(e, v);
    if (type == &PySet_Type || type == &PyFrozenSet_Type || type == js->deque_type)
        return encode_iterable(e, v);
    return encode_foreign(e, v, type);
}

static int encode(enc *e, PyObject *v)
{
    int rc = encode_scalar(e, v);
    if (TA_LIKELY(rc != 2))
        return rc;
    if (e->depth >= MAX_DEPTH)
        return 0;
    e->depth++;
    PyTypeObject *type = Py_TYPE(v);
    if (type == &PyDict_Type)
        rc = encode_dict(e, v);
    else if (type == &PyList_Type)
        rc = encode_list(e, v);
    else if (type == &PyTuple_Type)
        rc = encode_tuple(e, v);
    else
        rc = encode_other(e, v, type);
    e->depth--;
    return rc;
}

int ta_json_encode(const ta_json_state *js, PyObject *value, ta_buf *out)
{
    size_t start = out->len;
    enc e = {.js = js, .out = out, .depth = 0};
    resume(&e);
    int rc = encode(&e, value);
    commit(&e);
    if (rc != 1)
        out->len = start;
    return rc;
}

/* -- state ------------------------------------------------------------------------------------- */

/* module.attr as a type; 0, or -1 with an exception. */
static int import_type(const char *module, const char *attr, PyTypeObject **out)
{
    PyObject *type = ta_import_attr(module, attr);
    if (!type)
        return -1;
    if (!PyType_Check(type)) {
        PyErr_Format(PyExc_TypeError, "%s.%s is not a type", module, attr);
        Py_DECREF(type);
        return -1;
    }
    *out = (PyTypeObject *)type;
    return 0;
}

static int import_types(ta_json_state *js)
{
    PyDateTime_CAPI *api = PyCapsule_Import(PyDateTime_CAPSULE_NAME, 0);
    if (!api)
        return -1;
    (void)PyDateTimeAPI; /* the header's own copy stays unused: state belongs to the module */
    js->datetime_type = (PyTypeObject *)Py_NewRef((PyObject *)api->DateTimeType);
    js->date_type = (PyTypeObject *)Py_NewRef((PyObject *)api->DateType);
    js->time_type = (PyTypeObject *)Py_NewRef((PyObject *)api->TimeType);
    js->timedelta_type = (PyTypeObject *)Py_NewRef((PyObject *)api->DeltaType);
    js->utc = Py_NewRef(api->TimeZone_UTC);
    if (import_type("uuid", "UUID", &js->uuid_type) < 0 ||
        import_type("decimal", "Decimal", &js->decimal_type) < 0 ||
        import_type("collections", "deque", &js->deque_type) < 0 ||
        import_type("enum", "EnumMeta", &js->enum_meta) < 0)
        return -1;
    if (import_type("pydantic", "BaseModel", &js->model_type) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_ImportError))
            return -1;
        PyErr_Clear();
    }
    return 0;
}

static int intern(PyObject **out, const char *text)
{
    *out = PyUnicode_InternFromString(text);
    return *out ? 0 : -1;
}

static int init_state(ta_json_state *js)
{
    if (import_types(js) < 0)
        return -1;
    js->asdict = ta_import_attr("dataclasses", "asdict");
    if (!js->asdict)
        return -1;
    if (intern(&js->str_int, "int") < 0 || intern(&js->str_value, "value") < 0 ||
        intern(&js->str_isoformat, "isoformat") < 0 || intern(&js->str_as_tuple, "as_tuple") < 0 ||
        intern(&js->str_exponent, "exponent") < 0 ||
        intern(&js->str_model_dump, "model_dump") < 0 ||
        intern(&js->str_total_seconds, "total_seconds") < 0 ||
        intern(&js->str_dataclass_fields, "__dataclass_fields__") < 0 ||
        intern(&js->dump_mode, "json") < 0)
        return -1;
    js->dump_kwnames = Py_BuildValue("(sssssss)", "mode", "include", "exclude", "by_alias",
                                     "exclude_unset", "exclude_none", "exclude_defaults");
    return js->dump_kwnames ? 0 : -1;
}

PyDoc_STRVAR(encode_doc,
             "encode_json($module, value, /)\n--\n\n"
             "Return the JSON bytes that FastAPI sends for a value.\n\n"
             "None: not a value that C encodes; jsonable_encoder and json.dumps decide.");

static PyObject *encode_json(PyObject *module, PyObject *value)
{
    ta_buf out;
    ta_buf_init(&out);
    PyObject *result = NULL;
    int rc = ta_json_encode(&ta_state_of_module(module)->o.json, value, &out);
    if (rc == 1) {
        ta_str bytes = ta_buf_str(&out);
        result = PyBytes_FromStringAndSize(bytes.ptr, (Py_ssize_t)bytes.len);
    } else if (rc == 0) {
        result = Py_NewRef(Py_None);
    }
    ta_buf_free(&out);
    return result;
}

static PyMethodDef functions[] = {
    {"encode_json", encode_json, METH_O, encode_doc},
    {NULL, NULL, 0, NULL},
};

int ta_json_init(PyObject *module, ta_state *st)
{
    if (init_state(&st->o.json) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
