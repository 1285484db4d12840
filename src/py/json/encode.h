/*
 * encode.h -- Python objects to the JSON bytes that FastAPI sends for them.
 *
 * Layer: py.
 */
#ifndef TA_PY_JSON_ENCODE_H
#define TA_PY_JSON_ENCODE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/buf.h"

/* What the encoder knows by identity: owned object pointers only, visited and cleared by module.c.
 */
typedef struct ta_json_state {
    PyTypeObject *datetime_type, *date_type, *time_type, *timedelta_type;
    PyTypeObject *uuid_type, *decimal_type, *deque_type;
    PyTypeObject *enum_meta;  /* enum.EnumMeta */
    PyTypeObject *model_type; /* pydantic.BaseModel; NULL without pydantic */
    PyObject *utc;            /* datetime.timezone.utc */
    PyObject *asdict;         /* dataclasses.asdict */
    PyTypeObject *shape_type; /* shape.c */
    PyObject *shapes;         /* dict: model class -> its Shape, or None; see ta_shape_of_model */
    PyObject *dump_kwnames;   /* the keywords with which jsonable_encoder calls model_dump, */
    PyObject *dump_mode;      /* and the one value among theirs that is not True, False or None */
    PyObject *str_int, *str_value, *str_isoformat, *str_as_tuple, *str_exponent, *str_model_dump,
        *str_total_seconds, *str_dataclass_fields; /* interned */
} ta_json_state;

struct ta_state;

/* Fills it and adds `encode_json` and `encode_json_item` to the module: 0, or -1 with an exception.
 */
int ta_json_init(PyObject *module, struct ta_state *st);

/*
 * Appends to `out` the bytes of
 *     json.dumps(jsonable_encoder(value), ensure_ascii=False, allow_nan=False,
 *                separators=(",", ":")).encode()
 *  1  done
 *  0  not a value it can encode (no exception is set): Python's own code must decide, which also
 *     raises the right error for NaN, lone surrogates, circular and other impossible values
 * -1  exception (MemoryError, or what a model's own serializer raised)
 * `out` is as before unless the result is 1.  `value` is borrowed.  May run Python code of the
 * value's parts (model_dump, asdict, an enum's value, a time zone's utcoffset).
 */
int ta_json_encode(const ta_json_state *js, PyObject *value, ta_buf *out);

#endif
