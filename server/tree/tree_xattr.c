/* SPDX-License-Identifier: Apache-2.0
 *
 * Stored attributes of nodes, `user.*`. Handed operations by tree_apply.c, reads by tree.c; the
 * rules are those of setxattr(2) and xattr(7).
 *
 * All of a node lie in one row: format, then each as be16 length of the name, be32 length of the
 * value, name and value, ascending by name.
 *
 * Invariant: a node has the row exactly while has_xattrs is set.
 */
#include <string.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

#define XATTRS_FORMAT 1u

enum xattrs_offset {
    XATTRS_VERSION_OF_FORMAT = 0,
    XATTRS_FIRST = 1,
    XATTR_HEAD_BYTES = 6, /* of the two lengths */
};

#define SPACE          "user."
#define SPACE_LEN      (sizeof(SPACE) - 1)
#define SPACE_OWN      "user.znode" /* what the mount shows by itself */
#define SPACE_OWN_LEN  (sizeof(SPACE_OWN) - 1)
#define NAME_BYTES_MIN (SPACE_LEN + 1)

struct xattr {
    const uint8_t *name;
    size_t name_len;
    const uint8_t *value;
    size_t value_len;
};

/* The next attribute of a row; false at its end. */
static bool next(const struct buffer *row, size_t *at, struct xattr *out)
{
    const uint8_t *from = row->data + *at;

    if (*at == row->len) {
        return false;
    }
    CHECK_OP(row->len - *at, >=, XATTR_HEAD_BYTES);
    out->name_len = get_be16(from);
    out->value_len = get_be32(from + 2);
    out->name = from + XATTR_HEAD_BYTES;
    out->value = out->name + out->name_len;
    CHECK_OP(row->len - *at - XATTR_HEAD_BYTES, >=, out->name_len + out->value_len);
    *at += XATTR_HEAD_BYTES + out->name_len + out->value_len;
    return true;
}

static void load(struct tree *tree, const struct node *node)
{
    struct row_key key = key_of_xattrs(node->attr.ino);

    if (!node->attr.has_xattrs) {
        buffer_clear(&tree->large);
        return;
    }
    CHECK(row_get(tree, &key, &tree->large));
    CHECK_OP(tree->large.len, >, XATTRS_FIRST);
    CHECK_OP(tree->large.data[XATTRS_VERSION_OF_FORMAT], ==, XATTRS_FORMAT);
}

void xattrs_each(struct tree *tree, const struct node *node, tree_xattr_fn *each, void *arg)
{
    size_t at = XATTRS_FIRST;
    struct xattr xattr;

    load(tree, node);
    while (tree->large.len != 0 && next(&tree->large, &at, &xattr)) {
        each(arg, xattr.name, xattr.name_len, xattr.value, xattr.value_len);
    }
}

static int compare(const struct xattr *a, const struct xattr *b)
{
    size_t len = a->name_len < b->name_len ? a->name_len : b->name_len;
    int order = memcmp(a->name, b->name, len);

    if (order != 0) {
        return order;
    }
    return (a->name_len > b->name_len) - (a->name_len < b->name_len);
}

static void add(struct buffer *row, const struct xattr *xattr)
{
    CHECK(buffer_append_be16(row, (uint16_t)xattr->name_len) == ERR_OK);
    CHECK(buffer_append_be32(row, (uint32_t)xattr->value_len) == ERR_OK);
    CHECK(buffer_append(row, xattr->name, xattr->name_len) == ERR_OK);
    CHECK(buffer_append(row, xattr->value, xattr->value_len) == ERR_OK);
}

/* What a row becomes. */
struct change {
    bool was_there;
    size_t count;
    size_t bytes; /* of names and values */
};

static void add_counted(struct buffer *row, const struct xattr *xattr, struct change *change)
{
    add(row, xattr);
    change->count++;
    change->bytes += xattr->name_len + xattr->value_len;
}

/* The row with the attribute set or removed, from tree->large into tree->data. */
static struct change merge(struct tree *tree, const struct xattr *new, bool remove)
{
    struct change change = {.was_there = false};
    struct buffer *row = &tree->data;
    size_t at = XATTRS_FIRST;
    struct xattr old;
    bool is_placed = remove;

    buffer_clear(row);
    CHECK(buffer_append_u8(row, XATTRS_FORMAT) == ERR_OK);
    while (tree->large.len != 0 && next(&tree->large, &at, &old)) {
        int order = compare(&old, new);
        change.was_there = change.was_there || order == 0;
        if (!is_placed && order >= 0) {
            is_placed = true;
            add_counted(row, new, &change);
        }
        if (order != 0) {
            add_counted(row, &old, &change);
        }
    }
    if (!is_placed) {
        add_counted(row, new, &change);
    }
    return change;
}

static bool name_is_valid(const Wire__XattrOp *op)
{
    const ProtobufCBinaryData *name = &op->name;

    return name->len >= NAME_BYTES_MIN && name->len <= SPACE_LEN + NAME_BYTES_MAX &&
           memcmp(name->data, SPACE, SPACE_LEN) == 0 &&
           memchr(name->data, '\0', name->len) == NULL &&
           !(name->len >= SPACE_OWN_LEN && memcmp(name->data, SPACE_OWN, SPACE_OWN_LEN) == 0);
}

static enum err check(const struct apply *apply, const struct node_attr *attr,
                      const Wire__XattrOp *op)
{
    if (!name_is_valid(op)) {
        return ERR_INVALID;
    }
    /* xattr(7): the modes of all others do not mean who may read and write. */
    if (attr->kind != NODE_FILE && !node_may_have_children(attr)) {
        return ERR_PERM;
    }
    return access_check(attr, &apply->who, ACCESS_WRITE);
}

static void store(struct apply *apply, struct node *node, size_t count)
{
    struct tree *tree = apply->tree;
    struct row_key key = key_of_xattrs(node->attr.ino);

    if (count != 0) {
        row_put(tree, &key, tree->data.data, tree->data.len);
    } else {
        row_remove(tree, &key);
    }
    node->attr.has_xattrs = count != 0;
    node->attr.ctime_ns = apply->now_ns;
    node->attr.azxid = apply->zxid;
    node_store(tree, node);
    tree_event_add(apply, CHANGE_ATTR, node);
}

enum err tree_xattr_set(struct apply *apply, const Wire__XattrOp *op)
{
    struct tree *tree = apply->tree;
    struct place *at = &tree->at;
    struct tree_address address = address_from_wire(op->at);
    struct xattr new = {.name = op->name.data,
                        .name_len = op->name.len,
                        .value = op->value.data,
                        .value_len = op->value.len};
    struct change change;
    enum err err = place_find(tree, &address, &apply->who, at);

    if (err != ERR_OK) {
        return err;
    }
    err = check(apply, &at->node->attr, op);
    if (err != ERR_OK) {
        return err;
    }
    load(tree, at->node);
    change = merge(tree, &new, op->remove);
    if (op->create && change.was_there) {
        return ERR_EXISTS;
    }
    if ((op->remove || op->replace) && !change.was_there) {
        return ERR_XATTR_NONE;
    }
    if (!op->remove && change.bytes > XATTRS_BYTES_MAX) {
        return ERR_XATTRS_FULL;
    }
    store(apply, at->node, change.count);
    apply->out->ino = at->node->attr.ino;
    apply->out->has_attr = true;
    apply->out->attr = at->node->attr;
    return ERR_OK;
}
