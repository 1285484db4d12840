/* ws/conn.c -- see ws/conn.h. */
#include "http/ws/conn.h"

#include <wslay/wslay.h>

#include "base/mem.h"
#include "http/utf8.h"

enum {
    CONTROL_MAX = 125,  /* RFC 6455 5.5 */
    DEFLATE_MIN = 128,  /* shorter messages gain nothing worth the work */
    KEEP_MEMORY = 65536 /* of message buffers, between messages */
};

typedef enum ws_state {
    WS_OPEN,
    WS_CLOSING, /* our close frame is sent, the peer's awaited */
    WS_ENDED    /* ops->close was called */
} ws_state;

typedef enum ws_due { DUE_PING, DUE_LIFE, DUE_CLOSE } ws_due;

struct ta_ws {
    ta_loop *loop;        /* borrowed */
    const ta_ws_ops *ops; /* borrowed */
    void *ctx;            /* borrowed */
    ta_ws_cfg cfg;
    wslay_frame_context_ptr frames; /* owned */
    ta_ws_deflate *deflate;         /* owned; NULL when not agreed on */
    ta_timer timer;
    uint8_t due; /* ws_due: what the timer is for */
    uint8_t state;
    bool heard;              /* the peer sent something since the last ping */
    bool paused;             /* by ta_ws_pause */
    bool out_full;           /* answers to control frames wait for the transport */
    bool reading;            /* what ops->read was told last */
    bool parsing;            /* `parse` is active */
    int wrote;               /* what ops->write said to the frame that is being sent */
    const ta_lender *lender; /* borrowed, the same: of its payload, or NULL */
    uint32_t pings;

    /* bytes that are being parsed */
    const char *in;
    size_t in_left;
    ta_buf rest; /* owned: bytes that came while nothing could be taken */

    /* the frame that is arriving */
    bool in_frame;
    uint8_t opcode;
    bool fin;
    uint64_t frame_left;
    uint8_t control[CONTROL_MAX];
    size_t control_len;

    /* the message that is arriving */
    bool in_message;
    bool text;
    bool packed;
    ta_utf8 utf8;
    ta_buf message;  /* owned: unpacked */
    ta_buf pack_mem; /* owned: what is being sent, packed */
};

static void set_timer(ta_ws *ws, ws_due due, uint32_t ms)
{
    ws->due = (uint8_t)due;
    ta_loop_set_timer(ws->loop, &ws->timer, ms);
}

static void stop_timer(ta_ws *ws)
{
    ta_timer_cancel(ta_loop_timers(ws->loop), &ws->timer);
}

/* Returns whether nothing of the peer's may be read now. */
static bool stopped(const ta_ws *ws)
{
    return ws->paused || ws->out_full;
}

static void update_reading(ta_ws *ws)
{
    bool on = !stopped(ws);
    if (on == ws->reading || ws->state == WS_ENDED)
        return;
    ws->reading = on;
    ws->ops->read(ws->ctx, on);
}

/* -- sending ---------------------------------------------------------------------------------- */

static ssize_t frame_out(const uint8_t *data, size_t len, int flags, void *arg)
{
    ta_ws *ws = arg;
    bool payload = len > sizeof ws->control; /* longer than any head of a frame */
    int rc =
        ws->ops->write(ws->ctx, ta_str_of((const char *)data, len), payload ? ws->lender : NULL);
    if (rc != TA_OK && rc != TA_AGAIN) {
        ws->wrote = rc;
        return -1;
    }
    if (rc == TA_AGAIN)
        ws->wrote = rc;
    return (ssize_t)len;
}

static int send_frame(ta_ws *ws, uint8_t opcode, bool packed, ta_str data, const ta_lender *from)
{
    struct wslay_frame_iocb io = {
        .fin = 1,
        .rsv = packed ? WSLAY_RSV1_BIT : WSLAY_RSV_NONE,
        .opcode = opcode,
        .payload_length = data.len,
        .data = (const uint8_t *)data.ptr,
        .data_length = data.len,
    };
    ws->wrote = TA_OK;
    ws->lender = from;
    ssize_t n = wslay_frame_send(ws->frames, &io);
    if (n < 0 && ws->wrote == TA_OK)
        return TA_ECLOSED;
    return ws->wrote;
}

/* Answers a control frame; a peer that does not read the answers is not read either. */
static void answer(ta_ws *ws, uint8_t opcode, ta_str data)
{
    if (send_frame(ws, opcode, false, data, NULL) == TA_AGAIN) {
        ws->out_full = true;
        update_reading(ws);
    }
}

static void send_close(ta_ws *ws, uint16_t code, ta_str reason)
{
    char payload[CONTROL_MAX];
    if (code == TA_WS_NO_STATUS) {
        (void)send_frame(ws, WSLAY_CONNECTION_CLOSE, false, TA_STR(""), NULL);
        return;
    }
    if (reason.len > TA_WS_REASON_MAX) {
        reason.len = TA_WS_REASON_MAX;
        while (reason.len && ((unsigned char)reason.ptr[reason.len] & 0xc0) == 0x80)
            reason.len--; /* not within a character */
    }
    payload[0] = (char)(code >> 8);
    payload[1] = (char)(code & 0xff);
    if (reason.len)
        memcpy(payload + 2, reason.ptr, reason.len);
    (void)send_frame(ws, WSLAY_CONNECTION_CLOSE, false, ta_str_of(payload, 2 + reason.len), NULL);
}

int ta_ws_send(ta_ws *ws, bool text, ta_str data, const ta_lender *from)
{
    uint8_t opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME;
    if (ws->state != WS_OPEN)
        return TA_ECLOSED;
    if (!ws->deflate || data.len < DEFLATE_MIN)
        return send_frame(ws, opcode, false, data, from);
    ta_buf_clear(&ws->pack_mem);
    int rc = ta_ws_deflate_message(ws->deflate, data, &ws->pack_mem);
    if (rc != TA_OK)
        return rc;
    ta_lender packed = ta_lend_buf(&ws->pack_mem);
    rc = send_frame(ws, opcode, true, ta_buf_str(&ws->pack_mem), &packed);
    if (ws->pack_mem.cap > KEEP_MEMORY)
        ta_buf_free(&ws->pack_mem);
    return rc;
}

/* -- ends ------------------------------------------------------------------------------------- */

/* Nothing more is sent or awaited. */
static void end(ta_ws *ws)
{
    if (ws->state == WS_ENDED)
        return;
    ws->state = WS_ENDED;
    stop_timer(ws);
    ws->ops->close(ws->ctx);
}

static void fail(ta_ws *ws, uint16_t code, const char *text)
{
    ta_str reason = {text, strlen(text)};
    bool was_open = ws->state == WS_OPEN;
    if (was_open)
        send_close(ws, code, reason);
    end(ws);
    if (was_open)
        ws->ops->on_end(ws->ctx, code, reason);
}

static void fail_rc(ta_ws *ws, int rc)
{
    if (rc == TA_ETOOLARGE)
        fail(ws, TA_WS_TOO_LARGE, "message too big");
    else if (rc == TA_EBAD)
        fail(ws, TA_WS_BAD_DATA, "invalid compressed data");
    else
        fail(ws, TA_WS_INTERNAL, "out of memory");
}

void ta_ws_close(ta_ws *ws, uint16_t code, ta_str reason)
{
    if (ws->state != WS_OPEN)
        return;
    send_close(ws, code, reason);
    ws->state = WS_CLOSING;
    if (!ws->cfg.close_timeout_ms) {
        end(ws);
        return;
    }
    set_timer(ws, DUE_CLOSE, ws->cfg.close_timeout_ms);
    ta_ws_pause(ws, false); /* the peer's close frame may be behind messages */
}

void ta_ws_hurry(ta_ws *ws, uint32_t close_timeout_ms)
{
    if (ws->cfg.close_timeout_ms <= close_timeout_ms)
        return;
    ws->cfg.close_timeout_ms = close_timeout_ms;
    if (ws->state == WS_CLOSING)
        set_timer(ws, DUE_CLOSE, close_timeout_ms);
}

static void on_timer(ta_timer *timer)
{
    ta_ws *ws = TA_CONTAINER_OF(timer, ta_ws, timer);
    char payload[4];
    switch ((ws_due)ws->due) {
    case DUE_PING:
        ws->pings++;
        memcpy(payload, &ws->pings, sizeof payload);
        ws->heard = false;
        (void)send_frame(ws, WSLAY_PING, false, ta_str_of(payload, sizeof payload), NULL);
        if (ws->cfg.ping_timeout_ms)
            set_timer(ws, DUE_LIFE, ws->cfg.ping_timeout_ms);
        else
            set_timer(ws, DUE_PING, ws->cfg.ping_interval_ms);
        break;
    case DUE_LIFE:
        /* While we do not read, its pong may be waiting for us. */
        if (ws->heard || stopped(ws))
            set_timer(ws, DUE_PING, ws->cfg.ping_interval_ms);
        else
            fail(ws, TA_WS_INTERNAL, "keepalive ping timeout");
        break;
    case DUE_CLOSE:
        end(ws);
        break;
    }
}

/* -- receiving -------------------------------------------------------------------------------- */

bool ta_ws_code_ok(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static bool whole_utf8(ta_str text)
{
    ta_utf8 state = {0};
    return ta_utf8_feed(&state, text) && !state.need;
}

static void close_received(ta_ws *ws)
{
    ta_str payload = {(const char *)ws->control, ws->control_len};
    uint16_t code = TA_WS_NO_STATUS;
    ta_str reason = {NULL, 0};
    if (ws->state != WS_OPEN) {
        end(ws);
        return;
    }
    if (payload.len) {
        if (payload.len > 1)
            code = (uint16_t)(ws->control[0] << 8 | ws->control[1]);
        if (!ta_ws_code_ok(code)) {
            fail(ws, TA_WS_PROTOCOL, "invalid close code");
            return;
        }
        reason = ta_str_skip(payload, 2);
        if (!whole_utf8(reason)) {
            fail(ws, TA_WS_BAD_DATA, "invalid UTF-8 in close reason");
            return;
        }
    }
    send_close(ws, code, ta_str_of(NULL, 0));
    end(ws);
    ws->ops->on_end(ws->ctx, code, reason);
}

static void control_received(ta_ws *ws)
{
    if (ws->opcode == WSLAY_CONNECTION_CLOSE)
        close_received(ws);
    else if (ws->opcode == WSLAY_PING && ws->state == WS_OPEN)
        answer(ws, WSLAY_PONG, ta_str_of((const char *)ws->control, ws->control_len));
}

static void message_received(ta_ws *ws, ta_str data)
{
    ws->in_message = false;
    ws->ops->on_message(ws->ctx, ws->text, data);
    if (ws->message.cap > KEEP_MEMORY)
        ta_buf_free(&ws->message);
    else
        ta_buf_clear(&ws->message);
}

/* The header of a frame is here.  False: it failed. */
static bool begin_frame(ta_ws *ws, const struct wslay_frame_iocb *io)
{
    const char *wrong = NULL;
    bool packed = ws->deflate && io->rsv == WSLAY_RSV1_BIT;
    bool data = io->opcode == WSLAY_TEXT_FRAME || io->opcode == WSLAY_BINARY_FRAME;
    if (io->rsv && !(packed && data))
        wrong = "reserved bits set";
    else if (!io->mask)
        wrong = "unmasked frame";
    else if (data && ws->in_message)
        wrong = "expected a continuation frame";
    else if (io->opcode == WSLAY_CONTINUATION_FRAME && !ws->in_message)
        wrong = "unexpected continuation frame";
    else if (io->opcode > WSLAY_PONG || (io->opcode > WSLAY_BINARY_FRAME && io->opcode < 8))
        wrong = "unknown opcode";
    if (wrong) {
        fail(ws, TA_WS_PROTOCOL, wrong);
        return false;
    }
    ws->in_frame = true;
    ws->opcode = io->opcode;
    ws->fin = io->fin;
    ws->frame_left = io->payload_length;
    ws->control_len = 0;
    if (data) {
        ws->in_message = true;
        ws->text = io->opcode == WSLAY_TEXT_FRAME;
        ws->packed = packed;
        memset(&ws->utf8, 0, sizeof ws->utf8);
    }
    if (!wslay_is_ctrl_frame(io->opcode) && !ws->packed && ws->cfg.max_size &&
        ws->state == WS_OPEN && io->payload_length > ws->cfg.max_size - ws->message.len) {
        fail_rc(ws, TA_ETOOLARGE);
        return false;
    }
    return true;
}

/* A piece of a message's frame; `last`: of the message. */
static void data_piece(ta_ws *ws, ta_str piece, bool whole, bool last)
{
    ta_str fresh = piece;
    if (ws->state != WS_OPEN) { /* what comes after our close frame is dropped */
        ws->in_message &= !last;
        return;
    }
    if (ws->packed) {
        size_t before = ws->message.len;
        int rc = ta_ws_inflate_piece(ws->deflate, piece, last, ws->cfg.max_size, &ws->message);
        if (rc != TA_OK) {
            fail_rc(ws, rc);
            return;
        }
        fresh = ta_str_skip(ta_buf_str(&ws->message), before);
    }
    if (ws->text && (!ta_utf8_feed(&ws->utf8, fresh) || (last && ws->utf8.need))) {
        fail(ws, TA_WS_BAD_DATA, "invalid UTF-8");
        return;
    }
    if (whole && !ws->packed) {
        message_received(ws, piece);
        return;
    }
    if (!ws->packed && ta_buf_append_str(&ws->message, piece) != TA_OK) {
        fail_rc(ws, TA_ENOMEM);
        return;
    }
    if (last)
        message_received(ws, ta_buf_str(&ws->message));
}

static void frame_piece(ta_ws *ws, const struct wslay_frame_iocb *io)
{
    ta_str piece = {(const char *)io->data, io->data_length};
    bool begins = !ws->in_frame;
    if (begins && !begin_frame(ws, io))
        return;
    ws->frame_left -= piece.len;
    bool ends = ws->frame_left == 0;
    ws->in_frame = !ends;
    if (wslay_is_ctrl_frame(ws->opcode)) {
        if (piece.len)
            memcpy(ws->control + ws->control_len, piece.ptr, piece.len); /* wslay: 125 at most */
        ws->control_len += piece.len;
        if (ends)
            control_received(ws);
    } else {
        bool last = ends && ws->fin;
        data_piece(ws, piece, begins && last && ws->opcode != WSLAY_CONTINUATION_FRAME, last);
    }
}

static ssize_t frame_in(uint8_t *buf, size_t len, int flags, void *arg)
{
    ta_ws *ws = arg;
    size_t n = TA_MIN(len, ws->in_left);
    if (!n)
        return -1;
    memcpy(buf, ws->in, n);
    ws->in += n;
    ws->in_left -= n;
    return (ssize_t)n;
}

/* Parses until the bytes are used up, or must wait; returns how many were taken. */
static size_t parse(ta_ws *ws, const char *data, size_t len)
{
    ws->parsing = true;
    ws->in = data;
    ws->in_left = len;
    while (ws->state != WS_ENDED && !stopped(ws)) {
        struct wslay_frame_iocb io;
        memset(&io, 0, sizeof io);
        ssize_t n = wslay_frame_recv(ws->frames, &io);
        if (n >= 0)
            frame_piece(ws, &io);
        else if (n == WSLAY_ERR_WANT_READ)
            break;
        else
            fail(ws, TA_WS_PROTOCOL, "invalid frame");
    }
    ws->parsing = false;
    update_reading(ws); /* a pause may have come and gone */
    return len - ws->in_left;
}

/* Resumes after a stop with what arrived meanwhile (wslay may hold some, too). */
static void go_on(ta_ws *ws)
{
    if (ws->parsing || stopped(ws))
        return;
    do {
        ta_str rest = ta_buf_str(&ws->rest);
        ta_buf_consume(&ws->rest, parse(ws, rest.ptr, rest.len));
    } while (ws->rest.len && !stopped(ws) && ws->state != WS_ENDED);
    if (!ws->rest.len || ws->state == WS_ENDED)
        ta_buf_free(&ws->rest);
}

void ta_ws_input(ta_ws *ws, const char *data, size_t len)
{
    if (!data) {
        bool was_open = ws->state == WS_OPEN;
        end(ws);
        if (was_open)
            ws->ops->on_end(ws->ctx, TA_WS_ABNORMAL, TA_STR(""));
        return;
    }
    if (ws->state == WS_ENDED)
        return;
    ws->heard = true;
    if (!ws->rest.len && !ws->parsing && !stopped(ws)) {
        size_t used = parse(ws, data, len);
        data += used;
        len -= used;
    }
    if (len && ws->state != WS_ENDED && ta_buf_append(&ws->rest, data, len) != TA_OK)
        fail_rc(ws, TA_ENOMEM);
}

void ta_ws_pause(ta_ws *ws, bool paused)
{
    if (ws->state != WS_OPEN)
        paused = false;
    if (ws->paused == paused)
        return;
    ws->paused = paused;
    if (paused)
        update_reading(ws);
    else
        go_on(ws);
}

void ta_ws_drained(ta_ws *ws)
{
    if (!ws->out_full)
        return;
    ws->out_full = false;
    go_on(ws);
}

/* -- life ------------------------------------------------------------------------------------- */

ta_ws *ta_ws_new(ta_loop *loop, const ta_ws_cfg *cfg, const ta_ws_ops *ops, void *ctx)
{
    static const struct wslay_frame_callbacks callbacks = {frame_out, frame_in, NULL};
    ta_ws *ws = ta_calloc(1, sizeof *ws);
    if (!ws)
        return NULL;
    ws->loop = loop;
    ws->cfg = *cfg;
    ws->ops = ops;
    ws->ctx = ctx;
    ws->reading = true;
    ws->timer.on_expire = on_timer;
    if (cfg->deflate.on && !(ws->deflate = ta_ws_deflate_new(&cfg->deflate)))
        goto fail;
    if (wslay_frame_context_init(&ws->frames, &callbacks, ws) != 0)
        goto fail;
    if (cfg->ping_interval_ms)
        set_timer(ws, DUE_PING, cfg->ping_interval_ms);
    return ws;
fail:
    ta_ws_deflate_free(ws->deflate);
    ta_free(ws);
    return NULL;
}

void ta_ws_free(ta_ws *ws)
{
    if (!ws)
        return;
    stop_timer(ws);
    wslay_frame_context_free(ws->frames);
    ta_ws_deflate_free(ws->deflate);
    ta_buf_free(&ws->rest);
    ta_buf_free(&ws->message);
    ta_buf_free(&ws->pack_mem);
    ta_free(ws);
}
