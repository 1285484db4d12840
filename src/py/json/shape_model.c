/*
 * shape_model.c -- models: their instances as they are, and what dicts and other objects become
 * when they are validated.
 *
 * Layer: py/json.
 */
#include "py/json/shape_int.h"

/* -- the object that is written ---------------------------------------------------------------- */

/* How much is written already: what ta_shape_walk.o can be taken back to. */
static inline size_t mark(const ta_shape_walk *walk)
{
    return walk->o.buf->len + (size_t)(walk->o.at - walk->o.from);
}

static void take_back(ta_shape_walk *walk, size_t to)
{
    ta_writer_commit(&walk->o);
    TA_ASSERT(to <= walk->o.buf->len);
    walk->o.buf->len = to;
    ta_writer_resume(&walk->o);
}

/* Each field begins with a comma: the first one becomes the opening bracket. */
static int end_object(ta_shape_walk *walk, size_t begun)
{
    ta_writer *o = &walk->o;
    if (mark(walk) == begun)
        return ta_writer_text(o, "{}", 2);
    o->buf->data[o->buf->off + begun] = '{';
    return ta_writer_put(o, '}');
}

/* -- what becomes an instance ------------------------------------------------------------------ */

/* Writes a field whose value has to be validated.  `value` is NULL when there is none. */
static int put_new(ta_shape_walk *walk, const ta_shape_field *field, PyObject *value)
{
    if (value == NULL) {
        if (field->dflt == NULL)
            return 0;
        if (field->text == NULL || walk->exclude_unset ||
            (walk->exclude_none && field->dflt_is_none))
            return 1;
        return ta_shape_put(walk, field->text) < 0 ? -1 : ta_shape_put(walk, field->dflt);
    }
    /* What is left out is validated all the same. */
    if (TA_UNLIKELY(field->text == NULL || (walk->exclude_none && value == Py_None))) {
        size_t before = mark(walk);
        int rc = ta_shape_value(walk, field->type, value, false);
        take_back(walk, before);
        return rc;
    }
    return ta_shape_put(walk, field->text) < 0 ? -1
                                               : ta_shape_value(walk, field->type, value, false);
}

/* Writes what validating a dict and dumping the model results in.  Other keys of the dict are
 * ignored. */
static int from_dict(ta_shape_walk *walk, const ta_shape_node *node, PyObject *dict)
{
    size_t begun = mark(walk);
    for (Py_ssize_t i = 0; i < node->n; i++) {
        const ta_shape_field *field = &node->fields[i];
        PyObject *value;
        if (field->key == NULL)
            return 0;
        int rc = PyDict_GetItemRef(dict, field->key, &value);
        if (rc == 0 && field->second != NULL)
            rc = PyDict_GetItemRef(dict, field->second, &value);
        if (rc < 0)
            return ta_writer_refuse();
        rc = put_new(walk, field, value);
        Py_XDECREF(value);
        if (rc != 1)
            return rc;
    }
    return end_object(walk, begun);
}

/* The same of the attributes of any object. */
static int from_attributes(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v)
{
    const ta_shape_source *found_source = ta_shape_source_of(walk, node, v);
    if (found_source == NULL)
        return ta_writer_refuse();
    if (!found_source->safe)
        return 0;
    ta_shape_source source = *found_source; /* that of a field may take its place */
    size_t begun = mark(walk);
    for (Py_ssize_t i = 0; i < node->n; i++) {
        const ta_shape_field *field = &node->fields[i];
        PyObject *value = NULL;
        if (field->key == NULL)
            return 0;
        ta_shape_found found = ta_shape_attribute(walk->js, &source, v, field->key, &value);
        if (found == ABSENT && field->second != NULL)
            found = ta_shape_attribute(walk->js, &source, v, field->second, &value);
        if (found == RAISED)
            return ta_writer_refuse();
        int rc = found == UNSURE ? 0 : put_new(walk, field, value);
        Py_XDECREF(value);
        if (rc != 1)
            return rc;
    }
    return end_object(walk, begun);
}

/* -- instances --------------------------------------------------------------------------------- */

/* Field names are identifiers; usually they are the same object. */
static inline bool same_name(PyObject *key, PyObject *name)
{
    if (TA_LIKELY(key == name))
        return true;
    return PyUnicode_CheckExact(key) && PyUnicode_Compare(key, name) == 0;
}

/* The field of this name, or NULL; usually it is the one at `likely`. */
static const ta_shape_field *field_named(const ta_shape_node *node, PyObject *key,
                                         Py_ssize_t likely)
{
    if (TA_LIKELY(likely < node->n && same_name(key, node->fields[likely].name)))
        return &node->fields[likely];
    for (Py_ssize_t i = 0; i < node->n; i++)
        if (same_name(key, node->fields[i].name))
            return &node->fields[i];
    return NULL;
}

/*
 * pydantic writes what is in __dict__ in its order, and passes over what is no field: the values
 * of cached properties, and fields of subclasses.
 */
static int fields_locked(ta_shape_walk *walk, const ta_shape_node *node, PyObject *dict,
                         PyObject *set)
{
    Py_ssize_t pos = 0, size = PyDict_GET_SIZE(dict);
    PyObject *key, *value;
    size_t begun = mark(walk);
    for (Py_ssize_t i = 0; PyDict_Next(dict, &pos, &key, &value); i++) {
        const ta_shape_field *field = field_named(node, key, i);
        if (field == NULL || field->text == NULL || (walk->exclude_none && value == Py_None))
            continue;
        if (set != NULL) {
            int is_set = PySet_Contains(set, field->name);
            if (is_set <= 0) {
                if (is_set < 0)
                    return ta_writer_refuse();
                continue;
            }
        }
        Py_INCREF(value);
        int rc = ta_shape_put(walk, field->text);
        if (rc == 1)
            rc = ta_shape_value(walk, field->type, value, true);
        Py_DECREF(value);
        if (rc != 1)
            return rc;
        if (TA_UNLIKELY(PyDict_GET_SIZE(dict) != size))
            return 0; /* changed under us */
    }
    return end_object(walk, begun);
}

static int instance(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v)
{
    PyObject *set = NULL;
    if (walk->exclude_unset) {
        set = PyObject_GenericGetAttr(v, walk->js->str_fields_set);
        if (set == NULL)
            return ta_writer_refuse();
        if (!PySet_CheckExact(set)) {
            Py_DECREF(set);
            return 0;
        }
    }
    PyObject *dict = PyObject_GenericGetDict(v, NULL);
    int rc = 0;
    if (dict == NULL) {
        rc = ta_writer_refuse();
    } else if (PyDict_CheckExact(dict)) {
        Py_BEGIN_CRITICAL_SECTION(dict);
        rc = fields_locked(walk, node, dict, set);
        Py_END_CRITICAL_SECTION();
    }
    Py_XDECREF(dict);
    Py_XDECREF(set);
    return rc;
}

int ta_shape_model(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v, bool trusted)
{
    if (PyObject_TypeCheck(v, node->cls))
        return instance(walk, node, v);
    if (trusted || !node->from_dict)
        return 0;
    /* pydantic reads subclasses of dict past their own methods, too. */
    return PyDict_Check(v) ? from_dict(walk, node, v) : from_attributes(walk, node, v);
}

/* Instances are taken as they are; pydantic reads their fields with getattr(). */
int ta_shape_dataclass(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v,
                       bool Py_UNUSED(trusted))
{
    if (!Py_IS_TYPE(v, node->cls) || walk->exclude_unset)
        return 0;
    const ta_shape_source *found_source = ta_shape_source_of(walk, node, v);
    if (found_source == NULL)
        return ta_writer_refuse();
    if (!found_source->safe)
        return 0;
    ta_shape_source source = *found_source;
    size_t begun = mark(walk);
    for (Py_ssize_t i = 0; i < node->n; i++) {
        const ta_shape_field *field = &node->fields[i];
        PyObject *value = NULL;
        ta_shape_found found = ta_shape_attribute(walk->js, &source, v, field->name, &value);
        if (found == RAISED)
            return ta_writer_refuse();
        if (found != FOUND)
            return 0;
        int rc = 1;
        if (field->text != NULL && !(walk->exclude_none && value == Py_None)) {
            rc = ta_shape_put(walk, field->text);
            if (rc == 1)
                rc = ta_shape_value(walk, field->type, value, true);
        }
        Py_DECREF(value);
        if (rc != 1)
            return rc;
    }
    return end_object(walk, begun);
}
