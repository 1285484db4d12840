/*
 * shape_int.h -- the nodes of a shape: made by shape_read.c, walked by shape.c.
 *
 * Layer: py/json.  Nobody else includes it.
 */
#ifndef TA_PY_JSON_SHAPE_INT_H
#define TA_PY_JSON_SHAPE_INT_H

#include "py/support/py_compat.h"

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
    K_LIST,
    K_DICT,
    K_CHOICE,
    K_MODEL,
    K_NULLABLE, /* in specs only: a node has a flag */
} ta_shape_kind;

typedef struct ta_shape_node ta_shape_node;

typedef struct ta_shape_field {
    PyObject *name;      /* owned */
    PyObject *key;       /* owned, or NULL */
    PyObject *text;      /* owned bytes, or NULL */
    PyObject *dflt;      /* owned bytes, or NULL */
    ta_shape_node *type; /* owned */
} ta_shape_field;

typedef struct ta_shape_choice {
    PyObject *value; /* owned */
    PyObject *text;  /* owned bytes */
} ta_shape_choice;

struct ta_shape_node {
    uint8_t kind;
    bool validates;
    bool nullable;     /* None is a value, too */
    bool none_checked; /* but a validator sees it */
    bool from_dict;    /* "model": a dict becomes one without code of the class */
    Py_ssize_t n;      /* of fields or choices */
    PyTypeObject *cls; /* owned; "model" */
    union {
        ta_shape_node *items;     /* owned; "list", "dict" */
        ta_shape_field *fields;   /* owned; "model" */
        ta_shape_choice *choices; /* owned; "choice" */
    };
};

/* A new tree, owned by the caller, or NULL with an exception.  `depth`: 0 for the root. */
ta_shape_node *ta_shape_node_new(PyObject *spec, int depth);
void ta_shape_node_free(ta_shape_node *node); /* NULL allowed */
int ta_shape_node_traverse(const ta_shape_node *node, visitproc visit,
                           void *arg); /* NULL allowed */

#endif
