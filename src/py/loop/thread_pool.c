/*
 * thread_pool.c -- threads for `def` handlers.
 *
 * Layer: py (L4).  The threads are Python's (threading.Thread, so that names, profilers and thread
 * locals work), while their loop is C.  A job gets there and back without a lock for which the
 * loop's thread could have to wait longer than a few instructions.  Promotion is in
 * inline_promotion.c.
 */
#include "py/loop/thread_pool.h"

#include "py/loop/future.h"
#include "py/loop/inline_promotion.h"
#include "py/loop/task_pool.h"
#include "py/loop/thread_token.h"
#include "py/loop/work_queue.h"
#include "py/support/exc.h"
#include "py/support/pending.h"
#include "py/support/types.h"

enum { DEFAULT_THREADS = 40, IDLE_SECONDS = 10 };

/* One call.  It is an object, as it can be called, too (anyio_path). */
typedef struct ta_job {
    PyObject_HEAD
    ta_wake_item item; /* back to the loop's thread; holds a reference then */
    ta_work work;      /* in the queue, which holds a reference; `first`: TA_RUN_LEAVE */
    ta_list_node node; /* in the pool's `waited`, as long as it has a waiter */
    ta_future *waiter; /* owned: of the loop's thread; NULL: nobody waits for it */
    ta_callstat *stat; /* a counted reference, or NULL */
    PyObject *context; /* owned */
    PyObject *func;    /* owned */
    PyObject *kwnames; /* owned or NULL */
    PyObject *result;  /* owned: of the call */
    PyObject *exc;     /* owned: of the call */
    atomic_bool cancelled;
    bool unwaited;    /* it never had a waiter: see ta_thread_pool_run */
    Py_ssize_t nargs; /* positional ones */
    Py_ssize_t ntotal;
    PyObject *args[]; /* owned */
} ta_job;

/* Shared by the loop's thread and the workers; the last of them frees it. */
struct ta_thread_pool {
    ta_work_queue queue;
    unsigned refs;       /* guarded by the queue's mutex */
    atomic_int promoted; /* functions, less those that were demoted */
    ta_wake *wake;       /* borrowed: the loopstate's; not used once the queue is closed */
    /* of the loop's thread */
    PyObject *aioloop;   /* owned */
    ta_list_node waited; /* jobs that have a waiter, queued, running or on their way back */
};

/* What a thread is started with. */
typedef struct ta_worker {
    PyObject_HEAD
    ta_thread_pool *pool; /* a counted reference */
} ta_worker;

/* -- the shared part -------------------------------------------------------------------------- */

static ta_thread_pool *pool_new(ta_loop_state *ls)
{
    ta_thread_pool *pool = PyMem_RawCalloc(1, sizeof *pool);
    if (pool == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    ta_work_queue_init(&pool->queue, DEFAULT_THREADS, IDLE_SECONDS);
    pool->refs = 1;
    pool->wake = ls->wake;
    pool->aioloop = Py_NewRef(ls->aioloop);
    ta_list_init(&pool->waited);
    return pool;
}

void ta_thread_pool_unref(ta_thread_pool *pool)
{
    pthread_mutex_lock(&pool->queue.mutex);
    bool last = --pool->refs == 0;
    pthread_mutex_unlock(&pool->queue.mutex);
    if (!last)
        return;
    ta_work_queue_destroy(&pool->queue);
    PyMem_RawFree(pool);
}

/* Returns the loop's pool, and makes it when there is none; NULL with an exception. */
static ta_thread_pool *pool_of(ta_loop_state *ls)
{
    if (ls->pool == NULL && ls->loop == NULL)
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    else if (ls->pool == NULL)
        ls->pool = pool_new(ls);
    return ls->pool;
}

ta_thread_pool *ta_thread_pool_ref(ta_loop_state *ls)
{
    ta_thread_pool *pool = pool_of(ls);
    if (pool == NULL)
        return NULL;
    pthread_mutex_lock(&pool->queue.mutex);
    pool->refs++;
    pthread_mutex_unlock(&pool->queue.mutex);
    return pool;
}

bool ta_thread_pool_post(ta_thread_pool *pool, ta_wake_item *item)
{
    pthread_mutex_lock(&pool->queue.mutex);
    bool open = pool->queue.state == TA_WORK_OPEN;
    if (open)
        ta_wake_post(pool->wake, item);
    pthread_mutex_unlock(&pool->queue.mutex);
    return open;
}

bool ta_thread_pool_wanted(ta_thread_pool *pool)
{
    if (atomic_load_explicit(&pool->queue.queued, memory_order_relaxed) == 0)
        return false;
    pthread_mutex_lock(&pool->queue.mutex);
    bool wanted = pool->queue.queued > pool->queue.idle;
    pthread_mutex_unlock(&pool->queue.mutex);
    return wanted;
}

/* -- jobs ------------------------------------------------------------------------------------- */

static void job_clear_call(ta_job *job)
{
    for (Py_ssize_t i = 0; i < job->ntotal; i++)
        Py_CLEAR(job->args[i]);
    job->ntotal = job->nargs = 0;
    Py_CLEAR(job->func);
    Py_CLEAR(job->kwnames);
    Py_CLEAR(job->context);
}

static void job_dealloc(PyObject *self)
{
    ta_job *job = (ta_job *)self;
    PyTypeObject *type = Py_TYPE(self);
    TA_ASSERT(job->waiter == NULL && !ta_list_linked(&job->node));
    job_clear_call(job);
    ta_callstat_unref(job->stat);
    Py_CLEAR(job->result);
    Py_CLEAR(job->exc);
    type->tp_free(self);
    Py_DECREF(type);
}

static ta_job *job_new(const ta_loop_state *ls, ta_callstat *stat, PyObject *func,
                       PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyTypeObject *type = ta_loop_objects_of(ls->st)->pool.job_type;
    Py_ssize_t total = nargs + (kwnames ? PyTuple_GET_SIZE(kwnames) : 0);
    ta_job *job = (ta_job *)type->tp_alloc(type, total); /* zeroed */
    if (job == NULL)
        return NULL;
    job->stat = ta_callstat_ref(stat);
    job->func = Py_NewRef(func);
    job->kwnames = Py_XNewRef(kwnames);
    job->nargs = nargs;
    job->ntotal = total;
    for (Py_ssize_t i = 0; i < total; i++)
        job->args[i] = Py_NewRef(args[i]);
    job->context = ta_loop_state_copy_context(ls);
    if (job->context == NULL)
        Py_CLEAR(job);
    return job;
}

/* Runs the call in its context, in a thread of the pool (NULL: another); the result, or NULL with
 * the exception set. */
static PyObject *job_call(ta_thread_pool *pool, ta_job *job, ta_thread_token *token)
{
    if (PyContext_Enter(job->context) < 0)
        return NULL;
    ta_call_watch watch;
    if (token != NULL)
        token->used = false;
    if (job->stat != NULL)
        ta_inline_promotion_begin(&watch);
    PyObject *res = PyObject_Vectorcall(job->func, job->args, (size_t)job->nargs, job->kwnames);
    if (job->stat != NULL &&
        ta_inline_promotion_end(&watch, job->stat, token != NULL && token->used) && pool != NULL)
        atomic_fetch_add_explicit(&pool->promoted, 1, memory_order_relaxed);
    PyObject *exc = res ? NULL : PyErr_GetRaisedException();
    if (PyContext_Exit(job->context) < 0)
        PyErr_Clear();
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return res;
}

/* Takes the waiter out: a new reference.  From now on it is not interested in the job. */
static ta_future *job_leave_waiter(ta_job *job)
{
    ta_future *waiter = job->waiter;
    job->waiter = NULL;
    ta_future_detach(waiter);
    ta_list_remove(&job->node);
    return waiter;
}

/* Back on the loop's thread. */
static void job_done(ta_wake_item *item)
{
    ta_job *job = TA_CONTAINER_OF(item, ta_job, item);
    if (job->waiter != NULL) { /* else the loop is about to close */
        ta_future *waiter = job_leave_waiter(job);
        PyObject *exc = job->exc;
        job->exc = NULL;
        if (exc != NULL)
            ta_future_set_exception(waiter, exc);
        else
            ta_future_set_result(waiter, job->result ? job->result : Py_None);
        Py_DECREF(waiter);
    }
    Py_DECREF(job);
}

static void job_cancel(void *arg)
{
    atomic_store_explicit(&((ta_job *)arg)->cancelled, true, memory_order_relaxed);
}

/* As a callable, for anyio's threads. */
static PyObject *job_tp_call(PyObject *self, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    ta_job *job = (ta_job *)self;
    if (job->func == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the call was made already");
        return NULL;
    }
    PyObject *res = job_call(NULL, job, NULL);
    PyObject *exc = res ? NULL : PyErr_GetRaisedException();
    job_clear_call(job);
    if (exc != NULL)
        PyErr_SetRaisedException(exc);
    return res;
}

static PyType_Slot job_slots[] = {
    {Py_tp_doc, "A call that goes to a thread."},
    {Py_tp_call, job_tp_call},
    {Py_tp_dealloc, job_dealloc},
    {0, NULL},
};

static PyType_Spec job_spec = {
    .name = "turboapi._core.Job",
    .basicsize = offsetof(ta_job, args),
    .itemsize = sizeof(PyObject *),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = job_slots,
};

/* -- workers ---------------------------------------------------------------------------------- */

static inline ta_job *job_of(ta_work *work)
{
    return TA_CONTAINER_OF(work, ta_job, work);
}

/* Runs a job that nobody waits for (steals), and queues it again when it returned True. */
static void run_unwaited(ta_thread_pool *pool, ta_job *job, ta_thread_token *token)
{
    bool again = false;
    if (!atomic_load_explicit(&job->cancelled, memory_order_relaxed)) {
        PyObject *res = job_call(pool, job, token);
        again = res == Py_True;
        if (res == NULL)
            PyErr_WriteUnraisable(job->func);
        Py_XDECREF(res);
    }
    if (again) {
        pthread_mutex_lock(&pool->queue.mutex);
        again = pool->queue.state == TA_WORK_OPEN;
        if (again)
            ta_work_queue_put_back(&pool->queue, &job->work);
        pthread_mutex_unlock(&pool->queue.mutex);
    }
    if (!again)
        Py_DECREF(job);
}

PyObject *ta_thread_pool_no_stop_iteration(PyObject *exc)
{
    if (!PyErr_GivenExceptionMatches(exc, PyExc_StopIteration))
        return exc;
    PyObject *other =
        PyObject_CallFunction(PyExc_RuntimeError, "s", "coroutine raised StopIteration");
    if (other == NULL) {
        PyErr_Clear();
        return exc;
    }
    PyException_SetCause(other, exc); /* steals */
    return other;
}

/* Does the worker's part; steals. */
static void job_run(ta_thread_pool *pool, ta_job *job, ta_thread_token *token)
{
    if (job->unwaited) {
        run_unwaited(pool, job, token);
        return;
    }
    if (!atomic_load_explicit(&job->cancelled, memory_order_relaxed)) {
        job->result = job_call(pool, job, token);
        if (job->result == NULL)
            job->exc = ta_thread_pool_no_stop_iteration(PyErr_GetRaisedException());
    }
    job_clear_call(job); /* its objects are freed where they were used, not on the loop's thread */
    job->item.fn = job_done;
    if (!ta_thread_pool_post(pool, &job->item)) /* its reference is passed along */
        Py_DECREF(job);
}

static PyObject *worker_call(PyObject *self, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    ta_thread_pool *pool = ((ta_worker *)self)->pool;
    ta_state *st = ta_state_of(Py_TYPE(self));
    PyObject *aioloop = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : Py_None;
    ta_thread_token *token = ta_thread_token_new(st, aioloop);
    for (;;) {
        ta_work *work;
        Py_BEGIN_ALLOW_THREADS
        work = ta_work_queue_take(&pool->queue, false);
        Py_END_ALLOW_THREADS
        if (work == NULL)
            break;
        job_run(pool, job_of(work), token);
        if (ta_pending_run(st) < 0)
            PyErr_WriteUnraisable(self);
    }
    Py_XDECREF(token);
    Py_RETURN_NONE;
}

static void worker_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ta_thread_pool_unref(((ta_worker *)self)->pool);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot worker_slots[] = {
    {Py_tp_doc, "The body of a worker thread."},
    {Py_tp_call, worker_call},
    {Py_tp_dealloc, worker_dealloc},
    {0, NULL},
};

static PyType_Spec worker_spec = {
    .name = "turboapi._core.Worker",
    .basicsize = sizeof(ta_worker),
    .flags = TA_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = worker_slots,
};

/* Starts one more thread, which is counted already.  -1 with an exception. */
static int start_thread(ta_loop_state *ls)
{
    ta_thread_pool *pool = ls->pool;
    ta_state *st = ls->st;
    PyTypeObject *type = ta_loop_objects_of(st)->pool.worker_type;
    PyObject *thread = NULL, *args = NULL, *kwargs = NULL, *res = NULL;
    ta_worker *worker = (ta_worker *)type->tp_alloc(type, 0);
    if (worker == NULL)
        return -1;
    pthread_mutex_lock(&pool->queue.mutex);
    pool->refs++;
    pthread_mutex_unlock(&pool->queue.mutex);
    worker->pool = pool;
    kwargs = Py_BuildValue("{s:O,s:s,s:O,s:(O)}", "target", worker, "name",
                           "turboapi worker thread", "daemon", Py_True, "args", ls->aioloop);
    args = PyTuple_New(0);
    if (kwargs != NULL && args != NULL)
        thread = PyObject_Call(ta_loop_objects_of(st)->pool.thread_class, args, kwargs);
    if (thread != NULL)
        res = PyObject_CallMethod(thread, "start", NULL);
    Py_XDECREF(thread);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    Py_DECREF(worker);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* -- calls ------------------------------------------------------------------------------------ */

/*
 * For a Task inside a cancel scope of anyio (or when we cannot tell): anyio's own thread pool knows
 * about scopes (shielding, check_cancelled()).
 */
static PyObject *anyio_path(ta_state *st, ta_job *job)
{
    return PyObject_CallOneArg(ta_loop_objects_of(st)->pool.anyio_run_sync, (PyObject *)job);
}

/* Queues the job and makes sure that there are threads.  -1 with an exception: nobody will run it.
 */
static int submit(ta_loop_state *ls, ta_job *job)
{
    Py_INCREF(job); /* the queue's */
    ta_work_put put = ta_work_queue_put(&ls->pool->queue, &job->work);
    TA_ASSERT(put != TA_WORK_REFUSED); /* a closed pool is no loop's any more */
    if (put == TA_WORK_GROW && start_thread(ls) < 0) {
        if (ta_work_queue_not_started(&ls->pool->queue) == 0) {
            /* Nobody would ever take it.  It stays queued as cancelled, for a later thread. */
            job_cancel(job);
            return -1;
        }
        PyErr_Clear(); /* fewer threads than allowed: only slower */
    }
    return 0;
}

/* The same; the waiter is the awaitable.  NULL with an exception. */
static PyObject *submit_waited(ta_loop_state *ls, ta_job *job)
{
    job->waiter = ta_future_new(ls, job_cancel, job);
    if (job->waiter == NULL)
        return NULL;
    ta_list_push_back(&ls->pool->waited, &job->node);
    PyObject *waiter = Py_NewRef((PyObject *)job->waiter);
    if (submit(ls, job) < 0) {
        Py_DECREF(job_leave_waiter(job));
        Py_CLEAR(waiter);
    }
    return waiter;
}

ta_outcome ta_thread_pool_call(ta_loop_state *ls, ta_callstat *stat, int run_mode, PyObject *func,
                               PyObject *const *args, size_t nargsf, PyObject *kwnames,
                               PyObject **result)
{
    bool leave = run_mode & TA_RUN_LEAVE;
    run_mode &= ~TA_RUN_LEAVE;
    if (run_mode == TA_RUN_INLINE) {
        *result = PyObject_Vectorcall(func, args, nargsf, kwnames);
        goto inline_done;
    }
    if (run_mode == TA_RUN_AUTO && ta_inline_promotion_is_inline(stat)) {
        *result = ta_inline_promotion_call(ls, stat, func, args, nargsf, kwnames);
        goto inline_done;
    }
    *result = NULL;
    if (pool_of(ls) == NULL)
        return TA_FAILED;
    ta_job *job = job_new(ls, run_mode == TA_RUN_AUTO ? stat : NULL, func, args,
                          PyVectorcall_NARGS(nargsf), kwnames);
    if (job == NULL)
        return TA_FAILED;
    job->work.first = leave;
    if (!Py_IsNone(ta_loop_objects_of(ls->st)->pool.anyio_run_sync) && ta_task_pool_is_marked(ls))
        *result = anyio_path(ls->st, job);
    else
        *result = submit_waited(ls, job);
    Py_DECREF(job);
    return *result ? TA_WAITS : TA_FAILED;

inline_done:
    if (*result == NULL && PyErr_ExceptionMatches(PyExc_StopIteration))
        PyErr_SetRaisedException(ta_thread_pool_no_stop_iteration(PyErr_GetRaisedException()));
    return *result ? TA_DONE : TA_FAILED;
}

int ta_thread_pool_run(ta_loop_state *ls, PyObject *func, bool leave)
{
    if (pool_of(ls) == NULL)
        return -1;
    ta_job *job = job_new(ls, NULL, func, NULL, 0, NULL);
    if (job == NULL)
        return -1;
    job->unwaited = true;
    job->work.first = leave;
    int rc = submit(ls, job);
    Py_DECREF(job);
    return rc;
}

/* -- of a loop -------------------------------------------------------------------------------- */

int ta_thread_pool_configure(ta_loop_state *ls, unsigned max_threads)
{
    if (pool_of(ls) == NULL)
        return -1;
    ta_work_queue_limit(&ls->pool->queue, max_threads ? max_threads : DEFAULT_THREADS);
    return 0;
}

ta_thread_pool_figures ta_thread_pool_look(const ta_loop_state *ls)
{
    ta_thread_pool_figures figures = {0};
    ta_thread_pool *pool = ls->pool;
    if (pool == NULL)
        return figures;
    figures.promoted = atomic_load_explicit(&pool->promoted, memory_order_relaxed);
    pthread_mutex_lock(&pool->queue.mutex);
    figures.queued = pool->queue.queued;
    figures.jobs = figures.queued + pool->queue.threads - pool->queue.idle;
    pthread_mutex_unlock(&pool->queue.mutex);
    return figures;
}

void ta_thread_pool_demoted(const ta_loop_state *ls)
{
    if (ls->pool != NULL)
        atomic_fetch_sub_explicit(&ls->pool->promoted, 1, memory_order_relaxed);
}

unsigned ta_thread_pool_active(const ta_loop_state *ls)
{
    ta_thread_pool *pool = ls->pool;
    if (pool == NULL)
        return 0;
    pthread_mutex_lock(&pool->queue.mutex);
    unsigned n = pool->queue.queued + pool->queue.threads - pool->queue.idle;
    pthread_mutex_unlock(&pool->queue.mutex);
    return n;
}

void ta_thread_pool_close(ta_loop_state *ls, unsigned wait_ms)
{
    ta_thread_pool *pool = ls->pool;
    if (pool == NULL)
        return;
    ls->pool = NULL;
    ta_work *work = ta_work_queue_close(&pool->queue);
    /* Nobody takes the results of the calls that run now.  A Task that waits for one waits forever,
     * as for an executor's when the loop is closed, and may be cancelled. */
    while (!ta_list_empty(&pool->waited)) {
        ta_job *waited = TA_CONTAINER_OF(pool->waited.next, ta_job, node);
        Py_DECREF(job_leave_waiter(waited));
    }
    while (work != NULL) {
        ta_work *next = work->next;
        Py_DECREF(job_of(work));
        work = next;
    }
    if (wait_ms > 0) {
        Py_BEGIN_ALLOW_THREADS
        ta_work_queue_wait(&pool->queue, wait_ms);
        Py_END_ALLOW_THREADS
    }
    Py_CLEAR(pool->aioloop);
    ta_thread_pool_unref(pool);
}

int ta_thread_pool_traverse(ta_loop_state *ls, visitproc visit, void *arg)
{
    if (ls->pool != NULL)
        Py_VISIT(ls->pool->aioloop);
    return 0;
}

/* Returns an attribute, or None when the library is missing or has changed. */
static PyObject *optional(const char *module, const char *attr)
{
    PyObject *res = ta_types_import(module, attr);
    if (res == NULL) {
        PyErr_Clear();
        res = Py_NewRef(Py_None);
    }
    return res;
}

int ta_thread_pool_init(PyObject *module, ta_state *st)
{
    ta_thread_pool_state *objects = &ta_loop_objects_of(st)->pool;
    if (ta_types_add(module, &job_spec, NULL, &objects->job_type) < 0 ||
        ta_types_add(module, &worker_spec, NULL, &objects->worker_type) < 0 ||
        ta_thread_token_init(module, st) < 0)
        return -1;
    objects->thread_class = ta_types_import("threading", "Thread");
    objects->threadlocals = optional("anyio._core._eventloop", "threadlocals");
    objects->anyio_run_sync = optional("anyio.to_thread", "run_sync");
    return objects->thread_class ? 0 : -1;
}
