/* SPDX-License-Identifier: Apache-2.0
 *
 * Several changes as one: all or none. Handed the operation by tree_apply.c; hands each part to the
 * file that knows it, and takes all back if one fails.
 *
 * Invariant: a multi that failed has changed neither a row, nor a counter, nor the digest, and has
 * told no change.
 */
#include <stdlib.h>

#include "common/check.h"
#include "common/omap.h"
#include "server/tree/tree_internal.h"

/* What was there before the first part. */
struct tree_undo {
    struct omap *rows; /* by key: as it was before it was first written; deleted: there was none */
    uint64_t digest;
    uint64_t next_ino;
    uint64_t node_count;
    uint64_t data_bytes;
    struct buffer value;
};

void undo_note(struct tree *tree, const struct row_key *key)
{
    struct tree_undo *undo = tree->undo;

    if (omap_get(undo->rows, key->bytes, key->len) != NULL) {
        return;
    }
    bool was_there = tree->kv.get(tree->kv.context, key->bytes, key->len, &undo->value);
    /* A value of no bytes is a value. */
    const void *value = undo->value.len != 0 ? (const void *)undo->value.data : "";
    CHECK(omap_put(undo->rows, key->bytes, key->len, was_there ? value : NULL, undo->value.len) ==
          ERR_OK);
}

static void begin(struct tree *tree, struct tree_undo *undo)
{
    *undo = (struct tree_undo){
        .rows = omap_new(),
        .digest = tree->digest,
        .next_ino = tree->next_ino,
        .node_count = tree->node_count,
        .data_bytes = tree->data_bytes,
    };
    CHECK(undo->rows != NULL);
    tree->undo = undo;
}

static void end(struct tree *tree)
{
    omap_free(tree->undo->rows);
    buffer_done(&tree->undo->value);
    tree->undo = NULL;
}

static void roll_back(struct tree *tree)
{
    const struct tree_undo *undo = tree->undo;
    const struct omap_entry *row = omap_seek(undo->rows, NULL, 0);

    for (; row != NULL; row = omap_next(undo->rows, row)) {
        if (row->deleted) {
            tree->kv.remove(tree->kv.context, row->key, row->key_len);
        } else {
            tree->kv.put(tree->kv.context, row->key, row->key_len, row->value, row->value_len);
        }
    }
    tree->digest = undo->digest;
    tree->next_ino = undo->next_ino;
    tree->node_count = undo->node_count;
    tree->data_bytes = undo->data_bytes;
    tree_event_clear(tree);
}

static enum err check(struct apply *apply, const Wire__CheckOp *op)
{
    struct place *at = &apply->tree->at;
    struct tree_address address = address_from_wire(op->at);
    enum err err = place_find(apply->tree, &address, &apply->who, at);

    if (err == ERR_OK && op->if_version && op->version != at->node->attr.version) {
        err = ERR_BAD_VERSION;
    }
    if (err == ERR_OK) {
        apply->out->ino = at->node->attr.ino;
        apply->out->has_attr = true;
        apply->out->attr = at->node->attr;
    }
    return err;
}

static enum err apply_part(struct apply *apply, const Wire__Part *part)
{
    switch (part->body_case) {
    case WIRE__PART__BODY_CREATE:
        return tree_dir_create(apply, part->create);
    case WIRE__PART__BODY_WRITE:
        return tree_file_write(apply, part->write);
    case WIRE__PART__BODY_SETATTR:
        return tree_attr_set(apply, part->setattr);
    case WIRE__PART__BODY_REMOVE:
        return tree_dir_remove(apply, part->remove);
    case WIRE__PART__BODY_RENAME:
        return tree_rename(apply, part->rename);
    case WIRE__PART__BODY_XATTR:
        return tree_xattr_set(apply, part->xattr);
    case WIRE__PART__BODY_CHECK:
        return check(apply, part->check);
    case WIRE__PART__BODY__NOT_SET:
    case _WIRE__PART__BODY__CASE_IS_INT_SIZE:
        break;
    }
    /* The decoder let it through. */
    check_failed(__FILE__, __LINE__, "known part", (int64_t)part->body_case, 0);
}

static void take_result(const struct tree_result *result, enum err err, struct tree_part *out)
{
    *out = (struct tree_part){
        .err = err,
        .ino = result->ino,
        .has_attr = err == ERR_OK && result->has_attr,
        .created = err == ERR_OK && result->name.len != 0,
        .attr = result->attr,
        .name = result->name,
    };
}

/* Room for the results, which live until the next multi or the end of the tree. */
struct tree_part *tree_parts_reserve(struct tree *tree, size_t count)
{
    free(tree->parts);
    tree->parts = calloc(count, sizeof(*tree->parts));
    CHECK(tree->parts != NULL);
    return tree->parts;
}

enum err tree_multi(struct apply *apply, const Wire__MultiOp *op)
{
    struct tree *tree = apply->tree;
    struct tree_part *parts = tree_parts_reserve(tree, op->n_parts);
    struct tree_undo undo;
    enum err err = ERR_OK;
    size_t tried = 0;

    begin(tree, &undo);
    while (tried < op->n_parts && err == ERR_OK) {
        struct tree_result result = {.zxid = apply->zxid};
        struct apply one = *apply;
        one.out = &result;
        err = apply_part(&one, op->parts[tried]);
        take_result(&result, err, &parts[tried]);
        tried++;
    }
    if (err != ERR_OK) {
        roll_back(tree);
        for (size_t i = 0; i < op->n_parts; i++) {
            if (i + 1 != tried) {
                parts[i] = (struct tree_part){.err = i < tried ? ERR_ROLLED_BACK : ERR_NOT_TRIED};
            }
        }
    }
    end(tree);
    if (op->n_parts == 1) {
        apply->out->ino = parts[0].ino;
        apply->out->has_attr = parts[0].has_attr;
        apply->out->attr = parts[0].attr;
        apply->out->name = parts[0].name;
    }
    apply->out->part_count = op->n_parts;
    apply->out->parts = parts;
    return err;
}
