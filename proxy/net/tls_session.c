/* Resumption: the server's tickets and the client's sessions. A session is bound to the context, to
 * what decides whom we trust, and to the SNI; any difference means a full handshake. Worker thread.
 */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "proxy/net/tls_internal.h"

/* --- what a session is bound to
 * ------------------------------------------------------------------------- */

static void mix(EVP_MD_CTX *d, const void *bytes, size_t len)
{
    must(EVP_DigestUpdate(d, &len, sizeof(len)) == 1);
    if (len) must(EVP_DigestUpdate(d, bytes, len) == 1);
}

static void bound_to(const struct tls_conn *t, struct str sni, uint8_t out[TLS_HASH_SIZE])
{
    EVP_MD_CTX *d = EVP_MD_CTX_new();
    must(d && EVP_DigestInit_ex(d, EVP_sha256(), NULL) == 1);
    mix(d, t->conf->digest, TLS_HASH_SIZE);
    if (!t->conf->server || !t->tickets) mix(d, &t->conf->id, sizeof(t->conf->id));
    if (t->dynamic) mix(d, t->dynamic->digest, TLS_HASH_SIZE);
    for (size_t i = 0; i < t->cert_count; i++)
        mix(d, t->certs[i]->digest, TLS_HASH_SIZE);
    for (size_t i = 0; i < t->verify_san_count; i++)
        mix(d, t->verify_sans[i].ptr, t->verify_sans[i].len);
    mix(d, sni.ptr, sni.len);
    unsigned size = TLS_HASH_SIZE;
    must(EVP_DigestFinal_ex(d, out, &size) == 1);
    EVP_MD_CTX_free(d);
}

void tls_bind_session(struct tls_conn *t, struct str sni)
{
    uint8_t id[TLS_HASH_SIZE];
    bound_to(t, sni, id);
    must(SSL_set_session_id_context(t->ssl, id, sizeof(id)) == 1);
}

/* BoringSSL keeps sessions of TLS 1.3 for two days, whatever session_timeout says. */
enum { SESSION_13_S = 2 * 24 * 3600 };

void tls_session_lifetime(struct tls_conn *t)
{
    SSL_SESSION *session = SSL_get_session(t->ssl);
    if (session && SSL_version(t->ssl) >= TLS1_3_VERSION)
        (void)SSL_SESSION_set_timeout(session, SESSION_13_S);
}

/* --- configured ticket keys
 * -------------------------------------------------------------------------------- */

/* The 80 bytes: name 16, HMAC-SHA256 key 32, AES-256 key 32. */
enum { NAME_SIZE = 16, HMAC_AT = 16, HMAC_SIZE = 32, AES_AT = 48, IV_SIZE = 16 };

static bool ticket_ciphers(const char *key, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
                           EVP_MAC_CTX *mac, int enc)
{
    char digest[] = "SHA256";
    unsigned char hmac[HMAC_SIZE];
    memcpy(hmac, key + HMAC_AT, sizeof(hmac));
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, hmac, sizeof(hmac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    bool ok = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL,
                                (const unsigned char *)key + AES_AT, iv, enc) == 1 &&
              EVP_MAC_CTX_set_params(mac, params) == 1;
    OPENSSL_cleanse(hmac, sizeof(hmac));
    return ok;
}

/* OpenSSL: 0 no such key (full handshake), 1 fine, 2 fine but renew, negative: broken. */
int tls_on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                  EVP_MAC_CTX *mac, int enc)
{
    const struct tls_tickets *keys = tls_conn_of(ssl)->tickets;
    if (!keys || !keys->count) return 0;
    if (enc) {
        if (RAND_bytes(iv, IV_SIZE) != 1) return -1;
        memcpy(name, keys->keys[0].ptr, NAME_SIZE);
        return ticket_ciphers(keys->keys[0].ptr, iv, cipher, mac, 1) ? 1 : -1;
    }
    for (size_t i = 0; i < keys->count; i++) {
        if (memcmp(name, keys->keys[i].ptr, NAME_SIZE) != 0) continue;
        if (!ticket_ciphers(keys->keys[i].ptr, iv, cipher, mac, 0)) return -1;
        /* Clients use tickets of TLS 1.3 once: they need a new one each time. */
        return i == 0 && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
    }
    return 0;
}

const struct tls_tickets *tls_tickets_new(const struct conf_at *at, const struct str *keys,
                                          size_t count)
{
    struct tls_tickets *t = ARENA_NEW(conf_arena(at), struct tls_tickets);
    struct str *copies = ARENA_ARRAY(conf_arena(at), struct str, count);
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        struct conf_at field = conf_index(at, "keys", i);
        if (keys[i].len != TLS_TICKET_KEY_SIZE) {
            ok = conf_fail(
                &field, "Incorrect TLS session ticket key length. Length %zu, expected length 80.",
                keys[i].len);
            continue;
        }
        copies[i] = str_dup(conf_arena(at), keys[i]);
    }
    t->keys = copies;
    t->count = count;
    return ok ? t : NULL;
}

/* --- the client's sessions: a small table of each worker, newest wins
 * ------------------------------------------ */

enum { SESSION_SLOTS = 512 };
struct tls_sessions {
    struct {
        uint8_t id[TLS_HASH_SIZE]; /* what it is bound to */
        SSL_SESSION *session;
    } v[SESSION_SLOTS];
};

static size_t slot_of(const uint8_t id[TLS_HASH_SIZE])
{
    return (size_t)(hash_str(str_make((const char *)id, TLS_HASH_SIZE)) % SESSION_SLOTS);
}

int tls_on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_conn *t = tls_conn_of(ssl);
    if (t->conf->server || t->conf->max_sessions == 0) return 0;
    struct net_worker *n = net_worker(t->worker);
    if (!n->tls_sessions) n->tls_sessions = mem_alloc(sizeof(*n->tls_sessions));
    uint8_t id[TLS_HASH_SIZE];
    bound_to(t, t->sni, id);
    size_t slot = slot_of(id);
    SSL_SESSION_free(n->tls_sessions->v[slot].session);
    memcpy(n->tls_sessions->v[slot].id, id, sizeof(id));
    n->tls_sessions->v[slot].session = session;
    return 1; /* kept */
}

void tls_resume(struct tls_conn *t)
{
    struct net_worker *n = net_worker(t->worker);
    if (!n->tls_sessions || t->conf->max_sessions == 0) return;
    uint8_t id[TLS_HASH_SIZE];
    bound_to(t, t->sni, id);
    size_t slot = slot_of(id);
    SSL_SESSION *session = n->tls_sessions->v[slot].session;
    if (!session || memcmp(n->tls_sessions->v[slot].id, id, sizeof(id)) != 0) return;
    (void)SSL_set_session(t->ssl, session); /* a refusal means a full handshake */
    /* TLS 1.3 tickets are for one use. */
    if (SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION) return;
    SSL_SESSION_free(session);
    n->tls_sessions->v[slot].session = NULL;
}

void tls_worker_release(struct net_worker *n)
{
    for (size_t i = 0; n->tls_sessions && i < SESSION_SLOTS; i++)
        SSL_SESSION_free(n->tls_sessions->v[i].session);
    mem_free(n->tls_sessions);
    mem_free(n->tls_chunk);
    n->tls_sessions = NULL;
    n->tls_chunk = NULL;
}
