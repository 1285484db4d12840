#include "net/wake.h"

#include <pthread.h>
#include <time.h>

#include "ta_failmalloc.h"
#include "ta_test.h"

enum { THREADS = 4, POSTS = 5000 };

typedef struct message {
    ta_wake_item item;
    int thread, number;
    atomic_int *busy; /* posted and not yet run */
} message;

static ta_loop *loop;
static ta_wake *wake;
static int expect[THREADS], total;
static pthread_t loop_thread;

static void turn(int timeout_ms)
{
    ta_ready ready[1];
    CHECK_INT(ta_loop_poll(loop, timeout_ms, ready, 1, NULL), ==, 0);
}

static void on_item(ta_wake_item *item)
{
    message *m = TA_CONTAINER_OF(item, message, item);
    if (!pthread_equal(pthread_self(), loop_thread))
        FAIL("not on the loop's thread");
    if (m->number != expect[m->thread]++)
        FAIL("thread %d: %d out of order", m->thread, m->number);
    total++;
    free(m);
}

static void *poster(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (int i = 0; i < POSTS; i++) {
        message *m = calloc(1, sizeof(*m));
        m->item.fn = on_item;
        m->thread = me;
        m->number = i;
        ta_wake_post(wake, &m->item);
        if (i % 1000 == 0) {
            struct timespec ts = {0, 1000000};
            nanosleep(&ts, NULL);
        }
    }
    return NULL;
}

static void run_threads(ta_backend backend)
{
    loop = ta_loop_new(backend);
    CHECK(loop != NULL);
    wake = ta_wake_new(loop);
    CHECK(wake != NULL);
    loop_thread = pthread_self();
    memset(expect, 0, sizeof(expect));
    total = 0;
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&t[i], NULL, poster, (void *)(intptr_t)i) == 0);
    while (total < THREADS * POSTS)
        turn(5000); /* a lost wake-up shows as a test that is too slow */
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    CHECK_INT(total, ==, THREADS * POSTS);
    ta_wake_free(wake);
    ta_loop_free(loop);
}

TA_TEST(threads_epoll)
{
    run_threads(TA_BACKEND_EPOLL);
}

TA_TEST(threads_poll)
{
    run_threads(TA_BACKEND_POLL);
}

/* One item going to and fro: each hand-over must wake a loop that sleeps. */
static void *ping(void *arg)
{
    message *m = arg;
    for (int i = 0; i < 2000; i++) {
        atomic_store(m->busy, 1);
        ta_wake_post(wake, &m->item);
        while (atomic_load(m->busy))
            ;
    }
    return NULL;
}

static void on_ping(ta_wake_item *item)
{
    message *m = TA_CONTAINER_OF(item, message, item);
    total++;
    atomic_store(m->busy, 0);
}

TA_TEST(no_lost_wakeup)
{
    loop = ta_loop_new(TA_BACKEND_AUTO);
    wake = ta_wake_new(loop);
    CHECK(loop && wake);
    atomic_int busy = 0;
    message m = {.item = {.fn = on_ping}, .busy = &busy};
    pthread_t t;
    CHECK(pthread_create(&t, NULL, ping, &m) == 0);
    while (total < 2000)
        turn(-1);
    pthread_join(t, NULL);
    ta_wake_free(wake);
    ta_loop_free(loop);
}

static void *kicker(void *arg)
{
    struct timespec ts = {0, 20000000};
    nanosleep(&ts, NULL);
    ta_wake_kick(wake);
    return NULL;
}

TA_TEST(kick)
{
    loop = ta_loop_new(TA_BACKEND_AUTO);
    wake = ta_wake_new(loop);
    CHECK(loop && wake);
    ta_wake_kick(wake);
    ta_wake_kick(wake);
    turn(-1);
    pthread_t t;
    CHECK(pthread_create(&t, NULL, kicker, NULL) == 0);
    turn(-1);
    pthread_join(t, NULL);
    ta_wake_free(wake);
    ta_wake_free(NULL);
    ta_loop_free(loop);
}

/* Many notices cost one signal, and each that comes after a turn is a signal again. */
TA_TEST(notice)
{
    loop = ta_loop_new(TA_BACKEND_AUTO);
    wake = ta_wake_new(loop);
    CHECK(loop && wake);
    for (int i = 0; i < 3; i++) {
        ta_wake_notice(wake);
        ta_wake_notice(wake);
        turn(-1);
    }
    ta_wake_notice(wake);
    ta_wake_kick(wake);
    turn(-1);
    ta_wake_notice(wake);
    turn(-1);
    ta_wake_free(wake);
    ta_loop_free(loop);
}

static int freed;
static void on_last(ta_wake_item *item)
{
    freed++;
    free(item);
}

/* An item may post itself again; what is queued at the end is still run. */
static void on_again(ta_wake_item *item)
{
    if (++total < 10)
        ta_wake_post(wake, item);
}

TA_TEST(again_and_at_the_end)
{
    loop = ta_loop_new(TA_BACKEND_AUTO);
    wake = ta_wake_new(loop);
    CHECK(loop && wake);
    ta_wake_item again = {.fn = on_again};
    ta_wake_post(wake, &again);
    while (total < 10)
        turn(5000);
    for (int i = 0; i < 3; i++) {
        ta_wake_item *item = calloc(1, sizeof(*item));
        item->fn = on_last;
        ta_wake_post(wake, item);
    }
    ta_wake_free(wake);
    CHECK_INT(freed, ==, 3);
    ta_loop_free(loop);
}

static void scenario(void)
{
    ta_loop *l = ta_loop_new(TA_BACKEND_AUTO);
    if (!l)
        return;
    ta_wake *w = ta_wake_new(l);
    if (!w && errno != ENOMEM)
        FAIL("errno %d", errno);
    ta_wake_free(w);
    ta_loop_free(l);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(scenario);
}
