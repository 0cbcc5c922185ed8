/* SPDX-License-Identifier: Apache-2.0
 *
 * The state of the core. Only for the files of this folder; outsiders include raft.h.
 */
#ifndef QUORUMFS_RAFT_STATE_H
#define QUORUMFS_RAFT_STATE_H

#include "server/raft/raft.h"

#define RAFT_NEVER UINT64_MAX

/* Terms of the entries from `index` on, up to the next run. */
struct raft_run {
    uint64_t index;
    uint64_t term;
};

#define RAFT_RUNS_MAX 1024u /* changes of term that are remembered; the oldest is forgotten */

/* The log as this replica sees it. Invariants:
 *   1. ring[i & (ring_capacity - 1)] is entry i exactly for tail_first <= i <= last_index.
 *   2. runs[0].index <= tail_first - 1, and terms are known from runs[0].index to last_index.
 *   3. durable_index <= last_index: the disk holds these entries, none of them to be truncated.
 *   4. Nothing is submitted behind a truncation until all saves before it are reported: an index
 *      in a report is therefore never one of a suffix that was replaced meanwhile. */
struct raft_log {
    struct raft_entry **ring;
    size_t ring_capacity; /* a power of two, or 0 */
    size_t tail_bytes;
    uint64_t tail_first;
    uint64_t last_index;
    uint64_t last_term;
    int64_t last_time_ns;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t durable_index;
    uint64_t durable_term;
    uint64_t save_next;  /* the first entry not yet submitted */
    uint64_t disk_last;  /* the last entry that was ever submitted and not truncated on disk */
    uint64_t disk_first; /* the first entry that the disk still has */
    bool in_flight;      /* saves up to disk_last are not yet reported */
    bool truncate;       /* the next save begins with a truncation at truncate_index */
    uint64_t truncate_index;
    uint64_t truncations; /* how many there were */
    struct raft_run runs[RAFT_RUNS_MAX];
    size_t run_count;
    bool scanning; /* reading the terms of entries from before the start */
    uint64_t scan_next;
    struct raft_run scan[RAFT_RUNS_MAX];
    size_t scan_count;
};

enum raft_progress_state {
    RAFT_PROBE,     /* match unknown: one append, then wait for its answer */
    RAFT_REPLICATE, /* match known: appends stream ahead up to the window */
    RAFT_SNAPSHOT,  /* what it needs is not in the log: heartbeats only until it has a snapshot */
};

enum raft_vote_state {
    RAFT_VOTE_NONE,
    RAFT_VOTE_GRANTED,
    RAFT_VOTE_REFUSED,
};

/* An append on its way. */
struct raft_inflight {
    uint64_t last_index;
    size_t bytes;
};

/* What a replica knows of another one. All but `closed` and `vote` is for a leader. */
struct raft_progress {
    uint64_t id;
    uint64_t incarnation;
    bool voter;
    bool was_voter; /* joint members: a voter of before */
    bool closed;    /* its connection broke and nothing has come since */
    enum raft_vote_state vote;
    enum raft_progress_state state;
    uint64_t match; /* durable there and equal to ours */
    bool restarted; /* its connection broke, and it has acknowledged nothing since */
    uint64_t next;  /* the next entry to send; > match */
    bool probe_sent;
    bool probe_again;   /* this probe repeats one: without entries */
    uint64_t probe_end; /* the last entry of the probe */
    size_t probe_bytes;
    bool fetching;
    uint64_t fetch_index;
    uint64_t fetch_after_ms; /* entries or snapshot not to be had: not before this time again */
    uint64_t commit_sent;    /* the peer will know of this commit index */
    uint64_t round_acked;
    uint64_t heard_ms;
    uint64_t moved_ms; /* match moved, or the window was empty */
    uint64_t resend_ms;
    struct raft_inflight inflight[INFLIGHT_MESSAGES_MAX]; /* ring, oldest at inflight_first */
    size_t inflight_first;
    size_t inflight_count;
    size_t inflight_bytes;
};

/* A read that waits. Those with a round stand before those without. */
struct raft_waiting_read {
    uint64_t context;
    uint64_t from; /* 0: a read of this replica */
    uint64_t index;
    uint64_t round; /* 0: not yet asked; leader: heartbeat round; follower: number of the request */
    uint64_t arrived_ms;
};

struct raft_reads {
    struct raft_waiting_read *ring;
    size_t capacity; /* a power of two, or 0 */
    size_t first;
    size_t count;
    size_t asked;     /* how many of them have a round */
    uint64_t request; /* the newest request to a leader */
    uint64_t resend_ms;
};

/* Messages; entries of message i are at pool[entry_at[i]]. Each pool entry is a reference. */
struct raft_outbox {
    struct raft_message *messages;
    size_t *entry_at;
    size_t count;
    size_t messages_capacity;
    size_t entry_at_capacity;
    struct raft_entry **pool;
    size_t pool_count;
    size_t pool_capacity;
};

/* What the last raft_effects gave out, for raft_effects_done. */
struct raft_reported {
    bool is_open;
    size_t pool_count;
    uint64_t truncations;
    enum raft_role role;
    uint64_t leader;
    uint64_t term;
};

struct raft {
    struct raft_config config;
    uint64_t now_ms;
    uint64_t random;
    bool no_memory;

    /* The record {term, vote}: wanted, on its way to the disk (one at a time), durable. Messages
     * wait in `held` while wanted and durable differ (CONSENSUS 1). */
    uint64_t term;
    uint64_t vote;
    bool record_in_flight;
    uint64_t record_term;
    uint64_t record_vote;
    uint64_t saved_term;
    uint64_t saved_vote;

    enum raft_role role;
    uint64_t leader;
    struct raft_log log;

    struct raft_members members;
    uint64_t members_index;             /* of their entry */
    struct raft_members members_before; /* if that entry is truncated; count 0: it is committed */
    uint64_t members_before_index;
    bool is_joint;
    bool self_voter;
    bool self_was_voter;
    struct raft_progress peer[MEMBERS_MAX];
    size_t peer_count;

    /* Elections. */
    uint64_t timeout_ms; /* of this election */
    uint64_t election_deadline_ms;
    uint64_t heard_ms;   /* from the leader */
    bool leader_gone;    /* the leader's connection broke; until a leader is heard */
    uint32_t attempts;   /* elections since a leader was heard */
    bool campaign_waits; /* for the own log to be durable */
    bool transfer_waits; /* the same, asked by the leader */
    enum raft_vote_state own_vote;

    /* Follower. */
    uint64_t verified; /* equal to the leader's log up to here, as seen in this term */
    uint64_t acked;
    bool ack_wanted;

    /* Leader. */
    uint64_t noop_index; /* the first entry of this term */
    size_t uncommitted_bytes;
    uint64_t heartbeat_deadline_ms;
    bool heartbeat_wanted;
    uint64_t round;
    uint64_t transfer_to;
    uint64_t transfer_deadline_ms;
    bool transfer_sent;

    struct raft_reads reads;

    /* Effects. */
    struct raft_outbox out;
    struct raft_outbox held;
    struct raft_fetch fetches[MEMBERS_MAX + 1];
    size_t fetch_count;
    uint64_t snapshots[MEMBERS_MAX];
    size_t snapshot_count;
    struct raft_read *done_reads;
    size_t done_read_count;
    size_t done_read_capacity;
    struct raft_entry **save;
    size_t save_capacity;
    struct raft_effects effects;
    struct raft_reported reported;
    enum raft_role role_reported;
    uint64_t leader_reported;
    uint64_t term_reported;
};

#endif
