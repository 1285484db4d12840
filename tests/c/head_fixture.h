/* head_fixture.h -- heads of responses from the text of their fields. */
#ifndef TA_HEAD_FIXTURE_H
#define TA_HEAD_FIXTURE_H

#include <stdlib.h>

#include "http/headers.h"
#include "http/http.h"

enum { HEADS = 4, HEAD_FIELDS = 8 };

/*
 * The head with these field lines ("name: value" CRLF after each, lower case).  Allocates nothing;
 * valid until the fourth call from then.
 */
static inline const ta_response_head *head_of(int status, const char *lines)
{
    static ta_response_head heads[HEADS];
    static ta_field places[HEADS][HEAD_FIELDS];
    static unsigned next;
    unsigned slot = next++ % HEADS;
    ta_response_head *head = &heads[slot];
    *head = ta_head_bare(status);
    head->text = ta_str_of(lines, strlen(lines));
    head->fields = places[slot];
    for (const char *line = lines, *end; *line; line = end + 2) {
        const char *value = strstr(line, ": ") + 2;
        end = strstr(value, "\r\n");
        ta_field *field = &places[slot][head->nfields++];
        *field = (ta_field){(uint32_t)(line - lines), (uint32_t)(value - lines),
                            (uint32_t)(end - value)};
        ta_str name = ta_field_name(head->text, field), text = ta_field_value(head->text, field);
        if (ta_str_eq(name, TA_STR("content-length")) && !ta_length_of(text, &head->length))
            abort();
        if (ta_str_eq(name, TA_STR("connection")) && ta_list_has(text, TA_STR("close")))
            head->flags |= TA_RESP_CLOSE;
    }
    return head;
}

#endif
