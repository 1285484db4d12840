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

enum { PERIOD = 12 * 3600 }; /* seconds */

/* HKDF (RFC 5869) of the secret, with the period as its info. */
static bool derive(const ta_tls *tls, uint64_t period, ta_ticket_key *key)
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

/* Copies the keys of this period and of the one before; they are derived once a period. */
static bool current_keys(ta_tls *tls, ta_ticket_key keys[2])
{
    ta_ticket_keys *own = &tls->tickets;
    uint64_t period = (uint64_t)time(NULL) / PERIOD;
    pthread_mutex_lock(&own->mutex);
    bool ok = own->period == period;
    if (!ok) {
        ok = derive(tls, period, &own->keys[0]) && derive(tls, period - 1, &own->keys[1]);
        own->period = ok ? period : 0;
    }
    if (ok)
        memcpy(keys, own->keys, sizeof(own->keys));
    pthread_mutex_unlock(&own->mutex);
    return ok;
}

static bool begin_mac(EVP_MAC_CTX *mac, ta_ticket_key *key)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int write_ticket(ta_tls *tls, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                        EVP_MAC_CTX *mac)
{
    const EVP_CIPHER *aes = tls->tickets.cipher;
    ta_ticket_key keys[2];
    bool ok = current_keys(tls, keys) && RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes)) == 1 &&
              EVP_EncryptInit_ex(cipher, aes, NULL, keys[0].aes, iv) == 1 &&
              begin_mac(mac, &keys[0]);
    if (ok)
        memcpy(name, keys[0].name, sizeof(keys[0].name));
    OPENSSL_cleanse(keys, sizeof(keys));
    return ok ? 1 : -1;
}

/* 1: taken; 2: taken, and a new one is due; 0: unknown, a whole handshake follows. */
static int read_ticket(ta_tls *tls, const unsigned char *name, unsigned char *iv,
                       EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    ta_ticket_key keys[2];
    if (!current_keys(tls, keys))
        return -1;
    int result = 0;
    for (int age = 0; age < 2 && result == 0; age++) {
        if (CRYPTO_memcmp(name, keys[age].name, sizeof(keys[age].name)) != 0)
            continue;
        bool ok = EVP_DecryptInit_ex(cipher, tls->tickets.cipher, NULL, keys[age].aes, iv) == 1 &&
                  begin_mac(mac, &keys[age]);
        result = ok ? 1 + age : -1;
    }
    OPENSSL_cleanse(keys, sizeof(keys));
    return result;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt)
{
    ta_tls *tls = ta_tls_of(SSL_get_SSL_CTX(ssl));
    return encrypt ? write_ticket(tls, name, iv, cipher, mac)
                   : read_ticket(tls, name, iv, cipher, mac);
}

int ta_tls_tickets_init(ta_ticket_keys *keys)
{
    if (pthread_mutex_init(&keys->mutex, NULL) != 0)
        return TA_ENOMEM;
    /* Fetched once: OpenSSL looks an EVP_aes_256_cbc() up for each ticket. */
    keys->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (keys->cipher)
        return TA_OK;
    pthread_mutex_destroy(&keys->mutex);
    return TA_ENOMEM;
}

void ta_tls_tickets_free(ta_ticket_keys *keys)
{
    if (!keys->cipher)
        return; /* it was never initialized */
    EVP_CIPHER_free(keys->cipher);
    pthread_mutex_destroy(&keys->mutex);
    OPENSSL_cleanse(keys->keys, sizeof(keys->keys));
}

int ta_tls_tickets_use(ta_tls *tls, SSL_CTX *ctx)
{
    TA_ASSERT(ta_tls_of(ctx) == tls && tls->tickets.cipher);
    (void)tls;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets alone: nothing is stored */
    SSL_CTX_set_timeout(ctx, PERIOD);
    /* One for each handshake, not OpenSSL's two: to make a ticket takes time, and each connection
     * that comes back is given another. */
    if (SSL_CTX_set_num_tickets(ctx, 1) != 1)
        return TA_ESYS;
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1 ? TA_OK : TA_ESYS;
}
