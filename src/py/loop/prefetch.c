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
    ta_prefetch *a = TA_CONTAINER_OF(item, ta_prefetch, item);
    pthread_mutex_lock(&a->mutex);
    a->posted = false;
    pthread_mutex_unlock(&a->mutex);
    ta_future *waiter = a->waiter;
    a->waiter = NULL;
    if (waiter != NULL) {
        ta_future_set_result(waiter, Py_None);
        Py_DECREF(waiter);
    }
    Py_DECREF(a);
}

/* With the mutex held: tells the loop's thread, if it waits. */
static void tell(ta_prefetch *a)
{
    if (!a->wanted || a->posted)
        return;
    a->wanted = false;
    a->posted = true;
    a->item.fn = wake_up;
    Py_INCREF(a);
    if (!ta_thread_pool_post(a->pool, &a->item)) {
        a->posted = false;
        Py_DECREF(a); /* the loop is closed; the caller has a reference, too */
    }
}

/* Adds a chunk (steals; NULL: the end, maybe with an exception) to the others.  False: enough. */
static bool put(ta_prefetch *a, PyObject *piece)
{
    PyObject *exc = piece ? NULL : PyErr_GetRaisedException();
    bool more;
    pthread_mutex_lock(&a->mutex);
    if (piece != NULL && !a->stopped) {
        a->pieces[(a->first + a->count++) % MAX_PIECES] = piece;
        a->bytes += size_of(piece);
        piece = NULL;
    } else if (piece == NULL) {
        a->ended = true;
        a->exc = exc;
        exc = NULL;
    }
    more = !a->ended && !a->stopped && a->count < MAX_PIECES && a->bytes < MAX_BYTES;
    if (more)
        tell(a);
    pthread_mutex_unlock(&a->mutex);
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
static bool enter(ta_prefetch *a, bool *stopped)
{
    pthread_mutex_lock(&a->mutex);
    bool wanted = a->running && !a->inside;
    if (wanted)
        a->inside = true;
    *stopped = a->stopped;
    pthread_mutex_unlock(&a->mutex);
    return wanted;
}

/* Makes chunks until there are enough (false), or others should have the thread (true). */
static bool make_pieces(ta_prefetch *a)
{
    int64_t begun = now_ns();
    while (put(a, next_piece(a->iterator))) {
        if (ta_thread_pool_wanted(a->pool) && now_ns() - begun >= SLICE_NS)
            return true;
    }
    return false;
}

/*
 * The iterator's end runs here, not in the loop's thread, and before `running` tells that it is
 * over.  The response refers to a generator, too, so it is closed.
 */
static void let_go(ta_prefetch *a)
{
    if (PyGen_CheckExact(a->iterator)) {
        PyObject *close = ta_state_of(Py_TYPE(a))->names.close; /* the loop may be gone */
        PyObject *res = PyObject_CallMethodNoArgs(a->iterator, close);
        if (res == NULL)
            PyErr_WriteUnraisable(a->iterator);
        Py_XDECREF(res);
    }
    Py_CLEAR(a->iterator);
}

/* Takes the thread out of the iterator, and ends an iterator that nobody needs any more. */
static void leave(ta_prefetch *a)
{
    pthread_mutex_lock(&a->mutex);
    while (a->iterator != NULL && (a->stopped || a->ended)) {
        pthread_mutex_unlock(&a->mutex);
        let_go(a);
        pthread_mutex_lock(&a->mutex);
    }
    a->running = a->inside = false;
    tell(a);
    pthread_mutex_unlock(&a->mutex);
}

/* True: call it again when the others have had their turn (ta_thread_pool_run). */
static PyObject *ahead_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ta_prefetch *a = (ta_prefetch *)self;
    bool stopped;
    if (!enter(a, &stopped))
        Py_RETURN_FALSE;
    if (!stopped && make_pieces(a)) {
        pthread_mutex_lock(&a->mutex);
        a->inside = false;
        pthread_mutex_unlock(&a->mutex);
        Py_RETURN_TRUE;
    }
    leave(a);
    Py_RETURN_FALSE;
}

/* -- the loop's thread ------------------------------------------------------------------------- */

ta_prefetch *ta_prefetch_new(ta_loop_state *ls, PyObject *iterator)
{
    PyTypeObject *type = ta_loop_objects_of(ls->st)->pool.prefetch_type;
    ta_thread_pool *pool = ta_thread_pool_ref(ls);
    if (pool == NULL)
        return NULL;
    ta_prefetch *a = (ta_prefetch *)type->tp_alloc(type, 0); /* zeroed */
    if (a == NULL) {
        ta_thread_pool_unref(pool);
        return NULL;
    }
    (void)pthread_mutex_init(&a->mutex, NULL);
    a->ls = ls;
    a->pool = pool;
    a->iterator = Py_NewRef(iterator);
    return a;
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

ta_outcome ta_prefetch_next(ta_prefetch *a, PyObject **out)
{
    pthread_mutex_lock(&a->mutex);
    if (a->count > 0) {
        *out = a->pieces[a->first];
        a->first = (a->first + 1) % MAX_PIECES;
        a->count--;
        a->bytes -= size_of(*out);
        pthread_mutex_unlock(&a->mutex);
        return TA_DONE;
    }
    bool ended = a->ended || a->stopped, idle = !a->running && !ended;
    PyObject *exc = a->exc;
    a->exc = NULL;
    a->wanted = !ended;
    if (idle)
        a->running = true;
    pthread_mutex_unlock(&a->mutex);
    *out = NULL;
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
        return TA_FAILED;
    }
    if (ended)
        return TA_DONE;
    *out = wait(a);
    if (idle && *out == NULL)
        a->running = false; /* no thread has it */
    else if (idle && !start(a))
        Py_CLEAR(*out);
    return *out ? TA_WAITS : TA_FAILED;
}

/* Declares that no further chunk is wanted.  True: a thread is in the iterator, or (*waits) will be
 * when one is free.
 */
static bool stop(ta_prefetch *a, bool *waits)
{
    PyObject *dropped[MAX_PIECES];
    unsigned n = 0;
    pthread_mutex_lock(&a->mutex);
    a->stopped = true;
    for (; a->count > 0; a->count--) {
        dropped[n++] = a->pieces[a->first];
        a->first = (a->first + 1) % MAX_PIECES;
    }
    a->bytes = 0;
    bool running = a->running;
    *waits = running && !a->inside;
    a->wanted = running;
    pthread_mutex_unlock(&a->mutex);
    while (n > 0)
        Py_DECREF(dropped[--n]);
    return running;
}

PyObject *ta_prefetch_stop(ta_prefetch *a)
{
    bool waits, again = a->stopped;
    bool running = stop(a, &waits);
    if (!running && (!a->begun || a->iterator == NULL || a->ls->loop == NULL)) {
        Py_CLEAR(a->iterator);
        return NULL;
    }
    if (!running)
        a->running = a->wanted = true; /* no thread can see it yet */
    /* Not queued behind others, which may never end. */
    bool ask = !running || (waits && !again);
    if (ask && ta_thread_pool_run(a->ls, (PyObject *)a, true) < 0) {
        PyErr_Clear();
        if (!running) {
            a->running = a->wanted = false;
            Py_CLEAR(a->iterator);
            return NULL;
        }
    }
    return wait(a);
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
    ta_prefetch *a = (ta_prefetch *)self;
    PyTypeObject *type = Py_TYPE(self);
    TA_ASSERT(!a->posted);
    for (; a->count > 0; a->count--) {
        Py_DECREF(a->pieces[a->first]);
        a->first = (a->first + 1) % MAX_PIECES;
    }
    Py_XDECREF(a->waiter);
    Py_XDECREF(a->iterator);
    Py_XDECREF(a->exc);
    (void)pthread_mutex_destroy(&a->mutex);
    ta_thread_pool_unref(a->pool);
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
