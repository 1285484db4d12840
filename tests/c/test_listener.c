#include "net/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/mem.h"
#include "listen_fixture.h"
#include "ta_failmalloc.h"
#include "ta_test.h"

static ta_loop *loop;
static int accepted[64], n_accepted, n_exhausted, limit = 1000, last_errno;
static bool free_at_accept;
static ta_listener *listener;

static void on_accept(ta_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    CHECK(ta_listener_ctx(l) == &n_accepted);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK_INT(len, >=, sizeof(sa_family_t));
    if (peer->sa_family == AF_INET || peer->sa_family == AF_INET6) {
        int on = 0;
        socklen_t n = sizeof(on);
        CHECK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &n) == 0);
        CHECK_INT(on, !=, 0);
    }
    accepted[n_accepted++] = fd;
    if (free_at_accept)
        ta_listener_free(l);
}

static bool may_accept(ta_listener *l)
{
    return n_accepted < limit;
}

static void on_exhausted(ta_listener *l, int error_number)
{
    n_exhausted++;
    last_errno = error_number;
}

static const ta_listener_ops ops = {on_accept, may_accept, on_exhausted};

static unsigned turn(int timeout_ms)
{
    ta_ready ready[1];
    unsigned served = 0;
    CHECK_INT(ta_loop_poll(loop, timeout_ms, ready, 1, &served), ==, 0);
    return served;
}

static uint64_t ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void start(int fd, unsigned batch)
{
    loop = ta_loop_new(ta_test_with_poll() ? TA_BACKEND_POLL : TA_BACKEND_EPOLL);
    CHECK(loop != NULL);
    listener = ta_listener_new(loop, fd, TA_LISTENER_OWN, batch, &ops, &n_accepted);
    CHECK(listener != NULL);
}

static void stop(void)
{
    ta_listener_free(listener);
    ta_listener_free(NULL);
    ta_loop_free(loop);
    for (int i = 0; i < n_accepted; i++)
        close(accepted[i]);
}

/* Blocking sockets of the test's own; -1 and errno when refused. */
static int dial4(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* How many bytes the kernel takes of a connection whose peer reads nothing, and has not sent. */
static int taken_unsent(int fd)
{
    static const char bytes[4096];
    int n;
    while (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
        ;
    CHECK_INT(errno, ==, EAGAIN);
    CHECK(ioctl(fd, SIOCOUTQNSD, &n) == 0);
    return n;
}

/* Of what a client does not read the kernel holds some, but not all that it would have room for. */
TA_TEST(unread_bytes_are_bounded)
{
    enum { MOST = 200000, SLACK = 70000 /* it allots memory by the piece */ };
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), size = 1 << 20;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
    CHECK(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 8) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    start(fd, 0);
    int client[2];
    for (int i = 0; i < 2; i++) {
        ta_listener_bound_unsent(listener, i ? 0 : MOST);
        client[i] = dial4(ntohs(a.sin_port));
        for (int turns = 0; n_accepted <= i && turns < 100; turns++)
            turn(100);
        CHECK_INT(n_accepted, ==, i + 1);
        int n = taken_unsent(accepted[i]);
        if (i == 0)
            CHECK_INT(n, >=, MOST - SLACK);
        CHECK(i ? n > MOST + SLACK : n < MOST + SLACK);
        close(client[i]);
    }
    stop();
}

TA_TEST(unix_socket)
{
    char path[] = "/tmp/ta_listener_XXXXXX";
    CHECK(mkdtemp(path) != NULL);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 8) == 0);
    start(fd, 0);
    int c = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(c, (struct sockaddr *)&a, sizeof(a)) == 0);
    turn(1000);
    CHECK_INT(n_accepted, ==, 1);
    close(c);
    unlink(a.sun_path);
    rmdir(path);
    stop();
}

static uint16_t listen4(unsigned batch)
{
    uint16_t port;
    start(ta_test_listen(&port), batch);
    return port;
}

TA_TEST(batch_is_bounded)
{
    uint16_t port = listen4(3);
    int c[8];
    for (int i = 0; i < 8; i++)
        CHECK((c[i] = dial4(port)) >= 0);
    turn(1000);
    CHECK_INT(n_accepted, ==, 3);
    turn(1000);
    turn(1000);
    CHECK_INT(n_accepted, ==, 8);
    for (int i = 0; i < 8; i++)
        close(c[i]);
    stop();
}

TA_TEST(connection_limit)
{
    uint16_t port = listen4(0);
    limit = 2;
    int c[3];
    for (int i = 0; i < 3; i++)
        CHECK((c[i] = dial4(port)) >= 0); /* the third waits in the backlog */
    turn(1000);
    CHECK_INT(n_accepted, ==, 2);
    CHECK_INT(turn(30), ==, 0);
    limit = 3;
    ta_listener_resume(listener);
    turn(1000);
    CHECK_INT(n_accepted, ==, 3);
    for (int i = 0; i < 3; i++)
        close(c[i]);
    stop();
}

TA_TEST(freed_in_callback)
{
    uint16_t port = listen4(0);
    free_at_accept = true;
    int a = dial4(port), b = dial4(port);
    turn(1000);
    CHECK_INT(n_accepted, ==, 1);
    listener = NULL;
    close(a);
    close(b);
    stop();
}

/* Out of descriptors: no busy loop, the waiting client is told, and all goes on afterwards. */
TA_TEST(out_of_descriptors)
{
    uint16_t port = listen4(0);
    int a = dial4(port), b = dial4(port);
    CHECK(a >= 0 && b >= 0);
    struct rlimit old, low;
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    int top = dup(0); /* the next number */
    close(top);
    low = old;
    low.rlim_cur = (rlim_t)top;
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    turn(1000);
    CHECK_INT(n_accepted, ==, 0);
    CHECK_INT(n_exhausted, ==, 1);
    CHECK_INT(last_errno, ==, EMFILE);
    char byte;
    CHECK_INT(recv(a, &byte, 1, 0), <=, 0); /* shed: closed at once */
    uint64_t begin = ms();
    unsigned turns = 0;
    while (ms() - begin < 60) { /* nothing to do for a while */
        turn((int)(60 - (ms() - begin)));
        turns++;
    }
    CHECK_INT(turns, <, 10);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    for (begin = ms(); n_accepted == 0 && ms() - begin < 5000;)
        turn(200);
    CHECK_INT(n_accepted, ==, 1);
    close(a);
    close(b);
    stop();
}

static void scenario(void)
{
    ta_loop *l = ta_loop_new(TA_BACKEND_AUTO);
    if (!l)
        return;
    uint16_t port;
    int fd = ta_test_listen(&port);
    ta_listener *x = ta_listener_new(l, fd, TA_LISTENER_SHARED, 0, &ops, NULL);
    if (!x && errno != ENOMEM)
        FAIL("errno %d", errno);
    ta_listener_free(x);
    close(fd); /* not owned */
    ta_loop_free(l);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(scenario);
}

TA_TEST(bad_descriptor)
{
    loop = ta_loop_new(TA_BACKEND_AUTO);
    CHECK(ta_listener_new(loop, 4000, TA_LISTENER_OWN, 0, &ops, NULL) == NULL);
    CHECK_INT(errno, ==, EBADF);
    ta_loop_free(loop);
}

/* -- shared by several loops ---------------------------------------------------------------- */

enum { SHARERS = 3 };

typedef struct sharer {
    ta_loop *loop;
    ta_listener *listener;
    pthread_t thread;
    int count, limit;
    _Atomic bool *stop;
    _Atomic int *total;
} sharer;

static void share_accept(ta_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    (void)peer, (void)len;
    sharer *s = ta_listener_ctx(l);
    s->count++;
    atomic_fetch_add(s->total, 1);
    close(fd);
}

static bool share_may_accept(ta_listener *l)
{
    sharer *s = ta_listener_ctx(l);
    return s->count < s->limit;
}

static const ta_listener_ops share_ops = {share_accept, share_may_accept, NULL};

static void *share(void *arg)
{
    sharer *s = arg;
    ta_ready ready[1];
    while (!atomic_load(s->stop))
        if (ta_loop_poll(s->loop, 50, ready, 1, NULL) < 0)
            FAIL("poll");
    return NULL;
}

static void share_start(sharer *s, int fd, _Atomic bool *stop_flag, _Atomic int *total)
{
    s->loop = ta_loop_new(ta_test_with_poll() ? TA_BACKEND_POLL : TA_BACKEND_EPOLL);
    s->listener = ta_listener_new(s->loop, fd, TA_LISTENER_SHARED, 0, &share_ops, s);
    CHECK(s->loop && s->listener);
    s->stop = stop_flag;
    s->total = total;
}

static void share_stop(sharer *s)
{
    ta_listener_free(s->listener);
    ta_loop_free(s->loop);
}

/* Until all of `want` were accepted; a loaded machine may take its time. */
static void share_wait(_Atomic int *total, int want)
{
    for (uint64_t begin = ms(); atomic_load(total) < want && ms() - begin < 20000;)
        usleep(200);
    CHECK_INT(atomic_load(total), ==, want);
}

static void share_run(const int *limits, int dials, int *counts)
{
    static _Atomic bool stop_flag;
    static _Atomic int total;
    static sharer sharers[SHARERS];
    uint16_t port;
    int fd = ta_test_listen(&port);
    for (int i = 0; i < SHARERS; i++) {
        sharers[i].limit = limits[i];
        share_start(&sharers[i], fd, &stop_flag, &total);
        CHECK(pthread_create(&sharers[i].thread, NULL, share, &sharers[i]) == 0);
    }
    /* One after the other, as soon as the last one was taken: all are idle in between. */
    for (int i = 0; i < dials; i++) {
        int c = dial4(port);
        CHECK(c >= 0);
        share_wait(&total, i + 1);
        usleep(1000);
        close(c);
    }
    atomic_store(&stop_flag, true);
    for (int i = 0; i < SHARERS; i++) {
        pthread_join(sharers[i].thread, NULL);
        counts[i] = sharers[i].count;
        share_stop(&sharers[i]);
    }
    close(fd);
}

/* Idle ones take turns: the kernel alone would give nearly all to the first. */
TA_TEST(shared_in_turn)
{
    int counts[SHARERS], limits[] = {1000, 1000, 1000};
    share_run(limits, 90, counts);
    for (int i = 0; i < SHARERS && !ta_test_with_poll(); i++)
        CHECK_INT(counts[i], >=, 10);
}

/* One that is full is not woken in the place of those that have room. */
TA_TEST(shared_with_full_ones)
{
    int counts[SHARERS], limits[] = {5, 7, 1000};
    share_run(limits, 60, counts);
    CHECK_INT(counts[0], <=, 5);
    CHECK_INT(counts[1], <=, 7);
    CHECK_INT(counts[2], >=, 48);
}

/* Waits as a process does that is woken for a connection and dies before it accepts it. */
static void *wake_and_die(void *arg)
{
    struct epoll_event ev;
    (void)epoll_wait(*(int *)arg, &ev, 1, 2000); /* 0: the other one was quicker */
    return NULL;
}

/* Nobody else was told of that connection: another one finds it by itself. */
TA_TEST(shared_with_a_dying_one)
{
    static _Atomic bool stop_flag;
    static _Atomic int total;
    static sharer alive = {.limit = 10};
    pthread_t dying;
    uint16_t port;
    int fd = ta_test_listen(&port), first = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    CHECK(epoll_ctl(first, EPOLL_CTL_ADD, fd, &ev) == 0);
    share_start(&alive, fd, &stop_flag, &total);
    CHECK(pthread_create(&alive.thread, NULL, share, &alive) == 0);
    CHECK(pthread_create(&dying, NULL, wake_and_die, &first) == 0);
    usleep(20000); /* both wait */
    int c = dial4(port);
    CHECK(c >= 0);
    pthread_join(dying, NULL);
    close(first);
    share_wait(&total, 1);
    atomic_store(&stop_flag, true);
    pthread_join(alive.thread, NULL);
    close(c);
    share_stop(&alive);
    close(fd);
}
