/* fields.c -- see fields.h. */
#include "http/fields.h"

#include "base/mem.h"
#include "http/headers.h"
#include "http/resp.h"

enum { FIRST_PLACES = 8 };

void ta_fields_clear(ta_fields *f)
{
    ta_buf_clear(&f->text);
    f->count = 0;
    f->flags = 0;
    f->length = -1;
}

void ta_fields_free(ta_fields *f)
{
    ta_buf_free(&f->text);
    ta_free(f->places);
    ta_fields_init(f);
}

/* -- adding ----------------------------------------------------------------------------------- */

/* The flag of a field that is written; the name is lower case. */
static unsigned flag_of(ta_str name, ta_str value)
{
    switch (name.len) {
    case 4:
        return ta_str_eq(name, TA_STR("date")) ? TA_RESP_HAS_DATE : 0;
    case 6:
        return ta_str_eq(name, TA_STR("server")) ? TA_RESP_HAS_SERVER : 0;
    case 10:
        if (!ta_str_eq(name, TA_STR("connection")))
            return 0;
        return (ta_list_has(value, TA_STR("close")) ? TA_RESP_CLOSE : 0U) |
               (ta_list_has(value, TA_STR("keep-alive")) ? TA_RESP_KEEP : 0U);
    default:
        return 0;
    }
}

/* Room for `more` places (at least 1). */
static int reserve_places(ta_fields *f, uint32_t more)
{
    if (TA_LIKELY(more <= f->cap - f->count))
        return TA_OK;
    uint32_t cap = f->cap ? f->cap : FIRST_PLACES;
    while (cap - f->count < more)
        cap *= 2;
    ta_field *grown = ta_realloc(f->places, cap * sizeof *grown);
    if (!grown)
        return TA_ENOMEM;
    f->places = grown;
    f->cap = cap;
    return TA_OK;
}

/* Eight letters, or other bytes, in lower case. */
static uint64_t lower_of(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101ULL, highs = 0x80 * ones;
    uint64_t low = word & ~highs;
    uint64_t from_a = low + (0x80 - 'A') * ones, beyond_z = low + (0x7f - 'Z') * ones;
    return word | ((~word & highs & from_a & ~beyond_z) >> 2);
}

static void copy_lower(char *out, ta_str name)
{
    uint64_t word;
    if (name.len < sizeof word) {
        for (size_t i = 0; i < name.len; i++)
            out[i] = ta_ascii_lower(name.ptr[i]);
        return;
    }
    for (size_t i = 0; i < name.len; i += sizeof word) {
        size_t at = TA_MIN(i, name.len - sizeof word); /* the last ones overlap */
        memcpy(&word, name.ptr + at, sizeof word);
        word = lower_of(word);
        memcpy(out + at, &word, sizeof word);
    }
}

int ta_fields_add(ta_fields *f, ta_str name, ta_str value)
{
    int64_t length = f->length;
    if (name.len == 14 && ta_str_ieq(name, TA_STR("content-length"))) {
        if (!ta_length_of(value, &length) || (f->length >= 0 && f->length != length))
            return TA_EINVAL;
        if (f->length >= 0)
            return TA_OK; /* one is enough; two would be refused by the peer */
    }
    size_t at = f->text.len, size = name.len + value.len + 4;
    if (size > UINT32_MAX - at)
        return TA_EINVAL;
    char *out = ta_buf_reserve(&f->text, size);
    if (!out || reserve_places(f, 1) != TA_OK)
        return TA_ENOMEM;
    copy_lower(out, name);
    char *p = out + name.len;
    memcpy(p, ": ", 2);
    if (value.len)
        memcpy(p + 2, value.ptr, value.len);
    memcpy(p + 2 + value.len, "\r\n", 2);
    ta_buf_commit(&f->text, size);
    f->places[f->count++] = (ta_field){
        .at = (uint32_t)at,
        .value = (uint32_t)(at + name.len + 2),
        .value_len = (uint32_t)value.len,
    };
    f->flags |= flag_of(ta_str_of(out, name.len), value);
    f->length = length;
    return TA_OK;
}

int ta_fields_add_length(ta_fields *f, uint64_t length)
{
    char digits[20];
    size_t n = (size_t)(ta_resp_put_uint(digits, length) - digits);
    return ta_fields_add(f, TA_STR("content-length"), ta_str_of(digits, n));
}

/* All fields of a head at once, into none.  TA_OK or TA_ENOMEM. */
static int copy_all(ta_fields *f, const ta_response_head *head)
{
    const ta_field *last = &head->fields[head->nfields - 1];
    size_t size = last->value + last->value_len + 2;
    TA_ASSERT(f->text.len == 0 && head->fields[0].at == 0 && size <= head->text.len);
    char *out = ta_buf_reserve(&f->text, size);
    if (!out || reserve_places(f, head->nfields) != TA_OK)
        return TA_ENOMEM;
    memcpy(out, head->text.ptr, size);
    ta_buf_commit(&f->text, size);
    memcpy(f->places, head->fields, head->nfields * sizeof *head->fields);
    f->count = head->nfields;
    f->flags |= head->flags;
    f->length = head->length;
    return TA_OK;
}

int ta_fields_copy(ta_fields *f, const ta_response_head *head)
{
    if (f->count == 0 && head->nfields > 0)
        return copy_all(f, head);
    for (uint32_t i = 0; i < head->nfields; i++) {
        int rc = ta_fields_add(f, ta_field_name(head->text, &head->fields[i]),
                               ta_field_value(head->text, &head->fields[i]));
        if (rc != TA_OK)
            return rc;
    }
    return TA_OK;
}

/* -- changing --------------------------------------------------------------------------------- */

/* Takes field i out of the text and out of the places. */
static void take_out(ta_fields *f, uint32_t i)
{
    ta_field *all = f->places, gone = all[i];
    uint32_t end = gone.value + gone.value_len + 2, size = end - gone.at;
    char *text = f->text.data + f->text.off;
    memmove(text + gone.at, text + end, f->text.len - end);
    f->text.len -= size;
    f->count--;
    for (; i < f->count; i++) {
        all[i] = all[i + 1];
        all[i].at -= size;
        all[i].value -= size;
    }
}

void ta_fields_remove(ta_fields *f, ta_str name)
{
    ta_str value;
    for (uint32_t i = 0; ta_fields_find(f, name, &i, &value);) {
        f->flags &= ~flag_of(name, value);
        take_out(f, i);
    }
    if (ta_str_eq(name, TA_STR("content-length")))
        f->length = -1;
}

int ta_fields_set(ta_fields *f, ta_str name, ta_str value)
{
    ta_fields_remove(f, name);
    return ta_fields_add(f, name, value);
}

bool ta_fields_find(const ta_fields *f, ta_str name, uint32_t *i, ta_str *value)
{
    ta_str text = ta_buf_str(&f->text);
    const ta_field *all = f->places;
    for (; *i < f->count; ++*i) {
        if (ta_str_eq(ta_field_name(text, &all[*i]), name)) {
            *value = ta_field_value(text, &all[*i]);
            return true;
        }
    }
    return false;
}

ta_response_head ta_fields_head(const ta_fields *f)
{
    return (ta_response_head){
        .status = f->status,
        .flags = f->flags,
        .nfields = f->count,
        .fields = f->places,
        .text = ta_buf_str(&f->text),
        .length = f->length,
    };
}
