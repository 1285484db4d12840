/* Counters in shared memory: series, their limits, processes that end. */
#include "base/stats.h"
#include "ta_test.h"

#include <sys/mman.h>

static ta_stats map(uint32_t slots, uint32_t routes)
{
    ta_stats stats;
    int fd = memfd_create("stats", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, (off_t)ta_stats_size(slots, routes)), ==, 0);
    CHECK_INT(ta_stats_map(&stats, fd, slots + 1, routes), ==, TA_EINVAL);
    CHECK_INT(ta_stats_map(&stats, fd, slots, routes), ==, TA_OK);
    close(fd);
    return stats;
}

static uint64_t total(const ta_stats_series *series)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < TA_STATS_STATUSES; i++)
        n += ta_stat_get(&series->statuses[i].count);
    return n;
}

TA_TEST(series_are_found_again)
{
    ta_stats stats = map(2, 3);
    CHECK_INT(ta_stats_claim(&stats, 0), ==, 1);
    CHECK_INT(ta_stats_claim(&stats, 0), ==, 0); /* there is no other */
    ta_stats_slot *slot = ta_stats_slot_of(&stats, 1);
    ta_stats_series *get = ta_stats_series_for(&stats, slot, TA_STR("/a"), TA_STR("GET"));
    ta_stats_series *post = ta_stats_series_for(&stats, slot, TA_STR("/a"), TA_STR("POST"));
    CHECK(get != NULL && post != NULL && get != post);
    CHECK(get == ta_stats_series_for(&stats, slot, TA_STR("/a"), TA_STR("GET")));
    CHECK_INT(get->name, ==, post->name);
    ta_stats_series *none = ta_stats_series_for(&stats, slot, TA_STR(""), TA_STR("GET"));
    CHECK(none != NULL && ta_stats_route(&stats, slot, none).len == 0);
    CHECK(ta_stats_series_for(&stats, slot, TA_STR("/b"), TA_STR("GET")) == NULL); /* the limit */
    CHECK(ta_str_eq(ta_stats_route(&stats, slot, post), TA_STR("/a")));
    ta_stats_unmap(&stats);
}

TA_TEST(names_have_a_limit)
{
    static char text[2 * TA_STATS_NAME_BYTES + 1];
    memset(text, 'x', sizeof text);
    ta_stats stats = map(2, 2);
    ta_stats_slot *slot = ta_stats_slot_of(&stats, 1);
    CHECK(ta_stats_series_for(&stats, slot, ta_str_of(text, sizeof text), TA_STR("GET")) == NULL);
    CHECK(ta_stats_series_for(&stats, slot, ta_str_of(text, sizeof text - 1), TA_STR("GET")));
    CHECK(ta_stats_series_for(&stats, slot, TA_STR("y"), TA_STR("GET")) == NULL);
    CHECK(ta_stats_series_for(&stats, slot, ta_str_of(text, sizeof text - 1),
                              TA_STR("A-VERY-LONG-METHOD")));
    ta_stats_unmap(&stats);
}

TA_TEST(durations_and_statuses)
{
    ta_stats stats = map(1, 1);
    ta_stats_slot *slot = ta_stats_slot_of(&stats, 0);
    ta_stats_series *s = ta_stats_series_for(&stats, slot, TA_STR("/"), TA_STR("GET"));
    CHECK(s != NULL);
    ta_stats_count(s, 200, 0);
    ta_stats_count(s, 200, 100000); /* the bound belongs to its bucket */
    ta_stats_count(s, 404, 100001);
    ta_stats_count(s, 500, UINT64_C(10000000000));
    ta_stats_count(s, 500, UINT64_C(10000000001));
    CHECK_INT(ta_stat_get(&s->buckets[0]), ==, 2);
    CHECK_INT(ta_stat_get(&s->buckets[1]), ==, 1);
    CHECK_INT(ta_stat_get(&s->buckets[15]), ==, 1);
    CHECK_INT(ta_stat_get(&s->buckets[16]), ==, 1);
    CHECK_INT(ta_stat_get(&s->sum_ns), ==, UINT64_C(20000200002));
    for (uint32_t status = 600; status < 620; status++)
        ta_stats_count(s, status, 1);
    CHECK_INT(total(s), ==, 25);
    CHECK_INT(ta_stat_get(&s->statuses[0].count), ==, 2);
    CHECK_INT(s->statuses[TA_STATS_STATUSES - 1].status, ==, 0);
    CHECK_INT(ta_stat_get(&s->statuses[TA_STATS_STATUSES - 1].count), ==,
              20 - (TA_STATS_STATUSES - 1 - 3));
    ta_stats_unmap(&stats);
}

/* What a process has counted is there when it is gone, and counted once. */
TA_TEST(a_process_that_dies)
{
    ta_stats stats = map(3, 4);
    for (int round = 0; round < 3; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            CHECK_INT(ta_stats_claim(&stats, 0), ==, 1);
            ta_stats_slot *slot = ta_stats_slot_of(&stats, 1);
            ta_stats_series *s = ta_stats_series_for(
                &stats, slot, round < 2 ? TA_STR("/x") : TA_STR("/y"), TA_STR("GET"));
            ta_stats_count(s, 200 + (uint32_t)round, 5);
            ta_stat_add(&slot->values[TA_STAT_BYTES_OUT], 7);
            ta_stat_add(&slot->values[TA_STAT_STARTED], 1);
            kill(getpid(), SIGKILL);
        }
        CHECK_INT(waitpid(child, NULL, 0), ==, child);
        ta_stats_slot *slot = ta_stats_slot_of(&stats, 1);
        CHECK_INT(slot->pid, ==, child);
        CHECK_INT(slot->state, ==, TA_STATS_STARTING);
        ta_stats_retire(&stats, 1);
        CHECK_INT(slot->state, ==, TA_STATS_FREE);
        CHECK_INT(slot->nseries, ==, 0);
    }
    ta_stats_slot *kept = ta_stats_slot_of(&stats, 0);
    CHECK_INT(kept->nseries, ==, 2);
    CHECK_INT(total(&kept->series[0]), ==, 2);
    CHECK_INT(ta_stat_get(&kept->series[0].statuses[1].count), ==, 1);
    CHECK_INT(total(&kept->series[1]), ==, 1);
    CHECK_INT(ta_stat_get(&kept->values[TA_STAT_BYTES_OUT]), ==, 21);
    CHECK_INT(ta_stat_get(&kept->values[TA_STAT_STARTED]), ==, 0); /* no request is in flight */
    ta_stats_unmap(&stats);
}

/* Slot 0 has the same limit: what there is no room for is counted all the same. */
TA_TEST(routes_that_no_longer_fit)
{
    ta_stats stats = map(2, 1);
    for (int round = 0; round < 2; round++) {
        CHECK_INT(ta_stats_claim(&stats, 0), ==, 1);
        ta_stats_series *s =
            ta_stats_series_for(&stats, ta_stats_slot_of(&stats, 1),
                                round ? TA_STR("/x") : TA_STR("/y"), TA_STR("GET"));
        ta_stats_count(s, 200, 5);
        ta_stats_count(s, 200, 5);
        ta_stats_retire(&stats, 1);
    }
    ta_stats_slot *kept = ta_stats_slot_of(&stats, 0);
    CHECK_INT(total(&kept->series[0]), ==, 2);
    CHECK_INT(ta_stat_get(&kept->values[TA_STAT_UNLISTED]), ==, 2);
    ta_stats_unmap(&stats);
}
