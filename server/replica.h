/* SPDX-License-Identifier: Apache-2.0
 *
 * The conductor: alone joins core, log, tree, store, sessions, requests and watches. It knows no
 * socket, file or clock: the rim (main.c, net/; in tests the simulator) hands events in and gives
 * it an environment of functions.
 *
 * The rim calls any of the event functions below, then once per turn of its loop replica_turn(),
 * which gives all effects: raft_step -> save, send -> apply -> answers and events. All functions
 * from the thread of the loop.
 */
#ifndef QUORUMFS_REPLICA_H
#define QUORUMFS_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire.h"
#include "server/log/log.h"
#include "server/raft/raft.h"
#include "server/tree/kv.h"

struct replica;
struct client;      /* one client connection, as the conductor sees it (request.c) */
struct client_conn; /* the same, as the rim sees it (net/client_conn.c) */

#define ENSEMBLE_ID_BYTES 16u

/* Who this replica is: the content of the data folder's identity file. */
struct replica_identity {
    uint64_t id;
    uint64_t incarnation;
    bool formed; /* false: the fields below are not set, the folder is empty */
    uint8_t ensemble[ENSEMBLE_ID_BYTES];
    struct raft_members founders; /* log entry 1 */
    int64_t founded_ns;           /* its time */
};

/* What replicas tell of themselves when they meet. */
struct replica_hello {
    uint64_t id;
    uint64_t incarnation;
    uint8_t ensemble[ENSEMBLE_ID_BYTES];
    size_t ensemble_len;    /* ENSEMBLE_ID_BYTES, or 0: its folder is empty */
    uint64_t members_index; /* of the newest members that it knows to be committed; 0: none */
    uint32_t feature_level; /* the highest that it knows */
    char address[ADDRESS_BYTES_MAX + 1];
    size_t member_count; /* ids of those members */
    uint64_t member[MEMBERS_MAX];
};

/* What the rim does for the conductor. None calls back into the conductor. */
struct replica_env {
    void *context;
    /* To another replica; dropped if its connection is not up (Raft and resends cope). */
    void (*peer_send_raft)(void *context, const struct raft_message *message);
    void (*peer_send)(void *context, uint64_t replica, const Wire__PeerMessage *message);
    bool (*peer_is_connected)(void *context, uint64_t replica);
    /* Whether less than FORWARD_UNSENT_BYTES_MAX to it are unsent. */
    bool (*peer_has_room)(void *context, uint64_t replica);
    /* To a client: packed at once. Above SEND_QUEUE_BYTES_MAX the rim closes the connection and
     * calls replica_client_closed in a later turn. */
    void (*client_send)(void *context, struct client_conn *conn, const Wire__ToClient *message);
    /* Ends the connection after what was sent; `reason` goes into the log line. */
    void (*client_close)(void *context, struct client_conn *conn, const char *reason);
    /* The client is not full any more: read on. */
    void (*client_resume)(void *context, struct client_conn *conn);
    /* The log (log_thread_submit, log_read). */
    enum err (*log_submit)(void *context, const struct log_save *save);
    enum err (*log_read)(void *context, uint64_t index, size_t bytes_max, size_t count_max,
                         struct raft_entry **out, size_t *out_count);
    enum err (*log_term)(void *context, uint64_t index, uint64_t *out_term);
    /* log_index_of_bytes; log_thread_compact, but for what a snapshot under way needs. */
    uint64_t (*log_index_of_bytes)(void *context, uint64_t bytes);
    void (*log_compact)(void *context, uint64_t index);
    /* The store (store_is_full, store_poll, store_disk_space). */
    bool (*store_is_full)(void *context);
    void (*store_poll)(void *context, uint64_t now_ms, uint64_t log_bytes);
    void (*disk_space)(void *context, uint64_t *out_total, uint64_t *out_free);
    /* The ensemble has formed: append log entry 1 (term 1, type MEMBERS, identity->founders,
     * founded_ns) durably, then make `identity` durable, then call replica_start in a later turn. */
    void (*formed)(void *context, const struct replica_identity *identity);
    /* These are the replicas to dial from now on (the own one may be among them). */
    void (*members)(void *context, const struct raft_members *members);
    /* That peer needs a snapshot; replica_snapshot_ended tells its end. Asked again while it is
     * under way: no effect. */
    void (*snapshot_wanted)(void *context, uint64_t replica);
    /* `count` random bytes. */
    void (*random)(void *context, void *to, size_t count);
    /* An error after which this replica must not go on: log line, exit status 1. */
    void (*fail)(void *context, enum err err, const char *what);
};

struct replica_options {
    struct replica_identity identity;
    /* The initial members of the configuration (incarnations 0), to form an ensemble with. */
    struct raft_members configured;
    uint32_t heartbeat_ms;
    uint32_t election_min_ms;
    uint32_t election_max_ms;
    uint64_t log_keep_bytes; /* of log, for members that fall behind */
    uint32_t feature_level;  /* the highest that this replica tells the others that it knows */
    uint64_t file_bytes_max; /* what its clients may make of data; 0: FILE_BYTES_MAX */
    bool join;               /* never found an ensemble: wait for one */
    uint64_t seed;
};

/* `kv` holds the rows of the tree. NULL: no memory. */
struct replica *replica_new(const struct replica_options *options, const struct replica_env *env,
                            const struct kv *kv, uint64_t now_ms);
void replica_free(struct replica *replica);

/* Starts consensus: identity.formed and the log holds at least entry 1. `state` is what log_open
 * (and the append of entry 1) left. ERR_CORRUPT: log and tree do not fit (hole between them).
 * ERR_UNSUPPORTED: the tree has a feature level that this program does not know. */
enum err replica_start(struct replica *replica, const struct log_state *state, uint64_t now_ms);

/* Time has come to `now_ms` (monotonic). To be called before events are handed in: they are judged
 * by this time. */
void replica_time(struct replica *replica, uint64_t now_ms);

/* ---- events: log ---- */
void replica_log_saved(struct replica *replica, const struct log_saved *saved);

/* The snapshot for that peer has been taken as of entry `index`, or not (0). */
void replica_snapshot_ended(struct replica *replica, uint64_t id, uint64_t index);

/* What the tree holds: the last applied entry and its term. */
uint64_t replica_applied(const struct replica *replica, uint64_t *out_term);

/* ---- events: peers ---- */

/* What this replica tells of itself. */
void replica_own_hello(const struct replica *replica, struct replica_hello *out);

/* Another replica has proved the key and says who it is. ERR_OK: go on; ERR_STRANGER: close (another
 * ensemble; not among the members, unless it knows newer ones than we do). What it says counts as
 * that of a member only if the members name its incarnation. */
enum err replica_peer_hello(struct replica *replica, const struct replica_hello *hello);

/* The connection TO that peer is up: what waits for it can be sent (forwarded commands again). */
void replica_peer_connected(struct replica *replica, uint64_t id);

/* The connection FROM that peer is gone. */
void replica_peer_closed(struct replica *replica, uint64_t id);

/* A message from a peer after its hello. The caller keeps the message and its entries (the core
 * takes references of its own). ERR_MALFORMED: close the connection. */
enum err replica_peer_raft(struct replica *replica, const struct raft_message *message);
enum err replica_peer_message(struct replica *replica, uint64_t from,
                              const Wire__PeerMessage *message);

/* ---- events: clients ---- */

/* What the rim knows of the other side of a client connection. */
struct client_origin {
    bool trusted; /* unix socket and uid 0 or the uid of this daemon */
    uint32_t uid; /* SO_PEERCRED; 65534 over TCP without a certificate */
    uint32_t gid;
    char address[128]; /* for log and status */
};

/* NULL: no memory or CONNECTIONS_MAX. */
struct client *replica_client_opened(struct replica *replica, struct client_conn *conn,
                                     const struct client_origin *origin);
/* The connection is gone, for whatever reason; `client` is freed. */
void replica_client_closed(struct replica *replica, struct client *client);
/* One message of the client. ERR_MALFORMED (wrong order, impossible fields): close. */
enum err replica_client_message(struct replica *replica, struct client *client,
                                const Wire__ToReplica *message);
/* Too much of it waits, or of all who write: stop reading until client_resume. */
bool replica_client_is_full(struct replica *replica, struct client *client);

/* ---- the turn ---- */

/* Time has come to `now_ms` (monotonic), `time_ns` (CLOCK_REALTIME). Does all that the events of
 * this turn ask for. Returns when it wants to be called again at the latest (monotonic ms). */
uint64_t replica_turn(struct replica *replica, uint64_t now_ms, int64_t time_ns);

/* True once this replica serves clients: caught up with a commit index that the current leader
 * confirmed (CONSENSUS 17). */
bool replica_is_serving(const struct replica *replica);

/* Hands leadership over if this is the leader (before a planned stop). */
void replica_transfer_leader(struct replica *replica);

void replica_raft_status(const struct replica *replica, struct raft_status *out);

#endif
