/*
 * websocket_queue.h -- messages of a WebSocket that wait for receive().
 *
 * Layer: py/server.  Objects that a loop's thread owns.
 */
#ifndef TA_PY_SERVER_WEBSOCKET_QUEUE_H
#define TA_PY_SERVER_WEBSOCKET_QUEUE_H

#include "py/support/py_compat.h"

/* A ring of str and bytes; zeroed: empty. */
typedef struct ta_websocket_queue {
    PyObject **items; /* owned, and the first `count` from `head` on */
    uint32_t head, count, cap;
    size_t bytes; /* of all items; characters of a str */
} ta_websocket_queue;

/* Steals `data`, also on failure.  0, or -1 with MemoryError. */
int ta_websocket_queue_push(ta_websocket_queue *queue, PyObject *data);
/* The oldest one, the caller's.  Only when count > 0. */
PyObject *ta_websocket_queue_pop(ta_websocket_queue *queue);
void ta_websocket_queue_clear(ta_websocket_queue *queue);
void ta_websocket_queue_free(ta_websocket_queue *queue); /* clears it, and frees its memory */
int ta_websocket_queue_traverse(const ta_websocket_queue *queue, visitproc visit, void *arg);

#endif
