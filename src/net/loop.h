/*
 * loop.h -- one set of watched descriptors, dispatched in bounded batches.
 *
 * Layer: net (L1).  A ta_loop belongs to one thread.  Our own descriptors (listeners, connections,
 * wake-ups) carry a callback and are served inside ta_loop_poll; foreign ones (registered by
 * asyncio through the selector) are handed back to the caller.
 */
#ifndef TA_NET_LOOP_H
#define TA_NET_LOOP_H

#include "base/list.h"
#include "base/ta_base.h"
#include "base/timer.h"

/*
 * READ and WRITE are asked for and reported.  HUP is reported when the peer ended its side; asked
 * for without READ it watches for that alone.  ERR is reported only, always: a reset, or both sides
 * are closed.  HUP or ERR come with READ and WRITE as far as those were asked for.
 *
 * SHARED is given with READ to ta_loop_add: loops of other threads and processes watch the same
 * descriptor, and an event wakes one of those that wait (EPOLLEXCLUSIVE) rather than all.  It is
 * the one that was added first; a loop that is busy finds the event when it comes round, whoever
 * was woken.  To ask for other events it has to be removed and added.
 */
enum { TA_EV_READ = 1, TA_EV_WRITE = 2, TA_EV_HUP = 4, TA_EV_ERR = 8, TA_EV_SHARED = 16 };
/* Events taken from the system by one ta_loop_poll. */
enum { TA_LOOP_BATCH = 256 };

typedef struct ta_loop ta_loop;
typedef struct ta_io ta_io;

/* A watched descriptor of ours; embed it in the owner, who sets on_event and fd. */
struct ta_io {
    void (*on_event)(ta_io *io, unsigned events); /* may close and free its owner */
    int fd;
    unsigned events; /* read-only: what is watched now */
    bool lent;       /* others may close the descriptor without a word, and its number be reused */
};

typedef enum ta_backend { TA_BACKEND_AUTO, TA_BACKEND_EPOLL, TA_BACKEND_POLL } ta_backend;

/* A foreign descriptor that is ready; events: READ and WRITE as registered (errors set both). */
typedef struct ta_ready {
    int fd;
    unsigned events;
} ta_ready;

TA_MUST_CHECK ta_loop *
ta_loop_new(ta_backend backend); /* NULL: errno tells; free with ta_loop_free */
void ta_loop_free(ta_loop *loop);

/* TA_OK, TA_ESYS (errno), TA_ENOMEM, TA_EINVAL (already added, or a bad fd).  `io` is borrowed
 * until ta_loop_del, which must come before its fd is closed. */
TA_MUST_CHECK int ta_loop_add(ta_loop *loop, ta_io *io, unsigned events);
/* No system call when nothing changes. */
TA_MUST_CHECK int ta_loop_mod(ta_loop *loop, ta_io *io, unsigned events);
/* Safe within any callback of the same batch: no event of it is dispatched any more, and its fd
 * number may be reused at once.  No-op when not added. */
void ta_loop_del(ta_loop *loop, ta_io *io);

/* The same for descriptors that asyncio registered.  Further: TA_ENOTFOUND (not registered); a
 * regular file gives TA_ESYS with EPERM, as epoll does. */
TA_MUST_CHECK int ta_loop_add_foreign(ta_loop *loop, int fd, unsigned events);
TA_MUST_CHECK int ta_loop_mod_foreign(ta_loop *loop, int fd, unsigned events);
int ta_loop_del_foreign(ta_loop *loop, int fd);

/* Hooks round a wait that may block (the Python layer releases the GIL there). */
typedef struct ta_loop_hooks {
    void *(*before_block)(void *ctx);
    void (*after_block)(void *ctx, void *token);
    void *ctx;
} ta_loop_hooks;
void ta_loop_set_hooks(ta_loop *loop, const ta_loop_hooks *hooks); /* copied */

/*
 * Waits at most timeout_ms (-1: for ever; our timers shorten it), then serves one batch: our
 * descriptors through their callbacks, expired timers, the deferred calls below; foreign ready
 * ones are written to `ready`.  Returns how many those are, or TA_ESYS.  *served (may be NULL)
 * tells how many callbacks, timers and deferred calls of ours ran.  Both 0: the time is over, a
 * timer of ours was only looked at, or a signal came (EINTR): the caller looks at its own clock.
 * A batch stops after 5 ms of callbacks, so that the caller's own work and the foreign descriptors
 * get their turn; the rest comes first in the next one.
 * With cap < TA_LOOP_BATCH the batch is that much smaller; no ready descriptor is lost or starved.
 */
int ta_loop_poll(ta_loop *loop, int timeout_ms, ta_ready *ready, int cap, unsigned *served);

/*
 * Inside of a callback: is the batch's time over?  Work that can be put off is then deferred, and
 * comes first in the next batch.  Reads the clock.
 */
bool ta_loop_spent(const ta_loop *loop);
/* Inside of a callback of a descriptor: how many descriptors of the batch are still to be served.
 */
unsigned ta_loop_pending(const ta_loop *loop);

/* Runs fn(item) at the end of the current batch, or at the start of the next ta_loop_poll; never
 * within the call.  Zero it at first.  What such calls defer runs in the same batch while there is
 * time; an item that defers itself again and again does not keep a batch from ending. */
typedef struct ta_defer {
    ta_list_node node; /* private */
    void (*fn)(struct ta_defer *self);
} ta_defer;
void ta_loop_defer(ta_loop *loop, ta_defer *item); /* no-op when it is queued already */
/*
 * The same for what a connection has to do that itself calls no foreign code: to go on with its
 * input after a response.  ta_loop_run_turns, from within a deferred call, does all that waits now
 * instead of in the next round, and returns
 * how many they were.  From within such a turn it does nothing.
 */
void ta_loop_defer_turn(ta_loop *loop, ta_defer *item);
unsigned ta_loop_run_turns(ta_loop *loop);
/* The same, but after all those: to write at once what the whole batch has to be written. */
void ta_loop_defer_last(ta_loop *loop, ta_defer *item);
/*
 * The same in the next batch, once that has served its descriptors: for what has had its share of
 * this one, as the others' input, which may have come meanwhile, is looked at first.
 */
void ta_loop_defer_next(ta_loop *loop, ta_defer *item);
/* The number of the batch: a share counts from its beginning. */
uint64_t ta_loop_batch(const ta_loop *loop);
void ta_loop_undefer(ta_loop *loop, ta_defer *item);

/* Monotonic milliseconds, read once a batch; _refresh reads the clock anew (after long work). */
uint64_t ta_loop_now(const ta_loop *loop);
uint64_t ta_loop_refresh(ta_loop *loop);
/*
 * Any thread: for how many milliseconds the loop has been at a batch, and what the caller did after
 * it; 0 while it waits for events, and before its first batch.  Nested under another loop: at a
 * batch alone, as nobody knows what that other one does.
 */
uint64_t ta_loop_held(const ta_loop *loop);
/*
 * Any thread: for how long the loop was away from its events at the most (milliseconds), since this
 * was last asked.  What it is at now is not in it: see ta_loop_held.
 */
uint64_t ta_loop_highest(ta_loop *loop);
/* Any thread: when the last batch began (monotonic milliseconds), or was waited for. */
uint64_t ta_loop_last(const ta_loop *loop);
ta_timers *ta_loop_timers(ta_loop *loop); /* borrowed */
/* ta_timer_set on the loop's timers, `ms` from its clock on. */
void ta_loop_set_timer(ta_loop *loop, ta_timer *t, uint64_t ms);
/* The epoll descriptor, for nesting under another loop; -1 when the backend has none. */
int ta_loop_fd(const ta_loop *loop);
/* For a loop nested under another one: makes ta_loop_fd readable also when a timer of ours is due
 * or deferred work waits (a timerfd; epoll backend only, else TA_EUNSUPPORTED). */
TA_MUST_CHECK int ta_loop_set_nested(ta_loop *loop, bool nested);

#endif
