#include "http/resp.h"

#include "head_fixture.h"
#include "ta_test.h"

static ta_str write_head(char *out, size_t cap, const ta_resp_wire *wire)
{
    CHECK_INT(ta_resp_wire_bound(wire), <=, cap);
    char *end = ta_resp_wire_write(out, wire);
    CHECK_INT(end - out, <=, ta_resp_wire_bound(wire));
    return ta_str_of(out, (size_t)(end - out));
}

TA_TEST(heads)
{
    char out[1024];
    ta_resp_stamp stamp;
    CHECK_INT(ta_resp_stamp_init(&stamp, TA_STR("turboapi")), ==, TA_OK);
    ta_resp_stamp_update(&stamp, 784111777);
    ta_resp_wire wire = {.head = head_of(200, "content-type: text/plain\r\n"),
                         .framing = TA_FRAME_LENGTH,
                         .length = 12345678901,
                         .stamp = &stamp};
    CHECK_STR(write_head(out, sizeof out, &wire),
              "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: turboapi\r\n"
              "content-length: 12345678901\r\ncontent-type: text/plain\r\n\r\n");
    ta_response_head head = *wire.head;
    head.flags = TA_RESP_HAS_DATE | TA_RESP_HAS_SERVER;
    wire.head = &head;
    wire.framing = TA_FRAME_CHUNKED;
    wire.connection = TA_CONN_CLOSE;
    CHECK_STR(write_head(out, sizeof out, &wire),
              "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n"
              "connection: close\r\n\r\n");
    head = ta_head_bare(299);
    wire = (ta_resp_wire){.head = &head, .connection = TA_CONN_KEEP_ALIVE};
    CHECK_STR(write_head(out, sizeof out, &wire),
              "HTTP/1.1 299 \r\nconnection: keep-alive\r\n\r\n");
    wire = (ta_resp_wire){.head = &head};
    head.reason = TA_STR("Custom Reason");
    CHECK_STR(write_head(out, sizeof out, &wire), "HTTP/1.1 299 Custom Reason\r\n\r\n");
    head.status = 200;
    head.reason = TA_STR("Fine");
    CHECK_STR(write_head(out, sizeof out, &wire), "HTTP/1.1 200 Fine\r\n\r\n");
    head = ta_head_bare(999);
    wire = (ta_resp_wire){.head = &head, .framing = TA_FRAME_LENGTH, .length = UINT64_MAX};
    CHECK_STR(write_head(out, sizeof out, &wire),
              "HTTP/1.1 999 \r\ncontent-length: 18446744073709551615\r\n\r\n");
}

TA_TEST(closing_drops_keep_alive)
{
    char out[512];
    ta_fields fields;
    ta_fields_init(&fields);
    CHECK_INT(ta_fields_add(&fields, TA_STR("connection"), TA_STR("a,keep-alive,b , c")), ==,
              TA_OK);
    CHECK_INT(ta_fields_add(&fields, TA_STR("x"), TA_STR("y")), ==, TA_OK);
    CHECK_INT(ta_fields_add(&fields, TA_STR("connection"), TA_STR("Keep-Alive")), ==, TA_OK);
    ta_response_head head = ta_fields_head(&fields);
    CHECK_INT(head.flags, ==, TA_RESP_KEEP);
    head.status = 200;
    ta_resp_wire wire = {.head = &head, .connection = TA_CONN_CLOSE};
    CHECK_STR(write_head(out, sizeof out, &wire),
              "HTTP/1.1 200 OK\r\nconnection: a,b,c\r\nx: y\r\nconnection: close\r\n\r\n");
    wire.connection = TA_CONN_DEFAULT;
    CHECK_STR(write_head(out, sizeof out, &wire),
              "HTTP/1.1 200 OK\r\nconnection: a,keep-alive,b , c\r\nx: y\r\n"
              "connection: Keep-Alive\r\n\r\n");
    ta_fields_free(&fields);
}

TA_TEST(stamp)
{
    ta_resp_stamp stamp;
    char long_name[101];
    memset(long_name, 'x', sizeof long_name);
    CHECK_INT(ta_resp_stamp_init(&stamp, ta_str_of(long_name, 101)), ==, TA_EINVAL);
    CHECK_INT(ta_resp_stamp_init(&stamp, TA_STR("a\r\nb: c")), ==, TA_EINVAL);
    CHECK_INT(ta_resp_stamp_init(&stamp, ta_str_of(long_name, 100)), ==, TA_OK);
    CHECK_INT(stamp.server_len, ==, 110);

    char out[1024];
    CHECK_INT(ta_resp_stamp_init(&stamp, TA_STR("")), ==, TA_OK);
    ta_resp_stamp_update(&stamp, 1);
    ta_resp_stamp_update(&stamp, 1);
    ta_resp_wire wire = {.head = head_of(204, ""), .stamp = &stamp};
    CHECK_STR(write_head(out, sizeof out, &wire),
              "HTTP/1.1 204 No Content\r\ndate: Thu, 01 Jan 1970 00:00:01 GMT\r\n\r\n");
}

TA_TEST(fields_of_every_response)
{
    char out[1024];
    ta_resp_stamp stamp;
    CHECK_INT(ta_resp_stamp_init(&stamp, TA_STR("")), ==, TA_OK);
    CHECK_INT(ta_resp_stamp_add(&stamp, head_of(200, "x-one: 1\r\nx-two: \r\n")), ==, TA_OK);
    CHECK_INT(stamp.more.count, ==, 2);
    ta_resp_wire wire = {.head = head_of(200, "a: b\r\n"), .stamp = &stamp};
    CHECK_STR(write_head(out, sizeof out, &wire),
              "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
              "x-one: 1\r\nx-two: \r\na: b\r\n\r\n");
    ta_resp_stamp_free(&stamp);
}

TA_TEST(numbers)
{
    char out[32], want[32];
    for (int bits = 0; bits < 64; bits++) {
        for (int add = -2; add <= 2; add++) {
            uint64_t v = ((uint64_t)1 << bits) + (uint64_t)add;
            snprintf(want, sizeof want, "%" PRIu64, v);
            CHECK_STR(ta_str_of(out, (size_t)(ta_resp_put_uint(out, v) - out)), want);
            snprintf(want, sizeof want, "%" PRIx64, v);
            CHECK_STR(ta_str_of(out, (size_t)(ta_resp_put_hex(out, v) - out)), want);
        }
    }
    for (uint64_t v = 1, i = 0; i < 20; i++, v *= 10) {
        snprintf(want, sizeof want, "%" PRIu64, v - 1);
        CHECK_STR(ta_str_of(out, (size_t)(ta_resp_put_uint(out, v - 1) - out)), want);
    }
}
