/*
 * h1/h1_int.h -- what the files of the HTTP/1 protocol share: server, connection, request. Private.
 *
 *   h1/open.c    how a connection begins and ends; pool of requests
 *   h1/conn.c    the state machine of a connection: heads, turns, timeouts, ends
 *   h1/body.c    request bodies
 *   h1/peer.c    whether a client that has ended its sending side is still there
 *   h1/resp.c    responses and the other downcalls of http.h
 *
 * Upcalls are made by h1_run alone (but for ta_http_server_free's on_close), so they never nest and
 * never come from within a downcall; what happens elsewhere (bytes, FIN, drained output, a finished
 * response) sets a flag and calls or defers h1_run.
 */
#ifndef TA_HTTP_H1_INT_H
#define TA_HTTP_H1_INT_H

#include "http/h1/chunk.h"
#include "http/h1/conn.h"
#include "http/h1/parse.h"
#include "http/server_int.h"

typedef struct h1_conn h1_conn;

/* A request and all that it needs; pooled, so that its memory is reused. */
typedef struct h1_req {
    ta_req req;         /* public part */
    h1_conn *conn;      /* borrowed */
    uint64_t body_left; /* content-length: bytes not yet in req.body (those of a sink included) */
    size_t want;        /* of ta_req_want_body */
    uint64_t resp_left; /* content-length of the response: bytes still to be sent */
    unsigned files;     /* of ta_resp_file, not wholly sent */
    bool open;          /* between on_request and on_close */
    bool body_read;     /* some body byte has arrived */
    bool body_told;     /* ops->on_body knows of all there is */
    bool body_paused;   /* reading is, as req.body is full */
    bool sink;          /* the connection reads into req.body */
    bool continue_sent;
    bool disconnect_told;
    uint8_t reader;  /* h1_reader: of a peer that has ended its side */
    uint64_t fin_at; /* bytes of the connection that were sent then; of H1_READER_ASKED */
    bool want_drain; /* a downcall returned TA_AGAIN */
    bool resp_started;
    bool resp_done; /* nothing more will be sent; on_close is due */
    bool resp_chunked;
    bool resp_length;   /* resp_left counts */
    bool resp_bodyless; /* HEAD, 204, 205, 304 */
    bool resp_broken;   /* ended before it was complete */
    bool resp_cut_logged;
    bool raw; /* upgraded */
    bool raw_paused;
    bool raw_eof_told;
    /* -- what follows is not cleared between requests -- */
    ta_h1_head head;
    ta_h1_chunk chunk;   /* initialised when a body is chunked */
    ta_buf path;         /* owned: the decoded path */
    ta_buf body_mem;     /* owned: memory for req.body while that is not in use */
    struct h1_req *next; /* in the pool */
} h1_req;

static inline h1_req *h1_req_of(ta_req *req)
{
    return TA_CONTAINER_OF(req, h1_req, req);
}

typedef enum h1_state {
    H1_HEAD,  /* waits for, or reads, a head */
    H1_BUSY,  /* a request is open */
    H1_DRAIN, /* the response is sent, what is left of the body is dropped */
    H1_DONE,  /* ends: waits for the on_close of the ta_conn */
    H1_GONE,  /* the ta_conn is closed, the request still open */
    H1_DEAD   /* to be freed */
} h1_state;

/* What the deadline that runs is for. */
typedef enum h1_armed {
    H1_ARMED_NONE,      /* none runs */
    H1_ARMED_STALE,     /* nothing any more: it keeps running, as another is likely to replace it */
    H1_ARMED_HANDSHAKE, /* of the transport */
    H1_ARMED_HEAD,
    H1_ARMED_IDLE,
    H1_ARMED_BODY,
    H1_ARMED_READER
} h1_armed;

/* What is known of a client that has ended its sending side in the middle of a response. */
typedef enum h1_reader {
    H1_READER_UNKNOWN,
    H1_READER_ASKED, /* time will tell: h1_peer_verdict */
    H1_READER_THERE, /* or else a reset comes when something reaches it */
    H1_READER_GONE
} h1_reader;

struct h1_conn {
    ta_http_conn base;
    ta_conn net;            /* dead in H1_GONE */
    ta_http_server *server; /* borrowed: outlives all connections */
    h1_req *rq;             /* owned; NULL while idle */
    ta_defer turn;          /* runs h1_run */
    uint64_t batch;         /* of the loop, in which ... */
    uint32_t begun;         /* ... so many of its requests have begun */
    ta_buf kept[2];         /* owned: memory of the pinned head in H1_GONE */
    uint32_t served;        /* requests so far */
    uint32_t drained;       /* bytes dropped in H1_DRAIN */
    ta_pace pace;           /* of the body that is being received */
    uint64_t paced;         /* net.bytes_in at pace.since */
    uint8_t state;
    uint8_t armed;
    bool running;     /* h1_run is active */
    bool again;       /* it must run once more */
    bool keep;        /* another request may follow the current one */
    bool out_full;    /* a write said TA_AGAIN */
    bool out_drained; /* and on_drain came since */
    bool peer_ended;  /* FIN, with all bytes before it delivered */
    bool peer_ending; /* FIN seen while reading is paused */
};

/* -- h1/open.c -------------------------------------------------------------------------------- */
h1_req *h1_req_take(ta_http_server *server); /* NULL: out of memory */
void h1_req_give(ta_http_server *server, h1_req *rq);
/* Takes a connection off the server's list and frees it. */
void h1_conn_destroy(h1_conn *h);

/* -- h1/conn.c -------------------------------------------------------------------------------- */
extern const ta_conn_ops h1_conn_ops;
/* Sends what is queued and closes; in a shutdown only what the socket takes at once. */
void h1_part(h1_conn *h, bool linger);
/* Serves what can be served; frees the connection when it is dead. */
void h1_run(h1_conn *h);
/* Something changed that h1_run must see: at once when it is active, else at the end of the batch.
 */
void h1_poke(h1_conn *h);
void h1_arm(h1_conn *h, h1_armed kind);
/* A line in the log that begins with the peer's address; `fmt` gives at most 511 bytes. */
void h1_log(h1_conn *h, ta_log_level level, const char *fmt, ...) TA_PRINTF(3, 4);
/* Answers with an error of our own and ends the connection; an open request is ended without a
 * response (its on_close is due).  Only the connection ends when the response was begun. */
void h1_fail(h1_conn *h, int status, const char *reason);

/* -- h1/body.c -------------------------------------------------------------------------------- */
/* After the head: takes what has arrived of the body.  false: h1_fail was called. */
bool h1_body_begin(h1_conn *h);
/* Takes more of it as far as it is wanted.  false: h1_fail was called. */
bool h1_body_more(h1_conn *h);
/* Drops what arrives.  1: the body is over; 0: more to come; -1: too much of it, or malformed. */
int h1_body_drain(h1_conn *h);
/* Whether the rest of the body may be dropped instead of ending the connection. */
bool h1_body_can_drain(const h1_req *rq);

/* -- h1/peer.c -------------------------------------------------------------------------------- */
/* Returns whether on_disconnect is due; may ask the peer. */
bool h1_peer_gone(h1_conn *h);
/* The time of H1_ARMED_READER is over. */
void h1_peer_verdict(h1_conn *h);
/* Notes that the response has begun, which makes it possible to know more. */
void h1_peer_answered(h1_req *rq);

/* -- h1/resp.c -------------------------------------------------------------------------------- */
extern const ta_http_proto h1_proto;
/* ta_http_proto.abort. */
void h1_abort(ta_req *req);
/* Writes a small response of our own with connection: close. */
void h1_resp_error(h1_conn *h, const ta_response_head *head, ta_str body, bool head_only);

enum {
    H1_DRAIN_MAX = 256 * 1024,  /* unread body bytes dropped before the connection is ended */
    H1_POOL_MAX = 256,          /* spare requests */
    H1_READER_MS = 1000,        /* for something to be sent to a client that may be there or not */
    H1_READER_UNBEGUN_MS = 250, /* the same before the response has begun */
    /* In a shutdown, for requests that are on their way already: of clients that were quiet for as
     * long as the next one, of others, and of those that are still in their handshake. */
    H1_PARTING_MS = 250,
    H1_PARTING_LIVELY_MS = 1000,
    H1_PARTING_HANDSHAKE_MS = 3000,
    H1_KEEP_BODY = 16 * 1024, /* memory of a body that is kept for the next one */
    H1_SINK_MIN = 2048,       /* bodies with so many bytes to come are read in place */
    H1_COPY_MAX = 32 * 1024   /* response bodies up to this are copied behind their head */
};

#endif
