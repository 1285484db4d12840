/* h2/open.c -- how a connection begins and ends: session, settings, memory.  See h2/h2_int.h. */
#include "base/mem.h"
#include "http/h2/h2_int.h"

enum { WINDOW_MAX = 0x7fffffff };

const char *ta_h2_version(void)
{
    return nghttp2_version(0)->version_str;
}

static uint32_t window(uint32_t limit)
{
    return limit ? TA_MIN(limit, (uint32_t)WINDOW_MAX) : WINDOW_MAX;
}

/* -- requests --------------------------------------------------------------------------------- */

h2_req *h2_req_take(h2_conn *m, int32_t id)
{
    h2_req *rq = m->pool;
    if (rq) {
        m->pool = rq->next;
        rq->next = NULL;
        m->npool--;
        memset(rq, 0, offsetof(h2_req, trailers));
    } else {
        rq = ta_calloc(1, sizeof *rq);
        if (!rq)
            return NULL;
        ta_fields_init(&rq->trailers);
    }
    const ta_http_limits *limits = &m->server->limits;
    rq->conn = m;
    rq->id = id;
    rq->want = TA_MIN(limits->body_buffer ? limits->body_buffer : SIZE_MAX,
                      (size_t)window(limits->h2_stream_window));
    rq->body_told = true;
    rq->nfields = 0;
    rq->authority = rq->path = ta_str_of(NULL, 0);
    rq->req.secure = ta_conn_secure(m->net);
    rq->req.version = TA_HTTP_2;
    rq->req.content_length = -1;
    rq->req.proto = &h2_proto;
    rq->req.ops = m->server->ops;
    rq->req.body = rq->body_mem;
    ta_buf_init(&rq->body_mem);
    h2_body_init(rq);
    h2_queue_init(rq);
    ta_list_push_back(&m->reqs, &rq->node);
    m->nreqs++;
    return rq;
}

static void req_free(h2_req *rq)
{
    ta_fields_free(&rq->trailers);
    ta_buf_free(&rq->text);
    ta_free(rq->fields);
    ta_buf_free(&rq->body_mem);
    ta_buf_free(&rq->first.copy);
    ta_free(rq);
}

/* Memory that one large request needed is not kept for small ones. */
static void trim(ta_buf *buf, size_t max)
{
    if (buf->cap > max)
        ta_buf_free(buf);
    else
        ta_buf_clear(buf);
}

void h2_req_give(h2_req *rq)
{
    h2_conn *m = rq->conn;
    ta_timers *timers = ta_loop_timers(m->server->loop);
    TA_ASSERT(m->nreqs > 0 && !rq->next);
    h2_queue_drop(rq);
    h2_body_end(rq);
    ta_timer_cancel(timers, &rq->body_timer);
    ta_timer_cancel(timers, &rq->write_timer);
    ta_list_remove(&rq->node);
    ta_list_remove(&rq->due);
    m->nreqs--;
    if (m->heading == rq)
        m->heading = NULL;
    rq->body_mem = rq->req.body;
    if (m->npool >= H2_POOL_MAX || m->gone) {
        req_free(rq);
        return;
    }
    ta_fields_clear(&rq->trailers);
    trim(&rq->body_mem, H2_KEEP_BODY);
    trim(&rq->first.copy, H2_KEEP_BODY);
    trim(&rq->text, 4096);
    if (rq->cap > 128) {
        ta_free(rq->fields);
        rq->fields = NULL;
        rq->cap = 0;
    }
    rq->next = m->pool;
    m->pool = rq;
    m->npool++;
}

/* -- sessions --------------------------------------------------------------------------------- */

/* nghttp2 allocates about ten times for a stream. */
static void *mem_malloc(size_t size, void *user)
{
    return ta_blocks_take(user, size);
}

static void mem_free(void *ptr, void *user)
{
    ta_blocks_give(user, ptr);
}

static void *mem_calloc(size_t count, size_t size, void *user)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    void *ptr = ta_blocks_take(user, total);
    return ptr ? memset(ptr, 0, total) : NULL;
}

static void *mem_realloc(void *ptr, size_t size, void *user)
{
    return ta_blocks_resize(user, ptr, size);
}

static nghttp2_option *make_option(const ta_http_limits *limits)
{
    nghttp2_option *option;
    if (nghttp2_option_new(&option) != 0)
        return NULL;
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(option, H2_HPACK_TABLE);
    /* Who does not tell in its settings that it will not send RFC 7540's priorities is believed to.
     */
    nghttp2_option_set_server_fallback_rfc7540_priorities(option, 1);
    nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
    /* Two limits that h2/guard.c has by itself, as older ones of nghttp2 don't: these must not come
     * before ours. */
#ifdef TA_H2_RESET_RATE
    uint64_t burst = limits->h2_resets ? 2 * (uint64_t)limits->h2_resets : UINT32_MAX;
    nghttp2_option_set_stream_reset_rate_limit(option, burst, burst);
#endif
#ifdef TA_H2_CONTINUATIONS
    nghttp2_option_set_max_continuations(
        option, limits->h2_continuations ? limits->h2_continuations + 1 : SIZE_MAX);
#endif
    return option;
}

static nghttp2_session *make_session(h2_conn *m)
{
    nghttp2_session *session = NULL;
    nghttp2_session_callbacks *callbacks;
    nghttp2_mem mem = {&m->server->blocks, mem_malloc, mem_free, mem_calloc, mem_realloc};
    nghttp2_option *option = make_option(&m->server->limits);
    if (!option)
        return NULL;
    if (nghttp2_session_callbacks_new(&callbacks) == 0) {
        h2_frames_callbacks(callbacks);
        if (nghttp2_session_server_new3(&session, callbacks, m, option, &mem) != 0)
            session = NULL;
        nghttp2_session_callbacks_del(callbacks);
    }
    nghttp2_option_del(option);
    return session;
}

/* Our SETTINGS, and the connection's window. */
static bool greet(h2_conn *m)
{
    const ta_http_limits *limits = &m->server->limits;
    nghttp2_settings_entry entries[6] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window(limits->h2_stream_window)},
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    size_t n = 3;
    if (limits->h2_streams)
        entries[n++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits->h2_streams};
    if (limits->header_bytes) /* there each field counts 32 bytes more */
        entries[n++] = (nghttp2_settings_entry){
            NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
            (uint32_t)TA_MIN((uint64_t)limits->header_bytes + 32 * (uint64_t)limits->header_count,
                             (uint64_t)UINT32_MAX)};
    return nghttp2_submit_settings(m->session, NGHTTP2_FLAG_NONE, entries, n) == 0 &&
           nghttp2_session_set_local_window_size(m->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)window(limits->h2_conn_window)) == 0;
}

/* -- connections ------------------------------------------------------------------------------ */

static void on_turn(ta_defer *item)
{
    h2_run(TA_CONTAINER_OF(item, h2_conn, turn));
}

static void on_next(ta_defer *item)
{
    h2_run(TA_CONTAINER_OF(item, h2_conn, next));
}

static void conn_free(h2_conn *m)
{
    while (m->pool) {
        h2_req *rq = m->pool;
        m->pool = rq->next;
        req_free(rq);
    }
    nghttp2_session_del(m->session);
    ta_free(m);
}

int ta_h2_take(ta_http_server *server, ta_conn *net, void (*free_carrier)(void *arg), void *carrier)
{
    h2_conn *m = ta_calloc(1, sizeof *m);
    if (!m)
        return TA_ENOMEM;
    m->server = server;
    m->net = net;
    m->turn.fn = on_turn;
    m->next.fn = on_next;
    m->skip = sizeof TA_H2_PREFACE - 1;
    m->last_id = -1;
    ta_list_init(&m->reqs);
    ta_list_init(&m->due);
    m->session = make_session(m);
    if (!m->session || !greet(m)) {
        conn_free(m);
        return TA_ENOMEM;
    }
    m->free_carrier = free_carrier;
    m->carrier = carrier;
    ta_http_server_add(server, &m->base, &h2_conn_ops);
    ta_conn_clear_deadline(net);
    ta_conn_set_ops(net, &h2_net_ops, m);
    ta_conn_resume(net);
    if (server->stopping)
        h2_conn_ops.stop(&m->base);
    h2_poke(m); /* sends the settings, and looks at what came with the preface */
    return TA_OK;
}

void h2_conn_free(h2_conn *m)
{
    TA_ASSERT(m->gone && ta_list_empty(&m->reqs) && !m->nreqs && !m->unread);
    ta_http_server *server = m->server;
    void (*free_carrier)(void *) = m->free_carrier;
    void *carrier = m->carrier;
    ta_loop_undefer(server->loop, &m->turn);
    ta_loop_undefer(server->loop, &m->next);
    ta_http_server_remove(server, &m->base);
    conn_free(m);
    free_carrier(carrier);
}
