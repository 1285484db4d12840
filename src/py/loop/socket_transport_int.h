/*
 * socket_transport_int.h -- what the files of the socket transport share: socket_transport.c,
 * socket_transport_type.c, socket_transport_read.c, socket_transport_stream.c,
 * socket_transport_write.c.
 *
 * Layer: py/loop.  Nobody else includes it.
 */
#ifndef TA_PY_LOOP_SOCKET_TRANSPORT_INT_H
#define TA_PY_LOOP_SOCKET_TRANSPORT_INT_H

#include "py/loop/evloop_int.h"
#include "py/loop/loop_state.h"
#include "py/loop/socket_transport.h"

enum { TA_SOCKET_MAX_READ = 256 * 1024 }; /* asyncio's max_size */

/* Bytes that wait for the socket. */
typedef struct ta_chunk {
    PyObject *data; /* owned: a bytes */
    Py_ssize_t at;  /* how many of them are sent */
} ta_chunk;

/*
 * What a transport has after the slots of asyncio's class, which stay empty: descriptors with the
 * same names in ours shadow them.
 *
 * While the loop watches the descriptor, it has a reference to the transport, as asyncio's selector
 * has through the handle.  The handles refer to the transport, too; cancelling them ends that.
 */
typedef struct ta_socket_transport {
    PyObject *self;     /* borrowed: the object that this is a part of */
    ta_state *st;       /* borrowed: the type keeps the module */
    ta_evloop *loop;    /* owned; NULL once connection_lost() was called */
    PyObject *selector; /* owned: a _core.Selector; NULL as above */
    ta_loop_state *ls;  /* borrowed: the selector's */
    PyObject *sock;     /* owned: a socket.socket; NULL once closed */
    PyObject *fileno;   /* owned: its bound method */
    PyObject *protocol; /* owned; NULL as above */
    PyObject *extra;    /* owned: the dict behind get_extra_info() */
    PyObject *server;   /* owned, or NULL */
    PyObject *context;  /* owned: of the connection, from Python 3.15 on; NULL: the current one */
    PyObject *reader;   /* owned: the Handle that reads, or NULL while it does not */
    PyObject *writer;   /* the same for what waits to be written */
    PyObject *empty_waiter; /* owned: the future of a sendfile() that waits for that; or NULL */
    PyObject *dict, *weakrefs;
    ta_chunk *chunks; /* owned: a ring; its size is a power of two, or 0 */
    size_t mask, head, tail;
    Py_ssize_t size; /* of all chunks, in bytes */
    Py_ssize_t high, low;
    ta_io io;
    ta_guest guest;     /* in the list of the loop while that has its reference */
    unsigned long lost; /* > 0: connection_lost() is due; further ones count writes since */
    int fd;             /* as it was at the beginning */
    bool watched;       /* the loop has its reference */
    bool closing, paused, eof;
    bool connected;       /* a protocol was set */
    bool protocol_paused; /* it was told to pause writing */
    bool buffered;        /* it is a BufferedProtocol */
} ta_socket_transport;

/* The class is final, so its size tells where our part begins. */
static inline ta_socket_transport *ta_socket_transport_of(PyObject *obj)
{
    return (ta_socket_transport *)((char *)obj + Py_TYPE(obj)->tp_basicsize -
                                   sizeof(ta_socket_transport));
}

/* -- socket_transport.c --------------------------------------------------------------------------
 */

/* asyncio's _add_reader() and _add_writer(), with a new handle that calls the method of that name
 * in a copy of the current context.  0, or -1 with an exception. */
TA_MUST_CHECK int ta_socket_transport_start_reading(ta_socket_transport *t);
TA_MUST_CHECK int ta_socket_transport_start_writing(ta_socket_transport *t);
/* _remove_reader() and _remove_writer(). */
void ta_socket_transport_stop_reading(ta_socket_transport *t);
void ta_socket_transport_stop_writing(ta_socket_transport *t);
/* The descriptor, or -1 with errno when somebody has closed the socket; -1 with an exception when
 * that cannot be told. */
int ta_socket_transport_fd(ta_socket_transport *t);
/* Sets the OSError of errno, if no exception is set. */
void ta_socket_transport_set_errno(void);

/*
 * For an exception that is set: _fatal_error().  Returns None, a new reference; NULL with the
 * exception when it is one that ends the loop, or with that of the exception handler.
 */
PyObject *ta_socket_transport_fail(ta_socket_transport *t, const char *message);
/* The same for what is raised by a callback that only is reported.  0 or -1. */
TA_MUST_CHECK int ta_socket_transport_report(ta_socket_transport *t, const char *message);
/* _force_close().  0 or -1. */
TA_MUST_CHECK int ta_socket_transport_force_close(ta_socket_transport *t, PyObject *exc);
/* close().  0 or -1. */
TA_MUST_CHECK int ta_socket_transport_close(ta_socket_transport *t);
/* Closes the socket and lets go of all else: what connection_lost() is followed by.  0 or -1. */
TA_MUST_CHECK int ta_socket_transport_abandon(ta_socket_transport *t);
/* _call_connection_lost().  0 or -1. */
TA_MUST_CHECK int ta_socket_transport_end(ta_socket_transport *t, PyObject *exc);

static inline bool ta_socket_transport_is_reading(const ta_socket_transport *t)
{
    return !t->closing && !t->paused;
}

/* -- socket_transport_read.c ---------------------------------------------------------------------
 */

/* _read_ready() */
PyObject *ta_socket_transport_read(PyObject *self, PyObject *ignored);

/* -- socket_transport_stream.c -------------------------------------------------------------------
 */

/* Whether the protocol's data_received() is known to do what the next function does.  1, 0, -1. */
TA_MUST_CHECK int ta_socket_transport_is_stream(ta_evloop *loop, PyObject *protocol);
/* 1: fed the protocol's StreamReader; 0: its data_received() has to be called; -1: an exception of
 * that. */
TA_MUST_CHECK int ta_socket_transport_feed(ta_socket_transport *t, PyObject *protocol,
                                           const char *memory, Py_ssize_t n);
int ta_socket_transport_stream_init(ta_evloop_state *objects);

/* -- socket_transport_write.c --------------------------------------------------------------------
 */

static inline bool ta_socket_transport_is_empty(const ta_socket_transport *t)
{
    return t->head == t->tail;
}

PyObject *ta_socket_transport_write(PyObject *self, PyObject *data);
PyObject *ta_socket_transport_writelines(PyObject *self, PyObject *list);
PyObject *ta_socket_transport_write_eof(PyObject *self, PyObject *ignored);
/* _write_ready() */
PyObject *ta_socket_transport_flush(PyObject *self, PyObject *ignored);
/* Drops all that waits to be written. */
void ta_socket_transport_drop(ta_socket_transport *t);
/* _maybe_pause_protocol().  0 or -1. */
TA_MUST_CHECK int ta_socket_transport_maybe_pause(ta_socket_transport *t);

/* -- socket_transport_type.c ---------------------------------------------------------------------
 */

/* Ends the loop's interest; see ta_guest_ops. */
extern const ta_guest_ops ta_socket_transport_guest_ops;

#endif
