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
struct peer_conn;

/* What concerns snapshots; none may be NULL. Messages are valid during the call. A bulk connection
 * is one of its own, so that votes and heartbeats never stand behind chunks. */
struct bulk_events {
    void *arg;
    /* On the usual connections. */
    enum err (*offer)(void *arg, uint64_t from, const Wire__SnapshotOffer *offer);
    enum err (*end)(void *arg, uint64_t from, const Wire__SnapshotEnd *end);
    /* On bulk connections: the one that peer_conns_dial_bulk gave is open; ... */
    void (*opened)(void *arg, struct peer_conn *conn);
    /* ... the other side asks, or answers; an error closes the connection; ... */
    enum err (*read)(void *arg, struct peer_conn *conn, const Wire__SnapshotRead *read);
    enum err (*chunk)(void *arg, struct peer_conn *conn, const Wire__SnapshotChunk *chunk,
                      const uint8_t *bytes, size_t len);
    /* ... it is gone (not after peer_conn_close_bulk). */
    void (*closed)(void *arg, struct peer_conn *conn);
};

/* Everything given outlives it. NULL: no memory. */
struct peer_conns *peer_conns_new(struct stream_hub *hub, struct replica *replica,
                                  const struct handshake_self *self,
                                  const struct bulk_events *bulk);

/* Dials all of `members` but itself, and nobody else, from now on. */
void peer_conns_set_members(struct peer_conns *conns, const struct raft_members *members);

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

/* Opens a bulk connection to a replica that we dial; its fate comes as event. NULL: none such, or
 * no memory. */
struct peer_conn *peer_conns_dial_bulk(struct peer_conns *conns, uint64_t replica);
void peer_conn_close_bulk(struct peer_conn *conn);
/* Sends a message and raw bytes; dropped if the connection is of no use any more. */
void peer_conn_send_bulk(struct peer_conn *conn, const Wire__PeerMessage *message, const void *raw,
                         size_t raw_len);
uint64_t peer_conn_replica(const struct peer_conn *conn);

/* ---- struct replica_env ---- */

void peer_conns_send_raft(struct peer_conns *conns, const struct raft_message *message);
void peer_conns_send(struct peer_conns *conns, uint64_t replica, const Wire__PeerMessage *message);
bool peer_conns_is_connected(const struct peer_conns *conns, uint64_t replica);
size_t peer_conns_unsent_bytes(struct peer_conns *conns, uint64_t replica);

#endif
