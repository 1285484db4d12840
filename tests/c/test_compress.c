#include "http/compress.h"

#include <zlib.h>

#include "ta_failmalloc.h"
#include "ta_test.h"

/* What `packed` unpacks to, at most `cap` bytes of it; *whole: the stream has its end. */
static size_t unpack(ta_str packed, char *out, size_t cap, bool *whole)
{
    z_stream z = {0};
    CHECK_INT(inflateInit2(&z, 16 + MAX_WBITS), ==, Z_OK);
    z.next_in = (z_const Bytef *)packed.ptr;
    z.avail_in = (uInt)packed.len;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)cap;
    int rc = inflate(&z, Z_SYNC_FLUSH);
    CHECK(rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR);
    *whole = rc == Z_STREAM_END;
    size_t n = z.total_out;
    CHECK_INT(z.avail_in, ==, 0);
    inflateEnd(&z);
    return n;
}

static void fill(char *data, size_t n, unsigned seed, unsigned range)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245 + 12345;
        data[i] = (char)((seed >> 16) % range);
    }
}

TA_TEST(whole_bodies)
{
    static const size_t sizes[] = {0, 1, 499, 1023, 1024, 1025, 65535, 65536, 65537, 1000000};
    static const unsigned ranges[] = {1, 4, 256};
    char *data = malloc(1000000), *back = malloc(1000001);
    ta_buf out;
    ta_buf_init(&out);
    for (int level = -1; level <= 9; level += 2) {
        ta_packer *gz = ta_packer_new(TA_CODING_GZIP, level);
        CHECK(gz != NULL);
        CHECK_INT(ta_packer_is(gz, TA_CODING_GZIP, level), ==, true);
        for (size_t i = 0; i < TA_COUNTOF(sizes); i++) {
            for (size_t r = 0; r < TA_COUNTOF(ranges); r++) {
                bool whole;
                fill(data, sizes[i], (unsigned)(i + r), ranges[r]);
                ta_buf_clear(&out);
                CHECK_INT(ta_packer_write(gz, ta_str_of(data, sizes[i]), TA_PACK_FINISH, &out), ==,
                          TA_OK);
                CHECK_INT(unpack(ta_buf_str(&out), back, 1000001, &whole), ==, sizes[i]);
                CHECK(whole);
                CHECK_MEM(back, data, sizes[i]);
                if (ranges[r] == 1 && sizes[i] > 499 && level > 0)
                    CHECK_INT(out.len, <, sizes[i] / 20 + 30);
                CHECK(ta_packer_reset(gz));
            }
        }
        ta_packer_free(gz);
    }
    ta_buf_free(&out);
    free(data);
    free(back);
}

/* After each flush all that was given can be read. */
TA_TEST(pieces)
{
    char data[5000], back[300000];
    size_t given = 0;
    bool whole;
    ta_buf out;
    ta_buf_init(&out);
    ta_packer *gz = ta_packer_new(TA_CODING_GZIP, 9);
    for (unsigned i = 0; i < 50; i++) {
        size_t n = i % 7 == 0 ? 0 : i * 100;
        fill(data, n, i, 16);
        CHECK_INT(ta_packer_write(gz, ta_str_of(data, n), TA_PACK_FLUSH, &out), ==, TA_OK);
        CHECK_INT(unpack(ta_buf_str(&out), back, sizeof back, &whole), ==, given + n);
        CHECK(!whole);
        CHECK_MEM(back + given, data, n);
        given += n;
    }
    CHECK_INT(ta_packer_write(gz, TA_STR(""), TA_PACK_FINISH, &out), ==, TA_OK);
    CHECK_INT(unpack(ta_buf_str(&out), back, sizeof back, &whole), ==, given);
    CHECK(whole);
    ta_packer_free(gz);
    ta_buf_free(&out);
}

TA_TEST(ends)
{
    ta_buf out;
    char back[16];
    bool whole;
    ta_buf_init(&out);
    CHECK(ta_packer_new(TA_CODING_GZIP, -2) == NULL);
    CHECK(ta_packer_new(TA_CODING_GZIP, 10) == NULL);
    ta_packer *gz = ta_packer_new(TA_CODING_GZIP, 1);
    CHECK_INT(ta_packer_write(gz, TA_STR("first"), TA_PACK_FINISH, &out), ==, TA_OK);
    size_t len = out.len;
    CHECK_INT(ta_packer_write(gz, TA_STR("more"), TA_PACK_FINISH, &out), ==, TA_EINVAL);
    CHECK_INT(ta_packer_write(gz, TA_STR("more"), TA_PACK_FLUSH, &out), ==, TA_EINVAL);
    CHECK_INT(out.len, ==, len);
    CHECK(ta_packer_reset(gz));
    ta_buf_clear(&out);
    CHECK_INT(ta_packer_write(gz, TA_STR("left"), TA_PACK_FLUSH, &out), ==, TA_OK);
    CHECK(ta_packer_reset(gz));
    ta_buf_clear(&out);
    CHECK_INT(ta_packer_write(gz, TA_STR("second"), TA_PACK_FINISH, &out), ==, TA_OK);
    CHECK_STR(ta_str_of(back, unpack(ta_buf_str(&out), back, sizeof back, &whole)), "second");
    CHECK(whole);
    ta_packer_free(gz);
    ta_packer_free(NULL);
    ta_buf_free(&out);
}

static void scenario(void)
{
    char data[20000];
    ta_buf out;
    ta_buf_init(&out);
    fill(data, sizeof data, 1, 256);
    ta_packer *gz = ta_packer_new(TA_CODING_GZIP, 9);
    if (gz != NULL) {
        ta_str half = ta_str_of(data, 10000);
        int rc = ta_packer_write(gz, half, TA_PACK_FLUSH, &out);
        CHECK(rc == TA_OK || rc == TA_ENOMEM);
        int last = ta_packer_write(gz, half, TA_PACK_FINISH, &out);
        CHECK(rc == TA_ENOMEM ? last == TA_EINVAL : last == TA_OK || last == TA_ENOMEM);
    }
    ta_packer_free(gz);
    ta_buf_free(&out);
}

TA_TEST(no_memory)
{
    scenario();
    ta_failmalloc_all(scenario);
}

/* Every coding of this build: pieces, ends, and what is refused. */
TA_TEST(codings)
{
    char *data = malloc(50000);
    fill(data, 50000, 1, 16);
    for (int coding = 0; coding <= TA_CODINGS; coding++) {
        int lowest, highest;
        if (!ta_packer_levels((ta_coding)coding, &lowest, &highest)) {
            CHECK(ta_packer_new((ta_coding)coding, 1) == NULL);
            continue;
        }
        char version[TA_PACKER_VERSION];
        ta_packer_version((ta_coding)coding, version);
        CHECK(strchr(version, '.') != NULL);
        CHECK(ta_packer_new((ta_coding)coding, lowest - 1) == NULL);
        CHECK(ta_packer_new((ta_coding)coding, highest + 1) == NULL);
        for (int level = lowest; level <= highest; level++) {
            ta_packer *packer = ta_packer_new((ta_coding)coding, level);
            CHECK(packer != NULL);
            CHECK_INT(ta_packer_coding(packer), ==, coding);
            CHECK(ta_packer_is(packer, (ta_coding)coding, level));
            for (int round = 0; round < 2; round++) {
                ta_buf out;
                ta_buf_init(&out);
                size_t before = 0;
                for (size_t n = 0; n < 5; n++) {
                    ta_str piece = ta_str_of(data, n * n * 1000);
                    CHECK_INT(ta_packer_write(packer, piece, TA_PACK_FLUSH, &out), ==, TA_OK);
                    CHECK(n == 0 || out.len > before);
                    before = out.len;
                }
                CHECK_INT(ta_packer_write(packer, ta_str_of(data, 50000), TA_PACK_FINISH, &out), ==,
                          TA_OK);
                CHECK(out.len > before);
                CHECK_INT(ta_packer_write(packer, TA_STR("x"), TA_PACK_FLUSH, &out), ==, TA_EINVAL);
                ta_buf_free(&out);
                if (!ta_packer_reset(packer))
                    break;
            }
            ta_packer_free(packer);
        }
    }
    ta_packer_free(NULL);
    free(data);
}
