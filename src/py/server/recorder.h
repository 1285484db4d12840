/*
 * recorder.h -- what a server counts for metrics: in its slot of the shared memory (base/stats.h).
 *
 * Layer: py/server.  All of it on the server's thread.
 */
#ifndef TA_PY_SERVER_RECORDER_H
#define TA_PY_SERVER_RECORDER_H

#include "py/server/native_exchange.h"

typedef struct ta_recorder ta_recorder;

/* `stats` is a _core.Stats (kept), `slot` one that this thread has claimed.  NULL with an
 * exception. */
ta_recorder *ta_recorder_new(ta_server *server, PyObject *stats, unsigned slot);
void ta_recorder_free(ta_recorder *recorder); /* NULL allowed; while the server has its loop */

/* A request comes; notes.began is set. */
void ta_recorder_begin(ta_recorder *recorder, ta_req *req);
/* The table of routes has an entry for it. */
void ta_recorder_routed(ta_recorder *recorder, ta_native_exchange *native);
/* It is about to be closed. */
void ta_recorder_end(ta_recorder *recorder, ta_native_exchange *native, int status);
/* A WebSocket was accepted. */
void ta_recorder_websocket(ta_recorder *recorder);

#endif
