/*
 * shape_int.h -- the nodes of a shape: made by shape_read.c, walked by the other shape_*.c.
 *
 * Layer: py/json.  Nobody else includes it.
 */
#ifndef TA_PY_JSON_SHAPE_INT_H
#define TA_PY_JSON_SHAPE_INT_H

#include "py/json/writer.h"

/* Depth of "any"; and of specs, so that a wrong one cannot exhaust the stack. */
enum { TA_SHAPE_MAX_DEPTH = 100 };

typedef enum ta_shape_kind {
    K_STR,
    K_INT,
    K_FLOAT,
    K_BOOL,
    K_NONE,
    K_ANY,
    K_UUID,
    K_DATE,
    K_TIME,
    K_DATETIME,
    K_DECIMAL,
    K_TIMEDELTA,
    K_LIST,
    K_TUPLE, /* of any length */
    K_SET,
    K_FROZENSET,
    K_DICT,
    K_UNION,
    K_CHOICE,
    K_MODEL,
    K_DATACLASS,
    K_NULLABLE, /* in specs only: a node has a flag */
} ta_shape_kind;

typedef struct ta_shape_node ta_shape_node;
typedef struct ta_shape_walk ta_shape_walk;

/* JSON that is known beforehand, with TA_SHAPE_SLACK bytes behind it that may be read: most of it
 * is copied without asking how long it is.
 */
enum { TA_SHAPE_SLACK = 32 };
typedef struct ta_shape_text {
    size_t len;
    char bytes[];
} ta_shape_text;

typedef struct ta_shape_field {
    PyObject *name;      /* owned */
    PyObject *key;       /* owned, or NULL */
    PyObject *second;    /* owned, or NULL: looked for when `key` is absent */
    ta_shape_text *text; /* owned, or NULL; with a comma before it */
    ta_shape_text *dflt; /* owned, or NULL */
    bool dflt_is_none;
    ta_shape_node *type; /* owned */
} ta_shape_field;

typedef struct ta_shape_choice {
    PyObject *value;     /* owned */
    PyObject *raw;       /* owned str or int, or NULL: what a validator takes for it */
    ta_shape_text *text; /* owned */
} ta_shape_choice;

/*
 * Writes a value (borrowed) of a node: 1: done; 0: pydantic must decide; -1: exception.
 * `trusted`: see shape.h.
 */
typedef int ta_shape_writer(ta_shape_walk *walk, const ta_shape_node *node, PyObject *value,
                            bool trusted);

struct ta_shape_node {
    ta_shape_writer *write; /* of its kind */
    uint8_t kind;
    bool validates;
    bool nullable;     /* None is a value, too */
    bool none_checked; /* but a validator sees it */
    bool limited;      /* a validator refuses what is not from low to high */
    bool from_dict;    /* "model": a dict becomes one without code of the class */
    Py_ssize_t n;      /* of fields, choices or members */
    PyTypeObject *cls; /* owned; "model", "dataclass" */
    union {
        struct {
            int64_t low, high; /* "int", and of lengths */
        };
        struct {
            double float_low, float_high; /* "float" */
        };
    };
    union {
        ta_shape_node *items;     /* owned; "list", "tuple", "set", "frozenset", "dict" */
        ta_shape_node **members;  /* owned; "union" */
        ta_shape_field *fields;   /* owned; "model", "dataclass" */
        ta_shape_choice *choices; /* owned; "choice" */
    };
};

/* A type whose instances are read as pydantic's `from_attributes` does; see shape_attributes.c. */
typedef struct ta_shape_source {
    const ta_shape_node *node; /* borrowed: the model that is made of them */
    PyTypeObject *type;        /* owned */
    bool safe;                 /* nothing of the class sees how attributes are read */
    bool hooked;               /* but for those that it does not have: `__getattr__` */
    bool model_hook;           /* which is BaseModel's own */
} ta_shape_source;

enum { TA_SHAPE_SOURCES = 4 };

struct ta_shape_walk {
    ta_writer o;
    const ta_json_objects *js; /* borrowed */
    int depth;                 /* of values of type Any */
    bool exclude_none, exclude_unset;
    unsigned met; /* the types met: the next of `sources` to be replaced */
    ta_shape_source sources[TA_SHAPE_SOURCES];
};

/* -- shape_read.c ------------------------------------------------------------------------------ */

/* A new tree, owned by the caller, or NULL with an exception.  `depth`: 0 for the root. */
ta_shape_node *ta_shape_node_new(PyObject *spec, int depth);
void ta_shape_node_free(ta_shape_node *node); /* NULL allowed */
int ta_shape_node_traverse(const ta_shape_node *node, visitproc visit,
                           void *arg); /* NULL allowed */

/* -- shape_scalar.c, shape_walk.c, shape_model.c ------------------------------------------------
 */

ta_shape_writer ta_shape_str, ta_shape_int, ta_shape_float, ta_shape_bool, ta_shape_none,
    ta_shape_uuid, ta_shape_moment, ta_shape_decimal, ta_shape_timedelta, ta_shape_choose;
ta_shape_writer ta_shape_any, ta_shape_list, ta_shape_tuple, ta_shape_set, ta_shape_dict,
    ta_shape_union;
ta_shape_writer ta_shape_model, ta_shape_dataclass;

/* A double as pydantic writes it. */
int ta_shape_double(ta_shape_walk *walk, double v);

static inline int ta_shape_put(ta_shape_walk *walk, const ta_shape_text *text)
{
    ta_writer *o = &walk->o;
    size_t n = text->len;
    if (ta_writer_room(o, n + TA_SHAPE_SLACK) < 0)
        return -1;
    memcpy(o->at, text->bytes, 16);
    if (n > 16)
        memcpy(o->at + 16, text->bytes + 16, 16);
    if (TA_UNLIKELY(n > 32))
        memcpy(o->at + 32, text->bytes + 32, n - 32);
    o->at += n;
    return 1;
}

static inline int ta_shape_put_null(ta_shape_walk *walk)
{
    return ta_writer_text(&walk->o, "null", 4);
}

/* Whether the items are `items`. */
static inline bool ta_shape_has_items(const ta_shape_node *node)
{
    return node->kind >= K_LIST && node->kind <= K_DICT;
}

/* Whether it has fields. */
static inline bool ta_shape_has_fields(const ta_shape_node *node)
{
    return node->kind == K_MODEL || node->kind == K_DATACLASS;
}

/* Whether a length is what a validator allows. */
static inline bool ta_shape_fits(const ta_shape_node *node, Py_ssize_t n, bool trusted)
{
    return TA_LIKELY(!node->limited) || trusted || (n >= node->low && n <= node->high);
}

/* Any value of a node. */
static inline int ta_shape_value(ta_shape_walk *walk, const ta_shape_node *node, PyObject *v,
                                 bool trusted)
{
    if (v == Py_None && node->nullable && (trusted || !node->none_checked))
        return ta_shape_put_null(walk);
    if (node->validates && !trusted)
        return 0;
    return node->write(walk, node, v, trusted);
}

/* -- shape_attributes.c ------------------------------------------------------------------------ */

typedef enum ta_shape_found { FOUND, ABSENT, UNSURE, RAISED } ta_shape_found;

/*
 * What is known of the type of `v`, of which a model is to be made: borrowed from the walk until
 * the next call; NULL with an exception.
 */
const ta_shape_source *ta_shape_source_of(ta_shape_walk *walk, const ta_shape_node *node,
                                          PyObject *v);
/* Forgets all types. */
void ta_shape_sources_clear(ta_shape_walk *walk);
/*
 * Reads v.key, running no Python code. FOUND: *out is a new reference; ABSENT: getattr() would
 * raise AttributeError; UNSURE: only getattr() can tell; RAISED: exception.
 */
ta_shape_found ta_shape_attribute(const ta_json_objects *js, const ta_shape_source *source,
                                  PyObject *v, PyObject *key, PyObject **out);

#endif
