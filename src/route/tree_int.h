/* tree_int.h -- the tree's inside, shared by tree.c (builds) and match.c (reads).  Layer: route. */
#ifndef TA_ROUTE_TREE_INT_H
#define TA_ROUTE_TREE_INT_H

#include "base/mem.h"
#include "route/tree.h"

#define TA_ROUTE_NCONV 5

/*
 * A node stands for a position between two tokens of a path format.  Below it is more literal text
 * (one child per first byte) or a parameter (one child per convertor); there is one path from the
 * root to each entry.  All memory belongs to the tree's arena.
 */
typedef struct ta_node ta_node;
struct ta_node {
    ta_str label;   /* literal text that leads here; empty for the root and behind a parameter */
    uint32_t first; /* the lowest index of the entries that end here or below */
    uint32_t nlits, nends, nopaque;
    bool leaf;       /* nothing but ends */
    bool plain;      /* only ends and literals that begin with "/" */
    char *lit_bytes; /* after finish: first byte of each literal child */
    ta_node **lits;  /* after finish */
    uint32_t *ends;  /* after finish: entries that end here, in order */
    uint32_t
        *opaque; /* after finish: entries that match whatever they like from here on, in order */
    ta_node *convs[TA_ROUTE_NCONV];
    /* while building */
    ta_node *lit_list; /* literal children, linked by `next` */
    ta_node *next;
    struct ta_end *end_list, *end_last, *opaque_list, *opaque_last;
};

typedef struct ta_end {
    uint32_t index;
    struct ta_end *next;
} ta_end;

typedef struct ta_entry {
    ta_route_kind kind;
    bool any_method;
    uint32_t methods; /* bit ta_method of each known one */
    uint32_t nothers, nparams;
    ta_str *others; /* methods without a ta_method of their own */
    ta_route_param *params;
} ta_entry;

struct ta_route_tree {
    ta_arena arena;
    ta_node root;
    ta_entry *entries; /* owned */
    uint32_t count, cap;
    bool finished;
};

#endif
