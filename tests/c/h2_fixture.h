/*
 * h2_fixture.h -- the fixture of HTTP/1 with a client that speaks HTTP/2: nghttp2's own.
 *
 * What the client is told is noted in h2.log, one word a frame: "head(1 200) data(1 hello) end(1)
 * reset(3 8) goaway(1 11)".  Frames that no client would send are written with h2_frame.
 */
#ifndef H2_FIXTURE_H
#define H2_FIXTURE_H

#include <nghttp2/nghttp2.h>

#include "h1_fixture.h"
#include "http/h2/conn.h"

typedef struct h2_client {
    nghttp2_session *session;
    bool noting;    /* header fields that are not :status */
    bool stingy;    /* gives no window back */
    uint64_t taken; /* bytes of DATA */
    char log[8192];
} h2_client;

static h2_client h2;

static void h2_note(const char *fmt, ...) TA_PRINTF(1, 2);
static void h2_note(const char *fmt, ...)
{
    size_t at = strlen(h2.log);
    va_list args;
    va_start(args, fmt);
    if (at && at + 1 < sizeof h2.log)
        h2.log[at++] = ' ';
    vsnprintf(h2.log + at, sizeof h2.log - at, fmt, args);
    va_end(args);
}

/* -- what arrives ----------------------------------------------------------------------------- */

static int h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                        size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                        void *user)
{
    if (name_len == 7 && memcmp(name, ":status", 7) == 0)
        h2_note("head(%d %.*s)", frame->hd.stream_id, (int)value_len, value);
    else if (h2.noting && !(name_len == 4 && memcmp(name, "date", 4) == 0))
        h2_note("%.*s=%.*s", (int)name_len, name, (int)value_len, value);
    return 0;
}

static int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                      size_t len, void *user)
{
    h2.taken += len;
    if (len <= 64)
        h2_note("data(%d %.*s)", id, (int)len, data);
    if (!h2.stingy)
        nghttp2_session_consume(session, id, len);
    return 0;
}

static int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    switch (frame->hd.type) {
    case NGHTTP2_DATA:
    case NGHTTP2_HEADERS:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            h2_note("end(%d)", frame->hd.stream_id);
        break;
    case NGHTTP2_RST_STREAM:
        h2_note("reset(%d %u)", frame->hd.stream_id, frame->rst_stream.error_code);
        break;
    case NGHTTP2_GOAWAY:
        h2_note("goaway(%d %u)", frame->goaway.last_stream_id, frame->goaway.error_code);
        break;
    case NGHTTP2_PING:
        h2_note("ping");
        break;
    default:
        break;
    }
    return 0;
}

/* -- turns ------------------------------------------------------------------------------------ */

/* Sends what the client has to say, lets the server run, and hears it. */
static void h2_turn(void)
{
    for (int i = 0; i < 3; i++) {
        const uint8_t *data;
        ssize_t n;
        while ((n = nghttp2_session_mem_send(h2.session, &data)) > 0)
            (void)send(fx.client, data, (size_t)n, MSG_NOSIGNAL);
        turn(1);
        fx_read();
        if (fx.got_len)
            (void)nghttp2_session_mem_recv(h2.session, (const uint8_t *)fx.got, fx.got_len);
        fx.got_len = 0;
    }
}

static void h2_connect(const nghttp2_settings_entry *settings, size_t n)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    memset(&h2, 0, sizeof h2);
    CHECK_INT(nghttp2_session_callbacks_new(&callbacks), ==, 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, h2_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, h2_on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, h2_on_frame);
    CHECK_INT(nghttp2_option_new(&option), ==, 0);
    nghttp2_option_set_no_auto_window_update(option, 1);
    CHECK_INT(nghttp2_session_client_new2(&h2.session, callbacks, NULL, option), ==, 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    CHECK_INT(nghttp2_submit_settings(h2.session, NGHTTP2_FLAG_NONE, settings, n), ==, 0);
    h2_turn();
}

static void h2_start(void (*on_request)(ta_req *req))
{
    fx_start(on_request);
    fx.http2 = true;
}

/* Limits may have been changed in fx.limits by then. */
static void h2_serve(void)
{
    fx_serve();
    h2_connect(NULL, 0);
}

static void h2_stop(void)
{
    nghttp2_session_del(h2.session);
    fx_stop();
}

/* -- requests --------------------------------------------------------------------------------- */

#define H2_FIELD(name, value)                                                                      \
    {(uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1,                   \
     NGHTTP2_NV_FLAG_NONE}

static ssize_t h2_read_text(nghttp2_session *session, int32_t id, uint8_t *buf, size_t length,
                            uint32_t *flags, nghttp2_data_source *source, void *user)
{
    const char *text = source->ptr;
    size_t n = strlen(text);
    CHECK_INT(n, <=, length);
    memcpy(buf, text, n);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* Opens a stream: all of it with a body of text, or without one.  `more`: two fields at most. */
static int32_t h2_request(const char *method, const char *path, const char *body,
                          const nghttp2_nv *more)
{
    nghttp2_nv fields[6] = {
        {(uint8_t *)":method", (uint8_t *)method, 7, strlen(method), NGHTTP2_NV_FLAG_NONE},
        H2_FIELD(":scheme", "http"),
        H2_FIELD(":authority", "a"),
        {(uint8_t *)":path", (uint8_t *)path, 5, strlen(path), NGHTTP2_NV_FLAG_NONE},
    };
    size_t n = 4;
    for (; more && more->name && n < TA_COUNTOF(fields); more++)
        fields[n++] = *more;
    nghttp2_data_provider source = {.source.ptr = (void *)body, .read_callback = h2_read_text};
    int32_t id = nghttp2_submit_request(h2.session, NULL, fields, n, body ? &source : NULL, NULL);
    CHECK_INT(id, >, 0);
    return id;
}

static int32_t h2_get(const char *path)
{
    return h2_request("GET", path, NULL, NULL);
}

/* Bytes of a frame, past the client. */
TA_UNUSED static void h2_frame(uint8_t type, uint8_t flags, uint32_t id, const void *payload,
                               size_t len)
{
    uint8_t head[9] = {
        (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,       type,       flags,
        (uint8_t)(id >> 24),  (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    (void)send(fx.client, head, sizeof head, MSG_NOSIGNAL);
    if (len)
        (void)send(fx.client, payload, len, MSG_NOSIGNAL);
}

#define H2_LOG(text)                                                                               \
    do {                                                                                           \
        CHECK_STR(ta_str_of(h2.log, strlen(h2.log)), text);                                        \
        h2.log[0] = 0;                                                                             \
    } while (0)

#define H2_UNTIL(cond, ms)                                                                         \
    do {                                                                                           \
        uint64_t until_ = now_ms() + (ms);                                                         \
        while (!(cond) && now_ms() < until_)                                                       \
            h2_turn();                                                                             \
        ta_test_checks++;                                                                          \
        if (!(cond))                                                                               \
            FAIL("not within %d ms: %s (log: %s; client: %s)", (int)(ms), #cond, fx.log, h2.log);  \
    } while (0)

#endif
