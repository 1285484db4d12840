/*
 * static_files.c -- Starlette's StaticFiles in C: `_core.StaticFiles`, the target of a mount.
 *
 * Layer: py (L4).  It serves what StaticFiles would serve, and finds out for each request that this
 * has not been changed.  What is rare or slow is left to it: errors, redirects, several ranges,
 * files that can't be opened at once.
 */
#include "py/server/native_int.h"

#include <unistd.h>

#include "http/encoding.h"
#include "http/headers.h"
#include "py/support/attributes.h"
#include "py/support/types.h"

enum { LONG_PATH = 2048 }; /* of a request, from where it is left to Python */

#define INDEX          "index.html"
#define NOT_FOUND      "404.html"
#define LONGEST_SUFFIX ".zst"

/* Of the files beside a file that have it packed. */
static const char *const suffixes[TA_CODINGS] = {
    [TA_CODING_GZIP] = ".gz", [TA_CODING_BR] = ".br", [TA_CODING_ZSTD] = LONGEST_SUFFIX};

typedef struct static_files {
    PyObject_HEAD
    PyObject *app;         /* owned: the StaticFiles */
    PyObject *directories; /* owned list: its all_directories */
    PyObject *items;       /* owned tuple: of that list */
    PyObject *paths;       /* owned tuple of bytes: the same for the system */
    PyObject *guards;      /* owned tuple of (owner, name, value): what must be as it was */
    uint8_t npacked;
    ta_coding packed[TA_CODINGS]; /* the first npacked, by preference: files packed beforehand */
} static_files;

/* -- whether it is as it was ------------------------------------------------------------------ */

static bool is_unchanged(const static_files *files)
{
    if (!ta_attributes_hold(files->guards))
        return false;
    Py_ssize_t n = PyTuple_GET_SIZE(files->items);
    if (PyList_GET_SIZE(files->directories) != n)
        return false;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyList_GetItemRef(files->directories, i);
        if (item == NULL)
            PyErr_Clear();
        Py_XDECREF(item);
        if (item != PyTuple_GET_ITEM(files->items, i))
            return false;
    }
    return true;
}

/* 1, 0, or -1: neither True nor False. */
static int flag(PyObject *obj, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(obj, name);
    if (value == NULL)
        PyErr_Clear();
    int rc = value == Py_True ? 1 : value == Py_False ? 0 : -1;
    Py_XDECREF(value);
    return rc;
}

/* -- paths ------------------------------------------------------------------------------------ */

/* As get_path: without empty components, "." and "..".  False: Python has to. */
static bool normalize(ta_str path, char out[LONG_PATH])
{
    size_t n = 0;
    if (path.len >= LONG_PATH || memchr(path.ptr, '\0', path.len) != NULL)
        return false;
    for (size_t at = 0; at < path.len;) {
        const char *part = path.ptr + at;
        const char *slash = memchr(part, '/', path.len - at);
        size_t len = slash ? (size_t)(slash - part) : path.len - at;
        at += len + 1;
        if (len == 0 || (len == 1 && part[0] == '.'))
            continue;
        if (len == 2 && part[0] == '.' && part[1] == '.') {
            if (n == 0)
                return false;
            while (n > 0 && out[n - 1] != '/')
                n--;
            n -= n > 0; /* the slash */
            continue;
        }
        if (n > 0)
            out[n++] = '/';
        memcpy(out + n, part, len);
        n += len;
    }
    if (n == 0)
        out[n++] = '.';
    out[n] = '\0';
    return out[0] != '\\';
}

/* Where a request is served from. */
typedef struct look {
    ta_file_door door;
    const static_files *files;
    bool follow;
    char real[PATH_MAX];
    const char *rel;  /* of what was looked up last */
    const char *dir;  /* below which it was */
    ta_file file;     /* opened, with TA_FILE_IS */
    ta_coding coding; /* of its content */
} look;

/* As lookup_path. */
static ta_file_found look_up(look *l, const char *rel)
{
    l->rel = rel;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(l->files->paths); i++) {
        const char *dir = PyBytes_AS_STRING(PyTuple_GET_ITEM(l->files->paths, i));
        ta_file_found found =
            ta_file_open_below(&l->door.server->files, dir, rel, l->follow, l->real, &l->file);
        l->dir = dir;
        if (found != TA_FILE_ABSENT)
            return found;
    }
    return TA_FILE_ABSENT;
}

/* The name of the file that was found. */
static ta_str name_of(const look *l)
{
    const char *path = l->real[0] != '\0' ? l->real : l->rel;
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return ta_str_of(name, strlen(name));
}

/* -- packed files beside it ------------------------------------------------------------------- */

static void read_accepted(const ta_exchange *x, ta_accepted *accepted)
{
    ta_accepted_init(accepted);
    for (uint32_t i = 0; i < x->nheaders; i++)
        if (ta_str_eq(x->headers[i].name, TA_STR("accept-encoding")))
            ta_accepted_add(accepted, x->headers[i].value);
}

/* Opens, in the place of the file that was found, the one of those beside it that the client likes
 * best.  False: Python has to. */
static bool choose_packed(look *l)
{
    char rel[LONG_PATH + sizeof INDEX + sizeof LONGEST_SUFFIX], real[PATH_MAX];
    ta_coding left[TA_CODINGS];
    size_t n = l->files->npacked, len = strlen(l->rel);
    ta_accepted accepted;
    ta_file packed;
    read_accepted(l->door.x, &accepted);
    memcpy(left, l->files->packed, sizeof left);
    memcpy(rel, l->rel, len);
    while (n > 0) {
        ta_coding coding = ta_accepted_choose(&accepted, left, n);
        if (coding == TA_CODING_IDENTITY)
            break;
        memcpy(rel + len, suffixes[coding], strlen(suffixes[coding]) + 1);
        ta_file_found found =
            ta_file_open_below(&l->door.server->files, l->dir, rel, l->follow, real, &packed);
        if (found == TA_FILE_ASK)
            return false;
        if (found == TA_FILE_IS && packed.regular) {
            close(l->file.fd);
            l->file = packed;
            l->coding = coding;
            break;
        }
        if (found == TA_FILE_IS)
            close(packed.fd);
        size_t kept = 0;
        for (size_t i = 0; i < n; i++)
            if (left[i] != coding)
                left[kept++] = left[i];
        n = kept;
    }
    return true;
}

enum { LONG_TAG = sizeof((ta_file_stamp *)0)->etag + 8 };

/* The tag of what is sent: another one for each coding, whatever size and time the files have. */
static ta_str tag_of(const look *l, const ta_file_stamp *stamp, char out[LONG_TAG])
{
    ta_str etag = ta_str_of(stamp->etag, sizeof stamp->etag), name = ta_coding_name(l->coding);
    if (l->coding == TA_CODING_IDENTITY)
        return etag;
    memcpy(out, etag.ptr, etag.len - 1);
    out[etag.len - 1] = '-';
    memcpy(out + etag.len, name.ptr, name.len);
    out[etag.len + name.len] = '"';
    return ta_str_of(out, etag.len + name.len + 1);
}

/* What the choice adds to a response. */
static bool add_choice(const look *l, ta_fields *fields, int status)
{
    if (l->files->npacked == 0 || status == 404)
        return true;
    if (l->coding != TA_CODING_IDENTITY && status == 200 &&
        ta_fields_add(fields, TA_STR("content-encoding"), ta_coding_name(l->coding)) != TA_OK)
        return false;
    return ta_fields_add(fields, TA_STR("vary"), TA_STR("Accept-Encoding")) == TA_OK;
}

/* -- 304 -------------------------------------------------------------------------------------- */

static int two_digits(const char *s)
{
    if (s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9')
        return -1;
    return (s[0] - '0') * 10 + (s[1] - '0');
}

/* A date as "Sun, 06 Nov 1994 08:49:37 GMT", as a number that grows with it; -1: another form. */
static int64_t read_date(ta_str text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    if (text.len != 29 || memcmp(text.ptr + 3, ", ", 2) != 0 || text.ptr[7] != ' ' ||
        text.ptr[11] != ' ' || text.ptr[16] != ' ' || text.ptr[19] != ':' || text.ptr[22] != ':' ||
        memcmp(text.ptr + 25, " GMT", 4) != 0)
        return -1;
    int day = two_digits(text.ptr + 5), hour = two_digits(text.ptr + 17);
    int minute = two_digits(text.ptr + 20), second = two_digits(text.ptr + 23);
    int century = two_digits(text.ptr + 12), year = two_digits(text.ptr + 14), month = 0;
    while (month < 12 && memcmp(months + (ptrdiff_t)3 * month, text.ptr + 8, 3) != 0)
        month++;
    if (month == 12 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 59 || century < 10 || year < 0)
        return -1;
    return ((((century * 100LL + year) * 12 + month) * 32 + day) * 24 + hour) * 3600 + minute * 60 +
           second;
}

static ta_str strip(ta_str text)
{
    while (text.len > 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t'))
        text = ta_str_skip(text, 1);
    while (text.len > 0 && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t'))
        text.len--;
    return text;
}

static bool is_visible(ta_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((text.ptr[i] < 0x20 && text.ptr[i] != '\t') || text.ptr[i] == 0x7f)
            return false; /* also what is not ASCII, where char is signed or not */
    return true;
}

/* Returns whether an If-None-Match has the tag. */
static bool has_tag(ta_str list, ta_str etag)
{
    while (true) {
        const char *comma = memchr(list.ptr, ',', list.len);
        ta_str tag = strip(ta_str_of(list.ptr, comma ? (size_t)(comma - list.ptr) : list.len));
        if (tag.len >= 2 && memcmp(tag.ptr, "W/", 2) == 0)
            tag = ta_str_skip(tag, 2);
        if (ta_str_eq(tag, etag))
            return true;
        if (comma == NULL)
            return false;
        list = ta_str_skip(list, (size_t)(comma - list.ptr) + 1);
    }
}

/* As is_not_modified.  1, 0; -1: Python has to read the date. */
static int is_not_modified(const ta_exchange *x, ta_str modified, ta_str etag)
{
    ta_str given;
    if (ta_exchange_header(x, "if-none-match", 13, &given) && given.len > 0) {
        if (!is_visible(given))
            return -1;
        return ta_str_eq(strip(given), TA_STR("*")) || has_tag(given, etag);
    }
    if (TA_LIKELY(!ta_exchange_header(x, "if-modified-since", 17, &given)))
        return 0;
    if (ta_str_eq(given, modified))
        return 1;
    int64_t since = read_date(given), last = read_date(modified);
    return since < 0 || last < 0 ? -1 : since >= last;
}

/* -- answers ---------------------------------------------------------------------------------- */

static ta_static_found answered(ta_file_sent sent)
{
    return sent == TA_FILE_SENT          ? TA_STATIC_SENT
           : sent == TA_FILE_SENT_FAILED ? TA_STATIC_FAILED
                                         : TA_STATIC_ASK;
}

static ta_static_found send_not_modified(const look *l, ta_str etag)
{
    ta_exchange *x = l->door.x;
    ta_fields fields;
    ta_piece piece = {TA_STR(""), NULL, NULL};
    PyObject *awaitable = NULL;
    ta_static_found found = TA_STATIC_ASK;
    ta_fields_init(&fields);
    fields.status = 304;
    if (ta_fields_add(&fields, TA_STR("etag"), etag) == TA_OK && add_choice(l, &fields, 304)) {
        ta_response_head head = ta_fields_head(&fields);
        ta_outcome outcome = x->ops->respond(x, &head, NULL, &piece, &awaitable);
        TA_ASSERT(awaitable == NULL);
        found = outcome == TA_FAILED ? TA_STATIC_FAILED : TA_STATIC_SENT;
    }
    ta_fields_free(&fields);
    return found;
}

/* The file that was found, which is closed.  `status` 404: it stands for one that is not there. */
static ta_static_found send_file(look *l, int status)
{
    const ta_file_door *door = &l->door;
    ta_file_stamp stamp;
    ta_file_range range;
    ta_fields fields;
    ta_static_found found = TA_STATIC_ASK;
    char text[80], tag[LONG_TAG];
    ta_str modified = ta_str_of(stamp.modified, sizeof stamp.modified), etag;
    bool usable = status != 200 || l->files->npacked == 0 || choose_packed(l);
    int fd = l->file.fd;
    ta_fields_init(&fields);
    if (!usable || !ta_file_reply_stamp(door->server, &l->file, &stamp))
        goto done;
    etag = tag_of(l, &stamp, tag);
    int same = status == 200 ? is_not_modified(door->x, modified, etag) : 0;
    if (same > 0)
        found = send_not_modified(l, etag);
    if (same != 0 || !ta_file_reply_range(door->x, status, l->file.size, modified, etag, &range))
        goto done;
    fields.status = range.partial ? 206 : status;
    if (!ta_file_reply_add_type(door->server->st, name_of(l), &fields) ||
        ta_fields_add(&fields, TA_STR("accept-ranges"), TA_STR("bytes")) != TA_OK ||
        ta_fields_add_length(&fields, (uint64_t)range.length) != TA_OK ||
        ta_fields_add(&fields, TA_STR("last-modified"), modified) != TA_OK ||
        ta_fields_add(&fields, TA_STR("etag"), etag) != TA_OK || !add_choice(l, &fields, status))
        goto done;
    if (range.partial) {
        size_t n = ta_file_reply_range_text(text, &range, l->file.size);
        if (ta_fields_add(&fields, TA_STR("content-range"), ta_str_of(text, n)) != TA_OK)
            goto done;
    }
    ta_response_head head = ta_fields_head(&fields);
    found = answered(ta_file_reply_send(door, &head, fd, &range));
    fd = -1;
done:
    if (fd >= 0)
        close(fd);
    ta_fields_free(&fields);
    return found;
}

/* Nothing is there: `html` has a page for that. */
static ta_static_found send_absent(look *l, bool html)
{
    if (!html)
        return TA_STATIC_ABSENT;
    ta_file_found found = look_up(l, NOT_FOUND);
    if (found != TA_FILE_IS)
        return found == TA_FILE_ABSENT ? TA_STATIC_ABSENT : TA_STATIC_ASK;
    if (l->file.regular)
        return send_file(l, 404);
    close(l->file.fd);
    return TA_STATIC_ABSENT;
}

/* As get_response. */
static ta_static_found serve(look *l, char *rel, bool html)
{
    ta_file_found found = look_up(l, rel);
    if (found == TA_FILE_ASK)
        return TA_STATIC_ASK;
    if (found == TA_FILE_ABSENT)
        return send_absent(l, html);
    if (l->file.regular)
        return send_file(l, 200);
    close(l->file.fd);
    if (l->file.directory && html) {
        ta_str path = l->door.x->path;
        memcpy(rel + strlen(rel), "/" INDEX, sizeof INDEX + 1);
        found = look_up(l, rel);
        if (found == TA_FILE_ASK)
            return TA_STATIC_ASK;
        if (found == TA_FILE_IS && l->file.regular && path.ptr[path.len - 1] == '/')
            return send_file(l, 200);
        if (found == TA_FILE_IS)
            close(l->file.fd);
        if (found == TA_FILE_IS && l->file.regular)
            return TA_STATIC_ASK; /* a redirect */
    }
    return send_absent(l, html);
}

static ta_static_found run(const ta_file_door *door, const static_files *files, ta_str path)
{
    const ta_names_state *names = &door->server->st->names;
    char rel[LONG_PATH + sizeof INDEX + 1];
    look l = {.door = *door, .files = files};
    int html = flag(files->app, names->html), follow = flag(files->app, names->follow_symlink);
    if (html < 0 || follow < 0 || flag(files->app, names->config_checked) != 1 ||
        !is_unchanged(files))
        return TA_STATIC_ASK;
    l.follow = follow != 0;
    if (door->x->method_id != TA_METHOD_GET && door->x->method_id != TA_METHOD_HEAD)
        return TA_STATIC_METHOD;
    return path.len > 0 && normalize(path, rel) ? serve(&l, rel, html != 0) : TA_STATIC_ASK;
}

ta_static_found ta_static_files_run(ta_native_exchange *native, PyObject *obj, ta_str path)
{
    ta_file_door door = {native->server, &native->base, native};
    ta_loop_state_enter(native->base.ls);
    ta_static_found found = run(&door, (const static_files *)obj, path);
    ta_loop_state_leave(native->base.ls);
    return found;
}

/* The path below the mount, whose root_path the scope has.  False: it has no such text. */
static bool path_below(ta_state *st, PyObject *scope, const ta_exchange *x, ta_str *path)
{
    PyObject *keep = NULL;
    ta_str root;
    bool found = ta_exchange_scope_text(scope, st->names.root_path, &keep, &root);
    if (found)
        *path = ta_exchange_route_path(x->path, root);
    Py_XDECREF(keep); /* the path is that of the exchange */
    return found;
}

static PyObject *files_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    ta_state *st = ta_state_of(Py_TYPE(self));
    ta_file_door door;
    ta_str path;
    ta_static_found found = TA_STATIC_ASK;
    int rc = ta_file_door_open(st, args, nargs, &door);
    if (rc <= 0)
        return rc < 0 ? NULL : Py_NewRef(Py_None);
    if (path_below(st, args[0], door.x, &path))
        found = run(&door, (const static_files *)self, path);
    return ta_file_door_close(&door, found == TA_STATIC_FAILED);
}

bool ta_static_files_check(ta_state *st, PyObject *obj)
{
    return Py_IS_TYPE(obj, ta_server_objects_of(st)->static_files.type);
}

/* -- the type --------------------------------------------------------------------------------- */

static int files_traverse(PyObject *self, visitproc visit, void *arg)
{
    static_files *files = (static_files *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(files->app);
    Py_VISIT(files->directories);
    Py_VISIT(files->items);
    Py_VISIT(files->paths);
    Py_VISIT(files->guards);
    return 0;
}

static int files_clear(PyObject *self)
{
    static_files *files = (static_files *)self;
    Py_CLEAR(files->app);
    Py_CLEAR(files->directories);
    Py_CLEAR(files->items);
    Py_CLEAR(files->paths);
    Py_CLEAR(files->guards);
    return 0;
}

static void files_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)files_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

/* A new tuple of the paths as bytes, none of them empty. */
static PyObject *encode_paths(PyObject *items)
{
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    PyObject *paths = PyTuple_New(n);
    for (Py_ssize_t i = 0; paths != NULL && i < n; i++) {
        PyObject *path;
        if (!PyUnicode_FSConverter(PyTuple_GET_ITEM(items, i), &path)) {
            Py_CLEAR(paths);
            break;
        }
        PyTuple_SET_ITEM(paths, i, path);
        if (PyBytes_GET_SIZE(path) == 0) {
            PyErr_SetString(PyExc_ValueError, "a directory is an empty path");
            Py_CLEAR(paths);
        }
    }
    return paths;
}

/* The codings of those names, each at most once.  0, or -1 with an exception. */
static int read_packed(static_files *files, PyObject *names)
{
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++) {
        const char *name = PyUnicode_AsUTF8(PyTuple_GET_ITEM(names, i));
        ta_coding coding = name ? ta_coding_of(ta_str_of(name, strlen(name))) : TA_CODINGS;
        bool known = coding < TA_CODINGS && suffixes[coding] != NULL;
        for (size_t k = 0; k < files->npacked; k++)
            known = known && files->packed[k] != coding;
        if (!known) {
            if (name != NULL)
                PyErr_Format(PyExc_ValueError, "packed: not %s, or not again", name);
            return -1;
        }
        files->packed[files->npacked++] = coding;
    }
    return 0;
}

static PyObject *files_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"app", "directories", "guards", "packed", NULL};
    PyObject *app, *directories, *guards, *packed = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!O!|O!:StaticFiles", keywords, &app,
                                     &PyList_Type, &directories, &PyTuple_Type, &guards,
                                     &PyTuple_Type, &packed) ||
        ta_attributes_check(guards) < 0)
        return NULL;
    static_files *files = (static_files *)type->tp_alloc(type, 0);
    if (files == NULL)
        return NULL;
    files->app = Py_NewRef(app);
    files->directories = Py_NewRef(directories);
    files->guards = Py_NewRef(guards);
    files->items = PyList_AsTuple(directories);
    files->paths = files->items ? encode_paths(files->items) : NULL;
    if (files->paths == NULL || read_packed(files, packed) < 0) {
        Py_DECREF(files);
        return NULL;
    }
    return (PyObject *)files;
}

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))files_read, METH_FASTCALL,
     "read($self, scope, receive, send, /)\n--\n\n"
     "Return (status, header pairs, body) of the response, or None where Python has to answer."},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc,
     "StaticFiles(app, directories, guards, packed=())\n--\n\n"
     "A mount of Starlette's StaticFiles `app`, whose all_directories is `directories`,\n"
     "as long as getattr(owner, name) is value for each of the guards.  packed: codings, by\n"
     "preference, in which a file may lie beside itself (.zst, .br, .gz)."},
    {Py_tp_new, files_new},
    {Py_tp_methods, methods},
    {Py_tp_traverse, files_traverse},
    {Py_tp_clear, files_clear},
    {Py_tp_dealloc, files_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.StaticFiles",
    .basicsize = sizeof(static_files),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int ta_static_files_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &spec, "StaticFiles", &ta_server_objects_of(st)->static_files.type);
}
