/* Request bodies: by length and chunked, backpressure, 100-continue, what is left unread. */
#include "h1_fixture.h"

static void start_echo(void)
{
    fx_start(echo_when_whole);
    fx.on_body = echo_when_whole;
}

TA_TEST(with_the_head)
{
    start_echo();
    fx_serve();
    say(REQ("POST", "/", "Content-Length: 5\r\n") "hello" REQ("POST", "/2",
                                                              "Content-Length: 3\r\n") "abc");
    EXPECT(OK("5", "hello") OK("3", "abc"));
    LOG("request(POST /) with(5) eof close request(POST /2) with(3) eof close");
    fx_stop();
}

TA_TEST(in_pieces)
{
    start_echo();
    fx_serve();
    say(REQ("POST", "/", "Content-Length: 5\r\n") "he");
    LOG("request(POST /) with(2)");
    say("ll");
    LOG("body(4)");
    say("o" REQ("GET", "/n", ""));
    LOG("body(5) eof close request(GET /n) close");
    EXPECT(OK("5", "hello") OK("0", ""));
    fx_stop();
}

TA_TEST(chunked)
{
    start_echo();
    fx_serve();
    say(REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "5\r\nhello\r\n0\r\n\r\n" REQ("GET",
                                                                                         "/n", ""));
    EXPECT(OK("5", "hello") OK("0", ""));
    LOG("request(POST /) with(5) close request(GET /n) close");
    say(REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "5\r\nhe");
    say("llo\r\n6");
    say("\r\n world\r\n");
    say("0\r\nTrailer: x\r\n");
    LOG("request(POST /) with(2) body(5) body(11)");
    EXPECT("");
    say("\r\n");
    LOG("body(11) eof close");
    EXPECT(OK("11", "hello world"));
    fx_stop();
}

/* Long: read straight into the body, byte for byte as sent. */
static size_t want_bytes;
static void check_pattern(ta_req *req)
{
    if (!req->body_eof)
        return;
    ta_str body = ta_buf_str(&req->body);
    CHECK_INT(body.len, ==, want_bytes);
    for (size_t i = 0; i < body.len; i++) {
        if (body.ptr[i] != (char)('a' + i % 23))
            FAIL("byte %zu is wrong", i);
    }
    answer(req, "ok");
}

/* Sends `n` bytes of the pattern, turning the loop whenever the socket is full. */
static void send_pattern(size_t n, bool chunked)
{
    static char piece[50000];
    size_t at = 0;
    while (at < n) {
        size_t len = TA_MIN(n - at, sizeof piece);
        for (size_t i = 0; i < len; i++)
            piece[i] = (char)('a' + (at + i) % 23);
        if (chunked) {
            char line[20];
            fx_send(line, (size_t)snprintf(line, sizeof line, "%zx\r\n", len));
        }
        for (size_t done = 0; done < len;) {
            ssize_t k = send(fx.client, piece + done, len - done, MSG_NOSIGNAL);
            if (k > 0)
                done += (size_t)k;
            turn(0);
        }
        if (chunked)
            fx_send("\r\n", 2);
        turn(0);
        at += len;
    }
}

TA_TEST(large)
{
    for (int chunked = 0; chunked < 2; chunked++) {
        fx_start(check_pattern);
        fx.on_body = check_pattern;
        fx.quiet = true;
        fx_serve();
        want_bytes = 3 << 20;
        char head[200];
        snprintf(
            head, sizeof head, "POST / HTTP/1.1\r\nHost: a\r\n%s%s\r\n\r\n",
            chunked ? "Transfer-Encoding: chunked" : "Content-Length: ", chunked ? "" : "3145728");
        say(head);
        ta_req_want_body(fx.req, SIZE_MAX);
        send_pattern(want_bytes, chunked);
        if (chunked)
            say("0\r\n\r\n");
        settle();
        EXPECT(OK("2", "ok"));
        fx_stop();
    }
}

/* -- backpressure ----------------------------------------------------------------------------- */

TA_TEST(paused_when_full)
{
    for (int chunked = 0; chunked < 2; chunked++) {
        fx_start(handle_never);
        fx.limits.body_buffer = 10000;
        fx.quiet = true;
        fx_serve();
        say(chunked ? REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "7a120\r\n"
                    : REQ("POST", "/", "Content-Length: 500000\r\n"));
        static char piece[500000];
        memset(piece, 'x', sizeof piece);
        size_t sent = 0;
        for (int i = 0; i < 50; i++) {
            ssize_t n = send(fx.client, piece, sizeof piece - sent, MSG_NOSIGNAL);
            if (n > 0)
                sent += (size_t)n;
            settle();
        }
        CHECK_INT(sent, <, sizeof piece); /* the socket filled up */
        CHECK_INT(fx.req->body.len, >=, 10000);
        CHECK_INT(fx.req->body.len, <=, 10000 + 131072);
        size_t taken = 0, last = 0;
        while (taken + fx.req->body.len < sizeof piece) {
            taken += fx.req->body.len;
            ta_req_consume(fx.req, fx.req->body.len);
            settle();
            if (sent < sizeof piece) {
                ssize_t n = send(fx.client, piece, sizeof piece - sent, MSG_NOSIGNAL);
                if (n > 0)
                    sent += (size_t)n;
            }
            CHECK_INT(fx.req->body.len, <=, 10000 + 131072);
            CHECK(fx.req->body.len || sent < sizeof piece || last);
            last = fx.req->body.len;
        }
        CHECK_INT(taken + fx.req->body.len, ==, sizeof piece);
        if (chunked) {
            CHECK(!fx.req->body_eof);
            say("\r\n0\r\n\r\n");
            ta_req_consume(fx.req, fx.req->body.len);
            settle();
        }
        CHECK(fx.req->body_eof);
        answer(fx.req, "ok");
        settle();
        EXPECT(OK("2", "ok"));
        fx_stop();
    }
}

TA_TEST(want_nothing_then_something)
{
    fx_start(handle_never);
    fx_serve();
    say(REQ("POST", "/", "Content-Length: 10\r\n"));
    ta_req_want_body(fx.req, 0);
    settle();
    say("0123456789");
    CHECK_INT(fx.req->body.len, ==, 0);
    LOG("request(POST /)");
    ta_req_want_body(fx.req, 1);
    LOG("");
    settle();
    CHECK_INT(fx.req->body.len, ==, 10);
    LOG("body(10) eof");
    answer(fx.req, "ok");
    settle();
    EXPECT(OK("2", "ok"));
    fx_stop();
}

/* -- Expect: 100-continue --------------------------------------------------------------------- */

#define EXPECTING(len) REQ("PUT", "/", "Expect: 100-continue\r\nContent-Length: " len "\r\n")

TA_TEST(continue_when_wanted)
{
    fx_start(handle_never);
    fx.on_body = echo_when_whole;
    fx_serve();
    say(EXPECTING("3"));
    EXPECT("");
    CHECK(fx.req->has_body && !fx.req->body_eof);
    ta_req_want_body(fx.req, 100);
    ta_req_want_body(fx.req, 100);
    settle();
    EXPECT("HTTP/1.1 100 Continue\r\n\r\n");
    say("abc");
    EXPECT(OK("3", "abc"));
    say(REQ("GET", "/n", ""));
    CHECK(fx.req != NULL);
    fx_stop();
}

/* A client that does not wait needs none. */
TA_TEST(no_continue_when_the_body_is_here)
{
    fx_start(handle_never);
    fx.on_body = echo_when_whole;
    fx_serve();
    say(EXPECTING("3") "a");
    ta_req_want_body(fx.req, 100);
    settle();
    EXPECT("");
    say("bc");
    EXPECT(OK("3", "abc"));
    fx_stop();
}

static void refuse_upload(ta_req *req)
{
    ta_resp_send(req, head_of(403, ""), TA_STR("no"));
}

/* The final response instead: the client may send the body or not, so the connection ends. */
TA_TEST(no_continue_but_an_answer)
{
    fx_start(refuse_upload);
    fx_serve();
    say(EXPECTING("3"));
    EXPECT("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
    CHECK(fx.got_eof);
    fx_stop();
}

/* -- what the handler left unread ------------------------------------------------------------- */

TA_TEST(short_rest_is_dropped)
{
    fx_start(refuse_upload);
    fx_serve();
    say(REQ("PUT", "/", "Content-Length: 6\r\n") "abc");
    EXPECT("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    LOG("request(PUT /) with(3) close");
    say("def" REQ("PUT", "/2", "Content-Length: 0\r\n"));
    EXPECT("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    say(REQ("PUT", "/3", "Transfer-Encoding: chunked\r\n") "3\r\nab");
    EXPECT("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    say("c\r\n0\r\n\r\n" REQ("PUT", "/4", "Content-Length: 0\r\n"));
    EXPECT("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    CHECK(!fx.got_eof);
    fx_stop();
}

TA_TEST(long_rest_ends_the_connection)
{
    fx_start(refuse_upload);
    fx_serve();
    say(REQ("PUT", "/", "Content-Length: 10000000\r\n") "abc");
    EXPECT("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
    CHECK(fx.got_eof);
    fx_stop();
}

TA_TEST(endless_rest_is_bounded)
{
    fx_start(refuse_upload);
    fx_serve();
    say(REQ("PUT", "/", "Transfer-Encoding: chunked\r\n") "7ffffff\r\n");
    EXPECT("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    static char piece[65536];
    memset(piece, 'x', sizeof piece);
    size_t sent = 0;
    for (int i = 0; i < 60 && !fx.got_eof; i++) {
        ssize_t n = send(fx.client, piece, sizeof piece, MSG_NOSIGNAL);
        if (n > 0)
            sent += (size_t)n;
        settle();
    }
    CHECK(fx.got_eof);
    CHECK_INT(sent, >=, 256 * 1024);
    CHECK_INT(sent, <=, 3 << 20);
    fx_stop();
}

/* -- bodies that go wrong --------------------------------------------------------------------- */

TA_TEST(bad_chunk_before_the_request)
{
    start_echo();
    fx_serve();
    say(REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "x\r\n");
    EXPECT(ERROR("400 Bad Request", "19", "chunk size expected"));
    CHECK(fx.got_eof);
    LOG("");
    CHECK_INT(fx_requests(), ==, 0);
    fx_stop();
}

TA_TEST(bad_chunk_in_the_middle)
{
    start_echo();
    fx_serve();
    say(REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "1\r\na\r\n");
    say("x");
    EXPECT(ERROR("400 Bad Request", "19", "chunk size expected"));
    CHECK(fx.got_eof);
    LOG("request(POST /) with(1) close");
    fx_stop();
}

static void handle_start(ta_req *req)
{
    ta_resp_start(req, head_of(200, ""));
}

TA_TEST(bad_chunk_while_responding)
{
    fx_start(handle_start);
    fx_serve();
    say(REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "1\r\na\r\n");
    say("x");
    EXPECT(OK_HEAD "transfer-encoding: chunked\r\n\r\n");
    CHECK(fx.got_eof);
    LOG("request(POST /) with(1) close");
    fx_stop();
}

TA_TEST(chunked_body_limit)
{
    start_echo();
    fx.limits.body_bytes = 10;
    fx_serve();
    say(REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "a\r\n0123456789\r\n0\r\n\r\n");
    EXPECT(OK("10", "0123456789"));
    say(REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "8\r\n01234567\r\n3\r\n");
    EXPECT(ERROR("413 Content Too Large", "22", "request body too large"));
    CHECK(fx.got_eof);
    fx_stop();

    start_echo();
    fx.limits.body_bytes = 10;
    fx_serve();
    say(REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "7fffffffffffffff\r\n");
    EXPECT(ERROR("413 Content Too Large", "22", "request body too large"));
    fx_stop();
}

/* Half of a body, then the end: the request is told, and ends when it likes. */
TA_TEST(peer_ends_within_the_body)
{
    for (int chunked = 0; chunked < 2; chunked++) {
        fx_start(handle_never);
        fx_serve();
        say(chunked ? REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "5\r\nab"
                    : REQ("POST", "/", "Content-Length: 5\r\n") "ab");
        shutdown(fx.client, SHUT_WR);
        settle();
        LOG("request(POST /) with(2) disconnect");
        CHECK(!fx.req->body_eof && fx.req->disconnected);
        CHECK_INT(ta_resp_send(fx.req, head_of(400, ""), TA_STR("")), ==, TA_OK);
        settle();
        CHECK(fx.got_eof);
        LOG("close");
        fx_stop();
    }
}
