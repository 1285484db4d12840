/*
 * writer.h -- what the encoders of Python values share: a writer into a buffer, and the texts of
 * single values.
 *
 * Every writer here returns 1: done; 0: not a value that it can write (no exception is set);
 * -1: exception.
 *
 * Layer: py.
 */
#ifndef TA_PY_JSON_WRITER_H
#define TA_PY_JSON_WRITER_H

#include "py/json/encode.h"
#include "json/escape.h"
#include "json/num.h"

typedef struct ta_writer {
    ta_buf *buf;           /* borrowed */
    char *from, *at, *end; /* written from..at, not committed to `buf` yet; room up to end */
} ta_writer;

/* Strings up to here are written in one go. */
enum { TA_OUT_SHORT_STRING = 512 };

/* -- the writer -------------------------------------------------------------------------------- */

/* Starts to write after what the buffer holds. */
static inline void ta_writer_resume(ta_writer *o)
{
    ta_buf *buf = o->buf;
    o->from = o->at = buf->data ? buf->data + buf->off + buf->len : NULL;
    o->end = buf->data ? buf->data + buf->cap : NULL;
}

static inline ta_writer ta_writer_begin(ta_buf *buf)
{
    ta_writer o = {.buf = buf};
    ta_writer_resume(&o);
    return o;
}

/* Commits what was written to the buffer. */
static inline void ta_writer_commit(ta_writer *o)
{
    TA_ASSERT(o->from <= o->at && o->at <= o->end);
    ta_buf_commit(o->buf, (size_t)(o->at - o->from));
    o->from = o->at;
}

int ta_writer_grow(ta_writer *writer, size_t n);

/* Room for n bytes at o->at; 1, or -1 with an exception. */
static inline int ta_writer_room(ta_writer *o, size_t n)
{
    if (TA_LIKELY((size_t)(o->end - o->at) >= n))
        return 1;
    return ta_writer_grow(o, n);
}

static inline int ta_writer_put(ta_writer *o, char c)
{
    if (ta_writer_room(o, 1) < 0)
        return -1;
    *o->at++ = c;
    return 1;
}

static inline int ta_writer_text(ta_writer *o, const char *text, size_t n)
{
    if (ta_writer_room(o, n) < 0)
        return -1;
    memcpy(o->at, text, n);
    o->at += n;
    return 1;
}

/* -- values ------------------------------------------------------------------------------------ */

/*
 * Handles the exception of a failed call: 0 and cleared, as Python's own code raises it again; -1
 * for MemoryError and interrupts.
 */
int ta_writer_refuse(void);

/* A str of any length. */
int ta_writer_long_str(ta_writer *writer, PyObject *s, size_t len);
/* The same in ASCII. */
int ta_writer_ascii_str(ta_writer *writer, PyObject *s);

static inline int ta_writer_str(ta_writer *writer, PyObject *s)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(s) < 0)
        return -1;
#endif
    size_t len = (size_t)PyUnicode_GET_LENGTH(s);
    if (TA_UNLIKELY(len > TA_OUT_SHORT_STRING || PyUnicode_KIND(s) != PyUnicode_1BYTE_KIND))
        return ta_writer_long_str(writer, s, len);
    if (ta_writer_room(writer, TA_JSON_STRING_ROOM(len)) < 0)
        return -1;
    if (TA_LIKELY(PyUnicode_IS_ASCII(s)))
        writer->at = ta_json_write_utf8(writer->at, (const char *)PyUnicode_DATA(s), len);
    else
        writer->at = ta_json_write_latin1(writer->at, (const uint8_t *)PyUnicode_DATA(s), len);
    return 1;
}

/* An exact int into *n: false when it has more than 64 bits. */
static inline bool ta_writer_small_int(PyObject *v, long long *n)
{
    int overflow = 0;
#if PY_VERSION_HEX >= 0x030c0000
    if (TA_LIKELY(PyUnstable_Long_IsCompact((PyLongObject *)v))) {
        *n = PyUnstable_Long_CompactValue((PyLongObject *)v);
        return true;
    }
#endif
    *n = PyLong_AsLongLongAndOverflow(v, &overflow);
    return !overflow;
}

/* Any exact int, without quotation marks. */
int ta_writer_int(ta_writer *writer, PyObject *v);

/*
 * An exact date, time or datetime in quotation marks, as isoformat() writes it, but UTC as `utc`.
 * 2: it has another time zone, nothing is written.
 */
int ta_writer_moment(ta_writer *writer, const ta_json_objects *js, PyObject *v, const char *utc);

/* An exact uuid.UUID. */
int ta_writer_uuid(ta_writer *writer, const ta_json_objects *js, PyObject *v);

#endif
