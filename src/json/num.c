/*
 * num.c -- see num.h.
 *
 * Doubles: Raffaello Giulietti's Schubfach ("The Schubfach way to render doubles", 2020).  For
 * v = c * 2^q one power of ten 10^-k is chosen such that the interval of decimals that read back
 * as v, scaled by it, is between 2 and 20 wide; then at most one multiple of 10 and two or three
 * integers are inside, and only these must be compared.  Everything is exact: products with the
 * 126-bit power are rounded "to odd", which keeps every comparison right.
 */
#include "json/num.h"

#include "json/pow10_table.h"

__extension__ typedef unsigned __int128 u128;

static const char digit_pairs[201] = "00010203040506070809101112131415161718192021222324"
                                     "25262728293031323334353637383940414243444546474849"
                                     "50515253545556575859606162636465666768697071727374"
                                     "75767778798081828384858687888990919293949596979899";

static unsigned count_digits(uint64_t v)
{
    unsigned n = 1;
    for (;;) {
        if (v < 10)
            return n;
        if (v < 100)
            return n + 1;
        if (v < 1000)
            return n + 2;
        if (v < 10000)
            return n + 3;
        v /= 10000;
        n += 4;
    }
}

/* Writes v as exactly n digits (v has no more). */
static void write_digits(char *dst, uint64_t v, unsigned n)
{
    char *p = dst + n;
    TA_ASSERT(n >= count_digits(v));
    while (p - dst >= 2) {
        unsigned pair = (unsigned)(v % 100);
        v /= 100;
        p -= 2;
        memcpy(p, digit_pairs + 2 * pair, 2);
    }
    if (p > dst)
        *--p = (char)('0' + v % 10);
}

static char *write_u64(char *dst, uint64_t v)
{
    unsigned n = count_digits(v);
    write_digits(dst, v, n);
    return dst + n;
}

char *ta_json_write_i64(char *dst, int64_t v)
{
    uint64_t u = (uint64_t)v;
    if (v < 0) {
        *dst++ = '-';
        u = 0 - u;
    }
    return write_u64(dst, u);
}

/* High 64 bits of g * c / 2^64, with the lowest bit set when anything was cut off. */
static inline uint64_t round_to_odd(const uint64_t g[2], uint64_t c)
{
    u128 low = (u128)g[1] * c;
    u128 high = (u128)g[0] * c + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

/* floor(x / 2^n), for a negative x too: gcc and clang shift arithmetically. */
static inline int floor_shift(int x, int n)
{
    return x >> n;
}

static void shortest_bits(uint64_t fraction, int biased, uint64_t *digits, int *exponent)
{
    uint64_t c;
    int q;
    if (biased != 0) {
        c = fraction | UINT64_C(1) << 52;
        q = biased - 1075;
    } else {
        c = fraction;
        q = -1074;
    }

    /* The interval's ends are themselves read as v only when c is even (round half to even). */
    uint64_t open = c & 1;
    /* Below a power of two the doubles are twice as close. */
    int closer = fraction == 0 && biased > 1;
    int k = floor_shift(q * 1262611 - (closer ? 524031 : 0), 22); /* floor(log10(width)) */
    int h = q + floor_shift(-k * 1741647, 19) + 1;
    TA_ASSERT(-k >= TA_POW10_MIN && (size_t)(-k - TA_POW10_MIN) < TA_COUNTOF(ta_pow10_table));
    TA_ASSERT(h >= 1 && h <= 4); /* 4 * c + 2 has 55 bits, and goes up by h */
    const uint64_t *g = ta_pow10_table[-k - TA_POW10_MIN];

    uint64_t value = round_to_odd(g, (4 * c) << h);
    uint64_t lower = round_to_odd(g, (4 * c - 2 + (uint64_t)closer) << h) + open;
    uint64_t upper = round_to_odd(g, (4 * c + 2) << h) - open;

    uint64_t s = value / 4;
    if (s >= 10) {
        uint64_t tens = s / 10;
        bool down_in = lower <= 40 * tens;
        bool up_in = 40 * tens + 40 <= upper;
        if (down_in != up_in) { /* one digit fewer is enough */
            *digits = tens + up_in;
            *exponent = k + 1;
            return;
        }
    }
    bool down_in = lower <= 4 * s;
    bool up_in = 4 * s + 4 <= upper;
    bool up;
    if (down_in != up_in) {
        up = up_in;
    } else { /* both or neither: the nearer one, a tie goes to the even digit */
        uint64_t mid = 4 * s + 2;
        up = value > mid || (value == mid && (s & 1));
    }
    *digits = s + up;
    *exponent = k;
}

/*
 * Finds for a finite v > 0 the *digits * 10^*exponent that equals it to the last bit, where *digits
 * has the fewest digits possible and is nearest to v (at most 17; no trailing zero).
 */
static void shortest(double v, uint64_t *digits, int *exponent)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    uint64_t d;
    int e;
    shortest_bits(bits & ((UINT64_C(1) << 52) - 1), (int)(bits >> 52 & 0x7ff), &d, &e);
    while (d % 10 == 0) {
        d /= 10;
        e++;
    }
    *digits = d;
    *exponent = e;
}

/*
 * Writes v (0.0001 <= v < 1e11, not whole) if it has at most four decimals: then it is the double
 * next to digits / 10000, a decimal of 15 digits or fewer, and no other of these is as near to it,
 * so that this is its shortest form.  Returns dst when it has more.
 */
static char *write_few_decimals(char *dst, double v)
{
    uint64_t digits = (uint64_t)(v * 10000 + 0.5);
    if ((double)digits / 10000 != v)
        return dst;
    dst = write_u64(dst, digits / 10000);
    *dst++ = '.';
    write_digits(dst, digits % 10000, 4);
    dst += 4;
    while (dst[-1] == '0')
        dst--;
    return dst;
}

char *ta_json_write_double(char *dst, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    TA_ASSERT((bits >> 52 & 0x7ff) != 0x7ff); /* finite */
    if (bits >> 63) {
        *dst++ = '-';
        v = -v;
    }
    /* Whole numbers below 2^53 are their own shortest form (zero included). */
    if (v < 9007199254740992.0) {
        uint64_t whole = (uint64_t)v;
        if ((double)whole == v) {
            dst = write_u64(dst, whole);
            memcpy(dst, ".0", 2);
            return dst + 2;
        }
    }
    if (v >= 0.0001 && v < 1e11) {
        char *end = write_few_decimals(dst, v);
        if (end != dst)
            return end;
    }

    uint64_t digits;
    int exponent;
    shortest(v, &digits, &exponent);
    unsigned n = count_digits(digits);
    int point = (int)n + exponent; /* v = 0.digits * 10^point */

    if (point > -4 && point <= 16) {
        if (point <= 0) { /* 0.000ddd */
            memcpy(dst, "0.000", 5);
            dst += 2 - point;
            write_digits(dst, digits, n);
            return dst + n;
        }
        if (exponent >= 0) { /* ddd000.0 */
            write_digits(dst, digits, n);
            memset(dst + n, '0', (size_t)exponent);
            dst += point;
            memcpy(dst, ".0", 2);
            return dst + 2;
        }
        /* dd.ddd */
        write_digits(dst + 1, digits, n);
        memmove(dst, dst + 1, (size_t)point);
        dst[point] = '.';
        return dst + n + 1;
    }

    write_digits(dst + 1, digits, n);
    dst[0] = dst[1];
    if (n > 1) {
        dst[1] = '.';
        dst += n + 1;
    } else {
        dst += 1;
    }
    int e = point - 1;
    *dst++ = 'e';
    *dst++ = e < 0 ? '-' : '+';
    unsigned ue = (unsigned)(e < 0 ? -e : e);
    unsigned en = ue >= 100 ? 3 : 2;
    write_digits(dst, ue, en);
    return dst + en;
}
