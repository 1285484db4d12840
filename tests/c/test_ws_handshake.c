/* The opening of a WebSocket: what is refused, what is agreed on, what is answered. */
#include "http/ws/handshake.h"

#include "ta_failmalloc.h"
#include "ta_test.h"

static const char key[] = "dGhlIHNhbXBsZSBub25jZQ=="; /* RFC 6455 1.3 */

/* A good request; `more` fields come behind. */
typedef struct opening {
    ta_req req;
    ta_header headers[16];
} opening;

static void add(opening *o, const char *name, const char *value)
{
    o->headers[o->req.nheaders++] =
        (ta_header){ta_str_of(name, strlen(name)), ta_str_of(value, strlen(value))};
}

static opening *good(void)
{
    static opening o;
    memset(&o, 0, sizeof o);
    o.req = (ta_req){.method = TA_STR("GET"),
                     .method_id = TA_METHOD_GET,
                     .version = TA_HTTP_1_1,
                     .upgrade = true,
                     .body_eof = true,
                     .content_length = -1,
                     .headers = o.headers};
    add(&o, "host", "x");
    add(&o, "upgrade", "WebSocket");
    add(&o, "sec-websocket-key", key);
    add(&o, "sec-websocket-version", "13");
    return &o;
}

static void set(opening *o, const char *name, const char *value)
{
    for (uint32_t i = 0; i < o->req.nheaders; i++) {
        if (ta_str_eq(o->headers[i].name, ta_str_of(name, strlen(name)))) {
            o->headers[i].value = ta_str_of(value, strlen(value));
            return;
        }
    }
    FAIL("no field %s", name);
}

static int status(const opening *o)
{
    ta_ws_handshake hs;
    if (ta_ws_handshake_check(&o->req, true, &hs) == TA_OK)
        return 101;
    CHECK(hs.reason && *hs.reason);
    return hs.status;
}

TA_TEST(requests)
{
    opening *o = good();
    CHECK_INT(status(o), ==, 101);
    o->req.content_length = 0;
    CHECK_INT(status(o), ==, 101);
    (o = good())->req.has_body = true;
    CHECK_INT(status(o), ==, 400);
    (o = good())->req.body_eof = false;
    CHECK_INT(status(o), ==, 400);
    (o = good())->req.method_id = TA_METHOD_POST;
    CHECK_INT(status(o), ==, 405);
    (o = good())->req.version = TA_HTTP_1_0;
    CHECK_INT(status(o), ==, 400);
    (o = good())->req.upgrade = false;
    CHECK_INT(status(o), ==, 426);
    set(o = good(), "upgrade", "h2c");
    CHECK_INT(status(o), ==, 426);
    set(o = good(), "upgrade", "h2c , websocket");
    CHECK_INT(status(o), ==, 101);
    set(o = good(), "upgrade", "websockets");
    CHECK_INT(status(o), ==, 426);
}

TA_TEST(versions)
{
    static const char *const bad[] = {"", "8", "12", "14", "013", "13, 8"};
    opening *o;
    for (size_t i = 0; i < TA_COUNTOF(bad); i++) {
        set(o = good(), "sec-websocket-version", bad[i]);
        CHECK_INT(status(o), ==, 426);
    }
    add(o = good(), "sec-websocket-version", "13");
    CHECK_INT(status(o), ==, 426);
}

TA_TEST(keys)
{
    static const char *const bad[] = {"",
                                      "short",
                                      "dGhlIHNhbXBsZSBub25jZQ=",
                                      "dGhlIHNhbXBsZSBub25jZQ===",
                                      "dGhlIHNhbXBsZSBub25jZQAA",
                                      "dGhlIHNhbXBsZSBub25j Q==",
                                      "dGhlIHNhbXBsZSBub25jZ=Q="};
    opening *o;
    for (size_t i = 0; i < TA_COUNTOF(bad); i++) {
        set(o = good(), "sec-websocket-key", bad[i]);
        CHECK_INT(status(o), ==, 400);
    }
    add(o = good(), "sec-websocket-key", key);
    CHECK_INT(status(o), ==, 400);
}

TA_TEST(subprotocols)
{
    opening *o = good();
    size_t at = 0;
    ta_str name;
    add(o, "sec-websocket-protocol", "one,two ,, three");
    add(o, "sec-websocket-protocol", "four");
    static const char *const want[] = {"one", "two", "three", "four"};
    for (size_t i = 0; i < TA_COUNTOF(want); i++) {
        CHECK(ta_ws_next_protocol(o->headers, o->req.nheaders, &at, &name));
        CHECK_STR(name, want[i]);
    }
    CHECK(!ta_ws_next_protocol(o->headers, o->req.nheaders, &at, &name));
    CHECK(ta_ws_protocol_ok(TA_STR("graphql-ws.v1")));
    CHECK(!ta_ws_protocol_ok(TA_STR("")));
    CHECK(!ta_ws_protocol_ok(TA_STR("a b")));
    CHECK(!ta_ws_protocol_ok(TA_STR("a\r\nb")));
    CHECK(!ta_ws_protocol_ok(ta_str_of("a\0b", 3)));
}

/* What is answered to an offer: the value of the field, or "" when there is none. */
static const char *agreed(const char *offer, const char *second)
{
    static char value[300];
    opening *o = good();
    ta_ws_handshake hs;
    ta_fields out;
    ta_fields_init(&out);
    add(o, "sec-websocket-extensions", offer);
    if (second)
        add(o, "sec-websocket-extensions", second);
    CHECK_INT(ta_ws_handshake_check(&o->req, true, &hs), ==, TA_OK);
    CHECK_INT(ta_ws_handshake_answer(&hs, TA_STR(""), &out), ==, TA_OK);
    value[0] = 0;
    uint32_t i = 0;
    ta_str found;
    bool there = ta_fields_find(&out, TA_STR("sec-websocket-extensions"), &i, &found);
    if (there)
        snprintf(value, sizeof value, "%.*s", (int)found.len, found.ptr);
    CHECK_INT(there, ==, hs.deflate.on);
    ta_fields_free(&out);
    return value;
}

#define AGREED(offer, want)                                                                        \
    CHECK_STR(ta_str_of(agreed(offer, NULL), strlen(agreed(offer, NULL))), want)
#define OURS "permessage-deflate; server_max_window_bits=12"

TA_TEST(compression)
{
    AGREED("permessage-deflate", OURS);
    AGREED("Permessage-Deflate", OURS);
    AGREED("permessage-deflate; client_max_window_bits", OURS "; client_max_window_bits=12");
    AGREED("permessage-deflate; client_max_window_bits=15", OURS "; client_max_window_bits=12");
    AGREED("permessage-deflate; client_max_window_bits=8", OURS "; client_max_window_bits=8");
    AGREED("permessage-deflate ;server_max_window_bits = \"9\"",
           "permessage-deflate; server_max_window_bits=9");
    AGREED("permessage-deflate; server_no_context_takeover; client_no_context_takeover",
           "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
           "server_max_window_bits=12");
}

TA_TEST(compression_declined)
{
    static const char *const bad[] = {
        "",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate=1",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; client_max_window_bits=99",
        "permessage-deflate; client_max_window_bits=\"",
        "permessage-deflate; client_max_window_bits=\"1",
        "permessage-deflate;",
        "permessage-deflate; ;",
        ", permessage-deflate",
        "permessage-deflate permessage-deflate",
        "=, permessage-deflate",
    };
    for (size_t i = 0; i < TA_COUNTOF(bad); i++) {
        snprintf(ta_test_note, sizeof ta_test_note, "%s", bad[i]);
        AGREED(bad[i], "");
    }
}

TA_TEST(the_first_good_offer)
{
    AGREED("foo, permessage-deflate; server_max_window_bits=8, permessage-deflate; "
           "server_max_window_bits=10, permessage-deflate",
           "permessage-deflate; server_max_window_bits=10");
    AGREED("foo; a=\"x\", permessage-deflate", OURS);
    const char *value = agreed("broken=, permessage-deflate", "permessage-deflate");
    CHECK_STR(ta_str_of(value, strlen(value)), OURS);
}

TA_TEST(compression_off)
{
    ta_ws_handshake hs;
    opening *o = good();
    add(o, "sec-websocket-extensions", "permessage-deflate");
    CHECK_INT(ta_ws_handshake_check(&o->req, false, &hs), ==, TA_OK);
    CHECK(!hs.deflate.on);
}

TA_TEST(answer)
{
    ta_ws_handshake hs;
    ta_fields out;
    ta_fields_init(&out);
    CHECK_INT(ta_ws_handshake_check(&good()->req, true, &hs), ==, TA_OK);
    CHECK_INT(ta_ws_handshake_answer(&hs, TA_STR("chat"), &out), ==, TA_OK);
    CHECK_STR(ta_buf_str(&out.text), "upgrade: websocket\r\nconnection: Upgrade\r\n"
                                     "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                     "sec-websocket-protocol: chat\r\n");
    ta_fields_free(&out);
}

static void make_answer(void)
{
    ta_ws_handshake hs;
    ta_fields out;
    ta_fields_init(&out);
    CHECK_INT(ta_ws_handshake_check(&good()->req, true, &hs), ==, TA_OK);
    int rc = ta_ws_handshake_answer(&hs, TA_STR("chat"), &out);
    CHECK(rc == TA_OK || rc == TA_ENOMEM);
    ta_fields_free(&out);
}

TA_TEST(out_of_memory)
{
    ta_failmalloc_all(make_answer);
}
