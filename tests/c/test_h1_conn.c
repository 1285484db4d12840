/* Requests and responses: keep-alive, pipelining, framing, HEAD, HTTP/1.0, upgrade, limits. */
#include "h1_fixture.h"

#include "ta_failmalloc.h"

TA_TEST(one_request)
{
    fx_start(handle_path);
    fx_serve();
    say(REQ("GET", "/hello", ""));
    EXPECT(OK("6", "/hello"));
    LOG("request(GET /hello) close");
    CHECK(!fx.got_eof);
    say(REQ("GET", "/again", ""));
    EXPECT(OK("6", "/again"));
    CHECK_INT(ta_http_server_connections(fx.server), ==, 1);
    CHECK_INT(fx_requests(), ==, 0);
    fx_stop();
}

TA_TEST(byte_by_byte)
{
    fx_start(handle_path);
    fx_serve();
    const char *text = REQ("GET", "/a%20b?x=1", "X-Y: z\r\n");
    for (const char *p = text; *p; p++) {
        fx_send(p, 1);
        turn(1);
        CHECK(p[1] == 0 || fx.log[0] == 0);
    }
    settle();
    EXPECT(OK("4", "/a b"));
    fx_stop();
}

static void handle_fields(ta_req *req)
{
    CHECK_STR(req->method, "PUT");
    CHECK_INT(req->method_id, ==, TA_METHOD_PUT);
    CHECK_STR(req->target, "http://h:1/p%2f%zz?q=%20");
    CHECK_STR(req->raw_path, "/p%2f%zz");
    CHECK_STR(req->path, "/p/%zz");
    CHECK_STR(req->query, "q=%20");
    CHECK_INT(req->nheaders, ==, 2);
    CHECK_STR(req->headers[0].name, "host");
    CHECK_STR(req->headers[0].value, "h:1");
    CHECK_STR(req->headers[1].name, "x-a");
    CHECK_INT(req->version, ==, TA_HTTP_1_1);
    CHECK(!req->has_body && !req->upgrade);
    CHECK(req->body_eof && !req->disconnected && !req->secure);
    CHECK_INT(req->content_length, ==, -1);
    ta_str host;
    uint16_t port = 7;
    ta_req_peer(req, &host, &port);
    CHECK_STR(host, "");
    CHECK_INT(port, ==, 0);
    answer(req, "");
}

TA_TEST(request_fields)
{
    fx_start(handle_fields);
    fx_serve();
    say("PUT http://h:1/p%2f%zz?q=%20 HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n");
    EXPECT(OK("0", ""));
    fx_stop();
}

TA_TEST(pipelined_requests_in_one_send)
{
    fx_start(handle_path);
    fx_serve();
    say(REQ("GET", "/1", "") REQ("GET", "/2", "") REQ("GET", "/3", ""));
    EXPECT(OK("2", "/1") OK("2", "/2") OK("2", "/3"));
    LOG("request(GET /1) close request(GET /2) close request(GET /3) close");
    fx_stop();
}

/* A slow one keeps those behind it waiting, and their order. */
static void handle_slow_first(ta_req *req)
{
    if (!ta_str_eq(req->path, TA_STR("/slow")))
        handle_path(req);
}

TA_TEST(pipelined_behind_a_slow_one)
{
    fx_start(handle_slow_first);
    fx_serve();
    say(REQ("GET", "/slow", "") REQ("GET", "/2", ""));
    LOG("request(GET /slow)");
    EXPECT("");
    say(REQ("GET", "/3", ""));
    LOG("");
    CHECK_STR(fx.req->path, "/slow"); /* its slices stay */
    CHECK_STR(fx.req->headers[0].value, "a");
    CHECK_INT(answer(fx.req, "s"), ==, TA_OK);
    LOG(""); /* no upcall from within a downcall */
    settle();
    EXPECT(OK("1", "s") OK("2", "/2") OK("2", "/3"));
    LOG("close request(GET /2) close request(GET /3) close");
    fx_stop();
}

TA_TEST(pipelined_in_bounded_turns)
{
    fx_start(handle_path);
    fx.limits.pipelined = 2;
    fx_serve();
    int other = fx_connect();
    for (int i = 0; i < 5; i++)
        fx_send(REQ("GET", "/", ""), strlen(REQ("GET", "/", "")));
    const char *text = REQ("GET", "/other", "");
    CHECK_INT(send(other, text, strlen(text), 0), ==, strlen(text));
    turn(10); /* both are ready: two of the first in the batch, whose end the other one waits for */
    CHECK(strstr(fx.log, "/other") != NULL);
    int begun = 0;
    for (const char *p = fx.log; *p; p++)
        begun += strncmp(p, "(GET /)", 7) == 0;
    CHECK_INT(begun, ==, 2);
    settle();
    EXPECT(OK("1", "/") OK("1", "/") OK("1", "/") OK("1", "/") OK("1", "/"));
    close(other);
    fx_stop();
}

TA_TEST(no_allocation_per_request)
{
    ta_failmalloc f = {0};
    ta_failmalloc_start(&f);
    fx_start(handle_path);
    fx_serve();
    fx.quiet = true;
    for (int i = 0; i < 3; i++)
        say(REQ("GET", "/%41", "A: b\r\nC: d\r\n"));
    unsigned long calls = f.calls;
    for (int i = 0; i < 50; i++)
        say(REQ("POST", "/%41", "Content-Length: 4\r\n") "body" REQ("GET", "/x", ""));
    CHECK_INT(f.calls, ==, calls);
    CHECK_INT(fx.closes, ==, 103);
    fx_stop();
    CHECK_INT(f.live, ==, 0);
    ta_mem_set_hooks(NULL);
}

/* -- the connection's life -------------------------------------------------------------------- */

TA_TEST(connection_close)
{
    fx_start(handle_path);
    fx_serve();
    say(REQ("GET", "/1", "Connection: close\r\n") REQ("GET", "/2", ""));
    EXPECT(OK_HEAD "content-length: 2\r\nconnection: close\r\n\r\n/1");
    CHECK(fx.got_eof);
    LOG("request(GET /1) close");
    fx_stop();
}

TA_TEST(http10)
{
    fx_start(handle_path);
    fx_serve();
    say("GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT(OK_HEAD "content-length: 2\r\nconnection: keep-alive\r\n\r\n/1");
    say("GET /2 HTTP/1.0\r\n\r\n");
    EXPECT(OK_HEAD "content-length: 2\r\nconnection: close\r\n\r\n/2");
    CHECK(fx.got_eof);
    fx_stop();
}

static void handle_app_close(ta_req *req)
{
    ta_resp_send(req, head_of(200, "connection: close\r\n"), TA_STR("x"));
}

TA_TEST(application_closes)
{
    fx_start(handle_app_close);
    fx_serve();
    say(REQ("GET", "/", ""));
    EXPECT(OK_HEAD "content-length: 1\r\nconnection: close\r\n\r\nx");
    CHECK(fx.got_eof);
    fx_stop();
}

TA_TEST(requests_per_connection)
{
    fx_start(handle_path);
    fx.limits.requests_per_conn = 2;
    fx_serve();
    say(REQ("GET", "/1", ""));
    EXPECT(OK("2", "/1"));
    say(REQ("GET", "/2", ""));
    EXPECT(OK_HEAD "content-length: 2\r\nconnection: close\r\n\r\n/2");
    CHECK(fx.got_eof);
    fx_stop();
}

static int room;
static void on_room(void *ctx)
{
    room++;
}

TA_TEST(connection_limit)
{
    fx_start(handle_path);
    fx.limits.connections = 2;
    fx.loop = ta_loop_new(TA_BACKEND_AUTO);
    ta_http_cfg cfg = {.limits = &fx.limits, .ops = &fx_ops, .ctx = &fx, .on_room = on_room};
    fx.server = ta_http_server_new(fx.loop, &cfg);
    fx.client = fx_connect();
    CHECK(!ta_http_server_full(fx.server, 0));
    int other = fx_connect();
    CHECK(ta_http_server_full(fx.server, 0));
    CHECK_INT(room, ==, 0);
    close(other);
    settle();
    CHECK_INT(room, ==, 1);
    CHECK(!ta_http_server_full(fx.server, 0));
    fx_stop();
    CHECK_INT(room, ==, 1);
}

TA_TEST(server_field)
{
    fx_start(handle_path);
    fx.loop = ta_loop_new(TA_BACKEND_AUTO);
    ta_http_cfg cfg = {
        .limits = &fx.limits, .ops = &fx_ops, .ctx = &fx, .server_name = TA_STR("bad\r\n")};
    CHECK(ta_http_server_new(fx.loop, &cfg) == NULL);
    cfg.server_name = TA_STR("turboapi");
    fx.server = ta_http_server_new(fx.loop, &cfg);
    fx.client = fx_connect();
    say(REQ("GET", "/", ""));
    CHECK(strncmp(fx.got, OK_HEAD "date: ", 23) == 0);
    CHECK(strstr(fx.got, " GMT\r\nserver: turboapi\r\n") != NULL);
    fx_stop();
}

/* -- responses -------------------------------------------------------------------------------- */

static void handle_by_path(ta_req *req)
{
    if (ta_str_eq(req->path, TA_STR("/204"))) {
        ta_resp_send(req, head_of(204, ""), TA_STR("never sent"));
    } else if (ta_str_eq(req->path, TA_STR("/304"))) {
        ta_resp_send(req, head_of(304, "etag: \"a\"\r\n"), TA_STR("never sent"));
    } else if (ta_str_eq(req->path, TA_STR("/unknown"))) {
        ta_resp_send(req, head_of(299, ""), TA_STR("a"));
    } else if (ta_str_eq(req->path, TA_STR("/own"))) {
        ta_resp_send(req, head_of(200, "content-length: 3\r\n"), TA_STR("abc"));
    } else if (ta_str_eq(req->path, TA_STR("/stream"))) {
        CHECK_INT(ta_resp_start(req, head_of(200, "content-type: x/y\r\n")), ==, TA_OK);
        CHECK_INT(ta_resp_data(req, TA_STR("first")), ==, TA_OK);
        CHECK_INT(ta_resp_data(req, TA_STR("")), ==, TA_OK);
        CHECK_INT(ta_resp_data(req, TA_STR("0123456789abcdef")), ==, TA_OK);
        CHECK_INT(ta_resp_end(req), ==, TA_OK);
    } else if (ta_str_eq(req->path, TA_STR("/stream-length"))) {
        CHECK_INT(ta_resp_start(req, head_of(200, "content-length: 5\r\n")), ==, TA_OK);
        CHECK_INT(ta_resp_data(req, TA_STR("ab")), ==, TA_OK);
        CHECK_INT(ta_resp_data(req, TA_STR("cde")), ==, TA_OK);
        CHECK_INT(ta_resp_end(req), ==, TA_OK);
        CHECK_INT(ta_resp_end(req), ==, TA_OK); /* again: nothing */
    } else if (ta_str_eq(req->path, TA_STR("/stream-204"))) {
        CHECK_INT(ta_resp_start(req, head_of(204, "")), ==, TA_OK);
        CHECK_INT(ta_resp_data(req, TA_STR("never sent")), ==, TA_OK);
        CHECK_INT(ta_resp_end(req), ==, TA_OK);
    } else if (ta_str_eq(req->path, TA_STR("/end"))) {
        CHECK_INT(ta_resp_end(req), ==, TA_OK);
    } else if (ta_str_eq(req->path, TA_STR("/hints"))) {
        CHECK_INT(ta_resp_informational(req, head_of(103, "link: </x>\r\n")), ==, TA_OK);
        CHECK_INT(ta_resp_informational(req, head_of(101, "")), ==, TA_EINVAL);
        CHECK_INT(ta_resp_informational(req, head_of(200, "")), ==, TA_EINVAL);
        answer(req, "x");
        CHECK_INT(ta_resp_informational(req, head_of(103, "")), ==, TA_EINVAL);
    } else if (ta_str_eq(req->path, TA_STR("/wrong"))) {
        CHECK_INT(ta_resp_send(req, head_of(99, ""), TA_STR("")), ==, TA_EINVAL);
        CHECK_INT(ta_resp_send(req, head_of(101, ""), TA_STR("")), ==, TA_EINVAL);
        CHECK_INT(ta_resp_send(req, head_of(1000, ""), TA_STR("")), ==, TA_EINVAL);
        CHECK_INT(ta_resp_start(req, head_of(100, "")), ==, TA_EINVAL);
        CHECK_INT(ta_resp_data(req, TA_STR("x")), ==, TA_EINVAL);
        CHECK_INT(ta_resp_file(req, 0, 0, 1), ==, TA_EINVAL);
        CHECK_INT(ta_resp_upgrade(req, head_of(101, "")), ==, TA_EINVAL);
        CHECK_INT(ta_raw_write(req, TA_STR("x")), ==, TA_EINVAL);
        CHECK_INT(answer(req, "ok"), ==, TA_OK);
        CHECK_INT(answer(req, "twice"), ==, TA_EINVAL);
        CHECK_INT(ta_resp_start(req, head_of(200, "")), ==, TA_EINVAL);
        CHECK_INT(ta_resp_data(req, TA_STR("x")), ==, TA_EINVAL);
    } else {
        handle_path(req);
    }
}

TA_TEST(statuses_without_body)
{
    fx_start(handle_by_path);
    fx_serve();
    say(REQ("GET", "/204", ""));
    EXPECT("HTTP/1.1 204 No Content\r\n\r\n");
    say(REQ("GET", "/304", ""));
    EXPECT("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n");
    say(REQ("GET", "/stream-204", ""));
    EXPECT("HTTP/1.1 204 No Content\r\n\r\n");
    say(REQ("GET", "/unknown", ""));
    EXPECT("HTTP/1.1 299 \r\ncontent-length: 1\r\n\r\na");
    fx_stop();
}

TA_TEST(head_requests)
{
    fx_start(handle_by_path);
    fx_serve();
    say(REQ("HEAD", "/hello", ""));
    EXPECT(OK("6", ""));
    say(REQ("HEAD", "/own", ""));
    EXPECT(OK_HEAD "content-length: 3\r\n\r\n");
    say(REQ("HEAD", "/stream", ""));
    EXPECT(OK_HEAD "content-type: x/y\r\n\r\n");
    say(REQ("HEAD", "/stream-length", ""));
    EXPECT(OK_HEAD "content-length: 5\r\n\r\n");
    say(REQ("GET", "/own", ""));
    EXPECT(OK_HEAD "content-length: 3\r\n\r\nabc");
    fx_stop();
}

TA_TEST(streams)
{
    fx_start(handle_by_path);
    fx_serve();
    say(REQ("GET", "/stream", ""));
    EXPECT(OK_HEAD "content-type: x/y\r\ntransfer-encoding: chunked\r\n\r\n"
                   "5\r\nfirst\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
    say(REQ("GET", "/stream-length", ""));
    EXPECT(OK("5", "abcde"));
    say("GET /stream-length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT(OK_HEAD "content-length: 5\r\nconnection: keep-alive\r\n\r\nabcde");
    say("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT(OK_HEAD "content-type: x/y\r\nconnection: close\r\n\r\nfirst0123456789abcdef");
    CHECK(fx.got_eof && !fx.got_reset);
    fx_stop();
}

TA_TEST(interim_and_missing_responses)
{
    fx_start(handle_by_path);
    fx_serve();
    say(REQ("GET", "/hints", ""));
    EXPECT("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" OK("1", "x"));
    say("GET /hints HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT(OK_HEAD "content-length: 1\r\nconnection: keep-alive\r\n\r\nx");
    say(REQ("GET", "/end", ""));
    EXPECT("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 21\r\n"
           "content-type: text/plain; charset=utf-8\r\n\r\nInternal Server Error");
    say(REQ("GET", "/wrong", ""));
    EXPECT(OK("2", "ok"));
    fx_stop();
}

/* -- bodies that are not as long as declared -------------------------------------------------- */

static void handle_longer(ta_req *req)
{
    const ta_response_head *head = head_of(200, "content-length: 3\r\n");
    if (ta_str_eq(req->path, TA_STR("/send"))) {
        ta_resp_send(req, head, TA_STR("abcdef"));
        return;
    }
    ta_resp_start(req, head);
    ta_resp_data(req, TA_STR("ab"));
    ta_resp_data(req, TA_STR("cd"));
    ta_resp_data(req, TA_STR("e"));
    ta_resp_end(req);
}

TA_TEST(longer_than_declared)
{
    fx_start(handle_longer);
    fx_serve();
    say(REQ("GET", "/send", ""));
    EXPECT(OK("3", "abc"));
    LINES("response body longer than its content-length: /send\n");
    say(REQ("GET", "/stream", ""));
    EXPECT(OK("3", "abc"));
    LINES("response body longer than its content-length: /stream\n");
    CHECK(!fx.got_eof);
    fx_stop();
}

static void handle_shorter(ta_req *req)
{
    const ta_response_head *head = head_of(200, "content-length: 9\r\n");
    if (ta_str_eq(req->path, TA_STR("/send"))) {
        ta_resp_send(req, head, TA_STR("abc"));
        return;
    }
    ta_resp_start(req, head);
    ta_resp_data(req, TA_STR("abc"));
    CHECK_INT(ta_resp_end(req), ==, TA_ECLOSED);
}

TA_TEST(shorter_than_declared)
{
    for (int stream = 0; stream < 2; stream++) {
        fx_start(handle_shorter);
        fx_serve();
        fx_send(REQ("GET", "/ok", ""), 0);
        say(stream ? REQ("GET", "/stream", "") : REQ("GET", "/send", ""));
        CHECK(fx.got_eof);
        CHECK(strstr(fx.got, "content-length: 9\r\n") && strstr(fx.got, "\r\n\r\nabc"));
        CHECK(strstr(fx.lines, "shorter than its content-length"));
        CHECK_INT(fx.closes, ==, 1);
        fx_stop();
    }
}

static void handle_abort(ta_req *req)
{
    if (!ta_str_eq(req->path, TA_STR("/before"))) {
        ta_resp_start(req, head_of(200, ""));
        ta_resp_data(req, TA_STR("abc"));
    }
    ta_resp_abort(req);
    ta_resp_abort(req);
    CHECK_INT(ta_resp_end(req), ==, TA_OK);
}

TA_TEST(aborts)
{
    fx_start(handle_abort);
    fx_serve();
    say(REQ("GET", "/before", ""));
    EXPECT("");
    CHECK(fx.got_eof);
    LOG("request(GET /before) close");
    fx_stop();

    fx_start(handle_abort);
    fx_serve();
    say(REQ("GET", "/chunked", ""));
    EXPECT(OK_HEAD "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"); /* and no end */
    CHECK(fx.got_eof);
    LOG("request(GET /chunked) close");
    fx_stop();

    /* Until the end of the connection: a FIN would make it look whole.  (A socketpair has no RST;
     * what the client sees is an error or an end after too little: test_h1_conn_end.c uses TCP.) */
    fx_start(handle_abort);
    fx_serve();
    say("GET /x HTTP/1.0\r\n\r\n");
    CHECK(fx.got_eof);
    LOG("request(GET /x) close");
    fx_stop();
}

/* -- parse errors ----------------------------------------------------------------------------- */

static const struct {
    const char *request, *response;
} refused[] = {
    {"GET / HTTP/1.1\r\n\r\n", ERROR("400 Bad Request", "13", "no Host field")},
    {"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
     ERROR("505 HTTP Version Not Supported", "26", "HTTP version not supported")},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
     ERROR("501 Not Implemented", "29", "transfer coding not supported")},
    {"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\n",
     ERROR("417 Expectation Failed", "19", "unknown expectation")},
    {"GET /12345678901234567890123456789 HTTP/1.1\r\nHost: a\r\n\r\n",
     ERROR("414 URI Too Long", "21", "request line too long")},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: 12345678901234567890123456789012345678901234567890\r\n\r\n",
     ERROR("431 Request Header Fields Too Large", "23", "header fields too large")},
    {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n",
     ERROR("413 Content Too Large", "22", "request body too large")},
    {"HEAD / HTTP/1.1\r\n\r\n",
     "HTTP/1.1 400 Bad Request\r\ncontent-length: 13\r\n"
     "content-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n"},
};

TA_TEST(refused_requests)
{
    for (size_t i = 0; i < TA_COUNTOF(refused); i++) {
        fx_start(handle_path);
        fx.limits.request_line = 40;
        fx.limits.header_bytes = 60;
        fx.limits.body_bytes = 100;
        fx_serve();
        fx_send(REQ("GET", "/1", ""), strlen(REQ("GET", "/1", "")));
        say(refused[i].request);
        size_t skip = strlen(OK("2", "/1"));
        fx_read();
        undated(fx.got);
        CHECK(strncmp(fx.got, OK("2", "/1"), skip) == 0); /* the good one before it */
        memmove(fx.got, fx.got + skip, strlen(fx.got + skip) + 1);
        EXPECT(refused[i].response);
        CHECK(fx.got_eof);
        LOG("request(GET /1) close");
        CHECK(strstr(fx.lines, "refused a request: ") != NULL);
        fx_stop();
    }
}

/* Without limits there still is one of memory. */
TA_TEST(endless_head)
{
    fx_start(handle_path);
    fx.limits.request_line = fx.limits.header_bytes = fx.limits.header_count = 0;
    fx_serve();
    static char piece[65536];
    memset(piece, 'x', sizeof piece);
    fx_send("GET /", 5);
    for (int i = 0; i < 40 && !fx.got_eof; i++) {
        (void)!send(fx.client, piece, sizeof piece, MSG_NOSIGNAL);
        settle();
    }
    EXPECT(ERROR("431 Request Header Fields Too Large", "22", "request head too large"));
    CHECK(fx.got_eof);
    fx_stop();
}

/* -- upgrade ---------------------------------------------------------------------------------- */

#define UPGRADE REQ("GET", "/ws", "Connection: Upgrade\r\nUpgrade: raw\r\n")

static void handle_upgrade(ta_req *req)
{
    CHECK(req->upgrade);
    CHECK_INT(ta_resp_upgrade(req, head_of(101, "connection: upgrade\r\nupgrade: raw\r\n")), ==,
              TA_OK);
    CHECK_INT(ta_resp_upgrade(req, head_of(101, "")), ==, TA_EINVAL);
    CHECK_INT(ta_raw_write(req, TA_STR("hello")), ==, TA_OK);
}

static void raw_echo(ta_req *req, const char *data, size_t len)
{
    if (!data || memchr(data, 'Q', len))
        ta_raw_close(req);
    else
        ta_raw_write(req, ta_str_of(data, len));
}

TA_TEST(upgraded)
{
    fx_start(handle_upgrade);
    fx.on_raw = raw_echo;
    fx_serve();
    say(UPGRADE "early"); /* bytes right behind the head */
    EXPECT("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: "
           "raw\r\n\r\nhelloearly");
    say("more");
    EXPECT("more");
    CHECK_STR(fx.req->path, "/ws");
    ta_raw_read(fx.req, false);
    say("paused");
    EXPECT("");
    ta_raw_read(fx.req, true);
    settle();
    EXPECT("paused");
    say("Q");
    CHECK(fx.got_eof);
    LOG("request(GET /ws) raw(early) raw(more) raw(paused) raw(Q) close");
    fx_stop();
}

TA_TEST(upgraded_and_peer_ends)
{
    for (int half = 0; half < 2; half++) {
        fx_start(handle_upgrade);
        fx.on_raw = raw_echo;
        fx_serve();
        say(UPGRADE);
        if (half) {
            shutdown(fx.client, SHUT_WR);
        } else {
            close(fx.client);
            fx.client = -1;
        }
        for (int i = 0; i < 4; i++)
            turn(1);
        LOG("request(GET /ws) raw-end close");
        fx_stop();
    }
}

TA_TEST(upgrade_not_taken)
{
    fx_start(handle_path);
    fx_serve();
    say(UPGRADE REQ("GET", "/2", ""));
    EXPECT(OK("3", "/ws") OK("2", "/2"));
    fx_stop();
}
