/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages of the Raft core to frames and back: the message is a wire.PeerMessage, the entries
 * stand behind it as raw bytes, unchanged from replica to replica.
 *
 *     per entry: be64 index, be64 term, be64 time in ns, u8 type, be32 length, data
 *
 * Pure; any thread.
 */
#ifndef QUORUMFS_NET_PEER_WIRE_H
#define QUORUMFS_NET_PEER_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/wire.h"
#include "server/raft/raft.h"

/* Appends one frame. ERR_MEMORY; ERR_TOO_BIG cannot happen within APPEND_BYTES_MAX. */
enum err peer_wire_pack(const struct raft_message *message, struct buffer *out);

/* The message of a frame whose body is `raft` and whose raw bytes are given. The entries are new,
 * with one reference each, in an array of their own: free both with peer_wire_free.
 * ERR_MALFORMED, ERR_MEMORY (then there is nothing to free). */
enum err peer_wire_unpack(const Wire__Raft *raft, const uint8_t *raw, size_t raw_len,
                          struct raft_message *out);
void peer_wire_free(struct raft_message *message);

#endif
