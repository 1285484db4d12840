/*
 * file_frames.c -- what a file in frames of 16 KB costs its sender, as HTTP/2 has it: read and sent
 * behind its heads sixteen at a time, by sendfile(2) frame by frame, and in frames of 256 KB, which
 * clients do not accept.  CPU time of the sender, user and kernel, for a GiB through the loopback
 * interface.
 *
 *     cc -O2 -o file_frames benchmarks/floor/file_frames.c && ./file_frames
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD = 9, FRAME = 16384, BATCH = 16, FRAMES = 1 << 16, IN_FILE = 1024, ROUNDS = 3 };

static int sock, file;
static const char head[HEAD];

static void need(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static double cpu(void)
{
    struct rusage r;
    need(getrusage(RUSAGE_SELF, &r) == 0, "getrusage");
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static void send_all(const char *data, size_t len, int flags)
{
    while (len) {
        ssize_t n = send(sock, data, len, flags);
        need(n > 0, "send");
        data += n;
        len -= (size_t)n;
    }
}

static void by_reading(void)
{
    static char out[BATCH * (HEAD + FRAME)];
    for (long i = 0; i < FRAMES; i += BATCH) {
        char *at = out;
        for (long k = i; k < i + BATCH; k++) {
            memcpy(at, head, HEAD);
            need(pread(file, at + HEAD, FRAME, k % IN_FILE * FRAME) == FRAME, "pread");
            at += HEAD + FRAME;
        }
        send_all(out, (size_t)(at - out), 0);
    }
}

static void by_sendfile(long at_once)
{
    for (long i = 0; i < FRAMES; i += at_once) {
        off_t at = i % IN_FILE * FRAME;
        size_t left = (size_t)(at_once * FRAME);
        send_all(head, HEAD, MSG_MORE);
        while (left) {
            ssize_t n = sendfile(sock, file, &at, left);
            need(n > 0, "sendfile");
            left -= (size_t)n;
        }
    }
}

static void receive(struct sockaddr_in to)
{
    static char trash[1 << 20];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    need(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    while (read(fd, trash, sizeof trash) > 0) {
    }
    _exit(0);
}

int main(void)
{
    static char zeros[IN_FILE * FRAME];
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    char name[] = "/tmp/file_frames.XXXXXX";
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    need(bind(listener, (struct sockaddr *)&addr, len) == 0 && listen(listener, 1) == 0, "bind");
    need(getsockname(listener, (struct sockaddr *)&addr, &len) == 0, "getsockname");
    if (fork() == 0)
        receive(addr);
    sock = accept(listener, NULL, NULL);
    file = mkstemp(name);
    need(sock >= 0 && file >= 0 && unlink(name) == 0, "sockets and files");
    need(write(file, zeros, sizeof zeros) == sizeof zeros, "write");
    for (int round = 0; round < ROUNDS; round++) {
        double t0 = cpu();
        by_reading();
        double t1 = cpu();
        by_sendfile(1);
        double t2 = cpu();
        by_sendfile(BATCH);
        double t3 = cpu();
        printf("s for a GiB: read %.3f, sendfile %.3f, sendfile of 256 KB %.3f\n", t1 - t0, t2 - t1,
               t3 - t2);
    }
    return 0;
}
