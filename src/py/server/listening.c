/*
 * listening.c -- what a Server listens on: sockets, the limit of connections, TLS.
 *
 * Layer: py/server.
 */
#include "py/server/listening.h"

#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "py/server/tls_object.h"

static void accepted(ta_server *server, int rc)
{
    server->accepted += rc == TA_OK;
    if (rc < 0)
        ta_log_printf(&server->log, TA_LOG_ERROR, "A connection was refused: %s", ta_err_text(rc));
}

static void on_accept(ta_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    ta_server *server = ta_listener_ctx(l);
    ta_transport *transport = NULL;
    int rc = TA_OK;
    if (server->tls != NULL && !(transport = ta_tls_accept(server->tls, fd, &server->log))) {
        close(fd);
        rc = TA_ENOMEM;
    }
    if (rc == TA_OK)
        rc = ta_http_server_accept(server->http, fd, peer, len, transport);
    accepted(server, rc);
}

enum { FULL_LOG_MS = 60000 };

static bool may_accept(ta_listener *l)
{
    ta_server *server = ta_listener_ctx(l);
    if (TA_LIKELY(!ta_http_server_full(server->http)))
        return true;
    uint64_t now = ta_loop_now(server->ls->loop);
    if (now >= server->full_logged + FULL_LOG_MS || server->full_logged == 0) {
        server->full_logged = now ? now : 1;
        ta_log_printf(&server->log, TA_LOG_WARNING,
                      "%zu connections are open, which is the limit (limit_connections): further "
                      "ones wait until one of them ends",
                      ta_http_server_connections(server->http));
    }
    return false;
}

static void on_exhausted(ta_listener *l, int error_number)
{
    ta_server *server = ta_listener_ctx(l);
    ta_log_printf(&server->log, TA_LOG_ERROR, "Cannot accept connections for now: %s",
                  strerror(error_number));
}

static const ta_listener_ops listener_ops = {on_accept, may_accept, on_exhausted};

void ta_listening_on_room(void *ctx)
{
    ta_server *server = ctx;
    for (unsigned i = 0; i < server->nlisteners; i++)
        ta_listener_resume(server->listeners[i]);
}

static PyObject *listen_on(ta_server *server, int fd, bool shared)
{
    if (ta_server_check_open(server) < 0)
        return NULL;
    if (server->stopping) {
        PyErr_SetString(PyExc_RuntimeError, "the server is shutting down");
        return NULL;
    }
    ta_listener **list =
        PyMem_Realloc(server->listeners, (server->nlisteners + 1) * sizeof(ta_listener *));
    if (list == NULL)
        return PyErr_NoMemory();
    server->listeners = list;
    /* Ours from here on: it must be closed at once after the last accept. */
    unsigned flags = TA_LISTENER_OWN | (shared ? TA_LISTENER_SHARED : 0);
    ta_listener *l = ta_listener_new(server->ls->loop, fd, flags, 0, &listener_ops, server);
    if (l == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    list[server->nlisteners++] = l;
    if (!server->kept) {
        /* A connection's upcalls need it, whoever else forgets it. */
        server->kept = true;
        Py_INCREF(server);
    }
    Py_RETURN_NONE;
}

PyObject *ta_listening_listen(PyObject *self, PyObject *args)
{
    int fd, shared = 0;
    if (!PyArg_ParseTuple(args, "i|p:listen", &fd, &shared))
        return NULL;
    return listen_on((ta_server *)self, fd, shared);
}

PyObject *ta_listening_use_tls(PyObject *self, PyObject *obj)
{
    ta_server *server = (ta_server *)self;
    ta_tls *tls = ta_tls_object_get(server->st, obj);
    if (tls == NULL)
        return NULL;
    ta_tls_unref(server->tls);
    server->tls = tls;
    Py_RETURN_NONE;
}

/* More than any backlog. */
enum { DRAIN_MAX = 1 << 16 };

void ta_listening_stop(ta_server *server)
{
    for (unsigned i = 0; i < server->nlisteners; i++) {
        /* Clients that have connected before now are served; nothing may come between the two. */
        if (server->stopping)
            ta_listener_drain(server->listeners[i], DRAIN_MAX);
        ta_listener_free(server->listeners[i]);
    }
    PyMem_Free(server->listeners);
    server->listeners = NULL;
    server->nlisteners = 0;
}
