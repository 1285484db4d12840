/*
 * limit_epoll.c -- the floor: the least work that answers HTTP at all on this machine.
 *
 * One thread, epoll, a constant answer to everything that ends in an empty line.  It parses nothing
 * else and checks nothing: no server that does its job can be cheaper.
 *
 *     limit_epoll PORT
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char response[] = "HTTP/1.1 200 OK\r\n"
                               "content-type: application/json\r\n"
                               "content-length: 27\r\n"
                               "\r\n"
                               "{\"message\":\"Hello, World!\"}";

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 4096) < 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static void watch(int ep, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

static void accept_all(int ep, int listener)
{
    int on = 1;
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(ep, fd);
    }
}

/* One read, one write: as many answers as there were ends of a head. */
static void serve(int fd)
{
    static char in[65536], out[65536];
    ssize_t n = recv(fd, in, sizeof in, 0);
    if (n <= 0) {
        close(fd);
        return;
    }
    size_t len = 0;
    const char *p = in, *end = in + n;
    while ((p = memmem(p, (size_t)(end - p), "\r\n\r\n", 4)) != NULL &&
           len + sizeof response <= sizeof out) {
        memcpy(out + len, response, sizeof response - 1);
        len += sizeof response - 1;
        p += 4;
    }
    if (len > 0 && send(fd, out, len, MSG_NOSIGNAL) < 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct epoll_event events[512];
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 8000);
    int ep = epoll_create1(0);
    watch(ep, listener);
    for (;;) {
        int n = epoll_wait(ep, events, 512, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                accept_all(ep, listener);
            else
                serve(events[i].data.fd);
        }
    }
}
