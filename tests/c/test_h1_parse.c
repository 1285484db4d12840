/* What the golden cases of test_h1_golden.c cannot say: limits at their edge, cost, memory. */
#include "http/h1/parse.h"

#include "ta_failmalloc.h"
#include "ta_test.h"

#include <time.h>

static const ta_http_limits no_limits;

/* Parses a copy of exactly the text's size; the copy is leaked to the caller's free(). */
static int parse(ta_h1_head *head, const ta_http_limits *limits, const char *text, char **memory)
{
    size_t n = strlen(text);
    *memory = malloc(n ? n : 1);
    memcpy(*memory, text, n);
    ta_h1_head_init(head, limits);
    return ta_h1_head_parse(head, *memory, n);
}

/* Whole and byte by byte must agree; returns the result. */
static int outcome(const ta_http_limits *limits, const char *text, unsigned *status)
{
    ta_h1_head head;
    char *memory;
    int whole = parse(&head, limits, text, &memory);
    *status = head.status;
    ta_h1_head_reset(&head);
    int rc = TA_AGAIN;
    for (size_t n = 1; n <= strlen(text) && rc == TA_AGAIN; n++)
        rc = ta_h1_head_parse(&head, memory, n);
    CHECK_INT(rc, ==, whole);
    if (whole != TA_OK && whole != TA_AGAIN)
        CHECK_INT(head.status, ==, *status);
    ta_h1_head_free(&head);
    free(memory);
    return whole;
}

TA_TEST(request_line_limit)
{
    ta_http_limits limits = {.request_line = 20};
    unsigned status;
    CHECK_INT(outcome(&limits, "GET /123456 HTTP/1.1\r\nhost: a\r\n\r\n", &status), ==, TA_OK);
    CHECK_INT(outcome(&limits, "\r\nGET /123456 HTTP/1.1\r\nhost: a\r\n\r\n", &status), ==, TA_OK);
    CHECK_INT(outcome(&limits, "GET /1234567 HTTP/1.1\r\nhost: a\r\n\r\n", &status), ==,
              TA_ETOOLARGE);
    CHECK_INT(status, ==, 414);
    CHECK_INT(outcome(&limits, "GET /1234567890123456789", &status), ==, TA_ETOOLARGE);
    CHECK_INT(status, ==, 414);
    CHECK_INT(outcome(&limits, "GET /123456789012345", &status), ==, TA_AGAIN);
    CHECK_INT(outcome(&limits, "VERYVERYVERYLONGMETHOD", &status), ==, TA_ETOOLARGE);
    CHECK_INT(outcome(&limits, "GET \x01/1234567890123456789", &status), ==, TA_EBAD);
    CHECK_INT(status, ==, 400);
}

TA_TEST(header_limits)
{
    unsigned status;
    ta_http_limits limits = {.header_bytes = 16}; /* two lines of eight bytes */
    CHECK_INT(outcome(&limits, "GET / HTTP/1.1\r\nhost:a\r\nb:345\r\n\r\n", &status), ==, TA_OK);
    CHECK_INT(outcome(&limits, "GET / HTTP/1.1\r\nhost:a\r\nb:3456789\r\n\r\n", &status), ==,
              TA_ETOOLARGE);
    CHECK_INT(status, ==, 431);
    CHECK_INT(outcome(&limits, "GET / HTTP/1.1\r\nhost:a\r\nb:3456\r\n\r\n", &status), ==, TA_OK);
    CHECK_INT(outcome(&limits, "GET / HTTP/1.1\r\nhost:a\r\nb:34567\r\n\r\n", &status), ==,
              TA_ETOOLARGE);
    CHECK_INT(outcome(&limits, "GET / HTTP/1.1\r\nhost:a\r\nb:34567890", &status), ==,
              TA_ETOOLARGE);
    CHECK_INT(outcome(&limits, "GET / HTTP/1.1\r\nhost:a\r\nb:345678", &status), ==, TA_AGAIN);

    limits = (ta_http_limits){.header_count = 2};
    CHECK_INT(outcome(&limits, "GET / HTTP/1.1\r\nhost:a\r\nb:\r\n\r\n", &status), ==, TA_OK);
    CHECK_INT(outcome(&limits, "GET / HTTP/1.1\r\nhost:a\r\nb:\r\nc:\r\n\r\n", &status), ==,
              TA_ETOOLARGE);
    CHECK_INT(status, ==, 431);
    /* a Host that is added does not count */
    limits.header_count = 1;
    CHECK_INT(outcome(&limits, "GET http://h/ HTTP/1.0\r\na:b\r\n\r\n", &status), ==, TA_OK);
}

TA_TEST(body_limit)
{
    unsigned status;
    ta_http_limits limits = {.body_bytes = 10};
    CHECK_INT(outcome(&limits, "PUT / HTTP/1.1\r\nhost:a\r\ncontent-length:10\r\n\r\n", &status),
              ==, TA_OK);
    CHECK_INT(outcome(&limits, "PUT / HTTP/1.1\r\nhost:a\r\ncontent-length:11\r\n\r\n", &status),
              ==, TA_ETOOLARGE);
    CHECK_INT(status, ==, 413);
}

TA_TEST(absolute_form_replaces_host)
{
    ta_h1_head head;
    char *memory;
    CHECK_INT(parse(&head, &no_limits,
                    "GET http://real:1/p?q HTTP/1.1\r\nX: y\r\nHost: other\r\n\r\n", &memory),
              ==, TA_OK);
    CHECK_INT(head.nheaders, ==, 2);
    CHECK_STR(head.headers[1].name, "host");
    CHECK_STR(head.headers[1].value, "real:1");
    CHECK_STR(head.raw_path, "/p");
    CHECK_STR(head.query, "q");
    ta_h1_head_free(&head);
    free(memory);
    CHECK_INT(parse(&head, &no_limits, "GET http://real HTTP/1.0\r\n\r\n", &memory), ==, TA_OK);
    CHECK_INT(head.nheaders, ==, 1);
    CHECK_STR(head.headers[0].name, "host");
    CHECK_STR(head.headers[0].value, "real");
    CHECK_STR(head.raw_path, "/");
    ta_h1_head_free(&head);
    free(memory);
}

/* The bytes move at each call, also between request line and fields. */
TA_TEST(moving_bytes)
{
    static const char text[] = "POST http://h/p%20q?x=1 HTTP/1.1\r\nHost: zz\r\nAccept: */*\r\n"
                               "Content-Length: 3\r\n\r\nabc";
    ta_h1_head head;
    ta_h1_head_init(&head, &no_limits);
    char *last = NULL;
    int rc = TA_AGAIN;
    size_t n = 0;
    while (rc == TA_AGAIN) {
        n++;
        char *fresh = malloc(n);
        memcpy(fresh, text, n);
        if (last) /* what the parser changed in place stays changed */
            memcpy(fresh, last, n - 1);
        free(last);
        rc = ta_h1_head_parse(&head, last = fresh, n);
    }
    CHECK_INT(rc, ==, TA_OK);
    CHECK_INT(head.len, ==, sizeof text - 4);
    CHECK_INT(n, ==, head.len);
    CHECK_STR(head.method, "POST");
    CHECK_STR(head.target, "http://h/p%20q?x=1");
    CHECK_STR(head.raw_path, "/p%20q");
    CHECK_STR(head.headers[0].name, "host");
    CHECK_STR(head.headers[0].value, "h");
    CHECK_STR(head.headers[1].name, "accept");
    CHECK_STR(head.headers[2].value, "3");
    ta_h1_head_free(&head);
    free(last);
}

/* Twice the bytes must not cost four times the time: 1 MB of header, byte by byte. */
TA_TEST(linear_when_fed_byte_by_byte)
{
    size_t n = 1 << 20;
    char *text = malloc(n);
    memset(text, 'x', n);
    static const char start[] = "GET / HTTP/1.1\r\nhost: a\r\nlong: ";
    memcpy(text, start, sizeof start - 1);
    memcpy(text + n - 4, "\r\n\r\n", 4);
    ta_h1_head head;
    ta_h1_head_init(&head, &no_limits);
    clock_t begin = clock();
    for (size_t i = 1; i < n; i++)
        CHECK_INT(ta_h1_head_parse(&head, text, i), ==, TA_AGAIN);
    CHECK_INT(ta_h1_head_parse(&head, text, n), ==, TA_OK);
    /* quadratic would be 5e11 byte steps: minutes */
    CHECK_INT((clock() - begin) / CLOCKS_PER_SEC, <, 10);
    CHECK_INT(head.headers[1].value.len, ==, n - 4 - (sizeof start - 1));
    ta_h1_head_free(&head);
    free(text);
}

TA_TEST(header_memory_grows_and_is_kept)
{
    ta_failmalloc f = {0};
    ta_failmalloc_start(&f);
    size_t cap = 100000, n = 0;
    char *text = malloc(cap);
    n += (size_t)snprintf(text, cap, "GET / HTTP/1.1\r\nhost: a\r\n");
    for (int i = 0; i < 1000; i++)
        n += (size_t)snprintf(text + n, cap - n, "h%d: %d\r\n", i, i);
    n += (size_t)snprintf(text + n, cap - n, "\r\n");

    ta_h1_head head;
    ta_h1_head_init(&head, &no_limits);
    CHECK_INT(f.calls, ==, 0);
    CHECK_INT(ta_h1_head_parse(&head, text, n), ==, TA_OK);
    CHECK_INT(head.nheaders, ==, 1001);
    CHECK_STR(head.headers[1000].name, "h999");
    unsigned long calls = (unsigned long)f.calls;
    ta_h1_head_reset(&head);
    CHECK_INT(ta_h1_head_parse(&head, text, n), ==, TA_OK);
    CHECK_INT(f.calls, ==, calls);
    ta_h1_head_free(&head);
    CHECK_INT(f.live, ==, 0);

    /* each allocation failing in turn */
    for (unsigned long at = 1; at <= calls; at++) {
        f = (ta_failmalloc){.fail_at = at};
        ta_failmalloc_start(&f);
        ta_h1_head_init(&head, &no_limits);
        CHECK_INT(ta_h1_head_parse(&head, text, n), ==, TA_ENOMEM);
        ta_h1_head_free(&head);
        CHECK_INT(f.live, ==, 0);
    }
    ta_mem_set_hooks(NULL);
    free(text);
}
