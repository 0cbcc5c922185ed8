/* SPDX-License-Identifier: Apache-2.0
 *
 * Random operations on the tree and on a naive model of it: an array of nodes that is searched from
 * end to end. Both must answer the same and look the same; the same entries applied to a second
 * tree, which is closed and opened on the way, must give the same digests and rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/lib/tree_fixture.h"

#define SEEDS        12u
#define STEPS        600u
#define NODES_MAX    1024u
#define DEPTH_MAX    4u
#define PATH_TEXT    (2u * DEPTH_MAX + 1u)
#define NONE         SIZE_MAX
#define MODEL_BYTES  3000u
#define COMPARE_EACH 50u

struct model_node {
    bool live;
    size_t parent;
    char name;
    enum node_kind kind;
    uint64_t ino;
    uint8_t *data;
    size_t data_len;
    uint32_t version;
    uint64_t creates;
};

struct model {
    struct model_node nodes[NODES_MAX];
    size_t count; /* ever made; the root is 0 */
};

/* One run: the tree, the model, and what was applied. */
struct run {
    uint64_t random;
    struct tree_fixture *fixture;
    struct model model;
    struct buffer entries; /* be32 length, bytes; one after the other */
    struct buffer digests; /* be64 after each entry */
};

/* ---- the model ---- */

static size_t model_children(const struct model *model, size_t parent, bool dirs_only)
{
    size_t count = 0;

    for (size_t i = 1; i < model->count; i++) {
        const struct model_node *node = &model->nodes[i];
        if (node->live && node->parent == parent && (!dirs_only || node->kind == NODE_DIR)) {
            count++;
        }
    }
    return count;
}

static size_t model_child(const struct model *model, size_t parent, char name)
{
    for (size_t i = 1; i < model->count; i++) {
        const struct model_node *node = &model->nodes[i];
        if (node->live && node->parent == parent && node->name == name) {
            return i;
        }
    }
    return NONE;
}

static bool holds_children(const struct model_node *node)
{
    return node->kind == NODE_DIR || node->kind == NODE_PLAIN;
}

static bool shows_as_dir(const struct model *model, size_t at)
{
    const struct model_node *node = &model->nodes[at];

    return node->kind == NODE_DIR ||
           (node->kind == NODE_PLAIN &&
            (node->data_len == 0 || model_children(model, at, false) != 0));
}

/* "/a/b": *out_parent the directory of the last name, *out_node NONE if that is missing. */
static enum err model_find(const struct model *model, const char *path, size_t *out_parent,
                           size_t *out_node)
{
    size_t at = 0;

    for (size_t i = 1; path[i - 1] != '\0'; i += 2) {
        if (at == NONE) {
            return ERR_NO_NODE;
        }
        if (!holds_children(&model->nodes[at])) {
            return ERR_NOT_DIR;
        }
        *out_parent = at;
        at = model_child(model, at, path[i]);
    }
    *out_node = at;
    return ERR_OK;
}

static enum err model_find_node(const struct model *model, const char *path, size_t *out_parent,
                                size_t *out_node)
{
    enum err err = model_find(model, path, out_parent, out_node);

    return err == ERR_OK && *out_node == NONE ? ERR_NO_NODE : err;
}

static char last_name(const char *path)
{
    return path[strlen(path) - 1];
}

static void model_set_data(struct model_node *node, const uint8_t *data, size_t len)
{
    free(node->data);
    node->data = malloc(len + 1);
    assert_non_null(node->data);
    memcpy(node->data, data, len);
    node->data_len = len;
}

static enum err model_create(struct model *model, const char *path, enum node_kind kind,
                             const uint8_t *data, size_t len)
{
    size_t parent = NONE;
    size_t node = NONE;
    enum err err = ERR_OK;

    if (kind == NODE_SYMLINK && len == 0) {
        return ERR_INVALID;
    }
    err = model_find(model, path, &parent, &node);
    if (err != ERR_OK) {
        return err;
    }
    if (node != NONE) {
        return ERR_EXISTS;
    }
    assert_true(model->count < NODES_MAX);
    model->nodes[model->count] =
        (struct model_node){.live = true, .parent = parent, .name = last_name(path), .kind = kind};
    model_set_data(&model->nodes[model->count], data, len);
    model->nodes[parent].creates++;
    model->count++;
    return ERR_OK;
}

static void model_drop(struct model *model, size_t at)
{
    model->nodes[at].live = false;
    free(model->nodes[at].data);
    model->nodes[at].data = NULL;
}

static enum err model_remove(struct model *model, const char *path, Wire__RemoveWhat what)
{
    size_t parent = NONE;
    size_t node = NONE;
    enum err err = model_find_node(model, path, &parent, &node);

    if (err != ERR_OK) {
        return err;
    }
    if (what == WIRE__REMOVE_WHAT__REMOVE_NOT_DIR && shows_as_dir(model, node)) {
        return ERR_IS_DIR;
    }
    if (what == WIRE__REMOVE_WHAT__REMOVE_DIR && !shows_as_dir(model, node)) {
        return ERR_NOT_DIR;
    }
    if (model_children(model, node, false) != 0 ||
        (what == WIRE__REMOVE_WHAT__REMOVE_DIR && model->nodes[node].data_len != 0)) {
        return ERR_NOT_EMPTY;
    }
    model_drop(model, node);
    return ERR_OK;
}

static bool model_is_above(const struct model *model, size_t node, size_t below)
{
    for (size_t at = below; at != 0; at = model->nodes[at].parent) {
        if (at == node) {
            return true;
        }
    }
    return false;
}

static enum err model_check_replace(const struct model *model, size_t node, size_t old)
{
    if (shows_as_dir(model, old) != shows_as_dir(model, node)) {
        return shows_as_dir(model, old) ? ERR_IS_DIR : ERR_NOT_DIR;
    }
    if (shows_as_dir(model, old) &&
        (model_children(model, old, false) != 0 || model->nodes[old].data_len != 0)) {
        return ERR_NOT_EMPTY;
    }
    return ERR_OK;
}

static void model_put(struct model *model, size_t node, size_t parent, char name)
{
    model->nodes[node].parent = parent;
    model->nodes[node].name = name;
    model->nodes[parent].creates++;
}

static enum err model_rename(struct model *model, const char *from, const char *to, int flags)
{
    bool exchange = flags == FIXTURE_EXCHANGE;
    size_t from_parent = NONE;
    size_t to_parent = NONE;
    size_t node = NONE;
    size_t other = NONE;
    enum err err = model_find_node(model, from, &from_parent, &node);

    if (err == ERR_OK) {
        err = model_find(model, to, &to_parent, &other);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (exchange && other == NONE) {
        return ERR_NO_NODE;
    }
    if (flags == FIXTURE_NO_REPLACE && other != NONE) {
        return ERR_EXISTS;
    }
    if (node == other) {
        return ERR_OK;
    }
    if (model_is_above(model, node, to_parent) ||
        (exchange && model_is_above(model, other, from_parent))) {
        return ERR_LOOP;
    }
    if (exchange) {
        model_put(model, other, from_parent, last_name(from));
    } else if (other != NONE) {
        err = model_check_replace(model, node, other);
        if (err != ERR_OK) {
            return err;
        }
        model_drop(model, other);
    }
    model_put(model, node, to_parent, last_name(to));
    return ERR_OK;
}

/* One patch: truncate, one range, append. */
static enum err model_write(struct model *model, const char *path, const Wire__WriteOp *op)
{
    static uint8_t bytes[8 * MODEL_BYTES];
    size_t parent = NONE;
    size_t at = NONE;
    size_t len = 0;
    enum err err = model_find_node(model, path, &parent, &at);

    if (err != ERR_OK) {
        return err;
    }
    if (model->nodes[at].kind == NODE_SYMLINK) {
        return ERR_INVALID;
    }
    if (op->if_version && op->version != model->nodes[at].version) {
        return ERR_BAD_VERSION;
    }
    memset(bytes, 0, sizeof(bytes));
    len = model->nodes[at].data_len;
    if (len + 3 * MODEL_BYTES > sizeof(bytes)) {
        len = 0; /* never: the steps truncate often enough */
        fail();
    }
    memcpy(bytes, model->nodes[at].data, len);
    if (op->truncate) {
        if (op->truncate_bytes < len) {
            memset(bytes + op->truncate_bytes, 0, len - op->truncate_bytes);
        }
        len = op->truncate_bytes;
    }
    if (op->n_ranges != 0 && op->ranges[0]->data.len != 0) {
        size_t end = op->ranges[0]->offset + op->ranges[0]->data.len;
        memcpy(bytes + op->ranges[0]->offset, op->ranges[0]->data.data, op->ranges[0]->data.len);
        len = end > len ? end : len;
    }
    if (op->append.len != 0) {
        memcpy(bytes + len, op->append.data, op->append.len);
    }
    model_set_data(&model->nodes[at], bytes, len + op->append.len);
    model->nodes[at].version++;
    return ERR_OK;
}

/* ---- the run ---- */

static uint64_t below(struct run *run, uint64_t limit)
{
    return fixture_random(&run->random) % limit;
}

/* "/a", "/c/b", ...: few names, so that they meet. */
static void random_path(struct run *run, char path[static PATH_TEXT])
{
    size_t depth = 1 + below(run, DEPTH_MAX);

    for (size_t i = 0; i < depth; i++) {
        path[2 * i] = '/';
        path[2 * i + 1] = (char)('a' + (int)below(run, 3));
    }
    path[2 * depth] = '\0';
}

/* Mostly short, sometimes longer than what fits into a node's row. */
static size_t random_bytes(struct run *run, uint8_t bytes[static MODEL_BYTES])
{
    size_t len = below(run, 4) == 0 ? below(run, MODEL_BYTES) : below(run, 20);

    memset(bytes, (int)('a' + below(run, 26)), len);
    return len;
}

static enum err step_create(struct run *run, enum err *out_expected)
{
    static const enum node_kind kinds[] = {NODE_PLAIN, NODE_PLAIN, NODE_FILE,
                                           NODE_DIR,   NODE_DIR,   NODE_SYMLINK};
    Wire__CreateOp op = WIRE__CREATE_OP__INIT;
    enum node_kind kind = kinds[below(run, sizeof(kinds) / sizeof(kinds[0]))];
    uint8_t bytes[MODEL_BYTES];
    size_t len = below(run, 2) == 0 ? 0 : random_bytes(run, bytes);
    char path[PATH_TEXT];

    random_path(run, path);
    op.kind = (Wire__Kind)kind;
    op.mode = 0755;
    op.data = wire_bytes(bytes, len);
    *out_expected = model_create(&run->model, path, kind, bytes, len);
    return fixture_create_with(run->fixture, path, &op);
}

static enum err step_write(struct run *run, enum err *out_expected)
{
    Wire__WriteOp op = WIRE__WRITE_OP__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};
    uint8_t bytes[MODEL_BYTES];
    uint8_t more[MODEL_BYTES];
    char path[PATH_TEXT];

    random_path(run, path);
    op.truncate = below(run, 2) == 0;
    op.truncate_bytes = below(run, 3) == 0 ? below(run, MODEL_BYTES) : 0;
    op.if_version = below(run, 8) == 0;
    op.version = (uint32_t)below(run, 3);
    range.offset = below(run, MODEL_BYTES);
    range.data = wire_bytes(bytes, random_bytes(run, bytes));
    op.ranges = ranges;
    op.n_ranges = below(run, 2);
    op.append = wire_bytes(more, below(run, 2) == 0 && op.truncate ? random_bytes(run, more) : 0);
    *out_expected = model_write(&run->model, path, &op);
    return fixture_write_with(run->fixture, path, &op);
}

static enum err step_remove(struct run *run, enum err *out_expected)
{
    Wire__RemoveWhat what = (Wire__RemoveWhat)below(run, 3);
    char path[PATH_TEXT];

    random_path(run, path);
    *out_expected = model_remove(&run->model, path, what);
    return fixture_remove(run->fixture, path, what);
}

static enum err step_rename(struct run *run, enum err *out_expected)
{
    static const int flags[] = {FIXTURE_RENAME, FIXTURE_RENAME, FIXTURE_NO_REPLACE,
                                FIXTURE_EXCHANGE};
    int flag = flags[below(run, sizeof(flags) / sizeof(flags[0]))];
    char from[PATH_TEXT];
    char to[PATH_TEXT];

    random_path(run, from);
    random_path(run, to);
    *out_expected = model_rename(&run->model, from, to, flag);
    return fixture_rename(run->fixture, from, to, flag);
}

static void model_path(const struct model *model, size_t at, char *path)
{
    char reversed[64];
    size_t len = 0;

    for (; at != 0; at = model->nodes[at].parent) {
        assert_true(len + 2 < sizeof(reversed));
        reversed[len++] = model->nodes[at].name;
        reversed[len++] = '/';
    }
    for (size_t i = 0; i < len; i++) {
        path[i] = reversed[len - 1 - i];
    }
    path[len] = '\0';
}

/* Every node of the model is in the tree, as it is. (That the tree has no others is told by the
 * counts of children.) */
static void compare(struct run *run)
{
    struct model *model = &run->model;

    for (size_t i = 0; i < model->count; i++) {
        struct model_node *node = &model->nodes[i];
        struct buffer data = {0};
        struct node_attr attr;
        char path[64];
        if (!node->live) {
            continue;
        }
        model_path(model, i, path);
        struct tree_address at = {.path = (const uint8_t *)path, .path_len = strlen(path)};
        struct tree_identity trusted = {.trusted = true};
        assert_int_equal(tree_read(run->fixture->tree, &at, &trusted, 0, UINT64_MAX, &attr, &data),
                         ERR_OK);
        assert_int_equal(attr.kind, node->kind);
        assert_int_equal(attr.version, node->version);
        assert_int_equal(attr.creates, node->creates);
        assert_int_equal(attr.children, model_children(model, i, false));
        assert_int_equal(attr.subdirs, model_children(model, i, true));
        assert_int_equal(data.len, node->data_len);
        if (data.len != 0) {
            assert_memory_equal(data.data, node->data, data.len);
        }
        assert_true(node->ino == 0 || node->ino == attr.ino);
        node->ino = attr.ino;
        buffer_done(&data);
    }
    fixture_recount(run->fixture);
}

static void record(struct run *run)
{
    const struct buffer *packed = &run->fixture->packed;

    assert_int_equal(buffer_append_be32(&run->entries, (uint32_t)packed->len), ERR_OK);
    assert_int_equal(buffer_append(&run->entries, packed->data, packed->len), ERR_OK);
    assert_int_equal(buffer_append_be64(&run->digests, tree_digest(run->fixture->tree)), ERR_OK);
}

static void expect_equal_rows(const struct omap *a, const struct omap *b)
{
    const struct omap_entry *x = omap_seek(a, "", 0);
    const struct omap_entry *y = omap_seek(b, "", 0);

    assert_int_equal(omap_count(a), omap_count(b));
    while (x != NULL && y != NULL) {
        assert_int_equal(x->key_len, y->key_len);
        assert_memory_equal(x->key, y->key, x->key_len);
        assert_int_equal(x->value_len, y->value_len);
        if (x->value_len != 0) {
            assert_memory_equal(x->value, y->value, x->value_len);
        }
        x = omap_next(a, x);
        y = omap_next(b, y);
    }
    assert_true(x == NULL && y == NULL);
}

/* The recorded entries once again, on a second tree. */
static void replay(struct run *run)
{
    struct tree_fixture *second = fixture_new();
    size_t count = 0;

    for (size_t at = 0; at < run->entries.len; count++) {
        size_t len = get_be32(run->entries.data + at);
        (void)fixture_apply_bytes(second, run->entries.data + at + 4, len);
        assert_true(tree_digest(second->tree) == get_be64(run->digests.data + 8 * count));
        if (below(run, 20) == 0) {
            fixture_reopen(second);
            assert_true(tree_digest(second->tree) == get_be64(run->digests.data + 8 * count));
        }
        at += 4 + len;
    }
    assert_int_equal(count, STEPS + 1);
    expect_equal_rows(run->fixture->rows, second->rows);
    fixture_free(second);
}

static void run_seed(uint64_t seed)
{
    static struct run run;
    static enum err (*const steps[])(struct run *, enum err *) = {
        step_create, step_create, step_create, step_write, step_write, step_remove, step_rename};

    run = (struct run){.random = seed, .fixture = fixture_new()};
    run.model.nodes[0] = (struct model_node){.live = true, .kind = NODE_DIR};
    model_set_data(&run.model.nodes[0], (const uint8_t *)"", 0);
    run.model.count = 1;
    fixture_open(run.fixture, 1);
    record(&run);
    for (unsigned i = 0; i < STEPS; i++) {
        enum err expected = ERR_OK;
        enum err err = steps[below(&run, sizeof(steps) / sizeof(steps[0]))](&run, &expected);
        if (err != expected) {
            print_error("seed %llu step %u: tree says %s, model says %s\n",
                        (unsigned long long)seed, i, err_name(err), err_name(expected));
        }
        assert_int_equal(err, expected);
        record(&run);
        if (i % COMPARE_EACH == 0 || i + 1 == STEPS) {
            compare(&run);
        }
    }
    replay(&run);
    for (size_t i = 0; i < run.model.count; i++) {
        free(run.model.nodes[i].data);
    }
    buffer_done(&run.entries);
    buffer_done(&run.digests);
    fixture_free(run.fixture);
}

static void tree_does_what_a_naive_model_does_and_does_it_again(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_seed(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tree_does_what_a_naive_model_does_and_does_it_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
