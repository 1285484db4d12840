/* mux/resp.c -- responses of the test protocol, and the other downcalls of http.h. */
#include "base/mem.h"
#include "http/mux/mux_int.h"
#include "http/status.h"

/* -- heads ------------------------------------------------------------------------------------ */

static int add_field(ta_buf *head, ta_str name, ta_str value)
{
    char *out = ta_buf_reserve(head, name.len + value.len + 4);
    if (!out)
        return TA_ENOMEM;
    memcpy(out, name.ptr, name.len);
    memcpy(out + name.len, ": ", 2);
    if (value.len)
        memcpy(out + name.len + 2, value.ptr, value.len);
    memcpy(out + name.len + 2 + value.len, "\r\n", 2);
    ta_buf_commit(head, name.len + value.len + 4);
    return TA_OK;
}

/* Those of the connection are HTTP/1's: another protocol must not send them (RFC 9113 8.2.2). */
static int add_fields(ta_buf *out, const ta_response_head *head)
{
    int rc = TA_OK;
    for (uint32_t i = 0; i < head->nfields && rc == TA_OK; i++) {
        ta_str name = ta_field_name(head->text, &head->fields[i]);
        if (!ta_str_eq(name, TA_STR("connection")))
            rc = add_field(out, name, ta_field_value(head->text, &head->fields[i]));
    }
    return rc;
}

/* length: of the body, -1: unknown. */
static int add_own(ta_buf *out, const ta_resp_stamp *stamp, unsigned flags, int64_t length)
{
    int rc = TA_OK;
    if (!(flags & TA_RESP_HAS_DATE))
        rc = ta_buf_append(out, stamp->date, TA_RESP_DATE_LINE);
    if (rc == TA_OK && !(flags & TA_RESP_HAS_SERVER))
        rc = ta_buf_append(out, stamp->server, stamp->server_len);
    if (rc == TA_OK)
        rc = ta_buf_append_str(out, ta_buf_str(&stamp->more.text));
    if (rc == TA_OK && length >= 0) {
        char digits[20];
        char *end = ta_resp_put_uint(digits, (uint64_t)length);
        rc = add_field(out, TA_STR("content-length"), ta_str_of(digits, (size_t)(end - digits)));
    }
    return rc;
}

/* A HEAD frame; `length`: of the body, -1: unknown, or the head has it.  Results of a downcall. */
static int send_head(mux_req *rq, const ta_response_head *head, int64_t length, unsigned flags)
{
    mux_conn *m = rq->conn;
    ta_buf out = {0};
    char line[24];
    char *end = ta_resp_put_uint(line, (uint64_t)head->status);
    *end++ = '\n';
    int rc = ta_buf_append(&out, line, (size_t)(end - line));
    if (rc == TA_OK && head->status >= 200)
        rc = add_own(&out, ta_http_server_stamp(m->server), head->flags, length);
    if (rc == TA_OK)
        rc = add_fields(&out, head);
    if (rc == TA_OK)
        rc = mux_frame(m, TA_MUX_HEAD, flags, rq->id, ta_buf_str(&out));
    ta_buf_free(&out);
    return rc == TA_ENOMEM ? TA_ECLOSED : rc;
}

/* -- the queue -------------------------------------------------------------------------------- */

static mux_part *push_part(mux_req *rq)
{
    mux_part *part = ta_calloc(1, sizeof *part);
    if (!part)
        return NULL;
    part->fd = -1;
    ta_list_push_back(&rq->parts, &part->node);
    return part;
}

static void pop_part(mux_part *part)
{
    ta_list_remove(&part->node);
    ta_buf_free(&part->buf);
    ta_free(part);
}

void mux_drop_parts(mux_req *rq)
{
    while (!ta_list_empty(&rq->parts))
        pop_part(TA_CONTAINER_OF(rq->parts.next, mux_part, node));
    rq->queued = 0;
}

static void file_done(void *arg, int error)
{
    mux_req *rq = arg;
    TA_ASSERT(rq->files > 0);
    rq->files--;
    if (error != TA_OK)
        rq->req.gone = true;
    mux_poke(rq->conn);
}

/* One frame of the first part. */
static void send_some(mux_req *rq, mux_part *part)
{
    mux_conn *m = rq->conn;
    size_t n = (size_t)TA_MIN(TA_MIN(part->left, rq->window), (uint64_t)MUX_DATA_MAX);
    int rc = mux_frame_head(m, TA_MUX_DATA, 0, rq->id, n);
    if (part->fd >= 0) {
        rq->files++;
        rc = ta_conn_sendfile(&m->net, part->fd, part->at, n, file_done, rq);
        part->at += (int64_t)n;
    } else {
        rc = ta_conn_write(&m->net, part->buf.data + part->buf.off, n);
        ta_buf_consume(&part->buf, n);
    }
    if (rc == TA_AGAIN)
        m->full = true;
    rq->window -= n;
    rq->queued -= n;
    part->left -= n;
    if (!part->left)
        pop_part(part);
}

void mux_pump(mux_req *rq)
{
    while (!mux_gone(rq) && !rq->conn->full && rq->window && !ta_list_empty(&rq->parts))
        send_some(rq, TA_CONTAINER_OF(rq->parts.next, mux_part, node));
    if (rq->phase == MUX_ENDED && !rq->end_sent && !mux_gone(rq) && ta_list_empty(&rq->parts)) {
        rq->end_sent = true;
        (void)mux_frame(rq->conn, TA_MUX_DATA, TA_MUX_END, rq->id, TA_STR(""));
    }
}

/* What a downcall tells after something was queued. */
static int queued(mux_req *rq)
{
    mux_pump(rq);
    if (mux_gone(rq))
        return TA_ECLOSED;
    if (rq->queued < MUX_QUEUE_MAX && !rq->conn->full)
        return TA_OK;
    rq->want_drain = true;
    return TA_AGAIN;
}

static int send_bytes(mux_req *rq, ta_str data)
{
    mux_part *part = data.len ? push_part(rq) : NULL;
    if (data.len && (!part || ta_buf_append_str(&part->buf, data) != TA_OK)) {
        ta_conn_reset(&rq->conn->net);
        return TA_ECLOSED;
    }
    if (part) {
        part->left = data.len;
        rq->queued += data.len;
    }
    return queued(rq);
}

/* -- responses -------------------------------------------------------------------------------- */

static bool begun(const mux_req *rq)
{
    return rq->phase >= MUX_STARTED;
}

static void break_off(mux_req *rq)
{
    if (!mux_gone(rq) && !rq->end_sent)
        (void)mux_frame(rq->conn, TA_MUX_RESET, 0, rq->id, TA_STR(""));
    rq->phase = MUX_BROKEN;
    mux_drop_parts(rq);
    mux_poke(rq->conn);
}

static void complete(mux_req *rq)
{
    rq->phase = MUX_ENDED;
    mux_pump(rq);
    mux_poke(rq->conn);
}

/* What every response begins with.  `whole`: its body, or NULL. */
static int begin(mux_req *rq, const ta_response_head *head, const ta_str *whole)
{
    bool content = ta_status_has_content(head->status);
    int64_t length = -1;
    if (head->length < 0 && ta_status_adds_length(head->status) && (whole || !content))
        length = content ? (int64_t)whole->len : 0;
    rq->bodyless = rq->req.method_id == TA_METHOD_HEAD || !content;
    rq->left = rq->bodyless || head->length < 0 ? UINT64_MAX : (uint64_t)head->length;
    rq->phase = MUX_STARTED;
    return mux_gone(rq) ? TA_ECLOSED : send_head(rq, head, length, 0);
}

static bool may_begin(const mux_req *rq, const ta_response_head *head)
{
    return !begun(rq) && head->status >= 200 && head->status <= 999;
}

static int mux_start(ta_req *req, const ta_response_head *head)
{
    mux_req *rq = mux_req_of(req);
    return may_begin(rq, head) ? begin(rq, head, NULL) : TA_EINVAL;
}

/* How much of n bytes the content-length lets through. */
static size_t cut_to_length(mux_req *rq, size_t n)
{
    if (rq->left == UINT64_MAX)
        return n;
    n = (size_t)TA_MIN((uint64_t)n, rq->left);
    rq->left -= n;
    return n;
}

/* `from` would be asked to keep what waits; for a test a copy does. */
static int mux_data(ta_req *req, ta_str data, const ta_lender *from)
{
    mux_req *rq = mux_req_of(req);
    if (rq->phase != MUX_STARTED || rq->raw)
        return TA_EINVAL;
    if (mux_gone(rq))
        return TA_ECLOSED;
    data.len = cut_to_length(rq, data.len);
    return rq->bodyless ? TA_OK : send_bytes(rq, data);
}

static int mux_end(ta_req *req);

static int mux_send(ta_req *req, const ta_response_head *head, ta_str body, const ta_lender *from)
{
    mux_req *rq = mux_req_of(req);
    if (!may_begin(rq, head))
        return TA_EINVAL;
    int rc = begin(rq, head, &body);
    if (rc == TA_OK || rc == TA_AGAIN)
        rc = mux_data(req, body, from);
    int ended = mux_end(req);
    return rc == TA_OK && ended != TA_OK ? ended : rc;
}

static ta_response_head plain_text(int status)
{
    static const ta_field type = TA_FIELD_FIRST("content-type", "text/plain; charset=utf-8");
    return (ta_response_head){.status = status,
                              .fields = &type,
                              .nfields = 1,
                              .text = TA_STR("content-type: text/plain; charset=utf-8\r\n"),
                              .length = -1};
}

static int mux_end(ta_req *req)
{
    mux_req *rq = mux_req_of(req);
    if (rq->phase >= MUX_ENDED)
        return TA_OK;
    if (rq->phase < MUX_STARTED) {
        ta_response_head head = plain_text(500);
        return mux_send(req, &head, TA_STR("Internal Server Error"), NULL);
    }
    bool gone = mux_gone(rq);
    if (!gone && rq->left != UINT64_MAX && rq->left > 0) {
        break_off(rq);
        return TA_ECLOSED;
    }
    complete(rq);
    return gone ? TA_ECLOSED : TA_OK;
}

static int mux_file(ta_req *req, int fd, int64_t offset, int64_t len)
{
    mux_req *rq = mux_req_of(req);
    if (rq->phase != MUX_STARTED || rq->raw || len < 0 || offset < 0)
        return TA_EINVAL;
    if (mux_gone(rq))
        return TA_ECLOSED;
    len = (int64_t)cut_to_length(rq, (size_t)len);
    if (rq->bodyless || !len)
        return TA_OK;
    mux_part *part = push_part(rq);
    if (!part) {
        ta_conn_reset(&rq->conn->net);
        return TA_ECLOSED;
    }
    part->fd = fd;
    part->at = offset;
    part->left = (uint64_t)len;
    rq->queued += (uint64_t)len;
    return queued(rq);
}

static int mux_informational(ta_req *req, const ta_response_head *head)
{
    mux_req *rq = mux_req_of(req);
    if (begun(rq) || head->status < 100 || head->status > 199 || head->status == 101)
        return TA_EINVAL;
    return mux_gone(rq) ? TA_ECLOSED : send_head(rq, head, -1, TA_MUX_INTERIM);
}

static void mux_abort(ta_req *req)
{
    mux_req *rq = mux_req_of(req);
    if (rq->phase < MUX_ENDED)
        break_off(rq);
}

static void mux_flush(ta_req *req)
{
    mux_req *rq = mux_req_of(req);
    if (!rq->conn->gone)
        (void)ta_conn_flush(&rq->conn->net);
}

void mux_fail(mux_req *rq, int status, const char *reason)
{
    if (begun(rq)) {
        break_off(rq);
        return;
    }
    ta_response_head head = plain_text(status);
    (void)mux_send(&rq->req, &head, ta_str_of(reason, strlen(reason)), NULL);
}

/* -- request bodies --------------------------------------------------------------------------- */

void mux_grant(mux_req *rq)
{
    size_t have = rq->raw ? rq->input.len : rq->req.body.len;
    size_t room = rq->want > have ? TA_MIN(rq->want - have, (size_t)MUX_GRANT_MAX) : 0;
    bool over = rq->raw ? rq->raw_eof : rq->req.body_eof;
    if (over || mux_gone(rq) || room <= rq->credit)
        return;
    if (rq->credit && room - rq->credit < MUX_GRANT_MIN)
        return;
    uint32_t more = (uint32_t)(room - rq->credit);
    char bytes[4] = {(char)(more >> 24), (char)(more >> 16), (char)(more >> 8), (char)more};
    rq->credit = room;
    (void)mux_frame(rq->conn, TA_MUX_WINDOW, 0, rq->id, ta_str_of(bytes, 4));
}

static void mux_want_body(ta_req *req, size_t upto)
{
    mux_req *rq = mux_req_of(req);
    rq->want = upto;
    mux_grant(rq);
}

static void mux_consume(ta_req *req, size_t n)
{
    ta_buf_consume(&req->body, n);
    mux_grant(mux_req_of(req));
}

/* -- upgraded requests ------------------------------------------------------------------------ */

static int mux_upgrade(ta_req *req, const ta_response_head *given)
{
    mux_req *rq = mux_req_of(req);
    if (begun(rq) || !req->upgrade || !req->body_eof || !req->ops->on_raw)
        return TA_EINVAL;
    rq->phase = MUX_STARTED;
    rq->raw = true;
    rq->left = UINT64_MAX;
    if (mux_gone(rq))
        return TA_ECLOSED;
    ta_response_head head = *given;
    head.status = 101;
    int rc = send_head(rq, &head, -1, 0);
    mux_poke(rq->conn);
    return rc;
}

static int mux_raw_write(ta_req *req, ta_str data, const ta_lender *from)
{
    mux_req *rq = mux_req_of(req);
    if (!rq->raw || rq->phase != MUX_STARTED)
        return TA_EINVAL;
    return mux_gone(rq) ? TA_ECLOSED : send_bytes(rq, data);
}

static void mux_raw_read(ta_req *req, bool on)
{
    mux_req *rq = mux_req_of(req);
    if (!rq->raw || rq->raw_paused == !on)
        return;
    rq->raw_paused = !on;
    mux_poke(rq->conn);
}

static void mux_raw_close(ta_req *req)
{
    mux_req *rq = mux_req_of(req);
    if (rq->raw && rq->phase == MUX_STARTED)
        complete(rq);
}

/* -- addresses -------------------------------------------------------------------------------- */

static void mux_peer(const ta_req *req, ta_str *host, uint16_t *port)
{
    ta_conn_peer(&mux_req_of(req)->conn->net, host, port);
}

static void mux_local(const ta_req *req, ta_str *host, uint16_t *port)
{
    ta_conn_local(&mux_req_of(req)->conn->net, host, port);
}

static const ta_transport *mux_transport(const ta_req *req)
{
    return mux_req_of(req)->conn->net.transport;
}

const ta_http_proto mux_proto = {
    .want_body = mux_want_body,
    .consume = mux_consume,
    .send = mux_send,
    .start = mux_start,
    .data = mux_data,
    .end = mux_end,
    .file = mux_file,
    .informational = mux_informational,
    .abort = mux_abort,
    .flush = mux_flush,
    .upgrade = mux_upgrade,
    .raw_write = mux_raw_write,
    .raw_read = mux_raw_read,
    .raw_close = mux_raw_close,
    .peer = mux_peer,
    .local = mux_local,
    .transport = mux_transport,
};
