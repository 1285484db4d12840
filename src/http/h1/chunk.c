/*
 * h1/chunk.c -- see h1/chunk.h.  A byte-wise state machine over everything that is not body: chunk
 * lines are short.
 */
#include "http/h1/chunk.h"

#include "http/h1/scan.h"
#include "http/headers.h"

enum {
    S_SIZE,        /* hex digits */
    S_PART_SPACE,  /* white space behind a size or a whole extension: ";" must follow */
    S_EXT_NAME_0,  /* behind ";": first byte of a name */
    S_EXT_NAME,    /* within it */
    S_NAME_SPACE,  /* white space behind it: "=" or ";" must follow */
    S_EXT_VALUE_0, /* behind "=" */
    S_EXT_VALUE,   /* within a token */
    S_EXT_QUOTED,  /* within a quoted-string */
    S_EXT_ESCAPE,  /* behind its backslash */
    S_EXT_CLOSED,  /* behind its closing quote */
    S_SIZE_LF,     /* the LF of a chunk line */
    S_DATA,
    S_DATA_CR,
    S_DATA_LF,
    S_FIELD_0, /* start of a trailer line */
    S_FIELD_NAME,
    S_FIELD_VALUE,
    S_FIELD_LF,
    S_END_LF,
    S_DONE
};

void ta_h1_chunk_init(ta_h1_chunk *chunk, const ta_http_limits *limits)
{
    memset(chunk, 0, sizeof *chunk);
    chunk->max_line = limits->chunk_ext_bytes;
    chunk->max_trailer = limits->trailer_bytes;
    chunk->state = S_SIZE;
}

static int refuse(ta_h1_chunk *chunk, int err, const char *reason)
{
    chunk->reason = reason;
    return err;
}

static int size_digit(ta_h1_chunk *c, unsigned char b)
{
    unsigned v = b <= '9' ? (unsigned)b - '0' : ((unsigned)b | 0x20) - 'a' + 10;
    if (c->remaining > (INT64_MAX >> 4))
        return refuse(c, TA_EBAD, "chunk size overflow");
    c->remaining = c->remaining << 4 | v;
    c->size_digits = true;
    return TA_OK;
}

static bool is_hex(unsigned char b)
{
    return (b >= '0' && b <= '9') || ((b | 0x20) >= 'a' && (b | 0x20) <= 'f');
}

/* RFC 9112 section 7.1.1: "bad white space", which a recipient must take and no sender may make. */
static bool is_space(unsigned char b)
{
    return b == ' ' || b == '\t';
}

/* What may follow a chunk size or a whole extension. */
static int after_part(ta_h1_chunk *c, unsigned char b)
{
    if (b == ';')
        c->state = S_EXT_NAME_0;
    else if (is_space(b))
        c->state = S_PART_SPACE;
    else if (b == '\r')
        c->state = S_SIZE_LF;
    else
        return refuse(c, TA_EBAD, "malformed chunk line");
    return TA_OK;
}

/* At the end of a chunk line: was it much longer than its chunk? */
static int add_overhead(ta_h1_chunk *c)
{
    uint64_t allowed = 16 + (c->remaining < UINT32_MAX ? c->remaining * 2 : UINT32_MAX);
    if (c->line_bytes > allowed)
        c->overhead += c->line_bytes - allowed;
    if (c->overhead > (uint64_t)c->max_line * 16)
        return refuse(c, TA_ETOOLARGE, "chunk extensions too large");
    return TA_OK;
}

/* One byte of a chunk-size line. */
static int line_byte(ta_h1_chunk *c, unsigned char b)
{
    if (c->max_line && ++c->line_bytes > c->max_line)
        return refuse(c, TA_ETOOLARGE, "chunk extensions too large");
    switch (c->state) {
    case S_SIZE:
        if (is_hex(b))
            return size_digit(c, b);
        return c->size_digits ? after_part(c, b) : refuse(c, TA_EBAD, "chunk size expected");
    case S_PART_SPACE:
        return is_space(b) || b == ';' ? after_part(c, b)
                                       : refuse(c, TA_EBAD, "malformed chunk line");
    case S_EXT_NAME_0:
        if (is_space(b))
            return TA_OK;
        c->state = S_EXT_NAME;
        break;
    case S_EXT_NAME:
    case S_NAME_SPACE:
        if (b == '=') {
            c->state = S_EXT_VALUE_0;
            return TA_OK;
        }
        if (is_space(b)) {
            c->state = S_NAME_SPACE;
            return TA_OK;
        }
        if (c->state == S_NAME_SPACE && b != ';')
            return refuse(c, TA_EBAD, "malformed chunk extension");
        return ta_is_token_char(b) ? TA_OK : after_part(c, b);
    case S_EXT_VALUE_0:
        if (is_space(b))
            return TA_OK;
        c->state = b == '"' ? S_EXT_QUOTED : S_EXT_VALUE;
        if (b == '"')
            return TA_OK;
        break;
    case S_EXT_VALUE:
        return ta_is_token_char(b) ? TA_OK : after_part(c, b);
    case S_EXT_QUOTED:
        if (b == '"')
            c->state = S_EXT_CLOSED;
        else if (b == '\\')
            c->state = S_EXT_ESCAPE;
        else if (!ta_is_value_byte(b))
            return refuse(c, TA_EBAD, "malformed chunk extension");
        return TA_OK;
    case S_EXT_ESCAPE:
        c->state = S_EXT_QUOTED;
        return ta_is_value_byte(b) ? TA_OK : refuse(c, TA_EBAD, "malformed chunk extension");
    case S_EXT_CLOSED:
        return after_part(c, b);
    case S_SIZE_LF:
        if (b != '\n')
            return refuse(c, TA_EBAD, "CR without LF in a chunk line");
        c->state = c->remaining ? S_DATA : S_FIELD_0;
        return c->max_line ? add_overhead(c) : TA_OK;
    default:
        break;
    }
    /* the first byte of an extension's name or value */
    return ta_is_token_char(b) ? TA_OK : refuse(c, TA_EBAD, "malformed chunk extension");
}

/* One byte of the trailer section. */
static int trailer_byte(ta_h1_chunk *c, unsigned char b)
{
    if (c->state != S_END_LF && !(c->state == S_FIELD_0 && b == '\r') && c->max_trailer &&
        ++c->trailer_bytes > c->max_trailer)
        return refuse(c, TA_ETOOLARGE, "trailer too large");
    switch (c->state) {
    case S_FIELD_0:
        if (b == '\r') {
            c->state = S_END_LF;
            return TA_OK;
        }
        if (!ta_is_token_char(b))
            return refuse(c, TA_EBAD, "malformed trailer field");
        c->state = S_FIELD_NAME;
        return TA_OK;
    case S_FIELD_NAME:
        if (b == ':')
            c->state = S_FIELD_VALUE;
        else if (!ta_is_token_char(b))
            return refuse(c, TA_EBAD, "malformed trailer field");
        return TA_OK;
    case S_FIELD_VALUE:
        if (b == '\r')
            c->state = S_FIELD_LF;
        else if (!ta_is_value_byte(b))
            return refuse(c, TA_EBAD, "invalid byte in a trailer field");
        return TA_OK;
    default: /* S_FIELD_LF, S_END_LF */
        if (b != '\n')
            return refuse(c, TA_EBAD, "CR without LF in the trailer");
        c->state = c->state == S_END_LF ? S_DONE : S_FIELD_0;
        return TA_OK;
    }
}

/* One byte that is not body. */
static int frame_byte(ta_h1_chunk *c, unsigned char b)
{
    if (c->state < S_DATA)
        return line_byte(c, b);
    if (c->state >= S_FIELD_0)
        return trailer_byte(c, b);
    if (b != (c->state == S_DATA_CR ? '\r' : '\n'))
        return refuse(c, TA_EBAD, "CRLF expected after chunk data");
    if (c->state == S_DATA_CR) {
        c->state = S_DATA_LF;
    } else {
        c->state = S_SIZE;
        c->line_bytes = 0;
        c->size_digits = false;
    }
    return TA_OK;
}

int ta_h1_chunk_next(ta_h1_chunk *chunk, const char *data, size_t len, size_t *used, ta_str *body)
{
    size_t i = 0;
    int rc = chunk->state == S_DONE ? TA_OK : TA_AGAIN;
    *body = ta_str_of(data, 0);
    while (i < len && chunk->state != S_DONE) {
        if (chunk->state == S_DATA) {
            size_t n = chunk->remaining < len - i ? (size_t)chunk->remaining : len - i;
            *body = ta_str_of(data + i, n);
            chunk->remaining -= n;
            chunk->total += n;
            if (!chunk->remaining)
                chunk->state = S_DATA_CR;
            i += n;
            break;
        }
        int one = frame_byte(chunk, (unsigned char)data[i]);
        if (one != TA_OK) {
            *used = i;
            return one;
        }
        i++;
        if (chunk->state == S_DONE)
            rc = TA_OK;
    }
    *used = i;
    return rc;
}
