/*
 * open_load.c -- an open-loop load generator for HTTP/1.1: requests start when a schedule says so,
 * whether or not earlier ones were answered, and a latency counts from the time at which the
 * request was to start.  So a server that stops for a moment is charged for all who would have
 * come meanwhile (wrk2's method).  The schedule is that of independent users: exponential gaps.
 *
 *     open_load PORT REQUEST CONNECTIONS RATE WARMUP SECONDS      (prints one line of JSON)
 *
 * REQUEST is a file with the bytes of one request.  RATE 0 means a closed loop: each connection
 * sends the next request when it has its answer, which finds the peak.  Requests of the first
 * WARMUP seconds are sent, but not counted.  Each answer must have status 200 and the body of the
 * first one.
 */
#define _GNU_SOURCE
#include "load.h"
#include <fcntl.h>

enum { MOST = 1024, ROOM = 1 << 18, PATIENCE = 3 };

typedef struct conn {
    int fd;
    size_t got;
    double intended; /* when the request in flight was to start */
    char in[ROOM];
} conn;

static conn *conns;
static char request[1 << 16];
static size_t request_size;
static char *first_body; /* of the first answer */
static size_t first_size;
static unsigned long requests, answered, errors;
static double count_from;

static void send_one(conn *c, double intended)
{
    c->intended = intended;
    c->got = 0;
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size)
        die("cannot send a request");
}

/* Is the body at `at` whole?  Its size then goes to `size`, as it is on the wire. */
static int body_is_whole(const char *head, const char *at, const char *end, size_t *size)
{
    const char *field = strcasestr(head, "\r\ncontent-length:");
    if (field && field < at) {
        *size = strtoul(field + 17, NULL, 10);
        return (size_t)(end - at) >= *size;
    }
    field = strcasestr(head, "\r\ntransfer-encoding: chunked");
    if (!field || field >= at)
        die("an answer without a length");
    *size = (size_t)(end - at);
    return *size >= 5 && memcmp(end - 5, "0\r\n\r\n", 5) == 0;
}

static void check(const conn *c, const char *body, size_t size)
{
    if (first_body == NULL) {
        first_body = malloc(size + 1);
        first_size = size;
        if (first_body == NULL)
            die("no memory");
        memcpy(first_body, body, size);
    }
    if (strncmp(c->in, "HTTP/1.1 200", 12) != 0 || size != first_size ||
        memcmp(body, first_body, size) != 0)
        errors++;
}

/* Read what is there; 1 when the answer is whole. */
static int receive(conn *c, double t)
{
    ssize_t n = recv(c->fd, c->in + c->got, ROOM - 1 - c->got, 0);
    size_t size;
    if (n <= 0)
        die("the connection was closed");
    c->got += (size_t)n;
    c->in[c->got] = '\0';
    char *body = strstr(c->in, "\r\n\r\n");
    if (body == NULL)
        return 0;
    body += 4;
    if (!body_is_whole(c->in, body, c->in + c->got, &size))
        return 0;
    check(c, body, size);
    answered++;
    if (c->intended >= count_from) {
        requests++;
        record(t - c->intended);
    }
    return 1;
}

static void read_request(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        die("cannot read the request");
    request_size = fread(request, 1, sizeof request, file);
    fclose(file);
}

static int open_all(int port, int count)
{
    int ep = epoll_create1(0);
    conns = calloc((size_t)count, sizeof *conns);
    if (conns == NULL)
        die("no memory");
    for (int i = 0; i < count; i++) {
        conns[i].fd = connect_to(port);
        fcntl(conns[i].fd, F_SETFL, fcntl(conns[i].fd, F_GETFL) | O_NONBLOCK);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &conns[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, conns[i].fd, &ev);
    }
    return ep;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        die("usage: open_load PORT REQUEST CONNECTIONS RATE WARMUP SECONDS");
    int count = atoi(argv[3]), idle_count = 0;
    double rate = atof(argv[4]), warmup = atof(argv[5]), seconds = atof(argv[6]);
    if (count < 1 || count > MOST)
        die("bad number of connections");
    static conn *idle[MOST];
    struct epoll_event events[MOST];
    read_request(argv[2]);
    int ep = open_all(atoi(argv[1]), count);
    be_punctual();
    double start = now(), t = start, end = start + warmup + seconds;
    double due = start; /* when the next request is to start */
    unsigned long waiting = 0;
    count_from = start + warmup;
    for (int i = count - 1; i >= 0; i--)
        idle[idle_count++] = &conns[i];
    for (;;) {
        if (rate <= 0) {
            while (idle_count > 0 && t < end)
                send_one(idle[--idle_count], t);
        } else {
            while (idle_count > 0 && due <= t && due < end) {
                send_one(idle[--idle_count], due);
                due += next_gap(rate);
            }
        }
        if (t >= end && idle_count == count && (rate <= 0 || due >= end))
            break;
        if (t >= end + PATIENCE)
            break;
        double wake = rate > 0 && idle_count > 0 && due < end ? due : -1;
        int n = wait_until(ep, events, MOST, wake);
        t = now();
        for (int i = 0; i < n; i++) {
            conn *c = events[i].data.ptr;
            if (receive(c, t))
                idle[idle_count++] = c;
        }
    }
    /* Who was not answered in the time of patience, sent or not. */
    waiting = (unsigned long)(count - idle_count);
    for (; rate > 0 && due < end; due += next_gap(rate))
        waiting++;
    printf("{\"requests\": %lu, \"answered\": %lu, \"seconds\": %.6f, \"errors\": %lu, "
           "\"unanswered\": %lu, ",
           requests, answered, (rate > 0 ? end : t) - count_from, errors, waiting);
    print_histogram();
    printf("}\n");
    return 0;
}
