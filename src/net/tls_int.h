/*
 * tls_int.h -- what the files of TLS share.  Layer: net.  Only they and their test
 * include it.
 *
 *   tls.c          settings: certificates, keys, versions, who is let in
 *   tls_tickets.c  keys of session tickets, which change by the clock
 *   tls_conn.c     the transport of a connection
 */
#ifndef TA_NET_TLS_INT_H
#define TA_NET_TLS_INT_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "net/tls.h"

typedef struct ta_tls_context {
    SSL_CTX *ctx; /* owned */
    ta_buf pem;   /* owned: its certificate */
} ta_tls_context;

typedef struct ta_ticket_key {
    unsigned char name[16]; /* so many bytes are OpenSSL's wish */
    unsigned char aes[32], mac[32];
} ta_ticket_key;

typedef struct ta_ticket_keys {
    EVP_CIPHER *cipher;    /* owned; NULL: not initialized */
    pthread_mutex_t mutex; /* guards what follows; connections of several threads share it */
    uint64_t period;       /* of keys[0], which new tickets are made by; 0: none yet */
    ta_ticket_key keys[2]; /* and the one before it */
} ta_ticket_keys;

struct ta_tls {
    atomic_uint refs;
    size_t npairs;
    ta_tls_context *pairs; /* owned: one for each pair, the same but for the certificate */
    ta_buf alpn;           /* owned */
    unsigned char secret[TA_TLS_SECRET];
    ta_ticket_keys tickets;
};

/* TA_OK or TA_ENOMEM. */
TA_MUST_CHECK int ta_tls_tickets_init(ta_ticket_keys *keys);
void ta_tls_tickets_free(ta_ticket_keys *keys);
/* Makes session tickets of ctx, a context of tls, by the keys of tls->secret.  TA_OK or TA_ESYS. */
TA_MUST_CHECK int ta_tls_tickets_use(ta_tls *tls, SSL_CTX *ctx);

/* The settings that belong to a context.  Borrowed. */
ta_tls *ta_tls_of(const SSL_CTX *ctx);
/* Appends a certificate as PEM text.  TA_OK or TA_ENOMEM. */
TA_MUST_CHECK int ta_tls_pem(X509 *certificate, ta_buf *to);

#endif
