/*
 * h2/guard.c -- clients that keep us busy: what a connection may cost.  See h2/h2_int.h.
 *
 * Frames that ask for no response are cheap to send and not free to take.  Ordinary clients send
 * them too, in proportion to what they are sent, so each connection has an allowance that grows
 * with time and with the frames that we send it; who uses it up is told to calm down, and goes.
 * Resets have an allowance of their own, as each may stand for work that was begun in vain (rapid
 * reset), whether the client sends them or makes us do it (MadeYouReset).  A request whose stream
 * is closed counts as open until whoever works on it has noticed.
 *
 * nghttp2 does not tell of frames that it ignores, so their heads are read off the input here.
 * That is also where the input is cut: small frames come by the thousand in what one read brings,
 * and each may call for an answer, so a connection's share of a turn is counted in frames.
 *
 * Requests that begin, and those whose client has gone, cost most.  A connection has
 * limits.pipelined of them a batch, and all connections together as many as make a batch of half a
 * millisecond, as an attacker opens several.
 */
#include "base/clock.h"
#include "http/h2/h2_int.h"

enum {
    FILL_SECONDS = 10, /* in which an allowance that is used up is whole again */
    PER_FRAME = 4      /* control frames that each frame of ours may cause */
};

/* Takes one from the allowance; false: there is none left. */
static bool take(h2_conn *m, h2_bucket *bucket, uint32_t allowance)
{
    if (!allowance)
        return true;
    uint64_t now = ta_loop_now(m->server->loop), passed = now - bucket->since;
    uint64_t back = passed * allowance / (FILL_SECONDS * 1000);
    if (back) {
        bucket->used = back < bucket->used ? bucket->used - (uint32_t)back : 0;
        bucket->since = now;
    }
    if (bucket->used >= allowance)
        return false;
    bucket->used++;
    return true;
}

static bool is_control(const nghttp2_frame_hd *hd)
{
    switch (hd->type) {
    case NGHTTP2_DATA:
        return hd->length == 0 && !(hd->flags & NGHTTP2_FLAG_END_STREAM);
    case NGHTTP2_HEADERS:
    case NGHTTP2_RST_STREAM: /* has an allowance of its own */
        return false;
    default:
        return true;
    }
}

static void on_frame(h2_conn *m, const nghttp2_frame_hd *hd)
{
    const ta_http_limits *limits = &m->server->limits;
    if (hd->type == NGHTTP2_HEADERS)
        m->continuations = 0;
    else if (hd->type == NGHTTP2_CONTINUATION && limits->h2_continuations &&
             ++m->continuations > limits->h2_continuations)
        h2_terminate(m, NGHTTP2_ENHANCE_YOUR_CALM,
                     "too many CONTINUATION frames (limit_h2_continuations)");
    if (hd->type == NGHTTP2_PRIORITY && hd->stream_id == 0)
        h2_terminate(m, NGHTTP2_PROTOCOL_ERROR, "a PRIORITY frame of no stream");
    if (is_control(hd) && !take(m, &m->controls, limits->h2_control_frames))
        h2_terminate(m, NGHTTP2_ENHANCE_YOUR_CALM,
                     "too many control frames (limit_h2_control_frames)");
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* What requests cost is seen by the next batch only: handlers run later, too.  So when some had to
 * wait, the time of the whole batch tells how many may come in the next one. */
static void adapt(ta_http_server *server, uint64_t took_us)
{
    if (took_us > H2_BATCH_US)
        server->h2_share = TA_MAX(server->h2_share / 2, (uint32_t)H2_SHARE_MIN);
    else if (took_us < H2_BATCH_US / 2)
        server->h2_share = TA_MIN(server->h2_share + 2, (uint32_t)H2_SHARE_MAX);
}

static void see_batch(h2_conn *m)
{
    ta_http_server *server = m->server;
    uint64_t batch = ta_loop_batch(server->loop);
    if (m->batch == batch)
        return;
    m->batch = batch;
    m->frames = m->told = 0;
    if (server->h2_batch == batch)
        return;
    uint64_t now = ta_clock_us();
    if (!server->h2_share)
        server->h2_share = server->limits.pipelined;
    if (server->h2_waits && batch == server->h2_batch + 1)
        adapt(server, now - server->h2_since);
    server->h2_batch = batch;
    server->h2_since = now;
    server->h2_told = 0;
    server->h2_waits = false;
}

size_t h2_guard_input(h2_conn *m, const uint8_t *data, size_t n)
{
    const uint8_t *begin = data;
    see_batch(m);
    while (n && !m->ending) {
        if (m->frames >= H2_TURN_FRAMES && !m->skip && !m->nhead)
            break;
        size_t k = TA_MIN(n, m->skip);
        m->skip -= k;
        if (!k) {
            k = TA_MIN(n, sizeof m->head - m->nhead);
            memcpy(m->head + m->nhead, data, k);
            m->nhead += (uint8_t)k;
        }
        data += k;
        n -= k;
        if (m->nhead < sizeof m->head)
            continue;
        m->nhead = 0;
        m->frames++;
        nghttp2_frame_hd hd = {.length = get32(m->head) >> 8,
                               .type = m->head[3],
                               .flags = m->head[4],
                               .stream_id = (int32_t)(get32(m->head + 5) & 0x7fffffff)};
        m->skip = hd.length;
        on_frame(m, &hd);
        h2_seen_frame(m, &hd);
    }
    return (size_t)(data - begin);
}

void h2_guard_reset(h2_conn *m)
{
    if (!take(m, &m->resets, m->server->limits.h2_resets))
        h2_terminate(m, NGHTTP2_ENHANCE_YOUR_CALM, "too many streams were reset (limit_h2_resets)");
}

void h2_guard_sent(h2_conn *m)
{
    m->controls.used -= TA_MIN(m->controls.used, (uint32_t)PER_FRAME);
}

bool h2_guard_admits(const h2_conn *m)
{
    uint32_t streams = m->server->limits.h2_streams;
    return !streams || m->nreqs < 2 * (uint64_t)streams;
}

bool h2_guard_tells(h2_conn *m)
{
    ta_http_server *server = m->server;
    uint32_t most = server->limits.pipelined;
    see_batch(m);
    if (most &&
        (m->told >= most || (m->told >= H2_TURN_LEAST && server->h2_told >= server->h2_share))) {
        server->h2_waits = true;
        return false;
    }
    m->told++;
    server->h2_told++;
    return true;
}
