/* The input of connections: pausing, pinning, sinks; and running out of memory. */
#include "conn_fixture.h"

/* -- reading ---------------------------------------------------------------------------------- */

TA_TEST(echo)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    CHECK_INT(p.opens, ==, 1);
    CHECK_INT(group->count, ==, 1);
    for (int i = 0; i < 3; i++) {
        put(&p, "hello");
        UNTIL(p.datas == i + 1);
        CHECK_INT(ta_conn_write(&p.c, "world", 5), ==, TA_OK);
        CHECK_INT(ta_conn_write(&p.c, "!", 1), ==, TA_OK);
        expect(&p, "world!");
    }
    CHECK_STR(ta_buf_str(&p.got), "hellohellohello");
    CHECK_INT(p.c.bytes_in, ==, 15);
    CHECK_INT(p.c.bytes_out, ==, 18);
    CHECK(p.c.in.data == NULL && p.c.out.data == NULL); /* idle: no buffers */
    check_idle();
    ta_conn_close(&p.c);
    CHECK_INT(p.closes, ==, 0);
    expect_eof(&p);
    UNTIL(p.closes == 1);
    CHECK_INT(p.reason, ==, TA_OK);
    CHECK_INT(group->count, ==, 0);
    done(&p);
    stop();
}

/* One request on a kept-alive connection: no allocation, and nothing left over. */
static void respond(proto *p)
{
    size_t n = p->c.in.len;
    ta_conn_consume_pinned(&p->c, n);
    ta_conn_set_deadline(&p->c, 5000);
    CHECK_INT(ta_conn_write(&p->c, "response", 8), ==, TA_OK);
    ta_conn_unpin(&p->c);
}

TA_TEST(steady_state_allocates_nothing)
{
    ta_failmalloc f = {0};
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    p.on_data = respond;
    put(&p, "warm up");
    expect(&p, "response");
    ta_failmalloc_start(&f);
    for (int i = 0; i < 100; i++) {
        put(&p, "request");
        expect(&p, "response");
    }
    CHECK_INT(f.calls, ==, 0);
    ta_mem_set_hooks(NULL);
    CHECK_INT(sizeof(ta_conn), <, 1024);
    done(&p);
    stop();
    CHECK_INT(p.closes, ==, 1); /* by ta_conn_group_free */
}

TA_TEST(partial_consumption)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    p.consume = 0;
    put(&p, "abc");
    UNTIL(p.datas == 1);
    CHECK_INT(p.c.in.len, ==, 3);
    p.consume = 4;
    put(&p, "def");
    UNTIL(p.datas == 2);
    CHECK_STR(ta_buf_str(&p.c.in), "ef");
    CHECK_STR(ta_buf_str(&p.got), "abcd");
    ta_conn_consume(&p.c, 100);
    CHECK_INT(p.c.in.len, ==, 0);
    done(&p);
    stop();
}

TA_TEST(pause_and_resume)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    ta_conn_pause(&p.c);
    ta_conn_pause(&p.c);
    put(&p, "x");
    check_idle();
    CHECK_INT(p.datas, ==, 0);
    ta_conn_resume(&p.c);
    ta_conn_resume(&p.c);
    UNTIL(p.datas == 1);
    /* paused and resumed within nothing: no system call is needed, and nothing is lost */
    ta_conn_pause(&p.c);
    ta_conn_resume(&p.c);
    put(&p, "y");
    UNTIL(p.datas == 2);
    done(&p);
    stop();
}

/* A full buffer stops reading (and the peer, by TCP); consuming resumes it. */
TA_TEST(read_max)
{
    start((ta_conn_cfg){.read_size = 4096, .read_max = 10000});
    proto p;
    open_tcp(&p, true);
    p.consume = 0;
    fcntl(p.fd, F_SETFL, O_NONBLOCK);
    char block[1000];
    memset(block, 'b', sizeof(block));
    size_t sent = 0;
    for (int i = 0; i < 300; i++) {
        ssize_t n = peer_send(p.fd, block, sizeof(block), 0);
        if (n > 0)
            sent += (size_t)n;
        turn(0);
    }
    CHECK_INT(p.c.in.len, ==, 10000);
    check_idle();
    CHECK_INT(sent, >, 10000);
    size_t seen = 0;
    p.consume = SIZE_MAX;
    seen += p.c.in.len;
    ta_conn_consume(&p.c, p.c.in.len);
    UNTIL(seen + p.got.len == sent);
    done(&p);
    stop();
}

TA_TEST(large_input_in_turns)
{
    start((ta_conn_cfg){.read_size = 4096});
    proto p, q;
    open_pair(&p);
    open_pair(&q);
    char *big = malloc(150000);
    memset(big, 'z', 150000);
    fcntl(p.fd, F_SETFL, O_NONBLOCK);
    ssize_t n = peer_send(p.fd, big, 150000, 0);
    CHECK(n > 50000);
    put(&q, "me too");
    turn(100);
    CHECK_INT(q.datas, ==, 1); /* not starved by p */
    CHECK_INT(p.datas, <=, 4);
    UNTIL(p.got.len == (size_t)n);
    free(big);
    done(&p);
    done(&q);
    stop();
}

/* Slices of a pinned head stay where they are while a body follows. */
static void pin_head(proto *p)
{
    if (p->c.pin_end == 0 && p->c.held.data == NULL) {
        CHECK(p->c.in.len >= 4);
        ta_conn_consume_pinned(&p->c, 4);
    }
    take(p, SIZE_MAX);
}

static void pin_run(size_t filler)
{
    start((ta_conn_cfg){.read_size = 4096});
    proto p;
    open_pair(&p);
    p.on_data = pin_head;
    put(&p, "HEADbody");
    UNTIL(p.datas == 1);
    const char *head = p.c.in.data;
    CHECK_MEM(head, "HEAD", 4);
    char *block = malloc(filler);
    for (int round = 0; round < 20; round++) {
        memset(block, 'a' + round, filler);
        CHECK_INT(peer_send(p.fd, block, filler, 0), ==, filler);
        UNTIL(p.got.len == 4 + filler * (size_t)(round + 1));
        CHECK_MEM(head, "HEAD", 4);
    }
    /* unread bytes behind the pin, growing beyond the buffer */
    p.on_data = NULL;
    p.consume = 0;
    for (int round = 0; round < 20; round++) {
        memset(block, 'A' + round, filler);
        CHECK_INT(peer_send(p.fd, block, filler, 0), ==, filler);
        UNTIL(p.c.in.len == filler * (size_t)(round + 1));
        CHECK_MEM(head, "HEAD", 4);
    }
    for (int round = 0; round < 20; round++)
        for (size_t i = 0; i < filler; i++)
            if (ta_buf_str(&p.c.in).ptr[filler * (size_t)round + i] != 'A' + round)
                FAIL("unread bytes damaged");
    ta_conn_unpin(&p.c);
    ta_conn_unpin(&p.c);
    ta_conn_consume(&p.c, SIZE_MAX);
    put(&p, "next");
    UNTIL(p.c.in.len == 4);
    CHECK_STR(ta_buf_str(&p.c.in), "next");
    free(block);
    done(&p);
    stop();
}

TA_TEST(pin_small)
{
    pin_run(50);
}

TA_TEST(pin_middle)
{
    pin_run(1000);
}

TA_TEST(pin_large)
{
    pin_run(3000);
}

/* A few bytes are always left over, so that they move up to the pinned ones. */
static void leave_three(proto *p)
{
    if (p->c.pin_end == 0 && p->c.held.data == NULL)
        ta_conn_consume_pinned(&p->c, 4);
    if (p->c.in.len > 3)
        take(p, p->c.in.len - 3);
}

TA_TEST(pinned_with_leftovers)
{
    start((ta_conn_cfg){.read_size = 8192});
    proto p;
    open_pair(&p);
    p.on_data = leave_three;
    put(&p, "HEADabc");
    UNTIL(p.datas == 1);
    const char *head = p.c.in.data;
    char text[300];
    for (int i = 0; i < 200; i++) {
        memset(text, 'a' + i % 26, sizeof(text));
        CHECK_INT(peer_send(p.fd, text, sizeof(text), 0), ==, sizeof(text));
        UNTIL(p.datas == i + 2);
        CHECK_MEM(head, "HEAD", 4);
    }
    CHECK(p.c.held.data == NULL); /* there was always room in the one buffer */
    CHECK_INT(p.got.len, ==, 200 * sizeof(text));
    CHECK_MEM(p.got.data + p.got.off, "abca", 4);
    for (size_t i = 0; i < 200 * sizeof(text) - 3; i++)
        if (p.got.data[p.got.off + 3 + i] != 'a' + (int)(i / sizeof(text)) % 26)
            FAIL("byte %zu differs", i);
    done(&p);
    stop();
}

static const char *pinned_at;
static void check_pinned(proto *p)
{
    CHECK_MEM(pinned_at, "HEAD", 4); /* still readable in on_close */
}

TA_TEST(pinned_until_close)
{
    start((ta_conn_cfg){0});
    proto p;
    open_pair(&p);
    p.on_data = pin_head;
    p.on_close = check_pinned;
    put(&p, "HEAD");
    UNTIL(p.datas == 1);
    pinned_at = p.c.in.data;
    ta_conn_close(&p.c);
    CHECK_MEM(pinned_at, "HEAD", 4);
    UNTIL(p.closes == 1);
    done(&p);
    stop();
}

static ta_buf kept[2];
static void keep(proto *p)
{
    ta_conn_keep_input(&p->c, kept);
}

TA_TEST(input_outlives_the_connection)
{
    start((ta_conn_cfg){.read_size = 4096});
    proto p;
    open_pair(&p);
    p.on_data = pin_head;
    p.on_close = keep;
    put(&p, "HEAD");
    UNTIL(p.datas == 1);
    pinned_at = p.c.in.data;
    char block[4000] = {0}; /* makes the head's buffer stand aside */
    CHECK_INT(peer_send(p.fd, block, sizeof(block), 0), ==, sizeof(block));
    UNTIL(p.got.len == sizeof(block));
    p.on_data = NULL;
    p.consume = 0;
    put(&p, "rest");
    UNTIL(p.c.in.len == 4);
    ta_conn_close(&p.c);
    UNTIL(p.closes == 1);
    stop();
    CHECK_MEM(pinned_at, "HEAD", 4);
    CHECK_MEM(kept[0].data + kept[0].off, "rest", 4);
    ta_buf_free(&kept[0]);
    ta_buf_free(&kept[1]);
    done(&p);
}

/* A body goes straight into its own buffer; what follows it does not. */
TA_TEST(sink)
{
    start((ta_conn_cfg){0});
    proto p;
    ta_buf body = {0};
    open_pair(&p);
    CHECK_INT(ta_buf_append(&body, "[", 1), ==, TA_OK);
    ta_conn_set_sink(&p.c, &body, 10);
    CHECK_INT(ta_conn_sink_left(&p.c), ==, 10);
    put(&p, "0123");
    UNTIL(p.datas == 1);
    CHECK_INT(ta_conn_sink_left(&p.c), ==, 6);
    put(&p, "456789NEXT");
    UNTIL(p.datas == 3);
    CHECK_STR(ta_buf_str(&body), "[0123456789");
    CHECK_STR(ta_buf_str(&p.got), "NEXT");
    CHECK_INT(ta_conn_sink_left(&p.c), ==, 0);
    /* given up half-way */
    ta_conn_set_sink(&p.c, &body, 100);
    put(&p, "a");
    UNTIL(p.datas == 4);
    ta_conn_set_sink(&p.c, NULL, 0);
    put(&p, "b");
    UNTIL(p.datas == 5);
    CHECK_STR(ta_buf_str(&p.got), "NEXTb");
    ta_buf_free(&body);
    done(&p);
    stop();
}

TA_TEST(sink_large)
{
    start((ta_conn_cfg){0});
    proto p;
    ta_buf body = {0};
    open_tcp(&p, false);
    enum { N = 3000000 };
    ta_conn_set_sink(&p.c, &body, N);
    char *data = malloc(N);
    for (int i = 0; i < N; i++)
        data[i] = (char)(i * 7 >> 3);
    fcntl(p.fd, F_SETFL, O_NONBLOCK);
    size_t sent = 0;
    while (sent < N) {
        ssize_t n = peer_send(p.fd, data + sent, N - sent, 0);
        if (n > 0)
            sent += (size_t)n;
        turn(0);
    }
    UNTIL(ta_conn_sink_left(&p.c) == 0);
    CHECK_INT(body.len, ==, N);
    CHECK_MEM(ta_buf_str(&body).ptr, data, N);
    CHECK(p.c.in.data == NULL);
    free(data);
    ta_buf_free(&body);
    done(&p);
    stop();
}

/* -- out of memory while reading -------------------------------------------------------------- */

static void pin_then_leave(proto *p)
{
    if (p->datas == 1)
        ta_conn_consume_pinned(&p->c, 4);
    else if (p->datas == 3)
        ta_conn_consume(&p->c, SIZE_MAX);
}

static void reading_scenario(void)
{
    loop = ta_loop_new(test_backend());
    if (!loop)
        return;
    group = ta_conn_group_new(loop, &(ta_conn_cfg){.read_size = 4096});
    if (!group) {
        ta_loop_free(loop);
        return;
    }
    static char big[3500];
    proto p = {.on_data = pin_then_leave};
    ta_buf body = {0};
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    p.fd = fds[1];
    if (ta_conn_open(&p.c, group, fds[0], NULL, 0, NULL, &ops, &p) == TA_OK) {
        ta_ready ready[1];
        for (int i = 0; i < 6 && p.closes == 0; i++) {
            if (p.datas == 3) {
                ta_conn_unpin(&p.c);
                ta_conn_set_sink(&p.c, &body, 5000);
            }
            (void)!peer_send(p.fd, big, sizeof(big), MSG_NOSIGNAL);
            for (int k = 0; k < 3; k++)
                CHECK(ta_loop_poll(loop, 0, ready, TA_LOOP_BATCH, NULL) >= 0);
        }
        if (p.closes == 0)
            ta_conn_close(&p.c);
        else
            CHECK_INT(p.reason, ==, TA_ENOMEM);
    } else {
        close(fds[0]);
        p.closes = 1;
    }
    ta_conn_group_free(group);
    CHECK_INT(p.closes, ==, 1);
    ta_loop_free(loop);
    close(p.fd);
    ta_buf_free(&body);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(reading_scenario);
}
