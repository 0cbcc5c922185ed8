/* SPDX-License-Identifier: Apache-2.0
 *
 * The follower: takes entries and the commit index from the leader, answers when they are durable.
 * Called by raft.c with the leader's messages (of the current term), and once per turn by
 * raft_effects.
 *
 * Invariants of a follower:
 *   1. Entries up to the commit index are never removed.
 *   2. An entry that may equal the leader's is never removed, not even to write it again: it may be
 *      counted as durable here. So terms must be known before a truncation; those of entries from
 *      before the start are read from the own disk first (raft_log_scanned).
 *   3. It acknowledges min(durable, verified): durable entries that a message of this term's
 *      leader has covered. What an older leader sent does not count (CONSENSUS 10).
 */
#include "common/plant.h"
#include "server/raft/raft_internal.h"

enum fit {
    FIT_YES,
    FIT_NO,
    FIT_UNKNOWN, /* the terms have to be read from disk */
    FIT_BROKEN,  /* contradicts what is committed */
};

static void commit_to(struct raft *raft, uint64_t index)
{
    if (index > raft->log.commit_index) {
        CHECK_OP(index, <=, raft->log.last_index);
        raft->log.commit_index = index;
    }
}

/* Compares one place of the message with the own log. */
static enum fit place_fits(const struct raft *raft, uint64_t index, uint64_t term)
{
    const struct raft_log *log = &raft->log;
    uint64_t known = 0;
    bool is_known = raft_log_term(log, index, &known);

    if (index <= log->commit_index) {
        return is_known && known != term ? FIT_BROKEN : FIT_YES;
    }
    if (index > log->last_index) {
        return FIT_NO;
    }
    if (is_known) {
        return known == term ? FIT_YES : FIT_NO;
    }
    return FIT_UNKNOWN;
}

/* Equal (index, term) means equal logs up to there (log matching): an entry behind the unknown
 * ones that fits makes them fit. */
static bool first_known_fits(const struct raft *raft, const struct raft_message *message)
{
    const struct raft_run *run = &raft->log.runs[0];

    return run->index > message->log_index &&
           run->index <= message->log_index + message->entry_count &&
           message->entries[run->index - message->log_index - 1]->term == run->term;
}

/* How the place before the first entry, then the entries fit; *out_count of them are already
 * there. FIT_NO: the next one conflicts (or, with *out_count 0 and *out_prev false, the place
 * before). FIT_YES: the rest is behind our end. */
static enum fit message_fits(const struct raft *raft, const struct raft_message *message,
                             bool *out_prev, size_t *out_count)
{
    bool unknown_fits = first_known_fits(raft, message);
    enum fit fit = place_fits(raft, message->log_index, message->log_term);
    size_t count = 0;

    *out_count = 0;
    *out_prev = fit == FIT_YES || (fit == FIT_UNKNOWN && unknown_fits);
    if (!*out_prev) {
        return fit;
    }
    for (; count < message->entry_count; count++) {
        const struct raft_entry *entry = message->entries[count];
        if (entry->index > raft->log.last_index) {
            break;
        }
        fit = place_fits(raft, entry->index, entry->term);
        if (fit != FIT_YES && !(fit == FIT_UNKNOWN && unknown_fits)) {
            *out_count = count;
            return fit;
        }
    }
    *out_count = count;
    return FIT_YES;
}

/* Where the leader should look next: the last place that may be equal, at least the commit index,
 * which is equal for sure. */
static void reject(struct raft *raft, const struct raft_message *message)
{
    const struct raft_log *log = &raft->log;
    uint64_t hint = message->log_index;
    uint64_t hint_term = 0;

    raft_log_find_term(log, message->log_term, &hint, &hint_term);
    if (hint_term == 0 || hint < log->commit_index) {
        hint = log->commit_index;
        if (!raft_log_term(log, hint, &hint_term)) {
            hint_term = 0;
        }
    }
    raft_send(raft, (struct raft_message){
                        .type = RAFT_MSG_APPEND_ANSWER,
                        .to = message->from,
                        .reject = true,
                        .log_index = message->log_index,
                        .hint_index = hint,
                        .hint_term = hint_term,
                    });
}

/* Reads the terms of what is on disk but was never seen by this process. The message is dropped;
 * the leader sends it again. */
static void scan_start(struct raft *raft)
{
    struct raft_log *log = &raft->log;

    if (log->scanning) {
        return;
    }
    log->scanning = true;
    log->scan_next = log->commit_index + 1;
    log->scan_count = 0;
    raft_send_fetch(raft, raft->config.id, log->scan_next);
}

void raft_on_scanned(struct raft *raft, const struct raft_event *event)
{
    struct raft_log *log = &raft->log;

    if (log->scanning &&
        raft_log_scanned(log, event->log_term, event->entries, event->entry_count)) {
        raft_send_fetch(raft, raft->config.id, log->scan_next);
    }
}

/* Takes the entries from `count` on, in place of what conflicts with them. */
static void take_entries(struct raft *raft, const struct raft_message *message, size_t count)
{
    uint64_t index = message->log_index + count + 1;
    uint64_t term_before = count > 0 ? message->entries[count - 1]->term : message->log_term;

    if (count == message->entry_count) {
        return;
    }
    if (index <= raft->log.last_index) {
        CHECK_OP(index, >, raft->verified);
        raft_log_truncate(&raft->log, index, term_before);
        raft_members_truncated(raft, index);
    }
    for (size_t i = count; i < message->entry_count; i++) {
        if (raft_log_append(&raft->log, message->entries[i]) != ERR_OK) {
            raft->no_memory = true;
            return;
        }
        raft_members_appended(raft, message->entries[i]);
    }
}

enum err raft_on_append(struct raft *raft, const struct raft_message *message)
{
    uint64_t end = message->log_index + message->entry_count;
    bool prev_fits = false;
    size_t count = 0;
    enum fit fit = FIT_NO;

    raft_leader_heard(raft, message->from);
    fit = message_fits(raft, message, &prev_fits, &count);
    if (fit == FIT_BROKEN) {
        return ERR_MALFORMED;
    }
    if (fit == FIT_UNKNOWN) {
        scan_start(raft);
        return ERR_OK;
    }
    if (!prev_fits) {
        reject(raft, message);
        return ERR_OK;
    }
    if (count < message->entry_count && message->log_index + count < raft->verified) {
        return ERR_MALFORMED; /* the leader of a term never rewrites its log */
    }
    take_entries(raft, message, count);
    if (raft->no_memory) {
        return ERR_MEMORY;
    }
    commit_to(raft, message->commit < end ? message->commit : end);
    if (end < raft->log.commit_index) {
        end = raft->log.commit_index; /* every leader has what is committed */
    }
    if (raft->verified < end) {
        raft->verified = end;
    }
    if (message->log_index + message->entry_count <= raft->log.durable_index) {
        raft->ack_wanted = true; /* nothing of it waits for the disk */
    }
    return ERR_OK;
}

void raft_on_heartbeat(struct raft *raft, const struct raft_message *message)
{
    const struct raft_log *log = &raft->log;

    raft_leader_heard(raft, message->from);
    commit_to(raft, message->commit < log->last_index ? message->commit : log->last_index);
    if (message->context != 0) {
        raft_send(raft, (struct raft_message){
                            .type = RAFT_MSG_HEARTBEAT_ANSWER,
                            .to = message->from,
                            .context = message->context,
                        });
    }
}

void raft_follower_flush(struct raft *raft)
{
    const struct raft_log *log = &raft->log;
    uint64_t equal = PLANT(ACK_UNVERIFIED, UINT64_MAX, raft->verified);
    uint64_t match = log->durable_index < equal ? log->durable_index : equal;

    if (raft->role != RAFT_FOLLOWER || raft->leader == 0 ||
        (match <= raft->acked && !raft->ack_wanted)) {
        return;
    }
    raft->ack_wanted = false;
    raft->acked = match;
    raft_send(raft, (struct raft_message){
                        .type = RAFT_MSG_APPEND_ANSWER,
                        .to = raft->leader,
                        .log_index = match,
                    });
}
