#include "http/file.h"

#include "ta_test.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/ta_file_XXXXXX";

static void in_root(char *out, const char *name)
{
    snprintf(out, PATH_MAX, "%s/%s", root, name);
}

static void put(const char *name, const char *text)
{
    char path[PATH_MAX];
    in_root(path, name);
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    fputs(text, f);
    fclose(f);
}

static void put_link(const char *to, const char *name)
{
    char path[PATH_MAX];
    in_root(path, name);
    CHECK(symlink(to, path) == 0);
}

static int remove_one(const char *path, const struct stat *sb, int kind, struct FTW *walk)
{
    return remove(path);
}

static void remove_tree(void)
{
    (void)nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_tree(void)
{
    char path[PATH_MAX];
    if (strstr(root, "XXXXXX") == NULL)
        return;
    CHECK(mkdtemp(root) != NULL);
    atexit(remove_tree);
    in_root(path, "dir");
    CHECK(mkdir(path, 0700) == 0);
    in_root(path, "dir-2");
    CHECK(mkdir(path, 0700) == 0);
    put("dir/file", "12345");
    put("outside", "1");
    put("dir-2/beside", "1");
    put_link("file", "dir/inner");
    put_link("../outside", "dir/outer");
    put_link("../dir-2/beside", "dir/beside");
    put_link("nowhere", "dir/dangling");
    put_link("loop", "dir/loop");
    put_link("dir", "alias");
}

/* As ta_file_open_below; the descriptor is closed. */
static ta_file_found below(ta_file_opener *opener, const char *dir, const char *rel, bool follow,
                           char *real)
{
    char path[PATH_MAX];
    ta_file file;
    in_root(path, dir);
    ta_file_found found = ta_file_open_below(opener, path, rel, follow, real, &file);
    if (found == TA_FILE_IS) {
        CHECK(file.regular || file.directory);
        close(file.fd);
    }
    return found;
}

static void check_tree(ta_file_opener *opener)
{
    char real[PATH_MAX], path[PATH_MAX];
    make_tree();
    CHECK(below(opener, "dir", "file", false, real) == TA_FILE_IS);
    CHECK(real[0] == '\0' || strcmp(real + strlen(real) - 9, "/dir/file") == 0);
    CHECK(below(opener, "alias", "file", false, real) == TA_FILE_IS);
    CHECK(below(opener, "dir", ".", false, real) == TA_FILE_IS);
    CHECK(below(opener, "dir", "inner", false, real) == TA_FILE_IS);
    CHECK(strstr(real, "dir/file") != NULL);
    CHECK(below(opener, "dir", "outer", false, real) == TA_FILE_ABSENT);
    CHECK(below(opener, "dir", "beside", false, real) == TA_FILE_ABSENT);
    CHECK(below(opener, "dir", "outer", true, real) == TA_FILE_IS);
    CHECK(below(opener, "dir", "dangling", false, real) != TA_FILE_IS);
    CHECK(below(opener, "dir", "loop", false, real) == TA_FILE_ASK);
    in_root(path, "dir/absent");
    (void)access(path, F_OK); /* now the system knows that it is not there */
    CHECK(below(opener, "dir", "absent", false, real) == TA_FILE_ABSENT);
    CHECK(below(opener, "dir", "file/below", false, real) != TA_FILE_IS);
    CHECK(below(opener, "no-dir", "file", false, real) == TA_FILE_ASK);

    ta_file file;
    in_root(path, "dir/file");
    CHECK(ta_file_open(opener, path, &file) == TA_FILE_IS);
    CHECK(file.regular && !file.directory && file.size == 5);
    close(file.fd);
    in_root(path, "dir");
    CHECK(ta_file_open(opener, path, &file) == TA_FILE_IS && file.directory);
    close(file.fd);
}

TA_TEST(file_cached)
{
    ta_file_opener opener = {0};
    check_tree(&opener);
}

TA_TEST(file_plain)
{
    ta_file_opener opener = {.plain = true};
    check_tree(&opener);
}

TA_TEST(file_not_now)
{
    ta_file_opener opener = {.not_now = INT64_MAX};
    char real[PATH_MAX];
    make_tree();
    CHECK(below(&opener, "dir", "file", false, real) == TA_FILE_ASK);
    CHECK(below(&opener, "dir", "absent", false, real) == TA_FILE_ASK);
}
