/*
 * url.h -- request-targets, percent-decoding, query strings and cookies.  Layer: http.
 *
 * Splitters are iterators that return slices of the text as sent and tell whether it needs
 * decoding, so that plain text costs no copy and nothing here allocates.
 */
#ifndef TA_HTTP_URL_H
#define TA_HTTP_URL_H

#include "http/http.h"

/* -- percent-decoding ------------------------------------------------------------------------ */

/*
 * Decodes %XX as urllib.parse.unquote_to_bytes does: escapes that are none stay as they are, and
 * %2F is a slash.  Writes at most src.len bytes to dst, which may be src.ptr.  Returns how many.
 */
size_t ta_url_unquote(char *dst, ta_str src);
/* The same after "+" became a space (application/x-www-form-urlencoded). */
size_t ta_url_unquote_plus(char *dst, ta_str src);
static inline bool ta_url_has_escape(ta_str s)
{
    return s.len && memchr(s.ptr, '%', s.len) != NULL;
}

/* -- query strings and forms ------------------------------------------------------------------ */

typedef struct ta_qs_pair {
    ta_str name, value; /* as sent */
    bool name_quoted;   /* contains "%" or "+": decode with ta_url_unquote_plus */
    bool value_quoted;
} ta_qs_pair;

/*
 * Cuts the next pair off *rest; false at the end.  The order, blank values and missing "=" are
 * those of urllib.parse.parse_qsl(text, keep_blank_values=True): "&" separates, empty pieces are
 * skipped, a piece without "=" has an empty value.
 *
 * Two differences remain for the caller: the decoded bytes are UTF-8 where parse_qsl would put
 * U+FFFD for what is not, and bytes from 0x80 up stand for themselves (Latin-1) outside escapes.
 */
bool ta_qs_next(ta_str *rest, ta_qs_pair *pair);

/* -- cookies ----------------------------------------------------------------------------------- */

typedef struct ta_cookie_pair {
    ta_str name, value; /* stripped; a quoted value includes its quotes */
    bool quoted;        /* escapes in it are http.cookies' to decode */
} ta_cookie_pair;

/*
 * Cuts the next cookie off *rest; false at the end.  As starlette.requests.cookie_parser: ";"
 * separates, a piece without "=" is a value without a name, names and values are stripped of what
 * str.strip() strips in Latin-1 text, pieces without either are skipped.  Of equal names the last
 * wins; that is the caller's business.
 */
bool ta_cookie_next(ta_str *rest, ta_cookie_pair *pair);

/* -- request-targets -------------------------------------------------------------------------- */

typedef struct ta_target {
    ta_str authority; /* absolute-form and authority-form; else empty */
    ta_str path;      /* "/...", or "*"; empty in authority-form */
    ta_str query;     /* without "?" */
    bool absolute;
} ta_target;

/*
 * Splits a request-target that fits the method (RFC 9112 section 3.2): origin-form, absolute-form
 * (http and https), authority-form for CONNECT only, "*" for OPTIONS only.  `text` must be visible
 * ASCII without "#".  TA_OK or TA_EBAD.
 */
TA_MUST_CHECK int ta_target_split(ta_str text, ta_method method, ta_target *out);
/*
 * Whether `s` is uri-host [":" port] with a port of at most 65535 (RFC 3986 section 3.2, without
 * userinfo); empty is not.
 */
bool ta_url_is_authority(ta_str s);

#endif
