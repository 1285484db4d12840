/* server.c -- settings, list of connections, shutdown.  See server.h, server_int.h. */
#include "http/server_int.h"

#include "base/mem.h"
#include "http/h1/conn.h"

#include <time.h>

enum { BLOCKS_KEPT = 1 << 20 /* bytes: a kilobyte a stream of a thousand */ };

/* -- time ------------------------------------------------------------------------------------- */

const ta_resp_stamp *ta_http_server_stamp(ta_http_server *server)
{
    uint64_t now = ta_loop_now(server->loop);
    if (now != server->stamp_ms) { /* reads the clock at most once per batch */
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
    ta_http_server *server = TA_CONTAINER_OF(item, ta_http_server, done);
    void (*fn)(void *) = server->on_done;
    server->on_done = NULL;
    if (fn)
        fn(server->done_arg); /* may free the server */
}

/* Returns how many bytes of input a head may need, with room to notice that it is too long. */
static uint32_t read_max(const ta_http_limits *limits)
{
    uint64_t need = (uint64_t)limits->request_line + limits->header_bytes + 16;
    if (!limits->request_line || !limits->header_bytes)
        need = 1 << 20; /* "no limit" has one: beyond it 431 */
    return (uint32_t)TA_MIN(TA_MAX(need, (uint64_t)131072), (uint64_t)UINT32_MAX / 2);
}

ta_http_server *ta_http_server_new(ta_loop *loop, const ta_http_cfg *cfg)
{
    ta_http_server *server = ta_calloc(1, sizeof *server);
    if (!server)
        return NULL;
    server->loop = loop;
    server->limits = *cfg->limits;
    server->ops = cfg->ops;
    server->ctx = cfg->ctx;
    server->log = cfg->log;
    server->http2 = cfg->http2;
    server->on_room = cfg->on_room;
    server->stamp_ms = UINT64_MAX;
    server->done.fn = tell_done;
    ta_list_init(&server->conns);
    ta_blocks_init(&server->blocks, BLOCKS_KEPT);
    ta_conn_cfg net = {
        .read_max = read_max(cfg->limits),
        .write_high = cfg->limits->write_buffer ? cfg->limits->write_buffer : UINT32_MAX,
        .write_timeout_ms =
            cfg->limits->timeout_write_ms ? cfg->limits->timeout_write_ms : UINT32_MAX,
        .write_rate = cfg->limits->send_rate ? cfg->limits->send_rate : UINT32_MAX,
    };
    if (ta_resp_stamp_init(&server->stamp, cfg->server_name) != TA_OK ||
        (cfg->more && ta_resp_stamp_add(&server->stamp, cfg->more) != TA_OK))
        goto fail;
    server->group = ta_conn_group_new(loop, &net);
    if (!server->group)
        goto fail;
    return server;
fail:
    ta_resp_stamp_free(&server->stamp);
    ta_free(server);
    return NULL;
}

void ta_http_server_free(ta_http_server *server)
{
    if (!server)
        return;
    server->freeing = true;
    ta_loop_undefer(server->loop, &server->done);
    ta_conn_group_free(server->group);       /* closes them all */
    while (!ta_list_empty(&server->conns)) { /* those whose request outlived them */
        ta_http_conn *c = TA_CONTAINER_OF(server->conns.next, ta_http_conn, node);
        c->ops->destroy(c);
    }
    TA_ASSERT(!server->nconns);
    ta_h1_free_spare(server);
    ta_blocks_free(&server->blocks);
    ta_resp_stamp_free(&server->stamp);
    ta_free(server);
}

int ta_http_server_accept(ta_http_server *server, int fd, const struct sockaddr *peer,
                          socklen_t peer_len, ta_transport *transport)
{
    return ta_h1_accept(server, fd, peer, peer_len, transport);
}

void ta_http_server_add(ta_http_server *server, ta_http_conn *c, const ta_http_conn_ops *ops)
{
    c->ops = ops;
    TA_ASSERT(ops->each && ops->stop && ops->destroy && !server->freeing);
    ta_list_push_back(&server->conns, &c->node);
    ta_stat_add(&server->nconns, 1);
}

void ta_http_server_remove(ta_http_server *server, ta_http_conn *c)
{
    TA_ASSERT(ta_list_linked(&c->node) && server->nconns > 0);
    ta_list_remove(&c->node);
    ta_stat_add(&server->nconns, (uint64_t)-1);
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

const ta_http_limits *ta_http_server_limits(const ta_http_server *server)
{
    return &server->limits;
}

bool ta_http_server_full(ta_http_server *server, size_t more)
{
    bool full = server->limits.connections && server->nconns + more >= server->limits.connections;
    if (full)
        server->was_full = true;
    return full;
}

size_t ta_http_server_connections(const ta_http_server *server)
{
    return ta_stat_get(&server->nconns);
}

void ta_http_server_each(ta_http_server *server, void (*fn)(ta_req *req, void *arg), void *arg)
{
    for (ta_list_node *n = server->conns.next; n != &server->conns; n = n->next) {
        ta_http_conn *c = TA_CONTAINER_OF(n, ta_http_conn, node);
        c->ops->each(c, fn, arg);
    }
}

void ta_http_server_shutdown(ta_http_server *server, void (*on_done)(void *arg), void *arg)
{
    TA_ASSERT(!server->stopping);
    server->on_done = on_done;
    server->done_arg = arg;
    server->stopping = true;
    for (ta_list_node *n = server->conns.next; n != &server->conns; n = n->next) {
        ta_http_conn *c = TA_CONTAINER_OF(n, ta_http_conn, node);
        c->ops->stop(c);
    }
    if (!server->nconns)
        ta_loop_defer(server->loop, &server->done);
}
