/* filters.c -- what CORS, TrustedHost and HTTPSRedirect do to requests and responses.  See
 * filters.h. pack_filter.c does what compresses. */
#include "py/server/filters_int.h"

#include "http/headers.h"

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

bool ta_filters_host_allowed(const filter *rule, ta_str host)
{
    if (!plain_host(&host))
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
            if (!ta_exchange_header(&native->base, "host", 4, &value) ||
                !ta_filters_host_allowed(&filters->items[i], value))
                return false;
            break;
        case FILTER_HTTPS:
            if (!is_secure(native))
                return false;
            break;
        case FILTER_PACK:
        case FILTER_SESSION:
            break;
        }
    }
    return true;
}

/* -- fields ----------------------------------------------------------------------------------- */

int ta_filters_no_memory(void)
{
    PyErr_NoMemory();
    return -1;
}

/* The only field of that name from now on. */
int ta_filters_set_field(ta_fields *fields, ta_str name, ta_str value)
{
    return ta_fields_set(fields, name, value) == TA_OK ? 0 : ta_filters_no_memory();
}

/* One Vary field of all that the response has, and `what`. */
int ta_filters_add_vary(ta_fields *fields, ta_str what)
{
    ta_str value, name = TA_STR("vary");
    uint32_t i = 0;
    if (!ta_fields_find(fields, name, &i, &value))
        return ta_filters_set_field(fields, name, what);
    ta_buf all;
    ta_buf_init(&all);
    int rc = 0;
    do {
        rc |= ta_buf_append_str(&all, value);
        rc |= ta_buf_append(&all, ", ", 2);
        i++;
    } while (ta_fields_find(fields, name, &i, &value));
    rc |= ta_buf_append_str(&all, what);
    rc = rc ? ta_filters_no_memory() : ta_filters_set_field(fields, name, ta_buf_str(&all));
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

int ta_filters_names_origin(const filter *rule, ta_str origin)
{
    return rule->origins ? origin_allowed(rule, origin) : rule->credentials;
}

static int cors_apply(const filter *rule, ta_native_exchange *native)
{
    ta_fields *fields = &native->out.head;
    ta_str origin;
    if (ta_exchange_header(&native->base, "origin", 6, &origin)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(rule->fields); i++) {
            PyObject *pair = PyTuple_GET_ITEM(rule->fields, i);
            if (ta_filters_set_field(fields, ta_filters_str(PyTuple_GET_ITEM(pair, 0)),
                                     ta_filters_str(PyTuple_GET_ITEM(pair, 1))) < 0)
                return -1;
        }
        int named = ta_filters_names_origin(rule, origin);
        if (named < 0 || (named && ta_filters_set_field(
                                       fields, TA_STR("access-control-allow-origin"), origin) < 0))
            return -1;
    }
    return ta_filters_add_vary(fields, TA_STR("Origin"));
}

/* -- all of them ---------------------------------------------------------------------------- */

/* The filters from `from` to the one before `to`. */
int ta_filters_apply(ta_native_exchange *native, size_t from, size_t to)
{
    TA_ASSERT(from >= to || native->out.filters != NULL);
    for (size_t i = from; i < to; i++) {
        const filter *rule = &native->out.filters->items[i];
        if (rule->kind == FILTER_CORS && cors_apply(rule, native) < 0)
            return -1;
        if (rule->kind == FILTER_SESSION && ta_session_filter_apply(rule, native) < 0)
            return -1;
    }
    return 0;
}
