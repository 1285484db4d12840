/* param_text.c -- see param_text.h. */
#include "py/plan/param_text.h"

#include "http/url.h"
#include "py/plan/plan_int.h"

/* -- text ---------------------------------------------------------------------------------- */

/* What a run of bytes contains, as flags. */
enum { HAS_PERCENT = 1, HAS_PLUS = 2, HAS_HIGH = 4 };

static unsigned scan(ta_str s)
{
    unsigned flags = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '%')
            flags |= HAS_PERCENT;
        else if (c == '+')
            flags |= HAS_PLUS;
        else if (c >= 0x80)
            flags |= HAS_HIGH;
    }
    return flags;
}

bool ta_param_is_ascii(ta_str s)
{
    return (scan(s) & HAS_HIGH) == 0;
}

static PyObject *unquote_ascii(ta_str s)
{
    char small[256];
    char *out = s.len <= sizeof small ? small : PyMem_Malloc(s.len);
    if (out == NULL)
        return PyErr_NoMemory();
    size_t n = ta_url_unquote_plus(out, s);
    PyObject *text = PyUnicode_DecodeUTF8(out, (Py_ssize_t)n, "replace");
    if (out != small)
        PyMem_Free(out);
    return text;
}

/*
 * As urllib.parse.unquote on the Latin-1 text: runs of ASCII are decoded, other characters stay.
 * A raw byte above 0x7f in a query string is not legal; this keeps what Starlette makes of it.
 */
static PyObject *unquote_mixed(ta_str s)
{
    PyObject *parts = PyList_New(0);
    if (parts == NULL)
        return NULL;
    size_t i = 0;
    while (i < s.len) {
        size_t start = i;
        bool high = (unsigned char)s.ptr[i] >= 0x80;
        while (i < s.len && ((unsigned char)s.ptr[i] >= 0x80) == high)
            i++;
        ta_str run = ta_str_of(s.ptr + start, i - start);
        PyObject *part =
            high ? PyUnicode_DecodeLatin1(run.ptr, (Py_ssize_t)run.len, NULL) : unquote_ascii(run);
        if (part == NULL || PyList_Append(parts, part) < 0) {
            Py_XDECREF(part);
            Py_DECREF(parts);
            return NULL;
        }
        Py_DECREF(part);
    }
    PyObject *empty = PyUnicode_FromStringAndSize("", 0);
    PyObject *text = empty ? PyUnicode_Join(empty, parts) : NULL;
    Py_XDECREF(empty);
    Py_DECREF(parts);
    return text;
}

PyObject *ta_param_decode(ta_str s, ta_encoding enc)
{
    if (enc == ENC_UTF8)
        return PyUnicode_DecodeUTF8(s.ptr, (Py_ssize_t)s.len, "replace");
    if (enc == ENC_QUERY) {
        unsigned flags = scan(s);
        if (flags != 0)
            return flags & HAS_HIGH ? unquote_mixed(s) : unquote_ascii(s);
    }
    return PyUnicode_DecodeLatin1(s.ptr, (Py_ssize_t)s.len, NULL);
}

/* -- coercion ------------------------------------------------------------------------------ */

/* The number if the text is -?(0|[1-9][0-9]{0,17}) and not "-0"; NULL without exception otherwise.
 */
static PyObject *plain_int(ta_str s)
{
    size_t i = 0;
    bool negative = s.len > 0 && s.ptr[0] == '-';
    i += negative;
    size_t digits = s.len - i;
    if (digits == 0 || digits > 18 || (s.ptr[i] == '0' && (digits > 1 || negative)))
        return NULL;
    long long n = 0;
    for (; i < s.len; i++) {
        unsigned d = (unsigned)(unsigned char)s.ptr[i] - '0';
        if (d > 9)
            return NULL;
        n = n * 10 + (long long)d;
    }
    return PyLong_FromLongLong(negative ? -n : n);
}

/* The number if the text is -?digits(.digits)? of at most 40 characters. */
static PyObject *plain_float(ta_str s)
{
    char text[48];
    size_t i = 0, dots = 0, digits = 0;
    if (s.len == 0 || s.len > 40)
        return NULL;
    i += s.ptr[0] == '-';
    for (; i < s.len; i++) {
        char c = s.ptr[i];
        if (c >= '0' && c <= '9')
            digits++;
        else if (c == '.' && dots == 0 && digits > 0 && i + 1 < s.len)
            dots++;
        else
            return NULL;
    }
    if (digits == 0)
        return NULL;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    double d = PyOS_string_to_double(text, NULL, NULL); /* correctly rounded, as pydantic's */
    if (d == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return NULL;
    }
    return PyFloat_FromDouble(d);
}

/* The lower-case words that pydantic takes for a bool. */
static PyObject *plain_bool(ta_str s)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true}, {"false", false}, {"1", true},   {"0", false},
                 {"on", true},   {"off", false},   {"yes", true}, {"no", false},
                 {"y", true},    {"n", false},     {"t", true},   {"f", false}};
    for (size_t i = 0; i < TA_COUNTOF(words); i++) {
        if (strlen(words[i].word) == s.len && memcmp(words[i].word, s.ptr, s.len) == 0)
            return Py_NewRef(words[i].value ? Py_True : Py_False);
    }
    return NULL;
}

PyObject *ta_param_plain(uint8_t conv, ta_str s)
{
    switch (conv) {
    case CONV_INT:
        return plain_int(s);
    case CONV_FLOAT:
        return plain_float(s);
    case CONV_BOOL:
        return plain_bool(s);
    default:
        return NULL;
    }
}
