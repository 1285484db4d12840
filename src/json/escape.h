/*
 * escape.h -- JSON strings as json.dumps(..., ensure_ascii=False) writes them.
 *
 * They escape the quotation mark, the backslash and the bytes below 0x20 (\n \r \t \b \f, else
 * \u00xx in lower case) and copy every other character.  The output is UTF-8.  The functions named
 * ta_json_ascii_* write what json.dumps(...) writes without that option: ASCII.
 *
 * Layer: json, over base only.  Nothing is NUL-terminated.
 */
#ifndef TA_JSON_ESCAPE_H
#define TA_JSON_ESCAPE_H

#include "base/buf.h"
#include "base/ta_base.h"

/*
 * Write a short string with its quotation marks where there is room for TA_JSON_STRING_ROOM(len)
 * bytes; return one past the last.  Bytes after that may be overwritten as well, within the room.
 */
#define TA_JSON_STRING_ROOM(len) (6 * (size_t)(len) + 18)
char *ta_json_write_utf8(char *dst, const char *s, size_t len);
char *ta_json_write_latin1(char *dst, const uint8_t *s, size_t len);

/*
 * Append the string with its quotation marks.  Results: TA_OK; TA_ENOMEM; TA_EBAD: a lone
 * surrogate or a code point above U+10FFFF, for which UTF-8 has no form.  On failure `out` is
 * unchanged.  The utf8 form does not validate what it copies; latin1, ucs2 and ucs4 are the three
 * layouts of a Python str, which are converted to UTF-8.
 */
TA_MUST_CHECK int ta_json_string_utf8(ta_buf *out, const char *s, size_t len);
TA_MUST_CHECK int ta_json_string_latin1(ta_buf *out, const uint8_t *s, size_t len);
TA_MUST_CHECK int ta_json_string_ucs2(ta_buf *out, const uint16_t *s, size_t len);
TA_MUST_CHECK int ta_json_string_ucs4(ta_buf *out, const uint32_t *s, size_t len);

TA_MUST_CHECK int ta_json_ascii_latin1(ta_buf *out, const uint8_t *s, size_t len);
TA_MUST_CHECK int ta_json_ascii_ucs2(ta_buf *out, const uint16_t *s, size_t len);
TA_MUST_CHECK int ta_json_ascii_ucs4(ta_buf *out, const uint32_t *s, size_t len);

#endif
