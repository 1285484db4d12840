/*
 * Accepting connections, a bounded number per turn.
 *
 * Out of descriptors (EMFILE, ENFILE) or memory the kernel keeps reporting the socket readable:
 * watching on would be a busy loop.  So a spare descriptor is kept: it is given up, the waiting
 * connection is accepted and closed at once (its client learns it now instead of at a timeout), the
 * spare is taken again, and accepting pauses for a moment.
 *
 * Shared sockets.  The kernel wakes that idle process for a connection which was the first to watch
 * the socket, so that one would get nearly all of them: a process that has accepted moves to the
 * end of the queue by watching anew.  A process that was woken and dies before it accepts leaves a
 * connection that no other was told of; therefore each of the others checks from time to time.  For
 * the same reason a process with no room for a further connection does not watch at all: it must
 * not be woken in the place of one that has.
 */
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/mem.h"

enum { BATCH = 64, RETRY_MS = 100, LOOK_MS = 250 };

struct ta_listener {
    ta_io io;
    ta_loop *loop;              /* borrowed: outlives us */
    const ta_listener_ops *ops; /* borrowed: static */
    void *ctx;                  /* borrowed */
    ta_timer retry;             /* armed while exhausted */
    ta_timer look;              /* shared: the next check for what nobody was told of */
    unsigned batch;
    int spare; /* a spare descriptor for when there is no other; -1: lost */
    bool own, shared, paused, is_tcp, watched;
    bool *freed; /* set when we are freed within our own accept loop */
};

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int watch(ta_listener *l)
{
    int err = ta_loop_add(l->loop, &l->io, l->shared ? TA_EV_READ | TA_EV_SHARED : TA_EV_READ);
    l->watched = err == TA_OK;
    return err;
}

static void unwatch(ta_listener *l)
{
    ta_loop_del(l->loop, &l->io);
    l->watched = false;
}

static void update(ta_listener *l)
{
    bool want = !l->paused && !ta_timer_armed(&l->retry);
    if (want == l->watched)
        return;
    if (!want)
        unwatch(l);
    else if (watch(l) < 0) /* no memory in the kernel: try again later */
        ta_loop_set_timer(l->loop, &l->retry, RETRY_MS);
}

/* Accepted ones inherit it. */
void ta_listener_bound_unsent(ta_listener *l, uint32_t most)
{
    int value = (int)TA_MIN(most, (uint32_t)INT32_MAX);
    if (l->is_tcp)
        (void)setsockopt(l->io.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value));
}

/* Goes to the end of the queue of those who wait for connections; it is told at once if there are
 * some now. */
static void queue_anew(ta_listener *l)
{
    if (!l->watched)
        return;
    unwatch(l);
    update(l);
}

static void on_look(ta_timer *t)
{
    ta_listener *l = TA_CONTAINER_OF(t, ta_listener, look);
    queue_anew(l);
    ta_loop_set_timer(l->loop, &l->look, LOOK_MS);
}

static void on_retry(ta_timer *t)
{
    ta_listener *l = TA_CONTAINER_OF(t, ta_listener, retry);
    if (l->spare < 0)
        l->spare = open_spare();
    update(l);
}

/* Nothing can be accepted now: sheds one waiting connection if that is possible. */
static void exhausted(ta_listener *l, int error_number)
{
    if (l->spare >= 0 && (error_number == EMFILE || error_number == ENFILE)) {
        close(l->spare);
        int fd = accept4(l->io.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            close(fd);
        l->spare = open_spare();
    }
    ta_loop_set_timer(l->loop, &l->retry, RETRY_MS);
    update(l);
    if (l->ops->on_exhausted)
        l->ops->on_exhausted(l, error_number);
}

/* One connection failed, others may not: it was reset in the backlog, or its network is down. */
static bool only_that_one(int err)
{
    switch (err) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM: /* a firewall rule */
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

/* Pauses when there is no room for a further connection.  True: we were freed. */
static bool pause_if_full(ta_listener *l, const bool *freed)
{
    bool full = l->ops->may_accept && !l->ops->may_accept(l);
    if (*freed)
        return true;
    if (full) {
        l->paused = true;
        update(l);
    }
    return false;
}

static void on_event(ta_io *io, unsigned events)
{
    (void)events;
    ta_listener *l = TA_CONTAINER_OF(io, ta_listener, io);
    bool freed = false, took = false;
    l->freed = &freed;
    for (unsigned i = 0; i < l->batch && l->watched; i++) {
        if (pause_if_full(l, &freed))
            return;
        if (!l->watched)
            break;
        union {
            struct sockaddr sa;
            struct sockaddr_storage storage;
        } peer;
        socklen_t len = sizeof(peer);
        int fd = accept4(io->fd, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                break;
            if (only_that_one(errno))
                continue;
            exhausted(l, errno); /* EMFILE, ENFILE, ENOBUFS, ENOMEM, and what we do not know */
            if (freed)
                return;
            break;
        }
        if (l->is_tcp) {
            int on = 1;
            (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        }
        took = true;
        TA_ASSERT(fd >= 0 && !freed);
        l->ops->on_accept(l, fd, &peer.sa, TA_MIN(len, (socklen_t)sizeof(peer)));
        if (freed)
            return;
    }
    if (took && l->shared) {
        if (pause_if_full(l, &freed))
            return;
        queue_anew(l);
    }
    l->freed = NULL;
}

ta_listener *ta_listener_new(ta_loop *loop, int fd, unsigned flags, unsigned batch,
                             const ta_listener_ops *ops, void *ctx)
{
    ta_listener *l = ta_calloc(1, sizeof(*l));
    if (!l) {
        errno = ENOMEM;
        return NULL;
    }
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    *l = (ta_listener){.io = {.on_event = on_event, .fd = fd},
                       .loop = loop,
                       .ops = ops,
                       .ctx = ctx,
                       .retry = {.on_expire = on_retry},
                       .look = {.on_expire = on_look},
                       .own = flags & TA_LISTENER_OWN,
                       .shared = flags & TA_LISTENER_SHARED,
                       .spare = -1};
    l->batch = batch ? batch : l->shared ? 1 : BATCH;
    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        goto fail;
    l->is_tcp = addr.ss_family == AF_INET || addr.ss_family == AF_INET6;
    l->spare = open_spare();
    int err = watch(l);
    if (err < 0) {
        errno = err == TA_ENOMEM ? ENOMEM : err == TA_EINVAL ? EINVAL : errno;
        goto fail;
    }
    if (l->shared)
        ta_loop_set_timer(loop, &l->look, LOOK_MS);
    return l;
fail:;
    int saved = errno;
    if (l->spare >= 0)
        close(l->spare);
    ta_free(l);
    errno = saved;
    return NULL;
}

void ta_listener_free(ta_listener *l)
{
    if (!l)
        return;
    if (l->freed)
        *l->freed = true;
    ta_timer_cancel(ta_loop_timers(l->loop), &l->retry);
    ta_timer_cancel(ta_loop_timers(l->loop), &l->look);
    if (l->watched)
        ta_loop_del(l->loop, &l->io);
    if (l->spare >= 0)
        close(l->spare);
    if (l->own)
        close(l->io.fd);
    ta_free(l);
}

void ta_listener_resume(ta_listener *l)
{
    l->paused = false;
    update(l);
}

void ta_listener_drain(ta_listener *l, unsigned max)
{
    l->batch = max;
    on_event(&l->io, TA_EV_READ);
}

void *ta_listener_ctx(const ta_listener *l)
{
    return l->ctx;
}
