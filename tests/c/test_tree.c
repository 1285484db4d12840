#include "route/tree_int.h"

#include <pthread.h>

#include "ta_failmalloc.h"
#include "ta_test.h"

static ta_str text(const char *s)
{
    return ta_str_of(s, strlen(s));
}

/* A tree of routes for GET; each path may begin with "M " (mount), "A " (any) or "POST ". */
static ta_route_tree *tree_of(const char *const *paths)
{
    ta_route_tree *tree = ta_route_tree_new();
    CHECK(tree != NULL);
    for (; *paths; paths++) {
        const char *path = *paths;
        ta_route_kind kind = TA_ROUTE_ROUTE;
        ta_str method = TA_STR("GET");
        if (strncmp(path, "M ", 2) == 0) {
            kind = TA_ROUTE_MOUNT;
            path += 2;
        } else if (strncmp(path, "A ", 2) == 0) {
            kind = TA_ROUTE_ANY;
            path += 2;
        } else if (strncmp(path, "POST ", 5) == 0) {
            method = TA_STR("POST");
            path += 5;
        }
        CHECK_INT(ta_route_tree_add(tree, kind, text(path), &method, 1), ==, TA_OK);
    }
    CHECK_INT(ta_route_tree_finish(tree), ==, TA_OK);
    return tree;
}

#define TREE(...) tree_of((const char *const[]){__VA_ARGS__, NULL})

/* What is found from `start` on as text: "index:value|value", "partial index", "ask index" (and
 * "after index" for a partial match before it), "none" or "gave up". */
static const char *found_from(const ta_route_tree *tree, const char *path, uint32_t start)
{
    static char out[4096];
    size_t len = strlen(path);
    char *copy = malloc(len ? len : 1); /* of exactly its size: reads behind it are seen */
    CHECK(copy != NULL);
    memcpy(copy, path, len);
    ta_route_match m;
    int n;
    switch (
        ta_route_tree_find(tree, TA_METHOD_GET, TA_STR("GET"), ta_str_of(copy, len), start, &m)) {
    case TA_FOUND_FULL:
        n = sprintf(out, "%u", m.index);
        for (uint32_t i = 0; i < m.nparams; i++)
            n += sprintf(out + n, "%c%.*s", i ? '|' : ':', (int)m.values[i].len, m.values[i].ptr);
        break;
    case TA_FOUND_PARTIAL:
        sprintf(out, "partial %u", m.partial);
        break;
    case TA_FOUND_ASK:
        n = sprintf(out, "ask %u", m.index);
        if (m.partial != TA_ROUTE_NONE)
            sprintf(out + n, " after %u", m.partial);
        break;
    case TA_FOUND_NONE:
        CHECK(m.partial == TA_ROUTE_NONE && m.index == TA_ROUTE_NONE);
        strcpy(out, "none");
        break;
    case TA_FOUND_GAVE_UP:
        strcpy(out, "gave up");
        break;
    }
    free(copy);
    return out;
}

static const char *found(const ta_route_tree *tree, const char *path)
{
    return found_from(tree, path, 0);
}

#define CHECK_FOUND(tree, path, want) CHECK_STR(text(found(tree, path)), want)

TA_TEST(static_paths)
{
    ta_route_tree *t = TREE("/", "/users", "/users/me", "/user", "/usher");
    CHECK_FOUND(t, "/", "0");
    CHECK_FOUND(t, "/users", "1");
    CHECK_FOUND(t, "/users/me", "2");
    CHECK_FOUND(t, "/user", "3");
    CHECK_FOUND(t, "/usher", "4");
    CHECK_FOUND(t, "/use", "none");
    CHECK_FOUND(t, "/users/", "none");
    CHECK_FOUND(t, "", "none");
    CHECK_FOUND(t, "x", "none");
    ta_route_tree_free(t);
}

TA_TEST(first_declared_wins)
{
    ta_route_tree *t = TREE("/users/{id}", "/users/me", "/{a}/{b}", "/users/me/x");
    CHECK_FOUND(t, "/users/me", "0:me");
    CHECK_FOUND(t, "/items/me", "2:items|me");
    CHECK_FOUND(t, "/users/me/x", "3");
    ta_route_tree_free(t);
    t = TREE("/users/me", "/users/{id}", "/users/me");
    CHECK_FOUND(t, "/users/me", "0");
    CHECK_FOUND(t, "/users/you", "1:you");
    ta_route_tree_free(t);
    t = TREE("/a/{x:int}", "/{p:path}", "/a/{x}");
    CHECK_FOUND(t, "/a/5", "0:5");
    CHECK_FOUND(t, "/a/b", "1:a/b");
    ta_route_tree_free(t);
}

TA_TEST(methods)
{
    ta_route_tree *t = TREE("POST /a", "/a", "POST /b");
    CHECK_FOUND(t, "/a", "1");
    CHECK_FOUND(t, "/b", "partial 2");
    CHECK_FOUND(t, "/c", "none");
    ta_route_tree_free(t);

    t = ta_route_tree_new();
    CHECK(t != NULL);
    const ta_str others[] = {TA_STR("PURGE"), TA_STR("LINK")};
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, TA_STR("/a"), others, 2), ==, TA_OK);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, TA_STR("/b"), NULL, 0), ==, TA_OK);
    CHECK_INT(ta_route_tree_finish(t), ==, TA_OK);
    ta_route_match m;
    CHECK_INT(ta_route_tree_find(t, TA_METHOD_OTHER, TA_STR("LINK"), TA_STR("/a"), 0, &m), ==,
              TA_FOUND_FULL);
    CHECK_INT(ta_route_tree_find(t, TA_METHOD_OTHER, TA_STR("LIN"), TA_STR("/a"), 0, &m), ==,
              TA_FOUND_PARTIAL);
    CHECK_INT(ta_route_tree_find(t, TA_METHOD_GET, TA_STR("GET"), TA_STR("/a"), 0, &m), ==,
              TA_FOUND_PARTIAL);
    CHECK_INT(ta_route_tree_find(t, TA_METHOD_OTHER, TA_STR("X"), TA_STR("/b"), 0, &m), ==,
              TA_FOUND_FULL);
    CHECK_INT(m.index, ==, 1);
    ta_route_tree_free(t);
}

TA_TEST(convertors)
{
    ta_route_tree *t = TREE("/i/{x:int}", "/f/{x:float}", "/u/{x:uuid}", "/p/{x:path}", "/s/{x}");
    CHECK_FOUND(t, "/i/007", "0:007");
    CHECK_FOUND(t, "/i/-1", "none");
    CHECK_FOUND(t, "/i/1a", "none");
    CHECK_FOUND(t, "/i/", "none");
    CHECK_FOUND(t, "/f/1", "1:1");
    CHECK_FOUND(t, "/f/1.25", "1:1.25");
    CHECK_FOUND(t, "/f/1.", "none");
    CHECK_FOUND(t, "/f/.5", "none");
    CHECK_FOUND(t, "/f/1.2.3", "none");
    CHECK_FOUND(t, "/u/12345678123456781234567812345678", "2:12345678123456781234567812345678");
    CHECK_FOUND(t, "/u/1234567812345678123456781234567", "none");
    CHECK_FOUND(t, "/p/", "3:");
    CHECK_FOUND(t, "/p/a/b/", "3:a/b/");
    CHECK_FOUND(t, "/p", "none");
    CHECK_FOUND(t, "/s/", "none");
    CHECK_FOUND(t, "/s/a/b", "none");
    CHECK_FOUND(t, "/s/a", "4:a");
    ta_route_tree_free(t);
}

/* As regular expressions with greedy quantifiers divide the text. */
TA_TEST(several_in_a_segment)
{
    ta_route_tree *t = TREE("/d/{a}-{b}", "/e/{name}.{ext}", "/n/{a}{b}{c}", "/i/{a:int}{b}",
                            "/f/{a:float}.{b}", "/p/{a:path}/{b}", "/q/{a:path}{b:path}z");
    CHECK_FOUND(t, "/d/1-2-3", "0:1-2|3");
    CHECK_FOUND(t, "/d/--", "none");
    CHECK_FOUND(t, "/d/---", "0:-|-");
    CHECK_FOUND(t, "/e/a.tar.gz", "1:a.tar|gz");
    CHECK_FOUND(t, "/n/abcdef", "2:abcd|e|f");
    CHECK_FOUND(t, "/n/ab", "none");
    CHECK_FOUND(t, "/n/\xc3\xa9\xc3\xa8\xc3\xbc", "2:\xc3\xa9|\xc3\xa8|\xc3\xbc");
    CHECK_FOUND(t, "/i/123", "3:12|3");
    CHECK_FOUND(t, "/f/1.5", "4:1|5");
    CHECK_FOUND(t, "/f/1.5.2", "4:1.5|2");
    CHECK_FOUND(t, "/f/1.55x", "4:1|55x");
    CHECK_FOUND(t, "/p/a/b/c", "5:a/b|c");
    CHECK_FOUND(t, "/q/azbz", "6:azb|");
    ta_route_tree_free(t);
}

/* "$" also matches before a final line feed, "." matches none, "[^/]" does. */
TA_TEST(line_feeds)
{
    ta_route_tree *t = TREE("/a", "/i/{x:int}", "/s/{x}", "/p/{x:path}", "/q/{x:path}/e");
    CHECK_FOUND(t, "/a\n", "0");
    CHECK_FOUND(t, "/a\n\n", "none");
    CHECK_FOUND(t, "/i/5\n", "1:5");
    CHECK_FOUND(t, "/s/x\n", "2:x\n");
    CHECK_FOUND(t, "/s/\n", "2:\n");
    CHECK_FOUND(t, "/s/x\ny", "2:x\ny");
    CHECK_FOUND(t, "/p/x\n", "3:x");
    CHECK_FOUND(t, "/p/\n", "3:");
    CHECK_FOUND(t, "/p/x\ny", "none");
    CHECK_FOUND(t, "/q/a/e\n", "4:a");
    CHECK_FOUND(t, "/q/a\n/e", "none");
    ta_route_tree_free(t);
}

TA_TEST(opaque_entries)
{
    ta_route_tree *t =
        TREE("/a", "M /m/", "/m/x", "/b", "M /{t}/sub", "/v/sub/y", "A whatever", "/c");
    CHECK_FOUND(t, "/a", "0");
    CHECK_FOUND(t, "/m", "ask 6"); /* the later "any" may */
    CHECK_FOUND(t, "/m/x", "1:x");
    CHECK_FOUND(t, "/b", "3");
    CHECK_FOUND(t, "/v/sub/y", "4:v|y");
    CHECK_FOUND(t, "/c", "ask 6");
    CHECK_STR(text(found_from(t, "/c", 7)), "7");
    CHECK_FOUND(t, "/nowhere", "ask 6");
    CHECK_STR(text(found_from(t, "/nowhere", 7)), "none");
    ta_route_tree_free(t);
    t = TREE("/a", "M /m", "M ");
    CHECK_FOUND(t, "/m", "2:m");
    CHECK_FOUND(t, "/a", "0");
    CHECK_FOUND(t, "x", "none");
    ta_route_tree_free(t);
    t = TREE("/m/x", "M /m");
    CHECK_FOUND(t, "/m/x", "0");
    CHECK_FOUND(t, "/m", "none");
    CHECK_FOUND(t, "/m/", "1:");
    CHECK_FOUND(t, "/m/y", "1:y");
    ta_route_tree_free(t);
}

/* What has to be asked stands where its literal text ends. */
TA_TEST(opaque_below_a_prefix)
{
    ta_route_tree *t = TREE("A /days/{d:day}", "/days/today", "/day", "A /d", "POST /day", "/x");
    CHECK_FOUND(t, "/days/today", "ask 0");
    CHECK_STR(text(found_from(t, "/days/today", 1)), "1");
    CHECK_STR(text(found_from(t, "/days/today", 2)), "ask 3");
    CHECK_STR(text(found_from(t, "/days/today", 4)), "none");
    CHECK_FOUND(t, "/day", "2");
    CHECK_FOUND(t, "/dawn", "ask 3");
    CHECK_FOUND(t, "/x", "5");
    CHECK_FOUND(t, "/", "none");
    ta_route_tree_free(t);
}

TA_TEST(partial_matches)
{
    ta_route_tree *t = TREE("POST /a/{x}", "POST /a/b", "A /a", "/{y}/b", "POST /z", "M /z");
    CHECK_FOUND(t, "/a/b", "ask 2 after 0");
    CHECK_STR(text(found_from(t, "/a/b", 1)), "ask 2 after 1");
    CHECK_STR(text(found_from(t, "/a/b", 3)), "3:a");
    CHECK_STR(text(found_from(t, "/a/c", 3)), "none");
    CHECK_FOUND(t, "/a/c", "ask 2 after 0");
    CHECK_FOUND(t, "/z", "partial 4");
    CHECK_FOUND(t, "/z/", "5:");
    ta_route_tree_free(t);
}

TA_TEST(what_is_literal)
{
    ta_route_tree *t = TREE("/{}", "/{1a}", "/{a", "/{a:}", "/{a:b:c}", "/{ a}", "/{{a}}");
    CHECK_FOUND(t, "/{}", "0");
    CHECK_FOUND(t, "/{1a}", "1");
    CHECK_FOUND(t, "/{a", "2");
    CHECK_FOUND(t, "/{a:}", "3");
    CHECK_FOUND(t, "/{a:b:c}", "4");
    CHECK_FOUND(t, "/{ a}", "5");
    CHECK_FOUND(t, "/{v}", "6:v");
    ta_route_tree_free(t);
}

TA_TEST(what_becomes_opaque)
{
    char path[TA_ROUTE_MAX_PATH + 2];
    memset(path, 'a', sizeof path);
    path[0] = '/';
    ta_route_tree *t = ta_route_tree_new();
    CHECK(t != NULL);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, ta_str_of(path, TA_ROUTE_MAX_PATH), NULL, 0), ==,
              TA_OK);
    CHECK_INT(ta_route_tree_kind(t, 0), ==, TA_ROUTE_ROUTE);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, ta_str_of(path, TA_ROUTE_MAX_PATH + 1), NULL, 0),
              ==, TA_OK);
    CHECK_INT(ta_route_tree_kind(t, 1), ==, TA_ROUTE_ANY);

    char many[1024] = "";
    for (int i = 0; i < TA_ROUTE_MAX_PARAMS; i++)
        sprintf(many + strlen(many), "/{p%d}", i);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, text(many), NULL, 0), ==, TA_OK);
    CHECK_INT(ta_route_tree_kind(t, 2), ==, TA_ROUTE_ROUTE);
    uint32_t n;
    const ta_route_param *params = ta_route_tree_params(t, 2, &n);
    CHECK_INT(n, ==, TA_ROUTE_MAX_PARAMS);
    CHECK_STR(params[31].name, "p31");
    strcat(many, "/{last}");
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, text(many), NULL, 0), ==, TA_OK);
    CHECK_INT(ta_route_tree_kind(t, 3), ==, TA_ROUTE_ANY);

    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, TA_STR("/{x:slug}"), NULL, 0), ==, TA_OK);
    CHECK_INT(ta_route_tree_kind(t, 4), ==, TA_ROUTE_ANY);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, TA_STR("host.org"), NULL, 0), ==, TA_OK);
    CHECK_INT(ta_route_tree_kind(t, 5), ==, TA_ROUTE_ANY);
    CHECK_INT(t->count, ==, 6);
    CHECK_INT(ta_route_tree_finish(t), ==, TA_OK);
    ta_route_tree_free(t);
}

TA_TEST(refused)
{
    ta_route_tree *t = ta_route_tree_new();
    CHECK(t != NULL);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, TA_STR("/{x}/{x}"), NULL, 0), ==, TA_EINVAL);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, TA_STR("/{x:no}/{x}"), NULL, 0), ==, TA_EINVAL);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_MOUNT, TA_STR("/{path}"), NULL, 0), ==, TA_EINVAL);
    CHECK_INT(t->count, ==, 0);
    CHECK_INT(ta_route_tree_finish(t), ==, TA_OK);
    CHECK_INT(ta_route_tree_finish(t), ==, TA_OK);
    CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, TA_STR("/"), NULL, 0), ==, TA_EINVAL);
    CHECK_FOUND(t, "/", "none");
    ta_route_tree_free(t);
    ta_route_tree_free(NULL);
}

TA_TEST(backtracking_is_bounded)
{
    ta_route_tree *t = TREE("/{a}-{b}-{c}-{d}-{e}-{f}!", "/{p:path}{q:path}{r:path}{s:path}!");
    char path[8001];
    memset(path, '-', sizeof path);
    path[0] = '/';
    path[8000] = '\0';
    CHECK_FOUND(t, path, "gave up");
    ta_route_tree_free(t);
    t = TREE("/{a}-{b}", "/{a}/{b}/{c}");
    memset(path + 1, 'x', 7999);
    CHECK_FOUND(t, path, "none"); /* one parameter to divide is linear */
    ta_route_tree_free(t);
}

/* Python may refuse to convert it, whatever the method: its owner has to be asked. */
TA_TEST(huge_int_is_asked_for)
{
    ta_route_tree *t = TREE("/{x:int}", "POST /{x:int}/a", "/{x}");
    char path[700];
    memset(path, '1', sizeof path);
    path[0] = '/';
    path[641] = '\0';
    CHECK_INT(strlen(found(t, path)), ==, 642);
    path[641] = '1';
    path[642] = '\0';
    CHECK_FOUND(t, path, "ask 0");
    CHECK_INT(strlen(found_from(t, path, 1)), ==, 643);
    strcpy(path + 642, "/a");
    CHECK_FOUND(t, path, "ask 1");
    CHECK_STR(text(found_from(t, path, 2)), "none");
    ta_route_tree_free(t);
}

TA_TEST(many_routes)
{
    ta_route_tree *t = ta_route_tree_new();
    CHECK(t != NULL);
    char path[64];
    for (int i = 0; i < 2000; i++) {
        sprintf(path, "/v%d/items%d/{id:int}/x", i % 13, i);
        CHECK_INT(ta_route_tree_add(t, TA_ROUTE_ROUTE, text(path), NULL, 0), ==, TA_OK);
    }
    CHECK_INT(ta_route_tree_finish(t), ==, TA_OK);
    for (int i = 0; i < 2000; i++) {
        char want[32];
        sprintf(path, "/v%d/items%d/42/x", i % 13, i);
        sprintf(want, "%d:42", i);
        CHECK_FOUND(t, path, want);
        sprintf(path, "/v%d/items%d/42/x", (i + 1) % 13, i);
        CHECK_FOUND(t, path, "none");
    }
    ta_route_tree_free(t);
}

static void *match_often(void *arg)
{
    const ta_route_tree *t = arg;
    uintptr_t wrong = 0;
    for (int i = 0; i < 5000; i++) {
        ta_route_match m;
        ta_route_found rc =
            ta_route_tree_find(t, TA_METHOD_GET, TA_STR("GET"), TA_STR("/a/x-y/7"), 0, &m);
        wrong += rc != TA_FOUND_FULL || m.index != 1 || m.nparams != 3 || m.values[2].ptr[0] != '7';
    }
    return (void *)wrong;
}

/* For the thread sanitizer: matching writes to nothing that is shared. */
TA_TEST(shared_by_threads)
{
    ta_route_tree *t = TREE("/a/{x:int}", "/a/{x}-{y}/{z:int}", "/{p:path}");
    pthread_t threads[4];
    for (size_t i = 0; i < TA_COUNTOF(threads); i++)
        CHECK_INT(pthread_create(&threads[i], NULL, match_often, t), ==, 0);
    for (size_t i = 0; i < TA_COUNTOF(threads); i++) {
        void *wrong;
        CHECK_INT(pthread_join(threads[i], &wrong), ==, 0);
        CHECK(wrong == NULL);
    }
    ta_route_tree_free(t);
}

static void scenario(void)
{
    ta_route_tree *t = ta_route_tree_new();
    if (!t)
        return;
    const ta_str methods[] = {TA_STR("GET"), TA_STR("PURGE")};
    char path[64];
    int rc = TA_OK;
    for (int i = 0; i < 40 && rc == TA_OK; i++) {
        sprintf(path, "/items%d/{a}/{b:int}", i);
        rc = ta_route_tree_add(t, (ta_route_kind)(i % 3), text(path), methods, 2);
    }
    if (rc == TA_OK)
        rc = ta_route_tree_finish(t);
    CHECK(rc == TA_OK || rc == TA_ENOMEM);
    ta_route_tree_free(t);
}

TA_TEST(no_memory)
{
    ta_failmalloc_all(scenario);
    CHECK(true);
}
