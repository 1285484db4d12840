/* pack_filter.c -- compresses responses: as Starlette's GZip, or as --compress and
 * CompressMiddleware do.  See filters.h. */
#include "py/server/filters_int.h"

#include "http/headers.h"
#include "http/status.h"
#include "py/support/types.h"

/* -- whether ---------------------------------------------------------------------------- */

/* What str.strip() takes off of Latin-1. */
static bool is_space(char c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == (char)0x85 ||
           c == (char)0xa0;
}

/* A Content-Type without its parameters. */
static ta_str media_of(ta_str value)
{
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

/* The media type of the response, without parameters; empty when there is none. */
static ta_str media_type(const ta_fields *fields)
{
    ta_str value;
    uint32_t i = 0;
    if (!ta_fields_find(fields, TA_STR("content-type"), &i, &value))
        return TA_STR("");
    return media_of(value);
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

bool ta_pack_filter_excludes(const filter *rule, ta_str content_type)
{
    return type_excluded(rule, media_of(content_type));
}

/* Whether `packed` (lower case) names the media type: "text/html", "text" + "/" + "*", or "+json"
 * for what ends in that. */
static bool type_matches(ta_str media, ta_str packed)
{
    if (packed.ptr[0] == '+')
        return media.len > packed.len &&
               ta_str_ieq(ta_str_skip(media, media.len - packed.len), packed);
    if (packed.len > 2 && memcmp(packed.ptr + packed.len - 2, "/*", 2) == 0)
        return media.len >= packed.len && ta_str_ieq(ta_str_of(media.ptr, packed.len - 1),
                                                     ta_str_of(packed.ptr, packed.len - 1));
    return ta_str_ieq(media, packed);
}

static bool type_listed(const filter *rule, ta_str media)
{
    for (Py_ssize_t i = 0; media.len > 0 && i < PyTuple_GET_SIZE(rule->texts); i++) {
        if (type_matches(media, ta_filters_str(PyTuple_GET_ITEM(rule->texts, i))))
            return true;
    }
    return false;
}

/* Whether Cache-Control forbids to change the content (RFC 9111 5.2.2.6). */
static bool no_transform(const ta_fields *head)
{
    ta_str value;
    for (uint32_t i = 0; ta_fields_find(head, TA_STR("cache-control"), &i, &value); i++) {
        if (ta_list_has(value, TA_STR("no-transform")))
            return true;
    }
    return false;
}

/* Whether a response with this head is left alone. */
static bool left_alone(const filter *f, const ta_fields *head)
{
    ta_str value;
    uint32_t i = 0, j = 0;
    if (head->status == 206 || ta_fields_find(head, TA_STR("content-encoding"), &i, &value))
        return true;
    if (!f->chooses)
        return type_excluded(f, media_type(head));
    return !ta_status_has_content(head->status) || !type_listed(f, media_type(head)) ||
           ta_fields_find(head, TA_STR("content-range"), &j, &value) || no_transform(head);
}

/* The coding that the client gets, and its level.  GZip asks as Starlette does. */
static ta_coding choose(const filter *f, const ta_native_exchange *x, int *level, bool *plain)
{
    ta_str value;
    *plain = true;
    *level = f->levels[0];
    if (!f->chooses) {
        bool gzip = ta_exchange_header(&x->base, "accept-encoding", 15, &value) && value.len >= 4 &&
                    memmem(value.ptr, value.len, "gzip", 4) != NULL;
        return gzip ? TA_CODING_GZIP : TA_CODING_IDENTITY;
    }
    ta_accepted accepted;
    ta_accepted_init(&accepted);
    for (uint32_t i = 0; i < x->base.nheaders; i++) {
        if (ta_str_eq(x->base.headers[i].name, TA_STR("accept-encoding")))
            ta_accepted_add(&accepted, x->base.headers[i].value);
    }
    *plain = ta_accepted_weight(&accepted, TA_CODING_IDENTITY) > 0;
    ta_coding coding = ta_accepted_choose(&accepted, f->codings, f->ncodings);
    for (size_t i = 0; i < f->ncodings; i++) {
        if (f->codings[i] == coding)
            *level = f->levels[i];
    }
    return coding;
}

/* Vary has Accept-Encoding from now on.  Starlette's GZip does not look whether it had. */
static int vary_by_encoding(const filter *f, ta_fields *fields)
{
    ta_str value;
    for (uint32_t i = 0; f->chooses && ta_fields_find(fields, TA_STR("vary"), &i, &value); i++) {
        if (ta_list_has(value, TA_STR("accept-encoding")) || ta_list_has(value, TA_STR("*")))
            return 0;
    }
    return ta_filters_add_vary(fields, TA_STR("Accept-Encoding"));
}

/* What is packed anew each time is the same in meaning only: its tag is a weak one, and there are
 * no ranges of it. */
static int weaken(ta_fields *fields)
{
    ta_str value;
    uint32_t i = 0;
    ta_fields_remove(fields, TA_STR("accept-ranges"));
    if (!ta_fields_find(fields, TA_STR("etag"), &i, &value) ||
        (value.len >= 2 && memcmp(value.ptr, "W/", 2) == 0))
        return 0;
    ta_buf weak;
    ta_buf_init(&weak);
    int rc = ta_buf_append(&weak, "W/", 2);
    if (rc == TA_OK)
        rc = ta_buf_append_str(&weak, value);
    rc = rc == TA_OK ? ta_filters_set_field(fields, TA_STR("etag"), ta_buf_str(&weak))
                     : ta_filters_no_memory();
    ta_buf_free(&weak);
    return rc;
}

/* The fields of a compressed response; length: -1 when it is not known. */
static int packed_fields(const filter *f, ta_fields *fields, ta_coding coding, int64_t length)
{
    if (ta_filters_set_field(fields, TA_STR("content-encoding"), ta_coding_name(coding)) < 0 ||
        (f->chooses && weaken(fields) < 0))
        return -1;
    ta_fields_remove(fields, TA_STR("content-length"));
    if (length >= 0 && ta_fields_add_length(fields, (uint64_t)length) != TA_OK)
        return ta_filters_no_memory();
    return 0;
}

/* -- doing it --------------------------------------------------------------------------- */

/* A stream of that kind: the one that the server keeps, or a new one. */
static ta_packer *take_stream(ta_server *server, ta_coding coding, int level)
{
    ta_packer *packer = server->packers[coding];
    if (packer == NULL || !ta_packer_is(packer, coding, level))
        packer = ta_packer_new(coding, level);
    else
        server->packers[coding] = NULL;
    if (packer == NULL)
        PyErr_NoMemory();
    return packer;
}

static void give_stream(ta_server *server, ta_packer *packer)
{
    ta_packer **kept = &server->packers[ta_packer_coding(packer)];
    if (*kept == NULL && server->ls != NULL && ta_packer_reset(packer))
        *kept = packer;
    else
        ta_packer_free(packer);
}

/* Compresses into x->out.packed with x->out.packer. */
static int pack(ta_native_exchange *x, ta_str data, bool more)
{
    TA_ASSERT(x->out.packer != NULL); /* no thread has it */
    ta_buf_clear(&x->out.packed);
    int rc =
        ta_packer_write(x->out.packer, data, more ? TA_PACK_FLUSH : TA_PACK_FINISH, &x->out.packed);
    return rc == TA_OK ? 0 : ta_filters_no_memory();
}

typedef struct pack_job {
    PyObject_HEAD
    ta_packer *packer; /* owned; goes back to the exchange */
    Py_buffer data;    /* owned: view of the piece */
    ta_buf out;        /* owned */
    bool more, has_data;
    atomic_bool called;
    int rc; /* TA_AGAIN: not done yet */
} pack_job;

static PyObject *job_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    pack_job *job = (pack_job *)self;
    if (atomic_exchange(&job->called, true)) {
        PyErr_SetString(PyExc_RuntimeError, "a compression runs once");
        return NULL;
    }
    ta_str data = ta_str_of(job->data.buf, (size_t)job->data.len);
    Py_BEGIN_ALLOW_THREADS
    job->rc =
        ta_packer_write(job->packer, data, job->more ? TA_PACK_FLUSH : TA_PACK_FINISH, &job->out);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static void job_dealloc(PyObject *self)
{
    pack_job *job = (pack_job *)self;
    PyTypeObject *type = Py_TYPE(self);
    ta_packer_free(job->packer);
    ta_buf_free(&job->out);
    if (job->has_data)
        PyBuffer_Release(&job->data);
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject *ta_pack_job_new(ta_state *st, ta_packer **packer, const ta_piece *piece, bool more)
{
    pack_job *job = PyObject_New(pack_job, ta_server_objects_of(st)->server.pack_job_type);
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
    TA_ASSERT(*packer != NULL);
    job->packer = *packer;
    *packer = NULL;
    return (PyObject *)job;
error:
    Py_DECREF(job);
    return NULL;
}

bool ta_pack_job_take(PyObject *object, ta_packer **packer, ta_str *packed)
{
    pack_job *job = (pack_job *)object;
    if (job->rc != TA_OK) {
        PyErr_SetString(PyExc_RuntimeError, "The response could not be compressed.");
        return false;
    }
    TA_ASSERT(job->packer != NULL);
    *packer = job->packer;
    job->packer = NULL;
    *packed = ta_buf_str(&job->out);
    return true;
}

/* The filter that compresses, and its place among those of the application: behind them all if it
 * is the server's, which is not for applications that decide themselves. */
static const filter *packing_of(const ta_native_exchange *native, size_t *at)
{
    const ta_filters *f = native->out.filters, *own = native->server->filters;
    size_t n = f ? f->n : 0;
    for (*at = 0; *at < n; ++*at) {
        if (f->items[*at].kind == FILTER_PACK)
            return &f->items[*at];
    }
    return own != NULL && !native->app->packs ? &own->items[0] : NULL;
}

static size_t count_of(const ta_native_exchange *native)
{
    return native->out.filters ? native->out.filters->n : 0;
}

/* A piece was compressed into `len` bytes.  Goes on with the head if it waits for that.  0 or
 * -1. */
static int piece_packed(ta_native_exchange *native, size_t len, bool more)
{
    if (native->out.packing == TA_PACK_HELD) {
        size_t at;
        const filter *rule = packing_of(native, &at);
        if (packed_fields(rule, &native->out.head, ta_packer_coding(native->out.packer),
                          more ? -1 : (int64_t)len) < 0 ||
            ta_filters_apply(native, at + 1, count_of(native)) < 0)
            return -1;
        ta_response_head_suit(&native->out.head);
    }
    native->out.packing = more ? TA_PACK_STREAM : TA_PACK_NONE;
    if (!more) {
        give_stream(native->server, native->out.packer);
        native->out.packer = NULL;
    }
    return 0;
}

ta_outcome ta_filters_start(ta_native_exchange *native, int status)
{
    size_t at;
    native->out.head.status = status;
    const filter *rule = packing_of(native, &at);
    if (ta_filters_apply(native, 0, at) < 0)
        return TA_FAILED;
    if (rule != NULL && !left_alone(rule, &native->out.head)) {
        native->out.packing = TA_PACK_HELD;
        return TA_WAITS;
    }
    return ta_filters_apply(native, at + 1, count_of(native)) < 0 ? TA_FAILED : TA_DONE;
}

/* Ends the wait of the head for GZip, at `at`; after an error it still waits. */
static int release(ta_native_exchange *x, size_t at)
{
    if (ta_filters_apply(x, at + 1, count_of(x)) < 0)
        return -1;
    x->out.packing = TA_PACK_NONE;
    return 0;
}

/* Whether a body is too short.  Of a stream only its content-length is known, at which Starlette's
 * GZip does not look. */
static bool is_small(const filter *rule, const ta_native_exchange *x, size_t len, bool more,
                     bool plain)
{
    int64_t size = (int64_t)len;
    if (more)
        size = rule->chooses && x->out.head.length >= 0 ? x->out.head.length : INT64_MAX;
    return size < rule->minimum && (plain || size == 0);
}

ta_outcome ta_filters_body(ta_native_exchange *native, ta_piece *piece, bool more, PyObject **job)
{
    size_t at, len = piece->data.len;
    if (native->out.packing == TA_PACK_NONE)
        return TA_DONE;
    const filter *rule = packing_of(native, &at);
    if (native->out.packing == TA_PACK_HELD) {
        bool plain;
        int level;
        ta_coding coding = choose(rule, native, &level, &plain);
        bool small = is_small(rule, native, len, more, plain);
        if ((!small || rule->chooses) && vary_by_encoding(rule, &native->out.head) < 0)
            return TA_FAILED;
        if (small || coding == TA_CODING_IDENTITY)
            return release(native, at) < 0 ? TA_FAILED : TA_DONE;
        native->out.packer = take_stream(native->server, coding, level);
        if (native->out.packer == NULL)
            return TA_FAILED;
    } else if (native->out.packer == NULL) {
        /* Its thread has it: there are two sends at once, or one after a cancelled one. */
        PyErr_SetString(PyExc_RuntimeError, "A piece of the response is still being compressed.");
        return TA_FAILED;
    }
    if ((Py_ssize_t)len >= rule->thread_minimum) {
        *job = ta_pack_job_new(native->st, &native->out.packer, piece, more);
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
    (void)packing_of(x, &at);
    return release(x, at);
}

PyObject *ta_filters_offload(const ta_native_exchange *x, PyObject *job)
{
    size_t at;
    return PyObject_CallOneArg(packing_of(x, &at)->offload, job);
}

int ta_filters_offloaded(ta_native_exchange *native, PyObject *object, ta_piece *piece, bool *more)
{
    pack_job *job = (pack_job *)object;
    if (job->rc != TA_OK || native->out.packer != NULL || native->out.packing == TA_PACK_NONE) {
        PyErr_SetString(PyExc_RuntimeError, "The response could not be compressed.");
        return -1;
    }
    TA_ASSERT(job->packer != NULL && native->out.packing != TA_PACK_NONE);
    native->out.packer = job->packer;
    job->packer = NULL;
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
    ta_packer_free(native->out.packer);
    native->out.packer = NULL;
}

static PyType_Slot job_slots[] = {
    {Py_tp_doc, "Compresses a piece of a response, in a thread."},
    {Py_tp_call, job_call},
    {Py_tp_dealloc, job_dealloc},
    {0, NULL},
};

static PyType_Spec job_spec = {
    .name = "turboapi._core.PackJob",
    .basicsize = sizeof(pack_job),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = job_slots,
};

int ta_pack_filter_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &job_spec, NULL, &ta_server_objects_of(st)->server.pack_job_type);
}
