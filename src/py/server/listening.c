/*
 * listening.c -- what a Server listens on: sockets, the limit of connections, TLS.
 *
 * Layer: py/server.
 */
#include "py/server/listening.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "py/server/tls_object.h"
#include "py/support/exc.h"

static void accepted(ta_server *server, int rc)
{
    server->accepted += rc == TA_OK;
    if (rc < 0)
        ta_log_printf(&server->log, TA_LOG_ERROR, "A connection was refused: %s", ta_err_text(rc));
}

/* Serves a connection; `peer`: its client. */
static void serve(ta_server *server, int fd, const struct sockaddr *peer, socklen_t len)
{
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

/* -- the PROXY protocol ----------------------------------------------------------------------- */

/* Says why a connection was closed; at most once a minute, as anybody may try. */
static void log_proxy(ta_server *server, const struct sockaddr *peer, socklen_t len,
                      const char *why)
{
    enum { LOG_MS = 60000 };
    char host[INET6_ADDRSTRLEN] = "a unix socket";
    uint64_t now = ta_loop_now(server->ls->loop);
    if (server->proxy_logged != 0 && now < server->proxy_logged + LOG_MS)
        return;
    server->proxy_logged = now ? now : 1;
    if (peer->sa_family == AF_INET || peer->sa_family == AF_INET6)
        (void)getnameinfo(peer, len, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    ta_log_printf(&server->log, TA_LOG_WARNING, "A connection of %s was closed: %s", host, why);
}

static void on_proxied(void *ctx, int fd, const struct sockaddr *peer, socklen_t len)
{
    serve(ctx, fd, peer, len);
}

static void on_bad_header(void *ctx, const struct sockaddr *peer, socklen_t len)
{
    log_proxy(ctx, peer, len,
              "it does not begin with a header of the PROXY protocol "
              "(proxy_protocol)");
}

static const ta_proxy_gate_ops gate_ops = {on_proxied, on_bad_header, ta_listening_on_room};

/* Asks Python whether what this peer says is believed. */
static bool is_trusted(ta_server *server, const struct sockaddr *peer, socklen_t len)
{
    char host[INET6_ADDRSTRLEN] = "";
    bool inet = peer->sa_family == AF_INET || peer->sa_family == AF_INET6;
    if (inet && getnameinfo(peer, len, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0)
        return false;
    ta_loop_state_enter(server->ls);
    PyObject *answer = PyObject_CallFunction(server->proxy_trusts, "s", host);
    ta_loop_state_leave(server->ls);
    if (answer == NULL)
        ta_exc_report(server->st, NULL, "Exception while a connection was accepted");
    Py_XDECREF(answer);
    return answer == Py_True;
}

static void on_accept(ta_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    ta_server *server = ta_listener_ctx(l);
    if (TA_LIKELY(server->gate == NULL)) {
        serve(server, fd, peer, len);
    } else if (is_trusted(server, peer, len)) {
        accepted(server, ta_proxy_gate_enter(server->gate, fd, peer, len));
    } else {
        close(fd);
        log_proxy(server, peer, len,
                  "it is no trusted proxy (forwarded_allow_ips), and "
                  "proxy_protocol takes no others");
    }
}

PyObject *ta_listening_use_proxy_protocol(PyObject *self, PyObject *trusts)
{
    ta_server *server = (ta_server *)self;
    if (ta_server_check_open(server) < 0)
        return NULL;
    if (server->gate == NULL) {
        uint32_t ms = ta_http_server_limits(server->http)->timeout_header_ms;
        server->gate = ta_proxy_gate_new(server->ls->loop, ms, &gate_ops, server);
        if (server->gate == NULL)
            return PyErr_NoMemory();
    }
    Py_XSETREF(server->proxy_trusts, Py_NewRef(trusts));
    Py_RETURN_NONE;
}

enum { FULL_LOG_MS = 60000 };

static bool may_accept(ta_listener *l)
{
    ta_server *server = ta_listener_ctx(l);
    size_t waiting = server->gate ? ta_proxy_gate_waiting(server->gate) : 0;
    if (TA_LIKELY(!ta_http_server_full(server->http, waiting)))
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
    ta_listener_bound_unsent(l, ta_http_server_limits(server->http)->unsent);
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
    /* What a proxy has sent is served; those of which nothing is known yet end. */
    ta_proxy_gate_free(server->gate);
    server->gate = NULL;
}
