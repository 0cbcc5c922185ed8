/* SPDX-License-Identifier: Apache-2.0
 *
 * The fixture of the tests of the tree. It asks the tree through tree.h only, and counts the rows.
 */
#include "tests/lib/tree_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/kv_memory.h"

uint64_t fixture_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

static ProtobufCBinaryData text_bytes(const char *text)
{
    return wire_bytes(text, text != NULL ? strlen(text) : 0);
}

/* ---- life ---- */

struct tree_fixture *fixture_new(void)
{
    struct tree_fixture *fixture = calloc(1, sizeof(*fixture));
    struct kv kv;

    assert_non_null(fixture);
    fixture->rows = omap_new();
    assert_non_null(fixture->rows);
    kv = kv_memory(fixture->rows);
    fixture->tree = tree_new(&kv);
    assert_non_null(fixture->tree);
    fixture->now_ns = 1000;
    wire__identity__init(&fixture->identity);
    fixture_become_trusted(fixture);
    return fixture;
}

void fixture_free(struct tree_fixture *fixture)
{
    tree_free(fixture->tree);
    omap_free(fixture->rows);
    buffer_done(&fixture->packed);
    free(fixture);
}

void fixture_reopen(struct tree_fixture *fixture)
{
    struct kv kv = kv_memory(fixture->rows);

    tree_free(fixture->tree);
    fixture->tree = tree_new(&kv);
    assert_non_null(fixture->tree);
}

int fixture_setup(void **state)
{
    struct tree_fixture *fixture = fixture_new();

    fixture_open(fixture, 1);
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_recount(*state);
    fixture_free(*state);
    return 0;
}

/* ---- recount ---- */

struct count {
    struct tree_fixture *fixture;
    struct buffer inos; /* nodes whose children are still to be counted */
    uint64_t nodes;
    uint64_t data_bytes;
    uint64_t large;
    uint64_t chunks; /* at most: those that are zeros may be missing */
    uint64_t with_xattrs;
    uint64_t ephemeral;
    uint64_t children; /* of the directory that is listed */
    uint64_t subdirs;
};

static void count_node(struct count *count, const struct node_attr *attr)
{
    count->nodes++;
    count->data_bytes += attr->data_bytes;
    count->large += attr->data_bytes > DATA_INLINE_BYTES_MAX;
    count->ephemeral += attr->owner != 0;
    count->with_xattrs += attr->has_xattrs;
    if (attr->data_bytes > DATA_CHUNK_BYTES) {
        count->chunks += (attr->data_bytes - 1) / DATA_CHUNK_BYTES;
    }
    assert_int_equal(attr->cversion, (uint32_t)(2 * attr->creates - attr->children));
    assert_true(attr->children <= attr->creates);
    if (attr->kind == NODE_DIR || attr->kind == NODE_PLAIN) {
        assert_int_equal(buffer_append_be64(&count->inos, attr->ino), ERR_OK);
    } else {
        assert_int_equal(attr->creates, 0);
    }
}

static bool count_child(void *arg, const uint8_t *name, size_t name_len, uint64_t cookie, bool same,
                        const struct node_attr *attr)
{
    struct count *count = arg;

    (void)same;
    assert_true(name_len > 0 && name[0] != '/');
    assert_true(cookie >= 16 && cookie <= INT64_MAX);
    count->children++;
    count->subdirs += attr->kind == NODE_DIR;
    count_node(count, attr);
    return true;
}

/* What the rows are, by their first byte; further chunks of data are counted as 'd'. */
static void count_rows(struct tree_fixture *fixture, uint64_t *rows)
{
    const struct omap_entry *entry = omap_seek(fixture->rows, "", 0);

    while (entry != NULL) {
        bool is_chunk = entry->key_len == 13 && entry->key[0] == 'D';
        assert_true(entry->key_len > 0);
        rows[is_chunk ? 'd' : entry->key[0]]++;
        entry = omap_next(fixture->rows, entry);
    }
}

/* What a session has staged is the sum of its parts and of its stages. */
static uint64_t check_stages(struct tree_fixture *fixture)
{
    const struct omap_entry *entry = omap_seek(fixture->rows, "T", 1);
    uint64_t sum = 0;
    uint64_t staged = 0;
    uint64_t sessions = 0;

    for (; entry != NULL && entry->key[0] == 'T'; entry = omap_next(fixture->rows, entry)) {
        if (entry->key_len == 9) {
            assert_int_equal(sum, staged);
            sum = get_be64(entry->value);
            staged = 0;
            sessions++;
            assert_true(sum != 0 && sum <= STAGED_BYTES_MAX);
        } else if (entry->key_len == 21) {
            staged += entry->value_len + STAGE_PART_BYTES;
        } else {
            assert_int_equal(entry->key_len, 17);
        }
    }
    assert_int_equal(sum, staged);
    return sessions;
}

static void check_path(struct tree_fixture *fixture, const struct node_attr *attr)
{
    struct buffer path = {0};
    struct tree_identity trusted = {.trusted = true};
    struct node_attr found;

    assert_int_equal(tree_path(fixture->tree, attr->ino, &path), ERR_OK);
    struct tree_address at = {.path = path.data, .path_len = path.len};
    assert_int_equal(path.data[path.len], 0);
    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &found, NULL), ERR_OK);
    assert_int_equal(found.ino, attr->ino);
    assert_int_equal(found.parent, attr->parent);
    assert_int_equal(found.azxid, attr->azxid);
    assert_int_equal(found.children, attr->children);
    buffer_done(&path);
}

static void count_session(void *arg, const struct tree_session *session)
{
    assert_true(session->id != 0 && session->epoch != 0);
    (*(uint64_t *)arg)++;
}

void fixture_recount(struct tree_fixture *fixture)
{
    struct count count = {.fixture = fixture};
    struct tree_identity trusted = {.trusted = true};
    struct tree_address root = {.ino = ROOT_INO};
    uint64_t rows[256] = {0};
    uint64_t sessions = 0;
    struct node_attr attr;
    bool end = false;

    assert_int_equal(tree_lookup(fixture->tree, &root, &trusted, &attr, NULL), ERR_OK);
    count_node(&count, &attr);
    for (size_t i = 0; i < count.inos.len; i += 8) {
        struct tree_address at = {.ino = get_be64(count.inos.data + i)};
        count.children = 0;
        count.subdirs = 0;
        assert_int_equal(
            tree_children(fixture->tree, &at, &trusted, 0, count_child, &count, &attr, &end),
            ERR_OK);
        assert_true(end);
        assert_int_equal(attr.children, count.children);
        assert_int_equal(attr.subdirs, count.subdirs);
        check_path(fixture, &attr);
    }
    tree_sessions(fixture->tree, count_session, &sessions);
    count_rows(fixture, rows);
    assert_int_equal(tree_node_count(fixture->tree), count.nodes);
    assert_int_equal(tree_data_bytes(fixture->tree), count.data_bytes);
    assert_int_equal(rows['R'], 1);
    assert_int_equal(rows['N'], count.nodes - 1);
    assert_int_equal(rows['P'], count.nodes - 1);
    assert_int_equal(rows['D'], count.large);
    assert_true(rows['d'] <= count.chunks);
    assert_int_equal(rows['X'], count.with_xattrs);
    assert_true(check_stages(fixture) <= sessions);
    assert_int_equal(rows['E'], count.ephemeral);
    assert_int_equal(rows['S'], sessions);
    assert_int_equal(rows['O'], sessions);
    assert_true(rows['W'] <= sessions * SESSION_WINDOW);
    buffer_done(&count.inos);
}

/* ---- applying ---- */

enum err fixture_apply_bytes(struct tree_fixture *fixture, const uint8_t *bytes, size_t len)
{
    struct tree_entry entry = {
        .index = tree_applied_index(fixture->tree) + 1,
        .term = 1,
        .time_ns = fixture->now_ns++,
        .command = true,
        .data = bytes,
        .len = len,
    };

    tree_apply(fixture->tree, &entry, &fixture->result);
    assert_int_equal(tree_applied_index(fixture->tree), entry.index);
    if (fixture->result.err != ERR_OK && fixture->result.err != ERR_CANCELED) {
        assert_int_equal(fixture->result.change_count, 0);
    }
    return fixture->result.err;
}

enum err fixture_apply_command(struct tree_fixture *fixture, const Wire__Command *command)
{
    buffer_clear(&fixture->packed);
    assert_int_equal(wire_pack(&command->base, &fixture->packed), ERR_OK);
    return fixture_apply_bytes(fixture, fixture->packed.data, fixture->packed.len);
}

enum err fixture_apply_as(struct tree_fixture *fixture, uint64_t sequence, Wire__Op *op)
{
    Wire__Command command = WIRE__COMMAND__INIT;

    command.session = fixture->session;
    command.epoch = fixture->epoch;
    command.sequence = sequence;
    command.identity = &fixture->identity;
    command.op = op;
    return fixture_apply_command(fixture, &command);
}

enum err fixture_apply(struct tree_fixture *fixture, Wire__Op *op)
{
    return fixture_apply_as(fixture, ++fixture->sequence, op);
}

/* ---- sessions ---- */

static enum err apply_without_session(struct tree_fixture *fixture, Wire__Op *op)
{
    Wire__Command command = WIRE__COMMAND__INIT;

    command.op = op;
    return fixture_apply_command(fixture, &command);
}

void fixture_open(struct tree_fixture *fixture, uint8_t seed)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__SessionOpenOp open = WIRE__SESSION_OPEN_OP__INIT;
    uint8_t bytes[16];

    memset(bytes, seed, sizeof(bytes));
    open.password = wire_bytes(bytes, sizeof(bytes));
    open.nonce = wire_bytes(bytes, sizeof(bytes));
    op.body_case = WIRE__OP__BODY_SESSION_OPEN;
    op.session_open = &open;
    assert_int_equal(apply_without_session(fixture, &op), ERR_OK);
    fixture->session = fixture->result.session;
    fixture->epoch = fixture->result.epoch;
    fixture->sequence = 0;
}

enum err fixture_raise(struct tree_fixture *fixture, uint32_t level)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__FeatureLevelOp raise = WIRE__FEATURE_LEVEL_OP__INIT;

    raise.level = level;
    op.body_case = WIRE__OP__BODY_FEATURE_LEVEL;
    op.feature_level = &raise;
    return apply_without_session(fixture, &op);
}

enum err fixture_attach(struct tree_fixture *fixture, uint64_t session, uint8_t password_seed,
                        uint8_t nonce_seed)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__SessionAttachOp attach = WIRE__SESSION_ATTACH_OP__INIT;
    uint8_t password[16];
    uint8_t nonce[16];

    memset(password, password_seed, sizeof(password));
    memset(nonce, nonce_seed, sizeof(nonce));
    attach.session = session;
    attach.password = wire_bytes(password, sizeof(password));
    attach.nonce = wire_bytes(nonce, sizeof(nonce));
    op.body_case = WIRE__OP__BODY_SESSION_ATTACH;
    op.session_attach = &attach;
    return apply_without_session(fixture, &op);
}

enum err fixture_close(struct tree_fixture *fixture, uint64_t session, uint64_t epoch)
{
    Wire__Op op = WIRE__OP__INIT;
    Wire__SessionCloseOp close = WIRE__SESSION_CLOSE_OP__INIT;

    close.session = session;
    close.epoch = epoch;
    op.body_case = WIRE__OP__BODY_SESSION_CLOSE;
    op.session_close = &close;
    return apply_without_session(fixture, &op);
}

void fixture_become(struct tree_fixture *fixture, uint32_t uid, uint32_t gid)
{
    fixture->identity.trusted = false;
    fixture->identity.uid = uid;
    fixture->identity.gid = gid;
}

void fixture_become_trusted(struct tree_fixture *fixture)
{
    fixture->identity.trusted = true;
    fixture->identity.uid = 0;
    fixture->identity.gid = 0;
}

struct tree_identity fixture_reader(const struct tree_fixture *fixture)
{
    return (struct tree_identity){
        .trusted = fixture->identity.trusted,
        .uid = fixture->identity.uid,
        .gid = fixture->identity.gid,
        .group_count = fixture->identity.n_groups,
        .groups = fixture->identity.groups,
    };
}

/* ---- operations ---- */

enum err fixture_create_with(struct tree_fixture *fixture, const char *path, Wire__CreateOp *op)
{
    Wire__Op any = WIRE__OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    if (path != NULL) {
        at.path = text_bytes(path);
        op->at = &at;
    }
    any.body_case = WIRE__OP__BODY_CREATE;
    any.create = op;
    enum err err = fixture_apply(fixture, &any);
    op->at = NULL;
    return err;
}

enum err fixture_create(struct tree_fixture *fixture, const char *path, enum node_kind kind,
                        const char *data)
{
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;

    create.kind = (Wire__Kind)kind;
    create.mode = kind == NODE_DIR ? 0755 : 0644;
    create.data = text_bytes(data);
    return fixture_create_with(fixture, path, &create);
}

enum err fixture_write_with(struct tree_fixture *fixture, const char *path, Wire__WriteOp *op)
{
    Wire__Op any = WIRE__OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    at.path = text_bytes(path);
    op->at = &at;
    any.body_case = WIRE__OP__BODY_WRITE;
    any.write = op;
    return fixture_apply(fixture, &any);
}

enum err fixture_write(struct tree_fixture *fixture, const char *path, const char *text)
{
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;

    write.truncate = true;
    write.append = text_bytes(text);
    return fixture_write_with(fixture, path, &write);
}

enum err fixture_setattr(struct tree_fixture *fixture, const char *path, Wire__SetattrOp *op)
{
    Wire__Op any = WIRE__OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    at.path = text_bytes(path);
    op->at = &at;
    any.body_case = WIRE__OP__BODY_SETATTR;
    any.setattr = op;
    return fixture_apply(fixture, &any);
}

enum err fixture_remove(struct tree_fixture *fixture, const char *path, Wire__RemoveWhat what)
{
    Wire__Op any = WIRE__OP__INIT;
    Wire__RemoveOp op = WIRE__REMOVE_OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    at.path = text_bytes(path);
    op.at = &at;
    op.what = what;
    any.body_case = WIRE__OP__BODY_REMOVE;
    any.remove = &op;
    return fixture_apply(fixture, &any);
}

enum err fixture_rename(struct tree_fixture *fixture, const char *from, const char *to, int flags)
{
    Wire__Op any = WIRE__OP__INIT;
    Wire__RenameOp op = WIRE__RENAME_OP__INIT;
    Wire__Address from_at = WIRE__ADDRESS__INIT;
    Wire__Address to_at = WIRE__ADDRESS__INIT;

    from_at.path = text_bytes(from);
    to_at.path = text_bytes(to);
    op.from = &from_at;
    op.to = &to_at;
    op.no_replace = (flags & FIXTURE_NO_REPLACE) != 0;
    op.exchange = (flags & FIXTURE_EXCHANGE) != 0;
    any.body_case = WIRE__OP__BODY_RENAME;
    any.rename = &op;
    return fixture_apply(fixture, &any);
}

enum err fixture_stage(struct tree_fixture *fixture, uint64_t stage, uint32_t part,
                       Wire__StageOp *op)
{
    Wire__Op any = WIRE__OP__INIT;

    op->stage = stage;
    op->part = part;
    any.body_case = WIRE__OP__BODY_STAGE;
    any.stage = op;
    return fixture_apply(fixture, &any);
}

enum err fixture_xattr(struct tree_fixture *fixture, const char *path, Wire__XattrOp *op)
{
    Wire__Op any = WIRE__OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;

    at.path = text_bytes(path);
    op->at = &at;
    any.body_case = WIRE__OP__BODY_XATTR;
    any.xattr = op;
    return fixture_apply(fixture, &any);
}

/* ---- reading ---- */

enum err fixture_lookup(struct tree_fixture *fixture, const char *path, struct node_attr *out)
{
    struct tree_address at = {.path = (const uint8_t *)path, .path_len = strlen(path)};
    struct tree_identity who = fixture_reader(fixture);

    return tree_lookup(fixture->tree, &at, &who, out, NULL);
}

struct node_attr fixture_attr(struct tree_fixture *fixture, const char *path)
{
    struct tree_address at = {.path = (const uint8_t *)path, .path_len = strlen(path)};
    struct tree_identity trusted = {.trusted = true};
    struct node_attr attr;

    assert_int_equal(tree_lookup(fixture->tree, &at, &trusted, &attr, NULL), ERR_OK);
    return attr;
}

void fixture_expect_data(struct tree_fixture *fixture, const char *path, const char *text)
{
    struct tree_address at = {.path = (const uint8_t *)path, .path_len = strlen(path)};
    struct tree_identity trusted = {.trusted = true};
    struct node_attr attr;
    struct buffer data = {0};

    assert_int_equal(tree_read(fixture->tree, &at, &trusted, 0, FILE_BYTES_MAX, &attr, &data),
                     ERR_OK);
    assert_int_equal(attr.data_bytes, strlen(text));
    assert_int_equal(data.len, strlen(text));
    if (data.len != 0) {
        assert_memory_equal(data.data, text, data.len);
    }
    buffer_done(&data);
}

void fixture_expect_path(struct tree_fixture *fixture, uint64_t ino, const char *path)
{
    struct buffer found = {0};

    assert_int_equal(tree_path(fixture->tree, ino, &found), ERR_OK);
    assert_string_equal((const char *)found.data, path);
    assert_int_equal(found.len, strlen(path));
    buffer_done(&found);
}
