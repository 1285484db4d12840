#include "base/timer.h"

#include "base/mem.h"
#include "ta_failmalloc.h"
#include "ta_test.h"

static uint64_t clock_now;
static unsigned fired;

typedef struct probe {
    ta_timer t;
    uint64_t want;  /* deadline; 0: must not expire */
    uint64_t again; /* re-armed that much later when it expires */
    ta_timers *timers;
    ta_timer *victim; /* cancelled when it expires */
} probe;

static void on_expire(ta_timer *t)
{
    probe *p = TA_CONTAINER_OF(t, probe, t);
    CHECK(!ta_timer_armed(t));
    CHECK_INT(p->want, !=, 0);
    CHECK_INT(p->want, <=, clock_now);
    fired++;
    p->want = 0;
    if (p->victim)
        ta_timer_cancel(p->timers, p->victim);
    if (p->again) {
        p->want = clock_now + p->again;
        ta_timer_set(p->timers, t, p->want);
    }
}

static void arm(ta_timers *timers, probe *p, uint64_t deadline)
{
    p->t.on_expire = on_expire;
    p->timers = timers;
    p->want = deadline;
    ta_timer_set(timers, &p->t, deadline);
}

TA_TEST(one)
{
    clock_now = 1000;
    ta_timers *timers = ta_timers_new(clock_now);
    probe p = {0};
    CHECK_INT(ta_timers_next(timers, clock_now), ==, -1);
    arm(timers, &p, 1005);
    CHECK(ta_timer_armed(&p.t));
    CHECK_INT(ta_timers_next(timers, 1000), ==, 5);
    CHECK_INT(ta_timers_next(timers, 1003), ==, 2);
    CHECK_INT(ta_timers_next(timers, 1009), ==, 0);
    clock_now = 1004;
    CHECK_INT(ta_timers_run(timers, 1004), ==, 0);
    CHECK_INT(ta_timers_next(timers, 1004), ==, 1);
    clock_now = 1005;
    CHECK_INT(ta_timers_run(timers, 1005), ==, 1);
    CHECK_INT(ta_timers_run(timers, 1005), ==, 0);
    CHECK_INT(ta_timers_next(timers, 1005), ==, -1);
    ta_timer_cancel(timers, &p.t); /* not armed: no-op */
    ta_timers_free(timers);
    ta_timers_free(NULL);
}

TA_TEST(past_deadline_expires_at_next_run)
{
    clock_now = 5000;
    ta_timers *timers = ta_timers_new(clock_now);
    probe p = {0}, q = {0};
    arm(timers, &p, 10);
    q.t.on_expire = on_expire;
    q.want = 1;
    ta_timer_set(timers, &q.t, 0);
    CHECK(ta_timer_armed(&q.t));
    CHECK_INT(ta_timers_next(timers, clock_now), <=, 1);
    clock_now = 5001;
    CHECK_INT(ta_timers_run(timers, clock_now), ==, 2);
    ta_timers_free(timers);
}

/* A deadline moved to later is not looked at until the old time, then waits for the new one. */
TA_TEST(rearm_later_is_lazy)
{
    clock_now = 0;
    ta_timers *timers = ta_timers_new(0);
    probe p = {0};
    arm(timers, &p, 100);
    for (uint64_t t = 0; t < 90; t += 10) {
        arm(timers, &p, t + 5000);
        CHECK_INT(p.t.visit, ==, 100);
    }
    clock_now = 100;
    CHECK_INT(ta_timers_run(timers, 100), ==, 0);
    CHECK(ta_timer_armed(&p.t));
    CHECK_INT(ta_timers_next(timers, 100), >, 3000);
    for (clock_now = 100; clock_now < 5080; clock_now++)
        CHECK_INT(ta_timers_run(timers, clock_now), ==, 0);
    CHECK_INT(ta_timers_run(timers, 5080), ==, 1);
    ta_timers_free(timers);
}

TA_TEST(rearm_earlier)
{
    clock_now = 0;
    ta_timers *timers = ta_timers_new(0);
    probe p = {0};
    arm(timers, &p, 3000);
    arm(timers, &p, 20);
    CHECK_INT(ta_timers_next(timers, 0), ==, 20);
    clock_now = 20;
    CHECK_INT(ta_timers_run(timers, 20), ==, 1);
    clock_now = 4000;
    CHECK_INT(ta_timers_run(timers, 4000), ==, 0);
    ta_timers_free(timers);
}

TA_TEST(disarm_and_cancel)
{
    clock_now = 0;
    ta_timers *timers = ta_timers_new(0);
    probe a = {0}, b = {0}, c = {0};
    arm(timers, &a, 10);
    arm(timers, &b, 10);
    arm(timers, &c, 10);
    a.want = 0;
    ta_timer_disarm(&a.t);
    CHECK(!ta_timer_armed(&a.t));
    ta_timer_cancel(timers, &b.t);
    CHECK(!ta_list_linked(&b.t.node));
    clock_now = 10;
    CHECK_INT(ta_timers_run(timers, 10), ==, 1);
    CHECK(!ta_list_linked(&a.t.node));
    /* disarmed and set again, without being visited between */
    arm(timers, &a, 50);
    ta_timer_disarm(&a.t);
    arm(timers, &a, 60);
    clock_now = 60;
    CHECK_INT(ta_timers_run(timers, 60), ==, 1);
    ta_timers_free(timers);
}

TA_TEST(callbacks_cancel_and_rearm)
{
    clock_now = 0;
    ta_timers *timers = ta_timers_new(0);
    probe a = {0}, b = {0}, c = {0};
    arm(timers, &a, 10);
    arm(timers, &b, 10);
    arm(timers, &c, 10);
    a.victim = &b.t; /* same slot, behind it */
    c.again = 5;
    clock_now = 10;
    CHECK_INT(ta_timers_run(timers, 10), ==, 2);
    for (int i = 0; i < 100; i++) {
        clock_now += 5;
        CHECK_INT(ta_timers_run(timers, clock_now), ==, 1);
    }
    /* re-arming for a time that has passed cannot keep a run going, however late it is */
    clock_now += 1000000;
    CHECK_INT(ta_timers_run(timers, clock_now), ==, 1);
    ta_timers_free(timers);
}

static ta_timers *past_timers;
static void rearm_past(ta_timer *t)
{
    ta_timer_set(past_timers, t, 1);
}

TA_TEST(rearm_in_the_past_ends)
{
    past_timers = ta_timers_new(0);
    ta_timer t = {.on_expire = rearm_past};
    ta_timer_set(past_timers, &t, 1);
    CHECK_INT(ta_timers_run(past_timers, 100000), ==, 1);
    CHECK_INT(ta_timers_run(past_timers, 100000), ==, 0);
    CHECK_INT(ta_timers_run(past_timers, 100001), ==, 1);
    ta_timer_cancel(past_timers, &t);
    ta_timers_free(past_timers);
}

/* Against a plain model: random sets, cancels, jumps of the clock. */
TA_TEST(model)
{
    enum { N = 300 };
    static probe probes[N];
    uint64_t seed = 42;
    clock_now = 123456;
    ta_timers *timers = ta_timers_new(clock_now);
    for (int step = 0; step < 20000; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned r = (unsigned)(seed >> 33);
        probe *p = &probes[r % N];
        switch (r >> 10 & 7) {
        case 0:
            ta_timer_cancel(timers, &p->t);
            p->want = 0;
            break;
        case 1:
            ta_timer_disarm(&p->t);
            p->want = 0;
            break;
        case 2: {
            uint64_t jump = (r >> 14 & 63) == 0 ? 20000 : r >> 20 & 31;
            int next = ta_timers_next(timers, clock_now);
            uint64_t first = UINT64_MAX;
            for (int i = 0; i < N; i++)
                if (probes[i].want)
                    first = TA_MIN(first, probes[i].want);
            if (first != UINT64_MAX) {
                CHECK(next >= 0);
                CHECK_INT(clock_now + (uint64_t)next, <=, TA_MAX(first, clock_now + 1));
            }
            clock_now += jump;
            ta_timers_run(timers, clock_now);
            for (int i = 0; i < N; i++)
                if (probes[i].want && jump)
                    CHECK_INT(probes[i].want, >, clock_now);
            break;
        }
        default:
            arm(timers, p, clock_now + 1 + (r >> 14) % ((r >> 13 & 1) ? 100 : 15000));
        }
    }
    CHECK_INT(fired, >, 1000);
    ta_timers_free(timers);
    for (int i = 0; i < N; i++)
        CHECK(!ta_list_linked(&probes[i].t.node));
}

static void scenario(void)
{
    ta_timers *timers = ta_timers_new(0);
    ta_timers_free(timers);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(scenario);
}
