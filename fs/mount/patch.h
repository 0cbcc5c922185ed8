/* SPDX-License-Identifier: Apache-2.0
 *
 * The unpublished changes of one inode, as one patch: [truncate][ranges][append][times]. Pure.
 *
 * A patch is applied in that order to whatever the data is when it is published, and is kept in a
 * form in which this order gives the same as the calls did in theirs. `base_bytes` is always the
 * length of the data that lies under the patch, as known now.
 *
 * A zeroed struct patch is an empty one. Not thread safe.
 */
#ifndef QUORUMFS_PATCH_H
#define QUORUMFS_PATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/wire.h"

struct patch_range {
    uint64_t offset;
    struct buffer bytes; /* never empty */
};

struct patch {
    bool truncate; /* first set the length to truncate_bytes */
    uint64_t truncate_bytes;
    /* Invariant 1: ascending, and between two ranges lies at least one byte. */
    struct patch_range *ranges;
    size_t range_count;
    size_t range_capacity;
    struct buffer append;
    bool set_mtime; /* false: the time of the publish */
    int64_t mtime_ns;
    bool set_atime;
    int64_t atime_ns;
    bool kill_suid_sgid;
};

/* Frees what the patch holds; it is empty again. */
void patch_done(struct patch *patch);

bool patch_is_empty(const struct patch *patch);

/* Only appended bytes: may be published early, nothing half is ever seen. */
bool patch_is_append_only(const struct patch *patch);

/* False: the data afterwards does not depend on the data before. */
bool patch_needs_base(const struct patch *patch);

/* Length of the data with the patch. */
uint64_t patch_length(const struct patch *patch, uint64_t base_bytes);

/* Bytes held in memory. */
uint64_t patch_bytes(const struct patch *patch);

/* Each forgets a set mtime: times set after the last write win. ERR_FILE_TOO_BIG (length above
 * bytes_max), ERR_LIMIT (too many ranges: see patch_collapse), ERR_MEMORY change nothing that is
 * seen. */
struct patch_place {
    uint64_t base_bytes;
    uint64_t bytes_max;
};
enum err patch_truncate(struct patch *patch, struct patch_place place, uint64_t bytes);
enum err patch_write(struct patch *patch, struct patch_place place, uint64_t offset,
                     const void *bytes, size_t len);
enum err patch_append(struct patch *patch, struct patch_place place, const void *bytes, size_t len);

/* Replaces *out by the base data with the patch. ERR_MEMORY. */
enum err patch_apply(const struct patch *patch, const void *base, size_t base_bytes,
                     struct buffer *out);

/* From a part [offset, offset + len) of the base data (zeros behind its end) to the same part of the
 * data with the patch, in place. */
void patch_apply_part(const struct patch *patch, uint64_t base_bytes, uint64_t offset,
                      uint8_t *bytes, size_t len);

/* Replaces all ranges by one that holds the whole file. ERR_MEMORY changes nothing. */
enum err patch_collapse(struct patch *patch, const void *base, size_t base_bytes);

/* Fills the times and, `with_bytes`, the data of `op`; everything points into the patch but the array
 * of ranges, which the caller frees with patch_op_done. ERR_MEMORY. */
enum err patch_op(const struct patch *patch, bool with_bytes, Wire__WriteOp *op);
void patch_op_done(Wire__WriteOp *op);

/* A place in the ranges and the appended bytes; zeroed: the start. */
struct patch_cursor {
    size_t range;
    size_t range_offset;
    size_t append_offset;
};

/* Fills the data of `op` with at most bytes_max bytes from the cursor on, which moves behind them;
 * nothing at the end. As patch_op; freed by patch_part_done. ERR_MEMORY. */
enum err patch_part(const struct patch *patch, struct patch_cursor *cursor, size_t bytes_max,
                    Wire__StageOp *op);
void patch_part_done(Wire__StageOp *op);

#endif
