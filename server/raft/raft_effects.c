/* SPDX-License-Identifier: Apache-2.0
 *
 * The exit of the core: gathers messages, fetches and reads while events are stepped, and lays out
 * the effects of a turn. What can wait until all events of the turn are in (appends, heartbeats,
 * acknowledgements, saves) is computed here, so that it is done once for all of them.
 */
#include "common/plant.h"
#include "server/raft/raft_internal.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN    16u
#define DEADLINE_MS_MAX 1000u /* a tick at least so often */

/* ---- memory and outbox ---- */

void *raft_grow(struct raft *raft, void *array, size_t *capacity, size_t needed, size_t size)
{
    size_t grown = *capacity != 0 ? *capacity : CAPACITY_MIN;
    void *moved = NULL;

    if (array != NULL && needed <= *capacity) {
        return array;
    }
    while (grown < needed) {
        grown *= 2;
    }
    moved = realloc(array, grown * size);
    if (moved == NULL) {
        raft->no_memory = true;
        return NULL;
    }
    *capacity = grown;
    return moved;
}

void raft_outbox_clear(struct raft_outbox *outbox)
{
    for (size_t i = 0; i < outbox->pool_count; i++) {
        raft_entry_unref(outbox->pool[i]);
    }
    outbox->pool_count = 0;
    outbox->count = 0;
}

void raft_outbox_done(struct raft_outbox *outbox)
{
    raft_outbox_clear(outbox);
    free(outbox->messages);
    free(outbox->entry_at);
    free(outbox->pool);
}

void raft_outbox_add(struct raft *raft, struct raft_outbox *outbox,
                     const struct raft_message *message)
{
    struct raft_message *messages = raft_grow(raft, outbox->messages, &outbox->messages_capacity,
                                              outbox->count + 1, sizeof(*messages));
    size_t *entry_at = raft_grow(raft, outbox->entry_at, &outbox->entry_at_capacity,
                                 outbox->count + 1, sizeof(*entry_at));

    /* Either may have moved although the other failed. */
    outbox->messages = messages != NULL ? messages : outbox->messages;
    outbox->entry_at = entry_at != NULL ? entry_at : outbox->entry_at;
    if (messages == NULL || entry_at == NULL) {
        return;
    }
    CHECK_OP(message->entry_count, <=, outbox->pool_count);
    messages[outbox->count] = *message;
    entry_at[outbox->count] = outbox->pool_count - message->entry_count;
    outbox->count++;
}

void raft_send_entry(struct raft *raft, struct raft_entry *entry)
{
    struct raft_outbox *out = &raft->out;
    struct raft_entry **pool =
        raft_grow(raft, out->pool, &out->pool_capacity, out->pool_count + 1, sizeof(*pool));

    if (pool == NULL) {
        return;
    }
    out->pool = pool;
    pool[out->pool_count++] = raft_entry_ref(entry);
}

void raft_send(struct raft *raft, struct raft_message message)
{
    if (raft->no_memory) {
        return; /* entries may be missing */
    }
    CHECK(message.to != 0 && message.to != raft->config.id);
    message.from = raft->config.id;
    if (message.term == 0) {
        message.term = raft->term;
    }
    if (PLANT(VOTE_EARLY, true, raft_record_is_durable(raft))) {
        raft_outbox_add(raft, &raft->out, &message);
    } else {
        CHECK(message.entry_count == 0); /* a leader's record is durable */
        raft_outbox_add(raft, &raft->held, &message);
    }
}

void raft_send_snapshot(struct raft *raft, uint64_t peer)
{
    for (size_t i = 0; i < raft->snapshot_count; i++) {
        if (raft->snapshots[i] == peer) {
            return;
        }
    }
    CHECK_OP(raft->snapshot_count, <, MEMBERS_MAX);
    raft->snapshots[raft->snapshot_count++] = peer;
}

void raft_send_fetch(struct raft *raft, uint64_t peer, uint64_t index)
{
    for (size_t i = 0; i < raft->fetch_count; i++) {
        if (raft->fetches[i].peer == peer) {
            raft->fetches[i].index = index;
            return;
        }
    }
    CHECK_OP(raft->fetch_count, <, MEMBERS_MAX + 1);
    raft->fetches[raft->fetch_count++] = (struct raft_fetch){
        .peer = peer,
        .index = index,
        .bytes_max = APPEND_BYTES_MAX,
    };
}

/* ---- effects ---- */

static void effects_save(struct raft *raft)
{
    struct raft_effects *effects = &raft->effects;
    struct raft_log *log = &raft->log;
    size_t count = raft_log_save_count(log);
    struct raft_entry **save =
        raft_grow(raft, raft->save, &raft->save_capacity, count, sizeof(*save));

    effects->save_term = !raft->record_in_flight && !raft_record_is_durable(raft);
    effects->term = raft->term;
    effects->vote = raft->vote;
    if (save == NULL) {
        return;
    }
    raft->save = save;
    for (size_t i = 0; i < count; i++) {
        save[i] = raft_log_entry(log, log->save_next + i);
        CHECK(save[i] != NULL);
    }
    effects->truncate = log->truncate && count > 0;
    effects->truncate_index = log->truncate_index;
    effects->save = save;
    effects->save_count = count;
}

static void effects_messages(struct raft *raft)
{
    struct raft_outbox *out = &raft->out;

    for (size_t i = 0; i < out->count; i++) {
        if (out->messages[i].entry_count > 0) {
            out->messages[i].entries = &out->pool[out->entry_at[i]];
        }
    }
    raft->effects.messages = out->messages;
    raft->effects.message_count = out->count;
}

static uint64_t next_deadline(const struct raft *raft)
{
    uint64_t deadline_ms = raft->now_ms + DEADLINE_MS_MAX;
    uint64_t role_ms = RAFT_NEVER;

    if (raft->role == RAFT_LEADER) {
        role_ms = raft->heartbeat_deadline_ms;
    } else if (raft_may_campaign(raft)) {
        role_ms = raft->election_deadline_ms;
    }
    if (role_ms < deadline_ms) {
        deadline_ms = role_ms;
    }
    if (raft_reads_deadline(raft) < deadline_ms) {
        deadline_ms = raft_reads_deadline(raft);
    }
    return deadline_ms;
}

const struct raft_effects *raft_effects(struct raft *raft)
{
    struct raft_effects *effects = &raft->effects;
    struct raft_log *log = &raft->log;

    raft_log_trim(log);
    if (raft->role == RAFT_LEADER) {
        raft_leader_flush(raft);
    } else {
        raft_follower_flush(raft);
        raft_reads_flush(raft);
    }
    *effects = (struct raft_effects){0};
    effects_save(raft);
    effects_messages(raft);
    effects->fetches = raft->fetches;
    effects->fetch_count = raft->fetch_count;
    effects->snapshots = raft->snapshots;
    effects->snapshot_count = raft->snapshot_count;
    effects->reads = raft->done_reads;
    effects->read_count = raft->done_read_count;
    effects->apply_index = PLANT(APPLY_UNSYNCED, true, log->commit_index < log->durable_index)
                               ? log->commit_index
                               : log->durable_index;
    effects->role_changed = raft->role != raft->role_reported ||
                            raft->leader != raft->leader_reported ||
                            raft->term != raft->term_reported;
    effects->deadline_ms = next_deadline(raft);
    raft->reported = (struct raft_reported){
        .is_open = true,
        .pool_count = raft->out.pool_count,
        .truncations = log->truncations,
        .role = raft->role,
        .leader = raft->leader,
        .term = raft->term,
    };
    return effects;
}

/* Removes what was reported; what events added since stays for the next turn. */
static void outbox_taken(struct raft_outbox *out, size_t message_count, size_t pool_count)
{
    for (size_t i = 0; i < pool_count; i++) {
        raft_entry_unref(out->pool[i]);
    }
    out->count -= message_count;
    out->pool_count -= pool_count;
    if (out->pool_count > 0) {
        memmove(out->pool, out->pool + pool_count, out->pool_count * sizeof(*out->pool));
    }
    for (size_t i = 0; i < out->count; i++) {
        out->messages[i] = out->messages[i + message_count];
        out->entry_at[i] = out->entry_at[i + message_count] - pool_count;
    }
}

void raft_effects_done(struct raft *raft)
{
    const struct raft_effects *effects = &raft->effects;

    if (!raft->reported.is_open) {
        return;
    }
    raft->reported.is_open = false;
    if (effects->save_term) {
        raft->record_in_flight = true;
        raft->record_term = effects->term;
        raft->record_vote = effects->vote;
    }
    if (effects->save_count > 0) {
        /* Invariant 3 of raft.c. */
        CHECK_OP(raft->reported.truncations, ==, raft->log.truncations);
        raft_log_submitted(&raft->log, effects->save_count);
    }
    outbox_taken(&raft->out, effects->message_count, raft->reported.pool_count);
    raft->fetch_count -= effects->fetch_count;
    memmove(raft->fetches, raft->fetches + effects->fetch_count,
            raft->fetch_count * sizeof(raft->fetches[0]));
    raft->snapshot_count = 0; /* those are made by raft_effects alone */
    raft->done_read_count -= effects->read_count;
    if (raft->done_read_count > 0) {
        memmove(raft->done_reads, raft->done_reads + effects->read_count,
                raft->done_read_count * sizeof(raft->done_reads[0]));
    }
    raft->role_reported = raft->reported.role;
    raft->leader_reported = raft->reported.leader;
    raft->term_reported = raft->reported.term;
}
