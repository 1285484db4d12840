/*
 * wake.h -- waking a loop from other threads, and handing items to its thread.
 *
 * Layer: net.  The queue is lock-free (push by compare-and-swap, pop of all at once), so that a
 * thread that finished a job never waits for the loop, and wakes it only when the queue was empty.
 */
#ifndef TA_NET_WAKE_H
#define TA_NET_WAKE_H

#include <stdatomic.h>

#include "base/ta_base.h"
#include "net/loop.h"

typedef struct ta_wake ta_wake;

/* Embed it in what is handed over.  Zero it at first. */
typedef struct ta_wake_item {
    struct ta_wake_item *next;             /* private */
    void (*fn)(struct ta_wake_item *item); /* runs on the loop thread; may free the item */
} ta_wake_item;

TA_MUST_CHECK ta_wake *ta_wake_new(ta_loop *loop); /* NULL: errno tells */
/* On the loop thread, once no other thread can post any more.  Items still queued are run. */
void ta_wake_free(ta_wake *w);
/* Any thread; never fails, never blocks.  The item is the queue's until fn is called, in the order
 * of each thread's posts.  An item must not be posted again before that. */
void ta_wake_post(ta_wake *w, ta_wake_item *item);
/* Any thread, also a signal handler: makes the current or next ta_loop_poll return promptly. */
void ta_wake_kick(ta_wake *w);
/* The same for a caller that has just put something where the loop's thread looks after each poll:
 * many notices before it looks cost one signal. */
void ta_wake_notice(ta_wake *w);

#endif
