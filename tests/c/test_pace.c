/* Patience with slow peers, by a clock of the test's own. */
#include "base/pace.h"
#include "ta_test.h"

enum { PATIENCE = 30000, RATE = 240 };

/* `bytes` each `every` ms; after how many ms it is over, 0: not within `until`. */
static uint64_t lasts(uint64_t bytes, uint64_t every, uint32_t rate, uint64_t until)
{
    ta_pace pace;
    ta_pace_begin(&pace, 1000, PATIENCE);
    for (uint64_t now = every; now <= until; now += every) {
        if (!ta_pace_account(&pace, 1000 + now, bytes, PATIENCE, rate))
            return now;
    }
    return 0;
}

TA_TEST(rates)
{
    CHECK_INT(lasts(1, 1000, RATE, 1000000), ==, 31000);      /* dripped: 4 ms a second come back */
    CHECK_INT(lasts(240, 1000, RATE, 100000000), ==, 0);      /* at the rate: for ever */
    CHECK_INT(lasts(239, 1000, RATE, 100000000), >, 5000000); /* a little below: for long */
    CHECK_INT(lasts(1, 29999, 0, 100000000), ==, 0);          /* no rate: any byte in time */
    CHECK_INT(lasts(0, 29999, RATE, 1000000), ==, 59998);
    CHECK_INT(lasts(0, 30000, RATE, 1000000), ==, 30000);
    CHECK_INT(lasts(1 << 20, 59999, RATE, 10000000), ==, 0); /* the bytes that end a pause count */
}

/* What was sent quickly is no provision for later. */
TA_TEST(credit_is_bounded)
{
    ta_pace pace;
    ta_pace_begin(&pace, 0, PATIENCE);
    CHECK_INT(ta_pace_account(&pace, 1000, UINT64_MAX, PATIENCE, RATE), ==, PATIENCE);
    CHECK_INT(ta_pace_account(&pace, 2000, UINT64_MAX / 1000, PATIENCE, UINT32_MAX), ==, PATIENCE);
    CHECK_INT(ta_pace_account(&pace, 31999, 0, PATIENCE, RATE), ==, 1);
    CHECK_INT(ta_pace_account(&pace, 32000, 0, PATIENCE, RATE), ==, 0);
    CHECK_INT(ta_pace_account(&pace, 32000, 12, PATIENCE, RATE), ==, 50);
}

TA_TEST(only_waiting_counts)
{
    ta_pace pace;
    ta_pace_begin(&pace, 0, PATIENCE);
    CHECK_INT(ta_pace_account(&pace, 10000, 0, PATIENCE, RATE), ==, 20000);
    ta_pace_resume(&pace, 500000);
    CHECK_INT(ta_pace_account(&pace, 500000, 0, PATIENCE, RATE), ==, 20000);
}
