/* SPDX-License-Identifier: Apache-2.0
 *
 * What files cost in a folder of any file system: `bench_files FOLDER`. One line of key=value, in
 * microseconds an operation: cat (open, read to the end, close) and stat of a file that was read
 * before, enoent (stat of a name that is not there), ls of a folder with 100 entries,
 * create+write+close of new files, rewrite of one, cycle (create, write, close, unlink).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"

#define FILE_BYTES   1024u
#define FILES        100u
#define READ_ROUNDS  20000u
#define LIST_ROUNDS  2000u
#define WRITE_ROUNDS 500u

static char content[FILE_BYTES];

static double now_us(void)
{
    struct timespec time = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    CHECK(fd >= 0);
    CHECK_OP(write(fd, content, FILE_BYTES), ==, (ssize_t)FILE_BYTES);
    CHECK(close(fd) == 0);
}

static void cat(const char *path)
{
    char bytes[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    CHECK_OP(read(fd, bytes, sizeof(bytes)), ==, (ssize_t)FILE_BYTES);
    CHECK_OP(read(fd, bytes, sizeof(bytes)), ==, 0);
    CHECK(close(fd) == 0);
}

static void list(const char *path)
{
    DIR *folder = opendir(path);
    size_t count = 0;

    CHECK(folder != NULL);
    while (readdir(folder) != NULL) {
        count++;
    }
    CHECK(closedir(folder) == 0);
    CHECK_OP(count, ==, FILES + 2u);
}

static void stat_file(const char *path)
{
    struct stat attr;

    CHECK_OP(stat(path, &attr), ==, 0);
    CHECK_OP(attr.st_size, ==, (off_t)FILE_BYTES);
}

static void stat_missing(const char *path)
{
    struct stat attr;

    CHECK_OP(stat(path, &attr), ==, -1);
    CHECK_OP(errno, ==, ENOENT);
}

static void cycle(const char *path)
{
    write_file(path);
    CHECK_OP(unlink(path), ==, 0);
}

/* Microseconds of one of `rounds` calls; the first one is not counted. */
static double measure(void (*run)(const char *path), const char *path, unsigned rounds)
{
    double begin = 0;

    run(path);
    begin = now_us();
    for (unsigned i = 0; i < rounds; i++) {
        run(path);
    }
    return (now_us() - begin) / rounds;
}

static double measure_creates(const char *folder)
{
    char path[4096];
    double begin = now_us();

    for (unsigned i = 0; i < WRITE_ROUNDS; i++) {
        (void)snprintf(path, sizeof(path), "%s/new-%u", folder, i);
        write_file(path);
    }
    begin = (now_us() - begin) / WRITE_ROUNDS;
    for (unsigned i = 0; i < WRITE_ROUNDS; i++) {
        (void)snprintf(path, sizeof(path), "%s/new-%u", folder, i);
        CHECK_OP(unlink(path), ==, 0);
    }
    return begin;
}

/* `age_s`: how long the files lie before they are read; a mount may treat fresh ones otherwise. */
int main(int argc, char **argv)
{
    char folder[4000];
    char path[4096];

    if (argc < 2 || argc > 3) {
        (void)fputs("usage: bench_files FOLDER [AGE_S]\n", stderr);
        return 2;
    }
    memset(content, 'x', sizeof(content));
    (void)snprintf(folder, sizeof(folder), "%s/bench-%ld", argv[1], (long)getpid());
    CHECK_OP(mkdir(folder, 0755), ==, 0);
    for (unsigned i = 0; i < FILES; i++) {
        (void)snprintf(path, sizeof(path), "%s/%u", folder, i);
        write_file(path);
    }
    (void)sleep(argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0);
    (void)printf("cat_us=%.2f", measure(cat, path, READ_ROUNDS));
    (void)printf(" stat_us=%.2f", measure(stat_file, path, READ_ROUNDS));
    (void)snprintf(path, sizeof(path), "%s/missing", folder);
    (void)printf(" enoent_us=%.2f", measure(stat_missing, path, READ_ROUNDS));
    (void)snprintf(path, sizeof(path), "%s/0", folder);
    (void)printf(" ls_us=%.2f", measure(list, folder, LIST_ROUNDS));
    (void)printf(" rewrite_us=%.2f", measure(write_file, path, WRITE_ROUNDS));
    for (unsigned i = 0; i < FILES; i++) {
        (void)snprintf(path, sizeof(path), "%s/%u", folder, i);
        CHECK_OP(unlink(path), ==, 0);
    }
    (void)printf(" create_us=%.2f", measure_creates(folder));
    (void)snprintf(path, sizeof(path), "%s/cycle", folder);
    (void)printf(" cycle_us=%.2f\n", measure(cycle, path, WRITE_ROUNDS));
    CHECK_OP(rmdir(folder), ==, 0);
    return 0;
}
