/*
 * h1/parse.c -- see h1/parse.h.
 *
 * Line by line.  A line is first parsed directly, without a search for its end.  When the bytes run
 * out, later calls only search for the LF (from where the last one stopped) and parse the line
 * again once it is there.  A head that arrives as a whole is therefore read once, and one that
 * arrives byte by byte three times.
 */
#include "http/h1/parse.h"

#include "base/mem.h"
#include "http/h1/scan.h"
#include "http/headers.h"
#include "http/method.h"
#include "http/url.h"

#define FIRST_HEADERS 24

void ta_h1_head_init(ta_h1_head *head, const ta_http_limits *limits)
{
    memset(head, 0, sizeof *head);
    head->limits = limits;
    ta_h1_head_reset(head);
}

void ta_h1_head_reset(ta_h1_head *head)
{
    ta_h1_head fresh = {
        .limits = head->limits,
        .headers = head->headers,
        .cap = head->cap,
        .host = -1,
        .content_length = -1,
    };
    *head = fresh;
}

void ta_h1_head_free(ta_h1_head *head)
{
    ta_free(head->headers);
    head->headers = NULL;
    head->cap = 0;
}

bool ta_h1_head_has_line(ta_h1_head *head, const char *data)
{
    ta_target target;
    if (!head->fields || head->base != data ||
        ta_target_split(head->target, head->method_id, &target) != TA_OK)
        return false;
    head->raw_path = target.path;
    head->query = target.query;
    return true;
}

static int refuse(ta_h1_head *head, int err, uint16_t status, const char *reason)
{
    head->status = status;
    head->reason = reason;
    return err;
}

static int bad(ta_h1_head *head, const char *reason)
{
    return refuse(head, TA_EBAD, 400, reason);
}

static ta_str moved(ta_str s, const char *from, const char *to)
{
    return ta_str_of(to + ((uintptr_t)s.ptr - (uintptr_t)from), s.len);
}

/* The bytes have moved since the last call: moves the slices taken so far, too. */
static void rebase(ta_h1_head *head, const char *data)
{
    if (head->fields) { /* the request line was read */
        head->method = moved(head->method, head->base, data);
        head->target = moved(head->target, head->base, data);
    }
    for (uint32_t i = 0; i < head->nheaders; i++) {
        head->headers[i].name = moved(head->headers[i].name, head->base, data);
        head->headers[i].value = moved(head->headers[i].value, head->base, data);
    }
}

/* -- request line ------------------------------------------------------------------------------ */

/* "HTTP/1.1\r\n" at p: TA_OK and the bytes read, or a failure. */
static int parse_version(ta_h1_head *head, const char *p, const char *end)
{
    static const char prefix[] = "HTTP/";
    size_t have = (size_t)(end - p);
    if (have >= 10 && memcmp(p, "HTTP/1.1\r\n", 10) == 0) {
        head->version_minor = 1;
        return TA_OK;
    }
    if (memcmp(p, prefix, TA_MIN(have, (size_t)5)) != 0)
        return bad(head, "malformed HTTP version");
    if (have < 10)
        return TA_AGAIN;
    if (p[5] < '0' || p[5] > '9' || p[6] != '.' || p[7] < '0' || p[7] > '9')
        return bad(head, "malformed HTTP version");
    if (p[8] != '\r' || p[9] != '\n')
        return bad(head, "request line does not end with CRLF");
    if (p[5] != '1')
        return refuse(head, TA_EVERSION, 505, "HTTP version not supported");
    /* RFC 9110 section 2.5: a higher minor version is processed as the highest that we know. */
    head->version_minor = p[7] != '0';
    return TA_OK;
}

static int parse_request_line(ta_h1_head *head, const char *data, const char *end)
{
    const char *p = data + head->pos, *start = p;
    while (p < end && ta_token_lower[(unsigned char)*p])
        p++;
    if (p == end)
        return TA_AGAIN;
    if (p == start || *p != ' ')
        return bad(head, "malformed method");
    ta_str method = {start, (size_t)(p - start)};

    start = ++p;
    p = ta_scan_target(p, end);
    if (p == end)
        return TA_AGAIN;
    if (p == start || *p != ' ')
        return bad(head, "malformed request-target");
    ta_str target = {start, (size_t)(p - start)};

    p++;
    int rc = parse_version(head, p, end);
    if (rc != TA_OK)
        return rc;
    head->method = method;
    head->method_id = ta_method_of(method);
    head->target = target;
    ta_target parts;
    if (ta_target_split(target, head->method_id, &parts) != TA_OK)
        return bad(head, "request-target does not fit the method");
    head->pos = head->fields = (size_t)(p + 10 - data);
    return TA_OK;
}

/* -- fields that the protocol itself needs ---------------------------------------------------- */

static int read_host(ta_h1_head *head, ta_str value)
{
    if (head->host >= 0)
        return bad(head, "more than one Host field");
    if (value.len && !ta_url_is_authority(value))
        return bad(head, "invalid Host");
    head->host = (int32_t)head->nheaders;
    return TA_OK;
}

static int read_content_length(ta_h1_head *head, ta_str value)
{
    if (head->content_length >= 0)
        return bad(head, "more than one Content-Length field");
    return ta_length_of(value, &head->content_length) ? TA_OK : bad(head, "invalid Content-Length");
}

/* `chunked` must come once and last, over all Transfer-Encoding fields together. */
static int read_transfer_encoding(ta_h1_head *head, ta_str value)
{
    ta_str coding;
    bool any = false;
    head->te_seen = true;
    while (ta_list_next(&value, &coding)) {
        any = true;
        if (head->chunked || !ta_is_token(coding))
            return bad(head, "invalid Transfer-Encoding");
        if (ta_str_ieq(coding, TA_STR("chunked")))
            head->chunked = true;
        else
            head->te_other = true;
    }
    return any ? TA_OK : bad(head, "empty Transfer-Encoding");
}

static int read_connection(ta_h1_head *head, ta_str value)
{
    ta_str option;
    while (ta_list_next(&value, &option)) {
        if (ta_str_ieq(option, TA_STR("close")))
            head->conn_close = true;
        else if (ta_str_ieq(option, TA_STR("keep-alive")))
            head->conn_keep_alive = true;
        else if (ta_str_ieq(option, TA_STR("upgrade")))
            head->conn_upgrade = true;
    }
    return TA_OK;
}

static int read_expect(ta_h1_head *head, ta_str value)
{
    if (head->version_minor == 0) /* RFC 9110 section 10.1.1: ignored */
        return TA_OK;
    if (!ta_str_ieq(value, TA_STR("100-continue")))
        return refuse(head, TA_EEXPECT, 417, "unknown expectation");
    head->expect_continue = true;
    return TA_OK;
}

static int read_known(ta_h1_head *head, ta_str name, ta_str value)
{
#define IS(text) (memcmp(name.ptr, text, sizeof(text) - 1) == 0)
    switch (name.len) {
    case 4:
        return IS("host") ? read_host(head, value) : TA_OK;
    case 6:
        return IS("expect") ? read_expect(head, value) : TA_OK;
    case 7:
        if (IS("upgrade") && value.len)
            head->upgrade_field = true;
        return TA_OK;
    case 10:
        return IS("connection") ? read_connection(head, value) : TA_OK;
    case 14:
        return IS("content-length") ? read_content_length(head, value) : TA_OK;
    case 17:
        return IS("transfer-encoding") ? read_transfer_encoding(head, value) : TA_OK;
    default:
        return TA_OK;
    }
#undef IS
}

/* -- fields ----------------------------------------------------------------------------------- */

/* Room for one more field, and for the Host that finish() may add. */
static int reserve_header(ta_h1_head *head)
{
    if (head->nheaders + 1 < head->cap)
        return TA_OK;
    uint32_t cap = head->cap ? head->cap * 2 : FIRST_HEADERS;
    ta_header *grown = ta_realloc(head->headers, cap * sizeof *grown);
    if (!grown)
        return refuse(head, TA_ENOMEM, 503, "out of memory");
    head->headers = grown;
    head->cap = cap;
    return TA_OK;
}

/* One field line at head->pos. */
static int parse_field(ta_h1_head *head, char *data, char *end)
{
    char *p = data + head->pos, *start = p;
    unsigned char lower;
    while (p < end && (lower = ta_token_lower[(unsigned char)*p]) != 0)
        *p++ = (char)lower;
    if (p == end)
        return TA_AGAIN;
    if (p == start)
        return bad(head, *p == ' ' || *p == '\t' ? "folded field line" : "empty field name");
    if (*p != ':')
        return bad(head, "malformed field name");
    ta_str name = {start, (size_t)(p - start)};

    p++;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    const char *value = p;
    const char *stop = ta_scan_value(p, end);
    if (end - stop < 2) {
        if (stop == end || *stop == '\r')
            return TA_AGAIN;
    }
    if (*stop != '\r' || stop[1] != '\n')
        return bad(head, "invalid byte in a field value");
    head->pos = (size_t)(stop + 2 - data);
    while (stop > value && (stop[-1] == ' ' || stop[-1] == '\t'))
        stop--;

    if (head->limits->header_count && head->nheaders >= head->limits->header_count)
        return refuse(head, TA_ETOOLARGE, 431, "too many header fields");
    int rc = reserve_header(head);
    if (rc != TA_OK)
        return rc;
    ta_header *h = &head->headers[head->nheaders];
    h->name = name;
    h->value = ta_str_of(value, (size_t)(stop - value));
    rc = read_known(head, name, h->value);
    head->nheaders++;
    return rc;
}

/* -- the whole head --------------------------------------------------------------------------- */

/* The authority of an absolute-form target replaces the Host field (RFC 9112 section 3.2.2). */
static int set_host(ta_h1_head *head, ta_str authority)
{
    if (head->host >= 0) {
        head->headers[head->host].value = authority;
        return TA_OK;
    }
    int rc = reserve_header(head);
    if (rc != TA_OK)
        return rc;
    head->host = (int32_t)head->nheaders;
    head->headers[head->nheaders++] = (ta_header){TA_STR("host"), authority};
    return TA_OK;
}

/* After the blank line: what only all fields together can tell. */
static int finish(ta_h1_head *head)
{
    ta_target target;
    if (ta_target_split(head->target, head->method_id, &target) != TA_OK)
        return bad(head, "request-target does not fit the method");
    head->raw_path = target.path;
    head->query = target.query;
    if (head->host < 0 && head->version_minor >= 1)
        return bad(head, "no Host field");
    if (target.absolute) {
        int rc = set_host(head, target.authority);
        if (rc != TA_OK)
            return rc;
    }

    if (head->te_seen) {
        if (head->version_minor == 0)
            return bad(head, "Transfer-Encoding in HTTP/1.0");
        if (head->content_length >= 0)
            return bad(head, "both Content-Length and Transfer-Encoding");
        if (!head->chunked)
            return bad(head, "Transfer-Encoding does not end with chunked");
        if (head->te_other)
            return refuse(head, TA_EUNSUPPORTED, 501, "transfer coding not supported");
    }
    if (head->limits->body_bytes && head->content_length > 0 &&
        (uint64_t)head->content_length > head->limits->body_bytes)
        return refuse(head, TA_ETOOLARGE, 413, "request body too large");
    if (head->method_id == TA_METHOD_CONNECT)
        return refuse(head, TA_EUNSUPPORTED, 501, "CONNECT is not supported");

    head->keep_alive = !head->conn_close && (head->version_minor >= 1 || head->conn_keep_alive);
    head->upgrade = head->version_minor >= 1 && head->conn_upgrade && head->upgrade_field;
    if (!head->chunked && head->content_length <= 0)
        head->expect_continue = false;
    head->len = head->pos;
    return TA_OK;
}

/*
 * Returns how many bytes the current line may span, as a limit on `len`: beyond it the line is too
 * long. The line's own CRLF is not counted.
 */
static size_t line_limit(const ta_h1_head *head)
{
    size_t from = head->fields ? head->fields : head->start;
    size_t max = head->fields ? head->limits->header_bytes : head->limits->request_line;
    return max ? from + max + 2 : SIZE_MAX;
}

static int too_long(ta_h1_head *head)
{
    if (head->fields)
        return refuse(head, TA_ETOOLARGE, 431, "header fields too large");
    return refuse(head, TA_ETOOLARGE, 414, "request line too long");
}

/* One line, or the blank one: TA_OK, with *done set after the blank one. */
static int parse_line(ta_h1_head *head, char *data, char *end, bool *done)
{
    const char *p = data + head->pos;
    if (p == end)
        return TA_AGAIN;
    if (*p == '\r' && (head->fields || head->pos == 0)) {
        /* the blank line that ends the head, or the one that may come before the request line */
        if (end - p < 2)
            return TA_AGAIN;
        if (p[1] != '\n')
            return bad(head, "CR without LF");
        head->pos += 2;
        *done = head->fields != 0;
        if (!head->fields)
            head->start = head->pos;
        return TA_OK;
    }
    return head->fields ? parse_field(head, data, end) : parse_request_line(head, data, end);
}

int ta_h1_head_parse(ta_h1_head *head, char *data, size_t len)
{
    if (head->base != data) {
        if (head->base)
            rebase(head, data);
        head->base = data;
    }
    for (;;) {
        size_t limit = line_limit(head);
        size_t usable = TA_MIN(len, limit);
        /* Tried before, and the end of the line is still not here?  (A blank line is told by its
         * second byte, whatever that is.) */
        if (head->searched > head->pos && len < limit && data[head->pos] != '\r') {
            if (!memchr(data + head->searched, '\n', len - head->searched)) {
                head->searched = len;
                return TA_AGAIN;
            }
        }
        bool done = false;
        int rc = parse_line(head, data, data + usable, &done);
        if (rc == TA_AGAIN) {
            if (len >= limit)
                return too_long(head);
            head->searched = len;
            return TA_AGAIN;
        }
        if (rc != TA_OK)
            return rc;
        if (done)
            return finish(head);
    }
}
