/* h2/none.c -- in place of the other files of the folder where nghttp2 is missing. */
#include "http/h2/conn.h"

const char *ta_h2_version(void)
{
    return NULL;
}

int ta_h2_take(ta_http_server *server, ta_conn *net, void (*free_carrier)(void *arg), void *carrier)
{
    return TA_EUNSUPPORTED;
}
