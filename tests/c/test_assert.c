/* TA_ASSERT: on in the C tests and in what they link. */
#include "base/list.h"
#include "ta_test.h"

static void holds(void)
{
    TA_ASSERT(1 + 1 == 2);
}

static void fails(void)
{
    TA_ASSERT(1 + 1 == 3);
}

static void in_two_lists(void)
{
    ta_list_node a, b, node = {0};
    ta_list_init(&a);
    ta_list_init(&b);
    ta_list_push_back(&a, &node);
    ta_list_push_back(&b, &node);
}

TA_TEST(aborts)
{
    CHECK_INT(ta_test_signal_of(holds), ==, 0);
    CHECK_INT(ta_test_signal_of(fails), ==, SIGABRT);
}

TA_TEST(one_list_at_a_time)
{
    CHECK_INT(ta_test_signal_of(in_two_lists), ==, SIGABRT);
}
