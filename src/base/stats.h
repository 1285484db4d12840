/*
 * stats.h -- counters of the threads that serve, in memory that processes share.
 *
 * Layer: base (L0).  The memory has slots of one size.  A slot is written by one thread, without
 * locks or read-modify-write instructions, and read by anybody: each number is right, several
 * together are of almost one moment.  Slot 0 gathers what slots counted whose threads have ended
 * (ta_stats_retire), so that nothing is lost with a process.
 */
#ifndef TA_BASE_STATS_H
#define TA_BASE_STATS_H

#include <stdatomic.h>

#include "base/ta_base.h"

enum {
    TA_STATS_STATUSES = 12,  /* of one route and method; others are counted as 0 */
    TA_STATS_BUCKETS = 17,   /* of durations: see ta_stats_bounds */
    TA_STATS_SEATS = 256,    /* requests in flight that a slot can tell of */
    TA_STATS_METHOD = 12,    /* bytes of a method; longer ones are cut */
    TA_STATS_NAME_BYTES = 96 /* of names, per route: the average */
};

/* Numbers of a slot.  The first ones only grow, and are kept when it is retired. */
typedef enum ta_stat {
    TA_STAT_BYTES_IN,  /* of request bodies */
    TA_STAT_BYTES_OUT, /* of response bodies */
    TA_STAT_ACCEPTED,  /* connections */
    TA_STAT_LOG_LINES_DROPPED,
    TA_STAT_UNLISTED,               /* requests of routes for which there was no room */
    TA_STAT_RESTARTS,               /* of workers that died; of slot 0 */
    TA_STAT_KEPT,                   /* the number of those above */
    TA_STAT_STARTED = TA_STAT_KEPT, /* requests */
    TA_STAT_ENDED,
    TA_STAT_CONNECTIONS,
    TA_STAT_WEBSOCKETS,
    TA_STAT_POOL_JOBS,  /* calls of `def` handlers that run in threads, or wait */
    TA_STAT_POOL_QUEUE, /* those that wait */
    TA_STAT_PROMOTED,   /* `def` functions that run on the loop */
    TA_STAT_COUNT
} ta_stat;

typedef enum ta_stats_state {
    TA_STATS_FREE,
    TA_STATS_STARTING,
    TA_STATS_READY,
    TA_STATS_DRAINING
} ta_stats_state;

typedef struct ta_stats_status {
    _Atomic uint64_t count;
    _Atomic uint32_t status; /* 0: not in use, but in the last one, which counts all others */
} ta_stats_status;

/* Requests of one route and method. */
typedef struct ta_stats_series {
    uint32_t name, name_len; /* in the slot's names; constant once it is there */
    char method[TA_STATS_METHOD];
    ta_stats_status statuses[TA_STATS_STATUSES];
    _Atomic uint64_t buckets[TA_STATS_BUCKETS]; /* not cumulated */
    _Atomic uint64_t sum_ns;
} ta_stats_series;

/* A request in flight. */
typedef struct ta_stats_seat {
    _Atomic uint64_t began;  /* ns of the monotonic clock; 0: free */
    _Atomic uint32_t series; /* its number + 1; 0: not known (yet) */
} ta_stats_seat;

typedef struct ta_stats_slot {
    _Atomic uint32_t state; /* ta_stats_state */
    _Atomic uint32_t pid, thread;
    _Atomic uint64_t since; /* ms of the clock of the world: when it was taken */
    _Atomic uint64_t values[TA_STAT_COUNT];
    /* The loop's lag: how late its ticks come. */
    _Atomic uint64_t lag[TA_STATS_BUCKETS], lag_sum_ns, lag_last_ns, ticked_ns;
    _Atomic uint32_t nseries, names_len;
    ta_stats_seat seats[TA_STATS_SEATS];
    ta_stats_series series[]; /* as many as the memory is for; names follow */
} ta_stats_slot;

typedef struct ta_stats {
    char *memory; /* mapped */
    size_t slot_size, size;
    uint32_t slots, routes;
} ta_stats;

/* Upper bounds of the buckets but for the last, which has none; ns. */
extern const uint64_t ta_stats_bounds[TA_STATS_BUCKETS - 1];

/* Bytes that such memory needs; 0: too much. */
size_t ta_stats_size(uint32_t slots, uint32_t routes);
/* Maps a descriptor of memory of that size (borrowed for the call).  TA_OK, TA_ESYS, TA_EINVAL. */
TA_MUST_CHECK int ta_stats_map(ta_stats *stats, int fd, uint32_t slots, uint32_t routes);
void ta_stats_unmap(ta_stats *stats);

static inline ta_stats_slot *ta_stats_slot_of(const ta_stats *stats, uint32_t slot)
{
    TA_ASSERT(slot < stats->slots);
    return (ta_stats_slot *)(void *)(stats->memory + stats->slot_size * slot);
}

static inline uint64_t ta_stat_get(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static inline void ta_stat_set(_Atomic uint64_t *value, uint64_t n)
{
    atomic_store_explicit(value, n, memory_order_relaxed);
}

/* By the only thread that counts here; others may read. */
static inline void ta_stat_add(_Atomic uint64_t *value, uint64_t n)
{
    ta_stat_set(value, ta_stat_get(value) + n);
}

/* Takes a free slot for the thread that calls, number `thread` of its process; 0: there is none. */
uint32_t ta_stats_claim(const ta_stats *stats, uint32_t thread);
/* Adds what a slot has counted to slot 0, and frees it.  Its thread has ended, and nobody else does
 * the same, or reads. */
void ta_stats_retire(const ta_stats *stats, uint32_t slot);

/* The series of a route and method, made when it is new; NULL: there is no room.  By the slot's own
 * thread; cost: linear. */
ta_stats_series *ta_stats_series_for(const ta_stats *stats, ta_stats_slot *slot, ta_str route,
                                     ta_str method);
ta_str ta_stats_route(const ta_stats *stats, const ta_stats_slot *slot,
                      const ta_stats_series *series);
void ta_stats_count(ta_stats_series *series, uint32_t status, uint64_t ns);
void ta_stats_count_lag(ta_stats_slot *slot, uint64_t ns);

#endif
