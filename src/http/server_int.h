/*
 * server_int.h -- what a protocol's connection and the server that holds it see of each other.
 *
 * Private to http/.  A protocol embeds a ta_http_conn in its connection, adds it once the ta_conn
 * is open and removes it before its memory is freed.
 */
#ifndef TA_HTTP_SERVER_INT_H
#define TA_HTTP_SERVER_INT_H

#include "base/blocks.h"
#include "base/list.h"
#include "base/stats.h"
#include "http/resp.h"
#include "http/server.h"
#include "net/conn.h"

typedef struct ta_http_conn ta_http_conn;

/* What the server asks of a connection, whatever its protocol. */
typedef struct ta_http_conn_ops {
    /* Calls fn for each request between on_request and on_close. */
    void (*each)(ta_http_conn *c, void (*fn)(ta_req *req, void *arg), void *arg);
    /* server->stopping was set: ends it when it is idle, or as soon as it is. */
    void (*stop)(ta_http_conn *c);
    /* The server is freed, the ta_conn is closed: on_close of what is open, then frees c. */
    void (*destroy)(ta_http_conn *c);
} ta_http_conn_ops;

struct ta_http_conn {
    const ta_http_conn_ops *ops; /* borrowed: static */
    ta_list_node node;           /* in server->conns */
};

struct ta_http_server {
    ta_loop *loop; /* borrowed: outlives the server */
    ta_http_limits limits;
    const ta_http_ops *ops; /* borrowed */
    void *ctx;              /* borrowed */
    const ta_log *log;      /* borrowed */
    void (*on_room)(void *ctx);
    ta_conn_group *group; /* owned */
    ta_list_node conns;
    _Atomic uint64_t nconns; /* any thread may ask for it */
    struct h1_req *pool;     /* owned: spare requests of HTTP/1 (h1/open.c) */
    unsigned npool;
    ta_blocks blocks; /* owned: of HTTP/2's sessions (h2/open.c) */
    /* -- of HTTP/2's connections together (h2/guard.c) -- */
    uint64_t h2_batch; /* of the loop, in which */
    uint64_t h2_since; /* us: it began */
    uint32_t h2_told;  /* so many requests began, or were told that their clients have gone */
    uint32_t h2_share; /* of as many as may; 0: not set yet */
    bool h2_waits;     /* more of them wait for the next */
    ta_resp_stamp stamp;
    uint64_t stamp_ms; /* of the loop's clock, when stamp was brought up to date */
    bool http2;        /* clients of plain connections may speak it */
    bool stopping;
    bool freeing;
    bool was_full;
    void (*on_done)(void *arg);
    void *done_arg;
    ta_defer done;
};

void ta_http_server_add(ta_http_server *server, ta_http_conn *c, const ta_http_conn_ops *ops);
/* Called last by a connection: calls on_room, or ends a shutdown. */
void ta_http_server_remove(ta_http_server *server, ta_http_conn *c);
/* Date and server fields as of now. */
const ta_resp_stamp *ta_http_server_stamp(ta_http_server *server);

#endif
