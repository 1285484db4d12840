/*
 * multipart.h -- bodies of multipart/form-data (RFC 7578) that are all there and as clients write
 * them.
 *
 * Layer: http.  It takes nothing on trust and decides nothing in doubt: for what is not of the
 * usual form (parameters that are escaped or extended, other whitespace, unknown dispositions, a
 * missing end...) it gives TA_EINVAL, and the caller asks a parser that knows all of it.  What it
 * accepts means the same there.
 */
#ifndef TA_HTTP_MULTIPART_H
#define TA_HTTP_MULTIPART_H

#include "base/ta_base.h"

enum { TA_MULTIPART_BOUNDARY_MAX = 70 }; /* RFC 2046, section 5.1.1 */

typedef struct ta_multipart {
    ta_str rest; /* behind the last delimiter */
    bool ended;
    uint32_t delimiter_len;
    char delimiter[TA_MULTIPART_BOUNDARY_MAX + 4]; /* CRLF "--" boundary */
} ta_multipart;

typedef struct ta_multipart_part {
    ta_str name;     /* as sent, within its quotes */
    ta_str filename; /* the same; without a ptr: it is no file */
    ta_str fields;   /* its header section: ta_multipart_field */
    ta_str data;
} ta_multipart_part;

/* The boundary of "multipart/form-data; boundary=...".  False: it is something else. */
TA_MUST_CHECK bool ta_multipart_boundary(ta_str content_type, ta_str *out);

/* Begins with a body; slices below are of it.  TA_OK or TA_EINVAL. */
TA_MUST_CHECK int ta_multipart_begin(ta_multipart *m, ta_str body, ta_str boundary);
/* 1: *out; 0: that was the last part, TA_EINVAL. */
TA_MUST_CHECK int ta_multipart_next(ta_multipart *m, ta_multipart_part *out);
/* Cuts the next field off *fields; false at the end.  The name is as sent. */
bool ta_multipart_field(ta_str *fields, ta_str *name, ta_str *value);

#endif
