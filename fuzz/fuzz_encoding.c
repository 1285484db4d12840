/*
 * fuzz_encoding.c -- values of Accept-Encoding: what is chosen has a weight, and nothing better is
 * there.
 *
 * Input: the value; it is also given in two parts, at each comma.
 */
#include "fuzz.h"

#include "http/encoding.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ta_coding ours[] = {TA_CODING_ZSTD, TA_CODING_BR, TA_CODING_GZIP};
    ta_str value = {(const char *)data, size};
    ta_accepted accepted, parts;
    ta_accepted_init(&accepted);
    ta_accepted_add(&accepted, value);
    ta_coding best = ta_accepted_choose(&accepted, ours, 3);
    for (int i = 0; i < TA_CODINGS; i++) {
        int weight = ta_accepted_weight(&accepted, (ta_coding)i);
        REQUIRE(weight >= 0 && weight <= 1000);
        if (i != TA_CODING_IDENTITY && best != TA_CODING_IDENTITY)
            REQUIRE(ta_accepted_weight(&accepted, best) >= weight);
    }
    REQUIRE(best == TA_CODING_IDENTITY || ta_accepted_weight(&accepted, best) > 0);
    const char *comma = size ? memchr(value.ptr, ',', size) : NULL;
    if (comma != NULL) {
        size_t n = (size_t)(comma - value.ptr);
        ta_accepted_init(&parts);
        ta_accepted_add(&parts, ta_str_of(value.ptr, n));
        ta_accepted_add(&parts, ta_str_skip(value, n + 1));
        REQUIRE(memcmp(&parts, &accepted, sizeof parts) == 0);
    }
    return 0;
}
