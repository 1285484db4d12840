/*
 * fork_mark.h -- tells a child of fork() from the process in which something was made.
 *
 * Layer: base.  getpid() is a system call.  This is one load: of a byte in a page that the kernel
 * clears for a child (MADV_WIPEONFORK).  Where there is none of those, it is getpid().
 */
#ifndef TA_BASE_FORK_MARK_H
#define TA_BASE_FORK_MARK_H

#include <unistd.h>

#include "base/ta_base.h"

typedef struct ta_fork_mark {
    unsigned char *page; /* owned, or NULL: `pid` tells */
    pid_t pid;
} ta_fork_mark;

void ta_fork_mark_init(ta_fork_mark *mark);
void ta_fork_mark_free(ta_fork_mark *mark);
/* From now on it is this process that is none. */
void ta_fork_mark_renew(ta_fork_mark *mark);

static inline bool ta_fork_mark_is_child(const ta_fork_mark *mark)
{
    if (TA_LIKELY(mark->page != NULL))
        return *(const volatile unsigned char *)mark->page == 0;
    return mark->pid != getpid();
}

#endif
