/* listen_fixture.h -- a listening socket on the loopback address. */
#ifndef TA_LISTEN_FIXTURE_H
#define TA_LISTEN_FIXTURE_H

#include <arpa/inet.h>
#include <sys/socket.h>

#include "ta_test.h"

/* A non-blocking one, the caller's; *port: the number that the system chose. */
TA_UNUSED static int ta_test_listen(uint16_t *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 2048) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    *port = ntohs(a.sin_port);
    return fd;
}

#endif
