/*
 * path_text.c -- the text of a path-like object; that of a pathlib.Path without pathlib.
 *
 * Layer: py (L4).  `directory / name` is what handlers give to FileResponse.  Its text is made when
 * it is first asked for, by splitting the path and joining it again, which takes longer than all
 * else that a request for a file needs.  Here the parts that the Path was made of are joined; only
 * where that is what pathlib would return, too.
 */
#include "py/server/native_int.h"

#include "py/support/attributes.h"
#include "py/support/types.h"

enum { PATH_TEXT_MAX = 1024 }; /* bytes; longer ones are for pathlib */

/* Adds a part as posixpath.join does.  False: too long, or not ASCII. */
static bool join(char *text, size_t *len, PyObject *part)
{
    if (!PyUnicode_CheckExact(part) || !PyUnicode_IS_ASCII(part))
        return false;
    const char *from = PyUnicode_DATA(part);
    size_t n = (size_t)PyUnicode_GET_LENGTH(part);
    if (n > 0 && from[0] == '/')
        *len = 0;
    bool slash = *len > 0 && text[*len - 1] != '/';
    if (*len + slash + n > PATH_TEXT_MAX)
        return false;
    if (slash)
        text[(*len)++] = '/';
    memcpy(text + *len, from, n);
    *len += n;
    return true;
}

/* Whether pathlib leaves it as it is: no empty components, and none that is a dot. */
static bool is_normal(const char *text, size_t len)
{
    size_t begin = len > 0 && text[0] == '/';
    for (size_t i = begin; i <= len; i++) {
        if (i < len && text[i] != '/')
            continue;
        if (i == begin || (i == begin + 1 && text[begin] == '.'))
            return false;
        begin = i + 1;
    }
    return true;
}

/* A new reference, or NULL, without an exception. */
static PyObject *joined(ta_state *st, PyObject *path)
{
    char text[PATH_TEXT_MAX];
    size_t len = 0;
    PyObject *parts = PyObject_GetAttr(path, st->names.private_raw_paths), *result = NULL;
    bool usual = parts != NULL && PyList_CheckExact(parts);
    if (parts == NULL)
        PyErr_Clear();
    if (usual) {
        /* Some versions of pathlib replace the parts by their joined text when they know it. */
        Py_BEGIN_CRITICAL_SECTION(parts);
        for (Py_ssize_t i = 0; usual && i < PyList_GET_SIZE(parts); i++)
            usual = join(text, &len, PyList_GET_ITEM(parts, i));
        Py_END_CRITICAL_SECTION();
    }
    if (usual && is_normal(text, len) &&
        (result = PyUnicode_FromStringAndSize(text, (Py_ssize_t)len)) == NULL)
        PyErr_Clear();
    Py_XDECREF(parts);
    return result;
}

PyObject *ta_path_text(ta_state *st, PyObject *path)
{
    const ta_path_text_state *objects = &ta_server_objects_of(st)->path_text;
    PyObject *text = NULL;
    if (objects->guards != NULL && Py_IS_TYPE(path, objects->type) &&
        ta_attributes_hold(objects->guards))
        text = joined(st, path);
    return text ? text : PyOS_FSPath(path);
}

static PyObject *path_text(PyObject *module, PyObject *path)
{
    return ta_path_text(ta_state_of_module(module), path);
}

static PyMethodDef functions[] = {
    {"path_text", path_text, METH_O,
     "path_text($module, path, /)\n--\n\nReturn what os.fspath does."},
    {NULL},
};

/* Whether that is a function of pathlib. */
static bool is_pathlibs(PyObject *function)
{
    PyObject *module = PyObject_GetAttrString(function, "__module__");
    const char *name = module && PyUnicode_Check(module) ? PyUnicode_AsUTF8(module) : NULL;
    bool found = name && (strcmp(name, "pathlib") == 0 || strncmp(name, "pathlib.", 8) == 0);
    PyErr_Clear();
    Py_XDECREF(module);
    return found;
}

/* *out is a guard of the type's method, or NULL if somebody has replaced it.  0, or -1. */
static int guard(PyObject *type, const char *name, PyObject **out)
{
    PyObject *value = PyObject_GetAttrString(type, name);
    *out = value && is_pathlibs(value) ? Py_BuildValue("(OsO)", type, name, value) : NULL;
    Py_XDECREF(value);
    return PyErr_Occurred() ? -1 : 0;
}

int ta_path_text_init(PyObject *module, ta_state *st)
{
    ta_path_text_state *objects = &ta_server_objects_of(st)->path_text;
    PyObject *type = ta_types_import("pathlib", "PosixPath");
    if (type == NULL)
        return -1;
    objects->type = (PyTypeObject *)type;
    /* Python 3.11 keeps the components instead, and makes the text of them at once. */
    if (PyObject_HasAttr(type, st->names.private_raw_paths)) {
        PyObject *fspath, *str = NULL;
        if (guard(type, "__fspath__", &fspath) == 0 && guard(type, "__str__", &str) == 0 &&
            fspath != NULL && str != NULL)
            objects->guards = PyTuple_Pack(2, fspath, str);
        Py_XDECREF(fspath);
        Py_XDECREF(str);
        if (PyErr_Occurred())
            return -1;
    }
    return PyModule_AddFunctions(module, functions);
}
