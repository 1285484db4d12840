/*
 * native_exchange.h -- the exchange over a request of the native server.
 *
 * Layer: py (L4).
 */
#ifndef TA_PY_SERVER_NATIVE_EXCHANGE_H
#define TA_PY_SERVER_NATIVE_EXCHANGE_H

#include "py/exchange/exchange.h"
#include "py/server/filters.h"
#include "py/server/response_head.h"
#include "py/server/server.h"
#include "py/server/waiters.h"

typedef struct ta_websock ta_websock;   /* websocket.c */
typedef struct ta_streamer ta_streamer; /* streaming_response.c */

typedef struct ta_native {
    ta_xch base;
    ta_state *st;        /* borrowed: the type keeps the module */
    ta_server *server;   /* owned */
    ta_app *app;         /* owned: that which serves it */
    ta_req *req;         /* borrowed: NULL once closed, after on_close */
    ta_websock *ws;      /* owned: NULL unless the request opens a WebSocket */
    ta_streamer *stream; /* borrowed: iterates over a streamed response, or NULL */
    PyObject *watch;     /* owned: of a test, until the application is done; or NULL */
    ta_defer later; /* a start that had to wait, or a head that is not followed by a body at once */
    ta_waiters readers; /* receive() and body() wait for input or the peer's end */
    ta_waiters writers; /* send() waits for room */
    ta_head_out head;
    PyObject *reason;          /* owned bytes: reason phrase of the application's own, or NULL */
    const ta_filters *filters; /* borrowed from app: middleware round this direct run, or NULL */
    ta_gzip *gzip;             /* owned: compresses the response, or NULL */
    ta_buf packed;             /* owned: the piece that was compressed last */
    char *copy;                /* owned: memory of the slices when they outlive the request */
    char *path_mem;            /* owned: of base.path, when it is not the request's own */
    ta_str raw_path;
    size_t root_len;     /* below mounts: of the part of base.path that is root_path ... */
    size_t app_root_len; /* ... and app_root_path */
    uint32_t entry;      /* index of the router's entry, when matched */
    int status;          /* of the response, 0 before */
    int file;            /* owned: descriptor that is being sent, -1 */
    uint64_t received;   /* body bytes given to Python so far */
    int64_t sent;        /* body bytes of the response so far */
    uint64_t since;      /* ms: while the server ends, when it was told, or its response began */
    ta_http_version version;
    bool secure;
    bool matched;      /* entry is set */
    bool mounted;      /* root_len and app_root_len are set: app is a mounted one */
    bool disconnected; /* the peer has gone, as far as is known (http.h: on_disconnect) */
    bool gone;         /* nothing can be sent any more */
    bool done;         /* the application has sent all of its response */
    bool body_given;   /* receive() or body() has given all of the body */
    bool complete;     /* the response is complete (or given up) */
    bool head_waits;   /* head is set and not sent */
    bool streaming;    /* ta_resp_start was called */
    bool error_asked;  /* error_app was started */
    bool running;      /* a Task works on it */
    bool told;         /* the server ends: the client counts as gone (shutdown.c) */
    bool heard;        /* and the application knows */
    uint8_t packing;   /* ta_packing */
} ta_native;

static inline ta_native *ta_native_of(ta_xch *x)
{
    return (ta_native *)x;
}

ta_native *ta_native_new(ta_server *server, ta_req *req);
/* The request has no descriptor any more: slices are copied if somebody may still look at them. */
void ta_native_closed(ta_native *x);

int ta_native_init(PyObject *module, ta_state *st);

#endif
