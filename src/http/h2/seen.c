/*
 * h2/seen.c -- what became of streams that are closed.  See h2/h2_int.h.
 *
 * nghttp2 forgets a stream that is closed, and then ignores all frames of it, as a client may not
 * know yet that we have reset it.  Frames that it can't have sent in good faith are an error of the
 * connection (RFC 9113 5.1): those behind its own END_STREAM or RST_STREAM, and those that open a
 * stream with a number below others.  Of the latest streams we know which is which.
 */
#include "http/h2/h2_int.h"

enum { OPENED = 1, ENDED = 2 };

static uint8_t *mark(h2_conn *m, int32_t id)
{
    return &m->seen[(uint32_t)id / 2 % H2_SEEN];
}

static void open_stream(h2_conn *m, int32_t id)
{
    int32_t skipped = TA_MAX(m->last_id + 2, id - 2 * (H2_SEEN - 1));
    for (; skipped < id; skipped += 2)
        *mark(m, skipped) = 0;
    *mark(m, id) = OPENED;
    m->last_id = id;
}

/* A frame of a stream that is not new.  What nghttp2 still knows of is left to it. */
static void check(h2_conn *m, const nghttp2_frame_hd *hd, uint8_t is)
{
    int32_t id = hd->stream_id;
    if (TA_LIKELY(is == OPENED) || nghttp2_session_get_stream_remote_close(m->session, id) == 1)
        return;
    if (is & ENDED)
        h2_terminate(m, NGHTTP2_STREAM_CLOSED, "a frame of a stream that its sender had ended");
    else
        h2_terminate(m, NGHTTP2_PROTOCOL_ERROR, "a stream with a number below others");
}

void h2_seen_frame(h2_conn *m, const nghttp2_frame_hd *hd)
{
    int32_t id = hd->stream_id;
    bool opens = hd->type == NGHTTP2_HEADERS, data = hd->type == NGHTTP2_DATA;
    if (id % 2 == 0 || (!opens && !data && hd->type != NGHTTP2_RST_STREAM))
        return;
    if (id > m->last_id) {
        if (!opens)
            return; /* nghttp2 knows what to do */
        open_stream(m, id);
    } else if (m->last_id - id >= 2 * H2_SEEN) {
        return;
    } else if (opens || data) {
        check(m, hd, *mark(m, id));
    }
    if (hd->type == NGHTTP2_RST_STREAM || hd->flags & NGHTTP2_FLAG_END_STREAM)
        *mark(m, id) |= ENDED;
}
