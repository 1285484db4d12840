/*
 * json_objects.h -- the Python objects that layer json keeps in the module's state; see
 * support/state.h.
 *
 * Layer: py/json.
 */
#ifndef TA_PY_JSON_JSON_OBJECTS_H
#define TA_PY_JSON_JSON_OBJECTS_H

#include "py/support/state.h"

/* What the encoder knows by identity.  Owned object pointers only. */
typedef struct ta_json_objects {
    PyTypeObject *datetime_type, *date_type, *time_type, *timedelta_type;
    PyTypeObject *uuid_type, *decimal_type, *deque_type;
    PyTypeObject *enum_meta;  /* enum.EnumMeta */
    PyTypeObject *model_type; /* pydantic.BaseModel; NULL without pydantic */
    PyObject *utc;            /* datetime.timezone.utc */
    PyObject *asdict;         /* dataclasses.asdict */
    PyTypeObject *shape_type; /* shape.c */
    PyObject *shapes;         /* dict: model class -> its Shape, or None; see ta_shape_of_model */
    PyObject *getters;        /* dict: function -> bool; see shape_attributes.c */
    PyObject *mapping_type;   /* collections.abc.Mapping */
    PyObject *object_getattribute, *type_getattribute, *object_class; /* unbound */
    PyObject *model_getattr; /* BaseModel.__getattr__; NULL without pydantic */
    PyObject *dump_kwnames;  /* the keywords with which jsonable_encoder calls model_dump, */
    PyObject *dump_mode;     /* and the one value among theirs that is not True, False or None */
    PyObject *str_int, *str_value, *str_isoformat, *str_as_tuple, *str_exponent, *str_model_dump,
        *str_total_seconds, *str_dataclass_fields, *str_getattribute, *str_getattr, *str_class,
        *str_module, *str_get, *str_key, *str_impl, *str_supports_population, *str_fields_set,
        *str_extra; /* interned */
} ta_json_objects;

/* The state as this layer sees it. */
typedef struct ta_json_module_state {
    ta_state below;
    ta_json_objects objects;
} ta_json_module_state;

static inline ta_json_objects *ta_json_objects_of(ta_state *st)
{
    return &((ta_json_module_state *)st)->objects;
}

#endif
