/* Life and end of connections. */
#include "conn_fixture.h"

/* -- the peer's end --------------------------------------------------------------------------- */

TA_TEST(fin_then_response)
{
    start((ta_conn_cfg){0});
    proto p;
    open_tcp(&p, false);
    put(&p, "request");
    shutdown(p.fd, SHUT_WR);
    UNTIL(p.eofs == 1);
    CHECK_STR(ta_buf_str(&p.got), "request");
    CHECK(p.c.eof && p.c.hup && !p.c.closed);
    check_idle();
    CHECK_INT(p.eofs, ==, 1);
    CHECK_INT(p.hups, ==, 0);
    CHECK_INT(ta_conn_write(&p.c, "late response", 13), ==, TA_OK);
    ta_conn_finish(&p.c, true);
    CHECK_INT(ta_conn_write(&p.c, "no", 2), ==, TA_ECLOSED);
    expect(&p, "late response");
    expect_eof(&p);
    UNTIL(p.closes == 1); /* at once: the peer has sent its FIN */
    CHECK_INT(p.reason, ==, TA_OK);
    done(&p);
    stop();
}

TA_TEST(fin_without_on_eof_closes)
{
    start((ta_conn_cfg){0});
    int fds[2];
    proto p;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    open_fd(&p, fds[0], fds[1], NULL, &few_ops);
    shutdown(p.fd, SHUT_WR);
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_OK);
    done(&p);
    stop();
}

TA_TEST(fin_while_paused)
{
    start((ta_conn_cfg){0});
    proto p;
    open_tcp(&p, false);
    ta_conn_pause(&p.c);
    put(&p, "unread");
    shutdown(p.fd, SHUT_WR);
    UNTIL(p.hups == 1);
    CHECK(p.c.hup && !p.c.eof);
    check_idle();
    CHECK_INT(p.datas, ==, 0);
    ta_conn_resume(&p.c);
    UNTIL(p.eofs == 1);
    CHECK_STR(ta_buf_str(&p.got), "unread");
    CHECK_INT(p.hups, ==, 1);
    check_idle();
    done(&p);
    stop();
}

/* Bytes first, which end the watching for more; the FIN later is noticed all the same. */
TA_TEST(fin_long_after_pause)
{
    start((ta_conn_cfg){0});
    proto p;
    open_tcp(&p, false);
    ta_conn_pause(&p.c);
    put(&p, "unread");
    check_idle();
    CHECK_INT(p.hups, ==, 0);
    shutdown(p.fd, SHUT_WR);
    UNTIL(p.hups == 1);
    check_idle();
    ta_conn_resume(&p.c);
    UNTIL(p.eofs == 1);
    CHECK_STR(ta_buf_str(&p.got), "unread");
    done(&p);
    stop();
}

static void reset_peer(proto *p)
{
    struct linger now = {1, 0};
    CHECK(setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0);
    close(p->fd);
    p->fd = -1;
}

TA_TEST(reset_is_told_apart)
{
    for (int paused = 0; paused < 2; paused++) {
        start((ta_conn_cfg){0});
        proto p;
        open_tcp(&p, false);
        if (paused)
            ta_conn_pause(&p.c);
        turn(0);
        reset_peer(&p);
        UNTIL(p.closes == 1);
        CHECK_INT(p.reason, ==, TA_ECLOSED);
        CHECK_INT(p.eofs, ==, 0);
        CHECK_INT(p.hups, ==, 0);
        done(&p);
        stop();
    }
}

TA_TEST(reset_after_fin)
{
    start((ta_conn_cfg){0});
    proto p;
    open_tcp(&p, false);
    shutdown(p.fd, SHUT_WR);
    UNTIL(p.eofs == 1);
    reset_peer(&p);
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_ECLOSED);
    done(&p);
    stop();
}

/* Bytes that came before the peer went are delivered first. */
TA_TEST(unix_peer_closes_with_bytes_unread)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    put(&p, "last words");
    close(p.fd);
    p.fd = -1;
    UNTIL(p.eofs == 1);
    CHECK_STR(ta_buf_str(&p.got), "last words");
    UNTIL(p.closes == 1); /* gone for good: both sides */
    CHECK_INT(p.reason, ==, TA_ECLOSED);
    done(&p);
    stop();
}

TA_TEST(write_to_gone_peer)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    close(p.fd);
    p.fd = -1;
    (void)ta_conn_write(&p.c, "x", 1);
    (void)ta_conn_flush(&p.c); /* EPIPE, no signal */
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_ECLOSED);
    done(&p);
    stop();
}

/* -- ending ----------------------------------------------------------------------------------- */

static void close_in_data(proto *p)
{
    ta_conn_close(&p->c);
    ta_conn_close(&p->c);
    CHECK(p->c.closed);
    CHECK_INT(p->closes, ==, 0);
    /* everything is allowed on a closed one */
    ta_buf b = {0};
    CHECK_INT(ta_conn_write(&p->c, "x", 1), ==, TA_ECLOSED);
    CHECK_INT(ta_conn_flush(&p->c), ==, TA_ECLOSED);
    CHECK(ta_conn_reserve(&p->c, 10) == NULL);
    CHECK_INT(ta_conn_commit(&p->c, 0), ==, TA_ECLOSED);
    CHECK_INT(ta_conn_queued(&p->c), ==, 0);
    ta_conn_set_sink(&p->c, &b, 5);
    CHECK_INT(ta_conn_sink_left(&p->c), ==, 0);
    ta_conn_pause(&p->c);
    ta_conn_resume(&p->c);
    ta_conn_consume(&p->c, 1);
    ta_conn_consume_pinned(&p->c, 1);
    ta_conn_unpin(&p->c);
    ta_conn_set_deadline(&p->c, 1);
    ta_conn_clear_deadline(&p->c);
    ta_conn_finish(&p->c, true);
    ta_conn_reset(&p->c);
    ta_str host;
    uint16_t port;
    ta_conn_peer(&p->c, &host, &port);
    ta_conn_local(&p->c, &host, &port);
    CHECK_INT(ta_conn_alpn(&p->c).len, ==, 0);
    CHECK(!ta_conn_secure(&p->c));
}

TA_TEST(close_in_upcall)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    p.on_data = close_in_data;
    put(&p, "abc");
    UNTIL(p.closes == 1);
    CHECK_INT(p.datas, ==, 1);
    done(&p);
    stop();
}

TA_TEST(reset)
{
    start((ta_conn_cfg){0});
    proto p;
    open_tcp(&p, false);
    ta_conn_reset(&p.c);
    char byte;
    UNTIL(p.closes == 1);
    CHECK_INT(peer_recv(p.fd, &byte, 1, 0), ==, -1);
    CHECK_INT(errno, ==, ECONNRESET);
    done(&p);
    stop();
}

/* The reason for lingering: unread input must not destroy the response. */
TA_TEST(lingering_close_saves_the_response)
{
    start((ta_conn_cfg){.linger_ms = 3000});
    proto p;
    open_tcp(&p, false);
    ta_conn_pause(&p.c);
    put(&p, "a request that nobody reads");
    turn(10);
    CHECK_INT(ta_conn_write(&p.c, "413", 3), ==, TA_OK);
    ta_conn_finish(&p.c, true);
    for (int i = 0; i < 5; i++) {
        turn(5);
        put(&p, "and more of it"); /* after the shutdown: no RST */
    }
    CHECK_INT(p.closes, ==, 0);
    expect(&p, "413");
    expect_eof(&p);
    CHECK_INT(p.closes, ==, 0);
    close(p.fd);
    p.fd = -1;
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_OK);
    CHECK_INT(p.datas, ==, 0);
    done(&p);
    stop();
}

TA_TEST(reset_while_lingering)
{
    start((ta_conn_cfg){.linger_ms = 4000});
    proto p;
    open_tcp(&p, false);
    ta_conn_finish(&p.c, true);
    turn(0);
    CHECK_INT(p.closes, ==, 0);
    reset_peer(&p);
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_OK); /* all had been sent */
    done(&p);
    stop();
}

TA_TEST(lingering_is_bounded_in_time)
{
    start((ta_conn_cfg){.linger_ms = 50});
    proto p;
    open_tcp(&p, false);
    ta_conn_finish(&p.c, true);
    uint64_t begin = ms();
    UNTIL(p.closes == 1);
    CHECK_INT(ms() - begin, >=, 45);
    CHECK_INT(ms() - begin, <, 3000);
    CHECK_INT(p.reason, ==, TA_OK);
    done(&p);
    stop();
}

TA_TEST(lingering_is_bounded_in_bytes)
{
    start((ta_conn_cfg){.linger_ms = 4000, .linger_bytes = 50000});
    proto p;
    open_tcp(&p, false);
    ta_conn_finish(&p.c, true);
    char block[5000] = {0};
    int i = 0;
    for (; i < 30 && p.closes == 0; i++) {
        (void)!peer_send(p.fd, block, sizeof(block), MSG_NOSIGNAL | MSG_DONTWAIT);
        turn(5);
    }
    CHECK_INT(p.closes, ==, 1);
    CHECK_INT(i, >=, 10);
    done(&p);
    stop();
}

/* A peer that sends everything before it reads: both directions full, and yet it ends. */
TA_TEST(lingering_while_output_is_blocked)
{
    start((ta_conn_cfg){.linger_bytes = 100 << 20});
    proto p;
    open_tcp(&p, true);
    ta_conn_pause(&p.c);
    enum { OUT = 400000, IN = 3000000 };
    char *out = malloc(OUT), *in = calloc(1, IN), *got = malloc(OUT);
    memset(out, 'o', OUT);
    CHECK_INT(ta_conn_write(&p.c, out, OUT), ==, TA_AGAIN);
    ta_conn_finish(&p.c, true);
    fcntl(p.fd, F_SETFL, O_NONBLOCK);
    size_t sent = 0;
    uint64_t end = ms() + 10000;
    while (sent < IN && ms() < end) {
        ssize_t n = peer_send(p.fd, in + sent, IN - sent, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        turn(0);
    }
    CHECK_INT(sent, ==, IN);
    CHECK_INT(drain_peer(&p, got, OUT), ==, OUT);
    CHECK_MEM(got, out, OUT);
    close(p.fd);
    p.fd = -1;
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_OK);
    free(out);
    free(in);
    free(got);
    done(&p);
    stop();
}

TA_TEST(finish_without_linger)
{
    start((ta_conn_cfg){0});
    proto p;
    open_tcp(&p, false);
    CHECK_INT(ta_conn_write(&p.c, "bye", 3), ==, TA_OK);
    ta_conn_finish(&p.c, false);
    ta_conn_finish(&p.c, true); /* decided already */
    CHECK_INT(p.closes, ==, 0);
    expect(&p, "bye");
    expect_eof(&p);
    UNTIL(p.closes == 1);
    done(&p);
    stop();
}

TA_TEST(group)
{
    start((ta_conn_cfg){0});
    proto p[3];
    for (int i = 0; i < 3; i++)
        open_pair(&p[i]);
    CHECK_INT(ta_conn_group_cfg(group)->write_high, ==, 262144);
    CHECK_INT(ta_conn_group_cfg(group)->write_low, ==, 65536);
    for (int i = 0; i < 3; i++)
        ta_conn_close(&p[i].c);
    CHECK_INT(group->count, ==, 3);
    turn(0);
    CHECK_INT(group->count, ==, 0);
    for (int i = 0; i < 3; i++)
        done(&p[i]);
    /* freed with connections open, closed but not told, and with queued output */
    open_pair(&p[0]);
    open_pair(&p[1]);
    CHECK_INT(ta_conn_write(&p[0].c, "x", 1), ==, TA_OK);
    ta_conn_close(&p[1].c);
    stop();
    CHECK_INT(p[0].closes, ==, 1);
    CHECK_INT(p[1].closes, ==, 1);
    done(&p[0]);
    done(&p[1]);
}

/* -- deadlines -------------------------------------------------------------------------------- */

TA_TEST(deadline)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    uint64_t begin = ms();
    ta_conn_set_deadline(&p.c, 10000);
    ta_conn_set_deadline(&p.c, 30);
    UNTIL(p.timeouts == 1);
    CHECK_INT(ms() - begin, >=, 25);
    CHECK(!p.c.closed);
    turn(60);
    CHECK_INT(p.timeouts, ==, 1);
    ta_conn_set_deadline(&p.c, 20);
    ta_conn_clear_deadline(&p.c);
    turn(60);
    CHECK_INT(p.timeouts, ==, 1);
    ta_conn_set_deadline(&p.c, 20);
    ta_conn_finish(&p.c, true); /* the protocol's time is over */
    turn(30);
    turn(30);
    CHECK_INT(p.timeouts, ==, 1);
    done(&p);
    stop();
}

TA_TEST(deadline_without_on_timeout_closes)
{
    start((ta_conn_cfg){0});
    int fds[2];
    proto p;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    open_fd(&p, fds[0], fds[1], NULL, &few_ops);
    ta_conn_set_deadline(&p.c, 10);
    UNTIL(p.closes == 1);
    done(&p);
    stop();
}

TA_TEST(write_timeout)
{
    start((ta_conn_cfg){.write_timeout_ms = 300});
    proto p;
    open_tcp(&p, true);
    char *big = calloc(1, 5000000);
    CHECK_INT(ta_conn_write(&p.c, big, 5000000), ==, TA_AGAIN);
    uint64_t begin = ms();
    /* progress keeps it alive beyond the timeout... */
    char buf[16384];
    size_t read = 0, rounds = 0;
    while (ms() - begin < 800) {
        for (uint64_t until = ms() + 20, now; (now = ms()) < until;)
            turn((int)(until - now));
        ssize_t n = peer_recv(p.fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (n > 0) {
            read += (size_t)n;
            rounds++;
        }
        CHECK_INT(p.closes, ==, 0);
    }
    CHECK_INT(read, <, 4000000);
    CHECK_INT(rounds, >, 2);
    begin = ms();
    /* ...no progress ends it */
    UNTIL(p.closes == 1);
    CHECK_INT(ms() - begin, <, 3000);
    CHECK_INT(p.reason, ==, TA_ETIMEOUT);
    CHECK_INT(p.timeouts, ==, 0);
    free(big);
    done(&p);
    stop();
}

/* -- the rest --------------------------------------------------------------------------------- */

TA_TEST(addresses)
{
    start((ta_conn_cfg){0});
    proto p, u;
    ta_str host;
    uint16_t port;
    struct sockaddr_in a;
    socklen_t len = sizeof(a);
    open_tcp(&p, false);
    CHECK(getsockname(p.fd, (struct sockaddr *)&a, &len) == 0);
    ta_conn_peer(&p.c, &host, &port);
    CHECK_STR(host, "127.0.0.1");
    CHECK_INT(port, ==, ntohs(a.sin_port));
    CHECK(getpeername(p.fd, (struct sockaddr *)&a, &len) == 0);
    ta_conn_local(&p.c, &host, &port);
    CHECK_STR(host, "127.0.0.1");
    CHECK_INT(port, ==, ntohs(a.sin_port));
    open_pair(&u);
    ta_conn_peer(&u.c, &host, &port);
    CHECK_STR(host, "");
    CHECK_INT(port, ==, 0);
    ta_conn_local(&u.c, &host, &port);
    CHECK_STR(host, "");
    CHECK_INT(port, ==, 0);
    /* IPv6, and IPv4 through a dual-stack socket */
    u.c.peer.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(99)};
    CHECK(inet_pton(AF_INET6, "2001:db8::7", &u.c.peer.v6.sin6_addr) == 1);
    ta_conn_peer(&u.c, &host, &port);
    CHECK_STR(host, "2001:db8::7");
    CHECK_INT(port, ==, 99);
    CHECK(inet_pton(AF_INET6, "::ffff:192.0.2.9", &u.c.peer.v6.sin6_addr) == 1);
    u.c.peer_text[0] = '\0'; /* the text of an address is made once */
    ta_conn_peer(&u.c, &host, &port);
    CHECK_STR(host, "192.0.2.9");
    done(&p);
    done(&u);
    stop();
}

static void second_data(ta_conn *c)
{
    of(c)->datas += 100;
    ta_conn_consume(c, SIZE_MAX);
}

static const ta_conn_ops second_ops = {.on_data = second_data, .on_close = on_close};

static void upgrade(proto *p)
{
    take(p, 7);
    ta_conn_set_ops(&p->c, &second_ops, p);
}

TA_TEST(another_protocol_takes_over)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    p.on_data = upgrade;
    put(&p, "upgradeframe");
    UNTIL(p.datas == 1);
    CHECK_STR(ta_buf_str(&p.c.in), "frame"); /* for the new one to look at */
    put(&p, "s");
    UNTIL(p.datas == 101);
    done(&p);
    stop();
}

TA_TEST(open_fails)
{
    start((ta_conn_cfg){0});
    proto p = {.fd = -1};
    CHECK_INT(ta_conn_open(&p.c, group, 4000, NULL, 0, NULL, &ops, &p), ==, TA_ESYS);
    CHECK_INT(errno, ==, EBADF);
    CHECK_INT(group->count, ==, 0);
    stop();
}
