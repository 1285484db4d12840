/* clock.h -- the monotonic clock.  Layer: base (L0). */
#ifndef TA_BASE_CLOCK_H
#define TA_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds; never 0. */
static inline uint64_t ta_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t ta_clock_us(void)
{
    return ta_clock_ns() / 1000;
}

static inline uint64_t ta_clock_ms(void)
{
    return ta_clock_ns() / 1000000;
}

#endif
