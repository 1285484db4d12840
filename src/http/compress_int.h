/* compress_int.h -- what a coding is to compress.c.  Private to compress*.c. */
#ifndef TA_HTTP_COMPRESS_INT_H
#define TA_HTTP_COMPRESS_INT_H

#include "http/compress.h"

typedef struct ta_packer_ops {
    void (*version)(char out[TA_PACKER_VERSION]);
    int lowest, highest; /* levels */
    /* NULL: out of memory. */
    ta_packer *(*make)(int level);
    void (*destroy)(ta_packer *packer);
    bool (*reset)(ta_packer *packer);
    /* TA_OK, or an error after which the stream is of no use. */
    int (*write)(ta_packer *packer, ta_str data, ta_pack_end end, ta_buf *out);
} ta_packer_ops;

/* Each coding embeds it. */
struct ta_packer {
    const ta_packer_ops *ops; /* borrowed: static */
    ta_coding coding;
    int level;
    bool finished;
};

enum {
    TA_PACK_STEP_MIN = 1024, /* room given to a library at a time */
    TA_PACK_STEP_MAX = 65536
};

/* Room for what `left` bytes of input may become. */
static inline size_t ta_pack_room(size_t left)
{
    return TA_MIN(TA_MAX(left / 2, (size_t)TA_PACK_STEP_MIN), (size_t)TA_PACK_STEP_MAX);
}

extern const ta_packer_ops ta_packer_gzip;
#ifdef TA_HAVE_BR
extern const ta_packer_ops ta_packer_br;
#endif
#ifdef TA_HAVE_ZSTD
extern const ta_packer_ops ta_packer_zstd;
#endif

#endif
