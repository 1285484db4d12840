/*
 * fuzz_unpack.c -- request bodies that are packed with brotli or zstd: unpacking them in pieces
 * gives what unpacking them in one go does, and never more than there is room for.
 *
 * Input: a byte that says which coding and how large pieces are, the stream.
 */
#include "fuzz.h"

#include <string.h>

#include "http/decompress.h"

enum { MOST = 1 << 18 /* bytes that are unpacked: more would only be slow */ };

typedef struct outcome {
    char *out; /* owned */
    size_t len;
    int rc;
    bool ended;
} outcome;

/* Unpacks all of a stream: so many bytes are given at a time, and there is room for as many. */
static outcome unpack(ta_coding coding, ta_str stream, size_t step)
{
    outcome all = {malloc(MOST + 1), 0, TA_OK, false};
    ta_unpacker *unpacker = ta_unpacker_new(coding);
    REQUIRE(unpacker != NULL && all.out != NULL);
    while (all.rc == TA_OK && all.len < MOST && !unpacker->ended) {
        ta_str piece = ta_str_of(stream.ptr, TA_MIN(stream.len, step)), given = piece;
        size_t room = TA_MIN(step, MOST - all.len), len = 0;
        all.out[all.len + room] = 'x';
        all.rc = ta_unpacker_read(unpacker, &piece, all.out + all.len, room, &len);
        REQUIRE(all.out[all.len + room] == 'x');
        if (all.rc != TA_OK)
            break;
        REQUIRE(len <= room && piece.len <= given.len);
        REQUIRE(piece.ptr + piece.len == given.ptr + given.len);
        all.len += len;
        stream = ta_str_skip(stream, given.len - piece.len);
        if (len < room && !stream.len)
            break;                                                    /* it waits for more */
        REQUIRE(len > 0 || piece.len < given.len || unpacker->ended); /* it goes on */
    }
    REQUIRE(all.rc == TA_OK || all.rc == TA_EBAD);
    all.ended = unpacker->ended;
    ta_unpacker_free(unpacker);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    ta_coding coding = data[0] & 1 ? TA_CODING_BR : TA_CODING_ZSTD;
    if (!ta_unpacker_has(coding))
        return 0;
    /* In memory of its own, so that reading beyond its end is noticed. */
    size_t len = size - 1;
    char *stream = malloc(len ? len : 1);
    REQUIRE(stream != NULL);
    memcpy(stream, data + 1, len);
    outcome whole = unpack(coding, ta_str_of(stream, len), MOST);
    outcome parts = unpack(coding, ta_str_of(stream, len), 1 + (data[0] >> 1));
    if (whole.rc == TA_OK && whole.len < MOST && parts.rc == TA_OK)
        REQUIRE(whole.len == parts.len && whole.ended == parts.ended);
    REQUIRE(memcmp(whole.out, parts.out, TA_MIN(whole.len, parts.len)) == 0);
    free(whole.out);
    free(parts.out);
    free(stream);
    return 0;
}
