/* prefetch.c -- see prefetch.h. */
#include "py/loop/prefetch.h"

#include <pthread.h>
#include <time.h>

#include "py/loop/future.h"
#include "py/support/types.h"

enum {
    MAX_PIECES = 64,
    MAX_BYTES = 65536,
    SLICE_NS = 100 * 1000 /* how long a thread that others want is kept for quick chunks */
};

struct ta_prefetch {
    PyObject_HEAD
    ta_loop_state *ls;     /* borrowed; of the loop's thread, as what is below */
    ta_future *waiter;     /* owned: who waits for a chunk, or for the thread to end; or NULL */
    ta_thread_pool *pool;  /* a counted reference */
    PyObject *iterator;    /* owned: of the thread while `running`, else of the loop's thread */
    ta_wake_item item;     /* `posted`: on its way to the loop's thread, with a reference */
    pthread_mutex_t mutex; /* guards what follows; never held while Python code runs */
    PyObject *pieces[MAX_PIECES]; /* owned: a ring */
    unsigned first, count;
    size_t bytes;  /* of those that are bytes */
    PyObject *exc; /* owned: the iterator's exception, after its pieces */
    bool begun;    /* a thread has been asked for */
    bool running;  /* a thread will come, or is in it: only that thread clears this */
    bool inside;   /* it is in it */
    bool ended;    /* it gave all */
    bool stopped;  /* nobody takes what it yields */
    bool wanted;   /* tell the loop's thread of chunks, and of the end */
    bool posted;   /* `item` is on its way */
};

static size_t size_of(PyObject *piece)
{
    return PyBytes_Check(piece) ? (size_t)PyBytes_GET_SIZE(piece) : 0;
}

/* -- the thread -------------------------------------------------------------------------------- */

static void wake_up(ta_wake_item *item)
{
    ta_prefetch *prefetch = TA_CONTAINER_OF(item, ta_prefetch, item);
    pthread_mutex_lock(&prefetch->mutex);
    prefetch->posted = false;
    pthread_mutex_unlock(&prefetch->mutex);
    ta_future *waiter = prefetch->waiter;
    prefetch->waiter = NULL;
    if (waiter != NULL) {
        ta_future_set_result(waiter, Py_None);
        Py_DECREF(waiter);
    }
    Py_DECREF(prefetch);
}

/* With the mutex held: tells the loop's thread, if it waits. */
static void tell(ta_prefetch *prefetch)
{
    if (!prefetch->wanted || prefetch->posted)
        return;
    prefetch->wanted = false;
    prefetch->posted = true;
    prefetch->item.fn = wake_up;
    Py_INCREF(prefetch);
    if (!ta_thread_pool_post(prefetch->pool, &prefetch->item)) {
        prefetch->posted = false;
        Py_DECREF(prefetch); /* the loop is closed; the caller has a reference, too */
    }
}

/* Adds a chunk (steals; NULL: the end, maybe with an exception) to the others.  False: enough. */
static bool put(ta_prefetch *prefetch, PyObject *piece)
{
    PyObject *exc = piece ? NULL : PyErr_GetRaisedException();
    bool more;
    pthread_mutex_lock(&prefetch->mutex);
    if (piece != NULL && !prefetch->stopped) {
        prefetch->pieces[(prefetch->first + prefetch->count++) % MAX_PIECES] = piece;
        prefetch->bytes += size_of(piece);
        piece = NULL;
    } else if (piece == NULL) {
        prefetch->ended = true;
        prefetch->exc = exc;
        exc = NULL;
    }
    more = !prefetch->ended && !prefetch->stopped && prefetch->count < MAX_PIECES &&
           prefetch->bytes < MAX_BYTES;
    if (more)
        tell(prefetch);
    pthread_mutex_unlock(&prefetch->mutex);
    Py_XDECREF(piece);
    Py_XDECREF(exc);
    return more;
}

/* In a context of its own, as with Starlette, which uses a thread for each chunk. */
static PyObject *next_piece(PyObject *iterator)
{
    PyObject *context = PyContext_CopyCurrent(), *piece = NULL, *exc;
    if (context != NULL && PyContext_Enter(context) == 0) {
        piece = PyIter_Next(iterator);
        exc = PyErr_GetRaisedException();
        if (PyContext_Exit(context) < 0)
            PyErr_Clear(); /* the iterator left another one entered, which is its own fault */
        if (exc != NULL)
            PyErr_SetRaisedException(exc);
    }
    Py_XDECREF(context);
    return piece;
}

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Takes the thread in.  False: it is not wanted any more, as another one came to end the iterator.
 */
static bool enter(ta_prefetch *prefetch, bool *stopped)
{
    pthread_mutex_lock(&prefetch->mutex);
    bool wanted = prefetch->running && !prefetch->inside;
    if (wanted)
        prefetch->inside = true;
    *stopped = prefetch->stopped;
    pthread_mutex_unlock(&prefetch->mutex);
    return wanted;
}

/* Makes chunks until there are enough (false), or others should have the thread (true). */
static bool make_pieces(ta_prefetch *prefetch)
{
    int64_t begun = now_ns();
    while (put(prefetch, next_piece(prefetch->iterator))) {
        if (ta_thread_pool_wanted(prefetch->pool) && now_ns() - begun >= SLICE_NS)
            return true;
    }
    return false;
}

/*
 * The iterator's end runs here, not in the loop's thread, and before `running` tells that it is
 * over.  The response refers to a generator, too, so it is closed.
 */
static void let_go(ta_prefetch *prefetch)
{
    if (PyGen_CheckExact(prefetch->iterator)) {
        PyObject *close = ta_state_of(Py_TYPE(prefetch))->names.close; /* the loop may be gone */
        PyObject *res = PyObject_CallMethodNoArgs(prefetch->iterator, close);
        if (res == NULL)
            PyErr_WriteUnraisable(prefetch->iterator);
        Py_XDECREF(res);
    }
    Py_CLEAR(prefetch->iterator);
}

/* Takes the thread out of the iterator, and ends an iterator that nobody needs any more. */
static void leave(ta_prefetch *prefetch)
{
    pthread_mutex_lock(&prefetch->mutex);
    while (prefetch->iterator != NULL && (prefetch->stopped || prefetch->ended)) {
        pthread_mutex_unlock(&prefetch->mutex);
        let_go(prefetch);
        pthread_mutex_lock(&prefetch->mutex);
    }
    prefetch->running = prefetch->inside = false;
    tell(prefetch);
    pthread_mutex_unlock(&prefetch->mutex);
}

/* True: call it again when the others have had their turn (ta_thread_pool_run). */
static PyObject *ahead_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ta_prefetch *prefetch = (ta_prefetch *)self;
    bool stopped;
    if (!enter(prefetch, &stopped))
        Py_RETURN_FALSE;
    if (!stopped && make_pieces(prefetch)) {
        pthread_mutex_lock(&prefetch->mutex);
        prefetch->inside = false;
        pthread_mutex_unlock(&prefetch->mutex);
        Py_RETURN_TRUE;
    }
    leave(prefetch);
    Py_RETURN_FALSE;
}

/* -- the loop's thread ------------------------------------------------------------------------- */

ta_prefetch *ta_prefetch_new(ta_loop_state *ls, PyObject *iterator)
{
    PyTypeObject *type = ta_loop_objects_of(ls->st)->pool.prefetch_type;
    ta_thread_pool *pool = ta_thread_pool_ref(ls);
    if (pool == NULL)
        return NULL;
    ta_prefetch *prefetch = (ta_prefetch *)type->tp_alloc(type, 0); /* zeroed */
    if (prefetch == NULL) {
        ta_thread_pool_unref(pool);
        return NULL;
    }
    (void)pthread_mutex_init(&prefetch->mutex, NULL);
    prefetch->ls = ls;
    prefetch->pool = pool;
    prefetch->iterator = Py_NewRef(iterator);
    return prefetch;
}

/* Returns a new awaitable, after it told the thread that somebody waits. */
static PyObject *wait(ta_prefetch *a)
{
    ta_future *waiter = ta_future_new(a->ls, NULL, NULL);
    Py_XSETREF(a->waiter, (ta_future *)Py_XNewRef((PyObject *)waiter));
    return (PyObject *)waiter;
}

/* Asks for a thread; `running` was set.  False, with an exception: there is none. */
static bool start(ta_prefetch *a)
{
    a->begun = true;
    if (ta_thread_pool_run(a->ls, (PyObject *)a, false) == 0)
        return true;
    a->running = false; /* no thread has it, or will have it */
    return false;
}

ta_outcome ta_prefetch_next(ta_prefetch *prefetch, PyObject **out)
{
    pthread_mutex_lock(&prefetch->mutex);
    if (prefetch->count > 0) {
        *out = prefetch->pieces[prefetch->first];
        prefetch->first = (prefetch->first + 1) % MAX_PIECES;
        prefetch->count--;
        prefetch->bytes -= size_of(*out);
        pthread_mutex_unlock(&prefetch->mutex);
        return TA_DONE;
    }
    bool ended = prefetch->ended || prefetch->stopped, idle = !prefetch->running && !ended;
    PyObject *exc = prefetch->exc;
    prefetch->exc = NULL;
    prefetch->wanted = !ended;
    if (idle)
        prefetch->running = true;
    pthread_mutex_unlock(&prefetch->mutex);
    *out = NULL;
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
        return TA_FAILED;
    }
    if (ended)
        return TA_DONE;
    *out = wait(prefetch);
    if (idle && *out == NULL)
        prefetch->running = false; /* no thread has it */
    else if (idle && !start(prefetch))
        Py_CLEAR(*out);
    return *out ? TA_WAITS : TA_FAILED;
}

/* Declares that no further chunk is wanted.  True: a thread is in the iterator, or (*waits) will be
 * when one is free.
 */
static bool stop(ta_prefetch *prefetch, bool *waits)
{
    PyObject *dropped[MAX_PIECES];
    unsigned n = 0;
    pthread_mutex_lock(&prefetch->mutex);
    prefetch->stopped = true;
    for (; prefetch->count > 0; prefetch->count--) {
        dropped[n++] = prefetch->pieces[prefetch->first];
        prefetch->first = (prefetch->first + 1) % MAX_PIECES;
    }
    prefetch->bytes = 0;
    bool running = prefetch->running;
    *waits = running && !prefetch->inside;
    prefetch->wanted = running;
    pthread_mutex_unlock(&prefetch->mutex);
    while (n > 0)
        Py_DECREF(dropped[--n]);
    return running;
}

PyObject *ta_prefetch_stop(ta_prefetch *prefetch)
{
    bool waits, again = prefetch->stopped;
    bool running = stop(prefetch, &waits);
    if (!running &&
        (!prefetch->begun || prefetch->iterator == NULL || prefetch->ls->loop == NULL)) {
        Py_CLEAR(prefetch->iterator);
        return NULL;
    }
    if (!running)
        prefetch->running = prefetch->wanted = true; /* no thread can see it yet */
    /* Not queued behind others, which may never end. */
    bool ask = !running || (waits && !again);
    if (ask && ta_thread_pool_run(prefetch->ls, (PyObject *)prefetch, true) < 0) {
        PyErr_Clear();
        if (!running) {
            prefetch->running = prefetch->wanted = false;
            Py_CLEAR(prefetch->iterator);
            return NULL;
        }
    }
    return wait(prefetch);
}

void ta_prefetch_drop(ta_prefetch *a)
{
    bool waits;
    if (!stop(a, &waits))
        Py_CLEAR(a->iterator);
    Py_DECREF(a);
}

/* -- the type ---------------------------------------------------------------------------------- */

static void ahead_dealloc(PyObject *self)
{
    ta_prefetch *prefetch = (ta_prefetch *)self;
    PyTypeObject *type = Py_TYPE(self);
    TA_ASSERT(!prefetch->posted);
    for (; prefetch->count > 0; prefetch->count--) {
        Py_DECREF(prefetch->pieces[prefetch->first]);
        prefetch->first = (prefetch->first + 1) % MAX_PIECES;
    }
    Py_XDECREF(prefetch->waiter);
    Py_XDECREF(prefetch->iterator);
    Py_XDECREF(prefetch->exc);
    (void)pthread_mutex_destroy(&prefetch->mutex);
    ta_thread_pool_unref(prefetch->pool);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot slots[] = {
    {Py_tp_doc, "An iterator that a thread goes on with."},
    {Py_tp_call, ahead_call},
    {Py_tp_dealloc, ahead_dealloc},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "turboapi._core.Ahead",
    .basicsize = sizeof(ta_prefetch),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ta_prefetch_init(PyObject *module, ta_state *st)
{
    return ta_types_add(module, &spec, NULL, &ta_loop_objects_of(st)->pool.prefetch_type);
}
