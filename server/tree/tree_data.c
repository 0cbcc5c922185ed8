/* SPDX-License-Identifier: Apache-2.0
 *
 * The data of a node as rows: read in parts, and made anew in windows, so that a large file is never
 * in memory as a whole. Called by the operations that write and by the reads; hands rows to the kv.
 *
 * Data above DATA_INLINE_BYTES_MAX lies in chunks of DATA_CHUNK_BYTES, the last one shorter.
 *
 * Invariants:
 *   1. The row of chunk 0 is whole. It is all there was before there were further chunks, and stays
 *      what it was then.
 *   2. The row of a further chunk may be shorter than the chunk, or missing: the rest is zeros. It
 *      is never longer.
 *   3. There is no row of a chunk behind the end.
 */
#include <string.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

#define WINDOW_BYTES ((uint64_t)PATCH_CHUNKS * DATA_CHUNK_BYTES)

/* A window of more than this is given back when the patch is done. */
#define WINDOW_KEPT_BYTES (2u * DATA_CHUNK_BYTES)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The length of a chunk that begins at `at`, of data of this length. */
static size_t chunk_bytes(uint64_t data_bytes, uint64_t at)
{
    return at < data_bytes ? (size_t)least(data_bytes - at, DATA_CHUNK_BYTES) : 0;
}

static struct row_key key_of_chunk_at(const struct node *node, uint64_t at)
{
    return key_of_chunk(node->attr.ino, (uint32_t)(at / DATA_CHUNK_BYTES));
}

/* What is stored of a chunk; valid until another one is loaded. */
static const uint8_t *chunk_load(struct tree *tree, const struct node *node, uint64_t at,
                                 size_t *out_len)
{
    struct row_key key = key_of_chunk_at(node, at);
    size_t whole = chunk_bytes(node->attr.data_bytes, at);

    if (node_data_is_inline(node->attr.data_bytes)) {
        *out_len = whole;
        return node_inline_data(node);
    }
    (void)row_get(tree, &key, &tree->large);
    CHECK_OP(tree->large.len, <=, whole);
    CHECK(at != 0 || tree->large.len == whole);
    *out_len = tree->large.len;
    return tree->large.data;
}

enum err data_read(struct tree *tree, const struct node *node, uint64_t offset, size_t len,
                   struct buffer *out)
{
    uint8_t *to = NULL;

    if (len == 0) {
        return ERR_OK;
    }
    CHECK(len <= node->attr.data_bytes && offset <= node->attr.data_bytes - len);
    to = buffer_reserve(out, len);
    if (to == NULL) {
        return ERR_MEMORY;
    }
    out->len += len;
    while (len > 0) {
        size_t from = (size_t)(offset % DATA_CHUNK_BYTES);
        size_t step = (size_t)least(len, DATA_CHUNK_BYTES - from);
        size_t stored = 0;
        const uint8_t *chunk = chunk_load(tree, node, offset - from, &stored);
        size_t known = stored > from ? (size_t)least(stored - from, step) : 0;
        if (known != 0) {
            memcpy(to, chunk + from, known);
        }
        memset(to + known, 0, step - known);
        to += step;
        offset += step;
        len -= step;
    }
    return ERR_OK;
}

/* Removes the rows of the chunks from `at` up to the old end. */
static void remove_chunks(struct tree *tree, const struct node *node, uint64_t at)
{
    if (node_data_is_inline(node->attr.data_bytes)) {
        return;
    }
    for (; at < node->attr.data_bytes; at += DATA_CHUNK_BYTES) {
        struct row_key key = key_of_chunk_at(node, at);
        row_remove(tree, &key);
    }
}

void data_remove(struct tree *tree, const struct node *node)
{
    remove_chunks(tree, node, 0);
}

/* ---- patches ---- */

void data_patch_begin(struct data_patch *patch, struct tree *tree, struct node *node, uint64_t kept,
                      uint64_t bytes)
{
    CHECK(kept <= bytes && kept <= node->attr.data_bytes && bytes <= FILE_BYTES_LIMIT);
    *patch = (struct data_patch){.tree = tree, .node = node, .kept = kept, .bytes = bytes};
}

/* Brings a chunk of the window into memory, as it is before anything is written to it. */
static void touch(struct data_patch *patch, size_t i)
{
    uint64_t at = patch->at + (uint64_t)i * DATA_CHUNK_BYTES;
    size_t whole = chunk_bytes(patch->bytes, at);
    uint8_t *to = patch->tree->data.data + (size_t)i * DATA_CHUNK_BYTES;
    size_t known = 0;

    CHECK(i < PATCH_CHUNKS && whole != 0);
    if (patch->is_loaded[i]) {
        return;
    }
    patch->is_loaded[i] = true;
    if (at < patch->kept) {
        const uint8_t *from = chunk_load(patch->tree, patch->node, at, &known);
        known = (size_t)least(known, patch->kept - at);
        if (known != 0) {
            memcpy(to, from, known);
        }
    }
    memset(to + known, 0, whole - known);
}

/* Whether the row of a chunk does not fit the new length, even if nothing is written to it. */
static bool must_change(const struct data_patch *patch, uint64_t at)
{
    uint64_t old_bytes = patch->node->attr.data_bytes;

    if (at == 0) {
        /* Small data is always written, as it was before there were chunks: with the same rows go
         * the same digests. */
        return patch->bytes <= DATA_CHUNK_BYTES || patch->kept < DATA_CHUNK_BYTES;
    }
    /* What was cut off must not come back. */
    return at < patch->kept && patch->kept < old_bytes &&
           patch->kept < at + chunk_bytes(old_bytes, at);
}

static void window_store(struct data_patch *patch)
{
    struct tree *tree = patch->tree;
    uint64_t end = patch->at + patch->len;

    for (uint64_t at = patch->at; at < end; at += DATA_CHUNK_BYTES) {
        size_t i = (size_t)((at - patch->at) / DATA_CHUNK_BYTES);
        struct row_key key = key_of_chunk_at(patch->node, at);
        if (patch->is_loaded[i]) {
            row_put(tree, &key, tree->data.data + (at - patch->at), chunk_bytes(patch->bytes, at));
        } else if (at >= patch->kept && at < patch->node->attr.data_bytes) {
            row_remove(tree, &key); /* it has become zeros */
        }
    }
}

static void data_patch_end(struct data_patch *patch)
{
    struct tree *tree = patch->tree;
    struct node *node = patch->node;
    uint64_t stored_chunks = (patch->bytes + DATA_CHUNK_BYTES - 1) / DATA_CHUNK_BYTES;
    bool is_inline = node_data_is_inline(patch->bytes);

    remove_chunks(tree, node, is_inline ? 0 : stored_chunks * DATA_CHUNK_BYTES);
    node_set_inline_data(node, tree->data.data, is_inline ? (size_t)patch->bytes : 0);
    CHECK(tree->data_bytes >= node->attr.data_bytes);
    tree->data_bytes = tree->data_bytes - node->attr.data_bytes + patch->bytes;
    node->attr.data_bytes = patch->bytes;
    if (tree->data.capacity > WINDOW_KEPT_BYTES) {
        buffer_done(&tree->data);
    }
}

bool data_patch_next(struct data_patch *patch)
{
    if (patch->len != 0 && !node_data_is_inline(patch->bytes)) {
        window_store(patch);
    }
    patch->at += patch->len;
    if (patch->at == patch->bytes) {
        data_patch_end(patch);
        return false;
    }
    patch->len = (size_t)least(patch->bytes - patch->at, WINDOW_BYTES);
    memset(patch->is_loaded, 0, sizeof(patch->is_loaded));
    buffer_clear(&patch->tree->data);
    CHECK(buffer_reserve(&patch->tree->data, patch->len) != NULL);
    for (uint64_t at = 0; at < patch->len; at += DATA_CHUNK_BYTES) {
        if (must_change(patch, patch->at + at)) {
            touch(patch, (size_t)(at / DATA_CHUNK_BYTES));
        }
    }
    return true;
}

bool data_patch_overlaps(const struct data_patch *patch, uint64_t from, uint64_t to)
{
    return from < to && from < patch->at + patch->len && to > patch->at;
}

void data_patch_write(struct data_patch *patch, uint64_t offset, const uint8_t *data, size_t len)
{
    uint64_t end = offset + len;

    if (!data_patch_overlaps(patch, offset, end)) {
        return;
    }
    CHECK_OP(end, <=, patch->bytes);
    if (offset < patch->at) {
        data += patch->at - offset;
        offset = patch->at;
    }
    end = least(end, patch->at + patch->len);
    offset -= patch->at;
    end -= patch->at;
    for (uint64_t i = offset / DATA_CHUNK_BYTES; i * DATA_CHUNK_BYTES < end; i++) {
        touch(patch, (size_t)i);
    }
    memcpy(patch->tree->data.data + offset, data, (size_t)(end - offset));
}
