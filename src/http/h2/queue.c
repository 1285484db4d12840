/* h2/queue.c -- what waits to be sent on a stream, and its DATA frames.  See h2/h2_int.h. */
#include "base/mem.h"
#include "http/h2/h2_int.h"

#include <errno.h>
#include <unistd.h>

/* -- parts ------------------------------------------------------------------------------------ */

static h2_part *push(h2_req *rq)
{
    h2_part *part = ta_list_linked(&rq->first.node) ? ta_calloc(1, sizeof *part) : &rq->first;
    if (!part)
        return NULL;
    part->fd = -1;
    ta_list_push_back(&rq->parts, &part->node);
    return part;
}

static void pop(h2_req *rq, h2_part *part)
{
    ta_list_remove(&part->node);
    if (part->lent.ptr)
        part->release(part->kept);
    part->lent = ta_str_of(NULL, 0);
    if (part == &rq->first) {
        ta_buf_clear(&part->copy);
        return;
    }
    ta_buf_free(&part->copy);
    ta_free(part);
}

static h2_part *front(h2_req *rq)
{
    return TA_CONTAINER_OF(rq->parts.next, h2_part, node);
}

void h2_queue_drop(h2_req *rq)
{
    while (!ta_list_empty(&rq->parts))
        pop(rq, front(rq));
    rq->queued = 0;
}

/* The last part, if bytes can be appended to it. */
static h2_part *open_part(h2_req *rq)
{
    h2_part *last = TA_CONTAINER_OF(rq->parts.prev, h2_part, node);
    if (ta_list_empty(&rq->parts) || last->fd >= 0 || last->lent.ptr)
        return NULL;
    return last->copy.len < H2_QUEUE_MAX ? last : NULL;
}

static void grown(h2_req *rq, h2_part *part, uint64_t n)
{
    part->left += n;
    rq->queued += n;
    if (rq->deferred && !h2_gone(rq)) {
        rq->deferred = false;
        (void)nghttp2_session_resume_data(rq->conn->session, rq->id);
    }
    h2_due(rq);
}

static bool copy(h2_req *rq, ta_str data)
{
    h2_part *part = open_part(rq);
    if (!part && !(part = push(rq)))
        return false;
    if (ta_buf_append_str(&part->copy, data) != TA_OK)
        return false;
    grown(rq, part, data.len);
    return true;
}

bool h2_queue_bytes(h2_req *rq, ta_str data, const ta_lender *from)
{
    if (!data.len)
        return true;
    if (!from || data.len < H2_LEND_MIN)
        return copy(rq, data);
    h2_part *part = push(rq);
    if (!part)
        return false;
    void *kept = from->keep ? from->keep(from->owner) : NULL;
    if (!kept) {
        if (ta_buf_append_str(&part->copy, data) != TA_OK)
            return false;
    } else {
        part->lent = data;
        part->kept = kept;
        part->release = from->release;
    }
    grown(rq, part, data.len);
    return true;
}

bool h2_queue_file(h2_req *rq, int fd, int64_t at, uint64_t len)
{
    h2_part *part = push(rq);
    if (!part)
        return false;
    part->fd = fd;
    part->at = at;
    grown(rq, part, len);
    return true;
}

/* -- DATA frames ------------------------------------------------------------------------------ */

ssize_t h2_queue_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                      uint32_t *flags, nghttp2_data_source *source, void *user)
{
    h2_req *rq = h2_find(session, id);
    if (!rq || rq->phase == H2_BROKEN)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    size_t n = (size_t)TA_MIN((uint64_t)length, rq->queued);
    bool last = rq->phase == H2_ENDED && n == rq->queued;
    if (!n && !last) {
        rq->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (rq->has_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (!h2_send_trailers(rq))
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    if (n)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return (ssize_t)n;
}

/* Reads n bytes of a file; false: it is shorter than promised, or can't be read. */
static bool read_file(h2_part *part, char *to, size_t n)
{
    while (n) {
        ssize_t got = pread(part->fd, to, n, (off_t)part->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        part->at += got;
        to += got;
        n -= (size_t)got;
    }
    return true;
}

/* The next n bytes of the queue. */
static bool gather(h2_req *rq, char *to, size_t n)
{
    while (n) {
        h2_part *part = front(rq);
        size_t k = (size_t)TA_MIN((uint64_t)n, part->left);
        if (part->fd >= 0) {
            if (!read_file(part, to, k))
                return false;
        } else if (part->lent.ptr) {
            memcpy(to, part->lent.ptr + (part->lent.len - part->left), k);
        } else {
            memcpy(to, part->copy.data + part->copy.off, k);
            ta_buf_consume(&part->copy, k);
        }
        to += k;
        n -= k;
        rq->queued -= k;
        part->left -= k;
        if (!part->left)
            pop(rq, part);
    }
    return true;
}

int h2_queue_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                  size_t length, nghttp2_data_source *source, void *user)
{
    enum { FRAME_HEAD = 9 };
    h2_conn *m = user;
    h2_req *rq = h2_find(session, frame->hd.stream_id);
    if (m->full || !m->budget)
        return NGHTTP2_ERR_WOULDBLOCK;
    if (!rq || rq->queued < length) /* given up since this frame was made */
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    char *out = ta_conn_reserve(m->net, FRAME_HEAD + length);
    if (!out)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    memcpy(out, head, FRAME_HEAD);
    if (!gather(rq, out + FRAME_HEAD, length)) {
        h2_log(m, TA_LOG_ERROR, "a file became shorter while it was sent: %.*s",
               (int)TA_MIN(rq->req.raw_path.len, (size_t)200), rq->req.raw_path.ptr);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    rq->sent += length;
    m->budget -= TA_MIN(m->budget, length);
    m->full |= ta_conn_commit(m->net, FRAME_HEAD + length) == TA_AGAIN;
    if (rq->want_drain || ta_timer_armed(&rq->write_timer))
        h2_due(rq);
    return 0;
}

void h2_pump(h2_conn *m)
{
    while (!m->gone && !m->net->closed && !m->full) {
        const uint8_t *data;
        ssize_t n = nghttp2_session_mem_send(m->session, &data);
        if (n < 0) {
            h2_log(m, TA_LOG_ERROR, "HTTP/2 connection ended: %s", nghttp2_strerror((int)n));
            h2_panic(m);
        }
        if (n <= 0)
            return;
        m->full |= ta_conn_write(m->net, data, (size_t)n) == TA_AGAIN;
    }
}

/* -- time ------------------------------------------------------------------------------------- */

/* As in body.c: the client takes too little, or nothing. */
static bool account(h2_req *rq)
{
    const ta_http_limits *limits = &rq->conn->server->limits;
    uint64_t n = rq->sent - rq->told_sent;
    rq->told_sent = rq->sent;
    return ta_pace_account(&rq->write_pace, ta_loop_now(rq->conn->server->loop), n,
                           limits->timeout_write_ms, limits->send_rate) > 0;
}

static void on_expire(ta_timer *timer)
{
    h2_req *rq = TA_CONTAINER_OF(timer, h2_req, write_timer);
    h2_conn *m = rq->conn;
    if (!rq->queued || h2_gone(rq))
        return;
    if (m->full) /* the whole connection waits, and counts its own time */
        ta_pace_resume(&rq->write_pace, ta_loop_now(m->server->loop));
    if (account(rq)) {
        ta_loop_set_timer(m->server->loop, timer, rq->write_pace.left);
        return;
    }
    h2_log(m, TA_LOG_INFO, "a stream was reset: the peer does not read it");
    h2_guard_reset(m);
    (void)nghttp2_submit_rst_stream(m->session, NGHTTP2_FLAG_NONE, rq->id, NGHTTP2_CANCEL);
    rq->req.gone = true;
    h2_queue_drop(rq);
    h2_due(rq);
}

void h2_queue_watch(h2_req *rq)
{
    uint32_t patience = rq->conn->server->limits.timeout_write_ms;
    bool armed = ta_timer_armed(&rq->write_timer);
    if (!patience)
        return;
    if (!rq->queued) {
        if (armed)
            ta_timer_disarm(&rq->write_timer);
    } else if (!armed && !h2_gone(rq)) {
        ta_pace_begin(&rq->write_pace, ta_loop_now(rq->conn->server->loop), patience);
        rq->told_sent = rq->sent;
        ta_loop_set_timer(rq->conn->server->loop, &rq->write_timer, patience);
    }
}

void h2_queue_init(h2_req *rq)
{
    rq->write_timer.on_expire = on_expire;
    ta_list_init(&rq->parts);
    rq->first.node = (ta_list_node){NULL, NULL};
    rq->first.fd = -1;
    rq->first.left = 0;
    rq->first.lent = ta_str_of(NULL, 0);
}
