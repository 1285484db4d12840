/*
 * encoding.h -- content codings, and what a client says it accepts of them (RFC 9110 12.5.3).
 *
 * Layer: http.
 */
#ifndef TA_HTTP_ENCODING_H
#define TA_HTTP_ENCODING_H

#include "base/ta_base.h"

typedef enum ta_coding {
    TA_CODING_IDENTITY,
    TA_CODING_GZIP,
    TA_CODING_BR,
    TA_CODING_ZSTD,
    TA_CODINGS /* how many there are */
} ta_coding;

/* As a field has it. */
ta_str ta_coding_name(ta_coding coding);
/* The coding of that name, in any case; "x-gzip" is gzip.  TA_CODINGS: another. */
ta_coding ta_coding_of(ta_str name);

/* Weights in thousandths; -1: not named. */
typedef struct ta_accepted {
    int16_t weight[TA_CODINGS];
    int16_t others; /* of "*" */
} ta_accepted;

/* Nothing named, as when there is no field. */
void ta_accepted_init(ta_accepted *accepted);
/* What a field says; a second one goes on with the list of the first.  What is malformed is left
 * out. */
void ta_accepted_add(ta_accepted *accepted, ta_str value);
/* Weight of a coding, 0: refused.  Identity is refused only if that is said. */
int ta_accepted_weight(const ta_accepted *accepted, ta_coding coding);
/* The best of `ours`, whose order decides between equals; identity if the client prefers that, or
 * takes none of them. */
ta_coding ta_accepted_choose(const ta_accepted *accepted, const ta_coding *ours, size_t n);

#endif
