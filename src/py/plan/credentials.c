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

/* What follows "Bearer ".  False: that is not what the field has. */
static bool bearer(ta_str *value)
{
    static const char scheme[] = "bearer";
    size_t n = sizeof scheme - 1;
    if (value->len < n || (value->len > n && value->ptr[n] != ' ') ||
        !ta_str_ieq(ta_str_of(value->ptr, n), ta_str_of(scheme, n)))
        return false;
    *value = ta_str_skip(*value, n);
    while (value->len > 0 && is_space(value->ptr[0]))
        *value = ta_str_skip(*value, 1);
    while (value->len > 0 && is_space(value->ptr[value->len - 1]))
        value->len--;
    return true;
}

int ta_credentials_take(ta_plan_run *run, const ta_node *node, PyObject **out)
{
    ta_str value;
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
        value.len == 0 || (node->is_bearer && !bearer(&value)))
        return 0;
    *out = ta_param_decode(value, ENC_LATIN1);
    return *out ? 1 : -1;
}
