/* ws/handshake.c -- see ws_handshake.h.  SHA-1 and base64 are OpenSSL's. */
#include "http/ws/handshake.h"

#include "http/headers.h"

#include <openssl/evp.h>
#include <stdio.h>

/* What we ask for unless the client wants less: small windows, as each open socket has two. */
enum { SERVER_BITS = 12, CLIENT_BITS = 12 };

/* -- words of a field ------------------------------------------------------------------------- */

static bool is_token_char(char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool same_word(ta_str a, ta_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        char x = a.ptr[i], y = b.ptr[i];
        if (x >= 'A' && x <= 'Z')
            x = (char)(x | 0x20);
        if (y >= 'A' && y <= 'Z')
            y = (char)(y | 0x20);
        if (x != y)
            return false;
    }
    return true;
}

/* Takes the text before the next comma off *list. */
static ta_str next_item(ta_str *list)
{
    const char *comma = memchr(list->ptr, ',', list->len);
    ta_str item = {list->ptr, comma ? (size_t)(comma - list->ptr) : list->len};
    size_t used = item.len + (comma != NULL);
    *list = ta_str_skip(*list, used);
    return ta_str_trim(item);
}

bool ta_ws_field_lists(const ta_header *headers, uint32_t n, ta_str name, ta_str word)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!ta_str_eq(headers[i].name, name))
            continue;
        ta_str list = headers[i].value;
        while (list.len) {
            if (same_word(next_item(&list), word))
                return true;
        }
    }
    return false;
}

/* The value of a field that must be there once. */
static bool only_value(const ta_req *req, ta_str name, ta_str *out)
{
    unsigned found = 0;
    for (uint32_t i = 0; i < req->nheaders; i++) {
        if (ta_str_eq(req->headers[i].name, name)) {
            *out = req->headers[i].value;
            found++;
        }
    }
    return found == 1;
}

bool ta_ws_protocol_ok(ta_str protocol)
{
    for (size_t i = 0; i < protocol.len; i++) {
        if (!is_token_char(protocol.ptr[i]))
            return false;
    }
    return protocol.len > 0;
}

bool ta_ws_next_protocol(const ta_header *headers, uint32_t n, size_t *at, ta_str *out)
{
    size_t index = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!ta_str_eq(headers[i].name, TA_STR("sec-websocket-protocol")))
            continue;
        ta_str list = headers[i].value;
        while (list.len) {
            ta_str item = next_item(&list);
            if (!item.len || index++ < *at)
                continue;
            *at = index;
            *out = item;
            return true;
        }
    }
    return false;
}

/* -- permessage-deflate ----------------------------------------------------------------------- */

/* Reads "name", "name=value" or 'name="value"' off *s, which begins there.  False: broken. */
static bool read_param(ta_str *s, ta_str *name, ta_str *value, bool *has_value)
{
    size_t i = 0;
    *s = ta_str_trim(*s);
    while (i < s->len && is_token_char(s->ptr[i]))
        i++;
    *name = ta_str_of(s->ptr, i);
    *value = ta_str_of(NULL, 0);
    *has_value = false;
    if (!i)
        return false;
    *s = ta_str_trim(ta_str_skip(*s, i));
    if (!s->len || s->ptr[0] != '=')
        return true;
    *s = ta_str_trim(ta_str_skip(*s, 1));
    *has_value = true;
    i = 0;
    if (s->len && s->ptr[0] == '"') {
        /* Quoted, it must be a token all the same: no escapes to think of. */
        const char *end = memchr(s->ptr + 1, '"', s->len - 1);
        if (!end)
            return false;
        i = (size_t)(end - s->ptr) + 1;
        *value = ta_str_of(s->ptr + 1, i - 2);
    } else {
        while (i < s->len && is_token_char(s->ptr[i]))
            i++;
        *value = ta_str_of(s->ptr, i);
    }
    *s = ta_str_trim(ta_str_skip(*s, i));
    return value->len > 0;
}

/* 8 to 15, without leading zeros. */
static bool read_bits(ta_str value, uint8_t *bits)
{
    unsigned n = 0;
    if (!value.len || value.len > 2 || value.ptr[0] == '0')
        return false;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return false;
        n = n * 10 + (unsigned)(value.ptr[i] - '0');
    }
    *bits = (uint8_t)n;
    return n >= 8 && n <= 15;
}

/* One parameter of an offer; each at most once.  False: the offer is declined. */
static bool take_param(ta_ws_handshake *hs, unsigned *seen, ta_str name, ta_str value,
                       bool has_value)
{
    ta_ws_deflate_params *d = &hs->deflate;
    unsigned bit;
    uint8_t bits;
    if (same_word(name, TA_STR("server_no_context_takeover")) && !has_value) {
        bit = 1;
        d->server_no_context = true;
    } else if (same_word(name, TA_STR("client_no_context_takeover")) && !has_value) {
        bit = 2;
        d->client_no_context = true;
    } else if (same_word(name, TA_STR("server_max_window_bits")) && has_value) {
        bit = 4;
        /* zlib cannot pack with a window of 8 bits. */
        if (!read_bits(value, &bits) || bits < 9)
            return false;
        d->server_bits = TA_MIN(bits, (uint8_t)SERVER_BITS);
    } else if (same_word(name, TA_STR("client_max_window_bits"))) {
        bit = 8;
        bits = 15;
        if (has_value && !read_bits(value, &bits))
            return false;
        d->client_bits = TA_MIN(bits, (uint8_t)CLIENT_BITS);
        hs->tell_client_bits = true;
    } else {
        return false;
    }
    if (*seen & bit)
        return false;
    *seen |= bit;
    return true;
}

/* Takes one extension with its parameters off *list: 1: agreed, 0: not ours, or declined,
 * -1: broken, nothing behind it is looked at. */
static int take_offer(ta_ws_handshake *hs, ta_str *list)
{
    ta_str name, value;
    bool has_value, good;
    unsigned seen = 0;
    if (!read_param(list, &name, &value, &has_value))
        return -1;
    hs->deflate = (ta_ws_deflate_params){.server_bits = SERVER_BITS, .client_bits = 15};
    hs->tell_server_bits = true;
    hs->tell_client_bits = false;
    good = same_word(name, TA_STR("permessage-deflate")) && !has_value;
    while (list->len && list->ptr[0] == ';') {
        *list = ta_str_skip(*list, 1);
        if (!read_param(list, &name, &value, &has_value))
            return -1;
        if (good)
            good = take_param(hs, &seen, name, value, has_value);
    }
    if (list->len && list->ptr[0] != ',')
        return -1;
    if (list->len)
        *list = ta_str_skip(*list, 1);
    return good;
}

/* The first offer that we can take (RFC 7692 5: the client lists them by preference). */
static void agree_on_deflate(const ta_req *req, ta_ws_handshake *hs)
{
    for (uint32_t i = 0; i < req->nheaders; i++) {
        if (!ta_str_eq(req->headers[i].name, TA_STR("sec-websocket-extensions")))
            continue;
        ta_str list = ta_str_trim(req->headers[i].value);
        while (list.len) {
            int rc = take_offer(hs, &list);
            list = ta_str_trim(list);
            if (rc > 0) {
                hs->deflate.on = true;
                return;
            }
            if (rc < 0)
                break;
        }
    }
    memset(&hs->deflate, 0, sizeof hs->deflate);
}

/* -- the check -------------------------------------------------------------------------------- */

/* 16 bytes in base64: 22 characters, the last with four bits unused, and "==". */
static bool key_ok(ta_str key)
{
    if (key.len != 24 || key.ptr[22] != '=' || key.ptr[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++) {
        char c = key.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '+' || c == '/'))
            return false;
    }
    return true;
}

static int refuse(ta_ws_handshake *hs, int status, const char *reason)
{
    hs->status = status;
    hs->reason = reason;
    return TA_EBAD;
}

/* Extended CONNECT (RFC 8441): the stream is the connection, so there is neither key nor upgrade.
 */
static int check_extended(const ta_req *req, bool deflate, ta_ws_handshake *out)
{
    ta_str version = {NULL, 0};
    if (!req->upgrade)
        return refuse(out, 400, "CONNECT must ask for websocket.");
    if (!only_value(req, TA_STR("sec-websocket-version"), &version) ||
        !ta_str_eq(version, TA_STR("13")))
        return refuse(out, 400, "Sec-WebSocket-Version must be 13.");
    if (deflate)
        agree_on_deflate(req, out);
    return TA_OK;
}

int ta_ws_handshake_check(const ta_req *req, bool deflate, ta_ws_handshake *out)
{
    ta_str version = {NULL, 0};
    bool extended = req->version == TA_HTTP_2 && req->method_id == TA_METHOD_CONNECT;
    memset(out, 0, sizeof *out);
    if (extended)
        return check_extended(req, deflate, out);
    if (req->method_id != TA_METHOD_GET)
        return refuse(out, 405, "A WebSocket is opened with GET.");
    if (req->version < TA_HTTP_1_1)
        return refuse(out, 400, "A WebSocket needs HTTP/1.1.");
    if (!req->upgrade ||
        !ta_ws_field_lists(req->headers, req->nheaders, TA_STR("upgrade"), TA_STR("websocket")))
        return refuse(out, 426, "The Upgrade field must ask for websocket.");
    if (!only_value(req, TA_STR("sec-websocket-version"), &version) ||
        !ta_str_eq(version, TA_STR("13")))
        return refuse(out, 426, "Sec-WebSocket-Version must be 13.");
    if (!only_value(req, TA_STR("sec-websocket-key"), &out->key) || !key_ok(out->key))
        return refuse(out, 400, "Sec-WebSocket-Key must be 16 bytes in base64.");
    if (req->has_body || !req->body_eof)
        return refuse(out, 400, "A request for a WebSocket has no body.");
    if (deflate)
        agree_on_deflate(req, out);
    return TA_OK;
}

/* -- the answer ------------------------------------------------------------------------------- */

static int add_accept(ta_str key, ta_fields *out)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455 1.3 */
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_len = 0;
    char text[24 + sizeof guid], b64[32];
    memcpy(text, key.ptr, 24);
    memcpy(text + 24, guid, sizeof guid - 1);
    if (EVP_Digest(text, 24 + sizeof guid - 1, digest, &digest_len, EVP_sha1(), NULL) != 1)
        return TA_ENOMEM;
    int len = EVP_EncodeBlock((unsigned char *)b64, digest, (int)digest_len);
    return ta_fields_add(out, TA_STR("sec-websocket-accept"), ta_str_of(b64, (size_t)len));
}

static int add_deflate(const ta_ws_handshake *hs, ta_fields *out)
{
    const ta_ws_deflate_params *d = &hs->deflate;
    char value[200], server[40] = "", client[40] = "";
    if (hs->tell_server_bits)
        snprintf(server, sizeof server, "; server_max_window_bits=%u", d->server_bits);
    if (hs->tell_client_bits)
        snprintf(client, sizeof client, "; client_max_window_bits=%u", d->client_bits);
    int len = snprintf(value, sizeof value, "permessage-deflate%s%s%s%s",
                       d->server_no_context ? "; server_no_context_takeover" : "",
                       d->client_no_context ? "; client_no_context_takeover" : "", server, client);
    return ta_fields_add(out, TA_STR("sec-websocket-extensions"), ta_str_of(value, (size_t)len));
}

int ta_ws_handshake_answer(const ta_ws_handshake *hs, ta_str protocol, ta_fields *out)
{
    int rc = TA_OK;
    if (hs->key.len) {
        rc = ta_fields_add(out, TA_STR("upgrade"), TA_STR("websocket"));
        if (rc == TA_OK)
            rc = ta_fields_add(out, TA_STR("connection"), TA_STR("Upgrade"));
        if (rc == TA_OK)
            rc = add_accept(hs->key, out);
    }
    if (rc == TA_OK && protocol.len)
        rc = ta_fields_add(out, TA_STR("sec-websocket-protocol"), protocol);
    return rc == TA_OK && hs->deflate.on ? add_deflate(hs, out) : rc;
}
