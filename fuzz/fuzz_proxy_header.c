/*
 * fuzz_proxy_header.c -- headers of the PROXY protocol: whole, in two parts, and what is missing.
 *
 * Input: the bytes of a connection.
 */
#include "fuzz.h"

#include <netinet/in.h>

#include "net/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ta_str all = {(const char *)data, size};
    ta_proxy_peer peer = {.len = 77}, again;
    int rc = ta_proxy_header_parse(all, &peer);
    REQUIRE(rc == TA_AGAIN || rc == TA_EBAD || (rc > 0 && (size_t)rc <= size));
    if (rc < 0)
        REQUIRE(peer.len == 77); /* not written */
    else
        REQUIRE(peer.len == 0 || peer.len == sizeof(struct sockaddr_in) ||
                peer.len == sizeof(struct sockaddr_in6));
    if (rc == TA_AGAIN)
        REQUIRE(size + ta_proxy_header_missing(all) <= TA_PROXY_HEADER_MAX);
    /* Every shorter part of a header is incomplete; what follows one changes nothing. */
    for (size_t n = 0; rc > 0 && n < (size_t)rc; n++) {
        ta_str part = ta_str_of(all.ptr, n);
        REQUIRE(ta_proxy_header_parse(part, &again) == TA_AGAIN);
        REQUIRE(n + ta_proxy_header_missing(part) <= (size_t)rc);
    }
    if (rc > 0)
        REQUIRE(ta_proxy_header_parse(ta_str_of(all.ptr, (size_t)rc), &again) == rc);
    return 0;
}
