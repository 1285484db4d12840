/* tree.c -- see tree.h: reading path formats, building the tree. */
#include "route/tree_int.h"

#include "http/method.h"
#include "route/convert.h"

/* A piece of a path format: literal text, or a parameter. */
typedef struct token {
    ta_str text; /* the literal, or the parameter's name */
    int conv;    /* -1: literal */
} token;

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name(char c)
{
    return is_name_start(c) || (c >= '0' && c <= '9');
}

/* Length of the identifier at the start of s, 0 without one. */
static size_t name_span(const char *s, size_t len)
{
    if (len == 0 || !is_name_start(s[0]))
        return 0;
    size_t n = 1;
    while (n < len && is_name(s[n]))
        n++;
    return n;
}

/* Returns the length of "{name}" or "{name:convertor}" at the start of s; 0: it is literal text. */
static size_t parameter_span(const char *s, size_t len, ta_str *name, ta_str *conv)
{
    if (len == 0 || s[0] != '{')
        return 0;
    size_t n = name_span(s + 1, len - 1);
    if (n == 0)
        return 0;
    *name = ta_str_of(s + 1, n);
    size_t at = 1 + n;
    *conv = TA_STR("str");
    if (at < len && s[at] == ':') {
        at++;
        n = name_span(s + at, len - at);
        if (n == 0)
            return 0;
        *conv = ta_str_of(s + at, n);
        at += n;
    }
    return at < len && s[at] == '}' ? at + 1 : 0;
}

/*
 * Splits a path format.  `tokens` has room for 2 * TA_ROUTE_MAX_PARAMS + 1.  TA_OK; TA_EINVAL: a
 * name twice; TA_EUNSUPPORTED: an unknown convertor or too many parameters.
 */
static int tokenize(ta_str path, token *tokens, size_t *ntokens)
{
    size_t n = 0;
    size_t params = 0;
    size_t from = 0; /* of the literal being gathered */
    int rc = TA_OK;
    for (size_t i = 0; i < path.len;) {
        ta_str name, conv_name;
        size_t span = parameter_span(path.ptr + i, path.len - i, &name, &conv_name);
        if (span == 0) {
            i++;
            continue;
        }
        if (params == TA_ROUTE_MAX_PARAMS)
            return TA_EUNSUPPORTED;
        for (size_t k = 0; k < n; k++)
            if (tokens[k].conv >= 0 && ta_str_eq(tokens[k].text, name))
                return TA_EINVAL;
        int conv = ta_conv_find(conv_name);
        if (conv < 0) {
            rc = TA_EUNSUPPORTED; /* continue: a name twice is an error all the same */
            conv = TA_CONV_STR;
        }
        if (i > from)
            tokens[n++] = (token){ta_str_of(path.ptr + from, i - from), -1};
        tokens[n++] = (token){name, conv};
        params++;
        i += span;
        from = i;
    }
    if (path.len > from)
        tokens[n++] = (token){ta_str_skip(path, from), -1};
    *ntokens = n;
    return rc;
}

static void *arena_zeroed(ta_route_tree *tree, size_t size)
{
    void *p = ta_arena_alloc(&tree->arena, size);
    if (p)
        memset(p, 0, size);
    return p;
}

static ta_node *new_node(ta_route_tree *tree, ta_str label)
{
    ta_node *node = arena_zeroed(tree, sizeof *node);
    if (node) {
        node->label = label;
        node->first = TA_ROUTE_NONE;
    }
    return node;
}

/* Returns the node that `text` leads to from `node` (`node` itself if it is empty), and makes it if
 * it is missing.  NULL: out of memory. */
static ta_node *literal_child(ta_route_tree *tree, ta_node *node, ta_str text)
{
    while (text.len > 0) {
        ta_node **at = &node->lit_list;
        while (*at && (*at)->label.ptr[0] != text.ptr[0])
            at = &(*at)->next;
        ta_node *child = *at;
        if (!child) {
            child = new_node(tree, text);
            if (!child)
                return NULL;
            node->nlits++;
            *at = child;
            return child;
        }
        size_t common = 1;
        size_t most = TA_MIN(child->label.len, text.len);
        while (common < most && child->label.ptr[common] == text.ptr[common])
            common++;
        if (common < child->label.len) { /* they differ within the label: put a node between */
            ta_node *upper = new_node(tree, ta_str_of(child->label.ptr, common));
            if (!upper)
                return NULL;
            upper->next = child->next;
            upper->lit_list = child;
            upper->nlits = 1;
            child->label = ta_str_skip(child->label, common);
            child->next = NULL;
            *at = upper;
            child = upper;
        }
        text = ta_str_skip(text, common);
        node = child;
    }
    return node;
}

static int append_end(ta_route_tree *tree, uint32_t index, ta_end **list, ta_end **last)
{
    ta_end *end = arena_zeroed(tree, sizeof *end);
    if (!end)
        return TA_ENOMEM;
    end->index = index;
    TA_ASSERT(*last == NULL || (*last)->index < index); /* in the order of declaration */
    if (*last)
        (*last)->next = end;
    else
        *list = end;
    *last = end;
    return TA_OK;
}

static int insert(ta_route_tree *tree, uint32_t index, const token *tokens, size_t ntokens)
{
    ta_node *node = &tree->root;
    for (size_t i = 0; i < ntokens; i++) {
        ta_node *child;
        if (tokens[i].conv < 0) {
            child = literal_child(tree, node, tokens[i].text);
        } else {
            child = node->convs[tokens[i].conv];
            if (!child)
                child = node->convs[tokens[i].conv] = new_node(tree, (ta_str){NULL, 0});
        }
        if (!child)
            return TA_ENOMEM;
        node = child;
    }
    node->nends++;
    return append_end(tree, index, &node->end_list, &node->end_last);
}

/* Puts an opaque entry where the literal text before its first parameter ends. */
static int insert_opaque(ta_route_tree *tree, uint32_t index, ta_str path)
{
    const char *brace = path.len ? memchr(path.ptr, '{', path.len) : NULL;
    ta_str literal = {path.ptr, brace ? (size_t)(brace - path.ptr) : path.len};
    ta_node *node = literal_child(tree, &tree->root, literal);
    if (!node)
        return TA_ENOMEM;
    node->nopaque++;
    return append_end(tree, index, &node->opaque_list, &node->opaque_last);
}

/* -- entries ----------------------------------------------------------------------------------- */

static int set_methods(ta_route_tree *tree, ta_entry *entry, const ta_str *methods, size_t n)
{
    entry->any_method = n == 0;
    if (n == 0)
        return TA_OK;
    entry->others = ta_arena_alloc(&tree->arena, n * sizeof *entry->others);
    if (!entry->others)
        return TA_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        ta_method id = ta_method_of(methods[i]);
        if (id != TA_METHOD_OTHER) {
            entry->methods |= UINT32_C(1) << id;
            continue;
        }
        char *copy = ta_arena_strndup(&tree->arena, methods[i].ptr, methods[i].len);
        if (!copy)
            return TA_ENOMEM;
        entry->others[entry->nothers++] = ta_str_of(copy, methods[i].len);
    }
    return TA_OK;
}

static int set_params(ta_route_tree *tree, ta_entry *entry, const token *tokens, size_t ntokens)
{
    uint32_t n = 0;
    for (size_t i = 0; i < ntokens; i++)
        n += tokens[i].conv >= 0;
    if (n == 0)
        return TA_OK;
    entry->params = ta_arena_alloc(&tree->arena, n * sizeof *entry->params);
    if (!entry->params)
        return TA_ENOMEM;
    for (size_t i = 0; i < ntokens; i++)
        if (tokens[i].conv >= 0)
            entry->params[entry->nparams++] =
                (ta_route_param){tokens[i].text, (ta_route_conv)tokens[i].conv};
    return TA_OK;
}

static ta_entry *next_entry(ta_route_tree *tree)
{
    if (tree->count == tree->cap) {
        uint32_t cap = tree->cap ? tree->cap * 2 : 16;
        ta_entry *entries = ta_realloc(tree->entries, cap * sizeof *entries);
        if (!entries)
            return NULL;
        tree->entries = entries;
        tree->cap = cap;
    }
    ta_entry *entry = &tree->entries[tree->count];
    memset(entry, 0, sizeof *entry);
    return entry;
}

/* Makes the tree's own copy of the path; a mount's ends in "/{path:path}", as Starlette's does. */
static int copy_path(ta_route_tree *tree, ta_route_kind kind, ta_str path, ta_str *out)
{
    ta_str tail = {"", 0};
    if (kind == TA_ROUTE_MOUNT) {
        while (path.len > 0 && path.ptr[path.len - 1] == '/')
            path.len--;
        tail = TA_STR("/{path:path}");
    }
    char *copy = ta_arena_alloc(&tree->arena, path.len + tail.len + 1);
    if (!copy)
        return TA_ENOMEM;
    if (path.len > 0)
        memcpy(copy, path.ptr, path.len);
    memcpy(copy + path.len, tail.ptr, tail.len);
    *out = ta_str_of(copy, path.len + tail.len);
    return TA_OK;
}

int ta_route_tree_add(ta_route_tree *tree, ta_route_kind kind, ta_str path, const ta_str *methods,
                      size_t nmethods)
{
    if (tree->finished || tree->count == TA_ROUTE_NONE)
        return TA_EINVAL;
    ta_entry *entry = next_entry(tree);
    if (!entry)
        return TA_ENOMEM;
    uint32_t index = tree->count;
    int rc = set_methods(tree, entry, methods, nmethods);
    if (rc != TA_OK)
        return rc;

    token tokens[2 * TA_ROUTE_MAX_PARAMS + 1];
    size_t ntokens = 0;
    ta_str copy = {"", 0};
    if (path.len > TA_ROUTE_MAX_PATH) {
        kind = TA_ROUTE_ANY;
        path.len = TA_ROUTE_MAX_PATH;
    }
    /* For Starlette a pattern that does not begin with "/" is a host's, with rules of its own. */
    if (path.len > 0 && path.ptr[0] != '/') {
        kind = TA_ROUTE_ANY;
        path.len = 0;
    }
    rc = copy_path(tree, kind, path, &copy);
    if (rc == TA_OK && kind != TA_ROUTE_ANY) {
        rc = tokenize(copy, tokens, &ntokens);
        if (rc == TA_EUNSUPPORTED) {
            kind = TA_ROUTE_ANY;
            rc = TA_OK;
        }
    }
    if (rc != TA_OK)
        return rc;
    entry->kind = kind;
    if (kind == TA_ROUTE_MOUNT)
        entry->any_method = true;
    if (kind == TA_ROUTE_ANY)
        rc = insert_opaque(tree, index, copy);
    else if ((rc = set_params(tree, entry, tokens, ntokens)) == TA_OK)
        rc = insert(tree, index, tokens, ntokens);
    if (rc != TA_OK)
        return rc;
    tree->count++;
    return TA_OK;
}

/* -- finish ------------------------------------------------------------------------------------ */

static int finish_node(ta_route_tree *tree, ta_node *node)
{
    node->lits = ta_arena_alloc(&tree->arena, (node->nlits + 1) * sizeof(ta_node *));
    node->lit_bytes = ta_arena_alloc(&tree->arena, node->nlits + 1);
    node->ends = ta_arena_alloc(&tree->arena, (node->nends + 1) * sizeof(uint32_t));
    node->opaque = ta_arena_alloc(&tree->arena, (node->nopaque + 1) * sizeof(uint32_t));
    if (!node->lits || !node->lit_bytes || !node->ends || !node->opaque)
        return TA_ENOMEM;

    node->plain = true;
    node->leaf = node->nlits == 0;
    uint32_t n = 0;
    for (const ta_end *end = node->end_list; end; end = end->next)
        node->ends[n++] = end->index;
    TA_ASSERT(n == node->nends);
    if (n > 0)
        node->first = node->ends[0];
    n = 0;
    for (const ta_end *end = node->opaque_list; end; end = end->next)
        node->opaque[n++] = end->index;
    TA_ASSERT(n == node->nopaque);
    if (n > 0)
        node->first = TA_MIN(node->first, node->opaque[0]);

    n = 0;
    for (ta_node *child = node->lit_list; child; child = child->next) {
        int rc = finish_node(tree, child);
        if (rc != TA_OK)
            return rc;
        node->first = TA_MIN(node->first, child->first);
        if (child->label.ptr[0] != '/')
            node->plain = false;
        node->lit_bytes[n] = child->label.ptr[0];
        node->lits[n++] = child;
    }
    TA_ASSERT(n == node->nlits);
    for (unsigned c = 0; c < TA_ROUTE_NCONV; c++) {
        ta_node *child = node->convs[c];
        if (!child)
            continue;
        int rc = finish_node(tree, child);
        if (rc != TA_OK)
            return rc;
        node->first = TA_MIN(node->first, child->first);
        node->plain = node->leaf = false;
    }
    return TA_OK;
}

int ta_route_tree_finish(ta_route_tree *tree)
{
    if (tree->finished)
        return TA_OK;
    int rc = finish_node(tree, &tree->root);
    if (rc == TA_OK)
        tree->finished = true;
    return rc;
}

ta_route_tree *ta_route_tree_new(void)
{
    ta_route_tree *tree = ta_calloc(1, sizeof *tree);
    if (!tree)
        return NULL;
    ta_arena_init(&tree->arena, 0);
    tree->root.first = TA_ROUTE_NONE;
    return tree;
}

void ta_route_tree_free(ta_route_tree *tree)
{
    if (!tree)
        return;
    ta_arena_free(&tree->arena);
    ta_free(tree->entries);
    ta_free(tree);
}

ta_route_kind ta_route_tree_kind(const ta_route_tree *tree, uint32_t index)
{
    TA_ASSERT(index < tree->count);
    return tree->entries[index].kind;
}

const ta_route_param *ta_route_tree_params(const ta_route_tree *tree, uint32_t index,
                                           uint32_t *count)
{
    TA_ASSERT(index < tree->count);
    *count = tree->entries[index].nparams;
    return tree->entries[index].params;
}
