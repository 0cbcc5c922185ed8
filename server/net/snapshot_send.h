/* SPDX-License-Identifier: Apache-2.0
 *
 * Gives the tree as files to replicas whose next entries are no longer in the log: makes a
 * checkpoint, offers it, answers their reads at a limited rate. One checkpoint at a time, for any
 * number of takers. Thread: that of the loop; files are read on libuv's pool.
 */
#ifndef QUORUMFS_NET_SNAPSHOT_SEND_H
#define QUORUMFS_NET_SNAPSHOT_SEND_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/err.h"
#include "common/wire.h"
#include "server/net/peer_conn.h"

struct snapshot_sender;

/* What the sender needs of the rim. */
struct snapshot_sender_env {
    void *context;
    /* Begins a checkpoint of the store in `folder`, as of the applied entry *out_index of
     * *out_term; then the rim calls snapshot_sender_checkpointed. */
    enum err (*checkpoint)(void *context, const char *folder, uint64_t *out_index,
                           uint64_t *out_term);
    /* Entries above `index` must stay in the log; UINT64_MAX: no longer. */
    void (*pin)(void *context, uint64_t index);
    /* A taker has installed the snapshot at `index`, or has given up (0). */
    void (*ended)(void *context, uint64_t replica, uint64_t index);
    uint64_t (*random)(void *context);
};

/* `data` is the data folder. bytes_per_s limits each reader. NULL: no memory. */
struct snapshot_sender *snapshot_sender_new(uv_loop_t *loop, struct peer_conns *peers,
                                            const char *data, uint64_t bytes_per_s,
                                            const struct snapshot_sender_env *env);

/* That replica needs a snapshot. Again while it is served: no effect. */
void snapshot_sender_wanted(struct snapshot_sender *sender, uint64_t replica);

/* The checkpoint that was asked for has ended. */
void snapshot_sender_checkpointed(struct snapshot_sender *sender, enum err err);

/* Gives up takers that do not read. About once a second. */
void snapshot_sender_turn(struct snapshot_sender *sender, uint64_t now_ms);

/* ---- struct bulk_events ---- */

enum err snapshot_sender_read(struct snapshot_sender *sender, struct peer_conn *conn,
                              const Wire__SnapshotRead *read);
enum err snapshot_sender_end(struct snapshot_sender *sender, uint64_t from,
                             const Wire__SnapshotEnd *end);
void snapshot_sender_closed(struct snapshot_sender *sender, struct peer_conn *conn);

/* Begins the end: no event comes any more. When snapshot_sender_is_idle, it may be freed. */
void snapshot_sender_stop(struct snapshot_sender *sender);
bool snapshot_sender_is_idle(const struct snapshot_sender *sender);
void snapshot_sender_free(struct snapshot_sender *sender);

#endif
