#include "http/md5.h"

#include "ta_test.h"

static ta_str sum(char *out, ta_str text)
{
    CHECK(ta_md5_hex(out, text));
    return ta_str_of(out, TA_MD5_HEX);
}

/* RFC 1321, A.5 */
TA_TEST(md5_known)
{
    char out[TA_MD5_HEX];
    CHECK_STR(sum(out, TA_STR("")), "d41d8cd98f00b204e9800998ecf8427e");
    CHECK_STR(sum(out, TA_STR("a")), "0cc175b9c0f1b6a831c399e269772661");
    CHECK_STR(sum(out, TA_STR("message digest")), "f96b697d7cb7938d525a2f31aaf161d0");
}
