/* proxy_header.c -- see proxy_header.h. */
#include "net/proxy_header.h"

#include <arpa/inet.h>
#include <netinet/in.h>

enum {
    V1_MAX = 107, /* with its CRLF */
    V2_FIXED = 16,
    V2_LOCAL = 0x20,
    V2_PROXY = 0x21,
    V2_UNSPEC = 0x00,
    V2_TCP4 = 0x11,
    V2_TCP6 = 0x21,
    V2_UNIX = 0x31,
    V2_TCP4_LEN = 12,
    V2_TCP6_LEN = 36,
    V2_UNIX_LEN = 216
};

static const char v1_begin[] = "PROXY ";
static const char v2_begin[] = "\r\n\r\n\0\r\nQUIT\n";

static bool begins(ta_str data, const char *with, size_t n)
{
    return memcmp(data.ptr, with, TA_MIN(data.len, n)) == 0;
}

static bool is_v1(ta_str data)
{
    return begins(data, v1_begin, sizeof v1_begin - 1);
}

static bool is_v2(ta_str data)
{
    return begins(data, v2_begin, sizeof v2_begin - 1);
}

/* -- version 1 -------------------------------------------------------------------------------- */

/* Cuts the next word off; words are parted by one space each. */
static ta_str next_word(ta_str *line)
{
    const char *space = line->len ? memchr(line->ptr, ' ', line->len) : NULL;
    ta_str word = ta_str_of(line->ptr, space ? (size_t)(space - line->ptr) : line->len);
    *line = ta_str_skip(*line, space ? word.len + 1 : word.len);
    return word;
}

/* -1: it is none. */
static int read_port(ta_str text)
{
    int port = 0;
    if (text.len == 0 || text.len > 5 || (text.len > 1 && text.ptr[0] == '0'))
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return -1;
        port = port * 10 + (text.ptr[i] - '0');
    }
    return port <= 65535 ? port : -1;
}

static bool read_address(int family, ta_str text, void *out)
{
    char copy[INET6_ADDRSTRLEN];
    if (text.len >= sizeof copy || memchr(text.ptr, '\0', text.len) != NULL)
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return inet_pton(family, copy, out) == 1;
}

static void set_v4(ta_proxy_peer *out, struct in_addr addr, in_port_t port)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = port, .sin_addr = addr};
    *out = (ta_proxy_peer){.len = sizeof peer};
    memcpy(&out->addr, &peer, sizeof peer);
}

static void set_v6(ta_proxy_peer *out, struct in6_addr addr, in_port_t port)
{
    struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = addr};
    *out = (ta_proxy_peer){.len = sizeof peer};
    memcpy(&out->addr, &peer, sizeof peer);
}

static bool read_line(ta_str line, ta_proxy_peer *out)
{
    struct in_addr v4, v4_own;
    struct in6_addr v6, v6_own;
    line = ta_str_skip(line, sizeof v1_begin - 1);
    ta_str family = next_word(&line);
    if (ta_str_eq(family, TA_STR("UNKNOWN"))) {
        *out = (ta_proxy_peer){.len = 0};
        return true;
    }
    bool is_v4 = ta_str_eq(family, TA_STR("TCP4"));
    if (!is_v4 && !ta_str_eq(family, TA_STR("TCP6")))
        return false;
    ta_str source = next_word(&line), own = next_word(&line);
    int port = read_port(next_word(&line)), own_port = read_port(next_word(&line));
    if (port < 0 || own_port < 0 || line.len > 0)
        return false;
    if (is_v4) {
        if (!read_address(AF_INET, source, &v4) || !read_address(AF_INET, own, &v4_own))
            return false;
        set_v4(out, v4, htons((uint16_t)port));
        return true;
    }
    if (!read_address(AF_INET6, source, &v6) || !read_address(AF_INET6, own, &v6_own))
        return false;
    set_v6(out, v6, htons((uint16_t)port));
    return true;
}

static int parse_v1(ta_str data, ta_proxy_peer *out)
{
    size_t seen = TA_MIN(data.len, (size_t)V1_MAX);
    const char *end = memchr(data.ptr, '\n', seen);
    if (end == NULL)
        return seen == V1_MAX ? TA_EBAD : TA_AGAIN;
    size_t n = (size_t)(end - data.ptr) + 1;
    if (n < 2 || end[-1] != '\r' || !read_line(ta_str_of(data.ptr, n - 2), out))
        return TA_EBAD;
    return (int)n;
}

/* -- version 2 -------------------------------------------------------------------------------- */

static size_t v2_length(ta_str data)
{
    return V2_FIXED + ((size_t)(unsigned char)data.ptr[14] << 8 | (unsigned char)data.ptr[15]);
}

static int parse_v2(ta_str data, ta_proxy_peer *out)
{
    if (data.len < V2_FIXED)
        return TA_AGAIN;
    unsigned command = (unsigned char)data.ptr[12], family = (unsigned char)data.ptr[13];
    size_t n = v2_length(data), room = n - V2_FIXED;
    if ((command != V2_LOCAL && command != V2_PROXY) || n > TA_PROXY_HEADER_MAX)
        return TA_EBAD;
    if (data.len < n)
        return TA_AGAIN;
    const char *body = data.ptr + V2_FIXED;
    if (command == V2_LOCAL || family == V2_UNSPEC || (family == V2_UNIX && room >= V2_UNIX_LEN)) {
        *out = (ta_proxy_peer){.len = 0};
        return (int)n;
    }
    in_port_t port;
    if (family == V2_TCP4 && room >= V2_TCP4_LEN) {
        struct in_addr addr;
        memcpy(&addr, body, sizeof addr);
        memcpy(&port, body + 8, sizeof port);
        set_v4(out, addr, port);
        return (int)n;
    }
    if (family == V2_TCP6 && room >= V2_TCP6_LEN) {
        struct in6_addr addr;
        memcpy(&addr, body, sizeof addr);
        memcpy(&port, body + 32, sizeof port);
        set_v6(out, addr, port);
        return (int)n;
    }
    return TA_EBAD; /* a datagram on a stream, or too short for its addresses */
}

/* -- both ------------------------------------------------------------------------------------- */

int ta_proxy_header_parse(ta_str data, ta_proxy_peer *out)
{
    if (data.len == 0)
        return TA_AGAIN;
    if (is_v2(data))
        return data.len < sizeof v2_begin - 1 ? TA_AGAIN : parse_v2(data, out);
    if (is_v1(data))
        return data.len < sizeof v1_begin - 1 ? TA_AGAIN : parse_v1(data, out);
    return TA_EBAD;
}

size_t ta_proxy_header_missing(ta_str data)
{
    if (data.len < TA_PROXY_HEADER_LEAST)
        return TA_PROXY_HEADER_LEAST - data.len;
    if (!is_v2(data))
        return 0;
    return data.len < V2_FIXED ? V2_FIXED - data.len : v2_length(data) - data.len;
}
