/* TLS: connections whose peer is an OpenSSL client in the same thread. */
#include "conn_fixture.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "net/tls.h"
#include "net/tls_int.h" /* keys of tickets, which otherwise change by the clock */

static char certfile[64], otherfile[64];

/* A certificate that signs itself, and its key, in a new file. */
static void write_pair(char *path, const char *name, long ends)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    CHECK(key != NULL && cert != NULL);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), ends);
    X509_set_pubkey(cert, key);
    X509_NAME *subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, subject);
    CHECK(X509_sign(cert, key, EVP_sha256()) > 0);
    strcpy(path, "/tmp/ta_test_tls_XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    FILE *f = fdopen(fd, "w");
    CHECK(PEM_write_X509(f, cert) == 1);
    CHECK(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void set_up(void)
{
    start((ta_conn_cfg){0});
    write_pair(certfile, "one.example", 3600);
    write_pair(otherfile, "two.example", 3600);
}

static void tear_down(void)
{
    unlink(certfile);
    unlink(otherfile);
    stop();
}

static ta_tls *make(ta_tls_cfg cfg)
{
    ta_tls_pair pairs[] = {{certfile, NULL}, {otherfile, NULL}};
    ta_tls_error error;
    cfg.pairs = pairs;
    cfg.npairs = 2;
    ta_tls *tls = ta_tls_new(&cfg, &error);
    CHECK(tls != NULL);
    return tls;
}

typedef struct client {
    proto p;
    SSL_CTX *ctx;
    SSL *ssl;
} client;

static void open_client(client *c, ta_tls *tls, const ta_log *log)
{
    int fds[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    ta_transport *t = ta_tls_accept(tls, fds[0], log);
    CHECK(t != NULL);
    open_fd(&c->p, fds[0], fds[1], t, &ops);
    c->ctx = SSL_CTX_new(TLS_client_method());
    c->ssl = SSL_new(c->ctx);
    CHECK(SSL_set_fd(c->ssl, fds[1]) == 1);
    SSL_set_connect_state(c->ssl);
}

static void close_client(client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    close(c->p.fd);
    UNTIL(c->p.closes == 1);
    ta_buf_free(&c->p.got);
}

/* Lets both sides go on until the call of OpenSSL is done; what it returned. */
#define PUMP(rc, call)                                                                             \
    do {                                                                                           \
        ERR_clear_error();                                                                         \
        rc = (call);                                                                               \
        int error = rc > 0 ? SSL_ERROR_NONE : SSL_get_error(c.ssl, rc);                            \
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)                         \
            break;                                                                                 \
        turn(1);                                                                                   \
    } while (true)

TA_TEST(bytes_both_ways)
{
    set_up();
    ta_tls *tls = make((ta_tls_cfg){.alpn = TA_STR("\x08http/1.1")});
    client c;
    int rc;
    open_client(&c, tls, NULL);
    ta_tls_unref(tls); /* the connection keeps it */
    CHECK(SSL_set_alpn_protos(c.ssl, (const unsigned char *)"\x08http/1.1", 9) == 0);
    PUMP(rc, SSL_do_handshake(c.ssl));
    CHECK_INT(rc, ==, 1);
    UNTIL(c.p.opens == 1);
    CHECK_STR(ta_conn_alpn(&c.p.c), "http/1.1");
    CHECK(ta_conn_secure(&c.p.c));
    PUMP(rc, SSL_write(c.ssl, "hello", 5));
    UNTIL(c.p.got.len == 5);
    CHECK_STR(ta_buf_str(&c.p.got), "hello");
    /* More than fits anywhere, in one call and in many small ones. */
    enum { SIZE = 3000000 };
    char *big = malloc(SIZE), *got = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        big[i] = (char)(i * 2654435761u >> 13);
    CHECK_INT(ta_conn_write(&c.p.c, big, SIZE / 2), >=, TA_AGAIN);
    for (size_t at = SIZE / 2; at < SIZE; at += 1000)
        CHECK_INT(ta_conn_write(&c.p.c, big + at, TA_MIN(1000, SIZE - at)), >=, TA_AGAIN);
    for (size_t at = 0; at < SIZE; at += (size_t)rc) {
        PUMP(rc, SSL_read(c.ssl, got + at, (int)TA_MIN(SIZE - at, 10007)));
        CHECK_INT(rc, >, 0);
    }
    CHECK_MEM(got, big, SIZE);
    free(big);
    free(got);
    ta_conn_finish(&c.p.c, false);
    char end;
    PUMP(rc, SSL_read(c.ssl, &end, 1));
    CHECK_INT(SSL_get_error(c.ssl, rc), ==, SSL_ERROR_ZERO_RETURN); /* close_notify */
    close_client(&c);
    CHECK_INT(c.p.reason, ==, TA_OK);
    tear_down();
}

static bool no_certificate(void *arg, ta_str pem)
{
    (void)arg;
    (void)pem;
    CHECK(false);
    return false;
}

TA_TEST(what_was_agreed_on)
{
    set_up();
    ta_tls *tls = make((ta_tls_cfg){.tls13_only = true});
    client c;
    int rc;
    ta_tls_info info;
    char name[64];
    open_client(&c, tls, NULL);
    CHECK(SSL_set_tlsext_host_name(c.ssl, "two.example") == 1);
    PUMP(rc, SSL_do_handshake(c.ssl));
    UNTIL(c.p.opens == 1);
    const ta_transport *t = c.p.c.transport;
    CHECK(ta_tls_info_of(t, &info));
    CHECK_INT(info.version, ==, 0x0304);
    CHECK_INT(info.cipher >> 8, ==, 0x13);
    CHECK_INT(t->tls_version, ==, 0x0304);
    CHECK(strncmp(t->tls_cipher, "TLS_", 4) == 0);
    ta_str shown_pem = ta_tls_server_certificate(t);
    CHECK(shown_pem.len > 27 && memcmp(shown_pem.ptr, "-----BEGIN CERTIFICATE-----", 27) == 0);
    CHECK(ta_tls_client_certificates(t, no_certificate, NULL));
    CHECK(!ta_tls_client_name(t, name, sizeof(name)));
    CHECK(!ta_tls_info_of(&c.p.c.tcp, &info));
    X509 *shown = SSL_get0_peer_certificate(c.ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(shown), NID_commonName, name, sizeof(name));
    CHECK(strcmp(name, "two.example") == 0);
    int64_t ends;
    CHECK(ta_tls_expires(tls, 1, &ends) && ends > (int64_t)time(NULL) + 3000);
    CHECK(!ta_tls_expires(tls, 2, &ends));
    close_client(&c);
    ta_tls_unref(tls);
    tear_down();
}

/* One handshake of TLS 1.2, with `session` if there is one.  Gives its session, and whether it was
 * resumed. */
static SSL_SESSION *shake_hands(ta_tls *tls, SSL_SESSION *session, bool *resumed)
{
    client c;
    int rc;
    open_client(&c, tls, NULL);
    CHECK(SSL_set_max_proto_version(c.ssl, TLS1_2_VERSION) == 1);
    if (session)
        CHECK(SSL_set_session(c.ssl, session) == 1);
    PUMP(rc, SSL_do_handshake(c.ssl));
    CHECK_INT(rc, ==, 1);
    UNTIL(c.p.opens == 1);
    *resumed = SSL_session_reused(c.ssl) == 1;
    SSL_SESSION *got = SSL_get1_session(c.ssl);
    CHECK(got != NULL && SSL_SESSION_has_ticket(got));
    SSL_SESSION_free(session);
    SSL_set_shutdown(c.ssl, SSL_SENT_SHUTDOWN); /* or SSL_free() forbids to resume it */
    close_client(&c);
    return got;
}

static bool has_same_ticket(SSL_SESSION *session, const char *before, size_t len)
{
    const unsigned char *ticket;
    size_t n;
    SSL_SESSION_get0_ticket(session, &ticket, &n);
    return n == len && memcmp(ticket, before, n) == 0;
}

/* Moves the keys on as the end of a period does. */
static void end_period(ta_tls *tls)
{
    tls->tickets.keys[1] = tls->tickets.keys[0];
    CHECK(RAND_bytes((unsigned char *)&tls->tickets.keys[0], sizeof(ta_ticket_key)) == 1);
}

TA_TEST(tickets_are_good_until_the_period_after_theirs)
{
    set_up();
    ta_tls *tls = make((ta_tls_cfg){0});
    bool resumed;
    char first[1024];
    const unsigned char *ticket;
    size_t len;
    SSL_SESSION *session = shake_hands(tls, NULL, &resumed);
    CHECK(!resumed);
    CHECK(tls->tickets.period > 0);
    SSL_SESSION_get0_ticket(session, &ticket, &len);
    CHECK(len <= sizeof(first));
    memcpy(first, ticket, len);
    session = shake_hands(tls, session, &resumed);
    CHECK(resumed && has_same_ticket(session, first, len));
    end_period(tls);
    session = shake_hands(tls, session, &resumed);
    CHECK(resumed && !has_same_ticket(session, first, len)); /* a new one was due */
    session = shake_hands(tls, session, &resumed);
    CHECK(resumed);
    end_period(tls);
    end_period(tls);
    session = shake_hands(tls, session, &resumed);
    CHECK(!resumed);
    /* What this period's keys are is a matter of the secret and the clock. */
    tls->tickets.period = 0;
    session = shake_hands(tls, session, &resumed);
    CHECK(!resumed);
    ta_ticket_key derived = tls->tickets.keys[0];
    tls->tickets.period--;
    session = shake_hands(tls, session, &resumed);
    CHECK(resumed);
    CHECK_MEM((char *)&tls->tickets.keys[0], (char *)&derived, sizeof(derived));
    CHECK(memcmp(&tls->tickets.keys[1], &derived, sizeof(derived)) != 0);
    SSL_SESSION_free(session);
    ta_tls_unref(tls);
    tear_down();
}

static char logged[256];

static void keep_line(void *ctx, ta_log_level level, ta_str line)
{
    (void)ctx;
    (void)level;
    snprintf(logged, sizeof(logged), "%.*s", (int)line.len, line.ptr);
}

TA_TEST(a_handshake_that_fails)
{
    set_up();
    ta_tls *tls = make((ta_tls_cfg){.tls13_only = true});
    const ta_log log = {TA_LOG_DEBUG, keep_line, NULL};
    client c;
    int rc;
    open_client(&c, tls, &log);
    CHECK(SSL_set_max_proto_version(c.ssl, TLS1_2_VERSION) == 1);
    PUMP(rc, SSL_do_handshake(c.ssl));
    CHECK_INT(rc, <=, 0);
    close_client(&c);
    CHECK_INT(c.p.opens, ==, 0);
    CHECK_INT(c.p.reason, ==, TA_EBAD);
    CHECK(strstr(logged, "unsupported protocol") != NULL);
    /* HTTP without TLS gets an answer, noise none. */
    char answer[300];
    open_client(&c, tls, NULL);
    CHECK_INT(send(c.p.fd, "GET / HTTP/1.1\r\n\r\n", 18, 0), ==, 18);
    UNTIL(c.p.closes == 1);
    CHECK_INT(recv(c.p.fd, answer, sizeof(answer), 0), >, 100);
    CHECK(memcmp(answer, "HTTP/1.1 400 ", 13) == 0);
    close_client(&c);
    /* A client that disconnects in the middle. */
    open_client(&c, tls, NULL);
    (void)SSL_do_handshake(c.ssl);
    close_client(&c);
    CHECK_INT(c.p.opens, ==, 0);
    ta_tls_unref(tls);
    tear_down();
}

TA_TEST(settings_that_can_t_be_used)
{
    set_up();
    char gone[64];
    ta_tls_error error;
    strcpy(gone, "/tmp/ta_test_tls_gone");
    const ta_tls_pair pairs[] = {{gone, NULL}, {certfile, gone}, {certfile, otherfile}};
    static const char *const settings[] = {"certfile", "keyfile", "keyfile"};
    static const char *const whys[] = {"No such file", "No such file", "is not that of"};
    for (size_t i = 0; i < TA_COUNTOF(pairs); i++) {
        ta_tls_cfg cfg = {.pairs = &pairs[i], .npairs = 1};
        CHECK(ta_tls_new(&cfg, &error) == NULL);
        CHECK(strcmp(error.setting, settings[i]) == 0);
        CHECK(strstr(error.why, whys[i]) != NULL);
    }
    tear_down();
}
