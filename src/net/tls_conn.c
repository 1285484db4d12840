/*
 * tls_conn.c -- the transport of a connection that is encrypted by OpenSSL.
 *
 * OpenSSL reads and writes the descriptor itself, so that the kernel can take over the encryption
 * (kTLS) and files are sent without a copy where it does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "net/loop.h"
#include "net/tls_int.h"

enum { RECORD = SSL3_RT_MAX_PLAIN_LENGTH };

typedef struct tls_conn {
    ta_transport t;
    SSL *ssl;          /* owned */
    ta_tls *tls;       /* owned: callbacks of the contexts need it */
    const ta_log *log; /* borrowed, or NULL */
    bool broken;       /* after an error OpenSSL must not be asked for more */
} tls_conn;

static const ta_transport_ops tls_ops;

static tls_conn *of(ta_transport *t)
{
    return TA_CONTAINER_OF(t, tls_conn, t);
}

static const tls_conn *is_tls(const ta_transport *t)
{
    return t->ops == &tls_ops ? TA_CONTAINER_OF(t, tls_conn, t) : NULL;
}

/* -- errors -------------------------------------------------------------------------------------
 */

/* What a call of OpenSSL that returned `rc` led to.  *wants gets the event that it waits for. */
static int outcome(tls_conn *c, int rc, uint8_t *wants)
{
    int saved = errno;
    int error = SSL_get_error(c->ssl, rc);
    switch (error) {
    case SSL_ERROR_WANT_READ:
        *wants = TA_EV_READ;
        return TA_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        *wants = TA_EV_WRITE;
        return TA_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        break;
    }
    c->broken = true;
    if (error != SSL_ERROR_SYSCALL)
        return TA_EBAD;
    errno = saved;
    return saved == 0 || saved == ECONNRESET || saved == EPIPE ? TA_ECLOSED : TA_ESYS;
}

static void begin(void)
{
    ERR_clear_error();
    errno = 0;
}

/* -- the handshake -------------------------------------------------------------------------- */

static void peer_text(const tls_conn *c, char *text, size_t n)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    char host[INET6_ADDRSTRLEN] = "";
    uint16_t port = 0;
    (void)snprintf(text, n, "a client");
    if (getpeername(c->t.fd, (struct sockaddr *)&addr, &len) < 0)
        return;
    if (addr.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&addr;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        port = ntohs(v4->sin_port);
    } else if (addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&addr;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        port = ntohs(v6->sin6_port);
    } else {
        return;
    }
    (void)snprintf(text, n, "%s:%u", host, (unsigned)port);
}

static void log_failure(const tls_conn *c, unsigned long code)
{
    if (!ta_log_on(c->log, TA_LOG_DEBUG) || code == 0)
        return;
    char peer[INET6_ADDRSTRLEN + 8];
    peer_text(c, peer, sizeof(peer));
    const char *why = ERR_reason_error_string(code);
    long verified = SSL_get_verify_result(c->ssl);
    if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK)
        why = X509_verify_cert_error_string(verified);
    ta_log_printf(c->log, TA_LOG_DEBUG, "%s: the TLS handshake failed: %s", peer,
                  why ? why : "OpenSSL does not say why");
}

/* A client that speaks HTTP without TLS is told so, as nginx does. */
static void answer_plain_http(const tls_conn *c)
{
    static const char answer[] = "HTTP/1.1 400 Bad Request\r\n"
                                 "content-type: text/plain; charset=utf-8\r\n"
                                 "content-length: 46\r\n"
                                 "connection: close\r\n"
                                 "\r\n"
                                 "This port speaks HTTPS: the URL needs https://";
    (void)send(c->t.fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int tls_handshake(ta_transport *t)
{
    tls_conn *c = of(t);
    begin();
    int rc = SSL_do_handshake(c->ssl);
    if (rc == 1) {
        const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
        t->read_wants = TA_EV_READ;
        t->tls_version = (uint16_t)SSL_version(c->ssl);
        t->tls_cipher = cipher ? SSL_CIPHER_standard_name(cipher) : NULL;
        return TA_OK;
    }
    int result = outcome(c, rc, &t->read_wants);
    if (result == TA_AGAIN)
        return result;
    unsigned long code = ERR_peek_error();
    log_failure(c, code);
    if (ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST)
        answer_plain_http(c);
    ERR_clear_error();
    return result == 0 ? TA_ECLOSED : result;
}

/* -- bytes ---------------------------------------------------------------------------------- */

static ssize_t tls_read(ta_transport *t, void *data, size_t cap)
{
    tls_conn *c = of(t);
    size_t total = 0, n;
    if (c->broken)
        return TA_ECLOSED;
    /* A call gives one record; those that were read with it need no further system call. */
    do {
        begin();
        int rc = SSL_read_ex(c->ssl, (char *)data + total, cap - total, &n);
        if (rc != 1) {
            int result = outcome(c, rc, &t->read_wants);
            ERR_clear_error();
            return total ? (ssize_t)total : result;
        }
        total += n;
    } while (total < cap && SSL_has_pending(c->ssl));
    t->read_wants = TA_EV_READ;
    return (ssize_t)total;
}

/* Small pieces go into one record: each one costs a header, a tag and a system call. */
static size_t gather(const struct iovec *iov, int count, char *to)
{
    size_t total = 0;
    for (int i = 0; i < count && total < RECORD; i++) {
        size_t n = TA_MIN(iov[i].iov_len, RECORD - total);
        memcpy(to + total, iov[i].iov_base, n);
        total += n;
    }
    return total;
}

static ssize_t tls_writev(ta_transport *t, const struct iovec *iov, int count)
{
    tls_conn *c = of(t);
    char record[RECORD];
    const void *data = iov->iov_base;
    size_t len = iov->iov_len, n;
    if (c->broken)
        return TA_ECLOSED;
    if (count > 1 && len < RECORD) {
        len = gather(iov, count, record);
        data = record;
    }
    begin();
    int rc = SSL_write_ex(c->ssl, data, len, &n);
    if (rc == 1) {
        t->write_wants = TA_EV_WRITE;
        return (ssize_t)n;
    }
    int result = outcome(c, rc, &t->write_wants);
    ERR_clear_error();
    return result == 0 ? TA_ECLOSED : result;
}

static ssize_t tls_sendfile(ta_transport *t, int fd, int64_t offset, size_t len)
{
    tls_conn *c = of(t);
    if (c->broken)
        return TA_ECLOSED;
    if (!BIO_get_ktls_send(SSL_get_wbio(c->ssl)))
        return TA_EUNSUPPORTED;
    begin();
    ssize_t n = SSL_sendfile(c->ssl, fd, (off_t)offset, len, 0);
    if (n >= 0) {
        t->write_wants = TA_EV_WRITE;
        return n;
    }
    int result = outcome(c, (int)n, &t->write_wants);
    ERR_clear_error();
    return result == 0 ? TA_ECLOSED : result;
}

static int tls_shutdown(ta_transport *t)
{
    tls_conn *c = of(t);
    if (c->broken || !SSL_is_init_finished(c->ssl))
        return TA_ECLOSED;
    begin();
    int rc = SSL_shutdown(c->ssl); /* 0: told; 1: and the peer had told us */
    if (rc >= 0)
        return TA_OK;
    int result = outcome(c, rc, &t->write_wants);
    ERR_clear_error();
    return result == 0 ? TA_OK : result;
}

static size_t tls_pending(const ta_transport *t)
{
    const tls_conn *c = TA_CONTAINER_OF(t, tls_conn, t);
    return c->broken ? 0 : (size_t)SSL_has_pending(c->ssl);
}

static void tls_close(ta_transport *t)
{
    tls_conn *c = of(t);
    SSL_free(c->ssl);
    ta_tls_unref(c->tls);
    ta_free(c);
}

static ta_str tls_alpn(const ta_transport *t)
{
    const tls_conn *c = TA_CONTAINER_OF(t, tls_conn, t);
    const unsigned char *name;
    unsigned len;
    SSL_get0_alpn_selected(c->ssl, &name, &len);
    return ta_str_of((const char *)name, len);
}

static const ta_transport_ops tls_ops = {
    .read = tls_read,
    .writev = tls_writev,
    .sendfile = tls_sendfile,
    .handshake = tls_handshake,
    .shutdown = tls_shutdown,
    .pending = tls_pending,
    .close = tls_close,
    .alpn = tls_alpn,
};

ta_transport *ta_tls_accept(ta_tls *tls, int fd, const ta_log *log)
{
    tls_conn *c = ta_calloc(1, sizeof(*c));
    SSL *ssl = c ? SSL_new(tls->pairs[0].ctx) : NULL;
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ta_free(c);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_accept_state(ssl);
    *c = (tls_conn){
        .t = {.ops = &tls_ops,
              .fd = fd,
              .read_wants = TA_EV_READ,
              .write_wants = TA_EV_WRITE,
              .secure = true},
        .ssl = ssl,
        .tls = ta_tls_ref(tls),
        .log = log,
    };
    return &c->t;
}

/* -- what a handshake led to ----------------------------------------------------------------- */

bool ta_tls_info_of(const ta_transport *t, ta_tls_info *info)
{
    const tls_conn *c = is_tls(t);
    if (!c)
        return false;
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
    info->version = t->tls_version;
    info->cipher = cipher ? SSL_CIPHER_get_protocol_id(cipher) : 0;
    return true;
}

ta_str ta_tls_server_certificate(const ta_transport *t)
{
    const tls_conn *c = is_tls(t);
    for (size_t i = 0; c && i < c->tls->npairs; i++)
        if (c->tls->pairs[i].ctx == SSL_get_SSL_CTX(c->ssl))
            return ta_buf_str(&c->tls->pairs[i].pem);
    return ta_str_of(NULL, 0);
}

static bool give_pem(X509 *certificate, bool (*fn)(void *arg, ta_str pem), void *arg)
{
    ta_buf pem = {0};
    bool more = ta_tls_pem(certificate, &pem) == TA_OK && fn(arg, ta_buf_str(&pem));
    ta_buf_free(&pem);
    return more;
}

bool ta_tls_client_certificates(const ta_transport *t, bool (*fn)(void *arg, ta_str pem), void *arg)
{
    const tls_conn *c = is_tls(t);
    X509 *own = c ? SSL_get0_peer_certificate(c->ssl) : NULL;
    if (!own)
        return true; /* it sent none */
    if (!give_pem(own, fn, arg))
        return false;
    /* On the server's side the chain is without the client's own. */
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(c->ssl);
    for (int i = 0; chain && i < sk_X509_num(chain); i++)
        if (!give_pem(sk_X509_value(chain, i), fn, arg))
            return false;
    return true;
}

bool ta_tls_client_name(const ta_transport *t, char *text, size_t n)
{
    const tls_conn *c = is_tls(t);
    X509 *own = c ? SSL_get0_peer_certificate(c->ssl) : NULL;
    BIO *bio = own ? BIO_new(BIO_s_mem()) : NULL;
    bool ok = false;
    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(own), 0,
                                  XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0) {
        int len = BIO_read(bio, text, (int)n - 1);
        text[TA_MAX(len, 0)] = '\0';
        ok = len > 0;
    }
    BIO_free(bio);
    return ok;
}
