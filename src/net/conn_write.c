/*
 * The output of a connection.
 *
 * Ordinary bytes gather in c->out, which is sent at the end of the batch.  What is not copied (a
 * file, a long body) is a segment in the list c->segs, which is sent before c->out: when one is
 * appended, the bytes in c->out become a segment of their own, so that order is kept.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/conn_int.h"

enum {
    SEND_NOW = 16384,      /* this much is sent at once from the caller's memory */
    REF_MIN = 4096,        /* less is copied, no matter who owns it */
    SEND_BUDGET = 1 << 20, /* bytes sent for one connection before others get their turn */
    FILE_CHUNK = 65536,    /* of a file that must be read */
};

typedef enum seg_kind { SEG_BYTES, SEG_REF, SEG_FILE } seg_kind;

struct ta_conn_seg {
    ta_conn_seg *next; /* owned */
    seg_kind kind;
    ta_buf buf; /* SEG_BYTES: the bytes; SEG_FILE: what was read of it and not sent */
    union {
        struct {
            ta_str data; /* borrowed until released */
            void (*release)(void *arg);
        } ref;
        struct {
            int fd; /* borrowed, or owned when there is no `done` */
            int64_t at;
            uint64_t left; /* without what is in buf */
            void (*done)(void *arg, int error);
        } file;
    };
    void *arg; /* borrowed: for release or done */
};

/* -- the queue ------------------------------------------------------------------------------ */

static bool writable(const ta_conn *c)
{
    return c->state == CONN_OPEN || c->state == CONN_OPENING;
}

static void finish_file(int fd, void (*done)(void *arg, int error), void *arg, int error)
{
    if (done)
        done(arg, error);
    else
        close(fd);
}

/* Takes the first segment off and tells its owner; which may call back into the connection. */
static void pop_seg(ta_conn *c, int error)
{
    ta_conn_seg *seg = c->segs;
    TA_ASSERT(seg && (error != TA_OK || seg->kind != SEG_FILE || !seg->file.left));
    c->segs = seg->next;
    if (!c->segs)
        c->segs_tail = NULL;
    ta_bufpool_give(&c->group->pool, &seg->buf);
    if (seg->kind == SEG_REF)
        seg->ref.release(seg->arg);
    else if (seg->kind == SEG_FILE)
        finish_file(seg->file.fd, seg->file.done, seg->arg, error);
    ta_free(seg);
}

void ta_conn_drop_queue(ta_conn *c)
{
    c->queued = 0;
    while (c->segs)
        pop_seg(c, TA_ECLOSED);
    ta_bufpool_give(&c->group->pool, &c->out);
}

static ta_conn_seg *push_seg(ta_conn *c, seg_kind kind, void *arg)
{
    ta_conn_seg *seg = ta_malloc(sizeof(*seg));
    if (!seg)
        return NULL;
    *seg = (ta_conn_seg){.kind = kind, .arg = arg};
    if (c->segs_tail)
        c->segs_tail->next = seg;
    else
        c->segs = seg;
    c->segs_tail = seg;
    return seg;
}

/* c->out goes behind the segments, so that another can follow it. */
static int seal_out(ta_conn *c)
{
    if (c->out.len == 0)
        return TA_OK;
    ta_conn_seg *seg = push_seg(c, SEG_BYTES, NULL);
    if (!seg)
        return TA_ENOMEM;
    seg->buf = c->out;
    ta_buf_init(&c->out);
    return TA_OK;
}

static int no_memory(ta_conn *c)
{
    ta_conn_fail(c, TA_ENOMEM, true);
    return TA_ENOMEM;
}

/* -- sending -------------------------------------------------------------------------------- */

static bool plain(const ta_conn *c)
{
    return c->transport == &c->tcp;
}

/* Bytes that were handed to the kernel and not acknowledged by the peer. */
static size_t in_flight(const ta_conn *c)
{
    int n = 0;
    if (c->closed || ioctl(c->io.fd, SIOCOUTQ, &n) < 0 || n < 0)
        return 0;
    return (size_t)n;
}

/*
 * What the peer takes shows late in what the socket takes: it becomes writable when a third of its
 * buffer is free, which may be megabytes.  So what was acknowledged counts.
 */
static uint64_t newly_taken(ta_conn *c)
{
    uint64_t flying = in_flight(c); /* of a unix socket, with the kernel's own overhead */
    uint64_t taken = c->bytes_out > flying ? c->bytes_out - flying : 0;
    uint64_t n = taken > c->taken ? taken - c->taken : 0;
    c->taken += n;
    return n;
}

bool ta_conn_pace(ta_conn *c)
{
    const ta_conn_cfg *cfg = ta_conn_group_cfg(c->group);
    uint32_t rate = cfg->write_rate == UINT32_MAX ? 0 : cfg->write_rate;
    uint32_t left = ta_pace_account(&c->pace, ta_loop_now(c->loop), newly_taken(c),
                                    cfg->write_timeout_ms, rate);
    if (left)
        ta_loop_set_timer(c->loop, &c->progress, left);
    return left > 0;
}

static int blocked(ta_conn *c)
{
    uint32_t ms = ta_conn_group_cfg(c->group)->write_timeout_ms;
    c->write_blocked = true;
    if (ms != UINT32_MAX && !ta_timer_armed(&c->progress)) {
        ta_pace_begin(&c->pace, ta_loop_now(c->loop), ms);
        (void)newly_taken(c);
        ta_loop_set_timer(c->loop, &c->progress, ms);
    }
    ta_conn_update_events(c);
    return c->closed ? TA_ECLOSED : TA_AGAIN;
}

/* Accounts for n more bytes that were sent. */
static void progressed(ta_conn *c, size_t n)
{
    c->bytes_out += n;
    /* At most once per batch; when the time is over, the timer runs soon. */
    if (TA_UNLIKELY(ta_timer_armed(&c->progress)) && c->pace.since != ta_loop_now(c->loop))
        (void)ta_conn_pace(c);
}

/* Gathers bytes at the front of the queue that can be sent in one call; total in *len. */
static int gather(const ta_conn *c, struct iovec *iov, size_t *len)
{
    int n = 0;
    size_t total = 0;
    const ta_conn_seg *seg = c->segs;
    for (; seg && n < TA_TRANSPORT_IOV && total < SEND_BUDGET; seg = seg->next) {
        ta_str s = seg->kind == SEG_REF ? seg->ref.data : ta_buf_str(&seg->buf);
        s.len = TA_MIN(s.len, SEND_BUDGET - total);
        if (s.len) {
            iov[n++] = (struct iovec){(void *)s.ptr, s.len};
            total += s.len;
        }
        if (seg->kind == SEG_FILE)
            break; /* the rest of the file comes before what follows it */
    }
    if (!seg && n < TA_TRANSPORT_IOV && total < SEND_BUDGET && c->out.len) {
        ta_str s = ta_buf_str(&c->out);
        iov[n++] = (struct iovec){(void *)s.ptr, s.len};
        total += s.len;
    }
    *len = total;
    return n;
}

/* Takes n sent bytes off the front of the queue. */
static void advance(ta_conn *c, size_t n)
{
    TA_ASSERT(n <= c->queued);
    c->queued -= n;
    while (c->segs) {
        ta_conn_seg *seg = c->segs;
        if (seg->kind == SEG_REF) {
            size_t k = TA_MIN(n, seg->ref.data.len);
            seg->ref.data = ta_str_skip(seg->ref.data, k);
            n -= k;
            if (seg->ref.data.len)
                return;
        } else {
            size_t k = TA_MIN(n, seg->buf.len);
            ta_buf_consume(&seg->buf, k);
            n -= k;
            if (seg->buf.len || (seg->kind == SEG_FILE && seg->file.left))
                return;
        }
        pop_seg(c, TA_OK);
        if (c->closed)
            return;
    }
    ta_buf_consume(&c->out, n);
}

/* A file that sendfile(2) or the transport can't do: its next bytes into the segment's buffer.  The
 * transport may have waited with a part of the bytes, so they must stay the same until sent. */
static int read_file(ta_conn_seg *seg)
{
    size_t want = (size_t)TA_MIN(seg->file.left, (uint64_t)FILE_CHUNK);
    char *to = ta_buf_reserve(&seg->buf, want);
    if (!to)
        return TA_ENOMEM;
    ssize_t n;
    do
        n = pread(seg->file.fd, to, want, (off_t)seg->file.at);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return TA_ESYS;
    ta_buf_commit(&seg->buf, (size_t)n);
    seg->file.at += n;
    seg->file.left -= (uint64_t)n;
    return TA_OK;
}

/* The front of the queue is a file with nothing read ahead.  > 0: bytes sent; 0: bytes were read
 * into the segment instead; else an error.  */
static ssize_t send_file(ta_conn *c, ta_conn_seg *seg)
{
    ssize_t n = TA_EUNSUPPORTED;
    if (c->transport->ops->sendfile)
        n = c->transport->ops->sendfile(c->transport, seg->file.fd, seg->file.at,
                                        (size_t)TA_MIN(seg->file.left, (uint64_t)SEND_BUDGET));
    if (n > 0) {
        seg->file.at += n;
        seg->file.left -= (uint64_t)n;
        return n;
    }
    if (n == 0)
        return TA_ESYS; /* the file is shorter than promised */
    return n == TA_EUNSUPPORTED ? read_file(seg) : n;
}

/* Handles an error of the front segment: tells its owner and ends the connection. */
static int send_failed(ta_conn *c, int error)
{
    /* A truncated response must not look complete: RST, unless the peer did that already. */
    if (error != TA_ECLOSED && c->segs && c->segs->kind == SEG_FILE) {
        c->queued = 0;
        pop_seg(c, error);
    }
    ta_conn_fail(c, error, true);
    return TA_ECLOSED;
}

static int send_loop(ta_conn *c)
{
    size_t budget = SEND_BUDGET;
    while (c->queued) {
        ssize_t n;
        size_t want = SIZE_MAX;
        ta_conn_seg *seg = c->segs;
        if (seg && seg->kind == SEG_FILE && seg->buf.len == 0) {
            n = send_file(c, seg);
            if (n == 0)
                continue;
            if (n > 0) {
                progressed(c, (size_t)n);
                c->queued -= (size_t)n;
                if (seg->file.left == 0)
                    pop_seg(c, TA_OK);
            }
        } else {
            struct iovec iov[TA_TRANSPORT_IOV];
            int count = gather(c, iov, &want);
            TA_ASSERT(count > 0 && count <= TA_TRANSPORT_IOV);
            n = c->transport->ops->writev(c->transport, iov, count);
            TA_ASSERT(n <= (ssize_t)want && n != 0);
            if (n > 0) {
                progressed(c, (size_t)n);
                advance(c, (size_t)n);
            }
        }
        if (n == TA_AGAIN)
            return blocked(c);
        if (n < 0)
            return send_failed(c, (int)n);
        if (c->closed)
            return TA_ECLOSED; /* by what pop_seg called */
        /* A plain socket that took a part is full: another call would only confirm it. */
        if (plain(c) && want != SIZE_MAX && (size_t)n < want)
            return blocked(c);
        if ((size_t)n >= budget)
            return c->queued ? blocked(c) : TA_OK; /* it is not: continues in the next batch */
        budget -= (size_t)n;
    }
    return TA_OK;
}

int ta_conn_send_queue(ta_conn *c)
{
    if (c->closed)
        return TA_ECLOSED;
    if (c->sending || c->state == CONN_OPENING)
        return c->queued ? TA_AGAIN : TA_OK;
    c->sending = true;
    int err = send_loop(c);
    c->sending = false;
    if (err != TA_OK)
        return err;
    ta_bufpool_give(&c->group->pool, &c->out);
    ta_timer_disarm(&c->progress);
    if (c->write_blocked) {
        c->write_blocked = false;
        ta_conn_update_events(c);
        if (c->closed)
            return TA_ECLOSED;
    }
    /* on_drain may be due, and this may not be the place for upcalls */
    if (c->want_drain)
        ta_conn_schedule(c);
    return TA_OK;
}

void ta_conn_tell_drain(ta_conn *c)
{
    if (c->want_drain && c->state == CONN_OPEN &&
        c->queued <= ta_conn_group_cfg(c->group)->write_low) {
        c->want_drain = false;
        if (c->ops->on_drain)
            c->ops->on_drain(c);
    }
}

/* Returns what the caller gets after something was queued. */
static int queued(ta_conn *c)
{
    const ta_conn_cfg *cfg = ta_conn_group_cfg(c->group);
    if (c->queued >= cfg->write_high && !c->write_blocked && ta_conn_send_queue(c) == TA_ECLOSED)
        return TA_ECLOSED;
    if (c->queued && !c->write_blocked)
        ta_conn_schedule(c);
    if (c->queued >= cfg->write_high) {
        c->want_drain = true;
        return TA_AGAIN;
    }
    return TA_OK;
}

/* -- what the protocol calls ---------------------------------------------------------------- */

char *ta_conn_reserve(ta_conn *c, size_t n)
{
    if (!writable(c))
        return NULL;
    if (!c->out.data && n <= c->group->pool.size && ta_bufpool_take(&c->group->pool, &c->out) < 0)
        goto fail;
    char *to = ta_buf_reserve(&c->out, n);
    if (to)
        return to;
fail:
    (void)no_memory(c);
    return NULL;
}

int ta_conn_commit(ta_conn *c, size_t n)
{
    if (!writable(c))
        return TA_ECLOSED;
    TA_ASSERT(n <= c->out.cap - c->out.off - c->out.len); /* what ta_conn_reserve gave */
    ta_buf_commit(&c->out, n);
    c->queued += n;
    return queued(c);
}

/* Sends from the caller's memory if nothing is queued before it.  Returns how much was sent, or <
 * 0. */
static ssize_t send_direct(ta_conn *c, const struct iovec *iov, int n)
{
    if (c->queued || c->write_blocked || c->sending || c->state != CONN_OPEN)
        return 0;
    ssize_t sent = c->transport->ops->writev(c->transport, iov, n);
    if (sent == TA_AGAIN)
        return 0; /* the queue will find out again, and watch for it */
    if (sent < 0)
        return send_failed(c, (int)sent);
    progressed(c, (size_t)sent);
    return sent;
}

/* All was sent at once: a peer that reads this fast must not keep the others from their turn. */
static int sent_at_once(ta_conn *c, size_t n)
{
    c->turn += n;
    if (c->turn < SEND_BUDGET)
        return TA_OK;
    c->want_drain = true;
    ta_conn_schedule(c);
    return TA_AGAIN;
}

int ta_conn_write(ta_conn *c, const void *data, size_t len)
{
    ta_str rest = ta_str_of(data, len);
    bool full = false;
    if (!writable(c))
        return TA_ECLOSED;
    if (len == 0)
        return TA_OK;
    /* Only a plain socket may be given other bytes at the next try. */
    if (len >= SEND_NOW && plain(c)) {
        if (c->queued && !c->write_blocked && ta_conn_send_queue(c) == TA_ECLOSED)
            return TA_ECLOSED;
        struct iovec iov = {(void *)data, len};
        ssize_t sent = send_direct(c, &iov, 1);
        if (sent < 0)
            return (int)sent;
        if ((size_t)sent == len)
            return sent_at_once(c, len);
        full = sent > 0;
        rest = ta_str_skip(rest, (size_t)sent);
    }
    char *to = ta_conn_reserve(c, rest.len);
    if (!to)
        return TA_ENOMEM;
    memcpy(to, rest.ptr, rest.len);
    if (full) { /* another call of the socket is not necessary to know */
        ta_buf_commit(&c->out, rest.len);
        c->queued += rest.len;
        return blocked(c) == TA_ECLOSED ? TA_ECLOSED : queued(c);
    }
    return ta_conn_commit(c, rest.len);
}

/* Queues `data`, which stays where it is until release(arg): exactly once, in any outcome, maybe
 * before this returns, maybe as late as in ta_conn_close. */
static int queue_ref(ta_conn *c, ta_str data, void (*release)(void *arg), void *arg)
{
    TA_ASSERT(release && data.len);
    ta_conn_seg *seg = seal_out(c) == TA_OK ? push_seg(c, SEG_REF, arg) : NULL;
    if (!seg) {
        release(arg);
        return no_memory(c);
    }
    seg->ref.data = data;
    seg->ref.release = release;
    c->queued += data.len;
    if (!c->write_blocked && ta_conn_send_queue(c) == TA_ECLOSED)
        return TA_ECLOSED;
    return queued(c);
}

/* Sends c->out, of `data` what is one turn's share, and behind all of it `tail`.  Returns how much
 * of the two was sent, or < 0; *full: no more can be sent in this turn. */
static ssize_t send_behind_out(ta_conn *c, ta_str data, ta_str tail, bool *full)
{
    struct iovec iov[3];
    int count = 0;
    size_t before = c->out.len, share = TA_MIN(data.len, (size_t)SEND_BUDGET);
    if (before)
        iov[count++] = (struct iovec){(void *)ta_buf_str(&c->out).ptr, before};
    iov[count++] = (struct iovec){(void *)data.ptr, share};
    if (tail.len && share == data.len) {
        iov[count++] = (struct iovec){(void *)tail.ptr, tail.len};
        share += tail.len;
    }
    ssize_t n = c->transport->ops->writev(c->transport, iov, count);
    *full = n < (ssize_t)(before + share) || share < data.len;
    if (n == TA_AGAIN)
        return 0;
    if (n < 0)
        return send_failed(c, (int)n);
    progressed(c, (size_t)n);
    before = TA_MIN(before, (size_t)n);
    ta_buf_consume(&c->out, before);
    c->queued -= before;
    return n - (ssize_t)before;
}

/* Queues what was not sent. */
static int queue_lent(ta_conn *c, ta_str data, const ta_lender *from)
{
    void *kept = !from || data.len < REF_MIN ? NULL : from->keep(from->owner);
    if (kept)
        return queue_ref(c, data, from->release, kept);
    return ta_conn_write(c, data.ptr, data.len);
}

int ta_conn_write_lent(ta_conn *c, ta_str data, ta_str tail, const ta_lender *from)
{
    size_t sent = 0;
    if (!writable(c))
        return TA_ECLOSED;
    if (plain(c) && c->state == CONN_OPEN && !c->segs && !c->write_blocked && !c->sending) {
        bool full;
        ssize_t n = send_behind_out(c, data, tail, &full);
        if (n < 0)
            return (int)n;
        sent = (size_t)n;
        if (sent == data.len + tail.len) {
            ta_bufpool_give(&c->group->pool, &c->out);
            if (c->want_drain)
                ta_conn_schedule(c);
            return sent_at_once(c, sent);
        }
        if (full && blocked(c) == TA_ECLOSED)
            return TA_ECLOSED;
    }
    int err = TA_OK;
    if (sent < data.len) {
        err = queue_lent(c, ta_str_skip(data, sent), from);
        sent = data.len;
    }
    tail = ta_str_skip(tail, sent - data.len);
    if (tail.len && (err == TA_OK || err == TA_AGAIN))
        err = ta_conn_write(c, tail.ptr, tail.len);
    return err;
}

int ta_conn_sendfile(ta_conn *c, int fd, int64_t offset, uint64_t len,
                     void (*done)(void *arg, int error), void *arg)
{
    if (!writable(c)) {
        finish_file(fd, done, arg, TA_ECLOSED);
        return TA_ECLOSED;
    }
    if (len == 0) {
        finish_file(fd, done, arg, TA_OK);
        return TA_OK;
    }
    ta_conn_seg *seg = seal_out(c) == TA_OK ? push_seg(c, SEG_FILE, arg) : NULL;
    if (!seg) {
        finish_file(fd, done, arg, TA_ECLOSED);
        return no_memory(c);
    }
    seg->file.fd = fd;
    seg->file.at = offset;
    seg->file.left = len;
    seg->file.done = done;
    c->queued += (size_t)len;
    return queued(c);
}

int ta_conn_flush(ta_conn *c)
{
    if (c->closed)
        return TA_ECLOSED;
    return c->write_blocked ? TA_AGAIN : ta_conn_send_queue(c);
}

size_t ta_conn_queued(const ta_conn *c)
{
    return c->queued;
}

size_t ta_conn_unacknowledged(const ta_conn *c)
{
    return c->queued ? c->queued : in_flight(c);
}

void ta_conn_probe(ta_conn *c)
{
    static const int on = 1, idle = 60, every = 15, times = 4;
    int fd = c->transport->fd;
    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every) < 0)
        return; /* no TCP */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
}
