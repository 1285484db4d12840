/* h1/resp.c -- responses of an HTTP/1.x connection, and the other downcalls of http.h. */
#include "http/h1/h1_int.h"

#include "http/headers.h"
#include "http/status.h"

/* The result of a write for the caller; remembers that on_drain is to come. */
static int written(h1_req *rq, int rc)
{
    h1_conn *h = rq->conn;
    if (rc == TA_AGAIN) {
        h->out_full = true;
        h->out_drained = false;
        rq->want_drain = true;
    } else if (rc == TA_ENOMEM) {
        rc = TA_ECLOSED;
    }
    return rc;
}

/* -- heads ------------------------------------------------------------------------------------ */

/* Whether another request may follow this response. */
static bool may_keep(const h1_req *rq, unsigned flags)
{
    const h1_conn *h = rq->conn;
    const ta_http_limits *limits = &h->server->limits;
    if (!rq->head.keep_alive || (flags & TA_RESP_CLOSE) || h->server->stopping)
        return false;
    if (limits->requests_per_conn && h->served >= limits->requests_per_conn)
        return false;
    return h1_body_can_drain(rq);
}

static ta_resp_connection connection_field(const h1_req *rq, unsigned flags)
{
    if (!rq->conn->keep)
        return flags & TA_RESP_CLOSE ? TA_CONN_DEFAULT : TA_CONN_CLOSE;
    if (rq->req.version != TA_HTTP_1_0 || flags & TA_RESP_KEEP)
        return TA_CONN_DEFAULT;
    return TA_CONN_KEEP_ALIVE;
}

/* Head and body in one piece of the output. */
static int write_copied(h1_req *rq, const ta_resp_wire *wire, ta_str body)
{
    ta_conn *c = &rq->conn->net;
    char *out = ta_conn_reserve(c, ta_resp_wire_bound(wire) + body.len);
    if (!out)
        return TA_ECLOSED;
    char *end = ta_resp_wire_write(out, wire);
    if (body.len) {
        memcpy(end, body.ptr, body.len);
        end += body.len;
    }
    return ta_conn_commit(c, (size_t)(end - out));
}

/* One chunk, framed; nothing for empty data, which would end the body. */
static int write_chunk(h1_req *rq, ta_str data, const ta_lender *from)
{
    ta_conn *c = &rq->conn->net;
    if (!data.len)
        return TA_OK;
    if (data.len > H1_COPY_MAX) {
        char *line = ta_conn_reserve(c, 20);
        if (!line)
            return TA_ECLOSED;
        char *end = ta_resp_put_hex(line, data.len);
        memcpy(end, "\r\n", 2);
        (void)ta_conn_commit(c, (size_t)(end + 2 - line));
        return ta_conn_write_lent(c, data, TA_STR("\r\n"), from);
    }
    char *out = ta_conn_reserve(c, data.len + 20);
    if (!out)
        return TA_ECLOSED;
    char *end = ta_resp_put_hex(out, data.len);
    memcpy(end, "\r\n", 2);
    memcpy(end + 2, data.ptr, data.len);
    end += 2 + data.len;
    memcpy(end, "\r\n", 2);
    return ta_conn_commit(c, (size_t)(end + 2 - out));
}

/* Unframed bytes. */
static int write_some(h1_req *rq, ta_str data, const ta_lender *from)
{
    if (from && data.len > H1_COPY_MAX)
        return ta_conn_write_lent(&rq->conn->net, data, TA_STR(""), from);
    return ta_conn_write(&rq->conn->net, data.ptr, data.len);
}

/* -- ends ------------------------------------------------------------------------------------- */

static void complete(h1_req *rq)
{
    TA_ASSERT(rq->open && !rq->resp_done);
    rq->resp_done = true;
    h1_poke(rq->conn);
}

/* Breaks off a response that can't be completed, so that the client sees that it is incomplete. */
static void break_off(h1_req *rq)
{
    h1_conn *h = rq->conn;
    h->keep = false;
    rq->resp_broken = true;
    if (h->state != H1_GONE && !h->net.closed) {
        if (rq->resp_started && !rq->resp_chunked && !rq->resp_length && !rq->resp_bodyless) {
            /* the end of the connection would be the end of the body */
            ta_conn_flush(&h->net);
            ta_conn_reset(&h->net);
        } else {
            h1_part(h, true);
        }
    }
    complete(rq);
}

static void log_length(const h1_req *rq, const char *what)
{
    h1_log(rq->conn, TA_LOG_ERROR, "response body %s than its content-length: %.*s", what,
           (int)TA_MIN(rq->req.raw_path.len, (size_t)200), rq->req.raw_path.ptr);
}

/* How much of n bytes may still be sent. */
static size_t cut_to_length(h1_req *rq, size_t n)
{
    if (!rq->resp_length)
        return n;
    if (n > rq->resp_left) {
        if (!rq->resp_cut_logged)
            log_length(rq, "longer");
        rq->resp_cut_logged = true;
        n = (size_t)rq->resp_left;
    }
    rq->resp_left -= n;
    return n;
}

/* -- whole responses -------------------------------------------------------------------------- */

/* How much of a whole body the head's content-length lets through; *shorter: it promises more. */
static size_t hold_to_length(h1_req *rq, const ta_response_head *head, size_t n, bool *shorter)
{
    rq->resp_length = true;
    rq->resp_left = (uint64_t)head->length;
    n = cut_to_length(rq, n);
    *shorter = rq->resp_left > 0;
    if (*shorter)
        log_length(rq, "shorter");
    return n;
}

static int h1_send(ta_req *req, const ta_response_head *head, ta_str body, const ta_lender *from)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    if (rq->resp_started || rq->resp_done || head->status < 200 || head->status > 999)
        return TA_EINVAL;
    if (h->state == H1_GONE || h->net.closed) {
        complete(rq);
        return TA_ECLOSED;
    }
    bool content = ta_status_has_content(head->status), shorter = false;
    ta_resp_wire wire = {
        .head = head,
        .length = content ? body.len : 0,
        .stamp = ta_http_server_stamp(h->server),
    };
    if (head->length < 0 && ta_status_adds_length(head->status))
        wire.framing = TA_FRAME_LENGTH;
    if (req->method_id == TA_METHOD_HEAD || !content)
        body.len = 0;
    else if (head->length >= 0)
        body.len = hold_to_length(rq, head, body.len, &shorter);
    rq->resp_started = true;
    h->keep = !shorter && may_keep(rq, head->flags);
    wire.connection = connection_field(rq, head->flags);

    int rc;
    if (TA_LIKELY(body.len <= H1_COPY_MAX)) {
        rc = write_copied(rq, &wire, body);
    } else {
        (void)write_copied(rq, &wire, TA_STR(""));
        rc = write_some(rq, body, from);
    }
    rc = written(rq, rc);
    if (shorter)
        break_off(rq);
    else
        complete(rq);
    return rc;
}

void h1_resp_error(h1_conn *h, const ta_response_head *head, ta_str body, bool head_only)
{
    ta_resp_wire wire = {
        .head = head,
        .framing = TA_FRAME_LENGTH,
        .connection = TA_CONN_CLOSE,
        .length = body.len,
        .stamp = ta_http_server_stamp(h->server),
    };
    char *out = ta_conn_reserve(&h->net, ta_resp_wire_bound(&wire) + body.len);
    if (!out)
        return;
    char *end = ta_resp_wire_write(out, &wire);
    if (!head_only) {
        memcpy(end, body.ptr, body.len);
        end += body.len;
    }
    ta_conn_commit(&h->net, (size_t)(end - out));
}

/* -- streamed responses ----------------------------------------------------------------------- */

static int h1_start(ta_req *req, const ta_response_head *head)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    if (rq->resp_started || rq->resp_done || head->status < 200 || head->status > 999)
        return TA_EINVAL;
    bool until_close = false, content = ta_status_has_content(head->status);
    ta_resp_wire wire = {.head = head};
    rq->resp_bodyless = req->method_id == TA_METHOD_HEAD || !content;
    if (rq->resp_bodyless) {
        /* nothing to frame, but that a 205 says so */
        if (!content && head->length < 0 && ta_status_adds_length(head->status))
            wire.framing = TA_FRAME_LENGTH;
    } else if (head->length >= 0) {
        rq->resp_length = true;
        rq->resp_left = (uint64_t)head->length;
    } else if (req->version >= TA_HTTP_1_1) {
        rq->resp_chunked = true;
        wire.framing = TA_FRAME_CHUNKED;
    } else {
        until_close = true;
    }
    rq->resp_started = true;
    if (h->state == H1_GONE || h->net.closed)
        return TA_ECLOSED;
    h->keep = !until_close && may_keep(rq, head->flags);
    wire.connection = connection_field(rq, head->flags);
    wire.stamp = ta_http_server_stamp(h->server);
    h1_peer_answered(rq);
    return written(rq, write_copied(rq, &wire, TA_STR("")));
}

static int h1_data(ta_req *req, ta_str data, const ta_lender *from)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    if (!rq->resp_started || rq->resp_done || rq->raw)
        return TA_EINVAL;
    if (h->state == H1_GONE || h->net.closed)
        return TA_ECLOSED;
    if (rq->resp_bodyless)
        return TA_OK;
    if (rq->resp_chunked)
        return written(rq, write_chunk(rq, data, from));
    data.len = cut_to_length(rq, data.len);
    return data.len ? written(rq, write_some(rq, data, from)) : TA_OK;
}

/* The last chunk, and the trailer section. */
static int write_last_chunk(h1_req *rq, const ta_response_head *trailers)
{
    ta_conn *c = &rq->conn->net;
    if (TA_LIKELY(!trailers || !trailers->nfields))
        return ta_conn_write(c, "0\r\n\r\n", 5);
    (void)ta_conn_write(c, "0\r\n", 3);
    (void)ta_conn_write(c, trailers->text.ptr, trailers->text.len);
    return ta_conn_write(c, "\r\n", 2);
}

static int h1_end(ta_req *req, const ta_response_head *trailers)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    if (rq->resp_done)
        return TA_OK;
    if (!rq->resp_started) {
        ta_response_head head = ta_head_text(500);
        return h1_send(req, &head, TA_STR("Internal Server Error"), NULL);
    }
    if (rq->resp_length && rq->resp_left) {
        if (h->state != H1_GONE && !h->net.closed)
            log_length(rq, "shorter");
        break_off(rq);
        return TA_ECLOSED;
    }
    int rc = TA_OK;
    if (h->state == H1_GONE || h->net.closed)
        rc = TA_ECLOSED;
    else if (rq->resp_chunked)
        rc = written(rq, write_last_chunk(rq, trailers));
    complete(rq);
    return rc;
}

static void file_done(void *arg, int error)
{
    h1_req *rq = arg;
    TA_ASSERT(rq->open && rq->files > 0);
    rq->files--;
    if (error != TA_OK) {
        rq->resp_broken = true;
        rq->conn->keep = false;
    }
    if (error == TA_ESYS)
        h1_log(rq->conn, TA_LOG_ERROR, "a file became shorter while it was sent: %.*s",
               (int)TA_MIN(rq->req.raw_path.len, (size_t)200), rq->req.raw_path.ptr);
    h1_poke(rq->conn);
}

static int h1_file(ta_req *req, int fd, int64_t offset, int64_t len)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    if (!rq->resp_started || rq->resp_done || rq->raw || len < 0 || offset < 0)
        return TA_EINVAL;
    if (h->state == H1_GONE || h->net.closed)
        return TA_ECLOSED;
    size_t n = rq->resp_bodyless ? 0 : cut_to_length(rq, (size_t)len);
    if (!n)
        return TA_OK;
    if (rq->resp_chunked) {
        char line[20];
        char *end = ta_resp_put_hex(line, n);
        memcpy(end, "\r\n", 2);
        ta_conn_write(&h->net, line, (size_t)(end + 2 - line));
    }
    rq->files++;
    int rc = ta_conn_sendfile(&h->net, fd, offset, n, file_done, rq);
    if (rq->resp_chunked && (rc == TA_OK || rc == TA_AGAIN))
        rc = ta_conn_write(&h->net, "\r\n", 2);
    return written(rq, rc);
}

static int h1_informational(ta_req *req, const ta_response_head *head)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    int status = head->status;
    if (rq->resp_started || rq->resp_done || status < 100 || status > 199 || status == 101)
        return TA_EINVAL;
    if (h->state == H1_GONE || h->net.closed)
        return TA_ECLOSED;
    if (req->version == TA_HTTP_1_0)
        return TA_OK;
    if (status == 100)
        rq->continue_sent = true;
    ta_resp_wire wire = {.head = head};
    return written(rq, write_copied(rq, &wire, TA_STR("")));
}

void h1_abort(ta_req *req)
{
    h1_req *rq = h1_req_of(req);
    if (!rq->resp_done)
        break_off(rq);
}

static void h1_flush(ta_req *req)
{
    h1_req *rq = h1_req_of(req);
    if (rq->conn->state != H1_GONE)
        ta_conn_flush(&rq->conn->net);
}

/* -- request bodies --------------------------------------------------------------------------- */

static void send_continue(ta_req *req)
{
    ta_response_head head = ta_head_bare(100);
    (void)h1_informational(req, &head);
}

static void h1_want_body(ta_req *req, size_t upto)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    rq->want = upto;
    if (req->body_eof || h->state == H1_GONE || h->net.closed)
        return;
    if (upto && rq->head.expect_continue && !rq->continue_sent && !rq->body_read &&
        !rq->resp_started)
        send_continue(req);
    h1_poke(h);
}

static void h1_consume(ta_req *req, size_t n)
{
    h1_req *rq = h1_req_of(req);
    TA_ASSERT(rq->open);
    ta_buf_consume(&req->body, n);
    /* A handler that has the body does not need it a second time. */
    if (req->body_eof && !req->body.len && req->body.cap > H1_KEEP_BODY)
        ta_buf_free(&req->body);
    if (!req->body_eof && rq->body_paused)
        h1_poke(rq->conn);
}

/* -- upgraded connections --------------------------------------------------------------------- */

static int h1_upgrade(ta_req *req, const ta_response_head *given)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    if (rq->resp_started || rq->resp_done || !req->upgrade || !req->body_eof || !req->ops->on_raw)
        return TA_EINVAL;
    rq->resp_started = rq->raw = true;
    h->keep = false;
    if (h->state == H1_GONE || h->net.closed)
        return TA_ECLOSED;
    ta_response_head head = *given;
    head.status = 101;
    ta_resp_wire wire = {.head = &head, .stamp = ta_http_server_stamp(h->server)};
    int rc = written(rq, write_copied(rq, &wire, TA_STR("")));
    h1_poke(h);
    return rc;
}

static int h1_raw_write(ta_req *req, ta_str data, const ta_lender *from)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    if (!rq->raw || rq->resp_done)
        return TA_EINVAL;
    if (h->state == H1_GONE || h->net.closed)
        return TA_ECLOSED;
    return data.len ? written(rq, write_some(rq, data, from)) : TA_OK;
}

static void h1_raw_read(ta_req *req, bool on)
{
    h1_req *rq = h1_req_of(req);
    h1_conn *h = rq->conn;
    if (!rq->raw || rq->raw_paused == !on)
        return;
    rq->raw_paused = !on;
    if (h->state == H1_GONE || h->net.closed)
        return;
    if (on) {
        ta_conn_resume(&h->net);
        h1_poke(h);
    } else {
        ta_conn_pause(&h->net);
    }
}

static void h1_raw_close(ta_req *req)
{
    h1_req *rq = h1_req_of(req);
    if (rq->raw && !rq->resp_done)
        complete(rq);
}

/* -- addresses -------------------------------------------------------------------------------- */

static void h1_peer(const ta_req *req, ta_str *host, uint16_t *port)
{
    ta_conn_peer(&TA_CONTAINER_OF(req, h1_req, req)->conn->net, host, port);
}

static void h1_local(const ta_req *req, ta_str *host, uint16_t *port)
{
    ta_conn_local(&TA_CONTAINER_OF(req, h1_req, req)->conn->net, host, port);
}

static const ta_transport *h1_transport(const ta_req *req)
{
    return TA_CONTAINER_OF(req, h1_req, req)->conn->net.transport;
}

const ta_http_proto h1_proto = {
    .want_body = h1_want_body,
    .consume = h1_consume,
    .send = h1_send,
    .start = h1_start,
    .data = h1_data,
    .end = h1_end,
    .file = h1_file,
    .informational = h1_informational,
    .abort = h1_abort,
    .flush = h1_flush,
    .upgrade = h1_upgrade,
    .raw_write = h1_raw_write,
    .raw_read = h1_raw_read,
    .raw_close = h1_raw_close,
    .peer = h1_peer,
    .local = h1_local,
    .transport = h1_transport,
};
