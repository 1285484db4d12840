/* UTF-8 in pieces: every boundary of RFC 3629, cut at every place. */
#include "http/utf8.h"

#include "ta_test.h"

static bool valid(ta_str text, size_t step)
{
    ta_utf8 state = {0};
    for (size_t at = 0; at < text.len; at += step) {
        if (!ta_utf8_feed(&state, ta_str_of(text.ptr + at, TA_MIN(step, text.len - at))))
            return false;
    }
    return state.need == 0;
}

/* The same in any pieces, alone and behind ASCII of any alignment. */
static bool always(ta_str text, bool expected)
{
    char padded[64];
    for (size_t pad = 0; pad < 20; pad++) {
        memset(padded, 'a', pad);
        memcpy(padded + pad, text.ptr, text.len);
        memset(padded + pad + text.len, 'z', 9);
        for (size_t step = 1; step < 30; step++) {
            if (valid(ta_str_of(padded, pad + text.len), step) != expected)
                return false;
            if (valid(ta_str_of(padded, pad + text.len + 9), step) != expected)
                return false;
        }
    }
    return true;
}

TA_TEST(valid_text)
{
    CHECK(always(TA_STR(""), true));
    CHECK(always(TA_STR("plain ascii text"), true));
    CHECK(always(TA_STR("\xc2\x80"), true));
    CHECK(always(TA_STR("\xdf\xbf"), true));
    CHECK(always(TA_STR("\xe0\xa0\x80"), true));
    CHECK(always(TA_STR("\xed\x9f\xbf"), true));
    CHECK(always(TA_STR("\xee\x80\x80"), true));
    CHECK(always(TA_STR("\xef\xbf\xbf"), true));
    CHECK(always(TA_STR("\xf0\x90\x80\x80"), true));
    CHECK(always(TA_STR("\xf4\x8f\xbf\xbf"), true));
    CHECK(always(ta_str_of("\0\x7f", 2), true));
}

TA_TEST(invalid_text)
{
    CHECK(always(TA_STR("\x80"), false));
    CHECK(always(TA_STR("\xbf"), false));
    CHECK(always(TA_STR("\xc0\x80"), false)); /* overlong */
    CHECK(always(TA_STR("\xc1\xbf"), false));
    CHECK(always(TA_STR("\xe0\x9f\xbf"), false));
    CHECK(always(TA_STR("\xf0\x8f\xbf\xbf"), false));
    CHECK(always(TA_STR("\xed\xa0\x80"), false)); /* surrogates */
    CHECK(always(TA_STR("\xed\xbf\xbf"), false));
    CHECK(always(TA_STR("\xf4\x90\x80\x80"), false)); /* beyond U+10FFFF */
    CHECK(always(TA_STR("\xf5\x80\x80\x80"), false));
    CHECK(always(TA_STR("\xff"), false));
    CHECK(always(TA_STR("\xc2"), false)); /* cut */
    CHECK(always(TA_STR("\xe2\x82"), false));
    CHECK(always(TA_STR("\xf0\x9f\x98"), false));
    CHECK(always(TA_STR("\xc2\x41"), false));
    CHECK(always(TA_STR("\xe2\x82\xc2"), false));
}

TA_TEST(fails_at_the_first_wrong_byte)
{
    ta_utf8 state = {0};
    CHECK(ta_utf8_feed(&state, TA_STR("ok \xf4")));
    CHECK(!ta_utf8_feed(&state, TA_STR("\x90")));
}
