/* SPDX-License-Identifier: Apache-2.0
 *
 * Nodes as rows. The operations load nodes, change their attributes and store them again.
 *
 * A node's row has a fixed layout (ROW_*), then the holder, then the data while it is small. With
 * flags there is a byte for them before the holder, and the row is of another format: a row without
 * them is as it was before there were flags.
 *
 * Invariants:
 *   1. Data lies in the node's row up to DATA_INLINE_BYTES_MAX bytes, in 'D' rows above, never in
 *      both: data_bytes alone tells where.
 *   2. Every node but the root has a 'P' row that leads to its 'N' row.
 *   3. tree->data_bytes is the sum of data_bytes over all nodes.
 */
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

#define ROW_FORMAT       1u
#define ROW_FORMAT_FLAGS 2u

enum row_flag {
    FLAG_XATTRS = 1,
    FLAGS_KNOWN = FLAG_XATTRS,
};

enum row_offset {
    ROW_VERSION_OF_FORMAT = 0,
    ROW_KIND = 1,
    ROW_MODE = 2,
    ROW_UID = 4,
    ROW_GID = 8,
    ROW_RDEV = 12,
    ROW_VERSION = 16,
    ROW_AVERSION = 20,
    ROW_INO = 24,
    ROW_DATA_BYTES = 32,
    ROW_ATIME = 40,
    ROW_MTIME = 48,
    ROW_CHILDREN_MTIME = 56,
    ROW_CTIME = 64,
    ROW_BIRTH = 72,
    ROW_CZXID = 80,
    ROW_MZXID = 88,
    ROW_PZXID = 96,
    ROW_AZXID = 104,
    ROW_CREATES = 112,
    ROW_CHILDREN = 120,
    ROW_SUBDIRS = 128,
    ROW_OWNER = 136,
    ROW_HOLDER_LEN = 144,
    ROW_HOLDER = 145, /* of ROW_FORMAT */
    ROW_FLAGS = 145,  /* of ROW_FORMAT_FLAGS; the holder is behind it */
};

static void put_time(uint8_t *to, int64_t time_ns)
{
    put_be64(to, (uint64_t)time_ns);
}

static int64_t get_time(const uint8_t *from)
{
    return (int64_t)get_be64(from);
}

static void append(struct buffer *buffer, const void *bytes, size_t len)
{
    CHECK(buffer_append(buffer, bytes, len) == ERR_OK);
}

bool node_data_is_inline(uint64_t data_bytes)
{
    return data_bytes <= DATA_INLINE_BYTES_MAX;
}

static size_t holder_at(const uint8_t *row)
{
    return row[ROW_VERSION_OF_FORMAT] == ROW_FORMAT_FLAGS ? ROW_FLAGS + 1 : ROW_HOLDER;
}

static size_t data_at(const uint8_t *row)
{
    return holder_at(row) + row[ROW_HOLDER_LEN];
}

static uint8_t flags_of(const struct node_attr *attr)
{
    return attr->has_xattrs ? FLAG_XATTRS : 0;
}

/* Makes room for the flags, or takes it away, and writes format and flags. */
static void flags_encode(uint8_t flags, struct buffer *row)
{
    static const uint8_t zero;
    bool had_flags = row->data[ROW_VERSION_OF_FORMAT] == ROW_FORMAT_FLAGS;

    if (flags != 0 && !had_flags) {
        append(row, &zero, sizeof(zero));
        memmove(row->data + ROW_FLAGS + 1, row->data + ROW_FLAGS, row->len - ROW_FLAGS - 1);
    } else if (flags == 0 && had_flags) {
        memmove(row->data + ROW_FLAGS, row->data + ROW_FLAGS + 1, row->len - ROW_FLAGS - 1);
        row->len--;
    }
    row->data[ROW_VERSION_OF_FORMAT] = flags != 0 ? ROW_FORMAT_FLAGS : ROW_FORMAT;
    if (flags != 0) {
        row->data[ROW_FLAGS] = flags;
    }
}

/* As ZooKeeper 3.8 shows it: each create counts one, each removal one. */
static uint32_t cversion_of(const struct node_attr *attr)
{
    return (uint32_t)(2 * attr->creates - attr->children);
}

static void attr_encode(const struct node_attr *attr, uint8_t *row)
{
    row[ROW_KIND] = (uint8_t)attr->kind;
    put_be16(row + ROW_MODE, (uint16_t)attr->mode);
    put_be32(row + ROW_UID, attr->uid);
    put_be32(row + ROW_GID, attr->gid);
    put_be32(row + ROW_RDEV, attr->rdev);
    put_be32(row + ROW_VERSION, attr->version);
    put_be32(row + ROW_AVERSION, attr->aversion);
    put_be64(row + ROW_INO, attr->ino);
    put_be64(row + ROW_DATA_BYTES, attr->data_bytes);
    put_time(row + ROW_ATIME, attr->atime_ns);
    put_time(row + ROW_MTIME, attr->mtime_ns);
    put_time(row + ROW_CHILDREN_MTIME, attr->children_mtime_ns);
    put_time(row + ROW_CTIME, attr->ctime_ns);
    put_time(row + ROW_BIRTH, attr->birth_ns);
    put_be64(row + ROW_CZXID, attr->czxid);
    put_be64(row + ROW_MZXID, attr->mzxid);
    put_be64(row + ROW_PZXID, attr->pzxid);
    put_be64(row + ROW_AZXID, attr->azxid);
    put_be64(row + ROW_CREATES, attr->creates);
    put_be64(row + ROW_CHILDREN, attr->children);
    put_be64(row + ROW_SUBDIRS, attr->subdirs);
    put_be64(row + ROW_OWNER, attr->owner);
}

void node_attr_decode(const uint8_t *row, size_t len, uint64_t parent, struct node_attr *out)
{
    uint8_t flags = 0;

    CHECK_OP(len, >=, ROW_HOLDER);
    if (row[ROW_VERSION_OF_FORMAT] == ROW_FORMAT_FLAGS) {
        CHECK_OP(len, >, ROW_FLAGS);
        flags = row[ROW_FLAGS];
        CHECK(flags != 0 && (flags & ~FLAGS_KNOWN) == 0);
    } else {
        CHECK_OP(row[ROW_VERSION_OF_FORMAT], ==, ROW_FORMAT);
    }
    CHECK(row[ROW_KIND] > NODE_NONE && row[ROW_KIND] <= NODE_BLOCK_DEVICE);
    *out = (struct node_attr){
        .ino = get_be64(row + ROW_INO),
        .parent = parent,
        .kind = (enum node_kind)row[ROW_KIND],
        .mode = get_be16(row + ROW_MODE),
        .uid = get_be32(row + ROW_UID),
        .gid = get_be32(row + ROW_GID),
        .rdev = get_be32(row + ROW_RDEV),
        .data_bytes = get_be64(row + ROW_DATA_BYTES),
        .atime_ns = get_time(row + ROW_ATIME),
        .mtime_ns = get_time(row + ROW_MTIME),
        .children_mtime_ns = get_time(row + ROW_CHILDREN_MTIME),
        .ctime_ns = get_time(row + ROW_CTIME),
        .birth_ns = get_time(row + ROW_BIRTH),
        .czxid = get_be64(row + ROW_CZXID),
        .mzxid = get_be64(row + ROW_MZXID),
        .pzxid = get_be64(row + ROW_PZXID),
        .azxid = get_be64(row + ROW_AZXID),
        .version = get_be32(row + ROW_VERSION),
        .aversion = get_be32(row + ROW_AVERSION),
        .creates = get_be64(row + ROW_CREATES),
        .children = get_be64(row + ROW_CHILDREN),
        .subdirs = get_be64(row + ROW_SUBDIRS),
        .owner = get_be64(row + ROW_OWNER),
        .has_xattrs = (flags & FLAG_XATTRS) != 0,
    };
    out->cversion = cversion_of(out);
    CHECK_OP(len, ==, data_at(row) + (node_data_is_inline(out->data_bytes) ? out->data_bytes : 0));
}

void node_done(struct node *node)
{
    buffer_done(&node->row);
}

bool node_load_child(struct tree *tree, uint64_t parent, const uint8_t *name, size_t name_len,
                     struct node *out)
{
    struct row_key key = key_of_child(parent, name, name_len);

    if (!row_get(tree, &key, &out->row)) {
        return false;
    }
    node_attr_decode(out->row.data, out->row.len, parent, &out->attr);
    out->name.len = (uint8_t)name_len;
    memcpy(out->name.bytes, key.bytes + key.len - name_len, name_len);
    return true;
}

bool node_load(struct tree *tree, uint64_t ino, struct node *out)
{
    struct row_key key = ino == ROOT_INO ? key_of_root() : key_of_path(ino);

    if (ino == ROOT_INO) {
        CHECK(row_get(tree, &key, &out->row));
        node_attr_decode(out->row.data, out->row.len, ROOT_INO, &out->attr);
        out->name.len = 0;
        return true;
    }
    if (!row_get(tree, &key, &tree->value)) {
        return false;
    }
    CHECK(tree->value.len > 8);
    CHECK(node_load_child(tree, get_be64(tree->value.data), tree->value.data + 8,
                          tree->value.len - 8, out));
    CHECK_OP(out->attr.ino, ==, ino);
    return true;
}

bool node_parent(struct tree *tree, uint64_t ino, uint64_t *out_parent)
{
    struct row_key key = key_of_path(ino);

    *out_parent = ROOT_INO;
    if (ino == ROOT_INO) {
        return true;
    }
    if (!row_get(tree, &key, &tree->value)) {
        return false;
    }
    CHECK(tree->value.len > 8);
    *out_parent = get_be64(tree->value.data);
    return true;
}

void node_init(struct node *node, const uint8_t *holder, size_t holder_len)
{
    static const uint8_t zeros[ROW_HOLDER_LEN];
    uint8_t len = (uint8_t)holder_len;

    CHECK_OP(holder_len, <=, HOLDER_BYTES_MAX);
    node->attr = (struct node_attr){0};
    node->name.len = 0;
    buffer_clear(&node->row);
    append(&node->row, zeros, sizeof(zeros));
    append(&node->row, &len, sizeof(len));
    append(&node->row, holder, holder_len);
}

static struct row_key key_of_node(const struct node *node)
{
    return node->attr.ino == ROOT_INO
               ? key_of_root()
               : key_of_child(node->attr.parent, node->name.bytes, node->name.len);
}

void node_store(struct tree *tree, struct node *node)
{
    struct row_key key = key_of_node(node);

    CHECK_OP(node->row.len, >=, ROW_HOLDER);
    node->attr.cversion = cversion_of(&node->attr);
    flags_encode(flags_of(&node->attr), &node->row);
    attr_encode(&node->attr, node->row.data);
    row_put(tree, &key, node->row.data, node->row.len);
}

void node_store_path(struct tree *tree, const struct node *node)
{
    struct row_key key = key_of_path(node->attr.ino);
    uint8_t value[8 + NAME_BYTES_MAX];

    CHECK(node->attr.ino != ROOT_INO && node->name.len > 0);
    put_be64(value, node->attr.parent);
    memcpy(value + 8, node->name.bytes, node->name.len);
    row_put(tree, &key, value, 8u + node->name.len);
}

void node_unlink(struct tree *tree, const struct node *node)
{
    struct row_key key = key_of_node(node);

    CHECK(node->attr.ino != ROOT_INO);
    row_remove(tree, &key);
}

void node_remove(struct tree *tree, const struct node *node)
{
    struct row_key key = key_of_path(node->attr.ino);

    CHECK_OP(node->attr.children, ==, 0);
    node_unlink(tree, node);
    row_remove(tree, &key);
    data_remove(tree, node);
    if (node->attr.owner != 0) {
        key = key_of_ephemeral(node->attr.owner, node->attr.ino);
        row_remove(tree, &key);
    }
    if (node->attr.has_xattrs) {
        key = key_of_xattrs(node->attr.ino);
        row_remove(tree, &key);
    }
    CHECK(tree->node_count > 1 && tree->data_bytes >= node->attr.data_bytes);
    tree->node_count--;
    tree->data_bytes -= node->attr.data_bytes;
}

const uint8_t *node_inline_data(const struct node *node)
{
    CHECK(node_data_is_inline(node->attr.data_bytes));
    return node->row.data + data_at(node->row.data);
}

const uint8_t *node_holder(const struct node *node, size_t *out_len)
{
    *out_len = node->row.data[ROW_HOLDER_LEN];
    return node->row.data + holder_at(node->row.data);
}

void node_set_inline_data(struct node *node, const uint8_t *data, size_t len)
{
    CHECK(node_data_is_inline(len));
    node->row.len = data_at(node->row.data);
    append(&node->row, data, len);
}

bool node_may_have_children(const struct node_attr *attr)
{
    return attr->kind == NODE_DIR || attr->kind == NODE_PLAIN;
}

bool node_shows_as_dir(const struct node_attr *attr)
{
    return attr->kind == NODE_DIR ||
           (attr->kind == NODE_PLAIN && (attr->children != 0 || attr->data_bytes == 0));
}
