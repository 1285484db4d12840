/*
 * replay.c -- runs a fuzz target without libFuzzer: every file of a folder, then some thousand
 * mutations of them (the same ones each time), so that any compiler's build tests it.
 *
 *     replay_x FOLDER_OR_FILE ...
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MUTATIONS = 2000, LONGEST = 1 << 16, SECONDS = 100 };

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* The input in memory of exactly its size, so that a sanitizer sees the first byte read behind it.
 */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void mutate(const uint8_t *data, size_t size)
{
    uint8_t *work = malloc(size + 64);
    if (!work)
        abort();
    for (int i = 0; i < MUTATIONS; i++) {
        size_t n = size;
        if (size)
            memcpy(work, data, size);
        for (unsigned k = (unsigned)(next_random() % 4) + 1; k > 0; k--) {
            size_t at = n ? next_random() % n : 0;
            switch (next_random() % 4) {
            case 0: /* change */
                if (n)
                    work[at] = (uint8_t)next_random();
                break;
            case 1: /* remove */
                if (n) {
                    memmove(work + at, work + at + 1, n - at - 1);
                    n--;
                }
                break;
            case 2: /* insert */
                if (n < size + 64) {
                    memmove(work + at + 1, work + at, n - at);
                    work[at] = (uint8_t)next_random();
                    n++;
                }
                break;
            default: /* cut */
                n = at;
            }
        }
        run(work, n);
    }
    free(work);
}

static unsigned replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(2);
    }
    uint8_t *data = malloc(LONGEST);
    if (!data)
        abort();
    size_t size = fread(data, 1, LONGEST, f);
    fclose(f);
    run(data, size);
    mutate(data, size);
    free(data);
    return 1;
}

static unsigned replay(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        perror(path);
        exit(2);
    }
    if (!S_ISDIR(st.st_mode))
        return replay_file(path);
    DIR *dir = opendir(path);
    if (!dir) {
        perror(path);
        exit(2);
    }
    unsigned n = 0;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        char name[4096];
        if (snprintf(name, sizeof name, "%s/%s", path, entry->d_name) < (int)sizeof name)
            n += replay(name);
    }
    closedir(dir);
    return n;
}

int main(int argc, char **argv)
{
    unsigned n = 0;
    alarm(SECONDS);
    for (int i = 1; i < argc; i++)
        n += replay(argv[i]);
    printf("%u inputs, %d mutations of each\n", n, MUTATIONS);
    return n == 0;
}
