/* SPDX-License-Identifier: Apache-2.0
 *
 * Figures of the store beside those of a bare map in memory, as `key=value` lines on stdout: what
 * overlay, freezing and RocksDB cost the loop. Operations per second; a ratio is store / map.
 *
 *   bench_store [rows]      in a temporary folder; 100000 rows
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/buffer.h"
#include "common/check.h"
#include "common/omap.h"
#include "common/parse.h"
#include "server/store/store.h"
#include "tests/lib/store_fixture.h"

#define ROWS_DEFAULT     100000u
#define ROWS_MAX         100000000u
#define ROW_BYTES        200u /* a node with a short name and a small file */
#define NAMES_PER_FOLDER 100u
#define POLL_EVERY       64u /* entries of one turn of the loop */
#define PUT_LOG_BYTES    300u

struct bench {
    struct store_fixture fixture;
    struct omap *map;
    uint64_t rows;
    uint64_t seen; /* by a scan */
};

static double now_s(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A key as the tree has them: 'N' be64(folder) name. Numbers are spread, as are those of a tree. */
static size_t make_key(const struct bench *bench, uint64_t number, uint8_t key[32])
{
    uint64_t spread = number * 2654435761u % bench->rows;

    key[0] = 'N';
    put_be64(key + 1, spread / NAMES_PER_FOLDER);
    return 9 + (size_t)snprintf((char *)key + 9, 23, "file-%" PRIu64, spread % NAMES_PER_FOLDER);
}

static void report(const char *what, double store_s, double map_s, uint64_t count)
{
    double store = (double)count / store_s;
    double map = (double)count / map_s;

    printf("store_%s_per_s=%.0f map_%s_per_s=%.0f ratio=%.3f\n", what, store, what, map,
           store / map);
}

static void bench_put(struct bench *bench)
{
    struct kv *kv = &bench->fixture.kv;
    uint8_t value[ROW_BYTES] = {1};
    uint8_t key[32];
    double longest_s = 0;
    double start = now_s();

    for (uint64_t i = 0; i < bench->rows; i++) {
        kv->put(kv->context, key, make_key(bench, i, key), value, sizeof(value));
        if (i % POLL_EVERY != 0) {
            continue;
        }
        double before = now_s();
        store_poll(bench->fixture.store, (uint64_t)(before * 1e3), i * PUT_LOG_BYTES);
        double poll_s = now_s() - before;
        longest_s = poll_s > longest_s ? poll_s : longest_s;
        while (store_is_full(bench->fixture.store)) {
            store_fixture_wait(&bench->fixture);
            store_poll(bench->fixture.store, (uint64_t)(now_s() * 1e3), i * PUT_LOG_BYTES);
        }
    }
    double middle = now_s();
    for (uint64_t i = 0; i < bench->rows; i++) {
        CHECK_OP(omap_put(bench->map, key, make_key(bench, i, key), value, sizeof(value)), ==,
                 ERR_OK);
    }
    report("put", middle - start, now_s() - middle, bench->rows);
    printf("store_poll_longest_us=%.0f\n", longest_s * 1e6);
}

static void bench_get(struct bench *bench)
{
    struct kv *kv = &bench->fixture.kv;
    uint8_t key[32];
    double start = now_s();

    for (uint64_t i = 0; i < bench->rows; i++) {
        CHECK(kv->get(kv->context, key, make_key(bench, i, key), &bench->fixture.value));
    }
    double middle = now_s();
    for (uint64_t i = 0; i < bench->rows; i++) {
        CHECK(omap_get(bench->map, key, make_key(bench, i, key)) != NULL);
    }
    report("get", middle - start, now_s() - middle, bench->rows);
}

static bool count_row(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                      size_t value_len)
{
    struct bench *bench = arg;

    (void)key;
    (void)key_len;
    (void)value;
    (void)value_len;
    bench->seen++;
    return true;
}

/* One scan for each folder; figures are rows. */
static void bench_scan(struct bench *bench)
{
    struct kv *kv = &bench->fixture.kv;
    uint64_t folders = (bench->rows + NAMES_PER_FOLDER - 1) / NAMES_PER_FOLDER;
    uint64_t seen = 0;
    uint8_t prefix[9] = {'N'};
    double start = now_s();

    bench->seen = 0;
    for (uint64_t i = 0; i < folders; i++) {
        put_be64(prefix + 1, i);
        kv->scan(kv->context, prefix, sizeof(prefix), sizeof(prefix), count_row, bench);
    }
    double middle = now_s();
    for (uint64_t i = 0; i < folders; i++) {
        put_be64(prefix + 1, i);
        const struct omap_entry *entry = omap_seek(bench->map, prefix, sizeof(prefix));
        while (entry != NULL && memcmp(entry->key, prefix, sizeof(prefix)) == 0) {
            seen++;
            entry = omap_next(bench->map, entry);
        }
    }
    CHECK_OP(seen, ==, bench->seen);
    report("scan_row", middle - start, now_s() - middle, seen);
}

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    char line[128] = "";
    uint64_t pages = 0;

    CHECK(file != NULL);
    CHECK(fgets(line, sizeof(line), file) != NULL);
    (void)fclose(file);
    /* Pages in all, pages resident, and so on. */
    char *second = strchr(line, ' ');
    CHECK(second != NULL);
    second++;
    second[strcspn(second, " ")] = '\0';
    CHECK_OP(parse_u64(second, 1, UINT32_MAX, &pages), ==, ERR_OK);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

int main(int argc, char **argv)
{
    struct bench bench = {.rows = ROWS_DEFAULT};

    if (argc > 2 || (argc == 2 && parse_u64(argv[1], 1, ROWS_MAX, &bench.rows) != ERR_OK)) {
        (void)fprintf(stderr, "Usage: bench_store [rows]; at most %u\n", ROWS_MAX);
        return 2;
    }
    bench.map = omap_new();
    CHECK(bench.map != NULL);
    store_fixture_init(&bench.fixture);
    bench.fixture.has_default_sizes = true;
    uint64_t before = resident_bytes();
    store_fixture_open(&bench.fixture);
    printf("rows=%" PRIu64 " row_bytes=%u\n", bench.rows, ROW_BYTES);
    printf("open_resident_bytes=%" PRIu64 "\n", resident_bytes() - before);
    bench_put(&bench);
    bench_get(&bench);
    bench_scan(&bench);
    store_fixture_close(&bench.fixture);
    double start = now_s();
    store_fixture_open(&bench.fixture);
    printf("open_ms=%.1f\n", (now_s() - start) * 1e3);
    store_fixture_done(&bench.fixture);
    omap_free(bench.map);
    return 0;
}
