/*
 * websocket_int.h -- a WebSocket's state, shared by websocket.c and websocket_send.c.
 *
 * Layer: py/server.  Nobody else includes it.
 */
#ifndef TA_PY_SERVER_WEBSOCKET_INT_H
#define TA_PY_SERVER_WEBSOCKET_INT_H

#include "py/server/native_int.h"
#include "py/server/websocket_queue.h"

/*
 *   CONNECTING ----> OPEN ------> CLOSED        CONNECTING --> CLOSED
 *        |                          ^
 *        +---------> DENYING -------+
 */
typedef enum ta_websocket_phase {
    TA_WEBSOCKET_CONNECTING, /* neither accepted nor refused */
    TA_WEBSOCKET_DENYING,    /* websocket.http.response.start was sent */
    TA_WEBSOCKET_OPEN,       /* accepted */
    TA_WEBSOCKET_CLOSED      /* refused, or closed by the application */
} ta_websocket_phase;

struct ta_websocket {
    ta_native_exchange *x; /* borrowed: it owns this */
    ta_ws *conn;           /* owned; NULL before it is accepted and once the connection is gone */
    ta_ws_handshake hs;    /* its slices are the request's */
    ta_list_node node;     /* in the server's websocks, all its life */
    uint8_t phase;
    bool connect_given; /* receive() has given websocket.connect */
    bool ended;         /* websocket.disconnect is due, behind what is queued */
    bool gone;          /* nobody is there to send to */
    uint16_t code;      /* of the end */
    PyObject *reason;   /* owned str, NULL: none is given */

    ta_websocket_queue queue; /* received, not yet asked for: str and bytes */
};

static inline void ta_websocket_move(ta_websocket *w, ta_websocket_phase to)
{
    TA_ASSERT(to > w->phase && (w->phase == TA_WEBSOCKET_CONNECTING || to == TA_WEBSOCKET_CLOSED));
    w->phase = (uint8_t)to;
}

/* What the WebSocket's frames are passed to, and written through; its context is the ta_websocket.
 */
extern const ta_ws_ops ta_websocket_conn_ops;

/* websocket.disconnect is due.  Steals reason, which may be NULL.  The first end counts. */
void ta_websocket_set_end(ta_websocket *ws, unsigned code, PyObject *reason);

#endif
