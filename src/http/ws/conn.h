/*
 * ws/conn.h -- a WebSocket of the server's side after its handshake (RFC 6455, RFC 7692): bytes in,
 * messages out, and back.
 *
 * Layer: http.  Framing is wslay's.  It knows no transport: bytes come by ta_ws_input and go out by
 * the ops that it is given, which http.h's raw mode can serve as it is.  All on one loop's thread.
 *
 * Its end comes about by
 *   the peer     a close frame: answered with the same code; on_end(its code, its reason)
 *   ta_ws_close  our close frame; then the peer's is awaited for close_timeout_ms, and what else it
 *                sends is dropped; no on_end
 *   a failure    a close frame that tells which (1002 protocol, 1007 no UTF-8 or no deflate data,
 *                1009 too large, 1011 no pong, no memory); on_end(code, reason)
 *   the loss of the transport (ta_ws_input with NULL): on_end(1006, "")
 * ops->close is called once, when nothing more is to be sent or awaited; also after a loss.
 */
#ifndef TA_HTTP_WS_CONN_H
#define TA_HTTP_WS_CONN_H

#include "base/lend.h"
#include "http/ws/deflate.h"
#include "net/loop.h"

typedef struct ta_ws ta_ws;

enum {
    TA_WS_NORMAL = 1000,
    TA_WS_GOING_AWAY = 1001,
    TA_WS_PROTOCOL = 1002,
    TA_WS_NO_STATUS = 1005, /* these two are never sent */
    TA_WS_ABNORMAL = 1006,
    TA_WS_BAD_DATA = 1007,
    TA_WS_TOO_LARGE = 1009,
    TA_WS_INTERNAL = 1011,
    TA_WS_RESTART = 1012
};

enum { TA_WS_REASON_MAX = 123 };

typedef struct ta_ws_cfg {
    uint64_t max_size;         /* bytes of a message, after unpacking; 0: no limit */
    uint32_t ping_interval_ms; /* 0: no pings */
    uint32_t ping_timeout_ms;  /* for any sign of life after a ping; 0: none is needed */
    uint32_t close_timeout_ms; /* for the peer's close frame after ours; 0: it is not awaited */
    ta_ws_deflate_params deflate;
} ta_ws_cfg;

/* Upcalls may call any ta_ws_* but ta_ws_free. */
typedef struct ta_ws_ops {
    /* A whole message; `data` is valid during the call.  Text is valid UTF-8. */
    void (*on_message)(void *ctx, bool text, ta_str data);
    /* See above; at most once; no message comes after it. */
    void (*on_end)(void *ctx, uint16_t code, ta_str reason);
    /* The transport.  What write cannot send at once is kept by the lender, or copied (`from` is
     * NULL): TA_OK; TA_AGAIN: taken, but call ta_ws_drained when there is room again; TA_ECLOSED.
     */
    int (*write)(void *ctx, ta_str data, const ta_lender *from);
    void (*read)(void *ctx, bool on);
    void (*close)(void *ctx); /* after what was written is sent */
} ta_ws_ops;

/* NULL: out of memory.  `ops` and `ctx` are borrowed: they outlive it. */
TA_MUST_CHECK ta_ws *ta_ws_new(ta_loop *loop, const ta_ws_cfg *cfg, const ta_ws_ops *ops,
                               void *ctx);
/* No upcall; the transport is left alone.  NULL: no-op. */
void ta_ws_free(ta_ws *ws);

/* Bytes of the peer, all of which are taken; data == NULL: it is gone.  Not from within an upcall.
 */
void ta_ws_input(ta_ws *ws, const char *data, size_t len);
/* The transport has room again after TA_AGAIN. */
void ta_ws_drained(ta_ws *ws);
/* Holds messages back (and soon the peer's bytes), or delivers them again, maybe at once, from
 * within the call.  Control frames behind them wait as well. */
void ta_ws_pause(ta_ws *ws, bool paused);

/* Sends a message, of valid UTF-8 when it is text; `from`: who lends it, NULL: it is copied. TA_OK;
 * TA_AGAIN: sent, but wait for room before the next; TA_ECLOSED: closed by either side, nothing is
 * sent; TA_ENOMEM: not sent. */
TA_MUST_CHECK int ta_ws_send(ta_ws *ws, bool text, ta_str data, const ta_lender *from);
/* Begins the closing handshake; no-op when it is closed.  code: ta_ws_code_ok, or TA_WS_NO_STATUS
 * to send none; the reason (UTF-8) is cut to TA_WS_REASON_MAX. */
void ta_ws_close(ta_ws *ws, uint16_t code, ta_str reason);
/* The peer's close frame is awaited for so long at most, from now on when ours is sent already. */
void ta_ws_hurry(ta_ws *ws, uint32_t close_timeout_ms);
/* Whether a close frame may carry it (RFC 6455 7.4, IANA's registry). */
bool ta_ws_code_ok(unsigned code);

#endif
