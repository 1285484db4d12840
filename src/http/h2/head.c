/* h2/head.c -- a request out of the fields of a HEADERS frame.  See h2/h2_int.h. */
#include "base/mem.h"
#include "http/h2/h2_int.h"
#include "http/headers.h"
#include "http/method.h"
#include "http/url.h"

enum {
    FIRST_FIELDS = 16,
    FIRST_TEXT = 1024,
    EXCESS = 4 /* so many times more than the limit ends the connection: HPACK bombs */
};

/* -- fields ----------------------------------------------------------------------------------- */

/* The text was at `from` and is at `to`; slices of other texts stay. */
static void slide(ta_str *slice, uintptr_t from, size_t len, const char *to)
{
    uintptr_t at = (uintptr_t)slice->ptr - from;
    if (slice->ptr && at <= len)
        slice->ptr = to + at;
}

/* Room for n bytes of text; slices of it move along.  NULL: out of memory. */
static char *room(h2_req *rq, size_t n)
{
    ta_buf *text = &rq->text;
    uintptr_t from = (uintptr_t)text->data;
    if (text->cap - text->len >= n)
        return text->data + text->len;
    TA_ASSERT(text->off == 0);
    char *to = ta_buf_reserve(text, TA_MAX(n, (size_t)FIRST_TEXT));
    if (!to || !from || (uintptr_t)text->data == from)
        return to;
    for (uint32_t i = 0; i < rq->nfields; i++) {
        slide(&rq->fields[i].name, from, text->len, text->data);
        slide(&rq->fields[i].value, from, text->len, text->data);
    }
    slide(&rq->authority, from, text->len, text->data);
    slide(&rq->path, from, text->len, text->data);
    slide(&rq->req.method, from, text->len, text->data);
    return to;
}

/* A copy among the texts of the request; ptr NULL: out of memory. */
static ta_str keep(h2_req *rq, ta_str s)
{
    char *to = room(rq, s.len + 1); /* never NULL, be it empty */
    if (!to)
        return ta_str_of(NULL, 0);
    if (s.len)
        memcpy(to, s.ptr, s.len);
    ta_buf_commit(&rq->text, s.len);
    return ta_str_of(to, s.len);
}

/* Room for one more field, behind the first place, which is that of the host. */
static bool reserve(h2_req *rq)
{
    rq->nfields = TA_MAX(rq->nfields, 1U);
    if (rq->nfields < rq->cap)
        return true;
    uint32_t cap = rq->cap ? 2 * rq->cap : FIRST_FIELDS;
    ta_header *grown = ta_realloc(rq->fields, cap * sizeof *grown);
    if (!grown)
        return false;
    memset(grown + rq->cap, 0, (cap - rq->cap) * sizeof *grown);
    rq->fields = grown;
    rq->cap = cap;
    return true;
}

static bool add(h2_req *rq, ta_str name, ta_str value)
{
    if (!reserve(rq))
        return false;
    char *to = room(rq, name.len + value.len + 1);
    if (!to)
        return false;
    memcpy(to, name.ptr, name.len);
    if (value.len)
        memcpy(to + name.len, value.ptr, value.len);
    ta_buf_commit(&rq->text, name.len + value.len);
    rq->fields[rq->nfields++] =
        (ta_header){ta_str_of(to, name.len), ta_str_of(to + name.len, value.len)};
    return true;
}

static void refuse(h2_req *rq, int status, const char *why)
{
    if (rq->refused)
        return;
    rq->refused = status;
    rq->why = why;
}

/* nghttp2 lets each through once, and before all other fields.  The scheme is the connection's. */
static bool add_pseudo(h2_req *rq, ta_str name, ta_str value)
{
    if (ta_str_eq(name, TA_STR(":method"))) {
        if (ta_str_eq(value, TA_STR("GET"))) {
            rq->req.method = TA_STR("GET");
            return true;
        }
        return (rq->req.method = keep(rq, value)).ptr != NULL;
    }
    if (ta_str_eq(name, TA_STR(":path")))
        return (rq->path = keep(rq, value)).ptr != NULL;
    if (ta_str_eq(name, TA_STR(":authority")))
        return (rq->authority = keep(rq, value)).ptr != NULL;
    if (ta_str_eq(name, TA_STR(":protocol"))) {
        rq->websocket = ta_str_eq(value, TA_STR("websocket"));
        rq->connect = !rq->websocket;
    }
    return true;
}

bool h2_head_field(h2_req *rq, ta_str name, ta_str value)
{
    const ta_http_limits *limits = &rq->conn->server->limits;
    uint64_t bytes = (uint64_t)rq->header_bytes + name.len + value.len + 4;
    rq->header_bytes = (uint32_t)TA_MIN(bytes, (uint64_t)UINT32_MAX);
    if (limits->header_bytes && bytes > limits->header_bytes) {
        if (bytes > (uint64_t)limits->header_bytes * EXCESS)
            h2_terminate(rq->conn, NGHTTP2_ENHANCE_YOUR_CALM,
                         "far too many bytes of header fields (limit_header_bytes)");
        refuse(rq, 431, "header fields too large");
        return true;
    }
    if (rq->phase != H2_NEW || rq->begun || rq->refused)
        return true; /* a trailer: not passed on */
    if (name.len && name.ptr[0] == ':')
        return add_pseudo(rq, name, value);
    if (limits->header_count && rq->nfields > limits->header_count) {
        refuse(rq, 431, "too many header fields");
        return true;
    }
    return add(rq, name, value);
}

/* -- the request ------------------------------------------------------------------------------ */

/* Cookies may come in pieces, for HPACK's sake; applications know one field (RFC 9113 8.2.3). */
static bool join_cookies(h2_req *rq)
{
    static const ta_str cookie = {"cookie", 6};
    uint32_t first = 0, n = 0;
    size_t bytes = 0;
    for (uint32_t i = 1; i < rq->nfields; i++) {
        if (!ta_str_eq(rq->fields[i].name, cookie))
            continue;
        if (!n++)
            first = i;
        bytes += rq->fields[i].value.len + 2;
    }
    if (n < 2)
        return true;
    char *begin = room(rq, bytes), *to = begin;
    if (!begin)
        return false;
    uint32_t kept = first + 1; /* `first` stands for all */
    for (uint32_t i = first; i < rq->nfields; i++) {
        ta_header field = rq->fields[i];
        if (!ta_str_eq(field.name, cookie)) {
            rq->fields[kept++] = field;
            continue;
        }
        if (to != begin) {
            memcpy(to, "; ", 2);
            to += 2;
        }
        if (field.value.len)
            memcpy(to, field.value.ptr, field.value.len);
        to += field.value.len;
    }
    rq->nfields = kept;
    rq->fields[first].value = ta_str_of(begin, (size_t)(to - begin));
    ta_buf_commit(&rq->text, (size_t)(to - begin));
    return true;
}

/* :authority is the host field (RFC 9113 8.3.1); false: one that is at odds with it. */
static bool place_host(h2_req *rq)
{
    static const ta_str host = {"host", 4};
    uint32_t kept = 1, given = 0;
    ta_str value = rq->authority;
    for (uint32_t i = 1; i < rq->nfields; i++) {
        ta_header field = rq->fields[i];
        if (!ta_str_eq(field.name, host)) {
            rq->fields[kept++] = field;
            continue;
        }
        if (given++ || (value.ptr && !ta_str_eq(value, field.value)))
            return false;
        value = field.value;
    }
    rq->nfields = kept;
    rq->fields[0] = (ta_header){host, value};
    if (value.ptr)
        return !value.len || ta_url_is_authority(value);
    /* without one */
    rq->nfields--;
    memmove(rq->fields, rq->fields + 1, rq->nfields * sizeof *rq->fields);
    return true;
}

static void read_known(h2_req *rq)
{
    ta_req *req = &rq->req;
    for (uint32_t i = 0; i < rq->nfields; i++) {
        const ta_header *field = &rq->fields[i];
        if (field->name.len == 14 && ta_str_eq(field->name, TA_STR("content-length"))) {
            /* nghttp2 has refused what is none, and a second one. */
            if (!ta_length_of(field->value, &req->content_length))
                refuse(rq, 400, "invalid Content-Length");
        } else if (field->name.len == 6 && ta_str_eq(field->name, TA_STR("expect"))) {
            rq->expect = ta_str_ieq(field->value, TA_STR("100-continue"));
            if (!rq->expect)
                refuse(rq, 417, "unknown expectation");
        }
    }
}

/* Visible ASCII without "#". */
static bool is_target(ta_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '#')
            return false;
    }
    return true;
}

static bool read_target(h2_req *rq)
{
    ta_req *req = &rq->req;
    ta_target target;
    uint32_t most = rq->conn->server->limits.request_line;
    if (most && rq->path.len + req->method.len + sizeof "  HTTP/2" > most) {
        refuse(rq, 414, "request target too long");
        return true;
    }
    bool escaped = ta_url_has_escape(rq->path);
    char *out = escaped ? room(rq, rq->path.len) : NULL; /* before anything points to the path */
    if (escaped && !out)
        return false;
    ta_method method = rq->websocket ? TA_METHOD_GET : req->method_id;
    if (!is_target(rq->path) || !rq->path.len || (rq->path.ptr[0] != '/' && rq->path.len > 1) ||
        ta_target_split(rq->path, method, &target) != TA_OK) {
        refuse(rq, 400, "invalid request target");
        return true;
    }
    req->target = rq->path;
    req->raw_path = req->path = target.path;
    req->query = target.query;
    if (!escaped)
        return true;
    req->path = ta_str_of(out, ta_url_unquote(out, req->raw_path));
    ta_buf_commit(&rq->text, req->path.len);
    return true;
}

bool h2_head_done(h2_req *rq, bool end_stream)
{
    ta_req *req = &rq->req;
    const ta_http_limits *limits = &rq->conn->server->limits;
    TA_ASSERT(rq->phase == H2_NEW && !rq->begun);
    req->method_id = ta_method_of(req->method);
    if (!reserve(rq) || !join_cookies(rq))
        return false;
    rq->input_eof = end_stream;
    req->body_eof = end_stream || rq->websocket;
    req->has_body = !req->body_eof;
    req->upgrade = rq->websocket;
    if (!place_host(rq))
        refuse(rq, 400, "invalid Host");
    read_known(rq);
    if (!rq->refused && req->method_id == TA_METHOD_CONNECT && !rq->websocket)
        refuse(rq, 501, "CONNECT is not supported");
    if (!read_target(rq))
        return false;
    req->headers = rq->fields;
    req->nheaders = rq->nfields;
    if (limits->body_bytes && req->content_length > 0 &&
        (uint64_t)req->content_length > limits->body_bytes)
        refuse(rq, 413, "request body too large");
    if (rq->refused)
        h2_fail(rq, rq->refused, rq->why);
    return true;
}
