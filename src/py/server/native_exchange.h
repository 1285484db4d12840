/*
 * native_exchange.h -- the exchange over a request of the native server.
 *
 * Layer: py (L4).
 */
#ifndef TA_PY_SERVER_NATIVE_EXCHANGE_H
#define TA_PY_SERVER_NATIVE_EXCHANGE_H

#include "py/exchange/exchange.h"
#include "py/server/filters.h"
#include "py/server/native_states.h"
#include "py/server/response_head.h"
#include "py/server/server.h"
#include "py/server/waiters.h"

typedef struct ta_websocket ta_websocket; /* websocket.c */
typedef struct ta_streamer ta_streamer;   /* streaming_response.c */

/* Which entry of which router the request was matched with: after TA_PLACE_STACK there is one. */
typedef enum ta_native_exchange_place {
    TA_PLACE_NONE,   /* of none: the ASGI application decides, or a router has refused it */
    TA_PLACE_STACK,  /* of none: the user's middleware is called, without what is round it */
    TA_PLACE_ROUTE,  /* `entry` of app's router */
    TA_PLACE_MOUNTED /* the same below mounts: app is a mounted one, the lengths of roots are set */
} ta_native_exchange_place;

/* The request, as it came. */
typedef struct ta_native_exchange_request {
    ta_str raw_path;
    char *copy;            /* owned: memory of the slices when they outlive the request, or NULL */
    char *path_mem;        /* owned: of base.path, when it is not the request's own; or NULL */
    uint32_t root_len;     /* below mounts: of the part of base.path that is root_path ... */
    uint32_t app_root_len; /* ... and app_root_path */
    ta_native_exchange_place place;
    uint32_t entry; /* index in the router, when there is a place */
    ta_http_version version;
    ta_input_state state;
    bool secure;
    uint64_t received;  /* body bytes given to Python so far */
    ta_waiters readers; /* receive() and body() wait for input or the peer's end */
} ta_native_exchange_request;

/* Whether trailers follow the body. */
typedef enum ta_trailers {
    TA_TRAILERS_NONE,
    TA_TRAILERS_AHEAD, /* its head announced them */
    TA_TRAILERS_NOW    /* all of the body was sent: out.head gathers them */
} ta_trailers;

/* The response, on its way out. */
typedef struct ta_native_exchange_response {
    ta_response_state state;   /* ta_native_exchange_move */
    uint8_t packing;           /* ta_packing */
    uint8_t trailers;          /* ta_trailers */
    ta_fields head;            /* owned: of a head that waits, or that was made here */
    PyObject *reason;          /* owned bytes: reason phrase of the application's own, or NULL */
    const ta_filters *filters; /* borrowed from app: middleware round this direct run, or NULL */
    ta_packer *packer;         /* owned: compresses the response, or NULL */
    ta_buf packed;             /* owned: the piece that was compressed last */
    ta_streamer *stream;       /* borrowed: iterates over a streamed response, or NULL */
    int status;                /* 0 before it has begun */
    int file;                  /* owned: descriptor that is being sent, -1 */
    int64_t sent;              /* body bytes so far */
    ta_waiters writers;        /* send() waits for room */
} ta_native_exchange_response;

/* What the application does and knows. */
typedef struct ta_native_exchange_asgi {
    ta_work_state work;
    ta_end_state end;
    uint64_t since;  /* ms: while the server ends, when it was told, or its response began */
    PyObject *watch; /* owned: of a test, until the application is done; or NULL */
    PyObject *receive, *send; /* owned: the callables, once they were asked for and until
                                 shortly after on_close; or NULL */
} ta_native_exchange_asgi;

typedef struct ta_native_exchange {
    ta_exchange base;
    ta_state *st;      /* borrowed: the type keeps the module */
    ta_server *server; /* owned */
    ta_app *app;       /* borrowed: that which serves it; kept by ... */
    PyObject *holder;  /* ... this, which is owned: shared_refs.h */
    ta_req *req;      /* borrowed: NULL once closed, after on_close; req->user owns us until then */
    ta_websocket *ws; /* owned: NULL unless the request opens a WebSocket */
    ta_defer later;   /* a start that had to wait, or a head that no body follows at once */
    ta_peer_state peer;
    ta_native_exchange_request in;
    ta_native_exchange_response out;
    ta_native_exchange_asgi asgi;
} ta_native_exchange;

static inline ta_native_exchange *ta_native_exchange_of(ta_exchange *x)
{
    return (ta_native_exchange *)x;
}

/* The response goes over to another state; what the engine knows of it follows. */
static inline void ta_native_exchange_move(ta_native_exchange *x, ta_response_state to)
{
    ta_response_move(&x->out.state, to);
    if (to != TA_RESPONSE_LOST)
        x->base.response_started = to != TA_RESPONSE_NONE;
}

/* Returns whether the peer has disconnected, as far as is known (http.h: on_disconnect). */
static inline bool ta_native_exchange_is_left(const ta_native_exchange *x)
{
    return x->peer != TA_PEER_HERE;
}

/* New reference, which req->user takes over; NULL with an exception. */
ta_native_exchange *ta_native_exchange_new(ta_server *server, ta_req *req);
/* Frees the memory that a server keeps for exchanges to come. */
void ta_native_exchange_free_unused(ta_server *server);
/* That application (borrowed) serves it from now on. */
void ta_native_exchange_use_app(ta_native_exchange *native, ta_app *app);
/* The request has no descriptor any more: slices are copied if somebody may still look at them. */
void ta_native_exchange_closed(ta_native_exchange *native);

#endif
