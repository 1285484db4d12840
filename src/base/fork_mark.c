/* fork_mark.c -- see fork_mark.h.  Layer: base. */
#include "base/fork_mark.h"

#include <sys/mman.h>

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void ta_fork_mark_init(ta_fork_mark *mark)
{
    mark->page = NULL;
#ifdef MADV_WIPEONFORK
    void *page =
        mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED) {
        if (madvise(page, page_size(), MADV_WIPEONFORK) == 0)
            mark->page = page;
        else /* Linux before 4.14 */
            (void)munmap(page, page_size());
    }
#endif
    ta_fork_mark_renew(mark);
}

void ta_fork_mark_free(ta_fork_mark *mark)
{
    if (mark->page != NULL)
        (void)munmap(mark->page, page_size());
    mark->page = NULL;
}

void ta_fork_mark_renew(ta_fork_mark *mark)
{
    if (mark->page != NULL)
        *mark->page = 1;
    mark->pid = getpid();
}
