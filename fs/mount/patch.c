/* SPDX-License-Identifier: Apache-2.0
 *
 * Keeps what programs on this host have written to a file and nobody else has seen. Handed writes
 * by ops_file.c and ops_attr.c; publish.c hands it on as one WriteOp.
 *
 * Invariant 1 (see patch.h) makes the order of the ranges meaningless and their number small.
 * Invariant 2: appended bytes are the newest change. A write or truncate behind them first turns
 * them into a range at the place where they end up on the data known now.
 */
#include "fs/mount/patch.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"

static uint64_t range_end(const struct patch_range *range)
{
    return range->offset + range->bytes.len;
}

void patch_done(struct patch *patch)
{
    for (size_t i = 0; i < patch->range_count; i++) {
        buffer_done(&patch->ranges[i].bytes);
    }
    free(patch->ranges);
    buffer_done(&patch->append);
    *patch = (struct patch){0};
}

bool patch_is_empty(const struct patch *patch)
{
    return !patch->truncate && patch->range_count == 0 && patch->append.len == 0 &&
           !patch->set_mtime && !patch->set_atime && !patch->kill_suid_sgid;
}

bool patch_is_append_only(const struct patch *patch)
{
    return !patch->truncate && patch->range_count == 0 && patch->append.len > 0;
}

bool patch_needs_base(const struct patch *patch)
{
    return !patch->truncate || patch->truncate_bytes > 0;
}

/* The length without the appended bytes. */
static uint64_t length_before_append(const struct patch *patch, uint64_t base_bytes)
{
    uint64_t length = patch->truncate ? patch->truncate_bytes : base_bytes;
    if (patch->range_count > 0) {
        uint64_t end = range_end(&patch->ranges[patch->range_count - 1]);
        length = end > length ? end : length;
    }
    return length;
}

uint64_t patch_length(const struct patch *patch, uint64_t base_bytes)
{
    return length_before_append(patch, base_bytes) + patch->append.len;
}

uint64_t patch_bytes(const struct patch *patch)
{
    uint64_t bytes = patch->append.len;
    for (size_t i = 0; i < patch->range_count; i++) {
        bytes += patch->ranges[i].bytes.len;
    }
    return bytes;
}

/* ---- ranges ---- */

/* The first range that ends at or behind `offset`: the first that touches a write there. */
static size_t range_find(const struct patch *patch, uint64_t offset)
{
    size_t low = 0;
    size_t high = patch->range_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (range_end(&patch->ranges[middle]) < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum err range_insert(struct patch *patch, size_t at, uint64_t offset, const void *bytes,
                             size_t len)
{
    if (patch->range_count >= PATCH_RANGES_MAX) {
        return ERR_LIMIT;
    }
    if (patch->range_count == patch->range_capacity) {
        size_t capacity = patch->range_capacity == 0 ? 4 : patch->range_capacity * 2;
        struct patch_range *ranges = realloc(patch->ranges, capacity * sizeof *ranges);
        if (ranges == NULL) {
            return ERR_MEMORY;
        }
        patch->ranges = ranges;
        patch->range_capacity = capacity;
    }
    struct buffer copy = {0};
    enum err err = buffer_append(&copy, bytes, len);
    if (err != ERR_OK) {
        return err;
    }
    memmove(&patch->ranges[at + 1], &patch->ranges[at],
            (patch->range_count - at) * sizeof *patch->ranges);
    patch->ranges[at] = (struct patch_range){.offset = offset, .bytes = copy};
    patch->range_count++;
    return ERR_OK;
}

/* The write begins in or at the end of the range and touches no other: the usual case. */
static enum err range_extend(struct patch_range *range, uint64_t offset, const void *bytes,
                             size_t len)
{
    size_t start = (size_t)(offset - range->offset);
    CHECK_OP(start, <=, range->bytes.len);
    if (start + len > range->bytes.len) {
        size_t more = start + len - range->bytes.len;
        if (buffer_reserve(&range->bytes, more) == NULL) {
            return ERR_MEMORY;
        }
        range->bytes.len += more;
    }
    memcpy(range->bytes.data + start, bytes, len);
    return ERR_OK;
}

/* Melts the ranges [first, last) and the write into one. */
static enum err range_melt(struct patch *patch, size_t first, size_t last, uint64_t offset,
                           const struct buffer *bytes)
{
    struct patch_range *ranges = patch->ranges;
    uint64_t start = ranges[first].offset < offset ? ranges[first].offset : offset;
    uint64_t end = range_end(&ranges[last - 1]);
    end = end > offset + bytes->len ? end : offset + bytes->len;

    struct buffer melted = {0};
    uint8_t *to = buffer_reserve(&melted, (size_t)(end - start));
    if (to == NULL) {
        return ERR_MEMORY;
    }
    melted.len = (size_t)(end - start);
    for (size_t i = first; i < last; i++) {
        memcpy(to + (ranges[i].offset - start), ranges[i].bytes.data, ranges[i].bytes.len);
        buffer_done(&ranges[i].bytes);
    }
    memcpy(to + (offset - start), bytes->data, bytes->len);
    ranges[first] = (struct patch_range){.offset = start, .bytes = melted};
    memmove(&ranges[first + 1], &ranges[last], (patch->range_count - last) * sizeof *ranges);
    patch->range_count -= last - first - 1;
    return ERR_OK;
}

static enum err range_write(struct patch *patch, uint64_t offset, const void *bytes, size_t len)
{
    size_t first = range_find(patch, offset);
    size_t last = first;
    while (last < patch->range_count && patch->ranges[last].offset <= offset + len) {
        last++;
    }
    if (first == last) {
        return range_insert(patch, first, offset, bytes, len);
    }
    if (last == first + 1 && patch->ranges[first].offset <= offset) {
        return range_extend(&patch->ranges[first], offset, bytes, len);
    }
    const struct buffer view = {.data = (uint8_t *)(uintptr_t)bytes, .len = len};
    return range_melt(patch, first, last, offset, &view);
}

/* Drops what lies at and behind `bytes`. */
static void ranges_clip(struct patch *patch, uint64_t bytes)
{
    while (patch->range_count > 0) {
        struct patch_range *range = &patch->ranges[patch->range_count - 1];
        if (range->offset < bytes) {
            if (range_end(range) > bytes) {
                range->bytes.len = (size_t)(bytes - range->offset);
            }
            return;
        }
        buffer_done(&range->bytes);
        patch->range_count--;
    }
}

/* Keeps invariant 2. */
static enum err append_fold(struct patch *patch, uint64_t base_bytes)
{
    if (patch->append.len == 0) {
        return ERR_OK;
    }
    enum err err = range_write(patch, length_before_append(patch, base_bytes), patch->append.data,
                               patch->append.len);
    if (err == ERR_OK) {
        buffer_done(&patch->append);
    }
    return err;
}

/* ---- changes ---- */

enum err patch_truncate(struct patch *patch, struct patch_place place, uint64_t bytes)
{
    if (bytes > place.bytes_max) {
        return ERR_FILE_TOO_BIG;
    }
    if (bytes == 0) {
        buffer_done(&patch->append);
    }
    enum err err = append_fold(patch, place.base_bytes);
    if (err != ERR_OK) {
        return err;
    }
    ranges_clip(patch, bytes);
    if (!patch->truncate || bytes < patch->truncate_bytes) {
        patch->truncate = true;
        patch->truncate_bytes = bytes;
    }
    if (bytes > patch_length(patch, place.base_bytes)) {
        /* Longer than a length that was set before: one zero at the new end says so. */
        static const uint8_t zero = 0;
        err = range_write(patch, bytes - 1, &zero, 1);
        if (err != ERR_OK) {
            return err;
        }
    }
    patch->set_mtime = false;
    return ERR_OK;
}

enum err patch_write(struct patch *patch, struct patch_place place, uint64_t offset,
                     const void *bytes, size_t len)
{
    if (len == 0) {
        return ERR_OK;
    }
    if (offset > place.bytes_max || len > place.bytes_max - offset) {
        return ERR_FILE_TOO_BIG;
    }
    enum err err = append_fold(patch, place.base_bytes);
    if (err == ERR_OK) {
        err = range_write(patch, offset, bytes, len);
    }
    if (err == ERR_OK) {
        patch->set_mtime = false;
    }
    return err;
}

enum err patch_append(struct patch *patch, struct patch_place place, const void *bytes, size_t len)
{
    if (len == 0) {
        return ERR_OK;
    }
    uint64_t length = patch_length(patch, place.base_bytes);
    if (length > place.bytes_max || len > place.bytes_max - length) {
        return ERR_FILE_TOO_BIG;
    }
    enum err err = buffer_append(&patch->append, bytes, len);
    if (err == ERR_OK) {
        patch->set_mtime = false;
    }
    return err;
}

/* Lengthens with zeros to `len`, if shorter. */
static enum err buffer_lengthen(struct buffer *buffer, size_t len)
{
    if (buffer->len < len) {
        uint8_t *to = buffer_reserve(buffer, len - buffer->len);
        if (to == NULL) {
            return ERR_MEMORY;
        }
        memset(to, 0, len - buffer->len);
        buffer->len = len;
    }
    return ERR_OK;
}

enum err patch_apply(const struct patch *patch, const void *base, size_t base_bytes,
                     struct buffer *out)
{
    buffer_clear(out);
    size_t length = (size_t)patch_length(patch, base_bytes);
    if (length > 0 && buffer_reserve(out, length) == NULL) {
        return ERR_MEMORY;
    }
    size_t start = patch->truncate ? (size_t)patch->truncate_bytes : base_bytes;
    enum err err = buffer_append(out, base, start < base_bytes ? start : base_bytes);
    if (err == ERR_OK) {
        err = buffer_lengthen(out, start);
    }
    for (size_t i = 0; i < patch->range_count && err == ERR_OK; i++) {
        const struct patch_range *range = &patch->ranges[i];
        err = buffer_lengthen(out, (size_t)range_end(range));
        if (err == ERR_OK) {
            memcpy(out->data + range->offset, range->bytes.data, range->bytes.len);
        }
    }
    if (err == ERR_OK) {
        err = buffer_append(out, patch->append.data, patch->append.len);
    }
    CHECK(err != ERR_OK || out->len == length);
    return err;
}

/* Copies the common bytes of [from, from + from_len) and of the part. */
static void overlay(uint64_t offset, uint8_t *bytes, size_t len, uint64_t from,
                    const struct buffer *data)
{
    uint64_t begin = from > offset ? from : offset;
    uint64_t end = from + data->len < offset + len ? from + data->len : offset + len;
    if (begin < end) {
        memcpy(bytes + (begin - offset), data->data + (begin - from), (size_t)(end - begin));
    }
}

void patch_apply_part(const struct patch *patch, uint64_t base_bytes, uint64_t offset,
                      uint8_t *bytes, size_t len)
{
    if (patch->truncate && patch->truncate_bytes < offset + len) {
        uint64_t kept = patch->truncate_bytes > offset ? patch->truncate_bytes - offset : 0;
        memset(bytes + kept, 0, len - (size_t)kept);
    }
    for (size_t i = range_find(patch, offset); i < patch->range_count; i++) {
        if (patch->ranges[i].offset >= offset + len) {
            break;
        }
        overlay(offset, bytes, len, patch->ranges[i].offset, &patch->ranges[i].bytes);
    }
    overlay(offset, bytes, len, length_before_append(patch, base_bytes), &patch->append);
}

enum err patch_collapse(struct patch *patch, const void *base, size_t base_bytes)
{
    struct patch whole = {.truncate = true,
                          .set_mtime = patch->set_mtime,
                          .mtime_ns = patch->mtime_ns,
                          .set_atime = patch->set_atime,
                          .atime_ns = patch->atime_ns,
                          .kill_suid_sgid = patch->kill_suid_sgid};
    struct buffer content = {0};
    enum err err = patch_apply(patch, base, base_bytes, &content);
    if (err == ERR_OK && content.len > 0) {
        err = range_insert(&whole, 0, 0, content.data, content.len);
    }
    buffer_done(&content);
    if (err != ERR_OK) {
        patch_done(&whole);
        return err;
    }
    patch_done(patch);
    *patch = whole;
    return ERR_OK;
}

/* ---- wire ---- */

/* Room for so many ranges in one block: the pointers, and behind them what they point at. */
static Wire__Range **ranges_new(size_t count)
{
    return malloc(count * (sizeof(Wire__Range *) + sizeof(Wire__Range)));
}

/* Fills the n-th of `count` ranges. */
static void ranges_set(Wire__Range **ranges, size_t count, size_t n, uint64_t offset,
                       ProtobufCBinaryData data)
{
    Wire__Range *range = (Wire__Range *)(void *)(ranges + count) + n;
    wire__range__init(range);
    range->offset = offset;
    range->data = data;
    ranges[n] = range;
}

enum err patch_op(const struct patch *patch, bool with_bytes, Wire__WriteOp *op)
{
    size_t count = with_bytes ? patch->range_count : 0;
    op->truncate = patch->truncate;
    op->truncate_bytes = patch->truncate_bytes;
    op->set_mtime = patch->set_mtime;
    op->mtime_ns = patch->mtime_ns;
    op->set_atime = patch->set_atime;
    op->atime_ns = patch->atime_ns;
    op->kill_suid_sgid = patch->kill_suid_sgid;
    op->n_ranges = 0;
    op->ranges = NULL;
    if (with_bytes) {
        op->append = wire_bytes(patch->append.data, patch->append.len);
    }
    if (count == 0) {
        return ERR_OK;
    }
    op->ranges = ranges_new(count);
    if (op->ranges == NULL) {
        return ERR_MEMORY;
    }
    for (size_t i = 0; i < count; i++) {
        ranges_set(op->ranges, count, i, patch->ranges[i].offset,
                   wire_bytes(patch->ranges[i].bytes.data, patch->ranges[i].bytes.len));
    }
    op->n_ranges = count;
    return ERR_OK;
}

void patch_op_done(Wire__WriteOp *op)
{
    free(op->ranges);
    op->ranges = NULL;
    op->n_ranges = 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

enum err patch_part(const struct patch *patch, struct patch_cursor *cursor, size_t bytes_max,
                    Wire__StageOp *op)
{
    size_t left = bytes_max;
    size_t count = patch->range_count - cursor->range;
    op->n_ranges = 0;
    op->ranges = NULL;
    if (count > 0) {
        op->ranges = ranges_new(count);
        if (op->ranges == NULL) {
            return ERR_MEMORY;
        }
    }
    while (op->n_ranges < count && left > 0) {
        const struct patch_range *range = &patch->ranges[cursor->range];
        size_t len = smaller(range->bytes.len - cursor->range_offset, left);
        ranges_set(op->ranges, count, op->n_ranges++, range->offset + cursor->range_offset,
                   wire_bytes(range->bytes.data + cursor->range_offset, len));
        left -= len;
        cursor->range_offset += len;
        if (cursor->range_offset == range->bytes.len) {
            cursor->range++;
            cursor->range_offset = 0;
        }
    }
    size_t len = smaller(patch->append.len - cursor->append_offset, left);
    if (len > 0) {
        op->append = wire_bytes(patch->append.data + cursor->append_offset, len);
        cursor->append_offset += len;
    }
    return ERR_OK;
}

void patch_part_done(Wire__StageOp *op)
{
    free(op->ranges);
    op->ranges = NULL;
    op->n_ranges = 0;
}
