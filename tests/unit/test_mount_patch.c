/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/patch: the patch gives what the calls gave, on any data.
 */
#include "fs/mount/patch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"

#define MAX 4096u

static void expect(const struct patch *patch, const char *base, const char *want)
{
    struct buffer out = {0};
    assert_int_equal(patch_apply(patch, base, strlen(base), &out), ERR_OK);
    assert_int_equal(out.len, strlen(want));
    assert_int_equal(patch_length(patch, strlen(base)), strlen(want));
    if (out.len > 0) {
        assert_memory_equal(out.data, want, out.len);
    }
    buffer_done(&out);
}

static struct patch_place place(const char *base)
{
    return (struct patch_place){.base_bytes = strlen(base), .bytes_max = MAX};
}

static void an_empty_patch_changes_nothing(void **state)
{
    (void)state;
    struct patch patch = {0};
    assert_true(patch_is_empty(&patch));
    assert_true(patch_needs_base(&patch));
    expect(&patch, "abc", "abc");
    patch_done(&patch);
}

static void a_truncate_to_zero_and_writes_need_no_base(void **state)
{
    (void)state;
    struct patch patch = {0};
    assert_int_equal(patch_truncate(&patch, place("old"), 0), ERR_OK);
    assert_int_equal(patch_write(&patch, place("old"), 0, "new ", 4), ERR_OK);
    assert_int_equal(patch_write(&patch, place("old"), 4, "text", 4), ERR_OK);
    assert_false(patch_needs_base(&patch));
    assert_int_equal(patch.range_count, 1);
    expect(&patch, "something else", "new text");
    patch_done(&patch);
}

static void an_append_goes_to_the_end_of_whatever_is_there_at_publish(void **state)
{
    (void)state;
    struct patch patch = {0};
    assert_int_equal(patch_append(&patch, place("ab"), "X", 1), ERR_OK);
    assert_int_equal(patch_append(&patch, place("ab"), "Y", 1), ERR_OK);
    assert_true(patch_is_append_only(&patch));
    expect(&patch, "ab", "abXY");
    expect(&patch, "longer", "longerXY");
    patch_done(&patch);
}

static void a_write_behind_an_append_keeps_their_order(void **state)
{
    (void)state;
    struct patch patch = {0};
    assert_int_equal(patch_append(&patch, place("ab"), "XYZ", 3), ERR_OK);
    assert_int_equal(patch_write(&patch, place("ab"), 3, "-", 1), ERR_OK);
    expect(&patch, "ab", "abX-Z");
    patch_done(&patch);
}

static void a_longer_truncate_behind_a_shorter_one_fills_with_zeros(void **state)
{
    (void)state;
    struct patch patch = {0};
    struct buffer out = {0};
    assert_int_equal(patch_truncate(&patch, place("abcdef"), 2), ERR_OK);
    assert_int_equal(patch_truncate(&patch, place("abcdef"), 4), ERR_OK);
    assert_int_equal(patch_apply(&patch, "abcdef", 6, &out), ERR_OK);
    assert_int_equal(out.len, 4);
    assert_memory_equal(out.data, "ab\0\0", 4);
    buffer_done(&out);
    patch_done(&patch);
}

static void a_write_forgets_times_that_were_set_before_it(void **state)
{
    (void)state;
    struct patch patch = {.set_mtime = true, .mtime_ns = 5};
    assert_int_equal(patch_write(&patch, place(""), 0, "x", 1), ERR_OK);
    assert_false(patch.set_mtime);
    patch_done(&patch);
}

static void more_than_the_limit_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct patch patch = {0};
    struct patch_place full = {.base_bytes = MAX, .bytes_max = MAX};
    assert_int_equal(patch_write(&patch, full, MAX, "x", 1), ERR_FILE_TOO_BIG);
    assert_int_equal(patch_write(&patch, full, UINT64_MAX, "x", 1), ERR_FILE_TOO_BIG);
    assert_int_equal(patch_append(&patch, full, "x", 1), ERR_FILE_TOO_BIG);
    assert_int_equal(patch_truncate(&patch, full, MAX + 1), ERR_FILE_TOO_BIG);
    assert_true(patch_is_empty(&patch));
    assert_int_equal(patch_write(&patch, full, MAX - 1, "x", 1), ERR_OK);
    patch_done(&patch);
}

static void too_many_ranges_are_refused_until_they_are_collapsed(void **state)
{
    (void)state;
    struct patch patch = {0};
    struct patch_place wide = {.base_bytes = 0, .bytes_max = MIB};
    for (uint64_t i = 0; i < PATCH_RANGES_MAX; i++) {
        assert_int_equal(patch_write(&patch, wide, i * 2, "x", 1), ERR_OK);
    }
    assert_int_equal(patch_write(&patch, wide, PATCH_RANGES_MAX * 2, "x", 1), ERR_LIMIT);
    assert_int_equal(patch_collapse(&patch, "", 0), ERR_OK);
    assert_int_equal(patch.range_count, 1);
    assert_int_equal(patch_write(&patch, wide, PATCH_RANGES_MAX * 2, "x", 1), ERR_OK);
    assert_int_equal(patch_length(&patch, 77), PATCH_RANGES_MAX * 2 + 1);
    patch_done(&patch);
}

static void an_op_carries_all_ranges_and_times(void **state)
{
    (void)state;
    struct patch patch = {0};
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    assert_int_equal(patch_write(&patch, place(""), 10, "ab", 2), ERR_OK);
    assert_int_equal(patch_write(&patch, place(""), 0, "c", 1), ERR_OK);
    patch.set_mtime = true;
    patch.mtime_ns = 7;
    assert_int_equal(patch_op(&patch, true /* with_bytes */, &op), ERR_OK);
    assert_int_equal(op.n_ranges, 2);
    assert_int_equal(op.ranges[0]->offset, 0);
    assert_int_equal(op.ranges[1]->offset, 10);
    assert_memory_equal(op.ranges[1]->data.data, "ab", 2);
    assert_true(op.set_mtime && op.mtime_ns == 7);
    patch_op_done(&op);
    patch_done(&patch);
}

/* ---- random calls against a plain file in memory ---- */

struct model {
    uint8_t bytes[2 * MAX];
    size_t len;
};

static void model_write(struct model *model, size_t offset, const uint8_t *bytes, size_t len)
{
    if (offset > model->len) {
        memset(model->bytes + model->len, 0, offset - model->len);
    }
    memcpy(model->bytes + offset, bytes, len);
    model->len = offset + len > model->len ? offset + len : model->len;
}

static void model_truncate(struct model *model, size_t len)
{
    if (len > model->len) {
        memset(model->bytes + model->len, 0, len - model->len);
    }
    model->len = len;
}

static void random_call(unsigned *seed, struct patch *patch, struct patch_place at,
                        struct model *model)
{
    uint8_t bytes[200];
    size_t len = 1 + (size_t)rand_r(seed) % sizeof bytes;
    size_t offset = (size_t)rand_r(seed) % 1000;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)rand_r(seed);
    }
    int what = rand_r(seed) % 10;
    if (what < 6) {
        assert_int_equal(patch_write(patch, at, offset, bytes, len), ERR_OK);
        model_write(model, offset, bytes, len);
    } else if (what < 8) {
        assert_int_equal(patch_truncate(patch, at, offset), ERR_OK);
        model_truncate(model, offset);
    } else if (model->len + len <= MAX) {
        assert_int_equal(patch_append(patch, at, bytes, len), ERR_OK);
        model_write(model, model->len, bytes, len);
    }
}

/* Some part of the base becomes the same part of the model. */
static void check_part(unsigned *seed, const struct patch *patch, const uint8_t *base,
                       size_t base_bytes, const struct model *model)
{
    uint8_t part[300] = {0};
    size_t offset = (size_t)rand_r(seed) % (model->len + 1);
    size_t len = (size_t)rand_r(seed) % sizeof part;
    len = len < model->len - offset ? len : model->len - offset;
    for (size_t i = 0; i < len && offset + i < base_bytes; i++) {
        part[i] = base[offset + i];
    }
    patch_apply_part(patch, base_bytes, offset, part, len);
    assert_memory_equal(part, model->bytes + offset, len);
}

/* The parts of a stage, put together again, are the patch. */
static void check_stage(unsigned *seed, const struct patch *patch, const uint8_t *base,
                        size_t base_bytes, const struct model *model)
{
    struct patch again = {.truncate = patch->truncate, .truncate_bytes = patch->truncate_bytes};
    struct patch_cursor cursor = {0};
    struct patch_place at = {.base_bytes = base_bytes, .bytes_max = MAX};
    struct buffer append = {0};
    struct buffer out = {0};
    size_t bytes_max = 1 + (size_t)rand_r(seed) % 200;
    size_t bytes = 1;
    while (bytes > 0) {
        Wire__StageOp part = WIRE__STAGE_OP__INIT;
        assert_int_equal(patch_part(patch, &cursor, bytes_max, &part), ERR_OK);
        bytes = part.append.len;
        assert_int_equal(buffer_append(&append, part.append.data, part.append.len), ERR_OK);
        for (size_t i = 0; i < part.n_ranges; i++) {
            const Wire__Range *range = part.ranges[i];
            assert_int_equal(
                patch_write(&again, at, range->offset, range->data.data, range->data.len), ERR_OK);
            bytes += range->data.len;
        }
        assert_true(bytes <= bytes_max);
        patch_part_done(&part);
    }
    assert_int_equal(patch_append(&again, at, append.data, append.len), ERR_OK);
    assert_int_equal(patch_apply(&again, base, base_bytes, &out), ERR_OK);
    assert_int_equal(out.len, model->len);
    if (out.len > 0) {
        assert_memory_equal(out.data, model->bytes, out.len);
    }
    buffer_done(&append);
    buffer_done(&out);
    patch_done(&again);
}

static void any_calls_give_what_a_plain_file_holds(void **state)
{
    (void)state;
    unsigned seed = 20240117;
    printf("seed=%u\n", seed);
    for (int round = 0; round < 2000; round++) {
        struct patch patch = {0};
        struct model model = {.len = (size_t)rand_r(&seed) % 700};
        uint8_t base[700];
        struct patch_place at = {.base_bytes = model.len, .bytes_max = MAX};
        struct buffer out = {0};
        for (size_t i = 0; i < model.len; i++) {
            base[i] = model.bytes[i] = (uint8_t)rand_r(&seed);
        }
        for (int call = rand_r(&seed) % 20; call >= 0; call--) {
            random_call(&seed, &patch, at, &model);
            for (size_t i = 1; i < patch.range_count; i++) {
                assert_true(patch.ranges[i].offset >
                            patch.ranges[i - 1].offset + patch.ranges[i - 1].bytes.len);
            }
        }
        assert_int_equal(patch_apply(&patch, base, (size_t)at.base_bytes, &out), ERR_OK);
        assert_int_equal(out.len, model.len);
        assert_int_equal(patch_length(&patch, at.base_bytes), model.len);
        if (out.len > 0) {
            assert_memory_equal(out.data, model.bytes, out.len);
        }
        check_part(&seed, &patch, base, (size_t)at.base_bytes, &model);
        check_stage(&seed, &patch, base, (size_t)at.base_bytes, &model);
        buffer_done(&out);
        patch_done(&patch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_patch_changes_nothing),
        cmocka_unit_test(a_truncate_to_zero_and_writes_need_no_base),
        cmocka_unit_test(an_append_goes_to_the_end_of_whatever_is_there_at_publish),
        cmocka_unit_test(a_write_behind_an_append_keeps_their_order),
        cmocka_unit_test(a_longer_truncate_behind_a_shorter_one_fills_with_zeros),
        cmocka_unit_test(a_write_forgets_times_that_were_set_before_it),
        cmocka_unit_test(more_than_the_limit_is_refused_and_changes_nothing),
        cmocka_unit_test(too_many_ranges_are_refused_until_they_are_collapsed),
        cmocka_unit_test(an_op_carries_all_ranges_and_times),
        cmocka_unit_test(any_calls_give_what_a_plain_file_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
