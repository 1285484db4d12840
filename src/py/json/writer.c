/* writer.c -- see writer.h. */
#include "py/json/writer.h"

#include <datetime.h>

int ta_writer_grow(ta_writer *writer, size_t n)
{
    ta_writer_commit(writer);
    char *p = ta_buf_reserve(writer->buf, n);
    ta_writer_resume(writer);
    if (!p) {
        PyErr_NoMemory();
        return -1;
    }
    return 1;
}

int ta_writer_refuse(void)
{
    TA_ASSERT(PyErr_Occurred() != NULL);
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        return 0;
    }
    return -1;
}

/* Continues after what was appended to the buffer itself. */
static int appended(ta_writer *writer, int err)
{
    ta_writer_resume(writer);
    if (TA_LIKELY(err == TA_OK))
        return 1;
    if (err == TA_ENOMEM) {
        PyErr_NoMemory();
        return -1;
    }
    return 0; /* a lone surrogate */
}

int ta_writer_long_str(ta_writer *writer, PyObject *s, size_t len)
{
    const void *data = PyUnicode_DATA(s);
    ta_writer_commit(writer);
    if (PyUnicode_IS_ASCII(s))
        return appended(writer, ta_json_string_utf8(writer->buf, data, len));
    if (PyUnicode_KIND(s) == PyUnicode_1BYTE_KIND)
        return appended(writer, ta_json_string_latin1(writer->buf, data, len));
    if (PyUnicode_KIND(s) == PyUnicode_2BYTE_KIND)
        return appended(writer, ta_json_string_ucs2(writer->buf, data, len));
    return appended(writer, ta_json_string_ucs4(writer->buf, data, len));
}

int ta_writer_ascii_str(ta_writer *writer, PyObject *s)
{
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(s) < 0)
        return -1;
#endif
    const void *data = PyUnicode_DATA(s);
    size_t len = (size_t)PyUnicode_GET_LENGTH(s);
    if (TA_LIKELY(PyUnicode_IS_ASCII(s) && memchr(data, 0x7f, len) == NULL))
        return ta_writer_str(writer, s);
    ta_writer_commit(writer);
    if (PyUnicode_KIND(s) == PyUnicode_1BYTE_KIND)
        return appended(writer, ta_json_ascii_latin1(writer->buf, data, len));
    if (PyUnicode_KIND(s) == PyUnicode_2BYTE_KIND)
        return appended(writer, ta_json_ascii_ucs2(writer->buf, data, len));
    return appended(writer, ta_json_ascii_ucs4(writer->buf, data, len));
}

int ta_writer_int(ta_writer *writer, PyObject *v)
{
    long long n;
    if (TA_LIKELY(ta_writer_small_int(v, &n))) {
        if (ta_writer_room(writer, TA_JSON_INT_MAX) < 0)
            return -1;
        writer->at = ta_json_write_i64(writer->at, n);
        return 1;
    }
    PyObject *text = PyObject_Repr(v);
    if (!text) /* more digits than sys.get_int_max_str_digits() */
        return ta_writer_refuse();
    Py_ssize_t len;
    const char *s = PyUnicode_AsUTF8AndSize(text, &len);
    int rc = s ? ta_writer_text(writer, s, (size_t)len) : -1;
    Py_DECREF(text);
    return rc;
}

static inline char *two(char *p, int v)
{
    static const char pairs[201] = "00010203040506070809101112131415161718192021222324"
                                   "25262728293031323334353637383940414243444546474849"
                                   "50515253545556575859606162636465666768697071727374"
                                   "75767778798081828384858687888990919293949596979899";
    TA_ASSERT(v >= 0 && v < 100);
    memcpy(p, pairs + 2 * v, 2);
    return p + 2;
}

static char *write_date(char *p, int year, int month, int day)
{
    p = two(two(p, year / 100), year % 100);
    *p++ = '-';
    p = two(p, month);
    *p++ = '-';
    return two(p, day);
}

static char *write_time(char *p, int hour, int minute, int second, int us)
{
    p = two(p, hour);
    *p++ = ':';
    p = two(p, minute);
    *p++ = ':';
    p = two(p, second);
    if (us) {
        *p++ = '.';
        p = two(two(two(p, us / 10000), us / 100 % 100), us % 100);
    }
    return p;
}

int ta_writer_moment(ta_writer *writer, const ta_json_objects *js, PyObject *v, const char *utc)
{
    (void)PyDateTimeAPI; /* the header's own copy stays unused: state belongs to the module */
    const PyTypeObject *type = Py_TYPE(v);
    size_t suffix = strlen(utc);
    if (ta_writer_room(writer, 28 + suffix) < 0) /* "2000-01-02T03:04:05.000006" */
        return -1;
    char *p = writer->at;
    PyObject *tz = Py_None;
    *p++ = '"';
    if (type == js->date_type) {
        p = write_date(p, PyDateTime_GET_YEAR(v), PyDateTime_GET_MONTH(v), PyDateTime_GET_DAY(v));
    } else if (type == js->datetime_type) {
        tz = PyDateTime_DATE_GET_TZINFO(v);
        p = write_date(p, PyDateTime_GET_YEAR(v), PyDateTime_GET_MONTH(v), PyDateTime_GET_DAY(v));
        *p++ = 'T';
        p = write_time(p, PyDateTime_DATE_GET_HOUR(v), PyDateTime_DATE_GET_MINUTE(v),
                       PyDateTime_DATE_GET_SECOND(v), PyDateTime_DATE_GET_MICROSECOND(v));
    } else {
        tz = PyDateTime_TIME_GET_TZINFO(v);
        p = write_time(p, PyDateTime_TIME_GET_HOUR(v), PyDateTime_TIME_GET_MINUTE(v),
                       PyDateTime_TIME_GET_SECOND(v), PyDateTime_TIME_GET_MICROSECOND(v));
    }
    if (tz == js->utc) {
        memcpy(p, utc, suffix);
        p += suffix;
    } else if (tz != Py_None) {
        return 2;
    }
    *p++ = '"';
    writer->at = p;
    return 1;
}

/* Writes the number's 16 bytes; 0 when it is not what a UUID keeps there. */
static int uuid_bytes(PyObject *number, unsigned char raw[16])
{
    if (!PyLong_CheckExact(number))
        return 0;
#if PY_VERSION_HEX >= 0x030d0000
    Py_ssize_t n = PyLong_AsNativeBytes(
        number, raw, 16, Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER);
    if (n < 0)
        return ta_writer_refuse();
    return n <= 16;
#else
    return _PyLong_AsByteArray((PyLongObject *)number, raw, 16, 0, 0) < 0 ? ta_writer_refuse() : 1;
#endif
}

/* Writes 4 bytes as 8 digits. */
static inline void write_hex(char *dst, const unsigned char *bytes)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* A digit in each byte: that of the high half of a byte comes first. */
    const uint64_t ones = UINT64_C(0x0101010101010101), low = UINT64_C(0x000f000f000f000f);
    uint32_t word;
    memcpy(&word, bytes, 4);
    uint64_t v = word;
    v = (v | v << 16) & UINT64_C(0x0000ffff0000ffff);
    v = (v | v << 8) & UINT64_C(0x00ff00ff00ff00ff);
    v = (v >> 4 & low) | (v & low) << 8;
    uint64_t letters = (v + 6 * ones) >> 4 & ones; /* 10 and above */
    v += '0' * ones + ('a' - '0' - 10) * letters;
    memcpy(dst, &v, 8);
#else
    static const char hex[16] = "0123456789abcdef";
    for (int i = 0; i < 4; i++) {
        dst[2 * i] = hex[bytes[i] >> 4];
        dst[2 * i + 1] = hex[bytes[i] & 15];
    }
#endif
}

int ta_writer_uuid(ta_writer *writer, const ta_json_objects *js, PyObject *v)
{
    PyObject *number = PyObject_GetAttr(v, js->str_int);
    if (!number)
        return ta_writer_refuse();
    unsigned char raw[16];
    int rc = uuid_bytes(number, raw);
    Py_DECREF(number);
    if (rc != 1)
        return rc;
    if (ta_writer_room(writer, 38) < 0)
        return -1;
    char *p = writer->at, hex[32];
    write_hex(hex, raw);
    write_hex(hex + 8, raw + 4);
    write_hex(hex + 16, raw + 8);
    write_hex(hex + 24, raw + 12);
    *p = '"';
    memcpy(p + 1, hex, 8);
    p[9] = '-';
    memcpy(p + 10, hex + 8, 4);
    p[14] = '-';
    memcpy(p + 15, hex + 12, 4);
    p[19] = '-';
    memcpy(p + 20, hex + 16, 4);
    p[24] = '-';
    memcpy(p + 25, hex + 20, 12);
    p[37] = '"';
    writer->at += 38;
    return 1;
}
