/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulator: a whole ensemble with its clients in one thread, in virtual time, from one seed.
 * Real conductor, core, log and tree; network, disk, clock and RocksDB are replaced. A failed
 * check prints the seed and ends the process.
 *
 * sim_world.c time, random numbers, faults · sim_net.c between replicas · sim_node.c, sim_save.c,
 * sim_store.c a replica, its log and its store · sim_serve.c between clients and replicas ·
 * sim_client.c, sim_load.c a client and what it asks · sim_model.c what the log means ·
 * sim_check.c invariants of the replicas.
 */
#ifndef QUORUMFS_TESTS_SIM_H
#define QUORUMFS_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/omap.h"
#include "common/plant.h"
#include "common/wire.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_model.h"
#include "tests/sim/sim_node.h"

#define SIM_NODES_MAX 5u      /* < SIM_PEERS */
#define SIM_ADDRESS   "sim:1" /* of every node */

/* ---- rates, drawn per seed ---- */

struct sim_rates {
    uint32_t loss_ppm; /* of messages between replicas */
    uint32_t duplicate_ppm;
    uint32_t split_ppm;       /* an append comes as two, of which one may be lost */
    bool in_order;            /* messages between two replicas do not overtake each other */
    uint64_t delay_us_max;    /* of a message */
    uint64_t batch_us_max;    /* a replica gathers events for so long before its turn */
    uint64_t sync_us_max;     /* of a write to disk */
    uint32_t depose_ppm;      /* a new leader crashes soon */
    uint64_t restart_us_max;  /* time that a crashed replica is down */
    uint64_t crash_every_us;  /* mean time between crashes; 0: none. The others likewise. */
    uint64_t cut_every_us;    /* changes of the partition */
    uint64_t break_every_us;  /* broken connections between replicas */
    uint64_t pause_every_us;  /* pauses of a replica */
    uint64_t full_every_us;   /* times in which a store takes nothing */
    uint64_t hand_every_us;   /* leaders that are told to hand over */
    uint64_t error_every_us;  /* failing file calls */
    uint64_t flush_every_us;  /* flushes of a store */
    uint64_t wipe_at_us;      /* one replica loses its folder; 0: none */
    uint64_t change_every_us; /* changes of the members */
    uint64_t log_keep_bytes;
    size_t segment_bytes;
    uint32_t leave_ppm;   /* per tick: a client changes its replica */
    uint32_t abandon_ppm; /* per tick: it forgets its session */
    uint32_t close_ppm;   /* per tick: it ends its session */
};

struct sim {
    uint64_t seed;
    uint64_t random;
    bool trace;
    enum plant plant; /* a bug of the rim, to be found */
    bool healing;     /* no more faults */
    uint64_t healed_us;
    bool quiet; /* no more requests */
    bool ended; /* nothing begins any more: the queue runs empty */
    uint64_t now_us;
    uint64_t fingerprint; /* of all that happened */
    uint64_t last_event;
    struct sim_event *heap;
    size_t heap_count;
    size_t heap_capacity;
    struct sim_rates rates;
    size_t node_count; /* with those that are not yet members */
    size_t founders;   /* the first so many */
    struct sim_node node[SIM_NODES_MAX];
    bool cut[SIM_NODES_MAX][SIM_NODES_MAX];             /* messages from, to are lost */
    struct sim_link link[SIM_NODES_MAX][SIM_NODES_MAX]; /* [lower][higher] */
    struct sim_client client[SIM_CLIENTS];
    struct client_conn *conns;
    struct sim_model *model;
    uint64_t zxid_shown; /* the newest state that any client has seen */
    uint64_t files_zxid; /* of the entry that raised the level to FEATURE_FILES; UINT64_MAX: none */
    struct omap *acked;  /* data of acknowledged creates */
    struct omap *digests; /* index -> digest */
    struct omap *leaders; /* term -> leader */
    uint64_t last_term;   /* the newest that had a leader */
    struct omap *votes;   /* term, node -> candidate */
};

/* ---- world (sim_world.c) ---- */

uint64_t sim_random(struct sim *sim, uint64_t below); /* below 0: 64 random bits */
bool sim_chance(struct sim *sim, uint32_t ppm);
void sim_at(struct sim *sim, uint64_t at_us, sim_run_fn *run, void *arg);
void sim_note(struct sim *sim, uint64_t value); /* into the fingerprint */
void sim_trace(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void sim_failed(struct sim *sim, const char *what, uint64_t a, uint64_t b);
void *sim_new(size_t bytes); /* zeroed; never NULL */

struct sim_totals {
    uint64_t writes;
    uint64_t reads;
    uint64_t fingerprint;
};

/* Runs one seed to its end with all checks. */
void sim_run(uint64_t seed, enum plant plant, bool trace, struct sim_totals *totals);

/* ---- checks (sim_check.c) ---- */

/* Notes that `key` goes with `value`; fails if it went with another one before. */
void sim_only_one(struct sim *sim, struct omap *map, uint64_t key, uint64_t value,
                  const char *what);
void sim_check_node(struct sim_node *node);
/* A replica has become leader: it may be about to crash (sim_world.c). */
void sim_new_leader(struct sim_node *node);
void sim_check_end(struct sim *sim);

#endif
