/* h2/frames.c -- what nghttp2 tells of frames that arrived or were sent.  See h2/h2_int.h. */
#include "http/h2/h2_int.h"

/* -- what arrives ----------------------------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    h2_conn *m = user;
    int32_t id = frame->hd.stream_id;
    m->heading = NULL;
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        m->heading = h2_find(session, id);
        return 0;
    }
    if (m->ending)
        return 0;
    if (!h2_guard_admits(m)) {
        h2_guard_reset(m);
        return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
    }
    h2_req *rq = h2_req_take(m, id);
    if (!rq)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    m->heading = rq;
    return nghttp2_session_set_stream_user_data(session, id, rq);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    h2_conn *m = user;
    h2_req *rq = m->heading;
    if (TA_UNLIKELY(m->ending)) /* the rest of a bomb is not worth the time */
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (!rq || rq->malformed)
        return 0;
    if (!h2_head_field(rq, ta_str_of((const char *)name, name_len),
                       ta_str_of((const char *)value, value_len)))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    return 0;
}

/* nghttp2 would leave it out.  A request with one is malformed (RFC 9113 8.2.1). */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                             const uint8_t *name, size_t name_len, const uint8_t *value,
                             size_t value_len, uint8_t flags, void *user)
{
    h2_conn *m = user;
    if (m->heading)
        m->heading->malformed = true;
    return 0;
}

/* The client has ended its side of the stream. */
static void end_of_body(h2_req *rq)
{
    rq->input_eof = rq->req.body_eof = true;
    rq->body_told = rq->phase == H2_NEW;
    h2_due(rq);
}

static int on_headers(h2_conn *m, const nghttp2_frame *frame)
{
    h2_req *rq = m->heading;
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    m->heading = NULL;
    if (!rq)
        return 0;
    if (rq->malformed) {
        h2_break_off(rq, NGHTTP2_PROTOCOL_ERROR);
        return 0;
    }
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        if (!h2_head_done(rq, end))
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        h2_due(rq);
    } else if (end) {
        end_of_body(rq);
    }
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    h2_conn *m = user;
    h2_req *rq;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        return on_headers(m, frame);
    case NGHTTP2_DATA:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
            (rq = h2_find(session, frame->hd.stream_id)))
            end_of_body(rq);
        return 0;
    case NGHTTP2_RST_STREAM:
        h2_guard_reset(m);
        return 0;
    default:
        return 0;
    }
}

/*
 * The response was over before the request (RFC 9113 8.1), or nobody waits for the rest.  Clients
 * whose stream is reset while they send may not read the response, and those whose window is shut
 * wait for ever: so a body is taken and dropped, to a limit.
 */
static int drop_data(h2_conn *m, h2_req *rq, int32_t id, size_t len)
{
    h2_body_drop(m, len);
    if (rq) {
        rq->dropped += len;
        return 0;
    }
    uintptr_t left = (uintptr_t)nghttp2_session_get_stream_user_data(m->session, id) >> 1;
    if (left < len || m->ending)
        return nghttp2_submit_rst_stream(m->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
    h2_leave_body(m->session, id, left - len);
    int rc = nghttp2_session_consume_stream(m->session, id, len);
    return rc == NGHTTP2_ERR_NOMEM ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                         size_t len, void *user)
{
    h2_conn *m = user;
    h2_req *rq = h2_find(session, id);
    if (!rq || rq->phase >= H2_ENDED || m->ending)
        return drop_data(m, rq, id, len);
    return h2_body_take(rq, ta_str_of((const char *)data, len)) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* -- what was sent ---------------------------------------------------------------------------- */

/* Resets that are no answer to what the client did wrong. */
static bool is_its_fault(uint32_t error)
{
    return error != NGHTTP2_NO_ERROR && error != NGHTTP2_CANCEL && error != NGHTTP2_INTERNAL_ERROR;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    h2_conn *m = user;
    h2_req *rq;
    switch (frame->hd.type) {
    case NGHTTP2_RST_STREAM:
        if (is_its_fault(frame->rst_stream.error_code))
            h2_guard_reset(m);
        return 0;
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        h2_guard_sent(m);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
            (rq = h2_find(session, frame->hd.stream_id))) {
            rq->end_sent = true;
            h2_due(rq);
        }
        return 0;
    default:
        return 0;
    }
}

/* A head that nghttp2 can't send: too long, or the stream is gone. */
static int on_frame_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                             void *user)
{
    h2_conn *m = user;
    h2_req *rq = frame->hd.type == NGHTTP2_HEADERS ? h2_find(session, frame->hd.stream_id) : NULL;
    if (rq && rq->phase < H2_BROKEN && error != NGHTTP2_ERR_SESSION_CLOSING &&
        error != NGHTTP2_ERR_STREAM_CLOSED && error != NGHTTP2_ERR_STREAM_CLOSING) {
        h2_log(m, TA_LOG_ERROR, "the head of a response could not be sent: %s",
               nghttp2_strerror(error));
        h2_break_off(rq, NGHTTP2_INTERNAL_ERROR);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
    h2_conn *m = user;
    h2_req *rq = h2_find(session, id);
    if (!rq)
        return 0;
    rq->stream_closed = true;
    if (m->heading == rq)
        m->heading = NULL;
    if (!rq->end_sent) {
        rq->req.gone = true;
        h2_queue_drop(rq);
        if (rq->phase == H2_NEW) /* nobody has heard of it, or will */
            rq->phase = H2_BROKEN;
    }
    h2_due(rq);
    return 0;
}

void h2_frames_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, h2_queue_send);
}
