/* url.c -- see url.h. */
#include "http/url.h"

#include "http/headers.h"

#include <arpa/inet.h>

/* Value of a hex digit, or -1. */
static inline int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

size_t ta_url_unquote(char *dst, ta_str src)
{
    if (!src.len)
        return 0;
    const char *p = src.ptr, *end = src.ptr + src.len;
    char *out = dst;
    while (p < end) {
        const char *escape = memchr(p, '%', (size_t)(end - p));
        size_t plain = (size_t)((escape ? escape : end) - p);
        if (out != p)
            memmove(out, p, plain);
        out += plain;
        p += plain;
        if (!escape)
            break;
        int hi = end - p >= 3 ? hex(p[1]) : -1;
        int lo = hi >= 0 ? hex(p[2]) : -1;
        if (lo >= 0) {
            *out++ = (char)(hi << 4 | lo);
            p += 3;
        } else {
            *out++ = *p++;
        }
    }
    return (size_t)(out - dst);
}

size_t ta_url_unquote_plus(char *dst, ta_str src)
{
    if (!src.len)
        return 0;
    const char *p = src.ptr, *end = src.ptr + src.len;
    char *out = dst;
    while (p < end) {
        int hi, lo;
        if (*p == '+') {
            *out++ = ' ';
            p++;
        } else if (*p == '%' && end - p >= 3 && (hi = hex(p[1])) >= 0 && (lo = hex(p[2])) >= 0) {
            *out++ = (char)(hi << 4 | lo);
            p += 3;
        } else {
            *out++ = *p++;
        }
    }
    return (size_t)(out - dst);
}

/* -- query strings ---------------------------------------------------------------------------- */

bool ta_qs_next(ta_str *rest, ta_qs_pair *pair)
{
    if (!rest->len)
        return false;
    const char *p = rest->ptr, *end = rest->ptr + rest->len;
    while (p < end && *p == '&')
        p++;
    if (p == end) {
        *rest = ta_str_of(end, 0);
        return false;
    }

    bool quoted = false, name_quoted = false;
    const char *start = p, *eq = NULL;
    for (; p < end && *p != '&'; p++) {
        if (*p == '%' || *p == '+') {
            quoted = true;
        } else if (*p == '=' && !eq) {
            eq = p;
            name_quoted = quoted;
            quoted = false;
        }
    }
    if (eq) {
        pair->name = ta_str_of(start, (size_t)(eq - start));
        pair->name_quoted = name_quoted;
        pair->value = ta_str_of(eq + 1, (size_t)(p - eq - 1));
        pair->value_quoted = quoted;
    } else {
        pair->name = ta_str_of(start, (size_t)(p - start));
        pair->name_quoted = quoted;
        pair->value = ta_str_of(p, 0);
        pair->value_quoted = false;
    }
    if (p < end)
        p++;
    *rest = ta_str_of(p, (size_t)(end - p));
    return true;
}

/* -- cookies ----------------------------------------------------------------------------------- */

/* What str.strip() takes for white space among the characters of Latin-1. */
static bool is_latin1_space(unsigned char c)
{
    return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f) || c == 0x85 ||
           c == 0xa0;
}

static ta_str strip(const char *p, const char *end)
{
    while (p < end && is_latin1_space((unsigned char)*p))
        p++;
    while (end > p && is_latin1_space((unsigned char)end[-1]))
        end--;
    return ta_str_of(p, (size_t)(end - p));
}

bool ta_cookie_next(ta_str *rest, ta_cookie_pair *pair)
{
    while (rest->len) {
        const char *p = rest->ptr, *end = rest->ptr + rest->len;
        const char *semi = memchr(p, ';', rest->len);
        const char *stop = semi ? semi : end;
        *rest = semi ? ta_str_of(semi + 1, (size_t)(end - semi - 1)) : ta_str_of(end, 0);

        const char *eq = stop > p ? memchr(p, '=', (size_t)(stop - p)) : NULL;
        ta_str name = eq ? strip(p, eq) : ta_str_of(p, 0);
        ta_str value = eq ? strip(eq + 1, stop) : strip(p, stop);
        if (name.len || value.len) {
            pair->name = name;
            pair->value = value;
            pair->quoted = value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"';
            return true;
        }
    }
    return false;
}

/* -- authorities and request-targets ---------------------------------------------------------- */

static bool is_unreserved_or_sub_delim(unsigned char c)
{
    /* A bit for each; ASCII only. */
    static const uint64_t set[4] = {
        /* !$&'()*+,-. 0-9 ;= */ 0x2bff7fd200000000,
        /* A-Z _ a-z ~ */ 0x47fffffe87fffffe,
    };
    return set[c / 64] >> (c % 64) & 1;
}

static bool is_port(const char *p, const char *end)
{
    unsigned v = 0;
    for (; p < end; p++) {
        if (!is_digit(*p))
            return false;
        v = v * 10 + (unsigned)(*p - '0');
        if (v > 65535)
            return false;
    }
    return true;
}

/* RFC 3986 section 3.2.2: "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" ). */
static bool is_ip_future(const char *p, const char *end)
{
    const char *digits = ++p; /* behind the "v" */
    while (p < end && hex(*p) >= 0)
        p++;
    if (p == digits || p == end || *p++ != '.')
        return false;
    const char *start = p;
    while (p < end && (*p == ':' || is_unreserved_or_sub_delim((unsigned char)*p)))
        p++;
    return p > start && p == end;
}

/* Inside of the brackets: an IPv6 address or IPvFuture; zones are refused (nobody sends them). */
static bool is_ip_literal(const char *p, const char *end)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr addr;
    size_t n = (size_t)(end - p);
    if (n > 0 && (*p | 0x20) == 'v')
        return is_ip_future(p, end);
    if (n == 0 || n >= sizeof text || memchr(p, 0, n))
        return false;
    memcpy(text, p, n);
    text[n] = 0;
    return inet_pton(AF_INET6, text, &addr) == 1;
}

bool ta_url_is_authority(ta_str s)
{
    if (!s.len)
        return false;
    const char *p = s.ptr, *end = s.ptr + s.len;
    if (*p == '[') {
        const char *close = memchr(p, ']', s.len);
        if (!close || !is_ip_literal(p + 1, close))
            return false;
        p = close + 1;
    } else {
        const char *start = p;
        while (p < end && *p != ':') {
            if (*p == '%') {
                if (end - p < 3 || hex(p[1]) < 0 || hex(p[2]) < 0)
                    return false;
                p += 3;
            } else if (is_unreserved_or_sub_delim((unsigned char)*p)) {
                p++;
            } else {
                return false;
            }
        }
        if (p == start)
            return false;
    }
    if (p == end)
        return true;
    return *p == ':' && is_port(p + 1, end);
}

/* Whether the authority names a port; one that is_authority accepts. */
static bool has_port(ta_str authority)
{
    const char *p = authority.ptr, *end = p + authority.len;
    const char *bracket = *p == '[' ? memchr(p, ']', authority.len) : NULL;
    const char *from = bracket ? bracket : p;
    const char *colon = memchr(from, ':', (size_t)(end - from));
    return colon && colon + 1 < end;
}

static void split_query(const char *p, const char *end, ta_target *out)
{
    const char *mark = p < end ? memchr(p, '?', (size_t)(end - p)) : NULL;
    out->path = ta_str_of(p, (size_t)((mark ? mark : end) - p));
    out->query = mark ? ta_str_of(mark + 1, (size_t)(end - mark - 1)) : ta_str_of(end, 0);
}

static size_t scheme_len(ta_str text)
{
    if (text.len >= 8 && ta_str_ieq(ta_str_of(text.ptr, 8), TA_STR("https://")))
        return 8;
    if (text.len >= 7 && ta_str_ieq(ta_str_of(text.ptr, 7), TA_STR("http://")))
        return 7;
    return 0;
}

int ta_target_split(ta_str text, ta_method method, ta_target *out)
{
    if (!text.len)
        return TA_EBAD;
    const char *p = text.ptr, *end = text.ptr + text.len;
    ta_target t = {.authority = ta_str_of(p, 0)};

    if (method == TA_METHOD_CONNECT) {
        if (!ta_url_is_authority(text) || !has_port(text))
            return TA_EBAD;
        t.authority = text;
        t.path = t.query = ta_str_of(end, 0);
    } else if (*p == '/') {
        split_query(p, end, &t);
    } else if (*p == '*') {
        if (text.len != 1 || method != TA_METHOD_OPTIONS)
            return TA_EBAD;
        t.path = text;
        t.query = ta_str_of(end, 0);
    } else {
        size_t skip = scheme_len(text);
        if (!skip)
            return TA_EBAD;
        const char *stop = p += skip;
        while (stop < end && *stop != '/' && *stop != '?')
            stop++;
        t.absolute = true;
        t.authority = ta_str_of(p, (size_t)(stop - p));
        if (!ta_url_is_authority(t.authority))
            return TA_EBAD;
        split_query(stop, end, &t);
        if (!t.path.len) /* RFC 9112 section 3.2.4: OPTIONS of a whole server */
            t.path = method == TA_METHOD_OPTIONS && stop == end ? TA_STR("*") : TA_STR("/");
    }
    *out = t;
    return TA_OK;
}
