/*
 * response.c -- a response on its way to the protocol: whole, or a head and chunks.
 *
 * Layer: py (L4).  asgi_send.c gets here by messages, a plan by ta_exchange_ops.respond,
 * streaming_response.c and send_file.c with what they send.
 */
#include "py/server/native_int.h"
#include "py/server/recorder.h"
#include "py/server/request_id.h"

#include <unistd.h>

#include "http/status.h"

void ta_response_started(ta_native_exchange *x, int status)
{
    ta_server *server = x->server;
    x->out.status = status;
    if (TA_UNLIKELY(status == 101 && server->recorder != NULL))
        ta_recorder_websocket(server->recorder);
    if (TA_LIKELY(x->req != NULL))
        x->req->notes.unheard = x->req->gone;
    if (TA_UNLIKELY(server->access != NULL || server->access_log != NULL))
        ta_access_log_note(x, status);
}

/* Notes that the protocol is given so much of a body; it leaves out what may have none. */
static inline void count_sent(ta_native_exchange *x, size_t n)
{
    if (x->base.method_id != TA_METHOD_HEAD)
        x->req->notes.sent += n;
}

/* What a downcall's result means.  TA_WAITS: for room. */
static ta_outcome result_of(ta_native_exchange *native, int rc)
{
    switch (rc) {
    case TA_AGAIN:
        return TA_WAITS;
    case TA_ECLOSED:
        native->peer = TA_PEER_GONE;
        return TA_DONE;
    case TA_OK:
        return TA_DONE;
    case TA_ENOMEM:
        PyErr_NoMemory();
        return TA_FAILED;
    default:
        PyErr_SetString(PyExc_RuntimeError, "The response could not be sent.");
        return TA_FAILED;
    }
}

/* The head as it is now; borrowed from x until that is changed. */
static ta_response_head head_of(const ta_native_exchange *native)
{
    ta_response_head head = ta_fields_head(&native->out.head);
    PyObject *reason = native->out.reason;
    head.flags |= native->server->base_flags;
    if (TA_UNLIKELY(reason != NULL))
        head.reason = ta_str_of(PyBytes_AS_STRING(reason), (size_t)PyBytes_GET_SIZE(reason));
    return head;
}

/* Sends the head that waits, as the beginning of a stream. */
static int begin_stream(ta_native_exchange *x)
{
    TA_ASSERT(x->req != NULL);
    ta_loop_undefer(x->base.ls->loop, &x->later);
    ta_native_exchange_move(x, TA_RESPONSE_STREAM);
    ta_response_head head = head_of(x);
    return ta_resp_start(x->req, &head);
}

void ta_response_break(ta_native_exchange *x)
{
    TA_ASSERT(!ta_response_is_over(x->out.state));
    if (x->out.state == TA_RESPONSE_READY) /* the client shall see the beginning, as with uvicorn */
        (void)begin_stream(x);
    ta_resp_abort(x->req);
    ta_native_exchange_move(x, TA_RESPONSE_LOST);
}

/* At the end of the batch, sends a head that no body has followed, since the client may wait for
 * it. */
static void send_head_later(ta_defer *defer)
{
    ta_native_exchange *x = TA_CONTAINER_OF(defer, ta_native_exchange, later);
    if (x->out.state != TA_RESPONSE_READY || x->req == NULL)
        return;
    if (begin_stream(x) == TA_ECLOSED)
        x->peer = TA_PEER_GONE;
}

/* The head is complete: it is sent with what comes next, or else at the end of the batch. */
static void head_ready(ta_native_exchange *x)
{
    TA_ASSERT(!ta_list_linked(&x->later.node)); /* its start has been */
    ta_native_exchange_move(x, TA_RESPONSE_READY);
    if (x->req != NULL && x->req->body_eof)
        ta_peer_is_answered(&x->peer, x->req->gone);
    if (TA_UNLIKELY(x->server->ids != NULL)) {
        ta_response_head head = ta_fields_head(&x->out.head);
        ta_request_ids_answer(x->server->ids, x, &x->out.head, &head);
    }
    x->later.fn = send_head_later;
    ta_loop_defer(x->base.ls->loop, &x->later);
    ta_response_started(x, x->out.head.status);
}

/* The head has its fields, or an exception is set.  As make_head. */
static ta_outcome filter_head(ta_native_exchange *native, bool added)
{
    ta_outcome outcome = added ? TA_DONE : TA_FAILED;
    ta_response_head_suit(&native->out.head);
    if (added && ta_filters_there(native))
        outcome = ta_filters_start(native, native->out.head.status);
    if (outcome == TA_FAILED)
        ta_fields_clear(&native->out.head);
    return outcome;
}

/* Gathers the head.  TA_DONE: it may go out; TA_WAITS: the filters hold it. */
static ta_outcome make_head(ta_native_exchange *native, PyObject *status, PyObject *headers)
{
    long code = PyLong_AsLong(status);
    if (code == -1 && PyErr_Occurred())
        return TA_FAILED;
    if (code < 200 || code > 999) {
        PyErr_Format(PyExc_RuntimeError, "Invalid HTTP status code %ld.", code);
        return TA_FAILED;
    }
    native->out.head.status = (int)code;
    bool added = headers == NULL || ta_response_head_add(&native->out.head, headers) == 0;
    return filter_head(native, added);
}

/* After the head has been gathered. */
static int begin(ta_native_exchange *native, ta_outcome outcome)
{
    if (outcome == TA_FAILED)
        return -1;
    if (TA_UNLIKELY(native->server->stopping)) { /* a stream of its own has its own grace period */
        native->asgi.end = TA_END_NONE;
        native->asgi.since = ta_loop_now(native->base.ls->loop);
    }
    if (TA_UNLIKELY(native->out.state == TA_RESPONSE_LOST))
        native->base.response_started =
            true; /* the request is about to be closed: nobody gets it */
    else if (outcome == TA_DONE)
        head_ready(native);
    else
        ta_native_exchange_move(native, TA_RESPONSE_HELD);
    return 0;
}

int ta_response_begin(ta_native_exchange *native, PyObject *status, PyObject *headers)
{
    return begin(native, make_head(native, status, headers));
}

int ta_response_begin_head(ta_native_exchange *native, const ta_response_head *head)
{
    native->out.head.status = head->status;
    bool added = ta_fields_copy(&native->out.head, head) == TA_OK;
    if (!added)
        PyErr_NoMemory();
    return begin(native, filter_head(native, added));
}

/* A piece of the body against the content-length. */
typedef enum fit { FIT_WELL, FIT_TOO_LONG, FIT_TOO_SHORT } fit;

static fit count_body(ta_native_exchange *native, size_t len, bool more)
{
    const ta_fields *head = &native->out.head;
    if (head->length < 0 || native->base.method_id == TA_METHOD_HEAD ||
        !ta_status_has_content(head->status))
        return FIT_WELL;
    native->out.sent += (int64_t)len;
    if (native->out.sent > head->length)
        return FIT_TOO_LONG;
    return more || native->out.sent == head->length ? FIT_WELL : FIT_TOO_SHORT;
}

static ta_outcome does_not_fit(fit how)
{
    PyErr_SetString(PyExc_RuntimeError, how == FIT_TOO_LONG
                                            ? "Response content longer than Content-Length"
                                            : "Response content shorter than Content-Length");
    return TA_FAILED;
}

/* After the last byte: nobody waits for room any more. */
static ta_outcome completed(ta_native_exchange *x, ta_outcome outcome)
{
    if (outcome == TA_FAILED)
        return TA_FAILED;
    ta_native_exchange_move(x, TA_RESPONSE_DONE);
    ta_waiters_wake(&x->in.readers);
    return TA_DONE;
}

static ta_outcome send_bytes(ta_native_exchange *native, const ta_piece *piece, bool more)
{
    int rc = TA_OK;
    ta_str data = piece->data;
    ta_lender lender;
    TA_ASSERT(native->req != NULL && native->out.packing != TA_PACK_HELD);
    fit how = count_body(native, data.len, more);
    if (TA_UNLIKELY(how == FIT_TOO_LONG))
        return does_not_fit(how);
    bool trailers = TA_UNLIKELY(native->out.trailers != TA_TRAILERS_NONE);
    if (!more && how == FIT_WELL && native->out.state == TA_RESPONSE_READY && !trailers) {
        ta_loop_undefer(native->base.ls->loop, &native->later);
        ta_native_exchange_move(native, TA_RESPONSE_STREAM);
        ta_response_head head = head_of(native);
        count_sent(native, data.len);
        rc = ta_resp_send_lent(native->req, &head, data, ta_piece_lender(piece, &lender));
        return completed(native, result_of(native, rc));
    }
    if (native->out.state == TA_RESPONSE_READY)
        rc = begin_stream(native);
    count_sent(native, data.len);
    if (data.len > 0 && (rc == TA_OK || rc == TA_AGAIN))
        rc = ta_resp_data_lent(native->req, data, ta_piece_lender(piece, &lender));
    if (TA_UNLIKELY(how == FIT_TOO_SHORT)) { /* what there is was sent; the rest never comes */
        bool left = ta_native_exchange_is_left(native) || native->req->gone;
        return left ? TA_DONE : does_not_fit(how); /* it was cut because the client has gone */
    }
    if (!more && trailers) {
        native->out.trailers = TA_TRAILERS_NOW;
        ta_fields_clear(&native->out.head);
    } else if (!more) {
        int ended = ta_resp_end(native->req);
        return completed(native, result_of(native, rc == TA_OK ? ended : rc));
    }
    return result_of(native, rc);
}

ta_outcome ta_response_trailers(ta_native_exchange *x)
{
    ta_response_head trailers = ta_fields_head(&x->out.head);
    TA_ASSERT(x->out.trailers == TA_TRAILERS_NOW && x->out.state == TA_RESPONSE_STREAM);
    return completed(x, result_of(x, ta_resp_end_with(x->req, &trailers)));
}

ta_outcome ta_response_interim(ta_native_exchange *x, const ta_response_head *head)
{
    int rc = ta_resp_informational(x->req, head);
    return rc == TA_EINVAL ? TA_DONE : result_of(x, rc);
}

/* Sends a piece that the filters have seen, and the head if it was held back till now. */
static ta_outcome send_filtered(ta_native_exchange *x, bool held, const ta_piece *piece, bool more)
{
    if (held)
        head_ready(x);
    ta_outcome outcome = send_bytes(x, piece, more);
    ta_buf_free(&x->out.packed); /* the connection has copied or taken it */
    return outcome;
}

ta_outcome ta_response_piece(ta_native_exchange *x, ta_piece piece, bool more, PyObject **job)
{
    if (TA_LIKELY(x->out.packing == TA_PACK_NONE))
        return send_bytes(x, &piece, more);
    bool held = x->out.packing == TA_PACK_HELD;
    ta_outcome outcome = ta_filters_body(x, &piece, more, job);
    return outcome == TA_DONE ? send_filtered(x, held, &piece, more) : outcome;
}

ta_outcome ta_response_file(ta_native_exchange *native, int fd, int64_t start, int64_t size)
{
    if (native->out.packing == TA_PACK_HELD) {
        if (ta_filters_release(native) < 0)
            goto error;
        head_ready(native);
    }
    fit how = count_body(native, (size_t)size, false);
    if (how != FIT_WELL) {
        (void)does_not_fit(how);
        goto error;
    }
    bool ready = native->out.state == TA_RESPONSE_READY;
    if (ready && native->out.head.length < 0 &&
        ta_fields_add_length(&native->out.head, (uint64_t)size) != TA_OK) {
        PyErr_NoMemory();
        goto error;
    }
    TA_ASSERT(native->out.file < 0);
    native->out.file = fd; /* until on_close */
    int rc = ready ? begin_stream(native) : TA_OK;
    count_sent(native, (size_t)size);
    if ((rc == TA_OK || rc == TA_AGAIN) && size > 0 && native->base.method_id != TA_METHOD_HEAD)
        rc = ta_resp_file(native->req, fd, start, size);
    int ended = ta_resp_end(native->req);
    return completed(native, result_of(native, rc == TA_OK ? ended : rc));
error:
    close(fd);
    return TA_FAILED;
}

ta_outcome ta_response_job(ta_native_exchange *native, PyObject *job)
{
    ta_piece piece;
    bool more, held = native->out.packing == TA_PACK_HELD;
    if (native->req != NULL && native->req->gone)
        native->peer = TA_PEER_GONE; /* the job keeps the packer: nothing may follow */
    if (native->req == NULL || ta_response_is_over(native->out.state) ||
        native->peer == TA_PEER_GONE)
        return TA_DONE; /* nobody is there any more */
    if (ta_filters_offloaded(native, job, &piece, &more) < 0)
        return TA_FAILED;
    return send_filtered(native, held, &piece, more);
}

void ta_response_plain(ta_native_exchange *native, int status, const char *text)
{
    if (native->req == NULL || native->base.response_started)
        return;
#define TYPE  "content-type: text/plain; charset=utf-8\r\n"
#define CLOSE "connection: close\r\n"
#define RETRY "retry-after: 1\r\n" /* with 503 */
    static const ta_field fields[] = {
        TA_FIELD_FIRST("content-type", "text/plain; charset=utf-8"),
        TA_FIELD_AT(sizeof TYPE - 1, "connection", "close"),
        TA_FIELD_AT(sizeof TYPE CLOSE - 1, "retry-after", "1"),
    };
    bool retry = status == 503;
    ta_response_head head = {
        .status = status,
        .flags = TA_RESP_CLOSE | native->server->base_flags,
        .fields = fields,
        .nfields = TA_COUNTOF(fields) - !retry,
        .text = ta_str_of(TYPE CLOSE RETRY, sizeof TYPE CLOSE - 1 + (retry ? sizeof RETRY - 1 : 0)),
        .length = -1,
    };
#undef TYPE
#undef CLOSE
#undef RETRY
    ta_native_exchange_move(native, TA_RESPONSE_DONE);
    ta_response_started(native, status);
    count_sent(native, strlen(text));
    if (TA_UNLIKELY(native->server->ids != NULL)) {
        ta_fields_clear(&native->out.head);
        ta_request_ids_answer(native->server->ids, native, &native->out.head, &head);
    }
    (void)ta_resp_send(native->req, &head, ta_str_of(text, strlen(text)));
    ta_waiters_wake(&native->in.readers);
}

/* -- respond ---------------------------------------------------------------------------------- */

/* A whole response; its fields are those of x->out.head once a filter or Python has had them. */
typedef struct whole {
    ta_response_head head;
    ta_piece body;
} whole;

/* Fields from a list of pairs.  0 or -1. */
static int take_raw_headers(ta_native_exchange *native, whole *response, PyObject *raw_headers)
{
    native->out.head.status = response->head.status;
    if (ta_response_head_add(&native->out.head, raw_headers) < 0)
        return -1;
    ta_response_head_suit(&native->out.head);
    response->head = ta_fields_head(&native->out.head);
    return 0;
}

/* What the filters make of it; `given`: its fields are not in x->out.head yet.  As
 * ta_filters_body. */
static ta_outcome filter_whole(ta_native_exchange *native, whole *response, bool given,
                               PyObject **job)
{
    if (given && ta_fields_copy(&native->out.head, &response->head) != TA_OK) {
        PyErr_NoMemory();
        return TA_FAILED;
    }
    ta_outcome outcome = ta_filters_start(native, response->head.status);
    if (outcome == TA_WAITS)
        outcome = ta_filters_body(native, &response->body, false, job);
    response->head = ta_fields_head(&native->out.head);
    return outcome;
}

/* To the protocol.  TA_DONE, or TA_FAILED with RuntimeError: nothing was sent, another response may
 * come. */
static ta_outcome send_whole(ta_native_exchange *native, whole *response)
{
    ta_lender lender;
    ta_native_exchange_move(native, TA_RESPONSE_DONE);
    ta_response_started(native, response->head.status);
    if (native->req == NULL)
        return TA_DONE; /* the peer has disconnected, and nobody gets it */
    response->head.flags |= native->server->base_flags;
    count_sent(native, response->body.data.len);
    if (TA_UNLIKELY(native->server->ids != NULL))
        ta_request_ids_answer(native->server->ids, native, &native->out.head, &response->head);
    int rc = ta_resp_send_lent(native->req, &response->head, response->body.data,
                               ta_piece_lender(&response->body, &lender));
    if (TA_UNLIKELY(rc == TA_EINVAL)) {
        ta_native_exchange_move(native, TA_RESPONSE_NONE);
        ta_fields_clear(&native->out.head);
        PyErr_Format(PyExc_RuntimeError, "Invalid response: status %d, %zu bytes",
                     response->head.status, response->body.data.len);
        return TA_FAILED;
    }
    /* TA_AGAIN, TA_ECLOSED: taken over, or disconnected; nothing more is to be sent. */
    ta_buf_free(&native->out.packed);
    if (native->in.readers.first != NULL)
        ta_waiters_wake(&native->in.readers);
    return TA_DONE;
}

ta_outcome ta_response_send(ta_exchange *base, const ta_response_head *head, PyObject *raw_headers,
                            const ta_piece *body, PyObject **awaitable)
{
    ta_native_exchange *native = ta_native_exchange_of(base);
    whole response = {.head = *head, .body = *body};
    PyObject *job = NULL;
    ta_outcome outcome = TA_DONE;
    if (base->response_started) {
        PyErr_SetString(PyExc_RuntimeError, "The response has already been started.");
        return TA_FAILED;
    }
    if (raw_headers != NULL && take_raw_headers(native, &response, raw_headers) < 0)
        outcome = TA_FAILED;
    if (outcome == TA_DONE && ta_filters_there(native) && native->req != NULL)
        outcome = filter_whole(native, &response, raw_headers == NULL, &job);
    if (TA_LIKELY(outcome == TA_DONE))
        return send_whole(native, &response);
    if (outcome == TA_FAILED) {
        ta_filters_drop(native);
        ta_fields_clear(&native->out.head);
        return TA_FAILED;
    }
    ta_native_exchange_move(native, TA_RESPONSE_HELD);
    *awaitable = ta_asgi_send_job(native, job);
    return *awaitable ? TA_WAITS : TA_FAILED;
}
