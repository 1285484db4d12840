/*
 * native_states.h -- the states of a native exchange, and the ways from one to another.
 *
 * Layer: py (L4).  One automaton for each concern, as they move independently: what the application
 * has taken of the body, its response, the client, who works on the request, and what the
 * application knows of the end.  Only the functions below move one, and they assert that the move
 * is in the drawing.
 */
#ifndef TA_PY_SERVER_NATIVE_STATES_H
#define TA_PY_SERVER_NATIVE_STATES_H

#include "base/ta_base.h"

/*
 * What Python has of the request's body.
 *
 *   NONE --> PART --> ALL        NONE --> ALL
 */
typedef enum ta_input_state {
    TA_INPUT_NONE, /* nothing yet */
    TA_INPUT_PART, /* receive() has given some of it */
    TA_INPUT_ALL   /* receive() or body() has given the end: next comes the disconnect */
} ta_input_state;

/* Some of it was given, `last` with its end. */
static inline void ta_input_given(ta_input_state *at, bool last)
{
    TA_ASSERT(last || *at != TA_INPUT_ALL);
    *at = last ? TA_INPUT_ALL : TA_INPUT_PART;
}

/*
 * The response.
 *
 *         begin           a piece, or end of batch           last piece
 *   NONE ---------> READY -------------------------> STREAM ------------> DONE
 *    | ^              ^                                                     ^
 *    | | dropped      | first piece                                         |
 *    | +------- HELD -+                                                     |
 *    |   begin   ^                                                          |
 *    +-----------+                                                          |
 *    +------------ whole ---------------------------------------------------+
 *    +------------ upgrade ---> UPGRADED
 *
 *   DONE --> NONE            the protocol refused a whole response: another one may come
 *   all but DONE --> LOST    it was broken off, or the request was closed
 *   LOST --> DONE            a whole response that nobody gets
 */
typedef enum ta_response_state {
    TA_RESPONSE_NONE,     /* not begun */
    TA_RESPONSE_HELD,     /* begun; the filters keep its head until they have seen a piece */
    TA_RESPONSE_READY,    /* the head goes out with the next piece, or at the end of the batch */
    TA_RESPONSE_STREAM,   /* the protocol was given the head */
    TA_RESPONSE_UPGRADED, /* 101: the connection is a WebSocket */
    TA_RESPONSE_DONE,     /* the application has sent all of it */
    TA_RESPONSE_LOST      /* what is missing of it will not be sent */
} ta_response_state;

/* Whether the drawing has a way. */
static inline bool ta_response_may(ta_response_state from, ta_response_state to)
{
#define TO(state) (1U << TA_RESPONSE_##state)
    static const uint8_t ways[] = {
        [TA_RESPONSE_NONE] = TO(HELD) | TO(READY) | TO(UPGRADED) | TO(DONE) | TO(LOST),
        [TA_RESPONSE_HELD] = TO(READY) | TO(NONE) | TO(LOST),
        [TA_RESPONSE_READY] = TO(STREAM) | TO(LOST),
        [TA_RESPONSE_STREAM] = TO(DONE) | TO(LOST),
        [TA_RESPONSE_UPGRADED] = TO(LOST),
        [TA_RESPONSE_DONE] = TO(NONE),
        [TA_RESPONSE_LOST] = TO(DONE),
    };
#undef TO
    return (ways[from] >> to & 1) != 0;
}

static inline void ta_response_move(ta_response_state *at, ta_response_state to)
{
    TA_ASSERT(ta_response_may(*at, to));
    *at = to;
}

/* Begun, and more of it is to come. */
static inline bool ta_response_is_open(ta_response_state at)
{
    return at >= TA_RESPONSE_HELD && at <= TA_RESPONSE_STREAM;
}

/* Nothing more of it will be sent. */
static inline bool ta_response_is_over(ta_response_state at)
{
    return at >= TA_RESPONSE_DONE;
}

/*
 * The client, as far as is known.
 *
 *   HERE <--> SILENT        HERE, SILENT --> GONE
 */
typedef enum ta_peer_state {
    TA_PEER_HERE,
    TA_PEER_SILENT, /* counts as disconnected (http.h: on_disconnect), and may still read */
    TA_PEER_GONE    /* nothing can be sent any more */
} ta_peer_state;

static inline void ta_peer_went_silent(ta_peer_state *at)
{
    if (*at == TA_PEER_HERE)
        *at = TA_PEER_SILENT;
}

/* A response begins: who only ended the sending side waits for it. */
static inline void ta_peer_is_answered(ta_peer_state *at, bool connection_gone)
{
    if (*at != TA_PEER_GONE)
        *at = connection_gone ? TA_PEER_SILENT : TA_PEER_HERE;
}

/*
 * Who works on the request.
 *
 *         begins         asks            ends
 *   NONE ---------> APP -------> ERROR_APP -----> OVER      APP -- ends --> OVER
 *     |                              ^
 *     | asks                         | begins
 *     +--------------> ASKING -------+
 *
 * error_app is asked at most once: within the failed Task or, when there was none, outside.  What
 * is answered without a Task stays in NONE, or in ASKING when error_app failed too.
 */
typedef enum ta_work_state {
    TA_WORK_NONE,      /* no Task (yet): a plan may be answered without one */
    TA_WORK_APP,       /* a Task runs the plan or the ASGI application */
    TA_WORK_ASKING,    /* error_app is being called, for the first Task */
    TA_WORK_ERROR_APP, /* error_app was called within a Task, or is what the Task runs */
    TA_WORK_OVER       /* the Task has ended, or none could be made */
} ta_work_state;

static inline bool ta_work_has_task(ta_work_state at)
{
    return at == TA_WORK_APP || at == TA_WORK_ERROR_APP;
}

static inline void ta_work_begins(ta_work_state *at)
{
    TA_ASSERT(*at == TA_WORK_NONE || *at == TA_WORK_ASKING);
    *at = *at == TA_WORK_NONE ? TA_WORK_APP : TA_WORK_ERROR_APP;
}

static inline void ta_work_asks(ta_work_state *at)
{
    TA_ASSERT(*at == TA_WORK_NONE || *at == TA_WORK_APP);
    *at = *at == TA_WORK_NONE ? TA_WORK_ASKING : TA_WORK_ERROR_APP;
}

static inline void ta_work_ends(ta_work_state *at)
{
    TA_ASSERT(ta_work_has_task(*at));
    *at = TA_WORK_OVER;
}

/*
 * What the application knows of the end.
 *
 *         hears
 *   NONE ---------> HEARD
 *     | due           | due         all --> NONE   a response begins while the server ends: it has
 *     v               v                            a period of grace of its own
 *    DUE ----------> TOLD
 *         hears
 */
typedef enum ta_end_state {
    TA_END_NONE,
    TA_END_HEARD, /* the application was told that its client has disconnected */
    TA_END_DUE,   /* the server ends: the client counts as gone, the application does not know */
    TA_END_TOLD   /* the same, and it was told */
} ta_end_state;

static inline void ta_end_hears(ta_end_state *at)
{
    if (*at == TA_END_NONE || *at == TA_END_DUE)
        *at = *at == TA_END_NONE ? TA_END_HEARD : TA_END_TOLD;
}

static inline void ta_end_falls_due(ta_end_state *at)
{
    if (*at == TA_END_NONE || *at == TA_END_HEARD)
        *at = *at == TA_END_NONE ? TA_END_DUE : TA_END_TOLD;
}

/* The server ends, and the client counts as gone. */
static inline bool ta_end_is_due(ta_end_state at)
{
    return at >= TA_END_DUE;
}

#endif
