#include "net/wake.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"

struct ta_wake {
    ta_io io;
    ta_loop *loop;                  /* borrowed: outlives us */
    _Atomic(ta_wake_item *) newest; /* a stack; whoever pushes on an empty one wakes the loop */
    atomic_bool noticed;            /* ta_wake_notice has woken the loop, which is on its way */
};

static void signal_fd(int fd)
{
    uint64_t one = 1;
    int saved = errno; /* a signal handler must not change it */
    /* EAGAIN: the counter is full, hence readable.  EINTR can't happen without blocking. */
    (void)!write(fd, &one, sizeof(one));
    errno = saved;
}

/* Runs what is queued, oldest first. */
static void run_items(ta_wake *w)
{
    ta_wake_item *item = atomic_exchange_explicit(&w->newest, NULL, memory_order_acquire);
    ta_wake_item *oldest = NULL;
    while (item) {
        ta_wake_item *next = item->next;
        item->next = oldest;
        oldest = item;
        item = next;
    }
    while (oldest) {
        ta_wake_item *next = oldest->next; /* read before fn: it may free or post the item again */
        TA_ASSERT(oldest->fn);
        oldest->fn(oldest);
        oldest = next;
    }
}

static void on_event(ta_io *io, unsigned events)
{
    (void)events;
    ta_wake *w = TA_CONTAINER_OF(io, ta_wake, io);
    uint64_t count;
    /* Before the queue is taken: a post after that finds it empty and signals again. */
    (void)!read(io->fd, &count, sizeof(count));
    /* After the read: a notice in between needs no signal, as this poll returns because of us.
     * Before it, one might be left without the signal that brings us here again. */
    (void)atomic_exchange_explicit(&w->noticed, false, memory_order_acq_rel);
    run_items(w);
}

ta_wake *ta_wake_new(ta_loop *loop)
{
    ta_wake *w = ta_calloc(1, sizeof(*w));
    if (!w) {
        errno = ENOMEM;
        return NULL;
    }
    w->loop = loop;
    atomic_init(&w->newest, NULL);
    w->io.on_event = on_event;
    w->io.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (w->io.fd < 0)
        goto fail;
    int err = ta_loop_add(loop, &w->io, TA_EV_READ);
    if (err < 0) {
        if (err == TA_ENOMEM)
            errno = ENOMEM;
        goto fail;
    }
    return w;
fail:;
    int saved = errno;
    if (w->io.fd >= 0)
        close(w->io.fd);
    ta_free(w);
    errno = saved;
    return NULL;
}

void ta_wake_free(ta_wake *w)
{
    if (!w)
        return;
    while (atomic_load_explicit(&w->newest, memory_order_relaxed))
        run_items(w);
    ta_loop_del(w->loop, &w->io);
    close(w->io.fd);
    ta_free(w);
}

void ta_wake_post(ta_wake *w, ta_wake_item *item)
{
    ta_wake_item *head = atomic_load_explicit(&w->newest, memory_order_relaxed);
    do {
        item->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&w->newest, &head, item, memory_order_release,
                                                    memory_order_relaxed));
    if (!head)
        signal_fd(w->io.fd);
}

void ta_wake_notice(ta_wake *w)
{
    if (!atomic_exchange_explicit(&w->noticed, true, memory_order_acq_rel))
        signal_fd(w->io.fd);
}

void ta_wake_kick(ta_wake *w)
{
    signal_fd(w->io.fd);
}
