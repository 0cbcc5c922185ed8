/* SPDX-License-Identifier: Apache-2.0
 *
 * Takes the tree as files from a replica that has offered them, into DATA/incoming. A lost
 * connection goes on where it was; another offer with a higher index begins anew. When all is there
 * and synced the rim starts the replica again, which installs it (server/snapshot.h).
 *
 * Thread: that of the loop; files are written on libuv's pool.
 */
#ifndef QUORUMFS_NET_SNAPSHOT_TAKE_H
#define QUORUMFS_NET_SNAPSHOT_TAKE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/err.h"
#include "common/wire.h"
#include "server/net/peer_conn.h"

struct snapshot_taker;

/* `complete` is called once, when a snapshot waits for its install. NULL: no memory. */
struct snapshot_taker *snapshot_taker_new(uv_loop_t *loop, struct peer_conns *peers,
                                          const char *data, void (*complete)(void *arg), void *arg);

/* An offer; `applied` is what this replica has anyway: an older snapshot is of no use. ERR_MALFORMED:
 * names or counts that no checkpoint has. */
enum err snapshot_taker_offer(struct snapshot_taker *taker, uint64_t from,
                              const Wire__SnapshotOffer *offer, uint64_t applied);

/* Connects again if that is due. About once a second. */
void snapshot_taker_turn(struct snapshot_taker *taker, uint64_t now_ms);

/* ---- struct bulk_events ---- */

void snapshot_taker_opened(struct snapshot_taker *taker, struct peer_conn *conn);
enum err snapshot_taker_chunk(struct snapshot_taker *taker, struct peer_conn *conn,
                              const Wire__SnapshotChunk *chunk, const uint8_t *bytes, size_t len);
void snapshot_taker_closed(struct snapshot_taker *taker, struct peer_conn *conn);

/* Begins the end: no event comes any more. When snapshot_taker_is_idle, it may be freed. */
void snapshot_taker_stop(struct snapshot_taker *taker);
bool snapshot_taker_is_idle(const struct snapshot_taker *taker);
void snapshot_taker_free(struct snapshot_taker *taker);

#endif
