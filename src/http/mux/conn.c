/* mux/conn.c -- frames that arrive, turns, ends.  See mux/mux.h, mux/mux_int.h. */
#include "base/mem.h"
#include "http/mux/mux_int.h"

#include <unistd.h>

/* -- frames ----------------------------------------------------------------------------------- */

static uint32_t get32(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put32(char *p, uint32_t v)
{
    p[0] = (char)(v >> 24);
    p[1] = (char)(v >> 16);
    p[2] = (char)(v >> 8);
    p[3] = (char)v;
}

int mux_frame_head(mux_conn *m, ta_mux_type type, unsigned flags, uint32_t id, size_t len)
{
    char head[TA_MUX_FRAME_HEAD];
    TA_ASSERT(!m->gone && len <= UINT32_MAX);
    put32(head, (uint32_t)len);
    head[4] = (char)type;
    head[5] = (char)flags;
    put32(head + 6, id);
    int rc = ta_conn_write(&m->net, head, sizeof head);
    m->full |= rc == TA_AGAIN;
    return rc;
}

int mux_frame(mux_conn *m, ta_mux_type type, unsigned flags, uint32_t id, ta_str payload)
{
    int rc = mux_frame_head(m, type, flags, id, payload.len);
    if (payload.len && (rc == TA_OK || rc == TA_AGAIN))
        rc = ta_conn_write(&m->net, payload.ptr, payload.len);
    m->full |= rc == TA_AGAIN;
    return rc;
}

void mux_poke(mux_conn *m)
{
    if (m->running)
        m->again = true;
    else
        ta_loop_defer_turn(m->server->loop, &m->turn);
}

static mux_req *find(mux_conn *m, uint32_t id)
{
    for (ta_list_node *n = m->reqs.next; n != &m->reqs; n = n->next) {
        mux_req *rq = TA_CONTAINER_OF(n, mux_req, node);
        if (rq->id == id)
            return rq;
    }
    return NULL;
}

/* A new request.  False: the client broke the protocol. */
static bool on_head(mux_conn *m, uint32_t id, unsigned flags, ta_str payload)
{
    int status;
    if (id <= m->last_id)
        return false;
    m->last_id = id;
    mux_req *rq = mux_req_new(m, id, flags, payload, &status);
    if (!rq)
        return false;
    ta_list_push_back(&m->reqs, &rq->node);
    uint64_t max = m->server->limits.body_bytes;
    if (max && rq->req.content_length > 0 && (uint64_t)rq->req.content_length > max)
        mux_fail(rq, 413, "request body too large");
    return true;
}

static bool on_bytes(mux_conn *m, mux_req *rq, unsigned flags, ta_str payload)
{
    bool end = flags & TA_MUX_END, raw = rq->req.upgrade;
    if (payload.len > rq->credit || (!raw && rq->req.body_eof) || (raw && rq->raw_eof))
        return false;
    rq->credit -= payload.len;
    rq->received += payload.len;
    uint64_t max = m->server->limits.body_bytes;
    if (!raw && max && rq->received > max) {
        mux_fail(rq, 413, "request body too large");
        return true;
    }
    if (ta_buf_append_str(raw ? &rq->input : &rq->req.body, payload) != TA_OK) {
        ta_conn_reset(&m->net);
        return true;
    }
    if (raw) {
        rq->raw_eof = end;
    } else {
        rq->req.body_eof = end;
        rq->body_told = rq->phase == MUX_NEW;
    }
    mux_grant(rq);
    return true;
}

/* What came for a request that is over is dropped: the client did not know. */
static bool on_frame(mux_conn *m, unsigned type, unsigned flags, uint32_t id, ta_str payload)
{
    if (type == TA_MUX_HEAD)
        return on_head(m, id, flags, payload);
    mux_req *rq = find(m, id);
    if (id > m->last_id)
        return false;
    if (!rq || rq->req.gone)
        return true;
    switch (type) {
    case TA_MUX_DATA:
        return on_bytes(m, rq, flags, payload);
    case TA_MUX_RESET:
        rq->req.gone = true;
        mux_drop_parts(rq);
        return true;
    case TA_MUX_WINDOW:
        if (payload.len != 4)
            return false;
        rq->window += get32(payload.ptr);
        return true;
    default:
        return false;
    }
}

/* Takes a whole frame off the input.  False: there is none. */
static bool next_frame(mux_conn *m)
{
    ta_conn *c = &m->net;
    if (c->closed || c->in.len < TA_MUX_FRAME_HEAD)
        return false;
    const char *p = c->in.data + c->in.off;
    size_t len = get32(p);
    if (len > TA_MUX_FRAME_MAX) {
        ta_conn_reset(c);
        return false;
    }
    if (c->in.len < TA_MUX_FRAME_HEAD + len)
        return false;
    ta_str payload = ta_str_of(p + TA_MUX_FRAME_HEAD, len);
    if (!on_frame(m, (unsigned char)p[4], (unsigned char)p[5], get32(p + 6), payload))
        ta_conn_reset(c);
    ta_conn_consume(c, TA_MUX_FRAME_HEAD + len);
    return !c->closed;
}

/* -- turns ------------------------------------------------------------------------------------ */

static bool over(const mux_req *rq)
{
    if (rq->files)
        return false;
    if (rq->phase == MUX_ENDED)
        return rq->end_sent || mux_gone(rq);
    return rq->phase == MUX_BROKEN;
}

static void end_request(mux_req *rq)
{
    TA_ASSERT(rq->phase >= MUX_ENDED && !rq->files);
    ta_list_remove(&rq->node);
    if (rq->begun)
        rq->req.ops->on_close(&rq->req);
    mux_req_free(rq);
}

static bool tell_raw(mux_req *rq)
{
    const ta_http_ops *ops = rq->req.ops;
    bool gone = mux_gone(rq);
    if (rq->input.len && !rq->raw_paused && !gone) {
        ta_buf input = rq->input;
        ta_buf_init(&rq->input);
        ops->on_raw(&rq->req, input.data + input.off, input.len);
        ta_buf_free(&input);
        mux_grant(rq);
        return true;
    }
    if ((rq->raw_eof || gone) && !rq->raw_eof_told && (gone || !rq->input.len)) {
        rq->raw_eof_told = rq->req.disconnected = true;
        ops->on_raw(&rq->req, NULL, 0);
        return true;
    }
    return false;
}

/* Makes the upcall that is due, if one is; may free rq after that. */
static bool tell(mux_req *rq)
{
    const ta_http_ops *ops = rq->req.ops;
    if (over(rq)) {
        end_request(rq);
        return true;
    }
    if (rq->phase >= MUX_ENDED)
        return false;
    if (rq->phase == MUX_NEW) {
        rq->phase = MUX_OPEN;
        rq->begun = rq->body_told = true;
        ops->on_request(rq->conn->server->ctx, &rq->req);
        return true;
    }
    if (rq->want_drain && !rq->conn->full && rq->queued <= MUX_QUEUE_MAX / 4 && !mux_gone(rq)) {
        rq->want_drain = false;
        if (ops->on_drain)
            ops->on_drain(&rq->req);
        return true;
    }
    if (!rq->body_told) {
        rq->body_told = true;
        if (ops->on_body)
            ops->on_body(&rq->req);
        return true;
    }
    if (rq->raw)
        return tell_raw(rq);
    if (mux_gone(rq) && !rq->disconnect_told) {
        rq->req.gone = rq->req.disconnected = rq->disconnect_told = true;
        if (ops->on_disconnect)
            ops->on_disconnect(&rq->req);
        return true;
    }
    return false;
}

static void tell_all(mux_conn *m)
{
    for (ta_list_node *n = m->reqs.next, *next; n != &m->reqs; n = next) {
        mux_req *rq = TA_CONTAINER_OF(n, mux_req, node);
        next = n->next;
        mux_pump(rq);
        if (tell(rq))
            m->again = true;
    }
}

static void free_conn(mux_conn *m)
{
    TA_ASSERT(m->gone && ta_list_empty(&m->reqs));
    ta_loop_undefer(m->server->loop, &m->turn);
    ta_http_server_remove(m->server, &m->base);
    ta_free(m);
}

static void run(mux_conn *m)
{
    if (m->running) {
        m->again = true;
        return;
    }
    m->running = true;
    do {
        m->again = false;
        while (!m->gone && next_frame(m))
            ;
        tell_all(m);
    } while (m->again);
    m->running = false;
    if (!ta_list_empty(&m->reqs))
        return;
    if (m->gone)
        free_conn(m);
    else if (m->server->stopping)
        ta_conn_finish(&m->net, false);
}

static void on_turn(ta_defer *item)
{
    run(TA_CONTAINER_OF(item, mux_conn, turn));
}

/* -- what the connection tells ---------------------------------------------------------------- */

static void on_data(ta_conn *c)
{
    run(c->proto);
}

static void on_drain(ta_conn *c)
{
    mux_conn *m = c->proto;
    m->full = false;
    run(m);
}

static void on_close(ta_conn *c, int reason)
{
    mux_conn *m = c->proto;
    m->gone = true;
    if (m->server->freeing) /* the server calls `destroy` */
        return;
    run(m);
}

/* A client that ends its sending side is gone: on_eof is left out. */
static const ta_conn_ops net_ops = {.on_data = on_data, .on_drain = on_drain, .on_close = on_close};

/* -- what the server asks --------------------------------------------------------------------- */

static mux_conn *of(ta_http_conn *c)
{
    return TA_CONTAINER_OF(c, mux_conn, base);
}

static void each(ta_http_conn *c, void (*fn)(ta_req *req, void *arg), void *arg)
{
    mux_conn *m = of(c);
    for (ta_list_node *n = m->reqs.next; n != &m->reqs; n = n->next) {
        mux_req *rq = TA_CONTAINER_OF(n, mux_req, node);
        if (rq->begun)
            fn(&rq->req, arg);
    }
}

static void stop(ta_http_conn *c)
{
    mux_conn *m = of(c);
    if (!m->gone && !m->net.closed)
        (void)mux_frame(m, TA_MUX_GOAWAY, 0, m->last_id, TA_STR(""));
    mux_poke(m);
}

static void destroy(ta_http_conn *c)
{
    mux_conn *m = of(c);
    while (!ta_list_empty(&m->reqs)) {
        mux_req *rq = TA_CONTAINER_OF(m->reqs.next, mux_req, node);
        rq->phase = MUX_BROKEN;
        end_request(rq);
    }
    free_conn(m);
}

static const ta_http_conn_ops conn_ops = {.each = each, .stop = stop, .destroy = destroy};

int ta_mux_accept(ta_http_server *server, int fd, const struct sockaddr *peer, socklen_t peer_len,
                  ta_transport *transport)
{
    int rc = TA_ENOMEM;
    mux_conn *m = ta_calloc(1, sizeof *m);
    if (!m)
        goto fail;
    m->server = server;
    m->turn.fn = on_turn;
    ta_list_init(&m->reqs);
    rc = ta_conn_open(&m->net, server->group, fd, peer, peer_len, transport, &net_ops, m);
    if (rc != TA_OK)
        goto fail;
    ta_http_server_add(server, &m->base, &conn_ops);
    return TA_OK;
fail:
    ta_free(m);
    if (transport && transport->ops->close)
        transport->ops->close(transport);
    close(fd);
    return rc;
}
