/*
 * fuzz_h2_conn.c -- a whole server on a socketpair and a client of HTTP/2 that sends what the input
 * says, with handlers that answer in different ways; nothing may crash, leak, hang, or be told
 * twice.
 *
 * Input: one byte (what is done at the end), then records that become frames behind the preface:
 * type, flags, stream, length (two bytes), payload.  The types from 0xf0 on send their payload
 * without a frame's head.
 */
#include "fuzz.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/h2/conn.h"
#include "http/headers.h"
#include "http/server.h"

enum { OPEN_MAX = 256 };

static ta_req *open_reqs[OPEN_MAX];
static unsigned nopen, nseen;

static unsigned *kind_of(ta_req *req)
{
    return (unsigned *)&req->user;
}

static unsigned place_of(const ta_req *req)
{
    for (unsigned i = 0; i < nopen; i++) {
        if (open_reqs[i] == req)
            return i;
    }
    REQUIRE(!"a request that was never told of, or is over");
    return 0;
}

static void check_slices(const ta_req *req)
{
    REQUIRE(req->version == TA_HTTP_2);
    for (uint32_t i = 0; i < req->nheaders; i++) {
        REQUIRE(req->headers[i].name.len && req->headers[i].name.ptr[0] != ':');
        REQUIRE(ta_is_field_value(req->headers[i].value));
    }
}

static void respond(ta_req *req)
{
    static const char large[100000];
    static const ta_field field = TA_FIELD_FIRST("x-sum", "1");
    ta_response_head bare = ta_head_bare(200), interim = ta_head_bare(103);
    ta_response_head trailers = {
        .fields = &field, .nfields = 1, .text = TA_STR("x-sum: 1\r\n"), .length = -1};
    unsigned *kind = kind_of(req);
    switch (*kind) {
    case 1:
        ta_resp_informational(req, &interim);
        ta_resp_start(req, &bare);
        ta_resp_data(req, ta_buf_str(&req->body));
        ta_resp_end_with(req, &trailers);
        break;
    case 2:
        ta_resp_start(req, &bare);
        ta_resp_data(req, TA_STR("some"));
        ta_resp_abort(req);
        break;
    case 3:
        ta_resp_send(req, &bare, ta_str_of(large, sizeof large));
        break;
    default:
        if (!req->upgrade || ta_resp_upgrade(req, &bare) != TA_OK)
            ta_resp_send(req, &bare, ta_buf_str(&req->body));
    }
    *kind = 0;
}

static void on_request(void *ctx, ta_req *req)
{
    REQUIRE(nopen < OPEN_MAX);
    open_reqs[nopen++] = req;
    *kind_of(req) = 1 + nseen++ % 6;
    check_slices(req);
    unsigned kind = *kind_of(req);
    if (kind == 5) /* answered at the end */
        ta_req_want_body(req, 5);
    else if (kind == 6 && !req->body_eof) /* when its body is here */
        ta_req_want_body(req, SIZE_MAX);
    else
        respond(req);
}

static void on_body(ta_req *req)
{
    (void)place_of(req);
    check_slices(req);
    unsigned kind = *kind_of(req);
    if (kind == 6 && req->body_eof)
        respond(req);
    else if (kind == 5 && req->body.len)
        ta_req_consume(req, (req->body.len + 1) / 2);
}

static void on_disconnect(ta_req *req)
{
    (void)place_of(req);
    check_slices(req);
    if (*kind_of(req))
        respond(req);
}

static void on_drain(ta_req *req)
{
    (void)place_of(req);
}

static void on_close(ta_req *req)
{
    unsigned place = place_of(req);
    open_reqs[place] = open_reqs[--nopen];
}

static void on_raw(ta_req *req, const char *data, size_t len)
{
    (void)place_of(req);
    if (!data || (len && data[0] == 'Q'))
        ta_raw_close(req);
    else
        ta_raw_write(req, ta_str_of(data, len));
}

static const ta_http_ops ops = {
    .on_request = on_request,
    .on_body = on_body,
    .on_drain = on_drain,
    .on_disconnect = on_disconnect,
    .on_close = on_close,
    .on_raw = on_raw,
};

static void turn(ta_loop *loop, int fd)
{
    char trash[65536];
    ta_ready ready[2];
    unsigned served;
    REQUIRE(ta_loop_poll(loop, 0, ready, 2, &served) == 0);
    while (recv(fd, trash, sizeof trash, 0) > 0) {
    }
}

/* Returns how much of the input it was. */
static size_t send_record(int fd, const uint8_t *data, size_t size)
{
    enum { RECORD = 5 };
    if (size < RECORD)
        return size;
    size_t len = (size_t)(data[3] << 8 | data[4]);
    if (len > size - RECORD)
        len = size - RECORD;
    uint8_t head[9] = {0, (uint8_t)(len >> 8), (uint8_t)len, data[0], data[1], 0, 0, 0, data[2]};
    if (data[0] < 0xf0)
        (void)!send(fd, head, sizeof head, MSG_NOSIGNAL);
    (void)!send(fd, data + RECORD, len, MSG_NOSIGNAL);
    return RECORD + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = TA_H2_PREFACE "\0\0\0\4\0\0\0\0\0"; /* with empty SETTINGS */
    int pair[2];
    if (size < 1 || size > 20000)
        return 0;
    ta_http_limits limits;
    ta_http_limits_default(&limits);
    limits.body_bytes = 10000;
    limits.body_buffer = 64;
    limits.h2_streams = 20;
    ta_loop *loop = ta_loop_new(TA_BACKEND_POLL);
    REQUIRE(loop);
    nopen = nseen = 0;
    ta_http_cfg cfg = {.limits = &limits, .ops = &ops, .server_name = TA_STR("x"), .http2 = true};
    ta_http_server *server = ta_http_server_new(loop, &cfg);
    REQUIRE(server);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    REQUIRE(ta_http_server_accept(server, pair[0], NULL, 0, NULL) == TA_OK);
    (void)!send(pair[1], preface, sizeof preface - 1, MSG_NOSIGNAL);
    for (size_t at = 1; at < size;) {
        at += send_record(pair[1], data + at, size - at);
        turn(loop, pair[1]);
    }
    if (data[0] & 1)
        shutdown(pair[1], SHUT_WR);
    if (data[0] & 2)
        ta_http_server_shutdown(server, NULL, NULL);
    for (unsigned i = 0; i < nopen && data[0] & 4; i++) {
        if (*kind_of(open_reqs[i]))
            respond(open_reqs[i]);
    }
    for (int i = 0; i < 4; i++)
        turn(loop, pair[1]);
    close(pair[1]);
    ta_http_server_free(server);
    REQUIRE(!nopen);
    ta_loop_free(loop);
    return 0;
}
