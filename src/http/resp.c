/* resp.c -- see resp.h. */
#include "http/resp.h"

#include "http/headers.h"
#include "http/status.h"

int ta_resp_stamp_init(ta_resp_stamp *stamp, ta_str server)
{
    static const char name[] = "server: ";
    if (server.len > 100 || !ta_is_field_value(server))
        return TA_EINVAL;
    memset(stamp, 0, sizeof *stamp);
    stamp->second = INT64_MIN;
    ta_fields_init(&stamp->more);
    if (server.len) {
        char *p = stamp->server;
        memcpy(p, name, sizeof name - 1);
        memcpy(p + sizeof name - 1, server.ptr, server.len);
        memcpy(p + sizeof name - 1 + server.len, "\r\n", 2);
        stamp->server_len = (uint32_t)(sizeof name - 1 + server.len + 2);
    }
    memcpy(stamp->date, "date: ", 6);
    memcpy(stamp->date + 6 + TA_DATE_LEN, "\r\n", 2);
    ta_resp_stamp_update(stamp, 0);
    return TA_OK;
}

int ta_resp_stamp_add(ta_resp_stamp *stamp, const ta_response_head *head)
{
    return ta_fields_copy(&stamp->more, head);
}

void ta_resp_stamp_free(ta_resp_stamp *stamp)
{
    ta_fields_free(&stamp->more);
}

void ta_resp_stamp_update(ta_resp_stamp *stamp, int64_t unix_seconds)
{
    if (TA_LIKELY(stamp->second == unix_seconds))
        return;
    stamp->second = unix_seconds;
    ta_date_format(stamp->date + 6, unix_seconds);
}

char *ta_resp_put_uint(char *out, uint64_t v)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char digits[20];
    char *p = digits + sizeof digits;
    while (v >= 100) {
        p -= 2;
        memcpy(p, pairs + v % 100 * 2, 2);
        v /= 100;
    }
    if (v >= 10) {
        p -= 2;
        memcpy(p, pairs + v * 2, 2);
    } else {
        *--p = (char)('0' + v);
    }
    size_t n = (size_t)(digits + sizeof digits - p);
    memcpy(out, p, n);
    return out + n;
}

char *ta_resp_put_hex(char *out, uint64_t v)
{
    int shift = v ? (63 - __builtin_clzll(v)) & ~3 : 0;
    for (; shift >= 0; shift -= 4)
        *out++ = "0123456789abcdef"[v >> shift & 15];
    return out;
}

size_t ta_resp_wire_bound(const ta_resp_wire *wire)
{
    const ta_response_head *head = wire->head;
    size_t stamp = wire->stamp ? wire->stamp->server_len + wire->stamp->more.text.len : 0;
    /* status line of an unknown code; date, server and their like; framing; connection; blank line
     */
    return 64 + head->reason.len + TA_RESP_DATE_LINE + stamp + head->text.len + 48 + 32 + 2;
}

static inline char *put(char *out, const char *text, size_t n)
{
    memcpy(out, text, n);
    return out + n;
}

#define PUT(out, literal) put((out), (literal), sizeof(literal) - 1)

/* A field "connection" without its option keep-alive; nothing if it has no other. */
static char *put_other_options(char *out, ta_str list)
{
    char *begin = out;
    for (ta_str option; ta_list_next(&list, &option);) {
        if (ta_str_ieq(option, TA_STR("keep-alive")))
            continue;
        out =
            out == begin ? PUT(out, "connection: ") : PUT(out, ","); /* never longer than it was */
        out = put(out, option.ptr, option.len);
    }
    return out == begin ? out : PUT(out, "\r\n");
}

/* The fields of a response that ends its connection: an application that asks to keep it is not
 * repeated, since close and keep-alive together leave the client to guess (RFC 9112 section 9.3).
 */
static char *put_fields_without_keep(char *out, const ta_response_head *head)
{
    for (uint32_t i = 0; i < head->nfields; i++) {
        const ta_field *field = &head->fields[i];
        if (ta_str_eq(ta_field_name(head->text, field), TA_STR("connection")))
            out = put_other_options(out, ta_field_value(head->text, field));
        else
            out = put(out, head->text.ptr + field->at,
                      field->value + field->value_len + 2 - field->at);
    }
    return out;
}

char *ta_resp_wire_write(char *out, const ta_resp_wire *wire)
{
    const ta_response_head *head = wire->head;
    ta_str line = ta_status_line(head->status);
    if (TA_LIKELY(line.len != 0 && head->reason.len == 0)) {
        out = put(out, line.ptr, line.len);
    } else {
        out = PUT(out, "HTTP/1.1 ");
        out = ta_resp_put_uint(out, (uint64_t)head->status);
        out = PUT(out, " ");
        if (head->reason.len)
            out = put(out, head->reason.ptr, head->reason.len);
        out = PUT(out, "\r\n");
    }
    if (wire->stamp) {
        if (!(head->flags & TA_RESP_HAS_DATE))
            out = put(out, wire->stamp->date, TA_RESP_DATE_LINE);
        if (!(head->flags & TA_RESP_HAS_SERVER))
            out = put(out, wire->stamp->server, wire->stamp->server_len);
        if (TA_UNLIKELY(wire->stamp->more.text.len != 0))
            out = put(out, wire->stamp->more.text.data + wire->stamp->more.text.off,
                      wire->stamp->more.text.len);
    }
    /* Before the application's fields, as its own responses have it. */
    if (wire->framing == TA_FRAME_LENGTH) {
        out = PUT(out, "content-length: ");
        out = ta_resp_put_uint(out, wire->length);
        out = PUT(out, "\r\n");
    }
    if (TA_UNLIKELY(head->flags & TA_RESP_KEEP) &&
        (wire->connection == TA_CONN_CLOSE || head->flags & TA_RESP_CLOSE))
        out = put_fields_without_keep(out, head);
    else if (head->text.len)
        out = put(out, head->text.ptr, head->text.len);
    if (wire->framing == TA_FRAME_CHUNKED)
        out = PUT(out, "transfer-encoding: chunked\r\n");
    if (wire->connection == TA_CONN_CLOSE)
        out = PUT(out, "connection: close\r\n");
    else if (wire->connection == TA_CONN_KEEP_ALIVE)
        out = PUT(out, "connection: keep-alive\r\n");
    return PUT(out, "\r\n");
}
