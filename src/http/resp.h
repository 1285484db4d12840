/*
 * resp.h -- heads of responses, written without printf.  Layer: http.
 */
#ifndef TA_HTTP_RESP_H
#define TA_HTTP_RESP_H

#include "http/date.h"
#include "http/fields.h"
#include "http/http.h"

/* The fields that every final response has: the date, formatted once per second, the server, and
 * what the settings add.  One per loop. */
typedef struct ta_resp_stamp {
    int64_t second;      /* that `text` was made for; INT64_MIN at first */
    uint32_t server_len; /* of the server line; 0: none is sent */
    char server[128];    /* "server: name\r\n" */
    char date[64];       /* "date: ...\r\n" */
    ta_fields more;      /* owned: what every response has besides */
} ta_resp_stamp;

#define TA_RESP_DATE_LINE (6 + TA_DATE_LEN + 2)

/* `server`: value of the server field, at most 100 bytes of a field value; empty: none. */
TA_MUST_CHECK int ta_resp_stamp_init(ta_resp_stamp *stamp, ta_str server);
/* Adds the fields of `head` to what every response has: TA_OK, TA_ENOMEM, TA_EINVAL. */
TA_MUST_CHECK int ta_resp_stamp_add(ta_resp_stamp *stamp, const ta_response_head *head);
void ta_resp_stamp_free(ta_resp_stamp *stamp);
/* Updates the date to `unix_seconds`; nearly free when it is up to date. */
void ta_resp_stamp_update(ta_resp_stamp *stamp, int64_t unix_seconds);

typedef enum ta_resp_framing {
    TA_FRAME_NONE,   /* nothing added */
    TA_FRAME_LENGTH, /* content-length: `length` */
    TA_FRAME_CHUNKED /* transfer-encoding: chunked */
} ta_resp_framing;

typedef enum ta_resp_connection {
    TA_CONN_DEFAULT,   /* nothing added */
    TA_CONN_CLOSE,     /* connection: close */
    TA_CONN_KEEP_ALIVE /* connection: keep-alive, for HTTP/1.0 */
} ta_resp_connection;

/* A head (its status: 100 to 999), and what HTTP/1 adds to its fields. */
typedef struct ta_resp_wire {
    const ta_response_head *head; /* borrowed */
    ta_resp_framing framing;
    ta_resp_connection connection;
    uint64_t length;
    const ta_resp_stamp *stamp; /* borrowed; NULL: none of its fields */
} ta_resp_wire;

/* How many bytes ta_resp_wire_write may need at most. */
size_t ta_resp_wire_bound(const ta_resp_wire *wire);
/* Writes the head with its blank line; returns where it ends. */
char *ta_resp_wire_write(char *out, const ta_resp_wire *wire);

/* Decimal digits of v (at most 20), no NUL; returns where they end. */
char *ta_resp_put_uint(char *out, uint64_t v);
/* Hex digits of v (at most 16), no NUL; returns where they end. */
char *ta_resp_put_hex(char *out, uint64_t v);

#endif
