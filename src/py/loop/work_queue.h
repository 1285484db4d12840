/*
 * work_queue.h -- a queue of work, and how many threads take from it.
 *
 * Layer: py/loop, but without Python: the threads themselves are their owner's, which starts one
 * when ta_work_queue_put says so.  No Python code runs while the mutex is held.
 */
#ifndef TA_PY_LOOP_WORK_QUEUE_H
#define TA_PY_LOOP_WORK_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/ta_base.h"

/* Embed it in what is queued.  Zero it at first. */
typedef struct ta_work {
    struct ta_work *next; /* private */
    bool first;           /* before all others, in a thread beyond the limit when none is free */
} ta_work;

typedef enum ta_work_state {
    TA_WORK_OPEN,
    TA_WORK_FINISHING, /* nothing comes any more; what is queued is still done */
    TA_WORK_CLOSED     /* threads end */
} ta_work_state;

/* Private: a thread that waits for work. */
typedef struct ta_work_waiter {
    pthread_cond_t woken;
    struct ta_work_waiter *next;
    bool listed;
} ta_work_waiter;

typedef struct ta_work_queue {
    pthread_mutex_t mutex; /* guards what follows */
    /* The one that has waited for the shortest time first: what it last used is still in its
     * processor's caches, and parts of one request that follow each other run in one thread where
     * they can, as in anyio's.  Code with objects that are bound to a thread may rely on that. */
    ta_work_waiter *waiters;
    pthread_cond_t gone; /* a thread ended */
    ta_work *head, *tail;
    atomic_uint queued; /* read without the mutex, too, as a hint */
    unsigned threads, idle, max;
    unsigned leaving;      /* so many of the idle threads are to end */
    unsigned idle_seconds; /* after which a thread ends; 0: never */
    ta_work_state state;
} ta_work_queue;

void ta_work_queue_init(ta_work_queue *queue, unsigned max, unsigned idle_seconds);
/* In a child of fork(), which has none of the threads: they are forgotten, and what was queued,
 * which the parent does. */
void ta_work_queue_forked(ta_work_queue *queue);
/* When nobody uses it any more. */
void ta_work_queue_destroy(ta_work_queue *queue);

typedef enum ta_work_put {
    TA_WORK_REFUSED, /* the queue is not open */
    TA_WORK_QUEUED,
    TA_WORK_GROW /* and the caller has to start a thread, which is counted already */
} ta_work_put;

/* Any thread. */
TA_MUST_CHECK ta_work_put ta_work_queue_put(ta_work_queue *queue, ta_work *work);
/* With the mutex held, by a thread of the queue that takes the next work itself: queues, and wakes
 * nobody. */
void ta_work_queue_put_back(ta_work_queue *queue, ta_work *work);
/* Waits for work; NULL: this thread must end, and is no longer counted.  `announced`: it has called
 * ta_work_queue_announce. */
ta_work *ta_work_queue_take(ta_work_queue *queue, bool announced);
/* With the mutex held: this thread will take the next work at once.  Called before others hear of
 * what it has done, so that their next work does not start a further thread. */
void ta_work_queue_announce(ta_work_queue *queue);
/* Takes the first work without waiting; NULL: there is none. */
ta_work *ta_work_queue_pop(ta_work_queue *queue);
/* A thread that was counted has not started.  Returns how many there are. */
unsigned ta_work_queue_not_started(ta_work_queue *queue);
/* Allows so many threads. */
void ta_work_queue_limit(ta_work_queue *queue, unsigned max);
/* Ends the threads that are idle, unless work comes before they have noticed. */
void ta_work_queue_rest(ta_work_queue *queue);
/* Only from one state to a later one. */
void ta_work_queue_end(ta_work_queue *queue, ta_work_state state);
/* Ends it and returns what was queued (linked by `next`). */
ta_work *ta_work_queue_close(ta_work_queue *queue);
/* Waits until all threads have ended, at most so long. */
void ta_work_queue_wait(ta_work_queue *queue, unsigned ms);

#endif
