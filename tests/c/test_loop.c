#include "net/loop_int.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "ta_failmalloc.h"
#include "ta_test.h"

/* Everything here runs over both backends. */
static ta_backend backend;
#define BOTH(name)                                                                                 \
    static void both_##name(void);                                                                 \
    TA_TEST(epoll_##name)                                                                          \
    {                                                                                              \
        backend = TA_BACKEND_EPOLL;                                                                \
        both_##name();                                                                             \
    }                                                                                              \
    TA_TEST(poll_##name)                                                                           \
    {                                                                                              \
        backend = TA_BACKEND_POLL;                                                                 \
        both_##name();                                                                             \
    }                                                                                              \
    static void both_##name(void)

static ta_loop *new_loop(void)
{
    ta_loop *loop = ta_loop_new(backend);
    CHECK(loop != NULL);
    CHECK((ta_loop_fd(loop) >= 0) == (backend == TA_BACKEND_EPOLL));
    loop->budget_us = 0; /* however slow the machine */
    return loop;
}

typedef struct watch {
    ta_io io;
    ta_loop *loop;
    unsigned seen, calls;
    struct watch *victim; /* deleted by the callback */
    int close_fd;         /* closed with it, when > 0 */
} watch;

static void on_event(ta_io *io, unsigned events)
{
    watch *w = TA_CONTAINER_OF(io, watch, io);
    w->seen |= events;
    w->calls++;
    if (w->victim) {
        ta_loop_del(w->loop, &w->victim->io);
        if (w->close_fd > 0)
            close(w->close_fd);
        w->victim = NULL;
    }
}

static void watch_add(watch *w, ta_loop *loop, int fd, unsigned events)
{
    *w = (watch){.io = {.on_event = on_event, .fd = fd}, .loop = loop};
    CHECK_INT(ta_loop_add(loop, &w->io, events), ==, TA_OK);
}

static void pair(int fds[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

static int turn(ta_loop *loop, int timeout_ms, unsigned *served)
{
    ta_ready ready[TA_LOOP_BATCH];
    unsigned ran = 0;
    int n = ta_loop_poll(loop, timeout_ms, ready, TA_LOOP_BATCH, &ran);
    if (served)
        *served = ran;
    return n;
}

BOTH(own_events)
{
    ta_loop *loop = new_loop();
    int p[2];
    unsigned served;
    watch w;
    pair(p);
    watch_add(&w, loop, p[0], TA_EV_READ);
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    CHECK_INT(served, ==, 0);
    CHECK(write(p[1], "x", 1) == 1);
    for (int i = 1; i <= 3; i++) { /* level-triggered: again until it is read */
        CHECK_INT(turn(loop, 1000, &served), ==, 0);
        CHECK_INT(served, ==, 1);
        CHECK_INT(w.calls, ==, i);
    }
    CHECK_INT(w.seen, ==, TA_EV_READ);
    CHECK_INT(ta_loop_mod(loop, &w.io, TA_EV_WRITE), ==, TA_OK);
    w.seen = 0;
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(w.seen, ==, TA_EV_WRITE);
    CHECK_INT(ta_loop_mod(loop, &w.io, TA_EV_READ | TA_EV_WRITE), ==, TA_OK);
    w.seen = 0;
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(w.seen, ==, TA_EV_READ | TA_EV_WRITE);
    CHECK_INT(ta_loop_mod(loop, &w.io, 0), ==, TA_OK);
    CHECK_INT(turn(loop, 20, &served), ==, 0);
    CHECK_INT(served, ==, 0);
    CHECK_INT(ta_loop_add(loop, &w.io, TA_EV_READ), ==, TA_EINVAL);
    CHECK_INT(ta_loop_mod(loop, &w.io, TA_EV_ERR), ==, TA_EINVAL);
    ta_loop_del(loop, &w.io);
    ta_loop_del(loop, &w.io);
    CHECK_INT(ta_loop_mod(loop, &w.io, TA_EV_READ), ==, TA_EINVAL);
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    CHECK_INT(served, ==, 0);
    watch bad = {.io = {.on_event = on_event, .fd = -1}};
    CHECK_INT(ta_loop_add(loop, &bad.io, TA_EV_READ), ==, TA_EINVAL);
    bad.io.fd = 1 << 30;
    CHECK_INT(ta_loop_add(loop, &bad.io, TA_EV_READ), ==, TA_EINVAL);
    close(p[0]);
    bad.io.fd = p[0];
    CHECK_INT(ta_loop_add(loop, &bad.io, TA_EV_READ), ==, TA_ESYS);
    CHECK_INT(errno, ==, EBADF);
    close(p[1]);
    ta_loop_free(loop);
    ta_loop_free(NULL);
}

BOTH(hup_and_err)
{
    ta_loop *loop = new_loop();
    int p[2];
    watch w;
    pair(p);
    watch_add(&w, loop, p[0], TA_EV_READ);
    shutdown(p[1], SHUT_WR);
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(w.seen, ==, TA_EV_READ | TA_EV_HUP);
    /* paused reading: HUP alone can be watched, and READ is not reported then */
    w.seen = 0;
    CHECK_INT(ta_loop_mod(loop, &w.io, TA_EV_HUP), ==, TA_OK);
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(w.seen, ==, TA_EV_HUP);
    w.seen = w.calls = 0;
    CHECK_INT(ta_loop_mod(loop, &w.io, 0), ==, TA_OK);
    CHECK_INT(turn(loop, 20, NULL), ==, 0);
    CHECK_INT(w.calls, ==, 0);
    close(p[1]); /* both sides closed: reported though nothing was asked for */
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(w.seen, ==, TA_EV_ERR);
    ta_loop_del(loop, &w.io);
    close(p[0]);
    ta_loop_free(loop);
}

BOTH(foreign)
{
    ta_loop *loop = new_loop();
    ta_ready ready[TA_LOOP_BATCH];
    int p[2], q[2];
    unsigned served;
    pair(p);
    CHECK(pipe2(q, O_NONBLOCK) == 0);
    CHECK_INT(ta_loop_add_foreign(loop, p[0], TA_EV_READ | TA_EV_WRITE), ==, TA_OK);
    CHECK_INT(ta_loop_add_foreign(loop, p[0], TA_EV_READ), ==, TA_EINVAL);
    CHECK_INT(ta_loop_add_foreign(loop, p[1], TA_EV_HUP), ==, TA_EINVAL);
    CHECK_INT(ta_loop_add_foreign(loop, q[0], TA_EV_READ), ==, TA_OK);
    CHECK_INT(ta_loop_poll(loop, 1000, ready, TA_LOOP_BATCH, &served), ==, 1);
    CHECK_INT(served, ==, 0);
    CHECK_INT(ready[0].fd, ==, p[0]);
    CHECK_INT(ready[0].events, ==, TA_EV_WRITE);
    CHECK(write(p[1], "x", 1) == 1);
    CHECK_INT(ta_loop_poll(loop, 1000, ready, TA_LOOP_BATCH, &served), ==, 1);
    CHECK_INT(ready[0].events, ==, TA_EV_READ | TA_EV_WRITE);
    CHECK_INT(ta_loop_mod_foreign(loop, p[0], TA_EV_READ), ==, TA_OK);
    CHECK_INT(ta_loop_poll(loop, 1000, ready, TA_LOOP_BATCH, &served), ==, 1);
    CHECK_INT(ready[0].events, ==, TA_EV_READ);
    CHECK_INT(ta_loop_del_foreign(loop, p[0]), ==, TA_OK);
    CHECK_INT(ta_loop_del_foreign(loop, p[0]), ==, TA_ENOTFOUND);
    CHECK_INT(ta_loop_mod_foreign(loop, p[0], TA_EV_READ), ==, TA_ENOTFOUND);
    CHECK_INT(ta_loop_del_foreign(loop, -1), ==, TA_ENOTFOUND);
    CHECK_INT(ta_loop_del_foreign(loop, 100000), ==, TA_ENOTFOUND);
    close(q[1]); /* writer gone: the reader is ready */
    CHECK_INT(ta_loop_poll(loop, 1000, ready, TA_LOOP_BATCH, &served), ==, 1);
    CHECK_INT(ready[0].fd, ==, q[0]);
    CHECK_INT(ready[0].events, ==, TA_EV_READ);
    /* the other loop's mistakes do not touch ours */
    watch w;
    watch_add(&w, loop, p[1], TA_EV_READ);
    CHECK_INT(ta_loop_del_foreign(loop, p[1]), ==, TA_ENOTFOUND);
    CHECK_INT(ta_loop_add_foreign(loop, p[1], TA_EV_READ), ==, TA_EINVAL);
    ta_loop_free(loop);
    close(p[0]);
    close(p[1]);
    close(q[0]);
}

BOTH(foreign_closed_without_a_word)
{
    ta_loop *loop = new_loop();
    int p[2], q[2];
    pair(p);
    CHECK_INT(ta_loop_add_foreign(loop, p[0], TA_EV_READ), ==, TA_OK);
    close(p[0]);
    pair(q);
    CHECK_INT(q[0], ==, p[0]); /* the number comes back, for a connection of ours */
    watch w;
    watch_add(&w, loop, q[0], TA_EV_READ);
    CHECK_INT(ta_loop_del_foreign(loop, p[0]), ==, TA_ENOTFOUND); /* the late unregister */
    CHECK(write(q[1], "x", 1) == 1);
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(w.calls, ==, 1);
    ta_loop_free(loop);
    close(p[1]);
    close(q[0]);
    close(q[1]);
}

/* The same of one of ours that is lent: poll() has no registrations that tell. */
TA_TEST(lent_closed_without_a_word)
{
    backend = TA_BACKEND_EPOLL;
    ta_loop *loop = new_loop();
    int p[2], q[2];
    pair(p);
    watch lent = {.io = {.on_event = on_event, .fd = p[0], .lent = true}, .loop = loop}, w;
    CHECK_INT(ta_loop_add(loop, &lent.io, TA_EV_READ), ==, TA_OK);
    CHECK_INT(ta_loop_add_foreign(loop, p[0], TA_EV_READ), ==, TA_EINVAL); /* still in use */
    CHECK(write(p[1], "x", 1) == 1);
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(lent.calls, ==, 1);
    close(p[0]);
    pair(q);
    CHECK_INT(q[0], ==, p[0]);
    watch_add(&w, loop, q[0], TA_EV_READ);
    CHECK_INT(lent.io.events, ==, 0);
    CHECK_INT(ta_loop_mod(loop, &lent.io, TA_EV_WRITE), ==, TA_EINVAL);
    ta_loop_del(loop, &lent.io); /* the other one's stays */
    CHECK(write(q[1], "x", 1) == 1);
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(w.calls, ==, 1);
    CHECK_INT(lent.calls, ==, 1);
    ta_loop_free(loop);
    close(p[1]);
    close(q[0]);
    close(q[1]);
}

BOTH(regular_file_is_refused)
{
    ta_loop *loop = new_loop();
    FILE *f = tmpfile();
    CHECK(f != NULL);
    errno = 0;
    CHECK_INT(ta_loop_add_foreign(loop, fileno(f), TA_EV_READ), ==, TA_ESYS);
    CHECK_INT(errno, ==, EPERM);
    CHECK_INT(ta_loop_del_foreign(loop, fileno(f)), ==, TA_ENOTFOUND);
    fclose(f);
    ta_loop_free(loop);
}

/* A callback deletes the owner of an event further on in the batch; never dispatched. */
BOTH(stale_events_of_deleted)
{
    ta_loop *loop = new_loop();
    enum { N = 8 };
    int p[N][2];
    static watch w[N];
    for (int i = 0; i < N; i++) {
        pair(p[i]);
        watch_add(&w[i], loop, p[i][0], TA_EV_READ);
        CHECK(write(p[i][1], "x", 1) == 1);
    }
    /* whichever of each couple comes first deletes the other */
    for (int i = 0; i < N; i += 2) {
        w[i].victim = &w[i + 1];
        w[i + 1].victim = &w[i];
        w[i].close_fd = p[i + 1][0];
        w[i + 1].close_fd = p[i][0];
    }
    unsigned served;
    CHECK_INT(turn(loop, 1000, &served), ==, 0);
    CHECK_INT(served, ==, N / 2);
    for (int i = 0; i < N; i += 2)
        CHECK_INT(w[i].calls + w[i + 1].calls, ==, 1);
    ta_loop_free(loop);
}

/* ...nor when its number was reused at once, by ours or a foreign one. */
typedef struct reuser {
    ta_io io;
    ta_loop *loop;
    int *fds; /* of the descriptors in the batch */
    int n, fresh[2];
    watch *watches, *again;
    bool foreign, done;
} reuser;

static reuser the_reuser;
static unsigned late_calls;

static void count_late(ta_io *io, unsigned events)
{
    late_calls++;
}

static void on_reuse(ta_io *io, unsigned events)
{
    reuser *r = &the_reuser;
    if (r->done) {
        late_calls++;
        return;
    }
    r->done = true;
    for (int i = 0; i < r->n; i++) {
        if (&r->watches[i].io == io)
            continue;
        int fd = r->watches[i].io.fd;
        ta_loop_del(r->loop, &r->watches[i].io);
        close(fd);
        int fresh[2];
        pair(fresh);          /* nothing to read there */
        if (fresh[0] != fd) { /* make it that number */
            CHECK(dup2(fresh[0], fd) == fd);
            close(fresh[0]);
        }
        if (r->foreign) {
            CHECK_INT(ta_loop_add_foreign(r->loop, fd, TA_EV_READ), ==, TA_OK);
        } else {
            r->again[i] = (watch){.io = {.on_event = count_late, .fd = fd}};
            CHECK_INT(ta_loop_add(r->loop, &r->again[i].io, TA_EV_READ), ==, TA_OK);
        }
    }
}

static void reuse(bool foreign)
{
    ta_loop *loop = new_loop();
    enum { N = 6 };
    int p[N][2];
    static watch w[N], again[N];
    late_calls = 0;
    the_reuser = (reuser){.loop = loop, .watches = w, .again = again, .n = N, .foreign = foreign};
    for (int i = 0; i < N; i++) {
        pair(p[i]);
        watch_add(&w[i], loop, p[i][0], TA_EV_READ);
        w[i].io.on_event = on_reuse;
        CHECK(write(p[i][1], "x", 1) == 1);
    }
    unsigned served;
    CHECK_INT(turn(loop, 1000, &served), ==, 0);
    CHECK_INT(served, ==, 1);
    CHECK_INT(late_calls, ==, 0);
    ta_loop_free(loop);
}

BOTH(reused_number_in_batch)
{
    reuse(false);
    reuse(true);
}

/* An event that is no longer wanted when its turn comes is dropped as well. */
static watch *muted;
static void mute_other(ta_io *io, unsigned events)
{
    watch *w = TA_CONTAINER_OF(io, watch, io);
    w->calls++;
    CHECK_INT(ta_loop_mod(w->loop, &(w == muted ? w + 1 : muted)->io, 0), ==, TA_OK);
}

BOTH(muted_in_batch)
{
    ta_loop *loop = new_loop();
    int p[2][2];
    static watch w[2];
    muted = &w[0];
    for (int i = 0; i < 2; i++) {
        pair(p[i]);
        watch_add(&w[i], loop, p[i][0], TA_EV_READ);
        w[i].io.on_event = mute_other;
        CHECK(write(p[i][1], "x", 1) == 1);
    }
    CHECK_INT(turn(loop, 1000, NULL), ==, 0);
    CHECK_INT(w[0].calls + w[1].calls, ==, 1);
    ta_loop_free(loop);
}

/* More are ready than a batch or the caller's list holds: all get their turn. */
BOTH(none_lost_or_starved)
{
    struct rlimit lim = {2000, 2000};
    (void)setrlimit(RLIMIT_NOFILE, &lim);
    ta_loop *loop = new_loop();
    enum { N = 600 };
    static int seen[4096];
    static watch own[N / 2];
    int n_own = 0;
    for (int i = 0; i < N; i++) {
        int p[2];
        CHECK(pipe2(p, O_NONBLOCK) == 0);
        CHECK(write(p[1], "x", 1) == 1);
        close(p[1]);
        if (i % 2)
            CHECK_INT(ta_loop_add_foreign(loop, p[0], TA_EV_READ), ==, TA_OK);
        else
            watch_add(&own[n_own++], loop, p[0], TA_EV_READ);
    }
    for (int cap = 7; cap <= TA_LOOP_BATCH; cap += TA_LOOP_BATCH - 7) {
        memset(seen, 0, sizeof(seen));
        for (int i = 0; i < n_own; i++)
            own[i].calls = 0;
        for (int round = 0; round < N / cap + 1; round++) {
            ta_ready ready[TA_LOOP_BATCH];
            unsigned served;
            int n = ta_loop_poll(loop, 0, ready, cap, &served);
            CHECK_INT(n, <=, cap);
            CHECK_INT(n + (int)served, ==, cap);
            for (int i = 0; i < n; i++)
                seen[ready[i].fd]++;
        }
        int got = 0;
        for (int i = 0; i < 4096; i++)
            got += seen[i] > 0;
        CHECK_INT(got, ==, N / 2);
        for (int i = 0; i < n_own; i++)
            CHECK_INT(own[i].calls, >=, 1);
    }
    ta_loop_free(loop);
}

/* Slow callbacks: a batch ends in time, the foreign ones are seen, and nobody waits for ever. */
static unsigned slow_us;
static void on_slow(ta_io *io, unsigned events)
{
    watch *w = TA_CONTAINER_OF(io, watch, io);
    w->calls++;
    usleep(slow_us);
}

BOTH(time_of_a_batch_is_bounded)
{
    ta_loop *loop = new_loop();
    enum { N = 40 };
    static watch w[N];
    int p[N][2], f[2];
    unsigned served, total = 0;
    ta_ready ready[TA_LOOP_BATCH];
    for (int i = 0; i < N; i++) {
        pair(p[i]);
        watch_add(&w[i], loop, p[i][0], TA_EV_READ);
        w[i].io.on_event = on_slow;
        CHECK(write(p[i][1], "x", 1) == 1); /* never read: always ready */
    }
    pair(f);
    CHECK(write(f[1], "x", 1) == 1);
    CHECK_INT(ta_loop_add_foreign(loop, f[0], TA_EV_READ), ==, TA_OK);
    slow_us = 1000;
    loop->budget_us = 3000;
    for (int round = 0; total < N; round++) {
        CHECK_INT(round, <, N);
        CHECK_INT(ta_loop_poll(loop, 1000, ready, TA_LOOP_BATCH, &served), ==, 1);
        CHECK_INT(ready[0].fd, ==, f[0]);
        CHECK_INT(served, >=, 1);
        CHECK_INT(served, <=, 8);
        total += served;
        if (round == 1) { /* gone while its event waits: skipped; its number reused: not mixed up */
            for (int i = 0; i < N; i++) {
                if (w[i].calls)
                    continue;
                ta_loop_del(loop, &w[i].io);
                close(p[i][0]);
                pair(p[i]);
                watch_add(&w[i], loop, p[i][0], TA_EV_READ);
                w[i].io.on_event = on_slow;
                w[i].calls = 1000; /* nothing to read: no more calls */
                total++;
                break;
            }
        }
    }
    for (int i = 0; i < N; i++) /* all had their turn before any had a third */
        CHECK(w[i].calls == 1000 || (w[i].calls >= 1 && w[i].calls <= 2));
    loop->budget_us = 0;
    slow_us = 10;
    while (ta_loop_poll(loop, 0, ready, TA_LOOP_BATCH, &served) < 0 || served < N - 1)
        CHECK_INT(total++, <, 1000);
    ta_loop_free(loop);
}

static uint64_t ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static unsigned expired;
static void on_expire(ta_timer *t)
{
    expired++;
}

BOTH(timers)
{
    ta_loop *loop = new_loop();
    ta_timer t = {.on_expire = on_expire};
    unsigned served;
    expired = 0;
    ta_loop_refresh(loop);
    uint64_t start = ms();
    ta_loop_set_timer(loop, &t, 30);
    int turns = 0;
    do {
        CHECK_INT(turn(loop, -1, &served), ==, 0);
        CHECK_INT(++turns, <, 10);
    } while (served == 0);
    CHECK_INT(expired, ==, 1);
    CHECK_INT(ms() - start, >=, 29);
    CHECK_INT(ms() - start, <, 2000);
    /* the caller's timeout wins when shorter */
    ta_loop_set_timer(loop, &t, 10000);
    start = ms();
    CHECK_INT(turn(loop, 20, &served), ==, 0);
    CHECK_INT(served, ==, 0);
    CHECK_INT(ms() - start, >=, 19);
    CHECK_INT(ms() - start, <, 2000);
    ta_timer_cancel(ta_loop_timers(loop), &t);
    ta_loop_free(loop);
}

static int blocks, block_token;
static void *before_block(void *ctx)
{
    CHECK(ctx == &blocks);
    blocks++;
    return &block_token;
}
static void after_block(void *ctx, void *token)
{
    CHECK(token == &block_token);
    block_token++;
}

BOTH(hooks_only_round_real_waits)
{
    ta_loop *loop = new_loop();
    ta_loop_hooks hooks = {before_block, after_block, &blocks};
    int p[2];
    watch w;
    ta_loop_set_hooks(loop, &hooks);
    CHECK_INT(turn(loop, 0, NULL), ==, 0);
    CHECK_INT(blocks, ==, 0);
    CHECK_INT(turn(loop, 5, NULL), ==, 0);
    CHECK_INT(blocks, ==, 1);
    CHECK_INT(block_token, ==, 1);
    pair(p);
    CHECK(write(p[1], "x", 1) == 1);
    watch_add(&w, loop, p[0], TA_EV_READ);
    CHECK_INT(turn(loop, -1, NULL), ==, 0); /* something is ready: no block */
    CHECK_INT(blocks, ==, 1);
    ta_loop_free(loop);
}

static void on_alarm(int sig)
{
}

BOTH(signals_end_the_wait)
{
    ta_loop *loop = new_loop();
    struct sigaction sa = {.sa_handler = on_alarm}, old; /* no SA_RESTART */
    unsigned served = 9;
    CHECK(sigaction(SIGALRM, &sa, &old) == 0);
    struct itimerval it = {.it_value = {0, 30000}};
    CHECK(setitimer(ITIMER_REAL, &it, NULL) == 0);
    uint64_t start = ms();
    CHECK_INT(turn(loop, 20000, &served), ==, 0);
    CHECK_INT(served, ==, 0);
    CHECK_INT(ms() - start, <, 5000);
    sigaction(SIGALRM, &old, NULL);
    ta_loop_free(loop);
}

typedef struct job {
    ta_defer d;
    ta_loop *loop;
    int calls;
    bool again;
    struct job *other, *undo;
} job;

static void on_defer(ta_defer *d)
{
    job *j = TA_CONTAINER_OF(d, job, d);
    j->calls++;
    if (j->again)
        ta_loop_defer(j->loop, d);
    if (j->other)
        ta_loop_defer(j->loop, &j->other->d);
    if (j->undo)
        ta_loop_undefer(j->loop, &j->undo->d);
}

BOTH(deferred)
{
    ta_loop *loop = new_loop();
    job a = {.d = {.fn = on_defer}, .loop = loop}, b = a, c = a;
    unsigned served;
    ta_loop_defer(loop, &a.d);
    ta_loop_defer(loop, &a.d);
    a.other = &b;
    uint64_t start = ms();
    CHECK_INT(turn(loop, 5000, &served), ==, 0); /* no wait: work was done */
    CHECK_INT(ms() - start, <, 3000);
    CHECK_INT(a.calls, ==, 1);
    CHECK_INT(b.calls, ==, 1);
    CHECK_INT(served, ==, 2);
    ta_loop_defer(loop, &a.d);
    ta_loop_undefer(loop, &a.d);
    ta_loop_undefer(loop, &a.d);
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    CHECK_INT(served, ==, 0);
    /* one undoes another of the same round */
    a = (job){.d = {.fn = on_defer}, .loop = loop, .undo = &c};
    ta_loop_defer(loop, &a.d);
    ta_loop_defer(loop, &c.d);
    CHECK_INT(turn(loop, 0, NULL), ==, 0);
    CHECK_INT(c.calls, ==, 0);
    /* one that re-defers itself for ever neither hangs a batch nor lets the next one block */
    c.again = true;
    ta_loop_defer(loop, &c.d);
    CHECK_INT(turn(loop, 5000, NULL), ==, 0);
    int once = c.calls;
    CHECK_INT(once, >, 0);
    CHECK_INT(turn(loop, 5000, NULL), ==, 0);
    CHECK_INT(c.calls, >, once);
    CHECK_INT(ms() - start, <, 4000);
    ta_loop_free(loop); /* with one still queued */
    CHECK(!ta_list_linked(&c.d.node));
}

typedef struct next_job {
    ta_defer d;
    ta_loop *loop;
    watch *w;
    int calls;
    unsigned before; /* calls of w by then */
    uint64_t batch;  /* of the last call */
} next_job;

static void on_next(ta_defer *d)
{
    next_job *j = TA_CONTAINER_OF(d, next_job, d);
    j->calls++;
    j->batch = ta_loop_batch(j->loop);
    j->before = j->w ? j->w->calls : 0;
    ta_loop_defer_next(j->loop, d);
}

/* Once a batch, behind its descriptors, and without a wait. */
BOTH(next_batch)
{
    ta_loop *loop = new_loop();
    watch w;
    next_job a = {.d = {.fn = on_next}, .loop = loop, .w = &w};
    unsigned served;
    int p[2];
    pair(p);
    watch_add(&w, loop, p[0], TA_EV_READ);
    CHECK(write(p[1], "x", 1) == 1);
    uint64_t start = ms(), batch = ta_loop_batch(loop);
    ta_loop_defer_next(loop, &a.d);
    ta_loop_defer_next(loop, &a.d);
    for (int i = 1; i <= 3; i++) {
        CHECK_INT(turn(loop, 5000, &served), ==, 0);
        CHECK_INT(served, ==, 2);
        CHECK_INT(a.calls, ==, i);
        CHECK_INT(a.before, ==, i);
        CHECK_INT(a.batch, ==, batch + (uint64_t)i);
    }
    ta_loop_del(loop, &w.io);
    CHECK_INT(turn(loop, 5000, &served), ==, 0);
    CHECK_INT(served, ==, 1);
    ta_loop_undefer(loop, &a.d);
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    CHECK_INT(served, ==, 0);
    CHECK_INT(ms() - start, <, 4000);
    ta_loop_defer_next(loop, &a.d);
    ta_loop_free(loop); /* with one still queued */
    CHECK(!ta_list_linked(&a.d.node));
    close(p[0]);
    close(p[1]);
}

TA_TEST(nested)
{
    ta_loop *loop = ta_loop_new(TA_BACKEND_EPOLL);
    CHECK(loop != NULL);
    CHECK_INT(ta_loop_set_nested(loop, true), ==, TA_OK);
    CHECK_INT(ta_loop_set_nested(loop, true), ==, TA_OK);
    struct pollfd outer = {.fd = ta_loop_fd(loop), .events = POLLIN};
    unsigned served;
    CHECK(poll(&outer, 1, 0) == 0);
    /* a timer set outside of a batch wakes the outer loop */
    ta_timer t = {.on_expire = on_expire};
    expired = 0;
    ta_loop_refresh(loop);
    ta_loop_set_timer(loop, &t, 20);
    for (int i = 0; i < 10 && !expired; i++) {
        CHECK(poll(&outer, 1, 5000) == 1);
        CHECK_INT(turn(loop, 0, &served), ==, 0);
    }
    CHECK_INT(expired, ==, 1);
    CHECK(poll(&outer, 1, 0) == 0); /* no busy loop afterwards */
    /* and its time runs from now on, not from our last batch */
    poll(NULL, 0, 60);
    uint64_t set_at = ms();
    ta_loop_set_timer(loop, &t, 50);
    for (int i = 0; i < 10 && expired < 2; i++) {
        CHECK(poll(&outer, 1, 5000) == 1);
        CHECK_INT(turn(loop, 0, &served), ==, 0);
    }
    CHECK_INT(expired, ==, 2);
    CHECK_INT(ms() - set_at, >=, 49);
    /* deferred work too */
    job a = {.d = {.fn = on_defer}, .loop = loop};
    ta_loop_defer(loop, &a.d);
    CHECK(poll(&outer, 1, 1000) == 1);
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    CHECK_INT(a.calls, ==, 1);
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    CHECK(poll(&outer, 1, 0) == 0);
    next_job next = {.d = {.fn = on_next}, .loop = loop};
    ta_loop_defer_next(loop, &next.d);
    CHECK(poll(&outer, 1, 1000) == 1);
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    CHECK_INT(next.calls, ==, 1);
    ta_loop_undefer(loop, &next.d);
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    CHECK(poll(&outer, 1, 0) == 0);
    CHECK_INT(ta_loop_set_nested(loop, false), ==, TA_OK);
    ta_loop_free(loop);
    loop = ta_loop_new(TA_BACKEND_POLL);
    CHECK_INT(ta_loop_set_nested(loop, true), ==, TA_EUNSUPPORTED);
    CHECK_INT(ta_loop_set_nested(loop, false), ==, TA_OK);
    ta_loop_free(loop);
}

/* -- what other threads see ------------------------------------------------------------------- */

static void wait_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}

static uint64_t held_within; /* by a callback that took 30 ms */

static void on_held(ta_io *io, unsigned events)
{
    watch *w = TA_CONTAINER_OF(io, watch, io);
    on_event(io, events);
    wait_ms(30);
    held_within = ta_loop_held(w->loop);
}

/* NULL: what it saw was sane. */
static void *look(void *arg)
{
    ta_loop *loop = arg;
    bool sane = true;
    for (int i = 0; i < 50; i++) {
        uint64_t last = ta_loop_last(loop);
        sane = sane && ta_loop_held(loop) < 600000 && ta_loop_last(loop) >= last;
        wait_ms(1);
    }
    return sane ? NULL : arg;
}

BOTH(held)
{
    ta_loop *loop = new_loop();
    CHECK_INT((int)ta_loop_held(loop), ==, 0); /* not begun */
    int fds[2];
    CHECK(pipe(fds) == 0);
    watch w = {.io = {.on_event = on_held, .fd = fds[0]}, .loop = loop};
    CHECK_INT(ta_loop_add(loop, &w.io, TA_EV_READ), ==, TA_OK);
    pthread_t other;
    CHECK(pthread_create(&other, NULL, look, loop) == 0);
    CHECK(write(fds[1], "x", 1) == 1);
    unsigned served;
    CHECK_INT(turn(loop, 1000, &served), ==, 0);
    CHECK_INT((int)held_within, >=, 29); /* milliseconds are cut off */
    wait_ms(20);                         /* the caller's own work counts */
    CHECK_INT((int)ta_loop_held(loop), >=, 49);
    CHECK(ta_loop_last(loop) == ta_loop_now(loop));
    ta_loop_del(loop, &w.io);
    CHECK_INT(turn(loop, 20, &served), ==, 0); /* waiting does not */
    CHECK_INT((int)ta_loop_held(loop), <, 49);
    void *insane;
    CHECK(pthread_join(other, &insane) == 0);
    CHECK(insane == NULL);
    close(fds[0]);
    close(fds[1]);
    ta_loop_free(loop);
}

TA_TEST(held_nested)
{
    ta_loop *loop = ta_loop_new(TA_BACKEND_EPOLL);
    CHECK(loop != NULL);
    CHECK_INT(ta_loop_set_nested(loop, true), ==, TA_OK);
    unsigned served;
    CHECK_INT(turn(loop, 0, &served), ==, 0);
    wait_ms(20);
    CHECK_INT((int)ta_loop_held(loop), ==, 0); /* outside of a batch: the other loop's affair */
    ta_loop_free(loop);
}

static int mem_pipe[2];
static void scenario(void)
{
    for (int i = 0; i < 2; i++) {
        ta_loop *loop = ta_loop_new(i ? TA_BACKEND_POLL : TA_BACKEND_EPOLL);
        if (!loop) {
            if (errno != ENOMEM)
                FAIL("errno %d", errno);
            continue;
        }
        watch w = {.io = {.on_event = on_event, .fd = mem_pipe[0]}};
        int err = ta_loop_add(loop, &w.io, TA_EV_READ);
        if (err != TA_OK && err != TA_ENOMEM)
            FAIL("%d", err);
        if (err == TA_OK)
            ta_loop_del(loop, &w.io);
        ta_loop_free(loop);
    }
}

TA_TEST(no_memory)
{
    CHECK(pipe(mem_pipe) == 0);
    ta_failmalloc_all(scenario);
}
