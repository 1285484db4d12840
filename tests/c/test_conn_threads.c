/* Threads with a loop each that share a listening socket, as a free-threaded server runs. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "listen_fixture.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/wake.h"
#include "ta_test.h"

enum { THREADS = 3, CLIENTS = 2, DIALS = 150 };

typedef struct server {
    pthread_t thread;
    int fd; /* borrowed: shared by all */
    ta_loop *loop;
    ta_conn_group *group;
    ta_wake *wake;
    ta_wake_item stop;
    bool stopping;
    int accepted, closed; /* of this thread alone */
} server;

static atomic_int ready_servers;
static uint16_t port;

static void echo(ta_conn *c)
{
    ta_str s = ta_buf_str(&c->in);
    ta_conn_set_deadline(c, 5000);
    (void)ta_conn_write(c, s.ptr, s.len);
    ta_conn_consume(c, s.len);
}

static void gone(ta_conn *c, int reason)
{
    ((server *)c->proto)->closed++;
    ta_free(c);
}

static const ta_conn_ops echo_ops = {.on_data = echo, .on_close = gone};

static void on_accept(ta_listener *l, int fd, const struct sockaddr *peer, socklen_t len)
{
    server *s = ta_listener_ctx(l);
    ta_conn *c = ta_malloc(sizeof(*c));
    if (!c || ta_conn_open(c, s->group, fd, peer, len, NULL, &echo_ops, s) < 0)
        FAIL("open");
    s->accepted++;
}

static const ta_listener_ops ops = {.on_accept = on_accept};

static void on_stop(ta_wake_item *item)
{
    TA_CONTAINER_OF(item, server, stop)->stopping = true;
}

static void *serve(void *arg)
{
    server *s = arg;
    s->loop = ta_loop_new(ta_test_with_poll() ? TA_BACKEND_POLL : TA_BACKEND_EPOLL);
    s->group = ta_conn_group_new(s->loop, NULL);
    s->wake = ta_wake_new(s->loop);
    ta_listener *l = ta_listener_new(s->loop, s->fd, TA_LISTENER_SHARED, 0, &ops, s);
    if (!l)
        FAIL("listener");
    atomic_fetch_add(&ready_servers, 1);
    while (!s->stopping) {
        ta_ready ready[1];
        if (ta_loop_poll(s->loop, -1, ready, TA_LOOP_BATCH, NULL) < 0)
            FAIL("poll");
    }
    ta_listener_free(l);
    ta_conn_group_free(s->group);
    ta_wake_free(s->wake);
    ta_loop_free(s->loop);
    return NULL;
}

static void *dial(void *arg)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < DIALS; i++) {
        char got[20];
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
            FAIL("connect: %s", strerror(errno));
        for (int k = 0; k < 3; k++) {
            if (send(fd, "hello", 5, MSG_NOSIGNAL) != 5 || recv(fd, got, 5, MSG_WAITALL) != 5 ||
                memcmp(got, "hello", 5) != 0)
                FAIL("no echo");
        }
        close(fd);
    }
    return NULL;
}

TA_TEST(shared_listener)
{
    int fd = ta_test_listen(&port), accepted = 0;
    static server servers[THREADS];
    pthread_t clients[CLIENTS];
    for (int i = 0; i < THREADS; i++) {
        servers[i] = (server){.fd = fd, .stop = {.fn = on_stop}};
        CHECK(pthread_create(&servers[i].thread, NULL, serve, &servers[i]) == 0);
    }
    while (atomic_load(&ready_servers) < THREADS)
        usleep(1000);
    for (int i = 0; i < CLIENTS; i++)
        CHECK(pthread_create(&clients[i], NULL, dial, NULL) == 0);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(clients[i], NULL);
    for (int i = 0; i < THREADS; i++)
        ta_wake_post(servers[i].wake, &servers[i].stop);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(servers[i].thread, NULL);
        CHECK_INT(servers[i].closed, ==, servers[i].accepted);
        accepted += servers[i].accepted;
    }
    CHECK_INT(accepted, ==, CLIENTS * DIALS);
    close(fd);
}
