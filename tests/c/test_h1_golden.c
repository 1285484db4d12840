/*
 * test_h1_golden.c -- runs the cases of tests/c/http1 (its README.md tells their form) through the
 * head parser and the chunk decoder: whole, byte by byte and in odd pieces, each call with the
 * bytes in fresh memory of exactly their size.
 */
#include "http/h1/chunk.h"
#include "http/h1/parse.h"
#include "ta_test.h"

#include <dirent.h>
#include <stdarg.h>

typedef struct text {
    char data[16384];
    size_t len;
} text;

static void add(text *t, const char *fmt, ...) TA_PRINTF(2, 3);
static void add(text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    t->len += (size_t)vsnprintf(t->data + t->len, sizeof t->data - t->len, fmt, args);
    va_end(args);
    if (t->len >= sizeof t->data)
        FAIL("log too long");
}

/* Bytes as the cases write them. */
static void add_bytes(text *t, ta_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '\r')
            add(t, "\\r");
        else if (c == '\n')
            add(t, "\\n");
        else if (c == '\t')
            add(t, "\\t");
        else if (c == '\\')
            add(t, "\\\\");
        else if (c < 0x20 || c >= 0x7f)
            add(t, "\\x%02x", c);
        else
            add(t, "%c", c);
    }
}

static void add_str(text *t, const char *label, ta_str s)
{
    add(t, "%s=\"", label);
    add_bytes(t, s);
    add(t, "\"\n");
}

/* -- the parser, driven as a connection would ------------------------------------------------- */

typedef struct driver {
    const ta_http_limits *limits;
    ta_h1_head head;
    ta_h1_chunk chunk;
    enum { HEAD, LENGTH, CHUNKED, STOPPED } state;
    uint64_t left;
    size_t off; /* of the first byte not consumed, in the whole input */
    text body, *log;
} driver;

static void message_end(driver *d)
{
    if (d->body.len) {
        add(d->log, "body=\"%s\"\n", d->body.data);
        d->body.len = 0;
    }
    add(d->log, "off=%zu message complete\n", d->off);
    d->state = d->head.keep_alive ? HEAD : STOPPED;
    if (d->state == STOPPED)
        add(d->log, "close\n");
    ta_h1_head_reset(&d->head);
}

static void head_end(driver *d)
{
    const ta_h1_head *h = &d->head;
    d->off += h->len;
    add_str(d->log, "method", h->method);
    add_str(d->log, "target", h->target);
    if (!ta_str_eq(h->target, h->raw_path))
        add_str(d->log, "path", h->raw_path);
    if (h->query.len)
        add_str(d->log, "query", h->query);
    add(d->log, "version=1.%d\n", h->version_minor);
    for (uint32_t i = 0; i < h->nheaders; i++) {
        add(d->log, "field ");
        add_bytes(d->log, h->headers[i].name);
        add_str(d->log, "", h->headers[i].value);
    }
    add(d->log, "off=%zu headers complete%s%s%s%s", d->off, h->keep_alive ? " keep-alive" : "",
        h->chunked ? " chunked" : "", h->upgrade ? " upgrade" : "",
        h->expect_continue ? " expect" : "");
    if (h->content_length >= 0)
        add(d->log, " length=%" PRId64, h->content_length);
    add(d->log, "\n");
    d->left = h->content_length > 0 ? (uint64_t)h->content_length : 0;
    d->state = h->chunked ? CHUNKED : LENGTH;
    ta_h1_chunk_init(&d->chunk, d->limits);
}

/* Looks at data[0..len), which begins at d->off of the input; returns how much was consumed. */
static size_t feed(driver *d, char *data, size_t len)
{
    size_t done = 0;
    while (d->state != STOPPED) {
        size_t before = d->off;
        if (d->state == HEAD) {
            int rc = ta_h1_head_parse(&d->head, data + done, len - done);
            if (rc == TA_AGAIN)
                break;
            if (rc != TA_OK) {
                add(d->log, "error %d: %s\n", d->head.status, d->head.reason);
                d->state = STOPPED;
                break;
            }
            head_end(d);
            done += d->off - before;
            if (d->state == LENGTH && !d->left)
                message_end(d);
            continue;
        }
        if (done == len)
            break;
        if (d->state == LENGTH) {
            size_t n = TA_MIN(d->left, len - done);
            add_bytes(&d->body, ta_str_of(data + done, n));
            d->left -= n;
            d->off += n;
            done += n;
            if (!d->left)
                message_end(d);
            continue;
        }
        size_t used;
        ta_str run;
        int rc = ta_h1_chunk_next(&d->chunk, data + done, len - done, &used, &run);
        add_bytes(&d->body, run);
        d->off += used;
        done += used;
        if (rc == TA_OK) {
            message_end(d);
        } else if (rc != TA_AGAIN) {
            add(d->log, "off=%zu error %d: %s\n", d->off, rc == TA_EBAD ? 400 : 413,
                d->chunk.reason);
            d->state = STOPPED;
        }
    }
    return done;
}

static void run(const ta_http_limits *limits, ta_str bytes, size_t step, text *log)
{
    driver *d = calloc(1, sizeof *d);
    char *copy = malloc(bytes.len + 1); /* keeps what the parser changes in place */
    memcpy(copy, bytes.ptr, bytes.len);
    ta_str input = {copy, bytes.len};
    size_t start = 0, given = 0; /* input[start..given) is not consumed yet */
    d->limits = limits;
    d->log = log;
    log->len = 0;
    log->data[0] = 0;
    ta_h1_head_init(&d->head, limits);
    while (given < input.len && d->state != STOPPED) {
        given = TA_MIN(given + step, input.len);
        size_t len = given - start;
        char *piece = malloc(len);
        memcpy(piece, input.ptr + start, len);
        size_t used = feed(d, piece, len);
        memcpy(copy + start, piece, len);
        start += used;
        free(piece); /* the slices that the parser holds move at its next call */
    }
    if (d->state == LENGTH || d->state == CHUNKED)
        add(log, "incomplete body\n");
    else if (d->state == HEAD && start < input.len)
        add(log, "incomplete head\n");
    ta_h1_head_free(&d->head);
    free(copy);
    free(d);
}

/* -- the cases -------------------------------------------------------------------------------- */

static unsigned failures, cases;

static void compare(const char *file, const char *title, const char *how, const text *got,
                    const char *want)
{
    ta_test_checks++;
    if (strcmp(got->data, want) == 0)
        return;
    failures++;
    fprintf(stderr, "%s: %s (%s)\n--- expected\n%s--- got\n%s\n", file, title, how, want,
            got->data);
}

/* A line of an ```http block: its escapes, then CRLF unless it ends with a backslash. */
static void add_input_line(text *input, const char *line)
{
    size_t n = strlen(line);
    for (size_t i = 0; i < n; i++) {
        char c = line[i];
        if (c == '\\') {
            if (i + 1 == n)
                return;
            c = line[++i];
            if (c == 'x') {
                char digits[3] = {line[i + 1], line[i + 1] ? line[i + 2] : 0, 0};
                c = (char)strtol(digits, NULL, 16);
                i += 2;
            } else {
                c = c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : c;
            }
        }
        input->data[input->len++] = c;
    }
    input->data[input->len++] = '\r';
    input->data[input->len++] = '\n';
}

static void set_limit(ta_http_limits *limits, const char *line)
{
    unsigned value;
    if (sscanf(line, "<!-- request_line=%u", &value) == 1)
        limits->request_line = value;
    else if (sscanf(line, "<!-- header_bytes=%u", &value) == 1)
        limits->header_bytes = value;
    else if (sscanf(line, "<!-- header_count=%u", &value) == 1)
        limits->header_count = value;
    else if (sscanf(line, "<!-- body_bytes=%u", &value) == 1)
        limits->body_bytes = value;
    else if (sscanf(line, "<!-- trailer_bytes=%u", &value) == 1)
        limits->trailer_bytes = value;
    else if (sscanf(line, "<!-- chunk_ext_bytes=%u", &value) == 1)
        limits->chunk_ext_bytes = value;
    else
        FAIL("unknown setting: %s", line);
}

static const ta_http_limits defaults = {
    .request_line = 8190,
    .header_bytes = 65536,
    .header_count = 100,
    .trailer_bytes = 8192,
    .chunk_ext_bytes = 4096,
};

static void run_file(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        FAIL("%s: %s", path, strerror(errno));
    static text input, want, got;
    static char line[8192], title[256];
    ta_http_limits limits = defaults;
    enum { PROSE, INPUT, LOG } block = PROSE;
    unsigned before = cases;
    input.len = want.len = 0;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (block == INPUT && strcmp(line, "```") != 0) {
            add_input_line(&input, line);
        } else if (block == LOG && strcmp(line, "```") != 0) {
            add(&want, "%s\n", line);
        } else if (block == LOG) {
            ta_str bytes = {input.data, input.len};
            cases++;
            run(&limits, bytes, SIZE_MAX / 2, &got);
            compare(path, title, "whole", &got, want.data);
            run(&limits, bytes, 1, &got);
            compare(path, title, "byte by byte", &got, want.data);
            run(&limits, bytes, 7, &got);
            compare(path, title, "by sevens", &got, want.data);
            run(&limits, bytes, 64, &got);
            compare(path, title, "by 64", &got, want.data);
            block = PROSE;
            limits = defaults;
        } else if (block == INPUT) {
            block = PROSE;
        } else if (strcmp(line, "```http") == 0) {
            block = INPUT;
            input.len = 0;
        } else if (strcmp(line, "```log") == 0) {
            block = LOG;
            want.len = 0;
            want.data[0] = 0;
        } else if (line[0] == '#') {
            snprintf(title, sizeof title, "%.200s", line);
        } else if (strncmp(line, "<!--", 4) == 0) {
            set_limit(&limits, line);
        }
    }
    fclose(f);
    if (block != PROSE || cases == before)
        FAIL("%s: no case, or an open block", path);
}

TA_TEST(golden)
{
    char dir[4096], path[4096 + 300];
    const char *root = getenv("TA_SOURCE_DIR");
    if (root)
        snprintf(dir, sizeof dir, "%s/http1", root);
    else /* run by hand in the build folder */
        snprintf(dir, sizeof dir, "%.*s/http1", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    DIR *d = opendir(dir);
    if (!d)
        FAIL("%s: %s", dir, strerror(errno));
    unsigned files = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n < 4 || strcmp(e->d_name + n - 3, ".md") != 0 || strcmp(e->d_name, "README.md") == 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        run_file(path);
        files++;
    }
    closedir(d);
    printf("%u cases in %u files\n", cases, files);
    CHECK_INT(files, >=, 8);
    CHECK_INT(failures, ==, 0);
}
