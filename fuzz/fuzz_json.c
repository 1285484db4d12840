/*
 * fuzz_json.c -- the JSON writers: what they write, read back, must be what was given.
 *
 * Input: one byte chooses the writer, the rest is its argument.
 */
#include "fuzz.h"

#include <math.h>

#include "json/escape.h"
#include "json/num.h"

/* How many digits of the number are not leading or trailing zeros. */
static int significant(const char *text)
{
    int n = 0, zeros = 0;
    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (n == 0 && *text == '0'))
            continue;
        n++;
        zeros = *text == '0' ? zeros + 1 : 0;
    }
    return n - zeros;
}

static void check_number(const uint8_t *data)
{
    char text[TA_JSON_DOUBLE_MAX + 1];
    uint64_t bits;
    memcpy(&bits, data, 8);

    char *end = ta_json_write_i64(text, (int64_t)bits);
    REQUIRE(end - text <= TA_JSON_INT_MAX);
    *end = '\0';
    REQUIRE(strtoll(text, NULL, 10) == (int64_t)bits);

    double v;
    memcpy(&v, data, 8);
    if (!isfinite(v))
        return;
    end = ta_json_write_double(text, v);
    REQUIRE(end - text <= TA_JSON_DOUBLE_MAX);
    *end = '\0';
    double back = strtod(text, NULL);
    REQUIRE(memcmp(&back, &v, 8) == 0);

    /* No shorter text reads back as v: C's rounding to one digit less does not. */
    if (v != 0) {
        int n = significant(text);
        if (n > 1) {
            char shorter[40];
            snprintf(shorter, sizeof shorter, "%.*e", n - 2, v);
            REQUIRE(strtod(shorter, NULL) != v);
        }
    }
}

/* One code point of a JSON string's text; the escapes are undone. */
static const unsigned char *read_one(const unsigned char *p, const unsigned char *end,
                                     uint32_t *out)
{
    REQUIRE(p < end);
    uint32_t c = *p++;
    REQUIRE(c >= 0x20 && c != '"');
    if (c == '\\') {
        REQUIRE(p < end);
        static const char letters[] = "\"\"\\\\b\bt\tn\nf\fr\r";
        unsigned char letter = *p++;
        if (letter == 'u') {
            REQUIRE(end - p >= 4);
            char hex[5] = {(char)p[0], (char)p[1], (char)p[2], (char)p[3], 0};
            char *stop;
            *out = (uint32_t)strtoul(hex, &stop, 16);
            REQUIRE(*stop == 0 && (*out < 0x20 || *out >= 0x7f));
            return p + 4;
        }
        for (size_t i = 0; i + 1 < sizeof letters; i += 2) {
            if ((unsigned char)letters[i] == letter) {
                *out = (unsigned char)letters[i + 1];
                return p;
            }
        }
        abort();
    }
    if (c < 0x80) {
        *out = c;
        return p;
    }
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    c &= 0x3f >> more;
    while (more-- > 0) {
        REQUIRE(p < end && (*p & 0xc0) == 0x80);
        c = c << 6 | (*p++ & 0x3f);
    }
    *out = c;
    return p;
}

/* Behind a high surrogate: the low one, and what both mean. */
static const unsigned char *read_low_half(const unsigned char *p, const unsigned char *end,
                                          uint32_t *c)
{
    if (*c < 0xd800 || *c > 0xdbff)
        return p;
    uint32_t low;
    p = read_one(p, end, &low);
    REQUIRE(low >= 0xdc00 && low <= 0xdfff);
    *c = 0x10000 + ((*c & 0x3ff) << 10 | (low & 0x3ff));
    return p;
}

/* Writes n units of that width, as UTF-8 or as ASCII. */
static int write_string(ta_buf *out, unsigned width, bool ascii, const void *units, size_t n)
{
    switch (width) {
    case 1:
        return ascii ? ta_json_ascii_latin1(out, units, n) : ta_json_string_latin1(out, units, n);
    case 2:
        return ascii ? ta_json_ascii_ucs2(out, units, n) : ta_json_string_ucs2(out, units, n);
    default:
        return ascii ? ta_json_ascii_ucs4(out, units, n) : ta_json_string_ucs4(out, units, n);
    }
}

static void check_string(unsigned width, bool ascii, const uint8_t *data, size_t size)
{
    size_t n = size / width;
    uint32_t *units = calloc(n + 1, sizeof *units);
    void *copy = malloc(n * width + 1);
    REQUIRE(units && copy);
    memcpy(copy, data, n * width);
    int valid = 1;
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        if (width == 1) {
            units[i] = data[i];
        } else if (width == 2) {
            memcpy(&half, data + 2 * i, 2);
            units[i] = half;
        } else {
            memcpy(&units[i], data + 4 * i, 4);
        }
        if (units[i] > 0x10ffff || (units[i] >= 0xd800 && units[i] <= 0xdfff))
            valid = 0;
    }

    ta_buf out;
    ta_buf_init(&out);
    REQUIRE(ta_buf_append(&out, "before", 6) == TA_OK);
    int rc = write_string(&out, width, ascii, copy, n);
    ta_str text = ta_buf_str(&out);
    REQUIRE(text.len >= 6 && memcmp(text.ptr, "before", 6) == 0);
    if (!valid) {
        REQUIRE(rc == TA_EBAD && text.len == 6);
    } else {
        REQUIRE(rc == TA_OK && text.len >= 8);
        const unsigned char *p = (const unsigned char *)text.ptr + 6;
        const unsigned char *end = (const unsigned char *)text.ptr + text.len - 1;
        REQUIRE(*p++ == '"' && *end == '"');
        for (size_t i = 0; i < n; i++) {
            uint32_t c;
            p = read_one(p, end, &c);
            if (ascii)
                p = read_low_half(p, end, &c);
            REQUIRE(c == units[i]);
        }
        for (const char *at = text.ptr; ascii && at < text.ptr + text.len; at++)
            REQUIRE(*at >= 0x20 && *at < 0x7f);
        REQUIRE(p == end);
    }
    ta_buf_free(&out);
    free(copy);
    free(units);
}

/* Bytes are copied or escaped one by one. */
static void check_bytes(const char *s, size_t size)
{
    ta_buf out;
    ta_buf_init(&out);
    REQUIRE(ta_json_string_utf8(&out, s, size) == TA_OK);
    ta_str text = ta_buf_str(&out);
    REQUIRE(text.len >= size + 2);
    for (size_t i = 1; i + 1 < text.len; i++)
        REQUIRE((unsigned char)text.ptr[i] >= 0x20);
    ta_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    unsigned which = data[0] % 5;
    bool ascii = data[0] / 5 % 2 == 1;
    data++;
    size--;
    if (which < 3)
        check_string(1u << which, ascii, data, size);
    else if (which == 3)
        check_bytes((const char *)data, size);
    else
        for (; size >= 8; data += 8, size -= 8)
            check_number(data);
    return 0;
}
