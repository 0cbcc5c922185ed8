/* SPDX-License-Identifier: Apache-2.0
 *
 * The ordered map: order, overwriting, tombstones, and random work compared with a sorted array.
 *
 * link: -Wl,--wrap=malloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/omap.h"
#include "common/parse.h"

#define MODEL_KEYS 512u
#define STEPS      40000u

static bool malloc_fails;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

void *__wrap_malloc(size_t size)
{
    return malloc_fails ? NULL : __real_malloc(size);
}

static void put(struct omap *map, const char *key, const char *value)
{
    assert_int_equal(omap_put(map, key, strlen(key), value, value != NULL ? strlen(value) : 0),
                     ERR_OK);
}

static void expect(const struct omap_entry *entry, const char *key, const char *value)
{
    assert_non_null(entry);
    assert_int_equal(entry->key_len, strlen(key));
    assert_memory_equal(entry->key, key, strlen(key));
    assert_int_equal(entry->deleted, value == NULL);
    if (value == NULL) {
        assert_null(entry->value);
        return;
    }
    assert_non_null(entry->value);
    assert_int_equal(entry->value_len, strlen(value));
    assert_memory_equal(entry->value, value, strlen(value));
}

static void an_empty_map_has_nothing(void **state)
{
    (void)state;
    struct omap *map = omap_new();
    assert_non_null(map);
    assert_null(omap_get(map, "a", 1));
    assert_null(omap_seek(map, NULL, 0));
    omap_remove(map, "a", 1);
    assert_int_equal(omap_count(map), 0);
    assert_int_equal(omap_bytes(map), 0);
    omap_free(map);
    omap_free(NULL);
}

static void a_prefix_comes_before_what_it_begins(void **state)
{
    (void)state;
    struct omap *map = omap_new();
    put(map, "b", "3");
    put(map, "ab", "2");
    put(map, "a", "1");
    put(map, "", "0");
    assert_int_equal(omap_put(map, "\xff", 1, "4", 1), ERR_OK);
    const struct omap_entry *entry = omap_seek(map, NULL, 0);
    expect(entry, "", "0");
    entry = omap_next(map, entry);
    expect(entry, "a", "1");
    entry = omap_next(map, entry);
    expect(entry, "ab", "2");
    entry = omap_next(map, entry);
    expect(entry, "b", "3");
    entry = omap_next(map, entry);
    expect(entry, "\xff", "4");
    assert_null(omap_next(map, entry));
    expect(omap_seek(map, "aa", 2), "ab", "2");
    expect(omap_seek(map, "a", 1), "a", "1");
    assert_null(omap_seek(map, "\xff\x01", 2));
    omap_free(map);
}

static void a_tombstone_is_an_entry_and_an_empty_value_is_none(void **state)
{
    (void)state;
    struct omap *map = omap_new();
    put(map, "gone", NULL);
    put(map, "empty", "");
    expect(omap_get(map, "gone", 4), "gone", NULL);
    expect(omap_get(map, "empty", 5), "empty", "");
    put(map, "gone", "back");
    put(map, "empty", NULL);
    expect(omap_get(map, "gone", 4), "gone", "back");
    expect(omap_get(map, "empty", 5), "empty", NULL);
    assert_int_equal(omap_count(map), 2);
    omap_free(map);
}

static void a_value_may_be_overwritten_by_a_part_of_itself(void **state)
{
    (void)state;
    struct omap *map = omap_new();
    put(map, "k", "abcdef");
    const struct omap_entry *entry = omap_get(map, "k", 1);
    assert_int_equal(omap_put(map, entry->key, 1, entry->value + 2, 4), ERR_OK);
    expect(omap_get(map, "k", 1), "k", "cdef");
    omap_free(map);
}

static void the_room_of_a_large_value_is_given_back(void **state)
{
    (void)state;
    static const uint8_t large[1u << 20];
    struct omap *map = omap_new();
    assert_int_equal(omap_put(map, "k", 1, large, sizeof(large)), ERR_OK);
    assert_true(omap_bytes(map) > sizeof(large));
    put(map, "k", "small");
    assert_true(omap_bytes(map) < 4096);
    expect(omap_get(map, "k", 1), "k", "small");
    omap_remove(map, "k", 1);
    assert_int_equal(omap_bytes(map), 0);
    omap_free(map);
}

static void a_put_without_memory_changes_nothing(void **state)
{
    (void)state;
    struct omap *map = omap_new();
    put(map, "a", "1");
    size_t bytes = omap_bytes(map);
    malloc_fails = true;
    enum err fresh = omap_put(map, "b", 1, "2", 1);
    enum err longer = omap_put(map, "a", 1, "longer than before", 18);
    enum err shorter = omap_put(map, "a", 1, NULL, 0);
    malloc_fails = false;
    assert_int_equal(fresh, ERR_MEMORY);
    assert_int_equal(longer, ERR_MEMORY);
    assert_int_equal(shorter, ERR_OK);
    expect(omap_get(map, "a", 1), "a", NULL);
    assert_int_equal(omap_count(map), 1);
    assert_int_equal(omap_bytes(map), bytes);
    omap_free(map);
}

/* Keys of the model are their index as one, two or four letters: some begin others. */
static size_t model_key(uint32_t index, uint8_t key[4])
{
    size_t len = index % 3 == 0 ? 1 : index % 3 == 1 ? 2 : 4;

    for (size_t i = 0; i < 4; i++) {
        key[i] = (uint8_t)((index >> (i * 2)) & 3);
    }
    return len;
}

struct model_row {
    uint8_t key[4];
    size_t key_len;
    bool present;
    bool deleted;
    uint32_t value;
    size_t value_len; /* so many copies of the value's lowest byte */
};

static int compare_rows(const void *a, const void *b)
{
    const struct model_row *left = a;
    const struct model_row *right = b;
    size_t len = left->key_len < right->key_len ? left->key_len : right->key_len;
    int order = memcmp(left->key, right->key, len);

    if (order != 0) {
        return order;
    }
    return (left->key_len > right->key_len) - (left->key_len < right->key_len);
}

static size_t model_new(struct model_row *rows)
{
    size_t count = 0;

    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        rows[i] = (struct model_row){.present = false};
        rows[i].key_len = model_key(i, rows[i].key);
    }
    qsort(rows, MODEL_KEYS, sizeof(rows[0]), compare_rows);
    for (size_t i = 0; i < MODEL_KEYS; i++) {
        if (count == 0 || compare_rows(&rows[count - 1], &rows[i]) != 0) {
            rows[count++] = rows[i];
        }
    }
    return count;
}

static void compare_with_row(const struct omap_entry *entry, const struct model_row *row)
{
    assert_non_null(entry);
    assert_int_equal(entry->key_len, row->key_len);
    assert_memory_equal(entry->key, row->key, row->key_len);
    assert_int_equal(entry->deleted, row->deleted);
    assert_int_equal(entry->value_len, row->value_len);
    for (size_t i = 0; i < row->value_len; i++) {
        assert_int_equal(entry->value[i], (uint8_t)row->value);
    }
}

static void compare_all(const struct omap *map, const struct model_row *rows, size_t count,
                        size_t from)
{
    const struct omap_entry *entry = omap_seek(map, rows[from].key, rows[from].key_len);

    for (size_t i = from; i < count; i++) {
        if (rows[i].present) {
            compare_with_row(entry, &rows[i]);
            entry = omap_next(map, entry);
        }
    }
    assert_null(entry);
}

static void random_step(struct omap *map, struct model_row *row, unsigned *seed)
{
    uint8_t value[64];
    unsigned what = (unsigned)rand_r(seed) % 8;

    if (what < 3) {
        omap_remove(map, row->key, row->key_len);
        row->present = false;
        return;
    }
    row->present = true;
    row->deleted = what == 3;
    row->value = (uint32_t)rand_r(seed);
    row->value_len = row->deleted ? 0 : (size_t)rand_r(seed) % sizeof(value);
    memset(value, (uint8_t)row->value, sizeof(value));
    assert_int_equal(
        omap_put(map, row->key, row->key_len, row->deleted ? NULL : value, row->value_len), ERR_OK);
}

static void random_work_equals_a_sorted_array(void **state)
{
    (void)state;
    static struct model_row rows[MODEL_KEYS];
    const char *given = getenv("SEED");
    uint64_t first = 20260131;
    if (given != NULL) {
        assert_int_equal(parse_u64(given, 0, UINT32_MAX, &first), ERR_OK);
    }
    unsigned seed = (unsigned)first;
    printf("# seed %u\n", seed);
    struct omap *map = omap_new();
    size_t count = model_new(rows);
    assert_true(count > 50);
    for (unsigned step = 0; step < STEPS; step++) {
        struct model_row *row = &rows[(size_t)rand_r(&seed) % count];
        random_step(map, row, &seed);
        const struct omap_entry *entry = omap_get(map, row->key, row->key_len);
        assert_int_equal(entry != NULL, row->present);
        if (step % 64 == 0) {
            compare_all(map, rows, count, (size_t)rand_r(&seed) % count);
        }
    }
    compare_all(map, rows, count, 0);
    size_t present = 0;
    for (size_t i = 0; i < count; i++) {
        present += rows[i].present;
    }
    assert_int_equal(omap_count(map), present);
    for (size_t i = 0; i < count; i++) {
        omap_remove(map, rows[i].key, rows[i].key_len);
    }
    assert_int_equal(omap_count(map), 0);
    assert_int_equal(omap_bytes(map), 0);
    omap_free(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_has_nothing),
        cmocka_unit_test(a_prefix_comes_before_what_it_begins),
        cmocka_unit_test(a_tombstone_is_an_entry_and_an_empty_value_is_none),
        cmocka_unit_test(a_value_may_be_overwritten_by_a_part_of_itself),
        cmocka_unit_test(the_room_of_a_large_value_is_given_back),
        cmocka_unit_test(a_put_without_memory_changes_nothing),
        cmocka_unit_test(random_work_equals_a_sorted_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
