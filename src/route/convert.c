/* convert.c -- see convert.h. */
#include "route/convert.h"

int ta_conv_find(ta_str name)
{
    static const struct {
        ta_str name;
        ta_route_conv conv;
    } known[] = {
        {{"str", 3}, TA_CONV_STR},   {{"int", 3}, TA_CONV_INT},   {{"float", 5}, TA_CONV_FLOAT},
        {{"uuid", 4}, TA_CONV_UUID}, {{"path", 4}, TA_CONV_PATH},
    };
    for (size_t i = 0; i < TA_COUNTOF(known); i++)
        if (ta_str_eq(name, known[i].name))
            return (int)known[i].conv;
    return -1;
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline int hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t ta_conv_digits(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len && is_digit(s[n]))
        n++;
    return n;
}

size_t ta_conv_uuid_span(const char *s, size_t len)
{
    size_t at = 0;
    for (unsigned digit = 0; digit < 32; digit++) {
        bool may_hyphen = digit == 8 || digit == 12 || digit == 16 || digit == 20;
        if (may_hyphen && at < len && s[at] == '-')
            at++;
        if (at == len || hex_value(s[at]) < 0)
            return 0;
        at++;
    }
    return at;
}

int ta_conv_int(ta_str text, int64_t *out)
{
    int64_t v = 0;
    for (size_t i = 0; i < text.len; i++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, text.ptr[i] - '0', &v))
            return TA_ETOOLARGE;
    *out = v;
    return TA_OK;
}
