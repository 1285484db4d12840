/*
 * WebSockets after their handshake: frames, fragments, ends, limits at their edges, backpressure,
 * time.  The bytes of each case also come in pieces, one by one and at random.
 */
#include "http/ws/conn.h"

#include "ta_failmalloc.h"
#include "ta_test.h"
#include "ws_fixture.h"

#define CHECK_FAILS(bytes, len, text)                                                              \
    check_bytes(ta_str_of(bytes, len), "<88 1002 " text ">close;END 1002 " text ";", __FILE__,     \
                __LINE__)

TA_TEST(messages)
{
    CHECK_WS("T hello;", FRAME(TEXT, "hello"));
    CHECK_WS("B hello;", FRAME(BINARY, "hello"));
    CHECK_WS("T ;", FRAME(TEXT, ""));
    CHECK_WS("T one;T two;", FRAME(TEXT, "one"), FRAME(TEXT, "two"));
    CHECK_WS("T \xc3\xbc;", FRAME(TEXT, "\xc3\xbc"));
}

TA_TEST(fragments)
{
    CHECK_WS("T abc;", PART(TEXT, "a"), PART(CONT, "b"), FRAME(CONT, "c"));
    CHECK_WS("T ;", PART(TEXT, ""), PART(CONT, ""), FRAME(CONT, ""));
    CHECK_WS("B x;", PART(BINARY, ""), FRAME(CONT, "x"));
    CHECK_WS("T \xe2\x82\xac;", PART(TEXT, "\xe2\x82"), FRAME(CONT, "\xac"));
    CHECK_WS("<8a p>T ab;T c;", PART(TEXT, "a"), FRAME(PING, "p"), FRAME(PONG, "q"),
             FRAME(CONT, "b"), FRAME(TEXT, "c"));
}

TA_TEST(control_frames)
{
    CHECK_WS("<8a >", FRAME(PING, ""));
    CHECK_WS("<8a 1><8a 2>", FRAME(PING, "1"), FRAME(PING, "2"));
    CHECK_WS("", FRAME(PONG, "x"));
    CHECK_WS("<88 1000>close;END 1000 ;", FRAME(CLOSE, "\x03\xe8"));
    CHECK_WS("<88 4999>close;END 4999 bye;", FRAME(CLOSE, "\x13\x87"
                                                          "bye"));
    CHECK_WS("<88 >close;END 1005 ;", FRAME(CLOSE, ""));
    /* Nothing behind it is looked at. */
    CHECK_WS("<88 1001>close;END 1001 ;", FRAME(CLOSE, "\x03\xe9"), FRAME(TEXT, "x"));
}

TA_TEST(close_codes)
{
    static const unsigned good[] = {1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4999};
    static const unsigned bad[] = {0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535};
    for (size_t i = 0; i < TA_COUNTOF(good); i++)
        CHECK(ta_ws_code_ok(good[i]));
    for (size_t i = 0; i < TA_COUNTOF(bad); i++)
        CHECK(!ta_ws_code_ok(bad[i]));
    CHECK_WS("<88 1002 invalid close code>close;END 1002 invalid close code;",
             FRAME(CLOSE, "\x03"));
    CHECK_WS("<88 1002 invalid close code>close;END 1002 invalid close code;",
             FRAME(CLOSE, "\x03\xec"));
    CHECK_WS("<88 1007 invalid UTF-8 in close reason>close;END 1007 invalid UTF-8 in close reason;",
             FRAME(CLOSE, "\x03\xe8\xff"));
    CHECK_WS("<88 1007 invalid UTF-8 in close reason>close;END 1007 invalid UTF-8 in close reason;",
             FRAME(CLOSE, "\x03\xe8\xc3"));
}

TA_TEST(violations)
{
    CHECK_FAILS("\x81\x01x", 2 + 1, "unmasked frame");
    CHECK_FAILS("\xc1\x81\0\0\0\0x", 7, "reserved bits set");
    CHECK_FAILS("\xa1\x81\0\0\0\0x", 7, "reserved bits set");
    CHECK_FAILS("\x91\x81\0\0\0\0x", 7, "reserved bits set");
    for (char opcode = 3; opcode < 16; opcode++) {
        char frame[] = {(char)(0x80 | opcode), (char)0x80, 0, 0, 0, 0};
        if (opcode >= 8 && opcode <= 10)
            continue;
        CHECK_FAILS(frame, 6, "unknown opcode");
    }
    CHECK_FAILS("\x80\x80\0\0\0\0", 6, "unexpected continuation frame");
    CHECK_FAILS("\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 12, "expected a continuation frame");
    CHECK_FAILS("\x09\x80\0\0\0\0", 6, "invalid frame");         /* fragmented ping */
    CHECK_FAILS("\x89\xfe\x00\x7e\0\0\0\0", 8, "invalid frame"); /* 126 bytes */
    CHECK_FAILS("\x81\xfe\x00\x7d\0\0\0\0", 8, "invalid frame"); /* not the shortest */
    CHECK_FAILS("\x81\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14, "invalid frame");
    CHECK_FAILS("\x81\xff\x80\0\0\0\0\1\0\0\0\0\0\0", 14, "invalid frame"); /* top bit */
}

TA_TEST(text_that_is_none)
{
    CHECK_WS("<88 1007 invalid UTF-8>close;END 1007 invalid UTF-8;", FRAME(TEXT, "\xff"));
    CHECK_WS("<88 1007 invalid UTF-8>close;END 1007 invalid UTF-8;", FRAME(TEXT, "\xc3"));
    CHECK_WS("<88 1007 invalid UTF-8>close;END 1007 invalid UTF-8;", PART(TEXT, "\xc3"),
             FRAME(CONT, ""));
    /* at once, not at the end of the message */
    CHECK_WS("<88 1007 invalid UTF-8>close;END 1007 invalid UTF-8;", PART(TEXT, "ab\xff"));
    CHECK_WS("B \xff;", FRAME(BINARY, "\xff"));
}

TA_TEST(size_at_its_edge)
{
    fixture_cfg.max_size = 5;
    CHECK_WS("T 12345;", FRAME(TEXT, "12345"));
    CHECK_WS("T 12345;", PART(TEXT, "123"), FRAME(CONT, "45"));
    CHECK_WS("<88 1009 message too big>close;END 1009 message too big;", FRAME(TEXT, "123456"));
    CHECK_WS("<88 1009 message too big>close;END 1009 message too big;", PART(TEXT, "123"),
             FRAME(CONT, "456"));
    /* Control frames have their own. */
    CHECK_WS("<8a 123456>", FRAME(PING, "123456"));
    /* The header alone, with one byte of the data, is enough to know. */
    fixture_open();
    fixture_input("\x82\xff\0\0\0\0\x7f\0\0\0\0\0\0\0x", 15);
    CHECK_STR(fixture_log(), "<88 1009 message too big>close;END 1009 message too big;");
    fixture_shut();
}

TA_TEST(compressed)
{
    fixture_cfg.deflate = (ta_ws_deflate_params){.on = true, .server_bits = 12, .client_bits = 12};
    CHECK_WS("T Hello;", RAW("\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00"));
    CHECK_WS("T Hello;", RAW("\x41\x83\0\0\0\0\xf2\x48\xcd\x80\x84\0\0\0\0\xc9\xc9\x07\x00"));
    CHECK_WS("<8a p>T Hello;", RAW("\x41\x83\0\0\0\0\xf2\x48\xcd"), FRAME(PING, "p"),
             RAW("\x80\x84\0\0\0\0\xc9\xc9\x07\x00"));
    CHECK_WS("T plain;", FRAME(TEXT, "plain"));
    CHECK_WS("<88 1007 invalid compressed data>close;END 1007 invalid compressed data;",
             RAW("\xc1\x82\0\0\0\0\xff\xff"));
    /* RSV1 belongs to the first frame of a message, and to no control frame. */
    CHECK_FAILS("\x41\x83\0\0\0\0\xf2\x48\xcd\xc0\x84\0\0\0\0\xc9\xc9\x07\x00", 19,
                "reserved bits set");
    CHECK_FAILS("\xc9\x80\0\0\0\0", 6, "reserved bits set");
    CHECK_FAILS("\xa1\x80\0\0\0\0", 6, "reserved bits set");
    fixture_cfg.max_size = 5;
    CHECK_WS("T Hello;", RAW("\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00"));
    fixture_cfg.max_size = 4;
    CHECK_WS("<88 1009 message too big>close;END 1009 message too big;",
             RAW("\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00"));
}

TA_TEST(lengths)
{
    static const size_t sizes[] = {125, 126, 127, 4095, 4096, 4097, 65535, 65536, 200000};
    static char text[200000], in[200014];
    for (size_t i = 0; i < TA_COUNTOF(sizes); i++) {
        size_t n = sizes[i], head = n < 126 ? 2 : n < 65536 ? 4 : 10;
        in[0] = (char)0x82;
        in[1] = (char)(0x80 | (n < 126 ? n : n < 65536 ? 126 : 127));
        for (size_t at = 2; at < head; at++)
            in[at] = (char)(n >> 8 * (head - 1 - at));
        memcpy(in + head, "mask", 4);
        for (size_t at = 0; at < n; at++) {
            text[at] = (char)(at * 31 >> 3);
            in[head + 4 + at] = (char)(text[at] ^ "mask"[at & 3]);
        }
        fixture_cfg.max_size = n;
        fixture_open();
        for (size_t at = 0; at < head + 4 + n; at += 5000)
            fixture_input(in + at, TA_MIN((size_t)5000, head + 4 + n - at));
        CHECK_INT(fixture.last_len, ==, n);
        CHECK_MEM(fixture.last, text, n);
        CHECK_INT(ta_ws_send(fixture.ws, false, ta_str_of(text, n), NULL), ==, TA_OK);
        CHECK_INT(fixture.out_bytes, ==, head + n);
        fixture_shut();
    }
}

TA_TEST(sending)
{
    fixture_open();
    CHECK_INT(ta_ws_send(fixture.ws, true, TA_STR("hi"), NULL), ==, TA_OK);
    CHECK_INT(ta_ws_send(fixture.ws, false, TA_STR(""), NULL), ==, TA_OK);
    ta_ws_close(fixture.ws, 1001, TA_STR("away"));
    CHECK_INT(ta_ws_send(fixture.ws, true, TA_STR("hi"), NULL), ==, TA_ECLOSED);
    ta_ws_close(fixture.ws, 1000, TA_STR(""));
    CHECK_STR(fixture_log(), "<81 hi><82 ><88 1001 away>");
    /* What is on its way is dropped, the peer's close ends it. */
    INPUT(FRAME(TEXT, "late"), FRAME(PING, "p"), PART(TEXT, "part"));
    CHECK_STR(fixture_log(), "<81 hi><82 ><88 1001 away>");
    INPUT(FRAME(CLOSE, "\x03\xe9"));
    CHECK_STR(fixture_log(), "<81 hi><82 ><88 1001 away>close;");
    fixture_shut();
}

TA_TEST(reasons_are_cut_between_characters)
{
    char reason[200];
    for (int i = 0; i < 100; i++)
        memcpy(reason + 2 * i, "\xc3\xbc", 2);
    fixture_open();
    ta_ws_close(fixture.ws, 1000, ta_str_of(reason, 200));
    CHECK_INT(fixture.out_bytes, ==, 2 + 2 + 122);
    fixture_shut();
    fixture_open();
    ta_ws_close(fixture.ws, 1000,
                ta_str_of("123456789012345678901234567890123456789012345678901234"
                          "567890123456789012345678901234567890123456789012345678"
                          "901234567890123456",
                          124));
    CHECK_INT(fixture.out_bytes, ==, 2 + 2 + 123);
    fixture_shut();
    fixture_open();
    ta_ws_close(fixture.ws, TA_WS_NO_STATUS, TA_STR("never sent"));
    CHECK_STR(fixture_log(), "<88 >");
    fixture_shut();
}

TA_TEST(the_transport_is_lost)
{
    fixture_open();
    ta_ws_input(fixture.ws, NULL, 0);
    CHECK_STR(fixture_log(), "close;END 1006 ;");
    ta_ws_input(fixture.ws, NULL, 0);
    CHECK_INT(ta_ws_send(fixture.ws, true, TA_STR("x"), NULL), ==, TA_ECLOSED);
    CHECK_STR(fixture_log(), "close;END 1006 ;");
    fixture_shut();
    fixture_open();
    ta_ws_close(fixture.ws, 1000, TA_STR(""));
    ta_ws_input(fixture.ws, NULL, 0);
    CHECK_STR(fixture_log(), "<88 1000>close;");
    fixture_shut();
}

TA_TEST(a_write_that_fails)
{
    fixture_open();
    fixture.write_rc = TA_ECLOSED;
    CHECK_INT(ta_ws_send(fixture.ws, true, TA_STR("x"), NULL), ==, TA_ECLOSED);
    INPUT(FRAME(PING, "p"), FRAME(TEXT, "t"));
    CHECK_STR(fixture_log(), "T t;");
    fixture_shut();
}

/* -- backpressure ----------------------------------------------------------------------------- */

TA_TEST(a_pause_holds_messages_back)
{
    fixture_open();
    fixture.pause_at = 2;
    INPUT(FRAME(TEXT, "1"), FRAME(TEXT, "2"), FRAME(TEXT, "3"), FRAME(PING, "p"), FRAME(TEXT, "4"));
    CHECK_STR(fixture_log(), "T 1;T 2;read off;");
    /* What comes all the same is kept. */
    INPUT(FRAME(TEXT, "5"));
    CHECK_STR(fixture_log(), "T 1;T 2;read off;");
    fixture.pause_at = 4;
    ta_ws_pause(fixture.ws, false);
    CHECK_STR(fixture_log(), "T 1;T 2;read off;T 3;<8a p>T 4;");
    fixture.pause_at = 0;
    ta_ws_pause(fixture.ws, false);
    CHECK_STR(fixture_log(), "T 1;T 2;read off;T 3;<8a p>T 4;T 5;read on;");
    fixture_shut();
}

TA_TEST(a_pause_that_ends_within_the_upcall)
{
    fixture_open();
    fixture.pause_and_resume = true;
    INPUT(FRAME(TEXT, "1"), FRAME(TEXT, "2"));
    INPUT(FRAME(TEXT, "3"));
    CHECK_STR(fixture_log(), "T 1;read off;T 2;read on;T 3;read off;read on;");
    fixture_shut();
}

TA_TEST(closing_ends_a_pause)
{
    fixture_open();
    fixture.pause_at = 1;
    INPUT(FRAME(TEXT, "1"), FRAME(TEXT, "2"), FRAME(CLOSE, "\x03\xe8"));
    ta_ws_close(fixture.ws, 1000, TA_STR(""));
    CHECK_STR(fixture_log(), "T 1;read off;<88 1000>close;");
    fixture_shut();
}

TA_TEST(pongs_that_are_not_read)
{
    fixture_open();
    fixture.write_rc = TA_AGAIN;
    INPUT(FRAME(PING, "1"), FRAME(PING, "2"), FRAME(TEXT, "t"));
    CHECK_STR(fixture_log(), "<8a 1>read off;");
    fixture.write_rc = TA_OK;
    ta_ws_drained(fixture.ws);
    CHECK_STR(fixture_log(), "<8a 1>read off;<8a 2>T t;read on;");
    /* Messages of ours that wait do not stop us from reading. */
    fixture.write_rc = TA_AGAIN;
    CHECK_INT(ta_ws_send(fixture.ws, true, TA_STR("m"), NULL), ==, TA_AGAIN);
    INPUT(FRAME(TEXT, "u"));
    CHECK_STR(fixture_log(), "<8a 1>read off;<8a 2>T t;read on;<81 m>T u;");
    fixture_shut();
}

/* -- time ------------------------------------------------------------------------------------- */

TA_TEST(pings)
{
    fixture_cfg.ping_interval_ms = 20;
    fixture_cfg.ping_timeout_ms = 50;
    fixture_open();
    fixture_until("<89 #1>");
    CHECK_STR(fixture_log(), "<89 #1>");
    INPUT(FRAME(PONG, "\1\0\0\0"));
    fixture_until("<89 #2>");
    CHECK_STR(fixture_log(), "<89 #1><89 #2>");
    fixture_until("END");
    CHECK_STR(fixture_log(), "<89 #1><89 #2><88 1011 keepalive ping timeout>"
                             "close;END 1011 keepalive ping timeout;");
    fixture_shut();
}

TA_TEST(pings_without_a_timeout)
{
    fixture_cfg.ping_interval_ms = 20;
    fixture_open();
    fixture_until("<89 #3>");
    CHECK_INT(ta_ws_send(fixture.ws, true, TA_STR("hi"), NULL), ==, TA_OK);
    fixture_shut();
}

TA_TEST(no_timeout_while_we_do_not_read)
{
    fixture_cfg.ping_interval_ms = 10;
    fixture_cfg.ping_timeout_ms = 10;
    fixture_open();
    ta_ws_pause(fixture.ws, true);
    fixture_wait(80);
    CHECK_INT(ta_ws_send(fixture.ws, true, TA_STR("hi"), NULL), ==, TA_OK);
    fixture_shut();
}

TA_TEST(a_close_that_is_not_answered)
{
    fixture_cfg.close_timeout_ms = 20;
    fixture_open();
    ta_ws_close(fixture.ws, 1000, TA_STR(""));
    CHECK_STR(fixture_log(), "<88 1000>");
    fixture_until("close;");
    CHECK_STR(fixture_log(), "<88 1000>close;");
    fixture_shut();
    fixture_cfg.close_timeout_ms = 0;
    fixture_open();
    ta_ws_close(fixture.ws, 1000, TA_STR(""));
    CHECK_STR(fixture_log(), "<88 1000>close;");
    fixture_shut();
}

/* -- memory ----------------------------------------------------------------------------------- */

static void talk(void)
{
    fixture_cfg.deflate = (ta_ws_deflate_params){.on = true, .server_bits = 12, .client_bits = 12};
    if (!fixture_try_open())
        return;
    fixture.pause_at = 1;
    INPUT(PART(TEXT, "a"), FRAME(CONT, "b"), FRAME(TEXT, "c"),
          RAW("\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00"));
    fixture.pause_at = 0;
    ta_ws_pause(fixture.ws, false);
    char big[300] = {0};
    int rc = ta_ws_send(fixture.ws, false, ta_str_of(big, sizeof big), NULL);
    CHECK(rc == TA_OK || rc == TA_ENOMEM || rc == TA_ECLOSED);
    fixture_shut();
}

TA_TEST(out_of_memory)
{
    ta_failmalloc_all(talk);
}
