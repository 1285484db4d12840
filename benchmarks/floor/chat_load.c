/*
 * chat_load.c -- the members of a chat: each has a WebSocket, one of them says something in turn,
 * and all of them are to hear it.
 *
 *     chat_load PORT PATH MEMBERS RATE WARMUP SECONDS      (prints one line of JSON)
 *
 * RATE is messages a second, at exponential gaps, not slowed by late answers; 0 means that the next
 * is said when all have heard the last but three (which finds the peak).  A latency is from the
 * time at which a message was to be said to that at which a member hears it, so there are MEMBERS
 * of each message.  Every message must reach every member once, unchanged.
 */
#define _GNU_SOURCE
#include "load.h"
#include <fcntl.h>

enum { SIZE = 64, MOST = 1024, ROOM = 1 << 14, IN_FLIGHT = 4, PATIENCE = 3, LOG = 1 << 20 };

typedef struct member {
    int fd;
    size_t got;
    unsigned char in[ROOM];
} member;

static member *members;
static double intended[LOG]; /* of each message, by its number */
static unsigned short heard[LOG];
static unsigned long said, complete, deliveries, answered, wrong;
static double count_from;
static int count;

/* A connection after its handshake. */
static int open_one(int port, const char *path)
{
    int fd = connect_to(port);
    char head[2048];
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                     path);
    if (send(fd, head, (size_t)n, MSG_NOSIGNAL) != n)
        die("cannot send the handshake");
    size_t got = 0;
    while (got < 4 || memcmp(head + got - 4, "\r\n\r\n", 4) != 0) {
        /* Byte by byte: what follows the head is the chat's. */
        if (got == sizeof head || recv(fd, head + got, 1, 0) != 1)
            die("no answer to the handshake");
        got++;
    }
    if (strncmp(head, "HTTP/1.1 101", 12) != 0)
        die("the handshake was refused");
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static void say(double when)
{
    static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
    unsigned char frame[6 + SIZE];
    char text[SIZE + 1];
    if (said == LOG)
        die("too many messages");
    snprintf(text, sizeof text, "message %010lu %045d", said, 0);
    frame[0] = 0x81; /* a final text frame */
    frame[1] = 0x80 | SIZE;
    memcpy(frame + 2, mask, 4);
    for (int i = 0; i < SIZE; i++)
        frame[6 + i] = (unsigned char)text[i] ^ mask[i % 4];
    intended[said] = when;
    if (send(members[said % (unsigned long)count].fd, frame, sizeof frame, MSG_NOSIGNAL) !=
        (ssize_t)sizeof frame)
        die("cannot send a message");
    said++;
}

static void hear(const char *text, size_t size, double t)
{
    unsigned long number;
    if (size != SIZE || sscanf(text, "message %10lu", &number) != 1 || number >= said ||
        text[SIZE - 1] != '0') {
        wrong++;
        return;
    }
    if (++heard[number] == count)
        complete++;
    if (heard[number] > count)
        wrong++;
    answered++;
    if (intended[number] >= count_from) {
        deliveries++;
        record(t - intended[number]);
    }
}

static void receive(member *m, double t)
{
    ssize_t n = recv(m->fd, m->in + m->got, ROOM - m->got, 0);
    if (n <= 0)
        die("the connection was closed");
    m->got += (size_t)n;
    size_t at = 0;
    while (m->got - at >= 2) {
        size_t size = m->in[at + 1];
        if (size > 125)
            die("a frame longer than any message");
        if (m->got - at < 2 + size)
            break;
        if (m->in[at] == 0x81)
            hear((char *)m->in + at + 2, size, t);
        else if (m->in[at] == 0x88)
            die("the server closed the chat");
        at += 2 + size;
    }
    memmove(m->in, m->in + at, m->got - at);
    m->got -= at;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        die("usage: chat_load PORT PATH MEMBERS RATE WARMUP SECONDS");
    count = atoi(argv[3]);
    double rate = atof(argv[4]), warmup = atof(argv[5]), seconds = atof(argv[6]);
    if (count < 1 || count > MOST)
        die("bad number of members");
    struct epoll_event events[MOST];
    int ep = epoll_create1(0);
    members = calloc((size_t)count, sizeof *members);
    if (members == NULL)
        die("no memory");
    for (int i = 0; i < count; i++) {
        members[i].fd = open_one(atoi(argv[1]), argv[2]);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &members[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, members[i].fd, &ev);
    }
    usleep(300000); /* the server joins the last of them to its room */
    be_punctual();
    double start = now(), t = start, end = start + warmup + seconds, due = start;
    count_from = start + warmup;
    for (;;) {
        if (rate <= 0) {
            while (said - complete < IN_FLIGHT && t < end)
                say(t);
        } else {
            for (; due <= t && due < end; due += next_gap(rate))
                say(due);
        }
        if (t >= end && complete == said && (rate <= 0 || due >= end))
            break;
        if (t >= end + PATIENCE)
            break;
        int n = wait_until(ep, events, MOST, rate > 0 && due < end ? due : -1);
        t = now();
        for (int i = 0; i < n; i++)
            receive(events[i].data.ptr, t);
    }
    unsigned long missing = said * (unsigned long)count;
    for (unsigned long i = 0; i < said; i++)
        missing -= heard[i];
    printf("{\"requests\": %lu, \"answered\": %lu, \"seconds\": %.6f, \"errors\": %lu, "
           "\"unanswered\": %lu, ",
           deliveries, answered, (rate > 0 ? end : t) - count_from, wrong, missing);
    print_histogram();
    printf("}\n");
    return 0;
}
