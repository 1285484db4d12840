/*
 * ta_test.h -- the C tests' frame: include it in one file a program, write TA_TEST(name) { ... }.
 *
 * A test registers itself when the program is loaded, so none can be forgotten in a list; one that
 * checks nothing fails; and tests/c/meson.build fails when a file of tests has no line there.
 * Each test runs in a process of its own with a time limit, so a crash or a hang is one failure.
 *
 *     test_x [--list] [--nofork] [name ...]        --nofork: for a debugger, one test at a time
 */
#ifndef TA_TEST_H
#define TA_TEST_H

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ta_base.h"

#ifndef TA_TEST_SECONDS
#define TA_TEST_SECONDS 30 /* of one test */
#endif

typedef struct ta_test_entry {
    const char *name;
    void (*fn)(void);
    struct ta_test_entry *next;
} ta_test_entry;

static ta_test_entry *ta_test_first, **ta_test_last = &ta_test_first;
static unsigned long ta_test_checks;     /* made by the running test */
TA_UNUSED static char ta_test_note[200]; /* printed with a failure: which case, which seed */

#define TA_TEST(name_)                                                                             \
    static void test_##name_(void);                                                                \
    __attribute__((constructor)) static void register_##name_(void)                                \
    {                                                                                              \
        static ta_test_entry entry = {#name_, test_##name_, NULL};                                 \
        *ta_test_last = &entry;                                                                    \
        ta_test_last = &entry.next;                                                                \
    }                                                                                              \
    static void test_##name_(void)

TA_UNUSED
__attribute__((noreturn)) TA_PRINTF(3, 4) static void ta_test_fail(const char *file, int line,
                                                                   const char *fmt, ...)
{
    __builtin_va_list args;
    __builtin_va_start(args, fmt);
    fflush(stdout);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, ta_test_note[0] ? " (%s)\n" : "%s\n", ta_test_note);
    fflush(stderr);
    _exit(1);
}

/* The signal that ends a child which runs fn, as SIGABRT by an assertion; 0 when it returns. */
TA_UNUSED static int ta_test_signal_of(void (*fn)(void))
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        fclose(stderr); /* what assert() says is no news here */
        fn();
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        ta_test_fail(__FILE__, __LINE__, "no child: errno %d", errno);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TA_UNUSED static void ta_test_print_bytes(const char *label, ta_str s)
{
    fprintf(stderr, "  %s (%zu): \"", label, s.len);
    for (size_t i = 0; i < s.len && i < 2000; i++) {
        unsigned char ch = (unsigned char)s.ptr[i];
        if (ch == '\r')
            fputs("\\r", stderr);
        else if (ch == '\n')
            fputs("\\n", stderr);
        else if (ch < 0x20 || ch >= 0x7f || ch == '"' || ch == '\\')
            fprintf(stderr, "\\x%02x", ch);
        else
            fputc(ch, stderr);
    }
    fputs("\"\n", stderr);
}

/* -- checks: a failing one ends the test ------------------------------------------------------ */

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        ta_test_checks++;                                                                          \
        if (!(cond))                                                                               \
            ta_test_fail(__FILE__, __LINE__, "CHECK(%s)", #cond);                                  \
    } while (0)

/* CHECK_INT(a, ==, b): integers of any kind; both are shown. */
#define CHECK_INT(a, op, b)                                                                        \
    do {                                                                                           \
        long long ta_a = (long long)(a), ta_b = (long long)(b);                                    \
        ta_test_checks++;                                                                          \
        if (!(ta_a op ta_b))                                                                       \
            ta_test_fail(__FILE__, __LINE__, "CHECK_INT(%s %s %s): %lld, %lld", #a, #op, #b, ta_a, \
                         ta_b);                                                                    \
    } while (0)

/* CHECK_STR(ta_str, "literal or char *") */
#define CHECK_STR(got, want)                                                                       \
    do {                                                                                           \
        ta_str ta_g = (got);                                                                       \
        const char *ta_w = (want);                                                                 \
        ta_test_checks++;                                                                          \
        if (!ta_str_eq(ta_g, ta_str_of(ta_w, strlen(ta_w)))) {                                     \
            ta_test_print_bytes("got", ta_g);                                                      \
            ta_test_print_bytes("want", ta_str_of(ta_w, strlen(ta_w)));                            \
            ta_test_fail(__FILE__, __LINE__, "CHECK_STR(%s)", #got);                               \
        }                                                                                          \
    } while (0)

#define CHECK_MEM(got, want, n)                                                                    \
    do {                                                                                           \
        size_t ta_n = (n);                                                                         \
        const char *ta_g = (const char *)(got), *ta_w = (const char *)(want);                      \
        ta_test_checks++;                                                                          \
        if (memcmp(ta_g, ta_w, ta_n) != 0) {                                                       \
            ta_test_print_bytes("got", ta_str_of(ta_g, ta_n));                                     \
            ta_test_print_bytes("want", ta_str_of(ta_w, ta_n));                                    \
            ta_test_fail(__FILE__, __LINE__, "CHECK_MEM(%s)", #got);                               \
        }                                                                                          \
    } while (0)

#define FAIL(...) ta_test_fail(__FILE__, __LINE__, __VA_ARGS__)

/* TA_TEST_BACKEND=poll: the programs that go through a loop are run over poll(2) as well. */
TA_UNUSED static bool ta_test_with_poll(void)
{
    const char *which = getenv("TA_TEST_BACKEND");
    return which && strcmp(which, "poll") == 0;
}

/* -- running ---------------------------------------------------------------------------------- */

static int ta_test_here(const ta_test_entry *t)
{
    ta_test_checks = 0;
    alarm(TA_TEST_SECONDS);
    t->fn();
    alarm(0);
    if (ta_test_checks == 0) {
        fprintf(stderr, "%s: checked nothing\n", t->name);
        return 1;
    }
    return 0;
}

static int ta_test_forked(const ta_test_entry *t)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        return 1;
    }
    if (pid == 0)
        exit(ta_test_here(t)); /* exit, not _exit: the leak sanitizer looks then */
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s: %s\n", t->name,
                WTERMSIG(status) == SIGALRM ? "too slow" : strsignal(WTERMSIG(status)));
    return 1;
}

int main(int argc, char **argv)
{
    bool list = false, nofork = false;
    int names = 0;
    unsigned ran = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0)
            list = true;
        else if (strcmp(argv[i], "--nofork") == 0)
            nofork = true;
        else
            argv[1 + names++] = argv[i];
    }
    signal(SIGPIPE, SIG_IGN); /* as the server does */
    for (const ta_test_entry *t = ta_test_first; t; t = t->next) {
        bool wanted = names == 0;
        for (int i = 0; i < names; i++)
            wanted |= strcmp(argv[1 + i], t->name) == 0;
        if (!wanted)
            continue;
        ran++;
        if (list) {
            puts(t->name);
            continue;
        }
        bool bad = (nofork ? ta_test_here(t) : ta_test_forked(t)) != 0;
        failed += bad;
        printf("%s %s\n", bad ? "FAIL" : "ok  ", t->name);
    }
    fflush(stdout);
    if (ran == 0 || ran < (unsigned)names) {
        fprintf(stderr, "no such test\n");
        return 1;
    }
    if (!list)
        printf("%u tests, %u failed\n", ran, failed);
    return failed != 0;
}

#endif
