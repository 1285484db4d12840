/* h1/open.c -- how a connection begins and ends, and the pool of requests.  See h1/h1_int.h. */
#include "http/h1/h1_int.h"

#include "base/mem.h"

#include <unistd.h>

/* -- requests --------------------------------------------------------------------------------- */

h1_req *h1_req_take(ta_http_server *server)
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

void h1_req_give(ta_http_server *server, h1_req *rq)
{
    TA_ASSERT(!rq->open && !rq->files);
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

void ta_h1_free_spare(ta_http_server *server)
{
    while (server->pool) {
        h1_req *rq = server->pool;
        server->pool = rq->next;
        req_free(rq);
    }
}

/* -- connections ------------------------------------------------------------------------------ */

static void on_turn(ta_defer *item)
{
    h1_run(TA_CONTAINER_OF(item, h1_conn, turn));
}

static h1_conn *of(ta_http_conn *c)
{
    return TA_CONTAINER_OF(c, h1_conn, base);
}

static void each(ta_http_conn *c, void (*fn)(ta_req *req, void *arg), void *arg)
{
    h1_req *rq = of(c)->rq;
    if (rq && rq->open)
        fn(&rq->req, arg);
}

static void stop(ta_http_conn *c)
{
    h1_conn *h = of(c);
    if (h->state == H1_HEAD && !h->net.in.len && !h->rq)
        h1_arm(h, h->armed == H1_ARMED_HANDSHAKE ? H1_ARMED_HANDSHAKE : H1_ARMED_IDLE);
}

static void destroy(ta_http_conn *c)
{
    h1_conn *h = of(c);
    if (h->rq && h->rq->open) {
        h->rq->open = false;
        h->server->ops->on_close(&h->rq->req);
    }
    h1_conn_destroy(h);
}

static const ta_http_conn_ops conn_ops = {.each = each, .stop = stop, .destroy = destroy};

int ta_h1_accept(ta_http_server *server, int fd, const struct sockaddr *peer, socklen_t peer_len,
                 ta_transport *transport)
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
    ta_http_server_add(server, &h->base, &conn_ops);
    if (!h->net.closed)
        h1_arm(h, transport && transport->ops->handshake ? H1_ARMED_HANDSHAKE : H1_ARMED_HEAD);
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
    ta_http_server *server = h->server;
    TA_ASSERT(!h->running && !(h->rq && h->rq->open));
    ta_loop_undefer(server->loop, &h->turn);
    if (h->rq)
        h1_req_give(server, h->rq);
    ta_buf_free(&h->kept[0]);
    ta_buf_free(&h->kept[1]);
    ta_http_server_remove(server, &h->base);
    ta_free(h);
}
