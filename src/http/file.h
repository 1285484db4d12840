/*
 * file.h -- opens files that are to be sent, from the thread of a loop: it does not wait for slow
 * file systems.
 *
 * Layer: http.  On Linux (openat2 with RESOLVE_CACHED) a path is followed only as far as the kernel
 * has all of it in memory; a network file system, or a path that nobody has used lately, gives
 * TA_FILE_ASK.  Elsewhere, and should openings wait all the same, time decides: after two in a row
 * that took long, and of which the second is known to have waited, everything gives TA_FILE_ASK for
 * a while.  (One may take long because others have the processor.)  The caller then opens the file
 * in a thread.
 */
#ifndef TA_HTTP_FILE_H
#define TA_HTTP_FILE_H

#include <limits.h>

#include "base/ta_base.h"

/* What the thread of a loop knows of the system; all zero at first. */
typedef struct ta_file_opener {
    bool plain;      /* there is no openat2, or it can't be told not to wait */
    bool suspect;    /* the last opening took long: it may have waited */
    int64_t not_now; /* ms of the monotonic clock: nothing is opened before */
} ta_file_opener;

typedef enum ta_file_found {
    TA_FILE_IS,     /* opened */
    TA_FILE_ABSENT, /* there is no such file, or not below that directory */
    TA_FILE_ASK     /* it might take long, or another error */
} ta_file_found;

typedef struct ta_file {
    int fd; /* owned by who opened it */
    bool regular, directory;
    int64_t size;
    int64_t mtime; /* seconds */
    long mtime_ns; /* and nanoseconds */
} ta_file;

/* Opens `path` for reading.  *out is written with TA_FILE_IS only. */
TA_MUST_CHECK ta_file_found ta_file_open(ta_file_opener *opener, const char *path, ta_file *out);

/*
 * Opens dir/rel, where `rel` is relative and has no "..".  Unless `follow`, what is opened must be
 * below `dir` when all symbolic links are resolved; `real` (PATH_MAX bytes) is then set to the real
 * path if there may have been some in `rel`, else to "".
 */
TA_MUST_CHECK ta_file_found ta_file_open_below(ta_file_opener *opener, const char *dir,
                                               const char *rel, bool follow, char *real,
                                               ta_file *out);

#endif
