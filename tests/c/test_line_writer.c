/* Lines that a thread writes: whole, in order, counted when they are dropped. */
#include "base/line_writer.h"
#include "ta_test.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>

static void open_pipe(int fds[2])
{
    CHECK_INT(pipe(fds), ==, 0);
}

static size_t read_all(int fd, char *out, size_t size)
{
    size_t len = 0;
    ssize_t n;
    while (len < size && (n = read(fd, out + len, size - len)) > 0)
        len += (size_t)n;
    return len;
}

TA_TEST(lines_arrive_in_order)
{
    static char out[1 << 20];
    int fds[2];
    open_pipe(fds);
    CHECK_INT(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20), >, 0);
    ta_line_writer *writer = ta_line_writer_new(fds[1], 1 << 20);
    CHECK(writer != NULL);
    for (int i = 0; i < 5000; i++) {
        char line[64];
        int n = snprintf(line, sizeof line, "line %d\n", i);
        ta_line_writer_put(writer, ta_str_of(line, (size_t)n));
        if (i % 1000 == 0)
            CHECK(ta_line_writer_flush(writer, 10000));
    }
    CHECK(ta_line_writer_close(writer, 10000));
    CHECK(ta_line_writer_close(writer, 0));
    CHECK_INT(ta_line_writer_dropped(writer), ==, 0);
    ta_line_writer_put(writer, TA_STR("late\nlater\n"));
    CHECK_INT(ta_line_writer_dropped(writer), ==, 2);
    ta_line_writer_free(writer);
    close(fds[1]);
    size_t len = read_all(fds[0], out, sizeof out - 1);
    out[len] = 0;
    const char *p = out;
    for (int i = 0; i < 5000; i++) {
        int seen = -1, used = 0;
        CHECK(sscanf(p, "line %d\n%n", &seen, &used) == 1);
        CHECK_INT(seen, ==, i);
        p += used;
    }
    CHECK(*p == 0);
}

static void fill_pipe(int fd)
{
    static const char block[4096];
    CHECK_INT(fcntl(fd, F_SETFL, O_NONBLOCK), ==, 0);
    while (write(fd, block, sizeof block) > 0)
        ;
    CHECK_INT(fcntl(fd, F_SETFL, 0), ==, 0);
}

/* Nobody reads: what does not fit is dropped, by lines, and told once the reader goes on. */
TA_TEST(a_full_pipe_drops)
{
    static char out[1 << 20];
    int fds[2];
    open_pipe(fds);
    fill_pipe(fds[1]);
    ta_line_writer *writer = ta_line_writer_new(fds[1], 40);
    CHECK(writer != NULL);
    ta_line_writer_put(writer, TA_STR("first-one\n")); /* the thread gets stuck with this */
    usleep(100000);
    for (int i = 0; i < 4; i++)
        ta_line_writer_put(writer, TA_STR("123456789\n")); /* the room, to its last byte */
    CHECK_INT(ta_line_writer_dropped(writer), ==, 0);
    ta_line_writer_put(writer, TA_STR("x\n"));
    CHECK_INT(ta_line_writer_dropped(writer), ==, 1);
    ta_line_writer_put(writer, TA_STR("a\nb\nc\n"));
    CHECK_INT(ta_line_writer_dropped(writer), ==, 4);
    CHECK_INT(ta_line_writer_untold(writer), ==, 0); /* not while it is full */
    CHECK(!ta_line_writer_flush(writer, 20));
    CHECK_INT(fcntl(fds[0], F_SETFL, O_NONBLOCK), ==, 0);
    size_t len = read_all(fds[0], out, sizeof out);
    CHECK(ta_line_writer_flush(writer, 10000));
    CHECK_INT(ta_line_writer_untold(writer), ==, 4);
    CHECK_INT(ta_line_writer_untold(writer), ==, 0);
    len += read_all(fds[0], out + len, sizeof out - len);
    static const char *const want = "first-one\n123456789\n123456789\n123456789\n123456789\n";
    CHECK_INT(len, >, strlen(want));
    CHECK(memcmp(out + len - strlen(want), want, strlen(want)) == 0);
    ta_line_writer_free(writer);
    close(fds[0]);
    close(fds[1]);
}

/* Of lines that come together, those that fit are taken. */
TA_TEST(a_batch_is_cut_between_lines)
{
    int fds[2];
    char out[64];
    open_pipe(fds);
    ta_line_writer *writer = ta_line_writer_new(fds[1], 11);
    CHECK(writer != NULL);
    ta_line_writer_put(writer, TA_STR("1234\n6789\nabc\n"));
    CHECK(ta_line_writer_flush(writer, 10000));
    CHECK_INT(read(fds[0], out, sizeof out), ==, 10);
    CHECK(memcmp(out, "1234\n6789\n", 10) == 0);
    CHECK_INT(ta_line_writer_untold(writer), ==, 1);
    ta_line_writer_free(writer);
    close(fds[0]);
    close(fds[1]);
}

/* The end does not wait for a reader that is stuck; what it never got is counted. */
TA_TEST(the_end_is_bounded)
{
    int fds[2];
    open_pipe(fds);
    fill_pipe(fds[1]);
    ta_line_writer *writer = ta_line_writer_new(fds[1], 1000);
    CHECK(writer != NULL);
    ta_line_writer_put(writer, TA_STR("one\n"));
    usleep(100000);
    ta_line_writer_put(writer, TA_STR("two\nthree\n"));
    CHECK(!ta_line_writer_close(writer, 50));
    CHECK_INT(ta_line_writer_dropped(writer), ==, 3);
    ta_line_writer_free(writer);
    close(fds[0]); /* the thread is let go, and frees the writer */
    usleep(100000);
}

TA_TEST(a_reader_that_is_gone)
{
    int fds[2];
    signal(SIGPIPE, SIG_IGN);
    open_pipe(fds);
    close(fds[0]);
    ta_line_writer *writer = ta_line_writer_new(fds[1], 1000);
    CHECK(writer != NULL);
    ta_line_writer_put(writer, TA_STR("one\ntwo\n"));
    CHECK(ta_line_writer_flush(writer, 10000));
    CHECK_INT(ta_line_writer_dropped(writer), ==, 2);
    CHECK_INT(ta_line_writer_untold(writer), ==, 2);
    ta_line_writer_free(writer);
    close(fds[1]);
}

TA_TEST(a_descriptor_that_does_not_block)
{
    static char out[1 << 20];
    int fds[2];
    open_pipe(fds);
    fill_pipe(fds[1]);
    CHECK_INT(fcntl(fds[1], F_SETFL, O_NONBLOCK), ==, 0);
    CHECK_INT(fcntl(fds[0], F_SETFL, O_NONBLOCK), ==, 0);
    ta_line_writer *writer = ta_line_writer_new(fds[1], 1000);
    CHECK(writer != NULL);
    ta_line_writer_put(writer, TA_STR("one\n"));
    CHECK(!ta_line_writer_flush(writer, 50));
    size_t len = read_all(fds[0], out, sizeof out);
    CHECK(ta_line_writer_flush(writer, 10000));
    len += read_all(fds[0], out + len, sizeof out - len); // unless it came with what was there
    CHECK(len > 4 && memcmp(out + len - 4, "one\n", 4) == 0);
    CHECK_INT(ta_line_writer_dropped(writer), ==, 0);
    ta_line_writer_free(writer);
    close(fds[0]);
    close(fds[1]);
}

typedef struct job {
    ta_line_writer *writer;
    int number;
} job;

static void *put_many(void *arg)
{
    job *j = arg;
    for (int i = 0; i < 2000; i++) {
        char line[64];
        int n = snprintf(line, sizeof line, "%d:%d\n", j->number, i);
        ta_line_writer_put(j->writer, ta_str_of(line, (size_t)n));
    }
    return NULL;
}

TA_TEST(several_threads)
{
    static char out[1 << 20];
    int fds[2], next[4] = {0};
    open_pipe(fds);
    CHECK_INT(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20), >, 0);
    ta_line_writer *writer = ta_line_writer_new(fds[1], 1 << 20);
    CHECK(writer != NULL);
    pthread_t threads[4];
    job jobs[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = (job){writer, i};
        CHECK_INT(pthread_create(&threads[i], NULL, put_many, &jobs[i]), ==, 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(ta_line_writer_close(writer, 10000));
    ta_line_writer_free(writer);
    close(fds[1]);
    out[read_all(fds[0], out, sizeof out - 1)] = 0;
    int lines = 0;
    for (char *save, *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        int thread, i;
        CHECK(sscanf(line, "%d:%d", &thread, &i) == 2);
        CHECK_INT(i, ==, next[thread]++);
        lines++;
    }
    CHECK_INT(lines, ==, 8000);
}
