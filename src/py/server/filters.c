/* filters.c -- what CORS, GZip, TrustedHost and HTTPSRedirect do to requests and responses.  See
 * filters.h. */
#include "py/server/filters_int.h"

#include "http/headers.h"
#include "py/support/types.h"

/* -- requests --------------------------------------------------------------------------------- */

/* The name of "name[:port]" when it is made of the usual characters; the others are Python's. */
static bool plain_host(ta_str *host)
{
    size_t n = 0;
    while (n < host->len && host->ptr[n] != ':') {
        char c = ta_ascii_lower(host->ptr[n]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
            return false;
        n++;
    }
    for (size_t i = n + 1; i < host->len; i++) {
        if (host->ptr[i] < '0' || host->ptr[i] > '9')
            return false;
    }
    bool ok = n > 0 && host->len != n + 1;
    host->len = n;
    return ok;
}

static bool host_allowed(const filter *rule, const ta_native_exchange *native)
{
    ta_str host;
    if (!ta_exchange_header(&native->base, "host", 4, &host) || !plain_host(&host))
        return false;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rule->texts); i++) {
        ta_str pattern = ta_filters_str(PyTuple_GET_ITEM(rule->texts, i));
        if (ta_str_ieq(host, pattern))
            return true;
        if (pattern.len > 0 && pattern.ptr[0] == '*' && host.len >= pattern.len - 1 &&
            ta_str_ieq(ta_str_of(host.ptr + host.len - (pattern.len - 1), pattern.len - 1),
                       ta_str_of(pattern.ptr + 1, pattern.len - 1)))
            return true;
    }
    return false;
}

/* Returns whether the scheme, which a proxy may have set, is neither "http" nor "ws". */
static bool is_secure(ta_native_exchange *native)
{
    ta_str value;
    const ta_server *server = native->server;
    if (native->asgi.watch == NULL &&
        (server->proxy == NULL ||
         !ta_exchange_header(&native->base, "x-forwarded-proto", 17, &value)))
        return native->in.secure;
    PyObject *scope = native->base.ops->scope(&native->base);
    if (scope == NULL) {
        PyErr_Clear(); /* the ASGI application is called, and fails in the same way */
        return false;
    }
    PyObject *scheme = NULL;
    bool secure = PyDict_GetItemRef(scope, native->st->names.scheme, &scheme) > 0 &&
                  PyUnicode_Check(scheme) &&
                  PyUnicode_CompareWithASCIIString(scheme, "http") != 0 &&
                  PyUnicode_CompareWithASCIIString(scheme, "ws") != 0;
    PyErr_Clear();
    Py_XDECREF(scheme);
    Py_DECREF(scope);
    /* Made before the route was known, so that its handler must not see it. */
    Py_CLEAR(native->base.scope_dict);
    return secure;
}

bool ta_filters_admit(const ta_filters *filters, ta_native_exchange *native)
{
    ta_str value;
    for (size_t i = 0; i < filters->n; i++) {
        switch (filters->items[i].kind) {
        case FILTER_CORS:
            if (native->base.method_id == TA_METHOD_OPTIONS &&
                ta_exchange_header(&native->base, "origin", 6, &value) &&
                ta_exchange_header(&native->base, "access-control-request-method", 29, &value))
                return false;
            break;
        case FILTER_HOSTS:
            if (!host_allowed(&filters->items[i], native))
                return false;
            break;
        case FILTER_HTTPS:
            if (!is_secure(native))
                return false;
            break;
        case FILTER_GZIP:
        case FILTER_SESSION:
            break;
        }
    }
    return true;
}

/* -- fields ----------------------------------------------------------------------------------- */

static int no_memory(void)
{
    PyErr_NoMemory();
    return -1;
}

/* The only field of that name from now on. */
static int set_field(ta_fields *fields, ta_str name, ta_str value)
{
    return ta_fields_set(fields, name, value) == TA_OK ? 0 : no_memory();
}

/* One Vary field of all that the response has, and `what`. */
static int add_vary(ta_fields *fields, ta_str what)
{
    ta_str value, name = TA_STR("vary");
    uint32_t i = 0;
    if (!ta_fields_find(fields, name, &i, &value))
        return set_field(fields, name, what);
    ta_buf all;
    ta_buf_init(&all);
    int rc = 0;
    do {
        rc |= ta_buf_append_str(&all, value);
        rc |= ta_buf_append(&all, ", ", 2);
        i++;
    } while (ta_fields_find(fields, name, &i, &value));
    rc |= ta_buf_append_str(&all, what);
    rc = rc ? no_memory() : set_field(fields, name, ta_buf_str(&all));
    ta_buf_free(&all);
    return rc;
}

/* -- CORS ------------------------------------------------------------------------------------- */

/* 1, 0, -1 */
static int origin_allowed(const filter *rule, ta_str origin)
{
    PyObject *text = PyUnicode_DecodeLatin1(origin.ptr, (Py_ssize_t)origin.len, NULL);
    if (text == NULL)
        return -1;
    int rc = 0;
    if (rule->fullmatch != NULL) {
        PyObject *match = PyObject_CallOneArg(rule->fullmatch, text);
        rc = match ? PyObject_IsTrue(match) : -1;
        Py_XDECREF(match);
    }
    if (rc == 0)
        rc = PySequence_Contains(rule->origins, text);
    Py_DECREF(text);
    return rc;
}

static int cors_apply(const filter *rule, ta_native_exchange *native)
{
    ta_fields *fields = &native->out.head;
    ta_str origin;
    if (ta_exchange_header(&native->base, "origin", 6, &origin)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rule->fields); i++) {
            PyObject *pair = PyTuple_GET_ITEM(rule->fields, i);
            if (set_field(fields, ta_filters_str(PyTuple_GET_ITEM(pair, 0)),
                          ta_filters_str(PyTuple_GET_ITEM(pair, 1))) < 0)
                return -1;
        }
        int named = rule->origins ? origin_allowed(rule, origin) : rule->credentials;
        if (named < 0 ||
            (named && set_field(fields, TA_STR("access-control-allow-origin"), origin) < 0))
            return -1;
    }
    return add_vary(fields, TA_STR("Origin"));
}

/* -- GZip: whether ---------------------------------------------------------------------------- */

/* What str.strip() takes off, as far as a field value may have it. */
static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == (char)0x85 || c == (char)0xa0;
}

/* The media type of the response, without parameters; empty when there is none. */
static ta_str media_type(const ta_fields *fields)
{
    ta_str value;
    uint32_t i = 0;
    if (!ta_fields_find(fields, TA_STR("content-type"), &i, &value))
        return ta_str_of("", 0);
    const char *semicolon = memchr(value.ptr, ';', value.len);
    if (semicolon != NULL)
        value.len = (size_t)(semicolon - value.ptr);
    while (value.len > 0 && is_space(value.ptr[0])) {
        value.ptr++;
        value.len--;
    }
    while (value.len > 0 && is_space(value.ptr[value.len - 1]))
        value.len--;
    return value;
}

static bool type_excluded(const filter *rule, ta_str media)
{
    const char *slash = media.len ? memchr(media.ptr, '/', media.len) : NULL;
    ta_str major = ta_str_of(media.ptr, slash ? (size_t)(slash - media.ptr) : media.len);
    ta_str grpc = TA_STR("application/grpc+");
    bool is_grpc = media.len >= grpc.len && ta_str_ieq(ta_str_of(media.ptr, grpc.len), grpc);
    grpc.len--;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rule->texts); i++) {
        ta_str other = ta_filters_str(PyTuple_GET_ITEM(rule->texts, i));
        if (ta_str_ieq(media, other) || (is_grpc && ta_str_eq(other, grpc)))
            return true;
        if (other.len == major.len + 2 && memcmp(other.ptr + major.len, "/*", 2) == 0 &&
            ta_str_ieq(major, ta_str_of(other.ptr, major.len)))
            return true;
    }
    return false;
}

/* Whether GZip leaves a response with this head alone. */
static bool left_alone(const filter *f, const ta_fields *head)
{
    ta_str value;
    uint32_t i = 0;
    return head->status == 206 || ta_fields_find(head, TA_STR("content-encoding"), &i, &value) ||
           type_excluded(f, media_type(head));
}

static bool accepts_gzip(const ta_native_exchange *x)
{
    ta_str value;
    return ta_exchange_header(&x->base, "accept-encoding", 15, &value) && value.len >= 4 &&
           memmem(value.ptr, value.len, "gzip", 4) != NULL;
}

/* The fields of a compressed response; length: -1 when it is not known. */
static int packed_fields(ta_fields *fields, int64_t length)
{
    if (set_field(fields, TA_STR("content-encoding"), TA_STR("gzip")) < 0)
        return -1;
    ta_fields_remove(fields, TA_STR("content-length"));
    if (length >= 0 && ta_fields_add_length(fields, (uint64_t)length) != TA_OK)
        return no_memory();
    return 0;
}

/* -- GZip: doing it --------------------------------------------------------------------------- */

/* A stream of that level: the one that the server keeps, or a new one. */
static ta_gzip *take_stream(ta_server *server, int level)
{
    ta_gzip *gz = server->gzip;
    if (gz == NULL || ta_gzip_level(gz) != level)
        gz = ta_gzip_new(level);
    else
        server->gzip = NULL;
    if (gz == NULL)
        PyErr_NoMemory();
    return gz;
}

static void give_stream(ta_server *server, ta_gzip *gz)
{
    if (server->gzip == NULL && server->ls != NULL) {
        ta_gzip_reset(gz);
        server->gzip = gz;
    } else {
        ta_gzip_free(gz);
    }
}

/* Compresses into x->out.packed with x->out.gzip. */
static int pack(ta_native_exchange *x, ta_str data, bool more)
{
    TA_ASSERT(x->out.gzip != NULL); /* no thread has it */
    ta_buf_clear(&x->out.packed);
    int rc =
        ta_gzip_write(x->out.gzip, data, more ? TA_GZIP_FLUSH : TA_GZIP_FINISH, &x->out.packed);
    return rc == TA_OK ? 0 : no_memory();
}

typedef struct gzip_job {
    PyObject_HEAD
    ta_gzip *gzip;  /* owned; goes back to the exchange */
    Py_buffer data; /* owned: view of the piece */
    ta_buf out;     /* owned */
    bool more, has_data;
    atomic_bool called;
    int rc; /* TA_AGAIN: not done yet */
} gzip_job;

static PyObject *job_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    gzip_job *job = (gzip_job *)self;
    if (atomic_exchange(&job->called, true)) {
        PyErr_SetString(PyExc_RuntimeError, "a compression runs once");
        return NULL;
    }
    ta_str data = ta_str_of(job->data.buf, (size_t)job->data.len);
    Py_BEGIN_ALLOW_THREADS
    job->rc = ta_gzip_write(job->gzip, data, job->more ? TA_GZIP_FLUSH : TA_GZIP_FINISH, &job->out);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static void job_dealloc(PyObject *self)
{
    gzip_job *job = (gzip_job *)self;
    PyTypeObject *type = Py_TYPE(self);
    ta_gzip_free(job->gzip);
    ta_buf_free(&job->out);
    if (job->has_data)
        PyBuffer_Release(&job->data);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* Takes x->out.gzip. */
static PyObject *new_job(ta_native_exchange *native, const ta_piece *piece, bool more)
{
    gzip_job *job = PyObject_New(gzip_job, ta_server_objects_of(native->st)->server.gzip_job_type);
    if (job == NULL)
        return NULL;
    memset((char *)job + sizeof(PyObject), 0, sizeof *job - sizeof(PyObject));
    job->rc = TA_AGAIN;
    job->more = more;
    PyObject *owner = piece->owner;
    ta_str data = piece->data;
    if (owner != NULL && PyObject_GetBuffer(owner, &job->data, PyBUF_SIMPLE) == 0)
        job->has_data = true;
    else if (owner != NULL)
        goto error;
    if (job->has_data && (job->data.buf != data.ptr || job->data.len != (Py_ssize_t)data.len)) {
        PyBuffer_Release(&job->data); /* the owner has more, as when a status takes no body */
        job->has_data = false;
    }
    if (!job->has_data) {
        PyObject *bytes = PyBytes_FromStringAndSize(data.ptr, (Py_ssize_t)data.len);
        if (bytes == NULL || PyObject_GetBuffer(bytes, &job->data, PyBUF_SIMPLE) < 0) {
            Py_XDECREF(bytes);
            goto error;
        }
        job->has_data = true;
        Py_DECREF(bytes); /* the view keeps it */
    }
    TA_ASSERT(native->out.gzip != NULL);
    job->gzip = native->out.gzip;
    native->out.gzip = NULL;
    return (PyObject *)job;
error:
    Py_DECREF(job);
    return NULL;
}

static const filter *gzip_of(const ta_filters *f, size_t *at)
{
    for (*at = 0; *at < f->n; ++*at) {
        if (f->items[*at].kind == FILTER_GZIP)
            return &f->items[*at];
    }
    return NULL;
}

/* The filters from `from` to the one before `to`. */
static int apply(ta_native_exchange *native, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        const filter *rule = &native->out.filters->items[i];
        if (rule->kind == FILTER_CORS && cors_apply(rule, native) < 0)
            return -1;
        if (rule->kind == FILTER_SESSION && ta_session_filter_apply(rule, native) < 0)
            return -1;
    }
    return 0;
}

/* A piece was compressed into `len` bytes.  Goes on with the head if it waits for that.  0 or
 * -1. */
static int piece_packed(ta_native_exchange *native, size_t len, bool more)
{
    if (native->out.packing == TA_PACK_HELD) {
        size_t at;
        (void)gzip_of(native->out.filters, &at);
        if (packed_fields(&native->out.head, more ? -1 : (int64_t)len) < 0 ||
            apply(native, at + 1, native->out.filters->n) < 0)
            return -1;
        ta_response_head_suit(&native->out.head);
    }
    native->out.packing = more ? TA_PACK_STREAM : TA_PACK_NONE;
    if (!more) {
        give_stream(native->server, native->out.gzip);
        native->out.gzip = NULL;
    }
    return 0;
}

ta_outcome ta_filters_start(ta_native_exchange *native, int status)
{
    size_t at;
    native->out.head.status = status;
    const filter *gzip = gzip_of(native->out.filters, &at);
    if (apply(native, 0, at) < 0)
        return TA_FAILED;
    if (gzip != NULL && !left_alone(gzip, &native->out.head)) {
        native->out.packing = TA_PACK_HELD;
        return TA_WAITS;
    }
    return apply(native, at + 1, native->out.filters->n) < 0 ? TA_FAILED : TA_DONE;
}

/* Ends the wait of the head for GZip, at `at`; after an error it still waits. */
static int release(ta_native_exchange *x, size_t at)
{
    if (apply(x, at + 1, x->out.filters->n) < 0)
        return -1;
    x->out.packing = TA_PACK_NONE;
    return 0;
}

ta_outcome ta_filters_body(ta_native_exchange *native, ta_piece *piece, bool more, PyObject **job)
{
    size_t at, len = piece->data.len;
    if (native->out.packing == TA_PACK_NONE)
        return TA_DONE;
    const filter *gzip = gzip_of(native->out.filters, &at);
    if (native->out.packing == TA_PACK_HELD) {
        bool small = (Py_ssize_t)len < gzip->minimum && !more;
        if (!small && add_vary(&native->out.head, TA_STR("Accept-Encoding")) < 0)
            return TA_FAILED;
        if (small || !accepts_gzip(native)) {
            return release(native, at) < 0 ? TA_FAILED : TA_DONE;
        }
        native->out.gzip = take_stream(native->server, gzip->level);
        if (native->out.gzip == NULL)
            return TA_FAILED;
    } else if (native->out.gzip == NULL) {
        /* Its thread has it: there are two sends at once, or one after a cancelled one. */
        PyErr_SetString(PyExc_RuntimeError, "A piece of the response is still being compressed.");
        return TA_FAILED;
    }
    if ((Py_ssize_t)len >= gzip->thread_minimum) {
        *job = new_job(native, piece, more);
        return *job ? TA_WAITS : TA_FAILED;
    }
    if (pack(native, piece->data, more) < 0)
        return TA_FAILED;
    *piece = ta_piece_buf(&native->out.packed);
    return piece_packed(native, piece->data.len, more) < 0 ? TA_FAILED : TA_DONE;
}

int ta_filters_release(ta_native_exchange *x)
{
    size_t at;
    (void)gzip_of(x->out.filters, &at);
    return release(x, at);
}

PyObject *ta_filters_offload(const ta_native_exchange *x, PyObject *job)
{
    size_t at;
    return PyObject_CallOneArg(gzip_of(x->out.filters, &at)->offload, job);
}

int ta_filters_offloaded(ta_native_exchange *native, PyObject *object, ta_piece *piece, bool *more)
{
    gzip_job *job = (gzip_job *)object;
    if (job->rc != TA_OK || native->out.gzip != NULL || native->out.filters == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "The response could not be compressed.");
        return -1;
    }
    TA_ASSERT(job->gzip != NULL && native->out.packing != TA_PACK_NONE);
    native->out.gzip = job->gzip;
    job->gzip = NULL;
    *piece = ta_piece_buf(&job->out);
    *more = job->more;
    return piece_packed(native, piece->data.len, job->more);
}

void ta_filters_drop(ta_native_exchange *native)
{
    if (native->out.packing != TA_PACK_HELD)
        return;
    native->out.packing = TA_PACK_NONE;
    if (native->out.state == TA_RESPONSE_HELD)
        ta_native_exchange_move(native, TA_RESPONSE_NONE);
    native->base.response_started = false; /* also of a request that was closed meanwhile */
    ta_fields_clear(&native->out.head);
    ta_gzip_free(native->out.gzip);
    native->out.gzip = NULL;
}

static PyType_Slot job_slots[] = {
    {Py_tp_doc, "Compresses a piece of a response, in a thread."},
    {Py_tp_call, job_call},
    {Py_tp_dealloc, job_dealloc},
    {0, NULL},
};

static PyType_Spec job_spec = {
    .name = "turboapi._core.GzipJob",
    .basicsize = sizeof(gzip_job),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = job_slots,
};

int ta_filters_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &job_spec, NULL, &ta_server_objects_of(st)->server.gzip_job_type);
}
