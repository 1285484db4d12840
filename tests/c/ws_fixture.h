/*
 * ws_fixture.h -- a ta_ws whose upcalls and output are written to a log, as text:
 *
 *     T text;  B bytes;      a message          <88 1000 bye>   a frame of ours: first byte,
 * payload END code reason;       on_end             read on; read off; close;   told to the
 * transport
 */
#ifndef WS_FIXTURE_H
#define WS_FIXTURE_H

#include "http/ws/conn.h"
#include "ta_test.h"

enum { CONT = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

static ta_ws_cfg fixture_cfg = {.close_timeout_ms = 60000};

static struct {
    ta_loop *loop;
    ta_ws *ws;
    char log[8192];
    size_t log_len;
    /* what the transport and the application do */
    int write_rc;
    unsigned pause_at; /* the n-th message pauses it */
    bool pause_and_resume;
    unsigned messages;
    char *last; /* the last message, in malloc'd memory */
    size_t last_len;
    /* output: a frame that is not complete */
    size_t out_bytes;
    unsigned char head[10];
    size_t head_len;
    uint64_t payload_len;
    char payload[200];
} fixture;

static void log_add(const char *data, size_t len)
{
    CHECK_INT(fixture.log_len + len, <, sizeof fixture.log);
    if (len)
        memcpy(fixture.log + fixture.log_len, data, len);
    fixture.log_len += len;
    fixture.log[fixture.log_len] = 0;
}

static void log_text(const char *text)
{
    log_add(text, strlen(text));
}

TA_UNUSED static const char *fixture_log_text(void)
{
    return fixture.log;
}

static ta_str fixture_log(void)
{
    return ta_str_of(fixture.log, fixture.log_len);
}

static void fixture_message(void *ctx, bool text, ta_str data)
{
    fixture.messages++;
    free(fixture.last);
    fixture.last = malloc(data.len + 1);
    memcpy(fixture.last, data.ptr ? data.ptr : "", data.len);
    fixture.last_len = data.len;
    log_text(text ? "T " : "B ");
    log_add(data.ptr, TA_MIN(data.len, (size_t)200));
    log_text(";");
    if (fixture.messages == fixture.pause_at || fixture.pause_and_resume)
        ta_ws_pause(fixture.ws, true);
    if (fixture.pause_and_resume)
        ta_ws_pause(fixture.ws, false);
}

static void fixture_end(void *ctx, uint16_t code, ta_str reason)
{
    char text[40];
    snprintf(text, sizeof text, "END %u ", code);
    log_text(text);
    log_add(reason.ptr, reason.len);
    log_text(";");
}

/* A whole frame of ours has gone out. */
static void frame_out(uint64_t len)
{
    const unsigned char *p = (const unsigned char *)fixture.payload;
    char text[40];
    snprintf(text, sizeof text, "<%02x ", fixture.head[0]);
    log_text(text);
    if (fixture.head[0] == 0x88 && len >= 2) {
        snprintf(text, sizeof text, "%u%s", p[0] << 8 | p[1], len > 2 ? " " : "");
        log_text(text);
        log_add(fixture.payload + 2, len - 2);
    } else if (fixture.head[0] == 0x89) {
        uint32_t n;
        CHECK_INT(len, ==, sizeof n);
        memcpy(&n, p, sizeof n);
        snprintf(text, sizeof text, "#%u", n);
        log_text(text);
    } else {
        log_add(fixture.payload, TA_MIN(len, sizeof fixture.payload));
    }
    log_text(">");
    fixture.head_len = 0;
    fixture.payload_len = 0;
}

static void byte_out(unsigned char c)
{
    size_t need = 2;
    uint64_t len;
    if (fixture.head_len > 1)
        need = fixture.head[1] < 126 ? 2 : fixture.head[1] == 126 ? 4 : 10;
    if (fixture.head_len < need) {
        fixture.head[fixture.head_len++] = c;
        if (fixture.head_len < 2)
            return;
        need = fixture.head[1] < 126 ? 2 : fixture.head[1] == 126 ? 4 : 10;
        if (fixture.head_len < need)
            return;
        CHECK_INT(fixture.head[1], <, 128); /* a server does not mask */
    } else {
        if (fixture.payload_len < sizeof fixture.payload)
            fixture.payload[fixture.payload_len] = (char)c;
        fixture.payload_len++;
    }
    len = need == 2 ? fixture.head[1] : 0;
    for (size_t i = 2; i < need; i++)
        len = len << 8 | fixture.head[i];
    if (fixture.payload_len == len)
        frame_out(len);
}

static int fixture_write(void *ctx, ta_str data, const ta_lender *from)
{
    if (fixture.write_rc == TA_ECLOSED)
        return TA_ECLOSED;
    fixture.out_bytes += data.len;
    for (size_t i = 0; i < data.len; i++)
        byte_out((unsigned char)data.ptr[i]);
    return fixture.write_rc;
}

static void fixture_read(void *ctx, bool on)
{
    log_text(on ? "read on;" : "read off;");
}

static void fixture_close(void *ctx)
{
    log_text("close;");
}

static bool fixture_try_open(void)
{
    static const ta_ws_ops ops = {fixture_message, fixture_end, fixture_write, fixture_read,
                                  fixture_close};
    free(fixture.last);
    memset(&fixture, 0, sizeof fixture);
    fixture.loop = ta_loop_new(TA_BACKEND_AUTO);
    if (!fixture.loop)
        return false;
    fixture.ws = ta_ws_new(fixture.loop, &fixture_cfg, &ops, &fixture);
    if (!fixture.ws)
        ta_loop_free(fixture.loop);
    return fixture.ws != NULL;
}

static void fixture_open(void)
{
    CHECK(fixture_try_open());
}

static void fixture_shut(void)
{
    ta_ws_free(fixture.ws);
    ta_loop_free(fixture.loop);
    free(fixture.last);
    fixture.last = NULL;
}

/* In memory of its very size, so that the sanitizer sees what is read beyond it. */
static void fixture_input(const char *data, size_t len)
{
    char *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    ta_ws_input(fixture.ws, copy, len);
    free(copy);
}

/* Lets `ms` pass. */
TA_UNUSED static void fixture_wait(unsigned ms)
{
    uint64_t until = ta_loop_refresh(fixture.loop) + ms, now;
    while ((now = ta_loop_refresh(fixture.loop)) < until)
        (void)ta_loop_poll(fixture.loop, (int)(until - now), NULL, 0, NULL);
}

/* Waits until the log has this in it; the test's time limit ends it else. */
TA_UNUSED static void fixture_until(const char *text)
{
    while (!strstr(fixture.log, text))
        (void)ta_loop_poll(fixture.loop, 5, NULL, 0, NULL);
}

/* -- what the client sends -------------------------------------------------------------------- */

typedef struct ws_piece {
    int first; /* first byte of a frame, -1: `data` goes as it is */
    ta_str data;
} ws_piece;

#define FRAME(opcode, text) ((ws_piece){0x80 | (opcode), TA_STR(text)})
#define PART(opcode, text)  ((ws_piece){(opcode), TA_STR(text)}) /* not the last of its message */
#define RAW(bytes)          ((ws_piece){-1, TA_STR(bytes)})

/* A masked frame of at most 125 bytes; returns where it ends. */
static char *put_piece(char *to, const ws_piece *piece)
{
    static const char mask[4] = {0x12, (char)0xf4, 0, 0x77};
    if (piece->first < 0) {
        memcpy(to, piece->data.ptr, piece->data.len);
        return to + piece->data.len;
    }
    *to++ = (char)piece->first;
    *to++ = (char)(0x80 | piece->data.len);
    memcpy(to, mask, 4);
    to += 4;
    for (size_t i = 0; i < piece->data.len; i++)
        *to++ = (char)(piece->data.ptr[i] ^ mask[i & 3]);
    return to;
}

static ta_str put_pieces(const ws_piece *pieces, size_t n)
{
    static char bytes[4096];
    char *end = bytes;
    for (size_t i = 0; i < n; i++)
        end = put_piece(end, &pieces[i]);
    return ta_str_of(bytes, (size_t)(end - bytes));
}

#define PIECES(...)                                                                                \
    (const ws_piece[]){__VA_ARGS__}, sizeof((ws_piece[]){__VA_ARGS__}) / sizeof(ws_piece)

static void fixture_pieces(const ws_piece *pieces, size_t n)
{
    ta_str all = put_pieces(pieces, n);
    fixture_input(all.ptr, all.len);
}

#define INPUT(...) fixture_pieces(PIECES(__VA_ARGS__))

/* The log of these bytes, however they are cut. */
static void check_bytes(ta_str all, const char *want, const char *file, int line)
{
    for (unsigned seed = 0; seed < 25; seed++) {
        unsigned random = seed * 7919 + 1;
        fixture_open();
        for (size_t at = 0; at < all.len;) {
            size_t n = all.len;
            random = random * 1103515245 + 12345;
            if (seed == 1)
                n = 1;
            else if (seed > 1)
                n = 1 + (random >> 16) % 9;
            n = TA_MIN(n, all.len - at);
            fixture_input(all.ptr + at, n);
            at += n;
        }
        snprintf(ta_test_note, sizeof ta_test_note, "%s:%d, split %u", file, line, seed);
        CHECK_STR(fixture_log(), want);
        fixture_shut();
    }
}

static void check_pieces(const char *want, const char *file, int line, const ws_piece *pieces,
                         size_t n)
{
    check_bytes(put_pieces(pieces, n), want, file, line);
}

#define CHECK_WS(want, ...) check_pieces(want, __FILE__, __LINE__, PIECES(__VA_ARGS__))

#endif
