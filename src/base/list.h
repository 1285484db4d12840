/* list.h -- an intrusive, circular, doubly linked list.  Layer: base. */
#ifndef TA_BASE_LIST_H
#define TA_BASE_LIST_H

#include "base/ta_base.h"

typedef struct ta_list_node {
    struct ta_list_node *prev, *next; /* both NULL while in no list */
} ta_list_node;

static inline void ta_list_init(ta_list_node *head)
{
    head->prev = head->next = head;
}
static inline bool ta_list_empty(const ta_list_node *head)
{
    return head->next == head;
}
static inline bool ta_list_linked(const ta_list_node *node)
{
    return node->next != NULL;
}
/* The node must be in no list: one that is zeroed, or was removed. */
static inline void ta_list_push_back(ta_list_node *head, ta_list_node *node)
{
    TA_ASSERT(!ta_list_linked(node) && node->prev == NULL);
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}
static inline void ta_list_remove(ta_list_node *node)
{
    if (!ta_list_linked(node))
        return;
    TA_ASSERT(node->prev->next == node && node->next->prev == node);
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = node->next = NULL;
}

#endif
