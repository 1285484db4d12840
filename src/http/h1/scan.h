/*
 * h1/scan.h -- how far a run of allowed bytes goes: the inner loops of the head parser.
 *
 * Layer: http, private.  AVX2 when the build targets it, SSE2 on every x86-64, else eight bytes at
 * a time in a 64-bit word.  No load crosses `end`.
 */
#ifndef TA_HTTP_H1_SCAN_H
#define TA_HTTP_H1_SCAN_H

#include "base/swar.h"
#include "base/ta_base.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

static inline bool ta_is_value_byte(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* Visible ASCII but "#": a fragment is never sent. */
static inline bool ta_is_target_byte(unsigned char c)
{
    return c > 0x20 && c < 0x7f && c != '#';
}

/* First byte in [p, end) that must not stand in a field value, or end. */
static inline const char *ta_scan_value(const char *p, const char *end)
{
#if defined(__AVX2__)
    while (end - p >= 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
        __m256i low = _mm256_cmpeq_epi8(_mm256_min_epu8(v, _mm256_set1_epi8(0x1f)), v);
        __m256i tab = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\t'));
        __m256i del = _mm256_cmpeq_epi8(v, _mm256_set1_epi8(0x7f));
        unsigned hit =
            (unsigned)_mm256_movemask_epi8(_mm256_or_si256(_mm256_andnot_si256(tab, low), del));
        if (hit)
            return p + __builtin_ctz(hit);
        p += 32;
    }
#endif
#if defined(__SSE2__)
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);
        __m128i tab = _mm_cmpeq_epi8(v, _mm_set1_epi8('\t'));
        __m128i del = _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f));
        unsigned hit = (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del));
        if (hit)
            return p + __builtin_ctz(hit);
        p += 16;
    }
#else
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        if (TA_SWAR_LESS(x, 0x20) | TA_SWAR_EQUAL(x, 0x7f)) {
            for (const char *stop = p + 8; p < stop; p++) { /* perhaps only a tab */
                if (!ta_is_value_byte((unsigned char)*p))
                    return p;
            }
            continue;
        }
        p += 8;
    }
#endif
    while (p < end && ta_is_value_byte((unsigned char)*p))
        p++;
    return p;
}

/* First byte in [p, end) that must not stand in a request-target, or end. */
static inline const char *ta_scan_target(const char *p, const char *end)
{
#if defined(__SSE2__)
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* signed compares: bytes from 0x80 up are negative, thus out of range too */
        __m128i in = _mm_and_si128(_mm_cmpgt_epi8(v, _mm_set1_epi8(0x20)),
                                   _mm_cmplt_epi8(v, _mm_set1_epi8(0x7f)));
        __m128i hash = _mm_cmpeq_epi8(v, _mm_set1_epi8('#'));
        unsigned ok = (unsigned)_mm_movemask_epi8(_mm_andnot_si128(hash, in));
        if (ok != 0xffff)
            return p + __builtin_ctz(~ok);
        p += 16;
    }
#else
    while (end - p >= 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        if ((x & TA_SWAR_HIGHS) | TA_SWAR_LESS(x, 0x21) | TA_SWAR_EQUAL(x, 0x7f) |
            TA_SWAR_EQUAL(x, '#'))
            break;
        p += 8;
    }
#endif
    while (p < end && ta_is_target_byte((unsigned char)*p))
        p++;
    return p;
}

#endif
