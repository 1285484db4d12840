/* stats.c -- counters of the threads that serve, in memory that processes share. */
#include "base/stats.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

const uint64_t ta_stats_bounds[TA_STATS_BUCKETS - 1] = {
    100 * US, 250 * US, 500 * US, 1 * MS,   2500 * US, 5 * MS,    10 * MS,   25 * MS,
    50 * MS,  100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 5000 * MS, 10000 * MS,
};

enum { PAGE = 4096 };

static size_t slot_size(uint32_t routes)
{
    size_t n = sizeof(ta_stats_slot) + routes * (sizeof(ta_stats_series) + TA_STATS_NAME_BYTES);
    return (n + PAGE - 1) / PAGE * PAGE;
}

size_t ta_stats_size(uint32_t slots, uint32_t routes)
{
    return slots > 65536 || routes > 65536 ? 0 : slot_size(routes) * slots;
}

int ta_stats_map(ta_stats *stats, int fd, uint32_t slots, uint32_t routes)
{
    size_t size = ta_stats_size(slots, routes);
    off_t end = lseek(fd, 0, SEEK_END);
    if (end < 0)
        return TA_ESYS;
    if (size == 0 || (uint64_t)end < size)
        return TA_EINVAL;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return TA_ESYS;
    *stats = (ta_stats){memory, slot_size(routes), size, slots, routes};
    return TA_OK;
}

void ta_stats_unmap(ta_stats *stats)
{
    if (stats->memory != NULL)
        munmap(stats->memory, stats->size);
    stats->memory = NULL;
}

static void set32(_Atomic uint32_t *value, uint32_t n)
{
    atomic_store_explicit(value, n, memory_order_relaxed);
}

static uint32_t get32(const _Atomic uint32_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

/* -- series ----------------------------------------------------------------------------------- */

static char *names_of(const ta_stats *stats, const ta_stats_slot *slot)
{
    return (char *)(uintptr_t)&slot->series[stats->routes];
}

ta_str ta_stats_route(const ta_stats *stats, const ta_stats_slot *slot,
                      const ta_stats_series *series)
{
    return ta_str_of(names_of(stats, slot) + series->name, series->name_len);
}

ta_stats_series *ta_stats_series_for(const ta_stats *stats, ta_stats_slot *slot, ta_str route,
                                     ta_str method)
{
    char padded[TA_STATS_METHOD] = {0};
    uint32_t n = get32(&slot->nseries), used = get32(&slot->names_len);
    memcpy(padded, method.ptr, TA_MIN(method.len, sizeof padded));
    uint32_t name = used;
    for (uint32_t i = 0; i < n; i++) {
        ta_stats_series *s = &slot->series[i];
        if (!ta_str_eq(ta_stats_route(stats, slot, s), route))
            continue;
        name = s->name; /* another method of the same one */
        if (memcmp(s->method, padded, sizeof padded) == 0)
            return s;
    }
    if (n == stats->routes ||
        (name == used && route.len > (size_t)stats->routes * TA_STATS_NAME_BYTES - used))
        return NULL;
    ta_stats_series *s = &slot->series[n];
    memset(s, 0, sizeof *s);
    memcpy(s->method, padded, sizeof padded);
    s->name = name;
    s->name_len = (uint32_t)route.len;
    if (name == used && route.len > 0) {
        memcpy(names_of(stats, slot) + used, route.ptr, route.len);
        set32(&slot->names_len, used + (uint32_t)route.len);
    }
    atomic_store_explicit(&slot->nseries, n + 1, memory_order_release);
    return s;
}

static void add_status(ta_stats_series *series, uint32_t status, uint64_t n)
{
    ta_stats_status *s = series->statuses, *last = s + TA_STATS_STATUSES - 1;
    while (s < last && get32(&s->status) != status && get32(&s->status) != 0)
        s++;
    ta_stat_add(&s->count, n);
    if (s < last)
        set32(&s->status, status);
}

static unsigned bucket_of(uint64_t ns)
{
    unsigned i = 0;
    while (i < TA_STATS_BUCKETS - 1 && ns > ta_stats_bounds[i])
        i++;
    return i;
}

void ta_stats_count(ta_stats_series *series, uint32_t status, uint64_t ns)
{
    add_status(series, status, 1);
    ta_stat_add(&series->buckets[bucket_of(ns)], 1);
    ta_stat_add(&series->sum_ns, ns);
}

void ta_stats_count_lag(ta_stats_slot *slot, uint64_t ns)
{
    ta_stat_add(&slot->lag[bucket_of(ns)], 1);
    ta_stat_add(&slot->lag_sum_ns, ns);
    ta_stat_set(&slot->lag_last_ns, ns);
}

/* -- slots ------------------------------------------------------------------------------------ */

uint32_t ta_stats_claim(const ta_stats *stats, uint32_t thread)
{
    for (uint32_t number = 1; number < stats->slots; number++) {
        ta_stats_slot *slot = ta_stats_slot_of(stats, number);
        uint32_t free = TA_STATS_FREE;
        if (!atomic_compare_exchange_strong(&slot->state, &free, TA_STATS_STARTING))
            continue;
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        ta_stat_set(&slot->since, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
        set32(&slot->thread, thread);
        atomic_store_explicit(&slot->pid, (uint32_t)getpid(), memory_order_release);
        return number;
    }
    return 0;
}

static void add_series(ta_stats_series *to, const ta_stats_series *from)
{
    for (unsigned i = 0; i < TA_STATS_STATUSES; i++) {
        uint64_t n = ta_stat_get(&from->statuses[i].count);
        if (n > 0)
            add_status(to, get32(&from->statuses[i].status), n);
    }
    for (unsigned i = 0; i < TA_STATS_BUCKETS; i++)
        ta_stat_add(&to->buckets[i], ta_stat_get(&from->buckets[i]));
    ta_stat_add(&to->sum_ns, ta_stat_get(&from->sum_ns));
}

static uint64_t requests_of(const ta_stats_series *series)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < TA_STATS_BUCKETS; i++)
        n += ta_stat_get(&series->buckets[i]);
    return n;
}

void ta_stats_retire(const ta_stats *stats, uint32_t number)
{
    ta_stats_slot *slot = ta_stats_slot_of(stats, number), *kept = ta_stats_slot_of(stats, 0);
    TA_ASSERT(number > 0);
    for (unsigned i = 0; i < TA_STAT_KEPT; i++)
        ta_stat_add(&kept->values[i], ta_stat_get(&slot->values[i]));
    for (unsigned i = 0; i < TA_STATS_BUCKETS; i++)
        ta_stat_add(&kept->lag[i], ta_stat_get(&slot->lag[i]));
    ta_stat_add(&kept->lag_sum_ns, ta_stat_get(&slot->lag_sum_ns));
    uint32_t n = atomic_load_explicit(&slot->nseries, memory_order_acquire);
    for (uint32_t i = 0; i < TA_MIN(n, stats->routes); i++) {
        const ta_stats_series *from = &slot->series[i];
        ta_str method = ta_str_of(from->method, strnlen(from->method, sizeof from->method));
        ta_stats_series *to =
            ta_stats_series_for(stats, kept, ta_stats_route(stats, slot, from), method);
        if (to != NULL)
            add_series(to, from);
        else
            ta_stat_add(&kept->values[TA_STAT_UNLISTED], requests_of(from));
    }
    memset((char *)slot + offsetof(ta_stats_slot, pid), 0,
           offsetof(ta_stats_slot, series) - offsetof(ta_stats_slot, pid));
    atomic_store_explicit(&slot->state, TA_STATS_FREE, memory_order_release);
}
