/*
 * fuzz_route.c -- the route tree against a plain reading of Starlette's rules: each entry on its
 * own, by backtracking over its path format, first one first.
 *
 * Input: lines.  "R path", "M path" and "A" add entries ("R:POST path" one for a method); the rest,
 * from the first line that is none of them on, is matched as one path.
 */
#include "fuzz.h"

#include "http/method.h"
#include "route/convert.h"
#include "route/tree_int.h"

enum { MAX_ENTRIES = 24, MAX_TEXT = 300, BUDGET = 20000 };

typedef struct plain {
    ta_route_kind kind;
    char format[MAX_TEXT + 16];
    size_t len;
    ta_str method; /* empty: all */
} plain;

typedef struct attempt {
    const plain *entry;
    ta_str path;
    ta_str values[TA_ROUTE_MAX_PARAMS];
    uint32_t nvalues;
    unsigned budget;
} attempt;

static int is_word(char c, int first)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (!first && c >= '0' && c <= '9');
}

/* "{name:conv}" at s: its length and the convertor (-1: unknown), 0 when it is literal text. */
static size_t param_at(const char *s, size_t len, int *conv)
{
    size_t i = 1;
    if (len < 3 || s[0] != '{' || !is_word(s[1], 1))
        return 0;
    while (i < len && is_word(s[i], 0))
        i++;
    *conv = TA_CONV_STR;
    if (i < len && s[i] == ':') {
        size_t from = ++i;
        if (i == len || !is_word(s[i], 1))
            return 0;
        while (i < len && is_word(s[i], 0))
            i++;
        *conv = ta_conv_find(ta_str_of(s + from, i - from));
    }
    return i < len && s[i] == '}' ? i + 1 : 0;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int is_hex(char c)
{
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

/* Whether the whole of s is a value of that convertor. */
static int is_value(int conv, const char *s, size_t n)
{
    size_t i = 0;
    switch (conv) {
    case TA_CONV_STR:
        return n > 0 && !memchr(s, '/', n);
    case TA_CONV_PATH:
        return n == 0 || !memchr(s, '\n', n);
    case TA_CONV_INT:
        while (i < n && is_digit(s[i]))
            i++;
        return n > 0 && i == n;
    case TA_CONV_FLOAT:
        while (i < n && is_digit(s[i]))
            i++;
        if (i == 0)
            return 0;
        if (i == n)
            return 1;
        return s[i] == '.' && is_value(TA_CONV_INT, s + i + 1, n - i - 1);
    default: {
        static const int groups[] = {8, 4, 4, 4, 12};
        for (int g = 0; g < 5; g++) {
            if (g > 0 && i < n && s[i] == '-')
                i++;
            for (int k = 0; k < groups[g]; k++, i++)
                if (i >= n || !is_hex(s[i]))
                    return 0;
        }
        return i == n;
    }
    }
}

static int match_from(attempt *a, size_t at, size_t pos)
{
    if (a->budget == 0)
        return 0;
    a->budget--;
    const char *s = a->path.ptr;
    size_t len = a->path.len;
    if (at == a->entry->len)
        return pos == len || (pos + 1 == len && s[pos] == '\n');
    int conv;
    size_t span = param_at(a->entry->format + at, a->entry->len - at, &conv);
    if (span == 0)
        return pos < len && s[pos] == a->entry->format[at] && match_from(a, at + 1, pos + 1);
    uint32_t index = a->nvalues++;
    for (size_t end = len + 1; end-- > pos;) {
        if (end < len && ((unsigned char)s[end] & 0xc0) == 0x80)
            continue;
        if (!is_value(conv, s + pos, end - pos))
            continue;
        a->values[index] = ta_str_of(s + pos, end - pos);
        if (match_from(a, at + span, end))
            return 1;
    }
    a->nvalues--;
    return 0;
}

/* Adds one line's entry to both; 0 when the line is none. */
static int add(ta_route_tree *tree, plain *entry, const char *line, size_t len)
{
    memset(entry, 0, sizeof *entry);
    if (len == 0 || (line[0] != 'R' && line[0] != 'M' && line[0] != 'A'))
        return 0;
    entry->kind = line[0] == 'R' ? TA_ROUTE_ROUTE : line[0] == 'M' ? TA_ROUTE_MOUNT : TA_ROUTE_ANY;
    const char *space = memchr(line, ' ', len);
    ta_str path = {"", 0};
    if (space) {
        path = ta_str_of(space + 1, len - (size_t)(space - line) - 1);
        if (space - line > 2 && line[1] == ':')
            entry->method = ta_str_of(line + 2, (size_t)(space - line) - 2);
    }
    path.len = TA_MIN(path.len, (size_t)MAX_TEXT);
    int rc = ta_route_tree_add(tree, entry->kind, path, &entry->method, entry->method.len > 0);
    if (rc == TA_EINVAL)
        return 1; /* a name twice: not added */
    REQUIRE(rc == TA_OK);
    uint32_t index = tree->count - 1;
    if (entry->kind == TA_ROUTE_MOUNT) {
        while (path.len > 0 && path.ptr[path.len - 1] == '/')
            path.len--;
        entry->method.len = 0;
    }
    memcpy(entry->format, path.ptr, path.len);
    entry->len = path.len;
    if (entry->kind == TA_ROUTE_MOUNT) {
        memcpy(entry->format + entry->len, "/{path:path}", 12);
        entry->len += 12;
    }
    /* A host's pattern: it says nothing of paths. */
    if (entry->len > 0 && entry->format[0] != '/')
        entry->len = 0;
    entry->kind = ta_route_tree_kind(tree, index);
    return 2;
}

/* Whether an opaque entry may match: the path begins as its format does up to a parameter. */
static int may_match(const plain *entry, ta_str path)
{
    const char *brace = memchr(entry->format, '{', entry->len);
    size_t n = brace ? (size_t)(brace - entry->format) : entry->len;
    return path.len >= n && memcmp(entry->format, path.ptr, n) == 0;
}

/* What the tree says from `start` on must be what trying one entry after the other gives. */
static void compare(const ta_route_tree *tree, const plain *entries, ta_str path, ta_str method,
                    uint32_t start)
{
    ta_route_match got;
    ta_route_found rc = ta_route_tree_find(tree, ta_method_of(method), method, path, start, &got);
    attempt *a = malloc(sizeof *a);
    REQUIRE(a != NULL);
    ta_route_found want = TA_FOUND_NONE;
    uint32_t partial = TA_ROUTE_NONE;
    uint32_t index = start;
    for (; index < tree->count; index++) {
        const plain *entry = &entries[index];
        if (entry->kind == TA_ROUTE_ANY) {
            if (!may_match(entry, path))
                continue;
            want = TA_FOUND_ASK;
            break;
        }
        *a = (attempt){.entry = entry, .path = path, .budget = BUDGET};
        if (match_from(a, 0, 0)) {
            if (entry->method.len == 0 || ta_str_eq(entry->method, method)) {
                want = TA_FOUND_FULL;
                break;
            }
            partial = TA_MIN(partial, index);
        }
        if (a->budget == 0)
            goto done; /* too much work for the plain way */
    }
    if (want == TA_FOUND_NONE && partial != TA_ROUTE_NONE)
        want = TA_FOUND_PARTIAL;
    if (rc == TA_FOUND_GAVE_UP) {
        REQUIRE(path.len > 10); /* it may give up, but not where there are few ways to try */
        goto done;
    }
    REQUIRE(rc == want && got.partial == partial);
    if (rc == TA_FOUND_ASK)
        REQUIRE(got.index == index);
    if (rc == TA_FOUND_FULL) {
        uint32_t n;
        (void)ta_route_tree_params(tree, got.index, &n);
        REQUIRE(got.index == index && got.nparams == a->nvalues && got.nparams == n);
        for (uint32_t i = 0; i < n; i++)
            REQUIRE(got.values[i].ptr == a->values[i].ptr && got.values[i].len == a->values[i].len);
    }
done:
    free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *s = (const char *)data;
    plain *entries = calloc(MAX_ENTRIES + 1, sizeof *entries);
    ta_route_tree *tree = ta_route_tree_new();
    REQUIRE(entries && tree);
    while (size > 0) {
        const char *feed = memchr(s, '\n', size);
        size_t len = feed ? (size_t)(feed - s) : size;
        uint32_t n = tree->count;
        if (n == MAX_ENTRIES || add(tree, &entries[n], s, len) == 0)
            break;
        s += len + (feed != NULL);
        size -= len + (feed != NULL);
    }
    REQUIRE(ta_route_tree_finish(tree) == TA_OK);
    ta_str path = {s, TA_MIN(size, (size_t)MAX_TEXT)};
    compare(tree, entries, path, TA_STR("GET"), 0);
    compare(tree, entries, path, TA_STR("PURGE"), 0);
    compare(tree, entries, path, TA_STR("GET"), tree->count / 2);
    ta_route_tree_free(tree);
    free(entries);
    return 0;
}
