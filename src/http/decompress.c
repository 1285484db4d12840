/* decompress.c -- the codings that this build can unpack.  See decompress.h. */
#include "http/decompress.h"

static const ta_unpacker_ops *ops_of(ta_coding coding)
{
    switch (coding) {
#ifdef TA_HAVE_BR
    case TA_CODING_BR:
        return &ta_unpacker_br;
#endif
#ifdef TA_HAVE_ZSTD
    case TA_CODING_ZSTD:
        return &ta_unpacker_zstd;
#endif
    default:
        return NULL;
    }
}

bool ta_unpacker_has(ta_coding coding)
{
    return ops_of(coding) != NULL;
}

ta_unpacker *ta_unpacker_new(ta_coding coding)
{
    const ta_unpacker_ops *ops = ops_of(coding);
    ta_unpacker *unpacker = ops ? ops->make() : NULL;
    if (unpacker != NULL)
        unpacker->ops = ops;
    return unpacker;
}

void ta_unpacker_free(ta_unpacker *unpacker)
{
    if (unpacker != NULL)
        unpacker->ops->destroy(unpacker);
}

int ta_unpacker_read(ta_unpacker *unpacker, ta_str *data, char *out, size_t room, size_t *len)
{
    TA_ASSERT(room > 0);
    return unpacker->ops->read(unpacker, data, out, room, len);
}
