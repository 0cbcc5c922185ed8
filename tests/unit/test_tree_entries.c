/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: entries of any kind and any bytes, the digest, what is kept beside the nodes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/lib/tree_fixture.h"

#define MUTATIONS 20000u

/* A command of each kind, packed, that would be applied to an empty tree with one session. */
static size_t make_seeds(struct tree_fixture *fixture, struct buffer *seeds, size_t max)
{
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    Wire__SetattrOp set = WIRE__SETATTR_OP__INIT;
    size_t count = 0;

#define SEED(apply)                                                                               \
    do {                                                                                          \
        assert_true(count < max);                                                                 \
        assert_int_equal(apply, ERR_OK);                                                          \
        assert_int_equal(buffer_append(&seeds[count], fixture->packed.data, fixture->packed.len), \
                         ERR_OK);                                                                 \
        count++;                                                                                  \
    } while (0)
    create.kind = WIRE__KIND__KIND_PLAIN;
    create.ephemeral = true;
    create.sequential = true;
    set.set_mode = true;
    set.mode = 0600;
    set.set_mtime = true;
    set.mtime_ns = 77;
    SEED(fixture_create(fixture, "/a", NODE_DIR, "data"));
    SEED(fixture_create_with(fixture, "/a/s", &create));
    SEED(fixture_create(fixture, "/f", NODE_FILE, NULL));
    SEED(fixture_write(fixture, "/f", "text"));
    SEED(fixture_setattr(fixture, "/f", &set));
    SEED(fixture_rename(fixture, "/f", "/a/f", FIXTURE_RENAME));
    SEED(fixture_remove(fixture, "/a/f", WIRE__REMOVE_WHAT__REMOVE_ANY));
    SEED(fixture_attach(fixture, fixture->session, 1, 5));
    SEED(fixture_close(fixture, fixture->session, 2));
#undef SEED
    return count;
}

/* Some bytes changed, cut off or doubled. */
static void mutate(uint64_t *random, const struct buffer *seed, struct buffer *out)
{
    size_t len = seed->len;

    buffer_clear(out);
    assert_int_equal(buffer_append(out, seed->data, seed->len), ERR_OK);
    for (uint64_t i = 0; i < 1 + fixture_random(random) % 3; i++) {
        out->data[fixture_random(random) % len] = (uint8_t)fixture_random(random);
    }
    if (fixture_random(random) % 4 == 0) {
        out->len = fixture_random(random) % len;
    }
    if (fixture_random(random) % 8 == 0) {
        assert_int_equal(buffer_append(out, seed->data, seed->len), ERR_OK);
    }
}

static void any_bytes_are_a_result_and_the_same_on_every_replica(void **state)
{
    struct tree_fixture *first = *state;
    struct tree_fixture *second = fixture_new();
    struct buffer seeds[16] = {{0}};
    struct buffer bytes = {0};
    uint64_t random = 42;
    size_t malformed = 0;
    size_t count = make_seeds(first, seeds, 16);

    fixture_free(first);
    first = fixture_new();
    *state = first;
    fixture_open(first, 1);
    fixture_open(second, 1);
    for (unsigned i = 0; i < MUTATIONS; i++) {
        mutate(&random, &seeds[fixture_random(&random) % count], &bytes);
        enum err err = fixture_apply_bytes(first, bytes.data, bytes.len);
        assert_int_equal(fixture_apply_bytes(second, bytes.data, bytes.len), err);
        assert_true(tree_digest(first->tree) == tree_digest(second->tree));
        malformed += err == ERR_MALFORMED;
        if (i % 500 == 0) {
            fixture_reopen(second);
            fixture_recount(second);
        }
    }
    /* Else the mutations were too wild, or too tame, to show anything. */
    assert_true(malformed > MUTATIONS / 10 && malformed < MUTATIONS * 9 / 10);
    for (size_t i = 0; i < count; i++) {
        buffer_done(&seeds[i]);
    }
    buffer_done(&bytes);
    fixture_free(second);
}

static void malformed_entry_only_moves_the_applied_index(void **state)
{
    struct tree_fixture *fixture = *state;
    size_t rows = omap_count(fixture->rows);
    uint64_t index = tree_applied_index(fixture->tree);
    uint8_t *bytes = calloc(1, COMMAND_BYTES_MAX + 1);

    assert_non_null(bytes);
    assert_int_equal(fixture_apply_bytes(fixture, NULL, 0), ERR_MALFORMED);
    assert_int_equal(fixture_apply_bytes(fixture, (const uint8_t *)"\xff", 1), ERR_MALFORMED);
    assert_int_equal(fixture_apply_bytes(fixture, bytes, COMMAND_BYTES_MAX + 1), ERR_MALFORMED);
    assert_int_equal(tree_applied_index(fixture->tree), index + 3);
    assert_int_equal(omap_count(fixture->rows), rows);
    free(bytes);
}

static void unknown_field_in_an_entry_is_malformed(void **state)
{
    struct tree_fixture *fixture = *state;
    const uint8_t unknown[] = {0xe0, 0x76, 0x01};

    assert_int_equal(fixture_create(fixture, "/a", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(buffer_append(&fixture->packed, unknown, sizeof(unknown)), ERR_OK);
    assert_int_equal(fixture_apply_bytes(fixture, fixture->packed.data, fixture->packed.len),
                     ERR_MALFORMED);
}

static void values_out_of_bounds_are_malformed(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    Wire__SetattrOp set = WIRE__SETATTR_OP__INIT;
    uint32_t groups[GROUPS_MAX + 1] = {0};
    uint8_t holder[HOLDER_BYTES_MAX + 1] = {0};

    create.mode = 0644;
    assert_int_equal(fixture_create_with(fixture, "/a", &create), ERR_MALFORMED); /* no kind */
    create.kind = WIRE__KIND__KIND_FILE;
    create.mode = 010000;
    assert_int_equal(fixture_create_with(fixture, "/a", &create), ERR_MALFORMED);
    create.mode = 0644;
    create.holder = wire_bytes(holder, sizeof(holder));
    assert_int_equal(fixture_create_with(fixture, "/a", &create), ERR_MALFORMED);
    create.holder = wire_bytes(holder, sizeof(holder) - 1);
    assert_int_equal(fixture_create_with(fixture, NULL, &create), ERR_MALFORMED); /* no address */
    set.set_mode = true;
    set.mode = 010000;
    assert_int_equal(fixture_setattr(fixture, "/", &set), ERR_MALFORMED);
    fixture->identity.groups = groups;
    fixture->identity.n_groups = GROUPS_MAX + 1;
    assert_int_equal(fixture_create_with(fixture, "/a", &create), ERR_MALFORMED);
    fixture->identity.n_groups = GROUPS_MAX;
    assert_int_equal(fixture_create_with(fixture, "/a", &create), ERR_OK);
}

static void command_without_identity_is_nobodys(void **state)
{
    struct tree_fixture *fixture = *state;
    Wire__Command command = WIRE__COMMAND__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    at.path = wire_bytes("/a", 2);
    create.at = &at;
    create.kind = WIRE__KIND__KIND_FILE;
    op.body_case = WIRE__OP__BODY_CREATE;
    op.create = &create;
    command.session = fixture->session;
    command.epoch = fixture->epoch;
    command.sequence = 1;
    command.op = &op;
    assert_int_equal(fixture_apply_command(fixture, &command), ERR_MALFORMED);
}

static void entry_without_a_command_moves_index_term_and_time(void **state)
{
    struct tree_fixture *fixture = *state;
    struct tree_result result;
    uint64_t digest = tree_digest(fixture->tree);
    struct tree_entry entry = {
        .index = tree_applied_index(fixture->tree) + 1, .term = 9, .time_ns = 123456};

    tree_apply(fixture->tree, &entry, &result);
    assert_int_equal(result.err, ERR_OK);
    assert_int_equal(result.change_count, 0);
    fixture_reopen(fixture);
    assert_int_equal(tree_applied_index(fixture->tree), entry.index);
    assert_int_equal(tree_applied_term(fixture->tree), 9);
    assert_int_equal(tree_applied_time_ns(fixture->tree), 123456);
    assert_true(tree_digest(fixture->tree) != digest);
}

static void time_never_goes_back(void **state)
{
    struct tree_fixture *fixture = *state;

    fixture->now_ns = 5000;
    assert_int_equal(fixture_create(fixture, "/a", NODE_DIR, NULL), ERR_OK);
    fixture->now_ns = 10;
    assert_int_equal(fixture_create(fixture, "/b", NODE_DIR, NULL), ERR_OK);
    assert_int_equal(fixture_attr(fixture, "/b").birth_ns, 5000);
}

static void digest_tells_different_histories_apart(void **state)
{
    struct tree_fixture *first = *state;
    struct tree_fixture *second = fixture_new();

    fixture_open(second, 1);
    assert_true(tree_digest(first->tree) == tree_digest(second->tree));
    assert_int_equal(fixture_create(first, "/a", NODE_FILE, "x"), ERR_OK);
    assert_int_equal(fixture_create(second, "/a", NODE_FILE, "y"), ERR_OK);
    assert_true(tree_digest(first->tree) != tree_digest(second->tree));
    /* Once different, always different. */
    assert_int_equal(fixture_write(first, "/a", "same"), ERR_OK);
    assert_int_equal(fixture_write(second, "/a", "same"), ERR_OK);
    assert_true(tree_digest(first->tree) != tree_digest(second->tree));
    fixture_free(second);
}

static void members_are_kept_beside_the_tree(void **state)
{
    struct tree_fixture *fixture = *state;
    struct buffer members = {0};
    uint64_t index = 0;

    assert_false(tree_members_get(fixture->tree, &index, &members));
    tree_members_set(fixture->tree, 7, (const uint8_t *)"old members", 11);
    tree_members_set(fixture->tree, 8, (const uint8_t *)"members", 7);
    fixture_reopen(fixture);
    assert_true(tree_members_get(fixture->tree, &index, &members));
    assert_int_equal(index, 8);
    assert_int_equal(members.len, 7);
    assert_memory_equal(members.data, "members", 7);
    buffer_done(&members);
}

#define test_of(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(any_bytes_are_a_result_and_the_same_on_every_replica),
        test_of(malformed_entry_only_moves_the_applied_index),
        test_of(unknown_field_in_an_entry_is_malformed),
        test_of(values_out_of_bounds_are_malformed),
        test_of(command_without_identity_is_nobodys),
        test_of(entry_without_a_command_moves_index_term_and_time),
        test_of(time_never_goes_back),
        test_of(digest_tells_different_histories_apart),
        test_of(members_are_kept_beside_the_tree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
