/* The epoll backend (Linux): level-triggered, one system call a change. */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net/loop_int.h"

static int epoll_init(ta_loop *loop)
{
    loop->fd = epoll_create1(EPOLL_CLOEXEC);
    return loop->fd < 0 ? TA_ESYS : TA_OK;
}

static void epoll_free(ta_loop *loop)
{
    close(loop->fd);
}

static int ctl(ta_loop *loop, int op, int fd, uint32_t gen, unsigned events, bool foreign)
{
    struct epoll_event ev = {.data.u64 = (uint64_t)gen << 32 | (uint32_t)fd};
    if (events & TA_EV_SHARED)
        ev.events |= EPOLLIN | EPOLLEXCLUSIVE; /* which does not go with EPOLLRDHUP */
    else if (events & TA_EV_READ)
        ev.events |= foreign ? EPOLLIN : EPOLLIN | EPOLLRDHUP;
    if (events & TA_EV_WRITE)
        ev.events |= EPOLLOUT;
    if (events & TA_EV_HUP)
        ev.events |= EPOLLRDHUP;
    return epoll_ctl(loop->fd, op, fd, &ev) < 0 ? TA_ESYS : TA_OK;
}

static int epoll_add(ta_loop *loop, int fd, uint32_t gen, unsigned events, bool foreign)
{
    int err = ctl(loop, EPOLL_CTL_ADD, fd, gen, events, foreign);
    /* Registered without our knowledge: its owner closed it while a duplicate kept it alive. */
    if (err < 0 && errno == EEXIST)
        err = ctl(loop, EPOLL_CTL_MOD, fd, gen, events, foreign);
    return err;
}

static int epoll_mod(ta_loop *loop, int fd, uint32_t gen, unsigned events, bool foreign)
{
    return ctl(loop, EPOLL_CTL_MOD, fd, gen, events, foreign);
}

static int epoll_del(ta_loop *loop, int fd)
{
    struct epoll_event unused = {0}; /* kernels before 2.6.9 wanted one */
    return epoll_ctl(loop->fd, EPOLL_CTL_DEL, fd, &unused) < 0 ? TA_ESYS : TA_OK;
}

/* The kernel moves what it reported to the end of its ready list, so a small cap starves nobody. */
static int epoll_wait_(ta_loop *loop, int timeout_ms, ta_event *out, int cap)
{
    struct epoll_event ready[TA_LOOP_BATCH];
    int n = epoll_wait(loop->fd, ready, cap, timeout_ms);
    if (n < 0)
        return TA_ESYS;
    for (int i = 0; i < n; i++) {
        uint32_t ev = ready[i].events;
        unsigned events = 0;
        if (ev & (EPOLLIN | EPOLLPRI))
            events |= TA_EV_READ;
        if (ev & EPOLLOUT)
            events |= TA_EV_WRITE;
        if (ev & EPOLLRDHUP)
            events |= TA_EV_HUP;
        if (ev & (EPOLLERR | EPOLLHUP))
            events |= TA_EV_ERR;
        out[i] = (ta_event){(int)(uint32_t)ready[i].data.u64, (uint32_t)(ready[i].data.u64 >> 32),
                            events};
    }
    return n;
}

const ta_backend_ops ta_loop_epoll = {
    .init = epoll_init,
    .free = epoll_free,
    .add = epoll_add,
    .mod = epoll_mod,
    .del = epoll_del,
    .wait = epoll_wait_,
};
