/*
 * fuzz_multipart.c -- bodies of multipart/form-data: what is accepted is checked against the text.
 *
 * Input: a content-type, a line feed, the body.
 */
#include "fuzz.h"

#include "http/multipart.h"

static bool within(ta_str part, ta_str all)
{
    return part.ptr >= all.ptr && part.ptr + part.len <= all.ptr + all.len;
}

/* The position of `what` in the text, or its length. */
static size_t find(ta_str text, ta_str what)
{
    for (size_t i = 0; i + what.len <= text.len; i++)
        if (memcmp(text.ptr + i, what.ptr, what.len) == 0)
            return i;
    return text.len;
}

static void check_fields(ta_multipart_part part, ta_str body)
{
    ta_str rest = part.fields, name, value;
    unsigned count = 0;
    while (ta_multipart_field(&rest, &name, &value)) {
        count++;
        REQUIRE(within(name, body) && within(value, body) && name.len > 0);
        REQUIRE(!memchr(name.ptr, ':', name.len) && !memchr(value.ptr, '\r', value.len));
        REQUIRE(value.len == 0 || value.ptr[0] != ' ');
    }
    REQUIRE(count > 0 && count <= 8);
}

/* The parts, one behind the other, give the body again. */
static void check_body(ta_str body, ta_str boundary)
{
    ta_multipart m;
    ta_multipart_part part;
    int rc;
    if (ta_multipart_begin(&m, body, boundary) != TA_OK)
        return;
    ta_str delimiter = ta_str_of(m.delimiter, m.delimiter_len);
    const char *at = body.ptr + boundary.len + 4;
    while ((rc = ta_multipart_next(&m, &part)) > 0) {
        REQUIRE(within(part.name, part.fields) && within(part.data, body));
        REQUIRE(part.filename.ptr == NULL || within(part.filename, part.fields));
        REQUIRE(part.fields.ptr == at);
        REQUIRE(part.data.ptr == part.fields.ptr + part.fields.len + 2);
        REQUIRE(find(part.data, delimiter) == part.data.len);
        REQUIRE(memcmp(part.data.ptr + part.data.len, delimiter.ptr, delimiter.len) == 0);
        at = part.data.ptr + part.data.len + delimiter.len + 2;
        REQUIRE(at <= body.ptr + body.len);
        check_fields(part, body);
    }
    REQUIRE(rc == 0 || rc == TA_EINVAL);
    if (rc == 0)
        REQUIRE(memcmp(at - 2, "--", 2) == 0 && ta_multipart_next(&m, &part) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ta_str text = {(const char *)data, size}, boundary;
    const char *line = size ? memchr(text.ptr, '\n', size) : NULL;
    if (line == NULL)
        return 0;
    ta_str type = ta_str_of(text.ptr, (size_t)(line - text.ptr));
    /* In memory of its own, so that reading beyond its end is noticed. */
    size_t len = text.len - type.len - 1;
    char *body = malloc(len ? len : 1);
    if (len)
        memcpy(body, line + 1, len);
    if (ta_multipart_boundary(type, &boundary)) {
        REQUIRE(within(boundary, type) && boundary.len > 0 &&
                boundary.len <= TA_MULTIPART_BOUNDARY_MAX);
        check_body(ta_str_of(body, len), boundary);
    }
    free(body);
    return 0;
}
