/*
 * fields.h -- the head of a response as data: what a protocol is given to send, and what makes it.
 *
 * Layer: http.  The fields lie one behind the other in `text`, each as "name: value" CRLF, which is
 * what HTTP/1 copies; `fields` says where they are, for whoever wants names and values (HPACK, an
 * ASGI message).  What a protocol has to know of them is told by `flags` and `length`, so that
 * nobody reads the text again.
 */
#ifndef TA_HTTP_FIELDS_H
#define TA_HTTP_FIELDS_H

#include "base/buf.h"
#include "base/ta_base.h"

/* A field within a text: the name begins at `at`, the value behind the ": " that follows it. */
typedef struct ta_field {
    uint32_t at, value, value_len;
} ta_field;

enum {
    TA_RESP_HAS_DATE = 1,   /* the fields have a date: ours is left out */
    TA_RESP_HAS_SERVER = 2, /* the fields have a server: ours is left out */
    TA_RESP_CLOSE = 4,      /* the fields have connection: close */
    TA_RESP_KEEP = 8        /* the fields have connection: keep-alive */
};

/* Borrowed for the call that it is given to.  Names are lower case; names and values are well
 * formed; transfer-encoding is not among them, nor a second content-length. */
typedef struct ta_response_head {
    int status;
    unsigned flags; /* TA_RESP_* */
    uint32_t nfields;
    const ta_field *fields;
    ta_str text;
    int64_t length; /* the content-length among the fields; -1: there is none */
    ta_str reason;  /* a field value; empty: the usual phrase, where the protocol has one */
} ta_response_head;

static inline ta_str ta_field_name(ta_str text, const ta_field *field)
{
    return ta_str_of(text.ptr + field->at, field->value - field->at - 2);
}
static inline ta_str ta_field_value(ta_str text, const ta_field *field)
{
    return ta_str_of(text.ptr + field->value, field->value_len);
}

/* The place of a field in a text of literals: at `start`, or at the beginning. */
#define TA_FIELD_AT(start, name, content) {(start), (start) + sizeof(name) + 1, sizeof(content) - 1}
#define TA_FIELD_FIRST(name, content)     TA_FIELD_AT(0, name, content)

/* A head without fields. */
static inline ta_response_head ta_head_bare(int status)
{
    return (ta_response_head){.status = status, .length = -1};
}

/* A head of plain text. */
static inline ta_response_head ta_head_text(int status)
{
    static const ta_field type = TA_FIELD_FIRST("content-type", "text/plain; charset=utf-8");
    return (ta_response_head){.status = status,
                              .fields = &type,
                              .nfields = 1,
                              .text = TA_STR("content-type: text/plain; charset=utf-8\r\n"),
                              .length = -1};
}

/* -- making one ------------------------------------------------------------------------------- */

/* The fields of a response that is being made.  All members but `status` are private, though they
 * may be read.  It is 64 bytes, as every exchange has one. */
typedef struct ta_fields {
    ta_buf text;      /* owned */
    ta_field *places; /* owned; NULL at first */
    uint32_t count, cap;
    int64_t length;
    unsigned flags;
    int status; /* set by who makes the head, at any time; 0 at first */
} ta_fields;

static inline void ta_fields_init(ta_fields *f)
{
    *f = (ta_fields){.length = -1};
}
void ta_fields_clear(ta_fields *f); /* keeps the memory */
void ta_fields_free(ta_fields *f);  /* and back to the initial state */

/*
 * Appends a field; the name may have any case.  A second content-length that says the same is left
 * out.  TA_OK; TA_ENOMEM; TA_EINVAL: a content-length that is no number or contradicts another, or
 * more text than 4 GiB.  On failure the fields are as before.
 */
TA_MUST_CHECK int ta_fields_add(ta_fields *f, ta_str name, ta_str value);
/* A content-length. */
TA_MUST_CHECK int ta_fields_add_length(ta_fields *f, uint64_t length);
/* Makes it the only field of that name (lower case), at the end. */
TA_MUST_CHECK int ta_fields_set(ta_fields *f, ta_str name, ta_str value);
void ta_fields_remove(ta_fields *f, ta_str name); /* all of that name (lower case) */
/* The first field of that name (lower case) from number *i on: *i is its number then. */
bool ta_fields_find(const ta_fields *f, ta_str name, uint32_t *i, ta_str *value);
/* Appends the fields of a head. */
TA_MUST_CHECK int ta_fields_copy(ta_fields *f, const ta_response_head *head);

/* The head that they are of; borrows from `f`, until that is changed. */
ta_response_head ta_fields_head(const ta_fields *f);

#endif
