/* SPDX-License-Identifier: Apache-2.0
 *
 * Some Raft cores with a disk each and a network between them, moved by hand: nothing happens but
 * by a call. For the tests of the core. A mistake of the caller or a broken rule of Raft aborts
 * (CHECK).
 *
 * Each disk begins with entry 1, the members. All nodes are voters, unless learners are asked for.
 */
#ifndef QUORUMFS_TESTS_RAFT_ENSEMBLE_H
#define QUORUMFS_TESTS_RAFT_ENSEMBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buffer.h"
#include "server/raft/raft.h"

#define ENSEMBLE_NODES_MAX 7u

/* What one turn gave to the disk. */
struct ensemble_save {
    struct ensemble_save *next;
    bool save_term;
    uint64_t term;
    uint64_t vote;
    bool truncate;
    uint64_t truncate_index;
    struct raft_entry **entries;
    size_t count;
};

struct ensemble_packet {
    struct ensemble_packet *next;
    struct raft_message message; /* owns references to its entries */
};

struct ensemble_node {
    uint64_t id;
    struct raft *raft; /* NULL: down */
    /* The durable image: entry i is entries[i - 1]. */
    uint64_t term;
    uint64_t vote;
    struct raft_entry **entries;
    size_t entry_count;
    size_t entry_capacity;
    /* Not yet durable, oldest first. */
    struct ensemble_save *saves;
    struct ensemble_save **saves_end;
    uint64_t first_index; /* entries before are compacted: there for the checks, not for the core */
    uint64_t applied_index;
    uint64_t snapshots; /* bit id: this peer needs a snapshot of this node */
    /* The reads that ended. */
    struct raft_read *reads;
    size_t read_count;
    uint64_t deadline_ms;
    size_t saved_entries; /* how many the core ever gave to save */
    size_t fetches;
    uint64_t lives; /* how often it was started */
};

struct ensemble {
    size_t count;
    struct ensemble_node node[ENSEMBLE_NODES_MAX + 1]; /* by id, from 1 */
    struct ensemble_packet *packets;                   /* oldest first */
    struct ensemble_packet **packets_end;
    uint64_t now_ms;
    uint64_t seed;
    bool no_fetch;     /* fetches are answered with "not available" */
    bool ignore_fetch; /* not answered at all */
    bool no_apply;
    bool by_hand;        /* the test answers for the others itself: no rules are checked */
    struct buffer trace; /* if traced: one line per effect */
    bool traced;
    /* The rules: who led a term, who got whose vote, what was committed. */
    struct ensemble_fact *facts;
    size_t fact_count;
    size_t fact_capacity;
    uint64_t *committed; /* term of each committed entry, by index */
    uint64_t *committed_hash;
    uint64_t committed_count;
};

/* `count` nodes, all started, at time 1000 ms. The last `learners` of them do not vote. */
struct ensemble *ensemble_new(size_t count, size_t learners, uint64_t seed);
void ensemble_free(struct ensemble *e);

/* Starts a node from its disk; the tree is at `applied_index`. */
void ensemble_start(struct ensemble *e, uint64_t id, uint64_t applied_index);
/* Ends it. Of its unfinished saves the first `pieces` pieces reached the disk (of each save: the
 * record, the truncation, the entries one by one). */
void ensemble_crash(struct ensemble *e, uint64_t id, size_t pieces);
/* Puts an entry at the end of the disk of a node that is down. */
void ensemble_disk_add(struct ensemble *e, uint64_t id, uint64_t term, const char *data);

/* One event, and the effects of it. */
enum err ensemble_step(struct ensemble *e, uint64_t id, struct raft_event event);
/* One event; its effects wait for ensemble_turn. */
enum err ensemble_step_only(struct ensemble *e, uint64_t id, struct raft_event event);
void ensemble_turn(struct ensemble *e, uint64_t id);

enum err ensemble_propose(struct ensemble *e, uint64_t id, const char *data);
enum err ensemble_read(struct ensemble *e, uint64_t id, uint64_t context);
/* Wants the members: those of now, changed by the caller. */
enum err ensemble_change(struct ensemble *e, uint64_t id, const struct raft_members *wanted);
/* The log of the node begins at `index` from now on; its tree holds what was before. */
void ensemble_compact(struct ensemble *e, uint64_t id, uint64_t index);
/* A peer that needs a snapshot of the node; 0: none does. */
uint64_t ensemble_snapshot_wanted(const struct ensemble *e, uint64_t id);
/* The peer that needs it takes a snapshot of the node (and starts again with it), or does not. */
void ensemble_snapshot(struct ensemble *e, uint64_t id, uint64_t to, bool taken);
/* A message that no node sent. from and to are set by the caller. */
enum err ensemble_message(struct ensemble *e, struct raft_message message);
/* Moves the clock to the node's deadline, if that lies ahead, and ticks it. */
void ensemble_timeout(struct ensemble *e, uint64_t id);
/* Moves the clock. */
void ensemble_wait(struct ensemble *e, uint64_t ms);
/* Ticks a node now. */
void ensemble_tick(struct ensemble *e, uint64_t id);

/* Finishes the oldest save (all: every one) of a node. False: there was none. */
bool ensemble_sync_one(struct ensemble *e, uint64_t id);
void ensemble_sync(struct ensemble *e, uint64_t id);

/* The number of packets; the n-th one; the oldest of a type to a node (0: any), or NULL. */
size_t ensemble_packet_count(const struct ensemble *e);
struct ensemble_packet *ensemble_packet(const struct ensemble *e, size_t n);
struct ensemble_packet *ensemble_find(const struct ensemble *e, enum raft_message_type type,
                                      uint64_t to);
/* Takes it out of the network and gives it to its receiver, if that is up. */
void ensemble_deliver(struct ensemble *e, struct ensemble_packet *packet);
void ensemble_drop(struct ensemble *e, struct ensemble_packet *packet);
/* Puts the same message at the end of the network once more. */
void ensemble_duplicate(struct ensemble *e, const struct ensemble_packet *packet);
/* Drops all packets from and to (0: anybody). */
void ensemble_drop_all(struct ensemble *e, uint64_t from, uint64_t to);

/* Delivers and syncs until nothing is left. */
void ensemble_settle(struct ensemble *e);
/* Elects a node: its timeout, then ensemble_settle. CHECKs that it leads. */
void ensemble_elect(struct ensemble *e, uint64_t id);

struct raft_status ensemble_status(const struct ensemble *e, uint64_t id);
/* The term of an entry in memory or on disk of the node; 0: none. */
uint64_t ensemble_entry_term(const struct ensemble *e, uint64_t id, uint64_t index);

const char *ensemble_message_name(enum raft_message_type type);
const char *ensemble_role_name(enum raft_role role);

/* Checks what must hold at any time; called by every turn. See raft_ensemble_rules.c. */
void ensemble_check_turn(struct ensemble *e, uint64_t id);
void ensemble_check_packet(struct ensemble *e, const struct raft_message *message);
void ensemble_check_logs(const struct ensemble *e);

#endif
