/* SPDX-License-Identifier: Apache-2.0
 *
 * The data of a node: the patch that a mount publishes as one entry, perhaps with parts that were
 * staged before. Handed operations by tree_apply.c.
 *
 * Invariant: no node ever has more than FILE_BYTES_LIMIT bytes; a patch that would make it longer
 * than it may be is refused as a whole.
 */
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/version.h"
#include "server/tree/tree_internal.h"

/* How long the data is on its way through a patch. */
struct lengths {
    uint64_t kept;      /* of the old data */
    uint64_t append_at; /* when all but the appended bytes is written */
    uint64_t bytes;     /* at the end */
};

/* The lengths, unless one is too great: FILE_TOO_BIG. What was longer than it may be now, as another
 * replica allowed more, may stay so. */
static enum err measure(const Wire__WriteOp *op, const struct stage *stage, uint64_t old_bytes,
                        struct lengths *out)
{
    uint64_t bytes = op->truncate ? op->truncate_bytes : old_bytes;
    uint64_t bytes_max = op->bytes_max != 0 ? op->bytes_max : FILE_BYTES_MAX;

    bytes_max = old_bytes > bytes_max ? old_bytes : bytes_max;
    out->kept = bytes < old_bytes ? bytes : old_bytes;
    for (size_t i = 0; i < op->n_ranges; i++) {
        const Wire__Range *range = op->ranges[i];
        if (range->data.len == 0) {
            continue; /* as write(2) of nothing: it does not even make the file longer */
        }
        if (range->data.len > bytes_max || range->offset > bytes_max - range->data.len) {
            return ERR_FILE_TOO_BIG;
        }
        if (range->offset + range->data.len > bytes) {
            bytes = range->offset + range->data.len;
        }
    }
    bytes = stage->end > bytes ? stage->end : bytes;
    if (bytes > bytes_max || stage->append_bytes > bytes_max - bytes ||
        op->append.len > bytes_max - bytes - stage->append_bytes) {
        return ERR_FILE_TOO_BIG;
    }
    out->append_at = bytes;
    out->bytes = bytes + stage->append_bytes + op->append.len;
    return ERR_OK;
}

static void patch(struct tree *tree, struct node *node, const Wire__WriteOp *op,
                  const struct stage *stage, const struct lengths *lengths)
{
    struct stage_part *parts = NULL;
    struct data_patch patch;

    if (stage->part_count != 0) {
        parts = calloc(stage->part_count, sizeof(*parts));
        CHECK(parts != NULL);
    }
    data_patch_begin(&patch, tree, node, lengths->kept, lengths->bytes);
    while (data_patch_next(&patch)) {
        stage_patch(stage, &patch, lengths->append_at, parts);
        for (size_t i = 0; i < op->n_ranges; i++) {
            const Wire__Range *range = op->ranges[i];
            data_patch_write(&patch, range->offset, range->data.data, range->data.len);
        }
        data_patch_write(&patch, lengths->append_at + stage->append_bytes, op->append.data,
                         op->append.len);
    }
    free(parts);
}

/* The stage that the patch names, whole; none if it names none. */
static enum err find_stage(struct apply *apply, const Wire__WriteOp *op, struct stage *out)
{
    *out = (struct stage){0};
    if (op->stage == 0) {
        return ERR_OK;
    }
    stage_load(apply->tree, apply->session, op->stage, out);
    return out->part_count == op->stage_parts && out->highest == op->stage_parts - 1
               ? ERR_OK
               : ERR_STAGE_LOST;
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
    /* Linux, setattr_should_drop_sgid(): who is not of the group takes the bit away also where the
     * group may not execute. Before that level it stayed there. */
    bool all = apply->tree->feature_level >= FEATURE_FILES;
    if ((op->kill_suid_sgid || !apply->who.trusted) && attr->kind != NODE_DIR) {
        attr->mode &= ~MODE_SETUID;
        if (all || (attr->mode & MODE_GROUP_EXECS) != 0) {
            attr->mode &= ~MODE_SETGID;
        }
    }
}

enum err tree_file_write(struct apply *apply, const Wire__WriteOp *op)
{
    struct tree *tree = apply->tree;
    struct place *at = &tree->at;
    struct tree_address address = address_from_wire(op->at);
    struct stage stage;
    struct lengths lengths;
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
    err = find_stage(apply, op, &stage);
    if (err != ERR_OK) {
        return err;
    }
    err = measure(op, &stage, at->node->attr.data_bytes, &lengths);
    if (err != ERR_OK) {
        return err;
    }
    patch(tree, at->node, op, &stage, &lengths);
    stage_drop(tree, &stage);
    change_attr(apply, &at->node->attr, op);
    node_store(tree, at->node);
    tree_event_add(apply, CHANGE_DATA, at->node)->truncated = op->truncate;
    apply->out->ino = at->node->attr.ino;
    apply->out->has_attr = true;
    apply->out->attr = at->node->attr;
    return ERR_OK;
}
