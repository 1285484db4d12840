/*
 * The life of a connection, and its reading side.
 *
 * Nothing here is freed in the middle of a call: closing only closes the descriptor, and on_close,
 * in which the owner frees the connection, comes from the loop's deferred calls.
 */
#include "net/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/conn_int.h"
#include "net/tcp.h"

enum {
    MIN_ROOM = 2048,   /* less room than this is not worth a system call */
    SINK_ROOM = 65536, /* asked of a sink for one read */
    READ_ROUNDS = 4,   /* reads of one connection before others get their turn */
};

/* -- group ---------------------------------------------------------------------------------- */

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

ta_conn_group *ta_conn_group_new(ta_loop *loop, const ta_conn_cfg *cfg)
{
    ta_conn_group *g = ta_calloc(1, sizeof(*g));
    if (!g)
        return NULL;
    ta_conn_cfg given = cfg ? *cfg : (ta_conn_cfg){0};
    g->loop = loop;
    g->cfg.read_size = TA_MAX(or_default(given.read_size, 16384), (uint32_t)MIN_ROOM * 2);
    g->cfg.read_max = TA_MAX(or_default(given.read_max, 131072), g->cfg.read_size);
    g->cfg.write_high = or_default(given.write_high, 262144);
    g->cfg.write_low =
        TA_MIN(or_default(given.write_low, g->cfg.write_high / 4), g->cfg.write_high - 1);
    g->cfg.write_timeout_ms = or_default(given.write_timeout_ms, 30000);
    g->cfg.write_rate = or_default(given.write_rate, 240);
    g->cfg.linger_ms = or_default(given.linger_ms, 2000);
    g->cfg.linger_bytes = or_default(given.linger_bytes, 1 << 20);
    g->cfg.pool_buffers = or_default(given.pool_buffers, 128);
    ta_bufpool_init(&g->pool, g->cfg.read_size, g->cfg.pool_buffers);
    ta_list_init(&g->conns);
    return g;
}

const ta_conn_cfg *ta_conn_group_cfg(const ta_conn_group *group)
{
    return &group->cfg;
}

/* -- the end -------------------------------------------------------------------------------- */

/* Ends the life of c, which belongs to its owner again in on_close. */
static void finalize(ta_conn *c)
{
    ta_conn_group *g = c->group;
    TA_ASSERT(c->state == CONN_CLOSED && c->closed && c->io.fd < 0 && !c->segs && !c->queued);
    /* c->in stays readable in on_close, which may free c: its memory is freed after that. */
    ta_buf ending[2] = {c->in, c->held};
    c->ending = ending;
    ta_list_remove(&c->node);
    g->count--;
    c->ops->on_close(c, c->reason);
    ta_bufpool_give(&g->pool, &ending[0]);
    ta_bufpool_give(&g->pool, &ending[1]);
}

void ta_conn_keep_input(ta_conn *c, ta_buf keep[2])
{
    TA_ASSERT(c->ending != NULL); /* in on_close */
    for (int i = 0; i < 2; i++) {
        keep[i] = c->ending[i];
        ta_buf_init(&c->ending[i]);
    }
}

void ta_conn_group_free(ta_conn_group *group)
{
    if (!group)
        return;
    while (!ta_list_empty(&group->conns)) {
        ta_conn *c = TA_CONTAINER_OF(group->conns.next, ta_conn, node);
        ta_conn_close(c);
        ta_loop_undefer(c->loop, &c->later);
        finalize(c);
    }
    ta_bufpool_free(&group->pool);
    ta_free(group);
}

void ta_conn_fail(ta_conn *c, int reason, bool rst)
{
    if (c->closed)
        return;
    c->state = CONN_CLOSED;
    c->closed = true;
    c->reason = reason;
    c->sink = NULL;
    c->sink_left = 0;
    if (rst) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(c->io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    ta_loop_del(c->loop, &c->io);
    c->tcp.tls_version = c->transport->tls_version;
    c->tcp.tls_cipher = c->transport->tls_cipher;
    if (c->transport->ops->close)
        c->transport->ops->close(c->transport);
    c->transport = &c->tcp;
    close(c->io.fd);
    c->io.fd = c->tcp.fd = -1;
    ta_timer_cancel(ta_loop_timers(c->loop), &c->deadline);
    ta_timer_cancel(ta_loop_timers(c->loop), &c->progress);
    ta_conn_schedule(c); /* on_close */
    ta_conn_drop_queue(c);
}

void ta_conn_close(ta_conn *c)
{
    ta_conn_fail(c, TA_OK, false);
}

void ta_conn_reset(ta_conn *c)
{
    ta_conn_fail(c, TA_OK, true);
}

void ta_conn_finish(ta_conn *c, bool linger)
{
    if (c->state != CONN_OPEN) {
        if (c->state == CONN_OPENING)
            ta_conn_close(c);
        return;
    }
    TA_ASSERT(!c->closed);
    c->state = CONN_FINISHING;
    c->linger = linger;
    c->linger_left = c->group->cfg.linger_bytes;
    c->sink = NULL;
    c->sink_left = 0;
    ta_timer_disarm(&c->deadline);
    ta_conn_schedule(c);
    if (linger)
        ta_conn_update_events(c);
}

/* -- reading -------------------------------------------------------------------------------- */

static bool reading(const ta_conn *c)
{
    switch (c->state) {
    case CONN_OPEN:
        return !c->read_paused && !c->read_full && !c->eof;
    case CONN_FINISHING:
    case CONN_SHUTTING:
    case CONN_LINGERING:
        return c->linger && !c->eof && c->linger_left;
    default:
        return false;
    }
}

void ta_conn_update_events(ta_conn *c)
{
    unsigned want = 0;
    if (c->closed)
        return;
    if (c->state == CONN_OPENING || reading(c))
        want |= c->transport->read_wants;
    else if (c->state == CONN_OPEN && !c->hup)
        want |= TA_EV_HUP;
    if (c->write_blocked)
        want |= c->transport->write_wants;
    if (TA_UNLIKELY(want != c->io.events) && ta_loop_mod(c->loop, &c->io, want) < 0)
        ta_conn_fail(c, TA_ESYS, true);
}

static bool pinned(const ta_conn *c)
{
    return c->pin_end || c->held.data;
}

/* An idle connection holds no buffer. */
static void release_input(ta_conn *c)
{
    if (c->in.len == 0 && c->pin_end == 0)
        ta_bufpool_give(&c->group->pool, &c->in);
}

static size_t tail(const ta_buf *buf)
{
    return buf->cap - buf->off - buf->len;
}

/*
 * c->in has too little room, and bytes before c->in.off are pinned: moves the unread ones up to
 * them, or, where that gains too little, to another buffer.
 */
static int make_room_pinned(ta_conn *c)
{
    size_t room = c->in.cap - c->pin_end - c->in.len;
    if (room >= MIN_ROOM && room >= c->in.len) {
        memmove(c->in.data + c->pin_end, c->in.data + c->in.off, c->in.len);
        c->in.off = c->pin_end;
        return TA_OK;
    }
    ta_buf fresh = {0};
    if (c->in.len + MIN_ROOM <= c->group->pool.size) {
        if (ta_bufpool_take(&c->group->pool, &fresh) < 0)
            return TA_ENOMEM;
    } else if (!ta_buf_reserve(&fresh, c->in.len + MIN_ROOM)) {
        return TA_ENOMEM;
    }
    if (c->in.len)
        memcpy(fresh.data, c->in.data + c->in.off, c->in.len);
    fresh.len = c->in.len;
    c->held = c->in;
    c->in = fresh;
    c->pin_end = 0;
    return TA_OK;
}

/* Returns where to read to.  NULL: out of memory. */
static char *read_room(ta_conn *c, size_t *room)
{
    if (c->sink_left) {
        size_t n = tail(c->sink);
        if (n == 0 || !c->sink->data) {
            if (!ta_buf_reserve(c->sink, (size_t)TA_MIN(c->sink_left, (uint64_t)SINK_ROOM)))
                return NULL;
            n = tail(c->sink);
        }
        *room = (size_t)TA_MIN(c->sink_left, (uint64_t)n);
        return c->sink->data + c->sink->off + c->sink->len;
    }
    ta_buf *in = &c->in;
    if (!in->data) {
        if (ta_bufpool_take(&c->group->pool, in) < 0)
            return NULL;
    } else if (tail(in) < MIN_ROOM) {
        if (c->pin_end ? make_room_pinned(c) < 0 : ta_buf_reserve(in, MIN_ROOM) == NULL)
            return NULL;
    }
    size_t limit = c->group->cfg.read_max - in->len; /* > 0, else read_full */
    *room = TA_MIN(tail(in), limit);
    return in->data + in->off + in->len;
}

static void on_bytes(ta_conn *c, size_t n)
{
    if (c->sink_left) {
        ta_buf_commit(c->sink, n);
        c->sink_left -= n;
        if (c->sink_left == 0)
            c->sink = NULL;
    } else {
        ta_buf_commit(&c->in, n);
        /* before the upcall, so that consuming there takes it back */
        c->read_full = c->in.len >= c->group->cfg.read_max;
    }
    c->ops->on_data(c);
}

static size_t pending(const ta_conn *c)
{
    return c->transport->ops->pending ? c->transport->ops->pending(c->transport) : 0;
}

static void on_fin(ta_conn *c)
{
    c->eof = c->hup = true;
    if (c->ops->on_eof)
        c->ops->on_eof(c);
    else
        ta_conn_finish(c, false);
}

/* Reads and drops what the peer still sends, until its FIN. */
static void drain_input(ta_conn *c)
{
    char trash[16384];
    for (int round = 0; round < READ_ROUNDS && reading(c); round++) {
        ssize_t n =
            c->transport->ops->read(c->transport, trash, TA_MIN(sizeof(trash), c->linger_left));
        if (n == TA_AGAIN)
            break;
        if (n <= 0) {
            c->eof = true;
            if (n < 0) { /* reset: there is nobody to tell */
                ta_conn_fail(c, c->queued ? TA_ECLOSED : TA_OK, false);
                return;
            }
        } else {
            c->bytes_in += (uint64_t)n;
            c->linger_left -= (uint32_t)n;
        }
    }
    if (c->state == CONN_LINGERING && (c->eof || !c->linger_left))
        ta_conn_fail(c, TA_OK, false);
    else
        ta_conn_update_events(c);
}

static void read_input(ta_conn *c)
{
    for (int round = 0; reading(c); round++) {
        if (c->state != CONN_OPEN) {
            drain_input(c);
            return;
        }
        if (round == READ_ROUNDS) {
            if (pending(c))
                ta_conn_schedule(c); /* the descriptor will not tell of these */
            break;
        }
        size_t room;
        char *to = read_room(c, &room);
        if (!to) {
            ta_conn_fail(c, TA_ENOMEM, true);
            return;
        }
        ssize_t n = c->transport->ops->read(c->transport, to, room);
        if (n == TA_AGAIN)
            break;
        if (n < 0) {
            ta_conn_fail(c, (int)n, false);
            return;
        }
        if (n == 0) {
            on_fin(c);
            /* What is watched changes when the end is reported again: mostly it is closed by then.
             */
            if (!c->closed)
                release_input(c);
            return;
        }
        TA_ASSERT((size_t)n <= room);
        c->bytes_in += (uint64_t)n;
        on_bytes(c, (size_t)n);
        /* A short read emptied the socket: the next one would only say so. */
        if ((size_t)n < room && !pending(c))
            break;
    }
    if (c->closed)
        return;
    release_input(c);
    ta_conn_update_events(c);
}

bool ta_conn_look(ta_conn *c)
{
    uint64_t before = c->bytes_in;
    if (c->state == CONN_OPEN && reading(c))
        read_input(c);
    return c->bytes_in != before;
}

void ta_conn_consume(ta_conn *c, size_t n)
{
    ta_buf *in = &c->in;
    n = TA_MIN(n, in->len);
    in->off += n;
    in->len -= n;
    if (in->len == 0)
        in->off = c->pin_end;
    if (TA_UNLIKELY(c->read_full) && in->len < c->group->cfg.read_max) {
        c->read_full = false;
        ta_conn_update_events(c);
    }
}

void ta_conn_consume_pinned(ta_conn *c, size_t n)
{
    TA_ASSERT(!pinned(c)); /* one at a time */
    n = TA_MIN(n, c->in.len);
    if (n == 0)
        return;
    c->pin_end = c->in.off + n;
    ta_conn_consume(c, n);
}

void ta_conn_unpin(ta_conn *c)
{
    if (!pinned(c))
        return;
    ta_bufpool_give(&c->group->pool, &c->held);
    c->pin_end = 0;
    if (c->in.len == 0)
        c->in.off = 0;
    release_input(c);
}

void ta_conn_set_sink(ta_conn *c, ta_buf *sink, uint64_t n)
{
    TA_ASSERT(!n || (sink && !c->sink_left)); /* one sink at a time */
    if (c->state != CONN_OPEN || c->in.len)
        n = 0;
    c->sink = n ? sink : NULL;
    c->sink_left = n;
}

uint64_t ta_conn_sink_left(const ta_conn *c)
{
    return c->sink_left;
}

void ta_conn_pause(ta_conn *c)
{
    c->read_paused = true; /* what is watched changes when the peer does send */
}

void ta_conn_resume(ta_conn *c)
{
    if (!c->read_paused)
        return;
    c->read_paused = false;
    ta_conn_update_events(c);
    if (!c->closed && reading(c) && pending(c))
        ta_conn_schedule(c);
}

/* -- events --------------------------------------------------------------------------------- */

/* FINISHING, and all is sent. */
static void after_last_byte(ta_conn *c)
{
    TA_ASSERT((c->state == CONN_FINISHING || c->state == CONN_SHUTTING) && !c->queued);
    if (c->eof || !c->linger) {
        if (c->transport->ops->shutdown && c->transport != &c->tcp)
            (void)c->transport->ops->shutdown(c->transport); /* if it can go now */
        ta_conn_fail(c, TA_OK, false);
        return;
    }
    if (c->state != CONN_SHUTTING) {
        c->state = CONN_SHUTTING;
        ta_loop_set_timer(c->loop, &c->progress, c->group->cfg.linger_ms);
    }
    int err = c->transport->ops->shutdown(c->transport);
    c->write_blocked = err == TA_AGAIN;
    if (err < 0 && err != TA_AGAIN) {
        ta_conn_fail(c, TA_OK, false);
        return;
    }
    if (err == TA_OK) {
        /* That was the transport's own end; the FIN behind it ends the socket's side too. */
        if (c->transport != &c->tcp)
            (void)shutdown(c->io.fd, SHUT_WR);
        c->state = CONN_LINGERING;
    }
    drain_input(c);
}

static void send_output(ta_conn *c)
{
    if (c->state == CONN_SHUTTING) {
        after_last_byte(c);
        return;
    }
    if (ta_conn_send_queue(c) == TA_ECLOSED)
        return;
    ta_conn_tell_drain(c);
    if (c->state == CONN_FINISHING && c->queued == 0)
        after_last_byte(c);
}

static void handshake(ta_conn *c)
{
    TA_ASSERT(c->state == CONN_OPENING);
    int err = c->transport->ops->handshake(c->transport);
    if (err == TA_AGAIN) {
        ta_conn_update_events(c);
        return;
    }
    if (err < 0) {
        ta_conn_fail(c, err, false);
        return;
    }
    c->state = CONN_OPEN;
    if (c->ops->on_open)
        c->ops->on_open(c);
    if (c->closed)
        return;
    ta_conn_update_events(c);
    ta_conn_schedule(c); /* what on_open wrote; what came with the handshake */
}

static void on_io(ta_io *io, unsigned events)
{
    ta_conn *c = TA_CONTAINER_OF(io, ta_conn, io);
    if (c->state == CONN_OPENING) {
        handshake(c);
        return;
    }
    if (c->write_blocked && events & (c->transport->write_wants | TA_EV_ERR)) {
        send_output(c);
        if (c->closed)
            return;
    }
    uint64_t before = c->bytes_in;
    if (reading(c)) {
        if (events & (c->transport->read_wants | TA_EV_HUP | TA_EV_ERR))
            read_input(c);
        if (c->closed || !(events & TA_EV_ERR) || c->bytes_in != before || c->eof)
            return;
        if (!(c->transport->read_wants & TA_EV_READ))
            return; /* it has to write first: then it can tell what came before the end */
    }
    if (events & TA_EV_ERR) { /* reset, or both sides closed, and nothing to read first */
        ta_conn_fail(c, TA_ECLOSED, false);
        return;
    }
    if (events & TA_EV_HUP && !c->hup && c->state == CONN_OPEN) {
        c->hup = true;
        if (c->ops->on_hup)
            c->ops->on_hup(c);
    }
    ta_conn_update_events(c);
}

static void on_later(ta_defer *item)
{
    ta_conn *c = TA_CONTAINER_OF(item, ta_conn, later);
    if (c->closed) {
        finalize(c);
        return;
    }
    if (c->state == CONN_OPENING)
        return;
    c->turn = 0;
    if (!c->write_blocked)
        send_output(c);
    if (!c->closed && reading(c) && pending(c))
        read_input(c);
}

static void on_deadline(ta_timer *t)
{
    ta_conn *c = TA_CONTAINER_OF(t, ta_conn, deadline);
    if (c->ops->on_timeout)
        c->ops->on_timeout(c);
    else
        ta_conn_close(c);
}

static void on_no_progress(ta_timer *t)
{
    ta_conn *c = TA_CONTAINER_OF(t, ta_conn, progress);
    if (c->state == CONN_SHUTTING || c->state == CONN_LINGERING)
        ta_conn_fail(c, TA_OK, false);
    else if (!ta_conn_pace(c))
        ta_conn_fail(c, TA_ETIMEOUT, true);
}

/* -- the beginning, and the rest ------------------------------------------------------------ */

int ta_conn_open(ta_conn *c, ta_conn_group *group, int fd, const struct sockaddr *peer,
                 socklen_t peer_len, ta_transport *transport, const ta_conn_ops *ops, void *proto)
{
    *c = (ta_conn){
        .ops = ops,
        .proto = proto,
        .group = group,
        .loop = group->loop,
        .io = {.on_event = on_io, .fd = fd},
        .deadline = {.on_expire = on_deadline},
        .progress = {.on_expire = on_no_progress},
        .later = {.fn = on_later},
    };
    ta_tcp_init(&c->tcp, fd);
    TA_ASSERT(ops->on_data && ops->on_close);
    TA_ASSERT(!transport || (transport->fd == fd && transport->ops->shutdown));
    c->transport = transport ? transport : &c->tcp;
    c->state = c->transport->ops->handshake ? CONN_OPENING : CONN_OPEN;
    if (peer && (peer->sa_family == AF_INET || peer->sa_family == AF_INET6))
        memcpy(&c->peer, peer, TA_MIN((size_t)peer_len, sizeof(c->peer)));
    int err = ta_loop_add(c->loop, &c->io, c->transport->read_wants);
    if (err < 0)
        return err;
    ta_list_push_back(&group->conns, &c->node);
    group->count++;
    if (c->state == CONN_OPEN && ops->on_open)
        ops->on_open(c);
    return TA_OK;
}

void ta_conn_set_ops(ta_conn *c, const ta_conn_ops *ops, void *proto)
{
    c->ops = ops;
    c->proto = proto;
}

void ta_conn_set_deadline(ta_conn *c, uint32_t ms)
{
    if (c->state <= CONN_OPEN)
        ta_loop_set_timer(c->loop, &c->deadline, ms);
}

void ta_conn_clear_deadline(ta_conn *c)
{
    ta_timer_disarm(&c->deadline);
}

/* An IPv4 address; also when it comes through a dual-stack socket. */
static void address_text(const ta_conn_addr *addr, char *text, uint16_t *port)
{
    if (addr->sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &addr->v4.sin_addr, text, INET6_ADDRSTRLEN);
        *port = ntohs(addr->v4.sin_port);
    } else if (addr->sa.sa_family == AF_INET6) {
        const struct in6_addr *a = &addr->v6.sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(a))
            inet_ntop(AF_INET, a->s6_addr + 12, text, INET6_ADDRSTRLEN);
        else
            inet_ntop(AF_INET6, a, text, INET6_ADDRSTRLEN);
        *port = ntohs(addr->v6.sin6_port);
    }
}

void ta_conn_peer(ta_conn *c, ta_str *host, uint16_t *port)
{
    if (!c->peer_text[0])
        address_text(&c->peer, c->peer_text, &c->peer_port);
    *port = c->peer_port;
    *host = ta_str_of(c->peer_text, strlen(c->peer_text));
}

void ta_conn_local(ta_conn *c, ta_str *host, uint16_t *port)
{
    /* A closed one cannot be asked any more. */
    if (!c->local_text[0] && c->io.fd >= 0) {
        ta_conn_addr addr = {0};
        socklen_t len = sizeof(addr);
        if (getsockname(c->io.fd, &addr.sa, &len) == 0)
            address_text(&addr, c->local_text, &c->local_port);
    }
    *host = ta_str_of(c->local_text, strlen(c->local_text));
    *port = c->local_port;
}

ta_str ta_conn_alpn(const ta_conn *c)
{
    return c->transport->ops->alpn ? c->transport->ops->alpn(c->transport) : ta_str_of(NULL, 0);
}

bool ta_conn_secure(const ta_conn *c)
{
    return c->transport->secure;
}
