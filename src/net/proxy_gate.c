/* proxy_gate.c -- see proxy_gate.h. */
#include "net/proxy_gate.h"

#include <errno.h>
#include <unistd.h>

#include "base/list.h"
#include "base/mem.h"

struct ta_proxy_gate {
    ta_loop *loop; /* borrowed: outlives us */
    uint32_t timeout_ms;
    const ta_proxy_gate_ops *ops; /* borrowed: static */
    void *ctx;                    /* borrowed */
    ta_list_node waiting;
    size_t count;
};

typedef struct waiter {
    ta_proxy_gate *gate; /* borrowed */
    ta_list_node node;
    ta_io io; /* its fd is owned until it is passed on */
    ta_timer timer;
    struct sockaddr_storage peer;
    socklen_t peer_len;
    size_t have;
    char data[TA_PROXY_HEADER_MAX];
} waiter;

/* Forgets a waiter; its fd is the caller's. */
static void leave(waiter *w)
{
    ta_proxy_gate *gate = w->gate;
    ta_loop_del(gate->loop, &w->io);
    ta_timer_cancel(ta_loop_timers(gate->loop), &w->timer);
    ta_list_remove(&w->node);
    gate->count--;
    ta_free(w);
}

static void drop(waiter *w)
{
    ta_proxy_gate *gate = w->gate;
    int fd = w->io.fd;
    leave(w);
    close(fd);
    gate->ops->on_gone(gate->ctx);
}

static void refuse(waiter *w)
{
    w->gate->ops->on_bad(w->gate->ctx, (struct sockaddr *)&w->peer, w->peer_len);
    drop(w);
}

static void pass(waiter *w, const ta_proxy_peer *named)
{
    ta_proxy_gate *gate = w->gate;
    ta_proxy_peer peer = *named;
    int fd = w->io.fd;
    if (peer.len == 0) {
        peer.addr = w->peer;
        peer.len = w->peer_len;
    }
    leave(w);
    gate->ops->on_peer(gate->ctx, fd, (struct sockaddr *)&peer.addr, peer.len);
}

/* Reads what is there of the header, and no more.  Bytes read, 0: the end, or -1 with errno. */
static ssize_t read_part(waiter *w)
{
    char *to = w->data + w->have;
    size_t want = ta_proxy_header_missing(ta_str_of(w->data, w->have));
    size_t room = sizeof w->data - w->have;
    if (want == 0) { /* to the end of its line, which must be looked for */
        ssize_t seen = recv(w->io.fd, to, room, MSG_PEEK);
        if (seen <= 0)
            return seen;
        const char *end = memchr(to, '\n', (size_t)seen);
        want = end ? (size_t)(end - to) + 1 : (size_t)seen;
    }
    return recv(w->io.fd, to, TA_MIN(want, room), 0);
}

static void on_event(ta_io *io, unsigned events)
{
    (void)events;
    waiter *w = TA_CONTAINER_OF(io, waiter, io);
    for (;;) {
        ssize_t n = read_part(w);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0) { /* it only looked whether we are there */
            drop(w);
            return;
        }
        w->have += (size_t)n;
        TA_ASSERT(w->have <= sizeof w->data);
        ta_proxy_peer peer;
        int rc = ta_proxy_header_parse(ta_str_of(w->data, w->have), &peer);
        if (rc == TA_AGAIN && w->have < sizeof w->data)
            continue;
        if (rc > 0) {
            TA_ASSERT((size_t)rc == w->have);
            pass(w, &peer);
        } else {
            refuse(w);
        }
        return;
    }
}

static void on_expire(ta_timer *timer)
{
    drop(TA_CONTAINER_OF(timer, waiter, timer));
}

ta_proxy_gate *ta_proxy_gate_new(ta_loop *loop, uint32_t timeout_ms, const ta_proxy_gate_ops *ops,
                                 void *ctx)
{
    ta_proxy_gate *gate = ta_calloc(1, sizeof *gate);
    if (gate == NULL)
        return NULL;
    *gate = (ta_proxy_gate){.loop = loop, .timeout_ms = timeout_ms, .ops = ops, .ctx = ctx};
    ta_list_init(&gate->waiting);
    return gate;
}

void ta_proxy_gate_free(ta_proxy_gate *gate)
{
    if (gate == NULL)
        return;
    while (!ta_list_empty(&gate->waiting)) {
        waiter *w = TA_CONTAINER_OF(gate->waiting.next, waiter, node);
        int fd = w->io.fd;
        leave(w);
        close(fd);
    }
    ta_free(gate);
}

int ta_proxy_gate_enter(ta_proxy_gate *gate, int fd, const struct sockaddr *peer, socklen_t len)
{
    waiter *w = ta_malloc(sizeof *w);
    if (w == NULL) {
        close(fd);
        return TA_ENOMEM;
    }
    memset(w, 0, offsetof(waiter, data));
    w->gate = gate;
    w->io = (ta_io){.on_event = on_event, .fd = fd};
    w->timer.on_expire = on_expire;
    w->peer_len = TA_MIN(len, (socklen_t)sizeof w->peer);
    memcpy(&w->peer, peer, w->peer_len);
    int rc = ta_loop_add(gate->loop, &w->io, TA_EV_READ);
    if (rc != TA_OK) {
        ta_free(w);
        close(fd);
        return rc;
    }
    ta_list_push_back(&gate->waiting, &w->node);
    gate->count++;
    if (gate->timeout_ms)
        ta_loop_set_timer(gate->loop, &w->timer, gate->timeout_ms);
    on_event(&w->io, TA_EV_READ); /* it comes with the connection, as a rule */
    return TA_OK;
}

size_t ta_proxy_gate_waiting(const ta_proxy_gate *gate)
{
    return gate->count;
}
