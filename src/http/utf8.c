/* utf8.c -- UTF-8 in pieces.  See utf8.h. */
#include "http/utf8.h"

/* The first byte of a character that is not ASCII.  The bounds of the second one keep out overlong
 * forms, surrogates and what is beyond U+10FFFF. */
static bool begin(ta_utf8 *s, unsigned char c)
{
    s->low = 0x80;
    s->high = 0xbf;
    if (c < 0xc2 || c > 0xf4)
        return false;
    if (c < 0xe0) {
        s->need = 1;
    } else if (c < 0xf0) {
        s->need = 2;
        if (c == 0xe0)
            s->low = 0xa0;
        else if (c == 0xed)
            s->high = 0x9f;
    } else {
        s->need = 3;
        if (c == 0xf0)
            s->low = 0x90;
        else if (c == 0xf4)
            s->high = 0x8f;
    }
    return true;
}

bool ta_utf8_feed(ta_utf8 *s, ta_str piece)
{
    if (!piece.len) /* its ptr may be NULL, to which nothing may be added */
        return true;
    const unsigned char *p = (const unsigned char *)piece.ptr, *end = p + piece.len;
    while (p < end) {
        if (s->need) {
            if (*p < s->low || *p > s->high)
                return false;
            s->low = 0x80;
            s->high = 0xbf;
            s->need--;
            p++;
            continue;
        }
        while (end - p >= 8) {
            uint64_t eight;
            memcpy(&eight, p, 8);
            if (eight & UINT64_C(0x8080808080808080))
                break;
            p += 8;
        }
        while (p < end && *p < 0x80)
            p++;
        if (p < end && !begin(s, *p++))
            return false;
    }
    return true;
}
