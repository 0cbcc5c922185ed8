/* SPDX-License-Identifier: Apache-2.0
 *
 * Exactly once: the kept answers of a session, in a ring of SESSION_WINDOW rows, and what is asked
 * of them. Called by tree_apply.c around each operation.
 *
 * Invariants:
 *   1. A slot holds the newest sequence that was applied (or canceled) for it; it never goes back.
 *      So a command that comes again meets its own answer, or one newer than it: it is never
 *      applied a second time, even when its client broke the window.
 *   2. What is kept says what was done, not what the node looked like: attributes, and whether a lock
 *      is still waited for, are read anew.
 */
#include <string.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

#define ANSWER_FORMAT 1u

enum answer_offset {
    ANSWER_VERSION_OF_FORMAT = 0,
    ANSWER_FLAGS = 1,
    ANSWER_ERR = 2,
    ANSWER_SEQUENCE = 4,
    ANSWER_ZXID = 12,
    ANSWER_INO = 20,
    ANSWER_PARTS = 28, /* of a transaction: the results of its parts */
};

enum part_offset {
    PART_FLAGS = 0,
    PART_ERR = 1,
    PART_INO = 3,
    PART_BYTES = 11,
};

enum answer_flag {
    FLAG_HAS_NODE = 1,
    FLAG_CREATED = 2,
    FLAG_QUEUED_FLOCK = 4,
    FLAG_QUEUED_RANGE = 8,
};

static uint8_t queued_from_flags(uint8_t flags)
{
    if ((flags & FLAG_QUEUED_FLOCK) != 0) {
        return LOCK_FLOCK;
    }
    return (flags & FLAG_QUEUED_RANGE) != 0 ? LOCK_RANGE : 0;
}

static uint8_t queued_to_flags(uint8_t space)
{
    if (space == LOCK_FLOCK) {
        return FLAG_QUEUED_FLOCK;
    }
    return space == LOCK_RANGE ? FLAG_QUEUED_RANGE : 0;
}

/* What the row has behind ANSWER_PARTS. */
static void decode_parts(struct tree *tree, const struct buffer *row, struct kept_answer *out)
{
    size_t bytes = row->len - ANSWER_PARTS;

    CHECK_OP(bytes % PART_BYTES, ==, 0);
    out->part_count = bytes / PART_BYTES;
    out->parts = out->part_count != 0 ? tree_parts_reserve(tree, out->part_count) : NULL;
    for (size_t i = 0; i < out->part_count; i++) {
        const uint8_t *part = row->data + ANSWER_PARTS + i * PART_BYTES;
        out->parts[i] = (struct tree_part){
            .err = (enum err)get_be16(part + PART_ERR),
            .ino = get_be64(part + PART_INO),
            .has_attr = (part[PART_FLAGS] & FLAG_HAS_NODE) != 0,
            .created = (part[PART_FLAGS] & FLAG_CREATED) != 0,
        };
    }
}

enum err tree_answer_find(struct tree *tree, uint64_t session, uint64_t sequence,
                          struct kept_answer *out, bool *out_found)
{
    struct row_key key = key_of_answer(session, sequence);
    const uint8_t *row = NULL;

    *out_found = false;
    if (!row_get(tree, &key, &tree->value)) {
        return ERR_OK;
    }
    row = tree->value.data;
    CHECK_OP(tree->value.len, >=, ANSWER_PARTS);
    CHECK_OP(row[ANSWER_VERSION_OF_FORMAT], ==, ANSWER_FORMAT);
    *out = (struct kept_answer){
        .sequence = get_be64(row + ANSWER_SEQUENCE),
        .err = (enum err)get_be16(row + ANSWER_ERR),
        .zxid = get_be64(row + ANSWER_ZXID),
        .ino = get_be64(row + ANSWER_INO),
        .has_node = (row[ANSWER_FLAGS] & FLAG_HAS_NODE) != 0,
        .created = (row[ANSWER_FLAGS] & FLAG_CREATED) != 0,
        .queued = queued_from_flags(row[ANSWER_FLAGS]),
    };
    if (out->sequence > sequence) {
        return ERR_ANSWER_LOST;
    }
    *out_found = out->sequence == sequence;
    if (*out_found) {
        decode_parts(tree, &tree->value, out);
    }
    return ERR_OK;
}

static uint8_t flags_of(bool has_node, bool created)
{
    return (uint8_t)((has_node ? FLAG_HAS_NODE : 0) | (created ? FLAG_CREATED : 0));
}

void tree_answer_keep(struct tree *tree, uint64_t session, const struct kept_answer *kept)
{
    struct row_key key = key_of_answer(session, kept->sequence);
    size_t len = ANSWER_PARTS + kept->part_count * PART_BYTES;
    uint8_t *row = NULL;

    buffer_clear(&tree->value);
    row = buffer_reserve(&tree->value, len);
    CHECK(row != NULL);
    row[ANSWER_VERSION_OF_FORMAT] = ANSWER_FORMAT;
    row[ANSWER_FLAGS] = flags_of(kept->has_node, kept->created) | queued_to_flags(kept->queued);
    put_be16(row + ANSWER_ERR, (uint16_t)kept->err);
    put_be64(row + ANSWER_SEQUENCE, kept->sequence);
    put_be64(row + ANSWER_ZXID, kept->zxid);
    put_be64(row + ANSWER_INO, kept->ino);
    for (size_t i = 0; i < kept->part_count; i++) {
        const struct tree_part *part = &kept->parts[i];
        uint8_t *at = row + ANSWER_PARTS + i * PART_BYTES;
        at[PART_FLAGS] = flags_of(part->has_attr, part->created);
        put_be16(at + PART_ERR, (uint16_t)part->err);
        put_be64(at + PART_INO, part->ino);
    }
    row_put(tree, &key, row, len);
}

static bool gather_key(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                       size_t value_len)
{
    (void)value;
    (void)value_len;
    CHECK_OP(key_len, ==, 11);
    CHECK(buffer_append_be64(arg, get_be16(key + 9)) == ERR_OK);
    return true;
}

void tree_answers_drop(struct tree *tree, uint64_t session)
{
    struct row_key key = key_of_answer(session, 0);

    buffer_clear(&tree->list);
    tree->kv.scan(tree->kv.context, key.bytes, key.len, 9, gather_key, &tree->list);
    for (size_t i = 0; i < tree->list.len; i += 8) {
        key = key_of_answer(session, get_be64(tree->list.data + i));
        row_remove(tree, &key);
    }
}

/* The results of the parts, with what is known of their nodes now. */
static void fill_in_parts(struct apply *apply, const struct kept_answer *kept)
{
    struct place *at = &apply->tree->at;

    for (size_t i = 0; i < kept->part_count; i++) {
        struct tree_part *part = &kept->parts[i];
        part->has_attr = part->has_attr && node_load(apply->tree, part->ino, at->node);
        if (part->has_attr) {
            part->attr = at->node->attr;
        }
        if (part->has_attr && part->created) {
            part->name = at->node->name;
        }
    }
    apply->out->part_count = kept->part_count;
    apply->out->parts = kept->parts;
}

/* What is known of the node of an answer that is given again, or of a cancel. */
static void fill_in(struct apply *apply, const struct kept_answer *kept)
{
    struct tree_result *out = apply->out;
    struct place *at = &apply->tree->at;

    out->err = kept->err;
    out->zxid = kept->zxid;
    out->ino = kept->ino;
    if (kept->queued != 0) {
        out->queued =
            tree_lock_waits(apply->tree, kept->ino, (enum lock_space)kept->queued, kept->zxid);
    }
    place_init(at);
    fill_in_parts(apply, kept);
    if (!kept->has_node || !node_load(apply->tree, kept->ino, at->node)) {
        return;
    }
    at->has_node = true;
    out->has_attr = true;
    out->attr = at->node->attr;
    place_load_parent(apply->tree, at);
    if (at->has_parent) {
        out->has_parent_attr = true;
        out->parent_attr = at->parent->attr;
    }
    if (kept->created) {
        out->name = at->node->name;
    }
}

void tree_answer_replay(struct apply *apply, const struct kept_answer *kept)
{
    apply->out->replayed = true;
    fill_in(apply, kept);
}

/* Takes a create back, if what it made is still there and nothing has been put into it. */
static bool undo_create(struct apply *apply, const struct kept_answer *kept)
{
    struct place *at = &apply->tree->at;

    place_init(at);
    if (kept->err != ERR_OK || !kept->created || !node_load(apply->tree, kept->ino, at->node)) {
        return false;
    }
    at->has_node = true;
    if (at->node->attr.czxid != kept->zxid || at->node->attr.children != 0) {
        return false;
    }
    place_load_parent(apply->tree, at);
    tree_dir_drop(apply, at->node, at->parent);
    return true;
}

enum err tree_answer_cancel(struct apply *apply, const Wire__CancelOp *op)
{
    struct kept_answer kept;
    bool found = false;
    enum err err = ERR_OK;

    if (op->sequence == 0 || op->sequence >= apply->out->sequence) {
        return ERR_INVALID;
    }
    err = tree_answer_find(apply->tree, apply->session, op->sequence, &kept, &found);
    if (err != ERR_OK) {
        return err;
    }
    if (found && !undo_create(apply, &kept)) {
        fill_in(apply, &kept);
        return kept.err;
    }
    /* A command that arrives later finds this in its place. */
    kept = (struct kept_answer){.sequence = op->sequence, .err = ERR_CANCELED, .zxid = apply->zxid};
    tree_answer_keep(apply->tree, apply->session, &kept);
    return ERR_CANCELED;
}
