#include "http/decompress.h"

#include "http/compress.h"
#include "ta_test.h"

enum { SIZE = 300000 };

static const ta_coding codings[] = {TA_CODING_BR, TA_CODING_ZSTD};

/* `data` packed by our own packer.  Free with ta_buf_free. */
static ta_buf packed_of(ta_coding coding, ta_str data)
{
    ta_buf out;
    ta_buf_init(&out);
    ta_packer *packer = ta_packer_new(coding, 1);
    CHECK(packer != NULL);
    CHECK_INT(ta_packer_write(packer, data, TA_PACK_FINISH, &out), ==, TA_OK);
    ta_packer_free(packer);
    return out;
}

TA_TEST(pieces_of_any_size)
{
    static const size_t steps[] = {1, 7, 1000, SIZE};
    char *data = malloc(SIZE), *back = malloc(SIZE + 1);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i % 7 * (i % 11));
    for (size_t c = 0; c < TA_COUNTOF(codings); c++) {
        if (!ta_unpacker_has(codings[c]))
            continue;
        ta_buf packed = packed_of(codings[c], ta_str_of(data, SIZE));
        for (size_t s = 0; s < TA_COUNTOF(steps); s++) {
            ta_unpacker *unpacker = ta_unpacker_new(codings[c]);
            ta_str left = ta_buf_str(&packed);
            size_t have = 0;
            while (left.len > 0 || !unpacker->ended) {
                ta_str piece = ta_str_of(left.ptr, TA_MIN(left.len, steps[s]));
                size_t given = piece.len, len;
                CHECK_INT(ta_unpacker_read(unpacker, &piece, back + have,
                                           TA_MIN(steps[s], SIZE + 1 - have), &len),
                          ==, TA_OK);
                have += len;
                left = ta_str_skip(left, given - piece.len);
            }
            CHECK_INT(have, ==, SIZE);
            CHECK_MEM(back, data, SIZE);
            ta_unpacker_free(unpacker);
        }
        ta_buf_free(&packed);
    }
    free(data);
    free(back);
}

TA_TEST(what_is_no_stream)
{
    char out[100];
    size_t len;
    for (size_t c = 0; c < TA_COUNTOF(codings); c++) {
        ta_unpacker *unpacker = ta_unpacker_new(codings[c]);
        if (unpacker == NULL)
            continue;
        ta_str data = TA_STR("\xff\xff\xff\xff no stream of any coding");
        CHECK_INT(ta_unpacker_read(unpacker, &data, out, sizeof out, &len), ==, TA_EBAD);
        ta_unpacker_free(unpacker);
    }
    CHECK(ta_unpacker_new(TA_CODING_GZIP) == NULL); /* Python's zlib has it */
    CHECK(!ta_unpacker_has(TA_CODING_IDENTITY));
    ta_unpacker_free(NULL);
}
