/*
 * Connections under random use, against the plainest model: each direction is a known sequence of
 * bytes, of which none may be lost, doubled, damaged or out of order, whatever is called when.
 */
#include "conn_fixture.h"

enum { SEEDS = 120, STEPS = 250, FILE_BYTES = 200000 };

static uint64_t random_state;

static unsigned rnd(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

/* The byte at a place of either sequence. */
static char at(size_t place)
{
    return (char)(place * 2654435761u >> 13);
}

static void fill(char *to, size_t from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = at(from + i);
}

static void verify(const char *got, size_t from, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != at(from + i))
            FAIL("%s: byte %zu differs", what, from + i);
}

typedef struct walker {
    proto p;
    size_t sent, got; /* by the peer */
    size_t in, out;   /* by the connection */
    ta_buf body;      /* sink */
    size_t body_from; /* place of its first byte */
    size_t body_size; /* asked for */
    const char *pin;  /* pinned bytes */
    size_t pin_from, pin_len;
    int lent;     /* references not yet released */
    bool blocked; /* a write said TA_AGAIN and on_drain has not come */
    int drains;
} walker;

static int the_file;

static void take_some(walker *w)
{
    ta_conn *c = &w->p.c;
    ta_str s = ta_buf_str(&c->in);
    verify(s.ptr, w->in, s.len, "in");
    size_t n = rnd(3) ? s.len : rnd((unsigned)s.len + 1);
    if (n && !w->pin && rnd(4) == 0) {
        w->pin = s.ptr;
        w->pin_from = w->in;
        w->pin_len = n;
        ta_conn_consume_pinned(c, n);
    } else {
        ta_conn_consume(c, n);
    }
    w->in += n;
}

static void end_of_body(walker *w)
{
    verify(ta_buf_str(&w->body).ptr, w->body_from, w->body.len, "body");
    CHECK_INT(w->body.len, <=, w->body_size);
    w->in = w->body_from + w->body.len;
    ta_buf_free(&w->body);
    w->body_from = SIZE_MAX;
}

static void walker_data(proto *p)
{
    walker *w = TA_CONTAINER_OF(p, walker, p);
    if (w->body_from != SIZE_MAX) {
        if (ta_conn_sink_left(&p->c) == 0)
            end_of_body(w);
        if (p->c.in.len == 0)
            return;
    }
    take_some(w);
    if (rnd(8) == 0)
        ta_conn_pause(&p->c);
}

static void check_pin(walker *w)
{
    if (w->pin)
        verify(w->pin, w->pin_from, w->pin_len, "pinned");
}

typedef struct loan {
    walker *w;
    char *data;
} loan;

typedef struct offer {
    loan *loan;
    bool kept;
} offer;

static void *keep_loan(void *owner)
{
    offer *o = owner;
    CHECK(!o->kept);
    o->kept = true;
    return o->loan;
}

static void give_back(void *arg)
{
    loan *l = arg;
    l->w->lent--;
    free(l->data);
    free(l);
}

static void file_sent(void *arg, int error)
{
    walker *w = arg;
    CHECK(error == TA_OK || error == TA_ECLOSED);
    w->lent--;
}

static void write_some(walker *w)
{
    static char data[60000];
    ta_conn *c = &w->p.c;
    size_t n = rnd(5) ? rnd(900) : rnd(sizeof(data));
    int err = TA_OK;
    fill(data, w->out, n);
    switch (rnd(5)) {
    case 0: {
        size_t a = rnd((unsigned)n + 1), b = rnd((unsigned)(n - a) + 1);
        (void)ta_conn_write(c, data, a);
        (void)ta_conn_write(c, data + a, b);
        err = ta_conn_write(c, data + a + b, n - a - b);
        break;
    }
    case 1: {
        char *to = ta_conn_reserve(c, n + rnd(100));
        CHECK(to != NULL);
        memcpy(to, data, n);
        err = ta_conn_commit(c, n);
        break;
    }
    case 2: {
        loan *l = malloc(sizeof(*l));
        *l = (loan){w, malloc(n + 1)};
        memcpy(l->data, data, n);
        w->lent++;
        offer made = {.loan = l};
        ta_lender from = {keep_loan, give_back, &made};
        err = ta_conn_write_lent(c, ta_str_of(l->data, n), TA_STR(""), &from);
        if (!made.kept)
            give_back(l);
        break;
    }
    case 3:
        if (w->out + n <= FILE_BYTES) {
            w->lent++;
            err = ta_conn_sendfile(c, the_file, (int64_t)w->out, n, file_sent, w);
            break;
        }
        /* fall through */
    default:
        err = ta_conn_write(c, data, n);
    }
    CHECK(err == TA_OK || err == TA_AGAIN);
    if (err == TA_AGAIN)
        w->blocked = true;
    w->out += n;
}

static void peer_writes(walker *w)
{
    static char data[20000];
    size_t n = rnd(3) ? rnd(600) : rnd(sizeof(data));
    fill(data, w->sent, n);
    ssize_t k = peer_send(w->p.fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (k > 0)
        w->sent += (size_t)k;
}

static void peer_reads(walker *w)
{
    static char data[50000];
    ssize_t k = peer_recv(w->p.fd, data, 1 + rnd(sizeof(data) - 1), MSG_DONTWAIT);
    if (k > 0) {
        verify(data, w->got, (size_t)k, "out");
        w->got += (size_t)k;
    }
}

static void step(walker *w)
{
    ta_conn *c = &w->p.c;
    if (w->p.drains != w->drains) {
        CHECK(w->blocked);
        CHECK_INT(ta_conn_queued(c), <=, ta_conn_group_cfg(group)->write_high);
        w->drains = w->p.drains;
        w->blocked = false;
    }
    check_pin(w);
    switch (rnd(12)) {
    case 0:
    case 1:
        peer_writes(w);
        break;
    case 2:
    case 3:
        peer_reads(w);
        break;
    case 4:
    case 5:
        if (!w->blocked)
            write_some(w);
        break;
    case 6:
        ta_conn_pause(c);
        break;
    case 7:
        ta_conn_resume(c);
        break;
    case 8:
        CHECK(ta_conn_flush(c) != TA_ECLOSED);
        break;
    case 9:
        if (w->body_from == SIZE_MAX)
            take_some(w);
        break;
    case 10:
        w->pin = NULL;
        ta_conn_unpin(c);
        break;
    default:
        if (w->body_from == SIZE_MAX && c->in.len == 0 && rnd(3) == 0) {
            w->body_from = w->in;
            w->body_size = 1 + rnd(rnd(2) ? 100 : 30000);
            ta_conn_set_sink(c, &w->body, w->body_size);
        } else if (w->body_from != SIZE_MAX && rnd(4) == 0) {
            ta_conn_set_sink(c, NULL, 0);
            end_of_body(w);
        }
    }
    if (rnd(3) == 0)
        turn(0);
}

static void settle(walker *w)
{
    ta_conn *c = &w->p.c;
    uint64_t end = ms() + 8000;
    while (w->got < w->out || w->in + (w->body_from == SIZE_MAX ? 0 : w->body.len) < w->sent) {
        if (ms() > end)
            FAIL("stuck: in %zu of %zu, out %zu of %zu", w->in, w->sent, w->got, w->out);
        peer_reads(w);
        ta_conn_resume(c);
        if (w->body_from == SIZE_MAX && c->in.len)
            take_some(w);
        turn(1);
    }
    check_pin(w);
    turn(0);
    turn(0);
    CHECK_INT(ta_conn_queued(c), ==, 0);
    CHECK_INT(w->lent, ==, 0);
    if (w->blocked)
        CHECK_INT(w->p.drains, ==, w->drains + 1);
}

static void run_seed(unsigned seed)
{
    enum { N = 3 };
    walker w[N];
    random_state = seed * 7919u + 1;
    start((ta_conn_cfg){.read_size = 4096 << rnd(3),
                        .read_max = 8192 << rnd(4),
                        .write_high = 1000 << rnd(8),
                        .pool_buffers = 1 + rnd(4)});
    for (int i = 0; i < N; i++) {
        memset(&w[i], 0, sizeof(w[i]));
        if (rnd(2))
            open_pair(&w[i].p);
        else
            open_tcp(&w[i].p, rnd(2));
        w[i].p.on_data = walker_data;
        w[i].body_from = SIZE_MAX;
    }
    for (int i = 0; i < STEPS; i++)
        step(&w[rnd(N)]);
    for (int i = 0; i < N; i++) {
        proto *p = &w[i].p;
        if (rnd(4) == 0) { /* in the middle of it all */
            ta_conn_close(&p->c);
            CHECK_INT(w[i].lent, ==, 0);
        } else {
            settle(&w[i]);
            ta_conn_finish(&p->c, rnd(2));
            shutdown(p->fd, SHUT_WR);
        }
        UNTIL(p->closes == 1);
        CHECK_INT(p->timeouts, ==, 0);
        ta_buf_free(&w[i].body);
        done(p);
    }
    CHECK_INT(group->count, ==, 0);
    stop();
}

TA_TEST(random_use)
{
    char *data = malloc(FILE_BYTES), name[] = "/tmp/ta_conn_XXXXXX";
    the_file = mkstemp(name);
    CHECK(the_file >= 0);
    unlink(name);
    fill(data, 0, FILE_BYTES);
    CHECK_INT(write(the_file, data, FILE_BYTES), ==, FILE_BYTES);
    free(data);
    const char *only = getenv("TA_TEST_SEED");
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        if (only && seed != (unsigned)atoi(only))
            continue;
        snprintf(ta_test_note, sizeof(ta_test_note), "TA_TEST_SEED=%u", seed);
        ta_failmalloc f = {0};
        ta_failmalloc_start(&f);
        run_seed(seed);
        ta_mem_set_hooks(NULL);
        if (f.live)
            FAIL("%ld allocations leaked", f.live);
    }
}
