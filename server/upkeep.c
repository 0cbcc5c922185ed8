/* SPDX-License-Identifier: Apache-2.0
 *
 * The conductor and its disk: how much of the log is kept, who needs a snapshot instead, what is
 * done when space is low or the disk is slow (CONSENSUS 12, 31). Handed the log's reports by the rim
 * and looked after once per turn by replica.c; hands on to the core and the rim.
 *
 * Invariant: nothing is removed from the log that the store would need again after a crash now: only
 * entries up to the durable applied index go.
 */
#include <inttypes.h>

#include "common/check.h"
#include "common/logging.h"
#include "common/plant.h"
#include "server/replica_internal.h"

#define COMPACT_MS      1000u  /* the length of the log is looked at so often */
#define SLOW_SYNC_MS    500u   /* a leader whose disk takes longer than this hands over */
#define SLOW_AGAIN_MS   10000u /* but not twice within this */
#define SPACE_MS        1000u  /* the others are told so often that space is low */
#define STUCK_MS        2000u /* applies nothing for so long on a full disk: clients go elsewhere */
#define SPACE_BELIEF_MS 5000u /* what a peer said of its space counts so long */

/* ---- snapshots ---- */

void upkeep_snapshots(struct replica *replica, const struct raft_effects *effects)
{
    for (size_t i = 0; i < effects->snapshot_count; i++) {
        log_info("replica", "snapshot_needed", "peer=%" PRIu64, effects->snapshots[i]);
        replica->env.snapshot_wanted(replica->env.context, effects->snapshots[i]);
    }
}

void replica_snapshot_ended(struct replica *replica, uint64_t id, uint64_t index)
{
    if (replica->raft != NULL) {
        struct raft_event event = {.type = RAFT_EV_SNAPSHOT_ENDED, .peer = id, .index = index};
        (void)replica_step(replica, &event);
    }
}

/* ---- the length of the log ---- */

static void compact(struct replica *replica)
{
    uint64_t keep = replica->low_space ? 0 : replica->log_keep_bytes;
    uint64_t index = replica->env.log_index_of_bytes(replica->env.context, keep);
    uint64_t durable =
        PLANT(COMPACT_UNFLUSHED, replica->applied_index, tree_durable_index(replica->tree));

    if (index > durable + 1) {
        index = durable + 1;
    }
    replica->env.log_compact(replica->env.context, index);
}

/* ---- space ---- */

static void tell_space(struct replica *replica)
{
    Wire__Space space = WIRE__SPACE__INIT;
    Wire__PeerMessage message = WIRE__PEER_MESSAGE__INIT;

    replica->space_due_ms = replica->now_ms + SPACE_MS;
    if (!replica->low_space && !replica->low_space_told) {
        return;
    }
    replica->low_space_told = replica->low_space;
    space.low = replica->low_space;
    space.refuses = replica->refuses_growth;
    message.body_case = WIRE__PEER_MESSAGE__BODY_SPACE;
    message.space = &space;
    for (size_t i = 0; i < replica->peer_count; i++) {
        replica->env.peer_send(replica->env.context, replica->peer[i].id, &message);
    }
}

void upkeep_take_space(struct replica *replica, struct peer *from, const Wire__Space *space)
{
    from->low_space_ms = space->low ? replica->now_ms : 0;
    from->refuses_growth = space->refuses;
}

static bool peer_is_low(const struct replica *replica, uint64_t id)
{
    for (size_t i = 0; i < replica->peer_count; i++) {
        const struct peer *peer = &replica->peer[i];
        if (peer->id == id) {
            return peer->low_space_ms != 0 &&
                   replica->now_ms - peer->low_space_ms < SPACE_BELIEF_MS;
        }
    }
    return false;
}

bool upkeep_refuses_growth(struct replica *replica)
{
    const struct peer *leader = peers_find(replica, replica->leader);

    if (replica->role == RAFT_LEADER) {
        return replica->refuses_growth;
    }
    return leader != NULL && leader->refuses_growth && peer_is_low(replica, leader->id);
}

/* The furthest voter that has space; 0: there is none. */
static uint64_t successor(const struct replica *replica)
{
    const struct raft_peer_status *best = NULL;
    struct raft_status status;

    raft_status(replica->raft, &status);
    for (size_t i = 0; i < status.peer_count; i++) {
        const struct raft_peer_status *peer = &status.peer[i];
        const struct raft_member *member = raft_members_find(raft_members(replica->raft), peer->id);
        if (peer->active && member != NULL && member->voter && !peer_is_low(replica, peer->id) &&
            (best == NULL || peer->match_index > best->match_index)) {
            best = peer;
        }
    }
    return best != NULL ? best->id : 0;
}

/* A leader without space hands over, or refuses what grows if nobody can take over. */
static void leave_low_disk(struct replica *replica)
{
    struct raft_event event = {.type = RAFT_EV_TRANSFER};
    bool refuses = false;

    if (replica->role == RAFT_LEADER && replica->low_space) {
        event.peer = successor(replica);
        refuses = event.peer == 0;
    }
    if (event.peer != 0) {
        log_warn("replica", "disk_low_hands_over", "to=%" PRIu64, event.peer);
        (void)replica_step(replica, &event);
    }
    if (refuses != replica->refuses_growth) {
        replica->refuses_growth = refuses;
        replica->space_due_ms = 0;
        log_warn("replica", "growing_writes", "refused=%d", refuses ? 1 : 0);
    }
}

/* What it cannot write it cannot apply: its clients would wait for ever. */
static void free_stuck_clients(struct replica *replica)
{
    if (!replica->low_space || replica->applied_index != replica->stuck_index ||
        replica->applied_index == replica->leader_commit) {
        replica->stuck_index = replica->applied_index;
        replica->stuck_ms = replica->now_ms;
        return;
    }
    if (replica->now_ms - replica->stuck_ms < STUCK_MS) {
        return;
    }
    for (struct client *client = replica->clients; client != NULL; client = client->next) {
        replica->env.client_close(replica->env.context, client->conn, "the disk is full");
    }
}

/* ---- events of the log ---- */

static void follow_space(struct replica *replica, bool low)
{
    if (low == replica->low_space) {
        return;
    }
    replica->low_space = low;
    replica->space_due_ms = 0;
    if (low) {
        log_error("replica", "disk_low",
                  "applied=%" PRIu64 " action=\"a leader hands over or refuses writes that grow\"",
                  replica->applied_index);
    } else {
        log_info("replica", "disk_has_space", "applied=%" PRIu64, replica->applied_index);
    }
    leave_low_disk(replica);
}

static void follow_speed(struct replica *replica, uint64_t sync_us)
{
    if (sync_us < SLOW_SYNC_MS * 1000u || replica->role != RAFT_LEADER ||
        (replica->slow_ms != 0 && replica->now_ms - replica->slow_ms < SLOW_AGAIN_MS)) {
        return;
    }
    replica->slow_ms = replica->now_ms;
    log_warn("replica", "disk_slow", "sync_ms=%" PRIu64 " action=\"hands leadership over\"",
             sync_us / 1000u);
    replica_transfer_leader(replica);
}

void upkeep_log_saved(struct replica *replica, const struct log_saved *saved)
{
    if (saved->compacted) {
        struct raft_event event = {.type = RAFT_EV_COMPACTED, .index = saved->first_index};
        log_info("replica", "log_compacted", "first_index=%" PRIu64, saved->first_index);
        (void)replica_step(replica, &event);
    }
    follow_space(replica, saved->low_space);
    follow_speed(replica, saved->sync_us_max);
}

/* ---- the turn ---- */

void upkeep_turn(struct replica *replica)
{
    struct raft_status status;

    if (replica->now_ms >= replica->compact_due_ms) {
        replica->compact_due_ms = replica->now_ms + COMPACT_MS;
        compact(replica);
        leave_low_disk(replica);
        raft_status(replica->raft, &status);
        replica->leader_commit = status.commit_index;
        free_stuck_clients(replica);
    }
    if (replica->now_ms >= replica->space_due_ms) {
        tell_space(replica);
    }
}
