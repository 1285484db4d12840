/* Timeouts, and output that the client does not read. */
#include "h1_fixture.h"

/* -- timeouts --------------------------------------------------------------------------------- */

TA_TEST(silent_connection)
{
    fx_start(handle_path);
    fx.limits.timeout_header_ms = 30;
    fx_serve();
    uint64_t start = now_ms();
    RUN_UNTIL(fx.got_eof, 2000);
    CHECK_INT(now_ms() - start, >=, 20);
    EXPECT("");
    RUN_UNTIL(ta_http_server_connections(fx.server) == 0, 1000);
    fx_stop();
}

TA_TEST(slow_head)
{
    fx_start(handle_path);
    fx.limits.timeout_header_ms = 60;
    fx_serve();
    uint64_t start = now_ms();
    fx_send("GET / HTTP/1.1\r\n", 16);
    /* a byte every few ms does not help */
    while (!fx.got_eof && now_ms() - start < 2000) {
        (void)!send(fx.client, "a", 1, MSG_NOSIGNAL);
        turn(5);
        fx_read();
    }
    CHECK_INT(now_ms() - start, >=, 45); /* the clock is read once a batch */
    EXPECT(ERROR("408 Request Timeout", "39", "the request head did not arrive in time"));
    fx_stop();
}

/* The time of a later head runs from its own first byte. */
TA_TEST(slow_second_head)
{
    fx_start(handle_path);
    fx.limits.timeout_header_ms = 60;
    fx.limits.timeout_idle_ms = 5000;
    fx_serve();
    say(REQ("GET", "/1", ""));
    EXPECT(OK("2", "/1"));
    uint64_t start = now_ms();
    while (now_ms() - start < 100)
        turn(10);
    CHECK(!fx.got_eof);
    start = now_ms();
    say("GET ");
    RUN_UNTIL(fx.got_eof, 2000);
    CHECK_INT(now_ms() - start, >=, 45);
    CHECK(strncmp(fx.got, "HTTP/1.1 408 ", 13) == 0);
    fx_stop();
}

TA_TEST(idle_connection)
{
    fx_start(handle_path);
    fx.limits.timeout_idle_ms = 30;
    fx_serve();
    say(REQ("GET", "/1", ""));
    EXPECT(OK("2", "/1"));
    RUN_UNTIL(fx.got_eof, 2000);
    EXPECT("");
    fx_stop();
}

/* An empty line behind a body is no request. */
TA_TEST(idle_after_an_empty_line)
{
    fx_start(handle_path);
    fx.limits.timeout_header_ms = 30;
    fx_serve();
    say(REQ("GET", "/1", "") "\r\n");
    EXPECT(OK("2", "/1"));
    RUN_UNTIL(fx.got_eof, 2000);
    EXPECT("");
    fx_stop();
}

/* No deadline while a handler works, whatever ran before it. */
TA_TEST(slow_handler)
{
    fx_start(handle_never);
    fx.limits.timeout_header_ms = fx.limits.timeout_idle_ms = fx.limits.timeout_body_ms = 120;
    fx_serve();
    for (int i = 0; i < 3; i++) {
        say(i == 1 ? REQ("POST", "/1", "Content-Length: 1\r\n") : REQ("GET", "/1", ""));
        if (i == 1)
            say("x");
        uint64_t start = now_ms();
        while (now_ms() - start < 300)
            turn(10);
        CHECK(fx.req != NULL);
        answer(fx.req, "late");
        settle();
        EXPECT(OK("4", "late"));
    }
    fx_stop();
}

TA_TEST(slow_body)
{
    fx_start(handle_never);
    fx.limits.timeout_body_ms = 500;
    fx_serve();
    say(REQ("POST", "/", "Content-Length: 100\r\n"));
    /* each read starts the time anew */
    for (int i = 0; i < 4; i++) {
        uint64_t start = now_ms();
        while (now_ms() - start < 150)
            turn(5);
        CHECK(!fx.got_eof);
        say("x");
    }
    RUN_UNTIL(fx.got_eof, 2000);
    EXPECT(ERROR("408 Request Timeout", "39", "the request body did not arrive in time"));
    CHECK(strstr(fx.log, "close") != NULL);
    CHECK(fx.req == NULL);
    fx_stop();
}

/* Sends a byte every 20 ms; whether the server lost its patience within 60 of them. */
static bool drip(const char *what)
{
    for (int i = 0; i < 60 && !fx.got_eof; i++) {
        uint64_t start = now_ms();
        while (now_ms() - start < 20)
            turn(5);
        (void)!send(fx.client, what, strlen(what), MSG_NOSIGNAL);
        turn(5);
        fx_read();
    }
    return fx.got_eof;
}

/* Each read is in time, and all of them together are too slow. */
TA_TEST(dripped_body)
{
    for (int chunked = 0; chunked < 2; chunked++) {
        for (int rate = 0; rate < 2; rate++) {
            fx_start(handle_never);
            fx.limits.timeout_body_ms = 500;
            fx.limits.receive_rate = rate ? 100000 : 0;
            fx_serve();
            say(chunked ? REQ("POST", "/", "Transfer-Encoding: chunked\r\n")
                        : REQ("POST", "/", "Content-Length: 1000\r\n"));
            CHECK_INT(drip(chunked ? "1\r\nx\r\n" : "x"), ==, rate);
            if (rate)
                CHECK(strstr(fx.got, "HTTP/1.1 408 ") != NULL);
            fx_stop();
        }
    }
}

/* The time in which we do not read is not the client's. */
TA_TEST(pauses_of_ours_are_not_slowness)
{
    fx_start(handle_never);
    fx.limits.timeout_body_ms = 400;
    fx.limits.receive_rate = 1000000;
    fx_serve();
    say(REQ("POST", "/", "Content-Length: 100\r\n"));
    for (int i = 0; i < 4; i++) {
        ta_req_want_body(fx.req, 0);
        say("x");
        uint64_t start = now_ms();
        while (now_ms() - start < 300)
            turn(10);
        ta_req_want_body(fx.req, 100);
        settle();
        CHECK(!fx.got_eof && fx.req != NULL);
    }
    fx_stop();
}

/* Not while we are the ones who do not read, or who have not said 100. */
TA_TEST(no_body_timeout_when_paused)
{
    for (int expect = 0; expect < 2; expect++) {
        fx_start(handle_never);
        fx.limits.timeout_body_ms = 500;
        fx_serve();
        say(expect ? REQ("POST", "/", "Expect: 100-continue\r\nContent-Length: 10\r\n")
                   : REQ("POST", "/", "Content-Length: 10\r\n"));
        if (!expect)
            ta_req_want_body(fx.req, 0);
        uint64_t start = now_ms();
        while (now_ms() - start < 1000)
            turn(10);
        CHECK(fx.req != NULL);
        ta_req_want_body(fx.req, 10);
        RUN_UNTIL(fx.got_eof, 10000);
        CHECK(strstr(fx.got, "HTTP/1.1 408 ") != NULL);
        fx_stop();
    }
}

static void refuse_upload(ta_req *req)
{
    ta_resp_send(req, head_of(403, ""), TA_STR("no"));
}

TA_TEST(slow_rest_of_a_body)
{
    fx_start(refuse_upload);
    fx.limits.timeout_body_ms = 30;
    fx_serve();
    say(REQ("POST", "/", "Content-Length: 100\r\n") "x");
    EXPECT("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    uint64_t start = now_ms();
    while (!fx.got_eof && now_ms() - start < 2000) {
        (void)!send(fx.client, "x", 1, MSG_NOSIGNAL);
        turn(5);
        fx_read();
    }
    CHECK(fx.got_eof);
    fx_stop();
}

/* -- output that the client does not read ----------------------------------------------------- */

static size_t streamed;
static void stream_more(ta_req *req)
{
    static char piece[20000];
    memset(piece, 'y', sizeof piece);
    int rc = TA_OK;
    while (rc == TA_OK && streamed < 2000000) {
        rc = ta_resp_data(req, ta_str_of(piece, sizeof piece));
        if (rc != TA_ECLOSED)
            streamed += sizeof piece;
    }
    if (streamed >= 2000000)
        ta_resp_end(req);
}

static void handle_stream(ta_req *req)
{
    streamed = 0;
    ta_resp_start(req, head_of(200, "content-length: 2000000\r\n"));
    stream_more(req);
}

TA_TEST(write_backpressure)
{
    fx_start(handle_stream);
    fx.on_drain = stream_more;
    fx_serve();
    fx_send(REQ("GET", "/", ""), strlen(REQ("GET", "/", "")));
    for (int i = 0; i < 5; i++)
        turn(1);
    CHECK_INT(streamed, <, 1500000); /* bounded while nobody reads */
    size_t total = 0;
    uint64_t start = now_ms();
    while (fx.req && now_ms() - start < 5000) {
        turn(1);
        ssize_t n = recv(fx.client, fx.got, sizeof fx.got, 0);
        if (n > 0)
            total += (size_t)n;
    }
    for (ssize_t n; (turn(1), n = recv(fx.client, fx.got, sizeof fx.got, 0)) > 0;)
        total += (size_t)n;
    CHECK_INT(streamed, ==, 2000000);
    CHECK_INT(total, >, 2000000);
    CHECK(strstr(fx.log, "drain") != NULL);
    CHECK(strstr(fx.log, "close") != NULL);
    fx_stop();
}

TA_TEST(write_timeout)
{
    fx_start(handle_stream);
    fx.on_drain = stream_more;
    fx.limits.timeout_write_ms = 40;
    fx_serve();
    fx_send(REQ("GET", "/", ""), strlen(REQ("GET", "/", "")));
    uint64_t start = now_ms();
    while (!strstr(fx.log, "disconnect") && now_ms() - start < 3000)
        turn(5);
    LOG("request(GET /) disconnect");
    CHECK_INT(now_ms() - start, >=, 39);
    /* the connection is gone, the request is not */
    CHECK_STR(fx.req->path, "/");
    CHECK_STR(fx.req->headers[0].value, "a");
    CHECK_INT(ta_resp_data(fx.req, TA_STR("x")), ==, TA_ECLOSED);
    ta_resp_abort(fx.req);
    turn(1);
    LOG("close");
    CHECK_INT(ta_http_server_connections(fx.server), ==, 0);
    CHECK(strstr(fx.lines, "the peer does not read") != NULL);
    fx_stop();
}

/* Requests without end whose responses nobody reads: memory stays bounded. */
TA_TEST(pipelined_and_never_read)
{
    fx_start(handle_path);
    fx.quiet = true;
    fx.limits.write_buffer = 20000;
    fx_serve();
    char request[2200];
    memset(request, 'p', sizeof request);
    memcpy(request, "GET /", 5);
    static const char tail[] = " HTTP/1.1\r\nHost: a\r\n\r\n";
    memcpy(request + sizeof request - (sizeof tail - 1), tail, sizeof tail - 1);
    unsigned sent = 0;
    for (int i = 0; i < 3000; i++) {
        ssize_t n = send(fx.client, request, sizeof request, MSG_NOSIGNAL);
        if (n == (ssize_t)sizeof request)
            sent++;
        else if (n >= 0)
            break; /* a part of one */
        else if (i > 2000)
            break;
        turn(0);
    }
    unsigned answered = fx.closes;
    for (int i = 0; i < 5; i++)
        turn(1);
    CHECK_INT(fx.closes, ==, answered);
    CHECK_INT(answered, <, sent);
    uint64_t start = now_ms();
    while (fx.closes < sent && now_ms() - start < 5000) {
        (void)!recv(fx.client, fx.got, sizeof fx.got, 0);
        turn(0);
    }
    CHECK_INT(fx.closes, >=, sent);
    fx_stop();
}

/* 0 means none. */
TA_TEST(no_timeouts)
{
    fx_start(handle_never);
    fx.limits.timeout_header_ms = fx.limits.timeout_idle_ms = fx.limits.timeout_body_ms =
        fx.limits.timeout_write_ms = 0;
    fx_serve();
    for (int i = 0; i < 30; i++)
        turn(5);
    say("POST / HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < 30; i++)
        turn(5);
    say("Content-Length: 2\r\n\r\na");
    for (int i = 0; i < 30; i++)
        turn(5);
    say("b");
    LOG("request(POST /) with(1) body(2) eof");
    answer(fx.req, "x");
    settle();
    EXPECT(OK("1", "x"));
    fx_stop();
}

/* Upgraded connections: the same backpressure. */
static size_t raw_written;
static void raw_more(ta_req *req)
{
    static char piece[20000];
    int rc = TA_OK;
    while (rc == TA_OK && raw_written < 2000000) {
        rc = ta_raw_write(req, ta_str_of(piece, sizeof piece));
        raw_written += sizeof piece;
    }
    if (raw_written >= 2000000)
        ta_raw_close(req);
}

static void handle_raw(ta_req *req)
{
    CHECK_INT(ta_resp_upgrade(req, head_of(101, "upgrade: x\r\n")), ==, TA_OK);
    raw_more(req);
}

TA_TEST(raw_backpressure)
{
    raw_written = 0;
    fx_start(handle_raw);
    fx.on_drain = raw_more;
    fx_serve();
    const char *text = REQ("GET", "/", "Connection: upgrade\r\nUpgrade: x\r\n");
    fx_send(text, strlen(text));
    for (int i = 0; i < 5; i++)
        turn(1);
    CHECK_INT(raw_written, <, 1500000);
    size_t total = 0;
    uint64_t start = now_ms();
    for (ssize_t n = -1; n != 0 && now_ms() - start < 5000;) {
        turn(1);
        n = recv(fx.client, fx.got, sizeof fx.got, 0);
        total += n > 0 ? (size_t)n : 0;
    }
    CHECK_INT(total, >, 2000000);
    CHECK(strstr(fx.log, "drain") && strstr(fx.log, "close"));
    fx_stop();
}
