/* h1/server.c -- settings, pool of requests, list of connections, shutdown.  See h1/h1_int.h. */
#include "http/h1/h1_int.h"

#include "base/mem.h"

#include <time.h>
#include <unistd.h>

void ta_http_limits_default(ta_http_limits *limits)
{
    *limits = (ta_http_limits){
        .request_line = 8190,
        .header_bytes = 65536,
        .header_count = 100,
        .body_bytes = 0,
        .trailer_bytes = 8192,
        .chunk_ext_bytes = 4096,
        .pipelined = 64,
        .body_buffer = 262144,
        .write_buffer = 262144,
        .connections = 0,
        .requests_per_conn = 0,
        .timeout_header_ms = 10000,
        .timeout_body_ms = 30000,
        .timeout_idle_ms = 5000,
        .timeout_write_ms = 30000,
        .receive_rate = 240,
        .send_rate = 240,
        .ws_max_size = 16777216,
        .ws_max_queue = 32,
        .ws_ping_interval_ms = 20000,
        .ws_ping_timeout_ms = 20000,
        .ws_close_timeout_ms = 10000,
    };
}

/* -- requests --------------------------------------------------------------------------------- */

h1_req *h1_req_take(ta_h1_server *server)
{
    h1_req *rq = server->pool;
    if (rq) {
        server->pool = rq->next;
        server->npool--;
        memset(rq, 0, offsetof(h1_req, head));
    } else {
        rq = ta_calloc(1, sizeof *rq);
        if (!rq)
            return NULL;
        ta_h1_head_init(&rq->head, &server->limits);
    }
    return rq;
}

static void req_free(h1_req *rq)
{
    ta_h1_head_free(&rq->head);
    ta_buf_free(&rq->path);
    ta_buf_free(&rq->body_mem);
    ta_free(rq);
}

/* Memory that one large request needed is not kept for small ones. */
static void trim(ta_buf *buf, size_t max)
{
    if (buf->cap > max)
        ta_buf_free(buf);
    else
        ta_buf_clear(buf);
}

void h1_req_give(ta_h1_server *server, h1_req *rq)
{
    if (rq->req.body.cap) /* else it is empty, or a view of the read buffer */
        rq->body_mem = rq->req.body;
    if (server->npool >= H1_POOL_MAX || server->freeing) {
        req_free(rq);
        return;
    }
    trim(&rq->body_mem, H1_KEEP_BODY);
    trim(&rq->path, 4096);
    if (rq->head.cap > 256)
        ta_h1_head_free(&rq->head);
    ta_h1_head_reset(&rq->head);
    rq->next = server->pool;
    server->pool = rq;
    server->npool++;
}

/* -- time ------------------------------------------------------------------------------------- */

const ta_resp_stamp *h1_stamp(ta_h1_server *server)
{
    uint64_t now = ta_loop_now(server->loop);
    if (now != server->stamp_ms) { /* at most one look at the clock a batch */
        server->stamp_ms = now;
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        ta_resp_stamp_update(&server->stamp, (int64_t)ts.tv_sec);
    }
    return &server->stamp;
}

/* -- the server ------------------------------------------------------------------------------- */

static void tell_done(ta_defer *item)
{
    ta_h1_server *server = TA_CONTAINER_OF(item, ta_h1_server, done);
    void (*fn)(void *) = server->on_done;
    server->on_done = NULL;
    if (fn)
        fn(server->done_arg); /* may free the server */
}

/* How many bytes of input a head may need, with room to see that it is too long. */
static uint32_t read_max(const ta_http_limits *limits)
{
    uint64_t need = (uint64_t)limits->request_line + limits->header_bytes + 16;
    if (!limits->request_line || !limits->header_bytes)
        need = 1 << 20; /* "no limit" has one: beyond it 431 */
    return (uint32_t)TA_MIN(TA_MAX(need, (uint64_t)131072), (uint64_t)UINT32_MAX / 2);
}

ta_h1_server *ta_h1_server_new(ta_loop *loop, const ta_h1_cfg *cfg)
{
    ta_h1_server *server = ta_calloc(1, sizeof *server);
    if (!server)
        return NULL;
    server->loop = loop;
    server->limits = *cfg->limits;
    server->ops = cfg->ops;
    server->ctx = cfg->ctx;
    server->log = cfg->log;
    server->on_room = cfg->on_room;
    server->stamp_ms = UINT64_MAX;
    server->done.fn = tell_done;
    ta_list_init(&server->conns);
    ta_conn_cfg net = {
        .read_max = read_max(cfg->limits),
        .write_high = cfg->limits->write_buffer ? cfg->limits->write_buffer : UINT32_MAX,
        .write_timeout_ms =
            cfg->limits->timeout_write_ms ? cfg->limits->timeout_write_ms : UINT32_MAX,
        .write_rate = cfg->limits->send_rate ? cfg->limits->send_rate : UINT32_MAX,
    };
    if (ta_resp_stamp_init(&server->stamp, cfg->server_name) != TA_OK)
        goto fail;
    server->group = ta_conn_group_new(loop, &net);
    if (!server->group)
        goto fail;
    return server;
fail:
    ta_free(server);
    return NULL;
}

void ta_h1_server_free(ta_h1_server *server)
{
    if (!server)
        return;
    server->freeing = true;
    ta_loop_undefer(server->loop, &server->done);
    ta_conn_group_free(server->group);       /* on_close of each: see h1/conn.c */
    while (!ta_list_empty(&server->conns)) { /* those whose request outlived them */
        h1_conn *h = TA_CONTAINER_OF(server->conns.next, h1_conn, node);
        if (h->rq && h->rq->open) {
            h->rq->open = false;
            server->ops->on_close(&h->rq->req);
        }
        h1_conn_destroy(h);
    }
    while (server->pool) {
        h1_req *rq = server->pool;
        server->pool = rq->next;
        req_free(rq);
    }
    ta_free(server);
}

static void on_turn(ta_defer *item)
{
    h1_run(TA_CONTAINER_OF(item, h1_conn, turn));
}

int ta_h1_server_accept(ta_h1_server *server, int fd, const struct sockaddr *peer,
                        socklen_t peer_len, ta_transport *transport)
{
    int rc = TA_ENOMEM;
    h1_conn *h = ta_calloc(1, sizeof *h);
    if (!h)
        goto fail;
    h->server = server;
    h->turn.fn = on_turn;
    h->keep = true;
    rc = ta_conn_open(&h->net, server->group, fd, peer, peer_len, transport, &h1_conn_ops, h);
    if (rc != TA_OK)
        goto fail;
    ta_list_push_back(&server->conns, &h->node);
    server->nconns++;
    if (!h->net.closed)
        h1_arm(h, H1_ARMED_HEAD);
    return TA_OK;
fail:
    ta_free(h);
    if (transport && transport->ops->close)
        transport->ops->close(transport);
    close(fd);
    return rc;
}

void h1_conn_destroy(h1_conn *h)
{
    ta_h1_server *server = h->server;
    ta_loop_undefer(server->loop, &h->turn);
    if (h->rq)
        h1_req_give(server, h->rq);
    ta_buf_free(&h->kept[0]);
    ta_buf_free(&h->kept[1]);
    ta_list_remove(&h->node);
    server->nconns--;
    ta_free(h);
    if (server->freeing)
        return;
    if (server->stopping && !server->nconns)
        ta_loop_defer(server->loop, &server->done);
    if (server->was_full && server->nconns < server->limits.connections) {
        server->was_full = false;
        if (server->on_room)
            server->on_room(server->ctx);
    }
}

bool ta_h1_server_full(ta_h1_server *server)
{
    bool full = server->limits.connections && server->nconns >= server->limits.connections;
    if (full)
        server->was_full = true;
    return full;
}

size_t ta_h1_server_connections(const ta_h1_server *server)
{
    return server->nconns;
}

void ta_h1_server_each(ta_h1_server *server, void (*fn)(ta_req *req, void *arg), void *arg)
{
    for (ta_list_node *n = server->conns.next; n != &server->conns; n = n->next) {
        h1_conn *h = TA_CONTAINER_OF(n, h1_conn, node);
        if (h->rq && h->rq->open)
            fn(&h->rq->req, arg);
    }
}

void ta_h1_server_shutdown(ta_h1_server *server, void (*on_done)(void *arg), void *arg)
{
    server->on_done = on_done;
    server->done_arg = arg;
    server->stopping = true;
    for (ta_list_node *n = server->conns.next; n != &server->conns; n = n->next) {
        h1_conn *h = TA_CONTAINER_OF(n, h1_conn, node);
        if (h->state == H1_HEAD && !h->net.in.len && !h->rq)
            h1_arm(h, H1_ARMED_IDLE);
    }
    if (!server->nconns)
        ta_loop_defer(server->loop, &server->done);
}
