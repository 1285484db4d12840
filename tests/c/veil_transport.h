/*
 * veil_transport.h -- a transport that changes every byte, and behaves as encryption may: it reads
 * ahead, waits for the other direction, and has bytes of a write that must be given again.
 */
#ifndef TA_VEIL_TRANSPORT_H
#define TA_VEIL_TRANSPORT_H

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "net/loop.h"
#include "net/transport.h"
#include "ta_test.h"

enum { VEIL_KEY = 0x5a, VEIL_RECORD = 4096 };

typedef struct veil {
    ta_transport t;
    char held[16384]; /* read from the socket, not handed out yet */
    size_t n_held, off;
    char record[VEIL_RECORD]; /* of a write that is not over */
    size_t n_record, sent;
    unsigned reads, writes;
    bool ended;
} veil;

static void veil_bytes(char *to, const char *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (char)(from[i] ^ VEIL_KEY);
}

static int veil_error(void)
{
    return errno == EAGAIN ? TA_AGAIN : TA_ECLOSED;
}

/* Every third read has to "write" first. */
static ssize_t veil_read(ta_transport *t, void *data, size_t cap)
{
    veil *v = (veil *)t;
    t->read_wants = TA_EV_READ;
    if (!v->n_held) {
        if (v->reads++ % 3 == 2) {
            t->read_wants = TA_EV_WRITE;
            return TA_AGAIN;
        }
        ssize_t n = recv(t->fd, v->held, sizeof v->held, 0);
        if (n <= 0)
            return n < 0 ? veil_error() : 0;
        v->off = 0;
        v->n_held = (size_t)n;
    }
    size_t n = TA_MIN(v->n_held, cap);
    veil_bytes(data, v->held + v->off, n);
    v->off += n;
    v->n_held -= n;
    return (ssize_t)n;
}

static size_t veil_pending(const ta_transport *t)
{
    return ((const veil *)t)->n_held;
}

/* One record at a time; every fourth write says TA_AGAIN although the socket has room. */
static ssize_t veil_writev(ta_transport *t, const struct iovec *iov, int n)
{
    veil *v = (veil *)t;
    CHECK(n >= 1 && iov[0].iov_len > 0 && !v->ended);
    if (!v->n_record) {
        v->n_record = TA_MIN(iov[0].iov_len, (size_t)VEIL_RECORD);
        v->sent = 0;
        veil_bytes(v->record, iov[0].iov_base, v->n_record);
        if (v->writes++ % 4 == 3)
            return TA_AGAIN;
    }
    char again[VEIL_RECORD];
    CHECK_INT(iov[0].iov_len, >=, v->n_record);
    veil_bytes(again, iov[0].iov_base, v->n_record);
    CHECK_MEM(again, v->record, v->n_record); /* the same bytes as before */
    while (v->sent < v->n_record) {
        ssize_t k = send(t->fd, v->record + v->sent, v->n_record - v->sent, MSG_NOSIGNAL);
        if (k < 0)
            return veil_error();
        v->sent += (size_t)k;
    }
    n = (int)v->n_record;
    v->n_record = 0;
    return n;
}

static int veil_shutdown(ta_transport *t)
{
    veil *v = (veil *)t;
    CHECK(!v->n_record);
    v->ended = true;
    return TA_OK;
}

static void veil_close(ta_transport *t)
{
    free(t);
}

static const ta_transport_ops veil_ops = {
    .read = veil_read,
    .writev = veil_writev,
    .shutdown = veil_shutdown,
    .pending = veil_pending,
    .close = veil_close,
};

/* Owned by the connection that it is given to. */
TA_UNUSED static ta_transport *veil_new(int fd)
{
    veil *v = calloc(1, sizeof *v);
    CHECK(v != NULL);
    v->t = (ta_transport){&veil_ops, fd, TA_EV_READ, TA_EV_WRITE, true};
    return &v->t;
}

#endif
