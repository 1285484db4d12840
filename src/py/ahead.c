/* ahead.c -- see ahead.h. */
#include "py/ahead.h"

#include <pthread.h>

#include "py/waiter.h"

enum { MAX_PIECES = 64, MAX_BYTES = 65536 };

struct ta_ahead {
    PyObject_HEAD ta_loopstate *ls; /* borrowed; of the loop's thread, as what is below */
    ta_waiter *waiter;     /* owned: who waits for a piece, or for the thread's end; or NULL */
    ta_pool *pool;         /* a counted reference */
    PyObject *iterator;    /* owned: of the thread while `running`, else of the loop's thread */
    ta_wake_item item;     /* `posted`: on its way to the loop's thread, with a reference */
    pthread_mutex_t mutex; /* guards what follows; never held while Python code runs */
    PyObject *pieces[MAX_PIECES]; /* owned: a ring */
    unsigned first, count;
    size_t bytes;  /* of those that are bytes */
    PyObject *exc; /* owned: the iterator's exception, after its pieces */
    bool running, ended, stopped, wanted, posted;
};

static size_t size_of(PyObject *piece)
{
    return PyBytes_Check(piece) ? (size_t)PyBytes_GET_SIZE(piece) : 0;
}

/* -- the thread -------------------------------------------------------------------------------- */

static void wake_up(ta_wake_item *item)
{
    ta_ahead *a = TA_CONTAINER_OF(item, ta_ahead, item);
    pthread_mutex_lock(&a->mutex);
    a->posted = false;
    pthread_mutex_unlock(&a->mutex);
    ta_waiter *waiter = a->waiter;
    a->waiter = NULL;
    if (waiter != NULL) {
        ta_waiter_set_result(waiter, Py_None);
        Py_DECREF(waiter);
    }
    Py_DECREF(a);
}

/* With the mutex: tells the loop's thread, if it waits. */
static void tell(ta_ahead *a)
{
    if (!a->wanted || a->posted)
        return;
    a->wanted = false;
    a->posted = true;
    a->item.fn = wake_up;
    Py_INCREF(a);
    if (!ta_pool_post(a->pool, &a->item))
        Py_DECREF(a); /* the loop is gone; the caller has a reference, too */
}

/* Puts a piece (steals; NULL: the end, maybe with an exception) with the others.  False: enough. */
static bool put(ta_ahead *a, PyObject *piece)
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

/* In a context of its own, as with Starlette, which goes to a thread for each piece. */
static PyObject *next_piece(PyObject *iterator)
{
    PyObject *context = PyContext_CopyCurrent(), *piece = NULL, *exc;
    if (context != NULL && PyContext_Enter(context) == 0) {
        piece = PyIter_Next(iterator);
        exc = PyErr_GetRaisedException();
        if (PyContext_Exit(context) < 0)
            PyErr_Clear(); /* the iterator left another one entered: its own doing */
        if (exc != NULL)
            PyErr_SetRaisedException(exc);
    }
    Py_XDECREF(context);
    return piece;
}

static PyObject *ahead_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ta_ahead *a = (ta_ahead *)self;
    PyObject *iterator = a->iterator;
    bool stopped;
    while (put(a, next_piece(iterator)))
        ;
    pthread_mutex_lock(&a->mutex);
    stopped = a->stopped || a->ended;
    pthread_mutex_unlock(&a->mutex);
    if (stopped) {
        /* What it does in the end is done here, not in the loop's thread. */
        a->iterator = NULL;
        Py_DECREF(iterator);
    }
    pthread_mutex_lock(&a->mutex);
    a->running = false;
    tell(a);
    pthread_mutex_unlock(&a->mutex);
    Py_RETURN_NONE;
}

/* -- the loop's thread ------------------------------------------------------------------------- */

ta_ahead *ta_ahead_new(ta_loopstate *ls, PyObject *iterator)
{
    PyTypeObject *type = ls->st->o.pool.ahead_type;
    ta_pool *pool = ta_pool_ref(ls);
    if (pool == NULL)
        return NULL;
    ta_ahead *a = (ta_ahead *)type->tp_alloc(type, 0); /* zeroed */
    if (a == NULL) {
        ta_pool_unref(pool);
        return NULL;
    }
    (void)pthread_mutex_init(&a->mutex, NULL);
    a->ls = ls;
    a->pool = pool;
    a->iterator = Py_NewRef(iterator);
    return a;
}

/* A new awaitable; the thread was told that somebody waits. */
static PyObject *wait(ta_ahead *a)
{
    ta_waiter *waiter = ta_waiter_new(a->ls, NULL, NULL);
    Py_XSETREF(a->waiter, (ta_waiter *)Py_XNewRef((PyObject *)waiter));
    return (PyObject *)waiter;
}

int ta_ahead_next(ta_ahead *a, PyObject **out)
{
    pthread_mutex_lock(&a->mutex);
    if (a->count > 0) {
        *out = a->pieces[a->first];
        a->first = (a->first + 1) % MAX_PIECES;
        a->count--;
        a->bytes -= size_of(*out);
        pthread_mutex_unlock(&a->mutex);
        return 1;
    }
    bool ended = a->ended, start = !a->running && !a->ended;
    PyObject *exc = a->exc;
    a->exc = NULL;
    a->wanted = !ended;
    a->running = !ended;
    pthread_mutex_unlock(&a->mutex);
    *out = NULL;
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
        return -1;
    }
    if (ended)
        return 1;
    *out = wait(a);
    if (*out != NULL && start) {
        PyObject *call = ta_call_in_thread(a->ls, (PyObject *)a); /* nobody waits for that */
        if (call == NULL)
            Py_CLEAR(*out);
        Py_XDECREF(call);
    }
    if (*out == NULL) {
        if (start)
            a->running = false; /* no thread has it */
        return -1;
    }
    return 0;
}

PyObject *ta_ahead_stop(ta_ahead *a)
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
    a->wanted = running;
    pthread_mutex_unlock(&a->mutex);
    while (n > 0)
        Py_DECREF(dropped[--n]);
    if (running)
        return wait(a);
    Py_CLEAR(a->iterator);
    return NULL;
}

/* -- the type ---------------------------------------------------------------------------------- */

static void ahead_dealloc(PyObject *self)
{
    ta_ahead *a = (ta_ahead *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (; a->count > 0; a->count--) {
        Py_DECREF(a->pieces[a->first]);
        a->first = (a->first + 1) % MAX_PIECES;
    }
    Py_XDECREF(a->waiter);
    Py_XDECREF(a->iterator);
    Py_XDECREF(a->exc);
    (void)pthread_mutex_destroy(&a->mutex);
    ta_pool_unref(a->pool);
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
    .basicsize = sizeof(ta_ahead),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int ta_ahead_init(PyObject *module, ta_state *st)
{
    return ta_add_type(module, &spec, NULL, &st->o.pool.ahead_type);
}
