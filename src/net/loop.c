/*
 * The loop: who owns which descriptor, and how one batch is served.
 *
 * Stale events.  A callback may close descriptors whose events wait further on in the same batch,
 * and new ones may get the same numbers.  Each registration has a generation, which comes back
 * with its events; one that differs from the slot's is dropped.
 */
#include "net/loop.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "net/loop_int.h"

enum {
    MAX_FD = 1 << 26, /* far above any RLIMIT_NOFILE */
    DEFER_ROUNDS = 4, /* of deferred calls that were deferred by deferred calls ... */
    MOST_ROUNDS = 64, /* ... and while the batch has time left */
    BUDGET_US = 5000, /* of one batch */
    CLOCK_EVERY = 4,  /* callbacks between two readings of the clock */
};

/* Tells other threads what the loop does from now on, by a plain store. */
static inline void tell_pulse(ta_loop *loop, bool waits)
{
    atomic_store_explicit(&loop->pulse, loop->now * 2 + waits, memory_order_relaxed);
}

/* The loop comes back to its events at `now`: for how long was it away? */
static inline void note_return(ta_loop *loop, uint64_t now)
{
    uint64_t pulse = atomic_load_explicit(&loop->pulse, memory_order_relaxed);
    if (pulse == 0 || pulse & 1 || TA_LIKELY(now <= pulse / 2))
        return;
    uint64_t away = now - pulse / 2;
    uint64_t highest = atomic_load_explicit(&loop->highest, memory_order_relaxed);
    while (away > highest &&
           !atomic_compare_exchange_weak_explicit(&loop->highest, &highest, away,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* While a thread is in ta_loop_poll, no other one may touch the loop. */
static inline void assert_owner(const ta_loop *loop)
{
#ifndef NDEBUG
    TA_ASSERT(!loop->in_poll || pthread_equal(loop->poller, pthread_self()));
#else
    (void)loop;
#endif
}

ta_loop *ta_loop_new(ta_backend backend)
{
    ta_loop *loop = ta_calloc(1, sizeof(*loop));
    if (!loop)
        goto no_memory;
    loop->fd = loop->timer_fd = -1;
    ta_list_init(&loop->deferred);
    ta_list_init(&loop->turns);
    ta_list_init(&loop->last);
    ta_list_init(&loop->next);
    loop->budget_us = BUDGET_US;
    loop->now = ta_clock_ms();
    tell_pulse(loop, true);
    loop->timers = ta_timers_new(loop->now);
    if (!loop->timers)
        goto no_memory;
    loop->ops = backend == TA_BACKEND_POLL ? &ta_loop_poll_ops : &ta_loop_epoll;
    int err = loop->ops->init(loop);
    if (err < 0) {
        int saved = err == TA_ENOMEM ? ENOMEM : errno;
        ta_timers_free(loop->timers);
        ta_free(loop);
        errno = saved;
        return NULL;
    }
    return loop;
no_memory:
    ta_free(loop);
    errno = ENOMEM;
    return NULL;
}

void ta_loop_free(ta_loop *loop)
{
    if (!loop)
        return;
    ta_list_node *const lists[] = {&loop->deferred, &loop->turns, &loop->last, &loop->next};
    for (size_t i = 0; i < TA_COUNTOF(lists); i++) {
        while (!ta_list_empty(lists[i]))
            ta_list_remove(lists[i]->next);
    }
    if (loop->timer_fd >= 0)
        close(loop->timer_fd);
    loop->ops->free(loop);
    ta_timers_free(loop->timers);
    ta_free(loop->slots);
    ta_free(loop);
}

/* -- registration --------------------------------------------------------------------------- */

static ta_slot *slot_of(const ta_loop *loop, int fd, ta_slot_kind kind)
{
    if (fd < 0 || (unsigned)fd >= loop->nslots || loop->slots[fd].kind != kind)
        return NULL;
    return &loop->slots[fd];
}

/* Whether the system still watches what we registered tells a lent descriptor from a new one. */
static void void_if_closed(ta_loop *loop, int fd, ta_slot *slot)
{
    if (loop->ops->mod(loop, fd, slot->gen, slot->events, false) == TA_OK)
        return;
    slot->io->events = 0;
    slot->kind = TA_SLOT_FREE;
    slot->io = NULL;
    slot->gen++;
}

static int add(ta_loop *loop, ta_io *io, int fd, unsigned events)
{
    assert_owner(loop);
    if (fd < 0 || fd >= MAX_FD)
        return TA_EINVAL;
    if ((unsigned)fd >= loop->nslots) {
        unsigned n = TA_MAX(64u, loop->nslots);
        while (n <= (unsigned)fd)
            n *= 2;
        ta_slot *slots = ta_realloc(loop->slots, n * sizeof(*slots));
        if (!slots)
            return TA_ENOMEM;
        memset(slots + loop->nslots, 0, (n - loop->nslots) * sizeof(*slots));
        loop->slots = slots;
        loop->nslots = n;
    }
    ta_slot *slot = &loop->slots[fd];
    bool foreign = io == NULL;
    if (slot->kind == TA_SLOT_OWN && slot->io->lent)
        void_if_closed(loop, fd, slot);
    /* A number of ours in use is a mistake of ours.  A foreign one whose owner closed it without a
     * word returns with a new descriptor: the old registration is void. */
    if (slot->kind == TA_SLOT_OWN || (slot->kind == TA_SLOT_FOREIGN && foreign))
        return TA_EINVAL;
    if (slot->kind == TA_SLOT_FOREIGN) {
        (void)loop->ops->del(loop, fd);
        slot->kind = TA_SLOT_FREE;
    }
    int err = loop->ops->add(loop, fd, slot->gen + 1, events, foreign);
    if (err < 0)
        return err;
    slot->io = io;
    slot->gen++;
    slot->kind = foreign ? TA_SLOT_FOREIGN : TA_SLOT_OWN;
    slot->events = (uint8_t)events;
    return TA_OK;
}

static int mod(ta_loop *loop, int fd, ta_slot *slot, unsigned events)
{
    assert_owner(loop);
    if (slot->events == events)
        return TA_OK;
    int err = loop->ops->mod(loop, fd, slot->gen, events, slot->kind == TA_SLOT_FOREIGN);
    if (err < 0)
        return err;
    slot->events = (uint8_t)events;
    return TA_OK;
}

static int del(ta_loop *loop, int fd, ta_slot *slot)
{
    assert_owner(loop);
    TA_ASSERT(slot->kind != TA_SLOT_FREE);
    slot->kind = TA_SLOT_FREE;
    slot->io = NULL;
    slot->gen++;
    return loop->ops->del(loop, fd);
}

enum { EV_ASKABLE = TA_EV_READ | TA_EV_WRITE | TA_EV_HUP };

int ta_loop_add(ta_loop *loop, ta_io *io, unsigned events)
{
    if (events & ~(unsigned)(EV_ASKABLE | TA_EV_SHARED))
        return TA_EINVAL;
    if (events & TA_EV_SHARED && events != (TA_EV_READ | TA_EV_SHARED))
        return TA_EINVAL;
    int err = add(loop, io, io->fd, events);
    if (err == TA_OK)
        io->events = events;
    return err;
}

int ta_loop_mod(ta_loop *loop, ta_io *io, unsigned events)
{
    ta_slot *slot = slot_of(loop, io->fd, TA_SLOT_OWN);
    if (!slot || slot->io != io || (slot->events | events) & ~(unsigned)EV_ASKABLE)
        return TA_EINVAL;
    int err = mod(loop, io->fd, slot, events);
    if (err == TA_OK)
        io->events = events;
    return err;
}

void ta_loop_del(ta_loop *loop, ta_io *io)
{
    ta_slot *slot = slot_of(loop, io->fd, TA_SLOT_OWN);
    if (slot && slot->io == io)
        (void)del(loop, io->fd, slot);
    io->events = 0;
}

int ta_loop_add_foreign(ta_loop *loop, int fd, unsigned events)
{
    if (events & ~(unsigned)(TA_EV_READ | TA_EV_WRITE))
        return TA_EINVAL;
    return add(loop, NULL, fd, events);
}

int ta_loop_mod_foreign(ta_loop *loop, int fd, unsigned events)
{
    if (events & ~(unsigned)(TA_EV_READ | TA_EV_WRITE))
        return TA_EINVAL;
    ta_slot *slot = slot_of(loop, fd, TA_SLOT_FOREIGN);
    return slot ? mod(loop, fd, slot, events) : TA_ENOTFOUND;
}

int ta_loop_del_foreign(ta_loop *loop, int fd)
{
    ta_slot *slot = slot_of(loop, fd, TA_SLOT_FOREIGN);
    return slot ? del(loop, fd, slot) : TA_ENOTFOUND;
}

/* -- deferred calls, timers ----------------------------------------------------------------- */

static bool has_deferred(const ta_loop *loop)
{
    return !ta_list_empty(&loop->deferred) || !ta_list_empty(&loop->turns) ||
           !ta_list_empty(&loop->last);
}

/* The next batch has something to do, whatever the descriptors say. */
static bool has_work(const ta_loop *loop)
{
    return has_deferred(loop) || !ta_list_empty(&loop->next);
}

/* Nested under another loop: when must that one call us, though no descriptor is ready? */
static void arm_timer_fd(ta_loop *loop)
{
    if (loop->timer_fd < 0)
        return;
    uint64_t at = 0;
    if (has_work(loop) || loop->nleft) {
        at = 1; /* long past: at once */
    } else {
        int ms = ta_timers_next(loop->timers, loop->now);
        if (ms >= 0)
            at = loop->now + (uint64_t)ms;
    }
    if (at == loop->timer_fd_at)
        return;
    struct itimerspec spec = {
        .it_value = {.tv_sec = (time_t)(at / 1000), .tv_nsec = (long)(at % 1000) * 1000000}};
    if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0)
        loop->timer_fd_at = at;
}

int ta_loop_set_nested(ta_loop *loop, bool nested)
{
    if (nested == (loop->timer_fd >= 0))
        return TA_OK;
    if (!nested) {
        (void)ta_loop_del_foreign(loop, loop->timer_fd);
        close(loop->timer_fd);
        loop->timer_fd = -1;
        return TA_OK;
    }
    if (loop->fd < 0)
        return TA_EUNSUPPORTED;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0)
        return TA_ESYS;
    int err = ta_loop_add_foreign(loop, fd, TA_EV_READ);
    if (err < 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return err;
    }
    loop->timer_fd = fd;
    loop->timer_fd_at = 0;
    arm_timer_fd(loop);
    return TA_OK;
}

static void defer_to(ta_loop *loop, ta_list_node *list, ta_defer *item)
{
    assert_owner(loop);
    TA_ASSERT(item->fn != NULL);
    if (ta_list_linked(&item->node))
        return;
    ta_list_push_back(list, &item->node);
    if (TA_UNLIKELY(!loop->in_poll))
        arm_timer_fd(loop);
}

void ta_loop_defer(ta_loop *loop, ta_defer *item)
{
    defer_to(loop, &loop->deferred, item);
}

void ta_loop_defer_turn(ta_loop *loop, ta_defer *item)
{
    defer_to(loop, &loop->turns, item);
}

void ta_loop_defer_last(ta_loop *loop, ta_defer *item)
{
    defer_to(loop, &loop->last, item);
}

void ta_loop_defer_next(ta_loop *loop, ta_defer *item)
{
    defer_to(loop, &loop->next, item);
}

uint64_t ta_loop_batch(const ta_loop *loop)
{
    return loop->batch;
}

void ta_loop_undefer(ta_loop *loop, ta_defer *item)
{
    (void)loop;
    ta_list_remove(&item->node);
}

static void begin_budget(ta_loop *loop)
{
    loop->end_us = loop->budget_us ? ta_clock_us() + loop->budget_us : UINT64_MAX;
}

bool ta_loop_spent(const ta_loop *loop)
{
    return loop->end_us != UINT64_MAX && ta_clock_us() >= loop->end_us;
}

unsigned ta_loop_pending(const ta_loop *loop)
{
    return loop->pending;
}

/* Calls what is in the list before the marker, which it takes away. */
static unsigned run_until(ta_list_node *list, ta_list_node *marker)
{
    unsigned ran = 0;
    while (list->next != marker) {
        ta_defer *item = TA_CONTAINER_OF(list->next, ta_defer, node);
        ta_list_remove(&item->node);
        ran++;
        item->fn(item);
    }
    ta_list_remove(marker);
    return ran;
}

/* Calls what is in the list now; what is deferred by that stays. */
static unsigned run_round(ta_list_node *list)
{
    ta_list_node marker = {NULL, NULL};
    ta_list_push_back(list, &marker);
    return run_until(list, &marker);
}

unsigned ta_loop_run_turns(ta_loop *loop)
{
    assert_owner(loop);
    if (ta_list_empty(&loop->turns) || loop->turning)
        return 0;
    loop->turning = true;
    unsigned ran = run_round(&loop->turns);
    loop->turning = false;
    return ran;
}

static bool may_go_on(const ta_loop *loop, int rounds)
{
    return rounds < DEFER_ROUNDS || (rounds < MOST_ROUNDS && !ta_loop_spent(loop));
}

static unsigned run_deferred(ta_loop *loop)
{
    unsigned ran = 0;
    for (int rounds = 0; has_deferred(loop) && may_go_on(loop, rounds); rounds++) {
        if (ta_list_empty(&loop->deferred) && ta_list_empty(&loop->turns)) {
            ran += run_round(&loop->last);
        } else {
            ran += run_round(&loop->deferred);
            ran += ta_loop_run_turns(loop);
        }
    }
    return ran + run_round(&loop->last);
}

void ta_loop_set_timer(ta_loop *loop, ta_timer *t, uint64_t ms)
{
    /* Under another loop nobody has read the clock since our last batch. */
    if (TA_UNLIKELY(!loop->in_poll && loop->timer_fd >= 0))
        ta_loop_refresh(loop);
    ta_timer_set(loop->timers, t, loop->now + ms);
    if (TA_UNLIKELY(!loop->in_poll))
        arm_timer_fd(loop);
}

/* -- a batch -------------------------------------------------------------------------------- */

void ta_loop_set_hooks(ta_loop *loop, const ta_loop_hooks *hooks)
{
    loop->hooks = hooks ? *hooks : (ta_loop_hooks){0};
}

static int wait_blocking(ta_loop *loop, int timeout_ms, ta_event *events, int cap)
{
    void *token = NULL;
    tell_pulse(loop, true);
    if (loop->hooks.before_block)
        token = loop->hooks.before_block(loop->hooks.ctx);
    int n = loop->ops->wait(loop, timeout_ms, events, cap);
    int saved = errno;
    if (loop->hooks.after_block)
        loop->hooks.after_block(loop->hooks.ctx, token);
    errno = saved;
    return n;
}

/* What a batch has done so far. */
typedef struct batch {
    ta_ready *ready;
    int cap, count;
    unsigned ran;
} batch;

static void dispatch_one(ta_loop *loop, const ta_event *ev, batch *b)
{
    /* looked up anew each time: callbacks may have moved the table */
    const ta_slot *slot = &loop->slots[ev->fd];
    if (TA_UNLIKELY(slot->gen != ev->gen || slot->kind == TA_SLOT_FREE))
        return;
    /* Errors wake whoever asked for anything; what is no longer asked for is left out. */
    unsigned what = ev->events;
    if (what & TA_EV_ERR)
        what |= TA_EV_READ | TA_EV_WRITE;
    else if (what & TA_EV_HUP)
        what |= TA_EV_READ;
    what &= slot->events | TA_EV_ERR | (slot->events & TA_EV_READ ? TA_EV_HUP : 0);
    if (!what)
        return;
    if (slot->kind == TA_SLOT_OWN) {
        b->ran++;
        slot->io->on_event(slot->io, what);
    } else if (ev->fd == loop->timer_fd) {
        uint64_t ticks;
        (void)!read(loop->timer_fd, &ticks, sizeof(ticks));
        loop->timer_fd_at = 0;
    } else if (b->count < b->cap && (what & (TA_EV_READ | TA_EV_WRITE))) {
        b->ready[b->count++] = (ta_ready){ev->fd, what & (TA_EV_READ | TA_EV_WRITE)};
    }
}

/*
 * Serves events until the batch's time is over; foreign ones cost none.  The rest is kept for the
 * next call, which serves it first: asking the system again would give those served now once more,
 * and perhaps never those at the end.
 */
static void dispatch(ta_loop *loop, const ta_event *events, int n, batch *b)
{
    bool over = false;
    begin_budget(loop);
    for (int i = 0; i < n; i++) {
        loop->pending = (unsigned)(n - 1 - i);
        if (!over && b->ran % CLOCK_EVERY == CLOCK_EVERY - 1)
            over = ta_loop_spent(loop);
        if (over && loop->slots[events[i].fd].kind == TA_SLOT_OWN)
            loop->left[loop->nleft++] = events[i];
        else
            dispatch_one(loop, &events[i], b);
    }
}

/* Serves the rest of the last batch.  True: there still is one. */
static bool dispatch_left(ta_loop *loop, batch *b)
{
    ta_event events[TA_LOOP_BATCH];
    int n = loop->nleft;
    memcpy(events, loop->left, (size_t)n * sizeof(*events));
    loop->nleft = 0;
    loop->now = ta_clock_ms();
    note_return(loop, loop->now);
    tell_pulse(loop, false);
    dispatch(loop, events, n, b);
    return loop->nleft != 0;
}

int ta_loop_poll(ta_loop *loop, int timeout_ms, ta_ready *ready, int cap, unsigned *served)
{
    ta_event events[TA_LOOP_BATCH];
    int max = cap > 0 && cap < TA_LOOP_BATCH ? cap : TA_LOOP_BATCH;
    batch b = {.ready = ready, .cap = cap};

    TA_ASSERT(!loop->in_poll);
    loop->in_poll = true;
    loop->batch++;
#ifndef NDEBUG
    loop->poller = pthread_self();
#endif
    /* What was deferred outside of a batch (a response written by a Task).  It may have scheduled
     * work of the caller's: no blocking after it. */
    if (has_deferred(loop)) {
        begin_budget(loop);
        b.ran = run_deferred(loop);
    }

    /* Behind it this call serves foreign descriptors only: ours are reported again. */
    bool rest = loop->nleft && dispatch_left(loop, &b);

    int n = loop->ops->wait(loop, 0, events, max);
    if (n == 0 && timeout_ms != 0 && b.ran == 0 && !rest && !has_work(loop)) {
        loop->now = ta_clock_ms();
        note_return(loop, loop->now);
        int next = ta_timers_next(loop->timers, loop->now);
        if (next >= 0 && (timeout_ms < 0 || next < timeout_ms))
            timeout_ms = next;
        if (timeout_ms != 0)
            n = wait_blocking(loop, timeout_ms, events, max);
    }
    if (n == TA_ESYS && errno == EINTR)
        n = 0;
    if (n < 0) {
        int saved = errno;
        loop->in_poll = false;
        arm_timer_fd(loop); /* what was deferred meanwhile is not forgotten */
        errno = saved;
        return n;
    }
    loop->now = ta_clock_ms();
    note_return(loop, loop->now);
    tell_pulse(loop, false);
    ta_list_node marker = {NULL, NULL}; /* behind what earlier batches left to this one */
    ta_list_push_back(&loop->next, &marker);
    if (!rest) {
        dispatch(loop, events, n, &b);
    } else {
        for (int i = 0; i < n; i++)
            if (loop->slots[events[i].fd].kind == TA_SLOT_FOREIGN)
                dispatch_one(loop, &events[i], &b);
    }
    loop->pending = 0;
    b.ran += ta_timers_run(loop->timers, loop->now);
    b.ran += run_until(&loop->next, &marker);
    b.ran += run_deferred(loop);
    loop->in_poll = false;
    if (loop->timer_fd >= 0) {
        arm_timer_fd(loop);
        note_return(loop, ta_clock_ms());
        tell_pulse(loop, true);
    }
    if (served)
        *served = b.ran;
    return b.count;
}

uint64_t ta_loop_now(const ta_loop *loop)
{
    return loop->now;
}

uint64_t ta_loop_refresh(ta_loop *loop)
{
    return loop->now = ta_clock_ms();
}

uint64_t ta_loop_held(const ta_loop *loop)
{
    uint64_t now = ta_clock_ms(); /* first: what is read after it can only be newer */
    uint64_t pulse = atomic_load_explicit(&loop->pulse, memory_order_relaxed);
    return pulse == 0 || pulse & 1 || pulse / 2 >= now ? 0 : now - pulse / 2;
}

uint64_t ta_loop_highest(ta_loop *loop)
{
    return atomic_exchange_explicit(&loop->highest, 0, memory_order_relaxed);
}

uint64_t ta_loop_last(const ta_loop *loop)
{
    return atomic_load_explicit(&loop->pulse, memory_order_relaxed) / 2;
}

ta_timers *ta_loop_timers(ta_loop *loop)
{
    return loop->timers;
}

int ta_loop_fd(const ta_loop *loop)
{
    return loop->fd;
}
