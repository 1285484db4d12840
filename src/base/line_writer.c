/* line_writer.c -- lines that a thread of its own writes to a descriptor. */
#include "base/line_writer.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"

enum {
    NAP_MS = 10,      /* lines are gathered for so long before they are written */
    LOOK_MS = 100,    /* how often a full non-blocking descriptor is looked at again, at least */
    CHUNK = 64 * 1024 /* bytes of one write, unless it is a pipe */
};

struct ta_line_writer {
    pthread_mutex_t mutex; /* guards what follows, up to `dropped`; never held during a write */
    pthread_cond_t work;   /* for the thread: there is something to do */
    pthread_cond_t rest;   /* all is written, or the thread has ended */
    ta_buf waiting;        /* owned */
    bool awake;            /* the thread looks at `waiting` before it sleeps for long */
    bool hurry;            /* somebody waits for the end of it: no naps */
    bool writing;
    bool closing;
    bool ended;
    bool orphan;    /* nobody joins the thread: it frees the writer */
    ta_buf leaving; /* owned: what the thread writes */
    atomic_ullong dropped, told;
    atomic_size_t written; /* bytes of `leaving` */
    /* constant */
    int fd;
    size_t room, chunk;
    pid_t pid; /* a forked child has no thread, and the mutex may be held for ever there */
    pthread_t thread;
};

static unsigned long long count_lines(ta_str text)
{
    unsigned long long n = 0;
    const char *p = text.ptr, *end = text.ptr + text.len;
    while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
        n++;
        p++;
    }
    return n;
}

static void drop(ta_line_writer *writer, ta_str lines)
{
    atomic_fetch_add_explicit(&writer->dropped, count_lines(lines), memory_order_relaxed);
}

static struct timespec after(unsigned ms)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ts.tv_sec += ms / 1000;
    ts.tv_nsec += (long)(ms % 1000) * 1000000;
    if (ts.tv_nsec >= 1000000000) {
        ts.tv_sec++;
        ts.tv_nsec -= 1000000000;
    }
    return ts;
}

/* The longest beginning of whole lines within `room` bytes. */
static size_t whole_lines(ta_str lines, size_t room)
{
    if (lines.len <= room)
        return lines.len;
    const char *last = room ? memrchr(lines.ptr, '\n', room) : NULL;
    return last ? (size_t)(last - lines.ptr) + 1 : 0;
}

/* -- the thread ------------------------------------------------------------------------------- */

static void await_room(const ta_line_writer *writer)
{
    struct pollfd p = {.fd = writer->fd, .events = POLLOUT};
    (void)poll(&p, 1, LOOK_MS);
}

static bool may_go_on(ta_line_writer *writer)
{
    pthread_mutex_lock(&writer->mutex);
    bool orphan = writer->orphan;
    pthread_mutex_unlock(&writer->mutex);
    return !orphan;
}

/* Writes what is in `leaving`; what can't be written is dropped. */
static void write_out(ta_line_writer *writer)
{
    ta_str left = ta_buf_str(&writer->leaving);
    while (left.len > 0) {
        size_t n = whole_lines(left, writer->chunk);
        ssize_t wrote = write(writer->fd, left.ptr, n ? n : TA_MIN(left.len, writer->chunk));
        if (wrote >= 0) {
            left = ta_str_of(left.ptr + wrote, left.len - (size_t)wrote);
            atomic_fetch_add_explicit(&writer->written, (size_t)wrote, memory_order_relaxed);
        } else if (errno == EAGAIN && may_go_on(writer)) {
            await_room(writer);
        } else if (errno != EINTR) {
            drop(writer, left);
            break;
        }
    }
}

/* With the mutex held: waits until there is something to write.  False: it is over. */
static bool next(ta_line_writer *writer)
{
    while (writer->waiting.len == 0) {
        writer->awake = false;
        pthread_cond_broadcast(&writer->rest);
        if (writer->closing)
            return false;
        pthread_cond_wait(&writer->work, &writer->mutex);
    }
    writer->awake = true;
    struct timespec until = after(NAP_MS);
    while (!writer->closing && !writer->hurry && writer->waiting.len < writer->room / 2 &&
           pthread_cond_timedwait(&writer->work, &writer->mutex, &until) != ETIMEDOUT)
        ;
    return true;
}

static void destroy(ta_line_writer *writer)
{
    ta_buf_free(&writer->waiting);
    ta_buf_free(&writer->leaving);
    pthread_cond_destroy(&writer->work);
    pthread_cond_destroy(&writer->rest);
    pthread_mutex_destroy(&writer->mutex);
    ta_free(writer);
}

static void *run(void *arg)
{
    ta_line_writer *writer = arg;
    pthread_mutex_lock(&writer->mutex);
    while (!writer->orphan && next(writer)) {
        ta_buf full = writer->waiting;
        writer->waiting = writer->leaving;
        writer->leaving = full;
        writer->writing = true;
        pthread_mutex_unlock(&writer->mutex);
        write_out(writer);
        pthread_mutex_lock(&writer->mutex);
        writer->writing = false;
        ta_buf_clear(&writer->leaving);
        atomic_store_explicit(&writer->written, 0, memory_order_relaxed);
    }
    writer->ended = true;
    bool orphan = writer->orphan;
    pthread_cond_broadcast(&writer->rest);
    pthread_mutex_unlock(&writer->mutex);
    if (orphan)
        destroy(writer);
    return NULL;
}

/* -- for others ------------------------------------------------------------------------------- */

void ta_line_writer_put(ta_line_writer *writer, ta_str lines)
{
    pthread_mutex_lock(&writer->mutex);
    size_t before = writer->waiting.len;
    size_t n = writer->closing ? 0 : whole_lines(lines, writer->room - before);
    if (n > 0 && ta_buf_append(&writer->waiting, lines.ptr, n) != TA_OK)
        n = 0;
    size_t half = writer->room / 2;
    bool wake = n > 0 && (!writer->awake || (before < half && before + n >= half));
    writer->awake |= n > 0;
    pthread_mutex_unlock(&writer->mutex);
    if (wake)
        pthread_cond_signal(&writer->work);
    if (TA_UNLIKELY(n < lines.len))
        drop(writer, ta_str_of(lines.ptr + n, lines.len - n));
}

uint64_t ta_line_writer_dropped(const ta_line_writer *writer)
{
    return atomic_load_explicit(&writer->dropped, memory_order_relaxed);
}

uint64_t ta_line_writer_untold(ta_line_writer *writer)
{
    unsigned long long dropped = atomic_load_explicit(&writer->dropped, memory_order_relaxed);
    if (TA_LIKELY(dropped == atomic_load_explicit(&writer->told, memory_order_relaxed)))
        return 0;
    pthread_mutex_lock(&writer->mutex);
    bool recovered = writer->ended || writer->waiting.len < writer->room / 2;
    pthread_mutex_unlock(&writer->mutex);
    if (!recovered)
        return 0;
    return dropped - atomic_exchange_explicit(&writer->told, dropped, memory_order_relaxed);
}

/* With the mutex held: waits until all is written, or the thread has ended.  False: neither. */
static bool await_rest(ta_line_writer *writer, unsigned ms)
{
    struct timespec until = after(ms);
    while (!writer->ended && (writer->closing || writer->writing || writer->waiting.len > 0))
        if (pthread_cond_timedwait(&writer->rest, &writer->mutex, &until) == ETIMEDOUT)
            return false;
    return true;
}

bool ta_line_writer_flush(ta_line_writer *writer, unsigned ms)
{
    if (getpid() != writer->pid)
        return false;
    pthread_mutex_lock(&writer->mutex);
    writer->hurry = true;
    pthread_cond_signal(&writer->work);
    bool done = await_rest(writer, ms) && writer->waiting.len == 0;
    writer->hurry = false;
    pthread_mutex_unlock(&writer->mutex);
    return done;
}

bool ta_line_writer_close(ta_line_writer *writer, unsigned ms)
{
    if (getpid() != writer->pid)
        return false;
    pthread_mutex_lock(&writer->mutex);
    writer->closing = true;
    pthread_cond_signal(&writer->work);
    bool done = await_rest(writer, ms);
    if (!done) {
        size_t written = atomic_load_explicit(&writer->written, memory_order_relaxed);
        ta_str leaving = ta_buf_str(&writer->leaving);
        drop(writer, ta_str_of(leaving.ptr + written, leaving.len - written));
        drop(writer, ta_buf_str(&writer->waiting));
        ta_buf_clear(&writer->waiting);
    }
    pthread_mutex_unlock(&writer->mutex);
    return done;
}

void ta_line_writer_free(ta_line_writer *writer)
{
    if (writer == NULL || getpid() != writer->pid) /* of a forked child: never, as it may be held */
        return;
    (void)ta_line_writer_close(writer, 0);
    pthread_t thread = writer->thread;
    pthread_mutex_lock(&writer->mutex);
    bool ended = writer->ended;
    writer->orphan = !ended;
    pthread_mutex_unlock(&writer->mutex);
    if (!ended) {
        pthread_detach(thread); /* it is stuck in a write */
        return;
    }
    pthread_join(thread, NULL);
    destroy(writer);
}

static int start(ta_line_writer *writer)
{
    pthread_condattr_t attr;
    sigset_t all, before;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&writer->mutex, NULL);
    pthread_cond_init(&writer->work, &attr);
    pthread_cond_init(&writer->rest, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all); /* signals are for the other threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&writer->thread, NULL, run, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? TA_OK : TA_ENOMEM;
}

ta_line_writer *ta_line_writer_new(int fd, size_t room)
{
    struct stat st;
    ta_line_writer *writer = ta_calloc(1, sizeof *writer);
    if (writer == NULL)
        return NULL;
    writer->fd = fd;
    writer->room = room;
    writer->chunk = fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) ? PIPE_BUF : CHUNK;
    writer->pid = getpid();
    if (start(writer) != TA_OK) {
        destroy(writer);
        return NULL;
    }
    return writer;
}
