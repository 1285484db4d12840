/* headers.c -- see headers.h. */
#include "http/headers.h"

#include "http/h1/scan.h"

const unsigned char ta_token_lower[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`',   ['|'] = '|',
    ['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',   ['5'] = '5',
    ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['a'] = 'a', ['b'] = 'b',   ['c'] = 'c',
    ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',   ['j'] = 'j',
    ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',   ['q'] = 'q',
    ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w',   ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd',   ['E'] = 'e',
    ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',   ['L'] = 'l',
    ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',   ['S'] = 's',
    ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y',   ['Z'] = 'z',
};

const ta_header *ta_headers_find(const ta_header *headers, uint32_t n, ta_str name)
{
    for (uint32_t i = 0; i < n; i++) {
        if (ta_str_eq(headers[i].name, name))
            return &headers[i];
    }
    return NULL;
}

bool ta_is_token_char(unsigned char byte)
{
    return ta_token_lower[byte] != 0;
}

bool ta_is_token(ta_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!ta_token_lower[(unsigned char)s.ptr[i]])
            return false;
    }
    return s.len > 0;
}

bool ta_is_field_value(ta_str s)
{
    return s.len == 0 || ta_scan_value(s.ptr, s.ptr + s.len) == s.ptr + s.len;
}

bool ta_length_of(ta_str value, int64_t *out)
{
    int64_t n = 0;
    if (!value.len)
        return false;
    for (size_t i = 0; i < value.len; i++) {
        int digit = value.ptr[i] - '0';
        if (digit < 0 || digit > 9 || n > (INT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *out = n;
    return true;
}

ta_str ta_str_trim(ta_str s)
{
    while (s.len && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

bool ta_str_ieq(ta_str s, ta_str lower)
{
    if (s.len != lower.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (ta_ascii_lower(s.ptr[i]) != lower.ptr[i])
            return false;
    }
    return true;
}

bool ta_list_next(ta_str *list, ta_str *element)
{
    while (list->len) {
        const char *comma = memchr(list->ptr, ',', list->len);
        size_t n = comma ? (size_t)(comma - list->ptr) : list->len;
        ta_str e = ta_str_trim(ta_str_of(list->ptr, n));
        size_t skip = comma ? n + 1 : n;
        *list = ta_str_skip(*list, skip);
        if (e.len) {
            *element = e;
            return true;
        }
    }
    return false;
}

bool ta_list_has(ta_str list, ta_str lower)
{
    ta_str e;
    while (ta_list_next(&list, &e)) {
        if (ta_str_ieq(e, lower))
            return true;
    }
    return false;
}
