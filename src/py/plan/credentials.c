/*
 * credentials.c -- security schemes that only read a header: its value without a call of the
 * scheme, and so without a Request.  A request that lacks it is the scheme's to refuse.
 *
 * Layer: py/plan.
 */
#include "py/plan/run_int.h"

#include "http/headers.h"
#include "py/plan/param_text.h"

/* As str.strip() of text in Latin-1. */
static bool is_space(char c)
{
    unsigned char u = (unsigned char)c;
    return (u >= 0x09 && u <= 0x0d) || (u >= 0x1c && u <= 0x20) || u == 0x85 || u == 0xa0;
}

/* What follows "Bearer ", which goes to `scheme` as it is written.  False: the field has another.
 */
static bool bearer(ta_str *value, ta_str *scheme)
{
    static const char expected[] = "bearer";
    size_t n = sizeof expected - 1;
    if (value->len < n || (value->len > n && value->ptr[n] != ' '))
        return false;
    *scheme = ta_str_of(value->ptr, n);
    if (!ta_str_ieq(*scheme, ta_str_of(expected, n)))
        return false;
    *value = ta_str_skip(*value, n);
    while (value->len > 0 && is_space(value->ptr[0]))
        *value = ta_str_skip(*value, 1);
    while (value->len > 0 && is_space(value->ptr[value->len - 1]))
        value->len--;
    return true;
}

/* What HTTPBearer returns: new, or NULL with an exception. */
static PyObject *make_pair(const ta_plan *plan, PyObject *make, ta_str scheme, ta_str value)
{
    PyObject *made = NULL;
    PyObject *fields = PyDict_New();
    PyObject *first = ta_param_decode(scheme, ENC_LATIN1);
    PyObject *second = ta_param_decode(value, ENC_LATIN1);
    if (fields != NULL && first != NULL && second != NULL &&
        PyDict_SetItem(fields, plan->st->names.scheme, first) == 0 &&
        PyDict_SetItem(fields, plan->st->names.credentials, second) == 0)
        made = PyObject_CallOneArg(make, fields);
    Py_XDECREF(fields);
    Py_XDECREF(first);
    Py_XDECREF(second);
    return made;
}

int ta_credentials_take(ta_plan_run *run, const ta_node *node, PyObject **out)
{
    ta_str value, scheme;
    if (run->x->custom_request)
        return 0;
    PyObject *call =
        PyObject_GetAttr((PyObject *)Py_TYPE(node->call), run->plan->st->names.dunder_call);
    Py_XDECREF(call); /* the type has it */
    if (call == NULL)
        return -1;
    if (call != node->credential_call)
        return 0;
    PyObject *name = node->credential;
    if (!ta_exchange_header(run->x, PyBytes_AS_STRING(name), (size_t)PyBytes_GET_SIZE(name),
                            &value) ||
        value.len == 0 || (node->is_bearer && !bearer(&value, &scheme)))
        return 0;
    if (node->credential_make == NULL)
        *out = ta_param_decode(value, ENC_LATIN1);
    else if (value.len == 0)
        return 0; /* HTTPBearer refuses a scheme without credentials */
    else
        *out = make_pair(run->plan, node->credential_make, scheme, value);
    return *out ? 1 : -1;
}
