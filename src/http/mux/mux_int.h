/*
 * mux/mux_int.h -- what the files of the test protocol share.  Private.
 *
 *   mux/conn.c  frames that arrive, turns, ends
 *   mux/head.c  a request out of a head
 *   mux/resp.c  the downcalls of http.h
 *
 * Upcalls are made by mux_run alone (but for those of ta_http_server_free), so they never nest and
 * never come from within a downcall.  A turn looks at every open request: there are few in a test.
 */
#ifndef TA_HTTP_MUX_INT_H
#define TA_HTTP_MUX_INT_H

#include "http/mux/mux.h"
#include "http/server_int.h"

typedef struct mux_conn {
    ta_http_conn base;
    ta_conn net;            /* dead once `gone` */
    ta_http_server *server; /* borrowed: outlives all connections */
    ta_list_node reqs;      /* owned: all whose on_close is to come */
    ta_defer turn;          /* runs mux_run */
    uint32_t last_id;
    bool running; /* mux_run is active */
    bool again;   /* it must look once more */
    bool full;    /* a write said TA_AGAIN: DATA waits in the requests until on_drain */
    bool gone;    /* the ta_conn is closed */
} mux_conn;

/* What is to be sent and has to wait for room: bytes, or a range of a file. */
typedef struct mux_part {
    ta_list_node node;
    ta_buf buf; /* owned */
    int fd;     /* borrowed: of a file; -1: bytes */
    int64_t at;
    uint64_t left; /* bytes of it not handed to the connection */
} mux_part;

typedef enum mux_phase {
    MUX_NEW,     /* on_request is to come */
    MUX_OPEN,    /* no response yet */
    MUX_STARTED, /* its head was sent */
    MUX_ENDED,   /* all of it is known, some may wait to be sent */
    MUX_BROKEN   /* given up: nothing is sent any more */
} mux_phase;

typedef struct mux_req {
    ta_req req;
    mux_conn *conn;    /* borrowed */
    ta_list_node node; /* in conn->reqs */
    char *mem;         /* owned: what the slices of req point to */
    uint32_t id;
    uint8_t phase;     /* mux_phase */
    size_t want;       /* of ta_req_want_body */
    uint64_t credit;   /* body bytes that the client may send before it is told of more */
    uint64_t received; /* body bytes */
    uint64_t window;   /* response bytes that the client takes before it says so */
    uint64_t left;     /* of the response's content-length; UINT64_MAX: it has none */
    ta_list_node parts;
    uint64_t queued; /* bytes in them */
    ta_buf input;    /* owned: bytes of an upgraded request that were not told yet */
    unsigned files;  /* handed to the connection and not wholly sent */
    bool begun;      /* on_request was made */
    bool body_told;
    bool want_drain; /* a downcall said TA_AGAIN */
    bool bodyless;   /* a response without content */
    bool end_sent;
    bool disconnect_told;
    bool raw; /* upgraded */
    bool raw_paused;
    bool raw_eof; /* the client ended its side */
    bool raw_eof_told;
} mux_req;

static inline mux_req *mux_req_of(const ta_req *req)
{
    return (mux_req *)TA_CONTAINER_OF(req, mux_req, req);
}

static inline bool mux_gone(const mux_req *rq)
{
    return rq->req.gone || rq->conn->gone || rq->conn->net.closed;
}

/* -- mux/conn.c ------------------------------------------------------------------------------- */
/* Something changed that mux_run must see. */
void mux_poke(mux_conn *m);
/* Writes a frame's head, and its payload when that is given.  Results of ta_conn_write. */
int mux_frame(mux_conn *m, ta_mux_type type, unsigned flags, uint32_t id, ta_str payload);
/* Only the head: `len` bytes of payload must follow. */
int mux_frame_head(mux_conn *m, ta_mux_type type, unsigned flags, uint32_t id, size_t len);

/* -- mux/head.c ------------------------------------------------------------------------------- */
/* A new request out of the payload of a HEAD frame, or NULL and *status: 400, 431 or 503. */
mux_req *mux_req_new(mux_conn *m, uint32_t id, unsigned flags, ta_str payload, int *status);
void mux_req_free(mux_req *rq);

/* -- mux/resp.c ------------------------------------------------------------------------------- */
extern const ta_http_proto mux_proto;
/* Sends what waits, as far as the client and the connection take it. */
void mux_pump(mux_req *rq);
/* Tells the client of more body bytes that are welcome. */
void mux_grant(mux_req *rq);
/* Answers with an error of our own instead of what is being done. */
void mux_fail(mux_req *rq, int status, const char *reason);
void mux_drop_parts(mux_req *rq);

enum {
    MUX_QUEUE_MAX = 65536,   /* response bytes that wait before downcalls say TA_AGAIN */
    MUX_DATA_MAX = 16384,    /* of a frame of ours */
    MUX_GRANT_MAX = 1 << 20, /* that a client may send unasked, at most */
    MUX_GRANT_MIN = 4096     /* less is not worth a frame, unless it has none left */
};

#endif
