/*
 * num.h -- numbers as JSON text, byte for byte as Python writes them.
 *
 * Layer: json, over base only.  The writers put no terminating NUL and never fail: the caller
 * provides room (TA_JSON_INT_MAX or TA_JSON_DOUBLE_MAX bytes).
 */
#ifndef TA_JSON_NUM_H
#define TA_JSON_NUM_H

#include "base/ta_base.h"

#define TA_JSON_INT_MAX    20 /* "-9223372036854775808", "18446744073709551615" */
#define TA_JSON_DOUBLE_MAX 26 /* "-2.2250738585072014e-308" is 24 */

/* Write v in decimal; return one past the last byte written. */
char *ta_json_write_i64(char *dst, int64_t v);

/*
 * Writes the shortest text that reads back as v, as float.__repr__ does: fixed notation for
 * 1e-4 <= |v| < 1e16 (always with a point), else "1.5e-07".  v must be finite.
 */
char *ta_json_write_double(char *dst, double v);

#endif
