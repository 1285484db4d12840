/*
 * server.h -- the Server: what its files share of it.
 *
 * Layer: py (L4).  A Server belongs to one loop and its thread.
 */
#ifndef TA_PY_SERVER_SERVER_H
#define TA_PY_SERVER_SERVER_H

#include "base/log.h"
#include "base/stats.h"
#include "http/file.h"
#include "http/server.h"
#include "http/ws/conn.h"
#include "net/listener.h"
#include "net/proxy_gate.h"
#include "net/tls.h"
#include "py/loop/loop_state.h"
#include "py/server/app.h"

/* As many exchanges as wait at once are made and freed with little but their fields to be set. */
enum { TA_SERVER_UNUSED_MAX = 128 };

typedef struct ta_server ta_server;
typedef struct ta_access_log ta_access_log;
typedef struct ta_recorder ta_recorder;
typedef struct ta_request_ids ta_request_ids;

struct ta_server {
    PyObject_HEAD
    ta_state *st;            /* borrowed: the type keeps the module */
    ta_loop_state *ls;       /* borrowed from `selector` */
    PyObject *selector;      /* owned */
    ta_app *app;             /* owned; replaced when it is rebuilt */
    ta_app *front;           /* owned: the same of what is served before it; or NULL */
    ta_app *encoded;         /* owned: the same for bodies with a Content-Encoding; or NULL */
    PyObject *fronted;       /* owned tuple of str: the prefixes of its paths; or NULL */
    ta_http_server *http;    /* owned; NULL once closed */
    ta_tls *tls;             /* owned: of connections to come; NULL: they are plain */
    ta_proxy_gate *gate;     /* owned: of connections whose proxy has not said whose; or NULL */
    PyObject *proxy_trusts;  /* owned: called with a host: whether it is such a proxy; or NULL */
    ta_listener **listeners; /* owned array */
    unsigned nlisteners;
    ta_log log;
    PyObject *logger; /* owned: of what the protocol says, or NULL */
    PyObject
        *access; /* owned: called with (format, client, method, path, version, status), or NULL */
    PyObject *access_format;   /* owned str */
    ta_access_log *access_log; /* owned, or NULL */
    PyObject *proxy;       /* owned: called with a scope that has X-Forwarded-* fields, or NULL */
    PyObject *watch;       /* owned: of a test client, see test_observer.c; or NULL */
    PyObject *root_path;   /* owned str */
    ta_str root;           /* slice of root_path */
    PyObject *state;       /* owned dict: lifespan state, copied into each scope; or NULL */
    PyObject *asgi_info;   /* owned dict: scope["asgi"], copied */
    PyObject *blank_scope; /* owned dict: what scopes are copies of, or NULL before the first */
    PyObject *blank_extensions; /* borrowed: that scope's extensions */
    char local_host[64];        /* the address in it under "server": no terminator */
    size_t local_len;
    uint16_t local_port;
    PyObject *ws_info, *ws_extensions; /* owned dicts: the same for WebSockets */
    ta_ws_cfg ws_cfg;                  /* but what was agreed on with each client */
    uint32_t ws_queue;                 /* messages that may wait for receive(), 0: no limit */
    uint32_t ws_buffer;                /* bytes of them, 0: no limit */
    bool ws_deflate;                   /* offer permessage-deflate */
    ta_guest guest;                    /* of ls, until it is closed */
    bool kept;                         /* the loop owns a reference: from listen() until closed */
    ta_list_node websocks;             /* all there are */
    ta_timer ending;                   /* shutdown.c, once it was told to end */
    uint64_t grace;                    /* ms: of streams, from then on */
    PyObject *on_done;                 /* owned: called once after shutdown */
    ta_packer *packers[TA_CODINGS];    /* owned: streams to reuse, or NULL */
    ta_filters *filters;               /* owned: one that compresses, behind the applications' */
    PyObject *names[128];              /* owned: bytes of header names seen lately, by a hash */
    unsigned base_flags;               /* TA_RESP_HAS_DATE when no date is wanted */
    uint32_t max_requests;             /* in flight, then 503; 0: no limit */
    bool errors_on_send; /* spec_version 2.4: send() to a disconnected peer raises OSError */
    bool timed;          /* somebody asks how long requests take: notes.began is set */
    bool stopping;
    uint64_t proxy_logged; /* when it was told of a connection that was not let in, or 0 */
    uint64_t busy_logged;  /* when it was told that max_requests are in flight, or 0 */
    uint64_t full_logged;  /* when the log was told that there is no room for connections, or 0 */
    ta_recorder *recorder; /* owned: counts for metrics; or NULL */
    ta_request_ids *ids;   /* owned: gives requests names; or NULL */
    uint64_t accepted;     /* connections */
    /* Any thread may ask for these. */
    _Atomic uint64_t served; /* requests begun */
    _Atomic uint64_t active; /* exchanges whose connection is not done with them */
    _Atomic uint64_t tasks;  /* coroutines of ours that have not ended */
    ta_file_opener files;
    struct ta_file_stamps *stamps;  /* owned; NULL until a file was sent */
    unsigned file_response_version; /* of the last class whose FileResponses C sends, or 0 */
    bool http_done;                 /* after shutdown: no connection is left */
#ifndef Py_GIL_DISABLED
    void *unused[TA_SERVER_UNUSED_MAX]; /* owned: memory of exchanges, to be reused */
    unsigned nunused;
    PyTypeObject *unused_type; /* owned: that they were of */
#endif
};

/* What the protocol calls; its context is the server. */
extern const ta_http_ops ta_upcalls;

/* 0, or -1 with an exception: it is closed. */
TA_MUST_CHECK int ta_server_check_open(ta_server *server);
/* Calls on_done when the server has shut down and nothing is left. */
void ta_server_maybe_done(ta_server *server);

#endif
