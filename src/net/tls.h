/*
 * tls.h -- TLS by OpenSSL: the settings of a listener, and the transport of a connection.
 *
 * Layer: net.  A ta_tls is immutable once made and may be used by several threads; connections keep
 * the one they began with, so that a listener can get another one at any time.
 */
#ifndef TA_NET_TLS_H
#define TA_NET_TLS_H

#include <stdint.h>

#include "base/log.h"
#include "net/transport.h"

typedef struct ta_tls ta_tls;

/* A file of certificates (PEM, the server's own first), and that of its key; NULL: the same. */
typedef struct ta_tls_pair {
    const char *certfile;
    const char *keyfile;
} ta_tls_pair;

typedef enum ta_tls_verify {
    TA_TLS_VERIFY_NONE,     /* clients are not asked for a certificate */
    TA_TLS_VERIFY_OPTIONAL, /* they are, and a bad one is refused */
    TA_TLS_VERIFY_REQUIRED  /* the same, and one must come */
} ta_tls_verify;

enum { TA_TLS_SECRET = 32, TA_TLS_WHY = 256 };

/* All is copied. */
typedef struct ta_tls_cfg {
    const ta_tls_pair
        *pairs;           /* the first one serves clients that name no host, or an unknown one */
    size_t npairs;        /* at least 1 */
    const char *password; /* of the keys; NULL: none */
    const char *ca_certs; /* a file, or a folder as c_rehash makes it; NULL: none */
    const char *crl;      /* a file of revocation lists; NULL: none */
    ta_tls_verify verify;
    const char *ciphers;         /* of TLS 1.2, as openssl-ciphers(1) has them; NULL: forward secret
                                  * ones with authenticated encryption */
    bool tls13_only;             /* else 1.2 and 1.3 */
    ta_str alpn;                 /* protocols in the order of preference, in the wire's format */
    const unsigned char *secret; /* TA_TLS_SECRET bytes that all workers share: session tickets of
                                  * one are good for the others; NULL: a random one */
} ta_tls_cfg;

/* What is wrong with the settings. */
typedef struct ta_tls_error {
    const char *setting;  /* static: the name of a member: "certfile", "keyfile", "password", ... */
    char why[TA_TLS_WHY]; /* text for people */
} ta_tls_error;

/* NULL: *error tells; without memory its setting is NULL. */
TA_MUST_CHECK ta_tls *ta_tls_new(const ta_tls_cfg *cfg, ta_tls_error *error);
/* A further reference; from any thread. */
ta_tls *ta_tls_ref(ta_tls *tls);
/* Drops one, NULL is fine; the last one frees it. */
void ta_tls_unref(ta_tls *tls);
/* When the certificate of a pair ends: seconds since the epoch.  False: there is no such pair. */
bool ta_tls_expires(const ta_tls *tls, size_t pair, int64_t *at);

/*
 * The server's side of a connection on fd, which stays the caller's.  New, for ta_conn_open.  Keeps
 * a reference to tls; `log` is borrowed and may be NULL: it hears why handshakes fail.  NULL: out
 * of memory.
 */
TA_MUST_CHECK ta_transport *ta_tls_accept(ta_tls *tls, int fd, const ta_log *log);

/* What a handshake led to; slices are borrowed: until the transport is closed. */
typedef struct ta_tls_info {
    uint16_t version; /* 0x0303: 1.2, 0x0304: 1.3 */
    uint16_t cipher;  /* its number in the IANA registry */
} ta_tls_info;

/* False: it is no transport of ta_tls_accept. */
bool ta_tls_info_of(const ta_transport *t, ta_tls_info *info);
/* The certificate that the client was shown, as PEM text. */
ta_str ta_tls_server_certificate(const ta_transport *t);
/* Calls fn for each certificate that the client sent, its own first, with its PEM text; stops, and
 * returns false, when fn does. */
bool ta_tls_client_certificates(const ta_transport *t, bool (*fn)(void *arg, ta_str pem),
                                void *arg);
/* The subject of the client's certificate as RFC 4514 text; n bytes at most, with the NUL.  False:
 * it sent none. */
bool ta_tls_client_name(const ta_transport *t, char *text, size_t n);

/* The version of OpenSSL that is in use. */
const char *ta_tls_version(void);

#endif
