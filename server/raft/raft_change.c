/* SPDX-License-Identifier: Apache-2.0
 *
 * Changes of the members. Called by raft.c with the wish, by both sides of replication when an
 * entry with members is appended or removed, by the leader's side when the commit index moved.
 *
 *     SIMPLE ---- wish that changes voters: joint entry ----> JOINT
 *       ^                                                       |
 *       +------- joint entry committed: final entry ------------+
 *
 * A wish by which nobody leaves and the voters stay needs no joint entry. Whoever leads when the joint
 * entry is committed appends the final one: a change that has begun ends without its author.
 *
 * Invariants (dissertation 4.1, 4.3; CONSENSUS 14, 15):
 *   1. Members take effect when their entry is appended, committed or not, and fall back with it.
 *   2. At most one entry with members is not committed, so one step back is enough.
 *   3. No change before the no-op of the term is committed.
 */
#include "server/raft/raft_internal.h"

void raft_members_appended(struct raft *raft, const struct raft_entry *entry)
{
    if (entry->type != RAFT_ENTRY_MEMBERS) {
        return;
    }
    raft->members_before = raft->members;
    raft->members_before_index = raft->members_index;
    raft->members_index = entry->index;
    CHECK(raft_members_decode(entry->data, entry->len, &raft->members) == ERR_OK);
    raft_progress_update(raft);
}

void raft_members_truncated(struct raft *raft, uint64_t index)
{
    if (raft->members_index < index) {
        return;
    }
    CHECK(raft->members_before.count > 0);
    raft->members = raft->members_before;
    raft->members_index = raft->members_before_index;
    raft->members_before.count = 0;
    raft_progress_update(raft);
}

static void append_members(struct raft *raft, const struct raft_members *members)
{
    struct buffer bytes = {0};
    struct raft_entry *entry = NULL;

    if (raft_members_encode(members, &bytes) == ERR_OK) {
        entry = raft_entry_new(RAFT_ENTRY_MEMBERS, bytes.data, bytes.len);
    }
    buffer_done(&bytes);
    if (entry == NULL) {
        raft->no_memory = true;
        return;
    }
    raft_leader_append(raft, entry);
    raft_entry_unref(entry);
}

bool raft_change_is_ready(const struct raft *raft)
{
    return raft_leader_is_ready(raft) && raft->transfer_to == 0 && !raft->is_joint &&
           raft->members_index <= raft->log.commit_index;
}

enum err raft_change(struct raft *raft, const struct raft_members *wanted)
{
    struct raft_members next;
    enum err err = ERR_OK;

    if (raft->role != RAFT_LEADER) {
        return ERR_NOT_LEADER;
    }
    if (!raft_change_is_ready(raft)) {
        return ERR_LIMIT;
    }
    if (!raft_members_can_follow(&raft->members, wanted)) {
        return ERR_INVALID;
    }
    err = raft_members_between(&raft->members, wanted, &next);
    if (err == ERR_OK) {
        append_members(raft, &next);
    }
    return err;
}

void raft_change_finish(struct raft *raft)
{
    struct raft_members final;

    if (!raft->is_joint || !raft_leader_is_ready(raft) ||
        raft->members_index > raft->log.commit_index) {
        return;
    }
    /* Those who leave will hear no more: that they may leave. */
    for (size_t i = 0; i < raft->peer_count; i++) {
        if (raft_members_find(&raft->members, raft->peer[i].id)->leaving) {
            raft_leader_tell_commit(raft, &raft->peer[i]);
        }
    }
    final = raft_members_final(&raft->members);
    append_members(raft, &final);
}
