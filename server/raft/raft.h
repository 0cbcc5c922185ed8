/* SPDX-License-Identifier: Apache-2.0
 *
 * The Raft core: a pure step function. Owns no socket, file, clock, thread or random source.
 *
 * One turn: hand in events with raft_step(); then raft_effects() gives what to do, in this order:
 *   1. save   hand `save_*` to the log thread (term+vote record and entries, in order);
 *   2. send   hand every message to the network (never waits for 1: a message that must wait for
 *             the disk is not yet in the list; the core holds it back until EV_*_SAVED);
 *   3. fetch  read old entries for slow followers, answer with RAFT_EV_FETCHED;
 *   4. apply  entries up to `apply_index`, then RAFT_EV_APPLIED;
 *   5. reads  answer confirmed reads once applied_index >= their index.
 * Then raft_effects_done(). All functions: from the thread of the loop.
 *
 * Sources: Ongaro, "Consensus: Bridging Theory and Practice" (the dissertation), chapters 3, 4,
 * 6.4, 9.6; etcd's raft for the shape.
 */
#ifndef QUORUMFS_RAFT_H
#define QUORUMFS_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/err.h"
#include "common/limits.h"

enum raft_role {
    RAFT_FOLLOWER,
    RAFT_PRE_CANDIDATE,
    RAFT_CANDIDATE,
    RAFT_LEADER,
};

enum raft_entry_type {
    RAFT_ENTRY_COMMAND = 1, /* opaque bytes for the tree */
    RAFT_ENTRY_NOOP = 2,    /* a new leader's first */
    RAFT_ENTRY_MEMBERS = 3, /* struct raft_members, encoded */
};

/* One log entry. Reference counted, single thread; bytes never change after raft_entry_new. The
 * log thread may read it while the loop holds a reference. */
struct raft_entry {
    uint64_t index;
    uint64_t term;
    int64_t time_ns; /* leader's CLOCK_REALTIME, never less than the previous entry's */
    uint32_t references;
    uint32_t len;
    uint8_t type; /* enum raft_entry_type */
    uint8_t data[];
};

/* A new entry with one reference and a copy of `data`; NULL: no memory. */
struct raft_entry *raft_entry_new(uint8_t type, const void *data, size_t len);
struct raft_entry *raft_entry_ref(struct raft_entry *entry);
void raft_entry_unref(struct raft_entry *entry);

/* ---- members ---- */

struct raft_member {
    uint64_t id; /* 1.., never used again for another replica */
    uint64_t
        incarnation; /* random, made with the data folder; 0: not known yet, never of a voter */
    bool voter;      /* false: learner, or leaving */
    bool was_voter;  /* joint: a voter of the members before */
    bool leaving;    /* joint: not a member of the members to come */
    bool joining;    /* a learner that is to be made a voter when it has caught up; for the
                             conductor, the core only keeps it */
    char address[ADDRESS_BYTES_MAX + 1];
};

/* Any was_voter makes the members joint (dissertation 4.3): elections, commits and rounds then need
 * a majority of the voters to come and one of the voters of before. */
struct raft_members {
    uint64_t last_id; /* the highest id that ever was a member's */
    size_t count;
    struct raft_member member[MEMBERS_MAX]; /* by ascending id */
};

/* The data of a RAFT_ENTRY_MEMBERS entry and back. ERR_MALFORMED for anything else. */
enum err raft_members_encode(const struct raft_members *members, struct buffer *out);
enum err raft_members_decode(const uint8_t *data, size_t len, struct raft_members *out);
const struct raft_member *raft_members_find(const struct raft_members *members, uint64_t id);
bool raft_members_is_joint(const struct raft_members *members);
size_t raft_members_voters(const struct raft_members *members);

/* ---- messages ---- */

enum raft_message_type {
    RAFT_MSG_PREVOTE = 1,
    RAFT_MSG_PREVOTE_ANSWER = 2,
    RAFT_MSG_VOTE = 3,
    RAFT_MSG_VOTE_ANSWER = 4,
    RAFT_MSG_APPEND = 5,
    RAFT_MSG_APPEND_ANSWER = 6,
    RAFT_MSG_HEARTBEAT = 7,
    RAFT_MSG_HEARTBEAT_ANSWER = 8,
    RAFT_MSG_READ_INDEX = 9,         /* follower -> leader: `context` is the follower's own */
    RAFT_MSG_READ_INDEX_ANSWER = 10, /* leader -> follower: `context`, `commit` = read index */
    RAFT_MSG_TRANSFER = 11,          /* leader -> follower: campaign at once */
};

/* Meaning of the fields by type; a field not named is zero.
 *   (PRE)VOTE          term, log_index and log_term of the candidate's DURABLE end; force:
 *                      leadership transfer, stickiness does not refuse
 *   (PRE)VOTE_ANSWER   term, reject
 *   APPEND             log_index, log_term = entry before the first; commit; entries
 *   APPEND_ANSWER      reject ? log_index = rejected prev, hint_index, hint_term : log_index =
 *                      durable match index
 *   HEARTBEAT          commit (never beyond the follower's match), context = round, or 0: only
 *                      tells the commit index, no answer
 *   HEARTBEAT_ANSWER   context = round
 */
struct raft_message {
    enum raft_message_type type;
    uint64_t from;
    uint64_t to;
    uint64_t term;
    uint64_t log_index;
    uint64_t log_term;
    uint64_t commit;
    uint64_t context;
    uint64_t hint_index;
    uint64_t hint_term;
    bool reject;
    bool force;
    size_t entry_count;
    struct raft_entry **entries; /* in raft_effects: owned by the core until raft_effects_done; in
                                    RAFT_EV_MESSAGE: owned by the caller (the core takes its own
                                    references) */
};

/* ---- events ---- */

enum raft_event_type {
    RAFT_EV_TICK,        /* time has passed (send at effects.deadline_ms, or any time) */
    RAFT_EV_MESSAGE,     /* message: from a member of the right incarnation */
    RAFT_EV_PROPOSE,     /* entry: the leader appends it (takes a reference, sets index, term and
                            time_ns = max(time_ns, the previous entry's)) */
    RAFT_EV_READ,        /* context: a read index is wanted; any role; ends in effects.reads */
    RAFT_EV_TERM_SAVED,  /* term: the {term, vote} record of that save is durable */
    RAFT_EV_LOG_SAVED,   /* index, term of the last durable entry of one save */
    RAFT_EV_APPLIED,     /* index: applied to the tree */
    RAFT_EV_FETCHED,     /* peer, log_term = term of the entry before the first, entries: what a
                            fetch asked for; entry_count 0: not available (compacted) */
    RAFT_EV_PEER_CLOSED, /* peer: its connection broke; of a leader: pre-vote in 0-30 ms */
    RAFT_EV_TRANSFER,    /* peer: hand leadership to this voter */
    RAFT_EV_STALLED,     /* this process was itself stalled: do not campaign on old ticks */
    RAFT_EV_CHANGE,      /* members: the members wanted, not joint; the leader sees to the rest */
    RAFT_EV_COMPACTED,   /* index: the first entry that the log on disk still has */
    RAFT_EV_SNAPSHOT_ENDED, /* peer, index: it has taken a snapshot as of that entry; 0: it has
                               not */
};

struct raft_event {
    enum raft_event_type type;
    uint64_t now_ms; /* monotonic, never less than in the event before */
    const struct raft_message *message;
    struct raft_entry *entry;
    struct raft_entry **entries;
    size_t entry_count;
    const struct raft_members *members;
    uint64_t peer;
    uint64_t index;
    uint64_t term;
    uint64_t log_term;
    uint64_t context;
};

/* ---- effects ---- */

struct raft_read {
    uint64_t context; /* of RAFT_EV_READ */
    uint64_t index;   /* answer when applied >= index */
    enum err err;     /* ERR_OK, or ERR_NO_LEADER: given up, ask again */
};

struct raft_fetch {
    uint64_t peer;  /* the own id: this replica needs terms of entries from before its start */
    uint64_t index; /* first entry wanted; also the term of index - 1 */
    size_t bytes_max;
};

struct raft_effects {
    bool save_term; /* make {term, vote} durable, then RAFT_EV_TERM_SAVED */
    uint64_t term;
    uint64_t vote; /* 0: none */
    bool truncate; /* first remove all entries >= truncate_index from the log */
    uint64_t truncate_index;
    size_t save_count; /* then append these, then RAFT_EV_LOG_SAVED */
    struct raft_entry **save;
    size_t message_count;
    const struct raft_message *messages;
    size_t fetch_count;
    const struct raft_fetch *fetches;
    uint64_t apply_index; /* min(commit index, own durable index): apply up to here */
    size_t read_count;
    const struct raft_read *reads;
    size_t snapshot_count; /* these peers need entries that the log has no more: send each a
                              snapshot, then RAFT_EV_SNAPSHOT_ENDED */
    const uint64_t *snapshots;
    bool role_changed;    /* role, leader or term differ from the effects before */
    uint64_t deadline_ms; /* RAFT_EV_TICK is due then */
};

/* ---- core ---- */

struct raft_config {
    uint64_t id;
    uint64_t incarnation;     /* of this data folder: a member of another one is not this replica */
    uint64_t seed;            /* of timeouts and request numbers; another at each start */
    uint32_t heartbeat_ms;    /* 50 */
    uint32_t election_min_ms; /* 300 */
    uint32_t election_max_ms; /* 600 */
};

/* What the disk holds at start. */
struct raft_start {
    uint64_t term;
    uint64_t vote;
    uint64_t first_index; /* of the log on disk; log empty: last_index + 1 */
    uint64_t last_index;  /* durable */
    uint64_t last_term;
    uint64_t applied_index;
    int64_t last_time_ns;               /* of the last entry */
    struct raft_members members;        /* of the newest RAFT_ENTRY_MEMBERS entry in log or store */
    uint64_t members_index;             /* of that entry */
    struct raft_members members_before; /* of the one before it, should it be truncated; count 0: it
                                           is committed */
    uint64_t members_before_index;
    uint64_t now_ms;
};

struct raft;

/* NULL: no memory. A non-voter (not in members, or a learner) never campaigns.
 *
 * Snapshots: the leader learns from effects.snapshots who needs one. The taker's core knows nothing
 * of it: its conductor installs the snapshot and makes a new core that starts behind it, with the
 * {term, vote} of before. */
struct raft *raft_new(const struct raft_config *config, const struct raft_start *start);
void raft_free(struct raft *raft);

/* Takes one event. ERR_OK, or:
 *   PROPOSE   ERR_NOT_LEADER; ERR_LIMIT (UNCOMMITTED_BYTES_MAX; leadership is being handed over):
 *             nothing has changed, try later
 *   CHANGE    ERR_NOT_LEADER; ERR_LIMIT (leadership is being handed over; the no-op or the change
 *             before is not yet committed): try later; ERR_INVALID: joint, no voter, ids not
 *             ascending, a voter of another or no incarnation
 *   READ      ERR_LIMIT (READS_WAITING_MAX)
 *   TRANSFER  ERR_NOT_LEADER, ERR_INVALID (no such voter)
 *   MESSAGE   ERR_MALFORMED: dropped (entries not in sequence, unknown type)
 *   any       ERR_MEMORY: the caller stops the replica */
enum err raft_step(struct raft *raft, const struct raft_event *event);

/* The effects of the events since the last raft_effects_done. Valid until the next raft_step or
 * raft_effects_done, whichever is first. Looking again without raft_effects_done is allowed.
 * Between raft_effects and raft_effects_done only RAFT_EV_READ, PROPOSE and APPLIED may be stepped:
 * their effects are left for the next raft_effects. */
const struct raft_effects *raft_effects(struct raft *raft);
void raft_effects_done(struct raft *raft);

/* The entry if it is in the memory of the core (RAFT_TAIL_BYTES_MAX; all unapplied entries that
 * arrived since the start and fit), else NULL: read it from the log. No reference is given. */
struct raft_entry *raft_entry_at(const struct raft *raft, uint64_t index);

struct raft_peer_status {
    uint64_t id;
    uint64_t match_index;
    uint64_t next_index;
    bool active;   /* answered within an election timeout; leader only */
    bool snapshot; /* it needs a snapshot; leader only */
};

struct raft_status {
    enum raft_role role;
    uint64_t term;
    uint64_t vote;
    uint64_t leader;   /* 0: unknown */
    bool leader_ready; /* this is the leader and the no-op of its term is committed */
    uint64_t commit_index;
    uint64_t last_index;
    uint64_t durable_index;
    uint64_t applied_index;
    uint64_t members_index; /* of the entry that raft_members are from */
    bool change_ready; /* this is the leader and RAFT_EV_CHANGE would not be refused as too soon */
    size_t peer_count;
    struct raft_peer_status peer[MEMBERS_MAX];
};

void raft_status(const struct raft *raft, struct raft_status *out);
const struct raft_members *raft_members(const struct raft *raft);
/* The newest members that are known to be committed, and the index of their entry. */
const struct raft_members *raft_members_committed(const struct raft *raft, uint64_t *out_index);

#endif
