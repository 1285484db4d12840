/*
 * fuzz_ws.c -- a WebSocket: handshake fields, then frames in pieces, with pauses and answers.
 *
 * Input: one byte (bit 0: compression; bit 1: small messages; bit 2: pauses; bits 3 to 7: size of
 * the pieces), then the bytes of the client.  Frames that arrive are sent back; whatever comes, the
 * same bytes in one piece must give the same messages and (but for compressed ones, of which a
 * piece may be too large, no data and no UTF-8 at the same time) the same end.
 */
#include "fuzz.h"

#include "http/utf8.h"
#include "http/ws/conn.h"
#include "http/ws/handshake.h"

typedef struct outcome {
    ta_ws *ws;
    uint64_t hash; /* of all messages and the end */
    unsigned messages, ends, closes;
    uint64_t max_size;
    bool pauses, reading, packed;
} outcome;

static void mix(outcome *o, const void *data, size_t len)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++)
        o->hash = (o->hash ^ p[i]) * UINT64_C(1099511628211);
}

static void on_message(void *ctx, bool text, ta_str data)
{
    outcome *o = ctx;
    ta_utf8 utf8 = {0};
    REQUIRE(!o->ends && !o->closes);
    REQUIRE(!o->max_size || data.len <= o->max_size);
    if (text)
        REQUIRE(ta_utf8_feed(&utf8, data) && !utf8.need);
    o->messages++;
    mix(o, &text, sizeof text);
    mix(o, &data.len, sizeof data.len);
    mix(o, data.ptr, data.len);
    REQUIRE(ta_ws_send(o->ws, text, data, NULL) == TA_OK);
    if (o->pauses && o->messages % 3)
        ta_ws_pause(o->ws, true);
}

static void on_end(void *ctx, uint16_t code, ta_str reason)
{
    outcome *o = ctx;
    o->ends++;
    if (o->packed)
        return;
    mix(o, &code, sizeof code);
    mix(o, reason.ptr, reason.len);
}

static int on_write(void *ctx, ta_str data, const ta_lender *from)
{
    outcome *o = ctx;
    REQUIRE(!o->closes);
    return TA_OK;
}

static void on_read(void *ctx, bool on)
{
    outcome *o = ctx;
    REQUIRE(o->reading != on);
    o->reading = on;
}

static void on_closed(void *ctx)
{
    outcome *o = ctx;
    o->closes++;
}

static const ta_ws_ops ops = {on_message, on_end, on_write, on_read, on_closed};

static void run(ta_loop *loop, uint8_t flags, size_t step, const uint8_t *data, size_t size,
                outcome *o)
{
    ta_ws_cfg cfg = {.max_size = flags & 2 ? 40 : 1 << 20, .close_timeout_ms = 1000};
    cfg.deflate = (ta_ws_deflate_params){
        .on = flags & 1, .server_bits = 9, .client_bits = 9, .client_no_context = flags & 2};
    memset(o, 0, sizeof *o);
    o->max_size = cfg.max_size;
    o->reading = true;
    o->pauses = flags & 4;
    o->packed = flags & 1;
    o->ws = ta_ws_new(loop, &cfg, &ops, o);
    REQUIRE(o->ws);
    for (size_t at = 0; at < size; at += step) {
        size_t n = TA_MIN(step, size - at);
        char *piece = malloc(n);
        memcpy(piece, data + at, n);
        ta_ws_input(o->ws, piece, n);
        free(piece);
    }
    while (!o->reading && !o->closes)
        ta_ws_pause(o->ws, false);
    ta_ws_input(o->ws, NULL, 0);
    REQUIRE(o->ends == 1 && o->closes == 1);
    ta_ws_free(o->ws);
}

/* The bytes as values of the fields that we parse. */
static void handshake(const uint8_t *data, size_t size)
{
    size_t half = size / 2, at = 0;
    ta_header headers[] = {
        {TA_STR("upgrade"), TA_STR("websocket")},
        {TA_STR("sec-websocket-version"), TA_STR("13")},
        {TA_STR("sec-websocket-key"), TA_STR("dGhlIHNhbXBsZSBub25jZQ==")},
        {TA_STR("sec-websocket-extensions"), {(const char *)data, half}},
        {TA_STR("sec-websocket-extensions"), {(const char *)data + half, size - half}},
        {TA_STR("sec-websocket-protocol"), {(const char *)data, size}},
    };
    ta_req req = {.method_id = TA_METHOD_GET,
                  .version = TA_HTTP_1_1,
                  .upgrade = true,
                  .body_eof = true,
                  .content_length = -1,
                  .headers = headers,
                  .nheaders = TA_COUNTOF(headers)};
    ta_ws_handshake hs;
    ta_fields out;
    ta_fields_init(&out);
    ta_str name;
    REQUIRE(ta_ws_handshake_check(&req, true, &hs) == TA_OK);
    if (hs.deflate.on) {
        REQUIRE(hs.deflate.server_bits >= 9 && hs.deflate.server_bits <= 15);
        REQUIRE(hs.deflate.client_bits >= 8 && hs.deflate.client_bits <= 15);
    }
    REQUIRE(ta_ws_handshake_answer(&hs, TA_STR(""), &out) == TA_OK);
    ta_fields_free(&out);
    while (ta_ws_next_protocol(headers, req.nheaders, &at, &name))
        (void)ta_ws_protocol_ok(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    outcome whole, pieces;
    ta_loop *loop = ta_loop_new(TA_BACKEND_POLL);
    REQUIRE(loop);
    uint8_t flags = data[0];
    handshake(data + 1, size - 1);
    run(loop, flags & 3, size, data + 1, size - 1, &whole);
    run(loop, flags, 1 + (flags >> 3), data + 1, size - 1, &pieces);
    REQUIRE(whole.messages == pieces.messages && whole.hash == pieces.hash);
    ta_loop_free(loop);
    return 0;
}
