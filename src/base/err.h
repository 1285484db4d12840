/* err.h -- texts of ta_err.  Layer: base. */
#ifndef TA_BASE_ERR_H
#define TA_BASE_ERR_H

#include "base/ta_base.h"

/* Returns a static string, such as "malformed input".  Any int is allowed. */
const char *ta_err_text(int err);

#endif
