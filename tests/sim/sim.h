/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulator: a whole ensemble with its clients in one thread, in virtual time, from one seed.
 * Real conductor, core, log and tree; network, disk, clock and RocksDB are replaced. A failed
 * check prints the seed and ends the process.
 *
 * sim_world.c time, random numbers, faults · sim_net.c between replicas · sim_node.c a replica,
 * its disk and store · sim_client.c, sim_load.c a client and what it asks · sim_model.c what the
 * log means · sim_check.c invariants of the replicas.
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

#define SIM_NODES_MAX  5u
#define SIM_CLIENTS    4u
#define SIM_WINDOW     4u /* unanswered writes of a client */
#define SIM_SESSION_MS 3000u
#define SIM_PINGS      64u /* whose send times a client remembers */

/* Bugs of the rim that are planted on purpose: the checks must find each. */
enum sim_plant {
    SIM_PLANT_NONE,
    SIM_PLANT_NO_SYNC,     /* the disk says synced and has not done it */
    SIM_PLANT_NO_VOTE,     /* {term, vote} is said to be durable and is not written */
    SIM_PLANT_EARLY_SAVED, /* entries are said to be durable before they are written */
};

/* ---- rates, drawn per seed ---- */

struct sim_rates {
    uint32_t loss_ppm; /* of messages between replicas */
    uint32_t duplicate_ppm;
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
    uint32_t leave_ppm;       /* per tick: a client changes its replica */
    uint32_t abandon_ppm;     /* per tick: it forgets its session */
    uint32_t close_ppm;       /* per tick: it ends its session */
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
    uint64_t term_durable;
    uint64_t vote_durable;
    struct sim_durable credit; /* what it had said to have before it lost its folder */
    struct omap *rows;    /* all rows, as the tree sees them */
    struct omap *flushed; /* what a crash leaves */
    uint64_t full_until_us;
    uint64_t sync_us_max;
    struct sim_save *saves;
    struct sim_save **saves_end;
    bool saving;
    uint64_t turn_at_us; /* the turn that the last one asked for */
    uint64_t soon_at_us; /* the turn for the events since the last one; 0: none */
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

/* ---- clients ---- */

struct client_conn {
    struct client_conn *next_made;
    struct sim_client *owner;
    struct sim_node *node;
    uint64_t node_life;
    struct client *server; /* NULL: not accepted, or gone */
    bool closed;           /* by the client */
    uint64_t to_node_us;   /* FIFO: the last delivery so far */
    uint64_t to_client_us;
    uint64_t zxid; /* the newest state that this connection has shown */
};

enum sim_write_kind {
    SIM_WRITE_SETUP,  /* the directory, then the own register */
    SIM_WRITE_CREATE, /* a sequential node */
    SIM_WRITE_SET,    /* the own register */
    SIM_WRITE_LOCK,   /* an ephemeral node that only one can have */
    SIM_WRITE_UNLOCK,
    SIM_WRITE_CLOSE, /* of the session */
};

struct sim_write {
    uint64_t sequence; /* 0: free */
    enum sim_write_kind kind;
    uint64_t value;
};

/* What a client with promises keeps of a register. */
struct sim_cached {
    bool valid;
    uint64_t ino;
    uint64_t zxid;
    uint64_t grant;
};

struct sim_client {
    struct sim *sim;
    uint64_t id;
    struct client_conn *conn;
    uint64_t silent; /* the replica that was asked last and has not welcomed; 0: none */
    bool promises;
    bool attached;
    bool reclaiming;  /* what is cached is not yet known to be fresh */
    bool closing;     /* has asked for the end of its session */
    bool holds_nonce; /* asked and not answered: may ask again with the same one */
    uint64_t session;
    uint64_t epoch;
    uint8_t password[PASSWORD_BYTES];
    uint8_t nonce[16];
    uint64_t nonce_us; /* first sent */
    uint64_t last_sequence;
    struct sim_write write[SIM_WINDOW];
    struct sim_cached cached[SIM_CLIENTS];
    bool has_lock;
    uint64_t last_call;
    uint64_t read_call; /* of the read in flight; 0: none */
    uint64_t read_of;   /* whose register */
    uint64_t read_floor;
    uint64_t zxid_seen;
    uint64_t hello_us;
    uint64_t last_heard_us;
    uint64_t ping; /* of this connection */
    uint64_t ping_at_us;
    uint64_t ping_us[SIM_PINGS];
    uint64_t lease_us; /* send time of what was last confirmed, in this session */
    uint64_t setup;    /* setup writes done */
    uint64_t values;   /* given out */
    uint64_t writes_done;
    uint64_t reads_done;
    uint64_t writes_at_heal;
};

struct sim_model;

struct sim {
    uint64_t seed;
    uint64_t random;
    bool trace;
    enum sim_plant plant;
    bool healing; /* no more faults */
    uint64_t healed_us;
    bool quiet; /* no more requests */
    bool ended;   /* nothing begins any more: the queue runs empty */
    uint64_t now_us;
    uint64_t fingerprint; /* of all that happened */
    uint64_t last_event;
    struct sim_event *heap;
    size_t heap_count;
    size_t heap_capacity;
    struct sim_rates rates;
    size_t node_count;
    struct sim_node node[SIM_NODES_MAX];
    bool cut[SIM_NODES_MAX][SIM_NODES_MAX];             /* messages from, to are lost */
    struct sim_link link[SIM_NODES_MAX][SIM_NODES_MAX]; /* [lower][higher] */
    struct sim_client client[SIM_CLIENTS];
    struct client_conn *conns;
    struct sim_model *model;
    uint64_t zxid_shown;  /* the newest state that any client has seen */
    struct omap *acked;   /* data of acknowledged creates */
    struct omap *digests; /* index -> digest */
    struct omap *leaders; /* term -> leader */
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
void sim_run(uint64_t seed, enum sim_plant plant, bool trace, struct sim_totals *totals);

/* ---- network between replicas (sim_net.c) ---- */

void sim_net_send_raft(void *node, const struct raft_message *message);
void sim_net_send(void *node, uint64_t to, const Wire__PeerMessage *message);
bool sim_net_is_connected(void *node, uint64_t id);
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
/* It has lost its folder after the ensemble formed: it stays without a vote. */
bool sim_node_is_stranger(const struct sim_node *node);
/* An event is about to be handed to the replica: false: it is put off until the pause ends. */
bool sim_node_awake(struct sim_node *node, sim_run_fn *run, void *arg);
/* The clock of the replica is brought up to date: to be called before events are handed in. */
void sim_node_time(struct sim_node *node);
void sim_node_turn(struct sim_node *node);
void sim_node_soon(struct sim_node *node); /* a turn for what was handed in */

/* ---- log of a node (sim_save.c) ---- */

enum err sim_save_submit(void *node, const struct log_save *work);
enum err sim_save_read(void *node, uint64_t index, size_t bytes_max, size_t count_max,
                       struct raft_entry **out, size_t *out_count);
enum err sim_save_term(void *node, uint64_t index, uint64_t *out_term);
void sim_save_open(struct sim_node *node);
void sim_save_found(struct sim_node *node, const struct replica_identity *identity);
void sim_save_crash(struct sim_node *node);

/* ---- store of a node (sim_store.c) ---- */

struct kv sim_store_kv(struct sim_node *node);
bool sim_store_is_full(void *node);
void sim_store_poll(void *node, uint64_t now_ms, uint64_t log_bytes);
void sim_store_flush(struct sim_node *node);
void sim_store_crash(struct sim_node *node);
void sim_store_wipe(struct sim_node *node);

/* ---- clients of a node (sim_serve.c) ---- */

void sim_serve_send(void *node, struct client_conn *conn, const Wire__ToClient *message);
void sim_serve_close(void *node, struct client_conn *conn, const char *reason);
void sim_serve_resume(void *node, struct client_conn *conn);
void sim_serve_crashed(struct sim_node *node);
struct client_conn *sim_serve_accept(struct sim_client *client, struct sim_node *node);
void sim_serve_post(struct client_conn *conn, const Wire__ToReplica *message); /* NULL: close */

/* ---- clients (sim_client.c) and what they ask (sim_load.c) ---- */

void sim_client_init(struct sim *sim, struct sim_client *client, uint64_t id);
void sim_client_receive(struct client_conn *conn, const Wire__ToClient *message); /* NULL: closed */
void sim_client_leave(struct sim_client *client);
bool sim_client_has_lease(const struct sim_client *client);

void sim_load_tick(struct sim_client *client);
void sim_load_resend(struct sim_client *client);
void sim_load_answered(struct sim_client *client, const Wire__Answer *answer);
void sim_load_event(struct sim_client *client, const Wire__Event *event);
void sim_load_reclaim(struct sim_client *client);
/* The connection has shown the state `zxid`: what is cached must be as fresh. */
void sim_load_shown(struct sim_client *client, uint64_t zxid);
void sim_load_close(struct sim_client *client);

/* ---- model (sim_model.c) ---- */

struct sim_model *sim_model_new(void);
void sim_model_free(struct sim_model *model);
/* A node has applied these entries. */
void sim_model_applied(struct sim_node *node, const struct raft_entry *entry);
uint64_t sim_entry_hash(const struct raft_entry *entry);
/* Fails unless the answer is what the model says of the command that stands at its zxid. */
void sim_model_check_write(struct sim_client *client, uint64_t sequence,
                           const Wire__Answer *answer);
/* Fails unless the answer shows the register as it is at its zxid. */
void sim_model_check_read(struct sim_client *client, const Wire__Answer *answer);
/* The newest zxid <= `zxid` that changed that register; 0: none. */
uint64_t sim_model_register_zxid(const struct sim *sim, uint64_t of, uint64_t zxid);
/* When the close of that session was applied first; UINT64_MAX: not yet. */
uint64_t sim_model_closed_us(const struct sim *sim, uint64_t session);
/* Compares the tree of a replica that has applied everything with the model. */
void sim_model_check_tree(struct sim_node *node);
/* The next living session behind `after`; 0: none. */
uint64_t sim_model_session(const struct sim *sim, uint64_t after);

/* ---- checks (sim_check.c) ---- */

/* Notes that `key` goes with `value`; fails if it went with another one before. */
void sim_only_one(struct sim *sim, struct omap *map, uint64_t key, uint64_t value,
                  const char *what);
void sim_check_node(struct sim_node *node);
/* A replica has become leader: it may be about to crash (sim_world.c). */
void sim_new_leader(struct sim_node *node);
void sim_check_end(struct sim *sim);

#endif
