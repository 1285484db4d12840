#include "net/proxy_header.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "ta_test.h"

static ta_proxy_peer peer;

static int parse(const char *data, size_t n)
{
    memset(&peer, 0, sizeof peer);
    return ta_proxy_header_parse(ta_str_of(data, n), &peer);
}

static int parse_text(const char *text)
{
    return parse(text, strlen(text));
}

static const char *host(uint16_t *port)
{
    static char text[INET6_ADDRSTRLEN];
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&peer.addr;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&peer.addr;
    if (peer.len == sizeof *v4) {
        *port = ntohs(v4->sin_port);
        return inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    }
    CHECK_INT(peer.len, ==, sizeof *v6);
    *port = ntohs(v6->sin6_port);
    return inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
}

#define CHECK_PEER(name, number)                                                                   \
    do {                                                                                           \
        uint16_t port_;                                                                            \
        const char *host_ = host(&port_);                                                          \
        CHECK_STR(ta_str_of(host_, strlen(host_)), name);                                          \
        CHECK_INT(port_, ==, number);                                                              \
    } while (0)

TA_TEST(version_1)
{
    const char *v4 = "PROXY TCP4 192.0.2.1 198.51.100.2 65535 80\r\n";
    CHECK_INT(parse_text(v4), ==, strlen(v4));
    CHECK_PEER("192.0.2.1", 65535);
    CHECK_INT(parse_text("PROXY TCP4 1.2.3.4 5.6.7.8 0 80\r\nGET /"), ==, 33);
    CHECK_PEER("1.2.3.4", 0);
    CHECK_INT(parse_text("PROXY TCP6 2001:db8::1 ::1 443 8000\r\n"), ==, 37);
    CHECK_PEER("2001:db8::1", 443);
    CHECK_INT(parse_text("PROXY UNKNOWN\r\n"), ==, 15);
    CHECK_INT(peer.len, ==, 0);
    CHECK_INT(parse_text("PROXY UNKNOWN ffff:: whatever 1 2\r\n"), ==, 35);
    for (size_t n = 0; n < strlen(v4); n++)
        CHECK_INT(parse(v4, n), ==, TA_AGAIN);
}

TA_TEST(malformed_version_1)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n",
        "PROXYTCP4",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        "PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        "\n",
    };
    for (size_t i = 0; i < TA_COUNTOF(bad); i++)
        CHECK_INT(parse_text(bad[i]), ==, TA_EBAD);
    CHECK_INT(parse("PROXY TCP4 1.2.3.4\0 5.6.7.8 1 2\r\n", 33), ==, TA_EBAD);
    char longest[108] = "PROXY UNKNOWN ";
    memset(longest + 14, 'x', 93);
    CHECK_INT(parse(longest, 106), ==, TA_AGAIN);
    CHECK_INT(parse(longest, 107), ==, TA_EBAD);
    memcpy(longest + 105, "\r\n", 2);
    CHECK_INT(parse(longest, 107), ==, 107);
}

static char v2[5000];

/* A header with `n` bytes behind its fixed part; its length. */
static size_t make_v2(unsigned command, unsigned family, size_t n)
{
    memset(v2, 0, sizeof v2);
    memcpy(v2, "\r\n\r\n\0\r\nQUIT\n", 12);
    v2[12] = (char)command;
    v2[13] = (char)family;
    v2[14] = (char)(n >> 8);
    v2[15] = (char)n;
    for (size_t i = 0; i < n; i++)
        v2[16 + i] = (char)(i + 1);
    return 16 + n;
}

TA_TEST(version_2)
{
    size_t n = make_v2(0x21, 0x11, 12);
    CHECK_INT(parse(v2, n), ==, n);
    CHECK_PEER("1.2.3.4", 0x090a);
    for (size_t i = 0; i < n; i++) {
        CHECK_INT(parse(v2, i), ==, TA_AGAIN);
        size_t missing = ta_proxy_header_missing(ta_str_of(v2, i));
        CHECK_INT(missing, ==, i < 12 ? 12 - i : i < 16 ? 16 - i : n - i);
    }
    n = make_v2(0x21, 0x21, 36 + 300); /* with extensions */
    CHECK_INT(parse(v2, n), ==, n);
    CHECK_PEER("102:304:506:708:90a:b0c:d0e:f10", 0x2122);
    n = make_v2(0x20, 0x00, 0);
    CHECK_INT(parse(v2, n), ==, 16);
    CHECK_INT(peer.len, ==, 0);
    n = make_v2(0x20, 0x77, 5); /* of the proxy itself: the family does not matter */
    CHECK_INT(parse(v2, n), ==, n);
    n = make_v2(0x21, 0x31, 216);
    CHECK_INT(parse(v2, n), ==, n);
    CHECK_INT(peer.len, ==, 0);
    n = make_v2(0x21, 0x00, 7);
    CHECK_INT(parse(v2, n), ==, n);
    n = make_v2(0x21, 0x11, TA_PROXY_HEADER_MAX - 16);
    CHECK_INT(parse(v2, n), ==, TA_PROXY_HEADER_MAX);
}

TA_TEST(malformed_version_2)
{
    static const struct {
        unsigned command, family;
        size_t n;
    } bad[] = {
        {0x11, 0x11, 12},  {0x22, 0x11, 12},
        {0x21, 0x12, 12},  {0x21, 0x22, 36},
        {0x21, 0x11, 11},  {0x21, 0x21, 35},
        {0x21, 0x31, 215}, {0x21, 0x41, 99},
        {0x21, 0x11, 0},   {0x21, 0x11, TA_PROXY_HEADER_MAX - 15},
    };
    for (size_t i = 0; i < TA_COUNTOF(bad); i++) {
        size_t n = make_v2(bad[i].command, bad[i].family, bad[i].n);
        CHECK_INT(parse(v2, n), ==, TA_EBAD);
    }
    (void)make_v2(0x21, 0x11, 12);
    v2[11] = 'X';
    CHECK_INT(parse(v2, 28), ==, TA_EBAD);
}
