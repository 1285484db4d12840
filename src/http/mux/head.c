/* mux/head.c -- a request out of a head.  See mux/mux.h for its form. */
#include "base/mem.h"
#include "http/headers.h"
#include "http/method.h"
#include "http/mux/mux_int.h"
#include "http/url.h"

/* Cuts what comes before `byte` off *rest, and drops it; false: it is not there. */
static bool cut(ta_str *rest, char byte, ta_str *out)
{
    const char *at = rest->len ? memchr(rest->ptr, byte, rest->len) : NULL;
    if (!at)
        return false;
    *out = ta_str_of(rest->ptr, (size_t)(at - rest->ptr));
    *rest = ta_str_skip(*rest, out->len + 1);
    return true;
}

static uint32_t count_lines(ta_str s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += s.ptr[i] == '\n';
    return n;
}

/* "name:value\n"; the name becomes lower case in place. */
static bool take_field(ta_str line, ta_header *out)
{
    ta_str value = line, name;
    if (!cut(&value, ':', &name) || !ta_is_token(name) || !ta_is_field_value(value))
        return false;
    char *p = (char *)name.ptr; /* memory of ours */
    for (size_t i = 0; i < name.len; i++)
        p[i] = ta_ascii_lower(p[i]);
    *out = (ta_header){name, ta_str_trim(value)};
    return true;
}

static int64_t declared_length(const ta_req *req)
{
    const ta_header *field = ta_headers_find(req->headers, req->nheaders, TA_STR("content-length"));
    int64_t length;
    return field && ta_length_of(field->value, &length) ? length : -1;
}

/* `decoded`: room for the path. */
static bool take_target(ta_req *req, ta_str target, char *decoded)
{
    if (!target.len || target.ptr[0] != '/')
        return false;
    ta_str rest = target;
    req->target = target;
    if (!cut(&rest, '?', &req->raw_path))
        req->raw_path = target;
    else
        req->query = rest;
    req->path = req->raw_path;
    if (ta_url_has_escape(req->raw_path))
        req->path = ta_str_of(decoded, ta_url_unquote(decoded, req->raw_path));
    return true;
}

static bool parse(mux_req *rq, ta_str text, ta_header *fields, char *decoded)
{
    ta_req *req = &rq->req;
    ta_str line, method;
    if (!cut(&text, '\n', &line) || !cut(&line, ' ', &method) || !ta_is_token(method) ||
        !take_target(req, line, decoded))
        return false;
    req->method = method;
    req->method_id = ta_method_of(method);
    req->headers = fields;
    while (cut(&text, '\n', &line)) {
        if (!take_field(line, &fields[req->nheaders++]))
            return false;
    }
    return text.len == 0;
}

mux_req *mux_req_new(mux_conn *m, uint32_t id, unsigned flags, ta_str payload, int *status)
{
    const ta_http_limits *limits = &m->server->limits;
    uint32_t lines = count_lines(payload);
    *status = 431;
    if (limits->header_count && lines > limits->header_count + 1)
        return NULL;
    *status = 503;
    mux_req *rq = ta_calloc(1, sizeof *rq);
    if (!rq)
        return NULL;
    ta_list_init(&rq->parts);
    size_t fields = lines * sizeof(ta_header);
    rq->mem = ta_malloc(fields + 2 * payload.len + 1);
    if (!rq->mem)
        goto fail;
    char *text = rq->mem + fields;
    memcpy(text, payload.ptr, payload.len);
    *status = 400;
    if (!parse(rq, ta_str_of(text, payload.len), (ta_header *)(void *)rq->mem, text + payload.len))
        goto fail;
    ta_req *req = &rq->req;
    req->version = TA_HTTP_2;
    req->content_length = declared_length(req);
    req->upgrade = flags & TA_MUX_UPGRADE;
    req->body_eof = flags & (TA_MUX_END | TA_MUX_UPGRADE);
    req->has_body = !req->body_eof;
    req->secure = ta_conn_secure(&m->net);
    req->proto = &mux_proto;
    req->ops = m->server->ops;
    rq->conn = m;
    rq->id = id;
    rq->want = limits->body_buffer ? limits->body_buffer : SIZE_MAX;
    rq->credit = rq->window = TA_MUX_WINDOW_START;
    return rq;
fail:
    mux_req_free(rq);
    return NULL;
}

void mux_req_free(mux_req *rq)
{
    mux_drop_parts(rq);
    ta_buf_free(&rq->req.body);
    ta_buf_free(&rq->input);
    ta_free(rq->mem);
    ta_free(rq);
}
