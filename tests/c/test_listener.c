#include "net/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/mem.h"
#include "ta_failmalloc.h"
#include "ta_test.h"

static ta_loop *loop;
static int accepted[64], n_accepted, n_exhausted, limit = 1000, last_errno;
static bool stop_at_accept, free_at_accept;
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
    if (stop_at_accept)
        ta_listener_pause(l);
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
    CHECK_INT(ta_listener_fd(listener), ==, fd);
    CHECK(ta_listener_active(listener));
}

static void stop(void)
{
    ta_listener_free(listener);
    ta_listener_free(NULL);
    ta_loop_free(loop);
    for (int i = 0; i < n_accepted; i++)
        close(accepted[i]);
}

static uint16_t port_of(int fd)
{
    char host[TA_ADDR_TEXT];
    uint16_t port;
    CHECK_INT(ta_sock_name(fd, host, &port), ==, TA_OK);
    return port;
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

static int dial_unix(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    memcpy(a.sun_path, path, n);
    if (path[0] == '@')
        a.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    if (connect(fd, (struct sockaddr *)&a,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] != '@'))) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool has_ipv6(void)
{
    int fds[TA_BIND_MAX], n = ta_bind_tcp("::1", 0, NULL, fds);
    if (n > 0)
        close(fds[0]);
    return n > 0;
}

TA_TEST(tcp_v4)
{
    int fds[TA_BIND_MAX];
    CHECK_INT(ta_bind_tcp("127.0.0.1", 0, NULL, fds), ==, 1);
    char host[TA_ADDR_TEXT];
    uint16_t port;
    CHECK_INT(ta_sock_name(fds[0], host, &port), ==, TA_OK);
    CHECK(strcmp(host, "127.0.0.1") == 0);
    CHECK(port != 0);
    start(fds[0], 0);
    int c = dial4(port);
    CHECK(c >= 0);
    turn(1000);
    CHECK_INT(n_accepted, ==, 1);
    close(c);
    /* the port is taken while we listen, and free at once afterwards (SO_REUSEADDR) */
    int more[TA_BIND_MAX];
    CHECK_INT(ta_bind_tcp("127.0.0.1", port, NULL, more), ==, TA_ESYS);
    CHECK_INT(errno, ==, EADDRINUSE);
    stop();
    CHECK_INT(ta_bind_tcp("127.0.0.1", port, NULL, more), ==, 1);
    close(more[0]);
}

TA_TEST(tcp_all_addresses)
{
    int fds[TA_BIND_MAX];
    int n = ta_bind_tcp(NULL, 0, NULL, fds);
    CHECK_INT(n, ==, 1);
    uint16_t port = port_of(fds[0]);
    start(fds[0], 0);
    int c = dial4(port); /* dual-stack: IPv4 arrives */
    CHECK(c >= 0);
    turn(1000);
    CHECK_INT(n_accepted, ==, 1);
    close(c);
    stop();
    n = ta_bind_tcp("", 0, NULL, fds);
    CHECK_INT(n, ==, 1);
    close(fds[0]);
}

TA_TEST(tcp_names)
{
    int fds[TA_BIND_MAX];
    int n = ta_bind_tcp("localhost", 0, NULL, fds);
    CHECK_INT(n, >=, 1);
    for (int i = 1; i < n; i++) /* one port for all addresses */
        CHECK_INT(port_of(fds[i]), ==, port_of(fds[0]));
    for (int i = 0; i < n; i++)
        close(fds[i]);
    CHECK_INT(ta_bind_tcp("no-such-host.invalid", 0, NULL, fds), ==, TA_ENOTFOUND);
    CHECK_INT(ta_bind_tcp("203.0.113.1", 0, NULL, fds), ==, TA_ESYS); /* not an address of ours */
    CHECK_INT(errno, ==, EADDRNOTAVAIL);
}

TA_TEST(tcp_v6_only)
{
    CHECK(true);
    if (!has_ipv6())
        return;
    int fds[TA_BIND_MAX];
    CHECK_INT(ta_bind_tcp("::", 0, &(ta_bind_cfg){.v6_only = true}, fds), ==, 1);
    CHECK_INT(dial4(port_of(fds[0])), ==, -1);
    close(fds[0]);
    CHECK_INT(ta_bind_tcp("::", 0, NULL, fds), ==, 1);
    int c = dial4(port_of(fds[0]));
    CHECK(c >= 0);
    close(c);
    close(fds[0]);
}

TA_TEST(reuse_port)
{
    int a[TA_BIND_MAX], b[TA_BIND_MAX];
    ta_bind_cfg cfg = {.reuse_port = true, .backlog = 16};
    CHECK_INT(ta_bind_tcp("127.0.0.1", 0, &cfg, a), ==, 1);
    CHECK_INT(ta_bind_tcp("127.0.0.1", port_of(a[0]), &cfg, b), ==, 1);
    CHECK_INT(port_of(a[0]), ==, port_of(b[0]));
    close(a[0]);
    close(b[0]);
}

static char dir[] = "/tmp/ta_listener_XXXXXX";
static char path[200];

static const char *temp_path(const char *name)
{
    if (!path[0])
        CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

TA_TEST(unix_socket)
{
    const char *p = temp_path("s");
    struct stat st;
    char host[TA_ADDR_TEXT];
    uint16_t port = 7;
    int fd = ta_bind_unix(p, 0620, NULL);
    CHECK_INT(fd, >=, 0);
    CHECK(stat(p, &st) == 0);
    CHECK_INT(st.st_mode & 0777, ==, 0620);
    CHECK_INT(ta_sock_name(fd, host, &port), ==, TA_OK);
    CHECK(strcmp(host, p) == 0);
    CHECK_INT(port, ==, 0);
    start(fd, 0);
    int c = dial_unix(p);
    CHECK(c >= 0);
    turn(1000);
    CHECK_INT(n_accepted, ==, 1);
    close(c);
    /* somebody listens: not taken away */
    CHECK_INT(ta_bind_unix(p, -1, NULL), ==, TA_ESYS);
    CHECK_INT(errno, ==, EADDRINUSE);
    ta_unbind_unix("/nowhere", fd); /* not ours: untouched */
    CHECK(stat(p, &st) == 0);
    ta_unbind_unix(p, fd);
    CHECK(stat(p, &st) < 0);
    ta_unbind_unix(p, fd);
    stop();
    rmdir(dir);
}

/* Too busy to answer is not dead. */
TA_TEST(unix_full_backlog_is_alive)
{
    const char *p = temp_path("s");
    int fd = ta_bind_unix(p, -1, &(ta_bind_cfg){.backlog = 1}), c[4];
    CHECK_INT(fd, >=, 0);
    for (int i = 0; i < 4; i++) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        memcpy(a.sun_path, p, strlen(p));
        c[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(c[i], (struct sockaddr *)&a, sizeof(a));
    }
    CHECK_INT(ta_bind_unix(p, -1, NULL), ==, TA_ESYS);
    CHECK_INT(errno, ==, EADDRINUSE);
    struct stat st;
    CHECK(stat(p, &st) == 0);
    for (int i = 0; i < 4; i++)
        close(c[i]);
    ta_unbind_unix(p, fd);
    close(fd);
    rmdir(dir);
}

TA_TEST(unix_stale_file)
{
    const char *p = temp_path("s");
    int fd = ta_bind_unix(p, -1, NULL);
    CHECK_INT(fd, >=, 0);
    close(fd); /* the file stays, as after a crash */
    fd = ta_bind_unix(p, -1, NULL);
    CHECK_INT(fd, >=, 0);
    ta_unbind_unix(p, fd);
    close(fd);
    /* what is no socket is never removed */
    int plain = open(p, O_CREAT | O_RDWR, 0600);
    CHECK(plain >= 0);
    close(plain);
    CHECK_INT(ta_bind_unix(p, -1, NULL), ==, TA_ESYS);
    CHECK_INT(errno, ==, EADDRINUSE);
    struct stat st;
    CHECK(stat(p, &st) == 0);
    unlink(p);
    rmdir(dir);
    /* lengths: 107 bytes and a NUL fit */
    char big[200];
    memset(big, 'x', sizeof(big));
    memcpy(big, "/tmp/", 5);
    big[108] = 0;
    CHECK_INT(ta_bind_unix(big, -1, NULL), ==, TA_ETOOLARGE);
    big[107] = 0;
    fd = ta_bind_unix(big, -1, NULL);
    CHECK_INT(fd, >=, 0);
    char host[TA_ADDR_TEXT];
    uint16_t port;
    CHECK_INT(ta_sock_name(fd, host, &port), ==, TA_OK);
    CHECK(strcmp(host, big) == 0);
    ta_unbind_unix(big, fd);
    CHECK(stat(big, &st) < 0);
    close(fd);
    CHECK_INT(ta_bind_unix("", -1, NULL), ==, TA_ETOOLARGE);
    CHECK_INT(ta_bind_unix("/no/such/dir/s", -1, NULL), ==, TA_ESYS);
    CHECK_INT(errno, ==, ENOENT);
}

TA_TEST(unix_abstract)
{
    char name[64], host[TA_ADDR_TEXT];
    uint16_t port;
    snprintf(name, sizeof(name), "@ta-test-%d", (int)getpid());
    int fd = ta_bind_unix(name, 0600, NULL);
    CHECK_INT(fd, >=, 0);
    CHECK_INT(ta_sock_name(fd, host, &port), ==, TA_OK);
    CHECK(strcmp(host, name) == 0);
    int c = dial_unix(name);
    CHECK(c >= 0);
    CHECK_INT(ta_bind_unix(name, -1, NULL), ==, TA_ESYS);
    CHECK_INT(errno, ==, EADDRINUSE);
    close(c);
    close(fd);
}

TA_TEST(adopt)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(s, (struct sockaddr *)&a, sizeof(a)) == 0);
    CHECK_INT(ta_bind_adopt(s, NULL), ==, TA_OK); /* bound only: listens now */
    CHECK(fcntl(s, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(s, F_GETFD) & FD_CLOEXEC);
    CHECK_INT(ta_bind_adopt(s, NULL), ==, TA_OK);
    int c = dial4(port_of(s));
    CHECK(c >= 0);
    CHECK_INT(ta_bind_adopt(c, NULL), ==, TA_EINVAL); /* connected */
    int u = socket(AF_INET, SOCK_DGRAM, 0), p[2];
    CHECK_INT(ta_bind_adopt(u, NULL), ==, TA_EINVAL);
    CHECK(pipe(p) == 0);
    CHECK_INT(ta_bind_adopt(p[0], NULL), ==, TA_EINVAL);
    CHECK_INT(ta_bind_adopt(4000, NULL), ==, TA_ESYS);
    CHECK_INT(errno, ==, EBADF);
    close(c);
    close(s);
}

TA_TEST(systemd)
{
    char pid[32];
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    CHECK_INT(ta_bind_systemd(), ==, 0);
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_PID", "1", 1); /* meant for another process */
    CHECK_INT(ta_bind_systemd(), ==, 0);
    snprintf(pid, sizeof(pid), "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    for (int fd = 3; fd < 10; fd++)
        close(fd);
    CHECK_INT(ta_bind_systemd(), ==, 0); /* promised but not there */
    CHECK_INT(dup(0), ==, 3);
    CHECK_INT(ta_bind_systemd(), ==, 1);
    CHECK_INT(dup(0), ==, 4);
    CHECK_INT(ta_bind_systemd(), ==, 2);
    setenv("LISTEN_FDS", "x", 1);
    CHECK_INT(ta_bind_systemd(), ==, 0);
    setenv("LISTEN_FDS", "-1", 1);
    CHECK_INT(ta_bind_systemd(), ==, 0);
    setenv("LISTEN_FDS", "", 1);
    CHECK_INT(ta_bind_systemd(), ==, 0);
}

static uint16_t listen4(unsigned batch)
{
    int fds[TA_BIND_MAX];
    CHECK_INT(ta_bind_tcp("127.0.0.1", 0, NULL, fds), ==, 1);
    uint16_t port = port_of(fds[0]);
    start(fds[0], batch);
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

TA_TEST(pause_and_resume)
{
    uint16_t port = listen4(0);
    stop_at_accept = true;
    int a = dial4(port), b = dial4(port);
    turn(1000);
    CHECK_INT(n_accepted, ==, 1); /* paused by the first */
    CHECK(!ta_listener_active(listener));
    CHECK_INT(turn(30), ==, 0);
    stop_at_accept = false;
    ta_listener_resume(listener);
    ta_listener_resume(listener);
    turn(1000);
    CHECK_INT(n_accepted, ==, 2);
    ta_listener_pause(listener);
    ta_listener_pause(listener);
    CHECK_INT(turn(10), ==, 0);
    close(a);
    close(b);
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
    CHECK(!ta_listener_active(listener));
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
    CHECK(!ta_listener_active(listener));
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
    CHECK(ta_listener_active(listener));
    close(a);
    close(b);
    stop();
}

/* Paused by its owner while it waits out an exhaustion: stays paused. */
TA_TEST(paused_while_exhausted)
{
    uint16_t port = listen4(0);
    int a = dial4(port), b = dial4(port);
    struct rlimit old, low;
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    int top = dup(0);
    close(top);
    low = old;
    low.rlim_cur = (rlim_t)top;
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    turn(1000);
    CHECK_INT(n_exhausted, ==, 1);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    ta_listener_pause(listener);
    for (uint64_t begin = ms(); ms() - begin < 150;)
        turn(50);
    CHECK(!ta_listener_active(listener));
    ta_listener_resume(listener);
    turn(1000);
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
    int fds[TA_BIND_MAX];
    if (ta_bind_tcp("127.0.0.1", 0, NULL, fds) != 1)
        FAIL("bind");
    ta_listener *x = ta_listener_new(l, fds[0], TA_LISTENER_SHARED, 0, &ops, NULL);
    if (!x && errno != ENOMEM)
        FAIL("errno %d", errno);
    ta_listener_free(x);
    close(fds[0]); /* not owned */
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
    int fds[TA_BIND_MAX];
    CHECK_INT(ta_bind_tcp("127.0.0.1", 0, NULL, fds), ==, 1);
    uint16_t port = port_of(fds[0]);
    for (int i = 0; i < SHARERS; i++) {
        sharers[i].limit = limits[i];
        share_start(&sharers[i], fds[0], &stop_flag, &total);
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
    close(fds[0]);
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
    int fds[TA_BIND_MAX], first = epoll_create1(EPOLL_CLOEXEC);
    CHECK_INT(ta_bind_tcp("127.0.0.1", 0, NULL, fds), ==, 1);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    CHECK(epoll_ctl(first, EPOLL_CTL_ADD, fds[0], &ev) == 0);
    share_start(&alive, fds[0], &stop_flag, &total);
    CHECK(pthread_create(&alive.thread, NULL, share, &alive) == 0);
    CHECK(pthread_create(&dying, NULL, wake_and_die, &first) == 0);
    usleep(20000); /* both wait */
    int c = dial4(port_of(fds[0]));
    CHECK(c >= 0);
    pthread_join(dying, NULL);
    close(first);
    share_wait(&total, 1);
    atomic_store(&stop_flag, true);
    pthread_join(alive.thread, NULL);
    close(c);
    share_stop(&alive);
    close(fds[0]);
}
