/* form.c -- see form.h. */
#include "http/form.h"

#include "http/headers.h"

static ta_str decode(ta_str s, bool quoted)
{
    char *at = (char *)s.ptr; /* within the caller's writable text */
    return quoted ? ta_str_of(at, ta_url_unquote_plus(at, s)) : s;
}

int ta_form_parse(char *text, size_t len, uint32_t max_fields, ta_form_field_fn fn, void *arg)
{
    ta_str rest = {text, len};
    ta_qs_pair pair;
    if (max_fields) {
        uint32_t n = 0;
        while (ta_qs_next(&rest, &pair)) {
            if (++n > max_fields)
                return TA_ETOOLARGE;
        }
        rest = ta_str_of(text, len);
    }
    while (ta_qs_next(&rest, &pair)) {
        ta_form_field field = {decode(pair.name, pair.name_quoted),
                               decode(pair.value, pair.value_quoted)};
        int rc = fn(arg, &field);
        if (rc != TA_OK)
            return rc;
    }
    return TA_OK;
}

bool ta_form_is_urlencoded(ta_str content_type)
{
    const char *semi = content_type.len ? memchr(content_type.ptr, ';', content_type.len) : NULL;
    size_t n = semi ? (size_t)(semi - content_type.ptr) : content_type.len;
    return ta_str_ieq(ta_str_trim(ta_str_of(content_type.ptr, n)),
                      TA_STR("application/x-www-form-urlencoded"));
}
