/* fork_mark: a child of fork() is told from its parent, with the page and without. */
#include "base/fork_mark.h"

#include <sys/wait.h>

#include "ta_test.h"

/* What a child says: 0 where all is as it should be. */
static int said_by_child(ta_fork_mark *mark)
{
    pid_t child = fork();
    if (child == 0) {
        bool told = ta_fork_mark_is_child(mark);
        ta_fork_mark_renew(mark);
        _exit(told && !ta_fork_mark_is_child(mark) ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TA_TEST(a_child_is_told_from_its_parent)
{
    ta_fork_mark mark;
    ta_fork_mark_init(&mark);
    CHECK(!ta_fork_mark_is_child(&mark));
    CHECK_INT(said_by_child(&mark), ==, 0);
    CHECK(!ta_fork_mark_is_child(&mark));
    ta_fork_mark_free(&mark);
}

TA_TEST(without_a_page_too)
{
    ta_fork_mark mark;
    ta_fork_mark_init(&mark);
    ta_fork_mark_free(&mark);
    CHECK(!ta_fork_mark_is_child(&mark));
    CHECK_INT(said_by_child(&mark), ==, 0);
    CHECK(!ta_fork_mark_is_child(&mark));
}
