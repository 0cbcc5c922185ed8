/* SPDX-License-Identifier: Apache-2.0
 *
 * The connections between replicas. Each replica dials every other one and only sends on that
 * connection; it only receives on those that others dialed. A connection that the network has
 * swallowed is given up after PEER_SILENT_MS. Thread: that of the loop.
 */
#ifndef QUORUMFS_NET_PEER_CONN_H
#define QUORUMFS_NET_PEER_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/wire.h"
#include "server/net/handshake.h"
#include "server/net/stream.h"
#include "server/raft/raft.h"
#include "server/replica.h"

struct peer_conns;

/* Dials all of `members` but itself. Everything given outlives it; self->identity may change (the
 * ensemble has formed) and counts for later connections. NULL: no memory. */
struct peer_conns *peer_conns_new(struct stream_hub *hub, struct replica *replica,
                                  const struct handshake_self *self,
                                  const struct raft_members *members);

/* Closes all. They are gone, and this may be freed, when peer_conns_count is 0. */
void peer_conns_close(struct peer_conns *conns);
size_t peer_conns_count(const struct peer_conns *conns);
void peer_conns_free(struct peer_conns *conns);

/* Takes a connection that waits at `server`; `arg` is the struct peer_conns (for
 * listener_start). */
void peer_conns_accept(void *arg, uv_stream_t *server);

/* Dials what is due, closes what did not introduce itself in time. Returns when it wants to be
 * called again. */
uint64_t peer_conns_turn(struct peer_conns *conns, uint64_t now_ms);

/* ---- struct replica_env ---- */

void peer_conns_send_raft(struct peer_conns *conns, const struct raft_message *message);
void peer_conns_send(struct peer_conns *conns, uint64_t replica, const Wire__PeerMessage *message);
bool peer_conns_is_connected(const struct peer_conns *conns, uint64_t replica);

#endif
