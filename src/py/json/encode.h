/*
 * encode.h -- Python objects to the JSON bytes that FastAPI sends for them.
 *
 * Layer: py/json.
 */
#ifndef TA_PY_JSON_ENCODE_H
#define TA_PY_JSON_ENCODE_H

#include "base/buf.h"
#include "py/json/json_objects.h"

/* Fills the layer's objects and adds `encode_json` and `encode_json_item` to the module: 0, or -1
 * with an exception.
 */
int ta_encode_init(PyObject *module, ta_state *st);

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
int ta_encode_value(const ta_json_objects *js, PyObject *value, ta_buf *out);

/* The same without jsonable_encoder: only dicts, lists, tuples, str, int, float, bool and None,
 * none of them of a subclass.  Runs no Python code. */
int ta_encode_plain(const ta_json_objects *js, PyObject *value, ta_buf *out);

#endif
