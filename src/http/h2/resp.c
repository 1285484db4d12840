/* h2/resp.c -- responses, and the other downcalls of http.h.  See h2/h2_int.h. */
#include "http/resp.h"
#include "base/mem.h"
#include "http/h2/h2_int.h"
#include "http/headers.h"
#include "http/status.h"

/* -- heads ------------------------------------------------------------------------------------ */

enum { FIELDS = 48 /* on the stack */ };

/* The fields of a head as nghttp2 has them. */
typedef struct h2_nva {
    nghttp2_nv few[FIELDS], *all; /* all: few, or owned */
    size_t n;
} h2_nva;

/* nghttp2 copies what is not said to stay, byte by byte: a frame may wait longer than its request
 * lives. */
enum {
    COPY = NGHTTP2_NV_FLAG_NONE,
    NAME_STAYS = NGHTTP2_NV_FLAG_NO_COPY_NAME,
    BOTH_STAY = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE
};

static void put(h2_nva *nva, ta_str name, ta_str value, uint8_t flags)
{
    nva->all[nva->n++] =
        (nghttp2_nv){(uint8_t *)name.ptr, (uint8_t *)value.ptr, name.len, value.len, flags};
}

/* `room` is for as many digits as there may be, during the submission. */
static void put_number(h2_nva *nva, ta_str name, uint64_t number, char room[20])
{
    put(nva, name, ta_str_of(room, (size_t)(ta_resp_put_uint(room, number) - room)), NAME_STAYS);
}

static void put_status(h2_nva *nva, int status, char room[20])
{
    if (TA_LIKELY(status == 200))
        put(nva, TA_STR(":status"), TA_STR("200"), BOTH_STAY);
    else
        put_number(nva, TA_STR(":status"), (uint64_t)status, room);
}

/* Those that are HTTP/1's: another version must not send them (RFC 9113 8.2.2). */
static bool is_of_connection(ta_str name)
{
    switch (name.len) {
    case 7:
        return ta_str_eq(name, TA_STR("upgrade"));
    case 10:
        return ta_str_eq(name, TA_STR("connection")) || ta_str_eq(name, TA_STR("keep-alive"));
    case 16:
        return ta_str_eq(name, TA_STR("proxy-connection"));
    case 17:
        return ta_str_eq(name, TA_STR("transfer-encoding"));
    default:
        return false;
    }
}

/* Room for the fields of the head, `more` of the settings, and ours. */
static bool begin_fields(h2_nva *nva, const ta_response_head *head, uint32_t more)
{
    nva->n = 0;
    nva->all = nva->few;
    size_t most = (size_t)head->nfields + more + 4;
    return TA_LIKELY(most <= FIELDS) || (nva->all = ta_malloc(most * sizeof *nva->all)) != NULL;
}

static void put_application(h2_nva *nva, const ta_response_head *head)
{
    for (uint32_t i = 0; i < head->nfields; i++) {
        ta_str name = ta_field_name(head->text, &head->fields[i]);
        ta_str value = ta_field_value(head->text, &head->fields[i]);
        if (ta_str_eq(name, TA_STR("content-type"))) {
            bool json = ta_str_eq(value, TA_STR("application/json"));
            put(nva, TA_STR("content-type"), json ? TA_STR("application/json") : value,
                json ? BOTH_STAY : NAME_STAYS);
        } else if (!is_of_connection(name)) {
            put(nva, name, value, COPY);
        }
    }
}

static void free_fields(h2_nva *nva)
{
    if (nva->all != nva->few)
        ta_free(nva->all);
}

/* A line of the stamp without its name. */
static ta_str value_of(const char *line, size_t len, size_t name)
{
    return ta_str_of(line + name + 2, len - name - 4);
}

/* The stamp outlives the connections; a head that waits gets the date at which it is sent. */
static void put_own(h2_nva *nva, const ta_resp_stamp *stamp, unsigned flags)
{
    if (!(flags & TA_RESP_HAS_DATE))
        put(nva, TA_STR("date"), value_of(stamp->date, TA_RESP_DATE_LINE, 4), BOTH_STAY);
    if (!(flags & TA_RESP_HAS_SERVER) && stamp->server_len)
        put(nva, TA_STR("server"), value_of(stamp->server, stamp->server_len, 6), BOTH_STAY);
    ta_str text = ta_buf_str(&stamp->more.text);
    for (uint32_t i = 0; i < stamp->more.count; i++)
        put(nva, ta_field_name(text, &stamp->more.places[i]),
            ta_field_value(text, &stamp->more.places[i]), BOTH_STAY);
}

/* A final head; `length`: of the body, -1: unknown, or the head has it.  `end`: nothing follows. */
static int send_head(h2_req *rq, const ta_response_head *head, int64_t length, bool end)
{
    h2_conn *m = rq->conn;
    char status[20], digits[20];
    h2_nva nva;
    nghttp2_data_provider body = {.read_callback = h2_queue_read};
    const ta_resp_stamp *stamp = ta_http_server_stamp(m->server);
    if (!begin_fields(&nva, head, stamp->more.count)) {
        h2_panic(m);
        return TA_ECLOSED;
    }
    put_status(&nva, head->status, status);
    put_own(&nva, stamp, head->flags);
    if (length >= 0)
        put_number(&nva, TA_STR("content-length"), (uint64_t)length, digits);
    put_application(&nva, head);
    int rc = nghttp2_submit_response(m->session, rq->id, nva.all, nva.n, end ? NULL : &body);
    free_fields(&nva);
    if (rc != 0) {
        h2_log(m, TA_LOG_ERROR, "a response could not be sent: %s", nghttp2_strerror(rc));
        h2_panic(m);
        return TA_ECLOSED;
    }
    h2_due(rq);
    return TA_OK;
}

bool h2_send_trailers(h2_req *rq)
{
    h2_nva nva;
    ta_response_head trailers = ta_fields_head(&rq->trailers);
    if (!begin_fields(&nva, &trailers, 0))
        return false;
    put_application(&nva, &trailers);
    int rc = nghttp2_submit_trailer(rq->conn->session, rq->id, nva.all, nva.n);
    free_fields(&nva);
    return rc == 0;
}

/* An interim head. */
static int send_interim(h2_req *rq, const ta_response_head *head)
{
    h2_conn *m = rq->conn;
    char status[20];
    h2_nva nva;
    if (!begin_fields(&nva, head, 0)) {
        h2_panic(m);
        return TA_ECLOSED;
    }
    put_status(&nva, head->status, status);
    put_application(&nva, head);
    int rc =
        nghttp2_submit_headers(m->session, NGHTTP2_FLAG_NONE, rq->id, NULL, nva.all, nva.n, NULL);
    free_fields(&nva);
    if (rc != 0)
        return TA_ECLOSED;
    h2_poke(m);
    return TA_OK;
}

/* -- ends ------------------------------------------------------------------------------------- */

static bool begun(const h2_req *rq)
{
    return rq->phase >= H2_STARTED;
}

void h2_break_off(h2_req *rq, uint32_t error)
{
    h2_conn *m = rq->conn;
    if (!m->gone && !rq->stream_closed && !rq->end_sent)
        (void)nghttp2_submit_rst_stream(m->session, NGHTTP2_FLAG_NONE, rq->id, error);
    rq->phase = H2_BROKEN;
    h2_queue_drop(rq);
    h2_due(rq);
}

/* The same from a downcall: the client shall see the beginning. */
static void give_up(h2_req *rq)
{
    if (rq->phase == H2_STARTED)
        h2_pump(rq->conn);
    h2_break_off(rq, NGHTTP2_INTERNAL_ERROR);
}

/* All of the response is known. */
static void complete(h2_req *rq)
{
    rq->phase = H2_ENDED;
    if (rq->deferred && !h2_gone(rq)) {
        rq->deferred = false;
        (void)nghttp2_session_resume_data(rq->conn->session, rq->id);
    }
    h2_due(rq);
}

static void log_length(h2_req *rq, const char *what)
{
    h2_log(rq->conn, TA_LOG_ERROR, "response body %s than its content-length: %.*s", what,
           (int)TA_MIN(rq->req.raw_path.len, (size_t)200), rq->req.raw_path.ptr);
}

/* How much of n bytes the content-length lets through. */
static size_t cut_to_length(h2_req *rq, size_t n)
{
    if (rq->left == UINT64_MAX)
        return n;
    if (n > rq->left) {
        if (!rq->cut_logged)
            log_length(rq, "longer");
        rq->cut_logged = true;
        n = (size_t)rq->left;
    }
    rq->left -= n;
    return n;
}

/* What a downcall tells after something was queued. */
static int queued(h2_req *rq, bool stored)
{
    if (!stored) {
        h2_panic(rq->conn);
        return TA_ECLOSED;
    }
    if (rq->queued < H2_QUEUE_MAX && !rq->conn->full)
        return TA_OK;
    rq->want_drain = true;
    return TA_AGAIN;
}

/* -- whole responses -------------------------------------------------------------------------- */

static bool may_begin(const h2_req *rq, const ta_response_head *head)
{
    return !begun(rq) && head->status >= 200 && head->status <= 999;
}

/* What every response begins with. */
static void begin(h2_req *rq, const ta_response_head *head)
{
    rq->bodyless = rq->req.method_id == TA_METHOD_HEAD || !ta_status_has_content(head->status);
    rq->left = rq->bodyless || head->length < 0 ? UINT64_MAX : (uint64_t)head->length;
    rq->phase = H2_STARTED;
}

static int h2_send(ta_req *req, const ta_response_head *head, ta_str body, const ta_lender *from)
{
    h2_req *rq = h2_req_of(req);
    if (!may_begin(rq, head))
        return TA_EINVAL;
    begin(rq, head);
    if (h2_gone(rq)) {
        complete(rq);
        return TA_ECLOSED;
    }
    int64_t length = -1;
    if (head->length < 0 && ta_status_adds_length(head->status))
        length = ta_status_has_content(head->status) ? (int64_t)body.len : 0;
    body.len = rq->bodyless ? 0 : cut_to_length(rq, body.len);
    bool shorter = rq->left != UINT64_MAX && rq->left > 0;
    int rc = send_head(rq, head, length, !body.len && !shorter);
    if (rc == TA_OK && body.len)
        rc = queued(rq, h2_queue_bytes(rq, body, from));
    if (shorter) {
        log_length(rq, "shorter");
        give_up(rq);
    } else {
        rq->want_drain = false;
        complete(rq);
    }
    return rc;
}

void h2_fail(h2_req *rq, int status, const char *reason)
{
    h2_log(rq->conn, TA_LOG_INFO, "refused a request: %d %s", status, reason);
    if (begun(rq)) {
        if (rq->phase < H2_ENDED)
            h2_break_off(rq, NGHTTP2_CANCEL);
        return;
    }
    rq->refused = status;
    rq->why = reason;
    rq->phase = H2_REFUSED;
    h2_due(rq);
}

void h2_refuse(h2_req *rq)
{
    const ta_http_ops *ops = rq->req.ops;
    ta_response_head head = ta_head_text(rq->refused);
    ta_str body = {rq->why, strlen(rq->why)};
    ta_fields room;
    ta_fields_init(&room);
    if (ops->on_refused) {
        rq->begun = true;
        ops->on_refused(rq->conn->server->ctx, &rq->req, &head, body, &room);
    }
    rq->phase = H2_OPEN;
    (void)h2_send(&rq->req, &head, body, NULL);
    ta_fields_free(&room);
}

/* -- streamed responses ----------------------------------------------------------------------- */

static int h2_start(ta_req *req, const ta_response_head *head)
{
    h2_req *rq = h2_req_of(req);
    if (!may_begin(rq, head))
        return TA_EINVAL;
    begin(rq, head);
    if (h2_gone(rq))
        return TA_ECLOSED;
    bool content = ta_status_has_content(head->status);
    int64_t length = !content && head->length < 0 && ta_status_adds_length(head->status) ? 0 : -1;
    return send_head(rq, head, length, false);
}

static int h2_data(ta_req *req, ta_str data, const ta_lender *from)
{
    h2_req *rq = h2_req_of(req);
    if (rq->phase != H2_STARTED || rq->raw)
        return TA_EINVAL;
    if (h2_gone(rq))
        return TA_ECLOSED;
    if (rq->bodyless)
        return TA_OK;
    data.len = cut_to_length(rq, data.len);
    return queued(rq, h2_queue_bytes(rq, data, from));
}

static int h2_end(ta_req *req, const ta_response_head *trailers)
{
    h2_req *rq = h2_req_of(req);
    if (rq->phase >= H2_ENDED)
        return TA_OK;
    if (rq->phase < H2_STARTED) {
        ta_response_head head = ta_head_text(500);
        return h2_send(req, &head, TA_STR("Internal Server Error"), NULL);
    }
    bool gone = h2_gone(rq);
    if (!gone && rq->left != UINT64_MAX && rq->left > 0) {
        log_length(rq, "shorter");
        give_up(rq);
        return TA_ECLOSED;
    }
    if (trailers && trailers->nfields && !rq->bodyless && !gone) {
        if (ta_fields_copy(&rq->trailers, trailers) != TA_OK) {
            h2_panic(rq->conn);
            return TA_ECLOSED;
        }
        rq->has_trailers = true;
    }
    rq->want_drain = false;
    complete(rq);
    return gone ? TA_ECLOSED : TA_OK;
}

static int h2_file(ta_req *req, int fd, int64_t offset, int64_t len)
{
    h2_req *rq = h2_req_of(req);
    if (rq->phase != H2_STARTED || rq->raw || len < 0 || offset < 0)
        return TA_EINVAL;
    if (h2_gone(rq))
        return TA_ECLOSED;
    size_t n = rq->bodyless ? 0 : cut_to_length(rq, (size_t)len);
    return n ? queued(rq, h2_queue_file(rq, fd, offset, n)) : TA_OK;
}

static int h2_informational(ta_req *req, const ta_response_head *head)
{
    h2_req *rq = h2_req_of(req);
    if (begun(rq) || head->status < 100 || head->status > 199 || head->status == 101)
        return TA_EINVAL;
    if (h2_gone(rq))
        return TA_ECLOSED;
    if (head->status == 100)
        rq->continue_sent = true;
    return send_interim(rq, head);
}

static void h2_abort(ta_req *req)
{
    h2_req *rq = h2_req_of(req);
    if (rq->phase < H2_ENDED)
        give_up(rq);
}

static void h2_flush(ta_req *req)
{
    h2_conn *m = h2_req_of(req)->conn;
    if (m->gone)
        return;
    h2_pump(m);
    (void)ta_conn_flush(m->net);
}

/* -- request bodies --------------------------------------------------------------------------- */

static void h2_want_body(ta_req *req, size_t upto)
{
    h2_req *rq = h2_req_of(req);
    rq->want = upto;
    if (req->body_eof || h2_gone(rq))
        return;
    if (upto && rq->expect && !rq->continue_sent && !rq->received && !begun(rq)) {
        ta_response_head head = ta_head_bare(100);
        (void)h2_informational(req, &head);
    }
    h2_body_grant(rq);
    h2_due(rq);
}

static void h2_consume(ta_req *req, size_t n)
{
    h2_req *rq = h2_req_of(req);
    ta_buf_consume(&req->body, n);
    /* A handler that has the body does not need it a second time. */
    if (req->body_eof && !req->body.len && req->body.cap > H2_KEEP_BODY)
        ta_buf_free(&req->body);
    h2_body_grant(rq);
    if (!req->body_eof)
        h2_due(rq);
}

/* -- upgraded requests (RFC 8441) ------------------------------------------------------------- */

static int h2_upgrade(ta_req *req, const ta_response_head *given)
{
    h2_req *rq = h2_req_of(req);
    if (begun(rq) || !req->upgrade || !req->ops->on_raw)
        return TA_EINVAL;
    rq->phase = H2_STARTED;
    rq->raw = true;
    rq->left = UINT64_MAX;
    if (h2_gone(rq))
        return TA_ECLOSED;
    ta_response_head head = *given;
    head.status = 200;
    return send_head(rq, &head, -1, false);
}

static int h2_raw_write(ta_req *req, ta_str data, const ta_lender *from)
{
    h2_req *rq = h2_req_of(req);
    if (!rq->raw || rq->phase != H2_STARTED)
        return TA_EINVAL;
    return h2_gone(rq) ? TA_ECLOSED : queued(rq, h2_queue_bytes(rq, data, from));
}

static void h2_raw_read(ta_req *req, bool on)
{
    h2_req *rq = h2_req_of(req);
    if (!rq->raw || rq->raw_paused == !on)
        return;
    rq->raw_paused = !on;
    h2_due(rq);
}

static void h2_raw_close(ta_req *req)
{
    h2_req *rq = h2_req_of(req);
    if (rq->raw && rq->phase == H2_STARTED)
        complete(rq);
}

/* -- addresses -------------------------------------------------------------------------------- */

static void h2_peer(const ta_req *req, ta_str *host, uint16_t *port)
{
    ta_conn_peer(h2_req_of(req)->conn->net, host, port);
}

static void h2_local(const ta_req *req, ta_str *host, uint16_t *port)
{
    ta_conn_local(h2_req_of(req)->conn->net, host, port);
}

static const ta_transport *h2_transport(const ta_req *req)
{
    return h2_req_of(req)->conn->net->transport;
}

const ta_http_proto h2_proto = {
    .want_body = h2_want_body,
    .consume = h2_consume,
    .send = h2_send,
    .start = h2_start,
    .data = h2_data,
    .end = h2_end,
    .file = h2_file,
    .informational = h2_informational,
    .abort = h2_abort,
    .flush = h2_flush,
    .upgrade = h2_upgrade,
    .raw_write = h2_raw_write,
    .raw_read = h2_raw_read,
    .raw_close = h2_raw_close,
    .peer = h2_peer,
    .local = h2_local,
    .transport = h2_transport,
};
