/* swar.h -- eight bytes at a time, in a 64-bit word.  Layer: base. */
#ifndef TA_BASE_SWAR_H
#define TA_BASE_SWAR_H

#define TA_SWAR_ONES  0x0101010101010101ULL
#define TA_SWAR_HIGHS 0x8080808080808080ULL
/* High bit set in (at least) each byte of x below n, for n <= 128; exact when none is. */
#define TA_SWAR_LESS(x, n)  (((x) - TA_SWAR_ONES * (n)) & ~(x) & TA_SWAR_HIGHS)
#define TA_SWAR_EQUAL(x, c) TA_SWAR_LESS((x) ^ (TA_SWAR_ONES * (c)), 1)

#endif
