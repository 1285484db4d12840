/*
 * h1/parse.h -- the head of an HTTP/1.x request: bytes in, slices out.  Layer: http.
 *
 * Strict RFC 9112: where the text leaves a choice between repairing and refusing, this refuses, as
 * a message that two parsers understand differently is how requests are smuggled.  Pure: no I/O,
 * no clock.  Nothing is copied: slices point into the caller's bytes, whose field names are
 * lower-cased in place.
 *
 * Incremental: call again with the same bytes and more behind them.  Each byte is read a bounded
 * number of times, however small the pieces are, and the bytes may move between calls.
 */
#ifndef TA_HTTP_H1_PARSE_H
#define TA_HTTP_H1_PARSE_H

#include "http/http.h"

typedef struct ta_h1_head {
    /* -- results, valid after TA_OK -- */
    size_t len; /* of the head, with the blank line */
    ta_str method;
    ta_method method_id;
    ta_str target;
    ta_str raw_path;
    ta_str query;
    ta_header *headers; /* owned; ta_h1_head_free */
    uint32_t nheaders;
    uint8_t version_minor;
    bool keep_alive;
    bool chunked;
    bool upgrade;
    bool expect_continue;
    int64_t content_length; /* -1: none */

    /* -- after a failure -- */
    uint16_t status;    /* what to answer: 400, 413, 414, 417, 431, 501, 505 */
    const char *reason; /* static text for the log and the answer's body */

    /* -- private -- */
    const ta_http_limits *limits; /* borrowed: outlives the parser */
    const char *base;             /* where the bytes were at the last call */
    uint32_t cap;                 /* of headers */
    int32_t host;                 /* index in headers, -1: none yet */
    size_t start;                 /* of the request line (behind a leading CRLF) */
    size_t pos;                   /* of the line being read */
    size_t fields;                /* of the first field line; 0 while in the request line */
    size_t searched;              /* no LF in [pos, searched) */
    bool te_seen, te_other, conn_close, conn_keep_alive, conn_upgrade, upgrade_field;
} ta_h1_head;

/* `limits` is kept.  No allocation before the first field line. */
void ta_h1_head_init(ta_h1_head *head, const ta_http_limits *limits);
/* Ready for the next request; keeps the memory of `headers`. */
void ta_h1_head_reset(ta_h1_head *head);
void ta_h1_head_free(ta_h1_head *head);
/*
 * After a failure or TA_AGAIN: whether at least the request line was read, and its slices (and
 * those of the fields so far) are still within `data`.  Then method, target, raw_path and query are
 * set.
 */
bool ta_h1_head_has_line(ta_h1_head *head, const char *data);

/*
 * data[0..len) is everything received of this request so far, from its first byte on.
 * TA_OK: complete, head->len bytes long.  TA_AGAIN: more is needed.  TA_EBAD, TA_ETOOLARGE,
 * TA_EVERSION, TA_EUNSUPPORTED, TA_EEXPECT: refused, see status and reason.  TA_ENOMEM.
 * After a failure or TA_OK call ta_h1_head_reset before anything else.
 */
TA_MUST_CHECK int ta_h1_head_parse(ta_h1_head *head, char *data, size_t len);

#endif
