/* method.c -- see method.h. */
#include "http/method.h"

static const ta_str names[] = {
    [TA_METHOD_OTHER] = {"", 0},          [TA_METHOD_GET] = {"GET", 3},
    [TA_METHOD_HEAD] = {"HEAD", 4},       [TA_METHOD_POST] = {"POST", 4},
    [TA_METHOD_PUT] = {"PUT", 3},         [TA_METHOD_DELETE] = {"DELETE", 6},
    [TA_METHOD_OPTIONS] = {"OPTIONS", 7}, [TA_METHOD_PATCH] = {"PATCH", 5},
    [TA_METHOD_TRACE] = {"TRACE", 5},     [TA_METHOD_CONNECT] = {"CONNECT", 7},
};

static ta_method check(ta_str name, ta_method candidate)
{
    return ta_str_eq(name, names[candidate]) ? candidate : TA_METHOD_OTHER;
}

ta_method ta_method_of(ta_str name)
{
    switch (name.len) {
    case 3:
        return check(name, name.ptr[0] == 'G' ? TA_METHOD_GET : TA_METHOD_PUT);
    case 4:
        return check(name, name.ptr[0] == 'P' ? TA_METHOD_POST : TA_METHOD_HEAD);
    case 5:
        return check(name, name.ptr[0] == 'P' ? TA_METHOD_PATCH : TA_METHOD_TRACE);
    case 6:
        return check(name, TA_METHOD_DELETE);
    case 7:
        return check(name, name.ptr[0] == 'O' ? TA_METHOD_OPTIONS : TA_METHOD_CONNECT);
    default:
        return TA_METHOD_OTHER;
    }
}
