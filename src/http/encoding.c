/* encoding.c -- see encoding.h. */
#include "http/encoding.h"

#include "http/headers.h"

#define STR(text) {(text), sizeof(text) - 1}
static const ta_str names[TA_CODINGS] = {
    [TA_CODING_IDENTITY] = STR("identity"),
    [TA_CODING_GZIP] = STR("gzip"),
    [TA_CODING_BR] = STR("br"),
    [TA_CODING_ZSTD] = STR("zstd"),
};

ta_str ta_coding_name(ta_coding coding)
{
    TA_ASSERT(coding < TA_CODINGS);
    return names[coding];
}

ta_coding ta_coding_of(ta_str name)
{
    for (int i = 0; i < TA_CODINGS; i++) {
        if (ta_str_ieq(name, names[i]))
            return (ta_coding)i;
    }
    return ta_str_ieq(name, TA_STR("x-gzip")) ? TA_CODING_GZIP : TA_CODINGS;
}

void ta_accepted_init(ta_accepted *accepted)
{
    for (int i = 0; i < TA_CODINGS; i++)
        accepted->weight[i] = -1;
    accepted->others = -1;
}

/* A qvalue in thousandths: "0", "0.5", "1.000"; -1: it is none. */
static int read_weight(ta_str text)
{
    if (text.len == 0 || text.len > 5 || (text.ptr[0] != '0' && text.ptr[0] != '1') ||
        (text.len > 1 && text.ptr[1] != '.'))
        return -1;
    int weight = text.ptr[0] == '1' ? 1000 : 0, unit = 100;
    for (size_t i = 2; i < text.len; i++, unit /= 10) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return -1;
        weight += (text.ptr[i] - '0') * unit;
    }
    return weight <= 1000 ? weight : -1;
}

/* "name" or "name;q=0.5": cuts the weight off; -1: malformed. */
static int take_weight(ta_str *element)
{
    const char *semicolon = memchr(element->ptr, ';', element->len);
    if (semicolon == NULL)
        return 1000;
    size_t n = (size_t)(semicolon - element->ptr);
    ta_str rest = ta_str_trim(ta_str_skip(*element, n + 1));
    *element = ta_str_trim(ta_str_of(element->ptr, n));
    if (rest.len < 2 || ta_ascii_lower(rest.ptr[0]) != 'q' || rest.ptr[1] != '=')
        return -1;
    return read_weight(ta_str_skip(rest, 2));
}

void ta_accepted_add(ta_accepted *accepted, ta_str value)
{
    for (ta_str element; ta_list_next(&value, &element);) {
        int weight = take_weight(&element);
        if (weight < 0)
            continue;
        ta_coding coding = ta_coding_of(element);
        int16_t *slot = coding < TA_CODINGS               ? &accepted->weight[coding]
                        : ta_str_eq(element, TA_STR("*")) ? &accepted->others
                                                          : NULL;
        if (slot != NULL && *slot < 0)
            *slot = (int16_t)weight;
    }
}

int ta_accepted_weight(const ta_accepted *accepted, ta_coding coding)
{
    int weight = accepted->weight[coding];
    if (weight < 0)
        weight = accepted->others;
    if (weight >= 0)
        return weight;
    return coding == TA_CODING_IDENTITY ? 1 : 0; /* it is acceptable, and any other is better */
}

ta_coding ta_accepted_choose(const ta_accepted *accepted, const ta_coding *ours, size_t n)
{
    ta_coding best = TA_CODING_IDENTITY;
    int most = 0;
    for (size_t i = 0; i < n; i++) {
        int weight = ta_accepted_weight(accepted, ours[i]);
        if (weight > most) {
            most = weight;
            best = ours[i];
        }
    }
    /* "*" stands for all of them alike: then ours are better. */
    return accepted->weight[TA_CODING_IDENTITY] > most ? TA_CODING_IDENTITY : best;
}
