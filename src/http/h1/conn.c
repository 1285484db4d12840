/* h1/conn.c -- the state machine of an HTTP/1.x connection.  See h1/h1_int.h. */
#include "http/h1/h1_int.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "http/h2/conn.h"
#include "http/url.h"

/* -- small parts ------------------------------------------------------------------------------ */

/* In a shutdown: how long an idle connection stays.  Who has only just come, or asked a moment ago,
 * is likely to ask. */
static uint32_t parting(const h1_conn *h)
{
    uint32_t idle = h->server->limits.timeout_idle_ms;
    uint64_t left = ta_timer_left(&h->net.deadline, ta_loop_now(h->server->loop));
    bool quiet = h->served && h->armed == H1_ARMED_IDLE && left + H1_PARTING_LIVELY_MS <= idle;
    return quiet ? H1_PARTING_MS : H1_PARTING_LIVELY_MS;
}

void h1_arm(h1_conn *h, h1_armed kind)
{
    const ta_http_limits *limits = &h->server->limits;
    uint32_t ms = 0;
    /* The time of a head runs from its first byte, whatever comes later. */
    if (kind == h->armed && (kind == H1_ARMED_NONE || kind == H1_ARMED_HEAD))
        return;
    if (kind == H1_ARMED_HANDSHAKE)
        ms = h->server->stopping ? H1_PARTING_HANDSHAKE_MS : limits->timeout_handshake_ms;
    else if (kind == H1_ARMED_HEAD)
        ms = limits->timeout_header_ms;
    else if (kind == H1_ARMED_IDLE)
        ms = h->server->stopping ? parting(h) : limits->timeout_idle_ms;
    else if (kind == H1_ARMED_BODY)
        ms = h->state == H1_DRAIN || !limits->timeout_body_ms ? limits->timeout_body_ms
                                                              : TA_MAX(h->pace.left, 1U);
    else if (kind == H1_ARMED_READER)
        ms = h->rq->resp_started ? H1_READER_MS : H1_READER_UNBEGUN_MS;
    h->armed = (uint8_t)kind;
    if (ms)
        ta_conn_set_deadline(&h->net, ms);
    else
        ta_conn_clear_deadline(&h->net);
}

void h1_poke(h1_conn *h)
{
    if (h->running)
        h->again = true;
    else
        ta_loop_defer_turn(h->server->loop, &h->turn);
}

void h1_log(h1_conn *h, ta_log_level level, const char *fmt, ...)
{
    if (!ta_log_on(h->server->log, level))
        return;
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    ta_str host = {NULL, 0};
    uint16_t port = 0;
    ta_conn_peer(&h->net, &host, &port);
    if (host.len)
        ta_log_printf(h->server->log, level, "%.*s:%u - %s", (int)host.len, host.ptr,
                      (unsigned)port, text);
    else /* a unix socket */
        ta_log_printf(h->server->log, level, "%s", text);
}

/* Ends the connection after what is queued was sent. */
static void finish(h1_conn *h, bool linger)
{
    h->state = H1_DONE;
    ta_conn_finish(&h->net, linger && !h->peer_ended);
}

static bool decode_path(h1_req *rq)
{
    ta_str raw = rq->head.raw_path;
    rq->req.raw_path = rq->req.path = raw;
    if (!ta_url_has_escape(raw))
        return true;
    ta_buf_clear(&rq->path);
    char *out = ta_buf_reserve(&rq->path, raw.len);
    if (!out)
        return false;
    rq->req.path = ta_str_of(out, ta_url_unquote(out, raw));
    return true;
}

/* What a head says of its request. */
static inline void describe(h1_conn *h, h1_req *rq)
{
    const ta_h1_head *head = &rq->head;
    ta_req *req = &rq->req;
    rq->conn = h;
    req->method = head->method;
    req->method_id = head->method_id;
    req->target = head->target;
    req->query = head->query;
    req->headers = head->headers;
    req->nheaders = head->nheaders;
    req->version = head->version_minor ? TA_HTTP_1_1 : TA_HTTP_1_0;
    req->has_body = head->chunked || head->content_length > 0;
    req->upgrade = head->upgrade;
    req->secure = ta_conn_secure(&h->net);
    req->content_length = head->content_length;
    req->ops = h->server->ops;
    req->proto = &h1_proto;
}

/* The same of a head that may not be complete. */
static void describe_refused(h1_conn *h, h1_req *rq)
{
    const ta_buf *in = &h->net.in;
    if (h->state == H1_HEAD && !ta_h1_head_has_line(&rq->head, in->data + in->off))
        ta_h1_head_reset(&rq->head);
    describe(h, rq);
    (void)decode_path(rq); /* no memory: it stays as it was sent */
}

void h1_fail(h1_conn *h, int status, const char *reason)
{
    h1_req *rq = h->rq;
    const ta_http_ops *ops = h->server->ops;
    ta_str body = {reason, strlen(reason)};
    ta_response_head head = ta_head_text(status);
    ta_fields room;
    /* 503 means that we are out of memory. */
    h1_log(h, status == 503 ? TA_LOG_ERROR : TA_LOG_INFO, "refused a request: %d %s", status,
           reason);
    h->keep = false;
    if (rq && rq->open && rq->resp_started) {
        h1_abort(&rq->req);
        return;
    }
    bool told = rq && ops->on_refused;
    ta_fields_init(&room);
    if (told && !rq->open)
        describe_refused(h, rq);
    if (told)
        ops->on_refused(h->server->ctx, &rq->req, &head, body, &room);
    if (!h->net.closed) {
        h1_resp_error(h, &head, body, rq && rq->head.method_id == TA_METHOD_HEAD);
        ta_conn_finish(&h->net, !h->peer_ended);
    }
    ta_fields_free(&room);
    if (rq && rq->open) {
        rq->resp_done = rq->resp_broken = true;
        return;
    }
    h->state = H1_DONE;
    if (told)
        ops->on_close(&rq->req);
}

void h1_part(h1_conn *h, bool linger)
{
    if (h->server->stopping) {
        linger = false;
        if (ta_conn_flush(&h->net) != TA_OK) {
            ta_conn_close(&h->net);
            return;
        }
    }
    ta_conn_finish(&h->net, linger && !h->peer_ended);
}

/* Accounts for the wait for the client: false when it used up its time by sending too slowly. */
static bool account(h1_conn *h)
{
    const ta_http_limits *limits = &h->server->limits;
    if (!limits->timeout_body_ms)
        return true;
    uint64_t n = h->net.bytes_in - h->paced;
    h->paced = h->net.bytes_in;
    return ta_pace_account(&h->pace, ta_loop_now(h->server->loop), n, limits->timeout_body_ms,
                           limits->receive_rate) > 0;
}

/* -- requests --------------------------------------------------------------------------------- */

/* The head is complete: passes the request up. */
static bool begin_request(h1_conn *h)
{
    ta_http_server *server = h->server;
    h1_req *rq = h->rq;
    ta_req *req = &rq->req;
    TA_ASSERT(h->state == H1_HEAD && !rq->open && !rq->resp_started);

    describe(h, rq);
    rq->want = server->limits.body_buffer ? server->limits.body_buffer : SIZE_MAX;
    h->state = H1_BUSY;
    if (h->armed != H1_ARMED_NONE)
        h->armed = H1_ARMED_STALE;
    h->served++;
    h->keep = rq->head.keep_alive;
    h->paced = h->net.bytes_in;
    h->pace.left = server->limits.timeout_body_ms;
    if (!decode_path(rq)) {
        h1_fail(h, 503, "out of memory");
        return true;
    }
    if (!h1_body_begin(h))
        return true;
    req->followed = req->body_eof && h->net.in.len > 0;
    rq->open = true;
    rq->body_told = true;
    server->ops->on_request(server->ctx, req);
    return true;
}

/* Returns the request's object to the pool; the next bytes are a head. */
static void await_head(h1_conn *h)
{
    TA_ASSERT(h->state == H1_BUSY || h->state == H1_DRAIN);
    h1_req_give(h->server, h->rq);
    h->rq = NULL;
    h->state = H1_HEAD;
    if (h->armed != H1_ARMED_NONE)
        h->armed = H1_ARMED_STALE;
}

/* The response is sent, as far as this layer is concerned. */
static bool end_request(h1_conn *h)
{
    h1_req *rq = h->rq;
    TA_ASSERT(rq->open && rq->resp_done && !rq->files);
    rq->open = false;
    h->server->ops->on_close(&rq->req);
    if (h->state == H1_GONE) {
        h->state = H1_DEAD;
        return false;
    }
    ta_conn_unpin(&h->net);
    if (h->net.closed || rq->resp_broken) {
        h->state = H1_DONE;
    } else if (rq->raw) {
        h1_part(h, true);
        h->state = H1_DONE;
    } else if (!h->keep) {
        finish(h, !rq->req.body_eof || h->net.in.len);
    } else if (!rq->req.body_eof) {
        h->state = H1_DRAIN;
        h->drained = 0;
        ta_conn_resume(&h->net);
        h1_arm(h, H1_ARMED_BODY); /* for all of the rest */
    } else {
        await_head(h);
    }
    return h->state != H1_DONE;
}

/* -- HTTP/2 ----------------------------------------------------------------------------------- */

static void free_carrier(void *arg)
{
    ta_free(arg);
}

/* The connection is HTTP/2's from now on; only its memory is still ours. */
static void hand_over(h1_conn *h)
{
    TA_ASSERT(h->state == H1_HEAD && !h->served);
    int rc = ta_h2_take(h->server, &h->net, free_carrier, h);
    if (rc != TA_OK) {
        h1_log(h, TA_LOG_ERROR, "an HTTP/2 connection was refused: out of memory");
        ta_conn_reset(&h->net);
        h->state = H1_DONE;
        return;
    }
    h->state = H1_DONE;
    if (h->rq)
        h1_req_give(h->server, h->rq);
    h->rq = NULL;
    ta_loop_undefer(h->server->loop, &h->turn);
    ta_http_server_remove(h->server, &h->base);
}

/* Looks for the preface of a client that knows that we speak HTTP/2 (RFC 9113 3.3).  1: it is one,
 * and the connection was handed over; 0: it is none; -1: it may become one. */
static int look_for_preface(h1_conn *h)
{
    ta_str preface = TA_STR(TA_H2_PREFACE), in = ta_buf_str(&h->net.in);
    size_t n = TA_MIN(in.len, preface.len);
    if (TA_LIKELY(h->served || memcmp(in.ptr, preface.ptr, n) != 0) || !h->server->http2 ||
        ta_conn_secure(&h->net))
        return 0;
    if (n < preface.len)
        return h->peer_ended ? 0 : -1;
    hand_over(h);
    return 1;
}

/* Whether the first line of a connection, which is no request line, does not even have HTTP's form:
 * neither a target nor a protocol, so that it may as well be a preface that is wrong (RFC 9113
 * 3.4).  Who sent it would not understand an answer. */
static bool is_foreign(const h1_conn *h)
{
    ta_str in = ta_buf_str(&h->net.in);
    if (h->served || !h->server->http2)
        return false;
    const char *end = memchr(in.ptr, '\r', in.len);
    const char *target = end ? memchr(in.ptr, ' ', (size_t)(end - in.ptr)) : NULL;
    const char *word = end ? memrchr(in.ptr, ' ', (size_t)(end - in.ptr)) : NULL;
    if (!target++ || !word++ || word == target || memmem(word, (size_t)(end - word), "HTTP", 4))
        return false;
    return *target != '/' && *target != '*' && !memchr(target, ':', (size_t)(word - target));
}

/* -- the states: each returns whether there is more to do at once ----------------------------- */

/* Nothing of a next request is here. */
static void idle(h1_conn *h)
{
    if (h->peer_ended) {
        finish(h, false);
        return;
    }
    if (h->served || h->server->stopping)
        h1_arm(h, H1_ARMED_IDLE); /* else the time of the first head runs since accept */
}

/* Whether it has had as many requests in this batch as it may.  Their responses are written when
 * the batch is over, as are those of others, who must not wait for all that it has sent. */
static bool had_its_turn(h1_conn *h)
{
    const ta_http_server *server = h->server;
    uint64_t batch = ta_loop_batch(server->loop);
    if (h->batch != batch) {
        h->batch = batch;
        h->begun = 0;
    }
    return server->limits.pipelined && h->begun >= server->limits.pipelined;
}

static bool read_head(h1_conn *h)
{
    ta_conn *c = &h->net;
    ta_http_server *server = h->server;
    if (c->closed)
        return false;
    if (h->out_full) { /* the client sends requests and does not read the responses */
        if (!h->out_drained)
            return false;
        h->out_full = h->out_drained = false;
    }
    if (!c->in.len) {
        idle(h);
        return false;
    }
    if (had_its_turn(h)) {
        ta_loop_defer_next(server->loop, &h->turn);
        return false;
    }
    int preface = TA_UNLIKELY(c->in.data[c->in.off] == 'P') ? look_for_preface(h) : 0;
    if (preface < 0)
        h1_arm(h, H1_ARMED_HEAD);
    if (preface != 0)
        return false;
    if (!h->rq && !(h->rq = h1_req_take(server))) {
        h1_fail(h, 503, "out of memory");
        return false;
    }
    h1_req *rq = h->rq;
    int rc = ta_h1_head_parse(&rq->head, c->in.data + c->in.off, c->in.len);
    if (rc == TA_OK) {
        h->begun++;
        return begin_request(h);
    }
    if (rc != TA_AGAIN && is_foreign(h)) {
        h1_log(h, TA_LOG_INFO, "connection ended: its first line is not HTTP's");
        finish(h, true);
        return false;
    }
    if (rc != TA_AGAIN) {
        h1_fail(h, rq->head.status, rq->head.reason);
        return false;
    }
    if (h->peer_ended)
        finish(h, false);
    else if (c->in.len >= ta_conn_group_cfg(c->group)->read_max)
        h1_fail(h, 431, "request head too large");
    else
        h1_arm(h, H1_ARMED_HEAD);
    return false;
}

static bool raw_turn(h1_conn *h, h1_req *rq)
{
    ta_conn *c = &h->net;
    const ta_http_ops *ops = h->server->ops;
    if (h->state != H1_GONE && c->in.len && !rq->raw_paused) {
        size_t n = c->in.len;
        ops->on_raw(&rq->req, c->in.data + c->in.off, n);
        ta_conn_consume(c, n);
        return true;
    }
    if ((h->peer_ended || h->state == H1_GONE) && !rq->raw_eof_told) {
        rq->raw_eof_told = true;
        rq->req.disconnected = true;
        ops->on_raw(&rq->req, NULL, 0);
        return true;
    }
    return false;
}

/* Returns whether the client owes us body bytes that we are ready to take. */
static bool body_due(const h1_req *rq)
{
    if (rq->req.body_eof || rq->req.body.len >= rq->want)
        return false;
    return !rq->head.expect_continue || rq->continue_sent || rq->body_read;
}

static bool busy(h1_conn *h)
{
    h1_req *rq = h->rq;
    const ta_http_ops *ops = h->server->ops;
    if (rq->resp_done) {
        if (rq->files)
            return false;
        return end_request(h);
    }
    if (h->out_drained) {
        h->out_full = h->out_drained = false;
        if (rq->want_drain) {
            rq->want_drain = false;
            if (ops->on_drain)
                ops->on_drain(&rq->req);
            return true;
        }
    }
    if (!rq->req.body_eof && !h->net.closed && h->state == H1_BUSY) {
        if (!h1_body_more(h))
            return true;
        if (!rq->body_told) {
            rq->body_told = true;
            if (h->armed == H1_ARMED_BODY) {
                bool in_time = account(h) || rq->req.body_eof;
                h1_arm(h, H1_ARMED_NONE); /* it starts again with what is left */
                if (!in_time) {
                    h1_fail(h, 408, "the request body arrived too slowly");
                    return true;
                }
            }
            if (ops->on_body)
                ops->on_body(&rq->req);
            return true;
        }
    }
    if (rq->raw) {
        if (raw_turn(h, rq))
            return true;
    } else if (!rq->disconnect_told && h1_peer_gone(h)) {
        if (h->state != H1_GONE) /* the handler may never end: learn of a reset that is due */
            ta_conn_probe(&h->net);
        rq->disconnect_told = true;
        rq->req.disconnected = true;
        if (ops->on_disconnect)
            ops->on_disconnect(&rq->req);
        return true;
    }
    if (h->state == H1_BUSY) {
        if (rq->reader == H1_READER_ASKED)
            return false;
        if (!body_due(rq) || h->peer_ended) {
            if (h->armed == H1_ARMED_BODY)
                (void)account(h);
            h1_arm(h, H1_ARMED_NONE);
        } else if (h->armed != H1_ARMED_BODY) {
            ta_pace_resume(&h->pace, ta_loop_now(h->server->loop));
            h1_arm(h, H1_ARMED_BODY);
        }
    }
    return false;
}

static bool drain(h1_conn *h)
{
    if (h->net.closed)
        return false;
    int rc = h1_body_drain(h);
    if (rc > 0) {
        await_head(h);
        return true;
    }
    if (rc < 0)
        finish(h, true);
    else if (h->peer_ended)
        finish(h, false);
    return false;
}

void h1_run(h1_conn *h)
{
    if (h->running) {
        h->again = true;
        return;
    }
    h->running = true;
    do {
        bool more = true;
        h->again = false;
        while (more) {
            switch ((h1_state)h->state) {
            case H1_HEAD:
                more = read_head(h);
                break;
            case H1_BUSY:
            case H1_GONE:
                more = busy(h);
                break;
            case H1_DRAIN:
                more = drain(h);
                break;
            default:
                more = false;
            }
        }
    } while (h->again);
    h->running = false;
    if (h->state == H1_DEAD)
        h1_conn_destroy(h);
}

/* -- what the connection tells ---------------------------------------------------------------- */

static void on_data(ta_conn *c)
{
    h1_run(c->proto);
}

static void on_drain(ta_conn *c)
{
    h1_conn *h = c->proto;
    h->out_drained = true;
    h1_run(h);
}

static void on_eof(ta_conn *c)
{
    h1_conn *h = c->proto;
    h->peer_ended = true;
    h1_run(h);
}

/* FIN while we do not read.  When a body waits before it, on_eof comes in time; when only pipelined
 * requests do, the request in flight may as well know now. */
static void on_hup(ta_conn *c)
{
    h1_conn *h = c->proto;
    h->peer_ending = true;
    h1_run(h);
}

/* The handshake is over, if there was one: the time of the first head begins. */
static void on_open(ta_conn *c)
{
    h1_conn *h = c->proto;
    if (h->armed == H1_ARMED_HANDSHAKE)
        h1_arm(h, h->server->stopping ? H1_ARMED_IDLE : H1_ARMED_HEAD);
    if (ta_str_eq(ta_conn_alpn(c), TA_STR("h2"))) /* offered, as TLS was told to */
        hand_over(h);
}

static void on_timeout(ta_conn *c)
{
    h1_conn *h = c->proto;
    h1_armed kind = (h1_armed)h->armed;
    h->armed = H1_ARMED_NONE;
    if (kind == H1_ARMED_STALE)
        return;
    switch ((h1_state)h->state) {
    case H1_HEAD:
        if (kind == H1_ARMED_HANDSHAKE)
            h1_log(h, TA_LOG_DEBUG, "connection ended: the TLS handshake took too long");
        else if (kind == H1_ARMED_IDLE && ta_conn_look(c))
            return; /* h may be somebody else's by now */
        /* nothing but an empty line is no request yet */
        if (kind == H1_ARMED_IDLE || !c->in.len ||
            (c->in.len <= 2 && c->in.data[c->in.off] == '\r'))
            finish(h, false);
        else
            h1_fail(h, 408, "the request head did not arrive in time");
        break;
    case H1_BUSY:
        if (kind == H1_ARMED_READER)
            h1_peer_verdict(h);
        else if (!h->rq->resp_done)
            h1_fail(h, 408, "the request body did not arrive in time");
        break;
    case H1_DRAIN:
        finish(h, false);
        break;
    default:
        break;
    }
    h1_run(h);
}

static void on_close(ta_conn *c, int reason)
{
    h1_conn *h = c->proto;
    h1_req *rq = h->rq;
    if (reason == TA_ETIMEOUT)
        h1_log(h, TA_LOG_INFO, "connection ended: the peer does not read");
    if (rq && rq->open) {
        if (!h->server->freeing) {
            /* the request's slices point into it */
            TA_ASSERT(h->state == H1_BUSY);
            ta_conn_keep_input(c, h->kept);
            h->state = H1_GONE;
            rq->req.gone = true;
            h1_run(h);
            return;
        }
        rq->open = false;
        h->server->ops->on_close(&rq->req);
    }
    h1_conn_destroy(h);
}

const ta_conn_ops h1_conn_ops = {
    .on_open = on_open,
    .on_data = on_data,
    .on_drain = on_drain,
    .on_eof = on_eof,
    .on_hup = on_hup,
    .on_timeout = on_timeout,
    .on_close = on_close,
};
