/* md5.c -- see md5.h. */
#include "http/md5.h"

#include <openssl/err.h>
#include <openssl/evp.h>

bool ta_md5_hex(char out[TA_MD5_HEX], ta_str text)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_Digest(text.ptr, text.len, sum, &n, EVP_md5(), NULL) != 1 || 2 * n != TA_MD5_HEX) {
        ERR_clear_error();
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        out[2 * i] = digits[sum[i] >> 4];
        out[2 * i + 1] = digits[sum[i] & 15];
    }
    return true;
}
