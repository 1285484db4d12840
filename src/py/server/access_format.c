/*
 * access_format.c -- lines of the access log in a format that the user chose.
 *
 * Layer: py/server.  What a client has sent can't end a field or a line, nor reach a terminal as it
 * is: everything but printable ASCII is escaped, and so is what would close the quotes round it.
 */
#include "py/server/access_format.h"

#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/swar.h"
#include "http/resp.h"
#include "net/transport.h"
#include "py/server/native_int.h"
#include "py/server/request_id.h"
#include "py/server/route_label.h"

typedef enum field {
    F_CLIENT,
    F_CLIENT_HOST,
    F_METHOD,
    F_TARGET,
    F_PROTOCOL,
    F_STATUS,
    F_DURATION,
    F_BYTES_IN,
    F_BYTES_OUT,
    F_REQUEST_ID,
    F_USER_AGENT,
    F_REFERER,
    F_HOST,
    F_TLS_VERSION,
    F_TLS_CIPHER,
    F_ROUTE,
    F_TIME,
    F_TIME_CLF,
    F_PID,
    F_COUNT
} field;

/* Names, and how many bytes a value takes at most, with its escapes. */
static const struct {
    const char *name;
    uint32_t most;
} fields[F_COUNT] = {
    [F_CLIENT] = {"client", 160},
    [F_CLIENT_HOST] = {"client_host", 160},
    [F_METHOD] = {"method", 64},
    [F_TARGET] = {"target", 2000},
    [F_PROTOCOL] = {"protocol", 16},
    [F_STATUS] = {"status", 20},
    [F_DURATION] = {"duration", 32},
    [F_BYTES_IN] = {"bytes_in", 20},
    [F_BYTES_OUT] = {"bytes_out", 20},
    [F_REQUEST_ID] = {"request_id", TA_REQUEST_ID_MAX + 20},
    [F_USER_AGENT] = {"user_agent", 400},
    [F_REFERER] = {"referer", 400},
    [F_HOST] = {"host", 200},
    [F_TLS_VERSION] = {"tls_version", 16},
    [F_TLS_CIPHER] = {"tls_cipher", 64},
    [F_ROUTE] = {"route", 300},
    [F_TIME] = {"time", 32},
    [F_TIME_CLF] = {"time_clf", 40},
    [F_PID] = {"pid", 20},
};

/* How a value is written. */
typedef enum mode {
    MODE_BARE,   /* percent-encoded, spaces and quotes as well */
    MODE_QUOTED, /* \xHH for quotes, backslashes, controls, and what is not ASCII */
    MODE_JSON    /* a JSON string, of ASCII */
} mode;

typedef struct piece {
    ta_str before; /* borrowed from spec */
    field field;
    mode mode;
} piece;

struct ta_access_format {
    PyObject *spec; /* owned: it keeps the texts */
    bool json;
    pid_t pid;     /* its maker's: getpid() is a system call */
    piece *pieces; /* owned */
    size_t count, bound;
    ta_str after;   /* borrowed from spec */
    int64_t offset; /* ns: from the monotonic clock to that of the world, as of `second` */
    int64_t second; /* of the monotonic clock */
    int64_t shown;  /* second of the world that the texts are of */
    char time[20];  /* 2026-11-29T18:10:02 */
    char clf[27];   /* 29/Nov/2026:18:10:02 +0000 */
};

static inline char *put(char *out, ta_str s)
{
    memcpy(out, s.ptr, s.len);
    return out + s.len;
}

/* -- text of clients -------------------------------------------------------------------------- */

static const char hex[] = "0123456789abcdef";

static char *put_hex2(char *out, unsigned c)
{
    *out++ = hex[c >> 4 & 15];
    *out++ = hex[c & 15];
    return out;
}

static char *put_u16(char *out, unsigned c)
{
    *out++ = '\\';
    *out++ = 'u';
    return put_hex2(put_hex2(out, c >> 8), c);
}

/* The character that begins at s[0], which is no ASCII, and how long it is; of what is no UTF-8 the
 * byte, as Latin-1. */
static unsigned character(const unsigned char *s, size_t len, size_t *used)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    unsigned c = s[0] & (0xffu >> (n + 1));
    *used = 1;
    if (s[0] < 0xc2 || s[0] > 0xf4 || len < n)
        return s[0];
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return s[0];
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return s[0];
    *used = n;
    return c;
}

/* What stands for the byte or character at s[0] (*used is its length); 12 bytes at most. */
static char *put_escape(char *out, const unsigned char *s, size_t len, mode how, size_t *used)
{
    *used = 1;
    if (how == MODE_BARE) {
        *out++ = '%';
        *out++ = "0123456789ABCDEF"[s[0] >> 4];
        *out++ = "0123456789ABCDEF"[s[0] & 15];
        return out;
    }
    if (how == MODE_QUOTED) {
        *out++ = '\\';
        *out++ = 'x';
        return put_hex2(out, s[0]);
    }
    if (s[0] == '"' || s[0] == '\\') {
        *out++ = '\\';
        *out++ = (char)s[0];
        return out;
    }
    if (s[0] < 0x80)
        return put_u16(out, s[0]);
    unsigned c = character(s, len, used);
    if (c < 0x10000)
        return put_u16(out, c);
    c -= 0x10000;
    return put_u16(put_u16(out, 0xd800 | c >> 10), 0xdc00 | (c & 0x3ff));
}

/* What is written as it is; `least` is 0x21 where spaces are not. */
static inline bool is_plain(unsigned char c, unsigned char least, mode how)
{
    return c >= least && c < 0x7f && c != '"' && (c != '\\' || how == MODE_BARE);
}

/* Whether eight bytes are; no backslash, whatever the mode. */
static inline bool are_plain(uint64_t x, unsigned char least)
{
    return !((x & TA_SWAR_HIGHS) | TA_SWAR_LESS(x, least) | TA_SWAR_EQUAL(x, 0x7f) |
             TA_SWAR_EQUAL(x, '"') | TA_SWAR_EQUAL(x, '\\'));
}

/* Writes the text, cut to `most` bytes (of which three say so). */
static char *put_text(char *out, ta_str text, mode how, size_t most)
{
    const unsigned char *s = (const unsigned char *)text.ptr, *end = s + text.len;
    const char *last = out + most - 3 - 12; /* from here on nothing more would fit for certain */
    const unsigned char least = how == MODE_BARE ? 0x21 : 0x20;
    while (s < end) {
        uint64_t x;
        while (end - s >= 8 && last - out >= 8) {
            memcpy(&x, s, 8);
            if (!are_plain(x, least))
                break;
            memcpy(out, &x, 8);
            s += 8;
            out += 8;
        }
        size_t rest = (size_t)(end - s);
        if (rest < 8 && s - (const unsigned char *)text.ptr >= 8 && last - out >= 8) {
            memcpy(&x, end - 8, 8);
            if (are_plain(x, least)) { /* so what precedes the rest was written as it is, too */
                memcpy(out + rest - 8, &x, 8);
                return out + rest;
            }
        }
        /* The rest, or the eight of which one is not plain. */
        for (const unsigned char *stop = s + TA_MIN(end - s, 8); s < stop;) {
            if (TA_UNLIKELY(out > last))
                return put(out, TA_STR("..."));
            if (TA_LIKELY(is_plain(*s, least, how))) {
                *out++ = (char)*s++;
            } else {
                size_t used;
                out = put_escape(out, s, (size_t)(end - s), how, &used);
                s += used;
            }
        }
    }
    return out;
}

/* -- values ----------------------------------------------------------------------------------- */

/* The clock of the world at a moment of the monotonic one; ns. */
static int64_t world_time(ta_access_format *format, uint64_t now)
{
    int64_t second = (int64_t)(now / 1000000000);
    if (second != format->second) {
        struct timespec world, steady;
        clock_gettime(CLOCK_REALTIME, &world);
        clock_gettime(CLOCK_MONOTONIC, &steady);
        format->offset = ((int64_t)world.tv_sec - (int64_t)steady.tv_sec) * 1000000000 +
                         (int64_t)world.tv_nsec - (int64_t)steady.tv_nsec;
        format->second = second;
    }
    int64_t ns = (int64_t)now + format->offset;
    if (ns / 1000000000 != format->shown) {
        struct tm tm;
        time_t at = (time_t)(ns / 1000000000);
        gmtime_r(&at, &tm);
        static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        char text[64];
        snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        memcpy(format->time, text, sizeof format->time - 1);
        snprintf(text, sizeof text, "%02d/%.3s/%04d:%02d:%02d:%02d +0000", tm.tm_mday,
                 months + (ptrdiff_t)3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
                 tm.tm_sec);
        memcpy(format->clf, text, sizeof format->clf - 1);
        format->shown = ns / 1000000000;
    }
    return ns;
}

static char *put_digits(char *out, uint64_t v, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; v /= 10)
        out[i] = (char)('0' + v % 10);
    return out + digits;
}

static char *put_time(char *out, ta_access_format *format, uint64_t now)
{
    int64_t ns = world_time(format, now);
    out = put(out, ta_str_of(format->time, sizeof format->time - 1));
    *out++ = '.';
    out = put_digits(out, (uint64_t)(ns % 1000000000) / 1000000, 3);
    *out++ = 'Z';
    return out;
}

static char *put_seconds(char *out, uint64_t ns)
{
    out = ta_resp_put_uint(out, ns / 1000000000);
    *out++ = '.';
    return put_digits(out, ns % 1000000000 / 1000, 6);
}

/* Host and port of the client, or the host alone; `room` bytes at most. */
static char *put_client(char *out, size_t room, const ta_native_exchange *native, ta_str client,
                        bool host_only)
{
    ta_str host = client;
    uint16_t port = 0;
    if (client.len == 0)
        ta_req_peer(native->req, &host, &port);
    const char *colon = client.len && host_only ? memrchr(host.ptr, ':', host.len) : NULL;
    if (colon != NULL)
        host.len = (size_t)(colon - host.ptr);
    host.len = TA_MIN(host.len, room - 8);
    if (host.len == 0)
        return out; /* a unix socket */
    out = put(out, host);
    if (client.len > 0 || host_only)
        return out;
    *out++ = ':';
    return ta_resp_put_uint(out, port);
}

static ta_str header_of(const ta_native_exchange *native, const char *name)
{
    ta_str value = {NULL, 0};
    (void)ta_exchange_header(&native->base, name, strlen(name), &value);
    return value;
}

static ta_str tls_text(const ta_native_exchange *native, field which)
{
    const ta_transport *t = ta_req_transport(native->req);
    if (t->tls_version == 0)
        return ta_str_of(NULL, 0);
    if (which == F_TLS_VERSION)
        return t->tls_version == 0x0304 ? TA_STR("TLSv1.3") : TA_STR("TLSv1.2");
    return ta_str_of(t->tls_cipher, t->tls_cipher ? strlen(t->tls_cipher) : 0);
}

/* A request while its line is made. */
typedef struct line {
    ta_native_exchange *native;
    int status;
    ta_str client;
    uint64_t now;
} line;

/* A text, in quotes if it is JSON's.  Returns `out` when there is none. */
static char *put_value(char *out, ta_str text, const piece *p)
{
    if (text.len == 0)
        return out;
    if (p->mode == MODE_JSON)
        *out++ = '"';
    out = put_text(out, text, p->mode, fields[p->field].most);
    if (p->mode == MODE_JSON)
        *out++ = '"';
    return out;
}

/* The same of a text that we made, which needs no escapes. */
static char *put_own(char *out, ta_str text, const piece *p)
{
    if (text.len == 0)
        return out;
    if (p->mode == MODE_JSON)
        *out++ = '"';
    out = put(out, text);
    if (p->mode == MODE_JSON)
        *out++ = '"';
    return out;
}

static char *put_target(char *out, const ta_native_exchange *native, const piece *p)
{
    ta_str target = native->req->target;
    return put_value(out, target.len ? target : native->in.raw_path, p);
}

/* Writes a value; returns `out` when the request has none. */
static char *put_field(char *out, ta_access_format *format, const line *l, const piece *p)
{
    ta_native_exchange *native = l->native;
    const ta_req *req = native->req;
    char text[TA_ROUTE_LABEL_MAX], *end = text;
    switch (p->field) {
    case F_STATUS:
        return ta_resp_put_uint(out, (uint64_t)l->status);
    case F_DURATION:
        return put_seconds(out, l->now - req->notes.began);
    case F_BYTES_IN:
        return ta_resp_put_uint(out, ta_request_body_received(native));
    case F_BYTES_OUT:
        return ta_resp_put_uint(out, req->notes.sent);
    case F_PID:
        return ta_resp_put_uint(out, (uint64_t)format->pid);
    case F_METHOD:
        return put_value(out, native->base.method, p);
    case F_TARGET:
        return put_target(out, native, p);
    case F_REQUEST_ID:
        return put_value(out, ta_request_id(native), p);
    case F_USER_AGENT:
        return put_value(out, header_of(native, "user-agent"), p);
    case F_REFERER:
        return put_value(out, header_of(native, "referer"), p);
    case F_HOST:
        return put_value(out, header_of(native, "host"), p);
    case F_TLS_VERSION:
    case F_TLS_CIPHER:
        return put_own(out, tls_text(native, p->field), p);
    case F_ROUTE:
        return put_value(out, ta_route_label(native, text), p);
    case F_CLIENT:
    case F_CLIENT_HOST:
        end = put_client(text, 120, native, l->client, p->field == F_CLIENT_HOST);
        return put_value(out, ta_str_of(text, (size_t)(end - text)), p);
    case F_PROTOCOL:
        end = put(put(text, TA_STR("HTTP/")), ta_http_version_text(native->in.version));
        break;
    case F_TIME:
        end = put_time(text, format, l->now);
        break;
    case F_TIME_CLF:
        (void)world_time(format, l->now);
        end = put(text, ta_str_of(format->clf, sizeof format->clf - 1));
        break;
    case F_COUNT:
        break;
    }
    return put_own(out, ta_str_of(text, (size_t)(end - text)), p);
}

bool ta_access_format_put(ta_access_format *format, ta_buf *buf, ta_native_exchange *native,
                          int status, ta_str client)
{
    TA_ASSERT(native->req != NULL);
    char *start = ta_buf_reserve(buf, format->bound), *out = start;
    if (out == NULL)
        return false;
    line l = {native, status, client, ta_clock_ns()};
    for (size_t i = 0; i < format->count; i++) {
        const piece *p = &format->pieces[i];
        char *value = put(out, p->before), *end = put_field(value, format, &l, p);
        if (end == value && format->json)
            continue; /* with its name */
        if (end == value)
            *end++ = '-';
        out = end;
    }
    out = put(out, format->after);
    TA_ASSERT((size_t)(out - start) <= format->bound);
    ta_buf_commit(buf, (size_t)(out - start));
    return true;
}

/* -- making one ------------------------------------------------------------------------------- */

void ta_access_format_free(ta_access_format *format)
{
    if (format == NULL)
        return;
    Py_XDECREF(format->spec);
    PyMem_Free(format->pieces);
    PyMem_Free(format);
}

static int read_text(PyObject *obj, ta_str *out)
{
    Py_ssize_t len;
    const char *utf8 = PyUnicode_AsUTF8AndSize(obj, &len);
    if (utf8 == NULL)
        return -1;
    *out = ta_str_of(utf8, (size_t)len);
    return 0;
}

static int read_piece(ta_access_format *format, PyObject *item, piece *p)
{
    PyObject *before;
    const char *name;
    int quoted;
    if (!PyTuple_Check(item) || !PyArg_ParseTuple(item, "Usp", &before, &name, &quoted) ||
        read_text(before, &p->before) < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a piece must be a tuple");
        return -1;
    }
    for (unsigned i = 0; i < F_COUNT; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            p->field = (field)i;
            p->mode = format->json ? MODE_JSON : quoted ? MODE_QUOTED : MODE_BARE;
            format->bound += p->before.len + fields[i].most + 2;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "unknown field of the access log: %s", name);
    return -1;
}

ta_access_format *ta_access_format_new(PyObject *spec)
{
    PyObject *pieces, *after;
    int json;
    if (!PyTuple_Check(spec)) {
        PyErr_SetString(PyExc_TypeError, "a format must be a tuple");
        return NULL;
    }
    if (!PyArg_ParseTuple(spec, "pO!U", &json, &PyTuple_Type, &pieces, &after))
        return NULL;
    ta_access_format *format = PyMem_Calloc(1, sizeof *format);
    if (format == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    format->spec = Py_NewRef(spec);
    format->json = json != 0;
    format->pid = getpid();
    format->second = format->shown = INT64_MIN;
    format->count = (size_t)PyTuple_GET_SIZE(pieces);
    format->pieces = PyMem_Calloc(format->count + 1, sizeof *format->pieces);
    if (format->pieces == NULL) {
        PyErr_NoMemory();
        goto error;
    }
    if (read_text(after, &format->after) < 0)
        goto error;
    format->bound = format->after.len;
    for (size_t i = 0; i < format->count; i++)
        if (read_piece(format, PyTuple_GET_ITEM(pieces, (Py_ssize_t)i), &format->pieces[i]) < 0)
            goto error;
    return format;
error:
    ta_access_format_free(format);
    return NULL;
}
