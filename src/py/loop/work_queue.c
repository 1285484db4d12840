/*
 * work_queue.c -- a queue of work, and how many threads take from it.
 *
 * Layer: py/loop, without Python.
 */
#include "py/loop/work_queue.h"

#include <time.h>

void ta_work_queue_init(ta_work_queue *queue, unsigned max, unsigned idle_seconds)
{
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&queue->mutex, NULL);
    (void)pthread_cond_init(&queue->gone, &attr);
    (void)pthread_condattr_destroy(&attr);
    queue->max = max;
    queue->idle_seconds = idle_seconds;
}

void ta_work_queue_destroy(ta_work_queue *queue)
{
    TA_ASSERT(queue->waiters == NULL);
    (void)pthread_cond_destroy(&queue->gone);
    (void)pthread_mutex_destroy(&queue->mutex);
}

void ta_work_queue_forked(ta_work_queue *queue)
{
    ta_work_queue_init(queue, queue->max, queue->idle_seconds);
    queue->waiters = NULL;
    queue->head = queue->tail = NULL;
    queue->queued = 0;
    queue->threads = queue->idle = queue->leaving = 0;
}

/* With the mutex held: wakes the thread that began to wait last. */
static void wake_one(ta_work_queue *queue)
{
    ta_work_waiter *waiter = queue->waiters;
    if (waiter == NULL)
        return;
    queue->waiters = waiter->next;
    waiter->listed = false;
    (void)pthread_cond_signal(&waiter->woken);
}

/* With the mutex held. */
static void wake_all(ta_work_queue *queue)
{
    while (queue->waiters != NULL)
        wake_one(queue);
}

/* With the mutex held: it waits no more, whether it was woken or not. */
static void unlist(ta_work_queue *queue, ta_work_waiter *waiter)
{
    ta_work_waiter **at = &queue->waiters;
    while (waiter->listed && *at != waiter)
        at = &(*at)->next;
    if (waiter->listed)
        *at = waiter->next;
    waiter->listed = false;
}

static struct timespec in_ms(unsigned ms)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += ms / 1000;
    ts.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (ts.tv_nsec >= 1000000000L) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000L;
    }
    return ts;
}

void ta_work_queue_put_back(ta_work_queue *queue, ta_work *work)
{
    bool first = work->first || queue->head == NULL;
    work->next = first ? queue->head : NULL;
    if (work->next == NULL) {
        if (!first)
            queue->tail->next = work;
        queue->tail = work;
    }
    if (first)
        queue->head = work;
    queue->queued++;
}

ta_work_put ta_work_queue_put(ta_work_queue *queue, ta_work *work)
{
    ta_work_put result = TA_WORK_REFUSED;
    pthread_mutex_lock(&queue->mutex);
    if (queue->state == TA_WORK_OPEN) {
        ta_work_queue_put_back(queue, work);
        queue->leaving = 0;
        bool grow = queue->queued > queue->idle && (queue->threads < queue->max || work->first);
        if (grow)
            queue->threads++;
        result = grow ? TA_WORK_GROW : TA_WORK_QUEUED;
        wake_one(queue);
    }
    pthread_mutex_unlock(&queue->mutex);
    return result;
}

/* With the mutex held. */
static ta_work *pop(ta_work_queue *queue)
{
    ta_work *work = queue->head;
    if (work != NULL) {
        queue->head = work->next;
        queue->queued--;
        work->next = NULL;
    }
    return work;
}

ta_work *ta_work_queue_pop(ta_work_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    ta_work *work = pop(queue);
    pthread_mutex_unlock(&queue->mutex);
    return work;
}

/* With the mutex held: waits until there is work, the queue ends, or the time is over. */
static void wait_for_work(ta_work_queue *queue)
{
    struct timespec until = in_ms(queue->idle_seconds * 1000);
    ta_work_waiter waiter = {.listed = false};
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&waiter.woken, &attr);
    (void)pthread_condattr_destroy(&attr);
    int rc = 0;
    queue->idle++;
    while (queue->head == NULL && queue->state == TA_WORK_OPEN && queue->leaving == 0 && rc == 0) {
        if (!waiter.listed) {
            waiter.next = queue->waiters;
            waiter.listed = true;
            queue->waiters = &waiter;
        }
        if (queue->idle_seconds == 0)
            rc = pthread_cond_wait(&waiter.woken, &queue->mutex);
        else
            rc = pthread_cond_timedwait(&waiter.woken, &queue->mutex, &until);
    }
    queue->idle--;
    unlist(queue, &waiter);
    (void)pthread_cond_destroy(&waiter.woken);
    if (queue->head == NULL && queue->leaving > 0)
        queue->leaving--;
}

void ta_work_queue_announce(ta_work_queue *queue)
{
    queue->idle++;
}

ta_work *ta_work_queue_take(ta_work_queue *queue, bool announced)
{
    pthread_mutex_lock(&queue->mutex);
    if (announced)
        queue->idle--;
    bool surplus = queue->threads > queue->max;
    if (queue->head == NULL && queue->state == TA_WORK_OPEN && !surplus)
        wait_for_work(queue);
    ta_work *work = queue->head;
    if (work != NULL && (!surplus || work->first)) {
        (void)pop(queue);
    } else {
        work = NULL;
        queue->threads--;
        pthread_cond_broadcast(&queue->gone);
    }
    pthread_mutex_unlock(&queue->mutex);
    return work;
}

unsigned ta_work_queue_not_started(ta_work_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    TA_ASSERT(queue->threads > 0);
    unsigned threads = --queue->threads;
    pthread_mutex_unlock(&queue->mutex);
    return threads;
}

void ta_work_queue_limit(ta_work_queue *queue, unsigned max)
{
    pthread_mutex_lock(&queue->mutex);
    queue->max = max;
    pthread_mutex_unlock(&queue->mutex);
}

void ta_work_queue_rest(ta_work_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    if (queue->head == NULL) {
        queue->leaving = queue->idle;
        wake_all(queue);
    }
    pthread_mutex_unlock(&queue->mutex);
}

void ta_work_queue_end(ta_work_queue *queue, ta_work_state state)
{
    pthread_mutex_lock(&queue->mutex);
    if (queue->state < state)
        queue->state = state;
    wake_all(queue);
    pthread_mutex_unlock(&queue->mutex);
}

ta_work *ta_work_queue_close(ta_work_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->state = TA_WORK_CLOSED;
    ta_work *work = queue->head;
    queue->head = queue->tail = NULL;
    queue->queued = 0;
    wake_all(queue);
    pthread_mutex_unlock(&queue->mutex);
    return work;
}

void ta_work_queue_wait(ta_work_queue *queue, unsigned ms)
{
    struct timespec until = in_ms(ms);
    int rc = 0;
    pthread_mutex_lock(&queue->mutex);
    while (queue->threads > 0 && rc == 0)
        rc = pthread_cond_timedwait(&queue->gone, &queue->mutex, &until);
    pthread_mutex_unlock(&queue->mutex);
}
