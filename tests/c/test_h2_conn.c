/* HTTP/2 connections: requests, bodies, windows, resets, limits, ends, lack of memory. */
#include "h2_fixture.h"

#include "http/h2/h2_int.h"
#include "ta_failmalloc.h"

/* -- requests and responses ------------------------------------------------------------------- */

TA_TEST(a_request_and_its_response)
{
    h2_start(handle_path);
    h2_serve();
    h2.noting = true;
    CHECK_INT(h2_get("/a%20b?q"), ==, 1);
    h2_turn();
    LOG("request(GET /a b) close");
    H2_LOG("head(1 200) content-length=4 data(1 /a b) end(1)");
    CHECK_INT(h2_request("HEAD", "/x", NULL, NULL), ==, 3);
    h2_turn();
    H2_LOG("head(3 200) content-length=2 end(3)");
    h2_stop();
}

static ta_req *held[8];
static int nheld;

static void hold(ta_req *req)
{
    CHECK(nheld < 8);
    held[nheld++] = req;
}

TA_TEST(requests_end_in_any_order)
{
    h2_start(hold);
    fx.quiet = true;
    nheld = 0;
    h2_serve();
    for (int i = 0; i < 3; i++)
        h2_get("/");
    h2_turn();
    CHECK_INT(nheld, ==, 3);
    CHECK_INT(fx_requests(), ==, 3);
    CHECK_INT(answer(held[2], "c"), ==, TA_OK);
    h2_turn();
    H2_LOG("head(5 200) data(5 c) end(5)");
    CHECK_INT(answer(held[0], "a"), ==, TA_OK);
    CHECK_INT(answer(held[1], "b"), ==, TA_OK);
    h2_turn();
    CHECK(strstr(h2.log, "data(1 a) end(1)") && strstr(h2.log, "data(3 b) end(3)"));
    CHECK_INT(fx_requests(), ==, 0);
    h2_stop();
}

static void in_steps(ta_req *req)
{
    CHECK_INT(ta_resp_informational(req, head_of(103, "link: </x>\r\n")), ==, TA_OK);
    CHECK_INT(ta_resp_informational(req, head_of(101, "")), ==, TA_EINVAL);
    CHECK_INT(ta_resp_data(req, TA_STR("early")), ==, TA_EINVAL);
    CHECK_INT(ta_resp_start(req, head_of(200, "x-a: b\r\nconnection: close\r\n")), ==, TA_OK);
    CHECK_INT(ta_resp_start(req, head_of(200, "")), ==, TA_EINVAL);
    CHECK_INT(ta_resp_data(req, TA_STR("ab")), ==, TA_OK);
    CHECK_INT(ta_resp_data(req, TA_STR("")), ==, TA_OK);
    CHECK_INT(ta_resp_data(req, TA_STR("c")), ==, TA_OK);
    if (req->path.len == 1)
        CHECK_INT(ta_resp_end(req), ==, TA_OK);
    else
        CHECK_INT(ta_resp_end_with(req, head_of(0, "x-sum: 3\r\n")), ==, TA_OK);
    CHECK_INT(ta_resp_end(req), ==, TA_OK); /* again: nothing */
}

TA_TEST(streams_hints_and_trailers)
{
    h2_start(in_steps);
    h2_serve();
    h2.noting = true;
    h2_get("/");
    h2_turn();
    H2_LOG("head(1 103) link=</x> head(1 200) x-a=b data(1 abc) end(1)");
    h2_get("/trailers");
    h2_turn();
    H2_LOG("head(3 103) link=</x> head(3 200) x-a=b data(3 abc) x-sum=3 end(3)");
    h2_request("HEAD", "/trailers", NULL, NULL);
    h2_turn();
    H2_LOG("head(5 103) link=</x> head(5 200) x-a=b end(5)");
    h2_stop();
}

static void only_trailers(ta_req *req)
{
    CHECK_INT(ta_resp_start(req, head_of(200, "")), ==, TA_OK);
    CHECK_INT(ta_resp_end_with(req, head_of(0, "x-sum: 3\r\n")), ==, TA_OK);
}

TA_TEST(trailers_without_a_body)
{
    h2_start(only_trailers);
    h2_serve();
    h2.noting = true;
    h2_get("/");
    h2_turn();
    CHECK(strstr(h2.log, "head(1 200) ") && strstr(h2.log, "x-sum=3 end(1)"));
    LOG("request(GET /) close");
    h2_stop();
}

static void too_long(ta_req *req)
{
    ta_resp_send(req, head_of(200, "content-length: 2\r\n"), TA_STR("abc"));
}

static void too_short(ta_req *req)
{
    ta_resp_send(req, head_of(200, "content-length: 4\r\n"), TA_STR("abc"));
}

TA_TEST(bodies_that_belie_their_length)
{
    h2_start(too_long);
    h2_serve();
    h2_get("/");
    h2_turn();
    H2_LOG("head(1 200) data(1 ab) end(1)");
    h2_stop();
    h2_start(too_short);
    h2_serve();
    h2_get("/");
    h2_turn();
    H2_LOG("head(1 200) data(1 abc) reset(1 2)");
    LOG("request(GET /) close");
    h2_stop();
}

/* -- bodies of requests ----------------------------------------------------------------------- */

TA_TEST(a_body)
{
    h2_start(echo_when_whole);
    fx.on_body = echo_when_whole;
    h2_serve();
    h2_request("POST", "/", "hello", NULL);
    h2_turn();
    H2_LOG("head(1 200) data(1 hello) end(1)");
    h2_stop();
}

static void ask_for_it(ta_req *req)
{
    ta_req_want_body(req, SIZE_MAX);
    echo_when_whole(req);
}

TA_TEST(expect)
{
    static const nghttp2_nv expect[] = {H2_FIELD("expect", "100-continue"), {0}};
    h2_start(ask_for_it);
    fx.on_body = echo_when_whole;
    h2_serve();
    h2_request("POST", "/", "hello", expect);
    h2_turn();
    /* the client has sent its body at once: then there is no need to tell it to go on */
    CHECK(strstr(h2.log, "head(1 200) data(1 hello) end(1)"));
    static const nghttp2_nv other[] = {H2_FIELD("expect", "more"), {0}};
    h2.log[0] = 0;
    h2_request("POST", "/", "hello", other);
    h2_turn();
    CHECK(strstr(h2.log, "head(3 417)"));
    h2_stop();
}

TA_TEST(too_large_a_body)
{
    h2_start(handle_never);
    fx.limits.body_bytes = 4;
    h2_serve();
    h2_request("POST", "/", "hello", NULL);
    h2_turn();
    CHECK(strstr(h2.log, "head(1 413)"));
    h2_stop();
}

static const char large[200000];

static void send_large(ta_req *req)
{
    CHECK_INT(ta_resp_start(req, head_of(200, "")), ==, TA_OK);
    CHECK_INT(ta_resp_data(req, ta_str_of(large, sizeof large)), ==, TA_AGAIN);
}

static void end_it(ta_req *req)
{
    CHECK_INT(ta_resp_end(req), ==, TA_OK);
}

TA_TEST(a_window_that_is_full_holds_up_its_stream_only)
{
    h2_start(send_large);
    fx.on_drain = end_it;
    fx.quiet = true;
    h2_serve();
    h2.stingy = true;
    h2_get("/");
    h2_turn();
    h2_turn();
    CHECK_INT(h2.taken, ==, 65535);
    CHECK_INT(fx_requests(), ==, 1);
    h2.stingy = false;
    nghttp2_session_consume(h2.session, 1, 65535);
    H2_UNTIL(strstr(h2.log, "end(1)") != NULL, 5000);
    CHECK_INT(h2.taken, ==, sizeof large);
    CHECK_INT(fx_requests(), ==, 0);
    h2_stop();
}

/* -- the client gives up ---------------------------------------------------------------------- */

TA_TEST(a_reset_ends_its_stream_only)
{
    h2_start(handle_never);
    h2_serve();
    h2_get("/");
    h2_turn();
    nghttp2_submit_rst_stream(h2.session, NGHTTP2_FLAG_NONE, 1, NGHTTP2_CANCEL);
    h2_turn();
    LOG("request(GET /) disconnect");
    CHECK(fx.req->gone);
    CHECK_INT(answer(fx.req, "late"), ==, TA_ECLOSED);
    h2_turn();
    LOG("close");
    H2_LOG("");
    fx.on_request = handle_path;
    h2_get("/next");
    h2_turn();
    H2_LOG("head(3 200) data(3 /next) end(3)");
    h2_stop();
}

TA_TEST(a_connection_that_ends)
{
    h2_start(handle_never);
    h2_serve();
    h2_get("/");
    h2_turn();
    close(fx.client);
    fx.client = -1;
    for (int i = 0; i < 3; i++)
        turn(1);
    LOG("request(GET /) disconnect");
    ta_resp_abort(fx.req);
    turn(1);
    LOG("close");
    CHECK_INT(ta_http_server_connections(fx.server), ==, 0);
    h2_stop();
}

static void begin_and_abort(ta_req *req)
{
    ta_resp_start(req, head_of(200, ""));
    ta_resp_data(req, TA_STR("abc"));
    ta_resp_abort(req);
}

TA_TEST(an_abort_shows_the_beginning)
{
    h2_start(begin_and_abort);
    h2_serve();
    h2_get("/");
    h2_turn();
    H2_LOG("head(1 200) data(1 abc) reset(1 2)");
    h2_stop();
}

/* -- floods: each ends with a GOAWAY ---------------------------------------------------------- */

static void flood(uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len)
{
    snprintf(ta_test_note, sizeof ta_test_note, "type %d, flags %d", type, flags);
    h2_start(handle_never);
    fx.quiet = true;
    fx.limits.h2_control_frames = 50;
    h2_serve();
    h2_get("/");
    h2_turn();
    for (int i = 0; i < 40; i++)
        h2_frame(type, flags, id, payload, len);
    h2_turn();
    CHECK_INT(ta_http_server_connections(fx.server), ==, 1);
    CHECK(!strstr(fx.lines, "limit_h2_control_frames"));
    for (int i = 0; i < 60; i++)
        h2_frame(type, flags, id, payload, len);
    H2_UNTIL(strstr(fx.lines, "limit_h2_control_frames") != NULL, 5000);
    H2_UNTIL(fx.got_eof, 5000);
    if (type != NGHTTP2_SETTINGS) /* answers that it did not ask for are too much for our client */
        CHECK(strstr(h2.log, "goaway(1 11)"));
    h2_stop();
}

TA_TEST(floods)
{
    flood(NGHTTP2_PING, 0, 0, "12345678", 8);
    flood(NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "12345678", 8);
    flood(NGHTTP2_SETTINGS, 0, 0, NULL, 0);
    flood(NGHTTP2_WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
    flood(NGHTTP2_PRIORITY, 0, 1, "\0\0\0\0\1", 5);
    flood(NGHTTP2_PRIORITY_UPDATE, 0, 0, "\0\0\0\1u=1", 7);
    flood(0xbe, 0, 0, "x", 1);
}

/* How many frames of eight bytes have come since this was last asked. */
static size_t pongs(void)
{
    fx_read();
    size_t n = fx.got_len / 17;
    CHECK_INT(fx.got_len % 17, ==, 0);
    fx.got_len = 0;
    return n;
}

/* What one turn takes of a connection ends at a frame, and the rest waits for the next batch. */
TA_TEST(a_turns_share_of_frames)
{
    enum { SHARE = 128, MORE = 3 };
    uint8_t ping[17] = {0, 0, 8, NGHTTP2_PING}, pings[(2 * SHARE + MORE) * sizeof ping];
    for (size_t at = 0; at < sizeof pings; at += sizeof ping)
        memcpy(pings + at, ping, sizeof ping);
    h2_start(handle_never);
    fx.limits.h2_control_frames = 0;
    h2_serve();
    h2_turn();
    turn(1);
    CHECK_INT(pongs(), ==, 0);
    (void)send(fx.client, pings, SHARE * sizeof ping, MSG_NOSIGNAL);
    turn(1000);
    CHECK_INT(pongs(), ==, SHARE);
    (void)send(fx.client, pings, sizeof pings, MSG_NOSIGNAL);
    turn(1000);
    CHECK_INT(pongs(), ==, SHARE);
    uint64_t start = now_ms();
    turn(5000);
    CHECK_INT(pongs(), ==, SHARE);
    /* Reading goes on, with the half of a frame that came between. */
    (void)send(fx.client, ping, 5, MSG_NOSIGNAL);
    turn(5000);
    CHECK_INT(pongs(), ==, MORE);
    CHECK_INT(now_ms() - start, <, 4000); /* nothing waited for the client */
    turn(1);
    (void)send(fx.client, ping + 5, sizeof ping - 5, MSG_NOSIGNAL);
    turn(1000);
    CHECK_INT(pongs(), ==, 1);
    h2_stop();
}

static int left;

static void count_left(ta_req *req)
{
    left++;
}

/* Requests of all connections that begin or are left in one batch: a client may have several. */
TA_TEST(a_batchs_share_of_requests)
{
    enum { CLIENTS = 3, REQUESTS = 20, SHARE = 4, LEAST = 2 };
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    int clients[CLIENTS];
    uint8_t get[] = {0, 0, 6, NGHTTP2_HEADERS, 5, 0, 0, 0, 0, 0x82, 0x84, 0x86, 0x41, 1, 'a'};
    h2_start(handle_never);
    fx.quiet = true;
    fx.limits.pipelined = SHARE;
    h2_serve();
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = fx_connect();
        (void)send(clients[i], hello, sizeof hello - 1, MSG_NOSIGNAL);
    }
    for (int i = 0; i < 10; i++)
        turn(1);
    for (int i = 0; i < CLIENTS; i++)
        for (int k = 0; k < REQUESTS; k++) {
            get[8] = (uint8_t)(2 * k + 1);
            (void)send(clients[i], get, sizeof get, MSG_NOSIGNAL);
        }
    turn(1000);
    CHECK_INT(fx_requests(), ==, SHARE + (CLIENTS - 1) * LEAST);
    for (int i = 0; i < CLIENTS * REQUESTS && fx_requests() < CLIENTS * REQUESTS; i++)
        turn(1000);
    CHECK_INT(fx_requests(), ==, CLIENTS * REQUESTS);
    fx.on_disconnect = count_left;
    left = 0;
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
    turn(1000);
    CHECK_INT(left, >=, CLIENTS * LEAST);
    CHECK_INT(left, <=, CLIENTS * SHARE);
    for (int i = 0; i < CLIENTS * REQUESTS && left < CLIENTS * REQUESTS; i++)
        turn(1000);
    CHECK_INT(left, ==, CLIENTS * REQUESTS);
    h2_stop();
}

TA_TEST(rapid_reset)
{
    h2_start(handle_never);
    fx.quiet = true;
    fx.limits.h2_resets = 20;
    h2_serve();
    for (int i = 0; i < 100 && !strstr(h2.log, "goaway"); i++) {
        int32_t id = h2_get("/");
        h2_turn();
        nghttp2_submit_rst_stream(h2.session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
        h2_turn();
    }
    H2_UNTIL(strstr(h2.log, " 11)") != NULL, 5000); /* a little later where time has passed */
    CHECK(strstr(fx.lines, "limit_h2_resets"));
    h2_stop();
}

TA_TEST(continuations)
{
    h2_start(handle_never);
    fx.quiet = true;
    h2_serve();
    h2_frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_STREAM, 1, "\x82", 1);
    for (int i = 0; i < 9; i++)
        h2_frame(NGHTTP2_CONTINUATION, 0, 1, NULL, 0);
    H2_UNTIL(strstr(h2.log, "goaway(0 11)") != NULL, 5000);
    CHECK(strstr(fx.lines, "limit_h2_continuations"));
    h2_stop();
}

TA_TEST(frames_in_pieces)
{
    h2_start(handle_path);
    fx_serve();
    h2_connect(NULL, 0);
    h2_get("/pieces");
    const uint8_t *data;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(h2.session, &data)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            fx_send((const char *)data + i, 1);
            turn(1);
        }
    }
    h2_turn();
    H2_LOG("head(1 200) data(1 /pieces) end(1)");
    h2_stop();
}

/* -- ends ------------------------------------------------------------------------------------- */

TA_TEST(shutdown_serves_what_is_open)
{
    h2_start(handle_never);
    h2_serve();
    h2_get("/");
    h2_turn();
    ta_http_server_shutdown(fx.server, NULL, NULL);
    H2_UNTIL(strstr(h2.log, "goaway(1 0)") != NULL, 5000); /* behind the notice */
    CHECK(strstr(h2.log, "goaway(2147483647 0)"));
    CHECK_INT(answer(fx.req, "late"), ==, TA_OK);
    H2_UNTIL(fx.got_eof, 5000);
    CHECK(strstr(h2.log, "data(1 late) end(1)"));
    LOG("request(GET /) close");
    h2_stop();
}

/* Requests that cross the last GOAWAY on their way cost the client nothing of what it has not read
 * yet: no reset follows. */
TA_TEST(shutdown_resets_no_client_that_sends)
{
    h2_start(handle_never);
    h2_serve();
    h2_get("/");
    h2_turn();
    ta_http_server_shutdown(fx.server, NULL, NULL);
    H2_UNTIL(strstr(h2.log, "goaway(1 0)") != NULL, 5000);
    CHECK_INT(answer(fx.req, "late"), ==, TA_OK);
    H2_UNTIL(fx.got_eof, 5000);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(send(fx.client, "\0\0\5\2\0\0\0\0\3\0\0\0\0\1", 14, MSG_NOSIGNAL), ==, 14);
        turn(1);
        fx_read();
    }
    CHECK(!fx.got_reset);
    CHECK(strstr(h2.log, "data(1 late) end(1)"));
    h2_stop();
}

static void dawdle(ta_req *req)
{
    if (ta_str_eq(req->path, TA_STR("/dawdle")))
        usleep(20 * 1000);
    handle_path(req);
}

/* Streams that have come when the last GOAWAY is due are served, even if the loop was busy then. */
TA_TEST(shutdown_serves_what_came_in_time)
{
    static const char slow[] = REQ("GET", "/dawdle", "");
    const uint8_t *data;
    h2_start(dawdle);
    fx.quiet = true;
    h2_serve();
    int other = fx_connect();
    h2_get("/1");
    ssize_t n = nghttp2_session_mem_send(h2.session, &data); /* what comes later is not sent */
    CHECK_INT(n, >, 0);
    ta_http_server_shutdown(fx.server, NULL, NULL);
    turn(1);
    usleep((H2_PARTING_MS + 50) * 1000);
    CHECK_INT(send(other, slow, sizeof slow - 1, MSG_NOSIGNAL), ==, sizeof slow - 1);
    fx_send((const char *)data, (size_t)n);
    H2_UNTIL(fx.got_eof, 5000);
    CHECK(strstr(h2.log, "data(1 /1) end(1)"));
    close(other);
    h2_stop();
}

TA_TEST(a_number_of_requests_ends_in_order)
{
    h2_start(handle_path);
    fx.limits.requests_per_conn = 2;
    fx.quiet = true;
    h2_serve();
    h2_get("/1");
    h2_get("/2");
    H2_UNTIL(fx.got_eof, 5000);
    CHECK(strstr(h2.log, "data(1 /1)") && strstr(h2.log, "data(3 /2)"));
    CHECK(strstr(h2.log, "goaway(3 0)"));
    h2_stop();
}

/* -- lack of memory --------------------------------------------------------------------------- */

static void stream_with_trailers(ta_req *req)
{
    if (!req->body_eof)
        return;
    (void)ta_resp_informational(req, head_of(103, "link: </x>\r\n"));
    (void)ta_resp_start(req, head_of(200, "x-a: b\r\n"));
    (void)ta_resp_data(req, ta_buf_str(&req->body));
    (void)ta_resp_end_with(req, head_of(0, "x-sum: 3\r\n"));
}

static void scenario(void)
{
    fx_start(stream_with_trailers);
    fx.on_body = stream_with_trailers;
    fx.quiet = true;
    fx.loop = ta_loop_new(TA_BACKEND_AUTO);
    ta_http_cfg cfg = {.limits = &fx.limits, .ops = &fx_ops, .ctx = &fx, .http2 = true};
    fx.server = fx.loop ? ta_http_server_new(fx.loop, &cfg) : NULL;
    fx.client = -1;
    int pair[2];
    if (fx.server && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0) {
        fx.client = pair[1];
        if (ta_http_server_accept(fx.server, pair[0], NULL, 0, NULL) == TA_OK) {
            static const char get[] = "\x82\x84\x86\x41\x01"
                                      "a",
                              post[] = "\x83\x84\x86\x41\x01"
                                       "a";
            ta_ready ready[4];
            unsigned served;
            (void)!send(fx.client, TA_H2_PREFACE, sizeof TA_H2_PREFACE - 1, MSG_NOSIGNAL);
            h2_frame(NGHTTP2_SETTINGS, 0, 0, NULL, 0);
            h2_frame(NGHTTP2_HEADERS, 5, 1, get, sizeof get - 1);
            h2_frame(NGHTTP2_HEADERS, 4, 3, post, sizeof post - 1);
            for (int i = 0; i < 2; i++)
                (void)ta_loop_poll(fx.loop, 0, ready, 4, &served);
            h2_frame(NGHTTP2_DATA, 0, 3, "hello", 5);
            (void)ta_loop_poll(fx.loop, 0, ready, 4, &served);
            h2_frame(NGHTTP2_DATA, 1, 3, "hello", 5);
            for (int i = 0; i < 3; i++)
                (void)ta_loop_poll(fx.loop, 0, ready, 4, &served);
        }
    }
    ta_http_server_free(fx.server);
    if (fx.client >= 0)
        close(fx.client);
    ta_loop_free(fx.loop);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(scenario);
}
