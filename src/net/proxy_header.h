/*
 * proxy_header.h -- the header in which a proxy tells whose connection it passes on (the PROXY
 * protocol, versions 1 and 2).
 *
 * Layer: net.  https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 */
#ifndef TA_NET_PROXY_HEADER_H
#define TA_NET_PROXY_HEADER_H

#include <sys/socket.h>

#include "base/ta_base.h"

enum {
    TA_PROXY_HEADER_LEAST = 12, /* no header is shorter: so many bytes tell the version */
    TA_PROXY_HEADER_MAX = 4096  /* longer ones are refused, though version 2 allows 65,551 */
};

/* Who the client is.  len 0: the proxy speaks for itself, or does not know. */
typedef struct ta_proxy_peer {
    struct sockaddr_storage addr;
    socklen_t len;
} ta_proxy_peer;

/*
 * Reads a header.  > 0: its length, and *out is written; TA_AGAIN: it is not complete, see below;
 * TA_EBAD: it is none, or malformed.
 */
TA_MUST_CHECK int ta_proxy_header_parse(ta_str data, ta_proxy_peer *out);
/* After TA_AGAIN: how many bytes more certainly belong to the header.  0: not known; it ends with
 * the next line feed. */
size_t ta_proxy_header_missing(ta_str data);

#endif
