/*
 * match.c -- see tree.h: finding the first entry that matches, in full or in part.
 *
 * The walk tries every path through the tree that may lead to an entry with a lower index than the
 * best one so far.  It tries the possible ends of a parameter from the longest on, as a regular
 * expression with greedy quantifiers does.  Since there is only one path to each entry, the first
 * time that the walk reaches one it has the slices that the entry's regular expression would
 * capture.
 */
#include "route/convert.h"
#include "route/tree_int.h"

enum {
    MAX_VISITS = 50000, /* nodes visited before the search is given up; a usual path has a dozen */
    MAX_DIGITS = 640,   /* of an int: Python may refuse to read more, and must then raise itself */
};

typedef struct walk {
    const ta_route_tree *tree;
    const char *s;
    size_t len;
    ta_method method_id;
    ta_str method;
    uint32_t start;   /* entries before this one do not count */
    uint32_t best;    /* the first that matches or has to be asked; none behind it matters */
    uint32_t partial; /* the first that matches but for the method */
    uint32_t visits;
    uint32_t depth; /* parameters on the way to here */
    bool ask;       /* best has to be asked */
    bool doubtful;  /* a value on the way to here is one that Python may refuse */
    ta_route_match *out;
    ta_str caught[TA_ROUTE_MAX_PARAMS];
} walk;

static bool method_matches(const walk *w, const ta_entry *entry)
{
    if (entry->any_method)
        return true;
    if (TA_LIKELY(w->method_id != TA_METHOD_OTHER))
        return entry->methods >> w->method_id & 1;
    for (uint32_t i = 0; i < entry->nothers; i++)
        if (ta_str_eq(entry->others[i], w->method))
            return true;
    return false;
}

static void visit(walk *w, const ta_node *node, size_t pos);

/* Takes pos to end as the parameter and visits what follows it. */
static inline void catch_and_visit(walk *w, const ta_node *node, size_t pos, size_t end)
{
    TA_ASSERT(w->depth < TA_ROUTE_MAX_PARAMS && end >= pos && end <= w->len);
    w->caught[w->depth++] = ta_str_of(w->s + pos, end - pos);
    visit(w, node, end);
    w->depth--;
}

/* Tries the ends from `longest` down to `shortest`; `once`: only the longest can lead further. */
static void try_ends(walk *w, const ta_node *node, size_t pos, size_t longest, size_t shortest,
                     bool once)
{
    if (once)
        shortest = longest;
    for (size_t end = longest + 1; end-- > shortest;) {
        if (end < w->len && ((unsigned char)w->s[end] & 0xc0) == 0x80)
            continue; /* inside a character */
        catch_and_visit(w, node, pos, end);
        if (TA_UNLIKELY(node->first >= w->best || w->visits > MAX_VISITS))
            return;
    }
}

/*
 * On the shortcut: a value can be followed by the end of the path (perhaps before a final line
 * feed), by "/", or by something else.  Where the tree has only the first two, no end but the
 * longest can match: str, int and float values contain no "/", and cutting one leaves one of its
 * own characters next.
 */
static void visit_param(walk *w, const ta_node *node, ta_route_conv conv, size_t pos)
{
    const char *s = w->s + pos;
    size_t left = w->len - pos;
    size_t n;
    switch (conv) {
    case TA_CONV_STR: {
        const char *slash = left ? memchr(s, '/', left) : NULL;
        n = slash ? (size_t)(slash - s) : left;
        if (n > 0)
            try_ends(w, node, pos, pos + n, pos + 1, node->plain);
        return;
    }
    case TA_CONV_INT:
        n = ta_conv_digits(s, left);
        if (TA_UNLIKELY(n > MAX_DIGITS)) {
            bool before = w->doubtful;
            w->doubtful = true;
            try_ends(w, node, pos, pos + n, pos + 1, node->plain);
            w->doubtful = before;
        } else if (n > 0) {
            try_ends(w, node, pos, pos + n, pos + 1, node->plain);
        }
        return;
    case TA_CONV_FLOAT: {
        n = ta_conv_digits(s, left);
        if (n == 0)
            return;
        size_t fraction = 0;
        if (n < left && s[n] == '.')
            fraction = ta_conv_digits(s + n + 1, left - n - 1);
        if (fraction > 0) {
            try_ends(w, node, pos, pos + n + 1 + fraction, pos + n + 2, node->plain);
            if (node->plain)
                return;
        }
        try_ends(w, node, pos, pos + n, pos + 1, node->plain);
        return;
    }
    case TA_CONV_UUID:
        n = ta_conv_uuid_span(s, left);
        if (n > 0)
            try_ends(w, node, pos, pos + n, pos + n, true);
        return;
    case TA_CONV_PATH: {
        const char *feed = left ? memchr(s, '\n', left) : NULL;
        n = feed ? (size_t)(feed - s) : left;
        try_ends(w, node, pos, pos + n, pos, node->leaf);
        return;
    }
    }
}

static void reach_end(walk *w, const ta_node *node)
{
    for (uint32_t i = 0; i < node->nends && node->ends[i] < w->best; i++) {
        uint32_t index = node->ends[i];
        if (TA_UNLIKELY(index < w->start))
            continue;
        if (!method_matches(w, &w->tree->entries[index]) && !w->doubtful) {
            w->partial = TA_MIN(w->partial, index);
            continue;
        }
        TA_ASSERT(w->depth == w->tree->entries[index].nparams);
        w->best = index;
        w->ask = w->doubtful;
        w->out->nparams = w->depth;
        for (uint32_t k = 0; k < w->depth; k++)
            w->out->values[k] = w->caught[k];
        return;
    }
}

static void reach_opaque(walk *w, const ta_node *node)
{
    for (uint32_t i = 0; i < node->nopaque && node->opaque[i] < w->best; i++) {
        if (node->opaque[i] >= w->start) {
            w->best = node->opaque[i];
            w->ask = true;
            return;
        }
    }
}

static void visit(walk *w, const ta_node *node, size_t pos)
{
    if (TA_UNLIKELY(++w->visits > MAX_VISITS))
        return;
    size_t left = w->len - pos;
    const char *s = w->s + pos;
    if (TA_UNLIKELY(node->nopaque > 0))
        reach_opaque(w, node);
    if (left == 0 || (left == 1 && s[0] == '\n'))
        reach_end(w, node);
    if (left > 0 && node->nlits > 0) {
        const char *at = memchr(node->lit_bytes, s[0], node->nlits);
        if (at) {
            const ta_node *child = node->lits[at - node->lit_bytes];
            if (child->first < w->best && child->label.len <= left &&
                memcmp(child->label.ptr, s, child->label.len) == 0)
                visit(w, child, pos + child->label.len);
        }
    }
    if (node->leaf)
        return;
    for (unsigned c = 0; c < TA_ROUTE_NCONV; c++) {
        const ta_node *child = node->convs[c];
        if (child && child->first < w->best)
            visit_param(w, child, (ta_route_conv)c, pos);
    }
}

ta_route_found ta_route_tree_find(const ta_route_tree *tree, ta_method method_id, ta_str method,
                                  ta_str path, uint32_t start, ta_route_match *out)
{
    TA_ASSERT(tree->finished);
    walk w;
    w.tree = tree;
    w.s = path.ptr;
    w.len = path.len;
    w.method_id = method_id;
    w.method = method;
    w.start = start;
    w.best = w.partial = TA_ROUTE_NONE;
    w.visits = 0;
    w.depth = 0;
    w.ask = w.doubtful = false;
    w.out = out;
    if (TA_LIKELY(tree->root.first < w.best))
        visit(&w, &tree->root, 0);
    if (TA_UNLIKELY(w.visits > MAX_VISITS))
        return TA_FOUND_GAVE_UP;
    TA_ASSERT(w.depth == 0 && (w.best == TA_ROUTE_NONE || w.best >= start));
    out->index = w.best;
    out->partial = w.partial < w.best ? w.partial : TA_ROUTE_NONE;
    if (w.best != TA_ROUTE_NONE)
        return w.ask ? TA_FOUND_ASK : TA_FOUND_FULL;
    return w.partial != TA_ROUTE_NONE ? TA_FOUND_PARTIAL : TA_FOUND_NONE;
}
