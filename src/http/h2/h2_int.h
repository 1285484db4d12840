/*
 * h2/h2_int.h -- what the files of the HTTP/2 protocol share: connection, request.  Private.
 *
 *   h2/open.c    how a connection begins and ends: session, settings, memory
 *   h2/conn.c    the state machine of a connection: turns, upcalls, timeouts, ends
 *   h2/frames.c  what nghttp2 tells of frames that arrived or were sent
 *   h2/guard.c   clients that keep us busy: what a connection may cost
 *   h2/seen.c    what became of streams that are closed
 *   h2/head.c    a request out of the fields of a HEADERS frame
 *   h2/body.c    request bodies: windows, time
 *   h2/queue.c   what waits to be sent on a stream, and its DATA frames
 *   h2/resp.c    responses and the other downcalls of http.h
 *
 * Upcalls are made by h2_run alone (but for those of ta_http_server_free), so they never nest and
 * come neither from within a downcall nor from within nghttp2.  What happens elsewhere sets a flag
 * of its request and puts that into the list `due`.
 */
#ifndef TA_HTTP_H2_INT_H
#define TA_HTTP_H2_INT_H

#include <nghttp2/nghttp2.h>

#include "http/h2/conn.h"

typedef struct h2_conn h2_conn;

enum { H2_SEEN = 512 /* of so many streams we know how they ended */ };

typedef enum h2_phase {
    H2_NEW,     /* on_request is to come */
    H2_OPEN,    /* no response yet */
    H2_STARTED, /* its head was given to nghttp2 */
    H2_ENDED,   /* all of it is known, some may wait to be sent */
    H2_BROKEN,  /* given up: nothing is sent any more */
    H2_REFUSED  /* to be answered with `refused` */
} h2_phase;

/* What is to be sent and waits for its turn: bytes that were copied, bytes that are lent, or a
 * range of a file. */
typedef struct h2_part {
    ta_list_node node;
    ta_buf copy; /* owned */
    ta_str lent; /* borrowed until release(kept); NULL: not of this kind */
    void (*release)(void *kept);
    void *kept;
    int fd; /* borrowed: of a file; -1: not of this kind */
    int64_t at;
    uint64_t left; /* bytes of it not handed to the connection */
} h2_part;

/* A request and its response: one stream.  Kept for the next one, with its memory. */
typedef struct h2_req {
    ta_req req;             /* public part */
    h2_conn *conn;          /* borrowed */
    ta_list_node node;      /* in conn->reqs */
    ta_list_node due;       /* in conn->due: h2_run looks at it */
    int32_t id;             /* of the stream */
    uint32_t header_bytes;  /* of the fields so far, those of a trailer too */
    uint32_t field_bytes;   /* what they take in `text` */
    int refused;            /* status to answer with instead of what the server says; 0: none */
    const char *why;        /* static: its body */
    size_t want;            /* of ta_req_want_body */
    uint64_t received;      /* body bytes */
    size_t unread;          /* received, and the stream's window not opened again for them */
    size_t dropped;         /* since the response is complete; the same holds for these */
    uint64_t left;          /* of the response's content-length; UINT64_MAX: it has none */
    ta_list_node parts;     /* owned: h2_part */
    uint64_t queued;        /* bytes in them */
    uint64_t sent;          /* response bytes handed to the connection */
    uint64_t told_sent;     /* `sent` at write_pace.since */
    uint64_t told_received; /* `received` at body_pace.since */
    ta_pace body_pace, write_pace;
    ta_timer body_timer, write_timer;
    uint8_t phase;  /* h2_phase */
    bool begun;     /* on_request was made */
    bool malformed; /* it is being reset: no request */
    bool websocket; /* extended CONNECT for one (RFC 8441) */
    bool connect;   /* CONNECT of any other kind */
    bool expect;    /* waits for 100 Continue, as long as no body byte came */
    bool continue_sent;
    bool body_told;     /* on_body knows of all there is */
    bool want_drain;    /* a downcall said TA_AGAIN */
    bool bodyless;      /* a response without content */
    bool end_sent;      /* END_STREAM of ours is with the connection */
    bool stream_closed; /* nghttp2 has forgotten it */
    bool deferred;      /* nghttp2 waits for nghttp2_session_resume_data */
    bool disconnect_told;
    bool cut_logged;
    bool raw; /* upgraded */
    bool raw_paused;
    bool raw_eof_told;
    bool input_eof;    /* the client has ended its side */
    bool has_trailers; /* `trailers` follow the body */
    /* -- what follows is not cleared between requests -- */
    ta_fields trailers; /* owned */
    ta_buf text;        /* owned: of the fields, and the decoded path */
    ta_header *fields;  /* owned */
    uint32_t nfields, cap;
    ta_str authority, path; /* slices of text */
    ta_buf body_mem;        /* owned: memory for req.body while that is not in use */
    h2_part first;          /* a part that needs no allocation */
    struct h2_req *next;    /* in the pool */
} h2_req;

/* How much of something a client has used up: a bucket that leaks (h2/guard.c). */
typedef struct h2_bucket {
    uint32_t used;
    uint64_t since; /* ms */
} h2_bucket;

/* What the deadline of the connection is for. */
typedef enum h2_armed {
    H2_ARMED_NONE,
    H2_ARMED_IDLE, /* no request is open */
    H2_ARMED_HEAD, /* the rest of a header block is awaited */
    H2_ARMED_PART  /* requests that are on their way, in a shutdown */
} h2_armed;

struct h2_conn {
    ta_http_conn base;
    ta_conn *net;           /* borrowed: of the carrier; dead once `gone` */
    ta_http_server *server; /* borrowed: outlives all connections */
    void (*free_carrier)(void *arg);
    void *carrier;            /* owned */
    nghttp2_session *session; /* owned; NULL once `gone` */
    ta_list_node reqs;        /* owned: all whose on_close is to come */
    uint32_t nreqs;
    ta_list_node due;
    h2_req *pool; /* owned: spare ones */
    uint32_t npool;
    h2_req *heading; /* borrowed: whose header block is being received */
    ta_defer turn;   /* runs h2_run */
    ta_defer next;   /* the same in the next batch, for the rest of the input */
    uint64_t batch;  /* of the loop, in which */
    uint32_t frames; /* so many frames were taken from the input */
    uint32_t told;   /* so many requests began, or were told that the client has gone */
    uint64_t unread; /* of all requests: received and not read by the application */
    size_t withheld; /* received, and the connection's window not opened again for them */
    size_t budget;   /* bytes that may still be sent in this turn */
    uint32_t served;
    int32_t last_id; /* highest of a stream that the client opened */
    h2_bucket resets, controls;
    uint32_t continuations; /* of the header block that is being received */
    uint8_t seen[H2_SEEN];  /* h2/seen.c */
    size_t skip;            /* bytes of the input up to the next frame's head */
    uint8_t head[9];        /* of which so many are there: */
    uint8_t nhead;
    uint8_t armed;
    bool running;   /* h2_run is active */
    bool again;     /* it must look once more */
    bool active;    /* a request ended since the idle time was counted */
    bool full;      /* a write said TA_AGAIN: nothing is sent until on_drain */
    bool gone;      /* the ta_conn is closed */
    bool ending;    /* GOAWAY for good: no new requests */
    bool noticed;   /* GOAWAY as a notice was sent */
    bool finishing; /* ta_conn_finish was called */
    bool lively;    /* it had requests a moment ago, in a shutdown */
};

/*
 * What nghttp2 keeps for a stream: its request, or after that, with the lowest bit set, how many
 * bytes of the body may still come.
 */
static inline h2_req *h2_find(nghttp2_session *session, int32_t id)
{
    void *data = nghttp2_session_get_stream_user_data(session, id);
    return (uintptr_t)data & 1 ? NULL : data;
}

static inline void h2_leave_body(nghttp2_session *session, int32_t id, size_t most)
{
    (void)nghttp2_session_set_stream_user_data(session, id, (void *)((uintptr_t)most << 1 | 1));
}

static inline h2_req *h2_req_of(const ta_req *req)
{
    return (h2_req *)TA_CONTAINER_OF(req, h2_req, req);
}

/* Nothing can be sent on it any more. */
static inline bool h2_gone(const h2_req *rq)
{
    return rq->req.gone || rq->conn->gone || rq->conn->net->closed;
}

/* -- h2/open.c -------------------------------------------------------------------------------- */
/* A request in conn->reqs; NULL: out of memory. */
h2_req *h2_req_take(h2_conn *m, int32_t id);
void h2_req_give(h2_req *rq);
void h2_conn_free(h2_conn *m);

/* -- h2/conn.c -------------------------------------------------------------------------------- */
extern const ta_conn_ops h2_net_ops;
extern const ta_http_conn_ops h2_conn_ops;
/* Serves what can be served; may free the connection. */
void h2_run(h2_conn *m);
/* Something changed that h2_run must see: at once when it is active, else at the end of the batch.
 */
void h2_poke(h2_conn *m);
/* The same for one request. */
void h2_due(h2_req *rq);
/* The connection ends: GOAWAY with that error, then no more of its input is looked at. */
void h2_terminate(h2_conn *m, uint32_t error, const char *why);
/* Out of memory, or nghttp2 failed. */
void h2_panic(h2_conn *m);
/* A line in the log that begins with the peer's address; `fmt` gives at most 511 bytes. */
void h2_log(h2_conn *m, ta_log_level level, const char *fmt, ...) TA_PRINTF(3, 4);

/* -- h2/frames.c ------------------------------------------------------------------------------ */
/* Sets the callbacks that a session of ours has. */
void h2_frames_callbacks(nghttp2_session_callbacks *callbacks);

/* -- h2/guard.c ------------------------------------------------------------------------------- */
/* Looks at the heads of frames in what has arrived; may end the connection.  Returns how many bytes
 * of it are the connection's share of this turn. */
size_t h2_guard_input(h2_conn *m, const uint8_t *data, size_t n);
/* The client has reset a stream that was open, or made us reset it. */
void h2_guard_reset(h2_conn *m);
/* A frame of ours that a client may answer was sent. */
void h2_guard_sent(h2_conn *m);
/* Whether one more request may begin; those whose stream is closed count as long as somebody works
 * on them. */
bool h2_guard_admits(const h2_conn *m);
/* Whether one more request may begin in this batch of the loop, or be told that its client has
 * gone; counts it.  All connections have a share together, as an attacker may have several. */
bool h2_guard_tells(h2_conn *m);

/* -- h2/seen.c -------------------------------------------------------------------------------- */
/* Notes what a frame does to its stream; ends the connection if its sender must have known that it
 * is wrong. */
void h2_seen_frame(h2_conn *m, const nghttp2_frame_hd *hd);

/* -- h2/head.c -------------------------------------------------------------------------------- */
/* Takes a field of the head; false: out of memory. */
TA_MUST_CHECK bool h2_head_field(h2_req *rq, ta_str name, ta_str value);
/* All fields are there: makes the request of them.  False: out of memory. */
TA_MUST_CHECK bool h2_head_done(h2_req *rq, bool end_stream);

/* -- h2/body.c -------------------------------------------------------------------------------- */
/* Bytes of a body.  False: out of memory. */
TA_MUST_CHECK bool h2_body_take(h2_req *rq, ta_str data);
/* Opens the windows for as much as the application has read. */
void h2_body_grant(h2_req *rq);
/* Bytes of a stream that nobody reads. */
void h2_body_drop(h2_conn *m, size_t n);
/* Before the request is freed. */
void h2_body_end(h2_req *rq);
/* Counts the time of a body that is awaited, or stops doing so. */
void h2_body_watch(h2_req *rq);
void h2_body_init(h2_req *rq);

/* -- h2/queue.c ------------------------------------------------------------------------------- */
/* Hands frames to the connection, as far as it and the client take them. */
void h2_pump(h2_conn *m);
/* Appends to what waits.  False: out of memory. */
TA_MUST_CHECK bool h2_queue_bytes(h2_req *rq, ta_str data, const ta_lender *from);
TA_MUST_CHECK bool h2_queue_file(h2_req *rq, int fd, int64_t at, uint64_t len);
void h2_queue_drop(h2_req *rq);
/* nghttp2_data_source_read_callback and nghttp2_send_data_callback. */
ssize_t h2_queue_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                      uint32_t *flags, nghttp2_data_source *source, void *user);
int h2_queue_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                  size_t length, nghttp2_data_source *source, void *user);
/* Counts the time in which a client takes nothing of what waits for it. */
void h2_queue_watch(h2_req *rq);
void h2_queue_init(h2_req *rq);

/* -- h2/resp.c -------------------------------------------------------------------------------- */
extern const ta_http_proto h2_proto;
/* Answers with an error of our own instead of what is being done: soon, as the server is told. */
void h2_fail(h2_req *rq, int status, const char *reason);
/* Does so. */
void h2_refuse(h2_req *rq);
/* The trailers, when all of the body is with the connection.  False: they could not be queued. */
TA_MUST_CHECK bool h2_send_trailers(h2_req *rq);
/* Gives the response up: RST_STREAM with that error. */
void h2_break_off(h2_req *rq, uint32_t error);

enum {
    H2_POOL_MAX = 128,         /* spare requests of a connection */
    H2_QUEUE_MAX = 65536,      /* response bytes of a stream that wait before TA_AGAIN */
    H2_TURN_BYTES = 1 << 20,   /* sent for a connection before others get their turn */
    H2_TURN_FRAMES = 128,      /* the same of its frames that are taken */
    H2_TURN_LEAST = 2,         /* its requests that begin or are left, whatever others do */
    H2_SHARE_MIN = 8,          /* fewest of all connections together in a batch ... */
    H2_SHARE_MAX = 1024,       /* ... and most */
    H2_BATCH_US = 500,         /* a batch that takes longer halves how many there may be */
    H2_LEND_MIN = 4096,        /* less is copied, no matter who owns it */
    H2_KEEP_BODY = 16 * 1024,  /* memory of a body that is kept for the next one */
    H2_PARTING_MS = 250,       /* in a shutdown, for requests that are on their way already */
    H2_LIVELY_MS = 1000,       /* who asked within that time may well be sending */
    H2_UNWANTED_MAX = 1 << 20, /* bytes of a body that are dropped once its response is over */
    H2_HPACK_TABLE = 4096      /* bytes of each dynamic table */
};

#endif
