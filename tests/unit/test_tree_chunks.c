/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: data of several chunks, against a flat model. The random runs begin with
 * the seed that is given as an argument.
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

#define MODEL_BYTES (10u * MIB) /* more than one window of a patch */
#define RANDOM_RUNS 3u
#define RANDOM_OPS  60u
#define RANGES      6u

static uint64_t first_seed = 1;

/* The file as one run of bytes; `len` is its length and all behind it is zero. */
struct model {
    uint8_t *bytes;
    uint64_t len;
};

static int setup(void **state)
{
    assert_int_equal(fixture_setup(state), 0);
    struct tree_fixture *fixture = *state;
    assert_int_equal(fixture_raise(fixture, FEATURE_FILES), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, ""), ERR_OK);
    return 0;
}

static enum err apply(struct tree_fixture *fixture, Wire__WriteOp *op)
{
    op->bytes_max = FILE_BYTES_LIMIT;
    return fixture_write_with(fixture, "/f", op);
}

static void truncate_to(struct tree_fixture *fixture, uint64_t bytes)
{
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;

    op.truncate = true;
    op.truncate_bytes = bytes;
    assert_int_equal(apply(fixture, &op), ERR_OK);
}

static void write_at(struct tree_fixture *fixture, uint64_t offset, const void *data, size_t len)
{
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};

    range.offset = offset;
    range.data = wire_bytes(data, len);
    op.ranges = ranges;
    op.n_ranges = 1;
    assert_int_equal(apply(fixture, &op), ERR_OK);
}

static void expect_at(struct tree_fixture *fixture, uint64_t offset, const void *data, size_t len)
{
    struct tree_address at = {.path = (const uint8_t *)"/f", .path_len = 2};
    struct tree_identity trusted = {.trusted = true};
    struct buffer found = {0};
    struct node_attr attr;

    assert_int_equal(tree_read(fixture->tree, &at, &trusted, offset, len, &attr, &found), ERR_OK);
    assert_int_equal(found.len, len);
    assert_int_equal(memcmp(found.data, data, len), 0);
    buffer_done(&found);
}

static size_t chunk_rows(struct tree_fixture *fixture)
{
    const struct omap_entry *entry = omap_seek(fixture->rows, "D", 1);
    size_t count = 0;

    for (; entry != NULL && entry->key[0] == 'D'; entry = omap_next(fixture->rows, entry)) {
        count++;
    }
    return count;
}

static void a_part_is_read_across_chunks(void **state)
{
    struct tree_fixture *fixture = *state;

    write_at(fixture, DATA_CHUNK_BYTES - 3, "abcdef", 6);
    expect_at(fixture, DATA_CHUNK_BYTES - 4, "\0abcdef", 7);
    assert_int_equal(fixture_attr(fixture, "/f").data_bytes, DATA_CHUNK_BYTES + 3);
    assert_int_equal(tree_data_bytes(fixture->tree), DATA_CHUNK_BYTES + 3);
    assert_int_equal(chunk_rows(fixture), 2);
}

static void data_of_the_greatest_length_is_held_and_read(void **state)
{
    struct tree_fixture *fixture = *state;

    truncate_to(fixture, FILE_BYTES_LIMIT);
    assert_int_equal(chunk_rows(fixture), 1); /* zeros take no further ones */
    write_at(fixture, FILE_BYTES_LIMIT - 3, "end", 3);
    expect_at(fixture, FILE_BYTES_LIMIT - 4, "\0end", 4);
    assert_int_equal(chunk_rows(fixture), 2);
    assert_int_equal(fixture_remove(fixture, "/f", WIRE__REMOVE_WHAT__REMOVE_ANY), ERR_OK);
    assert_int_equal(chunk_rows(fixture), 0);
    assert_int_equal(tree_data_bytes(fixture->tree), 0);
    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, ""), ERR_OK);
}

static void what_was_cut_off_does_not_come_back(void **state)
{
    struct tree_fixture *fixture = *state;
    const uint64_t at = 2 * (uint64_t)DATA_CHUNK_BYTES + 10;

    write_at(fixture, at, "0123456789", 10);
    write_at(fixture, 5, "first", 5);
    truncate_to(fixture, at + 4);
    truncate_to(fixture, 3 * (uint64_t)DATA_CHUNK_BYTES);
    expect_at(fixture, at, "0123\0\0\0\0\0\0", 10);
    truncate_to(fixture, DATA_CHUNK_BYTES + 1);
    truncate_to(fixture, 3 * (uint64_t)DATA_CHUNK_BYTES);
    expect_at(fixture, at, "\0\0\0\0\0\0\0\0\0\0", 10);
    truncate_to(fixture, 7);
    truncate_to(fixture, 3 * (uint64_t)DATA_CHUNK_BYTES);
    expect_at(fixture, 5, "fi\0\0\0", 5);
}

/* Nobody has asked for a longer one when the field is not there. */
static void a_patch_may_not_pass_what_its_replica_allows(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    uint64_t rows = omap_count(fixture->rows);

    op.truncate = true;
    op.truncate_bytes = (uint64_t)FILE_BYTES_MAX + 1;
    assert_int_equal(fixture_write_with(fixture, "/f", &op), ERR_FILE_TOO_BIG);
    op.bytes_max = 3 * (uint64_t)FILE_BYTES_MAX;
    op.truncate_bytes = op.bytes_max + 1;
    assert_int_equal(fixture_write_with(fixture, "/f", &op), ERR_FILE_TOO_BIG);
    op.truncate_bytes = (uint64_t)FILE_BYTES_LIMIT + 1;
    assert_int_equal(apply(fixture, &op), ERR_FILE_TOO_BIG);
    op.bytes_max = (uint64_t)FILE_BYTES_LIMIT + 1;
    assert_int_equal(fixture_write_with(fixture, "/f", &op), ERR_MALFORMED);
    assert_int_equal(chunk_rows(fixture), 0);
    assert_true(omap_count(fixture->rows) <= rows + 3); /* kept answers */
}

static void longer_data_may_be_changed_where_less_is_allowed(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};

    truncate_to(fixture, 3 * (uint64_t)MIB);
    range.offset = 3 * (uint64_t)MIB - 1;
    range.data = wire_bytes("z", 1);
    op.ranges = ranges;
    op.n_ranges = 1;
    assert_int_equal(fixture_write_with(fixture, "/f", &op), ERR_OK);
    expect_at(fixture, range.offset, "z", 1);
    range.offset++;
    assert_int_equal(fixture_write_with(fixture, "/f", &op), ERR_FILE_TOO_BIG);
}

/* ---- against a flat model ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Often near the end of a chunk, or of the file. */
static uint64_t random_offset(const struct model *model, uint64_t *random)
{
    uint64_t choice = fixture_random(random) % 4;
    uint64_t offset = fixture_random(random) % MODEL_BYTES;

    if (choice == 0) {
        offset = offset / DATA_CHUNK_BYTES * DATA_CHUNK_BYTES;
        offset -= least(offset, fixture_random(random) % 3);
    } else if (choice == 1) {
        offset = model->len - least(model->len, fixture_random(random) % 2000);
    } else if (choice == 2) {
        offset = fixture_random(random) % 3000;
    }
    return least(offset, MODEL_BYTES);
}

static void model_truncate(struct model *model, uint64_t len)
{
    if (len < model->len) {
        memset(model->bytes + len, 0, model->len - len);
    }
    model->len = len;
}

static void model_write(struct model *model, uint64_t offset, const uint8_t *data, size_t len)
{
    if (len != 0 && data != NULL) {
        memcpy(model->bytes + offset, data, len);
        model->len = offset + len > model->len ? offset + len : model->len;
    }
}

static void fill(uint8_t *bytes, size_t len, uint64_t *random)
{
    uint64_t value = fixture_random(random);

    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(value + i * 7);
    }
}

/* One patch, to the tree and to the model. */
static void random_patch(struct tree_fixture *fixture, struct tree_fixture *other,
                         struct model *model, uint8_t *scratch, uint64_t *random)
{
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    Wire__Range ranges[RANGES];
    Wire__Range *pointers[RANGES];
    size_t room = FILE_BYTES_MAX;

    if (fixture_random(random) % 3 == 0) {
        op.truncate = true;
        op.truncate_bytes = random_offset(model, random);
        model_truncate(model, op.truncate_bytes);
    }
    op.n_ranges = fixture_random(random) % (RANGES + 1);
    op.ranges = pointers;
    for (size_t i = 0; i < op.n_ranges; i++) {
        uint64_t offset = random_offset(model, random);
        size_t most = fixture_random(random) % 4 == 0 ? room : least(room, 5000);
        size_t len = (size_t)least(fixture_random(random) % (most + 1), MODEL_BYTES - offset);
        fill(scratch, len, random);
        wire__range__init(&ranges[i]);
        ranges[i].offset = offset;
        ranges[i].data = wire_bytes(scratch, len);
        pointers[i] = &ranges[i];
        model_write(model, offset, scratch, len);
        scratch += len;
        room -= len;
    }
    size_t append_len =
        (size_t)least(least(fixture_random(random) % 3000, room), MODEL_BYTES - model->len);
    fill(scratch, append_len, random);
    op.append = wire_bytes(scratch, append_len);
    model_write(model, model->len, scratch, append_len);
    assert_int_equal(apply(fixture, &op), ERR_OK);
    assert_int_equal(apply(other, &op), ERR_OK);
    assert_true(tree_digest(fixture->tree) == tree_digest(other->tree));
    assert_int_equal(fixture->result.attr.data_bytes, model->len);
}

static void check_model(struct tree_fixture *fixture, const struct model *model, uint64_t *random)
{
    uint64_t from = fixture_random(random) % (model->len + 1);
    uint64_t len = fixture_random(random) % (model->len - from + 1);

    if (len != 0) {
        expect_at(fixture, from, model->bytes + from, (size_t)len);
    }
}

static void random_run(uint64_t seed)
{
    struct tree_fixture *fixture = NULL;
    struct tree_fixture *other = NULL;
    struct model model = {.bytes = calloc(1, MODEL_BYTES)};
    uint8_t *scratch = malloc(FILE_BYTES_MAX);
    uint64_t random = seed * 0x9e3779b97f4a7c15ULL + 1;

    assert_int_equal(setup((void **)&fixture), 0);
    assert_int_equal(setup((void **)&other), 0);
    assert_true(model.bytes != NULL && scratch != NULL);
    for (unsigned i = 0; i < RANDOM_OPS; i++) {
        random_patch(fixture, other, &model, scratch, &random);
        check_model(fixture, &model, &random);
        if (i % 10 == 0) {
            fixture_reopen(other);
        }
    }
    if (model.len != 0) {
        expect_at(fixture, 0, model.bytes, model.len);
    }
    fixture_recount(fixture);
    free(scratch);
    free(model.bytes);
    fixture_free(other);
    fixture_free(fixture);
}

static void random_patches_are_as_in_a_flat_file_and_on_two_replicas_the_same(void **state)
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
        test(a_part_is_read_across_chunks),
        test(data_of_the_greatest_length_is_held_and_read),
        test(what_was_cut_off_does_not_come_back),
        test(a_patch_may_not_pass_what_its_replica_allows),
        test(longer_data_may_be_changed_where_less_is_allowed),
        cmocka_unit_test(random_patches_are_as_in_a_flat_file_and_on_two_replicas_the_same),
    };
    if (argc > 1 && parse_u64(argv[1], 1, UINT32_MAX, &first_seed) != ERR_OK) {
        (void)fprintf(stderr, "usage: %s [SEED]\n", argv[0]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
