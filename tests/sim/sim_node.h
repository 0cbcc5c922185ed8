/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulated replica with its disk, its store and its connections to others. Included by sim.h.
 */
#ifndef QUORUMFS_TESTS_SIM_NODE_H
#define QUORUMFS_TESTS_SIM_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/omap.h"
#include "common/wire.h"
#include "server/log/log.h"
#include "server/replica.h"
#include "tests/lib/sim_disk.h"

struct sim;
struct sim_client;

#define SIM_PEERS 8u /* ids below this */

/* ---- events ---- */

typedef void sim_run_fn(struct sim *sim, void *arg);

struct sim_event {
    uint64_t at_us;
    uint64_t number; /* order of equal times */
    sim_run_fn *run;
    void *arg;
};

struct sim_save {
    struct sim_save *next;
    struct log_save work; /* entries: references held */
};

/* Hashes of the entries that lie durably in a log, from index 1 on. */
struct sim_durable {
    uint64_t *hash;
    size_t count;
    size_t capacity;
};

struct sim_node {
    struct sim *sim;
    uint64_t id;
    uint64_t life; /* counts starts and crashes: what was on its way to an old life is dropped */
    bool up;
    bool failed; /* will crash at the end of this turn, sends nothing any more */
    uint64_t paused_until_us;
    struct sim_event *backlog; /* what waits for the end of the pause, in order */
    size_t backlog_count;
    size_t backlog_capacity;
    uint64_t clock_ms; /* what its monotonic clock shows above the simulator's */
    int64_t skew_ns;   /* of its wall clock */
    struct replica *replica;
    struct replica_identity identity; /* durable */
    bool start_due;                   /* formed: replica_start in the next turn */
    struct sim_disk *disk;
    struct log_io io;
    struct log *log;
    struct log_state log_state;
    struct sim_durable durable;
    struct sim_durable credit;   /* what it had said to have before it lost its folder ... */
    uint64_t credit_incarnation; /* ... as this incarnation; 0: it never did */
    uint64_t term_durable;
    uint64_t vote_durable;
    struct omap *rows;           /* all rows, as the tree sees them */
    struct omap *flushed;        /* what a crash leaves */
    struct kv kv;                /* over rows */
    struct buffer state_before;  /* the state row as of the entry before, for a planted bug */
    bool giving[SIM_PEERS];      /* a snapshot to that node is under way */
    bool installing;             /* rows are those of a snapshot: the log is to fit them */
    struct sim_durable incoming; /* installing: the entries in it */
    uint64_t full_until_us;
    uint64_t sync_us_max;
    struct sim_save *saves;
    struct sim_save **saves_end;
    bool saving;
    uint64_t turn_at_us;   /* the turn that the last one asked for */
    uint64_t soon_at_us;   /* the turn for the events since the last one; 0: none */
    uint64_t shown_before; /* the newest state that clients had seen when it started */
    uint64_t applied_seen;
    uint64_t commit_seen;
    uint64_t term_seen;
    bool led;
};

/* The connection of two nodes. */
struct sim_link {
    bool up;
    uint64_t number;     /* of this connection: what was sent on an earlier one is lost */
    uint64_t last_us[2]; /* in order: the last delivery so far to the lower, higher id */
};

/* ---- network between replicas (sim_net.c) ---- */

void sim_net_send_raft(void *context, const struct raft_message *message);
void sim_net_send(void *context, uint64_t to, const Wire__PeerMessage *message);
bool sim_net_is_connected(void *context, uint64_t id);
/* The connections of a node that starts; of one that has crashed. */
void sim_net_open(struct sim_node *node);
void sim_net_close(struct sim_node *node);
void sim_net_break(struct sim *sim, struct sim_node *a, struct sim_node *b);

/* ---- nodes (sim_node.c) ---- */

void sim_node_init(struct sim *sim, struct sim_node *node, uint64_t id);
void sim_node_start(struct sim_node *node);
void sim_node_crash(struct sim_node *node);
void sim_node_restart_later(struct sim_node *node);
void sim_node_wipe(struct sim_node *node);
void sim_node_pause(struct sim_node *node, uint64_t until_us);
void sim_node_done(struct sim_node *node); /* frees what belongs to a node that is down */
bool sim_node_is_running(const struct sim_node *node);
/* An event is about to be handed to the replica: false: it is put off until the pause ends. */
bool sim_node_awake(struct sim_node *node, sim_run_fn *run, void *arg);
/* The clock of the replica is brought up to date: to be called before events are handed in. */
void sim_node_time(struct sim_node *node);
void sim_node_turn(struct sim_node *node);
void sim_node_soon(struct sim_node *node); /* a turn for what was handed in */

/* ---- log of a node (sim_save.c) ---- */

enum err sim_save_submit(void *context, const struct log_save *work);
enum err sim_save_read(void *context, uint64_t index, size_t bytes_max, size_t count_max,
                       struct raft_entry **out, size_t *out_count);
enum err sim_save_term(void *context, uint64_t index, uint64_t *out_term);
uint64_t sim_save_index_of_bytes(void *context, uint64_t bytes);
void sim_save_compact(void *context, uint64_t index);
void sim_save_open(struct sim_node *node);
/* A snapshot was put in the place of the rows: the log goes on behind it. */
void sim_save_fit(struct sim_node *node);
void sim_save_found(struct sim_node *node, const struct replica_identity *identity);
void sim_save_crash(struct sim_node *node);

/* ---- store of a node (sim_store.c) ---- */

struct kv sim_store_kv(struct sim_node *node);
bool sim_store_is_full(void *context);
void sim_store_poll(void *context, uint64_t now_ms, uint64_t log_bytes);
/* Makes *to a copy of `from`. */
void sim_store_copy(struct omap **to, const struct omap *from);
void sim_store_flush(struct sim_node *node);
/* PLANT_SNAPSHOT_TWICE: the applied index in these rows of the node is that of so many entries
 * before. */
uint64_t sim_store_tear(struct sim_node *node, struct omap *rows);
void sim_store_crash(struct sim_node *node);
void sim_store_wipe(struct sim_node *node);

/* ---- snapshots between nodes (sim_snapshot.c) ---- */

void sim_snapshot_wanted(void *context, uint64_t to);

#endif
