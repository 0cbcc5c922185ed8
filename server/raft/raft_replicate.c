/* SPDX-License-Identifier: Apache-2.0
 *
 * The leader: appends, heartbeats, commit index, hand-over. Called by raft.c with proposals,
 * answers and ticks, and once per turn by raft_effects to send what has come together.
 *
 * Invariants of a leader:
 *   1. It never removes or rewrites an entry of its log.
 *   2. It commits by counting only entries of its own term (dissertation 3.6.2, figure 3.7);
 *      older ones are committed with them.
 *   3. A peer's match is what that peer said is durable and equal, in this term.
 *   4. Heartbeats carry no entries and wait for no window (CONSENSUS 13).
 */
#include "common/plant.h"
#include "server/raft/raft_internal.h"

#define RESEND_MS_MAX 5000u /* for a peer that answers heartbeats but no appends */

static size_t entry_bytes(const struct raft_entry *entry)
{
    return sizeof(*entry) + entry->len;
}

static uint64_t match_of(const struct raft_progress *peer)
{
    return peer->match;
}

static uint64_t round_of(const struct raft_progress *peer)
{
    return peer->round_acked;
}

static uint64_t heard_of(const struct raft_progress *peer)
{
    return peer->heard_ms;
}

void raft_leader_append(struct raft *raft, struct raft_entry *entry)
{
    entry->index = raft->log.last_index + 1;
    entry->term = raft->term;
    if (entry->time_ns < raft->log.last_time_ns) {
        entry->time_ns = raft->log.last_time_ns;
    }
    if (raft_log_append(&raft->log, entry) != ERR_OK) {
        raft->no_memory = true;
        return;
    }
    raft->uncommitted_bytes += entry_bytes(entry);
    raft_members_appended(raft, entry);
}

void raft_become_leader(struct raft *raft)
{
    struct raft_entry *noop = NULL;

    CHECK(raft->role == RAFT_CANDIDATE && raft_record_is_durable(raft));
    CHECK_OP(raft->log.durable_index, ==, raft->log.last_index);
    raft->role = RAFT_LEADER;
    raft->leader_gone = false;
    raft->attempts = 0;
    raft->noop_index = raft->log.last_index + 1;
    raft->uncommitted_bytes = 0;
    raft->transfer_to = 0;
    raft->heartbeat_wanted = true;
    raft->heartbeat_deadline_ms = raft->now_ms + raft->config.heartbeat_ms;
    for (size_t i = 0; i < raft->peer_count; i++) {
        struct raft_progress *peer = &raft->peer[i];
        peer->state = RAFT_PROBE;
        peer->match = 0;
        peer->next = raft->noop_index;
        peer->round_acked = 0;
        peer->heard_ms = raft->now_ms;
        peer->fetch_after_ms = 0;
        peer->resend_ms = raft->config.election_max_ms;
        raft_progress_probe(raft, peer);
    }
    raft_set_leader(raft, raft->config.id);
    noop = raft_entry_new(RAFT_ENTRY_NOOP, NULL, 0);
    if (noop == NULL) {
        raft->no_memory = true;
        return;
    }
    raft_leader_append(raft, noop);
    raft_entry_unref(noop);
}

enum err raft_propose(struct raft *raft, struct raft_entry *entry)
{
    CHECK_OP(entry->type, ==, RAFT_ENTRY_COMMAND);
    CHECK_OP(entry->len, <=, APPEND_BYTES_MAX);
    if (raft->role != RAFT_LEADER) {
        return ERR_NOT_LEADER;
    }
    if (raft->transfer_to != 0 ||
        raft->uncommitted_bytes + entry_bytes(entry) > UNCOMMITTED_BYTES_MAX) {
        return ERR_LIMIT;
    }
    raft_leader_append(raft, entry);
    return ERR_OK;
}

void raft_leader_commit(struct raft *raft)
{
    struct raft_log *log = &raft->log;
    uint64_t index = raft_voters_reach(raft, log->durable_index, match_of);

    if (index <= log->commit_index || PLANT(OLD_TERM_COMMIT, false, index < raft->noop_index)) {
        return;
    }
    CHECK_OP(index, <=, log->last_index);
    for (uint64_t i = log->commit_index + 1; i <= index; i++) {
        /* Those before the no-op were never counted. Trimming spares what is not committed. */
        if (i >= raft->noop_index) {
            raft->uncommitted_bytes -= entry_bytes(raft_log_entry(log, i));
        }
    }
    log->commit_index = index;
    raft_change_finish(raft);
}

/* ---- sending ---- */

static uint64_t commit_for(const struct raft *raft, const struct raft_progress *peer)
{
    uint64_t known = PLANT(HEARTBEAT_COMMIT, UINT64_MAX, peer->match);

    return known < raft->log.commit_index ? known : raft->log.commit_index;
}

/* round 0: only tells the commit index and wants no answer. */
static void send_heartbeat(struct raft *raft, struct raft_progress *peer, uint64_t round)
{
    peer->commit_sent = commit_for(raft, peer);
    raft_send(raft, (struct raft_message){
                        .type = RAFT_MSG_HEARTBEAT,
                        .to = peer->id,
                        .commit = peer->commit_sent,
                        .context = round,
                    });
}

void raft_leader_tell_commit(struct raft *raft, struct raft_progress *peer)
{
    send_heartbeat(raft, peer, 0 /* no round */);
}

static void confirm_round(struct raft *raft)
{
    uint64_t round = raft_voters_reach(raft, raft->round, round_of);

    raft_reads_confirm(raft, round);
}

static void broadcast_heartbeat(struct raft *raft)
{
    raft->heartbeat_wanted = false;
    raft->round++;
    if (raft_leader_is_ready(raft)) {
        raft_reads_ask(raft, raft->round);
    }
    for (size_t i = 0; i < raft->peer_count; i++) {
        send_heartbeat(raft, &raft->peer[i], raft->round);
    }
    confirm_round(raft); /* alone */
}

/* What the peer needs next is not in memory: it is on disk, or only in a snapshot. */
static void fetch(struct raft *raft, struct raft_progress *peer)
{
    if (raft->now_ms < peer->fetch_after_ms) {
        return;
    }
    if (peer->next < raft->log.disk_first) {
        raft_progress_snapshot(raft, peer);
        raft_send_snapshot(raft, peer->id);
        return;
    }
    peer->fetching = true;
    peer->fetch_index = peer->next;
    raft_send_fetch(raft, peer->id, peer->next);
}

/* The message behind which `count` entries of `bytes` were put with raft_send_entry. */
static void send_append(struct raft *raft, struct raft_progress *peer, uint64_t prev_term,
                        size_t count, size_t bytes)
{
    uint64_t prev = peer->next - 1;
    uint64_t end = prev + count;
    uint64_t commit = raft->log.commit_index;

    raft_send(raft, (struct raft_message){
                        .type = RAFT_MSG_APPEND,
                        .to = peer->id,
                        .log_index = prev,
                        .log_term = prev_term,
                        .commit = commit,
                        .entry_count = count,
                    });
    peer->commit_sent = end < commit ? end : commit;
    raft_progress_sent(raft, peer, end, bytes);
}

/* Sends the next entries from memory; false: they have to be fetched first. */
static bool send_next(struct raft *raft, struct raft_progress *peer)
{
    struct raft_log *log = &raft->log;
    uint64_t prev_term = 0;
    size_t count = 0;
    size_t bytes = 0;

    if (!raft_log_term(log, peer->next - 1, &prev_term) ||
        (peer->next <= log->last_index && raft_log_entry(log, peer->next) == NULL)) {
        fetch(raft, peer);
        return false;
    }
    while (!peer->probe_again && count < APPEND_ENTRIES_MAX &&
           peer->next + count <= log->last_index) {
        struct raft_entry *entry = raft_log_entry(log, peer->next + count);
        if (count > 0 && bytes + entry_bytes(entry) > APPEND_BYTES_MAX) {
            break;
        }
        raft_send_entry(raft, entry);
        bytes += entry_bytes(entry);
        count++;
    }
    send_append(raft, peer, prev_term, count, bytes);
    return true;
}

static void replicate(struct raft *raft, struct raft_progress *peer)
{
    if (peer->state == RAFT_SNAPSHOT) {
        return;
    }
    if (peer->state == RAFT_PROBE) {
        if (!peer->probe_sent && !peer->fetching) {
            send_next(raft, peer);
        }
        return;
    }
    while (!peer->fetching && peer->next <= raft->log.last_index &&
           !raft_progress_window_is_full(peer)) {
        if (!send_next(raft, peer)) {
            break;
        }
    }
    if (peer->commit_sent < commit_for(raft, peer)) {
        send_heartbeat(raft, peer, 0 /* no round */);
    }
}

static void transfer_flush(struct raft *raft)
{
    struct raft_progress *peer = NULL;

    if (raft->transfer_to == 0 || raft->transfer_sent) {
        return;
    }
    peer = raft_progress_find(raft, raft->transfer_to);
    if (peer != NULL && peer->match == raft->log.last_index) {
        raft->transfer_sent = true;
        raft_send(raft, (struct raft_message){.type = RAFT_MSG_TRANSFER, .to = peer->id});
    }
}

/* A leader that is no voter of the members any more has told everybody that they are committed
 * (dissertation 4.2.2): the furthest voter goes on. */
static void leave_if_removed(struct raft *raft)
{
    const struct raft_progress *best = NULL;

    if (raft_self_votes(raft) || raft->members_index > raft->log.commit_index) {
        return;
    }
    for (size_t i = 0; i < raft->peer_count; i++) {
        const struct raft_progress *peer = &raft->peer[i];
        if (peer->voter && !peer->closed && (best == NULL || peer->match > best->match)) {
            best = peer;
        }
    }
    if (best != NULL) {
        raft_send(raft, (struct raft_message){.type = RAFT_MSG_TRANSFER, .to = best->id});
    }
    raft_become_follower(raft, raft->term, 0 /* no leader */);
}

void raft_leader_flush(struct raft *raft)
{
    if (raft->reads.asked == 0 && raft->reads.count > 0 && raft_leader_is_ready(raft)) {
        raft->heartbeat_wanted = true; /* one round for all reads that wait (CONSENSUS 16) */
    }
    if (raft->heartbeat_wanted) {
        broadcast_heartbeat(raft);
    }
    for (size_t i = 0; i < raft->peer_count; i++) {
        replicate(raft, &raft->peer[i]);
    }
    transfer_flush(raft);
    leave_if_removed(raft);
}

/* ---- time ---- */

/* Appends that no answer followed although the peer is there: they were lost. */
static void resend_lost(struct raft *raft, struct raft_progress *peer)
{
    if (peer->state != RAFT_REPLICATE || peer->inflight_count == 0 ||
        raft->now_ms - peer->moved_ms < peer->resend_ms) {
        return;
    }
    peer->resend_ms = peer->resend_ms * 2 < RESEND_MS_MAX ? peer->resend_ms * 2 : RESEND_MS_MAX;
    raft_progress_probe(raft, peer);
}

void raft_leader_tick(struct raft *raft)
{
    uint64_t heard_ms = raft_voters_reach(raft, raft->now_ms, heard_of);

    if (raft->now_ms - heard_ms >= raft->config.election_max_ms) {
        raft_become_follower(raft, raft->term, 0 /* no leader: CheckQuorum */);
        return;
    }
    if (raft->transfer_to != 0 && raft->now_ms >= raft->transfer_deadline_ms) {
        raft->transfer_to = 0; /* it did not take over: go on leading */
    }
    for (size_t i = 0; i < raft->peer_count; i++) {
        resend_lost(raft, &raft->peer[i]);
    }
    if (raft->now_ms >= raft->heartbeat_deadline_ms) {
        raft->heartbeat_wanted = true;
        raft->heartbeat_deadline_ms = raft->now_ms + raft->config.heartbeat_ms;
    }
}

/* ---- answers ---- */

static void on_reject(struct raft *raft, struct raft_progress *peer,
                      const struct raft_message *message)
{
    uint64_t hint = message->hint_index;
    uint64_t next = message->log_index;
    uint64_t term = 0;

    if (message->log_index <= peer->match) {
        if (!peer->restarted || hint >= peer->match) {
            return; /* overtaken: this place was acknowledged since */
        }
        peer->match = hint; /* it has lost the end of its log: a torn group, dropped at its start */
    }
    if (peer->state == RAFT_REPLICATE) {
        raft_progress_probe(raft, peer);
        return;
    }
    if (peer->state == RAFT_SNAPSHOT || message->log_index != peer->next - 1) {
        return; /* the answer to an earlier probe */
    }
    if (message->hint_term != 0) {
        raft_log_find_term(&raft->log, message->hint_term, &hint, &term);
    }
    if (hint < next) {
        next = hint + 1 < next ? hint + 1 : next;
    }
    peer->next = next > peer->match ? next : peer->match + 1;
    raft_progress_probe(raft, peer);
}

enum err raft_on_append_answer(struct raft *raft, const struct raft_message *message)
{
    struct raft_progress *peer = raft_progress_find(raft, message->from);
    bool moved = false;

    if (raft->role != RAFT_LEADER || peer == NULL) {
        return ERR_OK;
    }
    if (message->log_index > raft->log.last_index) {
        return ERR_MALFORMED;
    }
    if (message->reject) {
        on_reject(raft, peer, message);
        return ERR_OK;
    }
    peer->restarted = false;
    moved = raft_progress_matched(raft, peer, message->log_index);
    if (peer->state == RAFT_SNAPSHOT && peer->next >= raft->log.disk_first) {
        raft_progress_probe(raft, peer); /* it has what it needs, from wherever */
    }
    if (peer->state == RAFT_PROBE) {
        raft_progress_replicate(raft, peer);
    }
    if (moved) {
        raft_leader_commit(raft); /* last: it may change the members, and with them the peers */
    }
    return ERR_OK;
}

void raft_on_heartbeat_answer(struct raft *raft, const struct raft_message *message)
{
    struct raft_progress *peer = raft_progress_find(raft, message->from);

    if (raft->role != RAFT_LEADER || peer == NULL || message->context > raft->round) {
        return;
    }
    if (message->context > peer->round_acked) {
        peer->round_acked = message->context;
        confirm_round(raft);
    }
    if (peer->state == RAFT_PROBE && peer->probe_sent &&
        raft->now_ms - peer->moved_ms >= raft->config.heartbeat_ms) {
        peer->probe_sent = false; /* the probe or its answer was lost, or the disk is slow */
        peer->probe_again = true;
    }
}

/* What it needs is not to be had at the moment. */
static void wait_and_probe(struct raft *raft, struct raft_progress *peer)
{
    raft_progress_probe(raft, peer);
    peer->fetch_after_ms = raft->now_ms + raft->config.election_max_ms;
}

void raft_on_snapshot_ended(struct raft *raft, uint64_t id, uint64_t index)
{
    struct raft_progress *peer = raft_progress_find(raft, id);

    if (raft->role != RAFT_LEADER || peer == NULL || peer->state != RAFT_SNAPSHOT) {
        return;
    }
    wait_and_probe(raft, peer);
    if (index > peer->match && index <= raft->log.last_index) {
        peer->next = index + 1;
        peer->fetch_after_ms = 0;
    }
}

enum err raft_on_fetched(struct raft *raft, const struct raft_event *event)
{
    struct raft_progress *peer = raft_progress_find(raft, event->peer);
    size_t count = 0;
    size_t bytes = 0;

    if (raft->role != RAFT_LEADER || peer == NULL || !peer->fetching) {
        return ERR_OK;
    }
    if (event->entry_count == 0) {
        wait_and_probe(raft, peer);
        return ERR_OK;
    }
    if (event->entries[0]->index != peer->fetch_index) {
        return ERR_OK; /* what an earlier fetch asked for */
    }
    peer->fetching = false;
    if (peer->next != peer->fetch_index || raft_progress_window_is_full(peer) ||
        (peer->state == RAFT_PROBE && peer->probe_sent) ||
        !raft_log_fits(&raft->log, event->log_term, event->entries, event->entry_count)) {
        return ERR_OK;
    }
    for (; count < event->entry_count && count < APPEND_ENTRIES_MAX; count++) {
        raft_send_entry(raft, event->entries[count]);
        bytes += entry_bytes(event->entries[count]);
    }
    send_append(raft, peer, event->log_term, count, bytes);
    return ERR_OK;
}

enum err raft_transfer(struct raft *raft, uint64_t id)
{
    const struct raft_progress *peer = raft_progress_find(raft, id);

    if (raft->role != RAFT_LEADER) {
        return ERR_NOT_LEADER;
    }
    if (peer == NULL || !raft_peer_votes(peer)) {
        return ERR_INVALID;
    }
    raft->transfer_to = id;
    raft->transfer_sent = false;
    raft->transfer_deadline_ms = raft->now_ms + raft->config.election_max_ms;
    return ERR_OK;
}
