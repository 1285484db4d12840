/* file.c -- see file.h. */
#include "http/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>
#endif

enum {
    SLOW_MS = 10,     /* an opening that took that long held up the loop ... */
    PAUSE_MS = 10000, /* ... so threads do it for that long */
    ROOM = 2 * PATH_MAX
};

#define READING (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

#if defined(SYS_openat2) && defined(O_PATH)
#define HAS_OPENAT2 1
/* As in linux/openat2.h, which may be older than the kernel. */
struct how {
    uint64_t flags, mode, resolve;
};
#define RESOLVE_NO_LINKS 0x04
#define RESOLVE_IN_CACHE 0x20
#endif

static bool is_plain(const ta_file_opener *opener)
{
#ifdef HAS_OPENAT2
    return opener->plain;
#else
    (void)opener;
    return true;
#endif
}

/* A descriptor, or -1 with errno; EAGAIN: it would have to wait.  `links`: it may follow some. */
static int open_cached(ta_file_opener *opener, int dir, const char *path, int flags, bool links)
{
#ifdef HAS_OPENAT2
    struct how how = {
        .flags = (uint64_t)flags,
        .resolve = RESOLVE_IN_CACHE | (links ? 0U : RESOLVE_NO_LINKS),
    };
    int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
    /* EPERM: a sandbox that does not know the call */
    if (fd < 0 && (errno == ENOSYS || errno == EINVAL || errno == EPERM))
        opener->plain = true;
    return fd;
#else
    (void)opener;
    (void)dir;
    (void)path;
    (void)flags;
    (void)links;
    errno = ENOSYS;
    return -1;
#endif
}

/* Links are followed. */
static int open_path(ta_file_opener *opener, const char *path, int flags)
{
    if (!is_plain(opener)) {
        int fd = open_cached(opener, AT_FDCWD, path, flags, true);
        if (fd >= 0 || !is_plain(opener))
            return fd;
    }
    return open(path, flags);
}

/* Whether a real path is that of the directory or below it. */
static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    if (n == 1) /* "/" */
        return true;
    return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* By the real path.  -1 with errno; ENOENT also for what is outside. */
static int open_real(ta_file_opener *opener, const char *dir, const char *path, char *real)
{
    char real_dir[PATH_MAX];
    if (!is_plain(opener)) { /* brings no path into memory, but tells whether all of it is there */
        int fd = open_path(opener, path, READING);
        if (fd < 0)
            return -1;
        close(fd);
    }
    if (realpath(dir, real_dir) == NULL) {
        errno = EIO; /* whatever it is, others shall find out */
        return -1;
    }
    if (realpath(path, real) == NULL)
        return -1;
    if (!is_below(real, real_dir)) {
        errno = ENOENT;
        return -1;
    }
    return is_plain(opener) ? open(real, READING | O_NOFOLLOW)
                            : open_cached(opener, AT_FDCWD, real, READING, false);
}

static int open_below(ta_file_opener *opener, const char *dir, const char *rel, bool follow,
                      char *real)
{
    char path[ROOM];
    size_t n = strlen(dir), m = strlen(rel);
    real[0] = '\0';
    if (n + m + 2 > sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(path, dir, n);
    path[n] = '/';
    memcpy(path + n + 1, rel, m + 1);
    if (follow)
        return open_path(opener, path, READING);
#ifdef HAS_OPENAT2
    if (!is_plain(opener)) {
        int base = open_cached(opener, AT_FDCWD, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, true);
        int fd = base < 0 ? -1 : open_cached(opener, base, rel, READING, false);
        int error = base < 0 ? EIO : errno;
        if (base >= 0)
            close(base);
        errno = error;
        if (fd >= 0 || (!is_plain(opener) && error != ELOOP))
            return fd;
    }
#endif
    return open_real(opener, dir, path, real);
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* How often this thread has waited for something. */
static long waits(void)
{
#ifdef RUSAGE_THREAD
    struct rusage used;
    if (getrusage(RUSAGE_THREAD, &used) == 0)
        return used.ru_nvcsw;
#endif
    return 0;
}

typedef struct opening {
    int64_t since;
    long waits; /* before it, if the opener is suspect */
} opening;

/* False: nothing is opened now. */
static bool begin(const ta_file_opener *opener, opening *o)
{
    o->since = now_ms();
    o->waits = TA_UNLIKELY(opener->suspect) ? waits() : 0;
    return o->since >= opener->not_now;
}

static void judge(ta_file_opener *opener, const opening *o)
{
    int64_t now = now_ms();
    if (TA_LIKELY(now - o->since < SLOW_MS)) {
        opener->suspect = false;
    } else if (!opener->suspect) {
        opener->suspect = true;
    } else if (waits() != o->waits) {
        opener->suspect = false;
        opener->not_now = now + PAUSE_MS;
    }
}

/* What an opening has given. */
static ta_file_found opened(ta_file_opener *opener, const opening *o, int fd, ta_file *out)
{
    struct stat sb;
    int error = errno;
    bool known = fd >= 0 && fstat(fd, &sb) == 0;
    judge(opener, o);
    if (!known) {
        if (fd >= 0)
            close(fd);
        return fd < 0 && (error == ENOENT || error == ENOTDIR) ? TA_FILE_ABSENT : TA_FILE_ASK;
    }
    *out = (ta_file){
        .fd = fd,
        .regular = S_ISREG(sb.st_mode),
        .directory = S_ISDIR(sb.st_mode),
        .size = sb.st_size,
#ifdef __APPLE__
        .mtime = sb.st_mtimespec.tv_sec,
        .mtime_ns = sb.st_mtimespec.tv_nsec,
#else
        .mtime = sb.st_mtim.tv_sec,
        .mtime_ns = sb.st_mtim.tv_nsec,
#endif
    };
    return TA_FILE_IS;
}

ta_file_found ta_file_open(ta_file_opener *opener, const char *path, ta_file *out)
{
    opening o;
    if (!begin(opener, &o))
        return TA_FILE_ASK;
    return opened(opener, &o, open_path(opener, path, READING), out);
}

ta_file_found ta_file_open_below(ta_file_opener *opener, const char *dir, const char *rel,
                                 bool follow, char *real, ta_file *out)
{
    opening o;
    if (!begin(opener, &o))
        return TA_FILE_ASK;
    return opened(opener, &o, open_below(opener, dir, rel, follow, real), out);
}
