/* Connections over a transport that behaves as TLS may. */
#include "conn_fixture.h"

/* -- a transport as awkward as TLS ---------------------------------------------------------------
 */

typedef struct odd {
    ta_transport s;
    int handshakes; /* rounds left */
    int fail_handshake;
    char held[65536]; /* read from the socket, not yet handed out */
    size_t n_held, off;
    const void *retry; /* a write that said TA_AGAIN must be repeated with the same bytes */
    char retry_copy[64];
    size_t retry_len;
    unsigned writes;
    int shutdowns, shut_again, closed;
} odd;

static int odd_handshake(ta_transport *s)
{
    odd *o = (odd *)s;
    char byte;
    while (o->handshakes) {
        ssize_t n = recv(s->fd, &byte, 1, 0);
        if (n < 0)
            return TA_AGAIN;
        if (n == 0)
            return TA_ECLOSED;
        if (o->fail_handshake)
            return TA_EBAD;
        o->handshakes--;
    }
    return TA_OK;
}

/* Takes all there is from the socket, gives it in pieces of three bytes. */
static ssize_t odd_read(ta_transport *s, void *data, size_t cap)
{
    odd *o = (odd *)s;
    if (o->n_held == 0) {
        ssize_t n = recv(s->fd, o->held, sizeof(o->held), 0);
        if (n == 0)
            return 0;
        if (n < 0)
            return errno == EAGAIN ? TA_AGAIN : TA_ECLOSED;
        o->off = 0;
        o->n_held = (size_t)n;
    }
    size_t n = TA_MIN(TA_MIN(o->n_held, 3), cap);
    memcpy(data, o->held + o->off, n);
    o->off += n;
    o->n_held -= n;
    return (ssize_t)n;
}

static size_t odd_pending(const ta_transport *s)
{
    return ((const odd *)s)->n_held;
}

/* At most five bytes of the first piece; every second time TA_AGAIN though the socket is ready. */
static ssize_t odd_writev(ta_transport *s, const struct iovec *iov, int n)
{
    odd *o = (odd *)s;
    CHECK(n >= 1 && iov[0].iov_len > 0);
    size_t len = TA_MIN(iov[0].iov_len, 5);
    if (o->retry_len) {
        CHECK_INT(len, >=, o->retry_len);
        CHECK_MEM(iov[0].iov_base, o->retry_copy, o->retry_len);
        len = o->retry_len;
    }
    if (o->writes++ % 2 == 0) {
        memcpy(o->retry_copy, iov[0].iov_base, len);
        o->retry_len = len;
        return TA_AGAIN;
    }
    o->retry_len = 0;
    ssize_t k = send(s->fd, iov[0].iov_base, len, MSG_NOSIGNAL);
    return k < 0 ? (errno == EAGAIN ? TA_AGAIN : TA_ECLOSED) : k;
}

static int odd_shutdown(ta_transport *s)
{
    odd *o = (odd *)s;
    o->shutdowns++;
    return o->shut_again-- > 0 ? TA_AGAIN : TA_OK;
}

static void odd_close(ta_transport *s)
{
    ((odd *)s)->closed++;
}

static ta_str odd_alpn(const ta_transport *s)
{
    return TA_STR("h2");
}

static const ta_transport_ops odd_ops = {.read = odd_read,
                                         .writev = odd_writev,
                                         .handshake = odd_handshake,
                                         .shutdown = odd_shutdown,
                                         .pending = odd_pending,
                                         .close = odd_close,
                                         .alpn = odd_alpn};

static void open_odd(proto *p, odd *o)
{
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    o->s = (ta_transport){.ops = &odd_ops,
                          .fd = fds[0],
                          .read_wants = TA_EV_READ,
                          .write_wants = TA_EV_WRITE,
                          .secure = true};
    open_fd(p, fds[0], fds[1], &o->s, &ops);
}

TA_TEST(odd_transport)
{
    start((ta_conn_cfg){0});
    static odd o = {.handshakes = 2, .shut_again = 2};
    proto p;
    open_odd(&p, &o);
    CHECK_INT(p.opens, ==, 0);
    CHECK_INT(ta_conn_write(&p.c, "early ", 6), ==, TA_OK); /* waits for the handshake */
    put(&p, "h");
    turn(20);
    CHECK_INT(p.opens, ==, 0);
    put(&p, "hfirst bytes with the handshake");
    UNTIL(p.opens == 1);
    UNTIL(p.got.len == 30);
    CHECK_STR(ta_buf_str(&p.got), "first bytes with the handshake");
    CHECK(ta_conn_secure(&p.c));
    CHECK_STR(ta_conn_alpn(&p.c), "h2");
    CHECK_INT(ta_conn_write(&p.c, "hello ", 6), ==, TA_OK);
    static char body[6000];
    memset(body, 'q', sizeof(body));
    keeps = released = 0;
    CHECK_INT(ta_conn_write_lent(&p.c, ta_str_of(body, sizeof(body)), TA_STR(""), &lender), >=,
              TA_AGAIN);
    CHECK_INT(keeps, ==, 1);
    CHECK_INT(ta_conn_write(&p.c, "end", 3), >=, TA_AGAIN);
    char got[6015];
    CHECK_INT(drain_peer(&p, got, sizeof(got)), ==, sizeof(got));
    CHECK_MEM(got, "early hello qqqq", 16);
    CHECK_MEM(got + 6012, "end", 3);
    CHECK_INT(released, ==, 1);
    /* what the transport holds comes after a pause, though the socket is empty */
    p.got.len = p.got.off = 0;
    ta_conn_pause(&p.c);
    put(&p, "0123456789");
    ta_conn_resume(&p.c);
    turn(50);
    ta_conn_pause(&p.c);
    check_idle();
    ta_conn_resume(&p.c);
    UNTIL(p.got.len == 10);
    ta_conn_finish(&p.c, true);
    expect_eof(&p);
    CHECK_INT(o.shutdowns, ==, 3);
    close(p.fd);
    p.fd = -1;
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_OK);
    CHECK_INT(o.closed, ==, 1);
    done(&p);
    stop();
}

static void pause_at_once(proto *p)
{
    take(p, SIZE_MAX);
    ta_conn_pause(&p->c);
}

TA_TEST(odd_transport_paused_with_bytes_held)
{
    start((ta_conn_cfg){0});
    static odd o;
    proto p;
    open_odd(&p, &o);
    p.on_data = pause_at_once;
    put(&p, "0123456789");
    UNTIL(p.opens == 1);
    for (size_t n = 3; n <= 10; n = n < 9 ? n + 3 : n + 1) {
        UNTIL(p.got.len >= n);
        check_idle();
        CHECK_INT(p.got.len, ==, n);
        ta_conn_resume(&p.c);
    }
    done(&p);
    stop();
    CHECK_INT(o.closed, ==, 1);
}

TA_TEST(failed_handshake)
{
    start((ta_conn_cfg){0});
    static odd o = {.handshakes = 2, .fail_handshake = 1};
    proto p;
    open_odd(&p, &o);
    put(&p, "x");
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_EBAD);
    CHECK_INT(p.opens, ==, 0);
    CHECK_INT(o.closed, ==, 1);
    done(&p);
    static odd o2 = {.handshakes = 2};
    open_odd(&p, &o2);
    ta_conn_set_deadline(&p.c, 20); /* bounds the handshake */
    UNTIL(p.timeouts == 1);
    ta_conn_finish(&p.c, true); /* nothing can be sent yet: closes */
    UNTIL(p.closes == 1);
    done(&p);
    stop();
}

/* -- a transport that waits for the other direction ------------------------------------------- */

/* Before each write the peer must have sent a '+', before each read some bytes must have gone out:
 * a '-', and the socket must take it. */
typedef struct crossed {
    ta_transport t;
    bool may_write, may_read;
    char held[64];
    size_t n_held;
} crossed;

static void crossed_fill(crossed *x)
{
    char byte;
    while (recv(x->t.fd, &byte, 1, 0) == 1) {
        if (byte == '+')
            x->may_write = true;
        else
            x->held[x->n_held++] = byte;
    }
}

static ssize_t crossed_read(ta_transport *t, void *data, size_t cap)
{
    crossed *x = (crossed *)t;
    crossed_fill(x);
    t->read_wants = TA_EV_READ;
    if (!x->n_held)
        return TA_AGAIN;
    if (!x->may_read) {
        x->may_read = true;
        t->read_wants = TA_EV_WRITE;
        return TA_AGAIN;
    }
    CHECK_INT(send(t->fd, "-", 1, MSG_NOSIGNAL), ==, 1);
    x->may_read = false;
    size_t n = TA_MIN(x->n_held, cap);
    memcpy(data, x->held, n);
    x->n_held = 0;
    return (ssize_t)n;
}

static ssize_t crossed_writev(ta_transport *t, const struct iovec *iov, int n)
{
    crossed *x = (crossed *)t;
    crossed_fill(x);
    t->write_wants = TA_EV_READ;
    if (!x->may_write)
        return TA_AGAIN;
    x->may_write = false;
    return send(t->fd, iov[0].iov_base, TA_MIN(iov[0].iov_len, (size_t)4), MSG_NOSIGNAL);
}

static int crossed_shutdown(ta_transport *t)
{
    return TA_OK;
}

static size_t crossed_pending(const ta_transport *t)
{
    return ((const crossed *)t)->n_held;
}

static const ta_transport_ops crossed_ops = {
    .read = crossed_read,
    .writev = crossed_writev,
    .shutdown = crossed_shutdown,
    .pending = crossed_pending,
};

TA_TEST(each_direction_waits_for_the_other)
{
    start((ta_conn_cfg){0});
    crossed x = {.t = {.ops = &crossed_ops, .read_wants = TA_EV_READ, .write_wants = TA_EV_WRITE}};
    proto p;
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    x.t.fd = fds[0];
    open_fd(&p, fds[0], fds[1], &x.t, &ops);
    CHECK_INT(ta_conn_write(&p.c, "abcdefgh", 8), ==, TA_OK);
    check_idle(); /* waits for input, not for room */
    CHECK_INT(ta_conn_queued(&p.c), ==, 8);
    put(&p, "+");
    expect(&p, "abcd");
    check_idle();
    put(&p, "+");
    expect(&p, "efgh");
    CHECK_INT(ta_conn_queued(&p.c), ==, 0);
    put(&p, "input");
    UNTIL(p.got.len == 5);
    expect(&p, "-");
    CHECK_STR(ta_buf_str(&p.got), "input");
    check_idle();
    /* also while reading is paused */
    ta_conn_pause(&p.c);
    CHECK_INT(ta_conn_write(&p.c, "last", 4), ==, TA_OK);
    turn(5);
    put(&p, "+");
    expect(&p, "last");
    done(&p);
    stop();
}

/* -- a peer that takes everything at once ----------------------------------------------------- */

static ssize_t swallow(ta_transport *s, const struct iovec *iov, int n)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    return (ssize_t)total;
}

static ssize_t swallow_file(ta_transport *s, int fd, int64_t offset, size_t len)
{
    return (ssize_t)len;
}

/* A big file to a fast peer: bounded in each batch, so that others get their turn. */
TA_TEST(sending_is_bounded_in_a_batch)
{
    start((ta_conn_cfg){0});
    proto p, q;
    open_pair(&p);
    open_pair(&q);
    ta_transport s = p.c.tcp;
    ta_transport_ops other = *s.ops;
    other.writev = swallow;
    other.sendfile = swallow_file;
    s.ops = &other;
    p.c.transport = &s;
    enum { N = 50 << 20 };
    int fd = make_file(10);
    CHECK_INT(ta_conn_write(&p.c, "head", 4), ==, TA_OK);
    CHECK_INT(ta_conn_sendfile(&p.c, fd, 0, N, file_done, &dones), ==, TA_AGAIN);
    int turns = 0;
    while (ta_conn_queued(&p.c)) {
        uint64_t before = p.c.bytes_out;
        put(&q, "x");
        turn(100);
        CHECK_INT(p.c.bytes_out - before, <=, 3 << 20);
        CHECK_INT(p.c.bytes_out - before, >, 0);
        CHECK_INT(q.datas, ==, ++turns);
    }
    CHECK_INT(turns, >, 15);
    CHECK_INT(p.c.bytes_out, ==, N + 4);
    CHECK_INT(dones, ==, 1);
    UNTIL(p.drains == 1);
    close(fd);
    done(&p);
    done(&q);
    stop();
}
