/* Ends: disconnects, half-closed clients, resets over TCP, files, shutdown, lack of memory. */
#include "h1_fixture.h"

#include "http/h1/h1_int.h"
#include "ta_failmalloc.h"

#include <arpa/inet.h>
#include <netinet/in.h>

/* -- the client goes -------------------------------------------------------------------------- */

TA_TEST(client_gone)
{
    fx_start(handle_never);
    fx_serve();
    say(REQ("GET", "/slow", "X-A: b\r\n"));
    close(fx.client);
    fx.client = -1;
    uint64_t start = now_ms();
    while (!strstr(fx.log, "disconnect") && now_ms() - start < 2000)
        turn(5);
    LOG("request(GET /slow) disconnect");
    for (int i = 0; i < 3; i++)
        turn(1);
    CHECK_STR(fx.req->path, "/slow");
    CHECK_STR(fx.req->headers[1].value, "b");
    ta_req_consume(fx.req, 5);
    ta_req_want_body(fx.req, 5);
    ta_resp_flush(fx.req);
    int rc = answer(fx.req, "late");
    CHECK(rc == TA_OK || rc == TA_ECLOSED);
    for (int i = 0; i < 3; i++)
        turn(1);
    LOG("close");
    CHECK_INT(ta_http_server_connections(fx.server), ==, 0);
    fx_stop();
}

TA_TEST(half_closed_client_gets_its_response)
{
    fx_start(handle_never);
    fx_serve();
    fx_send(REQ("GET", "/slow", ""), strlen(REQ("GET", "/slow", "")));
    shutdown(fx.client, SHUT_WR);
    settle();
    LOG("request(GET /slow)"); /* it may be there, and has some time to get something */
    RUN_UNTIL(strstr(fx.log, "disconnect") != NULL, 5000);
    CHECK(fx.req->disconnected && !fx.req->gone);
    fx.log[0] = 0;
    CHECK_INT(answer(fx.req, "late"), ==, TA_OK);
    settle();
    EXPECT(OK("4", "late"));
    CHECK(fx.got_eof);
    LOG("close");
    fx_stop();

    /* pipelined, and all answered at once */
    fx_start(handle_path);
    fx_serve();
    fx_send(REQ("GET", "/1", "") REQ("GET", "/2", ""), 2 * strlen(REQ("GET", "/1", "")));
    shutdown(fx.client, SHUT_WR);
    settle();
    EXPECT(OK("2", "/1") OK("2", "/2"));
    CHECK(fx.got_eof);
    LOG("request(GET /1) close request(GET /2) close");
    fx_stop();
}

static void begin_chunked(ta_req *req)
{
    ta_resp_start(req, head_of(200, ""));
}

static void begin_with_length(ta_req *req)
{
    ta_resp_start(req, head_of(200, "content-length: 4\r\n"));
}

/* In the middle of a quiet response, the first digit of the next chunk asks who ended his side. */
TA_TEST(half_closed_in_a_chunked_response)
{
    fx_start(begin_chunked);
    fx_serve();
    say(REQ("GET", "/", ""));
    EXPECT("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    shutdown(fx.client, SHUT_WR);
    settle();
    EXPECT("0");
    CHECK_INT(ta_resp_data(fx.req, TA_STR("abc")), ==, TA_OK);
    settle();
    EXPECT("3\r\nabc\r\n");
    CHECK_INT(ta_resp_end(fx.req), ==, TA_OK);
    settle();
    EXPECT("0\r\n\r\n");
    CHECK(fx.got_eof);
    LOG("request(GET /) close");
    fx_stop();
    /* nobody is there */
    fx_start(begin_chunked);
    fx_serve();
    say(REQ("GET", "/", ""));
    close(fx.client);
    fx.client = -1;
    uint64_t start = now_ms();
    while (!strstr(fx.log, "disconnect") && now_ms() - start < 5000)
        turn(5);
    CHECK(fx.req->disconnected && fx.req->gone);
    ta_resp_abort(fx.req);
    turn(1);
    LOG("request(GET /) disconnect close");
    fx_stop();
}

/* Other responses have a second to send something. */
TA_TEST(half_closed_in_a_response_with_a_length)
{
    for (int quiet = 0; quiet < 2; quiet++) {
        fx_start(begin_with_length);
        fx_serve();
        say(REQ("GET", "/", ""));
        EXPECT("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
        uint64_t start = now_ms();
        shutdown(fx.client, SHUT_WR);
        settle();
        LOG("request(GET /)");
        if (!quiet) {
            ta_resp_data(fx.req, TA_STR("a"));
            while (now_ms() - start < 1500)
                turn(10);
            LOG("");
        } else {
            RUN_UNTIL(strstr(fx.log, "disconnect") != NULL, 5000);
            CHECK(!fx.req->gone);
            LOG("disconnect");
        }
        ta_resp_data(fx.req, quiet ? TA_STR("abcd") : TA_STR("bcd"));
        ta_resp_end(fx.req);
        settle();
        EXPECT("abcd");
        LOG("close");
        fx_stop();
    }
}

TA_TEST(peer_ends_within_a_head)
{
    fx_start(handle_path);
    fx_serve();
    fx_send("GET / HT", 8);
    shutdown(fx.client, SHUT_WR);
    settle();
    EXPECT("");
    CHECK(fx.got_eof);
    CHECK_INT(ta_http_server_connections(fx.server), ==, 0);
    fx_stop();
}

static void abort_now(ta_req *req)
{
    ta_resp_abort(req);
}

TA_TEST(abort_in_on_disconnect)
{
    fx_start(handle_never);
    fx.on_disconnect = abort_now;
    fx_serve();
    say(REQ("GET", "/", ""));
    close(fx.client);
    fx.client = -1;
    for (int i = 0; i < 5; i++)
        turn(2);
    LOG("request(GET /) disconnect close");
    CHECK_INT(ta_http_server_connections(fx.server), ==, 0);
    fx_stop();
}

/* Bytes that come while a request is served move the read buffer, but not what it points to. */
TA_TEST(slices_stay_while_more_arrives)
{
    fx_start(handle_never);
    fx.quiet = true;
    fx_serve();
    say(REQ("POST", "/first%20one?q", "X-A: value\r\nContent-Length: 4\r\n") "body");
    ta_req *req = fx.req;
    static char many[100000];
    size_t n = 0, one = strlen(REQ("GET", "/p", ""));
    while (n + one < sizeof many) {
        memcpy(many + n, REQ("GET", "/p", ""), one);
        n += one;
    }
    for (size_t at = 0; at < n;) {
        ssize_t k = send(fx.client, many + at, TA_MIN(n - at, (size_t)7000), MSG_NOSIGNAL);
        at += k > 0 ? (size_t)k : 0;
        turn(0);
    }
    CHECK(fx.req == req);
    CHECK_STR(req->method, "POST");
    CHECK_STR(req->path, "/first one");
    CHECK_STR(req->raw_path, "/first%20one");
    CHECK_STR(req->query, "q");
    CHECK_STR(req->headers[1].name, "x-a");
    CHECK_STR(req->headers[1].value, "value");
    CHECK_STR(ta_buf_str(&req->body), "body");
    fx.on_request = handle_path;
    answer(req, "x");
    uint64_t start = now_ms();
    while (fx.closes < 1 + n / one && now_ms() - start < 5000) {
        turn(1);
        (void)!recv(fx.client, fx.got, sizeof fx.got, 0);
    }
    CHECK_INT(fx.closes, ==, 1 + n / one);
    fx_stop();
}

/* The read buffer is full of pipelined requests: the end of the peer is seen all the same. */
TA_TEST(client_gone_behind_a_full_buffer)
{
    fx_start(handle_never);
    fx_serve();
    say(REQ("GET", "/", ""));
    static char many[60000];
    memset(many, 'G', sizeof many);
    for (int i = 0; i < 10; i++) {
        (void)!send(fx.client, many, sizeof many, MSG_NOSIGNAL);
        turn(0);
    }
    LOG("request(GET /)");
    close(fx.client);
    fx.client = -1;
    uint64_t start = now_ms();
    while (!fx.log[0] && now_ms() - start < 2000)
        turn(5);
    LOG("disconnect");
    ta_resp_abort(fx.req);
    for (int i = 0; i < 5; i++)
        turn(2);
    LOG("close");
    CHECK_INT(ta_http_server_connections(fx.server), ==, 0);
    fx_stop();
}

/* -- over TCP --------------------------------------------------------------------------------- */

static int tcp_listener(struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *addr;
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_INT(bind(fd, (struct sockaddr *)addr, len), ==, 0);
    CHECK_INT(listen(fd, 8), ==, 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)addr, &len), ==, 0);
    return fd;
}

/* Replaces the fixture's client by one over loopback. */
static void use_tcp(void)
{
    struct sockaddr_in addr, peer;
    socklen_t len = sizeof peer;
    int l = tcp_listener(&addr);
    close(fx.client);
    fx.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(fx.client, (struct sockaddr *)&addr, sizeof addr), ==, 0);
    int fd = accept4(l, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK_INT(fd, >=, 0);
    fcntl(fx.client, F_SETFL, O_NONBLOCK);
    close(l);
    CHECK_INT(ta_http_server_accept(fx.server, fd, (struct sockaddr *)&peer, len, NULL), ==, TA_OK);
    settle();
}

static void check_peer(ta_req *req)
{
    ta_str host;
    uint16_t port;
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    getsockname(fx.client, (struct sockaddr *)&own, &len);
    ta_req_peer(req, &host, &port);
    CHECK_STR(host, "127.0.0.1");
    CHECK_INT(port, ==, ntohs(own.sin_port));
    getpeername(fx.client, (struct sockaddr *)&own, &len);
    ta_req_local(req, &host, &port);
    CHECK_STR(host, "127.0.0.1");
    CHECK_INT(port, ==, ntohs(own.sin_port));
    answer(req, "x");
}

TA_TEST(tcp_addresses)
{
    fx_start(check_peer);
    fx_serve();
    use_tcp();
    say(REQ("GET", "/", ""));
    EXPECT(OK("1", "x"));
    fx_stop();
}

/* A response until the end of the connection that breaks off is no whole one: RST. */
static void abort_stream(ta_req *req)
{
    ta_resp_start(req, head_of(200, ""));
    ta_resp_data(req, TA_STR("abc"));
    ta_resp_abort(req);
}

TA_TEST(tcp_broken_off_by_reset)
{
    fx_start(abort_stream);
    fx_serve();
    use_tcp();
    say("GET / HTTP/1.0\r\n\r\n");
    RUN_UNTIL(fx.got_eof, 1000);
    CHECK(fx.got_reset);
    fx_stop();
}

TA_TEST(tcp_client_resets)
{
    fx_start(handle_never);
    fx_serve();
    use_tcp();
    say(REQ("POST", "/", "Content-Length: 5\r\n") "ab");
    struct linger now = {1, 0};
    setsockopt(fx.client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fx.client);
    fx.client = -1;
    for (int i = 0; i < 5; i++)
        turn(2);
    LOG("request(POST /) with(2) disconnect");
    CHECK_STR(ta_buf_str(&fx.req->body), "ab");
    CHECK_INT(answer(fx.req, "late"), ==, TA_ECLOSED);
    for (int i = 0; i < 2; i++)
        turn(1);
    LOG("close");
    CHECK_INT(ta_http_server_connections(fx.server), ==, 0);
    fx_stop();
}

static void refuse_upload(ta_req *req)
{
    ta_resp_send(req, head_of(403, ""), TA_STR("no"));
}

/* An error response reaches a client that is still sending: no RST overtakes it. */
TA_TEST(tcp_error_response_survives_unread_input)
{
    fx_start(refuse_upload);
    fx_serve();
    use_tcp();
    static char piece[200000];
    memset(piece, 'x', sizeof piece);
    fx_send(REQ("PUT", "/", "Content-Length: 10000000\r\n"),
            strlen(REQ("PUT", "/", "Content-Length: 10000000\r\n")));
    for (int i = 0; i < 20; i++) {
        (void)!send(fx.client, piece, sizeof piece, MSG_NOSIGNAL);
        turn(1);
    }
    RUN_UNTIL(fx.got_eof, 3000);
    CHECK(strncmp(fx.got, "HTTP/1.1 403 Forbidden\r\n", 24) == 0);
    CHECK(!fx.got_reset);
    fx_stop();
}

/* -- files ------------------------------------------------------------------------------------ */

static int file_fd;
static void handle_file(ta_req *req)
{
    if (ta_str_eq(req->path, TA_STR("/chunked")))
        ta_resp_start(req, head_of(200, ""));
    else
        ta_resp_start(req, head_of(200, "content-length: 6\r\n"));
    CHECK_INT(ta_resp_file(req, file_fd, 2, 6), ==, TA_OK);
    ta_resp_end(req);
}

static int temporary_file(const char *text, size_t len)
{
    char name[] = "/tmp/ta_test_XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    unlink(name);
    CHECK_INT(write(fd, text, len), ==, len);
    return fd;
}

TA_TEST(files)
{
    file_fd = temporary_file("0123456789", 10);
    fx_start(handle_file);
    fx_serve();
    say(REQ("GET", "/", "") REQ("GET", "/2", ""));
    EXPECT(OK("6", "234567") OK("6", "234567"));
    say(REQ("GET", "/chunked", ""));
    EXPECT(OK_HEAD "transfer-encoding: chunked\r\n\r\n6\r\n234567\r\n0\r\n\r\n");
    say(REQ("HEAD", "/", ""));
    EXPECT(OK("6", ""));
    LOG("request(GET /) close request(GET /2) close request(GET /chunked) close request(HEAD /) "
        "close");
    fx_stop();
    close(file_fd);
}

static void handle_big_file(ta_req *req)
{
    ta_resp_start(req, head_of(200, "content-length: 5000000\r\n"));
    int rc = ta_resp_file(req, file_fd, 0, 5000000);
    CHECK(rc == TA_OK || rc == TA_AGAIN);
    CHECK_INT(ta_resp_end(req), ==, TA_OK);
}

/* on_close waits for the last byte: the descriptor is needed until then. */
TA_TEST(big_file)
{
    char *data = malloc(5000000);
    for (int i = 0; i < 5000000; i++)
        data[i] = (char)(i % 251);
    file_fd = temporary_file(data, 5000000);
    fx_start(handle_big_file);
    fx_serve();
    fx_send(REQ("GET", "/", ""), strlen(REQ("GET", "/", "")));
    for (int i = 0; i < 3; i++)
        turn(1);
    CHECK(fx.req != NULL);
    size_t total = 0;
    char *all = malloc(5000200);
    uint64_t start = now_ms();
    while (now_ms() - start < 5000) {
        ssize_t n = recv(fx.client, all + total, 5000200 - total, 0);
        if (n > 0)
            total += (size_t)n;
        else if (!fx.req)
            break;
        turn(1);
    }
    CHECK(fx.req == NULL);
    CHECK_INT(total, >, 5000000);
    CHECK_MEM(all + total - 5000000, data, 5000000);
    free(all);
    free(data);
    fx_stop();
    close(file_fd);
}

TA_TEST(file_becomes_shorter)
{
    file_fd = temporary_file("0123", 4);
    fx_start(handle_file);
    fx_serve();
    say(REQ("GET", "/", ""));
    CHECK(fx.got_eof);
    LOG("request(GET /) close");
    CHECK(strstr(fx.lines, "shorter") != NULL);
    fx_stop();
    close(file_fd);
}

TA_TEST(client_gone_in_a_file)
{
    char *data = calloc(1, 5000000);
    file_fd = temporary_file(data, 5000000);
    free(data);
    fx_start(handle_big_file);
    fx_serve();
    fx_send(REQ("GET", "/", ""), strlen(REQ("GET", "/", "")));
    for (int i = 0; i < 3; i++)
        turn(1);
    CHECK(fx.req != NULL);
    close(fx.client);
    fx.client = -1;
    for (int i = 0; i < 5; i++)
        turn(2);
    CHECK(fx.req == NULL);
    CHECK(strstr(fx.log, "close") != NULL);
    CHECK_INT(ta_http_server_connections(fx.server), ==, 0);
    fx_stop();
    close(file_fd);
}

/* -- shutdown --------------------------------------------------------------------------------- */

static int shut;
static void on_shut(void *arg)
{
    CHECK(arg == &fx);
    shut++;
}

/* Not at once: their clients may be sending. */
TA_TEST(shutdown_closes_idle_ones)
{
    shut = 0;
    fx_start(handle_path);
    fx_serve();
    int fresh = fx_connect();
    say(REQ("GET", "/1", ""));
    EXPECT(OK("2", "/1"));
    ta_http_server_shutdown(fx.server, on_shut, &fx);
    CHECK_INT(shut, ==, 0); /* never from within the call */
    settle();
    CHECK_INT(shut, ==, 0);
    CHECK(!fx.got_eof);
    RUN_UNTIL(shut == 1, 3000);
    settle();
    CHECK(fx.got_eof);
    char byte;
    CHECK_INT(recv(fresh, &byte, 1, 0), ==, 0);
    close(fresh);
    settle();
    CHECK_INT(shut, ==, 1);
    fx_stop();
}

/* A request that was on its way is answered, on a used connection and on a fresh one. */
TA_TEST(shutdown_serves_requests_on_their_way)
{
    shut = 0;
    fx_start(handle_path);
    fx_serve();
    int fresh = fx_connect();
    say(REQ("GET", "/1", ""));
    EXPECT(OK("2", "/1"));
    ta_http_server_shutdown(fx.server, on_shut, &fx);
    settle();
    say(REQ("GET", "/2", ""));
    EXPECT(OK_HEAD "content-length: 2\r\nconnection: close\r\n\r\n/2");
    const char *text = REQ("GET", "/3", "");
    CHECK_INT(send(fresh, text, strlen(text), 0), ==, strlen(text));
    settle();
    char got[512];
    ssize_t n = recv(fresh, got, sizeof got - 1, 0);
    CHECK(n > 0);
    got[n > 0 ? n : 0] = 0;
    CHECK(strstr(got, "connection: close") && strstr(got, "/3"));
    RUN_UNTIL(shut == 1, 3000);
    close(fresh);
    fx_stop();
}

/* A client that asked a moment ago is given longer than one that was quiet for long. */
TA_TEST(shutdown_waits_longer_for_lively_clients)
{
    static const uint32_t late = H1_PARTING_MS * 2;
    shut = 0;
    fx_start(handle_path);
    fx_serve();
    say(REQ("GET", "/1", ""));
    EXPECT(OK("2", "/1"));
    uint64_t begun = now_ms();
    ta_http_server_shutdown(fx.server, on_shut, &fx);
    RUN_UNTIL(now_ms() - begun >= late, 3000);
    CHECK(!fx.got_eof);
    say(REQ("GET", "/2", ""));
    EXPECT(OK_HEAD "content-length: 2\r\nconnection: close\r\n\r\n/2");
    RUN_UNTIL(shut == 1, 3000);
    fx_stop();
}

static int other; /* the client whose request takes long */

static void dawdle(ta_req *req)
{
    if (ta_str_eq(req->path, TA_STR("/dawdle")))
        usleep(20 * 1000);
    handle_path(req);
}

/* What has come before a connection's time was over is served, even if the loop was busy then. */
TA_TEST(requests_that_came_in_time_are_served)
{
    fx_start(dawdle);
    fx.limits.timeout_idle_ms = 100;
    fx_serve();
    other = fx_connect();
    say(REQ("GET", "/1", ""));
    EXPECT(OK("2", "/1"));
    usleep(150 * 1000);
    const char *text = REQ("GET", "/dawdle", "");
    CHECK_INT(send(other, text, strlen(text), MSG_NOSIGNAL), ==, strlen(text));
    text = REQ("GET", "/2", "");
    fx_send(text, strlen(text));
    settle();
    EXPECT(OK("2", "/2"));
    close(other);
    fx_stop();
}

TA_TEST(shutdown_without_connections)
{
    shut = 0;
    fx_start(handle_path);
    fx_serve();
    close(fx.client);
    fx.client = -1;
    for (int i = 0; i < 3; i++)
        turn(1);
    ta_http_server_shutdown(fx.server, on_shut, &fx);
    CHECK_INT(shut, ==, 0);
    turn(1);
    CHECK_INT(shut, ==, 1);
    fx_stop();
}

static void handle_slow_path(ta_req *req)
{
    if (!ta_str_eq(req->path, TA_STR("/slow")))
        handle_path(req);
}

TA_TEST(shutdown_waits_for_requests)
{
    shut = 0;
    fx_start(handle_slow_path);
    fx_serve();
    say(REQ("GET", "/slow", "") REQ("GET", "/behind", ""));
    ta_http_server_shutdown(fx.server, on_shut, &fx);
    settle();
    CHECK_INT(shut, ==, 0);
    answer(fx.req, "s");
    settle();
    EXPECT(OK_HEAD "content-length: 1\r\nconnection: close\r\n\r\ns");
    RUN_UNTIL(shut == 1, 3000);
    CHECK(fx.got_eof);
    fx_stop();
}

/* A head that has begun to arrive is served. */
TA_TEST(shutdown_serves_begun_heads)
{
    shut = 0;
    fx_start(handle_path);
    fx_serve();
    say("GET /late HT");
    ta_http_server_shutdown(fx.server, on_shut, &fx);
    settle();
    CHECK_INT(shut, ==, 0);
    say("TP/1.1\r\nHost: a\r\n\r\n");
    EXPECT(OK_HEAD "content-length: 5\r\nconnection: close\r\n\r\n/late");
    RUN_UNTIL(shut == 1, 3000);
    fx_stop();
}

/* The server may go in on_done. */
static void free_in_done(void *arg)
{
    shut++;
    ta_http_server_free(fx.server);
    fx.server = NULL;
}

TA_TEST(shutdown_and_free)
{
    shut = 0;
    fx_start(handle_path);
    fx_serve();
    say(REQ("GET", "/1", ""));
    ta_http_server_shutdown(fx.server, free_in_done, &fx);
    RUN_UNTIL(shut == 1, 1000);
    fx_stop();
}

/* Freed with requests open, on live connections and on gone ones: each gets its on_close. */
TA_TEST(freed_while_serving)
{
    fx_start(handle_never);
    fx.quiet = true;
    fx_serve();
    int gone = fx_connect();
    const char *text = REQ("GET", "/", "");
    CHECK_INT(send(gone, text, strlen(text), 0), ==, strlen(text));
    turn(5);
    close(gone);
    say(text);
    CHECK_INT(fx_requests(), ==, 2);
    ta_http_server_free(fx.server);
    CHECK_INT(fx.closes, ==, 2);
    fx.server = NULL;
    fx_stop();
}

/* -- memory ----------------------------------------------------------------------------------- */

static void echo_or_stream(ta_req *req)
{
    if (!req->body_eof)
        return;
    if (req->body.len > 100) {
        ta_resp_start(req, head_of(200, ""));
        ta_resp_data(req, ta_buf_str(&req->body));
        ta_resp_end(req);
    } else {
        ta_resp_send(req, head_of(200, ""), ta_buf_str(&req->body));
    }
}

static void scenario(void)
{
    fx_start(echo_or_stream);
    fx.on_body = echo_or_stream;
    fx.quiet = true;
    fx.loop = ta_loop_new(TA_BACKEND_AUTO);
    ta_http_cfg cfg = {.limits = &fx.limits, .ops = &fx_ops, .ctx = &fx};
    fx.server = fx.loop ? ta_http_server_new(fx.loop, &cfg) : NULL;
    fx.client = -1;
    int pair[2];
    if (fx.server && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0) {
        fx.client = pair[1];
        if (ta_http_server_accept(fx.server, pair[0], NULL, 0, NULL) == TA_OK) {
            static const char *const parts[] = {
                REQ("GET", "/%41", ""),
                REQ("POST", "/", "Content-Length: 4\r\n") "ab",
                "cd" REQ("POST", "/", "Transfer-Encoding: chunked\r\n") "4\r\nab",
                "cd\r\n0\r\n\r\n",
                REQ("POST", "/", "Content-Length: 5000\r\n"),
            };
            char big[5000];
            memset(big, 'z', sizeof big);
            ta_ready ready[4];
            unsigned served;
            for (size_t i = 0; i < TA_COUNTOF(parts); i++) {
                (void)!send(fx.client, parts[i], strlen(parts[i]), MSG_NOSIGNAL);
                (void)ta_loop_poll(fx.loop, 0, ready, 4, &served);
            }
            (void)!send(fx.client, big, sizeof big, MSG_NOSIGNAL);
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

TA_TEST(idle_connections_are_small)
{
    ta_failmalloc f = {0};
    fx_start(handle_path);
    fx.quiet = true;
    fx_serve();
    /* the connection itself; its buffers and its request go back to the pools */
    CHECK_INT(sizeof(ta_conn) + 400, <, 2000);
    ta_failmalloc_start(&f);
    int fds[50];
    const char *text = REQ("GET", "/", "");
    for (int i = 0; i < 50; i++) {
        fds[i] = fx_connect();
        CHECK_INT(send(fds[i], text, strlen(text), 0), ==, strlen(text));
        turn(1);
    }
    CHECK_INT(fx.closes, ==, 50);
    CHECK_INT(f.live, <=, 50 + 6); /* one allocation each, and what the pools hold */
    for (int i = 0; i < 50; i++)
        close(fds[i]);
    fx_stop();
    ta_mem_set_hooks(NULL);
}
