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
        ta_gzip *gz = ta_gzip_new(level);
        CHECK(gz != NULL);
        CHECK_INT(ta_gzip_level(gz), ==, level);
        for (size_t i = 0; i < TA_COUNTOF(sizes); i++) {
            for (size_t r = 0; r < TA_COUNTOF(ranges); r++) {
                bool whole;
                fill(data, sizes[i], (unsigned)(i + r), ranges[r]);
                ta_buf_clear(&out);
                CHECK_INT(ta_gzip_write(gz, ta_str_of(data, sizes[i]), TA_GZIP_FINISH, &out), ==,
                          TA_OK);
                CHECK_INT(unpack(ta_buf_str(&out), back, 1000001, &whole), ==, sizes[i]);
                CHECK(whole);
                CHECK_MEM(back, data, sizes[i]);
                if (ranges[r] == 1 && sizes[i] > 499 && level > 0)
                    CHECK_INT(out.len, <, sizes[i] / 20 + 30);
                ta_gzip_reset(gz);
            }
        }
        ta_gzip_free(gz);
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
    ta_gzip *gz = ta_gzip_new(9);
    for (unsigned i = 0; i < 50; i++) {
        size_t n = i % 7 == 0 ? 0 : i * 100;
        fill(data, n, i, 16);
        CHECK_INT(ta_gzip_write(gz, ta_str_of(data, n), TA_GZIP_FLUSH, &out), ==, TA_OK);
        CHECK_INT(unpack(ta_buf_str(&out), back, sizeof back, &whole), ==, given + n);
        CHECK(!whole);
        CHECK_MEM(back + given, data, n);
        given += n;
    }
    CHECK_INT(ta_gzip_write(gz, TA_STR(""), TA_GZIP_FINISH, &out), ==, TA_OK);
    CHECK_INT(unpack(ta_buf_str(&out), back, sizeof back, &whole), ==, given);
    CHECK(whole);
    ta_gzip_free(gz);
    ta_buf_free(&out);
}

TA_TEST(ends)
{
    ta_buf out;
    char back[16];
    bool whole;
    ta_buf_init(&out);
    CHECK(ta_gzip_new(-2) == NULL);
    CHECK(ta_gzip_new(10) == NULL);
    ta_gzip *gz = ta_gzip_new(1);
    CHECK_INT(ta_gzip_write(gz, TA_STR("first"), TA_GZIP_FINISH, &out), ==, TA_OK);
    size_t len = out.len;
    CHECK_INT(ta_gzip_write(gz, TA_STR("more"), TA_GZIP_FINISH, &out), ==, TA_EINVAL);
    CHECK_INT(ta_gzip_write(gz, TA_STR("more"), TA_GZIP_FLUSH, &out), ==, TA_EINVAL);
    CHECK_INT(out.len, ==, len);
    ta_gzip_reset(gz);
    ta_buf_clear(&out);
    CHECK_INT(ta_gzip_write(gz, TA_STR("left"), TA_GZIP_FLUSH, &out), ==, TA_OK);
    ta_gzip_reset(gz);
    ta_buf_clear(&out);
    CHECK_INT(ta_gzip_write(gz, TA_STR("second"), TA_GZIP_FINISH, &out), ==, TA_OK);
    CHECK_STR(ta_str_of(back, unpack(ta_buf_str(&out), back, sizeof back, &whole)), "second");
    CHECK(whole);
    ta_gzip_free(gz);
    ta_gzip_free(NULL);
    ta_buf_free(&out);
}

static void scenario(void)
{
    char data[20000];
    ta_buf out;
    ta_buf_init(&out);
    fill(data, sizeof data, 1, 256);
    ta_gzip *gz = ta_gzip_new(9);
    if (gz != NULL) {
        ta_str half = ta_str_of(data, 10000);
        int rc = ta_gzip_write(gz, half, TA_GZIP_FLUSH, &out);
        CHECK(rc == TA_OK || rc == TA_ENOMEM);
        int last = ta_gzip_write(gz, half, TA_GZIP_FINISH, &out);
        CHECK(rc == TA_ENOMEM ? last == TA_EINVAL : last == TA_OK || last == TA_ENOMEM);
    }
    ta_gzip_free(gz);
    ta_buf_free(&out);
}

TA_TEST(no_memory)
{
    scenario();
    ta_failmalloc_all(scenario);
}
