/* SPDX-License-Identifier: Apache-2.0
 *
 * A disk in memory behind struct log_io, for the tests of the log and for the simulator. It behaves
 * as badly as a real one may:
 *   - a crash keeps a random subset of the sectors written since the last fdatasync of their file,
 *     keeps or forgets its new size, and keeps a random subset of the changes of a folder since its
 *     last sync (a rename is one change);
 *   - a failed fdatasync leaves pages that look written and never will be (ATC'20, Rebello et al.);
 *   - the N-th call fails, a failed write may have written its front part; the space may end.
 * Same seed and calls, same outcome. One thread at a time, unless the caller locks.
 */
#ifndef QUORUMFS_TESTS_SIM_DISK_H
#define QUORUMFS_TESTS_SIM_DISK_H

#include <stddef.h>
#include <stdint.h>

#include "server/log/log.h"

struct sim_disk;

/* NULL: no memory. Any other lack of memory ends the program. Folders need not be made. */
struct sim_disk *sim_disk_new(uint64_t seed);
/* The same files, durable and not, and the same random state; no open descriptors, no faults. */
struct sim_disk *sim_disk_copy(const struct sim_disk *disk);
void sim_disk_free(struct sim_disk *disk);

/* Valid as long as the disk. */
const struct log_io *sim_disk_io(struct sim_disk *disk);

/* Power loss. All descriptors become invalid, fail_at is cleared. */
void sim_disk_crash(struct sim_disk *disk);
/* Power loss of the worst kind: nothing unsynced is kept. */
void sim_disk_lose_unsynced(struct sim_disk *disk);

/* ---- faults ---- */

/* The nth call from now (1: the next; close is not counted) fails once; 0: none does. */
void sim_disk_fail_at(struct sim_disk *disk, uint64_t nth, int errno_value);
/* Files can have this many bytes in all; beyond that ENOSPC. 0: no limit. */
void sim_disk_set_space(struct sim_disk *disk, uint64_t bytes);
/* Changes one bit of a file, visible and durable. */
void sim_disk_flip(struct sim_disk *disk, const char *path, uint64_t offset, unsigned bit);
/* Cuts a file to `len` bytes, visible and durable. */
void sim_disk_cut(struct sim_disk *disk, const char *path, uint64_t len);

/* ---- looking ---- */

uint64_t sim_disk_calls(const struct sim_disk *disk); /* counted calls so far */
size_t sim_disk_open_count(const struct sim_disk *disk);
uint64_t sim_disk_sync_count(const struct sim_disk *disk); /* fdatasync calls so far */
/* The visible bytes, valid until the next write or crash; NULL: no such file. */
const uint8_t *sim_disk_bytes(const struct sim_disk *disk, const char *path, uint64_t *out_len);

#endif
