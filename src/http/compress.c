/* compress.c -- the codings that this build has.  See compress.h. */
#include "http/compress_int.h"

static const ta_packer_ops *ops_of(ta_coding coding)
{
    switch (coding) {
    case TA_CODING_GZIP:
        return &ta_packer_gzip;
#ifdef TA_HAVE_BR
    case TA_CODING_BR:
        return &ta_packer_br;
#endif
#ifdef TA_HAVE_ZSTD
    case TA_CODING_ZSTD:
        return &ta_packer_zstd;
#endif
    default:
        return NULL;
    }
}

bool ta_packer_levels(ta_coding coding, int *lowest, int *highest)
{
    const ta_packer_ops *ops = ops_of(coding);
    if (ops == NULL)
        return false;
    *lowest = ops->lowest;
    *highest = ops->highest;
    return true;
}

void ta_packer_version(ta_coding coding, char out[TA_PACKER_VERSION])
{
    const ta_packer_ops *ops = ops_of(coding);
    TA_ASSERT(ops != NULL);
    ops->version(out);
}

ta_packer *ta_packer_new(ta_coding coding, int level)
{
    const ta_packer_ops *ops = ops_of(coding);
    if (ops == NULL || level < ops->lowest || level > ops->highest)
        return NULL;
    ta_packer *packer = ops->make(level);
    if (packer != NULL) {
        packer->ops = ops;
        packer->coding = coding;
        packer->level = level;
    }
    return packer;
}

void ta_packer_free(ta_packer *packer)
{
    if (packer != NULL)
        packer->ops->destroy(packer);
}

ta_coding ta_packer_coding(const ta_packer *packer)
{
    return packer->coding;
}

bool ta_packer_is(const ta_packer *packer, ta_coding coding, int level)
{
    return packer->coding == coding && packer->level == level;
}

bool ta_packer_reset(ta_packer *packer)
{
    packer->finished = false;
    return packer->ops->reset(packer);
}

int ta_packer_write(ta_packer *packer, ta_str data, ta_pack_end end, ta_buf *out)
{
    if (packer->finished)
        return TA_EINVAL;
    int rc = packer->ops->write(packer, data, end, out);
    packer->finished = rc != TA_OK || end == TA_PACK_FINISH;
    return rc;
}
