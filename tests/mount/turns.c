/* SPDX-License-Identifier: Apache-2.0
 *
 * turns MODE TURNS DIR DIR: two processes, each on its own mount of one tree, count up the number in
 * the file `state`, taking turns under the lock directory `lock`. MODE is how the file is replaced:
 * `rename` (a new file in the same directory takes its name) or `rewrite` (in place).
 *
 * Whoever holds the lock must read the number that was written last, which both know by shared
 * memory: anything else is a stale read, and another host's update would be lost. So that the kernels
 * have the file cached, each also reads it without the lock, where an old number is allowed, but none
 * that was never written. One line of figures on stdout; status 1 after a wrong read.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/parse.h"

#define LOOKS_OUTSIDE 3

struct shared {
    atomic_uint_fast64_t written; /* by whoever holds the lock */
    atomic_uint_fast64_t turns;
    atomic_uint_fast64_t wrong;
};

static void fail(const char *what)
{
    (void)fprintf(stderr, "turns: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The number in `state`; false: the file is not whole. */
static bool look(uint64_t *out)
{
    char text[32];
    int fd = open("state", O_RDONLY);
    if (fd < 0) {
        return false;
    }
    ssize_t len = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (len < 2 || text[len - 1] != '\n') {
        return false;
    }
    text[len - 1] = '\0';
    return parse_u64(text, 0, UINT64_MAX, out) == ERR_OK;
}

static void write_number(const char *name, int flags, uint64_t number)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%" PRIu64 "\n", number);
    int fd = open(name, O_WRONLY | O_CREAT | flags, 0644);
    if (fd < 0 || write(fd, text, (size_t)len) != len || close(fd) != 0) {
        fail(name);
    }
}

static void replace(bool by_rename, uint64_t number)
{
    char name[32];
    if (!by_rename) {
        write_number("state", O_TRUNC, number);
        return;
    }
    (void)snprintf(name, sizeof name, "new-%d", (int)getpid());
    write_number(name, O_EXCL, number);
    if (rename(name, "state") != 0) {
        fail("rename");
    }
}

static void lock(void)
{
    const struct timespec pause = {.tv_nsec = 200000};
    while (mkdir("lock", 0755) != 0) {
        if (errno != EEXIST) {
            fail("mkdir lock");
        }
        (void)nanosleep(&pause, NULL);
    }
}

static void take_turn(struct shared *shared, bool by_rename)
{
    uint64_t number = 0;
    uint64_t written = 0;
    lock();
    written = atomic_load(&shared->written);
    if (!look(&number) || number != written) {
        (void)fprintf(stderr, "turns: read %" PRIu64 ", written was %" PRIu64 "\n", number,
                      written);
        (void)atomic_fetch_add(&shared->wrong, 1);
    }
    replace(by_rename, written + 1);
    atomic_store(&shared->written, written + 1);
    if (rmdir("lock") != 0) {
        fail("rmdir lock");
    }
}

static _Noreturn void run(struct shared *shared, bool by_rename, uint64_t turns, const char *dir)
{
    uint64_t number = 0;
    if (chdir(dir) != 0) {
        fail(dir);
    }
    while (atomic_fetch_add(&shared->turns, 1) < turns) {
        take_turn(shared, by_rename);
        for (int i = 0; i < LOOKS_OUTSIDE; i++) {
            if (look(&number) && number > atomic_load(&shared->written) + 1) {
                (void)atomic_fetch_add(&shared->wrong, 1);
            }
        }
    }
    exit(0);
}

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    uint64_t turns = 0;
    if (argc != 5 || parse_u64(argv[2], 1, 1000000000, &turns) != ERR_OK) {
        (void)fprintf(stderr, "usage: turns rename|rewrite TURNS DIR DIR\n");
        return 2;
    }
    bool by_rename = strcmp(argv[1], "rename") == 0;
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    double begun = seconds_now();
    for (int i = 0; i < 2; i++) {
        if (fork() == 0) {
            run(shared, by_rename, turns, argv[3 + i]);
        }
    }
    int status = 0;
    bool failed = false;
    while (wait(&status) > 0) {
        failed = failed || status != 0;
    }
    (void)printf("%s: %" PRIu64 " turns, %.0f/s, %" PRIu64 " wrong reads\n", argv[1], turns,
                 (double)turns / (seconds_now() - begun), (uint64_t)atomic_load(&shared->wrong));
    return failed || atomic_load(&shared->wrong) != 0 || atomic_load(&shared->written) != turns;
}
