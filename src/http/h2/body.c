/*
 * h2/body.c -- request bodies: windows, time.  See h2/h2_int.h.
 *
 * A stream's window is opened again as the application reads, so that a body holds no more than
 * that window, unless all of it is wanted.  The connection's is opened at once, so that a stream
 * that nobody reads does not hold up the others; but not beyond what one window more would hold.
 */
#include "http/h2/h2_int.h"

/* -- windows ---------------------------------------------------------------------------------- */

static size_t window(const h2_conn *m)
{
    uint32_t limit = m->server->limits.h2_stream_window;
    return limit ? limit : INT32_MAX;
}

static void open_connection(h2_conn *m)
{
    uint32_t most = m->server->limits.h2_conn_window;
    if (!m->withheld || m->gone || (most && m->unread > most))
        return;
    size_t n = m->withheld;
    m->withheld = 0;
    if (nghttp2_session_consume_connection(m->session, n) == NGHTTP2_ERR_NOMEM)
        h2_panic(m);
}

void h2_body_drop(h2_conn *m, size_t n)
{
    m->withheld += n;
    open_connection(m);
}

/* How many bytes of the stream's window stay closed. */
static size_t to_withhold(const h2_req *rq)
{
    size_t have = rq->req.body.len, room = window(rq->conn);
    if (rq->want == SIZE_MAX)
        return 0;
    /* As many as may still come, with what is here, are no more than is wanted. */
    if (rq->want > room)
        return have > rq->want - room ? TA_MIN(have - (rq->want - room), have) : 0;
    return have;
}

void h2_body_grant(h2_req *rq)
{
    h2_conn *m = rq->conn;
    size_t keep = to_withhold(rq);
    if (rq->unread <= keep || m->gone)
        return;
    size_t n = rq->unread - keep;
    rq->unread = keep;
    m->unread -= n;
    if (!rq->stream_closed && !rq->input_eof &&
        nghttp2_session_consume_stream(m->session, rq->id, n) == NGHTTP2_ERR_NOMEM)
        h2_panic(m);
    open_connection(m);
    h2_poke(m); /* sends the window */
}

bool h2_body_take(h2_req *rq, ta_str data)
{
    h2_conn *m = rq->conn;
    uint64_t max = m->server->limits.body_bytes;
    rq->received += data.len;
    if (max && rq->received > max && !rq->websocket) {
        h2_body_drop(m, data.len);
        h2_fail(rq, 413, "request body too large");
        return true;
    }
    if (ta_buf_append_str(&rq->req.body, data) != TA_OK)
        return false;
    rq->unread += data.len;
    m->unread += data.len;
    m->withheld += data.len;
    rq->body_told = rq->phase == H2_NEW;
    h2_body_grant(rq);
    open_connection(m);
    h2_due(rq);
    return true;
}

void h2_body_end(h2_req *rq)
{
    h2_conn *m = rq->conn;
    m->unread -= rq->unread;
    rq->unread = 0;
    open_connection(m);
}

/* -- time ------------------------------------------------------------------------------------- */

/* Whether the client owes us body bytes that we are ready to take. */
static bool due(const h2_req *rq)
{
    if (rq->input_eof || rq->raw || rq->websocket || rq->phase >= H2_ENDED || h2_gone(rq) ||
        rq->req.body.len >= rq->want || rq->unread >= window(rq->conn))
        return false;
    return !rq->expect || rq->continue_sent || rq->received;
}

/* Accounts for the wait so far: false when the client used up its time by sending too slowly. */
static bool account(h2_req *rq)
{
    const ta_http_limits *limits = &rq->conn->server->limits;
    uint64_t n = rq->received - rq->told_received;
    rq->told_received = rq->received;
    return ta_pace_account(&rq->body_pace, ta_loop_now(rq->conn->server->loop), n,
                           limits->timeout_body_ms, limits->receive_rate) > 0;
}

static void on_expire(ta_timer *timer)
{
    h2_req *rq = TA_CONTAINER_OF(timer, h2_req, body_timer);
    if (!due(rq))
        return;
    if (account(rq))
        ta_loop_set_timer(rq->conn->server->loop, timer, rq->body_pace.left);
    else
        h2_fail(rq, 408, "the request body did not arrive in time");
}

void h2_body_watch(h2_req *rq)
{
    uint32_t patience = rq->conn->server->limits.timeout_body_ms;
    bool armed = ta_timer_armed(&rq->body_timer);
    if (!patience)
        return;
    if (!due(rq)) {
        if (armed) {
            (void)account(rq);
            ta_timer_disarm(&rq->body_timer);
        }
    } else if (!armed) {
        ta_pace_resume(&rq->body_pace, ta_loop_now(rq->conn->server->loop));
        ta_loop_set_timer(rq->conn->server->loop, &rq->body_timer, TA_MAX(rq->body_pace.left, 1U));
    } else if (!account(rq)) {
        h2_fail(rq, 408, "the request body arrived too slowly");
    } else {
        ta_loop_set_timer(rq->conn->server->loop, &rq->body_timer, rq->body_pace.left);
    }
}

void h2_body_init(h2_req *rq)
{
    rq->body_timer.on_expire = on_expire;
    rq->body_pace.left = rq->conn->server->limits.timeout_body_ms;
}
