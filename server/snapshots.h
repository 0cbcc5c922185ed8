/* SPDX-License-Identifier: Apache-2.0
 *
 * Snapshots of a running replica: joins the giving and the taking side (net/) with store, conductor
 * and peers. Called by daemon.c. Thread: that of the loop.
 */
#ifndef QUORUMFS_SERVER_SNAPSHOTS_H
#define QUORUMFS_SERVER_SNAPSHOTS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "common/err.h"
#include "server/net/peer_conn.h"
#include "server/replica.h"
#include "server/store/store.h"

struct snapshots;

/* `data` is the data folder; `complete` is called once, when a snapshot lies there that is to be
 * installed by a new beginning. All outlive it. NULL: no memory. */
struct snapshots *snapshots_new(const char *data, void (*complete)(void *arg), void *arg);

/* What the peers hand in. */
struct bulk_events snapshots_events(struct snapshots *snapshots);

/* The rest that it needs, before the loop runs. */
enum err snapshots_open(struct snapshots *snapshots, uv_loop_t *loop, struct replica *replica,
                        struct store *store, struct peer_conns *peers);

/* ---- struct replica_env ---- */
void snapshots_wanted(struct snapshots *snapshots, uint64_t replica);

/* The log may be compacted up to `index`, or less: what a snapshot under way needs stays. */
uint64_t snapshots_compactable(const struct snapshots *snapshots, uint64_t index);

/* Consensus runs: offers are taken from now on. */
void snapshots_start(struct snapshots *snapshots);

/* Once per turn of the loop. */
void snapshots_turn(struct snapshots *snapshots, uint64_t now_ms);

/* Before the peers are closed; then the loop runs until all is gone; then free. */
void snapshots_stop(struct snapshots *snapshots);
void snapshots_free(struct snapshots *snapshots);

#endif
