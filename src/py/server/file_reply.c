/*
 * file_reply.c -- what responses that are files have in common: their fields, ranges, the sending.
 *
 * Layer: py (L4).  All as Starlette's FileResponse does it; what it answers in another way (several
 * ranges, bad ones) is left to it.
 */
#include "py/server/native_int.h"

#include <errno.h>
#include <math.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/date.h"
#include "http/headers.h"
#include "http/method.h"
#include "py/exchange/asgi_exchange.h"
#include "py/support/types.h"
#include "json/num.h"

enum {
    SMALL = 16384,      /* a file up to this size is read and sent with its head */
    MOST_READ = 262144, /* the same where somebody wants to see the bytes */
    LONG_SUFFIX = 16,   /* characters of a name's suffix that are looked up here */
    KEPT_STAMPS = 64    /* a power of two */
};

/* -- date and entity tag ---------------------------------------------------------------------- */

/* The second that formatdate() makes of st_mtime, by way of a datetime with microseconds. */
static int64_t second_of(double mtime)
{
    double whole, part = modf(mtime, &whole);
    part = nearbyint(part * 1e6); /* half to even */
    if (part >= 1e6)
        whole += 1;
    else if (part < 0)
        whole -= 1;
    return (int64_t)whole;
}

static bool make_stamp(const ta_file *file, ta_file_stamp *stamp)
{
    char text[TA_JSON_DOUBLE_MAX + 1 + TA_JSON_INT_MAX];
    double mtime = (double)file->mtime + 1e-9 * (double)file->mtime_ns; /* st_mtime of os.stat() */
    ta_date_format(stamp->modified, second_of(mtime));
    char *end = ta_json_write_double(text, mtime);
    *end++ = '-';
    end = ta_json_write_i64(end, file->size);
    stamp->etag[0] = stamp->etag[sizeof stamp->etag - 1] = '"';
    return ta_md5_hex(stamp->etag + 1, ta_str_of(text, (size_t)(end - text)));
}

/* A stamp depends on size and time alone. */
typedef struct kept_stamp {
    int64_t size, mtime;
    long mtime_ns;
    bool is; /* there is one */
    ta_file_stamp stamp;
} kept_stamp;

struct ta_file_stamps {
    kept_stamp kept[KEPT_STAMPS]; /* each in the place that a hash gives it */
};

void ta_file_stamps_free(struct ta_file_stamps *stamps)
{
    ta_free(stamps);
}

bool ta_file_reply_stamp(ta_server *server, const ta_file *file, ta_file_stamp *stamp)
{
    uint64_t hash = (uint64_t)file->mtime * 1000000007 + (uint64_t)file->mtime_ns;
    hash = (hash ^ (uint64_t)file->size) * 0x9e3779b97f4a7c15;
    if (server->stamps == NULL && (server->stamps = ta_calloc(1, sizeof *server->stamps)) == NULL)
        return make_stamp(file, stamp);
    kept_stamp *kept = &server->stamps->kept[hash >> 32 & (KEPT_STAMPS - 1)];
    if (!kept->is || kept->size != file->size || kept->mtime != file->mtime ||
        kept->mtime_ns != file->mtime_ns) {
        kept->is = make_stamp(file, &kept->stamp);
        if (!kept->is)
            return false;
        kept->size = file->size;
        kept->mtime = file->mtime;
        kept->mtime_ns = file->mtime_ns;
    }
    *stamp = kept->stamp;
    return true;
}

/* -- content type ----------------------------------------------------------------------------- */

/* The suffix of a file name, as os.path.splitext has it: with its dot, or empty. */
static ta_str suffix_of(ta_str name)
{
    size_t from = 0, dot = name.len;
    while (from < name.len && name.ptr[from] == '.')
        from++;
    for (size_t i = from; i < name.len; i++)
        if (name.ptr[i] == '.')
            dot = i;
    return ta_str_skip(name, dot);
}

/* mapping.get(key): 1 and *out, borrowed from the mapping's own reference; 0; -1. */
static int look_up(PyObject *mapping, PyObject *key, PyObject **out)
{
    if (!PyDict_CheckExact(mapping)) {
        PyErr_SetString(PyExc_TypeError, "a table of mimetypes is no dict");
        return -1;
    }
    return PyDict_GetItemRef(mapping, key, out);
}

int ta_file_reply_type(ta_state *st, ta_str name, PyObject **out)
{
    ta_str suffix = suffix_of(name);
    const ta_file_reply_state *objects = &ta_server_objects_of(st)->file_reply;
    char small[LONG_SUFFIX];
    PyObject *db = NULL, *aliases = NULL, *encodings = NULL, *types = NULL;
    PyObject *key = NULL, *lower = NULL, *found = NULL;
    int rc = -1;
    if (suffix.len > sizeof small)
        return 0;
    bool is_lower = true;
    for (size_t i = 0; i < suffix.len; i++) {
        if ((unsigned char)suffix.ptr[i] >= 0x80)
            return 0;
        small[i] = ta_ascii_lower(suffix.ptr[i]);
        is_lower &= small[i] == suffix.ptr[i];
    }
    if ((db = PyObject_GetAttr(objects->mimetypes, st->names._db)) == NULL)
        return -1;
    if (!Py_IS_TYPE(db, (PyTypeObject *)objects->mime_types)) {
        Py_DECREF(db);
        return 0; /* not there yet, or another one's */
    }
    if ((aliases = PyObject_GetAttr(db, st->names.suffix_map)) == NULL ||
        (encodings = PyObject_GetAttr(db, st->names.encodings_map)) == NULL ||
        (types = PyObject_GetAttr(db, st->names.types_map)) == NULL ||
        (key = PyUnicode_FromStringAndSize(suffix.ptr, (Py_ssize_t)suffix.len)) == NULL ||
        (lower = is_lower ? Py_NewRef(key)
                          : PyUnicode_FromStringAndSize(small, (Py_ssize_t)suffix.len)) == NULL)
        goto done;
    rc = look_up(aliases, lower, &found);
    if (rc == 0)
        rc = look_up(encodings, key, &found);
    if (rc != 0) {
        Py_XDECREF(found);
        rc = rc < 0 ? -1 : 0;
        goto done;
    }
    if (!PyTuple_CheckExact(types) || PyTuple_GET_SIZE(types) != 2)
        goto done;
    rc = look_up(PyTuple_GET_ITEM(types, 1), lower, out);
    if (rc == 0)
        *out = Py_NewRef(Py_None);
    rc = rc < 0 ? -1 : 1;
done:
    Py_XDECREF(lower);
    Py_XDECREF(key);
    Py_XDECREF(types);
    Py_XDECREF(encodings);
    Py_XDECREF(aliases);
    Py_DECREF(db);
    return rc;
}

/* guess_type(name)[0]: new reference, or NULL with an exception. */
static PyObject *guess(ta_state *st, ta_str name)
{
    PyObject *out = NULL;
    int rc = ta_file_reply_type(st, name, &out);
    if (rc != 0)
        return rc < 0 ? NULL : out;
    PyObject *text = PyUnicode_DecodeFSDefaultAndSize(name.ptr, (Py_ssize_t)name.len);
    /* It takes URLs, too: this is a path. */
    PyObject *path = text ? PyUnicode_FromFormat("/%U", text) : NULL;
    PyObject *pair =
        path ? PyObject_CallOneArg(ta_server_objects_of(st)->file_reply.guess_type, path) : NULL;
    out = pair ? PySequence_GetItem(pair, 0) : NULL;
    Py_XDECREF(pair);
    Py_XDECREF(path);
    Py_XDECREF(text);
    return out;
}

/* Returns whether the text has "charset=", in any case. */
static bool names_charset(ta_str text)
{
    ta_str what = TA_STR("charset=");
    for (size_t i = 0; i + what.len <= text.len; i++)
        if (ta_str_ieq(ta_str_of(text.ptr + i, what.len), what))
            return true;
    return false;
}

bool ta_file_reply_add_type(ta_state *st, ta_str name, ta_fields *fields)
{
    char text[256];
    PyObject *type = guess(st, name);
    ta_str value = TA_STR("application/octet-stream");
    bool added = false;
    if (type == NULL) {
        PyErr_Clear(); /* it is raised again by who is asked then */
        return false;
    }
    if (PyUnicode_CheckExact(type) && PyUnicode_IS_ASCII(type) &&
        (size_t)PyUnicode_GET_LENGTH(type) < sizeof text - 20)
        value = ta_str_of(PyUnicode_DATA(type), (size_t)PyUnicode_GET_LENGTH(type));
    else if (!Py_IsNone(type))
        value.len = 0;
    if (value.len == 0 || !ta_response_head_value_ok(value))
        goto done;
    if (value.len >= 5 && memcmp(value.ptr, "text/", 5) == 0 && !names_charset(value)) {
        ta_str charset = TA_STR("; charset=utf-8");
        memcpy(text, value.ptr, value.len);
        memcpy(text + value.len, charset.ptr, charset.len);
        value = ta_str_of(text, value.len + charset.len);
    }
    added = ta_fields_add(fields, TA_STR("content-type"), value) == TA_OK;
done:
    Py_DECREF(type);
    return added;
}

/* -- ranges ----------------------------------------------------------------------------------- */

/* A number of digits that can't overflow; -1: none. */
static int64_t number(ta_str text)
{
    int64_t n = 0;
    if (text.len == 0 || text.len > 18)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return -1;
        n = n * 10 + (text.ptr[i] - '0');
    }
    return n;
}

/* One range within the file.  False: it is something else. */
static bool read_range(ta_str text, int64_t size, ta_file_range *out)
{
    if (text.len < 7 || memcmp(text.ptr, "bytes=", 6) != 0)
        return false;
    text = ta_str_skip(text, 6);
    const char *dash = memchr(text.ptr, '-', text.len);
    if (dash == NULL)
        return false;
    ta_str first = ta_str_of(text.ptr, (size_t)(dash - text.ptr));
    ta_str last = ta_str_skip(text, first.len + 1);
    int64_t from = number(first), to = number(last), end = size;
    if (first.len == 0) {
        if (to < 0)
            return false;
        from = TA_MAX(size - to, (int64_t)0);
    } else {
        if (from < 0 || (last.len > 0 && to < 0))
            return false;
        if (last.len > 0 && to < size)
            end = to + 1;
    }
    if (from >= size || from >= end)
        return false;
    *out = (ta_file_range){.start = from, .length = end - from, .partial = true};
    return true;
}

bool ta_file_reply_range(const ta_exchange *x, int status, int64_t size, ta_str modified,
                         ta_str etag, ta_file_range *out)
{
    ta_str range, condition;
    *out = (ta_file_range){.length = size};
    if (status != 200 || (x->method_id != TA_METHOD_GET && x->method_id != TA_METHOD_HEAD) ||
        TA_LIKELY(!ta_exchange_header(x, "range", 5, &range)))
        return true;
    if (ta_exchange_header(x, "if-range", 8, &condition) &&
        ((condition.len >= 2 && memcmp(condition.ptr, "W/", 2) == 0) ||
         (!ta_str_eq(condition, modified) && !ta_str_eq(condition, etag))))
        return true;
    return read_range(range, size, out);
}

size_t ta_file_reply_range_text(char *out, const ta_file_range *range, int64_t size)
{
    char *p = out;
    memcpy(p, "bytes ", 6);
    p = ta_json_write_i64(p + 6, range->start);
    *p++ = '-';
    p = ta_json_write_i64(p, range->start + range->length - 1);
    *p++ = '/';
    p = ta_json_write_i64(p, size);
    return (size_t)(p - out);
}

/* -- sending ---------------------------------------------------------------------------------- */

/* Returns whether all of it could be read. */
static bool read_all(int fd, char *out, const ta_file_range *range)
{
    size_t have = 0, want = (size_t)range->length;
    while (have < want) {
        ssize_t n = pread(fd, out + have, want - have, (off_t)(range->start + (int64_t)have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        have += (size_t)n;
    }
    return true;
}

static ta_file_sent send_native(ta_native_exchange *native, const ta_response_head *head, int fd,
                                const ta_file_range *range)
{
    PyObject *awaitable = NULL;
    ta_outcome outcome;
    TA_ASSERT(native->app->pathsend); /* nothing wants to see the bytes */
    if (native->base.method_id != TA_METHOD_HEAD && range->length <= SMALL) {
        char data[SMALL];
        bool whole = read_all(fd, data, range);
        close(fd);
        if (!whole)
            return TA_FILE_SENT_NOT; /* it has become shorter */
        ta_piece piece = {ta_str_of(data, (size_t)range->length), NULL, NULL};
        outcome = native->base.ops->respond(&native->base, head, NULL, &piece, &awaitable);
    } else if (ta_response_begin_head(native, head) < 0) {
        close(fd);
        outcome = TA_FAILED;
    } else {
        outcome = ta_response_file(native, fd, range->start, range->length);
    }
    TA_ASSERT(awaitable == NULL);
    /* TA_WAITS: for room, but nothing more is to come */
    return outcome == TA_FAILED ? TA_FILE_SENT_FAILED : TA_FILE_SENT;
}

/* Returns whether all of it could be read without waiting for a disk. */
static bool read_at_once(int fd, char *out, const ta_file_range *range)
{
    if (range->length <= SMALL)
        return read_all(fd, out, range);
#ifdef RWF_NOWAIT
    struct iovec part = {out, (size_t)range->length};
    return preadv2(fd, &part, 1, (off_t)range->start, RWF_NOWAIT) == (ssize_t)range->length;
#else
    return false;
#endif
}

/* All of it for who wants to see the bytes. */
static ta_file_sent send_read(ta_exchange *x, const ta_response_head *head, int fd,
                              const ta_file_range *range)
{
    PyObject *awaitable = NULL, *bytes = NULL;
    int64_t length = x->method_id == TA_METHOD_HEAD ? 0 : range->length;
    ta_file_sent sent = TA_FILE_SENT_NOT;
    if (length <= MOST_READ &&
        (bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length)) == NULL)
        sent = TA_FILE_SENT_FAILED;
    if (bytes != NULL && (length == 0 || read_at_once(fd, PyBytes_AS_STRING(bytes), range))) {
        ta_piece piece = ta_piece_bytes(bytes);
        ta_outcome outcome = x->ops->respond(x, head, NULL, &piece, &awaitable);
        TA_ASSERT(awaitable == NULL); /* it is kept */
        sent = outcome == TA_FAILED ? TA_FILE_SENT_FAILED : TA_FILE_SENT;
    }
    close(fd);
    Py_XDECREF(bytes);
    return sent;
}

ta_file_sent ta_file_reply_send(const ta_file_door *door, const ta_response_head *head, int fd,
                                const ta_file_range *range)
{
    return door->native ? send_native(door->native, head, fd, range)
                        : send_read(door->x, head, fd, range);
}

/* -- for middleware, which gets the bytes ------------------------------------------------------ */

int ta_file_door_open(ta_state *st, PyObject *const *args, Py_ssize_t nargs, ta_file_door *door)
{
    if (nargs != 3 || !PyDict_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "scope, receive and send are needed");
        return -1;
    }
    ta_exchange *server = ta_exchange_of_method(st, args[2]);
    if (server == NULL)
        server = ta_exchange_of_method(st, args[1]);
    if (server == NULL)
        return 0;
    const ta_native_exchange *native = ta_native_exchange_of(server);
    if (native->ws != NULL || native->req == NULL || native->base.ls != ta_selector_running(st))
        return 0;
    *door = (ta_file_door){.server = native->server};
    door->x = ta_asgi_exchange_keeping(st, args[0], args[1], args[2]);
    if (door->x == NULL)
        return -1;
    if (!ta_exchange_scope_text(args[0], st->names.method, &door->method, &door->x->method) ||
        !ta_exchange_scope_text(args[0], st->names.path, &door->path, &door->x->path)) {
        Py_XDECREF(ta_file_door_close(door, true));
        return 0;
    }
    door->x->method_id = ta_method_of(door->x->method);
    return 1;
}

PyObject *ta_file_door_close(ta_file_door *door, bool failed)
{
    PyObject *status, *headers, *body, *out = NULL;
    if (!failed && ta_asgi_exchange_take_kept(door->x, &status, &headers, &body))
        out = Py_BuildValue("(NNN)", status, headers, body);
    else if (!failed)
        out = Py_NewRef(Py_None);
    Py_DECREF((PyObject *)door->x);
    Py_XDECREF(door->method);
    Py_XDECREF(door->path);
    return out;
}

int ta_file_reply_init(PyObject *Py_UNUSED(module), ta_state *st)
{
    ta_file_reply_state *objects = &ta_server_objects_of(st)->file_reply;
    if ((objects->mimetypes = PyImport_ImportModule("mimetypes")) == NULL ||
        (objects->mime_types = ta_types_import("mimetypes", "MimeTypes")) == NULL ||
        (objects->guess_type = ta_types_import("mimetypes", "guess_type")) == NULL)
        return -1;
    return 0;
}
