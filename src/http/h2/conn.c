/* h2/conn.c -- the state machine of a connection: turns, upcalls, timeouts, ends.  See h2/h2_int.h.
 */
#include "http/h2/h2_int.h"

#include <stdarg.h>
#include <stdio.h>

/* -- small parts ------------------------------------------------------------------------------ */

void h2_log(h2_conn *m, ta_log_level level, const char *fmt, ...)
{
    if (!ta_log_on(m->server->log, level))
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    ta_str host = {NULL, 0};
    uint16_t port = 0;
    ta_conn_peer(m->net, &host, &port);
    if (host.len)
        ta_log_printf(m->server->log, level, "%.*s:%u - %s", (int)host.len, host.ptr,
                      (unsigned)port, text);
    else /* a unix socket */
        ta_log_printf(m->server->log, level, "%s", text);
}

void h2_poke(h2_conn *m)
{
    if (m->running)
        m->again = true;
    else
        ta_loop_defer_turn(m->server->loop, &m->turn);
}

void h2_due(h2_req *rq)
{
    if (!ta_list_linked(&rq->due))
        ta_list_push_back(&rq->conn->due, &rq->due);
    h2_poke(rq->conn);
}

void h2_terminate(h2_conn *m, uint32_t error, const char *why)
{
    if (m->ending || m->gone)
        return;
    m->ending = true;
    if (why)
        h2_log(m, TA_LOG_INFO, "HTTP/2 connection ended: %s", why);
    if (nghttp2_session_terminate_session(m->session, error) != 0)
        h2_panic(m);
    h2_poke(m);
}

void h2_panic(h2_conn *m)
{
    ta_conn_reset(m->net);
}

/* -- input ------------------------------------------------------------------------------------ */

static void take_input(h2_conn *m)
{
    ta_conn *c = m->net;
    if (m->gone || c->closed || !c->in.len)
        return;
    size_t n = c->in.len;
    ssize_t rc = 0;
    if (!m->ending)
        n = h2_guard_input(m, (const uint8_t *)c->in.data + c->in.off, n);
    if (!m->ending && n)
        rc = nghttp2_session_mem_recv(m->session, (const uint8_t *)c->in.data + c->in.off, n);
    ta_conn_consume(c, m->ending ? c->in.len : n);
    if (c->in.len) { /* the rest, and what the socket holds, after the others' */
        ta_conn_pause(c);
        ta_loop_defer_next(m->server->loop, &m->next);
    } else {
        ta_conn_resume(c);
    }
    if (rc >= 0 || m->ending) /* what there is to say was said */
        return;
    /* The preface, a flood that nghttp2 noticed, or no memory: what is to be said to that has been
     * queued, if anything. */
    h2_log(m, TA_LOG_INFO, "HTTP/2 connection ended: %s", nghttp2_strerror((int)rc));
    m->ending = true;
    if (rc == NGHTTP2_ERR_FLOODED)
        (void)nghttp2_session_terminate_session(m->session, NGHTTP2_ENHANCE_YOUR_CALM);
    else
        (void)nghttp2_session_terminate_session(m->session, NGHTTP2_PROTOCOL_ERROR);
}

/* -- upcalls ---------------------------------------------------------------------------------- */

static bool over(const h2_req *rq)
{
    if (rq->phase == H2_ENDED)
        return rq->end_sent || h2_gone(rq);
    return rq->phase == H2_BROKEN;
}

/* The stream of a request that is over: nghttp2 must not speak of it any more. */
static void let_go(h2_req *rq)
{
    h2_conn *m = rq->conn;
    if (m->gone || rq->stream_closed)
        return;
    h2_leave_body(m->session, rq->id, H2_UNWANTED_MAX);
    /* What was not read fills the stream's window no more. */
    rq->want = SIZE_MAX;
    rq->unread += rq->dropped;
    m->unread += rq->dropped;
    rq->dropped = 0;
    h2_body_grant(rq);
}

static void end_request(h2_req *rq)
{
    TA_ASSERT(rq->phase >= H2_ENDED);
    let_go(rq);
    if (rq->begun) {
        rq->begun = false;
        rq->req.ops->on_close(&rq->req);
    }
    rq->conn->active = true;
    h2_req_give(rq);
}

static bool tell_raw(h2_req *rq)
{
    const ta_http_ops *ops = rq->req.ops;
    bool gone = h2_gone(rq);
    if (rq->req.body.len && !rq->raw_paused && !gone) {
        ta_buf input = rq->req.body; /* the upcall may not see what follows */
        ta_buf_init(&rq->req.body);
        ops->on_raw(&rq->req, input.data + input.off, input.len);
        ta_buf_free(&input);
        h2_body_grant(rq);
        return true;
    }
    if ((rq->input_eof || gone) && !rq->raw_eof_told && (gone || !rq->req.body.len)) {
        rq->raw_eof_told = rq->req.disconnected = true;
        ops->on_raw(&rq->req, NULL, 0);
        return true;
    }
    return false;
}

static void begin(h2_req *rq)
{
    h2_conn *m = rq->conn;
    rq->phase = H2_OPEN;
    rq->begun = rq->body_told = m->lively = true;
    /* Another one waits: whoever starts this one may start both at once. */
    const ta_list_node *next = m->due.next;
    rq->req.followed = next != &m->due && TA_CONTAINER_OF(next, h2_req, due)->phase == H2_NEW;
    m->served++;
    uint32_t most = m->server->limits.requests_per_conn;
    if (most && m->served == most && !m->ending) {
        m->noticed = true;
        (void)nghttp2_submit_goaway(m->session, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(m->session),
                                    NGHTTP2_NO_ERROR, NULL, 0);
    }
    rq->req.ops->on_request(m->server->ctx, &rq->req);
}

/* Makes the upcall that is due.  1: one was made; 0: none is; -1: rq is over, and freed. */
static int tell(h2_req *rq)
{
    const ta_http_ops *ops = rq->req.ops;
    if (over(rq)) {
        end_request(rq);
        return -1;
    }
    if (rq->phase >= H2_ENDED) {
        if (rq->phase != H2_REFUSED)
            return 0;
        h2_refuse(rq);
        return 1;
    }
    if (rq->phase == H2_NEW) {
        begin(rq);
        return 1;
    }
    if (rq->want_drain && !rq->conn->full && rq->queued <= H2_QUEUE_MAX / 4 && !h2_gone(rq)) {
        rq->want_drain = false;
        if (ops->on_drain)
            ops->on_drain(&rq->req);
        return 1;
    }
    if (rq->raw)
        return tell_raw(rq);
    if (!rq->body_told) {
        rq->body_told = true;
        if (ops->on_body)
            ops->on_body(&rq->req);
        return 1;
    }
    if (h2_gone(rq) && !rq->disconnect_told) {
        rq->req.gone = rq->req.disconnected = rq->disconnect_told = true;
        if (ops->on_disconnect)
            ops->on_disconnect(&rq->req);
        return 1;
    }
    return 0;
}

/* Starts requests and ends those that were left.  What is done for either may take long, and a
 * connection that closes ends all of its requests at once.  False: others shall have their turn
 * first. */
static bool tell_all(h2_conn *m)
{
    while (!ta_list_empty(&m->due)) {
        h2_req *rq = TA_CONTAINER_OF(m->due.next, h2_req, due);
        if ((rq->phase == H2_NEW || (h2_gone(rq) && !rq->disconnect_told)) && !h2_guard_tells(m))
            return false;
        ta_list_remove(&rq->due);
        int more;
        while ((more = tell(rq)) > 0)
            ;
        if (more == 0) {
            h2_body_watch(rq);
            h2_queue_watch(rq);
        }
    }
    return true;
}

/* -- ends ------------------------------------------------------------------------------------- */

static void arm(h2_conn *m)
{
    const ta_http_limits *limits = &m->server->limits;
    h2_armed kind = H2_ARMED_NONE;
    uint32_t ms = 0;
    if (m->armed == H2_ARMED_PART)
        return; /* the last word is due soon */
    if (m->heading) {
        kind = H2_ARMED_HEAD;
        ms = limits->timeout_header_ms;
    } else if (!m->nreqs) {
        kind = H2_ARMED_IDLE;
        ms = limits->timeout_idle_ms;
    }
    if (kind == m->armed && !(kind == H2_ARMED_IDLE && m->active))
        return;
    m->active = false;
    m->armed = (uint8_t)kind;
    if (ms)
        ta_conn_set_deadline(m->net, ms);
    else
        ta_conn_clear_deadline(m->net);
}

/* After a turn: the connection may be at its end. */
static void settle(h2_conn *m)
{
    if (m->gone) {
        if (ta_list_empty(&m->reqs))
            h2_conn_free(m);
        return;
    }
    if (m->net->closed || m->finishing)
        return;
    /* Requests that are left have lost their streams. */
    if (!nghttp2_session_want_read(m->session) && !nghttp2_session_want_write(m->session)) {
        m->finishing = true;
        /* Who sends while its connection ends gets a reset, which destroys what it has not read
         * yet.  In a shutdown nobody waits for clients that were quiet. */
        ta_conn_finish(m->net, !m->net->eof && (!m->server->stopping || m->lively));
        return;
    }
    arm(m);
}

void h2_run(h2_conn *m)
{
    bool pause = false;
    if (m->running) {
        m->again = true;
        return;
    }
    m->running = true;
    m->budget = H2_TURN_BYTES;
    do {
        take_input(m);
        h2_pump(m);
        m->again = false; /* what came up so far is sent, or among those that are due */
        pause = !tell_all(m);
    } while (!pause && (m->again || !ta_list_empty(&m->due)));
    if (m->again)
        h2_pump(m);
    m->running = false;
    if (pause) /* after the input that others have sent meanwhile */
        ta_loop_defer_next(m->server->loop, &m->next);
    else if (!m->gone && !m->budget && !m->full)
        ta_loop_defer_turn(m->server->loop, &m->turn);
    settle(m);
}

/* Says that no more streams are served, and what will not be. */
static void part(h2_conn *m)
{
    if (m->ending || m->gone || m->net->closed)
        return;
    (void)nghttp2_submit_goaway(m->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(m->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
    h2_poke(m);
}

/* -- what the connection tells ---------------------------------------------------------------- */

static void on_data(ta_conn *c)
{
    h2_run(c->proto);
}

static void on_drain(ta_conn *c)
{
    h2_conn *m = c->proto;
    m->full = false;
    for (ta_list_node *n = m->reqs.next; n != &m->reqs; n = n->next) {
        h2_req *rq = TA_CONTAINER_OF(n, h2_req, node);
        if (rq->want_drain)
            h2_due(rq);
    }
    h2_run(m);
}

static void on_timeout(ta_conn *c)
{
    h2_conn *m = c->proto;
    h2_armed kind = (h2_armed)m->armed;
    /* What has come within the time may wait in the socket. */
    bool more = (kind == H2_ARMED_IDLE || kind == H2_ARMED_PART) && ta_conn_look(c);
    if (more && kind == H2_ARMED_IDLE && (m->armed != kind || ta_timer_armed(&c->deadline)))
        return; /* a request */
    m->armed = H2_ARMED_NONE;
    if (kind == H2_ARMED_HEAD)
        h2_terminate(m, NGHTTP2_ENHANCE_YOUR_CALM, "a header block did not arrive in time");
    else if (kind == H2_ARMED_IDLE)
        h2_terminate(m, NGHTTP2_NO_ERROR, NULL);
    else if (kind == H2_ARMED_PART)
        part(m);
    h2_run(m);
}

static void on_close(ta_conn *c, int reason)
{
    h2_conn *m = c->proto;
    if (reason == TA_ETIMEOUT)
        h2_log(m, TA_LOG_INFO, "connection ended: the peer does not read");
    m->gone = true;
    m->heading = NULL;
    nghttp2_session_del(m->session);
    m->session = NULL;
    for (ta_list_node *n = m->reqs.next; n != &m->reqs; n = n->next) {
        h2_req *rq = TA_CONTAINER_OF(n, h2_req, node);
        rq->req.gone = true;
        h2_queue_drop(rq);
        if (rq->phase == H2_NEW) /* nobody has heard of it, or will */
            rq->phase = H2_BROKEN;
        if (!m->server->freeing)
            h2_due(rq);
    }
    if (!m->server->freeing) /* else the server calls `destroy` */
        h2_run(m);
}

/* A client that ends its sending side is gone: on_eof is left out. */
const ta_conn_ops h2_net_ops = {
    .on_data = on_data, .on_drain = on_drain, .on_timeout = on_timeout, .on_close = on_close};

/* -- what the server asks --------------------------------------------------------------------- */

static h2_conn *of(ta_http_conn *c)
{
    return TA_CONTAINER_OF(c, h2_conn, base);
}

static void each(ta_http_conn *c, void (*fn)(ta_req *req, void *arg), void *arg)
{
    h2_conn *m = of(c);
    for (ta_list_node *n = m->reqs.next; n != &m->reqs; n = n->next) {
        h2_req *rq = TA_CONTAINER_OF(n, h2_req, node);
        if (rq->begun)
            fn(&rq->req, arg);
    }
}

/* Streams that are on their way when the notice arrives are served: the last word follows after a
 * moment (RFC 9113 6.8). */
static void stop(ta_http_conn *c)
{
    h2_conn *m = of(c);
    if (m->gone || m->net->closed || m->ending)
        return;
    m->noticed = true;
    m->lively = m->nreqs || m->armed != H2_ARMED_IDLE ||
                ta_timer_left(&m->net->deadline, ta_loop_now(m->server->loop)) + H2_LIVELY_MS >
                    m->server->limits.timeout_idle_ms;
    (void)nghttp2_submit_shutdown_notice(m->session);
    m->armed = H2_ARMED_PART;
    ta_conn_set_deadline(m->net, H2_PARTING_MS);
    h2_poke(m);
}

static void destroy(ta_http_conn *c)
{
    h2_conn *m = of(c);
    TA_ASSERT(m->gone);
    while (!ta_list_empty(&m->reqs)) {
        h2_req *rq = TA_CONTAINER_OF(m->reqs.next, h2_req, node);
        rq->phase = H2_BROKEN;
        end_request(rq);
    }
    h2_conn_free(m);
}

const ta_http_conn_ops h2_conn_ops = {.each = each, .stop = stop, .destroy = destroy};
