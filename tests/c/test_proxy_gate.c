#include "net/proxy_gate.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include "ta_test.h"

typedef struct heard {
    int fd, peers, bads, gone;
    uint16_t port;
} heard;

static void on_peer(void *ctx, int fd, const struct sockaddr *peer, socklen_t len)
{
    heard *h = ctx;
    h->peers++;
    h->fd = fd;
    if (peer->sa_family == AF_INET && len == sizeof(struct sockaddr_in))
        h->port = ntohs(((const struct sockaddr_in *)(const void *)peer)->sin_port);
}

static void on_bad(void *ctx, const struct sockaddr *peer, socklen_t len)
{
    (void)len;
    CHECK_INT(peer->sa_family, ==, AF_UNIX);
    ((heard *)ctx)->bads++;
}

static void on_gone(void *ctx)
{
    ((heard *)ctx)->gone++;
}

static const ta_proxy_gate_ops ops = {on_peer, on_bad, on_gone};

/* Enters one end of a pair; returns the other. */
static int enter(ta_proxy_gate *gate, const char *first, size_t n)
{
    int pair[2];
    struct sockaddr peer = {.sa_family = AF_UNIX};
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), ==, 0);
    CHECK_INT(write(pair[1], first, n), ==, n);
    CHECK_INT(ta_proxy_gate_enter(gate, pair[0], &peer, sizeof peer), ==, TA_OK);
    return pair[1];
}

static void turn(ta_loop *loop, int ms)
{
    ta_ready ready[1];
    CHECK_INT(ta_loop_poll(loop, ms, ready, 1, NULL), ==, 0);
}

TA_TEST(headers_and_what_follows)
{
    heard h = {.fd = -1};
    char rest[16];
    ta_loop *loop = ta_loop_new(ta_test_with_poll() ? TA_BACKEND_POLL : TA_BACKEND_EPOLL);
    ta_proxy_gate *gate = ta_proxy_gate_new(loop, 0, &ops, &h);
    const char *all = "PROXY TCP4 1.2.3.4 5.6.7.8 77 2\r\nGET /";
    int other = enter(gate, all, strlen(all)); /* it is there already */
    CHECK_INT(h.peers, ==, 1);
    CHECK_INT(h.port, ==, 77);
    CHECK_INT(read(h.fd, rest, sizeof rest), ==, 5);
    CHECK_MEM(rest, "GET /", 5);
    close(h.fd);
    close(other);
    /* byte for byte */
    other = enter(gate, all, 1);
    CHECK_INT(ta_proxy_gate_waiting(gate), ==, 1);
    for (size_t i = 1; i < strlen(all); i++) {
        CHECK_INT(write(other, all + i, 1), ==, 1);
        turn(loop, 0);
    }
    CHECK_INT(h.peers, ==, 2);
    CHECK_INT(read(h.fd, rest, sizeof rest), ==, 5);
    close(h.fd);
    close(other);
    /* of the proxy's own */
    other = enter(gate, "PROXY UNKNOWN\r\n", 15);
    CHECK_INT(h.peers, ==, 3);
    close(h.fd);
    close(other);
    CHECK_INT(h.bads + h.gone, ==, 0);
    CHECK_INT(ta_proxy_gate_waiting(gate), ==, 0);
    ta_proxy_gate_free(gate);
    ta_loop_free(loop);
}

TA_TEST(those_that_do_not_pass)
{
    heard h = {.fd = -1};
    char byte;
    ta_loop *loop = ta_loop_new(ta_test_with_poll() ? TA_BACKEND_POLL : TA_BACKEND_EPOLL);
    ta_proxy_gate *gate = ta_proxy_gate_new(loop, 20, &ops, &h);
    int other = enter(gate, "GET / HTTP/1.1\r\n\r\n", 18);
    CHECK_INT(h.bads, ==, 1);
    CHECK_INT(h.gone, ==, 1);
    CHECK_INT(read(other, &byte, 1), <=, 0);
    close(other);
    other = enter(gate, "", 0); /* looks whether we are there */
    close(other);
    turn(loop, 0);
    CHECK_INT(h.gone, ==, 2);
    CHECK_INT(h.bads, ==, 1);
    other = enter(gate, "PROXY ", 6); /* and goes on too late */
    for (int i = 0; i < 20 && h.gone == 2; i++)
        turn(loop, 10);
    CHECK_INT(h.gone, ==, 3);
    close(other);
    other = enter(gate, "PROXY ", 6); /* waits when all ends */
    ta_proxy_gate_free(gate);
    CHECK_INT(read(other, &byte, 1), ==, 0);
    close(other);
    CHECK_INT(h.peers, ==, 0);
    ta_loop_free(loop);
}
