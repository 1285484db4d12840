/*
 * h1_fixture.h -- a ta_http_server over a socketpair, with the test as its client.
 *
 * One thread: the test writes to its end, lets the loop turn, and reads.  What the server is told
 * is noted in fx.log, one word an upcall: "request(GET /x) body(3) eof disconnect drain raw(2)
 * close".
 */
#ifndef H1_FIXTURE_H
#define H1_FIXTURE_H

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <time.h>

#include "head_fixture.h"
#include "http/headers.h"
#include "http/server.h"
#include "net/conn.h"
#include "net/loop.h"
#include "ta_test.h"

#define REQ(method, path, more) method " " path " HTTP/1.1\r\nHost: a\r\n" more "\r\n"

typedef struct fixture {
    ta_loop *loop;
    ta_http_server *server;
    ta_http_limits limits;
    ta_log log_sink;
    int client;  /* our end of the first connection */
    ta_req *req; /* the one that is open, or NULL */
    void (*on_request)(ta_req *req);
    void (*on_body)(ta_req *req);
    void (*on_drain)(ta_req *req);
    void (*on_disconnect)(ta_req *req);
    void (*on_raw)(ta_req *req, const char *data, size_t len);
    char log[4096];   /* upcalls */
    char lines[2048]; /* of the server's log */
    size_t got_len;
    char got[1 << 18]; /* what the client read */
    bool got_eof;      /* the client saw the end */
    bool got_reset;
    bool quiet; /* no notes */
    bool http2; /* clients may speak it */
    unsigned closes;
} fixture;

static fixture fx;

static void note(const char *fmt, ...) TA_PRINTF(1, 2);
static void note(const char *fmt, ...)
{
    if (fx.quiet)
        return;
    size_t at = strlen(fx.log);
    va_list args;
    va_start(args, fmt);
    if (at)
        fx.log[at++] = ' ';
    vsnprintf(fx.log + at, sizeof fx.log - at, fmt, args);
    va_end(args);
}

/* -- the server's side ------------------------------------------------------------------------ */

static void up_request(void *ctx, ta_req *req)
{
    CHECK(ctx == &fx);
    CHECK(fx.req == NULL || fx.quiet);
    fx.req = req;
    note("request(%.*s %.*s)", (int)req->method.len, req->method.ptr, (int)req->path.len,
         req->path.ptr);
    if (req->body.len)
        note("with(%zu)", req->body.len);
    if (req->body_eof && req->content_length > 0)
        note("eof");
    if (fx.on_request)
        fx.on_request(req);
}

static void up_body(ta_req *req)
{
    CHECK(req == fx.req || fx.quiet);
    note("body(%zu)", req->body.len);
    if (req->body_eof)
        note("eof");
    if (fx.on_body)
        fx.on_body(req);
}

static void up_drain(ta_req *req)
{
    note("drain");
    if (fx.on_drain)
        fx.on_drain(req);
}

static void up_disconnect(ta_req *req)
{
    CHECK(req->disconnected);
    note("disconnect");
    if (fx.on_disconnect)
        fx.on_disconnect(req);
}

static void up_close(ta_req *req)
{
    CHECK(req == fx.req || fx.quiet);
    note("close");
    fx.closes++;
    fx.req = NULL;
}

static void up_raw(ta_req *req, const char *data, size_t len)
{
    if (data)
        note("raw(%.*s)", (int)len, data);
    else
        note("raw-end");
    if (fx.on_raw)
        fx.on_raw(req, data, len);
}

static const ta_http_ops fx_ops = {
    .on_request = up_request,
    .on_body = up_body,
    .on_drain = up_drain,
    .on_disconnect = up_disconnect,
    .on_close = up_close,
    .on_raw = up_raw,
};

static void to_lines(void *ctx, ta_log_level level, ta_str line)
{
    fixture *f = ctx;
    size_t at = strlen(f->lines);
    snprintf(f->lines + at, sizeof f->lines - at, "%.*s\n", (int)line.len, line.ptr);
}

/* A connected pair: the server's end goes to the server, the other is returned, non-blocking. */
static int fx_connect(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        FAIL("socketpair: %s", strerror(errno));
    CHECK_INT(ta_http_server_accept(fx.server, pair[0], NULL, 0, NULL), ==, TA_OK);
    return pair[1];
}

/* Limits may have been changed in fx.limits by then. */
static void fx_serve(void)
{
    fx.loop = ta_loop_new(TA_BACKEND_AUTO);
    CHECK(fx.loop != NULL);
    fx.log_sink = (ta_log){TA_LOG_DEBUG, to_lines, &fx};
    ta_http_cfg cfg = {
        .limits = &fx.limits,
        .ops = &fx_ops,
        .ctx = &fx,
        .log = &fx.log_sink,
        .http2 = fx.http2,
    };
    fx.server = ta_http_server_new(fx.loop, &cfg);
    CHECK(fx.server != NULL);
    fx.client = fx_connect();
}

static void fx_start(void (*on_request)(ta_req *req))
{
    memset(&fx, 0, sizeof fx);
    ta_http_limits_default(&fx.limits);
    fx.on_request = on_request;
}

static void fx_count(ta_req *req, void *arg)
{
    ++*(int *)arg;
}

/* Requests between on_request and on_close. */
static inline int fx_requests(void)
{
    int n = 0;
    ta_http_server_each(fx.server, fx_count, &n);
    return n;
}

static void fx_stop(void)
{
    if (fx.server)
        ta_http_server_free(fx.server);
    if (fx.client >= 0)
        close(fx.client);
    ta_loop_free(fx.loop);
}

/* -- the client's side ------------------------------------------------------------------------ */

static void turn(int ms)
{
    ta_ready ready[4];
    unsigned served;
    CHECK_INT(ta_loop_poll(fx.loop, ms, ready, 4, &served), >=, 0);
}

static void fx_read(void)
{
    for (;;) {
        ssize_t n = recv(fx.client, fx.got + fx.got_len, sizeof fx.got - 1 - fx.got_len, 0);
        if (n > 0) {
            fx.got_len += (size_t)n;
            if (fx.got_len >= sizeof fx.got - 1)
                FAIL("too much was read");
            continue;
        }
        if (n == 0)
            fx.got_eof = true;
        else if (errno == ECONNRESET)
            fx.got_eof = fx.got_reset = true;
        fx.got[fx.got_len] = 0;
        return;
    }
}

/* Lets the loop run till nothing happens for a while. */
static void settle(void)
{
    for (int i = 0; i < 4; i++) {
        turn(1);
        fx_read();
    }
}

TA_UNUSED static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Runs until `cond`, at most `ms`. */
#define RUN_UNTIL(cond, ms)                                                                        \
    do {                                                                                           \
        uint64_t end_ = now_ms() + (ms);                                                           \
        while (!(cond) && now_ms() < end_) {                                                       \
            turn(2);                                                                               \
            fx_read();                                                                             \
        }                                                                                          \
        ta_test_checks++;                                                                          \
        if (!(cond)) {                                                                             \
            ta_test_print_bytes("read", ta_str_of(fx.got, fx.got_len));                            \
            FAIL("not within %d ms: %s (log: %s)", (int)(ms), #cond, fx.log);                      \
        }                                                                                          \
    } while (0)

static void fx_send(const char *data, size_t len)
{
    ssize_t n = send(fx.client, data, len, MSG_NOSIGNAL);
    if (n != (ssize_t)len)
        FAIL("send: %zd of %zu: %s", n, len, strerror(errno));
}

TA_UNUSED static void say(const char *text)
{
    fx_send(text, strlen(text));
    settle();
}

/* Drops "date: ...\r\n" lines, which change. */
TA_UNUSED static char *undated(char *text)
{
    char *p = text;
    while ((p = strstr(p, "date: ")) != NULL) {
        char *end = strstr(p, "\r\n");
        CHECK(end != NULL);
        memmove(p, end + 2, strlen(end + 2) + 1);
    }
    return text;
}

/* What the client got since the last EXPECT, without date lines. */
#define EXPECT(text)                                                                               \
    do {                                                                                           \
        fx_read();                                                                                 \
        undated(fx.got);                                                                           \
        const char *want_ = (text);                                                                \
        if (strcmp(fx.got, want_) != 0) {                                                          \
            ta_test_print_bytes("want", ta_str_of(want_, strlen(want_)));                          \
            ta_test_print_bytes("got", ta_str_of(fx.got, strlen(fx.got)));                         \
            FAIL("unexpected response (log: %s)", fx.log);                                         \
        }                                                                                          \
        ta_test_checks++;                                                                          \
        fx.got_len = 0;                                                                            \
        fx.got[0] = 0;                                                                             \
    } while (0)

#define LOG(text)                                                                                  \
    do {                                                                                           \
        CHECK_STR(ta_str_of(fx.log, strlen(fx.log)), text);                                        \
        fx.log[0] = 0;                                                                             \
    } while (0)

#define LINES(text)                                                                                \
    do {                                                                                           \
        CHECK_STR(ta_str_of(fx.lines, strlen(fx.lines)), text);                                    \
        fx.lines[0] = 0;                                                                           \
    } while (0)

/* -- handlers --------------------------------------------------------------------------------- */

#define OK_HEAD            "HTTP/1.1 200 OK\r\n"
#define OK(body_len, body) OK_HEAD "content-length: " body_len "\r\n\r\n" body
#define ERROR(line, len, text)                                                                     \
    "HTTP/1.1 " line "\r\ncontent-length: " len "\r\ncontent-type: text/plain; charset=utf-8"      \
    "\r\nconnection: close\r\n\r\n" text

static int answer(ta_req *req, const char *text)
{
    return ta_resp_send(req, head_of(200, ""), ta_str_of(text, strlen(text)));
}

/* The path comes back as the body. */
TA_UNUSED static void handle_path(ta_req *req)
{
    ta_resp_send(req, head_of(200, ""), req->path);
}

TA_UNUSED static void handle_never(ta_req *req)
{
}

TA_UNUSED static void echo_when_whole(ta_req *req)
{
    if (req->body_eof)
        ta_resp_send(req, head_of(200, ""), ta_buf_str(&req->body));
}

#endif
