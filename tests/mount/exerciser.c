/* SPDX-License-Identifier: Apache-2.0
 *
 * exerciser SEED SECONDS BYTES FILE [FILE]: random operations on a file against a model in memory, in
 * the manner of fsx. With two names of the same file on two mounts, one does some operations and
 * closes what it wrote through, the other passes a read barrier (fsync of the directory) and must see exactly the model, then they change roles. Environment CORRUPT_AFTER=N: the
 * model is damaged from the N-th operation on, which must be found (to test the tester).
 *
 * A difference ends it with status 1 and the last operations. One line of figures on stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/parse.h"

#define HANDLES     4
#define HISTORY     40
#define LINE_BYTES  100
#define PIECE_BYTES 20000u
#define ROUND_MAX   30

struct state {
    unsigned seed;
    size_t bytes_max;
    const char *name[2];
    int name_count;
    int now; /* which name works */
    int handle[HANDLES];
    bool append[HANDLES];
    uint8_t *model;
    size_t len;
    uint8_t *buffer;
    uint64_t count;
    uint64_t corrupt_after;
    char history[HISTORY][LINE_BYTES];
};

static struct state state;

static size_t below(size_t limit)
{
    return limit == 0 ? 0 : (size_t)rand_r(&state.seed) % limit;
}

static _Noreturn void stop(const char *what, size_t offset)
{
    (void)fprintf(stderr, "exerciser: %s at %zu, operation %llu: %s\n", what, offset,
                  (unsigned long long)state.count, strerror(errno));
    for (uint64_t i = state.count < HISTORY ? 0 : state.count - HISTORY; i < state.count; i++) {
        (void)fprintf(stderr, "  %llu %s\n", (unsigned long long)i, state.history[i % HISTORY]);
    }
    exit(1);
}

static void note(const char *what, size_t a, size_t b)
{
    (void)snprintf(state.history[state.count % HISTORY], LINE_BYTES, "mount %d %s %zu %zu",
                   state.now, what, a, b);
    state.count++;
    if (state.corrupt_after != 0 && state.count >= state.corrupt_after && state.len > 0) {
        state.model[below(state.len)] ^= 1;
    }
}

static const char *path(void)
{
    return state.name[state.now];
}

/* ---- the model ---- */

static void model_length(size_t len)
{
    if (len > state.len) {
        memset(state.model + state.len, 0, len - state.len);
    }
    state.len = len;
}

static void model_write(size_t offset, size_t len)
{
    if (offset + len > state.len) {
        model_length(offset + len);
    }
    memcpy(state.model + offset, state.buffer, len);
}

static void random_bytes(size_t len)
{
    for (size_t i = 0; i < len; i++) {
        state.buffer[i] = (uint8_t)rand_r(&state.seed);
    }
}

/* ---- handles: 0 always reads and writes ---- */

static void reopen(size_t i)
{
    static const int flags[] = {O_RDWR, O_RDONLY, O_WRONLY, O_WRONLY | O_APPEND};
    int flag = i == 0 ? O_RDWR : flags[below(4)];
    if (state.handle[i] >= 0 && close(state.handle[i]) != 0) {
        stop("close", i);
    }
    note("reopen", i, (size_t)flag);
    state.append[i] = (flag & O_APPEND) != 0;
    state.handle[i] = open(path(), flag);
    if (state.handle[i] < 0) {
        stop("open", i);
    }
}

static void close_all(void)
{
    note("close", 0, 0);
    for (size_t i = 0; i < HANDLES; i++) {
        if (state.handle[i] >= 0 && close(state.handle[i]) != 0) {
            stop("close", i);
        }
        state.handle[i] = -1;
    }
}

/* One that can write (or read) at any place. */
static int any_handle(int wanted)
{
    size_t i = below(HANDLES);
    for (size_t n = 0; n < HANDLES; n++, i = (i + 1) % HANDLES) {
        int flags = fcntl(state.handle[i], F_GETFL) & O_ACCMODE;
        if (!state.append[i] && (flags == O_RDWR || flags == wanted)) {
            return state.handle[i];
        }
    }
    return state.handle[0];
}

/* ---- operations ---- */

static void do_write(void)
{
    size_t offset = below(state.bytes_max);
    size_t len = 1 + below(PIECE_BYTES);
    len = offset + len > state.bytes_max ? state.bytes_max - offset : len;
    random_bytes(len);
    note("write", offset, len);
    if (pwrite(any_handle(O_WRONLY), state.buffer, len, (off_t)offset) != (ssize_t)len) {
        stop("write", offset);
    }
    model_write(offset, len);
}

static void do_append(void)
{
    size_t len = 1 + below(PIECE_BYTES / 4);
    for (size_t i = 0; i < HANDLES; i++) {
        if (state.append[i] && state.len + len <= state.bytes_max) {
            random_bytes(len);
            note("append", state.len, len);
            if (write(state.handle[i], state.buffer, len) != (ssize_t)len) {
                stop("append", state.len);
            }
            model_write(state.len, len);
            return;
        }
    }
}

static void compare(const uint8_t *found, size_t offset, size_t len, const char *what)
{
    for (size_t i = 0; i < len; i++) {
        if (found[i] != state.model[offset + i]) {
            (void)fprintf(stderr, "exerciser: byte %zu is %02x, not %02x (length %zu)\n",
                          offset + i, found[i], state.model[offset + i], state.len);
            errno = 0;
            stop(what, offset + i);
        }
    }
}

/* A descriptor that only reads goes on with the version that it began with, until it reads at the
 * start again. */
static void go_to_newest(int fd)
{
    uint8_t byte = 0;
    if (pread(fd, &byte, 1, 0) < 0) {
        stop("read at the start", 0);
    }
}

static void read_at(int fd, size_t offset, size_t len)
{
    go_to_newest(fd);
    size_t want = offset < state.len ? state.len - offset : 0;
    want = want < len ? want : len;
    size_t got = 0;
    while (got < want) {
        ssize_t n = pread(fd, state.buffer + got, len - got, (off_t)(offset + got));
        if (n <= 0) {
            stop("short read", offset + got);
        }
        got += (size_t)n;
    }
    if (got != want || pread(fd, state.buffer + got, 1, (off_t)(offset + got)) !=
                           (offset + got < state.len ? 1 : 0)) {
        stop("read beyond the end", offset + got);
    }
    compare(state.buffer, offset, want, "read");
}

static void do_read(void)
{
    size_t offset = below(state.bytes_max);
    size_t len = 1 + below(PIECE_BYTES);
    note("read", offset, len);
    read_at(any_handle(O_RDONLY), offset, len);
}

static void do_truncate(void)
{
    size_t len = below(4) == 0 ? 0 : below(state.bytes_max);
    bool by_name = below(2) == 0;
    note(by_name ? "truncate" : "ftruncate", state.len, len);
    if ((by_name ? truncate(path(), (off_t)len) : ftruncate(any_handle(O_WRONLY), (off_t)len)) !=
        0) {
        stop("truncate", len);
    }
    model_length(len);
}

static void do_map(bool writes)
{
    if (state.len == 0) {
        return;
    }
    size_t offset = below(state.len);
    size_t len = 1 + below(PIECE_BYTES);
    len = len < state.len - offset ? len : state.len - offset;
    note(writes ? "map and write" : "map and read", offset, len);
    uint8_t *map = mmap(NULL, state.len, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED,
                        state.handle[0], 0);
    if (map == MAP_FAILED) {
        stop("mmap", offset);
    }
    compare(map + offset, offset, len, "mapped read");
    if (writes) {
        random_bytes(len);
        memcpy(map + offset, state.buffer, len);
        model_write(offset, len);
        if (msync(map, state.len, MS_SYNC) != 0) {
            stop("msync", offset);
        }
    }
    (void)munmap(map, state.len);
}

static void check_size(void)
{
    struct stat found;
    note("stat", state.len, 0);
    if (stat(path(), &found) != 0 || (size_t)found.st_size != state.len) {
        (void)fprintf(stderr, "exerciser: length %zu, not %zu\n", (size_t)found.st_size, state.len);
        stop("stat", state.len);
    }
}

static void do_rename(void)
{
    char other[4096];
    (void)snprintf(other, sizeof other, "%s.away", path());
    note("rename", 0, 0);
    if (rename(path(), other) != 0 || rename(other, path()) != 0) {
        stop("rename", 0);
    }
}

static void do_truncating_open(void)
{
    note("open O_TRUNC", state.len, 0);
    int fd = open(path(), O_WRONLY | O_TRUNC);
    if (fd < 0 || close(fd) != 0) {
        stop("open O_TRUNC", 0);
    }
    model_length(0);
}

static void do_sync(void)
{
    note("fsync", 0, 0);
    if (fsync(state.handle[0]) != 0) {
        stop("fsync", 0);
    }
}

static void do_one(void)
{
    size_t what = below(100);
    if (what < 30) {
        do_write();
    } else if (what < 55) {
        do_read();
    } else if (what < 65) {
        do_append();
    } else if (what < 72) {
        do_truncate();
    } else if (what < 77) {
        do_map(true);
    } else if (what < 83) {
        do_map(false);
    } else if (what < 91) {
        reopen(below(HANDLES));
    } else if (what < 94) {
        check_size();
    } else if (what < 96) {
        do_sync();
    } else if (what < 98) {
        do_rename();
    } else if (what < 99) {
        do_truncating_open();
    } else {
        note("read all", 0, state.len);
        read_at(state.handle[0], 0, state.bytes_max);
    }
}

/* The other mount goes on, behind a read barrier. */
static void change_roles(void)
{
    char folder[4096];
    close_all();
    state.now = 1 - state.now;
    (void)snprintf(folder, sizeof folder, "%s", path());
    /* Of the directory: without the barrier the file may still have its other name here. */
    int fd = open(dirname(folder), O_RDONLY);
    if (fd < 0 || fsync(fd) != 0 || close(fd) != 0) {
        stop("barrier", 0);
    }
    check_size();
    for (size_t i = 0; i < HANDLES; i++) {
        reopen(i);
    }
    note("read all behind a barrier", 0, state.len);
    read_at(state.handle[0], 0, state.bytes_max);
}

int main(int argc, char **argv)
{
    uint64_t seed = 0;
    uint64_t seconds = 0;
    uint64_t bytes = 0;
    if ((argc != 5 && argc != 6) || parse_u64(argv[1], 0, UINT32_MAX, &seed) != ERR_OK ||
        parse_u64(argv[2], 1, 86400, &seconds) != ERR_OK ||
        parse_u64(argv[3], PIECE_BYTES, 1u << 30, &bytes) != ERR_OK) {
        (void)fprintf(stderr, "usage: exerciser SEED SECONDS BYTES FILE [FILE]\n");
        return 2;
    }
    const char *corrupt = getenv("CORRUPT_AFTER");
    CHECK(corrupt == NULL || parse_u64(corrupt, 1, UINT64_MAX, &state.corrupt_after) == ERR_OK);
    state.seed = (unsigned)seed;
    state.bytes_max = (size_t)bytes;
    state.name_count = argc - 4;
    state.name[0] = argv[4];
    state.name[1] = argv[argc - 1];
    state.model = calloc(1, (size_t)bytes + PIECE_BYTES);
    state.buffer = malloc((size_t)bytes + PIECE_BYTES);
    CHECK(state.model != NULL && state.buffer != NULL);
    state.handle[0] = open(path(), O_RDWR | O_CREAT | O_TRUNC, 0644);
    for (size_t i = 1; i < HANDLES; i++) {
        state.handle[i] = -1;
        reopen(i);
    }
    time_t end = time(NULL) + (time_t)seconds;
    while (time(NULL) < end) {
        for (size_t n = below(ROUND_MAX); n > 0; n--) {
            do_one();
        }
        if (state.name_count == 2 && below(2) == 0) {
            change_roles();
        }
    }
    close_all();
    (void)printf("seed %llu: %llu operations\n", (unsigned long long)seed,
                 (unsigned long long)state.count);
    free(state.model);
    free(state.buffer);
    return 0;
}
