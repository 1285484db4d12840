#include "base/md5.h"

#include "ta_test.h"

#include <openssl/evp.h>

static ta_str sum(char *out, ta_str text)
{
    ta_md5_hex(out, text);
    return ta_str_of(out, TA_MD5_HEX);
}

TA_TEST(md5_known)
{
    char out[TA_MD5_HEX];
    CHECK_STR(sum(out, TA_STR("")), "d41d8cd98f00b204e9800998ecf8427e");
    CHECK_STR(sum(out, TA_STR("a")), "0cc175b9c0f1b6a831c399e269772661");
    CHECK_STR(sum(out, TA_STR("message digest")), "f96b697d7cb7938d525a2f31aaf161d0");
}

/* Against OpenSSL, over all lengths of the last block. */
TA_TEST(md5_equals_openssl)
{
    char text[300], out[TA_MD5_HEX];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 37 + 11);
    for (size_t len = 0; len <= sizeof text; len++) {
        unsigned char theirs[EVP_MAX_MD_SIZE];
        unsigned n;
        CHECK(EVP_Digest(text, len, theirs, &n, EVP_md5(), NULL) == 1 && n == 16);
        ta_str ours = sum(out, ta_str_of(text, len));
        for (unsigned i = 0; i < n; i++) {
            char hex[3];
            snprintf(hex, sizeof hex, "%02x", theirs[i]);
            CHECK(memcmp(ours.ptr + (size_t)2 * i, hex, 2) == 0);
        }
    }
}
