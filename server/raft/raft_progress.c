/* SPDX-License-Identifier: Apache-2.0
 *
 * What a replica knows of each other one, above all how far a follower's log has come.
 *
 *     PROBE --------- an append is accepted -----------> REPLICATE
 *      | ^ ^                                              |     |
 *      | | +--- rejected, connection closed, no answer ---+     |
 *      | +------ snapshot taken, failed or not needed ------+   | needs what the log
 *      +------------ needs what the log has no more ---> SNAPSHOT   has no more
 *                                                         ^-----+
 *
 * PROBE: match is a lower bound; at most one append is on its way (probe_sent) until its answer
 * or a heartbeat's comes. REPLICATE: match is exact as of the last answer; appends go out ahead of
 * the answers, at most INFLIGHT_MESSAGES_MAX and INFLIGHT_BYTES_MAX of them. SNAPSHOT: nothing but
 * heartbeats goes out.
 *
 * Invariants: match < next; inflight_count is 0 in PROBE and SNAPSHOT; inflight last_index ascends.
 */
#include "server/raft/raft_internal.h"

#include <string.h>

struct raft_progress *raft_progress_find(struct raft *raft, uint64_t id)
{
    for (size_t i = 0; i < raft->peer_count; i++) {
        if (raft->peer[i].id == id) {
            return &raft->peer[i];
        }
    }
    return NULL;
}

static void window_clear(struct raft_progress *peer)
{
    peer->inflight_first = 0;
    peer->inflight_count = 0;
    peer->inflight_bytes = 0;
}

void raft_progress_update(struct raft *raft)
{
    struct raft_progress old[MEMBERS_MAX];
    size_t old_count = raft->peer_count;
    const struct raft_member *self = raft_members_find(&raft->members, raft->config.id);

    memcpy(old, raft->peer, sizeof(old));
    if (self != NULL && self->incarnation != raft->config.incarnation) {
        self = NULL; /* this folder was wiped: what it promised before is forgotten */
    }
    raft->is_joint = raft_members_is_joint(&raft->members);
    raft->self_voter = self != NULL && self->voter;
    raft->self_was_voter = self != NULL && self->was_voter;
    raft->peer_count = 0;
    for (size_t i = 0; i < raft->members.count; i++) {
        const struct raft_member *member = &raft->members.member[i];
        struct raft_progress *peer = &raft->peer[raft->peer_count];
        if (member->id == raft->config.id) {
            continue;
        }
        *peer = (struct raft_progress){
            .id = member->id,
            .incarnation = member->incarnation,
            .next = raft->log.last_index + 1,
            .heard_ms = raft->now_ms,
            .resend_ms = raft->config.election_max_ms,
        };
        for (size_t j = 0; j < old_count; j++) {
            /* What another incarnation acknowledged or voted is forgotten with it. */
            if (old[j].id == member->id && old[j].incarnation == member->incarnation) {
                *peer = old[j];
            }
        }
        peer->voter = member->voter;
        peer->was_voter = member->was_voter;
        raft->peer_count++;
    }
}

bool raft_self_votes(const struct raft *raft)
{
    return raft->self_voter || raft->self_was_voter;
}

bool raft_may_campaign(const struct raft *raft)
{
    const struct raft_member *before = NULL;

    if (raft->members_index > raft->log.commit_index && raft->members_before.count > 0) {
        before = raft_members_find(&raft->members_before, raft->config.id);
    }
    return raft_self_votes(raft) ||
           (before != NULL && before->incarnation == raft->config.incarnation &&
            (before->voter || before->was_voter));
}

bool raft_peer_votes(const struct raft_progress *peer)
{
    return peer->voter || peer->was_voter;
}

/* The value that a majority of one kind of voters has reached. */
static uint64_t kind_reaches(const struct raft *raft, bool was, uint64_t self,
                             uint64_t (*value_of)(const struct raft_progress *peer))
{
    uint64_t values[MEMBERS_MAX + 1];
    size_t count = 0;

    if (was ? raft->self_was_voter : raft->self_voter) {
        values[count++] = self;
    }
    for (size_t i = 0; i < raft->peer_count; i++) {
        const struct raft_progress *peer = &raft->peer[i];
        if (was ? peer->was_voter : peer->voter) {
            values[count++] = value_of(peer);
        }
    }
    return raft_quorum(values, count);
}

uint64_t raft_voters_reach(const struct raft *raft, uint64_t self,
                           uint64_t (*value_of)(const struct raft_progress *peer))
{
    uint64_t to_come = kind_reaches(raft, false /* to come */, self, value_of);
    uint64_t before = UINT64_MAX;

    if (raft->is_joint) {
        before = kind_reaches(raft, true /* of before */, self, value_of);
    }
    return to_come < before ? to_come : before;
}

void raft_progress_probe(struct raft *raft, struct raft_progress *peer)
{
    if (peer->state == RAFT_REPLICATE) {
        peer->next = peer->match + 1;
    }
    peer->state = RAFT_PROBE;
    peer->probe_sent = false;
    peer->probe_again = false;
    peer->fetching = false;
    peer->commit_sent = 0;
    peer->moved_ms = raft->now_ms;
    window_clear(peer);
    CHECK_OP(peer->match, <, peer->next);
}

void raft_progress_snapshot(struct raft *raft, struct raft_progress *peer)
{
    CHECK_OP(peer->next, <, raft->log.disk_first);
    raft_progress_probe(raft, peer);
    peer->state = RAFT_SNAPSHOT;
}

bool raft_progress_window_is_full(const struct raft_progress *peer)
{
    return peer->inflight_count == INFLIGHT_MESSAGES_MAX ||
           peer->inflight_bytes >= INFLIGHT_BYTES_MAX;
}

void raft_progress_sent(struct raft *raft, struct raft_progress *peer, uint64_t last_index,
                        size_t bytes)
{
    size_t at = (peer->inflight_first + peer->inflight_count) % INFLIGHT_MESSAGES_MAX;

    if (peer->state == RAFT_PROBE) {
        peer->probe_sent = true;
        peer->probe_end = last_index;
        peer->probe_bytes = bytes;
        peer->moved_ms = raft->now_ms;
        return;
    }
    CHECK(!raft_progress_window_is_full(peer));
    CHECK_OP(last_index, >=, peer->next);
    if (peer->inflight_count == 0) {
        peer->moved_ms = raft->now_ms;
    }
    peer->inflight[at] = (struct raft_inflight){.last_index = last_index, .bytes = bytes};
    peer->inflight_count++;
    peer->inflight_bytes += bytes;
    peer->next = last_index + 1;
}

void raft_progress_replicate(struct raft *raft, struct raft_progress *peer)
{
    /* The place before the probe fits, so the peer took its entries; they need not go again. If
     * that very probe was lost, the next append is rejected and another one follows. */
    bool taken = peer->probe_sent && peer->match + 1 >= peer->next && peer->probe_end > peer->match;

    CHECK_OP(peer->state, ==, RAFT_PROBE);
    CHECK_OP(peer->inflight_count, ==, 0);
    peer->state = RAFT_REPLICATE;
    peer->next = peer->match + 1;
    peer->probe_sent = false;
    peer->probe_again = false;
    peer->fetching = false;
    peer->moved_ms = raft->now_ms;
    if (taken) {
        raft_progress_sent(raft, peer, peer->probe_end, peer->probe_bytes);
    }
}

bool raft_progress_matched(struct raft *raft, struct raft_progress *peer, uint64_t index)
{
    bool moved = index > peer->match;

    if (moved) {
        peer->match = index;
        peer->moved_ms = raft->now_ms;
        peer->resend_ms = raft->config.election_max_ms;
    }
    if (peer->next <= peer->match) {
        peer->next = peer->match + 1;
        peer->fetching = false; /* what it fetches is no longer the next */
    }
    while (peer->inflight_count > 0 &&
           peer->inflight[peer->inflight_first].last_index <= peer->match) {
        peer->inflight_bytes -= peer->inflight[peer->inflight_first].bytes;
        peer->inflight_count--;
        peer->inflight_first = (peer->inflight_first + 1) % INFLIGHT_MESSAGES_MAX;
    }
    return moved;
}
