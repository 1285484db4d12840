/*
 * server_objects.h -- the Python objects that layer server keeps in the module's state; see
 * support/state.h.
 *
 * Layer: py/server.
 */
#ifndef TA_PY_SERVER_SERVER_OBJECTS_H
#define TA_PY_SERVER_SERVER_OBJECTS_H

#include "py/plan/plan_objects.h"

/* native_exchange.c */
typedef struct ta_native_exchange_state {
    PyObject *spare_receives, *spare_sends; /* spares.h: calls of receive() and send() */
    PyTypeObject *type;
    PyTypeObject *body_type, *receive_type, *send_type;
    PyObject *file_call; /* starlette.responses.FileResponse.__call__ */
} ta_native_exchange_state;

/* file_reply.c */
typedef struct ta_file_reply_state {
    PyObject *mimetypes;  /* the module */
    PyObject *mime_types; /* its MimeTypes */
    PyObject *guess_type;
} ta_file_reply_state;

/* file_response.c */
typedef struct ta_file_response_state {
    PyObject *type;              /* starlette.responses.FileResponse */
    PyObject *names, *functions; /* tuples: its methods */
} ta_file_response_state;

/* path_text.c */
typedef struct ta_path_text_state {
    PyTypeObject *type; /* pathlib.PosixPath */
    PyObject *guards;   /* of its methods; NULL: its text is always pathlib's */
} ta_path_text_state;

/* static_files.c */
typedef struct ta_static_files_state {
    PyTypeObject *type;
} ta_static_files_state;

/* streaming_response.c */
typedef struct ta_streamer_state {
    PyTypeObject *type;
    PyObject *response_type; /* starlette.responses.StreamingResponse, and its functions */
    PyObject *call, *stream_response, *listen_for_disconnect;
    PyObject *current_task;  /* asyncio.current_task */
    PyObject *in_threadpool; /* the code of starlette.concurrency.iterate_in_threadpool */
} ta_streamer_state;

/* websocket.c */
typedef struct ta_websocket_state {
    PyObject *client_disconnected; /* the exception class */
} ta_websocket_state;

/* app.c, server.c, filters.c, inner_filter.c, inner_gzip.c, tls_object.c, log_writer.c,
 * stats_object.c */
typedef struct ta_server_types {
    PyTypeObject *app_type;
    PyTypeObject *server_type;
    PyTypeObject *pack_job_type;
    PyTypeObject *tls_type;
    PyTypeObject *log_writer_type;
    PyTypeObject *stats_type;
    PyTypeObject *inner_filter_type, *cors_send_type;
    PyTypeObject *gzip_send_type, *gzip_sending_type;
    PyObject *spare_gzip_sendings; /* spares.h */
} ta_server_types;

typedef struct ta_server_objects {
    ta_native_exchange_state native_exchange;
    ta_file_reply_state file_reply;
    ta_file_response_state file_response;
    ta_path_text_state path_text;
    ta_static_files_state static_files;
    ta_streamer_state stream;
    ta_websocket_state ws;
    ta_server_types server;
} ta_server_objects;

/* The state as this layer sees it. */
typedef struct ta_server_module_state {
    ta_plan_module_state below;
    ta_server_objects objects;
} ta_server_module_state;

static inline ta_server_objects *ta_server_objects_of(ta_state *st)
{
    return &((ta_server_module_state *)st)->objects;
}

/* Each fills its file's objects and adds its public types: 0, or -1 with an exception. */
int ta_app_init(PyObject *module, ta_state *st);                /* app.c */
int ta_pack_filter_init(PyObject *module, ta_state *st);        /* pack_filter.c */
int ta_inner_filter_init(PyObject *module, ta_state *st);       /* inner_filter.c */
int ta_packer_init(PyObject *module, ta_state *st);             /* packer.c */
int ta_unpacker_init(PyObject *module, ta_state *st);           /* unpacker.c */
int ta_native_exchange_init(PyObject *module, ta_state *st);    /* native_exchange.c */
int ta_file_reply_init(PyObject *module, ta_state *st);         /* file_reply.c */
int ta_file_response_init(PyObject *module, ta_state *st);      /* file_response.c */
int ta_path_text_init(PyObject *module, ta_state *st);          /* path_text.c */
int ta_response_init_init(PyObject *module, ta_state *st);      /* response_init.c */
int ta_static_files_init(PyObject *module, ta_state *st);       /* static_files.c */
int ta_request_body_init(PyObject *module, ta_state *st);       /* request_body.c */
int ta_streaming_response_init(PyObject *module, ta_state *st); /* streaming_response.c */
int ta_asgi_io_init(PyObject *module, ta_state *st);            /* asgi_io.c */
int ta_websocket_init(PyObject *module, ta_state *st);          /* websocket.c */
int ta_tls_object_init(PyObject *module, ta_state *st);         /* tls_object.c */
int ta_log_writer_init(PyObject *module, ta_state *st);         /* log_writer.c */
int ta_stats_object_init(PyObject *module, ta_state *st);       /* stats_object.c */
int ta_server_init(PyObject *module, ta_state *st);             /* server.c */

#endif
