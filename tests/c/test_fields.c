#include "http/fields.h"

#include "ta_failmalloc.h"
#include "ta_test.h"

static void add(ta_fields *f, const char *name, const char *value)
{
    CHECK_INT(ta_fields_add(f, ta_str_of(name, strlen(name)), ta_str_of(value, strlen(value))), ==,
              TA_OK);
}

/* The places say what the text says. */
static void check_places(const ta_fields *f)
{
    ta_response_head head = ta_fields_head(f);
    size_t at = 0;
    for (uint32_t i = 0; i < head.nfields; i++) {
        const ta_field *field = &head.fields[i];
        ta_str name = ta_field_name(head.text, field), value = ta_field_value(head.text, field);
        CHECK_INT(field->at, ==, at);
        CHECK_MEM(name.ptr + name.len, ": ", 2);
        CHECK_MEM(value.ptr + value.len, "\r\n", 2);
        at += name.len + value.len + 4;
    }
    CHECK_INT(at, ==, head.text.len);
}

TA_TEST(added_in_order)
{
    ta_fields f;
    ta_fields_init(&f);
    CHECK_INT(ta_fields_head(&f).nfields, ==, 0);
    add(&f, "X-A", "1");
    add(&f, "x-empty", "");
    add(&f, "x-a", "Two");
    f.status = 201;
    ta_response_head head = ta_fields_head(&f);
    CHECK_INT(head.status, ==, 201);
    CHECK_INT(head.nfields, ==, 3);
    CHECK_INT(head.flags, ==, 0);
    CHECK_INT(head.length, ==, -1);
    CHECK_STR(head.text, "x-a: 1\r\nx-empty: \r\nx-a: Two\r\n");
    CHECK_STR(ta_field_name(head.text, &head.fields[2]), "x-a");
    CHECK_STR(ta_field_value(head.text, &head.fields[2]), "Two");
    check_places(&f);
    ta_fields copy;
    ta_fields_init(&copy);
    CHECK_INT(ta_fields_copy(&copy, &head), ==, TA_OK);
    CHECK_STR(ta_buf_str(&copy.text), "x-a: 1\r\nx-empty: \r\nx-a: Two\r\n");
    check_places(&copy);
    CHECK_INT(ta_fields_copy(&copy, &head), ==, TA_OK);
    CHECK_STR(ta_buf_str(&copy.text), "x-a: 1\r\nx-empty: \r\nx-a: Two\r\n"
                                      "x-a: 1\r\nx-empty: \r\nx-a: Two\r\n");
    check_places(&copy);
    ta_fields_free(&copy);
    ta_fields_free(&f);
    ta_fields_free(&f);
}

/* As many as there are, with what a protocol must know of them; more can be added. */
TA_TEST(copied_at_once)
{
    ta_fields f, copy;
    ta_fields_init(&f);
    ta_fields_init(&copy);
    ta_response_head none = ta_fields_head(&f);
    CHECK_INT(ta_fields_copy(&copy, &none), ==, TA_OK);
    CHECK_INT(copy.count, ==, 0);
    for (int i = 0; i < 40; i++) {
        ta_fields_clear(&copy);
        if (i % 8 == 0) /* with places of its own, and without */
            ta_fields_free(&copy);
        ta_response_head head = ta_fields_head(&f);
        CHECK_INT(ta_fields_copy(&copy, &head), ==, TA_OK);
        check_places(&copy);
        CHECK_INT(copy.text.len, ==, f.text.len);
        if (i > 0)
            CHECK_MEM(ta_buf_str(&copy.text).ptr, ta_buf_str(&f.text).ptr, f.text.len);
        CHECK_INT(copy.count, ==, f.count);
        CHECK_INT(copy.length, ==, f.length);
        CHECK_INT(copy.flags, ==, f.flags);
        add(&copy, "x-more", "1");
        check_places(&copy);
        CHECK_INT(copy.count, ==, f.count + 1);
        add(&f, i == 10 ? "Content-Length" : i == 20 ? "date" : "x", "12");
    }
    ta_fields_free(&copy);
    ta_fields_free(&f);
}

TA_TEST(what_a_protocol_must_know)
{
    ta_fields f;
    ta_fields_init(&f);
    add(&f, "Date", "x");
    CHECK_INT(f.flags, ==, TA_RESP_HAS_DATE);
    add(&f, "SERVER", "x");
    CHECK_INT(f.flags, ==, TA_RESP_HAS_DATE | TA_RESP_HAS_SERVER);
    add(&f, "connection", "upgrade");
    add(&f, "data", "close");
    CHECK_INT(f.flags, ==, TA_RESP_HAS_DATE | TA_RESP_HAS_SERVER);
    add(&f, "Connection", "upgrade, Close");
    CHECK_INT(f.flags, ==, TA_RESP_HAS_DATE | TA_RESP_HAS_SERVER | TA_RESP_CLOSE);
    ta_fields_remove(&f, TA_STR("date"));
    ta_fields_remove(&f, TA_STR("connection"));
    CHECK_INT(f.flags, ==, TA_RESP_HAS_SERVER);
    CHECK_STR(ta_buf_str(&f.text), "server: x\r\ndata: close\r\n");
    check_places(&f);
    ta_fields_clear(&f);
    CHECK_INT(f.flags, ==, 0);
    ta_fields_free(&f);
}

TA_TEST(one_length)
{
    ta_fields f;
    ta_fields_init(&f);
    CHECK_INT(ta_fields_add(&f, TA_STR("content-length"), TA_STR("x")), ==, TA_EINVAL);
    CHECK_INT(f.count, ==, 0);
    CHECK_INT(f.length, ==, -1);
    add(&f, "Content-Length", "12");
    add(&f, "content-length", "012"); /* left out, as it says the same */
    CHECK_INT(ta_fields_add(&f, TA_STR("content-length"), TA_STR("13")), ==, TA_EINVAL);
    CHECK_INT(f.length, ==, 12);
    CHECK_STR(ta_buf_str(&f.text), "content-length: 12\r\n");
    CHECK_INT(ta_fields_set(&f, TA_STR("content-length"), TA_STR("7")), ==, TA_OK);
    CHECK_INT(f.length, ==, 7);
    ta_fields_remove(&f, TA_STR("content-length"));
    CHECK_INT(f.length, ==, -1);
    CHECK_INT(ta_fields_add_length(&f, INT64_MAX), ==, TA_OK);
    CHECK_INT(f.length, ==, INT64_MAX);
    ta_fields_free(&f);
}

TA_TEST(found_set_and_removed)
{
    ta_fields f;
    ta_fields_init(&f);
    ta_str value;
    uint32_t i = 0;
    CHECK(!ta_fields_find(&f, TA_STR("a"), &i, &value));
    add(&f, "a", "1");
    add(&f, "ab", "2");
    add(&f, "a", "3");
    i = 0;
    CHECK(ta_fields_find(&f, TA_STR("a"), &i, &value) && i == 0);
    CHECK_STR(value, "1");
    i++;
    CHECK(ta_fields_find(&f, TA_STR("a"), &i, &value) && i == 2);
    CHECK_STR(value, "3");
    i++;
    CHECK(!ta_fields_find(&f, TA_STR("a"), &i, &value));
    CHECK_INT(ta_fields_set(&f, TA_STR("a"), TA_STR("only")), ==, TA_OK);
    CHECK_STR(ta_buf_str(&f.text), "ab: 2\r\na: only\r\n");
    check_places(&f);
    ta_fields_remove(&f, TA_STR("b"));
    ta_fields_remove(&f, TA_STR("ab"));
    ta_fields_remove(&f, TA_STR("a"));
    CHECK_INT(f.count, ==, 0);
    CHECK_INT(f.text.len, ==, 0);
    ta_fields_free(&f);
}

/* The places move. */
TA_TEST(many)
{
    ta_fields f;
    ta_fields_init(&f);
    char name[20];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "n%d", i);
        add(&f, name, "value");
    }
    check_places(&f);
    for (int i = 0; i < 100; i += 2) {
        snprintf(name, sizeof name, "n%d", i);
        ta_fields_remove(&f, ta_str_of(name, strlen(name)));
    }
    CHECK_INT(f.count, ==, 50);
    check_places(&f);
    ta_fields_free(&f);
}

static void scenario(void)
{
    ta_fields f;
    ta_fields_init(&f);
    for (int i = 0; i < 24; i++) {
        uint32_t count = f.count;
        size_t len = f.text.len;
        if (ta_fields_add(&f, TA_STR("name"), TA_STR("value")) != TA_OK &&
            (f.count != count || f.text.len != len))
            FAIL("changed although it failed");
    }
    ta_fields_free(&f);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(scenario);
}
