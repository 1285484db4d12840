/*
 * recorder.c -- what a server counts for metrics: in its slot of the shared memory.
 *
 * Layer: py/server.  A request costs two looks at the clock and some additions; what changes with
 * connections and threads is noted by a timer.
 */
#include "py/server/recorder.h"

#include "base/clock.h"
#include "base/stats.h"
#include "http/method.h"
#include "py/loop/thread_pool.h"
#include "py/server/native_int.h"
#include "py/server/route_label.h"
#include "py/server/stats_object.h"

enum {
    TICK_MS = 250,
    TICK_GRAIN_NS = 1000000, /* timers count milliseconds */
    CACHE = 256
};

/* Which series entry `entry` of an App's table has. */
typedef struct known_entry {
    const ta_app *app; /* compared only */
    uint64_t made;     /* ta_app.made */
    uint32_t entry, method;
    ta_stats_series *series;
} known_entry;

struct ta_recorder {
    ta_server *server; /* borrowed: it owns this */
    PyObject *owner;   /* owned: the Stats */
    const ta_stats *stats;
    ta_stats_slot *slot;
    ta_timer tick;
    uint64_t due; /* ns: when the next tick should come */
    uint16_t free_seats[TA_STATS_SEATS];
    unsigned nfree;
    ta_stats_series *of_nothing[TA_METHOD_CONNECT + 1]; /* requests without a route */
    known_entry entries[CACHE];
    ta_stats_series *labels[CACHE]; /* by a hash of route and method */
};

/* -- series ----------------------------------------------------------------------------------- */

/* Methods that nobody knows are one: they are the client's choice. */
static ta_str method_label(ta_method method)
{
    static const char *const names[] = {"_OTHER", "GET",     "HEAD",  "POST",  "PUT",
                                        "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};
    TA_ASSERT((size_t)method < TA_COUNTOF(names));
    return ta_str_of(names[method], strlen(names[method]));
}

static ta_stats_series *make(ta_recorder *r, ta_str route, ta_method method)
{
    return ta_stats_series_for(r->stats, r->slot, route, method_label(method));
}

static ta_stats_series *of_label(ta_recorder *r, ta_str route, ta_method method)
{
    uint32_t h = 2166136261u ^ (uint32_t)method;
    for (size_t i = 0; i < route.len; i++)
        h = (h ^ (unsigned char)route.ptr[i]) * 16777619u;
    ta_stats_series **known = &r->labels[(h ^ h >> 8) % CACHE];
    ta_str name = method_label(method);
    if (*known == NULL || !ta_str_eq(ta_stats_route(r->stats, r->slot, *known), route) ||
        strncmp((*known)->method, name.ptr, TA_STATS_METHOD) != 0)
        *known = make(r, route, method);
    return *known;
}

/* NULL: there is no room for it. */
static ta_stats_series *series_of(ta_recorder *r, ta_native_exchange *native)
{
    const ta_req_notes *notes = &native->req->notes;
    const ta_app *app = notes->routed_by;
    ta_method method = native->base.method_id;
    char text[TA_ROUTE_LABEL_MAX];
    if (TA_LIKELY(app != NULL)) {
        known_entry *known =
            &r->entries[(notes->entry * 8u + (unsigned)method + (uintptr_t)app / 64) % CACHE];
        if (TA_UNLIKELY(known->app != app || known->made != app->made ||
                        known->entry != notes->entry || known->method != (uint32_t)method))
            *known = (known_entry){app, app->made, notes->entry, (uint32_t)method,
                                   of_label(r, ta_route_label(native, text), method)};
        return known->series;
    }
    ta_str route = ta_route_label(native, text);
    if (route.len > 0)
        return of_label(r, route, method);
    ta_stats_series **known = &r->of_nothing[method];
    if (*known == NULL)
        *known = make(r, route, method);
    return *known;
}

/* -- requests --------------------------------------------------------------------------------- */

void ta_recorder_begin(ta_recorder *r, ta_req *req)
{
    ta_stat_add(&r->slot->values[TA_STAT_STARTED], 1);
    if (TA_UNLIKELY(r->nfree == 0))
        return;
    unsigned n = r->free_seats[--r->nfree];
    req->notes.seat = n + 1;
    ta_stats_seat *seat = &r->slot->seats[n];
    atomic_store_explicit(&seat->series, 0, memory_order_relaxed);
    ta_stat_set(&seat->began, req->notes.began);
}

void ta_recorder_routed(ta_recorder *r, ta_native_exchange *native)
{
    ta_stats_series *series = series_of(r, native);
    uint32_t seat = native->req->notes.seat;
    if (seat > 0 && series != NULL)
        atomic_store_explicit(&r->slot->seats[seat - 1].series,
                              (uint32_t)(series - r->slot->series) + 1, memory_order_relaxed);
}

void ta_recorder_end(ta_recorder *r, ta_native_exchange *native, int status)
{
    ta_req_notes *notes = &native->req->notes;
    _Atomic uint64_t *values = r->slot->values;
    ta_stats_series *series = series_of(r, native);
    if (TA_LIKELY(series != NULL))
        ta_stats_count(series, (uint32_t)status, ta_clock_ns() - notes->began);
    else
        ta_stat_add(&values[TA_STAT_UNLISTED], 1);
    ta_stat_add(&values[TA_STAT_ENDED], 1);
    ta_stat_add(&values[TA_STAT_BYTES_OUT], notes->sent);
    if (native->req->has_body)
        ta_stat_add(&values[TA_STAT_BYTES_IN], ta_request_body_received(native));
    if (TA_UNLIKELY(native->out.status == 101))
        ta_stat_set(&values[TA_STAT_WEBSOCKETS], ta_stat_get(&values[TA_STAT_WEBSOCKETS]) - 1);
    if (TA_LIKELY(notes->seat > 0)) {
        ta_stat_set(&r->slot->seats[notes->seat - 1].began, 0);
        r->free_seats[r->nfree++] = (uint16_t)(notes->seat - 1);
        notes->seat = 0;
    }
}

void ta_recorder_websocket(ta_recorder *r)
{
    ta_stat_add(&r->slot->values[TA_STAT_WEBSOCKETS], 1);
}

/* -- what a timer notes ----------------------------------------------------------------------- */

static void note(ta_recorder *r)
{
    ta_server *server = r->server;
    _Atomic uint64_t *values = r->slot->values;
    ta_thread_pool_figures figures = ta_thread_pool_look(server->ls);
    ta_stat_set(&values[TA_STAT_CONNECTIONS],
                server->http ? ta_http_server_connections(server->http) : 0);
    ta_stat_set(&values[TA_STAT_ACCEPTED], server->accepted);
    ta_stat_set(&values[TA_STAT_POOL_JOBS], figures.jobs);
    ta_stat_set(&values[TA_STAT_POOL_QUEUE], figures.queued);
    ta_stat_set(&values[TA_STAT_PROMOTED], (uint64_t)(int64_t)figures.promoted);
    if (atomic_load_explicit(&r->slot->thread, memory_order_relaxed) == 0) /* the process's own */
        ta_stat_set(&values[TA_STAT_LOG_LINES_DROPPED], ta_access_log_dropped(server->access_log));
}

static void on_tick(ta_timer *timer)
{
    ta_recorder *r = TA_CONTAINER_OF(timer, ta_recorder, tick);
    uint64_t now = ta_clock_ns();
    ta_stats_count_lag(r->slot, now > r->due + TICK_GRAIN_NS ? now - r->due : 0);
    ta_stat_set(&r->slot->ticked_ns, now);
    note(r);
    r->due = now + TICK_MS * UINT64_C(1000000);
    (void)ta_loop_refresh(r->server->ls->loop); /* the timer's time is the batch's */
    ta_loop_set_timer(r->server->ls->loop, &r->tick, TICK_MS);
}

/* -- life ------------------------------------------------------------------------------------- */

ta_recorder *ta_recorder_new(ta_server *server, PyObject *stats, unsigned slot)
{
    const ta_stats *memory = ta_stats_object_get(server->st, stats);
    if (memory == NULL)
        return NULL;
    if (slot == 0 || slot >= memory->slots) {
        PyErr_SetString(PyExc_ValueError, "stats_slot must be one that claim() has given");
        return NULL;
    }
    ta_recorder *r = PyMem_Calloc(1, sizeof *r);
    if (r == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    r->server = server;
    r->owner = Py_NewRef(stats);
    r->stats = memory;
    r->slot = ta_stats_slot_of(memory, slot);
    for (unsigned i = 0; i < TA_STATS_SEATS; i++)
        r->free_seats[r->nfree++] = (uint16_t)(TA_STATS_SEATS - 1 - i);
    uint64_t now = ta_clock_ns();
    r->due = now + TICK_MS * UINT64_C(1000000);
    ta_stat_set(&r->slot->ticked_ns, now);
    r->tick.on_expire = on_tick;
    (void)ta_loop_refresh(server->ls->loop);
    ta_loop_set_timer(server->ls->loop, &r->tick, TICK_MS);
    return r;
}

void ta_recorder_free(ta_recorder *r)
{
    if (r == NULL)
        return;
    if (r->server->ls->loop != NULL) {
        ta_timer_cancel(ta_loop_timers(r->server->ls->loop), &r->tick);
        note(r);
    }
    Py_DECREF(r->owner);
    PyMem_Free(r);
}
