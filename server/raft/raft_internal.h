/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the core call of each other. Outsiders include raft.h only.
 *
 * An allocation that fails sets raft->no_memory; raft_step and raft_effects report it at their end
 * and the replica stops, so that the steps between need no error path of their own.
 */
#ifndef QUORUMFS_RAFT_INTERNAL_H
#define QUORUMFS_RAFT_INTERNAL_H

#include "common/check.h"
#include "server/raft/raft_state.h"

/* ---- raft.c ---- */

bool raft_record_is_durable(const struct raft *raft);
bool raft_leader_is_ready(const struct raft *raft);

/* ---- raft_effects.c ---- */

/* The array with room for `needed` elements of `size` bytes; NULL and no_memory: no change. */
void *raft_grow(struct raft *raft, void *array, size_t *capacity, size_t needed, size_t size);
void raft_outbox_add(struct raft *raft, struct raft_outbox *outbox,
                     const struct raft_message *message);
/* Drops all messages. */
void raft_outbox_clear(struct raft_outbox *outbox);
void raft_outbox_done(struct raft_outbox *outbox);
/* Adds a message; from is set, term if it is 0. Its last entry_count entries are those added by
 * raft_send_entry just before. Held back while the record is not durable. */
void raft_send(struct raft *raft, struct raft_message message);
void raft_send_entry(struct raft *raft, struct raft_entry *entry);
/* Tells the conductor that a peer needs a snapshot. */
void raft_send_snapshot(struct raft *raft, uint64_t peer);
/* Asks the conductor for entries from disk. */
void raft_send_fetch(struct raft *raft, uint64_t peer, uint64_t index);

/* ---- raft_log.c ---- */

void raft_log_init(struct raft_log *log, const struct raft_start *start);
void raft_log_done(struct raft_log *log);
struct raft_entry *raft_log_entry(const struct raft_log *log, uint64_t index);
bool raft_log_term(const struct raft_log *log, uint64_t index, uint64_t *out_term);
/* Takes a reference; entry->index is last_index + 1. ERR_MEMORY changes nothing. */
enum err raft_log_append(struct raft_log *log, struct raft_entry *entry);
/* Removes all entries >= index; `term_before` is the term of index - 1. */
void raft_log_truncate(struct raft_log *log, uint64_t index, uint64_t term_before);
/* How many entries from save_next on can be submitted now. */
size_t raft_log_save_count(const struct raft_log *log);
void raft_log_submitted(struct raft_log *log, size_t count);
/* The disk reports; true: durable_index moved. */
bool raft_log_saved(struct raft_log *log, uint64_t index, uint64_t term);
/* Drops entries from memory above RAFT_TAIL_BYTES_MAX. */
void raft_log_trim(struct raft_log *log);
/* The largest index <= *index whose term is <= term, and its term; or, where terms are not known,
 * the place where they begin to be unknown, and 0. */
void raft_log_find_term(const struct raft_log *log, uint64_t term, uint64_t *index,
                        uint64_t *out_term);
/* Whether all entries fit what is known of the log (a fetch may have been overtaken). */
bool raft_log_fits(const struct raft_log *log, uint64_t term_before,
                   struct raft_entry *const *entries, size_t count);
/* Learns the terms of entries read from the own disk; true: more are needed, from scan_next on. */
bool raft_log_scanned(struct raft_log *log, uint64_t term_before, struct raft_entry *const *entries,
                      size_t count);

/* ---- raft_members.c ---- */

/* The value that a majority of the `count` values reaches; 0 for no values. Sorts them. */
uint64_t raft_quorum(uint64_t *values, size_t count);
/* Whether the members can be wanted: not joint, at least one voter, each of a known incarnation, and
 * where it is a voter now too, of that one. */
bool raft_members_can_follow(const struct raft_members *now, const struct raft_members *wanted);
/* The members that lead from `now` to `wanted`: joint, or, if the voters stay and nobody leaves,
 * `wanted`. */
enum err raft_members_between(const struct raft_members *now, const struct raft_members *wanted,
                              struct raft_members *out);
/* What joint members lead to. */
struct raft_members raft_members_final(const struct raft_members *joint);

/* ---- raft_progress.c ---- */

struct raft_progress *raft_progress_find(struct raft *raft, uint64_t id);
/* Fits the peers to the members, keeping what is known of those that stay. */
void raft_progress_update(struct raft *raft);
/* Whether this replica has a vote; may ask for votes; the peer has a vote. */
bool raft_self_votes(const struct raft *raft);
bool raft_may_campaign(const struct raft *raft);
bool raft_peer_votes(const struct raft_progress *peer);
/* What a majority of the voters has reached, of both kinds if the members are joint; `self` is the
 * own value. */
uint64_t raft_voters_reach(const struct raft *raft, uint64_t self,
                           uint64_t (*value_of)(const struct raft_progress *peer));
void raft_progress_snapshot(struct raft *raft, struct raft_progress *peer);
void raft_progress_probe(struct raft *raft, struct raft_progress *peer);
void raft_progress_replicate(struct raft *raft, struct raft_progress *peer);
bool raft_progress_window_is_full(const struct raft_progress *peer);
void raft_progress_sent(struct raft *raft, struct raft_progress *peer, uint64_t last_index,
                        size_t bytes);
/* match is now at least `index`; true: it moved. */
bool raft_progress_matched(struct raft *raft, struct raft_progress *peer, uint64_t index);

/* ---- raft_election.c ---- */

uint64_t raft_random(struct raft *raft);
void raft_become_follower(struct raft *raft, uint64_t term, uint64_t leader);
/* Another leader, or none (0): reads that wait for the old one end. */
void raft_set_leader(struct raft *raft, uint64_t leader);
/* A message of the leader of this term has come. */
void raft_leader_heard(struct raft *raft, uint64_t leader);
void raft_election_reset(struct raft *raft);
void raft_election_tick(struct raft *raft);
void raft_election_on_log_durable(struct raft *raft);
void raft_election_on_record_durable(struct raft *raft);
void raft_election_on_peer_closed(struct raft *raft, uint64_t id);
bool raft_election_is_sticky(const struct raft *raft);
void raft_on_prevote(struct raft *raft, const struct raft_message *message);
void raft_on_vote(struct raft *raft, const struct raft_message *message);
void raft_on_vote_answer(struct raft *raft, const struct raft_message *message);
void raft_on_transfer(struct raft *raft, const struct raft_message *message);

/* ---- raft_replicate.c: leader; raft_follow.c: follower ---- */

void raft_become_leader(struct raft *raft);
enum err raft_propose(struct raft *raft, struct raft_entry *entry);
/* Appends an entry of the own term; leader. */
void raft_leader_append(struct raft *raft, struct raft_entry *entry);
/* Tells a peer what is committed, now. */
void raft_leader_tell_commit(struct raft *raft, struct raft_progress *peer);
void raft_on_snapshot_ended(struct raft *raft, uint64_t id, uint64_t index);
void raft_leader_tick(struct raft *raft);
void raft_leader_flush(struct raft *raft);
void raft_leader_commit(struct raft *raft);
enum err raft_on_append_answer(struct raft *raft, const struct raft_message *message);
void raft_on_heartbeat_answer(struct raft *raft, const struct raft_message *message);
enum err raft_on_fetched(struct raft *raft, const struct raft_event *event);
enum err raft_transfer(struct raft *raft, uint64_t id);

enum err raft_on_append(struct raft *raft, const struct raft_message *message);
void raft_on_heartbeat(struct raft *raft, const struct raft_message *message);
void raft_on_scanned(struct raft *raft, const struct raft_event *event);
void raft_follower_flush(struct raft *raft);

/* ---- raft_change.c ---- */

/* The entry was appended: members take effect at once. */
void raft_members_appended(struct raft *raft, const struct raft_entry *entry);
/* The entries from `index` on were removed. */
void raft_members_truncated(struct raft *raft, uint64_t index);
enum err raft_change(struct raft *raft, const struct raft_members *wanted);
bool raft_change_is_ready(const struct raft *raft);
/* The commit index of a leader moved: joint members that are committed get their final ones. */
void raft_change_finish(struct raft *raft);

/* ---- raft_read.c ---- */

void raft_reads_done(struct raft_reads *reads);
enum err raft_reads_add(struct raft *raft, uint64_t context, uint64_t from);
/* Leader: the reads that wait belong to this round. */
void raft_reads_ask(struct raft *raft, uint64_t round);
/* Leader: a round is confirmed: reads up to it end. */
void raft_reads_confirm(struct raft *raft, uint64_t round);
/* Follower: the answer to a request. */
void raft_on_read_index_answer(struct raft *raft, const struct raft_message *message);
/* The leader changed: all end with ERR_NO_LEADER. */
void raft_reads_fail(struct raft *raft);
void raft_reads_tick(struct raft *raft);
void raft_reads_flush(struct raft *raft);
uint64_t raft_reads_deadline(const struct raft *raft);

#endif
