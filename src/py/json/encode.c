/*
 * encode.c -- see encode.h.
 *
 * The order of the checks is jsonable_encoder's wherever two of them could both apply: model,
 * dataclass, enum, then the plain types.  The exact built-in types are none of the former, so
 * they are tried first.  A container's items are held by a strong reference while they are
 * encoded, as a model's serializer may run any code, and on free-threaded builds other threads do.
 */
#include "py/json/encode.h"

#include <datetime.h>
#include <math.h>

#include "py/json/shape.h"
#include "py/json/writer.h"
#include "py/support/types.h"
#include "json/num.h"

/*
 * Deeper values are left to Python, whose own recursion limit (1000 frames, at worst three per
 * level) decides.  Circular ones end here too.
 */
enum { MAX_DEPTH = 200 };

typedef struct enc {
    ta_writer o;
    const ta_json_objects *js; /* borrowed */
    int depth;
    bool item;  /* as encode_json_item: ASCII, with spaces; null for NaN and the infinities */
    bool plain; /* as json.dumps: nothing but what that knows */
} enc;

static int encode(enc *encoder, PyObject *v);

/* A comma or a colon. */
static inline int put_mark(enc *e, char mark)
{
    return e->item ? ta_writer_text(&e->o, (char[]){mark, ' '}, 2) : ta_writer_put(&e->o, mark);
}

/* Writes what precedes a member: the opening bracket, or a comma. */
static inline int put_before(enc *e, char mark)
{
    return mark == ',' ? put_mark(e, mark) : ta_writer_put(&e->o, mark);
}

static inline int encode_str(enc *e, PyObject *v)
{
    return TA_UNLIKELY(e->item) ? ta_writer_ascii_str(&e->o, v) : ta_writer_str(&e->o, v);
}

/* -- scalars ----------------------------------------------------------------------------------- */

static int encode_double(enc *encoder, double v)
{
    if (TA_UNLIKELY(!isfinite(v)))
        return encoder->item ? ta_writer_text(&encoder->o, "null", 4) : 0;
    if (ta_writer_room(&encoder->o, TA_JSON_DOUBLE_MAX) < 0)
        return -1;
    encoder->o.at = ta_json_write_double(encoder->o.at, v);
    return 1;
}

/* Encodes the plain values; 2 when it is none of them. */
static inline int encode_scalar(enc *encoder, PyObject *v)
{
    PyTypeObject *type = Py_TYPE(v);
    if (type == &PyUnicode_Type)
        return encode_str(encoder, v);
    if (type == &PyLong_Type)
        return ta_writer_int(&encoder->o, v);
    if (v == Py_None)
        return ta_writer_text(&encoder->o, "null", 4);
    if (v == Py_True)
        return ta_writer_text(&encoder->o, "true", 4);
    if (v == Py_False)
        return ta_writer_text(&encoder->o, "false", 5);
    if (type == &PyFloat_Type)
        return encode_double(encoder, PyFloat_AS_DOUBLE(v));
    return 2;
}

/* Steals text (may be NULL: a failed call); encodes it when it is a plain value. */
static int encode_result(enc *e, PyObject *text)
{
    if (!text)
        return ta_writer_refuse();
    int rc = encode_scalar(e, text);
    Py_DECREF(text);
    return rc == 2 ? 0 : rc;
}

/* -- containers -------------------------------------------------------------------------------- */

/* jsonable_encoder drops keys with this prefix (SQLAlchemy keeps its state under them). */
static bool is_hidden_key(PyObject *key)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(key) < 0) {
        PyErr_Clear(); /* ta_writer_str meets it again */
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

/* Writes the key and its colon.  Only keys that jsonable_encoder leaves unchanged, so that no two
 * of them become one. */
static int encode_key(enc *encoder, PyObject *key)
{
    int rc;
    if (TA_LIKELY(PyUnicode_CheckExact(key))) {
        rc = encode_str(encoder, key);
    } else {
        if (PyFloat_CheckExact(key) && !isfinite(PyFloat_AS_DOUBLE(key)))
            return 0;
        if (ta_writer_put(&encoder->o, '"') < 0)
            return -1;
        rc = encode_scalar(encoder, key);
        if (rc == 2)
            return 0;
        if (rc == 1)
            rc = ta_writer_put(&encoder->o, '"');
    }
    return rc == 1 ? put_mark(encoder, ':') : rc;
}

static int encode_dict_locked(enc *encoder, PyObject *dict)
{
    Py_ssize_t pos = 0;
    Py_ssize_t size = PyDict_GET_SIZE(dict);
    PyObject *key;
    PyObject *value;
    char before = '{';

    while (PyDict_Next(dict, &pos, &key, &value)) {
        if (PyUnicode_CheckExact(key) && TA_UNLIKELY(is_hidden_key(key)) && !encoder->plain)
            continue;
        Py_INCREF(key);
        Py_INCREF(value);
        int rc = put_before(encoder, before);
        if (rc == 1)
            rc = encode_key(encoder, key);
        if (rc == 1)
            rc = encode(encoder, value);
        Py_DECREF(key);
        Py_DECREF(value);
        if (rc != 1)
            return rc;
        if (TA_UNLIKELY(PyDict_GET_SIZE(dict) != size))
            return 0; /* changed under us */
        before = ',';
    }
    if (before == '{' && ta_writer_put(&encoder->o, '{') < 0)
        return -1;
    return ta_writer_put(&encoder->o, '}');
}

static int encode_dict(enc *encoder, PyObject *dict)
{
    int rc;
    Py_BEGIN_CRITICAL_SECTION(dict);
    rc = encode_dict_locked(encoder, dict);
    Py_END_CRITICAL_SECTION();
    return rc;
}

static int encode_list(enc *encoder, PyObject *list)
{
    if (ta_writer_put(&encoder->o, '[') < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        if (i > 0 && put_mark(encoder, ',') < 0)
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
        int rc = encode(encoder, item);
        Py_DECREF(item);
        if (rc != 1)
            return rc;
    }
    return ta_writer_put(&encoder->o, ']');
}

static int encode_tuple(enc *encoder, PyObject *tuple)
{
    if (ta_writer_put(&encoder->o, '[') < 0)
        return -1;
    Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (i > 0 && put_mark(encoder, ',') < 0)
            return -1;
        int rc = encode(encoder, PyTuple_GET_ITEM(tuple, i)); /* the caller holds the tuple */
        if (rc != 1)
            return rc;
    }
    return ta_writer_put(&encoder->o, ']');
}

/* set, frozenset, deque: in the order of their iterators. */
static int encode_iterable(enc *encoder, PyObject *v)
{
    PyObject *iter = PyObject_GetIter(v);
    if (!iter)
        return ta_writer_refuse();
    char before = '[';
    PyObject *item;
    int rc = 1;
    while (rc == 1 && (item = PyIter_Next(iter)) != NULL) {
        rc = put_before(encoder, before);
        if (rc == 1)
            rc = encode(encoder, item);
        Py_DECREF(item);
        before = ',';
    }
    Py_DECREF(iter);
    if (rc != 1)
        return rc;
    if (PyErr_Occurred())
        return ta_writer_refuse(); /* changed while iterated over */
    if (before == '[' && ta_writer_put(&encoder->o, '[') < 0)
        return -1;
    return ta_writer_put(&encoder->o, ']');
}

/* -- types of the standard library ------------------------------------------------------------ */

/* date, time and datetime; what has a time zone other than UTC asks Python's isoformat. */
static int encode_moment(enc *e, PyObject *v)
{
    int rc = ta_writer_moment(&e->o, e->js, v, "+00:00");
    return rc == 2 ? encode_result(e, PyObject_CallMethodNoArgs(v, e->js->str_isoformat)) : rc;
}

/* total_seconds(): whole microseconds over a million, rounded once. */
static int encode_timedelta(enc *encoder, PyObject *v)
{
    int64_t us = ((int64_t)PyDateTime_DELTA_GET_DAYS(v) * 86400 + PyDateTime_DELTA_GET_SECONDS(v));
    const int64_t exact = INT64_C(1) << 53; /* a double holds every integer up to here */
    if (us < exact / 1000000 && us > -exact / 1000000) {
        us = us * 1000000 + PyDateTime_DELTA_GET_MICROSECONDS(v);
        return encode_double(encoder, (double)us / 1e6);
    }
    return encode_result(encoder, PyObject_CallMethodNoArgs(v, encoder->js->str_total_seconds));
}

/* Becomes an int when its notation has no fraction, else a float. */
static int encode_decimal(enc *encoder, PyObject *v)
{
    PyObject *parts = PyObject_CallMethodNoArgs(v, encoder->js->str_as_tuple);
    if (!parts)
        return ta_writer_refuse();
    PyObject *exponent = PyObject_GetAttr(parts, encoder->js->str_exponent);
    Py_DECREF(parts);
    if (!exponent)
        return ta_writer_refuse();
    bool whole = false;
    if (PyLong_Check(exponent)) {
        int overflow;
        long n = PyLong_AsLongAndOverflow(exponent, &overflow);
        if (overflow || n > 100000) { /* the int would be huge, and refused afterwards */
            Py_DECREF(exponent);
            return 0;
        }
        whole = n >= 0;
    }
    Py_DECREF(exponent);
    return encode_result(encoder, whole ? PyNumber_Long(v) : PyNumber_Float(v));
}

static int encode_bytes(enc *e, PyObject *v)
{
    return encode_result(e, PyUnicode_DecodeUTF8(PyBytes_AS_STRING(v), PyBytes_GET_SIZE(v), NULL));
}

/* -- types of the application ----------------------------------------------------------------- */

/* Steals v; NULL with an exception: that is what Python's run would raise as well. */
static int encode_converted(enc *e, PyObject *v)
{
    if (!v)
        return -1;
    int rc = encode(e, v);
    Py_DECREF(v);
    return rc;
}

static int encode_model(enc *encoder, PyObject *v)
{
    const ta_json_objects *js = encoder->js;
    PyObject *shape = encoder->item ? NULL : ta_shape_of_model(js, Py_TYPE(v));
    if (shape != NULL) {
        TA_ASSERT(Py_IS_TYPE(shape, js->shape_type));
        ta_writer_commit(&encoder->o);
        int rc = ta_shape_encode(shape, js, v, true, encoder->o.buf);
        ta_writer_resume(&encoder->o);
        Py_DECREF(shape);
        if (rc != 0)
            return rc;
    } else if (PyErr_Occurred()) {
        return -1;
    }
    /* self, mode, include, exclude, by_alias, exclude_unset, exclude_none, exclude_defaults */
    PyObject *args[8] = {v, js->dump_mode, Py_None, Py_None, Py_True, Py_False, Py_False, Py_False};
    return encode_converted(
        encoder, PyObject_VectorcallMethod(js->str_model_dump, args, 1, js->dump_kwnames));
}

static int encode_foreign(enc *encoder, PyObject *v, PyTypeObject *type)
{
    const ta_json_objects *js = encoder->js;
    if (js->model_type && PyType_IsSubtype(type, js->model_type))
        return encode_model(encoder, v);

    PyObject *fields;
    int dataclass = PyObject_GetOptionalAttr((PyObject *)type, js->str_dataclass_fields, &fields);
    if (dataclass < 0)
        return ta_writer_refuse();
    Py_XDECREF(fields);
    if (dataclass)
        return encode_converted(encoder, PyObject_CallOneArg(js->asdict, v));

    /* An enum's value is passed to json.dumps unchanged: only what that knows. */
    if (PyType_IsSubtype(Py_TYPE(type), js->enum_meta))
        return encode_result(encoder, PyObject_GetAttr(v, js->str_value));
    return 0;
}

/* Encodes everything but the built-in containers. */
static int encode_other(enc *encoder, PyObject *v, PyTypeObject *type)
{
    const ta_json_objects *js = encoder->js;
    if (type == js->datetime_type || type == js->date_type || type == js->time_type)
        return encode_moment(encoder, v);
    if (type == js->uuid_type)
        return ta_writer_uuid(&encoder->o, js, v);
    if (type == js->decimal_type)
        return encode_decimal(encoder, v);
    if (type == js->timedelta_type)
        return encode_timedelta(encoder, v);
    if (type == &PyBytes_Type)
        return encode_bytes(encoder, v);
    if (type == &PySet_Type || type == &PyFrozenSet_Type || type == js->deque_type)
        return encode_iterable(encoder, v);
    return encode_foreign(encoder, v, type);
}

static int encode(enc *encoder, PyObject *v)
{
    int rc = encode_scalar(encoder, v);
    if (TA_LIKELY(rc != 2))
        return rc;
    if (encoder->depth >= MAX_DEPTH)
        return 0;
    encoder->depth++;
    PyTypeObject *type = Py_TYPE(v);
    if (type == &PyDict_Type)
        rc = encode_dict(encoder, v);
    else if (type == &PyList_Type)
        rc = encode_list(encoder, v);
    else if (type == &PyTuple_Type)
        rc = encode_tuple(encoder, v);
    else
        rc = encoder->plain ? 0 : encode_other(encoder, v, type);
    encoder->depth--;
    return rc;
}

static int encode_into(const ta_json_objects *js, PyObject *value, bool item, bool plain,
                       ta_buf *out)
{
    size_t start = out->len;
    enc e = {.o = ta_writer_begin(out), .js = js, .item = item, .plain = plain};
    int rc = encode(&e, value);
    TA_ASSERT(e.depth == 0 && rc <= 1 && (rc < 0) == (PyErr_Occurred() != NULL));
    ta_writer_commit(&e.o);
    if (rc != 1)
        out->len = start;
    return rc;
}

int ta_encode_value(const ta_json_objects *js, PyObject *value, ta_buf *out)
{
    return encode_into(js, value, false, false, out);
}

int ta_encode_plain(const ta_json_objects *js, PyObject *value, ta_buf *out)
{
    return encode_into(js, value, false, true, out);
}

/* -- state ------------------------------------------------------------------------------------- */

/* module.attr as a type; 0, or -1 with an exception. */
static int import_type(const char *module, const char *attr, PyTypeObject **out)
{
    PyObject *type = ta_types_import(module, attr);
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

static int import_types(ta_json_objects *js)
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

static int init_state(ta_json_objects *js)
{
    if (import_types(js) < 0)
        return -1;
    js->asdict = ta_types_import("dataclasses", "asdict");
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

PyDoc_STRVAR(
    encode_item_doc,
    "encode_json_item($module, value, /)\n--\n\n"
    "The same as an item of a stream: json.dumps(jsonable_encoder(value)), but null for a\n"
    "number that is not finite.");

static PyObject *bytes_of(PyObject *module, PyObject *value, bool item)
{
    ta_buf out;
    ta_buf_init(&out);
    PyObject *result = NULL;
    int rc = encode_into(ta_json_objects_of(ta_state_of_module(module)), value, item, false, &out);
    if (rc == 1) {
        ta_str bytes = ta_buf_str(&out);
        result = PyBytes_FromStringAndSize(bytes.ptr, (Py_ssize_t)bytes.len);
    } else if (rc == 0) {
        result = Py_NewRef(Py_None);
    }
    ta_buf_free(&out);
    return result;
}

static PyObject *encode_json(PyObject *module, PyObject *value)
{
    return bytes_of(module, value, false);
}

static PyObject *encode_json_item(PyObject *module, PyObject *value)
{
    return bytes_of(module, value, true);
}

static PyMethodDef functions[] = {
    {"encode_json", encode_json, METH_O, encode_doc},
    {"encode_json_item", encode_json_item, METH_O, encode_item_doc},
    {NULL, NULL, 0, NULL},
};

int ta_encode_init(PyObject *module, ta_state *st)
{
    if (init_state(ta_json_objects_of(st)) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
