/* conn_int.h -- what conn.c (life, reading) and conn_write.c (the output queue) share.  Private. */
#ifndef TA_NET_CONN_INT_H
#define TA_NET_CONN_INT_H

#include "net/conn.h"

/* In order: later ones never go back. */
typedef enum ta_conn_state {
    CONN_OPENING, /* handshake */
    CONN_OPEN,
    CONN_FINISHING, /* sends what is queued, then ... */
    CONN_SHUTTING,  /* ... tells the peer so ... */
    CONN_LINGERING, /* ... and waits for its FIN */
    CONN_CLOSED     /* descriptor closed, on_close to come or over */
} ta_conn_state;

struct ta_conn_group {
    ta_loop *loop; /* borrowed: outlives the group */
    ta_conn_cfg cfg;
    ta_bufpool pool;
    ta_list_node conns;
    size_t count;
};

/* Ends the connection: descriptor closed now, on_close at the end of the batch.  rst: abortively.
 */
void ta_conn_fail(ta_conn *c, int reason, bool rst);
/* Watches what the state requires; no system call when that is watched already. */
void ta_conn_update_events(ta_conn *c);
/* Runs `later` at the end of the batch. */
static inline void ta_conn_schedule(ta_conn *c)
{
    ta_loop_defer_last(c->loop, &c->later);
}
/* Sends what it can.  TA_OK: all of it; TA_AGAIN; TA_ECLOSED: failed.  Makes no upcall but the
 * release and done functions of what was sent. */
int ta_conn_send_queue(ta_conn *c);
/* Accounts for what the peer has taken while output waits, and sets the timer to what is left of
 * its time.  False: nothing. */
bool ta_conn_pace(ta_conn *c);
/* on_drain if it is due; to be called where upcalls are allowed. */
void ta_conn_tell_drain(ta_conn *c);
/* Releases what is queued and not sent. */
void ta_conn_drop_queue(ta_conn *c);

#endif
