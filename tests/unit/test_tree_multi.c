/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: several changes as one. The random run begins with the seed that is given as
 * an argument.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/parse.h"
#include "common/version.h"
#include "tests/lib/tree_fixture.h"

#define PARTS_MAX   8u
#define RANDOM_RUNS 4000u

static uint64_t first_seed = 1;

/* A multi that is being made. */
struct multi {
    size_t count;
    Wire__Part *pointers[PARTS_MAX];
    struct {
        Wire__Part part;
        Wire__Address at;
        Wire__Address to;
        Wire__CreateOp create;
        Wire__WriteOp write;
        Wire__SetattrOp setattr;
        Wire__RemoveOp remove;
        Wire__RenameOp rename;
        Wire__XattrOp xattr;
        Wire__CheckOp check;
    } parts[PARTS_MAX];
};

static int setup(void **state)
{
    assert_int_equal(fixture_setup(state), 0);
    struct tree_fixture *fixture = *state;
    assert_int_equal(fixture_raise(fixture, FEATURE_FILES), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/d", NODE_DIR, ""), ERR_OK);
    assert_int_equal(fixture_create(fixture, "/f", NODE_FILE, "old"), ERR_OK);
    return 0;
}

static Wire__Part *add(struct multi *multi, const char *path)
{
    assert_true(multi->count < PARTS_MAX);
    size_t i = multi->count++;
    multi->pointers[i] = &multi->parts[i].part;
    wire__part__init(&multi->parts[i].part);
    wire__address__init(&multi->parts[i].at);
    multi->parts[i].at.path = wire_bytes(path, strlen(path));
    return &multi->parts[i].part;
}

static Wire__CreateOp *add_create(struct multi *multi, const char *path, enum node_kind kind)
{
    Wire__Part *part = add(multi, path);
    Wire__CreateOp *op = &multi->parts[multi->count - 1].create;
    wire__create_op__init(op);
    op->at = &multi->parts[multi->count - 1].at;
    op->kind = (Wire__Kind)kind;
    op->mode = 0755;
    part->body_case = WIRE__PART__BODY_CREATE;
    part->create = op;
    return op;
}

static Wire__WriteOp *add_write(struct multi *multi, const char *path, const char *text)
{
    Wire__Part *part = add(multi, path);
    Wire__WriteOp *op = &multi->parts[multi->count - 1].write;
    wire__write_op__init(op);
    op->at = &multi->parts[multi->count - 1].at;
    op->truncate = true;
    op->append = wire_bytes(text, strlen(text));
    part->body_case = WIRE__PART__BODY_WRITE;
    part->write = op;
    return op;
}

static void add_remove(struct multi *multi, const char *path)
{
    Wire__Part *part = add(multi, path);
    Wire__RemoveOp *op = &multi->parts[multi->count - 1].remove;
    wire__remove_op__init(op);
    op->at = &multi->parts[multi->count - 1].at;
    part->body_case = WIRE__PART__BODY_REMOVE;
    part->remove = op;
}

static void add_rename(struct multi *multi, const char *from, const char *to, bool exchange)
{
    Wire__Part *part = add(multi, from);
    Wire__RenameOp *op = &multi->parts[multi->count - 1].rename;
    Wire__Address *address = &multi->parts[multi->count - 1].to;
    wire__address__init(address);
    address->path = wire_bytes(to, strlen(to));
    wire__rename_op__init(op);
    op->from = &multi->parts[multi->count - 1].at;
    op->to = address;
    op->exchange = exchange;
    part->body_case = WIRE__PART__BODY_RENAME;
    part->rename = op;
}

static void add_chmod(struct multi *multi, const char *path, uint32_t mode)
{
    Wire__Part *part = add(multi, path);
    Wire__SetattrOp *op = &multi->parts[multi->count - 1].setattr;
    wire__setattr_op__init(op);
    op->at = &multi->parts[multi->count - 1].at;
    op->set_mode = true;
    op->mode = mode;
    part->body_case = WIRE__PART__BODY_SETATTR;
    part->setattr = op;
}

static void add_xattr(struct multi *multi, const char *path, bool remove)
{
    Wire__Part *part = add(multi, path);
    Wire__XattrOp *op = &multi->parts[multi->count - 1].xattr;
    wire__xattr_op__init(op);
    op->at = &multi->parts[multi->count - 1].at;
    op->name = wire_bytes("user.a", 6);
    op->remove = remove;
    op->value = remove ? op->value : wire_bytes("v", 1);
    part->body_case = WIRE__PART__BODY_XATTR;
    part->xattr = op;
}

static void add_check(struct multi *multi, const char *path, bool if_version, uint32_t version)
{
    Wire__Part *part = add(multi, path);
    Wire__CheckOp *op = &multi->parts[multi->count - 1].check;
    wire__check_op__init(op);
    op->at = &multi->parts[multi->count - 1].at;
    op->if_version = if_version;
    op->version = version;
    part->body_case = WIRE__PART__BODY_CHECK;
    part->check = op;
}

static enum err apply_as(struct tree_fixture *fixture, struct multi *multi, uint64_t sequence)
{
    Wire__MultiOp body = WIRE__MULTI_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;

    body.parts = multi->pointers;
    body.n_parts = multi->count;
    op.body_case = WIRE__OP__BODY_MULTI;
    op.multi = &body;
    return sequence == 0 ? fixture_apply(fixture, &op) : fixture_apply_as(fixture, sequence, &op);
}

static enum err apply(struct tree_fixture *fixture, struct multi *multi)
{
    return apply_as(fixture, multi, 0);
}

static enum err err_of(const struct tree_fixture *fixture, size_t part)
{
    assert_true(part < fixture->result.part_count);
    return fixture->result.parts[part].err;
}

static void all_parts_are_one_change(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi multi = {0};
    uint64_t before = tree_applied_index(fixture->tree);

    add_create(&multi, "/d/n-", NODE_FILE)->sequential = true;
    add_write(&multi, "/f", "new");
    add_create(&multi, "/d/sub", NODE_DIR);
    add_create(&multi, "/d/sub/x", NODE_FILE);
    add_rename(&multi, "/d/sub/x", "/d/y", false);
    add_check(&multi, "/f", true, 1);
    add_remove(&multi, "/d/sub");
    assert_int_equal(apply(fixture, &multi), ERR_OK);
    fixture_expect_data(fixture, "/f", "new");
    assert_int_equal(fixture->result.zxid, before + 1);
    assert_int_equal(fixture->result.part_count, 7);
    assert_int_equal(fixture->result.change_count, 6);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(err_of(fixture, i), ERR_OK);
    }
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(fixture->result.changes[i].zxid, before + 1);
    }
    assert_memory_equal(fixture->result.parts[0].name.bytes, "n-0000000000", 12);
    /* Each sees those before it, and shows the node as it was then. */
    assert_int_equal(fixture->result.parts[1].attr.version, 1);
    assert_int_equal(fixture->result.parts[3].attr.ino, fixture_attr(fixture, "/d/y").ino);
    assert_int_equal(fixture_attr(fixture, "/d").children, 2);
}

static void one_part_that_fails_takes_all_back(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi multi = {0};
    uint64_t nodes = tree_node_count(fixture->tree);
    uint64_t bytes = tree_data_bytes(fixture->tree);
    struct node_attr before = fixture_attr(fixture, "/d");
    struct node_attr after;

    add_create(&multi, "/d/n-", NODE_FILE)->sequential = true;
    add_write(&multi, "/f", "longer than before");
    add_check(&multi, "/f", true, 0);
    add_remove(&multi, "/f");
    assert_int_equal(apply(fixture, &multi), ERR_BAD_VERSION);
    assert_int_equal(err_of(fixture, 0), ERR_ROLLED_BACK);
    assert_int_equal(err_of(fixture, 1), ERR_ROLLED_BACK);
    assert_int_equal(err_of(fixture, 2), ERR_BAD_VERSION);
    assert_int_equal(err_of(fixture, 3), ERR_NOT_TRIED);
    assert_int_equal(fixture->result.change_count, 0);
    fixture_expect_data(fixture, "/f", "old");
    after = fixture_attr(fixture, "/d");
    assert_memory_equal(&after, &before, sizeof(after));
    assert_int_equal(tree_node_count(fixture->tree), nodes);
    assert_int_equal(tree_data_bytes(fixture->tree), bytes);
    /* Not even a number of the sequence has been used. */
    struct multi again = {0};
    add_create(&again, "/d/n-", NODE_FILE)->sequential = true;
    assert_int_equal(apply(fixture, &again), ERR_OK);
    assert_memory_equal(fixture->result.parts[0].name.bytes, "n-0000000000", 12);
}

static void an_ephemeral_that_was_taken_back_is_not_remembered(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi multi = {0};

    add_create(&multi, "/e", NODE_FILE)->ephemeral = true;
    add_check(&multi, "/none", false, 0);
    assert_int_equal(apply(fixture, &multi), ERR_NO_NODE);
    assert_null(omap_get(fixture->rows, "E", 1));
    assert_int_equal(fixture_close(fixture, fixture->session, fixture->epoch), ERR_OK);
    assert_int_equal(fixture->result.change_count, 0);
}

static void the_answer_is_kept_whole(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi multi = {0};

    add_create(&multi, "/d/n-", NODE_FILE)->sequential = true;
    add_write(&multi, "/f", "new");
    add_remove(&multi, "/f");
    assert_int_equal(apply(fixture, &multi), ERR_OK);
    uint64_t sequence = fixture->sequence;
    uint64_t zxid = fixture->result.zxid;
    fixture_reopen(fixture);
    assert_int_equal(apply_as(fixture, &multi, sequence), ERR_OK);
    assert_true(fixture->result.replayed);
    assert_int_equal(fixture->result.zxid, zxid);
    assert_int_equal(fixture->result.part_count, 3);
    assert_int_equal(fixture->result.parts[0].name.len, 12);
    assert_memory_equal(fixture->result.parts[0].name.bytes, "n-0000000000", 12);
    assert_true(fixture->result.parts[0].has_attr);
    assert_false(fixture->result.parts[1].has_attr); /* It is gone. */
    assert_int_equal(fixture_attr(fixture, "/d").children, 1);
}

static void the_answer_of_one_that_failed_is_kept_too(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi multi = {0};

    add_write(&multi, "/f", "new");
    add_check(&multi, "/none", false, 0);
    assert_int_equal(apply(fixture, &multi), ERR_NO_NODE);
    assert_int_equal(apply_as(fixture, &multi, fixture->sequence), ERR_NO_NODE);
    assert_true(fixture->result.replayed);
    assert_int_equal(err_of(fixture, 0), ERR_ROLLED_BACK);
    assert_int_equal(err_of(fixture, 1), ERR_NO_NODE);
}

static enum err cancel(struct tree_fixture *fixture, uint64_t sequence)
{
    Wire__CancelOp body = WIRE__CANCEL_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;

    body.sequence = sequence;
    op.body_case = WIRE__OP__BODY_CANCEL;
    op.cancel = &body;
    return fixture_apply(fixture, &op);
}

static void a_cancel_takes_back_one_create_and_nothing_else(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi one = {0};
    struct multi two = {0};
    struct node_attr attr;

    add_create(&one, "/d/x", NODE_FILE);
    assert_int_equal(apply(fixture, &one), ERR_OK);
    assert_int_equal(cancel(fixture, fixture->sequence), ERR_CANCELED);
    assert_int_equal(fixture_lookup(fixture, "/d/x", &attr), ERR_NO_NODE);
    add_create(&two, "/d/x", NODE_FILE);
    add_write(&two, "/d/x", "text");
    assert_int_equal(apply(fixture, &two), ERR_OK);
    assert_int_equal(cancel(fixture, fixture->sequence), ERR_OK);
    assert_int_equal(fixture->result.part_count, 2);
    fixture_expect_data(fixture, "/d/x", "text");
}

static void what_is_no_multi_is_malformed(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi none = {0};
    struct multi staged = {0};
    struct multi longer = {0};
    struct multi empty = {0};
    Wire__WriteOp *op = add_write(&staged, "/f", "new");

    assert_int_equal(apply(fixture, &none), ERR_MALFORMED);
    op->stage = 1;
    op->stage_parts = 1;
    assert_int_equal(apply(fixture, &staged), ERR_MALFORMED);
    add_write(&longer, "/f", "new")->bytes_max = FILE_BYTES_LIMIT;
    assert_int_equal(apply(fixture, &longer), ERR_MALFORMED);
    (void)add(&empty, "/f");
    assert_int_equal(apply(fixture, &empty), ERR_MALFORMED);
}

static void old_replicas_do_not_know_it(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi multi = {0};

    add_check(&multi, "/", false, 0);
    assert_int_equal(apply(fixture, &multi), ERR_MALFORMED);
}

static void everybody_may_do_only_what_he_may(void **state)
{
    struct tree_fixture *fixture = *state;
    struct multi multi = {0};

    fixture_become(fixture, 1000, 1000);
    add_check(&multi, "/d", false, 0);
    add_create(&multi, "/d/x", NODE_FILE);
    assert_int_equal(apply(fixture, &multi), ERR_ACCESS);
    fixture_become_trusted(fixture);
}

/* ---- random ---- */

static const char *random_path(uint64_t *random)
{
    static const char *const paths[] = {"/f", "/d", "/d/a", "/d/b", "/d/a/c", "/g", "/none/x"};

    return paths[fixture_random(random) % (sizeof(paths) / sizeof(paths[0]))];
}

static const char *random_text(uint64_t *random)
{
    static char large[3 * DATA_INLINE_BYTES_MAX + 1];
    static const char *const texts[] = {"", "a", "some text", large};

    memset(large, 'x', sizeof(large) - 1);
    return texts[fixture_random(random) % (sizeof(texts) / sizeof(texts[0]))];
}

static void add_random(struct multi *multi, uint64_t *random)
{
    const char *path = random_path(random);

    switch (fixture_random(random) % 8) {
    case 0:
        add_create(multi, path, fixture_random(random) % 2 == 0 ? NODE_FILE : NODE_DIR);
        break;
    case 1:
        add_create(multi, path, NODE_PLAIN)->ephemeral = fixture_random(random) % 2 == 0;
        break;
    case 2:
        add_write(multi, path, random_text(random));
        break;
    case 3:
        add_remove(multi, path);
        break;
    case 4:
        add_rename(multi, path, random_path(random), fixture_random(random) % 2 == 0);
        break;
    case 5:
        add_chmod(multi, path, (uint32_t)(fixture_random(random) % 01000));
        break;
    case 6:
        add_xattr(multi, path, fixture_random(random) % 2 == 0);
        break;
    default:
        add_check(multi, path, false, 0);
        break;
    }
}

/* All rows but those of the state and of kept answers, as one run of bytes. */
static void gather_rows(const struct tree_fixture *fixture, struct buffer *out)
{
    const struct omap_entry *row = omap_seek(fixture->rows, NULL, 0);

    buffer_clear(out);
    for (; row != NULL; row = omap_next(fixture->rows, row)) {
        if (row->key[0] != 'M' && row->key[0] != 'W') {
            assert_int_equal(buffer_append(out, row->key, row->key_len), ERR_OK);
            assert_int_equal(buffer_append(out, row->value, row->value_len), ERR_OK);
        }
    }
}

/* The parts as commands of their own, which must do what they did as a multi. */
static void apply_apart(struct tree_fixture *fixture, const struct multi *multi)
{
    for (size_t i = 0; i < multi->count; i++) {
        struct multi one = {.count = 1};
        one.pointers[0] = multi->pointers[i];
        assert_int_equal(apply(fixture, &one), ERR_OK);
    }
}

static void expect_alike(struct tree_fixture *a, struct tree_fixture *b)
{
    static const char *const paths[] = {"/", "/f", "/d", "/d/a", "/d/b", "/d/a/c", "/g"};

    assert_int_equal(tree_node_count(a->tree), tree_node_count(b->tree));
    assert_int_equal(tree_data_bytes(a->tree), tree_data_bytes(b->tree));
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct node_attr of_a;
        struct node_attr of_b;
        enum err err = fixture_lookup(a, paths[i], &of_a);
        assert_int_equal(fixture_lookup(b, paths[i], &of_b), err);
        if (err == ERR_OK) {
            assert_int_equal(of_a.ino, of_b.ino);
            assert_int_equal(of_a.kind, of_b.kind);
            assert_int_equal(of_a.mode, of_b.mode);
            assert_int_equal(of_a.data_bytes, of_b.data_bytes);
            assert_int_equal(of_a.version, of_b.version);
            assert_int_equal(of_a.children, of_b.children);
            assert_int_equal(of_a.has_xattrs, of_b.has_xattrs);
        }
    }
}

static void random_multis_do_all_or_nothing(void **state)
{
    struct tree_fixture *fixture = *state;
    void *other = NULL;
    struct buffer before = {0};
    struct buffer after = {0};
    uint64_t random = first_seed * 2654435761u + 1;
    unsigned done = 0;

    assert_int_equal(setup(&other), 0);
    for (unsigned i = 0; i < RANDOM_RUNS; i++) {
        struct multi multi = {0};
        uint64_t count = 1 + fixture_random(&random) % 4;
        while (multi.count < count) {
            add_random(&multi, &random);
        }
        gather_rows(fixture, &before);
        if (apply(fixture, &multi) == ERR_OK) {
            done++;
            apply_apart(other, &multi);
        } else {
            gather_rows(fixture, &after);
            assert_int_equal(after.len, before.len);
            assert_memory_equal(after.data, before.data, before.len);
        }
        if (i % 50 == 0) {
            fixture_recount(fixture);
            expect_alike(fixture, other);
        }
    }
    assert_true(done > RANDOM_RUNS / 20 && done < RANDOM_RUNS);
    expect_alike(fixture, other);
    assert_int_equal(fixture_teardown(&other), 0);
    buffer_done(&before);
    buffer_done(&after);
}

int main(int argc, char **argv)
{
#define test_of(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        test_of(all_parts_are_one_change),
        test_of(one_part_that_fails_takes_all_back),
        test_of(an_ephemeral_that_was_taken_back_is_not_remembered),
        test_of(the_answer_is_kept_whole),
        test_of(the_answer_of_one_that_failed_is_kept_too),
        test_of(a_cancel_takes_back_one_create_and_nothing_else),
        test_of(what_is_no_multi_is_malformed),
        cmocka_unit_test_setup_teardown(old_replicas_do_not_know_it, fixture_setup,
                                        fixture_teardown),
        test_of(everybody_may_do_only_what_he_may),
        test_of(random_multis_do_all_or_nothing),
    };

    if (argc > 1 && parse_u64(argv[1], 1, UINT64_MAX, &first_seed) != ERR_OK) {
        (void)fprintf(stderr, "usage: %s [SEED]\n", argv[0]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
