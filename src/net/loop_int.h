/* loop_int.h -- what loop.c shares with its backends.  Private to net/. */
#ifndef TA_NET_LOOP_INT_H
#define TA_NET_LOOP_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "net/loop.h"

/* One ready descriptor, as a backend reports it. */
typedef struct ta_event {
    int fd;
    uint32_t gen; /* of the registration that it belongs to */
    unsigned events;
} ta_event;

/*
 * A backend keeps the system's side of the registrations; loop.c knows who owns a descriptor.
 * `foreign` ones are watched as selectors.EpollSelector does: without TA_EV_HUP.
 * Results: TA_OK, TA_ESYS (errno), TA_ENOMEM.
 */
typedef struct ta_backend_ops {
    int (*init)(ta_loop *loop); /* sets loop->backend */
    void (*free)(ta_loop *loop);
    int (*add)(ta_loop *loop, int fd, uint32_t gen, unsigned events, bool foreign);
    int (*mod)(ta_loop *loop, int fd, uint32_t gen, unsigned events, bool foreign);
    int (*del)(ta_loop *loop, int fd);
    /* At most cap (<= TA_LOOP_BATCH) events; none is starved by others that are always ready. */
    int (*wait)(ta_loop *loop, int timeout_ms, ta_event *out, int cap);
} ta_backend_ops;

extern const ta_backend_ops ta_loop_epoll;
extern const ta_backend_ops ta_loop_poll_ops;

typedef enum ta_slot_kind { TA_SLOT_FREE, TA_SLOT_OWN, TA_SLOT_FOREIGN } ta_slot_kind;

/* Who owns a descriptor number now. */
typedef struct ta_slot {
    ta_io *io;      /* borrowed; NULL when foreign */
    uint32_t gen;   /* changes with each registration: an event of an older one is stale */
    uint8_t kind;   /* ta_slot_kind */
    uint8_t events; /* watched now */
} ta_slot;

struct ta_loop {
    const ta_backend_ops *ops;
    void *backend;  /* owned by the backend */
    ta_slot *slots; /* owned; by descriptor number */
    unsigned nslots;
    int fd;               /* the epoll descriptor, or -1 */
    int timer_fd;         /* nested under another loop; else -1 */
    uint64_t timer_fd_at; /* what it is armed for; 0: not armed */
    uint64_t now;
    /* For other threads, see ta_loop_held: `now`, doubled, and 1 more while it waits. */
    _Atomic uint64_t pulse;
    _Atomic uint64_t highest; /* see ta_loop_highest */
    ta_timers *timers;        /* owned */
    /* Calls at the end of the batch; `turns`: of connections; `last`: after all others. */
    ta_list_node deferred, turns, last;
    ta_list_node next; /* calls in the next batch */
    uint64_t batch;    /* its number */
    bool turning;      /* `turns` are being called */
    ta_loop_hooks hooks;
    unsigned budget_us; /* of a batch; 0: no bound */
    unsigned pending;   /* events of the batch that come after the one that is served */
    uint64_t end_us;    /* of the batch's budget */
    int nleft;          /* events of ours that the last batch had no time for */
    ta_event left[TA_LOOP_BATCH];
    bool in_poll;
#ifndef NDEBUG
    pthread_t poller; /* while in_poll: the thread whose loop it is */
#endif
};

#endif
