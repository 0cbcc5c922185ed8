/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulator: a whole ensemble with its clients in one thread, in virtual time, from one seed.
 * Real conductor, core, log and tree; network, disk, clock and RocksDB are replaced. A failed
 * check prints the seed and ends the process.
 */
#ifndef QUORUMFS_TESTS_SIM_H
#define QUORUMFS_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/omap.h"
#include "common/wire.h"
#include "server/log/log.h"
#include "server/replica.h"
#include "tests/lib/sim_disk.h"

#define SIM_NODES 3u
#define SIM_CLIENTS 4u
#define SIM_WINDOW 4u /* unanswered writes of a client */

/* ---- rates, drawn per seed ---- */

struct sim_rates {
    uint32_t loss_ppm;        /* of messages between replicas */
    uint32_t duplicate_ppm;
    uint64_t delay_us_max;    /* of a message */
    uint64_t sync_us_max;     /* of a write to disk */
    uint64_t crash_every_us;  /* mean time between crashes; 0: none */
    uint64_t cut_every_us;    /* mean time between changes of the partition; 0: none */
    uint64_t pause_every_us;  /* mean time between pauses of a replica; 0: none */
    uint64_t flush_every_us;  /* mean time between flushes of the store */
};

/* ---- events ---- */

struct sim;
typedef void sim_run_fn(struct sim *sim, void *arg);

struct sim_event {
    uint64_t at_us;
    uint64_t number; /* order of equal times */
    sim_run_fn *run;
    void *arg;
};

/* ---- nodes ---- */

struct sim_save {
    struct sim_save *next;
    struct log_save work; /* entries: references held */
};

struct sim_node {
    struct sim *sim;
    uint64_t id;
    uint64_t life; /* counts starts and crashes: what was on its way to an old life is dropped */
    bool up;
    uint64_t paused_until_us;
    int64_t skew_ns;
    struct replica *replica;
    struct replica_identity identity; /* durable */
    bool start_due;                   /* formed: replica_start in the next turn */
    struct sim_disk *disk;
    struct log *log;
    struct log_state log_state;
    struct omap *rows;    /* all rows, as the tree sees them */
    struct omap *flushed; /* what a crash leaves */
    struct sim_save *saves;
    struct sim_save **saves_end;
    bool saving;
    uint64_t turn_at_us;
    uint64_t applied_seen;
    uint64_t commit_seen;
    uint64_t term_seen;
};

/* ---- clients ---- */

struct client_conn {
    struct client_conn *next_made;
    struct sim_client *owner;
    struct sim_node *node;
    uint64_t node_life;
    struct client *server; /* NULL: not accepted, or gone */
    bool closed;
    uint64_t to_node_us; /* FIFO: the last delivery so far */
    uint64_t to_client_us;
};

enum sim_write_kind {
    SIM_WRITE_SETUP,
    SIM_WRITE_CREATE,
    SIM_WRITE_SET,
};

struct sim_write {
    uint64_t sequence; /* 0: free */
    enum sim_write_kind kind;
    uint64_t value;
};

struct sim_client {
    struct sim *sim;
    uint64_t id;
    struct client_conn *conn;
    bool attached;
    uint64_t session;
    uint64_t epoch;
    uint8_t password[PASSWORD_BYTES];
    uint8_t nonce[16];
    uint64_t last_sequence;
    struct sim_write write[SIM_WINDOW];
    uint64_t last_call;
    uint64_t read_call; /* of the read in flight; 0: none */
    uint64_t read_of;   /* whose register */
    bool read_strict;   /* behind a read barrier */
    uint64_t read_floor;
    uint64_t zxid_seen;
    uint64_t last_heard_us;
    uint64_t ping;
    uint64_t setup;       /* setup writes done */
    uint64_t created;     /* creates sent */
    uint64_t value_sent;  /* of the own register */
    uint64_t value_acked;
    uint64_t value_read[SIM_CLIENTS]; /* newest seen in this session */
    uint64_t writes_done;
    uint64_t reads_done;
};

struct sim {
    uint64_t seed;
    uint64_t random;
    bool trace;
    bool healing; /* no more faults */
    bool ended;   /* nothing begins any more: the queue runs empty */
    uint64_t now_us;
    uint64_t last_event;
    struct sim_event *heap;
    size_t heap_count;
    size_t heap_capacity;
    struct sim_rates rates;
    struct sim_node node[SIM_NODES];
    bool cut[SIM_NODES][SIM_NODES]; /* messages from, to are lost */
    struct sim_client client[SIM_CLIENTS];
    struct client_conn *conns;
    struct omap *acked;   /* data of acknowledged creates */
    struct omap *digests; /* index -> digest */
    struct omap *leaders; /* term -> leader */
};

/* ---- world (sim_world.c) ---- */

uint64_t sim_random(struct sim *sim, uint64_t below); /* below 0: 64 random bits */
bool sim_chance(struct sim *sim, uint32_t ppm);
void sim_at(struct sim *sim, uint64_t at_us, sim_run_fn *run, void *arg);
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void sim_failed(struct sim *sim, const char *what, uint64_t a, uint64_t b);

/* Runs one seed to its end with all checks. */
void sim_run(uint64_t seed, bool trace, uint64_t *out_writes, uint64_t *out_reads);

/* ---- nodes (sim_node.c) ---- */

void sim_node_start(struct sim_node *node);
void sim_node_crash(struct sim_node *node);
void sim_node_turn(struct sim_node *node);
/* Frees what belongs to a node that is down. */
void sim_node_done(struct sim_node *node);
void sim_node_init(struct sim *sim, struct sim_node *node, uint64_t id);
bool sim_node_is_running(const struct sim_node *node);

/* ---- clients (sim_client.c) ---- */

void sim_client_init(struct sim *sim, struct sim_client *client, uint64_t id);
/* A packed ToClient, NULL: the connection is closed. */
void sim_client_receive(struct client_conn *conn, const uint8_t *bytes, size_t len);

/* ---- checks (sim_check.c) ---- */

void sim_check_node(struct sim_node *node);
void sim_check_end(struct sim *sim);

#endif
