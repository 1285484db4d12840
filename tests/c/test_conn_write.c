/* The output of connections: order, backpressure, files; and running out of memory. */
#include "conn_fixture.h"

/* -- writing ---------------------------------------------------------------------------------- */

TA_TEST(sent_at_the_end_of_the_batch)
{
    start((ta_conn_cfg){0});
    proto p;
    char buf[16];
    open_pair(&p);
    CHECK_INT(ta_conn_write(&p.c, "a", 1), ==, TA_OK);
    CHECK_INT(ta_conn_write(&p.c, "", 0), ==, TA_OK);
    CHECK_INT(ta_conn_write(&p.c, "bcd", 3), ==, TA_OK);
    char *to = ta_conn_reserve(&p.c, 100);
    CHECK(to != NULL);
    memcpy(to, "ef", 2);
    CHECK_INT(ta_conn_commit(&p.c, 2), ==, TA_OK);
    CHECK_INT(ta_conn_queued(&p.c), ==, 6);
    CHECK_INT(peer_recv(p.fd, buf, sizeof(buf), MSG_DONTWAIT), ==, -1);
    turn(0);
    CHECK_INT(peer_recv(p.fd, buf, sizeof(buf), MSG_DONTWAIT), ==, 6); /* in one piece */
    CHECK_MEM(buf, "abcdef", 6);
    /* or when told */
    CHECK_INT(ta_conn_write(&p.c, "now", 3), ==, TA_OK);
    CHECK_INT(ta_conn_flush(&p.c), ==, TA_OK);
    CHECK_INT(peer_recv(p.fd, buf, sizeof(buf), MSG_DONTWAIT), ==, 3);
    CHECK_INT(ta_conn_queued(&p.c), ==, 0);
    done(&p);
    stop();
}

TA_TEST(backpressure)
{
    start((ta_conn_cfg){.write_high = 100000, .write_low = 20000});
    proto p;
    open_tcp(&p, true);
    char block[10000], *all = malloc(2000000);
    size_t n = 0;
    int err = TA_OK;
    while (n < 2000000 && err == TA_OK) {
        for (size_t i = 0; i < sizeof(block); i++)
            block[i] = all[n + i] = (char)((n + i) * 13 >> 4);
        err = ta_conn_write(&p.c, block, sizeof(block));
        n += sizeof(block);
    }
    CHECK_INT(err, ==, TA_AGAIN);
    CHECK_INT(ta_conn_queued(&p.c), >=, 100000);
    CHECK_INT(ta_conn_queued(&p.c), <=, 110000);
    check_idle();
    CHECK_INT(p.drains, ==, 0);
    char *got = malloc(n);
    CHECK_INT(drain_peer(&p, got, n), ==, n);
    CHECK_MEM(got, all, n);
    UNTIL(p.drains == 1);
    CHECK_INT(ta_conn_queued(&p.c), ==, 0);
    check_idle();
    CHECK_INT(p.drains, ==, 1);
    free(got);
    free(all);
    done(&p);
    stop();
}

/* At the edge: one byte below the high mark is fine, the mark itself is not. */
TA_TEST(high_mark_is_exact)
{
    start((ta_conn_cfg){.write_high = 1000, .write_low = 400});
    proto p;
    open_tcp(&p, true);
    /* fill the socket, so that nothing goes out */
    char block[10000] = {0};
    while (send(p.c.io.fd, block, sizeof(block), MSG_DONTWAIT) > 0)
        ;
    CHECK_INT(ta_conn_write(&p.c, block, 999), ==, TA_OK);
    CHECK_INT(ta_conn_write(&p.c, block, 1), ==, TA_AGAIN);
    CHECK_INT(ta_conn_write(&p.c, block, 1), ==, TA_AGAIN);
    char buf[65536];
    while (ta_conn_queued(&p.c)) {
        (void)!peer_recv(p.fd, buf, sizeof(buf), MSG_DONTWAIT);
        turn(1);
    }
    UNTIL(p.drains == 1);
    check_idle();
    CHECK_INT(p.drains, ==, 1);
    done(&p);
    stop();
}

/* A peer that reads as fast as we write must not keep the others from their turn. */
TA_TEST(much_at_once_ends_the_turn)
{
    PLAIN_ONLY(); /* a record at a time is never much at once */
    start((ta_conn_cfg){0});
    proto p;
    open_tcp(&p, false);
    static char block[65536], got[65536];
    for (int turns = 1; turns <= 2; turns++) {
        for (size_t sent = sizeof(block); sent <= 1 << 20; sent += sizeof(block)) {
            int expected = sent < 1 << 20 ? TA_OK : TA_AGAIN;
            CHECK_INT(ta_conn_write(&p.c, block, sizeof(block)), ==, expected);
            CHECK_INT(peer_recv(p.fd, got, sizeof(got), MSG_WAITALL), ==, sizeof(got));
        }
        CHECK_INT(ta_conn_queued(&p.c), ==, 0);
        CHECK_INT(p.drains, ==, turns - 1);
        turn(0);
        CHECK_INT(p.drains, ==, turns);
    }
    done(&p);
    stop();
}

static void *keep_never(void *owner)
{
    keeps++;
    return NULL;
}
static const ta_lender no_lender = {keep_never, NULL, NULL};

/* Lent bytes are kept only when they must wait, and let go of with the last one. */
TA_TEST(write_lent)
{
    PLAIN_ONLY(); /* only a plain socket is written to at once */
    enum { N = 3000000 };
    char *data = malloc(N), *got = malloc(N + 20);
    for (int i = 0; i < N; i++)
        data[i] = (char)(i * 11 >> 2);
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    keeps = released = 0;
    /* all of it goes at once, behind what was queued */
    CHECK_INT(ta_conn_write(&p.c, "head", 4), ==, TA_OK);
    CHECK_INT(ta_conn_write_lent(&p.c, ta_str_of(data, 20000), TA_STR("tail"), &lender), ==, TA_OK);
    CHECK_INT(ta_conn_queued(&p.c), ==, 0);
    CHECK(p.c.out.data == NULL);
    CHECK_INT(peer_recv(p.fd, got, 20008, MSG_WAITALL), ==, 20008);
    CHECK_MEM(got, "head", 4);
    CHECK_MEM(got + 4, data, 20000);
    CHECK_MEM(got + 20004, "tail", 4);
    CHECK_INT(keeps, ==, 0);
    check_idle();
    ta_conn_close(&p.c);
    UNTIL(p.closes == 1);
    done(&p);
    /* most of it must wait */
    for (int way = 0; way < 3; way++) {
        const ta_lender *from[] = {&lender, &no_lender, NULL};
        open_tcp(&p, true);
        keeps = released = 0;
        CHECK_INT(ta_conn_write(&p.c, "head", 4), ==, TA_OK);
        CHECK_INT(ta_conn_write_lent(&p.c, ta_str_of(data, N), TA_STR("tail"), from[way]), ==,
                  TA_AGAIN);
        CHECK_INT(keeps, ==, way < 2);
        CHECK_INT(p.c.out.cap, <, way ? N * 2 : 20000);
        CHECK_INT(ta_conn_write_lent(&p.c, ta_str_of(data, 10), TA_STR(""), from[way]), ==,
                  TA_AGAIN);
        CHECK_INT(keeps, ==, way < 2); /* little is copied */
        CHECK_INT(drain_peer(&p, got, N + 18), ==, N + 18);
        CHECK_MEM(got, "head", 4);
        CHECK_MEM(got + 4, data, N);
        CHECK_MEM(got + 4 + N, "tail", 4);
        CHECK_MEM(got + 8 + N, data, 10);
        CHECK_INT(released, ==, way == 0);
        UNTIL(p.drains == 1);
        /* the connection ends */
        CHECK_INT(ta_conn_write_lent(&p.c, ta_str_of(data, N), TA_STR(""), from[way]), ==,
                  TA_AGAIN);
        ta_conn_close(&p.c);
        CHECK_INT(released, ==, way ? 0 : 2);
        CHECK_INT(ta_conn_write_lent(&p.c, ta_str_of(data, N), TA_STR("tail"), from[way]), ==,
                  TA_ECLOSED);
        CHECK_INT(keeps, ==, way < 2 ? 2 : 0);
        UNTIL(p.closes == 1);
        done(&p);
    }
    free(data);
    free(got);
    stop();
}

/* One long body does not take the turn of the others, however fast its client reads. */
TA_TEST(lent_in_bounded_turns)
{
    enum { N = 8 << 20 };
    char *data = calloc(1, N);
    start((ta_conn_cfg){0});
    proto p;
    open_tcp(&p, false);
    keeps = released = 0;
    CHECK_INT(ta_conn_write_lent(&p.c, ta_str_of(data, N), TA_STR(""), &lender), ==, TA_AGAIN);
    CHECK_INT(p.c.bytes_out, <=, 1 << 20);
    uint64_t total = 0, before = p.c.bytes_out, start_ms = ms();
    static char got[1 << 16];
    while (total < N && ms() - start_ms < 10000) {
        ssize_t n = peer_recv(p.fd, got, sizeof(got), MSG_DONTWAIT);
        total += n > 0 ? (uint64_t)n : 0;
        turn(0);
        CHECK_INT(p.c.bytes_out - before, <=, 1 << 20);
        before = p.c.bytes_out;
    }
    CHECK_INT(total, ==, N);
    CHECK_INT(released, ==, 1);
    free(data);
    done(&p);
    stop();
}

/* The peer is gone, and so much is written that it is tried at once. */
TA_TEST(much_to_gone_peer)
{
    PLAIN_ONLY(); /* only a plain socket is written to at once */
    static char data[100000];
    for (int way = 0; way < 3; way++) {
        start((ta_conn_cfg){0});
        proto p;
        open_pair(&p);
        close(p.fd);
        p.fd = -1;
        keeps = released = 0;
        if (way == 0)
            CHECK_INT(ta_conn_write(&p.c, data, sizeof(data)), ==, TA_ECLOSED);
        if (way == 1)
            CHECK_INT(ta_conn_write_lent(&p.c, ta_str_of(data, sizeof(data)), TA_STR(""), &lender),
                      ==, TA_ECLOSED);
        if (way == 2) { /* with something before it */
            CHECK_INT(ta_conn_write(&p.c, "x", 1), ==, TA_OK);
            CHECK_INT(ta_conn_write(&p.c, data, sizeof(data)), ==, TA_ECLOSED);
        }
        CHECK_INT(released, ==, keeps);
        CHECK(p.c.closed);
        UNTIL(p.closes == 1);
        CHECK_INT(p.reason, ==, TA_ECLOSED);
        done(&p);
        stop();
    }
}

/* Release functions that call back. */
static proto *re_proto;
static void *keep_proto(void *owner)
{
    return owner;
}
/* Behind a file, so that it is queued: nothing can be sent before the file. */
static int write_behind_file(ta_str data, void (*let_go)(void *arg))
{
    ta_lender from = {keep_proto, let_go, re_proto};
    CHECK_INT(ta_conn_sendfile(&re_proto->c, make_file(1), 0, 1, NULL, NULL), ==, TA_OK);
    return ta_conn_write_lent(&re_proto->c, data, TA_STR(""), &from);
}
static void release_closes(void *arg)
{
    released++;
    ta_conn_close(&re_proto->c);
}
static void release_writes(void *arg)
{
    released++;
    (void)ta_conn_write(&re_proto->c, "more", 4);
}

/* A release function that fills the queue: what it was promised comes, though all is sent at once.
 */
static char much[300000];
static int much_result;
static void release_writes_much(void *arg)
{
    much_result = ta_conn_write(&re_proto->c, much, sizeof(much));
}

TA_TEST(drain_after_release_wrote_much)
{
    static char data[8192], got[1 + 8192 + sizeof(much)];
    start((ta_conn_cfg){.write_high = 1000});
    proto p;
    re_proto = &p;
    open_tcp(&p, false);
    int err = write_behind_file(ta_str_of(data, sizeof(data)), release_writes_much);
    CHECK(err == TA_OK || err == TA_AGAIN);
    CHECK_INT(much_result, ==, TA_AGAIN);
    CHECK_INT(drain_peer(&p, got, sizeof(got)), ==, sizeof(got));
    UNTIL(p.drains == 1);
    done(&p);
    stop();
}

TA_TEST(release_calls_back)
{
    static char data[8192];
    start((ta_conn_cfg){0});
    proto p;
    re_proto = &p;
    open_pair(&p);
    CHECK_INT(write_behind_file(ta_str_of(data, sizeof(data)), release_writes), ==, TA_OK);
    char got[1 + 8192];
    CHECK_INT(drain_peer(&p, got, sizeof(got)), ==, sizeof(got));
    expect(&p, "more");
    CHECK_INT(write_behind_file(ta_str_of(data, sizeof(data)), release_closes), ==, TA_ECLOSED);
    UNTIL(p.closes == 1);
    CHECK_INT(released, ==, 2);
    done(&p);
    stop();
}

/* -- files ------------------------------------------------------------------------------------ */

static void check_file_bytes(const char *got, size_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != (char)((from + i) * 5 >> 1))
            FAIL("byte %zu of the file differs", from + i);
}

static void sendfile_run(ta_transport *transport)
{
    start((ta_conn_cfg){0});
    proto p;
    enum { N = 2500000, FROM = 1000, LEN = N - 2000 };
    int fd = make_file(N);
    char *got = malloc(N);
    dones = 0;
    open_tcp(&p, true);
    if (transport) {
        transport->fd = p.c.io.fd;
        p.c.transport = transport;
    }
    CHECK_INT(ta_conn_write(&p.c, "head", 4), ==, TA_OK);
    CHECK_INT(ta_conn_sendfile(&p.c, fd, FROM, LEN, file_done, &dones), ==, TA_AGAIN);
    CHECK_INT(ta_conn_write(&p.c, "mid", 3), ==, TA_AGAIN);
    CHECK_INT(ta_conn_sendfile(&p.c, dup(fd), 0, 10, NULL, NULL), ==, TA_AGAIN);
    CHECK_INT(ta_conn_write(&p.c, "tail", 4), ==, TA_AGAIN);
    CHECK_INT(drain_peer(&p, got, LEN + 21), ==, LEN + 21);
    CHECK_MEM(got, "head", 4);
    check_file_bytes(got + 4, FROM, LEN);
    CHECK_MEM(got + 4 + LEN, "mid", 3);
    check_file_bytes(got + 7 + LEN, 0, 10);
    CHECK_MEM(got + 17 + LEN, "tail", 4);
    UNTIL(p.drains == 1);
    CHECK_INT(dones, ==, 1);
    CHECK_INT(done_error, ==, TA_OK);
    CHECK_INT(p.c.bytes_out, ==, LEN + 21);
    CHECK_INT(ta_conn_sendfile(&p.c, fd, 0, 0, file_done, &dones), ==, TA_OK);
    CHECK_INT(dones, ==, 2);
    ta_conn_close(&p.c);
    CHECK_INT(ta_conn_sendfile(&p.c, fd, 0, 10, file_done, &dones), ==, TA_ECLOSED);
    CHECK_INT(dones, ==, 3);
    CHECK_INT(done_error, ==, TA_ECLOSED);
    free(got);
    close(fd);
    done(&p);
    stop();
}

TA_TEST(sendfile)
{
    sendfile_run(NULL);
}

static ssize_t refuse_sendfile(ta_transport *s, int fd, int64_t offset, size_t len)
{
    return TA_EUNSUPPORTED;
}

/* A transport without sendfile, or a file that cannot be sent so: it is read. */
TA_TEST(sendfile_by_reading)
{
    PLAIN_ONLY(); /* it has a transport of its own */
    for (int i = 0; i < 2; i++) {
        ta_transport s;
        ta_tcp_init(&s, -1);
        ta_transport_ops other = *s.ops;
        other.sendfile = i ? refuse_sendfile : NULL;
        s.ops = &other;
        sendfile_run(&s);
    }
}

/* A file shorter than promised: the peer must not take the response for complete. */
TA_TEST(file_too_short)
{
    PLAIN_ONLY(); /* it has a transport of its own */
    for (int by_reading = 0; by_reading < 2; by_reading++) {
        start((ta_conn_cfg){0});
        proto p;
        ta_transport s;
        ta_transport_ops no_sendfile;
        int fd = make_file(1000);
        char got[4000];
        dones = 0;
        open_tcp(&p, false);
        if (by_reading) {
            s = p.c.tcp;
            no_sendfile = *s.ops;
            no_sendfile.sendfile = NULL;
            s.ops = &no_sendfile;
            p.c.transport = &s;
        }
        CHECK_INT(ta_conn_sendfile(&p.c, fd, 0, 2000, file_done, &dones), ==, TA_OK);
        UNTIL(p.closes == 1);
        CHECK_INT(p.reason, ==, TA_ESYS);
        CHECK_INT(dones, ==, 1);
        CHECK_INT(done_error, ==, TA_ESYS);
        ssize_t n;
        while ((n = peer_recv(p.fd, got, sizeof(got), 0)) > 0)
            ;
        CHECK_INT(n, ==, -1);
        CHECK_INT(errno, ==, ECONNRESET);
        close(fd);
        done(&p);
        stop();
    }
}

TA_TEST(file_dropped_by_close)
{
    start((ta_conn_cfg){0});
    proto p;
    int fd = make_file(1000);
    open_pair(&p);
    CHECK_INT(ta_conn_sendfile(&p.c, fd, 0, 1000, file_done, &dones), ==, TA_OK);
    ta_conn_close(&p.c);
    CHECK_INT(dones, ==, 1);
    CHECK_INT(done_error, ==, TA_ECLOSED);
    CHECK(fcntl(fd, F_GETFD) >= 0); /* borrowed */
    close(fd);
    done(&p);
    stop();
}

static void scenario(void)
{
    loop = ta_loop_new(test_backend());
    if (!loop)
        return;
    group = ta_conn_group_new(loop, &(ta_conn_cfg){.read_size = 4096, .write_high = 20000});
    if (!group) {
        ta_loop_free(loop);
        return;
    }
    static char big[60000];
    proto p = {.consume = 0};
    int fds[2], fd = make_file(3000);
    dones = keeps = released = 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    p.fd = fds[1];
    if (ta_conn_open(&p.c, group, fds[0], NULL, 0, NULL, &ops, &p) == TA_OK) {
        (void)!peer_send(p.fd, big, 9000, 0);
        (void)ta_conn_write(&p.c, big, 100);
        (void)ta_conn_write(&p.c, big, sizeof(big));
        (void)ta_conn_write_lent(&p.c, ta_str_of(big, 5000), TA_STR(""), &lender);
        (void)ta_conn_sendfile(&p.c, fd, 0, 3000, file_done, &dones);
        (void)ta_conn_write(&p.c, big, 100);
        ta_ready ready[1];
        for (int i = 0; i < 8; i++) {
            (void)!peer_recv(p.fd, big, sizeof(big), MSG_DONTWAIT);
            if (ta_loop_poll(loop, 0, ready, TA_LOOP_BATCH, NULL) < 0)
                FAIL("poll");
        }
        if (p.closes == 0)
            ta_conn_close(&p.c);
        else if (p.reason != TA_ENOMEM)
            FAIL("closed for %d", p.reason);
    } else {
        close(fds[0]);
        dones = 1;
        p.closes = 1;
    }
    ta_conn_group_free(group);
    if (p.closes != 1 || dones != 1 || released != keeps)
        FAIL("on_close %d, done %d, %d kept and %d released", p.closes, dones, keeps, released);
    ta_loop_free(loop);
    close(fd);
    close(p.fd);
    ta_buf_free(&p.got);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(scenario);
}
