/*
 * fuzz_h1_conn.c -- a whole server on a socketpair, fed what the input says, with handlers that
 * answer in different ways; nothing may crash, leak, hang, or be told twice.
 *
 * Input: one byte (how large the pieces are), then what the client sends.  The method's first
 * letter chooses how a request is answered.
 */
#include "fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

#include "http/headers.h"
#include "http/server.h"

static ta_req *open_req;
static bool answered;

static void check_slices(const ta_req *req)
{
    size_t sum = req->path.len + req->query.len + req->target.len;
    for (uint32_t i = 0; i < req->nheaders; i++) {
        REQUIRE(ta_is_token(req->headers[i].name));
        REQUIRE(ta_is_field_value(req->headers[i].value));
    }
    REQUIRE(sum < (1 << 20));
}

/* A head that declares so many bytes, one digit. */
static ta_response_head declared(const char *line, int64_t length)
{
    static const ta_field field = TA_FIELD_FIRST("content-length", "9");
    return (ta_response_head){.status = 200,
                              .fields = &field,
                              .nfields = 1,
                              .text = ta_str_of(line, strlen(line)),
                              .length = length};
}

static void respond(ta_req *req)
{
    ta_response_head bare = ta_head_bare(200);
    if (answered)
        return;
    answered = true;
    char kind = req->method.ptr[0];
    if (kind == 'S') {
        ta_resp_start(req, &bare);
        ta_resp_data(req, ta_buf_str(&req->body));
        ta_resp_data(req, TA_STR("tail"));
        ta_resp_end(req);
    } else if (kind == 'A') {
        ta_response_head head = declared("content-length: 9\r\n", 9);
        ta_resp_start(req, &head);
        ta_resp_abort(req);
    } else if (kind == 'L') {
        ta_response_head head = declared("content-length: 3\r\n", 3);
        ta_resp_send(req, &head, TA_STR("abcd"));
    } else if (req->upgrade && ta_resp_upgrade(req, &bare) == TA_OK) {
        ta_raw_write(req, TA_STR("raw"));
    } else {
        ta_resp_send(req, &bare, ta_buf_str(&req->body));
    }
}

static void on_request(void *ctx, ta_req *req)
{
    REQUIRE(!open_req);
    open_req = req;
    answered = false;
    check_slices(req);
    char kind = req->method.ptr[0];
    if (kind == 'W') { /* answered when the client has sent all it will */
        ta_req_want_body(req, 5);
    } else if (kind == 'B') {
        if (req->body_eof)
            respond(req);
        else
            ta_req_want_body(req, SIZE_MAX);
    } else {
        respond(req);
    }
}

static void on_body(ta_req *req)
{
    REQUIRE(req == open_req);
    check_slices(req);
    if (req->method.ptr[0] == 'B' && req->body_eof)
        respond(req);
    else if (req->method.ptr[0] == 'W')
        ta_req_consume(req, 3);
}

static void on_disconnect(ta_req *req)
{
    REQUIRE(req == open_req);
    check_slices(req);
}

static void on_close(ta_req *req)
{
    REQUIRE(req == open_req);
    open_req = NULL;
}

static void on_raw(ta_req *req, const char *data, size_t len)
{
    REQUIRE(req == open_req);
    if (!data || (len && data[0] == 'Q'))
        ta_raw_close(req);
    else
        ta_raw_write(req, ta_str_of(data, len));
}

static const ta_http_ops ops = {
    .on_request = on_request,
    .on_body = on_body,
    .on_disconnect = on_disconnect,
    .on_close = on_close,
    .on_raw = on_raw,
};

static void turn(ta_loop *loop, int fd)
{
    char trash[4096];
    ta_ready ready[2];
    unsigned served;
    REQUIRE(ta_loop_poll(loop, 0, ready, 2, &served) == 0);
    while (recv(fd, trash, sizeof trash, 0) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    if (size < 1 || size > 20000)
        return 0;
    size_t step = (size_t)(data[0] & 0x3f) * 8 + 1;
    ta_http_limits limits;
    ta_http_limits_default(&limits);
    limits.body_bytes = 10000;
    limits.body_buffer = 64;
    limits.pipelined = 2;
    ta_loop *loop = ta_loop_new(TA_BACKEND_POLL);
    REQUIRE(loop);
    ta_http_cfg cfg = {.limits = &limits, .ops = &ops, .server_name = TA_STR("x")};
    ta_http_server *server = ta_http_server_new(loop, &cfg);
    REQUIRE(server);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    REQUIRE(ta_http_server_accept(server, pair[0], NULL, 0, NULL) == TA_OK);

    for (size_t at = 1; at < size;) {
        size_t n = step < size - at ? step : size - at;
        if (send(pair[1], data + at, n, MSG_NOSIGNAL) < 0)
            break;
        at += n;
        turn(loop, pair[1]);
    }
    if (data[0] & 0x40)
        shutdown(pair[1], SHUT_WR);
    for (int i = 0; i < 4; i++)
        turn(loop, pair[1]);
    if (open_req && !(data[0] & 0x80)) {
        respond(open_req);
        for (int i = 0; i < 4; i++)
            turn(loop, pair[1]);
    }
    close(pair[1]);
    ta_http_server_free(server);
    REQUIRE(!open_req);
    ta_loop_free(loop);
    return 0;
}
