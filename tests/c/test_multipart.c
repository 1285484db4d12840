#include "http/multipart.h"

#include "ta_test.h"

#define DISPOSITION "Content-Disposition: form-data; name="

TA_TEST(boundary)
{
    ta_str out;
    CHECK(ta_multipart_boundary(TA_STR("multipart/form-data; boundary=----x1"), &out));
    CHECK_STR(out, "----x1");
    CHECK(ta_multipart_boundary(TA_STR("Multipart/Form-Data; Boundary=\"a:b\""), &out));
    CHECK_STR(out, "a:b");
    static const char *const others[] = {
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=a; charset=utf-8",
        "multipart/form-data; charset=utf-8; boundary=a",
        "multipart/form-data;boundary=a",
        "multipart/form-data; boundary=\"a\\b\"",
        "multipart/form-data; boundary="
        "01234567890123456789012345678901234567890123456789012345678901234567890",
        "multipart/mixed; boundary=a",
    };
    for (size_t i = 0; i < TA_COUNTOF(others); i++)
        CHECK(!ta_multipart_boundary(ta_str_of(others[i], strlen(others[i])), &out));
}

/* How many parts a body has; -1: it is refused. */
static int parts(const char *body)
{
    ta_multipart m;
    ta_multipart_part part;
    int n = 0, rc = ta_multipart_begin(&m, ta_str_of(body, strlen(body)), TA_STR("b"));
    if (rc != TA_OK)
        return -1;
    while ((rc = ta_multipart_next(&m, &part)) > 0)
        n++;
    return rc == 0 ? n : -1;
}

TA_TEST(parts)
{
    static const char body[] = "--b\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n2\r\n--b\r\n"
                               "content-type:  text/plain\r\n" DISPOSITION
                               "\"f\"; filename=\"x.txt\"\r\n\r\n\r\n--b--\r\nepilogue";
    ta_multipart m;
    ta_multipart_part part;
    ta_str name, value;
    CHECK(ta_multipart_begin(&m, TA_STR(body), TA_STR("b")) == TA_OK);
    CHECK(ta_multipart_next(&m, &part) == 1);
    CHECK_STR(part.name, "a");
    CHECK(part.filename.ptr == NULL);
    CHECK_STR(part.data, "1\r\n2");
    CHECK(ta_multipart_next(&m, &part) == 1);
    CHECK_STR(part.name, "f");
    CHECK_STR(part.filename, "x.txt");
    CHECK(part.data.len == 0);
    CHECK(ta_multipart_field(&part.fields, &name, &value));
    CHECK_STR(name, "content-type");
    CHECK_STR(value, "text/plain");
    CHECK(ta_multipart_field(&part.fields, &name, &value));
    CHECK_STR(value, "form-data; name=\"f\"; filename=\"x.txt\"");
    CHECK(!ta_multipart_field(&part.fields, &name, &value));
    CHECK(ta_multipart_next(&m, &part) == 0 && ta_multipart_next(&m, &part) == 0);
}

TA_TEST(refused)
{
    CHECK(parts("--b\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--b--") == 1);
    static const char *const others[] = {
        "",
        "--b",
        "--b--",
        "\r\n--b\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--b--",
        "--c\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--c--",
        "--b\r\n\r\n1\r\n--b--",
        "--b\r\nX: y\r\n\r\n1\r\n--b--",
        "--b\r\n: y\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--b--",
        "--b\r\nX y: z\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\"\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "a\r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\\\"\"\r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\"; filename*=utf-8''a\r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\"; filename=\"a\"; x=\"y\"\r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "\"a;b\"\r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\" \r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\"\r\r\n\r\n1\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--b",
        "--b\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--b-",
        "--b\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--b \r\n--b--",
        "--b\r\n" DISPOSITION "\"a\"\r\n\r\n1\r\n--bb\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\"\r\n\r\n--b--",
        "--b\r\n" DISPOSITION "\"a\"\r\n",
        "--b\r\nX:1\r\nX:1\r\nX:1\r\nX:1\r\nX:1\r\nX:1\r\nX:1\r\nX:1\r\n" DISPOSITION
        "\"a\"\r\n\r\n1\r\n--b--",
    };
    for (size_t i = 0; i < TA_COUNTOF(others); i++)
        CHECK(parts(others[i]) == -1);
}
