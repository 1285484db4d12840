/*
 * tree.h -- the route table: a radix tree over Starlette's path formats.
 *
 * Layer: route (over http and base).  Semantics are those of Starlette's Router: entries stand in
 * declaration order and the first that matches path *and* method wins, however specific a later
 * one is.  A path format is literal text with "{name}" or "{name:convertor}"; the pattern is
 * anchored at both ends, and as Python's "$" does, its end also matches before a final "\n".
 *
 * A tree is built once (new, add..., finish) and immutable afterwards: any number of threads may
 * match in it at once.
 */
#ifndef TA_ROUTE_TREE_H
#define TA_ROUTE_TREE_H

#include "base/ta_base.h"
#include "http/http.h"

#define TA_ROUTE_MAX_PARAMS 32   /* of one path format; one with more is opaque */
#define TA_ROUTE_MAX_PATH   2048 /* bytes of a path format; a longer one is opaque */

typedef struct ta_route_tree ta_route_tree;

typedef enum ta_route_kind {
    TA_ROUTE_ROUTE = 0, /* matches its path format as a whole */
    TA_ROUTE_MOUNT,     /* matches below its path ("/{path:path}" is added), with every method */
    TA_ROUTE_ANY /* opaque: may match anything that begins with the literal start of its path */
} ta_route_kind;

typedef enum ta_route_conv {
    TA_CONV_STR = 0, /* [^/]+ */
    TA_CONV_INT,     /* [0-9]+ */
    TA_CONV_FLOAT,   /* [0-9]+(\.[0-9]+)? */
    TA_CONV_UUID,    /* 8-4-4-4-12 hexadecimal digits, each hyphen optional */
    TA_CONV_PATH     /* .* : anything but a line feed, or nothing */
} ta_route_conv;

/* A parameter of an entry, in the order of its path. */
typedef struct ta_route_param {
    ta_str name; /* slice of the tree's own memory */
    ta_route_conv conv;
} ta_route_param;

/* What is known of a request, see ta_route_tree_find. */
typedef enum ta_route_found {
    TA_FOUND_NONE = 0, /* no entry matches the path */
    TA_FOUND_PARTIAL,  /* some entry matches the path, but none of these has the method */
    TA_FOUND_FULL,     /* `index` is the first entry that matches path and method */
    TA_FOUND_ASK,      /* `index`, which only its owner understands, precedes any full match */
    TA_FOUND_GAVE_UP   /* the path makes the patterns backtrack beyond reason */
} ta_route_found;

#define TA_ROUTE_NONE UINT32_MAX /* no entry */

typedef struct ta_route_match {
    uint32_t index;   /* of the entry, in declaration order */
    uint32_t partial; /* the first entry that matches the path but lacks the method, or NONE */
    uint32_t nparams;
    ta_str
        values[TA_ROUTE_MAX_PARAMS]; /* slices of the path that was matched; not NUL-terminated */
} ta_route_match;

/* NULL when memory is out. */
TA_MUST_CHECK ta_route_tree *ta_route_tree_new(void);
void ta_route_tree_free(ta_route_tree *tree); /* NULL is fine */

/*
 * Adds an entry after the others; its index is the number of entries before it.  `methods` are
 * exact (case matters, GET does not imply HEAD); nmethods == 0: every method.  Everything is
 * copied.  A path with an unknown convertor, too many parameters or too long a text becomes
 * TA_ROUTE_ANY, which ignores methods and whose path may be empty.  Results: TA_OK; TA_ENOMEM;
 * TA_EINVAL: a name twice in one path, or the tree is finished.
 */
TA_MUST_CHECK int ta_route_tree_add(ta_route_tree *tree, ta_route_kind kind, ta_str path,
                                    const ta_str *methods, size_t nmethods);
/* Makes the tree ready for matching.  TA_OK or TA_ENOMEM. */
TA_MUST_CHECK int ta_route_tree_finish(ta_route_tree *tree);

/* Return what an entry became (an opaque one has no parameters). */
ta_route_kind ta_route_tree_kind(const ta_route_tree *tree, uint32_t index);
const ta_route_param *ta_route_tree_params(const ta_route_tree *tree, uint32_t index,
                                           uint32_t *count);

/*
 * Finds what Starlette's Router would find among the entries from `start` on.  `path` is the
 * decoded path (UTF-8, not checked) without root_path; `method` matters only if method_id is
 * TA_METHOD_OTHER.  No allocation; the cost does not depend on the number of entries.
 *
 * FULL sets index, nparams and values (a mount's last value is what is below it); ASK sets index:
 * an opaque entry, or one whose value Python may refuse to convert.  All but GAVE_UP set partial,
 * which precedes index.  A caller that asked and was told no continues with start = index + 1, and
 * keeps the partial match that was found first.
 */
ta_route_found ta_route_tree_find(const ta_route_tree *tree, ta_method method_id, ta_str method,
                                  ta_str path, uint32_t start, ta_route_match *out);

#endif
