/* SPDX-License-Identifier: Apache-2.0
 *
 * The data of a node: the patch that a mount publishes as one entry. Handed operations by
 * tree_apply.c.
 *
 * Invariant: no node ever has more than FILE_BYTES_MAX bytes; a patch that would pass it on the way
 * is refused as a whole.
 */
#include <string.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

/* The length after the patch, unless it, or one on the way, is too great. */
static enum err measure(const Wire__WriteOp *op, uint64_t old_bytes, uint64_t *out_bytes)
{
    uint64_t bytes = op->truncate ? op->truncate_bytes : old_bytes;

    if (bytes > FILE_BYTES_MAX) {
        return ERR_FILE_TOO_BIG;
    }
    for (size_t i = 0; i < op->n_ranges; i++) {
        const Wire__Range *range = op->ranges[i];
        if (range->data.len == 0) {
            continue; /* as write(2) of nothing: it does not even make the file longer */
        }
        if (range->data.len > FILE_BYTES_MAX || range->offset > FILE_BYTES_MAX - range->data.len) {
            return ERR_FILE_TOO_BIG;
        }
        if (range->offset + range->data.len > bytes) {
            bytes = range->offset + range->data.len;
        }
    }
    if (op->append.len > FILE_BYTES_MAX - bytes) {
        return ERR_FILE_TOO_BIG;
    }
    *out_bytes = bytes + op->append.len;
    return ERR_OK;
}

/* The data after the patch, into tree->data; `bytes` is what measure() found. */
static void patch(struct tree *tree, const struct node *node, const Wire__WriteOp *op,
                  uint64_t bytes)
{
    struct buffer *data = &tree->data;
    uint64_t kept = node->attr.data_bytes;
    uint8_t *to = NULL;

    if (op->truncate && op->truncate_bytes < kept) {
        kept = op->truncate_bytes;
    }
    buffer_clear(data);
    to = buffer_reserve(data, bytes);
    CHECK(to != NULL && kept <= bytes);
    if (kept != 0) {
        memcpy(to, node_data(tree, node), kept);
    }
    memset(to + kept, 0, bytes - kept);
    for (size_t i = 0; i < op->n_ranges; i++) {
        const Wire__Range *range = op->ranges[i];
        if (range->data.len != 0) {
            memcpy(to + range->offset, range->data.data, range->data.len);
        }
    }
    if (op->append.len != 0) {
        memcpy(to + bytes - op->append.len, op->append.data, op->append.len);
    }
    data->len = bytes;
}

static void change_attr(const struct apply *apply, struct node_attr *attr, const Wire__WriteOp *op)
{
    attr->mtime_ns = op->set_mtime ? op->mtime_ns : apply->now_ns;
    if (op->set_atime) {
        attr->atime_ns = op->atime_ns;
    }
    attr->ctime_ns = apply->now_ns;
    attr->mzxid = apply->zxid;
    attr->azxid = apply->zxid;
    attr->version++;
    /* Linux, should_remove_suid(): without the right to execute for the group, the bit marks
     * mandatory locking. */
    if ((op->kill_suid_sgid || !apply->who.trusted) && attr->kind != NODE_DIR) {
        attr->mode &= ~MODE_SETUID;
        if ((attr->mode & MODE_GROUP_EXECS) != 0) {
            attr->mode &= ~MODE_SETGID;
        }
    }
}

enum err tree_file_write(struct apply *apply, const Wire__WriteOp *op)
{
    struct tree *tree = apply->tree;
    struct place *at = &tree->at;
    struct tree_address address = address_from_wire(op->at);
    uint64_t bytes = 0;
    enum err err = place_find(tree, &address, &apply->who, at);

    if (err != ERR_OK) {
        return err;
    }
    if (at->node->attr.kind != NODE_FILE && !node_may_have_children(&at->node->attr)) {
        return ERR_INVALID;
    }
    err = access_check(&at->node->attr, &apply->who, ACCESS_WRITE);
    if (err != ERR_OK) {
        return err;
    }
    if (op->if_version && op->version != at->node->attr.version) {
        return ERR_BAD_VERSION;
    }
    err = measure(op, at->node->attr.data_bytes, &bytes);
    if (err != ERR_OK) {
        return err;
    }
    patch(tree, at->node, op, bytes);
    node_set_data(tree, at->node, tree->data.data, tree->data.len);
    change_attr(apply, &at->node->attr, op);
    node_store(tree, at->node);
    tree_event_add(apply, CHANGE_DATA, at->node);
    apply->out->ino = at->node->attr.ino;
    apply->out->has_attr = true;
    apply->out->attr = at->node->attr;
    return ERR_OK;
}
