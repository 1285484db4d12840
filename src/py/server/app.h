/*
 * app.h -- `_core.App`: what the native server serves (docs/engine.md, "App").
 *
 * Layer: py (L4).  Immutable but for `stale`: threads share it without a lock.
 */
#ifndef TA_PY_SERVER_APP_H
#define TA_PY_SERVER_APP_H

#include <stdatomic.h>

#include "py/server/filters.h"
#include "py/server/server_objects.h"
#include "py/support/guards.h"

typedef struct ta_app {
    PyObject_HEAD
    PyObject *asgi;    /* owned: the ASGI 3 application */
    PyObject *router;  /* owned: _core.Router, or NULL */
    PyObject *stack;   /* owned: the user's middleware, what is called in place of asgi; or NULL */
    ta_guards *guards; /* owned: while they hold, `stack` is called; or NULL */
    PyObject *error_app;   /* owned: ASGI application that answers for an exception, or NULL */
    PyObject *rebuild;     /* owned: () -> App, or NULL */
    PyObject *scope_items; /* owned dict: what every scope of a direct run has besides, or NULL */
    ta_filters *filters;   /* owned: middleware round direct runs, or NULL */
    PyObject *root_path;   /* owned str */
    PyObject *prefix;      /* owned str: the templates of the mounts that lead here; or NULL */
    const char *root;      /* borrowed from root_path: UTF-8 */
    size_t root_len;
    uint64_t made; /* ns: no other was made here at that time */
    bool packs;    /* its own middleware decides which responses are packed */
    bool direct;   /* matched plans run without the ASGI application */
    /* Answered without it, too: */
    bool not_found;        /* 404, when nothing matches */
    bool not_allowed;      /* 405, by a route that has an `Allow` */
    bool redirect_slashes; /* before a 404: to the path with, or without, a slash at its end */
    bool pathsend;         /* scopes offer http.response.pathsend */
    atomic_bool stale;     /* the next request calls rebuild() */
} ta_app;

#endif
