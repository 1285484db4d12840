/*
 * h1/peer.c -- whether a client that has ended its sending side still reads.  See h1/h1_int.h.
 *
 * A FIN looks the same whether the client has closed its socket or only its sending side
 * (shutdown(2), `nc -N`), which leaves it waiting for the response.  The difference shows when
 * something reaches it: a closed socket answers with RST, which ends the connection here.  A FIN in
 * the middle of a response therefore means nothing as long as something is being sent.  If nothing
 * is, a chunked body can probe: the next chunk-size may begin with a zero (RFC 9112 7.1: 1*HEXDIG),
 * so that zero is sent ahead.  Any other body has a second to send something, and a response that
 * has not begun a quarter of one; then the client counts as disconnected, as it does at once under
 * other servers, because a handler that asks must get an answer.  A response that begins after all
 * finds out anew.
 */
#include "http/h1/h1_int.h"

static bool side_ended(const h1_conn *h)
{
    return h->peer_ended || (h->peer_ending && h->rq->req.body_eof);
}

static void ask(h1_conn *h, h1_req *rq)
{
    if (rq->resp_started && ta_conn_unacknowledged(&h->net)) {
        rq->reader = H1_READER_THERE;
    } else if (rq->resp_chunked) {
        rq->reader = H1_READER_THERE;
        (void)ta_conn_write(&h->net, "0", 1);
    } else {
        rq->reader = H1_READER_ASKED;
        rq->fin_at = h->net.bytes_out;
        h1_arm(h, H1_ARMED_READER);
    }
}

bool h1_peer_gone(h1_conn *h)
{
    h1_req *rq = h->rq;
    if (h->state == H1_GONE || rq->reader == H1_READER_GONE)
        return true;
    if (!side_ended(h) || rq->reader == H1_READER_THERE)
        return false;
    if (!rq->req.body_eof) /* nobody waits for the response to a part of a request */
        return true;
    if (rq->reader == H1_READER_UNKNOWN && !h->net.closed)
        ask(h, rq);
    return false;
}

void h1_peer_verdict(h1_conn *h)
{
    h1_req *rq = h->rq;
    bool sent = h->net.bytes_out != rq->fin_at || ta_conn_queued(&h->net);
    rq->reader = sent ? H1_READER_THERE : H1_READER_GONE;
}

void h1_peer_answered(h1_req *rq)
{
    if (rq->conn->state == H1_GONE || !side_ended(rq->conn) || !rq->req.body_eof)
        return;
    rq->reader = H1_READER_THERE; /* the head that is being sent will show it */
    rq->disconnect_told = rq->req.disconnected = false;
}
