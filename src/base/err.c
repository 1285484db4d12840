#include "base/err.h"

/* One row a code, so that name and text cannot drift apart. */
static const struct {
    int code;
    const char *name, *text;
} rows[] = {
    {TA_OK, "TA_OK", "success"},
    {TA_AGAIN, "TA_AGAIN", "not ready yet"},
    {TA_ENOMEM, "TA_ENOMEM", "out of memory"},
    {TA_EBAD, "TA_EBAD", "malformed input"},
    {TA_ETOOLARGE, "TA_ETOOLARGE", "a limit was exceeded"},
    {TA_ECLOSED, "TA_ECLOSED", "connection closed"},
    {TA_ETIMEOUT, "TA_ETIMEOUT", "timed out"},
    {TA_ESYS, "TA_ESYS", "a system call failed"},
    {TA_EVERSION, "TA_EVERSION", "unsupported protocol version"},
    {TA_EUNSUPPORTED, "TA_EUNSUPPORTED", "not supported"},
    {TA_EEXPECT, "TA_EEXPECT", "unmet expectation"},
    {TA_EINVAL, "TA_EINVAL", "invalid argument"},
    {TA_ENOTFOUND, "TA_ENOTFOUND", "not found"},
    {TA_EUPCALL, "TA_EUPCALL", "a callback failed"},
};

const char *ta_err_name(int err)
{
    for (size_t i = 0; i < TA_COUNTOF(rows); i++)
        if (rows[i].code == err)
            return rows[i].name;
    return err > 0 ? "TA_OK" : "unknown";
}

const char *ta_err_text(int err)
{
    for (size_t i = 0; i < TA_COUNTOF(rows); i++)
        if (rows[i].code == err)
            return rows[i].text;
    return err > 0 ? "success" : "unknown error";
}
