/* SPDX-License-Identifier: Apache-2.0
 *
 * Staged writes: parts of a patch that is too large for one entry, kept until the write that names
 * them. Handed operations by tree_apply.c; hands bytes to the patch of tree_file.c.
 *
 * A part's row: format, be32 number of ranges, each as be64 offset, be32 length and bytes; all that
 * follows is appended.
 *
 * Invariants:
 *   1. A stage has a row exactly while it has parts, and a session a row of its sum exactly while it
 *      has stages.
 *   2. No part is empty or written twice, so parts cannot be counted wrong.
 */
#include <string.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

#define STAGE_FORMAT 1u
#define PART_FORMAT  1u

enum stage_offset {
    STAGE_VERSION_OF_FORMAT = 0,
    STAGE_PART_COUNT = 1,
    STAGE_HIGHEST = 5,
    STAGE_ROW_BYTES_SUM = 9,
    STAGE_END = 17,
    STAGE_APPEND_BYTES = 25,
    STAGE_ROW_BYTES = 33,
};

enum part_offset {
    PART_VERSION_OF_FORMAT = 0,
    PART_RANGE_COUNT = 1,
    PART_RANGES = 5,
    PART_RANGE_BYTES = 12, /* of an offset and a length */
};

/* ---- what is known of a stage ---- */

void stage_load(struct tree *tree, uint64_t session, uint64_t id, struct stage *out)
{
    struct row_key key = key_of_stage(session, id);
    const uint8_t *row = NULL;

    *out = (struct stage){.session = session, .id = id};
    if (!row_get(tree, &key, &tree->value)) {
        return;
    }
    row = tree->value.data;
    CHECK_OP(tree->value.len, ==, STAGE_ROW_BYTES);
    CHECK_OP(row[STAGE_VERSION_OF_FORMAT], ==, STAGE_FORMAT);
    out->part_count = get_be32(row + STAGE_PART_COUNT);
    out->highest = get_be32(row + STAGE_HIGHEST);
    out->row_bytes = get_be64(row + STAGE_ROW_BYTES_SUM);
    out->end = get_be64(row + STAGE_END);
    out->append_bytes = get_be64(row + STAGE_APPEND_BYTES);
    CHECK(out->part_count > 0 && out->part_count - 1 <= out->highest);
}

static void stage_store(struct tree *tree, const struct stage *stage)
{
    struct row_key key = key_of_stage(stage->session, stage->id);
    uint8_t row[STAGE_ROW_BYTES];

    row[STAGE_VERSION_OF_FORMAT] = STAGE_FORMAT;
    put_be32(row + STAGE_PART_COUNT, stage->part_count);
    put_be32(row + STAGE_HIGHEST, stage->highest);
    put_be64(row + STAGE_ROW_BYTES_SUM, stage->row_bytes);
    put_be64(row + STAGE_END, stage->end);
    put_be64(row + STAGE_APPEND_BYTES, stage->append_bytes);
    row_put(tree, &key, row, sizeof(row));
}

static uint64_t staged_load(struct tree *tree, uint64_t session)
{
    struct row_key key = key_of_staged(session);

    if (!row_get(tree, &key, &tree->value)) {
        return 0;
    }
    CHECK_OP(tree->value.len, ==, 8);
    return get_be64(tree->value.data);
}

static void staged_store(struct tree *tree, uint64_t session, uint64_t bytes)
{
    struct row_key key = key_of_staged(session);
    uint8_t row[8];

    if (bytes == 0) {
        row_remove(tree, &key);
        return;
    }
    put_be64(row, bytes);
    row_put(tree, &key, row, sizeof(row));
}

/* ---- parts ---- */

static void append_bytes(struct buffer *row, const void *bytes, size_t len)
{
    CHECK(buffer_append(row, bytes, len) == ERR_OK);
}

/* The row of a part into tree->part; the stage's sums follow. */
static void part_encode(struct tree *tree, const Wire__StageOp *op, struct stage *stage)
{
    struct buffer *row = &tree->part;
    uint32_t count = 0;

    buffer_clear(row);
    CHECK(buffer_append_u8(row, PART_FORMAT) == ERR_OK);
    CHECK(buffer_append_be32(row, 0) == ERR_OK);
    for (size_t i = 0; i < op->n_ranges; i++) {
        const Wire__Range *range = op->ranges[i];
        uint64_t end = range->offset + range->data.len;
        if (range->data.len == 0) {
            continue; /* as in a patch that is not staged */
        }
        count++;
        CHECK(buffer_append_be64(row, range->offset) == ERR_OK);
        CHECK(buffer_append_be32(row, (uint32_t)range->data.len) == ERR_OK);
        append_bytes(row, range->data.data, range->data.len);
        stage->end = end > stage->end ? end : stage->end;
    }
    put_be32(row->data + PART_RANGE_COUNT, count);
    append_bytes(row, op->append.data, op->append.len);
    stage->append_bytes += op->append.len;
}

/* What does not depend on the tree. */
static enum err check_part(const Wire__StageOp *op)
{
    uint64_t bytes = op->append.len;

    if (op->part >= STAGE_PARTS_MAX) {
        return ERR_LIMIT;
    }
    for (size_t i = 0; i < op->n_ranges; i++) {
        const Wire__Range *range = op->ranges[i];
        if (range->data.len != 0 && (range->data.len > FILE_BYTES_LIMIT ||
                                     range->offset > FILE_BYTES_LIMIT - range->data.len)) {
            return ERR_FILE_TOO_BIG;
        }
        bytes += range->data.len;
    }
    return bytes == 0 ? ERR_INVALID : ERR_OK;
}

static enum err add_part(struct apply *apply, const Wire__StageOp *op)
{
    struct tree *tree = apply->tree;
    struct row_key key = key_of_part(apply->session, op->stage, op->part);
    struct stage stage;
    uint64_t staged = 0;
    uint64_t row_bytes = 0;
    enum err err = check_part(op);

    if (err != ERR_OK) {
        return err;
    }
    if (row_get(tree, &key, &tree->part)) {
        return ERR_EXISTS;
    }
    stage_load(tree, apply->session, op->stage, &stage);
    staged = staged_load(tree, apply->session);
    part_encode(tree, op, &stage);
    row_bytes = tree->part.len + STAGE_PART_BYTES;
    if (row_bytes > STAGED_BYTES_MAX - staged) {
        return ERR_LIMIT;
    }
    stage.part_count++;
    stage.highest = op->part > stage.highest ? op->part : stage.highest;
    stage.row_bytes += row_bytes;
    row_put(tree, &key, tree->part.data, tree->part.len);
    stage_store(tree, &stage);
    staged_store(tree, apply->session, staged + row_bytes);
    return ERR_OK;
}

/* ---- use ---- */

/* Loads a part and learns where its bytes go. */
static void part_load(struct tree *tree, const struct stage *stage, uint32_t number,
                      uint64_t append_at, struct stage_part *out)
{
    struct row_key key = key_of_part(stage->session, stage->id, number);
    const uint8_t *row = NULL;
    size_t at = PART_RANGES;

    CHECK(row_get(tree, &key, &tree->part) && tree->part.len > PART_RANGES);
    row = tree->part.data;
    CHECK_OP(row[PART_VERSION_OF_FORMAT], ==, PART_FORMAT);
    *out = (struct stage_part){.from = UINT64_MAX, .is_known = true};
    for (uint32_t left = get_be32(row + PART_RANGE_COUNT); left > 0; left--) {
        uint64_t from = 0;
        size_t len = 0;
        CHECK_OP(tree->part.len - at, >=, PART_RANGE_BYTES);
        from = get_be64(row + at);
        len = get_be32(row + at + 8);
        at += PART_RANGE_BYTES;
        CHECK_OP(tree->part.len - at, >=, len);
        at += len;
        out->from = from < out->from ? from : out->from;
        out->to = from + len > out->to ? from + len : out->to;
    }
    out->append_at = append_at;
    out->append_to = append_at + (tree->part.len - at);
}

/* Writes the loaded part. */
static void part_patch(const struct tree *tree, struct data_patch *patch, uint64_t append_at)
{
    const uint8_t *row = tree->part.data;
    size_t at = PART_RANGES;

    for (uint32_t left = get_be32(row + PART_RANGE_COUNT); left > 0; left--) {
        uint64_t from = get_be64(row + at);
        size_t len = get_be32(row + at + 8);
        at += PART_RANGE_BYTES;
        data_patch_write(patch, from, row + at, len);
        at += len;
    }
    data_patch_write(patch, append_at, row + at, tree->part.len - at);
}

void stage_patch(const struct stage *stage, struct data_patch *patch, uint64_t append_at,
                 struct stage_part *parts)
{
    for (uint32_t i = 0; i < stage->part_count; i++) {
        struct stage_part *part = &parts[i];
        bool is_loaded = !part->is_known;
        if (is_loaded) {
            part_load(patch->tree, stage, i, append_at, part);
        }
        append_at = part->append_to;
        if (!data_patch_overlaps(patch, part->from, part->to) &&
            !data_patch_overlaps(patch, part->append_at, part->append_to)) {
            continue;
        }
        if (!is_loaded) {
            part_load(patch->tree, stage, i, part->append_at, part);
        }
        part_patch(patch->tree, patch, part->append_at);
    }
}

/* ---- the end ---- */

static bool gather_key(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                       size_t value_len)
{
    uint8_t len = (uint8_t)key_len;

    (void)value;
    (void)value_len;
    append_bytes(arg, &len, sizeof(len));
    append_bytes(arg, key, key_len);
    return true;
}

/* Removes all rows that begin with this key. */
static void remove_below(struct tree *tree, const struct row_key *prefix)
{
    struct buffer *keys = &tree->list;

    buffer_clear(keys);
    tree->kv.scan(tree->kv.context, prefix->bytes, prefix->len, prefix->len, gather_key, keys);
    for (size_t at = 0; at < keys->len; at += 1u + keys->data[at]) {
        struct row_key key = {.len = keys->data[at]};
        CHECK(key.len <= ROW_KEY_BYTES_MAX);
        memcpy(key.bytes, keys->data + at + 1, key.len);
        row_remove(tree, &key);
    }
}

void stage_drop(struct tree *tree, const struct stage *stage)
{
    struct row_key key = key_of_stage(stage->session, stage->id);
    uint64_t staged = staged_load(tree, stage->session);

    if (stage->part_count == 0) {
        return;
    }
    CHECK_OP(staged, >=, stage->row_bytes);
    if (stage->highest == stage->part_count - 1) {
        /* All are there: no need to look, which would read them once more. */
        row_remove(tree, &key);
        for (uint32_t i = 0; i < stage->part_count; i++) {
            key = key_of_part(stage->session, stage->id, i);
            row_remove(tree, &key);
        }
    } else {
        remove_below(tree, &key);
    }
    staged_store(tree, stage->session, staged - stage->row_bytes);
}

void tree_stages_drop(struct tree *tree, uint64_t session)
{
    struct row_key key = key_of_staged(session);

    remove_below(tree, &key);
}

enum err tree_stage(struct apply *apply, const Wire__StageOp *op)
{
    struct stage stage;

    if (op->stage == 0) {
        return ERR_INVALID;
    }
    if (!op->drop) {
        return add_part(apply, op);
    }
    stage_load(apply->tree, apply->session, op->stage, &stage);
    stage_drop(apply->tree, &stage);
    return ERR_OK;
}
