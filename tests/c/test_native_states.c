/* The states of a native exchange: which ways there are, and that others abort. */
#include "py/server/native_states.h"
#include "ta_test.h"

/* The drawing, once more. */
static const struct {
    ta_response_state from, to;
} ways[] = {
    {TA_RESPONSE_NONE, TA_RESPONSE_READY},    {TA_RESPONSE_NONE, TA_RESPONSE_HELD},
    {TA_RESPONSE_NONE, TA_RESPONSE_DONE},     {TA_RESPONSE_NONE, TA_RESPONSE_UPGRADED},
    {TA_RESPONSE_NONE, TA_RESPONSE_LOST},     {TA_RESPONSE_HELD, TA_RESPONSE_NONE},
    {TA_RESPONSE_HELD, TA_RESPONSE_READY},    {TA_RESPONSE_HELD, TA_RESPONSE_LOST},
    {TA_RESPONSE_READY, TA_RESPONSE_STREAM},  {TA_RESPONSE_READY, TA_RESPONSE_LOST},
    {TA_RESPONSE_STREAM, TA_RESPONSE_DONE},   {TA_RESPONSE_STREAM, TA_RESPONSE_LOST},
    {TA_RESPONSE_UPGRADED, TA_RESPONSE_LOST}, {TA_RESPONSE_DONE, TA_RESPONSE_NONE},
    {TA_RESPONSE_LOST, TA_RESPONSE_DONE},
};

static bool drawn(ta_response_state from, ta_response_state to)
{
    for (size_t i = 0; i < TA_COUNTOF(ways); i++)
        if (ways[i].from == from && ways[i].to == to)
            return true;
    return false;
}

TA_TEST(response_ways)
{
    for (int from = TA_RESPONSE_NONE; from <= TA_RESPONSE_LOST; from++)
        for (int to = TA_RESPONSE_NONE; to <= TA_RESPONSE_LOST; to++)
            CHECK_INT(ta_response_may(from, to), ==, drawn(from, to));
}

static void ends_twice(void)
{
    ta_response_state at = TA_RESPONSE_STREAM;
    ta_response_move(&at, TA_RESPONSE_DONE);
    ta_response_move(&at, TA_RESPONSE_DONE);
}

static void asks_twice(void)
{
    ta_work_state at = TA_WORK_NONE;
    ta_work_begins(&at);
    ta_work_asks(&at);
    ta_work_asks(&at);
}

static void task_ends_twice(void)
{
    ta_work_state at = TA_WORK_NONE;
    ta_work_begins(&at);
    ta_work_ends(&at);
    ta_work_ends(&at);
}

static void body_after_its_end(void)
{
    ta_input_state at = TA_INPUT_NONE;
    ta_input_given(&at, true);
    ta_input_given(&at, false);
}

TA_TEST(once)
{
    CHECK_INT(ta_test_signal_of(ends_twice), ==, SIGABRT);
    CHECK_INT(ta_test_signal_of(asks_twice), ==, SIGABRT);
    CHECK_INT(ta_test_signal_of(task_ends_twice), ==, SIGABRT);
    CHECK_INT(ta_test_signal_of(body_after_its_end), ==, SIGABRT);
}

TA_TEST(error_app_from_outside)
{
    ta_work_state at = TA_WORK_NONE;
    ta_work_asks(&at);
    CHECK_INT(ta_work_has_task(at), ==, false);
    ta_work_begins(&at);
    CHECK_INT(at, ==, TA_WORK_ERROR_APP);
    ta_work_ends(&at);
    CHECK_INT(ta_work_has_task(at), ==, false);
}

TA_TEST(end_in_either_order)
{
    ta_end_state a = TA_END_NONE, b = TA_END_NONE;
    ta_end_hears(&a);
    CHECK_INT(ta_end_is_due(a), ==, false);
    ta_end_falls_due(&a);
    ta_end_falls_due(&b);
    CHECK_INT(ta_end_is_due(b), ==, true);
    ta_end_hears(&b);
    CHECK_INT(a, ==, TA_END_TOLD);
    CHECK_INT(b, ==, TA_END_TOLD);
}

TA_TEST(peer)
{
    ta_peer_state at = TA_PEER_HERE;
    ta_peer_went_silent(&at);
    CHECK_INT(at, ==, TA_PEER_SILENT);
    ta_peer_is_answered(&at, false);
    CHECK_INT(at, ==, TA_PEER_HERE);
    at = TA_PEER_GONE;
    ta_peer_went_silent(&at);
    ta_peer_is_answered(&at, false);
    CHECK_INT(at, ==, TA_PEER_GONE);
}
