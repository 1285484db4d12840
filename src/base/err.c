#include "base/err.h"

static const struct {
    int code;
    const char *text;
} rows[] = {
    {TA_OK, "success"},
    {TA_AGAIN, "not ready yet"},
    {TA_ENOMEM, "out of memory"},
    {TA_EBAD, "malformed input"},
    {TA_ETOOLARGE, "a limit was exceeded"},
    {TA_ECLOSED, "connection closed"},
    {TA_ETIMEOUT, "timed out"},
    {TA_ESYS, "a system call failed"},
    {TA_EVERSION, "unsupported protocol version"},
    {TA_EUNSUPPORTED, "not supported"},
    {TA_EEXPECT, "unmet expectation"},
    {TA_EINVAL, "invalid argument"},
    {TA_ENOTFOUND, "not found"},
    {TA_EUPCALL, "a callback failed"},
};

const char *ta_err_text(int err)
{
    for (size_t i = 0; i < TA_COUNTOF(rows); i++)
        if (rows[i].code == err)
            return rows[i].text;
    return err > 0 ? "success" : "unknown error";
}
