/* timer.h -- deadlines in milliseconds: a hashed timer wheel.  Layer: base. */
#ifndef TA_BASE_TIMER_H
#define TA_BASE_TIMER_H

#include "base/list.h"
#include "base/ta_base.h"

typedef struct ta_timer ta_timer;
struct ta_timer {
    ta_list_node node;              /* private */
    uint64_t deadline;              /* private: ms of the loop's clock; 0 while not armed */
    uint64_t visit;                 /* private: when its slot is looked at; <= deadline */
    void (*on_expire)(ta_timer *t); /* set by the owner before arming; may free its owner */
};

typedef struct ta_timers ta_timers;

TA_MUST_CHECK ta_timers *ta_timers_new(uint64_t now);
void ta_timers_free(ta_timers *timers);
/* Arms or re-arms; cheap enough for every request (O(1), no allocation; a deadline later than the
 * one before is a mere store).  The timer, zeroed at first, must stay until cancelled or expired.
 */
void ta_timer_set(ta_timers *timers, ta_timer *t, uint64_t deadline);
/* Returns the timer's memory to its owner.  No-op when not armed. */
void ta_timer_cancel(ta_timers *timers, ta_timer *t);
/* Keeps the timer from expiring, but known to the wheel, which is the cheapest way to stop what is
 * soon armed again: ta_timer_cancel it before its memory is freed. */
static inline void ta_timer_disarm(ta_timer *t)
{
    t->deadline = 0;
}
static inline bool ta_timer_armed(const ta_timer *t)
{
    return t->deadline != 0;
}
/* Milliseconds until it expires; 0: it is due, or not armed. */
static inline uint64_t ta_timer_left(const ta_timer *t, uint64_t now)
{
    return t->deadline > now ? t->deadline - now : 0;
}
/* Milliseconds until the next timer may expire (0: now), or -1 without any. */
int ta_timers_next(const ta_timers *timers, uint64_t now);
/* Runs what has expired; returns how many. */
unsigned ta_timers_run(ta_timers *timers, uint64_t now);

#endif
