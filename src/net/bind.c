/* Making, adopting and naming listening sockets (the first half of listener.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/listener.h"

enum { BACKLOG = 2048, FIRST_PASSED_FD = 3 };

static int backlog_of(const ta_bind_cfg *cfg)
{
    return cfg && cfg->backlog > 0 ? cfg->backlog : BACKLOG;
}

static void close_keeping_errno(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
}

/* -- TCP ------------------------------------------------------------------------------------ */

typedef union any_addr {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage storage;
} any_addr;

static int bind_one(const struct addrinfo *ai, uint16_t port, bool dual, const ta_bind_cfg *cfg)
{
    any_addr addr = {0};
    int on = 1, off = 0;
    memcpy(&addr, ai->ai_addr, TA_MIN((size_t)ai->ai_addrlen, sizeof(addr)));
    if (ai->ai_family == AF_INET6)
        addr.v6.sin6_port = htons(port);
    else
        addr.v4.sin_port = htons(port);
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0)
        return TA_ESYS;
    /* Without REUSEADDR a restart fails while old connections are in TIME_WAIT. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
        goto fail;
    if (cfg && cfg->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
        goto fail;
    if (ai->ai_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, dual ? &off : &on, sizeof(on)) < 0)
        goto fail;
    if (bind(fd, &addr.sa, ai->ai_addrlen) < 0 || listen(fd, backlog_of(cfg)) < 0)
        goto fail;
    return fd;
fail:
    close_keeping_errno(fd);
    return TA_ESYS;
}

static int port_of(int fd, uint16_t *port)
{
    any_addr addr = {0};
    socklen_t len = sizeof(addr);
    if (getsockname(fd, &addr.sa, &len) < 0)
        return TA_ESYS;
    *port = ntohs(addr.sa.sa_family == AF_INET6 ? addr.v6.sin6_port : addr.v4.sin_port);
    return TA_OK;
}

/* All addresses of the list with one port; `any`: "::" alone, dual-stack, if that can be had. */
static int bind_list(const struct addrinfo *list, bool any, uint16_t port, const ta_bind_cfg *cfg,
                     int *fds)
{
    int n = 0, failed = 0;
    bool dual = !(cfg && cfg->v6_only);
    for (const struct addrinfo *ai = list; ai && n < TA_BIND_MAX; ai = ai->ai_next) {
        if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
            continue;
        bool wildcard6 = ai->ai_family == AF_INET6 &&
                         IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)ai->ai_addr)->sin6_addr);
        int fd = bind_one(ai, port, dual && wildcard6, cfg);
        if (fd < 0) {
            failed = errno;
            /* localhost without IPv6, and the like: the other addresses will do */
            if (failed == EADDRNOTAVAIL || failed == EAFNOSUPPORT)
                continue;
            goto fail;
        }
        fds[n++] = fd;
        if (port == 0 && port_of(fd, &port) < 0) {
            failed = errno;
            goto fail;
        }
        if (any && wildcard6 && dual)
            break;
    }
    if (n)
        return n;
fail:
    while (n > 0)
        close(fds[--n]);
    errno = failed ? failed : EADDRNOTAVAIL;
    return TA_ESYS;
}

int ta_bind_tcp(const char *host, uint16_t port, const ta_bind_cfg *cfg, int *fds)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    bool any = !host || !*host;
    /* "::" first: one socket for both families */
    int rc = any ? getaddrinfo("::", "0", &hints, &list) : getaddrinfo(host, "0", &hints, &list);
    if (rc != 0)
        goto resolve_failed;
    int n = TA_ESYS;
    /* A port that the system chose for one address may be taken on another: try again. */
    for (int attempt = 0; attempt < (port ? 1 : 8); attempt++) {
        n = bind_list(list, any, port, cfg, fds);
        if (n > 0 || errno != EADDRINUSE)
            break;
    }
    int saved = errno;
    freeaddrinfo(list);
    errno = saved;
    if (n == TA_ESYS && any && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
        return ta_bind_tcp("0.0.0.0", port, cfg, fds);
    return n;
resolve_failed:
    if (any)
        return ta_bind_tcp("0.0.0.0", port, cfg, fds);
    if (rc == EAI_SYSTEM)
        return TA_ESYS;
    if (rc == EAI_MEMORY)
        return TA_ENOMEM;
    return TA_ENOTFOUND;
}

/* -- unix sockets --------------------------------------------------------------------------- */

static int unix_addr(const char *path, struct sockaddr_un *addr, socklen_t *len)
{
    size_t n = strlen(path);
    bool abstract = path[0] == '@';
    if (n == 0 || n + (abstract ? 0 : 1) > sizeof(addr->sun_path))
        return TA_ETOOLARGE;
    memset(addr, 0, sizeof(*addr));
    addr->sun_family = AF_UNIX;
    memcpy(addr->sun_path, path, n);
    if (abstract)
        addr->sun_path[0] = '\0';
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (abstract ? 0 : 1));
    return TA_OK;
}

/* Is the file at `addr` a socket that nobody listens on?  Then it is removed. */
static bool remove_stale(const char *path, const struct sockaddr_un *addr, socklen_t len)
{
    struct stat st;
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return false;
    int rc = connect(probe, (const struct sockaddr *)addr, len);
    bool dead = rc < 0 && errno == ECONNREFUSED; /* EAGAIN: its backlog is full, so it is alive */
    close(probe);
    return dead && unlink(path) == 0;
}

int ta_bind_unix(const char *path, int mode, const ta_bind_cfg *cfg)
{
    struct sockaddr_un addr;
    socklen_t len;
    int err = unix_addr(path, &addr, &len);
    if (err < 0)
        return err;
    bool abstract = path[0] == '@';
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return TA_ESYS;
    /* The file gets its mode before anyone can connect: connecting needs listen(). */
    int rc = bind(fd, (struct sockaddr *)&addr, len);
    if (rc < 0 && errno == EADDRINUSE && !abstract) {
        if (remove_stale(path, &addr, len))
            rc = bind(fd, (struct sockaddr *)&addr, len);
        else
            errno = EADDRINUSE;
    }
    if (rc < 0)
        goto fail;
    if (!abstract && mode >= 0 && chmod(path, (mode_t)mode) < 0)
        goto fail_bound;
    if (listen(fd, backlog_of(cfg)) < 0)
        goto fail_bound;
    return fd;
fail_bound:
    rc = errno;
    if (!abstract)
        unlink(path);
    errno = rc;
fail:
    close_keeping_errno(fd);
    return TA_ESYS;
}

void ta_unbind_unix(const char *path, int fd)
{
    struct sockaddr_un mine = {0}, addr;
    socklen_t len = sizeof(mine), want;
    struct stat st;
    if (path[0] == '@' || unix_addr(path, &addr, &want) < 0)
        return;
    if (getsockname(fd, (struct sockaddr *)&mine, &len) < 0 || mine.sun_family != AF_UNIX ||
        strcmp(mine.sun_path, path) != 0)
        return;
    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    unlink(path);
}

/* -- inherited descriptors ------------------------------------------------------------------ */

int ta_bind_adopt(int fd, const ta_bind_cfg *cfg)
{
    int type = 0, listening = 0;
    socklen_t len = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        return errno == ENOTSOCK ? TA_EINVAL : TA_ESYS;
    any_addr addr = {0};
    len = sizeof(addr);
    if (getsockname(fd, &addr.sa, &len) < 0)
        return TA_ESYS;
    int family = addr.sa.sa_family;
    if (type != SOCK_STREAM || (family != AF_INET && family != AF_INET6 && family != AF_UNIX))
        return TA_EINVAL;
    int flags = fcntl(fd, F_GETFL), fd_flags = fcntl(fd, F_GETFD);
    if (flags < 0 || fd_flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, fd_flags | FD_CLOEXEC) < 0)
        return TA_ESYS;
    len = sizeof(listening);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
        return TA_ESYS;
    if (!listening && listen(fd, backlog_of(cfg)) < 0)
        return errno == EINVAL || errno == EOPNOTSUPP ? TA_EINVAL : TA_ESYS;
    return TA_OK;
}

int ta_bind_systemd(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    char *end;
    if (!pid || !count)
        return 0;
    errno = 0;
    long p = strtol(pid, &end, 10);
    if (errno || *end || end == pid || p != (long)getpid())
        return 0;
    long n = strtol(count, &end, 10);
    if (errno || *end || end == count || n < 0 || n > 1024)
        return 0;
    for (int fd = FIRST_PASSED_FD; fd < FIRST_PASSED_FD + (int)n; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            return fd - FIRST_PASSED_FD;
    return (int)n;
}

int ta_sock_name(int fd, char *host, uint16_t *port)
{
    union {
        any_addr in;
        struct sockaddr_un un;
    } addr = {0};
    socklen_t len = sizeof(addr);
    if (getsockname(fd, &addr.in.sa, &len) < 0)
        return TA_ESYS;
    *port = 0;
    host[0] = '\0';
    switch (addr.in.sa.sa_family) {
    case AF_INET:
        *port = ntohs(addr.in.v4.sin_port);
        return inet_ntop(AF_INET, &addr.in.v4.sin_addr, host, TA_ADDR_TEXT) ? TA_OK : TA_ESYS;
    case AF_INET6:
        *port = ntohs(addr.in.v6.sin6_port);
        return inet_ntop(AF_INET6, &addr.in.v6.sin6_addr, host, TA_ADDR_TEXT) ? TA_OK : TA_ESYS;
    case AF_UNIX: {
        size_t n = len > offsetof(struct sockaddr_un, sun_path)
                       ? len - offsetof(struct sockaddr_un, sun_path)
                       : 0;
        if (n && addr.un.sun_path[0] == '\0')
            addr.un.sun_path[0] = '@';
        else
            n = strnlen(addr.un.sun_path, n);
        memcpy(host, addr.un.sun_path, n);
        host[n] = '\0';
        return TA_OK;
    }
    default:
        return TA_OK;
    }
}
