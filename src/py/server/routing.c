/*
 * routing.c -- what runs without the ASGI application: the plan of a route, below mounts too, and
 * what the routers answer themselves (404, 405, redirects for a slash).
 *
 * Layer: py (L4).  The rules are Starlette's Router's and Mount's.  A mounted application has an
 * App of its own, whose middleware and handlers of errors include those of the applications round
 * it
 * (_compile/native_app.py).  In any doubt the ASGI application of the outermost one decides.
 */
#include "py/server/native_int.h"
#include "py/server/recorder.h"

#include "http/headers.h"
#include "py/plan/plan.h"
#include "py/plan/router.h"

enum { MAX_MOUNTS = 16, MAX_ALLOW = 512, MAX_LOCATION = 4096 };

#define NOT_FOUND   "{\"detail\":\"Not Found\"}"
#define NOT_ALLOWED "{\"detail\":\"Method Not Allowed\"}"

/* Where a request has come to on its way through the mounts. */
typedef struct way {
    const ta_native_exchange *x;
    ta_app *app;      /* borrowed: from x->app, or the router of the one before */
    ta_str root;      /* root_path of the scope there */
    ta_str path;      /* what the routers there match */
    ta_str app_root;  /* root_path before the first mount */
    PyObject *params; /* owned: path parameters of the mounts, NULL: none */
    bool mounted;
    ta_match match;
} way;

static void begin(way *w, const ta_native_exchange *native)
{
    w->x = native;
    w->app = native->app;
    w->root = native->server->root;
    if (w->app->root_len > 0)
        w->root = ta_str_of(w->app->root, w->app->root_len);
    w->path = ta_exchange_route_path(native->base.path, w->root);
    w->app_root = w->root;
    w->params = NULL;
    w->mounted = false;
}

/* The router's word, after the hosts were asked: not ASK but for what only Python can ask. */
static ta_route_found find(const way *w, ta_str path, ta_match *out)
{
    const ta_exchange *base = &w->x->base;
    uint32_t start = 0, partial = TA_ROUTE_NONE;
    for (;;) {
        ta_route_found found =
            ta_router_find(w->app->router, base->method_id, base->method, path, start, out);
        if (TA_LIKELY(start == 0 && found != TA_FOUND_ASK) || found == TA_FOUND_GAVE_UP)
            return found;
        if (partial == TA_ROUTE_NONE)
            partial = out->partial;
        out->partial = partial;
        if (found == TA_FOUND_NONE && partial != TA_ROUTE_NONE)
            return TA_FOUND_PARTIAL;
        if (found != TA_FOUND_ASK || ta_loop_state_may_queue(base->ls))
            return found;
        ta_str host;
        bool has_host = ta_exchange_header(base, "host", 4, &host);
        ta_loop_state_enter(base->ls);
        int rc = ta_router_ask_host(w->app->router, out->index, has_host ? &host : NULL);
        ta_loop_state_leave(base->ls);
        if (rc != 0)
            return TA_FOUND_ASK;
        start = out->index + 1;
    }
}

/* What is below the mount that was found, without the slash before it.  False: Python decides. */
static bool is_below_mount(const way *w, ta_str *rest)
{
    *rest = w->match.values[w->match.nparams - 1];
    /* A final line feed shifts what Starlette takes for the mount's part. */
    if (rest->ptr + rest->len != w->path.ptr + w->path.len || rest->ptr == w->path.ptr ||
        rest->ptr[-1] != '/')
        return false;
    /* A root_path that the path does not begin with makes Starlette lose its way. */
    return w->path.ptr == w->x->base.path.ptr + w->root.len;
}

/* Goes into the application of the mount that was found.  False: Python has to. */
static bool enter_mount(way *w, ta_app *app)
{
    const ta_match *m = &w->match;
    ta_str rest;
    if (!is_below_mount(w, &rest))
        return false;
    if (m->nparams > 1) {
        PyObject *params = ta_router_path_params(w->app->router, m);
        if (params == NULL || (w->params != NULL && PyDict_Update(w->params, params) < 0)) {
            Py_XDECREF(params);
            PyErr_Clear();
            return false;
        }
        if (w->params != NULL)
            Py_DECREF(params);
        else
            w->params = params;
    }
    w->root = ta_str_of(w->x->base.path.ptr, (size_t)(rest.ptr - 1 - w->x->base.path.ptr));
    w->path = ta_str_of(rest.ptr - 1, rest.len + 1);
    w->app = app;
    w->mounted = true;
    return true;
}

/* -- answers ---------------------------------------------------------------------------------- */

static ta_outcome answer(ta_native_exchange *native, const way *w, const ta_response_head *head,
                         ta_str body, PyObject **awaitable)
{
    ta_loop_state *ls = native->base.ls;
    ta_piece piece = {body, NULL, NULL};
    native->out.filters = w->app->filters;
    ta_loop_state_enter(ls);
    ta_outcome outcome = native->base.ops->respond(&native->base, head, NULL, &piece, awaitable);
    ta_loop_state_leave(ls);
    return outcome;
}

/* The same with fields that are the answer's own; takes them. */
static ta_outcome answer_with(ta_native_exchange *x, const way *w, ta_fields *fields, ta_str body,
                              PyObject **awaitable)
{
    ta_response_head head = ta_fields_head(fields);
    ta_outcome outcome = answer(x, w, &head, body, awaitable);
    ta_fields_free(fields);
    return outcome;
}

static bool answer_not_allowed(ta_native_exchange *native, const way *w, ta_str allow,
                               PyObject **awaitable, ta_outcome *outcome)
{
    ta_fields fields;
    ta_fields_init(&fields);
    fields.status = 405;
    if (ta_fields_add(&fields, TA_STR("allow"), allow) != TA_OK ||
        ta_fields_add_length(&fields, sizeof NOT_ALLOWED - 1) != TA_OK ||
        ta_fields_add(&fields, TA_STR("content-type"), TA_STR("application/json")) != TA_OK) {
        ta_fields_free(&fields);
        return false;
    }
    *outcome = answer_with(native, w, &fields, TA_STR(NOT_ALLOWED), awaitable);
    return true;
}

static bool refuse_method(ta_native_exchange *native, const way *w, PyObject **awaitable,
                          ta_outcome *outcome)
{
    ta_str allow;
    return w->app->not_allowed && ta_router_allow(w->app->router, w->match.partial, &allow) &&
           allow.len <= MAX_ALLOW && answer_not_allowed(native, w, allow, awaitable, outcome);
}

static bool answer_not_found(ta_native_exchange *native, const way *w, PyObject **awaitable,
                             ta_outcome *outcome)
{
    static const ta_field fields[] = {
        TA_FIELD_FIRST("content-length", "22"),
        TA_FIELD_AT(sizeof "content-length: 22\r\n" - 1, "content-type", "application/json"),
    };
    ta_response_head head = {
        .status = 404,
        .fields = fields,
        .nfields = TA_COUNTOF(fields),
        .text = TA_STR("content-length: 22\r\ncontent-type: application/json\r\n"),
        .length = sizeof NOT_FOUND - 1,
    };
    *outcome = answer(native, w, &head, TA_STR(NOT_FOUND), awaitable);
    return true;
}

_Static_assert(sizeof NOT_FOUND - 1 == 22, "the content-length above");

static char *put_text(char *out, ta_str text)
{
    memcpy(out, text.ptr, text.len);
    return out + text.len;
}

/* What urllib.parse.quote leaves as it is, with RedirectResponse's `safe`. */
static bool is_safe(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("_.-~:/%#?=@[]!$&'()*+,;", c) != NULL);
}

/* Quotes; `path`: by URL's own rules first.  NULL: no room before `end`. */
static char *put_quoted(char *out, const char *end, ta_str text, bool path)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (end - out < 3)
            return NULL;
        if (is_safe(c) && !(path && (c == '?' || c == '#'))) {
            *out++ = (char)c;
        } else {
            *out++ = '%';
            *out++ = hex[c >> 4];
            *out++ = hex[c & 15];
        }
    }
    return out;
}

/* "name" or "name:port" as it may stand in a URL: of the usual characters, with a port that is one.
 */
static bool host_is_plain(ta_str host)
{
    size_t n = 0;
    while (n < host.len && host.ptr[n] != ':') {
        char c = ta_ascii_lower(host.ptr[n]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_'))
            return false;
        n++;
    }
    if (n == 0 || n > 255)
        return false;
    if (n == host.len)
        return true;
    unsigned long port = 0;
    if (host.len - n - 1 < 1 || host.len - n - 1 > 5)
        return false;
    for (size_t i = n + 1; i < host.len; i++) {
        if (host.ptr[i] < '0' || host.ptr[i] > '9')
            return false;
        port = port * 10 + (unsigned long)(host.ptr[i] - '0');
    }
    return port <= 65535;
}

/* The URL of a redirect to `path`.  False: Python has to make it. */
static bool redirect_url(const ta_native_exchange *native, ta_str path, char *url, size_t size,
                         size_t *len)
{
    ta_str host, query = native->base.query, value;
    char *end = url + size;
    if (native->asgi.watch != NULL || !ta_exchange_header(&native->base, "host", 4, &host) ||
        !host_is_plain(host) || path.len == 0 || path.ptr[0] != '/')
        return false;
    if (native->server->proxy != NULL &&
        ta_exchange_header(&native->base, "x-forwarded-proto", 17, &value))
        return false;
    for (size_t i = 0; i < query.len; i++)
        if ((unsigned char)query.ptr[i] >= 0x80)
            return false; /* it may be no UTF-8, which URL does not forgive */
    char *p = put_text(url, native->in.secure ? TA_STR("https://") : TA_STR("http://"));
    p = put_text(p, host);
    p = put_quoted(p, end, path, true);
    if (p != NULL && query.len > 0 && p < end) {
        *p++ = '?';
        p = put_quoted(p, end, query, false);
    }
    if (p == NULL)
        return false;
    *len = (size_t)(p - url);
    return true;
}

/* -- static files ----------------------------------------------------------------------------- */

/* What StaticFiles of the mount that was found serves.  False: Python has to. */
static bool run_static(ta_native_exchange *native, const way *w, PyObject *files,
                       PyObject **awaitable, ta_outcome *outcome)
{
    ta_str rest;
    if (!w->app->pathsend || !is_below_mount(w, &rest))
        return false;
    native->out.filters = w->app->filters;
    switch (ta_static_files_run(native, files, ta_str_of(rest.ptr - 1, rest.len + 1))) {
    case TA_STATIC_SENT:
        *outcome = TA_DONE;
        return true;
    case TA_STATIC_FAILED:
        *outcome = TA_FAILED;
        return true;
    case TA_STATIC_ABSENT:
        return w->app->not_found && answer_not_found(native, w, awaitable, outcome);
    case TA_STATIC_METHOD:
        return w->app->not_allowed &&
               answer_not_allowed(native, w, TA_STR("GET, HEAD"), awaitable, outcome);
    case TA_STATIC_ASK:
        break;
    }
    native->out.filters = NULL; /* the application has the middleware itself */
    return false;
}

/* Whether a route wants that path, without its root_path.  1, 0; -1: Python decides. */
static int is_wanted(const way *w, ta_str path)
{
    ta_match match;
    switch (find(w, ta_exchange_route_path(path, w->root), &match)) {
    case TA_FOUND_NONE:
        return 0;
    case TA_FOUND_PARTIAL:
    case TA_FOUND_FULL:
        return 1;
    case TA_FOUND_ASK:
    case TA_FOUND_GAVE_UP:
        break;
    }
    return -1;
}

/* 1: redirected, *outcome is set; 0: no route wants the other path; -1: Python decides. */
static int redirect_slash(ta_native_exchange *native, const way *w, PyObject **awaitable,
                          ta_outcome *outcome)
{
    char url[MAX_LOCATION], small[MAX_LOCATION / 4];
    ta_str path = native->base.path;
    char *copy = small;
    size_t len;
    if (w->path.len == 1 && w->path.ptr[0] == '/')
        return 0;
    if (w->path.len > 0 && w->path.ptr[w->path.len - 1] == '/') {
        while (path.len > 0 && path.ptr[path.len - 1] == '/')
            path.len--;
    } else {
        if (path.len + 1 > sizeof small && (copy = PyMem_Malloc(path.len + 1)) == NULL)
            return -1;
        memcpy(copy, path.ptr, path.len);
        copy[path.len] = '/';
        path = ta_str_of(copy, path.len + 1);
    }
    int wanted = is_wanted(w, path);
    ta_fields fields;
    ta_fields_init(&fields);
    fields.status = 307;
    if (wanted == 1 && (!redirect_url(native, path, url, sizeof url, &len) ||
                        ta_fields_add_length(&fields, 0) != TA_OK ||
                        ta_fields_add(&fields, TA_STR("location"), ta_str_of(url, len)) != TA_OK))
        wanted = -1;
    if (wanted == 1)
        *outcome = answer_with(native, w, &fields, ta_str_of("", 0), awaitable);
    else
        ta_fields_free(&fields);
    if (copy != small)
        PyMem_Free(copy);
    return wanted;
}

/* Nothing matches. */
static bool refuse_path(ta_native_exchange *native, const way *w, PyObject **awaitable,
                        ta_outcome *outcome)
{
    if (w->app->redirect_slashes) {
        int redirected = redirect_slash(native, w, awaitable, outcome);
        if (redirected != 0)
            return redirected > 0;
    }
    return w->app->not_found && answer_not_found(native, w, awaitable, outcome);
}

/* -- plans ------------------------------------------------------------------------------------ */

/* The exchange is that of the matched entry from now on.  -1 with an exception. */
static int settle(ta_native_exchange *native, way *w)
{
    ta_exchange *base = &native->base;
    PyObject *router = w->app->router;
    TA_ASSERT(native->in.place == TA_PLACE_NONE && w->match.nparams <= TA_EXCHANGE_MAX_PARAMS);
    TA_ASSERT(base->path_params == NULL);
    if (w->mounted) {
        native->in.root_len = (uint32_t)w->root.len;
        native->in.app_root_len = (uint32_t)w->app_root.len;
        ta_native_exchange_use_app(native, w->app);
    }
    native->out.filters = native->app->filters;
    native->in.place = w->mounted ? TA_PLACE_MOUNTED : TA_PLACE_ROUTE;
    native->in.entry = w->match.index;
    base->nparams = w->match.nparams;
    for (uint32_t i = 0; i < w->match.nparams; i++)
        base->param_values[i] = w->match.values[i];
    if (TA_LIKELY(w->params == NULL))
        return 0;
    PyObject *own = ta_router_path_params(router, &w->match);
    if (own == NULL || PyDict_Update(w->params, own) < 0) {
        Py_XDECREF(own);
        return -1;
    }
    Py_DECREF(own);
    base->path_params = w->params;
    w->params = NULL;
    return 0;
}

static ta_outcome run_plan(ta_native_exchange *native, way *w, PyObject *plan, PyObject **run)
{
    ta_loop_state *ls = native->base.ls;
    if (settle(native, w) < 0)
        return TA_FAILED;
    ta_loop_state_enter(ls);
    ls->direct = true;
    ta_outcome outcome = ta_plan_run_native(native->st, plan, &native->base, run);
    ls->direct = false;
    ta_loop_state_leave(ls);
    return outcome;
}

static bool is_app(const ta_native_exchange *x, PyObject *target)
{
    return Py_IS_TYPE(target, ta_server_objects_of(x->st)->server.app_type);
}

static bool needs_task(const ta_native_exchange *x, PyObject *target)
{
    return ta_plan_check(x->st, target) && ta_plan_needs_task(target, &x->base);
}

bool ta_routing_run(ta_native_exchange *native, PyObject **run, ta_outcome *outcome)
{
    way w;
    bool taken = false;
    begin(&w, native);
    ta_route_found found = find(&w, w.path, &w.match);
    PyObject *target = NULL;
    if (ta_loop_state_may_queue(native->base.ls) &&
        (found != TA_FOUND_FULL ||
         !needs_task(native, ta_router_target(w.app->router, w.match.index))))
        goto done;
    for (unsigned depth = 0; found == TA_FOUND_FULL; depth++) {
        target = ta_router_target(w.app->router, w.match.index);
        if (TA_LIKELY(!is_app(native, target)))
            break;
        if (depth == MAX_MOUNTS || !enter_mount(&w, (ta_app *)target))
            goto done;
        found = find(&w, w.path, &w.match);
    }
    if (TA_LIKELY(found == TA_FOUND_FULL && native->req != NULL)) {
        native->req->notes.routed_by = w.app;
        native->req->notes.entry = w.match.index;
        if (TA_UNLIKELY(native->server->recorder != NULL))
            ta_recorder_routed(native->server->recorder, native);
    }
    bool files = found == TA_FOUND_FULL && ta_static_files_check(native->st, target);
    if (found == TA_FOUND_FULL && !files && !ta_plan_check(native->st, target))
        goto done;
    if (found == TA_FOUND_ASK || found == TA_FOUND_GAVE_UP)
        goto done;
    if (w.app->filters != NULL && !ta_filters_admit(w.app->filters, native))
        goto done;
    if (TA_UNLIKELY(files)) {
        taken = run_static(native, &w, target, run, outcome);
    } else if (TA_LIKELY(found == TA_FOUND_FULL)) {
        taken = true;
        *outcome = run_plan(native, &w, target, run);
    } else if (found == TA_FOUND_PARTIAL) {
        taken = refuse_method(native, &w, run, outcome);
    } else {
        taken = refuse_path(native, &w, run, outcome);
    }
done:
    Py_XDECREF(w.params);
    return taken;
}
