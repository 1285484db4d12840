/*
 * form.h -- bodies of type application/x-www-form-urlencoded, whole or in pieces.  Layer: http.
 * Multipart bodies stay with python-multipart.
 */
#ifndef TA_HTTP_FORM_H
#define TA_HTTP_FORM_H

#include "http/url.h"

/* One decoded field; slices of the text given to ta_form_parse. */
typedef struct ta_form_field {
    ta_str name, value;
} ta_form_field;

/*
 * Upcall of ta_form_parse; the slices die with `text`.  Not TA_OK ends the parse with that result.
 */
typedef int (*ta_form_field_fn)(void *arg, const ta_form_field *field);

/*
 * Splits and decodes a whole body in place: `text` is overwritten.  Fields come in order, blank
 * values are kept.  More than max_fields (0: no limit) is TA_ETOOLARGE, after none was upcalled.
 */
TA_MUST_CHECK int ta_form_parse(char *text, size_t len, uint32_t max_fields, ta_form_field_fn fn,
                                void *arg);
/* Whether a content-type value names urlencoded forms, whatever its parameters. */
bool ta_form_is_urlencoded(ta_str content_type);

#endif
