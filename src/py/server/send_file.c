/*
 * send_file.c -- files as bodies: http.response.pathsend, and FileResponses of plans that send it.
 *
 * Layer: py (L4).
 */
#include "py/server/native_int.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A descriptor of the regular file at that path (a str, bytes or os.PathLike).  -1 with an
 * exception. */
static int open_regular(PyObject *path, int64_t *size)
{
    PyObject *fs = NULL;
    struct stat sb;
    if (!PyUnicode_FSConverter(path, &fs))
        return -1;
    int fd = open(PyBytes_AS_STRING(fs), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &sb) < 0) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, fs);
        goto error;
    }
    if (!S_ISREG(sb.st_mode)) {
        PyErr_SetString(PyExc_RuntimeError, "http.response.pathsend: not a regular file");
        goto error;
    }
    Py_DECREF(fs);
    *size = sb.st_size;
    return fd;
error:
    if (fd >= 0)
        close(fd);
    Py_DECREF(fs);
    return -1;
}

ta_outcome ta_send_file_message(ta_native_exchange *x, PyObject *message)
{
    int64_t size;
    PyObject *path = ta_asgi_io_need_item(message, x->st->names.path);
    int fd = path ? open_regular(path, &size) : -1;
    Py_XDECREF(path);
    return fd < 0 ? TA_FAILED : ta_response_file(x, fd, 0, size);
}

/* -- FileResponses of plans
 * ------------------------------------------------------------------------ */

bool ta_send_file_is(ta_state *st, PyObject *response)
{
    PyObject *call = PyObject_GetAttr((PyObject *)Py_TYPE(response), st->names.dunder_call);
    if (call == NULL)
        PyErr_Clear();
    Py_XDECREF(call);
    return call == ta_server_objects_of(st)->native_exchange.file_call;
}

/* scope["extensions"]["http.response.pathsend"] = {}.  0 or -1. */
static int offer_pathsend(const ta_names_state *names, PyObject *scope)
{
    PyObject *extensions = NULL, *offer = NULL, *empty = NULL;
    int rc = -1;
    if (PyDict_GetItemRef(scope, names->extensions, &extensions) < 0)
        return -1;
    /* Copied: it is shared with the scope that Python has. */
    offer = extensions != NULL && PyDict_Check(extensions) ? PyDict_Copy(extensions) : PyDict_New();
    empty = offer ? PyDict_New() : NULL;
    if (empty != NULL && PyDict_SetItem(offer, names->http_response_pathsend, empty) == 0)
        rc = PyDict_SetItem(scope, names->extensions, offer);
    Py_XDECREF(empty);
    Py_XDECREF(offer);
    Py_XDECREF(extensions);
    return rc;
}

/*
 * Nothing is between the response and us, so it may send the file by its path.  The scope of the
 * request does not offer that, since the application may use that scope with a send of its own.
 */
PyObject *ta_send_file_call(ta_native_exchange *native, PyObject *response)
{
    PyObject *own = ta_scope_of(&native->base), *res = NULL;
    PyObject *scope = own ? PyDict_Copy(own) : NULL;
    Py_XDECREF(own);
    if (scope == NULL)
        return NULL;
    if (offer_pathsend(&native->st->names, scope) < 0)
        goto done;
    PyObject *receive = ta_asgi_io_receive(&native->base);
    PyObject *send = receive ? ta_asgi_io_send(&native->base) : NULL;
    if (send != NULL) {
        PyObject *args[] = {NULL, scope, receive, send};
        res = PyObject_Vectorcall(response, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    }
    Py_XDECREF(send);
    Py_XDECREF(receive);
done:
    Py_DECREF(scope);
    return res;
}
