/*
 * h1/body.c -- request bodies of an HTTP/1.x connection.  See h1/h1_int.h.
 *
 * A body that arrived with its head is a view of the pinned read buffer.  Any other body is
 * gathered in req->body: what was already read is copied there, and the rest of a long one with a
 * known length is read straight into it.
 */
#include "http/h1/h1_int.h"

bool h1_body_can_drain(const h1_req *rq)
{
    if (rq->req.body_eof)
        return true;
    if (rq->head.expect_continue && !rq->continue_sent && !rq->body_read)
        return false; /* the client may send the body or not */
    return rq->head.chunked || rq->body_left <= H1_DRAIN_MAX;
}

/* Content-length: moves what is here; then lets the connection read into the body. */
static bool more_of_length(h1_conn *h, h1_req *rq)
{
    ta_conn *c = &h->net;
    ta_buf *body = &rq->req.body;
    uint64_t before = rq->body_left;
    if (rq->sink) {
        rq->body_left = ta_conn_sink_left(c);
    } else if (c->in.len && body->len < rq->want) {
        size_t n = c->in.len;
        if (n > rq->body_left)
            n = (size_t)rq->body_left;
        if (ta_buf_append(body, c->in.data + c->in.off, n) != TA_OK)
            return false;
        ta_conn_consume(c, n);
        rq->body_left -= n;
    }
    if (rq->body_left != before) {
        rq->body_told = false;
        rq->body_read = true;
    }
    if (!rq->body_left) {
        rq->req.body_eof = true;
        rq->sink = false;
    } else if (!rq->sink && !c->in.len && rq->body_left >= H1_SINK_MIN) {
        rq->sink = true;
        ta_conn_set_sink(c, body, rq->body_left);
    }
    return true;
}

/* Chunked.  TA_AGAIN, TA_OK at the end, or a failure. */
static int more_of_chunks(h1_conn *h, h1_req *rq)
{
    ta_conn *c = &h->net;
    uint64_t max = h->server->limits.body_bytes;
    int rc = TA_AGAIN;
    while (rc == TA_AGAIN && c->in.len && rq->req.body.len < rq->want) {
        size_t used;
        ta_str run;
        rc = ta_h1_chunk_next(&rq->chunk, c->in.data + c->in.off, c->in.len, &used, &run);
        rq->body_read = true;
        if (max && (rq->chunk.total > max || rq->chunk.remaining > max - rq->chunk.total)) {
            rq->chunk.reason = "request body too large";
            return TA_ETOOLARGE;
        }
        if (run.len) {
            if (ta_buf_append_str(&rq->req.body, run) != TA_OK)
                return TA_ENOMEM;
            rq->body_told = false;
        }
        ta_conn_consume(c, used);
    }
    if (rc == TA_OK) {
        rq->req.body_eof = true;
        rq->body_told = false;
    }
    return rc;
}

bool h1_body_more(h1_conn *h)
{
    h1_req *rq = h->rq;
    int rc = TA_AGAIN;
    if (rq->head.chunked)
        rc = more_of_chunks(h, rq);
    else if (!more_of_length(h, rq))
        rc = TA_ENOMEM;
    if (rc != TA_OK && rc != TA_AGAIN) {
        if (rc == TA_ENOMEM)
            h1_fail(h, 503, "out of memory");
        else
            h1_fail(h, rc == TA_ETOOLARGE ? 413 : 400, rq->chunk.reason);
        return false;
    }
    /* Reading continues after the body: for pipelined requests, and to notice a disconnect. */
    bool pause = !rq->req.body_eof && rq->req.body.len >= rq->want;
    if (pause != rq->body_paused) {
        rq->body_paused = pause;
        if (pause)
            ta_conn_pause(&h->net);
        else
            ta_conn_resume(&h->net);
    }
    return true;
}

bool h1_body_begin(h1_conn *h)
{
    h1_req *rq = h->rq;
    ta_conn *c = &h->net;
    size_t head = rq->head.len, arrived = c->in.len - head;
    int64_t length = rq->head.content_length;
    if (!rq->head.chunked && length <= 0) {
        rq->req.body_eof = true;
        ta_conn_consume_pinned(c, head);
        return true;
    }
    if (!rq->head.chunked && (uint64_t)length <= arrived) {
        /* cap 0: a view; nothing is ever appended, as nothing is missing */
        rq->req.body = (ta_buf){.data = c->in.data + c->in.off + head, .len = (size_t)length};
        rq->req.body_eof = rq->body_read = true;
        ta_conn_consume_pinned(c, head + (size_t)length);
        return true;
    }
    ta_conn_consume_pinned(c, head);
    rq->req.body = rq->body_mem;
    ta_buf_init(&rq->body_mem);
    ta_buf_clear(&rq->req.body);
    rq->body_left = rq->head.chunked ? 0 : (uint64_t)length;
    if (rq->head.chunked)
        ta_h1_chunk_init(&rq->chunk, &h->server->limits);
    return h1_body_more(h);
}

int h1_body_drain(h1_conn *h)
{
    h1_req *rq = h->rq;
    ta_conn *c = &h->net;
    if (rq->sink) {
        rq->body_left = ta_conn_sink_left(c);
        rq->sink = false;
        ta_conn_set_sink(c, NULL, 0);
    }
    while (c->in.len) {
        size_t used = c->in.len;
        int rc = TA_AGAIN;
        if (rq->head.chunked) {
            ta_str run;
            rc = ta_h1_chunk_next(&rq->chunk, c->in.data + c->in.off, c->in.len, &used, &run);
        } else {
            if (used > rq->body_left)
                used = (size_t)rq->body_left;
            rq->body_left -= used;
            rc = rq->body_left ? TA_AGAIN : TA_OK;
        }
        ta_conn_consume(c, used);
        if (rc == TA_OK)
            return 1;
        h->drained += (uint32_t)used;
        if (rc != TA_AGAIN || h->drained > H1_DRAIN_MAX)
            return -1;
    }
    return !rq->head.chunked && !rq->body_left;
}
