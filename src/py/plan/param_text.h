/*
 * param_text.h -- the text of one parameter: from the request's bytes to a str, or at once to the
 * value where there can be no doubt what pydantic makes of it.
 *
 * Layer: py/plan.
 */
#ifndef TA_PY_PLAN_PARAM_TEXT_H
#define TA_PY_PLAN_PARAM_TEXT_H

#include "base/ta_base.h"
#include "py/support/py_compat.h"

/* How the bytes of a slice become text. */
typedef enum ta_encoding { ENC_UTF8, ENC_QUERY, ENC_LATIN1 } ta_encoding;

bool ta_param_is_ascii(ta_str s);
/* New str, as Starlette decodes it; NULL with an exception. */
PyObject *ta_param_decode(ta_str s, ta_encoding enc);
/*
 * New int, float or bool when the text is plain for `conv` (a ta_conv); NULL without an exception:
 * pydantic decides; NULL with one: memory.
 */
PyObject *ta_param_plain(uint8_t conv, ta_str s);

#endif
