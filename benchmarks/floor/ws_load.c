/*
 * ws_load.c -- a WebSocket load generator: each connection sends a text message and waits for
 * its echo, then sends the next.
 *
 *     ws_load PORT PATH CONNECTIONS SECONDS      (prints one line of JSON)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 32, FRAME_OUT = SIZE + 6, FRAME_IN = SIZE + 2, MOST = 4096 };

static unsigned char frame_out[FRAME_OUT], frame_in[FRAME_IN];

typedef struct conn {
    int fd;
    size_t got; /* bytes of the echo so far */
    unsigned char in[FRAME_IN];
} conn;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "ws_load: %s\n", what);
    exit(1);
}

static void make_frames(void)
{
    static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};
    frame_out[0] = frame_in[0] = 0x81; /* a final text frame */
    frame_out[1] = 0x80 | SIZE;
    frame_in[1] = SIZE;
    memcpy(frame_out + 2, mask, 4);
    for (int i = 0; i < SIZE; i++) {
        frame_in[2 + i] = (unsigned char)('a' + i % 26);
        frame_out[6 + i] = frame_in[2 + i] ^ mask[i % 4];
    }
}

/* A connection after its handshake; blocking until then. */
static int open_one(int port, const char *path)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    struct timeval patience = {.tv_sec = 10};
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        die("cannot connect");
    char head[2048];
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                     path);
    if (send(fd, head, (size_t)n, MSG_NOSIGNAL) != n)
        die("cannot send the handshake");
    size_t got = 0;
    while (got < 4 || !memmem(head, got, "\r\n\r\n", 4)) {
        ssize_t r = recv(fd, head + got, sizeof head - 1 - got, 0);
        if (r <= 0)
            die("no answer to the handshake");
        got += (size_t)r;
    }
    head[got] = '\0';
    if (strncmp(head, "HTTP/1.1 101", 12) != 0)
        die("the handshake was refused");
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return fd;
}

static void send_one(const conn *c)
{
    if (send(c->fd, frame_out, FRAME_OUT, MSG_NOSIGNAL) != FRAME_OUT)
        die("cannot send a message");
}

int main(int argc, char **argv)
{
    if (argc != 5)
        die("usage: ws_load PORT PATH CONNECTIONS SECONDS");
    int count = atoi(argv[3]);
    if (count < 1 || count > MOST)
        die("bad number of connections");
    make_frames();
    static conn conns[MOST];
    struct epoll_event events[512];
    int ep = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        conns[i].fd = open_one(atoi(argv[1]), argv[2]);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &conns[i]};
        epoll_ctl(ep, EPOLL_CTL_ADD, conns[i].fd, &ev);
    }
    double start = now(), end = start + atof(argv[4]), t;
    unsigned long messages = 0;
    for (int i = 0; i < count; i++)
        send_one(&conns[i]);
    while ((t = now()) < end) {
        int n = epoll_wait(ep, events, 512, 100);
        for (int i = 0; i < n; i++) {
            conn *c = events[i].data.ptr;
            ssize_t r = recv(c->fd, c->in + c->got, FRAME_IN - c->got, 0);
            if (r <= 0)
                die("the connection was closed");
            c->got += (size_t)r;
            if (c->got < FRAME_IN)
                continue;
            if (memcmp(c->in, frame_in, FRAME_IN) != 0)
                die("the echo differs");
            c->got = 0;
            messages++;
            send_one(c);
        }
    }
    printf("{\"requests\": %lu, \"seconds\": %.6f}\n", messages, t - start);
    return 0;
}
