/* The poll(2) backend: for systems without epoll; the same behaviour, linear in the descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "net/loop_int.h"

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

typedef struct poll_set {
    struct pollfd *fds; /* owned */
    uint32_t *gens;     /* owned; beside fds */
    unsigned n, cap;
    unsigned *where; /* owned: by descriptor number, index in fds + 1; 0: none */
    unsigned nwhere;
    unsigned start; /* where the next scan of the results begins, so that a small batch is fair */
} poll_set;

static int poll_init(ta_loop *loop)
{
    loop->backend = ta_calloc(1, sizeof(poll_set));
    return loop->backend ? TA_OK : TA_ENOMEM;
}

static void poll_free(ta_loop *loop)
{
    poll_set *set = loop->backend;
    ta_free(set->fds);
    ta_free(set->gens);
    ta_free(set->where);
    ta_free(set);
}

static short mask_of(unsigned events, bool foreign)
{
    int mask = 0;
    if (events & TA_EV_READ)
        mask |= foreign ? POLLIN : POLLIN | POLLRDHUP;
    if (events & TA_EV_WRITE)
        mask |= POLLOUT;
    if (events & TA_EV_HUP)
        mask |= POLLRDHUP;
    return (short)mask;
}

static int poll_add(ta_loop *loop, int fd, uint32_t gen, unsigned events, bool foreign)
{
    poll_set *set = loop->backend;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return TA_ESYS;
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) { /* always ready: as epoll, we refuse */
        errno = EPERM;
        return TA_ESYS;
    }
    if ((unsigned)fd >= set->nwhere) {
        unsigned n = TA_MAX(64u, set->nwhere);
        while (n <= (unsigned)fd)
            n *= 2;
        unsigned *where = ta_realloc(set->where, n * sizeof(*where));
        if (!where)
            return TA_ENOMEM;
        memset(where + set->nwhere, 0, (n - set->nwhere) * sizeof(*where));
        set->where = where;
        set->nwhere = n;
    }
    if (set->n == set->cap) {
        unsigned cap = set->cap ? set->cap * 2 : 64;
        struct pollfd *fds = ta_realloc(set->fds, cap * sizeof(*fds));
        if (!fds)
            return TA_ENOMEM;
        set->fds = fds;
        uint32_t *gens = ta_realloc(set->gens, cap * sizeof(*gens));
        if (!gens)
            return TA_ENOMEM;
        set->gens = gens;
        set->cap = cap;
    }
    set->fds[set->n] = (struct pollfd){.fd = fd, .events = mask_of(events, foreign)};
    set->gens[set->n] = gen;
    set->where[fd] = ++set->n;
    return TA_OK;
}

static int poll_mod(ta_loop *loop, int fd, uint32_t gen, unsigned events, bool foreign)
{
    poll_set *set = loop->backend;
    unsigned i = set->where[fd] - 1;
    set->fds[i].events = mask_of(events, foreign);
    set->gens[i] = gen;
    return TA_OK;
}

static int poll_del(ta_loop *loop, int fd)
{
    poll_set *set = loop->backend;
    unsigned i = set->where[fd] - 1, last = set->n - 1;
    if (i != last) {
        set->fds[i] = set->fds[last];
        set->gens[i] = set->gens[last];
        set->where[set->fds[i].fd] = i + 1;
    }
    set->where[fd] = 0;
    set->n--;
    return TA_OK;
}

static int poll_wait(ta_loop *loop, int timeout_ms, ta_event *out, int cap)
{
    poll_set *set = loop->backend;
    int ready = poll(set->fds, set->n, timeout_ms);
    if (ready < 0)
        return TA_ESYS;
    int n = 0;
    unsigned i = set->start < set->n ? set->start : 0;
    for (unsigned k = 0; k < set->n && ready > 0 && n < cap; k++) {
        const struct pollfd *p = &set->fds[i];
        if (p->revents) {
            ready--;
            unsigned events = 0;
            if (p->revents & (POLLIN | POLLPRI))
                events |= TA_EV_READ;
            if (p->revents & POLLOUT)
                events |= TA_EV_WRITE;
            if (p->revents & POLLRDHUP)
                events |= TA_EV_HUP;
            if (p->revents & (POLLERR | POLLHUP | POLLNVAL))
                events |= TA_EV_ERR;
            out[n++] = (ta_event){p->fd, set->gens[i], events};
        }
        if (++i == set->n)
            i = 0;
    }
    set->start = i;
    return n;
}

const ta_backend_ops ta_loop_poll_ops = {
    .init = poll_init,
    .free = poll_free,
    .add = poll_add,
    .mod = poll_mod,
    .del = poll_del,
    .wait = poll_wait,
};
