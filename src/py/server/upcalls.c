/*
 * upcalls.c -- what the protocol tells of requests: they begin, go on, are refused and end.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include "base/clock.h"
#include "py/server/recorder.h"
#include "py/server/request_id.h"

/* The status of a request whose client left before there was one, as nginx has it. */
enum { CLIENT_LEFT = 499 };

/* "upgrade: websocket", or HTTP/2's way to say so (RFC 8441). */
static bool wants_websocket(const ta_native_exchange *x)
{
    if (x->base.method_id == TA_METHOD_CONNECT)
        return true; /* CONNECT of another kind does not get here */
    return ta_ws_field_lists(x->base.headers, x->base.nheaders, TA_STR("upgrade"),
                             TA_STR("websocket"));
}

/* The exchange of a request; NULL: there was no memory for one, or it is closed. */
static ta_native_exchange *exchange_of(const ta_req *req)
{
    ta_native_exchange *x = req->user;
    TA_ASSERT(x == NULL || (x->req == req && Py_REFCNT(x) > 0));
    TA_ASSERT(x == NULL || ta_loop_state_is_ours(x->base.ls));
    return x;
}

/* NULL: it can't be taken, which was logged. */
static inline ta_native_exchange *take(ta_server *server, ta_req *req)
{
    TA_ASSERT(req->user == NULL && ta_loop_state_is_ours(server->ls));
    ta_native_exchange *native = ta_native_exchange_new(server, req);
    req->user = native;
    if (TA_UNLIKELY(server->timed))
        req->notes.began = ta_clock_ns();
    ta_stat_add(&server->served, 1);
    if (native == NULL) {
        ta_loop_state_unhandled(server->ls, "A request could not be taken");
        return NULL;
    }
    ta_stat_add(&server->active, 1);
    if (TA_UNLIKELY(server->recorder != NULL))
        ta_recorder_begin(server->recorder, req);
    if (TA_UNLIKELY(server->ids != NULL))
        ta_request_ids_give(server->ids, native);
    return native;
}

static void on_request(void *ctx, ta_req *req)
{
    ta_native_exchange *native = take(ctx, req);
    if (native == NULL) {
        ta_resp_abort(req);
        return;
    }
    if (TA_UNLIKELY(req->upgrade) && wants_websocket(native)) {
        int rc = ta_websocket_open(native);
        if (rc < 0) { /* no memory; maybe not a moment at which the application could be asked */
            ta_loop_state_unhandled(native->base.ls, "A WebSocket could not be opened");
            ta_resp_abort(req);
        }
        if (rc <= 0)
            return;
    }
    ta_dispatch_start(native); /* req->user keeps x: there is no on_close from within */
}

static void on_body(ta_req *req)
{
    ta_native_exchange *x = exchange_of(req);
    if (x != NULL)
        ta_waiters_wake(&x->in.readers);
}

static void on_drain(ta_req *req)
{
    ta_native_exchange *native = exchange_of(req);
    if (native == NULL)
        return;
    if (native->ws != NULL)
        ta_websocket_drained(native);
    ta_waiters_wake(&native->out.writers);
}

static void on_raw(ta_req *req, const char *data, size_t len)
{
    ta_native_exchange *x = exchange_of(req);
    if (x != NULL)
        ta_websocket_input(x, data, len);
}

static void on_disconnect(ta_req *req)
{
    ta_native_exchange *native = exchange_of(req);
    if (native == NULL)
        return;
    ta_peer_went_silent(&native->peer);
    if (native->ws != NULL) {
        ta_websocket_gone(native);
        return;
    }
    ta_streaming_response_left(native);
    ta_waiters_wake(&native->in.readers);
    ta_waiters_wake(&native->out.writers);
}

static void on_refused(void *ctx, ta_req *req, ta_response_head *head, ta_str body, ta_fields *room)
{
    ta_server *server = ctx;
    ta_native_exchange *native = req->user ? exchange_of(req) : take(server, req);
    if (native == NULL)
        return;
    if (native->out.status == 0 && req->target.len > 0)
        ta_response_started(native, head->status);
    native->out.status = head->status; /* no matter what the application was about to send */
    if (native->base.method_id != TA_METHOD_HEAD)
        req->notes.sent += body.len;
    if (server->ids != NULL && req->target.len > 0)
        ta_request_ids_answer(server->ids, native, room, head);
}

/* A request is about to be closed, and somebody asks how it went. */
static void account(ta_native_exchange *native)
{
    ta_server *server = native->server;
    bool left = native->out.status == 0 || native->req->notes.unheard;
    int status = left ? CLIENT_LEFT : native->out.status;
    if (server->access_log != NULL && native->req->target.len > 0)
        ta_access_log_end(native, status);
    if (server->recorder != NULL)
        ta_recorder_end(server->recorder, native, status);
}

static void on_close(ta_req *req)
{
    ta_native_exchange *native = exchange_of(req);
    if (native != NULL && TA_UNLIKELY(native->server->timed))
        account(native);
    req->user = NULL;
    if (native == NULL)
        return;
    ta_loop_state *ls = native->base.ls;
    TA_ASSERT(native->server->active > 0);
    ta_stat_add(&native->server->active, (uint64_t)-1);
    char *id = req->notes.id;
    ta_native_exchange_closed(native);
    req->notes.id = NULL;
    PyMem_Free(id);
    ta_loop_state_enter(ls); /* destructors of whatever the request had */
    ta_asgi_io_let_go(native);
    Py_DECREF(native);
    ta_loop_state_leave(ls);
}

const ta_http_ops ta_upcalls = {
    .on_request = on_request,
    .on_body = on_body,
    .on_drain = on_drain,
    .on_disconnect = on_disconnect,
    .on_close = on_close,
    .on_raw = on_raw,
    .on_refused = on_refused,
};
