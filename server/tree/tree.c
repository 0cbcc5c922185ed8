/* SPDX-License-Identifier: Apache-2.0
 *
 * The tree as a whole: its state row, its beginning, and the reads. Reads are asked for by the
 * request path; they change no row.
 *
 * Invariant: between two entries the counters in memory are those of the state row.
 */
#include "server/tree/tree.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/version.h"
#include "server/tree/tree_internal.h"

/* Of the state row. The level lies in it only above FEATURE_BASE: until then a program from before
 * the levels can have the folder back (CONSENSUS 33). */
#define STATE_FORMAT_BASE  1u
#define STATE_FORMAT_LEVEL 2u
#define ROOT_MODE          0755u

enum state_offset {
    STATE_VERSION_OF_FORMAT = 0,
    STATE_INDEX = 1,
    STATE_TERM = 9,
    STATE_TIME = 17,
    STATE_DIGEST = 25,
    STATE_NEXT_INO = 33,
    STATE_NODE_COUNT = 41,
    STATE_DATA_BYTES = 49,
    STATE_SESSION_COUNT = 57,
    STATE_ROW_BYTES_BASE = 65,
    STATE_FEATURE_LEVEL = 65,
    STATE_ROW_BYTES = 69,
};

/* ---- state ---- */

/* Not part of the digest, which it holds. */
void tree_state_store(struct tree *tree)
{
    struct row_key key = key_of_state();
    uint8_t row[STATE_ROW_BYTES];
    bool has_level = tree->feature_level > FEATURE_BASE;

    row[STATE_VERSION_OF_FORMAT] = has_level ? STATE_FORMAT_LEVEL : STATE_FORMAT_BASE;
    put_be64(row + STATE_INDEX, tree->index);
    put_be64(row + STATE_TERM, tree->term);
    put_be64(row + STATE_TIME, (uint64_t)tree->time_ns);
    put_be64(row + STATE_DIGEST, tree->digest);
    put_be64(row + STATE_NEXT_INO, tree->next_ino);
    put_be64(row + STATE_NODE_COUNT, tree->node_count);
    put_be64(row + STATE_DATA_BYTES, tree->data_bytes);
    put_be64(row + STATE_SESSION_COUNT, tree->session_count);
    put_be32(row + STATE_FEATURE_LEVEL, tree->feature_level);
    tree->kv.put(tree->kv.context, key.bytes, key.len, row,
                 has_level ? STATE_ROW_BYTES : STATE_ROW_BYTES_BASE);
}

/* Whether the level lies in this state row, which must be one of the two formats. */
static bool state_has_level(const struct buffer *row)
{
    const uint8_t *bytes = row->data;
    bool has_level = false;

    CHECK_OP(row->len, >=, STATE_ROW_BYTES_BASE);
    has_level = bytes[STATE_VERSION_OF_FORMAT] == STATE_FORMAT_LEVEL;
    CHECK(has_level || bytes[STATE_VERSION_OF_FORMAT] == STATE_FORMAT_BASE);
    CHECK_OP(row->len, ==, has_level ? STATE_ROW_BYTES : STATE_ROW_BYTES_BASE);
    return has_level;
}

static bool state_load(struct tree *tree)
{
    struct row_key key = key_of_state();
    const uint8_t *row = NULL;
    bool has_level = false;

    if (!row_get(tree, &key, &tree->value)) {
        return false;
    }
    row = tree->value.data;
    has_level = state_has_level(&tree->value);
    tree->index = get_be64(row + STATE_INDEX);
    tree->term = get_be64(row + STATE_TERM);
    tree->time_ns = (int64_t)get_be64(row + STATE_TIME);
    tree->digest = get_be64(row + STATE_DIGEST);
    tree->next_ino = get_be64(row + STATE_NEXT_INO);
    tree->node_count = get_be64(row + STATE_NODE_COUNT);
    tree->data_bytes = get_be64(row + STATE_DATA_BYTES);
    tree->session_count = get_be64(row + STATE_SESSION_COUNT);
    tree->feature_level = has_level ? get_be32(row + STATE_FEATURE_LEVEL) : FEATURE_BASE;
    return true;
}

/* The rows of an empty tree: the same on every replica. */
static void found(struct tree *tree)
{
    struct node *root = tree->at.node;

    node_init(root, NULL, 0);
    root->attr = (struct node_attr){.ino = ROOT_INO, .kind = NODE_DIR, .mode = ROOT_MODE};
    node_store(tree, root);
    tree->digest = 0;
    tree->next_ino = ROOT_INO + 1;
    tree->node_count = 1;
    tree->feature_level = FEATURE_BASE;
    tree_state_store(tree);
}

struct tree *tree_new(const struct kv *kv)
{
    struct tree *tree = calloc(1, sizeof(*tree));

    if (tree == NULL) {
        return NULL;
    }
    tree->kv = *kv;
    place_init(&tree->at);
    place_init(&tree->to);
    if (!state_load(tree)) {
        found(tree);
    }
    return tree;
}

void tree_free(struct tree *tree)
{
    if (tree == NULL) {
        return;
    }
    free(tree->parts);
    buffer_done(&tree->grants);
    buffer_done(&tree->value);
    buffer_done(&tree->large);
    buffer_done(&tree->data);
    buffer_done(&tree->list);
    buffer_done(&tree->part);
    place_done(&tree->at);
    place_done(&tree->to);
    node_done(&tree->walker);
    free(tree->changes);
    free(tree);
}

uint64_t tree_applied_index(const struct tree *tree)
{
    return tree->index;
}

uint64_t tree_applied_term(const struct tree *tree)
{
    return tree->term;
}

int64_t tree_applied_time_ns(const struct tree *tree)
{
    return tree->time_ns;
}

uint64_t tree_digest(const struct tree *tree)
{
    return tree->digest;
}

uint32_t tree_feature_level(const struct tree *tree)
{
    return tree->feature_level;
}

uint64_t tree_durable_index(struct tree *tree)
{
    struct row_key key = key_of_state();

    if (!tree->kv.get_durable(tree->kv.context, key.bytes, key.len, &tree->value)) {
        return 0;
    }
    (void)state_has_level(&tree->value);
    return get_be64((const uint8_t *)tree->value.data + STATE_INDEX);
}

uint64_t tree_node_count(const struct tree *tree)
{
    return tree->node_count;
}

uint64_t tree_data_bytes(const struct tree *tree)
{
    return tree->data_bytes;
}

void tree_members_set(struct tree *tree, uint64_t index, const uint8_t *data, size_t len)
{
    struct row_key key = key_of_members();

    buffer_clear(&tree->value);
    CHECK(buffer_append_be64(&tree->value, index) == ERR_OK);
    CHECK(buffer_append(&tree->value, data, len) == ERR_OK);
    row_put(tree, &key, tree->value.data, tree->value.len);
}

bool tree_members_get(struct tree *tree, uint64_t *out_index, struct buffer *out)
{
    struct row_key key = key_of_members();

    if (!row_get(tree, &key, out)) {
        return false;
    }
    CHECK_OP(out->len, >=, 8);
    *out_index = get_be64(out->data);
    buffer_consume(out, 8);
    return true;
}

/* ---- reads ---- */

enum err tree_lookup(struct tree *tree, const struct tree_address *at,
                     const struct tree_identity *who, struct node_attr *out,
                     struct node_attr *parent_attr)
{
    struct place *place = &tree->at;
    enum err err = place_find(tree, at, who, place);

    if (parent_attr != NULL) {
        *parent_attr = (struct node_attr){.ino = UINT64_MAX};
        if (err == ERR_OK) {
            place_load_parent(tree, place);
        }
        if ((err == ERR_OK || err == ERR_NO_NODE) && place->has_parent) {
            *parent_attr = place->parent->attr;
        }
    }
    if (err == ERR_OK) {
        *out = place->node->attr;
    }
    return err;
}

/* Finds a node whose content may be read. */
static enum err find_readable(struct tree *tree, const struct tree_address *at,
                              const struct tree_identity *who, struct place *place)
{
    enum err err = place_find(tree, at, who, place);

    if (err != ERR_OK || place->node->attr.kind == NODE_SYMLINK) {
        return err; /* anybody may follow a link that he can reach */
    }
    return access_check(&place->node->attr, who, ACCESS_READ);
}

enum err tree_read(struct tree *tree, const struct tree_address *at,
                   const struct tree_identity *who, uint64_t offset, uint64_t bytes_max,
                   struct node_attr *out_attr, struct buffer *out)
{
    struct place *place = &tree->at;
    const struct node_attr *attr = NULL;
    enum err err = find_readable(tree, at, who, place);

    buffer_clear(out);
    if (err != ERR_OK) {
        return err;
    }
    attr = &place->node->attr;
    *out_attr = *attr;
    if (offset >= attr->data_bytes) {
        return ERR_OK;
    }
    if (bytes_max > attr->data_bytes - offset) {
        bytes_max = attr->data_bytes - offset;
    }
    return data_read(tree, place->node, offset, bytes_max, out);
}

enum err tree_xattrs(struct tree *tree, const struct tree_address *at,
                     const struct tree_identity *who, tree_xattr_fn *each, void *arg,
                     struct node_attr *out_attr, struct buffer *out_holder)
{
    struct place *place = &tree->at;
    const uint8_t *holder = NULL;
    size_t holder_len = 0;
    enum err err = find_readable(tree, at, who, place);

    buffer_clear(out_holder);
    if (err != ERR_OK) {
        return err;
    }
    *out_attr = place->node->attr;
    xattrs_each(tree, place->node, each, arg);
    holder = node_holder(place->node, &holder_len);
    return buffer_append(out_holder, holder, holder_len);
}

/* A listing on its way. */
struct children {
    tree_child_fn *each;
    void *arg;
    uint64_t parent;
    uint64_t cookie; /* of the previous child */
    bool stopped;
};

static bool child_found(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                        size_t value_len)
{
    struct children *children = arg;
    uint64_t cookie = key_cookie(key, key_len);
    bool same = cookie == children->cookie;
    size_t name_len = 0;
    const uint8_t *name = key_name(key, key_len, &name_len);
    struct node_attr attr;

    node_attr_decode(value, value_len, children->parent, &attr);
    children->cookie = cookie;
    children->stopped = !children->each(children->arg, name, name_len, cookie, same, &attr);
    return !children->stopped;
}

/* NOLINTNEXTLINE(readability-function-size): the address, the reader and two results of a read. */
enum err tree_children(struct tree *tree, const struct tree_address *at,
                       const struct tree_identity *who, uint64_t cookie, tree_child_fn *each,
                       void *arg, struct node_attr *out_attr, bool *out_end)
{
    struct place *place = &tree->at;
    struct children children = {.each = each, .arg = arg};
    enum err err = place_find(tree, at, who, place);

    *out_end = false;
    if (err != ERR_OK) {
        return err;
    }
    if (!node_may_have_children(&place->node->attr)) {
        return ERR_NOT_DIR;
    }
    err = access_check(&place->node->attr, who, ACCESS_READ);
    if (err != ERR_OK) {
        return err;
    }
    *out_attr = place->node->attr;
    children.parent = place->node->attr.ino;
    if (cookie < UINT64_MAX) {
        struct row_key key = key_of_children(children.parent, cookie + 1);
        tree->kv.scan(tree->kv.context, key.bytes, key.len, 9, child_found, &children);
    }
    *out_end = !children.stopped;
    return ERR_OK;
}

enum err tree_path(struct tree *tree, uint64_t ino, struct buffer *out)
{
    struct place *place = &tree->at;
    uint64_t steps = 0;
    size_t len = 0;
    uint8_t *to = NULL;

    buffer_clear(out);
    place_init(place);
    if (!node_load(tree, ino, place->node)) {
        return ERR_STALE;
    }
    /* From the node up to the root, each name put before what is there. */
    while (place->node->attr.ino != ROOT_INO) {
        const struct node_name *name = &place->node->name;
        CHECK_OP(steps++, <=, tree->node_count);
        if (buffer_reserve(out, name->len + 1u) == NULL) {
            return ERR_MEMORY;
        }
        memmove(out->data + name->len + 1u, out->data, out->len);
        out->data[0] = '/';
        memcpy(out->data + 1, name->bytes, name->len);
        out->len += name->len + 1u;
        CHECK(node_load(tree, place->node->attr.parent, place->node));
    }
    len = out->len != 0 ? out->len : 1;
    to = buffer_reserve(out, 2);
    if (to == NULL) {
        return ERR_MEMORY;
    }
    if (out->len == 0) {
        to[0] = '/';
    }
    out->len = len;
    out->data[len] = '\0';
    return ERR_OK;
}
