/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: staged writes. The random run begins with the seed that is given as an
 * argument.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/parse.h"
#include "common/version.h"
#include "tests/lib/tree_fixture.h"

#define RANDOM_RUNS  8u
#define RANDOM_BYTES (20u * MIB)
#define RANDOM_PARTS 7u

static uint64_t first_seed = 1;

static int setup(void **state)
{
    assert_int_equal(fixture_setup(state), 0);
    struct tree_fixture *fixture = *state;
    assert_int_equal(fixture_raise(fixture, FEATURE_FILES), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, "0123456789"), ERR_OK);
    return 0;
}

static enum err stage_range(struct tree_fixture *fixture, uint64_t stage, uint32_t part,
                            uint64_t offset, const char *text)
{
    Wire__StageOp op = WIRE__STAGE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};

    range.offset = offset;
    range.data = wire_bytes(text, strlen(text));
    op.ranges = ranges;
    op.n_ranges = 1;
    return fixture_stage(fixture, stage, part, &op);
}

static enum err stage_append(struct tree_fixture *fixture, uint64_t stage, uint32_t part,
                             const void *data, size_t len)
{
    Wire__StageOp op = WIRE__STAGE_OP__INIT;

    op.append = wire_bytes(data, len);
    return fixture_stage(fixture, stage, part, &op);
}

static enum err drop(struct tree_fixture *fixture, uint64_t stage)
{
    Wire__StageOp op = WIRE__STAGE_OP__INIT;

    op.drop = true;
    return fixture_stage(fixture, stage, 0, &op);
}

static enum err commit(struct tree_fixture *fixture, uint64_t stage, uint32_t parts,
                       Wire__WriteOp *op)
{
    op->stage = stage;
    op->stage_parts = parts;
    return fixture_write_with(fixture, "/f", op);
}

static size_t staged_rows(struct tree_fixture *fixture)
{
    const struct omap_entry *entry = omap_seek(fixture->rows, "T", 1);
    size_t count = 0;

    for (; entry != NULL && entry->key[0] == 'T'; entry = omap_next(fixture->rows, entry)) {
        count++;
    }
    return count;
}

static void parts_come_between_the_truncate_and_the_ranges(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};

    assert_int_equal(stage_append(fixture, 7, 1, "-one", 4), ERR_OK);
    assert_int_equal(stage_range(fixture, 7, 2, 3, "cde"), ERR_OK);
    assert_int_equal(stage_range(fixture, 7, 0, 2, "BCD"), ERR_OK);
    assert_int_equal(stage_append(fixture, 7, 3, "-three", 6), ERR_OK);
    fixture_expect_data(fixture, "/f", "0123456789");
    op.truncate = true;
    op.truncate_bytes = 4;
    range.offset = 5;
    range.data = wire_bytes("!", 1);
    op.ranges = ranges;
    op.n_ranges = 1;
    op.append = wire_bytes("-end", 4);
    assert_int_equal(commit(fixture, 7, 4, &op), ERR_OK);
    fixture_expect_data(fixture, "/f", "01Bcd!-one-three-end");
    assert_int_equal(staged_rows(fixture), 0);
    assert_int_equal(fixture->result.attr.version, 1);
    assert_int_equal(fixture->result.change_count, 1);
}

static void a_stage_is_used_once(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;

    assert_int_equal(stage_append(fixture, 1, 0, "x", 1), ERR_OK);
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_OK);
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_STAGE_LOST);
    fixture_expect_data(fixture, "/f", "0123456789x");
    /* And its number may be used again. */
    assert_int_equal(stage_append(fixture, 1, 0, "y", 1), ERR_OK);
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_OK);
    fixture_expect_data(fixture, "/f", "0123456789xy");
}

static void a_write_whose_parts_are_not_all_there_changes_nothing(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;

    assert_int_equal(stage_append(fixture, 1, 0, "x", 1), ERR_OK);
    assert_int_equal(stage_append(fixture, 1, 2, "z", 1), ERR_OK);
    assert_int_equal(commit(fixture, 1, 3, &op), ERR_STAGE_LOST);
    assert_int_equal(commit(fixture, 1, 2, &op), ERR_STAGE_LOST);
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_STAGE_LOST);
    assert_int_equal(commit(fixture, 2, 1, &op), ERR_STAGE_LOST);
    assert_int_equal(commit(fixture, 1, 0, &op), ERR_MALFORMED);
    assert_int_equal(commit(fixture, 0, 1, &op), ERR_MALFORMED);
    fixture_expect_data(fixture, "/f", "0123456789");
    assert_int_equal(stage_append(fixture, 1, 1, "y", 1), ERR_OK);
    assert_int_equal(commit(fixture, 1, 3, &op), ERR_OK);
    fixture_expect_data(fixture, "/f", "0123456789xyz");
}

static void a_refused_write_keeps_the_stage(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;

    assert_int_equal(stage_range(fixture, 1, 0, (uint64_t)2 * MIB, "x"), ERR_OK);
    op.if_version = true;
    op.version = 9;
    op.bytes_max = FILE_BYTES_LIMIT;
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_BAD_VERSION);
    op.if_version = false;
    op.bytes_max = (uint64_t)2 * MIB;
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_FILE_TOO_BIG);
    assert_int_equal(staged_rows(fixture), 3);
    op.bytes_max = FILE_BYTES_LIMIT;
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/f").data_bytes, 2 * MIB + 1);
    assert_int_equal(staged_rows(fixture), 0);
}

static void bad_parts_are_refused(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__StageOp op = WIRE__STAGE_OP__INIT;

    assert_int_equal(stage_append(fixture, 0, 0, "x", 1), ERR_INVALID);
    assert_int_equal(stage_append(fixture, 1, 0, "", 0), ERR_INVALID);
    assert_int_equal(stage_range(fixture, 1, 0, 5, ""), ERR_INVALID);
    assert_int_equal(stage_append(fixture, 1, STAGE_PARTS_MAX, "x", 1), ERR_LIMIT);
    assert_int_equal(stage_range(fixture, 1, 0, FILE_BYTES_LIMIT, "x"), ERR_FILE_TOO_BIG);
    assert_int_equal(stage_range(fixture, 1, 0, UINT64_MAX, "xx"), ERR_FILE_TOO_BIG);
    op.drop = true;
    op.append = wire_bytes("x", 1);
    assert_int_equal(fixture_stage(fixture, 1, 0, &op), ERR_MALFORMED);
    assert_int_equal(staged_rows(fixture), 0);
    assert_int_equal(stage_append(fixture, 1, STAGE_PARTS_MAX - 1, "x", 1), ERR_OK);
    assert_int_equal(stage_append(fixture, 1, STAGE_PARTS_MAX - 1, "x", 1), ERR_EXISTS);
    assert_int_equal(staged_rows(fixture), 3);
}

static void a_dropped_stage_leaves_nothing(void **state)
{
    struct tree_fixture *fixture = *state;

    assert_int_equal(drop(fixture, 1), ERR_OK);
    assert_int_equal(stage_append(fixture, 1, 0, "x", 1), ERR_OK);
    assert_int_equal(stage_append(fixture, 1, 1, "x", 1), ERR_OK);
    assert_int_equal(stage_append(fixture, 2, 5, "x", 1), ERR_OK);
    assert_int_equal(drop(fixture, 1), ERR_OK);
    assert_int_equal(staged_rows(fixture), 3);
    assert_int_equal(drop(fixture, 2), ERR_OK);
    assert_int_equal(staged_rows(fixture), 0);
}

static void stages_belong_to_their_session_and_end_with_it(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    uint64_t first = fixture->session;

    assert_int_equal(stage_append(fixture, 1, 0, "first", 5), ERR_OK);
    assert_int_equal(stage_append(fixture, 9, 3, "first", 5), ERR_OK);
    fixture_open(fixture, 2);
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_STAGE_LOST);
    assert_int_equal(stage_append(fixture, 1, 0, "second", 6), ERR_OK);
    assert_int_equal(fixture_close(fixture, first, 1), ERR_OK);
    assert_int_equal(staged_rows(fixture), 3);
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_OK);
    fixture_expect_data(fixture, "/f", "0123456789second");
}

static void a_session_may_stage_so_much_and_no_more(void **state)
{
    struct tree_fixture *fixture = *state;
    uint8_t *bytes = calloc(1, FILE_BYTES_MAX);
    const uint32_t fit = STAGED_BYTES_MAX / (FILE_BYTES_MAX + STAGE_PART_BYTES + 5);

    assert_non_null(bytes);
    for (uint32_t i = 0; i < fit; i++) {
        assert_int_equal(stage_append(fixture, 1 + i % 2, i, bytes, FILE_BYTES_MAX), ERR_OK);
    }
    assert_int_equal(stage_append(fixture, 3, 0, bytes, FILE_BYTES_MAX), ERR_LIMIT);
    assert_int_equal(stage_append(fixture, 3, 0, "x", 1), ERR_OK);
    assert_int_equal(drop(fixture, 1), ERR_OK);
    assert_int_equal(stage_append(fixture, 3, 1, bytes, FILE_BYTES_MAX), ERR_OK);
    free(bytes);
}

static void a_command_that_comes_again_stages_once(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;

    assert_int_equal(stage_append(fixture, 1, 0, "x", 1), ERR_OK);
    fixture->sequence--;
    assert_int_equal(stage_append(fixture, 1, 0, "x", 1), ERR_OK);
    assert_true(fixture->result.replayed);
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_OK);
    fixture->sequence--;
    assert_int_equal(commit(fixture, 1, 1, &op), ERR_OK);
    assert_true(fixture->result.replayed);
    fixture_expect_data(fixture, "/f", "0123456789x");
}

static void the_greatest_file_is_written_by_one_small_entry(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    uint8_t *bytes = malloc(FILE_BYTES_MAX);
    struct tree_address at = {.path = (const uint8_t *)"/f", .path_len = 2};
    struct tree_identity trusted = {.trusted = true};
    struct buffer found = {0};
    struct node_attr attr;

    assert_non_null(bytes);
    for (uint32_t i = 0; i < FILE_BYTES_LIMIT / FILE_BYTES_MAX; i++) {
        memset(bytes, (int)i + 1, FILE_BYTES_MAX);
        assert_int_equal(stage_append(fixture, 1, i, bytes, FILE_BYTES_MAX), ERR_OK);
    }
    op.truncate = true;
    op.bytes_max = FILE_BYTES_LIMIT;
    assert_int_equal(commit(fixture, 1, FILE_BYTES_LIMIT / FILE_BYTES_MAX, &op), ERR_OK);
    for (uint32_t i = 0; i < FILE_BYTES_LIMIT / FILE_BYTES_MAX; i++) {
        memset(bytes, (int)i + 1, FILE_BYTES_MAX);
        assert_int_equal(tree_read(fixture->tree, &at, &trusted, (uint64_t)i * FILE_BYTES_MAX,
                                   FILE_BYTES_MAX, &attr, &found),
                         ERR_OK);
        assert_int_equal(attr.data_bytes, FILE_BYTES_LIMIT);
        assert_int_equal(memcmp(found.data, bytes, FILE_BYTES_MAX), 0);
    }
    buffer_done(&found);
    free(bytes);
}

/* ---- a staged write is the same as one that is not ---- */

static void fill(uint8_t *bytes, size_t len, uint64_t *random)
{
    uint64_t value = fixture_random(random);

    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(value + i * 11);
    }
}

/* Puts some random parts into the stage and into a flat file of RANDOM_BYTES; *out_len is its length
 * without and `appended` what follows it. */
static void random_parts(struct tree_fixture *fixture, uint64_t *random, uint8_t *flat,
                         uint64_t *out_len, struct buffer *appended)
{
    uint8_t *scratch = malloc(3 * (size_t)300000);

    assert_non_null(scratch);
    for (uint32_t part = 0; part < RANDOM_PARTS; part++) {
        Wire__StageOp op = WIRE__STAGE_OP__INIT;
        Wire__Range ranges[2] = {WIRE__RANGE__INIT, WIRE__RANGE__INIT};
        Wire__Range *pointers[2] = {&ranges[0], &ranges[1]};
        for (size_t i = 0; i < 2; i++) {
            size_t len = (size_t)(fixture_random(random) % 300000);
            uint64_t offset = fixture_random(random) % (RANDOM_BYTES - 300000);
            uint8_t *bytes = scratch + i * 300000;
            fill(bytes, len, random);
            ranges[i].offset = offset;
            ranges[i].data = wire_bytes(bytes, len);
            memcpy(flat + offset, bytes, len);
            *out_len = len != 0 && offset + len > *out_len ? offset + len : *out_len;
        }
        op.ranges = pointers;
        op.n_ranges = 2;
        size_t append_len = (size_t)(1 + fixture_random(random) % 200000);
        fill(scratch + 600000, append_len, random);
        op.append = wire_bytes(scratch + 600000, append_len);
        assert_int_equal(buffer_append(appended, scratch + 600000, append_len), ERR_OK);
        assert_int_equal(fixture_stage(fixture, 1, part, &op), ERR_OK);
    }
    free(scratch);
}

static void random_run(uint64_t seed)
{
    struct tree_fixture *fixture = NULL;
    uint64_t random = seed * 0x9e3779b97f4a7c15ULL + 1;
    uint8_t *flat = calloc(1, RANDOM_BYTES);
    uint64_t len = 0;
    struct buffer appended = {0};
    struct buffer found = {0};
    struct tree_address at = {.path = (const uint8_t *)"/f", .path_len = 2};
    struct tree_identity trusted = {.trusted = true};
    struct node_attr attr;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;

    assert_int_equal(setup((void **)&fixture), 0);
    assert_non_null(flat);
    if (seed % 2 == 0) {
        op.truncate = true;
    } else {
        for (len = 0; len < 10; len++) {
            flat[len] = (uint8_t)('0' + len);
        }
    }
    random_parts(fixture, &random, flat, &len, &appended);
    op.bytes_max = FILE_BYTES_LIMIT;
    assert_int_equal(commit(fixture, 1, RANDOM_PARTS, &op), ERR_OK);
    assert_int_equal(tree_read(fixture->tree, &at, &trusted, 0, FILE_BYTES_LIMIT, &attr, &found),
                     ERR_OK);
    assert_int_equal(found.len, len + appended.len);
    assert_int_equal(memcmp(found.data, flat, (size_t)len), 0);
    assert_int_equal(memcmp(found.data + len, appended.data, appended.len), 0);
    fixture_recount(fixture);
    buffer_done(&found);
    buffer_done(&appended);
    free(flat);
    fixture_free(fixture);
}

static void random_parts_make_the_file_that_a_flat_model_has(void **state)
{
    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + RANDOM_RUNS; seed++) {
        print_message("# seed %" PRIu64 "\n", seed);
        random_run(seed);
    }
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        test(parts_come_between_the_truncate_and_the_ranges),
        test(a_stage_is_used_once),
        test(a_write_whose_parts_are_not_all_there_changes_nothing),
        test(a_refused_write_keeps_the_stage),
        test(bad_parts_are_refused),
        test(a_dropped_stage_leaves_nothing),
        test(stages_belong_to_their_session_and_end_with_it),
        test(a_session_may_stage_so_much_and_no_more),
        test(a_command_that_comes_again_stages_once),
        test(the_greatest_file_is_written_by_one_small_entry),
        cmocka_unit_test(random_parts_make_the_file_that_a_flat_model_has),
    };
    if (argc > 1 && parse_u64(argv[1], 1, UINT32_MAX, &first_seed) != ERR_OK) {
        (void)fprintf(stderr, "usage: %s [SEED]\n", argv[0]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
