/* escape.c -- see escape.h. */
#include "json/escape.h"

#include "base/swar.h"

#if defined(__SSE2__) && !defined(TA_NO_SIMD)
#include <emmintrin.h>
#endif

/* 0: copied; else the letter after the backslash, 'u' meaning \u00xx. */
static const char escape_of[128] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b',         't',           'n', 'u',
    'f', 'r', 'u', 'u', 'u', 'u', 'u', 'u', 'u',         'u',           'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\',
};

/* The widest output of one input unit, "\u001f"; and how much is converted between two checks of
 * the buffer. */
enum { WIDEST = 6, BLOCK = 1024, SLACK = 16 }; /* see TA_JSON_STRING_ROOM */

/* One UTF-16 unit as \uxxxx. */
static inline char *write_u16(char *p, uint32_t c)
{
    static const char hex[16] = "0123456789abcdef";
    *p++ = '\\';
    *p++ = 'u';
    for (int shift = 12; shift >= 0; shift -= 4)
        *p++ = hex[c >> shift & 15];
    return p;
}

static inline char *write_escape(char *dst, unsigned c)
{
    char letter = escape_of[c];
    TA_ASSERT(letter != 0);
    if (letter == 'u')
        return write_u16(dst, c);
    *dst++ = '\\';
    *dst++ = letter;
    return dst;
}

/*
 * Returns a word with the top bit set in each byte that is a quotation mark, a backslash or below
 * 0x20.  A set bit can be false only above a true one (borrows run upwards), so that zero is right,
 * and so is the lowest set bit.
 */
static inline uint64_t dirty_bytes(uint64_t v)
{
    uint64_t quote = v ^ (TA_SWAR_ONES * '"');
    uint64_t back = v ^ (TA_SWAR_ONES * '\\');
    return ((v - TA_SWAR_ONES * 0x20) | (quote - TA_SWAR_ONES) | (back - TA_SWAR_ONES)) & ~v &
           TA_SWAR_HIGHS;
}

/* Copies n < 16 bytes if none of them must be escaped, as two words that may overlap. */
static inline bool copy_short_clean(char *dst, const char *s, size_t n)
{
    if (n >= 8) {
        uint64_t low, high;
        memcpy(&low, s, 8);
        memcpy(&high, s + n - 8, 8);
        memcpy(dst, &low, 8);
        memcpy(dst + n - 8, &high, 8);
        return dirty_bytes(low) == 0 && dirty_bytes(high) == 0;
    }
    if (n >= 4) {
        uint32_t low, high;
        memcpy(&low, s, 4);
        memcpy(&high, s + n - 4, 4);
        memcpy(dst, &low, 4);
        memcpy(dst + n - 4, &high, 4);
        return dirty_bytes((uint64_t)high << 32 | low) == 0;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x80 && escape_of[c])
            return false;
        dst[i] = s[i];
    }
    return true;
}

/*
 * Copies bytes of s up to the first that must be escaped; returns how many.  May write SLACK bytes
 * beyond them, never reads beyond len.
 */
static inline size_t copy_clean(char *dst, const char *s, size_t len)
{
    size_t i = 0;
#if defined(__SSE2__) && !defined(TA_NO_SIMD)
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i back = _mm_set1_epi8('\\');
    const __m128i control = _mm_set1_epi8(0x1f);
    for (; i + 16 <= len; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(s + i));
        __m128i bad = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, back)),
                                   _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
        unsigned mask = (unsigned)_mm_movemask_epi8(bad);
        _mm_storeu_si128((__m128i *)(void *)(dst + i), v);
        if (mask != 0)
            return i + (size_t)__builtin_ctz(mask);
    }
#elif __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (; i + 8 <= len; i += 8) {
        uint64_t v;
        memcpy(&v, s + i, 8);
        uint64_t mask = dirty_bytes(v);
        memcpy(dst + i, &v, 8);
        if (mask != 0)
            return i + (size_t)__builtin_ctzll(mask) / 8;
    }
#endif
    if (len - i < 16 && copy_short_clean(dst + i, s + i, len - i))
        return len;
    for (; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x80 && escape_of[c])
            break;
        dst[i] = (char)c;
    }
    return i;
}

/* Restores `out` after a converter failed. */
static inline int fail(ta_buf *out, size_t len, int err)
{
    out->len = len;
    return err;
}

static inline char *write_utf8_block(char *p, const char *s, size_t n)
{
    size_t i = 0;
    for (;;) {
        size_t clean = copy_clean(p, s + i, n - i);
        p += clean;
        i += clean;
        if (i == n)
            return p;
        p = write_escape(p, (unsigned char)s[i++]);
    }
}

char *ta_json_write_utf8(char *dst, const char *s, size_t len)
{
    *dst++ = '"';
    dst = write_utf8_block(dst, s, len);
    *dst++ = '"';
    return dst;
}

int ta_json_string_utf8(ta_buf *out, const char *s, size_t len)
{
    size_t start = out->len;
    size_t done = 0;
    do {
        size_t n = TA_MIN(len - done, (size_t)BLOCK);
        char *base = ta_buf_reserve(out, TA_JSON_STRING_ROOM(n));
        if (!base)
            return fail(out, start, TA_ENOMEM);
        char *p = base;
        if (done == 0)
            *p++ = '"';
        p = write_utf8_block(p, s + done, n);
        done += n;
        if (done == len)
            *p++ = '"';
        ta_buf_commit(out, (size_t)(p - base));
    } while (done < len);
    return TA_OK;
}

/* One code point above 0x7f that UTF-8 can carry. */
static inline char *write_utf8(char *p, uint32_t c)
{
    if (c < 0x800) {
        *p++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *p++ = (char)(0xe0 | c >> 12);
        } else {
            *p++ = (char)(0xf0 | c >> 18);
            *p++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *p++ = (char)(0x80 | (c >> 6 & 0x3f));
    }
    *p++ = (char)(0x80 | (c & 0x3f));
    return p;
}

/* One code point from 0x7f on. */
static inline char *write_ascii(char *p, uint32_t c)
{
    if (c < 0x10000)
        return write_u16(p, c);
    c -= 0x10000;
    return write_u16(write_u16(p, 0xd800 | c >> 10), 0xdc00 | (c & 0x3ff));
}

/*
 * The three fixed-width layouts differ only in the type of a unit.  `others` writes a character
 * from `first_other` on.  No unit becomes more than `widest` bytes.
 */
#define DEFINE_WIDE(name, unit, first_other, others, widest)                                       \
    int name(ta_buf *out, const unit *s, size_t len)                                               \
    {                                                                                              \
        size_t start = out->len;                                                                   \
        size_t done = 0;                                                                           \
        do {                                                                                       \
            size_t n = TA_MIN(len - done, (size_t)BLOCK);                                          \
            char *base = ta_buf_reserve(out, n * (widest) + 2);                                    \
            if (!base)                                                                             \
                return fail(out, start, TA_ENOMEM);                                                \
            char *p = base;                                                                        \
            if (done == 0)                                                                         \
                *p++ = '"';                                                                        \
            for (size_t i = 0; i < n; i++) {                                                       \
                uint32_t c = s[done + i];                                                          \
                if (c < (first_other)) {                                                           \
                    if (TA_UNLIKELY(escape_of[c] != 0))                                            \
                        p = write_escape(p, c);                                                    \
                    else                                                                           \
                        *p++ = (char)c;                                                            \
                } else if (TA_UNLIKELY((c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)) {            \
                    return fail(out, start, TA_EBAD);                                              \
                } else {                                                                           \
                    p = others(p, c);                                                              \
                }                                                                                  \
            }                                                                                      \
            done += n;                                                                             \
            if (done == len)                                                                       \
                *p++ = '"';                                                                        \
            ta_buf_commit(out, (size_t)(p - base));                                                \
        } while (done < len);                                                                      \
        return TA_OK;                                                                              \
    }

char *ta_json_write_latin1(char *dst, const uint8_t *s, size_t len)
{
    *dst++ = '"';
    for (size_t i = 0; i < len; i++) {
        unsigned c = s[i];
        if (c >= 0x80)
            dst = write_utf8(dst, c);
        else if (TA_UNLIKELY(escape_of[c] != 0))
            dst = write_escape(dst, c);
        else
            *dst++ = (char)c;
    }
    *dst++ = '"';
    return dst;
}

DEFINE_WIDE(ta_json_string_latin1, uint8_t, 0x80, write_utf8, WIDEST)
DEFINE_WIDE(ta_json_string_ucs2, uint16_t, 0x80, write_utf8, WIDEST)
DEFINE_WIDE(ta_json_string_ucs4, uint32_t, 0x80, write_utf8, WIDEST)

DEFINE_WIDE(ta_json_ascii_latin1, uint8_t, 0x7f, write_ascii, WIDEST)
DEFINE_WIDE(ta_json_ascii_ucs2, uint16_t, 0x7f, write_ascii, WIDEST)
DEFINE_WIDE(ta_json_ascii_ucs4, uint32_t, 0x7f, write_ascii, 2 * WIDEST)
