/*
 * load.h -- what the load generators share: time, a histogram of latencies, a schedule.
 *
 * The histogram has 64 buckets to each power of two, so that a percentile read from it is at most
 * 1.6 % above the true one.
 */
#ifndef LOAD_H
#define LOAD_H
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { HISTOGRAM_STEPS = 64, HISTOGRAM_SIZE = HISTOGRAM_STEPS * 32 };

static unsigned long histogram[HISTOGRAM_SIZE];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s\n", what);
    exit(1);
}

/* The client must not be what is measured: it wakes when it is due, before others on its core. */
static void be_punctual(void)
{
    prctl(PR_SET_TIMERSLACK, 1UL);
    setpriority(PRIO_PROCESS, 0, -15); /* only root may; without it latencies are a bit longer */
}

/* Buckets below HISTOGRAM_STEPS hold one microsecond each. */
static int bucket_of(double seconds)
{
    double us = seconds * 1e6;
    if (us < HISTOGRAM_STEPS)
        return us < 0 ? 0 : (int)us;
    int power = ilogb(us) - 6; /* us is in [64 << power, 128 << power) */
    int index =
        HISTOGRAM_STEPS * (power + 1) + (int)(us / (double)(1UL << power)) - HISTOGRAM_STEPS;
    return index < HISTOGRAM_SIZE ? index : HISTOGRAM_SIZE - 1;
}

/* The latency, in microseconds, that no entry of the bucket exceeds. */
static unsigned long bucket_end(int index)
{
    int power = index / HISTOGRAM_STEPS - 1;
    if (power < 0)
        return (unsigned long)index + 1;
    return (unsigned long)(HISTOGRAM_STEPS + index % HISTOGRAM_STEPS + 1) << power;
}

static void record(double seconds)
{
    histogram[bucket_of(seconds)]++;
}

/* As the members of a JSON object: the pairs of bucket and count that are not empty. */
static void print_histogram(void)
{
    const char *separator = "";
    printf("\"histogram\": [");
    for (int i = 0; i < HISTOGRAM_SIZE; i++) {
        if (histogram[i] == 0)
            continue;
        printf("%s[%lu, %lu]", separator, bucket_end(i), histogram[i]);
        separator = ", ";
    }
    printf("]");
}

/* Gaps between independent arrivals, exponentially distributed; the same in each run. */
static double next_gap(double rate)
{
    static unsigned long state = 88172645463325252UL;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return -log(((double)(state >> 11) + 0.5) / 9007199254740992.0) / rate;
}

/* A blocking connection. */
static int connect_to(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    struct timeval patience = {.tv_sec = 10};
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (fd < 0)
        die("no socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        die("cannot connect");
    return fd;
}

/* Wait for events until a time; a negative one means for up to 100 ms. */
static int wait_until(int ep, struct epoll_event *events, int most, double when)
{
    double left = when < 0 ? 0.1 : when - now();
    if (left < 0)
        left = 0;
    if (left > 0.1)
        left = 0.1;
    struct timespec t = {.tv_sec = 0, .tv_nsec = (long)(left * 1e9)};
    return epoll_pwait2(ep, events, most, &t, NULL);
}
#endif
