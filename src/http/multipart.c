/* multipart.c -- see multipart.h. */
#include "http/multipart.h"

#include "http/headers.h"

/* As far as here; python-multipart takes 8 fields of 4,224 bytes. */
enum { MAX_FIELDS = 8, LONG_FIELD = 2048 };

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool begins_with(ta_str text, ta_str what)
{
    return text.len >= what.len && memcmp(text.ptr, what.ptr, what.len) == 0;
}

bool ta_multipart_boundary(ta_str content_type, ta_str *out)
{
    ta_str prefix = TA_STR("multipart/form-data; boundary=");
    if (content_type.len < prefix.len ||
        !ta_str_ieq(ta_str_of(content_type.ptr, prefix.len), prefix))
        return false;
    ta_str value = ta_str_skip(content_type, prefix.len);
    if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
        value = ta_str_of(value.ptr + 1, value.len - 2);
    if (value.len == 0 || value.len > TA_MULTIPART_BOUNDARY_MAX)
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (!is_alnum(value.ptr[i]) && strchr("'()+_,-./:?", value.ptr[i]) == NULL)
            return false;
    *out = value;
    return true;
}

int ta_multipart_begin(ta_multipart *m, ta_str body, ta_str boundary)
{
    if (boundary.len == 0 || boundary.len > TA_MULTIPART_BOUNDARY_MAX)
        return TA_EINVAL;
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary.ptr, boundary.len);
    m->delimiter_len = (uint32_t)boundary.len + 4;
    m->ended = false;
    /* The first one has no line before it. */
    ta_str first = ta_str_of(m->delimiter + 2, m->delimiter_len - 2);
    if (!begins_with(body, first))
        return TA_EINVAL;
    body = ta_str_skip(body, first.len);
    if (!begins_with(body, TA_STR("\r\n")))
        return TA_EINVAL;
    m->rest = ta_str_skip(body, 2);
    return TA_OK;
}

bool ta_multipart_field(ta_str *fields, ta_str *name, ta_str *value)
{
    const char *colon = fields->len ? memchr(fields->ptr, ':', fields->len) : NULL;
    if (colon == NULL)
        return false;
    *name = ta_str_of(fields->ptr, (size_t)(colon - fields->ptr));
    *fields = ta_str_skip(*fields, name->len + 1);
    while (fields->len > 0 && fields->ptr[0] == ' ')
        *fields = ta_str_skip(*fields, 1);
    const char *end = memchr(fields->ptr, '\r', fields->len);
    *value = ta_str_of(fields->ptr, end ? (size_t)(end - fields->ptr) : fields->len);
    *fields = ta_str_skip(*fields, value->len + (end ? 2 : 0));
    return true;
}

/* Cuts `name="value"` off *text.  False: it is not of that form. */
static bool read_quoted(ta_str *text, ta_str name, ta_str *value)
{
    if (!begins_with(*text, name))
        return false;
    ta_str rest = ta_str_skip(*text, name.len);
    const char *quote = rest.len ? memchr(rest.ptr, '"', rest.len) : NULL;
    if (quote == NULL)
        return false;
    *value = ta_str_of(rest.ptr, (size_t)(quote - rest.ptr));
    for (size_t i = 0; i < value->len; i++)
        if (value->ptr[i] == '\\' || value->ptr[i] == ';')
            return false;
    *text = ta_str_skip(rest, value->len + 1);
    return true;
}

static bool read_disposition(ta_str text, ta_multipart_part *out)
{
    if (!begins_with(text, TA_STR("form-data")))
        return false;
    text = ta_str_skip(text, 9);
    if (!read_quoted(&text, TA_STR("; name=\""), &out->name))
        return false;
    out->filename = ta_str_of(NULL, 0);
    return text.len == 0 ||
           (read_quoted(&text, TA_STR("; filename=\""), &out->filename) && text.len == 0);
}

/* The header section at the beginning of m->rest, which goes on behind it. */
static bool read_head(ta_multipart *m, ta_multipart_part *out)
{
    const char *start = m->rest.ptr;
    bool found = false;
    for (unsigned count = 0; !begins_with(m->rest, TA_STR("\r\n")); count++) {
        const char *end = m->rest.len ? memchr(m->rest.ptr, '\r', m->rest.len) : NULL;
        if (end == NULL || count == MAX_FIELDS)
            return false;
        ta_str line = ta_str_of(m->rest.ptr, (size_t)(end - m->rest.ptr)), name, value;
        m->rest = ta_str_skip(m->rest, line.len);
        if (line.len > LONG_FIELD || !begins_with(m->rest, TA_STR("\r\n")) ||
            !ta_multipart_field(&line, &name, &value) || name.len == 0)
            return false;
        m->rest = ta_str_skip(m->rest, 2);
        for (size_t i = 0; i < name.len; i++)
            if (!is_alnum(name.ptr[i]) && name.ptr[i] != '-')
                return false;
        if (!ta_str_ieq(name, TA_STR("content-disposition")))
            continue;
        if (found || !read_disposition(value, out))
            return false;
        found = true;
    }
    out->fields = ta_str_of(start, (size_t)(m->rest.ptr - start));
    m->rest = ta_str_skip(m->rest, 2);
    return found;
}

int ta_multipart_next(ta_multipart *m, ta_multipart_part *out)
{
    if (m->ended)
        return 0;
    if (!read_head(m, out))
        return TA_EINVAL;
    const char *end = memmem(m->rest.ptr, m->rest.len, m->delimiter, m->delimiter_len);
    if (end == NULL)
        return TA_EINVAL;
    out->data = ta_str_of(m->rest.ptr, (size_t)(end - m->rest.ptr));
    m->rest = ta_str_skip(m->rest, out->data.len + m->delimiter_len);
    m->ended = begins_with(m->rest, TA_STR("--"));
    if (!m->ended && !begins_with(m->rest, TA_STR("\r\n")))
        return TA_EINVAL;
    m->rest = ta_str_skip(m->rest, 2);
    return 1;
}
