/*
 * shape.h -- values of pydantic models to JSON in one pass, without pydantic.
 *
 * A shape is compiled from a core schema (python/turboapi/_compile/shape.py) that needs no code of
 * anybody to validate or to dump: models of plain fields, lists, dicts, and scalars. It writes what
 * `validate_python(from_attributes=True)` and then `to_json` with the shape's options would give,
 * for the values of which that is certain by their exact types. Of any other it says so, and
 * pydantic decides.
 *
 * Layer: py/json.
 */
#ifndef TA_PY_JSON_SHAPE_H
#define TA_PY_JSON_SHAPE_H

#include "py/json/encode.h"

/* Adds `Shape` to the module: 0, or -1 with an exception. */
int ta_shape_init(PyObject *module, ta_state *st);

/*
 * Appends the JSON of `value` (borrowed) to `out`. `trusted`: it has been validated, so that only
 * models' instances are known to be right, and what a validator would change is right as it is.
 * 1: done; 0: pydantic must decide (no exception is set); -1: exception (MemoryError). `out` is as
 * before unless the result is 1.  Runs no Python code but `==` of a dict's foreign keys, and where
 * a model is made of another object's attributes, isinstance() of that object.
 */
int ta_shape_encode(PyObject *shape, const ta_json_objects *js, PyObject *value, bool trusted,
                    ta_buf *out);

/*
 * The shape with which an instance of exactly this class is dumped as `model_dump(mode="json",
 * by_alias=True)` does: a new reference, or NULL without exception when there is none, or with one.
 */
PyObject *ta_shape_of_model(const ta_json_objects *js, PyTypeObject *model);

#endif
