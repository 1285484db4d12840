/*
 * plan_spec.h -- reading the dicts that a plan is made from, with errors that name the key.  Layer:
 * py.
 *
 * All that can fail return -1 with a TypeError or ValueError "Plan spec: nodes[2].kind ...".
 */
#ifndef TA_PY_PLAN_PLAN_SPEC_H
#define TA_PY_PLAN_PLAN_SPEC_H

#include "py/support/py_compat.h"

/* A dict of the spec and how errors name it. */
typedef struct ta_plan_spec {
    PyObject *dict; /* borrowed */
    char where[96]; /* "nodes[2].params[0]." or "" */
} ta_plan_spec;

/* `where` is made of `format` with `outer` and `index`; `obj` (borrowed) must be a dict. */
int ta_plan_spec_open(ta_plan_spec *rd, PyObject *obj, const char *format, const char *outer,
                      int index);
/* No other keys than those, which a NULL ends. */
int ta_plan_spec_check_keys(const ta_plan_spec *rd, const char *const *known);

/* 1: *out is borrowed; 0: absent or None; -1: exception. */
int ta_plan_spec_get(const ta_plan_spec *rd, const char *key, PyObject **out);
/* 0: *out is borrowed; -1: exception, also when it is absent. */
int ta_plan_spec_need(const ta_plan_spec *rd, const char *key, PyObject **out);
/* *out (owned) is set only when the key is there. */
int ta_plan_spec_callable(const ta_plan_spec *rd, const char *key, PyObject **out);
int ta_plan_spec_bool(const ta_plan_spec *rd, const char *key, bool dflt, bool *out);
int ta_plan_spec_int(const ta_plan_spec *rd, const char *key, long dflt, long lo, long hi,
                     long *out);
/* The index of the key's value, or of `value`, among names; dflt < 0: it must be there. */
int ta_plan_spec_choice(const ta_plan_spec *rd, const char *key, const char *const *names,
                        int count, int dflt, int *out);
int ta_plan_spec_choose(const ta_plan_spec *rd, const char *key, PyObject *value,
                        const char *const *names, int count, int *out);
/* The key's value as a new tuple, empty when absent. */
int ta_plan_spec_seq(const ta_plan_spec *rd, const char *key, PyObject **tuple);

void ta_plan_spec_bad_type(const ta_plan_spec *rd, const char *key, const char *expected);
void ta_plan_spec_bad_value(const ta_plan_spec *rd, const char *key, const char *why);

#endif
