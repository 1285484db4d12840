/*
 * selector_int.h -- what the files of the Selector share: selector.c, selector_attach.c,
 * selector_map.c, selector_lag.c, spawn.c.
 *
 * Layer: py (L4).  Nobody else includes it.
 */
#ifndef TA_PY_LOOP_SELECTOR_INT_H
#define TA_PY_LOOP_SELECTOR_INT_H

#include "py/loop/selector.h"

typedef struct ta_selector {
    PyObject_HEAD
    ta_loop_state ls;
    PyObject *keys; /* owned: {fd: SelectorKey} of foreign descriptors; NULL once closed */
    PyObject *map;  /* owned: what get_map() returns; it refers to keys */
} ta_selector;

/*
 * selector_attach.c: binds it to the loop that is running now, or to one made with it that does not
 * run yet (and to the current context), once; checks that they belong together.  0, or -1 with an
 * exception.
 */
int ta_selector_attach(ta_selector *self, PyObject *aioloop);
/* Ends everything that belongs to the loop; idempotent. */
void ta_selector_detach(ta_selector *self);

/* The descriptor of a file object, or of one that has none any more but is in `keys`; -1:
 * exception. */
int ta_selector_lookup(PyObject *keys, PyObject *fileobj, PyObject *name_fileobj);
/* The key of fileobj: 1 and a new reference, 0: none, -1: exception. */
int ta_selector_find_key(PyObject *keys, PyObject *fileobj, PyObject *name_fileobj, PyObject **key);
/* KeyError with a text made of the object; NULL. */
PyObject *ta_selector_key_error(const char *format, PyObject *fileobj);

/* Returns what get_map() does: a mapping of file objects to the keys in the dict. */
PyObject *ta_selector_map_new(ta_state *st, PyObject *keys);
int ta_selector_map_init(PyObject *module, ta_state *st);

/* Selector.spawn(coro, callback=None) */
PyObject *ta_selector_spawn(PyObject *selector, PyObject *const *args, Py_ssize_t nargs);

/* selector_lag.c: Selector.lag(), .highest_lag(); whether, and how, other threads may look at the
 * loop. */
PyObject *ta_selector_lag(PyObject *selector, PyObject *ignored);
PyObject *ta_selector_highest_lag(PyObject *selector, PyObject *ignored);
void ta_selector_lag_set(ta_loop_state *ls, bool open, bool nested);

#endif
