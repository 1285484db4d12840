/*
 * tls_tickets.c -- keys of session tickets (RFC 5077, RFC 8446 4.6.1).
 *
 * Each key is derived from the secret that all workers share and from the number of a period, so
 * that they change together without a word between them.  A ticket is good until the period after
 * its own ends.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#include "net/tls_int.h"

enum {
    PERIOD = 12 * 3600, /* seconds */
    NAME = 16,          /* bytes: so OpenSSL wants it */
    KEY = 32,
};

typedef struct ticket_key {
    unsigned char name[NAME], aes[KEY], mac[KEY];
} ticket_key;

/* HKDF (RFC 5869) of the secret, with the period as its info. */
static bool derive(const ta_tls *tls, uint64_t period, ticket_key *key)
{
    static const char label[] = "turboapi session ticket";
    unsigned char info[sizeof(label) + sizeof(period)];
    memcpy(info, label, sizeof(label));
    memcpy(info + sizeof(label), &period, sizeof(period));
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)tls->secret, TA_TLS_SECRET),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof(info)),
        OSSL_PARAM_construct_end(),
    };
    bool ok = ctx && EVP_KDF_derive(ctx, (unsigned char *)key, sizeof(*key), params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok;
}

static bool begin_mac(EVP_MAC_CTX *mac, ticket_key *key)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, KEY),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int write_ticket(const ta_tls *tls, uint64_t period, unsigned char *name, unsigned char *iv,
                        EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    ticket_key key;
    int iv_len = EVP_CIPHER_get_iv_length(EVP_aes_256_cbc());
    bool ok = derive(tls, period, &key) && RAND_bytes(iv, iv_len) == 1 &&
              EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv) == 1 &&
              begin_mac(mac, &key);
    if (ok)
        memcpy(name, key.name, NAME);
    OPENSSL_cleanse(&key, sizeof(key));
    return ok ? 1 : -1;
}

/* 1: taken; 2: taken, and a new one is due; 0: unknown, a whole handshake follows. */
static int read_ticket(const ta_tls *tls, uint64_t period, const unsigned char *name,
                       unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    ticket_key key;
    int result = 0;
    for (unsigned age = 0; age < 2 && result == 0; age++) {
        if (!derive(tls, period - age, &key))
            result = -1;
        else if (CRYPTO_memcmp(name, key.name, NAME) == 0)
            result = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv) == 1 &&
                             begin_mac(mac, &key)
                         ? 1 + (int)age
                         : -1;
    }
    OPENSSL_cleanse(&key, sizeof(key));
    return result;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt)
{
    const ta_tls *tls = ta_tls_of(SSL_get_SSL_CTX(ssl));
    uint64_t period = (uint64_t)time(NULL) / PERIOD;
    return encrypt ? write_ticket(tls, period, name, iv, cipher, mac)
                   : read_ticket(tls, period, name, iv, cipher, mac);
}

int ta_tls_tickets_use(ta_tls *tls, SSL_CTX *ctx)
{
    TA_ASSERT(ta_tls_of(ctx) == tls);
    (void)tls;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets alone: nothing is stored */
    SSL_CTX_set_timeout(ctx, PERIOD);
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1 ? TA_OK : TA_ESYS;
}
