/* SPDX-License-Identifier: Apache-2.0
 *
 * The entrance of the core: takes events, sorts messages by term, gives effects. Handed events by
 * the conductor; hands on to raft_election.c, raft_replicate.c (leader), raft_follow.c (follower)
 *, raft_change.c
 * (members) and raft_read.c.
 *
 * Invariants:
 *   1. term only grows; vote changes from 0 to one id within a term, never back.
 *   2. While {term, vote} is not durable, messages go to `held` (CONSENSUS 1). At most one record
 *      is on its way to the disk, so a report is always that of the one in flight.
 *   3. Effects stay until raft_effects_done. Events may be stepped between raft_effects and
 *      raft_effects_done (their effects are the next turn's), but none that truncates the log.
 */
#include "common/plant.h"
#include "server/raft/raft_internal.h"

#include <stdlib.h>

/* ---- new and free ---- */

struct raft *raft_new(const struct raft_config *config, const struct raft_start *start)
{
    struct raft *raft = NULL;

    CHECK(config->id != 0 && config->heartbeat_ms > 0);
    CHECK(config->election_min_ms > config->heartbeat_ms);
    CHECK(config->election_max_ms >= config->election_min_ms);
    CHECK_OP(start->applied_index, <=, start->last_index);
    raft = calloc(1, sizeof(*raft));
    if (raft == NULL) {
        return NULL;
    }
    raft->config = *config;
    raft->now_ms = start->now_ms;
    raft->random = config->seed ^ config->id * UINT64_C(0xD6E8FEB86659FD93);
    raft->saved_term = start->term;
    raft->saved_vote = start->vote;
    raft->term = start->term;
    raft->vote = start->vote;
    if (start->last_term > start->term) {
        raft->term = start->last_term; /* an entry can be durable before the record of its term */
        raft->vote = 0;
    }
    raft_log_init(&raft->log, start);
    raft->members = start->members;
    raft->members_index = start->members_index;
    raft->members_before = start->members_before;
    raft->members_before_index = start->members_before_index;
    raft_progress_update(raft);
    raft_election_reset(raft);
    raft->reads.request = raft_random(raft) >> 1; /* raft_read.c says why; never overflows */
    if (raft->self_voter && !raft->is_joint && raft_members_voters(&raft->members) == 1) {
        raft->election_deadline_ms = raft->now_ms; /* nobody to wait for */
    }
    raft->term_reported = raft->term;
    return raft;
}

void raft_free(struct raft *raft)
{
    if (raft == NULL) {
        return;
    }
    raft_outbox_done(&raft->out);
    raft_outbox_done(&raft->held);
    raft_log_done(&raft->log);
    raft_reads_done(&raft->reads);
    free(raft->done_reads);
    free(raft->save);
    free(raft);
}

bool raft_record_is_durable(const struct raft *raft)
{
    return raft->saved_term == raft->term && raft->saved_vote == raft->vote;
}

bool raft_leader_is_ready(const struct raft *raft)
{
    return raft->role == RAFT_LEADER &&
           PLANT(READ_BEFORE_NOOP, true, raft->log.commit_index >= raft->noop_index);
}

/* ---- messages ---- */

/* Entries of a message or a fetch: in sequence behind `index`, terms ascending from `term`. */
static bool entries_are_in_sequence(struct raft_entry *const *entries, size_t count, uint64_t index,
                                    uint64_t term)
{
    struct raft_members members;

    for (size_t i = 0; i < count; i++) {
        const struct raft_entry *entry = entries[i];
        if (entry->index != index + 1 + i || entry->term < term) {
            return false;
        }
        if (entry->type < RAFT_ENTRY_COMMAND || entry->type > RAFT_ENTRY_MEMBERS) {
            return false;
        }
        if (entry->type == RAFT_ENTRY_MEMBERS &&
            raft_members_decode(entry->data, entry->len, &members) != ERR_OK) {
            return false;
        }
        term = entry->term;
    }
    return true;
}

static bool is_from_leader(enum raft_message_type type)
{
    return type == RAFT_MSG_APPEND || type == RAFT_MSG_HEARTBEAT || type == RAFT_MSG_TRANSFER ||
           type == RAFT_MSG_READ_INDEX_ANSWER;
}

static bool message_is_valid(const struct raft *raft, const struct raft_message *message)
{
    size_t count = message->entry_count;

    if (message->to != raft->config.id || message->from == 0 || message->from == raft->config.id ||
        message->type < RAFT_MSG_PREVOTE || message->type > RAFT_MSG_TRANSFER ||
        message->term == 0) {
        return false;
    }
    if (message->type != RAFT_MSG_APPEND) {
        return count == 0;
    }
    return message->log_index <= UINT64_MAX - 1 - count && message->log_term <= message->term &&
           entries_are_in_sequence(message->entries, count, message->log_index,
                                   message->log_term) &&
           (count == 0 || message->entries[count - 1]->term <= message->term);
}

/* A message of a newer term; false: it does not move us to that term. */
static bool enter_newer_term(struct raft *raft, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MSG_PREVOTE:
        return true; /* asks about a term that has not begun */
    case RAFT_MSG_PREVOTE_ANSWER:
        if (!message->reject) {
            return true; /* the same */
        }
        break;
    case RAFT_MSG_VOTE:
        if (raft_election_is_sticky(raft) && !message->force) {
            return false;
        }
        break;
    case RAFT_MSG_VOTE_ANSWER:
    case RAFT_MSG_APPEND:
    case RAFT_MSG_APPEND_ANSWER:
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_HEARTBEAT_ANSWER:
    case RAFT_MSG_READ_INDEX:
    case RAFT_MSG_READ_INDEX_ANSWER:
    case RAFT_MSG_TRANSFER:
        break;
    }
    raft_become_follower(raft, message->term, is_from_leader(message->type) ? message->from : 0);
    return true;
}

/* A message of an older term. Its sender has to learn the newer one: a leader that others left
 * behind would never step down otherwise, a candidate never win. */
static void answer_older_term(struct raft *raft, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MSG_PREVOTE:
        raft_on_prevote(raft, message);
        break;
    case RAFT_MSG_VOTE:
        raft_on_vote(raft, message);
        break;
    case RAFT_MSG_APPEND:
    case RAFT_MSG_HEARTBEAT:
        raft_send(raft, (struct raft_message){
                            .type = RAFT_MSG_APPEND_ANSWER,
                            .to = message->from,
                            .reject = true,
                            .log_index = message->log_index,
                        });
        break;
    case RAFT_MSG_PREVOTE_ANSWER:
    case RAFT_MSG_VOTE_ANSWER:
    case RAFT_MSG_APPEND_ANSWER:
    case RAFT_MSG_HEARTBEAT_ANSWER:
    case RAFT_MSG_READ_INDEX:
    case RAFT_MSG_READ_INDEX_ANSWER:
    case RAFT_MSG_TRANSFER:
        break;
    }
}

static enum err dispatch(struct raft *raft, const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_MSG_PREVOTE:
        raft_on_prevote(raft, message);
        break;
    case RAFT_MSG_VOTE:
        raft_on_vote(raft, message);
        break;
    case RAFT_MSG_PREVOTE_ANSWER:
    case RAFT_MSG_VOTE_ANSWER:
        raft_on_vote_answer(raft, message);
        break;
    case RAFT_MSG_APPEND:
        return raft_on_append(raft, message);
    case RAFT_MSG_APPEND_ANSWER:
        return raft_on_append_answer(raft, message);
    case RAFT_MSG_HEARTBEAT:
        raft_on_heartbeat(raft, message);
        break;
    case RAFT_MSG_HEARTBEAT_ANSWER:
        raft_on_heartbeat_answer(raft, message);
        break;
    case RAFT_MSG_READ_INDEX:
        if (raft->role == RAFT_LEADER) {
            /* At the limit it is dropped; the follower asks again. */
            (void)raft_reads_add(raft, message->context, message->from);
        }
        break;
    case RAFT_MSG_READ_INDEX_ANSWER:
        raft_on_read_index_answer(raft, message);
        break;
    case RAFT_MSG_TRANSFER:
        raft_on_transfer(raft, message);
        break;
    }
    return ERR_OK;
}

static enum err step_message(struct raft *raft, const struct raft_message *message)
{
    struct raft_progress *peer = NULL;

    if (!message_is_valid(raft, message)) {
        return ERR_MALFORMED;
    }
    peer = raft_progress_find(raft, message->from);
    if (peer != NULL) {
        peer->closed = false;
    }
    if (message->term > raft->term && !enter_newer_term(raft, message)) {
        return ERR_OK;
    }
    if (message->term < raft->term) {
        answer_older_term(raft, message);
        return ERR_OK;
    }
    /* A term has one leader; a second one would be a broken replica. */
    if (is_from_leader(message->type) &&
        (raft->role == RAFT_LEADER || (raft->leader != 0 && raft->leader != message->from))) {
        return ERR_MALFORMED;
    }
    if (peer != NULL) {
        peer->heard_ms = raft->now_ms;
    }
    return dispatch(raft, message);
}

/* ---- events ---- */

static void step_term_saved(struct raft *raft, uint64_t term)
{
    if (!raft->record_in_flight || raft->record_term != term) {
        return;
    }
    raft->record_in_flight = false;
    raft->saved_term = raft->record_term;
    raft->saved_vote = raft->record_vote;
    if (!raft_record_is_durable(raft)) {
        return; /* it has changed meanwhile */
    }
    for (size_t i = 0; i < raft->held.count; i++) {
        raft_outbox_add(raft, &raft->out, &raft->held.messages[i]);
    }
    raft_outbox_clear(&raft->held);
    raft_election_on_record_durable(raft);
}

static void step_log_saved(struct raft *raft, uint64_t index, uint64_t term)
{
    if (!raft_log_saved(&raft->log, index, term)) {
        return;
    }
    if (raft->role == RAFT_LEADER) {
        raft_leader_commit(raft);
    }
    raft_election_on_log_durable(raft);
}

static void step_applied(struct raft *raft, uint64_t index)
{
    CHECK_OP(index, >=, raft->log.applied_index);
    CHECK_OP(index, <=, raft->log.commit_index);
    CHECK_OP(index, <=, raft->log.durable_index);
    raft->log.applied_index = index;
}

static enum err step_fetched(struct raft *raft, const struct raft_event *event)
{
    if (event->entry_count > 0 &&
        !entries_are_in_sequence(event->entries, event->entry_count, event->entries[0]->index - 1,
                                 event->log_term)) {
        return ERR_MALFORMED;
    }
    if (event->peer == raft->config.id) {
        raft_on_scanned(raft, event);
        return ERR_OK;
    }
    return raft_on_fetched(raft, event);
}

static void step_peer_closed(struct raft *raft, uint64_t id)
{
    struct raft_progress *peer = raft_progress_find(raft, id);

    if (peer != NULL) {
        peer->closed = true;
        peer->restarted = true;
    }
    if (raft->role == RAFT_LEADER && peer != NULL) {
        raft_progress_probe(raft, peer); /* what was on its way is lost */
    }
    raft_election_on_peer_closed(raft, id);
}

/* Silence that we did not listen to proves nothing. */
static void step_stalled(struct raft *raft)
{
    raft_election_reset(raft);
    for (size_t i = 0; i < raft->peer_count; i++) {
        raft->peer[i].heard_ms = raft->now_ms;
    }
}

static void step_tick(struct raft *raft)
{
    if (raft->role == RAFT_LEADER) {
        raft_leader_tick(raft);
    }
    raft_election_tick(raft);
    raft_reads_tick(raft);
}

static enum err step_event(struct raft *raft, const struct raft_event *event)
{
    switch (event->type) {
    case RAFT_EV_TICK:
        step_tick(raft);
        return ERR_OK;
    case RAFT_EV_MESSAGE:
        return step_message(raft, event->message);
    case RAFT_EV_PROPOSE:
        return raft_propose(raft, event->entry);
    case RAFT_EV_READ:
        return raft_reads_add(raft, event->context, 0 /* ours */);
    case RAFT_EV_TERM_SAVED:
        step_term_saved(raft, event->term);
        return ERR_OK;
    case RAFT_EV_LOG_SAVED:
        step_log_saved(raft, event->index, event->term);
        return ERR_OK;
    case RAFT_EV_APPLIED:
        step_applied(raft, event->index);
        return ERR_OK;
    case RAFT_EV_FETCHED:
        return step_fetched(raft, event);
    case RAFT_EV_PEER_CLOSED:
        step_peer_closed(raft, event->peer);
        return ERR_OK;
    case RAFT_EV_TRANSFER:
        return raft_transfer(raft, event->peer);
    case RAFT_EV_STALLED:
        step_stalled(raft);
        return ERR_OK;
    case RAFT_EV_CHANGE:
        return raft_change(raft, event->members);
    case RAFT_EV_COMPACTED:
        CHECK_OP(event->index, <=, raft->log.applied_index + 1);
        raft->log.disk_first = event->index;
        return ERR_OK;
    case RAFT_EV_SNAPSHOT_ENDED:
        raft_on_snapshot_ended(raft, event->peer, event->index);
        return ERR_OK;
    }
    return ERR_INVALID;
}

enum err raft_step(struct raft *raft, const struct raft_event *event)
{
    enum err err = ERR_OK;

    CHECK_OP(event->now_ms, >=, raft->now_ms);
    raft->now_ms = event->now_ms;
    err = step_event(raft, event);
    return raft->no_memory ? ERR_MEMORY : err;
}

/* ---- looking ---- */

struct raft_entry *raft_entry_at(const struct raft *raft, uint64_t index)
{
    return raft_log_entry(&raft->log, index);
}

void raft_status(const struct raft *raft, struct raft_status *out)
{
    *out = (struct raft_status){
        .role = raft->role,
        .term = raft->term,
        .vote = raft->vote,
        .leader = raft->leader,
        .leader_ready = raft_leader_is_ready(raft),
        .commit_index = raft->log.commit_index,
        .last_index = raft->log.last_index,
        .durable_index = raft->log.durable_index,
        .applied_index = raft->log.applied_index,
        .members_index = raft->members_index,
        .change_ready = raft_change_is_ready(raft),
        .peer_count = raft->peer_count,
    };
    for (size_t i = 0; i < raft->peer_count; i++) {
        const struct raft_progress *peer = &raft->peer[i];
        out->peer[i] = (struct raft_peer_status){
            .id = peer->id,
            .match_index = peer->match,
            .next_index = peer->next,
            .snapshot = raft->role == RAFT_LEADER && peer->state == RAFT_SNAPSHOT,
            .active = raft->role == RAFT_LEADER && !peer->closed &&
                      raft->now_ms - peer->heard_ms < raft->config.election_max_ms,
        };
    }
}

const struct raft_members *raft_members(const struct raft *raft)
{
    return &raft->members;
}

const struct raft_members *raft_members_committed(const struct raft *raft, uint64_t *out_index)
{
    if (raft->members_index > raft->log.commit_index && raft->members_before.count > 0) {
        *out_index = raft->members_before_index;
        return &raft->members_before;
    }
    *out_index = raft->members_index;
    return &raft->members;
}
