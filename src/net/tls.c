/*
 * tls.c -- the settings of TLS: certificates, keys, versions, who is let in.
 *
 * Each pair of certificate and key has an OpenSSL context of its own; a connection begins with the
 * first one and goes over to that whose certificate has the host which the client names (SNI).
 */
#include "net/tls_int.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/buf.h"
#include "base/mem.h"

/* Mozilla's order: AES with 128 bits, and the SHA-256 that goes with it in TLS 1.3, are enough, and
 * cost less than 256 bits and SHA-384. */
static const char default_ciphers[] = "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20";
static const char first_of_tls13[] = "TLS_AES_128_GCM_SHA256";

/* -- errors ----------------------------------------------------------------------------------- */

TA_PRINTF(3, 4)
static int fail(ta_tls_error *error, const char *setting, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    error->setting = setting;
    (void)vsnprintf(error->why, sizeof(error->why), fmt, args);
    va_end(args);
    ERR_clear_error();
    return TA_EINVAL;
}

static const char *openssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(code);
    return text ? text : "OpenSSL does not say why";
}

/* What a call that read `file` failed of. */
static int fail_file(ta_tls_error *error, const char *setting, const char *file, const char *what)
{
    FILE *f = fopen(file, "re");
    bool read = f && (fgetc(f) != EOF || !ferror(f));
    int saved = errno;
    if (f)
        (void)fclose(f);
    if (!read) /* also a folder */
        return fail(error, setting, "%s can't be read: %s", file, strerror(saved));
    return fail(error, setting, "%s has no %s that can be used (PEM is wanted): %s", file, what,
                openssl_reason());
}

/* -- certificates ----------------------------------------------------------------------------- */

typedef struct password {
    const char *text; /* NULL: none was given */
    bool asked;
} password;

static int give_password(char *to, int size, int writing, void *arg)
{
    password *p = arg;
    (void)writing;
    p->asked = true;
    size_t len = p->text ? strlen(p->text) : 0;
    if (!p->text || len > (size_t)size)
        return -1;
    memcpy(to, p->text, len);
    return (int)len;
}

static int use_key(SSL_CTX *ctx, const ta_tls_pair *pair, password *pass, ta_tls_error *error)
{
    const char *file = pair->keyfile ? pair->keyfile : pair->certfile;
    const char *setting = pair->keyfile ? "keyfile" : "certfile";
    FILE *f = fopen(file, "re");
    if (!f)
        return fail(error, setting, "%s can't be read: %s", file, strerror(errno));
    EVP_PKEY *key = PEM_read_PrivateKey(f, NULL, give_password, pass);
    (void)fclose(f);
    if (!key && pass->asked)
        return pass->text ? fail(error, "keyfile_password", "is not that of the key in %s", file)
                          : fail(error, "keyfile_password", "the key in %s needs one", file);
    if (!key)
        return fail(error, setting, "%s has no private key (PEM is wanted)", file);
    int ok = X509_check_private_key(SSL_CTX_get0_certificate(ctx), key) == 1;
    if (!ok)
        fail(error, setting, "the key in %s is not that of the certificate in %s", file,
             pair->certfile);
    else if (SSL_CTX_use_PrivateKey(ctx, key) != 1) {
        fail(error, setting, "the key in %s can't be used: %s", file, openssl_reason());
        ok = false;
    }
    EVP_PKEY_free(key);
    return ok ? TA_OK : TA_EINVAL;
}

static int use_pair(SSL_CTX *ctx, const ta_tls_pair *pair, const ta_tls_cfg *cfg,
                    ta_tls_error *error)
{
    password pass = {cfg->password, false};
    if (SSL_CTX_use_certificate_chain_file(ctx, pair->certfile) != 1) {
        unsigned long code = ERR_peek_last_error();
        int reason = ERR_GET_REASON(code);
        if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
            (reason == SSL_R_EE_KEY_TOO_SMALL || reason == SSL_R_CA_KEY_TOO_SMALL ||
             reason == SSL_R_CA_MD_TOO_WEAK))
            return fail(error, "certfile", "the certificate in %s is refused: %s", pair->certfile,
                        openssl_reason());
        return fail_file(error, "certfile", pair->certfile, "certificate");
    }
    return use_key(ctx, pair, &pass, error);
}

/* -- clients' certificates -------------------------------------------------------------------- */

static int use_ca(SSL_CTX *ctx, const char *path, ta_tls_error *error)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return fail(error, "ca_certs", "%s can't be read: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        if (SSL_CTX_load_verify_dir(ctx, path) != 1)
            return fail(error, "ca_certs", "the folder %s can't be used", path);
        return TA_OK;
    }
    if (SSL_CTX_load_verify_file(ctx, path) != 1)
        return fail_file(error, "ca_certs", path, "certificate");
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);
    if (names)
        SSL_CTX_set_client_CA_list(ctx, names);
    return TA_OK;
}

static int use_crl(SSL_CTX *ctx, const char *file, ta_tls_error *error)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (!lookup || X509_load_crl_file(lookup, file, X509_FILETYPE_PEM) < 1)
        return fail_file(error, "crl", file, "revocation list");
    (void)X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return TA_OK;
}

static bool digest_file(EVP_MD_CTX *md, const char *file)
{
    char data[4096];
    size_t n;
    FILE *f = file ? fopen(file, "re") : NULL;
    bool ok = EVP_DigestUpdate(md, file ? file : "", file ? strlen(file) : 0) == 1;
    while (ok && f && (n = fread(data, 1, sizeof(data), f)) > 0)
        ok = EVP_DigestUpdate(md, data, n) == 1;
    if (f)
        (void)fclose(f);
    return ok;
}

/*
 * A session that is resumed shows no certificate again: it must be one that these authorities, and
 * these revocation lists, have let in.
 */
static bool bind_sessions(SSL_CTX *ctx, const ta_tls_cfg *cfg)
{
    unsigned char id[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, &cfg->verify, sizeof(cfg->verify)) == 1 &&
              digest_file(md, cfg->ca_certs) && digest_file(md, cfg->crl) &&
              EVP_DigestFinal_ex(md, id, &len) == 1;
    EVP_MD_CTX_free(md);
    return ok && SSL_CTX_set_session_id_context(ctx, id, TA_MIN(len, (unsigned)32)) == 1;
}

static int use_clients(SSL_CTX *ctx, const ta_tls_cfg *cfg, ta_tls_error *error)
{
    int mode = SSL_VERIFY_NONE;
    int rc = TA_OK;
    if (cfg->verify != TA_TLS_VERIFY_NONE) {
        mode = SSL_VERIFY_PEER;
        if (cfg->verify == TA_TLS_VERIFY_REQUIRED)
            mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
        if (!cfg->ca_certs)
            return fail(error, "ca_certs", "is needed to check the certificates of clients");
    }
    SSL_CTX_set_verify(ctx, mode, NULL);
    if (cfg->ca_certs)
        rc = use_ca(ctx, cfg->ca_certs, error);
    if (rc == TA_OK && cfg->crl)
        rc = use_crl(ctx, cfg->crl, error);
    if (rc == TA_OK && !bind_sessions(ctx, cfg))
        rc = TA_ENOMEM;
    return rc;
}

/* -- what a client asks for ---------------------------------------------------------------------
 */

/* A client whose protocols are all unknown is refused (RFC 7301, 3.2). */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    const ta_tls *tls = arg;
    unsigned char *chosen;
    (void)ssl;
    int rc =
        SSL_select_next_proto(&chosen, out_len, (const unsigned char *)ta_buf_str(&tls->alpn).ptr,
                              (unsigned)tls->alpn.len, in, in_len);
    *out = chosen;
    return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Chooses the certificate of the named host.  A client that names another one gets the first, and
 * decides itself whether it goes on. */
static int choose_certificate(SSL *ssl, int *alert, void *arg)
{
    const ta_tls *tls = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)alert;
    if (!name)
        return SSL_TLSEXT_ERR_NOACK;
    for (size_t i = 0; i < tls->npairs; i++) {
        X509 *own = SSL_CTX_get0_certificate(tls->pairs[i].ctx);
        if (X509_check_host(own, name, 0, 0, NULL) == 1 || X509_check_ip_asc(own, name, 0) == 1) {
            if (i > 0)
                (void)SSL_set_SSL_CTX(ssl, tls->pairs[i].ctx);
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

int ta_tls_pem(X509 *certificate, ta_buf *to)
{
    char *text;
    BIO *bio = BIO_new(BIO_s_mem());
    int rc = TA_ENOMEM;
    if (bio && PEM_write_bio_X509(bio, certificate) == 1) {
        long len = BIO_get_mem_data(bio, &text);
        rc = ta_buf_append(to, text, (size_t)len);
    }
    BIO_free(bio);
    return rc;
}

/* -- contexts --------------------------------------------------------------------------------- */

ta_tls *ta_tls_of(const SSL_CTX *ctx)
{
    return SSL_CTX_get_ex_data(ctx, 0);
}

/* Puts first_of_tls13 before the others, if it is among those that the system's settings allow. */
static int order_tls13(SSL_CTX *ctx)
{
    STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(ctx);
    ta_buf names = {0};
    bool has_first = false;
    int rc = ta_buf_append(&names, first_of_tls13, sizeof(first_of_tls13) - 1);
    for (int i = 0; rc == TA_OK && i < sk_SSL_CIPHER_num(all); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(all, i);
        const char *name = SSL_CIPHER_get_name(cipher);
        if (strcmp(SSL_CIPHER_get_version(cipher), "TLSv1.3") != 0)
            continue;
        if (strcmp(name, first_of_tls13) == 0) {
            has_first = true;
            continue;
        }
        rc = ta_buf_append(&names, ":", 1);
        if (rc == TA_OK)
            rc = ta_buf_append(&names, name, strlen(name));
    }
    if (rc == TA_OK)
        rc = ta_buf_append(&names, "", 1);
    if (rc == TA_OK && has_first && SSL_CTX_set_ciphersuites(ctx, ta_buf_str(&names).ptr) != 1)
        rc = TA_ESYS;
    ta_buf_free(&names);
    return rc;
}

static int set_up(ta_tls *tls, SSL_CTX *ctx, const ta_tls_cfg *cfg, ta_tls_error *error)
{
    if (SSL_CTX_set_app_data(ctx, tls) != 1)
        return TA_ENOMEM;
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                       SSL_OP_ENABLE_KTLS | SSL_OP_IGNORE_UNEXPECTED_EOF);
    /* Records are read with what follows them; a queue is written piece by piece, from wherever it
     * is by then; connections that wait hold no buffers. */
    SSL_CTX_set_read_ahead(ctx, 1);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    if (SSL_CTX_set_min_proto_version(ctx, cfg->tls13_only ? TLS1_3_VERSION : TLS1_2_VERSION) != 1)
        return TA_ESYS;
    int rc = order_tls13(ctx);
    if (rc != TA_OK)
        return rc;
    if (SSL_CTX_set_cipher_list(ctx, cfg->ciphers ? cfg->ciphers : default_ciphers) != 1)
        return fail(error, "ciphers", "no cipher of OpenSSL is meant by '%s'", cfg->ciphers);
    if (tls->alpn.len)
        SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, tls);
    SSL_CTX_set_tlsext_servername_callback(ctx, choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(ctx, tls);
    return ta_tls_tickets_use(tls, ctx);
}

static int add_pair(ta_tls *tls, const ta_tls_pair *pair, const ta_tls_cfg *cfg,
                    ta_tls_error *error)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx)
        return TA_ENOMEM;
    ta_tls_context *own = &tls->pairs[tls->npairs++];
    own->ctx = ctx;
    int rc = set_up(tls, ctx, cfg, error);
    if (rc == TA_OK)
        rc = use_pair(ctx, pair, cfg, error);
    if (rc == TA_OK)
        rc = ta_tls_pem(SSL_CTX_get0_certificate(ctx), &own->pem);
    if (rc == TA_OK)
        rc = use_clients(ctx, cfg, error);
    return rc;
}

ta_tls *ta_tls_new(const ta_tls_cfg *cfg, ta_tls_error *error)
{
    TA_ASSERT(cfg->npairs > 0);
    *error = (ta_tls_error){0};
    ta_tls *tls = ta_calloc(1, sizeof(*tls));
    if (!tls)
        return NULL;
    atomic_init(&tls->refs, 1);
    tls->pairs = ta_calloc(cfg->npairs, sizeof(*tls->pairs));
    bool ok = tls->pairs && ta_buf_append_str(&tls->alpn, cfg->alpn) == TA_OK &&
              ta_tls_tickets_init(&tls->tickets) == TA_OK;
    if (ok && cfg->secret)
        memcpy(tls->secret, cfg->secret, TA_TLS_SECRET);
    else if (ok)
        ok = RAND_bytes(tls->secret, TA_TLS_SECRET) == 1;
    for (size_t i = 0; ok && i < cfg->npairs; i++)
        ok = add_pair(tls, &cfg->pairs[i], cfg, error) == TA_OK;
    ERR_clear_error();
    if (ok)
        return tls;
    ta_tls_unref(tls);
    return NULL;
}

ta_tls *ta_tls_ref(ta_tls *tls)
{
    unsigned before = atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
    TA_ASSERT(before > 0);
    (void)before;
    return tls;
}

void ta_tls_unref(ta_tls *tls)
{
    if (!tls || atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < tls->npairs; i++) {
        SSL_CTX_free(tls->pairs[i].ctx);
        ta_buf_free(&tls->pairs[i].pem);
    }
    ta_free(tls->pairs);
    ta_buf_free(&tls->alpn);
    ta_tls_tickets_free(&tls->tickets);
    OPENSSL_cleanse(tls->secret, sizeof(tls->secret));
    ta_free(tls);
}

bool ta_tls_expires(const ta_tls *tls, size_t pair, int64_t *at)
{
    int days = 0, seconds = 0;
    if (pair >= tls->npairs)
        return false;
    const ASN1_TIME *end = X509_get0_notAfter(SSL_CTX_get0_certificate(tls->pairs[pair].ctx));
    bool ok = ASN1_TIME_diff(&days, &seconds, NULL, end) == 1;
    *at = ok ? (int64_t)time(NULL) + (int64_t)days * 86400 + seconds : 0;
    return true;
}

const char *ta_tls_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION_STRING);
}
