/*
 * websocket_queue.c -- messages of a WebSocket that wait for receive().
 *
 * Layer: py/server.
 */
#include "py/server/websocket_queue.h"

static size_t size_of(PyObject *data)
{
    return (size_t)(PyBytes_CheckExact(data) ? PyBytes_GET_SIZE(data) : PyUnicode_GET_LENGTH(data));
}

static inline uint32_t place(const ta_websocket_queue *queue, uint32_t i)
{
    return (queue->head + i) & (queue->cap - 1);
}

static int grow(ta_websocket_queue *queue)
{
    uint32_t cap = queue->cap ? queue->cap * 2 : 8; /* a power of two */
    PyObject **items = PyMem_Malloc(cap * sizeof(PyObject *));
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (uint32_t i = 0; i < queue->count; i++)
        items[i] = queue->items[place(queue, i)];
    PyMem_Free(queue->items);
    queue->items = items;
    queue->head = 0;
    queue->cap = cap;
    return 0;
}

int ta_websocket_queue_push(ta_websocket_queue *queue, PyObject *data)
{
    if (queue->count == queue->cap && grow(queue) < 0) {
        Py_DECREF(data);
        return -1;
    }
    TA_ASSERT((queue->cap & (queue->cap - 1)) == 0 && queue->count < queue->cap);
    queue->items[place(queue, queue->count++)] = data;
    queue->bytes += size_of(data);
    return 0;
}

PyObject *ta_websocket_queue_pop(ta_websocket_queue *queue)
{
    TA_ASSERT(queue->count > 0);
    PyObject *data = queue->items[queue->head];
    queue->head = place(queue, 1);
    queue->count--;
    queue->bytes -= size_of(data);
    return data;
}

void ta_websocket_queue_clear(ta_websocket_queue *queue)
{
    while (queue->count > 0) {
        PyObject *data = ta_websocket_queue_pop(queue);
        Py_DECREF(data);
    }
}

void ta_websocket_queue_free(ta_websocket_queue *queue)
{
    ta_websocket_queue_clear(queue);
    PyMem_Free(queue->items);
    queue->items = NULL;
    queue->cap = 0;
}

int ta_websocket_queue_traverse(const ta_websocket_queue *queue, visitproc visit, void *arg)
{
    for (uint32_t i = 0; i < queue->count; i++)
        Py_VISIT(queue->items[place(queue, i)]);
    return 0;
}
