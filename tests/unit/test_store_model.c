/* SPDX-License-Identifier: Apache-2.0
 *
 * Random work on the store equals the same work on a plain ordered map, and after kill -9 the store
 * stands at the end of some entry, with all of it and nothing of the next.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/omap.h"
#include "common/parse.h"
#include "tests/lib/store_fixture.h"

#define STEPS         6000u
#define KEYS          300u
#define KILLS         6u
#define VALUE_LEN_MAX 6000u /* some go to blob files */

static unsigned seed_of_test(void)
{
    const char *given = getenv("SEED");
    uint64_t seed = 31415;

    if (given != NULL) {
        assert_int_equal(parse_u64(given, 0, UINT32_MAX, &seed), ERR_OK);
    }
    printf("# seed %u\n", (unsigned)seed);
    return (unsigned)seed;
}

/* Keys of differing length with common beginnings, and with bytes 0 and 0xff. */
static size_t make_key(uint32_t index, uint8_t key[8])
{
    static const uint8_t letters[4] = {0x00, 'a', 'b', 0xff};
    size_t len = 1 + index % 5;

    for (size_t i = 0; i < len; i++) {
        key[i] = letters[(index >> (2 * i)) & 3];
    }
    return len;
}

struct change {
    uint8_t key[8];
    size_t key_len;
    uint8_t value[VALUE_LEN_MAX];
    size_t value_len;
    bool is_remove;
};

static void make_change(unsigned *seed, struct change *out)
{
    unsigned size = (unsigned)rand_r(seed);

    out->key_len = make_key((uint32_t)rand_r(seed) % KEYS, out->key);
    out->is_remove = (unsigned)rand_r(seed) % 3 == 0;
    out->value_len = size % 16 == 0 ? size / 16 % VALUE_LEN_MAX : size / 16 % 64;
    memset(out->value, (uint8_t)rand_r(seed), out->value_len);
}

static void change_store(struct kv *kv, const struct change *change)
{
    if (change->is_remove) {
        kv->remove(kv->context, change->key, change->key_len);
    } else {
        kv->put(kv->context, change->key, change->key_len, change->value, change->value_len);
    }
}

static void change_model(struct omap *model, const struct change *change)
{
    if (change->is_remove) {
        omap_remove(model, change->key, change->key_len);
    } else {
        CHECK_OP(omap_put(model, change->key, change->key_len, change->value, change->value_len),
                 ==, ERR_OK);
    }
}

/* ---- Comparing ---- */

struct comparison {
    const struct omap *model;
    const struct omap_entry *next;
    size_t left; /* rows that the scan still takes */
    const uint8_t *prefix;
    size_t prefix_len;
};

static void skip_others(struct comparison *comparison)
{
    const struct omap_entry *next = comparison->next;

    if (next != NULL && (next->key_len < comparison->prefix_len ||
                         memcmp(next->key, comparison->prefix, comparison->prefix_len) != 0)) {
        comparison->next = NULL; /* the keys with the prefix lie together */
    }
}

static bool compare_row(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                        size_t value_len)
{
    struct comparison *comparison = arg;
    const struct omap_entry *next = comparison->next;

    assert_non_null(next);
    assert_int_equal(key_len, next->key_len);
    assert_memory_equal(key, next->key, key_len);
    assert_int_equal(value_len, next->value_len);
    if (value_len != 0) {
        assert_memory_equal(value, next->value, value_len);
    }
    comparison->next = omap_next(comparison->model, next);
    skip_others(comparison);
    comparison->left--;
    return comparison->left > 0;
}

static void compare_scan(struct kv *kv, const struct omap *model, const uint8_t *from,
                         size_t from_len, size_t prefix_len, size_t count_max)
{
    struct comparison comparison = {
        .model = model,
        .next = omap_seek(model, from, from_len),
        .left = count_max,
        .prefix = from,
        .prefix_len = prefix_len,
    };

    skip_others(&comparison);
    kv->scan(kv->context, from, from_len, prefix_len, compare_row, &comparison);
    if (comparison.left > 0) {
        assert_null(comparison.next);
    }
}

static void compare_get(struct store_fixture *fixture, const struct omap *model, const uint8_t *key,
                        size_t key_len)
{
    const struct omap_entry *entry = omap_get(model, key, key_len);
    bool found = fixture->kv.get(fixture->kv.context, key, key_len, &fixture->value);

    assert_int_equal(found, entry != NULL);
    if (entry != NULL) {
        assert_int_equal(fixture->value.len, entry->value_len);
        assert_memory_equal(fixture->value.data, entry->value, entry->value_len);
    }
}

static void compare_somewhere(struct store_fixture *fixture, const struct omap *model,
                              unsigned *seed)
{
    uint8_t key[8];
    size_t len = make_key((uint32_t)rand_r(seed) % KEYS, key);
    size_t count_max = (unsigned)rand_r(seed) % 2 == 0 ? SIZE_MAX : 1 + (size_t)rand_r(seed) % 5;

    compare_get(fixture, model, key, len);
    compare_scan(&fixture->kv, model, key, len, (size_t)rand_r(seed) % (len + 1), count_max);
}

/* ---- Random work ---- */

static void random_work_equals_a_plain_map(void **state)
{
    (void)state;
    static struct change change;
    struct store_fixture fixture;
    struct omap *model = omap_new();
    unsigned seed = seed_of_test();
    uint64_t now_ms = 0;
    uint64_t log_bytes = 0;

    store_fixture_init(&fixture);
    store_fixture_open(&fixture);
    for (unsigned step = 0; step < STEPS; step++) {
        make_change(&seed, &change);
        change_store(&fixture.kv, &change);
        change_model(model, &change);
        compare_somewhere(&fixture, model, &seed);
        now_ms += (unsigned)rand_r(&seed) % 8;
        log_bytes += (unsigned)rand_r(&seed) % 256 * KIB;
        if (rand_r(&seed) % 4 == 0) {
            store_poll(fixture.store, now_ms, log_bytes);
        }
        if (step % 1500 == 1499) {
            store_fixture_close(&fixture);
            store_fixture_open(&fixture);
            compare_scan(&fixture.kv, model, (const uint8_t *)"", 0, 0, SIZE_MAX);
        }
    }
    compare_scan(&fixture.kv, model, (const uint8_t *)"", 0, 0, SIZE_MAX);
    store_fixture_done(&fixture);
    omap_free(model);
}

/* ---- kill -9 ---- */

/* The changes of entry `number`, the same whenever they are made. The row of the counter begins
 * with a letter that make_key does not have. */
#define CHANGES_PER_ENTRY 5u
#define COUNTER_KEY       "counter"

static void make_entry_change(unsigned base, uint64_t number, unsigned part, struct change *out)
{
    unsigned seed = base ^ (unsigned)(number * CHANGES_PER_ENTRY + part) * 2654435761u;

    make_change(&seed, out);
}

static void apply_entry(struct store_fixture *fixture, unsigned base, uint64_t number)
{
    static struct change change;
    uint8_t counter[8];

    for (unsigned part = 0; part < CHANGES_PER_ENTRY; part++) {
        make_entry_change(base, number, part, &change);
        change_store(&fixture->kv, &change);
    }
    put_be64(counter, number);
    fixture->kv.put(fixture->kv.context, COUNTER_KEY, strlen(COUNTER_KEY), counter,
                    sizeof(counter));
}

static uint64_t read_counter(struct store_fixture *fixture)
{
    if (!fixture->kv.get(fixture->kv.context, COUNTER_KEY, strlen(COUNTER_KEY), &fixture->value)) {
        return 0;
    }
    CHECK_OP(fixture->value.len, ==, 8);
    return get_be64(fixture->value.data);
}

/* The child: applies entries for ever, and writes a byte to stdout for each. */
static int write_until_killed(const char *folder, unsigned base)
{
    static struct store_fixture started;
    struct store_fixture *fixture = &started;
    uint64_t now_ms = 0;
    uint64_t log_bytes = 0;

    store_fixture_init_at(fixture, folder);
    store_fixture_open(fixture);
    for (uint64_t number = read_counter(fixture) + 1;; number++) {
        apply_entry(fixture, base, number);
        now_ms += 7;
        log_bytes += STORE_FLUSH_LOG_BYTES / 1000; /* most flushes: a full memtable */
        store_poll(fixture->store, now_ms, log_bytes);
        /* Often enough that the disk keeps up; between, kills find overlays on their way. */
        if (number % 32 == 0 && store_deadline_ms(fixture->store) == UINT64_MAX) {
            store_fixture_wait(fixture);
            store_poll(fixture->store, now_ms, log_bytes);
        }
        if (write(STDOUT_FILENO, "x", 1) != 1) {
            return 1; /* the parent is gone */
        }
    }
}

/* Runs a child until it has applied so many entries, then kills it. */
static void run_and_kill(struct store_fixture *fixture, unsigned base, unsigned entries)
{
    int progress[2];
    char byte = 0;

    assert_int_equal(pipe(progress), 0);
    (void)fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* A fresh program: the threads of RocksDB, which it never ends, do not survive a fork. */
        char number[16];
        (void)snprintf(number, sizeof(number), "%u", base);
        (void)close(progress[0]);
        (void)dup2(progress[1], STDOUT_FILENO);
        (void)close(progress[1]);
        (void)execl("/proc/self/exe", "test_store_model", fixture->folder, number, NULL);
        _exit(1);
    }
    (void)close(progress[1]);
    for (unsigned i = 0; i < entries; i++) {
        assert_int_equal(read(progress[0], &byte, 1), 1);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    (void)close(progress[0]);
}

static void after_kill_the_store_stands_at_the_end_of_an_entry(void **state)
{
    (void)state;
    static struct change change;
    struct store_fixture fixture;
    struct omap *model = omap_new();
    unsigned seed = seed_of_test();
    unsigned base = (unsigned)rand_r(&seed);
    uint64_t modeled = 0;

    store_fixture_init(&fixture);
    for (unsigned round = 0; round < KILLS; round++) {
        run_and_kill(&fixture, base, 1000 + (unsigned)rand_r(&seed) % 3000);
        store_fixture_open(&fixture);
        uint64_t counter = read_counter(&fixture);
        assert_true(counter >= modeled); /* a flushed entry never goes away again */
        for (; modeled < counter; modeled++) {
            omap_remove(model, COUNTER_KEY, strlen(COUNTER_KEY));
            for (unsigned part = 0; part < CHANGES_PER_ENTRY; part++) {
                make_entry_change(base, modeled + 1, part, &change);
                change_model(model, &change);
            }
        }
        uint8_t bytes[8];
        put_be64(bytes, counter);
        if (counter > 0) {
            assert_int_equal(
                omap_put(model, COUNTER_KEY, strlen(COUNTER_KEY), bytes, sizeof(bytes)), ERR_OK);
        }
        compare_scan(&fixture.kv, model, (const uint8_t *)"", 0, 0, SIZE_MAX);
        printf("# killed at entry %llu\n", (unsigned long long)counter);
        store_fixture_close(&fixture);
    }
    assert_true(modeled > 0); /* the kills have left something to compare */
    store_fixture_done(&fixture);
    omap_free(model);
}

/* With a folder and a number it is the child that is to be killed. */
int main(int argc, char **argv)
{
    if (argc == 3) {
        uint64_t base = 0;
        CHECK_OP(parse_u64(argv[2], 0, UINT32_MAX, &base), ==, ERR_OK);
        return write_until_killed(argv[1], (unsigned)base);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_work_equals_a_plain_map),
        cmocka_unit_test(after_kill_the_store_stands_at_the_end_of_an_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
