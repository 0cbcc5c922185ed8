/* SPDX-License-Identifier: Apache-2.0
 *
 * The data folder of a replica: its lock and its identity file.
 *
 *     DATA/lock        held with flock by the running replica
 *     DATA/identity    who this replica is (struct replica_identity), with a checksum
 *     DATA/log/        server/log
 *     DATA/store/      server/store
 *
 * The identity file is written to a temporary file, synced, renamed, and its folder synced. A
 * folder with a log or a store but without an identity is refused: it is not empty, and a new
 * identity would forget a vote (CONSENSUS 0). Thread: any.
 */
#ifndef QUORUMFS_SERVER_IDENTITY_H
#define QUORUMFS_SERVER_IDENTITY_H

#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "server/replica.h"

/* Makes the folder (0700, not its parents) and DATA/log if missing, takes the lock and tries to
 * write. The caller keeps *out_lock_fd open for the life of the process. ERR_BUSY: another replica
 * runs on it; ERR_IO, ERR_NO_SPACE, ...; `error` gets one sentence with the path. */
enum err identity_lock(const char *data, int *out_lock_fd, struct buffer *error);

/* Reads DATA/identity. A folder without one gets one: `id`, `incarnation` (random, from the
 * caller), not formed; durable on return. ERR_CONFIG: the file is of another id; ERR_CORRUPT; as
 * above. */
enum err identity_open(const char *data, uint64_t id, uint64_t incarnation,
                       struct replica_identity *out, struct buffer *error);

/* Replaces DATA/identity durably. */
enum err identity_save(const char *data, const struct replica_identity *identity,
                       struct buffer *error);

#endif
