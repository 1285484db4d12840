/*
 * A hashed wheel of one-millisecond slots.
 *
 * A timer is in the slot of its `visit` time, which is never later than its deadline.  At that time
 * it expires, or, if the deadline was moved meanwhile, it moves to the slot of the new one.
 * Re-arming to a later deadline, which a connection does at every request, is therefore one store.
 * Deadlines beyond the wheel's span wait in its last slot and are checked once per round.
 *
 * A bitmap tells which slots hold something, so that the next one is found by scanning words.
 */
#include "base/timer.h"

#include "base/mem.h"

enum { SLOTS = 4096, MASK = SLOTS - 1, WORDS = SLOTS / 64 };

struct ta_timers {
    uint64_t done;            /* the last tick that was run */
    uint64_t words;           /* bit w: bits[w] may be non-zero */
    uint64_t bits[WORDS];     /* bit s: slot s may hold something */
    ta_list_node slot[SLOTS]; /* borrowed timers */
};

_Static_assert((SLOTS & MASK) == 0, "a power of two: the slot of a tick is its low bits");
_Static_assert(WORDS == 64, "one word says which words of the bitmap are in use");
_Static_assert((SLOTS & MASK) == 0, "a tick's slot is its low bits");

ta_timers *ta_timers_new(uint64_t now)
{
    ta_timers *timers = ta_malloc(sizeof(*timers));
    if (!timers)
        return NULL;
    timers->done = now;
    timers->words = 0;
    memset(timers->bits, 0, sizeof(timers->bits));
    for (unsigned i = 0; i < SLOTS; i++)
        ta_list_init(&timers->slot[i]);
    return timers;
}

void ta_timers_free(ta_timers *timers)
{
    if (!timers)
        return;
    /* Timers left behind must not point into freed memory. */
    for (unsigned i = 0; i < SLOTS; i++)
        while (!ta_list_empty(&timers->slot[i]))
            ta_list_remove(timers->slot[i].next);
    ta_free(timers);
}

static void place(ta_timers *timers, ta_timer *t)
{
    uint64_t first = timers->done + 1, last = timers->done + SLOTS;
    uint64_t visit = t->deadline < first ? first : t->deadline > last ? last : t->deadline;
    unsigned s = (unsigned)(visit & MASK);
    TA_ASSERT(t->on_expire != NULL && t->deadline != 0);
    t->visit = visit;
    ta_list_push_back(&timers->slot[s], &t->node);
    timers->bits[s / 64] |= UINT64_C(1) << (s % 64);
    timers->words |= UINT64_C(1) << (s / 64);
}

void ta_timer_set(ta_timers *timers, ta_timer *t, uint64_t deadline)
{
    t->deadline = deadline ? deadline : 1;
    if (TA_LIKELY(ta_list_linked(&t->node))) {
        if (TA_LIKELY(t->visit <= t->deadline))
            return;
        ta_list_remove(&t->node);
    }
    place(timers, t);
}

void ta_timer_cancel(ta_timers *timers, ta_timer *t)
{
    (void)timers; /* the slot's bit may stay: it is cleared when the slot is found empty */
    t->deadline = 0;
    ta_list_remove(&t->node);
}

/* The first tick in (done, done + SLOTS] whose slot may hold something; 0: none. */
static uint64_t next_tick(const ta_timers *timers)
{
    if (!timers->words)
        return 0;
    uint64_t from = timers->done + 1;
    unsigned start = (unsigned)(from & MASK), w0 = start / 64;
    /* the rest of the first word, the other words, then the first word's beginning */
    uint64_t bits = timers->bits[w0] & (~UINT64_C(0) << (start % 64));
    for (unsigned k = 0; k <= WORDS; k++) {
        unsigned w = (w0 + k) % WORDS;
        if (k)
            bits = timers->words >> w & 1 ? timers->bits[w] : 0;
        if (bits) {
            unsigned s = w * 64 + (unsigned)__builtin_ctzll(bits);
            return from + ((s - start) & MASK);
        }
    }
    return 0;
}

int ta_timers_next(const ta_timers *timers, uint64_t now)
{
    uint64_t tick = next_tick(timers);
    if (!tick)
        return -1;
    return tick <= now ? 0 : (int)(tick - now);
}

unsigned ta_timers_run(ta_timers *timers, uint64_t now)
{
    /* First all due slots are emptied into one list, so that what a callback sets, even for a time
     * that has passed, waits for the next run: no callback can prolong this one. */
    ta_list_node due;
    ta_list_init(&due);
    for (uint64_t tick; timers->done < now && (tick = next_tick(timers)) != 0 && tick <= now;) {
        unsigned s = (unsigned)(tick & MASK);
        TA_ASSERT(tick > timers->done);
        ta_list_node *slot = &timers->slot[s];
        timers->done = tick;
        timers->bits[s / 64] &= ~(UINT64_C(1) << (s % 64));
        if (!timers->bits[s / 64])
            timers->words &= ~(UINT64_C(1) << (s / 64));
        if (ta_list_empty(slot))
            continue;
        slot->next->prev = due.prev;
        due.prev->next = slot->next;
        slot->prev->next = &due;
        due.prev = slot->prev;
        ta_list_init(slot);
    }
    timers->done = TA_MAX(timers->done, now);

    unsigned ran = 0;
    while (!ta_list_empty(&due)) {
        ta_timer *t = TA_CONTAINER_OF(due.next, ta_timer, node);
        ta_list_remove(&t->node);
        if (t->deadline > now) {
            place(timers, t);
        } else if (t->deadline) { /* 0: disarmed */
            t->deadline = 0;
            ran++;
            t->on_expire(t);
        }
    }
    return ran;
}
