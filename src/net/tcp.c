#include "net/tcp.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "net/loop.h"

/* What errno means for a connection. */
static int error_of(int err)
{
    switch (err) {
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
        return TA_AGAIN;
    case ECONNRESET:
    case EPIPE:
    case ETIMEDOUT: /* keep-alive or retransmission gave up */
    case ENOTCONN:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return TA_ECLOSED;
    default:
        return TA_ESYS;
    }
}

static ssize_t tcp_read(ta_transport *s, void *data, size_t cap)
{
    ssize_t n;
    do
        n = recv(s->fd, data, cap, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? error_of(errno) : n;
}

static ssize_t tcp_writev(ta_transport *s, const struct iovec *iov, int count)
{
    ssize_t n;
    do {
        if (count == 1) {
            n = send(s->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
        } else {
            struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
            n = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? error_of(errno) : n;
}

static ssize_t tcp_sendfile(ta_transport *s, int fd, int64_t offset, size_t len)
{
    off_t at = (off_t)offset;
    ssize_t n;
    do
        n = sendfile(s->fd, fd, &at, TA_MIN(len, (size_t)0x7ffff000));
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    /* a file that cannot be mapped: ta_conn reads it instead */
    if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
        return TA_EUNSUPPORTED;
    return error_of(errno);
}

static int tcp_shutdown(ta_transport *s)
{
    return shutdown(s->fd, SHUT_WR) < 0 ? error_of(errno) : TA_OK;
}

static const ta_transport_ops tcp_ops = {
    .read = tcp_read,
    .writev = tcp_writev,
    .sendfile = tcp_sendfile,
    .shutdown = tcp_shutdown,
};

void ta_tcp_init(ta_transport *s, int fd)
{
    *s = (ta_transport){
        .ops = &tcp_ops,
        .fd = fd,
        .read_wants = TA_EV_READ,
        .write_wants = TA_EV_WRITE,
    };
}
