/* conn_fixture.h -- a loop, connections with a recording protocol, and the peer's end of each. */
#ifndef TA_CONN_FIXTURE_H
#define TA_CONN_FIXTURE_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "net/conn_int.h"
#include "net/tcp.h"
#include "ta_failmalloc.h"
#include "ta_test.h"
#include "veil_transport.h"

/* -- a protocol that records what happens, and does what a test tells it to ------------------- */

typedef struct proto {
    ta_conn c;
    int fd;     /* the peer's end, blocking; -1 once closed */
    ta_buf got; /* all bytes that on_data consumed */
    int opens, datas, drains, eofs, hups, timeouts, closes, reason;
    size_t consume;                   /* bytes taken by an on_data; SIZE_MAX: all */
    void (*on_data)(struct proto *p); /* instead of consuming */
    void (*on_close)(struct proto *p);
} proto;

static ta_loop *loop;
static ta_conn_group *group;

TA_UNUSED static proto *of(ta_conn *c)
{
    return TA_CONTAINER_OF(c, proto, c);
}

TA_UNUSED static void on_open(ta_conn *c)
{
    of(c)->opens++;
}

TA_UNUSED static void take(proto *p, size_t n)
{
    n = TA_MIN(n, p->c.in.len);
    CHECK_INT(ta_buf_append(&p->got, ta_buf_str(&p->c.in).ptr, n), ==, TA_OK);
    ta_conn_consume(&p->c, n);
}

TA_UNUSED static void on_data(ta_conn *c)
{
    proto *p = of(c);
    CHECK(!c->closed && p->closes == 0);
    p->datas++;
    if (p->on_data)
        p->on_data(p);
    else
        take(p, p->consume);
}

TA_UNUSED static void on_drain(ta_conn *c)
{
    of(c)->drains++;
}

TA_UNUSED static void on_eof(ta_conn *c)
{
    of(c)->eofs++;
}

TA_UNUSED static void on_hup(ta_conn *c)
{
    of(c)->hups++;
}

TA_UNUSED static void on_timeout(ta_conn *c)
{
    of(c)->timeouts++;
}

TA_UNUSED static void on_close(ta_conn *c, int reason)
{
    proto *p = of(c);
    p->closes++;
    p->reason = reason;
    CHECK_INT(c->io.fd, ==, -1);
    if (p->on_close)
        p->on_close(p);
    memset(c, 0x5a, sizeof(*c)); /* nobody may look at it any more */
}

TA_UNUSED static const ta_conn_ops ops = {on_open, on_data,    on_drain, on_eof,
                                          on_hup,  on_timeout, on_close};
TA_UNUSED static const ta_conn_ops few_ops = {.on_data = on_data, .on_close = on_close};

static ta_backend test_backend(void)
{
    return ta_test_with_poll() ? TA_BACKEND_POLL : TA_BACKEND_EPOLL;
}

TA_UNUSED static void start(ta_conn_cfg cfg)
{
    loop = ta_loop_new(test_backend());
    CHECK(loop != NULL);
    group = ta_conn_group_new(loop, &cfg);
    CHECK(group != NULL);
}

TA_UNUSED static void stop(void)
{
    ta_conn_group_free(group);
    ta_loop_free(loop);
}

TA_UNUSED static void open_fd(proto *p, int fd, int peer, ta_transport *transport,
                              const ta_conn_ops *o)
{
    *p = (proto){.fd = peer, .consume = SIZE_MAX};
    CHECK_INT(ta_conn_open(&p->c, group, fd, NULL, 0, transport, o, p), ==, TA_OK);
    ta_loop_refresh(loop);
}

/* Whether the tests run over the transport of veil_transport.h: TA_TEST_TRANSPORT=veil. */
TA_UNUSED static bool veiled(void)
{
    const char *name = getenv("TA_TEST_TRANSPORT");
    return name && strcmp(name, "veil") == 0;
}

/* Leaves a test that is of plain sockets. */
#define PLAIN_ONLY()                                                                               \
    do {                                                                                           \
        if (veiled()) {                                                                            \
            CHECK(true);                                                                           \
            return;                                                                                \
        }                                                                                          \
    } while (0)

TA_UNUSED static ta_transport *transport_for(int fd)
{
    return veiled() ? veil_new(fd) : NULL;
}

/* What the peer sends and receives, in the same form. */
TA_UNUSED static ssize_t peer_send(int fd, const void *data, size_t n, int flags)
{
    if (!veiled())
        return send(fd, data, n, flags);
    char *copy = malloc(n + 1);
    veil_bytes(copy, data, n);
    ssize_t k = send(fd, copy, n, flags);
    free(copy);
    return k;
}

TA_UNUSED static ssize_t peer_recv(int fd, void *data, size_t n, int flags)
{
    ssize_t k = recv(fd, data, n, flags);
    if (k > 0 && veiled())
        veil_bytes(data, data, (size_t)k);
    return k;
}

TA_UNUSED static void open_pair(proto *p)
{
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    open_fd(p, fds[0], fds[1], transport_for(fds[0]), &ops);
}

/* A TCP connection over loopback; buffers small when `small`. */
TA_UNUSED static void open_tcp(proto *p, bool small)
{
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), size = 4096;
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (small)
        CHECK(setsockopt(l, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
    CHECK(bind(l, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(l, 1) == 0);
    CHECK(getsockname(l, (struct sockaddr *)&a, &len) == 0);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (small)
        CHECK(setsockopt(c, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) == 0);
    CHECK(connect(c, (struct sockaddr *)&a, sizeof(a)) == 0);
    struct sockaddr_in peer;
    len = sizeof(peer);
    int s = accept4(l, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(s >= 0);
    close(l);
    *p = (proto){.fd = c, .consume = SIZE_MAX};
    CHECK_INT(
        ta_conn_open(&p->c, group, s, (struct sockaddr *)&peer, len, transport_for(s), &ops, p), ==,
        TA_OK);
    ta_loop_refresh(loop);
}

TA_UNUSED static void done(proto *p)
{
    if (p->fd >= 0)
        close(p->fd);
    ta_buf_free(&p->got);
}

TA_UNUSED static uint64_t ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

TA_UNUSED static unsigned turn(int timeout_ms)
{
    ta_ready ready[1];
    unsigned served = 0;
    CHECK_INT(ta_loop_poll(loop, timeout_ms, ready, TA_LOOP_BATCH, &served), ==, 0);
    return served;
}

/* Turns until `cond`, five seconds at most. */
#define UNTIL(cond)                                                                                \
    do {                                                                                           \
        uint64_t ta_end = ms() + 5000;                                                             \
        while (!(cond)) {                                                                          \
            if (ms() > ta_end)                                                                     \
                FAIL("never came: %s", #cond);                                                     \
            turn(10);                                                                              \
        }                                                                                          \
    } while (0)

/* A connection with nothing to do costs no turns. */
TA_UNUSED static void check_idle(void)
{
    unsigned served = 0;
    for (int i = 0; i < 8; i++)
        served += turn(5);
    CHECK_INT(served, <=, 3);
}

TA_UNUSED static void put(proto *p, const char *text)
{
    CHECK_INT(peer_send(p->fd, text, strlen(text), 0), ==, strlen(text));
}

/* Reads n bytes at the peer's end while the loop turns; fewer when it is closed. */
TA_UNUSED static size_t drain_peer(proto *p, char *to, size_t n)
{
    size_t have = 0;
    uint64_t end = ms() + 10000;
    while (have < n && ms() < end) {
        struct pollfd pf = {.fd = p->fd, .events = POLLIN};
        turn(0);
        if (poll(&pf, 1, 1) == 1) {
            ssize_t k = peer_recv(p->fd, to + have, n - have, 0);
            if (k <= 0)
                break;
            have += (size_t)k;
        }
    }
    return have;
}

TA_UNUSED static void expect(proto *p, const char *text)
{
    char buf[1000];
    size_t n = drain_peer(p, buf, strlen(text));
    CHECK_STR(ta_str_of(buf, n), text);
}

TA_UNUSED static void expect_eof(proto *p)
{
    char byte;
    struct pollfd pf = {.fd = p->fd, .events = POLLIN};
    for (int i = 0; i < 500 && poll(&pf, 1, 0) == 0; i++)
        turn(10);
    CHECK_INT(recv(p->fd, &byte, 1, MSG_DONTWAIT), ==, 0);
}

/* -- what is lent to a connection ----------------------------------------------------------- */

TA_UNUSED static int released;
TA_UNUSED static void release(void *arg)
{
    CHECK(arg == &released);
    released++;
}

TA_UNUSED static int keeps;
TA_UNUSED static void *keep_lent(void *owner)
{
    keeps++;
    return owner;
}
TA_UNUSED static const ta_lender lender = {keep_lent, release, &released};

TA_UNUSED static int dones, done_error;
TA_UNUSED static void file_done(void *arg, int error)
{
    CHECK(arg == &dones);
    dones++;
    done_error = error;
}

TA_UNUSED static int make_file(size_t n)
{
    char name[] = "/tmp/ta_conn_XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    unlink(name);
    char *data = malloc(n);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)(i * 5 >> 1);
    CHECK_INT(write(fd, data, n), ==, n);
    free(data);
    return fd;
}

#endif
