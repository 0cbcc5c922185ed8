/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the conductor share: replica.c (turn, apply), replica_peer.c (forming,
 * forwarding, touches), members.c (who belongs to it), upkeep.c (log and disk), request.c (clients), proposal.c (writes on their way), answer.c (tree to
 * wire), feed.c (changes to those who watch). Nobody else includes this.
 */
#ifndef QUORUMFS_SERVER_REPLICA_INTERNAL_H
#define QUORUMFS_SERVER_REPLICA_INTERNAL_H

#include "common/buffer.h"
#include "common/limits.h"
#include "server/history.h"
#include "server/proposal.h"
#include "server/replica.h"
#include "server/session.h"
#include "server/tree/tree.h"
#include "server/watch.h"

/* What a read index was asked for: the upper byte of the context given to the core. */
enum read_purpose {
    READ_FOR_SERVING = 1, /* CONSENSUS 17, once after the start */
    READ_FOR_CLIENT = 2,  /* a SyncRead; the rest of the context is the number of the wait */
    READ_FOR_TOUCH = 3,   /* the rest is the number of the touch round */
};
#define READ_AGAIN_MS                 500u /* the question or its answer was lost between replicas */
#define READ_CONTEXT(purpose, number) ((uint64_t)(purpose) << 56 | (number))

/* A request that waits for a state of this replica. */
struct wait {
    struct wait *next;
    struct client *client;    /* NULL: it has gone, drop */
    Wire__ToReplica *message; /* owned */
    uint64_t number;          /* of the read index asked for; 0: waits for zxid only */
    uint64_t asked_ms;        /* the core was asked then; 0: not */
    uint64_t zxid;            /* runs when this is applied; UINT64_MAX: not yet known */
};

/* Connections move: CONNECTED -(hello)-> GREETED -(open, applied)-> ATTACHED. */
enum client_phase {
    CLIENT_CONNECTED,
    CLIENT_GREETED,
    CLIENT_ATTACHED,
};

struct client {
    struct client *previous;
    struct client *next;
    struct client_conn *conn;
    struct client_origin origin;
    enum client_phase phase;
    bool hello_waits; /* ClientHello came before this replica serves */
    bool opening;     /* an OpenSession is on its way */
    bool promises;
    bool was_full;
    uint64_t session; /* 0: none */
    uint64_t epoch;
    uint64_t ping; /* newest; 0: none yet */
    uint64_t confirmed_ping;
    size_t waiting;       /* waits and proposals of this client */
    size_t waiting_bytes; /* of the proposals */
    struct watcher watcher;
    size_t feed_count;
};

/* A touch that the leader took and that a quorum round will confirm. */
struct touch_round {
    uint64_t replica; /* 0: free; who sent it */
    uint64_t batch;
};
#define TOUCH_ROUNDS_MAX 256u

/* The digest of a tree after an entry; index 0: none. */
struct digest_note {
    uint64_t index;
    uint64_t digest;
};
#define DIGEST_EVERY 1024u /* entries */
#define DIGEST_NOTES 64u   /* that are remembered of each replica */

/* What the log has said of a peer's digests, from mild to grave: each is said once. */
enum peer_alarm {
    PEER_AGREES,   /* nothing */
    PEER_DIFFERS,  /* from ours, and nobody could say who is right */
    PEER_DIVERGED, /* from a majority's, and that is ours */
};

struct peer {
    uint64_t id;
    bool known;   /* its hello came */
    bool empty;   /* and said that its folder is empty */
    bool refused; /* it was refused; said once in the log */
    uint64_t incarnation;
    uint64_t form_again_ms; /* empty: send Form (again) then */
    uint64_t low_space_ms;  /* it said then that its disk is low; 0: it is not */
    uint32_t feature_level; /* the highest that it knows */
    enum peer_alarm alarm;
    struct digest_note digests[DIGEST_NOTES];
    bool refuses_growth; /* and that it leads and refuses writes that grow */
    uint64_t
        members_index; /* a guest: no member as far as we know, but it knows newer ones; else 0 */
    char address[ADDRESS_BYTES_MAX + 1]; /* of a guest */
};

/* A change of the members that a client of this replica asked the leader for. */
struct ask {
    uint64_t number;       /* 0: free */
    struct client *client; /* NULL: it has gone */
    uint64_t call;
    uint64_t until_ms;
};
#define ASKS_MAX 16u

struct replica {
    struct replica_env env;
    struct replica_identity identity;
    struct raft_members configured;
    struct raft_config raft_config;
    struct raft *raft; /* NULL until replica_start */
    struct tree *tree;
    struct sessions *sessions;
    struct watches *watches;
    struct proposals *proposals;
    struct history *history;
    struct feeds *feeds;
    struct client *clients;
    size_t client_count;
    bool crowded; /* too many proposals: clients were told to wait */
    struct wait *waits;
    struct wait **waits_end;
    uint64_t last_wait;
    uint64_t last_attachment;
    struct peer peer[MEMBERS_MAX];
    size_t peer_count;
    uint64_t now_ms;
    int64_t time_ns;
    uint64_t started_ms;
    uint64_t deadline_ms; /* that the last turn gave */
    uint64_t applied_index;
    uint64_t apply_index; /* apply up to here when the store has room */
    uint64_t log_bytes;   /* data of applied entries, running */
    bool serving;
    uint64_t serving_asked_ms; /* 0: not */
    uint64_t serving_index;    /* UINT64_MAX: not known yet */
    enum raft_role role;       /* as of the last turn */
    uint64_t term;
    uint64_t leader;
    bool leader_ready; /* this is the leader and has applied the no-op of its term */
    uint64_t touch_due_ms;
    uint64_t expire_due_ms;
    uint64_t members_index; /* of the members that peer[] was made for */
    bool removed;           /* from the ensemble, for good: it serves no more */
    bool members_stale;     /* peer[] has changed since: the rim is to be told */
    uint64_t look_due_ms;
    struct ask ask[ASKS_MAX];
    uint64_t last_ask;
    bool join;
    uint32_t feature_level; /* the highest that this replica knows */
    struct digest_note digests[DIGEST_NOTES];
    uint64_t digests_told; /* up to this index */
    uint64_t agreement_due_ms;
    uint64_t log_keep_bytes;
    uint64_t file_bytes_max; /* of the configuration; see request.c */
    uint64_t compact_due_ms;
    bool low_space; /* of the own disk */
    bool low_space_told;
    bool refuses_growth; /* low, leading, and nobody with space can lead */
    uint64_t space_due_ms;
    uint64_t leader_commit; /* when it was looked at last */
    uint64_t stuck_index;   /* applied since stuck_ms */
    uint64_t stuck_ms;
    uint64_t slow_ms; /* handed over for a slow disk; 0: never */
    uint64_t last_round;
    struct touch_round round[TOUCH_ROUNDS_MAX];
};

/* ---- replica.c ---- */

/* Hands one event to the core with the time of this turn; ERR_MEMORY ends the process. */
enum err replica_step(struct replica *replica, struct raft_event *event);
/* Notes a change of role, leader or term, and what it asks for. */
void replica_follow_role(struct replica *replica);

/* ---- replica_peer.c ---- */

/* The part of a turn that concerns forming, forwarding, touches and expiry. Returns its deadline. */
uint64_t peers_turn(struct replica *replica);
void peers_touch_confirmed(struct replica *replica, uint64_t number, enum err err);
struct peer *peers_find(struct replica *replica, uint64_t id);
/* Appends an operation of the ensemble itself, of no session, if this is the leader. */
enum err peers_propose_op(struct replica *replica, Wire__Op *op);

/* ---- members.c ---- */

/* The members that count for identity: the core's, or the founders before it runs. */
const struct raft_members *members_now(const struct replica *replica);
/* Whether this peer is the member of its id: what it answers counts. */
bool members_is_member(const struct replica *replica, const struct peer *peer);
/* Someone who is no member that we know of, but knows newer members than we do: that we can answer
 * it, it is dialed until we know them too. NULL: it is a stranger, or there is no room. */
struct peer *members_invite(struct replica *replica, const struct replica_hello *hello);
/* Fits peer[] to the members, and tells the rim whom to dial. */
void members_follow(struct replica *replica);
/* What another replica of the ensemble says of the members. */
void members_take_hello(struct replica *replica, const struct replica_hello *hello);
/* An entry with members was applied. */
void members_applied(struct replica *replica, const struct raft_entry *entry);
void members_turn(struct replica *replica);
void members_request(struct replica *replica, struct client *client, const Wire__Request *request);
enum err members_take_ask(struct replica *replica, uint64_t from, const Wire__MembersAsk *ask);
void members_take_told(struct replica *replica, const Wire__MembersTold *told);
void members_client_closed(struct replica *replica, const struct client *client);

/* ---- agreement.c ---- */

/* The hello of a peer, before its incarnation is taken over. */
void agreement_met(struct peer *peer, const struct replica_hello *hello);
/* After each applied entry. */
void agreement_applied(struct replica *replica);
enum err agreement_take_digests(struct replica *replica, struct peer *from,
                                const Wire__StateDigests *digests);
/* Whether this program knows the level of the tree; else it has said so. */
bool agreement_knows_level(const struct replica *replica);
/* The highest level that all members know; 0: not all have told. */
uint32_t agreement_common_level(struct replica *replica);
void agreement_turn(struct replica *replica);

/* ---- upkeep.c ---- */

void upkeep_log_saved(struct replica *replica, const struct log_saved *saved);
/* Peers that need a snapshot, among the effects of the core. */
void upkeep_snapshots(struct replica *replica, const struct raft_effects *effects);
void upkeep_take_space(struct replica *replica, struct peer *from, const Wire__Space *space);
/* Whether writes that make the tree grow are refused now: the leader's disk is low, and nobody with
 * space can lead. */
bool upkeep_refuses_growth(struct replica *replica);
void upkeep_turn(struct replica *replica);

/* ---- request.c ---- */

/* This replica serves from now on: welcomes those that waited for it. */
void requests_serving(struct replica *replica);
/* Runs all waits that the applied index allows. */
void requests_turn(struct replica *replica);
void requests_read_confirmed(struct replica *replica, uint64_t number, uint64_t index,
                             enum err err);
/* The outcome of a command of this replica's client. */
void requests_result(struct replica *replica, const struct tree_result *result);
void client_send(struct replica *replica, struct client *client, const Wire__ToClient *message);
void client_send_pong(struct replica *replica, struct client *client);
/* `client` (may be NULL) has one thing of so many bytes less that waits. */
void client_release(struct replica *replica, struct client *client, size_t bytes);

/* ---- event.c ---- */

/* Changes of an entry, to all that hold a promise; to their maker only if it said so. */
void requests_events(struct replica *replica, const struct tree_result *result);

/* ---- feed.c ---- */

/* The streams of changes that clients watch. NULL: no memory. */
struct feeds *feeds_new(void);
void feeds_free(struct feeds *feeds); /* NULL is fine; all clients have gone */
/* ERR_MALFORMED: the number is in use. What else is wrong is answered. */
enum err feeds_watch(struct replica *replica, struct client *client, const Wire__Watch *watch);
void feeds_more(struct replica *replica, const struct client *client, uint64_t watch);
void feeds_unwatch(struct replica *replica, struct client *client, uint64_t watch);
void feeds_client_closed(struct replica *replica, struct client *client);
/* Sends what there is to tell. True: it is not done, the next turn goes on with it. */
bool feeds_turn(struct replica *replica);

/* ---- answer.c ---- */

void attr_to_wire(const struct node_attr *attr, Wire__Attr *out);

/* Executes a read of the tree at its present state and sends the Answer, with promises. */
void answer_read(struct replica *replica, struct client *client, const Wire__Request *request);
/* Sends the Answer of a write; tell_me: without promises. */
void answer_write(struct replica *replica, struct client *client, uint64_t call,
                  const struct tree_result *result, bool tell_me);
void answer_error(struct replica *replica, struct client *client, uint64_t call, enum err err);
/* Grants a promise on `ino` under the number of the answer that is being made. */
void answer_grant(struct replica *replica, struct client *client, uint64_t ino);

/* ---- status.c ---- */

void status_answer(struct replica *replica, struct client *client, uint64_t call);
void status_members_answer(struct replica *replica, struct client *client, uint64_t call);

#endif
