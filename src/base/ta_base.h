/*
 * ta_base.h -- what every file of the core may rely on: attributes, slices, error codes.
 *
 * Layer: base (L0).  Includes nothing of the project and nothing of Python.
 */
#ifndef TA_BASE_H
#define TA_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TA_LIKELY(x)                       __builtin_expect(!!(x), 1)
#define TA_UNLIKELY(x)                     __builtin_expect(!!(x), 0)
#define TA_MUST_CHECK                      __attribute__((warn_unused_result))
#define TA_UNUSED                          __attribute__((unused))
#define TA_PRINTF(fmt, args)               __attribute__((format(printf, fmt, args)))
#define TA_COUNTOF(a)                      (sizeof(a) / sizeof((a)[0]))
#define TA_MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define TA_MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define TA_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/*
 * An invariant of ours: what only a mistake in this code can break, never an input or a failed
 * call. A build without NDEBUG (the C tests, scripts/sanitize.sh, the fuzz targets, the extension
 * that `make test` builds) checks it and aborts; a release build compiles the condition but does
 * not evaluate it, so it must not have side effects.
 */
#ifdef NDEBUG
#define TA_ASSERT(condition) ((void)sizeof(!!(condition)))
#else
#define TA_ASSERT(condition) assert(condition)
#endif

/* A borrowed run of bytes: never owns its memory, is never NUL-terminated. */
typedef struct ta_str {
    const char *ptr;
    size_t len;
} ta_str;

#define TA_STR(literal) ((ta_str){(literal), sizeof(literal) - 1})

static inline ta_str ta_str_of(const char *ptr, size_t len)
{
    return (ta_str){ptr, len};
}

/* What follows the first n bytes (n <= s.len); an empty slice may have a NULL ptr, which stays. */
static inline ta_str ta_str_skip(ta_str s, size_t n)
{
    return (ta_str){n ? s.ptr + n : s.ptr, s.len - n};
}

static inline bool ta_str_eq(ta_str a, ta_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/*
 * Results: 0 or a positive count is success; these are the failures.  Every function that can
 * fail returns one of them and writes its out-parameters only on success.
 */
typedef enum ta_err {
    TA_OK = 0,
    TA_AGAIN = -1,        /* not enough input yet, or the descriptor is not ready */
    TA_ENOMEM = -2,       /* an allocation failed */
    TA_EBAD = -3,         /* malformed input (400) */
    TA_ETOOLARGE = -4,    /* a configured limit was passed (413, 414 or 431) */
    TA_ECLOSED = -5,      /* the peer closed, or the object was closed */
    TA_ETIMEOUT = -6,     /* a deadline passed */
    TA_ESYS = -7,         /* a system call failed; errno tells */
    TA_EVERSION = -8,     /* an HTTP version we do not speak (505) */
    TA_EUNSUPPORTED = -9, /* valid, but not implemented (501) */
    TA_EEXPECT = -10,     /* an expectation we cannot meet (417) */
    TA_EINVAL = -11,      /* the caller passed something impossible */
    TA_ENOTFOUND = -12,   /* nothing matches */
    TA_EUPCALL = -13      /* the layer above failed and keeps the reason (a Python exception) */
} ta_err;

#endif
